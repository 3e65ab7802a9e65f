"""The data path inside a runner: bytes of the input become items, items of the Sequence become bytes, a block at a time."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from sequence_sdk.content import (
    DECODERS,
    ENCODERS,
    ContentType,
    Decoder,
    Refuse,
    bad_output,
    block_encoder,
    refuse_nothing,
)
from sequence_sdk.errors import ContentError

from .errors import LinkLost
from .protocol.errors import RemoteProtocolError
from .protocol.input_header import InputHeaderDecoder
from .sockets import FULL, SocketReader, SocketWriter

_TURN = 0.01  # seconds after which the loop is due a turn, whether or not the author's code ever waits
_SINGLY = (
    64  # items that leave one by one after code that did not wait: it may do so again before the next item
)


class InputSource:
    """Batches of items from the input link.

    The prologue is read first, unless the Sequence has said itself what it reads. A declared type wins over the prologue's: the
    Sequence knows what it can read.
    """

    def __init__(
        self,
        reader: SocketReader,
        *,
        declared: str = "",
        has_prologue: bool = True,
        refuse: Refuse = refuse_nothing,
    ) -> None:
        self.content_type = ""  # as it was declared or sent, once it is known
        self._reader = reader
        self._declared = declared
        self._refuse = refuse
        self._header = InputHeaderDecoder() if has_prologue else None
        self._decoder: Decoder | None = None if has_prologue else self._decoder_for(declared)
        self._failure: Exception | None = None
        self._begun = False
        self._ended = False

    def require(self, content_type: str) -> None:
        """Read bytes of this type and no prologue from now on: the Sequence has named a topic, if late.

        An input that has begun goes on as it is.

        Raises:
            UnsupportedContentType: nobody here reads it.
        """
        decoder = self._decoder_for(self._declared or content_type)
        if not self._begun:
            self._header, self._decoder = None, decoder

    async def next_batch(self) -> list[Any] | None:
        """Return the next items, or None at the end, or none after an ``interrupt``. An error comes again for who asks again.

        Raises:
            ContentError: the bytes are not what the content type says, after the items before them.
            RemoteProtocolError: the prologue is none.
            LinkLost: the hub broke the link.
        """
        while not self._failure and not self._ended:
            chunk = await self._reader.read()
            if chunk is None:
                return []
            if items := self._take(chunk):
                return items
        if self._failure:
            raise self._failure
        return None

    def _take(self, chunk: bytes) -> list[Any]:
        self._ended = not chunk
        self._begun = True
        try:
            items = self._decode(chunk)
        except (ContentError, RemoteProtocolError) as error:
            self._failure = error
            return []
        if self._decoder is not None:
            self._failure = self._decoder.failure
        return items

    def _decode(self, chunk: bytes) -> list[Any]:
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

    def _decoder_for(self, content_type: str) -> Decoder:
        self.content_type = content_type
        return DECODERS[ContentType.parse(content_type)](refuse=self._refuse)

    def interrupt(self) -> None:
        """Let a wait for items return at once, without any."""
        self._reader.interrupt()


async def pump_output(outputs: AsyncIterator[Any], kind: ContentType, writer: SocketWriter) -> None:
    """Write all items of a Sequence, then wait until they are in the kernel's hands.

    Items are joined while the Sequence gives them without a pause, and leave as soon as it waits. One that never waits gets a
    turn of the loop put in every now and then, so that its items leave, and it can be stopped.

    Cancelling closes the Sequence; what it has given by then is still written.

    Raises:
        BadOutput: an item does not fit the content type; the text shows it.
        BaseException: whatever the author's code raises.
        LinkLost: the hub does not take any more.
    """
    encode = ENCODERS[kind]()
    try:
        await _write_items(outputs, kind, encode, writer)
    except BaseException as reason:
        try:
            close = getattr(outputs, "aclose", None)
            if close is not None:
                with contextlib.suppress(ContentError, asyncio.CancelledError):
                    await close()
            if isinstance(reason, asyncio.CancelledError):
                leftovers = getattr(outputs, "leftovers", list)  # those of code in a thread have some
                for item in leftovers():
                    writer.write(encode(item))
        finally:
            with contextlib.suppress(LinkLost):  # what ended the Sequence is the better news
                await writer.drain()
        raise
    await writer.drain()


async def _write_items(
    outputs: AsyncIterator[Any], kind: ContentType, encode: Callable[[Any], bytes], writer: SocketWriter
) -> None:
    loop, clock = asyncio.get_running_loop(), time.monotonic
    encode_quickly, line_end = block_encoder(kind)
    batch: list[bytes] = []  # without line ends; leaves when the loop has its turn
    handed_over = 0  # items
    size = 0  # bytes of the batch, and of what the hub has not read

    def hand_over() -> None:
        nonlocal size, handed_over
        if batch:
            handed_over += len(batch)
            if line_end:
                batch.append(b"")  # so that there is one behind the last item, too
            size = writer.send(line_end.join(batch))
            batch.clear()

    singly, last_turn = _SINGLY, clock()
    append = batch.append
    try:
        async for item in outputs:
            try:
                data = encode_quickly(item)
            except (TypeError, ValueError, RecursionError):
                data = _encoded(item, encode, handed_over + len(batch) + 1).removesuffix(line_end)
            now = clock()
            if not batch:
                loop.call_soon(hand_over)
                if not singly:  # the code has waited since the last item, and let it leave
                    last_turn = now
            append(data)
            size += len(data)
            if now - last_turn > _TURN:
                singly = _SINGLY
            elif singly:
                singly -= 1
            if size >= FULL:
                hand_over()
                await writer.drain()
                size = 0
            elif singly:
                await asyncio.sleep(0)
            else:
                continue
            last_turn = clock()
    finally:
        hand_over()


def _encoded(item: Any, encode: Callable[[Any], bytes], number: int) -> bytes:
    try:
        return encode(item)
    except (TypeError, ValueError, RecursionError) as error:
        raise bad_output(number, error, item) from None
