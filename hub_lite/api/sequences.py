"""Endpoints of Sequences: upload, look, start, delete."""

from http import HTTPStatus
from typing import Any

from aiohttp import web

from hub_lite.errors import BadRequest, HubError
from hub_lite.hub import Hub, StartFailed
from hub_lite.instances import StartPayload
from runner.protocol.hello import is_instance_id

from .answers import HUB, JSON_TYPES, json_response, read_json, require_accept, require_octets

routes = web.RouteTableDef()


class InvalidInstanceId(HubError):
    """The wanted id of an Instance is none."""

    status = 422


@routes.post("/sequence")
async def upload(request: web.Request) -> web.Response:
    """Take a package."""
    require_octets(request)
    hub = request.app[HUB]
    with hub.receive_package() as package:
        async for chunk in request.content.iter_any():
            package.write(chunk)
        sequence = await hub.add_sequence(package)
    return json_response({"id": sequence.id})


@routes.get("/sequences")
async def list_all(request: web.Request) -> web.Response:
    """List all Sequences."""
    require_accept(request, *JSON_TYPES)
    hub = request.app[HUB]
    return json_response([hub.describe_sequence(one) for one in hub.sequences()])


@routes.get("/sequence/{id}")
async def look(request: web.Request) -> web.Response:
    """Show one Sequence."""
    require_accept(request, *JSON_TYPES)
    hub = request.app[HUB]
    return json_response(hub.describe_sequence(hub.sequence(request.match_info["id"])))


@routes.delete("/sequence/{id}")
async def delete(request: web.Request) -> web.Response:
    """Forget a Sequence; with ``x-seq-kill-inst: true`` its Instances are killed first."""
    sequence_id = request.match_info["id"]
    force = request.headers.get("x-seq-kill-inst", "").strip().lower() in ("true", "1", "yes")
    await request.app[HUB].delete_sequence(sequence_id, force=force)
    return json_response({"opStatus": "OK", "id": sequence_id})


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
        body["id"] = error.instance.id
    return json_response(body, status=error.status, reason=error.reason)


def start_payload(body: dict[str, Any]) -> StartPayload:
    """Return the payload of a start, checked.

    Raises:
        BadRequest: a member has the wrong type.
        InvalidInstanceId: the wanted id is not 36 characters.
    """
    config = _member(body, "appConfig", dict, "an object") or {}
    args = _member(body, "args", list, "an array") or []
    _member(body, "limits", dict, "an object")
    for name in ("inputTopic", "outputTopic"):
        if _member(body, name, str, "a string"):
            raise BadRequest(
                f"{name}: this hub has no topics; leave it out and use the Instance's input and output"
            )
    instance_id = body.get("instanceId")
    if instance_id is not None and not is_instance_id(instance_id):
        raise InvalidInstanceId(
            "Invalid Instance id: instanceId must be 36 visible ASCII characters without slashes"
        )
    return StartPayload(config, args, instance_id, body)


def _member(body: dict[str, Any], name: str, kind: type, expected: str) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise BadRequest(f"{name} must be {expected}, not {str(value)[:60]!r}")
    return value
