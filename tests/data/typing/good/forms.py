"""Every form that a Sequence may have, with its hints."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, assert_type

from sequence_sdk import Context, Stream, sequence


@sequence
async def plain(input: Stream[str]) -> AsyncIterator[str]:
    async for line in input:
        assert_type(line, str)
        yield line.upper()


@sequence(takes="text/plain", gives="application/x-ndjson", max_parallel=8, requires="raw", provides="sized")
async def with_options(input: Stream[str], first: int = 1, *words: str) -> AsyncIterator[dict[str, int]]:
    async for line in input:
        yield {line: first + len(words)}


@sequence(on_error="quarantine")
async def with_context(context: Context, input: Stream[bytes], *, level: int = 3) -> AsyncIterator[bytes]:
    assert_type(context.config, dict[str, Any])
    async for chunk in input:
        yield chunk * level


@sequence(on_error="skip")
async def any_iterable(input: AsyncIterable[str]) -> list[str]:
    return [line async for line in input]


@sequence
def in_a_thread(input: Iterable[str], /) -> Iterator[int]:
    for line in input:
        yield len(line)


@sequence
def returns_a_stream(input: Stream[str], least: int = 0) -> Stream[int]:
    return input.map(len).filter(lambda size: size > least)


@sequence
async def returns_one(input: Stream[str]) -> int:
    size: int = await input.reduce(lambda total, line: total + len(line), 0)
    return size


@sequence(gives="text/plain")
def source(_input: Any, count: int = 3) -> Iterator[str]:
    yield from "x" * count


# What is marked is the very function: a test calls it with its own parameters.


async def lines() -> AsyncIterator[str]:
    yield "a\n"


async def called() -> None:
    assert_type(plain(Stream.from_iterable(["a\n"])), AsyncIterator[str])
    assert_type(await any_iterable(lines()), list[str])
    assert_type(list(in_a_thread(["a"])), list[int])
    assert_type(list(source(None, count=2)), list[str])
