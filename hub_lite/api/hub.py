"""Endpoints about the hub itself."""

from importlib.metadata import version

from aiohttp import web

from .answers import JSON_TYPES, json_response, require_accept

VERSION = version("hub-lite")

routes = web.RouteTableDef()


@routes.get("/version")
async def get_version(request: web.Request) -> web.Response:
    """Say what this is."""
    require_accept(request, *JSON_TYPES)
    return json_response({"service": "hub-lite", "apiVersion": "v1", "version": VERSION, "build": VERSION})
