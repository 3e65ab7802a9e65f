"""Stages for tests of Sequences, found by ``sequence_sdk.testing``: a real runner process, and a real hub over HTTP.

Each has a hub of its own for a test session, in a thread; what a test asks for happens there.
"""

import asyncio
import contextlib
import json
import os
import signal
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from runner.protocol.log_record import decode_log
from sequence_sdk.account import Account
from sequence_sdk.pack import pack
from sequence_sdk.testing.errors import TestingError
from sequence_sdk.testing.running import Event, Exit, Log, Order, Running, Told

from .app import RunningHub, serve
from .client import ClientError, HubClient, HubRefused
from .errors import HubError
from .hub import Hub, StartFailed
from .inlets import InletWriter
from .instances import Instance, StartPayload
from .settings import Settings
from .windows import WindowError

T = TypeVar("T")

_WINDOW = 64 * 1024  # bytes that the hub holds of a stream; back-pressure is there soon
_REPORTS = 50.0  # a second: how often a Sequence tells its account
_MOMENT = 0.02  # seconds until a test looks again whether there is news
_NOT_YET = 0.002  # seconds between two looks for an Instance that is being started
_GRACE = 10.0  # seconds until a stream of a started Instance is open
_NOT_FOUND = 404


class HubThread:
    """A hub in a thread of its own, with a data directory that goes with it."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self.hub: RunningHub
        self.client: HubClient
        self._failure: BaseException | None = None
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="hub for tests", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            raise self._failure

    def _run(self, ready: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve(ready))
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asked for a hub
            self._failure = error
        finally:
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        with tempfile.TemporaryDirectory(prefix="hub-lite-stage-") as folder:
            settings = Settings(
                port=0, data_dir=Path(folder), window_bytes=_WINDOW, min_free_memory=0, min_free_space=0
            )
            async with serve(settings) as self.hub, HubClient(self.hub.url) as self.client:
                ready.set()
                await self._over.wait()

    def call(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Do work in the thread; to be awaited in any event loop."""
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self) -> None:
        """End the hub and all that runs on it; safe to call twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join()


class Door(Protocol):
    """A way to a hub. All of it is used in the hub's thread."""

    async def upload(self, package: Path) -> str:
        """Send a package; return the id of its Sequence."""
        ...

    async def start(self, sequence: str, instance: str, order: Order) -> None:
        """Start an Instance under an id; one that ends while it starts is there all the same.

        Raises:
            TestingError: there is none.
        """

    def events(self, instance: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open the events of an Instance, a JSON object a line; waits until the Instance is there."""
        ...

    def read(self, instance: str, stream: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a stream of an Instance; a broken one raises at its end."""
        ...

    async def send(self, instance: str, content_type: str, chunks: AsyncIterator[bytes]) -> None:
        """Send an input, to its end."""

    async def ask(self, what: str, instance: str, **options: Any) -> dict[str, Any]:
        """Ask for ``instance``, ``health``, ``stop``, ``kill``, ``emit``, ``set_monitoring_rate`` or ``delete_sequence``."""
        ...


class ObjectDoor:
    """The hub's own objects."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def upload(self, package: Path) -> str:
        """Hand the package to the store."""
        with self._hub.receive_package() as upload:
            upload.write(await asyncio.to_thread(package.read_bytes))
            return (await self._hub.add_sequence(upload)).id

    async def start(self, sequence: str, instance: str, order: Order) -> None:
        """Start an Instance."""
        wanted = {"appConfig": order.config, "args": list(order.args)}
        payload = StartPayload(order.config, list(order.args), instance_id=instance, raw=wanted)
        try:
            await self._hub.start(sequence, payload)
        except StartFailed:
            pass
        except HubError as error:
            raise TestingError(f"the Sequence cannot be started: {error}") from error

    @asynccontextmanager
    async def events(self, instance: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open the events."""
        while (found := self._find(instance)) is None:  # noqa: ASYNC110 - it is there after a turn or two of the loop
            await asyncio.sleep(0)
        with found.events.stream(None) as cursor:
            yield cursor

    def _find(self, instance: str) -> Instance | None:
        return next((one for one in self._hub.instances() if one.id == instance), None)

    @asynccontextmanager
    async def read(self, instance: str, stream: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a window."""
        with getattr(self._hub.instance(instance), stream).open() as cursor:
            yield cursor

    async def send(self, instance: str, content_type: str, chunks: AsyncIterator[bytes]) -> None:
        """Write to the input's link."""
        found = self._hub.instance(instance)
        writer: InletWriter = await found.input_writer(content_type)
        async with writer:
            async for chunk in chunks:
                await writer.write(chunk)
        await found.input.end()

    async def ask(self, what: str, instance: str, **options: Any) -> dict[str, Any]:
        """Ask the Instance."""
        if what == "delete_sequence":
            await self._hub.delete_sequence(options["sequence"], force=True)
            return {}
        found = self._hub.instance(instance)
        match what:
            case "instance":
                return self._hub.describe_instance(found)
            case "health":
                return await found.health()
            case "stop":
                await found.stop(options["timeout"], can_keep_alive=False)
            case "kill" if found.is_over and options.get("remove_immediately"):
                self._hub.remove_ended(found)
            case "kill":
                found.kill(**options)
            case "emit":
                found.send_event(options["event"], options["message"], source="")
            case _:
                found.set_monitoring_rate(options["per_second"])
        return {}


class HttpDoor:
    """The hub's API over HTTP."""

    def __init__(self, client: HubClient) -> None:
        self._client = client

    async def upload(self, package: Path) -> str:
        """Send the package."""
        return await self._client.upload(package)

    async def start(self, sequence: str, instance: str, order: Order) -> None:
        """Start an Instance."""
        try:
            await self._client.start(
                sequence, config=order.config, args=list(order.args), instance_id=instance
            )
        except HubRefused as error:
            if "instanceId" not in error.details:
                raise TestingError(f"the Sequence cannot be started: {error}") from error

    @asynccontextmanager
    async def events(self, instance: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open the events."""
        async with AsyncExitStack() as stack:
            while True:
                try:
                    events = await stack.enter_async_context(self._client.events(instance))
                    break
                except HubRefused as error:
                    if error.status != _NOT_FOUND:
                        raise
                    await asyncio.sleep(_NOT_YET)

            async def lines() -> AsyncIterator[bytes]:
                async for event in events:
                    yield json.dumps(event).encode() + b"\n"

            yield lines()

    def read(self, instance: str, stream: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a stream."""
        return self._client.read(instance, stream)

    async def send(self, instance: str, content_type: str, chunks: AsyncIterator[bytes]) -> None:
        """Send one request for all of the input."""
        await self._client.send(instance, "input", chunks, content_type=content_type)

    async def ask(self, what: str, instance: str, **options: Any) -> dict[str, Any]:
        """Call the API."""
        if what == "delete_sequence":
            await self._client.delete_sequence(options["sequence"], force=True)
            return {}
        return await getattr(self._client, what)(instance, **options) or {}


class RemoteRunning:
    """An Instance on the hub of a stage."""

    def __init__(self, thread: HubThread, door: Door, order: Order) -> None:
        self.told = Told()
        self._thread = thread
        self._door = door
        self._order = order
        self._id = str(uuid.uuid4())
        self._sequence = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._chunks: asyncio.Queue[bytes | None]
        self._taken: asyncio.Event  # the chunk that was put in is on its way
        self._sender: asyncio.Task[None]
        self._over: asyncio.Future[Exit]
        self._output: AsyncIterator[bytes] | None = None
        self._stack = AsyncExitStack()
        self._account = Account()

    async def begin(self) -> None:
        """Upload it and start it."""
        await self._thread.call(self._begin())

    async def _begin(self) -> None:
        self._chunks, self._taken = asyncio.Queue(), asyncio.Event()
        self._over = asyncio.get_running_loop().create_future()
        folder = self._order.subject.folder(self._order.scratch)
        with tempfile.TemporaryDirectory(prefix="hub-lite-stage-") as place:
            package = Path(place, "package.tar.gz")
            # what it imports is where the tests run, and so where their runners do
            await asyncio.to_thread(pack, folder, package, dependencies=False, describe=False, bare=True)
            self._sequence = await self._door.upload(package)
        starting = asyncio.create_task(self._door.start(self._sequence, self._id, self._order))
        opened = asyncio.Event()
        events = asyncio.create_task(self._follow_events(opened))
        try:
            await starting
            async with asyncio.timeout(_GRACE):
                await opened.wait()
        except BaseException:
            events.cancel()
            await asyncio.wait({events})
            await self._door.ask("delete_sequence", self._id, sequence=self._sequence)
            raise
        with contextlib.suppress(ClientError, HubError):  # it may have ended
            await self._door.ask("set_monitoring_rate", self._id, per_second=_REPORTS)
        self._tasks = [
            events,
            *(asyncio.create_task(self._follow(name)) for name in ("stdout", "stderr", "log")),
        ]
        self._sender = asyncio.create_task(self._send())
        self._tasks.append(asyncio.create_task(self._watch()))

    # --- the seam -----------------------------------------------------------------------------------------------------

    async def write(self, chunk: bytes) -> None:
        """Send bytes to the input; returns when they are on their way."""
        await self._thread.call(self._write(chunk))

    async def _write(self, chunk: bytes) -> None:
        self._taken.clear()
        self._chunks.put_nowait(chunk)
        taken = asyncio.create_task(self._taken.wait())
        await asyncio.wait({taken, self._sender}, return_when=asyncio.FIRST_COMPLETED)
        taken.cancel()

    async def end(self) -> None:
        """End the input."""
        await self._thread.call(self._end())

    async def _end(self) -> None:
        self._chunks.put_nowait(None)

    async def _send(self) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            while (chunk := await self._chunks.get()) is not None:
                yield chunk
                self._taken.set()

        with contextlib.suppress(
            ClientError, HubError, ConnectionError
        ):  # the Sequence has ended; its exit tells
            await self._door.send(self._id, self._order.content_type, chunks())

    async def read(self) -> bytes:
        """Return the next bytes of the output."""
        return await self._thread.call(self._read())

    async def _read(self) -> bytes:
        if self._output is None:
            self._output = await self._stack.enter_async_context(self._door.read(self._id, "output"))
        try:
            return await anext(self._output, b"")
        except (ClientError, WindowError):
            return b""

    async def emit(self, name: str, message: Any) -> None:
        """Send an event to the Sequence."""
        await self._thread.call(self._door.ask("emit", self._id, event=name, message=message))

    async def stop(self, seconds: float) -> None:
        """Ask for an end."""
        await self._thread.call(self._quietly("stop", timeout=seconds))

    async def kill(self, *, crash: bool = False) -> None:
        """Kill it: by the hub; with ``crash`` by a signal of which the hub knows nothing."""
        await self._thread.call(self._crash() if crash else self._quietly("kill"))

    async def _crash(self) -> None:
        with contextlib.suppress(ClientError, HubError, ProcessLookupError):
            report = await self._door.ask("health", self._id)
            os.kill(report["processId"], signal.SIGKILL)

    async def _quietly(self, what: str, **options: Any) -> None:
        with contextlib.suppress(ClientError, HubError):  # it has ended before
            await self._door.ask(what, self._id, **options)

    async def wait(self) -> Exit:
        """Wait for the end; all that it has told is here then."""
        return await self._thread.call(self._wait())

    async def _wait(self) -> Exit:
        return await asyncio.shield(self._over)

    async def account(self) -> Account:
        """Return the newest account that has come."""
        return await self._thread.call(self._newest_account())

    async def _newest_account(self) -> Account:
        described = await self._door.ask("instance", self._id)
        told = described.get("metrics", {}).get("items")
        if told is not None:
            self._account = Account(told["in"], told["out"], told["skipped"], told["quarantined"])
        return self._account

    async def news(self) -> None:
        """Wait a moment."""
        await asyncio.sleep(_MOMENT)

    async def close(self) -> None:
        """Kill it, and remove what there is of it on the hub."""
        await self._thread.call(self._close())

    async def _close(self) -> None:
        self._sender.cancel()
        await self._quietly("kill", remove_immediately=True)
        await self._quietly("delete_sequence", sequence=self._sequence)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, self._sender, return_exceptions=True)
        await self._stack.aclose()
        self._over.cancel()

    # --- what it tells ------------------------------------------------------------------------------------------------

    async def _follow_events(self, opened: asyncio.Event) -> None:
        with contextlib.suppress(ClientError, WindowError):
            async with self._door.events(self._id) as lines:
                opened.set()
                async for line in _lines(lines):
                    event = json.loads(line)
                    self.told.events.append(Event(event["eventName"], event["message"]))

    async def _follow(self, name: str) -> None:
        with contextlib.suppress(ClientError, WindowError):
            async with self._door.read(self._id, name) as chunks:
                if name == "log":
                    async for line in _lines(chunks):
                        record = decode_log(line)
                        self.told.logs.append(Log(record.level.value, record.msg))
                    return
                seen = b""
                async for chunk in chunks:
                    seen += chunk
                    setattr(self.told, name, seen.decode("utf-8", "replace"))

    async def _watch(self) -> None:
        """Wait for the end: the log ends with the Instance."""
        await asyncio.wait(self._tasks[:4])
        described = await self._door.ask("instance", self._id)
        terminated = described["terminated"]
        self._over.set_result(
            Exit(terminated["exitcode"], terminated["reason"], described["status"] == "errored")
        )


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    tail = b""
    async for chunk in chunks:
        *lines, tail = (tail + chunk).split(b"\n")
        for line in lines:
            yield line


class _Stage:
    """A stage with a hub."""

    def __init__(self, make_door: Callable[[HubThread], Door]) -> None:
        self._thread = HubThread()
        self._door = make_door(self._thread)

    async def launch(self, order: Order) -> Running:
        """Start a Sequence.

        Raises:
            SubjectNotFound: a process could not find it.
            PackError: the folder cannot be packed.
            TestingError: the hub refuses it.
        """
        running = RemoteRunning(self._thread, self._door, order)
        await running.begin()
        return running

    def close(self) -> None:
        """End the hub and all that runs on it."""
        self._thread.close()


class RunnerStage(_Stage):
    """Runs Sequences in real runner processes; a hub without HTTP stands behind them."""

    def __init__(self) -> None:
        super().__init__(lambda thread: ObjectDoor(thread.hub.hub))


class HubStage(_Stage):
    """Runs Sequences on a real hub, over HTTP."""

    def __init__(self) -> None:
        super().__init__(lambda thread: HttpDoor(thread.client))
