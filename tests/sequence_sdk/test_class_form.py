"""A class has its resources while it works, and gives them back whatever happens."""

import asyncio

import pytest

from sequence_sdk import Context, DecoratorError, sequence
from sequence_sdk.class_form import callable_of, read_class
from sequence_sdk.spec import spec_of
from sequence_sdk.stream import Stream

PATIENCE = 5  # seconds until a test that would hang fails


class Host:
    """The process around a context; no Sequence here speaks to it."""


CONTEXT = Context(host=Host())
log = []


@pytest.fixture(autouse=True)
def empty_log():
    log.clear()


async def rest(items):
    async def collect():
        return [item async for item in items]

    return await asyncio.wait_for(collect(), PATIENCE)


class Phases:
    def setup(self):
        log.append("setup")

    def teardown(self):
        log.append("teardown")


class Slow:
    async def setup(self, context):
        await asyncio.sleep(0)
        log.append(("setup", context))

    async def teardown(self, context):
        await asyncio.sleep(0)
        log.append(("teardown", context))


# How it works


def test_a_function_is_its_own_callable():
    def run(input): ...

    assert callable_of(run) is run
    marked = sequence(run)
    assert callable_of(marked) is marked
    chain = marked | run
    assert callable_of(chain) is chain


async def test_setup_comes_before_the_work_and_teardown_after_it():
    @sequence
    class Run(Phases):
        async def run(self, stream):
            async for item in stream:
                log.append(item)
                yield item

    assert await rest(callable_of(Run)(Stream.from_iterable("ab"))) == ["a", "b"]
    assert log == ["setup", "a", "b", "teardown"]


async def test_phases_may_be_coroutines_and_get_the_context():
    @sequence
    class Run(Slow):
        async def run(self, context, stream, word, *, sign):
            log.append((context, word, sign))
            return stream

    assert spec_of(Run).wants_context is True
    assert await rest(callable_of(Run)(CONTEXT, Stream.from_iterable("ab"), "w", sign="!")) == ["a", "b"]
    assert log == [("setup", CONTEXT), (CONTEXT, "w", "!"), ("teardown", CONTEXT)]


async def test_the_work_need_not_want_the_context_that_a_phase_does():
    @sequence
    class Run(Slow):
        def run(self, stream):
            yield from stream

    assert await rest(callable_of(Run)(CONTEXT, ["a"])) == ["a"]
    assert [name for name, _ in log] == ["setup", "teardown"]


async def test_each_start_has_an_object_of_its_own():
    @sequence
    class Counting:
        def __init__(self, start=0):
            self.count = start

        def each(self, item):
            self.count += 1
            return self.count

    call = callable_of(Counting)
    assert await rest(call("ab")) == [1, 2]
    assert await rest(call("ab")) == [1, 2]


async def test_a_number_is_text_unless_the_output_says_otherwise():
    @sequence
    class Text:
        def run(self, stream):
            return 3

    @sequence
    class Number:
        def run(self, stream) -> int:
            return 3

    assert await rest(callable_of(Text)("")) == ["3"]
    assert await rest(callable_of(Number)("")) == [3]


async def test_the_call_says_what_it_is_called_with():
    @sequence
    class Plain:
        def each(self, item): ...

    @sequence
    class Wanting:
        def each(self, context, item):
            return item, context

    with pytest.raises(TypeError, match=r"Plain is called with \(input\)"):
        callable_of(Plain)()
    with pytest.raises(TypeError, match=r"Wanting is called with \(context, input\)"):
        callable_of(Wanting)("ab")
    assert await rest(callable_of(Wanting)(CONTEXT, "a")) == [("a", CONTEXT)]


async def test_a_class_without_a_mark_can_be_called_too():
    class Plain:
        def each(self, item):
            return item

    assert await rest(callable_of(Plain)("ab")) == ["a", "b"]


# Ends


class Failing(Phases):
    async def run(self, stream):
        yield 1
        raise ValueError("broken")


class FailingCall(Phases):
    def run(self, stream):
        raise ValueError("broken")


class FailingItem(Phases):
    def each(self, item):
        raise ValueError("broken")


@pytest.mark.parametrize("cls", [Failing, FailingCall, FailingItem], ids=lambda cls: cls.__name__)
async def test_teardown_comes_after_an_error_too(cls):
    with pytest.raises(ValueError, match="broken"):
        await rest(callable_of(sequence(cls))("ab"))
    assert log == ["setup", "teardown"]


async def test_a_setup_that_fails_is_not_torn_down():
    @sequence
    class Run:
        async def setup(self):
            raise OSError("no server")

        def each(self, item): ...

        def teardown(self):
            log.append("teardown")

    with pytest.raises(OSError, match="no server"):
        await rest(callable_of(Run)("ab"))
    assert log == []


async def test_teardown_comes_when_the_reader_goes_away():
    @sequence
    class Run(Phases):
        async def run(self, stream):
            try:
                yield 1
                yield 2
            finally:
                log.append("closed")

    flow = callable_of(Run)("")
    assert await anext(flow) == 1
    await flow.aclose()
    assert log == ["setup", "closed", "teardown"]
    await flow.aclose()
    assert log == ["setup", "closed", "teardown"]


async def test_teardown_comes_when_a_read_is_cancelled():
    @sequence
    class Run(Slow):
        async def each(self, item):
            try:
                await asyncio.Event().wait()
            finally:
                log.append("cancelled")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(callable_of(Run)(CONTEXT, "a")), 0.02)
    assert log == [("setup", CONTEXT), "cancelled", ("teardown", CONTEXT)]


async def test_nothing_is_made_for_outputs_that_nobody_reads():
    @sequence
    class Run(Phases):
        def each(self, item): ...

    await callable_of(Run)("a").aclose()
    assert log == []


async def test_an_error_of_teardown_is_raised():
    @sequence
    class Run:
        def each(self, item):
            return item

        async def teardown(self):
            raise OSError("cannot close")

    with pytest.raises(OSError, match="cannot close"):
        await rest(callable_of(Run)("a"))


# each


async def test_each_gives_one_item_or_none_for_one():
    @sequence
    class Each:
        def each(self, item, less=0, *, more=0):
            return None if item == 2 else [item - less + more]

    assert await rest(callable_of(Each)([0, 1, 2, 3], 1, more=10)) == [[9], [10], [12]]


async def test_each_keeps_falsy_items():
    @sequence
    class Each:
        def each(self, item):
            return item

    assert await rest(callable_of(Each)([0, "", False, None, []])) == [0, "", False, []]


@pytest.mark.parametrize("limit", [1, 3])
async def test_each_works_at_as_many_items_at_once_as_it_may_and_keeps_their_order(limit):
    now = most = 0

    @sequence(max_parallel=limit)
    class Each:
        async def each(self, item):
            nonlocal now, most
            now += 1
            most = max(most, now)
            for _ in range(10 - item):
                await asyncio.sleep(0)
            now -= 1
            return item

    for stream in (list(range(10)), Stream.from_iterable(range(10))):
        assert await rest(callable_of(Each)(stream)) == list(range(10))
    assert most == limit


async def test_each_may_give_several_items():
    @sequence
    class Lines:
        def each(self, item):
            yield item
            yield item * 2

    @sequence
    class Slowly:
        async def each(self, item):
            yield item
            await asyncio.sleep(0)
            yield item * 2

    for cls in (Lines, Slowly):
        assert await rest(callable_of(cls)([1, 2])) == [1, 2, 2, 4]


class Policy:
    def __init__(self, answer):
        self.answer = answer
        self.items = []

    def rejected(self, item, error):
        self.items.append((item, str(error)))
        return self.answer


class OneEach:
    async def each(self, item):
        if item == 2:
            raise ValueError("two")
        return item


class SeveralEach:
    def each(self, item):
        if item == 2:
            raise ValueError("two")
        yield item


class SlowlyEach:
    async def each(self, item):
        if item == 2:
            raise ValueError("two")
        yield item


@pytest.mark.parametrize("cls", [OneEach, SeveralEach, SlowlyEach], ids=lambda cls: cls.__name__)
async def test_the_policy_of_the_input_says_what_becomes_of_an_item_that_fails(cls):
    def stream(policy):
        batches = [[1, 2], [3], None]

        async def next_batch():
            return batches.pop(0)

        return Stream.from_batches(next_batch, policy=policy)

    policy = Policy(True)
    assert await rest(callable_of(sequence(cls))(stream(policy))) == [1, 3]
    assert policy.items == [(2, "two")]
    for policy in (Policy(False), None):
        with pytest.raises(ValueError, match="two"):
            await rest(callable_of(cls)(stream(policy)))


# What is refused


def method(*parameters, name="run", body="..."):
    scope = {}
    exec(f"def {name}({', '.join(('self', *parameters))}): {body}", scope)
    return scope[name]


def made_without_arguments(self, url, table="t"): ...


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({}, r"Thing has nothing that does the work; write run\(self, input\), which gets all items, or each\(self, item\)"),
        ({"Run": method("input"), "close": method()}, r"nothing that does the work \(is Run meant\?\)"),
        ({"_run": method("input")}, "nothing that does the work;"),
        ({"run": method("input"), "each": method("item")}, "Thing has run and each, and one of them does the work"),
        ({"run": staticmethod(lambda input: None)}, r"Thing\.run is <staticmethod.*write it as a method, `def run\(self, …\)`"),
        ({"each": 3}, r"Thing\.each is 3; write it as a method"),
        ({"run": method()}, r"Thing\.run\(self\) has no parameter for the input; write Thing\.run\(self, input\)"),
        ({"each": method("context", name="each")}, r"write Thing\.each\(self, context, item\)"),
        ({"__init__": made_without_arguments, "run": method("input")}, r"Thing is made without arguments.*'url'"),
        ({"run": method("input"), "setup": method("url")}, r"Thing\.setup wants url, but gets nothing except the context"),
        ({"run": method("input"), "teardown": method("*", "x")}, r"Thing\.teardown wants x.*write teardown\(self\) or"),
        ({"run": method("input"), "setup": method(body="yield 1")}, r"Thing\.setup has a yield, and would never run"),
    ],
)  # fmt: skip
def test_a_class_that_cannot_work_is_refused(members, problem):
    with pytest.raises(DecoratorError, match=problem):
        sequence(type("Thing", (), members))


def test_phases_may_have_parameters_with_defaults():
    form = read_class(
        type("Thing", (), {"run": method("input"), "setup": method("size=3", "*more", "flag=True")})
    )
    assert form.setup.name == "Thing.setup"
    assert form.teardown is None
    assert form.wants_context is False


def test_a_class_whose_making_cannot_be_seen_is_tried_when_it_starts():
    class Thing(dict):
        def each(self, item): ...

    assert read_class(Thing).cls is Thing
