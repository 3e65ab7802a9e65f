"""``@sequence`` marks a function or a class as the Sequence of its file."""

import difflib
import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Literal, ParamSpec, Protocol, TypeVar, overload

from .chain import SequenceChain, SequenceFunction, check, mark_function
from .class_form import read_class
from .content import ContentType
from .errors import DecoratorError, UnsupportedContentType
from .spec import ATTRIBUTE, MAX_PARALLEL, OnError, SequenceSpec

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

_TOPIC = re.compile(r"[\\a-zA-Z0-9_+-]*")  # as the hub has them
_OPTIONS = ("takes", "gives", "requires", "provides", "on_error", "max_parallel")


class Mark(Protocol):
    """What ``@sequence(...)`` gives: the decorator with its options."""

    @overload
    def __call__(self, thing: C, /) -> C: ...  # type: ignore[overload-overlap]  # a class is callable too, and the first one that fits counts
    @overload
    def __call__(self, thing: Callable[P, R], /) -> SequenceFunction[P, R]: ...


class SequenceDecorator:
    """Marks the Sequence of a file.

    A function is called as ``f(input, *args, **options)``, or with the context first where its first parameter is named
    ``context``, ``ctx`` or ``self``, or annotated with ``Context``. It may be an async generator, a coroutine, a generator or a
    plain function. What comes back is called as ever, and ``a | b`` of two such functions is a chain.

    A class has ``run(self, input, *args, **options)`` or ``each(self, item, *args, **options)``, and, where it needs them,
    ``setup(self)`` and ``teardown(self)``; each of them may have the context behind ``self``. The class comes back as it is.

    Args:
        takes: content type of the input; it decides what an item is. Without it the hint of the input decides, and without
            that the sender's content type.
        gives: content type of the output. Without it the hint of the result decides; ``text/plain`` without that.
        requires: name of the topic that is the input.
        provides: name of the topic that is the output.
        on_error: what becomes of an item that the Sequence fails at: ``"raise"`` ends the Sequence, ``"skip"`` drops the item,
            ``"quarantine"`` keeps it on the hub, with its error.
        max_parallel: items in flight at once in ``each`` and in the methods of the input.

    Raises:
        DecoratorError: it cannot work; the text says why, and what to write.
    """

    __name__ = "sequence"

    @overload
    def __call__(self, thing: C, /) -> C: ...  # type: ignore[overload-overlap]  # a class is callable too, and the first one that fits counts
    @overload
    def __call__(self, thing: Callable[P, R], /) -> SequenceFunction[P, R]: ...
    @overload
    def __call__(
        self,
        *,
        takes: str | None = None,
        gives: str | None = None,
        requires: str = "",
        provides: str = "",
        on_error: OnError | Literal["raise", "skip", "quarantine"] = "raise",
        max_parallel: int = MAX_PARALLEL,
    ) -> Mark: ...

    def __call__(self, *things: Any, **options: Any) -> Any:
        """Mark a function or a class, or return a decorator with options."""
        spec = _spec(options)
        if len(things) > 1:
            raise DecoratorError(
                "@sequence marks one function; write sequence.chain(a, b) for several, and options by name"
            )
        for thing in things:
            return _mark(thing, spec)
        return lambda thing: _mark(thing, spec)

    def chain(self, *parts: Any) -> SequenceChain:
        """Return Sequences as one: what a part gives is the input of the next.

        A part is a marked function, a marked class or another chain; a function without a mark will do.

        Raises:
            DecoratorError: the parts do not fit each other, or one of them is no Sequence.
        """
        return SequenceChain(*parts)

    def __repr__(self) -> str:
        return "<the decorator @sequence>"


sequence: Final = SequenceDecorator()
"""Marks the Sequence of a file; see SequenceDecorator."""


def _spec(options: dict[str, Any]) -> SequenceSpec:
    for name in options:
        if name not in _OPTIONS:
            raise DecoratorError(
                f"@sequence has no option {name!r}{_meant(name, _OPTIONS)}; it has {', '.join(_OPTIONS)}"
            )
    for name in ("takes", "gives"):
        _check_content_type(name, options.get(name))
    for name in ("requires", "provides"):
        _check_topic(name, options.get(name, ""))
    limit = options.get("max_parallel", MAX_PARALLEL)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise DecoratorError(
            f"@sequence(max_parallel={limit!r}): it is how many items may be in flight at once, a whole number from 1 on"
        )
    on_error = options.get("on_error", OnError.RAISE)
    try:
        options = {**options, "on_error": OnError(on_error)}
    except ValueError:
        meant = _meant(on_error, tuple(OnError)) if isinstance(on_error, str) else ""
        raise DecoratorError(
            f'@sequence(on_error={on_error!r}): use "raise", "skip" or "quarantine"{meant}'
        ) from None
    return SequenceSpec(**{"takes": None, "gives": None, **options}, wants_context=False)


def _meant(written: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(written.lower(), known, 1)
    return f" (is {str(close[0])!r} meant?)" if close else ""


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


def _check_topic(option: str, value: Any) -> None:
    if not isinstance(value, str):
        raise DecoratorError(
            f"@sequence({option}={value!r}): the name of a topic is a string such as 'orders'"
        )
    if not _TOPIC.fullmatch(value):
        raise DecoratorError(
            f"@sequence({option}={value!r}): the name of a topic has letters, digits, and + - _ \\ only, such as 'orders'"
        )


def _mark(thing: Any, spec: SequenceSpec) -> Any:
    if isinstance(thing, type):
        return _mark_class(thing, spec)
    if isinstance(thing, SequenceChain):
        raise DecoratorError(
            f"@sequence: {thing.__name__} is a chain, and that is a Sequence already; give its parts the options"
        )
    if not callable(thing):
        raise DecoratorError(
            f"@sequence marks a function or a class, not {thing!r}; options go by name, as in takes='text/plain'"
        )
    _refuse_method(thing)
    return mark_function(thing, spec)


def _mark_class(cls: type, spec: SequenceSpec) -> type:
    form = read_class(cls)
    try:
        setattr(cls, ATTRIBUTE, replace(spec, wants_context=form.wants_context))
    except (AttributeError, TypeError):
        raise DecoratorError(
            f"@sequence cannot mark {cls!r}, which takes no attributes; mark a class that inherits from it"
        ) from None
    try:
        check(cls)
    except DecoratorError:
        delattr(cls, ATTRIBUTE)
        raise
    return cls


def _refuse_method(function: Any) -> None:
    name = getattr(function, "__qualname__", "")
    if "." not in name.rpartition("<locals>.")[2] or not inspect.isfunction(function):
        return
    if next(iter(inspect.signature(function).parameters), "") in ("self", "cls"):
        raise DecoratorError(
            f"@sequence: {name} is a method, and nobody makes the object; mark a function of the module, or the class, "
            "with this as its method run(self, input)"
        )
