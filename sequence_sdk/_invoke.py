"""Call a Sequence and read its result, whatever shape it has. The runner and tests go through here."""

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from .content import ContentType
from .context import Context
from .spec import SequenceSpec

_MAX_WAITING = 1024  # items a generator in a thread may be ahead
_MAX_WAITING_BYTES = 1024 * 1024  # of those that know their size


async def call(
    function: Callable[..., Any], spec: SequenceSpec, context: Context, input: Any, args: list[Any]
) -> Any:
    """Call the function and return what it gives, awaited as often as it needs."""
    result = function(context, input, *args) if spec.wants_context else function(input, *args)
    while inspect.isawaitable(result) and not isinstance(result, AsyncIterable):
        result = await result
    return result


def outputs(result: Any, kind: ContentType) -> AsyncIterator[Any]:
    """Return the items of a result.

    An async iterable gives its items; a generator or another iterator gives its items from a thread of its own; a
    list, tuple or other iterable gives its items; a string, bytes, a mapping, a number or any other value is one item
    (a number is its text where ``kind`` is text); None is nothing.
    """
    if result is None:
        return _each(())
    if isinstance(result, AsyncIterable):
        return aiter(result)
    if isinstance(result, Iterator):
        return ThreadedOutputs(result)
    if isinstance(result, Iterable) and not isinstance(result, str | bytes | bytearray | memoryview | dict):
        return _each(result)
    if isinstance(result, bool | int | float) and kind is ContentType.TEXT:
        return _each((str(result),))
    return _each((result,))


async def _each(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


class ThreadedOutputs(AsyncIterator[Any]):
    """The items of an iterator that runs in a daemon thread, so that it may block as it likes.

    The thread is at most 1024 items or 1 MiB ahead. Items that are there are handed over together.
    """

    def __init__(self, source: Iterator[Any]) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._items: deque[Any] = deque()  # filled by the thread
        self._ready: deque[Any] = deque()  # taken by the loop
        self._size = 0
        self._room = threading.Condition()
        self._waiter: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self._ended = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="sequence generator", daemon=True)
        self._thread.start()

    async def __anext__(self) -> Any:
        while not self._ready:
            with self._room:
                if self._items:
                    self._ready, self._items, self._size = self._items, deque(), 0
                    self._room.notify()
                    break
                if self._ended:
                    if self._failure:
                        failure, self._failure = self._failure, None
                        raise failure
                    raise StopAsyncIteration
                self._waiter = self._loop.create_future()
            await self._waiter
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Let the generator go: it ends at its next ``yield``."""
        with self._room:
            self._closed = True
            self._room.notify()

    def _run(self) -> None:
        try:
            for item in self._source:
                with self._room:
                    while not self._closed and (
                        len(self._items) >= _MAX_WAITING or self._size >= _MAX_WAITING_BYTES
                    ):
                        self._room.wait()
                    if self._closed:
                        break
                    self._items.append(item)
                    self._size += len(item) if isinstance(item, str | bytes) else 0
                    self._wake()
            close = getattr(self._source, "close", None)
            if close is not None:
                close()
        except BaseException as failure:  # noqa: BLE001 - author's code: it is raised where the items are read
            self._failure = failure
        with self._room:
            self._ended = True
            self._wake()

    def _wake(self) -> None:
        """Tell the loop, which may be gone: then nobody reads on."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            try:
                self._loop.call_soon_threadsafe(_finish, waiter)
            except RuntimeError:
                self._closed = True


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
