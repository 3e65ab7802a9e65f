"""Log records: one JSON object a line on the log channel.

Source: docs/protocol.md, "Log records".
"""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How grave a record is, in falling order."""

    FATAL = "FATAL"
    ERROR = "ERROR"
    WARN = "WARN"
    INFO = "INFO"
    DEBUG = "DEBUG"
    TRACE = "TRACE"


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record. ``ts`` is milliseconds since the epoch; ``scopes`` has an object for each logger it passed."""

    msg: str
    level: Level = Level.INFO
    ts: int = 0
    source: str = ""
    data: list[Any] = field(default_factory=list)
    error: str = ""
    scopes: dict[str, dict[str, Any]] = field(default_factory=dict)


def encode_log(record: LogRecord) -> bytes:
    """Return one line of JSON. ``data`` that is not JSON is shown as its ``repr``, for a log must not fail."""
    members: dict[str, Any] = {
        "level": record.level,
        "msg": record.msg,
        "ts": record.ts,
        "from": record.source,
    }
    if record.data:
        members["data"] = record.data
    if record.error:
        members["error"] = record.error
    members |= record.scopes
    try:
        text = json.dumps(members, default=repr)
    except (TypeError, ValueError, RecursionError):  # keys that are no strings, circles, depth
        members["data"] = [repr(item) for item in record.data]
        text = json.dumps(members)
    return text.encode("ascii") + b"\n"


_KNOWN = {"level", "msg", "ts", "from", "data", "error"}


def decode_log(line: bytes) -> LogRecord:
    """Return the record of a line. What is not JSON, a bare traceback line say, becomes a record's message."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return LogRecord(msg=line.decode("utf-8", "replace").rstrip("\r\n"))
    level, ts, data = value.get("level"), value.get("ts"), value.get("data")
    return LogRecord(
        msg=str(value.get("msg", "")),
        level=Level(level) if isinstance(level, str) and level in Level.__members__ else Level.INFO,
        ts=int(ts) if isinstance(ts, int | float) and abs(ts) < 2**53 else 0,
        source=str(value.get("from", "")),
        data=data if isinstance(data, list) else [] if data is None else [data],
        error=str(value.get("error") or ""),
        scopes={key: scope for key, scope in value.items() if key not in _KNOWN and isinstance(scope, dict)},
    )
