"""What an author of Sequences imports.

from sequence_sdk import sequence


@sequence
async def shout(input):
    async for line in input:
        yield line.upper()
"""

from .content import ContentType
from .context import Context
from .decorator import sequence
from .errors import (
    BadInput,
    BadOutput,
    ContentError,
    DecoratorError,
    InputUsedInLoop,
    SequenceError,
    UnsupportedContentType,
)
from .stream import Input

__all__ = [
    "BadInput",
    "BadOutput",
    "ContentError",
    "ContentType",
    "Context",
    "DecoratorError",
    "Input",
    "InputUsedInLoop",
    "SequenceError",
    "UnsupportedContentType",
    "sequence",
]
