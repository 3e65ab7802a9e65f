"""Each test runs three times: in this process, in a runner of its own, and on a hub; `--stages direct` is for the hurried."""

import asyncio

from main import Order, parse, totals

from sequence_sdk import Stream
from sequence_sdk.testing import Stage


async def test_lines_become_totals(stage: Stage) -> None:
    """The whole chain is one Sequence."""
    wanted = [{"sku": "tea", "total": 10.0}, {"sku": "cup", "total": 8.0}]
    assert await stage.outputs(totals, ["tea,2.5,4\n", "cup,8,1"]) == wanted


async def test_small_orders_are_left_out(stage: Stage) -> None:
    """A start argument goes to the first part that has a parameter for it."""
    assert await stage.outputs(totals, ["tea,2.5,4\n", "cup,8,1\n"], 9) == [{"sku": "tea", "total": 10.0}]


async def test_what_is_no_order_is_skipped(stage: Stage) -> None:
    """The other lines are not held up by it."""
    assert await stage.outputs(totals, ["tea\n", "cup,8,many\n", "pot,30,1\n"]) == [
        {"sku": "pot", "total": 30.0}
    ]


async def test_a_total_comes_out_before_the_next_line_goes_in(stage: Stage) -> None:
    """No part keeps back what it could give."""
    async with stage.run(totals) as run:
        await run.feed("tea,2.5,4\n")
        assert await run.items(1) == [{"sku": "tea", "total": 10.0}]
        assert await run.rest() == []


def test_a_part_can_be_tested_by_itself() -> None:
    """It is a function over any stream; between two parts an item may be any object."""

    async def orders() -> list[Order]:
        return [order async for order in parse(Stream.from_iterable(["tea,2.5,4\n"]))]

    assert asyncio.run(orders()) == [Order("tea", 2.5, 4)]
