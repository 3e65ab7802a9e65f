"""Who is answered, and what browsers are told."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hub_lite.access import METHODS
from hub_lite.app import make_application
from hub_lite.hub import Hub
from hub_lite.settings import Settings
from tests.hub_lite.fakes import DEADLINE, FakeAdapter, FakeStore, stored_sequence

from .conftest import ONE, Api

TOKEN = "0123456789abcdef-secret"
OURS = "https://ours.example"
EVIL = "https://evil.example"
PATHS = ["/version", "/sequences", f"/sequence/{ONE}", "/log", "/audit", "/openapi.json", "/nothing", ""]


@pytest.fixture
async def settings_of_hub(request: pytest.FixtureRequest) -> dict[str, Any]:
    return getattr(request, "param", {})


def of_hub(**options: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings_of_hub", [options], indirect=True, ids=["+".join(options)])


# Tokens


@of_hub(token=TOKEN)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", PATHS)
async def test_without_a_token_every_path_is_forbidden(api: Api, method: str, path: str) -> None:
    answer = await api.ask(method, path)
    assert answer.status == 403
    if method != "HEAD":
        assert answer.json == {"message": "Forbidden"}


@of_hub(token=TOKEN)
@pytest.mark.parametrize(
    "authorization", [TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ", "Bearer \udcff\udcfe"]
)
async def test_a_wrong_token_is_forbidden_and_nowhere_in_the_log(
    api: Api, caplog: pytest.LogCaptureFixture, authorization: str
) -> None:
    caplog.set_level(logging.DEBUG)
    request = f"GET /api/v1/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: {authorization}\r\n\r\n"
    answer = await api.raw(request.encode("utf-8", "surrogateescape"))
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert answer.endswith(b'{"message":"Forbidden"}')
    assert TOKEN not in caplog.text


@of_hub(token=TOKEN)
async def test_with_the_token_everything_is_as_without(api: Api) -> None:
    bearer = f"Bearer {TOKEN}"
    assert (await api.ask("GET", "/version", Authorization=bearer)).status == 200
    assert (await api.ask("GET", "/nothing", Authorization=bearer)).status == 404
    assert (await api.ask("POST", f"/sequence/{ONE}/start", {}, Authorization=bearer)).status == 200
    assert TOKEN not in (await api.ask("GET", "/config", Authorization=bearer)).body.decode()


# Names and pages


@of_hub(allowed_hosts=("hub.example",))
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:1", 200),
        ("HUB.example:80", 200),
        ("evil.example", 403),
    ],
)
async def test_a_local_hub_answers_to_names_of_its_own_only(api: Api, host: str, status: int) -> None:
    answer = await api.ask("GET", "/version", Host=host)
    assert answer.status == status
    if status == 403:
        assert answer.error.startswith("this hub does not answer to the name 'evil.example'; use 127.0.0.1")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{"Origin": EVIL}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_pages_of_others_are_refused_and_get_no_cors_headers(
    api: Api, path: str, headers: dict[str, str]
) -> None:
    answer = await api.ask("POST", path, b"", **headers)
    assert (answer.status, "cors.origins" in answer.error) == (403, True)
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_a_client_that_is_no_page_gets_no_cors_headers(api: Api) -> None:
    answer = await api.ask("GET", "/version")
    assert not [name for name in (*answer.headers,) if name in ("Vary", "Access-Control-Allow-Origin")]


@of_hub(cors_origins=(OURS,))
@pytest.mark.parametrize("path", ["/version", "/nothing", "/instance/none"])
async def test_an_allowed_page_may_read_answers_errors_too(api: Api, path: str) -> None:
    answer = await api.ask("GET", path, Origin=OURS)
    assert answer.status in (200, 404)
    assert answer.headers["Access-Control-Allow-Origin"] == OURS
    assert answer.headers["Access-Control-Expose-Headers"] == "*"
    assert answer.headers["Vary"] == "Origin"
    assert (await api.ask("GET", path, Origin=EVIL)).status == 403


@of_hub(cors_origins=("*",), token=TOKEN)
async def test_an_allowed_page_may_read_streams_and_that_it_is_forbidden(api: Api) -> None:
    headers = {"Origin": EVIL, "Authorization": f"Bearer {TOKEN}"}
    async with asyncio.timeout(DEADLINE), api.http.get(f"{api.url}/log", headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    refused = await api.ask("GET", "/log", Origin=EVIL)
    assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (403, "*")


# OPTIONS


@of_hub(cors_origins=(OURS,), token=TOKEN)
@pytest.mark.parametrize("path", PATHS)
async def test_options_are_answered_on_any_path_and_without_a_token(api: Api, path: str) -> None:
    for headers in ({}, {"Origin": OURS, "Access-Control-Request-Method": "PUT"}):
        answer = await api.ask("OPTIONS", path, **headers)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Access-Control-Allow-Methods"] == answer.headers["Allow"] == METHODS
        assert answer.headers["Access-Control-Allow-Headers"] == "*, Authorization"
        assert answer.headers.get("Access-Control-Allow-Origin") == headers.get("Origin")


async def test_options_tell_a_page_that_is_not_allowed_nothing(api: Api) -> None:
    answer = await api.ask("OPTIONS", "/version", Origin=EVIL)
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("Access-Control")]
    assert (await api.ask("OPTIONS", "/version", Host="evil.example")).status == 403


# Channel 8


class Channel8(asyncio.Transport):
    """A transport in memory that says it is a Sequence's link to its hub."""

    def __init__(self) -> None:
        super().__init__({"channel8": True})
        self.written = b""
        self.answered = asyncio.Event()
        self._closing = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written += data
        self.answered.set()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[web.AppRunner]:
    hub = Hub(Settings(data_dir=tmp_path, token=TOKEN), FakeStore(stored_sequence(ONE)), FakeAdapter())
    runner = web.AppRunner(make_application(hub), access_log=None)
    await runner.setup()
    yield runner
    await runner.cleanup()


async def test_a_sequence_needs_neither_token_nor_name(served: web.AppRunner) -> None:
    transport = Channel8()
    assert served.server is not None
    protocol = served.server()
    protocol.connection_made(transport)
    protocol.data_received(b"GET /api/v1/version HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        await transport.answered.wait()
    assert transport.written.startswith(b"HTTP/1.1 200 OK\r\n")
    protocol.connection_lost(None)


async def test_a_session_without_such_a_link_is_asked_for_the_token(served: web.AppRunner) -> None:
    await web.TCPSite(served, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{served.addresses[0][1]}/api/v1/version"
    async with aiohttp.ClientSession() as http, http.get(url, headers={"channel8": "true"}) as answer:
        assert answer.status == 403
