"""A chain: three Sequences, each of which reads what the one before it gives. Put your steps in their place."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sequence_sdk import Stream, sequence


@dataclass
class Order:
    """What the first part makes of a line."""

    sku: str
    price: float
    count: int


@dataclass
class Total:
    """What the last part gives."""

    sku: str
    total: float


@sequence(takes="text/plain", on_error="skip")
async def parse(lines: Stream[str]) -> AsyncIterator[Order]:
    """Yield an order for each line such as `tea,2.5,4`; other lines are logged and left out."""
    async for line in lines:
        sku, price, count = line.strip().split(",")
        yield Order(sku, float(price), int(count))


@sequence
async def large(orders: Stream[Order], at_least: float = 0.0) -> AsyncIterator[Order]:
    """Yield the orders that are worth as much as the argument says, or more."""
    async for order in orders:
        if order.price * order.count >= at_least:
            yield order


@sequence(gives="application/x-ndjson")
async def total(orders: Stream[Order]) -> AsyncIterator[Total]:
    """Yield what each order comes to."""
    async for order in orders:
        yield Total(order.sku, order.price * order.count)


totals = sequence.chain(parse, large, total)
