"""An upload: it is unpacked while it arrives, keeps no more than it must, and leaves neither files nor threads."""

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from hub_lite.adapters import upload as module
from hub_lite.adapters.folder_store import FolderStore
from hub_lite.adapters.upload import Upload, UploadAbandoned
from hub_lite.archives import InvalidArchive, PackageLimits, RefusedEntry
from hub_lite.errors import Conflict, PackageError, Unavailable
from hub_lite.packages import DISK_FULL
from tests.hub_lite.test_packages import entry, package

LIMITS = PackageLimits()
DEADLINE = 10.0
NOISE = Random(1).randbytes(3_000_000)
LARGE = package(entry(b"first", b"1"), entry(b"large", NOISE))
PIECE = 50_000


def pieces(archive: bytes) -> Iterator[bytes]:
    for at in range(0, len(archive), PIECE):
        yield archive[at : at + PIECE]


def wait_for(condition) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def workers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("unpack ")]


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    yield
    wait_for(lambda: not workers())


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    return tmp_path / "staged"


@pytest.fixture
def turns() -> threading.Semaphore:
    return threading.Semaphore(1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FolderStore]:
    with FolderStore(tmp_path / "hub", LIMITS) as opened:
        yield opened


def staging(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "hub" / "staging").rglob("*")]


def test_files_are_there_before_the_package_is_whole(staged, turns):
    with Upload(staged, LIMITS, turns) as upload:
        upload.write(LARGE[:1_000_000])
        wait_for(lambda: staged.is_dir() and (staged / "large").exists())
        assert (staged / "first").read_bytes() == b"1"
        wait_for(lambda: (staged / "large").stat().st_size > 800_000)
        upload.write(LARGE[1_000_000:])
        upload.end()
        assert upload.unpack().files == 3
        assert (upload.sha256, upload.size) == (hashlib.sha256(LARGE).hexdigest(), len(LARGE))
        assert (staged / "large").read_bytes() == NOISE
    assert staged.is_dir(), "who took it decides what becomes of it"


def test_a_small_package_needs_no_thread(staged, turns):
    small = package(entry(b"a", b"b"))
    with Upload(staged, LIMITS, turns) as upload:
        for byte in small:
            upload.write(bytes([byte]))
        upload.end()
        assert workers() == []
        assert not staged.exists()
        assert upload.unpack().files == 2
        assert upload.sha256 == hashlib.sha256(small).hexdigest()


def test_a_refusal_comes_while_there_is_more_to_send_and_leaves_nothing(staged, turns):
    bad = package(entry(b"first", NOISE[:200_000]), entry(b"../out", NOISE))
    with Upload(staged, LIMITS, turns) as upload, pytest.raises(RefusedEntry) as caught:  # noqa: PT012
        while True:
            for piece in pieces(bad[:-PIECE]):
                upload.write(piece)
                wait_for(lambda: not upload._arrivals._waiting)
    assert "../out" in str(caught.value)
    assert upload.size < len(bad) // 2
    assert not staged.exists()


async def test_who_waits_for_room_is_told_of_a_refusal(staged, turns):
    turns.acquire()
    with Upload(staged, LIMITS, turns) as upload:
        upload.write(NOISE)
        draining = asyncio.ensure_future(upload.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        turns.release()
        with pytest.raises(InvalidArchive):
            await asyncio.wait_for(draining, DEADLINE)
        with pytest.raises(InvalidArchive):
            await upload.drain()
        with pytest.raises(InvalidArchive):
            upload.end()


async def test_who_is_faster_than_the_disk_waits_and_little_is_kept(staged, turns):
    turns.acquire()
    most = 0
    with Upload(staged, LIMITS, turns) as upload:
        sending = asyncio.ensure_future(send(upload, LARGE))
        for _ in range(1000):
            await asyncio.sleep(0)
            most = max(most, upload.size)
        assert not sending.done()
        assert module._FULL < most <= module._FULL + 2 * PIECE
        turns.release()
        await asyncio.wait_for(sending, DEADLINE)
        await asyncio.to_thread(upload.end)
        assert upload.unpack().files == 3


async def send(upload: Upload, archive: bytes) -> None:
    for piece in pieces(archive):
        upload.write(piece)
        await upload.drain()


async def test_one_that_waits_for_room_can_be_cancelled(staged, turns):
    turns.acquire()
    with Upload(staged, LIMITS, turns) as upload:
        sending = asyncio.ensure_future(send(upload, LARGE))
        for _ in range(100):
            await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    turns.release()
    await asyncio.to_thread(upload.close)
    assert not staged.exists()


def test_one_whose_sender_is_slow_keeps_no_other_waiting(tmp_path, turns):
    with contextlib.ExitStack() as stack:
        for number in range(5):
            slow = stack.enter_context(Upload(tmp_path / f"slow{number}", LIMITS, turns))
            slow.write(LARGE[:1_000_000])
        with Upload(tmp_path / "staged", LIMITS, turns) as upload:
            upload.write(LARGE)
            upload.end()
            assert upload.unpack().files == 3
        assert len(workers()) == 5
    wait_for(lambda: [path.name for path in tmp_path.iterdir()] == ["staged"])


def test_one_that_is_left_half_way_is_cleared_away(staged, turns):
    with Upload(staged, LIMITS, turns) as upload:
        upload.write(LARGE[:1_000_000])
        wait_for((staged / "large").exists)
    upload.close()
    assert not staged.exists()
    with pytest.raises(UploadAbandoned, match="broken off"):
        upload.end()


def test_one_that_is_left_while_it_is_being_kept_is_kept(staged, turns):
    turns.acquire()
    with Upload(staged, LIMITS, turns) as upload:
        upload.write(LARGE)
        keeping = threading.Thread(target=upload.end)
        keeping.start()
        wait_for(lambda: upload._arrivals._is_whole)
    turns.release()
    keeping.join(DEADLINE)
    assert upload.unpack().files == 3


def test_a_full_disk_is_said_to_the_sender(staged, turns, monkeypatch):
    def full(*arguments: object) -> None:
        raise Unavailable(DISK_FULL)

    monkeypatch.setattr(module, "extract", full)
    with Upload(staged, LIMITS, turns) as upload, pytest.raises(Unavailable, match="disk is full"):  # noqa: PT012
        while True:
            upload.write(LARGE[:100_000])
            wait_for(lambda: not upload._arrivals._waiting)


def test_a_store_that_closes_breaks_off_what_arrives(store, tmp_path):
    with store.receive() as upload:
        upload.write(LARGE[:1_000_000])
        wait_for(lambda: "large" in staging(tmp_path))
        store.close()
        assert workers() == []
        assert staging(tmp_path) == []
        with pytest.raises(UploadAbandoned):
            upload.write(b"x")
        with pytest.raises(UploadAbandoned):
            store.add(upload, "id-1")


@pytest.mark.parametrize("archive", [LARGE, LARGE[:-9]], ids=["whole", "cut"])
def test_a_large_package_that_is_refused_at_its_end_leaves_nothing(store, tmp_path, archive):
    with store.receive() as upload:
        for piece in pieces(archive):
            upload.write(piece)
        if archive is LARGE:
            store.add(upload, "id-1")
            with store.receive() as again:  # the same id
                again.write(archive)
                with pytest.raises(Conflict):
                    store.add(again, "id-1")
        else:
            with pytest.raises(PackageError, match="cut short"):
                store.add(upload, "id-1")
    assert staging(tmp_path) == []


def test_a_large_package_that_is_there_already_is_kept_once(store, tmp_path):
    for number in range(2):
        with store.receive() as upload:
            upload.write(LARGE)
            kept = store.add(upload, f"id-{number}")
            (kept.directory / "mark").touch()
    assert len(list((tmp_path / "hub" / "packages").iterdir())) == 1
    assert (store.get("id-0").directory / "mark").exists()
    assert staging(tmp_path) == []
