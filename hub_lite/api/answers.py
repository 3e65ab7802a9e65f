"""What every endpoint shares: JSON in, JSON out, and errors that clients understand."""

import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
from typing import Any

import orjson
from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE

from hub_lite.descriptions import encode_json
from hub_lite.errors import BadRequest, HubError, PayloadTooLarge, UnparsableContent, UnsupportedMediaType
from hub_lite.hub import Hub

HUB: web.AppKey[Hub] = web.AppKey("hub", Hub)

JSON_TYPES = ("application/json", "text/json")
OCTETS = "application/octet-stream"

_MAX_AT_ONCE = 256 * 1024  # bytes of a body that is copied behind its head
_CHARSETS = ("utf-8", "utf8", "us-ascii")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ExpectedError = HubError | web.HTTPException | web.RequestPayloadError | ConnectionError
EXPECTED_ERRORS = (HubError, web.HTTPException, web.RequestPayloadError, ConnectionError)


_USUAL = {200: "OK", 202: "Accepted"}


class JsonAnswer(web.Response):
    """A JSON answer. The usual one goes out in one write with a head made beforehand.

    That is the answer 200 or 202 without headers of its own, over HTTP/1.1 that leaves the connection open, to a GET, or to a
    POST whose body has arrived. Every other one is left to aiohttp, whose general way to make and write a head costs a third of
    a small request.
    """

    _is_sent = False

    def __init__(self, body: bytes, *, status: int = 200, reason: str | None = None, **headers: str) -> None:
        super().__init__(
            body=body, status=status, reason=reason, content_type="application/json", headers=headers or None
        )

    @property
    def prepared(self) -> bool:
        """Tell whether its head is out."""
        return self._is_sent or super().prepared

    @property
    def keep_alive(self) -> bool | None:
        """Tell whether the connection stays open; None while that is not known."""
        return True if self._is_sent else super().keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the head, and in the usual case the body with it.

        Raises:
            ConnectionError: the client is gone.
        """
        if self._is_sent:
            return None
        body = self.body
        if (
            not (request.method == "GET" or (request.method == "POST" and request.content.is_eof()))
            or self.status not in _USUAL
            or self.reason != _USUAL[self.status]
            or len(self.headers) != 1  # the content type
            or request.version != HttpVersion11
            or not request.keep_alive
            or super().prepared
            or super().keep_alive is not None
            or not isinstance(body, bytes)
            or len(body) > _MAX_AT_ONCE
            or not isinstance(request, web.Request)
            or request.app.on_response_prepare  # somebody adds headers
        ):
            return await super().prepare(request)
        self._is_sent = True
        await request.writer.write_eof(
            b"%b%d\r\n\r\n%b" % (_head(self.status, int(time.time())), len(body), body)
        )
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the body, unless it is out."""
        if not self._is_sent:
            await super().write_eof(data)


@lru_cache(maxsize=2)
def _head(status: int, now: int) -> bytes:
    """Return the head of a usual answer, up to the number of its bytes; ``now`` is in seconds since the epoch."""
    return (
        f"HTTP/1.1 {status} {_USUAL[status]}\r\nContent-Type: application/json\r\nDate: {formatdate(now, usegmt=True)}\r\n"
        f"Server: {SERVER_SOFTWARE}\r\nContent-Length: "
    ).encode("ascii")


def json_response(value: Any, *, status: int = 200, reason: str | None = None, **headers: str) -> JsonAnswer:
    """Return a JSON answer."""
    return JsonAnswer(encode_json(value), status=status, reason=reason, **headers)


def error_answer(request: web.Request, error: ExpectedError) -> web.Response:
    """Return an error as JSON ``{"error": ...}`` with its status.

    Raises:
        HTTPException: the error, where it is none: a redirection.
    """
    match error:
        case HubError():
            return json_response({"error": str(error)}, status=error.status, reason=error.reason)
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return json_response(
                {"error": f"{request.method} is not a method of {request.path}; use {allowed}"},
                status=405,
                Allow=allowed,
            )
        case web.HTTPRequestEntityTooLarge():
            return json_response({"error": f"the body is too large: {error.text}"}, status=413)
        case web.RequestPayloadError():
            answer = json_response({"error": f"the body is cut off or malformed: {error}"}, status=400)
            answer.force_close()  # nobody knows where the next request begins
            return answer
        case web.HTTPException():
            if error.status < 400:
                raise error
            text = f"{request.path} is not a path of this hub" if error.status == 404 else error.reason
            return json_response({"error": text}, status=error.status, reason=error.reason)
        case ConnectionError():  # the client is gone, which is no fault; nobody reads the answer
            return json_response({"error": "the connection was lost"}, status=400)


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
    if "Accept" not in request.headers:
        return
    accepted = ",".join(request.headers.getall("Accept"))
    if not _takes(accepted, kinds):
        raise UnsupportedMediaType(f"this is {kinds[0]}, which Accept: {accepted[:200]} leaves out")


@lru_cache(maxsize=64)  # clients send the same few
def _takes(accepted: str, kinds: tuple[str, ...]) -> bool:
    ranges = {one.partition(";")[0].strip().lower() for one in accepted.split(",")} - {""}
    taken = {"*", "*/*", *kinds, *(kind.partition("/")[0] + "/*" for kind in kinds)}
    return not ranges or bool(ranges & taken)


def require_octets(request: web.Request) -> None:
    """Refuse a body that says it is something else than bytes.

    Raises:
        UnsupportedMediaType: it does.
    """
    declared = request.headers.get("Content-Type", "").strip()
    if declared and request.content_type != OCTETS:
        raise UnsupportedMediaType(f"Content-Type must be {OCTETS} or absent, not {declared}")
