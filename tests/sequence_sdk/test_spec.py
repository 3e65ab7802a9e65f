"""Parameters are told apart by their places, their names and their hints, and a mark belongs to the thing that has it."""

import functools

import pytest

from sequence_sdk import Context, DecoratorError, sequence
from sequence_sdk.spec import (
    EMPTY,
    OnError,
    Parameter,
    SequenceSpec,
    name_of,
    named_function,
    read_call,
    spec_of,
)


def names(parameters):
    return [parameter.name for parameter in parameters]


def test_an_option_of_a_spec_says_nothing_until_it_is_given():
    spec = SequenceSpec(None, None, wants_context=False)
    assert (spec.requires, spec.provides, spec.on_error, spec.max_parallel, spec.parts) == (
        "",
        "",
        OnError.RAISE,
        64,
        (),
    )


@pytest.mark.parametrize("word", ["raise", "skip", "quarantine"])
def test_what_becomes_of_a_bad_item_is_a_word(word):
    assert OnError(word) == word


def test_a_mark_is_not_inherited():
    @sequence
    class Store:
        def each(self, item): ...

    class Other(Store): ...

    assert spec_of(Store) == SequenceSpec(None, None, wants_context=False)
    assert spec_of(Store()) is None
    assert spec_of(Other) is None
    assert spec_of(Other()) is None
    assert spec_of(sequence(Other)) == spec_of(Store)


def test_each_parameter_has_its_role():
    def run(
        context: Context, items: list, word: str, count=3, *rest: int, size: float, flag=True, **others: bytes
    ) -> str: ...

    call = read_call(run)
    assert call.name == "run"
    assert call.function is run
    assert call.context == Parameter("context", Context)
    assert call.input == Parameter("items", list)
    assert call.arguments == (Parameter("word", str), Parameter("count", EMPTY, 3))
    assert call.rest == Parameter("rest", int)
    assert call.options == (Parameter("size", float), Parameter("flag", EMPTY, True))
    assert call.others == Parameter("others", bytes)
    assert call.returns is str
    assert call.takes_arguments is True
    assert call.taken == {"context", "items", "word", "count"}


def test_a_function_of_the_input_alone_takes_no_start_arguments():
    call = read_call(lambda stream: stream)
    assert (call.arguments, call.rest, call.options, call.others, call.returns) == ((), None, (), None, EMPTY)
    assert call.takes_arguments is False


def test_the_rest_may_take_the_input_too():
    call = read_call(lambda *args: args)
    assert (call.input, call.rest, call.takes_arguments) == (None, Parameter("args"), True)


def test_a_method_is_read_without_its_object():
    def run(self, context, input, word): ...

    call = read_call(run, name="Store.run", method=True)
    assert (call.context.name, call.input.name, names(call.arguments)) == ("context", "input", ["word"])


def test_a_phase_works_on_nothing():
    def setup(self, context, word): ...

    call = read_call(setup, name="Store.setup", method=True, noun="")
    assert (call.context.name, call.input, names(call.arguments)) == ("context", None, ["word"])
    assert read_call(lambda self: None, method=True, noun="").context is None


@pytest.mark.parametrize(
    "hint",
    [Context, "Context", "sdk.Context", "Context[Settings]", "sdk.Context[Settings]", "Context [Settings]"],
)
def test_a_hint_tells_the_context_under_any_name(hint):
    def run(c, input): ...

    run.__annotations__["c"] = hint
    assert read_call(run).context == Parameter("c", hint)


def test_a_typed_context_is_one():
    def run(c: Context[int], input): ...

    assert read_call(run).context.name == "c"


@pytest.mark.parametrize(
    "hint", ["ContextManager", "list[Context]", "Contexts[int]", "", list[Context], None, 1]
)
def test_another_hint_is_no_context(hint):
    def run(c, input): ...

    run.__annotations__["c"] = hint
    assert read_call(run).context is None


def test_own_options_are_those_that_have_a_place():
    options = {"size": 1, "input": 2, "word": 3, "other": 4}
    assert read_call(lambda input, word, *, size: None).own(options) == {"size": 1}
    assert read_call(lambda input, word, **others: None).own(options) == {"size": 1, "other": 4}
    assert read_call(lambda input, word, /, **others: None).own(options) == options
    assert read_call(lambda input: None).own(options) == {}


def test_a_method_without_a_parameter_for_its_work_is_told_with_its_self():
    def each(self, context: Context): ...

    with pytest.raises(
        DecoratorError,
        match=r"Store\.each\(self, context\) has no parameter for the item; write Store\.each\(self, context, item\)",
    ):
        read_call(each, name="Store.each", method=True, noun="item")


def test_a_name_is_that_of_the_function_inside():
    def run(input): ...

    class Shout:
        def __call__(self, input): ...

    partial = functools.partial(functools.partial(run, 1), 2)
    assert named_function(partial) is run
    assert [name_of(thing) for thing in (run, partial, Shout, Shout())] == ["run", "run", "Shout", "Shout"]
