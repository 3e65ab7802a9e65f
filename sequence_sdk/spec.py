"""What ``@sequence`` has found out about a function or a class: its options, and which parameter is for what."""

import enum
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .context import Context
from .errors import DecoratorError

ATTRIBUTE = "__sequence__"
MAX_PARALLEL = 64  # items in flight, where nobody says otherwise
EMPTY: Any = inspect.Parameter.empty

_CONTEXT_NAMES = ("context", "ctx", "self")


class OnError(enum.StrEnum):
    """What becomes of an item that the Sequence fails at."""

    RAISE = "raise"  # the Sequence ends
    SKIP = "skip"  # it is logged and dropped
    QUARANTINE = "quarantine"  # it is put aside on the hub, with its error


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """How to call the function, and what ``@sequence(...)`` declares.

    A content type is None, and the name of a topic empty, where nothing is declared. ``parts`` are those of a chain.
    """

    takes: str | None
    gives: str | None
    wants_context: bool
    requires: str = ""
    provides: str = ""
    on_error: OnError = OnError.RAISE
    max_parallel: int = MAX_PARALLEL
    parts: tuple[Any, ...] = ()


CLASSIC = SequenceSpec(takes=None, gives=None, wants_context=True)
"""A module's ``run(context, input, *args)``."""


def spec_of(thing: Any) -> SequenceSpec | None:
    """Return what ``@sequence`` attached to a function, a class or a chain, or None; anything may be asked about.

    An object of a marked class, and a class that inherits from one, is not marked by that.
    """
    if issubclass(type(thing), type):
        found = vars(thing).get(ATTRIBUTE)
    else:  # a lazy proxy in a module may raise anything
        found = inspect.getattr_static(thing, ATTRIBUTE, None)
        if found is inspect.getattr_static(type(thing), ATTRIBUTE, None):
            return None
    return found if isinstance(found, SequenceSpec) else None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter with its hint as it is written; ``EMPTY`` stands for no hint, and for no default."""

    name: str
    hint: Any = EMPTY
    default: Any = EMPTY
    by_name: bool = True  # whether a keyword could fill it


@dataclass(frozen=True, slots=True)
class Call:
    """The parameters of a function, each with its role."""

    name: str
    function: Callable[..., Any]
    context: Parameter | None
    input: Parameter | None  # None: ``*args`` takes it
    arguments: tuple[Parameter, ...]
    rest: Parameter | None  # ``*args``
    options: tuple[Parameter, ...]  # keyword-only
    others: Parameter | None  # ``**options``
    returns: Any = EMPTY

    @property
    def takes_arguments(self) -> bool:
        """Whether a start argument finds a place."""
        return bool(self.arguments) or self.rest is not None

    @property
    def taken(self) -> frozenset[str]:
        """Names that ``**options`` cannot have, for they are those of positions."""
        places = (self.context, self.input, *self.arguments)
        return frozenset(place.name for place in places if place is not None and place.by_name)

    def own(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of a chain's options that the function has a place for."""
        names = {option.name for option in self.options}
        return {
            name: value
            for name, value in options.items()
            if name in names or (self.others is not None and name not in self.taken)
        }


def read_call(
    function: Callable[..., Any], *, name: str = "", method: bool = False, noun: str = "input"
) -> Call:
    """Return the parameters of a function by role.

    Args:
        function: the function; of a method, the function in its class.
        name: what errors call it; its own name without it.
        method: the first parameter is the object.
        noun: what it works on; empty for nothing.

    Raises:
        DecoratorError: its parameters cannot be seen, or none is for the input.
    """
    name = name or name_of(function)
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-in functions have none
        raise DecoratorError(
            f"@sequence cannot see the parameters of {function!r}; write a `def` that calls it, and mark that"
        ) from None
    parameters = list(signature.parameters.values())
    places = [
        Parameter(p.name, p.annotation, p.default, p.kind is p.POSITIONAL_OR_KEYWORD)
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    rest = _first(parameters, inspect.Parameter.VAR_POSITIONAL)
    if method:
        places = places[1:]
    context = places.pop(0) if places and is_context(places[0]) else None
    if noun and not places and rest is None:
        wanted = ", ".join([*(["self"] if method else []), *(["context"] if context else []), noun])
        raise DecoratorError(
            f"@sequence: {name}{_without_hints(signature)} has no parameter for the {noun}; write {name}({wanted})"
        )
    return Call(
        name=name,
        function=function,
        context=context,
        input=places.pop(0) if noun and places else None,
        arguments=tuple(places),
        rest=rest,
        options=tuple(
            Parameter(p.name, p.annotation, p.default) for p in parameters if p.kind is p.KEYWORD_ONLY
        ),
        others=_first(parameters, inspect.Parameter.VAR_KEYWORD),
        returns=signature.return_annotation,
    )


def _first(parameters: list[inspect.Parameter], kind: Any) -> Parameter | None:
    return next((Parameter(p.name, p.annotation) for p in parameters if p.kind is kind), None)


def _without_hints(signature: inspect.Signature) -> inspect.Signature:
    """Return the signature as an error shows it: what is missing is a name, and hints are long."""
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=signature.empty)


def is_context(parameter: Parameter) -> bool:
    """Tell by its name or its hint whether a first parameter is for the context."""
    hint = parameter.hint
    if isinstance(hint, str):  # the file has `from __future__ import annotations`
        wanted = hint.partition("[")[0].rpartition(".")[2].strip() == "Context"
    else:
        wanted = hint is Context or getattr(hint, "__origin__", None) is Context
    return wanted or parameter.name in _CONTEXT_NAMES


def named_function(function: Any) -> Any:
    """Return what has the name and the code: the function inside a ``functools.partial``, or the thing itself."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def name_of(thing: Any) -> str:
    """Return what errors call a function or a class."""
    return str(getattr(named_function(thing), "__name__", None) or type(thing).__name__)
