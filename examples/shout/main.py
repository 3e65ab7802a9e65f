"""The smallest transform: lines in, louder lines out."""

from collections.abc import AsyncIterable, AsyncIterator

from sequence_sdk import sequence


@sequence(takes="text/plain", gives="text/plain")
async def shout(lines: AsyncIterable[str], mark: str = "!") -> AsyncIterator[str]:
    """Yield each line in capitals with ``mark`` at its end."""
    async for line in lines:
        yield line.rstrip("\r\n").upper() + mark + "\n"
