"""The original command line ``si``, and curl, drive a hub as they drive the hub they were made for."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .harness import DEADLINE, HubProcess, make_package
from .npm import installed

CLI = ("@scramjet/cli", "0.26.1")
MANIFEST = '{"name": "shout", "version": "1.2.3", "main": "main.py", "engines": {"python3": ">=3.11"}}'
SHOUT = """
def stop(timeout, can_keep_alive):
    print("stopping within", timeout)

async def run(context, input, *args):
    context.set_stop_handler(stop)
    print("started with", args, context.config)
    async for line in input:
        yield line.upper()
"""
TICK = """
import asyncio

async def run(context, input):
    number = 0
    while True:
        number += 1
        context.emit("tick", number)
        await asyncio.sleep(0.01)
"""
ANSWER = """
import asyncio

async def run(context, input):
    context.on("ask", lambda message: context.emit("answer", [message]))
    context.emit("ready", True)
    await asyncio.Event().wait()
"""
CAT = """
import sys

def run(context, input):
    print(sys.stdin.read().upper())
    print("all is read", file=sys.stderr)
"""
COUNT = """
provides = {"contentType": "application/x-ndjson"}

async def run(context, input):
    async for item in input:
        yield item["n"] + 1
"""
PROFILE = {
    "configVersion": 1,
    "apiUrl": "http://127.0.0.1:8000/api/v1",
    "middlewareApiUrl": "",
    "env": "development",
    "scope": "",
    "token": "",
    "log": {"debug": False, "format": "json"},
}


@pytest.fixture(scope="session")
def program() -> str:
    """The program ``si``, from the npm registry; installed once."""
    return str(installed(*CLI) / ".bin" / "si")


@dataclass(frozen=True, slots=True)
class Si:
    """The command line with a home of its own, and with what ``-`` stands for there."""

    program: str
    home: Path
    hub: HubProcess
    environment: Mapping[str, str]

    def run(self, *words: str | Path, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        return subprocess.run(
            [self.program, *map(str, words)],
            input=input,
            capture_output=True,
            check=False,
            cwd=self.home,
            env=self.environment,
            timeout=DEADLINE,
        )

    def text(self, *words: str | Path, input: bytes = b"") -> bytes:
        """Run a command that must go well and return what it printed."""
        result = self.run(*words, input=input)
        assert (result.returncode, result.stderr) == (0, b""), result
        return result.stdout

    def json(self, *words: str | Path, input: bytes = b"") -> Any:
        """Run a command that prints JSON."""
        return json.loads(self.text(*words, input=input))

    def silent(self, *words: str | Path, input: bytes = b"") -> None:
        """Run a command that must go well and print nothing."""
        assert self.text(*words, input=input) == b""

    def failing(self, *words: str | Path, input: bytes = b"") -> tuple[str, str]:
        """Run a command that the hub must refuse; return the status of its answer and its sentence."""
        result = self.run(*words, input=input)
        assert result.returncode == 1, result
        error = json.loads(result.stdout)
        return error["apiStatusCode"], error["apiError"]["error"]

    def complaint(self, *words: str | Path) -> str:
        """Run a command that must fail; return what it says on its standard error."""
        result = self.run(*words)
        assert (result.returncode, result.stdout) == (1, b""), result
        return result.stderr.decode()

    @contextlib.contextmanager
    def streaming(self, *words: str) -> Iterator["Stream"]:
        """Run a command beside the test, and end it with the block."""
        with subprocess.Popen(
            [self.program, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=self.home,
            env=self.environment,
        ) as process:
            watchdog = threading.Timer(DEADLINE, process.kill)  # which ends a read that waits
            watchdog.start()
            try:
                yield Stream(process)
            finally:
                watchdog.cancel()
                process.kill()

    def upload(self, code: str, **manifest: Any) -> str:
        """Upload a Sequence past si, and return its id."""
        answer = ask(
            self.hub,
            "POST",
            "/sequence",
            make_package(code, **manifest),
            content_type="application/octet-stream",
        )
        return str(json.loads(answer)["id"])


@dataclass(frozen=True, slots=True)
class Stream:
    """A command that runs."""

    process: subprocess.Popen[bytes]

    def type(self, text: bytes) -> None:
        """Type something and close the standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.close()

    def line(self) -> bytes:
        """Return the next line it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.endswith(b"\n"), (line, self.rest())
        return line

    def rest(self) -> tuple[int, bytes, bytes]:
        """Wait for its end; return its exit code, what it has printed till then, and what it said of errors."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        printed, said = self.process.stdout.read(), self.process.stderr.read()
        return self.process.wait(DEADLINE), printed, said

    def interrupt(self) -> int:
        """Press Ctrl-C; return minus the signal, or the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE)


def ask(hub: HubProcess, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
    """Make a request past the clients, and return the body of the answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(hub.url + path, data=body, method=method, headers=named)
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        return bytes(answer.read())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home for si."""
    (tmp_path / ".si").mkdir()  # without it the first command complains
    return tmp_path


@pytest.fixture
def novice(program: str, hub: HubProcess, home: Path) -> Si:
    """si as it comes: nobody has told it of a hub yet."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}
    return Si(program, home, hub, environment)


@pytest.fixture
def si(novice: Si) -> Iterator[Si]:
    """si with a profile file that names the hub, which is emptied after the test."""
    profile = novice.home / "profile.json"
    profile.write_text(json.dumps(PROFILE | {"apiUrl": novice.hub.url}))
    environment = {**novice.environment, "SI_CONFIG_PATH": str(profile)}
    yield Si(novice.program, novice.home, novice.hub, environment)
    for sequence in json.loads(ask(novice.hub, "GET", "/sequences")):
        ask(novice.hub, "DELETE", f"/sequence/{sequence['id']}", x_seq_kill_inst="true")
    for topic in json.loads(ask(novice.hub, "GET", "/topics")):
        ask(novice.hub, "DELETE", f"/topics/{topic['topic']}")


@pytest.fixture
def remembers() -> None:
    """Skip where si cannot know what ``-`` stands for: it forgets what a terminal session did whose leader has ended."""
    leader = os.getsid(0)
    if leader and not Path(f"/proc/{leader}").exists():
        pytest.skip(f"process {leader}, which began this terminal session, has ended, and si forgets it")


@pytest.fixture
def folder(home: Path) -> Path:
    """The folder of a Sequence, not packed."""
    folder = home / "shout"
    folder.mkdir()
    (folder / "package.json").write_text(MANIFEST)
    (folder / "main.py").write_text(SHOUT)
    return folder


@pytest.fixture
def sequence(si: Si) -> str:
    """A Sequence that is there."""
    return si.upload(SHOUT, name="shout")


def names_in(package: bytes) -> set[str]:
    """Return the names of the files in a package."""
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        return {name.removeprefix("./") for name in archive.getnames()}


# --- the hub ----------------------------------------------------------------------------------------------------------


def test_si_is_told_what_hub_this_is_and_how_busy(si: Si):
    assert si.text("--version") == b"CLI version: 0.26.1\n"
    version = si.json("hub", "version")
    assert (version["service"], version["apiVersion"]) == ("hub-lite", "v1")
    load = si.json("hub", "load")
    assert {"avgLoad", "currentLoad", "memFree", "memUsed", "fsSize"} <= set(load)
    assert load["memFree"] > 0
    assert {"fs", "type", "size", "used", "available", "use", "mount"} <= set(load["fsSize"][0])


def test_si_prints_the_log_of_the_hub_as_it_comes_and_makes_it_readable(si: Si):
    with si.streaming("hub", "logs") as logs:
        sequence = si.upload(SHOUT)
        while sequence.encode() not in (line := logs.line()):
            pass
        assert logs.interrupt() == -signal.SIGINT
    record = json.loads(line)
    plain = si.text("util", "log-format", "--no-color", input=line).decode()
    assert plain.split() == [str(record["ts"]), "INFO", record["from"], *record["msg"].split()]
    coloured = si.text("u", "lf", input=line).decode()
    assert "\x1b[36mINFO \x1b[0m" in coloured
    assert record["msg"] in coloured


def test_si_finds_the_hub_that_its_configuration_names(novice: Si):
    url = novice.hub.url
    shown = novice.run("config", "print")
    assert (shown.returncode, shown.stderr) == (0, b"Current profile: default\n\n")
    assert b"apiUrl: 'http://127.0.0.1:8000/api/v1'" in shown.stdout
    novice.silent("config", "set", "log", "--format", "json", "--debug", "false")
    novice.silent("config", "set", "apiUrl", url)
    novice.silent("config", "set", "env", "development")
    assert json.loads(novice.run("c", "p").stdout) == PROFILE | {"apiUrl": url}
    assert novice.json("hub", "version")["service"] == "hub-lite"
    novice.silent("config", "profile", "create", "other")
    listed = novice.run("config", "profile", "ls")
    assert listed.stderr == b"Available profiles:\n-> default\n   other\n"
    settings = json.dumps({"apiUrl": url, "log": {"format": "json"}})
    novice.silent("--config", "other", "config", "set", "json", settings)
    novice.silent("config", "reset", "apiUrl")
    assert json.loads(novice.run("config", "print").stdout) == PROFILE
    assert novice.json("--config", "other", "hub", "version")["service"] == "hub-lite"


def test_si_says_what_it_asked_the_hub_when_it_is_told_to(si: Si):
    loud = si.home / "loud.json"
    loud.write_text(json.dumps(PROFILE | {"apiUrl": si.hub.url, "log": {"debug": True, "format": "json"}}))
    result = si.run("--config-path", loud, "seq", "ls")
    assert (result.returncode, result.stdout) == (0, b"[]\n")
    assert result.stderr.decode() == f"Request ok: {si.hub.url}/sequences status: 200 OK\n"


# --- Sequences --------------------------------------------------------------------------------------------------------


def test_si_packs_where_it_is_told_to(si: Si, folder: Path):
    si.silent("seq", "pack", folder)
    si.silent("seq", "pack", folder, "-o", si.home / "other.tar.gz")
    packages = [
        folder.with_name("shout.tar.gz").read_bytes(),
        (si.home / "other.tar.gz").read_bytes(),
        si.text("seq", "pack", folder, "-c"),
    ]
    assert [names_in(package) for package in packages] == 3 * [{"main.py", "package.json"}]


def test_si_packs_sends_lists_shows_and_removes_a_sequence(si: Si, folder: Path):
    si.silent("seq", "pack", folder)
    sequence = si.json("seq", "send", "shout.tar.gz")["_id"]
    listed = si.json("seq", "ls")
    assert [one["id"] for one in listed] == [sequence]
    shown = si.json("sequence", "get", sequence)
    assert shown == listed[0]
    config = shown["config"]
    assert (config["name"], config["version"], config["entrypointPath"]) == ("shout", "1.2.3", "main.py")
    assert (config["type"], config["language"], config["id"]) == ("process", "py", sequence)
    assert config["packageSize"] == (si.home / "shout.tar.gz").stat().st_size
    assert si.json("seq", "rm", sequence)["id"] == sequence
    assert si.json("sequence", "list") == []


@pytest.mark.usefixtures("remembers")
def test_si_needs_no_ids_for_what_it_did_last(si: Si, folder: Path):
    for command in (("seq", "start"), ("inst", "info"), ("inst", "output")):
        assert "Previous value isn't said" in si.complaint(*command, "-")
    si.silent("seq", "pack", folder)
    sequence = si.json("seq", "send", "-")["_id"]
    assert si.json("seq", "get", "-")["id"] == sequence
    instance = si.json("seq", "start", "-")["_id"]
    assert si.json("inst", "info", "-")["id"] == instance
    assert si.json("inst", "health", "-")["healthy"] is True
    si.silent("inst", "input", "-", "-e", input=b"hello\n")
    assert si.text("inst", "output", "-") == b"HELLO\n"
    assert si.text("inst", "stdout", "-") == b"started with () {}\n"
    assert si.text("inst", "stderr", "-") == b""
    assert b"Instance completed" in si.text("inst", "log", "-")
    assert si.json("seq", "start", "-")["_id"] != instance
    assert si.json("inst", "stop", "-", "500")["terminated"]["exitcode"] == 138
    killed = si.json("seq", "start", "-")["_id"]
    assert si.json("inst", "kill", "-")["id"] == killed
    assert si.text("inst", "output", "-") == b"", "which ends with the Instance"
    assert si.json("seq", "delete", "-")["id"] == sequence


@pytest.mark.usefixtures("remembers")
def test_si_works_with_the_sequence_and_the_instance_that_are_chosen(si: Si, sequence: str):
    si.silent("seq", "use", sequence)
    first = si.json("seq", "start", "-")["_id"]
    assert si.json("seq", "start", "-")["_id"] != first
    si.silent("inst", "use", first)
    assert si.json("inst", "info", "-")["id"] == first
    si.silent("seq", "select", "nothing")
    assert si.failing("seq", "get", "-") == ("404", "Sequence nothing not found")
    si.silent("inst", "use", "nobody")
    assert si.failing("inst", "health", "-") == ("404", "Instance nobody not found")


def test_si_starts_a_sequence_with_all_that_it_can_say(si: Si, sequence: str):
    (si.home / "config.json").write_text('{"k": [1, 2]}')
    words = ("--args", '["x", {"y": null}]', "--limits", '{"memory": 512}')
    si.silent("topic", "send", "lines", input=b"hello\n")
    topics = ("--input-topic", "lines", "--output-topic", "shouts")
    instance = si.json("seq", "start", sequence, "-f", "config.json", *words, *topics)["_id"]
    shown = si.json("inst", "info", instance)
    assert (shown["args"], shown["appConfig"]) == (["x", {"y": None}], {"k": [1, 2]})
    assert (shown["requires"], shown["provides"]) == ("lines", "shouts")
    assert si.failing("inst", "input", instance, input=b"x") == ("406", "Input provided in other way")
    with si.streaming("topic", "get", "shouts") as shouts:
        assert shouts.line() == b"HELLO\n"
    si.text("inst", "kill", instance)
    started = si.text("inst", "stdout", instance)
    assert started == b"started with ('x', {'y': None}) {'k': [1, 2]}\n"


def test_si_does_not_start_what_is_said_wrongly(si: Si, sequence: str):
    assert "Error while parsing the provided Instance arguments" in si.complaint(
        "seq", "start", sequence, "--args", "[x"
    )
    assert "Unable to read configuration" in si.complaint("seq", "start", sequence, "-s", "{")
    assert "Unable to read configuration" in si.complaint("seq", "start", sequence, "-f", "nowhere.json")
    assert si.json("seq", "get", sequence)["instances"] == []


@pytest.mark.usefixtures("remembers")
def test_si_deploys_a_folder_and_a_package(si: Si, folder: Path):
    (si.home / "config.json").write_text('{"k": 1}')
    of_folder = si.json("seq", "deploy", folder, "-f", "config.json", "--args", '["x"]', "-o", "kept.tar.gz")
    shown = si.json("inst", "info", "-")
    assert (shown["id"], shown["args"], shown["appConfig"]) == (of_folder["_id"], ["x"], {"k": 1})
    assert names_in((si.home / "kept.tar.gz").read_bytes()) == {"main.py", "package.json"}
    sent, started = map(json.loads, si.text("seq", "run", "kept.tar.gz", "-s", '{"k": 2}').splitlines())
    shown = si.json("inst", "info", started["_id"])
    assert (shown["sequence"]["id"], shown["appConfig"]) == (sent["_id"], {"k": 2})
    assert len(si.json("seq", "ls")) == 2


def test_si_prunes_the_sequences_that_nobody_needs(si: Si, sequence: str):
    si.upload(SHOUT)
    si.json("seq", "start", sequence)
    pruned = si.run("seq", "prune")
    assert (pruned.returncode, pruned.stdout) == (0, b"")
    assert pruned.stderr.decode().splitlines() == [
        f"Sequence {sequence} has running instances. Use --force to kill those.",
        "Some Sequences may have not been deleted.",
    ]
    assert [one["id"] for one in si.json("seq", "ls")] == [sequence]
    ask(si.hub, "DELETE", f"/sequence/{sequence}", x_seq_kill_inst="true")
    si.upload(SHOUT)
    assert si.run("seq", "prune").stderr == b"Sequences removed successfully.\n"
    assert si.run("seq", "prune").stderr == b"Sequence list is empty, nothing to delete.\n"


def test_si_prunes_by_force_what_runs_too(si: Si, sequence: str):
    instance = si.json("seq", "start", sequence)["_id"]
    si.upload(SHOUT)
    pruned = si.run("seq", "prune", "-f")  # si takes its time: 15 s, and 5 more for each Instance
    assert (pruned.returncode, pruned.stdout) == (0, b"")
    assert pruned.stderr.decode().splitlines() == [
        f"KILL requested for Instances of Sequence {sequence}. Waiting...",
        "Sequences removed successfully.",
    ]
    assert si.json("seq", "ls") == []
    assert si.failing("inst", "info", instance)[0] == "404"


# --- Instances --------------------------------------------------------------------------------------------------------


def test_si_starts_a_sequence_feeds_it_and_reads_all_that_comes_back(si: Si, sequence: str):
    instance = si.json("seq", "start", sequence, "--args", '["x", 1]', "-s", '{"k": 2}')["_id"]
    assert instance in [one["id"] for one in si.json("inst", "ls")]
    shown = si.json("inst", "info", instance)
    assert (shown["status"], shown["args"], shown["appConfig"]) == ("running", ["x", 1], {"k": 2})
    assert shown["sequence"]["id"] == sequence
    assert si.json("inst", "health", instance)["healthy"] is True
    si.silent("inst", "input", instance, input=b"hello\n")
    si.silent("inst", "input", instance, "-e", input=b"hub\n")
    assert si.text("inst", "output", instance) == b"HELLO\nHUB\n"
    assert si.text("inst", "stdout", instance) == b"started with ('x', 1) {'k': 2}\n"
    assert si.text("inst", "stderr", instance) == b""
    log = si.text("inst", "log", instance)
    assert json.loads(log.splitlines()[-1])["msg"] == "Instance completed (exit code 0)"
    assert b"INFO Instance Instance completed (exit code 0)" in si.text("util", "lf", "--no-color", input=log)
    assert si.json("inst", "info", instance)["terminated"] == {"exitcode": 0, "reason": "Instance completed"}


def test_si_sends_a_file_of_the_type_it_says(si: Si):
    instance = si.json("seq", "start", si.upload(COUNT))["_id"]
    (si.home / "items.ndjson").write_text('{"n": 1}\n{"n": 2}\n')
    si.silent("inst", "input", instance, "items.ndjson", "-t", "application/x-ndjson", "--end")
    assert si.text("inst", "output", instance) == b"2\n3\n"
    assert 'File "nowhere" not found.' in si.complaint("inst", "input", instance, "nowhere")


def test_si_sees_output_live(si: Si, sequence: str):
    instance = si.json("seq", "start", sequence)["_id"]
    with si.streaming("inst", "output", instance) as output:
        for word in (b"one\n", b"two\n"):
            si.silent("inst", "input", instance, input=word)
            assert output.line() == word.upper()
        si.silent("inst", "input", instance, "-e")
        assert output.rest() == (0, b"", b"")


def test_si_fails_when_an_output_is_not_complete(si: Si):
    sequence = si.upload("def run(context, input):\n    yield 'before'\n    raise ValueError('no more')\n")
    instance = si.json("seq", "start", sequence)["_id"]
    result = si.run("inst", "output", instance)
    assert (result.returncode, result.stdout) == (1, b"before")
    assert b"Premature close" in result.stderr
    assert b"ValueError: no more" in si.text("inst", "stderr", instance)


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


def test_si_sends_stdin_typed_or_from_a_file(si: Si):
    sequence = si.upload(CAT)
    (si.home / "words").write_bytes(b"written")
    for words, typed, printed in (((), b"typed", b"TYPED\n"), (("words",), b"", b"WRITTEN\n")):
        instance = si.json("seq", "start", sequence)["_id"]
        si.text("inst", "stdin", instance, *words, input=typed)
        assert si.text("inst", "stdout", instance) == printed


@pytest.mark.parametrize("command", ["stdio", "attach"])
def test_si_is_the_terminal_of_an_instance(si: Si, command: str):
    instance = si.json("seq", "start", si.upload(CAT))["_id"]
    with si.streaming("inst", command, instance) as terminal:
        terminal.type(b"typed")
        assert terminal.rest() == (0, b"TYPED\n", b"all is read\n")


def test_si_emits_an_event_and_waits_for_the_first_that_comes_back(si: Si):
    instance = si.json("seq", "start", si.upload(ANSWER))["_id"]
    assert si.json("inst", "event", "on", instance, "ready") is True
    with si.streaming("inst", "event", "on", instance, "answer") as waiting:
        assert si.json("inst", "event", "emit", instance, "ask", "why") == {"accepted": "OK"}
        assert waiting.rest() == (0, b'["why"]\n', b"")
    assert si.json("inst", "event", "invoke", instance, "ask") == {"accepted": "OK"}
    si.text("inst", "kill", instance)
    assert si.failing("inst", "event", "emit", instance, "ask")[0] == "400"
    assert si.failing("inst", "event", "on", instance, "never")[0] == "410"


@pytest.mark.usefixtures("remembers")
def test_si_hears_the_last_the_next_and_all_events_of_a_name(si: Si):
    si.json("seq", "start", si.upload(TICK))
    last = si.json("inst", "event", "on", "-", "tick")
    following = si.json("inst", "event", "on", "-", "tick", "-n")
    assert last < following
    assert si.json("inst", "event", "emit", "-", "anything", "{}") == {"accepted": "OK"}
    with si.streaming("inst", "event", "on", "-", "tick", "-s") as ticks:
        heard = [json.loads(ticks.line()) for _ in range(3)]
        assert heard == [heard[0], heard[0] + 1, heard[0] + 2]
        assert following < heard[0]
        si.text("inst", "kill", "-")
        code, rest, said = ticks.rest()
    assert (code, said) == (0, b"")
    assert [*map(json.loads, rest.splitlines())][:1] in ([], [heard[0] + 3])


def test_si_shows_the_sentence_of_what_went_wrong(si: Si, sequence: str):
    assert si.failing("inst", "info", "nobody") == ("404", "Instance nobody not found")
    assert "Failed to request" in si.complaint("inst", "output", "nobody")
    assert si.failing("seq", "rm", "nothing") == ("404", "The sequence nothing does not exist.")
    instance = si.json("seq", "start", sequence)["_id"]
    assert si.failing("seq", "rm", sequence) == ("409", "Can't remove sequence in use.")
    si.run("inst", "kill", instance)
    (si.home / "bad.tar.gz").write_bytes(b"no package")
    refused = si.run("seq", "send", si.home / "bad.tar.gz")  # si ends with 0 all the same
    assert refused.stdout == b""
    assert b"Failed to request" in refused.stderr


def test_si_shows_why_a_sequence_does_not_start(si: Si):
    result = si.run("seq", "start", si.upload("import nowhere_at_all\n"))
    assert result.returncode == 1
    assert b"ModuleNotFoundError: No module named 'nowhere_at_all'" in result.stderr


# --- topics -----------------------------------------------------------------------------------------------------------


def test_si_sends_to_a_topic_and_gets_all_of_it(si: Si):
    assert si.json("topic", "ls") == []
    si.silent("topic", "send", "words", input=b"one\n")
    (si.home / "more").write_bytes(b"two\nthree\n")
    si.silent("topic", "send", "words", "more")
    assert si.json("topic", "ls") == [
        {"contentType": "text/plain", "localProvider": "", "topic": "words", "topicName": "words"}
    ]
    with si.streaming("topic", "get", "words") as got:
        assert [got.line() for _ in range(3)] == [b"one\n", b"two\n", b"three\n"]
        si.silent("topic", "send", "words", input=b"four\n")
        assert got.line() == b"four\n"
        ask(si.hub, "POST", "/topic/words", b"five", content_type="text/plain", x_end_stream="true")
        code, rest, said = got.rest()
    assert (code, rest.rstrip(b"\n"), said) == (0, b"five", b"")


def test_si_is_told_the_type_that_a_topic_has(si: Si):
    si.silent("topic", "send", "items", "-t", "application/x-ndjson", input=b'{"n": 1}\n')
    assert si.json("topic", "ls")[0]["contentType"] == "application/x-ndjson"
    refused = ("415", "Acceptable Content-Type for items is application/x-ndjson")
    assert si.failing("topic", "send", "items", input=b"x") == refused
    with si.streaming("topic", "get", "items", "-t", "text/plain") as got:  # which si does not hand on
        assert json.loads(got.line()) == {"n": 1}
    assert si.failing("topic", "send", "a.b", input=b"x")[0] == "400"


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
