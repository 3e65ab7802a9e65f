"""Which files of a folder go into its package, and which rule keeps the others out."""

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sequence_sdk.manifest import MANIFEST_NAME

from .errors import DanglingLink, FileUnreadable, LinkLeavesFolder, LinkLoop, NameNotUtf8, SpecialFile
from .ignore import IGNORE_FILE, IgnoreRule, default_rule, is_dependency, read_ignore_rules
from .patterns import GIT_IGNORE_FILE, GitPatterns, read_git_patterns

OUTPUT_RULE: Final = "being the archive itself"
IN_FOLDER: Final = "being in the folder"
MANIFEST_RULE: Final = "being the manifest"
DEPENDENCY_RULE: Final = "being a dependency"
NOT_INCLUDED: Final = "not being named by tool.sequence.include"
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

    ``content`` is what goes in instead of what the file holds, ``rule`` why it goes in.
    """

    name: str
    path: Path
    bytes: int = 0
    is_folder: bool = False
    content: Content | None = None
    rule: str = field(default=IN_FOLDER, compare=False)


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


def with_entries(selection: Selection, added: Iterable[PackedFile]) -> Selection:
    """Return a selection with more in it, sorted by name."""
    entries = sorted((*selection.entries, *added), key=lambda entry: entry.name)
    return replace(selection, entries=tuple(entries))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files an author wants, by ``include`` and ``exclude``; without ``include`` that is the whole folder."""

    include: GitPatterns | None = None
    exclude: GitPatterns | None = None


def select_files(directory: Path, *, output: FileId | None = None, wanted: Wanted = Wanted()) -> Selection:
    """Return the files of a folder that go into its package, and why; and those that do not.

    Asked in this order, the first answer counts: the default rules, ``exclude``, the ``.siignore``; then ``include``, and
    without it the ``.gitignore`` of each folder, the deepest first. A ``.siignore`` says all there is to say: with one, no
    ``.gitignore`` is read. Dependencies are wanted whatever ``include`` and ``.gitignore`` say.

    Links are followed as long as they stay in the folder, so a package has none. A folder is only listed if it is
    empty. ``package.json`` cannot be ignored, and the file that is ``output`` is never part of the package.

    Raises:
        BadEntry: something in the folder cannot be packed.
        BadIgnoreRule: a line of its ``.siignore`` or of a ``.gitignore`` is no pattern.
    """
    rules = read_ignore_rules(directory)
    asks_git = wanted.include is None and not os.path.isfile(directory / IGNORE_FILE)  # noqa: PTH113 - never raises
    return _Walk(Path(os.path.realpath(directory)), output, rules, wanted, asks_git=asks_git).select(
        directory
    )


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder on the walk; ``inside`` are the folders it lies in and itself, so that loops are seen.

    ``git`` are the patterns that are about what is in it, the deepest first, each with the prefix of its own folder.
    """

    path: Path
    prefix: str
    inside: frozenset[FileId]
    git: tuple[tuple[str, GitPatterns], ...] = ()


@dataclass(slots=True)
class _Walk:
    root: Path
    output: FileId | None
    rules: tuple[IgnoreRule, ...]
    wanted: Wanted
    asks_git: bool
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
        children = _children(folder.path)
        git_file = folder.path / GIT_IGNORE_FILE
        if self.asks_git and git_file in children and not is_dependency(folder.prefix):
            patterns = read_git_patterns(git_file, folder.prefix)
            folder = replace(folder, git=((folder.prefix, patterns), *folder.git))
        is_empty = True
        for path in children:
            name = folder.prefix + path.name
            rule = self._rule(folder, name, path)
            if rule is None:
                is_empty = not self._take(folder, name, path) and is_empty
                continue
            self.left_out.append(LeftOut(name, rule))
            # A folder that holds nothing but caches is itself left over from some earlier state of the sources, and of one
            # that holds nothing that is wanted nobody wants the name.
            if rule == NOT_INCLUDED or default_rule(name):
                is_empty = False
        if is_empty and folder.prefix and (why := self._included(folder.prefix)):
            name = folder.prefix.removesuffix("/")
            self.entries.append(PackedFile(name, folder.path, is_folder=True, rule=why))

    def _included(self, name: str) -> str:
        """Return which rule wants a path, an empty text if none does."""
        if name == MANIFEST_NAME:
            return MANIFEST_RULE
        if is_dependency(name):
            return DEPENDENCY_RULE
        if self.wanted.include is None:
            return IN_FOLDER
        decision = self.wanted.include.decide(name)
        return decision[1] if decision is not None and decision[0] else ""

    def _rule(self, folder: _Folder, name: str, path: Path) -> str | None:
        if name == MANIFEST_NAME:
            return None
        if rule := default_rule(name):
            return rule
        is_folder = os.path.isdir(path)  # noqa: PTH112 - not the method: it answers for a loop of links and what may not be seen
        in_git = f"{name}/" if is_folder else name
        excluded = self.wanted.exclude.decide(in_git) if self.wanted.exclude is not None else None
        if excluded is not None and excluded[0]:
            return excluded[1]
        for ignore_rule in self.rules:
            if ignore_rule.regex.fullmatch(name) and (is_folder or not ignore_rule.folders_only):
                return str(ignore_rule)
        if not is_folder and not self._included(name):
            return NOT_INCLUDED
        return None if is_dependency(name) else _git_rule(folder, in_git)

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
            why = self._included(name)
            self.entries.append(PackedFile(name, path, status.st_size, rule=why))
        elif stat.S_ISDIR(status.st_mode):
            if _id(status) in folder.inside:
                raise LinkLoop(path)
            self.todo.append(_Folder(path, f"{name}/", folder.inside | {_id(status)}, folder.git))
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


def _git_rule(folder: _Folder, name: str) -> str | None:
    for prefix, patterns in folder.git:
        decision = patterns.decide(name.removeprefix(prefix))
        if decision is not None:
            return decision[1] if decision[0] else None
    return None


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
