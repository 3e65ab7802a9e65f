"""An API in front of a hub of fakes, and a client without manners of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hub_lite.app import make_application
from hub_lite.hub import Hub
from hub_lite.ports import Launch
from hub_lite.settings import Settings
from tests.hub_lite.fakes import (
    DEADLINE,
    FakeAdapter,
    FakeProcess,
    FakeRunner,
    FakeStore,
    launched_where,
    stored_sequence,
    until,
)

ONE = "1" * 36


class Answer:
    """Status, headers and body of an answer."""

    def __init__(self, answer: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = answer.status
        self.reason = answer.reason
        self.headers = answer.headers
        self.body = body

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"].startswith("application/json"), self.body
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


class Api:
    """What a test says to the API, and the runners that it plays behind it."""

    def __init__(self, hub: Hub, store: FakeStore, adapter: FakeAdapter) -> None:
        self.hub = hub
        self.store = store
        self.adapter = adapter
        self.port = 0
        self.http: aiohttp.ClientSession
        self.runners: dict[str, FakeRunner] = {}
        self.processes: dict[str, FakeProcess] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    async def play(self, launch: Launch, process: FakeProcess) -> None:
        runner = FakeRunner(launch.instance_id, launched_where(launch.environment))
        self.runners[launch.instance_id] = runner
        self.processes[launch.instance_id] = process
        await runner.start()

    async def ask(self, method: str, path: str, body: Any = None, /, **headers: str) -> Answer:
        """Send a request; a body that is not bytes goes as JSON. ``_`` in the name of a header is ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if sent is not None and not isinstance(body, bytes):
            named.setdefault("Content-Type", "application/json")
        async with (
            asyncio.timeout(DEADLINE),
            self.http.request(
                method, f"{self.url}{path}", data=sent, headers=named, skip_auto_headers=["Content-Type", "Accept"]
            ) as answer,
        ):  # fmt: skip
            return Answer(answer, await answer.read())

    async def start(self, **body: Any) -> str:
        """Start an Instance and return its id."""
        answer = await self.ask("POST", f"/sequence/{ONE}/start", body)
        assert answer.status == 200, answer.body
        return str(answer.json["id"])

    async def end(self, instance_id: str, code: int = 0) -> None:
        """Let an Instance end."""
        await self.runners[instance_id].close()
        self.processes[instance_id].end(code)
        await asyncio.wait_for(self.hub.instance(instance_id).over.wait(), DEADLINE)

    async def raw(self, request: bytes) -> bytes:
        """Send bytes, and return all that comes until the hub closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


@pytest.fixture
async def settings_of_hub() -> dict[str, Any]:
    return {}


@pytest.fixture
async def api(nothing_left: None, tmp_path: Path, settings_of_hub: dict[str, Any]) -> AsyncIterator[Api]:
    store, adapter = FakeStore(stored_sequence(ONE)), FakeAdapter()
    options = {"data_dir": tmp_path, "shutdown_timeout": 0.01, **settings_of_hub}
    hub = Hub(Settings(**options), store, adapter)
    api = Api(hub, store, adapter)
    adapter.on_launch = api.play
    await hub.open()
    runner = web.AppRunner(
        make_application(hub), handler_cancellation=True, shutdown_timeout=0.1, access_log=None
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.port = runner.addresses[0][1]
    api.http = aiohttp.ClientSession()
    yield api
    await api.http.close()
    for instance in hub.instances():
        if not instance.is_over:
            instance.kill()
    for process in api.processes.values():
        process.end(137)
    async with asyncio.timeout(DEADLINE):
        await hub.close()
        await runner.cleanup()
        await asyncio.gather(*adapter.roles, return_exceptions=True)
    for played in api.runners.values():
        await played.close()
    await until(lambda: all(process.closed for process in api.processes.values()))
