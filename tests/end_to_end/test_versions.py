"""Versions of a Sequence on a real hub: a bad package is taken back, and nothing that runs notices."""

import asyncio
import functools
import re
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .harness import DEADLINE, HubProcess, Talk, eventually, make_package, running_hub, talking_to
from .test_operate_commands import Shell

READS_ITS_FILE = """
from pathlib import Path

async def run(context, input):
    async for line in input:
        yield line.strip() + " " + Path(__file__).with_name("word.txt").read_text() + "\\n"
"""
OCTETS = {"Content-Type": "application/octet-stream"}


@functools.cache  # a gzip has the time of its making: made twice it may be two packages
def package(word: str, version: str = "1.0.0") -> bytes:
    return make_package(READS_ITS_FILE, files={"word.txt": word}, name="words", version=version)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def put(talk: Talk, sequence: str, content: bytes) -> None:
    answer = await talk.ask("PUT", f"/sequence/{sequence}", data=content, headers=OCTETS)
    assert (answer.status, answer.json) == (200, {"id": sequence})


async def rollback(talk: Talk, sequence: str, version: int | None = None) -> int:
    body = {} if version is None else {"version": version}
    answer = await talk.ask("POST", f"/sequence/{sequence}/rollback", json=body)
    assert answer.status == 200, answer.body
    return int(answer.json["version"])


async def versions(talk: Talk, sequence: str) -> list[tuple[int, str]]:
    return [
        (one["version"], one["config"]["version"]) for one in await talk.get(f"/sequence/{sequence}/versions")
    ]


async def word(talk: Talk, sequence: str) -> str:
    """What a new Instance reads in its files."""
    instance = await talk.client.start(sequence)
    await talk.send(instance, b"new\n")
    return (await talk.read(instance)).decode()


def packages(hub: HubProcess) -> int:
    return len([*(hub.data_dir / "packages").iterdir()])


async def test_a_bad_package_is_taken_back_and_what_runs_keeps_its_files(folder: Path) -> None:
    with running_hub(folder) as hub:
        async with talking_to(hub.url) as talk:
            sequence = await talk.upload_bytes(package("first"))
            running = await talk.client.start(sequence)
            await talk.send(running, b"before\n", end=False)
            await put(talk, sequence, package("second", "2.0.0"))
            await put(talk, sequence, package("second", "2.0.0"))
            assert await versions(talk, sequence) == [(2, "2.0.0"), (1, "1.0.0")]
            assert await word(talk, sequence) == "new second\n"
            await talk.send(running, b"after\n", end=False)
            assert await rollback(talk, sequence) == 3
            assert await word(talk, sequence) == "new first\n"
            newer = await talk.client.start(sequence)
            await put(talk, sequence, package("third", "3.0.0"))
            await talk.send(running, b"end\n")
            await talk.send(newer, b"end\n")
            assert await talk.read(running) == b"before first\nafter first\nend first\n"
            assert await talk.read(newer) == b"end first\n"
            before = await talk.get(f"/sequence/{sequence}/versions")
            assert [(one["version"], one["current"]) for one in before] == [
                (4, True), (3, False), (2, False), (1, False),
            ]  # fmt: skip
        assert hub.end(signal.SIGKILL) == -signal.SIGKILL
    with running_hub(folder) as hub:
        async with talking_to(hub.url) as talk:
            assert await talk.get(f"/sequence/{sequence}/versions") == before
            assert await word(talk, sequence) == "new third\n"
            assert await rollback(talk, sequence, 2) == 5
            assert await word(talk, sequence) == "new second\n"
            assert packages(hub) == 3
            await talk.client.delete_sequence(sequence, force=True)
            await eventually(lambda: packages(hub) == 0, "no package is left")


async def test_old_versions_go_when_nothing_runs_them_and_a_package_of_two_sequences_is_there_once(
    folder: Path,
) -> None:
    settings = folder / "hub.json"
    settings.write_text('{"packages": {"keptVersions": 2}}')
    with running_hub(folder, "--config", str(settings)) as hub:
        async with talking_to(hub.url) as talk:
            sequence = await talk.upload_bytes(package("first"))
            other = await talk.upload_bytes(package("first"))
            assert packages(hub) == 1
            await talk.client.delete_sequence(other)
            assert packages(hub) == 1
            running = await talk.client.start(sequence)
            for name in ("second", "third"):
                await put(talk, sequence, package(name))
            assert [one for one, _ in await versions(talk, sequence)] == [3, 2]
            assert packages(hub) == 3, "the first is still run"
            await talk.send(running, b"x\n")
            assert await talk.read(running) == b"x first\n"
            await eventually(lambda: packages(hub) == 2, "the first package is removed")
            answer = await talk.ask("POST", f"/sequence/{sequence}/rollback", json={"version": 1})
            assert (answer.status, answer.error) == (
                404,
                f"Sequence {sequence} has no version 1; it has 2, 3.",
            )


async def test_state_survives_a_rollback(folder: Path) -> None:
    counts = """
    async def run(context, input):
        async for line in input:
            count = await context.state.get("count", 0) + 1
            await context.state.set("count", count)
            yield f"{count}\\n"
    """
    keeps = "an-id-of-our-own-0000000000000000000"
    with running_hub(folder) as hub:
        async with talking_to(hub.url) as talk:
            sequence = await talk.upload(counts, version="1.0.0")
            for expected in ("1\n2\n", "3\n4\n", "5\n6\n"):
                instance = await talk.client.start(sequence, instance_id=keeps)
                await talk.send(instance, b"a\nb\n")
                assert (await talk.read(instance)).decode() == expected
                await talk.until_over(instance)
                await talk.ask("POST", f"/instance/{instance}/_kill", json={"removeImmediately": True})
                if expected == "1\n2\n":
                    await put(talk, sequence, make_package(counts, version="2.0.0"))
                else:
                    await rollback(talk, sequence)


def test_the_commands_list_versions_and_go_back(
    hub: HubProcess, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    shell = Shell(hub.url, capfdbinary)
    first, second = tmp_path / "one.tar.gz", tmp_path / "two.tar.gz"
    first.write_bytes(package("first"))
    second.write_bytes(package("second", "2.0.0"))
    sequence = shell.says("send", first).strip()
    assert shell.refused("rollback", "words") == (
        f"hub-lite: Sequence {sequence} has no version before the present one, which is 1."
    )
    shell.says("send", second, "--replace", "words")
    heading, newest, oldest = shell.says("versions", sequence[:8]).splitlines()
    assert heading.split() == ["NUMBER", "NAME", "VERSION", "SIZE", "AGE", "SHA256", "SIGNER"]
    assert re.fullmatch(r"2\* +words +2\.0\.0 +\d+ B +\d+s +[0-9a-f]{12}", newest)
    assert re.fullmatch(r"1 +words +1\.0\.0 +\d+ B +\d+s +[0-9a-f]{12}", oldest)
    listed = shell.json("versions", "-", "--json")
    assert [one["version"] for one in listed] == [2, 1]
    assert shell.says("rollback", "words") == "3\n"
    done = shell.json("rollback", sequence, "2", "--json")
    assert done == {"id": sequence, "version": 4, "sha256": listed[0]["sha256"]}
    assert "0 is not in the range" in shell.refused("rollback", "words", "0", status=2)
    assert shell.refused("versions", "nobody") == (
        "hub-lite: no Sequence is called 'nobody', nor has an id that begins so; `hub-lite sequences` lists all"
    )


async def test_an_upload_that_trickles_is_ended_and_leaves_nothing_while_others_are_taken(
    folder: Path,
) -> None:
    settings = folder / "hub.json"
    settings.write_text('{"timings": {"uploadTimeout": 500}}')
    with running_hub(folder, "--config", str(settings)) as hub:
        port = urlsplit(hub.url).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        content = package("first")
        head = f"POST /api/v1/sequence HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content[:100])

        async def trickle() -> None:
            for byte in content[100:]:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)

        sender = asyncio.create_task(trickle())
        async with talking_to(hub.url) as talk, asyncio.timeout(DEADLINE):
            assert await word(talk, await talk.upload_bytes(package("second"))) == "new second\n"
            answer = await reader.readuntil(b"send it again")
            assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert b"the package has not arrived within 0.5 s" in answer
            sender.cancel()
            writer.transport.abort()
            assert len(await talk.get("/sequences")) == 1
            assert packages(hub) == 1
            await eventually(lambda: not [*(hub.data_dir / "staging").iterdir()], "nothing is left of it")
