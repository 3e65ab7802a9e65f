"""The original command line ``si``, and curl, drive a hub as they drive the hub they were made for."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .harness import DEADLINE, HubProcess, make_package

CLI = "@scramjet/cli@0.26.1"
CACHE = Path(__file__).parents[2] / ".cache" / "npm"
INSTALL_TIMEOUT = 300.0  # seconds
SHOUT = """
def stop(timeout, can_keep_alive):
    print("stopping within", timeout)

async def run(context, input, *args):
    context.set_stop_handler(stop)
    print("started with", args, context.config)
    async for line in input:
        yield line.upper()
"""


@pytest.fixture(scope="session")
def program() -> str:
    """The program ``si``, from the npm registry; installed once."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("npm is not installed here, and si is a Node program")
    CACHE.mkdir(parents=True, exist_ok=True)
    si = CACHE / "node_modules" / ".bin" / "si"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes that run side by side share the folder
        if not si.exists():
            installed = subprocess.run(
                [npm, "install", "--prefix", str(CACHE), "--no-audit", "--no-fund", "--ignore-scripts", CLI],
                capture_output=True,
                check=False,
                timeout=INSTALL_TIMEOUT,
            )
            if installed.returncode != 0:
                pytest.skip(f"npm cannot install {CLI}: {installed.stderr.decode()[-500:]}")
    return str(si)


@dataclass(frozen=True, slots=True)
class Si:
    """The command line with a home and a profile of its own."""

    program: str
    home: Path
    hub: HubProcess

    def run(self, *words: str | Path, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        return subprocess.run(
            [self.program, *map(str, words)],
            input=input,
            capture_output=True,
            check=False,
            cwd=self.home,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "TMPDIR": str(self.home),
                "SI_CONFIG_PATH": str(self.home / "profile.json"),
            },
            timeout=DEADLINE,
        )

    def text(self, *words: str | Path, input: bytes = b"") -> bytes:
        """Run a command that must go well and return what it printed."""
        result = self.run(*words, input=input)
        assert (result.returncode, result.stderr) == (0, b""), result
        return result.stdout

    def json(self, *words: str | Path) -> Any:
        """Run a command that prints JSON."""
        return json.loads(self.text(*words))

    def failing(self, *words: str | Path) -> tuple[str, str]:
        """Run a command that must fail; return the status of the hub's answer and its sentence."""
        result = self.run(*words)
        assert result.returncode == 1
        error = json.loads(result.stdout)
        return error["apiStatusCode"], error["apiError"]["error"]


@pytest.fixture
def si(program: str, hub: HubProcess, tmp_path: Path) -> Iterator[Si]:
    (tmp_path / ".si").mkdir()  # without it the first command complains
    profile = {
        "configVersion": 1,
        "apiUrl": hub.url,
        "middlewareApiUrl": "",
        "env": "development",
        "scope": "",
        "token": "",
        "log": {"debug": False, "format": "json"},
    }
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    commands = Si(program, tmp_path, hub)
    yield commands
    for sequence in commands.json("seq", "ls"):
        for instance in sequence["instances"]:
            commands.run("inst", "kill", instance)
        commands.run("seq", "rm", sequence["id"])


@pytest.fixture
def sequence(si: Si) -> str:
    """A Sequence that si has packed and sent."""
    folder = si.home / "shout"
    folder.mkdir()
    (folder / "package.json").write_text(
        '{"name": "shout", "version": "1.2.3", "main": "main.py", "engines": {"python3": ">=3.11"}}'
    )
    (folder / "main.py").write_text(SHOUT)
    si.text("seq", "pack", folder, "-o", si.home / "shout.tar.gz")
    return str(si.json("seq", "send", si.home / "shout.tar.gz")["_id"])


def test_si_is_told_what_hub_this_is(si: Si):
    assert si.text("--version") == b"CLI version: 0.26.1\n"
    version = si.json("hub", "version")
    assert (version["service"], version["apiVersion"]) == ("hub-lite", "v1")


def test_si_packs_sends_lists_shows_and_removes_a_sequence(si: Si, sequence: str):
    listed = si.json("seq", "ls")
    assert [one["id"] for one in listed] == [sequence]
    shown = si.json("seq", "get", sequence)
    assert shown == listed[0]
    config = shown["config"]
    assert (config["name"], config["version"], config["entrypointPath"]) == ("shout", "1.2.3", "main.py")
    assert (config["type"], config["language"], config["id"]) == ("process", "py", sequence)
    assert config["packageSize"] == (si.home / "shout.tar.gz").stat().st_size
    assert si.json("seq", "rm", sequence)["id"] == sequence
    assert si.json("seq", "ls") == []


def test_si_starts_a_sequence_feeds_it_and_reads_all_that_comes_back(si: Si, sequence: str):
    instance = si.json("seq", "start", sequence, "--args", '["x", 1]', "-s", '{"k": 2}')["_id"]
    assert [one["id"] for one in si.json("inst", "ls")] == [instance]
    shown = si.json("inst", "info", instance)
    assert (shown["status"], shown["args"], shown["appConfig"]) == ("running", ["x", 1], {"k": 2})
    assert shown["sequence"]["id"] == sequence
    assert si.json("inst", "health", instance)["healthy"] is True
    si.text("inst", "input", instance, input=b"hello\n")
    si.text("inst", "input", instance, "-e", input=b"hub\n")
    assert si.text("inst", "output", instance) == b"HELLO\nHUB\n"
    assert si.text("inst", "stdout", instance) == b"started with ('x', 1) {'k': 2}\n"
    assert si.text("inst", "stderr", instance) == b""
    last = json.loads(si.text("inst", "log", instance).splitlines()[-1])
    assert last["msg"] == "Instance completed (exit code 0)"
    assert si.json("inst", "info", instance)["terminated"] == {"exitcode": 0, "reason": "Instance completed"}


def test_si_stops_an_instance_within_the_time_it_gives(si: Si, sequence: str):
    instance = si.json("seq", "start", sequence)["_id"]
    stopped = si.json("inst", "stop", instance, "2500")
    assert stopped["id"] == instance
    assert si.text("inst", "stdout", instance).endswith(b"\nstopping within 2.5\n")
    shown = si.json("inst", "info", instance)
    assert (shown["status"], shown["terminated"]["exitcode"]) == ("completed", 138)


def test_si_kills_an_instance(si: Si, sequence: str):
    instance = si.json("seq", "start", sequence)["_id"]
    assert si.json("inst", "kill", instance)["id"] == instance
    assert b"stopping" not in si.text("inst", "stdout", instance), "which ends with the Instance"
    shown = si.json("inst", "info", instance)
    assert (shown["status"], shown["terminated"]["exitcode"]) == ("completed", 137)


def test_si_sends_stdin(si: Si):
    package = si.home / "cat.tar.gz"
    package.write_bytes(make_package("import sys\ndef run(context, input):\n    print(sys.stdin.read())\n"))
    sequence = si.json("seq", "send", package)["_id"]
    instance = si.json("seq", "start", sequence)["_id"]
    si.text("inst", "stdin", instance, input=b"typed")
    assert si.text("inst", "stdout", instance) == b"typed\n"


def test_si_shows_the_sentence_of_what_went_wrong(si: Si, sequence: str):
    assert si.failing("inst", "info", "nobody") == ("404", "Instance nobody not found")
    assert si.failing("seq", "rm", "nothing") == ("404", "The sequence nothing does not exist.")
    instance = si.json("seq", "start", sequence)["_id"]
    assert si.failing("seq", "rm", sequence) == ("409", "Can't remove sequence in use.")
    si.run("inst", "kill", instance)
    (si.home / "bad.tar.gz").write_bytes(b"no package")
    refused = si.run("seq", "send", si.home / "bad.tar.gz")  # si ends with 0 all the same
    assert refused.stdout == b""
    assert b"Failed to request" in refused.stderr


def test_si_shows_why_a_sequence_does_not_start(si: Si):
    package = si.home / "broken.tar.gz"
    package.write_bytes(make_package("import nowhere_at_all\n"))
    result = si.run("seq", "start", si.json("seq", "send", package)["_id"])
    assert result.returncode == 1
    assert b"ModuleNotFoundError: No module named 'nowhere_at_all'" in result.stderr


# --- curl -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def curl(hub: HubProcess, tmp_path: Path) -> "Curl":
    """The program curl, pointed at the hub."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here")
    return Curl(hub.url, tmp_path)


@dataclass(frozen=True, slots=True)
class Curl:
    """curl with the URL of a hub."""

    url: str
    folder: Path

    def command(self, path: str, *options: str | Path) -> list[str]:
        """Return the command line of a request."""
        return ["curl", "--silent", "--show-error", *map(str, options), self.url + path]

    def ask(self, path: str, *options: str | Path, input: bytes = b"") -> bytes:
        """Make a request and return the body of the answer."""
        result = subprocess.run(
            self.command(path, *options), input=input, capture_output=True, check=False, timeout=DEADLINE
        )
        assert (result.returncode, result.stderr) == (0, b""), result
        return result.stdout

    def upload(self, code: str) -> str:
        """Upload a Sequence and return its id."""
        package = self.folder / "package.tar.gz"
        package.write_bytes(make_package(code))
        answer = self.ask(
            "/sequence", "-H", "Content-Type: application/octet-stream", "--data-binary", f"@{package}"
        )
        return str(json.loads(answer)["id"])


JSON = ("-H", "Content-Type: application/json", "-d")
TEXT = ("-H", "Content-Type: text/plain", "--data-binary", "@-")


def test_curl_runs_a_sequence(curl: Curl):
    sequence = curl.upload(SHOUT)
    started = json.loads(curl.ask(f"/sequence/{sequence}/start", *JSON, "{}"))
    assert started["result"] == "success"
    path = f"/instance/{started['id']}"
    curl.ask(f"{path}/input", *TEXT, input=b"hello, hub\n")
    assert curl.ask(f"{path}/output", "-N") == b"HELLO, HUB\n"
    assert json.loads(curl.ask(path))["status"] == "completed"
    deleted = json.loads(curl.ask(f"/sequence/{sequence}", "-X", "DELETE"))
    assert deleted == {"opStatus": "OK", "id": sequence}


def test_curl_starts_stops_and_kills_without_a_body(curl: Curl):
    sequence = curl.upload(SHOUT)
    for command, code in (("_stop", 138), ("_kill", 137)):
        instance = json.loads(curl.ask(f"/sequence/{sequence}/start", "-X", "POST"))["id"]
        curl.ask(f"/instance/{instance}/{command}", "-X", "POST")
        curl.ask(f"/instance/{instance}/log")
        assert json.loads(curl.ask(f"/instance/{instance}"))["terminated"]["exitcode"] == code
    curl.ask(f"/sequence/{sequence}", "-X", "DELETE")


def test_curl_sees_output_live_while_it_uploads_without_an_end(curl: Curl):
    sequence = curl.upload(SHOUT)
    instance = json.loads(curl.ask(f"/sequence/{sequence}/start", "-X", "POST"))["id"]
    upload = curl.command(
        f"/instance/{instance}/input", "-T", "-", "-X", "POST", "-H", "Content-Type: text/plain"
    )
    with contextlib.ExitStack() as stack:
        sender = stack.enter_context(
            subprocess.Popen(upload, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0)
        )
        reader = stack.enter_context(
            subprocess.Popen(
                curl.command(f"/instance/{instance}/output", "-N"), stdout=subprocess.PIPE, bufsize=0
            )
        )
        assert sender.stdin is not None
        assert reader.stdout is not None
        for word in (b"one\n", b"two\n"):
            sender.stdin.write(word)
            assert reader.stdout.read(4) == word.upper()
        sender.stdin.close()
        assert reader.stdout.read() == b""
        assert (sender.wait(DEADLINE), reader.wait(DEADLINE)) == (0, 0)
    curl.ask(f"/sequence/{sequence}", "-X", "DELETE")


def test_curl_sees_that_an_output_is_not_complete(curl: Curl):
    sequence = curl.upload("def run(context, input):\n    yield 'before'\n    raise ValueError('no more')\n")
    instance = json.loads(curl.ask(f"/sequence/{sequence}/start", "-X", "POST"))["id"]
    result = subprocess.run(
        curl.command(f"/instance/{instance}/output"), capture_output=True, check=False, timeout=DEADLINE
    )
    assert (result.returncode, result.stdout) == (18, b"before"), "18 is curl's word for a partial file"
    curl.ask(f"/sequence/{sequence}", "-X", "DELETE")


def test_curl_is_told_what_it_forgot(curl: Curl):
    package = curl.folder / "package.tar.gz"
    package.write_bytes(make_package(SHOUT))
    answer = curl.ask("/sequence", "--data-binary", f"@{package}", "-w", "%{http_code}")
    assert answer.endswith(b"415")
    assert b"Content-Type must be application/octet-stream or absent" in answer
