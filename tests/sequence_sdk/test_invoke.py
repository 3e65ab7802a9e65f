"""A Sequence may be any callable and its result any shape; what it gives, and what it raises, is read in order."""

import asyncio
import collections
import contextlib
import decimal
import io
import queue
import threading
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sequence_sdk import ContentType, Context, Stream, sequence
from sequence_sdk._invoke import ThreadedOutputs, call, encode_outputs, outputs
from sequence_sdk.content import BadOutput
from sequence_sdk.spec import CLASSIC, SequenceSpec, spec_of

TEXT, NDJSON, OCTETS = ContentType.TEXT, ContentType.NDJSON, ContentType.OCTETS
PLAIN = SequenceSpec(takes=None, gives=None, wants_context=False)
PATIENCE = 5  # seconds until a test that would hang fails


class Host:
    """The process around a context; no Sequence here speaks to it."""


CONTEXT = Context(host=Host())


async def rest(items):
    return [item async for item in items]


async def run(function, *args, spec=PLAIN, kind=NDJSON, input=None):
    """Call a Sequence and return all it gives."""
    return await asyncio.wait_for(
        rest(outputs(await call(function, spec, CONTEXT, input, list(args)), kind)), PATIENCE
    )


async def failing(items, error):
    """Read up to the error; return the items before it and the error."""
    seen = []

    async def read():
        async for item in items:
            seen.append(item)  # noqa: PERF401 - the items before the error count

    with pytest.raises(error) as caught:
        await read()
    return seen, caught.value


async def at_rest(threaded):
    """Wait until the thread has no room for its next item."""
    while True:
        with threaded._lock:
            if threaded._resting and threaded._items:
                return
        await asyncio.sleep(0)


async def gone(thread):
    await asyncio.to_thread(thread.join, PATIENCE)
    assert not thread.is_alive()


# The call


async def test_the_function_gets_input_and_arguments():
    assert await run(lambda stream, *args: [(stream, args)], 1, "b", input="in") == [("in", (1, "b"))]


async def test_a_function_that_wants_the_context_gets_it_first():
    @sequence
    def marked(context, input, argument):
        return [(context, input, argument)]

    assert await run(marked, 1, spec=spec_of(marked), input="in") == [(CONTEXT, "in", 1)]
    assert await run(lambda *args: [args], 1, spec=CLASSIC, input="in") == [(CONTEXT, "in", 1)]


async def test_arguments_that_do_not_fit_are_a_type_error():
    with pytest.raises(TypeError, match="positional argument"):
        await run(lambda stream: None, 1)


async def test_what_the_function_raises_comes_out_of_the_call():
    def plain(input):
        raise OSError("plain")

    async def coroutine(input):
        raise OSError("coroutine")

    for function in (plain, coroutine):
        with pytest.raises(OSError, match=function.__name__):
            await call(function, PLAIN, CONTEXT, None, [])


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
async def test_an_exit_comes_out_of_the_call(error):
    def plain(input):
        raise error(3)

    with pytest.raises(error):
        await call(plain, PLAIN, CONTEXT, None, [])


async def test_a_stop_iteration_of_the_author_is_an_error_and_no_end():
    async def coroutine(input):
        raise StopIteration

    def plain(input):
        return next(iter(()))

    for function in (coroutine, plain):
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            await call(function, PLAIN, CONTEXT, None, [])


# Shapes of results


async def async_items(*items):
    for item in items:
        await asyncio.sleep(0)
        yield item


class AsyncItems:
    def __aiter__(self):
        return async_items(1, 2)


class AwaitableItems(AsyncItems):
    def __await__(self):
        raise AssertionError("a stream is read, not awaited")


class Nested:
    """An awaitable that is no coroutine, and gives another awaitable."""

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return coroutine_giving([1, 2])


class Lazy:
    def __iter__(self):
        return iter([1, 2])


async def coroutine_giving(value):
    await asyncio.sleep(0)
    return value


def future_giving(value):
    future = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


@types.coroutine
def old_coroutine(value):
    yield from asyncio.sleep(0).__await__()
    return value


SHAPES = {
    "async generator": lambda: async_items(1, 2),
    "async iterable": AsyncItems,
    "async iterable that could be awaited": AwaitableItems,
    "generator": lambda: (item for item in (1, 2)),
    "iterator": lambda: iter([1, 2]),
    "map": lambda: map(int, "12"),
    "iterable that is no collection": Lazy,
    "list": lambda: [1, 2],
    "tuple": lambda: (1, 2),
    "set": lambda: {1, 2},
    "range": lambda: range(1, 3),
    "deque": lambda: collections.deque([1, 2]),
    "keys": {1: "a", 2: "b"}.keys,
}


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
async def test_a_result_of_many_items_gives_them(make):
    assert await run(lambda stream: make()) == [1, 2]


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
async def test_a_result_may_be_awaited_first(make):
    async def coroutine(input):
        return make()

    assert await run(coroutine) == [1, 2]


async def test_a_result_is_awaited_as_often_as_it_needs():
    async def deep(input):
        return coroutine_giving(future_giving(asyncio.ensure_future(old_coroutine(Nested()))))

    assert await run(deep) == [1, 2]


async def test_a_coroutine_may_return_a_call_of_an_async_generator():
    async def coroutine(input, count):
        return async_items(*range(count))

    assert await run(coroutine, 3) == [0, 1, 2]


async def test_the_input_itself_is_a_result():
    batches = iter([["a"], ["b"]])

    async def next_batch():
        return next(batches, None)

    assert await run(lambda stream: stream, input=Stream.from_batches(next_batch)) == ["a", "b"]


async def test_nothing_is_no_item():
    async def consumer(input):
        return None

    assert await run(lambda stream: None) == []
    assert await run(consumer) == []


@pytest.mark.parametrize("empty", [[], (), set(), {}.values(), range(0)])
async def test_an_empty_collection_is_no_item(empty):
    assert await run(lambda stream: empty) == []


ONE = [
    "text", "", b"bytes", b"", bytearray(b"a"), memoryview(b"a"), {"a": 1}, {}, collections.UserDict(a=1),
    types.MappingProxyType({"a": 1}), 0, 1, 1.5, True, False, object(), decimal.Decimal(1),
]  # fmt: skip


@pytest.mark.parametrize("value", ONE, ids=lambda value: type(value).__name__)
async def test_any_other_value_is_one_item(value):
    async def task(input):
        return value

    assert [item is value for item in await run(task)] == [True]
    assert [item is value for item in await run(lambda stream: value)] == [True]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (7, "7"), (1.5, "1.5"), (True, "True"), (decimal.Decimal("0.10"), "0.10")]
)
async def test_a_number_is_its_text_where_the_output_is_text(number, text):
    assert await run(lambda stream: number, kind=TEXT) == [text]
    assert await run(lambda stream: number, kind=OCTETS) == [number]


FALSY = [None, 0, "", b"", [], {}, False]


@pytest.mark.parametrize("make", [iter, list, tuple, lambda items: async_items(*items)])
async def test_falsy_items_are_items(make):
    assert await run(lambda stream: make(FALSY)) == FALSY


@pytest.mark.parametrize("error", [OSError, SystemExit, KeyboardInterrupt])
async def test_an_error_of_an_async_generator_comes_behind_its_items(error):
    async def items(input):
        yield 1
        raise error

    seen, _ = await failing(outputs(items(None), NDJSON), error)
    assert seen == [1]


@pytest.mark.parametrize("stop", [StopIteration, StopAsyncIteration])
async def test_a_stop_raised_in_an_async_generator_is_an_error_and_no_end(stop):
    async def items(input):
        yield 1
        raise stop

    seen, error = await failing(outputs(items(None), NDJSON), RuntimeError)
    assert seen == [1]
    assert isinstance(error.__cause__, stop)


async def test_the_outputs_of_every_result_can_be_closed():
    for result in (None, [1, 2], "text", async_items(1, 2), iter([1, 2])):
        items = outputs(result, NDJSON)
        await items.aclose()
        assert await rest(items) == []


# Generators in a thread


@given(st.lists(st.none() | st.integers() | st.text(max_size=3), max_size=50))
@settings(max_examples=30)
def test_all_items_of_a_generator_come_once_and_in_order(items):
    async def read():
        return await run(lambda stream: (item for item in items))

    assert asyncio.run(read()) == items


async def test_many_items_of_a_generator_come_once_and_in_order():
    assert await run(lambda stream: iter(range(10_000))) == list(range(10_000))


async def test_a_generator_runs_in_a_thread_of_its_own():
    def names(input):
        yield threading.current_thread().name
        yield threading.current_thread().daemon

    assert await run(names) == ["sequence generator", True]


async def test_a_generator_that_blocks_does_not_block_the_loop():
    go = threading.Event()

    def blocking(input):
        yield go.wait(PATIENCE)

    items = outputs(blocking(None), NDJSON)
    reader = asyncio.create_task(rest(items))
    await asyncio.sleep(0)  # the reader waits, the generator blocks, and this line is reached
    go.set()
    assert await reader == [True]


async def test_an_item_is_given_at_once_and_does_not_wait_for_the_next():
    taken = queue.SimpleQueue()

    def echo(input):
        for number in range(5):
            yield number
            assert taken.get(timeout=PATIENCE) == number

    seen = []
    async for item in outputs(echo(None), NDJSON):
        seen.append(item)
        taken.put(item)
    assert seen == [0, 1, 2, 3, 4]


async def test_a_generator_reads_the_input_with_a_plain_loop():
    batches = iter([["a", "b"], [], ["c"]])

    async def next_batch():
        await asyncio.sleep(0)
        return next(batches, None)

    def shout(input):
        for line in input:
            yield line.upper()

    assert await run(shout, input=Stream.from_batches(next_batch)) == ["A", "B", "C"]


async def test_a_slow_consumer_bounds_how_far_a_generator_is_ahead():
    made = []

    def endless(input):
        while True:
            made.append(len(made))
            yield made[-1]

    items = outputs(endless(None), NDJSON)
    await at_rest(items)
    assert len(made) == 1024 + 1
    assert await anext(items) == 0
    await at_rest(items)
    assert len(made) == 2 * 1024 + 1
    assert [await anext(items) for _ in range(1023)] == list(range(1, 1024))
    await at_rest(items)
    assert len(made) == 2 * 1024 + 1
    assert await anext(items) == 1024
    await items.aclose()


@pytest.mark.parametrize(
    "large", ["x" * 300_000, b"x" * 300_000, bytearray(300_000)], ids=["str", "bytes", "bytearray"]
)
async def test_large_items_bound_it_by_their_size(large):
    made = []

    def endless(input):
        while True:
            made.append(1)
            yield large

    items = outputs(endless(None), NDJSON)
    await at_rest(items)
    assert len(made) == 4 + 1
    assert await anext(items) is large
    await at_rest(items)
    assert len(made) == 8 + 1
    await items.aclose()


@pytest.mark.parametrize("error", [OSError, SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_an_error_of_a_generator_comes_behind_its_items(error):
    raised = error("bad")

    def items(input):
        yield 1
        yield 2
        raise raised

    threaded = outputs(items(None), NDJSON)
    seen, caught = await failing(threaded, error)
    assert seen == [1, 2]
    assert caught is raised
    assert await rest(threaded) == []


class Falsy(Exception):
    def __bool__(self):
        return False


async def test_an_error_that_counts_as_false_is_an_error():
    def items(input):
        yield 1
        raise Falsy

    seen, _ = await failing(outputs(items(None), NDJSON), Falsy)
    assert seen == [1]


@pytest.mark.parametrize("stop", [StopIteration, StopAsyncIteration])
async def test_a_stop_raised_in_a_generator_is_an_error_and_no_end(stop):
    raised = stop("mine")

    def items(input):
        yield 1
        raise raised

    seen, error = await failing(outputs(items(None), NDJSON), RuntimeError)
    assert seen == [1]
    assert error.__cause__ is raised


async def test_the_end_of_a_generator_stays_the_end():
    items = outputs(iter([1]), NDJSON)
    assert await rest(items) == [1]
    assert await rest(items) == []
    await items.aclose()


async def test_a_source_with_a_close_is_closed_at_its_end():
    source = io.StringIO("a\nb\n")
    assert await run(lambda stream: source) == ["a\n", "b\n"]
    assert source.closed


async def test_what_closing_the_source_raises_comes_behind_the_items():
    class Source:
        def __init__(self):
            self.items = iter([1, 2])

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.items)

        def close(self):
            raise OSError("disk is full")

    seen, error = await failing(outputs(Source(), NDJSON), OSError)
    assert seen == [1, 2]
    assert str(error) == "disk is full"


async def test_two_readers_of_a_generator_get_distinct_items():
    items = outputs(iter(range(100)), NDJSON)
    shares = await asyncio.gather(rest(items), rest(items))
    assert sorted(shares[0] + shares[1]) == list(range(100))


async def test_a_cancelled_wait_loses_no_item():
    go = threading.Event()

    def later(input):
        go.wait(PATIENCE)
        yield from (1, 2)

    items = outputs(later(None), NDJSON)
    reader = asyncio.create_task(rest(items))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait([reader])
    go.set()
    assert await rest(items) == [1, 2]


# Closing


async def test_a_generator_at_its_yield_is_closed_when_aclose_returns():
    ends = []

    def endless(input):
        try:
            while True:
                yield 1
        finally:
            ends.append(threading.current_thread().name)

    items = outputs(endless(None), NDJSON)
    assert await anext(items) == 1
    await at_rest(items)
    await items.aclose()
    assert ends == ["sequence generator"]
    assert await rest(items) == []
    await items.aclose()
    await gone(items._thread)


async def test_a_generator_that_is_busy_ends_at_its_next_yield_and_is_not_waited_for():
    go, ends = threading.Event(), []

    def busy(input):
        try:
            yield 1
            ends.append(go.wait(PATIENCE))
            yield 2
            ends.append("went on")
        finally:
            ends.append("closed")

    items = outputs(busy(None), NDJSON)
    assert await anext(items) == 1
    await items.aclose()
    assert ends == []
    go.set()
    await gone(items._thread)
    assert ends == [True, "closed"]
    assert await rest(items) == []


async def test_what_a_generator_raises_when_it_is_closed_comes_out_of_aclose():
    def endless(input):
        try:
            while True:
                yield 1
        finally:
            raise OSError("disk is full")

    items = outputs(endless(None), NDJSON)
    await at_rest(items)
    with pytest.raises(OSError, match="disk is full"):
        await items.aclose()
    await items.aclose()


async def test_an_error_behind_items_that_nobody_wants_is_gone_with_them():
    def items(input):
        yield 1
        raise OSError

    threaded = outputs(items(None), NDJSON)
    await gone(threaded._thread)
    await threaded.aclose()
    assert await rest(threaded) == []


async def test_a_reader_in_another_task_sees_the_end_when_the_generator_is_closed():
    go = threading.Event()

    def blocking(input):
        go.wait(PATIENCE)
        yield 1

    items = outputs(blocking(None), NDJSON)
    reader = asyncio.create_task(rest(items))
    await asyncio.sleep(0)
    await items.aclose()
    assert await asyncio.wait_for(reader, PATIENCE) == []
    go.set()
    await gone(items._thread)


async def test_aclose_that_is_cancelled_leaves_the_generator_behind():
    go, closing, ends = threading.Event(), threading.Event(), []

    def endless(input):
        try:
            while True:
                yield 1
        finally:
            closing.set()
            go.wait(PATIENCE)
            ends.append("closed")

    items = outputs(endless(None), NDJSON)
    await at_rest(items)
    close = asyncio.create_task(items.aclose())
    await asyncio.to_thread(closing.wait, PATIENCE)
    close.cancel()
    await asyncio.wait([close])
    assert close.cancelled()
    assert ends == []
    go.set()
    await gone(items._thread)
    assert ends == ["closed"]


def test_a_generator_ends_when_the_loop_is_gone():
    go, ends, threads = threading.Event(), [], []

    def endless(input):
        try:
            go.wait(PATIENCE)
            while True:
                yield 1
        finally:
            ends.append("closed")

    async def leave():
        items = outputs(endless(None), NDJSON)
        threads.append(items._thread)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(anext(items), 0.001)

    asyncio.run(leave())
    go.set()
    threads[0].join(PATIENCE)
    assert ends == ["closed"]


async def test_an_iterator_without_close_is_let_go():
    items = outputs(iter(range(10_000)), NDJSON)
    assert isinstance(items, ThreadedOutputs)
    await at_rest(items)
    await items.aclose()
    await gone(items._thread)


async def test_what_a_closed_generator_had_given_is_left_over_once():
    def numbers():
        yield from range(10_000)

    outputs = ThreadedOutputs(numbers())
    first = await anext(outputs)
    await outputs.aclose()
    left = outputs.leftovers()
    assert [first, *left] == list(range(1 + len(left)))
    assert len(left) > 0
    assert outputs.leftovers() == []


# --- written to their last item -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "wanted"),
    [(["a", "b"], [b"a", b"b"]), (iter(["a", "b"]), [b"a", b"b"]), ("ab", [b"ab"]), (None, [])],
    ids=["list", "iterator", "text", "none"],
)
async def test_a_result_is_written_item_by_item(result, wanted):
    written = []

    async def write(chunk: bytes) -> None:
        written.append(chunk)

    await encode_outputs(result, TEXT, write)
    assert written == wanted


@pytest.mark.parametrize("closing", [None, asyncio.CancelledError(), BadOutput(9, "x", 9)])
async def test_an_item_that_cannot_be_written_is_told_by_its_number_and_closes_the_result(closing):
    ends, written = [], []

    async def items():
        try:
            yield 1
            yield {2}
        finally:
            ends.append("closed")
            if closing is not None:
                raise closing

    async def write(chunk: bytes) -> None:
        written.append(chunk)

    with pytest.raises(BadOutput) as caught:
        await encode_outputs(items(), NDJSON, write)
    assert (caught.value.number, written, ends) == (2, [b"1\n"], ["closed"])


async def test_a_reader_that_fails_closes_what_can_be_closed():
    ends = []

    class Items:
        def __aiter__(self):
            return self

        async def __anext__(self):
            return "a"

    class Closed(Items):
        async def aclose(self):
            ends.append("closed")

    async def write(_chunk: bytes) -> None:
        raise ConnectionError("gone")

    for result in (Items(), Closed()):
        with pytest.raises(ConnectionError, match="gone"):
            await encode_outputs(result, TEXT, write)
    assert ends == ["closed"]
