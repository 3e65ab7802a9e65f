"""The class form of a Sequence: resources are made in ``setup`` and given back in ``teardown``, whatever happens between."""

import difflib
import inspect
import types
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import _invoke
from ._flow import Flow, close, settle
from .content import ContentType
from .context import Context
from .errors import DecoratorError
from .spec import Call, SequenceSpec, read_call, spec_of
from .stream import Stream

_PHASES = ("setup", "run", "each", "teardown")


@dataclass(frozen=True, slots=True)
class ClassForm:
    """A class with the methods that make it a Sequence. ``work`` is ``run``, or ``each``, which gets one item at a time."""

    cls: type
    work: Call
    each: bool
    setup: Call | None
    teardown: Call | None

    @property
    def wants_context(self) -> bool:
        """Whether any of its methods does."""
        return any(
            call is not None and call.context is not None for call in (self.setup, self.work, self.teardown)
        )


def read_class(cls: type) -> ClassForm:
    """Return the methods of a class by what they do.

    Raises:
        DecoratorError: they do not make a Sequence, or nobody could make an object of the class.
    """
    name = cls.__name__
    _check_can_be_made(cls)
    found = {
        phase: _method(cls, phase)
        for phase in _PHASES
        if inspect.getattr_static(cls, phase, None) is not None
    }
    if "run" in found and "each" in found:
        raise DecoratorError(
            f"@sequence: {name} has run and each, and one of them does the work; keep that one"
        )
    if "run" not in found and "each" not in found:
        names = [
            name
            for name, value in vars(cls).items()
            if inspect.isfunction(value) and not name.startswith("_")
        ]
        close_ones = [a for a in names if difflib.get_close_matches(a.lower(), ("run", "each"), 1, 0.7)]
        hint = f" (is {close_ones[0]} meant?)" if close_ones else ""
        raise DecoratorError(
            f"@sequence: {name} has nothing that does the work{hint}; "
            "write run(self, input), which gets all items, or each(self, item), which gets one"
        )
    each = "each" in found
    work = found["each" if each else "run"]
    return ClassForm(
        cls=cls,
        work=read_call(work, name=f"{name}.{work.__name__}", method=True, noun="item" if each else "input"),
        each=each,
        setup=_phase(cls, found, "setup"),
        teardown=_phase(cls, found, "teardown"),
    )


def _check_can_be_made(cls: type) -> None:
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise DecoratorError(f"@sequence: {cls.__name__} is abstract; write {missing}")
    try:
        signature = inspect.signature(cls)
    except ValueError:  # of a class in C: it is tried when the Sequence starts
        return
    try:
        signature.bind()
    except TypeError as error:
        raise DecoratorError(
            f"@sequence: {cls.__name__} is made without arguments, but its __init__ cannot do with none ({error}); "
            "give them defaults, or take them from the context in setup(self, context)"
        ) from None


def _method(cls: type, name: str) -> types.FunctionType:
    found = inspect.getattr_static(cls, name)
    if not isinstance(found, types.FunctionType):
        raise DecoratorError(
            f"@sequence: {cls.__name__}.{name} is {found!r}; write it as a method, `def {name}(self, …)`"
        )
    return found


def _phase(cls: type, found: dict[str, types.FunctionType], phase: str) -> Call | None:
    """Return ``setup`` or ``teardown``, which get the context at most."""
    function = found.get(phase)
    if function is None:
        return None
    name = f"{cls.__name__}.{phase}"
    call = read_call(function, name=name, method=True, noun="")
    needed = [p.name for p in (*call.arguments, *call.options) if p.default is inspect.Parameter.empty]
    if needed:
        raise DecoratorError(
            f"@sequence: {name} wants {', '.join(needed)}, but gets nothing except the context; "
            f"write {phase}(self) or {phase}(self, context), and take the rest from context.config"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DecoratorError(
            f"@sequence: {name} has a yield, and would never run; {phase} returns when it is done"
        )
    return call


def callable_of(thing: Any) -> Callable[..., Any]:
    """Return what is called as ``f(input, *args, **options)``, or with the context first, for a thing that is marked.

    A function or a chain is that itself. For a class it is a function that makes an object, and whose result runs ``setup``, the
    work and ``teardown`` as it is read.
    """
    return _ClassCall(thing) if isinstance(thing, type) else thing


class _ClassCall:
    def __init__(self, cls: type) -> None:
        self._form = read_class(cls)
        self._spec = spec_of(cls) or SequenceSpec(None, None, self._form.wants_context)
        self.__name__ = cls.__name__

    def __call__(self, *args: Any, **options: Any) -> Flow:
        places = 1 + self._spec.wants_context
        if len(args) < places:
            wanted = "(context, input)" if self._spec.wants_context else "(input)"
            raise TypeError(f"{self.__name__} is called with {wanted} and its arguments")
        context = args[0] if self._spec.wants_context else None
        return Flow(partial(self._open, context, args[places - 1], args[places:], options))

    async def _open(
        self,
        context: Context | None,
        input: Any,
        args: tuple[Any, ...],
        options: dict[str, Any],
        stack: AsyncExitStack,
    ) -> AsyncIterator[Any]:
        made = self._form.cls()
        if self._form.setup is not None:
            await settle(made.setup(*_context_for(self._form.setup, context)))
        if self._form.teardown is not None:
            stack.push_async_callback(self._tear_down, made, context)
        first = _context_for(self._form.work, context)
        if self._form.each:
            return self._each(partial(made.each, *first), input, args, options)
        result = await settle(made.run(*first, input, *args, **options))
        from .contract import contract_of  # noqa: PLC0415 - which reads classes itself

        return _invoke.outputs(
            result, ContentType.parse(contract_of(self._form.cls).gives or ContentType.TEXT)
        )

    async def _tear_down(self, made: Any, context: Context | None) -> None:
        await settle(made.teardown(*_context_for(self._form.teardown, context)))

    async def _each(
        self, each: Callable[..., Any], input: Any, args: tuple[Any, ...], options: dict[str, Any]
    ) -> AsyncIterator[Any]:
        stream = stream_of(input, self._spec.max_parallel)
        if inspect.isasyncgenfunction(self._form.work.function) or inspect.isgeneratorfunction(
            self._form.work.function
        ):
            async for output in _several(stream, lambda item: each(item, *args, **options)):
                yield output
            return
        mapped = stream.map(lambda item: each(item, *args, **options))
        try:
            async for output in mapped:
                if output is not None:
                    yield output
        finally:
            await close(mapped)


async def _several(stream: Stream[Any], each: Callable[[Any], Any]) -> AsyncIterator[Any]:
    """Give all that ``each`` gives for an item, one item after the other."""
    async for item in stream:
        outputs = each(item)
        try:
            if isinstance(outputs, AsyncIterable):
                async for output in outputs:
                    yield output
            else:
                for output in outputs:
                    yield output
        except Exception as error:
            if stream._policy is None or not stream._policy.rejected(item, error):
                raise
        finally:
            await close(outputs)


def stream_of(input: Any, max_parallel: int) -> Stream[Any]:
    """Return the input as a Stream with this limit; a test may give any iterable."""
    if not isinstance(input, Stream):
        return Stream.from_iterable(input, max_parallel=max_parallel)
    if input._max_parallel == max_parallel:
        return input
    take = partial(input._consume().take, max_parallel)
    return Stream.from_batches(take, max_parallel=max_parallel, policy=input._policy)


def _context_for(call: Call | None, context: Context | None) -> tuple[Context | None, ...]:
    return (context,) if call is not None and call.context is not None else ()
