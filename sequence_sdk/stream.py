"""``Stream``: items that come one after the other, and what can be done to them. The input of a Sequence is one.

Source: docs/streams.md.
"""

import asyncio
import inspect
import operator
import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Concatenate, Final, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from . import _stream_groups as groups
from . import _stream_ops as ops
from . import text
from ._stream_cores import (
    Batches,
    Called,
    Channel,
    Core,
    Fed,
    Iterated,
    MultipleEnd,
    StreamAlreadyConsumed,
    UnsupportedOperation,
    WriteAfterEnd,
    all_of,
    each_of,
    is_awaitable,
)
from ._stream_ops import ErrorPolicy
from .errors import InputUsedInLoop

__all__ = [
    "NOTHING",
    "ErrorPolicy",
    "MultipleEnd",
    "Stream",
    "StreamAlreadyConsumed",
    "StringStream",
    "UnsupportedOperation",
    "WriteAfterEnd",
]

T = TypeVar("T")
U = TypeVar("U")
D = TypeVar("D")
P = ParamSpec("P")
W = TypeVar("W", bound="Writable")

MAX_PARALLEL = 64  # items in flight, where nobody says otherwise


class _Nothing:
    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Final[Any] = _Nothing()
"""Stands for an item where there is none."""


class Writable(Protocol):
    """What ``write_to`` writes to: a file, a stream, an ``asyncio.StreamWriter``."""

    def write(self, item: Any, /) -> Any:
        """Take an item; what it returns is awaited if it can be."""


class Stream(AsyncIterator[T], Generic[T]):
    """Items in order, each once. Nothing happens before somebody reads.

    ``async for item in stream`` reads it; two loops one after the other share the items. A generator that is no coroutine runs
    in a thread of its own and reads with a plain ``for``. A method that returns a stream is the one consumer of this one, and
    so are ``to_list``, ``write_to`` and ``reduce``.

    Functions are plain or async and take further arguments behind the item. Up to ``max_parallel`` calls of an async function
    run at a time; what they return keeps the order of the items. An error of a function reaches the reader behind what was
    made of the items before it, and ends the stream.

    A cancelled wait, as in ``asyncio.wait_for(anext(stream), 1)``, loses no item. A stream that nobody holds any more is
    closed, and so is what runs for it; ``aclose()`` does that at once.
    """

    # --- making one ------------------------------------------------------------------------------------------------

    def __init__(self, max_parallel: int = MAX_PARALLEL) -> None:
        """Make a stream that items are written to, with ``write`` and ``end``."""
        channel = Channel(_checked(max_parallel))
        self._begin(channel, max_parallel, at_once=1, channel=channel)

    def _begin(
        self,
        core: Core,
        max_parallel: int,
        *,
        policy: ErrorPolicy | None = None,
        at_once: int | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        channel: Channel | None = None,
    ) -> None:
        self._core = core
        self._max_parallel = max_parallel
        self._policy = policy
        self._at_once = (
            at_once or max_parallel
        )  # items that one read asks for; those written are given one by one
        self._loop = loop or _running_loop()
        self._channel = channel
        self._pipe: groups.Pipe | None = None
        self._reading = asyncio.Lock()
        self._consumed = False
        self._over = False
        # one iterator for all readers, in tasks and threads: each takes its item in a single step
        self._items: Iterator[T] = iter(())
        self._rest: Iterator[T] = iter(())  # of the batch that the consumer takes from, once there is one
        self._loaded = 0
        self._batch: list[T] = []  # the newest one
        self._before: Any = NOTHING  # the last item given before that batch
        self._left: list[T] = []  # in the batch when the stream was closed

    @classmethod
    def _of(
        cls,
        core: Core,
        max_parallel: int,
        *,
        policy: ErrorPolicy | None = None,
        at_once: int | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        channel: Channel | None = None,
    ) -> Any:
        stream = cls.__new__(cls)
        stream._begin(core, max_parallel, policy=policy, at_once=at_once, loop=loop, channel=channel)
        return stream

    def _derive(self, core: Core) -> "Stream[Any]":
        stream: Stream[Any] = Stream._of(core, self._max_parallel, **self._inherited())
        return stream

    def _derive_text(self, core: Core) -> "StringStream":
        stream: StringStream = StringStream._of(core, self._max_parallel, **self._inherited())
        return stream

    def _derive_same(self, core: Core) -> Self:
        stream: Self = self._of(core, self._max_parallel, **self._inherited())
        stream._cut = self._cut
        return stream

    def _inherited(self) -> dict[str, Any]:
        return {
            "policy": self._policy,
            "at_once": self._at_once,
            "loop": self._loop,
            "channel": self._channel,
        }

    @classmethod
    def from_batches(
        cls,
        next_batch: Callable[[], Awaitable[list[T] | None]],
        *,
        max_parallel: int = MAX_PARALLEL,
        policy: ErrorPolicy | None = None,
    ) -> "Stream[T]":
        """Return a stream of batches of items that a function gives; None is the end.

        ``next_batch`` runs in the event loop, one call at a time, and may raise what the reader is to see. It loses no
        item when it is cancelled, and is not called again after the end.

        Args:
            next_batch: gives the items.
            max_parallel: how many items are in flight at most.
            policy: what becomes of items whose function fails, in this stream and those made of it.
        """
        stream: Stream[T] = cls._of(Batches(next_batch), _checked(max_parallel), policy=policy)
        return stream

    @classmethod
    def read_from(
        cls, source: Any, max_parallel: int = MAX_PARALLEL, chunk_size: int | None = None
    ) -> "Stream[Any]":
        """Return a stream of what an iterable or async iterable gives, or of chunks that a file's ``read`` returns.

        Chunks end with an empty one, and are cut anywhere.

        Raises:
            UnsupportedOperation: the source can be neither iterated nor, if there is a ``chunk_size``, read.
        """
        if chunk_size is None:
            return cls.from_iterable(source, max_parallel)
        read = getattr(source, "read", None)
        if not callable(read):
            raise UnsupportedOperation(
                f"chunk_size goes with a source that has read(), and {_named(source)} has none"
            )
        core = Called(partial(read, chunk_size), operator.not_, _checked(max_parallel), at_once=1)
        stream: Stream[Any] = cls._of(core, max_parallel)
        stream._cut = True
        return stream

    @classmethod
    def from_iterable(
        cls, iterable: Iterable[U] | AsyncIterable[U], max_parallel: int = MAX_PARALLEL
    ) -> "Stream[U]":
        """Return a stream of what an iterable or async iterable gives; up to ``max_parallel`` items are asked for at a time.

        An async iterable is read in one task of its own.

        Raises:
            UnsupportedOperation: it cannot be iterated.
        """
        _checked(max_parallel)
        core: Core
        if isinstance(iterable, Stream):
            core = Fed(max_parallel, all_of(iterable._consume(), max_parallel))
        elif isinstance(iterable, AsyncIterable):
            core = Fed(max_parallel, each_of(iterable))
        else:
            try:
                core = Iterated(iter(iterable))
            except TypeError as error:
                raise UnsupportedOperation(
                    f"{_named(iterable)} cannot be iterated; "
                    "a source that has read() is read in chunks if there is a chunk_size"
                ) from error
        stream: Stream[U] = cls._of(core, max_parallel)
        return stream

    @classmethod
    def from_callback(
        cls,
        max_parallel: int,
        callback: Callable[P, Awaitable[U | None]] | Callable[P, U | None],
        *args: P.args,
        **options: P.kwargs,
    ) -> "Stream[U]":
        """Return a stream of what a function returns, call by call.

        It ends with None, empty text or no bytes, or when the function raises StopIteration.
        An async function is awaited before it is called again.
        """
        call = partial(callback, *args, **options)
        core = Called(call, _is_end, _checked(max_parallel), at_once=max_parallel)
        stream: Stream[U] = cls._of(core, max_parallel)
        return stream

    # --- reading one by one ----------------------------------------------------------------------------------------

    _cut = False  # items are chunks of something, cut anywhere

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which loop the stream runs in, for readers in other threads, when none ran at the start."""
        self._loop = loop

    def __aiter__(self) -> Self:
        if self._consumed:
            raise StreamAlreadyConsumed
        return self

    async def __anext__(self) -> T:
        for item in self._items:
            return item
        async with self._reading:  # two tasks that read at once take turns
            while True:
                for item in self._items:
                    return item
                if self._consumed:
                    raise StreamAlreadyConsumed
                if not await self._refill():
                    raise StopAsyncIteration

    @overload
    async def read(self) -> T | None: ...
    @overload
    async def read(self, default: D) -> T | D: ...
    async def read(self, default: Any = None) -> Any:
        """Return the next item; at the end ``default``, which tells the end from an item that is None."""
        return await anext(self, default)

    def __iter__(self) -> Iterator[T]:
        if self._consumed:
            raise StreamAlreadyConsumed
        if _running_loop() is not None:
            raise InputUsedInLoop
        if self._loop is None:
            raise RuntimeError("no event loop feeds this stream: make it in a coroutine, or bind() it")
        while True:
            yield from self._items  # a loop that is left half way leaves the rest of the batch to the next one
            more = self._more()
            try:
                if not asyncio.run_coroutine_threadsafe(more, self._loop).result():
                    return
            except RuntimeError:
                more.close()  # the loop may be closed by now, and nobody else will run it
                raise

    async def _more(self) -> bool:
        """Tell a thread whether there are items for it, when there are."""
        async with self._reading:
            if self._consumed:
                raise StreamAlreadyConsumed
            return operator.length_hint(self._items) > 0 or await self._refill()

    async def _refill(self) -> bool:
        """Take the next batch in place of the one that is used up; return whether there was one."""
        batch = await self._next(self._at_once)
        if batch is None:
            return False
        self._items = iter(batch)
        return True

    async def _next(self, limit: int) -> list[Any] | None:
        if self._over:
            return None
        batch = await self._core.next_batch(limit)
        if batch is None:
            self._over = True
        elif batch:
            if self._batch:
                self._before = self._batch[-1]
            self._batch = batch
            self._loaded += len(batch)
        return batch

    # --- what has been read ----------------------------------------------------------------------------------------

    @property
    def given(self) -> int:
        """How many items readers have been given so far."""
        return self._loaded - operator.length_hint(self._items) - operator.length_hint(self._rest)

    @property
    def current(self) -> Any:
        """The newest item that a reader has been given, or ``NOTHING``."""
        unread = operator.length_hint(self._items) + operator.length_hint(self._rest)
        return self._batch[-1 - unread] if unread < len(self._batch) else self._before

    def release(self) -> list[T]:
        """Take back the items of the newest batch that no reader has been given, and return them."""
        self._put_by()
        left, self._left = self._left, []
        return left

    def _put_by(self) -> None:
        self._before = self.current
        left = [*self._items, *self._rest]
        self._left += left
        self._loaded -= len(left)
        self._batch = []

    # --- the one consumer ------------------------------------------------------------------------------------------

    def _consume(self) -> Self:
        """Return this stream for its one consumer, who has the rest of a batch that was read in part."""
        if self._consumed:
            raise StreamAlreadyConsumed
        self._consumed = True
        self._rest, self._items = self._items, self._rest
        return self

    async def take(self, limit: int) -> list[T] | None:
        """Return up to ``limit`` items to what has consumed this stream, None at the end; cancelled, it loses none.

        It is how streams read each other; ``async for``, ``read`` and ``to_list`` are for everybody.
        """
        if self._reading.locked():
            async with self._reading:  # who began to read before has an item first, and leaves the others
                self._rest, self._items = self._items, self._rest
        items = list(islice(self._rest, limit))
        while not items:
            batch = await self._next(limit)
            if batch is None:
                return None
            if len(batch) <= limit:
                items = batch
            else:
                self._rest = iter(batch)
                items = list(islice(self._rest, limit))
        return items

    def ready(self, limit: int) -> list[T]:
        """Return up to ``limit`` items that are there, to what has consumed this stream."""
        return list(islice(self._rest, limit))

    async def aclose(self) -> None:
        """Close the stream and those it is made of: cancel what runs for them, and wait until it has ended.

        Who reads sees the end. Safe to call twice.
        """
        self._over = True
        self._put_by()
        await self._core.aclose()

    def __del__(self) -> None:
        core = getattr(self, "_core", None)  # the loop may be gone, and so may half of this object
        if core is not None:
            core.abandon()

    # --- writing ---------------------------------------------------------------------------------------------------

    def write(self, chunk: Any) -> asyncio.Future[bool]:
        """Write an item; await what is returned to wait until there is room for another one.

        There is room while fewer than ``max_parallel`` items wait to be read. An item is written whether or not that is
        awaited; it gives True, or False if the stream is closed meanwhile. To a stream made of one that is written to, by
        ``map`` and the like, items are written at the top.

        Raises:
            WriteAfterEnd: the stream has ended.
            UnsupportedOperation: its items come from elsewhere.
        """
        channel = self._writable("written to")
        channel.add(chunk)
        return channel.space()

    def end(self) -> None:
        """Let the readers of what was written see the end.

        Raises:
            MultipleEnd: it has ended.
            UnsupportedOperation: its items come from elsewhere.
        """
        channel = self._writable("ended")
        if channel.ended:
            raise MultipleEnd
        channel.end()

    def _writable(self, what: str) -> Channel:
        if self._channel is None:
            raise UnsupportedOperation(
                f"this stream cannot be {what}: its items come from elsewhere; merge() joins streams, "
                "and Stream() makes one to write to"
            )
        return self._channel

    # --- a function for each item ----------------------------------------------------------------------------------

    @overload
    def map(self, func: Callable[[T], Awaitable[U]]) -> "Stream[U]": ...
    @overload
    def map(self, func: Callable[[T], U]) -> "Stream[U]": ...
    @overload
    def map(
        self, func: Callable[Concatenate[T, P], Awaitable[U]], *args: P.args, **options: P.kwargs
    ) -> "Stream[U]": ...
    @overload
    def map(
        self, func: Callable[Concatenate[T, P], U], *args: P.args, **options: P.kwargs
    ) -> "Stream[U]": ...
    def map(self, func: Callable[..., Any], *args: Any, **options: Any) -> "Stream[Any]":
        """Return a stream of what a function makes of each item."""
        return self._derive(self._mapped(_call(func, args, options), ops.RESULTS))

    def each(self, func: Callable[Concatenate[T, P], object], *args: P.args, **options: P.kwargs) -> Self:
        """Return a stream of the same items, each after a function has been called with it, and awaited."""
        return self._derive_same(self._mapped(_call(func, args, options), ops.ITEMS))

    def filter(self, func: Callable[Concatenate[T, P], object], *args: P.args, **options: P.kwargs) -> Self:
        """Return a stream of the items for which a function returns something true."""
        return self._derive_same(self._mapped(_call(func, args, options), ops.CHOSEN))

    def flatmap(
        self,
        func: Callable[
            Concatenate[T, P],
            Iterable[U] | AsyncIterable[U] | Awaitable[Iterable[U]] | Awaitable[AsyncIterable[U]],
        ],
        *args: P.args,
        **options: P.kwargs,
    ) -> "Stream[U]":
        """Return a stream of all that the results of a function hold: lists, generators, async generators, streams.

        Each is read no faster than its items are wanted, so it may be endless.
        """
        pairs = self._mapped(_call(func, args, options), ops.PAIRS)
        return self._derive(ops.Flat(pairs, self._policy, self._opened))

    def _opened(self, source: AsyncIterable[Any]) -> "Stream[Any]":
        return Stream.from_iterable(source, self._max_parallel)._consume()

    def parse(
        self, func: Callable[Concatenate[T, P], Any], *args: P.args, **options: P.kwargs
    ) -> "Stream[Any]":
        """Return a stream of the values that a function makes of text, as ``map`` does."""
        return self._derive(self._mapped(_call(func, args, options), ops.RESULTS))

    @overload
    def retry(
        self,
        func: Callable[[T], Awaitable[U]],
        *args: Any,
        attempts: int = 3,
        delay: float = 0.1,
        backoff: float = 2.0,
        on: type[Exception] | tuple[type[Exception], ...] = Exception,
    ) -> "Stream[U]": ...
    @overload
    def retry(
        self,
        func: Callable[..., Awaitable[U]] | Callable[..., U],
        *args: Any,
        attempts: int = 3,
        delay: float = 0.1,
        backoff: float = 2.0,
        on: type[Exception] | tuple[type[Exception], ...] = Exception,
    ) -> "Stream[U]": ...
    def retry(
        self,
        func: Callable[..., Any],
        *args: Any,
        attempts: int = 3,
        delay: float = 0.1,
        backoff: float = 2.0,
        on: type[Exception] | tuple[type[Exception], ...] = Exception,
    ) -> "Stream[Any]":
        """Return a stream of what a function makes of each item, as ``map`` does; a call that fails is made again.

        The first new call comes after ``delay`` seconds, each further one after ``backoff`` times as long as the one before.

        Args:
            func: the function.
            args: what it gets behind the item.
            attempts: how many calls are made at most; the error of the last one counts.
            delay: seconds before the second call.
            backoff: by how much the delay grows.
            on: the errors that are worth another call.

        Raises:
            ValueError: ``attempts`` is not positive, or ``delay`` is negative.
        """
        if attempts < 1 or not delay >= 0:
            raise ValueError(f"retry(): attempts is {attempts} and delay is {delay}; 1 and 0 are the least")
        call = ops.Retried(_call(func, args, {}), attempts, delay, backoff, on)
        return self._derive(self._mapped(call, ops.RESULTS))

    def to_thread(
        self, func: Callable[Concatenate[T, P], U], *args: P.args, **options: P.kwargs
    ) -> "Stream[U]":
        """Return a stream of what a blocking function makes of each item, in up to ``max_parallel`` threads.

        A call that has begun cannot be cancelled: when the stream is closed, it ends unheard.
        """
        call = ops.Threaded(_call(func, args, options), self._max_parallel)
        return self._derive(self._mapped(call, ops.RESULTS))

    def _mapped(self, call: Callable[[Any], Any], choice: ops.Choice) -> ops.Mapped:
        return ops.Mapped(self._consume(), self._policy, call, choice, self._max_parallel)

    # --- several items at a time -----------------------------------------------------------------------------------

    def batch(
        self, func: Callable[Concatenate[T, P], object], *args: P.args, **options: P.kwargs
    ) -> "Stream[list[T]]":
        """Return a stream of lists; one ends behind the item for which a function returns something true."""
        pairs = self._mapped(_call(func, args, options), ops.CHECKED_PAIRS)
        return self._derive(groups.Batched(ops.CoreUpstream(pairs), pairs.abandon))

    def sequence(
        self,
        sequencer: Callable[[Any, T], Iterable[U] | Awaitable[Iterable[U]]],
        initial: Any = None,
    ) -> "Stream[U]":
        """Return a stream that is cut in another way: a function makes parts of what is left over and the next item.

        All parts but the last go on; the last is what is left over for the next call, and goes on at the end, if it is true.
        ``initial`` is what is left over at the start.
        """
        return self._derive(groups.Sequenced(self._consume(), self._policy, sequencer, initial))

    def window(self, count: int | None = None, seconds: float | None = None) -> "Stream[list[T]]":
        """Return a stream of lists of ``count`` items, or of those that come within ``seconds``, whatever is first.

        The time of a list begins with its first item, so no list is empty. The last one may be shorter.

        Raises:
            ValueError: neither is given, or one is not positive.
        """
        if count is None and seconds is None:
            raise ValueError("window() needs a count, or seconds, or both")
        if count is not None and count < 1:
            raise ValueError(f"window(): count is {count}, and a list has at least 1 item")
        if seconds is not None:
            _positive("window", seconds)
        return self._derive(groups.Windowed(self._consume(), count, seconds))

    # --- text ------------------------------------------------------------------------------------------------------

    def decode(self: "Stream[bytes]", encoding: str = "utf-8", errors: str = "strict") -> "StringStream":
        """Return a stream of text that is made of bytes, however they are cut; no character is cut in two.

        ``errors`` says what is done about wrong bytes, as in ``bytes.decode``.

        Raises:
            LookupError: there is no such encoding.
        """
        decoder = text.TextDecoder(encoding, errors)
        stream = self._derive_text(groups.Texts(self._consume(), self._policy, decoder))
        stream._cut = True
        return stream

    def split(self: "Stream[str]", separator: str | None = None) -> "StringStream":
        """Return a stream of the parts of the whole text between separators, or of its words where none is given.

        Where items end does not matter: a part may begin in one and end in another. Nothing stands for what is behind
        the last separator, if that is empty.

        Raises:
            ValueError: the separator is empty.
        """
        splitter = text.WordSplitter() if separator is None else text.Splitter(separator)
        return self._derive_text(groups.Texts(self._consume(), self._policy, splitter))

    def match(self: "Stream[str]", pattern: str | re.Pattern[str]) -> "StringStream":
        """Return a stream of what a pattern finds in each item, or of its groups, one by one, where it has any.

        In text that is cut anywhere, which ``decode`` and ``read_from`` with a ``chunk_size`` give, the pattern sees whole
        lines, each with its line end.
        """
        matcher = text.Matcher(pattern, lines=self._cut)
        return self._derive_text(groups.Texts(self._consume(), self._policy, matcher))

    # --- time ------------------------------------------------------------------------------------------------------

    def rate_limit(self, count: int, seconds: float = 1.0) -> Self:
        """Return a stream of the same items, no more than ``count`` of them in any span of ``seconds``.

        Raises:
            ValueError: one of them is not positive.
        """
        if count < 1:
            raise ValueError(f"rate_limit(): count is {count}, and nothing would ever pass")
        _positive("rate_limit", seconds)
        return self._derive_same(groups.Rated(self._consume(), count, seconds))

    def timeout(self, seconds: float) -> Self:
        """Return a stream of the same items that raises TimeoutError when a reader has waited for ``seconds``.

        Who reads again waits again: no item is lost.

        Raises:
            ValueError: ``seconds`` is not positive.
        """
        _positive("timeout", seconds)
        return self._derive_same(groups.Timed(self._consume(), seconds))

    # --- several streams -------------------------------------------------------------------------------------------

    def use(self, func: Callable[Concatenate[Self, P], U], *args: P.args, **options: P.kwargs) -> U:
        """Return what a function makes of the whole stream."""
        return func(self, *args, **options)

    def merge(self, *others: Iterable[U] | AsyncIterable[U]) -> "Stream[T | U]":
        """Return a stream of the items of this one and of others, as they come; those of each keep their order.

        It ends when all have ended. An error of one ends it, behind the items that came before.
        """
        streams = [
            other if isinstance(other, Stream) else Stream.from_iterable(other, self._max_parallel)
            for other in others
        ]
        consumed = [stream._consume() for stream in (self, *streams)]
        feeds = (all_of(stream, self._max_parallel) for stream in consumed)
        return self._derive(Fed(self._max_parallel, *feeds))

    def tee(self, count: int = 2) -> tuple[Self, ...]:
        """Return ``count`` streams, each of all the items.

        One can be ahead of the slowest by ``max_parallel`` items; one that is closed, or that nobody holds any more, does
        not hold up the others. A stream that is held and not read does.

        Raises:
            ValueError: ``count`` is not positive.
        """
        if count < 1:
            raise ValueError(f"tee(): count is {count}, and there is at least 1 stream")
        trunk = groups.Trunk(self._consume(), count, self._max_parallel)
        return tuple(self._derive_same(branch) for branch in trunk.branches)

    def pipe(self, target: "Stream[Any]", end: bool = True) -> "Stream[Any]":
        """Write all items to a stream made by ``Stream()``, from now on, and return that stream.

        Several targets get the same items, as fast as the slowest one is read. ``end`` says whether the target ends with
        this stream. An error ends the target, which raises it.

        Raises:
            UnsupportedOperation: the target is no stream, or its items come from elsewhere.
            StreamAlreadyConsumed: this stream has another consumer.
        """
        if not isinstance(target, Stream):
            raise UnsupportedOperation(
                f"pipe() writes to a stream, not to {_named(target)}: see write_to() for files"
            )
        channel = target._writable("piped to")
        if self._pipe is None:
            self._pipe = groups.Pipe(self._consume(), self._max_parallel)
        self._pipe.attach(channel, end)
        return target

    def unpipe(self, target: "Stream[Any] | None" = None) -> Self:
        """Write no more items to a target, or to any; return this stream. Without a target the items wait for the next one."""
        if self._pipe is not None:
            self._pipe.detach(None if target is None else target._writable("piped to"))
        return self

    # --- the end of it ---------------------------------------------------------------------------------------------

    async def to_list(self) -> list[T]:
        """Return all items."""
        items: list[T] = []
        await self._for_batches(items.extend)
        return items

    async def write_to(self, target: W) -> W:
        """Write all items to something that has ``write``, and return that.

        What ``write`` returns is awaited if it can be; where there is a ``drain``, as an ``asyncio.StreamWriter`` has, it is
        awaited too. The target is neither ended nor closed.

        Raises:
            UnsupportedOperation: the target has no ``write``.
        """
        write = getattr(target, "write", None)
        if not callable(write):
            raise UnsupportedOperation(
                f"write_to() needs something that has write(), and {_named(target)} has none"
            )
        drain = getattr(target, "drain", None)

        async def write_all(items: list[T]) -> None:
            for item in items:
                written = write(item)
                if inspect.isawaitable(written):
                    await written
            if drain is not None:
                await drain()  # of an asyncio.StreamWriter

        await self._for_batches(write_all)
        return target

    async def reduce(self, func: Callable[[Any, T], Any], initial: Any = None) -> Any:
        """Return what a function makes of ``initial`` and the first item, of that and the second, and so on.

        Without ``initial`` it begins with the first item. Without any item the result is ``initial``.
        """
        outcome, begun = initial, initial is not None

        async def reduce_all(items: list[T]) -> None:
            nonlocal outcome, begun
            for item in items:
                if begun:
                    outcome = func(outcome, item)
                    if is_awaitable(outcome):
                        outcome = await outcome
                else:
                    outcome, begun = item, True

        await self._for_batches(reduce_all)
        return outcome

    async def _for_batches(self, function: Callable[[list[T]], Any]) -> None:
        """Be the consumer of the stream; close it if anything goes wrong, or this is cancelled."""
        self._consume()
        try:
            while (items := await self.take(self._max_parallel)) is not None:
                done = function(items)
                if inspect.iscoroutine(done):
                    await done
        except BaseException:
            await self.aclose()
            raise


class StringStream(Stream[str]):
    """A stream of text, as ``decode``, ``split`` and ``match`` return it. It has no methods of its own."""


def _call(
    function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
) -> Callable[[Any], Any]:
    """Return a function of the item alone."""
    if not callable(function):
        raise TypeError(f"a function is needed here, and {_named(function)} is none")
    if not args and not options:
        return function
    return lambda item: function(item, *args, **options)


def _checked(max_parallel: int) -> int:
    if max_parallel < 1:
        raise ValueError(f"max_parallel is {max_parallel}, and at least 1 item has to be in flight")
    return max_parallel


def _positive(method: str, seconds: float) -> None:
    if not seconds > 0:
        raise ValueError(f"{method}(): seconds is {seconds}, and a time is longer than 0")


def _named(thing: object) -> str:
    return f"an object of type {type(thing).__name__}"


def _is_end(item: object) -> bool:
    return item is None or (isinstance(item, (str, bytes)) and not item)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
