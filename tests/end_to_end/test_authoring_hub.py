"""What Instances keep with a real hub: items put aside, state, metrics, and the schema of a package."""

import asyncio
import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub_lite.cli import main
from hub_lite.client import HubRefused

from .harness import HubProcess, Talk, running_hub, talking_to

WAITS = """
async def run(context, input):
    async for line in input:
        yield line
"""
# It puts aside and keeps by way of its own channel to the hub, as the SDK does.
KEEPS = """
import asyncio

async def run(context, input):
    context.set_health_check(lambda: {"healthy": True, "n": 1})
    async for line in input:
        await context.hub.quarantine_items(context.instance_id, [{"item": line, "error": "ValueError: no"}])
        seen = (await context.hub.state(context.instance_id)).get("seen", 0)
        await context.hub.set_state(context.instance_id, "seen", seen + 1)
        yield str(seen + 1)
"""
NAMED = "an-id-of-your-own-of-36-characters-x"


def lines(*records: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in records)


async def test_items_are_put_aside_read_and_counted(talk: Talk) -> None:
    instance = await talk.start(WAITS)
    path = f"/instance/{instance}/quarantine"
    records = [{"number": 1, "item": {"a": "ü"}, "error": "ValueError: no", "traceback": "…"}]
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await talk.ask("POST", path, data=lines(*records), headers=headers)
    assert (answer.status, answer.json) == (200, {"kept": 1})
    assert await talk.client.quarantine_items(instance, [{"item": 2, "error": ""}]) == 1
    answer = await talk.ask("GET", path)
    assert (answer.headers["Content-Type"], answer.body.count(b"\n")) == ("application/x-ndjson", 2)
    async with talk.client.quarantine(instance) as items:
        assert [item async for item in items] == [*records, {"item": 2, "error": ""}]
    await talk.send(instance, b"x\n")
    assert (await talk.until_over(instance))["quarantined"] == 2
    async with talk.client.quarantine(instance) as items:
        assert len([item async for item in items]) == 2


async def test_a_sequence_puts_aside_and_keeps_over_its_own_channel(talk: Talk) -> None:
    instance = await talk.start(KEEPS)
    await talk.send(instance, b"one\ntwo\n")
    assert await talk.read(instance) == b"12"
    async with talk.client.quarantine(instance) as items:
        assert [item["item"] async for item in items] == ["one\n", "two\n"]
    assert await talk.client.state(instance) == {"seen": 2}


async def test_a_state_is_kept_by_key(talk: Talk) -> None:
    instance = await talk.start(WAITS)
    for key, value in (("a/b ü", {"n": [1, None]}), ("zero", 0)):
        await talk.client.set_state(instance, key, value)
        assert await talk.client.get_state(instance, key) == value
    assert await talk.client.state(instance) == {"a/b ü": {"n": [1, None]}, "zero": 0}
    await talk.client.delete_state(instance, "zero")
    with pytest.raises(HubRefused, match="has no key 'zero'") as refused:
        await talk.client.get_state(instance, "zero")
    assert refused.value.status == 404
    await talk.client.delete_state(instance)
    assert await talk.client.state(instance) == {}
    with pytest.raises(HubRefused, match="65536 bytes"):
        await talk.client.set_state(instance, "k", "x" * 70_000)


async def test_metrics_are_there_before_there_are_any(talk: Talk) -> None:
    instance = await talk.start(WAITS)
    assert isinstance(await talk.client.metrics(instance), dict)
    answer = await talk.ask("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = answer.body.decode()
    for name in ("hub_lite_instances", "hub_lite_sequences", "hub_lite_uptime_seconds"):
        assert f"# TYPE {name} gauge\n" in text


async def test_the_schema_in_a_package_is_shown(talk: Talk) -> None:
    schema = {"input": {"type": "string"}, "output": {}, "args": {}, "config": {"type": "object"}}
    sequence = await talk.upload(WAITS, scramjet={"schema": schema})
    assert (await talk.get(f"/sequence/{sequence}"))["config"]["schema"] == schema


async def test_a_sequence_that_goes_takes_the_state_with_it(talk: Talk) -> None:
    sequence = await talk.upload(WAITS)
    await talk.client.start(sequence, instance_id=NAMED)
    await talk.client.set_state(NAMED, "k", 1)
    await talk.client.kill(NAMED, remove_immediately=True)
    await talk.client.delete_sequence(sequence, force=True)
    second = await talk.client.start(await talk.upload(WAITS), instance_id=NAMED)
    assert await talk.client.state(second) == {}
    await talk.client.kill(NAMED, remove_immediately=True)


async def test_the_command_shows_what_is_put_aside(
    talk: Talk,
    hub: HubProcess,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    instance = await talk.start(WAITS)
    records = [{"item": "größe", "error": "a"}, {"item": 2, "error": "b"}]
    await talk.client.quarantine_items(instance, records)
    (tmp_path / "empty").touch()

    def command() -> None:
        with (tmp_path / "empty").open("rb") as file:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
            with pytest.raises(SystemExit) as ended:
                main.main(["quarantine", instance[:12], "--hub", hub.url], prog_name="hub-lite")
            sys.stdin.detach()
        assert not ended.value.code

    await asyncio.to_thread(command)
    printed = capfdbinary.readouterr()
    assert [json.loads(line) for line in printed.out.splitlines()] == records
    assert "größe".encode() in printed.out
    assert printed.err == b""


# --- a hub that comes back --------------------------------------------------------------------------------------------


async def test_a_state_is_there_after_a_restart_and_items_after_a_crash(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            sequence = await talk.upload(WAITS)
            await talk.client.start(sequence, instance_id=NAMED)
            await talk.client.set_state(NAMED, "k", [1])
            await talk.client.quarantine_items(NAMED, [{"item": 1, "error": "no"}])
        hub.end(signal.SIGKILL)
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            lost = await talk.get(f"/instance/{NAMED}")
            assert (lost["status"], lost["quarantined"]) == ("errored", 1)
            async with talk.client.quarantine(NAMED) as items:
                assert [item async for item in items] == [{"item": 1, "error": "no"}]
            await talk.client.start(sequence, instance_id=NAMED)
            assert "quarantined" not in await talk.get(f"/instance/{NAMED}")
            assert await talk.client.get_state(NAMED, "k") == [1]
        assert hub.end() == 0
    assert list((hub.data_dir / "quarantine").iterdir()) == []
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            await talk.client.start(sequence, instance_id=NAMED)
            assert await talk.client.get_state(NAMED, "k") == [1]


async def test_all_of_it_asks_for_the_token(tmp_path: Path) -> None:
    environment = {"HUB_LITE_TOKEN": "0123456789abcdef"}
    with running_hub(tmp_path, environment=environment) as hub:
        async with talking_to(hub.url) as talk, aiohttp.ClientSession() as http:
            for method, path in (
                ("GET", "/metrics"),
                ("GET", f"/instance/{NAMED}/quarantine"),
                ("POST", f"/instance/{NAMED}/quarantine"),
                ("GET", f"/instance/{NAMED}/state"),
                ("PUT", f"/instance/{NAMED}/state/k"),
                ("POST", f"/instance/{NAMED}/_reload"),
            ):
                assert (await talk.ask(method, path)).status == 403
            headers = {"Authorization": "Bearer 0123456789abcdef"}
            async with http.get(f"{hub.url}/metrics", headers=headers) as answer:
                assert answer.status == 200
