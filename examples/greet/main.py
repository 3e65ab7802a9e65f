"""The classic form: a module with ``run(context, input, *args)`` that imports nothing of hub-lite."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any


async def run(context: Any, names: AsyncIterable[str], greeting: str = "Hello") -> AsyncIterator[str]:
    """Yield a greeting for each line that holds a name; ``{"sign": "?"}`` in the config changes its end."""
    sign = context.config.get("sign", "!")
    greeted = 0
    async for line in names:
        if name := line.strip():
            greeted += 1
            yield f"{greeting}, {name}{sign}\n"
    context.logger.info("greeted %d", greeted)
