"""Packages: a tar.gz that anybody may have sent becomes a folder, or a sentence why not.

PackageError            422  (hub_lite/errors.py)
├── InvalidArchive           the bytes are no whole gzip of one whole tar (archives.py)
├── RefusedEntry             an entry is, or is named, what this hub does not unpack (archives.py)
├── PackageTooBig            the package unpacks to more than the limits allow (archives.py)
├── NoManifest               there is no package.json at the root
└── InvalidManifest          package.json is there, but does not say what it must

Entries are written while they are read: no limit is passed by a byte on the disk. Of a link only a copy of the file it names is
unpacked (docs/decisions/0021-links-in-packages.md).
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from hub_lite.errors import PackageError, Unavailable
from sequence_sdk.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, ManifestError, parse_manifest

from .archives import (
    Budget,
    Entry,
    Inflated,
    PackageLimits,
    PackageTooBig,
    RefusedEntry,
    Source,
    entries,
    show,
)
from .removal import remove_tree

DISK_FULL = "The hub's disk is full and the package is not kept. Free space there, or remove Sequences, and send it again."

_MAX_HOPS = 40  # from link to link; as many as Linux follows
_MAX_LINK_BYTES = 2 * 1024**2  # of memory for links whose file may still come; some 5000 of them
_LINK_BYTES = 256  # of these, what one takes beside its two names
_FOLDER_MODE = 0o755
_COPIED = 256 * 1024  # bytes of a linked file at once


@dataclass(frozen=True, slots=True)
class Extracted:
    """What an archive was: its manifest, how many files were made of it, and their size together in bytes.

    Copies of linked files count. ``left_out`` are the names of links to files that the archive does not hold.
    """

    manifest: Manifest
    files: int
    bytes: int
    left_out: tuple[str, ...] = ()


class NoManifest(PackageError):
    """There is no package.json at the root."""

    def __str__(self) -> str:
        return "No package.json in pkg archive."


class InvalidManifest(PackageError):
    """package.json is there, but does not say what it must."""


@contextmanager
def full_disk_is_unavailable() -> Iterator[None]:
    """Answer a full disk inside the block with ``Unavailable``; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Unavailable(DISK_FULL) from error


def extract(archive: Source | Path, target: Path, limits: PackageLimits) -> Extracted:
    """Unpack a package into a new folder and return what it was.

    Shape: files are 0644, or 0755 if their owner may execute them; folders are 0755; owner and times are those of now.
    A link becomes a copy of the file it names. The archive is read from where it stands to its end, and may still be
    arriving. Blocks; memory stays under a few megabytes.

    Raises:
        PackageError: the package cannot be used; the kinds are in the docstring of this module.
        PayloadTooLarge: the archive is longer than ``limits.max_packed_bytes``.
        Unavailable: the disk is full.
        FileExistsError: ``target`` exists; it stays as it is. After every other error ``target`` does not exist.
    """
    with full_disk_is_unavailable():
        target.mkdir(0o700)
        try:
            with archive.open("rb") if isinstance(archive, Path) else nullcontext(archive) as source:
                return _unpack(source, target, limits)
        except BaseException:
            remove_tree(target)
            raise


def _unpack(source: Source, target: Path, limits: PackageLimits) -> Extracted:
    budget = Budget(limits)
    stream = Inflated(source, limits)
    files = 0
    size = 0
    with _Tree(target, budget) as tree:
        links = _Links(tree, budget, stream)
        for entry in entries(stream, budget):
            if entry.is_folder:
                tree.make_folder(entry)
            elif entry.target is not None:
                links.add(entry, entry.target)
            else:
                tree.make_file(entry, stream.pieces(entry.size))
                files += 1
                size += entry.size
        copied = links.copy()
        raw = tree.read_manifest()
    try:
        manifest = parse_manifest(raw)
    except ManifestError as error:
        raise InvalidManifest(str(error)) from error
    return Extracted(manifest, files + copied.files, size + copied.bytes, tuple(copied.left_out))


class _Tree:
    """The folder being filled. Nothing is ever opened by way of a link: none is made, and names hold no ``..``."""

    def __init__(self, target: Path, budget: Budget) -> None:
        self._target = target
        self._budget = budget
        self._root = -1

    def __enter__(self) -> Self:
        # The mode is set, not asked for: the umask of the hub has no say in what a Sequence can read.
        self._target.chmod(_FOLDER_MODE)
        self._root = os.open(self._target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._root)

    def make_folder(self, entry: Entry) -> None:
        """Make a folder, and those above it that are missing."""
        self._make_folders(entry.path, entry)

    def make_file(self, entry: Entry, pieces: Iterator[memoryview]) -> None:
        """Make a file with this content, and the folders above it that are missing."""
        folder = entry.path.rpartition(b"/")[0]
        with _refusing(entry):
            try:
                descriptor = self._create(entry.path)
            except FileNotFoundError:
                self._make_folders(folder, entry)
                descriptor = self._create(entry.path)
        try:
            os.fchmod(descriptor, 0o755 if entry.is_executable else 0o644)
            for piece in pieces:
                rest = piece
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)

    def kind_of(self, path: bytes) -> int | None:
        """Return the type bits of what is at a path, None if nothing is."""
        try:
            return stat.S_IFMT(os.stat(path or b".", dir_fd=self._root, follow_symlinks=False).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return None

    def read_file(self, path: bytes) -> BinaryIO:
        """Return a file that was made, open at its first byte."""
        return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._root), "rb")  # noqa: PTH123 - for the caller

    def fill_file(self, path: bytes, source: BinaryIO) -> None:
        """Make an empty file a copy of another: its content and its mode."""
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW, dir_fd=self._root)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor has no path
            os.fchmod(descriptor, stat.S_IMODE(os.fstat(source.fileno()).st_mode))
            shutil.copyfileobj(source, file, _COPIED)

    def remove_file(self, path: bytes) -> None:
        """Remove a file that was made."""
        os.unlink(path, dir_fd=self._root)

    def read_manifest(self) -> bytes:
        """Return package.json as it was unpacked, cut where it is already too long to be taken."""
        try:
            descriptor = os.open(MANIFEST_NAME, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._root)
        except FileNotFoundError:
            raise NoManifest from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise NoManifest
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_MANIFEST_BYTES + 1)
        finally:
            os.close(descriptor)

    def _create(self, path: bytes) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=self._root)

    def _make_folders(self, folder: bytes, entry: Entry) -> None:
        """Make a folder and those above it that are missing, from the deepest up: a name may have hundreds in it."""
        missing = [folder] if folder else []
        while missing:
            try:
                self._make_folder(missing[-1], entry)
            except FileNotFoundError:
                above = missing[-1].rpartition(b"/")[0]
                if not above:
                    raise  # the root is gone, and not by us
                missing.append(above)
            else:
                missing.pop()

    def _make_folder(self, folder: bytes, entry: Entry) -> None:
        with _refusing(entry):
            try:
                os.mkdir(folder, 0o700, dir_fd=self._root)
            except FileExistsError:
                if stat.S_ISDIR(os.stat(folder, dir_fd=self._root, follow_symlinks=False).st_mode):
                    return
                raise
            os.chmod(folder, _FOLDER_MODE, dir_fd=self._root)
        if folder != entry.path:
            self._budget.spend_entry(entry.shown)


@dataclass(slots=True)
class _Copied:
    """What has become of the links of a package; sizes are bytes."""

    files: int = 0
    bytes: int = 0
    left_out: list[str] = field(default_factory=list)


class _Links:
    """The links of a package, which become copies when all of its files are there: a link may come before its file.

    Until then each has an empty file in its place, so that no other entry takes its name.
    """

    def __init__(self, tree: _Tree, budget: Budget, stream: Inflated) -> None:
        self._tree = tree
        self._budget = budget
        self._stream = stream
        self._targets: dict[bytes, tuple[bytes, str]] = {}  # and what the link is called in messages
        self._memory = 0

    def add(self, entry: Entry, target: bytes) -> None:
        """Keep a link for ``copy``.

        Raises:
            RefusedEntry: its name is taken, or it is a hard link to what is no earlier file.
            PackageTooBig: there are too many.
        """
        if entry.is_hard and self._tree.kind_of(target) != stat.S_IFREG:
            why = f"it is a hard link to {show(target)}, which is no earlier file of the package; pack the file itself"
            raise RefusedEntry(entry.shown, why)
        self._memory += _LINK_BYTES + len(entry.path) + len(target) + len(entry.shown)
        if self._memory > _MAX_LINK_BYTES:
            raise PackageTooBig(entry.shown, "it holds too many links; pack what they point to")
        self._tree.make_file(entry, iter(()))
        self._targets[entry.path] = (target, entry.shown)

    def copy(self) -> _Copied:
        """Put a copy of its file in the place of every link; one whose file is not there is left out.

        Raises:
            RefusedEntry: a link leads to a folder, or in a circle.
            PackageTooBig: the copies are more than the limits allow.
        """
        copied = _Copied()
        for path, (_, shown) in self._targets.items():
            target = self._end_of(path, shown)
            match self._tree.kind_of(target):
                case None:
                    self._tree.remove_file(path)
                    copied.left_out.append(shown)
                case stat.S_IFREG:
                    with self._tree.read_file(target) as source:
                        size = os.fstat(source.fileno()).st_size
                        self._budget.spend_bytes(size, shown)
                        self._stream.check_ratio(size)
                        self._tree.fill_file(path, source)
                    copied.files += 1
                    copied.bytes += size
                case _:
                    raise RefusedEntry(shown, "it is a link to a folder; pack what it points to")
        return copied

    def _end_of(self, path: bytes, shown: str) -> bytes:
        """Return where a link leads, through other links."""
        for _ in range(_MAX_HOPS):
            path = self._targets[path][0]
            if path not in self._targets:
                return path
        raise RefusedEntry(
            shown, f"it is a link that leads in a circle, or through more than {_MAX_HOPS} links"
        )


@contextmanager
def _refusing(entry: Entry) -> Iterator[None]:
    """Let the file system be the table of names, and say what it refuses in words about the entry."""
    try:
        yield
    except FileExistsError:
        raise RefusedEntry(entry.shown, "an earlier entry has its name; a name may occur once") from None
    except NotADirectoryError:
        raise RefusedEntry(entry.shown, "an earlier entry is a file where this one needs a folder") from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise RefusedEntry(entry.shown, "its name is too long for the disk of the hub") from None
