"""What is done to the items of a stream: cores that take items from a stream and give others."""

import asyncio
import contextvars
import operator
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import compress, islice
from typing import Any, Protocol

from ._stream_cores import Buffered, Core, Upstream, call_soon, cancel, is_awaitable, seen


class ErrorPolicy(Protocol):
    """Says what happens to an item whose function raised an error."""

    def rejected(self, item: Any, error: Exception) -> bool:
        """Take note of the item; return True to go on without it, and False to let the error reach the consumer."""
        ...


class Text(Protocol):
    """Makes pieces of chunks, and may keep something of them until the end."""

    def feed(self, chunk: Any, /) -> list[str]:
        """Return the pieces that a chunk completes."""
        ...

    def end(self) -> list[str]:
        """Return what is left."""
        ...


class Derived(Core):
    """A core that takes items from a stream and does something to them.

    An error of a function comes behind what was made of the items before it, and ends the stream. An error of the stream
    above comes in its place too, and does not: that one says itself whether it goes on.
    """

    def __init__(self, upstream: Upstream, policy: ErrorPolicy | None) -> None:
        self._upstream = upstream
        self._policy = policy
        self._failure: Exception | None = None  # of a function
        self._passed_on: Exception | None = None  # of the stream above
        self._closed = False

    async def next_batch(self, limit: int, /) -> list[Any] | None:
        if not self._failed:
            if self._closed:
                return None
            batch = await self._more(limit)
            if batch or not self._failed:
                return batch
        if self._passed_on is not None:
            passed_on, self._passed_on = self._passed_on, None
            raise passed_on
        await self.aclose()  # where that is cancelled, the error is still to come
        failure, self._failure = self._failure, None
        raise failure or RuntimeError  # there is one

    @property
    def _failed(self) -> bool:
        return self._passed_on is not None or self._failure is not None

    @abstractmethod
    async def _more(self, limit: int) -> list[Any] | None:
        """Return what comes next; an error that stands behind it is kept in ``_failure`` or ``_passed_on``."""

    def _goes_on(self, item: Any, error: Exception) -> bool:
        """Tell whether to go on without an item; if not, keep its error."""
        if self._policy is not None and self._policy.rejected(item, error):
            return True
        self._failure = error
        return False

    async def aclose(self) -> None:
        self._closed = True
        await self._upstream.aclose()


# --- a function for each item ----------------------------------------------------------------------------------------


class Choice:
    """What becomes of the items of a batch and of what a function has returned for them."""

    def __init__(
        self, make: Callable[[list[Any], list[Any]], list[Any]], check: Callable[[Any], Any] | None = None
    ) -> None:
        self.make = make
        self.check = check  # called with a result; its errors are those of the item


RESULTS = Choice(lambda items, results: results)
ITEMS = Choice(lambda items, results: items)
CHOSEN = Choice(lambda items, results: list(compress(items, results)), operator.truth)
PAIRS = Choice(lambda items, results: list(zip(items, results, strict=True)))
CHECKED_PAIRS = Choice(PAIRS.make, operator.truth)


class Mapped(Derived):
    """A function is called for each item.

    As long as it returns plain values, a batch is a single step. From the first awaitable on, up to ``max_parallel`` of them
    run at a time, and their results come in the order of the items.
    """

    def __init__(
        self,
        upstream: Buffered,
        policy: ErrorPolicy | None,
        function: Callable[[Any], Any],
        choice: Choice,
        max_parallel: int,
    ) -> None:
        super().__init__(upstream, policy)
        self._buffered = upstream
        self._function = function
        self._choice = choice
        self._max_parallel = max_parallel
        self._loop: asyncio.AbstractEventLoop | None = None  # set from the first awaitable on
        self._entries: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._feeder: asyncio.Task[None] | None = None
        self._reader: asyncio.Future[None] | None = None
        self._behind: Exception | None = None  # of the stream above; stands behind all entries
        self._broken: Exception | None = None  # of a call; stands behind all entries
        self._ended = False
        self._lost: list[asyncio.Future[Any]] = []  # behind an error: nobody will see what they give

    async def _more(self, limit: int) -> list[Any] | None:
        if self._loop is not None:
            return await self._more_in_parallel()
        items = await self._upstream.take(min(limit, self._max_parallel))
        if items is None:
            return None
        items, results = self._call(self._function, items, items)
        if any(hasattr(kind, "__await__") for kind in set(map(type, results))):
            self._loop = asyncio.get_running_loop()
            self._broken, self._failure = self._failure, None
            self._append(items, results)
            return await self._more_in_parallel()
        return self._made(items, results)

    def _made(self, items: list[Any], results: list[Any]) -> list[Any]:
        if self._choice.check is not None:
            items, results = self._call(self._choice.check, results, items)
        return self._choice.make(items, results)

    def _call(
        self, function: Callable[[Any], Any], values: list[Any], items: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        """Return the items whose function returned, and what it returned for the value of each, up to an error that counts."""
        results: list[Any] = []
        try:
            results.extend(map(function, values))  # keeps what came before an error
        except Exception as error:  # noqa: BLE001 - author's code
            return self._call_after(error, function, values, items, results)
        if len(results) < len(values):  # StopIteration ends a map without a word
            return self._call_after(_stopped(), function, values, items, results)
        return items, results

    def _call_after(
        self,
        error: Exception,
        function: Callable[[Any], Any],
        values: list[Any],
        items: list[Any],
        results: list[Any],
    ) -> tuple[list[Any], list[Any]]:
        at = len(results)
        called = items[:at]
        if self._goes_on(items[at], error):
            for value, item in zip(values[at + 1 :], items[at + 1 :], strict=True):
                try:
                    result = function(value)
                except Exception as another:  # noqa: BLE001 - author's code
                    if not self._goes_on(item, _stopped() if isinstance(another, StopIteration) else another):
                        break
                else:
                    called.append(item)
                    results.append(result)
        return called, results

    # --- in parallel -----------------------------------------------------------------------------------------------

    async def _more_in_parallel(self) -> list[Any] | None:
        while True:
            self._top_up()
            items, results = self._harvest()
            if items or self._failure is not None:
                self._top_up()
                return self._made(items, results)
            if not self._entries and self._feeder is None:
                if self._broken is not None:
                    self._failure, self._broken = self._broken, None
                    return []
                if self._behind is not None:
                    self._passed_on, self._behind = self._behind, None
                    return []
                return None
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader

    @property
    def _room(self) -> int:
        if self._ended or self._broken or self._failure or self._behind or self._closed:
            return 0
        return self._max_parallel - len(self._entries)

    def _top_up(self) -> None:
        """Call the function for items that are there, and begin to wait for further ones."""
        while self._feeder is None and self._room > 0:
            items = self._buffered.ready(self._room)
            if items:
                self._start(items)
            else:
                self._feeder = asyncio.create_task(self._feed())

    async def _feed(self) -> None:
        try:
            while self._room > 0:
                items = await self._upstream.take(self._room)
                if items is None:
                    self._ended = True
                else:
                    self._start(items)
        except Exception as error:  # noqa: BLE001 - the consumer is told, behind the items before it
            self._behind = error
        finally:
            self._feeder = None
            self._wake()

    def _start(self, items: list[Any]) -> None:
        kept = self._failure
        self._failure = None
        called, results = self._call(self._function, items, items)
        self._broken, self._failure = self._failure, kept
        self._append(called, results)

    def _append(self, items: list[Any], results: list[Any]) -> None:
        for item, result in zip(items, results, strict=True):
            if is_awaitable(result):
                future = asyncio.ensure_future(result)
                future.add_done_callback(self._done)
            else:
                future = asyncio.get_running_loop().create_future()
                future.set_result(result)
            self._entries.append((item, future))
        self._wake()

    def _done(self, future: asyncio.Future[Any]) -> None:
        seen(future)
        if self._entries and self._entries[0][1] is future:
            self._wake()

    def _harvest(self) -> tuple[list[Any], list[Any]]:
        """Return what the entries have given that are done, up to the first that is not, or to an error that counts."""
        items: list[Any] = []
        results: list[Any] = []
        while self._entries and self._entries[0][1].done():
            item, future = self._entries.popleft()
            error = error_of(future)
            if error is None:
                items.append(item)
                results.append(future.result())
            elif not self._goes_on(item, error):
                self._lost += (entry[1] for entry in self._entries)
                self._entries.clear()
                break
        return items, results

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _cancel(self) -> list[asyncio.Future[Any]]:
        running = [*self._lost, *(future for _, future in self._entries)]
        if self._feeder is not None:
            running.append(self._feeder)
        for future in running:
            cancel(future)
        return running

    async def aclose(self) -> None:
        self._closed = True
        running = self._cancel()
        self._entries.clear()
        self._wake()
        await asyncio.gather(*running, return_exceptions=True)
        self._lost.clear()
        await super().aclose()

    def abandon(self) -> None:
        if self._loop is not None:
            call_soon(self._loop, self._cancel)


def error_of(future: asyncio.Future[Any]) -> Exception | None:
    """Return the error of a call that is done, if it has one."""
    if future.cancelled():
        return RuntimeError("the function of an item was cancelled, and not by its stream")
    error = future.exception()
    if error is None or isinstance(error, Exception):
        return error
    raise error


def _stopped() -> RuntimeError:
    return RuntimeError("the function of an item raised StopIteration, which says nothing here")


class Retried:
    """Calls a function again, up to ``attempts`` times in all, when it raises one of some errors."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        attempts: int,
        delay: float,
        backoff: float,
        errors: type[Exception] | tuple[type[Exception], ...],
    ) -> None:
        self._function = function
        self._attempts = attempts
        self._delay = delay
        self._backoff = backoff
        self._errors = errors

    def __call__(self, item: Any) -> Any:
        try:
            result = self._function(item)
        except self._errors as error:
            return self._again(item, error)
        return self._outcome(item, result) if is_awaitable(result) else result

    async def _outcome(self, item: Any, result: Awaitable[Any]) -> Any:
        try:
            return await result
        except self._errors as error:
            return await self._again(item, error)

    async def _again(self, item: Any, error: Exception) -> Any:
        delay = self._delay
        for _ in range(1, self._attempts):
            await asyncio.sleep(delay)
            delay *= self._backoff
            try:
                result = self._function(item)
                return await result if is_awaitable(result) else result
            except self._errors as another:
                error = another
        raise error


class Threaded:
    """Calls a function in threads, up to as many at a time as there are calls that wait for them."""

    def __init__(self, function: Callable[[Any], Any], threads: int) -> None:
        self._function = function
        self._threads = ThreadPoolExecutor(
            threads, "stream"
        )  # begin with the first calls, end with this object

    def __call__(self, item: Any) -> asyncio.Future[Any]:
        call = partial(self._outcome, contextvars.copy_context(), item)
        return asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _outcome(self, context: contextvars.Context, item: Any) -> Any:
        try:
            return context.run(self._function, item)
        except StopIteration as error:  # a future cannot hold it
            raise _stopped() from error


class Flat(Derived):
    """What a function returned for each item, one after the other; read no faster than it is wanted."""

    def __init__(
        self, pairs: Mapped, policy: ErrorPolicy | None, opened: Callable[[AsyncIterable[Any]], Upstream]
    ) -> None:
        super().__init__(CoreUpstream(pairs), policy)
        self._mapped = pairs
        self._opened = opened
        self._pairs: Iterator[tuple[Any, Any]] = iter(())
        self._item: Any = None
        self._plain: Iterator[Any] | None = None
        self._async: Upstream | None = None

    async def _more(self, limit: int) -> list[Any] | None:
        out: list[Any] = []
        while len(out) < limit and self._failure is None:
            if self._plain is not None:
                self._extend(out, self._plain, limit - len(out))
            elif self._async is not None:
                if out:
                    break
                return await self._take(self._async, limit)
            elif not self._open_next():
                if out:
                    break
                pairs = await self._upstream.take(limit)
                if pairs is None:
                    return None
                self._pairs = iter(pairs)
        return out

    def _open_next(self) -> bool:
        """Turn to the next result that is an iterable; return whether there is one."""
        for item, result in self._pairs:
            self._item = item
            try:
                if isinstance(result, AsyncIterable):
                    self._async = self._opened(result)
                else:
                    self._plain = iter(result)
            except Exception as error:  # noqa: BLE001 - author's code
                if self._goes_on(item, error):
                    continue
            return True
        return False

    def _extend(self, out: list[Any], plain: Iterator[Any], count: int) -> None:
        before = len(out)
        try:
            out.extend(islice(plain, count))  # keeps what came before an error
        except Exception as error:  # noqa: BLE001 - author's code
            self._plain = None
            self._goes_on(self._item, error)
        else:
            if len(out) - before < count:
                self._plain = None

    async def _take(self, source: Upstream, limit: int) -> list[Any]:
        try:
            items = await source.take(limit)
        except Exception as error:  # noqa: BLE001 - author's code
            self._async = None
            self._goes_on(self._item, error)
            return []
        if items is None:
            self._async = None
            return []
        return items

    async def aclose(self) -> None:
        if self._async is not None:
            await self._async.aclose()
        await super().aclose()

    def abandon(self) -> None:
        self._mapped.abandon()


class CoreUpstream:
    """Lets a core take from another one that has no stream of its own."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def take(self, limit: int) -> list[Any] | None:
        while (batch := await self._core.next_batch(limit)) is not None:
            if batch:
                return batch
        return None

    async def aclose(self) -> None:
        await self._core.aclose()
