"""Channel 8: connections of a Sequence to the hub's API, carried as BPMux streams over one link.

Each stream is to the HTTP server what an accepted connection is.

Source: docs/protocol.md, "BPMux on channel 8".
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from runner.protocol.bpmux import (
    KEEP_ALIVE_INTERVAL,
    DataReceived,
    Event,
    Multiplexer,
    StreamEnded,
    StreamFailed,
    StreamOpened,
    WindowUpdated,
)
from runner.protocol.errors import RemoteProtocolError

from .channel_server import Link

MakeProtocol = Callable[[], asyncio.Protocol]

_WINDOW = 64 * 1024  # bytes of a request that may be on their way, or wait for the server
_HIGH_WATER = 64 * 1024  # bytes of an answer that wait for the Sequence, from which the server waits
_LOW_WATER = 16 * 1024
_FLUSH = 64 * 1024  # bytes that are written at once, not at the end of the loop's turn
_MAX_UNREAD = (
    256 * 1024
)  # bytes written to a link that is full, from which a runner that does not read is not read either


class MuxCarrier:
    """Takes what channel 8 brings, and serves each stream that the runner opens.

    A runner that breaks the rules loses the link, and ``warn`` is told. One that does not read is not read.
    """

    def __init__(self, link: Link, make_protocol: MakeProtocol, *, warn: Callable[[str], None]) -> None:
        self._link = link
        self._make_protocol = make_protocol
        self._warn = warn
        self._loop = asyncio.get_running_loop()
        self._mux = Multiplexer(window=_WINDOW)
        self._streams: dict[int, MuxTransport] = {}  # the one that has waited longest for the link is first
        self._unflushed = 0
        self._unread = 0
        self._scheduled = False
        self._keep_alive: asyncio.TimerHandle | None = None
        link.on_writable = self._go_on

    def received(self, chunk: bytes) -> None:
        """Take bytes of the carrier."""
        if self._keep_alive is None:  # there are runners that open the link and never read it
            self._keep_alive = self._loop.call_later(KEEP_ALIVE_INTERVAL, self._stay_alive)
        try:
            for event in self._mux.receive(chunk):
                self._take(event)
        except RemoteProtocolError as error:
            self._warn(f"channel 8 breaks the rules and is closed: {error}")
            self._link.abort()
            return
        self._flush()

    def ended(self) -> None:
        """Take the end of the carrier: every stream fails."""
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        self._link.on_writable = None
        self._mux.carrier_ended()
        for stream in list(self._streams.values()):
            stream.lost(ConnectionResetError("the runner has closed channel 8"))
        self._link.close()

    def _take(self, event: Event) -> None:
        if isinstance(event, StreamOpened):
            stream = self._streams[event.channel] = MuxTransport(self, event.channel, self._make_protocol())
            stream.begin()
            return
        stream_of_event = self._streams.get(event.channel)
        if stream_of_event is None:
            return
        match event:
            case DataReceived():
                stream_of_event.received(event.data)
            case WindowUpdated():
                stream_of_event.send_waiting()
            case StreamEnded():
                stream_of_event.input_ended()
            case StreamFailed():
                stream_of_event.lost(ConnectionResetError(event.error))
            case _:
                pass

    # --- what a stream asks of its carrier ------------------------------------------------------------------------

    def send(self, channel: int, waiting: bytearray) -> None:
        """Send as much of what waits as the runner has room for, and take it off."""
        room = 0 if self._link.full else self._mux.allowance(channel)
        if not room or not waiting:
            return
        with memoryview(waiting) as view:
            sent = self._mux.send(channel, bytes(view[:room]))
        del waiting[:sent]
        self._unflushed += sent
        if self._unflushed >= _FLUSH:
            self._flush()
        else:
            self._flush_soon()

    def consumed(self, channel: int, length: int) -> None:
        """Say that bytes have been handed on: the runner may send more."""
        self._mux.consumed(channel, length)
        self._flush_soon()

    def end(self, channel: int) -> None:
        """Say that no more comes on a stream, and drop what still arrives on it."""
        self._mux.end(channel)
        self.fail(channel)

    def fail(self, channel: int) -> None:
        """Drop a stream; unless it was ended before, the runner learns that it is not complete."""
        self._mux.fail(channel)
        self._streams.pop(channel, None)
        self._flush_soon()

    # --- the link -------------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        self._unflushed = 0
        outgoing = self._mux.take_outgoing()
        if not outgoing:
            return
        if self._link.full:  # no data then, but an answer to each thing that the runner says
            self._unread += len(outgoing)
            if self._unread > _MAX_UNREAD:
                self._link.pause_reading()
        self._link.write(outgoing)

    def _go_on(self) -> None:
        self._unread = 0
        self._link.resume_reading()
        for channel, stream in list(self._streams.items()):
            if self._link.full:
                return
            if stream.get_write_buffer_size():
                self._streams[channel] = self._streams.pop(channel)
                stream.send_waiting()
        self._flush()

    def _stay_alive(self) -> None:
        self._mux.keep_alive()
        self._flush()
        self._keep_alive = self._loop.call_later(KEEP_ALIVE_INTERVAL, self._stay_alive)


class MuxTransport(asyncio.Transport):
    """One stream as the transport of a server's protocol."""

    def __init__(self, carrier: MuxCarrier, channel: int, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("channel 8", channel), "channel8": True})
        self._carrier = carrier
        self._channel = channel
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._reading = True
        self._incoming: list[bytes] = []  # bounded by the window
        self._input_over = False
        self._request: Any = None  # the body of the newest request
        self._outgoing = bytearray()
        self._writing_paused = False
        self._closing = False
        self._gone = False

    def begin(self) -> None:
        """Let the protocol begin."""
        self._protocol.connection_made(self)

    # --- what the carrier calls -----------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Hand bytes on, or keep them while nobody reads."""
        self._incoming.append(data)
        self._hand_on()

    def input_ended(self) -> None:
        """Hand on the end, after what is kept."""
        self._input_over = True
        self._hand_on()

    def send_waiting(self) -> None:
        """Send what waits, as far as there is room."""
        self._carrier.send(self._channel, self._outgoing)
        if self._closing:
            self._end_when_sent()
        elif self._writing_paused and len(self._outgoing) <= _LOW_WATER:
            self._writing_paused = False
            self._protocol.resume_writing()

    def lost(self, error: Exception | None) -> None:
        """Take the end of both directions."""
        if self._gone:
            return
        self._gone = self._closing = True
        self._incoming.clear()
        self._outgoing.clear()
        self._carrier.fail(self._channel)
        self._loop.call_soon(self._protocol.connection_lost, error)

    # --- what the protocol calls ----------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; what there is no room for waits."""
        if self._closing:
            return
        self._outgoing += data
        self._carrier.send(self._channel, self._outgoing)
        if len(self._outgoing) > _HIGH_WATER and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several pieces."""
        self.write(b"".join(list_of_data))

    def pause_reading(self) -> None:
        """Hand nothing on until ``resume_reading``; the runner's window closes."""
        self._reading = False

    def resume_reading(self) -> None:
        """Hand on what was kept, in the loop's next turn, then what comes."""
        if not self._reading:
            self._reading = True
            self._loop.call_soon(self._hand_on)

    def is_reading(self) -> bool:
        """Tell whether bytes are handed on."""
        return self._reading and not self._closing

    def close(self) -> None:
        """End the stream after what waits is sent."""
        if not self._closing:
            self._closing = True
            self._incoming.clear()
            self._end_when_sent()

    def abort(self) -> None:
        """Break the stream off at once."""
        self.lost(None)

    def is_closing(self) -> bool:
        """Tell whether it is being closed, or gone."""
        return self._closing

    def can_write_eof(self) -> bool:
        """Tell that a stream is ended by ``close`` alone."""
        return False

    def get_write_buffer_size(self) -> int:
        """Return the bytes that wait."""
        return len(self._outgoing)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return from where on the protocol waits to write, and up to where."""
        return _LOW_WATER, _HIGH_WATER

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the limits are the same for all."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand on to another protocol from now on."""
        assert isinstance(protocol, asyncio.Protocol)  # noqa: S101 - for the type checker
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol

    # --- inside ---------------------------------------------------------------------------------------------------

    def _hand_on(self) -> None:
        while self._incoming and self._reading and not self._closing:
            data = self._incoming.pop(0)
            self._carrier.consumed(self._channel, len(data))
            self._protocol.data_received(data)
            self._note_request()
        if self._closing:
            self._incoming.clear()
        elif self._input_over and self._reading:
            self._input_over = False
            self._hand_on_end()

    def _hand_on_end(self) -> None:
        """Tell the end of the runner's half: the request is whole and is answered, or it never will be.

        aiohttp lets a connection of which one half ends do neither, so its requests are looked at here.
        """
        self._protocol.eof_received()
        if self._request is None or self._request.is_eof():
            if self._request is None:
                self.close()
            return
        self.lost(ConnectionResetError("the runner has ended the stream inside a request"))

    def _note_request(self) -> None:
        """Remember the body of the newest request; it is taken off aiohttp's queue in a later turn of the loop."""
        requests = getattr(self._protocol, "_messages", None)
        if requests:
            self._request = requests[-1][1]

    def _end_when_sent(self) -> None:
        if not self._outgoing and not self._gone:
            self._gone = True
            self._carrier.end(self._channel)
            self._loop.call_soon(self._protocol.connection_lost, None)
