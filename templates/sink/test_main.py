"""Each test runs three times: in this process, in a runner of its own, and on a hub; `--stages direct` is for the hurried."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from main import sink

from sequence_sdk.testing import Stage


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return where a test may have a database."""
    return tmp_path / "orders.sqlite3"


def stored(database: Path) -> list[tuple[Any, ...]]:
    """Return the orders of a database, the oldest first."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("select sku, price, count from orders order by rowid").fetchall()


async def test_orders_are_stored_and_nothing_comes_out(stage: Stage, database: Path) -> None:
    """Values are JSON on the way in, whatever the Sequence makes of them."""
    orders = [{"sku": "tea", "price": 2.5, "count": 4}, {"sku": "cup", "price": 8}]
    assert await stage.outputs(sink, orders, str(database)) == []
    assert stored(database) == [("tea", 2.5, 4), ("cup", 8.0, 1)]


async def test_what_is_no_order_is_put_aside(stage: Stage, database: Path) -> None:
    """Every item is accounted for."""
    async with stage.run(sink, str(database)) as run:
        await run.feed(
            {"sku": "tea", "price": 2.5}, {"sku": "cup", "price": "cheap"}, {"sku": "pot", "price": 30}
        )
        assert await run.rest() == []
        await run.assert_account(out=2, quarantined=1)
    assert stored(database) == [("tea", 2.5, 1), ("pot", 30.0, 1)]


async def test_an_order_that_was_handled_outlives_a_crash(stage: Stage, database: Path) -> None:
    """Where it has a process, that is killed after the second item."""
    async with stage.run(sink, str(database), crash_after=2) as run:
        await run.feed({"sku": "tea", "price": 1}, {"sku": "cup", "price": 2}, {"sku": "pot", "price": 3})
        assert (await run.exit()).failed
    assert stored(database) == [("tea", 1.0, 1), ("cup", 2.0, 1)]
