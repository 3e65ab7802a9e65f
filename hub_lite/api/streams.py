"""Endpoints that are streams: input and stdin one way; output, stdout, stderr and log the other."""

import asyncio
from contextlib import suppress

from aiohttp import web

from hub_lite.errors import HubError, UnsupportedMediaType
from hub_lite.inlets import Inlet, InletWriter
from hub_lite.instances import Instance
from hub_lite.windows import Window
from runner.protocol.errors import LocalProtocolError
from runner.protocol.input_header import encode_input_header
from sequence_sdk.content import ContentType
from sequence_sdk.errors import UnsupportedContentType

from .answers import OCTETS, require_accept, require_octets
from .bodies import outlive_client, unjoined
from .instances import instance_of
from .readers import break_off, lost_record, lost_text, open_at, send_to_client

routes = web.RouteTableDef()


# --- out of an Instance ---------------------------------------------------------------------------------------------


@routes.get("/instance/{id}/{stream:output|stdout|stderr|log}")
async def read(request: web.Request) -> web.StreamResponse:
    """Stream what leaves an Instance, from ``?offset=`` or from where a new reader starts, to its end."""
    require_accept(request, OCTETS)
    instance = instance_of(request)
    name = request.match_info["stream"]
    window: Window = getattr(instance, name)
    is_log = name == "log"
    cursor = open_at(window.open, request)
    return await send_to_client(request, cursor, lost=lost_record if is_log else lost_text, lines=is_log)


@routes.post("/instance/{id}/inout")
async def duplex(request: web.Request) -> web.StreamResponse:
    """Stream a body to the input and the output back, over one request.

    The input stays open when the body ends, unless ``x-end-stream: true`` is said; the answer ends with the output.
    """
    instance = instance_of(request)
    writer = await _input_writer(request, instance)
    end = request.headers.get("x-end-stream", "").strip().lower() == "true"

    def feed() -> "asyncio.Task[None]":
        return asyncio.create_task(_pass_on_quietly(request, instance.input, writer, end=end))

    cursor = open_at(instance.output.open, request)
    return await send_to_client(request, cursor, lost=lost_text, beside=feed)


async def _pass_on_quietly(request: web.Request, inlet: Inlet, writer: InletWriter, *, end: bool) -> None:
    with suppress(
        HubError, ConnectionError, web.RequestPayloadError
    ):  # the answer goes on with what comes out
        await _pass_on(request, inlet, writer, end=end)


# --- into an Instance -----------------------------------------------------------------------------------------------


@routes.post("/instance/{id}/input")
async def write_input(request: web.Request) -> web.StreamResponse:
    """Stream a body to the Sequence. The first request decides the content type."""
    instance = instance_of(request)
    return await _feed(request, instance.input, await _input_writer(request, instance))


@routes.post("/instance/{id}/stdin")
async def write_stdin(request: web.Request) -> web.StreamResponse:
    """Stream a body to the process's standard input."""
    require_octets(request)
    instance = instance_of(request)
    await instance.stdin.link()
    return await _feed(request, instance.stdin, instance.stdin.writer(lines=False))


async def _input_writer(request: web.Request, instance: Instance) -> InletWriter:
    declared = request.headers.get("Content-Type", "").strip()
    if declared:
        _require_readable(declared)
    return await instance.input_writer(declared)


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
        async for received in unjoined(request):
            await writer.write(*received)
    if end:
        await inlet.end()


async def _feed(request: web.Request, inlet: Inlet, writer: InletWriter) -> web.StreamResponse:
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
        break_off(request)  # the status is out already; a broken answer says that not all was taken
        return response
    with suppress(ConnectionError):
        await response.write_eof()
    return response
