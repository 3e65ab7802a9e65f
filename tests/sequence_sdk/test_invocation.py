"""A Sequence runs to the end of its input: typed, its errors met as it says, its code swapped between two items."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk import Context, Stream, sequence
from sequence_sdk._flow import close
from sequence_sdk._invocation import Code, Invocation, Items
from sequence_sdk._invoke import outputs
from sequence_sdk.account import Account
from sequence_sdk.content import ContentType
from sequence_sdk.errors import BadArgument, BadConfig, BadItem
from sequence_sdk.find import find_sequence
from sequence_sdk.spec import CLASSIC, spec_of
from sequence_sdk.stream import NOTHING

PATIENCE = 5.0  # seconds until a test that would hang fails


@dataclass
class Price:
    value: float


class Feed:
    """A source that gives what it is fed, a batch at a time, and can be interrupted."""

    def __init__(self, *batches):
        self.queue: asyncio.Queue = asyncio.Queue()
        for batch in batches:
            self.queue.put_nowait(batch)
        self.interrupted = 0
        self._waiting = None

    async def next_batch(self):
        self._waiting = asyncio.ensure_future(self.queue.get())
        try:
            return await self._waiting
        except asyncio.CancelledError:
            if self._waiting.cancelled() and not asyncio.current_task().cancelling():
                return []  # interrupted
            raise
        finally:
            self._waiting.cancel()

    def interrupt(self):
        self.interrupted += 1
        if self._waiting is not None:
            self._waiting.cancel()


class Play:
    """One run: what it gave, and what it put aside."""

    def __init__(self, thing, source=(), *, args=(), config=None):
        spec = spec_of(thing) or CLASSIC
        self.given = []
        self.aside = []
        self.calls = 0
        self.changed = asyncio.Condition()
        code = Code(thing, spec, args, config or {})
        self.invocation = Invocation(
            code,
            Context(logger=logging.getLogger("play")),
            source if isinstance(source, Feed) else Items(source),
            quarantine=lambda *rejected: self.aside.append(rejected),
        )

    async def pump(self, result, code):
        self.calls += 1
        items = outputs(result, ContentType.NDJSON)
        try:
            async for item in items:
                self.given.append(item)
                async with self.changed:
                    self.changed.notify_all()
        finally:
            await close(items)

    async def run(self):
        await asyncio.wait_for(self.invocation.run(self.pump), PATIENCE)
        return self.given

    async def gives(self, *items):
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: self.given == list(items)), PATIENCE)

    @property
    def account(self):
        return self.invocation.account


def code(thing, *args):
    return Code(thing, spec_of(thing), args, {})


@sequence
async def doubled(numbers):
    async for number in numbers:
        yield number * 2


@sequence
async def negated(numbers):
    async for number in numbers:
        yield -number


# --- calls ---------------------------------------------------------------------------------------------------------


async def test_a_sequence_gets_its_items_arguments_and_options():
    @sequence
    async def scaled(context, numbers: Stream[int], factor: int, *, offset: int = 0, **rest: int):
        async for number in numbers:
            yield number * factor + offset + sum(rest.values())

    play = Play(scaled, [1, 2], args=[10], config={"offset": 5, "more": 100})
    assert await play.run() == [115, 125]
    assert play.account == Account(taken=2, out=2)


async def test_typed_configuration_is_what_the_context_has():
    @sequence
    async def cheap(context: Context[Price], prices: Stream[Price]) -> AsyncIterator[float]:
        async for price in prices:
            if price.value <= context.config.value:
                yield price.value

    play = Play(cheap, [{"value": 1}, {"value": 3}], config={"value": 2})
    assert await play.run() == [1]


async def test_a_classic_function_gets_what_the_start_says_unchecked():
    async def run(context, input, *args):
        return [context.config, *args, *[item async for item in input]]

    play = Play(run, ["a"], args=["1"], config={"x": 1})
    assert await play.run() == [{"x": 1}, "1", "a"]


def test_bad_arguments_and_configuration_are_told_before_anything_runs():
    @sequence
    async def scaled(numbers, factor: int, *, offset: int = 0):
        yield

    with pytest.raises(BadArgument, match="start argument 1 'factor': expected an integer, got 'x'"):
        code(scaled, "x")
    with pytest.raises(BadConfig, match="configuration 'offset': expected an integer"):
        Code(scaled, spec_of(scaled), [1], {"offset": "x"})


async def test_what_a_sequence_raises_ends_it():
    @sequence
    async def halved(numbers):
        async for number in numbers:
            yield 10 // number

    play = Play(halved, [5, 0, 2])
    with pytest.raises(ZeroDivisionError):
        await play.run()
    assert play.given == [2]
    assert (play.invocation.number, play.invocation.item) == (2, 0)
    assert play.account == Account(taken=2, out=1)
    assert play.account.pending == 1


def test_nothing_is_in_hand_before_a_run():
    play = Play(doubled, [1])
    assert (play.invocation.number, play.invocation.item) == (0, NOTHING)
    assert play.account == Account()


# --- types ---------------------------------------------------------------------------------------------------------


async def test_an_item_of_another_type_is_raised_behind_the_items_before_it():
    @sequence
    async def values(prices: Stream[Price]):
        async for price in prices:
            yield price.value

    play = Play(values, [{"value": 1}, {"value": "x"}, {"value": 3}])
    with pytest.raises(BadItem, match="input item 2: value: expected a number, found 'x'") as caught:
        await play.run()
    assert caught.value.number == 2
    assert play.given == [1]


async def test_an_item_of_another_type_is_left_out_where_errors_are_skipped():
    @sequence(on_error="skip")
    async def values(prices: Stream[Price]):
        async for price in prices:
            yield price.value

    play = Play(values, [{"value": 1}, {"value": "x"}, {}, {"value": 3}])
    assert await play.run() == [1, 3]
    assert play.calls == 1
    assert play.account == Account(taken=4, out=2, skipped=2)
    assert play.aside == []


async def test_an_error_the_author_catches_comes_again_for_who_asks_again():
    @sequence
    async def patient(prices: Stream[Price]):
        for _ in range(2):
            try:
                async for price in prices:
                    yield price.value
            except BadItem as error:
                yield error.number

    play = Play(patient, [{"value": 1}, 2, {"value": 3}])
    assert await play.run() == [1, 2, 2]


# --- errors --------------------------------------------------------------------------------------------------------


def failing_at(on_error, bad, *, plain=False):
    @sequence(on_error=on_error)
    async def passed(numbers):
        async for number in numbers:
            if number in bad:
                raise ValueError(f"no {number}")
            yield number

    @sequence(on_error=on_error)
    def passed_plainly(numbers):
        for number in numbers:
            if number in bad:
                raise ValueError(f"no {number}")
            yield number

    @sequence(on_error=on_error)
    def mapped(numbers):
        def checked(number):
            if number in bad:
                raise ValueError(f"no {number}")
            return number

        return numbers.map(checked)

    return {"async": passed, "thread": passed_plainly, "map": mapped}


@pytest.mark.parametrize("form", ["async", "thread", "map"])
async def test_quarantined_items_are_put_aside_with_their_number_and_error(form):
    play = Play(failing_at("quarantine", {3, 5})[form], [1, 2, 3, 4, 5])
    assert await play.run() == [1, 2, 4]
    assert [(item, str(error)) for _, item, error in play.aside] == [(3, "no 3"), (5, "no 5")]
    assert play.account == Account(taken=5, out=3, quarantined=2)
    if form != "map":
        assert [number for number, _, _ in play.aside] == [3, 5]


@given(
    form=st.sampled_from(["async", "thread", "map"]),
    items=st.lists(st.integers(0, 9), max_size=30),
    bad=st.sets(st.integers(0, 9)),
)
def test_the_account_is_even_whatever_fails(form, items, bad):
    async def run():
        play = Play(failing_at("skip", bad)[form], items)
        return await play.run(), play.account

    given_items, account = asyncio.run(run())
    assert given_items == [item for item in items if item not in bad]
    assert account == Account(len(items), len(given_items), len(items) - len(given_items))
    assert account.pending == 0


async def test_a_class_skips_items_too():
    @sequence(on_error="skip")
    class Halves:
        def each(self, number):
            return 10 // number

    play = Play(Halves, [5, 0, 2])
    assert await play.run() == [2, 5]
    assert play.account == Account(taken=3, out=2, skipped=1)


@pytest.mark.parametrize("on_error", ["skip", "quarantine"])
async def test_an_error_without_an_item_in_hand_ends_the_sequence(on_error):
    @sequence(on_error=on_error)
    async def early(numbers):
        raise ValueError("early")
        yield

    @sequence(on_error=on_error)
    async def late(numbers):
        async for number in numbers:
            yield number
        raise ValueError("late")

    for function, seen in ((early, []), (late, [1])):
        play = Play(function, [1])
        with pytest.raises(ValueError, match=r"early|late"):
            await play.run()
        assert play.given == seen


async def test_a_coroutine_that_fails_is_not_called_again():
    @sequence(on_error="skip")
    async def total(numbers):
        return sum([10 // number async for number in numbers])

    with pytest.raises(ZeroDivisionError):
        await Play(total, [1, 0]).run()


async def test_each_part_of_a_chain_meets_its_own_errors():
    @sequence(on_error="skip")
    async def halved(numbers):
        async for number in numbers:
            yield 10 // number

    @sequence(on_error="quarantine")
    def even(numbers):
        for number in numbers:
            if number % 2:
                raise ValueError(f"odd {number}")
            yield number

    @sequence
    async def shown(numbers):
        async for number in numbers:
            yield f"{number}"

    play = Play(halved | even | shown, [5, 0, 2, 1, 10])
    assert await play.run() == ["2", "10"]
    assert [(number, item, str(error)) for number, item, error in play.aside] == [
        (2, 5, "odd 5"),
        (4, 1, "odd 1"),
    ]
    assert play.account == Account(taken=5, out=4, skipped=1)


async def test_a_part_that_fails_at_no_item_ends_the_chain():
    @sequence(on_error="skip")
    async def broken(numbers):
        raise ValueError("broken")
        yield

    with pytest.raises(ValueError, match="broken"):
        await Play(doubled | broken, [1]).run()


async def test_the_log_tells_of_the_first_items_only(caplog):
    play = Play(failing_at("skip", set(range(30)))["map"], range(30))
    await play.run()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 10
    assert said[0].endswith(" could not be handled: ValueError: no 0")
    assert said[-1].endswith("; further ones are not told here")


async def test_who_keeps_items_is_waited_for_before_the_next_batch():
    order = []

    async def settle():
        order.append("settled")

    class Told(Items):
        async def next_batch(self):
            order.append("asked")
            return await super().next_batch()

    invocation = Invocation(code(doubled), Context(), Told([1]), quarantine=lambda *_: None, settle=settle)

    async def pump(result, _):
        async for _ in result:
            pass

    await invocation.run(pump)
    assert order == ["settled", "asked"] * 2


def test_a_line_that_is_no_item_counts_as_taken():
    play = Play(failing_at("quarantine", set())["async"])
    error = ValueError("not JSON")
    assert play.invocation.refuse(4, b"nope", error)
    assert play.aside == [(4, b"nope", error)]
    assert play.account == Account(taken=1, quarantined=1)


def test_a_line_that_is_no_item_is_not_left_out_where_errors_are_raised():
    play = Play(doubled)
    assert not play.invocation.refuse(4, b"nope", ValueError("not JSON"))
    assert play.account == Account()


# --- swaps ---------------------------------------------------------------------------------------------------------


async def test_new_code_goes_on_with_the_next_item_and_the_old_sees_an_end():
    feed = Feed([1, 2, 3])
    play = Play(doubled, feed)

    @sequence
    async def collecting(numbers):
        held = [number async for number in numbers]
        yield held

    running = asyncio.ensure_future(play.run())
    await play.gives(2, 4, 6)
    assert play.invocation.swap(code(collecting))
    feed.queue.put_nowait([4])
    feed.queue.put_nowait([5])
    while play.account.taken < 5:
        await asyncio.sleep(0)
    assert play.invocation.swap(code(negated))  # the one that holds items back gives them
    await play.gives(2, 4, 6, [4, 5])
    feed.queue.put_nowait([6])
    feed.queue.put_nowait(None)
    assert await running == [2, 4, 6, [4, 5], -6]
    assert play.account == Account(taken=6, out=6)
    assert play.invocation.code.thing is negated


async def test_the_rest_of_a_batch_goes_to_the_new_code():
    play = None

    @sequence
    async def swapping(numbers: Stream[int]):
        async for number in numbers:
            if number == 2:
                assert play.invocation.swap(code(negated))
            yield number

    play = Play(swapping, [1, 2, 3, 4])
    assert await play.run() == [1, 2, -3, -4]


async def test_new_code_gets_items_as_its_own_hints_say():
    play = None

    @sequence(on_error="skip")
    async def first(prices: Stream[Price]):
        async for price in prices:
            assert play.invocation.swap(code(second))
            yield price.value

    @sequence
    async def second(prices: Stream[dict]):
        async for price in prices:
            yield price

    play = Play(first, [{"value": "x"}, {"value": 1}, {"value": "y"}, {"value": 3}])
    assert await play.run() == [1, {"value": 3}]  # the third was refused with the batch that it came in


@pytest.mark.parametrize("plain", [False, True], ids=["async", "thread"])
async def test_code_that_never_asks_is_closed_where_it_is(plain):
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    @sequence
    async def waiting(numbers):
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            closed.set()

    @sequence
    def counting(numbers):
        try:
            while True:
                yield 0
        finally:
            loop.call_soon_threadsafe(closed.set)

    feed = Feed([1], None)
    play = Play(counting if plain else waiting, feed)
    running = asyncio.ensure_future(play.run())
    async with play.changed:
        await asyncio.wait_for(play.changed.wait(), PATIENCE)
    assert play.invocation.swap(code(negated))
    assert play.invocation.swap(code(negated))
    assert (await running)[-1] == -1
    await asyncio.wait_for(closed.wait(), PATIENCE)


async def test_a_stop_during_a_swap_is_a_stop():
    @sequence
    async def stubborn(numbers):
        yield 0
        await asyncio.Event().wait()

    play = Play(stubborn, Feed())
    running = asyncio.ensure_future(play.invocation.run(play.pump))
    await play.gives(0)
    assert play.invocation.swap(code(negated))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_sequence_that_has_not_begun_or_is_over_takes_no_new_code():
    play = Play(doubled, [1])
    assert not play.invocation.swap(code(negated))
    await play.run()
    assert not play.invocation.swap(code(negated))


async def test_a_failure_in_the_old_code_ends_the_run_although_new_code_waits():
    play = None

    @sequence
    async def failing(numbers):
        async for _ in numbers:
            play.invocation.swap(code(negated))
            raise ValueError("old")
            yield

    play = Play(failing, [1, 2])
    with pytest.raises(ValueError, match="old"):
        await play.run()


@given(
    batches=st.lists(st.lists(st.integers(), max_size=5), max_size=6),
    swaps=st.sets(st.integers(0, 30), max_size=5),
)
def test_swaps_lose_and_double_nothing(batches, swaps):
    async def run():
        play = None

        def passing(number_of_swap):
            @sequence
            async def passed(numbers):
                async for number in numbers:
                    yield number
                    if len(play.given) in swaps:
                        play.invocation.swap(code(passing(number_of_swap + 1)))

            return passed

        play = Play(passing(0), Feed(*batches, None))
        return await play.run(), play.account

    given_items, account = asyncio.run(run())
    items = [item for batch in batches for item in batch]
    assert given_items == items
    assert account == Account(len(items), len(items))


def test_an_account_is_shown_by_the_names_the_hub_has():
    account = Account(taken=9, out=4, skipped=3, quarantined=1)
    assert account.pending == 1
    assert account.to_metrics() == {"in": 9, "out": 4, "skipped": 3, "quarantined": 1}


def test_a_module_and_its_chain_are_found_as_one():
    module = {"doubled": doubled, "negated": negated, "flow": sequence.chain(doubled, negated)}
    assert find_sequence(module, doubled.__module__).name == "flow"


async def test_a_batch_that_comes_in_the_middle_of_a_swap_goes_to_the_new_code():
    class Deaf(Feed):
        def interrupt(self):
            pass

    feed = Deaf()
    play = Play(doubled, feed)
    running = asyncio.ensure_future(play.run())
    while feed._waiting is None:
        await asyncio.sleep(0)
    assert play.invocation.swap(code(negated))
    feed.queue.put_nowait([1])
    feed.queue.put_nowait(None)
    assert await running == [-1]


async def test_code_that_is_closed_may_have_a_last_word():
    waits = asyncio.Event()

    @sequence
    async def polite(numbers):
        yield 0
        waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield "bye"

    play = Play(polite, Feed([1], None))
    running = asyncio.ensure_future(play.invocation.run(play.pump))
    await asyncio.wait_for(waits.wait(), PATIENCE)
    assert play.invocation.swap(code(negated))
    await asyncio.wait_for(running, PATIENCE)
    assert play.given == [0, "bye", -1]
    assert running.cancelling() == 0


async def test_new_code_goes_on_where_the_old_code_fails_at_its_last_item():
    play = None

    @sequence(on_error="skip")
    async def failing(numbers):
        async for number in numbers:
            play.invocation.swap(code(negated))
            raise ValueError(number)
            yield

    play = Play(failing, [1, 2, 3])
    assert await play.run() == [-2, -3]
    assert play.account == Account(taken=3, out=2, skipped=1)
