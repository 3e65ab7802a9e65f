"""The reader of a tar.gz: bytes in, entries out, with no disk. What becomes of them there is in test_packages.py."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.archives import (
    Budget,
    Entry,
    Inflated,
    InvalidArchive,
    PackageLimits,
    PackageTooBig,
    RefusedEntry,
    entries,
    show,
)
from hub_lite.errors import PackageError, PayloadTooLarge

from .test_packages import END, entry, header, pax, zipped

LIMITS = PackageLimits()
TAR = (
    entry(b"./deep/", kind=b"5")
    + entry(b"deep/program", b"#!/bin/sh\n", mode=0o744)
    + entry(b"deep/link", kind=b"2", link=b"../large")
    + entry(b"hard", kind=b"1", link=b"deep/program")
    + pax((b"path", b"large"), (b"size", b"1300"))
    + entry(b"l", b"0123456789" * 130, size=0)
)
READ = [
    (Entry(b"deep", "'./deep/'", True, False, 0), b""),
    (Entry(b"deep/program", "'deep/program'", False, True, 10), b"#!/bin/sh\n"),
    (Entry(b"deep/link", "'deep/link'", False, False, 0, b"large"), b""),
    (Entry(b"hard", "'hard'", False, False, 0, b"deep/program", True), b""),
    (Entry(b"large", "'large'", False, False, 1300), b"0123456789" * 130),
]


class Cut:
    """Gives an archive in pieces of these sizes, again and again."""

    def __init__(self, archive: bytes, sizes: list[int]) -> None:
        self._bytes = io.BytesIO(archive)
        self._sizes = sizes
        self._turn = 0

    def read(self, size: int, /) -> bytes:
        self._turn += 1
        return self._bytes.read(min(size, self._sizes[self._turn % len(self._sizes)]))


def read(archive: bytes, limits: PackageLimits = LIMITS, sizes: tuple[int, ...] = (1 << 20,)) -> list:
    """Return the entries with their contents, and behind them the sentence of what ended the reading, if anything did."""
    stream = Inflated(Cut(archive, list(sizes)), limits)
    found: list = []
    try:
        for one in entries(stream, Budget(limits)):
            content = b"".join(bytes(piece) for piece in stream.pieces(one.size))
            found.append((one, content))
    except PackageError as error:
        found.append(str(error))
    return found


def test_an_entry_is_told_with_its_path_size_mode_and_target():
    assert read(zipped(TAR + END)) == READ


BROKEN = [
    zipped(TAR + END),
    zipped(TAR) + zipped(END),
    zipped(TAR + END) + bytes(100),
    zipped(TAR + END)[:-1],
    zipped(TAR + END) + b"more",
    zipped(TAR + entry(b"../out") + END),
    zipped(TAR[:-100] + END),
    zipped(TAR + END[:700]),
    b"",
]


@given(st.sampled_from(BROKEN), st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_cuts_never_change_the_outcome(archive, sizes):
    assert read(archive, sizes=tuple(sizes)) == read(archive)


@pytest.mark.parametrize("archive", BROKEN[3:])
def test_what_is_wrong_is_a_sentence_behind_the_good_entries(archive):
    *before, sentence = read(archive)
    assert before == READ[: len(before)]
    assert isinstance(sentence, str)


def test_a_limit_is_seen_before_the_bytes_beyond_it():
    archive = zipped(header(b"large", size=10_000_000) + b"only this")
    with pytest.raises(PackageTooBig, match="at its entry 'large': it unpacks to more than 5000 bytes"):
        next(entries(Inflated(io.BytesIO(archive), LIMITS), Budget(PackageLimits(max_unpacked_bytes=5000))))
    with pytest.raises(PayloadTooLarge, match="larger than the 20 bytes"):
        read(archive, PackageLimits(max_packed_bytes=20))


def test_a_budget_is_spent_to_the_last_and_no_further():
    budget = Budget(PackageLimits(max_entries=2, max_unpacked_bytes=10))
    budget.spend_entry("'a'")
    budget.spend_entry("'b'")
    budget.spend_bytes(10, "'b'")
    with pytest.raises(PackageTooBig, match="at its entry 'c': it holds more than 2 files and folders"):
        budget.spend_entry("'c'")
    with pytest.raises(PackageTooBig, match=r"^The package is too big: it unpacks to more than 10 bytes"):
        budget.spend_bytes(1, None)


def test_an_error_is_a_sentence_with_its_facts():
    refused = RefusedEntry("'x'", "it is a block device")
    assert (str(refused), refused.entry) == (
        "Entry 'x' of the package is refused: it is a block device.",
        "'x'",
    )
    assert str(InvalidArchive("it is empty")) == "Invalid pkg tar.gz archive: it is empty"
    assert show(b"a\n\xff") == "'a\\n\\\\xff'"
    assert len(show(b"a" * 500)) < 210
