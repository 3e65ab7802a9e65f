"""Virtual time: an event loop whose clock jumps to the next timer when there is nothing else to do.

``asyncio.sleep(3600)`` takes no time then. While a thread that the loop has started works, time stands still and the loop really
waits for it. A loop that reads from sockets or child processes is no place for virtual time: nobody can tell how long those take.
"""

import asyncio
import heapq
import itertools
import selectors
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import thread as executor_threads
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from sequence_sdk.errors import SequenceError

T = TypeVar("T")

_GLANCE = 0.001  # seconds that a thread has to wake up after it was told to, before it counts as waiting
_ATTRIBUTE = "_sequence_sdk_clock"
_WAIT = threading.Condition.wait.__code__
_IDLE = executor_threads.__dict__["_worker"].__code__


class VirtualTimeImpossible(SequenceError):
    """The event loop has no clock that could be replaced."""

    def __init__(self, loop: object) -> None:
        super().__init__(loop)
        self.loop = loop

    def __str__(self) -> str:
        kind = f"{type(self.loop).__module__}.{type(self.loop).__qualname__}"
        return f"virtual time needs a loop of asyncio itself, not {kind}; let this test run in one"


class VirtualTime:
    """The clock of one event loop."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._start = start
        self._waits: list[tuple[float, int, Callable[[], None]]] = []  # in real time
        self._numbers = itertools.count()
        self._given_up: set[int] = set()
        self._strangers: set[threading.Thread] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def elapsed(self) -> float:
        """How many seconds have passed on the clock since it began."""
        return round(self._now - self._start, 6)  # sums of floats

    async def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due by then."""
        await asyncio.sleep(seconds)

    @contextmanager
    def installed(self) -> Iterator["VirtualTime"]:
        """Be the clock of the running loop for as long as the block lasts.

        Raises:
            VirtualTimeImpossible: it is no loop of asyncio's own.
        """
        loop = asyncio.get_running_loop()
        selector = getattr(loop, "_selector", None)
        if not isinstance(loop, asyncio.BaseEventLoop) or not isinstance(selector, selectors.BaseSelector):
            raise VirtualTimeImpossible(loop)
        self._loop = loop
        self._now = self._start = loop.time()
        self._strangers = set(threading.enumerate())
        members: dict[str, Any] = vars(loop)
        members |= {"time": lambda: self._now, "_selector": _Selector(selector, self), _ATTRIBUTE: self}
        try:
            yield self
        finally:
            del members["time"], members[_ATTRIBUTE]
            members["_selector"] = selector
            self._loop = None

    # --- real time --------------------------------------------------------------------------------------------------

    def call_later_really(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` after so many seconds of real time; return what calls it off."""
        number = next(self._numbers)
        heapq.heappush(self._waits, (time.monotonic() + seconds, number, callback))
        return lambda: self._given_up.add(number)

    def _call_due(self) -> float | None:
        """Call what is due in real time; return the seconds until the next, or None."""
        while self._waits:
            moment, number, callback = self._waits[0]
            if number not in self._given_up and moment > time.monotonic():
                return moment - time.monotonic()
            heapq.heappop(self._waits)
            if number in self._given_up:
                self._given_up.discard(number)
            else:
                callback()
                return 0.0
        return None

    # --- threads ----------------------------------------------------------------------------------------------------

    def _a_thread_works(self) -> bool:
        """Tell whether a thread runs that the loop, or what runs in it, has started."""
        pool = getattr(self._loop, "_default_executor", None)
        workers: set[threading.Thread] = set(getattr(pool, "_threads", ()))
        queue = getattr(pool, "_work_queue", None)
        if queue is not None and queue.qsize():
            return True
        frames = sys._current_frames()  # there is no other way to see what a thread does
        ours = {one for one in threading.enumerate() if one not in self._strangers} | workers
        ours.discard(threading.current_thread())
        return any(_works(frames.get(one.ident or 0)) for one in ours)


def _works(frame: FrameType | None) -> bool:
    """Tell whether the thread with this innermost frame does something, or is about to."""
    if frame is None or frame.f_code is _IDLE:
        return False
    if frame.f_code is not _WAIT:
        return True
    waiter = frame.f_locals.get("waiter")
    return waiter is not None and not waiter.locked()  # who lets it go on has released its lock


class _Selector:
    """Waits for files as its original does, but jumps in time where that would wait for a timer alone."""

    def __init__(self, original: selectors.BaseSelector, clock: VirtualTime) -> None:
        self._original = original
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; without anything, move the clock by ``timeout``, or wait where there is nothing to move to."""
        found = self._original.select(0)
        until_due = self._clock._call_due()  # two halves of one thing
        if found or timeout == 0 or until_due == 0.0:
            return found
        if timeout is None:  # a thread may still bring something; else nothing ever happens
            return self._original.select(until_due)
        if self._clock._a_thread_works():
            return self._original.select(_GLANCE if until_due is None else min(_GLANCE, until_due))
        if threading.active_count() > 1:
            found = self._original.select(_GLANCE)
            if found or self._clock._a_thread_works():
                return found
        self._clock._now += timeout
        return []


def clock_of(loop: asyncio.AbstractEventLoop) -> VirtualTime | None:
    """Return the virtual clock of a loop, if it has one."""
    found = vars(loop).get(_ATTRIBUTE) if hasattr(loop, "__dict__") else None
    return found if isinstance(found, VirtualTime) else None


def run_virtual(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns, run in a new event loop with virtual time; for tests that are no coroutines."""

    async def timed() -> T:
        with VirtualTime().installed():
            return await work

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(timed())
