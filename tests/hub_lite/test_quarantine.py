"""A quarantine keeps whole records, all or none of a request, in bounds, until it is removed."""

import errno
import itertools
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.errors import BadRequest, Unavailable
from hub_lite.quarantine import Quarantine, QuarantineFull, Quarantines

ONE, TWO = "1" * 36, "2" * 36


def record(number: int = 1, **more: object) -> dict[str, object]:
    return {"number": number, "item": "x", "error": "ValueError: no", **more}


def lines(*records: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in records)


def put(quarantine: Quarantine, *chunks: bytes) -> int:
    with quarantine.intake() as intake:
        for chunk in chunks:
            intake.feed(chunk)
        return intake.end()


def kept(quarantine: Quarantine) -> list[object]:
    file, size = quarantine.open()
    with file:
        return [json.loads(line) for line in file.read(size).splitlines()]


@pytest.fixture
def quarantines(tmp_path: Path) -> Quarantines:
    return Quarantines(tmp_path / "quarantine", 1000)


def test_what_is_put_aside_is_there_in_its_order(quarantines: Quarantines) -> None:
    quarantine = quarantines.of(ONE)
    assert (kept(quarantine), quarantines.count(ONE)) == ([], 0)
    assert put(quarantine, lines(record(1), record(2))) == 2
    assert put(quarantine, lines(record(3))) == 1
    assert kept(quarantine) == [record(1), record(2), record(3)]
    assert quarantines.of(ONE) is quarantine
    assert (quarantines.count(ONE), quarantines.count(TWO)) == (3, 0)


def test_nothing_to_put_aside_makes_no_file(quarantines: Quarantines, tmp_path: Path) -> None:
    assert put(quarantines.of(ONE), b"\n", b"  \r\n") == 0
    assert list((tmp_path / "quarantine").iterdir()) == []


@given(
    st.lists(st.sampled_from([record(1), record(2, item=None), record(3, item={"a": "ü\n"})]), max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\n\n"]),
    st.booleans(),
    st.lists(st.integers(0, 500), max_size=6),
)
def test_cuts_never_change_what_is_kept(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[object],
    end: bytes,
    finished: bool,
    places: list[int],
) -> None:
    body = end.join(json.dumps(one).encode() for one in records) + (end if finished else b"")
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    quarantine = Quarantines(tmp_path_factory.mktemp("q") / "quarantine", 10_000).of(ONE)
    assert put(quarantine, *[body[a:b] for a, b in itertools.pairwise(edges)]) == len(records)
    assert kept(quarantine) == records
    quarantine.remove()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"{", "line 3 is not JSON"),
        (b"\xff", "line 3 is not JSON"),
        (b'{"error": "x", "n": NaN}', "line 3 is not JSON"),
        (b"[1]", r"line 3 must be an object such as .*, not '\[1\]'"),
        (b'{"item": 1}', 'line 3 has no "error", a string'),
        (b'{"error": {"a": 1}}', 'line 3 has no "error", a string'),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_that_is_no_record_is_named_and_nothing_of_its_request_is_kept(
    quarantines: Quarantines, bad: bytes, said: str, end: bytes
) -> None:
    quarantine = quarantines.of(ONE)
    put(quarantine, lines(record(1)))
    with pytest.raises(BadRequest, match=said):
        put(quarantine, lines(record(2)) + b"\n" + bad + end)
    assert kept(quarantine) == [record(1)]


def test_what_does_not_fit_is_refused_whole(quarantines: Quarantines) -> None:
    quarantine = quarantines.of(ONE)
    put(quarantine, lines(record(1)))
    with pytest.raises(QuarantineFull, match=f"Instance {ONE} has no room .* 1000 bytes"):
        put(quarantine, lines(record(2)), lines(record(3, item="x" * 1000)))
    assert kept(quarantine) == [record(1)]
    room = 1000 - quarantine.size
    fits = lines(record(4, item=""))
    assert put(quarantine, lines(record(4, item="x" * (room - len(fits))))) == 1
    assert (quarantine.size, quarantine.count) == (1000, 2)


def test_a_line_that_never_ends_is_refused_when_it_is_too_long(quarantines: Quarantines) -> None:
    with quarantines.of(ONE).intake() as intake:
        intake.feed(b"x" * 1000)
        with pytest.raises(QuarantineFull):
            intake.feed(b"x")


def test_who_comes_second_finds_no_room(quarantines: Quarantines) -> None:
    quarantine = quarantines.of(ONE)
    with quarantine.intake() as first, quarantine.intake() as second:
        first.feed(lines(record(1, item="x" * 600)))
        second.feed(lines(record(2, item="x" * 600)))
        assert first.end() == 1
        with pytest.raises(QuarantineFull):
            second.end()
    assert quarantine.count == 1


def test_an_intake_is_fed_inside_its_block(quarantines: Quarantines) -> None:
    with pytest.raises(RuntimeError):
        quarantines.of(ONE).intake().feed(lines(record()))


def test_requests_at_the_same_time_are_kept_one_after_the_other(tmp_path: Path) -> None:
    quarantine = Quarantines(tmp_path / "q", 10_000_000).of(ONE)
    many = [lines(*(record(number, who=who) for number in range(200))) for who in range(8)]
    threads = [threading.Thread(target=put, args=(quarantine, body)) for body in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = kept(quarantine)
    assert quarantine.count == len(found) == 1600
    blocks = [[one["who"] for one in found[at : at + 200]] for at in range(0, 1600, 200)]  # type: ignore[index]
    assert sorted(block[0] for block in blocks) == list(range(8))
    assert all(len(set(block)) == 1 for block in blocks)


def test_a_reader_gets_what_was_there_when_it_began(quarantines: Quarantines) -> None:
    quarantine = quarantines.of(ONE)
    put(quarantine, lines(record(1)))
    file, size = quarantine.open()
    put(quarantine, lines(record(2)))
    quarantine.remove()
    with file:
        assert json.loads(file.read(size)) == record(1)


class FullDisk:
    """A body whose second block cannot be written."""

    def __init__(self) -> None:
        self._blocks = [lines(record(2))]

    def read(self, size: int) -> bytes:
        if not self._blocks:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._blocks.pop()


def test_a_disk_that_gets_full_leaves_whole_records_only(quarantines: Quarantines) -> None:
    quarantine = quarantines.of(ONE)
    put(quarantine, lines(record(1)))
    with pytest.raises(Unavailable):
        quarantine.append(FullDisk(), 100, 1)  # type: ignore[arg-type]
    assert kept(quarantine) == [record(1)]
    put(quarantine, lines(record(3)))
    assert kept(quarantine) == [record(1), record(3)]


# --- its end ----------------------------------------------------------------------------------------------------------


def test_what_is_removed_is_gone_and_takes_no_more(quarantines: Quarantines, tmp_path: Path) -> None:
    quarantine = quarantines.of(ONE)
    put(quarantine, lines(record(1)))
    assert quarantines.take_out(ONE) is quarantine
    assert quarantines.take_out(ONE) is None
    quarantine.remove()
    quarantine.remove()
    put(quarantine, lines(record(2)))
    assert list((tmp_path / "quarantine").iterdir()) == []
    assert kept(quarantine) == []


def test_a_new_instance_of_an_id_has_nothing_of_the_old_one(quarantines: Quarantines) -> None:
    old = quarantines.of(ONE)
    put(old, lines(record(1)))
    quarantines.take_out(ONE)
    new = quarantines.of(ONE)
    put(new, lines(record(2)))
    old.remove()
    assert kept(new) == [record(2)]


def test_a_hub_takes_over_what_is_left_of_instances_that_it_shows(tmp_path: Path) -> None:
    folder = tmp_path / "quarantine"
    before = Quarantines(folder, 1000)
    put(before.of(ONE), lines(record(1), record(2)))
    put(before.of(TWO), lines(record(3)))
    (left,) = folder.glob(f"{ONE}*")
    with left.open("ab") as file:
        file.write(b'{"error": "half a reco')  # the machine lost its power here
    after = Quarantines(folder, 1000)
    after.recover([ONE, "3" * 36])
    assert kept(after.of(ONE)) == [record(1), record(2)]
    assert after.count(ONE) == 2
    put(after.of(ONE), lines(record(4)))
    assert kept(after.of(ONE)) == [record(1), record(2), record(4)]
    assert [path.name[:36] for path in folder.iterdir()] == [ONE]


def test_of_two_files_of_one_id_the_newer_counts(tmp_path: Path) -> None:
    folder = tmp_path / "quarantine"
    put(Quarantines(folder, 1000).of(ONE), lines(record(1)))
    (old,) = folder.iterdir()
    os.utime(old, (1.0, 1.0))
    put(Quarantines(folder, 1000).of(ONE), lines(record(2)))
    after = Quarantines(folder, 1000)
    after.recover([ONE])
    assert kept(after.of(ONE)) == [record(2)]
    assert not old.exists()


def test_there_need_be_nothing_to_take_over(tmp_path: Path) -> None:
    Quarantines(tmp_path / "none", 1000).recover([ONE])
    assert not (tmp_path / "none").exists()
