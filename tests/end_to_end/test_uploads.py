"""Packages on their way into a real hub: unpacked while they arrive, refused at once, and cleared away when they break off."""

import asyncio
import hashlib
import io
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from .harness import DEADLINE, HubProcess, Talk, eventually, make_archive, running_hub, talking_to

MANIFEST = b'{"name": "large", "main": "main.py", "engines": {"python3": ">=3.11"}}'
ECHO = b"async def run(context, input):\n    async for line in input:\n        yield line\n"
MIB = 1024 * 1024
OCTETS = {"Content-Type": "application/octet-stream"}


def large(size: int = 4 * MIB, *more: tuple[str, bytes]) -> bytes:
    return make_archive(("package.json", MANIFEST), ("main.py", ECHO), ("large", os.urandom(size)), *more)


@asynccontextmanager
async def sending(
    hub: HubProcess, length: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Begin an upload of so many bytes, of which none is sent yet."""
    address = urlsplit(hub.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(
            f"POST {address.path}/sequence HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()
        )
        yield reader, writer
    finally:
        writer.transport.abort()


def staged(hub: HubProcess) -> list[Path]:
    return list((hub.data_dir / "staging").glob("*/large"))


async def test_a_package_is_on_the_disk_while_it_arrives(hub: HubProcess, talk: Talk) -> None:
    package = large()
    async with sending(hub, len(package)) as (reader, writer), asyncio.timeout(DEADLINE):
        writer.write(package[: 3 * MIB])
        await eventually(lambda: staged(hub) and staged(hub)[0].stat().st_size > 2 * MIB, "most is unpacked")
        writer.write(package[3 * MIB :])
        assert b" 200 " in await reader.readline()
    kept = hub.data_dir / "packages" / hashlib.sha256(package).hexdigest()
    assert (kept / "large").stat().st_size == 4 * MIB
    assert staged(hub) == []


@pytest.mark.parametrize("form", [False, True], ids=["bare", "form"])
async def test_a_bad_package_is_refused_while_its_sender_has_more(
    hub: HubProcess, talk: Talk, form: bool
) -> None:
    bad = make_archive(("../out", b"x"), ("large", os.urandom(MIB)))
    head = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' if form else b""
    more = b"Content-Type: multipart/form-data; boundary=b\r\n" if form else b""
    address = urlsplit(hub.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        b"POST %b/sequence HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: 90000000\r\n\r\n%b"
        % (address.path.encode(), more, head)
    )
    answer = asyncio.ensure_future(reader.readuntil(b"}"))
    async with asyncio.timeout(DEADLINE):
        sent = 0
        while not answer.done():
            writer.write(bad[sent : sent + 100_000] or bytes(100_000))
            await writer.drain()
            sent += 100_000
            await asyncio.sleep(0.001)
    assert b" 422 " in await answer
    assert b"'../out' of the package is refused" in await answer
    assert sent < 80_000_000
    writer.transport.abort()
    assert not list((hub.data_dir / "staging").iterdir()), "what is refused is gone when the answer is there"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_shows_why_a_large_package_is_refused(hub: HubProcess, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tar.gz"
    bad.write_bytes(make_archive(("../out", b"x"), ("large", os.urandom(20 * MIB))))
    done = await asyncio.to_thread(
        subprocess.run,
        ["curl", "-sS", "--max-time", "30", "-H", "Content-Type: application/octet-stream", "--data-binary", f"@{bad}",
         f"{hub.url}/sequence"],
        check=False,
        capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"of the package is refused" in done.stdout


async def test_uploads_that_break_off_leave_no_file_no_thread_and_no_descriptor(
    hub: HubProcess, talk: Talk
) -> None:
    process = psutil.Process(hub.pid)
    await talk.get("/version")
    threads, descriptors = process.num_threads(), process.num_fds()
    package = large()
    for _ in range(5):
        async with sending(hub, len(package)) as (_, writer):
            writer.write(package[: 2 * MIB])
            await eventually(lambda: staged(hub), "the upload has begun")
        await eventually(lambda: not list((hub.data_dir / "staging").iterdir()), "nothing is left of it")
    await eventually(lambda: process.num_threads() <= threads, "no thread unpacks")
    await eventually(lambda: process.num_fds() <= descriptors, "no descriptor is open")


async def test_slow_uploads_keep_no_other_waiting(hub: HubProcess, talk: Talk) -> None:
    package = large()
    async with AsyncExitStack() as stack:
        for _ in range(40):
            _, writer = await stack.enter_async_context(sending(hub, len(package)))
            writer.write(package[:200_000])
        await eventually(lambda: len(staged(hub)) == 40, "all have begun")
        begin = time.monotonic()
        answer = await talk.ask("POST", "/sequence", data=io.BytesIO(large()), headers=OCTETS)
        assert answer.status == 200
        assert (await talk.ask("POST", "/sequence", data=large(10), headers=OCTETS)).status == 200
        assert time.monotonic() - begin < DEADLINE / 2
    await eventually(lambda: not list((hub.data_dir / "staging").iterdir()), "nothing is left of them")


async def test_a_hub_that_is_told_to_end_clears_up_what_arrives(tmp_path: Path) -> None:
    with running_hub(tmp_path) as hub:
        package = large()
        async with sending(hub, len(package)) as (_, writer), talking_to(hub.url):
            writer.write(package[: 2 * MIB])
            await eventually(lambda: staged(hub), "the upload has begun")
            assert await asyncio.to_thread(hub.end, signal.SIGTERM) == 0
        assert list((hub.data_dir / "staging").iterdir()) == []
        assert "Traceback" not in hub.log()
