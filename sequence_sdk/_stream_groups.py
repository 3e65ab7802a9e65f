"""Cores that look at more than one item: text, sequences, lists, the clock, and several streams."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from ._stream_cores import Channel, Core, Upstream, call_soon, cancel, is_awaitable, seen
from ._stream_ops import Derived, ErrorPolicy, Text, error_of


class Texts(Derived):
    """The pieces that text makes of chunks."""

    def __init__(self, upstream: Upstream, policy: ErrorPolicy | None, text: Text) -> None:
        super().__init__(upstream, policy)
        self._text = text
        self._ended = False

    async def _more(self, limit: int) -> list[Any] | None:
        if self._ended:
            return None
        chunks = await self._upstream.take(limit)
        if chunks is None:
            self._ended = True
            return self._text.end()
        pieces: list[str] = []
        for chunk in chunks:
            try:
                pieces += self._text.feed(chunk)
            except Exception as error:  # noqa: BLE001 - it stands behind the pieces before it
                if not self._goes_on(chunk, error):
                    break
        return pieces


class Sequenced(Derived):
    """The parts that a function makes of the part that is left and the next item, one item at a time."""

    def __init__(
        self,
        upstream: Upstream,
        policy: ErrorPolicy | None,
        function: Callable[[Any, Any], Any],
        initial: Any,
    ) -> None:
        super().__init__(upstream, policy)
        self._function = function
        self._left = initial
        self._items: deque[Any] = deque()
        self._item: Any = None
        self._call: asyncio.Future[Any] | None = (
            None  # in a task of its own: a cancelled read does not end it
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = False

    async def _more(self, limit: int) -> list[Any] | None:
        if self._ended:
            return None
        if self._call is None and not self._items:
            items = await self._upstream.take(limit)
            if items is None:
                self._ended = True
                return [self._left] if self._left else []
            self._items += items
        out: list[Any] = []
        while not self._closed and self._failure is None and (self._call is not None or self._items):
            if self._call is None:
                self._next(out)
            elif self._call.done():
                call, self._call = self._call, None
                error = error_of(call)
                if error is None:
                    self._take(out, call.result())
                else:
                    self._goes_on(self._item, error)
            elif out:
                break
            else:
                await asyncio.wait([self._call])
        return out

    def _next(self, out: list[Any]) -> None:
        self._item = self._items.popleft()
        try:
            result = self._function(self._left, self._item)
        except Exception as error:  # noqa: BLE001 - author's code
            self._goes_on(self._item, error)
            return
        if is_awaitable(result):
            self._loop = asyncio.get_running_loop()
            call = self._call = asyncio.ensure_future(result)
            call.add_done_callback(seen)
        else:
            self._take(out, result)

    def _take(self, out: list[Any], result: Any) -> None:
        try:
            parts = list(result)
            if not parts:
                raise ValueError("sequence(): the function gave no part; the last one is what is left")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - author's code
            self._goes_on(self._item, error)
        else:
            self._left = parts.pop()
            out += parts

    def _cancel(self) -> None:
        if self._call is not None:
            cancel(self._call)

    async def aclose(self) -> None:
        self._closed = True
        self._cancel()
        if self._call is not None:
            await asyncio.gather(self._call, return_exceptions=True)
        await super().aclose()

    def abandon(self) -> None:
        if self._loop is not None:
            call_soon(self._loop, self._cancel)


class Grouped(Derived):
    """Lists of items. One that is not full is given at the end, and before an error."""

    def __init__(self, upstream: Upstream, policy: ErrorPolicy | None) -> None:
        super().__init__(upstream, policy)
        self._held: list[Any] = []

    def _group(self) -> list[Any]:
        held, self._held = self._held, []
        return [held] if held else []

    async def _take(self, limit: int) -> list[Any] | None:
        """Take items; at the end or an error return None, with ``_passed_on`` set for the error."""
        try:
            return await self._upstream.take(limit)
        except Exception as error:  # noqa: BLE001 - it stands behind the list
            self._passed_on = error
            return None


class Batched(Grouped):
    """A list ends behind the item for which a function has returned something true."""

    def __init__(self, pairs: Upstream, abandon: Callable[[], None]) -> None:
        super().__init__(pairs, None)  # what the function raises is dealt with where it is called
        self._abandon = abandon

    async def _more(self, limit: int) -> list[Any] | None:
        pairs = await self._take(limit)
        if pairs is None:
            return self._group() or None
        groups: list[Any] = []
        for item, last in pairs:
            self._held.append(item)
            if last:
                groups += self._group()
        return groups

    def abandon(self) -> None:
        self._abandon()


class Windowed(Grouped):
    """A list ends when it has a number of items, or when a time is over that begins with its first item."""

    def __init__(self, upstream: Upstream, count: int | None, seconds: float | None) -> None:
        super().__init__(upstream, None)
        self._count = count
        self._seconds = seconds
        self._deadline = 0.0

    async def _more(self, limit: int) -> list[Any] | None:
        wanted = limit if self._count is None else self._count - len(self._held)
        if self._seconds is None or not self._held:
            items = await self._take(wanted)
        else:
            try:
                async with asyncio.timeout_at(self._deadline):
                    items = await self._take(wanted)
            except TimeoutError:
                return self._group()
        if items is None:
            return self._group() or None
        if self._seconds is not None and not self._held:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
        self._held += items
        return self._group() if len(self._held) == self._count else []


# --- the clock -------------------------------------------------------------------------------------------------------


class Rated(Derived):
    """No more than a number of items in any span of a length; the first ones at once."""

    def __init__(self, upstream: Upstream, count: int, seconds: float) -> None:
        super().__init__(upstream, None)
        self._seconds = seconds
        self._given: deque[float] = deque(maxlen=count)  # when the newest items were

    async def _more(self, limit: int) -> list[Any] | None:
        loop = asyncio.get_running_loop()
        if len(self._given) == self._given.maxlen:
            await asyncio.sleep(self._given[0] + self._seconds - loop.time())
        items = await self._upstream.take(
            1
        )  # in one batch, a slow consumer could have them late and the next early
        if items is not None:
            self._given.append(loop.time())
        return items


class Timed(Derived):
    """The items, and an error when one lets a reader wait for too long. Who reads again waits again."""

    def __init__(self, upstream: Upstream, seconds: float) -> None:
        super().__init__(upstream, None)
        self._seconds = seconds

    async def _more(self, limit: int) -> list[Any] | None:
        timeout = asyncio.timeout(self._seconds)
        try:
            async with timeout:
                return await self._upstream.take(limit)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise TimeoutError(f"no item came within {self._seconds:g} s") from error


# --- several streams -------------------------------------------------------------------------------------------------


class Trunk:
    """What the branches of a stream share. Who reads first waits for the slowest one to have room."""

    def __init__(self, upstream: Upstream, count: int, room: int) -> None:
        self.upstream = upstream
        self.room = room
        self.branches = [Branch(self) for _ in range(count)]
        self.taking = asyncio.Lock()
        self.over = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self._waiting: asyncio.Future[None] | None = None

    async def take(self, reader: "Branch") -> None:
        """Hand the next items, or an error, to all branches, unless the one that asks goes away before there is room."""
        while any(len(branch.items) >= self.room for branch in self.branches):
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
            if reader not in self.branches:
                return
        try:
            items = await self.upstream.take(self.room)
        except Exception as error:  # noqa: BLE001 - each branch is told
            for branch in self.branches:
                branch.errors.append((branch.taken + len(branch.items), error))
            return
        if items is None:
            self.over = True
            return
        for branch in self.branches:
            branch.items += items

    def wake(self) -> None:
        """Look again whether there is room in all branches."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def leave(self, branch: "Branch") -> None:
        """Go on without a branch."""
        if branch in self.branches:
            self.branches.remove(branch)
            self.wake()


class Branch(Core):
    """All items of a stream, beside other branches of it."""

    def __init__(self, trunk: Trunk) -> None:
        self._trunk = trunk
        self.items: deque[Any] = deque()
        self.taken = 0
        self.errors: deque[tuple[int, Exception]] = deque()  # each with the number of items before it

    async def next_batch(self, limit: int, /) -> list[Any] | None:
        trunk = self._trunk
        trunk.loop = asyncio.get_running_loop()
        while self in trunk.branches:
            if self.errors and self.errors[0][0] == self.taken:
                raise self.errors.popleft()[1]
            if self.items:
                count = min(limit, len(self.items))
                if self.errors:
                    count = min(count, self.errors[0][0] - self.taken)
                batch = [self.items.popleft() for _ in range(count)]
                self.taken += count
                trunk.wake()
                return batch
            if trunk.over:
                break
            async with trunk.taking:
                if not self.items and not self.errors and not trunk.over:
                    await trunk.take(self)
        return None

    async def aclose(self) -> None:
        self._trunk.leave(self)
        if not self._trunk.branches:
            await self._trunk.upstream.aclose()

    def abandon(self) -> None:
        if self._trunk.loop is None:  # nobody waits
            self._trunk.leave(self)
        else:
            call_soon(self._trunk.loop, self._trunk.leave, self)


class Pipe:
    """Brings the items of a stream to all of its targets, as fast as the slowest one reads."""

    def __init__(self, upstream: Upstream, limit: int) -> None:
        self._upstream = upstream
        self._limit = limit
        self._targets: dict[Channel, bool] = {}  # whether the end is to be passed on
        self._unsent: list[Any] = []  # items that came when there was no target any more
        self._task: asyncio.Task[None] | None = None

    def attach(self, target: Channel, end: bool) -> None:
        """Bring the items to one more target from now on."""
        loop = asyncio.get_running_loop()
        if target not in self._targets:
            target.watch(loop, self.detach)
        self._targets[target] = end
        if self._task is None or self._task.cancelling() or self._task.done():
            self._task = loop.create_task(self._run(self._task))

    def detach(self, target: Channel | None = None) -> None:
        """Leave out a target, or all; without any the items wait."""
        for one in list(self._targets) if target is None else [target]:
            if self._targets.pop(one, None) is not None:
                one.unwatch(self.detach)
        if not self._targets and self._task is not None:
            self._task.cancel()

    async def _run(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])  # it was cancelled; two must not take turns with the items
        try:
            while True:
                items = self._unsent or await self._upstream.take(self._limit)
                self._unsent = []
                if items is None:
                    break
                await self._send(items)
                if not self._targets:
                    return  # the next one begins anew
        except Exception as error:  # noqa: BLE001 - the readers of the targets are told
            for target in self._targets:
                if not target.ended:
                    target.fail(error)
        else:
            for target, end in self._targets.items():
                if end and not target.ended:
                    target.end()

    async def _send(self, items: list[Any]) -> None:
        for target in list(self._targets):
            if target.ended:  # somebody else has ended it
                self.detach(target)
            else:
                target.add(*items)
        if not self._targets:
            self._unsent = items
        for target in list(self._targets):
            while target in self._targets and target.full:
                await target.space()
