"""Bytes become items and items bytes: whatever the cuts, and whichever JSON library there is."""

import contextlib
import dataclasses
import datetime as dt
import enum
import itertools
import json
import math
import subprocess
import sys
import uuid
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk import BadInput, BadOutput, ContentType, UnsupportedContentType
from sequence_sdk.content import (
    DECODERS,
    ENCODERS,
    MAX_ITEM,
    bad_output,
    block_encoder,
    decode_all,
    json_functions,
)

TEXT, NDJSON, OCTETS = ContentType.TEXT, ContentType.NDJSON, ContentType.OCTETS
ENGINES = ["orjson", "json"]


@contextlib.contextmanager
def using(engine):
    """Let json_functions find orjson or not."""
    with pytest.MonkeyPatch.context() as patch:
        if engine == "json":
            patch.setitem(sys.modules, "orjson", None)
        yield


@pytest.fixture(params=ENGINES)
def engine(request):
    with using(request.param):
        yield request.param


def outcome(kind, chunks, max_item=MAX_ITEM):
    """Return all items and the failure behind them, as values that compare."""
    decoder = DECODERS[kind](max_item=max_item)
    items = [item for chunk in chunks for item in decoder.feed(chunk)]
    items += decoder.end()
    failure = decoder.failure
    return items, failure and (type(failure), failure.args, str(failure))


def cut(stream, places):
    """Return the stream in pieces, some of them empty."""
    borders = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(borders)]


def one_by_one(stream):
    return [stream[place : place + 1] for place in range(len(stream))]


PIECES = [
    b"\n", b"\n", b"\r\n", b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\x00", b" ", b"\t", b"\n\n", b"\\",
    "é".encode(), "\u2028".encode(), "\u20ac".encode(), "🙂".encode(), "\ufeff".encode(), b"\xff", b"\xe2\x82",
    b"\xf0\x9f", b"\xed\xa0\x80", b'{"a":1}', b"[1,2]", b'"x"', b"1", b"-0.5", b"null", b"NaN", b"[[", b"]]",
    b'{"a"', b'"\\u00e9"', b"true\n", b"{}\n", b'"\xc3\xa9"\n',
]  # fmt: skip
STREAMS = st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=12).map(b"".join)
PLACES = st.lists(st.integers(0, 200), max_size=8)
LIMITS = st.sampled_from([1, 3, 8, MAX_ITEM])


# Content types


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("text/plain", TEXT),
        ("TEXT/Plain; charset=UTF-8", TEXT),
        (" text/plain ;x=y", TEXT),
        ("application/x-ndjson", NDJSON),
        ("text/x-ndjson", NDJSON),
        ("Application/X-NDJSON;charset=utf-8", NDJSON),
        ("application/octet-stream", OCTETS),
    ],
)
def test_a_content_type_is_known_whatever_its_case_and_parameters(written, kind):
    assert ContentType.parse(written) is kind


@pytest.mark.parametrize(
    "written", ["", ";", "text", "text/html", "application/json", "x-ndjson/x", "a;x-ndjson"]
)
def test_another_content_type_is_refused_with_those_that_are_known(written):
    with pytest.raises(UnsupportedContentType) as caught:
        ContentType.parse(written)
    assert caught.value.value == written
    assert repr(written) in str(caught.value)
    assert "use text/plain, application/x-ndjson, text/x-ndjson or application/octet-stream" in str(
        caught.value
    )


# Cuts


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [TEXT, NDJSON])
@given(stream=STREAMS, places=PLACES, max_item=LIMITS)
def test_cuts_never_change_the_outcome_errors_included(engine, kind, stream, places, max_item):
    with using(engine):
        whole = outcome(kind, [stream], max_item)
        assert outcome(kind, cut(stream, places), max_item) == whole
        assert outcome(kind, one_by_one(stream), max_item) == whole


@given(stream=STREAMS, places=PLACES)
def test_octets_are_given_as_they_come_and_none_is_lost(stream, places):
    items, failure = outcome(OCTETS, cut(stream, places))
    assert failure is None
    assert b"".join(items) == stream
    assert b"" not in items
    assert decode_all(OCTETS, [stream]) == ([stream] if stream else [])


def by_hand(kind, stream, max_item):
    """Decode line by line in the plainest way; return the items and the number of the line that fails, or None."""
    items = []
    *ended, last = stream.split(b"\n")
    for number, (line, line_end) in enumerate([*((line, "\n") for line in ended), (last, "")], 1):
        if len(line) > max_item:
            return items, number
        if not line and not line_end:
            break
        try:
            text = line.decode("utf-8")
            if kind is TEXT:
                items.append(text + line_end)
            elif line.strip():
                items.append(orjson.loads(line))
        except ValueError:
            return items, number
    return items, None


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [TEXT, NDJSON])
@given(stream=STREAMS, max_item=LIMITS)
def test_lines_are_decoded_as_one_would_by_hand(engine, kind, stream, max_item):
    with using(engine):
        items, failure = outcome(kind, [stream], max_item)
    expected, line = by_hand(kind, stream, max_item)
    assert items == expected
    assert (failure and failure[1][0]) == line


@pytest.mark.parametrize("character", ["é", "€", "🙂"])
def test_a_character_may_be_cut_anywhere(character):
    stream = f"a{character}\n{character}".encode()
    for place in range(len(stream) + 1):
        assert decode_all(TEXT, [stream[:place], stream[place:]]) == [f"a{character}\n", character]


# Lines of text


@pytest.mark.parametrize(
    "inside", ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\x00"]
)
def test_only_a_line_feed_ends_a_line(inside):
    assert decode_all(TEXT, [f"a{inside}b\nc".encode()]) == [f"a{inside}b\n", "c"]


def test_a_carriage_return_stays_in_front_of_its_line_feed():
    assert decode_all(TEXT, [b"a\r", b"\nb\r\n", b"\r\n"]) == ["a\r\n", "b\r\n", "\r\n"]


def test_blank_lines_are_lines_of_text():
    assert decode_all(TEXT, [b"\n\na\n\n"]) == ["\n", "\n", "a\n", "\n"]


@pytest.mark.parametrize(
    ("stream", "items"), [(b"", []), (b"a", ["a"]), (b"a\nb", ["a\n", "b"]), (b"a\n", ["a\n"])]
)
def test_the_last_line_of_text_needs_no_line_end(stream, items):
    assert decode_all(TEXT, [stream]) == items


@pytest.mark.parametrize(
    ("stream", "line", "message"),
    [
        (b"\xff", 1, r"input line 1: byte 0 (0xff) is not UTF-8: '\xff'"),
        (b"ok\ncaf\xe9!\nok\n", 2, r"input line 2: byte 3 (0xe9) is not UTF-8: 'caf\xe9!'"),
        (b"a\n\nb\n\xe2\x82\n", 4, r"input line 4: byte 0 (0xe2) is not UTF-8: '\xe2\x82'"),
        (b"a\n\xc3\xa9\xf0\x9f", 2, r"input line 2: byte 2 (0xf0) is not UTF-8: 'é\xf0\x9f'"),
        (b"\t'\\\xff\r\n", 1, r'''input line 1: byte 3 (0xff) is not UTF-8: "\t'\\xff\r"'''),
    ],
)
def test_bytes_that_are_no_utf8_are_shown_with_their_line_and_place(stream, line, message):
    decoder = DECODERS[TEXT]()
    for chunk in one_by_one(stream):
        decoder.feed(chunk)
    decoder.end()
    assert isinstance(decoder.failure, BadInput)
    assert decoder.failure.line == line
    assert str(decoder.failure) == message


@pytest.mark.parametrize(("character", "length"), [("a", 100), ("é", 100), ("🙂", 61), ("🙂", 100)])
def test_a_long_bad_line_is_shown_by_its_beginning_in_whole_characters(character, length):
    with pytest.raises(BadInput) as caught:
        decode_all(TEXT, [(character * length).encode() + b"\xff\n"])
    assert caught.value.shown == f"'{character * 60}'..."


def test_a_bad_line_of_exactly_the_shown_length_is_shown_as_whole():
    with pytest.raises(BadInput) as caught:
        decode_all(TEXT, ["🙂".encode() * 59 + b"\xf0\x9f\x99\n"])
    assert caught.value.shown.endswith("...")  # a byte that is no text takes four characters
    with pytest.raises(BadInput) as caught:
        decode_all(TEXT, ["🙂".encode() * 56 + b"\xff\n"])
    assert caught.value.shown == "'" + "🙂" * 56 + r"\xff'"


# JSON lines


def test_json_lines_are_values_and_blank_lines_are_nothing(engine):
    stream = b'{"a":1}\r\n\n  \t\r\n[1, 2]\n"\xe2\x80\xa8"\n\nnull\nfalse\n0\n""\n \x0b \n 1.5 '
    assert decode_all(NDJSON, [stream]) == [{"a": 1}, [1, 2], "\u2028", None, False, 0, "", 1.5]


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"]", b"nul", b"'a'", b"1 2", b'{"a":1}{"b":2}', b"NaN", b"Infinity", b"-Infinity", b"[NaN]", b"01", b"+1",
        b'"a', b'"\x01"', b"\xff", b'"\xff"', b"\xef\xbb\xbf1", b"1\x000\x00", b"\x001", b'"\xed\xa0\x80"', b"{1:2}",
        b"[1,]", b"1" * 5000, b"\xa0",
    ],
)  # fmt: skip
def test_a_line_that_is_no_json_fails_behind_the_values_before_it(engine, line):
    decoder = DECODERS[NDJSON]()
    assert decoder.feed(b"1\n\n2\n") == [1, 2]
    assert decoder.feed(b"\n3\n" + line + b"\n4\n") == [3]
    failure = decoder.failure
    assert isinstance(failure, BadInput)
    assert failure.line == 6
    assert str(failure).startswith("input line 6: not JSON (")
    assert "line 1 column" not in str(failure)
    assert decoder.feed(b"5\n") == []
    assert decoder.feed(b"6") == []
    assert decoder.end() == []
    assert decoder.failure is failure


@given(
    lines=st.lists(
        st.sampled_from(
            [
                b"1",
                b"2,3",
                b"[4",
                b"5]",
                b'{"x":[{}',
                b"{}]}",
                b'"a',
                b'b"',
                b"",
                b'{"a":1},{"b":2}',
                b"1,null,2",
                b"\r",
            ]
        ),
        max_size=6,
    )
)
@pytest.mark.parametrize("engine", ENGINES)
def test_lines_that_make_json_only_together_are_no_items(engine, lines):
    with using(engine):
        items, failure = outcome(NDJSON, [b"\n".join(lines)], MAX_ITEM)
    expected, line = by_hand(NDJSON, b"\n".join(lines), MAX_ITEM)
    assert items == expected
    assert (failure and failure[1][0]) == line


@pytest.mark.parametrize(
    "lines", [[b"[1", b"2]", b"3,4"], [b'{"x":[{}', b"{}]}", b"1,null,2"], [b"[1", b"2]", b"3,4,5"]]
)
def test_as_many_values_as_lines_do_not_make_the_lines_json(engine, lines):
    decoder = DECODERS[NDJSON]()
    assert decoder.feed(b"0\n" + b"\n".join(lines) + b"\n") == [0]
    assert decoder.failure is not None
    assert decoder.failure.line == 2


def test_the_last_json_line_may_fail_too(engine):
    decoder = DECODERS[NDJSON]()
    assert decoder.feed(b"1\n\n{") == [1]
    assert decoder.failure is None
    assert decoder.end() == []
    assert decoder.failure.line == 3
    assert decoder.end() == []


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_a_bad_line_and_no_crash(engine, opening):
    with pytest.raises(BadInput, match="input line 2: not JSON") as caught:
        decode_all(NDJSON, [b"1\n" + opening * 100_000 + b"\n2\n"])
    assert len(str(caught.value)) < 300


def test_integers_of_64_bits_are_exact(engine):
    assert decode_all(NDJSON, [b"18446744073709551615\n-9223372036854775808\n"]) == [2**64 - 1, -(2**63)]


def test_larger_integers_keep_their_size(engine):
    [number] = decode_all(NDJSON, [b"123456789012345678901234567890"])
    assert number == pytest.approx(123456789012345678901234567890)


def test_decoding_a_whole_stream_raises_its_failure():
    with pytest.raises(BadInput, match="input line 2"):
        decode_all(NDJSON, [b"1\n", b"x", b"\n"])


# The longest line


@pytest.mark.parametrize("kind", [TEXT, NDJSON])
@pytest.mark.parametrize("line_end", [b"", b"\n"])
def test_a_line_may_be_as_long_as_the_limit_without_its_line_end(kind, line_end):
    items, failure = outcome(kind, [b"1\n", b"11", b"111" + line_end], max_item=5)
    assert failure is None
    assert items == (["1\n", "11111" + line_end.decode()] if kind is TEXT else [1, 11111])


@pytest.mark.parametrize("kind", [TEXT, NDJSON])
@pytest.mark.parametrize(
    "chunks",
    [
        [b"1\n2\n333333\n4\n"],
        [b"1\n2\n333333"],
        [b"1\n", b"2\n3", b"33333", b"3\n"],
        [b"1\n2\n33333", b"3\n4\n"],
        [b"1\n2\n33333", b"3"],
    ],
)
def test_a_longer_line_fails_however_it_comes(kind, chunks):
    items, (_, (line, *_), message) = outcome(kind, chunks, max_item=5)
    assert items == (["1\n", "2\n"] if kind is TEXT else [1, 2])
    assert line == 3
    assert message == "input line 3: the line is longer than 5 bytes: '33333'..."


def test_a_bad_line_before_a_long_one_is_told_first():
    _, (_, (line, *_), message) = outcome(NDJSON, [b"1\nx\n333333\n"], max_item=5)
    assert line == 2
    assert "not JSON" in message


def test_a_line_without_end_fails_as_soon_as_it_is_too_long():
    decoder = DECODERS[TEXT](max_item=1000)
    fed = 0
    while decoder.failure is None:
        decoder.feed(b"x" * 10)
        fed += 10
    assert fed == 1010
    assert str(decoder.failure) == f"input line 1: the line is longer than 1000 bytes: '{'x' * 60}'..."
    assert decoder.end() == []


def test_many_short_lines_may_be_longer_than_the_limit_together():
    assert outcome(TEXT, [b"abc\n" * 100], max_item=5) == (["abc\n"] * 100, None)


# Round trips

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("reader", ENGINES)
@pytest.mark.parametrize("writer", ENGINES)
@given(values=st.lists(VALUES, max_size=5), places=PLACES)
def test_json_values_that_are_sent_arrive(writer, reader, values, places):
    with using(writer):
        encode = ENCODERS[NDJSON]()
        stream = b"".join(map(encode, values))
    assert stream.count(b"\n") == len(values)
    with using(reader):
        assert decode_all(NDJSON, cut(stream, places)) == values


@given(items=st.lists(st.text() | st.just("line\n")), places=PLACES)
def test_text_that_is_sent_arrives(items, places):
    encode = ENCODERS[TEXT]()
    lines = decode_all(TEXT, cut(b"".join(map(encode, items)), places))
    assert "".join(lines) == "".join(items)
    assert all(line.index("\n") == len(line) - 1 for line in lines[:-1])


@given(st.lists(st.binary()))
def test_octets_that_are_sent_arrive(items):
    encode = ENCODERS[OCTETS]()
    assert b"".join(decode_all(OCTETS, map(encode, items))) == b"".join(items)


@given(VALUES)
def test_values_written_for_somebody_else_are_as_the_encoder_writes_them(value):
    for library in ENGINES:
        with using(library):
            _, dumps = json_functions()
            assert dumps(value) + b"\n" == ENCODERS[NDJSON]()(value)


@pytest.mark.parametrize("value", [10**30, {1: [None]}])
def test_what_orjson_does_not_write_the_standard_library_does(engine, value):
    _, dumps = json_functions()
    assert (
        dumps(value) + b"\n"
        == ENCODERS[NDJSON]()(value)
        == json.dumps(value, separators=(",", ":")).encode() + b"\n"
    )


@pytest.mark.parametrize("library", ENGINES)
@given(values=st.lists(VALUES, min_size=1, max_size=5))
def test_a_block_of_json_has_the_bytes_of_its_items(library, values):
    with using(library):
        encode, (quick, line_end) = ENCODERS[NDJSON](), block_encoder(NDJSON)
        whole = b"".join(map(encode, values))
        assert line_end.join([*(in_block(quick, encode, line_end, value) for value in values), b""]) == whole


def in_block(quick, encode, line_end, value):
    try:
        return quick(value)
    except TypeError:  # an integer beyond 64 bits, to orjson
        return encode(value).removesuffix(line_end)


@pytest.mark.parametrize(("kind", "item", "written"), [(TEXT, "a", b"a"), (OCTETS, bytearray(b"a"), b"a")])
def test_a_block_of_text_or_octets_has_no_line_ends_of_ours(kind, item, written):
    encode, line_end = block_encoder(kind)
    assert encode(item) == written
    assert line_end == b""


@given(st.lists(VALUES, max_size=3))
def test_both_json_libraries_read_the_same(values):
    stream = b"".join(json.dumps(value).encode() + b"\n" for value in values)
    outcomes = []
    for engine in ENGINES:
        with using(engine):
            outcomes.append(outcome(NDJSON, [stream]))
    assert outcomes[0] == outcomes[1] == (values, None)


# Encoders


@dataclasses.dataclass
class Reading:
    place: str
    value: float
    _cache: int = 0


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 1


class Point(NamedTuple):
    x: int
    y: int


class Loud(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("item", "line"),
    [
        ({"a": [1, 2.5, None, True, "é\n\u2028"]}, '{"a":[1,2.5,null,true,"é\\n\u2028"]}'),
        (2**70, str(2**70)),
        ([-(2**64)], f"[{-(2**64)}]"),
        ({1: "a", 2.5: "b", None: "c"}, '{"1":"a","2.5":"b","null":"c"}'),
        ({True: "d"}, '{"true":"d"}'),
        ({1: {2**70: 2**70}}, f'{{"1":{{"{2**70}":{2**70}}}}}'),
        (math.nan, "null"),
        ({math.nan: 1}, '{"NaN":1}'),
        ([math.inf, -math.inf, {"a": math.nan}], '[null,null,{"a":null}]'),
        ({1: math.nan, "deep": [[math.inf, 2**70]]}, f'{{"1":null,"deep":[[null,{2**70}]]}}'),
        (Reading("here", 1.5), '{"place":"here","value":1.5}'),
        ([Reading("nowhere", math.nan), 2**64], f'[{{"place":"nowhere","value":null}},{2**64}]'),
        (Colour.RED, '"red"'),
        (Size.SMALL, "1"),
        (dt.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=dt.UTC), '"2024-02-29T12:30:01.000005+00:00"'),
        (dt.datetime(2024, 2, 29), '"2024-02-29T00:00:00"'),  # noqa: DTZ001 - as authors write it
        (dt.date(2024, 2, 29), '"2024-02-29"'),
        (dt.time(1, 2, 3), '"01:02:03"'),
        (dt.time(1, 2, tzinfo=dt.UTC), '"01:02:00+00:00"'),
        (uuid.UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
        (Point(1, 2), "[1,2]"),
        ((), "[]"),
        (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        (Loud("hey"), '"hey"'),
        (None, "null"),
        ("", '""'),
        (0, "0"),
    ],
)
def test_both_json_libraries_write_the_same_line(engine, item, line):
    assert ENCODERS[NDJSON]()(item) == line.encode() + b"\n"


class Opaque:
    pass


@pytest.mark.parametrize(
    "item", [b"bytes", {1, 2}, Opaque(), Opaque, Reading, 1j, {(1, 2): 3}, range(3), iter([])]
)
def test_what_has_no_json_is_refused_with_a_way_out(engine, item):
    with pytest.raises(
        TypeError, match=r"application/x-ndjson takes JSON values: .*; convert it, or declare"
    ):
        ENCODERS[NDJSON]()([item])


def nested(depth):
    item = []
    for _ in range(depth):
        item = [item]
    return item


def circle():
    item = []
    item.append(item)
    return item


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (nested(100_000), "nested too deep"),
        (circle(), "Circular reference"),
        ("\ud800", "surrogates not allowed"),
        ({"a": ["\udfff"]}, "surrogates not allowed"),
        (10**5000, "Exceeds the limit"),
        ([{"a": -(10**5000)}], "Exceeds the limit"),
    ],
    ids=["deep", "circle", "surrogate", "surrogate inside", "digits", "digits inside"],
)
def test_what_cannot_be_written_is_an_error_that_can_be_shown(engine, item, problem):
    encode = ENCODERS[NDJSON]()
    with pytest.raises(ValueError, match=problem) as caught:
        encode(item)
    shown = str(bad_output(3, caught.value, item))
    assert shown.startswith("output item 3: ")
    assert len(shown) < 250


def test_nesting_that_is_only_deep_arrives(engine):
    item = nested(300)
    assert decode_all(NDJSON, [ENCODERS[NDJSON]()(item)]) == [item]


@pytest.mark.parametrize(
    ("item", "written"),
    [
        ("é\n", "é\n".encode()),
        ("no line end", b"no line end"),
        ("", b""),
        (b"\xff\x00", b"\xff\x00"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
    ],
)
def test_text_takes_strings_and_bytes_as_they_are(item, written):
    assert ENCODERS[TEXT]()(item) == written


@pytest.mark.parametrize("item", [0, None, ["a"], {"a": 1}, 1.5])
def test_text_refuses_anything_else_with_a_way_out(item):
    name = type(item).__name__
    with pytest.raises(TypeError, match=rf'text/plain takes str, not {name}; .*gives="application/x-ndjson"'):
        ENCODERS[TEXT]()(item)


def test_text_without_utf8_is_refused():
    with pytest.raises(ValueError, match="surrogates not allowed"):
        ENCODERS[TEXT]()("\ud800")


@pytest.mark.parametrize("item", [b"", b"ab", bytearray(b"ab"), memoryview(b"ab")])
def test_octets_take_bytes_of_every_kind(item):
    written = ENCODERS[OCTETS]()(item)
    assert written == bytes(item)
    assert type(written) is bytes


def test_octets_that_change_later_are_written_as_they_were():
    item = bytearray(b"ab")
    written = ENCODERS[OCTETS]()(item)
    item[0] = 0
    assert written == b"ab"


@pytest.mark.parametrize("item", ["text", 0, None, [1]])
def test_octets_refuse_anything_else_with_a_way_out(item):
    name = type(item).__name__
    with pytest.raises(
        TypeError, match=rf'application/octet-stream takes bytes, not {name}; .*gives="text/plain"'
    ):
        ENCODERS[OCTETS]()(item)


# The error for an item


def test_a_bad_item_is_shown_with_its_number_and_the_problem():
    error = bad_output(7, TypeError("text/plain takes str, not int"), 5)
    assert isinstance(error, BadOutput)
    assert (error.number, error.problem, error.item) == (7, "text/plain takes str, not int", 5)
    assert str(error) == "output item 7: text/plain takes str, not int: 5"


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "item", ["x" * 10**6, list(range(10**5)), {n: n for n in range(10**5)}, nested(10**5), circle()]
)
def test_a_large_or_deep_item_is_shown_by_its_beginning(item):
    assert len(str(bad_output(1, ValueError("no"), item))) <= len("output item 1: no: ") + 80


def test_an_item_that_cannot_show_itself_is_shown_all_the_same():
    assert str(bad_output(1, ValueError("no"), Unshowable())).startswith(
        "output item 1: no: <Unshowable instance at"
    )
    assert (
        str(bad_output(1, ValueError("no"), 10**5000))
        == "output item 1: no: an object of type int that has no repr"
    )


# Where JSON comes from


def test_orjson_is_used_where_it_is_and_else_the_standard_library():
    with using("orjson"):
        assert json_functions()[0] is orjson.loads
    with using("json"):
        loads, dumps = json_functions()
        assert loads is not orjson.loads
        assert loads(dumps({"a": 1})) == {"a": 1}


def test_the_author_imports_nothing_but_the_standard_library_with_us():
    root = str(Path(__file__).parents[2])
    code = (
        f"import sys; sys.path.insert(0, {root!r}); before = set(sys.modules); import sequence_sdk, sequence_sdk._invoke\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(names - sys.stdlib_module_names))"
    )
    shown = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "['sequence_sdk']"
