"""A transform: lines in, numbered lines out. Put what your program does into the loop."""

from collections.abc import AsyncIterator

from sequence_sdk import Stream, sequence


@sequence(takes="text/plain", gives="text/plain")
async def transform(lines: Stream[str], first: int = 1) -> AsyncIterator[str]:
    """Yield each line that is not blank, with its number in front."""
    number = first
    async for line in lines:
        if text := line.strip():
            yield f"{number} {text}\n"
            number += 1
