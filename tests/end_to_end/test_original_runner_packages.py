"""What scramjet-pack makes of Sequences marked ``@sequence`` runs on the original Python runner, unmodified, and on ours as before.

The original runner works with CPython up to 3.11.4, the SDK from 3.11 on: the tests are skipped where there is none between.
"""

import asyncio
import io
import json
import os
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sequence_sdk.pack import pack
from sequence_sdk.pack.original import ENTRY_NAME, original_entries
from sequence_sdk.pack.source import read_source

from .harness import DEADLINE, HubProcess, Talk, running_hub, talking_to
from .npm import installed
from .test_corpus import output
from .test_original_runners import VERSION, old_python

TEMPLATES = Path(__file__).parents[2] / "templates"
NDJSON, OCTETS = "application/x-ndjson", "application/octet-stream"
LAST = (3, 11, 4)  # newer ones close links that the original runner still needs


def shared_python() -> str | None:
    """Return a Python that the original runner works with, and the SDK as well."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    places = [shutil.which("python3.11"), "/usr/bin/python3.11", "/usr/local/bin/python3.11"]
    for program in filter(None, [*places, *map(str, pyenv.glob("versions/3.11.*/bin/python3"))]):
        code = "import sys; print(*sys.version_info[:3])"
        try:
            found = subprocess.run([program, "-c", code], capture_output=True, check=False, text=True)
        except OSError:
            continue
        numbers = tuple(map(int, found.stdout.split()))
        if (3, 11, 0) <= numbers <= LAST:
            return program
    return None


def original_hub(folder: Path, python: str | None) -> Any:
    if python is None:
        pytest.skip("no CPython from 3.11.0 to 3.11.4 is installed here")
    package = installed("@scramjet/python-runner", VERSION) / "@scramjet" / "python-runner"
    runners = {"python": str(package), "pythonInterpreter": python, "pythonFor": "original"}
    (folder / "settings.json").write_text(json.dumps({"runners": runners}))
    return running_hub(folder, "--config", str(folder / "settings.json"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub that runs Python Sequences with the original runner."""
    with original_hub(tmp_path_factory.mktemp("original"), shared_python()) as running:
        yield running


@pytest.fixture
async def talk(original: HubProcess):
    async with talking_to(original.url) as talking:
        yield talking


@pytest.fixture
async def our_talk(hub: HubProcess):
    async with talking_to(hub.url) as talking:
        yield talking


def packed(folder: Path) -> bytes:
    """Return the package of a folder; what it imports is in it, or where the runner is."""
    package = io.BytesIO()
    pack(folder, package, dependencies=False, describe=False)
    return package.getvalue()


def folder_of(tmp_path: Path, code: str, main: str = "main.py") -> Path:
    folder = tmp_path / "package"
    (folder / main).parent.mkdir(parents=True)
    (folder / main).write_text("from sequence_sdk import Stream, sequence\n" + textwrap.dedent(code))
    (folder / "package.json").write_text(json.dumps({"main": main, "engines": {"python3": ">=3.11"}}))
    return folder


async def start(talk: Talk, folder: Path, *args: Any, config: dict[str, Any] | None = None) -> str:
    sequence = await talk.upload_bytes(await asyncio.to_thread(packed, folder))
    return await talk.client.start(sequence, args=list(args), config=config)


async def outcome(
    talk: Talk,
    folder: Path,
    given: bytes | None,
    content_type: str = "text/plain",
    *args: Any,
    **options: Any,
) -> bytes:
    """Run a package to its end, which is no failure, and return what comes out."""
    instance = await start(talk, folder, *args, **options)
    if given is not None:
        await talk.send(instance, given, content_type)
    out = await output(talk, instance)
    ended = await talk.until_over(instance)
    assert ended["terminated"]["exitcode"] == 0, (await talk.read(instance, "stderr")).decode()
    return out


UPPER = """
    @sequence
    async def shout(input: Stream[str]):
        async for line in input:
            yield line.upper()
"""
LINES = "".join(f"žluť {number}\n" for number in range(3000))
FORMS: dict[str, tuple[str, bytes | None, str, bytes]] = {
    "async generator": (UPPER, LINES.encode(), "text/plain", LINES.upper().encode()),
    "line longer than 64 KiB without topic": (
        UPPER,
        b"a" * 300_000 + b"\nb",
        "text/plain",
        b"A" * 300_000 + b"\nB",
    ),
    "plain generator, which prints": (
        """
        @sequence
        def count(input, upto: int = 3):
            for number in range(upto):
                print("now", number)
                yield f"{number}\\n"
        """,
        None,
        "",
        b"0\n1\n2\n",
    ),
    "coroutine that returns text": (
        "@sequence\nasync def task(input):\n    return 'done'\n",
        None,
        "",
        b"done",
    ),
    "coroutine that returns a list": (
        "@sequence(gives='application/x-ndjson')\nasync def task(input):\n    return [1, 'ä', None]\n",
        None,
        "",
        '1\n"ä"\nnull\n'.encode(),
    ),
    "ndjson in and out": (
        """
        @sequence(gives="application/x-ndjson")
        async def double(items: Stream[dict]):
            async for item in items:
                yield {"n": item["n"] * 2}
        """,
        b'{"n":1}\n{"n":21}',
        NDJSON,
        b'{"n":2}\n{"n":42}\n',
    ),
    "ndjson, sent as text": (
        """
        @sequence(takes="application/x-ndjson", gives="text/plain")
        async def names(items):
            async for item in items:
                yield item["name"]
        """,
        b'{"name":"a"}\n{"name":"b"}\n',
        "text/plain",
        b"ab",
    ),
    "what comes decides": (
        """
        @sequence(gives="application/x-ndjson")
        async def types(items):
            async for item in items:
                yield type(item).__name__
        """,
        b'{"name":"a"}\n[1]\n2',
        NDJSON,
        b'"dict"\n"list"\n"int"\n',
    ),
    "bytes": (
        """
        @sequence
        async def turn(chunks: Stream[bytes]):
            async for chunk in chunks:
                yield bytes(255 - byte for byte in chunk)
        """,
        bytes(range(256)) * 300,
        OCTETS,
        bytes(range(255, -1, -1)) * 300,
    ),
    "chain": (
        """
        @sequence
        async def numbers(lines: Stream[str]):
            async for line in lines:
                yield int(line)

        @sequence(gives="text/plain")
        async def doubled(items: Stream[int]):
            async for item in items:
                yield f"{item * 2}\\n"

        both = numbers | doubled
        """,
        b"1\n21\n",
        "text/plain",
        b"2\n42\n",
    ),
    "class": (
        """
        @sequence
        class Sum:
            def __init__(self, start: int = 1):
                self.total = start

            async def each(self, line: str) -> str:
                self.total += int(line)
                return f"{self.total}\\n"
        """,
        b"1\n2\n",
        "text/plain",
        b"2\n4\n",
    ),
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_marked_sequence_runs_on_the_original_runner(talk: Talk, tmp_path: Path, form: str):
    code, given, content_type, wanted = FORMS[form]
    assert await outcome(talk, folder_of(tmp_path, code), given, content_type) == wanted


async def test_the_package_runs_on_our_runner_as_if_the_entry_were_not_there(our_talk: Talk, tmp_path: Path):
    code = """
        import sys

        @sequence
        async def where(input):
            yield f"{__file__.endswith('/deep/main.py')} {[p for p in sys.path if '.sequence' in p]}"
            raise ValueError("by design")
    """
    instance = await start(our_talk, folder_of(tmp_path, code, "deep/main.py"))
    assert await our_talk.read_until_broken(instance) == b"True []"
    ended = await our_talk.until_over(instance)
    assert ended["terminated"]["exitcode"] == 23
    stderr = (await our_talk.read(instance, "stderr")).decode()
    assert '/deep/main.py", line 8, in where' in stderr
    assert "original" not in stderr


async def test_files_beside_main_and_in_the_package_are_where_they_are(talk: Talk, tmp_path: Path):
    code = """
        import brought, near
        from pathlib import Path

        SEEN = Path("said.txt").read_text()

        @sequence
        async def read(input):
            yield SEEN + Path("said.txt").read_text() + brought.SAID + near.SAID
    """
    folder = folder_of(tmp_path, code, "deep/main.py")
    (folder / "deep" / "said.txt").write_text("here ")
    (folder / "deep" / "near.py").write_text("SAID = 'near'")
    (folder / "__pypackages__").mkdir()
    (folder / "__pypackages__" / "brought.py").write_text("SAID = 'brought '")
    (folder / "__pypackages__" / "sequence_sdk.py").write_text("raise SystemExit('this one is not used')")
    assert await outcome(talk, folder, None) == b"here here brought near"


async def test_arguments_options_and_configuration_arrive(talk: Talk, tmp_path: Path):
    code = """
        @sequence
        async def show(context, input, first: int, *rest: str, factor: float = 1.0):
            yield f"{first} {rest} {factor} {context.config} {len(context.instance_id)}"
    """
    folder = folder_of(tmp_path, code)
    out = await outcome(talk, folder, None, "", 4, "a", "b", config={"factor": 2.5})
    assert out.decode() == "4 ('a', 'b') 2.5 {'factor': 2.5} 36"
    instance = await start(talk, folder, "x")
    ended = await talk.until_over(instance)
    assert ended["terminated"]["exitcode"] == 1
    assert "start argument 1 'first'" in ended["terminated"]["reason"]


@pytest.mark.parametrize(
    ("content_type", "given", "wanted"),
    [("text/plain", b"you\n", b"hello you\n"), (NDJSON, b'["you"]\n', b'["you","hello"]\n')],
)
async def test_it_reads_one_topic_and_writes_another(
    talk: Talk, tmp_path: Path, content_type: str, given: bytes, wanted: bytes
):
    names, greetings = f"names-{content_type[-5:]}", f"greetings-{content_type[-5:]}"
    code = f"""
        @sequence(requires="{names}", provides="{greetings}", takes="{content_type}", gives="{content_type}")
        async def greet(input):
            async for name in input:
                yield "hello " + name if isinstance(name, str) else [*name, "hello"]
    """
    instance = await start(talk, folder_of(tmp_path, code))
    headers = {"Content-Type": content_type}
    await talk.ask("POST", f"/topic/{names}", data=given, headers={**headers, "x-end-stream": "false"})
    async with (
        asyncio.timeout(DEADLINE),
        talk.http.get(f"{talk.url}/topic/{greetings}", headers=headers) as topic,
    ):
        assert await topic.content.readline() == wanted
    shown = await talk.get(f"/instance/{instance}")
    assert (shown["requires"], shown["provides"]) == (names, greetings)
    await talk.ask("POST", f"/instance/{instance}/_kill", json={})
    await talk.until_over(instance)


LIVELY = """
    import asyncio

    @sequence
    async def live(context, input):
        async def stopping(timeout, can_keep_alive):
            print("stopping", timeout)
        async def check():
            return {"healthy": False, "why": "by design"}
        context.add_stop_handler(stopping)
        context.set_health_check(check)
        context.on("ping", lambda message: context.emit("pong", message))
        context.logger.info("it lives")
        context.metrics.counter("seen").add(1)
        context.emit("ready", 1)
        try:
            await asyncio.sleep(3600)
        finally:
            print("closed")
        yield "never"
"""


async def test_events_health_log_and_a_stop_go_through(talk: Talk, tmp_path: Path):
    instance = await start(talk, folder_of(tmp_path, LIVELY))
    assert await talk.get(f"/instance/{instance}/event/ready") == 1
    asking = asyncio.create_task(talk.get(f"/instance/{instance}/event/pong"))
    event = {"eventName": "ping", "message": {"a": ["ü"]}}
    await talk.ask("POST", f"/instance/{instance}/_event", json=event)
    async with asyncio.timeout(DEADLINE):
        assert await asking == {"a": ["ü"]}
        while (await talk.get(f"/instance/{instance}/health"))["healthy"]:
            await asyncio.sleep(0.02)
    await talk.ask("POST", f"/instance/{instance}/_stop", json={"timeout": 5000, "canCallKeepalive": False})
    ended = await talk.until_over(instance)
    assert ended["status"] == "completed"
    assert await talk.read(instance, "stdout") == b"stopping 7.0\nclosed\n"
    assert "it lives" in (await talk.read(instance, "log")).decode()


@pytest.mark.parametrize("use", ["await context.state.get('n')", "await context.hub.version()"])
async def test_what_the_original_runner_has_not_fails_clearly(talk: Talk, tmp_path: Path, use: str):
    code = f"""
        @sequence
        async def want(context, input):
            yield "first "
            yield {use}
    """
    instance = await start(talk, folder_of(tmp_path, code))
    assert await talk.read_until_broken(instance) == b"first "
    ended = await talk.until_over(instance)
    assert ended["terminated"]["exitcode"] == 1
    assert "the original Python runner gives a Sequence no way to its hub" in ended["terminated"]["reason"]


async def test_an_exception_shows_the_authors_file(talk: Talk, tmp_path: Path):
    code = """
        @sequence
        async def fail(input):
            yield "first "
            raise ValueError("by design")
    """
    instance = await start(talk, folder_of(tmp_path, code))
    assert await talk.read_until_broken(instance) == b"first "
    ended = await talk.until_over(instance)
    assert ended["terminated"] == {"exitcode": 1, "reason": "Runner failed: ValueError: by design"}
    assert '/main.py", line 6, in fail' in (await talk.read(instance, "stderr")).decode()


async def test_large_output_to_a_slow_reader_is_whole(talk: Talk, tmp_path: Path):
    code = """
        @sequence
        async def much(input, chunks: int):
            for number in range(chunks):
                yield bytes([number % 256]) * 65536
    """
    out = await outcome(talk, folder_of(tmp_path, code), None, "", 200)
    assert out == b"".join(bytes([number % 256]) * 65536 for number in range(200))


TEMPLATE_RUNS: dict[str, tuple[bytes | None, str, list[Any], bytes]] = {
    "transform": (b"one\n\ntwo", "text/plain", [7], b"7 one\n8 two\n"),
    "source": (None, "", [0, 1], b'{"number":1,"celsius":20.5}\n'),
    "chain": (
        b"tea,2.5,4\nnothing\ncup,8,1",
        "text/plain",
        [9],
        b'{"sku":"tea","total":10.0}\n',
    ),
}


@pytest.mark.parametrize("name", TEMPLATE_RUNS)
async def test_a_template_runs_on_the_original_runner(talk: Talk, name: str):
    given, content_type, args, wanted = TEMPLATE_RUNS[name]
    assert await outcome(talk, TEMPLATES / name, given, content_type, *args) == wanted


async def test_the_sink_runs_there_too_and_says_what_it_had_to_leave_out(talk: Talk, tmp_path: Path):
    instance = await start(talk, TEMPLATES / "sink", str(tmp_path / "orders.sqlite3"))
    await talk.send(instance, b'{"sku":"tea","price":2.5}\n{"sku":"cup"}\n', NDJSON)
    ended = await talk.until_over(instance)
    assert ended["terminated"]["exitcode"] == 0
    assert (tmp_path / "orders.sqlite3").stat().st_size
    assert "item 2 is lost" in (await talk.read(instance, "log")).decode()


async def test_an_older_python_is_told_in_one_sentence_which_one_it_takes(tmp_path: Path):
    python = old_python()
    with original_hub(tmp_path, python) as hub:
        async with talking_to(hub.url) as talk:
            instance = await start(talk, TEMPLATES / "transform")
            ended = await talk.until_over(instance)
    assert ended["terminated"]["exitcode"] == 1
    assert "main.py is marked @sequence, which needs Python 3.11 or newer" in ended["terminated"]["reason"]


def test_the_entry_is_what_the_original_runner_is_told_to_start(tmp_path: Path):
    source = read_source(folder_of(tmp_path, UPPER))
    manifest, _ = original_entries(source.manifest, source.selection)
    assert (manifest.main, manifest.original_entry) == ("main.py", ENTRY_NAME)
