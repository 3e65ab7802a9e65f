"""The data path with sockets and no process."""

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import LinkLost
from runner.protocol.errors import RemoteProtocolError
from runner.pump import InputSource, pump_output
from runner.sockets import SocketReader, SocketWriter
from sequence_sdk.content import ContentType
from sequence_sdk.errors import BadInput, BadOutput, UnsupportedContentType


class Script:
    """A reader that gives the chunks it was told to, then the end."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)

    async def read(self) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""

    def close(self) -> None:
        self.chunks.clear()


async def read_all(source: InputSource) -> tuple[list[Any], str]:
    items: list[Any] = []
    try:
        while (batch := await source.next_batch()) is not None:
            items += batch
    except (ValueError, RemoteProtocolError) as error:
        return items, f"{type(error).__name__}: {error}"
    return items, ""


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted({place % (len(data) + 1) for place in places} - {0, len(data)}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(borders)]


WIRES = [
    b"Content-Type: text/plain\r\n\r\na\nb\xc3\xa9\n\nlast",
    b"Content-Type: application/x-ndjson\r\n\r\n1\n\n{}\nnull",
    b"Content-Type: application/x-ndjson\r\n\r\n1\n{bad\n2",
    b"Content-Type: text/plain\r\n\r\nok\n\xff\nnever",
    b"Content-Type: image/png\r\n\r\nx",
    b"x: y\r\n\r\nx",
    b"no header\r\n\r\n",
    b"Content-Type: cut",
    b"",
]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(WIRES), st.lists(st.integers(0, 100)))
def test_cuts_never_change_the_outcome_errors_included(wire: bytes, places: list[int]) -> None:
    async def outcome(chunks: list[bytes]) -> tuple[list[Any], str]:
        return await read_all(InputSource(Script(*chunks)))  # type: ignore[arg-type]

    assert asyncio.run(outcome(cut(wire, places))) == asyncio.run(outcome([wire] if wire else []))


async def test_an_error_comes_again_for_who_asks_again() -> None:
    source = InputSource(Script(b"Content-Type: application/x-ndjson\r\n\r\n1\n{\n2\n"))  # type: ignore[arg-type]
    assert await source.next_batch() == [1]
    for _ in range(2):
        with pytest.raises(BadInput):
            await source.next_batch()


async def test_a_late_topic_takes_the_place_of_the_prologue_until_input_has_begun() -> None:
    source = InputSource(Script(b"1\n"))  # type: ignore[arg-type]
    source.require("application/x-ndjson")
    assert await read_all(source) == ([1], "")
    late = InputSource(Script(b"Content-Type: text/plain\r\n\r\n", b"1\n", b"2\n"))  # type: ignore[arg-type]
    assert await late.next_batch() == ["1\n"]
    late.require("application/x-ndjson")
    assert await read_all(late) == (["2\n"], "")
    with pytest.raises(UnsupportedContentType):
        late.require("image/png")


async def test_a_source_without_prologue_must_know_its_type() -> None:
    with pytest.raises(UnsupportedContentType):
        InputSource(Script(), has_prologue=False)  # type: ignore[arg-type]


@pytest.fixture
async def link() -> AsyncIterator[tuple[SocketWriter, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        yield SocketWriter(ours), theirs


async def drain(theirs: socket.socket) -> bytes:
    received = bytearray()
    while chunk := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(theirs, 1 << 20), 10):
        received += chunk
    return bytes(received)


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def test_all_items_arrive_in_order(link: tuple[SocketWriter, socket.socket]) -> None:
    writer, theirs = link
    reader = asyncio.ensure_future(drain(theirs))
    await pump_output(numbers(50_000), ContentType.NDJSON, writer)
    writer.end()
    assert [json.loads(line) for line in (await reader).splitlines()] == list(range(50_000))


async def test_a_bad_item_names_its_number_and_what_was_before_it_is_written(
    link: tuple[SocketWriter, socket.socket],
) -> None:
    writer, theirs = link

    async def items() -> AsyncIterator[Any]:
        yield "a"
        yield 5

    with pytest.raises(BadOutput, match="output item 2: text/plain takes str, not int") as caught:
        await pump_output(items(), ContentType.TEXT, writer)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert theirs.recv(10) == b"a"


async def test_items_that_take_the_long_way_keep_their_place_and_their_number(
    link: tuple[SocketWriter, socket.socket],
) -> None:
    writer, theirs = link
    given: list[Any] = [10**30 if number % 3 else {"a": number} for number in range(500)]

    async def items() -> AsyncIterator[Any]:
        for item in given:
            yield item
        yield {1, 2}

    reader = asyncio.ensure_future(drain(theirs))
    with pytest.raises(BadOutput, match="output item 501: application/x-ndjson takes JSON values: set"):
        await pump_output(items(), ContentType.NDJSON, writer)
    writer.end()
    written = await reader
    assert written.endswith(b"\n")
    assert [json.loads(line) for line in written.splitlines()] == given


async def test_an_item_is_written_as_it_was_when_it_was_given(
    link: tuple[SocketWriter, socket.socket],
) -> None:
    writer, theirs = link

    async def items() -> AsyncIterator[Any]:
        item = {"a": 0}
        while item["a"] < 1000:
            yield item
            item["a"] += 1

    reader = asyncio.ensure_future(drain(theirs))
    await pump_output(items(), ContentType.NDJSON, writer)
    writer.end()
    assert [json.loads(line)["a"] for line in (await reader).splitlines()] == list(range(1000))


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


async def test_quick_code_that_becomes_slow_has_each_item_leave_at_once(
    link: tuple[SocketWriter, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, theirs = link
    clock = Clock()
    monkeypatch.setattr("runner.pump.time", clock)
    waiting: list[int] = []

    async def items() -> AsyncIterator[str]:
        for _ in range(500):  # more than leave one by one to begin with
            yield "q"
        received = len(theirs.recv(1 << 20, socket.MSG_PEEK))
        assert received < 500
        for number in range(100):
            clock.now += 1.0
            yield "s"
            waiting.append(500 + number + 1 - len(theirs.recv(1 << 20, socket.MSG_PEEK)))

    await pump_output(items(), ContentType.TEXT, writer)
    assert waiting == [0] * 100


async def test_cancelling_closes_the_sequence_and_writes_what_it_gave(
    link: tuple[SocketWriter, socket.socket],
) -> None:
    writer, theirs = link
    closed = []

    async def items() -> AsyncIterator[str]:
        try:
            while True:
                yield "x" * 1000
        finally:
            closed.append(True)
            raise ValueError("in cleanup")

    task = asyncio.ensure_future(pump_output(items(), ContentType.TEXT, writer))
    while not writer.full:
        await asyncio.sleep(0)
    task.cancel()
    reader = asyncio.ensure_future(drain(theirs))
    with pytest.raises(ValueError, match="in cleanup"):
        await task
    assert closed == [True]
    assert not writer.pending
    writer.end()
    assert len(await reader) % 1000 == 0


async def test_the_authors_error_is_not_hidden_by_a_link_that_breaks_too(
    link: tuple[SocketWriter, socket.socket],
) -> None:
    writer, theirs = link

    async def items() -> AsyncIterator[str]:
        yield "x"
        theirs.close()
        raise KeyError("the author's")

    with pytest.raises(KeyError, match="the author's"):
        await pump_output(items(), ContentType.TEXT, writer)
    with pytest.raises(LinkLost):
        await pump_output(numbers(3), ContentType.NDJSON, writer)


@pytest.mark.parametrize("item", ["", "x", "x" * 70_000])
async def test_code_that_never_waits_gives_the_loop_a_turn(
    link: tuple[SocketWriter, socket.socket], item: str
) -> None:
    writer, theirs = link
    reader = asyncio.ensure_future(drain(theirs))
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    turn()
    seen: list[int] = []

    async def items() -> AsyncIterator[str]:
        while turns < 150:  # more than are given to begin with
            seen.append(turns)
            yield item

    await asyncio.wait_for(pump_output(items(), ContentType.TEXT, writer), 10)
    writer.end()
    assert set(await reader) <= set(b"x")
    assert seen[-1] > 64


async def test_a_reader_and_a_writer_pass_bytes_unchanged(link: tuple[SocketWriter, socket.socket]) -> None:
    writer, theirs = link
    source = InputSource(SocketReader(theirs), declared="application/octet-stream", has_prologue=False)

    async def items() -> AsyncIterator[bytes]:
        for number in range(100):
            yield bytes([number]) * 10_000

    task = asyncio.ensure_future(pump_output(items(), ContentType.OCTETS, writer))
    received = b""
    while len(received) < 1_000_000:
        batch = await asyncio.wait_for(source.next_batch(), 10)
        assert batch
        received += b"".join(batch)
    await task
    assert received == b"".join(bytes([number]) * 10_000 for number in range(100))
