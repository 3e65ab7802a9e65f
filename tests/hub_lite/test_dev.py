"""The development loop: what a save does, who gets the input, and what is said; with a hub that is written here."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import watchfiles
from click.testing import CliRunner

from hub_lite import dev
from hub_lite.cli import main
from hub_lite.client import ClientError, HubRefused, HubUnreachable
from hub_lite.dev import Development, Feed, Notes, Saves, Watched
from hub_lite.run import Interrupts, RunOptions, own_settings
from sequence_sdk.pack import PackError
from sequence_sdk.pack.errors import FileChanged, ManifestNotFound

from .fakes import until

CODE = "async def run(context, input):\n    async for line in input:\n        yield line\n"


class FakeHub:
    """A hub's client: Instances live until the test ends them, and a reload is answered as the test says."""

    url = "http://hub/api/v1"

    def __init__(self) -> None:
        self.packages: list[tuple[str | None, int]] = []  # what each replaced, and its size
        self.started: list[str] = []
        self.reloads: list[str] = []
        self.stopped: list[str] = []
        self.deleted: list[str] = []
        self.taken: dict[str, bytes] = {}
        self.ended: dict[str, int] = {}  # Instance -> exit code
        self.refusals: list[ClientError] = []  # of the next reloads
        self.start_refusals: list[HubRefused] = []
        self.upload_refusals: list[HubRefused] = []
        self.gate = asyncio.Event()  # that reloads wait for
        self.gate.set()
        self._change = asyncio.Condition()

    async def upload(self, package: Path, *, replace: str | None = None, **_: Any) -> str:
        if self.upload_refusals:
            raise self.upload_refusals.pop(0)
        self.packages.append((replace, package.stat().st_size))
        return "sequence"

    async def start(self, sequence: str, **_: Any) -> str:
        if self.start_refusals:
            raise self.start_refusals.pop(0)
        instance = f"instance-{len(self.started)}"
        self.started.append(instance)
        self.taken[instance] = b""
        return instance

    async def reload(self, instance: str) -> None:
        self.reloads.append(instance)
        await self.gate.wait()
        if self.refusals:
            raise self.refusals.pop(0)

    async def end(self, instance: str, code: int = 0) -> None:
        async with self._change:
            self.ended[instance] = code
            self._change.notify_all()

    async def stop(self, instance: str, *_: Any) -> None:
        self.stopped.append(instance)
        await self.end(instance, 0)

    async def kill(self, instance: str) -> None:
        await self.end(instance, 137)

    async def delete_sequence(self, sequence: str, *, force: bool = False) -> None:
        self.deleted.append(sequence)

    async def instance(self, instance: str) -> dict[str, Any]:
        if instance not in self.ended:
            return {"status": "running"}
        code = self.ended[instance]
        return {
            "status": "errored" if code else "completed",
            "terminated": {"exitcode": code, "reason": "it failed"},
        }

    @asynccontextmanager
    async def read(self, instance: str, stream: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            if instance.startswith("broken"):
                yield b"its traceback\n"
                return
            async with self._change:
                await self._change.wait_for(lambda: instance in self.ended)

        yield chunks()

    async def send(self, instance: str, stream: str, chunks: Any, **_: Any) -> None:
        async for chunk in chunks:
            if stream == "input":
                self.taken[instance] += chunk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shout"
    folder.mkdir()
    (folder / "package.json").write_text('{"main": "main.py", "engines": {"python3": ">=3.11"}}')
    (folder / "main.py").write_text(CODE)
    return folder


class Loop:
    """A development loop that runs, and what is needed to drive it."""

    def __init__(self, folder: Path, tmp_path: Path, **options: Any) -> None:
        (tmp_path / "work").mkdir(exist_ok=True)
        (tmp_path / "input").touch()
        options.setdefault("input", tmp_path / "input")
        self.hub = FakeHub()
        self.interrupts = Interrupts()
        self.options = RunOptions(folder, [], {}, **options)
        self.development = Development(self.hub, self.options, tmp_path / "work", self.interrupts)  # type: ignore[arg-type]
        self.folder = folder

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Loop"]:
        task = asyncio.create_task(self.development.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def save(self, code: str, name: str = "main.py") -> None:
        """Save a file as editors do, and wait until the watch stands that is to see it."""
        replacement = self.folder / f"{name}~"
        replacement.write_text(code)
        replacement.rename(self.folder / name)


@pytest.fixture
async def loop(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> AsyncIterator[Loop]:
    made = Loop(folder, tmp_path)
    async with made.running():
        await until(lambda: made.hub.started)
        yield made


def said(capfd: pytest.CaptureFixture[str], told: list[str]) -> Callable[[str], bool]:
    """Return what tells whether a text has been said on stderr; ``told`` gets all of it."""

    def has(text: str) -> bool:
        told.append(capfd.readouterr().err)
        return text in "".join(told)

    return has


# --- saves ------------------------------------------------------------------------------------------------------------


async def test_a_save_replaces_the_package_and_reloads_the_instance(
    loop: Loop, capfd: pytest.CaptureFixture[str]
):
    has = said(capfd, told := [])
    assert has(
        f"hub-lite dev: shout runs as Instance instance-0 on a hub of its own\n  {loop.hub.url}/instance/"
    )
    await loop.save(CODE + "# new\n")
    await until(lambda: has("reloaded main.py in "))
    assert re.search(r"reloaded main\.py in \d+ ms\n", "".join(told))
    assert [replaced for replaced, _ in loop.hub.packages] == [None, "sequence"]
    assert loop.hub.reloads == ["instance-0"]
    assert loop.hub.started == ["instance-0"]


async def test_saves_during_a_reload_are_one_more_reload_behind_it(
    loop: Loop, capfd: pytest.CaptureFixture[str]
):
    has = said(capfd, [])
    loop.hub.gate.clear()
    await loop.save(CODE + "# 1\n")
    await until(lambda: loop.hub.reloads)
    for number in range(20):
        await loop.save(CODE + f"# {number}\n", "main.py" if number % 2 else "other.py")
    saves = loop.development._saves
    await until(lambda: {"main.py", "other.py"} <= saves._names)
    assert len(loop.hub.reloads) == 1
    loop.hub.gate.set()
    await until(lambda: has("reloaded main.py, other.py in "))
    assert len(loop.hub.reloads) == 2


async def test_a_save_that_changes_nothing_is_no_reload(loop: Loop, capfd: pytest.CaptureFixture[str]):
    has = said(capfd, [])
    took = loop.development._take
    taken: list[list[str]] = []

    async def watched(names: list[str], began: float) -> None:
        await took(names, began)
        taken.append(names)

    loop.development._take = watched  # type: ignore[method-assign]
    await loop.save(CODE)
    await until(lambda: taken)
    assert loop.hub.reloads == []
    await loop.save(CODE + "# new\n")
    await until(lambda: has("reloaded main.py in "))


async def test_a_syntax_error_is_shown_with_its_line_and_the_old_code_goes_on(
    loop: Loop, capfd: pytest.CaptureFixture[str]
):
    has = said(capfd, told := [])
    await loop.save("def run(context, input)\n    pass\n")
    await until(lambda: has("not reloaded; the old code goes on:\n"))
    await until(lambda: has(f"{loop.folder / 'main.py'}:1:24: expected ':'"))
    await loop.save('{"main": 5}', "package.json")
    await until(lambda: has("main.py:1:24") and "".join(told).count("not reloaded") >= 2)
    assert loop.hub.reloads == []
    await loop.save('{"main": "main.py"}', "package.json")
    await loop.save(CODE)
    await until(lambda: has("reloaded "))
    assert loop.hub.ended == {}


async def test_what_the_hub_says_of_new_code_is_shown(loop: Loop, capfd: pytest.CaptureFixture[str]):
    has = said(capfd, [])
    loop.hub.refusals.append(HubRefused(422, "NameError: name 'x' is not defined"))
    await loop.save(CODE + "x\n")
    await until(lambda: has("not reloaded; the old code goes on:\nNameError: name 'x' is not defined\n"))
    loop.hub.refusals.append(HubRefused(504, "it has not taken the new code within 30 s"))
    await loop.save(CODE + "# slow\n")
    await until(lambda: has("not reloaded; the old code goes on:\nit has not taken the new code"))
    loop.hub.upload_refusals.append(HubRefused(413, "the package is too large"))
    await loop.save(CODE + "# large\n")
    await until(lambda: has("not reloaded; the old code goes on:\nthe package is too large\n"))
    await loop.save(CODE)
    await until(lambda: has("reloaded main.py in "))


async def test_an_instance_that_cannot_swap_its_code_is_started_anew(
    loop: Loop, capfd: pytest.CaptureFixture[str]
):
    has = said(capfd, [])
    loop.hub.refusals.append(HubRefused(409, "its runner is for Node"))
    await loop.save(CODE + "# new\n")
    await until(lambda: loop.hub.started == ["instance-0", "instance-1"])
    assert loop.hub.stopped == ["instance-0"]
    assert has("stopped to start it again, for this Instance cannot swap its code: its runner is for Node")


async def test_a_hub_that_is_gone_ends_the_command(folder: Path, tmp_path: Path):
    loop = Loop(folder, tmp_path)
    task = asyncio.create_task(loop.development.run())
    await until(lambda: loop.hub.started)
    loop.hub.refusals.append(HubUnreachable("http://hub", "refused"))
    await loop.save(CODE + "# new\n")
    with pytest.raises(HubUnreachable, match="no hub answers"):
        await task


# --- Instances --------------------------------------------------------------------------------------------------------


async def test_an_instance_that_has_ended_is_started_again_by_a_save(
    loop: Loop, capfd: pytest.CaptureFixture[str]
):
    has = said(capfd, [])
    await loop.hub.end("instance-0", 23)
    await until(lambda: has("waiting for a save to start it again"))
    assert has("hub-lite: it failed (exit code 23)\n")
    await loop.save("nonsense (")
    await until(lambda: has("not reloaded:\n"))
    await loop.save(CODE)
    await until(lambda: len(loop.hub.started) == 2)
    await until(lambda: has("started again as Instance instance-1: http://hub/api/v1/instance/instance-1/…"))
    assert loop.hub.reloads == []


async def test_an_instance_that_ends_while_it_is_reloaded_is_started_again(loop: Loop):
    loop.hub.gate.clear()
    await loop.save(CODE + "# new\n")
    await until(lambda: loop.hub.reloads)
    loop.hub.refusals.append(HubRefused(404, "no such Instance"))
    await loop.hub.end("instance-0", 23)
    await until(lambda: not loop.development._instance)
    loop.hub.gate.set()
    await until(lambda: len(loop.hub.started) == 2)


async def test_an_instance_that_is_over_for_the_hub_is_started_again(loop: Loop):
    loop.hub.refusals.append(HubRefused(410, "it has ended"))
    loop.hub.ended["instance-0"] = 23  # and its streams still bring what there was
    await loop.save(CODE + "# new\n")
    await until(lambda: loop.hub.reloads)
    await loop.hub.end("instance-0", 23)
    await until(lambda: len(loop.hub.started) == 2)


async def test_code_that_cannot_be_loaded_at_first_is_told_and_a_save_tries_again(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    loop = Loop(folder, tmp_path)
    refusal = HubRefused(422, "the Sequence failed", {"instanceId": "broken-0"})
    loop.hub.start_refusals.append(refusal)
    loop.hub.ended["broken-0"] = 22
    has = said(capfd, [])
    async with loop.running():
        await until(lambda: has("waiting for a save"))
        assert has("its traceback\nhub-lite: the Sequence failed (exit code 22)\n")
        await loop.save(CODE + "# good\n")
        await until(lambda: loop.hub.started)
        await until(lambda: has("hub-lite dev: shout runs as Instance instance-0"))


async def test_a_folder_with_a_syntax_error_waits_for_a_save(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    (folder / "main.py").write_text("def (")
    loop = Loop(folder, tmp_path)
    has = said(capfd, [])
    async with loop.running():
        await until(lambda: has("not started; a save tries again:\n"))
        await until(lambda: has("waiting for a save"))
        await loop.save(CODE)
        await until(lambda: loop.hub.started)


async def test_a_folder_that_is_no_sequence_ends_the_command(tmp_path: Path):
    loop = Loop(tmp_path, tmp_path)
    with pytest.raises(ManifestNotFound):
        await loop.development.run()
    await loop.development.remove()
    assert loop.hub.deleted == [], "there is none to remove"


async def test_a_refused_start_ends_the_command(folder: Path, tmp_path: Path):
    loop = Loop(folder, tmp_path)
    loop.hub.start_refusals.append(HubRefused(507, "no memory"))
    with pytest.raises(HubRefused, match="no memory"):
        await loop.development.run()


async def test_an_interrupt_stops_the_instance_and_ends_the_command(folder: Path, tmp_path: Path):
    loop = Loop(folder, tmp_path)
    task = asyncio.create_task(loop.development.run())
    with loop.interrupts.caught(task):
        await until(lambda: loop.interrupts.instance)
        os.kill(os.getpid(), 2)
        assert await task == 0
    assert loop.hub.stopped == ["instance-0"]


async def test_an_interrupt_while_it_waits_for_a_save_ends_the_command_at_once(folder: Path, tmp_path: Path):
    loop = Loop(folder, tmp_path)
    task = asyncio.create_task(loop.development.run())
    with loop.interrupts.caught(task):
        await until(lambda: loop.hub.started)
        await loop.hub.end("instance-0")
        await until(lambda: loop.interrupts.instance is None)
        os.kill(os.getpid(), 15)
        with pytest.raises(asyncio.CancelledError):
            await task


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
async def test_the_sequence_is_removed_unless_it_is_to_be_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
):
    hub = FakeHub()

    @asynccontextmanager
    async def fake(options: RunOptions) -> AsyncIterator[FakeHub]:
        yield hub

    monkeypatch.setattr(dev, "hub_for", fake)
    (tmp_path / "input").touch()
    task = asyncio.create_task(dev.dev(RunOptions(folder, [], {}, input=tmp_path / "input", keep=keep)))
    await until(lambda: hub.started)
    os.kill(os.getpid(), 2)
    assert await task == 130
    assert hub.deleted == ([] if keep else ["sequence"])


@pytest.mark.parametrize(
    ("words", "port"),
    [
        (["--debug", "{}"], 5678),
        (["{}", "--debug"], 5678),
        (["{}", "--debug", "6000"], 6000),
        (["--debug=6000", "{}"], 6000),
        (["--debug", "-v", "{}"], 5678),
        (["--debug", "--", "{}"], 5678),
        (["{}"], None),
    ],
)
def test_the_port_of_a_debugger_may_be_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], port: int | None
):
    told: list[RunOptions] = []

    async def fake(options: RunOptions) -> int:
        told.append(options)
        return 0

    monkeypatch.setattr(dev, "dev", fake)
    monkeypatch.delenv("HUB_LITE_URL", raising=False)
    result = CliRunner().invoke(main, ["dev", *(word.format(folder) for word in words)])
    assert result.exit_code == 0, result.output
    assert (told[0].target, told[0].debug) == (folder, port)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--debug", "--hub", "http://127.0.0.1:1"], "--debug is for a hub of its own"),
        (["--debug", "70000"], "70000 is not in the range"),
        (["--args", "{"], "is not JSON"),
        (["-i", "no-such-file"], "there is no such file"),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, words: list[str], why: str):
    refused = CliRunner().invoke(main, ["dev", str(folder), *words])
    assert refused.exit_code == 2
    assert why in refused.output


def test_a_package_is_nothing_to_develop_in(tmp_path: Path):
    (tmp_path / "x.tar.gz").touch()
    refused = CliRunner().invoke(main, ["dev", str(tmp_path / "x.tar.gz")])
    assert refused.exit_code == 2
    assert "is a file" in refused.output


def test_a_hub_of_its_own_tells_the_runner_to_wait_for_a_debugger(folder: Path, tmp_path: Path):
    settings = own_settings(RunOptions(folder, [], {}, debug=6000), tmp_path)
    assert settings.runner_envs == {
        "HUB_LITE_DEBUG_PORT": "6000",
        "HUB_LITE_DEBUG_SOURCE": str(folder),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    assert settings.answer_start_after == 0, "what the runner says of the port is shown while it waits"
    package = own_settings(RunOptions(tmp_path / "x.tar.gz", [], {}, debug=6000), tmp_path)
    assert package.runner_envs["HUB_LITE_DEBUG_SOURCE"] == ""
    assert own_settings(RunOptions(folder, [], {}), tmp_path).runner_envs == {}


# --- the input --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def stdin(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """The writing end of what is standard input."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as file:
        monkeypatch.setattr("sys.stdin", file)
        yield writer
        with contextlib.suppress(OSError):
            os.close(writer)


def feed(**options: Any) -> Feed:
    return Feed(RunOptions(Path(), [], {}, **options))


async def test_an_instance_takes_the_rest_of_standard_input_from_a_whole_line_on(stdin: int):
    source = feed()
    first = source.chunks()
    os.write(stdin, b"one\ntw")
    assert await anext(first) == b"one\ntw"
    reading = asyncio.create_task(anext(first))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await first.aclose()
    assert source.rest() == " with the rest of the input"
    second = source.chunks()
    os.write(stdin, b"o\n")
    reading = asyncio.create_task(anext(second))
    await until(lambda: source._reading is not None)
    os.write(stdin, b"three\n")
    assert b"".join([await reading]) == b"three\n", (
        "the read that was under way is not lost; the rest of two is left out"
    )
    os.close(stdin)
    assert [chunk async for chunk in second] == []
    assert source.rest() == "; the input has ended"
    assert [chunk async for chunk in source.chunks()] == []


async def test_octets_have_no_lines(stdin: int):
    source = feed(content_type="application/octet-stream")
    os.write(stdin, b"one\ntw")
    first = source.chunks()
    assert await anext(first) == b"one\ntw"
    await first.aclose()
    os.write(stdin, b"o\nthree")
    assert await anext(source.chunks()) == b"o\nthree"


async def test_each_instance_reads_a_file_from_its_beginning(tmp_path: Path):
    (tmp_path / "in.ndjson").write_bytes(b"1\n2\n")
    source = feed(input=tmp_path / "in.ndjson")
    for _ in range(2):
        assert [chunk async for chunk in source.chunks()] == [b"1\n2\n"]
    assert source.rest() == f" with {tmp_path / 'in.ndjson'} from its beginning"


# --- what is watched --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_watched"),
    [
        ("main.py", True),
        ("package.json", True),
        (".siignore", True),
        ("deep/er/x.txt", True),
        ("notes/a.md", True),
        ("notes.log", False),
        ("secret/key", False),
        ("__pycache__/main.cpython-311.pyc", False),
        ("deep/__pycache__/x.pyc", False),
        (".git/index", False),
        (".venv/bin/python", False),
        ("venv/bin/python", False),
        ("myenv/lib/x.py", False),
        ("__pypackages__/numpy/__init__.py", False),
        ("node_modules/x/index.js", False),
        (".idea/workspace.xml", False),
        ("main.py~", False),
        (".main.py.swp", False),
        (".#main.py", False),
        ("#main.py#", False),
        ("4913", False),
        ("main.py___jb_tmp___", False),
    ],
)
def test_what_does_not_go_into_the_package_is_not_watched(tmp_path: Path, name: str, is_watched: bool):
    (tmp_path / ".siignore").write_text("*.log\nsecret/\n")
    (tmp_path / "myenv").mkdir()
    (tmp_path / "myenv" / "pyvenv.cfg").touch()
    (tmp_path / "notes.log").touch()
    assert Watched(tmp_path)(watchfiles.Change.modified, str(tmp_path / name)) is is_watched


def test_a_wrong_ignore_file_hides_nothing(tmp_path: Path):
    (tmp_path / ".siignore").write_text("!main.py\n")
    assert Watched(tmp_path)(watchfiles.Change.modified, str(tmp_path / "main.py"))


async def test_many_saves_are_one_with_all_names():
    saves = Saves()
    saves.add(iter(["b", "a"]))
    saves.add(iter(["a"]))
    assert await saves.next() == ["a", "b"]
    later = asyncio.create_task(saves.next())
    await asyncio.sleep(0)
    assert not later.done()
    saves.add(iter(["c"]))
    assert await later == ["c"]


async def test_a_folder_that_cannot_be_watched_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object, **__: object) -> Any:
        raise RuntimeError("too many watches")

    monkeypatch.setattr(watchfiles.main, "RustNotify", refuse)
    with pytest.raises(OSError, match="cannot be watched: too many watches"):
        await Loop(folder, tmp_path).development.run()


@pytest.mark.parametrize("failures", [2, 100])
async def test_a_file_that_an_editor_replaces_meanwhile_is_packed_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
):
    left = [failures]

    def pack(*_: object, **_options: object) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise FileChanged(folder / "main.py")
        return "packed"

    monkeypatch.setattr(dev, "pack", pack)
    development = Loop(folder, tmp_path).development
    if failures == 2:
        assert await development._pack() == "packed"
    else:
        with pytest.raises(PackError, match="changed while it was read"):
            await development._pack()


# --- what is said -----------------------------------------------------------------------------------------------------


class Terminal:
    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_notes_are_coloured_on_a_terminal_unless_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    notes = Notes()
    notes.head("first", "rest")
    notes.good("good")
    notes.warn("warn")
    notes.plain("plain")
    notes.bad("bad", "why\n")
    assert terminal.text == (
        "\x1b[1mfirst\x1b[0m\n\x1b[2m  rest\x1b[0m\n\x1b[32mgood\x1b[0m\n\x1b[33mwarn\x1b[0m\n\x1b[2mplain\x1b[0m\n"
        "\x1b[31mbad:\x1b[0m\nwhy\n"
    )
    terminal.text = ""
    monkeypatch.setenv("NO_COLOR", "1")
    Notes().good("plain")
    assert terminal.text == "plain\n"


@pytest.mark.parametrize(
    ("names", "text"), [(["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "4 files")]
)
def test_a_few_files_are_named_and_many_are_counted(names: list[str], text: str):
    assert dev._listed(names) == text
