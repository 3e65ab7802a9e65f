"""Records every request in the audit."""

from aiohttp import web
from aiohttp.typedefs import Middleware

from hub_lite.audit import Audit, Operation
from hub_lite.settings import API_BASE

from .answers import Handler


def recording(audit: Audit) -> Middleware:
    """Return the middleware that records when a request begins and ends, and whether it came to its end."""

    @web.middleware
    async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
        operation = Operation.of(request.method, request.path.removeprefix(API_BASE))
        if operation is None:
            return await handler(request)
        traffic = _Traffic(request)
        audited = audit.begin(operation, request.headers.get("x-mw-billable", ""), traffic)
        failed = True
        try:
            response = await handler(request)
            transport = request.transport
            failed = transport is None or transport.is_closing()
            traffic.add_unsent(response)
            return response
        finally:
            audit.end(audited, failed=failed)

    return record


class _Traffic:
    """The bytes of a request's body, and of its answer as it is written."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._unsent = 0

    def __call__(self) -> tuple[int, int]:
        return self._request.content.total_bytes, self._request.writer.output_size + self._unsent

    def add_unsent(self, response: web.StreamResponse) -> None:
        """Count the body of an answer that is written when its handler has returned."""
        if isinstance(response, web.Response) and not response.prepared and self._request.method != "HEAD":
            self._unsent = response.content_length or 0
