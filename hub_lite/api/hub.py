"""Endpoints about the hub itself, and the health endpoint of its own for load balancers."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from importlib.metadata import version
from typing import Any

from aiohttp import web

from hub_lite.audit import Audit
from hub_lite.descriptions import encode_json
from hub_lite.errors import HubError
from hub_lite.hub_log import HubLog
from hub_lite.load import LoadMeter
from hub_lite.settings import Settings, file_values, is_place

from .answers import HUB, JSON_TYPES, OCTETS, JsonAnswer, json_response, require_accept
from .openapi import describe

VERSION = version("hub-lite")

LOG: web.AppKey[HubLog] = web.AppKey("log", HubLog)
AUDIT: web.AppKey[Audit] = web.AppKey("audit", Audit)
LOAD: web.AppKey[LoadMeter] = web.AppKey("load", LoadMeter)

routes = web.RouteTableDef()

_VERSION_TEXT = encode_json({"service": "hub-lite", "apiVersion": "v1", "version": VERSION, "build": VERSION})
_LINES = (OCTETS, "application/x-ndjson", "text/x-ndjson", "text/plain")
# Of keys of settings. What is secret is not for those who may look; a new key that sounds like it is not either.
_SECRET = re.compile(r"(key|token|secret|password|envs|credentials)$", re.IGNORECASE)


@routes.get("/version")
async def get_version(request: web.Request) -> web.Response:
    """Say what this is."""
    require_accept(request, *JSON_TYPES)
    return JsonAnswer(_VERSION_TEXT)


@routes.get("/config")
async def get_config(request: web.Request) -> web.Response:
    """Show the settings, as a settings file has them, without secrets and without places on the disk."""
    require_accept(request, *JSON_TYPES)
    return json_response(public_settings(request.app[HUB].settings))


@routes.get("/status")
async def get_status(request: web.Request) -> web.Response:
    """Say how the hub stands to its manager; it has none."""
    require_accept(request, *JSON_TYPES)
    return json_response({"cpm": {}})


@routes.get("/load-check")
async def get_load(request: web.Request) -> web.Response:
    """Say how busy the machine is."""
    require_accept(request, *JSON_TYPES)
    return json_response(await asyncio.to_thread(request.app[LOAD].measure))


@routes.get("/entities")
async def get_entities(request: web.Request) -> web.Response:
    """List all Sequences, Instances and topics."""
    require_accept(request, *JSON_TYPES)
    hub = request.app[HUB]
    return json_response(
        {
            "sequences": hub.describe_sequences(),
            "instances": [hub.describe_instance(one) for one in hub.instances()],
            "topics": hub.topics.describe(),
        }
    )


@routes.get("/log")
async def read_log(request: web.Request) -> web.StreamResponse:
    """Stream the hub's own log, a JSON record a line: what is kept of it, then what comes."""
    return await _stream_lines(request, request.app[LOG].read())


@routes.get("/audit")
async def read_audit(request: web.Request) -> web.StreamResponse:
    """Stream what is done with the hub, a JSON record a line: what is kept of it, then what comes."""
    return await _stream_lines(request, request.app[AUDIT].read())


@routes.get("/openapi.json")
async def get_openapi(request: web.Request) -> web.Response:
    """Describe this API in OpenAPI 3.1."""
    require_accept(request, *JSON_TYPES)
    return json_response(describe(request.app.router, version=VERSION))


async def _stream_lines(request: web.Request, lines: AsyncGenerator[bytes, None]) -> web.StreamResponse:
    require_accept(request, *_LINES)
    headers = {"Content-Type": OCTETS, "Cache-Control": "no-store"}
    if request.method == "HEAD":
        return web.Response(headers=headers)
    response = web.StreamResponse(headers=headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    async with aclosing(lines):
        with suppress(ConnectionError):  # the client is gone
            async for chunk in lines:
                await response.write(chunk)
    return response


def public_settings(settings: Settings) -> dict[str, Any]:
    """Return the tree of a settings file that says what these settings are, as far as everybody may know."""
    tree: dict[str, Any] = {}
    for key, value in file_values(settings).items():
        if is_place(key) or _SECRET.search(key):
            continue
        *parents, leaf = key.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = value
    return tree


def health_path(setting: str) -> str:
    """Return the path of the health endpoint as a URL has it, for the setting with or without slashes."""
    return "/" + setting.strip("/")


def health_handler(path: str, refuse: Callable[[], None]) -> Callable[[web.BaseRequest], Any]:
    """Return what answers a load balancer: 200 ``ok`` while the hub can take starts.

    ``refuse`` raises a HubError if it cannot, and OSError if the system does not tell; it is called in a thread.
    """
    wanted = health_path(path)

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path.rstrip("/") != wanted.rstrip("/"):
            return web.Response(status=404, text=f"the health of this hub is at {wanted}\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="use GET or HEAD\n", headers={"Allow": "GET, HEAD"})
        try:
            await asyncio.to_thread(refuse)
        except HubError as error:
            return web.Response(status=503, text=f"{error}\n")
        except OSError as error:
            return web.Response(
                status=500, text=f"the machine does not tell how full it is: {error.strerror}\n"
            )
        return web.Response(text="ok")

    return answer
