"""Type hints are the contract: they say what items are, and a start that does not keep to them is told before the first one."""

import collections.abc
import dataclasses
import enum
import functools
import json
import sys
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from typing import Annotated, Any, Literal, NewType, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from sequence_sdk import Context, DecoratorError, sequence
from sequence_sdk.contract import FREE, contract_of
from sequence_sdk.errors import BadArgument, BadConfig
from sequence_sdk.stream import Stream, StringStream

TEXT, NDJSON, OCTETS = "text/plain", "application/x-ndjson", "application/octet-stream"
T = TypeVar("T")
NO_JSON = object()
Line = NewType("Line", str)


@dataclasses.dataclass
class Order:
    sku: str
    price: float


@dataclasses.dataclass
class Settings:
    sign: str
    limit: int = 3


class Row(typing.TypedDict):
    a: int


class Colour(enum.StrEnum):
    RED = "red"


class Readable(typing.Protocol[T]):
    def __aiter__(self) -> AsyncIterator[T]: ...


class Orders(Stream[Order]):
    pass


class Label(typing.Generic[T]):
    pass


class Labelled(Label[int], Stream[Order]):
    pass


class Untyped(AsyncIterator):
    async def __anext__(self): ...


def with_hints(item=None, result=None, **options):
    """Return a Sequence whose input and result have these hints."""

    def run(input): ...

    run.__annotations__ = {
        key: hint for key, hint in (("input", item), ("return", result)) if hint is not None
    }
    return sequence(**options)(run)


# Items


@pytest.mark.parametrize(
    ("hint", "item", "takes"),
    [
        (None, Any, None),
        (Any, Any, None),
        (object, Any, None),
        (T, Any, None),
        (Stream, Any, None),
        (Untyped, Any, None),
        (Stream[Any], Any, None),
        (Stream[str], str, TEXT),
        (StringStream, str, TEXT),
        (AsyncIterator[str], str, TEXT),
        (typing.AsyncIterable[str], str, TEXT),
        (Iterable[bytes], bytes, OCTETS),
        (Iterator[int], int, NDJSON),
        (Stream[dict], dict, NDJSON),
        (Stream[Order], Order, NDJSON),
        (Orders, Order, NDJSON),
        (Labelled, Order, NDJSON),
        (Stream[TypeAliasType("Text", str)], None, TEXT),
        (Stream[Row], Row, NDJSON),
        (Stream[Colour], Colour, NDJSON),
        (Stream[Literal["a", "b"]], Literal["a", "b"], NDJSON),
        (Stream[Line], Line, TEXT),
        (Annotated[Stream[Annotated[str, 1]], 2], Annotated[str, 1], TEXT),
        (AsyncIterator[str] | Iterator[str], str, TEXT),
        (AsyncIterator[str] | None, str, TEXT),
        (AsyncIterator[str] | Iterator[int], str | int, NDJSON),
        (AsyncIterator[str] | Iterator, Any, None),
        (AsyncIterator[str] | Any, Any, None),
        (Stream[str | None], str | None, TEXT),
        (Readable[str], Any, None),
        ("Stream[Order]", Order, NDJSON),
    ],
    ids=str,
)
def test_the_hint_of_the_input_says_what_an_item_is(hint, item, takes):
    contract = contract_of(with_hints(hint))
    assert contract.item == (item or contract.item)
    assert contract.takes == takes


@pytest.mark.parametrize(
    "hint", [str, list[str], dict, int, Order, tuple[str, ...], collections.abc.Sequence[str]], ids=str
)
def test_an_input_that_is_no_stream_is_refused(hint):
    with pytest.raises(
        DecoratorError, match=r"run's parameter 'input' is .*but a Sequence gets a stream.*write Stream\["
    ):
        with_hints(hint)


def test_an_item_that_nobody_can_check_is_refused():
    with pytest.raises(DecoratorError, match=r"@sequence: run's parameter 'input': "):
        with_hints(Stream[typing.Callable[[], int]])


@pytest.mark.parametrize(
    ("hint", "output", "gives"),
    [
        (None, Any, None),
        (Any, Any, None),
        (AsyncIterator, Any, None),
        (AsyncIterator[str], str, TEXT),
        (AsyncGenerator[bytes, None], bytes, OCTETS),
        (Generator[Order, None, None], Order, NDJSON),
        (Iterable[memoryview], memoryview, OCTETS),
        (Stream[int], int, NDJSON),
        (StringStream, str, TEXT),
        (list[str], str, TEXT),
        (set[Row], Row, NDJSON),
        (tuple[int, ...], int, NDJSON),
        (tuple[int, str], int | str, NDJSON),
        (tuple, Any, None),
        (str, str, TEXT),
        (bytes, bytes, OCTETS),
        (Row, Row, NDJSON),
        (dict[str, int], dict[str, int], NDJSON),
        (Order, Order, NDJSON),
        (int, int, NDJSON),
        (str | None, str, TEXT),
        (str | bytes, str | bytes, TEXT),
        (bytes | int, bytes | int, None),
        (Literal["a"], Literal["a"], NDJSON),
        (Awaitable[str], str, TEXT),
        (Awaitable, Any, None),
        (Coroutine[Any, Any, list[bytes]], bytes, OCTETS),
        (AsyncIterator[str | None], str | None, TEXT),
        ("AsyncIterator[Order]", Order, NDJSON),
        ("AsyncIterator[Nowhere]", Any, None),
        (type(None), Any, None),
    ],
    ids=str,
)
def test_the_hint_of_the_result_says_what_comes_out(hint, output, gives):
    contract = contract_of(with_hints(None, hint))
    assert contract.output == output
    assert contract.gives == gives


@pytest.mark.parametrize(
    ("item", "result", "options"),
    [
        (Stream[str], None, {"takes": NDJSON}),
        (Stream[Any], None, {"takes": OCTETS}),
        (Stream[Colour], None, {"takes": TEXT}),
        (Stream[Order], None, {"takes": "text/x-ndjson"}),
        (None, AsyncIterator[bytes], {"gives": TEXT}),
        (None, AsyncIterator[str], {"gives": NDJSON}),
        (None, AsyncIterator[Colour], {"gives": TEXT}),
        (None, int, {"gives": TEXT}),
        (None, int | float, {"gives": TEXT}),
    ],
    ids=str,
)
def test_a_content_type_that_the_hints_allow_is_kept(item, result, options):
    contract = contract_of(with_hints(item, result, **options))
    assert {"takes": contract.takes, "gives": contract.gives} == {
        "takes": options.get("takes", contract.takes),
        "gives": options.get("gives", contract.gives),
    }


@pytest.mark.parametrize(
    ("item", "result", "options", "problem"),
    [
        (
            Stream[Order],
            None,
            {"takes": OCTETS},
            r"the input of run has items of type Order; write takes='application/x-ndjson'",
        ),
        (Stream[bytes], None, {"takes": TEXT}, r"write takes='application/octet-stream', or nothing at all"),
        (Stream[bytes], None, {"takes": NDJSON}, "items of type bytes"),
        (Stream[str], None, {"takes": OCTETS}, "write takes='text/plain'"),
        (
            None,
            AsyncIterator[Order],
            {"gives": TEXT},
            r"@sequence\(gives='text/plain'\): by its hint the output of run",
        ),
        (None, AsyncIterator[int], {"gives": TEXT}, "items of type int"),
        (None, AsyncIterator[str], {"gives": OCTETS}, "items of type str"),
        (None, bytes | int, {"gives": "text/plain"}, None),
        (None, Literal["a"] | bytes, {"gives": "text/plain"}, None),
        (Stream[Order | Row], None, {"takes": "text/plain"}, "another|write takes"),
    ],
    ids=str,
)
def test_a_content_type_that_the_hints_forbid_is_told_when_decorating(item, result, options, problem):
    if problem is None:
        assert contract_of(with_hints(item, result, **options)).gives == options["gives"]
        return
    with pytest.raises(DecoratorError, match=problem):
        with_hints(item, result, **options)


def test_items_that_fit_no_content_type_need_another_hint():
    with pytest.raises(DecoratorError, match="write another hint"):
        with_hints(Stream[Order | bytes], None, takes=TEXT)


# Names that come later


def test_a_hint_may_name_what_comes_later():
    @sequence
    async def run(orders: "Stream[Later]") -> AsyncIterator[str]:  # noqa: F821 - that is the point
        yield ""

    with pytest.raises(
        DecoratorError, match=r"a hint of run cannot be resolved: name 'Later'.*only under TYPE_CHECKING"
    ):
        contract_of(run)
    run.__globals__["Later"] = Order
    try:
        assert contract_of(run).item is Order
    finally:
        del run.__globals__["Later"]


def test_names_that_mean_the_same_everywhere_need_no_import():
    scope = {"sequence": sequence, "__name__": "sample"}
    exec(
        "@sequence\nasync def run(c: 'Context[dict[str, Any]]', lines: 'Stream[str]', n: 'Optional[int]' = None)"
        " -> 'AsyncGenerator[bytes, None]': yield b''",
        scope,
    )
    contract = contract_of(scope["run"])
    assert (contract.takes, contract.gives, contract.config) == (TEXT, OCTETS, dict[str, Any])


@pytest.mark.parametrize("hint", ["1 +", "Stream[", "str.nothing", "int[str]"])
def test_a_hint_that_is_none_is_told_with_its_place(hint):
    with pytest.raises(DecoratorError, match=r"the hint of run's parameter 'input', .*, is none: "):
        with_hints(hint)


def test_hints_of_what_is_inside_are_found():
    def inner(times: int, lines: "Stream[Order]") -> "Iterator[Order]": ...

    @functools.wraps(inner)
    def outer(*args): ...

    class Shout:
        def __call__(self, lines: "Stream[Order]"): ...

    for thing in (functools.partial(inner, 3), functools.partial(outer, 3), Shout()):
        assert contract_of(sequence(thing)).item is Order


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` and type parameters came with Python 3.12")
def test_aliases_and_type_parameters_are_understood():
    scope = {"sequence": sequence, "Stream": Stream, "__name__": "sample"}
    source = (
        "type Line = str\n@sequence\ndef run[X](lines: Stream[Line], more: 'X' = None) -> list[Line]: ..."
    )
    exec(source, scope)
    contract = contract_of(scope["run"])
    assert (contract.takes, contract.gives) == (TEXT, TEXT)


# Start arguments


@sequence
def several(context, lines, word: str, limit: int = 3, *rest: float): ...


@sequence
def strict(lines, word="Hello", limit: int = 3): ...


def test_arguments_are_bound_by_their_places():
    assert contract_of(several).bind(["a", 4, 1, 2.5], {}).args == ("a", 4, 1.0, 2.5)
    assert contract_of(several).bind(["a"], {}).args == ("a",)
    assert contract_of(strict).bind([None], {}).args == (None,)


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (several, ["a", "ten"], """start argument 2 'limit': expected an integer, got "ten\""""),
        (several, [1], "start argument 1 'word': expected a string, got 1"),
        (several, ["a", 1, "x"], """start argument 3 'rest': expected a number, got "x\""""),
        (
            several,
            [],
            "start argument 1 'word': missing, for several takes word: str, limit: int = 3, *rest: float",
        ),
        (strict, ["a", 1, 2], "start argument 3: too many, for strict takes word='Hello', limit: int = 3"),
        (
            sequence(lambda stream: None),
            [1],
            "start argument 1: too many, for <lambda> takes no start arguments",
        ),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_argument_that_does_not_fit_is_named_with_what_is_expected(function, args, message):
    with pytest.raises(BadArgument) as caught:
        contract_of(function).bind(args, {})
    assert str(caught.value).replace("'ten'", '"ten"').replace(", got 'x'", ', got "x"') == message


def test_an_argument_is_given_the_type_of_its_hint():
    @sequence
    def run(lines, order: Order): ...

    assert contract_of(run).bind([{"sku": "a", "price": 1}], {}).args == (Order("a", 1.0),)
    with pytest.raises(BadArgument, match=r"start argument 1 'order': at price, expected a number, got .*x"):
        contract_of(run).bind([{"sku": "a", "price": "x"}], {})
    with pytest.raises(DecoratorError, match="run's parameter 'check': "):
        sequence(exec_with_hint(typing.Callable[[], int]))


def exec_with_hint(hint):
    def run(lines, check): ...

    run.__annotations__["check"] = hint
    return run


@given(st.lists(st.none() | st.integers() | st.text()), st.dictionaries(st.text(), st.integers()))
def test_a_function_without_a_mark_has_agreed_to_nothing(args, config):
    bound = contract_of(lambda: None).bind(args, config)
    assert (bound.args, bound.options, bound.config) == (tuple(args), {}, config)
    assert contract_of(several.__wrapped__) is FREE
    assert FREE.schema() == {}


# Configuration


@sequence
def optioned(
    context: Context[Settings], lines, word="", /, *, size: int, flag: bool = False, **others: str
): ...


def test_options_and_context_are_filled_from_the_configuration():
    bound = contract_of(optioned).bind([], {"size": 3, "sign": "!", "word": "w"})
    assert bound.options == {"size": 3, "sign": "!", "word": "w"}
    assert bound.config == Settings("!")


def test_further_options_cannot_have_the_names_of_places():
    @sequence
    def run(context, lines, word="", **others): ...

    bound = contract_of(run).bind([], {"context": 1, "lines": 2, "word": 3, "more": 4})
    assert bound.options == {"more": 4}
    assert bound.config == {"context": 1, "lines": 2, "word": 3, "more": 4}


@pytest.mark.parametrize(
    ("config", "name", "message"),
    [
        (
            {"sign": "!"},
            "size",
            "configuration 'size': missing, for optioned takes size: int, flag: bool = False",
        ),
        ({"size": "3", "sign": "!"}, "size", "configuration 'size': expected an integer, got "),
        ({"size": 3, "flag": 1, "sign": "!"}, "flag", "configuration 'flag': expected true or false, got 1"),
        ({"size": 3, "sign": "!", "more": 1}, "more", "configuration 'more': expected a string, got 1"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_configuration_that_does_not_fit_is_named(config, name, message):
    with pytest.raises(BadConfig) as caught:
        contract_of(optioned).bind([], config)
    assert caught.value.name == name
    assert str(caught.value).startswith(message)


def test_a_typed_configuration_that_does_not_fit_is_named_by_its_key():
    @sequence
    def run(context: Context[Settings], lines): ...

    with pytest.raises(BadConfig, match="configuration 'limit': expected an integer, got"):
        contract_of(run).bind([], {"sign": "!", "limit": "3"})
    assert contract_of(run).bind([], {"sign": "!", "limit": 4}).config == Settings("!", 4)


def test_methods_and_parts_share_one_configuration():
    @sequence
    class Store:
        def setup(self, context: Context[Settings]): ...

        def each(self, item: Order) -> Order | None: ...

        def teardown(self, context: Context): ...

    assert contract_of(Store).config is Settings
    assert (contract_of(Store).item, contract_of(Store).output) == (Order, Order)

    @sequence
    class Same:
        def setup(self, context: Context[Settings]): ...

        def each(self, context: Context[Settings], item): ...

    assert contract_of(Same).config is Settings

    @sequence
    def other(context: Context[Row], stream): ...

    with pytest.raises(
        DecoratorError, match=r"Store\.each has a Context\[Settings\], and other a Context\[Row\]"
    ):
        Store | other
    assert contract_of(sequence.chain(Store, Store)).config is Settings


@pytest.mark.parametrize(
    ("hint", "output"),
    [
        (list[int], list[int]),
        (Iterator[int], int),
        (AsyncIterator[int], int),
        (tuple[int, int], tuple[int, int]),
    ],
)
def test_each_gives_one_item_unless_it_gives_them_one_by_one(hint, output):
    def each(self, item): ...

    each.__annotations__["return"] = hint
    assert contract_of(sequence(type("Each", (), {"each": each}))).output == output


# Chains


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (str, str), (int, float), (bool, int), (Order, object), (dict, Row), (Row, dict[str, int]), (str, str | int),
        (Line, str), (Colour, str), (Literal["a"], str), (str | None, int | None), (list[int], collections.abc.Sequence[int]),
        (Any, str), (typing.SupportsInt, str), (Annotated[str, 1], str),
    ],
    ids=str,
)  # fmt: skip
def test_parts_may_fit(given, taken):
    assert sequence.chain(with_hints(None, AsyncIterator[given]), with_hints(Stream[taken])) is not None


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (str, bytes),
        (str, Order),
        (dict, Order),
        (float, int),
        (Literal["a"], int),
        (str | bytes, int),
        (list[int], dict),
    ],
    ids=str,
)
def test_parts_that_plainly_do_not_fit_are_refused(given, taken):
    with pytest.raises(DecoratorError, match="and nothing is converted between two parts"):
        sequence.chain(with_hints(None, AsyncIterator[given]), with_hints(Stream[taken]))


# Schemas


def test_the_schema_says_what_is_known():
    assert contract_of(sequence(lambda stream, *args: stream)).schema() == {}
    schema = contract_of(several).schema()
    assert set(schema) == {"args"}
    word, limit = schema["args"]["prefixItems"]
    assert (word["title"], word["type"]) == ("word", "string")
    assert (limit["title"], limit["type"], limit["default"]) == ("limit", "integer", 3)
    assert schema["args"]["minItems"] == 1
    assert schema["args"]["items"]["type"] == "number"
    assert contract_of(sequence(lambda stream: stream)).schema() == {
        "args": {"type": "array", "items": False}
    }


def test_the_schema_of_the_configuration_has_options_and_the_type_of_the_context():
    options, settings = contract_of(optioned).schema()["config"]["allOf"]
    assert set(options["properties"]) == {"size", "flag"}
    assert options["required"] == ["size"]
    assert options["additionalProperties"]["type"] == "string"
    assert set(settings["properties"]) == {"sign", "limit"}

    @sequence
    def run(stream, *, size=NO_JSON): ...

    assert contract_of(run).schema()["config"] == {"type": "object", "properties": {"size": {}}}


def test_an_output_that_has_no_schema_has_none():
    class Strange: ...

    assert "output" not in contract_of(with_hints(None, AsyncIterator[Strange])).schema()


@dataclasses.dataclass
class Tree:
    trees: list["Tree"]


def test_definitions_come_together_and_their_names_stay_apart():
    @dataclasses.dataclass
    class Woods:
        one: Tree
        two: Tree

    def other_tree():
        @dataclasses.dataclass
        class Tree:
            size: int

        @dataclasses.dataclass
        class Pair:
            one: Tree
            two: Tree
            more: list[Tree]

        return Pair

    def run(stream, a, b, c=None, *, d=None): ...

    run.__annotations__ = {"a": Woods, "b": other_tree(), "c": Woods, "d": Woods}
    schema = contract_of(sequence(run)).schema()["args"]
    references = {part.split('"')[0] for part in json.dumps(schema).split('"#/$defs/')[1:]}
    assert references <= set(schema["$defs"])
    assert {"Tree", "Tree2"} <= references
    assert set(schema["$defs"]["Tree"]["properties"]) == {"trees"}
    assert set(schema["$defs"]["Tree2"]["properties"]) == {"size"}
    assert "Tree" in contract_of(sequence(run)).schema()["config"]["$defs"]
