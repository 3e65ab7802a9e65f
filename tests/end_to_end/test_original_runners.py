"""Sequences of Transform Hub run with the runners that they were written for, unmodified and from the npm registry."""

import asyncio
import hashlib
import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub_lite.client import HubRefused

from .harness import DEADLINE, HubProcess, Talk, eventually, running_hub, talking_to
from .npm import installed

VERSION = "0.18.7"
OLD_PYTHONS = ("3.10", "3.9", "3.8")  # newer ones close links that the runner still needs
SOON = 5.0  # seconds; half of what the Node runner lingers after its Sequence has ended
NODE: dict[str, Any] = {"main": "index.js", "engines": {"node": ">=14"}}


def old_python() -> str | None:
    """Return a Python that the original runner works with, from PATH or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    for version in OLD_PYTHONS:
        on_path = shutil.which(f"python{version}")
        for program in filter(None, [on_path, *map(str, pyenv.glob(f"versions/{version}.*/bin/python3"))]):
            found = subprocess.run([program, "-V"], capture_output=True, check=False, text=True)
            if found.stdout.startswith(f"Python {version}."):  # pyenv has a stand-in for those it has not
                return program
    return None


@pytest.fixture(scope="session")
def node_modules() -> Path:
    return installed("@scramjet/runner", VERSION)


@pytest.fixture(scope="module")
def hub(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub in whose data directory npm has put the Node runner."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "data" / "node").mkdir(parents=True)
    (folder / "data" / "node" / "node_modules").symlink_to(node_modules)
    with running_hub(folder) as running:
        yield running


@pytest.fixture(scope="module")
def python_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub that runs Python Sequences with the original runner."""
    python = old_python()
    if python is None:
        pytest.skip(
            f"the original Python runner needs CPython {' or '.join(OLD_PYTHONS)}, and none is installed here"
        )
    package = installed("@scramjet/python-runner", VERSION) / "@scramjet" / "python-runner"
    folder = tmp_path_factory.mktemp("python")
    settings = {
        "runners": {"python": str(package), "pythonInterpreter": python, "pythonFor": "original"},
        "runnerEnvs": {"GREETING": "hello"},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    with running_hub(folder, "--config", str(folder / "settings.json")) as running:
        yield running


@pytest.fixture
async def python_talk(python_hub: HubProcess):
    async with talking_to(python_hub.url) as talking:
        yield talking


async def read_soon(talk: Talk, instance: str) -> bytes:
    """Return the whole output; its end must be seen long before the runner exits."""
    began = time.monotonic()
    output = await talk.read(instance)
    assert time.monotonic() - began < SOON
    return output


async def kill(talk: Talk, instance: str) -> dict[str, Any]:
    """Kill an Instance and return what is known of it after its end."""
    await talk.ask("POST", f"/instance/{instance}/_kill", json={})
    return await talk.until_over(instance)


async def emit(talk: Talk, instance: str, name: str, message: Any) -> None:
    answer = await talk.ask(
        "POST", f"/instance/{instance}/_event", json={"eventName": name, "message": message}
    )
    assert answer.status == 200, answer.body


# --- Node: input and output -------------------------------------------------------------------------------------------


async def test_objects_that_a_node_sequence_gives_are_lines_of_json(talk: Talk):
    code = """
        module.exports = function (input) {
            return (async function* () { for await (const item of input) yield { got: item, ["ü"]: null }; })();
        };
    """
    instance = await talk.start(code, **NODE)
    await talk.send(instance, b'{"n":1}\n{"n":[2,"\xc3\xa4"]}\n', "application/x-ndjson")
    lines = (await read_soon(talk, instance)).decode().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"got": {"n": 1}, "ü": None},
        {"got": {"n": [2, "ä"]}, "ü": None},
    ]
    await kill(talk, instance)


async def test_text_goes_through_a_node_sequence_as_it_is(talk: Talk):
    code = """
        const { PassThrough } = require("stream");
        module.exports = (input) => input.pipe(new PassThrough({ encoding: "utf8" }));
    """
    instance = await talk.start(code, **NODE)
    text = "žluťoučký kůň 🐎\n".encode() * 5000
    await talk.send(instance, text)
    assert await read_soon(talk, instance) == text
    await kill(talk, instance)


async def test_no_byte_of_a_binary_input_is_spoilt_though_the_node_runner_is_busy_when_the_first_one_comes(
    talk: Talk,
):
    code = """
        const { createHash } = require("crypto");
        module.exports = async function (input) {
            const until = Date.now() + 400;
            while (Date.now() < until);  // what arrives meanwhile is read at once afterwards
            const hash = createHash("sha256");
            for await (const chunk of input) hash.update(chunk);
            return hash.digest("hex");
        };
    """
    instance = await talk.start(code, **NODE)
    blob = b"\xff\xfe\x00\x80" + os.urandom(3 * 1024 * 1024)
    await talk.send(instance, io.BytesIO(blob), "application/octet-stream")
    assert await read_soon(talk, instance) == hashlib.sha256(blob).hexdigest().encode()
    await kill(talk, instance)


async def test_two_that_send_at_once_do_not_spoil_it_either(talk: Talk):
    code = """
        const { PassThrough } = require("stream");
        module.exports = function (input) {
            const until = Date.now() + 200;
            while (Date.now() < until);
            return input.pipe(new PassThrough());
        };
    """
    instance = await talk.start(code, **NODE)
    parts = [b"\xff" * 100_000, b"\xfe" * 100_000]
    octets = "application/octet-stream"
    await asyncio.gather(*(talk.send(instance, part, octets, end=False) for part in parts))
    await talk.send(instance, b"\x80", octets)
    assert await read_soon(talk, instance) in (b"".join(parts) + b"\x80", b"".join(parts[::-1]) + b"\x80")
    await kill(talk, instance)


async def test_binary_output_of_a_node_sequence_is_whole(talk: Talk):
    code = """
        const { Readable } = require("stream");
        module.exports = () => {
            let n = 0;
            return new Readable({ read() { this.push(n < 48 ? Buffer.alloc(65536, n++) : null); } });
        };
    """
    instance = await talk.start(code, **NODE)
    assert await read_soon(talk, instance) == b"".join(bytes([n]) * 65536 for n in range(48))
    await kill(talk, instance)


async def test_a_node_sequence_has_its_arguments_and_configuration_and_says_what_it_wants(talk: Talk):
    code = """
        module.exports = async function (input, ...args) {
            console.log(JSON.stringify([args, this.config]));
            console.error("to stderr");
            this.logger.info("logged", { a: 1 });
            for await (const chunk of input);
            return "forty-two";
        };
    """
    instance = await talk.start(code, "ü", 2, [None, {"x": False}], config={"deep": {"k": [1]}}, **NODE)
    await talk.send(instance, b"x")
    assert await read_soon(talk, instance) == b"forty-two"
    ended = await kill(talk, instance)
    assert ended["status"] == "completed"
    assert json.loads(await talk.read(instance, "stdout")) == [
        ["ü", 2, [None, {"x": False}]],
        {"deep": {"k": [1]}},
    ]
    assert await talk.read(instance, "stderr") == b"to stderr\n"
    assert '"msg":"logged"' in (await talk.read(instance, "log")).decode()


async def test_a_node_sequence_that_gives_nothing_ends_its_output_soon(talk: Talk):
    instance = await talk.start("module.exports = async function () {};", **NODE)
    # The runner takes the missing value for one and writes its name.
    assert await read_soon(talk, instance) == b"undefined"
    assert (await talk.get(f"/instance/{instance}"))["status"] == "running", "it lingers"
    await kill(talk, instance)


async def test_a_node_sequence_reads_its_stdin(talk: Talk):
    code = """
        module.exports = async function () {
            const chunk = await new Promise((resolve) => process.stdin.once("data", resolve));
            return chunk.toString();
        };
    """
    instance = await talk.start(code, **NODE)
    await talk.send(instance, b"from outside", "application/octet-stream", stream="stdin")
    assert await read_soon(talk, instance) == b"from outside"
    await kill(talk, instance)


async def test_a_node_sequence_reads_one_topic_and_writes_another(talk: Talk):
    code = """
        const { PassThrough } = require("stream");
        module.exports = [
            { requires: "names", contentType: "text/plain" },
            function (input) {
                const output = new PassThrough();
                (async () => { for await (const chunk of input) output.write(`hello ${chunk}`); })();
                return Object.assign(output, { topic: "greetings", contentType: "text/plain" });
            },
        ];
    """
    instance = await talk.start(code, **NODE)
    text = {"Content-Type": "text/plain"}
    await talk.ask("POST", "/topic/names", data=b"you\n", headers={**text, "x-end-stream": "false"})
    async with (
        asyncio.timeout(DEADLINE),
        talk.http.get(f"{talk.url}/topic/greetings", headers=text) as greetings,
    ):
        assert await greetings.content.readline() == b"hello you\n"
    shown = await talk.get(f"/instance/{instance}")
    assert (shown["requires"], shown["provides"]) == ("names", "greetings")
    await kill(talk, instance)


# --- Node: events, stop, kill -----------------------------------------------------------------------------------------

WAITING = """
    module.exports = function () {
        this.addStopHandler(async (timeout, canKeepAlive) => { console.log("stop", timeout, canKeepAlive); });
        this.addKillHandler(() => { console.log("killed"); });
        this.on("ping", (message) => { this.emit("pong", message); });
        return new Promise(() => { setInterval(() => {}, 1000); });
    };
"""


@pytest.mark.parametrize("message", [0, "", False, None, {"a": ["ü"]}])
async def test_events_reach_a_node_sequence_and_come_back(talk: Talk, message: Any):
    instance = await talk.start(WAITING, **NODE)
    asking = asyncio.create_task(talk.get(f"/instance/{instance}/event/pong"))
    await emit(talk, instance, "ping", message)
    async with asyncio.timeout(DEADLINE):
        assert await asking == message
    await kill(talk, instance)


async def test_a_node_sequence_is_told_of_a_stop_before_it_ends(talk: Talk):
    instance = await talk.start(WAITING, **NODE)
    began = time.monotonic()
    answer = await talk.ask(
        "POST", f"/instance/{instance}/_stop", json={"timeout": 60_000, "canCallKeepalive": False}
    )
    assert (answer.status, answer.json["status"]) == (202, "completed")
    ended = await talk.until_over(instance)
    assert time.monotonic() - began < SOON, "it has ended when its handler had, not when the timeout was over"
    assert (ended["status"], ended["terminated"]["exitcode"]) == (
        "completed",
        137,
    )  # the runner's own code for it
    assert await talk.read(instance, "stdout") == b"stop 60000 false\nkilled\n"


async def test_a_kill_of_a_node_sequence_is_no_failure(talk: Talk):
    instance = await talk.start(WAITING, **NODE)
    ended = await kill(talk, instance)
    assert ended["status"] == "completed"
    assert ended["terminated"] == {"exitcode": 137, "reason": "Instance killed"}
    assert await talk.read(instance, "stdout") == b"killed\n"
    assert await talk.read(instance) == b""


async def test_the_health_of_a_node_sequence_is_its_own_word(talk: Talk):
    code = """
        module.exports = function () {
            this.addMonitoringHandler(() => ({ healthy: false }));
            return new Promise(() => { setInterval(() => {}, 1000); });
        };
    """
    instance = await talk.start(code, **NODE)
    async with asyncio.timeout(DEADLINE):
        while (await talk.get(f"/instance/{instance}/health"))["healthy"]:  # the first report is from before
            await asyncio.sleep(0.05)
    await kill(talk, instance)


# --- Node: failures ---------------------------------------------------------------------------------------------------


async def test_a_node_sequence_that_throws_has_failed_during_execution(talk: Talk):
    instance = await talk.start('module.exports = async function () { throw new Error("no"); };', **NODE)
    assert await talk.read_until_broken(instance) == b""
    ended = await talk.until_over(instance)
    assert ended["status"] == "errored"
    assert ended["terminated"] == {"exitcode": 23, "reason": "Sequence failed during execution"}


async def test_an_output_that_breaks_is_broken_off_after_all_that_came_before(talk: Talk):
    code = """
        const { Readable } = require("stream");
        module.exports = function (input) {
            let n = 0;
            return new Readable({ read() {
                if (n++ < 2) this.push(`line ${n}\\n`);
                else setTimeout(() => this.destroy(new TypeError("mid")), 50);
            } });
        };
    """
    instance = await talk.start(code, **NODE)
    assert await talk.read_until_broken(instance) == b"line 1\nline 2\n"
    ended = await talk.until_over(instance)
    assert ended["status"] == "errored"
    assert ended["terminated"]["reason"] == "Runner failed: TypeError: mid"


@pytest.mark.parametrize(
    "code", ["module.exports = (", 'throw new Error("no");', 'module.exports = require("nowhere");']
)
async def test_a_node_sequence_that_cannot_be_loaded_does_not_start(talk: Talk, code: str):
    with pytest.raises(HubRefused, match="Sequence failed on start") as caught:
        await talk.start(code, **NODE)
    assert caught.value.status == 400


async def test_the_exit_code_of_a_node_sequence_is_its_own(talk: Talk):
    code = "module.exports = async function (input) { for await (const chunk of input) process.exit(3); };"
    instance = await talk.start(code, **NODE)
    await talk.send(instance, b"x", end=False)
    ended = await talk.until_over(instance)
    assert (ended["status"], ended["terminated"]["exitcode"]) == ("errored", 3)


async def test_without_the_runner_a_start_says_what_to_install(tmp_path: Path):
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            with pytest.raises(HubRefused, match=r"run `hub-lite setup node --data-dir .*data`") as caught:
                await talk.start(WAITING, **NODE)
            assert caught.value.status == 400
            assert await talk.get("/instances") == []


# --- Python -----------------------------------------------------------------------------------------------------------


async def test_the_original_python_runner_maps_lines_and_nothing_of_its_output_is_lost(python_talk: Talk):
    code = """
        import os

        def run(context, input, *args):
            print(os.environ["GREETING"], args, context.config)
            return input.map(lambda line: line.upper())
    """
    instance = await python_talk.start(code, "a", 2, config={"k": [1]})
    lines = [f"línea {n}\n" for n in range(500)]
    await python_talk.send(instance, "".join(lines).encode())
    assert (await read_soon(python_talk, instance)).decode() == "".join(lines).upper()
    ended = await python_talk.until_over(instance)
    assert (ended["status"], ended["terminated"]) == (
        "completed",
        {"exitcode": 0, "reason": "Instance completed"},
    )
    assert await python_talk.read(instance, "stdout") == b"hello ('a', 2) {'k': [1]}\n"


async def test_it_imports_what_the_package_has_brought_along(python_talk: Talk):
    code = """
        import brought

        def run(context, input):
            print(brought.SAID)
    """
    instance = await python_talk.start(code, files={"__pypackages__/brought.py": "SAID = 'here'"})
    await python_talk.until_over(instance)
    assert await python_talk.read(instance, "stdout") == b"here\n"


PYTHON_WAITING = """
    import asyncio

    async def run(context, input):
        async def stop():
            print("stopping")
        context.set_stop_handler(stop)
        context.on("ping", lambda message: context.emit("pong", message))
        context.emit("ready", 1)
        await asyncio.sleep(3600)
"""


async def test_events_reach_the_original_python_runner_and_come_back(python_talk: Talk):
    instance = await python_talk.start(PYTHON_WAITING)
    assert await python_talk.get(f"/instance/{instance}/event/ready") == 1
    asking = asyncio.create_task(python_talk.get(f"/instance/{instance}/event/pong"))
    await emit(python_talk, instance, "ping", {"a": 0})
    async with asyncio.timeout(DEADLINE):
        assert await asking == {"a": 0}
    await kill(python_talk, instance)


async def test_a_stop_calls_the_handler_and_is_no_failure_though_the_runner_exits_with_1(python_talk: Talk):
    instance = await python_talk.start(PYTHON_WAITING)
    assert await python_talk.get(f"/instance/{instance}/event/ready") == 1
    await python_talk.ask(
        "POST", f"/instance/{instance}/_stop", json={"timeout": 200, "canCallKeepalive": False}
    )
    ended = await python_talk.until_over(instance)
    assert (ended["status"], ended["terminated"]["exitcode"]) == ("completed", 138)
    assert await python_talk.read(instance, "stdout") == b"stopping\n"


async def test_a_kill_is_no_failure_though_the_runner_exits_with_1(python_talk: Talk):
    instance = await python_talk.start(PYTHON_WAITING)
    ended = await kill(python_talk, instance)
    assert ended["status"] == "completed"
    assert ended["terminated"] == {"exitcode": 137, "reason": "Instance killed"}


async def test_an_exception_in_the_original_python_runner_is_a_failure_that_says_why(python_talk: Talk):
    instance = await python_talk.start("def run(context, input):\n    raise ValueError('by design')\n")
    assert await python_talk.read_until_broken(instance) == b""
    ended = await python_talk.until_over(instance)
    assert ended["status"] == "errored"
    assert ended["terminated"] == {"exitcode": 1, "reason": "Runner failed: ValueError: by design"}
    assert b"Traceback" in await python_talk.read(instance, "stderr")


async def test_no_early_log_is_left(python_hub: HubProcess, python_talk: Talk):
    instance = await python_talk.start("def run(context, input):\n    pass\n")
    await python_talk.until_over(instance)
    left = Path(python_hub._temporary.name)
    await eventually(lambda: not list(left.glob("*.log")), "the end of the early log")
