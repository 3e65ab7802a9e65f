"""The input gives every item once, in order, to whoever reads it, in the loop or in a thread."""

import asyncio
import gc
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk import BadInput, InputUsedInLoop, Stream

END = object()


class Source:
    """Gives batches one after the other, with a turn of the loop before each; an exception among them is raised."""

    def __init__(self, *batches):
        self._batches = list(batches)
        self.asked = 0

    async def next_batch(self):
        self.asked += 1
        await asyncio.sleep(0)
        if not self._batches:
            return None
        batch = self._batches.pop(0)
        if isinstance(batch, Exception):
            raise batch
        return batch


def stream(*batches):
    return Stream.from_batches(Source(*batches).next_batch)


async def rest(input):
    return [item async for item in input]


# In the loop


@given(st.lists(st.lists(st.integers(), max_size=3), max_size=6))
def test_all_items_come_once_and_in_order(batches):
    async def read():
        return await rest(stream(*batches))

    assert asyncio.run(read()) == [item for batch in batches for item in batch]


async def test_falsy_items_are_items():
    assert await rest(stream([None, 0, ""], [], [b"", [], False])) == [None, 0, "", b"", [], False]


async def test_a_second_loop_goes_on_where_the_first_was_left():
    input = stream([1, 2, 3], [4, 5])
    first = []
    async for item in input:
        first.append(item)
        if item == 2:
            break
    assert first == [1, 2]
    assert await rest(input) == [3, 4, 5]


async def test_the_end_stays_the_end_and_nobody_is_asked_again():
    source = Source([1])
    input = Stream.from_batches(source.next_batch)
    assert await rest(input) == [1]
    asked = source.asked
    assert await rest(input) == []
    assert await anext(input, END) is END
    with pytest.raises(StopAsyncIteration):
        await anext(input)
    assert await asyncio.to_thread(list, input) == []
    assert source.asked == asked


async def test_an_error_reaches_the_author_behind_the_items_before_it():
    error = BadInput(3, "not JSON", "'{'")
    input = stream([1, 2], error, [3])
    assert [await anext(input), await anext(input)] == [1, 2]
    with pytest.raises(BadInput) as caught:
        await anext(input)
    assert caught.value is error
    assert await rest(input) == [3]


async def test_two_tasks_that_read_at_once_get_distinct_items():
    input = stream([1], [2, 3], [], [4], [5, 6])
    shares = await asyncio.gather(*(rest(input) for _ in range(3)))
    assert sorted(item for share in shares for item in share) == [1, 2, 3, 4, 5, 6]
    assert all(share == sorted(share) for share in shares)


async def test_a_wait_that_times_out_loses_no_item():
    queue = asyncio.Queue()
    input = Stream.from_batches(queue.get)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(input), 0.001)
    queue.put_nowait([1, 2])
    assert await asyncio.wait_for(anext(input), 5) == 1
    queue.put_nowait(None)
    assert await rest(input) == [2]


async def test_a_cancelled_wait_lets_the_next_reader_wait_in_its_place():
    queue = asyncio.Queue()
    input = Stream.from_batches(queue.get)

    async def read():
        return await anext(input)

    first, second = asyncio.create_task(read()), asyncio.create_task(read())
    await asyncio.sleep(0)
    first.cancel()
    queue.put_nowait([1])
    assert await asyncio.wait_for(second, 5) == 1
    assert first.cancelled()


@given(st.lists(st.sampled_from(["read", "cancel", "feed", "turn"]), max_size=30))
def test_no_cancelled_wait_ever_loses_or_doubles_an_item(steps):
    async def play():
        queue = asyncio.Queue()
        input = Stream.from_batches(queue.get)
        readers, fed = [], 0

        async def read():
            return await anext(input, END)

        for step in steps:
            match step:
                case "read":
                    readers.append(asyncio.create_task(read()))
                case "cancel":
                    waiting = [reader for reader in readers if not reader.done()]
                    if waiting:
                        waiting[0].cancel()
                case "feed":
                    queue.put_nowait([fed, fed + 1])
                    fed += 2
                case "turn":
                    await asyncio.sleep(0)
        queue.put_nowait(None)
        outcomes = await asyncio.gather(*readers, return_exceptions=True)
        taken = [item for item in outcomes if isinstance(item, int)]
        left = await asyncio.wait_for(rest(input), 5)
        assert sorted(taken + left) == list(range(fed))

    asyncio.run(play())


def test_the_input_is_its_own_async_iterator():
    input = stream()
    assert aiter(input) is input


# In a thread


async def test_a_plain_loop_in_a_thread_reads_all_items():
    assert await asyncio.to_thread(list, stream([1, 2], [], [3])) == [1, 2, 3]


async def test_a_plain_loop_that_is_left_half_way_leaves_the_rest_to_the_next():
    input = stream([1, 2, 3], [4])

    def read():
        firsts = []
        for _ in range(2):
            for item in input:
                firsts.append(item)
                break
        return firsts, list(input)

    assert await asyncio.to_thread(read) == ([1, 2], [3, 4])


async def test_a_thread_and_the_loop_share_a_batch():
    input = stream([1, 2, 3, 4])
    assert await anext(input) == 1
    assert await asyncio.to_thread(lambda: next(iter(input))) == 2
    assert await rest(input) == [3, 4]


async def test_threads_and_tasks_that_read_at_once_get_distinct_items():
    input = stream(*([number, number + 1, number + 2] for number in range(0, 300, 3)))
    shares = await asyncio.gather(
        asyncio.to_thread(list, input), asyncio.to_thread(list, input), rest(input), rest(input)
    )
    assert sorted(item for share in shares for item in share) == list(range(300))


async def test_an_error_reaches_a_thread_behind_the_items_before_it():
    input = stream([1, 2], ValueError("bad"), RuntimeError("worse"), [3])
    items = []

    def read():
        for item in input:
            items.append(item)  # noqa: PERF402 - the items before the error count

    with pytest.raises(ValueError, match="bad"):
        await asyncio.to_thread(read)
    with pytest.raises(RuntimeError, match="worse"):
        await asyncio.to_thread(read)
    await asyncio.to_thread(read)
    assert items == [1, 2, 3]


async def test_a_plain_loop_in_the_event_loop_is_refused_with_the_way_out():
    input = stream([1])
    with pytest.raises(InputUsedInLoop, match=r"write `async for item in input` in an `async def`"):
        for _ in input:
            pass
    assert await rest(input) == [1]


async def test_nothing_is_asked_for_before_a_plain_loop_begins():
    source = Source([1])
    items = map(str, Stream.from_batches(source.next_batch))  # an author may return this, for a thread to run
    assert source.asked == 0
    assert await asyncio.to_thread(list, items) == ["1"]


def test_an_input_made_outside_of_a_loop_is_bound_to_one():
    input = stream([1, 2])
    with pytest.raises(RuntimeError, match=r"no event loop feeds this stream.*bind\(\) it"):
        list(input)
    loop = asyncio.new_event_loop()
    input.bind(loop)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert list(input) == [1, 2]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_thread_that_outlives_the_loop_is_told_so():
    loop = asyncio.new_event_loop()
    input = stream([1])
    input.bind(loop)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        list(input)
    gc.collect()  # a coroutine that was never awaited would warn now, and a warning is an error here
