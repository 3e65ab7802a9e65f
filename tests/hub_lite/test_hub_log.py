"""The hub's own log, and lines for readers of any pace."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.hub_log import HubLog, Lines

from .fakes import DEADLINE

logger = logging.getLogger("hub_lite.test")


def tell_lost(size: int) -> bytes:
    return b"lost %d\n" % size


async def all_of(lines: AsyncGenerator[bytes, None]) -> bytes:
    async with asyncio.timeout(DEADLINE), aclosing(lines):
        return b"".join([chunk async for chunk in lines])


# Lines


async def test_a_reader_gets_what_is_kept_and_what_comes() -> None:
    lines = Lines(1000)
    lines.write(b"one\n")
    async with aclosing(lines.read(tell_lost)) as reading:
        assert await anext(reading) == b"one\n"
        lines.write(b"two\n")
        assert await anext(reading) == b"two\n"
        assert lines.readers == 1
        lines.end()
        assert [chunk async for chunk in reading] == []
    assert lines.readers == 0
    lines.write(b"too late\n")
    lines.end()


async def test_what_is_kept_begins_with_a_whole_line() -> None:
    lines = Lines(10)
    lines.write(b"first line\n")
    lines.write(b"b\nc\n")
    lines.end()
    assert await all_of(lines.read(tell_lost)) == b"b\nc\n"


async def test_a_line_longer_than_all_that_is_kept_is_left_out() -> None:
    lines = Lines(10)
    lines.write(b"x" * 100 + b"\n")
    lines.write(b"short\n")
    lines.end()
    assert await all_of(lines.read(tell_lost)) == b"short\n"


async def test_a_slow_reader_is_told_how_much_it_has_missed_at_the_border_of_a_line() -> None:
    lines = Lines(10)
    lines.write(b"1111\n")
    async with aclosing(lines.read(tell_lost)) as reading:
        assert await anext(reading) == b"1111\n"
        for line in (b"2222\n", b"3333\n", b"4444\n", b"555\n"):
            lines.write(line)
        lines.end()
        assert b"".join([chunk async for chunk in reading]) == b"lost 10\n4444\n555\n"


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=60), st.lists(st.booleans(), min_size=60, max_size=60)
)
def test_lines_come_whole_and_in_order_and_no_byte_is_missing_untold(
    sizes: list[int], reads: list[bool]
) -> None:
    async def check() -> None:
        lines = Lines(64)
        got: list[bytes] = []
        lines.write(b"begin\n")
        async with aclosing(lines.read(tell_lost)) as reading:
            assert await anext(reading) == b"begin\n"
            for number, (size, read) in enumerate(zip(sizes, reads, strict=False)):
                lines.write(b"%d:" % number + b"x" * size + b"\n")
                if read:
                    got.append(await anext(reading))
            lines.end()
            got += [chunk async for chunk in reading]
        text = b"".join(got)
        assert text.endswith(b"\n") or not text
        whole = [line for line in text.splitlines() if not line.startswith(b"lost")]
        numbers = [int(line.partition(b":")[0]) for line in whole]
        assert numbers == sorted(set(numbers))
        assert all(len(line.partition(b":")[2]) == sizes[n] for n, line in zip(numbers, whole, strict=True))
        lost = sum(int(line[5:]) for line in text.splitlines() if line.startswith(b"lost"))
        assert lost + sum(len(line) + 1 for line in whole) == sum(
            len(b"%d:" % number) + size + 1 for number, size in enumerate(sizes)
        )

    asyncio.run(check())


# The log


@pytest.fixture
async def log() -> AsyncGenerator[HubLog, None]:
    logging.getLogger("hub_lite.test").setLevel(1)
    log = HubLog("my-hub")
    log.attach()
    log.attach()
    yield log
    log.detach()
    log.detach()


def records(text: bytes) -> Iterator[dict[str, object]]:
    return map(json.loads, text.splitlines())


async def test_a_record_is_a_line_of_json(log: HubLog) -> None:
    logger.warning("%d of %s", 1, "ż")
    log.detach()
    (record,) = records(await all_of(log.read()))
    assert isinstance(record.pop("ts"), int)
    assert record == {"level": "WARN", "msg": "1 of ż", "from": "hub_lite.test", "Hub": {"id": "my-hub"}}


@pytest.mark.parametrize(
    ("number", "level"),
    [(50, "FATAL"), (40, "ERROR"), (35, "WARN"), (30, "WARN"), (20, "INFO"), (10, "DEBUG"), (5, "TRACE")],
)
async def test_levels_are_those_of_other_logs(log: HubLog, number: int, level: str) -> None:
    logger.log(number, "x")
    log.detach()
    assert [record["level"] for record in records(await all_of(log.read()))] == [level]


async def test_an_exception_comes_with_its_traceback(log: HubLog) -> None:
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        logger.exception("it failed")
    log.detach()
    (record,) = records(await all_of(log.read()))
    assert record["msg"] == "it failed"
    assert str(record["error"]).startswith("Traceback")
    assert str(record["error"]).endswith("ZeroDivisionError: integer division or modulo by zero")


async def test_a_text_whose_arguments_do_not_fit_is_logged_all_the_same(log: HubLog) -> None:
    log.handle(logging.LogRecord("x", 20, "", 0, "%d things", ("no number",), None))
    log.detach()
    (record,) = records(await all_of(log.read()))
    assert record["msg"] == "%d things ('no number',)"


async def test_a_thread_may_log(log: HubLog) -> None:
    async with aclosing(log.read()) as reading, asyncio.timeout(DEADLINE):
        await asyncio.to_thread(logger.info, "from a thread")
        assert json.loads(await anext(reading))["msg"] == "from a thread"


def test_a_thread_that_outlives_the_loop_may_log() -> None:
    log = HubLog("my-hub")

    async def attach() -> None:
        log.attach()

    asyncio.run(attach())
    import threading

    thread = threading.Thread(target=log.handle, args=(logging.LogRecord("x", 20, "", 0, "late", (), None),))
    thread.start()
    thread.join()
    log.detach()
    assert log.lines.readers == 0


async def test_about_the_last_100_kb_are_kept(log: HubLog) -> None:
    for number in range(3000):
        logger.info("%d %s", number, "x" * 50)
    log.detach()
    text = await all_of(log.read())
    assert 98_000 < len(text) <= 100_000
    assert str(list(records(text))[-1]["msg"]).startswith("2999 ")


async def test_what_a_reader_has_missed_is_a_record_too(log: HubLog) -> None:
    async with aclosing(log.read()) as reading:
        logger.info("first")
        await anext(reading)
        for _ in range(3000):
            logger.info("x" * 50)
        log.detach()
        first = next(records(await anext(reading)))
    assert first["level"] == "WARN"
    assert "bytes of this log are lost: this reader was too slow" in str(first["msg"])
