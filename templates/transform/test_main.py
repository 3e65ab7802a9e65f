"""A Sequence is a plain function: call it with any async iterable and look at what it yields."""

import asyncio
from collections.abc import AsyncIterator

from main import transform


async def stream(*lines: str) -> AsyncIterator[str]:
    """Yield the lines, as an input does."""
    for line in lines:
        yield line


def outputs(*lines: str, first: int = 1) -> list[str]:
    """Return all that the Sequence makes of the lines."""

    async def collect() -> list[str]:
        return [item async for item in transform(stream(*lines), first)]

    return asyncio.run(collect())


def test_lines_are_numbered_and_blank_ones_left_out() -> None:
    """A line keeps its line end on the way in; the last one may have none."""
    assert outputs("one\n", "\n", "two") == ["1 one\n", "2 two\n"]


def test_the_first_number_is_an_argument() -> None:
    """Start arguments come after the input, in order."""
    assert outputs("one\n", first=7) == ["7 one\n"]


def test_no_lines_give_no_lines() -> None:
    """An input may be empty."""
    assert outputs() == []
