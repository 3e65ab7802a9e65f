"""What is done with the hub, by whom: a record for each request, each change of state, and a heartbeat.

Source: docs/http-api.md, "Audit".
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Any, Protocol

import orjson

from runner.protocol.exit_codes import ExitCode

from .hub_log import Lines

_KEPT_BYTES = 1024 * 1024
_ACTIVE_INTERVAL = 1.0  # seconds between two records of a request whose bytes move
_MAX_ID = 200  # characters; clients choose them

SYSTEM = "system"


class OpState(StrEnum):
    """How far something is."""

    START = "START"
    ACTIVE = "ACTIVE"
    END = "END"
    ERROR = "ERROR"  # the connection was lost or broken off before the end
    NONE = ""


class Change(IntEnum):
    """What became of something, or that it lives. No two are the same number."""

    INSTANCE_STARTED = 0
    INSTANCE_STOPPED = 1
    INSTANCE_ENDED = 2
    INSTANCE_TERMINATED = 3
    INSTANCE_CONNECTED = 4
    INSTANCE_RELOADED = 5
    SEQUENCE_CREATED = 10
    SEQUENCE_DELETED = 11
    SEQUENCE_UPDATED = 12
    HOST_HEARTBEAT = 13010
    INSTANCE_HEARTBEAT = 13012

    @classmethod
    def of_exit(cls, code: int | None) -> "Change":
        """Return how an Instance has ended, by its exit code."""
        return _ENDS.get(code, cls.INSTANCE_ENDED)

    @property
    def kind(self) -> str:
        """The ``type`` of its record."""
        return "heartbeat" if self >= self.HOST_HEARTBEAT else self.name.partition("_")[0].lower()


_ENDS: dict[int | None, Change] = {
    ExitCode.KILLED: Change.INSTANCE_TERMINATED,
    ExitCode.STOPPED: Change.INSTANCE_STOPPED,
}

_KINDS = {"sequence": 0, "sequences": 0, "instance": 1, "instances": 1, "topic": 2, "topics": 2}
_METHODS = {"POST": 1, "GET": 2, "HEAD": 2, "PUT": 3, "DELETE": 4}
_OPERATIONS = [
    "stdout", "stderr", "stdin", "log", "monitoring", "output", "input", "health", "events", "event", "once",
    "_monitoring_rate", "_event", "_stop", "_kill", "instances", "start", "inout", "_reload",
    "quarantine", "state", "metrics", "versions", "rollback",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """What a request is about."""

    code: int
    object_id: str

    @classmethod
    def of(cls, method: str, path: str) -> "Operation | None":
        """Return the operation of a path below the API's base; None if it is not recorded."""
        kind, object_id, operation, *_ = [*filter(None, path.split("/")), "", "", ""]
        if kind not in _KINDS or method not in _METHODS:
            return None
        number = _OPERATIONS.index(operation) + 1 if operation in _OPERATIONS else 0
        return cls(10000 + 1000 * _KINDS[kind] + 100 * _METHODS[method] + number, object_id)


@lru_cache(maxsize=512)  # the same few come again and again
def _who_does_what(operation: Operation, requestor: str) -> bytes:
    """Return the members of a record that say so, without the braces."""
    members = {
        "opCode": operation.code,
        "objectId": _shown(operation.object_id),
        "requestorId": requestor,
    }
    return orjson.dumps(members)[1:-1]


def _new_id() -> str:
    """Return a random UUID; as ``uuid.uuid4``, at a third of its time."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _shown(text: str) -> str:
    """Return what a client calls something, as far as it is text."""
    return text[:_MAX_ID].encode("utf-8", "replace").decode("utf-8")


class Traffic(Protocol):
    """Counts the bytes of one request."""

    def __call__(self) -> tuple[int, int]:
        """Return the bytes received and sent so far."""


@dataclass(slots=True, eq=False)
class AuditedRequest:
    """A request that is under way."""

    who: bytes  # does what: members of its records
    id: str
    traffic: Traffic
    told: tuple[int, int] = (0, 0)


class Audit:
    """Keeps the newest records, about 1 MiB of them, and hands them to any number of readers.

    While there are readers, and only then, there are heartbeats, and a record each second of each request whose bytes move.
    """

    def __init__(
        self,
        hub_id: str,
        *,
        living: Callable[[], Iterable[str]],
        heartbeat_interval: float,
        active_interval: float = _ACTIVE_INTERVAL,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Make an empty audit; ``living`` returns the ids of the Instances that live."""
        self._hub_id = hub_id
        self._living = living
        self._heartbeat_interval = heartbeat_interval
        self._active_interval = active_interval
        self._now = now
        self._lines = Lines(_KEPT_BYTES)
        self._requests: set[AuditedRequest] = set()
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self._over = False

    # --- what is recorded -------------------------------------------------------------------------------------------

    def begin(self, operation: Operation, requestor: str, traffic: Traffic) -> AuditedRequest:
        """Record the beginning of a request."""
        who = _who_does_what(operation, (_shown(requestor.strip()) if requestor else "") or SYSTEM)
        request = AuditedRequest(who, _new_id(), traffic)
        self._requests.add(request)
        self._tell(request, OpState.START)
        return request

    def end(self, request: AuditedRequest, *, failed: bool) -> None:
        """Record the end of a request."""
        self._requests.discard(request)
        self._tell(request, OpState.ERROR if failed else OpState.END)

    def changed(
        self, change: Change, object_id: str, *, requestor: str = SYSTEM, limits: dict[str, Any] | None = None
    ) -> None:
        """Record a change of state."""
        more = {} if limits is None else {"limits": limits}
        self._write(change.kind, OpState.NONE, change, object_id, requestor, more)

    # --- who reads --------------------------------------------------------------------------------------------------

    async def read(self) -> AsyncGenerator[bytes, None]:
        """Yield whole lines: those kept, then those to come."""
        self._arm(self._beat, self._heartbeat_interval)
        self._arm(self._tell_active, self._active_interval)
        async with aclosing(self._lines.read(self._tell_lost)) as lines:
            async for chunk in lines:
                yield chunk

    def close(self) -> None:
        """Let readers end. Safe to call twice."""
        self._over = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._lines.end()

    # --- rounds -----------------------------------------------------------------------------------------------------

    def _arm(self, round_: Callable[[], None], interval: float) -> None:
        """See that a round comes; one that is to come already is enough, however many readers there are."""
        if self._over or round_ in self._timers:
            return

        def due() -> None:
            del self._timers[round_]
            if self._lines.readers:
                round_()
                self._arm(round_, interval)

        self._timers[round_] = asyncio.get_running_loop().call_later(interval, due)

    def _beat(self) -> None:
        self._write("heartbeat", OpState.ACTIVE, Change.HOST_HEARTBEAT, self._hub_id, SYSTEM, {})
        for instance_id in self._living():
            self._write("heartbeat", OpState.ACTIVE, Change.INSTANCE_HEARTBEAT, instance_id, SYSTEM, {})

    def _tell_active(self) -> None:
        for request in self._requests:
            if request.traffic() != request.told:
                self._tell(request, OpState.ACTIVE)

    # --- records ----------------------------------------------------------------------------------------------------

    def _tell(self, request: AuditedRequest, state: OpState) -> None:
        request.told = received, sent = request.traffic()
        # By hand: two of these are made for every request.
        self._lines.write(
            b'{"type":"request","opState":"%b",%b,"receivedAt":%d,"requestId":"%b","rx":%d,"tx":%d}\n'
            % (state.encode(), request.who, int(self._now() * 1000), request.id.encode(), received, sent)
        )

    def _write(
        self, kind: str, state: OpState, code: int, object_id: str, requestor: str, more: dict[str, Any]
    ) -> None:
        record = {
            "type": kind,
            "opState": state,
            "opCode": int(code),
            "objectId": _shown(object_id),
            "requestorId": _shown(requestor),
            "receivedAt": int(self._now() * 1000),
            **more,
        }
        self._lines.write(orjson.dumps(record) + b"\n")

    def _tell_lost(self, size: int) -> bytes:
        return orjson.dumps({"type": "lost", "bytes": size, "receivedAt": int(self._now() * 1000)}) + b"\n"
