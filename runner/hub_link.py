"""Channel 8 in the runner: requests of the Sequence to the hub's API, each on a BPMux stream of its own.

Source: docs/protocol.md, "BPMux on channel 8".
"""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from sequence_sdk.hub import Body, ClientError, HubUnreachable, StreamBroken, UsedOutsideLoop

from .http1 import AnswerDecoder, Head, HttpError, encode_chunk, encode_head
from .protocol.bpmux import (
    KEEP_ALIVE_INTERVAL,
    DataReceived,
    Event,
    Multiplexer,
    StreamEnded,
    StreamFailed,
)
from .protocol.errors import LocalProtocolError, RemoteProtocolError
from .sockets import READ_SIZE, SocketWriter

_API_BASE = "/api/v1"
_WINDOW = 256 * 1024  # bytes of an answer that may be on their way, and wait here for who reads it


class HubLink:
    """The runner's end of channel 8, in the loop that makes it. It says nothing before the first request.

    It has no task of its own: a Sequence ends when the author's tasks have, and an author may cancel all there are.
    """

    where = "channel 8"

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._mux = Multiplexer(window=_WINDOW)
        self._exchanges: dict[int, Exchange] = {}
        self._writer: SocketWriter | None = None
        self._keep_alive: asyncio.TimerHandle | None = None
        self._lost = ""  # why there is no hub any more

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the Sequence."""
        return self._loop

    def check_loop(self) -> None:
        """See that this is the event loop of the Sequence.

        Raises:
            UsedOutsideLoop: it is another one, or none.
        """
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not self._loop:
            raise UsedOutsideLoop

    @asynccontextmanager
    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str], body: Body
    ) -> AsyncIterator["Exchange"]:
        """Send a request and give the answer; leaving the block gives up what is left of both.

        Raises:
            UsedOutsideLoop: this is not the event loop of the Sequence.
            HubUnreachable: the hub is gone.
            ClientError: there are too many requests at a time.
        """
        self.check_loop()
        framing = _framing(body)
        head = encode_head(
            method, _API_BASE + path, {"Host": "scramjet-host", "Connection": "close", **framing, **headers}
        )
        self._begin()
        if self._lost:
            raise HubUnreachable(self.where, self._lost)
        try:
            channel = self._mux.open()
        except LocalProtocolError as error:
            raise ClientError(f"{method} {path}: too many requests at a time: {error}") from None
        self.flush()
        exchange = self._exchanges[channel] = Exchange(self, self._mux, channel)
        sender = self._loop.create_task(
            exchange.send(head, body), name=f"request to the hub: {method} {path}"
        )
        try:
            try:
                await exchange.read_head()
            except StreamBroken as error:
                raise HubUnreachable(self.where, str(error)) from None
            yield exchange
        finally:
            sender.cancel()
            exchange.close()
            del self._exchanges[channel]
            self.flush()
            await asyncio.wait([sender])

    def close(self) -> None:
        """Close the link; requests that are open break off. Safe to call twice."""
        self._lose("the Sequence has ended")
        if self._writer is not None:
            self._writer.close()
        else:
            self._link.close()

    def flush(self) -> None:
        """Write what the multiplexer has to say."""
        outgoing = self._mux.take_outgoing()
        if outgoing and self._writer is not None and not self._lost:
            self._writer.write(outgoing)

    def _begin(self) -> None:
        if self._writer is None and not self._lost:
            self._writer = SocketWriter(self._link)
            self._loop.add_reader(self._link, self._read)
            self._keep_alive = self._loop.call_later(KEEP_ALIVE_INTERVAL, self._stay_alive)

    def _stay_alive(self) -> None:
        self._mux.keep_alive()
        self.flush()
        self._keep_alive = self._loop.call_later(KEEP_ALIVE_INTERVAL, self._stay_alive)

    def _read(self) -> None:
        try:
            chunk = self._link.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(f"it was broken off: {error.strerror or error}")
            return
        if not chunk:
            self._lose("the hub has closed it")
            return
        try:
            for event in self._mux.receive(chunk):
                exchange = self._exchanges.get(event.channel)
                if exchange is not None:
                    exchange.take(event)
        except RemoteProtocolError as error:
            self._lose(f"it cannot be read further: {error}")
            return
        self.flush()

    def _lose(self, why: str) -> None:
        if self._lost:
            return
        self._lost = why
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        if self._writer is not None:
            self._loop.remove_reader(self._link)
        self._mux.carrier_ended()
        for exchange in self._exchanges.values():
            exchange.fail(StreamBroken(f"{self.where} is over: {why}"))


def _framing(body: Body) -> dict[str, str]:
    if body is None or isinstance(body, bytes):
        return {"Content-Length": str(len(body or b""))}
    return {"Transfer-Encoding": "chunked"}


class Exchange:
    """One request and its answer."""

    def __init__(self, link: HubLink, mux: Multiplexer, channel: int) -> None:
        self._link = link
        self._mux = mux
        self._channel = channel
        self._decoder = AnswerDecoder()
        self._pieces: deque[bytes] = deque()  # bounded by the window: they are consumed when they are read
        self._failure: Exception | None = None
        self._changed = asyncio.Event()

    @property
    def head(self) -> Head:
        """The head of the answer, once it was read."""
        assert self._decoder.head is not None  # noqa: S101 - for the type checker
        return self._decoder.head

    @property
    def status(self) -> int:
        """The status code."""
        return self.head.status

    @property
    def reason(self) -> str:
        """The phrase behind it."""
        return self.head.reason

    async def read(self) -> bytes:
        """Return the rest of the body.

        Raises:
            StreamBroken: it ends too early.
        """
        return b"".join([piece async for piece in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """Return the body as it comes. The hub sends more when the next chunk is asked for.

        Raises:
            StreamBroken: it ends too early.
        """
        while self._pieces or not self._decoder.complete:
            if not self._pieces:
                await self._more()
                continue
            piece = self._pieces.popleft()
            yield piece
            self._mux.consumed(self._channel, len(piece))
            self._link.flush()

    async def read_head(self) -> None:
        """Wait for the head of the answer.

        Raises:
            StreamBroken: it does not come.
        """
        while self._decoder.head is None:
            await self._more()

    async def send(self, head: bytes, body: Body) -> None:
        """Send the request as the hub's window allows. What goes wrong is told by the answer."""
        try:
            await self._write(head)
            if isinstance(body, bytes):
                await self._write(body)
            elif body is not None:
                async with AsyncExitStack() as stack:
                    if isinstance(body, AsyncGenerator):
                        await stack.enter_async_context(aclosing(body))
                    async for chunk in body:
                        if chunk:
                            await self._write(encode_chunk(chunk))
                await self._write(encode_chunk(b""))
        except StreamBroken:
            pass
        except Exception as error:  # noqa: BLE001 - the author's body
            self.fail(error)

    def take(self, event: Event) -> None:
        """Take what the multiplexer says about this stream."""
        match event:
            case DataReceived():
                self._decoder.feed(event.data)
                self._decode(len(event.data))
            case StreamEnded():
                self._decoder.end()
                self._decode(0)
            case StreamFailed():
                self.fail(StreamBroken(f"the hub broke it off ({event.error})"))
            case _:
                pass  # there may be more room to send
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """Break off, unless the answer is complete; who waits for more of it gets the error."""
        if self._failure is None and not self._decoder.complete:
            self._failure = error
            self._mux.fail(self._channel)
            self._link.flush()
        self._changed.set()

    def close(self) -> None:
        """Give up what is left; what the hub still sends is dropped."""
        if self._decoder.complete:
            self._mux.end(self._channel)
        self._mux.fail(self._channel)

    def _decode(self, arrived: int) -> None:
        """Take the pieces that are there now; what is no body has been consumed by being understood."""
        try:
            for piece in self._decoder:
                self._pieces.append(piece)
                arrived -= len(piece)
        except HttpError as error:
            self.fail(StreamBroken(str(error)))
        self._mux.consumed(self._channel, arrived)

    async def _write(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            room = self._mux.allowance(self._channel)
            if room:
                start += self._mux.send(self._channel, data[start : start + room])
                self._link.flush()
            else:
                await self._more()

    async def _more(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._changed.clear()
        await self._changed.wait()
