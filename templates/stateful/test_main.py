"""Each test with a stage runs three times: in this process, in a runner of its own, and on a hub."""

import asyncio

from main import Count, stateful

from sequence_sdk import Context, Stream
from sequence_sdk.testing import Stage


async def test_each_word_comes_with_its_count(stage: Stage) -> None:
    """Every stage has a state, which is empty at the beginning."""
    assert await stage.outputs(stateful, ["a\n", "b\n", "a"]) == [
        {"word": "a", "count": 1},
        {"word": "b", "count": 1},
        {"word": "a", "count": 2},
    ]


def given(context: Context, *lines: str, every: int = 100) -> list[Count]:
    """Return what a run gives that has the state of this context."""

    async def collect() -> list[Count]:
        return [count async for count in stateful(context, Stream.from_iterable(lines), every)]

    return asyncio.run(collect())


def test_the_counts_go_on_where_they_were() -> None:
    """Two runs with one state are an Instance that is started again."""
    context = Context()
    assert given(context, "a\n", "a\n")[-1] == {"word": "a", "count": 2}
    assert given(context, "b\n", "a\n") == [{"word": "b", "count": 1}, {"word": "a", "count": 3}]


def test_the_counts_are_saved_on_the_way_and_at_the_end() -> None:
    """In a crash nothing is saved at the end, so what was saved on the way is what stays."""

    async def look() -> None:
        context = Context()
        counts = stateful(context, Stream.from_iterable(["a\n"] * 5), 2)
        for _ in range(3):
            await anext(counts)
        assert await context.state.get("counts") == {"a": 2}
        async for _ in counts:
            pass
        assert await context.state.get("counts") == {"a": 5}

    asyncio.run(look())
