"""The ``@sequence`` decorator: marks a function and leaves it as it is."""

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from .content import ContentType
from .context import Context
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

    The function is called as ``f(input, *args)``, or as ``f(context, input, *args)`` when its first parameter is named
    ``context``, ``ctx`` or ``self``, or annotated with ``Context``. It may be an async generator, a coroutine, a generator
    or a plain function.

    Args:
        function: the function, when the decorator is written without parentheses.
        takes: content type of the input; it decides what an item is. Without it the sender's content type decides.
        gives: content type of the output; ``text/plain`` without it.

    Raises:
        DecoratorError: the function cannot take an input or a mark, or a content type is not supported.
    """
    for option, value in (("takes", takes), ("gives", gives)):
        _check_content_type(option, value)

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        spec = SequenceSpec(takes, gives, _wants_context(function))
        try:
            setattr(function, ATTRIBUTE, spec)
        except (AttributeError, TypeError):
            raise DecoratorError(
                f"@sequence cannot mark {function!r}; write a `def` that calls it, and mark that"
            ) from None
        return function

    return mark if function is None else mark(function)


def _check_content_type(option: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise DecoratorError(
            f"@sequence({option}={value!r}): a content type is a string such as 'text/plain'"
        )
    try:
        ContentType.parse(value)
    except UnsupportedContentType as error:
        raise DecoratorError(f"@sequence({option}={value!r}): {error}") from None


def _wants_context(function: Any) -> bool:
    """Tell whether the first parameter is for the context; refuse what could not be called."""
    if not callable(function) or inspect.isclass(function):
        raise DecoratorError(f"@sequence marks a function, not {function!r}")
    name = getattr(function, "__name__", repr(function))
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-in functions have none
        raise DecoratorError(
            f"@sequence cannot see the parameters of {function!r}; write a `def` that calls it, and mark that"
        ) from None
    parameters = signature.parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if positional and positional[0].name in ("self", "cls") and _is_in_class(function):
        raise DecoratorError(
            f"@sequence: {function.__qualname__} is a method, and nobody makes the object; mark a function of the module"
        )
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    wants_context = bool(positional) and _is_context(positional[0])
    if len(positional) < 1 + wants_context and not takes_any:
        raise DecoratorError(
            f"@sequence: {name}{signature} has no parameter for the input; "
            f"write {name}({'context, ' if wants_context else ''}input)"
        )
    forced = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if forced:
        raise DecoratorError(
            f"@sequence: {name} has keyword-only parameters without default ({', '.join(forced)}), "
            "but start arguments are positional; give them a default or drop the `*`"
        )
    return wants_context


def _is_in_class(function: Any) -> bool:
    return "." in getattr(function, "__qualname__", "").rpartition("<locals>.")[2]


def _is_context(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    if isinstance(annotation, str):  # the file has `from __future__ import annotations`
        annotation = Context if annotation.rpartition(".")[2] == "Context" else None
    return parameter.name in _CONTEXT_NAMES or annotation is Context
