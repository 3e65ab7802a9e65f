"""The list of hashes: what is written is read, and nothing else is."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.pack.sums import decode_sums, encode_sums

DIGEST = "ab" * 32
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: not name.startswith("./")  # no name in a package does
)
HASHES = st.dictionaries(NAMES, st.binary().map(lambda content: hashlib.sha256(content).hexdigest()))


@given(HASHES)
def test_what_is_written_is_read(hashes):
    assert decode_sums(encode_sums(hashes)) == hashes


@given(HASHES, st.data())
def test_a_list_with_a_byte_changed_is_another_list_or_none(hashes, data):
    text = bytearray(encode_sums({**hashes, "package.json": DIGEST}))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_sums(bytes(text))
    except ValueError:
        return
    assert decoded != {**hashes, "package.json": DIGEST}


def test_lines_are_sorted_and_names_are_spelled_as_sha256sum_does():
    names = ["b", "a", "ą", "-", "new\nline", "back\\slash"]
    assert encode_sums(dict.fromkeys(names, DIGEST)).decode() == (
        f"{DIGEST}  ./-\n{DIGEST}  a\n{DIGEST}  b\n"
        f"\\{DIGEST}  back\\\\slash\n\\{DIGEST}  new\\nline\n{DIGEST}  ą\n"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{DIGEST}  a", "sorted"),
        (f"{DIGEST}  b\n{DIGEST}  a\n", "sorted"),
        (f"{DIGEST}  a\n{DIGEST}  a\n", "sorted"),
        (f"{DIGEST}  ./a\n", "sorted"),
        (f"\\{DIGEST}  a\n", "sorted"),
        (f"{DIGEST}  a\nnothing\n", "line 2"),
        (f"{DIGEST.upper()}  a\n", "line 1"),
        (f"{DIGEST} *a\n", "line 1"),
        ("\n", "line 1"),
    ],
)
def test_another_spelling_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        decode_sums(text.encode())


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(ValueError, match="utf-8"):
        decode_sums(f"{DIGEST}  ".encode() + b"\xff\n")
