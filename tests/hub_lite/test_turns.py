"""Writers that take turns."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from hub_lite.turns import Turn, Turns


async def write(turn: Turn, chunks: list[bytes], into: list[bytes]) -> None:
    for chunk in chunks:
        async with turn.writing(chunk):
            into.append(chunk)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    turn.end()


@given(st.lists(st.lists(st.integers(1, 3), max_size=6), max_size=4))
def test_lines_of_several_writers_are_never_mixed(writers: list[list[int]]):
    async def main() -> bytes:
        turns, written = Turns(), []
        async with asyncio.TaskGroup() as group:
            for name, lines in enumerate(writers):
                chunks = [
                    f"{name}.{number}.{part}{';' if part + 1 < parts else chr(10)}".encode()
                    for number, parts in enumerate(lines)
                    for part in range(parts)
                ]
                group.create_task(write(turns.turn(lines=True), chunks, written))
        return b"".join(written)

    expected = sorted(
        ";".join(f"{name}.{number}.{part}" for part in range(parts))
        for name, lines in enumerate(writers)
        for number, parts in enumerate(lines)
    )
    assert sorted(asyncio.run(main()).decode().splitlines()) == expected


async def test_octets_change_hands_at_each_chunk():
    turns, written = Turns(), []
    one, two = turns.turn(lines=False), turns.turn(lines=False)
    await asyncio.gather(write(one, [b"a", b"a"], written), write(two, [b"b", b"b"], written))
    assert sorted(written) == [b"a", b"a", b"b", b"b"]


async def test_a_writer_that_leaves_in_mid_line_lets_the_others_go_on():
    turns, written = Turns(patience=60), []
    one, two = turns.turn(lines=True), turns.turn(lines=True)
    async with one.writing(b"half"):
        pass
    waiting = asyncio.create_task(write(two, [b"whole\n"], written))
    await asyncio.sleep(0)
    assert written == []
    one.end()
    await waiting
    assert written == [b"whole\n"]


async def test_a_writer_that_sleeps_in_mid_line_holds_the_others_for_its_patience_only():
    turns, written = Turns(patience=0.01), []
    async with turns.turn(lines=True).writing(b"half"):
        pass
    async with asyncio.timeout(5):
        await write(turns.turn(lines=True), [b"whole\n"], written)
    assert written == [b"whole\n"]


async def test_a_writer_that_is_busy_is_waited_for():
    turns = Turns(patience=0.01)
    release = asyncio.Event()
    order = []

    async def busy() -> None:
        async with turns.turn(lines=False).writing(b"x"):
            order.append("busy")
            await release.wait()
            order.append("done")

    async def other() -> None:
        async with turns.turn(lines=False).writing(b"y"):
            order.append("other")

    tasks = [asyncio.create_task(busy()), asyncio.create_task(other())]
    done, _ = await asyncio.wait(tasks, timeout=0.1)
    assert not done
    release.set()
    await asyncio.gather(*tasks)
    assert order == ["busy", "done", "other"]


async def test_a_cancelled_wait_gives_the_turn_to_the_next():
    turns, written = Turns(patience=60), []
    holder = turns.turn(lines=True)
    async with holder.writing(b"half"):
        pass
    first = asyncio.create_task(write(turns.turn(lines=True), [b"never\n"], written))
    second = asyncio.create_task(write(turns.turn(lines=True), [b"second\n"], written))
    await asyncio.sleep(0)
    holder.end()
    first.cancel()
    async with asyncio.timeout(5):
        await second
    assert written == [b"second\n"]
    assert first.cancelled()
