"""The store of Sequences in a folder of the hub's machine.

<root>/
├── lock                the process id of the hub that has the folder; locked while it does
├── sequences.sqlite3   a row per Sequence, per version of one, per package, per Instance that runs, and per key of a state
├── packages/<sha256>/  unpacked packages, named by the hash of their archive, shared by Sequences that are the same;
│                       they stay while a Sequence, a version of one or an Instance uses them
└── staging/            packages that are being unpacked, most of them while they arrive, or removed

Beside them it may show the Sequences of another folder, which it only reads: every folder in there with a manifest is one.
"""

import fcntl
import json
import logging
import os
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from hub_lite.archives import PackageLimits
from hub_lite.errors import Conflict, Gone, NotFound, PayloadTooLarge, Unavailable
from hub_lite.packages import DISK_FULL, InvalidManifest
from hub_lite.ports import LeftOver, StoredSequence, StoredVersion
from hub_lite.removal import remove_tree
from hub_lite.settings import SettingsError
from sequence_sdk.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, ManifestError, parse_manifest

from .upload import Upload, unpacking_turns

logger = logging.getLogger(__name__)

# The manifest is kept beside its package, as what a running Sequence does to its own folder must not change what the
# hub knows of it. The positions are the order of creation, which a clock that was set back would not give.
# One step a version of the schema, applied in turn to what an older hub has left. An Instance's row names no package by
# reference, as a Sequence that is used in place has none. The version of a Sequence with the highest number is what its own
# row says.
_SCHEMA = (
    """
BEGIN;
CREATE TABLE packages (
    sha256 TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    manifest BLOB NOT NULL
);
CREATE TABLE sequences (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL REFERENCES packages,
    created REAL NOT NULL
);
PRAGMA user_version = 1;
COMMIT;
""",
    """
BEGIN;
ALTER TABLE sequences ADD COLUMN app_config TEXT NOT NULL DEFAULT '{}';
CREATE TABLE instances (
    id TEXT PRIMARY KEY,
    sequence_id TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    payload TEXT NOT NULL,
    created REAL NOT NULL
);
PRAGMA user_version = 2;
COMMIT;
""",
    """
BEGIN;
CREATE TABLE state (
    instance_id TEXT NOT NULL,
    key TEXT NOT NULL,
    sequence_id TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (instance_id, key)
);
CREATE INDEX state_of_sequence ON state (sequence_id);
PRAGMA user_version = 3;
COMMIT;
""",
    """
BEGIN;
ALTER TABLE packages ADD COLUMN signer TEXT;
CREATE TABLE versions (
    sequence_id TEXT NOT NULL REFERENCES sequences (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    sha256 TEXT NOT NULL REFERENCES packages,
    created REAL NOT NULL,
    app_config TEXT NOT NULL,
    PRIMARY KEY (sequence_id, number)
);
CREATE INDEX versions_of_package ON versions (sha256);
INSERT INTO versions SELECT id, 1, sha256, created, app_config FROM sequences;
PRAGMA user_version = 4;
COMMIT;
""",
)
_SCHEMA_VERSION = len(_SCHEMA)
_SHOWN_LINKS = 5  # named in a line of the log
_UNUSED = (
    "FROM packages WHERE sha256 NOT IN (SELECT sha256 FROM sequences)"
    " AND sha256 NOT IN (SELECT sha256 FROM versions)"
    " AND sha256 NOT IN (SELECT sha256 FROM instances)"
)
_FORGET_UNUSED = f"DELETE {_UNUSED}"
_FORGET_OLD = (  # versions: all of a Sequence, or of every one, but so many
    "DELETE FROM versions WHERE (?1 IS NULL OR sequence_id = ?1) AND number <="
    " (SELECT max(number) FROM versions AS newer WHERE newer.sequence_id = versions.sequence_id) - ?2"
)


class DataFolderError(SettingsError):
    """The data folder cannot be used by this hub; ``root`` is the folder."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root


class DataFolderInUse(DataFolderError):
    """Another hub has the data folder; ``pid`` is its process, None if it did not say."""

    def __init__(self, root: Path, pid: int | None) -> None:
        super().__init__(root)
        self.pid = pid

    def __str__(self) -> str:
        holder = f"process {self.pid}" if self.pid is not None else "another process"
        return f"{self.root}: {holder} has this data folder; stop that hub, or give this one another folder"


class DataFolderTooNew(DataFolderError):
    """A newer hub wrote the data folder; ``found`` and ``known`` are versions of its schema."""

    def __init__(self, root: Path, found: int, known: int) -> None:
        super().__init__(root)
        self.found = found
        self.known = known

    def __str__(self) -> str:
        return (
            f"{self.root}: a newer hub wrote this data folder (schema {self.found}, this hub knows {self.known}); "
            "upgrade this hub, or give it another folder"
        )


class DataFolderDamaged(DataFolderError):
    """The database in the data folder cannot be read; ``why`` is what SQLite says."""

    def __init__(self, root: Path, why: str) -> None:
        super().__init__(root)
        self.why = why

    def __str__(self) -> str:
        return f"{self.root}: its database cannot be read ({self.why}); restore it, or give the hub another folder"


class NoExistingFolder(SettingsError):
    """The folder of Sequences that are used in place is none; ``folder`` is its path, ``why`` the reason."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(folder, why)
        self.folder = folder
        self.why = why

    def __str__(self) -> str:
        return (
            f"{self.folder}: existing Sequences cannot be looked for here ({self.why}); "
            "make this folder, or name another one"
        )


class FolderStore:
    """The Sequences of a hub, in a folder that nobody else uses; they are there again after a restart.

    All methods block, and may be called from any thread. Between ``open`` and ``close`` the folder belongs to this store;
    outside, methods raise ``Unavailable``.

    Args:
        root: the folder.
        limits: what a package may take.
        existing: a folder whose folders with a manifest are Sequences too, named as they are. They are used in place, and
            older than all others; what the store itself keeps under the same id hides them.
        kept_versions: how many versions of a Sequence are kept, the present one among them.
        signer_of: tells who signed the package in a folder, or raises a ``PackageError`` if it is not to be taken.
    """

    def __init__(
        self,
        root: Path,
        limits: PackageLimits,
        existing: Path | None = None,
        *,
        kept_versions: int = 1,
        signer_of: Callable[[Path], str | None] | None = None,
    ) -> None:
        self._root = root.absolute()
        self._existing = None if existing is None else existing.absolute()
        self._limits = limits
        self._kept_versions = kept_versions
        self._signer_of = signer_of
        self._lock = threading.Lock()  # over the five fields below and what lies in packages/
        self._resources = ExitStack()
        self._database: sqlite3.Connection | None = None
        self._sequences: dict[str, StoredSequence] = {}  # in the order of creation
        self._held: Counter[str] = Counter()  # packages that stay for the time being, by their hash
        self._uploads: WeakSet[Upload] = WeakSet()
        self._turns = unpacking_turns()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Take the folder, making it if need be, and clear away what a crash has left in it.

        Raises:
            DataFolderInUse: another hub has it.
            DataFolderTooNew: a newer hub wrote it.
            DataFolderDamaged: its database cannot be read.
            NoExistingFolder: the folder of existing Sequences cannot be read.
        """
        with self._lock, ExitStack() as resources:
            self._root.mkdir(0o700, parents=True, exist_ok=True)
            resources.enter_context(_lock_folder(self._root))
            for name in ("packages", "staging"):
                (self._root / name).mkdir(0o700, exist_ok=True)
            try:
                database = resources.enter_context(_open_database(self._root))
                sequences = _identify(self._existing)
                sequences |= _load_sequences(database, self._root / "packages", self._kept_versions)
            except sqlite3.DatabaseError as error:
                raise DataFolderDamaged(self._root, str(error)) from error
            used = {sha256 for (sha256,) in database.execute("SELECT sha256 FROM packages")}
            for leftover in (
                self._root / "incoming",  # of an older hub, which kept archives there while they arrived
                *(self._root / "staging").iterdir(),
                *(package for package in (self._root / "packages").iterdir() if package.name not in used),
            ):
                _discard(leftover)
            self._database = database
            self._sequences = sequences
            self._resources = resources.pop_all()

    def close(self) -> None:
        """Give the folder back, with nothing in it of uploads that are not whole. Safe to call twice."""
        with self._lock:
            self._database = None
            self._sequences = {}
            uploads = list(self._uploads)
        for upload in uploads:
            upload.close()
        with self._lock:
            self._resources.close()

    def receive(self) -> Upload:
        """Return what unpacks a package that arrives; to be used in a ``with`` block."""
        with self._lock:
            self._opened()
            upload = Upload(self._root / "staging" / uuid.uuid4().hex, self._limits, self._turns)
            self._uploads.add(upload)
        return upload

    def add(
        self, upload: Upload, sequence_id: str, app_config: Mapping[str, Any] | None = None
    ) -> StoredSequence:
        """Unpack what was received and keep it as a new Sequence, with the configuration that its starts have by default.

        Raises:
            PackageError: the package cannot be used (hub_lite/packages.py has the kinds).
            Conflict: the id is taken.
            Unavailable: the disk is full.
        """
        return self._keep(upload, sequence_id, app_config, replaces=False)

    def replace(
        self, upload: Upload, sequence_id: str, app_config: Mapping[str, Any] | None = None
    ) -> StoredSequence:
        """Unpack what was received and keep it as the new package of a Sequence; its id and age stay.

        So does its configuration, if none is given. The old package is left to ``remove_unused``. If it fails, the
        Sequence is as before.

        Raises:
            PackageError: the package cannot be used (hub_lite/packages.py has the kinds).
            NotFound: there is no such Sequence.
            Unavailable: the disk is full.
        """
        return self._keep(upload, sequence_id, app_config, replaces=True)

    def all(self) -> list[StoredSequence]:
        """Return every Sequence, the oldest first."""
        with self._lock:
            self._opened()
            return list(self._sequences.values())

    def get(self, sequence_id: str) -> StoredSequence:
        """Return a Sequence.

        Raises:
            NotFound: there is no such Sequence.
        """
        with self._lock:
            self._opened()
            if sequence_id not in self._sequences:
                raise NotFound(f"Sequence {sequence_id} not found")
            return self._sequences[sequence_id]

    def remove(self, sequence_id: str) -> None:
        """Forget a Sequence with the state of its Instances, and its package if nothing else uses it.

        Files that cannot be removed now are tried again when the store is next opened. Those of a Sequence that is used in
        place are not ours: they stay, and it is there again when the store is next opened.

        Raises:
            NotFound: there is no such Sequence.
        """
        with self._lock:
            database = self._opened()
            if sequence_id not in self._sequences:
                raise NotFound(f"The sequence {sequence_id} does not exist.")
            packages = "SELECT DISTINCT sha256 FROM versions WHERE sequence_id = ?"
            used = [sha256 for (sha256,) in database.execute(packages, (sequence_id,))]
            with database:
                database.execute("DELETE FROM sequences WHERE id = ?", (sequence_id,))  # and its versions
                database.execute("DELETE FROM state WHERE sequence_id = ?", (sequence_id,))
            del self._sequences[sequence_id]
            retired = [package for sha256 in used for package in self._retire(sha256)]
        for package in retired:
            _discard(package)

    def versions(self, sequence_id: str) -> list[StoredVersion]:
        """Return the versions of a Sequence that are kept, newest first; one that is used in place has none.

        Raises:
            NotFound: there is no such Sequence.
        """
        with self._lock:
            self._opened()
            if sequence_id not in self._sequences:
                raise NotFound(f"Sequence {sequence_id} not found")
            return self._versions(sequence_id)

    def rollback(self, sequence_id: str, number: int | None = None) -> tuple[StoredSequence, int]:
        """Give a Sequence the package and configuration of a version, by default of the one before its present one.

        They become one more version; return the Sequence and its number. What was the package is left to
        ``remove_unused``. If it fails, the Sequence is as before.

        Raises:
            NotFound: there is no such Sequence, or no such version.
            Conflict: the Sequence is so already, has no other version, or is used in place.
            InvalidManifest: the version is of another hub, and this one does not take its manifest.
            Unavailable: the disk is full.
        """
        with self._lock:
            database = self._opened()
            if sequence_id not in self._sequences:
                raise NotFound(f"Sequence {sequence_id} not found")
            present = self._sequences[sequence_id]
            wanted = _wanted(sequence_id, self._versions(sequence_id), number)
            if not self._package(wanted.sha256).is_dir():
                raise Conflict(f"The files of version {wanted.number} of Sequence {sequence_id} are gone.")
            if _is_so(present, wanted):
                raise Conflict(
                    f"Sequence {sequence_id} has the package and configuration of version {wanted.number} already."
                )
            stored = "SELECT manifest FROM packages WHERE sha256 = ?"
            raw_manifest = database.execute(stored, (wanted.sha256,)).fetchone()[0]
            sequence = replace(
                present,
                manifest=_parse(raw_manifest),
                directory=self._package(wanted.sha256),
                package_size=wanted.package_size,
                sha256=wanted.sha256,
                app_config=wanted.app_config,
                signer=wanted.signer,
            )
            return self._write(sequence, raw_manifest)

    def unused_packages(self) -> list[str]:
        """Return the hashes of packages that no Sequence, version, or Instance that is remembered uses."""
        with self._lock:
            return [sha256 for (sha256,) in self._opened().execute(f"SELECT sha256 {_UNUSED}")]

    def remove_unused(self, sha256: str) -> None:
        """Remove a package, unless a Sequence, a version of one, or an Instance that is remembered uses it."""
        with self._lock:
            retired = self._retire(sha256)
        for package in retired:
            _discard(package)

    def remember(
        self, instance_id: str, sequence: StoredSequence, payload: Mapping[str, Any], created: float
    ) -> None:
        """Note that an Instance is about to run; its package stays until it is forgotten.

        Raises:
            Unavailable: the disk is full.
        """
        row = (instance_id, sequence.id, sequence.sha256, json.dumps(payload), created)
        with self._lock, _unsynced(self._opened()) as database:
            database.execute("INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?, ?)", row)

    def forget(self, instance_id: str) -> None:
        """Note that an Instance has ended, and remove its package if nothing uses that any more."""
        with self._lock:
            with _unsynced(self._opened()) as database:
                removal = "DELETE FROM instances WHERE id = ? RETURNING sha256"
                row = database.execute(removal, (instance_id,)).fetchone()
            retired = [] if row is None else self._retire(row[0])
        for package in retired:
            _discard(package)

    def hold(self, sha256: str) -> bool:
        """Let a package stay until it is released, whoever forgets it; return whether it is there."""
        with self._lock:
            known = self._opened().execute("SELECT 1 FROM packages WHERE sha256 = ?", (sha256,))
            if sha256 and known.fetchone() is None:
                return False
            self._held[sha256] += 1
            return True

    def release(self, sha256: str) -> None:
        """Hold a package no more, and remove it if nothing uses it."""
        with self._lock:
            self._held -= Counter((sha256,))
            retired = self._retire(sha256)
        for package in retired:
            _discard(package)

    def state(self, instance_id: str, key: str | None = None) -> dict[str, bytes]:
        """Return what the Instances of an id have noted by key, in their order, or as much as there is of one key."""
        found = (
            "SELECT key, value FROM state WHERE instance_id = ?1 AND (?2 IS NULL OR key = ?2) ORDER BY key"
        )
        with self._lock:
            return dict(self._opened().execute(found, (instance_id, key)).fetchall())

    def set_state(self, instance_id: str, sequence_id: str, key: str, value: bytes, most: int) -> None:
        """Keep a value of a state, and with it all of that state for this Sequence; it outlives a power cut.

        Raises:
            PayloadTooLarge: all keys and values of the Instance would have more than ``most`` bytes.
            Gone: there is no such Sequence any more.
            Unavailable: the disk is full.
        """
        with self._lock:
            database = self._opened()
            if sequence_id not in self._sequences:
                raise Gone(f"Sequence {sequence_id} is deleted, and the state of its Instances with it")
            others = "SELECT sum(length(CAST(key AS BLOB)) + length(value)) FROM state WHERE instance_id = ? AND key <> ?"
            size = database.execute(others, (instance_id, key)).fetchone()[0] or 0
            size += len(key.encode()) + len(value)
            if size > most:
                raise PayloadTooLarge(
                    f"with {key[:80]!r} the state of Instance {instance_id} would have {size} bytes; it may have {most}: "
                    "delete keys that are not needed"
                )
            with _full_database_is_unavailable(), database:
                database.execute(
                    "INSERT OR REPLACE INTO state (instance_id, key, sequence_id, value) VALUES (?, ?, ?, ?)",
                    (instance_id, key, sequence_id, value),
                )
                database.execute(
                    "UPDATE state SET sequence_id = ? WHERE instance_id = ? AND sequence_id <> ?",
                    (sequence_id, instance_id, sequence_id),
                )

    def delete_state(self, instance_id: str, key: str | None) -> int:
        """Forget a key of a state, or with None all of it; return how many keys that were."""
        with self._lock, self._opened() as database:
            return database.execute(
                "DELETE FROM state WHERE instance_id = ?1 AND (?2 IS NULL OR key = ?2)", (instance_id, key)
            ).rowcount

    def left_over(self) -> list[LeftOver]:
        """Return what was remembered and never forgotten, oldest first.

        The Sequence of each is what it was when the Instance was started; of one that is gone, only the id is known.
        """
        with self._lock:
            rows = self._opened().execute(
                "SELECT id, sequence_id, sha256, payload, instances.created, size, manifest, signer"
                " FROM instances LEFT JOIN packages USING (sha256) ORDER BY instances.created"
            )
            return [
                LeftOver(
                    instance_id,
                    self._sequence_of(sequence_id, sha256, size, raw_manifest, signer),
                    json.loads(payload),
                    created,
                )
                for instance_id, sequence_id, sha256, payload, created, size, raw_manifest, signer in rows
            ]

    def _sequence_of(
        self, sequence_id: str, sha256: str, size: int | None, raw_manifest: bytes | None, signer: str | None
    ) -> StoredSequence:
        present = self._sequences.get(sequence_id)
        if present is not None and present.sha256 == sha256:
            return present
        created = 0.0 if present is None else present.created
        unknown = StoredSequence(sequence_id, Manifest(main=""), self._root, 0, sha256, created)
        if raw_manifest is None or size is None:
            return unknown
        try:
            manifest = parse_manifest(raw_manifest)
        except ManifestError:  # of another version of the hub
            return unknown
        return StoredSequence(
            sequence_id, manifest, self._package(sha256), size, sha256, created, signer=signer
        )

    def _keep(
        self, upload: Upload, sequence_id: str, app_config: Mapping[str, Any] | None, *, replaces: bool
    ) -> StoredSequence:
        staged = upload.staged
        unused: list[Path] = [staged]
        try:
            upload.end()
            with self._lock:
                manifest = self._known_manifest(upload, sequence_id, replaces=replaces)
                if manifest is not None and self._signer_of is None:
                    return self._record(upload, sequence_id, manifest, app_config)
            # The lock is free while unpacking, which may take long: so everything is looked at once more afterwards.
            extracted = upload.unpack()
            if extracted.left_out:
                logger.warning(
                    "Sequence %s: %d link(s) of its package are left out, as it does not hold the files they name: %s",
                    sequence_id,
                    len(extracted.left_out),
                    ", ".join(extracted.left_out[:_SHOWN_LINKS]),
                )
            manifest = (staged / MANIFEST_NAME).read_bytes()
            # Also of a package that is here already: it may be from a time when nobody looked at signatures.
            signer = None if self._signer_of is None else self._signer_of(staged)
            with self._lock:
                if self._known_manifest(upload, sequence_id, replaces=replaces) is None:
                    unused += self._retire(upload.sha256)  # a folder that no row speaks of
                    staged.rename(self._package(upload.sha256))
                return self._record(upload, sequence_id, manifest, app_config, signer)
        finally:
            for folder in unused:
                _discard(folder)

    def _known_manifest(self, upload: Upload, sequence_id: str, *, replaces: bool) -> bytes | None:
        """Return the manifest of the package if it is here already, after a look at whether the id may be used."""
        if replaces and sequence_id not in self._sequences:
            self._opened()
            raise NotFound(f"Sequence with id: {sequence_id} not found")
        if not replaces and sequence_id in self._sequences:
            raise Conflict(f"Sequence with id {sequence_id} already exist")
        known = "SELECT manifest FROM packages WHERE sha256 = ?"
        row = self._opened().execute(known, (upload.sha256,)).fetchone()
        return row[0] if row is not None and self._package(upload.sha256).is_dir() else None

    def _record(
        self,
        upload: Upload,
        sequence_id: str,
        raw_manifest: bytes,
        app_config: Mapping[str, Any] | None,
        signer: str | None = None,
    ) -> StoredSequence:
        """Write the rows of a Sequence whose package is in its place."""
        replaced = self._sequences.get(sequence_id)
        sequence = StoredSequence(
            id=sequence_id,
            manifest=_parse(raw_manifest),
            directory=self._package(upload.sha256),
            package_size=upload.size,
            sha256=upload.sha256,
            created=time.time() if replaced is None else replaced.created,
            app_config=(replaced.app_config if replaced else {}) if app_config is None else app_config,
            signer=signer,
        )
        return self._write(sequence, raw_manifest)[0]

    def _write(self, sequence: StoredSequence, raw_manifest: bytes) -> tuple[StoredSequence, int]:
        """Make a Sequence what is said, all at once; return it, and the number of its version.

        That is a new one, unless the Sequence has this package and configuration already.
        """
        database = self._opened()
        config = json.dumps(sequence.app_config)
        with _full_database_is_unavailable(), database:
            ((signer,),) = database.execute(
                "INSERT INTO packages (sha256, size, manifest, signer) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (sha256) DO UPDATE SET signer = coalesce(excluded.signer, signer) RETURNING signer",
                (sequence.sha256, sequence.package_size, raw_manifest, sequence.signer),
            ).fetchall()
            database.execute(
                "INSERT INTO sequences (id, sha256, created, app_config) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET sha256 = excluded.sha256, app_config = excluded.app_config",
                (sequence.id, sequence.sha256, sequence.created, config),
            )
            if not _is_so(self._sequences.get(sequence.id), sequence):
                database.execute(
                    "INSERT INTO versions SELECT ?1, 1 + coalesce(max(number), 0), ?2, ?3, ?4 FROM versions"
                    " WHERE sequence_id = ?1",
                    (sequence.id, sequence.sha256, time.time(), config),
                )
                database.execute(_FORGET_OLD, (sequence.id, self._kept_versions))
            newest = "SELECT max(number) FROM versions WHERE sequence_id = ?"
            ((number,),) = database.execute(newest, (sequence.id,)).fetchall()
        written = self._sequences[sequence.id] = replace(sequence, signer=signer)
        return written, number

    def _versions(self, sequence_id: str) -> list[StoredVersion]:
        rows = self._opened().execute(
            "SELECT number, sha256, size, created, manifest, app_config, signer"
            " FROM versions JOIN packages USING (sha256) WHERE sequence_id = ? ORDER BY number DESC",
            (sequence_id,),
        )
        found = []
        for number, sha256, size, created, raw_manifest, app_config, signer in rows:
            try:
                manifest = parse_manifest(raw_manifest)
            except ManifestError:  # of another version of the hub
                manifest = Manifest(main="")
            config = json.loads(app_config)
            found.append(StoredVersion(number, sha256, size, created, manifest, config, signer))
        return found

    def _retire(self, sha256: str) -> list[Path]:
        """Move a package that nothing uses out of the way; return where to, if there was one.

        Moving is quick, so that the lock is not held for the removal of a thousand files.
        """
        database = self._opened()
        if not sha256 or self._held[sha256] > 0:
            return []  # a Sequence that is used in place has no package
        package = self._package(sha256)
        with database:
            database.execute(f"{_FORGET_UNUSED} AND sha256 = ?", (sha256,))
        used = database.execute("SELECT 1 FROM packages WHERE sha256 = ?", (sha256,)).fetchone()
        if used is not None or not package.exists():
            return []
        retired = self._root / "staging" / uuid.uuid4().hex
        try:
            # To move a folder one must be allowed to write into it, and a Sequence may have undone that.
            package.chmod(0o700)
            package.rename(retired)
        except OSError as error:
            logger.warning(
                "%s cannot be removed now; it is tried again when the hub starts: %s", package, error
            )
            return []
        return [retired]

    def _package(self, sha256: str) -> Path:
        return self._root / "packages" / sha256

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            raise Unavailable(
                "The store of Sequences is closed: the hub is starting or shutting down. Try again later."
            )
        return self._database


@contextmanager
def _lock_folder(root: Path) -> Iterator[None]:
    descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            # The system frees it however the process ends. The file stays: removing it would let two hubs lock two files.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 20, 0).strip()
            raise DataFolderInUse(root, int(pid) if pid.isdigit() else None) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _open_database(root: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(root / "sequences.sqlite3", check_same_thread=False)
    try:
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found > _SCHEMA_VERSION:
            raise DataFolderTooNew(root, found, _SCHEMA_VERSION)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # an id that a client was given outlives a power cut
        database.execute("PRAGMA foreign_keys = ON")
        for step in _SCHEMA[found:]:
            database.executescript(step)
        yield database
    finally:
        database.close()


def _parse(raw_manifest: bytes) -> Manifest:
    """Return the manifest of a package that is unpacked; another version of the hub may have done that.

    Raises:
        InvalidManifest: this one does not take it.
    """
    try:
        return parse_manifest(raw_manifest)
    except ManifestError as error:
        raise InvalidManifest(str(error)) from error


def _is_so(present: StoredSequence | None, wanted: StoredSequence | StoredVersion) -> bool:
    """Tell whether a Sequence has a package and a configuration already."""
    if present is None:
        return False
    return (present.sha256, present.app_config) == (wanted.sha256, wanted.app_config)


def _wanted(sequence_id: str, versions: list[StoredVersion], number: int | None) -> StoredVersion:
    """Return the version of a number, or the one before the present one; ``versions`` has the newest first.

    Raises:
        NotFound: there is none of that number.
        Conflict: it is the present one, there is none before it, or none at all.
    """
    if not versions:
        raise Conflict(
            f"Sequence {sequence_id} is used in place, in the folder where its owner has put it, and has no versions."
        )
    present, *older = versions
    if number is None:
        if not older:
            raise Conflict(
                f"Sequence {sequence_id} has no version before the present one, which is {present.number}."
            )
        return older[0]
    if number == present.number:
        raise Conflict(f"Sequence {sequence_id} is at version {number} already.")
    for one in older:
        if one.number == number:
            return one
    kept = ", ".join(str(one.number) for one in reversed(versions))
    raise NotFound(f"Sequence {sequence_id} has no version {number}; it has {kept}.")


def _load_sequences(
    database: sqlite3.Connection, packages: Path, kept_versions: int
) -> dict[str, StoredSequence]:
    """Return the Sequences by id, the oldest first; those whose package is gone are forgotten, and so are such versions."""
    sequences: dict[str, StoredSequence] = {}
    vanished: list[tuple[str]] = []
    for sequence_id, sha256, created, app_config, size, raw_manifest, signer in database.execute(
        "SELECT id, sha256, created, app_config, size, manifest, signer"
        " FROM sequences JOIN packages USING (sha256) ORDER BY position"
    ):
        directory = packages / sha256
        if not directory.is_dir():
            logger.warning("Sequence %s is dropped: its package %s is gone", sequence_id, directory)
            vanished.append((sequence_id,))
            continue
        try:
            manifest = parse_manifest(raw_manifest)
        except ManifestError as error:
            # Another version of the hub took it, and may again: it is not ours to throw away.
            logger.warning(
                "Sequence %s is left aside, this hub does not take its manifest: %s", sequence_id, error
            )
            continue
        sequences[sequence_id] = StoredSequence(
            sequence_id, manifest, directory, size, sha256, created, json.loads(app_config), signer
        )
    known = database.execute("SELECT DISTINCT sha256 FROM versions").fetchall()
    gone = [row for row in known if not (packages / row[0]).is_dir()]
    with database:
        database.executemany("DELETE FROM sequences WHERE id = ?", vanished)
        database.executemany("DELETE FROM state WHERE sequence_id = ?", vanished)
        database.executemany("DELETE FROM versions WHERE sha256 = ?", gone)
        database.execute(_FORGET_OLD, (None, kept_versions))
        database.execute(_FORGET_UNUSED)
    return sequences


def _identify(folder: Path | None) -> dict[str, StoredSequence]:
    """Return the Sequences that lie ready in a folder, by the names of their folders; what is none is named in the log.

    Raises:
        NoExistingFolder: the folder cannot be read.
    """
    sequences: dict[str, StoredSequence] = {}
    if folder is None:
        return sequences
    try:
        directories = sorted(one for one in folder.iterdir() if one.is_dir())
    except OSError as error:
        raise NoExistingFolder(folder, error.strerror or str(error)) from None
    for directory in directories:
        path = directory / MANIFEST_NAME
        try:
            if not path.is_file():
                raise FileNotFoundError(f"there is no {MANIFEST_NAME} in it")
            with path.open("rb") as file:
                manifest = parse_manifest(file.read(MAX_MANIFEST_BYTES + 1))
            directory.name.encode()  # an id is shown in JSON
            created = path.stat().st_mtime
        except (OSError, ManifestError, UnicodeEncodeError) as error:
            logger.warning("%r is no Sequence: %s", str(directory), error)
            continue
        sequences[directory.name] = StoredSequence(directory.name, manifest, directory, 0, "", created)
    logger.info("%d Sequence(s) are in %s", len(sequences), folder)
    return sequences


@contextmanager
def _unsynced(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Write what must outlive the hub, but not a power cut: a start and an end do not wait for the disk."""
    database.execute("PRAGMA synchronous = NORMAL")
    try:
        with _full_database_is_unavailable(), database:
            yield database
    finally:
        database.execute("PRAGMA synchronous = FULL")


@contextmanager
def _full_database_is_unavailable() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise Unavailable(DISK_FULL) from error


def _discard(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s cannot be removed now; it is tried again when the hub starts: %s", path, error)
