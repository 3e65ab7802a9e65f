"""``hub-lite run``: one Sequence from a shell, its streams connected to those of the shell."""

import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.protocol.log_record import Level, LogRecord, decode_log
from sequence_sdk.pack import pack, progress_line

from .app import serve
from .client import ClientError, HubClient, HubRefused
from .settings import Settings, default_data_dir
from .standard_streams import (
    StreamFailure,
    content_type_for,
    descriptor_of,
    in_daemon_thread,
    read_chunks,
    write_all,
)

_STOP_TIMEOUT = 7.0  # seconds a Sequence has after the first Ctrl-C; a second one kills it
_GONE = 410
_SIGNALLED = 128  # what shells add to the number of the signal that ended a program
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What to run, on what, and where."""

    target: Path
    args: list[Any]
    config: dict[str, Any]
    input: Path | None = None  # None: standard input
    content_type: str | None = None
    hub: str | None = None  # URL; None: a hub of its own for the time being
    token: str | None = None  # which that one asks for
    keep: bool = False
    verbose: bool = False
    debug: int | None = None  # port on which the runner waits for a debugger; on a hub of its own only

    @property
    def input_type(self) -> str:
        """The content type of the input: the one that was given, else by the file's ending."""
        return self.content_type or content_type_for(self.input)


async def run(options: RunOptions) -> int:
    """Run the Sequence to its end and return its exit status.

    SIGINT and SIGTERM stop it, a second one kills it; the status is then 128 and the number of the signal.

    Raises:
        ClientError, PackError, SettingsError, StreamFailure, OSError: it could not be run; the text says why.
    """
    return await interruptible(lambda interrupts: _run(options, interrupts))


async def interruptible(run_with: Callable[["Interrupts"], Coroutine[Any, Any, int]]) -> int:
    """Return the exit status of what ``run_with`` does, or 128 and the number of the signal that ended it."""
    interrupts = Interrupts()
    work = asyncio.create_task(run_with(interrupts))
    with interrupts.caught(work):
        await asyncio.wait([work])
    failed = not work.cancelled() and work.exception() is not None
    if interrupts.number and not failed:
        return _SIGNALLED + interrupts.number
    return work.result()


class Interrupts:
    """What SIGINT and SIGTERM do: to what is under way by itself, or to the Instance that it is connected to."""

    def __init__(self) -> None:
        self.number = 0  # of the last signal
        self.instance: Attached | None = None
        self._work: asyncio.Task[int] | None = None

    @contextmanager
    def caught(self, work: asyncio.Task[int]) -> Iterator[None]:
        """Catch the signals inside the block; while there is no Instance they cancel ``work``."""
        self._work = work
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._take, number)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _take(self, number: int) -> None:
        again = self.number != 0
        self.number = number
        if self.instance is not None:
            self.instance.interrupt(kill=again)
        elif self._work is not None:
            self._work.cancel()


async def _run(options: RunOptions, interrupts: Interrupts) -> int:
    async with AsyncExitStack() as stack:
        package = await _package(options, stack)
        client = await stack.enter_async_context(hub_for(options))
        with _upload_progress(package) as progress:
            sequence_id = await client.upload(package, progress=progress)
        try:
            instance_id = await client.start(sequence_id, config=options.config, args=options.args)
            interrupts.instance = Attached(client, instance_id, options)
            return await interrupts.instance.run()
        except HubRefused as error:
            if "instanceId" not in error.details:
                raise
            return await tell_why_it_did_not_start(client, error)
        finally:
            interrupts.instance = None
            if not options.keep:
                with contextlib.suppress(ClientError):
                    await client.delete_sequence(sequence_id, force=True)


async def tell_why_it_did_not_start(client: HubClient, error: HubRefused) -> int:
    """Show what an Instance that ended before its Sequence ran has said, and return its exit status."""
    instance_id = str(error.details["instanceId"])
    async with client.read(instance_id, "stderr") as chunks:
        async for chunk in chunks:
            await in_daemon_thread(write_all, descriptor_of(sys.stderr), chunk)
    terminated = (await client.instance(instance_id)).get("terminated") or {"exitcode": 1}
    _say_failed(error.message, terminated["exitcode"])
    return int(terminated["exitcode"])


def _say_failed(reason: str, code: int) -> None:
    print(f"hub-lite: {reason} (exit code {code})", file=sys.stderr)


async def _package(options: RunOptions, stack: AsyncExitStack) -> Path:
    target = options.target
    if not target.is_dir():
        return target
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-lite-run-")))
    package = folder / f"{target.absolute().name}.tar.gz"
    bare = not options.hub  # our own hub needs no more
    with progress_line(quiet=False) as line:
        await asyncio.to_thread(pack, target, package, describe=False, bare=bare, progress=line)
    return package


@asynccontextmanager
async def hub_for(options: RunOptions) -> AsyncIterator[HubClient]:
    """Give the client of the hub that was named, or of one that runs in this process for as long as the block lasts."""
    async with AsyncExitStack() as stack:
        url = options.hub
        if not url:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-lite-hub-"))
            running = await stack.enter_async_context(serve(own_settings(options, Path(folder))))
            url = running.url
        client: HubClient = await stack.enter_async_context(HubClient(url, token=options.token))
        yield client


def own_settings(options: RunOptions, folder: Path) -> Settings:
    """Return what a hub of its own is told, whose files are in ``folder``; the Node runner of other hubs here is for it too."""
    settings = Settings(port=0, data_dir=folder, node_home=default_data_dir() / "node")
    if options.debug is None:
        return settings
    variables = {
        "HUB_LITE_DEBUG_PORT": str(options.debug),
        "HUB_LITE_DEBUG_SOURCE": str(options.target.absolute()) if options.target.is_dir() else "",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # it warns of frozen modules, of which an author has none
    }
    # who attaches takes as long as it takes; what the runner says of it is to be read meanwhile
    return replace(settings, runner_envs=variables, answer_start_after=0.0)


@contextmanager
def _upload_progress(package: Path) -> Iterator[Callable[[int], None] | None]:
    """Give a function that shows how far an upload is, on a terminal and where it takes a while."""
    size = package.stat().st_size
    if size < 1024 * 1024 or not sys.stderr.isatty():
        yield None
        return

    def show(sent: int) -> None:
        sys.stderr.write(f"\ruploading {package.name}: {sent * 100 // size} % of {size / 1e6:.1f} MB")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


class Attached:
    """An Instance whose streams are connected to those of this process."""

    def __init__(
        self,
        client: HubClient,
        instance_id: str,
        options: RunOptions,
        chunks: Callable[[], AsyncGenerator[bytes, None]] | None = None,
    ) -> None:
        """Take what is to be connected; ``chunks`` gives the input, else it comes from where the options say."""
        self._client = client
        self._id = instance_id
        self._options = options
        self._chunks = chunks or (lambda: input_chunks(options))
        self._failure: ClientError | StreamFailure | None = None
        self.reader_gone = False  # nobody reads our output any more
        self._copies: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Copy the streams until they end, and return the exit status of the Instance.

        Raises:
            ClientError: the hub did not take the input, or went away.
            StreamFailure: the input could not be read, or the output not be written.
        """
        sender = asyncio.create_task(self._send_input())
        stdout, stderr = descriptor_of(sys.stdout), descriptor_of(sys.stderr)
        self._copies = [
            asyncio.create_task(self._copy("output", stdout, "standard output")),
            asyncio.create_task(self._copy("stdout", stderr, "standard error")),
            asyncio.create_task(self._copy("stderr", stderr, "standard error")),
            asyncio.create_task(self._show_log(stderr)),
        ]
        try:
            await asyncio.wait(self._copies)
        finally:
            for task in (sender, *self._copies):
                task.cancel()
            await asyncio.gather(sender, *self._copies, *self._tasks, return_exceptions=True)
        return await self._outcome()

    async def _outcome(self) -> int:
        if self._failure is not None:
            raise self._failure
        if self.reader_gone:
            return _SIGNALLED + signal.SIGPIPE
        try:
            instance = await self._client.instance(self._id)
        except HubRefused:
            raise ClientError("the hub has removed the Instance; how it ended is not known") from None
        terminated = instance.get("terminated") or {"exitcode": 1, "reason": "the Instance has not ended"}
        if instance.get("status") == "errored":
            _say_failed(terminated["reason"], terminated["exitcode"])
        return int(terminated["exitcode"])

    def interrupt(self, *, kill: bool) -> None:
        """Stop the Instance, or kill it and wait for nobody who does not read what it has given."""
        task = asyncio.get_running_loop().create_task(self._kill_and_leave() if kill else self._stop())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self) -> None:
        with contextlib.suppress(ClientError):
            await self._client.stop(self._id, _STOP_TIMEOUT)

    async def _kill(self) -> None:
        with contextlib.suppress(ClientError):
            await self._client.kill(self._id)

    async def _kill_and_leave(self) -> None:
        await self._kill()
        for task in self._copies:
            task.cancel()

    async def _fail(self, failure: ClientError | StreamFailure) -> None:
        self._failure = self._failure or failure
        await self._kill()

    # --- in ---------------------------------------------------------------------------------------------------------

    async def _send_input(self) -> None:
        with contextlib.suppress(
            ClientError
        ):  # nothing goes to stdin; a Sequence that reads it must see its end
            await self._client.send(self._id, "stdin", _nothing(), content_type="application/octet-stream")
        try:
            await self._client.send(
                self._id, "input", self._input_chunks(), content_type=self._options.input_type
            )
        except HubRefused as error:
            if error.status != _GONE:  # a Sequence need not read its input to the end
                await self._fail(error)
        except ClientError:
            pass  # the Instance has ended; how, its state tells

    async def _input_chunks(self) -> AsyncIterator[bytes]:
        try:
            async with contextlib.aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except StreamFailure as failure:
            await self._fail(failure)

    # --- out --------------------------------------------------------------------------------------------------------

    async def _copy(self, stream: str, descriptor: int | None, name: str) -> None:
        with contextlib.suppress(ClientError):  # broken off: the Instance failed, and its state tells how
            async with self._client.read(self._id, stream) as chunks:
                async for chunk in chunks:
                    if not await self._write(descriptor, name, chunk):
                        return

    async def _write(self, descriptor: int | None, name: str, chunk: bytes) -> bool:
        try:
            await in_daemon_thread(write_all, descriptor, chunk)
        except BrokenPipeError:
            self.reader_gone = True
            await self._kill()
            return False
        except OSError as error:
            await self._fail(StreamFailure(name, error))
            return False
        return True

    async def _show_log(self, descriptor: int | None) -> None:
        tail = b""
        with contextlib.suppress(ClientError):
            async with self._client.read(self._id, "log") as chunks:
                async for chunk in chunks:
                    *lines, tail = (tail + chunk).split(b"\n")
                    shown = b"".join(self._format(line) for line in lines if line.strip())
                    if shown and not await self._write(descriptor, "standard error", shown):
                        return

    def _format(self, line: bytes) -> bytes:
        """Return a log line for a human: the Sequence's own from INFO on, and warnings; all of it if verbose."""
        record = decode_log(line)
        from_author = record.source == "Sequence"
        quiet = (Level.DEBUG, Level.TRACE) if from_author else (Level.INFO, Level.DEBUG, Level.TRACE)
        if not self._options.verbose and (record.level in quiet or _is_told_elsewhere(record)):
            return b""
        parts = [record.level, record.msg] if from_author else [record.level, f"{record.source}:", record.msg]
        text = " ".join(part for part in parts if part)
        if record.data:
            text += " " + " ".join(str(item) for item in record.data)
        return f"{text}\n{record.error}".rstrip().encode("utf-8", "replace") + b"\n"


def _is_told_elsewhere(record: LogRecord) -> bool:
    """Tell whether a record says what stderr or our last line says: the error of the Sequence, the end."""
    if record.source == "Runner":
        return bool(record.error)
    return record.source == "Instance" and record.msg.endswith(")") and "(exit code " in record.msg


def input_chunks(options: RunOptions) -> AsyncGenerator[bytes, None]:
    """Return the input as the options say, as it comes.

    Raises:
        StreamFailure: while it is read: it cannot be.
    """
    return read_chunks(options.input, called=f"--input {options.input}")


async def _nothing() -> AsyncIterator[bytes]:
    empty: tuple[bytes, ...] = ()
    for chunk in empty:
        yield chunk
