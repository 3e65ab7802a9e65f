"""Packages: good ones become folders, hostile ones become sentences and leave nothing behind."""

import errno
import gzip
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub_lite.archives import InvalidArchive, PackageLimits, PackageTooBig, RefusedEntry
from hub_lite.errors import HubError, PackageError, PayloadTooLarge, Unavailable
from hub_lite.packages import Extracted, InvalidManifest, NoManifest, extract
from hub_lite.removal import remove_tree

LIMITS = PackageLimits()
MANIFEST = b'{"name": "hello", "main": "main.py", "engines": {"python3": ">=3.11"}}'
END = bytes(1024)


def zipped(data: bytes, level: int = 9) -> bytes:
    """Gzip without the time of day, which would change the names of tests from one process to the next."""
    return gzip.compress(data, level, mtime=0)


def number(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def header(
    name: bytes,
    kind: bytes = b"0",
    size: int | bytes = 0,
    mode: int = 0o644,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
) -> bytes:
    """One tar header block, whatever is asked for, with a right checksum."""
    size_field = size if isinstance(size, bytes) else number(size, 12)
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            number(mode, 8),
            number(0, 8),
            number(0, 8),
            size_field,
            number(0, 12),
            b" " * 8,
        )
    )
    block += kind + link.ljust(100, b"\0") + magic + bytes(80) + prefix.ljust(155, b"\0") + bytes(12)
    assert len(block) == 512
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def entry(name: bytes, content: bytes = b"", kind: bytes = b"0", **more: object) -> bytes:
    """A header and its content, filled up to whole blocks."""
    more.setdefault("size", len(content))
    return header(name, kind, **more) + content + bytes(-len(content) % 512)


def record(key: bytes, value: bytes) -> bytes:
    """One record of a pax header; its length counts its own digits."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d%s" % (length, rest)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    return entry(b"PaxHeader/it", b"".join(record(key, value) for key, value in records), kind)


def package(*entries: bytes, end: bytes = END, manifest: bytes = MANIFEST) -> bytes:
    return zipped(entry(b"package.json", manifest) + b"".join(entries) + end, 1)


def unpack(archive: bytes, target: Path, limits: PackageLimits = LIMITS) -> Extracted:
    return extract(io.BytesIO(archive), target, limits)


def tree(folder: Path) -> dict[str, bytes | None]:
    """The files below a folder with their content, and its folders with None."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# What is taken.


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("lead", ["", "./"])
def test_what_a_packer_writes_is_unpacked(form, lead, tmp_path):
    files = {
        "package.json": MANIFEST,
        "main.py": b"async def run(context, input): ...\n",
        "empty": b"",
        "block": b"b" * 512,
        "big": os.urandom(700_000),
        f"{'d' * 60}/{'e' * 60}/long.txt": b"long",
        "zażółć/gęślą.txt": "jaźń".encode(),
    }
    if form != tarfile.USTAR_FORMAT:
        files["f" * 250 + "/" + "g" * 250 + "/" + "h" * 250] = b"very long"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=form) as tar:
        if lead:
            folder = tarfile.TarInfo("./")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(lead + name)
            info.size = len(content)
            info.mtime = 1.5 if form == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(content))

    extracted = unpack(buffer.getvalue(), tmp_path / "it")

    assert {name: content for name, content in tree(tmp_path / "it").items() if content is not None} == files
    assert extracted.files == len(files)
    assert extracted.bytes == sum(map(len, files.values()))
    assert extracted.manifest.main == "main.py"
    assert extracted.manifest.name == "hello"


def test_what_gnu_tar_packs_is_unpacked(tmp_path):
    if shutil.which("tar") is None:
        pytest.skip("there is no tar here")
    source = tmp_path / "source"
    (source / "a" / ("n" * 150)).mkdir(parents=True)
    (source / "package.json").write_bytes(MANIFEST)
    (source / "a" / ("n" * 150) / "deep.txt").write_bytes(b"deep")
    (source / "run.sh").write_bytes(b"#!/bin/sh\n")
    (source / "run.sh").chmod(0o750)
    subprocess.run(["tar", "-czf", tmp_path / "it.tar.gz", "-C", source, "."], check=True)

    extract(tmp_path / "it.tar.gz", tmp_path / "it", LIMITS)

    assert tree(tmp_path / "it") == tree(source)
    assert mode(tmp_path / "it" / "run.sh") == 0o755


def test_modes_are_those_of_a_plain_file_or_a_program_whatever_the_archive_and_the_umask_say(tmp_path):
    archive = package(
        entry(b"plain", mode=0o000),
        entry(b"program", mode=0o4700),
        entry(b"for-others", mode=0o6677),
        entry(b"folder", kind=b"5", mode=0o1777),
        entry(b"closed/", kind=b"5", mode=0o000),
        entry(b"implied/file"),
    )
    old = os.umask(0o077)
    try:
        unpack(archive, tmp_path / "it")
    finally:
        os.umask(old)
    modes = {name: mode(tmp_path / "it" / name) for name in tree(tmp_path / "it")}
    assert modes == {
        "package.json": 0o644,
        "plain": 0o644,
        "program": 0o755,
        "for-others": 0o644,
        "folder": 0o755,
        "closed": 0o755,
        "implied": 0o755,
        "implied/file": 0o644,
    }
    assert mode(tmp_path / "it") == 0o755


def test_files_belong_to_the_hub_and_are_of_now(tmp_path):
    unpack(package(), tmp_path / "it")
    status = (tmp_path / "it" / "package.json").stat()
    assert status.st_uid == os.getuid()
    assert status.st_mtime > 0


def test_names_that_differ_in_case_only_are_two_files_where_the_disk_can_tell(tmp_path):
    (tmp_path / "probe").touch()
    if (tmp_path / "PROBE").exists():
        pytest.skip("this disk does not tell a from A")
    unpack(package(entry(b"a", b"1"), entry(b"A", b"2")), tmp_path / "it")
    assert (tmp_path / "it" / "a").read_bytes() == b"1"
    assert (tmp_path / "it" / "A").read_bytes() == b"2"


def test_a_gzip_may_have_several_members_cut_anywhere_and_zeros_behind_it(tmp_path):
    tar = entry(b"package.json", MANIFEST) + entry(b"a", b"1" * 1000) + END
    for at in (0, 1, 511, 512, 1500, len(tar)):
        archive = zipped(tar[:at]) + zipped(b"") + zipped(tar[at:]) + bytes(700)
        unpack(archive, tmp_path / str(at))
        assert tree(tmp_path / str(at)) == {"package.json": MANIFEST, "a": b"1" * 1000}


def test_an_archive_is_read_from_where_it_stands_and_however_its_source_cuts_it(tmp_path):
    class Drop(io.BytesIO):
        def read(self, size=-1):
            return super().read(1)

    archive = Drop(b"before" + package(entry(b"a", b"1")))
    archive.seek(6)
    extract(archive, tmp_path / "it", LIMITS)
    assert tree(tmp_path / "it") == {"package.json": MANIFEST, "a": b"1"}


@pytest.mark.parametrize(
    ("extra", "name", "content"),
    [
        (pax((b"path", b"other")) + entry(b"a", b"1"), "other", b"1"),
        (pax((b"path", b"first"), (b"path", b"other")) + entry(b"a", b"1"), "other", b"1"),
        (pax((b"size", b"3")) + entry(b"a", b"123", size=0), "a", b"123"),
        (pax((b"size", b"3")) + entry(b"a", b"123", size=7), "a", b"123"),
        (pax((b"mtime", b"1.5"), (b"SCHILY.xattr.user.x", b"\xff\0=\n")) + entry(b"a", b"1"), "a", b"1"),
        (pax((b"comment", b"a commit"), kind=b"g") + entry(b"a", b"1"), "a", b"1"),
        (entry(b"@LongLink", b"other\0", b"L") + entry(b"a", b"1"), "other", b"1"),
        (entry(b"@LongLink", b"a target\0", b"K") + entry(b"a", b"1"), "a", b"1"),
        (entry(b"a", b"1", magic=b"ustar  \0", prefix=b"not a prefix"), "a", b"1"),
        (entry(b"a", b"1", magic=bytes(8)), "a", b"1"),
        (entry(b"a", b"1", prefix=b"p/q"), "p/q/a", b"1"),
        (entry(b"a", b"1", prefix=b"p".ljust(131, b"\0") + b"14743350361\0"), "p/a", b"1"),
        (entry(b"a", b"1", size=b"\x80" + bytes(10) + b"\x01"), "a", b"1"),
        (entry(b"a", b"1", size=b"          1 "), "a", b"1"),
        (entry(b"a", b"1", kind=b"\0"), "a", b"1"),
        (entry(b"a", b"1", kind=b"7"), "a", b"1"),
        (entry(b"./b//./a", b"1"), "b/a", b"1"),
        (entry(b"b", kind=b"5") + entry(b"b/", kind=b"5") + entry(b"b/a", b"1"), "b/a", b"1"),
        (entry(b"b/", kind=b"0") + entry(b"b/a", b"1"), "b/a", b"1"),
        (entry(b"..a/...", b"1"), "..a/...", b"1"),
        (entry("ż".encode(), b"1"), "ż", b"1"),
    ],
)
def test_every_way_to_say_a_name_and_a_size_is_understood(extra, name, content, tmp_path):
    unpack(package(extra, entry(b"after", b"2")), tmp_path / "it")
    assert tree(tmp_path / "it").get(name) == content
    assert (tmp_path / "it" / "after").read_bytes() == b"2"


def test_main_may_be_missing_as_the_start_reports_it(tmp_path):
    assert unpack(package(), tmp_path / "it").manifest.main == "main.py"


# What is refused.

HOSTILE: dict[str, tuple[bytes, type[PackageError], str]] = {
    "link to an absolute path": (
        entry(b"a", kind=b"2", link=b"/etc/passwd"),
        RefusedEntry,
        "'a' .* '/etc/passwd', an absolute path",
    ),
    "link out": (entry(b"a", kind=b"2", link=b"../b"), RefusedEntry, r"'a' .* '\.\./b', outside"),
    "link out and in": (entry(b"d/a", kind=b"2", link=b"../../it/package.json"), RefusedEntry, "outside"),
    "link out behind a folder": (entry(b"a", kind=b"2", link=b"d/../../b"), RefusedEntry, "outside"),
    "link out by pax": (
        pax((b"linkpath", b"../b")) + entry(b"a", kind=b"2", link=b"package.json"),
        RefusedEntry,
        "outside",
    ),
    "link out by long link": (
        entry(b"K", b"../b\0", b"K") + entry(b"a", kind=b"2", link=b"package.json"),
        RefusedEntry,
        "outside",
    ),
    "hard link out": (entry(b"d/a", kind=b"1", link=b"../package.json"), RefusedEntry, "outside"),
    "absolute hard link": (entry(b"a", kind=b"1", link=b"/etc/passwd"), RefusedEntry, "absolute"),
    "hard link to nothing": (entry(b"a", kind=b"1", link=b"b"), RefusedEntry, "'a' .* hard link to 'b'"),
    "hard link to a later file": (
        entry(b"a", kind=b"1", link=b"b") + entry(b"b"),
        RefusedEntry,
        "no earlier file",
    ),
    "hard link to itself": (entry(b"a", kind=b"1", link=b"a"), RefusedEntry, "no earlier file"),
    "hard link to a folder": (
        entry(b"d", kind=b"5") + entry(b"a", kind=b"1", link=b"d"),
        RefusedEntry,
        "no earlier file",
    ),
    "link to nowhere": (entry(b"a", kind=b"2"), RefusedEntry, "'a' .* '', which cannot be: .* empty"),
    "link to a NUL": (
        pax((b"linkpath", b"a\0b")) + entry(b"a", kind=b"2"),
        RefusedEntry,
        "cannot be: .* NUL",
    ),
    "link to no UTF-8": (entry(b"a", kind=b"2", link=b"\xff"), RefusedEntry, "cannot be: .* UTF-8"),
    "link to a backslash": (entry(b"a", kind=b"2", link=b"..\\b"), RefusedEntry, "cannot be: .* backslash"),
    "link to a long name": (
        entry(b"K", b"a/" * 513, b"K") + entry(b"a", kind=b"2"),
        RefusedEntry,
        "cannot be: .* 1024 bytes",
    ),
    "link to a long part": (
        entry(b"K", b"a" * 256, b"K") + entry(b"a", kind=b"2"),
        RefusedEntry,
        "cannot be: .* 255 bytes",
    ),
    "link to the root": (entry(b"d/a", kind=b"2", link=b".."), RefusedEntry, "'d/a' .* link to a folder"),
    "link to a folder": (
        entry(b"a", kind=b"2", link=b"d") + entry(b"d/b"),
        RefusedEntry,
        "'a' .* link to a folder",
    ),
    "link to itself": (entry(b"a", kind=b"2", link=b"a"), RefusedEntry, "'a' .* circle"),
    "links to each other": (
        entry(b"a", kind=b"2", link=b"b") + entry(b"b", kind=b"2", link=b"a"),
        RefusedEntry,
        "'a' .* circle",
    ),
    "link where a folder must be": (entry(b"a/", kind=b"2", link=b"b"), RefusedEntry, "where a folder"),
    "link as root": (entry(b".", kind=b"2", link=b"b"), RefusedEntry, "where a folder"),
    "absolute link": (entry(b"/a", kind=b"2", link=b"b"), RefusedEntry, "'/a' .* absolute"),
    "symbolic link with a size": (entry(b"a", b"1", kind=b"2", link=b"b"), RefusedEntry, "a size"),
    "hard link with a size": (entry(b"a", b"1", kind=b"1", link=b"package.json"), RefusedEntry, "a size"),
    "link then file": (entry(b"a", kind=b"2", link=b"b") + entry(b"a"), RefusedEntry, "earlier entry"),
    "link then file in it": (
        entry(b"a", kind=b"2", link=b"d") + entry(b"a/b"),
        RefusedEntry,
        "'a/b' .* earlier entry",
    ),
    "file then link": (
        entry(b"a") + entry(b"a", kind=b"2", link=b"package.json"),
        RefusedEntry,
        "earlier entry",
    ),
    "two targets": (
        pax((b"linkpath", b"b")) + entry(b"K", b"c\0", b"K") + entry(b"a", kind=b"2"),
        InvalidArchive,
        "two headers, .* target",
    ),
    "global target": (pax((b"linkpath", b"x"), kind=b"g") + entry(b"a"), RefusedEntry, "all entries"),
    "character device": (entry(b"a", kind=b"3"), RefusedEntry, "'a' .* character device"),
    "block device": (entry(b"a", kind=b"4"), RefusedEntry, "'a' .* block device"),
    "fifo": (entry(b"a", kind=b"6"), RefusedEntry, "'a' .* named pipe"),
    "gnu sparse": (entry(b"a", b"x", kind=b"S"), RefusedEntry, "'a' .* sparse"),
    "pax sparse": (pax((b"GNU.sparse.major", b"1")) + entry(b"a"), RefusedEntry, "sparse"),
    "gnu dumpdir": (entry(b"a", kind=b"D"), RefusedEntry, "'a' .* type"),
    "volume label": (entry(b"a", kind=b"V"), RefusedEntry, "'a' .* type"),
    "unknown type": (entry(b"a", kind=b"\xff"), RefusedEntry, "'a' .* type"),
    "absolute": (entry(b"/etc/passwd"), RefusedEntry, "'/etc/passwd' .* absolute"),
    "absolute by prefix": (entry(b"a", prefix=b"/etc"), RefusedEntry, "'/etc/a' .* absolute"),
    "absolute by pax": (pax((b"path", b"/etc/x")) + entry(b"a"), RefusedEntry, "'/etc/x' .* absolute"),
    "absolute by long name": (entry(b"L", b"/etc/x\0", b"L") + entry(b"a"), RefusedEntry, "absolute"),
    "only a slash": (entry(b"/", kind=b"5"), RefusedEntry, "absolute"),
    "dot dot": (entry(b"a/../../b"), RefusedEntry, r"'a/\.\./\.\./b'"),
    "dot dot inside": (entry(b"a/../b"), RefusedEntry, r'"\.\."'),
    "dot dot folder": (entry(b"..", kind=b"5"), RefusedEntry, r'"\.\."'),
    "dot dot by pax": (pax((b"path", b"../x")) + entry(b"a"), RefusedEntry, r"'\.\./x'"),
    "dot dot by prefix": (entry(b"x", prefix=b"a/.."), RefusedEntry, r"'a/\.\./x'"),
    "backslash": (entry(b"a\\..\\b"), RefusedEntry, "backslash"),
    "nul inside": (entry(b"a\0b"), RefusedEntry, "NUL"),
    "nul by pax": (pax((b"path", b"a\0b")) + entry(b"a"), RefusedEntry, "NUL"),
    "nul by long name": (entry(b"L", b"a\0b\0", b"L") + entry(b"a"), RefusedEntry, "NUL"),
    "not utf-8": (entry(b"a\xff"), RefusedEntry, "UTF-8"),
    "surrogate": (entry(b"a\xed\xa0\x80"), RefusedEntry, "UTF-8"),
    "empty name": (entry(b""), RefusedEntry, "empty"),
    "empty pax name": (pax((b"path", b"")) + entry(b"a"), RefusedEntry, "empty"),
    "empty long name": (entry(b"L", b"", b"L") + entry(b"a"), RefusedEntry, "empty"),
    "file named dot": (entry(b".", b"1"), RefusedEntry, "root"),
    "long name": (pax((b"path", b"a/" * 512 + b"a")) + entry(b"a"), RefusedEntry, "1024 bytes"),
    "long gnu name": (entry(b"L", b"a/" * 512 + b"aa", b"L") + entry(b"a"), RefusedEntry, "1024 bytes"),
    "long part": (pax((b"path", b"a" * 256)) + entry(b"a"), RefusedEntry, "255 bytes"),
    "twice": (entry(b"a", b"1") + entry(b"./a", b"2"), RefusedEntry, r"'\./a' .* earlier entry"),
    "manifest twice": (entry(b"package.json", b"{}"), RefusedEntry, "earlier entry"),
    "folder then file": (entry(b"a", kind=b"5") + entry(b"a"), RefusedEntry, "'a' .* earlier entry"),
    "implied folder then file": (entry(b"a/b") + entry(b"a"), RefusedEntry, "'a' .* earlier entry"),
    "file then folder": (entry(b"a") + entry(b"a", kind=b"5"), RefusedEntry, "'a' .* earlier entry"),
    "file then implied folder": (entry(b"a") + entry(b"a/b/c"), RefusedEntry, "'a/b/c' .* earlier entry"),
    "file then folder in it": (entry(b"a") + entry(b"a/b/c", kind=b"5"), RefusedEntry, "earlier entry"),
    "folder with a size": (entry(b"a", b"1", kind=b"5"), RefusedEntry, "size"),
    "slash with a size": (entry(b"a/", b"1"), RefusedEntry, "size"),
    "folder with a pax size": (pax((b"size", b"512")) + entry(b"a", kind=b"5"), RefusedEntry, "size"),
    "global name": (pax((b"path", b"x"), kind=b"g") + entry(b"a"), RefusedEntry, "all entries"),
    "global size": (pax((b"size", b"5"), kind=b"g") + entry(b"a"), RefusedEntry, "all entries"),
    "global sparse": (pax((b"GNU.sparse.size", b"5"), kind=b"g") + entry(b"a"), RefusedEntry, "sparse"),
    "two pax headers": (
        pax((b"path", b"x")) + pax((b"size", b"0")) + entry(b"a"),
        InvalidArchive,
        "two headers",
    ),
    "pax and long name": (
        pax((b"path", b"x")) + entry(b"L", b"y\0", b"L") + entry(b"a"),
        InvalidArchive,
        "two headers",
    ),
    "pax at the end": (pax((b"path", b"x")), InvalidArchive, "entry must follow"),
    "long name at the end": (entry(b"L", b"x\0", b"L"), InvalidArchive, "entry must follow"),
    "pax size of no number": (pax((b"size", b"-5")) + entry(b"a"), InvalidArchive, "number"),
    "pax size with an underscore": (pax((b"size", b"1_0")) + entry(b"a"), InvalidArchive, "number"),
    "pax size of other digits": (pax((b"size", "٣".encode())) + entry(b"a"), InvalidArchive, "number"),
    "pax without length": (entry(b"x", b"path=a\n", b"x") + entry(b"a"), InvalidArchive, "number"),
    "pax of length zero": (entry(b"x", b"0 path=a\n", b"x") + entry(b"a"), InvalidArchive, "damaged"),
    "pax too short": (entry(b"x", b"8 path=a\n", b"x") + entry(b"a"), InvalidArchive, "damaged"),
    "pax too long": (entry(b"x", b"99 path=a\n", b"x") + entry(b"a"), InvalidArchive, "damaged"),
    "pax without equals": (entry(b"x", b"7 path\n", b"x") + entry(b"a"), InvalidArchive, "damaged"),
    "negative size": (entry(b"a", size=b"\xff" * 12), InvalidArchive, "negative"),
    "size of no number": (entry(b"a", size=b"-0000000001\0"), InvalidArchive, "no tar"),
    "size with an underscore": (entry(b"a", size=b"0000000_001\0"), InvalidArchive, "no tar"),
    "immense size": (entry(b"a", size=b"\xbf" + b"\xff" * 11), PackageTooBig, "'a'"),
    "size beyond the limit": (entry(b"a", size=10 * 1024**3 // 8), PackageTooBig, "'a'.* 1073741824 bytes"),
    "pax size beyond the limit": (pax((b"size", b"9" * 20)) + entry(b"a"), PackageTooBig, "'a'"),
    "immense pax header": (entry(b"x", size=2**33 - 1, kind=b"x"), PackageTooBig, "262144 bytes"),
    "immense global header": (entry(b"x", size=2**33 - 1, kind=b"g"), PackageTooBig, "262144 bytes"),
    "immense long name": (entry(b"x", size=2**33 - 1, kind=b"L"), RefusedEntry, "1024 bytes"),
    "immense long link": (entry(b"x", size=2**33 - 1, kind=b"K"), PackageTooBig, "262144 bytes"),
    "wrong checksum": (b"b" + entry(b"a")[1:], InvalidArchive, "no tar"),
    "lone zero block": (bytes(512) + entry(b"a"), InvalidArchive, "behind the end"),
    "second tar": (END + entry(b"a") + END, InvalidArchive, "behind the end"),
    "content cut": (entry(b"a", size=9999), InvalidArchive, "too early"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_entry_is_refused_by_a_sentence_and_leaves_nothing(case, tmp_path):
    extra, kind, words = HOSTILE[case]
    with pytest.raises(kind, match=words) as caught:
        unpack(package(extra), tmp_path / "it")
    assert type(caught.value) is kind
    assert str(tmp_path) not in str(caught.value)
    assert (kind is InvalidArchive) == str(caught.value).startswith("Invalid pkg tar.gz archive: ")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (b"", "empty"),
        (b"\x1f", "not gzip"),
        (b"PK\x03\x04" + bytes(100), "not gzip"),
        (entry(b"package.json", MANIFEST) + END, "not gzip"),
        (bytes(2000), "not gzip"),
        (b"\x1f\x8b", "cut short"),
        (b"\x1f\x8b\x07" + bytes(100), "damaged"),
        (zipped(b""), "too early for a tar"),
        (zipped(b"hello"), "too early for a tar"),
        (zipped(b"hello " * 1000), "no tar"),
        (zipped(b"\xff" * 5000), "no tar"),
        (zipped(entry(b"package.json", MANIFEST)), "too early for a tar"),
        (package() + b"x", "behind the gzip"),
        (package() + b"\0\0x", "behind the gzip"),
        (package() + bytes(600) + package(), "behind the gzip"),
        (package() + package(), "behind the end of the tar"),
        (package(end=END + b"x" * 512), "behind the end of the tar"),
        (package(end=END + bytes(100)), "cut short"),
        (package()[:-8] + bytes(4) + package()[-4:], "damaged .*check"),
        (package()[:-4] + bytes(4), "damaged .*check"),
        (zipped(b"") * 100_001, "members"),
    ],
)
def test_what_is_no_whole_gzip_of_a_whole_tar_is_called_so(archive, words, tmp_path):
    with pytest.raises(InvalidArchive, match=f"^Invalid pkg tar.gz archive: .*{words}"):
        unpack(archive, tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_cut_at_any_byte_is_refused(tmp_path):
    archive = package(entry(b"a", os.urandom(50)), entry(b"b", kind=b"5"))
    for end in range(len(archive)):
        with pytest.raises(InvalidArchive):
            unpack(archive[:end], tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_a_tar_cut_anywhere_is_refused(tmp_path):
    tar = entry(b"package.json", MANIFEST) + pax((b"path", b"c")) + entry(b"a", b"1" * 600)
    length = len(tar) + len(END)
    edges = {end + near for end in range(0, length, 512) for near in (-1, 0, 1) if 0 <= end + near < length}
    for end in edges | set(range(0, length, 7)):
        with pytest.raises(InvalidArchive):
            unpack(zipped((tar + END)[:end], 0), tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "archive",
    [
        zipped(END),
        zipped(entry(b"./", kind=b"5") + END),
        zipped(entry(b"main.py", b"") + END),
        zipped(entry(b"wrapped/package.json", MANIFEST) + END),
        zipped(entry(b"package.json", kind=b"5") + END),
    ],
)
def test_an_archive_without_a_manifest_at_its_root_is_refused(archive, tmp_path):
    with pytest.raises(NoManifest, match=r"^No package\.json in pkg archive\.$"):
        unpack(archive, tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (b"{}", "main"),
        (b"", "JSON"),
        (b"\xff", "UTF-8"),
        (b"[" * 500_000, "nested"),
        (b'{"main": "main.py", "description": "%s"}' % (b"d" * 1024**2), "1048576 bytes"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said_in_its_own_words(manifest, words, tmp_path):
    with pytest.raises(InvalidManifest, match=words):
        unpack(package(manifest=manifest), tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_neither_filled_nor_removed(tmp_path):
    (tmp_path / "kept").touch()
    with pytest.raises(FileExistsError):
        unpack(package(), tmp_path)
    assert tree(tmp_path) == {"kept": b""}


def test_a_message_quotes_a_name_in_one_short_printable_line(tmp_path):
    with pytest.raises(RefusedEntry) as caught:
        unpack(
            package(pax((b"path", b"/\n\x1b[31m\xe2\x80\xae\xff" + b"x" * 1000)) + entry(b"a")),
            tmp_path / "it",
        )
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert caught.value.entry.startswith("'/")


# Links.


def test_a_symbolic_link_becomes_a_copy_of_its_file_wherever_in_the_archive_that_is(tmp_path):
    archive = package(
        entry(b"node_modules/.bin/tool", kind=b"2", link=b"../tool/cli.js", mode=0o777),
        entry(b"node_modules/tool/cli.js", b"#!/usr/bin/env node", mode=0o755),
        entry(b"again", kind=b"2", link=b"./node_modules//.bin/tool"),  # through another link
        entry(b"plain", kind=b"2", link=b"package.json", mode=0o777),
        pax((b"linkpath", b"package.json")) + entry(b"by pax", kind=b"2", link=b"cut"),
        entry(b"K", b"package.json\0", b"K") + entry(b"by long link", kind=b"2", link=b"cut"),
    )
    extracted = unpack(archive, tmp_path / "it")
    found = tree(tmp_path / "it")
    tool = b"#!/usr/bin/env node"
    assert {name: content for name, content in found.items() if content is not None} == {
        "package.json": MANIFEST,
        "node_modules/.bin/tool": tool,
        "node_modules/tool/cli.js": tool,
        "again": tool,
        "plain": MANIFEST,
        "by pax": MANIFEST,
        "by long link": MANIFEST,
    }
    assert not any((tmp_path / "it" / name).is_symlink() for name in found)
    assert [mode(tmp_path / "it" / name) for name in ("again", "plain")] == [0o755, 0o644]
    assert (extracted.files, extracted.bytes) == (7, 4 * len(MANIFEST) + 3 * len(tool))
    assert extracted.left_out == ()


def test_a_hard_link_becomes_a_copy_of_an_earlier_file_named_from_the_root(tmp_path):
    archive = package(
        entry(b"d/a", b"1"),
        entry(b"d/b", kind=b"1", link=b"./d/a"),
        entry(b"c", kind=b"1", link=b"d/b"),
        entry(b"d/e", kind=b"2", link=b"../c"),
        entry(b"f", kind=b"1", link=b"d/e"),
    )
    assert unpack(archive, tmp_path / "it").files == 6
    assert {tree(tmp_path / "it")[name] for name in ("d/a", "d/b", "c", "d/e", "f")} == {b"1"}
    assert (tmp_path / "it" / "c").stat().st_nlink == 1


def test_a_link_to_a_file_inside_that_is_not_there_is_left_out_and_named(tmp_path):
    archive = package(
        entry(b"a", kind=b"2", link=b"nothing"),
        entry(b"d/b", kind=b"2", link=b"../a"),
        entry(b"c", kind=b"2", link=b"package.json/x"),
        entry(b"e", kind=b"2", link=b"/".join([b"x" * 255] * 17)[:100]),
    )
    extracted = unpack(archive, tmp_path / "it")
    assert extracted.left_out == ("'a'", "'d/b'", "'c'", "'e'")
    assert tree(tmp_path / "it") == {"package.json": MANIFEST, "d": None}
    assert (extracted.files, extracted.bytes) == (1, len(MANIFEST))


def test_a_target_too_long_for_the_disk_is_not_there(tmp_path):
    target = b"/".join([b"x" * 200] * 30)
    archive = package(entry(b"K", target, b"K") + entry(b"a", kind=b"2"))
    extracted = unpack(archive, tmp_path / "it", PackageLimits(max_name_bytes=10_000))
    assert extracted.left_out == ("'a'",)


def test_the_manifest_may_be_a_link(tmp_path):
    archive = zipped(
        entry(b"package.json", kind=b"2", link=b"other.json") + entry(b"other.json", MANIFEST) + END
    )
    assert unpack(archive, tmp_path / "it").manifest.name == "hello"


def test_a_link_through_forty_others_is_followed_and_through_more_refused(tmp_path):
    def chain(length: int) -> bytes:
        return package(
            entry(b"0", b"1"),
            *(entry(b"%d" % step, kind=b"2", link=b"%d" % (step - 1)) for step in range(1, length + 1)),
        )

    unpack(chain(40), tmp_path / "it")
    assert (tmp_path / "it" / "40").read_bytes() == b"1"
    with pytest.raises(RefusedEntry, match=r"'41' .* more than 40 links"):
        unpack(chain(41), tmp_path / "refused")


def test_copies_count_as_bytes_of_the_package_before_they_are_written(tmp_path):
    archive = package(entry(b"a", b"1" * 600), entry(b"b", kind=b"2", link=b"a"))
    total = len(MANIFEST) + 1200
    assert unpack(archive, tmp_path / "fits", PackageLimits(max_unpacked_bytes=total)).bytes == total
    with pytest.raises(PackageTooBig, match=f"'b': it unpacks to more than {total - 1} bytes"):
        unpack(archive, tmp_path / "it", PackageLimits(max_unpacked_bytes=total - 1))
    assert not (tmp_path / "it").exists()


def test_copies_count_in_the_ratio(tmp_path):
    links = [entry(b"b%d" % number, kind=b"2", link=b"a") for number in range(20)]
    archive = package(entry(b"a", os.urandom(100) * 200), *links)
    limits = PackageLimits(max_ratio=20, ratio_free_bytes=100_000)
    with pytest.raises(PackageTooBig, match="20 times"):
        unpack(archive, tmp_path / "it", limits)
    assert list(tmp_path.iterdir()) == []


def test_links_that_wait_for_their_files_are_limited(tmp_path):
    target = b"t/" * 500
    links = (
        entry(b"K", target, b"K") + entry(b"%d" % number, kind=b"2", link=b"cut") for number in range(3000)
    )
    with pytest.raises(PackageTooBig, match="too many links"):
        unpack(package(*links), tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


# Limits.


class Bomb(io.RawIOBase):
    """A gzip of a tar whose one file is gigabytes of zeros, made while it is read; counts what was asked for."""

    def __init__(self, size: int) -> None:
        packer = zlib.compressobj(9, wbits=-15)
        zeros = bytes(1024 * 1024)
        start = packer.compress(entry(b"package.json", MANIFEST) + header(b"zeros", size=size))
        start += packer.flush(zlib.Z_FULL_FLUSH)
        self._pending = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + start
        self._megabyte = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)  # the same bytes every time
        self._left = size // len(zeros)
        self.read_bytes = 0

    def read(self, size: int = -1) -> bytes:
        while self._left and len(self._pending) < size:
            self._pending += self._megabyte
            self._left -= 1
        piece, self._pending = self._pending[:size], self._pending[size:]
        self.read_bytes += len(piece)
        return piece


def test_ten_gigabytes_of_zeros_are_refused_before_much_is_inflated_or_written(tmp_path):
    bomb = Bomb(8000 * 1024**2)
    with pytest.raises(PackageTooBig, match="'zeros'"):
        extract(bomb, tmp_path / "it", LIMITS)
    assert bomb.read_bytes <= 64 * 1024


def test_a_bomb_that_no_size_gives_away_is_refused_by_its_ratio(tmp_path):
    bomb = Bomb(8000 * 1024**2)
    with pytest.raises(PackageTooBig, match="200 times"):
        extract(bomb, tmp_path / "it", PackageLimits(max_unpacked_bytes=10**12))
    assert bomb.read_bytes <= 256 * 1024  # which inflate to 64 MiB, and what was read ahead
    assert list(tmp_path.iterdir()) == []


def test_a_bomb_of_zeros_behind_the_end_is_refused(tmp_path):
    archive = package(end=END + bytes(40_000_000))
    limits = PackageLimits(ratio_free_bytes=1_000_000)
    with pytest.raises(PackageTooBig, match="200 times"):
        unpack(archive, tmp_path / "it", limits)
    with pytest.raises(PackageTooBig, match="1000000 bytes"):
        unpack(archive, tmp_path / "it", PackageLimits(max_unpacked_bytes=1_000_000))


def test_what_is_repetitive_but_small_is_no_bomb(tmp_path):
    unpack(package(entry(b"zeros", bytes(2_000_000))), tmp_path / "it")
    assert (tmp_path / "it" / "zeros").stat().st_size == 2_000_000


def test_the_sum_of_all_files_is_limited_to_the_byte(tmp_path):
    archive = package(entry(b"a", b"1" * 600), entry(b"b", b"2" * 400))
    total = len(MANIFEST) + 1000
    assert unpack(archive, tmp_path / "fits", PackageLimits(max_unpacked_bytes=total)).bytes == total
    with pytest.raises(PackageTooBig, match=f"'b': it unpacks to more than {total - 1} bytes"):
        unpack(archive, tmp_path / "it", PackageLimits(max_unpacked_bytes=total - 1))


def test_zeros_with_which_tar_fills_a_tape_do_not_count_and_more_do(tmp_path):
    limits = PackageLimits(max_unpacked_bytes=len(MANIFEST) + 600)
    full = entry(b"a", b"1" * 600)
    assert unpack(package(full, end=END + bytes(20 * 512)), tmp_path / "fits", limits).files == 2
    with pytest.raises(PackageTooBig, match="unpacks to more"):
        unpack(package(full, end=END + bytes(21 * 512)), tmp_path / "it", limits)


def test_entries_are_limited_and_the_folders_inside_a_name_are_counted(tmp_path):
    archive = package(entry(b"a/b/c"), entry(b"a/b", kind=b"5"))  # package.json, a, a/b, c, and a/b once more
    unpack(archive, tmp_path / "fits", PackageLimits(max_entries=5))
    for fewer in range(5):
        with pytest.raises(PackageTooBig, match=f"more than {fewer} files and folders"):
            unpack(archive, tmp_path / "it", PackageLimits(max_entries=fewer))


def test_global_headers_are_counted_as_entries(tmp_path):
    with pytest.raises(PackageTooBig, match="files and folders"):
        unpack(
            package(pax((b"comment", b"c"), kind=b"g") * 10), tmp_path / "it", PackageLimits(max_entries=10)
        )


def test_names_with_hundreds_of_folders_are_unpacked_and_removed(tmp_path):
    name = b"/".join([b"d"] * 512)
    assert unpack(package(pax((b"path", name)) + entry(b"a", b"1")), tmp_path / "it").files == 2
    remove_tree(tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_longer_than_the_limit_is_refused(tmp_path):
    archive = package()
    unpack(archive, tmp_path / "fits", PackageLimits(max_packed_bytes=len(archive)))
    with pytest.raises(PayloadTooLarge, match=f"{len(archive) - 1} bytes"):
        unpack(archive, tmp_path / "it", PackageLimits(max_packed_bytes=len(archive) - 1))
    assert not (tmp_path / "it").exists()


def test_memory_stays_flat_whatever_the_size(tmp_path):
    archive = package(entry(b"zeros", bytes(30_000_000)))
    tracemalloc.start()
    try:
        unpack(archive, tmp_path / "it")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


# Trouble that is not the archive's.


def test_a_full_disk_is_said_to_be_full_and_left_empty(tmp_path):
    script = f"""
import io, sys
from pathlib import Path
sys.path.insert(0, {str(Path.cwd())!r})
from hub_lite.errors import Unavailable
from hub_lite.archives import PackageLimits
from hub_lite.packages import extract
try:
    extract(Path({str(tmp_path / "it.tar.gz")!r}), Path({str(tmp_path / "disk" / "it")!r}), PackageLimits())
except Unavailable as error:
    print(error, list(Path({str(tmp_path / "disk")!r}).iterdir()))
"""
    (tmp_path / "disk").mkdir()
    (tmp_path / "it.tar.gz").write_bytes(package(entry(b"big", bytes(3_000_000))))
    mount = 'mount -t tmpfs -o size=1m tmpfs "$1" && shift && exec "$@"'
    small_disk = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        mount,
        "sh",
        tmp_path / "disk",
    ]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*small_disk, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no disk can be mounted here")
    done = subprocess.run(
        [*small_disk, sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert "disk is full" in done.stdout
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, Unavailable), (errno.EDQUOT, Unavailable), (errno.EIO, OSError)]
)
def test_an_error_of_the_system_leaves_nothing_and_only_a_full_disk_is_translated(code, kind, tmp_path):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            return super().read(size) or self._break()

        def _break(self):
            raise OSError(code, os.strerror(code))

    with pytest.raises(kind):
        extract(Broken(package(entry(b"a"))[:-9]), tmp_path / "it", LIMITS)
    assert list(tmp_path.iterdir()) == []


# Any archive at all.

PARTS = st.sampled_from(
    [b"a", b"b", b"..", b".", b"", b"package.json", b"c" * 90, b"\xff", b"\\", b"\0", b"outside"]
)
NAMES = st.lists(PARTS, min_size=1, max_size=4).map(b"/".join)
KINDS = st.sampled_from(
    [b"0", b"0", b"0", b"5", b"5", b"\0", b"1", b"2", b"3", b"6", b"7", b"S", b"x", b"g", b"L", b"K"]
)
BODIES = st.one_of(
    st.just(b""),
    st.binary(max_size=700),
    NAMES.map(lambda name: name + b"\0"),
    st.lists(
        st.tuples(st.sampled_from([b"path", b"size", b"linkpath", b"mtime"]), NAMES | st.just(b"3"))
    ).map(lambda records: b"".join(record(key, value) for key, value in records)),
)
ENTRIES = st.one_of(
    st.builds(
        entry,
        NAMES.map(lambda name: name[:100]),
        BODIES,
        KINDS,
        link=st.sampled_from([b"", b"/", b"../outside", b"a"]),
        mode=st.integers(0, 0o7777),
        prefix=st.sampled_from([b"", b"", b"p", b"..", b"/"]),
        magic=st.sampled_from([b"ustar\x0000", b"ustar  \0"]),
    ),
    st.builds(entry, NAMES.map(lambda name: name[:100]), st.just(b"1"), size=st.integers(0, 8**11 - 1)),
    st.binary(min_size=512, max_size=512),
)
SMALL = PackageLimits(max_unpacked_bytes=3000, max_entries=12, max_name_bytes=120, ratio_free_bytes=20_000)


def check_outcome(archive: bytes) -> None:
    """Unpack next to a file that must not change; the outcome is a folder within the limits, or an error and nothing."""
    with tempfile.TemporaryDirectory() as place:
        top = Path(place)
        (top / "outside").mkdir()
        (top / "outside" / "kept").write_bytes(b"kept")
        extracted, refusal = None, "not refused"
        try:
            extracted = unpack(archive, top / "it", SMALL)
        except HubError as error:
            refusal = str(error)
        assert refusal
        assert place not in refusal
        if extracted is not None:
            made = [path.lstat() for path in (top / "it").rglob("*")]
            files = [status for status in made if stat.S_ISREG(status.st_mode)]
            assert all(stat.S_IMODE(status.st_mode) in (0o644, 0o755) for status in made)
            assert all(stat.S_ISDIR(status.st_mode) for status in made if status not in files)
            assert len(files) == extracted.files
            assert len(made) <= SMALL.max_entries
            assert sum(status.st_size for status in files) == extracted.bytes <= SMALL.max_unpacked_bytes
            remove_tree(top / "it")
        assert tree(top) == {"outside": None, "outside/kept": b"kept"}


@settings(max_examples=100, deadline=None)
@given(st.lists(ENTRIES, max_size=5), st.sampled_from([END, END, END, b"", bytes(512), END + b"x" * 512]))
def test_any_entries_stay_inside_and_within_the_limits_or_leave_nothing(entries, end):
    check_outcome(package(*entries, end=end))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_damage_is_refused_or_harmless(data):
    archive = bytearray(package(entry(b"a/b", b"1" * 100), pax((b"path", b"c")), entry(b"d", b"2")))
    for _ in range(data.draw(st.integers(1, 3))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    check_outcome(bytes(archive))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_refused(noise, inside):
    with tempfile.TemporaryDirectory() as place:
        with pytest.raises(PackageError):
            unpack(zipped(noise) if inside else noise, Path(place) / "it")
        assert list(Path(place).iterdir()) == []
