"""The JSON Schema of a type hint allows what its converter takes."""

import collections
import datetime as dt
import enum
import json
import pathlib
import types
import typing
import uuid
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypedDict, TypeVar

import jsonschema_rs
import msgspec
import pydantic
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.errors import Mismatch, UnsupportedHint
from sequence_sdk.hints import converter
from sequence_sdk.schema import json_schema

T = TypeVar("T")
Json = typing_extensions.TypeAliasType("Json", "dict[str, Json] | list[Json] | str | None")
Either = typing_extensions.TypeAliasType("Either", Any)


class Colour(enum.Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796 - an alias
    BLUE = 2
    MIX = ("red", 2)


class Rights(enum.IntFlag):
    READ = 4
    WRITE = 2


class Loose(enum.Enum):
    A = "a"
    NONE = None
    HALF = 0.5

    @classmethod
    def _missing_(cls, value):
        return cls.A


class Special(enum.Enum):
    PLACE = dt.date(2024, 5, 17)
    BYTES = b"a"


@dataclass
class Line:
    """One line of an order."""

    sku: str
    colour: Colour = Colour.RED
    count: int = 1
    place: dt.date = dt.date(2024, 5, 17)


@dataclass
class Order:
    id: int
    lines: list[Line] = field(default_factory=list)
    secret: InitVar[int | None] = None
    factor: float = float("inf")
    limit: int = 2**70
    range: tuple[int, ...] = (1, 2)
    strict: bool = True


@dataclass
class Node:
    children: "list[Node]"


@dataclass
class Page(Generic[T]):
    items: list[T]


class Movie(TypedDict):
    title: str
    year: typing.NotRequired[int]


class Nothing(TypedDict):
    pass


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclass
class Created:
    type: Literal["created"]
    id: int


@dataclass
class Deleted:
    type: Literal["deleted"]


class Item(msgspec.Struct):
    sku: str


class Tree(msgspec.Struct):
    sub: "list[Tree]"


class Customer(pydantic.BaseModel):
    name: str


class Shop(pydantic.BaseModel):
    customers: list[Customer]


class Weird(pydantic.BaseModel):
    call: typing.Callable[[], int] = print


LINE = {
    "title": "Line",
    "description": "One line of an order.",
    "type": "object",
    "properties": {
        "sku": {"type": "string"},
        "colour": {"enum": ["red", 2, ["red", 2]], "default": "red"},
        "count": {"type": "integer", "default": 1},
        "place": {"type": "string", "format": "date"},
    },
    "required": ["sku"],
}

SCHEMAS = [
    (Any, {}),
    (None, {"type": "null"}),
    (bool, {"type": "boolean"}),
    (int, {"type": "integer"}),
    (float, {"type": "number"}),
    (str, {"type": "string"}),
    (bytes, {"contentMediaType": "application/octet-stream"}),
    (dt.datetime, {"type": "string", "format": "date-time"}),
    (dt.time, {"type": "string", "format": "time"}),
    (dt.timedelta, {"anyOf": [{"type": "number"}, {"type": "string", "format": "duration"}]}),
    (uuid.UUID, {"type": "string", "format": "uuid"}),
    (pathlib.Path, {"type": "string"}),
    (list, {"type": "array"}),
    (list[int], {"type": "array", "items": {"type": "integer"}}),
    (set[int], {"type": "array", "items": {"type": "integer"}}),
    (tuple[()], {"type": "array", "maxItems": 0}),
    (
        tuple[int, str],
        {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "minItems": 2,
            "maxItems": 2,
        },
    ),
    (dict, {"type": "object"}),
    (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
    (dict[Any, Any], {"type": "object"}),
    (dict[str | int, Any], {"type": "object"}),
    (dict[int, Any], {"type": "object", "propertyNames": {"pattern": "^-?(?:0|[1-9][0-9]*)$"}}),
    (dict[bool, Any], {"type": "object", "propertyNames": {"enum": ["true", "false"]}}),
    (dict[dt.date, Any], {"type": "object", "propertyNames": {"type": "string", "format": "date"}}),
    (dict[Colour, Any], {"type": "object", "propertyNames": {"enum": ["red", "2"]}}),
    (dict[Rights, Any], {"type": "object"}),
    (
        dict[Literal[None, True, False], Any],  # noqa: PYI061
        {"type": "object", "propertyNames": {"enum": ["null", "true", "false"]}},
    ),
    (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045
    (list[int] | set[int], {"type": "array", "items": {"type": "integer"}}),
    (int | Either, {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/Either"}], "$defs": {"Either": {}}}),
    (Literal["a"], {"const": "a"}),
    (Literal["a", 1, True, None], {"enum": ["a", 1, True, None]}),  # noqa: PYI061
    (Colour, {"enum": ["red", 2, ["red", 2]]}),
    (Special, {"enum": []}),
    (Rights, {"type": "integer"}),
    (Loose, {"type": ["null", "number", "string"]}),
    (Annotated[int, "a note"], {"type": "integer"}),
    (Line, LINE),
    (list[Line], {"type": "array", "items": {"$ref": "#/$defs/Line"}, "$defs": {"Line": LINE}}),
    (
        Order,
        {
            "title": "Order",
            "type": "object",
            "properties": {
                "id": {"type": "integer"},
                "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}},
                "secret": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
                "factor": {"type": "number"},
                "limit": {"type": "integer"},
                "range": {"type": "array", "items": {"type": "integer"}, "default": [1, 2]},
                "strict": {"type": "boolean", "default": True},
            },
            "required": ["id"],
            "$defs": {"Line": LINE},
        },
    ),
    (
        Node,
        {
            "$ref": "#/$defs/Node",
            "$defs": {
                "Node": {
                    "title": "Node",
                    "type": "object",
                    "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
                    "required": ["children"],
                }
            },
        },
    ),
    (
        Page[Movie],
        {
            "title": "Page[Movie]",
            "type": "object",
            "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/Movie"}}},
            "required": ["items"],
            "$defs": {
                "Movie": {
                    "title": "Movie",
                    "type": "object",
                    "properties": {"title": {"type": "string"}, "year": {"type": "integer"}},
                    "required": ["title"],
                }
            },
        },
    ),
    (Nothing, {"title": "Nothing", "type": "object"}),
    (
        Point,
        {
            "title": "Point",
            "anyOf": [
                {
                    "type": "array",
                    "prefixItems": [{"type": "integer"}, {"type": "integer"}],
                    "minItems": 1,
                    "maxItems": 2,
                },
                {
                    "type": "object",
                    "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 0}},
                    "required": ["x"],
                },
            ],
        },
    ),
    (
        Json,
        {
            "$ref": "#/$defs/Json",
            "$defs": {
                "Json": {
                    "anyOf": [
                        {"type": "object", "additionalProperties": {"$ref": "#/$defs/Json"}},
                        {"type": "array", "items": {"$ref": "#/$defs/Json"}},
                        {"type": "string"},
                        {"type": "null"},
                    ]
                }
            },
        },
    ),
]


@pytest.mark.parametrize("case", range(len(SCHEMAS)))
def test_a_hint_has_a_schema(case):
    hint, schema = SCHEMAS[case]
    assert json_schema(hint) == schema
    assert json.loads(json.dumps(schema)) == schema
    jsonschema_rs.Draft202012Validator(schema)


def test_classes_of_the_same_name_are_kept_apart():
    def make(hint: Any) -> Any:
        return dataclass(
            types.new_class("Same", (), {}, lambda space: space.update(__annotations__={"a": hint}))
        )

    schema = json_schema(tuple[make(int), make(str)])
    assert [item["$ref"] for item in schema["prefixItems"]] == ["#/$defs/Same", "#/$defs/Same_2"]
    assert schema["$defs"]["Same_2"]["properties"] == {"a": {"type": "string"}}


def test_a_struct_of_msgspec_describes_itself():
    assert json_schema(Item) == {
        "title": "Item",
        "type": "object",
        "properties": {"sku": {"type": "string"}},
        "required": ["sku"],
    }
    assert json_schema(list[Item])["items"] == {"$ref": "#/$defs/Item"}
    assert json_schema(Tree)["$defs"]["Tree"]["properties"]["sub"]["items"] == {"$ref": "#/$defs/Tree"}
    assert json_schema(list[Item] | Item)["$defs"].keys() == {"Item"}
    assert json_schema(Annotated[int, msgspec.Meta(ge=1)]) == {"type": "integer", "minimum": 1}


def test_a_model_of_pydantic_describes_itself():
    schema = json_schema(Shop)
    assert schema["properties"]["customers"]["items"] == {"$ref": "#/$defs/Customer"}
    assert schema["$defs"].keys() == {"Customer"}
    jsonschema_rs.Draft202012Validator(schema).validate({"customers": [{"name": "a"}]})


def test_definitions_of_libraries_are_kept_apart_from_others_of_their_name():
    @dataclass
    class Customer:
        id: int

    Item2 = msgspec.defstruct("Item", [("id", int)])  # noqa: N806
    schema = json_schema(tuple[Customer, Shop, Item, Item2])
    own, shop, item, other = schema["prefixItems"]
    assert own == {"$ref": "#/$defs/Customer"}
    assert shop["properties"]["customers"]["items"] == {"$ref": "#/$defs/Customer_2"}
    assert (item, other) == ({"$ref": "#/$defs/Item"}, {"$ref": "#/$defs/Item_2"})
    assert schema["$defs"]["Item_2"]["required"] == ["id"]


def test_a_model_that_cannot_be_described_is_named():
    with pytest.raises(UnsupportedHint, match="Weird cannot be checked: it has no JSON Schema"):
        json_schema(Weird)


# --- what the schema allows, the converter takes ------------------------------------------------------------------------

KEYS = [
    "a",
    "b",
    "sku",
    "title",
    "year",
    "x",
    "y",
    "type",
    "id",
    "children",
    "1",
    "-1",
    "01",
    "1.5",
    "true",
    "null",
    "red",
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from([0.5, 1.5, -2.25, 1e300])  # never integral: to a schema 1.0 is an integer
    | st.sampled_from(["", "a", "red", "1", "1.5", "created", "deleted", "x" * 9]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)
LEAVES = st.sampled_from(
    [
        Any,
        None,
        bool,
        int,
        float,
        str,
        Decimal,
        list,
        dict,
        Literal["a", 1, None],  # noqa: PYI061
        Literal["a"],
        Colour,
        Rights,
        Node,
        Line,
        Movie,
        Nothing,
        Point,
        Created | Deleted,
        Created | Movie | None,
        Json,
        pathlib.Path,
        dict[int, Any],
        dict[float, int],
        dict[bool, str],
        dict[Literal["a", 1, None], int],  # noqa: PYI061
        dict[Colour, int],
        collections.OrderedDict[str, int],
    ]
)


def record(hints: list[Any]) -> Any:
    fields = dict(zip(["a", "b", "x"], hints, strict=False))
    return dataclass(types.new_class("Made", (), {}, lambda space: space.update(__annotations__=fields)))


HINTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda hint: list[hint]),
        inner.map(lambda hint: tuple[hint, ...]),
        st.tuples(inner, inner).map(lambda two: tuple[two]),
        st.tuples(inner, inner).map(lambda two: typing.Union[two]),  # noqa: UP007
        inner.map(lambda hint: dict[str, hint]),
        st.lists(inner, min_size=1, max_size=3).map(record),
    ),
    max_leaves=5,
)


@given(HINTS, st.lists(JSON, min_size=1, max_size=8))
def test_the_schema_allows_what_the_converter_takes_and_nothing_else(hint, values):
    validator = jsonschema_rs.Draft202012Validator(json_schema(hint))
    check = converter(hint)
    for value in values:
        try:
            if check is not None:
                check(value)
            takes = True
        except Mismatch:
            takes = False
        assert takes == validator.is_valid(value), (hint, value)
