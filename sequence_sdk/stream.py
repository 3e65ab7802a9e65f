"""``input`` as an author sees it: an async iterable of items."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Generic, TypeVar

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

        ``next_batch`` runs in the event loop, one call at a time, and may raise what the author is to see.
        """
        self._next_batch = next_batch
        self._items: Iterator[T] = iter(())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading = asyncio.Lock()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which loop ``next_batch`` runs in, for readers in other threads."""
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
                batch = await self._next_batch()
                if batch is None:
                    raise StopAsyncIteration
                self._items = iter(batch)

    def __iter__(self) -> Iterator[T]:
        if self._loop is None or _running_loop() is not None:
            raise InputUsedInLoop
        while True:
            batch = asyncio.run_coroutine_threadsafe(self._rest_of_batch(), self._loop).result()
            if batch is None:
                return
            yield from batch

    async def _rest_of_batch(self) -> list[T] | None:
        rest = list(self._items)
        if rest:
            return rest
        async with self._reading:
            return await self._next_batch()


def _running_loop() -> Any:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
