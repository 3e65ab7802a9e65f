"""Endpoints that are streams: input and stdin one way; output, stdout, stderr and log the other."""

import asyncio
from contextlib import suppress

from aiohttp import web

from hub_lite.errors import BadRequest, HubError, UnsupportedMediaType
from hub_lite.instances import Inlet, InletWriter, Instance
from hub_lite.windows import Cursor, OffsetOutOfRange, ReaderStalled, StreamFailed, Window, WindowClosed
from runner.protocol.errors import LocalProtocolError
from runner.protocol.input_header import encode_input_header
from sequence_sdk.content import ContentType
from sequence_sdk.errors import UnsupportedContentType

from .answers import OCTETS, require_accept, require_octets
from .bodies import chunks, outlive_client
from .instances import instance_of

routes = web.RouteTableDef()

_MAX_DIGITS = 20  # of an offset; longer ones are nowhere, and Python takes its time with very long ones


class RangeNotSatisfiable(HubError):
    """The bytes asked for are not held."""

    status = 416


# --- out of an Instance ---------------------------------------------------------------------------------------------


@routes.get("/instance/{id}/{stream:output|stdout|stderr|log}")
async def read(request: web.Request) -> web.StreamResponse:
    """Stream what leaves an Instance, from ``?offset=`` or from where a new reader starts, to its end.

    The answer has the absolute offset of its first byte in ``X-Stream-Offset``. An output that is not complete is
    broken off, so that a client sees that it is not.
    """
    require_accept(request, OCTETS)
    instance = instance_of(request)
    name = request.match_info["stream"]
    window: Window = getattr(instance, name)
    with _open(window, request.query.get("offset")) as cursor:
        headers = {
            "Content-Type": OCTETS,
            "Cache-Control": "no-store",
            "X-Stream-Offset": str(cursor.offset),
        }
        if request.method == "HEAD":
            return web.Response(headers=headers)  # which takes no bytes away from a reader that wants them
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        cut_off = _cut_off_when_stalled(cursor, request)
        try:
            await _copy(cursor, response, name)
        except (StreamFailed, WindowClosed, ReaderStalled):
            _break_off(request)
        except ConnectionError:
            pass  # the client is gone
        except asyncio.CancelledError:
            if not cut_off.is_set():
                raise
        return response


def _cut_off_when_stalled(cursor: Cursor, request: web.Request) -> asyncio.Event:
    """Let the window see how the client takes its bytes, and cut the client off when it holds up the others."""
    cut_off = asyncio.Event()
    task = asyncio.current_task()

    def cut() -> None:
        cut_off.set()
        _break_off(request, at_once=True)
        if task is not None:
            task.cancel()

    def unsent() -> int:
        transport = request.transport
        return 0 if transport is None else transport.get_write_buffer_size()

    cursor.on_cut = cut
    cursor.unsent = unsent
    return cut_off


def _open(window: Window, wanted: str | None) -> Cursor:
    try:
        match wanted:
            case None | "earliest" | "latest":
                return window.open(wanted)
            case _ if wanted.isascii() and wanted.isdigit() and len(wanted) <= _MAX_DIGITS:
                return window.open(int(wanted))
            case _:
                raise BadRequest(f"offset must be earliest, latest or a number of bytes, not {wanted!r}")
    except OffsetOutOfRange as error:
        raise RangeNotSatisfiable(str(error)) from None


async def _copy(cursor: Cursor, response: web.StreamResponse, name: str) -> None:
    while chunk := await cursor.read():
        missed = cursor.take_missed()
        if missed:
            await response.write(
                f"\n[hub-lite: {missed} bytes of {name} are lost: this reader was too slow]\n".encode()
            )
        await response.write(chunk)


def _break_off(request: web.Request, *, at_once: bool = False) -> None:
    """Close the connection without the end of the body, after what was written, or at once if nobody takes it."""
    transport = request.transport
    if transport is not None:
        if at_once:
            transport.abort()
        else:
            transport.close()


# --- into an Instance -----------------------------------------------------------------------------------------------


@routes.post("/instance/{id}/input")
async def write_input(request: web.Request) -> web.StreamResponse:
    """Stream a body to the Sequence. The first request decides the content type."""
    instance = instance_of(request)
    declared = request.headers.get("Content-Type", "").strip()
    if declared:
        _require_readable(declared)
    writer = await instance.input_writer(declared)
    return await _feed(request, instance, instance.input, writer)


@routes.post("/instance/{id}/stdin")
async def write_stdin(request: web.Request) -> web.StreamResponse:
    """Stream a body to the process's standard input."""
    require_octets(request)
    instance = instance_of(request)
    await instance.stdin.link()
    return await _feed(request, instance, instance.stdin, instance.stdin.writer(lines=False))


def _require_readable(content_type: str) -> None:
    try:
        ContentType.parse(content_type)
    except UnsupportedContentType as error:
        raise UnsupportedMediaType(str(error)) from None
    try:
        encode_input_header(content_type)
    except LocalProtocolError as error:
        raise UnsupportedMediaType(f"Content-Type: {error}") from None


async def _pass_on(request: web.Request, inlet: Inlet, writer: InletWriter, *, end: bool) -> None:
    async with writer:
        async for chunk in chunks(request):
            await writer.write(chunk)
    if end:
        await inlet.end()


async def _feed(
    request: web.Request, instance: Instance, inlet: Inlet, writer: InletWriter
) -> web.StreamResponse:
    """Answer at once, then pass the body on; the answer ends when the body is passed on.

    ``x-end-stream: false`` leaves the stream open for the next request.
    """
    end = request.headers.get("x-end-stream", "").strip().lower() != "false"
    response = web.StreamResponse(status=200 if end else 202)
    response.content_type = "text/plain"
    await response.prepare(request)
    try:
        await outlive_client(request, _pass_on(request, inlet, writer, end=end))
    except (HubError, ConnectionError, web.RequestPayloadError):
        _break_off(request)  # the status is out already; a broken answer says that not all was taken
        return response
    with suppress(ConnectionError):
        await response.write_eof()
    return response
