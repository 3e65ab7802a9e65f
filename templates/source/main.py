"""A source: nothing in, readings out. Put where your items come from into `read`."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator
from typing import Any, TypedDict

from sequence_sdk import Stream, sequence


class Reading(TypedDict):
    """What comes out, a line of JSON each."""

    number: int
    celsius: float


async def read(number: int) -> Reading:
    """Return a reading. This one is made up; yours asks a device, a queue or a page."""
    return {"number": number, "celsius": round(20 + 5 * math.sin(number / 10), 2)}


@sequence(gives="application/x-ndjson")
async def source(_input: Stream[Any], every: float = 1.0, count: int = 0) -> AsyncIterator[Reading]:
    """Yield a reading each `every` seconds: `count` of them, or, if that is 0, until it is stopped."""
    for number in itertools.count(1):
        yield await read(number)
        if number == count:
            return
        await asyncio.sleep(every)
