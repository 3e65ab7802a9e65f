"""Endpoints of what Instances keep with the hub: items put aside, state, metrics."""

import asyncio
import json
from typing import Any, NoReturn

from aiohttp import web

from hub_lite.errors import BadRequest, NotFound, PayloadTooLarge, UnsupportedMediaType

from .answers import HUB, JSON_TYPES, OCTETS, json_response, require_accept
from .bodies import chunks
from .instances import instance_of

routes = web.RouteTableDef()

NDJSON = "application/x-ndjson"
_NDJSON_TYPES = (NDJSON, "text/x-ndjson")
_MAX_KEY = 256  # characters
_MAX_VALUE = 64 * 1024  # bytes of JSON
_BLOCK = 256 * 1024
_PROMETHEUS = "text/plain"


# --- quarantine -----------------------------------------------------------------------------------------------------


@routes.get("/instance/{id}/quarantine")
async def read_quarantine(request: web.Request) -> web.StreamResponse:
    """Show the items that an Instance has put aside, each with its error, a JSON record a line."""
    require_accept(request, *_NDJSON_TYPES)
    file, size = await asyncio.to_thread(request.app[HUB].quarantine(instance_of(request).id).open)
    with file:
        response = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-store"})
        response.content_length = size
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        while size:
            block = await asyncio.to_thread(file.read, min(size, _BLOCK))
            size -= len(block)
            await response.write(block)
    return response


@routes.post("/instance/{id}/quarantine")
async def quarantine(request: web.Request) -> web.Response:
    """Keep records of items that could not be worked on, all of them or none.

    A record is a JSON object, one a line; its `error` is a string.
    """
    declared = request.headers.get("Content-Type", "").strip()
    if declared and request.content_type not in (*_NDJSON_TYPES, *JSON_TYPES, OCTETS):
        raise UnsupportedMediaType(f"Content-Type must be {NDJSON}, not {declared}")
    with request.app[HUB].quarantine(instance_of(request).id).intake() as intake:
        async for chunk in chunks(request):
            intake.feed(chunk)
        kept = await asyncio.to_thread(intake.end)
    return json_response({"kept": kept})


# --- state ----------------------------------------------------------------------------------------------------------


@routes.get("/instance/{id}/state")
async def get_all_state(request: web.Request) -> web.Response:
    """Show the whole state of an Instance: values by key."""
    require_accept(request, *JSON_TYPES)
    state = await request.app[HUB].state(instance_of(request).id)
    members = [json.dumps(key).encode() + b":" + value for key, value in state.items()]
    return _json(b"{" + b",".join(members) + b"}")


@routes.delete("/instance/{id}/state")
async def delete_all_state(request: web.Request) -> web.Response:
    """Forget the whole state of an Instance."""
    removed = await request.app[HUB].delete_state(instance_of(request).id)
    return json_response({"removed": removed})


@routes.get("/instance/{id}/state/{key}")
async def get_state(request: web.Request) -> web.Response:
    """Show one value of the state of an Instance."""
    require_accept(request, *JSON_TYPES)
    instance, key = instance_of(request), _key(request)
    state = await request.app[HUB].state(instance.id, key)
    if key not in state:
        _no_key(instance.id, key)
    return _json(state[key])


@routes.put("/instance/{id}/state/{key}")
async def set_state(request: web.Request) -> web.Response:
    """Keep a value in the state of an Instance; the answer comes when it is on the disk."""
    instance, key = instance_of(request), _key(request)
    await request.app[HUB].set_state(instance.id, key, await _value(request, key))
    return json_response({"key": key})


@routes.delete("/instance/{id}/state/{key}")
async def delete_state(request: web.Request) -> web.Response:
    """Forget one value of the state of an Instance."""
    instance, key = instance_of(request), _key(request)
    if not await request.app[HUB].delete_state(instance.id, key):
        _no_key(instance.id, key)
    return json_response({"removed": 1})


def _no_key(instance_id: str, key: str) -> NoReturn:
    raise NotFound(f"the state of Instance {instance_id} has no key {key!r}")


def _key(request: web.Request) -> str:
    key = request.match_info["key"]
    if len(key) > _MAX_KEY:
        raise BadRequest(f"a key may have {_MAX_KEY} characters, and {key[:40]!r}… has {len(key)}")
    return key


async def _value(request: web.Request, key: str) -> bytes:
    """Return the JSON text of a body, whatever its content type says.

    Raises:
        BadRequest: it is none.
        PayloadTooLarge: it is longer than a value may be.
    """
    body = bytearray()
    async for chunk in chunks(request):
        body += chunk
        if len(body) > _MAX_VALUE:
            raise PayloadTooLarge(
                f"a value of a state may have {_MAX_VALUE} bytes of JSON; that of {key!r} has more"
            )
    text = bytes(body.strip())
    if not text:
        raise BadRequest(f"the body is empty; it must be the JSON value of {key!r}")
    try:
        # As Python reads it, for it takes whole numbers of any size and halves of surrogate pairs, which are JSON too.
        json.loads(text.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body must be the JSON value of {key!r}, but it is not JSON: {error}") from None
    return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _json(text: bytes) -> web.Response:
    return web.Response(body=text, content_type=JSON_TYPES[0])


# --- metrics --------------------------------------------------------------------------------------------------------


@routes.get("/instance/{id}/metrics")
async def get_metrics(request: web.Request) -> web.Response:
    """Show what an Instance counts and measures: the newest numbers, or the last ones if it has ended."""
    require_accept(request, *JSON_TYPES)
    return json_response(instance_of(request).metrics)


@routes.get("/metrics")
async def get_all_metrics(request: web.Request) -> web.Response:
    """Show what the hub and all its Instances count and measure, in the text format of Prometheus."""
    require_accept(request, _PROMETHEUS)
    return web.Response(
        body=request.app[HUB].prometheus().encode(),
        headers={"Content-Type": f"{_PROMETHEUS}; version=0.0.4; charset=utf-8", "Cache-Control": "no-store"},
    )
