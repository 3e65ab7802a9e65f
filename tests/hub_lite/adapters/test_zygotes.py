"""Runners forked of a warm interpreter, with real processes: what they are given, how they end, and without it."""

import asyncio
import json
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

import runner as runner_package
from hub_lite.adapters import zygotes as module
from hub_lite.adapters.zygotes import Forked, Zygotes, is_supported
from hub_lite.errors import Unavailable
from runner.protocol.channels import Channel
from tests.hub_lite.fakes import DEADLINE, until

pytestmark = pytest.mark.skipif(not is_supported(), reason="runners are forked on Linux only")

PATCH = """
import os
import runner.__main__

def main(links):
    scope = {"code": 0, "links": links}
    exec(os.environ["CODE"], scope)
    return scope["code"]

runner.__main__.main = main
"""


class Nursery:
    """Warm interpreters whose runners run the code of a test in place of a Sequence."""

    def __init__(self, folder: Path) -> None:
        self.zygotes = Zygotes(reserves=4)
        self.folder = folder
        (folder / "path").mkdir()
        (folder / "path" / "sitecustomize.py").write_text(PATCH)
        (folder / "work").mkdir()
        places = [folder / "path", Path(runner_package.__file__).parents[1]]
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
        self.runners: list[Forked] = []

    async def fork(self, code: str, **own: str) -> tuple[Forked | None, int]:
        own = {"CODE": textwrap.dedent(code), **own}
        reader, writer = os.pipe()
        try:
            runner = await asyncio.wait_for(
                self.zygotes.fork(
                    sys.executable, {**self.environment, **own}, own, self.folder / "work", writer
                ),
                DEADLINE,
            )
        finally:
            os.close(writer)
        if runner is not None:
            self.runners.append(runner)
        return runner, reader

    async def run(self, code: str, **own: str) -> tuple[int, str]:
        """Return the code of a runner, and what it said."""
        runner, reader = await self.fork(code, **own)
        assert runner is not None
        with open(reader) as output:  # noqa: PTH123 - a descriptor has no path
            said = await asyncio.to_thread(output.read)
        return await asyncio.wait_for(runner.wait(), DEADLINE), said

    def zygote(self) -> psutil.Process:
        found = [
            one for one in psutil.Process().children() if "runner.zygote" in one.cmdline() and is_alive(one)
        ]
        assert len(found) == 1
        return found[0]

    async def reserve(self) -> psutil.Process:
        """Wait until there is one, and return it."""
        zygote = self.zygote()
        await until(lambda: self._reserves(zygote))
        return self._reserves(zygote)[0]

    @staticmethod
    def _reserves(zygote: psutil.Process) -> list[psutil.Process]:
        return [one for one in zygote.children() if is_alive(one) and os.getsid(one.pid) == zygote.pid]


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
async def nursery(nothing_left: None, tmp_path: Path) -> AsyncIterator[Nursery]:
    nursery = Nursery(tmp_path)
    yield nursery
    await nursery.zygotes.close()
    await nursery.zygotes.close()
    for runner in nursery.runners:
        runner.close()
        for link in runner.links.values():
            link.close()


SEEN = """
    import json, os, random, signal, sys
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptors[name] = os.readlink(f"/proc/self/fd/{name}").split(":")[0]
        except FileNotFoundError:
            pass
    print(json.dumps({
        "environment": dict(os.environ), "folder": os.getcwd(), "descriptors": descriptors, "pid": os.getpid(),
        "leads": os.getsid(0) == os.getpid() == os.getpgrp(), "safe_path": sys.flags.safe_path, "random": random.random(),
        "child": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL, "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "third_party": sorted({"anyio", "orjson", "click", "aiohttp", "uvloop", "psutil"} & set(sys.modules)),
    }))
"""


async def seen(nursery: Nursery, **own: str) -> dict[str, Any]:
    code, output = await nursery.run(SEEN, **own)
    assert code == 0, output
    return json.loads(output)


async def test_a_runner_has_its_own_environment_folder_and_session_and_no_descriptor_of_others(
    nursery: Nursery,
) -> None:
    own = {"INSTANCE_ID": "i" * 36, "LARGE": "\u65e5" * 30_000, "ODD": "a=b\n\udcff"}
    first, second = await asyncio.gather(seen(nursery, **own), seen(nursery, OTHER="1"))
    assert first["environment"].items() >= own.items()
    assert first["environment"].keys() == {*nursery.environment, *own, "CODE"}
    assert second["environment"].keys() == {*nursery.environment, "OTHER", "CODE"}
    assert first["folder"] == str(nursery.folder / "work")
    assert first["leads"]
    assert first["safe_path"]
    assert first["child"]
    assert first["term"]
    assert first["third_party"] == []
    assert [first["descriptors"].pop(number) for number in "012"] == ["/dev/null", "pipe", "pipe"]
    assert [*first["descriptors"].values()] == ["socket"] * 10, "its own, and its links"
    assert first["random"] != second["random"]


async def test_runners_have_one_zygote_and_none_is_a_child_of_the_hub(nursery: Nursery) -> None:
    runner, reader = await nursery.fork("import time; time.sleep(60)")
    assert runner is not None
    assert psutil.Process(runner.pid).ppid() == nursery.zygote().pid
    runner2, reader2 = await nursery.fork("")
    assert runner2 is not None
    assert await asyncio.wait_for(runner2.wait(), DEADLINE) == 0
    os.killpg(runner.pid, signal.SIGKILL)
    assert await asyncio.wait_for(runner.wait(), DEADLINE) == -9
    os.close(reader)
    os.close(reader2)


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("", 0),
        ("code = 22", 22),
        ("raise SystemExit(23)", 23),
        ("raise ValueError", 1),
        ("import os; os._exit(7)", 7),
        ("import os; os.kill(os.getpid(), 11)", -11),
        ("import threading, time; threading.Thread(target=time.sleep, args=[0.01]).start(); code = 3", 3),
    ],
)
async def test_the_end_is_told_as_it_was(nursery: Nursery, code: str, end: int) -> None:
    found, output = await nursery.run(code)
    assert found == end
    assert ("ValueError" in output) == ("ValueError" in code)


async def test_exit_handlers_run_and_what_is_printed_last_arrives(nursery: Nursery) -> None:
    assert await nursery.run("import atexit; atexit.register(print, 'bye'); print('hello')") == (
        0,
        "hello\nbye\n",
    )


async def test_its_links_come_with_a_runner_whether_it_was_in_reserve_or_not(nursery: Nursery) -> None:
    code = """
        for channel, link in links.items():
            link.sendall(b"%d" % channel)
            assert link.recv(10) == b"hub"
    """
    for waits in (False, True):
        if waits:
            await nursery.reserve()
        runner, reader = await nursery.fork(code)
        assert runner is not None
        assert list(runner.links) == list(Channel)
        for channel, link in runner.links.items():
            assert not link.getblocking()
            assert not link.get_inheritable()
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(link, 10), DEADLINE) == (
                b"%d" % channel
            )
            link.send(b"hub")
        assert await asyncio.wait_for(runner.wait(), DEADLINE) == 0
        assert [await asyncio.get_running_loop().sock_recv(link, 10) for link in runner.links.values()] == [
            b""
        ] * len(Channel), "nobody else has an end of them"
        os.close(reader)


async def test_a_hub_without_room_for_links_says_so_and_the_runner_is_not_left_behind(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_receive", partial(only_three, module._receive))
    reader, writer = os.pipe()
    with pytest.raises(Unavailable, match="could not be started: Too many open files"):
        await nursery.zygotes.fork(
            sys.executable,
            {**nursery.environment, "CODE": "assert links[0].recv(1) == b''"},
            {"CODE": ""},
            nursery.folder / "work",
            writer,
        )
    os.close(writer)
    with open(reader) as output:  # noqa: PTH123 - a descriptor has no path
        assert await asyncio.wait_for(asyncio.to_thread(output.read), DEADLINE) == "", "it has seen the end"


def only_three(receive: Any, *arguments: Any) -> Any:
    data, descriptors = receive(*arguments)
    for descriptor in descriptors[3:]:
        os.close(descriptor)
    return data, descriptors[:3]


async def test_a_machine_without_room_for_links_is_told(nursery: Nursery) -> None:
    patched = (
        PATCH
        + "import runner.sockets\ndef none():\n    raise OSError(24, 'no room')\nrunner.sockets.pairs = none\n"
    )
    (nursery.folder / "path" / "sitecustomize.py").write_text(patched)
    for _ in range(2):  # no reserve is made, or it ends
        reader, writer = os.pipe()
        with pytest.raises(Unavailable, match="could not be started: Too many open files"):
            await nursery.zygotes.fork(
                sys.executable, nursery.environment, {}, nursery.folder / "work", writer
            )
        os.close(reader)
        os.close(writer)


async def test_after_a_burst_as_many_are_in_reserve_up_to_the_most(nursery: Nursery) -> None:
    await asyncio.gather(*(nursery.run("") for _ in range(6)))
    zygote = nursery.zygote()
    await until(lambda: len(nursery._reserves(zygote)) == 4)
    pids = {one.pid for one in nursery._reserves(zygote)}
    runners = [await nursery.fork("") for _ in range(3)]
    for runner, reader in runners:
        assert runner is not None
        assert runner.pid in pids
        assert await asyncio.wait_for(runner.wait(), DEADLINE) == 0
        os.close(reader)
    await until(lambda: len(nursery._reserves(zygote)) == 4)


async def test_without_a_reserve_each_is_forked_when_it_is_asked_for(
    nothing_left: None, tmp_path: Path
) -> None:
    nursery = Nursery(tmp_path)
    nursery.zygotes = Zygotes(reserves=0)
    for number in range(3):
        assert await nursery.run(f"code = {number}") == (number, "")
        assert nursery._reserves(nursery.zygote()) == []
    await nursery.zygotes.close()
    for runner in nursery.runners:
        for link in runner.links.values():
            link.close()


async def test_one_is_kept_in_reserve_and_takes_the_next_request(nursery: Nursery) -> None:
    await nursery.run("")
    for _ in range(3):
        reserve = await nursery.reserve()
        runner, reader = await nursery.fork("code = 4")
        assert runner is not None
        assert runner.pid == reserve.pid
        assert await asyncio.wait_for(runner.wait(), DEADLINE) == 4
        os.close(reader)


async def test_a_reserve_that_is_killed_is_missed_by_nobody(nursery: Nursery) -> None:
    await nursery.run("")
    (await nursery.reserve()).kill()
    assert await nursery.run("code = 5") == (5, "")


async def test_a_reserve_ends_with_its_zygote(nursery: Nursery) -> None:
    await nursery.run("")
    reserve = await nursery.reserve()
    nursery.zygote().kill()
    await until(lambda: not reserve.is_running() or not is_alive(reserve))


async def test_runners_come_without_a_rehearsal_where_there_is_no_room_for_one(
    nursery: Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    patched = (
        PATCH
        + "import runner.rehearsal\ndef none(times):\n    raise OSError(24, 'no')\nrunner.rehearsal.rehearse = none\n"
    )
    (nursery.folder / "path" / "sitecustomize.py").write_text(patched)
    assert await nursery.run("code = 6") == (6, "")
    assert await nursery.run("code = 7") == (7, "")
    assert "the rehearsal failed" in capfd.readouterr().err


async def test_many_at_once_end_each_with_its_own_code(nursery: Nursery) -> None:
    found = await asyncio.gather(*(nursery.run(f"code = {number}; print({number})") for number in range(60)))
    assert found == [(number, f"{number}\n") for number in range(60)]


@pytest.mark.parametrize("code", [0, 5])
async def test_a_runner_outlives_its_zygote_and_its_code_is_told(nursery: Nursery, code: int) -> None:
    work = f"open('going', 'w').close(); open('on').read(); code = {code}"
    os.mkfifo(nursery.folder / "work" / "on")
    runner, reader = await nursery.fork(work)
    assert runner is not None
    nursery.zygote().kill()
    again, output = await nursery.run("print('of a new zygote')")
    assert (again, output) == (0, "of a new zygote\n")
    await asyncio.to_thread((nursery.folder / "work" / "on").write_text, "")
    assert await asyncio.wait_for(runner.wait(), DEADLINE) == code
    os.close(reader)


async def test_a_runner_that_is_killed_without_its_zygote_is_known_to_be(nursery: Nursery) -> None:
    runner, reader = await nursery.fork("import time; time.sleep(60)")
    assert runner is not None
    zygote = nursery.zygote()
    zygote.kill()
    again, other = await nursery.fork("")
    assert again is not None, "a new zygote is there, so that the end of the old one has been seen"
    os.killpg(runner.pid, signal.SIGKILL)
    assert await asyncio.wait_for(runner.wait(), DEADLINE) == -9
    os.close(reader)
    os.close(other)


async def test_one_that_ended_while_nobody_looked_is_over(nursery: Nursery) -> None:
    birth, theirs = module.socket.socketpair()
    with theirs:
        theirs.send(b"9\n")
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    forked = Forked(process.pid, birth)
    forked.watch()
    assert await asyncio.wait_for(forked.wait(), DEADLINE) == 9


async def test_an_interpreter_that_does_not_work_is_tried_once_in_a_while(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (nursery.folder / "path" / "sitecustomize.py").write_text("import os; os._exit(3)")
    for _ in range(3):
        runner, reader = await nursery.fork("")
        os.close(reader)
        assert runner is None
    assert caplog.text.count("there is no warm interpreter") == 1
    (nursery.folder / "path" / "sitecustomize.py").write_text(PATCH)
    monkeypatch.setattr(module.time, "monotonic", lambda: 1e9)
    assert await nursery.run("print(1)") == (0, "1\n")


async def test_a_program_that_is_not_there_is_left_to_who_starts_processes(nursery: Nursery) -> None:
    reader, writer = os.pipe()
    assert (
        await nursery.zygotes.fork("/no/python", nursery.environment, {}, nursery.folder / "work", writer)
        is None
    )
    os.close(reader)
    os.close(writer)


async def test_a_folder_that_is_not_there_is_left_to_who_starts_processes(nursery: Nursery) -> None:
    (nursery.folder / "work").rmdir()
    runner, reader = await nursery.fork("")
    os.close(reader)
    assert runner is None


@pytest.mark.parametrize("name", ["PYTHONHASHSEED", "LD_PRELOAD", "LANG", "TZ"])
async def test_variables_that_an_interpreter_looks_at_when_it_begins_need_a_new_one(
    nursery: Nursery, name: str
) -> None:
    runner, reader = await nursery.fork("", **{name: "0"})
    os.close(reader)
    assert runner is None


async def test_other_variables_of_all_runners_have_a_zygote_of_their_own_up_to_a_few(
    nursery: Nursery,
) -> None:
    for number in range(4):
        nursery.environment["SHARED"] = str(number)
        assert await nursery.run("import os; print(os.environ['SHARED'])") == (0, f"{number}\n")
    nursery.environment["SHARED"] = "5"
    runner, reader = await nursery.fork("")
    os.close(reader)
    assert runner is None


async def test_a_machine_that_forks_no_more_is_told(nursery: Nursery) -> None:
    patched = PATCH + "def fork():\n    raise BlockingIOError(11, 'no')\nos.fork = fork\n"
    (nursery.folder / "path" / "sitecustomize.py").write_text(patched)
    with pytest.raises(Unavailable, match=r"could not be started: Resource temporarily unavailable"):
        await nursery.zygotes.fork(sys.executable, nursery.environment, {}, nursery.folder / "work", 2)


async def test_closing_ends_zygotes_but_no_runner(nursery: Nursery) -> None:
    runner, reader = await nursery.fork("import time; time.sleep(60)")
    assert runner is not None
    zygote = nursery.zygote()
    await asyncio.wait_for(nursery.zygotes.close(), DEADLINE)
    assert not zygote.is_running()
    assert is_alive(psutil.Process(runner.pid))
    again, other = await nursery.fork("")
    assert again is None
    os.close(other)
    os.killpg(runner.pid, signal.SIGKILL)
    assert await asyncio.wait_for(runner.wait(), DEADLINE) == -9
    os.close(reader)


async def test_closing_does_not_wait_for_one_that_is_still_getting_ready(nursery: Nursery) -> None:
    (nursery.folder / "path" / "sitecustomize.py").write_text("import time; time.sleep(60)")
    nursery.zygotes.warm(sys.executable, nursery.environment)
    fork = asyncio.create_task(nursery.fork(""))
    await asyncio.sleep(0)
    await asyncio.wait_for(nursery.zygotes.close(), DEADLINE)
    runner, reader = await fork
    os.close(reader)
    assert runner is None
