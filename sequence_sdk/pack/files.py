"""Which files of a folder go into its package, and which rule keeps the others out."""

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sequence_sdk.manifest import MANIFEST_NAME

from .errors import DanglingLink, FileUnreadable, LinkLeavesFolder, LinkLoop, NameNotUtf8, SpecialFile
from .ignore import IgnoreRule, default_rule, read_ignore_rules

OUTPUT_RULE: Final = "being the archive itself"
FileId = tuple[int, int]  # device and inode: two names of one file have the same
Content = bytes

_KINDS: Final = {
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "named pipe",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file, or an empty folder, that goes into the package; ``name`` is its path in there, with ``/``.

    ``content`` is what goes in instead of what the file holds.
    """

    name: str
    path: Path
    bytes: int = 0
    is_folder: bool = False
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or folder that stays out of the package, and why."""

    name: str
    rule: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What goes into a package and what does not, each sorted by name."""

    entries: tuple[PackedFile, ...]
    left_out: tuple[LeftOut, ...]


def select_files(directory: Path, *, output: FileId | None = None) -> Selection:
    """Return the files of a folder that go into its package, as its ``.siignore`` and the default rules say.

    Links are followed as long as they stay in the folder, so a package has none. A folder is only listed if it is
    empty. ``package.json`` cannot be ignored, and the file that is ``output`` is never part of the package.

    Raises:
        BadEntry: something in the folder cannot be packed.
        BadIgnoreRule: a line of its ``.siignore`` is no pattern.
    """
    return _Walk(Path(os.path.realpath(directory)), output, read_ignore_rules(directory)).select(directory)


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder on the walk; ``inside`` are the folders it lies in and itself, so that loops are seen."""

    path: Path
    prefix: str
    inside: frozenset[FileId]


@dataclass(slots=True)
class _Walk:
    root: Path
    output: FileId | None
    rules: tuple[IgnoreRule, ...]
    entries: list[PackedFile] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    todo: list[_Folder] = field(default_factory=list)  # no recursion: folders may be nested deeper than calls

    def select(self, directory: Path) -> Selection:
        status = _status(directory)
        self.todo.append(_Folder(directory, "", frozenset({_id(status)})))
        while self.todo:
            self._visit(self.todo.pop())
        by_name = sorted(self.entries, key=lambda entry: entry.name)
        return Selection(tuple(by_name), tuple(sorted(self.left_out, key=lambda out: out.name)))

    def _visit(self, folder: _Folder) -> None:
        is_empty = True
        for path in _children(folder.path):
            name = folder.prefix + path.name
            rule = self._rule(name, path)
            if rule is None:
                is_empty = not self._take(folder, name, path) and is_empty
                continue
            self.left_out.append(LeftOut(name, rule))
            # A folder that holds nothing but caches is itself left over from some earlier state of the sources.
            if default_rule(name):
                is_empty = False
        if is_empty and folder.prefix:
            self.entries.append(PackedFile(folder.prefix.removesuffix("/"), folder.path, is_folder=True))

    def _rule(self, name: str, path: Path) -> str | None:
        if name == MANIFEST_NAME:
            return None
        if rule := default_rule(name):
            return rule
        for ignore_rule in self.rules:
            # os.path.isdir and not the method: it answers for a loop of links and for what may not be seen too
            if ignore_rule.regex.fullmatch(name) and (not ignore_rule.folders_only or os.path.isdir(path)):  # noqa: PTH112
                return str(ignore_rule)
        return None

    def _take(self, folder: _Folder, name: str, path: Path) -> bool:
        """Add what stands at ``path`` to the walk; return False if it is the archive itself."""
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise NameNotUtf8(path) from error
        if path.is_symlink():
            self._check_link(path)
        status = _status(path)
        if _id(status) == self.output:
            self.left_out.append(LeftOut(name, OUTPUT_RULE))
            return False
        if stat.S_ISREG(status.st_mode):
            self.entries.append(PackedFile(name, path, status.st_size))
        elif stat.S_ISDIR(status.st_mode):
            if _id(status) in folder.inside:
                raise LinkLoop(path)
            self.todo.append(_Folder(path, f"{name}/", folder.inside | {_id(status)}))
        else:
            raise SpecialFile(path, _KINDS.get(stat.S_IFMT(status.st_mode), "special file"))
        return True

    def _check_link(self, path: Path) -> None:
        target = os.readlink(path)  # noqa: PTH115 - the text of the link, as it is written
        try:
            real = Path(os.path.realpath(path, strict=True))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DanglingLink(path, target) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise LinkLoop(path) from error
            raise FileUnreadable(path, error) from error
        if not real.is_relative_to(self.root):
            raise LinkLeavesFolder(path, target)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise FileUnreadable(folder, error) from error


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise FileUnreadable(path, error) from error


def _id(status: os.stat_result) -> FileId:
    return status.st_dev, status.st_ino
