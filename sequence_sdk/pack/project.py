"""Where a package comes from that has no ``package.json``: a ``pyproject.toml``, or a single file."""

import ast
import json
import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sequence_sdk.manifest import MAX_MANIFEST_BYTES, Manifest, ManifestError, parse_manifest

from .errors import BadManifest, BadProject, FileUnreadable, NotMarked, SeveralMarked
from .files import Selection, Wanted
from .ignore import is_dependency
from .patterns import BadPatternError, GitPatterns

PROJECT_NAME: Final = "pyproject.toml"
ANY_PYTHON: Final = ">=3.11"  # what a hub's runner needs

_TABLE: Final = "tool.sequence"
_KEYS: Final = ("main", "include", "exclude")
_SDK: Final = b"sequence_sdk"
_SCRIPT_START: Final = "# /// script"
_SCRIPT_END: Final = "# ///"


@dataclass(frozen=True, slots=True)
class Project:
    """What a ``pyproject.toml`` says of a Sequence; ``fields`` are the keys of the ``package.json`` that it makes."""

    path: Path
    main: str | None
    wanted: Wanted
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Script:
    """What a single file says of itself; ``requirements`` are what it needs."""

    fields: Mapping[str, Any]
    requirements: tuple[str, ...]


def read_project(path: Path) -> Project:
    """Return what a ``pyproject.toml`` says of the Sequence beside it.

    Raises:
        BadProject: it is no TOML, or a value in it is not what it must be.
        FileUnreadable: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise FileUnreadable(path, error) from error
    if len(raw) > MAX_MANIFEST_BYTES:
        raise BadProject(path, f"it may have {MAX_MANIFEST_BYTES} bytes at most, but it has more")
    tables = _toml(path, raw)
    table = _table(path, _table(path, tables, "tool"), "sequence", _TABLE)
    for key in table:
        if key not in _KEYS:
            raise BadProject(path, f"{_TABLE} has no key {key}; it knows {', '.join(_KEYS)}")
    main = table.get("main")
    if main is not None and not isinstance(main, str):
        raise BadProject(path, f"{_TABLE}.main must be the path of a file")
    wanted = Wanted(_patterns(path, table, "include"), _patterns(path, table, "exclude"))
    project = _table(path, tables, "project")
    fields = {key: project[key] for key in ("name", "version", "description", "keywords") if key in project}
    if authors := _authors(path, project):
        fields["author"] = authors
    fields["engines"] = {"python3": project.get("requires-python", ANY_PYTHON)}
    return Project(path, main, wanted, fields)


def main_of(project: Project, selection: Selection) -> str:
    """Return the file that starts the Sequence: the one that is named, else ``main.py``, else the only one with ``@sequence``.

    Of several the ones in the fewest folders count, so that tests below may have Sequences of their own.

    Raises:
        NotMarked: there is none.
        SeveralMarked: there is more than one.
        FileUnreadable: a file cannot be read.
    """
    if project.main is not None:
        return project.main
    names = [entry.name for entry in selection.entries if entry.name.endswith(".py") and not entry.is_folder]
    if "main.py" in names:
        return "main.py"
    marked = [
        entry.name
        for entry in selection.entries
        if entry.name in names and not is_dependency(entry.name) and is_marked(read(entry.path))
    ]
    if not marked:
        raise NotMarked(project.path)
    least = min(name.count("/") for name in marked)
    marked = [name for name in marked if name.count("/") == least]
    if len(marked) > 1:
        raise SeveralMarked(project.path, tuple(marked))
    return marked[0]


def read_script(path: Path, source: bytes) -> Script:
    """Return what a single file says of itself, in its docstring and its block of script metadata.

    Raises:
        NotMarked: it has no Sequence.
        BadProject: its block of script metadata is no TOML, or a value in it is not what it must be.
    """
    fields: dict[str, Any] = {"name": path.stem}
    tree = _parsed(source)
    if tree is not None:  # what does not compile is told by the check of all sources
        if not (is_marked(source) or _defines_run(tree)):
            raise NotMarked(path)
        if documented := ast.get_docstring(tree):
            fields["description"] = documented.partition("\n")[0].encode(errors="replace").decode()
    table = _toml(path, _script_block(source.decode(errors="replace")).encode())
    needed = table.get("dependencies", [])
    if not isinstance(needed, list) or not all(isinstance(one, str) for one in needed):
        raise BadProject(path, "dependencies of the script must be a list of texts")
    fields["engines"] = {"python3": table.get("requires-python", ANY_PYTHON)}
    return Script(fields, tuple(needed))


def made_manifest(path: Path, fields: Mapping[str, Any], main: str) -> tuple[Manifest, bytes]:
    """Return the manifest that fields make, and its bytes as ``package.json``; ``path`` is where they come from.

    Raises:
        BadManifest: a field is not what it must be.
    """
    obj = {**fields, "main": main}
    content = (json.dumps(obj, indent=2, ensure_ascii=False, default=str) + "\n").encode()  # TOML has dates
    try:
        return parse_manifest(content), content
    except ManifestError as error:
        raise BadManifest(path, error) from error


def is_marked(source: bytes) -> bool:
    """Tell whether a Python source decorates anything at its top with ``@sequence``; what does not compile has nothing."""
    if _SDK not in source:
        return False
    tree = _parsed(source)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    body = tree.body if tree is not None else []
    return any(
        _is_mark(decorator) for node in body if isinstance(node, kinds) for decorator in node.decorator_list
    )


def read(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        FileUnreadable: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileUnreadable(path, error) from error


def _parsed(source: bytes) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_mark(decorator: ast.expr) -> bool:
    """Tell whether a decorator is ``sequence``, ``sequence(…)`` or the same of a module."""
    if isinstance(decorator, ast.Call):
        decorator = decorator.func
    name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")
    return name == "sequence"


def _defines_run(tree: ast.Module) -> bool:
    for node in tree.body:
        match node:
            case ast.FunctionDef(name="run") | ast.AsyncFunctionDef(name="run") | ast.ClassDef(name="run"):
                return True
            case ast.Assign(targets=targets):
                if any(isinstance(target, ast.Name) and target.id == "run" for target in targets):
                    return True
            case _:
                pass
    return False


def _script_block(source: str) -> str:
    """Return the TOML in the comments of a script, empty if it has none, or none that ends.

    Source: https://peps.python.org/pep-0723/
    """
    lines = source.splitlines()
    if _SCRIPT_START not in lines:
        return ""
    block: list[str] = []
    for line in lines[lines.index(_SCRIPT_START) + 1 :]:
        if line == _SCRIPT_END:
            return "\n".join(block)
        if not line.startswith("#"):
            break
        block.append(line.removeprefix("#").removeprefix(" "))
    return ""


def _toml(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise BadProject(path, f"it must be TOML, but it is not: {error}") from error


def _table(path: Path, tables: Mapping[str, Any], key: str, name: str = "") -> Mapping[str, Any]:
    table = tables.get(key, {})
    if not isinstance(table, Mapping):
        raise BadProject(path, f"{name or key} must be a table")
    return table


def _patterns(path: Path, table: Mapping[str, Any], key: str) -> GitPatterns | None:
    patterns = table.get(key)
    if patterns is None:
        return None
    if not isinstance(patterns, list) or not all(isinstance(one, str) for one in patterns):
        raise BadProject(path, f"{_TABLE}.{key} must be a list of patterns")
    try:
        return GitPatterns([(f"{_TABLE}.{key}", pattern) for pattern in patterns])
    except BadPatternError as error:
        raise BadProject(path, f"{_TABLE}.{key}: {error}") from error


def _authors(path: Path, project: Mapping[str, Any]) -> str:
    authors = project.get("authors", [])
    if not isinstance(authors, list) or not all(map(_is_author, authors)):
        raise BadProject(path, "project.authors must be a list of tables with name and email")
    pairs = [(author.get("name", ""), author.get("email", "")) for author in authors]
    return ", ".join(f"{name} <{email}>" if name and email else name or email for name, email in pairs)


def _is_author(author: object) -> bool:
    return (
        isinstance(author, Mapping)
        and not author.keys().isdisjoint({"name", "email"})
        and isinstance(author.get("name", ""), str)
        and isinstance(author.get("email", ""), str)
    )
