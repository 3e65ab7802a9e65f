"""The Sequences that are measured, as source text: a hub gets them as packages, the baselines run the very same code."""

from collections.abc import AsyncIterator, Callable
from typing import Any

PASS_ON = """
async def run(context, input):
    async for item in input:
        yield item
"""

COUNT_UP = """
async def run(context, input):
    async for message in input:
        message["v"] += 1
        yield message
"""

ANSWER_EVENTS = """
import asyncio

async def run(context, input):
    context.on("ping", lambda message: context.emit("pong", message))
    yield "x"
    await asyncio.Event().wait()
"""

SAY_SOMETHING = """
async def run(context, input):
    yield "x"
"""

WAIT = """
import asyncio

async def run(context, input):
    yield "x"
    await asyncio.Event().wait()
"""


def function(source: str) -> Callable[[Any, Any], AsyncIterator[Any]]:
    """Return the author's function of a source text."""
    names: dict[str, Any] = {}
    exec(source, names)
    found: Callable[[Any, Any], AsyncIterator[Any]] = names["run"]
    return found
