"""An archive that is being received."""

import hashlib
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from hub_lite.errors import PayloadTooLarge
from hub_lite.packages import PackageLimits, full_disk_is_unavailable


class Upload:
    """An archive that is being received, into a file that goes when the block ends."""

    def __init__(self, path: Path, limits: PackageLimits) -> None:
        self._path = path
        self._limits = limits
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self.size = 0  # bytes

    def __enter__(self) -> Self:
        with full_disk_is_unavailable():
            self._file = self._path.open("xb+", buffering=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        self._path.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        """The hash of what was written so far, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Keep the next bytes of the archive.

        Raises:
            PayloadTooLarge: with them it is longer than ``max_packed_bytes``; they are not kept.
            Unavailable: the disk is full.
        """
        file = self._opened()
        if self.size + len(chunk) > self._limits.max_packed_bytes:
            raise PayloadTooLarge(
                f"The package is larger than the {self._limits.max_packed_bytes} bytes this hub takes."
            )
        with full_disk_is_unavailable():
            rest = memoryview(chunk)
            while rest:
                rest = rest[file.write(rest) :]
        self._hash.update(chunk)
        self.size += len(chunk)

    def archive(self) -> BinaryIO:
        """Return what was written, open at its first byte; it closes with the upload."""
        file = self._opened()
        file.seek(0)
        return file

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise RuntimeError("an upload is written and read inside its with block")
        return self._file
