"""Channel 8 of a real Instance, between the runner's end of it and the server that answers the API."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hub_lite.channel_server import ChannelServer
from hub_lite.instances import Instance, StartPayload
from hub_lite.settings import Settings
from runner.hub_link import HubLink
from runner.protocol.bpmux import (
    DataReceived,
    Event,
    Message,
    MessageType,
    Multiplexer,
    StreamEnded,
    StreamFailed,
    WindowUpdated,
    encode_message,
)
from runner.protocol.channels import Channel
from runner.protocol.hello import encode_hello
from sequence_sdk.hub import HubApi, HubRefused, HubUnreachable, StreamBroken

from .fakes import DEADLINE, FakeProcess, stored_sequence, until

ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"
KIB = 1024
GET = b"GET /api/v1/version HTTP/1.1\r\nHost: scramjet-host\r\nConnection: close\r\n\r\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Bench:
    """An Instance whose channel 8 leads to handlers of the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = ChannelServer(self)
        self.application = web.Application()
        self.application.router.add_route("*", "/api/v1/{path:.*}", self._handle)
        self.runner = web.AppRunner(
            self.application, handler_cancellation=True, shutdown_timeout=0.1, access_log=None
        )
        self.process = FakeProcess()
        self.instance: Any = None
        self.life: Any = None
        self.handler: Handler = self._version
        self.cancelled = asyncio.Event()
        self.accepted: list[Any] = []

    async def open(self) -> None:
        await self.runner.setup()
        await self.server.listen_unix(self.path)
        self.instance = Instance(
            ID, stored_sequence(), StartPayload(), Settings(), serve_stream=self.runner.server
        )
        self.instance.launched(self.process)
        self.life = asyncio.ensure_future(self.instance.run())

    async def close(self) -> None:
        self.process.end(0)
        await self.life
        self.instance.close()
        await self.server.close()
        await self.runner.cleanup()

    def accept(self, instance_id: str, channel: Any, link: Any) -> Any:
        self.accepted.append(link)
        return self.instance.accept(channel, link)

    @property
    def link(self) -> Any:
        return self.accepted[-1]

    async def _version(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"path": request.path})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self.handler(request)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def says(self) -> list[str]:
        text = self.instance.log.tail(self.instance.log.end_offset or 1)
        return [json.loads(line)["msg"] for line in text.splitlines()]

    async def carrier(self) -> socket.socket:
        """Return channel 8 of a runner, its hello said."""
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(link, str(self.path))
        await loop.sock_sendall(link, encode_hello(ID, Channel.PACKAGE))
        return link

    @asynccontextmanager
    async def api(self) -> AsyncIterator[HubApi]:
        """Give the API as a Sequence has it."""
        link = HubLink(await self.carrier())
        try:
            async with asyncio.timeout(DEADLINE):
                yield HubApi(link)
        finally:
            link.close()


@pytest.fixture
async def bench(nothing_left: None, tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "s")
    await bench.open()
    yield bench
    await bench.close()


class Raw:
    """A runner that says what the test lets it say, frame by frame."""

    def __init__(self, link: socket.socket, **options: Any) -> None:
        self.link = link
        self.mux = Multiplexer(**options)
        self.events: list[Event] = []

    async def flush(self) -> None:
        await asyncio.get_running_loop().sock_sendall(self.link, self.mux.take_outgoing())

    async def until(self, kind: type[Event], *, consume: bool = True) -> Any:
        """Read until an event of that kind has come, and return it."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if isinstance(event, kind):
                    return event
            chunk = await asyncio.get_running_loop().sock_recv(self.link, 65536)
            assert chunk, "the hub has closed channel 8"
            for event in self.mux.receive(chunk):
                self.events.append(event)
                if isinstance(event, DataReceived) and consume:
                    self.mux.consumed(event.channel, len(event.data))
            await self.flush()

    async def open(self, request: bytes = b"") -> int:
        channel = self.mux.open()
        await self.flush()
        while not self.mux.allowance(channel):
            await self.until(WindowUpdated)
        assert self.mux.send(channel, request) == len(request)
        await self.flush()
        return channel


@asynccontextmanager
async def raw(bench: Bench, **options: Any) -> AsyncIterator[Raw]:
    link = await bench.carrier()
    try:
        async with asyncio.timeout(DEADLINE):
            yield Raw(link, **options)
    finally:
        link.close()


async def each(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


# --- what comes and goes ----------------------------------------------------------------------------------------------


async def test_a_stream_is_a_connection_to_the_server(bench: Bench) -> None:
    seen: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        seen.append((request.transport.get_extra_info("channel8"), request.host, request.remote))
        assert isinstance(request.transport.get_extra_info("peername"), tuple)
        assert request.transport.get_extra_info("sslcontext") is None
        return web.json_response({"path": request.path})

    bench.handler = handler
    async with bench.api() as api:
        assert await api.version() == {"path": "/api/v1/version"}
        assert await api.instance("i") == {"path": "/api/v1/instance/i"}
    assert seen == [(True, "scramjet-host", "channel 8")] * 2


async def test_many_requests_at_once_each_get_their_answer(bench: Bench) -> None:
    everybody = asyncio.Barrier(20)

    async def handler(request: web.Request) -> web.StreamResponse:
        await everybody.wait()
        return web.json_response({"path": request.path})

    bench.handler = handler
    async with bench.api() as api:
        answers = await asyncio.gather(*(api.instance(str(number)) for number in range(20)))
    assert [answer["path"] for answer in answers] == [f"/api/v1/instance/{number}" for number in range(20)]


async def echo(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    async for chunk in request.content.iter_any():
        await response.write(chunk)
    return response


@pytest.mark.parametrize("size", [0, 1, 64 * KIB, 4 * KIB * KIB])
async def test_a_body_goes_both_ways_at_once(bench: Bench, size: int) -> None:
    bench.handler = echo
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    pieces = [content[start : start + 100_000] for start in range(0, size, 100_000)]
    async with bench.api() as api:
        for body in (content, each(*pieces)):
            async with api.inout("i", body) as chunks:
                assert b"".join([chunk async for chunk in chunks]) == content


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_a_refusal_of_a_body_that_is_not_taken_arrives(bench: Bench, size: int) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.json_response({"error": "it has ended"}, status=410)
        answer.force_close()
        return answer

    bench.runner.server._kwargs["lingering_time"] = 0.0  # type: ignore[union-attr]
    bench.handler = handler
    async with bench.api() as api:
        with pytest.raises(HubRefused, match="it has ended"):
            await api.send("i", "input", b"x" * size)
        with pytest.raises(HubRefused, match="it has ended"):
            await api.send("i", "input", each(b"x" * size))
        bench.handler = bench._version
        assert await api.version() == {"path": "/api/v1/version"}


async def test_a_large_answer_whose_reader_waits_makes_the_server_wait(bench: Bench) -> None:
    written = 0
    end = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        while not end.is_set():
            await response.write(b"x" * 10_000)
            written += 10_000
        return response

    bench.handler = handler
    async with bench.api() as api, api.read("i", "output") as chunks:
        got = len(await anext(chunks))
        await until_still(lambda: written)
        assert (
            written < 600 * KIB
        )  # 256 in the runner, 64 in the transport, 64 in aiohttp, and the last piece
        before = written
        while got < 2_000_000:
            got += len(await anext(chunks))
        assert written > before
        end.set()
        got += sum([len(chunk) async for chunk in chunks])
    assert got == written


async def until_still(value: Callable[[], int]) -> None:
    """Wait until a value is the same for fifty turns of the loop and some time."""
    seen, same = value(), 0
    while same < 50:
        await asyncio.sleep(0.001)
        seen, same = (seen, same + 1) if value() == seen and seen else (value(), 0)


async def test_a_body_that_the_server_does_not_read_makes_the_sequence_wait(bench: Bench) -> None:
    given = 0
    go_on = asyncio.Event()
    total = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal total
        await go_on.wait()
        async for chunk in request.content.iter_any():
            total += len(chunk)
        return web.Response()

    async def body() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(200):
            yield b"x" * 10_000
            given += 10_000

    bench.handler = handler
    async with bench.api() as api:
        sending = asyncio.create_task(api.send("i", "input", body()))
        await until_still(lambda: given)
        assert given < 600 * KIB
        go_on.set()
        await sending
    assert total == given == 2_000_000


async def test_a_runner_that_does_not_read_the_link_costs_no_memory(bench: Bench) -> None:
    written = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 100_000)
            written += 100_000

    bench.handler = handler
    async with raw(bench, window=2**31, max_frame_length=2**31) as runner:
        await runner.open(GET)
        await until_still(lambda: written)
        assert bench.link.full
        assert bench.link._transport.get_write_buffer_size() < 1000 * KIB
        assert written < 5000 * KIB  # most of it in the kernel
        before = written
        while written < before + 10_000_000:
            await runner.until(DataReceived)


async def test_a_runner_that_talks_and_does_not_listen_is_not_heard(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_lite.channel_server._WRITE_HIGH", 1000)
    monkeypatch.setattr("hub_lite.channel_server._SOCKET_BUFFER", 5000)
    monkeypatch.setattr("hub_lite.mux._MAX_UNREAD", 1000)
    loop = asyncio.get_running_loop()
    async with raw(bench) as runner:
        channel = await runner.open(GET)
        await runner.until(StreamEnded)
        said = 0

        async def talk() -> None:
            nonlocal said
            while True:  # data that the hub drops, and confirms
                await loop.sock_sendall(runner.link, encode_message(late_data(channel, said)) + b"\0\0\0\1x")
                said += 1

        talking = loop.create_task(talk())
        await until_still(lambda: said)
        assert bench.link.full
        assert bench.link._transport.get_write_buffer_size() < 100 * KIB
        talking.cancel()
        await asyncio.wait([talking])


def late_data(channel: int, said: int) -> Message:
    return Message(MessageType.DATA, channel, seq=len(GET) + said + 1)


async def test_streams_share_a_link_that_is_full(bench: Bench) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 100_000)

    bench.handler = handler
    async with raw(bench, window=2**31, max_frame_length=2**31) as runner:
        got = {await runner.open(GET): 0 for _ in range(3)}
        while min(got.values()) < 3_000_000:
            event = await runner.until(DataReceived)
            got[event.channel] += len(event.data)


# --- ends -------------------------------------------------------------------------------------------------------------


async def read_answer(runner: Raw) -> bytes:
    answer = b""
    while True:
        event = await runner.until(Event)
        if isinstance(event, DataReceived):
            answer += event.data
        elif isinstance(event, StreamEnded):
            return answer


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_runner_may_end_its_half_before_the_answer(bench: Bench, at_once: bool) -> None:
    go_on = asyncio.Event()
    begun = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        begun.set()
        await go_on.wait()
        return web.json_response({"path": request.path})

    bench.handler = handler
    async with raw(bench) as runner:
        channel = runner.mux.open()
        await runner.flush()
        await runner.until(WindowUpdated)
        runner.mux.send(channel, GET)
        if not at_once:
            await runner.flush()
            await begun.wait()
        runner.mux.end(channel)
        await runner.flush()
        await begun.wait()
        go_on.set()
        answer = await read_answer(runner)
        assert answer.endswith(b'{"path": "/api/v1/version"}')
        assert not runner.mux.is_open(channel)


@pytest.mark.parametrize("part", [10, 200])
async def test_a_request_that_ends_inside_is_broken_off(bench: Bench, part: int) -> None:
    begun = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        begun.set()
        return web.Response(body=await request.read())

    bench.handler = handler
    request = b"POST /api/v1/x HTTP/1.1\r\nHost: scramjet-host\r\nContent-Length: 500\r\n\r\n" + b"x" * 499
    async with raw(bench) as runner:
        channel = await runner.open(request[:part])
        if part > 100:
            await begun.wait()
        runner.mux.end(channel)
        await runner.flush()
        if part > 100:
            await runner.until(StreamFailed)
            await bench.cancelled.wait()
        else:
            await runner.until(StreamEnded)
        assert not runner.mux.is_open(channel)


async def test_a_stream_without_a_request_is_ended_with_it(bench: Bench) -> None:
    async with raw(bench) as runner:
        channel = await runner.open()
        runner.mux.end(channel)
        await runner.flush()
        await runner.until(StreamEnded)
        assert not runner.mux.is_open(channel)


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_an_answer_that_the_server_breaks_off_is_broken(bench: Bench, how: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"a part")
        transport = request.transport
        assert transport is not None
        if how == "abort":
            await go_on.wait()
        getattr(transport, how)()
        assert transport.is_closing()
        getattr(transport, how)()
        return response

    go_on = asyncio.Event()
    bench.handler = handler
    async with bench.api() as api, api.read("i", "output") as chunks:
        assert await anext(chunks) == b"a part"
        go_on.set()
        with pytest.raises(StreamBroken, match="output of Instance i is not complete"):
            await anext(chunks)


async def forever(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun")
    await asyncio.Event().wait()
    return response


async def test_a_reader_that_leaves_ends_its_handler(bench: Bench) -> None:
    bench.handler = forever
    async with bench.api() as api:
        async with api.read("i", "output") as chunks:
            assert await anext(chunks) == b"begun"
        await bench.cancelled.wait()


@pytest.mark.parametrize("how", ["instance", "link"])
async def test_all_streams_end_with_the_instance_or_the_link(bench: Bench, how: str) -> None:
    bench.handler = forever
    async with bench.api() as api, api.read("i", "output") as chunks:
        assert await anext(chunks) == b"begun"
        if how == "instance":
            bench.process.end(0)
            with pytest.raises(StreamBroken, match="the hub has closed it"):
                await anext(chunks)
            with pytest.raises(HubUnreachable):
                await api.version()
        else:
            api._carrier.close()  # type: ignore[attr-defined]
        await bench.cancelled.wait()


async def test_a_carrier_that_breaks_its_rules_is_closed_and_the_instance_lives_on(bench: Bench) -> None:
    bench.handler = forever
    async with raw(bench) as runner:
        await runner.open(GET)
        await runner.until(DataReceived)
        await asyncio.get_running_loop().sock_sendall(runner.link, b"\x00\x00\x00\x01\x63")
        await bench.cancelled.wait()
        with pytest.raises((AssertionError, ConnectionError)):
            await runner.until(StreamEnded)
    assert bench.says() == ["channel 8 breaks the rules and is closed: no message has the type 99"]
    assert not bench.instance.is_over


async def test_a_stream_that_breaks_its_rules_fails_alone(bench: Bench) -> None:
    bench.handler = forever
    async with raw(bench) as runner:
        first = await runner.open(GET)
        second = await runner.open(GET)
        await asyncio.get_running_loop().sock_sendall(
            runner.link, bytes.fromhex("00000009 01") + first.to_bytes(4, "big") + bytes.fromhex("00000001")
        )
        assert (await runner.until(StreamFailed)).channel == first
        await bench.cancelled.wait()
        assert runner.mux.is_open(second)
    assert bench.says() == []


async def test_the_hub_says_that_it_is_alive_to_a_runner_that_has_spoken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_lite.mux.KEEP_ALIVE_INTERVAL", 0.01)
    loop = asyncio.get_running_loop()
    async with raw(bench) as silent:
        await until(lambda: bench.accepted)
        assert bench.instance._links[Channel.PACKAGE]._receiver._keep_alive is None
        await loop.sock_sendall(silent.link, silent.mux.take_outgoing() + b"\x00\x00\x00\x01\x07")
        got = b""
        while len(got) < 10:
            got += await loop.sock_recv(silent.link, 1000)
        assert got == b"\x00\x00\x00\x01\x07" * 2


async def test_the_exchange_that_the_protocol_shows_is_what_happens(bench: Bench) -> None:
    """Source: docs/protocol.md, "BPMux on channel 8"; written by hand, without our multiplexer."""
    loop = asyncio.get_running_loop()
    link = await bench.carrier()
    try:
        await loop.sock_sendall(link, bytes.fromhex("00000009 01 00000000 00004000"))
        hub_handshake = await loop.sock_recv(link, 13)
        assert hub_handshake == bytes.fromhex("00000009 01 00000000 00010000")
        await loop.sock_sendall(
            link,
            bytes.fromhex("00000009 04 00000000")
            + len(GET).to_bytes(4, "big")
            + len(GET).to_bytes(4, "big")
            + GET,
        )
        got = b""
        while not got.endswith(bytes.fromhex("00000005 00 00000000")):
            got += await loop.sock_recv(link, 1000)
        assert bytes.fromhex("0000000d 02 00000000 00010000") + len(GET).to_bytes(4, "big") in got
        assert b"HTTP/1.1 200 OK\r\n" in got
        assert b'{"path": "/api/v1/version"}' in got
        await loop.sock_sendall(link, bytes.fromhex("00000005 00 00000000"))
        await until(lambda: not bench.instance._links[Channel.PACKAGE]._receiver._mux._streams)
    finally:
        link.close()
