"""Bodies of requests, to their last byte. What has to be known of aiohttp's insides for that is known here only."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from aiohttp import web

from .answers import HUB


async def chunks(request: web.Request) -> AsyncIterator[bytes]:
    """Yield a body as it comes, cut anywhere.

    aiohttp forgets what it has received when the client is gone. A client that has sent everything may go: here its
    body still comes whole.

    Raises:
        ConnectionError, web.RequestPayloadError: the client went away, or broke the rules, before its body was whole.
    """
    content = request.content
    while True:
        try:
            chunk = await content.readany()
        except (ConnectionError, web.RequestPayloadError):
            if not content.is_eof():
                raise
            content._exception = None
            continue
        if not chunk:
            return
        yield chunk


async def outlive_client(request: web.Request, work: Coroutine[Any, Any, None]) -> None:
    """Do work on a body; if the client goes away after it has sent everything, the work goes on without it."""
    task = request.app[HUB].keep(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if not request.content.is_eof():
            task.cancel()
        raise
