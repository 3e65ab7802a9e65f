"""What every endpoint shares: JSON in, JSON out, and errors that clients understand."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from hub_lite.errors import BadRequest, HubError, PayloadTooLarge, UnparsableContent, UnsupportedMediaType
from hub_lite.hub import Hub

HUB: web.AppKey[Hub] = web.AppKey("hub", Hub)

JSON_TYPES = ("application/json", "text/json")
OCTETS = "application/octet-stream"

_CHARSETS = ("utf-8", "utf8", "us-ascii")

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json_response(
    value: Any, *, status: int = 200, reason: str | None = None, **headers: str
) -> web.Response:
    """Return a JSON answer."""
    try:
        body = orjson.dumps(value)
    except (
        TypeError
    ):  # a runner may report integers beyond 64 bits and halves of surrogate pairs, which are JSON too
        body = json.dumps(value).encode("ascii")
    return web.Response(
        body=body,
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
    except web.RequestPayloadError as error:
        answer = json_response({"error": f"the body is cut off or malformed: {error}"}, status=400)
        answer.force_close()  # nobody knows where the next request begins
        return answer
    except web.HTTPException as error:
        if error.status < 400:
            raise
        text = f"{request.path} is not a path of this hub" if error.status == 404 else error.reason
        return json_response({"error": text}, status=error.status, reason=error.reason)
    except ConnectionError:  # the client is gone, which is no fault; nobody reads the answer
        return json_response({"error": "the connection was lost"}, status=400)
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
    declared = request.headers.get("Content-Type", "").strip()
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        most = request.app[HUB].settings.max_body_bytes
        raise PayloadTooLarge(f"a JSON body may have {most} bytes at most") from None
    if not body.strip():
        return {}
    if declared and request.content_type not in JSON_TYPES:
        raise UnparsableContent(f"Content-Type must be application/json, not {declared}")
    if declared and (request.charset or "utf-8").lower() not in _CHARSETS:
        raise UnparsableContent(f"a JSON body must be UTF-8, not {request.charset}")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnparsableContent(f"the body is not JSON: {error}") from None
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], int):  # [code, payload]
        value = value[1]
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"the body must be a JSON object, not {body[:60].decode('utf-8', 'replace')!r}")
    return value


def require_accept(request: web.Request, *kinds: str) -> None:
    """Refuse a client that takes none of the content types that the answer may have. No ``Accept`` takes all.

    Raises:
        UnsupportedMediaType: it does.
    """
    accepted = ",".join(request.headers.getall("Accept", ()))
    ranges = {one.partition(";")[0].strip().lower() for one in accepted.split(",")} - {""}
    taken = {"*", "*/*", *kinds, *(kind.partition("/")[0] + "/*" for kind in kinds)}
    if ranges and not ranges & taken:
        raise UnsupportedMediaType(f"this is {kinds[0]}, which Accept: {accepted[:200]} leaves out")


def require_octets(request: web.Request) -> None:
    """Refuse a body that says it is something else than bytes.

    Raises:
        UnsupportedMediaType: it does.
    """
    declared = request.headers.get("Content-Type", "").strip()
    if declared and request.content_type != OCTETS:
        raise UnsupportedMediaType(f"Content-Type must be {OCTETS} or absent, not {declared}")
