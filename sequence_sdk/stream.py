"""``input`` as an author sees it: an async iterable of items."""

import asyncio
import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Generic, TypeVar

from .errors import InputUsedInLoop

T = TypeVar("T")


class Input(AsyncIterator[T], Generic[T]):
    """The items of the input, in order, each once.

    ``async for item in input`` is the way to read it; two loops one after the other share the items. A generator that
    is no coroutine runs in a thread of its own and reads with a plain ``for``. What an item is stands in
    docs/author-guide.md: a line with its line end, a value, or bytes.

    A cancelled wait, as in ``asyncio.wait_for(anext(input), 1)``, loses no item.
    """

    def __init__(self, next_batch: Callable[[], Awaitable[list[T] | None]]) -> None:
        """Read batches of items from ``next_batch``; None is the end.

        ``next_batch`` runs in the event loop, one call at a time, and may raise what the author is to see. It loses no
        item when it is cancelled, and is not called again after the end.
        """
        self._next_batch = next_batch
        # one iterator for all readers, in tasks and threads: each takes its item in a single step
        self._items: Iterator[T] = iter(())
        self._loop = _running_loop()
        self._reading = asyncio.Lock()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which loop ``next_batch`` runs in, for readers in other threads, when none ran at the start."""
        self._loop = loop

    def __aiter__(self) -> "Input[T]":
        return self

    async def __anext__(self) -> T:
        for item in self._items:
            return item
        async with self._reading:  # two tasks that read at once take turns
            while True:
                for item in self._items:
                    return item
                if not await self._refill():
                    raise StopAsyncIteration

    def __iter__(self) -> Iterator[T]:
        if _running_loop() is not None:
            raise InputUsedInLoop
        if self._loop is None:
            raise RuntimeError("no event loop feeds this Input: make it in a coroutine, or bind() it")
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
            return operator.length_hint(self._items) > 0 or await self._refill()

    async def _refill(self) -> bool:
        """Take the next batch in place of the one that is used up; return whether there was one."""
        batch = await self._next_batch()
        if batch is None:
            self._next_batch = _nothing
            return False
        self._items = iter(batch)
        return True


async def _nothing() -> None:
    return None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
