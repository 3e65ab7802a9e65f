"""Items, arguments and configuration of the author's own types."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict, assert_type

from sequence_sdk import Context, Stream, sequence


@dataclass(frozen=True, slots=True)
class Order:
    sku: str
    price: float
    count: int = 1


class Total(TypedDict):
    sku: str
    total: float
    note: NotRequired[str]


@dataclass(frozen=True)
class Config:
    currency: Literal["EUR", "PLN"] = "EUR"
    rate: float = 1.0


@sequence(takes="application/x-ndjson", gives="application/x-ndjson")
async def totals(context: Context[Config], orders: Stream[Order], least: float = 0.0) -> AsyncIterator[Total]:
    assert_type(context.config, Config)
    async for order in orders:
        assert_type(order, Order)
        total = order.price * order.count * context.config.rate
        if total >= least:
            yield {"sku": order.sku, "total": total, "note": context.config.currency}


@sequence(takes="application/x-ndjson")
async def skus(orders: Stream[Order]) -> AsyncIterator[str]:
    async for sku in orders.map(lambda order: order.sku):
        assert_type(sku, str)
        yield sku + "\n"
