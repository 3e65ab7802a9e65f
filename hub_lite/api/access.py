"""Applies the rules of access to every request, and tells browsers whose pages may read the answers."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from hub_lite.access import Access

from .answers import Handler, json_response


def guard(access: Access) -> Middleware:
    """Return the middleware that answers what is refused, and ``OPTIONS``."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _is_of_sequence(request):
            return await handler(request)
        preflight = request.method == "OPTIONS"  # which a browser sends without the token
        refusal = access.foreign_host(request.headers) if preflight else access.refusal(request.headers)
        if refusal is not None:
            return json_response(
                {"message": refusal.why} if refusal.needs_token else {"error": refusal.why}, status=403
            )
        if preflight:
            return web.Response(headers=access.preflight_headers(request.headers))
        return await handler(request)

    return check


def cors(access: Access) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return what adds CORS headers to every answer, streams and errors included."""

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(access.cors_headers(request.headers))

    return add


def _is_of_sequence(request: web.Request) -> bool:
    """Tell whether a request comes through channel 8: who has that link was started by this hub."""
    transport = request.transport
    return transport is not None and bool(transport.get_extra_info("channel8"))
