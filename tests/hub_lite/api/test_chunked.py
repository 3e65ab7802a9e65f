"""Bodies in chunks that do not go through aiohttp's parser: the decoder, its agreement with that parser, and the server."""

import asyncio
import logging
import re
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from hypothesis import example, given
from hypothesis import strategies as st

from hub_lite.api.bodies import pieces
from hub_lite.api.chunked import BULK, BodyRunner, BodyServer, ChunkedDecoder
from hub_lite.windows import LARGE_READ

DEADLINE = 10
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def frame(chunk: bytes, size: str = "%x") -> bytes:
    return size.encode() % len(chunk) + b"\r\n" + chunk + b"\r\n"


def cut(wire: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({0, len(wire), *(place % (len(wire) + 1) for place in places)})
    return [wire[begin:end] for begin, end in pairwise(borders)]


# --- the decoder ----------------------------------------------------------------------------------------------------


def decode(parts: list[bytes]) -> tuple[bytes, list[int], bytes, str]:
    """Give the body, where chunks end in it as far as it is told, what is left for the parser, and the fault."""
    decoder, body, ends, rest = ChunkedDecoder(), b"", [], b""
    for number, part in enumerate(parts):
        for piece, whole in decoder.feed(part if number % 2 else memoryview(part)):
            assert type(piece) is bytes
            body += piece
            if whole:
                ends.append(len(body))
        rest = decoder.held + part[decoder.position :]
        if decoder.stopped:
            rest += b"".join(parts[number + 1 :])
            break
    return body, ends, rest, decoder.fault


framed = st.builds(frame, st.binary(min_size=1, max_size=40), st.sampled_from(["%x", "%X", "%06x", "%015X"]))
tails = st.sampled_from(
    [LAST, b"0;x=y\r\n\r\n", b"000\r\nA: b\r\n\r\n" + HEAD, b"5;a=b\r\nhello\r\n" + LAST, b"x\r\n", b"-1\r\n", b"",
     b"1\r\nabc", b"\r\n", b"5\n", b"+5\r\nhello\r\n", b"5_0\r\n", b"0x5\r\n", b" 5\r\n", b"5 \r\n", b"1" * 16 + b"\r\n"]
)  # fmt: skip


@given(st.lists(framed, max_size=6), tails, st.lists(st.integers(0, 400), max_size=12))
def test_cuts_never_change_what_comes_out_of_the_frames(chunks, tail, places):
    wire = b"".join(chunks) + tail
    body, ends, rest, fault = decode(cut(wire, places))
    expected_body, _, expected_rest, expected_fault = decode([wire])
    assert (body, rest) == (expected_body, expected_rest)
    assert bool(fault) == bool(expected_fault)
    borders, at = {0}, 0
    for chunk in [*chunks, b"1\r\na\r\n"]:
        at += len(re.split(rb"\r\n", chunk, maxsplit=1)[1]) - 2
        borders.add(at)
    assert set(ends) <= borders


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6), st.integers(0, 20))
def test_a_body_comes_out_of_its_frames_and_its_last_line_stays(chunks, place):
    wire = b"".join(frame(chunk) for chunk in chunks) + LAST
    body, ends, rest, fault = decode(cut(wire, [place]))
    assert (body, rest, fault) == (b"".join(chunks), LAST, "")
    assert ends[-1] == len(body)


def test_chunks_that_come_together_are_one_piece_and_what_is_begun_is_another():
    decoder = ChunkedDecoder()
    assert decoder.feed(frame(b"ab") + frame(b"cd") + b"5\r\nefg") == [(b"abcd", True), (b"efg", False)]
    assert decoder.feed(b"hi\r\n" + frame(b"j")) == [(b"hij", True)]
    assert decoder.feed(b"1\r\nk") == [(b"k", False)]
    assert decoder.feed(b"\r") == []
    assert decoder.feed(b"\n") == [(b"", True)]


@pytest.mark.parametrize("end", [b"x", b"\n", b"\rx", b"\r\r\n", b"3\r\n"])
def test_a_chunk_that_does_not_end_where_it_said_is_a_fault_after_what_came_before(end):
    decoder = ChunkedDecoder()
    assert decoder.feed(frame(b"ab") + b"2\r\ncd" + end) == [(b"ab", True), (b"cd", False)]
    assert decoder.stopped
    assert "stands where a chunk should end" in decoder.fault


# --- beside aiohttp's parser ----------------------------------------------------------------------------------------


async def refuse_to_answer(_: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError("nobody begins to answer here")


def outcome(server: web.Server, parts: list[bytes]) -> tuple[list[Any], bool]:
    """Give the requests that a protocol has read to their ends, and whether what follows them is refused."""
    handler: RequestHandler = server()
    for part in parts:
        handler.data_received(part)
    whole: list[Any] = []
    for message, payload in handler._messages:
        if isinstance(message, _ErrInfo):
            return whole, True
        if not payload.is_eof():
            return whole, any(isinstance(later, _ErrInfo) for later, _ in handler._messages)
        body = b"".join(getattr(payload, "_buffer", ()))
        whole.append((message.method, message.path, message.raw_headers, message.chunked, body))
    return whole, False


def agree(wire: bytes, places: list[int]) -> tuple[list[Any], bool]:
    """Let ours read it cut somewhere, and aiohttp's byte by byte.

    In a read that has something wrong in it, aiohttp forgets the requests that stand before it.
    """
    loop = cast("asyncio.AbstractEventLoop", object())  # nothing waits here
    found, refused = outcome(BodyServer(refuse_to_answer, loop=loop), cut(wire, places))
    by_bytes = [wire[at : at + 1] for at in range(len(wire))]
    theirs, refused_by_them = outcome(web.Server(refuse_to_answer, loop=loop), by_bytes)
    assert refused == refused_by_them
    assert found == (theirs[: len(found)] if refused else theirs)
    return found, refused


heads = st.sampled_from(
    [
        HEAD,
        b"\r\n" + HEAD,
        HEAD.replace(b"chunked", b"Chunked"),
        HEAD.replace(b"chunked", b"gzip, chunked"),
        HEAD.replace(b"chunked", b"chunked, gzip"),
        HEAD.replace(b"chunked", b"xchunked"),
        HEAD.replace(b": chunked", b":\r\n chunked"),
        HEAD.replace(b"\r\n\r\n", b"\n\n"),
        HEAD.replace(b"\r\n", b"\n"),
        HEAD.replace(b"Host: x\r\n", b""),
        HEAD.replace(b"Host", b"Content-Length: 4\r\nHost"),
        HEAD.replace(b"Host", b"Transfer-Encoding: identity\r\nHost"),
        HEAD.replace(b"Host", b"Connection: close\r\nHost"),
        HEAD.replace(b"Host", b"Upgrade: websocket\r\nConnection: upgrade\r\nHost"),
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HEAD.replace(b"Transfer-Encoding", b"X-Is"),
        HEAD.replace(b"POST", b"PUT"),
        b"POST /chunked HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n",
        b"POST /chunked HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
)
wires = st.lists(st.one_of(heads, framed, tails, st.just(LAST)), min_size=1, max_size=9).map(b"".join)


@given(wires, st.lists(st.integers(0, 700), max_size=6))
@example(HEAD + frame(b"abc") + LAST + HEAD + frame(b"d") + LAST, [])
@example(HEAD + frame(b"ab\r\n0\r\n\r\nHEAD") + LAST, [len(HEAD) + 12])
@example(HEAD + frame(b"abc") + LAST + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", [len(HEAD)])
@example(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n" + HEAD, [47])
@example(HEAD[:-2] + b"\r\n3\r\nabc\r\n" + LAST, [len(HEAD) - 2])
def test_every_request_is_what_aiohttp_alone_takes_it_for_whatever_is_sent(wire, places):
    agree(wire, places)


@given(
    st.lists(framed, max_size=4),
    st.integers(0, 400),
    st.integers(0, 255),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_one_wrong_byte_makes_of_a_request_what_it_makes_for_aiohttp_alone(chunks, place, byte, places):
    wire = bytearray(HEAD + b"".join(chunks) + LAST + HEAD + frame(b"next") + LAST)
    wire[place % len(wire)] = byte
    agree(bytes(wire), places)


def test_both_find_the_same_requests_behind_each_other():
    trailer = frame(b"ef") + b"0\r\nX-After: y\r\n\r\n"
    found, refused = agree(HEAD + frame(b"abcd") + trailer + HEAD + frame(b"g") + LAST, [len(HEAD) + 3])
    assert [body for *_, body in found] == [b"abcdef", b"g"]
    assert not refused


# --- the server -----------------------------------------------------------------------------------------------------


class Connection:
    """A client's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None
        return int(head.split()[1]), await self.reader.readexactly(int(length[1]))


@asynccontextmanager
async def connected(handle: Callable[[web.Request], Any]) -> AsyncIterator[Connection]:
    application = web.Application()
    application.router.add_route("*", "/", handle)
    runner = BodyRunner(application, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
        async with asyncio.timeout(DEADLINE):
            yield Connection(reader, writer)
        writer.close()
    finally:
        await runner.cleanup()


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=b"".join([piece async for piece, _ in pieces(request)]))


async def test_a_large_body_comes_whole_and_the_connection_goes_on():
    body = bytes(range(251)) * 30_000
    chunks = [body[at : at + 70_001] for at in range(0, len(body), 70_001)]
    wire = HEAD + b"".join(frame(chunk) for chunk in chunks) + LAST
    assert len(wire) > 4 * LARGE_READ > 4 * BULK
    async with connected(echo) as client:
        for _ in range(2):
            client.writer.write(wire + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await client.answer() == (200, body)
            assert await client.answer() == (200, b"")
        client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        assert await client.answer() == (200, b"abc")


async def test_ends_of_chunks_are_told_also_when_they_come_late():
    told: list[tuple[bytes, bool]] = []
    news = asyncio.Event()

    async def note(request: web.Request) -> web.Response:
        async for piece in pieces(request):
            told.append(piece)
            news.set()
        return web.Response()

    async with connected(note) as client:
        for part in (HEAD + b"3\r\nab", b"c\r", b"\n", frame(b"d") + frame(b"e")):
            client.writer.write(part)
            await news.wait()
            news.clear()
        client.writer.write(LAST)
        assert await client.answer() == (200, b"")
    assert told[:4] == [(b"ab", False), (b"c", False), (b"", True), (b"de", True)]


@pytest.mark.parametrize("wrong", [b"x\r\n", b"3\r\nabcd\r\n", b"3;a=b\r\nabcx", b"2\nab\n"])
async def test_a_wrong_chunk_ends_a_request_that_has_begun_at_once(wrong):
    begun, failed = asyncio.Event(), asyncio.Event()

    async def take(request: web.Request) -> web.Response:
        try:
            async for _ in pieces(request):
                begun.set()
        except web.RequestPayloadError:
            failed.set()
            raise web.HTTPBadRequest from None
        raise AssertionError("the body has no end")

    async with connected(take) as client:
        client.writer.write(HEAD + frame(b"ab"))
        await begun.wait()
        client.writer.write(wrong)
        await failed.wait()
        status, _ = await client.answer()
        assert status == 400
        assert await client.reader.read() == b""


@pytest.mark.parametrize("wrong", [b"x\r\n", b"3\r\nabcd\r\n", b"3;a=b\r\nabcx", b"2\nab\n"])
async def test_a_request_that_is_wrong_when_it_comes_is_never_begun(wrong):
    async with connected(echo) as client:
        client.writer.write(HEAD + frame(b"ab") + wrong)
        status, _ = await client.answer()
        assert status == 400
        assert await client.reader.read() == b""


async def test_a_wrong_chunk_behind_an_answer_that_was_given_early_is_nobodys_error(caplog):
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=404)

    with caplog.at_level(logging.WARNING):
        async with connected(refuse) as client:
            client.writer.write(HEAD + frame(b"ab"))
            status, _ = await client.answer()
            assert status == 404
            client.writer.write(b"x\r\n")
            client.writer.write_eof()
            assert await client.reader.read() == b""
    assert caplog.records == []


async def test_what_nobody_reads_is_not_taken_without_end_and_comes_whole_when_somebody_does():
    body = bytes(1_000_000)
    begun, go_on = asyncio.Event(), asyncio.Event()
    held: list[int] = []

    async def take(request: web.Request) -> web.Response:
        begun.set()
        await go_on.wait()
        held.append(request.content._size)
        taken = 0
        async for piece, _ in pieces(request):
            taken += len(piece)
        return web.Response(body=b"%d" % taken)

    async with connected(take) as client:
        client.writer.write(HEAD)
        await begun.wait()
        for _ in range(24):
            client.writer.write(frame(body))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.writer.drain(), 0.2)
        go_on.set()
        client.writer.write(LAST)
        assert await client.answer() == (200, b"%d" % (24 * len(body)))
    assert 0 < held[0] <= 2 * 256 * 1024 + LARGE_READ


async def test_a_client_that_leaves_in_the_middle_ends_the_request():
    begun, lost = asyncio.Event(), asyncio.Event()

    async def take(request: web.Request) -> web.Response:
        try:
            async for _ in pieces(request):
                begun.set()
        except (ConnectionError, asyncio.CancelledError):
            lost.set()
            raise
        raise AssertionError("the body has no end")

    async with connected(take) as client:
        client.writer.write(HEAD + frame(bytes(3 * BULK)) + b"5\r\nab")
        await begun.wait()
        client.writer.close()
        await lost.wait()


async def test_compressed_bodies_are_unpacked_as_ever():
    async with connected(echo) as client:
        packed = zlib.compress(b"abc" * 100)
        client.writer.write(
            HEAD.replace(b"Host", b"Content-Encoding: deflate\r\nHost") + frame(packed) + LAST
        )
        assert await client.answer() == (200, b"abc" * 100)
