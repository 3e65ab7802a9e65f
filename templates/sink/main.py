"""A sink: orders in, nothing out. Put where your items go into the loop."""

import sqlite3
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path

from sequence_sdk import Stream, sequence


@dataclass
class Order:
    """What comes in, a line of JSON each."""

    sku: str
    price: float
    count: int = 1


@sequence(takes="application/x-ndjson", on_error="quarantine")
async def sink(orders: Stream[Order], path: str = "~/orders.sqlite3") -> None:
    """Store each order in a database; what is no order is put aside with the reason, and the others go on."""
    with closing(sqlite3.connect(Path(path).expanduser())) as database:
        database.execute("create table if not exists orders (sku text, price real, count integer)")
        async for order in orders:
            with database:  # a transaction: an order that counts as handled is on the disk
                database.execute("insert into orders values (?, ?, ?)", astuple(order))
