"""What every endpoint shares: JSON in, JSON out, and errors that clients understand."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from hub_lite.errors import BadRequest, HubError, PayloadTooLarge, UnparsableContent, UnsupportedMediaType
from hub_lite.hub import Hub, StartFailed

HUB: web.AppKey[Hub] = web.AppKey("hub", Hub)

_JSON_TYPES = ("application/json", "text/json")

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json_response(
    value: Any, *, status: int = 200, reason: str | None = None, **headers: str
) -> web.Response:
    """Return a JSON answer."""
    return web.Response(
        body=orjson.dumps(value),
        status=status,
        reason=reason,
        content_type="application/json",
        headers=headers,
    )


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into JSON ``{"error": ...}`` with its status; what is nobody's fault but ours is logged."""
    try:
        return await handler(request)
    except StartFailed as error:
        return json_response(
            {"result": "error", "opStatus": "Bad Request", "error": str(error), "id": error.instance.id},
            status=error.status,
        )
    except HubError as error:
        return json_response({"error": str(error)}, status=error.status, reason=error.reason)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return json_response(
            {"error": f"{request.method} is not a method of {request.path}; use {allowed}"},
            status=405,
            Allow=allowed,
        )
    except web.HTTPRequestEntityTooLarge as error:
        return json_response({"error": f"the body is too large: {error.text}"}, status=413)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        text = f"{request.path} is not a path of this hub" if error.status == 404 else error.reason
        return json_response({"error": text}, status=error.status, reason=error.reason)
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return json_response({"error": "Internal error occurred; the hub's log has the details"}, status=500)


async def read_json(request: web.Request) -> dict[str, Any]:
    """Return the JSON object of a request, or of the ``[code, {...}]`` that older clients send; nothing is ``{}``.

    Raises:
        UnparsableContent: it is not JSON, or of another content type.
        PayloadTooLarge: it is longer than a JSON body may be.
        BadRequest: it is JSON of another shape.
    """
    declared = request.headers.get("Content-Type", "")
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise PayloadTooLarge(f"a JSON body may have {error.text}") from None
    if not body.strip():
        return {}
    if declared and request.content_type not in _JSON_TYPES:
        raise UnparsableContent(f"Content-Type must be application/json, not {declared}")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnparsableContent(f"the body is not JSON: {error}") from None
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], int):  # [code, payload]
        value = value[1]
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"the body must be a JSON object, not {type(value).__name__}")
    return value


def require_octets(request: web.Request) -> None:
    """Refuse a body that says it is something else than bytes.

    Raises:
        UnsupportedMediaType: it does.
    """
    declared = request.headers.get("Content-Type", "").strip()
    if declared and request.content_type != "application/octet-stream":
        raise UnsupportedMediaType(f"Content-Type must be application/octet-stream or absent, not {declared}")
