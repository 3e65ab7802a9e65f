"""A type hint becomes a function that checks a value, and gives it the type that the hint names.

Values are what JSON gives, or have their type already. An ``int`` is fine for a ``float``, a ``bool`` is no ``int``, text is never
a number. An object may have more keys than a class has fields. Of a union the first member that fits is taken.

Source: docs/decisions/0016-what-a-type-hint-checks.md
"""

import datetime as dt
import decimal
import re
import sys
import uuid
from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import Any, Final

from .errors import Mismatch, UnsupportedHint, _show
from .shapes import (
    MISSING,
    Alias,
    Anything,
    Array,
    Choice,
    Field,
    Record,
    Row,
    Scalar,
    Shape,
    Table,
    Union,
    shape_of,
    shown,
)

Converter = Callable[[Any], Any]

_SHOWN: Final = 60  # characters of a wrong value that an error repeats
_MAX_NAMED: Final = 8  # choices or keys that an error lists

_EXPECTED: Final[dict[type, str]] = {
    type(None): "null",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    bytes: "bytes",
    bytearray: "bytes",
    dt.datetime: "a date and time such as '2024-05-17T08:30:00Z'",
    dt.date: "a date such as '2024-05-17'",
    dt.time: "a time such as '08:30:00'",
    dt.timedelta: "a number of seconds, or a duration such as 'PT1H30M'",
    uuid.UUID: "a UUID",
    decimal.Decimal: "a decimal number",
}
_AS_THEY_ARE: Final = frozenset(
    {type(None), bool, int, float, str}
)  # scalars that JSON gives as what they are
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
DECIMAL_TEXT: Final = r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|Infinity|NaN)"
_DECIMAL: Final = re.compile(DECIMAL_TEXT)
_DURATION: Final = re.compile(
    r"(?P<sign>[+-]?)P(?=[0-9T])(?:(?P<weeks>[0-9]+)W)?(?:(?P<days>[0-9]+)D)?"
    r"(?:T(?=[0-9])(?:(?P<hours>[0-9]+)H)?(?:(?P<minutes>[0-9]+)M)?(?:(?P<seconds>[0-9]+(?:\.[0-9]+)?)S)?)?"
)
_MSGSPEC_PLACE: Final = re.compile(r" - at (?:`key` in )?`\$(.*)`$", re.DOTALL)
_KEYS: Final = {"true": True, "false": False, "null": None}


def converter(hint: Any) -> Converter | None:
    """Return the function that gives a value the type of a hint, or None if any value is fine as it is.

    The function raises ``Mismatch`` for a value that is not what the hint says. A value that has the type already is returned.

    Raises:
        UnsupportedHint: nobody can check a value against the hint.
    """
    compiler = _Compiler()
    check = compiler.compile(shape_of(hint))
    if check is None or not compiler.is_recursive:
        return check

    def convert(value: Any) -> Any:
        try:
            return check(value)
        except RecursionError:
            raise _mismatch("a value that is nested less deep", value) from None

    return convert


def expectation(shape: Shape) -> str:
    """Return in an author's words which values a shape allows."""
    match shape:
        case Anything():
            return "any value"
        case Scalar():
            return _EXPECTED.get(shape.type, "a path")
        case Choice():
            values = _listed(repr(value) for value, _ in shape.values)
            return f"one of {values}" if len(shape.values) > 1 else values
        case Array():
            return "an array"
        case Row():
            return f"an array of {len(shape.items)} items"
        case Table():
            return "an object"
        case Record():
            return _expected_record(shape)
        case Alias():
            return expectation(shape.shape) if not isinstance(shape.shape, Union | Alias) else shape.name
        case Union():
            return " or ".join(dict.fromkeys(map(expectation, shape.members)))
        case _:
            return shown(shape.hint)


def _expected_record(record: Record) -> str:
    required = [field.name for field in record.fields if field.required]
    keys = f" with the key{'s' if len(required) > 1 else ''} {_listed(required)}" if required else ""
    many = (
        len(record.fields)
        if len(record.fields) == len(required)
        else f"{len(required)} to {len(record.fields)}"
    )
    return (
        f"an array of {many} items or an object{keys}" if record.kind == "NamedTuple" else f"an object{keys}"
    )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")


def _mismatch(expected: str, value: Any) -> Mismatch:
    return Mismatch("", expected, _show(value, _SHOWN))


def _at(step: str, error: Mismatch) -> Mismatch:
    """Return the error of a part as one of the whole."""
    path = error.path if not error.path or error.path[0] == "[" else f".{error.path}"
    return Mismatch(step + path, error.expected, error.found)


def _step(key: Any) -> str:
    """Return how a path names a key of an object."""
    return (
        key
        if isinstance(key, str) and key.isidentifier() and len(key) <= _SHOWN
        else f"[{_show(key, _SHOWN)}]"
    )


class _Compiler:
    """Makes the converters of one hint."""

    def __init__(self) -> None:
        self.is_recursive = False
        self._made: dict[
            int, Converter | None
        ] = {}  # by the id of a shape, all of which live as long as the whole
        self._open: set[int] = set()

    def compile(self, shape: Shape) -> Converter | None:
        """Return the converter of a shape, or None if any value is fine."""
        match shape:
            case Anything():
                return None
            case Scalar():
                return _scalar(shape.type)
            case Choice():
                return _choice(shape)
            case Array():
                return self._array(shape)
            case Row():
                return self._row(shape)
            case Table():
                return self._table(shape)
            case Record() | Alias():
                return self._named(shape)
            case Union():
                return self._union(shape)
            case _:
                return _msgspec(shape.hint) if shape.library == "msgspec" else _pydantic(shape.hint)

    def _named(self, shape: Record | Alias) -> Converter | None:
        key = id(shape)
        if key in self._made:
            return self._made[key]
        if key in self._open:  # it holds itself: what it will be is looked up when there is a value
            self.is_recursive = True
            made = self._made

            def convert(value: Any) -> Any:
                check = made[key]
                return value if check is None else check(value)

            return convert
        self._open.add(key)
        check = self._record(shape) if isinstance(shape, Record) else self.compile(shape.shape)
        self._made[key] = check
        return check

    def _array(self, shape: Array) -> Converter:
        check = self.compile(shape.item)
        make = shape.make
        kinds: Any = (list, tuple, shape.type)
        expected = expectation(shape)

        def convert(value: Any) -> Any:
            if not isinstance(value, kinds):
                raise _mismatch(expected, value)
            if check is None and make is None and isinstance(value, list):
                return value
            items: list[Any] = []
            if check is None:
                items.extend(value)
            else:
                try:
                    items.extend(map(check, value))
                except Mismatch as error:  # what came before it is in the list
                    raise _at(f"[{len(items)}]", error) from error.__cause__
            if make is None:
                return items
            try:
                return make(items)
            except TypeError as error:  # a set of what has no hash
                raise _mismatch(f"items that a {shape.type.__name__} can hold ({error})", value) from error

        return convert

    def _row(self, shape: Row) -> Converter:
        checks = [self.compile(item) for item in shape.items]
        expected = expectation(shape)

        def convert(value: Any) -> Any:
            if not isinstance(value, list | tuple) or len(value) != len(checks):
                raise _mismatch(expected, value)
            return tuple(_each(checks, value))

        return convert

    def _table(self, shape: Table) -> Converter:
        has_text_keys = shape.key == Scalar(str)
        check_key = None if has_text_keys else self._key(shape.key)
        check = self.compile(shape.value)
        make = shape.make

        def convert(value: Any) -> Any:
            if not isinstance(value, dict):
                raise _mismatch("an object", value)
            if has_text_keys:
                _check_text_keys(value)
            made = value
            if check is not None:
                made, key = {}, None
                try:
                    for key, item in value.items():
                        made[key] = check(item)
                except Mismatch as error:
                    raise _at(_step(key), error) from error.__cause__
            if check_key is not None:
                made = {check_key(key): item for key, item in made.items()}
            return made if make is None else make(made)

        return convert

    def _key(self, shape: Shape) -> Converter | None:
        """Return the converter of the keys of an object, which JSON has as text only."""
        check = self.compile(shape)
        expected = f"keys of which each is {expectation(shape)}"

        def convert(key: Any) -> Any:
            for known in (key, _key_value(key)):
                try:
                    return check(known)  # type: ignore[misc]  # without a check this is not used
                except Mismatch:
                    pass
            raise _mismatch(expected, key)

        return None if check is None else convert

    def _record(self, record: Record) -> Converter:
        match record.kind:
            case "TypedDict":
                return self._typed_dict(record)
            case "NamedTuple":
                return self._named_tuple(record)
            case _:
                return self._object(record)

    def _object(self, record: Record) -> Converter:
        """Return the converter of an object to an instance of a class that takes its values by name."""
        cls, expected = record.type, expectation(record)
        required = [self._member(member) for member in record.fields if member.required]
        optional = [self._member(member) for member in record.fields if not member.required]

        def convert(value: Any) -> Any:
            if not isinstance(value, dict):
                if isinstance(value, cls):
                    return value
                raise _mismatch(expected, value)
            given = {}
            name = ""
            try:
                for name, kind, check in required:
                    item = value[name]
                    given[name] = item if type(item) is kind else check(item)
                for name, kind, check in optional:
                    if name in value:
                        item = value[name]
                        given[name] = item if type(item) is kind else check(item)
            except KeyError:
                raise _missing(record, value) from None
            except Mismatch as error:
                raise _at(_step(name), error) from error.__cause__
            try:
                return cls(**given)
            except Exception as error:
                raise _refused(record.name, value, error) from error

        return convert

    def _member(self, member: Field) -> tuple[str, Any, Converter]:
        """Return the name of a field, the type of values that are fine as they are, and the converter of others."""
        check = self.compile(member.shape)
        is_plain = isinstance(member.shape, Scalar) and member.shape.type in _AS_THEY_ARE
        kind = member.shape.type if is_plain and isinstance(member.shape, Scalar) else None
        return member.name, kind, _as_it_is if check is None else check

    def _typed_dict(self, record: Record) -> Converter:
        """Return the converter of an object to a dict. Keys that the class does not name stay in it."""
        expected = expectation(record)
        required = [member.name for member in record.fields if member.required]
        checks = [(member.name, self.compile(member.shape)) for member in record.fields]
        checked = [(name, check) for name, check in checks if check is not None]

        def convert(value: Any) -> Any:
            if not isinstance(value, dict):
                raise _mismatch(expected, value)
            for name in required:
                if name not in value:
                    raise _missing(record, value)
            made = dict(value)
            for name, check in checked:
                if name in value:
                    try:
                        made[name] = check(value[name])
                    except Mismatch as error:
                        raise _at(_step(name), error) from error.__cause__
            return made

        return convert

    def _named_tuple(self, record: Record) -> Converter:
        """Return the converter of an array, or of an object, to a named tuple."""
        cls, expected = record.type, expectation(record)
        from_object = self._object(record)
        checks = [self.compile(member.shape) for member in record.fields]
        least = sum(member.required for member in record.fields)

        def convert(value: Any) -> Any:
            if not isinstance(value, list):
                return from_object(value)
            if not least <= len(value) <= len(checks):
                raise _mismatch(expected, value)
            items = _each(checks, value)
            try:
                return cls(*items)
            except Exception as error:
                raise _refused(record.name, value, error) from error

        return convert

    def _union(self, union: Union) -> Converter:
        expected = expectation(union)
        first = takewhile(
            lambda member: isinstance(member, Scalar) and member.type in _AS_THEY_ARE, union.members
        )
        as_they_are = frozenset(member.type for member in first if isinstance(member, Scalar))
        nullable = Scalar(type(None)) in union.members
        tag, by_tag = _tagged(union)
        tagged = {value: self.compile(member) for value, member in by_tag.items()}
        checks = [check for check in map(self.compile, union.members) if check is not None]

        def convert(value: Any) -> Any:
            if type(value) in as_they_are or (value is None and nullable):
                return value
            if tag and isinstance(value, dict):
                choice = value.get(tag, MISSING)
                check = tagged.get(choice) if isinstance(choice, str) else None
                if check is not None:
                    return check(value)
            deep: list[Mismatch] = []
            for check in checks:
                try:
                    return check(value)
                except Mismatch as error:
                    if error.path:
                        deep.append(error)
            # One member that took the value for its own knows best what is wrong with it.
            raise deep[0] if len(deep) == 1 else _mismatch(expected, value)

        return convert


def _check_text_keys(value: dict[Any, Any]) -> None:
    try:
        "".join(value)  # the keys of JSON are text: this is the quickest way to know it of others
    except TypeError:
        wrong = next(key for key in value if not isinstance(key, str))
        raise _mismatch("keys of which each is a string", wrong) from None


def _tagged(union: Union) -> tuple[str, dict[str, Record]]:
    """Return the key that tells the objects of a union apart, and which object each value of it means; "" without one."""
    records = [
        member for member in union.members if isinstance(member, Record) and member.kind != "NamedTuple"
    ]
    for name in [member.name for member in records[0].fields] if len(records) > 1 else ():
        tags: list[tuple[str, Record]] = []
        for record in records:
            shape = next((member.shape for member in record.fields if member.name == name), None)
            if not isinstance(shape, Choice) or not all(isinstance(value, str) for value, _ in shape.values):
                break
            tags += [(value, record) for value, _ in shape.values]
        else:
            if len({value for value, _ in tags}) == len(tags):
                return name, dict(tags)
    return "", {}


def _each(checks: list[Converter | None], values: list[Any] | tuple[Any, ...]) -> list[Any]:
    items: list[Any] = []
    for check, value in zip(checks, values, strict=False):
        try:
            items.append(value if check is None else check(value))
        except Mismatch as error:
            raise _at(f"[{len(items)}]", error) from error.__cause__
    return items


def _missing(record: Record, value: dict[Any, Any]) -> Mismatch:
    names = [member.name for member in record.fields if member.required and member.name not in value]
    keys = f"key{'s' if len(names) > 1 else ''} {_listed(names)}"
    return Mismatch("", expectation(record), f"one without the {keys}: {_show(value, _SHOWN)}")


def _refused(name: str, value: Any, error: Exception) -> Mismatch:
    return _mismatch(f"values that {name} takes ({_show_error(error)})", value)


def _show_error(error: Exception) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an author's exception
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _as_it_is(value: Any) -> Any:
    return value


def _key_value(key: Any) -> Any:
    """Return what a key would be if it were a value of JSON; the key itself if it is none but text."""
    if not isinstance(key, str):
        return key
    if key in _KEYS:
        return _KEYS[key]
    try:
        if _INTEGER.fullmatch(key):
            return int(key)
        return float(key) if _NUMBER.fullmatch(key) else key
    except ValueError:  # an integer with more digits than Python turns into one
        return key


# --- scalars -----------------------------------------------------------------------------------------------------------


def _scalar(kind: type) -> Converter:
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    return _parsed(kind, kind, _EXPECTED.get(kind, "a path"))  # of the ways to write a path


def _none(value: Any) -> Any:
    if value is None:
        return None
    raise _mismatch("null", value)


def _bool(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    raise _mismatch("true or false", value)


def _int(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _mismatch("an integer", value)


def _float(value: Any) -> Any:
    if isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise _mismatch("a number that fits a float", value) from None
    raise _mismatch("a number", value)


def _str(value: Any) -> Any:
    if isinstance(value, str):
        return value
    raise _mismatch("a string", value)


def _bytes(kind: type) -> Converter:
    def convert(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            return kind(value)
        if isinstance(value, str):
            raise _mismatch("bytes, which JSON has not; take a str, and decode it (base64.b64decode)", value)
        raise _mismatch("bytes", value)

    return convert


def _parsed(kind: type, parse: Callable[[str], Any], expected: str) -> Converter:
    """Return the converter for what JSON has as a string that can be parsed."""

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            try:
                return parse(value)
            except ValueError:
                pass
        elif isinstance(value, kind) and not (kind is dt.date and isinstance(value, dt.datetime)):
            return value
        raise _mismatch(expected, value)

    return convert


def _timedelta(value: Any) -> Any:
    try:
        match value:
            case dt.timedelta():
                return value
            case int() | float() if not isinstance(value, bool):
                return dt.timedelta(seconds=value)
            case str() if parts := _DURATION.fullmatch(value):
                spans = {
                    unit: float(text) for unit, text in parts.groupdict().items() if text and unit != "sign"
                }
                return dt.timedelta(**spans) * (-1 if parts["sign"] == "-" else 1)
    except (ValueError, OverflowError):  # not a number, or more than there is time
        pass
    raise _mismatch(_EXPECTED[dt.timedelta], value)


def _decimal(value: Any) -> Any:
    match value:
        case decimal.Decimal():
            return value
        case int() | float() if not isinstance(value, bool):
            return decimal.Decimal(repr(value)) if isinstance(value, float) else decimal.Decimal(value)
        case str() if _DECIMAL.fullmatch(value):
            try:
                return decimal.Decimal(value)
            except decimal.InvalidOperation:  # an exponent beyond all bounds
                pass
    raise _mismatch(_EXPECTED[decimal.Decimal], value)


_BY_TYPE: Final[dict[type, Converter]] = {
    type(None): _none,
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    bytes: _bytes(bytes),
    bytearray: _bytes(bytearray),
    dt.timedelta: _timedelta,
    decimal.Decimal: _decimal,
} | {kind: _parsed(kind, kind.fromisoformat, _EXPECTED[kind]) for kind in (dt.datetime, dt.date, dt.time)}


def _choice(shape: Choice) -> Converter:
    table = {
        (type(value), value): member for value, member in shape.values if not isinstance(value, list | dict)
    }
    lists = [(value, member) for value, member in shape.values if isinstance(value, list)]
    members = tuple(member for _, member in shape.values)
    others = shape.others
    expected = expectation(shape)

    def convert(value: Any) -> Any:
        try:
            return table[type(value), value]
        except (KeyError, TypeError):  # not one of them, or nothing that could be
            pass
        if (shape.cls is not None and isinstance(value, shape.cls)) or any(
            value is member for member in members
        ):
            return value
        for known, member in lists:
            if value == known:
                return member
        if others is not None and type(value) in {int, str}:
            try:
                return others(value)
            except Exception as error:
                raise _mismatch(expected, value) from error
        raise _mismatch(expected, value)

    return convert


# --- libraries that the author has imported ------------------------------------------------------------------------------


def _msgspec(hint: Any) -> Converter:
    library = sys.modules["msgspec"]
    try:
        library.convert(None, hint)
    except library.ValidationError:
        pass
    except Exception as error:
        raise UnsupportedHint(shown(hint), _show_error(error)) from error

    def convert(value: Any) -> Any:
        try:
            return library.convert(value, hint)
        except library.ValidationError as error:
            raise _from_msgspec(value, str(error)) from error
        except Exception as error:
            raise _refused(shown(hint), value, error) from error

    return convert


def _from_msgspec(value: Any, text: str) -> Mismatch:
    """Return what msgspec says of a value, such as ``Expected `int`, got `str` - at `$.lines[2].count```."""
    at = _MSGSPEC_PLACE.search(text)
    path = at[1] if at else ""
    text = _MSGSPEC_PLACE.sub("", text)
    for name, number in re.findall(r"\.([^.\[]+)|\[([0-9]+)\]", path):
        try:
            value = value[name or int(number)]
        except (TypeError, LookupError):  # the path went through a key that it does not name
            break
    if text.startswith("Object missing required field "):
        expected = f"an object with the key {text.split()[-1]}"
    elif text.startswith("Expected "):
        expected = text.removeprefix("Expected ").partition(", got ")[0]
    else:
        expected = f"what is valid ({text})"
    return Mismatch(path.removeprefix("."), expected.replace("`", ""), _show(value, _SHOWN))


def _pydantic(hint: Any) -> Converter:
    library = sys.modules["pydantic"]
    try:
        validate = library.TypeAdapter(hint).validate_python
    except Exception as error:
        raise UnsupportedHint(shown(hint), _show_error(error)) from error

    def convert(value: Any) -> Any:
        try:
            return validate(value)
        except library.ValidationError as error:
            raise _from_pydantic(error.errors(include_url=False)) from error
        except Exception as error:
            raise _refused(shown(hint), value, error) from error

    return convert


def _from_pydantic(faults: list[dict[str, Any]]) -> Mismatch:
    """Return the first of what pydantic says of a value."""
    fault = faults[0]
    place, message = list(fault["loc"]), str(fault["msg"])
    if fault["type"] == "missing":
        message = f"an object with the key {place.pop()}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    error = Mismatch("", message.removeprefix("Input should be "), _show(fault["input"], _SHOWN) + more)
    for step in reversed(place):
        error = _at(f"[{step}]" if isinstance(step, int) else _step(step), error)
    return error
