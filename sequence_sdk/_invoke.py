"""Call a Sequence and read its result, whatever shape it has. The runner and tests go through here."""

import asyncio
import contextlib
import inspect
import threading
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from numbers import Number
from types import MappingProxyType
from typing import Any

from .content import ENCODERS, ContentType, bad_output
from .context import Context
from .errors import ContentError
from .spec import SequenceSpec

_MAX_WAITING = 1024  # items that wait for a reader
_MAX_WAITING_BYTES = 1024 * 1024  # of those that know their size
SIZED = (str, bytes, bytearray)  # items whose size counts, where few of them may wait


async def call(
    function: Callable[..., Any],
    spec: SequenceSpec,
    context: Context,
    input: Any,
    args: Sequence[Any] = (),
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """Call the function and return what it gives, awaited as often as it needs."""
    places = (context, input) if spec.wants_context else (input,)
    result = function(*places, *args, **options)
    while inspect.isawaitable(result) and not isinstance(result, AsyncIterable):
        result = await result
    return result


def outputs(result: Any, kind: ContentType) -> AsyncIterator[Any]:
    """Return the items of a result. It is called, and read, in the event loop.

    An async iterable gives its items. A list, tuple, set or other collection gives its items. A generator, another
    iterator or any other iterable gives its items from a thread of its own. A string, bytes, a mapping, a number or
    any other value is one item (a number is its text where ``kind`` is text). None is nothing.
    """
    if result is None:
        return _each(())
    if isinstance(result, AsyncIterable):
        return aiter(result)
    if isinstance(result, Number) and kind is ContentType.TEXT:
        return _each((str(result),))
    if not isinstance(result, Iterable) or isinstance(result, str | bytes | bytearray | memoryview | Mapping):
        return _each((result,))
    if isinstance(result, Collection) and not isinstance(result, Iterator):
        return _each(result)
    return ThreadedOutputs(iter(result))


async def encode_outputs(result: Any, kind: ContentType, write: Callable[[bytes], Awaitable[None]]) -> None:
    """Write all items of a result, one by one and encoded; close the result where that is cut short.

    Raises:
        BadOutput: an item does not fit the content type.
        BaseException: what the result raises, or ``write``.
    """
    encode = ENCODERS[kind]()
    items = outputs(result, kind)
    number = 0
    try:
        async for item in items:
            number += 1
            try:
                encoded = encode(item)
            except (TypeError, ValueError, RecursionError) as error:
                raise bad_output(number, error, item) from None
            await write(encoded)
    except BaseException:
        close = getattr(items, "aclose", None)
        if close is not None:
            with contextlib.suppress(ContentError, asyncio.CancelledError):
                await close()
        raise


async def _each(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


class ThreadedOutputs(AsyncIterator[Any]):
    """The items of an iterator that runs in a daemon thread, so that it may block as it likes.

    All items that wait are handed over together; the thread rests while 1024 items or 1 MiB wait behind those. What
    the iterator raises is raised behind its items; StopAsyncIteration, which would look like the end, is the cause of
    a RuntimeError.
    """

    def __init__(self, source: Iterator[Any]) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Any] = deque()  # taken by the loop
        self._changed = asyncio.Event()
        self._lock = threading.Condition()  # guards what follows
        self._items: deque[Any] = deque()  # filled by the thread
        self._size = 0
        self._failure: BaseException | None = None
        self._watched = False  # somebody waits for a change
        self._resting = False  # the iterator stands still behind an item that has no room yet
        self._ended = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="sequence generator", daemon=True)
        self._thread.start()

    async def __anext__(self) -> Any:
        while self._closed or not self._ready:
            with self._lock:
                if self._closed:
                    raise StopAsyncIteration
                if self._items:
                    self._ready, self._items, self._size = self._items, deque(), 0
                    self._lock.notify()
                    break
                if self._ended:
                    self._raise_failure()
                    raise StopAsyncIteration
                self._watch()
            await self._changed.wait()
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Let the iterator go.

        One that rests at a ``yield`` is closed when this returns, and raises here what it raises then. One that is busy
        is not waited for, as it may block for ever: it ends at its next ``yield``. What it has given and nobody has
        read is in ``leftovers``.
        """
        with self._lock:
            self._closed = True
            self._changed.set()  # whoever reads in another task sees the end
            self._lock.notify()
            if not self._resting:
                self._failure = None  # it stands behind items that nobody wants
        while True:
            with self._lock:
                if not self._resting:
                    break
                self._watch()
            await self._changed.wait()
        self._raise_failure()

    def leftovers(self) -> list[Any]:
        """Return, once, the items that were given before ``aclose`` and not read."""
        with self._lock:
            items = [*self._ready, *self._items]
            self._ready.clear()
            self._items.clear()
        return items

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _watch(self) -> None:
        self._watched = True
        self._changed.clear()

    def _run(self) -> None:
        try:
            for item in self._source:
                if not self._put(item):
                    break
            close = getattr(self._source, "close", None)
            if close is not None:
                close()
        except StopAsyncIteration as stop:
            self._failure = RuntimeError("the generator raised StopAsyncIteration")
            self._failure.__cause__ = stop
        except BaseException as failure:  # noqa: BLE001 - author's code: it is raised where the items are read
            self._failure = failure
        with self._lock:
            self._ended = True
            self._resting = False
            self._wake()

    def _put(self, item: Any) -> bool:
        """Hand an item to the loop when there is room; return False if nobody wants it any more."""
        with self._lock:
            self._resting = True
            while not self._closed and (len(self._items) >= _MAX_WAITING or self._size >= _MAX_WAITING_BYTES):
                self._lock.wait()
            self._items.append(item)
            if self._closed:
                return False  # still at rest: the iterator is closed next
            self._resting = False
            self._size += len(item) if isinstance(item, SIZED) else 0
            self._wake()
        return not self._closed

    def _wake(self) -> None:
        """Tell the loop, which may be gone: then nobody reads on."""
        if self._watched:
            self._watched = False
            try:
                self._loop.call_soon_threadsafe(self._changed.set)
            except RuntimeError:
                self._closed = True
