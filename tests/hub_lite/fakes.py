"""What stands in for processes, stores and runners in the tests of the hub: written, kept, and driven by the test."""

import asyncio
import contextlib
import dataclasses
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hub_lite.errors import Conflict, Gone, NotFound, PackageError, PayloadTooLarge
from hub_lite.ports import Launch, LeftOver, StoredSequence, StoredVersion
from runner.protocol.channels import Channel
from sequence_sdk.manifest import Manifest

DEADLINE = 10.0  # seconds until a test that waits for something gives up
REQUIRED = tuple(range(8))
NINE = tuple(range(9))
STDIN, STDOUT, STDERR, CONTROL, MONITORING, IN, OUT, LOG, PACKAGE = range(9)


async def until(condition: Callable[[], Any], what: str = "what the test waits for") -> None:
    """Return as soon as the condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.002)
    assert condition(), what


def stored_sequence(sequence_id: str = "s" * 36, *, main: str = "main.py", **engines: str) -> StoredSequence:
    """Return a Sequence as a store has it."""
    manifest = Manifest(main=main, name="fake", engines=engines or {"python3": ">=3.11"})
    return StoredSequence(sequence_id, manifest, Path("/nowhere"), 123, "0" * 64, 0.0)


class FakeProcess:
    """A process that ends when the test says so, or when it is killed."""

    pid = 4711

    def __init__(self, *, dies_when_killed: bool = True) -> None:
        self.kills = 0
        self.said = b""
        self.closed = False
        self.links: dict[Channel, socket.socket] = {}  # those that it is started with
        self._dies_when_killed = dies_when_killed
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def ended(self) -> bool:
        return self._ended.done()

    def end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def take_links(self) -> dict[Channel, socket.socket]:
        links, self.links = self.links, {}
        return links

    def kill(self) -> None:
        self.kills += 1
        if self._dies_when_killed:
            self.end(-9)

    def crash_log(self) -> bytes:
        return self.said

    def close(self) -> None:
        self.closed = True


class FakeAdapter:
    """Makes fake processes; ``on_launch`` may play a runner for each of them."""

    name = "fake"

    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self.processes: list[FakeProcess] = []
        self.refusal: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.on_launch: Callable[[Launch, FakeProcess], Awaitable[None]] | None = None
        self.links: Callable[[], dict[Channel, socket.socket]] = dict
        self.roles: list[asyncio.Task[None]] = []

    async def launch(self, launch: Launch) -> FakeProcess:
        self.launches.append(launch)
        if self.gate is not None:
            await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        process = FakeProcess()
        process.links = self.links()
        self.processes.append(process)
        if self.on_launch is not None:
            self.roles.append(asyncio.ensure_future(self.on_launch(launch, process)))
        return process


class FakeUpload:
    """Bytes of a package in memory."""

    def __init__(self) -> None:
        self.content = b""
        self.left = False

    def write(self, chunk: bytes) -> None:
        self.content += chunk

    async def drain(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.left = True


class FakeStore:
    """Keeps Sequences in memory; ``b"bad"`` is no package."""

    def __init__(self, *sequences: StoredSequence) -> None:
        self.sequences = {one.id: one for one in sequences}
        self.history = {one.id: [one] for one in sequences}  # what each was, oldest first
        self.needless: list[str] = []  # packages that nothing uses
        self.is_open = False
        self.uploads: list[FakeUpload] = []
        self.removal_error: Exception | None = None
        self.running: dict[str, LeftOver] = {}
        self.lost: list[LeftOver] = []
        self.replaced = threading.Event()
        self.may_answer = threading.Event()  # to a replacement that is done
        self.may_answer.set()
        self.unused: list[str] = []  # packages that were said to be in use no more
        self.held: list[str] = []
        self.cannot_hold = 0  # times
        self.cannot_remember: Exception | None = None
        self.states: dict[str, dict[str, bytes]] = {}

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def receive(self) -> FakeUpload:
        self.uploads.append(FakeUpload())
        return self.uploads[-1]

    def add(
        self, upload: FakeUpload, sequence_id: str, app_config: Mapping[str, Any] | None = None
    ) -> StoredSequence:
        """Keep a package as the Sequence named by what was uploaded."""
        if upload.content == b"bad":
            raise PackageError("this is no package")
        made = stored_sequence(sequence_id)
        name = upload.content.decode()
        manifest = dataclasses.replace(made.manifest, name="fake" if name == "good" else name)
        self.sequences[sequence_id] = dataclasses.replace(
            made, manifest=manifest, sha256=name, app_config=app_config or {}
        )
        self.history.setdefault(sequence_id, []).append(self.sequences[sequence_id])
        return self.sequences[sequence_id]

    def versions(self, sequence_id: str) -> list[StoredVersion]:
        return [
            StoredVersion(
                number, one.sha256, one.package_size, one.created, one.manifest, one.app_config, one.signer
            )
            for number, one in reversed([*enumerate(self.history[sequence_id], 1)])
        ]

    def rollback(self, sequence_id: str, number: int | None = None) -> tuple[StoredSequence, int]:
        past = self.history[sequence_id]
        wanted = len(past) - 1 if number is None else number
        if wanted > len(past):
            raise NotFound(f"no version {wanted}")
        if wanted in (0, len(past)):
            raise Conflict(f"not to {wanted}")
        past.append(past[wanted - 1])
        self.sequences[sequence_id] = past[-1]
        self.replaced.set()
        assert self.may_answer.wait(DEADLINE)
        return past[-1], len(past)

    def unused_packages(self) -> list[str]:
        return self.needless

    def replace(
        self, upload: FakeUpload, sequence_id: str, app_config: Mapping[str, Any] | None = None
    ) -> StoredSequence:
        if sequence_id not in self.sequences:
            raise NotFound(sequence_id)
        kept = self.sequences[sequence_id].app_config
        new = self.add(upload, sequence_id, kept if app_config is None else app_config)
        self.replaced.set()
        assert self.may_answer.wait(DEADLINE)
        return new

    def remove_unused(self, sha256: str) -> None:
        self.unused.append(sha256)

    def remember(
        self, instance_id: str, sequence: StoredSequence, payload: Mapping[str, Any], created: float
    ) -> None:
        if self.cannot_remember is not None:
            raise self.cannot_remember
        self.running[instance_id] = LeftOver(instance_id, sequence, payload, created)

    def forget(self, instance_id: str) -> None:
        self.running.pop(instance_id, None)

    def left_over(self) -> list[LeftOver]:
        return self.lost

    def hold(self, sha256: str) -> bool:
        if self.cannot_hold:
            self.cannot_hold -= 1
            return False
        self.held.append(sha256)
        return True

    def release(self, sha256: str) -> None:
        self.held.remove(sha256)

    def state(self, instance_id: str, key: str | None = None) -> dict[str, bytes]:
        kept = self.states.get(instance_id, {})
        return {name: kept[name] for name in sorted(kept) if key in (None, name)}

    def set_state(self, instance_id: str, sequence_id: str, key: str, value: bytes, most: int) -> None:
        if sequence_id not in self.sequences:
            raise Gone(f"Sequence {sequence_id} is deleted")
        kept = {**self.states.get(instance_id, {}), key: value}
        if sum(len(name.encode()) + len(one) for name, one in kept.items()) > most:
            raise PayloadTooLarge(f"it may have {most}")
        self.states[instance_id] = kept

    def delete_state(self, instance_id: str, key: str | None) -> int:
        gone = self.state(instance_id, key)
        for name in gone:
            del self.states[instance_id][name]
        return len(gone)

    def all(self) -> list[StoredSequence]:
        return list(self.sequences.values())

    def remove(self, sequence_id: str) -> None:
        if self.removal_error is not None:
            raise self.removal_error
        if sequence_id not in self.sequences:
            raise NotFound(sequence_id)
        del self.sequences[sequence_id]


class FakeLink:
    """The runner's end of one link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def line(self) -> bytes:
        """Return the next line with its end."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readline()

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """Return what there is to the end."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(DEADLINE):
            await self.writer.drain()

    def end(self) -> None:
        self.writer.write_eof()

    async def is_refused(self) -> bool:
        """Wait for the hub to close the link, without a byte."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


async def connect(where: Path | int) -> FakeLink:
    """Open a link to a socket path, or to a port of this machine."""
    if isinstance(where, int):
        return FakeLink(*await asyncio.open_connection("127.0.0.1", where))
    return FakeLink(*await asyncio.open_unix_connection(str(where)))


class FakeRunner:
    """A runner of any dialect: it says what the test lets it say, in bytes written by hand."""

    def __init__(self, instance_id: str, where: Path | int) -> None:
        self.id = instance_id
        self.where = where
        self.links: dict[int, FakeLink] = {}

    async def connect(self, channels: Iterable[int] = NINE) -> Self:
        """Open links, one after the other."""
        for channel in channels:
            link = await connect(self.where)
            await link.send(f"{self.id}{channel}".encode())
            self.links[channel] = link
        return self

    async def say(self, code: int, payload: Any) -> None:
        """Send a monitoring message."""
        await self.links[MONITORING].send(f"{json.dumps([code, payload])}\r\n".encode())

    async def ping(self, **members: Any) -> None:
        """Send a PING: full if there are members, else the empty one."""
        await self.say(3000, {"id": self.id, "payload": {}, **members} if members else {})

    async def hear(self) -> Any:
        """Return the next control message."""
        return json.loads(await self.links[CONTROL].line())

    async def start(
        self, channels: Iterable[int] = NINE, *, ping: dict[str, Any] | None = None, **pang: Any
    ) -> Self:
        """Connect, and say what a Sequence says that has been loaded."""
        await self.connect(channels)
        await self.ping(**(ping or {}))
        assert (await self.hear())[0] == 4000
        await self.say(3012, {"requires": "", "contentType": "", **pang})
        return self

    def end(self, *channels: int) -> None:
        """Half-close links."""
        for channel in channels:
            self.links[channel].end()

    async def close(self) -> None:
        for link in self.links.values():
            await link.close()


def launched_where(environment: Mapping[str, str]) -> Path:
    """Return where a launched runner finds its hub."""
    return Path(environment["INSTANCES_SERVER_SOCKET"])


async def lines_of(chunks: AsyncIterator[bytes]) -> list[bytes]:
    """Return the lines of a stream, read to its end."""
    return b"".join([chunk async for chunk in chunks]).splitlines()
