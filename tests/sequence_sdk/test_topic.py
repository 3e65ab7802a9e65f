"""Topics as items: what is asked of the hub, and what becomes of the bytes."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.errors import BadInput, UnsupportedContentType
from sequence_sdk.hub import HubRefused, StreamBroken
from sequence_sdk.topic import Topic


class Hub:
    """The two calls a topic makes; ``open`` lets what is sent through, ``failure`` refuses it."""

    def __init__(self, *chunks, broken=False):
        self.chunks = chunks
        self.broken = broken
        self.reading = 0
        self.asked = []
        self.sent = []
        self.ends = []
        self.failure = None
        self.open = asyncio.Event()
        self.open.set()

    @asynccontextmanager
    async def read_topic(self, name, *, content_type, offset):
        self.asked.append((name, content_type, offset))
        self.reading += 1
        try:
            yield self.each()
        finally:
            self.reading -= 1

    async def each(self):
        for chunk in self.chunks:
            yield chunk
        if self.broken:
            raise StreamBroken("topic t is not complete")

    async def send_topic(self, name, chunks, *, content_type, end=False):
        if not isinstance(chunks, bytes):
            chunks = [chunk async for chunk in chunks]
        await self.open.wait()
        if self.failure:
            raise self.failure
        self.sent.append(chunks)
        self.ends.append(end)
        self.asked.append((name, content_type))


def topic(hub, content_type="application/x-ndjson"):
    return Topic("t", content_type, lambda: hub)


def test_a_type_that_nobody_reads_is_told_at_once():
    with pytest.raises(UnsupportedContentType):
        topic(None, "image/png")


# Reading


@pytest.mark.parametrize(
    ("content_type", "chunks", "items"),
    [
        ("application/x-ndjson", [b'{"a":', b'1}\n2\n\n"', b'x"\nnull'], [{"a": 1}, 2, "x", None]),
        ("text/x-ndjson", [b"1\n2"], [1, 2]),
        ("text/plain", [b"on", b"e\ntwo\n", b"\nthree"], ["one\n", "two\n", "\n", "three"]),
        ("application/octet-stream", [b"a", b"b\nc"], [b"a", b"b\nc"]),
        ("text/plain", [], []),
    ],
)
async def test_items_are_what_the_content_type_says(content_type, chunks, items):
    hub = Hub(*chunks)
    assert [item async for item in topic(hub, content_type)] == items
    assert hub.asked == [("t", content_type, None)]
    assert hub.reading == 0


async def test_a_reader_may_begin_elsewhere():
    hub = Hub(b"1\n")
    assert [item async for item in topic(hub).read(offset="earliest")] == [1]
    assert hub.asked == [("t", "application/x-ndjson", "earliest")]


async def test_a_loop_that_is_left_lets_the_stream_go():
    hub = Hub(b"1\n2\n", b"3\n")
    async for item in topic(hub):
        assert (item, hub.reading) == (1, 1)
        break
    async with asyncio.timeout(5):
        while hub.reading:
            await asyncio.sleep(0)


async def read_until_it_fails(one):
    items = []
    try:
        async for item in one:
            items.append(item)  # noqa: PERF401 - those before the failure count
    except (BadInput, StreamBroken) as error:
        return items, error
    raise AssertionError("it did not fail")


@pytest.mark.parametrize(
    "chunks", [[b"1\nbad\n3\n", b"4\n"], [b"1\n", b"bad"]], ids=["in a chunk", "at the end"]
)
async def test_bytes_that_are_no_items_are_told_behind_the_good_ones(chunks):
    items, error = await read_until_it_fails(topic(Hub(*chunks)))
    assert (items, type(error)) == ([1], BadInput)
    assert "line 2: not JSON" in str(error)
    assert error.__notes__ == ["this is about what was read from the topic t"]


async def test_a_stream_that_breaks_off_is_heard_behind_its_items():
    items, error = await read_until_it_fails(topic(Hub(b"1\n2", broken=True)))
    assert (items, str(error)) == ([1], "topic t is not complete")


# Writing


@pytest.mark.parametrize(
    ("content_type", "items", "sent"),
    [
        ("application/x-ndjson", [{"a": 1}, None, "ü"], b'{"a":1}\nnull\n"\xc3\xbc"\n'),
        ("text/plain", ["one", "two\n", "", b"three"], b"one\ntwo\n\nthree\n"),
        ("application/octet-stream", [b"a", bytearray(b"b\n"), b""], [b"a", b"b\n", b""]),
    ],
)
async def test_what_is_written_in_one_turn_is_sent_at_once(content_type, items, sent):
    hub = Hub()
    one = topic(hub, content_type)
    for item in items:
        await one.write(item)
    assert hub.sent == []
    await one.flush()
    assert (hub.sent, hub.asked, hub.ends) == ([sent], [("t", content_type)], [False])
    await one.flush()
    assert len(hub.sent) == 1


async def test_what_is_written_meanwhile_is_sent_next_in_order():
    hub = Hub()
    hub.open.clear()
    one = topic(hub)
    await one.write(1)
    await asyncio.sleep(0)
    await one.write(2)
    await one.write(3)
    hub.open.set()
    await one.flush()
    assert hub.sent == [b"1\n", b"2\n3\n"]


async def test_what_is_written_as_the_sender_ends_is_sent_too():
    hub = Hub()
    one = topic(hub)
    await one.write(1)
    sender = one._sender
    while not sender.done():
        await asyncio.sleep(0)
    await one.write(2)  # before the loop has told anybody that it has ended
    await one.flush()
    assert hub.sent == [b"1\n", b"2\n"]


async def test_writers_wait_while_the_hub_does():
    hub = Hub()
    hub.open.clear()
    one = topic(hub, "application/octet-stream")
    given = 0

    async def write():
        nonlocal given
        for number in range(100):
            await one.write(bytes([number]) * 8192)
            given += 1

    writers = [asyncio.create_task(write()) for _ in range(2)]
    for _ in range(50):
        await asyncio.sleep(0)
    assert given * 8192 <= 2 * 64 * 1024 + 2 * 8192
    hub.open.set()
    await asyncio.gather(*writers)
    await one.flush()
    assert sum(len(piece) for batch in hub.sent for piece in batch) == 2 * 100 * 8192
    assert max(sum(map(len, batch)) for batch in hub.sent) <= 64 * 1024 + 2 * 8192


@given(st.lists(st.tuples(st.text(), st.booleans()), max_size=20))
async def test_what_is_sent_is_what_was_written_however_it_was_batched(writes):
    hub = Hub()
    one = topic(hub)
    for item, pause in writes:
        await one.write(item)
        if pause:
            await asyncio.sleep(0)
    await one.flush()
    reader = topic(Hub(*hub.sent))
    assert [item async for item in reader] == [item for item, _ in writes]


async def test_an_end_comes_behind_all_that_was_written_and_the_topic_lives_on():
    hub = Hub()
    one = topic(hub)
    await one.write(1)
    await one.end()
    await one.write(2)
    await one.end()
    assert (hub.sent, hub.ends) == ([b"1\n", b"", b"2\n", b""], [False, True, False, True])


@pytest.mark.parametrize(
    ("content_type", "item", "problem"),
    [
        ("application/x-ndjson", object(), "topic t: application/x-ndjson takes JSON values: "),
        ("text/plain", 1, "topic t: text/plain takes str, not int$"),
        ("application/octet-stream", "text", "topic t: application/octet-stream takes bytes, not str$"),
    ],
    ids=["json", "text", "octets"],
)
async def test_an_item_of_another_kind_is_told_and_is_not_sent(content_type, item, problem):
    hub = Hub()
    one = topic(hub, content_type)
    with pytest.raises(TypeError, match=problem):
        await one.write(item)
    await one.flush()
    assert hub.sent == []


async def test_text_without_utf8_is_told():
    with pytest.raises(ValueError, match="topic t: 'utf-8' codec can't encode"):
        await topic(Hub(), "text/plain").write("\ud800")


async def test_a_hub_that_refuses_is_heard_once_by_who_writes_next_and_then_it_goes_on():
    hub = Hub()
    hub.failure = HubRefused(415, "another type")
    one = topic(hub)
    await one.write(1)
    with pytest.raises(HubRefused, match="another type") as caught:
        await one.flush()
    assert caught.value.__notes__ == ["the topic t has not got all that was written to it"]
    hub.failure = None
    await one.write(2)
    await one.flush()
    assert hub.sent == [b"2\n"]


async def test_what_waits_behind_a_failure_is_not_sent_without_what_was_before_it():
    hub = Hub()
    hub.open.clear()
    hub.failure = StreamBroken("the topic is gone")
    one = topic(hub)
    await one.write(1)
    await asyncio.sleep(0)
    await one.write(2)
    hub.open.set()
    with pytest.raises(StreamBroken):
        await one.flush()
    hub.failure = None
    await one.write(3)
    await one.flush()
    assert hub.sent == [b"3\n"]


async def test_a_writer_that_waits_hears_of_a_failure():
    hub = Hub()
    hub.open.clear()
    hub.failure = StreamBroken("the topic is gone")
    one = topic(hub, "application/octet-stream")
    await one.write(b"x")
    await asyncio.sleep(0)
    writer = asyncio.create_task(one.write(bytes(100_000)))
    await asyncio.sleep(0)
    assert not writer.done()
    hub.open.set()
    with pytest.raises(StreamBroken, match="the topic is gone"):
        await asyncio.wait_for(writer, 5)


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_sender_that_is_cancelled_is_a_failure(turns):
    hub = Hub()
    hub.open.clear()
    one = topic(hub)
    await one.write(1)
    for _ in range(turns):
        await asyncio.sleep(0)
    one._sender.cancel()
    with pytest.raises(StreamBroken, match="the task that writes to the topic was cancelled"):
        await asyncio.wait_for(one.flush(), 5)
    hub.open.set()
    await one.write(2)
    await one.flush()
    assert hub.sent == [b"2\n"]


# async with


async def test_the_end_of_a_block_waits_until_all_is_sent_and_leaves_the_topic_open():
    hub = Hub()
    async with topic(hub) as one:
        await one.write(1)
    assert (hub.sent, hub.ends) == ([b"1\n"], [False])


async def in_a_block(one, error):
    async with one:
        await one.write(1)
        if error:
            raise error


async def test_a_block_that_raises_has_sent_what_it_wrote():
    hub = Hub()
    with pytest.raises(ValueError, match="mine"):
        await in_a_block(topic(hub), ValueError("mine"))
    assert hub.sent == [b"1\n"]


@pytest.mark.parametrize("own", [None, ValueError("mine")], ids=["well", "raises"])
async def test_a_failure_at_the_end_of_a_block_does_not_hide_what_the_block_raised(own):
    hub = Hub()
    hub.failure = HubRefused(415, "another type")
    with pytest.raises(ValueError if own else HubRefused):
        await in_a_block(topic(hub), own)


async def test_a_block_that_is_cancelled_does_not_wait():
    hub = Hub()
    hub.open.clear()
    one = topic(hub)

    async def work():
        async with one:
            await one.write(1)
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    hub.open.set()
    await one.flush()
    assert hub.sent == [b"1\n"]
