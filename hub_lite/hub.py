"""The hub: the Sequences it keeps and the Instances it runs."""

import asyncio
import logging
import os
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import orjson
import psutil

from runner.protocol.channels import Channel
from runner.protocol.codec import encode
from runner.protocol.errors import LocalProtocolError, RemoteProtocolError
from runner.protocol.lifecycle import State
from runner.protocol.log_record import Level
from runner.protocol.messages import Pang, Pong

from . import metrics
from .audit import Change
from .channel_server import ChannelServer, Link, Receiver
from .descriptions import encode_json
from .errors import BadRequest, Conflict, HubError, NotFound, Unavailable
from .instances import Instance, StartPayload, iso
from .mux import MakeProtocol
from .pace import Pace
from .ports import (
    Launch,
    LeftOver,
    RuntimeAdapter,
    SequenceStore,
    StoredSequence,
    StoredVersion,
    Upload,
)
from .quarantine import Quarantine, Quarantines
from .routing import Router
from .settings import Settings
from .topics import Topics
from .windows import Window

_MAX_SOCKET_PATH = 100  # bytes; the kernel's limit is 104 or 108
MAX_STATE = 1024 * 1024  # bytes of all keys and values of an Instance

T = TypeVar("T")

_ROOM_LASTS = 0.05  # seconds

logger = logging.getLogger(__name__)


class StartFailed(HubError):
    """The Instance ended before its Sequence ran."""

    status = 400

    def __init__(self, instance: Instance) -> None:
        super().__init__(instance)
        self.instance = instance

    def __str__(self) -> str:
        return str((self.instance.terminated or {}).get("reason", "Runner failed"))


class NoAnswer(HubError):
    """A runner has not answered in time; what it was asked for may still be done."""

    status = 504
    reason = "Gateway Timeout"


class NoRoom(HubError):
    """The machine has too little left to run one more Instance; ``what`` is in bytes."""

    status = 419
    reason = "Insufficient Space on Resource"

    def __init__(self, what: str, free: int, wanted: int, setting: str) -> None:
        super().__init__(what, free, wanted, setting)
        self.what = what
        self.free = free
        self.wanted = wanted
        self.setting = setting

    def __str__(self) -> str:
        return (
            f"{self.reason}: {self.free} bytes of {self.what} are free, and a start needs {self.wanted} "
            f"(setting {self.setting}); stop something, or free some"
        )


class Hub:
    """One hub. ``open`` it, use it, ``close`` it; all in one event loop."""

    def __init__(
        self,
        settings: Settings,
        store: SequenceStore,
        adapter: RuntimeAdapter,
        refuse_untrusted: Callable[[StoredSequence], None] | None = None,
    ) -> None:
        self.settings = settings
        self._refuse_untrusted = refuse_untrusted  # in a thread, for it may read files; None: all are trusted
        self.serve_stream: MakeProtocol | None = None  # a connection to the API, for requests of Sequences
        self.changed: Callable[..., None] = lambda *_, **__: None  # as Audit.changed
        self._store = store
        self._adapter = adapter
        self._sequences: dict[str, StoredSequence] = {}
        self._configs: dict[str, tuple[StoredSequence, dict[str, Any]]] = {}  # as the API shows them, by id
        self._instances: dict[str, Instance] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._pace = Pace()
        self._starting: set[str] = (
            set()
        )  # ids of Instances of which nobody has said yet that they are started
        self._works: set[asyncio.Task[Any]] = set()  # done to their end
        self._feeds: set[asyncio.Task[Any]] = set()  # given up at the end
        self.topics = Topics(
            lambda: Window(settings.window_bytes, lossless=True, stall_timeout=settings.stall_timeout)
        )
        self._router = Router(self.topics)
        self._removals: dict[str, asyncio.TimerHandle] = {}
        self._channels = ChannelServer(self)
        self._room_until = 0.0  # the moment, of the monotonic clock, until which there is room for a start
        self._socket_folder: tempfile.TemporaryDirectory[str] | None = None
        self._socket_path = Path()
        self._instances_port = 0
        self._closing = False
        self._lost: set[str] = set()  # ids of Instances that an earlier hub has started
        self._replacing = asyncio.Lock()  # the store and we must agree which of two new packages is the newer
        self._records = ThreadPoolExecutor(1, "records")  # of its own, for uploads may keep all others busy
        self._quarantines = Quarantines(settings.data_dir / "quarantine", settings.quarantine_bytes)
        self._opened = time.monotonic()

    # --- the hub itself -----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the store and listen for runners.

        Raises:
            SettingsError, OSError: the data directory or the port cannot be used.
        """
        await asyncio.to_thread(self._store.open)
        try:
            self._sequences = {one.id: one for one in await asyncio.to_thread(self._store.all)}
            left_over = await asyncio.to_thread(self._store.left_over)
            await asyncio.to_thread(self._quarantines.recover, [one.id for one in left_over])
            for one in left_over:
                await self._show_lost(one)
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
        for feed in self._feeds:
            feed.cancel()  # it may wait for a client, or for a reader of a topic, who never comes
        while unfinished := {*self._lives.values(), *self._works, *self._feeds}:
            await asyncio.wait(unfinished)
        for instance_id in list(self._instances):
            self._remove(instance_id)
        self.topics.close()
        await self._router.close()
        await self._channels.close()
        if self._socket_folder is not None:
            self._socket_folder.cleanup()
            self._socket_folder = None
        self._records.shutdown()
        await asyncio.to_thread(self._store.close)

    def kill_all(self) -> None:
        """Kill every Instance that lives, at once."""
        for instance in self._instances.values():
            if not instance.is_over:
                instance.kill()

    def keep(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Return a task that passes a stream on; the hub keeps it, also when nobody waits for it, and cancels it at its end."""
        task = asyncio.create_task(work)
        self._feeds.add(task)
        task.add_done_callback(self._feeds.discard)
        return task

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work to its end, also if the client that asked for it goes away half-way."""
        task = asyncio.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)
        return await asyncio.shield(task)

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

    async def add_sequence(
        self, upload: Upload, app_config: Mapping[str, Any] | None = None
    ) -> StoredSequence:
        """Unpack an upload and keep it as a new Sequence, with the configuration that its starts have by default.

        Raises:
            PackageError: the package cannot be used; nothing is left of it.
            BadRequest: no runner could be given that configuration.
        """
        self._refuse_when_closing()
        _check_config(app_config)
        return await self._whole(self._add(upload, app_config))

    async def _add(self, upload: Upload, app_config: Mapping[str, Any] | None) -> StoredSequence:
        sequence = await asyncio.to_thread(self._store.add, upload, str(uuid.uuid4()), app_config)
        self._sequences[sequence.id] = sequence
        self.changed(Change.SEQUENCE_CREATED, sequence.id)
        logger.info("Sequence %s (%s) is here", sequence.id, sequence.manifest.name or "without a name")
        return sequence

    async def replace_sequence(
        self, sequence_id: str, upload: Upload, app_config: Mapping[str, Any] | None = None
    ) -> StoredSequence:
        """Unpack an upload and keep it in the place of a Sequence; without ``app_config`` that stays as it was.

        Instances that run go on with the files they were started with.

        Raises:
            NotFound: there is none of that id.
            PackageError: the package cannot be used; the Sequence is as before.
            BadRequest: no runner could be given that configuration.
        """
        self._refuse_when_closing()
        self.refuse_unknown(sequence_id)
        _check_config(app_config)
        return await self._whole(self._replace(sequence_id, upload, app_config))

    def refuse_unknown(self, sequence_id: str) -> None:
        """Refuse to replace what is not there.

        Raises:
            NotFound: there is no Sequence of that id.
        """
        if sequence_id not in self._sequences:
            raise NotFound(f"Sequence with id: {sequence_id} not found")

    async def _replace(
        self, sequence_id: str, upload: Upload, app_config: Mapping[str, Any] | None
    ) -> StoredSequence:
        new, _ = await self._update(
            sequence_id, lambda: (self._store.replace(upload, sequence_id, app_config), None)
        )
        logger.info("Sequence %s (%s) is replaced", new.id, new.manifest.name or "without a name")
        return new

    async def _update(
        self, sequence_id: str, work: Callable[[], tuple[StoredSequence, T]]
    ) -> tuple[StoredSequence, T]:
        """Let a Sequence become what ``work`` makes of it in the store, and remove packages that are not needed any more."""
        async with self._replacing:
            self.refuse_unknown(sequence_id)
            old = self._sequences[sequence_id]
            new, fact = await asyncio.to_thread(work)
            still_there = sequence_id in self._sequences
            if still_there:  # from here on everybody starts the new one
                self._sequences[sequence_id] = new
        for sha256 in {old.sha256, *await asyncio.to_thread(self._store.unused_packages)}:
            await self._let_go_of(sha256)
        if not still_there:
            self.refuse_unknown(sequence_id)
        self.changed(Change.SEQUENCE_UPDATED, new.id)
        return new, fact

    async def versions(self, id_or_name: str) -> list[dict[str, Any]]:
        """Return the versions of a Sequence as the API shows them, the newest first.

        Raises:
            NotFound: there is none of that id or name.
        """
        found = await asyncio.to_thread(self._store.versions, self.sequence(id_or_name).id)
        return [_describe_version(one, current=one is found[0]) for one in found]

    async def rollback_sequence(
        self, id_or_name: str, number: int | None = None
    ) -> tuple[StoredSequence, int]:
        """Give a Sequence the package and configuration of a version, by default of the one before its present one.

        Instances that run go on with the files they were started with. Return the Sequence and the number of the version
        that it is now, which is a new one.

        Raises:
            NotFound: there is no such Sequence, or no such version.
            Conflict: the Sequence is so already, has no other version, or is used in place.
        """
        self._refuse_when_closing()
        return await self._whole(self._rollback(self.sequence(id_or_name).id, number))

    async def _rollback(self, sequence_id: str, number: int | None) -> tuple[StoredSequence, int]:
        new, version = await self._update(sequence_id, lambda: self._store.rollback(sequence_id, number))
        logger.info("Sequence %s is rolled back; that is its version %d", new.id, version)
        return new, version

    async def _let_go_of(self, sha256: str) -> None:
        """Remove a package that a Sequence or an Instance has used, unless another one does."""
        if not any(one.sequence.sha256 == sha256 and not one.is_over for one in self._instances.values()):
            await asyncio.to_thread(self._store.remove_unused, sha256)

    def sequences(self) -> list[StoredSequence]:
        """Return all Sequences, oldest first."""
        return list(self._sequences.values())

    def sequence(self, id_or_name: str) -> StoredSequence:
        """Return the Sequence of an id, or the newest of a name.

        Raises:
            NotFound: there is none.
        """
        found = self._find(id_or_name)
        if found is None:
            raise NotFound(f"Sequence {id_or_name} not found")
        return found

    def _find(self, id_or_name: str) -> StoredSequence | None:
        exact = self._sequences.get(id_or_name)
        if exact is not None:
            return exact
        named = (one for one in reversed(self._sequences.values()) if one.manifest.name == id_or_name)
        return next(named, None)

    async def delete_sequence(self, id_or_name: str, *, force: bool) -> StoredSequence:
        """Forget a Sequence, and return which; with ``force`` its Instances are killed and removed first.

        Raises:
            NotFound: there is none of that id or name.
            Conflict: it has living Instances, and ``force`` was not said.
        """
        self._refuse_when_closing()
        sequence = self._find(id_or_name)
        if sequence is None:
            raise NotFound(f"The sequence {id_or_name} does not exist.")
        living = [one for one in self.instances_of(sequence.id) if not one.is_over]
        if living and not force:
            raise Conflict("Can't remove sequence in use.")
        del self._sequences[sequence.id]  # from here on nobody starts it
        self._configs.pop(sequence.id, None)
        await self._whole(self._delete(sequence, living))
        return sequence

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
        self.changed(Change.SEQUENCE_DELETED, sequence.id)
        logger.info("Sequence %s is deleted", sequence.id)

    def describe_sequence(self, sequence: StoredSequence) -> dict[str, Any]:
        """Return a Sequence as the API shows it."""
        return self._describe_sequence(sequence, [one.id for one in self.instances_of(sequence.id)])

    def describe_sequences(self) -> list[dict[str, Any]]:
        """Return all Sequences as the API shows them, oldest first."""
        ids: dict[str, list[str]] = {}
        for one in self._instances.values():
            ids.setdefault(one.sequence.id, []).append(one.id)
        return [self._describe_sequence(one, ids.get(one.id, [])) for one in self._sequences.values()]

    def _describe_sequence(self, sequence: StoredSequence, instance_ids: list[str]) -> dict[str, Any]:
        app_config = {"appConfig": sequence.app_config} if sequence.app_config else {}
        return {
            "id": sequence.id,
            **app_config,
            "config": self._config_of(sequence),
            "location": self.settings.hub_id,
            "instances": instance_ids,
        }

    def _config_of(self, sequence: StoredSequence) -> dict[str, Any]:
        """Return the ``config`` of a Sequence; nobody may change it."""
        kept = self._configs.get(sequence.id)
        if kept is not None and kept[0] is sequence:
            return kept[1]
        config = {
            "type": self._adapter.name,
            **sequence.manifest.to_config(),
            "id": sequence.id,
            "packageSize": sequence.package_size,
        }
        if (
            self._sequences.get(sequence.id) is sequence
        ):  # one that is replaced or deleted is seldom asked for
            self._configs[sequence.id] = (sequence, config)
        return config

    # --- Instances ----------------------------------------------------------------------------------------------------

    async def start(self, id_or_name: str, payload: StartPayload) -> Instance:
        """Start an Instance of the Sequence of an id, or of the newest of a name.

        It is returned when its Sequence is loaded, or takes longer than 10 s to load.

        Raises:
            NotFound: there is no such Sequence.
            NotSigned: nobody has signed it whom the hub trusts, and it is told to ask for that.
            NoRoom: the machine is full.
            Conflict: the wanted id is taken.
            StartFailed: it ended before the Sequence ran.
            BadRequest, Unavailable: no runner can be started for it.
        """
        sequence = await self._trusted(id_or_name)
        self._refuse_when_full()
        payload = _with_defaults(payload, sequence)
        instance_id = payload.instance_id or str(uuid.uuid4())
        if instance_id in self._lost:
            self._remove(instance_id)  # a start-up list that names ids must work after a crash
        if instance_id in self._instances:
            raise Conflict("Instance with a given ID already exists")
        try:
            instance = Instance(
                instance_id, sequence, payload, self.settings, self, serve_stream=self.serve_stream
            )
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

    async def _trusted(self, id_or_name: str) -> StoredSequence:
        """Return the Sequence of an id, or the newest of a name, if the hub trusts who made it."""
        while True:
            self._refuse_when_closing()
            sequence = self.sequence(id_or_name)
            if self._refuse_untrusted is None:
                return sequence
            await asyncio.to_thread(self._refuse_untrusted, sequence)
            if self._find(id_or_name) is sequence:  # it may have been replaced meanwhile
                return sequence

    async def _live(self, instance: Instance, launch: Launch, launched: asyncio.Future[None]) -> None:
        """Let an Instance live from its launch to its end, and remove it when its time has come.

        A client that goes away while it is launched has no part in this any more; the launch goes on.
        """
        self._starting.add(instance.id)
        try:
            await self._launch(instance, launch)
        except BaseException as error:
            self._starting.discard(instance.id)
            if isinstance(error, Exception):
                await self._forget(instance.id)
            self._lives.pop(instance.id, None)
            self._remove(instance.id)
            if not isinstance(error, Exception):
                raise
            if not launched.done():
                launched.set_exception(error)
            return
        self._say_started(instance)
        self._keep_pace(instance)
        if not launched.done():
            launched.set_result(None)
        try:
            await instance.run()
        except Exception:
            logger.exception("Instance %s failed in the hub", instance.id)
            instance.kill()
        finally:
            await self._forget(instance.id)
            self._lives.pop(instance.id, None)
            self._router.ended(instance)
            self._keep_pace()
        terminated = instance.terminated or {}
        self.changed(Change.of_exit(terminated.get("exitcode")), instance.id)
        logger.info("Instance %s: %s", instance.id, terminated.get("reason"))
        if instance.remove_immediately:
            self._remove(instance.id)
        else:
            self._remove_later(instance.id)

    def _keep_pace(self, new: Instance | None = None) -> None:
        """Let Instances report less often the more there are; ``new`` is one that has not heard of it."""
        if self._pace.changes(len(self._lives)):
            for instance in self._instances.values():
                if not instance.is_over:
                    instance.set_pace(self._pace.rate)
        elif new is not None and self._pace.rate != 1:
            new.set_pace(self._pace.rate)

    def _say_started(self, instance: Instance) -> None:
        """Say once that an Instance is started: its runner may be quicker than what started it."""
        if instance.id in self._starting:
            self._starting.discard(instance.id)
            self.changed(Change.INSTANCE_STARTED, instance.id, limits=instance.payload.limits)

    async def _launch(self, instance: Instance, launch: Launch) -> None:
        """Start the runner of an Instance while the store notes it; without its note none runs."""
        noted = asyncio.ensure_future(
            self._record(
                self._store.remember,
                instance.id,
                instance.sequence,
                _remembered(instance.payload),
                instance.created,
            )
        )
        try:
            process = await self._adapter.launch(launch)
        except BaseException:
            await asyncio.wait([noted])
            noted.exception()  # the other one is told
            raise
        try:
            await self._channels.adopt(instance.id, process.take_links())
            await noted
        except BaseException:
            process.kill()
            await process.wait()
            process.close()
            raise
        instance.launched(process)

    def _remove_later(self, instance_id: str) -> None:
        """Remove an ended Instance when everybody has had time to look at it."""
        loop = asyncio.get_running_loop()
        self._removals[instance_id] = loop.call_later(
            self.settings.instance_lifetime, self._remove, instance_id
        )

    def remove_ended(self, instance: Instance) -> None:
        """Remove an Instance that has ended, before its time."""
        self._remove(instance.id)

    def _remove(self, instance_id: str) -> None:
        removal = self._removals.pop(instance_id, None)
        if removal is not None:
            removal.cancel()
        self._lost.discard(instance_id)
        instance = self._instances.pop(instance_id, None)
        if instance is not None:
            instance.close()
            self._router.forget(instance)
        quarantine = self._quarantines.take_out(instance_id)
        if quarantine is not None:
            self._records.submit(quarantine.remove)

    async def reload(self, instance_id: str) -> None:
        """Let an Instance go on with the present code of its Sequence; wait until it does.

        If somebody else reloads it already, that comes first. What is begun is done to its end, whoever waits for it.

        Raises:
            NotFound: there is no such Instance, or its Sequence is deleted.
            NotSigned: as for a start.
            BadRequest: it has ended.
            Conflict: its runner cannot do that, or not now.
            ReloadFailed: the new code does not load; the Instance is as before.
            Gone: it ended before it had answered.
            NoAnswer: it has not answered in time; it may still do it.
        """
        self._refuse_when_closing()
        instance = self.instance(instance_id)
        timeout = self.settings.start_timeout
        try:
            async with asyncio.timeout(timeout):
                await self._whole(self._reload(instance))
        except TimeoutError:
            raise NoAnswer(
                f"Instance {instance_id} has not taken the new code within {timeout:g} s, and may still do so: "
                f"its log (GET /instance/{instance_id}/log) tells"
            ) from None

    async def _reload(self, instance: Instance) -> None:
        await instance.wait_until_up()
        async with instance.reloading:
            instance.refuse_reload()
            old = instance.sequence
            new = await self._hold_present(old.id)  # whatever replaces it meanwhile
            try:
                if self._refuse_untrusted is not None:
                    await asyncio.to_thread(self._refuse_untrusted, new)
                await instance.reload(new)
            except BaseException:
                await self._record(self._store.release, new.sha256)
                raise
            if await self._renew(instance):
                await self._record(self._store.release, new.sha256)
        if new.sha256 != old.sha256:
            await self._let_go_of(old.sha256)
        self.changed(Change.INSTANCE_RELOADED, instance.id)
        logger.info("Instance %s goes on with new code", instance.id)

    async def _hold_present(self, sequence_id: str) -> StoredSequence:
        while True:
            present = self._sequences.get(sequence_id)
            if present is None:
                raise NotFound(f"Sequence {sequence_id} is deleted")
            if await self._record(self._store.hold, present.sha256):
                return present

    async def _renew(self, instance: Instance) -> bool:
        """Remember an Instance with the code it has now; tell whether its package needs no other hold."""
        if instance.is_over:  # what is noted of it is forgotten already, or about to be
            return True
        facts = (_remembered(instance.payload), instance.created)
        try:
            await self._record(self._store.remember, instance.id, instance.sequence, *facts)
        except HubError as error:
            logger.warning("the new code of Instance %s cannot be noted: %s", instance.id, error)
            return False
        return True

    async def wait_until_idle(self) -> None:
        """Return as soon as no Instance lives."""
        while self._lives:
            await asyncio.wait(self._lives.values())

    # --- what is known after a crash ----------------------------------------------------------------------------------

    async def _record(self, work: Callable[..., T], *facts: Any) -> T:
        """Do something with the store after all that was asked for before."""
        return await asyncio.get_running_loop().run_in_executor(self._records, work, *facts)

    async def _forget(self, instance_id: str) -> None:
        try:
            await self._record(self._store.forget, instance_id)
        except (
            HubError
        ) as error:  # the Instance has ended all the same, and after a crash it is said to be lost
            logger.warning("the end of Instance %s cannot be noted: %s", instance_id, error)

    async def _show_lost(self, left_over: LeftOver) -> None:
        """Show an Instance that ran when the hub ended, for as long as any that has ended. It is shown once."""
        await self._forget(left_over.id)
        try:
            instance = Instance.lost(left_over, self.settings)
        except LocalProtocolError as error:  # another version of the hub took what was too long for this one
            logger.warning(
                "Instance %s was running when the hub ended, and cannot be shown: %s", left_over.id, error
            )
            return
        self._instances[instance.id] = instance
        self._lost.add(instance.id)
        self._remove_later(instance.id)
        logger.warning("Instance %s: %s", instance.id, (instance.terminated or {}).get("reason"))

    # --- what Instances tell ------------------------------------------------------------------------------------------

    def announced(self, instance: Instance, pang: Pang) -> None:
        """Connect an Instance to the topics it reads and writes."""
        self._router.announced(instance, pang)

    def gives_output(self, instance: Instance) -> None:
        """Connect an Instance that writes before it has said what."""
        self._router.gives_output(instance)

    def emitted(self, instance: Instance, name: str, message: Any) -> None:
        """Hand an event to every other Instance that runs."""
        try:
            for other in self._instances.values():
                if other is not instance and other.up.is_set() and not other.is_over:
                    other.send_event(name, message, source=instance.id)
        except LocalProtocolError as error:  # with its source it is longer than a message may be
            instance.note(Level.WARN, f"event {name[:80]!r} is not handed on: {error}")

    def _environment(self, instance: Instance) -> dict[str, str]:
        """Return the variables a runner is started with."""
        sequence = instance.sequence
        info = self._describe_sequence(sequence, [])
        info.pop(
            "appConfig", None
        )  # it is in the start's, and a variable has no room for what nobody reads there
        in_place = not sequence.sha256
        # What Python writes beside the code nobody has signed, and it would be refused with it at the next start.
        clean = {"PYTHONDONTWRITEBYTECODE": "1"} if in_place and self._refuse_untrusted is not None else {}
        return {
            **clean,
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
        sequence = instance.sequence
        quarantined = self._quarantines.count(instance.id)
        return (
            instance.describe()
            | ({"quarantined": quarantined} if quarantined else {})
            | {
                "sequence": {
                    "id": sequence.id,
                    "config": self._config_of(sequence),
                    "location": self.settings.hub_id,
                }
            }
        )

    def instance_text(self, instance: Instance) -> bytes:
        """Return what ``describe_instance`` does as JSON. It is kept until something of the Instance changes."""
        facts = instance.facts(self._quarantines.count(instance.id))
        text = instance.text
        return text.get(facts) or text.put(facts, encode_json(self.describe_instance(instance)))

    def instances_text(self) -> bytes:
        """Return all Instances as the API shows them, oldest first, as JSON."""
        return b"[%b]" % b",".join(map(self.instance_text, self._instances.values()))

    # --- what Instances keep with the hub -----------------------------------------------------------------------------

    def quarantine(self, instance_id: str) -> Quarantine:
        """Return what an Instance has put aside.

        Raises:
            NotFound: there is no such Instance.
        """
        return self._quarantines.of(self.instance(instance_id).id)

    async def state(self, instance_id: str, key: str | None = None) -> dict[str, bytes]:
        """Return the state of an Instance, or one key of it: JSON texts by key.

        Raises:
            NotFound: there is no such Instance.
        """
        return await self._record(self._store.state, self.instance(instance_id).id, key)

    async def set_state(self, instance_id: str, key: str, value: bytes) -> None:
        """Keep a JSON text in the state of an Instance; when this returns it is on the disk.

        Raises:
            NotFound: there is no such Instance.
            PayloadTooLarge: it is too much.
            Gone: its Sequence is deleted.
            Unavailable: the disk is full.
        """
        sequence_id = self.instance(instance_id).sequence.id
        await self._record(self._store.set_state, instance_id, sequence_id, key, value, MAX_STATE)

    async def delete_state(self, instance_id: str, key: str | None = None) -> int:
        """Forget a key of the state of an Instance, or all of it; return how many keys that were.

        Raises:
            NotFound: there is no such Instance.
        """
        return await self._record(self._store.delete_state, self.instance(instance_id).id, key)

    def prometheus(self) -> str:
        """Return what the hub and its Instances count and measure, in the text format of Prometheus."""
        by_status = Counter(one.state for one in self._instances.values())
        lines = [
            *metrics.gauge(
                "hub_lite_instances",
                "Instances that the hub shows, by status.",
                [({"status": state}, by_status[state]) for state in State],
            ),
            *metrics.gauge("hub_lite_sequences", "Sequences of the hub.", [({}, len(self._sequences))]),
            *metrics.gauge(
                "hub_lite_uptime_seconds",
                "Seconds since the hub began.",
                [({}, round(time.monotonic() - self._opened, 3))],
            ),
            *metrics.of_sequences(
                ({"instance": one.id, "sequence": one.sequence.id}, one.metrics)
                for one in self._instances.values()
            ),
        ]
        return "\n".join(lines) + "\n"

    # --- links --------------------------------------------------------------------------------------------------------

    def accept(self, instance_id: str, channel: Channel, link: Link) -> Receiver:
        """Hand a link to its Instance.

        Raises:
            RemoteProtocolError: there is no such Instance, or it does not want the link.
        """
        instance = self._instances.get(instance_id)
        if instance is None:
            raise RemoteProtocolError(f"no Instance {instance_id} was started here")
        receiver = instance.accept(channel, link)
        if channel is Channel.CONTROL:  # the one that every runner opens, once
            self._say_started(instance)
            self.changed(Change.INSTANCE_CONNECTED, instance.id)
        return receiver

    def refuse_when_unable(self) -> None:
        """Refuse what could not be started now, whatever it is.

        Raises:
            Unavailable: the hub is shutting down.
            NoRoom: the machine is full.
        """
        self._refuse_when_closing()
        self._refuse_when_full()

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise Unavailable("the hub is shutting down")

    def _refuse_when_full(self) -> None:
        """Refuse a start for which the machine has no memory, or no space in the data directory.

        Who has just found room does not look again for a moment: a look takes a tenth of a start.
        """
        now = time.monotonic()
        if now < self._room_until:
            return
        wanted = self.settings.min_free_memory
        free = psutil.virtual_memory().available
        if free < wanted:
            raise NoRoom("memory", free, wanted, "requirements.freeMemory")
        wanted = self.settings.min_free_space
        free = psutil.disk_usage(str(self.settings.data_dir)).free if wanted else 0
        if free < wanted:
            raise NoRoom(f"the disk of {self.settings.data_dir}", free, wanted, "requirements.freeSpace")
        self._room_until = now + _ROOM_LASTS


def _describe_version(version: StoredVersion, *, current: bool) -> dict[str, Any]:
    """Return a version of a Sequence as the API shows it."""
    config = {"name": version.manifest.name, "version": version.manifest.version}
    return {
        "version": version.number,
        "sha256": version.sha256,
        "size": version.package_size,
        "created": iso(version.created),
        "current": current,
        "config": {key: value for key, value in config.items() if value},
        **({"appConfig": version.app_config} if version.app_config else {}),
        **({"signer": version.signer} if version.signer is not None else {}),
    }


def _check_config(app_config: Mapping[str, Any] | None) -> None:
    """Refuse a default configuration that would make every start fail.

    Raises:
        BadRequest: it does not fit a message, or an answer of the API.
    """
    if app_config:
        try:
            encode(Pong(dict(app_config), []))
            orjson.dumps(app_config)
        except (LocalProtocolError, orjson.JSONEncodeError) as error:
            raise BadRequest(f"appConfig cannot be handed to a runner: {error}") from None


def _with_defaults(payload: StartPayload, sequence: StoredSequence) -> StartPayload:
    """Return a start payload with the Sequence's default configuration below its own, member by member."""
    if not sequence.app_config:
        return payload
    config = {**sequence.app_config, **payload.app_config}
    return replace(payload, app_config=config, raw={**payload.raw, "appConfig": config})


def _remembered(payload: StartPayload) -> dict[str, Any]:
    """Return what a start asked for in the words of the API, whoever asked."""
    return {
        "appConfig": payload.app_config,
        "args": payload.args,
        "inputTopic": payload.input_topic,
        "outputTopic": payload.output_topic,
        "limits": payload.limits,
    }


__all__ = ["Hub", "StartFailed"]
