"""Messages to bytes and back."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.protocol import messages as m
from runner.protocol.codec import MAX_LINE, Decoder, decode_line, encode
from runner.protocol.errors import LocalProtocolError, RemoteProtocolError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.text(), JSON, max_size=3)
TEXT = st.text(max_size=8)
MESSAGES = st.one_of(
    st.builds(m.Ping),
    st.builds(m.Ping, TEXT, OBJECT, OBJECT, st.none() | st.floats(0, 1e13), TEXT, st.booleans(), OBJECT),
    st.builds(m.Monitoring, OBJECT),
    st.builds(m.DescribeSequence, st.lists(JSON, max_size=3)),
    st.builds(m.Error, st.integers(0, 255), TEXT, TEXT, TEXT),
    st.builds(m.Acknowledge, st.booleans(), st.none() | st.floats(0, 999), st.none() | TEXT),
    st.builds(m.SequenceStopped, JSON),
    st.builds(m.Alive, st.floats(0, 1e9)),
    st.builds(m.SequenceCompleted, st.floats(0, 1e9)),
    st.builds(m.Pang, st.none() | TEXT, st.none() | TEXT, st.none() | TEXT, st.none() | TEXT),
    st.builds(m.Pong, st.none() | OBJECT, st.none() | st.lists(JSON, max_size=3)),
    st.builds(m.Stop, st.floats(0, 1e9), st.booleans()),
    st.builds(m.MonitoringRate, st.floats(0.001, 1e6)),
    st.builds(m.Event, st.text(min_size=1, max_size=8), JSON, st.none() | TEXT),
    st.sampled_from([m.Kill(), m.MonitoringReply(), m.Status()]),
    st.builds(m.InputContentType, st.none() | st.booleans()),
    st.builds(m.Reload, st.text(min_size=1, max_size=8)),
    st.builds(m.Reloaded, TEXT),
)


def outcomes(decoder: Decoder) -> list[object]:
    """Everything the decoder has to say: messages, and the text of each error where it stands."""
    found: list[object] = []
    while True:
        try:
            found.append(next(decoder))
        except StopIteration:
            return found
        except RemoteProtocolError as error:
            found.append(str(error))


def decode(chunks: list[bytes], max_line: int = MAX_LINE) -> list[object]:
    decoder, found = Decoder(max_line=max_line), []
    for chunk in chunks:
        decoder.feed(chunk)
        found += outcomes(decoder)
    decoder.end()
    return found + outcomes(decoder)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(
    st.lists(MESSAGES, max_size=5),
    st.sampled_from([b"\n", b"\r\n"]),
    st.lists(st.integers(0, 10_000), max_size=8),
)
def test_what_is_sent_arrives(sent: list[m.Message], line_end: bytes, places: list[int]):
    data = b"".join(encode(message, line_end=line_end) for message in sent)
    assert decode(cut(data, places)) == sent


LINES = st.one_of(
    st.binary(max_size=40),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.tuples(st.sampled_from([*m.VOCABULARY, 0, 9999, 3005, 1.5, True, None, "3000"]), JSON).map(
        lambda pair: json.dumps(list(pair)).encode()
    ),
    st.tuples(
        st.sampled_from(sorted(m.VOCABULARY)),
        st.dictionaries(
            st.sampled_from(
                ["payload", "id", "created", "status", "timeout", "canCallKeepalive", "keepAlive", "requires", "provides",
                 "contentType", "appConfig", "args", "monitoringRate", "eventName", "source", "exitCode", "acknowledged",
                 "path", "error", "definition", "sequenceInfo", "inputHeadersSent", "ports", "outputEncoding", "errorMsg"]
            ),
            JSON,
        ),
    ).map(lambda pair: json.dumps(list(pair)).encode()),
)  # fmt: skip


@given(
    st.lists(LINES, max_size=5).map(b"\n".join),
    st.lists(st.integers(0, 10_000), max_size=8),
    st.integers(1, 60),
)
def test_cuts_never_change_the_outcome_errors_included(data: bytes, places: list[int], max_line: int):
    assert decode(cut(data, places), max_line) == decode([data], max_line)


@given(st.lists(LINES, max_size=5).map(b"\n".join))
def test_any_bytes_give_messages_or_the_documented_error(data: bytes):
    for outcome in decode([data]):
        assert isinstance(outcome, m.Message | str)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"{}", "not an array of code and payload"),
        (b"[4001]", "not an array of code and payload"),
        (b"[4001,{},{}]", "not an array of code and payload"),
        (b"[true,{}]", "the code is not a whole number"),
        (b'["4001",{}]', "the code is not a whole number"),
        (b"[4001,[]]", "the payload is not an object"),
        (b"[4001,{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'[4001,{"timeout":NaN}]', "not JSON"),
        (b'[4001,{"timeout":"soon"}]', "STOP: 'timeout' must be a number, not 'soon'"),
        (b'[4001,{"timeout":true}]', "STOP: 'timeout' must be a number, not True"),
        (b'[4001,{"canCallKeepalive":1}]', "STOP: 'canCallKeepalive' must be true or false, not 1"),
        (b'[4003,{"monitoringRate":0}]', "must be above 0"),
        (b'[5001,{"message":1}]', "'eventName' is missing"),
        (b"[4900,{}]", "RELOAD: 'path' is missing or empty"),
        (b'[4900,{"path":1}]', "RELOAD: 'path' must be a string, not 1"),
        (b'[3900,{"error":true}]', "RELOADED: 'error' must be a string, not True"),
        (b'[3000,{"id":"x"}]', "PING: 'payload' must be an object"),
        (b'[4000,{"args":{}}]', "PONG: 'args' must be an array"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_line_says_what_is_wrong(line: bytes, text: str):
    with pytest.raises(RemoteProtocolError, match=text.replace("(", r"\(")):
        decode_line(line)


def test_a_bad_line_does_not_take_the_good_ones_with_it():
    assert decode([b"[4004,{}]\nnonsense\n\r\n[4002,{}]\n"])[0::2] == [m.MonitoringReply(), m.Kill()]


def test_an_unknown_code_is_a_message_of_its_own():
    assert decode([b'[3999,{"a":1}]\n']) == [m.Unknown(3999, {"a": 1})]


def test_a_line_that_never_ends_is_one_error_and_bounded():
    decoder = Decoder(max_line=10)
    for _ in range(1000):
        decoder.feed(b"x" * 100)
    decoder.feed(b"\n[4002,{}]\n")
    assert outcomes(decoder) == ["a line is longer than 10 bytes", m.Kill()]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_what_is_just_short_enough_to_be_sent_is_short_enough_to_be_read(line_end: bytes):
    message = m.Event("e", "x" * (MAX_LINE - len(encode(m.Event("e", ""), line_end=b""))))
    line = encode(message, line_end=line_end)
    assert len(line) == MAX_LINE + len(line_end)
    assert decode([line]) == decode([line[:-1], line[-1:]]) == [message]


def test_the_end_inside_a_line_is_an_error():
    assert decode([b"[4002,"]) == ["the stream ended inside a line: '[4002,'"]


@pytest.mark.parametrize(
    "message", [m.Event("e", float("nan")), m.Event("e", object()), m.Event("e", "x" * (MAX_LINE + 1))]
)
def test_what_is_no_json_or_too_long_is_not_sent(message: m.Message):
    with pytest.raises(LocalProtocolError):
        encode(message)


def test_falsy_event_messages_are_messages():
    falsy: list[Any] = [0, "", False, [], {}, None]
    data = b"".join(encode(m.Event("e", value)) for value in falsy)
    assert [outcome.message for outcome in decode([data]) if isinstance(outcome, m.Event)] == falsy


def test_the_bytes_are_those_of_the_recordings():
    assert encode(m.Pong({"k": 1}, ["x", 2])) == b'[4000,{"appConfig":{"k":1},"args":["x",2]}]\n'
    assert encode(m.Ping(), line_end=b"\r\n") == b"[3000,{}]\r\n"
    assert encode(m.Pang("", None, "")) == b'[3012,{"requires":"","contentType":""}]\n'
    python_ping = (
        b'[3000, {"payload": {"appConfig": {"k": 1}, "args": ["x", 2], "system": {"processPID": "18295"}}, '
        b'"sequenceInfo": {}, "id": "abc"}]\r\n'
    )
    assert decode([python_ping]) == [
        m.Ping("abc", {"appConfig": {"k": 1}, "args": ["x", 2], "system": {"processPID": "18295"}}, {})
    ]


def test_new_code_is_asked_for_and_answered():
    assert encode(m.Reload("/a/main.py")) == b'[4900,{"path":"/a/main.py"}]\n'
    assert encode(m.Reloaded("SyntaxError"), line_end=b"\r\n") == b'[3900,{"error":"SyntaxError"}]\r\n'
    assert decode([b"[3900,{}]\n"]) == [m.Reloaded("")]


@pytest.mark.parametrize(
    ("payload", "can"),
    [
        (None, False),
        ({}, False),
        ({"system": {"processPID": "1"}}, False),
        ({"system": {"reload": False}}, False),
        ({"system": {"reload": 1}}, False),
        ({"system": [True]}, False),
        ({"system": {"reload": True}}, True),
    ],
)
def test_a_runner_that_takes_new_code_says_so_in_its_ping(payload: Any, can: bool):
    assert m.Ping(payload=payload).can_reload is can
