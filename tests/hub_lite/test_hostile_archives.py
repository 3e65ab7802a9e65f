"""A thousand hostile archives and more: each becomes a folder within the limits, or a sentence and nothing else.

The properties below have ``max_examples`` that together are above 1000. What they found is a named case in test_packages.py.
"""

import hashlib
import io
import itertools
import stat
import tarfile
import tempfile
import threading
import tracemalloc
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub_lite import packages
from hub_lite.adapters import upload as upload_module
from hub_lite.adapters.folder_store import FolderStore
from hub_lite.adapters.upload import Upload
from hub_lite.archives import PackageLimits, Source
from hub_lite.errors import PackageError
from hub_lite.packages import extract
from hub_lite.removal import remove_tree

from .test_packages import END, MANIFEST, entry, header, package, pax, record, tree, zipped

LIMITS = PackageLimits(
    max_unpacked_bytes=8000,
    max_entries=24,
    max_name_bytes=300,
    max_extension_bytes=3000,
    ratio_free_bytes=40_000,
)
MEMORY = 4 * 1024**2  # bytes; what is inflated at once, and the links that wait
OUTSIDE = {"outside": None, "outside/kept": b"kept", "kept": b"kept"}


def test_a_refusal_is_a_422():
    assert {one.status for one in (PackageError, *PackageError.__subclasses__())} == {422}


def on_disk(folder: Path) -> tuple[int, int]:
    """How many files and folders there are below a folder, and how many bytes in them."""
    found = [path.lstat() for path in folder.rglob("*")]
    return len(found), sum(status.st_size for status in found if stat.S_ISREG(status.st_mode))


def outcome(archive: bytes, limits: PackageLimits = LIMITS) -> dict[str, bytes | None] | str:
    """Unpack, check what must hold for every archive, and return the tree or the sentence."""
    with tempfile.TemporaryDirectory() as place:
        top = Path(place)
        (top / "outside").mkdir()
        for path in ("outside/kept", "kept"):
            (top / path).write_bytes(b"kept")
        most: list[tuple[int, int]] = []

        def measured_removal(folder: Path) -> None:
            most.append(on_disk(folder))  # nothing was removed before: more was never there
            remove_tree(folder)

        result: dict[str, bytes | None] | str
        with mock.patch.object(packages, "remove_tree", measured_removal):
            tracemalloc.start()
            try:
                extracted = extract(io.BytesIO(archive), top / "it", limits)
                result = tree(top / "it")
            except PackageError as error:  # and no other
                result = str(error)
            finally:
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
        if isinstance(result, str):
            assert place not in result
            assert result.isprintable()
            assert result.endswith(".") or ": " in result
            assert 10 < len(result) < 1500
        else:
            made = [path.lstat() for path in (top / "it").rglob("*")]
            assert all(stat.S_IMODE(one.st_mode) in (0o644, 0o755) for one in made)
            assert all(stat.S_ISREG(one.st_mode) or stat.S_ISDIR(one.st_mode) for one in made)
            assert all(one.st_nlink == 1 for one in made if stat.S_ISREG(one.st_mode))
            most.append(on_disk(top / "it"))
            assert most[0][1] == extracted.bytes
            assert sum(content is not None for content in result.values()) == extracted.files
            assert "package.json" in result
            remove_tree(top / "it")
        entries, size = most[0]
        assert entries <= limits.max_entries
        assert size <= limits.max_unpacked_bytes
        assert peak < MEMORY
        assert tree(top) == OUTSIDE
        return result


# Entries of every kind, named and linked in every way.

WORDS = [
    b"a", b"b", b"d", b"..", b".", b"", b"package.json", b"outside", b"kept", b"it", b"c" * 90, b"x" * 256, b"\xff",
    b"\\", b"\0", b"CON", b"~", b"-rf", b"\n", "\u202e\u00e9".encode(), "e\u0301".encode(), b"\xed\xa0\x80", b"/etc/passwd",
]  # fmt: skip
PARTS = st.sampled_from(WORDS) | st.text(max_size=6).map(lambda text: text.encode(errors="surrogatepass"))
GOOD_PARTS = st.sampled_from([b"a", b"b", b"d", b"e"])
NAMES = st.one_of(
    st.lists(GOOD_PARTS, min_size=1, max_size=3).map(b"/".join),
    st.lists(PARTS, min_size=1, max_size=5).map(b"/".join),
    st.integers(2, 160).map(lambda depth: b"/".join([b"n"] * depth)),
)
CONTENTS = st.binary(max_size=600) | st.integers(0, 20_000).map(bytes)
LONG = st.sampled_from([b"L", b"K"])
ANNOUNCED = st.one_of(
    st.builds(lambda kind, name: entry(b"@LongLink", name + b"\0", kind), LONG, NAMES),
    st.lists(
        st.tuples(
            st.sampled_from(
                [b"path", b"linkpath", b"size", b"mtime", b"GNU.sparse.major", b"SCHILY.xattr.user.a"]
            ),
            NAMES | st.integers(-5, 2**70).map(lambda number: b"%d" % number),
        ),
        max_size=3,
    ).map(lambda records: pax(*records)),
    st.builds(lambda name: pax((b"path", name), kind=b"g"), NAMES),
    st.just(pax((b"comment", b"c"), kind=b"g")),
)
FIELDS = {
    "link": NAMES.map(lambda name: name[:100]),
    "mode": st.integers(0, 0o7777777),
    "prefix": st.sampled_from([b"", b"", b"p", b"..", b"/", b"d\0junk"]),
    "magic": st.sampled_from([b"ustar\x0000", b"ustar  \0", bytes(8)]),
}
SHORT_NAMES = NAMES.map(lambda name: name[:100])
ONE = st.one_of(
    st.builds(entry, SHORT_NAMES, CONTENTS, st.just(b"0"), **FIELDS),
    st.builds(entry, SHORT_NAMES, st.just(b""), st.sampled_from([b"1", b"2", b"5"]), **FIELDS),
    st.builds(
        entry,
        SHORT_NAMES,
        CONTENTS,
        st.sampled_from([bytes((one,)) for one in b"0125734670SDMNVXA\0\xff"]),
        **FIELDS,
    ),
    st.builds(
        lambda before, name, kind, link: before + entry(name, b"", kind, link=link),
        ANNOUNCED,
        SHORT_NAMES,
        st.sampled_from([b"0", b"1", b"2", b"5"]),
        SHORT_NAMES,
    ),
)
ENDS = st.sampled_from([END, END, END, END, b"", bytes(512), END + b"x" * 512, END + bytes(9000), END[:-1]])


@settings(max_examples=300)
@given(st.lists(ONE, max_size=8), ENDS)
def test_entries_of_any_kind_named_and_linked_in_any_way(entries, end):
    outcome(package(*entries, end=end))


@settings(max_examples=80)
@given(st.lists(ONE, min_size=1, max_size=3), st.data())
def test_an_entry_that_comes_twice_is_refused(entries, data):
    again = data.draw(st.sampled_from(entries))
    plain = entry(b"twice", b"1")
    assert isinstance(outcome(package(*entries, again, plain, plain)), str)


# Headers that lie.

NUMBERS = st.one_of(
    st.integers(0, 8**11 - 1),
    st.integers(0, 2**95).map(lambda number: bytes((0x80,)) + number.to_bytes(12)[1:]),
    st.binary(min_size=12, max_size=12),
    st.sampled_from([b"\xff" * 12, b"-0000000001\0", b"7" * 12, b" " * 12, bytes(12), b"0x10".ljust(12)]),
)


@settings(max_examples=100)
@given(st.lists(st.builds(header, SHORT_NAMES, size=NUMBERS), min_size=1, max_size=3), CONTENTS)
def test_any_size_in_a_header_is_a_size_or_a_refusal(headers, content):
    outcome(package(*(one + content + bytes(-len(content) % 512) for one in headers)))


@settings(max_examples=80)
@given(st.integers(0, 511), st.integers(1, 255), st.booleans())
def test_a_changed_byte_in_a_header_is_refused_or_read_under_a_right_checksum(at, change, right):
    block = bytearray(header(b"a", size=5))
    block[at] ^= change
    if right:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    found = outcome(package(bytes(block) + b"hello".ljust(512, b"\0")))
    if not right and not 148 <= at < 156:
        assert "no tar" in str(found)


# pax headers and sparse files.

SPARSE = st.sampled_from(
    [
        b"GNU.sparse.major",
        b"GNU.sparse.map",
        b"GNU.sparse.name",
        b"GNU.sparse.numblocks",
        b"GNU.sparse.realsize",
    ]
)
LENGTHS = st.sampled_from(
    [b"0", b"1", b"9", b"00017", b"-3", b"99999999999999999999", b"1e3", b"", b"\xd9\xa3"]
)
RECORDS = st.one_of(
    st.builds(record, st.sampled_from([b"path", b"size", b"linkpath", b""]) | st.binary(max_size=4), NAMES),
    st.builds(
        lambda length, key: length + b" " + key + b"=v\n", LENGTHS, st.sampled_from([b"path", b"size"])
    ),
    st.binary(max_size=20),
)


@settings(max_examples=100)
@given(st.lists(RECORDS, max_size=4).map(b"".join), st.sampled_from([b"x", b"g", b"L", b"K"]), SHORT_NAMES)
def test_any_extension_header_is_understood_or_refused(content, kind, name):
    outcome(package(entry(b"PaxHeader", content, kind) + entry(name, b"")))


@settings(max_examples=60)
@given(SPARSE, st.binary(max_size=30), st.booleans(), st.sampled_from([b"x", b"g"]), CONTENTS)
def test_a_sparse_file_is_refused_in_every_form(key, value, old, kind, content):
    form = entry(b"holes", content, b"S") if old else pax((key, value), kind=kind) + entry(b"holes", content)
    assert "sparse" in str(outcome(package(form), PackageLimits(max_entries=24, max_unpacked_bytes=100_000)))


# gzip that is cut, damaged, or put together.

WHOLE = (
    entry(b"package.json", MANIFEST) + entry(b"d/a", b"1" * 700) + entry(b"b", kind=b"2", link=b"d/a") + END
)
PACKED = zipped(WHOLE)


@settings(max_examples=120)
@given(st.data())
def test_a_file_that_is_cut_or_damaged_is_refused_or_as_it_was(data):
    archive = bytearray(PACKED)
    for _ in range(data.draw(st.integers(0, 3))):
        archive[data.draw(st.integers(0, len(archive) - 1))] ^= data.draw(st.integers(1, 255))
    length = data.draw(st.integers(0, len(archive)))
    found = outcome(bytes(archive[:length]))
    if not isinstance(found, str):
        assert found == {"package.json": MANIFEST, "d": None, "d/a": b"1" * 700, "b": b"1" * 700}


MEMBERS = st.lists(
    st.integers(0, len(WHOLE)) | st.sampled_from([b"", bytes(3), b"\x1f", b"\x1f\x8b", b"junk", PACKED]),
    max_size=4,
)


@settings(max_examples=80)
@given(MEMBERS, st.sampled_from([0, 1, 9]))
def test_concatenated_members_are_one_tar_and_anything_else_between_them_is_refused(steps, level):
    archive, done, is_whole = b"", 0, True
    for step in steps:
        if isinstance(step, bytes):
            archive += step
            is_whole = is_whole and not step
        else:
            archive += zipped(WHOLE[done : max(done, step)], level)
            done = max(done, step)
    archive += zipped(WHOLE[done:], level)
    assert isinstance(outcome(archive), dict) == is_whole


# Many, large and deep.


@settings(max_examples=60)
@given(
    st.integers(0, 60),
    st.sampled_from([b"0", b"5", b"2", b"1", b"g"]),
    st.integers(0, 6),
    st.integers(0, 5_000_000),
)
def test_many_deep_large_entries_are_within_the_limits_or_refused(count, kind, depth, size):
    many = (
        entry(b"d/" * depth + b"%d" % number, b"", kind, link=b"package.json" if kind == b"1" else b"large")
        for number in range(count)
    )
    found = outcome(package(*many, entry(b"large", bytes(size))))
    if size > LIMITS.max_unpacked_bytes:
        assert "is too big" in str(found) or "refused" in str(found)


# What a packer writes, with links, is what is unpacked.


@settings(max_examples=70)
@given(
    st.dictionaries(
        st.sampled_from(["a", "d/a", "d/e/b", "main.py", "zażółć", "n" * 120 + "/x", ".b"]),
        st.binary(max_size=300),
        max_size=5,
    ),
    st.sets(st.sampled_from(["l1", "d/l2", "l3/l4"])),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.booleans(),
)
def test_an_honest_package_with_links_is_unpacked_as_the_packer_meant_it(files, links, form, links_first):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=form) as tar:
        plain = [(name, content) for name, content in {"package.json": MANIFEST, **files}.items()]
        linked = [(name, "../" * name.count("/") + "package.json") for name in sorted(links)]

        def add_links() -> None:
            for name, target in linked:
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, target
                tar.addfile(link)

        if links_first:
            add_links()
        for name, content in plain:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if not links_first:
            add_links()
    found = outcome(buffer.getvalue())
    assert isinstance(found, dict), found
    unpacked = {name: content for name, content in found.items() if content is not None}
    assert unpacked == {"package.json": MANIFEST, **files, **dict.fromkeys(links, MANIFEST)}


# Arrivals, cut anywhere.

CUTS = st.lists(st.integers(1, 3000), min_size=1, max_size=12)


class Arriving:
    """An archive that arrives in pieces of these sizes, over and over."""

    def __init__(self, archive: bytes, sizes: list[int]) -> None:
        self._rest = archive
        self._sizes = itertools.cycle(sizes)

    def read(self, size: int, /) -> bytes:
        size = min(size, next(self._sizes))
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def unpacked(source: Source) -> dict[str, bytes | None] | str:
    """What becomes of a source: the tree, or the sentence."""
    with tempfile.TemporaryDirectory() as place:
        try:
            extract(source, Path(place) / "it", LIMITS)
        except PackageError as error:
            return str(error)
        return tree(Path(place) / "it")


@settings(max_examples=120)
@given(st.lists(ONE, max_size=5), ENDS, CUTS, st.integers(0, 300))
def test_where_the_pieces_of_an_arriving_archive_are_cut_changes_nothing(entries, end, sizes, missing):
    archive = package(*entries, end=end)
    archive = archive[: len(archive) - missing] if missing > 200 else archive
    assert unpacked(Arriving(archive, sizes)) == unpacked(io.BytesIO(archive))


@settings(max_examples=60)
@given(st.lists(ONE, max_size=4), ENDS, CUTS)
def test_an_upload_that_is_unpacked_while_it_arrives_becomes_what_it_would_from_a_file(entries, end, sizes):
    archive = package(*entries, end=end)
    arriving = Arriving(archive, sizes)
    found: dict[str, bytes | None] | str
    with tempfile.TemporaryDirectory() as place, mock.patch.object(upload_module, "_SMALL", 0):
        staged = Path(place) / "it"
        with Upload(staged, LIMITS, threading.Semaphore(1)) as upload:
            try:
                while piece := arriving.read(3000):
                    upload.write(piece)
                upload.end()
                upload.unpack()
                found = tree(staged)
                assert upload.sha256 == hashlib.sha256(archive).hexdigest()
            except PackageError as error:
                found = str(error)
                assert not staged.exists()
    assert found == unpacked(io.BytesIO(archive))


# The store around it.


@settings(max_examples=30)
@given(st.lists(ONE, max_size=3), ENDS, st.integers(0, 400))
def test_a_refused_upload_leaves_nothing_in_the_store(entries, end, cut):
    archive = package(*entries, end=end)
    with tempfile.TemporaryDirectory() as place, FolderStore(Path(place), LIMITS) as store:
        kept, refusal = [], ""
        with store.receive() as upload:
            upload.write(archive[: max(0, len(archive) - cut)] if cut > 200 else archive)
            try:
                kept = [store.add(upload, "id-1").sha256]
            except PackageError as error:
                refusal = str(error)
        assert bool(kept) is not bool(refusal)
        assert [one.sha256 for one in store.all()] == kept
        assert [path.name for path in (Path(place) / "packages").iterdir()] == kept
        assert list((Path(place) / "staging").iterdir()) == []


@pytest.mark.parametrize("cut", range(0, len(PACKED), 7))
def test_a_package_cut_at_a_byte_is_refused(cut):
    assert "Invalid pkg tar.gz archive" in str(outcome(PACKED[:cut]))
