"""The data path inside a runner: bytes of the input become items, items of the Sequence become bytes, a block at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from sequence_sdk.content import DECODERS, ENCODERS, ContentType, Decoder, bad_output
from sequence_sdk.errors import ContentError

from .protocol.errors import RemoteProtocolError
from .protocol.input_header import InputHeaderDecoder
from .sockets import SocketReader, SocketWriter


class InputSource:
    """Batches of items from the input link.

    The prologue is read first, unless the Sequence has said itself what it reads. A declared type wins over the prologue's: the
    Sequence knows what it can read.
    """

    def __init__(self, reader: SocketReader, *, declared: str = "", has_prologue: bool = True) -> None:
        self._reader = reader
        self._declared = declared
        self._header = InputHeaderDecoder() if has_prologue else None
        self._decoder: Decoder | None = None if has_prologue else self._decoder_for(declared)
        self._ended = False

    async def next_batch(self) -> list[Any] | None:
        """Return the next items, or None at the end.

        Raises:
            ContentError: the bytes are not what the content type says, after the items before them.
            RemoteProtocolError: the prologue is none.
        """
        while not self._ended:
            if self._decoder is not None and self._decoder.failure:
                raise self._decoder.failure
            items = self._take(await self._reader.read())
            if items:
                return items
        if self._decoder is not None and self._decoder.failure:
            raise self._decoder.failure
        return None

    def _take(self, chunk: bytes) -> list[Any]:
        self._ended = not chunk
        if self._header is not None:
            if not chunk:
                self._header.end()
                return []
            found = self._header.feed(chunk)
            if found is None:
                return []
            headers, chunk = found
            self._header = None
            self._decoder = self._decoder_for(self._declared or headers.get("content-type", ""))
            if not chunk:
                return []
        if self._decoder is None:
            return []
        return self._decoder.feed(chunk) if chunk else self._decoder.end()

    @staticmethod
    def _decoder_for(content_type: str) -> Decoder:
        if not content_type:
            raise RemoteProtocolError("the input has no content type")
        return DECODERS[ContentType.parse(content_type)]()


async def pump_output(outputs: AsyncIterator[Any], kind: ContentType, writer: SocketWriter) -> None:
    """Write all items of a Sequence, then wait until they are in the kernel's hands.

    Cancelling closes the Sequence; what it has given by then is still written.

    Raises:
        BadOutput: an item does not fit the content type; the text shows it.
        BaseException: whatever the author's code raises.
        OSError: the hub does not take any more.
    """
    encode = ENCODERS[kind]()
    number = 0
    try:
        async for item in outputs:
            number += 1
            try:
                data = encode(item)
            except (TypeError, ValueError, RecursionError) as error:
                raise bad_output(number, error, item) from None
            writer.write(data)
            if writer.full:
                await writer.drain()
    finally:
        close = getattr(outputs, "aclose", None)
        if close is not None:
            with contextlib.suppress(ContentError, asyncio.CancelledError):
                await close()
        await writer.drain()
