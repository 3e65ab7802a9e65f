"""One run of a Sequence as a test sees it: what goes in, what comes out, and what becomes of it."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from sequence_sdk.account import Account
from sequence_sdk.content import DECODERS, ContentType, Decoder

from .errors import SequenceFailed, TestingError, WaitedInVain
from .items import Feed, type_for
from .running import Event, Exit, Log, Running, Told
from .waiting import patience

T = TypeVar("T")

_START = 30.0  # seconds that a process and its imports may take, at the least
_STOP = 7.0  # seconds that a stop gives, as the command line of a hub does
_TURNS = 5  # of the loop, in which an end that has come is seen by who waits for it
_FOR_EVER = 24 * 3600.0  # seconds; the wait ends with the run
_TOGETHER = 16 * 1024  # bytes of items that are written at once to fill an input
_QUIET = 0.3  # seconds of real time without room, after which an input counts as blocked
_MOST = 1_000_000  # items that are fed in the hope that a Sequence stops to take them
_SHOWN = 2000  # characters of stderr that a complaint repeats
_SHOWN_LINES = 10  # of the log


@dataclass(slots=True)
class _Begun:
    """What there is of a run once it has begun."""

    running: Running
    feed: Feed
    ending: "asyncio.Task[Exit]"

    @property
    def exit(self) -> Exit | None:
        """How it ended, if it has."""
        return self.ending.result() if self.ending.done() and not self.ending.cancelled() else None


class Run:
    """A Sequence that runs. It is made by ``stage.run``, and used as an async context manager.

    Every wait takes ``timeout`` seconds of real time at most; then it raises WaitedInVain with what was there.
    At the end of the block a Sequence that still runs is killed; one that has failed, although the test never asked for its
    ``exit``, makes the test fail.
    """

    __test__ = False

    def __init__(
        self,
        launch: Callable[[str], Awaitable[Running]],
        *,
        title: str,
        takes: str | None,
        gives: str,
        timeout: float,
        content_type: str | None = None,
        crash_after: int | None = None,
    ) -> None:
        """Prepare it.

        Args:
            launch: starts the Sequence, for an input of a content type.
            title: stage and name, for complaints.
            takes: content type of the input that the Sequence declares, or None.
            gives: that of its output.
            timeout: seconds that a wait may last.
            content_type: what the sender says the input is; by the first item if nobody says it.
            crash_after: so many items are handled before it is killed.
        """
        self.timeout = timeout
        self._launch = launch
        self._title = title
        self._takes = takes
        self._gives = gives
        self._content_type = content_type
        self._crash_after = crash_after
        self._begun: _Begun | None = None
        self._work: list[asyncio.Task[Any]] = []
        self._starting = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._input_ended = False
        self._decoder: Decoder | None = None
        self._items: deque[Any] = deque()
        self._output_ended = False
        self._told_of_exit = False

    # --- life -------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        declared = self._content_type or self._takes
        if declared is not None:
            await self._start(declared)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        begun = self._begun
        if begun is None:
            return
        try:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            how = begun.exit
            if error is None and how is not None and how.failed and not self._told_of_exit:
                raise SequenceFailed(self._complaint("the Sequence failed"))
        finally:
            tasks = [*self._work, begun.ending]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await begun.running.close()

    async def _start(self, content_type: str) -> _Begun:
        seconds = max(self.timeout, _START)
        async with patience(seconds, lambda: f"{self._title}: it was not started within {seconds:g} s"):
            running = await self._launch(content_type)
        feed = Feed(ContentType.parse(self._takes or content_type))
        ending = asyncio.create_task(running.wait(), name="end of the Sequence under test")
        self._begun = _Begun(running, feed, ending)
        if self._crash_after is not None:
            self._work.append(asyncio.create_task(self._crash(running, self._crash_after)))
        return self._begun

    async def _started(self, first: Any = "") -> _Begun:
        """Return what runs, after starting it for an input whose first item this is."""
        if self._begun is None:
            async with self._starting:
                return await self._started_in_turn(first)
        return self._begun

    async def _started_in_turn(self, first: Any) -> _Begun:
        return self._begun or await self._start(type_for(first))

    async def _crash(self, running: Running, after: int) -> None:
        while True:
            account = await running.account()
            if account.taken - account.pending >= after:
                break
            await running.news()
        await running.kill(crash=True)

    # --- in ---------------------------------------------------------------------------------------------------------

    async def feed(self, *items: Any) -> None:
        """Send items: lines of text with their line ends, values, or bytes, as the content type says.

        Raises:
            TestingError: an item does not fit the content type.
            WaitedInVain: the Sequence takes no more, for nobody reads what it gives.
        """
        begun = await self._started(*items[:1])
        chunks = begun.feed.encode(items)
        await self._send(begun, chunks if begun.feed.kind is ContentType.OCTETS else [b"".join(chunks)])

    async def feed_bytes(self, *chunks: bytes) -> None:
        """Send bytes, cut as they are given. Where a stage has a real wire, it may join them again.

        Without a content type that somebody has said, they are text.
        """
        await self._send(await self._started(), chunks)

    async def feed_cut(self, data: bytes) -> None:
        """Send bytes one by one."""
        await self.feed_bytes(*(data[at : at + 1] for at in range(len(data))))

    async def end(self) -> None:
        """End the input; a second time does nothing."""
        begun = await self._started()
        async with self._sending:
            if not self._input_ended:
                self._input_ended = True
                begun.feed.end()
                if self._crash_after is None or self.fed < self._crash_after:
                    await begun.running.end()

    @property
    def fed(self) -> int:
        """How many items the test has fed."""
        return 0 if self._begun is None else self._begun.feed.count

    async def _send(self, begun: _Begun, chunks: Iterable[bytes], *, patient: bool = False) -> None:
        room = "room in the input; read what it gives, with run.items() or run.rest()"
        async with self._sending:
            if self._input_ended:
                raise TestingError(
                    f"{self._title}: the input has ended; feed before run.end() and run.rest()"
                )
            for chunk in chunks:
                data = self._up_to_crash(begun.feed, chunk)
                if data:
                    async with self._wait(room, patient=patient):
                        await begun.running.write(data)

    def _up_to_crash(self, feed: Feed, chunk: bytes) -> bytes:
        """Count the items of a chunk, and return the part of it that the Sequence gets to see."""
        before, limit = feed.count, self._crash_after
        pieces = feed.add(chunk)
        if limit is None:
            return chunk
        counts = [before, *(count for _, count in pieces)]
        return b"".join(piece for (piece, _), whole in zip(pieces, counts, strict=False) if whole < limit)

    # --- out --------------------------------------------------------------------------------------------------------

    async def items(self, count: int) -> list[Any]:
        """Return the next ``count`` items of the output: lines of text, values, or chunks of bytes.

        Raises:
            WaitedInVain: the output ends before, or they do not come in time.
        """
        await self._started()
        got: list[Any] = []
        async with self._wait(lambda: f"{count} items of output, got {len(got)}: {got!r:.500}"):
            await self._fill(got, count)
        if len(got) < count:
            raise WaitedInVain(
                self._complaint(f"the output ended after {len(got)} of {count} items: {got!r:.500}")
            )
        return got

    async def _fill(self, got: list[Any], count: int) -> None:
        while len(got) < count:
            item = await self._next()
            if item is _NOTHING:
                await self._end_of_it()
                return
            got.append(item)

    async def rest(self, *, failed: bool = False) -> list[Any]:
        """End the input and return all that is still to come of the output.

        Args:
            failed: the Sequence is expected to fail, or to be killed; without it that is an error here.

        Raises:
            SequenceFailed: it did, unexpectedly.
        """
        await self._started()
        got: list[Any] = []
        ending = asyncio.create_task(self.end())  # behind what is fed, for which reading may make room
        self._work.append(ending)
        async with self._wait(
            lambda: f"the end of the output, got {len(got)} items, the last: {got[-3:]!r:.500}"
        ):
            while (item := await self._next()) is not _NOTHING:
                got.append(item)
            how = await self._end_of_it()
        if how.failed and not failed:
            self._told_of_exit = True
            raise SequenceFailed(
                self._complaint(f"the Sequence failed after {len(got)} more items of output")
            )
        self._told_of_exit = self._told_of_exit or failed
        return got

    async def raw(self, *, failed: bool = False) -> bytes:
        """End the input and return all bytes of the output, as they are; instead of reading items."""
        if self._decoder is not None:
            raise TestingError(f"{self._title}: raw() is for a run whose items nobody has read")
        self._decoder = DECODERS[ContentType.OCTETS]()
        return b"".join(await self.rest(failed=failed))

    async def reader(self, *, delay: float = 0.0) -> AsyncIterator[Any]:
        """Read the output item by item, resting ``delay`` seconds before each; to the end of the output.

        It does not end the input. Each item may take ``timeout`` seconds.
        """
        await self._started()
        while True:
            await asyncio.sleep(delay)
            async with self._wait("the next item of output"):
                item = await self._next()
            if item is _NOTHING:
                return
            yield item

    async def _next(self) -> Any:
        """Return the next item of the output, or ``_NOTHING`` at its end."""
        while not self._items:
            if self._output_ended:
                return _NOTHING
            await self._read_more()
        return self._items.popleft()

    async def _read_more(self) -> None:
        begun = await self._started()
        async with self._reading:
            if self._output_ended or self._items:
                return
            self._decode(await begun.running.read())

    def _decode(self, chunk: bytes) -> None:
        if self._decoder is None:
            self._decoder = DECODERS[ContentType.parse(self._gives)]()
        self._items += self._decoder.feed(chunk) if chunk else self._decoder.end()
        self._output_ended = not chunk
        if self._decoder.failure is not None:
            raise TestingError(
                self._complaint(f"the output is not what it should be: {self._decoder.failure}")
            )

    # --- beside the output ------------------------------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        """What ``context.emit`` has sent so far."""
        return list(self._told.events)

    @property
    def logs(self) -> list[Log]:
        """The log so far; on a hub with what the hub itself adds."""
        return list(self._told.logs)

    @property
    def stdout(self) -> str:
        """What was printed so far."""
        return self._told.stdout

    @property
    def stderr(self) -> str:
        """What was written to stderr so far; the traceback of a failure is there."""
        return self._told.stderr

    @property
    def _told(self) -> Told:
        return self._now.running.told

    @property
    def _now(self) -> _Begun:
        if self._begun is None:
            raise TestingError(f"{self._title}: nothing runs yet; feed it, or say run(content_type=…)")
        return self._begun

    async def event(self, name: str) -> Any:
        """Return the message of the first event of a name, waiting for it."""
        await self._started()
        await self.until(lambda: any(one.name == name for one in self.events), what=f"the event {name!r}")
        return next(one.message for one in self.events if one.name == name)

    async def until(self, condition: Callable[[], Any], *, what: str = "a condition to come true") -> None:
        """Wait until ``condition()`` is true.

        Raises:
            WaitedInVain: it is not in time, or the Sequence has ended and it is not.
        """
        begun = await self._started()
        async with self._wait(what):
            while not condition():
                if begun.ending.done():
                    raise WaitedInVain(self._complaint(f"waited for {what}, but the Sequence has ended"))
                await begun.running.news()

    async def emit(self, name: str, message: Any = None) -> None:
        """Send an event to the Sequence, for ``context.on``."""
        await (await self._started()).running.emit(name, message)

    # --- its end ----------------------------------------------------------------------------------------------------

    async def stop(self, seconds: float = _STOP) -> Exit:
        """Stop it, as a hub does when it is asked to: its stop handlers have ``seconds``. Return how it ended."""
        begun = await self._started()
        async with patience(self.timeout + seconds, lambda: self._complaint("waited for it to stop")):
            await begun.running.stop(seconds)
        return await self.exit()

    async def kill(self) -> Exit:
        """End it at once, without a word. Return how it ended."""
        await (await self._started()).running.kill()
        return await self.exit()

    async def exit(self) -> Exit:
        """Return how it ended, once it has. What it gives until then is kept for ``items`` and ``rest``."""
        await self._started()
        self._told_of_exit = True
        hint = "" if self._input_ended else "; its input is open: run.end() ends it"
        drain = asyncio.create_task(self._keep_output())
        try:
            async with self._wait(f"the end of the Sequence{hint}"):
                return await self._end_of_it()
        finally:
            drain.cancel()
            await asyncio.wait({drain})

    async def _keep_output(self) -> None:
        kept: deque[Any] = deque()
        try:
            while not self._output_ended:
                kept += self._items
                self._items.clear()
                await self._read_more()
        finally:
            self._items.extendleft(reversed(kept))

    async def _end_of_it(self) -> Exit:
        return await asyncio.shield((await self._started()).ending)

    # --- account ----------------------------------------------------------------------------------------------------

    async def account(self) -> Account:
        """Return what has become of the items fed: ``taken == out + skipped + quarantined + pending``.

        ``taken`` is what was fed; ``pending`` is what the Sequence has in hand or has not taken yet. An input of octets has
        no items but what the wire makes of them: there, ``taken`` is what the Sequence has taken.
        """
        begun = await self._started()
        account = await begun.running.account()
        if begun.feed.kind is ContentType.OCTETS:
            return account
        return Account(self.fed, account.out, account.skipped, account.quarantined)

    async def taken(self) -> int:
        """Return how many items the Sequence itself has taken so far."""
        return (await (await self._started()).running.account()).taken

    async def assert_account(
        self,
        *,
        out: int | None = None,
        skipped: int | None = None,
        quarantined: int | None = None,
        pending: int | None = None,
    ) -> Account:
        """Wait until the account is as said, and return it; what is not said may be anything.

        Without anything said it is that of a Sequence that has handled all it was fed: nothing is pending.

        Raises:
            WaitedInVain: it does not become so; the complaint has the account.
        """
        wanted = {"out": out, "skipped": skipped, "quarantined": quarantined, "pending": pending}
        wanted = {name: value for name, value in wanted.items() if value is not None} or {"pending": 0}
        begun = await self._started()
        account = await self.account()

        def complaint() -> str:
            said = ", ".join(f"{name}={value}" for name, value in wanted.items())
            return f"the account to have {said}; it is {account}, with pending={account.pending}"

        def agrees() -> bool:
            return (
                all(getattr(account, name) == value for name, value in wanted.items())
                and account.pending >= 0
            )

        async with self._wait(complaint):
            over = False
            while not agrees():
                if over:
                    raise WaitedInVain(
                        self._complaint(f"waited for {complaint()}; and the Sequence has ended")
                    )
                over = begun.ending.done()
                if not over:
                    await begun.running.news()
                account = await self.account()
        return account

    async def until_blocked(self, item: Any, *, quiet: float = _QUIET, most: int = _MOST) -> int:
        """Feed until the Sequence takes no more, for nobody reads its output; return how many items were fed.

        The last of them are on their way in; nothing is lost when somebody reads. A full pipe takes bytes, not items: use
        items of a thousand bytes or so.

        Args:
            item: what is fed, or a function that makes it of its number, from 0.
            quiet: seconds of real time without room after which it counts as blocked.
            most: items after which it is clear that it takes everything.

        Raises:
            WaitedInVain: it takes everything, so that what it gives must be piling up somewhere.
        """
        make = item if callable(item) else lambda _number: item
        begun = await self._started(make(0))
        fed = 0
        while fed < most:
            chunks = begun.feed.encode([make(fed)])
            size = len(chunks[0])
            while size < _TOGETHER and fed + len(chunks) < most and begun.feed.kind is not ContentType.OCTETS:
                chunks += begun.feed.encode([make(fed + len(chunks))])
                size += max(len(chunks[-1]), 1)
            fed += len(chunks)
            feeding = asyncio.create_task(self._send(begun, [b"".join(chunks)], patient=True))
            self._work.append(feeding)
            with contextlib.suppress(WaitedInVain):
                async with patience(quiet, str):
                    await asyncio.shield(feeding)
            if not feeding.done():
                return fed
            await feeding
            self._work.remove(feeding)
        raise WaitedInVain(
            self._complaint(
                f"the Sequence has taken {most} items although nobody reads what it gives: does it keep them?"
            )
        )

    # --- complaints -------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _wait(self, what: str | Callable[[], str], *, patient: bool = False) -> AsyncIterator[None]:
        limit = _FOR_EVER if patient else self.timeout

        def complaint() -> str:
            wanted = what() if callable(what) else what
            return self._complaint(f"waited {limit:g} s for {wanted}")

        async with patience(limit, complaint):
            yield

    def _complaint(self, what: str) -> str:
        """Return a sentence with all that helps to see why."""
        lines = [f"{self._title}: {what}"]
        begun = self._now
        how = begun.exit
        lines.append(f"  it has ended: {how.reason} (exit code {how.code})" if how else "  it has not ended")
        lines.append(f"  input: {self.fed} items fed, {'ended' if self._input_ended else 'open'}")
        if self._items:
            lines.append(f"  output that nobody has read: {list(self._items)[:3]!r:.500}")
        told = begun.running.told
        if told.stderr:
            lines += ["  stderr:", *(f"    {line}" for line in told.stderr[-_SHOWN:].splitlines())]
        if told.logs:
            lines += [
                "  log:",
                *(f"    {one.level} {one.message:.200}" for one in told.logs[-_SHOWN_LINES:]),
            ]
        return "\n".join(lines)


_NOTHING = object()
