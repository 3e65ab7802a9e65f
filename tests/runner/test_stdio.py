"""Standard streams of an author: descriptors 0, 1 and 2 are the links, for child processes too."""

import os
import signal

import pytest

from .conftest import Write
from .fake_hub import STDERR, STDIN, STDOUT, FakeHub


def test_print_os_write_and_child_processes_arrive_in_order(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            r"""
            import os, subprocess, sys
            def run(context, input):
                print("print \u20ac \ud800")
                os.write(1, b"os.write\n")
                subprocess.run(["/bin/sh", "-c", "echo child; echo child error >&2"], check=True)
                print("no line end", end="")
                print("error", file=sys.stderr)
            """
        )
    )
    assert hub.stdout() == "print € \\ud800\nos.write\nchild\nno line end"
    assert hub.stderr() == "child error\nerror\n"
    assert hub.wait() == 0
    assert hub.crash_log() == ""


def test_a_line_printed_is_a_line_sent(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            "import asyncio\nasync def run(context, input):\n    print('now')\n    await asyncio.Event().wait()"
        )
    )
    assert hub.links[STDOUT].line() == b"now\n"
    assert hub.alive


def test_stdin_is_a_real_file(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import os, subprocess, sys
            def run(context, input):
                yield input_line()
                yield sys.stdin.readline()
                for line in sys.stdin:
                    yield line
                yield str((sys.stdin.fileno(), sys.stdin.isatty(), sys.stdin.read()))
            def input_line():
                import builtins
                return builtins.input("name? ")
            """
        )
    )
    hub.links[STDIN].send("Zoë\nsecond\nthird\r\nlast".encode())
    hub.links[STDIN].end()
    assert hub.output().decode() == "Zoësecond\nthird\nlast(0, False, '')"
    assert hub.stdout() == "name? "


def test_stdin_gives_its_lines_to_async_for_too(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio, sys
            async def run(context, input):
                impatient = asyncio.create_task(anext(sys.stdin))
                await asyncio.sleep(0)
                impatient.cancel()
                context.emit("ready", sys.stdin.mode)
                async for line in sys.stdin:
                    yield line
                yield str([line async for line in sys.stdin])
            """
        )
    )
    assert hub.event("ready") == "r", "the loop goes on while nothing comes"
    hub.links[STDIN].send("Zoë\nsecond\r\n\nlast".encode())
    hub.links[STDIN].end()
    assert hub.output().decode() == "Zoë\nsecond\n\nlast[]"
    assert hub.wait() == 0


def test_async_for_in_stdin_that_nobody_ends_does_not_hold_up_the_end(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio, sys
            async def run(context, input):
                waiting = asyncio.ensure_future(anext(sys.stdin))
                await asyncio.sleep(0)
                waiting.cancel()
                return "done"
            """
        )
    )
    assert hub.output() == b"done"
    assert hub.wait() == 0
    assert hub.stderr() == ""


def test_a_child_process_reads_stdin(hub: FakeHub, write: Write) -> None:
    hub.start(write("import subprocess\ndef run(context, input): subprocess.run(['cat'], check=True)"))
    hub.links[STDIN].send(b"through a child")
    hub.links[STDIN].end()
    assert hub.stdout() == "through a child"
    assert hub.wait() == 0


def test_a_grandchild_that_outlives_the_runner_does_not_keep_its_output_open(
    hub: FakeHub, write: Write
) -> None:
    hub.start(
        write(
            """
            import subprocess
            def run(context, input):
                child = subprocess.Popen(["sleep", "60"])
                print("said")
                return str(child.pid)
            """
        )
    )
    child = int(hub.output())
    try:
        assert hub.stdout() == "said\n"
        assert hub.stderr() == ""
        assert hub.log() == []
        hub.last_messages()
        assert hub.wait() == 0
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_forked_child_that_ends_leaves_the_links_of_its_parent_open(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import os, sys, warnings
            warnings.simplefilter("ignore")
            def run(context, input):
                if (child := os.fork()) == 0:
                    print("child")
                    sys.exit(0)
                os.waitpid(child, 0)
                print("parent")
                context.logger.info("log")
                context.emit("event")
                return "output"
            """
        )
    )
    assert hub.output() == b"output"
    assert hub.stdout() == "child\nparent\n"
    assert [record["msg"] for record in hub.log()] == ["log"]
    assert hub.last_messages()[-2][1] == {"eventName": "event", "message": ""}
    assert hub.wait() == 0


def test_a_process_pool_works(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio, concurrent.futures, multiprocessing, warnings
            warnings.simplefilter("ignore")
            def double(number): return number * 2
            async def run(context, input):
                fork = multiprocessing.get_context("fork")
                with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as pool:
                    yield str(await asyncio.get_running_loop().run_in_executor(pool, double, 21))
            """
        )
    )
    assert hub.output() == b"42"
    assert hub.wait() == 0


def test_what_exit_handlers_and_late_threads_say_still_arrives(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import atexit, sys, threading
            def run(context, input):
                def late():
                    threading.main_thread().join()
                    print("thread")
                    context.logger.info("thread")
                    context.emit("thread")
                threading.Thread(target=late).start()
                @atexit.register
                def goodbye():
                    print("goodbye", end="")
                    print("goodbye", file=sys.stderr)
                    context.logger.info("goodbye")
                    context.emit("goodbye")
            """
        )
    )
    assert hub.wait() == 0
    assert hub.stdout() == "thread\ngoodbye"
    assert hub.stderr() == "goodbye\n"
    assert [record["msg"] for record in hub.log()] == ["thread", "goodbye"]
    assert [payload["eventName"] for code, payload in hub.last_messages() if code == 5001] == [
        "thread",
        "goodbye",
    ]


def test_a_thread_that_waits_for_stdin_does_not_hold_up_the_end(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio, sys
            async def run(context, input):
                asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
                await asyncio.sleep(0.01)
                yield "done"
            """
        )
    )
    assert hub.output() == b"done"
    assert hub.wait() == 0


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_an_author_who_closes_a_stream_ends_well(hub: FakeHub, write: Write, stream: str) -> None:
    hub.start(write(f"import sys\ndef run(context, input):\n    sys.{stream}.close()\n    return 'x'"))
    assert hub.output() == b"x"
    assert hub.wait() == 0


def test_a_hub_that_does_not_read_stdout_makes_print_wait_and_nothing_else(
    hub: FakeHub, write: Write
) -> None:
    hub.start(
        write(
            """
            def run(context, input):
                context.on("hello", lambda message: context.emit("answer", message))
                context.emit("ready")
                print("p" * 20_000_000)
                yield "x"
            """
        )
    )
    hub.event("ready")
    hub.say(5001, {"eventName": "hello", "message": 1})
    assert hub.event("answer") == 1
    assert len(hub.stdout()) == 20_000_001
    assert hub.wait() == 0
    assert hub.links[STDERR].rest() == b""
