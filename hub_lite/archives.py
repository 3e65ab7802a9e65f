"""The entries of a tar.gz that anybody may have sent, read while it arrives: what each is, where it may lie, and its bytes.

Every limit holds before a byte beyond it is inflated, and whatever two readers of tar could understand in two ways is refused.
Nothing here knows of a disk.
"""

import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from .errors import PackageError, PayloadTooLarge

_BLOCK = 512  # bytes; a tar is made of these
_ZEROS = bytes(_BLOCK)
_TAPE_BYTES = 20 * _BLOCK  # tar writes whole ones of these, with zeros behind its end
_READ = 64 * 1024  # bytes taken from the archive at once
_INFLATE = 256 * 1024  # bytes inflated at once: the most of the package that is ever in memory
_MAX_MEMBERS = 100_000  # of a gzip; an empty one costs its sender 20 bytes, and us a new inflater
_MAX_COMPONENT = 255  # bytes; what file systems take between two slashes


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


class Budget:
    """What is left of the limits for one package."""

    def __init__(self, limits: PackageLimits) -> None:
        self.limits = limits
        self._entries = 0
        self._bytes = 0

    def spend_entry(self, shown: str) -> None:
        """Count a file or folder, which messages call ``shown``.

        Raises:
            PackageTooBig: that is one too many.
        """
        self._entries += 1
        if self._entries > self.limits.max_entries:
            raise PackageTooBig(shown, f"it holds more than {self.limits.max_entries} files and folders")

    def spend_bytes(self, count: int, shown: str | None) -> None:
        """Count unpacked bytes of an entry, or of none.

        Raises:
            PackageTooBig: those are too many.
        """
        self._bytes += count
        if self._bytes > self.limits.max_unpacked_bytes:
            raise PackageTooBig(shown, f"it unpacks to more than {self.limits.max_unpacked_bytes} bytes")


class Inflated:
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
class Entry:
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


def entries(stream: Inflated, budget: Budget) -> Iterator[Entry]:
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
        shown = show(header.name)
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


def _read_extension(stream: Inflated, header: _Header, budget: Budget) -> bytes:
    shown = show(header.name)
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
        raise InvalidArchive(f"{show(digits)} is no number where a pax header must have one")
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


def _entry(header: _Header, announced: _Announced, limits: PackageLimits) -> Entry:
    name = header.name if announced.name is None else announced.name
    size = header.size if announced.size is None else announced.size
    shown = show(name)
    if header.kind in _REFUSED:
        raise RefusedEntry(shown, _REFUSED[header.kind])
    if header.kind != _FOLDER and header.kind not in _FILES and header.kind not in _LINKS:
        raise RefusedEntry(shown, f"its type, {show(header.kind)}, is neither that of a file nor of a folder")
    if header.kind in _LINKS:
        target = header.target if announced.target is None else announced.target
        return _link(name, target, shown, limits, is_hard=header.kind == _HARD_LINK, size=size)
    is_folder = header.kind == _FOLDER or name.endswith(b"/")
    if is_folder and size:
        raise RefusedEntry(shown, "it is a folder that has a size; pack it again with another tool")
    path = _safe_path(name, shown, limits)
    if not path and not is_folder:
        raise RefusedEntry(shown, "it is a file where the root folder of the package must be")
    return Entry(path, shown, is_folder, is_executable=bool(header.mode & stat.S_IXUSR), size=size)


def _link(
    name: bytes, target: bytes, shown: str, limits: PackageLimits, *, is_hard: bool, size: int
) -> Entry:
    path = _safe_path(name, shown, limits)
    kind = "hard" if is_hard else "symbolic"
    if size:  # some readers take content behind a link, and others the next header
        raise RefusedEntry(shown, f"it is a {kind} link that has a size; pack it again with another tool")
    if not path or name.endswith(b"/"):
        raise RefusedEntry(shown, f"it is a {kind} link where a folder must be")
    return Entry(
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
    link = f"it is a {'hard' if is_hard else 'symbolic'} link to {show(target)}"
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


def show(name: bytes) -> str:
    """Return a name from the archive as a message may quote it: one line, no control characters, not too long."""
    text = repr(name[:201].decode(errors="backslashreplace"))
    return text if len(name) <= 200 else f"{text[:200]}…'"
