"""The hello and the prologue of the input, and log records."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.protocol.channels import Channel
from runner.protocol.errors import LocalProtocolError, RemoteProtocolError
from runner.protocol.hello import HELLO_LENGTH, Hello, HelloDecoder, encode_hello, is_instance_id

ID = "0b4f2a1c-7d1e-4a63-9a55-0e2f9c3d7b88"
IDS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/\\"), min_size=36, max_size=36
)


def decode(chunks: list[bytes]) -> object:
    decoder = HelloDecoder()
    for index, chunk in enumerate(chunks):
        try:
            result = decoder.feed(chunk)
        except RemoteProtocolError as error:
            return str(error)
        if result:
            hello, rest = result
            return hello, rest + b"".join(chunks[index + 1 :])
    return None


@given(IDS, st.sampled_from(Channel), st.binary(max_size=50), st.lists(st.integers(0, 90), max_size=5))
def test_what_is_sent_arrives_however_it_is_cut(
    instance_id: str, channel: Channel, rest: bytes, places: list[int]
):
    data = encode_hello(instance_id, channel) + rest
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    chunks = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert decode(chunks) == (Hello(instance_id, channel), rest)


@given(st.binary(max_size=80), st.integers(0, 80))
def test_any_bytes_give_a_hello_or_the_documented_error_whatever_the_cut(data: bytes, place: int):
    whole = decode([data])
    assert decode([data[:place], data[place:]]) == whole
    assert (whole is None) == (len(data) < HELLO_LENGTH)


def test_a_hello_is_37_bytes():
    assert encode_hello(ID, Channel.LOG) == ID.encode() + b"7"


@pytest.mark.parametrize("digit", [b"9", b"x", b"\x00", b"/", b":", b"\xff"])
def test_a_bad_channel_digit_is_refused_by_name(digit: bytes):
    assert f"hello of {ID}" in str(decode([ID.encode() + digit]))


@pytest.mark.parametrize("bad", ["short", "x" * 37, "é" * 36, "a b" * 12, "../" * 12, "", 36 * "\n"])
def test_what_is_no_id_is_not_sent(bad: str):
    assert not is_instance_id(bad)
    with pytest.raises(LocalProtocolError):
        encode_hello(bad, Channel.IN)
