"""A Sequence that talks to its hub: ``context.hub``, from a real runner to a real hub."""

import asyncio
import hashlib
import json
from pathlib import Path

import psutil
import pytest

from .harness import DEADLINE, HubProcess, Talk, eventually, running_hub, talking_to

MIB = 1024 * 1024

HASHING = """
    import hashlib
    from sequence_sdk import sequence

    @sequence(gives="application/octet-stream")
    async def work(context, chunks, blocks: int):
        digest = hashlib.sha256()
        async for chunk in chunks:
            digest.update(chunk)
        context.logger.info("took %s", digest.hexdigest())
        for number in range(blocks):
            yield bytes([number % 251]) * 65536
"""

PARENT = """
    import hashlib, json
    from sequence_sdk import sequence

    @sequence(gives="application/x-ndjson")
    async def parent(context, ignored, sequence: str, blocks: int):
        hub = context.hub
        names = [one["id"] for one in await hub.sequences()]
        yield ["listed", sequence in names]
        child = await hub.start(sequence, args=[blocks])

        async def content():
            for number in range(blocks):
                yield bytes([number % 241]) * 65536

        await hub.send(child, "input", content())
        digest, size = hashlib.sha256(), 0
        async with hub.read(child, "output") as chunks:
            async for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
        yield ["read", size, digest.hexdigest()]
        log = b""
        async with hub.read(child, "log") as chunks:
            async for chunk in chunks:
                log += chunk
        yield ["log", [json.loads(line)["msg"] for line in log.splitlines()]]
        yield ["status", (await hub.instance(child))["status"]]
        await hub.delete_sequence(sequence)
"""


def blocks_of(count: int, modulus: int) -> str:
    digest = hashlib.sha256()
    for number in range(count):
        digest.update(bytes([number % modulus]) * 65536)
    return digest.hexdigest()


async def test_a_sequence_starts_another_and_streams_both_ways(talk: Talk) -> None:
    blocks = 64 * MIB // 65536
    child = await talk.upload(HASHING)
    parent = await talk.start(PARENT, child, blocks)
    lines = [json.loads(line) for line in (await talk.read(parent)).splitlines()]
    assert lines[0] == ["listed", True]
    assert lines[1] == ["read", 64 * MIB, blocks_of(blocks, 251)]
    assert lines[2][0] == "log"
    assert f"took {blocks_of(blocks, 241)}" in lines[2][1]
    assert lines[3] == ["status", "completed"]
    assert (await talk.until_over(parent))["terminated"]["exitcode"] == 0
    assert (await talk.ask("GET", f"/sequence/{child}")).status == 404


async def test_twenty_requests_at_once(talk: Talk) -> None:
    code = """
        import asyncio
        from sequence_sdk import sequence

        @sequence
        async def many(context, ignored):
            answers = await asyncio.gather(*(context.hub.instance(context.instance_id) for _ in range(20)))
            yield " ".join({one["id"] == context.instance_id and one["status"] for one in answers})
    """
    assert await talk.read(await talk.start(code)) == b"running"


async def test_a_refusal_is_an_exception_that_says_what_the_hub_said(talk: Talk) -> None:
    code = """
        from sequence_sdk import sequence
        from sequence_sdk.hub import HubRefused

        @sequence
        async def bold(context, ignored):
            try:
                await context.hub.instance("nobody")
            except HubRefused as error:
                yield f"{error.status} {error}"
    """
    assert await talk.read(await talk.start(code)) == b"404 Instance nobody not found"


async def test_a_plain_generator_is_told_that_it_has_no_hub(talk: Talk) -> None:
    code = """
        from sequence_sdk import sequence
        from sequence_sdk.hub import UsedOutsideLoop

        @sequence
        def plain(context, ignored):
            try:
                context.hub
            except UsedOutsideLoop as error:
                yield str(error)
    """
    assert b"in the event loop of the Sequence only" in await talk.read(await talk.start(code))


async def test_an_open_request_does_not_hold_up_the_end(talk: Talk) -> None:
    code = """
        from sequence_sdk import sequence

        kept = []

        @sequence
        async def hasty(context, ignored):
            reading = context.hub.read(context.instance_id, "log")
            kept.append((reading, await reading.__aenter__()))
            yield "done"
    """
    instance = await talk.start(code)
    assert await talk.read(instance) == b"done"
    async with asyncio.timeout(DEADLINE):
        assert (await talk.until_over(instance))["status"] == "completed"


async def test_a_slow_reader_keeps_the_memory_of_hub_and_runner_flat(hub: HubProcess, talk: Talk) -> None:
    giving = """
        from sequence_sdk import sequence

        @sequence(gives="application/octet-stream")
        async def endless(context, ignored):
            while True:
                yield b"x" * 65536
    """
    slow = """
        from sequence_sdk import sequence

        @sequence(takes="text/plain")
        async def slow(context, lines, other: str):
            async with context.hub.read(other, "output") as chunks:
                yield f"{len(await anext(chunks)) > 0}\\n"
                async for line in lines:
                    size = 0
                    while size < int(line):
                        size += len(await anext(chunks))
                    yield f"{size >= int(line)}\\n"
    """
    giver = await talk.start(giving)
    instance = await talk.start(slow, giver)
    runner = psutil.Process((await talk.get(f"/instance/{instance}/health"))["processId"])
    of_hub = psutil.Process(hub.pid)
    async with talk.client.read(instance, "output") as chunks:
        assert await anext(chunks) == b"True\n"
        await quiet(runner, of_hub)
        before = runner.memory_info().rss + of_hub.memory_info().rss
        await talk.send(instance, f"{100 * MIB}\n".encode(), end=False)
        assert await anext(chunks) == b"True\n"
        await quiet(runner, of_hub)
        assert runner.memory_info().rss + of_hub.memory_info().rss < before + 20 * MIB
    await talk.client.kill(giver)
    await talk.client.kill(instance)


async def quiet(*processes: psutil.Process) -> None:
    """Wait until processes have nothing to do but wait."""

    def used() -> float:
        return sum(process.cpu_times().user + process.cpu_times().system for process in processes)

    async with asyncio.timeout(DEADLINE):
        before = used()
        while True:
            await asyncio.sleep(0.2)
            now = used()
            if now - before < 0.05:
                return
            before = now


@pytest.mark.parametrize("call", ["read", "ask"])
async def test_a_hub_that_goes_away_breaks_off_what_is_open(tmp_path: Path, call: str) -> None:
    code = """
        import asyncio, pathlib
        from sequence_sdk import sequence
        from sequence_sdk.hub import HubUnreachable, StreamBroken

        @sequence
        async def orphan(context, ignored, file: str, call: str):
            begun = asyncio.Event()

            async def talk():
                try:
                    if call == "ask":
                        begun.set()
                        await context.hub.next_event(context.instance_id, "never")
                    context.logger.info("something to read")
                    async with context.hub.read(context.instance_id, "log") as chunks:
                        async for chunk in chunks:
                            begun.set()
                except (HubUnreachable, StreamBroken) as error:
                    pathlib.Path(file).write_text(f"{type(error).__name__}: {error}")

            async def stopping(seconds, can_keep_alive):  # a hub that is gone is a stop too
                await talking

            context.set_stop_handler(stopping)
            talking = asyncio.create_task(talk())
            await begun.wait()
            yield "begun"
            await talking
    """
    said = tmp_path / "said"
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            instance = await talk.start(code, str(said), call)
            async with talk.client.read(instance, "output") as chunks:
                assert await anext(chunks) == b"begun"
            hub.process.kill()
            hub.process.wait(DEADLINE)
            await eventually(lambda: said.exists() and said.read_text(), "the Sequence has noticed")
    wanted = (
        "HubUnreachable: no hub answers at channel 8" if call == "ask" else "StreamBroken: log of Instance"
    )
    assert said.read_text().startswith(wanted)
