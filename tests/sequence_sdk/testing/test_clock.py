"""Virtual time."""

import asyncio
import selectors
import threading
import time

import pytest

from sequence_sdk import sequence
from sequence_sdk.testing import VirtualTime, VirtualTimeImpossible, WaitedInVain, run_virtual
from sequence_sdk.testing.clock import _Selector, _works, clock_of
from sequence_sdk.testing.waiting import patience


def test_an_hour_takes_no_time():
    begun = time.monotonic()

    async def wait():
        clock = clock_of(asyncio.get_running_loop())
        await asyncio.sleep(3600)
        await clock.advance(60)
        return clock.elapsed

    assert run_virtual(wait()) == 3660
    assert time.monotonic() - begun < 5


def test_timers_come_in_order():
    async def race():
        order = []

        async def after(seconds):
            await asyncio.sleep(seconds)
            order.append(seconds)

        await asyncio.gather(*(after(seconds) for seconds in (30, 10, 20)))
        return order

    assert run_virtual(race()) == [10, 20, 30]


def test_a_timeout_comes_at_its_virtual_time():
    async def late():
        async with asyncio.timeout(5):
            await asyncio.sleep(6)

    with pytest.raises(TimeoutError):
        run_virtual(late())


def test_time_stands_still_while_a_thread_works():
    async def work():
        clock = clock_of(asyncio.get_running_loop())
        async with asyncio.timeout(0.001):
            await asyncio.to_thread(time.sleep, 0.05)
        return clock.elapsed

    assert run_virtual(work()) == 0


def test_time_goes_on_while_a_thread_waits_for_the_loop():
    async def work():
        loop = asyncio.get_running_loop()

        def ask():
            return asyncio.run_coroutine_threadsafe(asyncio.sleep(100, "slept"), loop).result()

        return await asyncio.to_thread(ask), clock_of(loop).elapsed

    assert run_virtual(work()) == ("slept", 100)


async def test_a_generator_in_a_thread_is_waited_for(direct):
    @sequence
    def blocks(lines):
        for line in lines:
            time.sleep(0.01)
            yield line

    with VirtualTime().installed() as clock:
        async with direct.run(blocks) as run:
            await run.feed("a\n")
            await asyncio.sleep(10)
            assert await run.items(1) == ["a\n"]
            await run.feed("b\n")
            assert await run.rest() == ["b\n"]
    assert clock.elapsed == 10


async def test_waits_of_a_test_are_in_real_time(direct):
    @sequence
    async def sleepy(lines):
        async for line in lines:
            await asyncio.sleep(86400)
            yield line

    with VirtualTime().installed() as clock:
        assert await direct.outputs(sleepy, ["a\n", "b\n"]) == ["a\n", "b\n"]
        assert clock.elapsed == 2 * 86400
        with pytest.raises(WaitedInVain):
            async with patience(0.01, lambda: "in vain"):
                await asyncio.get_running_loop().create_future()


async def test_a_real_wait_ends_although_a_thread_works_and_timers_are_there():
    over = threading.Event()
    with VirtualTime().installed() as clock:
        work = asyncio.ensure_future(asyncio.to_thread(time.sleep, 0.05))
        timer = asyncio.ensure_future(asyncio.sleep(100))
        with pytest.raises(WaitedInVain):
            async with patience(0.01, lambda: "in vain"):
                await asyncio.get_running_loop().create_future()
        assert clock.elapsed == 0
        await work
        await timer
        over.set()
    assert clock.elapsed == 100


async def test_the_loop_has_its_own_clock_again_afterwards():
    loop = asyncio.get_running_loop()
    selector = loop._selector
    with VirtualTime().installed():
        assert loop._selector.get_map() is selector.get_map()
        await asyncio.sleep(1000)
    assert loop._selector is selector
    assert clock_of(loop) is None
    assert abs(loop.time() - time.monotonic()) < 5


async def test_a_loop_of_another_make_is_refused(monkeypatch):
    with monkeypatch.context() as patch:  # no turn of the loop in here
        patch.setattr(asyncio.get_running_loop(), "_selector", None)
        with pytest.raises(VirtualTimeImpossible, match=r"a loop of asyncio itself, not asyncio\."):
            VirtualTime().installed().__enter__()


def test_what_has_no_attributes_has_no_clock():
    assert clock_of(object()) is None
    assert isinstance(selectors.DefaultSelector, type)


def test_a_thread_that_was_told_to_go_on_works_already():
    condition, seen = threading.Condition(), {}

    def wait():
        with condition:
            seen["waits"] = True
            condition.wait()

    def frame(thread):
        import sys

        return sys._current_frames().get(thread.ident)

    thread = threading.Thread(target=wait)
    thread.start()
    while _works(frame(thread)):
        time.sleep(0.001)
    assert seen == {"waits": True}
    with condition:
        condition.notify()
        assert _works(frame(thread))
    thread.join()
    assert not _works(frame(thread))


def test_work_that_waits_for_a_thread_is_waited_for_too():
    async def work():
        clock = clock_of(asyncio.get_running_loop())
        sleeps = [asyncio.to_thread(time.sleep, 0.005) for _ in range(100)]
        async with asyncio.timeout(0.001):
            await asyncio.gather(*sleeps)
        return clock.elapsed

    assert run_virtual(work()) == 0


def test_a_thread_that_begins_to_work_at_the_second_look_is_waited_for():
    class Clock(VirtualTime):
        def __init__(self):
            super().__init__()
            self.looks = [False, True]

        def _a_thread_works(self):
            return self.looks.pop(0)

    class Files:
        def select(self, timeout):
            return []

    other = threading.Event()
    thread = threading.Thread(target=other.wait)
    thread.start()
    clock = Clock()
    assert _Selector(Files(), clock).select(10.0) == []
    assert (clock.elapsed, clock.looks) == (0, [])
    other.set()
    thread.join()
