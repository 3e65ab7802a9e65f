"""The bounded window over a stream that leaves an Instance, and the cursors that read it.

WindowError
├── StreamFailed        the stream ended in a failure, after all its bytes
├── ReaderStalled       this reader kept the producer and other readers waiting, and was cut off
├── WindowClosed        the stream, or this reader of it, is gone
└── OffsetOutOfRange    the bytes asked for are no longer held, or not there yet
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

DEFAULT_CAPACITY = 1024 * 1024  # bytes
DEFAULT_READ = 256 * 1024  # bytes; what uvloop reads from a socket at once
LARGE_READ = 512 * 1024  # bytes; what is read of a large body at once, so that it goes on as it came

# Writes are merged up to this size, so that a stream of single bytes costs its bytes and not an object each.
MERGE_BYTES = 4 * 1024

# A chunk of this size or more is handed on as the object it is; below it, a copy is cheaper than one more write.
SHARE_BYTES = 32 * 1024

# A hold-up is looked at this many times in a stall timeout: a reader is cut off no sooner than one timeout after
# the last byte it was seen to take, and no later than a timeout and a quarter.
STALL_CHECKS = 4

Start: TypeAlias = int | Literal["earliest", "latest"] | None


class Timer(Protocol):
    """A call that is to come and can be called off."""

    def cancel(self) -> None:
        """Call it off."""


CallLater: TypeAlias = Callable[[float, Callable[[], None]], Timer]


class WindowError(Exception):
    """A reader does not get the bytes it wants."""


class StreamFailed(WindowError):
    """The stream ended in a failure; the reader has had every byte of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the stream is not complete: {self.reason}"


class ReaderStalled(WindowError):
    """The reader took no byte for the stall timeout while it kept the producer and other readers waiting."""

    def __init__(self, offset: int, timeout: float) -> None:
        super().__init__(offset, timeout)
        self.offset = offset
        self.timeout = timeout

    def __str__(self) -> str:
        return (
            f"cut off at byte {self.offset}: nothing was read for {self.timeout:g} s while other readers waited; "
            f"read on at offset {self.offset} if it is still held, else at the earliest"
        )


class WindowClosed(WindowError):
    """The stream, or this reader of it, is gone."""


class OffsetOutOfRange(WindowError):
    """The stream does not hold the byte at ``offset``; it holds those from ``start`` up to, not including, ``end``."""

    def __init__(self, offset: int, start: int, end: int) -> None:
        super().__init__(offset, start, end)
        self.offset = offset
        self.start = start
        self.end = end

    def __str__(self) -> str:
        fact = "is no longer held" if 0 <= self.offset < self.start else "is not there"
        return f"offset {self.offset} {fact}: choose one from {self.start} to {self.end}, earliest or latest"


class Window:
    """The latest bytes of one stream, at absolute offsets, for any number of readers.

    A *lossless* window never drops a byte that an attached reader still has to get or, with no reader attached, that
    no reader was given; when it is full of those, the producer pauses. Any other window never makes the producer
    wait: its oldest bytes go, read or not. Both keep what was read for replay while the whole fits the capacity.

    A byte counts as given once its reader has acknowledged it. A reader that chooses a start past bytes that nobody
    was given gives those up: while it is attached they are kept for replay only.

    Memory stays below the capacity, or the unread bytes if a last chunk went over it, plus the one chunk that is
    dropped in part. Everything happens in one event loop; nothing here may be called from another thread.
    """

    __slots__ = (
        "_call_later",
        "_capacity",
        "_chunks",
        "_closed",
        "_cursors",
        "_end",
        "_ended",
        "_failure",
        "_floor",
        "_given",
        "_holders",
        "_lossless",
        "_offsets",
        "_paused",
        "_producers",
        "_stall_timeout",
        "_start",
        "_timer",
        "_waiting",
        "on_room",
    )

    def __init__(
        self,
        capacity: int = DEFAULT_CAPACITY,
        *,
        lossless: bool,
        stall_timeout: float = 10.0,
        call_later: CallLater | None = None,
    ) -> None:
        """Make an empty window of ``capacity`` bytes; ``call_later`` is that of the running loop unless given."""
        if capacity < 1:
            raise ValueError(f"the capacity of a window is at least one byte, not {capacity}")
        self._capacity = capacity
        self._lossless = lossless
        self._stall_timeout = stall_timeout
        self._call_later = call_later

        self._chunks: list[bytes] = []
        self._offsets: list[
            int
        ] = []  # of the first byte of each chunk; sorted, so a reader's place is a bisection
        self._start = 0  # may lie inside the first chunk: bytes are dropped one by one, memory by the chunk
        self._end = 0
        self._given = 0

        self._cursors: dict[Cursor, None] = {}  # a set that keeps its order
        self._waiting: dict[Cursor, asyncio.Future[None]] = {}
        self._floor = 0  # no byte at or above it may go, if lossless
        self._holders = 0  # cursors at the floor; it is worked out anew when the last of them has left it

        self.on_room: Callable[[], None] | None = None
        self._paused = False
        self._producers: list[asyncio.Future[None]] = []
        self._timer: Timer | None = None

        self._ended = False
        self._failure: str | None = None
        self._closed = False

    @property
    def start(self) -> int:
        """The offset of the first byte held."""
        return self._start

    @property
    def end_offset(self) -> int:
        """The offset past the last byte, which is the number of bytes ever written."""
        return self._end

    @property
    def given(self) -> int:
        """The highest offset up to which a reader has acknowledged bytes."""
        return self._given

    @property
    def ended(self) -> bool:
        """Whether no more bytes will come."""
        return self._ended

    @property
    def full(self) -> bool:
        """Whether the producer should pause."""
        return self._lossless and not self._closed and self._end - self._floor >= self._capacity

    @property
    def readers(self) -> int:
        """The number of readers attached."""
        return len(self._cursors)

    # The producer's side

    def write(self, chunk: bytes) -> bool:
        """Append a chunk, and say whether the producer may go on; if not, ``on_room`` is called once it may.

        The chunk is taken in any case. It is handed to the readers as it is, so it has to be immutable. A closed
        window takes it and forgets it.

        Raises:
            RuntimeError: the stream has ended.
        """
        if self._closed:
            return True
        if self._ended:
            raise RuntimeError(f"{len(chunk)} bytes were written at {self._end}, after the end of the stream")
        if chunk:
            chunks = self._chunks
            if chunks and len(chunks[-1]) + len(chunk) <= MERGE_BYTES:
                chunks[-1] += chunk
            else:
                self._offsets.append(self._end)
                chunks.append(chunk)
            self._end += len(chunk)
            if self._end - self._start > self._capacity:
                self._trim()
            if self._waiting:
                self._wake_readers()
        if self._lossless and self._end - self._floor >= self._capacity:
            self._pause()
            return False
        return True

    async def wait_room(self) -> None:
        """Return when the window is not full, has ended or is closed. Several producers may wait at once."""
        while self.full and not self._ended:
            self._pause()
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._producers.append(room)
            try:
                await room
            finally:
                if room in self._producers:
                    self._producers.remove(room)

    def end(self, failure: str | None = None) -> None:
        """Say that no more bytes come; with a failure, readers get every byte and then `StreamFailed`.

        What is held stays readable. Of several calls the first counts.
        """
        if self._ended:
            return
        self._ended = True
        self._failure = failure
        self._stop_watch()
        self._paused = False
        self._wake_readers()
        self._wake_producers()

    def end_readers(self) -> None:
        """Let every reader that is attached now end cleanly after the bytes written so far; the stream goes on.

        A reader that opens later is not concerned. Of several calls the first counts for a reader.
        """
        for cursor in self._cursors:
            if cursor._until is None:
                cursor._until = self._end
        self._wake_readers()

    def close(self) -> None:
        """Drop everything and cut every reader off with `WindowClosed`; a waiting producer may go on."""
        if self._closed:
            return
        self._closed = self._ended = True
        self._stop_watch()
        self._chunks.clear()
        self._offsets.clear()
        self._start = self._floor = self._end
        cut = [cursor for cursor in self._cursors if cursor not in self._waiting]
        for cursor in self._cursors:
            cursor._error = WindowClosed("the stream is gone: its Instance was removed")
        self._cursors.clear()
        self._wake_readers()
        for cursor in cut:
            cursor._tell_cut()
        self._give_room()

    # The readers' side

    def open(self, offset: Start = None) -> "Cursor":
        """Attach a reader at ``offset``: ``"earliest"`` held, ``"latest"`` (the end now) or an absolute one.

        Without an offset, a reader of a lossless window starts at the first byte that no reader has acknowledged:
        what nobody has had, or, beside another reader, where the foremost one is. That includes the chunk the other
        one is busy with, so nothing is lost should it never finish. A reader of any other window starts at the
        earliest byte held.

        Raises:
            OffsetOutOfRange: the offset is below the first byte held, or above the end.
            WindowClosed: the stream is gone.
        """
        if self._closed:
            raise WindowClosed("the stream is gone: its Instance was removed")
        match offset:
            case None:
                at = max(self._given, self._start) if self._lossless else self._start
            case "earliest":
                at = self._start
            case "latest":
                at = self._end
            case _:
                if not self._start <= offset <= self._end:
                    raise OffsetOutOfRange(offset, self._start, self._end)
                at = offset
        cursor = Cursor(self, at)
        self._cursors[cursor] = None
        self._find_floor()
        return cursor

    def tail(self, max_bytes: int) -> bytes:
        """Return the last bytes held, ``max_bytes`` at most."""
        first = max(self._start, self._end - max_bytes)
        if first >= self._end:
            return b""
        index, skip = self._locate(first)
        return b"".join(self._chunks[index:])[skip:]

    # Between the two

    def _locate(self, offset: int) -> tuple[int, int]:
        index = bisect_right(self._offsets, offset) - 1
        return index, offset - self._offsets[index]

    def _take(self, offset: int, max_bytes: int) -> bytes:
        index, skip = self._locate(offset)
        chunks = self._chunks
        # A slice or a join that spans exactly one whole chunk is that object again, not a copy.
        chunk = chunks[index][skip : skip + max_bytes]
        size = len(chunk)
        if size >= SHARE_BYTES or size == max_bytes or index + 1 == len(chunks):
            return chunk
        parts = [chunk]
        for following in range(index + 1, len(chunks)):
            chunk = chunks[following]
            size += len(chunk)
            if size > max_bytes or len(chunk) >= SHARE_BYTES:
                break
            parts.append(chunk)
        return b"".join(parts)

    def _whole_size(self, offset: int) -> int:
        index, skip = self._locate(offset)
        return len(self._chunks[index]) - skip

    def _trim(self) -> None:
        start = self._end - self._capacity
        if self._lossless and start > self._floor:
            start = self._floor
        if start <= self._start:
            return
        self._start = start
        whole = bisect_right(self._offsets, start) - 1
        if whole:
            del self._offsets[:whole]
            del self._chunks[:whole]

    def _acknowledged(self, cursor: "Cursor", before: int) -> None:
        if cursor._acknowledged > self._given:
            self._given = cursor._acknowledged
        if self._lossless and before == self._floor:
            self._holders -= 1
            if not self._holders:
                self._find_floor()

    def _find_floor(self) -> None:
        places = [cursor._acknowledged for cursor in self._cursors]
        self._floor = min(places, default=max(self._given, self._start))
        self._holders = places.count(self._floor)
        if self._end - self._start > self._capacity:
            self._trim()
        if self._paused and not self.full:
            self._give_room()

    def _detach(self, cursor: "Cursor") -> None:
        if cursor not in self._cursors:
            return
        del self._cursors[cursor]
        waiter = self._waiting.pop(cursor, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if len(self._cursors) < 2:
            self._stop_watch()  # a lone reader may take its time for ever
        self._find_floor()

    def _wake_readers(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            if not waiter.done():
                waiter.set_result(None)

    def _wake_producers(self) -> None:
        producers, self._producers = self._producers, []
        for room in producers:
            if not room.done():
                room.set_result(None)

    def _pause(self) -> None:
        self._paused = True
        if self._waiting and self._timer is None:
            self._start_watch()

    def _give_room(self) -> None:
        # Always the last step of a change: the producer may write before this returns.
        if self._paused:
            self._paused = False
            self._wake_producers()
            if self.on_room is not None:
                self.on_room()

    # Readers that hold up the others. A reader holds the window if its own unread bytes fill it, and it keeps doing
    # so until it takes some. There is a hold-up while the producer is paused and some reader waits for more; only
    # then is there a timer. It is not called off each time the slowest reader moves a little: what it finds counts.

    def _start_watch(self) -> None:
        for cursor in self._cursors:
            cursor._seen, cursor._idle_checks = cursor._progress(), 0
        self._schedule_check()

    def _schedule_check(self) -> None:
        call_later: CallLater = self._call_later or asyncio.get_running_loop().call_later
        self._timer = call_later(self._stall_timeout / STALL_CHECKS, self._check_readers)

    def _stop_watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_readers(self) -> None:
        self._timer = None
        if not (self._paused and self._waiting):
            return
        stalled: list[Cursor] = []
        for cursor in self._cursors:
            progress = cursor._progress()
            holds = not cursor.patient and self._end - cursor._acknowledged >= self._capacity
            cursor._idle_checks = cursor._idle_checks + 1 if holds and progress == cursor._seen else 0
            cursor._seen = progress
            if cursor._idle_checks >= STALL_CHECKS:
                stalled.append(cursor)
        self._schedule_check()
        for cursor in stalled:
            cursor._error = ReaderStalled(cursor._acknowledged, self._stall_timeout)
            self._detach(cursor)
            cursor._tell_cut()


class Cursor(AsyncIterator[bytes]):
    """One reader of a window; iterating it yields chunks until the stream ends. A ``with`` block closes it.

    A chunk counts as delivered, and the window may drop it, at the next `read` or at `acknowledge`. If the reader is
    closed before that, the next reader gets the chunk again.

    Attributes:
        on_cut: called when the window cuts the reader off while it is not waiting in `read`, so that whoever is
            busy with the last chunk can give up. The next `read` says why.
        patient: the window waits for this reader as long as it takes, and never cuts it off.
        unsent: tells how many of the bytes handed out have not been taken by the far end yet. With it, a far end
            that takes a big chunk slowly is not mistaken for one that takes nothing.
    """

    __slots__ = (
        "_acknowledged",
        "_error",
        "_idle_checks",
        "_missed",
        "_offset",
        "_seen",
        "_until",
        "_window",
        "on_cut",
        "patient",
        "unsent",
    )

    def __init__(self, window: Window, offset: int) -> None:
        self._window = window
        self._offset = offset
        self._acknowledged = offset
        self._missed = 0
        self._error: WindowError | None = None
        self._seen = -1
        self._idle_checks = 0
        self._until: int | None = None  # this reader's own end
        self.patient = False
        self.on_cut: Callable[[], None] | None = None
        self.unsent: Callable[[], int] | None = None

    @property
    def offset(self) -> int:
        """The offset of the next byte to be handed out."""
        return self._offset

    async def read(self, max_bytes: int = DEFAULT_READ) -> bytes:
        """Return the next bytes, waiting only if there are none; ``b""`` is the clean end.

        Shape: ``max_bytes`` at most, cut anywhere. A big chunk comes as it was written, small ones joined.

        Raises:
            StreamFailed: the stream ended in a failure, and all its bytes were returned before.
            ReaderStalled: this reader was cut off.
            WindowClosed: the stream, or this reader, is gone.
        """
        if max_bytes < 1:
            raise ValueError(f"a read takes at least one byte, not {max_bytes}")
        window = self._window
        if self._acknowledged != self._offset:
            self.acknowledge()
        while True:
            if self._error is not None:
                raise self._error
            if self._offset < window._start:
                self._missed += window._start - self._offset
                self._offset = self._acknowledged = window._start
            if self._until is not None and self._offset >= self._until:
                return b""
            if self._offset < window._end:
                if self._until is not None:
                    max_bytes = min(max_bytes, self._until - self._offset)
                chunk = window._take(self._offset, max_bytes)
                self._offset += len(chunk)
                return chunk
            if window._ended:
                if window._failure is not None:
                    raise StreamFailed(window._failure)
                return b""
            await self._more()

    async def read_pieces(self, max_bytes: int = DEFAULT_READ) -> list[bytes]:
        """Return what `read` does and, in pieces as they were written, what fits behind it; ``[b""]`` is the clean end.

        So a reader of big chunks gets several at once, and none of them is copied.

        Raises:
            WindowError: as `read` does.
        """
        pieces = [await self.read(max_bytes)]
        window = self._window
        end = window._end if self._until is None else min(window._end, self._until)
        room = max_bytes - len(pieces[0])
        while pieces[0] and self._offset < end:
            size = window._whole_size(self._offset)
            if size > room or self._offset + size > end:
                break  # a part of it would be a copy
            piece = window._take(self._offset, min(room, end - self._offset))
            self._offset += len(piece)
            room -= len(piece)
            pieces.append(piece)
        return pieces

    async def _more(self) -> None:
        window = self._window
        if self in window._waiting:
            raise RuntimeError("this reader is waiting already; open one cursor for each reader")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        window._waiting[self] = waiter
        if window._paused and window._timer is None:
            window._start_watch()
        try:
            await waiter
        finally:
            if window._waiting.get(self) is waiter:
                del window._waiting[self]

    def acknowledge(self) -> None:
        """Say that all bytes handed out so far were delivered."""
        before = self._acknowledged
        if before != self._offset and self._error is None:
            self._acknowledged = self._offset
            self._window._acknowledged(self, before)

    def take_missed(self) -> int:
        """Return the number of bytes dropped before this reader got them, and start counting anew.

        Asked after a `read`, the gap lies right before the chunk it returned. Always 0 if the window is lossless.
        """
        missed, self._missed = self._missed, 0
        return missed

    def close(self) -> None:
        """Detach the reader. The last chunk, unless acknowledged, is kept for the next one. Safe to call twice."""
        if self._error is None:
            self._error = WindowClosed("this reader is closed; open another one")
            self._window._detach(self)

    def _progress(self) -> int:
        # Grows when the reader comes for more, confirms what it got, or its far end takes some of it.
        unsent = 0 if self.unsent is None else self.unsent()
        return self._offset + self._acknowledged - unsent

    def _tell_cut(self) -> None:
        if self.on_cut is not None:
            self.on_cut()

    async def __anext__(self) -> bytes:
        chunk = await self.read()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
