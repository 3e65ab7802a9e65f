"""Endpoints of Instances: look, health, stop, kill, new code."""

from typing import Any

from aiohttp import web

from hub_lite.errors import BadRequest
from hub_lite.instances import Instance

from .answers import HUB, JSON_TYPES, JsonAnswer, json_response, read_json, require_accept

routes = web.RouteTableDef()

_DEFAULT_STOP_TIMEOUT = 7000  # milliseconds
_MAX_STOP_TIMEOUT = 24 * 3600 * 1000
_MAX_RATE = 1000  # reports a second; more would be a load of its own


def instance_of(request: web.Request) -> Instance:
    """Return the Instance that the path names.

    Raises:
        NotFound: there is none.
    """
    return request.app[HUB].instance(request.match_info["id"])


@routes.get("/instances")
async def list_all(request: web.Request) -> web.Response:
    """List all Instances."""
    require_accept(request, *JSON_TYPES)
    return JsonAnswer(request.app[HUB].instances_text())


@routes.get("/instance/{id}")
async def look(request: web.Request) -> web.Response:
    """Show one Instance."""
    require_accept(request, *JSON_TYPES)
    return JsonAnswer(request.app[HUB].instance_text(instance_of(request)))


@routes.get("/instance/{id}/health")
async def health(request: web.Request) -> web.Response:
    """Show the newest report of health; wait for the first."""
    require_accept(request, *JSON_TYPES)
    return json_response(await instance_of(request).health())


@routes.post("/instance/{id}/_stop")
async def stop(request: web.Request) -> web.Response:
    """Ask for a polite end; answer when it has come, or when its time is up."""
    instance = instance_of(request)
    body = await read_json(request)
    timeout = body.get("timeout")
    if timeout is None:
        timeout = _DEFAULT_STOP_TIMEOUT
    if (
        isinstance(timeout, bool)
        or not isinstance(timeout, int | float)
        or not 0 <= timeout <= _MAX_STOP_TIMEOUT
    ):
        raise BadRequest("Invalid timeout format: timeout must be milliseconds, a number from 0 to 86400000")
    can_keep_alive = _flag(body, "canCallKeepalive")
    instance.refuse_when_over()
    await instance.stop(timeout / 1000, can_keep_alive=can_keep_alive)
    return _accepted(request, instance)


@routes.post("/instance/{id}/_kill")
async def kill(request: web.Request) -> web.Response:
    """End an Instance at once; with ``removeImmediately`` it goes from the lists too, also if it has ended already."""
    instance = instance_of(request)
    remove_immediately = _flag(await read_json(request), "removeImmediately")
    if instance.is_over and remove_immediately:
        answer = _accepted(request, instance)
        request.app[HUB].remove_ended(instance)
        return answer
    instance.refuse_when_over()
    instance.kill(remove_immediately=remove_immediately)
    return _accepted(request, instance)


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise BadRequest(f"Invalid {name} format: {name} must be true or false")
    return value


@routes.post("/instance/{id}/_reload")
async def reload(request: web.Request) -> web.Response:
    """Let an Instance go on with the present package of its Sequence, its streams open; answer when it does."""
    await request.app[HUB].reload(instance_of(request).id)
    return json_response({"reloaded": True})


def _accepted(request: web.Request, instance: Instance) -> web.Response:
    return json_response({"opStatus": "Accepted", **request.app[HUB].describe_instance(instance)}, status=202)


@routes.post("/instance/{id}/_monitoring_rate")
async def set_monitoring_rate(request: web.Request) -> web.Response:
    """Say how many reports of health a second are wanted."""
    instance = instance_of(request)
    rate = (await read_json(request)).get("monitoringRate")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= _MAX_RATE:
        raise BadRequest(f"monitoringRate must be reports a second, a number above 0 and at most {_MAX_RATE}")
    instance.refuse_when_over()
    instance.set_monitoring_rate(rate)
    return json_response({"accepted": True}, status=202)
