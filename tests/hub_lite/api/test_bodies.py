"""Bodies of requests whose clients do not stay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from hub_lite.api.answers import HUB
from hub_lite.api.bodies import chunks, outlive_client, unjoined

DEADLINE = 10


class Keeper:
    """The part of a hub that keeps work."""

    def __init__(self) -> None:
        self.kept: list[asyncio.Task[Any]] = []

    def keep(self, work: Any) -> "asyncio.Task[Any]":
        self.kept.append(asyncio.ensure_future(work))
        return self.kept[-1]


class SlowTaker:
    """A handler that takes the first chunk, and the others when it is let go."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.gone = asyncio.Event()
        self.let_go = asyncio.Event()
        self.taken: list[bytes] = []
        self.keeper = Keeper()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            await outlive_client(request, self.take(request))
        except asyncio.CancelledError:
            self.gone.set()
            raise
        return web.Response()

    async def take(self, request: web.Request) -> None:
        async for chunk in chunks(request):
            self.taken.append(chunk)
            self.first.set()
            await self.let_go.wait()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        application = web.Application()
        application[HUB] = self.keeper  # type: ignore[assignment] - all that is asked of it is keep
        application.router.add_post("/", self.handle)
        runner = web.AppRunner(application, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


class SlowUnjoined(SlowTaker):
    """The same, of pieces that are not joined."""

    async def take(self, request: web.Request) -> None:
        async for pieces in unjoined(request):
            assert pieces
            assert all(pieces)
            self.taken += pieces
            self.first.set()
            await self.let_go.wait()


async def send(port: int, taker: SlowTaker, length: int, body: bytes) -> None:
    """Send a body of which ``length`` bytes are announced, and leave while the first chunk is still being taken."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode() + body[:1000])
    await taker.first.wait()
    writer.write(body[1000:])
    writer.close()
    await writer.wait_closed()
    await taker.gone.wait()
    taker.let_go.set()


@pytest.mark.parametrize("kind", [SlowTaker, SlowUnjoined])
async def test_what_a_client_has_sent_before_it_left_comes_to_the_last_byte(kind):
    taker, body = kind(), bytes(range(256)) * 400
    async with taker.serving() as port, asyncio.timeout(DEADLINE):
        await send(port, taker, len(body), body)
        await taker.keeper.kept[0]
    assert b"".join(taker.taken) == body


@pytest.mark.parametrize("kind", [SlowTaker, SlowUnjoined])
async def test_a_client_that_leaves_in_the_middle_ends_the_work(kind):
    taker, body = kind(), bytes(100_000)
    async with taker.serving() as port, asyncio.timeout(DEADLINE):
        await send(port, taker, len(body) + 1, body)
        with pytest.raises(asyncio.CancelledError):
            await taker.keeper.kept[0]


@pytest.mark.parametrize("kind", [SlowTaker, SlowUnjoined])
@pytest.mark.parametrize(
    ("request_text", "body"),
    [
        (b"Content-Length: 0\r\n\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""),
        (b"\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
    ],
)
async def test_a_body_comes_whole_however_it_is_framed(kind, request_text, body):
    taker = kind()
    taker.let_go.set()
    async with taker.serving() as port, asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + request_text)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert b"".join(taker.taken) == body
