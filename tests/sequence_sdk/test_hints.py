"""A type hint turns JSON values into typed ones, or says where and why they are none."""

import collections
import datetime as dt
import enum
import json
import pathlib
import re
import sys
import types
import typing
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import InitVar, asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)

import annotated_types
import msgspec
import orjson
import pydantic
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.content import json_functions
from sequence_sdk.errors import DecoratorError, Mismatch, UnsupportedHint
from sequence_sdk.hints import converter, expectation
from sequence_sdk.shapes import shape_of

T = TypeVar("T")
Number = TypeVar("Number", int, float)
Bound = TypeVar("Bound", bound="Line")
Sku = NewType("Sku", str)
Ages = typing_extensions.TypeAliasType("Ages", dict[str, int])
Json = typing_extensions.TypeAliasType("Json", "dict[str, Json] | list[Json] | str | None")
Pair = typing_extensions.TypeAliasType("Pair", tuple[T, T], type_params=(T,))
Lost = typing_extensions.TypeAliasType("Lost", list[Any])


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2
    MIX = ("red", 2)


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Rights(enum.IntFlag):
    READ = 4
    WRITE = 2


class Loose(enum.Enum):
    A = "a"

    @classmethod
    def _missing_(cls, value):
        if value == "bad":
            raise RuntimeError("boom")
        return cls.A if value == "A" else None


@dataclass
class Line:
    sku: str
    count: int = 1


@dataclass
class Order:
    id: int
    price: float
    lines: list[Line] = field(default_factory=list)
    note: str | None = None


@dataclass
class Node:
    value: int
    children: "list[Node]" = field(default_factory=list)


@dataclass(kw_only=True, frozen=True, slots=True)
class Everything:
    kind: ClassVar[str] = "x"
    made: int = field(init=False, default=7)
    secret: InitVar[int]
    limit: int = 3

    def __post_init__(self, secret: int) -> None:
        if secret < 0:
            raise ValueError("secret must not be negative")


@dataclass
class Page(Generic[T]):
    items: list[T]


@dataclass
class Lines(Page[Line]):
    pass


@dataclass
class Box(Generic[T]):
    content: T
    page: Page
    label: Any = None


@dataclass
class Again:
    type: Literal["created"]
    note: str


@dataclass
class Twice(Generic[T]):
    more: "Twice[list[T]] | None" = None


class Movie(TypedDict):
    title: str
    year: typing.NotRequired[int]


class Film(Movie, total=False):
    stars: Annotated[typing.Required[list[int]], "out of five"]
    seen: typing_extensions.ReadOnly[bool]


class Other(typing_extensions.TypedDict):
    a: typing_extensions.ReadOnly[typing_extensions.NotRequired[int]]


class Shown(TypedDict):
    any: Any
    tags: list[str]


class Point(NamedTuple):
    x: int
    y: int = 0


Untyped = collections.namedtuple("Untyped", "a b")  # noqa: PYI024 - the older kind is what this is about


class Even(NamedTuple("Even", [("n", int)])):
    __slots__ = ()

    def __new__(cls, n):
        if n % 2:
            raise ValueError("odd")
        return super().__new__(cls, n)


@dataclass
class Created:
    type: Literal["created"]
    id: int


@dataclass
class Deleted:
    type: Literal["deleted"]
    why: str


class Unsaid(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@dataclass
class Silent:
    a: int

    def __post_init__(self):
        raise Unsaid if self.a else ValueError


@dataclass
class Wrong:
    name: "Nowhere"  # noqa: F821


@dataclass
class Broken:
    name: "1 +"  # noqa: F722


class Plain:
    pass


class Item(msgspec.Struct):
    sku: str
    count: Annotated[int, msgspec.Meta(ge=1)] = 1

    def __post_init__(self):
        if self.sku == "boom":
            raise ArithmeticError("boom")


def typed(hint: Any, value: Any) -> Any:
    check = converter(hint)
    return value if check is None else check(value)


def refusal(hint: Any, value: Any) -> tuple[str, str, str]:
    with pytest.raises(Mismatch) as caught:
        typed(hint, value)
    error = caught.value
    assert error.expected in str(error)
    assert error.found in str(error)
    assert isinstance(error, ValueError)
    return error.path, error.expected, error.found


MOMENT = dt.datetime(2024, 5, 17, 8, 30, tzinfo=dt.UTC)
UUID = uuid.UUID(int=5)

FITS = [
    (None, None, None),
    (type(None), None, None),
    (bool, True, True),
    (int, 5, 5),
    (float, 5, 5.0),
    (float, 1.5, 1.5),
    (str, "a", "a"),
    (bytes, b"a", b"a"),
    (bytes, bytearray(b"a"), b"a"),
    (bytearray, b"a", bytearray(b"a")),
    (list, [1, "a"], [1, "a"]),
    (typing.List, [1], [1]),  # noqa: UP006
    (typing.List[int], [1], [1]),  # noqa: UP006
    (list[int], (1, 2), [1, 2]),
    (Sequence[int], [1], [1]),
    (Iterable[int], [1], [1]),
    (Collection, [1], [1]),
    (set[int], [1, 1, 2], {1, 2}),
    (frozenset[int], [1], frozenset({1})),
    (frozenset[int], frozenset({1}), frozenset({1})),
    (collections.deque[int], [1], collections.deque([1])),
    (tuple, [1, "a"], (1, "a")),
    (typing.Tuple, [1], (1,)),  # noqa: UP006
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple[int, Any], [1, "a"], (1, "a")),
    (tuple[()], [], ()),
    (dict, {"a": 1}, {"a": 1}),
    (Mapping[str, int], {"a": 1}, {"a": 1}),
    (dict[Any, Any], {"a": [1]}, {"a": [1]}),
    (dict[int, float], {"1": 2, "-3": 1.5}, {1: 2.0, -3: 1.5}),
    (dict[int, int], {4: 5}, {4: 5}),
    (dict[float, int], {"1.5": 1, "2": 2}, {1.5: 1, 2.0: 2}),
    (dict[bool, int], {"true": 1, "false": 2}, {True: 1, False: 2}),
    (dict[None, int], {"null": 1}, {None: 1}),
    (dict[Colour, int], {"red": 1, "2": 2}, {Colour.RED: 1, Colour.BLUE: 2}),
    (dict[dt.date, int], {"2024-05-17": 1}, {dt.date(2024, 5, 17): 1}),
    (collections.OrderedDict[str, int], {"a": 1}, collections.OrderedDict(a=1)),
    (Optional[int], None, None),  # noqa: UP045
    (int | None, 5, 5),
    (None | int, 5, 5),
    (Union[int, str], "a", "a"),  # noqa: UP007
    (float | int, 3, 3),
    (float | int, 3.5, 3.5),
    (dt.date | str, "soon", "soon"),
    (dt.date | str, "2024-05-17", dt.date(2024, 5, 17)),
    (int | Any, "a", "a"),
    (int | (str | None) | Sku, "a", "a"),
    (Literal["a", 1, None], 1, 1),  # noqa: PYI061
    (Literal[Colour.RED], "red", Colour.RED),
    (Literal[Colour.RED], Colour.RED, Colour.RED),
    (Literal[b"a"], b"a", b"a"),
    (Colour, "red", Colour.RED),
    (Colour, 2, Colour.BLUE),
    (Colour, ["red", 2], Colour.MIX),
    (Colour, Colour.RED, Colour.RED),
    (Size, 1, Size.SMALL),
    (Rights, 6, Rights.READ | Rights.WRITE),
    (Rights, Rights.READ | Rights.WRITE, Rights.READ | Rights.WRITE),
    (Loose, "A", Loose.A),
    (Annotated[int, "metres"], 5, 5),
    (Annotated[int, {}], 5, 5),
    (Sku, "a", "a"),
    (T, [1], [1]),
    (Number, 5, 5),
    (Ages, {"a": 1}, {"a": 1}),
    (Json, {"a": ["b", None, {}]}, {"a": ["b", None, {}]}),
    (Pair[int], [1, 2], (1, 2)),
    (dict[str, Lost], {"a": [Any]}, {"a": [Any]}),
    (dt.datetime, "2024-05-17T08:30:00Z", MOMENT),
    (dt.datetime, MOMENT, MOMENT),
    (dt.date, "2024-05-17", dt.date(2024, 5, 17)),
    (dt.time, "08:30", dt.time(8, 30)),
    (dt.timedelta, 1.5, dt.timedelta(seconds=1.5)),
    (dt.timedelta, "P1W2DT3H4M5.5S", dt.timedelta(weeks=1, days=2, hours=3, minutes=4, seconds=5.5)),
    (dt.timedelta, "-PT1H", dt.timedelta(hours=-1)),
    (dt.timedelta, dt.timedelta(1), dt.timedelta(1)),
    (uuid.UUID, str(UUID), UUID),
    (uuid.UUID, UUID, UUID),
    (Decimal, "1.10", Decimal("1.10")),
    (Decimal, 5, Decimal(5)),
    (Decimal, 0.1, Decimal("0.1")),
    (Decimal, Decimal(1), Decimal(1)),
    (Path, "a/b", Path("a/b")),
    (pathlib.PurePath, "a", pathlib.PurePath("a")),
    (pathlib.PurePosixPath, "a/b", pathlib.PurePosixPath("a/b")),
    (Line, {"sku": "a", "colour": 1}, Line("a")),
    (Line, {"sku": "a", "count": 3}, Line("a", 3)),
    (Line, Line("a"), Line("a")),
    (Order, {"id": 1, "price": 2, "lines": [{"sku": "a"}]}, Order(1, 2.0, [Line("a")])),
    (Node, {"value": 1, "children": [{"value": 2}]}, Node(1, [Node(2)])),
    (Page[Line], {"items": [{"sku": "a"}]}, Page([Line("a")])),
    (Page, {"items": [5]}, Page([5])),
    (Page[Page[int]], {"items": [{"items": [5]}]}, Page([Page([5])])),
    (Lines, {"items": [{"sku": "a"}]}, Lines([Line("a")])),
    (Box[int], {"content": 1, "page": {"items": ["a"]}, "label": [1]}, Box(1, Page(["a"]), [1])),
    (Created | Again, {"type": "created", "note": "a"}, Again("created", "a")),
    (list[Bound], [{"sku": "a"}], [Line("a")]),
    (Movie, {"title": "a"}, {"title": "a"}),
    (Movie, {"title": "a", "year": 1, "more": [1]}, {"title": "a", "year": 1, "more": [1]}),
    (Film, {"title": "a", "stars": [1]}, {"title": "a", "stars": [1]}),
    (Other, {}, {}),
    (Shown, {"any": 1, "tags": []}, {"any": 1, "tags": []}),
    (Point, [1], Point(1)),
    (Point, [1, 2], Point(1, 2)),
    (Point, {"x": 1}, Point(1)),
    (Point, Point(1), Point(1)),
    (Untyped, ["a", 1], Untyped("a", 1)),
    (Even, [2], Even(2)),
    (Created | Deleted, {"type": "deleted", "why": "a"}, Deleted("deleted", "a")),
    (Created | Deleted | None, None, None),
    (Created | int, {"type": "created", "id": 1}, Created("created", 1)),
    (Created | Movie, {"title": "a"}, {"title": "a"}),
]


@pytest.mark.parametrize("case", range(len(FITS)))
def test_a_value_that_fits_gets_its_type(case):
    hint, value, expected = FITS[case]
    result = typed(hint, value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(("hint"), [Any, object, T])
def test_any_value_needs_no_converter(hint):
    assert converter(hint) is None


REFUSED = [
    (None, 0, "", "null", "0"),
    (bool, 1, "", "true or false", "1"),
    (int, True, "", "an integer", "True"),
    (int, 1.0, "", "an integer", "1.0"),
    (int, "1", "", "an integer", "'1'"),
    (float, True, "", "a number", "True"),
    (float, 10**400, "", "a number that fits a float", "100000000000000000...0000000000000000000"),
    (str, 1, "", "a string", "1"),
    (bytes, "a", "", "bytes, which JSON has not; take a str, and decode it (base64.b64decode)", "'a'"),
    (bytes, 1, "", "bytes", "1"),
    (list[int], "abc", "", "an array", "'abc'"),
    (list[int], {1}, "", "an array", "{1}"),
    (list[list[int]], [[1], [2, "a"]], "[1][1]", "an integer", "'a'"),
    (set[Any], [[1]], "", "items that a set can hold (unhashable type: 'list')", "[[1]]"),
    (tuple[int, str], [1], "", "an array of 2 items", "[1]"),
    (tuple[int, str], [1, 2], "[1]", "a string", "2"),
    (dict[str, int], [1], "", "an object", "[1]"),
    (dict[str, int], {"a": "b"}, "a", "an integer", "'b'"),
    (dict[str, int], {"a b": "b"}, "['a b']", "an integer", "'b'"),
    (dict[str, dict[str, int]], {"a": {"b": None}}, "a.b", "an integer", "None"),
    (dict[str, int], {1: 1}, "", "keys of which each is a string", "1"),
    (dict[int, int], {"01": 1}, "", "keys of which each is an integer", "'01'"),
    (
        dict[int, int],
        {"9" * 5000: 1},
        "",
        "keys of which each is an integer",
        "'" + "9" * 37 + "..." + "9" * 16 + "...",
    ),
    (dict[float, int], {"nan": 1}, "", "keys of which each is a number", "'nan'"),
    (int | None, "a", "", "an integer or null", "'a'"),
    (int | str, [1], "", "an integer or a string", "[1]"),
    (list[int] | None, ["a"], "[0]", "an integer", "'a'"),
    (list[int] | dict[str, int], 1, "", "an array or an object", "1"),
    (Literal["a", "b"], "c", "", "one of 'a', 'b'", "'c'"),
    (Literal["a"], [], "", "'a'", "[]"),
    (Literal[1], True, "", "1", "True"),
    (Literal[1, 2, 3, 4, 5, 6, 7, 8, 9], 0, "", "one of 1, 2, 3, 4, 5, 6, 7, 8, ...", "0"),
    (Colour, "green", "", "one of 'red', 2, ['red', 2]", "'green'"),
    (Colour, ["red"], "", "one of 'red', 2, ['red', 2]", "['red']"),
    (Size, True, "", "one of 1, 2", "True"),
    (Rights, "x", "", "one of 4, 2", "'x'"),
    (Loose, "bad", "", "'a'", "'bad'"),
    (Loose, "b", "", "'a'", "'b'"),
    (Json, 1, "", "an object or an array or a string or null", "1"),
    (int | Json, 1.5, "", "an integer or Json", "1.5"),
    (int | Ages, "a", "", "an integer or an object", "'a'"),
    (int | Item, "a", "", "an integer or Item", "'a'"),
    (Ages, 1, "", "an object", "1"),
    (dt.datetime, "yesterday", "", "a date and time such as '2024-05-17T08:30:00Z'", "'yesterday'"),
    (dt.datetime, 5, "", "a date and time such as '2024-05-17T08:30:00Z'", "5"),
    (
        dt.date,
        MOMENT.replace(tzinfo=None),
        "",
        "a date such as '2024-05-17'",
        "datetime.datetime(2024, 5, 17, 8, 30)",
    ),
    (dt.timedelta, "P", "", "a number of seconds, or a duration such as 'PT1H30M'", "'P'"),
    (dt.timedelta, 1e300, "", "a number of seconds, or a duration such as 'PT1H30M'", "1e+300"),
    (dt.timedelta, float("nan"), "", "a number of seconds, or a duration such as 'PT1H30M'", "nan"),
    (dt.timedelta, True, "", "a number of seconds, or a duration such as 'PT1H30M'", "True"),
    (uuid.UUID, "a", "", "a UUID", "'a'"),
    (Decimal, "one", "", "a decimal number", "'one'"),
    (Decimal, "1e" + "9" * 30, "", "a decimal number", "'1e" + "9" * 30 + "'"),
    (Decimal, True, "", "a decimal number", "True"),
    (Path, 1, "", "a path", "1"),
    (Line, [], "", "an object with the key sku", "[]"),
    (Line, {"count": 1}, "", "an object with the key sku", "one without the key sku: {'count': 1}"),
    (Order, {}, "", "an object with the keys id, price", "one without the keys id, price: {}"),
    (Order, {"id": 1, "price": "x"}, "price", "a number", "'x'"),
    (Order, {"id": 1, "price": 1, "lines": [{"sku": "a"}, {"sku": 2}]}, "lines[1].sku", "a string", "2"),
    (
        Everything,
        {"secret": -1},
        "",
        "values that Everything takes (ValueError: secret must not be negative)",
        "{'secret': -1}",
    ),
    (Silent, {"a": 1}, "", "values that Silent takes (Unsaid)", "{'a': 1}"),
    (Silent, {"a": 0}, "", "values that Silent takes (ValueError)", "{'a': 0}"),
    (Movie, [], "", "an object with the key title", "[]"),
    (Movie, {}, "", "an object with the key title", "one without the key title: {}"),
    (Movie, {"title": "a", "year": "b"}, "year", "an integer", "'b'"),
    (
        Film,
        {"title": "a"},
        "",
        "an object with the keys title, stars",
        "one without the key stars: {'title': 'a'}",
    ),
    (Other, 1, "", "an object", "1"),
    (Point, [], "", "an array of 1 to 2 items or an object with the key x", "[]"),
    (Point, ["a"], "[0]", "an integer", "'a'"),
    (Point, "a", "", "an array of 1 to 2 items or an object with the key x", "'a'"),
    (Even, [1], "", "values that Even takes (ValueError: odd)", "[1]"),
    (Created | Deleted, {"type": "created", "id": "a"}, "id", "an integer", "'a'"),
    (
        Created | Deleted,
        {"type": "gone"},
        "",
        "an object with the keys type, id or an object with the keys type, why",
        "{'type': 'gone'}",
    ),
    (Created | Line, {"sku": 1, "type": "created"}, "sku", "a string", "1"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_a_value_that_does_not_fit_is_named_with_what_was_expected(case):
    hint, value, path, expected, found = REFUSED[case]
    assert refusal(hint, value) == (path, expected, found)


def test_the_sentence_of_a_mismatch_has_all_of_it():
    assert str(Mismatch("lines[2].sku", "a string", "5")) == "lines[2].sku: expected a string, found 5"
    assert str(Mismatch("", "a string", "5")) == "expected a string, found 5"


def test_a_wrong_value_is_cut():
    assert len(refusal(int, "x" * 1000)[2]) == 60
    assert len(refusal(Point, {"x" * 500: 1})[2]) < 100


def test_a_field_that_init_does_not_take_is_not_a_key():
    assert typed(Everything, {"secret": 1, "made": "x", "kind": 5}) == Everything(secret=1)
    assert refusal(Everything, {"made": 1})[1] == "an object with the key secret"


def test_a_named_tuple_without_defaults_has_one_length():
    assert expectation(shape_of(Untyped)) == "an array of 2 items or an object with the keys a, b"


def test_any_value_is_a_shape_with_words():
    assert expectation(shape_of(Any)) == "any value"


def test_values_nested_beyond_all_bounds_are_a_mismatch():
    deep: Any = {"value": 1}
    for _ in range(20_000):
        deep = {"value": 1, "children": [deep]}
    with pytest.raises(Mismatch, match="nested less deep"):
        typed(Node, deep)
    while deep.get("children"):  # freed level by level
        deep = deep["children"].pop()


@pytest.mark.parametrize("hint", [dict, dict[str, Any], list, list[Any]], ids=str)
def test_what_needs_no_change_is_the_very_item(hint):
    item: Any = {"a": 1} if "dict" in str(hint) else [1]
    assert typed(hint, item) is item


def test_what_is_changed_is_a_copy():
    item = {"title": "a"}
    assert typed(Movie, item) is not item


def test_a_class_in_a_function_may_name_itself():
    @dataclass
    class Tree:
        left: "Tree | None" = None

    assert typed(Tree, {"left": {}}) == Tree(Tree())


def test_an_alias_that_is_only_itself_fits_nothing():
    Self = typing_extensions.TypeAliasType("Self", "int | Self")  # noqa: N806
    # what an alias in a function names is not to be found; those of modules are
    with pytest.raises(UnsupportedHint):
        converter(Self)


def module(source: str) -> types.ModuleType:
    made = types.ModuleType("made_for_hints")
    sys.modules[made.__name__] = made
    exec(source, vars(made))
    return made


def test_hints_that_are_text_are_looked_up_in_their_module():
    made = module("""
from __future__ import annotations
from dataclasses import InitVar, dataclass
from typing import ClassVar, NotRequired, TypedDict

@dataclass
class Order:
    lines: list[Line]
    secret: InitVar[int]
    limit: ClassVar[int] = 5

@dataclass
class Line:
    order: Order | None
    more: More

class More(TypedDict):
    note: NotRequired[str]
""")
    order = typed(made.Order, {"lines": [{"order": None, "more": {}}], "secret": 3, "limit": 1})
    assert order.lines == [made.Line(None, {})]
    assert (
        refusal(made.Order, {"lines": [{"more": {"note": 1}, "order": None}], "secret": 1})[0]
        == "lines[0].more.note"
    )
    assert refusal(made.Order, {"lines": []})[1] == "an object with the keys lines, secret"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is of Python 3.12")
def test_the_statement_type_makes_aliases():
    made = module("""
from typing import NamedTuple

type Json = dict[str, Json] | list[Json] | str
type Pair[T] = tuple[T, T]

class Box[T](NamedTuple):
    content: T
    inner: "Box[T] | None" = None
""")
    assert typed(made.Box[int], [1, [2]]) == made.Box(1, made.Box(2))
    assert typed(made.Json, {"a": ["b"]}) == {"a": ["b"]}
    assert refusal(made.Pair[int], [1, "a"])[0] == "[1]"


UNSUPPORTED = [
    (Plain, "JSON cannot hold its values; use a dataclass"),
    (complex, "JSON cannot hold its values"),
    ("Order", "written in quotes|without quotes"),
    (typing.ForwardRef("Order"), "without quotes"),
    (5, "no type whose values JSON can hold"),
    (typing.Callable[[int], int], "JSON cannot hold"),
    (typing.NoReturn, "no type whose values JSON can hold"),
    (typing.ClassVar[int], "no type whose values JSON can hold"),
    (Literal[Untyped], "is no value of JSON"),
    (Wrong, "name 'Nowhere' is not defined; define what they name in the module"),
    (Broken, "its hints cannot be looked up"),
    (Page[Plain], r"in Page\.items"),
    (Twice[int], "it never ends"),
]


@pytest.mark.parametrize("case", range(len(UNSUPPORTED)))
def test_a_hint_that_cannot_be_checked_is_told_before_any_value(case):
    hint, words = UNSUPPORTED[case]
    with pytest.raises(UnsupportedHint, match=words) as caught:
        converter(hint)
    assert isinstance(caught.value, DecoratorError)
    assert str(caught.value).startswith(f"the type hint {caught.value.hint} cannot be checked: ")


# --- msgspec and pydantic -----------------------------------------------------------------------------------------------


class Cart(msgspec.Struct, rename="camel"):
    item_list: list[Item]
    by_name: dict[str, int] = {}


class Unknown(msgspec.Struct):
    other: "Nowhere"  # noqa: F821


class Customer(pydantic.BaseModel):
    name: str
    ages: list[int] = []

    @pydantic.field_validator("name")
    @classmethod
    def check(cls, value: str) -> str:
        if value == "boom":
            raise ArithmeticError("boom")
        return value


@pydantic.dataclasses.dataclass
class Address:
    street: str


class Arbitrary:
    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        raise TypeError("no schema")


def test_a_struct_of_msgspec_is_made_by_msgspec():
    assert typed(Item, {"sku": "a"}) == Item("a")
    assert typed(Cart, {"itemList": [{"sku": "a", "count": 2}]}) == Cart([Item("a", 2)])
    assert typed(list[Item], [{"sku": "a"}]) == [Item("a")]
    assert typed(Annotated[int, msgspec.Meta(ge=1)], 1) == 1
    assert typed(Item, Item("a")) == Item("a")


MSGSPEC_REFUSED = [
    (Item, 3, "", "object", "3"),
    (Item, {}, "", "an object with the key sku", "{}"),
    (Cart, {"itemList": [{}]}, "itemList[0]", "an object with the key sku", "{}"),
    (Cart, {"itemList": [{"sku": "a"}, {"sku": 2}]}, "itemList[1].sku", "str", "2"),
    (list[Item], [{"sku": "a", "count": "b"}], "[0].count", "int", "'b'"),
    (Cart, {"itemList": [], "byName": {"a": "b"}}, "byName[...]", "int", "{'a': 'b'}"),
    (Item, {"sku": "a", "count": 0}, "count", "int >= 1", "0"),
    (Annotated[dict[str, int], msgspec.Meta(max_length=1)], {1: 2}, "", "str", "{1: 2}"),
    (
        Item,
        {"sku": "boom"},
        "",
        "values that Item takes (ArithmeticError: boom)",
        "{'sku': 'boom'}",
    ),
    (Annotated[Literal["a"], msgspec.Meta()], "b", "", "what is valid (Invalid enum value 'b')", "'b'"),
]


@pytest.mark.parametrize("case", range(len(MSGSPEC_REFUSED)))
def test_what_msgspec_refuses_is_named_as_all_else_is(case):
    hint, value, *expected = MSGSPEC_REFUSED[case]
    assert list(refusal(hint, value)) == expected


def test_a_path_of_msgspec_that_leads_nowhere_shows_what_there_was():
    class Inner(msgspec.Struct):
        value: list[dict[str, list[int]]]

    assert refusal(Inner, {"value": [{"a": [1, "b"]}]}) == (
        "value[0][...][1]",
        "int",
        "{'a': [1, 'b']}",
    )


def test_a_model_of_pydantic_is_made_by_pydantic():
    assert typed(Customer, {"name": "a", "ages": ["1"]}) == Customer(name="a", ages=[1])
    assert typed(Address, {"street": "a"}) == Address("a")
    assert typed(list[Customer], [{"name": "a"}]) == [Customer(name="a")]
    assert typed(Annotated[int, pydantic.Field(gt=0)], 1) == 1
    assert typed(Annotated[int, annotated_types.Gt(0)], 1) == 1


PYDANTIC_REFUSED = [
    (Customer, {}, "", "an object with the key name", "{}"),
    (
        Customer,
        {"name": "a", "ages": [1, "b"]},
        "ages[1]",
        "a valid integer, unable to parse string as an integer",
        "'b'",
    ),
    (Customer, {"name": 1, "ages": 2}, "name", "a valid string", "1 (and 1 more)"),
    (list[Customer], [{"name": 1}], "[0].name", "a valid string", "1"),
    (
        Customer,
        {"name": "boom"},
        "",
        "values that Customer takes (ArithmeticError: boom)",
        "{'name': 'boom'}",
    ),
    (Annotated[int, annotated_types.Gt(0)], 0, "", "greater than 0", "0"),
]


@pytest.mark.parametrize("case", range(len(PYDANTIC_REFUSED)))
def test_what_pydantic_refuses_is_named_as_all_else_is(case):
    hint, value, *expected = PYDANTIC_REFUSED[case]
    assert list(refusal(hint, value)) == expected


def test_what_a_library_cannot_check_is_told_before_any_value():
    with pytest.raises(UnsupportedHint, match="Unknown cannot be checked: NameError: "):
        converter(Unknown)
    with pytest.raises(UnsupportedHint, match="Arbitrary cannot be checked: TypeError: no schema"):
        converter(Arbitrary)


def test_notes_for_pydantic_mean_nothing_where_nobody_has_imported_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "pydantic")
    assert typed(Annotated[int, annotated_types.Gt(0)], 0) == 0
    with pytest.raises(UnsupportedHint):
        converter(Arbitrary)


# --- any hint, any value ------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "d"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-100, 100)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
    | st.sampled_from(["2024-05-17", "P1D", "1.5", "red", "1", "created"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | st.sampled_from(["sku", "id", "price", "value", "type"]), inner, max_size=4)
    ),
    max_leaves=8,
)

# a hint, and its values
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (None, st.none()),
    (bool, st.booleans()),
    (int, st.integers(-(2**63), 2**64 - 1)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (str, st.text()),
    (dt.datetime, st.datetimes(timezones=st.none() | st.just(dt.UTC))),
    (dt.date, st.dates()),
    (dt.time, st.times()),
    (dt.timedelta, st.timedeltas(dt.timedelta(days=-1000), dt.timedelta(days=1000))),
    (uuid.UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False)),
    (Path, st.sampled_from([Path("a"), Path("/a/b")])),
    (Literal["a", 2, None], st.sampled_from(["a", 2, None])),  # noqa: PYI061
    (Colour, st.sampled_from(Colour)),
    (Size, st.sampled_from(Size)),
    (Rights, st.sampled_from([Rights(0), Rights.READ, Rights(6)])),
    (Line, st.builds(Line)),
    (Node, st.deferred(lambda: st.builds(Node, st.integers(-9, 9), st.lists(NODES, max_size=2)))),
    (Movie, st.fixed_dictionaries({"title": st.text()}, optional={"year": st.integers(0, 3000)})),
    (Point, st.builds(Point, st.integers(0, 9))),
    (Created | Deleted | None, st.none() | st.builds(Created, id=st.integers(0, 5)) | st.builds(Deleted)),
]
NODES = LEAVES[17][1]
Typed = tuple[Any, st.SearchStrategy[Any]]


def nested(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    return st.one_of(
        inner.map(lambda it: (list[it[0]], st.lists(it[1], max_size=3))),
        inner.map(lambda it: (tuple[it[0], ...], st.lists(it[1], max_size=3).map(tuple))),
        st.tuples(inner, inner).map(
            lambda two: (tuple[two[0][0], two[1][0]], st.tuples(two[0][1], two[1][1]))
        ),
        inner.map(lambda it: (dict[str, it[0]], st.dictionaries(st.text(max_size=3), it[1], max_size=3))),
        inner.map(lambda it: (dict[int, it[0]], st.dictionaries(st.integers(), it[1], max_size=3))),
        inner.map(lambda it: (Optional[it[0]], st.none() | it[1])),  # noqa: UP045
        inner.map(lambda it: (Annotated[it[0], "a note"], it[1])),
        st.lists(inner, min_size=1, max_size=3).map(record),
    )


def record(members: list[Typed]) -> Typed:
    fields = {name: hint for name, (hint, _) in zip("abc", members, strict=False)}
    made = dataclass(types.new_class("Made", (), {}, lambda space: space.update(__annotations__=fields)))
    return made, st.builds(made, **dict(zip("abc", (values for _, values in members), strict=False)))


TYPED = st.recursive(st.sampled_from(LEAVES), nested, max_leaves=5)


def to_json(value: Any) -> Any:
    """Return what a sender of JSON would write for a typed value."""
    match value:
        case dt.timedelta():
            return value.total_seconds()
        case Decimal() | Path() | uuid.UUID():
            return str(value)
        case dt.date() | dt.time():
            return value.isoformat()
        case enum.Enum():
            return to_json(value.value)
        case dict():
            return {
                key if isinstance(key, str) else json.dumps(key): to_json(item) for key, item in value.items()
            }
        case list() | tuple():
            return [to_json(item) for item in value]
        case _ if hasattr(value, "__dataclass_fields__"):
            return {name: to_json(getattr(value, name)) for name in value.__dataclass_fields__}
        case _:
            return value


@given(st.data(), TYPED)
def test_what_was_typed_and_went_through_json_is_typed_again_the_same(data, case):
    hint, values = case
    value = data.draw(values)
    check = converter(hint)
    assert check is not None
    assert check(json.loads(json.dumps(to_json(value)))) == value
    assert check(value) == value


@given(TYPED, JSON)
def test_any_json_is_typed_or_a_mismatch(case, value):
    check = converter(case[0])
    assert check is not None
    path = found = ""
    try:
        result = check(value)
    except Mismatch as error:
        path, found = error.path, error.found
    else:
        assert check(result) == result
    assert re.fullmatch(r"(?:[^.\[]+|\[.*\])?(?:\.[^.\[]+|\[.*\])*", path, re.DOTALL)
    assert len(found) < 140


@given(
    st.builds(
        Order,
        note=st.none() | st.text(),
        lines=st.lists(st.builds(Line, count=st.integers(0, 9))),
        id=st.integers(0, 9),
    )
)
def test_an_output_of_one_sequence_is_the_input_of_the_next(order):
    loads, dumps = json_functions()
    if order.price != order.price or order.price in {float("inf"), float("-inf")}:
        order.price = 0.0
    assert typed(Order, loads(dumps(order))) == order
    assert typed(Order, orjson.loads(json.dumps(asdict(order)))) == order
