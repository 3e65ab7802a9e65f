"""What Sequences could not work on: the items they put aside, each with its error, in a file an Instance.

<data directory>/quarantine/<instance id>.<some digits>.ndjson   a record a line; it goes with its Instance
"""

import os
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, Self

import orjson

from runner.protocol.hello import ID_LENGTH

from .errors import BadRequest, HubError
from .packages import full_disk_is_unavailable

_ENDING = ".ndjson"
_SPOOL_BYTES = 1024 * 1024  # of a body that are held in memory; the rest waits on the disk
_BLOCK = 256 * 1024


class QuarantineFull(HubError):
    """There is no room for all of the records of a request; ``most`` is the bytes that a quarantine may have."""

    status = 507
    reason = "Insufficient Storage"

    def __init__(self, instance_id: str, most: int) -> None:
        super().__init__(instance_id, most)
        self.instance_id = instance_id
        self.most = most

    def __str__(self) -> str:
        return (
            f"the quarantine of Instance {self.instance_id} has no room for these records: it may have {self.most} bytes "
            "(setting quarantine.maxBytes); nothing of this request is kept"
        )


class Quarantine:
    """The records of one Instance, all or none of each request. Methods that block say so; any thread may call them."""

    def __init__(self, path: Path, instance_id: str, max_bytes: int) -> None:
        self.count = 0  # records
        self.size = 0  # bytes that are whole records
        self._path = path
        self._id = instance_id
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._gone = False

    def intake(self) -> "Intake":
        """Return a place for the records of one request; to be used in a ``with`` block."""
        return Intake(self, self._path.parent)

    def open(self) -> tuple[BinaryIO, int]:
        """Return the file and how many bytes of it are there to be read: what comes later is not among them. Blocks."""
        with self._lock:
            if not self.size:
                return open(os.devnull, "rb"), 0  # noqa: PTH123 - a name, not a path of ours
            return self._path.open("rb"), self.size

    def require_room(self, size: int) -> None:
        """Refuse what is too much.

        Raises:
            QuarantineFull: so many bytes more are.
        """
        if self.size + size > self._max_bytes:
            raise QuarantineFull(self._id, self._max_bytes)

    def append(self, records: IO[bytes], size: int, count: int) -> None:
        """Keep whole records. Blocks.

        Raises:
            QuarantineFull: others have taken the room meanwhile.
            Unavailable: the disk is full.
        """
        with self._lock, full_disk_is_unavailable():
            self.require_room(size)
            if self._gone or not count:
                return
            self._path.parent.mkdir(0o700, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                try:
                    while block := records.read(_BLOCK):
                        rest = memoryview(block)
                        while rest:
                            rest = rest[file.write(rest) :]
                except BaseException:
                    file.truncate(self.size)
                    raise
            self.size += size
            self.count += count

    def recover(self) -> None:
        """Take what an earlier hub has left, up to its last whole record. Blocks."""
        with self._lock, self._path.open("rb+") as file:
            at = 0
            while block := file.read(_BLOCK):
                self.count += block.count(b"\n")
                self.size = at + end if (end := block.rfind(b"\n") + 1) else self.size
                at += len(block)
            file.truncate(self.size)

    def remove(self) -> None:
        """Forget all records; nothing is kept from now on. Blocks. Safe to call twice."""
        with self._lock:
            self._gone = True
            self.size = self.count = 0
            self._path.unlink(missing_ok=True)


class Intake:
    """Records on their way into a quarantine: fed as bytes cut anywhere, checked line by line, kept all or none."""

    def __init__(self, quarantine: Quarantine, folder: Path) -> None:
        self._quarantine = quarantine
        self._folder = folder
        self._tail = bytearray()
        self._line = 0  # the number of the last one seen
        self._size = 0
        self._count = 0
        self._spool: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(0o700, exist_ok=True)
        self._spool = tempfile.SpooledTemporaryFile(_SPOOL_BYTES, dir=str(self._folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._spool is not None:
            self._spool.close()

    def feed(self, chunk: bytes) -> None:
        """Take bytes.

        Raises:
            BadRequest: a line is no record.
            QuarantineFull: it is too much.
            Unavailable: the disk is full.
        """
        *lines, tail = chunk.split(b"\n")
        for line in lines:
            self._tail += line
            self._take()
        self._tail += tail
        self._quarantine.require_room(self._size + len(self._tail))

    def end(self) -> int:
        """Keep what was fed, and return how many records that is. Blocks.

        Raises:
            BadRequest, QuarantineFull, Unavailable: as ``feed``; nothing is kept.
        """
        self._take()
        spool = self._opened()
        spool.seek(0)
        self._quarantine.append(spool, self._size, self._count)
        return self._count

    def _take(self) -> None:
        record = self._tail.strip()
        self._tail.clear()
        self._line += 1
        if not record:
            return
        _check(record, self._line)
        self._size += len(record) + 1
        self._count += 1
        self._quarantine.require_room(self._size)
        with full_disk_is_unavailable():
            self._opened().write(record + b"\n")

    def _opened(self) -> IO[bytes]:
        if self._spool is None:
            raise RuntimeError("an intake is fed inside its with block")
        return self._spool


def _check(line: bytearray, number: int) -> None:
    """Refuse what is no record.

    Raises:
        BadRequest: it is not an object with an error.
    """
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"line {number} is not JSON: {error}") from None
    if not isinstance(record, dict):
        shown = line[:60].decode("utf-8", "replace")
        raise BadRequest(
            f'line {number} must be an object such as {{"item": …, "error": "…"}}, not {shown!r}'
        )
    if not isinstance(record.get("error"), str):
        raise BadRequest(f'line {number} has no "error", a string that says what is wrong with the item')


class Quarantines:
    """The quarantines of a hub by Instance."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._kept: dict[str, Quarantine] = {}

    def of(self, instance_id: str) -> Quarantine:
        """Return the quarantine of an Instance that the hub shows."""
        if instance_id not in self._kept:
            # Digits of its own, so that a new Instance of this id need not wait until the old one's file is removed.
            self._keep(instance_id, self._folder / f"{instance_id}.{uuid.uuid4().hex[:8]}{_ENDING}")
        return self._kept[instance_id]

    def _keep(self, instance_id: str, path: Path) -> None:
        self._kept[instance_id] = Quarantine(path, instance_id, self._max_bytes)

    def count(self, instance_id: str) -> int:
        """Return how many records there are of an Instance."""
        kept = self._kept.get(instance_id)
        return 0 if kept is None else kept.count

    def take_out(self, instance_id: str) -> Quarantine | None:
        """Forget an Instance, and return what is to be removed of it."""
        return self._kept.pop(instance_id, None)

    def recover(self, instance_ids: Iterable[str]) -> None:
        """Take what an earlier hub has left of these Instances, and remove all else. Blocks."""
        known = set(instance_ids)
        with _if_there():
            for path in sorted(self._folder.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True):
                instance_id = path.name[:ID_LENGTH]
                if path.suffix == _ENDING and instance_id in known:
                    known.discard(instance_id)  # an older file is of an earlier Instance of that id
                    self._keep(instance_id, path)
                    self._kept[instance_id].recover()
                else:
                    path.unlink()


@contextmanager
def _if_there() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        return
