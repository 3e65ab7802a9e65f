"""The messages of the control and monitoring channels, each with its code and its payload.

A message is a JSON array ``[code, payload]``. Here each is a frozen dataclass; ``to_payload`` and ``from_payload`` are the two ways
across. Types are checked where a payload comes in, and trusted after.

Source: docs/protocol.md, "Messages".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

from .errors import RemoteProtocolError

Payload = Mapping[str, Any]
T = TypeVar("T")

_NAMES: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    dict: "an object",
    list: "an array",
    int: "a number",
    float: "a number",
}


def _get(message: str, payload: Payload, key: str, kind: type[T], default: T) -> T:
    """Return ``payload[key]`` checked for its type; null counts as absent."""
    value = payload.get(key)
    if value is None:
        return default
    fits = isinstance(value, int | float) if kind in (int, float) else isinstance(value, kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise RemoteProtocolError(f"{message}: {key!r} must be {_NAMES[kind]}, not {_shown(value)}")
    try:
        return kind(value)  # type: ignore[call-arg]
    except (OverflowError, ValueError):
        raise RemoteProtocolError(
            f"{message}: {key!r} must be a finite number, not {_shown(value)}"
        ) from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _without_none(**members: Any) -> dict[str, Any]:
    return {key: value for key, value in members.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Message:
    """One message; the subclasses are the vocabulary."""

    code: ClassVar[int]

    def to_payload(self) -> dict[str, Any]:
        """Return the JSON object that stands beside the code."""
        return {}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the message of a payload.

        Raises:
            RemoteProtocolError: a member has the wrong type; the text names message, member and value.
        """
        return cls()


# --- monitoring channel: runner to hub --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ping(Message):
    """The runner is there. ``members`` is empty in the 0.18 dialect."""

    code: ClassVar[int] = 3000
    instance_id: str = ""
    payload: dict[str, Any] | None = None
    sequence_info: dict[str, Any] = field(default_factory=dict)
    created: float | None = None  # milliseconds since the epoch
    status: str = ""
    input_headers_sent: bool = False
    ports: dict[str, Any] = field(default_factory=dict)

    @property
    def is_bare(self) -> bool:
        """Tell whether this is the 0.18 dialect, whose PING says nothing."""
        return self.payload is None

    @property
    def can_reload(self) -> bool:
        """Tell whether the runner takes a RELOAD."""
        system = (self.payload or {}).get("system")
        return isinstance(system, dict) and system.get("reload") is True

    def to_payload(self) -> dict[str, Any]:
        """Return ``{}`` for the 0.18 dialect, otherwise all that is known."""
        if self.payload is None:
            return {}
        return _without_none(
            id=self.instance_id,
            sequenceInfo=self.sequence_info,
            created=self.created,
            payload=self.payload,
            status=self.status or None,
            inputHeadersSent=self.input_headers_sent,
            ports=self.ports or None,
        )

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the PING of either dialect."""
        if not payload:
            return cls()
        if not isinstance(payload.get("payload"), dict):
            raise RemoteProtocolError(
                f"PING: 'payload' must be an object, not {_shown(payload.get('payload'))}"
            )
        created = payload.get("created")
        return cls(
            instance_id=_get("PING", payload, "id", str, ""),
            payload=_get("PING", payload, "payload", dict, {}),
            sequence_info=_get("PING", payload, "sequenceInfo", dict, {}),
            created=None if created is None else _get("PING", payload, "created", float, 0.0),
            status=_get("PING", payload, "status", str, ""),
            input_headers_sent=_get("PING", payload, "inputHeadersSent", bool, False),
            ports=_get("PING", payload, "ports", dict, {}),
        )


@dataclass(frozen=True, slots=True)
class Monitoring(Message):
    """A periodic report of health; the whole object is the report."""

    code: ClassVar[int] = 3001
    report: dict[str, Any] = field(default_factory=lambda: {"healthy": True})

    def to_payload(self) -> dict[str, Any]:
        """Return the report as it is."""
        return self.report

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the report; a missing ``healthy`` is left missing."""
        return cls(dict(payload))


@dataclass(frozen=True, slots=True)
class DescribeSequence(Message):
    """The definition of the Sequence; no runner sends it, a hub ignores it."""

    code: ClassVar[int] = 3002
    definition: list[Any] = field(default_factory=list)

    def to_payload(self) -> dict[str, Any]:
        """Return ``{"definition": [...]}``."""
        return {"definition": self.definition}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the definition."""
        return cls(_get("DESCRIBE_SEQUENCE", payload, "definition", list, []))


@dataclass(frozen=True, slots=True)
class Error(Message):
    """What went wrong in the runner; no runner sends it, a hub ignores it."""

    code: ClassVar[int] = 3003
    exit_code: int = 1
    message: str = ""
    error_code: str = ""
    stack: str = ""

    def to_payload(self) -> dict[str, Any]:
        """Return all four members."""
        return {
            "exitCode": self.exit_code,
            "message": self.message,
            "errorCode": self.error_code,
            "stack": self.stack,
        }

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the error."""
        return cls(
            _get("ERROR", payload, "exitCode", int, 1),
            _get("ERROR", payload, "message", str, ""),
            _get("ERROR", payload, "errorCode", str, ""),
            _get("ERROR", payload, "stack", str, ""),
        )


@dataclass(frozen=True, slots=True)
class Acknowledge(Message):
    """An answer to a control message; no runner sends it, a hub ignores it."""

    code: ClassVar[int] = 3004
    acknowledged: bool = True
    status: float | None = None
    error_message: str | None = None

    def to_payload(self) -> dict[str, Any]:
        """Return the members that are known."""
        return _without_none(acknowledged=self.acknowledged, status=self.status, errorMsg=self.error_message)

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the answer."""
        return cls(
            _get("ACKNOWLEDGE", payload, "acknowledged", bool, False),
            None if payload.get("status") is None else _get("ACKNOWLEDGE", payload, "status", float, 0.0),
            None if payload.get("errorMsg") is None else _get("ACKNOWLEDGE", payload, "errorMsg", str, ""),
        )


@dataclass(frozen=True, slots=True)
class SequenceStopped(Message):
    """The stop handlers have run, or the Sequence ended itself; ``error`` is what they raised."""

    code: ClassVar[int] = 3006
    error: Any = None

    def to_payload(self) -> dict[str, Any]:
        """Return ``{}`` or ``{"sequenceError": ...}``."""
        return _without_none(sequenceError=self.error)

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the message with whatever the error is."""
        return cls(payload.get("sequenceError"))


@dataclass(frozen=True, slots=True)
class Status(Message):
    """The definition again; no runner sends it, a hub ignores it."""

    code: ClassVar[int] = 3007


@dataclass(frozen=True, slots=True)
class Alive(Message):
    """The Sequence asks to live on; ``keep_alive_ms`` is for how long, 0 where the runner does not say."""

    code: ClassVar[int] = 3010
    keep_alive_ms: float = 0

    def to_payload(self) -> dict[str, Any]:
        """Return ``{"keepAlive": ms}``."""
        return {"keepAlive": self.keep_alive_ms}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the request."""
        return cls(_get("ALIVE", payload, "keepAlive", float, 0.0))


@dataclass(frozen=True, slots=True)
class SequenceCompleted(Message):
    """The output has ended; the runner will exit within ``timeout_ms``."""

    code: ClassVar[int] = 3011
    timeout_ms: float = 10_000

    def to_payload(self) -> dict[str, Any]:
        """Return ``{"timeout": ms}``."""
        return {"timeout": self.timeout_ms}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the message."""
        return cls(_get("SEQUENCE_COMPLETED", payload, "timeout", float, 10_000.0))


@dataclass(frozen=True, slots=True)
class Pang(Message):
    """What the Sequence reads and writes. The first one says that it is up."""

    code: ClassVar[int] = 3012
    requires: str | None = None
    provides: str | None = None
    content_type: str | None = None
    output_encoding: str | None = None

    def to_payload(self) -> dict[str, Any]:
        """Return the members that are said."""
        return _without_none(
            requires=self.requires,
            provides=self.provides,
            contentType=self.content_type,
            outputEncoding=self.output_encoding,
        )

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the message; a member that is absent stays None, an empty one stays empty."""

        def text(key: str) -> str | None:
            return None if payload.get(key) is None else _get("PANG", payload, key, str, "")

        return cls(text("requires"), text("provides"), text("contentType"), text("outputEncoding"))


@dataclass(frozen=True, slots=True)
class InputContentType(Message):
    """To a Node runner of the 0.18 dialect: the topic that its Sequence reads is connected. Reserved elsewhere."""

    code: ClassVar[int] = 3013
    connected: bool | None = None

    def to_payload(self) -> dict[str, Any]:
        """Return the member if it is said."""
        return _without_none(connected=self.connected)

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the message."""
        said = payload.get("connected")
        return cls(None if said is None else _get("INPUT_CONTENT_TYPE", payload, "connected", bool, False))


@dataclass(frozen=True, slots=True)
class Reloaded(Message):
    """The answer to a RELOAD: an empty ``error``, or why the code is the one it was. An extension of ours."""

    code: ClassVar[int] = 3900
    error: str = ""

    def to_payload(self) -> dict[str, Any]:
        """Return ``{"error": text}``."""
        return {"error": self.error}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the answer."""
        return cls(_get("RELOADED", payload, "error", str, ""))


# --- control channel: hub to runner -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pong(Message):
    """The answer to a PING: configuration and arguments of the Sequence. None where the hub says nothing."""

    code: ClassVar[int] = 4000
    app_config: dict[str, Any] | None = None
    args: list[Any] | None = None

    def to_payload(self) -> dict[str, Any]:
        """Return the members that are said."""
        return _without_none(appConfig=self.app_config, args=self.args)

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the message."""
        return cls(
            None if payload.get("appConfig") is None else _get("PONG", payload, "appConfig", dict, {}),
            None if payload.get("args") is None else _get("PONG", payload, "args", list, []),
        )


@dataclass(frozen=True, slots=True)
class Stop(Message):
    """A polite end with a deadline."""

    code: ClassVar[int] = 4001
    timeout_ms: float = 7000
    can_keep_alive: bool = False

    def to_payload(self) -> dict[str, Any]:
        """Return ``{"timeout": ms, "canCallKeepalive": bool}``."""
        return {"timeout": self.timeout_ms, "canCallKeepalive": self.can_keep_alive}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the message."""
        return cls(
            _get("STOP", payload, "timeout", float, 7000.0),
            _get("STOP", payload, "canCallKeepalive", bool, False),
        )


@dataclass(frozen=True, slots=True)
class Kill(Message):
    """The end, at once."""

    code: ClassVar[int] = 4002


@dataclass(frozen=True, slots=True)
class MonitoringRate(Message):
    """How many reports a second the hub wants."""

    code: ClassVar[int] = 4003
    per_second: float = 1.0

    def to_payload(self) -> dict[str, Any]:
        """Return ``{"monitoringRate": n}``."""
        return {"monitoringRate": self.per_second}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the message; a rate that is not above 0 is refused, for it has no interval."""
        rate = _get("MONITORING_RATE", payload, "monitoringRate", float, 1.0)
        if not 0 < rate < float("inf"):
            raise RemoteProtocolError(f"MONITORING_RATE: 'monitoringRate' must be above 0, not {rate}")
        return cls(rate)


@dataclass(frozen=True, slots=True)
class MonitoringReply(Message):
    """The hub has a report."""

    code: ClassVar[int] = 4004


@dataclass(frozen=True, slots=True)
class Reload(Message):
    """New code for a Sequence that goes on; ``path`` is its entry file. An extension of ours, see Ping.can_reload."""

    code: ClassVar[int] = 4900
    path: str = ""

    def to_payload(self) -> dict[str, Any]:
        """Return ``{"path": text}``."""
        return {"path": self.path}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the message; one without a path is refused."""
        path = _get("RELOAD", payload, "path", str, "")
        if not path:
            raise RemoteProtocolError("RELOAD: 'path' is missing or empty")
        return cls(path)


# --- both ways --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event(Message):
    """Something an author named. ``message`` may be any JSON value; None where there is none."""

    code: ClassVar[int] = 5001
    name: str = ""
    message: Any = None
    source: str | None = None

    def to_payload(self) -> dict[str, Any]:
        """Return the members; a message of None is sent as null, for falsy messages are messages."""
        return {**_without_none(source=self.source), "eventName": self.name, "message": self.message}

    @classmethod
    def from_payload(cls, payload: Payload) -> Self:
        """Return the event."""
        name = _get("EVENT", payload, "eventName", str, "")
        if not name:
            raise RemoteProtocolError("EVENT: 'eventName' is missing or empty")
        source = None if payload.get("source") is None else _get("EVENT", payload, "source", str, "")
        return cls(name, payload.get("message"), source)


@dataclass(frozen=True, slots=True)
class Unknown(Message):
    """A message with a code that is not in the contract: to be ignored with a warning."""

    code: ClassVar[int] = -1
    number: int = -1
    payload: Any = None


VOCABULARY: dict[int, type[Message]] = {
    kind.code: kind
    for kind in (
        Ping, Monitoring, DescribeSequence, Error, Acknowledge, SequenceStopped, Status, Alive, SequenceCompleted, Pang,
        InputContentType, Reloaded, Pong, Stop, Kill, MonitoringRate, MonitoringReply, Reload, Event,
    )
}  # fmt: skip
"""Every message of the contract by its code."""
