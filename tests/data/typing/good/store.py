"""A class with resources, and chains."""

from collections.abc import AsyncIterator
from typing import Any

from sequence_sdk import Context, Stream, sequence


@sequence(takes="text/plain", gives="application/x-ndjson")
class Store:
    rows: list[str]

    async def setup(self, context: Context) -> None:
        self.rows = []
        context.logger.info("open")

    async def run(self, input: Stream[str], prefix: str = "") -> AsyncIterator[int]:
        async for line in input:
            self.rows.append(prefix + line)
            yield len(self.rows)

    async def teardown(self) -> None:
        self.rows.clear()


@sequence
class Each:
    def each(self, item: str) -> str:
        return item.upper()


@sequence
async def parse(input: Stream[str]) -> AsyncIterator[int]:
    async for line in input:
        yield int(line)


@sequence
async def double(input: Stream[int]) -> AsyncIterator[int]:
    async for number in input:
        yield 2 * number


def plain(input: Stream[int]) -> Any:
    return input


both = sequence.chain(parse, double)
as_many = sequence.chain(parse, plain, double)
with_a_class = sequence.chain(Each, parse, double)
