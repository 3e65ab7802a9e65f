"""Endpoints of events: send one to an Instance, and see those it emits."""

from typing import Any

from aiohttp import web

from hub_lite.errors import BadRequest, Gone, PayloadTooLarge
from hub_lite.events import EventRecord, EventsOver
from hub_lite.instances import Instance
from runner.protocol.errors import LocalProtocolError

from .answers import JSON_TYPES, OCTETS, json_response, read_json, require_accept
from .instances import instance_of
from .readers import send_to_client

routes = web.RouteTableDef()


@routes.post("/instance/{id}/_event")
async def emit(request: web.Request) -> web.Response:
    """Send an event to an Instance; the body is ``{"eventName", "message"}``, or that behind the code 5001."""
    instance = instance_of(request)
    body = await read_json(request)
    name = body.get("eventName")
    if not isinstance(name, str) or not name:
        raise BadRequest("Invalid format, eventName missing.")
    instance.refuse_when_over()
    try:
        instance.send_event(name, body.get("message"), source="api")
    except LocalProtocolError as error:
        raise PayloadTooLarge(f"the event cannot be sent: {error}") from None
    return json_response({"accepted": "OK"})


@routes.get("/instance/{id}/event/{name}")
async def last_named(request: web.Request) -> web.Response:
    """Answer the message of the last event of a name; wait for the first."""
    require_accept(request, *JSON_TYPES)
    instance = instance_of(request)
    name = request.match_info["name"]
    return json_response((await _wait(instance, instance.events.last(name), name)).message)


@routes.get("/instance/{id}/once/{name}")
async def next_named(request: web.Request) -> web.Response:
    """Answer the message of the next event of a name."""
    require_accept(request, *JSON_TYPES)
    instance = instance_of(request)
    name = request.match_info["name"]
    return json_response((await _wait(instance, instance.events.next(name), name)).message)


@routes.get("/instance/{id}/once")
async def last_of_any(request: web.Request) -> web.Response:
    """Answer the last event, whatever its name, as ``{"eventName", "message"}``; wait for the first."""
    require_accept(request, *JSON_TYPES)
    instance = instance_of(request)
    return json_response((await _wait(instance, instance.events.last(None), "any")).to_json())


@routes.get("/instance/{id}/events/{name}")
async def stream_named(request: web.Request) -> web.StreamResponse:
    """Stream the messages of the events of a name from now on, one JSON value a line."""
    return await _stream(request, request.match_info["name"])


@routes.get("/instance/{id}/event")
async def stream_all(request: web.Request) -> web.StreamResponse:
    """Stream all events from now on, one ``{"eventName", "message"}`` a line."""
    return await _stream(request, None)


async def _stream(request: web.Request, name: str | None) -> web.StreamResponse:
    require_accept(request, OCTETS, "application/x-ndjson", *JSON_TYPES)
    with instance_of(request).events.stream(name) as cursor:
        return await send_to_client(request, cursor, lines=True)


async def _wait(instance: Instance, event: Any, name: str) -> EventRecord:
    try:
        found: EventRecord = await event
    except EventsOver:
        raise Gone(f"Instance {instance.id} has ended, and no event {name!r} will come") from None
    return found
