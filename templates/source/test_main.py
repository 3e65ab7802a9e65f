"""Each test runs three times: in this process, in a runner of its own, and on a hub; `--stages direct` is for the hurried."""

from main import source

from sequence_sdk.testing import Stage, VirtualTime


async def test_it_gives_as_many_readings_as_it_is_asked_for(stage: Stage) -> None:
    """A source needs no input: the list is empty."""
    readings = await stage.outputs(source, [], 0, 3)
    assert [reading["number"] for reading in readings] == [1, 2, 3]
    assert readings[0] == {"number": 1, "celsius": 20.5}


async def test_it_waits_between_two_readings(stage: Stage, virtual_time: VirtualTime) -> None:
    """With virtual time two hours pass at once; this one runs in process only."""
    assert len(await stage.outputs(source, [], 3600, 3)) == 3
    assert virtual_time.elapsed == 7200


async def test_it_goes_on_until_it_is_stopped(stage: Stage) -> None:
    """A stop is an end as it should be, though the source has none of its own."""
    async with stage.run(source, 0.001) as run:
        await run.end()
        assert len(await run.items(5)) == 5
        assert not (await run.stop()).failed
