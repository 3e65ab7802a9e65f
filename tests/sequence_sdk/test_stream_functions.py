"""Functions are called for items in order, up to max_parallel at a time, and what they return keeps the order."""

import asyncio
import gc
import itertools
import operator
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.stream import Stream

END = object()


async def turns(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


def others():
    return asyncio.all_tasks() - {asyncio.current_task()}


def as_async(function):
    async def call(*args, **options):
        await asyncio.sleep(0)
        return function(*args, **options)

    return call


def same(function):
    return function


def sometimes(function):
    """Return the value itself for even items, and an awaitable for odd ones."""

    def call(item, *args):
        return as_async(function)(item, *args) if item % 2 else function(item, *args)

    return call


KINDS = {"plain": same, "async": as_async, "sometimes async": sometimes}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


class Policy:
    def __init__(self, verdict=True):
        self.verdict = verdict
        self.items = []

    def rejected(self, item, error):
        self.items.append((item, str(error)))
        return self.verdict


def under(policy, items, max_parallel=64):
    left = [list(items), None]

    async def next_batch():
        return left.pop(0)

    return Stream.from_batches(next_batch, max_parallel=max_parallel, policy=policy)


def inverse(item):
    return 6 // item


# What they make


@kinds
async def test_map_gives_what_the_function_makes_of_each_item(kind):
    assert await Stream.from_iterable(range(5)).map(kind(lambda item: item * 2)).to_list() == [0, 2, 4, 6, 8]


@kinds
async def test_falsy_results_are_items(kind):
    results = [0, "", None, False, []]
    assert await Stream.from_iterable(range(5)).map(kind(lambda item: results[item])).to_list() == results


@kinds
async def test_each_gives_the_items_after_the_function_was_called(kind):
    seen = []
    stream = Stream.from_iterable(range(4)).each(kind(seen.append))
    assert await stream.read() == 0
    assert seen[0] == 0
    assert await stream.to_list() == [1, 2, 3]
    assert seen == [0, 1, 2, 3] or sorted(seen) == [0, 1, 2, 3]


@kinds
async def test_filter_keeps_items_for_which_the_function_is_true(kind):
    assert await Stream.from_iterable(range(6)).filter(kind(lambda item: item % 3)).to_list() == [1, 2, 4, 5]
    assert await Stream.from_iterable([0, 2]).filter(kind(lambda item: [item])).to_list() == [0, 2]


@kinds
async def test_flatmap_gives_all_that_the_results_hold(kind):
    assert await Stream.from_iterable(range(4)).flatmap(kind(lambda item: [item] * item)).to_list() == [
        1, 2, 2, 3, 3, 3,
    ]  # fmt: skip
    assert await Stream.from_iterable(range(3)).flatmap(kind(lambda item: "ab"[:item])).to_list() == [
        "a",
        "a",
        "b",
    ]


async def test_flatmap_reads_generators_async_generators_and_streams():
    def plain(item):
        yield item
        yield -item

    async def later(item):
        yield item
        await asyncio.sleep(0)
        yield -item

    for function in (plain, later, lambda item: Stream.from_iterable([item, -item])):
        assert await Stream.from_iterable([1, 2]).flatmap(function).to_list() == [1, -1, 2, -2]

    def mixed(item):
        return later(item) if item % 2 else plain(item)

    assert await Stream.from_iterable([2, 1, 4]).flatmap(mixed).to_list() == [2, -2, 1, -1, 4, -4]


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_flatmap_reads_endless_results_no_faster_than_they_are_wanted(kind):
    count = itertools.count()

    async def later():
        for number in count:
            yield number

    stream = Stream.from_iterable([1, 2], 4).flatmap(lambda item: count if kind == "plain" else later())
    assert [await stream.read() for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    await turns()
    assert next(count) <= 18
    await stream.aclose()
    assert not others()


@kinds
async def test_parse_makes_values_of_text(kind):
    stream = Stream.from_iterable(["1", "2"]).map(int).parse(kind(lambda item, base: item + base), 10)
    assert await stream.to_list() == [11, 12]


@kinds
async def test_batch_ends_a_list_behind_the_item_for_which_the_function_is_true(kind):
    assert await Stream.from_iterable(range(5)).batch(kind(lambda item: item % 2)).to_list() == [
        [0, 1],
        [2, 3],
        [4],
    ]
    assert await Stream.from_iterable([1, 2]).batch(kind(lambda item: item == 2)).to_list() == [[1, 2]]
    assert await Stream.from_iterable([]).batch(kind(lambda item: True)).to_list() == []


async def test_functions_get_further_arguments_by_place_and_by_name():
    stream = (
        Stream.from_iterable([1, 2])
        .map(lambda item, a, b: (item, a, b), "a", b="b")
        .filter(lambda item, keep: keep, True)
        .each(lambda item, a: None, 1)
        .flatmap(lambda item, times: [item] * times, times=2)
        .batch(lambda item, last: last, True)
    )
    assert await stream.to_list() == [[(1, "a", "b")]] * 2 + [[(2, "a", "b")]] * 2


async def test_a_future_is_awaited_as_a_coroutine_is():
    def call(item):
        future = asyncio.get_running_loop().create_future()
        future.set_result(item + 1)
        return future

    assert await Stream.from_iterable([1, 2]).map(call).to_list() == [2, 3]


def test_what_is_no_function_is_refused_at_once():
    with pytest.raises(TypeError, match="a function is needed here, and an object of type int is none"):
        Stream.from_iterable([1]).map(3)


async def test_use_gives_the_stream_to_a_function():
    def doubled(stream, times):
        return stream.map(lambda item: item * times)

    stream = Stream.from_iterable([1, 2])
    assert stream.use(lambda whole: whole is stream)
    assert await stream.use(doubled, times=3).to_list() == [3, 6]


# When they are called


async def test_no_function_is_called_before_somebody_reads_and_then_for_no_more_than_max_parallel_items():
    called = []
    stream = Stream.from_iterable(range(1000), 4).map(lambda item: called.append(item) or item)
    await turns()
    assert called == []
    assert await stream.read() == 0
    await turns()
    assert called == [0, 1, 2, 3]


@pytest.mark.parametrize("max_parallel", [1, 3, 7])
async def test_up_to_max_parallel_calls_run_at_a_time(max_parallel):
    running, most = 0, 0

    async def call(item):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3 + item % 5):
            await asyncio.sleep(0)
        running -= 1
        return item

    assert await Stream.from_iterable(range(100), max_parallel).map(call).to_list() == list(range(100))
    assert most == max_parallel


async def test_calls_begin_in_order_and_results_keep_it_whoever_is_done_first():
    begun, gates = [], [asyncio.Event() for _ in range(4)]

    async def call(item):
        begun.append(item)
        await gates[item].wait()
        return item

    stream = Stream.from_iterable(range(4)).map(call)
    reading = asyncio.create_task(stream.to_list())
    await turns()
    assert begun == [0, 1, 2, 3]
    for gate in reversed(gates):
        assert not reading.done()
        gate.set()
        await turns()
    assert await reading == [0, 1, 2, 3]


async def test_a_call_begins_as_soon_as_one_before_it_is_given_out():
    begun, gates = [], [asyncio.Event() for _ in range(6)]

    async def call(item):
        begun.append(item)
        await gates[item].wait()
        return item

    stream = Stream.from_iterable(range(6), 3).map(call)
    reading = asyncio.create_task(stream.read())
    await turns()
    assert begun == [0, 1, 2]
    gates[1].set()
    await turns()
    assert begun == [0, 1, 2]  # the result of 1 waits for that of 0
    gates[0].set()
    assert await reading == 0
    await turns()
    assert begun == [0, 1, 2, 3, 4]
    await stream.aclose()


async def test_a_result_is_given_while_the_source_has_nothing_more_and_calls_begin_while_one_runs():
    queue, gates, begun = asyncio.Queue(), [asyncio.Event() for _ in range(3)], []

    async def call(item):
        begun.append(item)
        await gates[item].wait()
        return item

    stream = Stream.from_batches(queue.get).map(call)
    reading = asyncio.create_task(stream.read())
    queue.put_nowait([0])
    await turns()
    queue.put_nowait([1])
    await turns()
    assert begun == [0, 1]
    gates[0].set()
    assert await reading == 0
    queue.put_nowait([2])
    await turns()
    assert begun == [0, 1, 2]  # nobody reads at this moment
    await stream.aclose()
    assert not others()


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 5), st.integers(1, 3))
def test_the_order_is_kept_however_long_calls_take(delays, max_parallel, stages):
    async def call(item):
        for _ in range(delays[item]):
            await asyncio.sleep(0)
        return item

    async def play():
        stream = Stream.from_iterable(range(len(delays)), max_parallel)
        for _ in range(stages):
            stream = stream.map(lambda item: call(item) if delays[item] else item)
        assert await stream.to_list() == list(range(len(delays)))
        assert not others()

    asyncio.run(play())


@given(st.lists(st.sampled_from(["read", "cancel", "turn"]), max_size=30))
def test_no_cancelled_wait_loses_an_item_that_a_function_makes(steps):
    async def call(item):
        await asyncio.sleep(0)
        return item

    async def play():
        stream = Stream.from_iterable(range(40), 3).map(call).filter(call).map(call)
        readers = []
        for step in steps:
            match step:
                case "read":
                    readers.append(asyncio.create_task(stream.read()))
                case "cancel":
                    for reader in [reader for reader in readers if not reader.done()][:1]:
                        reader.cancel()
                case "turn":
                    await asyncio.sleep(0)
        outcomes = await asyncio.gather(*readers, return_exceptions=True)
        taken = [item for item in outcomes if isinstance(item, int)]
        assert sorted(taken + await stream.to_list()) == list(range(1, 40))

    asyncio.run(play())


# Errors


@kinds
@pytest.mark.parametrize("method", ["map", "each", "filter", "flatmap", "parse", "batch"])
async def test_an_error_comes_behind_what_was_made_of_the_items_before_it_and_ends_the_stream(kind, method):
    def call(item):
        if item == 3:
            raise ValueError("three")
        return [item]

    stream = getattr(Stream.from_iterable(range(1, 100), 8), method)(kind(call))
    before = []

    async def read():
        async for item in stream:
            before.extend(item if isinstance(item, list) else [item])

    with pytest.raises(ValueError, match="three"):
        await read()
    assert before == [1, 2]
    assert await stream.read(END) is END
    assert not others()


@kinds
@pytest.mark.parametrize("method", ["map", "each", "filter", "flatmap", "batch"])
async def test_a_policy_may_go_on_without_the_item(kind, method):
    policy = Policy()

    def call(item):
        if item in (2, 3, 6):
            raise ValueError("no")
        return [item]

    stream = getattr(under(policy, range(8), 3), method)(kind(call)).map(lambda item: item)
    given = [one for item in await stream.to_list() for one in (item if isinstance(item, list) else [item])]
    assert given == [0, 1, 4, 5, 7]
    assert policy.items == [(2, "no"), (3, "no"), (6, "no")]


@kinds
async def test_a_policy_may_let_the_error_through(kind):
    policy = Policy(verdict=False)
    with pytest.raises(ZeroDivisionError):
        await under(policy, [1, 0, 2, 0]).map(kind(inverse)).to_list()
    assert [item for item, _ in policy.items] == [0]


async def test_a_policy_may_go_on_without_a_whole_batch():
    policy = Policy()
    assert await under(policy, [0, 0, 1], 1).flatmap(lambda item: [6 // item]).to_list() == [6]
    assert len(policy.items) == 2


async def test_a_policy_may_change_its_mind():
    class Once(Policy):
        def rejected(self, item, error):
            super().rejected(item, error)
            return len(self.items) == 1

    policy = Once()
    stream = under(policy, [1, 0, 2, 0, 3]).map(inverse)
    assert [await stream.read(), await stream.read()] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        await stream.read()
    assert len(policy.items) == 2


@kinds
async def test_a_result_that_is_neither_true_nor_false_is_an_error_of_its_item(kind):
    class Vague:
        def __bool__(self):
            raise ValueError("vague")

    stream = Stream.from_iterable([1, 2, 3]).filter(kind(lambda item: Vague() if item == 3 else item))
    assert [await stream.read(), await stream.read()] == [1, 2]
    with pytest.raises(ValueError, match="vague"):
        await stream.read()


@kinds
async def test_stop_iteration_is_an_error_and_not_a_quiet_end(kind):
    def call(item):
        if item in (2, 4):
            raise StopIteration
        return item

    with pytest.raises(RuntimeError, match="StopIteration"):
        await Stream.from_iterable([0, 1, 2, 3]).map(kind(call)).to_list()
    policy = Policy()
    assert await under(policy, range(6)).map(kind(call)).to_list() == [0, 1, 3, 5]
    assert [item for item, _ in policy.items] == [2, 4]


@pytest.mark.parametrize(
    "bad", [lambda: 3, lambda: None, lambda: (1 // 0 for _ in "a")], ids=["3", "None", "failing"]
)
async def test_a_result_that_cannot_be_read_is_an_error_of_its_item(bad):
    def call(item):
        return bad() if item == 2 else [item]

    with pytest.raises((TypeError, ZeroDivisionError)):
        await Stream.from_iterable([1, 2]).flatmap(call).to_list()
    policy = Policy()
    assert await under(policy, [1, 2, 3]).flatmap(call).to_list() == [1, 3]
    assert [item for item, _ in policy.items] == [2]


async def test_an_async_generator_that_fails_has_given_what_came_before():
    async def call(item):
        yield item
        if item == 2:
            raise ValueError("two")

    policy = Policy()
    assert await under(policy, [1, 2, 3]).flatmap(call).to_list() == [1, 2, 3]
    assert policy.items == [(2, "two")]
    stream = Stream.from_iterable([1, 2, 3]).flatmap(call)
    assert [await stream.read(), await stream.read()] == [1, 2]
    with pytest.raises(ValueError, match="two"):
        await stream.read()


async def test_an_error_of_the_source_comes_in_its_place_and_the_stream_goes_on_with_its_source():
    left = [[1, 2], ValueError("bad line"), [3], None]

    async def next_batch():
        batch = left.pop(0)
        if isinstance(batch, Exception):
            raise batch
        return batch

    for make in (
        lambda stream: stream.map(str),
        lambda stream: stream.map(as_async(str)),
        lambda stream: stream.flatmap(str),
    ):
        left[:] = [[1, 2], ValueError("bad line"), [3], None]
        stream = make(Stream.from_batches(next_batch))
        assert [await stream.read(), await stream.read()] == ["1", "2"]
        with pytest.raises(ValueError, match="bad line"):
            await stream.read()
        assert await stream.to_list() == ["3"]


async def test_an_error_stops_the_calls_behind_it_before_it_is_told():
    ended = []

    async def call(item):
        if item == 1:
            raise ValueError("one")
        try:
            await asyncio.sleep(0 if item == 0 else 60)
        finally:
            ended.append(item)

    stream = Stream.from_iterable(range(5)).map(call)
    assert await stream.read() is None
    with pytest.raises(ValueError, match="one"):
        await stream.read()
    assert ended == [0, 2, 3, 4]
    assert not others()


async def test_a_wait_that_is_cancelled_while_calls_are_stopped_does_not_lose_the_error():
    release = asyncio.Event()

    async def call(item):
        if item == 0:
            raise ValueError("zero")
        try:
            await asyncio.sleep(60)
        finally:
            await release.wait()

    stream = Stream.from_iterable(range(2)).map(call)
    reading = asyncio.create_task(stream.read())
    await turns()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    release.set()
    with pytest.raises(ValueError, match="zero"):
        await stream.read()


async def test_a_call_that_cancels_itself_is_an_error_of_its_item():
    async def call(item):
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="was cancelled, and not by its stream"):
        await Stream.from_iterable([1]).map(call).to_list()


async def test_what_is_more_than_an_error_is_not_held_back():
    class Out(BaseException):
        pass

    async def call(item):
        raise Out

    with pytest.raises(Out):
        await Stream.from_iterable([1, 2]).map(call).to_list()
    assert not others()


async def test_the_last_call_of_a_batch_may_fail_before_an_awaitable_is_awaited():
    def call(item):
        if item == 3:
            raise ValueError("three")
        return as_async(str)(item)

    stream = Stream.from_iterable([1, 2, 3, 4], 2).map(call)
    assert [await stream.read(), await stream.read()] == ["1", "2"]
    with pytest.raises(ValueError, match="three"):
        await stream.read()


# Nobody is left behind


@pytest.mark.parametrize("how", ["close", "drop", "break", "cancel", "error"])
async def test_calls_end_when_the_consumer_goes_away(how):
    ended = []

    async def call(item):
        try:
            await asyncio.sleep(0 if item < 2 else 60)
        finally:
            ended.append(item)
        return item

    stream = Stream.from_iterable(range(100), 4).map(call)
    match how:
        case "close":
            assert await stream.read() == 0
            await stream.aclose()
            assert not others()
        case "drop":
            assert await stream.read() == 0
            del stream
        case "break":

            async def read(stream):
                async for item in stream:
                    if item == 1:
                        break

            owned, stream = [stream], None
            await read(owned.pop())
        case "cancel":
            reading = asyncio.create_task(stream.to_list())
            await turns()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert not others()
        case "error":

            def bad(total, item):
                raise ValueError("sink")

            with pytest.raises(ValueError, match="sink"):
                await stream.reduce(bad)
            assert not others()
    await turns()
    assert not others()
    assert len(ended) >= 4


async def test_an_error_that_nobody_reads_is_no_noise():
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def call(item):
        await asyncio.sleep(0)
        raise ValueError

    stream = Stream.from_iterable(range(5)).map(call)
    reading = asyncio.create_task(stream.read())
    await turns(1)
    reading.cancel()
    await turns()
    del stream, reading
    await turns()
    gc.collect()
    assert complaints == []
    assert not others()


# Retry


@kinds
async def test_retry_calls_again_until_it_works(kind):
    failures = {1: 2, 2: 1}

    def call(item, plus):
        if failures.get(item):
            failures[item] -= 1
            raise OSError("not yet")
        return item + plus

    assert await Stream.from_iterable(range(4)).retry(kind(call), 10, delay=0).to_list() == [10, 11, 12, 13]
    assert failures == {1: 0, 2: 0}


@kinds
async def test_retry_gives_up_with_the_last_error(kind):
    calls = []

    def call(item):
        calls.append(item)
        raise OSError(len(calls))

    with pytest.raises(OSError, match="3"):
        await Stream.from_iterable([1]).retry(kind(call), delay=0).to_list()
    assert calls == [1, 1, 1]
    calls.clear()
    with pytest.raises(OSError, match="1"):
        await Stream.from_iterable([1]).retry(kind(call), attempts=1).to_list()


@kinds
async def test_retry_lets_other_errors_through(kind):
    calls = []

    def call(item):
        calls.append(item)
        raise ValueError("no use")

    with pytest.raises(ValueError, match="no use"):
        await Stream.from_iterable([1]).retry(kind(call), on=(OSError, KeyError)).to_list()
    assert calls == [1]


def test_retry_is_told_what_makes_sense():
    for options in ({"attempts": 0}, {"delay": -1}, {"delay": float("nan")}):
        with pytest.raises(ValueError, match=r"retry\(\): attempts is .* 1 and 0 are the least"):
            Stream.from_iterable([]).retry(str, **options)


# Threads


async def test_to_thread_runs_a_blocking_function_in_up_to_max_parallel_threads():
    together = threading.Barrier(3, timeout=10)

    def call(item, plus):
        together.wait()  # passes only if three run at a time
        return item + plus, threading.current_thread() is threading.main_thread()

    stream = Stream.from_iterable(range(6), 3).to_thread(call, 10)
    assert await stream.to_list() == [(10 + item, False) for item in range(6)]


async def test_the_loop_goes_on_while_threads_work():
    release, ticks = threading.Event(), []

    def call(item):
        release.wait(10)
        return item

    reading = asyncio.create_task(Stream.from_iterable([1]).to_thread(call).to_list())
    for tick in range(5):
        await asyncio.sleep(0)
        ticks.append(tick)
    assert not reading.done()
    release.set()
    assert await reading == [1]


async def test_an_error_in_a_thread_reaches_the_reader():
    def call(item):
        if item == 2:
            raise StopIteration
        return item

    stream = Stream.from_iterable([1, 2]).to_thread(call)
    assert await stream.read() == 1
    with pytest.raises(RuntimeError, match="StopIteration"):
        await stream.read()


async def test_threads_end_with_their_stream():
    before = threading.active_count()
    stream = Stream.from_iterable(range(3)).to_thread(str)
    assert await stream.to_list() == ["0", "1", "2"]
    del stream
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


# The end of it


@kinds
async def test_reduce_puts_all_items_together(kind):
    def both(left, item):
        return left + item

    function = both if kind is not as_async else as_async(both)
    assert await Stream.from_iterable([1, 2, 3]).reduce(function) == 6
    assert await Stream.from_iterable([1, 2, 3]).reduce(function, 10) == 16
    assert await Stream.from_iterable([]).reduce(function) is None
    assert await Stream.from_iterable([]).reduce(function, 5) == 5


async def test_reduce_takes_a_falsy_beginning_for_what_it_is():
    assert await Stream.from_iterable([1, 2]).reduce(lambda left, item: (left, item), 0) == ((0, 1), 2)
    assert await Stream.from_iterable([None, 2]).reduce(lambda left, item: (left, item)) == (None, 2)


async def test_write_to_writes_to_files_async_writers_and_streams():
    class Writer:
        def __init__(self):
            self.items = []
            self.drained = 0

        async def write(self, item):
            self.items.append(item)

        async def drain(self):
            self.drained += 1

    writer = Writer()
    assert await Stream.from_iterable(["a", "b"], 1).write_to(writer) is writer
    assert (writer.items, writer.drained) == (["a", "b"], 2)
    target = Stream()
    writing = asyncio.create_task(Stream.from_iterable(range(100)).write_to(target))
    assert [await target.read() for _ in range(100)] == list(range(100))
    assert await writing is target
    target.write("more")
    target.end()
    assert await target.to_list() == ["more"]


async def test_write_to_needs_something_to_write_to():
    with pytest.raises(
        Exception, match=r"needs something that has write\(\), and an object of type list has none"
    ):
        await Stream.from_iterable([1]).write_to([])


async def test_a_thread_reads_what_functions_make():
    stream = Stream.from_iterable(range(5)).map(as_async(str)).filter(lambda item: item != "2")
    assert await asyncio.to_thread(list, stream) == ["0", "1", "3", "4"]


def test_operators_of_the_standard_library_are_functions_too():
    async def play():
        return (
            await Stream.from_iterable([(1, "a"), (2, "b")])
            .map(operator.itemgetter(1))
            .map(str.upper)
            .to_list()
        )

    assert asyncio.run(play()) == ["A", "B"]
