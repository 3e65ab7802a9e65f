"""Waits that do not last for ever, in real time, whatever clock the event loop has."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from .clock import clock_of
from .errors import WaitedInVain


def call_later_really(seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
    """Call ``callback`` in the running loop after so many seconds of real time; return what calls it off."""
    loop = asyncio.get_running_loop()
    clock = clock_of(loop)
    if clock is not None:
        return clock.call_later_really(seconds, callback)
    return loop.call_later(seconds, callback).cancel


@asynccontextmanager
async def patience(seconds: float, complaint: Callable[[], str]) -> AsyncIterator[None]:
    """Give the block so many seconds of real time.

    Raises:
        WaitedInVain: it took longer; ``complaint()`` says what was there at that moment.
    """
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(None)
    try:
        async with limit:
            call_off = call_later_really(seconds, lambda: limit.reschedule(loop.time()))
            try:
                yield
            finally:
                call_off()
    except TimeoutError:
        if not limit.expired():
            raise
        raise WaitedInVain(complaint()) from None
