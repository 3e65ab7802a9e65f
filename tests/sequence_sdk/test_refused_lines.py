"""A line that is no item is told with its number, and the lines around it are items all the same, however the bytes were cut."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.content import DECODERS, ContentType

TEXT, NDJSON = ContentType.TEXT, ContentType.NDJSON


def decode(kind, chunks, *, go_on=True, max_item=64):
    """Return the items, the refused lines, and the failure."""
    told = []

    def refuse(number, line, error):
        told.append((number, line, str(error)))
        return go_on

    decoder = DECODERS[kind](refuse=refuse, max_item=max_item)
    items = [item for chunk in chunks for item in decoder.feed(chunk)] + decoder.end()
    return items, told, decoder.failure


def test_bad_json_is_left_out_and_told():
    items, told, failure = decode(NDJSON, [b'1\n{oops\n\n"b"\n[', b"1"])
    assert items == [1, "b"]
    assert [(number, line) for number, line, _ in told] == [(2, b"{oops"), (5, b"[1")]
    assert told[0][2].startswith("input line 2: not JSON (")
    assert failure is None


def test_bytes_that_are_no_text_are_left_out_and_told():
    items, told, failure = decode(TEXT, [b"a\n\xff\nb\n\xc3", b"\nc\n\xc3"])
    assert items == ["a\n", "b\n", "c\n"]
    assert [(number, line) for number, line, _ in told] == [(2, b"\xff"), (4, b"\xc3"), (6, b"\xc3")]
    assert told[0][2] == "input line 2: byte 0 (0xff) is not UTF-8: '\\xff'"
    assert failure is None


@pytest.mark.parametrize(("kind", "good"), [(TEXT, "1\n"), (NDJSON, 1)])
def test_who_does_not_go_on_has_the_failure_behind_the_items_before(kind, good):
    items, told, failure = decode(kind, [b"1\n\xff\n2\n\xff\n"], go_on=False)
    assert items == [good]
    assert [number for number, _, _ in told] == [2]
    assert str(failure) == told[0][2]


def test_a_line_that_is_too_long_is_a_failure_whoever_would_go_on():
    items, told, failure = decode(NDJSON, [b"1\n" + b"2" * 65 + b"\n3\n"])
    assert items == [1]
    assert told == []
    assert "longer than 64 bytes" in str(failure)


LINES = st.lists(st.sampled_from([b"1", b'{"a":2}', b"", b"\xff", b"{", b"nul", b'"\xc3\xa9"']), max_size=12)


@given(
    kind=st.sampled_from([TEXT, NDJSON]),
    lines=LINES,
    cuts=st.lists(st.integers(0, 60), max_size=6),
    ends=st.booleans(),
)
def test_cuts_never_change_what_is_refused(kind, lines, cuts, ends):
    block = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    places = [0, *sorted(min(cut, len(block)) for cut in cuts), len(block)]
    chunks = [block[start:end] for start, end in itertools.pairwise(places)]
    items, told, failure = decode(kind, chunks)
    assert (items, told, failure) == decode(kind, [block])
    assert failure is None
    numbers = [number for number, _, _ in told]
    assert numbers == sorted(set(numbers))
    for number, line, _ in told:
        assert lines[number - 1] == line
    good = [line for number, line in enumerate(lines, 1) if number not in numbers]
    if kind is NDJSON:
        assert items == [json.loads(line) for line in good if line]
    else:
        assert "".join(items).encode().split(b"\n")[: len(items)] == good[: len(items)]


PIECES = st.sampled_from(
    [b"{", b"}", b"\n", b'"', b",", b"[", b"]", b":", b"1", b'"a":1', b'{"a":1}', b'{"a":"x}\n{y"}', b" "]
)


@given(pieces=st.lists(PIECES, max_size=20))
def test_whatever_lines_hold_each_is_an_item_or_refused_by_itself(pieces):
    block = b"".join(pieces)
    wanted, wrong = [], []
    for number, line in enumerate(block.split(b"\n"), 1):
        if line.strip():
            try:
                wanted.append(json.loads(line))
            except ValueError:
                wrong.append(number)
    items, told, _ = decode(NDJSON, [block], max_item=1000)
    assert items == wanted
    assert [number for number, _, _ in told] == wrong


def test_a_string_over_two_lines_is_no_item_whatever_the_braces_say():
    items, told, _ = decode(NDJSON, [b'{"a":"x}\n{y"}\n'])
    assert items == []
    assert [number for number, _, _ in told] == [1, 2]
