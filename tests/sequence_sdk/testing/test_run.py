"""A run of a Sequence as a test sees it, in this process."""

import asyncio
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk import ContentType, sequence
from sequence_sdk.account import Account
from sequence_sdk.hub import HubRefused
from sequence_sdk.stream import Stream
from sequence_sdk.testing import (
    Event,
    Exit,
    Log,
    Run,
    SequenceFailed,
    Stage,
    SubjectNotFound,
    TestingError,
    WaitedInVain,
)
from sequence_sdk.testing.direct import DirectStage
from sequence_sdk.testing.items import Feed
from sequence_sdk.testing.running import Order
from sequence_sdk.testing.subject import Subject

COMPLETED = Exit(0, "Instance completed", failed=False)


@sequence
async def greet(context, lines, greeting="Hello"):
    context.emit("begun", greeting)
    context.logger.info("begun with %s", greeting)
    async for line in lines:
        yield f"{greeting} {line}"


@sequence
def upper(lines):
    for line in lines:
        yield line.upper()


@sequence(gives="application/x-ndjson")
async def kinds(context, items):
    async for item in items:
        yield [item if not isinstance(item, bytes) else item.decode(), context.config.get("mark")]


@sequence
async def fails(lines):
    async for line in lines:
        yield line
        raise ValueError("no")


@sequence
async def says(context, lines):
    heard = asyncio.Queue()
    context.on("word", heard.put)
    context.emit("ready")
    while (word := await heard.get()) != "bye":
        yield f"{word}\n"


# --- in and out ---------------------------------------------------------------------------------------------------------


async def test_items_go_in_and_come_out(direct):
    async with direct.run(greet, "Hi") as run:
        await run.feed("Ada\n", "Grace\n")
        assert await run.items(2) == ["Hi Ada\n", "Hi Grace\n"]
        await run.feed("Joan\n")
        assert await run.rest() == ["Hi Joan\n"]
        assert await run.exit() == COMPLETED
        assert run.fed == 3


@given(st.text(min_size=1), st.integers(0))
def test_cuts_do_not_change_what_comes_out(text, at):
    stage = Stage("direct", DirectStage())
    data = text.encode("utf-8", "replace")
    at %= len(data)

    async def whole(*chunks, cut=False):
        async with stage.run(upper) as run:
            await (run.feed_cut(data) if cut else run.feed_bytes(*chunks))
            return await run.raw()

    assert stage.wait_for(whole(data)) == data.decode().upper().encode()
    assert (
        stage.wait_for(whole(data[:at], data[at:]))
        == stage.wait_for(whole(cut=True))
        == data.decode().upper().encode()
    )


@pytest.mark.parametrize(
    ("items", "shown"),
    [(["a\n", "b"], ["a\n", "b"]), ([b"a", b"b"], ["a", "b"]), ([{"n": 1}, None], [{"n": 1}, None])],
    ids=["text", "octets", "values"],
)
async def test_the_first_item_decides_what_the_input_is(direct, items, shown):
    outputs = await direct.outputs(kinds, items, config={"mark": 7})
    assert outputs == [[item, 7] for item in shown]


async def test_a_content_type_that_is_said_decides_what_the_input_is(direct):
    async with direct.run(kinds, content_type="application/x-ndjson") as run:
        await run.feed("a\n")
        assert await run.rest() == [["a\n", None]]


async def test_without_an_item_the_input_is_an_empty_text(direct):
    assert await direct.outputs(greet, []) == []
    async with direct.run(greet) as run:
        await run.feed()
        await run.end()
        assert await run.rest() == []


async def test_more_goes_through_than_waits_anywhere(direct):
    lines = [f"{number:0999}\n" for number in range(3000)]
    assert await direct.outputs(upper, lines) == lines


def test_a_test_that_is_no_coroutine_waits_for_the_outputs(direct):
    assert direct.outputs_of(upper, ["a\n"]) == ["A\n"]


async def test_a_blocking_wait_is_refused_in_an_event_loop(direct):
    with pytest.raises(TestingError, match="`await` it"):
        direct.outputs_of(upper, ["a\n"])


async def test_an_item_that_is_none_of_its_type_is_told_with_its_number(direct):
    async with direct.run(greet) as run:
        with pytest.raises(TestingError, match=r"item 2 of this feed is no text/plain: .*not int.*item: 7"):
            await run.feed("a\n", 7)


async def test_nothing_is_fed_after_the_end(direct):
    async with direct.run(greet) as run:
        await run.end()
        await run.end()
        with pytest.raises(TestingError, match="the input has ended"):
            await run.feed("a\n")


async def test_raw_bytes_are_read_instead_of_items(direct):
    async with direct.run(greet) as run:
        await run.feed("a\n", "b\n")
        assert await run.items(1) == ["Hello a\n"]
        with pytest.raises(TestingError, match="whose items nobody has read"):
            await run.raw()
        assert await run.rest() == ["Hello b\n"]


async def test_output_that_is_not_what_it_should_be_is_told(direct):
    @sequence(gives="application/x-ndjson")
    async def odd(lines):
        yield "fine"

    stage = Stage("direct", DirectStage())
    async with stage.run(odd, gives="text/plain") as run:
        assert await run.rest() == ['"fine"\n']
    async with stage.run(greet, gives="application/x-ndjson") as run:
        await run.feed("a\n")
        with pytest.raises(TestingError, match=r"the output is not what it should be: .*not JSON"):
            await run.rest()


# --- events, log, printed text ----------------------------------------------------------------------------------------------


async def test_events_and_log_are_kept(direct):
    async with direct.run(greet, "Hi", content_type="text/plain") as run:
        assert await run.event("begun") == "Hi"
        assert run.events == [Event("begun", "Hi")]
        assert run.logs == [Log("INFO", "begun with Hi")]


async def test_events_go_in(direct):
    async with direct.run(says) as run:
        await run.feed()
        await run.event("ready")
        await run.emit("word", "one")
        assert await run.items(1) == ["one\n"]
        await run.emit("word", "bye")
        assert await run.rest() == []


async def test_what_is_printed_is_kept_and_shown(direct, capsys):
    @sequence
    def prints(lines):
        print("from a thread")
        print("wrong", file=sys.stderr, flush=True)
        sys.stdout.writelines([f"{sys.stdout.encoding}\n"])
        yield from lines

    async with direct.run(prints) as run:
        await run.feed("a\n")
        print("from the test")
        await run.rest()
        assert run.stdout == "from a thread\nutf-8\n".replace("utf-8", sys.stdout.encoding)
        assert run.stderr == "wrong\n"
    assert capsys.readouterr().out.splitlines()[-3:-1] != []


async def test_nothing_is_told_before_it_runs(direct):
    async with direct.run(greet) as run:
        assert run.fed == 0
        with pytest.raises(TestingError, match="nothing runs yet"):
            assert run.stderr


# --- failures -------------------------------------------------------------------------------------------------------------


async def test_a_failure_is_told_with_its_traceback(direct):
    with pytest.raises(SequenceFailed) as caught:
        await direct.outputs(fails, ["a\n", "b\n"])
    told = str(caught.value)
    assert told.startswith("direct: fails: the Sequence failed after 1 more items of output\n")
    assert "it has ended: Sequence failed during execution: ValueError: no (exit code 23)" in told
    assert 'raise ValueError("no")' in told
    assert "ERROR the Sequence failed: ValueError: no" in told


async def test_a_failure_that_is_expected_is_no_failure_of_the_test(direct):
    async with direct.run(fails) as run:
        await run.feed("a\n")
        assert await run.rest(failed=True) == ["a\n"]
        assert await run.exit() == Exit(23, "Sequence failed during execution: ValueError: no", failed=True)


async def test_a_failure_that_nobody_asked_for_fails_the_test(direct):
    with pytest.raises(SequenceFailed, match="ValueError: no"):  # noqa: PT012 - the block itself raises
        async with direct.run(fails) as run:
            await run.feed("a\n")
            await run.until(lambda: "no" in run.stderr)


async def test_the_error_of_a_test_is_not_hidden_by_that_of_its_sequence(direct):
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block itself raises
        async with direct.run(fails) as run:
            await run.feed("a\n")
            await run.until(lambda: "no" in run.stderr)
            assert 1 / 0


async def test_an_output_that_ends_too_early_is_told(direct):
    async with direct.run(fails) as run:
        await run.feed("a\n")
        with pytest.raises(WaitedInVain, match=r"the output ended after 1 of 2 items: \['a\\n'\]"):
            await run.items(2)
        await run.exit()


async def test_a_wait_does_not_last_for_ever(direct):
    async with direct.run(greet, timeout=0.05) as run:
        await run.feed("a\n")
        with pytest.raises(WaitedInVain) as caught:
            await run.items(2)
        assert "waited 0.05 s for 2 items of output, got 1: ['Hello a\\n']" in str(caught.value)
        assert "it has not ended\n  input: 1 items fed, open" in str(caught.value)
        with pytest.raises(
            WaitedInVain, match=r"the end of the Sequence; its input is open: run.end\(\) ends it"
        ):
            await run.exit()
        with pytest.raises(WaitedInVain, match="a condition to come true"):
            await run.until(lambda: False)
        with pytest.raises(WaitedInVain, match=r"the account to have pending=5; it is .*pending=0"):
            await run.assert_account(pending=5)
        await run.rest()


async def test_a_complaint_shows_output_that_nobody_has_read(direct):
    async with direct.run(greet) as run:
        await run.feed("a\n", "b\n")
        await run.end()
        assert await run.exit() == COMPLETED
        with pytest.raises(
            WaitedInVain, match=r"output that nobody has read: \['Hello a\\n', 'Hello b\\n'\]"
        ):
            await run.until(lambda: False)
        assert await run.rest() == ["Hello a\n", "Hello b\n"]


async def test_a_timeout_of_the_sequence_is_not_taken_for_one_of_the_test(direct):
    async with direct.run(greet) as run:
        await run.feed("a\n")

        def late():
            raise TimeoutError("mine")

        with pytest.raises(TimeoutError, match="mine"):
            await run.until(late)
        await run.rest()


# --- its end ----------------------------------------------------------------------------------------------------------------


@sequence
async def stoppable(context, lines):
    context.set_stop_handler(lambda seconds, _: context.emit("stopping", seconds))
    context.add_kill_handler(lambda: context.emit("killed"))
    context.emit("ready")
    async for line in lines:
        yield line


async def test_a_stop_calls_the_handlers_and_closes_the_sequence(direct):
    async with direct.run(stoppable, content_type="text/plain") as run:
        await run.event("ready")
        assert await run.stop(2.0) == Exit(138, "Instance stopped", failed=False)
        assert run.events[-1] == Event("stopping", 2.0)
        assert await run.stop() == await run.kill() == await run.exit()


async def test_a_kill_calls_the_kill_handlers(direct):
    async with direct.run(stoppable, content_type="text/plain") as run:
        await run.event("ready")
        assert await run.kill() == Exit(137, "Instance killed", failed=False)
        assert run.events[-1].name == "killed"


async def test_a_stop_handler_that_takes_too_long_is_killed(direct):
    @sequence
    async def slow(context, lines):
        context.set_stop_handler(lambda *_: asyncio.sleep(60))
        context.add_kill_handler(lambda: asyncio.sleep(60))
        context.emit("ready")
        async for line in lines:
            yield line

    async with direct.run(slow, content_type="text/plain") as run:
        await run.event("ready")
        assert await run.stop(0.01) == Exit(137, "Instance killed", failed=False)


async def test_a_stop_handler_that_fails_is_reported(direct):
    @sequence
    async def clumsy(context, lines):
        context.set_stop_handler(lambda *_: 1 / 0)
        context.emit("ready")
        async for line in lines:
            yield line

    async with direct.run(clumsy, content_type="text/plain") as run:
        await run.event("ready")
        assert (await run.stop()).code == 138
        assert "ZeroDivisionError" in run.stderr


async def test_a_sequence_that_ends_when_it_is_stopped_has_completed(direct):
    @sequence
    async def polite(context, lines):
        over = asyncio.Event()

        async def stop(_seconds, _can_keep_alive):
            over.set()
            await asyncio.sleep(0.01)

        context.set_stop_handler(stop)
        context.emit("ready")
        await over.wait()
        yield "bye\n"

    async with direct.run(polite, content_type="text/plain") as run:
        await run.event("ready")
        assert await run.stop() == COMPLETED
        assert await run.rest() == ["bye\n"]


@pytest.mark.parametrize(
    ("leave", "how"),
    [
        (lambda context: sys.exit(), COMPLETED),
        (lambda context: sys.exit(3), Exit(3, "Runner failed: SystemExit: 3", failed=True)),
        (lambda context: sys.exit("why"), Exit(1, "Runner failed: SystemExit: why", failed=True)),
        (lambda context: context.end(), COMPLETED),
        (
            lambda context: context.destroy("enough"),
            Exit(23, "Sequence failed during execution: sequence_sdk.context.Destroyed: enough", failed=True),
        ),
    ],
    ids=["exit", "exit 3", "exit why", "end", "destroy"],
)
async def test_a_sequence_ends_itself(direct, leave, how):
    @sequence
    async def leaves(context, lines):
        context.keep_alive  # noqa: B018
        yield "a\n"
        leave(context)
        await asyncio.sleep(60)

    async with direct.run(leaves) as run:
        assert await run.rest(failed=how.failed) == ["a\n"]
        assert await run.exit() == how


async def test_a_sequence_that_still_runs_is_killed_at_the_end_of_the_block(direct):
    closed = []

    @sequence
    async def runs(lines):
        try:
            async for line in lines:
                yield line
        finally:
            closed.append(True)

    async with direct.run(runs) as run:
        await run.feed("a\n")
        assert await run.items(1) == ["a\n"]
    assert closed == [True]


async def test_an_item_that_cannot_be_written_is_told(direct):
    @sequence
    async def wrong(lines):
        yield 7

    async with direct.run(wrong) as run:
        await run.feed()
        assert "output item 1: text/plain takes str, not int" in (await run.exit()).reason


# --- account, crash, back-pressure --------------------------------------------------------------------------------------------


async def test_the_account_tells_what_is_in_hand(direct):
    let_go = asyncio.Event()

    @sequence
    async def holds(lines):
        async for line in lines:
            if line == "hold\n":
                await let_go.wait()
            yield line

    async with direct.run(holds) as run:
        await run.feed("a\n", "hold\n", "b\n")
        assert await run.assert_account(out=1, pending=2) == Account(3, 1)
        assert await run.taken() == 2
        let_go.set()
        await run.rest()
        assert await run.assert_account() == Account(3, 3)
        assert await run.assert_account(out=3, skipped=0, quarantined=0, pending=0) == Account(3, 3)
        with pytest.raises(WaitedInVain, match=r"out=4; it is .*; and the Sequence has ended"):
            await run.assert_account(out=4)


async def test_the_account_of_octets_is_that_of_the_sequence(direct):
    async with direct.run(kinds) as run:
        await run.feed(b"ab", b"", b"c")
        await run.rest()
        assert await run.account() == Account(2, 2)


async def test_a_crash_comes_after_the_items_it_is_to_come_after(direct):
    async with direct.run(greet, crash_after=2) as run:
        await run.feed("a\n")
        await run.feed("b\n", "c\n")
        await run.feed("d\n")
        await run.feed_bytes(b"")
        await run.end()
        assert await run.items(2) == ["Hello a\n", "Hello b\n"]
        assert await run.exit() == Exit(137, "Runner was ended by SIGKILL", failed=True)
        assert await run.assert_account(out=2, pending=2) == Account(4, 2)


async def test_a_crash_reaches_a_generator_in_its_thread(direct):
    async with direct.run(upper, crash_after=1) as run:
        await run.feed("a\n", "b\n")
        assert (await run.exit()).failed
        assert await run.rest(failed=True) == ["A\n"]


async def test_a_crash_that_never_comes_leaves_a_whole_run(direct):
    async with direct.run(greet, crash_after=5) as run:
        await run.feed("a\n")
        assert await run.rest() == ["Hello a\n"]


async def test_a_sequence_stops_taking_items_while_nobody_reads_and_loses_none(direct):
    async with direct.run(greet) as run:
        fed = await run.until_blocked(lambda number: f"{number:0999}\n", quiet=0.05)
        taken = await run.taken()
        assert 1000 < taken < fed < 3000
        numbers = []
        async for item in run.reader():
            numbers.append(int(item.removeprefix("Hello ")))
            if len(numbers) == fed:
                await run.end()
        assert numbers == list(range(fed))


async def test_an_input_of_octets_blocks_too(direct):
    @sequence(takes="application/octet-stream", gives="application/octet-stream")
    async def same(chunks):
        async for chunk in chunks:
            yield chunk

    async with direct.run(same) as run:
        fed = await run.until_blocked(bytes(100_000), quiet=0.05)
        assert len(await run.raw()) == fed * 100_000


async def test_a_sequence_that_takes_everything_is_found_out(direct):
    @sequence
    async def keeps(lines):
        kept = [line async for line in lines]
        yield str(len(kept))

    async with direct.run(keeps) as run:
        with pytest.raises(WaitedInVain, match="has taken 100 items although nobody reads"):
            await run.until_blocked("a\n", most=100)
        assert await run.rest() == ["100"]


async def test_a_feed_that_finds_no_room_says_what_to_do(direct):
    async with direct.run(greet, timeout=0.1) as run:
        with pytest.raises(WaitedInVain, match="room in the input; read what it gives"):  # noqa: PT012 - the block itself raises
            for _ in range(100):
                await run.feed("x" * 100_000 + "\n")


# --- what is run ------------------------------------------------------------------------------------------------------------


async def test_a_package_is_run_from_its_folder(direct, tmp_path):
    (tmp_path / "package.json").write_text('{"main": "src/main.py"}')
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "words.py").write_text("MARK = '!'")
    (tmp_path / "src" / "main.py").write_text(
        'from words import MARK\nprovides = {"contentType": "application/x-ndjson"}\n'
        "async def run(context, input, *args):\n    async for line in input:\n        yield line.strip() + MARK\n"
    )
    before = list(sys.path)
    assert await direct.outputs(tmp_path, ["a\n"]) == ["a!"]
    assert await direct.outputs(str(tmp_path / "src" / "main.py"), ["a\n"]) == ["a!"]
    assert sys.path == before
    del sys.modules["words"]


@pytest.mark.parametrize(
    ("manifest", "main", "complaint"),
    [
        (None, None, "is neither a file nor a folder with a package.json"),
        ("{", None, "package.json"),
        ('{"main": "main.js"}', None, "is no Python file that is there"),
        ('{"main": "main.py"}', "x = 1", r"must have one Sequence, marked @sequence \(found: nothing\)"),
        (
            '{"main": "main.py"}',
            "from sequence_sdk import sequence\n@sequence\ndef a(i): ...\n@sequence\ndef b(i): ...",
            r"found: a, b",
        ),
    ],
    ids=["nothing", "no manifest", "another language", "no Sequence", "two Sequences"],
)
async def test_a_folder_without_one_sequence_is_refused(direct, tmp_path, manifest, main, complaint):
    if manifest is not None:
        (tmp_path / "package.json").write_text(manifest)
    if main is not None:
        (tmp_path / "main.py").write_text(main)
    with pytest.raises(SubjectNotFound, match=complaint):
        await direct.outputs(tmp_path, ["a\n"])


async def test_a_file_that_is_no_python_is_refused(direct, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(SubjectNotFound, match="is no Python file"):
        await direct.outputs(tmp_path / "notes.txt", ["a\n"])


async def test_a_function_without_a_mark_is_refused(direct):
    def plain(lines): ...

    with pytest.raises(SubjectNotFound, match="plain is not marked: write @sequence above it"):
        await direct.outputs(plain, ["a\n"])


async def test_a_module_that_fails_is_a_sequence_that_fails_on_start(direct, tmp_path):
    (tmp_path / "main.py").write_text("1 / 0")
    async with direct.run(tmp_path / "main.py") as run:
        await run.feed("a\n")
        how = await run.exit()
    assert how == Exit(22, "Sequence failed on start: ZeroDivisionError: division by zero", failed=True)


async def test_a_stage_has_a_name_and_an_unknown_type_of_a_module_is_text(direct, tmp_path):
    (tmp_path / "main.py").write_text("output_type = 'image/png'\ndef run(context, input): return 'a'")
    assert await direct.outputs(tmp_path / "main.py", []) == ["a"]
    assert repr(direct) == "<stage direct>"
    assert isinstance(direct, Stage)
    assert Run.__test__ is False


# --- context ------------------------------------------------------------------------------------------------------------------


async def test_state_and_topics_are_kept_in_memory(direct):
    @sequence(takes="application/x-ndjson", gives="application/x-ndjson")
    async def keeps(context, items):
        topic = context.topic("numbers")
        async for item in items:
            await context.state.set("last", item)
            await topic.write(item)
        await context.hub.send_topic("empty", b"", content_type="text/plain")
        await topic.flush()
        yield await context.state.get("last")
        async for item in topic.read():
            yield item

    assert await direct.outputs(keeps, [1, 2]) == [2, 1, 2]


class NoTopics:
    """A hub that refuses topics."""

    def __init__(self, hub):
        self._hub = hub

    async def send_topic(self, *_, **__):
        raise HubRefused(406, "no topics here")


async def test_what_is_written_to_a_topic_and_refused_is_reported(direct):
    @sequence
    async def writes(context, lines):
        topic = context.topic("a")
        topic._hub = lambda: NoTopics(context.hub)
        await topic.write(1)
        yield "a\n"

    async with direct.run(writes) as run:
        await run.feed()
        assert await run.rest() == ["a\n"]
        assert "no topics here" in run.stderr


async def test_what_needs_a_real_hub_says_so(direct):
    @sequence
    async def asks(context, lines):
        yield str(await context.hub.version())

    with pytest.raises(
        SequenceFailed, match="the direct stage has no hub for that: run this test on the stage hub"
    ):
        await direct.outputs(asks, [])


# --- counting -----------------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=6).map(lambda data: data.replace(b"b", b"\n").replace(b"c", b"\r"))))
def test_lines_are_counted_however_they_are_cut(chunks):
    data = b"".join(chunks)
    feed = Feed(ContentType.TEXT)
    assert b"".join(piece for chunk in chunks for piece, _ in feed.add(chunk)) == data
    feed.end()
    assert feed.count == data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


def test_blank_lines_are_no_values():
    feed = Feed(ContentType.NDJSON)
    assert [count for _, count in feed.add(b"1\n\n  \n2\n3")] == [1, 1, 1, 2, 2]
    feed.end()
    assert feed.count == 3


# --- contract and errors --------------------------------------------------------------------------------------------------------


@sequence(on_error="skip")
async def numbers(lines: Stream[dict]):
    async for one in lines:
        if one["n"] < 0:
            raise ValueError("below zero")
        yield f"{one['n']}\n"


async def test_what_a_sequence_skips_is_in_its_account(direct):
    async with direct.run(numbers) as run:
        await run.feed({"n": 1}, {"n": -1}, {"n": 2})
        await run.feed_bytes(b"no json\n", b'{"n": 3}\n')
        assert await run.rest() == ["1\n", "2\n", "3\n"]
        assert await run.assert_account(out=3, skipped=2, pending=0) == Account(5, 3, 2)


async def test_items_that_are_not_what_the_hints_say_are_quarantined(direct):
    @sequence(on_error="quarantine", gives="application/x-ndjson")
    async def typed(items: Stream[int]):
        async for item in items:
            yield item

    async with direct.run(typed, content_type="application/x-ndjson") as run:
        await run.feed_bytes(b'1\n"two"\n3\n')
        assert await run.rest() == [1, 3]
        await run.assert_account(out=2, quarantined=1)


async def test_arguments_that_are_wrong_are_told_on_start(direct):
    async with direct.run(greet, 1, 2, 3) as run:
        await run.feed("a\n")
        how = await run.exit()
    assert (how.code, how.failed) == (22, True)
    assert "this Sequence takes" in how.reason or "takes" in run.stderr


async def test_a_class_is_a_sequence_too(direct):
    @sequence
    class Store:
        async def setup(self):
            self.seen = 0

        async def each(self, line):
            self.seen += 1
            return f"{self.seen} {line}"

    assert await direct.outputs(Store, ["a\n", "b\n"]) == ["1 a\n", "2 b\n"]


# --- corners ---------------------------------------------------------------------------------------------------------------------


async def test_a_kill_and_an_end_may_come_when_all_is_over(direct):
    running = await DirectStage().launch(Order(Subject(greet), Path(), "text/plain"))
    assert await running.account() == Account()
    await running.kill()
    assert (await running.wait()).code == 137
    await running.kill()
    await running.write(b"lost")
    await running.close()


async def test_what_is_read_by_two_is_given_once(direct):
    @sequence
    async def at_once(lines):
        async for line in lines:
            yield line + "b\nc\n"

    async with direct.run(at_once) as run:
        readers = asyncio.gather(run.items(1), run.items(2))
        await run.feed()
        await asyncio.sleep(0.01)  # both wait
        await run.feed("a\n")
        assert await readers == [["a\n"], ["b\n", "c\n"]]
        assert await run.rest() == []


async def test_the_account_is_awaited_while_the_sequence_goes_on(direct):
    async with direct.run(greet) as run:
        await run.feed("a\n")
        wait = asyncio.create_task(run.assert_account(out=2))
        await run.until(lambda: run.events)
        await run.feed("b\n")
        await wait
        last = asyncio.create_task(run.assert_account(out=3))
        await asyncio.sleep(0)
        await run.feed("c\n")
        await run.rest()
        assert (await last).out == 3


async def test_nothing_to_feed_until_blocked_is_everything_taken(direct):
    async with direct.run(greet) as run:
        with pytest.raises(WaitedInVain, match="has taken 0 items"):
            await run.until_blocked("a\n", most=0)
        await run.rest()


async def test_a_line_that_is_no_item_ends_the_sequence(direct):
    async with direct.run(kinds, content_type="application/x-ndjson") as run:
        await run.feed_bytes(b"1\nnot json\n")
        assert await run.rest(failed=True) == [[1, None]]
        assert "input line 2: not JSON" in (await run.exit()).reason


async def test_an_iterable_that_cannot_be_closed_is_left_as_it_is(direct):
    class Items:
        def __aiter__(self):
            return self

        async def __anext__(self):
            return 7

    @sequence
    async def returns(lines):
        return Items()

    async with direct.run(returns) as run:
        await run.feed()
        assert "output item 1" in (await run.exit()).reason


async def test_what_is_built_by_hand_is_not_asked_before_it_runs():
    run = Stage("direct", DirectStage()).run(greet)
    async with run as one:
        with pytest.raises(TestingError, match="nothing runs yet"):
            assert one.logs
