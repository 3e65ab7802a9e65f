"""Text is cut at characters, lines and separators, wherever its chunks end."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.stream import Stream, StringStream
from sequence_sdk.text import Matcher, Splitter, TextDecoder, WordSplitter


def pieces(text, chunks):
    return [piece for chunk in chunks for piece in text.feed(chunk)] + text.end()


def cut(whole, places):
    edges = [0, *sorted(min(place, len(whole)) for place in places), len(whole)]
    return [whole[begin:end] for begin, end in pairwise(edges)]


cuts = st.lists(st.integers(0, 60))
texts = st.text("ab1- \n\t\u00a0łz😀", max_size=60)


@given(texts, cuts, st.sampled_from(["utf-8", "utf-16", "utf-32-le"]))
def test_however_bytes_are_cut_they_are_the_same_text(whole, places, encoding):
    assert "".join(pieces(TextDecoder(encoding), cut(whole.encode(encoding), places))) == whole


@given(texts, cuts, st.sampled_from(["\n", " ", "--", "a-a", "aba"]))
def test_however_text_is_cut_its_parts_are_the_same(whole, places, separator):
    parts = whole.split(separator)
    assert pieces(Splitter(separator), cut(whole, places)) == (parts if parts[-1] else parts[:-1])


@given(texts, cuts)
def test_however_text_is_cut_its_words_are_the_same(whole, places):
    assert pieces(WordSplitter(), cut(whole, places)) == whole.split()


@given(texts, cuts, st.sampled_from([r"\d+", r"[ab]+$", r"(a)(b)?", r"^.", r"\s", r"(x)?"]))
def test_however_text_is_cut_a_pattern_finds_the_same_in_its_lines(whole, places, pattern):
    found = []
    for line in re.findall(r"[^\n]*\n|[^\n]+", whole):
        for match in re.finditer(pattern, line):
            found.extend(["" if group is None else group for group in match.groups() or [match.group()]])
    assert pieces(Matcher(pattern, lines=True), cut(whole, places)) == found


async def test_decode_waits_for_the_rest_of_a_character():
    stream = Stream.from_iterable([b"\xc5", b"\x82a", b"", "zł".encode()]).decode()
    assert isinstance(stream, StringStream)
    assert await stream.to_list() == ["ła", "zł"]


async def test_decode_tells_wrong_and_missing_bytes_behind_the_text_before_them():
    for chunks, text in (([b"ok", b"a\xff"], "invalid start byte"), ([b"ok", b"\xc5"], "unexpected end")):
        stream = Stream.from_iterable(chunks).decode("utf-8")
        assert await stream.read() == "ok"
        with pytest.raises(UnicodeDecodeError, match=text):
            await stream.read()
        assert await stream.read() is None
    assert await Stream.from_iterable([b"a\xff", b"\xc5"]).decode(errors="replace").to_list() == [
        "a\ufffd",
        "\ufffd",
    ]


async def test_decode_takes_bytes_only_and_encodings_that_exist():
    with pytest.raises(TypeError, match=r"decode\(\) reads bytes, and 'a' is text already"):
        await Stream.from_iterable(["a"]).decode().to_list()
    with pytest.raises(LookupError, match="unknown encoding: nope"):
        Stream.from_iterable([]).decode("nope")


async def test_a_policy_may_go_on_without_a_chunk_that_is_no_text():
    class Policy:
        def __init__(self):
            self.items = []

        def rejected(self, item, error):
            self.items.append(item)
            return True

    left = [[b"a", b"\xff", b"\xc5", b"\xff", b"b c"], None]

    async def next_batch():
        return left.pop(0)

    policy = Policy()
    assert await Stream.from_batches(next_batch, policy=policy).decode().split().to_list() == ["ab", "c"]
    assert policy.items == [b"\xff", b"\xff"]


@pytest.mark.parametrize(
    ("chunks", "separator", "parts"),
    [
        (["a b  c", "d e\n", " f "], None, ["a", "b", "cd", "e", "f"]),
        (["foo b", "ar baz", ""], None, ["foo", "bar", "baz"]),
        (["a b  c", "d e ", " f "], " ", ["a", "b", "", "cd", "e", "", "f"]),
        (["a\nb", "c\n", "\nd"], "\n", ["a", "bc", "", "d"]),
        (["a\nb\n"], "\n", ["a", "b"]),
        (["\n\n", "a\n\n"], "\n", ["", "", "a", ""]),
        (["a-", "-b--c"], "--", ["a", "b", "c"]),
        (["", "a"], "\n", ["a"]),
        ([], "\n", []),
        ([], None, []),
    ],
)
async def test_split_gives_what_stands_between_separators(chunks, separator, parts):
    stream = StringStream.from_iterable(chunks).split(separator)
    assert isinstance(stream, StringStream)
    assert await stream.to_list() == parts


async def test_split_needs_a_separator_that_is_something_and_text():
    with pytest.raises(ValueError, match="a separator that is not empty, or none for white space"):
        Stream.from_iterable(["a"]).split("")
    for separator in (None, "\n"):
        with pytest.raises(
            TypeError, match=r"split\(\) reads text, and an item is bytes: use decode\(\) first"
        ):
            await Stream.from_iterable([b"a"]).split(separator).to_list()


async def test_match_gives_what_a_pattern_finds_in_each_item():
    for pattern, found in (
        (r"\d+", ["1", "22", "3"]),
        (re.compile(r"(\d)"), ["1", "2", "2", "3"]),
        (r"([a-z]+)(\d)", ["foo", "1", "bar", "2"]),
    ):
        assert await Stream.from_iterable(["foo1 bar22", "x", "3"]).match(pattern).to_list() == found
    assert await Stream.from_iterable(["foo1", "2 bar"]).match(r"\d+").to_list() == ["1", "2"]


async def test_match_sees_whole_lines_of_text_that_is_cut_anywhere():
    chunks = [b"foo1", b"2 bar\n3", b"4"]
    assert await Stream.from_iterable(chunks).decode().match(r"\d+").to_list() == ["12", "34"]
    assert await Stream.from_iterable(chunks).decode().each(len).match(r"\d+").to_list() == ["12", "34"]
    assert await Stream.from_iterable(chunks).decode().map(str).match(r"\d+").to_list() == [
        "1",
        "2",
        "3",
        "4",
    ]


async def test_match_reads_text():
    with pytest.raises(TypeError, match=r"match\(\) reads text, and an item is int"):
        await Stream.from_iterable([1]).match("a").to_list()
