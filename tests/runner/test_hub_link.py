"""The runner's end of channel 8 against a hub's end that the test plays."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from runner.context import RunnerHost
from runner.hub_link import HubLink
from runner.protocol.bpmux import DataReceived, Multiplexer, StreamEnded, StreamFailed, StreamOpened
from sequence_sdk.hub import ClientError, HubUnreachable, StreamBroken, UsedOutsideLoop

DEADLINE = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
OPEN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Hub:
    """The other end: it keeps what comes, and says what the test wants."""

    def __init__(self, link, **options):
        self.link = link
        link.setblocking(False)
        self.mux = Multiplexer(**options)
        self.got = {}
        self.ended = set()
        self.failed = set()

    async def until(self, condition):
        """Read until the condition is true."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await self.read(loop)

    async def read(self, loop, *, consume=True):
        chunk = await loop.sock_recv(self.link, 65536)
        assert chunk, "the runner has closed channel 8"
        for event in self.mux.receive(chunk):
            match event:
                case StreamOpened():
                    self.got[event.channel] = b""
                case DataReceived():
                    self.got[event.channel] += event.data
                    if consume:
                        self.mux.consumed(event.channel, len(event.data))
                case StreamEnded():
                    self.ended.add(event.channel)
                case StreamFailed():
                    self.failed.add(event.channel)
        await self.flush()

    async def flush(self):
        await asyncio.get_running_loop().sock_sendall(self.link, self.mux.take_outgoing())

    async def request(self, channel=0):
        """Wait for the head of a request, and return all that came."""
        await self.until(lambda: b"\r\n\r\n" in self.got.get(channel, b""))
        return self.got[channel]

    async def say(self, data, channel=0, *, end=False):
        while data:
            sent = self.mux.send(channel, data)
            data = data[sent:]
            await self.flush()
            if data:
                room = self.mux.allowance(channel)
                await self.until(lambda before=room: self.mux.allowance(channel) > before)
        if end:
            self.mux.end(channel)
        await self.flush()


@asynccontextmanager
async def connected(**options):
    ours, theirs = socket.socketpair()
    link = HubLink(ours)
    before = asyncio.all_tasks()
    try:
        yield link, Hub(theirs, **options)
    finally:
        link.close()
        theirs.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() <= before, "a request has left a task"


def ask(link, body=None, *, headers=None, method="POST", path="/x"):
    """Make a request and return what came: status and body."""

    async def work():
        async with link.request(method, path, headers=headers or {}, body=body) as answer:
            return answer.status, await answer.read()

    return asyncio.create_task(work())


async def each(*chunks):
    for chunk in chunks:
        yield chunk


async def test_a_request_is_what_the_protocol_says_and_its_answer_comes():
    async with connected() as (link, hub):
        asked = ask(link, method="GET", path="/version")
        assert await hub.request() == (
            b"GET /api/v1/version HTTP/1.1\r\nHost: scramjet-host\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        await hub.say(OK, end=True)
        assert await asked == (200, b"{}")
        await hub.until(lambda: hub.ended)
        assert not hub.mux.is_open(0)


async def test_nothing_is_said_before_the_first_request():
    async with connected() as (link, hub):
        link.flush()
        await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            hub.link.recv(1)


@pytest.mark.parametrize(
    ("body", "framing", "sent"),
    [
        (b"abc", b"Content-Length: 3", b"abc"),
        (each(b"abc", b"", b"d" * 17), b"Transfer-Encoding: chunked", b"3\r\nabc\r\n11\r\n" + b"d" * 17 + b"\r\n0\r\n\r\n"),
    ],
)  # fmt: skip
async def test_a_body_is_sent_as_its_kind_demands(body, framing, sent):
    async with connected() as (link, hub):
        asked = ask(link, body, headers={"Content-Type": "text/plain"})
        await hub.until(lambda: hub.got.get(0, b"").endswith(sent))
        head = hub.got[0].partition(b"\r\n\r\n")[0]
        assert framing in head
        assert b"Content-Type: text/plain" in head
        await hub.say(OK, end=True)
        assert await asked == (200, b"{}")


async def test_a_large_body_waits_for_the_window_of_the_hub():
    content = bytes(range(256)) * 1024
    async with connected(window=1000) as (link, hub):
        asked = ask(link, content)
        loop = asyncio.get_running_loop()
        while len(hub.got.get(0, b"")) < 1000:
            await hub.read(loop, consume=False)
        with pytest.raises(BlockingIOError):
            hub.link.recv(1)
        hub.mux.consumed(0, 1000)
        await hub.flush()
        await hub.until(lambda: hub.got[0].endswith(content))
        await hub.say(OK, end=True)
        assert await asked == (200, b"{}")


async def test_an_answer_that_nobody_reads_closes_the_window():
    async with connected() as (link, hub):
        opened = asyncio.Event()
        go_on = asyncio.Event()

        async def slow():
            async with link.request("GET", "/log", headers={}, body=None) as answer:
                opened.set()
                await go_on.wait()
                return b"".join([chunk async for chunk in answer.chunks()])

        reader = asyncio.create_task(slow())
        await hub.request()
        content = b"x" * 1_000_000
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
        saying = asyncio.create_task(hub.say(head + content, end=True))
        await opened.wait()
        while hub.mux.allowance(0):
            await asyncio.sleep(0)
        assert not saying.done()
        assert sum(map(len, link._exchanges[0]._pieces)) <= 256 * 1024
        go_on.set()
        assert await reader == content
        await saying


async def test_a_reader_that_leaves_breaks_the_request_off():
    async with connected() as (link, hub):

        async def peek():
            async with link.request("GET", "/log", headers={}, body=None) as answer:
                return await anext(answer.chunks())

        reader = asyncio.create_task(peek())
        await hub.request()
        await hub.say(OPEN + b"3\r\nabc\r\n3\r\ndef\r\n")
        assert await reader == b"abc"
        await hub.until(lambda: hub.failed)
        asked = ask(link)
        await hub.request(1)
        await hub.say(OK, 1, end=True)
        assert await asked == (200, b"{}")


async def test_an_answer_until_the_end_of_the_stream_is_whole():
    async with connected() as (link, hub):
        asked = ask(link)
        await hub.request()
        await hub.say(b"HTTP/1.1 200 OK\r\n\r\nall of it", end=True)
        assert await asked == (200, b"all of it")


@pytest.mark.parametrize(
    ("said", "how", "why"),
    [
        (OPEN + b"3\r\nabc\r\n", "end", "ended before it was complete"),
        (OPEN + b"3\r\nabc\r\n", "fail", "the hub broke it off"),
        (OPEN + b"3\r\nabc\r\nnonsense\r\n", "", "not the size of a chunk"),
        (OPEN + b"3\r\nabc\r\n", "close", "channel 8 is over: the hub has closed it"),
        (OPEN + b"3\r\nabc\r\n", "break", "channel 8 is over: it cannot be read further"),
    ],
)
async def test_an_answer_that_is_broken_off_is_so_after_its_bytes(said, how, why):
    async with connected() as (link, hub):
        got = []

        async def work():
            async with link.request("GET", "/x", headers={}, body=None) as answer:
                async for chunk in answer.chunks():  # what came before an error counts
                    got.append(chunk)  # noqa: PERF401

        asked = asyncio.create_task(work())
        await hub.request()
        await hub.say(said, end=how == "end")
        if how == "fail":
            hub.mux.fail(0)
            await hub.flush()
        elif how == "close":
            hub.link.shutdown(socket.SHUT_WR)
        elif how == "break":
            hub.link.send(b"\xff" * 8)
        with pytest.raises(StreamBroken, match=why):
            await asyncio.wait_for(asked, DEADLINE)
        assert got == [b"abc"]


async def test_a_hub_that_goes_away_before_it_answers_is_unreachable_and_stays_so():
    async with connected() as (link, hub):
        first, second = ask(link), ask(link, each(b"x"))
        await hub.request(1)
        hub.link.close()
        for asked in (first, second):
            with pytest.raises(HubUnreachable, match="no hub answers at channel 8 "):
                await asyncio.wait_for(asked, DEADLINE)
        with pytest.raises(HubUnreachable):
            await ask(link)


async def test_what_a_body_raises_comes_out_and_the_request_is_broken_off():
    async def bad():
        yield b"abc"
        raise LookupError("no more")

    async with connected() as (link, hub):
        asked = ask(link, bad())
        with pytest.raises(LookupError, match="no more"):
            await asyncio.wait_for(asyncio.gather(asked, hub.until(lambda: hub.failed)), DEADLINE)
        await hub.until(lambda: hub.failed)


async def test_a_refusal_comes_though_the_body_is_not_taken():
    closed = asyncio.Event()

    async def endless():
        try:
            while True:
                yield b"x" * 1000
        finally:
            closed.set()

    async with connected(window=4000) as (link, hub):
        asked = ask(link, endless())
        await hub.request()
        await hub.say(b"HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\ngone")
        hub.mux.end(0)
        hub.mux.fail(0)
        await hub.flush()
        assert await asyncio.wait_for(asked, DEADLINE) == (410, b"gone")
        assert closed.is_set()


async def test_requests_are_on_streams_of_their_own():
    async with connected() as (link, hub):
        asked = [ask(link, str(number).encode()) for number in range(20)]
        await hub.until(lambda: all(hub.got.get(n, b"").endswith(str(n).encode()) for n in range(20)))
        for number in reversed(range(20)):
            answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(str(number))}\r\n\r\n{number}"
            await hub.say(answer.encode(), number, end=True)
        assert await asyncio.gather(*asked) == [(200, str(number).encode()) for number in range(20)]


async def test_too_many_requests_at_a_time_are_refused_here():
    async with connected() as (link, _hub):
        link._mux = Multiplexer(max_streams=1)
        first = ask(link)
        await asyncio.sleep(0)
        with pytest.raises(ClientError, match="too many requests at a time"):
            await ask(link)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_request_that_is_cancelled_leaves_nothing():
    async with connected() as (link, hub):
        asked = ask(link, each(b"x"))
        await hub.request()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await hub.until(lambda: hub.failed)
        assert link._exchanges == {}


async def test_closing_twice_is_closing_and_breaks_off_what_is_open():
    async with connected() as (link, hub):
        asked = ask(link)
        await hub.request()
        link.close()
        link.close()
        with pytest.raises(HubUnreachable, match="the Sequence has ended"):
            await asked
        with pytest.raises(HubUnreachable, match="the Sequence has ended"):
            await ask(link)


async def test_it_says_that_it_is_alive(monkeypatch):
    monkeypatch.setattr("runner.hub_link.KEEP_ALIVE_INTERVAL", 0.01)
    async with connected() as (link, hub):
        asked = ask(link)
        await hub.request()
        chunks = b""
        async with asyncio.timeout(DEADLINE):
            while chunks.count(b"\x00\x00\x00\x01\x07") < 2:
                chunks += await asyncio.get_running_loop().sock_recv(hub.link, 65536)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked


async def test_another_loop_may_not_use_it():
    async with connected() as (link, _):
        host = RunnerHost(heartbeat=None)
        with pytest.raises(UsedOutsideLoop):
            _ = host.hub
        host.open_hub(link)
        assert host.hub is host.hub

        def in_a_thread():
            with pytest.raises(UsedOutsideLoop, match="in an `async def`"):
                _ = host.hub
            return asyncio.run(in_another_loop())

        async def in_another_loop():
            with pytest.raises(UsedOutsideLoop):
                async with link.request("GET", "/x", headers={}, body=None):
                    pass
            return True

        assert await asyncio.to_thread(in_a_thread)
