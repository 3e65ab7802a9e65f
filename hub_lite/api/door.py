"""The way of every request in and out: refused, recorded, answered, and its errors made into answers.

It is one middleware, for each one more costs every request a coroutine and its turn.
"""

import logging

from aiohttp import web
from aiohttp.typedefs import Middleware

from hub_lite.access import Access
from hub_lite.audit import Audit

from .access import refusal
from .answers import EXPECTED_ERRORS, Handler, error_answer, json_response
from .audit import begin

logger = logging.getLogger(__name__)


def door(access: Access, audit: Audit) -> Middleware:
    """Return the middleware that lets requests in by these rules, and records them."""

    @web.middleware
    async def pass_through(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = refusal(access, request)
        if refused is not None:
            return refused
        record = begin(audit, request)
        answer: web.StreamResponse | None = None
        try:
            try:
                answer = await handler(request)
            except EXPECTED_ERRORS as error:
                answer = error_answer(request, error)
            except Exception:
                logger.exception("%s %s failed", request.method, request.path)
                answer = json_response(
                    {"error": "Internal error occurred; the hub's log has the details"}, status=500
                )
            return answer
        finally:
            if record is not None:
                if answer is None:
                    record.failed()
                else:
                    record.answered(answer)

    return pass_through
