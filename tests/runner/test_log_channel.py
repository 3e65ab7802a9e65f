"""Log records: what an author logs and what arrives on LOG."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from runner.log_channel import TRACE, LogChannel, level_of

from .conftest import Write
from .fake_hub import INSTANCE_ID, FakeHub


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def test_every_level_of_python_has_one_of_the_hub() -> None:
    numbers = (100, 50, 49, 40, 30, 20, 10, TRACE, 1)
    assert [level_of(number) for number in numbers] == [
        "FATAL", "FATAL", "ERROR", "ERROR", "WARN", "INFO", "DEBUG", "TRACE", "TRACE",
    ]  # fmt: skip


def test_records_arrive_as_the_contract_says(hub: FakeHub, write: Write) -> None:
    before = int(time.time() * 1000)
    hub.start(
        write(
            """
            def run(context, input):
                log = context.logger
                log.debug("a %s %d", "b", 1)
                log.info("\\u20ac \\ud800 line\\nbreak %s")
                log.warning("w")
                log.fatal("f")
                log.log(5, "t")
                log.info("bad %d", "x")
            """
        )
    )
    records = hub.log()
    assert [(record["level"], record["msg"]) for record in records] == [
        ("DEBUG", "a b 1"),
        ("INFO", "€ \ud800 line\nbreak %s"),
        ("WARN", "w"),
        ("FATAL", "f"),
        ("TRACE", "t"),
        ("INFO", records[-1]["msg"]),
    ]
    assert records[-1]["msg"].startswith("bad %d (arguments ('x',) do not fit: %d format")
    for record in records:
        assert before <= record["ts"] <= int(time.time() * 1000)
        assert record["from"] == "Sequence"
        assert record["Sequence"] == {"id": INSTANCE_ID}
        assert "error" not in record
    assert hub.stderr() == ""


def test_an_exception_is_in_the_record_and_starts_at_the_authors_frame(hub: FakeHub, write: Write) -> None:
    entry = write(
        """
        def fail(message):
            raise ValueError(message)
        async def run(context, input):
            try:
                fail("oops")
            except ValueError:
                context.logger.exception("it failed")
            context.logger.exception("nothing failed")
            context.logger.info("here", stack_info=True)
            context.on("event", fail)
            context.emit("ready")
            async for _ in input: pass
        """
    )
    hub.start(entry)
    hub.event("ready")
    hub.say(5001, {"eventName": "event", "message": "from a handler"})
    hub.links[5].end()
    first, second, third, handler = hub.log()
    assert first["level"] == "ERROR"
    assert first["msg"] == "it failed"
    assert first["error"].startswith(
        f'Traceback (most recent call last):\n  File "{entry}", line 6, in run\n'
    )
    assert first["error"].endswith("ValueError: oops\n")
    assert "error" not in second
    assert third["error"].startswith("Stack (most recent call last):")
    assert handler["msg"] == "handler of event 'event' failed"
    assert handler["error"].startswith(
        f'Traceback (most recent call last):\n  File "{entry}", line 3, in fail\n'
    )
    assert hub.wait() == 0


def test_loggers_of_other_names_are_pythons_own(hub: FakeHub, write: Write) -> None:
    hub.start(
        write("import logging\ndef run(context, input): logging.getLogger('library').warning('careful')")
    )
    assert hub.stderr() == "careful\n"
    assert hub.log() == []


def test_threads_write_whole_lines(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    channel = LogChannel(ours, "id")
    logger = channel.logger("test_threads")
    received = bytearray()
    reader = threading.Thread(
        target=lambda: [received.extend(chunk) for chunk in iter(lambda: theirs.recv(99), b"")]
    )
    reader.start()
    writers = [
        threading.Thread(target=lambda n=n: [logger.info("%s", str(n) * 5000) for _ in range(20)])
        for n in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    channel.end()
    reader.join()
    channel.close()
    channel.close()
    channel.end()
    messages = sorted(json.loads(line)["msg"] for line in received.splitlines())
    assert messages == sorted(str(n) * 5000 for n in range(4) for _ in range(20))


def test_a_hub_that_is_gone_does_not_concern_who_logs(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    channel = LogChannel(ours, "id")
    logger = channel.logger("test_gone")
    theirs.close()
    logger.info("nobody reads this")
    channel.close()
    logger.info("nor this")
    assert ours.fileno() == -1


def test_a_warning_never_waits_for_a_hub_that_does_not_read(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    channel = LogChannel(ours, "id")
    logger = channel.logger("test_later")
    warn = channel.warn_later(logger)
    for number in range(3000):  # more than the kernel and the queue hold
        warn(f"{number} {'x' * 1000} %d")
    lines = theirs.makefile("rb")
    first = [json.loads(lines.readline()) for _ in range(1000)]
    assert [int(record["msg"].split()[0]) for record in first] == list(range(1000))
    assert {record["level"] for record in first} == {"WARN"}
    lines.close()


def test_trace_is_below_debug() -> None:
    assert TRACE < logging.DEBUG
