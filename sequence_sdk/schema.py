"""The JSON Schema (2020-12) of a type hint: what of JSON the hint's converter takes.

Source: docs/decisions/0016-what-a-type-hint-checks.md
"""

import datetime as dt
import decimal
import enum
import math
import re
import sys
import uuid
from typing import Any, Final

from .errors import UnsupportedHint
from .hints import DECIMAL_TEXT
from .shapes import (
    MISSING,
    Alias,
    Anything,
    Array,
    Choice,
    Field,
    Foreign,
    Record,
    Row,
    Scalar,
    Shape,
    Table,
    Union,
    plain,
    shape_of,
    shown,
)

_REF: Final = "#/$defs/"
_SCALARS: Final[dict[type, dict[str, Any]]] = {
    type(None): {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bytes: {"contentMediaType": "application/octet-stream"},
    bytearray: {"contentMediaType": "application/octet-stream"},
    dt.datetime: {"type": "string", "format": "date-time"},
    dt.date: {"type": "string", "format": "date"},
    dt.time: {"type": "string", "format": "time"},
    dt.timedelta: {"anyOf": [{"type": "number"}, {"type": "string", "format": "duration"}]},
    uuid.UUID: {"type": "string", "format": "uuid"},
    decimal.Decimal: {"anyOf": [{"type": "number"}, {"type": "string", "pattern": f"^(?:{DECIMAL_TEXT})$"}]},
}
_TYPES: Final = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
}
_KEYS: Final[dict[type, dict[str, Any]]] = {
    type(None): {"const": "null"},
    bool: {"enum": ["true", "false"]},
    int: {"pattern": "^-?(?:0|[1-9][0-9]*)$"},
    float: {"pattern": "^-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"},
}


def json_schema(hint: Any) -> dict[str, Any]:
    """Return the JSON Schema of a hint; it is empty if any value is fine.

    Classes that are met more than once, or in themselves, are under ``$defs``. JSON has no form for bytes:
    their schema names the content type that has, and allows any value.

    Raises:
        UnsupportedHint: nobody can tell which values the hint allows.
    """
    return _Writer().write(shape_of(hint))


class _Writer:
    """Writes the schema of one hint."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}  # by the id of a shape, all of which live as long as the whole
        self._defs: dict[str, dict[str, Any]] = {}

    def write(self, shape: Shape) -> dict[str, Any]:
        """Return the whole schema: a class that only the root names is written there."""
        root = self.of(shape)
        name = root.get("$ref", "").removeprefix(_REF)
        if name and _count_refs([self._defs], name) == 0:
            root = self._defs.pop(name)
        return {**root, "$defs": self._defs} if self._defs else root

    def of(self, shape: Shape) -> dict[str, Any]:
        """Return the schema of a part."""
        match shape:
            case Anything():
                return {}
            case Scalar():
                return dict(_SCALARS.get(shape.type, {"type": "string"}))  # the others are paths
            case Choice():
                return _choice(shape)
            case Array():
                return {"type": "array"} | self._filled("items", shape.item)
            case Row():
                return _row([self.of(item) for item in shape.items], len(shape.items))
            case Table():
                return (
                    {"type": "object"}
                    | self._keys(shape.key)
                    | self._filled("additionalProperties", shape.value)
                )
            case Record() | Alias():
                return self._named(shape)
            case Union():
                return self._union(shape)
            case _:
                return self._foreign(shape)

    def _filled(self, keyword: str, shape: Shape) -> dict[str, Any]:
        schema = self.of(shape)
        return {keyword: schema} if schema else {}

    def _keys(self, shape: Shape) -> dict[str, Any]:
        """Return what an object's keys must be, if more than text; what only the converter can judge is left to it."""
        if isinstance(shape, Choice) and shape.others is None:
            values = [value for value, _ in shape.values if _is_json(value) and not isinstance(value, list)]
            return {"propertyNames": {"enum": list(dict.fromkeys(map(_key_text, values)))}}
        if isinstance(shape, Scalar) and shape.type is not str:
            return {"propertyNames": _KEYS.get(shape.type) or self.of(shape)}
        return {}

    def _union(self, union: Union) -> dict[str, Any]:
        members: list[dict[str, Any]] = []
        for member in union.members:
            schema = self.of(member)
            if schema not in members:
                members.append(schema)
        return members[0] if len(members) == 1 else {"anyOf": members}

    def _named(self, shape: Record | Alias) -> dict[str, Any]:
        """Return a reference to the schema of a class or an alias, which is written the first time."""
        if id(shape) not in self._names:
            name = self._free_name(shape.name)
            self._names[id(shape)] = name
            self._defs[name] = {}  # the name is taken
            self._defs[name] = self._record(shape) if isinstance(shape, Record) else self.of(shape.shape)
        return {"$ref": _REF + self._names[id(shape)]}

    def _free_name(self, name: str) -> str:
        name = re.sub(r"\W+", "_", name).strip("_")
        number = 1
        free = name
        while free in self._defs:
            number += 1
            free = f"{name}_{number}"
        return free

    def _record(self, record: Record) -> dict[str, Any]:
        title: dict[str, Any] = {"title": record.name}
        text = record.type.__doc__ or ""
        if text and not text.startswith(
            f"{record.type.__name__}("
        ):  # as that of a dataclass for which nobody wrote one
            title["description"] = text.strip()
        members = {member.name: self._member(member) for member in record.fields}
        required = [member.name for member in record.fields if member.required]
        by_name = (
            {"type": "object"}
            | ({"properties": members} if members else {})
            | ({"required": required} if required else {})
        )
        if record.kind == "NamedTuple":
            row = _row([self.of(member.shape) for member in record.fields], len(required))
            return title | {"anyOf": [row, by_name]}
        return title | by_name

    def _member(self, member: Field) -> dict[str, Any]:
        schema = self.of(member.shape)
        default = member.default.value if isinstance(member.default, enum.Enum) else member.default
        shows = default is not MISSING and _is_json(plain(default))
        return {**schema, "default": plain(default)} if shows else schema

    def _foreign(self, foreign: Foreign) -> dict[str, Any]:
        """Return what the library says, with its definitions among ours, under other names where they clash."""
        number = 1
        while True:
            suffix = "" if number == 1 else f"_{number}"
            try:
                schema, definitions = _LIBRARIES[foreign.library](foreign.hint, suffix)
            except Exception as error:
                raise UnsupportedHint(shown(foreign.hint), f"it has no JSON Schema: {error}") from error
            renamed = {name + suffix: definition for name, definition in definitions.items()}
            if all(self._defs.get(name, definition) == definition for name, definition in renamed.items()):
                self._defs |= renamed
                return schema
            number += 1


def _msgspec(hint: Any, suffix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    (schema,), definitions = sys.modules["msgspec"].json.schema_components(
        [hint], ref_template=f"{_REF}{{name}}{suffix}"
    )
    return schema, definitions


def _pydantic(hint: Any, suffix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    schema = sys.modules["pydantic"].TypeAdapter(hint).json_schema(ref_template=f"{_REF}{{model}}{suffix}")
    return schema, schema.pop("$defs", {})


_LIBRARIES: Final = {"msgspec": _msgspec, "pydantic": _pydantic}


def _choice(choice: Choice) -> dict[str, Any]:
    values: list[Any] = []
    for value, _ in choice.values:
        if _is_json(value) and not any(type(value) is type(known) and value == known for known in values):
            values.append(value)
    if choice.others is not None:  # a flag, or an enumeration that knows more than it lists
        types = sorted({_TYPES[type(value)] for value in values})
        return {"type": types[0] if len(types) == 1 else types}
    return {"const": values[0]} if len(values) == 1 else {"enum": values}


def _row(items: list[dict[str, Any]], least: int) -> dict[str, Any]:
    if not items:
        return {"type": "array", "maxItems": 0}
    return {"type": "array", "prefixItems": items, "minItems": least, "maxItems": len(items)}


def _key_text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _is_json(value: Any) -> bool:
    match value:
        case None | bool() | str():
            return True
        case int():
            return -(2**63) <= value < 2**64  # a manifest can have no others
        case float():
            return math.isfinite(value)
        case list():
            return all(map(_is_json, value))
        case _:
            return False


def _count_refs(values: list[Any], name: str) -> int:
    """Return how often a schema is referred to in other ones."""
    count = 0
    while values:
        value = values.pop()
        if isinstance(value, dict):
            count += value.get("$ref") == _REF + name
            values += value.values()
        elif isinstance(value, list):
            values += value
    return count
