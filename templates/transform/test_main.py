"""Each test runs three times: in this process, in a runner of its own, and on a hub; `--stages direct` is for the hurried."""

from main import transform

from sequence_sdk.testing import Stage


async def test_lines_are_numbered_and_blank_ones_left_out(stage: Stage) -> None:
    """A line keeps its line end on the way in; the last one may have none."""
    assert await stage.outputs(transform, ["one\n", "\n", "two"]) == ["1 one\n", "2 two\n"]


async def test_the_first_number_is_an_argument(stage: Stage) -> None:
    """Start arguments come after the input, in order."""
    assert await stage.outputs(transform, ["one\n"], 7) == ["7 one\n"]


async def test_no_lines_give_no_lines(stage: Stage) -> None:
    """An input may be empty."""
    assert await stage.outputs(transform, []) == []


async def test_a_line_comes_out_before_the_next_one_goes_in(stage: Stage) -> None:
    """The stream stays open, and every line is accounted for."""
    async with stage.run(transform) as run:
        await run.feed("one\n")
        assert await run.items(1) == ["1 one\n"]
        await run.feed("two\n")
        assert await run.rest() == ["2 two\n"]
        await run.assert_account(out=2, pending=0)
