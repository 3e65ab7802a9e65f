"""The API of a hub as typed calls, over whatever carries requests: HTTP for clients, channel 8 for Sequences.

What the calls raise:

ClientError
├── HubRefused         the hub answered with an error
├── HubUnreachable     nobody answers, or the answer of a call did not come whole
├── NotAHub            what answers does not speak as a hub does
├── StreamBroken       a stream ended before it was complete
└── UsedOutsideLoop    ``context.hub`` was used outside the event loop of the Sequence

Source: docs/http-api.md.
"""

import json
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import quote, urlencode

Body = bytes | AsyncIterable[bytes] | None

MANAGER = "/cpm/api/v1"  # where a hub passes requests on to its manager

_OCTETS = "application/octet-stream"
_NDJSON = "application/x-ndjson"


class ClientError(Exception):
    """The hub did not do what was asked; ``str()`` of it says why."""


class HubRefused(ClientError):
    """The hub answered with an error; ``details`` is the whole answer, empty if it is no object."""

    def __init__(self, status: int, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.details: dict[str, Any] = details or {}

    def __str__(self) -> str:
        return self.message


class HubUnreachable(ClientError):
    """Nobody answers where the hub should be; ``way_out`` says what to do about it."""

    def __init__(self, where: str, why: str, way_out: str = "") -> None:
        super().__init__(where, why, way_out)
        self.where = where
        self.why = why
        self.way_out = way_out

    def __str__(self) -> str:
        text = f"no hub answers at {self.where} ({self.why})"
        return f"{text}; {self.way_out}" if self.way_out else text


class NotAHub(ClientError):
    """What answers does not speak as a hub does."""

    def __init__(self, where: str, path: str) -> None:
        super().__init__(where, path)
        self.where = where
        self.path = path

    def __str__(self) -> str:
        return (
            f"what answers {self.path} at {self.where} is no hub, or one of another kind; check where it is"
        )


class StreamBroken(ClientError):
    """A stream ended before it was complete: the Instance failed, or the hub went away."""


class UsedOutsideLoop(ClientError):
    """``context.hub`` was used outside the event loop of the Sequence."""

    def __str__(self) -> str:
        return (
            "context.hub works in the event loop of the Sequence only: use it in an `async def`, "
            "not in a plain generator or in a thread of your own"
        )


class Answer(Protocol):
    """A hub's answer, its head read."""

    @property
    def status(self) -> int:
        """The status code."""
        ...

    @property
    def reason(self) -> str:
        """The phrase behind it."""
        ...

    async def read(self) -> bytes:
        """Return the rest of the body.

        Raises:
            StreamBroken: it ends too early.
        """
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body as it comes, cut anywhere.

        Raises:
            StreamBroken: it ends too early, after the chunks before.
        """
        ...


class Carrier(Protocol):
    """What carries requests to a hub."""

    @property
    def where(self) -> str:
        """The hub's place, for error texts."""
        ...

    def request(
        self, method: str, path: str, *, headers: Mapping[str, str], body: Body
    ) -> AbstractAsyncContextManager[Answer]:
        """Send a request and give the answer; leaving the block gives up what is left of both.

        ``path`` begins below the base of the API. What an iterable body raises comes out as it is.

        Raises:
            HubUnreachable: nobody answers.
        """
        ...


class HubApi:
    """One hub.

    Names of Sequences, Instances and topics may have any characters; ``.``, ``..`` and nothing at all are none. Every call
    raises HubRefused where the hub says no, HubUnreachable where there is none, and NotAHub where the answer is none of a hub's.

    Args:
        carrier: what brings requests there.
        base: what all paths begin with; ``MANAGER`` asks the manager of the Space that the hub has joined.
    """

    def __init__(self, carrier: Carrier, *, base: str = "") -> None:
        self._carrier = carrier
        self._base = base

    # --- the hub --------------------------------------------------------------------------------------------------

    async def version(self) -> dict[str, Any]:
        """Return what the hub says it is."""
        return await self._object("GET", "/version")

    async def status(self) -> dict[str, Any]:
        """Return how the hub stands to its manager."""
        return await self._object("GET", "/status")

    async def config(self) -> dict[str, Any]:
        """Return the hub's settings, without secrets."""
        return await self._object("GET", "/config")

    async def load(self) -> dict[str, Any]:
        """Return how busy the hub's machine is."""
        return await self._object("GET", "/load-check")

    async def entities(self) -> dict[str, Any]:
        """Return all Sequences and Instances at once."""
        return await self._object("GET", "/entities")

    def log(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open the hub's own log: JSON lines, the kept ones first."""
        return self._stream("/log", "the hub's log")

    def audit(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open the record of what is done with the hub: JSON lines."""
        return self._stream("/audit", "the hub's audit")

    # --- Sequences ------------------------------------------------------------------------------------------------

    async def sequences(self) -> list[dict[str, Any]]:
        """Return all Sequences."""
        return await self._array("/sequences")

    async def sequence(self, sequence: str) -> dict[str, Any]:
        """Return one Sequence, by id or name."""
        return await self._object("GET", f"/sequence/{_part(sequence)}")

    async def sequence_instances(self, sequence: str) -> list[str]:
        """Return the ids of a Sequence's Instances."""
        return await self._array(f"/sequence/{_part(sequence)}/instances")

    async def send_sequence(
        self, package: Body, *, config: dict[str, Any] | None = None, replace: str | None = None
    ) -> str:
        """Send a package and return the id of its Sequence.

        Args:
            package: a tar.gz.
            config: the Sequence's default configuration, under that of a start.
            replace: the id of a Sequence whose package this one becomes.
        """
        method, path = ("POST", "/sequence") if replace is None else ("PUT", f"/sequence/{_part(replace)}")
        headers = {"Content-Type": _OCTETS}
        if config is not None:
            boundary = uuid.uuid4().hex
            headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
            package = _form(boundary, json.dumps(config).encode(), package)
        return await self._id(method, path, headers=headers, body=package)

    async def versions(self, sequence: str) -> list[dict[str, Any]]:
        """Return the versions of a Sequence that are kept, newest first."""
        return await self._array(f"/sequence/{_part(sequence)}/versions")

    async def rollback(self, sequence: str, version: int | None = None) -> dict[str, Any]:
        """Give a Sequence the package and configuration of a version, by default of the one before its present one.

        Return its ``id``, the ``sha256`` of that package, and the ``version`` that it is now, which is a new one.

        Raises:
            HubRefused: there is no such version, or the Sequence is so already.
        """
        wanted = {} if version is None else {"version": version}
        return await self._object("POST", f"/sequence/{_part(sequence)}/rollback", json_body=wanted)

    async def delete_sequence(self, sequence: str, *, force: bool = False) -> None:
        """Delete a Sequence; with ``force`` its Instances are killed first."""
        headers = {"x-seq-kill-inst": "true"} if force else {}
        await self._object("DELETE", f"/sequence/{_part(sequence)}", headers=headers)

    async def start(
        self,
        sequence: str,
        *,
        config: dict[str, Any] | None = None,
        args: list[Any] | None = None,
        input_topic: str | None = None,
        output_topic: str | None = None,
        limits: dict[str, Any] | None = None,
        instance_id: str | None = None,
    ) -> str:
        """Start an Instance of a Sequence, by id or name, and return the Instance's id.

        Raises:
            HubRefused: it could not be started; ``details["instanceId"]`` is there if its Instance is.
        """
        wanted = {
            "appConfig": config or {},
            "args": args or [],
            "inputTopic": input_topic,
            "outputTopic": output_topic,
            "limits": limits,
            "instanceId": instance_id,
        }
        payload = {key: value for key, value in wanted.items() if value is not None}
        return await self._id("POST", f"/sequence/{_part(sequence)}/start", json_body=payload)

    # --- Instances ------------------------------------------------------------------------------------------------

    async def instances(self) -> list[dict[str, Any]]:
        """Return all Instances."""
        return await self._array("/instances")

    async def instance(self, instance: str) -> dict[str, Any]:
        """Return what the hub knows of an Instance."""
        return await self._object("GET", f"/instance/{_part(instance)}")

    async def health(self, instance: str) -> dict[str, Any]:
        """Return the newest report of an Instance's health; waits for the first."""
        return await self._object("GET", f"/instance/{_part(instance)}/health")

    async def stop(
        self,
        instance: str,
        timeout: float = 7.0,  # noqa: ASYNC109 - the hub keeps it
        *,
        can_keep_alive: bool = False,
    ) -> dict[str, Any]:
        """Stop an Instance within ``timeout`` seconds and return what became of it."""
        payload = {"timeout": timeout * 1000, "canCallKeepalive": can_keep_alive}
        return await self._object("POST", f"/instance/{_part(instance)}/_stop", json_body=payload)

    async def kill(self, instance: str, *, remove_immediately: bool = False) -> dict[str, Any]:
        """Kill an Instance."""
        payload = {"removeImmediately": remove_immediately}
        return await self._object("POST", f"/instance/{_part(instance)}/_kill", json_body=payload)

    async def set_monitoring_rate(self, instance: str, per_second: float) -> None:
        """Say how often an Instance reports its health."""
        payload = {"monitoringRate": per_second}
        await self._object("POST", f"/instance/{_part(instance)}/_monitoring_rate", json_body=payload)

    async def reload(self, instance: str) -> None:
        """Let an Instance go on with the present package of its Sequence; returns when it does.

        Raises:
            HubRefused: 422 where the new code does not load, and the old goes on; 409 where the runner cannot do it.
        """
        await self._object("POST", f"/instance/{_part(instance)}/_reload")

    async def metrics(self, instance: str) -> dict[str, Any]:
        """Return what an Instance counts and measures: numbers by name, or by two."""
        return await self._object("GET", f"/instance/{_part(instance)}/metrics")

    @asynccontextmanager
    async def quarantine(self, instance: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Open the items that an Instance has put aside: ``{"item", "error", …}`` each, the oldest first."""
        path = f"/instance/{_part(instance)}/quarantine"
        async with self._stream(path, f"quarantine of Instance {instance}") as chunks:
            yield self._values(chunks, path)

    async def quarantine_items(self, instance: str, records: Iterable[dict[str, Any]]) -> int:
        """Put items of an Instance aside and return how many; all of them or none.

        Args:
            instance: an id.
            records: JSON objects with the member ``error``, a string.

        Raises:
            HubRefused: 507 where there is no room for them.
            ValueError, TypeError: a record is not JSON.
        """
        body = b"".join(json.dumps(record, allow_nan=False).encode() + b"\n" for record in records)
        path = f"/instance/{_part(instance)}/quarantine"
        answer = await self._object("POST", path, headers={"Content-Type": _NDJSON}, body=body)
        if "kept" not in answer:
            raise NotAHub(self._carrier.where, path)
        return int(answer["kept"])

    async def state(self, instance: str) -> dict[str, Any]:
        """Return the whole state of an Instance."""
        return await self._object("GET", f"/instance/{_part(instance)}/state")

    async def get_state(self, instance: str, key: str) -> Any:
        """Return one value of the state of an Instance.

        Raises:
            HubRefused: 404 where there is none.
        """
        return await self._value("GET", f"/instance/{_part(instance)}/state/{_part(key)}")

    async def set_state(self, instance: str, key: str, value: Any) -> None:
        """Keep a JSON value in the state of an Instance; when this returns the hub has it on its disk.

        Raises:
            HubRefused: 413 where it is too much.
            ValueError, TypeError: it is not JSON.
        """
        headers = {"Content-Type": "application/json"}
        body = json.dumps(value, allow_nan=False).encode()
        await self._object(
            "PUT", f"/instance/{_part(instance)}/state/{_part(key)}", headers=headers, body=body
        )

    async def delete_state(self, instance: str, key: str | None = None) -> None:
        """Forget one value of the state of an Instance, or without a key all of them.

        Raises:
            HubRefused: 404 where there is no such key.
        """
        path = f"/instance/{_part(instance)}/state"
        await self._object("DELETE", path if key is None else f"{path}/{_part(key)}")

    async def emit(self, instance: str, event: str, message: Any = None) -> None:
        """Send an event to an Instance; ``message`` is any JSON value."""
        payload = {"eventName": event, "message": message}
        await self._object("POST", f"/instance/{_part(instance)}/_event", json_body=payload)

    async def last_event(self, instance: str, event: str | None = None) -> Any:
        """Return the message of an Instance's last event of a name, or the last event of any; waits for the first."""
        path = "once" if event is None else f"event/{_part(event)}"
        return await self._value("GET", f"/instance/{_part(instance)}/{path}")

    async def next_event(self, instance: str, event: str) -> Any:
        """Return the message of an Instance's next event of a name."""
        return await self._value("GET", f"/instance/{_part(instance)}/once/{_part(event)}")

    @asynccontextmanager
    async def events(self, instance: str, event: str | None = None) -> AsyncIterator[AsyncIterator[Any]]:
        """Open the events of an Instance from now on: messages of one name, or all as ``{"eventName", "message"}``."""
        path = f"/instance/{_part(instance)}/" + ("event" if event is None else f"events/{_part(event)}")
        async with self._stream(path, f"events of Instance {instance}") as chunks:
            yield self._values(chunks, path)

    async def send(
        self, instance: str, stream: str, chunks: Body, *, content_type: str = _OCTETS, end: bool = True
    ) -> None:
        """Send to ``input`` or ``stdin``; returns when the runner has it all.

        Args:
            instance: an id.
            stream: ``input`` or ``stdin``.
            chunks: bytes, or an asynchronous iterable of them.
            content_type: what an item is, for the first request to an input.
            end: whether the stream ends after this.

        Raises:
            HubRefused: the Instance does not take it.
            StreamBroken: the Instance ended before it took it all.
        """
        headers = {"Content-Type": content_type, "x-end-stream": _flag(end)}
        path = f"/instance/{_part(instance)}/{_part(stream)}"
        await self._send(path, headers, chunks, f"{stream} of Instance {instance}")

    def read(
        self, instance: str, stream: str, *, offset: int | str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open ``output``, ``stdout``, ``stderr`` or ``log``; gives an iterator over its chunks, cut anywhere.

        The iterator raises StreamBroken at the end of a stream that is not complete.
        """
        path = f"/instance/{_part(instance)}/{_part(stream)}"
        return self._stream(path, f"{stream} of Instance {instance}", offset=offset)

    @asynccontextmanager
    async def inout(
        self, instance: str, chunks: Body, *, content_type: str = _OCTETS
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Send to the input and read the output over one request; the input is left open at the end of ``chunks``."""
        path, headers = f"/instance/{_part(instance)}/inout", {"Content-Type": content_type}
        async with self._request("POST", path, headers=headers, body=chunks) as answer:
            yield _chunks(answer, f"output of Instance {instance}")

    # --- topics ---------------------------------------------------------------------------------------------------

    async def topics(self) -> list[dict[str, Any]]:
        """Return all topics."""
        return await self._array("/topics")

    async def create_topic(self, topic: str, content_type: str) -> None:
        """Make a topic."""
        await self._object("POST", "/topics", json_body={"id": topic, "content-type": content_type})

    async def delete_topic(self, topic: str) -> None:
        """Remove a topic; its readers end."""
        await self._object("DELETE", f"/topics/{_part(topic)}")

    async def send_topic(self, topic: str, chunks: Body, *, content_type: str, end: bool = False) -> None:
        """Send to a topic, which is made if it is not there; with ``end`` its present readers end after this.

        Raises:
            StreamBroken: the topic did not take it all.
        """
        headers = {"Content-Type": content_type, "x-end-stream": _flag(end)}
        await self._send(f"/topic/{_part(topic)}", headers, chunks, f"topic {topic}")

    def read_topic(
        self, topic: str, *, content_type: str | None = None, offset: int | str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a topic; ``content_type`` is what it must have, or gets if it is not there."""
        headers = {} if content_type is None else {"Content-Type": content_type}
        return self._stream(f"/topic/{_part(topic)}", f"topic {topic}", offset=offset, headers=headers)

    # --- inside ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _stream(
        self,
        path: str,
        what: str,
        *,
        offset: int | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        query = "" if offset is None else "?" + urlencode({"offset": offset})
        async with self._request("GET", path + query, headers=headers) as answer:
            yield _chunks(answer, what)

    async def _send(self, path: str, headers: Mapping[str, str], chunks: Body, what: str) -> None:
        async with self._request("POST", path, headers=headers, body=chunks) as answer:
            try:
                await answer.read()
            except StreamBroken as error:
                raise StreamBroken(f"{what} was not taken whole: {error}") from error

    async def _id(self, method: str, path: str, **options: Any) -> str:
        answer = await self._object(method, path, **options)
        if "id" not in answer:
            raise NotAHub(self._carrier.where, path)
        return str(answer["id"])

    async def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        value = await self._value(method, path, **options)
        if not isinstance(value, dict):
            raise NotAHub(self._carrier.where, path)
        return value

    async def _array(self, path: str) -> list[Any]:
        value = await self._value("GET", path)
        if not isinstance(value, list):
            raise NotAHub(self._carrier.where, path)
        return value

    async def _value(self, method: str, path: str, **options: Any) -> Any:
        async with self._request(method, path, **options) as answer:
            try:
                body = await answer.read()
            except StreamBroken as error:
                raise HubUnreachable(self._carrier.where, str(error)) from error
        return self._parse(body, path)

    async def _values(self, chunks: AsyncIterator[bytes], path: str) -> AsyncIterator[Any]:
        tail = b""
        async for chunk in chunks:
            *lines, tail = (tail + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield self._parse(line, path)

    def _parse(self, text: bytes, path: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise NotAHub(self._carrier.where, path) from None

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        json_body: Any = None,
    ) -> AsyncIterator[Answer]:
        wanted = dict(headers or {})
        if json_body is not None:
            wanted["Content-Type"] = "application/json"
            body = json.dumps(json_body).encode()
        async with self._carrier.request(method, self._base + path, headers=wanted, body=body) as answer:
            if answer.status >= 400:
                raise await _refusal(answer)
            yield answer


async def _refusal(answer: Answer) -> HubRefused:
    """Return what an error answer says, whatever its shape, or how much of it has come."""
    try:
        value = json.loads(await answer.read())
    except (StreamBroken, ValueError, RecursionError):
        value = None
    details = value if isinstance(value, dict) else {}
    said = details.get("error") or details.get("message") or f"{answer.status} {answer.reason}".rstrip()
    message = said if isinstance(said, str) else json.dumps(said, separators=(",", ":"))
    return HubRefused(answer.status, message, details)


async def _chunks(answer: Answer, what: str) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.chunks():
            yield chunk
    except StreamBroken as error:
        raise StreamBroken(f"{what} is not complete: {error}") from error


async def _form(boundary: str, config: bytes, package: Body) -> AsyncIterator[bytes]:
    """Give the form that an upload with a configuration is."""
    mark = f"--{boundary}\r\n"
    yield f'{mark}Content-Disposition: form-data; name="appConfig"\r\n'.encode()
    yield b"Content-Type: application/json\r\n\r\n" + config
    yield f'\r\n{mark}Content-Disposition: form-data; name="file"; filename="package.tar.gz"\r\n'.encode()
    yield f"Content-Type: {_OCTETS}\r\n\r\n".encode()
    if isinstance(package, AsyncIterable):
        async for chunk in package:
            yield chunk
    elif package:
        yield package
    yield f"\r\n--{boundary}--\r\n".encode()


def _part(text: str) -> str:
    if text in ("", ".", ".."):  # which would make another path of it
        raise ClientError(f"{text!r} is no id and no name")
    return quote(text, safe="")


def _flag(value: bool) -> str:
    return "true" if value else "false"
