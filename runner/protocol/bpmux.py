"""Many streams over one connection: BPMux, as a framing layer and one side of a carrier.

The *carrier* is a connection that takes bytes both ways; a *stream* is one of the conversations on it, named by its channel number.
Either side opens streams, and each stream has a window for each direction: nobody sends more than the other has room for.

Source: docs/protocol.md, "BPMux".
"""

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

from .errors import LocalProtocolError, RemoteProtocolError

KEEP_ALIVE_INTERVAL = 30.0  # seconds; the shell calls ``keep_alive`` this often
DEFAULT_WINDOW = 16 * 1024  # bytes of one stream that the peer may send before we have consumed any
DEFAULT_MAX_STREAMS = 1024  # with the default window: at most 16 MiB wait for the application
MAX_FRAME = (
    16 * 1024 * 1024
)  # bytes; the format allows 4 GiB, and a peer that claims that much must not fill us
MAX_CHUNK = (
    64 * 1024
)  # bytes of one DATA message of ours; a peer may limit its frames too, and its window does not tell
FIRST_HIGH_CHANNEL = 2**31

_LEFT_OVER = (
    15  # refused and failed streams kept for each open one; a burst too large must not break the rest
)
_MODULUS = 2**32  # sequence numbers count bytes and wrap around
_LENGTH = struct.Struct(">I")


# Framing


def encode_frame(payload: bytes) -> bytes:
    """Return the frame of a payload.

    Shape: the length as four bytes, big-endian, then the payload.

    Raises:
        LocalProtocolError: the length does not fit four bytes.
    """
    return _frame_head(len(payload)) + payload


def _frame_head(length: int) -> bytes:
    if length >= _MODULUS:
        raise LocalProtocolError(
            f"a frame of {length} bytes is longer than its length field can say ({_MODULUS - 1}); cut it"
        )
    return _LENGTH.pack(length)


class FrameDecoder:
    """Cuts a stream of bytes into the payloads of its frames.

    Iterating gives each whole frame. A frame longer than ``max_length`` raises its error where it stands, as soon as its length is
    known, and again at each later try: nothing behind it can be read. Cuts never change the outcome, errors included.
    """

    def __init__(self, *, max_length: int = MAX_FRAME) -> None:
        self._max_length = max_length
        self._buffer = bytearray()
        self._start = 0  # what stands before it is handed out; cut off once a feed, not once a frame
        self._broken = ""

    def feed(self, chunk: bytes) -> None:
        """Take bytes, cut anywhere."""
        if self._broken:
            return
        del self._buffer[: self._start]
        self._start = 0
        self._buffer += chunk

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._broken:
            raise RemoteProtocolError(self._broken)
        body = self._start + _LENGTH.size
        if len(self._buffer) < body:
            raise StopIteration
        (length,) = _LENGTH.unpack_from(self._buffer, self._start)
        if length > self._max_length:
            self._broken = f"a frame of {length} bytes is longer than {self._max_length}"
            self._buffer.clear()
            raise RemoteProtocolError(self._broken)
        if len(self._buffer) < body + length:
            raise StopIteration
        self._start = body + length
        with memoryview(self._buffer) as view:
            return bytes(view[body : self._start])


# Messages


class MessageType(IntEnum):
    """The first byte of a message."""

    END = 0  # the sender writes no more
    HANDSHAKE = 1
    STATUS = 2
    FINISHED_STATUS = 3  # a STATUS whose sender has ended already; the channel may be gone
    DATA = 4  # the next frame is the payload
    PRE_HANDSHAKE = 5
    ERROR_END = 6  # the sender writes no more, and not because it was done
    KEEP_ALIVE = 7


class Message(NamedTuple):
    """One message: ``seq`` and ``free`` are 0 where its type has none."""

    type: MessageType
    channel: int = 0
    free: int = 0
    seq: int = 0
    handshake_data: bytes = b""


_NUMBERS: dict[MessageType, tuple[str, ...]] = {
    MessageType.END: ("channel",),
    MessageType.HANDSHAKE: ("channel", "free"),
    MessageType.STATUS: ("channel", "free", "seq"),
    MessageType.FINISHED_STATUS: ("channel", "free", "seq"),
    MessageType.DATA: ("channel", "seq"),
    MessageType.PRE_HANDSHAKE: ("channel", "free"),
    MessageType.ERROR_END: ("channel",),
    MessageType.KEEP_ALIVE: (),
}
_LAYOUTS = {kind: struct.Struct(f">B{len(names)}I") for kind, names in _NUMBERS.items()}
_PRE_HANDSHAKE_WITH_SEQ = struct.Struct(">B3I")


def encode_message(message: Message) -> bytes:
    """Return the frame of a message; the payload of a DATA is a frame of its own."""
    numbers = [getattr(message, name) for name in _NUMBERS[message.type]]
    return encode_frame(_LAYOUTS[message.type].pack(message.type, *numbers) + message.handshake_data)


def decode_message(frame: bytes) -> Message:
    """Return the message that a frame's payload holds.

    Raises:
        RemoteProtocolError: the type is unknown, or the length is not that of its type.
    """
    if not frame:
        raise RemoteProtocolError("an empty frame where a message should be")
    try:
        kind = MessageType(frame[0])
    except ValueError:
        raise RemoteProtocolError(f"no message has the type {frame[0]}") from None
    layout = _LAYOUTS[kind]
    if kind is MessageType.PRE_HANDSHAKE and len(frame) == _PRE_HANDSHAKE_WITH_SEQ.size:
        _, channel, free, seq = _PRE_HANDSHAKE_WITH_SEQ.unpack(frame)
        return Message(kind, channel, free, seq)
    if len(frame) < layout.size or (len(frame) > layout.size and kind is not MessageType.HANDSHAKE):
        raise RemoteProtocolError(f"{kind.name} has {layout.size} bytes, not {len(frame)}")
    _, *numbers = layout.unpack_from(frame)
    named = dict(zip(_NUMBERS[kind], numbers, strict=True))
    return Message(kind, handshake_data=frame[layout.size :], **named)


# Windows


@dataclass(slots=True)
class SendWindow:
    """What the peer has room for on one stream."""

    free: int
    acknowledged: int = 0  # the newest sequence number that the peer has confirmed
    sent: int = 0  # our own

    @property
    def allowance(self) -> int:
        """The bytes that may be sent now."""
        under_way = (self.sent - self.acknowledged) % _MODULUS
        return max(0, self.free - under_way)  # a peer may shrink its window below what is under way

    def spend(self, length: int) -> int:
        """Count bytes as sent; return the sequence number they end at."""
        self.sent = (self.sent + length) % _MODULUS
        return self.sent

    def update(self, free: int, seq: int) -> None:
        """Take what a STATUS says.

        Raises:
            RemoteProtocolError: it confirms bytes that were never sent, or fewer than were confirmed before.
        """
        if (self.sent - seq) % _MODULUS > (self.sent - self.acknowledged) % _MODULUS:
            raise RemoteProtocolError(
                f"confirms byte {seq}, which is not from {self.acknowledged} to {self.sent}"
            )
        self.free = free
        self.acknowledged = seq


@dataclass(slots=True)
class ReceiveWindow:
    """What we have room for on one stream."""

    size: int
    seen: int = 0  # the sequence number of the last DATA
    buffered: int = 0  # received, and not consumed yet

    @property
    def free(self) -> int:
        """The bytes that the peer may still send, counted from ``seen``."""
        return self.size - self.buffered

    def accept(self, length: int, seq: int) -> None:
        """Count bytes as received.

        Raises:
            RemoteProtocolError: there is no room for them, or they are not the next ones.
        """
        if length > self.free:
            raise RemoteProtocolError(
                f"too much data: {length} bytes came, and there was room for {self.free}"
            )
        if (self.seen + length) % _MODULUS != seq:
            raise RemoteProtocolError(f"{length} bytes after byte {self.seen} do not end at {seq}")
        self.seen = seq
        self.buffered += length


# Events


class Failure(StrEnum):
    """Why a stream failed."""

    PEER = "peer"  # the peer said so: ERROR_END
    PROTOCOL = "protocol"  # the peer broke a rule on this stream
    CARRIER = "carrier"  # the carrier ended first


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer has opened a stream, and our HANDSHAKE has answered it."""

    channel: int
    handshake_data: bytes = b""


@dataclass(frozen=True, slots=True)
class StreamRefused:
    """The peer has opened one stream too many; it was told ERROR_END, and the channel is nothing to us."""

    channel: int
    error: str


@dataclass(frozen=True, slots=True)
class HandshakeReceived:
    """The peer's HANDSHAKE has come for a stream that was there: the answer to ours, as a rule."""

    channel: int
    handshake_data: bytes = b""


@dataclass(frozen=True, slots=True)
class WindowUpdated:
    """There is more room to send than before: ``allowance`` bytes now."""

    channel: int
    allowance: int


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Bytes of the stream, cut anywhere, never empty. They take up the window until ``Multiplexer.consumed`` gives it back."""

    channel: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer sends no more on this stream; all it sent has been received."""

    channel: int


@dataclass(frozen=True, slots=True)
class StreamFailed:
    """The stream is over in both directions, and not because it was done. The last event of its channel."""

    channel: int
    failure: Failure
    error: str


Event = (
    StreamOpened
    | StreamRefused
    | HandshakeReceived
    | WindowUpdated
    | DataReceived
    | StreamEnded
    | StreamFailed
)


# One side of a carrier

_LEGAL_BEFORE_HANDSHAKE = frozenset(
    {MessageType.END, MessageType.HANDSHAKE, MessageType.PRE_HANDSHAKE, MessageType.ERROR_END}
)
_LEGAL_AFTER_HANDSHAKE = frozenset(MessageType) - {MessageType.HANDSHAKE, MessageType.PRE_HANDSHAKE}
_LEGAL_AFTER_END = frozenset(MessageType) - {MessageType.END, MessageType.DATA}


@dataclass(slots=True)
class _Stream:
    """What we know of a channel. Our HANDSHAKE has been sent wherever there is one of these."""

    inbound: ReceiveWindow
    outbound: SendWindow | None = None  # None until the peer's HANDSHAKE
    ended: bool = False  # we have sent END or ERROR_END
    peer_ended: bool = False
    failed: bool = False  # over for the application; what still comes is dropped until the peer's end

    @property
    def allowance(self) -> int:
        return self.outbound.allowance if self.outbound is not None and not self.ended else 0

    def check(self, kind: MessageType) -> None:
        if self.outbound is None and kind not in _LEGAL_BEFORE_HANDSHAKE:
            raise RemoteProtocolError(f"{kind.name} before the HANDSHAKE")
        if self.outbound is not None and kind not in _LEGAL_AFTER_HANDSHAKE:
            raise RemoteProtocolError(f"{kind.name} after the HANDSHAKE")
        if self.peer_ended and kind not in _LEGAL_AFTER_END:
            raise RemoteProtocolError(f"{kind.name} after the end")


class Multiplexer:
    """One side of a carrier.

    Bytes of the peer go in with ``receive``, events come out. After each call of any method, what ``take_outgoing`` returns is to
    be written to the carrier. Where either side may open streams, one of the two takes ``high_channels``: otherwise both number
    from 0, and two streams opened at the same moment become one.

    A stream is gone once both sides have ended it, and its channel number may come back with a new one.

    A peer that breaks a rule on a stream fails that stream alone; one whose frames or messages cannot be read, or that leaves a
    great many refused or failed streams without its end, breaks the carrier.

    Args:
        high_channels: number the streams we open from 2³¹, not from 0.
        window: bytes of each stream that the peer may send before we have consumed any.
        max_streams: how many streams there may be at a time, the peer's and ours together.
        max_frame_length: the longest frame that the peer may send.

    Raises:
        LocalProtocolError: a limit is out of range.
    """

    def __init__(
        self,
        *,
        high_channels: bool = False,
        window: int = DEFAULT_WINDOW,
        max_streams: int = DEFAULT_MAX_STREAMS,
        max_frame_length: int = MAX_FRAME,
    ) -> None:
        if not 0 < window < _MODULUS:
            raise LocalProtocolError(f"a window of {window} bytes; choose 1 to {_MODULUS - 1}")
        if max_frame_length < max(window, _PRE_HANDSHAKE_WITH_SEQ.size):
            raise LocalProtocolError(
                f"max_frame_length {max_frame_length} is less than the window, {window}; raise it"
            )
        if not 0 < max_streams < FIRST_HIGH_CHANNEL // 2:
            raise LocalProtocolError(f"{max_streams} streams; choose 1 to {FIRST_HIGH_CHANNEL // 2 - 1}")
        self._first_channel = FIRST_HIGH_CHANNEL if high_channels else 0
        self._next = 0  # counted from the first channel of our range
        self._window = window
        self._max_streams = max_streams
        self._max_kept = (1 + _LEFT_OVER) * max_streams
        self._max_frame_length = max_frame_length
        self._frames = FrameDecoder(max_length=max_frame_length)
        self._payload_of: Message | None = None  # the DATA whose payload is the next frame
        self._streams: dict[int, _Stream] = {}
        self._open = 0  # those of them that have not failed
        self._events: deque[Event] = deque()
        self._outgoing: list[bytes] = []
        self._status_due: dict[int, None] = {}  # an ordered set: one STATUS tells all that was consumed
        self._broken = ""
        self._over = False

    # What the peer says

    def receive(self, chunk: bytes) -> Iterator[Event]:
        """Take bytes from the carrier, cut anywhere; return the events they lead to.

        The state moves on as the events are iterated, so a stream can be answered at its event; frames that are left over are taken
        up by the next call.

        Raises:
            RemoteProtocolError: while iterating, after the events before it: the carrier cannot be read further. Each later
                iteration raises it again. Close the carrier, and call ``carrier_ended``.
            LocalProtocolError: ``carrier_ended`` was called before.
        """
        self._check_carrier()
        if not self._broken:
            self._frames.feed(chunk)
        return self._read()

    def _read(self) -> Iterator[Event]:
        while True:
            while self._events:
                event = self._events.popleft()
                if isinstance(event, WindowUpdated) and not self.allowance(event.channel):
                    continue  # it was used, or the stream ended, while the event before it was out
                yield event
            if self._broken:
                raise RemoteProtocolError(self._broken)
            try:
                frame = next(self._frames, None)
                if frame is None:
                    return
                self._take_frame(frame)
            except RemoteProtocolError as error:
                self._broken = str(error)

    def _take_frame(self, frame: bytes) -> None:
        if self._payload_of is not None:
            message, self._payload_of = self._payload_of, None
            self._take_message(message, frame)
            return
        message = decode_message(frame)
        if message.type is MessageType.DATA:
            self._payload_of = message
        elif message.type is not MessageType.KEEP_ALIVE:
            self._take_message(message, b"")

    def _take_message(self, message: Message, payload: bytes) -> None:
        stream = self._streams.get(message.channel)
        is_new = stream is None
        if stream is None:
            if message.type is MessageType.FINISHED_STATUS:
                return  # about a stream that is gone by now
            stream = self._admit(message)
        if stream.failed:
            self._drop(stream, message)
            return
        try:
            stream.check(message.type)
            self._apply(stream, message, payload, is_new=is_new)
        except RemoteProtocolError as error:
            self._fail(message.channel, stream, Failure.PROTOCOL, str(error))

    def _admit(self, message: Message) -> _Stream:
        """Return the new stream of a message for an unknown channel; one too many is born failed."""
        channel = message.channel
        if len(self._streams) >= self._max_kept:
            raise RemoteProtocolError(f"channel {channel}: {self._crowd()}")
        is_refused = self._open >= self._max_streams
        stream = self._add(channel)
        if is_refused:
            error = f"channel {channel}: {self._max_streams} streams are open, and no more may be"
            self._events.append(StreamRefused(channel, error))
            self._give_up(channel, stream)
        else:
            self._events.append(StreamOpened(channel, message.handshake_data))
        return stream

    def _crowd(self) -> str:
        left_over = len(self._streams) - self._open
        return f"{self._open} streams are open, and {left_over} that were refused or failed wait for the peer's end"

    def _add(self, channel: int, handshake_data: bytes = b"") -> _Stream:
        stream = self._streams[channel] = _Stream(ReceiveWindow(self._window))
        self._open += 1
        self._queue(Message(MessageType.HANDSHAKE, channel, free=self._window, handshake_data=handshake_data))
        return stream

    def _drop(self, stream: _Stream, message: Message) -> None:
        """Take a message for a failed stream: enough of it that a peer which goes on all the same can get to its end."""
        if message.type in (MessageType.END, MessageType.ERROR_END):
            stream.peer_ended = True
            self._forget_if_over(message.channel, stream)
        elif message.type is MessageType.DATA:
            stream.inbound.seen = message.seq
            self._status_due[message.channel] = None

    def _apply(self, stream: _Stream, message: Message, payload: bytes, *, is_new: bool) -> None:
        channel = message.channel
        before = stream.allowance
        match message.type:
            case MessageType.HANDSHAKE:
                stream.outbound = SendWindow(message.free)
                if not is_new:
                    self._events.append(HandshakeReceived(channel, message.handshake_data))
            case MessageType.STATUS | MessageType.FINISHED_STATUS if stream.outbound is not None:
                stream.outbound.update(message.free, message.seq)
            case MessageType.DATA:
                stream.inbound.accept(len(payload), message.seq)
                if payload:
                    self._events.append(DataReceived(channel, payload))
            case MessageType.END:
                stream.peer_ended = True
                self._events.append(StreamEnded(channel))
                self._forget_if_over(channel, stream)
            case MessageType.ERROR_END:
                stream.peer_ended = True
                self._fail(channel, stream, Failure.PEER, "the peer ended it with an error")
            case _:
                pass  # PRE_HANDSHAKE: it has opened the stream; we may not send before the HANDSHAKE, and that tells the window
        if stream.allowance > before:
            self._events.append(WindowUpdated(channel, stream.allowance))

    def _fail(self, channel: int, stream: _Stream, failure: Failure, error: str) -> None:
        self._events.append(StreamFailed(channel, failure, f"channel {channel}: {error}"))
        self._give_up(channel, stream)

    def _give_up(self, channel: int, stream: _Stream) -> None:
        if not stream.ended:
            self._queue(Message(MessageType.ERROR_END, channel))
        stream.ended = stream.failed = True
        self._open -= 1
        if stream.inbound.buffered:
            stream.inbound.buffered = 0
            self._status_due[channel] = None  # a peer that waits for room must be able to get to its end
        self._forget_if_over(channel, stream)

    def _forget_if_over(self, channel: int, stream: _Stream) -> None:
        if stream.ended and stream.peer_ended:
            del self._streams[channel]
            self._open -= not stream.failed
            self._status_due.pop(channel, None)

    def carrier_ended(self) -> list[StreamFailed]:
        """Say that the carrier is over; return the failure of each stream that was open.

        Iterate the last ``receive`` to its end before. A second call returns nothing.
        """
        events = [
            StreamFailed(channel, Failure.CARRIER, f"channel {channel}: the carrier ended before the stream")
            for channel, stream in self._streams.items()
            if not stream.failed
        ]
        self._over = True
        self._streams.clear()
        self._open = 0
        self._status_due.clear()
        self._events.clear()
        self._outgoing.clear()
        return events

    # What we say

    def open(self, handshake_data: bytes = b"") -> int:
        """Open a stream; return its channel. There is room to send once the peer has answered.

        Raises:
            LocalProtocolError: there are ``max_streams`` already, ``handshake_data`` does not fit a frame, or the carrier is over.
        """
        self._check_carrier()
        if self._open >= self._max_streams:
            raise LocalProtocolError(f"{self._open} streams are open; end one before you open another")
        if len(self._streams) >= self._max_kept:
            raise LocalProtocolError(f"{self._crowd()}; close the carrier")
        longest = self._max_frame_length - _LAYOUTS[MessageType.HANDSHAKE].size
        if len(handshake_data) > longest:
            raise LocalProtocolError(
                f"handshake data of {len(handshake_data)} bytes; at most {longest} fit a frame"
            )
        while (channel := self._first_channel + self._next) in self._streams:
            self._advance()
        self._advance()
        self._add(channel, handshake_data)
        return channel

    def _advance(self) -> None:
        self._next = (self._next + 1) % FIRST_HIGH_CHANNEL  # both ranges are that long

    def send(self, channel: int, data: bytes) -> int:
        """Send the beginning of ``data``; return how many of its bytes the peer had room for.

        Fewer than all means: send the rest after the channel's next ``WindowUpdated``.

        Raises:
            LocalProtocolError: the stream is not open, or we have ended it.
        """
        stream = self._streams.get(channel)
        if stream is None or stream.failed:
            raise LocalProtocolError(f"channel {channel} is not open; open a stream first")
        if stream.ended:
            raise LocalProtocolError(f"channel {channel}: data after our end; send before you end")
        if stream.outbound is None:
            return 0
        accepted = min(stream.allowance, len(data))
        for start in range(0, accepted, MAX_CHUNK):
            chunk = data[start : min(start + MAX_CHUNK, accepted)]
            self._queue(Message(MessageType.DATA, channel, seq=stream.outbound.spend(len(chunk))))
            self._outgoing += (_frame_head(len(chunk)), chunk)
        return accepted

    def allowance(self, channel: int) -> int:
        """Return how many bytes ``send`` accepts now: 0 for a stream that is not open, not answered yet, or ended."""
        stream = self._streams.get(channel)
        return stream.allowance if stream is not None else 0

    def is_open(self, channel: int) -> bool:
        """Say whether the stream still is: it has not failed, and not both sides have ended it."""
        stream = self._streams.get(channel)
        return stream is not None and not stream.failed

    def consumed(self, channel: int, length: int) -> None:
        """Say that the application has taken ``length`` more bytes of the stream, so that the peer may send as many again.

        Nothing happens for a stream that is gone or failed: the rest of what it received needs no room any more.

        Raises:
            LocalProtocolError: that is more than was received and not consumed, or less than nothing.
        """
        stream = self._streams.get(channel)
        if stream is None or stream.failed:
            return
        waiting = stream.inbound.buffered
        if not 0 <= length <= waiting:
            raise LocalProtocolError(f"channel {channel}: {length} bytes consumed, of {waiting} that wait")
        if length:
            stream.inbound.buffered -= length
            self._status_due[channel] = None

    def end(self, channel: int) -> None:
        """Say that we send no more on this stream; it goes on receiving. Safe to call twice, and for a stream that is gone."""
        stream = self._streams.get(channel)
        if stream is None or stream.ended:
            return
        self._queue(Message(MessageType.END, channel))
        stream.ended = True
        self._forget_if_over(channel, stream)

    def fail(self, channel: int) -> None:
        """Give up the stream in both directions; the peer learns that it is not complete, unless we have ended it before.

        What the peer still sends is dropped, and no event follows. Safe to call twice, and for a stream that is gone.
        """
        stream = self._streams.get(channel)
        if stream is not None and not stream.failed:
            self._give_up(channel, stream)
            self._events = deque(event for event in self._events if event.channel != channel)

    def keep_alive(self) -> None:
        """Say that we are there. The shell calls this every ``KEEP_ALIVE_INTERVAL``.

        Raises:
            LocalProtocolError: the carrier is over.
        """
        self._check_carrier()
        self._queue(Message(MessageType.KEEP_ALIVE))

    def take_outgoing(self) -> bytes:
        """Return what must be written to the carrier now, in order; each byte is returned once."""
        for channel in self._status_due:
            stream = self._streams[channel]
            kind = MessageType.FINISHED_STATUS if stream.ended else MessageType.STATUS
            self._queue(Message(kind, channel, stream.inbound.free, stream.inbound.seen))
        self._status_due.clear()
        outgoing = b"".join(self._outgoing)
        self._outgoing.clear()
        return outgoing

    def _check_carrier(self) -> None:
        if self._over:
            raise LocalProtocolError("the carrier is over; make a new multiplexer for a new carrier")

    def _queue(self, message: Message) -> None:
        self._outgoing.append(encode_message(message))
