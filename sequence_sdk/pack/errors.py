"""Why a folder cannot be packed.

PackError
├── FolderNotFound        there is no such folder
├── NotAFolder            the path is something else
├── ManifestNotFound      the folder has no package.json
├── BadManifest           its package.json, or what its pyproject.toml makes of it, cannot be used
├── BadProject            its pyproject.toml cannot be used
├── NotMarked             no file, or not the one that was named, has a Sequence
├── SeveralMarked         more than one file has, and nobody says which is to be started
├── SeveralEngines        its package.json names more than one engine
├── MainNotFound          the file that starts the Sequence is not there
├── MainLeftOut           it is there, but a rule keeps it out of the package
├── MainNotForNode        it is there, but is none that the Node runner starts
├── SourceErrors          Python files of the author do not compile
├── BadIgnoreRule         a line of .siignore or .gitignore is no pattern
├── BadEntry              something in the folder cannot go into a package
│   ├── LinkLeavesFolder  a link to a place outside
│   ├── DanglingLink      a link to nothing
│   ├── LinkLoop          a link that leads back to itself
│   ├── SpecialFile       a socket, a pipe, a device
│   ├── NameNotUtf8       a name that other machines cannot spell
│   ├── FileChanged       a file that was written to while it was read
│   └── FileUnreadable    a file or folder that cannot be read
├── UnknownTarget         nobody knows the Python or the platform that the package is to be for
├── TargetExcluded        the Sequence says that it is not for the Python that is asked for
├── BadDependencies       what says which dependencies there are cannot be used
├── NoInstaller           there is neither uv nor pip that could bring them
├── DependenciesNotFound  the installer does not bring them
├── Misfits               some are for another Python or another machine
├── OutputIsSource        the archive would replace what it is made of
└── OutputNotWritable     the archive cannot be written

Those that are about a path are a PathError too, and of these those that give a reason in words a FileUnusable.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sequence_sdk.manifest import ManifestError

_LEAVE_OUT: Final = "leave it out with a line in .siignore"
_OUTPUT_HINTS: Final = {
    errno.ENOSPC: "free some space or choose another place with -o",
    errno.EDQUOT: "free some space or choose another place with -o",
    errno.EACCES: "choose a place that you may write to with -o",
    errno.EPERM: "choose a place that you may write to with -o",
    errno.EROFS: "choose a place that you may write to with -o",
    errno.ENOENT: "make its folder first or choose another place with -o",
    errno.ENOTDIR: "choose another place with -o",
    errno.EISDIR: "name a file with -o",
}


def shown(path: str | Path) -> str:
    """Return a path as text that can be printed, whatever bytes its name has."""
    return os.fsencode(path).decode(errors="backslashreplace")


class PackError(Exception):
    """A folder that cannot be packed; ``str()`` of it says what, where and what to do."""


class PathError(PackError):
    """What is wrong is wrong at a path."""

    def __init__(self, path: Path, *facts: object) -> None:
        super().__init__(path, *facts)
        self.path = path


class FileUnusable(PathError):
    """What is in a file cannot be used, for a reason that its kind does not tell."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{shown(self.path)}: {self.reason}"


class FolderNotFound(PathError):
    """There is no such folder."""

    def __str__(self) -> str:
        return f"{shown(self.path)} not found; name the folder that holds the package.json"


class NotAFolder(PathError):
    """The path is something else than a folder."""

    def __str__(self) -> str:
        return f"{shown(self.path)} is not a folder; name the folder that holds the package.json"


class ManifestNotFound(PathError):
    """The folder has no ``package.json``, or one that is no file."""

    def __str__(self) -> str:
        least = '{"main": "main.py", "engines": {"python3": ">=3.11"}}'
        return f"{shown(self.path)} not found; name the folder of a Sequence, or write this file: {least}"


class BadManifest(PathError):
    """The ``package.json`` cannot be used."""

    def __init__(self, path: Path, cause: ManifestError) -> None:
        super().__init__(path, cause)
        self.cause = cause

    def __str__(self) -> str:
        return f"{shown(self.path)}: {self.cause.problem}"


class BadProject(FileUnusable):
    """The ``pyproject.toml`` cannot be used."""


class NotMarked(PathError):
    """There is no Sequence in the file that was named, or in any file of a folder that does not say which to start."""

    def __str__(self) -> str:
        if self.path.suffix == ".py":
            return f"{shown(self.path)} has no Sequence; mark a function with @sequence"
        return (
            f"{shown(self.path)} does not say what to start: there is no main.py, and no file with @sequence; "
            'mark a function, or write main = "FILE" under [tool.sequence]'
        )


class SeveralMarked(PathError):
    """Several files have a Sequence; ``names`` are their paths in the folder."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        super().__init__(path, names)
        self.names = names

    def __str__(self) -> str:
        files = ", ".join(self.names)
        return f'{shown(self.path)} does not say which of {files} to start; write main = "FILE" under [tool.sequence]'


class SeveralEngines(PathError):
    """The ``package.json`` names more than one engine, so no hub knows how to start the Sequence."""

    def __init__(self, path: Path, engines: tuple[str, ...]) -> None:
        super().__init__(path, engines)
        self.engines = engines

    def __str__(self) -> str:
        names = ", ".join(self.engines)
        return f'{shown(self.path)}: "engines" must have one key at most, but it has {names}; keep the one that runs it'


class MainNotFound(PathError):
    """The file that starts the Sequence is not in the folder; ``near`` are the names most like it."""

    def __init__(self, path: Path, main: str, near: tuple[str, ...]) -> None:
        super().__init__(path, main, near)
        self.main = main
        self.near = near

    def __str__(self) -> str:
        way_out = f"did you mean {' or '.join(self.near)}?" if self.near else "write it, or name another file"
        return f'{shown(self.path)}: "main" is {self.main}, but there is no such file; {way_out}'


class MainLeftOut(PathError):
    """The file that starts the Sequence is kept out of the package by ``rule``."""

    def __init__(self, path: Path, main: str, rule: str) -> None:
        super().__init__(path, main, rule)
        self.main = main
        self.rule = rule

    def __str__(self) -> str:
        return (
            f'{shown(self.path)}: "main" is {self.main}, but {self.rule} leaves it out; change one of the two'
        )


class MainNotForNode(PathError):
    """What is to start a Node Sequence is a folder, or a file that does not end with ``.js``."""

    def __init__(self, path: Path, main: str) -> None:
        super().__init__(path, main)
        self.main = main

    def __str__(self) -> str:
        return (
            f'{shown(self.path)}: "main" is {self.main}, but the runner for Node starts only a file that ends with .js; '
            "name such a file"
        )


@dataclass(frozen=True, slots=True)
class SourceFault:
    """The first thing in one file that is no Python; ``line`` and ``column`` count from 1."""

    path: Path
    line: int
    column: int
    message: str
    text: str

    def __str__(self) -> str:
        place = f"{shown(self.path)}:{self.line}:{self.column}: {self.message}"
        return f"{place}\n    {self.text}" if self.text else place


class SourceErrors(PackError):
    """Python files of the author do not compile; there is a fault for each of them."""

    def __init__(self, faults: tuple[SourceFault, ...]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


class BadIgnoreRule(PathError):
    """A line of ``.siignore`` or ``.gitignore`` is no pattern."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        super().__init__(path, line, reason)
        self.line = line
        self.reason = reason

    def __str__(self) -> str:
        return f"{shown(self.path)}:{self.line}: {self.reason}"


class BadEntry(PathError):
    """Something in the folder cannot go into a package."""


class LinkLeavesFolder(BadEntry):
    """A link to a place outside of the folder, which is not there on the machine of a hub."""

    def __init__(self, path: Path, target: str) -> None:
        super().__init__(path, target)
        self.target = target

    def __str__(self) -> str:
        where = shown(self.target)
        return (
            f"{shown(self.path)} is a link that leaves the folder (to {where}); copy it in, or {_LEAVE_OUT}"
        )


class DanglingLink(BadEntry):
    """A link to nothing."""

    def __init__(self, path: Path, target: str) -> None:
        super().__init__(path, target)
        self.target = target

    def __str__(self) -> str:
        where = shown(self.target)
        return f"{shown(self.path)} is a link to {where}, which is not there; remove it, or {_LEAVE_OUT}"


class LinkLoop(BadEntry):
    """A link that leads back to itself, or to a folder it lies in."""

    def __str__(self) -> str:
        return f"{shown(self.path)} is a link that leads back to itself; remove it, or {_LEAVE_OUT}"


class SpecialFile(BadEntry):
    """A socket, a pipe, a device: nothing that has content to pack."""

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__(path, kind)
        self.kind = kind

    def __str__(self) -> str:
        return f"{shown(self.path)} is a {self.kind} and cannot be packed; remove it, or {_LEAVE_OUT}"


class NameNotUtf8(BadEntry):
    """A name that is not UTF-8, and so another one, or none, on another machine."""

    def __str__(self) -> str:
        return f"{shown(self.path)} has a name that is not UTF-8; rename it, or {_LEAVE_OUT}"


class FileChanged(BadEntry):
    """A file that was written to while it was read."""

    def __str__(self) -> str:
        return f"{shown(self.path)} changed while it was read; stop what writes to it, or {_LEAVE_OUT}"


class FileUnreadable(BadEntry):
    """A file or folder that cannot be read."""

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(path, cause)
        self.cause = cause

    def __str__(self) -> str:
        return f"{shown(self.path)} cannot be read ({self.cause.strerror}); make it readable, or {_LEAVE_OUT}"


class UnknownTarget(PackError):
    """Nobody knows the Python or the platform that an option names; ``known`` is what may be said."""

    def __init__(self, option: str, value: str, known: tuple[str, ...]) -> None:
        super().__init__(option, value, known)
        self.option = option
        self.value = value
        self.known = known

    def __str__(self) -> str:
        return f"{self.option} {shown(self.value)} is not known; say {', '.join(self.known)}"


class TargetExcluded(PackError):
    """The Sequence says that it is not for the Python that the package would be for."""

    def __init__(self, told_by: str, wanted: str, python: str, *, is_named: bool) -> None:
        super().__init__(told_by, wanted, python, is_named)
        self.told_by = told_by
        self.wanted = wanted
        self.python = python
        self.is_named = is_named

    def __str__(self) -> str:
        if self.is_named:
            said = f"--python is {self.python}, but {self.told_by} says that it is for Python {self.wanted}"
            return f"{said}; change one of the two"
        return (
            f"{self.told_by} says that it is for Python {self.wanted}, but the dependencies would be for {self.python}, "
            "which packs; name the one they are for with --python"
        )


class BadDependencies(FileUnusable):
    """What says which dependencies there are cannot be used."""


class NoInstaller(PathError):
    """There are dependencies, and neither uv nor pip that could bring them."""

    def __str__(self) -> str:
        return f"{shown(self.path)}: there is neither uv nor pip to install what it names; install uv, or pack with --no-deps"


class DependenciesNotFound(PathError):
    """The installer does not bring the dependencies; ``lines`` are the last ones that it said."""

    def __init__(self, path: Path, tool: str, reason: str, lines: tuple[str, ...]) -> None:
        super().__init__(path, tool, reason, lines)
        self.tool = tool
        self.reason = reason
        self.lines = lines

    def __str__(self) -> str:
        said = "".join(f"\n    {line}" for line in self.lines)
        return f"{shown(self.path)}: {self.reason}" + (f"\n  {self.tool} said:{said}" if said else "")


class Misfits(PackError):
    """Some dependencies are for another Python or another machine; ``faults`` has a sentence for each."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join(self.faults)


class OutputIsSource(PathError):
    """The archive would replace the ``package.json`` or the main file of the Sequence."""

    def __str__(self) -> str:
        return f"{shown(self.path)} is part of the Sequence and would be lost; choose another place with -o"


class OutputNotWritable(PackError):
    """The archive cannot be written; ``path`` is None where it goes to a stream."""

    def __init__(self, path: Path | None, cause: OSError) -> None:
        super().__init__(path, cause)
        self.path = path
        self.cause = cause

    def __str__(self) -> str:
        where = "the stream" if self.path is None else shown(self.path)
        why = self.cause.strerror or str(self.cause)
        hint = _OUTPUT_HINTS.get(self.cause.errno or 0) if self.path is not None else None
        return f"the archive cannot be written to {where}: {why}" + (f"; {hint}" if hint else "")
