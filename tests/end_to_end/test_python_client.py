"""The original Python client drives a hub, as far as it can: what is broken in it is said here too."""

import asyncio
import fcntl
import importlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .harness import DEADLINE, HubProcess, Talk, make_package, running_hub

# aiohttp, which it needs too, is the one that the hub uses.
PACKAGES = {
    "scramjet_api_client": "1.1.1",
    "scramjet_client_utils": "1.1.1",
    "url_normalize": "1.4.3",
    "six": "1.17.0",
}
CACHE = Path(__file__).parents[2] / ".cache" / "python-client"
INSTALL_TIMEOUT = 300.0  # seconds
TOKEN = "nobody-guesses-this-one"
SHOUT = """
async def run(context, input):
    print("started with", context.config)
    async for line in input:
        yield line.upper()
"""
ANSWER = """
import asyncio

async def run(context, input):
    context.on("ask", lambda message: context.emit("answer", [message]))
    context.emit("ready", True)
    await asyncio.Event().wait()
"""


def installed() -> Path:
    """Return a folder to import the client from; the test is skipped where pip cannot install it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / "packages"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes that run side by side share the folder
        if not all((folder / f"{name}-{version}.dist-info").exists() for name, version in PACKAGES.items()):
            words = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade"]
            wanted = [f"{name}=={version}" for name, version in PACKAGES.items()]
            result = subprocess.run(
                [sys.executable, "-m", "pip", *words, "--target", str(folder), *wanted],
                capture_output=True,
                check=False,
                timeout=INSTALL_TIMEOUT,
            )
            if result.returncode != 0:
                pytest.skip(f"pip cannot install the client: {result.stderr.decode()[-500:]}")
    return folder


@dataclass(frozen=True, slots=True)
class Client:
    """The modules of the client."""

    base: ModuleType
    host: ModuleType


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """The client, importable while the tests of this module run."""
    folder = str(installed())
    sys.path.insert(0, folder)
    try:
        base = importlib.import_module("client_utils.base_client")
        yield Client(base, importlib.import_module("client.host_client"))
        base.BaseClient.setDefaultHeaders({})
    finally:
        sys.path.remove(folder)
        for name in [name for name in sys.modules if name.split(".")[0] in ("client", "client_utils")]:
            del sys.modules[name]


@pytest.fixture
async def host(client: Client, hub: HubProcess, talk: Talk) -> AsyncIterator[Any]:
    """The client of the shared hub, which is emptied after the test."""
    yield client.host.HostClient(hub.url)
    for sequence in await talk.get("/sequences"):
        await talk.ask("DELETE", f"/sequence/{sequence['id']}", headers={"x-seq-kill-inst": "true"})
    for topic in await talk.get("/topics"):
        await talk.ask("DELETE", f"/topics/{topic['topic']}")


async def started(host: Any, code: str) -> Any:
    """Upload and start a Sequence; return its Instance."""
    return await (await host.send_sequence(make_package(code))).start()


# --- what works -------------------------------------------------------------------------------------------------------


async def test_it_is_told_what_hub_this_is_and_how_busy(host: Any):
    version = await host.get_version()
    assert (version["service"], version["apiVersion"]) == ("hub-lite", "v1")
    assert {"avgLoad", "currentLoad", "memFree", "memUsed", "fsSize"} <= set(await host.get_load_check())
    assert "host" in await host.get_config()
    assert {"sequences", "instances"} <= set(await host.list_entities())


async def test_it_sends_lists_shows_starts_and_deletes_a_sequence(host: Any, tmp_path: Path):
    (tmp_path / "shout.tar.gz").write_bytes(make_package(SHOUT, name="shout"))
    package = await host.load_sequence(str(tmp_path / "shout.tar.gz"))
    sequence = await host.send_sequence(package)
    assert [one["id"] for one in await host.list_sequences()] == [sequence.id]
    assert (await host.get_sequence_info(sequence.id))["config"]["name"] == "shout"
    assert await sequence.get_info() == await host.get_sequence_info(sequence.id)
    instance = await sequence.start()
    assert await sequence.list_instances() == [instance.id]
    assert instance.id in [one["id"] for one in await host.list_instances()]
    shown = await host.get_instance_info(instance.id)
    assert (shown["status"], shown["sequence"]["id"]) == ("running", sequence.id)
    same = await sequence.get_instance(instance.id, host)
    assert (await same.get_info())["id"] == instance.id
    assert (await same.get_health())["healthy"] is True
    assert await host.delete_sequence(sequence.id) == {"error": "Can't remove sequence in use."}
    assert (await instance.stop())["terminated"]["exitcode"] == 138
    assert await host.delete_sequence(sequence.id) == {"opStatus": "OK", "id": sequence.id}
    assert await host.list_sequences() == []


async def test_it_sends_input_until_it_says_that_it_ends(host: Any, talk: Talk):
    instance = await started(host, SHOUT)
    await instance.send_input(b"hello\n", {"end": "False"})
    await instance.send_input(b"hub\n")
    assert await talk.read(instance.id) == b"HELLO\nHUB\n"


async def test_it_sends_input_of_the_type_it_says(host: Any, talk: Talk):
    code = "async def run(context, input):\n    async for item in input:\n        yield str(item['n'])\n"
    instance = await started(host, code)
    await instance.send_input(b'{"n": 1}\n{"n": 2}\n', {"type": "application/x-ndjson"})
    assert await talk.read(instance.id) == b"12"


async def test_it_stops_and_kills_instances(host: Any, talk: Talk):
    sequence = await host.send_sequence(make_package(SHOUT))
    stopped = await sequence.start()
    answer = await stopped.stop(timeout=2500, can_keep_alive=True)
    assert (answer["id"], answer["terminated"]["exitcode"]) == (stopped.id, 138)
    killed = await sequence.start()
    assert (await killed.kill())["id"] == killed.id
    assert (await talk.until_over(killed.id))["terminated"]["exitcode"] == 137


async def test_it_gets_the_last_event(host: Any, talk: Talk):
    instance = await started(host, ANSWER)
    assert await instance.get_next_event() == {"eventName": "ready", "message": True}
    assert await instance.send_event("ask", "why") == {"accepted": "OK"}
    await talk.get(f"/instance/{instance.id}/event/answer")  # has come
    assert (await instance.get_next_event())["eventName"] == "answer"


async def test_it_sends_to_a_topic_and_gets_what_others_send(host: Any):
    async with asyncio.timeout(DEADLINE):
        await host.send_named_data("words", b"one\n", "text/plain", False)
        lines = await host.get_named_data("words")
        assert await anext(lines) == "one\n"
        await host.send_named_data("words", b"two\n", "text/plain", True)
        assert [line async for line in lines] == ["two\n"], "and it ends, as the sender has said"


async def test_it_reads_the_log_of_the_hub_as_it_comes(host: Any):
    lines = await host.get_log_stream()
    sequence = await host.send_sequence(make_package(SHOUT))
    async with asyncio.timeout(DEADLINE):
        while sequence.id not in (line := await anext(lines)):
            pass
    await lines.aclose()
    assert json.loads(line)["level"] == "INFO"


async def test_it_raises_the_sentence_of_what_went_wrong(host: Any):
    with pytest.raises(ValueError, match="tar"):
        await host.send_sequence(b"no package")
    sequence = await host.send_sequence(make_package(SHOUT))
    await host.delete_sequence(sequence.id)
    with pytest.raises(ValueError, match=f"Sequence {sequence.id} not found"):
        await sequence.start()
    assert await host.get_instance_info("nobody") == {"error": "Instance nobody not found"}
    assert await host.get_sequence_info("nothing") == {"error": "Sequence nothing not found"}


async def test_it_is_told_why_an_instance_did_not_start(host: Any):
    with pytest.raises(ValueError, match="No module named 'nowhere_at_all'"):
        await started(host, "import nowhere_at_all\n")


async def test_it_shows_its_token_to_a_hub_that_asks_for_one(client: Client, tmp_path: Path):
    with running_hub(tmp_path, environment={"HUB_LITE_TOKEN": TOKEN}) as hub:
        host = client.host.HostClient(hub.url)
        assert await host.list_sequences() == {"message": "Forbidden"}
        client.base.BaseClient.setDefaultHeaders({"Authorization": f"Bearer {TOKEN}"})
        try:
            assert await host.list_sequences() == []
            assert TOKEN not in repr(host)
        finally:
            client.base.BaseClient.setDefaultHeaders({})


# --- what is broken in it, whatever the hub is ------------------------------------------------------------------------


async def test_it_misspells_the_message_of_an_event_so_that_none_arrives(host: Any, talk: Talk):
    instance = await started(host, ANSWER)
    await instance.get_next_event()  # it listens
    await instance.send_event("ask", "why")
    assert await talk.get(f"/instance/{instance.id}/event/answer") == [None]


async def test_it_cannot_read_a_stream_of_events(host: Any):
    instance = await started(host, ANSWER)
    with pytest.raises(TypeError, match="async_generator can't be used in 'await' expression"):
        await instance.get_event_stream()


async def test_it_cannot_send_stdin(host: Any):
    instance = await started(host, SHOUT)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'options'"):
        await instance.send_stdin(b"typed")


async def test_it_puts_text_in_quotes(host: Any, talk: Talk):
    instance = await started(host, SHOUT)
    await instance.send_input('say "hello"')
    assert await talk.read(instance.id) == rb'"SAY \"HELLO\""'


async def test_it_sends_a_configuration_where_nobody_looks_for_it(host: Any, talk: Talk):
    sequence = await host.send_sequence(make_package(SHOUT), app_config={"k": "v"})
    assert "appConfig" not in await sequence.get_info()
    instance = await sequence.start()
    await instance.send_input(b"")
    assert await talk.read(instance.id, "stdout") == b"started with {}\n"
