"""Events of an Instance."""

import asyncio

import orjson
import pytest

from hub_lite.events import EventBook, EventsOver


@pytest.mark.parametrize("message", [0, "", False, None, [], {}, "text", {"a": 1}])
async def test_the_last_event_is_given_whatever_its_message(message: object):
    book = EventBook()
    book.add("e", "older")
    book.add("e", message)
    assert (await book.last("e")).message == message
    assert (await book.last(None)).to_json() == {"eventName": "e", "message": message}


async def test_without_a_last_event_the_first_is_waited_for():
    book = EventBook()
    waiting = asyncio.ensure_future(book.last("e"))
    await asyncio.sleep(0)
    book.add("other", 1)
    assert not waiting.done()
    book.add("e", 2)
    assert (await waiting).message == 2


async def test_next_does_not_give_what_was_before():
    book = EventBook()
    book.add("e", 1)
    waiting = asyncio.ensure_future(book.next("e"))
    anything = asyncio.ensure_future(book.next(None))
    await asyncio.sleep(0)
    book.add("e", 2)
    assert ((await waiting).message, (await anything).message) == (2, 2)


async def test_a_stream_has_the_messages_of_its_name_from_now_on_one_a_line():
    book = EventBook()
    book.add("e", "before")
    with book.stream("e") as named, book.stream(None) as everything:
        book.add("e", 0)
        book.add("f", None)
        book.add("e", {"a": [1]})
        assert await named.read() == b'0\n{"a":[1]}\n'
        lines = (await everything.read()).splitlines()
    assert [orjson.loads(line) for line in lines] == [
        {"eventName": "e", "message": 0},
        {"eventName": "f", "message": None},
        {"eventName": "e", "message": {"a": [1]}},
    ]


async def test_the_end_ends_streams_and_those_who_wait():
    book = EventBook()
    with book.stream("e") as stream:
        waiting = asyncio.ensure_future(book.next("e"))
        await asyncio.sleep(0)
        book.close()
        assert await stream.read() == b""
        with pytest.raises(EventsOver):
            await waiting
    with pytest.raises(EventsOver):
        await book.last("e")
    with book.stream("e") as late:
        assert await late.read() == b""


async def test_who_goes_away_leaves_nothing_behind():
    book = EventBook()
    waiting = asyncio.ensure_future(book.next("e"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with book.stream("e"):
        pass
    assert (book._waiters, book._streams) == ({}, {})


async def test_an_author_who_makes_up_names_does_not_fill_the_hub():
    book = EventBook()
    for number in range(5000):
        book.add(f"name {number}", number)
    assert len(book._last) == 1000
    assert (await book.last("name 4999")).message == 4999
