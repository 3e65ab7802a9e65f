"""Bodies of requests, to their last byte. What has to be known of aiohttp's insides for that is known here only."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from aiohttp import StreamReader, web

from .answers import HUB

T = TypeVar("T")


async def chunks(request: web.Request) -> AsyncIterator[bytes]:
    """Yield a body as it comes, cut anywhere.

    aiohttp forgets what it has received when the client is gone. A client that has sent everything may go: here its
    body still comes whole.

    Raises:
        ConnectionError, web.RequestPayloadError: the client went away, or broke the rules, before its body was whole.
    """
    while chunk := await _whole(request, request.content.readany):
        yield chunk


async def unjoined(request: web.Request) -> AsyncIterator[list[bytes]]:
    """Yield a body as ``chunks`` does, but each chunk in the pieces that aiohttp has made of it, at least one.

    aiohttp's own reader joins all that it holds, which is one copy of every byte for somebody who can do without.
    """
    while not request.content.at_eof():
        if received := await _whole(request, partial(_received, request.content)):
            yield received


async def _received(content: StreamReader) -> list[bytes]:
    if content._exception is not None:
        raise content._exception
    while not content._buffer and not content._eof:
        await content._wait("unjoined")
    return [content._read_nowait_chunk(-1) for _ in range(len(content._buffer))]


async def pieces(request: web.Request) -> AsyncIterator[tuple[bytes, bool]]:
    """Yield a body as ``chunks`` does, each piece with whether it ends a chunk of the request.

    Shape: whole chunks that came together may be one piece. A body of announced length has no chunks: its pieces end
    none.
    """
    while not request.content.at_eof():
        for piece in await _whole(request, partial(_marked, request.content)):
            yield piece


async def _marked(content: StreamReader) -> list[tuple[bytes, bool]]:
    if content._exception is not None:
        raise content._exception
    while not content._buffer and not content._http_chunk_splits and not content._eof:
        await content._wait("pieces")
    pieces = []
    if not content._buffer and content._http_chunk_splits:
        content._http_chunk_splits.clear()  # the end of a chunk came after its last byte was taken
        pieces.append((b"", True))
    for _ in range(len(content._buffer)):
        piece = content._read_nowait_chunk(-1)  # which ends where a chunk does, or before
        ends = content._http_chunk_splits
        if ends and ends[0] == content._cursor:
            ends.popleft()
            pieces.append((piece, True))
        else:
            pieces.append((piece, False))
    return pieces


async def _whole(request: web.Request, read: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await read()
        except (ConnectionError, web.RequestPayloadError):
            if not request.content.is_eof():
                raise
            request.content._exception = None  # the reader would rather say that the client is gone


async def outlive_client(request: web.Request, work: Coroutine[Any, Any, None]) -> None:
    """Do work on a body; if the client goes away after it has sent everything, the work goes on without it."""
    task = request.app[HUB].keep(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if not request.content.is_eof():
            task.cancel()
        raise
