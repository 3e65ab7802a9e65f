"""The stages of real processes: a runner, and a hub over HTTP. Each test holds on both."""

import asyncio
import os
import sys
import tempfile
import threading

import pytest

from hub_lite import stages
from hub_lite.stages import HubStage, HubThread, RunnerStage
from sequence_sdk import sequence
from sequence_sdk.account import Account
from sequence_sdk.pack import PackError
from sequence_sdk.testing import (
    Event,
    Exit,
    SequenceFailed,
    Stage,
    SubjectNotFound,
    TestingError,
    WaitedInVain,
)


@sequence
async def greet(context, lines, greeting="Hello"):
    context.emit("begun", [greeting, context.config])
    context.logger.warning("begun")
    print("printed")
    print("wrong", file=sys.stderr)
    async for line in lines:
        yield f"{greeting} {line}"


@sequence
async def fails(lines):
    async for line in lines:
        yield line
        raise ValueError("no")


@sequence
async def says(context, lines):
    heard = asyncio.Queue()
    context.on("word", heard.put)
    context.set_stop_handler(lambda *_: context.emit("stopping"))
    context.emit("process", os.getpid())
    while (word := await heard.get()) != "bye":
        yield f"{word}\n"


@pytest.fixture(scope="module", params=[RunnerStage, HubStage], ids=["runner", "hub"])
def backend(request):
    backend = request.param()
    yield backend
    backend.close()
    backend.close()


@pytest.fixture
def stage(request, backend):
    return Stage("process", backend, timeout=30.0, neighbours=(request.module,))


async def test_a_sequence_of_the_test_file_runs_in_a_process(stage):
    async with stage.run(greet, "Hi", config={"mark": 7}) as run:
        await run.feed("Ada\n", "Grace\n")
        assert await run.items(2) == ["Hi Ada\n", "Hi Grace\n"]
        await run.feed_cut("Jürgen\n".encode())
        assert await run.rest() == ["Hi Jürgen\n"]
        assert await run.exit() == Exit(0, "Instance completed", failed=False)
        assert run.events == [Event("begun", ["Hi", {"mark": 7}])]
        assert [one.level for one in run.logs if one.message == "begun"] == ["WARN"]
        assert run.stdout == "printed\n"
        assert run.stderr == "wrong\n"


async def test_a_failure_is_told_with_its_traceback(stage):
    with pytest.raises(SequenceFailed) as caught:
        await stage.outputs(fails, ["a\n", "b\n"])
    assert 'raise ValueError("no")' in str(caught.value)
    async with stage.run(fails) as run:
        await run.feed("a\n")
        assert await run.items(1) == ["a\n"]
        how = await run.exit()
        assert (how.code, how.failed) == (23, True)
        assert "ValueError: no" in run.stderr
        await run.feed("b\n")


async def test_a_sequence_that_fails_on_start_is_one_that_has_ended(stage, tmp_path):
    (tmp_path / "main.py").write_text("1 / 0")
    async with stage.run(tmp_path / "main.py") as run:
        await run.feed("a\n")
        how = await run.exit()
    assert (how.code, how.failed) == (22, True)
    assert "ZeroDivisionError" in run.stderr


async def test_a_folder_is_packed_as_it_is(stage, tmp_path):
    (tmp_path / "package.json").write_text('{"main": "main.py", "engines": {"python3": ">=3.11"}}')
    (tmp_path / "words.py").write_text("MARK = '!'")
    (tmp_path / "main.py").write_text(
        'from words import MARK\nprovides = {"contentType": "application/x-ndjson"}\n'
        "async def run(context, input, *args):\n    async for line in input:\n        yield line.strip() + MARK\n"
    )
    assert await stage.outputs(tmp_path, ["a\n"], gives="application/x-ndjson") == ["a!"]


async def test_what_cannot_be_run_is_refused(stage, tmp_path):
    @sequence
    async def inner(lines):
        yield ""

    with pytest.raises(SubjectNotFound, match="no member of a module"):
        await stage.outputs(inner, [])
    (tmp_path / "package.json").write_text('{"main": "main.py"}')
    with pytest.raises(PackError):
        await stage.outputs(tmp_path, [])
    (tmp_path / "package.json").write_text('{"main": "main.rb", "engines": {"ruby": "3"}}')
    (tmp_path / "main.rb").write_text("")
    with pytest.raises(TestingError, match="the Sequence cannot be started"):
        await stage.outputs(tmp_path, [])


async def test_events_go_in_and_a_stop_is_polite(stage):
    async with stage.run(says, content_type="text/plain") as run:
        await run.event("process")
        await run.emit("word", "one")
        assert await run.items(1) == ["one\n"]
        assert await run.stop(5.0) == Exit(138, "Instance stopped", failed=False)
        assert run.events[-1].name == "stopping"
        assert await run.stop() == await run.kill()


async def test_a_kill_is_no_failure_and_a_crash_is_one(stage):
    async with stage.run(says, content_type="text/plain") as run:
        pid = await run.event("process")
        assert await run.kill() == Exit(137, "Instance killed", failed=False)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    async with stage.run(greet, crash_after=2) as run:
        await run.feed("a\n", "b\n", "c\n")
        how = await run.exit()
        assert (how.code, how.failed) == (137, True)
        assert how.reason.startswith("Runner was ended by SIGKILL")
        assert await run.assert_account(out=2, pending=1) == Account(3, 2)
        assert await run.items(2) == ["Hello a\n", "Hello b\n"]


async def test_a_sequence_stops_taking_items_while_nobody_reads_and_loses_none(stage):
    async with stage.run(greet) as run:
        fed = await run.until_blocked(lambda number: f"{number} {'x' * 4990}\n")
        numbers = [int(item.split()[1]) for item in await run.rest()]
        assert numbers == list(range(fed))
        await run.assert_account(out=fed)


async def test_nothing_is_left_when_a_block_ends(stage, backend):
    hub = backend._thread.hub.hub
    async with stage.run(says, content_type="text/plain") as run:
        pid = await run.event("process")
        run.timeout = 0.05
        with pytest.raises(WaitedInVain, match="for a condition to come true"):
            await run.until(lambda: False)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (hub.sequences(), hub.instances()) == ([], [])


def test_a_hub_leaves_no_thread_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    thread = HubThread()
    assert list(tmp_path.iterdir())
    thread.close()
    assert list(tmp_path.iterdir()) == []
    assert "hub for tests" not in [one.name for one in threading.enumerate() if one is thread._thread]


def test_a_hub_that_cannot_begin_says_why(monkeypatch):
    def refuse(settings):
        raise OSError("no room")

    monkeypatch.setattr(stages, "serve", refuse)
    with pytest.raises(OSError, match="no room"):
        HubThread()
