"""``context.topic(name)``: read and write a topic of the hub, item by item."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

from .content import DECODERS, ENCODERS, ContentType
from .errors import ContentError
from .hub import Body, HubApi, StreamBroken

_MOST = 64 * 1024  # bytes that wait here while as many are on their way; then writers wait


class Topic:
    """A stream with a name that all Instances and clients of a hub share.

    ``async for item in topic`` gives its items from now on, ``await topic.write(item)`` adds one. What an item is, the content
    type says: a JSON value, a line of text with its line end, or bytes cut anywhere. It works in the event loop of the
    Sequence.
    """

    def __init__(self, name: str, content_type: str, hub: Callable[[], HubApi]) -> None:
        """Take name and type, and how to find the hub.

        Raises:
            UnsupportedContentType: nobody here reads it.
        """
        self.name = name
        self.content_type = content_type
        self._kind = ContentType.parse(content_type)
        self._hub = hub
        self._encode: Callable[[Any], bytes] | None = None
        self._waiting: list[bytes] = []
        self._held = 0  # bytes of those
        self._sender: asyncio.Task[None] | None = None  # while there is something to send
        self._taken = asyncio.Event()  # the sender has made room, or has failed
        self._failure: BaseException | None = None  # that nobody has heard of yet

    # --- reading --------------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Any]:
        """Read from now on: what ``read()`` gives."""
        return self.read()

    async def read(self, *, offset: int | str | None = None) -> AsyncIterator[Any]:
        """Return the items of the topic, up to its end; leaving the loop closes the stream.

        Args:
            offset: from which byte on, or ``"earliest"``, or ``"latest"``; without it, where the hub lets a new reader begin.

        Raises:
            ClientError: the hub refuses or cannot be reached, or the stream broke off.
            BadInput: the bytes are not what the content type says.
        """
        decoder = DECODERS[self._kind]()
        stream = self._hub().read_topic(self.name, content_type=self.content_type, offset=offset)
        async with stream as chunks:
            async for chunk in chunks:
                for item in decoder.feed(chunk):
                    yield item
                if decoder.failure is not None:
                    raise self._placed(decoder.failure)
        for item in decoder.end():
            yield item
        if decoder.failure is not None:
            raise self._placed(decoder.failure)

    # --- writing --------------------------------------------------------------------------------------------------

    async def write(self, item: Any) -> None:
        """Add an item; it is sent together with others that are written meanwhile.

        This waits while 64 KiB wait for the hub, which waits for the readers of the topic. A line of text without a line
        end gets one.

        Raises:
            TypeError: the item is not what the content type says.
            ValueError: it has no form in it, such as text that has no UTF-8.
            ClientError: what was written before has not reached the topic, or not all of it.
        """
        self._hear()
        hub, piece = self._hub(), self._encoded(item)
        self._waiting.append(piece)
        self._held += len(piece)
        if self._sender is None:
            self._start(hub)
        while self._held >= _MOST:
            self._taken.clear()
            await self._taken.wait()
            self._hear()

    async def flush(self) -> None:
        """Wait until the topic has all that was written.

        Raises:
            ClientError: the topic has not taken it, or not all of it.
        """
        while self._sender is not None:
            await asyncio.wait([self._sender])
        self._hear()

    async def end(self) -> None:
        """Send all that was written and end the topic for its present readers; it can be written to all the same.

        Raises:
            ClientError: the topic has not taken it, or not all of it.
        """
        await self.flush()
        await self._hub().send_topic(self.name, b"", content_type=self.content_type, end=True)

    async def __aenter__(self) -> Self:
        """Give the topic itself; the end of the block waits until the topic has all that was written."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Flush; what the block has raised is more important than what this raises."""
        if not isinstance(error, Exception | None):
            return  # cancelled: nobody has time to wait
        try:
            await self.flush()
        except Exception:
            if error is None:
                raise

    # --- inside ---------------------------------------------------------------------------------------------------

    def _start(self, hub: HubApi) -> None:
        self._sender = asyncio.create_task(self._send(hub), name=f"writing to topic {self.name}")
        self._sender.add_done_callback(lambda task: self._sent(hub, task))

    async def _send(self, hub: HubApi) -> None:
        while self._waiting:
            pieces, self._waiting, self._held = self._waiting, [], 0
            self._taken.set()
            await hub.send_topic(self.name, self._body(pieces), content_type=self.content_type)

    def _sent(self, hub: HubApi, task: asyncio.Task[None]) -> None:
        """Take the end of the sender; what was written since its last look needs another one."""
        self._sender = None
        if task.cancelled():
            self._failure = StreamBroken("the task that writes to the topic was cancelled")
        else:
            self._failure = task.exception()
        if self._failure is not None:
            self._failure.add_note(f"the topic {self.name} has not got all that was written to it")
            self._waiting, self._held = [], 0  # it would not follow what was before it
            self._taken.set()
        elif self._waiting:
            self._start(hub)

    def _body(self, pieces: list[bytes]) -> Body:
        return _each(pieces) if self._kind is ContentType.OCTETS else b"".join(pieces)

    def _encoded(self, item: Any) -> bytes:
        if self._encode is None:
            self._encode = ENCODERS[self._kind]()
        try:
            piece = self._encode(item)
        except (TypeError, ValueError) as error:
            problem = (
                f"topic {self.name}: {str(error).partition(';')[0]}"  # behind it stands advice about outputs
            )
            raise (TypeError if isinstance(error, TypeError) else ValueError)(problem) from None
        if self._kind is ContentType.TEXT and not piece.endswith(b"\n"):
            piece += b"\n"  # or it would run into the next one's
        return piece

    def _placed(self, failure: ContentError) -> ContentError:
        failure.add_note(f"this is about what was read from the topic {self.name}")
        return failure

    def _hear(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


async def _each(pieces: list[bytes]) -> AsyncIterator[bytes]:
    """Give octets as they were written, for a topic is merged at the chunks of requests."""
    for piece in pieces:
        yield piece
