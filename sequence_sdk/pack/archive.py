"""The deterministic tar.gz: the same files give the same bytes, wherever and whenever they are packed.

Its last entry is the list of the hashes of all files, with a signature over it if one is wanted.
"""

import errno
import hashlib
import os
import secrets
import stat
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final

from .errors import FileChanged, FileUnreadable, OutputNotWritable
from .files import FileId, PackedFile
from .sums import SIGNATURE_NAME, SUMS_NAME, encode_sums

Seal = Callable[[bytes], bytes]  # the list of hashes in, what goes into the signature file out
Progress = Callable[[str, int, int], None]  # name of the file, bytes read so far, bytes of all files

_BLOCK: Final = 256 * 1024  # bytes read at once
_LEVEL: Final = 6
_GZIP_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # deflate, no name, no time, no operating system
_MTIME: Final = 315532800  # 1980-01-01; some tools warn of files as old as 1970


@dataclass(frozen=True, slots=True)
class ArchiveFacts:
    """What there is to say of an archive that has been written.

    ``unpacked_bytes`` are those of the files that were to be packed: the list of their hashes does not count.
    """

    sha256: str
    packed_bytes: int
    unpacked_bytes: int


def output_id(output: Path | BinaryIO) -> FileId | None:
    """Return which file the output is, None if it is not there yet or no plain file."""
    try:
        status = output.stat() if isinstance(output, Path) else os.fstat(output.fileno())
    except OSError:  # also what a stream without a descriptor raises
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def write_file(
    output: Path,
    entries: Iterable[PackedFile],
    progress: Progress | None = None,
    *,
    seal: Seal | None = None,
) -> ArchiveFacts:
    """Write the archive to a path, where it appears once it is whole; what was there before goes then.

    A device or a pipe is written to as it is. With ``seal`` the archive is signed; what that raises passes through.

    Raises:
        BadEntry: a file cannot be read, or changes while it is.
        OutputNotWritable: the disk is full, or the place is not ours to write to.
    """
    try:
        mode = output.stat().st_mode if output.exists() else stat.S_IFREG
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            with FileIO(os.open(output, os.O_WRONLY), "wb") as device:
                return _write(device, output, entries, progress, seal)
        return _write_beside(output, entries, progress, seal)
    except OSError as error:
        raise OutputNotWritable(output, error) from error


def _write_beside(
    output: Path, entries: Iterable[PackedFile], progress: Progress | None, seal: Seal | None
) -> ArchiveFacts:
    target = Path(os.path.realpath(output))  # a link keeps being one
    unfinished = target.with_name(f".scramjet-pack-{secrets.token_hex(8)}.tmp")
    try:
        # Not tempfile: its files are for the owner only, the archive gets the rights that the umask leaves.
        with FileIO(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            facts = _write(file, output, entries, progress, seal)
        unfinished.replace(target)
    except BaseException:  # Ctrl-C too must not leave half an archive
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    return facts


def write_stream(
    output: BinaryIO,
    entries: Iterable[PackedFile],
    progress: Progress | None = None,
    *,
    seal: Seal | None = None,
) -> ArchiveFacts:
    """Write the archive to a stream, and flush it; ``seal`` as for ``write_file``.

    Raises:
        BadEntry: a file cannot be read, or changes while it is.
        OutputNotWritable: the stream takes no more bytes.
    """
    return _write(output, None, entries, progress, seal)


def _write(
    output: BinaryIO,
    path: Path | None,
    entries: Iterable[PackedFile],
    progress: Progress | None,
    seal: Seal | None,
) -> ArchiveFacts:
    entries = tuple(entries)
    total = sum(entry.bytes for entry in entries)
    archive = _Archive(output, path)
    for entry in entries:
        if entry.is_folder:
            archive.add_folder(entry)
        else:
            archive.add_file(entry, total, progress)
    archive.add_sums(seal)
    return archive.finish()


class _Archive:
    """A tar.gz that is being written: tar blocks in, gzip bytes out, nothing kept."""

    # Neither gzip.GzipFile nor tarfile.TarFile: what they hold back they write when they are closed or collected,
    # and that blocks after an interrupt; and the header of the first differs between versions of Python.

    def __init__(self, output: BinaryIO, path: Path | None) -> None:
        self._output = output
        self._path = path
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._sha256 = hashlib.sha256()
        self._crc = 0
        self._tar_bytes = 0
        self._packed_bytes = 0
        self._read_bytes = 0
        self._hashes: dict[str, str] = {}  # of the files, by name
        self._send(_GZIP_HEADER)

    def add_folder(self, entry: PackedFile) -> None:
        self._feed(_header(entry.name, tarfile.DIRTYPE, 0o755, 0))

    def add_file(self, entry: PackedFile, total: int, progress: Progress | None) -> None:
        if entry.content is not None:
            self._add_content(entry.name, entry.content)
            self._hashes[entry.name] = hashlib.sha256(entry.content).hexdigest()
            self._tell(entry.name, len(entry.content), total, progress)
            return
        try:
            file = entry.path.open("rb", buffering=0)
        except OSError as error:
            raise FileUnreadable(entry.path, error) from error
        with file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise FileChanged(entry.path)
            mode = 0o755 if before.st_mode & stat.S_IXUSR else 0o644
            self._feed(_header(entry.name, tarfile.REGTYPE, mode, before.st_size))
            left = before.st_size
            sha256 = hashlib.sha256()
            while left:
                block = _read(file, entry, min(left, _BLOCK))
                sha256.update(block)
                self._feed(block)
                left -= len(block)
                self._tell(entry.name, len(block), total, progress)
            after = os.fstat(file.fileno())
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise FileChanged(entry.path)
        self._feed(bytes(-before.st_size % tarfile.BLOCKSIZE))
        self._hashes[entry.name] = sha256.hexdigest()

    def add_sums(self, seal: Seal | None) -> None:
        sums = encode_sums(self._hashes)
        self._add_content(SUMS_NAME, sums)
        if seal is not None:
            self._add_content(SIGNATURE_NAME, seal(sums))

    def _add_content(self, name: str, content: bytes) -> None:
        self._feed(_header(name, tarfile.REGTYPE, 0o644, len(content)))
        self._feed(content)
        self._feed(bytes(-len(content) % tarfile.BLOCKSIZE))

    def _tell(self, name: str, count: int, total: int, progress: Progress | None) -> None:
        self._read_bytes += count
        if progress is not None:
            progress(name, self._read_bytes, total)

    def finish(self) -> ArchiveFacts:
        end = 2 * tarfile.BLOCKSIZE
        self._feed(bytes(end + -(self._tar_bytes + end) % tarfile.RECORDSIZE))
        self._send(self._deflate.flush())
        self._send(struct.pack("<LL", self._crc, self._tar_bytes & 0xFFFFFFFF))
        try:
            self._output.flush()
        except OSError as error:
            raise OutputNotWritable(self._path, error) from error
        return ArchiveFacts(self._sha256.hexdigest(), self._packed_bytes, self._read_bytes)

    def _feed(self, block: bytes) -> None:
        self._crc = zlib.crc32(block, self._crc)
        self._tar_bytes += len(block)
        self._send(self._deflate.compress(block))

    def _send(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._packed_bytes += len(chunk)
        left = memoryview(chunk)
        while left:
            try:
                # An unbuffered stream may take a part, and None is how it says that it would have to wait.
                taken: int | None = self._output.write(left)
                if taken is None:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            except OSError as error:
                raise OutputNotWritable(self._path, error) from error
            left = left[taken:]


def _read(file: FileIO, entry: PackedFile, size: int) -> bytes:
    try:
        block = file.read(size)
    except OSError as error:
        raise FileUnreadable(entry.path, error) from error
    if not block:
        raise FileChanged(entry.path)
    return block


def _header(name: str, kind: bytes, mode: int, size: int) -> bytes:
    """Return the blocks that announce one entry, in GNU's format: the smallest tar programs know its long names."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.mtime = kind, mode, size, _MTIME
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")
