"""Endpoints about the hub itself."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hub_lite.api.hub import health_handler, public_settings
from hub_lite.app import serve
from hub_lite.errors import Unavailable
from hub_lite.settings import Settings, from_tree
from tests.hub_lite.fakes import DEADLINE

from .conftest import ONE, Api

READS = ["/config", "/status", "/load-check", "/entities", "/openapi.json"]
LINES = ["/log", "/audit"]


@pytest.fixture
async def settings_of_hub() -> dict[str, Any]:
    return {"heartbeat_interval": 0.01}


class LineReader:
    """Reads JSON lines of an endless answer."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self, **wanted: Any) -> dict[str, Any]:
        """Return the next record with these members."""
        async with asyncio.timeout(DEADLINE):
            while True:
                record: dict[str, Any] = json.loads(await self.answer.content.readline())
                if wanted.items() <= record.items():
                    return record


@pytest.mark.parametrize("path", READS)
async def test_what_is_json_is_for_those_who_take_json(api: Api, path: str) -> None:
    for accept in ("application/json", "text/json", "*/*", "application/*"):
        assert (await api.ask("GET", path, Accept=accept)).status == 200
    assert (await api.ask("GET", path, Accept="text/html")).status == 415


@pytest.mark.parametrize("path", READS + LINES)
async def test_head_is_answered_where_get_is(api: Api, path: str) -> None:
    answer = await api.ask("HEAD", path)
    assert (answer.status, answer.body) == (200, b"")


# Settings


async def test_the_settings_are_a_tree_with_the_keys_of_a_settings_file(api: Api) -> None:
    config = (await api.ask("GET", "/config")).json
    assert config["host"]["port"] == 8000
    assert config["timings"]["heartBeatInterval"] == 10
    assert config["safeOperationLimit"] == 512
    assert config["limits"]["bodyBytes"] == 1024 * 1024


def test_the_settings_that_are_shown_can_be_written_into_a_file() -> None:
    settings = Settings(
        port=1, heartbeat_interval=0.0125, tags=("a", "b"), cors_origins=("*",), insecure=True
    )
    assert from_tree(public_settings(settings), where="the answer", base=Settings()) == settings


def test_nothing_secret_and_no_place_on_the_disk_is_shown() -> None:
    secret = "very-secret-0123456789"
    settings = Settings(
        data_dir=Path(f"/{secret}"),
        token=secret,
        token_file=Path(secret),
        tls_certificate=Path(secret),
        tls_key=Path(secret),
        runner_envs={"PASSWORD": secret},
    )
    assert secret not in json.dumps(public_settings(settings))


# Facts


async def test_the_status_tells_that_there_is_no_manager(api: Api) -> None:
    assert (await api.ask("GET", "/status")).json == {"cpm": {}}


async def test_the_load_is_that_of_the_machine(api: Api) -> None:
    load = (await api.ask("GET", "/load-check")).json
    assert load.keys() == {"avgLoad", "currentLoad", "memFree", "memUsed", "fsSize"}
    assert load["fsSize"]


async def test_all_entities_are_told(api: Api) -> None:
    instance_id = await api.start()
    await api.ask("POST", "/topics", {"id": "names", "content-type": "text/plain"})
    entities = (await api.ask("GET", "/entities")).json
    assert entities["sequences"] == (await api.ask("GET", "/sequences")).json
    assert [one["id"] for one in entities["instances"]] == [instance_id]
    assert [(one["topic"], one["contentType"]) for one in entities["topics"]] == [("names", "text/plain")]


# Lines


async def test_the_log_is_what_is_kept_and_what_comes(api: Api) -> None:
    logger = logging.getLogger("hub_lite.test")
    logger.setLevel(logging.INFO)
    logger.info("before")
    async with api.http.get(f"{api.url}/log") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/octet-stream"
        lines = LineReader(answer)
        record = await lines.next(msg="before")
        assert (record["level"], record["from"], record["Hub"]) == (
            "INFO",
            "hub_lite.test",
            {"id": "hub-lite"},
        )
        logger.warning("after")
        assert (await lines.next(msg="after"))["level"] == "WARN"


@pytest.mark.parametrize("path", LINES)
async def test_lines_are_for_those_who_take_a_stream(api: Api, path: str) -> None:
    assert (await api.ask("GET", path, Accept="application/json")).status == 415


async def test_a_request_is_audited_with_its_bytes_and_who_asked(api: Api) -> None:
    async with api.http.get(f"{api.url}/audit") as answer:
        assert answer.headers["Content-Type"] == "application/octet-stream"
        lines = LineReader(answer)
        instance_id = (
            await api.ask("POST", f"/sequence/{ONE}/start", {"args": [1]}, x_mw_billable="me")
        ).json["id"]
        start = await lines.next(opCode=10117)
        end = await lines.next(opCode=10117)
        assert (start["type"], start["opState"], start["objectId"]) == ("request", "START", ONE)
        assert start["requestorId"] == end["requestorId"] == "me"
        assert start["requestId"] == end["requestId"]
        assert (end["opState"], end["rx"]) == ("END", len(b'{"args": [1]}'))
        assert end["tx"] > 50
        beat = await lines.next(opCode=13012)
        assert (beat["type"], beat["objectId"]) == ("heartbeat", instance_id)
        assert (await lines.next(opCode=13010))["objectId"] == "hub-lite"


async def test_a_request_that_is_refused_by_the_hub_has_an_end_too(api: Api) -> None:
    async with api.http.get(f"{api.url}/audit") as answer:
        await api.ask("GET", "/instance/none")
        assert (await LineReader(answer).next(opCode=11200, opState="END"))["objectId"] == "none"


async def test_a_reader_that_goes_away_is_an_error_in_the_audit(api: Api) -> None:
    instance_id = await api.start()
    async with api.http.get(f"{api.url}/audit") as answer:
        lines = LineReader(answer)
        async with api.http.get(f"{api.url}/instance/{instance_id}/stdout"):
            assert (await lines.next(opCode=11201))["opState"] == "START"
        assert (await lines.next(opCode=11201))["opState"] == "ERROR"


async def test_what_becomes_of_sequences_and_instances_is_audited(api: Api) -> None:
    async with api.http.get(f"{api.url}/audit") as answer:
        lines = LineReader(answer)
        sequence_id = (await api.ask("POST", "/sequence", b"x")).json["id"]
        assert (await lines.next(type="sequence", opCode=10))["objectId"] == sequence_id
        await api.ask("DELETE", f"/sequence/{sequence_id}")
        assert (await lines.next(type="sequence", opCode=11))["objectId"] == sequence_id
        for killed, code in ((False, 2), (True, 3)):
            instance_id = await api.start(limits={"memory": 512})
            started = await lines.next(type="instance", objectId=instance_id)
            assert (started["opCode"], started["limits"]) == (0, {"memory": 512})
            assert (await lines.next(type="instance", objectId=instance_id))["opCode"] == 4
            if killed:
                api.hub.instance(instance_id).kill()
            await api.end(instance_id)
            assert (await lines.next(type="instance", objectId=instance_id))["opCode"] == code


# Health


@pytest.mark.parametrize(
    ("method", "path", "refusal", "status", "text"),
    [
        ("GET", "/healtz", None, 200, "ok"),
        ("GET", "/healtz/", None, 200, "ok"),
        ("HEAD", "/healtz?x", None, 200, ""),
        ("GET", "/healtz", Unavailable("the hub is shutting down"), 503, "the hub is shutting down\n"),
        ("GET", "/healtz", OSError(5, "broken"), 500, "the machine does not tell how full it is: broken\n"),
        ("GET", "/", None, 404, "the health of this hub is at /healtz\n"),
        ("POST", "/healtz", None, 405, "use GET or HEAD\n"),
    ],
)
async def test_the_health_is_ok_while_the_hub_can_take_starts(
    nothing_left: None, method: str, path: str, refusal: Exception | None, status: int, text: str
) -> None:
    def refuse() -> None:
        if refusal is not None:
            raise refusal

    runner = web.ServerRunner(web.Server(health_handler("/healtz/", refuse)))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}{path}"
    async with aiohttp.ClientSession() as http, http.request(method, url) as answer:
        assert (answer.status, await answer.text()) == (status, text)
    await runner.cleanup()


async def test_the_health_endpoint_is_a_server_of_its_own(nothing_left: None, tmp_path: Path) -> None:
    settings = Settings(
        port=0,
        data_dir=tmp_path,
        monitoring_port=0,
        monitoring_path="alive",
        min_free_memory=0,
        min_free_space=0,
    )
    async with serve(settings) as running, aiohttp.ClientSession() as http:
        assert running.health_url is not None
        assert running.health_url.endswith("/alive")
        async with http.get(running.health_url) as answer:
            assert (answer.status, await answer.text()) == (200, "ok")
        async with http.get(f"{running.health_url}/api/v1/version") as answer:
            assert answer.status == 404
        await running.hub.close()
        async with http.get(running.health_url) as answer:
            assert (answer.status, await answer.text()) == (503, "the hub is shutting down\n")


async def test_a_full_machine_is_not_healthy(nothing_left: None, tmp_path: Path) -> None:
    settings = Settings(port=0, data_dir=tmp_path, monitoring_port=0, min_free_memory=2**60)
    async with (
        serve(settings) as running,
        aiohttp.ClientSession() as http,
        http.get(str(running.health_url)) as answer,
    ):
        assert answer.status == 503
        assert "bytes of memory are free" in await answer.text()


# The end


@pytest.mark.parametrize("path", LINES)
async def test_a_reader_of_lines_sees_the_end_of_the_hub(
    nothing_left: None, tmp_path: Path, path: str
) -> None:
    async with aiohttp.ClientSession() as http:
        async with serve(Settings(port=0, data_dir=tmp_path)) as running:
            answer = await http.get(f"{running.api_url}{path}")
            assert answer.status == 200
        await answer.read()
