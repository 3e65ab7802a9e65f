"""Servers to compare a hub with: ``python -m bench.servers aiohttp|bytes`` serves the body it reads from stdin.

``aiohttp`` answers a GET, and a POST when it has read its body. It prints its port when it is ready and ends on SIGTERM.
"""

import asyncio
import signal
import sys
from typing import cast

import uvloop
from aiohttp import web


class _Bytes(asyncio.Protocol):
    """Answers every read with the same bytes: no server can be quicker, so it shows how quick the client is."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its ancestors

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)


async def _serve_aiohttp(body: bytes, ended: asyncio.Event) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async def read(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=202, body=body, content_type="application/json")

    application = web.Application()
    application.add_routes([web.get("/", answer), web.post("/", read)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await ended.wait()
    await runner.cleanup()


async def _serve_bytes(body: bytes, ended: asyncio.Event) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )
    server = await asyncio.get_running_loop().create_server(lambda: _Bytes(answer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    server.close()


async def _serve(kind: str, body: bytes) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await (_serve_bytes if kind == "bytes" else _serve_aiohttp)(body, ended)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop_runner:  # the loop that the hub has, too
        loop_runner.run(_serve(sys.argv[1], sys.stdin.buffer.read()))
