"""Waiting for a debugger: with one that is written here, and with debugpy itself."""

import asyncio
import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.debugger import NoDebugger, wait_for_debugger
from runner.errors import InvalidSettings
from runner.settings import Settings

FAKE = """
import os, threading
calls = []
paths = os.environ.get("PATHS_FROM_ECLIPSE_TO_PYTHON")
gate = threading.Event()
cancelled = threading.Event()
def listen(address):
    calls.append(address)
    if address[1] == 1:
        raise RuntimeError("Address already in use")
    return address[0], address[1] or 4711
class Wait:
    def __call__(self):
        gate.wait()
    def cancel(self):
        cancelled.set()
        gate.set()
wait_for_client = Wait()
"""
ENVIRON = {"SEQUENCE_PATH": "/p/main.py", "INSTANCE_ID": "i" * 36, "INSTANCES_SERVER_SOCKET": "/s"}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A debugpy that the test drives, in an author's folder on the path."""
    (tmp_path / "debugpy.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "debugpy", raising=False)
    monkeypatch.setenv("PATHS_FROM_ECLIPSE_TO_PYTHON", "")
    os.environ.pop("PATHS_FROM_ECLIPSE_TO_PYTHON")
    yield tmp_path
    sys.modules.pop("debugpy", None)


@pytest.mark.usefixtures("fake")
async def test_it_says_where_it_waits_and_goes_on_when_somebody_has_come(capsys: pytest.CaptureFixture[str]):
    waiting = asyncio.create_task(wait_for_debugger(0, source="/home/ada/shout", package="/packages/1"))
    await asyncio.sleep(0)
    debugpy = sys.modules["debugpy"]
    said = capsys.readouterr().err
    assert said.startswith("waiting for a debugger on 127.0.0.1:4711 (attach with VS Code: {")
    assert json.loads(said[said.index("{") : -2])["connect"] == {"host": "127.0.0.1", "port": 4711}
    assert not waiting.done()
    debugpy.gate.set()
    await waiting
    assert debugpy.calls == [("127.0.0.1", 0)]
    assert json.loads(debugpy.paths) == [["/home/ada/shout", "/packages/1"]]


@pytest.mark.usefixtures("fake")
async def test_a_stop_ends_the_waiting():
    waiting = asyncio.create_task(wait_for_debugger(5678))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert sys.modules["debugpy"].cancelled.is_set()
    assert sys.modules["debugpy"].paths is None


@pytest.mark.usefixtures("fake")
async def test_a_port_that_is_taken_is_an_error_with_a_way_out():
    with pytest.raises(
        NoDebugger, match=r"127\.0\.0\.1:1: Address already in use; choose another port with `--debug PORT`"
    ):
        await wait_for_debugger(1)


async def test_without_debugpy_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "debugpy", raising=False)
    with pytest.raises(
        NoDebugger, match=r"needs debugpy in the Python that runs the Sequence .*: `pip install debugpy`"
    ) as caught:
        await wait_for_debugger(5678)
    assert caught.value.exit_code == 22


async def test_a_debugpy_that_is_broken_shows_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "debugpy.py").write_text("import no_such_module_of_debugpy")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "debugpy", raising=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_of_debugpy"):
        await wait_for_debugger(5678)


def test_debugpy_itself_listens_there_and_waits():
    if importlib.util.find_spec("debugpy") is None:
        pytest.skip("debugpy is not installed")
    program = "import asyncio, runner.debugger\nasyncio.run(runner.debugger.wait_for_debugger(0))\nprint('attached')"
    environ = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        start_new_session=True,
    ) as child:
        try:
            assert child.stderr is not None
            line = child.stderr.readline().decode()
            port = json.loads(line[line.index("{") : -2])["connect"]["port"]
            with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
                link.settimeout(5)
                assert link.recv(1000).startswith(b"Content-Length: "), "it speaks the Debug Adapter Protocol"
            assert child.poll() is None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, 9)


def test_the_environment_says_where_to_wait():
    settings = Settings.from_environ(
        {**ENVIRON, "HUB_LITE_DEBUG_PORT": "5678", "HUB_LITE_DEBUG_SOURCE": "/home/ada/shout"}
    )
    assert (settings.debug_port, settings.debug_source) == (5678, "/home/ada/shout")
    plain = Settings.from_environ(ENVIRON)
    assert (plain.debug_port, plain.debug_source) == (None, "")


@pytest.mark.parametrize("port", ["0", "x", "65536", "-1"])
def test_a_debug_port_that_is_none_is_refused_by_its_name(port: str):
    with pytest.raises(InvalidSettings, match="HUB_LITE_DEBUG_PORT must be a port from 1 to 65535"):
        Settings.from_environ({**ENVIRON, "HUB_LITE_DEBUG_PORT": port})
