"""The process adapter with real processes: what they inherit, how they end, and what they said."""

import asyncio
import json
import os
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from hub_lite.adapters.process import ChildProcess, ProcessAdapter, runner_environment
from hub_lite.adapters.runners import Command, Runners
from hub_lite.errors import BadRequest, Unavailable
from hub_lite.hub import Hub
from hub_lite.instances import StartPayload
from hub_lite.ports import Launch, StoredSequence
from hub_lite.settings import Settings
from sequence_sdk.manifest import Manifest
from tests.hub_lite.fakes import DEADLINE, FakeStore, until

ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"

Play = Callable[..., Any]


def sequence_in(folder: Path, **manifest: Any) -> StoredSequence:
    options = {"main": "main.py", "engines": {"python3": ">=3.11"}, **manifest}
    return StoredSequence("s" * 36, Manifest(**options), folder, 1, "0" * 64, 0.0)


@pytest.fixture
async def play(
    nothing_left: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Any]]:
    """Start a process that runs the given code in place of the runner."""
    started: list[ChildProcess] = []
    (tmp_path / "path").mkdir()
    (tmp_path / "package").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))

    async def start(code: str, **environment: str) -> ChildProcess:
        (tmp_path / "path" / "runner.py").write_text(textwrap.dedent(code))
        launch = Launch(ID, sequence_in(tmp_path / "package"), environment)
        started.append(await ProcessAdapter().launch(launch))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        await asyncio.wait_for(process.wait(), DEADLINE)
        process.close()
        process.close()


async def said(process: ChildProcess) -> str:
    await asyncio.wait_for(process.wait(), DEADLINE)
    return process.crash_log().decode()


# --- what is inherited ------------------------------------------------------------------------------------------------


def test_a_runner_inherits_what_it_needs_and_no_secret() -> None:
    own = {
        "PATH": "/bin", "HOME": "/h", "LANG": "C.UTF-8", "LC_ALL": "C", "TMPDIR": "/t", "TZ": "UTC", "PYTHONPATH": "/p",
        "DEVELOPMENT": "1", "AWS_SECRET_ACCESS_KEY": "s", "GITHUB_TOKEN": "s", "DATABASE_URL": "s", "HUB_LITE_TOKEN": "s",
        "LD_PRELOAD": "/evil.so", "PYTHONSTARTUP": "/evil.py", "INSTANCE_ID": "of the hub",
    }  # fmt: skip
    assert runner_environment(own, {"INSTANCE_ID": "i"}) == {
        "PATH": "/bin", "HOME": "/h", "LANG": "C.UTF-8", "LC_ALL": "C", "TMPDIR": "/t", "TZ": "UTC", "PYTHONPATH": "/p",
        "DEVELOPMENT": "1", "INSTANCE_ID": "i",
    }  # fmt: skip


def test_what_the_protocol_says_wins() -> None:
    assert runner_environment({"PATH": "/own"}, {"PATH": "/given"}) == {"PATH": "/given"}


@pytest.mark.parametrize("text", ["x" * 100_001, "\u65e5" * 40_000])
def test_a_variable_that_the_kernel_would_refuse_is_left_to_the_pong(text: str) -> None:
    assert runner_environment({}, {"A": text, "B": "small"}) == {"A": "{}", "B": "small"}


async def test_the_process_sees_just_that(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "s")
    code = "import json, os, sys; print(json.dumps([dict(os.environ), os.getcwd(), sys.flags.safe_path]))"
    process = await play(code, INSTANCE_ID=ID, RUNNER_CONNECT_INFO="x" * 3_000_000)
    environment, folder, safe_path = json.loads(await said(process))
    assert environment["INSTANCE_ID"] == ID
    assert environment["RUNNER_CONNECT_INFO"] == "{}"
    assert "SOME_SECRET" not in environment
    assert Path(folder).name == "package"
    assert safe_path


async def test_the_process_has_no_descriptor_of_the_hub_and_a_session_of_its_own(play: Play) -> None:
    code = """
        import json, os
        numbers = [n for n in range(256) if os.path.exists(f"/proc/self/fd/{n}")]
        kinds = {n: os.readlink(f"/proc/self/fd/{n}").split(":")[0] for n in numbers}
        print(json.dumps([kinds, os.getsid(0) == os.getpid()]))
    """
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    kinds, leads = json.loads(await said(await play(code)))
    server.close()
    assert (kinds["0"], kinds["1"], kinds["2"], leads) == ("/dev/null", "pipe", "pipe", True)
    assert set(kinds.values()) == {
        "/dev/null",
        "pipe",
    }  # uvloop leaves a second one of each, which does no harm


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "returncode"),
    [("", 0), ("raise SystemExit(23)", 23), ("import os; os.kill(os.getpid(), 11)", -11)],
)
async def test_the_end_is_told_as_it_was(play: Play, code: str, returncode: int) -> None:
    process = await play(code)
    assert await asyncio.wait_for(process.wait(), DEADLINE) == returncode
    assert await process.wait() == returncode


async def test_one_that_waits_may_give_up_and_another_goes_on(play: Play) -> None:
    process = await play("import time; time.sleep(60)")
    first, second = (asyncio.ensure_future(process.wait()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    process.kill()
    assert await asyncio.wait_for(second, DEADLINE) == -9
    assert first.cancelled()


async def test_a_kill_reaches_grandchildren(play: Play) -> None:
    code = """
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import subprocess, sys, time; "
            "print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"])
        time.sleep(60)
    """
    process = await play(code)
    await until(lambda: process.crash_log().strip())
    grandchild = psutil.Process(int(process.crash_log()))
    assert grandchild.is_running()
    process.kill()
    assert await asyncio.wait_for(process.wait(), DEADLINE) == -9
    await until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


async def test_a_kill_after_the_end_reaches_what_was_left(play: Play) -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    process = await play(code)
    left = psutil.Process(int(await said(process)))
    assert left.is_running()
    process.kill()
    await until(lambda: not left.is_running() or left.status() == psutil.STATUS_ZOMBIE)
    process.kill()


# --- what it said -----------------------------------------------------------------------------------------------------


async def test_stdout_and_stderr_are_one_text_in_order(play: Play) -> None:
    code = "import os; os.write(1, b'a'); os.write(2, b'b'); os.write(1, b'c')"
    assert await said(await play(code)) == "abc"


async def test_a_traceback_is_there(play: Play) -> None:
    assert "ZeroDivisionError: division by zero" in await said(await play("1 / 0"))


async def test_of_much_the_last_64_kib_are_kept_and_the_process_is_not_held_up(play: Play) -> None:
    code = "import os\nfor n in range(40000): os.write(1, b'line %05d of text\\n' % n)"
    text = await said(await play(code))
    assert len(text) == 64 * 1024
    assert text.endswith("line 39999 of text\n")


async def test_one_that_writes_for_ever_does_not_hold_the_hub(play: Play) -> None:
    process = await play("import os\nwhile True: os.write(1, b'x' * 65536)")
    await until(lambda: len(process.crash_log()) == 64 * 1024)
    for _ in range(50):
        await asyncio.sleep(0)
        process.crash_log()
    assert len(process.crash_log()) == 64 * 1024


async def test_what_it_said_is_there_after_the_close(play: Play) -> None:
    process = await play("print('last words')")
    assert await said(process) == "last words\n"
    process.close()
    assert process.crash_log() == b"last words\n"


async def test_a_close_before_the_end_leaves_no_descriptor(play: Play) -> None:
    process = await play("import time; time.sleep(60)")
    process.close()
    assert process.crash_log() == b""


# --- a runner with an early log ---------------------------------------------------------------------------------------


@pytest.fixture
async def play_original(
    nothing_left: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Any]]:
    """Start a process that runs the given code in place of an installed Python runner."""
    started: list[ChildProcess] = []
    for name in ("early", "package"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "early"))

    async def start(code: str) -> ChildProcess:
        (tmp_path / "runner.py").write_text(textwrap.dedent(code))
        runners = Runners(python=tmp_path, python_for="original", python_interpreter=sys.executable)
        launch = Launch(ID, sequence_in(tmp_path / "package"), {})
        started.append(await ProcessAdapter(runners).launch(launch))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        await asyncio.wait_for(process.wait(), DEADLINE)
        process.close()
        process.close()
    assert list((tmp_path / "early").iterdir()) == []


async def test_what_an_early_log_says_of_a_fault_comes_before_the_rest(play_original: Play) -> None:
    code = """
        import os, sys
        with open(sys.argv[1], "a+") as early:
            print('{"level": "DEBUG", "msg": "Connecting..."}', '{"level": "ERROR", "msg": "no"}', "[1]", file=early, sep="\\n")
            print("Traceback: it broke", file=early)
        os.write(2, b"and then this")
    """
    process = await play_original(code)
    expected = '{"level": "ERROR", "msg": "no"}\n[1]\nTraceback: it broke\nand then this'
    assert await said(process) == expected
    process.close()
    assert process.crash_log() == expected.encode()


async def test_an_early_log_is_for_this_user_alone(play_original: Play) -> None:
    process = await play_original("import os, sys; print(oct(os.stat(sys.argv[1]).st_mode & 0o777))")
    assert await said(process) == "0o600\n"


async def test_an_early_log_that_is_gone_is_no_fault(play_original: Play) -> None:
    assert await said(await play_original("import os, sys; os.unlink(sys.argv[1]); print(1)")) == "1\n"


async def test_of_an_early_log_the_end_is_kept(play_original: Play) -> None:
    text = await said(
        await play_original("import sys; open(sys.argv[1], 'w').write('line\\n' * 100_000 + 'last')")
    )
    assert len(text) == 64 * 1024
    assert text.endswith("line\nlast")


async def test_a_runner_that_cannot_be_started_leaves_no_early_log(
    nothing_left: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "early").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "early"))
    (tmp_path / "runner.py").touch()
    runners = Runners(python=tmp_path, python_for="original", python_interpreter=sys.executable)
    with pytest.raises(Unavailable, match="the runner could not be started"):
        await ProcessAdapter(runners).launch(Launch(ID, sequence_in(tmp_path / "gone"), {}))
    assert list((tmp_path / "early").iterdir()) == []


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"engines": {"python3": "*", "node": "*"}}, "'engines' field can't contain more than one element.*node, python3"),
        ({"engines": {"node": ">=16"}, "main": "index.js"}, "no runner for Node Sequences is known here.*runners.node"),
        ({"engines": {}, "main": "index.ts"}, "no runner for language 'ts'"),
        ({"engines": {}, "main": "run"}, "no runner for language 'unknown'"),
    ],
)  # fmt: skip
async def test_what_no_runner_here_can_run_is_refused(
    nothing_left: None, tmp_path: Path, manifest: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadRequest, match=said):
        await ProcessAdapter().launch(Launch(ID, sequence_in(tmp_path, **manifest), {}))


async def test_python_by_the_suffix_alone_is_python(play: Play, tmp_path: Path) -> None:
    await play("")
    launch = Launch(ID, sequence_in(tmp_path, engines={}, main="a.py"), {})
    process = await ProcessAdapter().launch(launch)
    assert await asyncio.wait_for(process.wait(), DEADLINE) == 0
    process.close()


async def test_a_process_that_cannot_be_started_is_said_so_and_leaves_nothing(
    nothing_left: None, tmp_path: Path
) -> None:
    launch = Launch(ID, sequence_in(tmp_path / "gone"), {})
    with pytest.raises(Unavailable, match="the runner could not be started: No such file"):
        await ProcessAdapter().launch(launch)


async def test_a_launch_that_is_called_off_leaves_nothing(nothing_left: None, tmp_path: Path) -> None:
    launch = Launch(ID, sequence_in(tmp_path), {})
    launching = asyncio.ensure_future(ProcessAdapter().launch(launch))
    await asyncio.sleep(0)
    launching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launching
    await until(lambda: not psutil.Process(os.getpid()).children())


# --- with a hub and the real runner -----------------------------------------------------------------------------------


async def test_arguments_beyond_what_a_variable_holds_come_with_the_pong(
    nothing_left: None, tmp_path: Path
) -> None:
    code = """
        from sequence_sdk import sequence

        @sequence
        async def main(source, text):
            yield str(len(text))
    """
    (tmp_path / "main.py").write_text(textwrap.dedent(code))
    (tmp_path / "data").mkdir()
    store = FakeStore(sequence_in(tmp_path))
    hub = Hub(Settings(data_dir=tmp_path / "data"), store, ProcessAdapter())
    await hub.open()
    try:
        args = ["\u65e5" * 100_000]
        instance = await hub.start("s" * 36, StartPayload({}, args, raw={"args": args}))
        with instance.output.open() as cursor:
            text = b"".join([chunk async for chunk in cursor])
        assert (text, instance.failed) == (b"100000", False), instance.log.tail(4096)
        await asyncio.wait_for(instance.over.wait(), DEADLINE)
        assert instance.terminated == {"exitcode": 0, "reason": "Instance completed"}
    finally:
        await hub.close()


class SilentRunners(Runners):
    """Runs a program that tells whether its real stdin has something to say: an end, for one."""

    CODE = "import select; print(bool(select.select([0], [], [], 0)[0]))"

    async def command(self, launch: Launch, environment: Mapping[str, str]) -> Command:
        return Command(
            (sys.executable, "-c", self.CODE), environment, open_stdin="NODE" in launch.environment
        )


@pytest.mark.parametrize(("environment", "has_ended"), [({"NODE": "1"}, False), ({}, True)])
async def test_the_real_stdin_stays_open_for_a_runner_that_needs_it_so(
    nothing_left: None, tmp_path: Path, environment: dict[str, str], has_ended: bool
) -> None:
    launch = Launch(ID, sequence_in(tmp_path), environment)
    process = await ProcessAdapter(SilentRunners()).launch(launch)
    assert await said(process) == f"{has_ended}\n"
    process.close()
    process.close()
