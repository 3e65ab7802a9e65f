"""A stream is made of anything that gives items, and gives each once, in order, to one consumer."""

import asyncio
import gc
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.stream import (
    NOTHING,
    MultipleEnd,
    Stream,
    StreamAlreadyConsumed,
    StringStream,
    UnsupportedOperation,
    WriteAfterEnd,
)

END = object()


async def numbers(count):
    for number in range(count):
        yield number


async def turns(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


def others():
    return asyncio.all_tasks() - {asyncio.current_task()}


def writable(*items):
    stream = Stream()
    for item in items:
        stream.write(item)
    stream.end()
    return stream


def batches(*lists):
    left = [*lists, None]

    async def next_batch():
        batch = left.pop(0)
        if isinstance(batch, Exception):
            raise batch
        return batch

    return Stream.from_batches(next_batch)


# Sources


@pytest.mark.parametrize(
    ("make", "items"),
    [
        pytest.param(lambda: Stream.from_iterable([1, 2, 3]), [1, 2, 3], id="list"),
        pytest.param(lambda: Stream.from_iterable(x for x in "ab"), ["a", "b"], id="generator"),
        pytest.param(lambda: Stream.from_iterable(numbers(3)), [0, 1, 2], id="async generator"),
        pytest.param(lambda: Stream.from_iterable(Stream.from_iterable([1, 2])), [1, 2], id="stream"),
        pytest.param(lambda: Stream.read_from("abc"), ["a", "b", "c"], id="text"),
        pytest.param(lambda: Stream.read_from(b"ab"), [97, 98], id="bytes"),
        pytest.param(lambda: Stream.read_from({"a": 1}), ["a"], id="dict"),
        pytest.param(lambda: Stream.read_from(io.StringIO("ab\ncd\n")), ["ab\n", "cd\n"], id="file"),
        pytest.param(
            lambda: Stream.read_from(io.StringIO("ab\ncd\n"), chunk_size=4),
            ["ab\nc", "d\n"],
            id="text chunks",
        ),
        pytest.param(
            lambda: Stream.read_from(io.BytesIO(b"abcde"), chunk_size=2),
            [b"ab", b"cd", b"e"],
            id="byte chunks",
        ),
        pytest.param(lambda: Stream.from_iterable([]), [], id="nothing"),
        pytest.param(
            lambda: Stream.from_iterable([0, "", None, False, []]), [0, "", None, False, []], id="falsy"
        ),
        pytest.param(lambda: writable(1, None, 2), [1, None, 2], id="written"),
        pytest.param(lambda: StringStream.from_iterable(["a"]), ["a"], id="StringStream"),
        pytest.param(lambda: batches([1, 2], [], [3]), [1, 2, 3], id="batches"),
    ],
)
async def test_a_stream_gives_what_its_source_has(make, items):
    assert await make().to_list() == items
    assert [item async for item in make()] == items
    stream = make()
    read = [await stream.read(END) for _ in range(len(items) + 2)]
    assert read == [*items, END, END]


@given(st.lists(st.integers()), st.integers(1, 5), st.integers(0, 8))
def test_what_was_read_is_not_given_to_the_consumer_again(items, max_parallel, count):
    async def play():
        stream = Stream.from_iterable(items, max_parallel)
        first = [await stream.read(END) for _ in range(min(count, len(items)))]
        assert stream.given == len(first)
        rest = stream.map(lambda item: item)
        assert first + await rest.to_list() == items
        assert (stream.given, rest.given) == (len(items), len(items) - len(first))

    asyncio.run(play())


async def test_read_gives_none_at_the_end_and_whatever_else_is_asked_for():
    stream = Stream.from_iterable([None])
    assert [await stream.read(END), await stream.read(), await stream.read(END)] == [None, None, END]


class Reader:
    """Has read(), and nothing else."""

    def __init__(self, *chunks):
        self.chunks = list(chunks)
        self.sizes = []

    def read(self, size):
        self.sizes.append(size)
        return self.chunks.pop(0)


class AsyncReader(Reader):
    async def read(self, size):
        await asyncio.sleep(0)
        return Reader.read(self, size)


@pytest.mark.parametrize("kind", [Reader, AsyncReader])
@pytest.mark.parametrize("end", ["", b"", None])
async def test_chunks_end_with_an_empty_one(kind, end):
    reader = kind("a", "b", end, "never")
    assert await Stream.read_from(reader, chunk_size=7).to_list() == ["a", "b"]
    assert reader.sizes == [7, 7, 7]


async def test_a_stream_reader_is_a_source():
    reader = asyncio.StreamReader()
    reader.feed_data(b"a\nbcd")
    reader.feed_eof()
    assert b"".join(await Stream.read_from(reader, chunk_size=2).to_list()) == b"a\nbcd"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Stream.read_from(3), "type int cannot be iterated"),
        (lambda: Stream.read_from(Reader("a")), "is read in chunks if there is a chunk_size"),
        (lambda: Stream.read_from([1], chunk_size=3), "type list has none"),
        (lambda: Stream.from_iterable(None), "type NoneType cannot be iterated"),
    ],
    ids=["a number", "a reader without chunk_size", "a list with it", "None"],
)
async def test_what_is_no_source_is_refused_at_once(make, text):
    with pytest.raises(UnsupportedOperation, match=text):
        make()


async def test_a_callback_is_called_until_it_returns_none_or_stops():
    for calls in ([1, 0, None, 3], [1, 0], [1, 0, ""], [1, 0, b""]):
        assert await Stream.from_callback(4, iter(calls).__next__).to_list() == [1, 0]


async def test_an_async_callback_is_called_again_when_it_has_returned_and_gets_its_arguments():
    running, left = [], [1, 2, 3, None]

    async def call(*args, **options):
        assert (args, options, running) == ((7,), {"more": 8}, [])
        running.append(True)
        await asyncio.sleep(0)
        running.clear()
        return left.pop(0)

    assert await Stream.from_callback(2, call, 7, more=8).to_list() == [1, 2, 3]


async def test_an_async_callback_ends_with_stop_async_iteration_too():
    class Calls:
        left = 3

        async def _none(self):
            return None

        def __call__(self):
            self.left -= 1
            return numbers(1).__anext__() if self.left else numbers(0).__anext__()

    assert await Stream.from_callback(2, Calls()).to_list() == [0, 0]


async def test_an_async_callback_is_not_called_when_nobody_reads_what_it_gave():
    calls = []

    def call():
        calls.append(True)
        future = asyncio.get_running_loop().create_future()
        future.set_result(len(calls))
        return future

    stream = Stream.from_callback(2, call)
    assert [await stream.read() for _ in range(5)] == [1, 2, 3, 4, 5]
    await turns()
    assert len(calls) <= 10
    await stream.aclose()


async def test_an_async_iterator_that_is_no_generator_is_a_source():
    class Numbers:
        left = 3

        def __aiter__(self):
            return self

        async def __anext__(self):
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return self.left

    assert await Stream.from_iterable(Numbers()).to_list() == [2, 1, 0]


async def test_a_callback_may_become_async_late():
    async def later(value):
        return value

    results = [1, 2, later(3), later(None)]
    assert await Stream.from_callback(64, lambda: results.pop(0)).to_list() == [1, 2, 3]


@pytest.mark.parametrize("late", [False, True])
async def test_an_async_call_that_nobody_waits_for_any_more_is_closed(late):
    async def later():
        await asyncio.Event().wait()

    results = [1, later()] if late else [later()]
    stream = Stream.from_callback(64, lambda: results.pop(0))
    if late:
        assert await stream.read() == 1
    else:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.read(), 0.001)
    del stream
    await turns()
    gc.collect()
    assert not others()


async def test_a_closed_callback_is_not_called_again():
    async def later():
        return await asyncio.Event().wait()

    for stream in (Stream.from_callback(1, lambda: 1), Stream.from_callback(1, later)):
        reading = asyncio.create_task(stream.read())
        await turns()
        await stream.aclose()
        assert await stream.read(END) is END
        assert await reading in (1, None)
        assert not others()


async def test_errors_of_a_source_come_behind_the_items_before_them():
    def plain():
        yield 1
        yield 2
        raise ValueError("plain")

    async def later():
        yield 1
        yield 2
        raise ValueError("async")

    results = iter([1, 2])

    def call():
        for result in results:
            return result
        raise ValueError("call")

    sources = {
        "plain": lambda: Stream.from_iterable(plain()),
        "async": lambda: Stream.from_iterable(later()),
        "call": lambda: Stream.from_callback(64, call),
        "batches": lambda: batches([1, 2], ValueError("batches")),
    }
    for name, make in sources.items():
        stream = make()
        assert [await stream.read(), await stream.read()] == [1, 2]
        with pytest.raises(ValueError, match=name):
            await stream.read()
        assert await stream.read(END) is END


async def test_an_error_of_a_source_at_once_comes_at_once():
    def plain():
        raise ValueError("at once")
        yield

    def call():
        raise ValueError("at once")

    for stream in (Stream.from_iterable(plain()), Stream.from_callback(2, call)):
        with pytest.raises(ValueError, match="at once"):
            await stream.read()


async def test_nothing_is_asked_for_before_somebody_reads_and_then_no_more_than_max_parallel():
    asked = []

    def plain():
        for number in range(1000):
            asked.append(number)
            yield number

    async def later():
        for number in plain():
            yield number

    for source, most in ((plain(), 4), (later(), 8)):
        asked.clear()
        stream = Stream.from_iterable(source, max_parallel=4)
        await turns()
        assert asked == []
        assert await stream.read() == 0
        await turns()
        assert 1 <= len(asked) <= most


async def test_a_cancelled_read_does_not_break_off_an_async_generator():
    gate = asyncio.Event()

    async def source():
        yield 1
        await gate.wait()
        yield 2

    stream = Stream.from_iterable(source())
    assert await stream.read() == 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(stream), 0.001)
    gate.set()
    assert await stream.to_list() == [2]


async def test_an_async_generator_is_run_in_one_task_and_closed_when_nobody_reads_it():
    tasks, closed = set(), []

    async def source():
        try:
            for number in range(1000):
                tasks.add(asyncio.current_task())
                yield number
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    stream = Stream.from_iterable(source(), 2)
    async for item in stream:
        if item == 20:
            break
    assert len(tasks) == 1
    tasks.clear()
    del stream
    await turns()
    assert closed == [True]
    assert not others()


async def test_a_generator_is_closed_with_its_stream():
    closed = []

    def source():
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    stream = Stream.from_iterable(source(), 2).map(str)
    assert await stream.read() == "0"
    await stream.aclose()
    await stream.aclose()
    assert closed == [True]
    assert await stream.to_list() == []


async def test_a_stream_that_is_closed_before_it_began_never_begins():
    async def source():
        raise AssertionError
        yield

    for stream in (
        Stream.from_iterable(source()),
        Stream.from_iterable([1]),
        Stream.from_callback(2, source),
    ):
        await stream.aclose()
        assert await stream.read(END) is END


@pytest.mark.parametrize("value", [0, -1])
def test_at_least_one_item_is_in_flight(value):
    async def next_batch():
        return None

    for make in (
        lambda: Stream(value),
        lambda: Stream.from_iterable([], value),
        lambda: Stream.read_from(Reader(), value, 3),
        lambda: Stream.from_callback(value, print),
        lambda: Stream.from_batches(next_batch, max_parallel=value),
    ):
        with pytest.raises(ValueError, match=f"max_parallel is {value}, and at least 1 item"):
            make()


async def test_the_former_name_makes_the_same_of_batches():
    left = [[1, 2], None]

    async def next_batch():
        return left.pop(0)

    assert await Stream.from_batches(next_batch).map(str).to_list() == ["1", "2"]


# One consumer

CONSUMERS = {
    "map": lambda s: s.map(str),
    "each": lambda s: s.each(str),
    "filter": lambda s: s.filter(str),
    "flatmap": lambda s: s.flatmap(str),
    "parse": lambda s: s.parse(str),
    "retry": lambda s: s.retry(str),
    "to_thread": lambda s: s.to_thread(str),
    "batch": lambda s: s.batch(str),
    "sequence": lambda s: s.sequence(lambda left, item: [left, item]),
    "window": lambda s: s.window(2),
    "decode": lambda s: s.decode(),
    "split": lambda s: s.split(),
    "match": lambda s: s.match("a"),
    "rate_limit": lambda s: s.rate_limit(10),
    "timeout": lambda s: s.timeout(1),
    "merge": lambda s: s.merge([1]),
    "tee": lambda s: s.tee(),
    "pipe": lambda s: s.pipe(Stream()),
    "from_iterable": Stream.from_iterable,
}
SINKS = {
    "to_list": lambda s: s.to_list(),
    "write_to": lambda s: s.write_to(io.StringIO()),
    "reduce": lambda s: s.reduce(lambda a, b: a),
}


@pytest.mark.parametrize("name", CONSUMERS)
async def test_a_stream_has_one_consumer(name):
    stream = Stream.from_iterable([])
    kept = CONSUMERS[name](stream)
    for another, consume in CONSUMERS.items():
        if {name, another} == {"pipe"}:
            continue  # several targets are one consumer
        with pytest.raises(StreamAlreadyConsumed, match=r"go on with what that call returned.*tee\(\)"):
            consume(stream)
    for consume in SINKS.values():
        with pytest.raises(StreamAlreadyConsumed):
            await consume(stream)
    with pytest.raises(StreamAlreadyConsumed):
        await stream.read()
    with pytest.raises(StreamAlreadyConsumed):
        aiter(stream)
    with pytest.raises(StreamAlreadyConsumed):
        next(iter(stream))
    assert kept is not None


@pytest.mark.parametrize("name", SINKS)
async def test_a_sink_is_the_consumer_too(name):
    stream = Stream.from_iterable(["a", "b"])
    await SINKS[name](stream)
    with pytest.raises(StreamAlreadyConsumed):
        await stream.to_list()


async def test_a_plain_loop_that_began_before_the_stream_had_a_consumer_shares_the_batch_with_it():
    stream = Stream.from_iterable([1, 2, 3], 2)
    taken, kept = [], []

    def read():
        for item in stream:
            taken.append(item)
            if not kept:
                kept.append(stream.map(str))

    with pytest.raises(StreamAlreadyConsumed):
        await asyncio.to_thread(read)
    assert (taken, await kept[0].to_list()) == ([1, 2], ["3"])


async def test_readers_that_wait_when_the_stream_is_consumed_get_the_next_items_and_the_consumer_the_rest():
    queue = asyncio.Queue()
    stream = Stream.from_batches(queue.get)
    reading = [asyncio.create_task(stream.read()) for _ in range(3)]
    await turns()
    rest = asyncio.create_task(stream.map(str).to_list())
    await turns()
    queue.put_nowait([1, 2])
    queue.put_nowait([3])
    queue.put_nowait(None)
    assert await rest == ["3"]
    assert [await reading[0], await reading[1]] == [1, 2]
    with pytest.raises(StreamAlreadyConsumed):
        await reading[2]


async def test_a_stream_is_nothing_to_await():
    with pytest.raises(TypeError, match="can't be used in 'await'"):
        await Stream.from_iterable([1])


# What has been given


async def test_given_and_current_say_what_readers_have_had():
    stream = batches([1, 2], [3], [])
    assert (stream.given, stream.current) == (0, NOTHING)
    assert repr(NOTHING) == "NOTHING"
    seen = [(item, stream.given, stream.current) async for item in stream]
    assert seen == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    assert (stream.given, stream.current) == (3, 3)


async def test_what_nobody_was_given_can_be_taken_back():
    stream = batches([1, 2, 3], [4])
    assert await stream.read() == 1
    assert stream.release() == [2, 3]
    assert stream.release() == []
    assert (stream.given, stream.current) == (1, 1)
    assert await stream.to_list() == [4]
    assert (stream.given, stream.current) == (2, 4)


async def test_what_a_consumer_has_left_can_be_taken_back_even_from_a_closed_stream():
    stream = batches(list(range(100)), [100])
    stream._max_parallel = 10
    assert await stream.map(str).read() == "0"
    await stream.aclose()
    assert (stream.given, stream.current) == (10, 9)
    assert stream.release() == list(range(10, 100))
    assert await stream.take(5) is None


# Writing


async def test_a_write_is_done_when_fewer_than_max_parallel_items_are_unread_behind_it():
    stream = Stream(2)
    writes = [stream.write(number) for number in range(5)]
    done = [[write.done() for write in writes]]
    for number in range(5):
        assert await stream.read() == number
        done.append([write.done() for write in writes])
    assert done == [
        [True, False, False, False, False],
        [True, True, False, False, False],
        [True, True, True, False, False],
        [True, True, True, True, False],
        [True] * 5,
        [True] * 5,
    ]
    assert await asyncio.gather(*writes) == [True] * 5


async def test_a_write_through_a_function_waits_for_readers_of_the_end():
    stream = Stream(2)
    doubled = stream.map(lambda number: number * 2)
    writes = [doubled.write(number) for number in range(4)]
    for number in range(4):
        assert await doubled.read() == number * 2
        assert [write.done() for write in writes] == [at <= number + 1 for at in range(4)]


async def test_a_reader_who_waits_makes_room_for_one_more():
    stream, events = Stream(2), []

    async def write():
        for number in range(4):
            await stream.write(number)
            events.append(f"w{number}")
        stream.end()

    writing = asyncio.create_task(write())
    async for number in stream:
        events.append(f"r{number}")  # noqa: PERF401 - writes are told among them
    await writing
    assert events[:2] == ["w0", "w1"]
    assert [event for event in events if event[0] == "r"] == ["r0", "r1", "r2", "r3"]


async def test_a_reader_that_goes_away_loses_no_item():
    stream = Stream()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stream.read(), 0.001)
    reading = asyncio.create_task(stream.read())
    await turns()
    stream.write(1)
    reading.cancel()
    stream.write(2)
    stream.end()
    assert await stream.to_list() == [1, 2]


async def test_readers_that_wait_get_what_is_written_and_then_the_end():
    stream = Stream()
    readers = [asyncio.create_task(stream.read()) for _ in range(3)]
    await turns()
    stream.write(4)
    stream.write(5)
    stream.end()
    assert await asyncio.gather(*readers) == [4, 5, None]


async def test_a_writer_that_gave_up_waiting_is_left_alone():
    stream = Stream(1)
    stream.write(1)
    waiting = stream.write(2)
    waiting.cancel()
    stream.end()
    assert await stream.to_list() == [1, 2]


async def test_nothing_is_written_after_the_end_and_there_is_one_end():
    stream = Stream()
    stream.end()
    with pytest.raises(WriteAfterEnd, match="nothing can be written to it any more"):
        stream.write(1)
    with pytest.raises(MultipleEnd, match="ended already"):
        stream.end()
    assert await stream.to_list() == []


async def test_writers_are_told_when_the_stream_is_closed():
    stream = Stream(1)
    waiting = stream.write(1)
    await stream.aclose()
    assert await waiting is False
    with pytest.raises(WriteAfterEnd):
        stream.write(2)


async def test_items_written_to_a_derived_stream_go_through_all_of_its_functions():
    stream = Stream().map(lambda item: item + 1).filter(lambda item: item % 2).batch(lambda item: item > 4)
    for item in range(8):
        stream.write(item)
    stream.end()
    assert await stream.to_list() == [[1, 3, 5], [7]]


async def test_a_stream_with_a_source_cannot_be_written_to():
    stream = Stream.from_iterable([1]).map(str)
    with pytest.raises(
        UnsupportedOperation, match=r"cannot be written to: its items come from elsewhere; merge\(\)"
    ):
        stream.write(2)
    with pytest.raises(UnsupportedOperation, match="cannot be ended"):
        stream.end()
    with pytest.raises(UnsupportedOperation, match="cannot be piped to"):
        Stream.from_iterable([1]).pipe(stream)


def test_a_stream_can_be_made_and_dropped_without_a_loop():
    stream = Stream.from_iterable(numbers(3)).map(str).flatmap(list).batch(str).sequence(print)
    first, second = stream.tee()
    del first
    assert stream is not None
    del second
    Stream()
    Stream.__new__(Stream)
    gc.collect()


def test_a_loop_that_is_closed_takes_what_ran_for_a_stream_along():
    async def begin():
        stream = Stream.from_iterable(numbers(1000), 2)
        assert await stream.read() == 0
        return stream

    stream = asyncio.run(begin())
    del stream
    gc.collect()
