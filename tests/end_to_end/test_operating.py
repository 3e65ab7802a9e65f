"""A hub in the hands of who operates it: restarts, signals, crashes, full disks, and what is left afterwards."""

import asyncio
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from hub_lite.client import StreamBroken

from .harness import (
    DEADLINE,
    HubProcess,
    Talk,
    eventually,
    hub_lite,
    lives,
    make_package,
    running_hub,
    talking_to,
)

MIB = 1024 * 1024
OCTETS = {"Content-Type": "application/octet-stream"}
ECHO = """
    async def run(context, input):
        async for line in input:
            yield line
    """
BUSY = """
    def run(context, input):
        while True:
            pass
    """
POLITE = """
    import asyncio
    from pathlib import Path

    async def run(context, input, name, seconds=0):
        async def stop(timeout, can_keep_alive):
            await asyncio.sleep(seconds)
            Path(name).write_text(f"{timeout:g} {can_keep_alive}")

        context.set_stop_handler(stop)
        await asyncio.Event().wait()
    """


def own_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- restarts -------------------------------------------------------------------------------------------------------


async def test_sequences_are_there_again_after_a_restart_and_instances_are_not(tmp_path: Path):
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            sequence_id = await talk.upload(ECHO, name="kept", description="still here")
            await talk.client.start(sequence_id)
            before = await talk.get(f"/sequence/{sequence_id}")
        assert hub.end() == 0
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            after = await talk.get(f"/sequence/{sequence_id}")
            assert after == before | {"instances": []}
            assert await talk.get("/sequences") == [after]
            assert await talk.get("/instances") == []
            instance = await talk.client.start(sequence_id)
            await talk.send(instance, b"again\n")
            assert await talk.read(instance) == b"again\n"


# --- the end of a hub -------------------------------------------------------------------------------------------------


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary folder for a hub, with a name as short as that of a real one."""
    with tempfile.TemporaryDirectory(prefix="hub", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_hub_that_is_asked_to_end_stops_instances_then_kills_them_and_leaves_nothing(
    tmp_path: Path, temporary: Path, number: int
):
    deep = tmp_path / ("d" * 100) / "data"  # too long for a unix socket, which goes to the temporary folder
    word = tmp_path / "last word"
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"timings": {"shutdownTimeout": 1000}}))
    options = ("--config", str(settings))
    with running_hub(tmp_path, *options, data_dir=deep, environment={"TMPDIR": str(temporary)}) as hub:
        async with talking_to(hub.url) as talk:
            await talk.start(POLITE, str(word))
            await talk.start(BUSY)
            ended = await talk.start(ECHO)
            await talk.send(ended, b"")
            await talk.until_over(ended)
            runners = hub.children()
            assert len(runners) == 2
            assert own_files(temporary), "the socket is there"
            begin = time.monotonic()
            assert hub.end(number) == 0
        assert word.read_text() == "1 False", "the stop handler ran, and knew how long it had"
        assert 1 < time.monotonic() - begin < 4, "the busy one had its time, then it was killed"
        assert not any(lives(pid) for pid in runners)
        assert own_files(temporary) == []
        assert {path.name for path in deep.iterdir()} == {
            "lock",
            "packages",
            "sequences.sqlite3",
            "staging",
        }
        assert "Traceback" not in hub.log()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(urlsplit(hub.url).hostname, urlsplit(hub.url).port)


def test_a_hub_whose_folders_all_have_long_names_starts(tmp_path: Path):
    long = tmp_path / ("t" * 100)
    long.mkdir()
    with running_hub(tmp_path, data_dir=long / "data", environment={"TMPDIR": str(long)}) as hub:
        assert hub.end() == 0


async def test_streams_that_are_open_when_a_hub_ends_are_ended_by_it(tmp_path: Path):
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            instance = await talk.start(ECHO)
            await talk.send(instance, b"last\n", end=False)
            async with talk.client.read(instance, "output") as chunks:
                assert await anext(chunks) == b"last\n"
                hub.process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(DEADLINE):
                    assert [chunk async for chunk in chunks] == [], "a stop on request is a clean end"
        assert hub.process.wait(DEADLINE) == 0


async def test_a_second_signal_kills_at_once(tmp_path: Path):
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"timings": {"shutdownTimeout": 600_000}}))
    with running_hub(tmp_path, "--config", str(settings)) as hub:
        async with talking_to(hub.url) as talk:
            word = tmp_path / "last word"
            await talk.start(POLITE, str(word), 600)
            await talk.start(BUSY)
            runners = hub.children()
            hub.process.send_signal(signal.SIGINT)
            await eventually(lambda: "stopping 2 Instance(s)" in hub.log(), "the hub is stopping")
            begin = time.monotonic()
            assert hub.end(signal.SIGINT) == 0
            assert time.monotonic() - begin < 3
        assert not word.exists()
        assert not any(lives(pid) for pid in runners)
        assert "asked again: killing all Instances" in hub.log()


async def test_runners_of_a_hub_that_was_killed_end_by_themselves_and_a_new_hub_starts(tmp_path: Path):
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            word = tmp_path / "last word"
            sequence_id = await talk.upload(ECHO)
            await talk.client.start(sequence_id)
            await talk.start(POLITE, str(word))
            await talk.start(BUSY)
            await talk.start("import time\ndef run(context, input):\n    time.sleep(3600)\n")
            runners = hub.children()
            assert len(runners) == 4
        hub.process.kill()
        hub.process.wait(DEADLINE)
        begin = time.monotonic()
        await eventually(lambda: not any(lives(pid) for pid in runners), "all runners have ended")
        assert time.monotonic() - begin < 10
        assert word.read_text() == "2 False", "a lost hub is a stop"
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            instance = await talk.client.start(sequence_id)
            await talk.send(instance, b"again\n")
            assert await talk.read(instance) == b"again\n"


# --- two hubs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub that is in the way of another one."""
    with running_hub(tmp_path_factory.mktemp("other")) as hub:
        yield hub


def test_a_second_hub_does_not_take_a_data_directory_that_is_in_use(other: HubProcess):
    refused = hub_lite("start", "--port", "0", "--data-dir", other.data_dir)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert refused.stderr.decode() == (
        f"hub-lite: {other.data_dir}: process {other.pid} has this data folder; "
        "stop that hub, or give this one another folder\n"
    )


def test_a_second_hub_does_not_take_a_port_that_is_in_use_and_makes_no_folder(
    other: HubProcess, tmp_path: Path
):
    port = urlsplit(other.url).port
    refused = hub_lite("start", "--port", str(port), "--data-dir", tmp_path / "data")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert refused.stderr.decode() == (
        f"hub-lite: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "is another hub running? choose another --port\n"
    )
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_is_a_file_or_not_ours_is_refused_with_a_sentence(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("no folder")
    refused = hub_lite("start", "--port", "0", "--data-dir", file / "inside")
    assert refused.returncode == 1
    assert refused.stderr.decode().startswith("hub-lite: Not a directory: ")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sequences.sqlite3").write_bytes(b"not a database " * 100)
    refused = hub_lite("start", "--port", "0", "--data-dir", broken)
    assert refused.returncode == 1
    assert "its database cannot be read" in refused.stderr.decode()
    assert b"Traceback" not in refused.stderr


# --- Instances --------------------------------------------------------------------------------------------------------


async def test_a_runner_that_is_killed_from_outside_is_errored_137(hub: HubProcess, talk: Talk):
    instance = await talk.start(ECHO)
    async with talk.client.read(instance, "output") as chunks:
        await talk.send(instance, b"before\n", end=False)
        assert await anext(chunks) == b"before\n"
        os.kill((await talk.get(f"/instance/{instance}/health"))["processId"], signal.SIGKILL)
        with pytest.raises(StreamBroken):
            await anext(chunks)
    info = await talk.until_over(instance)
    assert info["status"] == "errored"
    assert info["terminated"] == {"exitcode": 137, "reason": "Runner was ended by SIGKILL"}
    answer = await talk.ask("POST", f"/instance/{instance}/_kill", json={})
    assert (answer.status, answer.error) == (400, "Instance not running: it is errored")


async def test_a_stop_runs_the_handlers_and_is_answered_when_the_instance_has_ended(
    talk: Talk, tmp_path: Path
):
    word = tmp_path / "last word"
    instance = await talk.start(POLITE, str(word))
    begin = time.monotonic()
    answer = await talk.ask("POST", f"/instance/{instance}/_stop", json={"timeout": 20_000})
    assert time.monotonic() - begin < 5
    assert (answer.status, answer.json["opStatus"]) == (202, "Accepted")
    assert word.read_text() == "20 False"
    info = await talk.until_over(instance)
    assert (info["status"], info["terminated"]) == (
        "completed",
        {"exitcode": 138, "reason": "Instance stopped"},
    )


@pytest.mark.parametrize("code", [POLITE, BUSY], ids=["a slow handler", "a busy loop"])
async def test_a_stop_whose_time_is_up_is_a_kill(talk: Talk, tmp_path: Path, code: str):
    instance = await talk.start(code, *([str(tmp_path / "never"), 600] if code is POLITE else []))
    begin = time.monotonic()
    answer = await talk.ask("POST", f"/instance/{instance}/_stop", json={"timeout": 300})
    assert answer.status == 202
    info = await talk.until_over(instance)
    assert 0.3 < time.monotonic() - begin < 3
    assert (info["status"], info["terminated"]["exitcode"]) == ("completed", 138)
    assert not (tmp_path / "never").exists()


async def test_a_handler_may_keep_an_instance_alive_only_where_the_stop_allows_it(talk: Talk):
    instance = await talk.start(
        """
        async def run(context, input):
            async def stop(timeout, can_keep_alive):
                await context.keep_alive(0)

            context.set_stop_handler(stop)
            async for line in input:
                yield line
        """
    )
    allowed = {"timeout": 20_000, "canCallKeepalive": True}
    for number in range(2):
        answer = await talk.ask("POST", f"/instance/{instance}/_stop", json=allowed)
        assert (answer.status, answer.json["status"]) == (202, "running")
        async with talk.client.read(instance, "output", offset="latest") as chunks:
            await talk.send(instance, b"alive %d\n" % number, end=False)
            assert await anext(chunks) == b"alive %d\n" % number
    answer = await talk.ask("POST", f"/instance/{instance}/_stop", json={"timeout": 20_000})
    info = await talk.until_over(instance)
    assert (info["status"], info["terminated"]["exitcode"]) == ("completed", 138)


async def test_a_killed_instance_that_is_to_be_removed_is_gone_from_the_lists_at_once(talk: Talk):
    instance = await talk.start(BUSY)
    answer = await talk.ask("POST", f"/instance/{instance}/_kill", json={"removeImmediately": True})
    assert answer.status == 202
    await eventually_gone(talk, instance)
    assert instance not in [one["id"] for one in await talk.get("/instances")]


async def eventually_gone(talk: Talk, instance: str) -> None:
    async with asyncio.timeout(3):
        while (await talk.ask("GET", f"/instance/{instance}")).status != 404:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["it returns", "it is killed", "it crashes"])
async def test_what_a_sequence_has_started_ends_with_it(hub: HubProcess, talk: Talk, how: str):
    instance = await talk.start(
        """
        import os, subprocess

        async def run(context, input, how):
            shell = subprocess.Popen(["sh", "-c", "sleep 3600 & echo $!; wait"], stdout=subprocess.PIPE)
            yield f"{shell.pid} {shell.stdout.readline().decode()}"
            if how == "it crashes":
                os.abort()
            if how == "it is killed":
                await anext(input)
        """,
        how,
    )
    async with talk.client.read(instance, "output") as chunks:
        shell, sleeper = map(int, (await anext(chunks)).split())
    if how == "it is killed":
        assert lives(shell)
        assert lives(sleeper)
        await talk.client.kill(instance)
    await talk.until_over(instance)
    await eventually(lambda: not lives(shell) and not lives(sleeper), "all that it started has ended")


async def test_30_instances_that_are_started_at_once_all_complete_and_leave_no_descriptor(hub: HubProcess):
    descriptors = psutil.Process(hub.pid).num_fds()
    async with talking_to(hub.url) as talk:
        sequence_id = await talk.upload(ECHO)

        async def one(number: int) -> tuple[bytes, dict[str, object]]:
            instance = await talk.client.start(sequence_id)
            await talk.send(instance, f"{number}\n".encode() * 1000)
            return await talk.read(instance), (await talk.until_over(instance))["terminated"]

        results = await asyncio.gather(*(one(number) for number in range(30)))
    for number, (output, terminated) in enumerate(results):
        assert output == f"{number}\n".encode() * 1000
        assert terminated == {"exitcode": 0, "reason": "Instance completed"}
    await eventually(lambda: not hub.children(), "all runners have ended")
    await eventually(lambda: psutil.Process(hub.pid).num_fds() <= descriptors, "all descriptors are closed")


# --- the disk ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_a_full_disk_is_answered_503_and_the_hub_works_on(tmp_path: Path, small_disk: Path):
    noise = os.urandom(6 * MIB).hex()[: 6 * MIB]
    sent_too_long = make_package(ECHO, files={"noise": noise + noise})
    unpacks_too_long = make_package(ECHO, files={"noise": "0123456789" * MIB})
    takes_all = {"HUB_LITE_REQUIREMENTS_FREE_SPACE": "0"}
    with running_hub(tmp_path, data_dir=small_disk / "data", environment=takes_all) as hub:
        async with talking_to(hub.url) as talk:
            kept = await talk.upload(ECHO)
            files = hub.files()
            for package in (sent_too_long, unpacks_too_long):
                answer = await talk.ask("POST", "/sequence", data=stream(package), headers=OCTETS)
                assert answer.status == 503
                assert answer.error == (
                    "The hub's disk is full and the package is not kept. "
                    "Free space there, or remove Sequences, and send it again."
                )
                await eventually(lambda: hub.files() == files, "nothing is left of it")
            (small_disk / "other").write_bytes(b"x" * 3 * MIB)
            instance = await talk.client.start(kept)
            await talk.send(instance, b"on\n")
            assert await talk.read(instance) == b"on\n"
            (small_disk / "other").unlink()
            assert await talk.upload(ECHO, name="after")
        assert hub.end() == 0


async def stream(package: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(package), 64 * 1024):
        yield package[start : start + 64 * 1024]
