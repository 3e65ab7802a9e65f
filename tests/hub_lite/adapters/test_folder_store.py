"""The store in a folder: what is added is there after a restart, once, and nothing else is."""

import contextlib
import gzip
import hashlib
import io
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hub_lite.adapters.folder_store import (
    DataFolderDamaged,
    DataFolderInUse,
    DataFolderTooNew,
    FolderStore,
    NoExistingFolder,
)
from hub_lite.archives import InvalidArchive, PackageLimits
from hub_lite.errors import Conflict, Gone, NotFound, PackageError, PayloadTooLarge, Unavailable
from hub_lite.packages import InvalidManifest, NoManifest
from hub_lite.ports import StoredSequence

LIMITS = PackageLimits()


def package(name: str = "hello", **files: bytes) -> bytes:
    buffer = io.BytesIO()
    manifest = b'{"name": "%s", "main": "main.py"}' % name.encode()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in {"package.json": manifest, "main.py": b"", **files}.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def add(
    store: FolderStore, archive: bytes, sequence_id: str, app_config: dict[str, Any] | None = None
) -> StoredSequence:
    with store.receive() as upload:
        for at in range(0, len(archive), 100):
            upload.write(archive[at : at + 100])
        return store.add(upload, sequence_id, app_config)


def replace(
    store: FolderStore, archive: bytes, sequence_id: str, app_config: dict[str, Any] | None = None
) -> StoredSequence:
    with store.receive() as upload:
        upload.write(archive)
        return store.replace(upload, sequence_id, app_config)


def contents(root: Path) -> dict[str, list[str]]:
    """The names in the two folders of a store."""
    return {name: sorted(path.name for path in (root / name).iterdir()) for name in ("packages", "staging")}


def sha(archive: bytes) -> str:
    return hashlib.sha256(archive).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "var" / "hub"


@pytest.fixture
def store(root: Path) -> Iterator[FolderStore]:
    with FolderStore(root, LIMITS) as opened:
        yield opened


def test_what_is_added_is_a_folder_with_its_manifest(store, root):
    archive = package("one")
    before = time.time()
    sequence = add(store, archive, "id-1")
    assert sequence.id == "id-1"
    assert sequence.manifest.name == "one"
    assert sequence.sha256 == sha(archive)
    assert sequence.package_size == len(archive)
    assert before <= sequence.created <= time.time()
    assert sequence.directory == root / "packages" / sha(archive)
    assert sorted(path.name for path in sequence.directory.iterdir()) == ["main.py", "package.json"]
    assert store.get("id-1") == sequence
    assert contents(root) == {"packages": [sha(archive)], "staging": []}


def test_folders_are_for_the_hub_alone(store, root):
    assert {path.stat().st_mode & 0o777 for path in (root, *root.iterdir()) if path.is_dir()} == {0o700}


def test_everything_is_there_again_after_a_restart_in_the_order_of_creation(root):
    with FolderStore(root, LIMITS) as store:
        for name in ("c", "a", "b", "d"):
            add(store, package(name), name)
        store.remove("a")
        before = store.all()
        assert [sequence.id for sequence in before] == ["c", "b", "d"]
    for _ in range(2):
        with FolderStore(root, LIMITS) as store:
            assert store.all() == before
            assert store.get("b") == before[1]
            assert (store.get("b").directory / "main.py").exists()


def test_a_relative_root_gives_absolute_directories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with FolderStore(Path("here"), LIMITS) as store:
        assert add(store, package(), "id-1").directory.is_relative_to(tmp_path / "here")


def test_the_same_package_is_kept_once_until_its_last_sequence_goes(store, root):
    archive = package()
    first = add(store, archive, "first")
    (first.directory / "mark").touch()
    second = add(store, archive, "second")
    assert first.directory == second.directory
    assert (second.directory / "mark").exists()
    store.remove("first")
    assert second.directory.is_dir()
    store.remove("second")
    assert contents(root) == {"packages": [], "staging": []}
    assert store.all() == []
    third = add(store, archive, "first")
    assert not (third.directory / "mark").exists()


def test_unknown_and_taken_ids_are_refused(store):
    add(store, package(), "id-1")
    with pytest.raises(NotFound, match="nobody"):
        store.get("nobody")
    with pytest.raises(NotFound, match=r"^The sequence nobody does not exist\.$"):
        store.remove("nobody")
    with pytest.raises(NotFound, match=r"^Sequence with id: nobody not found$"):
        replace(store, package(), "nobody")
    for archive in (package(), package("other")):
        with pytest.raises(Conflict, match=r"^Sequence with id id-1 already exist$"):
            add(store, archive, "id-1")
    assert [sequence.manifest.name for sequence in store.all()] == ["hello"]


def test_an_id_is_never_a_path(store, root):
    add(store, package(), "../../x/\0")
    assert store.get("../../x/\0").directory.parent == root / "packages"


@pytest.mark.parametrize(
    ("archive", "kind"),
    [(b"no", InvalidArchive), (gzip.compress(bytes(1024), mtime=0), NoManifest)],
    ids=["no gzip", "empty"],
)
def test_a_refused_package_leaves_nothing(archive, kind, store, root):
    with pytest.raises(kind):
        add(store, archive, "id-1")
    assert store.all() == []
    assert contents(root) == {"packages": [], "staging": []}


def test_an_upload_is_limited_to_the_byte(root):
    with FolderStore(root, PackageLimits(max_packed_bytes=10)) as store:
        with store.receive() as upload:
            upload.write(b"12345")
            upload.write(b"67890")
            with pytest.raises(PayloadTooLarge, match="10 bytes"):
                upload.write(b"x")
            upload.end()
            assert (upload.size, upload.sha256) == (10, sha(b"1234567890"))
        with pytest.raises(TypeError), store.receive() as upload:
            upload.write("no bytes")
        assert contents(root)["staging"] == []


def test_an_upload_is_used_inside_its_block_only(store):
    with pytest.raises(RuntimeError):
        store.receive().write(b"1")


# Replacing.


def test_a_replaced_sequence_keeps_its_id_its_age_and_its_place(store, root):
    old = add(store, package("old", **{"old.py": b""}), "first")
    add(store, package("other"), "second")
    new = replace(store, package("new"), "first")
    assert (new.id, new.created, new.manifest.name) == ("first", old.created, "new")
    assert not (new.directory / "old.py").exists()
    assert (old.directory / "old.py").exists(), "somebody may be about to run it"
    store.remove_unused(old.sha256)
    assert not old.directory.exists()
    assert [sequence.id for sequence in store.all()] == ["first", "second"]
    kept = store.all()
    store.close()
    with FolderStore(root, LIMITS) as reopened:
        assert reopened.all() == kept


def test_a_package_that_another_sequence_uses_outlives_its_replacement(store):
    first = add(store, package("shared"), "first")
    add(store, package("shared"), "second")
    replace(store, package("new"), "first")
    store.remove_unused(first.sha256)
    assert first.directory.is_dir()
    assert store.get("second").directory == first.directory


def test_replacing_by_the_same_package_changes_nothing(store, root):
    old = add(store, package(), "first")
    (old.directory / "mark").touch()
    assert replace(store, package(), "first") == old
    assert (old.directory / "mark").exists()
    assert contents(root) == {"packages": [old.sha256], "staging": []}


def test_a_failed_replacement_leaves_the_sequence_as_it_was(store, root):
    old = add(store, package(), "first")
    with pytest.raises(PackageError):
        replace(store, b"no package", "first")
    assert store.get("first") == old
    assert contents(root) == {"packages": [old.sha256], "staging": []}


def test_a_replaced_package_is_cleared_away_after_a_crash(root):
    with FolderStore(root, LIMITS) as store:
        add(store, package("old"), "first")
        new = replace(store, package("new"), "first")
    with FolderStore(root, LIMITS):
        assert contents(root)["packages"] == [new.sha256]


# Configurations.


def test_a_configuration_is_kept_until_another_one_is_given(root):
    with FolderStore(root, LIMITS) as store:
        assert add(store, package(), "plain").app_config == {}
        assert add(store, package(), "set", {"a": [1, "\u00e9"]}).app_config == {"a": [1, "\u00e9"]}
        assert replace(store, package("new"), "set").app_config == {"a": [1, "\u00e9"]}
    with FolderStore(root, LIMITS) as store:
        assert [one.app_config for one in store.all()] == [{}, {"a": [1, "\u00e9"]}]
        assert replace(store, package("new"), "set", {"b": None}).app_config == {"b": None}
    with FolderStore(root, LIMITS) as store:
        assert store.get("set").app_config == {"b": None}
        assert replace(store, package("new"), "set", {}).app_config == {}
    with FolderStore(root, LIMITS) as store:
        assert store.get("set").app_config == {}


# Instances that run.


def test_what_is_remembered_and_not_forgotten_is_left_over_with_its_sequence(root):
    payload = {"appConfig": {"a": 1}, "args": ["x", None]}
    with FolderStore(root, LIMITS) as store:
        sequence = add(store, package(), "id-1", {"a": 0})
        store.remember("later", sequence, {}, 2000.5)
        store.remember("first", sequence, payload, 1000.25)
        store.remember("ended", sequence, {}, 1500.0)
        store.forget("ended")
        store.forget("nobody")
    with FolderStore(root, LIMITS) as store:
        first, later = store.left_over()
        assert (first.id, first.payload, first.created) == ("first", payload, 1000.25)
        assert first.sequence == later.sequence == sequence
        assert later.id == "later"
        store.forget("first")
        store.forget("later")
        assert store.left_over() == []
    with FolderStore(root, LIMITS) as store:
        assert store.left_over() == []


def test_an_id_that_is_used_again_is_remembered_once(store):
    sequence = add(store, package(), "id-1")
    store.remember("same", sequence, {"args": [1]}, 1.0)
    store.remember("same", sequence, {"args": [2]}, 2.0)
    assert [one.payload for one in store.left_over()] == [{"args": [2]}]


@pytest.mark.parametrize("end", ["replaced", "removed"])
def test_the_package_of_an_instance_outlives_its_sequence(end, store, root):
    old = add(store, package("old"), "first")
    for instance in ("one", "two"):
        store.remember(instance, old, {}, 1.0)
    if end == "replaced":
        replace(store, package("new"), "first")
        store.remove_unused(old.sha256)
    else:
        store.remove("first")
    assert (old.directory / "main.py").exists()
    assert store.left_over()[0].sequence.manifest.name == "old"
    store.forget("one")
    assert (old.directory / "main.py").exists()
    store.forget("two")
    assert not old.directory.exists()
    assert contents(root)["staging"] == []


def test_a_package_that_an_instance_uses_is_not_unpacked_over(store):
    old = add(store, package("old"), "first")
    store.remember("one", old, {}, 1.0)
    (old.directory / "written by the Instance").touch()
    replace(store, package("new"), "first")
    assert add(store, package("old"), "second").directory == old.directory
    assert (old.directory / "written by the Instance").exists()


def test_the_package_of_what_is_left_over_stays_until_it_is_forgotten(root):
    with FolderStore(root, LIMITS) as store:
        old = add(store, package("old"), "first")
        store.remember("one", old, {}, 1.0)
        new = replace(store, package("new"), "first")
    with FolderStore(root, LIMITS) as store:
        assert store.all() == [new]
        (left,) = store.left_over()
        assert (left.sequence.id, left.sequence.manifest.name) == ("first", "old")
        assert contents(root)["packages"] == sorted([old.sha256, new.sha256])
        store.forget("one")
        assert contents(root)["packages"] == [new.sha256]


def test_of_a_sequence_whose_manifest_is_not_taken_the_id_is_left_over(root):
    with FolderStore(root, LIMITS) as store:
        store.remember("one", add(store, package(), "first"), {}, 1.0)
    change(root, "UPDATE packages SET manifest = ?", b"{}")
    with FolderStore(root, LIMITS) as store:
        (left,) = store.left_over()
        assert (left.id, left.sequence.id, left.sequence.manifest.name) == ("one", "first", "")


def test_what_the_first_schema_holds_is_there_in_the_newest(root):
    with FolderStore(root, LIMITS) as store:
        kept = add(store, package(), "id-1")
    change(root, "DROP TABLE versions")
    change(root, "ALTER TABLE packages DROP COLUMN signer")
    change(root, "DROP TABLE state")
    change(root, "DROP TABLE instances")
    change(root, "ALTER TABLE sequences DROP COLUMN app_config")
    change(root, "PRAGMA user_version = 1")
    with FolderStore(root, LIMITS) as store:
        assert store.all() == [kept]
        store.remember("one", kept, {}, 1.0)
        assert replace(store, package(), "id-1", {"a": 1}).app_config == {"a": 1}
        store.set_state("one", "id-1", "k", b"1", 100)


def test_no_room_for_an_instance_is_a_full_disk(store):
    sequence = add(store, package(), "id-1")
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(Unavailable, match="disk is full"):
        store.remember("one", sequence, {"args": ["x" * 100_000]}, 1.0)
    assert store.left_over() == []


# Packages that are held.


def test_a_package_that_is_held_stays_until_it_is_released_as_often(store, root):
    old = add(store, package("one"), "id-1")
    assert store.hold(old.sha256)
    assert store.hold(old.sha256)
    new = replace(store, package("two"), "id-1")
    store.remove_unused(old.sha256)
    store.release(old.sha256)
    assert contents(root)["packages"] == sorted([old.sha256, new.sha256])
    assert (old.directory / "main.py").exists()
    store.release(old.sha256)
    assert contents(root)["packages"] == [new.sha256]


def test_an_instance_that_goes_on_with_new_code_lets_go_of_the_old(store, root):
    old = add(store, package("one"), "id-1")
    store.remember("i", old, {}, 1.0)
    new = replace(store, package("two"), "id-1")
    store.remove_unused(old.sha256)
    assert old.directory.exists()
    store.remember("i", new, {}, 1.0)
    store.remove_unused(old.sha256)
    assert contents(root)["packages"] == [new.sha256]
    store.remove("id-1")
    assert contents(root)["packages"] == [new.sha256]
    store.forget("i")
    assert contents(root)["packages"] == []


def test_a_package_that_is_held_and_released_while_it_is_used_stays(store, root):
    kept = add(store, package(), "id-1")
    assert store.hold(kept.sha256)
    store.release(kept.sha256)
    assert contents(root)["packages"] == [kept.sha256]


def test_what_is_not_there_cannot_be_held_and_what_has_no_package_always(store):
    assert not store.hold("0" * 64)
    assert store.hold("")
    store.release("")


# State.


def test_a_state_is_there_after_a_restart_for_every_instance_of_that_id(root):
    with FolderStore(root, LIMITS) as store:
        add(store, package(), "id-1")
        store.set_state("i", "id-1", "b", b"1", 100)
        store.set_state("i", "id-1", "a", b'"x"', 100)
        store.set_state("i", "id-1", "b", b"[2]", 100)
        store.set_state("other", "id-1", "b", b"3", 100)
    with FolderStore(root, LIMITS) as store:
        assert list(store.state("i").items()) == [("a", b'"x"'), ("b", b"[2]")]
        assert store.state("i", "b") == {"b": b"[2]"}
        assert store.state("i", "c") == {}
        assert store.state("nobody") == {}


def test_of_a_state_a_key_is_forgotten_or_all(store):
    add(store, package(), "id-1")
    for key in ("a", "b", "c"):
        store.set_state("i", "id-1", key, b"1", 100)
        store.set_state("other", "id-1", key, b"1", 100)
    assert (store.delete_state("i", "a"), store.delete_state("i", "a")) == (1, 0)
    assert (store.delete_state("i", None), store.delete_state("i", None)) == (2, 0)
    assert store.state("i") == {}
    assert len(store.state("other")) == 3


def test_a_state_goes_with_the_sequence_whose_instance_wrote_last(store):
    add(store, package("one"), "id-1")
    add(store, package("two"), "id-2")
    store.set_state("i", "id-1", "a", b"1", 100)
    store.set_state("i", "id-2", "b", b"2", 100)
    store.set_state("other", "id-1", "a", b"3", 100)
    store.remove("id-1")
    assert store.state("i") == {"a": b"1", "b": b"2"}
    assert store.state("other") == {}
    store.remove("id-2")
    assert store.state("i") == {}
    with pytest.raises(Gone, match="id-2 is deleted"):
        store.set_state("i", "id-2", "a", b"1", 100)


def test_a_state_is_bounded_by_the_bytes_of_its_keys_and_values(store):
    add(store, package(), "id-1")
    store.set_state("i", "id-1", "ü", b"12345678", 10)  # a key of two bytes
    store.set_state("i", "id-1", "ü", b"87654321", 10)
    for key, value in (("ü", b"123456789"), ("b", b"")):
        with pytest.raises(PayloadTooLarge, match="of Instance i would have 11 bytes; it may have 10"):
            store.set_state("i", "id-1", key, value, 10)
    store.set_state("other", "id-1", "b", b"1", 10)
    assert store.state("i") == {"ü": b"87654321"}


def test_a_state_for_which_the_disk_is_full_stays_as_it_is(store):
    add(store, package(), "id-1")
    store.set_state("i", "id-1", "a", b"1", 1_000_000)
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unavailable, match="disk is full"):
        store.set_state("i", "id-1", "a", b"2" * 100_000, 1_000_000)
    assert store.state("i") == {"a": b"1"}


def test_the_state_of_a_sequence_whose_package_has_vanished_goes_with_it(root):
    with FolderStore(root, LIMITS) as store:
        gone = add(store, package(), "id-1")
        store.set_state("i", "id-1", "a", b"1", 100)
    (gone.directory / "main.py").unlink()
    (gone.directory / "package.json").unlink()
    gone.directory.rmdir()
    with FolderStore(root, LIMITS) as store:
        assert (store.all(), store.state("i")) == ([], {})


def test_links_that_are_left_out_of_a_package_are_named_in_the_log(store, caplog):
    buffer = io.BytesIO(gzip.decompress(package()))
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        for number in range(7):
            link = tarfile.TarInfo(f"link-{number}")
            link.type, link.linkname = tarfile.SYMTYPE, "main.py" if number == 6 else "nothing"
            tar.addfile(link)
    directory = add(store, gzip.compress(buffer.getvalue(), mtime=0), "id-1").directory
    assert sorted(path.name for path in directory.iterdir()) == ["link-6", "main.py", "package.json"]
    assert not (directory / "link-6").is_symlink()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("Sequence id-1: 6 link(s) of its package are left out")
    assert record.getMessage().endswith(": 'link-0', 'link-1', 'link-2', 'link-3', 'link-4'")


# Sequences that are used in place.


def existing(folder: Path, name: str, manifest: bytes = b'{"main": "main.py"}') -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "package.json").write_bytes(manifest)
    return folder / name


@pytest.fixture
def others(tmp_path: Path) -> Path:
    return tmp_path / "others"


def test_folders_with_a_manifest_are_sequences_named_as_they_are(root, others, caplog):
    for name in ("b", "a b", "\u00fc", "linked"):
        existing(others if name != "linked" else others.parent, name)
    (others / "linked").symlink_to(others.parent / "linked")
    existing(others, "no main", b"{}")
    existing(others, "no JSON", b"{")
    existing(others, "too long", b'{"main": "' + b"x" * 1024**2 + b'"}')
    (others / "empty").mkdir()
    (others / "a folder for a manifest" / "package.json").mkdir(parents=True)
    (others / "file").touch()
    os.mkfifo(others / "pipe")
    (others / os.fsdecode(b"\xff")).mkdir()
    with FolderStore(root, LIMITS, others) as store:
        assert [one.id for one in store.all()] == ["a b", "b", "linked", "\u00fc"]
        assert {one.directory for one in store.all()} == {others / one.id for one in store.all()}
        assert {(one.sha256, one.package_size) for one in store.all()} == {("", 0)}
        assert store.get("b").created == pytest.approx(time.time(), abs=60)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    for name in ("no main", "no JSON", "too long", "empty", "a folder for a manifest"):
        assert any(f"{others / name}" in text and "is no Sequence: " in text for text in said), name
    assert len(said) == 6
    with FolderStore(root, LIMITS) as store:
        assert store.all() == [], "only when it is asked for"


def test_an_identified_sequence_is_removed_until_the_next_start_and_keeps_its_files(root, others):
    folder = existing(others, "plain")
    with FolderStore(root, LIMITS, others) as store:
        stored = add(store, package(), "stored")
        store.remove("plain")
        assert store.all() == [stored]
        assert (folder / "package.json").exists()
        assert contents(root)["packages"] == [stored.sha256]
    with FolderStore(root, LIMITS, others) as store:
        assert [one.id for one in store.all()] == ["plain", "stored"]


def test_a_replaced_identified_sequence_is_the_stores_and_hides_the_folder(root, others):
    folder = existing(others, "plain")
    with FolderStore(root, LIMITS, others) as store:
        old = store.get("plain")
        new = replace(store, package("new"), "plain")
        store.remove_unused(old.sha256)
        assert (new.created, new.sha256) == (old.created, sha(package("new")))
        assert (folder / "package.json").read_bytes() == b'{"main": "main.py"}'
        with pytest.raises(Conflict):
            add(store, package(), "plain")
    with FolderStore(root, LIMITS, others) as store:
        assert store.all() == [new]
        assert (new.directory / "main.py").exists()


def test_an_instance_of_an_identified_sequence_is_left_over_too(root, others):
    existing(others, "plain", b'{"main": "main.py", "name": "known"}')
    with FolderStore(root, LIMITS, others) as store:
        store.remember("one", store.get("plain"), {}, 1.0)
        store.remember("two", store.get("plain"), {}, 2.0)
        store.forget("two")
    with FolderStore(root, LIMITS, others) as store:
        assert [one.sequence.manifest.name for one in store.left_over()] == ["known"]
    with FolderStore(root, LIMITS) as store:
        (left,) = store.left_over()
        assert (left.sequence.id, left.sequence.manifest.name) == ("plain", "")
        store.forget("one")
        assert store.left_over() == []


@pytest.mark.parametrize("there", ["nothing", "file"])
def test_a_folder_of_existing_sequences_that_is_none_is_named(there, root, others):
    if there == "file":
        others.touch()
    with pytest.raises(NoExistingFolder, match=f"^{others}: existing Sequences cannot be looked for"):
        FolderStore(root, LIMITS, others).open()
    with FolderStore(root, LIMITS) as store:  # the refused one holds no lock
        assert store.all() == []


# What others did to the folder.


def test_a_package_goes_with_all_that_its_sequence_wrote_into_it(store, root):
    directory = add(store, package(), "id-1").directory
    (directory / "__pycache__" / "deeper").mkdir(parents=True)
    (directory / "__pycache__" / "main.cpython-311.pyc").touch()
    (directory / "link").symlink_to("/")
    (directory / "__pycache__").chmod(0o500)
    directory.chmod(0o500)
    store.remove("id-1")
    assert contents(root) == {"packages": [], "staging": []}


def test_what_a_sequence_does_to_its_manifest_is_nothing_to_the_hub(root):
    with FolderStore(root, LIMITS) as store:
        sequence = add(store, package("true"), "id-1")
        (sequence.directory / "package.json").write_text('{"name": "false", "main": "../../x"}')
    with FolderStore(root, LIMITS) as store:
        assert store.get("id-1").manifest.name == "true"
        assert add(store, package("true"), "id-2").manifest.name == "true"


def test_what_a_crash_left_is_cleared_away(root):
    with FolderStore(root, LIMITS) as store:
        kept = add(store, package(), "id-1")
    (root / "incoming").mkdir()  # an older hub received archives there
    (root / "incoming" / "half").write_bytes(b"half")
    (root / "staging" / "half" / "node_modules").mkdir(parents=True)
    (root / "staging" / "half" / "node_modules" / "file").touch(0o400)
    (root / "staging" / "half" / "node_modules").chmod(0o500)
    (root / "packages" / ("0" * 64)).mkdir()
    (root / "packages" / ("0" * 64) / "package.json").touch()
    (root / "packages" / "a link").symlink_to(root)
    with FolderStore(root, LIMITS) as store:
        assert store.all() == [kept]
        assert contents(root) == {"packages": [kept.sha256], "staging": []}
        assert not (root / "incoming").exists()


@pytest.mark.parametrize("while_running", [True, False])
def test_a_sequence_whose_folder_vanished_is_dropped_and_can_be_added_again(while_running, root, caplog):
    with FolderStore(root, LIMITS) as store:
        gone = add(store, package("gone"), "gone")
        kept = add(store, package("kept"), "kept")
        gone.directory.rename(root / "moved by somebody")
        if while_running:
            assert add(store, package("gone"), "again").directory == gone.directory
            assert (gone.directory / "main.py").exists()
            return
    with FolderStore(root, LIMITS) as store:
        assert store.all() == [kept]
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "gone is dropped" in caplog.text
        assert add(store, package("gone"), "gone").directory == gone.directory
    with FolderStore(root, LIMITS) as store:
        assert [sequence.id for sequence in store.all()] == ["kept", "gone"]


def test_a_folder_without_a_row_makes_way_for_a_package_of_its_name(store, root):
    leftover = root / "packages" / sha(package())
    leftover.mkdir()
    (leftover / "stale").touch()
    assert not (add(store, package(), "id-1").directory / "stale").exists()
    assert contents(root)["staging"] == []


def change(root: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(root / "sequences.sqlite3")) as database, database:
        database.execute(statement, values)


def test_a_sequence_whose_manifest_this_hub_does_not_take_is_left_aside(root, caplog):
    with FolderStore(root, LIMITS) as store:
        add(store, package(), "id-1")
    change(root, "UPDATE packages SET manifest = ?", b"{}")
    with FolderStore(root, LIMITS) as store:
        assert store.all() == []
        assert "id-1 is left aside" in caplog.text
        with pytest.raises(InvalidManifest, match="main"):
            add(store, package(), "id-2")
    change(root, "UPDATE packages SET manifest = ?", b'{"main": "main.py"}')
    with FolderStore(root, LIMITS) as store:
        assert [sequence.id for sequence in store.all()] == ["id-1"]


def test_a_folder_of_a_newer_hub_is_refused_and_left_as_it_is(root):
    with FolderStore(root, LIMITS) as store:
        kept = add(store, package(), "id-1")
    change(root, "PRAGMA user_version = 7")
    (root / "staging" / "kept").touch()
    with pytest.raises(DataFolderTooNew, match=f"{root}: .*schema 7, this hub knows 4"):
        FolderStore(root, LIMITS).open()
    assert (root / "staging" / "kept").exists()
    change(root, "PRAGMA user_version = 4")
    with FolderStore(root, LIMITS) as store:  # the refused one holds no lock
        assert store.all() == [kept]


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(4000)])
def test_a_damaged_database_is_named_and_packages_are_left(damage, root):
    with FolderStore(root, LIMITS) as store:
        kept = add(store, package(), "id-1")
    (root / "sequences.sqlite3").write_bytes(damage)
    with pytest.raises(DataFolderDamaged, match=str(root)):
        FolderStore(root, LIMITS).open()
    assert kept.directory.is_dir()


def test_a_full_database_is_a_full_disk_and_changes_nothing(store, root):
    kept = add(store, package(), "id-1")
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages}")

    def add_many() -> None:
        for number in range(100):
            add(store, package(f"{number}" * 1000), f"more-{number}" * 10)

    with pytest.raises(Unavailable, match="disk is full"):
        add_many()
    count = len(store.all())
    store.close()
    with FolderStore(root, LIMITS) as reopened:
        assert len(reopened.all()) == count
        assert reopened.get("id-1") == kept
        assert len(contents(root)["packages"]) == count


# One hub at a time.

HOLD = """
import io, os, sys, tarfile, time
from pathlib import Path
from hub_lite.adapters.folder_store import FolderStore
from hub_lite.archives import PackageLimits
root = Path(sys.argv[1])
packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w:gz") as tar:
    member = tarfile.TarInfo("large")
    member.size = 300_000
    tar.addfile(member, io.BytesIO(os.urandom(300_000)))
with FolderStore(root, PackageLimits()) as store, store.receive() as upload:
    upload.write(packed.getvalue()[:200_000])
    while not list((root / "staging").glob("*/large")):
        time.sleep(0.01)
    print("open", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def other_hub(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the folder open and receives an upload, until its stdin closes."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    ) as process:
        assert process.stdout.readline() == b"open\n"
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait(10)


def test_a_second_hub_is_told_which_process_has_the_folder(root):
    with (
        other_hub(root) as process,
        pytest.raises(DataFolderInUse, match=f"{root}: process {process.pid} ") as caught,
    ):
        FolderStore(root, LIMITS).open()
    assert (caught.value.root, caught.value.pid) == (root, process.pid)
    with FolderStore(root, LIMITS) as store:
        assert store.all() == []


def test_a_killed_hub_leaves_its_folder_to_the_next(root):
    with other_hub(root) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert len(contents(root)["staging"]) == 1
        with FolderStore(root, LIMITS) as store:
            assert contents(root)["staging"] == []
            with pytest.raises(DataFolderInUse, match=f"process {os.getpid()} "):
                FolderStore(root, LIMITS).open()
            assert add(store, package(), "id-1").id == "id-1"


def test_a_holder_that_did_not_say_who_it_is_is_another_process(store, root):
    (root / "lock").write_text("")
    with pytest.raises(DataFolderInUse, match="another process"):
        FolderStore(root, LIMITS).open()


def test_a_store_is_usable_between_open_and_close_only(root):
    store = FolderStore(root, LIMITS)
    store.close()
    with pytest.raises(Unavailable):
        store.all()
    store.open()
    with store.receive() as upload:
        upload.write(package())
        store.close()
        store.close()
        with pytest.raises(Unavailable):
            store.add(upload, "id-1")
    for use in (store.receive, store.all, lambda: store.get("x"), lambda: store.remove("x")):
        with pytest.raises(Unavailable, match="closed"):
            use()
    store.open()
    assert store.all() == []
    store.close()


# Many threads.


def test_the_same_package_added_by_many_threads_at_once_is_kept_once(store, root):
    threads = 8
    barrier = threading.Barrier(threads)
    archive = package(**{f"file{number}": b"x" * 100 for number in range(50)})

    def add_one(number: int) -> StoredSequence:
        with store.receive() as upload:
            upload.write(archive)
            barrier.wait(10)
            return store.add(upload, f"id-{number}")

    with ThreadPoolExecutor(threads) as pool:
        sequences = list(pool.map(add_one, range(threads)))
    assert {sequence.directory for sequence in sequences} == {root / "packages" / sha(archive)}
    assert sorted(sequence.id for sequence in store.all()) == [f"id-{number}" for number in range(threads)]
    assert contents(root) == {"packages": [sha(archive)], "staging": []}


def test_one_id_added_by_many_threads_at_once_is_given_once(store, root):
    threads = 6
    barrier = threading.Barrier(threads)

    def add_one(number: int) -> bool:
        with store.receive() as upload:
            upload.write(package(f"package {number}"))
            barrier.wait(10)
            try:
                store.add(upload, "id-1")
            except Conflict:
                return False
            return True

    with ThreadPoolExecutor(threads) as pool:
        assert sum(pool.map(add_one, range(threads))) == 1
    assert contents(root) == {"packages": [store.get("id-1").sha256], "staging": []}


def test_adding_and_removing_by_many_threads_never_loses_a_package_in_use(store, root):
    archives = [package("one"), package("two")]

    def churn(number: int) -> None:
        for turn in range(10):
            sequence = add(store, archives[turn % 2], f"id-{number}")
            assert (sequence.directory / "main.py").exists()
            replaced = replace(store, archives[(turn + number) % 2], f"id-{number}")
            assert (replaced.directory / "main.py").exists()
            store.remove_unused(sequence.sha256)
            assert (replaced.directory / "main.py").exists()
            store.remove(f"id-{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(churn, range(4)))
    assert store.all() == []
    assert contents(root) == {"packages": [], "staging": []}
