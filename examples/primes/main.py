"""A source: it needs no input and sends the primes, one a line, at a pace of your choice."""

import asyncio
import itertools
from bisect import bisect_right
from collections.abc import AsyncIterator
from math import isqrt
from typing import Any

from sequence_sdk import sequence


@sequence(gives="application/x-ndjson")
async def primes(_input: Any, count: int = 10, pause: float = 0.2) -> AsyncIterator[int]:
    """Yield the first ``count`` primes, ``pause`` seconds apart."""
    found: list[int] = []
    numbers = itertools.count(2)
    while len(found) < count:
        number = next(numbers)
        if any(number % prime == 0 for prime in found[: bisect_right(found, isqrt(number))]):
            continue
        if found:
            await asyncio.sleep(pause)
        found.append(number)
        yield number
