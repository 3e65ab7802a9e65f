"""Tests of a Sequence."""

from collections.abc import AsyncIterator
from typing import Any, assert_type

from sequence_sdk import Stream, sequence
from sequence_sdk.testing import Run, Stage


@sequence
async def shout(input: Stream[str], mark: str = "!") -> AsyncIterator[str]:
    async for line in input:
        yield line.upper() + mark


async def test_shout(stage: Stage) -> None:
    assert await stage.outputs(shout, ["a\n"], "?") == ["A\n?"]
    async with stage.run(shout, "?", config={}, crash_after=3) as run:
        assert_type(run, Run)
        await run.feed("a\n", "b\n")
        await run.feed_bytes(b"c", b"\n")
        outputs: list[Any] = await run.items(2)
        assert len(outputs) + len(await run.rest()) == 3
        account = await run.assert_account(out=3)
        assert account.pending == 0
        assert_type((await run.exit()).failed, bool)


def test_without_a_loop(stage: Stage) -> None:
    assert stage.outputs_of(shout, ["a\n"]) == ["A\n!"]
