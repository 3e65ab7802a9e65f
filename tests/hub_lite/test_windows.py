"""Windows: what readers get, when producers pause, and who is cut off."""

import asyncio
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from hub_lite.windows import (
    DEFAULT_CAPACITY,
    DEFAULT_READ,
    MERGE_BYTES,
    SHARE_BYTES,
    Cursor,
    OffsetOutOfRange,
    ReaderStalled,
    StreamFailed,
    Window,
    WindowClosed,
)


def take(cursor: Cursor, max_bytes: int = DEFAULT_READ) -> bytes:
    """Return what a read gives; it must not wait, for there is no loop here."""
    reading = cursor.read(max_bytes)
    try:
        reading.send(None)
    except StopIteration as done:
        return done.value
    reading.close()
    raise AssertionError("the read waited")


def take_all(cursor: Cursor) -> bytes:
    chunks = []
    while cursor.offset < cursor._window.end_offset:
        chunks.append(take(cursor))
    return b"".join(chunks)


def memory(window: Window) -> int:
    return sum(map(len, window._chunks))


async def turn() -> None:
    """Let every task that can run do so until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


class Clock:
    """Timers that go off when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[ClockTimer] = []

    def call_later(self, delay: float, call) -> "ClockTimer":
        timer = ClockTimer(self, self.now + delay, call)
        self.timers.append(timer)
        return timer

    def advance(self, span: float) -> None:
        until = self.now + span
        while due := [timer for timer in self.timers if timer.when <= until]:
            timer = min(due, key=lambda timer: timer.when)
            self.timers.remove(timer)
            self.now = timer.when
            timer.call()
        self.now = until


class ClockTimer:
    def __init__(self, clock: Clock, when: float, call) -> None:
        self.clock = clock
        self.when = when
        self.call = call

    def cancel(self) -> None:
        self.clock.timers.remove(self)


# Lossless: any order of events, against a model that recomputes everything


class Reader:
    """What the model knows of a cursor."""

    def __init__(self, cursor: Cursor, offset: int) -> None:
        self.cursor = cursor
        self.offset = self.acknowledged = offset
        self.missed = 0


CAPACITY = 3 * MERGE_BYTES
LARGEST = 4 * MERGE_BYTES
SIZES = st.one_of(st.integers(0, 100), st.integers(0, MERGE_BYTES + 1), st.integers(MERGE_BYTES, LARGEST))
PATTERN = bytes(index % 251 for index in range(251 + LARGEST))


class Machine(RuleBasedStateMachine):
    readers = Bundle("readers")
    lossless: bool

    @initialize()
    def begin(self):
        self.window = Window(CAPACITY, lossless=self.lossless)
        self.window.on_room = self.note_room
        self.rooms = 0
        self.paused = False
        self.written = b""
        self.start = 0
        self.given = 0
        self.cared_for = bytearray()  # one flag a byte: some reader acknowledged it or chose to skip it
        self.attached: list[Reader] = []

    def note_room(self):
        self.rooms += 1

    def floor(self) -> int:
        return min((reader.acknowledged for reader in self.attached), default=max(self.given, self.start))

    def care_for(self, start: int, end: int):
        self.cared_for[start:end] = b"\1" * max(0, end - start)

    def settle(self):
        """Bring the model up to date after any change."""
        limit = len(self.written) - CAPACITY
        if self.lossless:
            limit = min(limit, self.floor())
        self.start = max(self.start, limit)

    def expect_room(self, rooms_before: int):
        """Room is told of exactly once, when a paused window is no longer full."""
        room = self.paused and len(self.written) - self.floor() < CAPACITY
        assert self.rooms - rooms_before == room
        self.paused = self.paused and not room

    @rule(size=SIZES)
    def write(self, size):
        if self.paused:
            return  # a producer that is told to pause does
        at = len(self.written) % 251
        chunk = PATTERN[at : at + size]
        self.written += chunk
        self.cared_for += bytes(size)
        self.paused = not self.window.write(chunk)
        self.settle()
        assert self.paused == (self.lossless and len(self.written) - self.floor() >= CAPACITY)

    @rule(target=readers, where=st.one_of(st.sampled_from([None, "earliest", "latest"]), st.floats(0, 1)))
    def attach(self, where):
        rooms, end = self.rooms, len(self.written)
        if where is None:
            offset = max(self.given, self.start) if self.lossless else self.start
            cursor = self.window.open()
        elif isinstance(where, str):
            offset = self.start if where == "earliest" else end
            cursor = self.window.open(where)
        else:
            offset = self.start + round(where * (end - self.start))
            cursor = self.window.open(offset)
        assert cursor.offset == offset
        self.care_for(self.given, offset)
        reader = Reader(cursor, offset)
        self.attached.append(reader)
        self.settle()
        self.expect_room(rooms)
        return reader

    @rule(beyond=st.integers(1, 100))
    def an_offset_outside_is_refused(self, beyond):
        for offset in (self.start - beyond, len(self.written) + beyond):
            with pytest.raises(OffsetOutOfRange) as caught:
                self.window.open(offset)
            assert (caught.value.start, caught.value.end) == (self.start, len(self.written))

    @rule(reader=readers, max_bytes=st.integers(1, LARGEST))
    def read(self, reader, max_bytes):
        if reader.offset == len(self.written):
            return
        rooms = self.rooms
        self.deliver(reader)
        self.settle()
        if reader.offset < self.start:
            assert not self.lossless
            reader.missed += self.start - reader.offset
            reader.offset = reader.acknowledged = self.start
        chunk = take(reader.cursor, max_bytes)
        assert 0 < len(chunk) <= max_bytes
        assert chunk == self.written[reader.offset : reader.offset + len(chunk)]
        reader.offset += len(chunk)
        assert reader.cursor.offset == reader.offset
        self.expect_room(rooms)

    @rule(reader=readers)
    def acknowledge(self, reader):
        rooms = self.rooms
        self.deliver(reader)
        reader.cursor.acknowledge()
        self.settle()
        self.expect_room(rooms)

    def deliver(self, reader):
        if reader.acknowledged < reader.offset:
            self.care_for(reader.acknowledged, reader.offset)
            reader.acknowledged = reader.offset
            self.given = max(self.given, reader.offset)

    @rule(reader=readers)
    def missed_bytes_are_told_once(self, reader):
        assert reader.cursor.take_missed() == reader.missed
        reader.missed = 0

    @rule(reader=consumes(readers))
    def detach(self, reader):
        rooms = self.rooms
        self.attached.remove(reader)
        with reader.cursor:
            pass
        reader.cursor.close()
        self.settle()
        self.expect_room(rooms)

    @invariant()
    def the_window_is_as_the_model(self):
        window = self.window
        assert (window.start, window.end_offset, window.given) == (self.start, len(self.written), self.given)
        assert window.readers == len(self.attached)
        assert window.tail(100 * CAPACITY) == self.written[self.start :]

    @invariant()
    def memory_is_bounded(self):
        unread = len(self.written) - self.floor() if self.lossless else 0
        assert unread < CAPACITY + LARGEST
        assert memory(self.window) < max(CAPACITY, unread) + LARGEST


class LosslessMachine(Machine):
    lossless = True

    @invariant()
    def a_byte_is_held_until_a_reader_has_it(self):
        assert all(self.cared_for[: self.start])

    @invariant()
    def a_reader_never_falls_behind_what_is_held(self):
        assert all(reader.acknowledged >= self.start for reader in self.attached)


class LossyMachine(Machine):
    lossless = False

    @invariant()
    def the_producer_never_pauses(self):
        assert not self.paused
        assert not self.window.full


LosslessMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
LossyMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestLosslessWindow = LosslessMachine.TestCase
TestLossyWindow = LossyMachine.TestCase


@given(
    chunks=st.lists(st.one_of(st.binary(max_size=40), st.binary(min_size=3000, max_size=6000)), max_size=30),
    capacity=st.integers(1, 20_000),
    sizes=st.lists(st.integers(1, 10_000), min_size=1, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_a_producer_that_heeds_the_window_and_readers_at_any_pace_lose_nothing(chunks, capacity, sizes):
    async def produce(window):
        for chunk in chunks:
            if not window.write(chunk):
                await window.wait_room()
        window.end()

    async def read(cursor, max_bytes):
        got = []
        with cursor:
            while chunk := await cursor.read(max_bytes):
                got.append(chunk)
                await asyncio.sleep(0)
        return b"".join(got)

    async def scenario():
        window = Window(capacity, lossless=True)
        cursors = [window.open() for _ in sizes]
        results = await asyncio.gather(produce(window), *map(read, cursors, sizes))
        assert results[1:] == [b"".join(chunks)] * len(sizes)
        assert window.readers == 0
        assert window._timer is None

    asyncio.run(scenario())


# Where a reader starts


def test_the_first_reader_gets_what_was_written_before_it_came():
    window = Window(lossless=True)
    window.write(b"early ")
    window.write(b"bytes")
    assert take_all(window.open()) == b"early bytes"


def test_the_next_reader_of_a_lossless_window_goes_on_where_the_last_one_stopped():
    window = Window(lossless=True)
    window.write(b"onetwo")
    with window.open() as first:
        assert take(first, 3) == b"one"
        first.acknowledge()
    assert window.given == 3
    assert take_all(window.open()) == b"two"


def test_a_chunk_whose_delivery_was_not_confirmed_goes_to_the_next_reader_too():
    window = Window(lossless=True)
    window.write(b"onetwo")
    with window.open() as first:
        take(first, 3)
        take(first, 3)
    assert take_all(window.open()) == b"two"


def test_a_reader_beside_another_misses_nothing_even_if_the_other_never_finishes_its_chunk():
    window = Window(lossless=True)
    window.write(b"onetwo")
    first = window.open()
    take(first, 3)
    take(first, 3)
    second = window.open()
    first.close()
    assert take_all(second) == b"two"


def test_a_reader_beside_one_that_has_everything_is_live():
    window = Window(lossless=True)
    window.write(b"old")
    first = window.open()
    take(first)
    first.acknowledge()
    second = window.open()
    window.write(b"new")
    assert take(second) == b"new"


def test_a_replay_does_not_change_where_the_next_reader_starts():
    window = Window(lossless=True)
    window.write(b"onetwo")
    with window.open() as first:
        take(first)
        first.acknowledge()
    with window.open("earliest") as replay:
        assert take(replay, 2) == b"on"
        replay.acknowledge()
        assert window.given == 6
    assert window.open().offset == 6


def test_a_replay_keeps_the_bytes_it_has_not_reached():
    window = Window(10, lossless=True)
    window.write(b"0123456789")
    with window.open() as first:
        take(first)
        first.acknowledge()
    replay = window.open("earliest")
    assert window.write(b"more") is False
    assert take_all(replay) == b"0123456789more"


def test_what_the_latest_reader_skipped_is_there_for_the_next_while_nobody_took_more():
    window = Window(lossless=True)
    window.write(b"skipped")
    window.open("latest").close()
    assert take_all(window.open()) == b"skipped"


def test_a_latest_reader_makes_room_by_giving_up_what_it_skips():
    window = Window(4, lossless=True)
    rooms = []
    window.on_room = lambda: rooms.append(True)
    assert window.write(b"full") is False
    latest = window.open("latest")
    assert rooms == [True]
    assert window.write(b"on") is True
    assert take(latest) == b"on"


def test_a_lossy_reader_gets_what_is_still_held_then_live():
    window = Window(4, lossless=False)
    window.write(b"gone")
    window.write(b"held")
    cursor = window.open()
    assert take(cursor) == b"held"
    assert cursor.take_missed() == 0
    window.write(b"live")
    assert take(cursor) == b"live"


def test_a_refused_offset_says_what_can_be_asked_for():
    window = Window(4, lossless=False)
    window.write(b"goneheld")
    with pytest.raises(
        OffsetOutOfRange, match=r"offset 1 is no longer held: choose one from 4 to 8"
    ) as below:
        window.open(1)
    assert (below.value.offset, below.value.start, below.value.end) == (1, 4, 8)
    with pytest.raises(OffsetOutOfRange, match="offset 9 is not there"):
        window.open(9)
    with pytest.raises(OffsetOutOfRange, match="offset -1 is not there"):
        window.open(-1)
    assert window.readers == 0


# The cut of chunks, and memory


def test_a_big_chunk_is_handed_to_every_reader_as_the_same_object():
    window = Window(lossless=True)
    chunks = [bytes(SHARE_BYTES), bytes(64 * 1024), bytes(256 * 1024)]
    readers = [window.open() for _ in range(3)]
    for chunk in chunks:
        window.write(chunk)
    for reader in readers:
        assert all(take(reader) is chunk for chunk in chunks)


def test_small_chunks_are_joined_up_to_the_size_of_the_read_and_a_big_neighbour_is_left_whole():
    window = Window(lossless=True)
    small, big = bytes(MERGE_BYTES), bytes(SHARE_BYTES)
    for chunk in (small, small, small, big):
        window.write(chunk)
    assert len(take(window.open(0), 2 * MERGE_BYTES + 100)) == 2 * MERGE_BYTES
    cursor = window.open(0)
    assert len(take(cursor)) == 3 * MERGE_BYTES
    assert take(cursor) is big


def test_a_read_takes_at_least_one_byte():
    with pytest.raises(ValueError, match="not 0"):
        take(Window(lossless=True).open(), 0)


def test_a_window_holds_at_least_one_byte():
    with pytest.raises(ValueError, match="not 0"):
        Window(0, lossless=True)


def test_a_mebibyte_of_single_bytes_costs_little_more_than_a_mebibyte():
    window = Window(lossless=True)
    singles = [bytes([value]) for value in range(251)]
    for number in range(DEFAULT_CAPACITY):
        window.write(singles[number % 251])
    held = sum(map(sys.getsizeof, (window._chunks, window._offsets, *window._chunks, *window._offsets)))
    assert held < DEFAULT_CAPACITY * 1.1
    assert take_all(window.open()) == (PATTERN[:251] * (DEFAULT_CAPACITY // 251 + 1))[:DEFAULT_CAPACITY]


@given(
    sizes=st.lists(st.sampled_from([1, 2, 100, MERGE_BYTES - 1, MERGE_BYTES, MERGE_BYTES + 1]), max_size=200)
)
def test_neighbouring_chunks_together_are_bigger_than_the_merge_size(sizes):
    window = Window(lossless=True)
    for size in sizes:
        window.write(bytes(size))
    assert all(len(one) + len(other) > MERGE_BYTES for one, other in pairwise(window._chunks))


def test_the_tail_is_the_last_bytes_held():
    window = Window(8, lossless=False)
    assert window.tail(5) == b""
    window.write(b"first line\n")
    window.write(b"second\n")
    assert window.tail(3) == b"nd\n"
    assert window.tail(100) == b"\nsecond\n"
    assert window.tail(0) == b""


# Waiting, on both sides


async def test_a_waiting_reader_wakes_with_the_bytes():
    window = Window(lossless=True)
    with window.open() as cursor:
        reading = asyncio.create_task(cursor.read())
        await turn()
        assert not reading.done()
        window.write(b"")
        await turn()
        assert not reading.done()
        window.write(b"now")
        assert await reading == b"now"


async def test_every_waiting_reader_wakes():
    window = Window(lossless=False)
    cursors = [window.open() for _ in range(5)]
    readings = [asyncio.create_task(cursor.read()) for cursor in cursors]
    await turn()
    window.write(b"all")
    assert await asyncio.gather(*readings) == [b"all"] * 5


async def test_a_cancelled_read_takes_nothing():
    window = Window(lossless=True)
    cursor = window.open()
    reading = asyncio.create_task(cursor.read())
    await turn()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not window._waiting
    window.write(b"kept")
    assert await cursor.read() == b"kept"


async def test_a_read_cancelled_as_the_bytes_come_takes_nothing():
    window = Window(lossless=True)
    cursor = window.open()
    reading = asyncio.create_task(cursor.read())
    await turn()
    window.write(b"kept")
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert cursor.offset == 0
    assert await cursor.read() == b"kept"


async def test_a_cursor_has_one_reader():
    window = Window(lossless=True)
    cursor = window.open()
    reading = asyncio.create_task(cursor.read())
    await turn()
    with pytest.raises(RuntimeError, match="open one cursor for each reader"):
        await cursor.read()
    window.write(b"x")
    assert await reading == b"x"


async def test_a_full_window_says_so_and_tells_once_when_there_is_room():
    window = Window(8, lossless=True)
    rooms = []
    window.on_room = lambda: rooms.append(window.full)
    cursor = window.open()
    assert window.write(b"1234567") is True
    assert window.write(b"8") is False
    assert window.full
    await cursor.read(1)
    assert rooms == []  # handed out is not delivered
    await cursor.read(1)
    assert rooms == [False]
    await cursor.read(1)
    assert rooms == [False]


async def test_a_producer_may_write_as_soon_as_it_is_told_of_room():
    window = Window(4, lossless=True)
    window.on_room = lambda: window.write(b"more")
    cursor = window.open()
    window.write(b"full")
    assert await cursor.read() == b"full"
    assert await cursor.read() == b"more"


async def test_of_several_waiting_producers_only_as_many_go_on_as_there_is_room_for():
    window = Window(4, lossless=True)

    async def produce(chunk):
        await window.wait_room()
        window.write(chunk)

    window.write(b"0000")
    async with asyncio.TaskGroup() as group:
        for chunk in (b"1111", b"2222", b"3333"):
            group.create_task(produce(chunk))
        await turn()
        assert window.end_offset == 4
        with window.open() as cursor:
            await cursor.read()
            for number in (2, 3, 4):
                cursor.acknowledge()
                await turn()
                assert window.end_offset == number * 4
                await cursor.read()


async def test_a_cancelled_producer_leaves_nothing_behind():
    window = Window(1, lossless=True)
    window.write(b"x")
    waiting = asyncio.create_task(window.wait_room())
    await turn()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not window._producers


def test_a_window_with_room_lets_a_producer_go_on_without_waiting():
    with pytest.raises(StopIteration):
        Window(1, lossless=True).wait_room().send(None)


async def test_a_reader_overtaken_while_it_waits_is_told_how_much_it_missed():
    window = Window(4, lossless=False)
    cursor = window.open()
    reading = asyncio.create_task(cursor.read())
    await turn()
    window.write(b"123456")
    window.write(b"789")
    assert await reading == b"6789"
    assert cursor.take_missed() == 5
    assert cursor.take_missed() == 0


# The end, failures, the close


async def test_the_bytes_come_before_a_clean_end_and_stay_readable_after_it():
    window = Window(lossless=True)
    window.write(b"all")
    window.end()
    assert window.ended
    for _ in range(2):
        with window.open("earliest") as cursor:
            assert [chunk async for chunk in cursor] == [b"all"]
            assert await cursor.read() == b""
    assert window.given == 3


async def test_the_end_wakes_a_waiting_reader():
    window = Window(lossless=True)
    cursor = window.open()
    reading = asyncio.create_task(cursor.read())
    await turn()
    window.end()
    assert await reading == b""


async def test_a_failed_stream_gives_every_byte_and_then_the_failure():
    window = Window(lossless=True)
    window.write(b"all there is")
    window.end("the Sequence raised ValueError")
    cursor = window.open()
    assert await cursor.read() == b"all there is"
    for _ in range(2):
        with pytest.raises(StreamFailed, match="not complete: the Sequence raised ValueError") as caught:
            await cursor.read()
        assert caught.value.reason == "the Sequence raised ValueError"
    assert window.given == 12


async def test_the_first_end_counts():
    window = Window(lossless=True)
    window.end("broken")
    window.end()
    with pytest.raises(StreamFailed, match="broken"):
        await window.open().read()


async def test_the_end_releases_a_waiting_producer():
    window = Window(1, lossless=True)
    window.write(b"x")
    waiting = asyncio.create_task(window.wait_room())
    await turn()
    window.end()
    await waiting
    with pytest.raises(RuntimeError, match="after the end"):
        window.write(b"y")


async def test_a_close_drops_everything_and_aborts_the_readers():
    window = Window(4, lossless=True)
    rooms, cuts = [], []
    window.on_room = lambda: rooms.append(True)
    busy, waiting = window.open(), window.open()
    busy.on_cut = lambda: cuts.append("busy")
    waiting.on_cut = lambda: cuts.append("waiting")
    window.write(b"full")
    await busy.read()
    await waiting.read()
    reading = asyncio.create_task(waiting.read())
    await turn()
    window.close()
    window.close()
    with pytest.raises(WindowClosed, match="Instance was removed"):
        await reading
    with pytest.raises(WindowClosed):
        await busy.read()
    with pytest.raises(WindowClosed):
        window.open()
    busy.acknowledge()
    assert cuts == ["busy"]  # the other one has its error from read
    assert rooms == [True]
    assert (memory(window), window.tail(9), window.readers, window.ended) == (0, b"", 0, True)
    assert window.write(b"last words") is True
    assert memory(window) == 0
    window.end()
    await window.wait_room()


async def test_closing_a_cursor_ends_its_waiting_read():
    window = Window(lossless=True)
    cursor = window.open()
    reading = asyncio.create_task(cursor.read())
    await turn()
    cursor.close()
    with pytest.raises(WindowClosed, match="this reader is closed"):
        await reading
    assert window.readers == 0


# Stalled readers


class Held:
    """A full window of ten bytes with a reader that took nothing and one that waits for more."""

    def __init__(self, clock: Clock, slow: int = 1) -> None:
        self.window = Window(10, lossless=True, stall_timeout=10.0, call_later=clock.call_later)
        self.rooms = 0
        self.window.on_room = self.note_room
        self.cut: list[int] = []
        self.slow = [self.window.open() for _ in range(slow)]
        for number, cursor in enumerate(self.slow):
            cursor.on_cut = lambda number=number: self.cut.append(number)
        self.fast = self.window.open()

    def note_room(self) -> None:
        self.rooms += 1

    async def fill(self) -> "asyncio.Task[bytes]":
        self.window.write(b"0123456789ab")
        await self.fast.read()
        reading = asyncio.create_task(self.fast.read())
        await turn()
        return reading


@pytest.fixture
def clock():
    return Clock()


async def test_a_reader_that_alone_keeps_producer_and_others_waiting_is_cut_off(clock):
    held = Held(clock)
    reading = await held.fill()
    clock.advance(9.9)
    assert (held.cut, held.rooms) == ([], 0)
    clock.advance(0.2)
    assert (held.cut, held.rooms) == ([0], 1)
    held.window.write(b"on we go")
    assert await reading == b"on we go"
    for _ in range(2):
        with pytest.raises(ReaderStalled, match="cut off at byte 0: nothing was read for 10 s") as caught:
            await held.slow[0].read()
        assert (caught.value.offset, caught.value.timeout) == (0, 10.0)
    held.slow[0].close()
    assert held.window.readers == 1
    assert clock.timers == []


async def test_a_lone_reader_may_take_its_time_for_ever(clock):
    held = Held(clock)
    held.fast.close()
    held.window.write(b"0123456789ab")
    await held.slow[0].read(4)
    clock.advance(1_000_000)
    assert held.cut == []
    assert await held.slow[0].read() == b"456789ab"
    assert clock.timers == []


async def test_a_reader_that_takes_bytes_now_and_then_is_not_cut_off(clock):
    held = Held(clock)
    reading = await held.fill()
    for _ in range(2):  # still full: two bytes went over the capacity
        clock.advance(9.9)
        await held.slow[0].read(1)
    clock.advance(9.9)
    assert held.cut == []
    clock.advance(2.6)
    assert held.cut == [0]
    reading.cancel()


async def test_a_far_end_that_takes_a_chunk_slowly_is_not_cut_off(clock):
    held = Held(clock)
    reading = await held.fill()
    unsent = len(await held.slow[0].read())
    held.slow[0].unsent = lambda: unsent
    for _ in range(unsent):
        clock.advance(9.9)
        unsent -= 1
    assert held.cut == []
    clock.advance(12.6)
    assert held.cut == [0]
    reading.cancel()


async def test_readers_that_are_equally_slow_are_left_alone_while_nobody_else_waits(clock):
    held = Held(clock, slow=2)
    held.fast.close()
    held.window.write(b"0123456789ab")
    clock.advance(100)
    assert held.cut == []
    assert clock.timers == []


async def test_readers_that_are_equally_slow_are_all_cut_off_if_another_one_waits(clock):
    held = Held(clock, slow=3)
    reading = await held.fill()
    clock.advance(10)
    assert held.cut == [0, 1, 2]
    assert held.rooms == 1
    assert held.window.readers == 1
    reading.cancel()


async def test_a_reader_behind_that_does_not_fill_the_window_is_left_alone(clock):
    held = Held(clock, slow=2)
    reading = await held.fill()
    await held.slow[1].read(6)
    held.slow[1].acknowledge()
    clock.advance(10)
    assert held.cut == [0]
    clock.advance(100)
    assert held.cut == [0]
    assert clock.timers == []  # there is room again
    reading.cancel()


async def test_a_hold_up_that_moves_on_in_time_leaves_no_timer(clock):
    held = Held(clock)
    reading = await held.fill()
    clock.advance(9)
    await held.slow[0].read()
    held.slow[0].acknowledge()
    assert held.rooms == 1
    clock.advance(3)
    assert (held.cut, clock.timers) == ([], [])
    held.window.end()
    await reading


async def test_a_waiting_reader_that_gives_up_and_comes_back_does_not_spare_the_stalled_one(clock):
    held = Held(clock)
    reading = await held.fill()
    for _ in range(10):
        clock.advance(1)
        reading.cancel()
        await turn()
        reading = asyncio.create_task(held.fast.read())
        await turn()
    assert held.cut == [0]
    reading.cancel()


async def test_a_reader_that_comes_late_to_the_hold_up_has_its_full_time(clock):
    held = Held(clock)
    reading = await held.fill()
    clock.advance(9)
    late = held.window.open("earliest")
    clock.advance(1)
    assert held.cut == [0]
    assert held.window.readers == 2
    clock.advance(9)
    assert held.window.readers == 2
    clock.advance(2.5)
    assert held.window.readers == 1
    with pytest.raises(ReaderStalled):
        await late.read()
    reading.cancel()


async def test_a_replay_that_holds_up_a_waiting_producer_is_cut_off(clock):
    window = Window(10, lossless=True, call_later=clock.call_later)
    live = window.open()
    window.write(b"0123456789ab")
    await live.read()
    reading = asyncio.create_task(live.read())
    await turn()
    replay = window.open("earliest")
    producing = asyncio.create_task(window.wait_room())
    await turn()
    clock.advance(10)
    await producing
    with pytest.raises(ReaderStalled):
        await replay.read()
    reading.cancel()


@pytest.mark.parametrize("over", ["end", "close", "detach"])
async def test_no_timer_outlives_the_stream_or_its_readers(clock, over):
    held = Held(clock)
    reading = await held.fill()
    assert len(clock.timers) == 1
    if over == "detach":
        held.fast.close()
    else:
        getattr(held.window, over)()
    assert clock.timers == []
    await asyncio.gather(reading, return_exceptions=True)


async def test_the_timer_of_the_running_loop_cuts_a_stalled_reader_off():
    window = Window(1, lossless=True, stall_timeout=0.01)
    slow, fast = window.open(), window.open()
    cut = asyncio.Event()
    slow.on_cut = cut.set
    window.write(b"xy")
    await fast.read()
    reading = asyncio.create_task(fast.read())
    async with asyncio.timeout(5):
        await cut.wait()
    window.end()
    assert await reading == b""
    assert window._timer is None


# Ends of readers, and patience


async def test_ended_readers_end_after_the_bytes_written_so_far_and_the_stream_goes_on():
    window = Window(lossless=True)
    early = window.open()
    waiting = asyncio.ensure_future(window.open().read())
    await turn()
    window.write(b"one")
    assert await waiting == b"one"
    window.end_readers()
    window.write(b"two")
    late = window.open("earliest")
    assert [chunk async for chunk in early] == [b"one"]
    assert take(late) == b"onetwo"


async def test_a_reader_that_waits_ends_at_once_when_readers_are_ended():
    window = Window(lossless=True)
    waiting = asyncio.ensure_future(window.open().read())
    await turn()
    window.end_readers()
    assert await waiting == b""


def test_the_first_end_of_a_reader_counts():
    window = Window(lossless=True)
    reader = window.open()
    window.write(b"one")
    window.end_readers()
    window.write(b"two")
    window.end_readers()
    assert (take(reader), take(reader)) == (b"one", b"")


async def test_a_patient_readers_place_is_kept_however_long_it_takes(clock):
    window = Window(10, lossless=True, stall_timeout=10, call_later=clock.call_later)
    slow, other = window.open(), window.open()
    slow.patient = True
    window.write(b"x" * 10)
    take(slow)
    take(other)
    waiting = asyncio.ensure_future(other.read())
    await turn()
    clock.advance(100)
    window.write(b"y")
    assert await waiting == b"y"
    assert take(slow) == b"y"


# --- several pieces at once -----------------------------------------------------------------------------------------


def take_pieces(cursor: Cursor, max_bytes: int = DEFAULT_READ) -> list[bytes]:
    """Return what a read of pieces gives; it must not wait."""
    reading = cursor.read_pieces(max_bytes)
    try:
        reading.send(None)
    except StopIteration as done:
        return done.value
    reading.close()
    raise AssertionError("the read waited")


@given(
    st.lists(st.integers(1, 3 * SHARE_BYTES), max_size=12),
    st.integers(1, DEFAULT_READ),
    st.booleans(),
    st.integers(0, 3 * SHARE_BYTES),
)
def test_pieces_are_all_the_bytes_in_order_and_no_more_than_wanted(
    sizes: list[int], max_bytes: int, own_end: bool, surplus: int
):
    window = Window(64 * DEFAULT_CAPACITY, lossless=True)
    content = b"".join(bytes([number + 1]) * size for number, size in enumerate(sizes))
    with window.open() as cursor:
        at = 0
        for size in sizes:
            window.write(content[at : at + size])
            at += size
        if own_end:
            window.end_readers()
            window.write(bytes(surplus))  # for others
        else:
            window.end()
        got = b""
        while (pieces := take_pieces(cursor, max_bytes)) != [b""]:
            assert all(pieces)
            assert sum(map(len, pieces)) <= max_bytes
            got += b"".join(pieces)
        assert got == content


def test_big_chunks_come_several_at_once_and_are_the_very_objects_that_were_written_to_every_reader():
    chunks = [bytes([number]) * 2 * SHARE_BYTES for number in range(6)]
    window = Window(lossless=True)
    for chunk in chunks:
        window.write(chunk)
    with window.open("earliest") as one, window.open("earliest") as other:
        for reader in (one, other):
            first, second = take_pieces(reader), take_pieces(reader)
            assert (len(first), len(second)) == (4, 2)
            assert all(piece is chunk for piece, chunk in zip(first + second, chunks, strict=True))


def test_pieces_count_as_delivered_at_the_next_read_all_of_them():
    window = Window(lossless=True)
    window.write(b"a" * SHARE_BYTES)
    window.write(b"b" * SHARE_BYTES)
    with window.open() as cursor:
        assert len(take_pieces(cursor)) == 2
        assert window.given == 0
        cursor.acknowledge()
        assert window.given == 2 * SHARE_BYTES
    with window.open() as cursor:
        window.end("it broke")
        with pytest.raises(StreamFailed):
            take_pieces(cursor)


def test_what_is_missed_lies_before_the_first_of_the_pieces():
    window = Window(4 * SHARE_BYTES, lossless=False)
    with window.open() as cursor:
        for number in range(6):
            window.write(bytes([number]) * SHARE_BYTES)
        pieces = take_pieces(cursor)
        assert cursor.take_missed() == 2 * SHARE_BYTES
        assert [piece[0] for piece in pieces] == [2, 3, 4, 5]
