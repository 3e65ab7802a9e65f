"""Endpoints of Sequences: upload, replace, go back to a version, look, start, delete."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from hub_lite.errors import BadRequest, HubError, PayloadTooLarge, RequestTimeout, UnsupportedMediaType
from hub_lite.hub import Hub, StartFailed
from hub_lite.instances import StartPayload
from hub_lite.ports import Upload
from hub_lite.topics import check_name
from runner.protocol.hello import is_instance_id

from .answers import HUB, JSON_TYPES, OCTETS, json_response, read_json, require_accept, require_octets

_FORM = "multipart/form-data"
_READ = 64 * 1024  # bytes taken from a form at once

routes = web.RouteTableDef()


class InvalidInstanceId(HubError):
    """The wanted id of an Instance is none."""

    status = 422
    reason = "Unprocessable Entity"


@routes.post("/sequence")
async def upload(request: web.Request) -> web.Response:
    """Take a package."""
    _require_package(request)
    hub = request.app[HUB]
    with hub.receive_package() as package:
        config = await _receive_in_time(request, package)
        sequence = await hub.add_sequence(package, config)
    return json_response({"id": sequence.id})


@routes.put("/sequence/{id}")
async def replace(request: web.Request) -> web.Response:
    """Take a package in the place of a Sequence's; its id stays, and Instances that run keep the files they have."""
    _require_package(request)
    hub = request.app[HUB]
    sequence_id = request.match_info["id"]
    hub.refuse_unknown(sequence_id)  # before all of the package is on its way
    with hub.receive_package() as package:
        config = await _receive_in_time(request, package)
        sequence = await hub.replace_sequence(sequence_id, package, config)
    return json_response({"id": sequence.id})


def _require_package(request: web.Request) -> None:
    if request.content_type == _FORM:
        return
    try:
        require_octets(request)
    except UnsupportedMediaType:
        declared = request.headers.get("Content-Type", "")
        raise UnsupportedMediaType(
            f"Content-Type must be {OCTETS} or absent, or {_FORM} with the parts file and appConfig, not {declared}"
        ) from None


async def _receive_in_time(request: web.Request, package: Upload) -> dict[str, Any] | None:
    """Take the package as ``_receive`` does.

    Raises:
        RequestTimeout: it has not arrived in the time that the settings give it.
    """
    timeout = request.app[HUB].settings.upload_timeout
    limit = asyncio.timeout(timeout or None)
    try:
        async with limit:
            return await _receive(request, package)
    except TimeoutError:
        if not limit.expired():  # it is the system's, of the connection
            raise
        raise RequestTimeout(
            f"the package has not arrived within {timeout:g} s (setting timings.uploadTimeout), and nothing of it is kept; "
            "send it again, over a faster way or to a hub that gives it more time"
        ) from None


async def _receive(request: web.Request, package: Upload) -> dict[str, Any] | None:
    """Take the package out of a body, whatever its form; return the configuration that came with it, if one did.

    Raises:
        BadRequest: a form is malformed, or its parts are not what they must be.
        PayloadTooLarge: the package or the configuration is too large.
        PackageError: what has arrived so far is no package that can be used.
    """
    if request.content_type != _FORM:
        async for chunk in request.content.iter_any():
            package.write(chunk)
            await package.drain()
        return None
    config: bytes | None = None
    has_file = False
    try:
        async for part in await request.multipart():
            name = part.name if isinstance(part, BodyPartReader) else None
            match name:
                case "file" if has_file:
                    raise BadRequest("the form has more than one part named file; send one package at a time")
                case "file":
                    has_file = True
                    async for chunk in _chunks(part):
                        package.write(chunk)
                        await package.drain()
                case "appConfig":
                    config = await _whole(part, request.app[HUB].settings.max_body_bytes)
                case _:
                    pass  # forms of browsers have more in them; the reader skips it
    except (ValueError, RuntimeError, HttpProcessingError) as error:  # all that the reader says of a bad form
        raise BadRequest(f"the form is malformed: {error}") from None
    if not has_file:
        raise BadRequest("the form has no part named file, which is to hold the package")
    return None if config is None else _config(config)


async def _chunks(part: Any) -> AsyncIterator[bytes]:
    while not part.at_eof():
        yield part.decode(await part.read_chunk(_READ))


async def _whole(part: Any, most: int) -> bytes:
    body = bytearray()
    async for chunk in _chunks(part):
        body += chunk
        if len(body) > most:
            raise PayloadTooLarge(f"appConfig may have {most} bytes at most")
    return bytes(body)


def _config(body: bytes) -> dict[str, Any] | None:
    """Return the configuration in a part of a form; nothing, as an empty field of a browser is, says nothing."""
    if not body.strip():
        return None
    try:
        config = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"appConfig must be a JSON object, but it is not JSON: {error}") from None
    if not isinstance(config, dict):
        shown = body[:60].decode("utf-8", "replace")
        raise BadRequest(f"appConfig must be a JSON object, not {shown!r}")
    return config


@routes.get("/sequences")
async def list_all(request: web.Request) -> web.Response:
    """List all Sequences."""
    require_accept(request, *JSON_TYPES)
    return json_response(request.app[HUB].describe_sequences())


@routes.get("/sequence/{id}")
async def look(request: web.Request) -> web.Response:
    """Show the Sequence of an id, or the newest of a name."""
    require_accept(request, *JSON_TYPES)
    hub = request.app[HUB]
    return json_response(hub.describe_sequence(hub.sequence(request.match_info["id"])))


@routes.get("/sequence/{id}/instances")
async def list_instances(request: web.Request) -> web.Response:
    """List the ids of a Sequence's Instances, oldest first."""
    require_accept(request, *JSON_TYPES)
    hub = request.app[HUB]
    sequence = hub.sequence(request.match_info["id"])
    return json_response([one.id for one in hub.instances_of(sequence.id)])


@routes.get("/sequence/{id}/versions")
async def list_versions(request: web.Request) -> web.Response:
    """List the versions of a Sequence that are kept, newest first."""
    require_accept(request, *JSON_TYPES)
    return json_response(await request.app[HUB].versions(request.match_info["id"]))


@routes.post("/sequence/{id}/rollback")
async def rollback(request: web.Request) -> web.Response:
    """Give a Sequence the package and configuration of one of its versions, by default of the one before the present one.

    They become its newest version. Instances that run keep the files they have.
    """
    number = (await read_json(request)).get("version")
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
        raise BadRequest(f"version must be a whole number above 0, not {str(number)[:60]!r}")
    sequence, version = await request.app[HUB].rollback_sequence(request.match_info["id"], number)
    return json_response({"id": sequence.id, "version": version, "sha256": sequence.sha256})


@routes.delete("/sequence/{id}")
async def delete(request: web.Request) -> web.Response:
    """Forget a Sequence; with ``x-seq-kill-inst: true`` its Instances are killed first."""
    force = request.headers.get("x-seq-kill-inst", "").strip().lower() in ("true", "1", "yes")
    sequence = await request.app[HUB].delete_sequence(request.match_info["id"], force=force)
    return json_response({"opStatus": "OK", "id": sequence.id})


@routes.post("/sequence/{id}/start")
async def start(request: web.Request) -> web.Response:
    """Start an Instance."""
    hub: Hub = request.app[HUB]
    try:
        payload = start_payload(await read_json(request))
        instance = await hub.start(request.match_info["id"], payload)
    except HubError as error:
        return start_refused(error)
    return json_response(
        {
            "result": "success",
            "opStatus": "OK",
            "message": f"Sequence {instance.id} starting",
            "id": instance.id,
        }
    )


def start_refused(error: HubError) -> web.Response:
    """Return the answer to a start that is none. Old clients look for ``result``, and not at the status."""
    phrase = error.reason or HTTPStatus(error.status).phrase
    body = {"result": "error", "opStatus": phrase, "error": str(error)}
    if isinstance(error, StartFailed):
        body["instanceId"] = error.instance.id
    return json_response(body, status=error.status, reason=error.reason)


def start_payload(body: dict[str, Any]) -> StartPayload:
    """Return the payload of a start, checked.

    Raises:
        BadRequest: a member has the wrong type.
        InvalidInstanceId: the wanted id is not 36 characters.
    """
    config = _member(body, "appConfig", dict, "an object") or {}
    args = _member(body, "args", list, "an array") or []
    limits = _member(body, "limits", dict, "an object") or {}
    _check_limits(limits)
    reads, writes = _topic(body, "inputTopic"), _topic(body, "outputTopic")
    if reads and reads == writes:
        raise BadRequest(
            f"inputTopic and outputTopic are both {reads!r}: the Sequence would read what it writes"
        )
    instance_id = body.get("instanceId")
    if instance_id is not None and not is_instance_id(instance_id):
        raise InvalidInstanceId(
            "Invalid Instance id: instanceId must be 36 visible ASCII characters without slashes"
        )
    return StartPayload(config, args, instance_id, reads, writes, limits, body)


def _check_limits(limits: dict[str, Any]) -> None:
    memory, gpu = limits.get("memory"), limits.get("gpu")
    if memory is not None and (
        isinstance(memory, bool) or not isinstance(memory, int | float) or memory <= 0
    ):
        raise BadRequest(f"limits.memory must be a number of MB above 0, not {str(memory)[:60]!r}")
    if gpu is not None and not isinstance(gpu, bool):
        raise BadRequest(f"limits.gpu must be true or false, not {str(gpu)[:60]!r}")


def _topic(body: dict[str, Any], name: str) -> str:
    value = _member(body, name, str, "a string")
    return check_name(value) if value else ""


def _member(body: dict[str, Any], name: str, kind: type, expected: str) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise BadRequest(f"{name} must be {expected}, not {str(value)[:60]!r}")
    return value
