"""Records every request in the audit."""

from functools import lru_cache

from aiohttp import web

from hub_lite.audit import Audit, AuditedRequest, Operation
from hub_lite.settings import API_BASE

_MAX_PATH = 200  # characters of a path whose operation is remembered; clients choose it


class Record:
    """The record of one request that is under way; called, it tells the bytes of its body and of its answer so far."""

    __slots__ = ("_audit", "_audited", "_request", "_unsent")

    def __init__(self, audit: Audit, operation: Operation, request: web.Request) -> None:
        """Record the beginning."""
        self._audit = audit
        self._request = request
        self._unsent = 0
        self._audited: AuditedRequest = audit.begin(operation, request.headers.get("x-mw-billable", ""), self)

    def __call__(self) -> tuple[int, int]:
        """Return the bytes received and sent so far."""
        request = self._request
        return request.content.total_bytes, request.writer.output_size + self._unsent

    def answered(self, response: web.StreamResponse) -> None:
        """Record the end of a request that has come to its answer, and whether that was broken off."""
        request = self._request
        transport = request.transport
        if isinstance(response, web.Response) and not response.prepared and request.method != "HEAD":
            self._unsent = response.content_length or 0  # it is written when its handler has returned
        self._audit.end(self._audited, failed=transport is None or transport.is_closing())

    def failed(self) -> None:
        """Record the end of a request that has got no answer."""
        self._audit.end(self._audited, failed=True)


def begin(audit: Audit, request: web.Request) -> Record | None:
    """Record the beginning of a request; None if it is of those that are not recorded."""
    path = request.raw_path
    operation = (
        _operation(request.method, path)
        if len(path) <= _MAX_PATH and "%" not in path and "?" not in path
        else _operation_of(request.method, request.path)
    )
    return None if operation is None else Record(audit, operation, request)


def _operation_of(method: str, path: str) -> Operation | None:
    return Operation.of(method, path.removeprefix(API_BASE))


_operation = lru_cache(maxsize=512)(_operation_of)  # the same few are asked for again and again
