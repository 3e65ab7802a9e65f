"""The prologue of the input channel."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.protocol.errors import LocalProtocolError, RemoteProtocolError
from runner.protocol.input_header import MAX_HEADER, InputHeaderDecoder, encode_input_header


def decode(chunks: list[bytes]) -> object:
    decoder = InputHeaderDecoder()
    for index, chunk in enumerate(chunks):
        try:
            result = decoder.feed(chunk)
        except RemoteProtocolError as error:
            return str(error)
        if result:
            return result[0], result[1] + b"".join(chunks[index + 1 :])
    try:
        decoder.end()
    except RemoteProtocolError as error:
        return str(error)
    return None


def cuts(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.binary(max_size=60), st.lists(st.integers(0, 120), max_size=6))
def test_binary_data_after_the_header_is_untouched_however_it_is_cut(data: bytes, places: list[int]):
    wire = encode_input_header("application/octet-stream") + data
    assert decode(cuts(wire, places)) == ({"content-type": "application/octet-stream"}, data)


HEADERISH = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b": ", b":", b"a", b"Content-Type", b"\xff", b"text/plain"]),
    max_size=14,
)


@given(HEADERISH.map(b"".join) | st.binary(max_size=60), st.lists(st.integers(0, 80), max_size=6))
def test_cuts_never_change_the_outcome_errors_included(data: bytes, places: list[int]):
    assert decode(cuts(data, places)) == decode([data])


def test_names_are_lower_case_and_several_headers_are_read():
    assert decode([b"CONTENT-TYPE: text/plain\r\nX-Other:1\r\n\r\nhi"]) == (
        {"content-type": "text/plain", "x-other": "1"},
        b"hi",
    )


def test_a_header_without_end_is_an_error_and_bounded():
    assert decode([b"a" * (MAX_HEADER + 100)]) == f"the input header is longer than {MAX_HEADER} bytes"
    assert decode([b"Content-Type: text/plain\r\n"]) == "the input ended inside its header, after 26 bytes"


@given(st.integers(MAX_HEADER - 8, MAX_HEADER + 8), st.integers(0, MAX_HEADER + 20))
def test_the_limit_stands_at_one_place_whatever_the_cut(length: int, place: int):
    data = b"a:" + b"b" * (length - 2) + b"\r\n\r\n"
    assert decode([data[:place], data[place:]]) == decode([data])
    assert isinstance(decode([data]), str) == (length > MAX_HEADER)


def test_an_empty_input_has_no_header_and_no_error():
    assert decode([]) is None


def test_a_line_that_is_no_header_is_shown():
    assert "no header: 'nonsense'" in str(decode([b"nonsense\r\n\r\n"]))


@pytest.mark.parametrize("bad", ["text/plain\r\nX: y", "text/plain\n", "\u20ac", "a\x00b"])
def test_a_header_cannot_be_forged(bad: str):
    with pytest.raises(LocalProtocolError):
        encode_input_header(bad)
