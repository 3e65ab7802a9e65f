"""Endpoints about the hub itself."""

from importlib.metadata import version

from aiohttp import web

from .answers import json_response

VERSION = version("hub-lite")

routes = web.RouteTableDef()


@routes.get("/version")
async def get_version(request: web.Request) -> web.Response:
    """Say what this is."""
    return json_response({"service": "hub-lite", "apiVersion": "v1", "version": VERSION, "build": VERSION})
