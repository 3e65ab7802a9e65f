"""``@sequence`` marks a function, leaves it as it is, and tells every wrong use at once."""

import abc
import asyncio
import copy
import functools
import inspect
import pickle
import typing
from collections.abc import AsyncIterator

import pytest

from sequence_sdk import Context, DecoratorError, SequenceError, sequence
from sequence_sdk.decorator import SequenceChain, SequenceFunction
from sequence_sdk.spec import OnError, SequenceSpec, spec_of
from sequence_sdk.stream import Stream

SHAPES = {}


def shape(function):
    SHAPES[function.__name__] = function
    return function


@shape
async def async_generator(input):
    async for item in input:
        yield item


@shape
async def coroutine(input):
    return input


@shape
def generator(input):
    yield from input


@shape
def plain(input):
    return input


# What is left as it is


@pytest.mark.parametrize("function", SHAPES.values(), ids=SHAPES)
def test_what_comes_back_looks_to_inspect_like_the_function(function):
    questions = (
        inspect.isasyncgenfunction,
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        asyncio.iscoroutinefunction,
        inspect.signature,
        inspect.getsource,
        typing.get_type_hints,
    )
    for marked in (sequence(function), sequence()(function)):
        assert marked.__wrapped__ is function
        assert [question(marked) for question in questions] == [question(function) for question in questions]
        for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
            assert getattr(marked, name) == getattr(function, name)
        for name in ("__code__", "__defaults__", "__kwdefaults__", "__globals__", "__closure__"):
            assert getattr(marked, name) is getattr(function, name)
    assert spec_of(function) is None


@sequence
def of_the_module(input, *, size=1):
    """Give nothing."""


def test_a_marked_function_is_pickled_by_its_name_and_is_its_own_copy():
    assert pickle.loads(pickle.dumps(of_the_module)) is of_the_module
    assert copy.copy(of_the_module) is copy.deepcopy(of_the_module) is of_the_module
    assert copy.deepcopy([of_the_module])[0] is of_the_module


def test_a_marked_function_shows_its_name_and_is_a_key():
    assert repr(of_the_module) == "<Sequence of_the_module>"
    assert {of_the_module: 1}[of_the_module] == 1
    assert repr(sequence) == "<the decorator @sequence>"


def test_a_marked_function_takes_further_attributes():
    def run(input): ...

    run.before = 1
    marked = sequence(run)
    marked.after = 2
    run.later = 3
    assert (marked.before, marked.after, marked.later) == (1, 2, 3)
    with pytest.raises(AttributeError, match="nonsense"):
        marked.nonsense  # noqa: B018


def test_a_half_made_function_has_no_attributes():
    with pytest.raises(AttributeError, match="__wrapped__"):
        SequenceFunction.__new__(SequenceFunction).anything  # noqa: B018


def test_later_changes_of_the_function_show():
    def run(input, size=1):
        return size

    marked = sequence(run)
    run.__defaults__ = (2,)
    assert marked(None) == 2
    assert marked.__defaults__ == (2,)


def test_a_marked_function_is_called_as_ever():
    @sequence(gives="application/x-ndjson")
    def double(input, times=2):
        return [item * times for item in input]

    assert double([1, 2]) == [2, 4]
    assert double([1], times=3) == [3]


def test_an_unmarked_function_has_no_spec():
    assert spec_of(lambda stream: stream) is None


def test_anything_can_be_asked_for_its_spec():
    class Proxy:
        def __getattr__(self, name):
            raise RuntimeError("working outside of its context")

        def __call__(self):
            return None

    class Greedy:
        def __getattr__(self, name):
            return name

    assert [spec_of(thing) for thing in (Proxy(), Greedy(), None, 1, "text", Proxy, len)] == [None] * 7


def test_something_else_under_the_same_name_is_no_spec():
    def run(input):
        return input

    run.__sequence__ = "mine"
    assert spec_of(run) is None


# What is found out


def test_the_content_types_are_kept_as_they_are_written():
    @sequence(takes="Application/X-NDJSON; charset=utf-8", gives="text/x-ndjson")
    def run(input):
        return input

    assert spec_of(run) == SequenceSpec(
        "Application/X-NDJSON; charset=utf-8", "text/x-ndjson", wants_context=False
    )


def test_without_parentheses_nothing_is_declared():
    assert spec_of(sequence(lambda stream: stream)) == SequenceSpec(None, None, wants_context=False)


def annotated_with_the_class(c: Context, input): ...


def annotated_with_its_name(c: "Context", input): ...


def annotated_with_its_dotted_name(c: "sdk.Context", input): ...  # noqa: F821 - never evaluated


@pytest.mark.parametrize(
    "function",
    [
        lambda context, stream: None,
        lambda ctx, stream: None,
        lambda self, stream: None,
        lambda context, stream, /: None,
        lambda context, *args: None,
        lambda context=None, stream=None: None,
        lambda context, stream, *, flag=False: None,
        lambda context, stream, **options: None,
        annotated_with_the_class,
        annotated_with_its_name,
        annotated_with_its_dotted_name,
    ],
)
def test_a_first_parameter_for_the_context_gets_it(function):
    assert spec_of(sequence(function)).wants_context is True


def annotated_otherwise(c: AsyncIterator, input): ...


def annotated_with_another_name(c: "ContextManager", input): ...  # noqa: F821 - never evaluated


@pytest.mark.parametrize(
    "function",
    [
        lambda stream: None,
        lambda stream, context: None,
        lambda *args: None,
        lambda stream, /, *args, **options: None,
        lambda contexts, stream: None,
        annotated_otherwise,
        annotated_with_another_name,
    ],
)
def test_any_other_first_parameter_gets_the_input(function):
    assert spec_of(sequence(function)).wants_context is False


def test_a_partial_is_marked_by_the_parameters_it_leaves_open():
    async def repeat(times, context, input):
        yield times

    marked = sequence(functools.partial(repeat, 3))
    assert spec_of(marked).wants_context is True
    assert spec_of(repeat) is None
    assert inspect.isasyncgenfunction(marked)
    assert list(inspect.signature(marked).parameters) == ["context", "input"]
    assert (marked.__name__, marked.__module__) == ("repeat", __name__)


def test_an_object_with_call_is_marked_without_its_self():
    class Shout:
        volume = 11

        def __call__(self, input):
            return input.upper()

    marked = sequence(Shout())
    assert spec_of(marked) == SequenceSpec(None, None, wants_context=False)
    assert (marked("a"), marked.volume) == ("A", 11)
    assert not inspect.iscoroutinefunction(marked)
    assert repr(marked) == "<Sequence Shout>"


class Holder:
    def method(this, input):  # noqa: N805
        return [input]


class Slotted:
    __slots__ = ()

    def __call__(self, input):
        return [input]


@pytest.mark.parametrize(
    "thing", [Holder().method, Slotted(), "-".join, len], ids=["method", "slots", "join", "len"]
)
def test_what_carries_no_mark_is_marked_from_outside(thing):
    marked = sequence(thing)
    assert marked("ab") == thing("ab")
    assert spec_of(marked) == SequenceSpec(None, None, wants_context=False)
    assert spec_of(thing) is None


def test_a_wrapper_made_with_wraps_takes_the_mark_along():
    @sequence(gives="application/octet-stream")
    def inner(context, input): ...

    @functools.wraps(inner)
    def outer(*args):
        return inner(*args)

    assert spec_of(outer) == spec_of(inner)
    assert spec_of(sequence(outer)) == SequenceSpec(None, None, wants_context=True)


def test_a_static_method_is_a_function():
    class Tools:
        @staticmethod
        @sequence
        def run(input): ...

    assert spec_of(Tools.run).wants_context is False


def test_a_function_inside_a_method_may_call_its_context_self():
    class Maker:
        def make(this):  # noqa: N805
            def run(self, input): ...

            return run

    assert spec_of(sequence(Maker().make())).wants_context is True


# What is refused


@pytest.mark.parametrize("thing", ["text/plain", 1, object(), b"", []])
def test_what_is_no_function_is_refused(thing):
    with pytest.raises(
        DecoratorError, match=r"@sequence marks a function or a class, not .*options go by name"
    ):
        sequence(thing)
    with pytest.raises(
        DecoratorError, match=r"@sequence marks a function or a class, not .*options go by name"
    ):
        sequence(takes="text/plain")(thing)


def test_a_class_comes_back_as_it_is():
    class Store:
        def each(self, item): ...

    assert sequence(Store) is Store
    assert sequence(takes="text/plain", max_parallel=3)(Store) is Store
    assert spec_of(Store) == SequenceSpec("text/plain", None, wants_context=False, max_parallel=3)
    assert isinstance(Store(), Store)
    assert spec_of(Store()) is None


def test_a_class_that_takes_no_mark_is_refused():
    class Sealed(type):
        def __setattr__(cls, name, value):
            raise AttributeError(name)

    class Store(metaclass=Sealed):
        def each(self, item): ...

    with pytest.raises(DecoratorError, match=r"cannot mark .*Store.*mark a class that inherits from it"):
        sequence(Store)


def test_a_class_that_contradicts_its_options_is_left_without_a_mark():
    class Store:
        def each(self, item: bytes): ...

    with pytest.raises(DecoratorError, match="has items of type bytes"):
        sequence(takes="text/plain")(Store)
    assert spec_of(Store) is None


@pytest.mark.parametrize("first", ["self", "cls"])
def test_a_method_in_its_class_is_refused(first):
    source = f"class Shouter:\n    @sequence\n    def run({first}, input): ...\n"
    with pytest.raises(
        DecoratorError, match=r"Shouter\.run is a method.*mark a function of the module, or the class"
    ):
        exec(source, {"sequence": sequence, "__name__": "sample"})


def test_a_class_method_object_is_refused():
    with pytest.raises(DecoratorError, match="marks a function"):

        class Shouter:
            @sequence
            @classmethod
            def run(cls, input): ...


def test_what_hides_its_parameters_is_refused():
    with pytest.raises(DecoratorError, match="cannot see the parameters of"):
        sequence(max)


@pytest.mark.parametrize(
    ("function", "advice"),
    [
        (lambda: None, r"<lambda>\(\) has no parameter for the input; write <lambda>\(input\)"),
        (lambda **options: None, r"write <lambda>\(input\)"),
        (lambda *, stream: None, r"write <lambda>\(input\)"),
        (lambda context: None, r"<lambda>\(context\) has no .*; write <lambda>\(context, input\)"),
        (lambda context, *, stream=None: None, r"write <lambda>\(context, input\)"),
        (functools.partial(plain, input=1), "no parameter for the input"),
    ],
)
def test_a_function_that_cannot_be_called_with_an_input_is_refused(function, advice):
    with pytest.raises(DecoratorError, match=advice):
        sequence(function)
    assert spec_of(function) is None


@pytest.mark.parametrize("option", ["takes", "gives"])
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("text/html", "content type 'text/html' is not supported: use text/plain"),
        ("", "content type '' is not supported"),
        (b"text/plain", "a content type is a string"),
        (1, "a content type is a string"),
        (str, "a content type is a string"),
    ],
)
def test_a_content_type_that_nobody_reads_is_refused_before_there_is_a_function(option, value, problem):
    with pytest.raises(DecoratorError, match=problem) as caught:
        sequence(**{option: value})
    assert f"@sequence({option}={value!r})" in str(caught.value)


def test_the_refusal_is_a_type_error_and_a_sequence_error():
    assert issubclass(DecoratorError, TypeError)
    assert issubclass(DecoratorError, SequenceError)


def test_keyword_only_parameters_need_no_default_for_the_configuration_fills_them():
    @sequence
    def run(input, *, first, second=2): ...

    assert spec_of(run) == SequenceSpec(None, None, wants_context=False)


def test_all_options_are_kept():
    @sequence(requires="orders", provides="bills", on_error="quarantine", max_parallel=2)
    def run(context, input): ...

    assert spec_of(run) == SequenceSpec(None, None, True, "orders", "bills", OnError.QUARANTINE, 2)
    assert spec_of(sequence(on_error=OnError.SKIP)(run)).on_error is OnError.SKIP


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"take": "text/plain"}, r"no option 'take' \(is 'takes' meant\?\); it has takes, gives, requires"),
        ({"colour": 1}, r"no option 'colour'; it has takes"),
        ({"on_error": "skp"}, r'on_error=\'skp\'.*use "raise", "skip" or "quarantine" \(is \'skip\' meant'),
        ({"on_error": "ignore-it-all"}, 'use "raise", "skip" or "quarantine"$'),
        ({"on_error": None}, r"on_error=None"),
        ({"on_error": []}, r"on_error=\[\]"),
        ({"max_parallel": 0}, "max_parallel=0.*whole number from 1 on"),
        ({"max_parallel": True}, "max_parallel=True"),
        ({"max_parallel": 2.0}, r"max_parallel=2\.0"),
        ({"max_parallel": "2"}, "max_parallel='2'"),
        ({"requires": 1}, "requires=1.*name of a topic is a string"),
        ({"provides": None}, "provides=None.*name of a topic is a string"),
        ({"provides": "a topic"}, "provides='a topic'.*letters, digits"),
        ({"requires": "a/b"}, "requires='a/b'.*letters, digits"),
    ],
)
def test_an_option_that_nobody_knows_is_refused_before_there_is_a_function(options, problem):
    with pytest.raises(DecoratorError, match=problem):
        sequence(**options)


def test_two_functions_at_once_are_refused():
    with pytest.raises(DecoratorError, match=r"marks one function; write sequence\.chain\(a, b\)"):
        sequence(plain, plain)


def test_a_chain_is_marked_already():
    chain = sequence.chain(plain, generator)
    assert isinstance(chain, SequenceChain)
    with pytest.raises(
        DecoratorError, match=r"plain \| generator is a chain, and that is a Sequence already"
    ):
        sequence(on_error="skip")(chain)


def test_hints_that_contradict_a_content_type_are_told_when_decorating():
    with pytest.raises(
        DecoratorError,
        match=r"by its hint the input of parse has items of type int.*takes='application/x-ndjson'",
    ):

        @sequence(takes="text/plain")
        def parse(numbers: Stream[int]): ...


def test_hints_that_name_what_comes_later_are_left_for_later():
    @sequence(takes="application/octet-stream")
    async def parse(orders: "Stream[Later]") -> AsyncIterator[str]:  # noqa: F821 - that is the point
        yield ""

    assert spec_of(parse).takes == "application/octet-stream"


def test_an_abstract_class_is_refused():
    class Store(abc.ABC):
        def each(self, item):
            return item

        @abc.abstractmethod
        def save(self): ...

        @abc.abstractmethod
        def load(self): ...

    with pytest.raises(DecoratorError, match="Store is abstract; write load, save"):
        sequence(Store)
