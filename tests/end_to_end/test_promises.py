"""What a reader of a stream is promised, one test a sentence, with a hub whose windows and time limits are small.

Shown elsewhere, and not again here:

* memory stays flat, and a reader that comes late or stalls loses nothing:
  ``test_streams.test_a_whole_file_of_256_mib_passes_unchanged_with_flat_memory``,
  ``test_streams.test_300_mb_that_nobody_reads_for_five_seconds_arrive_whole``
* a lone item goes out at once: ``test_streams.test_output_streams_while_input_is_still_open``
* a kill on request is a clean end: ``test_streams.test_headers_come_before_the_first_byte``
* a topic's window is replayed by offset: ``test_topics.test_what_the_window_holds_is_there_again_by_offset``
* lines of several producers are not mixed, and every reader gets all of them:
  ``test_topics.test_200_readers_get_all_of_50_writers_in_order``
* a stalled reader of a topic is cut off: ``test_topics.test_a_stalled_reader_is_cut_off_and_the_others_miss_nothing``
* chunks are shared and not copied, and outputs are joined: ``tests/hub_lite/test_windows.py``, ``tests/runner``
"""

import asyncio
import contextlib
import itertools
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .harness import DEADLINE, HubProcess, Talk, running_hub, talking_to

KIB = 1024
MIB = 1024 * KIB
WINDOW = 64 * KIB
STALL = 0.4  # seconds
BLOCK = 16 * KIB
TOTAL = 24 * MIB  # more than the sockets and the windows between two ends ever hold

ECHO = """
    async def run(context, input):
        async for line in input:
            yield line
    """
# Gives numbered blocks, at once or when it is told to, and says so when it has not been asked for one for a while.
NUMBERED = f"""
    import asyncio
    provides = {{"contentType": "application/octet-stream"}}
    given = 0

    async def watch(context):
        seen = -1
        while seen != given or not given:
            seen = given
            await asyncio.sleep(0.2)
        context.emit("stopped", given)

    async def run(context, input):
        global given
        if context.config.get("waits"):
            await anext(input)
        watching = asyncio.create_task(watch(context))
        for given in range(1, {TOTAL // BLOCK} + 1):
            yield given.to_bytes(4, "big") * {BLOCK // 4}
    """
EXPECTED = b"".join(number.to_bytes(4, "big") * (BLOCK // 4) for number in range(1, TOTAL // BLOCK + 1))
NO_UTF8 = bytes(range(256)) + b"\xff\xfe\n\xc3"


def start_hub(folder: Path, **timings: int) -> contextlib.AbstractContextManager[HubProcess]:
    settings = folder / "settings.json"
    settings.write_text(
        json.dumps(
            {
                "streams": {"windowBytes": WINDOW},
                "timings": {"stallTimeout": int(STALL * 1000), **timings},
            }
        )
    )
    return running_hub(folder, "--config", str(settings))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub with small windows and an early stall timeout."""
    with start_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return re.sub(r"[^a-z0-9]", "-", request.node.name)


class SlowReader:
    """A reader that takes nothing from its socket until it is told to."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def rest(self) -> tuple[bytes, bool]:
        """Return the rest of the body, and whether it ended cleanly."""
        body = bytearray()
        async with asyncio.timeout(DEADLINE):
            try:
                while size := int(await self._reader.readline(), 16):
                    body += await self._reader.readexactly(size)
                    await self._reader.readexactly(2)
            except (ConnectionError, asyncio.IncompleteReadError, ValueError) as error:
                if isinstance(error, asyncio.IncompleteReadError):
                    body += error.partial
                return bytes(body), False
        return bytes(body), True


@contextlib.asynccontextmanager
async def slow_reader(talk: Talk, path: str) -> AsyncIterator[SlowReader]:
    """Ask for a stream, and take the head of the answer only."""
    host, port = talk.url.removeprefix("http://").split("/")[0].split(":")
    link = socket.create_connection((host, int(port)))
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
    reader, writer = await asyncio.open_connection(sock=link, limit=KIB)
    try:
        writer.write(f"GET /api/v1{path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE):
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        yield SlowReader(reader)
    finally:
        writer.close()


async def stopped_at(talk: Talk, instance: str) -> int:
    """Return how many blocks the Sequence had given when nobody asked it for more."""
    async with asyncio.timeout(DEADLINE):
        return int(await talk.get(f"/instance/{instance}/event/stopped"))


async def until_still(count: Callable[[], int]) -> None:
    """Wait until a count that has begun does not rise any more."""
    seen = -1
    async with asyncio.timeout(DEADLINE):
        while seen != count() or not seen:
            seen = count()
            await asyncio.sleep(0.2)


async def next_offset(talk: Talk, instance: str) -> int:
    """Return where a new reader would start, without becoming one."""
    async with talk.http.head(f"{talk.url}/instance/{instance}/output") as answer:
        return int(answer.headers["X-Stream-Offset"])


async def until_given(talk: Talk, instance: str, offset: int) -> None:
    """Wait until the hub knows that a reader has had everything before an offset."""
    async with asyncio.timeout(DEADLINE):
        while await next_offset(talk, instance) != offset:
            await asyncio.sleep(0.01)


async def post(talk: Talk, topic: str, body: Any, content_type: str, *, end: bool = False) -> None:
    headers = {"Content-Type": content_type, "x-end-stream": "true" if end else "false"}
    async with talk.http.post(f"{talk.url}/topic/{topic}", data=body, headers=headers) as answer:
        assert answer.status == (200 if end else 202), await answer.text()
        await answer.read()


@contextlib.asynccontextmanager
async def reading(talk: Talk, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
    async with asyncio.timeout(DEADLINE), talk.http.get(talk.url + path) as answer:
        assert answer.status == 200, await answer.text()
        yield answer


# --- the hub never decodes a payload; chunks are cut anywhere ---------------------------------------------------------


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-ndjson", "application/octet-stream"])
async def test_bytes_that_are_no_text_pass_a_topic_whatever_its_type(
    talk: Talk, topic: str, content_type: str
):
    payload = NO_UTF8 + b"\n"
    await post(talk, topic, payload, content_type)
    async with reading(talk, f"/topic/{topic}") as answer:
        assert await answer.content.readexactly(len(payload)) == payload


async def test_bytes_that_are_no_text_pass_stdin_stdout_stderr_and_output(talk: Talk):
    instance = await talk.start(
        """
        import asyncio, os, sys
        provides = {"contentType": "application/octet-stream"}

        async def run(context, input):
            got = await asyncio.to_thread(sys.stdin.buffer.read)
            os.write(1, got)
            os.write(2, got)
            yield got
        """
    )
    await talk.send(instance, NO_UTF8, "application/octet-stream", stream="stdin")
    for stream in ("output", "stdout", "stderr"):
        assert await talk.read(instance, stream) == NO_UTF8


async def test_a_letter_that_is_cut_between_two_chunks_arrives_whole(talk: Talk):
    instance = await talk.start(ECHO)
    letters = "žluť €\n".encode()

    async def cut() -> AsyncIterator[bytes]:
        for number in range(len(letters)):
            yield letters[number : number + 1]
            await asyncio.sleep(0)

    await talk.client.send(instance, "input", cut(), content_type="text/plain")
    assert await talk.read(instance) == letters


# --- back-pressure is end to end --------------------------------------------------------------------------------------


async def test_a_stalled_reader_stops_the_generator_and_takes_its_time_for_ever_if_it_is_alone(talk: Talk):
    instance = await talk.start(NUMBERED)
    async with slow_reader(talk, f"/instance/{instance}/output") as slow:
        assert await stopped_at(talk, instance) < TOTAL // BLOCK
        await asyncio.sleep(3 * STALL)  # the sentence: longer than the stall timeout
        assert await slow.rest() == (EXPECTED, True)


# --- the window of the output -----------------------------------------------------------------------------------------


async def test_output_that_nobody_reads_is_kept_and_the_runner_is_no_longer_read_when_the_window_is_full(
    talk: Talk,
):
    instance = await talk.start(NUMBERED)
    assert await stopped_at(talk, instance) * BLOCK < 4 * MIB, "the window and what the sockets hold"
    assert await next_offset(talk, instance) == 0, "nothing is dropped"
    assert await talk.read(instance) == EXPECTED


async def test_a_window_has_a_bound_and_absolute_offsets(talk: Talk):
    instance = await talk.start(NUMBERED)
    assert await talk.read(instance) == EXPECTED
    async with reading(talk, f"/instance/{instance}/output?offset=earliest") as answer:
        first = int(answer.headers["X-Stream-Offset"])
        held = await answer.read()
    assert first == TOTAL - len(held)
    assert 0 < len(held) <= WINDOW + 256 * KIB
    assert held == EXPECTED[first:]
    async with reading(talk, f"/instance/{instance}/output?offset={TOTAL - 5}") as answer:
        assert answer.headers["X-Stream-Offset"] == str(TOTAL - 5)
        assert await answer.read() == EXPECTED[-5:]


async def test_readers_at_their_own_pace_steal_nothing_from_each_other(talk: Talk):
    instance = await talk.start(ECHO)
    lines = [f"{number}\n".encode() for number in range(50)]
    path = f"/instance/{instance}/output"
    async with reading(talk, path) as ahead, reading(talk, path) as behind:
        for line in lines:
            await talk.send(instance, line, end=False)
            assert await ahead.content.readline() == line
        await talk.send(instance, b"")
        assert await ahead.read() == b""
        assert await behind.read() == b"".join(lines)


async def test_a_new_reader_starts_at_the_first_byte_that_no_reader_was_given(talk: Talk):
    instance = await talk.start(ECHO)
    async with reading(talk, f"/instance/{instance}/output") as first:
        await talk.send(instance, b"had\n", end=False)
        assert await first.content.readline() == b"had\n"
        await until_given(talk, instance, 4)
    await talk.send(instance, b"not had\n")
    async with reading(talk, f"/instance/{instance}/output") as second:
        assert second.headers["X-Stream-Offset"] == "4"
        assert await second.read() == b"not had\n"


async def test_a_new_reader_beside_another_is_live(talk: Talk):
    instance = await talk.start(ECHO)
    async with reading(talk, f"/instance/{instance}/output") as first:
        await talk.send(instance, b"before\n", end=False)
        assert await first.content.readline() == b"before\n"
        await until_given(talk, instance, 7)
        async with reading(talk, f"/instance/{instance}/output") as second:
            await talk.send(instance, b"after\n")
            assert await second.read() == await first.read() == b"after\n"


async def test_an_offset_chooses_another_start(talk: Talk):
    instance = await talk.start(ECHO)
    path = f"/instance/{instance}/output"
    async with reading(talk, path) as first:
        await talk.send(instance, b"0123456789\n", end=False)
        assert await first.content.readline() == b"0123456789\n"
        async with (
            reading(talk, f"{path}?offset=earliest") as earliest,
            reading(talk, f"{path}?offset=4") as fourth,
            reading(talk, f"{path}?offset=latest") as latest,
        ):
            await talk.send(instance, b"end\n")
            assert await earliest.read() == b"0123456789\nend\n"
            assert await fourth.read() == b"456789\nend\n"
            assert await latest.read() == b"end\n"


async def test_an_offset_that_is_none_is_refused(talk: Talk):
    instance = await talk.start(ECHO)
    for offset, status in (("1", 416), ("-1", 400), ("first", 400), ("", 400)):
        answer = await talk.ask("GET", f"/instance/{instance}/output?offset={offset}")
        assert answer.status == status, offset
        assert "earliest" in answer.error, "it says what there is"
    await talk.client.kill(instance)


# --- stdout, stderr and log -------------------------------------------------------------------------------------------

SPEAKER = """
    import sys

    async def run(context, input):
        async for line in input:
            print(line, end="", flush=True)
            print(line, end="", file=sys.stderr, flush=True)
            context.logger.info(line.strip())
            yield line
    """
LOUD = f"""
    import asyncio, os

    async def run(context, input):
        await anext(input)
        for stream in (1, 2):
            for _ in range({TOTAL // BLOCK}):
                left = b"x" * {BLOCK}
                while left:
                    left = left[os.write(stream, left):]
            await asyncio.sleep(0)
        for number in range({TOTAL // (32 * KIB)}):
            context.logger.info("x" * {32 * KIB})
            await asyncio.sleep(0)
        context.emit("done")
        yield "done"
    """


@pytest.mark.parametrize("stream", ["stdout", "stderr", "log"])
async def test_a_new_reader_gets_what_the_window_still_holds_and_then_what_comes(talk: Talk, stream: str):
    instance = await talk.start(SPEAKER)

    async def until_seen(answer: aiohttp.ClientResponse, word: bytes) -> None:
        while word not in await answer.content.readline():
            assert not answer.content.at_eof()

    await talk.send(instance, b"held-1\n", end=False)
    async with (
        reading(talk, f"/instance/{instance}/{stream}") as first,
        reading(talk, f"/instance/{instance}/{stream}") as second,
    ):
        for reader in (first, second):
            await until_seen(reader, b"held-1")
        await talk.send(instance, b"live-2\n", end=False)
        for reader in (first, second):
            await until_seen(reader, b"live-2")
    async with reading(talk, f"/instance/{instance}/{stream}") as late:
        await until_seen(late, b"held-1")
        await until_seen(late, b"live-2")
    await talk.client.kill(instance)


async def test_what_is_said_never_blocks_and_who_misses_some_is_told_how_many_bytes(talk: Talk):
    instance = await talk.start(LOUD)
    async with contextlib.AsyncExitStack() as stack:
        slow = {
            stream: await stack.enter_async_context(slow_reader(talk, f"/instance/{instance}/{stream}"))
            for stream in ("stdout", "stderr", "log")
        }
        await talk.send(instance, b"go\n")
        async with asyncio.timeout(DEADLINE):
            await talk.get(f"/instance/{instance}/event/done")
            assert await talk.read(instance) == b"done"
        for stream in ("stdout", "stderr"):
            got, clean = await slow[stream].rest()
            told = re.compile(rb"\n\[hub-lite: (\d+) bytes are lost here: this reader was too slow\]\n")
            lost = [int(count) for count in told.findall(got)]
            assert clean
            assert lost
            assert len(told.sub(b"", got)) + sum(lost) == TOTAL
        got, clean = await slow["log"].rest()
        assert clean
        records = [json.loads(line) for line in got.splitlines()]  # whole ones, though some are lost between
        said = [re.match(r"(\d+) bytes of this log are lost", record["msg"]) for record in records]
        assert sum(int(found[1]) for found in said if found) > MIB


@pytest.mark.parametrize("stream", ["stdout", "stderr", "log"])
async def test_on_overflow_the_oldest_bytes_go(talk: Talk, stream: str):
    instance = await talk.start(
        """
        import sys

        async def run(context, input):
            for number in range(3000):
                line = f"{number:>99}"
                print(line)
                print(line, file=sys.stderr)
                context.logger.info(line)
            yield ""
        """
    )
    await talk.until_over(instance)
    async with reading(talk, f"/instance/{instance}/{stream}") as late:
        assert int(late.headers["X-Stream-Offset"]) > 0
        got = await late.read()
    assert b" 2999" in got
    assert b" 7 " not in got
    assert WINDOW // 2 < len(got) <= WINDOW


# --- after the end ----------------------------------------------------------------------------------------------------

ENDING = """
    import sys

    async def run(context, input):
        print("s" * 30_000)
        print("e" * 30_000, file=sys.stderr)
        context.logger.info("l" * 30_000)
        for number in range(context.config.get("blocks", 20)):
            if number == context.config.get("pause_at"):
                await anext(input)
            yield str(number % 10) * 1000
        if context.config.get("fails"):
            raise ValueError("as asked")
    """


def output(blocks: int) -> bytes:
    """Return what ``ENDING`` gives."""
    return b"".join(str(number % 10).encode() * 1000 for number in range(blocks))


async def test_what_the_window_holds_stays_readable_until_the_instance_is_removed_also_if_it_errored(
    tmp_path: Path,
):
    with start_hub(tmp_path, instanceLifetimeExtensionDelay=2000) as hub:
        async with talking_to(hub.url) as talk:
            await asyncio.gather(*(_stays_readable(talk, fails=fails) for fails in (False, True)))


async def _stays_readable(talk: Talk, *, fails: bool) -> None:
    instance = await talk.start(ENDING, config={"fails": fails})
    info = await talk.until_over(instance)
    over = time.monotonic()
    assert info["status"] == ("errored" if fails else "completed")
    for query in ("", "?offset=earliest", "?offset=earliest"):
        async with slow_reader(talk, f"/instance/{instance}/output{query}") as late:
            assert await late.rest() == (output(20), not fails)
    for _ in range(2):
        assert b"s" * 30_000 in await talk.read(instance, "stdout")
        assert b"e" * 30_000 in await talk.read(instance, "stderr")
        assert b"l" * 30_000 in await talk.read(instance, "log")
    async with asyncio.timeout(DEADLINE):
        while (await talk.ask("HEAD", f"/instance/{instance}/output")).status != 404:
            await asyncio.sleep(0.05)
    assert time.monotonic() - over > 1.5, "it was kept until then"
    for stream in ("output", "stdout", "stderr", "log"):
        assert (await talk.ask("GET", f"/instance/{instance}/{stream}?offset=earliest")).status == 404


@pytest.mark.parametrize("fails", [False, True], ids=["completed", "errored"])
async def test_a_runner_flushes_all_it_has_and_the_hub_drains_every_socket_before_the_end(
    talk: Talk, fails: bool
):
    blocks = 2 * WINDOW // 1000  # more than the window takes before its socket is no longer read
    instance = await talk.start(
        ENDING, config={"fails": fails, "blocks": blocks, "pause_at": blocks // 2 + 1}
    )
    await talk.send(instance, b"go on\n")  # the window is full by then: what comes now stays in the socket
    async with asyncio.timeout(DEADLINE):
        while "ended" not in await talk.get(f"/instance/{instance}"):
            await asyncio.sleep(0.01)
    async with slow_reader(talk, f"/instance/{instance}/output") as late:
        assert await late.rest() == (output(blocks), not fails)
    assert await talk.read(instance, "stdout") == b"s" * 30_000 + b"\n"
    assert (await talk.read(instance, "stderr")).startswith(b"e" * 30_000 + b"\n")
    assert b"l" * 30_000 in await talk.read(instance, "log")


# --- several readers --------------------------------------------------------------------------------------------------


async def test_several_readers_get_the_same_bytes_and_the_producer_waits_for_the_slowest(talk: Talk):
    instance = await talk.start(NUMBERED, config={"waits": True})
    path = f"/instance/{instance}/output"
    lead, had = 0, {"quick": 0, "slow": 0}

    async def read(answer: aiohttp.ClientResponse, name: str, pause: float) -> bytes:
        nonlocal lead
        got = []
        async for chunk in answer.content.iter_chunked(MIB):
            got.append(chunk)
            had[name] += len(chunk)
            lead = max(lead, had["quick"] - had["slow"])
            await asyncio.sleep(pause)
        return b"".join(got)

    async with reading(talk, path) as one, reading(talk, path) as two, reading(talk, path) as slowest:
        await talk.send(instance, b"go\n")
        all_read = await asyncio.gather(one.read(), read(two, "quick", 0), read(slowest, "slow", STALL / 10))
    assert all_read == [EXPECTED] * 3
    assert lead < TOTAL * 2 / 3, (
        "the sockets hold some, and no more is produced until the slowest has taken it"
    )


async def test_readers_that_stall_together_are_not_cut_off_while_nobody_waits_for_them(talk: Talk):
    instance = await talk.start(NUMBERED, config={"waits": True})
    path = f"/instance/{instance}/output"
    async with slow_reader(talk, path) as one, slow_reader(talk, path) as two:
        await talk.send(instance, b"go\n")
        assert await stopped_at(talk, instance) < TOTAL // BLOCK
        await asyncio.sleep(2 * STALL)  # the sentence: longer than the stall timeout
        assert await asyncio.gather(one.rest(), two.rest()) == [(EXPECTED, True)] * 2


async def test_a_reader_that_stalls_and_keeps_others_waiting_is_cut_off_and_they_go_on(talk: Talk):
    instance = await talk.start(NUMBERED, config={"waits": True})
    path = f"/instance/{instance}/output"
    async with slow_reader(talk, path) as stalled, reading(talk, path) as healthy:
        await talk.send(instance, b"go\n")
        got, gaps, last = bytearray(), [0.0], time.monotonic()
        async for chunk in healthy.content.iter_any():
            gaps.append(time.monotonic() - last)
            last = time.monotonic()
            got += chunk
        assert bytes(got) == EXPECTED
        assert STALL / 2 < max(gaps) < 1.25 * STALL + 2, "they waited for it, and not much longer"
        part, clean = await stalled.rest()
        assert not clean
        assert EXPECTED.startswith(part)
        assert len(part) < TOTAL


# --- topics -----------------------------------------------------------------------------------------------------------


async def test_a_topic_keeps_data_then_its_producers_wait_and_the_first_reader_misses_nothing(
    talk: Talk, topic: str
):
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for start in range(0, TOTAL, BLOCK):
            sent += 1
            yield EXPECTED[start : start + BLOCK]

    sending = asyncio.create_task(post(talk, topic, body(), "application/octet-stream"))
    await until_still(lambda: sent)
    assert sent * BLOCK < TOTAL
    assert not sending.done()
    async with reading(talk, f"/topic/{topic}") as first:
        assert await first.content.readexactly(TOTAL) == EXPECTED
    await sending


async def test_a_topic_replays_no_more_than_its_window(talk: Talk, topic: str):
    lines = b"".join(b"%99d\n" % number for number in range(3000))
    async with reading(talk, f"/topic/{topic}?offset=latest") as reader:
        sending = asyncio.create_task(post(talk, topic, lines, "application/x-ndjson"))
        assert await reader.content.readexactly(len(lines)) == lines
        await sending
        async with reading(talk, f"/topic/{topic}?offset=earliest") as again:
            first = int(again.headers["X-Stream-Offset"])
            assert 0 < first < len(lines)
            assert await again.content.readexactly(len(lines) - first) == lines[first:]
        assert (await talk.ask("GET", f"/topic/{topic}?offset={first - 1}")).status == 416


@pytest.mark.parametrize("size", [1000, 20_000])
async def test_producers_of_octets_are_merged_at_the_borders_of_small_request_chunks(
    talk: Talk, topic: str, size: int
):
    async def chunks(letter: bytes) -> AsyncIterator[bytes]:
        for _ in range(40):
            yield letter * size
            await asyncio.sleep(0.001)  # lets the others in between

    await talk.ask("POST", "/topics", json={"id": topic, "content-type": "application/octet-stream"})
    async with reading(talk, f"/topic/{topic}") as reader:
        sending = [
            asyncio.create_task(post(talk, topic, chunks(letter), "application/octet-stream"))
            for letter in (b"a", b"b", b"c")
        ]
        got = await reader.content.readexactly(3 * 40 * size)
    await asyncio.gather(*sending)
    runs = [(letter, len(list(run))) for letter, run in itertools.groupby(got)]
    assert len(runs) > 3, "they did come in between"
    assert {length % size for _, length in runs} == {0}


async def test_a_request_chunk_of_octets_that_comes_in_two_pieces_is_not_cut_by_another_producer(
    talk: Talk, topic: str
):
    await talk.ask("POST", "/topics", json={"id": topic, "content-type": "application/octet-stream"})
    host, port = talk.url.removeprefix("http://").split("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with reading(talk, f"/topic/{topic}") as answer:
        writer.write(
            f"POST /api/v1/topic/{topic} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
            "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            "3\r\none\r\n8\r\nhalf".encode()
        )
        assert await answer.content.readexactly(3) == b"one"
        other = asyncio.create_task(post(talk, topic, b"other", "application/octet-stream"))
        await asyncio.wait(
            [other], timeout=0.2
        )  # it may have to wait, but others wait for a message 1 s at most
        writer.write(b"HALF\r\n0\r\n\r\n")
        async with asyncio.timeout(DEADLINE):
            assert b" 202 " in await reader.readline()
        writer.close()
        await other
        assert await answer.content.readexactly(13) in (b"halfHALFother", b"otherhalfHALF")


# --- how streams end --------------------------------------------------------------------------------------------------


async def test_output_of_an_errored_instance_is_broken_off_after_all_its_bytes(talk: Talk):
    instance = await talk.start(NUMBERED + '    raise ValueError("at the very end")\n')
    assert await talk.read_until_broken(instance) == EXPECTED
    assert (await talk.until_over(instance))["status"] == "errored"
    async with slow_reader(talk, f"/instance/{instance}/output") as again:
        assert await again.rest() == (b"", False), "who comes when all is given is told as well"


async def test_a_clean_end_means_complete(talk: Talk):
    instance = await talk.start(NUMBERED)
    async with slow_reader(talk, f"/instance/{instance}/output") as reader:
        assert await reader.rest() == (EXPECTED, True)
    assert (await talk.until_over(instance))["status"] == "completed"


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_stop_or_a_kill_on_request_is_no_failure(talk: Talk, how: str):
    instance = await talk.start(ECHO)
    async with slow_reader(talk, f"/instance/{instance}/output") as reader:
        await talk.send(instance, b"some\n", end=False)
        async with reading(talk, f"/instance/{instance}/output?offset=0") as other:
            assert await other.content.readline() == b"some\n"
            await getattr(talk.client, how)(instance)
            assert await other.read() == b""
        assert await reader.rest() == (b"some\n", True)
    assert (await talk.until_over(instance))["status"] == "completed"


@pytest.mark.parametrize("end", ["completes", "raises", "is killed", "leaves"])
async def test_what_is_said_always_ends_cleanly(talk: Talk, end: str):
    instance = await talk.start(
        """
        import os

        async def run(context, input):
            async for line in input:
                match line.strip():
                    case "raises":
                        raise ValueError("as asked")
                    case "leaves":
                        os._exit(7)
                yield line
        """
    )
    paths = [f"/instance/{instance}/{stream}" for stream in ("stdout", "stderr", "log")]
    async with contextlib.AsyncExitStack() as stack:
        live = [await stack.enter_async_context(slow_reader(talk, path)) for path in paths]
        if end == "is killed":
            await talk.client.kill(instance)
        else:
            await talk.send(instance, f"{end}\n".encode())
        for reader in live:
            assert (await reader.rest())[1]
    info = await talk.until_over(instance)
    assert info["status"] == ("errored" if end in ("raises", "leaves") else "completed")
    for path in paths:
        async with slow_reader(talk, path) as late:
            assert (await late.rest())[1]
