"""The versions of a Sequence in the store: each package it gets is one, old ones go, and it goes back to any that is kept."""

import itertools
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.adapters.folder_store import FolderStore
from hub_lite.errors import Conflict, NotFound, PackageError, Unavailable
from hub_lite.packages import InvalidManifest

from .test_folder_store import LIMITS, add, change, contents, existing, package, replace, sha


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def store(root: Path) -> Iterator[FolderStore]:
    with FolderStore(root, LIMITS, kept_versions=3) as opened:
        yield opened


def shown(store: FolderStore, sequence_id: str = "id-1") -> list[tuple[int, str]]:
    """The numbers and names of the versions of a Sequence."""
    return [(one.number, one.manifest.name) for one in store.versions(sequence_id)]


def on_disk(root: Path) -> tuple[list[str], list[str]]:
    """The packages there are, and what is on its way in or out."""
    return contents(root)["packages"], contents(root)["staging"]


def grown(store: FolderStore, *names: str) -> None:
    """Give a Sequence one package after the other."""
    first, *others = names
    add(store, package(first), "id-1")
    for name in others:
        replace(store, package(name), "id-1")


def sweep(store: FolderStore) -> None:
    for sha256 in store.unused_packages():
        store.remove_unused(sha256)


def test_each_package_is_a_version_and_the_newest_is_first(store):
    before = time.time()
    sequence = add(store, package("a"), "id-1", {"k": 1})
    replace(store, package("b"), "id-1")
    second, first = store.versions("id-1")
    assert (first.number, second.number) == (1, 2)
    assert (first.sha256, first.package_size) == (sequence.sha256, sequence.package_size)
    assert (first.manifest, first.app_config, first.signer) == (sequence.manifest, {"k": 1}, None)
    assert before <= first.created <= second.created <= time.time()
    assert (second.sha256, second.app_config) == (store.get("id-1").sha256, {"k": 1})


def test_the_same_package_with_the_same_configuration_is_no_new_version(store):
    grown(store, "a", "a")
    assert shown(store) == [(1, "a")]
    replace(store, package("a"), "id-1", {"k": 1})
    replace(store, package("a"), "id-1", {"k": 1})
    assert [one.app_config for one in store.versions("id-1")] == [{"k": 1}, {}]


def test_packages_of_versions_stay_and_older_ones_go(store, root):
    grown(store, "a", "b", "c")
    assert store.unused_packages() == []
    store.remove_unused(sha(package("a")))
    assert contents(root)["packages"] == sorted(sha(package(name)) for name in "abc")
    grown_by = replace(store, package("d"), "id-1")
    assert shown(store) == [(4, "d"), (3, "c"), (2, "b")]
    assert store.unused_packages() == [sha(package("a"))]
    sweep(store)
    assert contents(root)["packages"] == sorted(sha(package(name)) for name in "bcd")
    assert store.get("id-1") == grown_by


def test_a_rollback_is_one_more_version_with_package_and_configuration(store):
    first = add(store, package("a"), "id-1", {"k": 1})
    second = replace(store, package("b"), "id-1", {"k": 2})
    assert store.rollback("id-1") == (first, 3)
    assert store.get("id-1") == store.all()[0] == first
    assert shown(store) == [(3, "a"), (2, "b"), (1, "a")]
    assert store.rollback("id-1") == (second, 4)
    assert shown(store) == [(4, "b"), (3, "a"), (2, "b")]
    assert store.rollback("id-1", 3) == (first, 5)


def test_what_cannot_be_gone_back_to_is_said(store):
    add(store, package("a"), "id-1")
    with pytest.raises(
        Conflict, match=r"^Sequence id-1 has no version before the present one, which is 1\.$"
    ):
        store.rollback("id-1")
    replace(store, package("b"), "id-1")
    with pytest.raises(NotFound, match=r"^Sequence id-1 has no version 7; it has 1, 2\.$"):
        store.rollback("id-1", 7)
    with pytest.raises(NotFound):
        store.rollback("id-1", 2**80)
    with pytest.raises(Conflict, match=r"^Sequence id-1 is at version 2 already\.$"):
        store.rollback("id-1", 2)
    store.rollback("id-1", 1)
    with pytest.raises(
        Conflict, match=r"^Sequence id-1 has the package and configuration of version 1 already\.$"
    ):
        store.rollback("id-1", 1)
    for ask in (store.versions, store.rollback):
        with pytest.raises(NotFound, match="Sequence id-2 not found"):
            ask("id-2")
    assert shown(store) == [(3, "a"), (2, "b"), (1, "a")]


def test_versions_whose_files_are_gone_are_no_way_back(root):
    with FolderStore(root, LIMITS, kept_versions=3) as store:
        grown(store, "a", "b", "c")
        (root / "packages" / sha(package("b"))).rename(root / "elsewhere")
        with pytest.raises(Conflict, match=r"^The files of version 2 of Sequence id-1 are gone\.$"):
            store.rollback("id-1")
        assert store.get("id-1").manifest.name == "c"
    with FolderStore(root, LIMITS, kept_versions=3) as store:
        assert shown(store) == [(3, "c"), (1, "a")]
        assert store.rollback("id-1")[1] == 4
        assert shown(store) == [(4, "a"), (3, "c")], "numbers are not used twice, and 1 is too old"


def test_a_version_whose_manifest_this_hub_does_not_take_is_shown_and_no_way_back(root):
    with FolderStore(root, LIMITS, kept_versions=3) as store:
        grown(store, "a", "b")
        change(root, "UPDATE packages SET manifest = ? WHERE sha256 = ?", b"{}", sha(package("a")))
        assert shown(store) == [(2, "b"), (1, "")]
        with pytest.raises(InvalidManifest, match="main"):
            store.rollback("id-1")
        assert shown(store) == [(2, "b"), (1, "")]


def test_versions_are_there_after_a_restart_and_fewer_are_kept_if_the_settings_say_so(root):
    with FolderStore(root, LIMITS, kept_versions=3) as store:
        grown(store, "a", "b", "c")
        store.rollback("id-1", 1)
        before = store.versions("id-1")
    with FolderStore(root, LIMITS, kept_versions=3) as store:
        assert store.versions("id-1") == before
        assert store.get("id-1").manifest.name == "a"
    with FolderStore(root, LIMITS, kept_versions=1) as store:
        assert shown(store) == [(4, "a")]
    assert contents(root)["packages"] == [sha(package("a"))]


def test_what_a_crash_left_between_a_version_and_its_removal_is_cleared_away(root):
    with FolderStore(root, LIMITS, kept_versions=1) as store:
        grown(store, "a", "b")
        assert len(contents(root)["packages"]) == 2
    with FolderStore(root, LIMITS, kept_versions=1) as store:
        assert shown(store) == [(2, "b")]
    assert contents(root)["packages"] == [sha(package("b"))]


def test_deleting_a_sequence_forgets_all_its_versions_but_not_those_of_others(store, root):
    grown(store, "a", "b", "c")
    add(store, package("b"), "id-2")
    store.remove("id-1")
    assert on_disk(root) == ([sha(package("b"))], [])
    with pytest.raises(NotFound):
        store.versions("id-1")
    assert shown(store, "id-2") == [(1, "b")]
    add(store, package("d"), "id-1")
    assert shown(store) == [(1, "d")]


def test_a_package_that_is_a_version_of_one_sequence_and_the_present_one_of_another_is_kept_once(store, root):
    grown(store, "a", "b")
    add(store, package("a"), "id-2")
    assert contents(root)["packages"] == sorted(sha(package(name)) for name in "ab")
    store.remove("id-2")
    assert store.rollback("id-1")[0].directory.is_dir()


def test_an_instance_keeps_the_package_of_a_version_that_is_forgotten(store, root):
    old = add(store, package("a"), "id-1")
    store.remember("one", old, {}, 1.0)
    for name in "bcd":
        replace(store, package(name), "id-1")
    sweep(store)
    assert old.directory.is_dir()
    store.forget("one")
    assert not old.directory.exists()


def test_a_rollback_leaves_the_state_of_instances_as_it_is(store):
    grown(store, "a", "b")
    store.set_state("i", "id-1", "k", b"1", 100)
    store.rollback("id-1")
    assert store.state("i") == {"k": b"1"}


def test_a_sequence_that_is_used_in_place_has_no_versions_until_it_gets_a_package(root, tmp_path):
    existing(tmp_path / "others", "id-1")
    with FolderStore(root, LIMITS, tmp_path / "others", kept_versions=3) as store:
        assert store.versions("id-1") == []
        for number in (None, 1):
            with pytest.raises(Conflict, match=r"id-1 is used in place, .* and has no versions"):
                store.rollback("id-1", number)
        replace(store, package("a"), "id-1")
        assert shown(store) == [(1, "a")]
        store.remove("id-1")
    assert contents(root)["packages"] == []


def test_a_sequence_of_an_older_hub_is_at_version_1(root):
    with FolderStore(root, LIMITS) as store:
        kept = add(store, package("a"), "id-1", {"k": 1})
        other = add(store, package("b"), "id-2")
        store.set_state("i", "id-1", "k", b"1", 100)
    change(root, "DROP TABLE versions")
    change(root, "ALTER TABLE packages DROP COLUMN signer")
    change(root, "PRAGMA user_version = 3")
    with FolderStore(root, LIMITS, kept_versions=3) as store:
        assert store.all() == [kept, other]
        (version,) = store.versions("id-1")
        assert (version.number, version.sha256, version.created) == (1, kept.sha256, kept.created)
        assert (version.app_config, version.signer) == ({"k": 1}, None)
        replace(store, package("c"), "id-1", {})
        assert store.rollback("id-1") == (kept, 3)
        assert store.state("i") == {"k": b"1"}


def test_a_rollback_for_which_the_disk_is_full_changes_nothing(store):
    add(store, package("a"), "id-1", {"k": "x" * 100_000})
    replace(store, package("b"), "id-1", {})
    before = (store.all(), store.versions("id-1"))
    database = store._database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unavailable, match="disk is full"):
        store.rollback("id-1")
    assert (store.all(), store.versions("id-1")) == before


def test_a_closed_store_has_no_versions(root):
    store = FolderStore(root, LIMITS)
    for ask in (lambda: store.versions("id-1"), lambda: store.rollback("id-1"), store.unused_packages):
        with pytest.raises(Unavailable):
            ask()


def test_rollbacks_and_replacements_by_many_threads_leave_whole_versions(store, root):
    grown(store, "a", "b")

    def work(number: int) -> None:
        if number % 2:
            replace(store, package(f"p{number}"), "id-1")
        else:
            store.rollback("id-1")
        sweep(store)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(24)))
    versions = store.versions("id-1")
    assert [one.number for one in versions] == [26, 25, 24]
    assert versions[0].sha256 == store.get("id-1").sha256
    sweep(store)
    assert contents(root)["packages"] == sorted({one.sha256 for one in versions})


STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("abcd"), st.sampled_from([None, 1, 2])),
    st.tuples(st.just("back"), st.one_of(st.none(), st.integers(1, 9)), st.none()),
    st.tuples(st.just("restart"), st.none(), st.none()),
)
PACKAGES = {name: package(name) for name in "abcd"}
NUMBERS = itertools.count()


@given(st.lists(STEPS, max_size=8), st.integers(1, 3))
def test_history_only_grows_and_only_what_it_needs_is_kept(tmp_path_factory, steps, kept):
    root = tmp_path_factory.mktemp(f"hub{next(NUMBERS)}")
    store = FolderStore(root, LIMITS, kept_versions=kept)
    store.open()
    add(store, PACKAGES["a"], "id-1")
    past = [("a", {})]
    for step, what, config in steps:
        if step == "restart":
            store.close()
            store.open()
        elif step == "put":
            wanted = (what, past[-1][1] if config is None else {"k": config})
            replace(store, PACKAGES[what], "id-1", None if config is None else {"k": config})
            past += [wanted] if wanted != past[-1] else []
        else:
            number = len(past) - 1 if what is None else what
            fits = 1 <= number < len(past) and number > len(past) - kept and past[number - 1] != past[-1]
            try:
                assert store.rollback("id-1", what)[1] == len(past) + 1
                assert fits
                past.append(past[number - 1])
            except (Conflict, NotFound):
                assert not fits
        sweep(store)
        history = [(len(past) - back, *past[-1 - back]) for back in range(min(kept, len(past)))]
        found = [(one.number, one.manifest.name, one.app_config) for one in store.versions("id-1")]
        assert found == history
        present = store.get("id-1")
        assert (present.manifest.name, present.app_config) == past[-1]
        assert contents(root)["packages"] == sorted({sha(PACKAGES[name]) for _, name, _ in history})
    store.close()


# Who signed a package.


class Unsigned(PackageError):
    """Nobody signed it."""


def signers(folder: Path) -> str | None:
    """Tell who signed the package in a folder, by a file in it that says so."""
    path = folder / "signer"
    if not path.exists():
        return None
    if (name := path.read_text()) == "nobody":
        raise Unsigned("nobody signed this package")
    return name


def test_who_signed_a_package_is_kept_with_it(root):
    signed = package("a", signer=b"us")
    with FolderStore(root, LIMITS, kept_versions=3, signer_of=signers) as store:
        assert add(store, signed, "id-1").signer == "us"
        assert replace(store, package("b"), "id-1").signer is None
        assert [one.signer for one in store.versions("id-1")] == [None, "us"]
        rolled, _ = store.rollback("id-1")
        assert rolled.signer == "us"
        store.remember("one", rolled, {}, 1.0)
        store.remove("id-1")
    with FolderStore(root, LIMITS, kept_versions=3) as store:
        assert [one.sequence.signer for one in store.left_over()] == ["us"]
        assert add(store, signed, "id-2").signer == "us", "of a package that is there it is known"
    with FolderStore(root, LIMITS, kept_versions=3) as store:
        assert store.get("id-2").signer == "us"


def test_a_package_that_is_not_to_be_taken_leaves_nothing(root):
    refused = package("a", signer=b"nobody")
    with FolderStore(root, LIMITS, signer_of=signers) as store:
        with pytest.raises(Unsigned):
            add(store, refused, "id-1")
        assert store.all() == []
        assert on_disk(root) == ([], [])


def test_a_package_that_is_there_already_is_looked_at_too(root):
    """A hub that begins to ask for signatures must not take an unsigned package because it knew that before."""
    refused = package("a", signer=b"nobody")
    with FolderStore(root, LIMITS) as store:
        kept = add(store, refused, "id-1")
    with FolderStore(root, LIMITS, signer_of=signers) as store:
        with pytest.raises(Unsigned):
            add(store, refused, "id-2")
        assert store.all() == [kept]
        assert on_disk(root) == ([kept.sha256], [])


def test_signatures_that_a_hub_begins_to_look_at_are_known_from_the_next_upload_on_and_make_no_version(root):
    signed = package("a", signer=b"us")
    with FolderStore(root, LIMITS, kept_versions=3) as store:
        assert add(store, signed, "id-1").signer is None
    with FolderStore(root, LIMITS, kept_versions=3, signer_of=signers) as store:
        assert replace(store, signed, "id-1").signer == "us"
        assert [(one.number, one.signer) for one in store.versions("id-1")] == [(1, "us")]
        assert store.get("id-1").signer == "us"
    assert on_disk(root) == ([sha(signed)], [])


def test_versions_of_one_sequence_never_have_two_of_a_number(store, root):
    grown(store, "a", "b")
    with sqlite3.connect(root / "sequences.sqlite3") as database, pytest.raises(sqlite3.IntegrityError):
        database.execute("INSERT INTO versions SELECT * FROM versions")
    database.close()
