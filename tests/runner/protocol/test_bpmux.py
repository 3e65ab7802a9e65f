"""BPMux: exact bytes, two sides on a fake wire, and any bytes at all."""

import dataclasses
import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.protocol.bpmux import (
    DEFAULT_WINDOW,
    FIRST_HIGH_CHANNEL,
    MAX_CHUNK,
    DataReceived,
    Event,
    Failure,
    FrameDecoder,
    HandshakeReceived,
    Message,
    MessageType,
    Multiplexer,
    ReceiveWindow,
    SendWindow,
    StreamEnded,
    StreamFailed,
    StreamOpened,
    StreamRefused,
    WindowUpdated,
    decode_message,
    encode_frame,
    encode_message,
)
from runner.protocol.errors import LocalProtocolError, RemoteProtocolError

END, HANDSHAKE, STATUS, FINISHED_STATUS, DATA, PRE_HANDSHAKE, ERROR_END, KEEP_ALIVE = MessageType
HIGH = 2**32 - 1


def cut(raw: bytes, places: Iterable[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return [raw[start:stop] for start, stop in itertools.pairwise(borders)]


def handshake(channel: int, free: int = DEFAULT_WINDOW, handshake_data: bytes = b"") -> bytes:
    return encode_message(Message(HANDSHAKE, channel, free=free, handshake_data=handshake_data))


def status(channel: int, free: int, seq: int, kind: MessageType = STATUS) -> bytes:
    return encode_message(Message(kind, channel, free, seq))


def data(channel: int, payload: bytes, seq: int | None = None) -> bytes:
    """A first DATA of a channel, if ``seq`` is not told."""
    seq = len(payload) if seq is None else seq
    return encode_message(Message(DATA, channel, seq=seq)) + encode_frame(payload)


def end(channel: int) -> bytes:
    return encode_message(Message(END, channel))


def error_end(channel: int) -> bytes:
    return encode_message(Message(ERROR_END, channel))


def sent(mux: Multiplexer) -> list[Message | bytes]:
    """What a multiplexer writes, read with the module's own decoder; payloads stand as bytes."""
    decoder = FrameDecoder()
    decoder.feed(mux.take_outgoing())
    messages: list[Message | bytes] = []
    for frame in decoder:
        message = decode_message(frame)
        messages.append(message)
        if message.type is DATA:
            messages.append(next(decoder))
    return messages


def accepted(**settings_: int) -> Multiplexer:
    """One side with channel 7, which the peer has opened; nothing is left to write."""
    mux = Multiplexer(**settings_)
    assert list(mux.receive(handshake(7))) == [StreamOpened(7), WindowUpdated(7, DEFAULT_WINDOW)]
    mux.take_outgoing()
    return mux


def failure(events: Iterable[Event]) -> StreamFailed:
    (failed,) = [event for event in events if isinstance(event, StreamFailed)]
    return failed


# Framing


def test_a_frame_is_its_length_and_its_payload():
    assert encode_frame(b"abc") == bytes.fromhex("00000003 616263")
    assert encode_frame(b"") == bytes(4)


def test_a_frame_that_no_length_field_can_tell_is_refused():
    class Huge(bytes):
        def __len__(self):
            return 2**32

    with pytest.raises(LocalProtocolError, match="4294967296 bytes is longer"):
        encode_frame(Huge())


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=8))
def test_frames_arrive_under_any_cuts(payloads, places):
    decoder = FrameDecoder()
    frames = []
    for chunk in cut(b"".join(map(encode_frame, payloads)), places):
        decoder.feed(chunk)
        frames += decoder
    assert frames == payloads


def test_a_frame_too_long_is_an_error_as_soon_as_its_length_is_known():
    decoder = FrameDecoder(max_length=3)
    decoder.feed(encode_frame(b"abc") + bytes.fromhex("000000"))
    assert list(decoder) == [b"abc"]
    decoder.feed(b"\x04")
    with pytest.raises(RemoteProtocolError, match="a frame of 4 bytes is longer than 3"):
        next(decoder)
    decoder.feed(encode_frame(b"abc"))
    with pytest.raises(RemoteProtocolError, match="longer than 3"):
        next(decoder)


def test_a_decoder_that_stopped_between_frames_goes_on_there():
    decoder = FrameDecoder()
    decoder.feed(encode_frame(b"one") + encode_frame(b"two"))
    assert next(decoder) == b"one"
    decoder.feed(encode_frame(b"three"))
    assert list(decoder) == [b"two", b"three"]


def test_a_decoder_keeps_only_the_frame_that_is_not_whole():
    decoder = FrameDecoder(max_length=100)
    for _ in range(50):
        decoder.feed(encode_frame(bytes(100)) + b"\x00")
        assert list(decoder) == [bytes(100)]
        decoder.feed(bytes(3))
        assert list(decoder) == [b""]
        assert len(decoder._buffer) <= 108
    decoder.feed(b"\xff" * 1000)
    with pytest.raises(RemoteProtocolError):
        next(decoder)
    decoder.feed(bytes(1000))
    assert len(decoder._buffer) == 0


# Messages

VECTORS = [
    ("00000005 00 00000001", Message(END, 1)),
    ("00000009 01 00000000 00004000", Message(HANDSHAKE, 0, free=16384)),
    ("0000000b 01 80000000 00004000 6869", Message(HANDSHAKE, 2**31, free=16384, handshake_data=b"hi")),
    ("0000000d 02 00000001 00003fff 00000005", Message(STATUS, 1, free=16383, seq=5)),
    ("0000000d 03 ffffffff 00003fff 00000005", Message(FINISHED_STATUS, HIGH, free=16383, seq=5)),
    ("00000009 04 00000001 00000005", Message(DATA, 1, seq=5)),
    ("00000009 05 00000001 00004000", Message(PRE_HANDSHAKE, 1, free=16384)),
    ("00000005 06 00000001", Message(ERROR_END, 1)),
    ("00000001 07", Message(KEEP_ALIVE)),
]


@pytest.mark.parametrize(("raw", "message"), VECTORS, ids=lambda value: getattr(value, "type", value))
def test_each_message_has_its_bytes(raw, message):
    assert encode_message(message) == bytes.fromhex(raw)
    assert decode_message(bytes.fromhex(raw)[4:]) == message


def test_a_pre_handshake_may_carry_a_sequence_number():
    raw = bytes.fromhex("05 00000001 00004000 00000002")
    assert decode_message(raw) == Message(PRE_HANDSHAKE, 1, free=16384, seq=2)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        ("", "an empty frame"),
        ("08", "no message has the type 8"),
        ("ff00000000", "no message has the type 255"),
        ("00 000000", "END has 5 bytes, not 4"),
        ("00 0000000000", "END has 5 bytes, not 6"),
        ("01 00000000 000040", "HANDSHAKE has 9 bytes, not 8"),
        ("02 00000000 00004000", "STATUS has 13 bytes, not 9"),
        ("04 00000000 00000000 00", "DATA has 9 bytes, not 10"),
        ("05 00000000 00000000 00", "PRE_HANDSHAKE has 9 bytes, not 10"),
        ("07 00", "KEEP_ALIVE has 1 bytes, not 2"),
    ],
)
def test_a_frame_that_is_no_message_breaks_the_carrier_after_the_events_before_it(raw, error):
    mux = accepted()
    events = mux.receive(data(7, b"good") + encode_frame(bytes.fromhex(raw)) + end(7))
    assert next(events) == DataReceived(7, b"good")
    with pytest.raises(RemoteProtocolError, match=error):
        next(events)
    with pytest.raises(RemoteProtocolError, match=error):
        list(mux.receive(end(7)))
    assert failure(mux.carrier_ended()).channel == 7


# Opening


def test_the_first_stream_opens_with_the_known_bytes():
    mux = Multiplexer()
    assert mux.open() == 0
    assert mux.take_outgoing() == bytes.fromhex("00000009 01 00000000 00004000")
    assert mux.take_outgoing() == b""


def test_the_first_high_stream_is_at_the_middle_of_the_range():
    mux = Multiplexer(high_channels=True, window=5)
    assert [mux.open(b"x"), mux.open()] == [FIRST_HIGH_CHANNEL, FIRST_HIGH_CHANNEL + 1]
    assert mux.take_outgoing() == bytes.fromhex(
        "0000000a 01 80000000 00000005 78" + "00000009 01 80000001 00000005"
    )


def test_an_opened_stream_may_send_once_it_is_answered():
    mux = Multiplexer()
    channel = mux.open()
    assert mux.send(channel, b"early") == 0
    assert mux.allowance(channel) == 0
    assert list(mux.receive(handshake(channel, free=3, handshake_data=b"hello"))) == [
        HandshakeReceived(channel, b"hello"),
        WindowUpdated(channel, 3),
    ]
    mux.take_outgoing()
    assert mux.send(channel, b"early") == 3
    assert mux.take_outgoing() == bytes.fromhex("00000009 04 00000000 00000003" + "00000003 656172")


def test_the_stream_of_a_peer_is_answered():
    mux = Multiplexer()
    assert list(mux.receive(handshake(2**31, free=10, handshake_data=b"hello"))) == [
        StreamOpened(2**31, b"hello"),
        WindowUpdated(2**31, 10),
    ]
    assert mux.take_outgoing() == bytes.fromhex("00000009 01 80000000 00004000")
    assert mux.is_open(2**31)
    assert not mux.is_open(0)


def test_numbers_count_up_past_those_in_use_and_are_not_taken_again_at_once():
    mux = Multiplexer()
    list(mux.receive(handshake(0) + handshake(2)))
    assert [mux.open(), mux.open()] == [1, 3]
    mux.end(1)
    list(mux.receive(handshake(1) + end(1)))
    assert not mux.is_open(1)
    assert mux.open() == 4


@pytest.mark.parametrize(("high", "first", "last"), [(False, 0, 2**31 - 1), (True, 2**31, HIGH)])
def test_numbers_begin_again_at_the_end_of_their_range(high, first, last):
    mux = Multiplexer(high_channels=high)
    mux.open()
    mux._next = 2**31 - 1  # two thousand million streams later
    assert [mux.open(), mux.open()] == [last, first + 1]


def test_a_pre_handshake_opens_a_stream_that_may_not_send_yet():
    mux = Multiplexer()
    assert list(mux.receive(encode_message(Message(PRE_HANDSHAKE, 3, free=100)))) == [StreamOpened(3)]
    assert mux.take_outgoing() == bytes.fromhex("00000009 01 00000003 00004000")
    assert mux.send(3, b"x") == 0
    assert list(mux.receive(handshake(3, 4, b"late"))) == [HandshakeReceived(3, b"late"), WindowUpdated(3, 4)]


def test_a_pre_handshake_before_the_answer_to_our_open_says_nothing_yet():
    mux = Multiplexer()
    channel = mux.open()
    assert list(mux.receive(bytes.fromhex("0000000d 05 00000000 00004000 00000000"))) == []
    assert mux.send(channel, b"x") == 0
    assert list(mux.receive(handshake(channel, 4))) == [
        HandshakeReceived(channel),
        WindowUpdated(channel, 4),
    ]


def test_a_peer_may_end_before_its_handshake():
    mux = Multiplexer()
    assert list(mux.receive(end(3))) == [StreamOpened(3), StreamEnded(3)]
    assert list(mux.receive(handshake(3, 4))) == [HandshakeReceived(3), WindowUpdated(3, 4)]
    assert mux.send(3, b"abcdef") == 4


def test_a_peer_may_fail_a_stream_before_its_handshake():
    mux = Multiplexer()
    opened, failed = mux.receive(error_end(3))
    assert opened == StreamOpened(3)
    assert failed == StreamFailed(3, Failure.PEER, "channel 3: the peer ended it with an error")
    assert [message.type for message in sent(mux)] == [HANDSHAKE, ERROR_END]
    assert not mux.is_open(3)


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("raw", [status(0, 5, 0), data(0, b"x"), data(0, b"")])
def test_data_and_status_before_the_handshake_fail_the_stream(raw, is_known):
    mux = Multiplexer()
    if is_known:
        mux.open()
    failed = failure(mux.receive(raw))
    assert failed.failure is Failure.PROTOCOL
    assert "before the HANDSHAKE" in failed.error
    assert [message.type for message in sent(mux)] == [HANDSHAKE, ERROR_END]


def test_a_finished_status_of_an_unknown_channel_is_ignored():
    mux = Multiplexer()
    assert list(mux.receive(status(9, 5, 0, FINISHED_STATUS))) == []
    assert mux.take_outgoing() == b""


@pytest.mark.parametrize("kind", [HANDSHAKE, PRE_HANDSHAKE])
def test_a_second_handshake_fails_the_stream(kind):
    failed = failure(accepted().receive(encode_message(Message(kind, 7, free=5))))
    assert failed == StreamFailed(7, Failure.PROTOCOL, f"channel 7: {kind.name} after the HANDSHAKE")


def test_handshake_data_that_fits_no_frame_is_refused():
    mux = Multiplexer(window=20, max_frame_length=20)
    with pytest.raises(LocalProtocolError, match="handshake data of 12 bytes; at most 11"):
        mux.open(bytes(12))
    assert mux.open(bytes(11)) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 0},
        {"window": 2**32},
        {"window": 100, "max_frame_length": 99},
        {"window": 1, "max_frame_length": 12},
        {"max_streams": 0},
        {"max_streams": 2**31},
    ],
)
def test_limits_out_of_range_are_refused(wrong):
    with pytest.raises(LocalProtocolError):
        Multiplexer(**wrong)


# Data and windows


def test_data_takes_two_frames():
    mux = accepted()
    assert list(mux.receive(bytes.fromhex("00000009 04 00000007 00000002"))) == []
    assert list(mux.receive(bytes.fromhex("00000002 07 00"))) == [DataReceived(7, b"\x07\x00")]


def test_consumed_bytes_are_told_with_one_status_a_write():
    mux = accepted()
    list(mux.receive(data(7, b"abcdef")))
    mux.consumed(7, 0)
    assert mux.take_outgoing() == b""
    mux.consumed(7, 1)
    mux.consumed(7, 3)
    assert mux.take_outgoing() == bytes.fromhex("0000000d 02 00000007 00003ffe 00000006")
    mux.consumed(7, 2)
    assert mux.take_outgoing() == bytes.fromhex("0000000d 02 00000007 00004000 00000006")


def test_after_our_end_consumed_bytes_are_told_with_a_finished_status():
    mux = accepted()
    list(mux.receive(data(7, b"abc")))
    mux.consumed(7, 3)
    mux.end(7)
    assert mux.take_outgoing() == end(7) + status(7, DEFAULT_WINDOW, 3, FINISHED_STATUS)


@pytest.mark.parametrize("length", [-1, 4])
def test_more_than_was_received_cannot_be_consumed(length):
    mux = accepted()
    list(mux.receive(data(7, b"abc")))
    with pytest.raises(LocalProtocolError, match=f"channel 7: {length} bytes consumed, of 3 that wait"):
        mux.consumed(7, length)
    assert mux.take_outgoing() == b""


def test_consuming_the_rest_of_a_stream_that_is_gone_does_nothing():
    mux = accepted()
    list(mux.receive(data(7, b"abc") + end(7)))
    mux.end(7)
    mux.take_outgoing()
    mux.consumed(7, 3)
    assert mux.take_outgoing() == b""


def test_a_status_due_is_not_told_to_the_next_stream_of_the_same_number():
    mux = accepted()
    list(mux.receive(data(7, b"abc") + end(7)))
    mux.consumed(7, 3)
    mux.end(7)
    assert list(mux.receive(handshake(7, 5))) == [StreamOpened(7), WindowUpdated(7, 5)]
    assert mux.take_outgoing() == end(7) + handshake(7)


def test_a_status_makes_room_only_by_what_it_confirms():
    mux = Multiplexer()
    list(mux.receive(handshake(7, free=10)))
    assert mux.send(7, bytes(30)) == 10
    assert mux.send(7, bytes(20)) == 0
    assert list(mux.receive(status(7, 4, 4))) == []  # 4 confirmed, room for 4 more: 6 are under way
    assert list(mux.receive(status(7, 10, 6))) == [WindowUpdated(7, 6)]
    assert list(mux.receive(status(7, 10, 6, FINISHED_STATUS))) == []
    assert mux.send(7, bytes(20)) == 6


def test_a_window_that_shrinks_under_way_leaves_no_room():
    mux = Multiplexer()
    list(mux.receive(handshake(7, free=10)))
    assert mux.send(7, bytes(8)) == 8
    assert list(mux.receive(status(7, 2, 4))) == []
    assert mux.allowance(7) == 0
    assert mux.send(7, bytes(1)) == 0


@pytest.mark.parametrize("seq", [9, 3, HIGH])
def test_a_status_that_confirms_what_was_not_sent_or_less_than_before_fails_the_stream(seq):
    mux = Multiplexer()
    list(mux.receive(handshake(7, free=10)))
    mux.send(7, bytes(8))
    list(mux.receive(status(7, 10, 4)))
    failed = failure(mux.receive(status(7, 10, seq)))
    assert failed == StreamFailed(
        7, Failure.PROTOCOL, f"channel 7: confirms byte {seq}, which is not from 4 to 8"
    )


def test_too_much_data_fails_the_stream_alone():
    mux = accepted(window=16)
    list(mux.receive(handshake(8) + data(7, bytes(10))))
    mux.take_outgoing()
    failed = failure(mux.receive(data(7, bytes(7), seq=17)))
    assert failed.failure is Failure.PROTOCOL
    assert failed.error == "channel 7: too much data: 7 bytes came, and there was room for 6"
    assert sent(mux)[0] == Message(ERROR_END, 7)
    assert not mux.is_open(7)
    assert list(mux.receive(data(8, b"fine"))) == [DataReceived(8, b"fine")]


def test_a_gap_in_the_data_fails_the_stream():
    failed = failure(accepted().receive(data(7, b"abc", seq=4)))
    assert failed == StreamFailed(7, Failure.PROTOCOL, "channel 7: 3 bytes after byte 0 do not end at 4")


def test_an_empty_payload_is_no_event():
    mux = accepted()
    assert list(mux.receive(data(7, b"") + data(7, b"x"))) == [DataReceived(7, b"x")]


def test_nothing_to_send_sends_nothing():
    mux = accepted()
    assert mux.send(7, b"") == 0
    assert mux.take_outgoing() == b""


def test_much_data_is_sent_in_chunks_that_fit_a_frame_of_the_peer():
    mux = Multiplexer()
    list(mux.receive(handshake(7, free=HIGH)))
    mux.take_outgoing()
    payload = bytes(range(256)) * 600
    assert mux.send(7, payload) == len(payload)
    messages = sent(mux)
    assert [message.seq for message in messages[::2]] == [MAX_CHUNK, 2 * MAX_CHUNK, len(payload)]
    assert b"".join(messages[1::2]) == payload


# Windows near the wrap


def test_an_allowance_is_counted_across_the_wrap():
    window = SendWindow(free=10, acknowledged=HIGH - 2, sent=HIGH - 2)
    assert window.spend(8) == 5
    assert window.allowance == 2
    window.update(10, 1)
    assert window.allowance == 6
    with pytest.raises(RemoteProtocolError, match="confirms byte 4294967295"):
        window.update(10, HIGH)


def test_data_is_counted_across_the_wrap():
    window = ReceiveWindow(size=10, seen=HIGH)
    window.accept(3, 2)
    assert (window.seen, window.free) == (2, 7)
    with pytest.raises(RemoteProtocolError, match="do not end at 4294967295"):
        window.accept(1, HIGH)


def test_the_largest_window_is_used_to_its_last_byte():
    window = SendWindow(free=HIGH)
    window.spend(HIGH)
    assert window.allowance == 0
    window.update(HIGH, HIGH)
    assert window.allowance == HIGH


@given(
    st.integers(0, HIGH),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=20),
)
def test_the_two_ends_of_a_window_agree_wherever_the_count_began(start, size, steps):
    sender = SendWindow(size, acknowledged=start, sent=start)
    receiver = ReceiveWindow(size, seen=start)
    for wanted, consumed in steps:
        length = min(wanted, sender.allowance)
        receiver.accept(length, sender.spend(length))
        receiver.buffered -= min(consumed, receiver.buffered)
        sender.update(receiver.free, receiver.seen)
        assert sender.allowance == receiver.free


# Ending


def test_a_stream_is_gone_after_both_ends():
    mux = accepted()
    assert list(mux.receive(end(7))) == [StreamEnded(7)]
    assert mux.is_open(7)
    assert mux.send(7, b"still") == 5
    mux.end(7)
    mux.end(7)
    assert not mux.is_open(7)
    assert sent(mux) == [Message(DATA, 7, seq=5), b"still", Message(END, 7)]
    assert list(mux.receive(status(7, DEFAULT_WINDOW, 5, FINISHED_STATUS))) == []
    assert mux.carrier_ended() == []


def test_after_our_end_we_receive_and_do_not_send():
    mux = accepted()
    mux.end(7)
    assert mux.allowance(7) == 0
    with pytest.raises(LocalProtocolError, match="channel 7: data after our end"):
        mux.send(7, b"late")
    assert list(mux.receive(status(7, DEFAULT_WINDOW, 0) + data(7, b"x") + end(7))) == [
        DataReceived(7, b"x"),
        StreamEnded(7),
    ]
    assert not mux.is_open(7)


def test_an_end_takes_no_window():
    mux = Multiplexer()
    list(mux.receive(handshake(7, free=0)))
    mux.end(7)
    assert sent(mux)[-1] == Message(END, 7)


@pytest.mark.parametrize("raw", [end(7), data(7, b"x")])
def test_data_and_end_after_the_end_fail_the_stream(raw):
    mux = accepted()
    failed = failure(mux.receive(end(7) + raw))
    assert failed.failure is Failure.PROTOCOL
    assert "after the end" in failed.error
    assert sent(mux) == [Message(ERROR_END, 7)]
    assert not mux.is_open(7)


def test_a_peer_may_fail_a_stream_that_it_has_ended():
    mux = accepted()
    events = list(mux.receive(end(7) + error_end(7)))
    assert events[0] == StreamEnded(7)
    assert failure(events).failure is Failure.PEER


def test_an_error_end_after_our_end_closes_without_another_word():
    mux = accepted()
    mux.end(7)
    mux.take_outgoing()
    assert failure(mux.receive(error_end(7))).failure is Failure.PEER
    assert mux.take_outgoing() == b""
    assert not mux.is_open(7)


def test_a_failed_stream_drops_what_still_comes_and_lets_the_peer_get_to_its_end():
    mux = accepted(window=16)
    list(mux.receive(data(7, bytes(16))))
    mux.fail(7)
    mux.fail(7)
    mux.end(7)
    assert mux.take_outgoing() == error_end(7) + status(7, 16, 16, FINISHED_STATUS)
    more = handshake(7) + data(7, bytes(12), seq=28) + data(7, bytes(4), seq=32) + status(7, 1, 1)
    assert list(mux.receive(more)) == []
    assert mux.take_outgoing() == status(7, 16, 32, FINISHED_STATUS)
    assert list(mux.receive(end(7))) == []
    assert list(mux.receive(handshake(7, 5))) == [StreamOpened(7), WindowUpdated(7, 5)]


def test_a_failed_stream_takes_no_data_from_us():
    mux = accepted()
    mux.fail(7)
    mux.consumed(7, 99)
    for channel in (7, 8):
        with pytest.raises(LocalProtocolError, match=f"channel {channel} is not open"):
            mux.send(channel, b"x")


def test_failing_after_our_end_says_nothing_and_drops_what_comes():
    mux = accepted()
    mux.end(7)
    mux.take_outgoing()
    mux.fail(7)
    assert mux.take_outgoing() == b""
    assert list(mux.receive(data(7, b"x") + end(7))) == []


def test_ending_or_failing_a_stream_that_is_not_there_does_nothing():
    mux = Multiplexer()
    mux.end(5)
    mux.fail(5)
    mux.consumed(5, 1)
    assert mux.allowance(5) == 0
    assert mux.take_outgoing() == b""


def test_no_event_follows_when_a_stream_is_failed_at_an_event():
    mux = Multiplexer()
    events = mux.receive(handshake(7) + data(7, b"x") + handshake(8, 3))
    assert next(events) == StreamOpened(7)
    mux.fail(7)
    assert list(events) == [StreamOpened(8), WindowUpdated(8, 3)]


def test_the_end_that_came_with_a_stream_is_no_event_once_it_is_failed():
    mux = Multiplexer()
    events = mux.receive(end(7) + end(8))
    assert next(events) == StreamOpened(7)
    mux.fail(7)
    assert list(events) == [StreamOpened(8), StreamEnded(8)]


def test_room_that_was_used_at_the_event_before_is_not_announced():
    mux = Multiplexer()
    events = mux.receive(handshake(7, 3))
    assert next(events) == StreamOpened(7)
    assert mux.send(7, b"abc") == 3
    assert list(events) == []


def test_frames_that_were_not_iterated_come_with_the_next_receive():
    mux = Multiplexer()
    assert next(mux.receive(handshake(7) + data(7, b"x"))) == StreamOpened(7)
    assert list(mux.receive(end(7))) == [
        WindowUpdated(7, DEFAULT_WINDOW),
        DataReceived(7, b"x"),
        StreamEnded(7),
    ]


# The carrier


def test_open_streams_fail_with_the_carrier():
    mux = accepted()
    mux.open()
    list(mux.receive(handshake(8) + handshake(9) + end(9)))
    mux.fail(8)
    events = mux.carrier_ended()
    assert [(event.channel, event.failure) for event in events] == [
        (7, Failure.CARRIER),
        (0, Failure.CARRIER),
        (9, Failure.CARRIER),
    ]
    assert events[0].error == "channel 7: the carrier ended before the stream"
    assert mux.carrier_ended() == []
    assert mux.take_outgoing() == b""


def test_a_carrier_that_is_over_takes_nothing_more():
    mux = accepted()
    mux.carrier_ended()
    for refused in (mux.open, mux.keep_alive, lambda: mux.receive(b"")):
        with pytest.raises(LocalProtocolError, match="the carrier is over"):
            refused()
    with pytest.raises(LocalProtocolError, match="channel 7 is not open"):
        mux.send(7, b"x")
    mux.end(7)
    assert mux.take_outgoing() == b""


def test_a_broken_carrier_keeps_nothing_of_what_still_comes():
    mux = Multiplexer()
    with pytest.raises(RemoteProtocolError):
        list(mux.receive(encode_frame(b"\x08")))
    for _ in range(10):
        with pytest.raises(RemoteProtocolError, match="no message has the type 8"):
            list(mux.receive(bytes(1000)))
    assert len(mux._frames._buffer) < 10


def test_a_keep_alive_goes_out_and_comes_in_without_an_event():
    mux = Multiplexer()
    mux.keep_alive()
    raw = mux.take_outgoing()
    assert raw == bytes.fromhex("00000001 07")
    assert list(mux.receive(raw)) == []
    assert mux.take_outgoing() == b""


# Limits


def test_no_more_streams_are_opened_than_may_be():
    mux = Multiplexer(max_streams=2)
    list(mux.receive(handshake(7)))
    first = mux.open()
    with pytest.raises(LocalProtocolError, match="2 streams are open; end one"):
        mux.open()
    mux.fail(first)
    assert mux.open() == 1


def test_a_stream_too_many_of_the_peer_is_refused_and_the_others_live():
    mux = accepted(max_streams=1)
    raw = handshake(8) + data(8, b"lost") + end(8) + data(7, b"kept")
    assert list(mux.receive(raw)) == [
        StreamRefused(8, "channel 8: 1 streams are open, and no more may be"),
        DataReceived(7, b"kept"),
    ]
    assert sent(mux) == [Message(HANDSHAKE, 8, free=DEFAULT_WINDOW), Message(ERROR_END, 8)]
    list(mux.receive(end(7)))
    mux.end(7)
    assert list(mux.receive(handshake(8, 5))) == [StreamOpened(8), WindowUpdated(8, 5)]


def test_refused_streams_without_an_end_break_the_carrier_in_the_end():
    mux = accepted(max_streams=1)
    refused = b"".join(map(handshake, range(100, 115)))
    assert len(list(mux.receive(refused))) == 15
    with pytest.raises(
        RemoteProtocolError, match="channel 200: 1 streams are open, and 15 that were refused"
    ):
        list(mux.receive(handshake(200)))


def test_failed_streams_that_the_peer_does_not_end_are_limited_too():
    mux = Multiplexer(max_streams=1)
    for _ in range(16):
        mux.fail(mux.open())
    with pytest.raises(LocalProtocolError, match="16 that were refused or failed wait for the peer's end"):
        mux.open()


def test_a_frame_too_long_breaks_the_carrier():
    mux = accepted(window=64, max_frame_length=64)
    list(mux.receive(data(7, bytes(64))))
    events = mux.receive(encode_message(Message(DATA, 7, seq=129)) + encode_frame(bytes(65)))
    with pytest.raises(RemoteProtocolError, match="a frame of 65 bytes is longer than 64"):
        next(events)


# Two sides on a fake wire


@dataclasses.dataclass
class Side:
    """A multiplexer and the application behind it, and the bytes on their way to it."""

    mux: Multiplexer
    incoming: bytearray = dataclasses.field(default_factory=bytearray)
    received: dict[int, bytearray] = dataclasses.field(default_factory=dict)
    waiting: dict[int, int] = dataclasses.field(default_factory=dict)
    to_send: dict[int, bytes] = dataclasses.field(default_factory=dict)
    ended: set[int] = dataclasses.field(default_factory=set)

    def join(self, channel: int, payload: bytes) -> None:
        self.received[channel] = bytearray()
        self.waiting[channel] = 0
        self.to_send[channel] = payload

    def read(self, length: int, payloads: list[bytes]) -> None:
        chunk = bytes(self.incoming[:length])
        del self.incoming[:length]
        for event in self.mux.receive(chunk):
            match event:
                case StreamOpened():
                    self.join(event.channel, payloads[int(event.handshake_data)])
                case DataReceived():
                    self.received[event.channel] += event.data
                    self.waiting[event.channel] += len(event.data)
                    assert self.waiting[event.channel] <= self.mux._window
                case StreamEnded():
                    self.ended.add(event.channel)
                case WindowUpdated():
                    assert 0 < event.allowance <= HIGH
                case HandshakeReceived():
                    assert event.channel in self.received
                case _:
                    raise AssertionError(event)

    def write(self, channel: int, length: int, other: "Side") -> None:
        rest = self.to_send.get(channel)
        if rest is None:
            return
        room = self.mux.allowance(channel)
        count = self.mux.send(channel, rest[:length])
        assert count == min(room, length, len(rest))
        self.to_send[channel] = rest[count:]
        if not self.to_send[channel]:
            self.mux.end(channel)
            del self.to_send[channel]
        other.incoming += self.mux.take_outgoing()

    def consume(self, channel: int, length: int, other: "Side") -> None:
        length = min(length, self.waiting.get(channel, 0))
        if length:
            self.mux.consumed(channel, length)
            self.waiting[channel] -= length
        other.incoming += self.mux.take_outgoing()


steps = st.lists(
    st.tuples(
        st.sampled_from(["read", "write", "consume"]), st.booleans(), st.integers(0, 3), st.integers(1, 90)
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), min_size=1, max_size=4),
    st.integers(13, 70),
    st.integers(1, 70),
    st.booleans(),
    steps,
    st.integers(0, HIGH),
)
def test_what_is_sent_arrives_under_any_cuts_and_any_pace(
    payloads, window, other_window, is_wrapping, plan, start
):
    low = Side(Multiplexer(window=window))
    high = Side(Multiplexer(window=other_window, high_channels=True))
    answers = [answer for _, answer in payloads]
    for index, (question, _) in enumerate(payloads):
        opener = (low, high)[index % 2]
        opener.join(opener.mux.open(b"%d" % index), question)
    low.incoming += high.mux.take_outgoing()
    high.incoming += low.mux.take_outgoing()
    for side, other in ((low, high), (high, low)):  # all are open and answered on both sides
        side.read(10_000, answers)
        other.incoming += side.mux.take_outgoing()
    channels = sorted(low.received)
    if is_wrapping:  # as if so many bytes had been sent before
        low.read(10_000, answers)
        high.read(10_000, answers)
        for stream in (*low.mux._streams.values(), *high.mux._streams.values()):
            stream.outbound = SendWindow(stream.outbound.free, acknowledged=start, sent=start)
            stream.inbound.seen = start
    ending = [
        (kind, side, index, 90)
        for kind in ("write", "read", "consume")
        for side in (True, False)
        for index in range(4)
    ]
    for kind, is_low, index, length in [*plan, *ending * 400]:
        side, other = (low, high) if is_low else (high, low)
        channel = channels[index % len(channels)]
        match kind:
            case "read":
                side.read(length, answers)
            case "write":
                side.write(channel, length, other)
            case "consume":
                side.consume(channel, length, other)
        if not (low.to_send or high.to_send or low.incoming or high.incoming):
            break
    for index, (question, answer) in enumerate(payloads):
        opener, answerer = ((low, high), (high, low))[index % 2]
        channel = index // 2 + (FIRST_HIGH_CHANNEL if opener is high else 0)
        assert answerer.received[channel] == question
        assert opener.received[channel] == answer
        assert {channel} <= low.ended & high.ended
        assert not low.mux.is_open(channel)
        assert not high.mux.is_open(channel)


# Any bytes

some_channel = st.sampled_from([0, 1, 2**31, HIGH])
some_number = st.sampled_from([0, 1, 3, 5, 40, HIGH]) | st.integers(0, HIGH)
some_message = st.builds(
    lambda kind, channel, free, seq: encode_message(Message(kind, channel, free, seq)),
    st.sampled_from([kind for kind in MessageType if kind is not DATA]),
    some_channel,
    some_number,
    some_number,
)
some_data = st.builds(data, some_channel, st.binary(max_size=9), st.none() | some_number)
some_frame = (
    some_message
    | some_data
    | st.binary(max_size=14).map(encode_frame)
    | st.just(handshake(0))
    | st.just(end(0))
)
some_wire = st.lists(some_frame, max_size=12).map(b"".join) | st.binary(max_size=60)


def outcome(chunks: list[bytes]) -> tuple[list[Event], list[Message | bytes], str]:
    """What one side makes of a wire; without the statuses of dropped data, of which a write tells the last."""
    mux = Multiplexer(window=20, max_streams=2, max_frame_length=200)
    mux.open()
    events: list[Event] = []
    error = ""
    outgoing = sent(mux)
    for chunk in chunks:
        try:
            for event in mux.receive(chunk):
                events.append(event)
                if isinstance(event, DataReceived):
                    mux.consumed(event.channel, len(event.data))
                outgoing += sent(mux)
        except RemoteProtocolError as broken:
            error = str(broken)
        outgoing += sent(mux)
    assert mux._open == sum(not stream.failed for stream in mux._streams.values()) <= 2
    assert len(mux._streams) <= 32
    events += mux.carrier_ended()
    return events, [message for message in outgoing if message.type is not FINISHED_STATUS], error


@settings(max_examples=300, deadline=None)
@given(some_wire, st.lists(st.integers(0, 300), max_size=8))
def test_cuts_never_change_the_outcome_errors_included(raw, places):
    whole, outgoing, error = outcome([raw])
    pieces, outgoing_of_pieces, error_of_pieces = outcome(cut(raw, places))
    bytewise, outgoing_bytewise, error_bytewise = outcome(
        [raw[index : index + 1] for index in range(len(raw))]
    )
    assert whole == pieces == bytewise
    assert error == error_of_pieces == error_bytewise
    assert outgoing == outgoing_of_pieces == outgoing_bytewise


@settings(max_examples=300, deadline=None)
@given(some_wire)
def test_any_bytes_give_events_or_the_documented_error_and_each_stream_its_story(raw):
    events, outgoing, _ = outcome([raw])
    alive = {0}
    for event in events:
        match event:
            case StreamOpened():
                assert event.channel not in alive
                alive.add(event.channel)
            case StreamRefused():
                assert event.channel not in alive
            case StreamFailed():
                alive.remove(event.channel)
            case _:
                assert event.channel in alive
    assert not alive  # nobody on our side ends, so each has failed: alone, or with the carrier
    assert {message.type for message in outgoing} <= {HANDSHAKE, STATUS, ERROR_END}
    assert [message.channel for message in outgoing if message.type is HANDSHAKE] == [
        0,
        *(event.channel for event in events if isinstance(event, StreamOpened | StreamRefused)),
    ]
