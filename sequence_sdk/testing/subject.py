"""What a test runs: a Sequence as it is at hand, or where its files are."""

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sequence_sdk.content import ContentType
from sequence_sdk.contract import contract_of
from sequence_sdk.errors import UnsupportedContentType
from sequence_sdk.find import Found, NoneFound, find_sequence
from sequence_sdk.manifest import ManifestError, parse_manifest
from sequence_sdk.spec import CLASSIC, SequenceSpec, spec_of

from .errors import SubjectNotFound

_MANIFEST = "package.json"
_ENGINES = {"python3": ">=3.11"}
_ENTRY = '''"""Runs a Sequence where its author keeps it."""

from sequence_sdk.testing import entry

run = entry.load({facts!r})
'''
_FILE_ENTRY = '''"""Runs a file where its author keeps it."""

import sys

sys.path.insert(0, {folder!r})
__file__ = {path!r}
with open(__file__, "rb") as source:
    exec(compile(source.read(), __file__, "exec"), globals())
'''


@dataclass(frozen=True, slots=True)
class Loaded:
    """A Sequence in this process, and the content types of its input (None: the sender's) and output."""

    thing: Any
    spec: SequenceSpec
    takes: str | None
    gives: str


class Subject:
    """What ``stage.run`` was given: something marked, or the path of a file or of a package's folder."""

    def __init__(self, what: Any, neighbours: tuple[ModuleType, ...] = ()) -> None:
        """Take it; ``neighbours`` are where its name may be, beside its own module."""
        self.what = what
        self._neighbours = neighbours
        self._loaded: Loaded | None = None

    @property
    def takes(self) -> str | None:
        """The content type of the input that it declares, or None."""
        declared = self._declared()
        return None if declared is None else declared.takes

    @property
    def gives(self) -> str:
        """The content type of its output; text where nothing can be found out."""
        declared = self._declared()
        return ContentType.TEXT if declared is None else declared.gives

    def _declared(self) -> Loaded | None:
        try:
            return self.load()
        except Exception:  # noqa: BLE001 - author's code; it fails again, and is told, where it runs
            return None

    @property
    def path(self) -> Path | None:
        """The path, where it is one."""
        return Path(self.what) if isinstance(self.what, str | Path) else None

    @property
    def is_package(self) -> bool:
        """Tell whether it is the folder of a package."""
        return self.path is not None and (self.path / _MANIFEST).is_file()

    def __str__(self) -> str:
        return str(self.what) if self.path is not None else _name_of(self.what)

    def load(self) -> Loaded:
        """Return the Sequence in this process; the module of a path is imported for it, once.

        Raises:
            SubjectNotFound: there is none.
            BaseException: whatever the author's module raises.
        """
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> Loaded:
        if self.path is None:
            spec = spec_of(self.what)
            if spec is None:
                raise SubjectNotFound(
                    f"{self} is not marked: write @sequence above it, or name its file if it is a classic run(context, input)"
                )
            return _loaded(self.what, spec, ContentType.TEXT)
        main = self._main(self.path)
        module = _import(main, self.path if self.is_package else main.parent)
        found = find_sequence(vars(module), module.__name__)
        if not isinstance(found, Found):
            seen = ", ".join(found.functions if isinstance(found, NoneFound) else found.names)
            raise SubjectNotFound(
                f"{main}: it must have one Sequence, marked @sequence (found: {seen or 'nothing'})"
            )
        return _loaded(found.thing, found.spec, _type_of_module(module))

    def _main(self, path: Path) -> Path:
        if not self.is_package:
            if not path.is_file():
                raise SubjectNotFound(
                    f"{path} is neither a file nor a folder with a {_MANIFEST}; name the one or the other"
                )
            return path
        try:
            main = path / parse_manifest((path / _MANIFEST).read_bytes()).main
        except ManifestError as error:
            raise SubjectNotFound(f"{path}: {error}") from error
        if main.suffix != ".py" or not main.is_file():
            raise SubjectNotFound(
                f"{main}: the main file of the package is no Python file that is there; "
                'only the stages "runner" and "hub" run other languages, and are told what they give by run(gives=…)'
            )
        return main

    def folder(self, scratch: Path) -> Path:
        """Return the folder of a package that runs it: its own, or one made in ``scratch`` that finds it where it is.

        Raises:
            SubjectNotFound: another process could not find it.
        """
        if self.path is not None and self.is_package:
            return self.path
        if self.path is not None:
            main = self._main(self.path).resolve()
            text = _FILE_ENTRY.format(folder=str(main.parent), path=str(main))
        else:
            module, name = self._home()
            file = getattr(module, "__file__", None)
            if file is None:
                raise SubjectNotFound(
                    f"{self}: its module {module.__name__} has no file that a process could load"
                )
            facts = {
                "module": module.__name__,
                "file": str(Path(file).resolve()),
                "name": name,
                "path": list(sys.path),
            }
            text = _ENTRY.format(facts=facts)
        (scratch / "main.py").write_text(text, "utf-8")
        (scratch / _MANIFEST).write_text(
            json.dumps({"name": "under-test", "main": "main.py", "engines": _ENGINES}), "utf-8"
        )
        return scratch

    def _home(self) -> tuple[ModuleType, str]:
        """Return a module that has it, and its name there."""
        own = sys.modules.get(getattr(self.what, "__module__", None) or "")
        for module in (*_present(own), *self._neighbours):
            for name, value in list(vars(module).items()):
                if value is self.what:
                    return module, name
        raise SubjectNotFound(
            f"{self} is no member of a module, so that another process cannot import it: "
            'move it to the level of its file, or say @pytest.mark.stages("direct")'
        )


def _loaded(thing: Any, spec: SequenceSpec, otherwise: str) -> Loaded:
    if spec is CLASSIC:
        return Loaded(thing, spec, None, otherwise)
    contract = contract_of(thing)
    return Loaded(thing, spec, contract.takes, contract.gives or otherwise)


def _present(module: ModuleType | None) -> Iterable[ModuleType]:
    return () if module is None else (module,)


def _name_of(thing: object) -> str:
    return str(getattr(thing, "__qualname__", None) or repr(thing))


def _type_of_module(module: ModuleType) -> str:
    """Return the content type that a classic module declares for its output; text if it declares none we read."""
    provides = getattr(module, "provides", None)
    declared = provides.get("contentType") if isinstance(provides, Mapping) else None
    declared = declared or getattr(module, "output_type", None)
    try:
        return ContentType.parse(str(declared))
    except UnsupportedContentType:
        return ContentType.TEXT


_MODULE = "sequence_under_test"


def _import(main: Path, root: Path) -> ModuleType:
    """Import a file as a runner does, from its folder and what its package has brought along."""
    with _importing_from((main.parent, main.parent / "__pypackages__", root, root / "__pypackages__")):
        return load_file(_MODULE, main)


@contextmanager
def _importing_from(folders: Iterable[Path]) -> Iterator[None]:
    before = list(sys.path)
    sys.path[:0] = [str(folder.resolve()) for folder in folders if folder.is_dir()]
    try:
        yield
    finally:
        sys.path[:] = before


def load_file(name: str, path: Path) -> ModuleType:
    """Import a file under a name, though another of that name may be there.

    Raises:
        SubjectNotFound: it is no Python file.
        BaseException: whatever the module raises.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SubjectNotFound(f"{path} cannot be imported: it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
