"""Large bodies in chunks through a real hub: whole, in order, and the connection as good as before."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from .harness import DEADLINE, Talk

OCTETS = "application/octet-stream"


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    return "c" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]


class Sender:
    """A client on a bare connection, which frames its chunks itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, base: str) -> None:
        self.reader = reader
        self.writer = writer
        self.base = base

    def begin(self, path: str, *headers: str) -> None:
        lines = [
            f"POST {self.base}{path} HTTP/1.1",
            "Host: 127.0.0.1",
            "Transfer-Encoding: chunked",
            *headers,
            "",
            "",
        ]
        self.writer.write("\r\n".join(lines).encode())

    async def chunk(self, chunk: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        await self.writer.drain()

    def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")

    async def answer(self) -> tuple[int, bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
        return int(head.split()[1]), await self.reader.readexactly(length)


@asynccontextmanager
async def sending(talk: Talk) -> AsyncIterator[Sender]:
    parts = urlsplit(talk.url)
    assert parts.hostname
    async with asyncio.timeout(DEADLINE):
        sender = Sender(*await asyncio.open_connection(parts.hostname, parts.port), parts.path)
        try:
            yield sender
        finally:
            sender.writer.close()


async def whole(talk: Talk, topic: str) -> bytes:
    headers = {"Content-Type": OCTETS}
    async with (
        asyncio.timeout(DEADLINE),
        talk.http.get(f"{talk.url}/topic/{topic}", headers=headers) as answer,
    ):
        return await answer.read()


async def test_large_bodies_pass_whole_one_after_another_over_one_connection(talk: Talk, topic: str):
    body = bytes(range(253)) * 24_000
    sizes = [1, 70_000, 600_000, 3, 65_536, 1_500_000]
    reading = asyncio.create_task(whole(talk, topic))
    async with sending(talk) as sender:
        for last in (False, True):
            sender.begin(f"/topic/{topic}", f"Content-Type: {OCTETS}", f"x-end-stream: {str(last).lower()}")
            at = number = 0
            while at < len(body):
                size = sizes[number % len(sizes)]
                await sender.chunk(body[at : at + size])
                at, number = at + size, number + 1
            sender.end()
            assert await sender.answer() == (200 if last else 202, b"{}")
            sender.writer.write(f"GET {sender.base}/version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            status, _ = await sender.answer()
            assert status == 200
    assert await reading == body * 2


async def test_chunks_of_two_senders_are_never_mixed(talk: Talk, topic: str):
    size, count = 90_001, 40

    async def send(letter: bytes) -> None:
        async with sending(talk) as sender:
            sender.begin(f"/topic/{topic}", f"Content-Type: {OCTETS}")
            for _ in range(count):
                await sender.chunk(letter * size)
            sender.end()
            assert (await sender.answer())[0] == 202

    reading = asyncio.create_task(whole(talk, topic))
    await asyncio.gather(send(b"a"), send(b"b"))
    async with sending(talk) as sender:
        sender.begin(f"/topic/{topic}", f"Content-Type: {OCTETS}", "x-end-stream: true")
        sender.end()
        assert (await sender.answer())[0] == 200
    read = await reading
    assert len(read) == 2 * size * count
    assert all(len(set(read[at : at + size])) == 1 for at in range(0, len(read), size))


async def test_a_wrong_chunk_is_answered_at_once_and_what_came_before_it_is_in_the_topic(
    talk: Talk, topic: str
):
    path, headers = f"{talk.url}/topic/{topic}", {"Content-Type": OCTETS}
    async with talk.http.get(path, headers=headers) as answer, sending(talk) as sender:
        sender.begin(f"/topic/{topic}", f"Content-Type: {OCTETS}")
        await sender.chunk(b"good")
        assert await answer.content.readexactly(4) == b"good"
        sender.writer.write(b"5\r\nwrong?\r\n")
        status, _ = await sender.answer()
        assert status == 400
        assert await sender.reader.read() == b""


async def test_a_client_that_has_sent_everything_may_go(talk: Talk):
    code = """
        async def run(context, input):
            size = 0
            async for chunk in input:
                size += len(chunk)
            yield str(size)
        """
    instance = await talk.start(code)
    async with sending(talk) as sender:
        sender.begin(f"/instance/{instance}/input", f"Content-Type: {OCTETS}")
        await sender.reader.readuntil(
            b"\r\n\r\n"
        )  # a connection that is closed with something unread is reset
        for _ in range(30):
            await sender.chunk(bytes(100_000))
        sender.end()
        await sender.writer.drain()
    assert (await talk.read(instance)).strip() == b"3000000"
