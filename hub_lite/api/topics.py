"""Endpoints of topics: list, create, delete, send, get."""

from aiohttp import web

from hub_lite.errors import BadRequest
from hub_lite.topics import check_name

from .answers import HUB, JSON_TYPES, OCTETS, json_response, read_json, require_accept
from .bodies import outlive_client, pieces
from .readers import open_at, send_to_client

routes = web.RouteTableDef()


@routes.get("/topics")
@routes.get("/topis")  # as the seed reference spells it
async def list_all(request: web.Request) -> web.Response:
    """List all topics."""
    require_accept(request, *JSON_TYPES)
    return json_response(request.app[HUB].topics.describe())


@routes.post("/topics")
async def create(request: web.Request) -> web.Response:
    """Make a topic."""
    hub = request.app[HUB]
    body = await read_json(request)
    for name in ("id", "content-type"):
        if not isinstance(body.get(name), str) or not body[name]:
            raise BadRequest(f"Missing body param: {name}")
    topic = hub.topics.create(body["id"], body["content-type"])
    return json_response(
        {
            "id": topic.name,
            "origin": {"id": hub.settings.hub_id, "type": "hub"},
            "state": "flowing",
            "contentType": topic.content_type,
        }
    )


@routes.delete("/topics/{name}")
async def delete(request: web.Request) -> web.Response:
    """Remove a topic; its readers end."""
    name = request.match_info["name"]
    request.app[HUB].topics.remove(name)
    return json_response({"message": f"Topic {name} removed"})


@routes.post("/topic/{name}")
async def send(request: web.Request) -> web.Response:
    """Take a body into a topic; answer when it is in. The topic is made if it is not there.

    ``x-end-stream: true`` ends the readers attached at that moment, after this request's data.
    """
    hub = request.app[HUB]
    topic = hub.topics.obtain(
        check_name(request.match_info["name"]), request.headers.get("Content-Type", "").strip()
    )
    end = request.headers.get("x-end-stream", "").strip().lower() == "true"

    def finish() -> None:
        if end and hub.settings.topics_end_stream == "readers":
            topic.end_readers()

    async def take() -> None:
        async with topic.producer() as producer:
            async for piece, ends in pieces(request):
                await producer.write(piece, ends=ends)
        finish()

    content = request.content
    if topic.free and content.is_eof() and content.exception() is None:  # one packet, as most messages are
        topic.take(content.read_nowait())
        finish()
    else:
        await outlive_client(request, take())
    return json_response({}, status=200 if end else 202)


@routes.get("/topic/{name}")
async def get(request: web.Request) -> web.StreamResponse:
    """Stream a topic, from ``?offset=`` or from the first byte that no reader has had; it is made if it is not there."""
    require_accept(request, OCTETS)
    wanted = request.headers.get("Content-Type", "").strip()
    topic = request.app[HUB].topics.obtain(check_name(request.match_info["name"]), wanted or None)
    return await send_to_client(request, open_at(topic.open, request))
