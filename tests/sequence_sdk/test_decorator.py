"""``@sequence`` marks a function, leaves it as it is, and tells every wrong use at once."""

import functools
import inspect

import pytest

from sequence_sdk import Context, DecoratorError, SequenceError, sequence
from sequence_sdk.spec import SequenceSpec, spec_of

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
def test_the_decorator_returns_the_very_function_unchanged(function):
    before = (function.__code__, function.__doc__, function.__name__, inspect.signature(function))
    assert sequence(function) is function
    assert sequence()(function) is function
    assert (function.__code__, function.__doc__, function.__name__, inspect.signature(function)) == before


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


def annotated_otherwise(c: int, input): ...


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
    def repeat(times, context, input): ...

    marked = functools.partial(repeat, 3)
    assert sequence(marked) is marked
    assert spec_of(marked).wants_context is True
    assert spec_of(repeat) is None


def test_an_object_with_call_is_marked_without_its_self():
    class Shout:
        def __call__(self, input):
            return input

    shout = Shout()
    assert sequence(shout) is shout
    assert spec_of(shout).wants_context is False
    assert spec_of(Shout()) is None


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
    with pytest.raises(DecoratorError, match="@sequence marks a function, not"):
        sequence(thing)
    with pytest.raises(DecoratorError, match="@sequence marks a function, not"):
        sequence(takes="text/plain")(thing)


def test_a_class_is_refused():
    with pytest.raises(DecoratorError, match="@sequence marks a function, not <class"):

        @sequence
        class Run:
            def __init__(self, input): ...


@pytest.mark.parametrize("first", ["self", "cls"])
def test_a_method_in_its_class_is_refused(first):
    source = f"class Shouter:\n    @sequence\n    def run({first}, input): ...\n"
    with pytest.raises(DecoratorError, match=r"Shouter\.run is a method.*mark a function of the module"):
        exec(source, {"sequence": sequence, "__name__": "sample"})


def test_a_class_method_object_is_refused():
    with pytest.raises(DecoratorError, match="marks a function"):

        class Shouter:
            @sequence
            @classmethod
            def run(cls, input): ...


class Holder:
    def method(this, input): ...  # noqa: N805


class Slotted:
    __slots__ = ()

    def __call__(self, input): ...


@pytest.mark.parametrize(
    "thing", [Holder().method, len, "".join, Slotted()], ids=["method", "len", "join", "slots"]
)
def test_what_cannot_carry_a_mark_is_refused(thing):
    with pytest.raises(DecoratorError, match=r"cannot mark .*; write a `def` that calls it"):
        sequence(thing)


def test_what_hides_its_parameters_is_refused():
    with pytest.raises(DecoratorError, match="cannot see the parameters of"):
        sequence(max)


def with_forced_options(input, *, first, second, third=3): ...


@pytest.mark.parametrize(
    ("function", "advice"),
    [
        (lambda: None, r"<lambda>\(\) has no parameter for the input; write <lambda>\(input\)"),
        (lambda **options: None, r"write <lambda>\(input\)"),
        (lambda *, stream: None, r"write <lambda>\(input\)"),
        (lambda context: None, r"<lambda>\(context\) has no .*; write <lambda>\(context, input\)"),
        (lambda context, *, stream=None: None, r"write <lambda>\(context, input\)"),
        (functools.partial(plain, input=1), "no parameter for the input"),
        (with_forced_options, r"keyword-only parameters without default \(first, second\)"),
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
