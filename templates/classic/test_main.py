"""Each test runs three times: in this process, in a runner of its own, and on a hub; `--stages direct` is for the hurried."""

from pathlib import Path

from sequence_sdk.testing import Stage

MAIN = Path(__file__).with_name("main.py")  # a module without a mark is run by its path


async def test_each_line_comes_with_its_words(stage: Stage) -> None:
    """A line keeps its line end on the way in; the last one may have none."""
    assert await stage.outputs(MAIN, ["a cup of tea\n", "\n", "more"]) == [
        "4 a cup of tea\n",
        "0\n",
        "1 more\n",
    ]


async def test_short_words_do_not_count_if_the_argument_says_so(stage: Stage) -> None:
    """Start arguments come after the input, in order."""
    assert await stage.outputs(MAIN, ["a cup of tea"], 3) == ["2 cup tea\n"]


async def test_it_logs_what_counts(stage: Stage) -> None:
    """What a Sequence logs can be asked for."""
    async with stage.run(MAIN, 2) as run:
        await run.feed("a\n")
        assert await run.rest() == ["0\n"]
        await run.until(lambda: "words of 2 letters or more" in [record.message for record in run.logs])
