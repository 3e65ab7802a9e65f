"""What an author of Sequences imports.

from sequence_sdk import sequence


@sequence
async def shout(input):
    async for line in input:
        yield line.upper()
"""

from .chain import SequenceChain, SequenceFunction
from .content import ContentType
from .context import Context
from .contract import Contract, contract_of
from .decorator import sequence
from .errors import (
    BadArgument,
    BadConfig,
    BadInput,
    BadOutput,
    ContentError,
    DecoratorError,
    InputUsedInLoop,
    Mismatch,
    SequenceError,
    UnsupportedContentType,
    UnsupportedHint,
)
from .spec import OnError
from .stream import Stream, StreamAlreadyConsumed, StringStream, UnsupportedOperation

__all__ = [
    "BadArgument",
    "BadConfig",
    "BadInput",
    "BadOutput",
    "ContentError",
    "ContentType",
    "Context",
    "Contract",
    "DecoratorError",
    "InputUsedInLoop",
    "Mismatch",
    "OnError",
    "SequenceChain",
    "SequenceError",
    "SequenceFunction",
    "Stream",
    "StreamAlreadyConsumed",
    "StringStream",
    "UnsupportedContentType",
    "UnsupportedHint",
    "UnsupportedOperation",
    "contract_of",
    "sequence",
]
