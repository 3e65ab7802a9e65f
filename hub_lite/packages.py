"""Packages: a tar.gz that anybody may have sent becomes a folder, or a sentence why not.

PackageError            422  (hub_lite/errors.py)
├── InvalidArchive           the bytes are no whole gzip of one whole tar
├── RefusedEntry             an entry is, or is named, what this hub does not unpack
├── PackageTooBig            the package unpacks to more than the limits allow
├── NoManifest               there is no package.json at the root
└── InvalidManifest          package.json is there, but does not say what it must

The tar is read by our own reader, entry by entry, while it is inflated: every limit holds before a byte beyond it is
inflated or written, and whatever two readers of tar could understand in two ways is refused. Of a link only a copy of the
file it names is unpacked (docs/decisions/0021-links-in-packages.md).
"""

import errno
import os
import re
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from hub_lite.errors import PackageError, PayloadTooLarge, Unavailable
from sequence_sdk.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, ManifestError, parse_manifest

from .removal import remove_tree

DISK_FULL = "The hub's disk is full and the package is not kept. Free space there, or remove Sequences, and send it again."

_BLOCK = 512  # bytes; a tar is made of these
_ZEROS = bytes(_BLOCK)
_TAPE_BYTES = 20 * _BLOCK  # tar writes whole ones of these, with zeros behind its end
_READ = 64 * 1024  # bytes taken from the archive at once
_INFLATE = 256 * 1024  # bytes inflated at once: the most of the package that is ever in memory
_MAX_MEMBERS = 100_000  # of a gzip; an empty one costs its sender 20 bytes, and us a new inflater
_MAX_COMPONENT = 255  # bytes; what file systems take between two slashes
_MAX_HOPS = 40  # from link to link; as many as Linux follows
_MAX_LINK_BYTES = 2 * 1024**2  # of memory for links whose file may still come; some 5000 of them
_LINK_BYTES = 256  # of these, what one takes beside its two names
_FOLDER_MODE = 0o755


@dataclass(frozen=True, slots=True)
class PackageLimits:
    """How much one package may take; sizes are bytes, ``max_ratio`` is unpacked by packed."""

    max_packed_bytes: int = 1024**3
    max_unpacked_bytes: int = 1024**3
    max_entries: int = 100_000  # files and folders, those that only occur inside a longer name included
    max_name_bytes: int = 1024
    max_extension_bytes: int = 256 * 1024  # of one pax header; attributes of files may be in it
    max_ratio: int = 200  # real packages reach 20, a bomb 1000
    ratio_free_bytes: int = 64 * 1024**2  # unpacked bytes that are never called a bomb


@dataclass(frozen=True, slots=True)
class Extracted:
    """What an archive was: its manifest, how many files were made of it, and their size together in bytes.

    Copies of linked files count. ``left_out`` are the names of links to files that the archive does not hold.
    """

    manifest: Manifest
    files: int
    bytes: int
    left_out: tuple[str, ...] = ()


class Source(Protocol):
    """Where the bytes of an archive come from."""

    def read(self, size: int, /) -> bytes:
        """Return so many bytes at most, none at the end; wait for the next ones if need be."""
        ...


class InvalidArchive(PackageError):
    """The bytes are no whole gzip of one whole tar."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"Invalid pkg tar.gz archive: {self.why}"


class RefusedEntry(PackageError):
    """An entry is, or is named, what this hub does not unpack."""

    def __init__(self, entry: str, why: str) -> None:
        super().__init__(entry, why)
        self.entry = entry
        self.why = why

    def __str__(self) -> str:
        return f"Entry {self.entry} of the package is refused: {self.why}."


class PackageTooBig(PackageError):
    """The package unpacks to more than the limits allow; ``entry`` is where that was seen, if at one."""

    def __init__(self, entry: str | None, why: str) -> None:
        super().__init__(entry, why)
        self.entry = entry
        self.why = why

    def __str__(self) -> str:
        place = f" at its entry {self.entry}" if self.entry is not None else ""
        return f"The package is too big{place}: {self.why}. Leave out what the Sequence does not need."


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
    budget = _Budget(limits)
    stream = _Inflated(source, limits)
    files = 0
    size = 0
    with _Tree(target, budget) as tree:
        links = _Links(tree, budget, stream)
        for entry in _entries(stream, budget):
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


class _Budget:
    """What is left of the limits for one package."""

    def __init__(self, limits: PackageLimits) -> None:
        self.limits = limits
        self._entries = 0
        self._bytes = 0

    def spend_entry(self, shown: str) -> None:
        self._entries += 1
        if self._entries > self.limits.max_entries:
            raise PackageTooBig(shown, f"it holds more than {self.limits.max_entries} files and folders")

    def spend_bytes(self, count: int, shown: str | None) -> None:
        self._bytes += count
        if self._bytes > self.limits.max_unpacked_bytes:
            raise PackageTooBig(shown, f"it unpacks to more than {self.limits.max_unpacked_bytes} bytes")


class _Inflated:
    """The bytes inside a gzip, pulled; one member or several."""

    def __init__(self, source: Source, limits: PackageLimits) -> None:
        self._source = source
        self._limits = limits
        self._packed_bytes = 0  # read from the source
        self._bytes = 0  # inflated
        self._members = 0
        self._inflater: zlib._Decompress | None = None  # None: between two members
        self._packed = b""  # read, not yet inflated
        self._block = b""  # inflated, not yet taken from ``_at`` on
        self._at = 0

    def read(self, size: int) -> bytes:
        """Return exactly so many bytes; for what is small."""
        end = self._at + size
        if end <= len(self._block):
            taken = self._block[self._at : end]
            self._at = end
            return taken
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield exactly so many bytes, in pieces."""
        while size:
            if self._at == len(self._block):
                self._block = self._inflate()
                self._at = 0
                if not self._block:
                    raise InvalidArchive(
                        "what is inside the gzip ends too early for a tar; send the whole file"
                    )
            piece = memoryview(self._block)[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def rest(self) -> Iterator[bytes]:
        """Yield all that is left, in pieces."""
        piece = self._block[self._at :] or self._inflate()
        while piece:
            yield piece
            piece = self._inflate()

    def _inflate(self) -> bytes:
        """Return the next bytes; none at the end of the archive, after the checksum of every member was right."""
        while self._inflater is not None or self._next_member():
            assert self._inflater is not None  # noqa: S101 - what _next_member promises, for the type checker
            try:
                block = self._inflater.decompress(self._packed, _INFLATE)
            except zlib.error as error:
                raise InvalidArchive(f"the gzip is damaged ({str(error).rpartition(': ')[2]})") from None
            self._packed = self._inflater.unconsumed_tail
            if self._inflater.eof:
                self._packed = self._inflater.unused_data
                self._inflater = None
            if block:
                self.check_ratio(len(block))
                return block
            # zlib may hold back bytes that need no more input: only when it gives none is there need for more.
            if self._inflater is not None and not self._packed and not self._fill():
                raise InvalidArchive("the gzip is cut short; send the whole file")
        return b""

    def _next_member(self) -> bool:
        while len(self._packed) < len(b"\x1f\x8b") and self._fill():
            pass
        if self._packed.startswith(b"\x1f\x8b"):
            self._members += 1
            if self._members > _MAX_MEMBERS:
                raise InvalidArchive(f"the gzip has more than {_MAX_MEMBERS} members; pack it as one")
            self._inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            return True
        if self._members == 0:
            raise InvalidArchive("it is not gzip-compressed" if self._packed else "it is empty")
        # Tapes and some tools fill up with zeros, and gzip takes them as nothing; so do we.
        while self._packed or self._fill():
            if self._packed.count(0) != len(self._packed):
                raise InvalidArchive("there is something else behind the gzip")
            self._packed = b""
        return False

    def _fill(self) -> bool:
        packed = self._source.read(_READ)
        self._packed = self._packed + packed if self._packed else packed
        self._packed_bytes += len(packed)
        if self._packed_bytes > self._limits.max_packed_bytes:
            raise PayloadTooLarge(
                f"The package is larger than the {self._limits.max_packed_bytes} bytes this hub takes."
            )
        return bool(packed)

    def check_ratio(self, count: int) -> None:
        """Add bytes to what the archive unpacks to.

        Raises:
            PackageTooBig: that is more than so few packed bytes can honestly be.
        """
        self._bytes += count
        used = self._packed_bytes - len(self._packed)
        if self._bytes > self._limits.ratio_free_bytes and self._bytes > self._limits.max_ratio * used:
            raise PackageTooBig(None, f"it unpacks to more than {self._limits.max_ratio} times its own size")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file or folder of the archive; ``path`` is relative, without ``.`` parts, and empty for the root."""

    path: bytes
    shown: str  # its name as the archive has it, for messages
    is_folder: bool
    is_executable: bool
    size: int
    target: bytes | None = None  # of a link: the path that it names, from the root of the package
    is_hard: bool = False  # a link to an earlier entry, by its name


@dataclass(frozen=True, slots=True)
class _Header:
    kind: bytes
    name: bytes
    size: int
    mode: int
    target: bytes


_FILES = (b"0", b"\0", b"7")
_HARD_LINK, _SYMBOLIC_LINK = b"1", b"2"
_LINKS = (_HARD_LINK, _SYMBOLIC_LINK)
_FOLDER = b"5"
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"
_EXTENSIONS = (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK)
_REFUSED = {
    b"3": "it is a character device",
    b"4": "it is a block device",
    b"6": "it is a named pipe",
    b"S": "it is a sparse file; pack it as a plain one",
}


def _entries(stream: _Inflated, budget: _Budget) -> Iterator[_Entry]:
    """Yield the entries; before the next is asked for, ``entry.size`` bytes must have been taken from the stream."""
    announced = _Announced()
    while (header := _parse_header(stream.read(_BLOCK))) is not None:
        if header.kind in _EXTENSIONS:
            announced.add(header, _read_extension(stream, header, budget))
            continue
        entry = _entry(header, announced, budget.limits)
        budget.spend_entry(entry.shown)
        budget.spend_bytes(entry.size, entry.shown)
        yield entry
        stream.read(-entry.size % _BLOCK)
        announced = _Announced()
    if announced.kinds:
        raise InvalidArchive("the tar ends where an entry must follow")
    # Two blocks of zeros are the end. What follows may fill up a tape, but be nothing that another reader would unpack.
    if stream.read(_BLOCK) != _ZEROS:
        raise InvalidArchive("there is something else behind the end of the tar")
    padding = 0
    for piece in stream.rest():
        if piece.count(0) != len(piece):
            raise InvalidArchive("there is something else behind the end of the tar")
        # What tar itself fills up to is free: a package that fits to the byte is not refused for how it was packed.
        padding += len(piece)
        budget.spend_bytes(max(0, min(len(piece), padding - _TAPE_BYTES)), None)
    if padding % _BLOCK:
        raise InvalidArchive("the tar is cut short; send the whole file")


class _Announced:
    """What the extension headers before an entry say of it."""

    def __init__(self) -> None:
        self.kinds = b""
        self.name: bytes | None = None
        self.target: bytes | None = None
        self.size: int | None = None

    def add(self, header: _Header, content: bytes) -> None:
        """Take one extension header; a second word about the same thing is refused, as readers differ on who wins."""
        shown = _show(header.name)
        if header.kind == _PAX_GLOBAL:
            # It speaks of all entries to come. Comments are usual there (git archive); a name or size is nonsense.
            if not _pax_records(content, shown).keys().isdisjoint((b"path", b"linkpath", b"size")):
                raise RefusedEntry(shown, "it gives one name, target or size to all entries that follow")
            return
        if header.kind in self.kinds:
            raise InvalidArchive(f"two headers of one kind, the second named {shown}, precede one entry")
        self.kinds += header.kind
        if header.kind == _LONG_NAME:
            self._name(content.rstrip(b"\0"), shown)
        elif header.kind == _LONG_LINK:
            self._target(content.rstrip(b"\0"), shown)
        else:
            records = _pax_records(content, shown)
            if b"path" in records:
                self._name(records[b"path"], shown)
            if b"linkpath" in records:
                self._target(records[b"linkpath"], shown)
            if b"size" in records:
                self.size = _decimal(records[b"size"])

    def _name(self, name: bytes, shown: str) -> None:
        if self.name is not None:
            raise InvalidArchive(f"two headers, the second named {shown}, name one entry")
        self.name = name

    def _target(self, target: bytes, shown: str) -> None:
        if self.target is not None:
            raise InvalidArchive(f"two headers, the second named {shown}, give one entry a target")
        self.target = target


def _read_extension(stream: _Inflated, header: _Header, budget: _Budget) -> bytes:
    shown = _show(header.name)
    limits = budget.limits
    if header.kind == _LONG_NAME and header.size > limits.max_name_bytes + 1:
        raise RefusedEntry(shown, f"it announces a name of more than {limits.max_name_bytes} bytes")
    if header.size > limits.max_extension_bytes:
        raise PackageTooBig(shown, f"its header is larger than {limits.max_extension_bytes} bytes")
    if header.kind == _PAX_GLOBAL:
        budget.spend_entry(shown)  # the others belong to an entry, which is counted
    budget.spend_bytes(header.size, shown)
    content = stream.read(header.size)
    stream.read(-header.size % _BLOCK)
    return content


def _parse_header(block: bytes) -> _Header | None:
    """Return what a header block says; None for a block of zeros.

    Source: POSIX.1-2008 "ustar Interchange Format"; the numbers in base 256 are GNU tar's.
    """
    if block == _ZEROS:
        return None
    checked = block[:148] + b" " * 8 + block[156:]
    announced = _octal(block[148:156])
    if announced != sum(checked) and announced != _signed_sum(checked):
        raise InvalidArchive("what is inside the gzip is no tar, or it is damaged")
    name = block[:100].rstrip(b"\0")
    if block[257:263] == b"ustar\0":
        # Some packers keep times behind a shorter prefix: it ends at the first NUL, whatever follows.
        prefix = block[345:500].partition(b"\0")[0]
        name = prefix + b"/" + name if prefix else name
    return _Header(
        kind=block[156:157],
        name=name,
        size=_number(block[124:136]),
        mode=_number(block[100:108]),
        target=block[157:257].rstrip(b"\0"),
    )


def _signed_sum(block: bytes) -> int:
    """Return the checksum of packers of old that added signed characters."""
    return sum(block) - 256 * sum(byte > 127 for byte in block)


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise InvalidArchive("a number in a header is negative")
        return int.from_bytes(field) - (0x80 << 8 * (len(field) - 1))
    return _octal(field)


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise InvalidArchive("what is inside the gzip is no tar, or it is damaged")
    return int(digits or b"0", 8)


def _decimal(digits: bytes) -> int:
    if not re.fullmatch(rb"[0-9]{1,20}", digits):
        raise InvalidArchive(f"{_show(digits)} is no number where a pax header must have one")
    return int(digits)


def _pax_records(content: bytes, shown: str) -> dict[bytes, bytes]:
    r"""Return the records of a pax header; the last of one key wins.

    Source: POSIX.1-2008 "pax Header Block": ``<length> <key>=<value>\n``, the length being that of the whole record.
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(content):
        digits, _, _ = content[at : at + 21].partition(b" ")
        length = _decimal(digits)
        record = content[at + len(digits) + 1 : at + length]
        key, separator, value = record[:-1].partition(b"=")
        if length > len(content) - at or not separator or not record.endswith(b"\n"):
            raise InvalidArchive(f"the pax header {shown} is damaged")
        if key.startswith(b"GNU.sparse."):
            raise RefusedEntry(shown, _REFUSED[b"S"])
        records[key] = value
        at += length
    return records


def _entry(header: _Header, announced: _Announced, limits: PackageLimits) -> _Entry:
    name = header.name if announced.name is None else announced.name
    size = header.size if announced.size is None else announced.size
    shown = _show(name)
    if header.kind in _REFUSED:
        raise RefusedEntry(shown, _REFUSED[header.kind])
    if header.kind != _FOLDER and header.kind not in _FILES and header.kind not in _LINKS:
        raise RefusedEntry(
            shown, f"its type, {_show(header.kind)}, is neither that of a file nor of a folder"
        )
    if header.kind in _LINKS:
        target = header.target if announced.target is None else announced.target
        return _link(name, target, shown, limits, is_hard=header.kind == _HARD_LINK, size=size)
    is_folder = header.kind == _FOLDER or name.endswith(b"/")
    if is_folder and size:
        raise RefusedEntry(shown, "it is a folder that has a size; pack it again with another tool")
    path = _safe_path(name, shown, limits)
    if not path and not is_folder:
        raise RefusedEntry(shown, "it is a file where the root folder of the package must be")
    return _Entry(path, shown, is_folder, is_executable=bool(header.mode & stat.S_IXUSR), size=size)


def _link(
    name: bytes, target: bytes, shown: str, limits: PackageLimits, *, is_hard: bool, size: int
) -> _Entry:
    path = _safe_path(name, shown, limits)
    kind = "hard" if is_hard else "symbolic"
    if size:  # some readers take content behind a link, and others the next header
        raise RefusedEntry(shown, f"it is a {kind} link that has a size; pack it again with another tool")
    if not path or name.endswith(b"/"):
        raise RefusedEntry(shown, f"it is a {kind} link where a folder must be")
    return _Entry(
        path,
        shown,
        is_folder=False,
        is_executable=False,
        size=0,
        target=_safe_target(path, target, shown, limits, is_hard=is_hard),
        is_hard=is_hard,
    )


def _safe_target(path: bytes, target: bytes, shown: str, limits: PackageLimits, *, is_hard: bool) -> bytes:
    """Return the path from the root that the link at a path names; it may go up, but not out."""
    parts = [] if is_hard else path.split(b"/")[:-1]
    link = f"it is a {'hard' if is_hard else 'symbolic'} link to {_show(target)}"
    way_out = "pack what it points to"
    for part in target.split(b"/"):
        if part == b"..":
            if not parts:
                raise RefusedEntry(shown, f"{link}, outside the package; {way_out}")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    if target.startswith(b"/"):
        raise RefusedEntry(shown, f"{link}, an absolute path; {way_out}")
    why = _fault(target, parts, limits)
    if why is not None:
        raise RefusedEntry(shown, f"{link}, which cannot be: {why}")
    return b"/".join(parts)


def _safe_path(name: bytes, shown: str, limits: PackageLimits) -> bytes:
    """Return the name without its ``.`` and empty parts: a path that stays in the folder it is taken from."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    why: str | None
    if name.startswith(b"/"):
        why = "its name is absolute; names must be relative to the folder of package.json"
    elif b".." in parts:
        why = 'its name has a ".." in it; names must stay inside the folder of package.json'
    else:
        why = _fault(name, parts, limits)
    if why is not None:
        raise RefusedEntry(shown, why)
    return b"/".join(parts)


def _fault(name: bytes, parts: list[bytes], limits: PackageLimits) -> str | None:
    """Return what is wrong with a name wherever it leads, None if nothing is."""
    if not name:
        return "its name is empty"
    if len(name) > limits.max_name_bytes:
        return f"its name has more than {limits.max_name_bytes} bytes"
    if b"\\" in name:
        return "its name has a backslash in it; folders are separated by slashes"
    if b"\0" in name:
        return "its name has a NUL in it"
    if any(len(part) > _MAX_COMPONENT for part in parts):
        return f"a part of its name has more than {_MAX_COMPONENT} bytes"
    try:
        name.decode()
    except UnicodeDecodeError:
        return "its name is not UTF-8"
    return None


def _show(name: bytes) -> str:
    """Return a name from the archive as a message may quote it: one line, no control characters, not too long."""
    text = repr(name[:201].decode(errors="backslashreplace"))
    return text if len(name) <= 200 else f"{text[:200]}…'"


class _Tree:
    """The folder being filled. Nothing is ever opened by way of a link: none is made, and names hold no ``..``."""

    def __init__(self, target: Path, budget: _Budget) -> None:
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

    def make_folder(self, entry: _Entry) -> None:
        """Make a folder, and those above it that are missing."""
        self._make_folders(entry.path, entry)

    def make_file(self, entry: _Entry, pieces: Iterator[memoryview]) -> None:
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
            shutil.copyfileobj(source, file, _INFLATE)

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

    def _make_folders(self, folder: bytes, entry: _Entry) -> None:
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

    def _make_folder(self, folder: bytes, entry: _Entry) -> None:
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

    def __init__(self, tree: _Tree, budget: _Budget, stream: _Inflated) -> None:
        self._tree = tree
        self._budget = budget
        self._stream = stream
        self._targets: dict[bytes, tuple[bytes, str]] = {}  # and what the link is called in messages
        self._memory = 0

    def add(self, entry: _Entry, target: bytes) -> None:
        """Keep a link for ``copy``.

        Raises:
            RefusedEntry: its name is taken, or it is a hard link to what is no earlier file.
            PackageTooBig: there are too many.
        """
        if entry.is_hard and self._tree.kind_of(target) != stat.S_IFREG:
            why = f"it is a hard link to {_show(target)}, which is no earlier file of the package; pack the file itself"
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
def _refusing(entry: _Entry) -> Iterator[None]:
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
