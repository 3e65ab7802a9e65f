"""Topics, without HTTP."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.errors import BadRequest, Gone, NotFound
from hub_lite.topics import CONTENT_TYPES, Topics, TopicTypeMismatch, check_content_type, check_name
from hub_lite.windows import Window


def topics(capacity: int = 1 << 20) -> Topics:
    return Topics(lambda: Window(capacity, lossless=True))


@given(st.text(max_size=20))
def test_a_name_is_taken_or_refused_with_the_rule(name: str):
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-\\"
    if name and all(character in letters for character in name):
        assert check_name(name) == name
    else:
        with pytest.raises(BadRequest, match="Topic id incorrect format"):
            check_name(name)


@pytest.mark.parametrize("value", [*CONTENT_TYPES, "Text/Plain", "text/plain; charset=utf-8"])
def test_the_four_content_types_are_taken_leniently(value: str):
    assert check_content_type(value) in CONTENT_TYPES


@pytest.mark.parametrize("value", ["", "text", "application/json", "text/plainer", "image/png"])
def test_other_content_types_are_refused_with_those_there_are(value: str):
    with pytest.raises(BadRequest, match=r"Unsupported content-type.*text/plain"):
        check_content_type(value)


def test_without_a_type_a_topic_is_ndjson_or_what_it_is():
    book = topics()
    assert book.obtain("a", None).content_type == "application/x-ndjson"
    made = book.create("b", "text/plain")
    assert book.obtain("b", None) is made
    assert book.obtain("a", "text/x-ndjson") is book.get("a"), "the two ndjson types are one"
    with pytest.raises(TopicTypeMismatch, match="Acceptable Content-Type for b is text/plain"):
        book.obtain("b", "application/x-ndjson")


def test_a_reader_that_names_no_type_leaves_it_to_the_first_who_names_one():
    book = topics()
    topic = book.obtain("a", None)
    assert book.obtain("a", "text/plain") is topic
    assert topic.content_type == "text/plain"
    with pytest.raises(TopicTypeMismatch):
        book.obtain("a", "application/octet-stream")


def test_a_producer_that_names_no_type_settles_the_default():
    book = topics()
    book.obtain("a", None).producer()
    with pytest.raises(TopicTypeMismatch, match="is application/x-ndjson"):
        book.obtain("a", "text/plain")


def test_a_topic_is_made_once_and_removed_once():
    book = topics()
    book.create("a", "text/plain")
    with pytest.raises(BadRequest, match="already exist"):
        book.create("a", "text/plain")
    book.remove("a")
    assert book.describe() == []
    with pytest.raises(NotFound, match="Topic a not found"):
        book.remove("a")


async def test_producers_wait_when_nobody_reads_and_the_first_reader_misses_nothing():
    book = topics(10)
    topic = book.create("a", "text/plain")

    async def produce() -> None:
        async with topic.producer() as producer:
            for number in range(10):
                await producer.write(f"line {number}\n".encode())

    producing = asyncio.create_task(produce())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not producing.done()
    with topic.open() as reader:
        got = b""
        while got.count(b"\n") < 10:
            got += await reader.read()
    await producing
    assert got == b"".join(f"line {number}\n".encode() for number in range(10))


async def test_a_producer_of_a_removed_topic_is_told_so_and_its_readers_end():
    book = topics(10)
    topic = book.create("a", "text/plain")
    with topic.open() as reader:
        async with topic.producer() as producer:
            await producer.write(b"0123456789\n")
            waiting = asyncio.create_task(producer.write(b"more\n"))
            await asyncio.sleep(0)
            book.remove("a")
            with pytest.raises(Gone, match="topic a was removed"):
                await waiting
        assert await reader.read() == b"0123456789\n"
        assert await reader.read() == b""


async def test_values_get_the_line_end_they_lack_and_text_stays_as_it_is():
    book = topics()
    for content_type, expected in (("text/x-ndjson", b"1\n2\n"), ("text/plain", b"12\n")):
        topic = book.obtain(content_type.replace("/", "_"), content_type)
        for data in (b"1", b"2\n"):
            async with topic.producer() as producer:
                await producer.write(data)
        with topic.open() as reader:
            assert await reader.read() == expected


@given(
    st.sampled_from(CONTENT_TYPES),
    st.lists(st.sampled_from([b"", b"1", b"1\n", b'"a"\n2', b"\n"]), max_size=5),
)
def test_a_body_that_is_taken_at_once_leaves_what_a_producer_of_it_leaves(
    content_type: str, bodies: list[bytes]
):
    async def both() -> tuple[bytes, bytes]:
        book = topics()
        at_once, piece_by_piece = book.obtain("a", content_type), book.obtain("b", content_type)
        for body in bodies:
            assert at_once.free
            at_once.take(body)
            async with piece_by_piece.producer() as producer:
                await producer.write(body)
        with at_once.open() as one, piece_by_piece.open() as other:
            at_once.end_readers()
            piece_by_piece.end_readers()
            return await one.read(), await other.read()

    taken, produced = asyncio.run(both())
    assert taken == produced


async def test_a_topic_is_not_free_in_the_middle_of_a_message_when_it_is_full_and_when_it_is_removed():
    book = topics(10)
    topic = book.create("a", "text/plain")
    assert topic.free
    async with topic.producer() as producer:
        await producer.write(b"lin")
        assert not topic.free
        await producer.write(b"e\n")
        assert topic.free
        await producer.write(b"another\n")
        assert not topic.free
        with topic.open() as reader:
            assert await reader.read() == b"line\nanother\n"
            reader.acknowledge()
            assert topic.free
    book.remove("a")
    assert not topic.free


def test_a_body_that_is_taken_at_once_settles_the_type_of_a_topic():
    book = topics()
    topic = book.obtain("a", None)
    topic.take(b"1\n")
    with pytest.raises(TopicTypeMismatch):
        book.obtain("a", "text/plain")
