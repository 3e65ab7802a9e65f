"""Quarantined items reach the hub in order, together, and none is lost without a word."""

import asyncio
import base64
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import QuarantineLost
from runner.quarantine import Quarantine, record_of
from sequence_sdk.hub import HubRefused, HubUnreachable

ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"
OOPS = ValueError("oops")
PATIENCE = 5.0  # seconds until a test that would hang fails


class Keeper:
    """A hub that keeps what it gets, when it is let, and fails as it is told."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.requests: list[list[dict]] = []
        self.failure = failure
        self.open = asyncio.Event()
        self.open.set()

    async def quarantine_items(self, instance, records):
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        assert instance == ID
        self.requests.append(records)
        return len(records)


def quarantine_at(keeper, name="quarantine"):
    return Quarantine(keeper, ID, logging.getLogger(name), spawn=asyncio.ensure_future)


class Odd:
    def __repr__(self):
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("item", "written"),
    [
        ({"a": [1, None]}, {"a": [1, None]}),
        ("text", "text"),
        (0, 0),
        (b"\xffline", {"bytes": base64.b64encode(b"\xffline").decode()}),
        (b"{broken", "{broken"),
        (bytearray(b"x"), "x"),
        ({1, 2}, {"text": "{1, 2}"}),
        (Odd(), {"text": "an object of type Odd that has no repr"}),
    ],
    ids=["json", "text", "zero", "bytes", "bad line", "bytearray", "set", "no repr"],
)
def test_an_item_is_written_down_as_json_or_as_what_it_looks_like(item, written):
    assert record_of(3, item, OOPS) == {"number": 3, "item": written, "error": "ValueError: oops"}


def test_an_item_that_changes_later_is_kept_as_it_was():
    item = {"v": 1}
    record = record_of(1, item, OOPS)
    item["v"] = 2
    assert record["item"] == {"v": 1}


async def test_all_items_arrive_in_order_many_in_one_request():
    keeper = Keeper()
    quarantine = quarantine_at(keeper)
    for number in range(1000):
        quarantine.add(number, number, OOPS)
    await asyncio.wait_for(quarantine.close(), PATIENCE)
    assert [record["number"] for records in keeper.requests for record in records] == list(range(1000))
    assert len(keeper.requests) == 4


@given(counts=st.lists(st.integers(0, 300), max_size=5))
def test_whatever_comes_in_bursts_arrives_whole(counts):
    async def play():
        keeper = Keeper()
        quarantine = quarantine_at(keeper)
        number = 0
        for count in counts:
            for _ in range(count):
                quarantine.add(number, number, OOPS)
                number += 1
            await quarantine.settle(left=10)
        await quarantine.close()
        await quarantine.close()
        return number, [record["item"] for records in keeper.requests for record in records]

    number, kept = asyncio.run(play())
    assert kept == list(range(number))


async def test_who_rejects_more_than_the_hub_takes_waits_for_it():
    keeper = Keeper()
    keeper.open.clear()
    quarantine = quarantine_at(keeper)
    for number in range(1001):
        quarantine.add(number, number, OOPS)
    settling = asyncio.ensure_future(quarantine.settle())
    await asyncio.sleep(0)
    assert not settling.done()
    keeper.open.set()
    await asyncio.wait_for(settling, PATIENCE)
    await asyncio.wait_for(quarantine.close(), PATIENCE)


@pytest.mark.parametrize(
    "failure",
    [HubRefused(507, "the quarantine is full"), HubUnreachable("http://hub", "it is gone")],
    ids=["full", "gone"],
)
async def test_a_hub_that_does_not_keep_them_is_an_error_that_says_how_many_are_lost(failure):
    quarantine = quarantine_at(Keeper(failure))
    quarantine.add(1, "a", OOPS)
    quarantine.add(2, "b", OOPS)
    with pytest.raises(QuarantineLost, match=r"^2 quarantined items cannot be kept: ") as caught:
        await asyncio.wait_for(quarantine.close(), PATIENCE)
    assert str(failure) in str(caught.value)
    with pytest.raises(QuarantineLost):
        await quarantine.settle()


async def test_a_hub_of_another_make_has_them_in_the_log(caplog):
    quarantine = quarantine_at(Keeper(HubRefused(404, "no such path")), "elsewhere")
    quarantine.add(1, {"a": 1}, OOPS)
    await asyncio.wait_for(quarantine.close(), PATIENCE)
    quarantine.add(2, "b", OOPS)
    await asyncio.wait_for(quarantine.close(), PATIENCE)
    assert [record.getMessage() for record in caplog.records] == [
        'quarantined: {"number":1,"item":{"a":1},"error":"ValueError: oops"}',
        'quarantined: {"number":2,"item":"b","error":"ValueError: oops"}',
    ]
