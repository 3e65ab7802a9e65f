"""What the hub needs from the outside, as seams: adapters fill them, only app.py names those."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from runner.protocol.channels import Channel
from sequence_sdk.manifest import Manifest


@dataclass(frozen=True, slots=True)
class StoredSequence:
    """A Sequence as the store keeps it. ``created`` is seconds since the epoch; ``package_size`` is bytes as received.

    One that is used in place, where its owner has put it, has neither a package nor its hash: 0 and "".
    """

    id: str
    manifest: Manifest
    directory: Path
    package_size: int
    sha256: str
    created: float
    app_config: Mapping[str, Any] = field(
        default_factory=dict
    )  # of every start, unless the start says otherwise
    signer: str | None = None  # who signed the package; None if nobody did, or nobody looked


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """What a Sequence was from ``created`` on, in seconds since the epoch, until it got the next version.

    Versions are numbered from 1; the highest is the one it has now. A manifest that this hub does not take is an empty one.
    """

    number: int
    sha256: str
    package_size: int  # bytes as received
    created: float
    manifest: Manifest
    app_config: Mapping[str, Any]
    signer: str | None = None


@dataclass(frozen=True, slots=True)
class LeftOver:
    """An Instance that ran when its hub ended without stopping it; ``payload`` is what its start asked for."""

    id: str
    sequence: StoredSequence
    payload: Mapping[str, Any]
    created: float


class Upload(Protocol):
    """A package on its way in, checked meanwhile; leaving the ``with`` block removes what was not added."""

    def write(self, chunk: bytes) -> None:
        """Take bytes; ``drain`` is to follow.

        Raises:
            PayloadTooLarge: there are more than a package may have.
            PackageError: those before are no package that can be used.
        """

    async def drain(self) -> None:
        """Wait until there is room for more.

        Raises:
            PackageError: what was written is no package that can be used.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class InstanceRecords(Protocol):
    """Knows after a crash of the hub which Instances ran. Its methods block; call them in a thread.

    The package of an Instance that is remembered stays, whatever becomes of its Sequence.
    """

    def remember(
        self, instance_id: str, sequence: StoredSequence, payload: Mapping[str, Any], created: float
    ) -> None:
        """Note that an Instance is about to run.

        Raises:
            Unavailable: the disk is full.
        """

    def forget(self, instance_id: str) -> None:
        """Note that an Instance has ended, and remove its package if nothing uses that any more."""

    def hold(self, sha256: str) -> bool:
        """Let a package stay until it is released, whoever forgets it; return whether it is there.

        Held several times, it is released as often.
        """

    def release(self, sha256: str) -> None:
        """Hold a package no more, and remove it if nothing uses it."""

    def left_over(self) -> list[LeftOver]:
        """Return what was remembered and never forgotten, oldest first."""


class StateRecords(Protocol):
    """Keeps what Instances note in their state: JSON texts by key. Its methods block; call them in a thread.

    The state is that of an Instance's id: a later Instance of the same id finds it, also after a restart of the hub. It
    goes with the Sequence whose Instance wrote last.
    """

    def state(self, instance_id: str, key: str | None = None) -> dict[str, bytes]:
        """Return all of it by key, in their order, or as much as there is of one key."""

    def set_state(self, instance_id: str, sequence_id: str, key: str, value: bytes, most: int) -> None:
        """Keep a value; when this returns it is on the disk.

        Raises:
            PayloadTooLarge: all keys and values of the Instance would have more than ``most`` bytes.
            Gone: there is no such Sequence any more.
            Unavailable: the disk is full.
        """

    def delete_state(self, instance_id: str, key: str | None) -> int:
        """Forget a key, or with None all of them; return how many."""


class SequenceStore(InstanceRecords, StateRecords, Protocol):
    """Keeps Sequences across restarts, and versions of them. Its methods block; call them in a thread.

    The packages of the newest versions of a Sequence stay, so that it can go back to them.
    """

    def open(self) -> None:
        """Begin; nobody else may have the same store open."""

    def close(self) -> None:
        """End; safe to call twice."""

    def receive(self) -> Upload:
        """Return a place for a package on its way in."""

    def add(
        self, upload: Any, sequence_id: str, app_config: Mapping[str, Any] | None = None
    ) -> StoredSequence:
        """Unpack an upload and keep it under an id.

        Raises:
            PackageError: the package cannot be used.
        """

    def replace(
        self, upload: Any, sequence_id: str, app_config: Mapping[str, Any] | None = None
    ) -> StoredSequence:
        """Unpack an upload and keep it in the place of a Sequence's package; without ``app_config`` that stays as it was.

        The old package stays too: somebody may be about to run it. ``remove_unused`` is for when nobody is.

        Raises:
            PackageError: the package cannot be used; the Sequence is as before.
            NotFound: there is no such Sequence.
        """

    def versions(self, sequence_id: str) -> list[StoredVersion]:
        """Return the versions of a Sequence that are kept, newest first; one that is used in place has none.

        Raises:
            NotFound: there is no such Sequence.
        """

    def rollback(self, sequence_id: str, number: int | None = None) -> tuple[StoredSequence, int]:
        """Give a Sequence the package and configuration of a version, by default of the one before its present one.

        They become one more version; return the Sequence and its number. What was the package stays, as for ``replace``.

        Raises:
            NotFound: there is no such Sequence, or no such version.
            Conflict: the Sequence is so already, has no other version, or is used in place.
        """

    def unused_packages(self) -> list[str]:
        """Return the hashes of packages that ``remove_unused`` would remove."""

    def remove_unused(self, sha256: str) -> None:
        """Remove a package, unless a Sequence, a version of one, or an Instance that is remembered uses it."""

    def all(self) -> list[StoredSequence]:
        """Return all Sequences, oldest first."""

    def remove(self, sequence_id: str) -> None:
        """Forget a Sequence and its files."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What a runner is started with."""

    instance_id: str
    sequence: StoredSequence
    environment: Mapping[str, str]  # the variables of docs/protocol.md, "Starting a runner"


class RunnerProcess(Protocol):
    """One process that runs one Sequence."""

    @property
    def pid(self) -> int:
        """The id of the process."""

    async def wait(self) -> int:
        """Wait for the end and return its code, ``-n`` for a death by signal n. May be called several times."""

    def take_links(self) -> dict[Channel, socket.socket]:
        """Return the open links that it was started with, if any, and leave them to the caller; a second time none."""

    def kill(self) -> None:
        """End it and all it has started, without consent; safe to call after the end."""

    def crash_log(self) -> bytes:
        """Return the last bytes it wrote before its links were there."""

    def close(self) -> None:
        """Give back what is held for it; safe to call twice."""


class RuntimeAdapter(Protocol):
    """Starts runners."""

    @property
    def name(self) -> str:
        """The ``type`` in a Sequence's config."""

    async def launch(self, launch: Launch) -> RunnerProcess:
        """Start a runner.

        Raises:
            BadRequest: no runner here can run this Sequence.
            Unavailable: the machine does not start another process.
        """
