"""Chains pass items on as they are, a few at a time, and close all their parts, whoever ends them."""

import asyncio
import pickle
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk import Context, DecoratorError, sequence
from sequence_sdk.contract import contract_of
from sequence_sdk.spec import OnError, spec_of
from sequence_sdk.stream import Stream

PATIENCE = 5  # seconds until a test that would hang fails


class Host:
    """The process around a context; no Sequence here speaks to it."""


CONTEXT = Context(host=Host())


async def rest(items):
    async def collect():
        return [item async for item in items]

    return await asyncio.wait_for(collect(), PATIENCE)


async def numbers(count):
    for number in range(count):
        yield number


@sequence
async def double(stream):
    async for item in stream:
        yield item * 2


@sequence
def plus(stream, amount=1):
    for item in stream:
        yield item + amount


@sequence
async def collected(stream):
    return [item async for item in stream]


@sequence
def mapped(stream):
    return stream.map(lambda item: item * 10)


@sequence
async def total(stream):
    return sum([item async for item in stream])


@sequence
async def named(context, stream, *, sign="!"):
    async for item in stream:
        yield f"{item}{sign}{context.instance_id}"


@sequence
class Negated:
    def each(self, item):
        return -item


# What it is


def test_a_chain_is_made_by_a_function_or_a_bar():
    for chain in (sequence.chain(double, plus), double | plus):
        assert repr(chain) == "<Sequence chain double | plus>"
        assert chain.__name__ == chain.__qualname__ == "double | plus"
        assert chain.__module__ == __name__
        assert spec_of(chain).parts == (double, plus)


def test_chains_in_chains_are_flat():
    wanted = (double, plus, Negated, mapped)
    for chain in (
        double | plus | Negated | mapped,
        double | (plus | (Negated | mapped)),
        (double | plus) | (Negated | mapped),
        sequence.chain(double, sequence.chain(plus), Negated | mapped),
    ):
        assert spec_of(chain).parts == wanted


def test_a_class_may_stand_on_either_side_of_a_bar():
    assert spec_of(double | Negated).parts == (double, Negated)
    assert spec_of(Negated | double).parts == (Negated, double)
    assert spec_of(Negated | (double | plus)).parts == (Negated, double, plus)


def test_a_function_without_a_mark_will_do():
    chain = double | (lambda stream: stream)
    first, second = spec_of(chain).parts
    assert first is double
    assert spec_of(second) is not None


def test_the_first_part_speaks_for_the_input_and_the_last_for_the_output():
    @sequence(
        takes="application/x-ndjson",
        gives="text/plain",
        requires="in",
        provides="x",
        on_error="skip",
        max_parallel=3,
    )
    def first(stream): ...

    @sequence(
        takes="text/plain",
        gives="application/octet-stream",
        requires="y",
        provides="out",
        on_error="quarantine",
    )
    def last(context, stream): ...

    spec = spec_of(first | last)
    assert (spec.takes, spec.gives, spec.requires, spec.provides) == (
        "application/x-ndjson",
        "application/octet-stream",
        "in",
        "out",
    )
    assert (spec.on_error, spec.max_parallel, spec.wants_context) == (OnError.SKIP, 3, True)
    assert spec_of(double | plus).wants_context is False


pipeline = double | plus


def test_a_chain_is_pickled_by_its_parts():
    copied = pickle.loads(pickle.dumps(pipeline))
    assert spec_of(copied) == spec_of(pipeline)


# How it is called


@pytest.mark.parametrize(
    ("parts", "outputs"),
    [
        ([double], [0, 2, 4]),
        ([plus], [1, 2, 3]),
        ([double, plus, double], [2, 6, 10]),
        ([plus, plus, plus], [3, 4, 5]),
        ([collected, double], [0, 2, 4]),
        ([double, collected], [0, 2, 4]),
        ([mapped, plus, mapped], [10, 110, 210]),
        ([mapped, mapped], [0, 100, 200]),
        ([total, double], [6]),
        ([Negated, Negated, Negated], [0, -1, -2]),
        ([plus, Negated, collected, mapped], [-10, -20, -30]),
        ([double, lambda stream: "one", collected], ["one"]),
        ([double, lambda stream: None, collected], []),
    ],
    ids=lambda value: "-".join(getattr(part, "__name__", str(part)) for part in value),
)
async def test_items_go_from_part_to_part_as_they_are(parts, outputs):
    assert await rest(sequence.chain(*parts)(Stream.from_iterable([0, 1, 2]))) == outputs
    assert await rest(sequence.chain(*parts)(numbers(3))) == outputs or not isinstance(parts[0], type(double))


async def test_a_number_at_the_end_is_text_where_the_output_is():
    assert await rest((double | total)(numbers(3))) == ["6"]

    @sequence
    async def counted(stream) -> int:
        return len([item async for item in stream])

    assert await rest((double | counted)(numbers(3))) == [3]


@given(st.lists(st.integers() | st.none(), max_size=60))
def test_nothing_is_lost_doubled_or_out_of_order(items):
    @sequence
    async def same(stream):
        async for item in stream:
            yield item

    @sequence
    def threaded(stream):
        yield from stream

    async def run():
        return await rest(
            sequence.chain(same, threaded, lambda stream: stream, same)(Stream.from_iterable(items))
        )

    assert asyncio.run(run()) == items


async def test_the_context_goes_to_each_part_that_wants_it():
    chain = named | (lambda stream: stream) | named
    assert await rest(chain(CONTEXT, numbers(2))) == ["0!!", "1!!"]
    with pytest.raises(TypeError, match=r"named \| <lambda> \| named is called with \(context, input\)"):
        chain(numbers(2))
    with pytest.raises(TypeError, match=r"double \| plus is called with \(input\)"):
        pipeline()


async def test_start_arguments_go_to_the_first_part_that_has_any():
    chain = double | plus | plus
    assert await rest(chain(numbers(2), 10)) == [11, 13]
    with pytest.raises(TypeError, match=r"no part of double \| total takes start arguments"):
        (double | total)(numbers(2), 10)


async def test_an_option_goes_to_every_part_that_has_it():
    chain = double | named | (lambda stream, *, sign, **others: stream.map(lambda item: (item, sign, others)))
    assert await rest(chain(CONTEXT, numbers(1), sign="?", more=1)) == [("0?", "?", {"more": 1})]
    with pytest.raises(TypeError, match=r"no part of double \| named takes an option 'more'"):
        (double | named)(CONTEXT, numbers(1), sign="?", more=1)


async def test_a_hook_has_its_say_in_how_parts_are_called():
    seen = []

    async def invoke(part, stream, call):
        seen.append(part)
        return call(Stream.from_iterable([7, 8])) if part is plus else call(stream)

    assert await rest(pipeline.open(None, numbers(3), (10,), invoke=invoke)) == [17, 18]
    assert seen == [double, plus]


async def test_a_part_gets_a_stream_with_its_own_limit():
    @sequence(max_parallel=3)
    def narrow(stream):
        return [stream._max_parallel]

    assert await rest((double | narrow | collected)(numbers(1))) == [3]


# Laziness and back-pressure


async def test_nothing_is_called_before_the_first_read_and_nothing_begun_is_closed():
    calls = []

    @sequence
    def first(stream):
        calls.append("first")
        return stream

    flow = (first | double)(numbers(1))
    await asyncio.sleep(0)
    assert calls == []
    await flow.aclose()
    assert calls == []
    assert await rest(flow) == []


async def test_a_slow_reader_holds_up_the_first_part():
    given = 0

    @sequence
    async def source(stream):
        nonlocal given
        async for item in stream:
            given += 1
            yield item

    flow = (source | double | double)(numbers(10_000))
    assert await anext(flow) == 0
    for _ in range(1000):
        await asyncio.sleep(0)
    assert given < 200
    assert len(await rest(flow)) == 9_999


async def test_large_items_wait_one_at_a_time():
    given = 0

    @sequence
    async def source(stream):
        nonlocal given
        for _ in range(20):
            given += 1
            yield bytes(1024 * 1024)

    flow = (source | (lambda stream: stream))(numbers(0))
    await anext(flow)
    for _ in range(100):
        await asyncio.sleep(0)
    assert given <= 3
    await flow.aclose()


# Ends


def part(log, name, *, fails=False):
    async def run(stream):
        try:
            async for item in stream:
                if fails and item == 3:
                    raise ValueError(name)
                yield item
        finally:
            await asyncio.sleep(0)
            log.append(name)

    run.__name__ = name
    return sequence(run)


def threaded_part(log, name):
    def run(stream):
        try:
            yield from stream
        finally:
            log.append(name)

    run.__name__ = name
    return sequence(run)


async def test_all_parts_are_closed_the_last_first_when_the_reader_goes_away():
    log = []
    flow = sequence.chain(part(log, "a"), part(log, "b"), part(log, "c"))(numbers(1000))
    assert await anext(flow) == 0
    await flow.aclose()
    assert log == ["c", "b", "a"]
    await flow.aclose()


async def test_all_parts_are_closed_when_a_read_is_cancelled():
    log = []

    async def never():
        yield 1
        await asyncio.Event().wait()

    flow = sequence.chain(part(log, "a"), part(log, "b"), part(log, "c"))(never())
    assert await anext(flow) == 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(flow), 0.01)
    assert log == ["c", "b", "a"]


async def test_a_cancelled_read_of_a_part_loses_nothing_and_ends_nobody():
    @sequence
    async def slow(stream):
        async for item in stream:
            for _ in range(5):
                await asyncio.sleep(0)
            yield item

    @sequence
    async def impatient(stream):
        while True:
            read = asyncio.ensure_future(anext(stream, None))
            await asyncio.sleep(0)
            if not read.done():
                read.cancel()
                await asyncio.wait([read])
                continue
            if read.result() is None:
                return
            yield read.result()

    items = list(range(1, 8))
    assert await rest((slow | impatient)(Stream.from_iterable(items))) == items


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_an_error_closes_all_parts_and_names_its_own(place):
    log = []
    parts = [part(log, name, fails=number == place) for number, name in enumerate("abc")]
    seen = []

    async def read():
        async for item in sequence.chain(*parts)(numbers(1000)):
            seen.append(item)  # noqa: PERF401 - the items before the error count

    with pytest.raises(ValueError, match="abc"[place]) as caught:
        await asyncio.wait_for(read(), PATIENCE)
    assert seen == [0, 1, 2]
    assert sorted(log) == ["a", "b", "c"]
    assert caught.value.__notes__ == [f"raised in part {place + 1} of 3 of the chain, {'abc'[place]}"]


@pytest.mark.parametrize("place", [0, 1])
async def test_an_error_of_the_call_names_the_part_too(place):
    @sequence
    def broken(stream):
        raise OSError("no disk")

    log = []
    parts = [part(log, "a"), part(log, "b")]
    parts[place] = broken
    with pytest.raises(OSError, match="no disk") as caught:
        await rest(sequence.chain(*parts)(numbers(3)))
    assert caught.value.__notes__ == [f"raised in part {place + 1} of 2 of the chain, broken"]
    assert log == []


async def test_a_part_may_answer_the_error_of_the_one_before():
    @sequence
    async def lenient(stream):
        while True:
            try:
                async for item in stream:
                    yield item
                return
            except ValueError as error:
                yield str(error)
                return

    log = []
    assert await rest((part(log, "a", fails=True) | lenient)(numbers(9))) == [0, 1, 2, "a"]
    assert log == ["a"]


async def test_what_a_part_raises_while_it_is_closed_is_raised():
    @sequence
    async def untidy(stream):
        try:
            async for item in stream:
                yield item
        finally:
            raise OSError("cannot close")

    log = []
    flow = (untidy | part(log, "b"))(numbers(100))
    await anext(flow)
    with pytest.raises(OSError, match="cannot close") as caught:
        await flow.aclose()
    assert log == ["b"]
    assert caught.value.__notes__ == ["raised in part 1 of 2 of the chain, untidy"]


async def test_a_part_that_failed_behind_items_nobody_wants_is_closed_in_silence():
    @sequence
    async def failing(stream):
        yield 1
        yield 2
        raise ValueError("never read")

    log = []
    flow = (failing | part(log, "b"))(numbers(0))
    assert await anext(flow) == 1
    for _ in range(10):
        await asyncio.sleep(0)
    await flow.aclose()
    assert log == ["b"]


async def test_an_exit_of_a_part_goes_through_to_the_reader():
    @sequence
    async def leaving(stream):
        yield 1
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        _ = [item async for item in (leaving | double | mapped)(numbers(0))]
    assert caught.value.code == 3
    assert not hasattr(caught.value, "__notes__")


async def test_a_generator_in_a_thread_that_waits_for_items_does_not_take_the_close_for_their_end():
    log = []
    done = threading.Event()

    @sequence
    def summing(stream):
        try:
            yield 0
            yield sum(stream)
            log.append("ended")
        finally:
            log.append("closed")
            done.set()

    async def never():
        yield 1
        await asyncio.Event().wait()

    flow = (double | summing | double)(never())
    assert await anext(flow) == 0
    for _ in range(50):
        await asyncio.sleep(0)
    await flow.aclose()
    assert await asyncio.to_thread(done.wait, PATIENCE)
    assert log == ["closed"]


async def test_a_generator_in_a_thread_at_rest_is_closed_before_those_it_reads():
    log = []
    flow = sequence.chain(part(log, "a"), threaded_part(log, "b"), part(log, "c"))(numbers(100_000))
    assert await anext(flow) == 0
    for _ in range(100):
        await asyncio.sleep(0.001)
    await flow.aclose()
    assert log == ["c", "b", "a"]


async def test_what_a_generator_in_a_thread_gave_last_is_not_lost_with_the_chain():
    rested = threading.Event()

    @sequence
    def eager(stream):
        for item in stream:
            yield item * 2
            if item == 6:
                rested.set()

    flow = (double | eager)(numbers(4))
    assert flow.leftovers() == []
    assert await anext(flow) == 0
    while not await asyncio.to_thread(rested.wait, 0):
        await asyncio.sleep(0)
    await flow.aclose()
    assert flow.leftovers() == [4, 8, 12]
    assert flow.leftovers() == []
    other = (double | collected)(numbers(4))
    await rest(other)
    assert other.leftovers() == []


# What is refused


def test_a_chain_of_nothing_is_refused():
    with pytest.raises(DecoratorError, match=r"has no parts; write sequence\.chain\(parse, store\)"):
        sequence.chain()


@pytest.mark.parametrize("thing", ["text", None, 1, dict], ids=str)
def test_what_is_no_sequence_is_refused(thing):
    with pytest.raises(DecoratorError, match="is no Sequence; mark it with @sequence, or give a function"):
        double | thing
    with pytest.raises(DecoratorError, match="is no Sequence"):
        pipeline | thing
    if not isinstance(thing, type):
        with pytest.raises(DecoratorError, match="is no Sequence"):
            thing | pipeline


def test_a_function_that_cannot_be_called_with_an_input_is_refused():
    with pytest.raises(DecoratorError, match="has no parameter for the input"):
        double | (lambda: None)


def test_parts_whose_hints_contradict_each_other_are_refused():
    class Order: ...

    @sequence
    async def parse(stream) -> AsyncIterator[str]:
        yield ""

    @sequence
    async def store(orders: Stream[dict[str, int]]): ...

    with pytest.raises(
        DecoratorError, match=r"parse gives str, but store takes dict\[str, int\], and nothing is converted"
    ):
        parse | store
    assert contract_of(parse | double | store).item is contract_of(double).item


def test_parts_whose_hints_cannot_be_resolved_are_looked_at_later():
    @sequence
    async def store(orders: "Stream[NotYet]"): ...  # noqa: F821 - that is the point

    chain = double | store
    with pytest.raises(DecoratorError, match="'NotYet' is not defined"):
        contract_of(chain)


def test_a_start_argument_that_no_start_could_give_is_refused():
    @sequence
    def store(stream, table): ...

    with pytest.raises(
        DecoratorError,
        match=r"store needs the start argument 'table', but those of the chain go to plus.*option",
    ):
        plus | store
    assert [argument.name for argument in contract_of(double | store).arguments] == ["table"]


def test_an_option_that_two_parts_have_is_of_one_type():
    @sequence
    def one(stream, *, limit: int = 3): ...

    @sequence
    def two(stream, *, limit: str): ...

    @sequence
    def three(stream, *, limit): ...

    with pytest.raises(DecoratorError, match="the option 'limit' is str in two, and int in a part before it"):
        one | two
    for chain in (one | three, three | one):
        (option,) = contract_of(chain).options
        assert option.hint is int
        assert contract_of(chain).bind([], {"limit": 4}).options == {"limit": 4}
        with pytest.raises(ValueError, match="configuration 'limit': missing"):
            contract_of(chain).bind([], {})
    assert contract_of(one | one).bind([], {}).options == {}


def test_further_options_of_two_parts_are_of_one_type():
    @sequence
    def one(stream, **options: int): ...

    @sequence
    def two(stream, **options: str): ...

    @sequence
    def three(context, stream, **rest): ...

    with pytest.raises(DecoratorError, match="the option 'options' is str in two"):
        one | two
    assert contract_of(one | three | double).bind([], {"a": 1, "stream": 2, "context": 3}).options == {
        "a": 1,
        "context": 3,
    }


def test_a_plain_generator_keeps_its_types():
    @sequence
    def lengths(lines: Stream[str]) -> Iterator[int]:
        yield from map(len, lines)

    assert (contract_of(lengths | double).takes, contract_of(double | lengths).gives) == (
        "text/plain",
        "application/x-ndjson",
    )
