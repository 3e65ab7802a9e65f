"""The settings of a runner, read once from the environment.

Source: docs/protocol.md, "Starting a runner".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InvalidSettings
from .protocol.hello import is_instance_id

DEBUG_PORT = "HUB_LITE_DEBUG_PORT"  # of our own: no other hub sets it, and no other runner reads it
DEBUG_SOURCE = "HUB_LITE_DEBUG_SOURCE"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the Sequence is, where the hub is, and what the hub says about both."""

    sequence_path: Path
    instance_id: str
    socket_path: str = ""  # a unix socket; wins over host and port
    host: str = "localhost"
    port: int = 0
    sequence_info: dict[str, Any] = field(default_factory=dict)
    connect_info: dict[str, Any] = field(default_factory=dict)
    debug_port: int | None = None  # where to wait for a debugger before the author's code is loaded
    debug_source: str = ""  # the folder that the author edits, where a debugger sets its breakpoints

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Return the settings of an environment.

        Raises:
            InvalidSettings: a variable is missing or wrong; the text names it and its value.
        """
        instance_id = _required(environ, "INSTANCE_ID")
        if not is_instance_id(instance_id):
            raise InvalidSettings(f"INSTANCE_ID must be 36 visible ASCII characters, not {instance_id!r}")
        socket_path = environ.get("INSTANCES_SERVER_SOCKET", "")
        return cls(
            sequence_path=Path(_required(environ, "SEQUENCE_PATH")),
            instance_id=instance_id,
            socket_path=socket_path,
            host=environ.get("INSTANCES_SERVER_HOST") or "localhost",
            port=0 if socket_path else _port(environ, "INSTANCES_SERVER_PORT"),
            sequence_info=_json_object(environ, "SEQUENCE_INFO"),
            connect_info=_json_object(environ, "RUNNER_CONNECT_INFO"),
            debug_port=_port(environ, DEBUG_PORT) if environ.get(DEBUG_PORT) else None,
            debug_source=environ.get(DEBUG_SOURCE, ""),
        )


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name)
    if not value:
        raise InvalidSettings(f"{name} is not set; a runner is started by a hub, which sets it")
    return value


def _port(environ: Mapping[str, str], name: str) -> int:
    value = _required(environ, name)
    if not (value.isascii() and value.isdigit() and len(value) <= 5 and 0 < int(value) < 65536):
        raise InvalidSettings(f"{name} must be a port from 1 to 65535, not {value!r}")
    return int(value)


def _json_object(environ: Mapping[str, str], name: str) -> dict[str, Any]:
    text = environ.get(name)
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidSettings(f"{name} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidSettings(f"{name} must be a JSON object, not {text[:60]!r}")
    return value
