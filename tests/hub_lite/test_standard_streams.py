"""Standard streams: they are read and written whole, and hold up nobody."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from hub_lite.standard_streams import (
    StreamFailure,
    content_type_for,
    descriptor_of,
    in_daemon_thread,
    read_chunks,
    write_all,
)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        (None, "text/plain"), ("a", "text/plain"), ("a.CSV", "text/plain"), ("a.ndjson", "application/x-ndjson"),
        ("a.JSONL", "application/x-ndjson"), ("a.bin", "application/octet-stream"), ("a.txt.gz", "application/octet-stream"),
    ],
)  # fmt: skip
def test_a_content_type_comes_from_the_ending(name: str | None, content_type: str) -> None:
    assert content_type_for(None if name is None else Path(name)) == content_type


async def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(1_000_000))
    read = b"".join([chunk async for chunk in read_chunks(tmp_path / "big", called="big")])
    assert read == (tmp_path / "big").read_bytes()


async def test_standard_input_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").write_bytes(b"some words")
    with (tmp_path / "in").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert [chunk async for chunk in read_chunks(None, called="-")] == [b"some words"]


async def test_a_standard_input_that_is_closed_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert [chunk async for chunk in read_chunks(None, called="-")] == []
    assert descriptor_of(None) is None


async def test_what_cannot_be_read_is_called_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(StreamFailure) as caught:
        await anext(read_chunks(tmp_path / "none", called="--input none"))
    assert str(caught.value) == "--input none: No such file or directory"
    assert str(StreamFailure("x", OSError(errno.EIO, ""))) == f"x: [Errno {errno.EIO}] "


async def test_a_pipe_that_is_full_and_does_not_block_takes_all_in_the_end() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    sent = os.urandom(500_000)
    writing = asyncio.create_task(in_daemon_thread(write_all, writer, sent))
    got = b""
    while len(got) < len(sent):
        got += await asyncio.to_thread(os.read, reader, 65536)
    await writing
    assert got == sent
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        await in_daemon_thread(write_all, writer, b"more")
    os.close(writer)


def test_nothing_is_written_where_nothing_is_open() -> None:
    assert write_all(None, b"words") is None


async def test_a_call_that_never_returns_holds_up_nobody() -> None:
    go = threading.Event()
    call = asyncio.create_task(in_daemon_thread(go.wait))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go.set()
