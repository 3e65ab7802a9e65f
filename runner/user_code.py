"""The author's code: load it as Python would, find its Sequence, and show its errors without ours around them."""

import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import sequence_sdk
from sequence_sdk.spec import CLASSIC, SequenceSpec, spec_of

from .errors import NoSequenceFound, SequenceLoadError, SeveralSequences

MODULE_NAME = "sequence"  # what the entry file is called in sys.modules; packages rely on it
_OURS = tuple(
    str(Path(module.__file__ or "").parent) + os.sep for module in (sequence_sdk, sys.modules["runner"])
)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that a module or a result names, with its content type; both may be empty."""

    name: str = ""
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class AuthorCode:
    """A loaded Sequence and what its module declares."""

    function: Callable[..., Any]
    spec: SequenceSpec
    requires: Topic
    provides: Topic


def package_root(entry: Path) -> Path:
    """Return the folder of the package: the nearest one above the entry file that has a package.json, or the file's own."""
    return next((folder for folder in entry.parents if (folder / "package.json").is_file()), entry.parent)


def prepare_path(entry: Path) -> None:
    """Put the author's folders first on ``sys.path``, and make room for modules of theirs that are named like ours."""
    root = package_root(entry)
    folders = [entry.parent, entry.parent / "__pypackages__", root, root / "__pypackages__"]
    wanted = list(dict.fromkeys(str(folder) for folder in folders if folder.is_dir()))
    sys.path[:] = wanted + [folder for folder in sys.path if folder not in wanted]
    if any((Path(folder, "runner.py")).is_file() or Path(folder, "runner").is_dir() for folder in wanted):
        for name in [name for name in sys.modules if name == "runner" or name.startswith("runner.")]:
            del sys.modules[name]
    sys.argv = [str(entry)]


def load(entry: Path) -> AuthorCode:
    """Import the entry file and return its Sequence.

    Raises:
        SequenceLoadError: the file has no Sequence, or several; or ``provides`` and ``requires`` are not what they should be.
        BaseException: whatever the author's module raises.
    """
    spec = importlib.util.spec_from_file_location(
        MODULE_NAME, entry, loader=importlib.machinery.SourceFileLoader(MODULE_NAME, str(entry))
    )
    if spec is None or spec.loader is None:
        raise SequenceLoadError(f"{entry.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    spec.loader.exec_module(module)
    function, found = _find(module, entry)
    return AuthorCode(
        function,
        found,
        declared_topic(module, "requires", "requires"),
        declared_topic(module, "provides", "provides"),
    )


def _find(module: ModuleType, entry: Path) -> tuple[Callable[..., Any], SequenceSpec]:
    """Return the function marked ``@sequence``, or the classic ``run``.

    ``run`` wins among several marked ones, and those of the file itself win over imported ones.
    """
    members = {name: value for name, value in vars(module).items() if callable(value)}
    marked = {name: (value, spec) for name, value in members.items() if (spec := spec_of(value)) is not None}
    own = {name: found for name, found in marked.items() if _is_own(found[0])}
    marked = own or marked
    if "run" in marked:
        return marked["run"]
    unique = {id(value): (value, spec) for value, spec in marked.values()}
    if len(unique) == 1:
        return next(iter(unique.values()))
    if unique:
        raise SeveralSequences(entry, sorted(marked))
    if "run" in members:
        return members["run"], spec_of(members["run"]) or CLASSIC
    raise NoSequenceFound(entry, [name for name, value in members.items() if _is_own(value)])


def _is_own(value: object) -> bool:
    return getattr(value, "__module__", None) == MODULE_NAME


def declared_topic(holder: object, attribute: str, key: str) -> Topic:
    """Return the topic that a module or a result declares in an attribute.

    A module has a dict ``{"provides": topic, "contentType": type}``; a result has the name as a string and the
    type in ``content_type``. A module's ``output_type`` is the content type of an output without topic.

    Raises:
        SequenceLoadError: it is neither.
    """
    value = getattr(holder, attribute, None)
    fallback = getattr(holder, "output_type", "") if attribute == "provides" else ""
    match value:
        case None:
            return Topic("", fallback if isinstance(fallback, str) else "")
        case str():
            content_type = getattr(holder, "content_type", "")
            return Topic(value, content_type if isinstance(content_type, str) else "")
        case {**members} if all(isinstance(members.get(name, ""), str) for name in (key, "contentType")):
            return Topic(str(members.get(key, "")), str(members.get("contentType", "")))
        case _:
            raise SequenceLoadError(
                f'{attribute} must be a dict such as {{"{key}": "topic", "contentType": "text/plain"}}, not {value!r}'
            )


def format_error(error: BaseException) -> str:
    """Return the traceback of an error as Python prints it, without a frame of ours: it starts at the author's."""
    shown = traceback.TracebackException.from_exception(error)
    _strip(shown, set())
    return "".join(shown.format())


def _strip(shown: traceback.TracebackException, seen: set[int]) -> None:
    if id(shown) in seen:
        return
    seen.add(id(shown))
    if shown.stack is not None:
        frames = [
            frame for frame in shown.stack if not frame.filename.startswith((*_OURS, "<frozen importlib"))
        ]
        # None: a heading without a line below it tells nothing
        shown.stack = traceback.StackSummary.from_list(frames) if frames else None  # type: ignore[assignment]
    for other in (shown.__cause__, shown.__context__, *(getattr(shown, "exceptions", None) or ())):
        if other is not None:
            _strip(other, seen)
