"""HTTP/1.1 as a client speaks it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.http1 import AnswerDecoder, Head, HttpError, encode_chunk, encode_head

BODY = st.lists(st.binary(min_size=1, max_size=20), max_size=5)
CUTS = st.lists(st.integers(0, 400), max_size=8)


def decode(data, places=(), *, ended=True, **limits):
    """Return the head, the body and the error of bytes that come in pieces."""
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    decoder, body, error = AnswerDecoder(**limits), b"", None
    for start, end in itertools.pairwise(edges):
        decoder.feed(data[start:end])
        got, error = take(decoder)
        body += got
    if ended:
        decoder.end()
        got, error = take(decoder)
        body += got
    assert take(decoder) == (b"", error), "a decoder says the same again"
    assert decoder.complete == (ended and error is None) or not ended
    return decoder.head, body, error


def take(decoder):
    body = b""
    try:
        for piece in decoder:
            assert piece
            body += piece
    except HttpError as error:
        return body, str(error)
    return body, None


@given(BODY, CUTS)
def test_a_chunked_body_arrives_however_it_is_cut(chunks, places):
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
        map(encode_chunk, [*chunks, b""])
    )
    head, body, error = decode(data, places)
    assert (head.status, head.reason, body, error) == (200, "OK", b"".join(chunks), None)


@given(st.binary(max_size=60), CUTS, st.booleans())
def test_a_body_of_known_length_and_one_until_the_end_arrive(content, places, known):
    length = f"Content-Length: {len(content)}\r\n" if known else ""
    head, body, error = decode(f"HTTP/1.1 404 Not found\r\n{length}\r\n".encode() + content, places)
    assert (head.status, head.reason, body, error) == (404, "Not found", content, None)


TOKENS = st.sampled_from(
    [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1", b"\r\n", b"\r\n\r\n", b"Content-Length: 3\r\n",
     b"Content-Length: x", b"Transfer-Encoding: chunked\r\n", b"3\r\n", b"0\r\n", b"zz", b"abc", b"abc\r\n", b":", b" "]
)  # fmt: skip


@given(st.lists(TOKENS, max_size=12).map(b"".join) | st.binary(max_size=60), CUTS, st.booleans())
def test_cuts_never_change_the_outcome_errors_included(data, places, ended):
    limits = {"max_head": 50, "max_line": 8}
    assert decode(data, places, ended=ended, **limits) == decode(data, ended=ended, **limits)


@given(
    st.sampled_from([b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]),
    st.lists(TOKENS, max_size=12).map(b"".join),
    CUTS,
)
def test_cuts_never_change_the_outcome_inside_a_body(head, data, places):
    assert decode(head + data, places, max_line=8) == decode(head + data, max_line=8)


@pytest.mark.parametrize("size", range(46, 54))
def test_the_limit_of_a_head_does_not_depend_on_cuts(size):
    data = b"HTTP/1.1 200 " + b"x" * (size - 13) + b"\r\n\r\n"
    outcomes = {decode(data, [place], max_head=50)[2] for place in range(len(data))}
    assert outcomes == {None if size <= 50 else "the head of the answer is longer than 50 bytes"}


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "body", "text"),
    [
        (b"SSH-2.0\r\n\r\n", b"", "not the first line"),
        (b"HTTP/1.1 20 OK\r\n\r\n", b"", "not the first line"),
        (b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", b"", "not a header"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"", "not a length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"", "not a length"),
        (CHUNKED + b"-1\r\n", b"", "not the size"),
        (CHUNKED + b"\r\n", b"", "not the size"),
        (CHUNKED + b"1\r\nab\r\n", b"a", "a chunk does not end"),
        (CHUNKED + b"2\r\nab\r\n" + b"1" * 2000, b"ab", "the line before a chunk is longer than 1024"),
        (CHUNKED + b"0\r\n" + b"a" * 2000, b"", "a line of the trailer is longer than 1024"),
        (CHUNKED + b"2\r\nab\r\n", b"ab", "ended before it was complete"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", b"abc", "ended before it was complete"),
        (b"HTTP/1.1 200", b"", "ended before it was complete"),
        (b"a" * 70_000, b"", "longer than 65536 bytes"),
    ],
)
def test_what_is_no_answer_is_said_to_be_none_after_what_came_before(data, body, text):
    _, got, error = decode(data)
    assert got == body
    assert text in error


def test_100_continue_is_passed_over():
    head, body, error = decode(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    assert (head.status, body, error) == (200, b"x", None)


@pytest.mark.parametrize("code", [b"204", b"304"])
def test_some_answers_have_no_body(code):
    head, body, error = decode(b"HTTP/1.1 " + code + b"\r\n\r\nmore")
    assert (head.status, head.reason, body, error) == (int(code), "", b"", None)


def test_a_trailer_and_what_comes_after_the_answer_are_nothing():
    head, body, error = decode(CHUNKED + b"1;x=y\r\na\r\n0\r\nT: v\r\n\r\nHTTP/1.1 500 no\r\n\r\n")
    assert (head.status, body, error) == (200, b"a", None)


def test_names_of_headers_are_in_lower_case():
    head, _, _ = decode(b"HTTP/1.0 200 OK\r\nX-Stream-Offset:  7 \r\n\r\n")
    assert head == Head(200, "OK", {"x-stream-offset": "7"})


def test_a_request_has_its_headers_in_order():
    head = encode_head("GET", "/api/v1/version", {"Host": "scramjet-host", "Connection": "close"})
    assert head == b"GET /api/v1/version HTTP/1.1\r\nHost: scramjet-host\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/a\r\nX: y", {}), ("/", {"a": "b\nc: d"}), ("/", {"a\r": "b"}), ("/a b", {}), ("/", {"a": "☃"})],
)
def test_a_head_cannot_be_forged(path, headers):
    with pytest.raises(ValueError, match=r"line break|space|codec"):
        encode_head("GET", path, headers)
