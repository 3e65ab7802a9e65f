"""The archive: its bytes, its list of hashes, what it does when a file or the output fails, and what it leaves behind."""

import errno
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.pack.archive import output_id, write_file, write_stream
from sequence_sdk.pack.errors import FileChanged, FileUnreadable, OutputNotWritable
from sequence_sdk.pack.files import PackedFile, select_files
from sequence_sdk.pack.sums import SIGNATURE_NAME, SUMS_NAME


def file(path: Path, content: bytes = b"content") -> PackedFile:
    path.write_bytes(content)
    return PackedFile(path.name, path, len(content))


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def packed(*entries: PackedFile) -> bytes:
    stream = io.BytesIO()
    write_stream(stream, entries)
    return stream.getvalue()


class Full(io.RawIOBase):
    """A stream that takes some bytes at a time, and after ``room`` of them none."""

    def __init__(self, room: int, error: OSError | None) -> None:
        super().__init__()
        self.taken = b""
        self.room = room
        self.error = error

    def writable(self) -> bool:
        return True

    def write(self, chunk) -> int | None:
        part = bytes(chunk[: min(100, self.room)])
        if not part:
            if self.error is None:
                return None
            raise self.error
        self.room -= len(part)
        self.taken += part
        return len(part)


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60
).filter(lambda name: name not in {".", ".."} and len(name.encode()) < 200)
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=4).map("/".join), st.binary(max_size=1500), max_size=6
)


@given(TREES, st.integers(0, 3))
def test_what_is_packed_comes_out_of_the_archive(tree, turns):
    with tempfile.TemporaryDirectory() as folder:
        entries = []
        for at, (name, content) in enumerate(tree.items()):
            path = Path(folder, str(at))
            path.write_bytes(content)
            path.chmod(0o700 if (at + turns) % 2 else 0o600)
            entries.append(PackedFile(name, path, len(content)))
        archive = packed(*entries, PackedFile("empty ąę", Path(folder), is_folder=True))
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        *files, empty, sums = tar.getmembers()
        assert {member.name: tar.extractfile(member).read() for member in files} == tree
        assert [member.mode for member in files] == [
            0o755 if (at + turns) % 2 else 0o644 for at in range(len(tree))
        ]
    assert (sums.name, sums.mode) == (SUMS_NAME, 0o644)
    assert empty.isdir()
    assert (empty.name, empty.mode, empty.size) == ("empty ąę", 0o755, 0)


def test_the_archive_says_nothing_of_who_packed_it_when(tmp_path):
    archive = packed(file(tmp_path / "a"))
    assert archive[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = tar.getmembers()
    assert len(members) == 2
    assert {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in members} == {
        (0, 0, "", "", 315532800)
    }


def test_the_bytes_are_known(tmp_path):
    """A change here changes every package that is packed again, and is meant to be seen."""
    tar = gzip.decompress(packed(file(tmp_path / "a", b"x"), PackedFile("b", tmp_path, is_folder=True)))
    assert len(tar) == 10240
    assert (
        hashlib.sha256(tar).hexdigest() == "828281ed44af2fd39332500e9b85ae702a24b563bebf65248c3390fa66c8fc30"
    )


def test_the_facts_are_those_of_the_bytes(tmp_path):
    stream = io.BytesIO()
    facts = write_stream(stream, [file(tmp_path / "a", b"x" * 700), file(tmp_path / "b", b"")])
    assert facts.sha256 == hashlib.sha256(stream.getvalue()).hexdigest()
    assert facts.packed_bytes == len(stream.getvalue())
    assert facts.unpacked_bytes == 700


def unpacked(archive: bytes, folder: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs coreutils")
def test_sha256sum_checks_what_comes_out_of_the_archive(tmp_path):
    names = ["package.json", "a b/ą.txt", "back\\slash", "two\nlines", "re\rturn", "*", "-", " x ", "big"]
    (tmp_path / "x").write_bytes(b"x")
    (tmp_path / "big").write_bytes(os.urandom(600_000))
    entries = [
        PackedFile(name, path, path.stat().st_size)
        for name in names
        for path in [tmp_path / ("big" if name == "big" else "x")]
    ]
    folder = unpacked(packed(*entries, PackedFile("e", tmp_path, is_folder=True)), tmp_path / "it")
    check = ["sha256sum", "--check", "--strict", "--quiet", SUMS_NAME]
    ran = subprocess.run(check, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    assert (folder / SUMS_NAME).read_bytes().count(b"\n") == len(names)
    (folder / "two\nlines").write_bytes(b"y")
    ran = subprocess.run(check, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert ran.returncode == 1
    assert ran.stdout.startswith(b"\\two\\nlines: FAILED")


def test_the_last_entries_are_the_hashes_and_what_the_seal_makes_of_them(tmp_path):
    entries = [file(tmp_path / "b", b"1"), file(tmp_path / "a", b"22")]
    stream, sealed = io.BytesIO(), []
    facts = write_stream(stream, entries, seal=lambda sums: sealed.append(sums) or b"by me\n")
    (sums,) = sealed
    expected = [(hashlib.sha256(content).hexdigest(), name) for name, content in (("a", b"22"), ("b", b"1"))]
    assert sums.decode() == "".join(f"{digest}  {name}\n" for digest, name in expected)
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as tar:
        assert tar.getnames() == ["b", "a", SUMS_NAME, SIGNATURE_NAME]
        assert tar.extractfile(SUMS_NAME).read() == sums
        assert tar.extractfile(SIGNATURE_NAME).read() == b"by me\n"
        assert tar.getmember(SIGNATURE_NAME).mode == 0o644
    assert facts.unpacked_bytes == 3
    write_file(tmp_path / "x.tar.gz", entries, seal=lambda _: b"by me\n")
    assert (tmp_path / "x.tar.gz").read_bytes() == stream.getvalue()


def test_a_seal_that_fails_leaves_no_archive(tmp_path):
    def fails(_sums: bytes) -> bytes:
        raise RuntimeError("the key is gone")

    entry = file(tmp_path / "a")
    with pytest.raises(RuntimeError, match="the key is gone"):
        write_file(tmp_path / "x.tar.gz", [entry], seal=fails)
    assert listing(tmp_path) == ["a"]


def test_tar_and_gzip_read_the_archive(tmp_path):
    long = PackedFile("d/" * 80 + "zażółć.py", file(tmp_path / "x").path, 7)
    archive = packed(file(tmp_path / "package.json"), long)
    subprocess.run(["gzip", "-t"], input=archive, check=True)
    ran = subprocess.run(
        ["tar", "tzf", "-", "--quoting-style=literal"], input=archive, capture_output=True, check=True
    )
    assert ran.stdout.decode().splitlines() == ["package.json", "d/" * 80 + "zażółć.py", SUMS_NAME]
    assert ran.stderr == b""


def test_a_file_of_several_blocks_has_no_seams(tmp_path):
    content = os.urandom(600_001)
    with tarfile.open(fileobj=io.BytesIO(packed(file(tmp_path / "a", content)))) as tar:
        assert tar.extractfile("a").read() == content


def test_memory_does_not_grow_with_the_files(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as large:
        large.truncate(24 * 1024 * 1024)
    tracemalloc.start()
    try:
        write_file(tmp_path / "x.tar.gz", [PackedFile("large", path, path.stat().st_size)])
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_progress_is_told_after_each_block(tmp_path):
    calls = []
    entries = [file(tmp_path / "a", b"x" * 300_000), file(tmp_path / "b", b""), file(tmp_path / "c", b"y")]
    write_stream(io.BytesIO(), entries, lambda *call: calls.append(call))
    assert calls == [("a", 262144, 300_001), ("a", 300_000, 300_001), ("c", 300_001, 300_001)]


@pytest.mark.parametrize(
    "change", [lambda path: os.truncate(path, 10), lambda path: os.truncate(path, 10**6)]
)
def test_a_file_that_changes_its_size_while_it_is_read_is_named(tmp_path, change):
    entry = file(tmp_path / "a", os.urandom(600_000))
    output = tmp_path / "x.tar.gz"
    with pytest.raises(FileChanged) as caught:
        write_file(output, [entry], lambda _name, _done, _total: change(entry.path))
    assert caught.value.path == entry.path
    assert "changed while it was read" in str(caught.value)
    assert listing(tmp_path) == ["a"]


def test_a_file_that_is_written_over_while_it_is_read_is_named(tmp_path):
    entry = file(tmp_path / "a", b"x" * 600_000)
    os.utime(entry.path, (1, 1))
    with pytest.raises(FileChanged):
        write_stream(io.BytesIO(), [entry], lambda *_: entry.path.write_bytes(b"y" * 600_000))


def test_a_file_that_became_something_else_is_named(tmp_path):
    with pytest.raises(FileChanged):
        write_stream(io.BytesIO(), [PackedFile("null", Path(os.devnull), 0)])


def test_a_file_that_vanished_is_named(tmp_path):
    entry = file(tmp_path / "a")
    entry.path.unlink()
    with pytest.raises(FileUnreadable, match="cannot be read"):
        write_file(tmp_path / "x.tar.gz", [entry])
    assert listing(tmp_path) == []


def test_a_file_of_somebody_else_is_named():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        entry = file(Path(folder, "a"))
        entry.path.chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(FileUnreadable, match="Permission denied"):
                packed(entry)
        finally:
            os.seteuid(user)


def test_a_folder_of_somebody_else_is_no_place_for_the_archive(tmp_path):
    entry = file(tmp_path / "a")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(OutputNotWritable) as caught:
                write_file(Path(folder, "x.tar.gz"), [entry])
        finally:
            os.seteuid(user)
    assert str(caught.value) == (
        f"the archive cannot be written to {folder}/x.tar.gz: Permission denied; "
        "choose a place that you may write to with -o"
    )


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("no/such/x.tar.gz", "make its folder first"),
        ("a/x.tar.gz", "Not a directory"),
        ("folder", "Is a directory; name a file with -o"),
        ("n" * 300, "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path, place, words):
    (tmp_path / "folder").mkdir()
    entry = file(tmp_path / "a")
    with pytest.raises(OutputNotWritable) as caught:
        write_file(tmp_path / place, [entry])
    assert caught.value.path == tmp_path / place
    assert words in str(caught.value)
    assert listing(tmp_path) == ["a", "folder"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_a_sentence(tmp_path):
    with pytest.raises(OutputNotWritable, match="No space left on device; free some space"):
        write_file(Path("/dev/full"), [file(tmp_path / "a", os.urandom(100_000))])
    assert Path("/dev/full").is_char_device()


def test_a_device_is_written_to_and_stays_one(tmp_path):
    write_file(Path(os.devnull), [file(tmp_path / "a")])
    assert Path(os.devnull).is_char_device()


def test_a_named_pipe_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    entry = file(tmp_path / "a")
    write_file(pipe, [entry])
    reader.join()
    assert got == [packed(entry)]


def test_a_stream_that_takes_parts_gets_all_of_them(tmp_path):
    entry = file(tmp_path / "a", os.urandom(5000))
    stream = Full(10**6, None)
    write_stream(stream, [entry])
    assert stream.taken == packed(entry)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), BrokenPipeError(32, "gone"), None]
)
def test_a_stream_that_takes_no_more_is_a_sentence(tmp_path, error):
    with pytest.raises(OutputNotWritable) as caught:
        write_stream(Full(250, error), [file(tmp_path / "a", os.urandom(5000))])
    assert caught.value.path is None
    assert str(caught.value).startswith("the archive cannot be written to the stream: ")


def test_a_stream_that_fails_at_the_end_is_a_sentence(tmp_path):
    class FailsToFlush(io.BytesIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputNotWritable, match="No space left"):
        write_stream(FailsToFlush(), [file(tmp_path / "a")])


def interrupt(*_call: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_leaves_what_was_there_before(tmp_path):
    entry = file(tmp_path / "a")
    output = tmp_path / "x.tar.gz"
    with pytest.raises(KeyboardInterrupt):
        write_file(output, [entry], interrupt)
    assert listing(tmp_path) == ["a"]
    output.write_bytes(b"the last one")
    with pytest.raises(KeyboardInterrupt):
        write_file(output, [entry], interrupt)
    assert output.read_bytes() == b"the last one"
    assert listing(tmp_path) == ["a", "x.tar.gz"]


def test_a_whole_archive_replaces_what_was_there_before(tmp_path):
    entry = file(tmp_path / "a")
    output = tmp_path / "x.tar.gz"
    output.write_bytes(b"the last one")
    write_file(output, [entry])
    assert output.read_bytes() == packed(entry)
    assert listing(tmp_path) == ["a", "x.tar.gz"]


def test_a_link_to_the_archive_stays_a_link(tmp_path):
    entry = file(tmp_path / "a")
    (tmp_path / "latest").symlink_to("x.tar.gz")
    for _ in range(2):  # the first time it leads nowhere
        write_file(tmp_path / "latest", [entry])
        assert (tmp_path / "latest").is_symlink()
        assert (tmp_path / "x.tar.gz").read_bytes() == packed(entry)


def test_the_archive_has_the_rights_that_the_umask_leaves(tmp_path):
    entry = file(tmp_path / "a")
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "x.tar.gz", [entry])
    finally:
        os.umask(before)
    assert (tmp_path / "x.tar.gz").stat().st_mode & 0o777 == 0o640


def test_only_a_plain_file_is_an_output_that_could_be_packed_by_mistake(tmp_path):
    entry = file(tmp_path / "a")
    with entry.path.open("rb") as stream:
        status = entry.path.stat()
        assert output_id(stream) == output_id(entry.path) == (status.st_dev, status.st_ino)
    assert output_id(tmp_path / "not yet") is None
    assert output_id(Path(os.devnull)) is None
    assert output_id(io.BytesIO()) is None


def test_two_copies_of_a_folder_give_the_same_bytes(tmp_path):
    names = ["b.py", "a.py", "z/y.py", "z/a.py", "empty", "sub/ąę.txt", "run.sh"]
    one, two = tmp_path / "one", tmp_path / "another name"
    for folder, order, mask, time in ((one, names, 0o022, 10**9), (two, names[::-1], 0o077, 1)):
        before = os.umask(mask)
        try:
            for name in order:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(name)
                if name == "run.sh":
                    path.chmod(0o777 & ~mask)
                os.utime(path, (time, time))
        finally:
            os.umask(before)
    first, second = (packed(*select_files(folder).entries) for folder in (one, two))
    assert first == second
    assert packed(*select_files(shutil.copytree(one, tmp_path / "three")).entries) == first


class Torn(io.FileIO):
    """A file on a disk that gives no more."""

    def read(self, size=-1):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


class OnTornDisk(type(Path())):
    def open(self, *_mode, **_options):
        return Torn(self)


def test_a_file_that_fails_while_it_is_read_is_named(tmp_path):
    entry = file(tmp_path / "a")
    entry = replace(entry, path=OnTornDisk(entry.path))
    with pytest.raises(FileUnreadable, match=r"a cannot be read \(Input/output error\)"):
        packed(entry)


def test_content_that_is_given_goes_in_instead_of_what_the_file_holds(tmp_path):
    told: list[tuple[str, int, int]] = []
    given = replace(file(tmp_path / "a"), content=b"other", bytes=5)
    given.path.chmod(0o755)
    output = io.BytesIO()
    facts = write_stream(output, [given, file(tmp_path / "b", b"1")], lambda *step: told.append(step))
    with tarfile.open(fileobj=io.BytesIO(output.getvalue())) as tar:
        assert [(member.name, member.size, member.mode) for member in tar] == [
            ("a", 5, 0o644),
            ("b", 1, 0o644),
            (SUMS_NAME, 2 * 68, 0o644),
        ]
        assert hashlib.sha256(b"other").hexdigest().encode() in tar.extractfile(SUMS_NAME).read()
        assert tar.extractfile("a").read() == b"other"
    assert told == [("a", 5, 6), ("b", 6, 6)]
    assert facts.unpacked_bytes == 6
    assert given.path.read_bytes() == b"content"
    empty = packed(replace(given, content=b"", bytes=0))
    with tarfile.open(fileobj=io.BytesIO(empty)) as tar:
        assert tar.extractfile("a").read() == b""
