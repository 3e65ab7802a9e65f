"""A package that is unpacked while it arrives."""

import asyncio
import hashlib
import io
import os
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

from hub_lite.archives import PackageLimits
from hub_lite.errors import PayloadTooLarge, Unavailable
from hub_lite.packages import Extracted, extract

# Bytes. A package of no more is unpacked by who keeps it: a thread of its own costs more than it gives.
_SMALL = 64 * 1024
_FULL = 512 * 1024  # bytes that wait to be unpacked and make ``drain`` wait …
_LOW = 128 * 1024  # … until there are only so many


class UploadAbandoned(Unavailable):
    """The upload was left, or the store closed, before the package was whole."""

    def __str__(self) -> str:
        return "The upload is broken off: its sender is gone, or the hub is shutting down. Send it again."


def unpacking_turns() -> threading.Semaphore:
    """Return as many turns as uploads may be unpacked at once: more threads than processors only get in each other's way.

    An upload has a turn while there are bytes of it to be unpacked, so that those that wait for their senders keep
    nobody waiting, however many they are.
    """
    return threading.Semaphore(max(2, os.cpu_count() or 1))


class _Arrivals:
    """Bytes on their way from who receives them to the one thread that reads them, which hashes them too."""

    def __init__(self, turns: threading.Semaphore) -> None:
        self._turns = turns
        self._changed = threading.Condition()  # over everything below
        self._chunks: deque[memoryview] = deque()
        self._waiting = 0  # bytes in them
        self._is_whole = False
        self._is_abandoned = False
        self._failure: BaseException | None = None
        self._room: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        self._hash = hashlib.sha256()  # of what was read

    @property
    def sha256(self) -> str:
        """The hash of what was read so far, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Add bytes, and raise what the reader has failed with."""
        with self._changed:
            self.check()
            self._chunks.append(memoryview(chunk))
            self._waiting += len(chunk)
            self._changed.notify()

    async def drain(self) -> None:
        """Wait until the reader has caught up, and raise what it has failed with."""
        with self._changed:
            self.check()
            if self._waiting <= _FULL:
                return
            loop = asyncio.get_running_loop()
            room: asyncio.Future[None] = loop.create_future()
            self._room = loop, room
        try:
            await room
        finally:
            with self._changed:
                self._room = None
        self.check()

    def end(self) -> None:
        """Say that there is no more to come."""
        with self._changed:
            self._is_whole = True
            self._changed.notify()

    def abandon(self) -> None:
        """Let the reader fail, unless it has been told that there is no more to come."""
        with self._changed:
            self._is_abandoned = not self._is_whole
            self._changed.notify()

    def fail(self, failure: BaseException) -> None:
        """Refuse whatever comes; for the reader."""
        with self._changed:
            self._failure = failure
            self._chunks.clear()
            self._waiting = 0
            self._give_room()

    def check(self) -> None:
        """Raise what the reader has failed with, if it has."""
        if self._failure is not None:
            raise self._failure

    def read(self, size: int, /) -> bytes:
        """Return so many bytes at most, none at the end; for the reader, which gives its turn up while it waits.

        Raises:
            UploadAbandoned: nobody wants them any more.
        """
        with self._changed:
            must_wait = self._must_wait()
        if must_wait:
            self._turns.release()
            try:
                with self._changed:
                    self._changed.wait_for(lambda: not self._must_wait())
            finally:
                self._turns.acquire()
        taken = self._take(size)
        self._hash.update(taken)
        return taken

    def _must_wait(self) -> bool:
        return not self._chunks and not self._is_whole and not self._is_abandoned

    def _take(self, size: int) -> bytes:
        with self._changed:
            if self._is_abandoned:
                raise UploadAbandoned
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
            taken = bytes(chunk[:size])
            if len(chunk) > size:
                self._chunks.appendleft(chunk[size:])
            self._waiting -= len(taken)
            if self._waiting <= _LOW:
                self._give_room()
            return taken

    def _give_room(self) -> None:
        if self._room is not None:
            loop, room = self._room
            self._room = None
            loop.call_soon_threadsafe(_resolve, room)


def _resolve(room: "asyncio.Future[None]") -> None:
    if not room.done():
        room.set_result(None)


class Upload:
    """A package that is being received and unpacked; what nobody has taken goes when the block ends.

    A package that is not small is unpacked by a thread of its own from its first bytes on. ``write`` and ``drain`` belong to
    who receives it, ``end`` and ``unpack`` to who keeps it; the latter two block.

    Args:
        staged: the folder to unpack it into; there is none yet.
        limits: what it may take.
        turns: to unpack, see ``unpacking_turns``.
    """

    def __init__(self, staged: Path, limits: PackageLimits, turns: threading.Semaphore) -> None:
        self.staged = staged
        self.size = 0  # bytes
        self._limits = limits
        self._turns = turns
        self._is_open = False
        self._first: bytearray = bytearray()  # what came before there was a thread
        self._sha256 = ""
        self._extracted: Extracted | None = None
        self._arrivals = _Arrivals(turns)
        self._worker: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_open = False
        self._arrivals.abandon()  # and the thread clears up: this must not block

    @property
    def sha256(self) -> str:
        """The hash of the package, in hexadecimal; known after ``end``."""
        return self._sha256

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the package. They are in memory until they are unpacked; ``drain`` waits for that.

        Raises:
            PayloadTooLarge: with them it is longer than ``max_packed_bytes``; they are not taken.
            PackageError: what came before is no package that can be used.
            Unavailable: the disk is full.
        """
        if not self._is_open:
            raise RuntimeError("an upload is written inside its with block")
        if self.size + len(chunk) > self._limits.max_packed_bytes:
            raise PayloadTooLarge(
                f"The package is larger than the {self._limits.max_packed_bytes} bytes this hub takes."
            )
        if self._worker is not None:
            self._arrivals.write(chunk)
        else:
            self._first += chunk
            if len(self._first) > _SMALL:
                self._start()
        self.size += len(chunk)

    async def drain(self) -> None:
        """Wait until there is room for more.

        Raises:
            PackageError: what was written is no package that can be used.
            Unavailable: the disk is full.
        """
        if self._worker is not None:
            await self._arrivals.drain()

    def end(self) -> None:
        """Take what was written for the whole package; when this returns, ``sha256`` is known.

        Raises:
            PackageError: it has been unpacked by now, and cannot be used.
            Unavailable: the disk is full, or the upload was left before.
        """
        self._arrivals.end()
        if self._worker is None:
            self._sha256 = hashlib.sha256(self._first).hexdigest()
            return
        self._worker.join()
        self._arrivals.check()
        self._sha256 = self._arrivals.sha256

    def unpack(self) -> Extracted:
        """Return what is in the package, which is whole, after it was unpacked into ``staged``.

        Raises:
            PackageError: it cannot be used.
            Unavailable: the disk is full.
        """
        if self._extracted is None:
            self._extracted = extract(io.BytesIO(self._first), self.staged, self._limits)
        return self._extracted

    def close(self) -> None:
        """Abandon the upload, unless it is whole, and wait until nothing is done for it any more."""
        self._arrivals.abandon()
        if self._worker is not None:
            self._worker.join()

    def _start(self) -> None:
        self._arrivals.write(bytes(self._first))
        self._first.clear()
        # A daemon, as it must not keep a process alive in which nobody closes the store.
        worker = threading.Thread(target=self._work, name=f"unpack {self.staged.name[:8]}", daemon=True)
        worker.start()
        self._worker = worker

    def _work(self) -> None:
        try:
            with self._turns:
                self._extracted = extract(self._arrivals, self.staged, self._limits)
        except BaseException as error:  # noqa: BLE001 - it is raised again by whoever writes to it or keeps it
            self._arrivals.fail(error)
