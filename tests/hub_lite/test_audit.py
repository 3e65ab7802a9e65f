"""What is done with the hub, by whom."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from hub_lite.audit import Audit, Change, Operation

from .fakes import DEADLINE, until

SLOW = 3600.0


def make(**options: Any) -> Audit:
    options = {"heartbeat_interval": SLOW, "active_interval": SLOW, "now": lambda: 1.5, **options}
    options.setdefault("living", list)
    return Audit("my-hub", **options)


def still() -> tuple[int, int]:
    return 0, 0


async def all_of(audit: Audit) -> list[dict[str, Any]]:
    """Return the records kept."""
    audit.close()
    async with asyncio.timeout(DEADLINE), aclosing(audit.read()) as reading:
        return [json.loads(line) async for chunk in reading for line in chunk.splitlines()]


async def next_of(reading: AsyncGenerator[bytes, None]) -> list[dict[str, Any]]:
    async with asyncio.timeout(DEADLINE):
        return [json.loads(line) for line in (await anext(reading)).splitlines()]


# Codes


@pytest.mark.parametrize(
    ("method", "path", "code", "object_id"),
    [
        ("POST", "/sequence", 10100, ""),
        ("PUT", "/sequence/s", 10300, "s"),
        ("POST", "/sequence/s/start", 10117, "s"),
        ("GET", "/sequence/s", 10200, "s"),
        ("GET", "/sequences", 10200, ""),
        ("GET", "/sequence/s/instances", 10216, "s"),
        ("DELETE", "/sequence/s", 10400, "s"),
        ("GET", "/instances", 11200, ""),
        ("GET", "/instance/i", 11200, "i"),
        ("HEAD", "/instance/i", 11200, "i"),
        ("GET", "/instance/i/stdout", 11201, "i"),
        ("GET", "/instance/i/stderr", 11202, "i"),
        ("POST", "/instance/i/stdin", 11103, "i"),
        ("GET", "/instance/i/log", 11204, "i"),
        ("GET", "/instance/i/output", 11206, "i"),
        ("POST", "/instance/i/input", 11107, "i"),
        ("GET", "/instance/i/health", 11208, "i"),
        ("GET", "/instance/i/events/e", 11209, "i"),
        ("GET", "/instance/i/event/e", 11210, "i"),
        ("GET", "/instance/i/once/e", 11211, "i"),
        ("POST", "/instance/i/_monitoring_rate", 11112, "i"),
        ("POST", "/instance/i/_event", 11113, "i"),
        ("POST", "/instance/i/_stop", 11114, "i"),
        ("POST", "/instance/i/_kill", 11115, "i"),
        ("POST", "/instance/i/inout", 11118, "i"),
        ("POST", "/instance/i/_reload", 11119, "i"),
        ("POST", "/instance/i/quarantine", 11120, "i"),
        ("PUT", "/instance/i/state/k", 11321, "i"),
        ("GET", "/instance/i/metrics", 11222, "i"),
        ("GET", "/sequence/i/versions", 10223, "i"),
        ("POST", "/sequence/i/rollback", 10124, "i"),
        ("POST", "/topic/t", 12100, "t"),
        ("GET", "/topic/t", 12200, "t"),
        ("POST", "/topics", 12100, ""),
        ("DELETE", "/topics/t", 12400, "t"),
        ("GET", "//sequence//s", 10200, "s"),
    ],
)
def test_a_request_has_the_code_of_what_it_asks_for(
    method: str, path: str, code: int, object_id: str
) -> None:
    assert Operation.of(method, path) == Operation(code, object_id)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/version"), ("GET", "/metrics"),
     ("GET", "/"), ("GET", ""), ("GET", "/audit"), ("OPTIONS", "/sequences"), ("PATCH", "/topic/t")],
)  # fmt: skip
def test_other_requests_are_not_recorded(method: str, path: str) -> None:
    assert Operation.of(method, path) is None


def test_no_two_changes_are_the_same_number() -> None:
    assert len({change.value for change in Change}) == len(list(Change)) == len(Change.__members__)


# Records


async def test_a_request_is_told_from_its_beginning_to_its_end() -> None:
    audit, traffic = make(), [0, 0]
    request = audit.begin(Operation(10117, "s"), "  somebody ", lambda: (traffic[0], traffic[1]))
    traffic[:] = [12, 34]
    audit.end(request, failed=False)
    start, end = await all_of(audit)
    assert start == {
        "type": "request",
        "opState": "START",
        "opCode": 10117,
        "objectId": "s",
        "requestorId": "somebody",
        "receivedAt": 1500,
        "requestId": request.id,
        "rx": 0,
        "tx": 0,
    }
    assert end == start | {"opState": "END", "rx": 12, "tx": 34}


async def test_a_request_that_breaks_off_is_an_error() -> None:
    audit = make()
    audit.end(audit.begin(Operation(11201, "i"), "", still), failed=True)
    states = [(record["opState"], record["requestorId"]) for record in await all_of(audit)]
    assert states == [("START", "system"), ("ERROR", "system")]


async def test_a_change_has_a_type_and_limits_if_there_are_any() -> None:
    audit = make()
    audit.changed(Change.INSTANCE_STARTED, "i", limits={"memory": 512})
    audit.changed(Change.SEQUENCE_CREATED, "s", requestor="me")
    assert await all_of(audit) == [
        {
            "type": "instance",
            "opState": "",
            "opCode": 0,
            "objectId": "i",
            "requestorId": "system",
            "receivedAt": 1500,
            "limits": {"memory": 512},
        },
        {
            "type": "sequence",
            "opState": "",
            "opCode": 10,
            "objectId": "s",
            "requestorId": "me",
            "receivedAt": 1500,
        },
    ]


async def test_what_a_client_calls_itself_is_cut_and_is_text() -> None:
    audit = make()
    audit.changed(Change.INSTANCE_ENDED, "\udcff" + "x" * 5000, requestor="y" * 5000)
    (record,) = await all_of(audit)
    assert record["objectId"] == "?" + "x" * 199
    assert record["requestorId"] == "y" * 200


async def test_about_a_mebibyte_is_kept() -> None:
    audit = make()
    for number in range(12_000):
        audit.changed(Change.INSTANCE_STARTED, str(number))
    records = await all_of(audit)
    assert records[-1]["objectId"] == "11999"
    assert (
        900_000 < sum(len(json.dumps(record, separators=(",", ":"))) + 1 for record in records) <= 1024 * 1024
    )


async def test_a_slow_reader_is_told_how_much_it_has_missed() -> None:
    audit = make()
    async with aclosing(audit.read()) as reading:
        audit.changed(Change.INSTANCE_STARTED, "i")
        await next_of(reading)
        for number in range(12_000):
            audit.changed(Change.INSTANCE_STARTED, str(number))
        (lost,) = await next_of(reading)
        assert lost.keys() == {"type", "bytes", "receivedAt"}
        assert lost["type"] == "lost"
        assert lost["bytes"] > 100_000
    audit.close()


# Rounds


async def test_heartbeats_come_once_however_many_readers_there_are() -> None:
    audit = make(heartbeat_interval=0.01, living=lambda: ["a", "b"])
    async with aclosing(audit.read()) as one, aclosing(audit.read()) as two:
        both = await asyncio.gather(next_of(one), next_of(two))
        codes = [(13010, "my-hub"), (13012, "a"), (13012, "b")]
        for records in both:
            assert [(record["opCode"], record["objectId"]) for record in records] == codes
            assert {(record["type"], record["opState"]) for record in records} == {("heartbeat", "ACTIVE")}
        assert len(await next_of(one)) == 3
    audit.close()


async def test_without_readers_there_are_no_heartbeats() -> None:
    beats: list[None] = []

    def living() -> list[str]:
        beats.append(None)
        return []

    audit = make(heartbeat_interval=0.001, living=living)
    async with aclosing(audit.read()) as reading:
        await next_of(reading)
    await until(lambda: audit._beat not in audit._timers)
    count = len(beats)
    async with aclosing(audit.read()) as reading:
        await next_of(reading)
        await until(lambda: len(beats) > count, "the heartbeats that begin anew with a reader")
    audit.close()


async def test_a_request_whose_bytes_move_is_active() -> None:
    audit, traffic = make(active_interval=0.001), [0, 0]
    moving = audit.begin(Operation(11201, "moving"), "", lambda: (traffic[0], traffic[1]))
    resting = audit.begin(Operation(11201, "resting"), "", still)
    async with aclosing(audit.read()) as reading:
        assert [record["opState"] for record in await next_of(reading)] == ["START", "START"]
        traffic[1] = 5
        (active,) = await next_of(reading)
        assert (active["opState"], active["objectId"], active["tx"]) == ("ACTIVE", "moving", 5)
        traffic[0] = 7
        (active,) = await next_of(reading)
        assert (active["rx"], active["tx"]) == (7, 5)
    for request in (moving, resting):
        audit.end(request, failed=False)
    audit.close()
    audit.close()


@pytest.mark.parametrize(
    ("code", "change"),
    [
        (0, Change.INSTANCE_ENDED),
        (22, Change.INSTANCE_ENDED),
        (None, Change.INSTANCE_ENDED),
        (137, Change.INSTANCE_TERMINATED),
        (138, Change.INSTANCE_STOPPED),
    ],
)
def test_how_an_instance_has_ended_is_told_by_its_exit_code(code: int | None, change: Change) -> None:
    assert Change.of_exit(code) is change
