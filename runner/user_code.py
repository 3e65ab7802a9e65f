"""The author's code: load it as Python would, find its Sequence, and make room for a newer version of it."""

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sequence_sdk.find import Found, NoneFound, SeveralFound, find_sequence
from sequence_sdk.spec import SequenceSpec

from .errors import NoSequenceFound, SequenceLoadError, SeveralSequences
from .report import OURS

DEPENDENCIES = "__pypackages__"  # the folder of what a package has brought along
MODULE_NAME = "sequence"  # what the entry file is called in sys.modules; packages rely on it


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
    wanted = _folders(entry)
    sys.path[:] = wanted + [folder for folder in sys.path if folder not in wanted]
    _make_room(wanted)
    sys.argv = [str(entry)]


def swap_path(old_entry: Path, new_entry: Path) -> None:
    """Put a new version of the package in the place of the old one, which may be gone from the disk afterwards.

    ``forget`` the old one's modules first. Its folders on ``sys.path`` become the new one's, also what the author has added from
    below it; and dependencies that are loaded find their files in the new one. The other way round puts all of it back.
    """
    old, new = str(package_root(old_entry)), str(package_root(new_entry))
    wanted, former = _folders(new_entry), set(_folders(old_entry))
    first = next((at for at, folder in enumerate(sys.path) if folder in former), 0)
    ahead = [_moved(folder, old, new) for folder in sys.path[:first]]
    behind = [_moved(folder, old, new) for folder in sys.path[first:] if folder not in former]
    sys.path[:] = dict.fromkeys([*ahead, *wanted, *behind])
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType):
            _move(module, old, new)
    importlib.invalidate_caches()
    _make_room(wanted)
    sys.argv = [str(new_entry)]


def _moved(place: str, old: str, new: str) -> str:
    return new + place[len(old) :] if place == old or place.startswith(old + os.sep) else place


def _move(module: ModuleType, old: str, new: str) -> None:
    """Let a module, and what is still to be imported of it, look for files where they are now."""
    names = vars(module)  # and no attributes: those of a lazy module do things
    place = names.get("__file__")
    if isinstance(place, str):
        names["__file__"] = _moved(place, old, new)
    path, spec = names.get("__path__"), names.get("__spec__")
    if isinstance(path, list):
        path[:] = [_moved(str(folder), old, new) for folder in path]
    if isinstance(spec, importlib.machinery.ModuleSpec):
        if isinstance(spec.origin, str):
            spec.origin = _moved(spec.origin, old, new)
        loader = spec.loader
        if isinstance(loader, importlib.machinery.SourceFileLoader | importlib.machinery.ExtensionFileLoader):
            loader.path = _moved(loader.path, old, new)  # where importlib.resources looks


def forget(root: Path) -> dict[str, ModuleType]:
    """Take the author's modules below ``root`` out of ``sys.modules`` and return them, by their names.

    Dependencies in a ``__pypackages__`` stay: they have not changed, and many of them cannot be imported twice.
    ``sys.modules.update`` of what is returned puts them back.
    """
    gone = {name: module for name, module in list(sys.modules.items()) if _is_below(module, str(root))}
    for name in gone:
        del sys.modules[name]
    return gone


def _is_below(module: ModuleType | None, root: str) -> bool:
    places = [getattr(module, "__file__", None), *_search_path(module)]
    place = next((place for place in places if isinstance(place, str)), "")
    if not place.startswith(os.path.join(root, "")):  # noqa: PTH118 - names of modules' files are strings
        return False
    return DEPENDENCIES not in Path(place[len(root) :]).parts and not place.startswith(OURS)


def _search_path(module: ModuleType | None) -> list[Any]:
    """Return where the modules of a package are looked for; a package without an ``__init__.py`` has nothing else."""
    try:
        return list(getattr(module, "__path__", None) or ())
    except Exception:  # noqa: BLE001 - a lazy module of somebody's may raise anything
        return []


def _folders(entry: Path) -> list[str]:
    """Return the author's folders that modules come from, the first to be looked into first."""
    root = package_root(entry)
    folders = [entry.parent, entry.parent / DEPENDENCIES, root, root / DEPENDENCIES]
    return list(dict.fromkeys(str(folder) for folder in folders if folder.is_dir()))


def _make_room(folders: list[str]) -> None:
    """Forget our own modules where the author has some of that name; they live on where they are used."""
    if any((Path(folder, "runner.py")).is_file() or Path(folder, "runner").is_dir() for folder in folders):
        for name in [name for name in sys.modules if name == "runner" or name.startswith("runner.")]:
            del sys.modules[name]


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
    match find_sequence(vars(module), MODULE_NAME):
        case Found(thing=thing, spec=spec):
            return thing, spec
        case SeveralFound(names=names):
            raise SeveralSequences(entry, list(names))
        case NoneFound(functions=functions):
            raise NoSequenceFound(entry, list(functions))


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
