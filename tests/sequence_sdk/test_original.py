"""A marked Sequence in the hands of the original Python runner, which a fake stands for here."""

import asyncio
import json
import logging
import os
import sys
import textwrap
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sequence_sdk.errors import BadArgument, BadInput, BadOutput, SequenceError
from sequence_sdk.hub import HubUnreachable
from sequence_sdk.original import MODULE, members_of

NDJSON, OCTETS = "application/x-ndjson", "application/octet-stream"


class Channel(Enum):
    IN = "5"
    OUT = "6"


class Reader:
    """The link of the input: a header, then what the runner makes of the rest."""

    limit = 65536

    def __init__(self, content_type: str) -> None:
        self.header = f"x-other: 1\r\nContent-Type: {content_type}\r\n\r\n".encode()

    async def readuntil(self, separator: bytes) -> bytes:
        assert self.header.endswith(separator)
        return self.header


class Original:
    """The context that the original runner gives."""

    def __init__(self, config: Any = None) -> None:
        self.config = config
        self.logger = logging.getLogger("PythonRunner")
        self.logger.setLevel(logging.DEBUG)
        self.records: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: self.records.append(record.getMessage())
        self.logger.handlers[:] = [handler]
        self.emitted: list[tuple[str, Any]] = []
        self.listeners: dict[str, Any] = {}
        self.stop: Any = None
        self.health: Any = None

    def set_stop_handler(self, handler: Any) -> None:
        self.stop = handler

    def set_health_check(self, check: Any) -> None:
        self.health = check

    def on(self, name: str, callback: Any) -> None:
        assert name not in self.listeners
        self.listeners[name] = callback

    def emit(self, name: str, message: Any = "") -> None:
        self.emitted.append((name, message))


class Target:
    """Where the output goes."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.transport = self
        self.high = -1
        self.flushed = False
        self.broken = False

    def write(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    async def drain(self) -> None:
        self.flushed = self.high == 0
        if self.flushed and self.broken:
            raise ConnectionResetError

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    @property
    def whole(self) -> bytes:
        return b"".join(self.chunks)


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what belongs to the process of a runner."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("argv", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setitem(sys.modules, MODULE, None)
    monkeypatch.chdir(Path.cwd())
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def entry(tmp_path: Path, code: str, main: str = "main.py") -> dict[str, Any]:
    path = tmp_path / main
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("from sequence_sdk import Context, Stream, sequence\n" + textwrap.dedent(code), "utf-8")
    return members_of(str(tmp_path), main)


async def chunks_of(*chunks: Any) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


async def run(members: dict[str, Any], *chunks: Any, args: tuple[Any, ...] = (), config: Any = None) -> bytes:
    target = Target()
    await members["run"](Original(config), chunks_of(*chunks), *args).write_to(target)
    assert target.flushed
    return target.whole


# --- the module -----------------------------------------------------------------------------------------------------------


def test_the_module_says_what_the_original_runner_asks_for(tmp_path: Path):
    members = entry(
        tmp_path,
        """
        @sequence(requires="names", provides="sums", takes="application/x-ndjson", gives="text/plain")
        async def greet(input):
            yield ""
        """,
    )
    assert members["provides"] == {"provides": "sums", "contentType": "text/plain"}
    assert json.loads(json.dumps(members["requires"])) == {"requires": "names", "contentType": NDJSON}
    assert members["output_type"] == OCTETS, "what comes out is encoded already"


def test_the_original_runner_reads_a_topic_as_bytes_whatever_the_hub_is_told(tmp_path: Path):
    members = entry(tmp_path, "@sequence(requires='names')\nasync def greet(input):\n    yield ''\n")
    assert dict.copy(members["requires"]) == {"requires": "names", "contentType": "text/plain"}
    assert (members["requires"]["requires"], members["requires"]["contentType"]) == ("names", OCTETS)


def test_topics_of_the_module_count_as_in_our_runner(tmp_path: Path):
    members = entry(
        tmp_path,
        """
        requires = {"requires": "in", "contentType": "text/plain"}
        provides = {"provides": "out", "contentType": "text/csv"}

        @sequence
        async def greet(input):
            yield b"bytes of another type"
        """,
    )
    assert members["provides"] == {"provides": "out", "contentType": "text/csv"}
    assert json.loads(json.dumps(members["requires"])) == {"requires": "in", "contentType": "text/plain"}
    assert asyncio.run(run(members, b"x")) == b"bytes of another type"


def test_without_topics_the_header_of_the_input_is_read(tmp_path: Path):
    members = entry(tmp_path, "@sequence\nasync def greet(input):\n    yield ''\n")
    assert "requires" not in members
    assert members["provides"] == {"provides": "", "contentType": "text/plain"}


@pytest.mark.parametrize("declared", ["", "provides = {'provides': 'out', 'contentType': 'text/plain'}\n"])
async def test_a_classic_run_is_handed_over_as_it_is(tmp_path: Path, declared: str):
    code = (
        declared
        + "import os\ndef run(context, input, *args):\n    return context, input, args, os.getcwd()\n"
    )
    members = entry(tmp_path, code, "deep/main.py")
    assert members["run"](1, 2, 3) == (1, 2, (3,), str(tmp_path / "deep"))
    assert set(members) == ({"run", "provides"} if declared else {"run"})


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def other(): pass\n",
            "main.py: no function is marked @sequence, and none is called run (found other)",
        ),
        ("x = 1\n", "found sequence, Stream|no functions"),
        (
            "@sequence\nasync def a(i): yield 1\n@sequence\nasync def b(i): yield 1\n",
            "several functions are marked @sequence, and none is called run (found a, b)",
        ),
    ],
    ids=["none", "no functions", "several"],
)
def test_a_module_without_a_clear_sequence_is_refused(tmp_path: Path, code: str, message: str):
    with pytest.raises(SequenceError) as caught:
        entry(tmp_path, code)
    assert any(part in str(caught.value) for part in message.split("|"))


def test_the_author_s_module_is_imported_as_our_runner_does(tmp_path: Path):
    (tmp_path / "__pypackages__").mkdir()
    (tmp_path / "__pypackages__" / "brought_along_here.py").write_text("SAID = 'brought'")
    before = Path.cwd()
    entry(
        tmp_path,
        """
        import os, sys, brought_along_here
        SEEN = brought_along_here.SAID, os.getcwd(), __name__, __file__, sys.argv

        @sequence
        async def one(input):
            yield ""
        """,
        "deep/main.py",
    )
    main = str(tmp_path / "deep" / "main.py")
    seen = sys.modules[MODULE].SEEN
    assert seen == ("brought", str(tmp_path / "deep"), MODULE, main, [main])
    assert sys.path[:3] == [str(tmp_path / part) for part in ("deep", ".", "__pypackages__")]
    assert Path.cwd() == before
    del sys.modules["brought_along_here"]


def test_what_the_import_raises_has_the_author_s_line_in_it(tmp_path: Path):
    before = Path.cwd()
    with pytest.raises(ZeroDivisionError) as caught:
        entry(tmp_path, "\n1 / 0\n")
    last = traceback.extract_tb(caught.tb)[-1]
    assert (last.filename, last.lineno, last.line) == (str(tmp_path / "main.py"), 3, "1 / 0")
    assert Path.cwd() == before


# --- items ----------------------------------------------------------------------------------------------------------------

ECHO = """
    @sequence(gives="application/x-ndjson")
    async def show(input{hint}):
        async for item in input:
            yield item
"""


@pytest.mark.parametrize(
    ("hint", "chunks", "wanted"),
    [
        ("", ["a\n", "ä"], ["a\n", "ä"]),
        (": Stream[str]", ["a\nb", "c\n"], ["a\n", "bc\n"]),
        (": Stream[str]", [b"a\n\xc3", b"\xa4\n"], ["a\n", "ä\n"]),
        (": Stream[dict]", ['{"a":', "1}\n", '{"b":2}'], [{"a": 1}, {"b": 2}]),
        (": Stream[int]", [], []),
        ("", [], []),
    ],
)
async def test_items_are_what_the_hints_say_however_they_come(
    tmp_path: Path, hint: str, chunks: list[Any], wanted: list[Any]
):
    code = ECHO.format(hint=hint)
    if "dict" in hint or "int" in hint:
        code = code.replace('(gives="', '(takes="application/x-ndjson", gives="')
    out = await run(entry(tmp_path, code), *chunks)
    assert [json.loads(line) for line in out.splitlines()] == wanted


async def test_bytes_are_given_as_they_come(tmp_path: Path):
    code = "@sequence(gives='text/plain')\nasync def show(input):\n    async for item in input:\n        yield repr(item)\n"
    assert await run(entry(tmp_path, code), b"a\n", b"b") == rb"b'a\n'b'b'"


@pytest.mark.parametrize("content_type", [NDJSON, "text/plain; charset=utf-8", OCTETS])
async def test_the_type_that_the_hub_sends_decides_though_the_original_runner_does_not_know_it(
    tmp_path: Path, content_type: str
):
    members = entry(
        tmp_path,
        "@sequence(gives='text/plain')\nasync def show(input):\n    async for item in input:\n        yield repr(item)\n",
    )
    original, reader, target = Original(), Reader(content_type), Target()
    original.runner = SimpleNamespace(streams={Channel.OUT: object(), Channel.IN: reader})
    streams = original.runner.streams
    output = members["run"](original, chunks_of(b"[1]\n"))
    header = (await streams[Channel.IN].readuntil(b"\r\n\r\n")).decode()
    assert header == f"content-type: {OCTETS}\r\n\r\n"
    assert streams[Channel.IN].limit == Reader.limit, "all else is the link's own"
    await output.write_to(target)
    wanted = {NDJSON: "[1]", OCTETS: repr(b"[1]\n")}.get(content_type, repr("[1]\n"))
    assert target.whole.decode() == wanted


@pytest.mark.parametrize("streams", [None, {}, {Channel.OUT: 1}, {"IN": 1}, {Channel.IN: 1}])
async def test_a_runner_that_shows_no_links_gives_its_items_all_the_same(tmp_path: Path, streams: Any):
    members = entry(tmp_path, ECHO.format(hint=""))
    original, target = Original(), Target()
    original.runner = SimpleNamespace(streams=streams)
    await members["run"](original, chunks_of("a\n")).write_to(target)
    assert target.whole == b'"a\\n"\n'


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))),
    st.lists(st.integers(0, 40)),
)
def test_lines_come_through_however_they_are_cut(tmp_path: Path, lines: list[str], cuts: list[int]):
    members = entry(
        tmp_path,
        "@sequence\nasync def same(input: Stream[str]):\n    async for line in input:\n        yield line\n",
    )
    whole = "".join(f"{line}\n" for line in lines).encode()
    chunks, rest = [], whole
    for cut in cuts:
        chunks.append(rest[:cut])
        rest = rest[cut:]
    assert asyncio.run(run(members, *chunks, rest)) == whole


async def test_input_that_is_none_fails_where_it_stands(tmp_path: Path):
    code = ECHO.format(hint="").replace('(gives="', '(takes="application/x-ndjson", gives="')
    target = Target()
    output = entry(tmp_path, code)["run"](Original(), chunks_of("1\n", "x\n", "3\n"))
    with pytest.raises(BadInput, match="input line 2"):
        await output.write_to(target)
    assert (target.whole, target.flushed) == (b"1\n", True)


async def test_what_is_put_aside_is_logged_as_lost(tmp_path: Path):
    code = """
        @sequence(takes="application/x-ndjson", gives="application/x-ndjson", on_error="quarantine")
        async def same(input: Stream[int]):
            async for item in input:
                yield 6 // item
    """
    original, target = Original(), Target()
    await entry(tmp_path, code)["run"](original, chunks_of('1\n"a"\n', "?\n0\n3\n")).write_to(target)
    assert target.whole == b"6\n2\n"
    lost = [record for record in original.records if "is lost" in record]
    assert len(lost) == 3
    assert lost[0] == "item 2 is lost: the original runner keeps none that is put aside"


# --- results --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        ("async def one(input):\n    return 'text'", b"text"),
        ("async def one(input):\n    return ['a', 'b']", b"ab"),
        ("async def one(input):\n    return None", b""),
        ("async def one(input):\n    return 42", b"42"),
        ("def one(input):\n    return b'bytes'", b"bytes"),
        ("def one(input):\n    yield 'a'\n    yield 'b'", b"ab"),
        ("def one(input):\n    return input.map(str.upper)", b"LINE\n"),
        ("def one(input):\n    for line in input:\n        yield line * 2", b"line\nline\n"),
        ("class One:\n    async def each(self, line: str) -> str:\n        return line[::-1]", b"\nenil"),
    ],
)
async def test_every_form_gives_its_items(tmp_path: Path, function: str, wanted: bytes):
    assert await run(entry(tmp_path, f"@sequence\n{function}\n"), "line\n") == wanted


async def test_a_chain_is_one_sequence(tmp_path: Path):
    code = """
        @sequence
        async def numbers(lines: Stream[str]):
            async for line in lines:
                yield int(line)

        @sequence(gives="text/plain")
        async def doubled(items: Stream[int], factor: int = 2):
            async for item in items:
                yield f"{item * factor} "

        both = numbers | doubled
    """
    assert await run(entry(tmp_path, code), "1\n", "2\n", args=(3,)) == b"3 6 "


async def test_a_runner_that_encodes_does_not_encode_twice(tmp_path: Path):
    members = entry(tmp_path, "@sequence\nasync def one(input):\n    yield 'a'\n")
    output = members["run"](Original(), chunks_of())
    assert output.map(lambda text: text.encode()) is output


async def test_many_items_without_a_pause_let_the_loop_have_turns(tmp_path: Path):
    code = "@sequence\nasync def many(input):\n    for _ in range(1000):\n        yield 'x'\n"
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert await run(entry(tmp_path, code)) == b"x" * 1000
    counting.cancel()
    assert turns > 10


async def test_an_item_that_cannot_be_written_fails_and_the_function_is_closed(tmp_path: Path):
    code = """
        closed = []

        @sequence
        async def odd(input):
            try:
                yield "first"
                yield 1.5
            finally:
                closed.append(True)
    """
    target = Target()
    with pytest.raises(BadOutput, match="output item 2: text/plain takes str, not float"):
        await entry(tmp_path, code)["run"](Original(), chunks_of()).write_to(target)
    assert (target.whole, sys.modules[MODULE].closed) == (b"first", [True])


async def test_an_iterator_that_cannot_be_closed_is_not(tmp_path: Path):
    code = """
        class Two:
            left = ["b", "a"]

            def __aiter__(self):
                return self

            async def __anext__(self):
                if not self.left:
                    raise StopAsyncIteration
                return self.left.pop()

        @sequence
        async def two(input):
            return Two()
    """
    assert await run(entry(tmp_path, code)) == b"ab"


async def test_a_link_that_is_gone_hides_no_error_and_a_target_may_be_plain(tmp_path: Path):
    members = entry(tmp_path, "@sequence\nasync def one(input):\n    yield 'a'\n")
    target = Target()
    target.broken = True
    await members["run"](Original(), chunks_of()).write_to(target)
    plain = Target()
    plain.transport = None
    await members["run"](Original(), chunks_of()).write_to(plain)
    assert (target.whole, plain.whole) == (b"a", b"a")


# --- context --------------------------------------------------------------------------------------------------------------


async def test_arguments_options_and_configuration_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("INSTANCE_ID", "i" * 36)
    code = """
        import os
        @sequence
        async def show(context, input, first: int, *, factor: float = 1.0):
            yield f"{first} {factor} {context.config} {context.instance_id} {os.getcwd() in __file__}"
    """
    members = entry(tmp_path, code)
    out = await run(members, args=(4,), config={"factor": 2.5})
    assert out.decode() == f"4 2.5 {{'factor': 2.5}} {'i' * 36} True"
    with pytest.raises(BadArgument, match="start argument 1 'first'"):
        members["run"](Original(), chunks_of(), "x")


async def test_events_go_both_ways_from_any_thread(tmp_path: Path):
    code = """
        import asyncio

        @sequence
        async def events(context, input):
            heard = asyncio.Queue()
            context.on("ping", heard.put)
            context.on("ping", lambda message: context.emit("pong", message))
            context.emit("ready")
            await asyncio.to_thread(context.emit, "thread", 1)
            yield str(await heard.get()) + str(await heard.get())
            context.emit("bad", {1, 2})
    """
    original, target = Original(), Target()
    task = asyncio.create_task(entry(tmp_path, code)["run"](original, chunks_of()).write_to(target))
    async with asyncio.timeout(10):
        while len(original.emitted) < 2:
            await asyncio.sleep(0.001)
        original.listeners["ping"]({"a": 1})
        original.listeners["ping"]()
        with pytest.raises(TypeError, match=r"emit\('bad'\): the message is not JSON"):
            await task
    assert original.emitted[:3] == [("ready", ""), ("thread", 1), ("pong", {"a": 1})]
    assert target.whole == b"{'a': 1}None"


@pytest.mark.parametrize(
    "use",
    [
        "await context.state.get('n')",
        "context.hub",
        "context.space",
        "await context.topic('t').write(1)",
    ],
)
async def test_what_needs_a_hub_says_that_there_is_no_way_to_it(tmp_path: Path, use: str):
    code = f"@sequence\nasync def want(context, input):\n    yield str({use})\n"
    with pytest.raises(HubUnreachable, match="the original Python runner gives a Sequence no way to its hub"):
        await run(entry(tmp_path, code))


async def test_metrics_count_though_nobody_reads_them(tmp_path: Path):
    code = "@sequence\nasync def one(context, input):\n    context.metrics.counter('n').add(2)\n    yield 'done'\n"
    assert await run(entry(tmp_path, code)) == b"done"


async def test_what_is_printed_in_a_thread_is_written_in_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written: list[tuple[str, bool]] = []
    loop_thread = threading.get_ident()

    class Stream:
        encoding = "utf-8"

        def write(self, text: str) -> None:
            written.append((text, threading.get_ident() == loop_thread))

    monkeypatch.setattr(sys, "stdout", Stream())
    code = (
        "import sys\n@sequence\ndef one(input):\n    print('here', end='')\n    yield sys.stdout.encoding\n"
    )
    assert await run(entry(tmp_path, code)) == b"utf-8"
    assert written[0] == ("here", True)


async def test_records_of_all_loggers_go_where_those_of_the_original_runner_go(tmp_path: Path):
    root = logging.getLogger()
    root.handlers[:] = []
    code = """
        import logging
        @sequence
        async def one(context, input):
            context.logger.info("of the context")
            logging.getLogger("any").debug("of another")
            yield ""
    """
    original = Original()
    await entry(tmp_path, code)["run"](original, chunks_of()).write_to(Target())
    assert original.records == ["of the context", "of another"]


LIVING = """
    import asyncio
    told = []

    @sequence
    async def live(context, input):
        async def stopping(timeout, can_keep_alive):
            told.append((timeout, can_keep_alive, context.deadline is not None))
            if can_keep_alive:
                await context.keep_alive(0)
        def failing():
            raise ValueError("by design")
        context.add_stop_handler(stopping)
        if context.config:
            context.add_stop_handler(failing)
        yield "begun"
        try:
            await asyncio.sleep(3600)
        finally:
            told.append("closed")
"""


async def living(tmp_path: Path, original: Original) -> tuple[asyncio.Task[None], Target]:
    target = Target()
    task = asyncio.create_task(entry(tmp_path, LIVING)["run"](original, chunks_of()).write_to(target))
    while not target.chunks:
        await asyncio.sleep(0)
    return task, target


@pytest.mark.parametrize("config", [{}, {"fails": True}])
async def test_a_stop_calls_the_handlers_and_then_ends_the_sequence(tmp_path: Path, config: dict[str, bool]):
    original = Original(config)
    task, _ = await living(tmp_path, original)
    await original.stop()
    await task
    assert sys.modules[MODULE].told == [(7.0, False, True), "closed"]
    assert ("a stop handler failed" in original.records) == bool(config)


async def test_a_sequence_that_may_and_wants_to_lives_on(tmp_path: Path):
    original = Original()
    asked: list[float] = []

    async def keep_alive(seconds: float) -> None:
        asked.append(seconds)

    original.keep_alive = keep_alive
    task, _ = await living(tmp_path, original)
    await original.stop(2.0, True)
    await asyncio.sleep(0)
    assert (sys.modules[MODULE].told, asked, task.done()) == ([(2.0, True, True)], [0], False)
    del original.keep_alive
    await original.stop(1.0, True)
    assert asked == [0], "a runner that cannot ask does not"
    await original.stop(1.0, False)
    await original.stop(1.0, False)
    await task
    assert sys.modules[MODULE].told[-1] == "closed"


async def test_a_stop_before_the_beginning_is_an_end_without_any(tmp_path: Path):
    original, target = Original(), Target()
    output = entry(tmp_path, LIVING)["run"](original, chunks_of())
    await original.stop()
    await output.write_to(target)
    assert (target.whole, sys.modules[MODULE].told) == (b"", [])


async def test_a_runner_that_ends_takes_the_sequence_with_it(tmp_path: Path):
    task, _ = await living(tmp_path, Original())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sys.modules[MODULE].told == ["closed"]


@pytest.mark.parametrize(("call", "error"), [("end()", None), ("destroy(ValueError('why'))", ValueError)])
async def test_a_sequence_ends_itself_from_a_thread(tmp_path: Path, call: str, error: type[Exception] | None):
    code = f"""
        import asyncio

        @sequence
        async def live(context, input):
            yield "begun"
            await asyncio.to_thread(lambda: context.{call})
            await asyncio.sleep(3600)
    """
    members = entry(tmp_path, code)
    if error is None:
        assert await run(members) == b"begun"
    else:
        with pytest.raises(error, match="why"):
            await run(members)


async def test_health_is_what_the_check_and_the_handlers_said_last(tmp_path: Path):
    code = """
        import asyncio

        @sequence
        async def live(context, input):
            async def check():
                if context.config:
                    raise ValueError("by design")
                return {"healthy": False}
            context.set_health_check(check)
            context.add_monitoring_handler(lambda report: {"more": 1})
            yield "begun"
            await asyncio.sleep(3600)
    """
    for config, wanted in (
        ({}, {"healthy": False, "more": 1}),
        ({"fails": True}, {"healthy": False, "error": "ValueError: by design"}),
    ):
        original, target = Original(config), Target()
        task = asyncio.create_task(entry(tmp_path, code)["run"](original, chunks_of()).write_to(target))
        async with asyncio.timeout(10):
            while original.health is None or original.health() != wanted:
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert ("the health check failed" in original.records) == bool(config)


def test_no_variable_of_the_environment_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("INSTANCE_ID", raising=False)
    members = entry(
        tmp_path, "@sequence\nasync def one(context, input):\n    yield f'[{context.instance_id}]'\n"
    )
    assert asyncio.run(run(members)) == b"[]"
    assert "INSTANCE_ID" not in os.environ
