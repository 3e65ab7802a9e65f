"""What classes and chains give: outputs that are opened when somebody reads, and whose parts are closed when nobody does."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from ._invoke import SIZED
from .stream import Stream

_MAX_WAITING = 16  # items between two parts; enough to keep both at work, and few to lose when one fails
_MAX_WAITING_BYTES = 1024 * 1024  # of those that know their size
_PLACE = "raised in part "

Open = Callable[[AsyncExitStack], Awaitable[AsyncIterator[Any]]]


async def settle(result: Any) -> Any:
    """Return the result, awaited as often as it needs."""
    while inspect.isawaitable(result) and not isinstance(result, AsyncIterable):
        result = await result
    return result


async def close(items: Any) -> None:
    """Close what can be closed; twice is fine."""
    aclose = getattr(items, "aclose", None)
    if aclose is not None:
        await aclose()


def blame(error: BaseException, place: str) -> None:
    """Note on an error which part of a chain it comes from, unless an earlier part is known to be the one."""
    if not any(note.startswith(_PLACE) for note in getattr(error, "__notes__", ())):
        error.add_note(_PLACE + place)


class Flow(AsyncIterator[Any]):
    """Outputs of a Sequence that has more to it than a call.

    ``open`` runs at the first read, and puts what is to be closed on the stack it gets. That is closed, the newest first, after
    the last output, an error, a cancelled read, or ``aclose``.
    """

    def __init__(self, open: Open) -> None:
        self._open = open
        self._source: AsyncIterator[Any] | None = None
        self._items = self._run()

    async def _run(self) -> AsyncGenerator[Any, None]:
        async with AsyncExitStack() as stack:
            self._source = await self._open(stack)
            stack.push_async_callback(close, self._source)
            async for item in self._source:
                yield item

    def __anext__(self) -> Awaitable[Any]:
        return self._items.__anext__()

    async def aclose(self) -> None:
        """Close the parts, the last one first; raise what they raise then. A part that was never begun is not begun for it."""
        await self._items.aclose()

    def leftovers(self) -> list[Any]:
        """Return, once, what a generator in a thread had given before ``aclose`` and nobody has read."""
        leftovers = getattr(self._source, "leftovers", None)
        return leftovers() if leftovers is not None else []


class Feed:
    """The outputs of a part of a chain on their way to the next part, in batches.

    A task of its own reads them, from the first batch asked for: the part works while the next one does, a few items ahead, and a
    cancelled read of the next part harms neither. What the part raises comes behind its items, to whoever asks, as often as
    they ask. After ``aclose`` a read is cancelled, so that nobody takes the end for that of the items.
    """

    def __init__(self, items: AsyncIterator[Any], place: str) -> None:
        self._items = items
        self._place = place
        self._ready: list[Any] = []
        self._size = 0
        self._failure: BaseException | None = None
        self._ended = False
        self._closed = False
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def next_batch(self) -> list[Any] | None:
        """Return the items that wait, when there are any, or None at the end."""
        if self._task is None and not self._closed:
            self._task = asyncio.create_task(self._read(), name=f"sequence part {self._place}")
        while not (self._ready or self._ended or self._closed):
            self._filled.clear()
            await self._filled.wait()
        if self._closed:
            raise asyncio.CancelledError("the chain is closed")
        if self._ready:
            batch, self._ready, self._size = self._ready, [], 0
            self._taken.set()
            return batch
        if self._failure is not None:
            raise self._failure
        return None

    async def aclose(self) -> None:
        """End the part and wait for its end; raise what it raises on its way there."""
        self._closed = True
        self._filled.set()
        if self._task is None:
            await close(self._items)
        elif not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
            if self._failure is not None and not isinstance(self._failure, asyncio.CancelledError):
                raise self._failure

    async def _read(self) -> None:
        try:
            try:
                await self._fill()
            finally:
                await close(self._items)
        except BaseException as failure:  # noqa: BLE001 - author's code: it is raised where the items are read
            if isinstance(failure, Exception):
                blame(failure, self._place)
            self._failure = failure
        self._ended = True
        self._filled.set()

    async def _fill(self) -> None:
        if isinstance(self._items, Stream):
            stream = self._items._consume()
            while (batch := await stream.take(_MAX_WAITING)) is not None:
                await self._put(batch)
        else:
            async for item in self._items:
                await self._put([item])

    async def _put(self, batch: list[Any]) -> None:
        self._ready += batch
        self._size += sum(len(item) for item in batch if isinstance(item, SIZED))
        self._filled.set()
        while len(self._ready) >= _MAX_WAITING or self._size >= _MAX_WAITING_BYTES:
            self._taken.clear()
            await self._taken.wait()
