"""Rules that keep files out of a package: the default ones, and those of a ``.siignore``."""

import os
import re
import stat
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from .errors import BadIgnoreRule, FileUnreadable

OWN_FOLDER: Final = (
    ".sequence"  # at the root of a package: the hashes of its files, its bill of materials, its signature
)
IGNORE_FILE: Final = ".siignore"
DEPENDENCY_FOLDERS: Final = frozenset({"__pypackages__", "node_modules"})

_CLUTTER: Final = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".venv",
        "__pycache__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".DS_Store",
    }
)
_COMMENT: Final = re.compile(r"(?:^|\s+)#.*$")
_EXTENDED: Final = re.compile(r"(?<!\\)[+@?*!]\(")
_MAX_ALTERNATIVES: Final = 1000  # {a,b}{a,b}… doubles with each pair; the folder is not worth the memory


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """One line of a ``.siignore``; ``regex`` is to match a whole path relative to the folder that is packed."""

    line: int
    pattern: str
    regex: re.Pattern[str]
    folders_only: bool

    def __str__(self) -> str:
        return f"{IGNORE_FILE} line {self.line} ({self.pattern})"


def is_dependency(name: str) -> bool:
    """Tell whether a path of a package is in a folder of dependencies, or is one."""
    return not DEPENDENCY_FOLDERS.isdisjoint(name.split("/"))


def default_rule(name: str) -> str | None:
    """Return the default rule that keeps this path out of every package, or None.

    Dependencies may hold a module called ``venv``, or modules of which only the ``.pyc`` is sold; both stay in.
    """
    *folders, last = name.split("/")
    if name == OWN_FOLDER:
        return f"the default rule {OWN_FOLDER} (what scramjet-pack adds itself)"
    if last in _CLUTTER:
        return f"the default rule {last}"
    if not DEPENDENCY_FOLDERS.isdisjoint(folders):
        return None
    if last == "venv":
        return "the default rule venv"
    return "the default rule *.pyc" if last.endswith(".pyc") else None


def read_ignore_rules(directory: Path) -> tuple[IgnoreRule, ...]:
    """Return the rules of the folder's ``.siignore``, none if it has no such file.

    Raises:
        BadIgnoreRule: a line is no pattern.
        FileUnreadable: the file cannot be read.
    """
    path = directory / IGNORE_FILE
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - one call, and its errors
            return ()
        raw = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise FileUnreadable(path, error) from error
    return parse_ignore_rules(raw, path)


def parse_ignore_rules(raw: bytes, path: Path) -> tuple[IgnoreRule, ...]:
    r"""Return the rules that the bytes of a ``.siignore`` hold.

    Shape: one pattern a line, matched against the whole path relative to the folder, so that a pattern without ``/``
    is about the top level only. ``*`` and ``?`` stay within a name and match no leading dot, ``**`` as a whole name is
    any number of folders, ``[a-z]``, ``[!a-z]``, ``{a,b}`` and ``\`` as escape are known. A pattern that ends in
    ``/`` is about folders only. Blank lines and comments, also at the end of a line, say nothing.

    Raises:
        BadIgnoreRule: a line is no pattern, ``path`` is the file it names.
    """
    rules = []
    for number, encoded in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            pattern = _COMMENT.sub("", encoded.decode().strip())
        except UnicodeDecodeError as error:
            raise BadIgnoreRule(path, number, "this line is not UTF-8; save the file as UTF-8") from error
        if not pattern:
            continue
        if pattern.startswith("!"):
            raise BadIgnoreRule(
                path, number, f"{pattern} would take a file in again; name only what stays out"
            )
        if _EXTENDED.search(pattern):
            raise BadIgnoreRule(path, number, f"{pattern} has a group in (); write {{a,b}} or several lines")
        try:
            regex = re.compile("|".join(_regex(single) for single in _expand_braces(pattern)))
        except (re.error, _TooManyAlternativesError) as error:
            raise BadIgnoreRule(path, number, f"{pattern} is no pattern: {error}") from error
        rules.append(IgnoreRule(number, pattern, regex, folders_only=pattern.endswith("/")))
    return tuple(rules)


class _TooManyAlternativesError(Exception):
    def __str__(self) -> str:
        return f"its braces make more than {_MAX_ALTERNATIVES} names"


def _expand_braces(pattern: str) -> list[str]:
    """Return the patterns without ``{a,b}`` that a pattern with it stands for."""
    done: list[str] = []
    todo = [pattern]
    while todo:
        current = todo.pop()
        group = _first_group(current)
        if group is None:
            done.append(current)
        else:
            start, end, alternatives = group
            todo += [current[:start] + alternative + current[end:] for alternative in alternatives]
        if len(done) + len(todo) > _MAX_ALTERNATIVES:
            raise _TooManyAlternativesError
    return done


def _first_group(pattern: str) -> tuple[int, int, list[str]] | None:
    """Return where the first ``{a,b}`` starts and ends, and its alternatives; ``{a}`` is only a name."""
    open_groups: list[tuple[int, list[int]]] = []  # where each starts, and where its commas are
    closed: list[tuple[int, int, list[str]]] = []
    at = 0
    while at < len(pattern):
        match pattern[at]:
            case "\\":
                at += 1
            case "{":
                open_groups.append((at, []))
            case "," if open_groups:
                open_groups[-1][1].append(at)
            case "}" if open_groups:
                start, commas = open_groups.pop()
                if commas:
                    borders = [start, *commas, at]
                    parts = [pattern[left + 1 : right] for left, right in pairwise(borders)]
                    closed.append((start, at + 1, parts))
            case _:
                pass
        at += 1
    return min(closed, default=None)


def _regex(pattern: str) -> str:
    """Return the regular expression of a pattern without braces."""
    names = [name for name in pattern.split("/") if name not in {"", "."}]
    parts = []
    for at, name in enumerate(names):
        last = at == len(names) - 1
        if name != "**":
            parts.append(_name_regex(name) + ("" if last else "/"))
        elif last:
            parts.append(r"(?!\.)[^/]+(?:/(?!\.)[^/]+)*")
        else:
            parts.append(r"(?:(?!\.)[^/]+/)*")
    return "".join(parts)


def _name_regex(name: str) -> str:
    """Return the regular expression of a pattern for one name: a file's or a folder's."""
    parts = [r"(?!\.)"] if name[0] in "*?[" else []
    at = 0
    while at < len(name):
        char = name[at]
        at += 1
        if char == "*":
            if parts[-1:] != ["[^/]*"]:
                parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "[" and (end := _class_end(name, at)):
            parts.append(_class_regex(name[at:end]))
            at = end + 1
        elif char == "\\" and at < len(name):
            parts.append(re.escape(name[at]))
            at += 1
        else:
            parts.append(re.escape(char))
    return "".join(parts)


def _class_end(name: str, start: int) -> int | None:
    """Return where the ``]`` of a character class is; one that comes first is a member of it."""
    at = start + 1 if name[start : start + 1] in {"!", "^"} else start
    at += 2 if name[at : at + 1] == "\\" else 1  # a class has one member at least
    while at < len(name):
        if name[at] == "]":
            return at
        at += 2 if name[at] == "\\" else 1
    return None


def _class_regex(members: str) -> str:
    """Return the regular expression of what stands between ``[`` and ``]``."""
    negated = members[0] in "!^"
    body = re.sub(r"\\(.)|([\[\]^&~|])", lambda found: re.escape(found[1] or found[2]), members[negated:])
    body = body.replace("--", r"-\-")  # two of them will mean something else to a later re
    return f"(?!/)[{'^' if negated else ''}{body}]"
