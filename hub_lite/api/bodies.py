"""Bodies of requests, to their last byte. What has to be known of aiohttp's insides for that is known here only."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from aiohttp import web

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


async def pieces(request: web.Request) -> AsyncIterator[tuple[bytes, bool]]:
    """Yield a body as ``chunks`` does, each piece with whether it ends a chunk of the request.

    A body of announced length has no chunks: its pieces end none.
    """
    while not request.content.at_eof():  # asked first: of a request without a body there is no last piece
        yield await _whole(request, request.content.readchunk)


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
