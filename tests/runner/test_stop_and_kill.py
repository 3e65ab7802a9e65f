"""How a Sequence ends before its time: stop, kill, a hub that is gone, and the author's own exit."""

import json
import os
import signal
import time

import psutil
import pytest

from runner.protocol.bpmux import DataReceived, Multiplexer

from .conftest import Write
from .fake_hub import ALIVE, IN, LOG, MONITOR, OUT, PACKAGE, PANG, PING, STDERR, STDOUT, STOPPED, FakeHub

WAITING = """
    import asyncio
    async def run(context, input):
        HANDLERS
        context.emit("ready")
        yield "given "
        await asyncio.Event().wait()
"""


def stop(hub: FakeHub, timeout: float = 7000, keep_alive: bool = False) -> None:
    hub.say(4001, {"timeout": timeout, "canCallKeepalive": keep_alive})


def test_a_stop_calls_the_handlers_in_order_with_seconds(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                async def first(seconds, can_keep_alive):
                    await asyncio.sleep(0.01)
                    print("first", seconds, can_keep_alive)
                async def second(seconds, can_keep_alive):
                    print("second")
                context.set_stop_handler(first, "ignored")
                context.set_stop_handler(second)
                context.set_stop_handler(lambda *args: print("third", args))
                context.emit("ready")
                try:
                    await asyncio.Event().wait()
                finally:
                    print("closed")
            """
        )
    )
    hub.event("ready")
    stop(hub, 2500, keep_alive=True)
    assert hub.stdout() == "first 2.5 True\nsecond\nthird (2.5, True)\nclosed\n"
    assert hub.wait() == 138
    assert hub.last_messages()[-1] == [STOPPED, {}]
    assert hub.stderr() == ""


def test_a_stop_without_members_has_the_defaults_of_the_contract(hub: FakeHub, write: Write) -> None:
    hub.start(write(WAITING.replace("HANDLERS", "context.set_stop_handler(lambda *args: print(args))")))
    hub.event("ready")
    hub.say(4001)
    assert hub.stdout() == "(7.0, False)\n"
    assert hub.wait() == 138


def test_a_stop_without_handlers_closes_the_generator_and_flushes_all_it_gave(
    hub: FakeHub, write: Write
) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                try:
                    for number in range(1000):
                        yield f"{number}\\n"
                    context.emit("ready")
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    yield "cancelled\\n"
                    raise
                finally:
                    await asyncio.sleep(0.01)
                    yield "last\\n"
            """
        )
    )
    hub.event("ready")
    stop(hub)
    assert hub.output() == b"".join(b"%d\n" % n for n in range(1000)) + b"cancelled\nlast\n"
    assert hub.wait() == 138
    assert hub.last_messages()[-1] == [STOPPED, {}]


def test_a_stop_while_the_hub_does_not_read_waits_for_all_that_was_given(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            async def run(context, input):
                context.set_stop_handler(lambda *_: print("stopping"))
                try:
                    for number in range(100):
                        yield f"{number:03}" * 40_000
                finally:
                    print("given", number)
            """
        )
    )
    hub.links[OUT].read(1)
    stop(hub)
    assert hub.links[STDOUT].line() == b"stopping\n"
    given = int(hub.links[STDOUT].line().split()[1]) + 1
    assert given < 100
    assert hub.output() == b"".join(b"%03d" % n * 40_000 for n in range(given))[1:]
    assert hub.wait() == 138


def test_a_stopped_coroutine_is_cancelled(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                context.emit("ready")
                try:
                    async for _ in input: pass
                except asyncio.CancelledError:
                    print("cancelled")
                    raise
            """
        )
    )
    hub.event("ready")
    stop(hub)
    assert hub.stdout() == "cancelled\n"
    assert hub.wait() == 138


def test_a_sequence_that_ends_while_its_stop_handler_runs_is_stopped_all_the_same(
    hub: FakeHub, write: Write
) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                end = asyncio.Event()
                async def stop(seconds, can_keep_alive):
                    end.set()
                    await asyncio.sleep(0.05)
                    print("handler is through")
                context.set_stop_handler(stop)
                context.emit("ready")
                await end.wait()
                yield "last"
            """
        )
    )
    hub.event("ready")
    stop(hub)
    assert hub.output() == b"last"
    assert hub.stdout() == "handler is through\n"
    assert hub.wait() == 138
    assert hub.last_messages()[-1] == [STOPPED, {}]


def test_an_error_while_stopping_is_shown_and_is_no_failure(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                context.emit("ready")
                try:
                    await asyncio.Event().wait()
                finally:
                    raise ValueError("in cleanup")
            """
        )
    )
    hub.event("ready")
    stop(hub)
    assert hub.stderr().endswith("ValueError: in cleanup\n")
    assert hub.wait() == 138


def test_a_handler_that_raises_is_reported_and_the_next_one_is_called(hub: FakeHub, write: Write) -> None:
    entry = write(
        """
        import asyncio
        async def run(context, input):
            async def bad(*_):
                raise ValueError("bad handler")
            context.set_stop_handler(bad)
            context.set_stop_handler(lambda *_: print("next"))
            context.emit("ready")
            await asyncio.Event().wait()
        """
    )
    hub.start(entry)
    hub.event("ready")
    stop(hub)
    assert hub.stdout() == "next\n"
    assert hub.wait() == 138
    assert hub.last_messages()[-1] == [STOPPED, {"sequenceError": "ValueError: bad handler"}]
    assert hub.stderr() == (
        f'Traceback (most recent call last):\n  File "{entry}", line 5, in bad\n'
        '    raise ValueError("bad handler")\nValueError: bad handler\n'
    )
    (record,) = hub.log()
    assert record["msg"] == "a stop handler failed: ValueError: bad handler"


def test_a_handler_that_awaits_a_task_it_cancelled_does_not_hang_the_stop(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                work = asyncio.create_task(asyncio.sleep(60))
                async def stop(*_):
                    work.cancel()
                    await work
                context.set_stop_handler(stop)
                context.emit("ready")
                await asyncio.Event().wait()
            """
        )
    )
    hub.event("ready")
    stop(hub)
    assert hub.wait() == 138
    assert hub.last_messages()[-1][0] == STOPPED


KEEP_ALIVE = WAITING.replace(
    "HANDLERS",
    """stops = []
        async def stop(seconds, can_keep_alive):
            stops.append(seconds)
            if len(stops) == 1:
                await context.keep_alive(0.05)
            context.emit("handled")
        context.set_stop_handler(stop)""",
)


def test_a_sequence_with_leave_to_live_on_lives_on(hub: FakeHub, write: Write) -> None:
    hub.start(write(KEEP_ALIVE))
    hub.event("ready")
    stop(hub, keep_alive=True)
    assert hub.until(ALIVE) == {"keepAlive": 50.0}
    hub.event("handled")
    hub.say(4003, {"monitoringRate": 50})
    for _ in range(3):
        hub.until(MONITOR)
    assert hub.alive
    stop(hub)
    hub.event("handled")
    assert hub.wait() == 138
    assert hub.output() == b"given "
    assert [code for code, _ in hub.last_messages()].count(STOPPED) == 1


def test_after_a_stop_that_was_called_off_a_kill_is_a_kill(hub: FakeHub, write: Write) -> None:
    hub.start(write(KEEP_ALIVE))
    hub.event("ready")
    stop(hub, keep_alive=True)
    hub.event("handled")
    hub.say(4003, {"monitoringRate": 50})
    for _ in range(3):
        hub.until(MONITOR)
    hub.say(4002)
    assert hub.wait() == 137


def test_without_leave_keep_alive_does_not_keep_alive(hub: FakeHub, write: Write) -> None:
    hub.start(write(KEEP_ALIVE))
    hub.event("ready")
    stop(hub, keep_alive=False)
    assert hub.until(ALIVE) == {"keepAlive": 50.0}
    assert hub.wait() == 138


def test_a_second_stop_changes_nothing(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            WAITING.replace(
                "HANDLERS",
                """async def stop(*_):
            context.emit("stopping")
            await asyncio.sleep(0.05)
            print("once")
        context.set_stop_handler(stop)""",
            )
        )
    )
    hub.event("ready")
    stop(hub)
    hub.event("stopping")
    stop(hub)
    assert hub.stdout() == "once\n"
    assert hub.wait() == 138


BLOCKED_IN_THREAD = """
    import threading
    def run(context, input):
        context.emit("ready")
        yield "given"
        context.emit("blocked")
        BLOCK
"""


@pytest.mark.parametrize(
    "block", ["threading.Event().wait()", "open(0).read()", "for line in __import__('sys').stdin: pass"]
)
def test_a_generator_that_is_blocked_in_its_thread_is_stopped(hub: FakeHub, write: Write, block: str) -> None:
    hub.start(write(BLOCKED_IN_THREAD.replace("BLOCK", block)))
    hub.event("blocked")
    assert hub.links[OUT].read(5) == b"given"
    stop(hub)
    assert hub.wait() == 138
    assert hub.stderr() == ""


def test_a_generator_at_rest_is_closed_in_its_thread(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            def run(context, input):
                given = 0
                async def wait_until_it_rests(*_):
                    seen = -1
                    while seen != given:
                        seen = given
                        await asyncio.sleep(0.05)
                    context.emit("rests")
                context.set_stop_handler(wait_until_it_rests)
                try:
                    while True:
                        yield "x" * 100_000
                        given += 1
                finally:
                    print("closed")
            """
        )
    )
    hub.links[OUT].read(1)
    stop(hub)
    hub.event("rests")
    hub.output()
    assert hub.stdout() == "closed\n"
    assert hub.wait() == 138
    assert hub.last_messages()[-1] == [STOPPED, {}]


def test_a_stop_while_importing_ends_before_the_function_is_called(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import sys
            print("importing")
            sys.stdin.readline()
            print("imported")
            def run(context, input): print("called")
            """
        )
    )
    assert hub.links[STDOUT].line() == b"importing\n"
    stop(hub)
    hub.say(9999)  # the warning about it says that the stop has been read
    assert b"9999" in hub.links[LOG].line()
    hub.links[0].send(b"go\n")
    assert hub.stdout() == "imported\n"
    assert hub.wait() == 138
    assert [code for code, _ in hub.last_messages()] == [PING, STOPPED]


def test_a_stop_before_the_pong_is_an_exit_at_once(hub: FakeHub, write: Write) -> None:
    hub.launch(write("print('loaded')\ndef run(context, input): pass"))
    hub.accept()
    hub.message()
    stop(hub)
    assert hub.wait() == 138
    assert hub.stdout() == ""


def test_background_tasks_are_cancelled_by_a_stop(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def background(context):
                try:
                    context.emit("ready")
                    await asyncio.Event().wait()
                finally:
                    print("background is cancelled")
            async def run(context, input):
                context.task = asyncio.create_task(background(context), name="background")
                return "x"
            """
        )
    )
    hub.event("ready")
    assert hub.output() == b"x"
    assert json.loads(hub.links[LOG].line())["msg"] == "the output has ended; waiting for background"
    stop(hub)
    assert hub.stdout() == "background is cancelled\n"
    assert hub.wait() == 138


# --- kill ---------------------------------------------------------------------------------------------------------------


BUSY = """
    import sys
    async def run(context, input):
        context.emit("busy")
        while True: pass
"""


def test_a_kill_ends_a_busy_loop(hub: FakeHub, write: Write) -> None:
    unforced = "    from runner.protocol import lifecycle\n    lifecycle.KILL_GRACE = 60\n"
    hub.start(write(unforced + BUSY))
    hub.event("busy")
    hub.say(4002)
    assert hub.wait() == 137


def test_a_kill_after_a_stop_is_138(hub: FakeHub, write: Write) -> None:
    hub.start(write(BUSY))
    hub.event("busy")
    stop(hub)
    hub.say(4002)
    assert hub.wait() == 138


def test_a_kill_ends_a_busy_import(hub: FakeHub, write: Write) -> None:
    hub.start(write("print('importing')\nwhile True: pass"))
    assert hub.links[STDOUT].line() == b"importing\n"
    hub.say(4002)
    assert hub.wait() == 137


def test_a_kill_before_the_pong_is_honoured(hub: FakeHub, write: Write) -> None:
    hub.launch(write("def run(context, input): pass"))
    hub.accept()
    hub.say(4002)
    assert hub.wait() == 137


@pytest.mark.parametrize(
    "block",
    [
        "print('p' * 20_000_000)",
        "[context.logger.info('l' * 100_000) for _ in range(200)]",
        "[context.emit('e', 'm' * 100_000) for _ in range(200)]",
        "yield 'o' * 20_000_000",
        "__import__('subprocess').run(['sleep', '60'])",
    ],
)
def test_a_kill_waits_for_no_hub_that_does_not_read(hub: FakeHub, write: Write, block: str) -> None:
    hub.start(write(f"async def run(context, input):\n    context.emit('ready')\n    {block}\n    yield ''"))
    hub.event("ready")
    hub.links[3].send(b"not a message\n" * 20)  # warnings about it must not wait for LOG either
    hub.say(4002)
    assert hub.wait() == 137


def test_a_kill_ends_exit_handlers_that_hang(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import atexit, time
            @atexit.register
            def hang():
                print("hanging")
                time.sleep(60)
            def run(context, input): pass
            """
        )
    )
    assert hub.links[STDOUT].line() == b"hanging\n"
    hub.say(4002)
    assert hub.wait() == 137


def test_a_kill_runs_no_stop_handler_and_no_finally(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio, atexit
            atexit.register(print, "exit handler")
            async def run(context, input):
                context.set_stop_handler(lambda *_: print("stop handler"))
                context.emit("ready")
                try:
                    await asyncio.Event().wait()
                finally:
                    print("finally")
            """
        )
    )
    hub.event("ready")
    hub.say(4002)
    assert hub.wait() == 137
    assert hub.stdout() == ""


KILL_HANDLERS = """
    import asyncio, time
    async def run(context, input):
        HANDLERS
        context.emit("ready")
        yield "given "
        await end.wait()
"""


def killed(hub: FakeHub, write: Write, handlers: str) -> float:
    """Kill a Sequence with these kill handlers; return how long that takes."""
    hub.start(write(KILL_HANDLERS.replace("HANDLERS", "end = asyncio.Event()\n        " + handlers)))
    hub.event("ready")
    start = time.monotonic()
    hub.say(4002)
    assert hub.wait() == 137
    return time.monotonic() - start


def test_kill_handlers_run_all_together_sync_and_async(hub: FakeHub, write: Write) -> None:
    killed(
        hub,
        write,
        """from runner.protocol import lifecycle
        lifecycle.KILL_GRACE = lifecycle.KILL_HANDLERS_GRACE = 60  # handlers that are through are not waited for
        async def slow(name):
            await asyncio.sleep(0.02)
            print(name)
        context.add_kill_handler(lambda: slow("slow"))
        context.add_kill_handler(lambda: 1 / 0)
        context.add_kill_handler(lambda: print("quick", end=""))
        context.add_kill_handler(lambda: context.emit("killed", 1))""",
    )
    assert hub.stdout() == "quickslow\n"
    assert hub.event("killed") == 1
    assert [record["msg"] for record in hub.log()] == ["a kill handler failed"]


@pytest.mark.parametrize(
    "handlers",
    [
        "context.add_kill_handler(asyncio.Event().wait)",
        "context.add_kill_handler(lambda: time.sleep(60))",
        "for _ in 'ab': context.add_kill_handler(lambda: asyncio.current_task().cancel() and asyncio.sleep(60))",
        "context.add_kill_handler(lambda: exit(3)); context.add_kill_handler(asyncio.Event().wait)",
        "context.add_kill_handler(end.set); context.add_kill_handler(asyncio.Event().wait)",
        "context.add_kill_handler(context.end); context.add_kill_handler(asyncio.Event().wait)",
        "context.add_kill_handler(lambda: [task.cancel() for task in asyncio.all_tasks()])",
    ],
    ids=[
        "waits",
        "blocks",
        "are cancelled",
        "exits",
        "ends the function",
        "ends the Sequence",
        "cancels all",
    ],
)
def test_kill_handlers_cannot_hold_a_kill_up_nor_make_another_end_of_it(
    hub: FakeHub, write: Write, handlers: str
) -> None:
    assert killed(hub, write, handlers) < 2


def test_a_blocked_loop_delays_a_kill_by_its_grace_only(hub: FakeHub, write: Write) -> None:
    took = killed(
        hub, write, "context.add_kill_handler(lambda: print('never')); context.emit('ready'); time.sleep(60)"
    )
    assert 0.15 < took < 2
    assert hub.stdout() == ""


# --- the end that the Sequence asks for ---------------------------------------------------------------------------------

END = """
    import asyncio, threading
    async def background():
        try:
            await asyncio.Event().wait()
        finally:
            print("background is closed")
    async def run(context, input):
        task = asyncio.create_task(background())
        try:
            yield "given "
            END
            await asyncio.Event().wait()
            yield "never"
        finally:
            print("closed")
"""
ENDS = {
    "the function": "context.{}",
    "a task": "asyncio.get_running_loop().call_soon(lambda: context.{})",
    "a thread": "threading.Thread(target=lambda: context.{}).start()",
}


@pytest.mark.parametrize("place", ENDS)
def test_end_is_as_if_the_function_had_returned(hub: FakeHub, write: Write, place: str) -> None:
    hub.start(write(END.replace("END\n", ENDS[place].format("end()") + "\n", 1)))
    assert hub.output() == b"given "
    assert hub.stdout() == "closed\nbackground is closed\n"
    assert hub.stderr() == ""
    assert hub.wait() == 0
    assert [code for code, _ in hub.last_messages()] == [PING, PANG, PANG]


@pytest.mark.parametrize("place", ENDS)
def test_destroy_is_as_if_the_function_had_raised(hub: FakeHub, write: Write, place: str) -> None:
    hub.start(write(END.replace("END\n", ENDS[place].format("destroy(ValueError('no more'))") + "\n", 1)))
    assert hub.output() == b"given "
    assert hub.stdout() == "closed\nbackground is closed\n"
    assert hub.stderr().endswith("ValueError: no more\n")
    assert hub.wait() == 23
    (record,) = hub.log()
    assert record["msg"] == "the Sequence has ended itself as failed: ValueError: no more"


@pytest.mark.parametrize(("said", "code"), [("end()", 0), ("destroy('broken')", 23)])
def test_a_plain_generator_ends_itself_too(hub: FakeHub, write: Write, said: str, code: int) -> None:
    hub.start(
        write(
            f"""
            def run(context, input):
                yield "given"
                context.{said}
                while True:
                    yield ""
            """
        )
    )
    assert hub.output() == b"given"
    assert hub.stderr() == ("sequence_sdk.context.Destroyed: broken\n" if code else "")
    assert hub.wait() == code


def test_the_first_end_counts_and_a_failure_on_the_way_is_a_failure(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                context.end()
                context.destroy()
                try:
                    await asyncio.Event().wait()
                finally:
                    raise ValueError("in cleanup")
            """
        )
    )
    assert hub.stderr().endswith("ValueError: in cleanup\n")
    assert hub.wait() == 23


@pytest.mark.parametrize(("said", "code"), [("end()", 0), ("destroy()", 23)])
def test_a_function_that_hides_its_end_ends_all_the_same(
    hub: FakeHub, write: Write, said: str, code: int
) -> None:
    hub.start(
        write(
            f"""
            import asyncio
            async def run(context, input):
                asyncio.create_task(asyncio.Event().wait())
                context.{said}
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    yield "hidden"
            """
        )
    )
    assert hub.output() == b"hidden"
    assert hub.wait() == code


@pytest.mark.parametrize(("said", "code"), [("end()", 0), ("destroy()", 23)])
def test_a_task_that_is_left_running_ends_the_sequence(
    hub: FakeHub, write: Write, said: str, code: int
) -> None:
    hub.start(
        write(
            f"""
            import asyncio, sys
            async def background(context):
                await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
                context.{said}
                await asyncio.Event().wait()
            async def run(context, input):
                context.task = asyncio.create_task(background(context))
                return "x"
            """
        )
    )
    assert hub.output() == b"x"
    hub.links[0].send(b"go\n")
    assert hub.wait() == code


def test_an_end_while_stopping_is_a_stop(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            WAITING.replace(
                "HANDLERS", "context.set_stop_handler(lambda *_: context.destroy(ValueError('no')))"
            )
        )
    )
    hub.event("ready")
    stop(hub)
    assert hub.stderr().endswith("ValueError: no\n")
    assert hub.wait() == 138
    assert hub.last_messages()[-1] == [STOPPED, {}]


# --- the deadline -------------------------------------------------------------------------------------------------------


def test_a_stop_has_a_deadline_on_the_clock_of_the_loop_until_it_is_called_off(
    hub: FakeHub, write: Write
) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                loop = asyncio.get_running_loop()
                async def stop(seconds, can_keep_alive):
                    context.emit("left", context.deadline - loop.time())
                    if can_keep_alive:
                        await context.keep_alive()
                context.add_stop_handler(stop)
                context.on("tell", lambda _: context.emit("told", context.deadline))
                context.emit("ready", context.deadline)
                try:
                    await asyncio.Event().wait()
                finally:
                    try:
                        async with asyncio.timeout_at(context.deadline):
                            await asyncio.Event().wait()
                    except TimeoutError:
                        print("the deadline has come")
            """
        )
    )
    assert hub.event("ready") is None
    stop(hub, 60_000, keep_alive=True)
    assert 55 < hub.event("left") <= 60
    hub.until(ALIVE)
    hub.say(5001, {"eventName": "tell"})
    while hub.event("told") is not None:  # the answer to the keep-alive may be on its way still
        hub.say(5001, {"eventName": "tell"})
    stop(hub, 300)
    assert 0 < hub.event("left") <= 0.3
    assert hub.stdout() == "the deadline has come\n"
    assert hub.wait() == 138


# --- what was written to topics ------------------------------------------------------------------------------------------

TOPIC = """
    import asyncio
    async def run(context, input):
        topic = context.topic("t", "text/plain")
        for number in range(3):
            await topic.write(f"line {number}")
        END
"""


class Channel8:
    """The hub's end of channel 8: it says 202 to every request once its body is whole."""

    def __init__(self, hub: FakeHub) -> None:
        self.link = hub.links[PACKAGE].connection
        self.mux = Multiplexer()
        self.requests: dict[int, bytes] = {}

    def answer(self) -> str:
        """Answer one request; return its first line and its body."""
        while True:
            for event in self.mux.receive(self.link.recv(65536)):
                if isinstance(event, DataReceived):
                    self.requests[event.channel] = self.requests.get(event.channel, b"") + event.data
                    self.mux.consumed(event.channel, len(event.data))
            self.flush()
            for channel, request in self.requests.items():
                head, _, body = request.partition(b"\r\n\r\n")
                if b"Content-Length: %d" % len(body) in head:
                    self.mux.send(channel, b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")
                    self.mux.end(channel)
                    self.flush()
                    del self.requests[channel]
                    return f"{head.splitlines()[0].decode()} {body.decode()}"

    def flush(self) -> None:
        self.link.sendall(self.mux.take_outgoing())


WRITTEN = "POST /api/v1/topic/t HTTP/1.1 line 0\nline 1\nline 2\n"


@pytest.mark.parametrize(
    ("end", "code"),
    [("return", 0), ("raise ValueError", 23), ("context.end()", 0), ("context.destroy()", 23)],
)
def test_what_was_written_to_a_topic_is_sent_before_the_process_ends(
    hub: FakeHub, write: Write, end: str, code: int
) -> None:
    hub.start(write(TOPIC.replace("END", end)))
    hub.output()
    assert hub.alive
    assert Channel8(hub).answer() == WRITTEN
    assert hub.wait() == code


def test_a_stop_waits_for_what_was_written_to_a_topic(hub: FakeHub, write: Write) -> None:
    hub.start(write(TOPIC.replace("END", "context.emit('ready'); await asyncio.Event().wait()")))
    hub.event("ready")
    stop(hub)
    hub.output()
    assert Channel8(hub).answer() == WRITTEN
    assert hub.wait() == 138
    assert hub.last_messages()[-1] == [STOPPED, {}]


@pytest.mark.parametrize(("end", "code"), [("return", 23), ("raise SystemExit(7)", 7)])
def test_what_a_topic_has_not_taken_is_told_and_is_a_failure(
    hub: FakeHub, write: Write, end: str, code: int
) -> None:
    hub.start(write(TOPIC.replace("END", end)))
    hub.output()
    hub.links[PACKAGE].close()
    said = hub.stderr().splitlines()
    assert said[0].startswith("sequence_sdk.hub.HubUnreachable: no hub answers at channel 8 ")
    assert said[1:] == ["the topic t has not got all that was written to it"]
    assert hub.wait() == code
    assert [record["msg"].partition(": ")[0] for record in hub.log()][
        -1
    ] == "what was written to a topic is lost"


# --- a thread that waits for the loop -------------------------------------------------------------------------------------


def test_a_generator_that_waits_for_the_loop_in_its_thread_is_stopped(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            def run(context, input):
                yield context.from_thread(asyncio.sleep, 0, "given")
                async def wait():
                    context.emit("ready")
                    try:
                        await asyncio.Event().wait()
                    finally:
                        print("closed")
                context.from_thread(wait)
            """
        )
    )
    hub.event("ready")
    stop(hub)
    assert hub.output() == b"given"
    assert hub.stdout() == "closed\n"
    assert hub.wait() == 138
    assert hub.stderr() == ""


# --- a hub that is gone -------------------------------------------------------------------------------------------------

ENDED_WITH_ITS_GROUP = -signal.SIGKILL

GONE = """
    import asyncio, pathlib, sys
    out = pathlib.Path(__file__).with_name("said")
    async def run(context, input):
        async def stop(*args):
            await asyncio.sleep(0.01)
            out.write_text(f"stopped {args}")
        context.set_stop_handler(stop)
        context.emit("ready")
        WORK
"""


@pytest.mark.parametrize(
    "work",
    [
        "await asyncio.Event().wait()",
        "async for _ in input: pass",
        "while True: yield 'x' * 100_000",
        "while True: print('x'); await asyncio.sleep(0)",
    ],
)
def test_a_hub_that_is_gone_is_a_stop_of_two_seconds(hub: FakeHub, write: Write, work: str) -> None:
    entry = write(GONE.replace("WORK", work))
    hub.start(entry)
    hub.event("ready")
    hub.vanish()
    assert hub.wait() == ENDED_WITH_ITS_GROUP
    assert entry.with_name("said").read_text() == "stopped (2.0, False)"


def test_an_end_of_control_alone_says_that_the_hub_is_gone(hub: FakeHub, write: Write) -> None:
    hub.start(write(WAITING.replace("HANDLERS", "context.set_stop_handler(lambda *a: print(a))")))
    hub.event("ready")
    hub.links[3].end()
    assert hub.stdout() == "(2.0, False)\n"
    assert hub.output() == b"given "
    assert hub.wait() == ENDED_WITH_ITS_GROUP


@pytest.mark.parametrize("busy", ["while True: pass", "import time; time.sleep(60)"])
def test_a_busy_loop_ends_two_seconds_after_its_hub(hub: FakeHub, write: Write, busy: str) -> None:
    hub.start(write(f"async def run(context, input):\n    context.emit('busy')\n    {busy}"))
    hub.event("busy")
    start = time.monotonic()
    hub.vanish()
    assert hub.wait() == ENDED_WITH_ITS_GROUP
    assert 1.9 < time.monotonic() - start < 4


def test_an_input_does_not_pass_for_whole_when_the_hub_is_gone(hub: FakeHub, write: Write) -> None:
    entry = write(GONE.replace("WORK", "async for _ in input: pass\n        out.with_name('whole').touch()"))
    hub.start(entry)
    hub.event("ready")
    hub.input("text/plain", b"half\n", end=False)
    hub.links[IN].close()  # the kernel closes a dead hub's links one by one
    hub.vanish()
    assert hub.wait() == ENDED_WITH_ITS_GROUP
    assert entry.with_name("said").read_text() == "stopped (2.0, False)"
    assert not entry.with_name("whole").exists()


def test_what_a_sequence_has_started_ends_too_when_the_hub_is_gone(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import subprocess
            async def run(context, input):
                child = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
                context.emit("child", child.pid)
                async for _ in input: pass
            """
        )
    )
    child = psutil.Process(hub.event("child"))
    hub.vanish()
    assert hub.wait() == ENDED_WITH_ITS_GROUP
    _, alive = psutil.wait_procs([child], timeout=10)
    assert alive == []


def test_an_output_link_that_breaks_alone_is_a_failure_with_a_sentence(hub: FakeHub, write: Write) -> None:
    hub.start(write("async def run(context, input):\n    while True: yield 'x' * 100_000"))
    hub.links[OUT].read(1)
    hub.links[OUT].close()
    assert hub.wait() == 23
    assert hub.stderr() in {
        f"runner.errors.LinkLost: the hub broke the output link: {reason}\n"
        for reason in ("Broken pipe", "Connection reset by peer")
    }


def test_a_connection_error_of_the_authors_own_is_a_failure_like_others(hub: FakeHub, write: Write) -> None:
    hub.start(write("def run(context, input): raise ConnectionRefusedError('their server')"))
    assert hub.stderr().endswith("ConnectionRefusedError: their server\n")
    assert hub.wait() == 23


# --- the author's own end -------------------------------------------------------------------------------------------------

EXITS = {
    "sys.exit()": (0, ""),
    "sys.exit(0)": (0, ""),
    "sys.exit(7)": (7, ""),
    "sys.exit(-1)": (255, ""),
    "sys.exit('a reason')": (1, "a reason\n"),
    "raise SystemExit(None)": (0, ""),
}


@pytest.mark.parametrize("exit_call", EXITS)
@pytest.mark.parametrize("place", ["module", "coroutine", "generator in a thread", "task"])
def test_sys_exit_is_the_exit_code(hub: FakeHub, write: Write, exit_call: str, place: str) -> None:
    code, said = EXITS[exit_call]
    source = {
        "module": "import sys\nEXIT",
        "coroutine": "import sys\nasync def run(context, input):\n    yield 'x'\n    EXIT",
        "generator in a thread": "import sys\ndef run(context, input):\n    yield 'x'\n    EXIT",
        "task": "import asyncio, sys\nasync def leave(): EXIT\nasync def run(context, input):\n    yield 'x'\n"
        "    task = asyncio.create_task(leave())\n    await asyncio.Event().wait()",
    }[place]
    hub.start(write(source.replace("EXIT", exit_call)))
    assert hub.output() == (b"" if place == "module" else b"x")
    assert hub.stderr() == said
    assert hub.wait() == code


def test_a_natural_end_waits_for_background_tasks(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio, sys
            async def background(context):
                context.emit("ready")
                await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
                print("background is through")
            async def run(context, input):
                context.task = asyncio.create_task(background(context))
                return "x"
            """
        )
    )
    hub.event("ready")
    assert hub.output() == b"x"
    assert hub.alive
    hub.links[0].send(b"go\n")
    assert hub.stdout() == "background is through\n"
    assert hub.wait() == 0


def test_an_error_in_a_background_task_is_shown(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def background():
                raise ValueError("in the background")
            async def run(context, input):
                asyncio.create_task(background())
            """
        )
    )
    assert "ValueError: in the background" in hub.stderr()
    assert hub.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_ends_the_process_as_signals_do(hub: FakeHub, write: Write, number: signal.Signals) -> None:
    hub.start(write(WAITING.replace("HANDLERS", "pass")))
    hub.event("ready")
    assert hub.process is not None
    os.kill(hub.process.pid, number)
    assert hub.wait() == -number
    assert hub.output() in (b"given ", b"")


def test_every_failure_says_so_with_its_exit_code(hub: FakeHub, write: Write) -> None:
    hub.start(write("async def run(context, input):\n    yield 'before'\n    raise ValueError('no')"))
    assert hub.output() == b"before"
    assert hub.wait() == 23
    assert hub.links[STDERR].rest().endswith(b"ValueError: no\n")
    (record,) = hub.log()
    assert record["level"] == "ERROR"
    assert record["msg"] == "the Sequence failed: ValueError: no"
    assert record["error"].endswith("ValueError: no\n")
    assert [code for code, _ in hub.last_messages()] == [PING, PANG, PANG]
