"""The hub: the Sequences it keeps and the Instances it runs."""

import asyncio
import logging
import os
import tempfile
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import orjson

from runner.protocol.channels import Channel
from runner.protocol.errors import LocalProtocolError, RemoteProtocolError

from .channel_server import ChannelServer, Link, Receiver
from .errors import BadRequest, Conflict, HubError, NotFound, Unavailable
from .instances import Instance, StartPayload
from .ports import Launch, RuntimeAdapter, SequenceStore, StoredSequence, Upload
from .settings import Settings

_MAX_SOCKET_PATH = 100  # bytes; the kernel's limit is 104 or 108

T = TypeVar("T")

logger = logging.getLogger(__name__)


class StartFailed(HubError):
    """The Instance ended before its Sequence ran."""

    status = 400

    def __init__(self, instance: Instance) -> None:
        super().__init__(instance)
        self.instance = instance

    def __str__(self) -> str:
        return str((self.instance.terminated or {}).get("reason", "Runner failed"))


class Hub:
    """One hub. ``open`` it, use it, ``close`` it; all in one event loop."""

    def __init__(self, settings: Settings, store: SequenceStore, adapter: RuntimeAdapter) -> None:
        self.settings = settings
        self._store = store
        self._adapter = adapter
        self._sequences: dict[str, StoredSequence] = {}
        self._instances: dict[str, Instance] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._works: set[asyncio.Task[Any]] = set()
        self._removals: dict[str, asyncio.TimerHandle] = {}
        self._channels = ChannelServer(self)
        self._socket_folder: tempfile.TemporaryDirectory[str] | None = None
        self._socket_path = Path()
        self._instances_port = 0
        self._closing = False

    # --- the hub itself -----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the store and listen for runners.

        Raises:
            SettingsError, OSError: the data directory or the port cannot be used.
        """
        await asyncio.to_thread(self._store.open)
        try:
            self._sequences = {one.id: one for one in await asyncio.to_thread(self._store.all)}
            self._socket_path = self._choose_socket_path()
            await self._channels.listen_unix(self._socket_path)
            self._instances_port = await self._channels.listen_tcp("127.0.0.1", self.settings.instances_port)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop all Instances, kill what does not stop, and let go of everything; safe to call twice."""
        self._closing = True
        living = [one for one in self._instances.values() if not one.is_over]
        if living:
            logger.info("stopping %d Instance(s)", len(living))
            timeout = self.settings.shutdown_timeout
            await asyncio.gather(*(one.stop(timeout, can_keep_alive=False) for one in living))
        self.kill_all()
        while unfinished := {*self._lives.values(), *self._works}:
            await asyncio.wait(unfinished)
        for instance_id in list(self._instances):
            self._remove(instance_id)
        await self._channels.close()
        if self._socket_folder is not None:
            self._socket_folder.cleanup()
            self._socket_folder = None
        await asyncio.to_thread(self._store.close)

    def kill_all(self) -> None:
        """Kill every Instance that lives, at once."""
        for instance in self._instances.values():
            if not instance.is_over:
                instance.kill()

    def keep(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Return a task that the hub keeps: it ends before the hub is closed."""
        task = asyncio.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)
        return task

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work to its end, also if the client that asked for it goes away half-way."""
        return await asyncio.shield(self.keep(work))

    def _choose_socket_path(self) -> Path:
        path = self.settings.data_dir.absolute() / "runners.sock"
        if len(str(path).encode()) <= _MAX_SOCKET_PATH:
            return path
        place = tempfile.gettempdir()  # which may be deep as well
        short = place if len(os.fsencode(place)) <= _MAX_SOCKET_PATH // 2 else "/tmp"  # noqa: S108 - the folder is ours alone
        self._socket_folder = tempfile.TemporaryDirectory(prefix="hub-lite-", dir=short)
        return Path(self._socket_folder.name) / "runners.sock"

    # --- Sequences ----------------------------------------------------------------------------------------------------

    def receive_package(self) -> Upload:
        """Return a place for a package on its way in."""
        self._refuse_when_closing()
        return self._store.receive()

    async def add_sequence(self, upload: Upload) -> StoredSequence:
        """Unpack an upload and keep it as a new Sequence.

        Raises:
            PackageError: the package cannot be used; nothing is left of it.
        """
        self._refuse_when_closing()
        return await self._whole(self._add(upload))

    async def _add(self, upload: Upload) -> StoredSequence:
        sequence = await asyncio.to_thread(self._store.add, upload, str(uuid.uuid4()))
        self._sequences[sequence.id] = sequence
        logger.info("Sequence %s (%s) is here", sequence.id, sequence.manifest.name or "without a name")
        return sequence

    def sequences(self) -> list[StoredSequence]:
        """Return all Sequences, oldest first."""
        return list(self._sequences.values())

    def sequence(self, sequence_id: str) -> StoredSequence:
        """Return one Sequence.

        Raises:
            NotFound: there is none of that id.
        """
        try:
            return self._sequences[sequence_id]
        except KeyError:
            raise NotFound(f"Sequence {sequence_id} not found") from None

    async def delete_sequence(self, sequence_id: str, *, force: bool) -> None:
        """Forget a Sequence; with ``force`` its Instances are killed and removed first.

        Raises:
            NotFound: there is none of that id.
            Conflict: it has living Instances, and ``force`` was not said.
        """
        self._refuse_when_closing()
        if sequence_id not in self._sequences:
            raise NotFound(f"The sequence {sequence_id} does not exist.")
        living = [one for one in self.instances_of(sequence_id) if not one.is_over]
        if living and not force:
            raise Conflict("Can't remove sequence in use.")
        sequence = self._sequences.pop(sequence_id)  # from here on nobody starts it
        await self._whole(self._delete(sequence, living))

    async def _delete(self, sequence: StoredSequence, living: list[Instance]) -> None:
        for instance in living:
            instance.kill(remove_immediately=True)
        lives = [self._lives[one.id] for one in living if one.id in self._lives]
        if lives:
            await asyncio.wait(lives)
        try:
            await asyncio.to_thread(self._store.remove, sequence.id)
        except Exception:
            self._sequences[sequence.id] = sequence
            raise
        logger.info("Sequence %s is deleted", sequence.id)

    def describe_sequence(self, sequence: StoredSequence) -> dict[str, Any]:
        """Return a Sequence as the API shows it."""
        return {
            "id": sequence.id,
            "config": {
                "type": self._adapter.name,
                **sequence.manifest.to_config(),
                "id": sequence.id,
                "packageSize": sequence.package_size,
            },
            "location": self.settings.hub_id,
            "instances": [one.id for one in self.instances_of(sequence.id)],
        }

    # --- Instances ----------------------------------------------------------------------------------------------------

    async def start(self, sequence_id: str, payload: StartPayload) -> Instance:
        """Start an Instance and return it when its Sequence is loaded (or takes longer than 10 s to load).

        Raises:
            NotFound: there is no such Sequence.
            Conflict: the wanted id is taken.
            StartFailed: it ended before the Sequence ran.
            BadRequest, Unavailable: no runner can be started for it.
        """
        self._refuse_when_closing()
        sequence = self.sequence(sequence_id)
        instance_id = payload.instance_id or str(uuid.uuid4())
        if instance_id in self._instances:
            raise Conflict("Instance with a given ID already exists")
        try:
            instance = Instance(instance_id, sequence, payload, self.settings)
            launch = Launch(instance_id, sequence, self._environment(instance))
        except (LocalProtocolError, orjson.JSONEncodeError) as error:
            raise BadRequest(f"appConfig and args cannot be handed to a runner: {error}") from None
        self._instances[instance_id] = instance
        launched: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lives[instance_id] = asyncio.create_task(
            self._live(instance, launch, launched), name=f"instance {instance_id}"
        )
        await launched
        await instance.wait_until_up(self.settings.answer_start_after)
        if instance.is_over and not instance.up.is_set() and instance.failed:
            raise StartFailed(instance)
        return instance

    async def _live(self, instance: Instance, launch: Launch, launched: asyncio.Future[None]) -> None:
        """Let an Instance live from its launch to its end, and remove it when its time has come.

        A client that goes away while it is launched has no part in this any more; the launch goes on.
        """
        try:
            instance.launched(await self._adapter.launch(launch))
        except BaseException as error:
            self._lives.pop(instance.id, None)
            self._remove(instance.id)
            if not isinstance(error, Exception):
                raise
            if not launched.done():
                launched.set_exception(error)
            return
        if not launched.done():
            launched.set_result(None)
        try:
            await instance.run()
        except Exception:
            logger.exception("Instance %s failed in the hub", instance.id)
            instance.kill()
        finally:
            self._lives.pop(instance.id, None)
        terminated = instance.terminated or {}
        logger.info("Instance %s: %s", instance.id, terminated.get("reason"))
        if instance.remove_immediately:
            self._remove(instance.id)
        else:
            loop = asyncio.get_running_loop()
            self._removals[instance.id] = loop.call_later(
                self.settings.instance_lifetime, self._remove, instance.id
            )

    def _remove(self, instance_id: str) -> None:
        removal = self._removals.pop(instance_id, None)
        if removal is not None:
            removal.cancel()
        instance = self._instances.pop(instance_id, None)
        if instance is not None:
            instance.close()

    def _environment(self, instance: Instance) -> dict[str, str]:
        """Return the variables a runner is started with."""
        sequence = instance.sequence
        info = self.describe_sequence(sequence) | {"instances": []}
        return {
            "SEQUENCE_PATH": str(sequence.directory / sequence.manifest.main),
            "INSTANCES_SERVER_SOCKET": str(self._socket_path),
            "INSTANCES_SERVER_HOST": "127.0.0.1",
            "INSTANCES_SERVER_PORT": str(self._instances_port),
            "INSTANCE_ID": instance.id,
            "SEQUENCE_INFO": orjson.dumps(info).decode(),
            "RUNNER_CONNECT_INFO": orjson.dumps(instance.payload.raw).decode(),
            "PIPES_LOCATION": "",
            "CRASH_LOG": "crash_log",
        }

    def instances(self) -> list[Instance]:
        """Return all Instances, oldest first."""
        return list(self._instances.values())

    def instances_of(self, sequence_id: str) -> list[Instance]:
        """Return the Instances of one Sequence."""
        return [one for one in self._instances.values() if one.sequence.id == sequence_id]

    def instance(self, instance_id: str) -> Instance:
        """Return one Instance.

        Raises:
            NotFound: there is none of that id.
        """
        try:
            return self._instances[instance_id]
        except KeyError:
            raise NotFound(f"Instance {instance_id} not found") from None

    def describe_instance(self, instance: Instance) -> dict[str, Any]:
        """Return an Instance as the API shows it."""
        sequence = self.describe_sequence(instance.sequence)
        return instance.describe() | {
            "sequence": {key: sequence[key] for key in ("id", "config", "location")},
        }

    # --- links --------------------------------------------------------------------------------------------------------

    def accept(self, instance_id: str, channel: Channel, link: Link) -> Receiver:
        """Hand a link to its Instance.

        Raises:
            RemoteProtocolError: there is no such Instance, or it does not want the link.
        """
        instance = self._instances.get(instance_id)
        if instance is None:
            raise RemoteProtocolError(f"no Instance {instance_id} was started here")
        return instance.accept(channel, link)

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise Unavailable("the hub is shutting down")


__all__ = ["Hub", "StartFailed"]
