"""What a type hint says about a value, as a tree of shapes: the converter and the JSON Schema are both made of it."""

import collections
import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import sys
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .errors import UnsupportedHint

MISSING: Final = object()  # what is not there, where None could be


@dataclass(frozen=True, slots=True)
class Anything:
    """Any value."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value that has no values in it, such as an ``int`` or a ``datetime``."""

    type: type


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values: of a ``Literal``, or of an ``Enum``; each with what JSON has for it.

    ``others`` is asked about a value that is none of them: flags can be combined, and an enumeration may know more names.
    """

    values: tuple[tuple[Any, Any], ...]  # what JSON has, what the author gets
    cls: type[enum.Enum] | None = None
    others: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True)
class Array:
    """Any number of items of one shape."""

    item: "Shape"
    make: Callable[[list[Any]], Any] | None  # None: the list as it is
    type: type


@dataclass(frozen=True, slots=True)
class Row:
    """A tuple of as many items as there are shapes."""

    items: tuple["Shape", ...]


@dataclass(frozen=True, slots=True)
class Table:
    """An object with any keys."""

    key: "Shape"
    value: "Shape"
    make: Callable[[dict[Any, Any]], Any] | None  # None: the dict as it is


@dataclass(frozen=True, slots=True)
class Field:
    """A key of an object that a class describes; ``default`` is MISSING if there is none that could be shown."""

    name: str
    shape: "Shape"
    required: bool
    default: Any = MISSING


@dataclass(slots=True, eq=False)
class Record:
    """An object whose keys a class names. It may hold itself, so the fields come after it is made."""

    type: type
    name: str
    kind: str  # "dataclass", "TypedDict" or "NamedTuple"
    fields: tuple[Field, ...] = ()


@dataclass(slots=True, eq=False)
class Alias:
    """A shape that has a name, and may hold itself under it."""

    name: str
    shape: "Shape" = field(default_factory=Anything)


@dataclass(frozen=True, slots=True)
class Union:
    """A value of one of several shapes, the first that fits."""

    members: tuple["Shape", ...]


@dataclass(frozen=True, slots=True)
class Foreign:
    """A type of a library that checks values itself; that has been imported by whoever wrote the hint."""

    library: str  # "msgspec" or "pydantic"
    hint: Any


Shape = Anything | Scalar | Choice | Array | Row | Table | Record | Alias | Union | Foreign

_SCALARS: Final = frozenset(
    {
        bool,
        int,
        float,
        str,
        bytes,
        bytearray,
        dt.datetime,
        dt.date,
        dt.time,
        dt.timedelta,
        uuid.UUID,
        decimal.Decimal,
        pathlib.Path,
        pathlib.PurePath,
        pathlib.PurePosixPath,
        type(None),
    }
)
_LISTS: Final[frozenset[Any]] = frozenset(
    {
        list,
        collections.abc.Sequence,
        collections.abc.MutableSequence,
        collections.abc.Iterable,
        collections.abc.Collection,
        collections.abc.Reversible,
    }
)
_ARRAYS: Final[dict[Any, type]] = {
    set: set,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
}
_TABLES: Final[dict[Any, type | None]] = {
    dict: None,
    collections.abc.Mapping: None,
    collections.abc.MutableMapping: None,
    collections.OrderedDict: collections.OrderedDict,
}
_QUALIFIERS: Final = frozenset({"Required", "NotRequired", "ReadOnly", "Final"})
_IN_JSON: Final = (type(None), bool, int, float, str)  # types of what JSON can show as a choice


def shape_of(hint: Any) -> Shape:
    """Return the shape of the values that a type hint allows.

    Raises:
        UnsupportedHint: nobody can tell from the hint, or from a part of it, which values it allows.
    """
    try:
        return _Reader().read(hint)
    except RecursionError:  # a generic class that holds an ever larger kind of itself
        raise UnsupportedHint(shown(hint), "it never ends") from None


def shown(hint: Any) -> str:
    """Return a type hint as an author writes it."""
    if isinstance(hint, type):
        return hint.__qualname__.rpartition("<locals>.")[2]
    return str(hint).replace("typing.", "")


class _Reader:
    """Reads one hint; classes and aliases that are met again are the same shape."""

    def __init__(self) -> None:
        self._known: dict[Any, Record | Alias] = {}

    def read(self, hint: Any) -> Shape:
        """Return the shape of a hint whose forward references are resolved."""
        if hint is Any or hint is object:
            return Anything()
        if isinstance(hint, str | typing.ForwardRef):
            raise UnsupportedHint(
                repr(hint), "it is a name that has not been looked up; write it without quotes"
            )
        if hint is None or (isinstance(hint, type) and hint in _SCALARS):
            return Scalar(hint or type(None))
        if library := _library(hint):
            return Foreign(library, hint)
        origin = typing.get_origin(hint)
        if origin is None:
            return self._read_plain(hint)
        return self._read_generic(hint, origin, typing.get_args(hint))

    def _read_plain(self, hint: Any) -> Shape:
        """Return the shape of a hint without parameters."""
        kind = type(hint).__name__
        if isinstance(hint, typing.TypeVar):
            return self._read_variable(hint)
        if isinstance(hint, typing.NewType):
            return self.read(hint.__supertype__)
        if kind == "TypeAliasType":
            return self._read_alias(hint, ())
        if not isinstance(hint, type):
            raise UnsupportedHint(shown(hint), "it is no type whose values JSON can hold")
        if hint in _LISTS or hint in _ARRAYS or hint in _TABLES or hint is tuple:
            return self._read_generic(hint, hint, ())
        return self._read_class(hint, ())

    def _read_variable(self, variable: Any) -> Shape:
        if variable.__constraints__:
            return self._read_union(variable.__constraints__)
        if variable.__bound__ is None:
            return Anything()
        return self.read(_look_up(variable, lambda: variable.__bound__))

    def _read_generic(self, hint: Any, origin: Any, args: tuple[Any, ...]) -> Shape:
        """Return the shape of a hint with parameters, or of a container that could have some."""
        if origin in _LISTS:
            return Array(self._one(args), None, list)
        if origin in _ARRAYS:
            return Array(self._one(args), _ARRAYS[origin], _ARRAYS[origin])
        if origin in _TABLES:
            key, value = args or (Any, Any)
            return Table(self.read(key), self.read(value), _TABLES[origin])
        if origin is tuple:
            return self._read_tuple(hint, args)
        if origin is typing.Union or origin is types.UnionType:
            return self._read_union(args)
        if origin is typing.Literal:
            return Choice(tuple(pair for value in args for pair in _choice(hint, value)))
        if origin is typing.Annotated or getattr(origin, "_name", "") in _QUALIFIERS:
            return self.read(args[0])
        if type(origin).__name__ == "TypeAliasType":
            return self._read_alias(origin, args)
        if isinstance(origin, type):
            return self._read_class(origin, args)
        raise UnsupportedHint(shown(hint), "it is no type whose values JSON can hold")

    def _one(self, args: tuple[Any, ...]) -> Shape:
        return self.read(args[0]) if args else Anything()

    def _read_tuple(self, hint: Any, args: tuple[Any, ...]) -> Shape:
        if hint is tuple or hint is typing.Tuple:  # noqa: UP006 - what authors of older code write
            return Array(Anything(), tuple, tuple)
        if len(args) == 2 and args[1] is Ellipsis:
            return Array(self.read(args[0]), tuple, tuple)
        return Row(tuple(self.read(arg) for arg in args))

    def _read_union(self, members: Iterable[Any]) -> Shape:
        shapes: list[Shape] = []
        for member in members:
            shape = self.read(member)
            if isinstance(shape, Anything):
                return shape
            shapes += shape.members if isinstance(shape, Union) else (shape,)
        # A float takes an int too, as float: an int must not become one where it may stay what it is.
        if Scalar(int) in shapes and Scalar(float) in shapes:
            shapes.sort(key=lambda shape: shape == Scalar(float))
        return Union(tuple(shapes))

    def _read_alias(self, alias: Any, args: tuple[Any, ...]) -> Shape:
        key = (alias, args)
        if key not in self._known:
            known = self._known[key] = Alias(alias.__name__)
            value = _look_up(alias, lambda: alias.__value__)
            known.shape = self.read(_substitute(value, dict(zip(alias.__type_params__, args, strict=False))))
        return self._known[key]

    def _read_class(self, cls: type, args: tuple[Any, ...]) -> Shape:
        """Return the shape of a class that an author, or a library, has written."""
        if issubclass(cls, enum.Enum):
            return _read_enum(cls)
        kind = _kind(cls)
        if not kind:
            raise UnsupportedHint(
                shown(cls),
                "JSON cannot hold its values; use a dataclass, a TypedDict, a NamedTuple, an Enum, "
                "a msgspec.Struct or a pydantic model",
            )
        key = (cls, args)
        if key not in self._known:
            parameters = ", ".join(map(shown, args))
            name = f"{cls.__name__}[{parameters}]" if args else cls.__name__
            known = self._known[key] = Record(cls, name, kind)
            known.fields = tuple(self._read_fields(cls, kind, _variables(cls, args)))
        return self._known[key]

    def _read_fields(self, cls: type, kind: str, variables: dict[Any, Any]) -> Iterable[Field]:
        hints = _hints(cls)

        def read(name: str) -> Shape:
            hint = hints.get(name, Any)  # a namedtuple of the older kind has none
            try:
                return self.read(_substitute(hint.type if _is_init_var(hint) else hint, variables))
            except UnsupportedHint as error:
                raise UnsupportedHint(error.hint, f"{error.problem} (in {shown(cls)}.{name})") from None

        match kind:
            case "dataclass":
                for member in _parameters(cls, hints):
                    has_default = member.default is not dataclasses.MISSING
                    required = not has_default and member.default_factory is dataclasses.MISSING
                    default = member.default if has_default else MISSING
                    yield Field(member.name, read(member.name), required, default)
            case "NamedTuple":
                defaults: dict[str, Any] = getattr(cls, "_field_defaults", {})
                for name in getattr(cls, "_fields", ()):
                    yield Field(name, read(name), name not in defaults, defaults.get(name, MISSING))
            case _:
                required_keys: frozenset[str] = getattr(cls, "__required_keys__", frozenset())
                for name, hint in hints.items():
                    yield Field(name, read(name), _is_required(hint, default=name in required_keys))


def _library(hint: Any) -> str:
    """Return which library checks the values of a hint itself, or nothing."""
    if typing.get_origin(hint) is typing.Annotated:
        names = {type(note).__module__.partition(".")[0] for note in hint.__metadata__}
        if "msgspec" in names:
            return "msgspec"
        return "pydantic" if names & {"pydantic", "annotated_types"} and "pydantic" in sys.modules else ""
    cls = typing.get_origin(hint) or hint
    if not isinstance(cls, type):
        return ""
    if hasattr(cls, "__struct_fields__"):
        return "msgspec"
    is_pydantic = hasattr(cls, "__pydantic_validator__") or hasattr(cls, "__get_pydantic_core_schema__")
    return "pydantic" if is_pydantic and "pydantic" in sys.modules else ""


def _kind(cls: type) -> str:
    if dataclasses.is_dataclass(cls):
        return "dataclass"
    # The classes of typing and of typing_extensions are two: what they have in common is this.
    if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
        return "TypedDict"
    return "NamedTuple" if issubclass(cls, tuple) and hasattr(cls, "_fields") else ""


def _hints(cls: type) -> dict[str, Any]:
    """Return the hints of a class, with names looked up in its module, and then in the class."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError:
        pass
    except Exception as error:
        raise UnsupportedHint(shown(cls), f"its hints cannot be looked up: {error}") from error
    # A class inside a function may at least name itself, and its type parameters are in no module.
    names = {parameter.__name__: parameter for parameter in getattr(cls, "__type_params__", ())}
    try:
        return typing.get_type_hints(cls, localns={cls.__name__: cls, **names}, include_extras=True)
    except Exception as error:
        raise UnsupportedHint(
            shown(cls), f"its hints cannot be looked up: {error}; define what they name in the module"
        ) from error


def _look_up(owner: Any, value: Callable[[], Any]) -> Any:
    """Return what an alias or a type variable stands for, with names looked up in the module that has it."""
    names = vars(sys.modules.get(owner.__module__, typing))
    try:
        holder = types.SimpleNamespace(__annotations__={"value": value()})
        return typing.get_type_hints(holder, names, include_extras=True)["value"]
    except Exception as error:
        raise UnsupportedHint(owner.__name__, f"what it stands for cannot be looked up: {error}") from error


def _parameters(cls: Any, hints: dict[str, Any]) -> list[dataclasses.Field[Any]]:
    """Return the fields of a dataclass that its ``__init__`` takes; those that are nothing but parameters too."""
    names = {member.name for member in dataclasses.fields(cls) if member.init}
    members: dict[str, dataclasses.Field[Any]] = cls.__dataclass_fields__
    return [member for name, member in members.items() if name in names or _is_init_var(hints.get(name))]


def _is_init_var(hint: Any) -> bool:
    return isinstance(hint, dataclasses.InitVar)


def _is_required(hint: Any, *, default: bool) -> bool:
    """Tell whether a TypedDict must have a key: what its hint says stands above what holds for the whole."""
    while (origin := typing.get_origin(hint)) is not None:
        name = "Annotated" if origin is typing.Annotated else getattr(origin, "_name", "")
        if name == "Required":
            return True
        if name == "NotRequired":
            return False
        if name not in {"Annotated", "ReadOnly"}:
            break
        hint = typing.get_args(hint)[0]
    return default


def _variables(cls: type, args: tuple[Any, ...]) -> dict[Any, Any]:
    """Return what the type variables of a generic class and of those it extends stand for."""
    found = dict(zip(getattr(cls, "__parameters__", ()), args, strict=False))
    for base in getattr(cls, "__orig_bases__", ()):
        origin = typing.get_origin(base)
        if isinstance(origin, type) and origin is not typing.Generic:
            inner = tuple(_substitute(arg, found) for arg in typing.get_args(base))
            found = _variables(origin, inner) | found
    return found


def _substitute(hint: Any, variables: Mapping[Any, Any]) -> Any:
    """Return a hint with what its type variables stand for."""
    if not variables:
        return hint
    if isinstance(hint, typing.TypeVar):
        return variables.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or isinstance(hint, type):
        return hint
    return hint[tuple(variables.get(parameter, parameter) for parameter in parameters)]


def _choice(hint: Any, value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, enum.Enum):
        yield plain(value.value), value
    elif isinstance(value, (*_IN_JSON, bytes)):
        yield value, value
    else:
        raise UnsupportedHint(shown(hint), f"{value!r} is no value of JSON")


def _read_enum(cls: type[enum.Enum]) -> Choice:
    values = tuple((plain(member.value), member) for member in cls.__members__.values())
    own = getattr(cls, "_missing_", None)
    knows_more = getattr(own, "__func__", own) is not getattr(enum.Enum._missing_, "__func__", None)
    return Choice(values, cls, cls if knows_more else None)


def plain(value: Any) -> Any:
    """Return what JSON has for the value of an enumeration's member: a list for a tuple."""
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value
