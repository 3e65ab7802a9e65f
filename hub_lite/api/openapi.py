"""The API described in OpenAPI 3.1, from its routes and what their handlers say of themselves."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from hub_lite.settings import API_BASE

_CHOICES = re.compile(r"\(\?P<(\w+)>(\w+(?:\|\w+)+)\)")  # of a path parameter, in the pattern of a resource

_JSON = "application/json"
_STREAM_TYPES = ("application/octet-stream", "application/x-ndjson", "text/x-ndjson", "text/plain")


def _object(**members: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": members}


_FLAG = {"type": "boolean"}
_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}

# Bodies of requests. Their members may be left out where nothing else is said, and so may a body without `required`.
_BODIES = {
    "/sequence/{id}/start": _object(
        appConfig={"type": "object"},
        args={"type": "array"},
        inputTopic=_TEXT,
        outputTopic=_TEXT,
        limits=_object(memory=_NUMBER),
        instanceId={"type": "string", "minLength": 36, "maxLength": 36},
    ),
    "/sequence/{id}/rollback": _object(version={"type": "integer", "minimum": 1}),
    "/instance/{id}/_stop": _object(timeout=_NUMBER, canCallKeepalive=_FLAG),
    "/instance/{id}/_kill": _object(removeImmediately=_FLAG),
    "/instance/{id}/_event": _object(eventName=_TEXT, message={}) | {"required": ["eventName"]},
    "/instance/{id}/_monitoring_rate": _object(monitoringRate=_NUMBER),
    "/instance/{id}/state/{key}": {"description": "Any JSON value.", "required": []},
    "/topics": _object(id=_TEXT, **{"content-type": _TEXT}) | {"required": ["id", "content-type"]},
}

_WITHOUT_BODY = ("/instance/{id}/_reload",)

_ERROR = {
    "type": "object",
    "description": "`error` says what is wrong and what to do; without the right token there is only `message`.",
    "properties": {"error": {"type": ["string", "object"]}, "message": {"type": "string"}},
    "anyOf": [{"required": ["error"]}, {"required": ["message"]}],
}


def describe(router: web.UrlDispatcher, *, version: str) -> dict[str, Any]:
    """Return the document for the routes of a router."""
    paths: dict[str, dict[str, Any]] = {}
    for route, path, parameters in endpoints(router):
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, path, parameters)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hub-lite",
            "version": version,
            "summary": "Runs Sequences and connects their streams.",
        },
        "servers": [{"url": API_BASE}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {"Error": _ERROR},
            "responses": {
                "Error": {
                    "description": "The request is not fulfilled.",
                    "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
                }
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],  # a hub on loopback need not ask for a token
    }


def endpoints(
    router: web.UrlDispatcher,
) -> Iterator[tuple[web.AbstractRoute, str, dict[str, dict[str, Any]]]]:
    """Yield each route with its path below the API's base, and the schemas of the parameters in it."""
    for route in router.routes():
        resource = route.resource
        if resource is None or route.method == "*":
            continue
        found = resource.get_info()
        path = found.get("path") or found.get("formatter")
        if path is None:
            continue  # it looks paths up, and is none
        pattern = found.get("pattern")
        choices = dict(_CHOICES.findall(pattern.pattern)) if pattern is not None else {}
        parameters = {
            name: {"type": "string", **({"enum": choices[name].split("|")} if name in choices else {})}
            for name in re.findall(r"\{(\w+)\}", path)
        }
        yield route, path.removeprefix(API_BASE) or "/", parameters


def _operation(route: web.AbstractRoute, path: str, parameters: dict[str, dict[str, Any]]) -> dict[str, Any]:
    summary, _, description = (inspect.getdoc(route.handler) or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": re.sub(r"[\W_]+", "_", f"{route.method.lower()}{path}").strip("_"),
        "summary": " ".join(summary.split()),
        "tags": [path.strip("/").partition("/")[0].rstrip("s") if "/" in path.strip("/") else "hub"],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": schema}
            for name, schema in parameters.items()
        ],
        "responses": {
            "2XX": {"description": "It is done."},
            "4XX": {"$ref": "#/components/responses/Error"},
            "5XX": {"$ref": "#/components/responses/Error"},
        },
    }
    if description:
        operation["description"] = description
    if route.method in ("POST", "PUT") and path not in _WITHOUT_BODY:
        operation["requestBody"] = _body(path)
    return operation


def _body(path: str) -> dict[str, Any]:
    if path.endswith("/quarantine"):
        schema = _object(number=_NUMBER, item={}, error=_TEXT, traceback=_TEXT) | {"required": ["error"]}
        return {"required": False, "content": {kind: {"schema": schema} for kind in _STREAM_TYPES[1:3]}}
    if path in _BODIES:
        return {"required": "required" in _BODIES[path], "content": {_JSON: {"schema": _BODIES[path]}}}
    kinds = _STREAM_TYPES[:1] if path.startswith("/sequence") or path.endswith("/stdin") else _STREAM_TYPES
    return {"required": False, "content": {kind: {} for kind in kinds}}
