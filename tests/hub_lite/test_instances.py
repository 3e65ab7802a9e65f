"""One Instance over real sockets: two dialects of runners, its streams, its life and its end."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hub_lite.channel_server import ChannelServer
from hub_lite.errors import Gone, NotAcceptable
from hub_lite.instances import Instance, StartPayload
from hub_lite.settings import Settings
from hub_lite.windows import StreamFailed, Window, WindowClosed
from runner.protocol.errors import LocalProtocolError
from runner.protocol.lifecycle import State

from .fakes import (
    CONTROL,
    DEADLINE,
    IN,
    LOG,
    MONITORING,
    NINE,
    OUT,
    PACKAGE,
    REQUIRED,
    STDERR,
    STDIN,
    STDOUT,
    FakeProcess,
    FakeRunner,
    connect,
    stored_sequence,
    until,
)

ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"
MIB = 1024 * 1024


class Bench:
    """Instances, the server for their links, and the runners that tests play."""

    def __init__(self, path: Path) -> None:
        self.instances: dict[str, Instance] = {}
        self.server = ChannelServer(self)
        self.path = path
        self.port = 0
        self.runners: list[FakeRunner] = []
        self.lives: list[asyncio.Task[None]] = []
        self.process = FakeProcess()

    def accept(self, instance_id: str, channel: Any, link: Any) -> Any:
        return self.instances[instance_id].accept(channel, link)

    def instance(
        self,
        *,
        launched: bool = True,
        config: dict[str, Any] | None = None,
        args: list[Any] | None = None,
        main: str = "main.py",
        language: str = "python3",
        **settings: Any,
    ) -> Instance:
        payload = StartPayload(config or {}, args or [])
        sequence = stored_sequence(main=main, **{language: "*"})
        instance = Instance(ID, sequence, payload, Settings(**settings))
        self.instances[ID] = instance
        if launched:
            self.launch(instance)
        return instance

    def launch(self, instance: Instance) -> None:
        instance.launched(self.process)
        self.lives.append(asyncio.ensure_future(instance.run()))

    def runner(self, *, tcp: bool = False) -> FakeRunner:
        self.runners.append(FakeRunner(ID, self.port if tcp else self.path))
        return self.runners[-1]

    async def running(self, **options: Any) -> tuple[Instance, FakeRunner]:
        """Return an Instance that is up, and its runner."""
        instance = self.instance(**options)
        runner = await self.runner().start()
        await until(instance.up.is_set)
        return instance, runner

    async def end(self, runner: FakeRunner | None = None, code: int = 0) -> None:
        """Let the process end as processes do: its links with it."""
        if runner is not None:
            await runner.close()
        self.process.end(code)
        await asyncio.wait_for(asyncio.gather(*self.lives), DEADLINE)


@pytest.fixture
async def bench(nothing_left: None, tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "s")
    await bench.server.listen_unix(bench.path)
    bench.port = await bench.server.listen_tcp("127.0.0.1", 0)
    yield bench
    bench.process.end(0)
    await asyncio.gather(*bench.lives)
    for runner in bench.runners:
        await runner.close()
    for instance in bench.instances.values():
        instance.close()
        instance.close()
    await bench.server.close()


def text_of(window: Window) -> bytes:
    return window.tail(window.end_offset or 1)


def records(instance: Instance) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text_of(instance.log).splitlines()]


def messages(instance: Instance) -> list[str]:
    return [record["msg"] for record in records(instance)]


async def read_all(window: Window, offset: Any = None) -> bytes:
    with window.open(offset) as cursor:
        return b"".join([chunk async for chunk in cursor])


# --- dialects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("channels", [NINE, REQUIRED])
@pytest.mark.parametrize("members", [{}, {"created": 1795458836267, "status": "starting"}])
async def test_both_dialects_are_greeted(
    bench: Bench, channels: tuple[int, ...], members: dict[str, Any], tcp: bool
) -> None:
    instance = bench.instance(config={"k": 1}, args=["x", 2])
    runner = await bench.runner(tcp=tcp).connect(channels)
    await runner.ping(**members)
    assert await runner.links[CONTROL].line() == b'[4000,{"appConfig":{"k":1},"args":["x",2]}]\n'
    assert instance.state is State.STARTING
    await runner.say(3012, {"requires": "", "contentType": ""})
    await instance.wait_until_up(DEADLINE)
    assert instance.state is State.RUNNING


@pytest.mark.parametrize("order", [NINE[::-1], (4, 3, 8, 0, 1, 2, 5, 6, 7), (8, 1, 3, 5, 7, 0, 2, 4, 6)])
async def test_links_come_in_any_order(bench: Bench, order: tuple[int, ...]) -> None:
    instance, runner = bench.instance(), bench.runner()
    await runner.start(order)
    await instance.wait_until_up(DEADLINE)
    assert instance.state is State.RUNNING


async def test_a_ping_before_all_links_are_there_waits_for_the_last_of_them(bench: Bench) -> None:
    instance = bench.instance()
    runner = await bench.runner().connect([MONITORING, CONTROL])
    await runner.ping()
    hearing = asyncio.ensure_future(runner.hear())
    for channel in set(REQUIRED) - {MONITORING, CONTROL}:
        assert not hearing.done()
        assert instance.started is None
        await runner.connect([channel])
    assert await hearing == [4000, {"appConfig": {}, "args": []}]
    assert instance.started is not None


async def test_the_package_channel_may_come_later(bench: Bench) -> None:
    _, runner = bench.instance(), bench.runner()
    await runner.start(REQUIRED)
    await runner.connect([PACKAGE])
    await runner.links[PACKAGE].send(b"\0\0\0\1\7")
    runner.end(PACKAGE)
    await bench.end(runner)
    assert bench.instances[ID].state is State.COMPLETED


async def test_only_the_first_pang_says_that_it_is_up_and_later_ones_complete_the_picture(
    bench: Bench,
) -> None:
    instance, runner = await bench.running()
    await runner.say(3012, {"provides": "out", "contentType": "text/plain"})
    await runner.say(3012, {"provides": "other"})
    await runner.say(3012, {"requires": "in"})
    await until(lambda: instance.requires)
    assert (instance.provides, instance.requires) == ("out", "in")
    assert instance.state is State.RUNNING


async def test_a_ping_of_another_instance_is_not_answered(bench: Bench) -> None:
    instance = bench.instance()
    runner = await bench.runner().connect()
    await runner.say(3000, {"id": "x" * 36, "payload": {}})
    await until(lambda: messages(instance) == [f"monitoring: a PING of Instance {'x' * 36} is ignored"])
    await runner.ping()
    assert (await runner.hear())[0] == 4000


async def test_a_runner_may_be_faster_than_its_adapter(bench: Bench) -> None:
    instance = bench.instance(launched=False)
    runner = await bench.runner().start()
    await until(instance.up.is_set)
    assert instance.state is State.INITIALIZING
    bench.launch(instance)
    assert instance.state is State.RUNNING
    await bench.end(runner)


async def test_a_payload_that_fits_no_message_is_refused_at_once(bench: Bench) -> None:
    with pytest.raises(LocalProtocolError, match="more than a message may have"):
        bench.instance(args=["x" * MIB])


# --- stop, kill, health -----------------------------------------------------------------------------------------------


async def test_a_stop_before_the_pong_is_sent_after_it(bench: Bench) -> None:
    instance = bench.instance()
    runner = await bench.runner().connect(REQUIRED[:-1])
    await runner.ping()
    stopping = asyncio.ensure_future(instance.stop(5, can_keep_alive=True))
    await until(lambda: instance.state is State.STOPPING)
    await runner.connect(REQUIRED[-1:])
    assert (await runner.hear())[0] == 4000
    assert await runner.hear() == [4001, {"timeout": 5000, "canCallKeepalive": True}]
    await bench.end(runner, 138)
    await stopping
    assert instance.terminated == {"exitcode": 138, "reason": "Instance stopped"}


async def test_a_stop_returns_when_the_instance_has_ended(bench: Bench) -> None:
    instance, runner = await bench.running()
    stopping = asyncio.ensure_future(instance.stop(3600, can_keep_alive=False))
    assert await runner.hear() == [4001, {"timeout": 3600000, "canCallKeepalive": False}]
    await runner.say(3006, {})
    await bench.end(runner, 138)
    await asyncio.wait_for(stopping, DEADLINE)
    assert instance.state is State.COMPLETED


async def test_a_stop_that_is_not_heeded_ends_in_a_kill_and_then_in_force(bench: Bench) -> None:
    instance, runner = await bench.running()
    await instance.stop(0.02, can_keep_alive=False)
    assert (await runner.hear())[0] == 4001
    assert await runner.hear() == [4002, {}]
    await asyncio.wait_for(instance.over.wait(), DEADLINE)  # the fake dies only by force
    assert instance.terminated == {"exitcode": 137, "reason": "Instance killed"}


async def test_a_keep_alive_calls_the_stop_off(bench: Bench) -> None:
    instance, runner = await bench.running()
    stopping = asyncio.ensure_future(instance.stop(3600, can_keep_alive=True))
    assert (await runner.hear())[0] == 4001
    await runner.say(3010, {"keepAlive": 1000})
    await asyncio.wait_for(stopping, DEADLINE)
    assert instance.state is State.RUNNING
    await bench.end(runner, 0)
    assert instance.terminated == {"exitcode": 0, "reason": "Instance completed"}


async def test_a_keep_alive_that_was_not_allowed_changes_nothing(bench: Bench) -> None:
    instance, runner = await bench.running()
    stopping = asyncio.ensure_future(instance.stop(3600, can_keep_alive=False))
    assert (await runner.hear())[0] == 4001
    await runner.say(3010, {})
    await runner.say(3001, {"healthy": True})
    assert await runner.hear() == [4004, {}]
    assert instance.state is State.STOPPING
    await bench.end(runner, 138)
    await stopping


async def test_a_kill_before_the_pong_is_force(bench: Bench) -> None:
    instance = bench.instance()
    await bench.runner().connect(REQUIRED[:3])
    instance.kill()
    await asyncio.wait_for(instance.over.wait(), DEADLINE)
    assert bench.process.kills >= 1
    assert instance.terminated == {"exitcode": 137, "reason": "Instance killed"}


async def test_a_kill_before_the_launch_is_force_when_it_has_happened(bench: Bench) -> None:
    instance = bench.instance(launched=False)
    instance.kill()
    assert instance.state is State.KILLING
    bench.launch(instance)
    await asyncio.wait_for(instance.over.wait(), DEADLINE)
    assert bench.process.kills >= 1
    assert instance.state is State.COMPLETED


async def test_a_stop_and_a_kill_before_the_launch_end_it_too(bench: Bench) -> None:
    instance = bench.instance(launched=False)
    await instance.stop(0, can_keep_alive=False)
    instance.kill()
    bench.launch(instance)
    await asyncio.wait_for(instance.over.wait(), DEADLINE)
    assert instance.state is State.COMPLETED


async def test_a_kill_asks_first(bench: Bench) -> None:
    instance, runner = await bench.running()
    instance.kill(remove_immediately=True)
    assert await runner.hear() == [4002, {}]
    assert bench.process.kills == 0
    await bench.end(runner, 137)
    assert instance.terminated == {"exitcode": 137, "reason": "Instance killed"}
    assert instance.remove_immediately


async def test_health_waits_for_the_first_report_and_each_is_answered(bench: Bench) -> None:
    instance, runner = await bench.running()
    waiting = asyncio.ensure_future(instance.health())
    await asyncio.sleep(0)
    assert not waiting.done()
    await runner.say(3001, {"healthy": True, "load": 2})
    assert await runner.hear() == [4004, {}]
    assert await asyncio.wait_for(waiting, DEADLINE) == {"healthy": True, "load": 2, "processId": 4711}
    await runner.say(3001, {"healthy": False})
    assert await runner.hear() == [4004, {}]
    assert (await instance.health())["healthy"] is False
    await bench.end(runner)
    with pytest.raises(Gone, match="has ended"):
        await instance.health()


async def test_who_waits_for_health_learns_that_it_ended_without(bench: Bench) -> None:
    instance = bench.instance()
    waiting = asyncio.ensure_future(instance.health())
    await bench.end(None, 1)
    with pytest.raises(Gone, match="has ended"):
        await asyncio.wait_for(waiting, DEADLINE)
    with pytest.raises(Gone):
        await instance.health()


async def test_who_waits_for_something_of_a_removed_instance_is_let_go(bench: Bench) -> None:
    instance = bench.instance(launched=False)
    waiting = [
        asyncio.ensure_future(one)
        for one in (instance.health(), instance.input_writer("text/plain"), instance.stdin.link())
    ]
    await asyncio.sleep(0)
    instance.close()
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), DEADLINE)
    assert [type(one) for one in outcomes] == [Gone, Gone, Gone]


# --- bad messages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nonsense\r\n", "not JSON"),
        (b"[3000]\n", "not an array of code and payload"),
        (b'{"a":1}\n', "not an array of code and payload"),
        (b'["3000",{}]\n', "the code is not a whole number"),
        (b'[3000,"x"]\n', "the payload is not an object"),
        (b'[3000,{"id":1}]\n', "PING"),
        (b'[3012,{"requires":5}]\n', "'requires' must be a string"),
        (b'[3010,{"keepAlive":"long"}]\n', "'keepAlive' must be a number"),
        (b'[3001,{"load":NaN}]\n', "not JSON"),
        (b"[9999,{}]\n", "unknown message code 9999"),
        (b"[4002,{}]\n", "message code 4002 is for runners"),
        (b'[4000,{"args":[]}]\n', "message code 4000 is for runners"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        (b"x" * (MIB + 1) + b"\n", "a line is longer than"),
    ],
)
async def test_a_bad_message_is_a_warning_in_the_log_and_changes_nothing(
    bench: Bench, line: bytes, said: str
) -> None:
    instance, runner = await bench.running()
    before = instance.describe()
    await runner.links[MONITORING].send(line + b'\r\n\r\n[3001,{"healthy":true}]\r\n')
    assert await runner.hear() == [4004, {}]
    assert instance.describe() == before
    (record,) = records(instance)
    assert said in record["msg"]
    assert (record["level"], record["from"], record["Instance"]) == ("WARN", "Instance", {"id": ID})


async def test_what_is_reserved_is_ignored_without_a_word(bench: Bench) -> None:
    instance, runner = await bench.running()
    for code in (3002, 3003, 3004, 3007, 3013):
        await runner.say(code, {})
    await runner.say(3001, {})
    assert await runner.hear() == [4004, {}]
    assert records(instance) == []


async def test_an_end_inside_a_message_is_a_warning_and_no_end_of_the_instance(bench: Bench) -> None:
    instance, runner = await bench.running()
    await runner.links[MONITORING].send(b"[3012,{")
    runner.end(MONITORING)
    await until(lambda: records(instance))
    assert "the stream ended inside a line" in messages(instance)[0]
    assert instance.state is State.RUNNING


async def test_an_error_of_stop_handlers_is_in_the_log(bench: Bench) -> None:
    instance, runner = await bench.running()
    await runner.say(3006, {"sequenceError": {"why": "bad"}})
    await until(lambda: records(instance))
    assert records(instance)[0]["data"] == [{"why": "bad"}]


# --- output, stdout, stderr, log --------------------------------------------------------------------------------------


async def test_each_stream_arrives_whole_and_apart(bench: Bench) -> None:
    instance, runner = await bench.running()
    for channel in (OUT, STDOUT, STDERR, LOG):
        await runner.links[channel].send(b"of %d\n" % channel)
    await bench.end(runner)
    assert await read_all(instance.output) == b"of 6\n"
    assert await read_all(instance.stdout) == b"of 1\n"
    assert await read_all(instance.stderr) == b"of 2\n"
    assert (await read_all(instance.log)).startswith(b"of 7\n")


@pytest.mark.parametrize("channel", [STDOUT, STDERR, LOG])
async def test_twenty_megabytes_that_nobody_reads_block_nothing(bench: Bench, channel: int) -> None:
    instance, runner = await bench.running()
    sent = b"".join(b"line %09d\n" % number for number in range(65536))
    for _ in range(20):
        await runner.links[channel].send(sent)
    await runner.say(3001, {"healthy": True})
    assert await runner.hear() == [4004, {}]
    window = {STDOUT: instance.stdout, STDERR: instance.stderr, LOG: instance.log}[channel]
    await until(lambda: window.end_offset == 20 * len(sent))
    assert window.end_offset - window.start <= MIB
    assert window.tail(len(sent)) == sent[-(window.end_offset - window.start) :]


async def test_output_that_nobody_reads_holds_the_runner_up_and_is_all_there_later(bench: Bench) -> None:
    instance, runner = await bench.running(window_bytes=65536)
    sent = bytes(range(256)) * (32 * 1024)
    sending = asyncio.ensure_future(runner.links[OUT].send(sent))
    await until(lambda: instance.output.full)
    done, _ = await asyncio.wait({sending}, timeout=0.05)
    assert not done
    held = instance.output.end_offset
    assert held < 2 * MIB
    await runner.say(3001, {"healthy": True})
    assert await runner.hear() == [4004, {}]
    got = bytearray()
    with instance.output.open() as cursor:
        while len(got) < len(sent):
            got += await asyncio.wait_for(cursor.read(), DEADLINE)
            cursor.acknowledge()
    await sending
    assert bytes(got) == sent


async def test_at_the_end_all_is_taken_that_the_kernel_still_holds(bench: Bench) -> None:
    instance, runner = await bench.running(window_bytes=1024)
    link = runner.links[OUT]
    link.writer.transport.set_write_buffer_limits(high=0)
    sent = 0
    while True:  # until window, hub and kernel take no more
        try:
            async with asyncio.timeout(0.05):
                await link.send(b"x" * 4096)
        except TimeoutError:
            break
        finally:
            sent += 4096
    unsent = link.writer.transport.get_write_buffer_size()
    assert sent - unsent > instance.output.end_offset
    link.writer.transport.abort()
    await bench.end(runner)
    assert len(await read_all(instance.output)) == sent - unsent
    assert instance.state is State.COMPLETED


async def test_a_stream_that_ended_early_does_not_hide_what_comes_on_others(bench: Bench) -> None:
    bench.instance()
    runner = await bench.runner().connect([STDOUT])
    await runner.links[STDOUT].send(b"early")
    runner.end(STDOUT)
    await until(lambda: text_of(bench.instances[ID].stdout) == b"early")
    await runner.connect([channel for channel in NINE if channel != STDOUT])
    await runner.ping()
    await runner.hear()
    for _ in range(200):
        runner.links[OUT].writer.write(b"x" * 1000)
    await runner.links[OUT].writer.drain()
    await bench.end(runner)
    assert len(await read_all(bench.instances[ID].output)) == 200_000


async def test_a_link_that_a_surviving_child_holds_counts_as_drained_when_nothing_is_there(
    bench: Bench,
) -> None:
    instance, runner = await bench.running()
    await runner.links[STDOUT].send(b"said before")
    started = asyncio.get_running_loop().time()
    await bench.end(None, 0)
    assert asyncio.get_running_loop().time() - started < 1
    assert await read_all(instance.stdout) == b"said before"


async def test_links_that_end_are_no_end_of_the_instance(bench: Bench) -> None:
    instance, runner = await bench.running()
    runner.end(OUT, STDOUT, STDERR, LOG, MONITORING)
    await runner.links[OUT].close()
    await asyncio.sleep(0)
    assert not instance.is_over
    assert not instance.output.ended
    await bench.end(runner)
    assert instance.terminated == {"exitcode": 0, "reason": "Instance completed"}


async def test_records_of_the_hub_stand_between_lines(bench: Bench) -> None:
    instance, runner = await bench.running()
    log = runner.links[LOG]
    await log.send(b'{"msg":"one"}\n{"msg":')
    await until(lambda: text_of(instance.log) == b'{"msg":"one"}\n')
    await runner.say(9999, {})
    await until(lambda: len(records(instance)) == 2)
    await log.send(b'"two"}\nthree')
    await until(lambda: len(records(instance)) == 3)
    await bench.end(runner)
    lines = text_of(instance.log).splitlines()
    assert lines[0] == b'{"msg":"one"}'
    assert b"unknown message code 9999" in lines[1]
    assert lines[2] == b'{"msg":"two"}'
    assert b"Instance completed (exit code 0)" in lines[3]
    assert lines[4:] == [b"three"]
    assert text_of(instance.log).endswith(b"\n")


async def test_a_log_line_without_end_is_cut_and_not_kept_for_ever(bench: Bench) -> None:
    instance, runner = await bench.running()
    await runner.links[LOG].send(b"y" * 200_000)
    await until(lambda: instance.log.end_offset >= 65536)
    assert text_of(instance.log).replace(b"\n", b"") == b"y" * text_of(instance.log).count(b"y")


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "state", "exit_code", "reason"),
    [
        (0, "completed", 0, "Instance completed"),
        (1, "errored", 1, "Runner failed: the last word"),
        (10, "errored", 10, "Sequence unpack failed: the last word"),
        (11, "errored", 11, "Runner failed: the last word"),
        (20, "errored", 20, "Runner was started with invalid configuration"),
        (21, "errored", 21, "Sequence entrypoint path lib/go.py is invalid"),
        (22, "errored", 22, "Sequence failed on start: the last word"),
        (23, "errored", 23, "Sequence failed during execution: the last word"),
        (24, "errored", 24, "Instance limit reached: the last word"),
        (77, "errored", 77, "Runner failed: the last word"),
        (137, "completed", 137, "Instance killed"),
        (138, "completed", 138, "Instance stopped"),
        (-9, "errored", 137, "Runner was ended by SIGKILL: the last word"),
        (-11, "errored", 139, "Runner was ended by SIGSEGV: the last word"),
        (-64, "errored", 192, "Runner was ended by "),
    ],
)
async def test_every_exit_code_has_its_state_and_its_reason(
    bench: Bench, code: int, state: str, exit_code: int, reason: str
) -> None:
    instance, runner = await bench.running(main="lib/go.py")
    await runner.links[STDERR].send(b"Traceback:\n  x\nthe last word\n\n  \n")
    await bench.end(runner, code)
    assert instance.state == state
    assert instance.terminated is not None
    assert instance.terminated["exitcode"] == exit_code
    assert type(instance.terminated["exitcode"]) is int
    assert instance.terminated["reason"].startswith(reason)
    assert instance.failed is (state == "errored")
    last = records(instance)[-1]
    assert last["level"] == ("ERROR" if instance.failed else "INFO")
    assert f"(exit code {exit_code})" in last["msg"]


async def test_output_of_a_failure_is_all_there_and_ends_as_one(bench: Bench) -> None:
    instance, runner = await bench.running()
    await runner.links[OUT].send(b"a part")
    await bench.end(runner, 23)
    with instance.output.open() as cursor:
        assert await cursor.read() == b"a part"
        with pytest.raises(StreamFailed, match="Sequence failed during execution"):
            await cursor.read()
    assert await read_all(instance.stdout) == b""
    assert await read_all(instance.stderr) == b""


async def test_a_runner_that_dies_before_it_connects_is_heard_by_its_last_words(bench: Bench) -> None:
    instance = bench.instance()
    bench.process.said = b"starting\nImportError: no module\n"
    await bench.end(None, 20)
    assert instance.terminated is not None
    assert instance.terminated["reason"].endswith("ImportError: no module")
    said = records(instance)[0]
    assert said["msg"] == "the runner said before it was connected"
    assert said["data"] == ["starting\nImportError: no module\n"]
    assert not instance.up.is_set()
    assert bench.process.closed


async def test_last_words_of_a_success_are_no_news(bench: Bench) -> None:
    bench.process.said = b"a warning of some library\n"
    instance, runner = await bench.running()
    await bench.end(runner)
    assert messages(instance) == ["Instance completed (exit code 0)"]


async def test_a_process_that_never_connects_is_ended(bench: Bench) -> None:
    instance = bench.instance(start_timeout=0.05)
    await bench.runner().connect(REQUIRED)  # but no PING
    await asyncio.wait_for(instance.over.wait(), DEADLINE)
    assert instance.state is State.ERRORED
    assert messages(instance)[0] == "the runner has not connected within 0.05 s and is ended"


async def test_a_process_that_has_its_pong_may_take_its_time(bench: Bench) -> None:
    instance = bench.instance(launched=False, start_timeout=0.05)
    runner = await bench.runner().connect()
    await runner.ping()
    await runner.hear()
    bench.launch(instance)
    await instance.wait_until_up(0.1)
    assert instance.state is State.STARTING
    assert bench.process.kills == 0


async def test_a_link_to_an_instance_that_has_ended_is_refused(bench: Bench) -> None:
    _, runner = await bench.running()
    await bench.end(runner)
    late = await connect(bench.path)
    await late.send(f"{ID}1".encode())
    assert await late.is_refused()
    await late.close()


async def test_the_end_kills_what_the_sequence_has_left(bench: Bench) -> None:
    _, runner = await bench.running()
    await bench.end(runner)
    assert bench.process.kills == 1
    assert bench.process.closed


async def test_a_removed_instance_cuts_its_readers_off(bench: Bench) -> None:
    instance, runner = await bench.running()
    await bench.end(runner)
    with instance.log.open("latest") as cursor:
        instance.close()
        with pytest.raises(WindowClosed):
            await cursor.read()


async def test_a_late_promise_to_exit_is_held_to(bench: Bench) -> None:
    instance, runner = await bench.running()
    await runner.say(3011, {"timeout": 3_600_000})
    await runner.say(3001, {})
    assert await runner.hear() == [4004, {}]
    life = instance._life
    assert life.deadline is not None
    assert life.deadline - asyncio.get_running_loop().time() > 3000


# --- input and stdin --------------------------------------------------------------------------------------------------


async def test_the_first_request_writes_the_header_and_decides_the_type(bench: Bench) -> None:
    instance, runner = await bench.running()
    async with await instance.input_writer("application/x-ndjson") as first:
        await first.write(b"1\n")
    async with await instance.input_writer("text/plain") as second:
        await second.write(b"2\n")
    async with await instance.input_writer("") as third:
        await third.write(b"3\n")
    await instance.input.end()
    await instance.input.end()
    assert await runner.links[IN].rest() == b"Content-Type: application/x-ndjson\r\n\r\n1\n2\n3\n"
    with pytest.raises(Gone, match="input has ended"):
        await instance.input_writer("text/plain")


async def test_input_without_a_type_is_refused_and_does_not_spoil_the_next(bench: Bench) -> None:
    instance, runner = await bench.running()
    with pytest.raises(NotAcceptable, match="Content-Type must be defined"):
        await instance.input_writer("")
    with pytest.raises(LocalProtocolError):
        await instance.input_writer("text/plain; x=\u65e5")
    async with await instance.input_writer("text/plain"):
        pass
    await instance.input.end()
    assert await runner.links[IN].rest() == b"Content-Type: text/plain\r\n\r\n"


async def test_input_waits_for_the_pang(bench: Bench) -> None:
    instance = bench.instance()
    opening = asyncio.ensure_future(instance.input_writer("text/plain"))
    runner = await bench.runner().connect()
    await runner.ping()
    await runner.hear()
    assert not opening.done()
    await runner.say(3012, {})
    async with await asyncio.wait_for(opening, DEADLINE) as writer:
        await writer.write(b"x")
    assert await runner.links[IN].exactly(29) == b"Content-Type: text/plain\r\n\r\nx"


async def test_input_of_a_sequence_that_reads_a_topic_is_refused(bench: Bench) -> None:
    instance = bench.instance()
    await bench.runner().start(requires="topic", contentType="text/plain")
    with pytest.raises(NotAcceptable, match="Input provided in other way"):
        await instance.input_writer("text/plain")


async def test_a_header_that_the_runner_has_read_is_not_written_again(bench: Bench) -> None:
    instance = bench.instance()
    runner = await bench.runner().connect()
    await runner.ping(inputHeadersSent=True)
    await runner.hear()
    await runner.say(3012, {})
    async with await instance.input_writer("text/plain") as writer:
        await writer.write(b"x")
    await instance.input.end()
    assert await runner.links[IN].rest() == b"x"


async def test_writers_of_lines_do_not_write_into_each_others_lines(bench: Bench) -> None:
    instance, runner = await bench.running()

    async def write(letter: bytes) -> None:
        async with await instance.input_writer("text/plain") as writer:
            for number in range(100):
                for piece in (letter * 10, letter * (number + 1), b"\n"):
                    await writer.write(piece)
                    await asyncio.sleep(0)

    await asyncio.gather(*(write(letter) for letter in (b"a", b"b", b"c")))
    await instance.input.end()
    lines = (await runner.links[IN].rest()).split(b"\r\n\r\n", 1)[1].splitlines()
    assert len(lines) == 300
    assert all(len(set(line)) == 1 for line in lines)
    letters = [bytes(line[:1]) for line in lines]
    assert len(list(itertools.groupby(letters))) > 3  # they did take turns


async def test_writers_of_octets_take_turns_by_chunks(bench: Bench) -> None:
    instance, runner = await bench.running()
    async with await instance.input_writer("Application/Octet-Stream") as first:
        await first.write(b"aa")
        async with await instance.input_writer("") as second:
            await asyncio.wait_for(second.write(b"bb"), DEADLINE)
        await first.write(b"cc")
    await instance.input.end()
    assert (await runner.links[IN].rest()).endswith(b"\r\n\r\naabbcc")


async def test_a_writer_is_held_up_by_a_runner_that_does_not_read(bench: Bench) -> None:
    instance, runner = await bench.running()
    async with await instance.input_writer("application/octet-stream") as writer:
        writing = asyncio.ensure_future(writer.write(b"x" * (16 * MIB)))
        done, _ = await asyncio.wait({writing}, timeout=0.05)
        assert not done
        await runner.links[IN].exactly(16 * MIB)
        await asyncio.wait_for(writing, DEADLINE)


async def test_a_writer_that_waits_learns_of_the_end(bench: Bench) -> None:
    instance, runner = await bench.running()
    async with await instance.input_writer("application/octet-stream") as writer:
        writing = asyncio.ensure_future(writer.write(b"x" * (16 * MIB)))
        await asyncio.wait({writing}, timeout=0.02)
        await bench.end(runner, 1)
        with pytest.raises(Gone):
            await asyncio.wait_for(writing, DEADLINE)
        with pytest.raises(Gone):
            await writer.write(b"more")


async def test_stdin_has_no_header_and_ends_when_told(bench: Bench) -> None:
    instance = bench.instance()
    opening = asyncio.ensure_future(instance.stdin.link())
    runner = await bench.runner().connect([STDIN])
    await asyncio.wait_for(opening, DEADLINE)
    async with instance.stdin.writer(lines=False) as writer:
        await writer.write(b"plain")
    await instance.stdin.end()
    assert await runner.links[STDIN].rest() == b"plain"
    with pytest.raises(Gone, match="stdin has ended"):
        await instance.stdin.link()


@pytest.mark.parametrize("inlet", [lambda one: one.input_writer("text/plain"), lambda one: one.stdin.link()])
async def test_nothing_can_be_sent_after_the_end(bench: Bench, inlet: Callable[[Instance], Any]) -> None:
    instance, runner = await bench.running()
    await bench.end(runner)
    with pytest.raises(Gone):
        await asyncio.wait_for(inlet(instance), DEADLINE)


# --- what is shown ----------------------------------------------------------------------------------------------------


async def test_what_is_shown_grows_with_the_life(bench: Bench) -> None:
    instance = bench.instance(launched=False, config={"k": 1}, args=["x"])
    shown = instance.describe()
    assert shown.pop("created").endswith("Z")
    assert shown == {
        "id": ID, "appConfig": {"k": 1}, "args": ["x"], "provides": "", "status": "initializing",
    }  # fmt: skip
    bench.launch(instance)
    assert instance.describe()["status"] == "starting"
    runner = await bench.runner().connect()
    await runner.ping(ports={"80/tcp": 8080})
    await runner.hear()
    await runner.say(3012, {"requires": "in", "provides": "out"})
    await instance.wait_until_up(DEADLINE)
    shown = instance.describe()
    assert (shown["status"], shown["requires"], shown["provides"]) == ("running", "in", "out")
    assert shown["ports"] == {"80/tcp": 8080}
    await bench.end(runner, 23)
    shown = instance.describe()
    assert set(shown) == {
        "id", "appConfig", "args", "provides", "requires", "ports", "created", "started", "ended", "status", "terminated",
    }  # fmt: skip
    assert shown["created"] <= shown["started"] <= shown["ended"]
    assert len(shown["ended"]) == len("2026-11-23T18:19:56.652Z")
    assert json.loads(json.dumps(shown))["status"] == "errored"


# --- runners that people already have ---------------------------------------------------------------------------------


async def test_the_output_of_a_runner_that_lingers_ends_with_its_next_report(bench: Bench) -> None:
    instance, runner = await bench.running()
    await runner.links[OUT].send(b"all")
    await runner.say(3011, {})
    await runner.say(3001, {})
    assert await runner.hear() == [4004, {}]
    assert not instance.output.ended, "OUT is still open"
    runner.end(OUT)
    await until(lambda: instance._open_outbound.isdisjoint({OUT}))
    assert not instance.output.ended, "a runner whose Sequence failed says the same up to here"
    await runner.say(3001, {})
    async with asyncio.timeout(DEADLINE):
        assert await read_all(instance.output) == b"all"
    assert instance.state is State.RUNNING
    await bench.end(runner)
    assert instance.terminated == {"exitcode": 0, "reason": "Instance completed"}


async def test_the_output_of_a_runner_that_leaves_at_once_is_judged_by_its_exit_code(bench: Bench) -> None:
    instance, runner = await bench.running()
    await runner.links[OUT].send(b"all")
    await runner.say(3011, {})
    await bench.end(runner, 23)
    with pytest.raises(StreamFailed):
        await read_all(instance.output)


@pytest.mark.parametrize(("members", "shown"), [({}, 23), ({"status": "starting"}, 20)])
async def test_the_code_for_a_failure_is_known_by_the_dialect(
    bench: Bench, members: dict[str, Any], shown: int
) -> None:
    instance = bench.instance()
    runner = await bench.runner().connect(REQUIRED)
    await runner.ping(**members)
    await runner.hear()
    await runner.say(3012, {"requires": ""})
    await runner.say(3011, {})
    await bench.end(runner, 20)
    assert (instance.terminated or {})["exitcode"] == shown


@pytest.mark.parametrize("members", [{}, {"status": "starting"}])
async def test_an_old_runner_that_reads_a_topic_is_told_that_it_is_connected(
    bench: Bench, members: dict[str, Any]
) -> None:
    bench.instance()
    runner = await bench.runner().connect(REQUIRED)
    await runner.ping(**members)
    await runner.hear()
    await runner.say(3012, {"requires": "names", "contentType": "text/plain"})
    await runner.say(3001, {})
    heard = [await runner.hear() for _ in range(1 if members else 2)]
    assert heard == [[4004, {}]] if members else [[3013, {"connected": True}], [4004, {}]]


async def test_a_node_runner_has_read_the_header_before_the_first_byte_comes(bench: Bench) -> None:
    instance, runner = await bench.running(main="index.js", language="node")
    sending = [asyncio.ensure_future(instance.input_writer("application/octet-stream")) for _ in range(2)]
    header = b"Content-Type: application/octet-stream\r\n\r\n"
    assert await runner.links[IN].exactly(len(header)) == header
    assert not any(one.done() for one in sending)
    await runner.links[LOG].send(b'{"level":"DEBUG","msg":"Content-Type","from":"Runner"}\n')
    async with asyncio.timeout(DEADLINE):
        for number, one in enumerate(sending):
            async with await one as writer:
                await writer.write(b"%d" % number)
    assert await runner.links[IN].exactly(2) == b"01"


async def test_a_node_runner_that_does_not_say_so_has_a_second(bench: Bench) -> None:
    instance, runner = await bench.running(main="index.js", language="node")
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(DEADLINE), await instance.input_writer("text/plain") as writer:
        await writer.write(b"x")
    assert asyncio.get_running_loop().time() - began >= 1.0
    assert await runner.links[IN].exactly(29) == b"Content-Type: text/plain\r\n\r\nx"


async def test_an_instance_that_is_removed_while_its_runner_reads_the_header_lets_the_writer_go(
    bench: Bench,
) -> None:
    instance, runner = await bench.running(main="index.js", language="node")
    sending = asyncio.ensure_future(instance.input_writer("text/plain"))
    await runner.links[IN].exactly(28)
    await bench.end(runner)
    instance.close()
    async with asyncio.timeout(DEADLINE), await sending as writer:
        with pytest.raises(Gone, match="input has ended"):
            await writer.write(b"x")
