"""Applies the rules of access to every request, and tells browsers whose pages may read the answers."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from hub_lite.access import Access

from .answers import json_response


def refusal(access: Access, request: web.Request) -> web.Response | None:
    """Return the answer to what is refused, and to ``OPTIONS``; None if the request may be served."""
    headers = request.headers
    if request.method == "OPTIONS":  # which a browser sends without the token
        refused = access.foreign_host(headers)
        if refused is None and not _is_of_sequence(request):
            return web.Response(headers=access.preflight_headers(headers))
    else:
        refused = access.refusal(headers)
    if refused is None or _is_of_sequence(request):
        return None
    return json_response(
        {"message": refused.why} if refused.needs_token else {"error": refused.why}, status=403
    )


def cors(access: Access) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return what adds CORS headers to every answer, streams and errors included."""

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(access.cors_headers(request.headers))

    return add


def _is_of_sequence(request: web.Request) -> bool:
    """Tell whether a request comes through channel 8: who has that link was started by this hub."""
    transport = request.transport
    return transport is not None and bool(transport.get_extra_info("channel8"))
