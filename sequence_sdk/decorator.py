"""The ``@sequence`` decorator: marks a function and leaves it as it is."""

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from .content import ContentType
from .errors import DecoratorError, UnsupportedContentType
from .spec import ATTRIBUTE, SequenceSpec

P = ParamSpec("P")
R = TypeVar("R")

_CONTEXT_NAMES = ("context", "ctx", "self")


@overload
def sequence(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def sequence(
    *, takes: str | None = None, gives: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def sequence(
    function: Callable[P, R] | None = None, /, *, takes: str | None = None, gives: str | None = None
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Return the very function, marked as the Sequence of its file.

    The function is called as ``f(input, *args)``, or ``f(context, input, *args)`` when its first parameter is named
    ``context``. It may be an async generator, a coroutine, a generator or a plain function.

    Args:
        function: the function, when the decorator is written without parentheses.
        takes: content type of the input; it decides what an item is. Without it the sender's content type decides.
        gives: content type of the output; ``text/plain`` without it.

    Raises:
        DecoratorError: the function cannot take an input, or a content type is not supported.
    """
    for option, value in (("takes", takes), ("gives", gives)):
        if value is not None:
            try:
                ContentType.parse(value)
            except (UnsupportedContentType, AttributeError, TypeError) as error:
                raise DecoratorError(f"@sequence({option}={value!r}): {error}") from None

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        setattr(function, ATTRIBUTE, SequenceSpec(takes, gives, _wants_context(function)))
        return function

    return mark if function is None else mark(function)


def _wants_context(function: Callable[..., Any]) -> bool:
    """Tell whether the first parameter is for the context; refuse what could not be called."""
    if not callable(function) or inspect.isclass(function):  # type: ignore[redundant-expr]
        raise DecoratorError(f"@sequence marks a function, not {function!r}")
    name = getattr(function, "__name__", repr(function))
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    wants_context = bool(positional) and positional[0].name in _CONTEXT_NAMES
    if len(positional) < 1 + wants_context and not takes_any:
        raise DecoratorError(
            f"@sequence: {name}{inspect.signature(function)} has no parameter for the input; "
            f"write {name}({'context, ' if wants_context else ''}input)"
        )
    forced = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if forced:
        raise DecoratorError(
            f"@sequence: {name} has keyword-only parameters without default ({', '.join(forced)}), "
            "but start arguments are positional; give them a default or drop the `*`"
        )
    return wants_context
