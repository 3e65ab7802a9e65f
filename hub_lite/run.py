"""``hub-lite run``: one Sequence from a shell, its streams connected to those of the shell."""

import asyncio
import contextlib
import os
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from runner.protocol.log_record import Level, decode_log
from sequence_sdk.pack import pack

from .app import serve
from .client import ClientError, HubClient, HubRefused
from .settings import Settings

_READ_SIZE = 256 * 1024
_STOP_TIMEOUT = 7.0  # seconds a Sequence has after the first Ctrl-C; a second one kills it
_TEXT_SUFFIXES = {".txt", ".csv", ".tsv", ".log", ".md", ".json", ".xml", ".html", ".yaml", ".yml", ""}
_NDJSON_SUFFIXES = {".ndjson", ".jsonl"}
_GONE = 410
_PIPE_CLOSED = 128 + signal.SIGPIPE


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What to run, on what, and where."""

    target: Path
    args: list[Any]
    config: dict[str, Any]
    input: Path | None = None  # None: standard input
    content_type: str | None = None
    hub: str | None = None  # URL; None: a hub of its own for the time being
    keep: bool = False
    verbose: bool = False


async def run(options: RunOptions) -> int:
    """Run the Sequence to its end and return its exit status.

    Raises:
        ClientError, PackError, SettingsError, OSError: it could not be run; the text says why.
    """
    async with AsyncExitStack() as stack:
        package = await _package(options.target, stack)
        url: str = options.hub or await stack.enter_async_context(_own_hub())
        client: HubClient = await stack.enter_async_context(HubClient(url))
        with _upload_progress(package) as progress:
            sequence_id = await client.upload(package, progress=progress)
        try:
            instance_id = await client.start(sequence_id, config=options.config, args=options.args)
            return await _Attached(client, instance_id, options).run()
        finally:
            if not options.keep:
                with contextlib.suppress(ClientError):
                    await client.delete_sequence(sequence_id, force=True)


async def _package(target: Path, stack: AsyncExitStack) -> Path:
    if not target.is_dir():
        return target
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-lite-run-")))
    package = folder / f"{target.absolute().name}.tar.gz"
    await asyncio.to_thread(pack, target, package)
    return package


@asynccontextmanager
async def _own_hub() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="hub-lite-hub-") as folder:
        async with serve(Settings(port=0, data_dir=Path(folder))) as running:
            yield running.url


@contextlib.contextmanager
def _upload_progress(package: Path) -> Any:
    """Give a function that shows how far an upload is, on a terminal and where it takes a while."""
    size = package.stat().st_size
    if size < 1024 * 1024 or not sys.stderr.isatty():
        yield None
        return

    def show(sent: int) -> None:
        sys.stderr.write(f"\ruploading {package.name}: {sent * 100 // size} % of {size / 1e6:.1f} MB")
        sys.stderr.flush()

    yield show
    sys.stderr.write("\r\x1b[K")
    sys.stderr.flush()


def content_type_for(path: Path | None) -> str:
    """Return the content type of an input file by its ending; what is not known to be text is bytes."""
    if path is None or path.suffix.lower() in _TEXT_SUFFIXES:
        return "text/plain"
    return "application/x-ndjson" if path.suffix.lower() in _NDJSON_SUFFIXES else "application/octet-stream"


class _Attached:
    """An Instance whose streams are connected to those of this process."""

    def __init__(self, client: HubClient, instance_id: str, options: RunOptions) -> None:
        self._client = client
        self._id = instance_id
        self._options = options
        self._signals = 0
        self._signal_status = 0
        self._refused: ClientError | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupted, number)
        try:
            sender = asyncio.create_task(self._send_input())
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy("output", sys.stdout.buffer))
                group.create_task(self._copy("stdout", sys.stderr.buffer))
                group.create_task(self._copy("stderr", sys.stderr.buffer))
                group.create_task(self._show_log())
            sender.cancel()
            await asyncio.gather(sender, *self._tasks, return_exceptions=True)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        return await self._outcome()

    async def _outcome(self) -> int:
        if self._refused is not None:
            raise self._refused
        if self._signal_status:
            return self._signal_status
        instance = await self._client.instance(self._id)
        terminated = instance.get("terminated") or {"exitcode": 1, "reason": "the Instance has not ended"}
        if instance.get("status") == "errored":
            print(f"hub-lite: {terminated['reason']} (exit code {terminated['exitcode']})", file=sys.stderr)
        return int(terminated["exitcode"])

    def _interrupted(self, number: int) -> None:
        self._signals += 1
        self._signal_status = 128 + number
        self._later(self._stop() if self._signals == 1 else self._kill())

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self) -> None:
        with contextlib.suppress(ClientError):
            await self._client.stop(self._id, _STOP_TIMEOUT)

    async def _kill(self) -> None:
        with contextlib.suppress(ClientError):
            await self._client.kill(self._id)

    async def _send_input(self) -> None:
        content_type = self._options.content_type or content_type_for(self._options.input)
        try:
            await self._client.send(self._id, "input", self._input_chunks(), content_type=content_type)
        except HubRefused as error:
            if error.status != _GONE:  # a Sequence need not read its input to the end
                self._refused = error
                await self._kill()
        except ClientError:
            pass  # the Instance has ended; how, its state tells

    async def _input_chunks(self) -> AsyncIterator[bytes]:
        if self._options.input is not None:
            with self._options.input.open("rb") as file:
                while chunk := await asyncio.to_thread(file.read, _READ_SIZE):
                    yield chunk
            return
        if sys.stdin is None or sys.stdin.closed:
            return
        if sys.stdin.isatty():
            print("hub-lite: what you type is the input; Ctrl-D ends it", file=sys.stderr)
        while chunk := await _read_in_thread(sys.stdin.fileno()):
            yield chunk

    async def _copy(self, stream: str, target: BinaryIO) -> None:
        with contextlib.suppress(ClientError):  # broken off: the Instance failed, and its state tells how
            async with self._client.read(self._id, stream) as chunks:
                async for chunk in chunks:
                    if not await self._write(target, chunk):
                        return

    async def _write(self, target: BinaryIO, chunk: bytes) -> bool:
        try:
            await asyncio.to_thread(_write_all, target, chunk)
        except BrokenPipeError:
            self._signal_status = self._signal_status or _PIPE_CLOSED
            await self._kill()
            return False
        return True

    async def _show_log(self) -> None:
        tail = b""
        with contextlib.suppress(ClientError):
            async with self._client.read(self._id, "log") as chunks:
                async for chunk in chunks:
                    *lines, tail = (tail + chunk).split(b"\n")
                    shown = b"".join(self._format(line) for line in lines if line.strip())
                    if shown and not await self._write(sys.stderr.buffer, shown):
                        return

    def _format(self, line: bytes) -> bytes:
        """Return a log line for a human: the Sequence's own from INFO on, and warnings; all of it if verbose."""
        record = decode_log(line)
        from_author = record.source == "Sequence"
        quiet = (Level.DEBUG, Level.TRACE) if from_author else (Level.INFO, Level.DEBUG, Level.TRACE)
        is_the_end = record.source == "Instance" and record.msg.endswith(")") and "(exit code " in record.msg
        if not self._options.verbose and (record.level in quiet or is_the_end):
            return b""
        parts = [record.level, record.msg] if from_author else [record.level, f"{record.source}:", record.msg]
        text = " ".join(part for part in parts if part)
        if record.data:
            text += " " + " ".join(str(item) for item in record.data)
        return f"{text}\n{record.error}".rstrip().encode("utf-8", "replace") + b"\n"


def _write_all(target: BinaryIO, chunk: bytes) -> None:
    target.write(chunk)
    target.flush()


async def _read_in_thread(descriptor: int) -> bytes:
    """Read what is there, in a daemon thread: a read of a pipe that nobody writes never returns, and must not hold us."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return await asyncio.to_thread(os.read, descriptor, _READ_SIZE)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    def settle(chunk: bytes, error: OSError | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(chunk)
        else:
            answer.set_exception(error)

    def read() -> None:
        chunk, failure = b"", None
        try:
            chunk = os.read(descriptor, _READ_SIZE)
        except OSError as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, chunk, failure)

    threading.Thread(target=read, name="standard input", daemon=True).start()
    return await answer
