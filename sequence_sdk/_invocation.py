"""One run of a Sequence: its arguments checked, its input typed, its errors met as it says, its code swapped while it runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from . import _invoke
from ._flow import close, settle
from .account import Account
from .chain import SequenceChain
from .class_form import callable_of
from .content import ContentType
from .context import Context
from .contract import Contract, contract_of
from .errors import BadItem, Mismatch
from .hints import converter
from .spec import CLASSIC, OnError, SequenceSpec, spec_of
from .stream import NOTHING, ErrorPolicy, Stream

_TOLD = 10  # rejected items that the log tells one by one; further ones are only counted

Rejected = Callable[[int, Any, Exception], None]
"""Takes the number of a quarantined item, the item, and what was wrong with it."""


_UNTYPED = Contract(takes=None, gives=None, item=Any, output=Any, config=Any)


class Source(Protocol):
    """Where the items of an input come from."""

    async def next_batch(self) -> list[Any] | None:
        """Return the next items, None at the end, or none when ``interrupt`` was called. A cancelled wait loses no item."""

    def interrupt(self) -> None:
        """Let a wait for items return at once, without any."""


class Items:
    """A source of items that are all there: for tests, and for functions that are called without a runner."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items: list[Any] | None = list(items)

    async def next_batch(self) -> list[Any] | None:
        """Return all items, then None."""
        items, self._items = self._items, None
        return items

    def interrupt(self) -> None:
        """Do nothing: nobody waits here."""


class Code:
    """A Sequence that is ready to be called: what ``@sequence`` marked, its contract, and its arguments, checked.

    Raises:
        DecoratorError: its hints contradict each other, or cannot be resolved.
        BadArgument: a start argument is not what the Sequence takes.
        BadConfig: the configuration is not.
    """

    def __init__(self, thing: Any, spec: SequenceSpec, args: Sequence[Any], config: dict[str, Any]) -> None:
        self.thing = thing
        self.spec = spec
        self.function: Callable[..., Any] = callable_of(thing)
        self.contract = _UNTYPED if spec is CLASSIC else contract_of(thing)
        if spec is CLASSIC:
            self.args, self.options, self.config = tuple(args), {}, config
        else:
            bound = self.contract.bind(list(args), config)
            self.args, self.options, self.config = bound.args, bound.options, bound.config
        self.convert = converter(self.contract.item)


class _PartPolicy:
    """What becomes of items that a later part of a chain fails at: they are none of the input's, and not counted as such."""

    def __init__(self, invocation: "Invocation", stream: Stream[Any], on_error: OnError) -> None:
        self._invocation = invocation
        self._stream = stream
        self._on_error = on_error

    def rejected(self, item: Any, error: Exception) -> bool:
        self._invocation.put_aside(self._stream.given, item, error, self._on_error)
        return True


class Invocation:
    """One run of a Sequence. ``run`` calls it, and again after an error that it goes on after, or when its code is swapped.

    Everything here happens in one event loop.
    """

    def __init__(
        self,
        code: Code,
        context: Context[Any],
        source: Source,
        *,
        quarantine: Rejected,
        settle: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Prepare the run; ``context.config`` is what the Sequence's hints make of the configuration.

        Args:
            code: the Sequence.
            context: what it gets as its context.
            source: the items of its input.
            quarantine: takes items that the Sequence cannot handle, if it says ``on_error="quarantine"``.
            settle: awaited before each batch of items, so that who keeps rejected items can keep up.
        """
        self._code = code
        self._context = context
        context.config = code.config
        self._source = source
        self._quarantine = quarantine
        self._settle = settle
        self._task: asyncio.Task[Any] | None = None
        self._stream: Stream[Any] | None = None
        self._call = 0  # of the Sequence; the stream of an earlier one gives nothing any more
        self._raw: list[Any] = []  # the newest batch as it came, without what was refused
        self._returned: list[Any] = []  # what streams of earlier calls have not given
        self._asked = False  # for items that have not come yet: nothing is in hand
        self._ended = False  # the Sequence has seen the end of its input
        self._over = False
        self._failure: Exception | None = None  # stands behind the items given so far
        self._received = 0  # items of the source
        self._given = 0  # by streams of earlier calls
        self._refused = 0  # never given: lines that are no items, items that are not what the hints say
        self._skipped = 0
        self._quarantined = 0
        self._told = 0
        self._next: Code | None = None
        self._cancelled = False  # to be swapped, and by nobody else

    # --- what it is and has done -----------------------------------------------------------------------------------

    @property
    def code(self) -> Code:
        """The code that runs now."""
        return self._code

    @property
    def number(self) -> int:
        """How many items the Sequence has been given."""
        return self._given + (self._stream.given if self._stream is not None else 0)

    @property
    def item(self) -> Any:
        """The item that the Sequence has in hand, or ``NOTHING``."""
        return self._stream.current if self._stream is not None and self._in_hand else NOTHING

    @property
    def account(self) -> Account:
        """What has become of the items so far."""
        taken = self.number + self._refused
        out = taken - self._skipped - self._quarantined - self._in_hand
        return Account(taken, out, self._skipped, self._quarantined)

    @property
    def _in_hand(self) -> int:
        if self._stream is None or self._asked or self._over:
            return 0
        return min(self._stream.given, 1)

    # --- run -------------------------------------------------------------------------------------------------------

    async def run(self, pump: Callable[[Any, Code], Awaitable[None]]) -> None:
        """Call the Sequence and await ``pump(result, code)``, which gives out what the result holds.

        A Sequence that does not let errors end it is called again, with the rest of the input, when it raises one while it
        gives its items. It is called again too when its code has been swapped.

        Raises:
            BaseException: what the Sequence raised, if it is not to go on.
        """
        self._task = asyncio.current_task()
        while True:
            try:
                result = await self._begin()
                try:
                    await pump(result, self._code)
                except Exception as error:
                    if not self._goes_on_after(error):
                        raise
                    if self._next is None:
                        continue
            except asyncio.CancelledError:
                if not self._cancelled or self._task is None or self._task.cancelling() > 1:
                    raise
            self._call_off()
            if self._next is None or self._ended:
                self._over = True
                return
            self._code, self._next = self._next, None
            self._context.config = self._code.config

    def _call_off(self) -> None:
        """Forget the cancellation that was for the old code, whether or not that minded it."""
        if self._cancelled and self._task is not None:
            self._cancelled = False
            self._task.uncancel()

    async def _begin(self) -> Any:
        """Call the function with the rest of the input, and return its result."""
        self._retire()
        call, code = self._call, self._code

        async def next_batch() -> list[Any] | None:
            return await self._next_batch(call)

        self._stream = Stream.from_batches(
            next_batch,
            max_parallel=code.spec.max_parallel,
            policy=None if code.spec.on_error is OnError.RAISE else self,
        )
        if isinstance(code.thing, SequenceChain):
            return code.thing.open(
                self._context, self._stream, code.args, code.options, invoke=self._call_part
            )
        return await _invoke.call(
            code.function, code.spec, self._context, self._stream, code.args, code.options
        )

    def _call_part(self, part: Any, stream: Stream[Any], call: Callable[[Any], Any]) -> Any:
        """Call a part of a chain; one that does not let errors end it is called again, with the rest of its items."""
        on_error = (spec_of(part) or CLASSIC).on_error
        if on_error is OnError.RAISE:
            return call(stream)
        policy: ErrorPolicy = self if stream is self._stream else _PartPolicy(self, stream, on_error)
        stream._policy = policy  # the chain knows only what goes from part to part
        return self._part_outputs(stream, call, policy)

    async def _part_outputs(
        self, stream: Stream[Any], call: Callable[[Any], Any], policy: ErrorPolicy
    ) -> AsyncIterator[Any]:
        while True:
            given = stream.given
            outputs = _invoke.outputs(await settle(call(stream)), ContentType.NDJSON)
            try:
                async for item in outputs:
                    yield item
                return
            except Exception as error:
                if stream.given == given or error is self._failure:
                    raise
                policy.rejected(stream.current, error)
            finally:
                await close(outputs)

    def _retire(self) -> None:
        """Let the stream of the present call be over, and keep what it has not given for the next one."""
        self._take_back()
        self._call += 1
        self._asked = False
        if self._stream is not None:
            self._given += self._stream.given
            self._stream = None

    def _take_back(self) -> None:
        left = len(self._stream.release()) if self._stream is not None else 0
        if left:
            self._returned = self._raw[-left:] + self._returned
        self._raw = []

    # --- items -----------------------------------------------------------------------------------------------------

    async def _next_batch(self, call: int) -> list[Any] | None:
        """Return the next items for a call of the Sequence, typed; None at the end, and to calls of the past."""
        while call == self._call:
            if self._failure is not None:
                raise self._failure
            self._asked = True
            batch = self._returned
            if batch:
                self._returned = []
            else:
                received = await self._receive()
                if call != self._call:
                    self._returned += received or []
                    return None
                if received is None:
                    self._ended = True
                    return None
                batch = received
            items = self._typed(batch)
            if items:
                self._asked = False
                return items
        return None

    async def _receive(self) -> list[Any] | None:
        if self._settle is not None:
            await self._settle()
        batch = await self._source.next_batch()
        self._received += len(batch or ())
        return batch

    def _typed(self, batch: list[Any]) -> list[Any]:
        """Return the items as the Sequence's hints want them, up to one that is not what they say."""
        self._raw = batch
        convert = self._code.convert
        if convert is None or not batch:
            return batch
        try:
            return list(map(convert, batch))
        except Mismatch:
            return self._typed_each(batch, convert)

    def _typed_each(self, batch: list[Any], convert: Callable[[Any], Any]) -> list[Any]:
        items: list[Any] = []
        self._raw = []
        for number, raw in enumerate(batch, self._received - len(batch) + 1):
            try:
                item = convert(raw)
            except Mismatch as mismatch:
                error = BadItem(number, mismatch)
                if self.refuse(number, raw, error):
                    continue
                self._failure = error
                break
            items.append(item)
            self._raw.append(raw)
        return items

    # --- errors ----------------------------------------------------------------------------------------------------

    def refuse(self, number: int, raw: Any, error: Exception) -> bool:
        """Take note of what is no item that the Sequence could be given; return whether to go on without it."""
        if self._code.spec.on_error is OnError.RAISE:
            return False
        self._refused += 1
        self._reject(number, raw, error)
        return True

    def rejected(self, item: Any, error: Exception) -> bool:
        """Take note of an item whose function failed; return whether to go on without it."""
        self._reject(self.number, item, error)
        return True

    def _reject(self, number: int, item: Any, error: Exception) -> None:
        if self._code.spec.on_error is OnError.QUARANTINE:
            self._quarantined += 1
        else:
            self._skipped += 1
        self.put_aside(number, item, error, self._code.spec.on_error)

    def put_aside(self, number: int, item: Any, error: Exception, on_error: OnError) -> None:
        """Log an item that could not be handled, and let it be kept if it is not just to be skipped."""
        if on_error is OnError.QUARANTINE:
            self._quarantine(number, item, error)
        self._told += 1
        if self._told <= _TOLD:
            self._context.logger.warning(
                "item %d could not be handled: %s: %s%s",
                number,
                type(error).__name__,
                error,
                "; further ones are not told here" if self._told == _TOLD else "",
            )

    def _goes_on_after(self, error: Exception) -> bool:
        """Give up the item in hand as one that cannot be handled; return whether there is one, and it may be left out."""
        stream = self._stream
        if stream is None or not self._in_hand or error is self._failure:
            return False
        if self._code.spec.on_error is OnError.RAISE or self._code.spec.parts:
            return False  # of a chain, each part has been asked already
        self.rejected(stream.current, error)
        return True

    # --- swap ------------------------------------------------------------------------------------------------------

    def swap(self, code: Code) -> bool:
        """Let other code go on with the next item; return False if the Sequence is over.

        The Sequence sees the end of its input as soon as it asks for more, so that it can give what it holds back; the other
        code is called when it has ended. One that has never asked for an item is closed where it is.
        """
        stream = self._stream
        if self._over or self._ended or self._task is None:
            return False
        self._next = code
        if stream is not None and (self._asked or stream.given):
            self._take_back()
            self._call += 1
            self._source.interrupt()
        elif not self._cancelled:
            self._cancelled = True
            self._task.cancel()
        return True
