"""The Sequence that a zygote rehearses with."""

from collections.abc import AsyncIterator
from typing import Any

from sequence_sdk import sequence


@sequence
async def rehearsal(context: Any, input: Any) -> AsyncIterator[str]:
    """Give each line back."""
    async for line in input:
        yield line
