"""Lists, sequences, the clock, and several streams: nothing is lost, and nobody waits longer than for the slowest."""

import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.stream import Stream, StreamAlreadyConsumed, UnsupportedOperation

END = object()


async def turns(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


def others():
    return asyncio.all_tasks() - {asyncio.current_task()}


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock leaps to the next timer as soon as nothing else is to do."""

    def __init__(self):
        super().__init__()
        self._now = 1000.0
        self._really = self._selector.select
        self._selector.select = self._leap

    def _leap(self, timeout):
        events = self._really(0)
        if not events and timeout:
            self._now += timeout
        return events

    def time(self):
        return self._now


def in_virtual_time(play):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(play())


def now():
    return round(asyncio.get_running_loop().time() - 1000, 6)


async def timed(*items):
    """Give items, each a number of seconds after the one before."""
    for delay, item in items:
        await asyncio.sleep(delay)
        yield item


def failing(*items):
    left = list(items)

    async def next_batch():
        item = left.pop(0) if left else None
        if isinstance(item, Exception):
            raise item
        return item

    return Stream.from_batches(next_batch)


# sequence


def lines(left, chunk):
    return (left + chunk).split("\n")


async def async_lines(left, chunk):
    await asyncio.sleep(0)
    return lines(left, chunk)


def generated_lines(left, chunk):
    yield from lines(left, chunk)


@pytest.mark.parametrize("function", [lines, async_lines, generated_lines])
@pytest.mark.parametrize(
    ("chunks", "parts"),
    [
        (["ab\nc", "d\ne", "f"], ["ab", "cd", "ef"]),
        (["ab\n", "d\n"], ["ab", "d"]),
        ([], []),
    ],
)
async def test_sequence_cuts_in_another_way(function, chunks, parts):
    assert await Stream.from_iterable(chunks).sequence(function, "").to_list() == parts


async def test_what_is_left_at_the_end_goes_on_if_it_is_true():
    assert await Stream.from_iterable([]).sequence(lines, "x").to_list() == ["x"]
    assert await Stream.from_iterable([1, 2, 3]).sequence(lambda left, item: (item, left + item), 0).to_list() == [
        1, 2, 3, 6,
    ]  # fmt: skip
    for falsy in (0, "", None, []):
        assert await Stream.from_iterable([1]).sequence(
            lambda left, item, end=falsy: [item, end]
        ).to_list() == [1]


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_error_of_a_sequencer_comes_in_its_place(is_async):
    def plain(left, item):
        if item == 3:
            raise ValueError("three")
        return [left, item] if item != 5 else []

    async def later(left, item):
        return plain(left, item)

    function = later if is_async else plain
    stream = Stream.from_iterable([1, 2, 3]).sequence(function, 0)
    assert [await stream.read(), await stream.read()] == [0, 1]
    with pytest.raises(ValueError, match="three"):
        await stream.read()
    assert await stream.read(END) is END
    with pytest.raises(ValueError, match="gave no part; the last one is what is left"):
        await Stream.from_iterable([5]).sequence(function, 0).to_list()

    class Policy:
        def rejected(self, item, error):
            return True

    left = [[1, 2, 3, 4, 5, 6], None]

    async def next_batch():
        return left.pop(0)

    assert await Stream.from_batches(next_batch, policy=Policy()).sequence(function, 0).to_list() == [
        0,
        1,
        2,
        4,
        6,
    ]


async def test_a_cancelled_read_does_not_end_the_call_of_a_sequencer():
    gate, calls = asyncio.Event(), []

    async def later(left, item):
        calls.append(item)
        await gate.wait()
        return [item, 0]

    stream = Stream.from_iterable([1, 2]).sequence(later)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stream.read(), 0.001)
    gate.set()
    assert await stream.to_list() == [1, 2]
    assert calls == [1, 2]


async def test_parts_are_given_before_the_next_call_is_done():
    gate = asyncio.Event()

    def call(left, item):
        return [item, 0] if item == 1 else later(item)

    async def later(item):
        await gate.wait()
        return [item, 0]

    stream = Stream.from_iterable([1, 2]).sequence(call)
    assert await asyncio.wait_for(stream.read(), 5) == 1
    gate.set()
    assert await stream.to_list() == [2]


@pytest.mark.parametrize("how", ["close", "drop"])
async def test_the_call_of_a_sequencer_ends_with_the_stream(how):
    async def later(left, item):
        await asyncio.sleep(60)

    stream = Stream.from_iterable([1]).sequence(later)
    reading = asyncio.create_task(stream.read())
    await turns()
    reading.cancel()
    await turns()
    if how == "close":
        await stream.aclose()
        assert not others()
    del stream, reading
    await turns()
    assert not others()


async def test_a_sequencer_that_is_between_two_calls_is_dropped_as_well():
    stream = Stream.from_iterable([1, 2]).sequence(async_lines_of_numbers)
    assert await stream.read() is None
    await stream.aclose()
    del stream
    await turns()
    assert not others()


async def async_lines_of_numbers(left, item):
    return [left, item]


# Lists


@given(st.lists(st.integers(), max_size=30), st.integers(1, 7), st.integers(1, 5))
def test_windows_of_a_count_are_full_but_for_the_last(items, count, max_parallel):
    async def play():
        windows = await Stream.from_iterable(items, max_parallel).window(count).to_list()
        assert windows == [items[at : at + count] for at in range(0, len(items), count)]

    asyncio.run(play())


def test_a_window_of_time_begins_with_its_first_item():
    async def play():
        source = timed((5, "a"), (1, "b"), (1.5, "c"), (0.7, "d"), (20, "e"))
        stream = Stream.from_iterable(source).window(seconds=3)
        return [(now(), window) async for window in stream]

    assert in_virtual_time(play) == [(8, ["a", "b", "c"]), (11.2, ["d"]), (28.2, ["e"])]


def test_a_window_of_both_ends_with_what_comes_first():
    async def play():
        source = timed((0, 1), (0, 2), (0, 3), (10, 4))
        stream = Stream.from_iterable(source).window(2, seconds=3)
        return [(now(), window) async for window in stream]

    assert in_virtual_time(play) == [(0, [1, 2]), (3, [3]), (10, [4])]


async def test_a_list_that_is_not_full_is_given_before_an_error():
    for make in (
        lambda stream: stream.window(5),
        lambda stream: stream.window(5, seconds=60),
        lambda stream: stream.batch(lambda item: False),
    ):
        stream = make(failing([1, 2], ValueError("bad line"), [3]))
        assert await stream.read() == [1, 2]
        with pytest.raises(ValueError, match="bad line"):
            await stream.read()
        assert await stream.to_list() == [[3]]
    stream = failing(ValueError("at once")).window(2)
    with pytest.raises(ValueError, match="at once"):
        await stream.read()


def test_a_timeout_of_the_source_is_no_end_of_a_window():
    async def play():
        stream = Stream.from_iterable(timed((0, 1), (5, 2))).timeout(2).window(seconds=60)
        assert await stream.read() == [1]
        with pytest.raises(TimeoutError, match="no item came within 2 s"):
            await stream.read()

    in_virtual_time(play)


def test_a_cancelled_read_leaves_a_window_as_it_is():
    async def play():
        stream = Stream.from_iterable(timed((0, 1), (2, 2))).window(seconds=5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.read(), 1)
        return [(now(), window) async for window in stream]

    assert in_virtual_time(play) == [(2, [1, 2])]


@pytest.mark.parametrize("options", [{}, {"count": 0}, {"seconds": 0}, {"seconds": float("nan")}])
def test_a_window_is_told_what_makes_sense(options):
    with pytest.raises(ValueError, match=r"window\(\)"):
        Stream.from_iterable([]).window(**options)


# The clock


@given(
    st.lists(st.tuples(st.sampled_from([0, 0.1, 0.7, 3]), st.integers()), max_size=30),
    st.integers(1, 4),
    st.sampled_from([0, 0.2, 1.5]),
)
def test_no_span_has_more_items_than_the_rate_allows(items, count, pause):
    async def play():
        times = []
        async for item in Stream.from_iterable(timed(*items)).rate_limit(count, 2.0):
            times.append((now(), item))
            await asyncio.sleep(pause)
        return times

    times = in_virtual_time(play)
    assert [item for _, item in times] == [item for _, item in items]
    for (early, _), (late, _) in zip(times, times[count:], strict=False):
        assert late - early >= 2.0 - 1e-5


def test_a_rate_lets_the_first_items_pass_at_once():
    async def play():
        return [(now(), item) async for item in Stream.from_iterable(range(5)).rate_limit(2)]

    assert in_virtual_time(play) == [(0, 0), (0, 1), (1, 2), (1, 3), (2, 4)]


def test_a_rate_is_told_what_makes_sense():
    for arguments in ((0,), (1, 0), (1, -1)):
        with pytest.raises(ValueError, match=r"rate_limit\(\)"):
            Stream.from_iterable([]).rate_limit(*arguments)


def test_a_timeout_is_told_and_loses_no_item():
    async def play():
        stream = Stream.from_iterable(timed((1, "a"), (5, "b"))).timeout(2)
        seen = []
        while len(seen) < 5:
            try:
                seen.append((now(), await stream.read(END)))
            except TimeoutError as error:
                seen.append((now(), str(error)))
        return seen

    late = "no item came within 2 s"
    assert in_virtual_time(play) == [(0, "a"), (3, late), (5, late), (5, "b"), (6, END)]


def test_the_time_between_two_reads_does_not_count():
    async def play():
        seen = []
        async for item in Stream.from_iterable(timed((1, "a"), (1, "b"))).timeout(2):
            seen.append(item)
            await asyncio.sleep(60)
        return seen

    assert in_virtual_time(play) == ["a", "b"]


async def test_a_timeout_of_somebody_else_stays_what_it_is():
    stream = failing([1], TimeoutError("theirs"), [2]).timeout(60)
    assert await stream.read() == 1
    with pytest.raises(TimeoutError, match="theirs"):
        await stream.read()
    assert await stream.read() == 2
    with pytest.raises(ValueError, match=r"timeout\(\): seconds is 0"):
        stream.timeout(0)


def test_retry_waits_longer_each_time():
    async def play():
        times = []

        def call(item):
            times.append(now())
            raise OSError("busy")

        with pytest.raises(OSError, match="busy"):
            await Stream.from_iterable([1]).retry(call, attempts=4, delay=1, backoff=3).to_list()
        return times

    assert in_virtual_time(play) == [0, 1, 4, 13]


# merge


def test_merge_gives_items_as_they_come():
    async def play():
        first = Stream.from_iterable(timed((1, "a"), (2, "b"), (2, "c")))
        second = timed((2, 1), (2, 2))
        return [(now(), item) async for item in first.merge(second, ["at once"])]

    assert in_virtual_time(play) == [(0, "at once"), (1, "a"), (2, 1), (3, "b"), (4, 2), (5, "c")]


@given(st.lists(st.lists(st.integers(), max_size=20), min_size=1, max_size=4), st.integers(1, 5))
def test_merge_loses_nothing_and_keeps_the_order_of_each(lists, max_parallel):
    async def play():
        tagged = [[(number, item) for item in items] for number, items in enumerate(lists)]
        first, *rest = (Stream.from_iterable(items, max_parallel) for items in tagged)
        merged = await first.merge(*rest).to_list()
        for number, items in enumerate(tagged):
            assert [item for item in merged if item[0] == number] == items
        assert not others()

    asyncio.run(play())


async def test_an_error_of_one_ends_a_merge_behind_the_items_before_it():
    closed = []

    async def endless():
        try:
            while True:
                await asyncio.sleep(0)
                yield 0
        finally:
            closed.append(True)

    async def bad():
        yield 1
        await turns()
        raise ValueError("bad")

    stream = Stream.from_iterable(bad()).merge(endless())
    seen = []

    async def read():
        async for item in stream:
            seen.append(item)  # noqa: PERF401 - those before the error count

    with pytest.raises(ValueError, match="bad"):
        await read()
    assert 1 in seen
    await stream.aclose()
    assert closed == [True]
    assert not others()


async def test_two_errors_at_once_are_told_as_one():
    def bad(name):
        raise ValueError(name)
        yield

    stream = Stream.from_iterable(bad("first")).merge(bad("second"))
    with pytest.raises(ValueError, match="first"):
        await stream.read()
    assert await stream.read(END) is END
    await turns()


async def test_a_dropped_merge_lets_go_of_its_streams():
    stream = Stream.from_iterable(timed((0, 1), (60, 2))).merge(timed((60, 3)))
    assert await stream.read() == 1
    del stream
    await turns()
    assert not others()


async def test_a_merge_that_was_closed_before_it_began_never_begins():
    stream = Stream.from_iterable([1]).merge([2])
    await stream.aclose()
    assert await stream.read(END) is END


async def test_a_stream_that_fails_while_it_is_closed_is_no_noise():
    async def source():
        try:
            yield 1
            await asyncio.sleep(60)
        finally:
            raise ValueError("too late")

    stream = Stream.from_iterable(source())
    assert await stream.read() == 1
    await turns()
    await stream.aclose()
    assert await stream.read(END) is END
    assert not others()


@pytest.mark.parametrize("name", ["map", "full map", "sequence", "tee", "iterable", "window"])
async def test_who_waits_when_the_stream_is_closed_sees_the_end(name):
    async def never(*items):
        await asyncio.sleep(60)

    source = Stream.from_iterable(timed((0, 1), (0, 2), (60, 3)), 2)
    stream = {
        "map": lambda: source.map(never),
        "full map": lambda: Stream.from_iterable(range(9), 2).map(never),
        "sequence": lambda: source.sequence(never),
        "tee": lambda: (kept := source.tee())[0].use(lambda branch: setattr(branch, "kept", kept) or branch),
        "iterable": lambda: source,
        "window": lambda: source.window(5, seconds=60),
    }[name]()

    async def read():
        return [item async for item in stream]

    reading = asyncio.create_task(read())
    await turns()
    assert not reading.done()
    await stream.aclose()
    assert await asyncio.wait_for(reading, 5) in ([], [1, 2], [[1, 2]])
    stream.kept = None


async def test_a_call_of_a_sequencer_that_cancels_itself_is_an_error_of_its_item():
    async def call(left, item):
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="was cancelled"):
        await Stream.from_iterable([1]).sequence(call).to_list()


# tee


@given(st.lists(st.integers(), max_size=20), st.integers(1, 4), st.integers(1, 4))
def test_each_branch_has_all_items(items, count, max_parallel):
    async def play():
        branches = Stream.from_iterable(items, max_parallel).tee(count)
        assert len(branches) == count
        assert await asyncio.gather(*(branch.to_list() for branch in branches)) == [items] * count

    asyncio.run(play())


async def test_a_branch_can_be_ahead_of_the_slowest_by_max_parallel_items():
    asked = []

    def source():
        for number in range(1000):
            asked.append(number)
            yield number

    fast, slow = Stream.from_iterable(source(), 4).tee()
    assert [await fast.read() for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fast.read(), 0.001)
    assert len(asked) == 4
    assert await slow.read() == 0
    reading = asyncio.create_task(fast.read())
    await turns()
    assert [await slow.read() for _ in range(4)] == [1, 2, 3, 4]
    assert await reading == 4


@pytest.mark.parametrize("how", ["close", "drop", "drop unread"])
async def test_a_branch_that_goes_away_holds_up_nobody(how):
    fast, slow = Stream.from_iterable(range(100), 4).tee()
    if how == "drop unread":
        del slow
    assert await fast.read() == 0
    reading = asyncio.create_task(fast.to_list())
    await turns()
    if how == "close":
        await slow.aclose()
        await slow.aclose()
        assert await slow.read(END) is END
    elif how == "drop":
        assert not reading.done()
        del slow
    assert await reading == list(range(1, 100))


async def test_each_branch_is_told_of_an_error_in_its_place():
    first, second = failing([1, 2], ValueError("bad line"), [3]).tee()
    for branch in (first, second):
        assert [await branch.read(), await branch.read()] == [1, 2]
        with pytest.raises(ValueError, match="bad line"):
            await branch.read()
    assert await asyncio.gather(first.to_list(), second.to_list()) == [[3], [3]]


async def test_a_branch_that_lags_has_the_items_before_an_error_first():
    first, second = failing([1], ValueError("bad line"), [2]).tee()
    assert await first.read() == 1
    with pytest.raises(ValueError, match="bad line"):
        await first.read()
    assert await first.read() == 2
    assert await second.read() == 1
    with pytest.raises(ValueError, match="bad line"):
        await second.read()
    assert await second.to_list() == [2]


async def test_the_stream_closes_with_its_last_branch():
    closed = []

    async def source():
        try:
            yield 1
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    first, second = Stream.from_iterable(source()).tee()
    assert await first.read() == 1
    await first.aclose()
    assert closed == []
    await second.aclose()
    assert closed == [True]
    assert not others()
    with pytest.raises(ValueError, match=r"tee\(\): count is 0"):
        Stream.from_iterable([]).tee(0)


# pipe


async def test_pipe_brings_all_items_and_the_end_to_a_target():
    target = Stream()
    assert Stream.from_iterable(range(100)).pipe(target) is target
    assert await target.to_list() == list(range(100))
    stream, target = Stream.from_iterable([1, 2]), Stream()
    assert stream.pipe(target, end=False) is stream.pipe(target)  # the last word counts
    assert await target.to_list() == [1, 2]
    target = Stream(3).map(lambda item: item * 2)
    assert await Stream.from_iterable(range(100)).pipe(target).to_list() == list(range(0, 200, 2))
    await turns()
    assert not others()


async def test_several_targets_get_the_same_items_as_fast_as_the_slowest_is_read():
    asked = []

    def source():
        for number in range(20):
            asked.append(number)
            yield number

    stream, fast, slow = Stream.from_iterable(source(), 4), Stream(4), Stream(4)
    stream.pipe(fast)
    stream.pipe(slow)
    assert [await fast.read() for _ in range(4)] == [0, 1, 2, 3]
    await turns()
    assert len(asked) <= 8
    assert await asyncio.gather(fast.to_list(), slow.to_list()) == [list(range(4, 20)), list(range(20))]


async def test_a_target_may_outlive_what_is_piped_to_it():
    target = Stream()
    Stream.from_iterable([1, 2]).pipe(target, end=False)
    assert [await target.read(), await target.read()] == [1, 2]
    target.write(3)
    target.end()
    assert await target.to_list() == [3]


async def test_items_wait_when_there_is_no_target_and_go_to_the_next():
    stream, first, second = Stream(), Stream(), Stream()
    assert stream.unpipe() is stream
    stream.pipe(first)
    stream.write(1)
    assert await first.read() == 1
    assert stream.unpipe(first) is stream
    stream.unpipe(first)
    stream.write(2)
    await turns()
    stream.pipe(second)
    stream.write(3)
    stream.end()
    assert await second.to_list() == [2, 3]
    first.end()
    assert await first.to_list() == []


async def test_a_target_that_is_piped_to_again_at_once_gets_everything():
    stream, first, second = Stream.from_iterable(range(50), 2), Stream(2), Stream(2)
    stream.pipe(first)
    assert await first.read() == 0
    stream.unpipe()
    stream.pipe(second)
    stream.unpipe()
    stream.pipe(second)
    first.end()
    assert [0, *await first.to_list(), *await second.to_list()] == list(range(50))


async def test_a_pipe_may_be_added_when_the_items_are_over():
    stream, first, second = Stream.from_iterable([1]), Stream(), Stream()
    stream.pipe(first)
    assert await first.to_list() == [1]
    stream.pipe(second)
    assert await second.to_list() == []


@pytest.mark.parametrize("how", ["close", "drop", "end"])
async def test_a_target_that_goes_away_holds_up_nobody(how):
    stream, gone, kept = Stream.from_iterable(range(100), 4), Stream(4), Stream(4)
    stream.pipe(gone)
    stream.pipe(kept)
    assert await kept.read() == 0
    match how:
        case "close":
            await gone.aclose()
        case "drop":
            del gone
        case "end":
            gone.end()
            assert await gone.read() == 0
            reading = asyncio.create_task(gone.to_list())
            await turns()
            assert await reading == list(range(1, 4)) or reading.result()[:3] == [1, 2, 3]
    assert await kept.to_list() == list(range(1, 100))
    await turns()
    assert not others()


async def test_the_items_wait_when_all_targets_have_gone_away():
    stream, gone = Stream(), Stream()
    stream.pipe(gone)
    gone.end()
    stream.write(1)
    await turns()
    stream.write(2)
    stream.end()
    assert await stream.pipe(Stream()).to_list() == [1, 2]
    assert await gone.to_list() == []


async def test_a_pipe_to_nobody_is_dropped_with_its_stream():
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    stream, target = Stream(), Stream()
    stream.pipe(target)
    await turns()
    del target
    await turns()
    del stream
    gc.collect()
    await turns()
    assert not others()
    assert complaints == []


async def test_an_error_reaches_the_readers_of_all_targets():
    stream, first, second, ended = Stream.from_iterable([1, 0]), Stream(), Stream(), Stream()
    inverse = stream.map(lambda item: 1 // item)
    for target in (first, second, ended):
        inverse.pipe(target)
    ended.end()
    for target in (first, second):
        assert await target.read() == 1
        with pytest.raises(ZeroDivisionError):
            await target.read()
        assert await target.read(END) is END


async def test_a_target_that_was_ended_before_the_source_is_left_as_it_is():
    stream, target = Stream(), Stream()
    stream.pipe(target)
    await turns()
    target.end()
    stream.end()
    await turns()
    assert await target.to_list() == []
    stream, target = failing(ValueError("nobody hears this")), Stream()
    stream.pipe(target)
    target.end()
    await turns()
    assert await target.to_list() == []


async def test_only_streams_are_piped_to_and_a_piped_stream_has_no_other_consumer():
    stream = Stream.from_iterable([1])
    with pytest.raises(
        UnsupportedOperation, match=r"pipe\(\) writes to a stream, .* see write_to\(\) for files"
    ):
        stream.pipe([])
    stream.pipe(Stream())
    stream.unpipe()
    with pytest.raises(StreamAlreadyConsumed):
        stream.map(str)


# A stalled consumer


class Endless:
    """Endless items; it says how many it was asked for."""

    def __init__(self, make):
        self.asked = 0
        self._make = make

    def __iter__(self):
        return self

    def __next__(self):
        self.asked += 1
        return self._make(self.asked)


async def awaited(item):
    await asyncio.sleep(0)
    return item


OPERATORS = {
    "nothing": lambda s: s,
    "map": lambda s: s.map(str),
    "async map": lambda s: s.map(awaited),
    "three async maps": lambda s: s.map(awaited).map(awaited).map(awaited),
    "each": lambda s: s.each(awaited),
    "filter": lambda s: s.filter(lambda item: True),
    "flatmap": lambda s: s.flatmap(lambda item: [item, item]),
    "async flatmap": lambda s: s.flatmap(lambda item: timed((0, item), (0, item))),
    "parse": lambda s: s.parse(str),
    "retry": lambda s: s.retry(awaited),
    "to_thread": lambda s: s.to_thread(str),
    "batch": lambda s: s.batch(lambda item: True),
    "sequence": lambda s: s.sequence(lambda left, item: [left, item]),
    "window": lambda s: s.window(3),
    "window of time": lambda s: s.window(3, seconds=60),
    "decode": lambda s: s.map(lambda item: b"ab").decode(),
    "split": lambda s: s.map(lambda item: "a\n").split("\n"),
    "words": lambda s: s.map(lambda item: "a ").split(),
    "match": lambda s: s.map(lambda item: "a").match("a"),
    "lines": lambda s: s.map(lambda item: b"a\n").decode().match("a"),
    "rate_limit": lambda s: s.rate_limit(100, 0.001),
    "timeout": lambda s: s.timeout(60),
    "merge": lambda s: s.merge(Endless(str)),
    "tee": lambda s: s.tee(1)[0],
    "pipe": lambda s: s.pipe(Stream(4)),
    "from_iterable": lambda s: Stream.from_iterable(s, 4),
    "use": lambda s: s.use(lambda stream: stream.map(str)),
}


@pytest.mark.parametrize("name", OPERATORS)
async def test_a_consumer_that_stalls_holds_up_the_source(name):
    source = Endless(lambda number: number)
    stream = OPERATORS[name](Stream.from_iterable(source, 4))
    for _ in range(5):
        await stream.read()
    await turns(50)
    asked = source.asked
    await turns(50)
    assert source.asked == asked
    assert asked <= 5 * 3 + 4 * 8
    await stream.aclose()
    del stream
    await turns()


async def test_an_endless_stream_is_reduced_and_written_item_by_item():
    source = Endless(lambda number: number)
    stream = Stream.from_iterable(source, 4)
    target = Stream(4)
    writing = asyncio.create_task(stream.write_to(target))
    assert await target.read() == 1
    await turns(50)
    assert source.asked <= 12
    writing.cancel()
    await turns()
    assert not others()
