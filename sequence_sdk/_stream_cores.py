"""Where the items of a stream come from: each core gives batches to the one stream that it belongs to.

A core never refers to its stream. So a stream that nobody holds any more goes at once, and takes the tasks of its core along.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterator
from itertools import islice
from types import GeneratorType
from typing import Any, Protocol

from .errors import SequenceError


class StreamAlreadyConsumed(SequenceError):
    """A stream has a consumer already, and takes no second one."""

    def __str__(self) -> str:
        return "this stream has a consumer already: go on with what that call returned, or read the items twice with tee()"


class UnsupportedOperation(SequenceError):
    """A stream cannot be made of this, or cannot do that; ``str()`` of it says why."""


class WriteAfterEnd(SequenceError):
    """Something is written to a stream after its end."""

    def __str__(self) -> str:
        return "the stream has ended or was closed: nothing can be written to it any more"


class MultipleEnd(SequenceError):
    """A stream is ended for the second time."""

    def __str__(self) -> str:
        return "the stream has been ended already"


class Upstream(Protocol):
    """What a core takes items from: a stream, seen by its consumer."""

    async def take(self, limit: int, /) -> list[Any] | None:
        """Return up to ``limit`` items, None at the end. A cancelled wait loses no item."""

    async def aclose(self) -> None:
        """Close it."""


class Buffered(Upstream, Protocol):
    """An upstream that may have items at hand."""

    def ready(self, limit: int, /) -> list[Any]:
        """Return up to ``limit`` items that are there without a wait."""
        ...


class Core(ABC):
    """Gives batches of items. One call at a time; a cancelled one loses no item."""

    @abstractmethod
    async def next_batch(self, limit: int, /) -> list[Any] | None:
        """Return the next items, best no more than ``limit``, and perhaps none yet; None at the end, and after it."""

    async def aclose(self) -> None:  # noqa: B027 - most have nothing that runs
        """Cancel what runs for this core and wait until it has ended. The end comes next. Safe to call twice."""

    def abandon(self) -> None:  # noqa: B027
        """Let go of what runs for this core: nobody reads it any more. Any thread may call it."""


class Batches(Core):
    """Batches that a function gives, of any size; its errors do not end the stream."""

    def __init__(self, function: Callable[[], Awaitable[list[Any] | None]]) -> None:
        self._function = function

    async def next_batch(self, limit: int, /) -> list[Any] | None:
        return await self._function()


class Iterated(Core):
    """Items of an iterator, asked for as many at a time as are wanted."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator: Iterator[Any] = iterator
        self._failure: Exception | None = None

    async def next_batch(self, limit: int, /) -> list[Any] | None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        items: list[Any] = []
        try:
            items.extend(islice(self._iterator, limit))  # keeps what came before an error
        except Exception as error:
            if not items:
                raise
            self._failure = error
        return items or None

    async def aclose(self) -> None:
        iterator, self._iterator = self._iterator, iter(())
        self._failure = None
        if isinstance(iterator, GeneratorType):
            iterator.close()


class Channel(Core):
    """A bounded place between writers and a reader: what is written waits here until it is read.

    Writers are asked, not forced, to wait: what they write without waiting is kept.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._items: deque[Any] = deque()
        self._written = 0
        self._taken = 0
        self._writers: deque[tuple[int, asyncio.Future[bool]]] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: Exception | None = None
        self.ended = False
        self.closed = False  # nobody reads any more
        self._watchers: list[Callable[[Channel], None]] = []

    # --- writers ---------------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether a writer is to wait before it writes more."""
        on_its_way = (
            self._reader is not None and self._reader.done()
        )  # a reader who waited has one of them as good as read
        return self._written - self._taken - on_its_way >= self._room

    def add(self, *items: Any) -> None:
        """Keep items for the reader.

        Raises:
            WriteAfterEnd: nobody will read them.
        """
        if self.ended:
            raise WriteAfterEnd
        self._loop = self._loop or asyncio.get_running_loop()
        self._items += items
        self._written += len(items)
        self._wake_reader()

    def space(self) -> asyncio.Future[bool]:
        """Return what is done when fewer items are unread than there is room for, counted up to the newest one now.

        It gives True, or False when nobody will read any more.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.closed or not self.full:
            future.set_result(not self.closed)
        else:
            self._writers.append((self._written, future))
        return future

    def end(self) -> None:
        """Let the reader see the end after what was written."""
        self.ended = True
        self._wake_reader()

    def fail(self, error: Exception) -> None:
        """Let the reader see an error, and then the end, after what was written."""
        self._failure = error
        self.end()

    def watch(self, loop: asyncio.AbstractEventLoop, watcher: Callable[["Channel"], None]) -> None:
        """Call a function in the loop when nobody will read any more."""
        self._loop = loop
        self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[["Channel"], None]) -> None:
        """Do not call it any more."""
        self._watchers.remove(watcher)

    # --- reader ----------------------------------------------------------------------------------------------------

    async def next_batch(self, limit: int, /) -> list[Any] | None:
        while not self._items:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            if self.ended:
                return None
            self._loop = asyncio.get_running_loop()
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        batch = [self._items.popleft() for _ in range(min(limit, len(self._items)))]
        self._taken += len(batch)
        while self._writers and self._writers[0][0] - self._taken < self._room:
            self._answer(self._writers.popleft()[1], True)
        return batch

    async def aclose(self) -> None:
        self._close()

    def abandon(self) -> None:
        if self._loop is not None:
            call_soon(self._loop, self._close)

    def _close(self) -> None:
        self.closed = self.ended = True
        self._failure = None
        self._items.clear()
        while self._writers:
            self._answer(self._writers.popleft()[1], False)
        self._wake_reader()
        for watcher in list(self._watchers):
            watcher(self)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    @staticmethod
    def _answer(writer: asyncio.Future[bool], answer: bool) -> None:
        if not writer.done():  # who waits may have been cancelled
            writer.set_result(answer)


Feed = Callable[[Channel], Coroutine[Any, Any, None]]


class Fed(Core):
    """Items that tasks bring, each in a task of its own for all its life; they begin when somebody reads.

    So a cancelled read never breaks off what brings the items.
    """

    def __init__(self, room: int, *feeds: Feed) -> None:
        self._channel = Channel(room)
        self._feeds = feeds
        self._tasks: list[asyncio.Task[None]] = []
        self._running = len(feeds)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def next_batch(self, limit: int, /) -> list[Any] | None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._tasks = [self._loop.create_task(self._run(feed)) for feed in self._feeds]
        return await self._channel.next_batch(limit)

    async def _run(self, feed: Feed) -> None:
        try:
            await feed(self._channel)
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader is told
            if not self._channel.ended:
                self._channel.fail(error)
                current = asyncio.current_task()
                self._cancel(*(task for task in self._tasks if task is not current))
        else:
            self._running -= 1
            if self._running == 0 and not self._channel.ended:
                self._channel.end()

    async def aclose(self) -> None:
        await self._channel.aclose()
        self._loop = self._loop or asyncio.get_running_loop()  # feeds that have not begun never will
        self._cancel(*self._tasks)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def abandon(self) -> None:
        if self._loop is not None:
            call_soon(self._loop, self._cancel, *self._tasks)

    @staticmethod
    def _cancel(*tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            cancel(task)


class Called(Core):
    """What a function returns, call by call, until it returns the end. An async function is called in a task."""

    def __init__(
        self, function: Callable[[], Any], is_end: Callable[[Any], bool], room: int, at_once: int
    ) -> None:
        self._function = function
        self._is_end = is_end
        self._room = room
        self._at_once = at_once
        self._failure: Exception | None = None
        self._ended = False
        self._fed: Fed | None = None

    async def next_batch(self, limit: int, /) -> list[Any] | None:
        if self._fed is None:
            items = self._call(min(limit, self._at_once))
            if items:
                return items
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
        if self._fed is not None:
            return await self._fed.next_batch(limit)
        return None

    def _call(self, count: int) -> list[Any]:
        items: list[Any] = []
        while len(items) < count and not self._ended:
            try:
                result = self._function()
            except StopIteration:
                self._ended = True
            except Exception as error:  # noqa: BLE001 - it stands behind the items before it
                self._ended = True
                self._failure = error
            else:
                if is_awaitable(result):
                    self._ended = True
                    self._fed = Fed(self._room, _Calls(self._function, self._is_end, result))
                elif self._is_end(result):
                    self._ended = True
                else:
                    items.append(result)
        return items

    async def aclose(self) -> None:
        self._ended = True
        self._failure = None
        if self._fed is not None:
            await self._fed.aclose()

    def abandon(self) -> None:
        if self._fed is not None:
            self._fed.abandon()


class _Calls:
    """Feeds a channel from an async function whose first call is made."""

    def __init__(self, function: Callable[[], Any], is_end: Callable[[Any], bool], first: Any) -> None:
        self._function = function
        self._is_end = is_end
        self._next: Any = first

    async def __call__(self, channel: Channel) -> None:
        with contextlib.suppress(StopAsyncIteration):
            while not self._is_end(item := await self._next):
                channel.add(item)
                if channel.full:
                    await channel.space()
                self._next = self._function()

    def __del__(self) -> None:
        close = getattr(self._next, "close", None)
        if close is not None:  # of a coroutine that may never have begun, because nobody reads any more
            close()


def each_of(source: AsyncIterable[Any]) -> Feed:
    """Return a feed of an async iterable; a generator is closed when it is not read to its end."""

    async def feed(channel: Channel) -> None:
        iterator = aiter(source)
        try:
            async for item in iterator:
                channel.add(item)
                if channel.full:
                    await channel.space()
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    return feed


def all_of(upstream: Upstream, limit: int) -> Feed:
    """Return a feed of a stream."""

    async def feed(channel: Channel) -> None:
        try:
            while (items := await upstream.take(limit)) is not None:
                channel.add(*items)
                if channel.full:
                    await channel.space()
        finally:
            await upstream.aclose()

    return feed


def seen(future: asyncio.Future[Any]) -> None:
    """Look at the error of a future, so that nobody complains if no one else ever does."""
    if not future.cancelled():
        future.exception()


def cancel(future: asyncio.Future[Any]) -> None:
    """Cancel a future, but not a task that has been told so and may be clearing up."""
    if not isinstance(future, asyncio.Task) or not future.cancelling():
        future.cancel()


def is_awaitable(value: Any) -> bool:
    """Tell whether to await what a function has returned."""
    return hasattr(type(value), "__await__")


def call_soon(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    """Call a function in the loop, if that still runs, from any thread."""
    with contextlib.suppress(RuntimeError):  # it is closed, and all of its tasks are gone
        loop.call_soon_threadsafe(function, *args)
