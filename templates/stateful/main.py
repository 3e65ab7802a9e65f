"""A Sequence that remembers: it counts words, and goes on where it was when its Instance is started again."""

from collections.abc import AsyncIterator
from typing import TypedDict

from sequence_sdk import Context, Stream, sequence


class Count(TypedDict):
    """What comes out, a line of JSON each."""

    word: str
    count: int


@sequence(takes="text/plain", gives="application/x-ndjson")
async def stateful(context: Context, words: Stream[str], every: int = 100) -> AsyncIterator[Count]:
    """Yield each word with how often it has come; what a crash forgets are `every` words at most.

    The hub keeps the counts: they are saved after so many words, and when it ends or is stopped.
    """
    counts: dict[str, int] = await context.state.get("counts", {})
    unsaved = 0
    try:
        async for line in words:
            word = line.strip()
            counts[word] = counts.get(word, 0) + 1
            unsaved += 1
            if unsaved >= every:  # each save is a request to the hub
                await context.state.set("counts", counts)
                unsaved = 0
            yield {"word": word, "count": counts[word]}
    finally:
        if unsaved:
            await context.state.set("counts", counts)
