"""Chains: Sequences one behind the other in one process, with no bytes in between."""

import contextlib
import functools
import itertools
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import CodeType, MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from . import _invoke
from ._flow import Feed, Flow, blame, settle
from .class_form import callable_of, stream_of
from .content import ContentType
from .contract import call_of, contract_of, read_contract
from .errors import DecoratorError
from .spec import ATTRIBUTE, CLASSIC, Call, SequenceSpec, name_of, named_function, read_call, spec_of
from .stream import Stream

P = ParamSpec("P")
R = TypeVar("R")

Invoke = Callable[[Any, Any, Callable[[Any], Any]], Any]
"""``invoke(part, stream, call)`` returns the result of a part: that of ``call(stream)``, awaited or not."""


def _invoke_once(_part: Any, stream: Any, call: Callable[[Any], Any]) -> Any:
    return call(stream)


class SequenceFunction(Generic[P, R]):
    """A function marked ``@sequence``: called, it is that function and nothing more; ``a | b`` makes a chain.

    ``inspect`` and ``asyncio`` see in it what they see in the function, which is ``__wrapped__``. It is pickled by its name, as
    functions are, and is its own copy.
    """

    __wrapped__: Callable[P, R]
    __name__: str
    __qualname__: str
    __code__: CodeType

    def __init__(self, function: Callable[P, R], spec: SequenceSpec) -> None:
        functools.update_wrapper(self, named_function(function))
        self.__dict__.update(getattr(function, "__dict__", {}))
        self.__dict__.setdefault("__name__", name_of(function))
        self.__dict__.setdefault("__qualname__", name_of(function))
        self.__wrapped__ = function
        setattr(self, ATTRIBUTE, spec)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.__wrapped__(*args, **kwargs)

    def __or__(self, other: Any) -> "SequenceChain":
        return SequenceChain(self, other)

    def __ror__(self, other: Any) -> "SequenceChain":
        return SequenceChain(other, self)

    def __reduce__(self) -> str:
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<Sequence {name_of(self)}>"

    if not TYPE_CHECKING:  # pragma: no branch - a checker should still find what is misspelt

        def __getattr__(self, name: str) -> Any:
            if name == "__wrapped__":  # it is not made yet
                raise AttributeError(name)
            return getattr(named_function(self.__wrapped__), name)


def mark_function(function: Callable[P, R], spec: SequenceSpec) -> SequenceFunction[P, R]:
    """Return the function with a mark, and whether it wants the context found out.

    Raises:
        DecoratorError: it cannot be called with an input, or contradicts its options.
    """
    call = read_call(function)
    marked = SequenceFunction(function, replace(spec, wants_context=call.context is not None))
    check(marked)
    return marked


def check(marked: Any) -> None:
    """Refuse what contradicts itself, as far as its hints can be resolved by now; ``contract_of`` looks at the rest.

    Raises:
        DecoratorError: it does.
    """
    with contextlib.suppress(NameError):
        read_contract(marked)


class SequenceChain:
    """Several Sequences that are one: what a part gives is the input of the next.

    It is called like a Sequence, ``chain(input, *args, **options)``, with the context first if any part wants it, and returns an
    asynchronous iterable of the last part's outputs. Start arguments go to the first part that has parameters for them, an option
    to every part that has it. Items go from part to part as they are, a few at a time: a slow part holds up those before it.

    When the reader goes away, or a part fails, all parts are closed, the last one first. An error has a note that names its part.
    """

    def __init__(self, *parts: Any) -> None:
        """Chain marked functions, classes and chains, or functions that could be marked.

        Raises:
            DecoratorError: there are none, one of them is no Sequence, or they do not fit each other.
        """
        flat = [one for part in parts for one in _flat(part)]
        if not flat:
            raise DecoratorError("sequence.chain() has no parts; write sequence.chain(parse, store)")
        specs = [spec_of(part) or CLASSIC for part in flat]
        self._spec = SequenceSpec(
            takes=specs[0].takes,
            gives=specs[-1].gives,
            wants_context=any(spec.wants_context for spec in specs),
            requires=specs[0].requires,
            provides=specs[-1].provides,
            on_error=specs[0].on_error,
            max_parallel=specs[0].max_parallel,
            parts=tuple(flat),
        )
        self.__name__: str = " | ".join(map(name_of, flat))
        self.__qualname__: str = self.__name__
        self.__module__ = _calling_module()
        self._parts = [
            _Part(f"{number} of {len(flat)} of the chain, {name_of(part)}", part, call_of(part), spec)
            for number, (part, spec) in enumerate(zip(flat, specs, strict=True), 1)
        ]
        self._first = next((part for part in self._parts if part.call.takes_arguments), None)
        setattr(self, ATTRIBUTE, self._spec)
        check(self)

    def __call__(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        """Return the outputs; the parts are called when the first one is read.

        Raises:
            TypeError: input or context is missing, or no part takes a start argument or an option.
        """
        places = 1 + self._spec.wants_context
        if len(args) < places:
            wanted = "(context, input)" if self._spec.wants_context else "(input)"
            raise TypeError(f"{self.__name__} is called with {wanted} and its arguments")
        return self.open(args[0] if places > 1 else None, args[places - 1], args[places:], options)

    def open(
        self,
        context: Any,
        input: Any,
        args: tuple[Any, ...] = (),
        options: Mapping[str, Any] = MappingProxyType({}),
        *,
        invoke: Invoke = _invoke_once,
    ) -> Flow:
        """Return the outputs, where ``invoke`` has a say in how each part is called: it may call again, or wrap the stream.

        Raises:
            TypeError: no part takes a start argument or an option.
        """
        unknown = set(options).difference(*(part.call.own(options) for part in self._parts))
        if unknown:
            raise TypeError(f"no part of {self.__name__} takes an option {min(unknown)!r}")
        if args and self._first is None:
            raise TypeError(f"no part of {self.__name__} takes start arguments")
        return Flow(partial(self._open, context, input, args, options, invoke))

    async def _open(
        self,
        context: Any,
        input: Any,
        args: tuple[Any, ...],
        options: Mapping[str, Any],
        invoke: Invoke,
        stack: AsyncExitStack,
    ) -> AsyncIterator[Any]:
        async def begin(part: _Part, stream: Any, kind: ContentType) -> AsyncIterator[Any]:
            stack.push(partial(_blame, part.place))
            call = partial(
                _call,
                callable_of(part.thing),
                (context,) if part.spec.wants_context else (),
                args if part is self._first else (),
                part.call.own(options),
            )
            return _invoke.outputs(await settle(invoke(part.thing, stream, call)), kind)

        stream = stream_of(input, self._spec.max_parallel)
        for part, following in itertools.pairwise(self._parts):
            # a number between two parts is no text yet
            feed = Feed(await begin(part, stream, ContentType.NDJSON), part.place)
            stack.push_async_callback(feed.aclose)
            stream = Stream.from_batches(feed.next_batch, max_parallel=following.spec.max_parallel)
        last = self._parts[-1]
        gives = contract_of(last.thing).gives or ContentType.TEXT
        return await begin(last, stream, ContentType.parse(gives))

    def __or__(self, other: Any) -> "SequenceChain":
        return SequenceChain(self, other)

    def __ror__(self, other: Any) -> "SequenceChain":
        return SequenceChain(other, self)

    def __repr__(self) -> str:
        return f"<Sequence chain {self.__name__}>"


def _call(
    function: Callable[..., Any],
    context: tuple[Any, ...],
    args: tuple[Any, ...],
    options: Mapping[str, Any],
    stream: Any,
) -> Any:
    return function(*context, stream, *args, **options)


def _blame(
    place: str,
    _kind: type[BaseException] | None,
    error: BaseException | None,
    _traceback: TracebackType | None,
) -> None:
    if isinstance(error, Exception):
        blame(error, place)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    place: str
    thing: Any
    call: Call
    spec: SequenceSpec


def _flat(part: Any) -> tuple[Any, ...]:
    spec = spec_of(part)
    if spec is not None:
        return spec.parts or (part,)
    if isinstance(part, type) or not callable(part):
        raise DecoratorError(
            f"sequence.chain: {part!r} is no Sequence; mark it with @sequence, or give a function"
        )
    return (mark_function(part, SequenceSpec(None, None, wants_context=False)),)


def _calling_module() -> str:
    """Return the name of the module that makes the chain: its Sequence is looked for there."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(f"{__package__}."):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))
