"""What a Sequence agrees to by its type hints: items in and out, start arguments, configuration."""

import collections.abc
import inspect
import itertools
import json
import types
import typing
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from numbers import Number
from typing import Any, Final, Literal, Union, get_args, get_origin

from .class_form import read_class
from .content import ContentType
from .context import Context
from .errors import BadArgument, BadConfig, DecoratorError, Mismatch, UnsupportedHint
from .hints import converter
from .schema import json_schema
from .spec import EMPTY, Call, Parameter, SequenceSpec, name_of, named_function, read_call, spec_of
from .stream import Stream, StringStream

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Argument:
    """A start argument or an option, with what its hint says. ``Any`` is a hint that says nothing."""

    name: str
    hint: Any = Any
    default: Any = EMPTY
    convert: Convert | None = None

    def __str__(self) -> str:
        hint = "" if self.hint is Any else f": {_show(self.hint)}"
        if self.default is EMPTY:
            return self.name + hint
        return f"{self.name}{hint} = {self.default!r}" if hint else f"{self.name}={self.default!r}"


_UNTYPED: Final = Argument("args")


def _typed(argument: Argument, value: Any, bad: Callable[[str], Exception]) -> Any:
    if argument.convert is None:
        return value
    try:
        return argument.convert(value)
    except Mismatch as error:
        place = f"at {error.path}, " if error.path else ""
        raise bad(f"{place}expected {error.expected}, got {error.found}") from None


@dataclass(frozen=True, slots=True)
class Bound:
    """What a start gives a Sequence: positional arguments behind the input, options by name, and ``context.config``."""

    args: tuple[Any, ...]
    options: dict[str, Any]
    config: Any


@dataclass(frozen=True, slots=True)
class Contract:
    """The agreement of one Sequence.

    Attributes:
        takes: content type of the input, declared or by the hint; None where the sender decides.
        gives: content type of the output; None where nothing is said.
        item: hint of an item of the input.
        output: hint of an item of the output.
        config: hint of ``context.config``.
    """

    takes: str | None
    gives: str | None
    item: Any
    output: Any
    config: Any
    name: str = ""
    arguments: tuple[Argument, ...] = ()
    rest: Argument | None = None
    options: tuple[Argument, ...] = ()
    others: Argument | None = None
    taken: frozenset[str] = frozenset()  # names of parameters that ``**options`` cannot have
    typed_config: Convert | None = None

    def bind(self, args: list[Any], config: dict[str, Any]) -> Bound:
        """Return what the Sequence is called with for a start's arguments and configuration.

        Raises:
            BadArgument: an argument is missing, too many, or not what the hint says.
            BadConfig: an option is missing, or part of the configuration is not what the hint says.
        """
        return Bound(self._bind_arguments(args), self._bind_options(config), self._typed_config(config))

    def _bind_arguments(self, args: list[Any]) -> tuple[Any, ...]:
        if len(args) > len(self.arguments) and self.rest is None:
            raise BadArgument(len(self.arguments) + 1, "", f"too many, for {self._call()}")
        for number, argument in enumerate(self.arguments[len(args) :], len(args) + 1):
            if argument.default is EMPTY:
                raise BadArgument(number, argument.name, f"missing, for {self._call()}")
        places = itertools.chain(self.arguments, itertools.repeat(self.rest or _UNTYPED))
        return tuple(
            _typed(argument, value, partial(BadArgument, number, argument.name))
            for number, (value, argument) in enumerate(zip(args, places, strict=False), 1)
        )

    def _bind_options(self, config: dict[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        named = {option.name: option for option in self.options}
        for name, option in named.items():
            if name in config:
                values[name] = _typed(option, config[name], partial(BadConfig, name))
            elif option.default is EMPTY:
                raise BadConfig(name, f"missing, for {self.name} takes {', '.join(map(str, self.options))}")
        if self.others is not None:
            for name, value in config.items():
                if name not in named and name not in self.taken:
                    values[name] = _typed(self.others, value, partial(BadConfig, name))
        return values

    def _typed_config(self, config: dict[str, Any]) -> Any:
        if self.typed_config is None:
            return config
        try:
            return self.typed_config(config)
        except Mismatch as error:
            raise BadConfig(error.path, f"expected {error.expected}, got {error.found}") from None

    def _call(self) -> str:
        shown = [*map(str, self.arguments), *([f"*{self.rest}"] if self.rest else [])]
        return f"{self.name} takes " + (", ".join(shown) or "no start arguments")

    def schema(self) -> dict[str, Any]:
        """Return JSON Schemas (2020-12) by "input", "output", "args" and "config", of what is known."""
        found = {
            "input": _schema(self.item),
            "output": _schema(self.output),
            "args": self._schema_of_arguments(),
            "config": self._schema_of_config(),
        }
        return {part: schema for part, schema in found.items() if schema}

    def _schema_of_arguments(self) -> dict[str, Any]:
        defs = _Definitions()
        schema: dict[str, Any] = {"type": "array"}
        if self.arguments:
            schema["prefixItems"] = [{"title": a.name, **defs.of(a)} for a in self.arguments]
        needed = sum(argument.default is EMPTY for argument in self.arguments)
        if needed:
            schema["minItems"] = needed
        if self.rest is None:
            schema["items"] = False
        elif self.rest.hint is not Any:
            schema["items"] = {"title": self.rest.name, **defs.of(self.rest)}
        return defs.complete(schema) if len(schema) > 1 else {}

    def _schema_of_config(self) -> dict[str, Any]:
        defs = _Definitions()
        own: dict[str, Any] = {"type": "object"}
        if self.options:
            own["properties"] = {option.name: defs.of(option) for option in self.options}
        needed = [option.name for option in self.options if option.default is EMPTY]
        if needed:
            own["required"] = needed
        if self.others is not None and self.others.hint is not Any:
            own["additionalProperties"] = defs.of(self.others)
        typed = defs.of(Argument("", self.config))
        schemas = [schema for schema in (own if len(own) > 1 else {}, typed) if schema]
        if not schemas:
            return {}
        return defs.complete(schemas[0] if len(schemas) == 1 else {"allOf": schemas})


FREE: Final = Contract(None, None, Any, Any, Any, rest=_UNTYPED)
"""What a function without a mark agrees to: any input, any start arguments."""


def contract_of(thing: Any) -> Contract:
    """Return the contract of a Sequence; call it when the file is loaded, for hints may name what comes later in it.

    A function without a mark, such as the classic ``run``, has agreed to nothing.

    Raises:
        DecoratorError: hints cannot be resolved or checked, or contradict the content types.
    """
    if spec_of(thing) is None:
        return FREE
    try:
        return read_contract(thing)
    except NameError as error:
        raise DecoratorError(
            f"@sequence: a hint of {name_of(thing)} cannot be resolved: {error}; "
            "import what it names where the file runs, not only under TYPE_CHECKING"
        ) from None


def read_contract(thing: Any) -> Contract:
    """Return the contract of a marked thing, as far as its hints can be resolved by now.

    Raises:
        DecoratorError: hints cannot be checked, or contradict the content types.
        NameError: a hint names what is not there, or not yet.
    """
    spec = spec_of(thing)
    if spec is not None and spec.parts:
        return _contract_of_chain(thing.__name__, spec.parts)
    spec = spec or SequenceSpec(None, None, wants_context=False)
    form = read_class(thing) if isinstance(thing, type) else None
    each = form is not None and form.each
    call = form.work if form is not None else read_call(thing)
    resolve = _Resolver(call)
    item = Any
    if call.input is not None:
        place = f"parameter {call.input.name!r}"
        item = resolve(call.input.hint, place)
        if not each:
            item = _item_of(item, f"{call.name}'s {place}")
        _converter(item, f"{call.name}'s {place}")
    try:
        output, alone = _output_of(resolve(call.returns, "result"), single=each)
    except NameError:  # nothing depends on it but the schema
        output, alone = Any, True
    calls = [call] if form is None else [one for one in (form.setup, call, form.teardown) if one is not None]
    config = _common_config([(one.name, _config_of(one)) for one in calls])

    def argument(parameter: Parameter) -> Argument:
        place = f"parameter {parameter.name!r}"
        hint = resolve(parameter.hint, place)
        return Argument(parameter.name, hint, parameter.default, _converter(hint, f"{call.name}'s {place}"))

    return Contract(
        takes=_content_type("takes", spec.takes, item, call.name),
        gives=_content_type("gives", spec.gives, output, call.name, is_number=alone and _is_number(output)),
        item=item,
        output=output,
        config=config,
        name=call.name,
        arguments=tuple(map(argument, call.arguments)),
        rest=argument(call.rest) if call.rest else None,
        options=tuple(map(argument, call.options)),
        others=argument(call.others) if call.others else None,
        taken=call.taken,
        typed_config=_converter(config, f"{call.name}'s configuration"),
    )


def _converter(hint: Any, place: str) -> Convert | None:
    if _is_anything(hint):
        return None
    try:
        return converter(hint)
    except UnsupportedHint as error:
        raise DecoratorError(f"@sequence: {place}: {error}") from None


def _config_of(call: Call) -> Any:
    """Return C of a parameter ``Context[C]``."""
    if call.context is None:
        return Any
    hint = _peel(_Resolver(call)(call.context.hint, f"parameter {call.context.name!r}"))
    return _argument_of(hint) if get_origin(hint) is Context else Any


def _common_config(hints: list[tuple[str, Any]]) -> Any:
    """Return the one hint that parts or methods have for the configuration."""
    found = {name: hint for name, hint in hints if not _is_anything(hint)}
    if not found:
        return Any
    (first, config), *more = found.items()
    for name, hint in more:
        if hint != config:
            raise DecoratorError(
                f"@sequence: {first} has a Context[{_show(config)}], and {name} a Context[{_show(hint)}], but there is one "
                "configuration; write one type with the fields of both"
            )
    return config


def call_of(thing: Any) -> Call:
    """Return the parameters of what does the work: the function, or ``run`` or ``each`` of a class."""
    return read_class(thing).work if isinstance(thing, type) else read_call(thing)


def _contract_of_chain(name: str, parts: tuple[Any, ...]) -> Contract:
    contracts = [read_contract(part) for part in parts]
    for before, after in itertools.pairwise(contracts):
        if not _may_fit(before.output, after.item):
            raise DecoratorError(
                f"sequence.chain: {before.name} gives {_show(before.output)}, but {after.name} takes {_show(after.item)}, "
                "and nothing is converted between two parts; put one between them that does, or change a hint"
            )
    first = next((one for one in contracts if one.arguments or one.rest), contracts[0])
    for one in contracts:
        needed = [argument.name for argument in one.arguments if argument.default is EMPTY]
        if one is not first and needed:
            raise DecoratorError(
                f"sequence.chain: {one.name} needs the start argument {needed[0]!r}, but those of the chain go to {first.name}, "
                f"the first part that has any; make it an option, behind a `*`, or give it a default"
            )
    options: dict[str, Argument] = {}
    for one in contracts:
        for option in one.options:
            options[option.name] = _merge(options.get(option.name), option, one.name)
    config = _common_config([(one.name, one.config) for one in contracts])
    others: Argument | None = None
    for one in contracts:
        others = _merge(others, one.others, one.name) if one.others else others
    return Contract(
        takes=contracts[0].takes,
        gives=contracts[-1].gives,
        item=contracts[0].item,
        output=contracts[-1].output,
        config=config,
        name=name,
        arguments=first.arguments,
        rest=first.rest,
        options=tuple(options.values()),
        others=others,
        taken=frozenset.intersection(*(one.taken for one in contracts if one.others))
        if others
        else frozenset(),
        typed_config=_converter(config, "the chain's configuration"),
    )


def _merge(known: Argument | None, option: Argument, name: str) -> Argument:
    """Return the one option that stands for those of several parts; it must be there if any of them needs it."""
    if known is None:
        return option
    if Any not in (known.hint, option.hint) and known.hint != option.hint:
        raise DecoratorError(
            f"sequence.chain: the option {option.name!r} is {_show(option.hint)} in {name}, and {_show(known.hint)} in a part "
            "before it; a chain has one configuration, so give one of them another name"
        )
    typed = known if known.hint is not Any else option
    return replace(typed, default=EMPTY if EMPTY in (known.default, option.default) else typed.default)


# --- hints ---------------------------------------------------------------------------------------------------------


class _Resolver:
    """Gives the hints of one function as they are meant, where they are written as text too."""

    def __init__(self, call: Call) -> None:
        self._call = call
        function: Any = call.function
        while (inner := named_function(inspect.unwrap(function))) is not function:
            function = inner
        if not isinstance(function, types.FunctionType):
            function = type(function).__call__
        # what is often imported for the type checker only, and means the same everywhere
        self._globals = {**_WELL_KNOWN, **getattr(function, "__globals__", {})}
        self._locals = {one.__name__: one for one in getattr(function, "__type_params__", ())}

    def __call__(self, hint: Any, place: str) -> Any:
        if hint is EMPTY:
            return Any
        holder = types.SimpleNamespace(__annotations__={"it": hint})
        try:
            return typing.get_type_hints(holder, self._globals, self._locals, include_extras=True)["it"]
        except NameError:
            raise
        except Exception as error:  # noqa: BLE001 - the author's text, evaluated: anything may come
            raise DecoratorError(
                f"@sequence: the hint of {self._call.name}'s {place}, {hint!r}, is none: {type(error).__name__}: {error}"
            ) from None


_WELL_KNOWN: dict[str, Any] = {
    **{
        name: getattr(collections.abc, name)
        for name in (
            "AsyncGenerator",
            "AsyncIterable",
            "AsyncIterator",
            "Awaitable",
            "Coroutine",
            "Generator",
            "Iterable",
            "Iterator",
            "Mapping",
            "Sequence",
        )
    },
    **{name: getattr(typing, name) for name in ("Any", "Literal", "Optional", "Union")},
    **{kind.__name__: kind for kind in (Context, Stream, StringStream)},
}
_JSON = "json"  # any value, on a line of its own
_WORD = "word"  # text that is one of a few
_TEXT, _NDJSON, _OCTETS = ContentType.TEXT, ContentType.NDJSON, ContentType.OCTETS


def _peel(hint: Any) -> Any:
    """Return what is inside Annotated, an alias, a NewType or Final."""
    while True:
        if get_origin(hint) is typing.Annotated:
            hint = get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":  # `type X = ...`, from Python 3.12 on
            hint = hint.__value__
        else:
            return hint


def _is_anything(hint: Any) -> bool:
    return hint is Any or hint is object or isinstance(hint, typing.TypeVar)


def _members(hint: Any) -> list[Any]:
    """Return the members of a union, without None; another hint is its only member."""
    hint = _peel(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return [member for part in get_args(hint) for member in _members(part)]
    return [] if hint in (None, types.NoneType) else [hint]


def _joined(hints: Iterable[Any]) -> Any:
    """Return the union of hints; one that may be anything makes it so."""
    found = list(hints)
    if not found or any(_is_anything(hint) for hint in found):
        return Any
    return Union[tuple(found)]  # noqa: UP007 - of hints that are known at run time only


def _argument_of(hint: Any) -> Any:
    """Return X of ``AsyncIterator[X]``, also for a class that inherits from it."""
    arguments = get_args(hint)
    if arguments:
        return arguments[0]
    for base in getattr(hint, "__orig_bases__", ()):
        found = get_origin(base)
        if isinstance(found, type) and issubclass(found, AsyncIterable | Iterable):
            return _argument_of(base)
    return Any


def _item_of(hint: Any, place: str) -> Any:
    """Return the hint of the items that an input of this hint has."""
    items = []
    for member in _members(hint):
        origin = get_origin(member) or member
        if _is_anything(member) or not isinstance(origin, type) or getattr(origin, "_is_protocol", False):
            return Any
        if not issubclass(origin, AsyncIterable | Iterable) or issubclass(origin, Collection):
            raise DecoratorError(
                f"@sequence: {place} is {_show(member)}, but a Sequence gets a stream of items; "
                f"write Stream[{_show(member)}], or each(self, item) in a class"
            )
        items.append(_argument_of(member))
    return _joined(items)


def _output_of(hint: Any, *, single: bool) -> tuple[Any, bool]:
    """Return the hint of the items of a result, and whether it is the one item itself.

    ``single`` is for a function that handles one item: only what comes a piece at a time is more than one item then.
    """
    outputs, alone = [], True
    for member in _members(hint):
        if _is_anything(member):
            return Any, True
        origin = get_origin(member) or member
        if not isinstance(origin, type):  # Literal
            outputs.append(member)
        elif issubclass(origin, Awaitable) and not issubclass(origin, AsyncIterable):
            item, alone_too = _output_of((get_args(member) or (Any,))[-1], single=single)
            outputs.append(item)
            alone = alone and alone_too
        elif _gives_several(origin, single=single):
            alone = False
            if issubclass(origin, tuple):
                outputs.append(_item_of_tuple(member))
            else:
                outputs.append(_argument_of(member))
        else:
            outputs.append(member)
    return _joined(outputs), alone


def _gives_several(origin: type, *, single: bool) -> bool:
    if single:
        return issubclass(origin, AsyncIterable | Iterator)
    if typing.is_typeddict(origin) or issubclass(origin, str | bytes | bytearray | memoryview | Mapping):
        return False
    return issubclass(origin, AsyncIterable | Iterable)


def _item_of_tuple(hint: Any) -> Any:
    return _joined(argument for argument in get_args(hint) if argument is not ...)


def _kinds(hint: Any) -> set[str]:
    """Return what the values of a hint are on a stream; nothing for what may be anything."""
    kinds: set[str] = set()
    for member in _members(hint):
        if _is_anything(member):
            return set()
        if member is str:
            kinds.add(_TEXT)
        elif member in (bytes, bytearray, memoryview):
            kinds.add(_OCTETS)
        elif (isinstance(member, type) and issubclass(member, str)) or (
            get_origin(member) is Literal and all(isinstance(value, str) for value in get_args(member))
        ):
            kinds.add(_WORD)
        else:
            kinds.add(_JSON)
    return kinds


_CARRIES: dict[tuple[str, ContentType], set[str]] = {
    ("takes", _TEXT): {_TEXT, _WORD},
    ("takes", _NDJSON): {_TEXT, _WORD, _JSON},
    ("takes", _OCTETS): {_OCTETS},
    ("gives", _TEXT): {_TEXT, _WORD, _OCTETS},
    ("gives", _NDJSON): {_TEXT, _WORD, _JSON},
    ("gives", _OCTETS): {_OCTETS},
}


def _content_type(
    option: str, declared: str | None, hint: Any, name: str, *, is_number: bool = False
) -> str | None:
    """Return the content type that is declared, or follows from the hint.

    Raises:
        DecoratorError: the two contradict each other.
    """
    kinds = _kinds(hint)
    if declared is None:
        for candidate in (_OCTETS, _TEXT, _NDJSON):
            if kinds and kinds <= _CARRIES[option, candidate] and kinds != {_WORD}:
                return candidate
        return _NDJSON if kinds == {_WORD} else None
    carried = _CARRIES[option, ContentType.parse(declared)]
    if kinds and not kinds & carried and not is_number:
        what = "input" if option == "takes" else "output"
        fitting = [kind for kind in ContentType if kinds <= _CARRIES[option, kind]]
        advice = f"{option}={str(fitting[0])!r}, or nothing at all" if fitting else "another hint"
        raise DecoratorError(
            f"@sequence({option}={declared!r}): by its hint the {what} of {name} has items of type {_show(hint)}; write {advice}"
        )
    return declared


def _is_number(hint: Any) -> bool:
    members = _members(hint)
    return bool(members) and all(
        isinstance(member, type) and issubclass(member, Number) for member in members
    )


def _may_fit(given: Any, taken: Any) -> bool:
    """Tell whether values of one hint can be what another one says; False only where they plainly cannot."""
    if _is_anything(given) or _is_anything(taken):
        return True
    return any(_classes_fit(one, other) for one in _classes(given) for other in _classes(taken))


def _classes(hint: Any) -> set[Any]:
    """Return the classes that values of a hint have; ``object`` where that is not plain."""
    found: set[Any] = set()
    peeled = _peel(hint)
    if hint is None or peeled is types.NoneType or types.NoneType in get_args(peeled):
        found.add(types.NoneType)
    for member in _members(hint):
        origin = get_origin(member) or member
        if origin is Literal:
            found |= {type(value) for value in get_args(member)}
        elif typing.is_typeddict(origin):
            found.add(dict)
        elif isinstance(origin, type) and not getattr(origin, "_is_protocol", False):
            found.add(origin)
        else:
            found.add(object)
    return found


def _classes_fit(given: type, taken: type) -> bool:
    if {given, taken} <= {int, float}:  # as the hints have it: an int is fine for a float
        return given is not float or taken is float
    return issubclass(given, taken) or issubclass(taken, given)


def _show(hint: Any) -> str:
    """Return a hint as an author writes it."""
    return (
        hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
    )


# --- schemas -------------------------------------------------------------------------------------------------------


def _schema(hint: Any) -> dict[str, Any]:
    if _is_anything(hint):
        return {}
    try:
        return json_schema(hint)
    except (UnsupportedHint, NameError):  # of an output: nobody checks it
        return {}


class _Definitions:
    """Puts several schemas into one: their ``$defs`` come together at the top, where their ``$ref`` find them."""

    def __init__(self) -> None:
        self._defs: dict[str, Any] = {}

    def of(self, argument: Argument) -> dict[str, Any]:
        """Return the schema of an argument, with its default where that is JSON."""
        schema = dict(_schema(argument.hint))
        defs: dict[str, Any] = schema.pop("$defs", {})
        # two classes of one name that are not the same
        names = {name: self._free(name, definition) for name, definition in defs.items()}
        renamed = {f"#/$defs/{old}": f"#/$defs/{new}" for old, new in names.items() if old != new}
        for name, definition in defs.items():
            self._defs[names[name]] = _with_references(definition, renamed)
        schema = dict(_with_references(schema, renamed))
        if argument.default is not EMPTY and _is_json(argument.default):
            schema["default"] = argument.default
        return schema

    def complete(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the schema with all definitions."""
        return {**schema, "$defs": self._defs} if self._defs else schema

    def _free(self, name: str, definition: Any) -> str:
        candidates = itertools.chain([name], (f"{name}{number}" for number in itertools.count(2)))
        return next(one for one in candidates if self._defs.get(one, definition) == definition)


def _with_references(schema: Any, renamed: dict[str, str]) -> Any:
    if isinstance(schema, dict):
        return {
            key: renamed.get(value, value) if key == "$ref" else _with_references(value, renamed)
            for key, value in schema.items()
        }
    return [_with_references(one, renamed) for one in schema] if isinstance(schema, list) else schema


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False
