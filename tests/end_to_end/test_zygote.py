"""Instances that are forked of a warm interpreter are as those that are started, and do without it when it is gone."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from .harness import HubProcess, Talk, running_hub, talking_to

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runners are forked on Linux only")

SEEN = """
import gc, json, os, signal, sys, threading

async def run(context, input, *args):
    links = {name: os.readlink(f"/proc/self/fd/{name}").split(":")[0] for name in ("0", "1", "2")}
    yield json.dumps({
        "environment": {name: value for name, value in os.environ.items() if name not in ("INSTANCE_ID", "RUNNER_CONNECT_INFO")},
        "folder": os.getcwd(), "path": sys.path, "arguments": sys.argv, "links": links, "given": args,
        "signals": {name: str(signal.getsignal(getattr(signal, name))) for name in ("SIGCHLD", "SIGTERM", "SIGPIPE")},
        "session": os.getsid(0) == os.getpid(), "flags": str(sys.flags), "gc": [gc.isenabled(), gc.get_threshold()],
        "threads": sorted(one.name for one in threading.enumerate()), "stdout": [sys.stdout.encoding, sys.stdout.line_buffering],
    })
"""
ECHO = """
async def run(context, input):
    async for line in input:
        yield line
        if line == "fail\\n":
            raise ValueError("by design")
"""


def zygotes(hub: HubProcess) -> list[psutil.Process]:
    return [one for one in psutil.Process(hub.pid).children() if "runner.zygote" in one.cmdline()]


async def process_of(talk: Talk, instance: str) -> psutil.Process:
    return psutil.Process((await talk.get(f"/instance/{instance}/health"))["processId"])


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory):
    """A hub that keeps nothing warm."""
    with running_hub(tmp_path_factory.mktemp("cold"), environment={"HUB_LITE_RUNNERS_WARM": "false"}) as hub:
        yield hub


async def test_a_forked_runner_sees_what_a_started_one_sees(hub: HubProcess, cold: HubProcess) -> None:
    seen = []
    for one in (hub, cold):
        async with talking_to(one.url) as talk:
            instance = await talk.start(SEEN, "a", 1)
            said = json.loads(await talk.read(instance))
            package = said["folder"]
            said = json.loads(json.dumps(said).replace(package, "PACKAGE"))
            for name in ("INSTANCES_SERVER_SOCKET", "INSTANCES_SERVER_PORT", "SEQUENCE_INFO", "TMPDIR"):
                said["environment"].pop(name, None)
            seen.append(said)
    assert seen[0] == seen[1]
    assert len(zygotes(hub)) == 1
    assert zygotes(cold) == []


async def test_it_is_a_child_of_the_zygote_and_ends_as_any_other(hub: HubProcess) -> None:
    async with talking_to(hub.url) as talk:
        instance = await talk.start(ECHO)
        process = await process_of(talk, instance)
        assert process.ppid() == zygotes(hub)[0].pid
        await talk.send(instance, b"fail\n")
        assert await talk.read_until_broken(instance) == b"fail\n"
        ended = await talk.until_over(instance)
        assert ended["terminated"]["exitcode"] == 23
        assert b"ValueError: by design" in await talk.read(instance, "stderr")


async def test_a_zygote_that_is_killed_takes_no_instance_with_it(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            failing, killed, fine = [await talk.start(ECHO) for _ in range(3)]
            victim = await process_of(talk, killed)
            zygotes(hub)[0].kill()
            newer = await talk.start(ECHO)
            assert (await process_of(talk, newer)).ppid() == zygotes(hub)[0].pid
            for instance, text in ((fine, b"good\n"), (newer, b"new\n")):
                await talk.send(instance, text)
                assert await talk.read(instance) == text
                assert (await talk.until_over(instance))["terminated"]["exitcode"] == 0
            await talk.send(failing, b"fail\n")
            assert await talk.read_until_broken(failing) == b"fail\n"
            assert (await talk.until_over(failing))["terminated"]["exitcode"] == 23
            os.kill(victim.pid, signal.SIGKILL)
            assert (await talk.until_over(killed))["terminated"]["exitcode"] == 137


async def test_many_at_once_are_all_there(hub: HubProcess) -> None:
    async with talking_to(hub.url) as talk:
        sequence = await talk.upload(ECHO)
        instances = await asyncio.gather(*(talk.client.start(sequence) for _ in range(24)))
        for number, instance in enumerate(instances):
            await talk.send(instance, f"{number}\n".encode())
            assert await talk.read(instance) == f"{number}\n".encode()


async def test_the_end_of_a_hub_is_the_end_of_its_zygote(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            await talk.start(ECHO)
        (zygote,) = zygotes(hub)
        assert hub.end() == 0
        assert not zygote.is_running()


async def test_a_hub_that_is_killed_leaves_no_zygote(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            await talk.start(ECHO)
        (zygote,) = zygotes(hub)
        hub.process.kill()
        await asyncio.to_thread(psutil.wait_procs, [zygote], timeout=10)
        assert not zygote.is_running() or zygote.status() == psutil.STATUS_ZOMBIE


async def test_a_package_may_call_its_modules_as_the_runner_does(hub: HubProcess) -> None:
    code = "import runner\nasync def run(context, input):\n    yield runner.SAID\n"
    async with talking_to(hub.url) as talk:
        instance = await talk.start(code, files={"runner.py": "SAID = 'mine'"})
        assert await talk.read(instance) == b"mine"
