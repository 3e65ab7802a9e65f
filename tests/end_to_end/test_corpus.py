"""Small packages of every form that a Python Sequence may have run on the hub, and on the runner they were first written for.

Each folder of tests/data/sequences is a package named by what it shows; those in JavaScript begin with ``js-``, and
test_corpus_node.py runs them. Its ``expected.json`` says how it is run and what comes of it; all of its members may be absent,
but not ``original`` of a Python package:

* ``args``, ``config``: what the start gives it.
* ``in``, ``content_type``: its input, ``text/plain`` unless said. ``stdin``: its standard input.
* ``topic``: names of topics, ``requires`` for where the input goes and ``provides`` for where the output is read, and the
  ``content_type`` of the latter.
* ``steps``: what is done with the Instance, in this order: ``["hears", event, message]``, ``["emits", event, message]``,
  ``["health", {…}]`` (some members of the report) and ``["stop", {…}]`` (the body of the request).
* ``out``, ``stdout``: the whole of it. ``stderr``: a part of it. ``log``: level and text of records, in this order.
* ``exit``: the exit code, if it is not 0; of a Node Sequence, if it ends by itself and need not be killed. ``exit_original``:
  the one of the original Python runner, which has 1 for nearly all.
* ``refused``: a part of what the hub answers instead of starting it; the original runner starts all, and says it on stderr.
* ``original``: whether the original runner runs it with the same outcome; ``why_not_original`` says why not.

A stream is text; or ``{"base64": …}``; or ``{"json": [value of a line, …]}``; or ``{"times": n, "of": text, "then": text}``;
or ``{"lines_to": n}``, the numbers below n.
"""

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub_lite.client import HubRefused, StreamBroken
from runner.protocol.exit_codes import ExitCode
from sequence_sdk.pack import pack

from .harness import DEADLINE, HubProcess, Talk, running_hub, talking_to
from .npm import installed
from .test_original_runners import OLD_PYTHONS, VERSION, old_python

CORPUS = Path(__file__).parents[1] / "data" / "sequences"
TEXT = "text/plain"
NAMED = {"requires", "provides"}


@dataclass(frozen=True)
class Expected:
    """What an ``expected.json`` says; a member that nobody knows is an error."""

    original: bool | None = None
    why_not_original: str = ""
    args: list[Any] = field(default_factory=list)
    config: dict[str, Any] | None = None
    input: Any = ""
    is_read: bool = True  # the input; if not, the Sequence may be over before it comes
    content_type: str = TEXT
    stdin: str = ""
    topic: dict[str, str] = field(default_factory=dict)
    steps: list[list[Any]] = field(default_factory=list)
    out: Any = ""
    stdout: Any = None
    stderr: str = ""
    log: list[list[str]] = field(default_factory=list)
    exit: int | None = None
    exit_original: int | None = None
    refused: str = ""

    @classmethod
    def read(cls, folder: Path) -> "Expected":
        members = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
        return cls(input=members.pop("in", ""), **members)


ALL_FOLDERS = sorted(path.parent for path in CORPUS.glob("*/package.json"))
FOLDERS = [folder for folder in ALL_FOLDERS if not folder.name.startswith("js-")]
EXPECTED = {folder.name: Expected.read(folder) for folder in ALL_FOLDERS}


@pytest.fixture(scope="module")
def original_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub that runs Python Sequences with the original runner."""
    python = old_python()
    if python is None:
        pytest.skip(
            f"the original Python runner needs CPython {' or '.join(OLD_PYTHONS)}, and none is installed here"
        )
    package = installed("@scramjet/python-runner", VERSION) / "@scramjet" / "python-runner"
    folder = tmp_path_factory.mktemp("original")
    runners = {"python": str(package), "pythonInterpreter": python, "pythonFor": "original"}
    (folder / "settings.json").write_text(json.dumps({"runners": runners}))
    with running_hub(folder, "--config", str(folder / "settings.json")) as running:
        yield running


def stream(said: Any) -> bytes:
    """Return the bytes that a stream of an ``expected.json`` means; of JSON, one way to write it."""
    match said:
        case str():
            return said.encode()
        case {"base64": text}:
            return base64.b64decode(text)
        case {"json": values}:
            return b"".join(json.dumps(value).encode() + b"\n" for value in values)
        case {"times": count, "of": text, **more}:
            return (text * count + more.get("then", "")).encode()
        case {"lines_to": count}:
            return "".join(f"{number}\n" for number in range(count)).encode()
    raise AssertionError(f"{said!r} is no stream")


def assert_stream(got: bytes, said: Any) -> None:
    if isinstance(said, dict) and "json" in said:
        assert [json.loads(line) for line in got.splitlines()] == said["json"]
    else:
        assert got == stream(said)


async def output(talk: Talk, instance: str) -> bytes:
    """Return all that came out, whether or not the Instance failed then."""
    got = b""
    async with asyncio.timeout(DEADLINE), talk.client.read(instance, "output") as chunks:
        with contextlib.suppress(StreamBroken):
            async for chunk in chunks:
                got += chunk
    return got


async def do(talk: Talk, instance: str, step: list[Any]) -> None:
    """Do one thing with a running Instance."""
    path = f"/instance/{instance}"
    match step:
        case ["hears", name, message]:
            async with asyncio.timeout(DEADLINE):
                assert await talk.get(f"{path}/event/{name}") == message
        case ["emits", name, message]:
            event = {"eventName": name, "message": message}
            assert (await talk.ask("POST", f"{path}/_event", json=event)).status == 200
        case ["health", {**members}]:
            async with asyncio.timeout(DEADLINE):  # the first report may be from before
                while not members.items() <= (await talk.get(f"{path}/health")).items():
                    await asyncio.sleep(0.02)
        case ["stop", {**body}]:
            assert (await talk.ask("POST", f"{path}/_stop", json=body)).status == 202
        case _:
            raise AssertionError(f"{step!r} is no step")


async def follow(talk: Talk, instance: str, expected: Expected) -> None:
    """Give an Instance what it is to have, and check its output."""
    if expected.stdin:
        await talk.send(instance, expected.stdin.encode(), "application/octet-stream", stream="stdin")
    for step in expected.steps:
        await do(talk, instance, step)
    given = stream(expected.input)
    if required := expected.topic.get("requires"):
        headers = {"Content-Type": expected.content_type, "x-end-stream": "false"}
        answer = await talk.ask("POST", f"/topic/{required}", data=given, headers=headers)
        assert answer.status == 202
    elif given and expected.is_read:
        await talk.send(instance, given, expected.content_type)
    elif given:
        headers = {"Content-Type": expected.content_type}
        with contextlib.suppress(aiohttp.ClientPayloadError):  # it ended while it was written to
            answer = await talk.ask("POST", f"/instance/{instance}/input", data=given, headers=headers)
            assert answer.status in (200, 410)
    wanted = stream(expected.out)
    if provided := expected.topic.get("provides"):
        headers = {"Content-Type": expected.topic.get("content_type", TEXT)}
        async with (
            asyncio.timeout(DEADLINE),
            talk.http.get(f"{talk.url}/topic/{provided}", headers=headers) as topic,
        ):
            lines = [await topic.content.readline() for _ in wanted.splitlines()]
        assert_stream(b"".join(lines), expected.out)
    elif required:  # the topic goes on, and the output with it
        async with (
            asyncio.timeout(DEADLINE),
            talk.http.get(f"{talk.url}/instance/{instance}/output") as answer,
        ):
            assert await answer.content.readexactly(len(wanted)) == wanted
    else:
        assert_stream(await output(talk, instance), expected.out)


async def start(talk: Talk, folder: Path, expected: Expected) -> str:
    """Pack a folder, and return the id of an Instance of it."""
    packed = io.BytesIO()
    await asyncio.to_thread(pack, folder, packed, describe=False)
    sequence = await talk.upload_bytes(packed.getvalue())
    return await talk.client.start(sequence, args=expected.args, config=expected.config)


async def run_package(hub: HubProcess, folder: Path, exit_code: int | None) -> None:
    """Run a folder on a hub, and check all that is expected of it; without an exit code it is killed after its output."""
    expected = EXPECTED[folder.name]
    async with talking_to(hub.url) as talk:
        instance = await start(talk, folder, expected)
        await follow(talk, instance, expected)
        if exit_code is None or "requires" in expected.topic:
            await talk.ask("POST", f"/instance/{instance}/_kill", json={})
            exit_code = ExitCode.KILLED
        shown = await talk.until_over(instance)
        stderr = (await talk.read(instance, "stderr")).decode()
        assert expected.stderr in stderr
        assert expected.refused in stderr
        assert shown["terminated"]["exitcode"] == exit_code, stderr
        assert {name: shown[name] for name in NAMED & expected.topic.keys()} == {
            name: expected.topic[name] for name in NAMED & expected.topic.keys()
        }
        if expected.stdout is not None:
            assert_stream(await talk.read(instance, "stdout"), expected.stdout)
        if expected.log:
            lines = (await talk.read(instance, "log")).splitlines()
            records = iter([[record["level"], record["msg"]] for record in map(json.loads, lines)])
            for wanted in expected.log:
                assert wanted in records, f"{wanted} is not in the log, or not in this order"


def test_the_corpus_is_whole_and_says_what_is_not_for_the_original_runner():
    assert len(FOLDERS) >= 40
    assert {folder.name for folder in CORPUS.iterdir()} == EXPECTED.keys()
    for folder in FOLDERS:
        expected = EXPECTED[folder.name]
        assert expected.original is not None, folder.name
        assert expected.original != bool(expected.why_not_original), folder.name


async def is_refused(hub: HubProcess, folder: Path) -> None:
    """Check that a hub does not start a folder, and says why."""
    expected = EXPECTED[folder.name]
    async with talking_to(hub.url) as talk:
        with pytest.raises(HubRefused, match="Sequence failed on start: ") as caught:
            await start(talk, folder, expected)
        assert caught.value.status == 400
        assert expected.refused in str(caught.value)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
async def test_it_runs_on_the_hub(hub: HubProcess, folder: Path):
    expected = EXPECTED[folder.name]
    if expected.refused:
        await is_refused(hub, folder)
    else:
        await run_package(hub, folder, expected.exit or 0)


@pytest.mark.parametrize(
    "folder", [folder for folder in FOLDERS if EXPECTED[folder.name].original], ids=lambda folder: folder.name
)
async def test_it_runs_on_the_original_runner(original_hub: HubProcess, folder: Path):
    expected = EXPECTED[folder.name]
    failed = 1 if expected.exit or expected.refused else 0
    await run_package(
        original_hub, folder, failed if expected.exit_original is None else expected.exit_original
    )
