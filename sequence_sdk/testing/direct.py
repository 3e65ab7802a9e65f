"""The stage that is this very process: a Sequence is called as a runner calls it, its bytes go through memory."""

import asyncio
import contextlib
import contextvars
import logging
import sys
import threading
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO, cast

from sequence_sdk import _invoke
from sequence_sdk._invocation import Code, Invocation
from sequence_sdk.account import Account
from sequence_sdk.content import DECODERS, ContentType, Decoder, Refuse
from sequence_sdk.context import Context, LocalHost
from sequence_sdk.errors import ContentError
from sequence_sdk.hub import HubApi
from sequence_sdk.state import MemoryStore

from .errors import CrashInjected, SubjectNotFound
from .memory_hub import MemoryHub
from .running import Event, Exit, Log, Order, Running, Told
from .subject import Loaded
from .waiting import call_later_really

_INPUT = 256 * 1024  # bytes that wait for the Sequence, as sockets hold them
_OUTPUT = 1024 * 1024  # bytes that wait for a reader, as a hub holds them
_MOMENT = 0.05  # seconds of real time until a condition is looked at again, though nothing has happened
_KILL_HANDLERS = 0.2  # seconds that kill handlers have together, as in a runner
_TRACE = 5
_LEVELS = ((50, "FATAL"), (40, "ERROR"), (30, "WARN"), (20, "INFO"), (10, "DEBUG"))

# What a runner's exit says, docs/protocol.md, "Exit codes".
_SUCCESS, _ON_START, _DURING, _KILLED, _STOPPED = 0, 22, 23, 137, 138
_REASONS = {
    _SUCCESS: "Instance completed",
    _ON_START: "Sequence failed on start",
    _DURING: "Sequence failed during execution",
    _KILLED: "Instance killed",
    _STOPPED: "Instance stopped",
}
_COMPLETED = Exit(_SUCCESS, _REASONS[_SUCCESS], failed=False)
_CRASHED = Exit(_KILLED, "Runner was ended by SIGKILL", failed=True)


class DirectStage:
    """Runs Sequences in this process, in the event loop of the test."""

    async def launch(self, order: Order) -> Running:
        """Start a Sequence.

        Raises:
            SubjectNotFound: there is none.
        """
        running = DirectRunning(order)
        await asyncio.sleep(0)  # a task that is cancelled before its first step never takes it
        return running

    def close(self) -> None:
        """Do nothing: each run ends with its test."""


class _Pipe:
    """Chunks on their way, as many bytes as fit."""

    def __init__(self, room: int, changed: Callable[[], None]) -> None:
        self._room = room
        self._tell = changed
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._broken: BaseException | None = None
        self._moved = asyncio.Event()

    async def write(self, chunk: bytes) -> None:
        """Put a chunk in, and wait until there is room for another. After the end it is lost."""
        if not self._ended and chunk:
            self._chunks.append(chunk)
            self._size += len(chunk)
            self._move()
        while self._size > self._room and not self._ended:
            self._moved.clear()
            await self._moved.wait()

    def end(self) -> None:
        """Say that nothing more comes; what is in it can still be read."""
        self._ended = True
        self._move()

    def break_off(self, error: BaseException) -> None:
        """Let the next read raise an error."""
        self._broken = error
        self._move()

    async def read(self) -> bytes:
        """Return the next chunk as it was written, ``b""`` at the end."""
        while True:
            if self._broken is not None:
                raise self._broken
            if self._chunks:
                chunk = self._chunks.popleft()
                self._size -= len(chunk)
                self._move()
                return chunk
            if self._ended:
                return b""
            self._moved.clear()
            await self._moved.wait()

    def _move(self) -> None:
        self._moved.set()
        self._tell()


class _Host(LocalHost):
    """What a context needs: it keeps the events, and has a hub of its own."""

    def __init__(
        self, told: Told, changed: Callable[[], None], ended: Callable[[BaseException | None], None]
    ) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self._told = told
        self._changed = changed
        self._ended = ended
        self._api = HubApi(MemoryHub())

    @property
    def hub(self) -> HubApi:
        """A hub that keeps topics in memory, and refuses the rest."""
        return self._api

    def emit(self, name: str, message: Any) -> None:
        """Keep an event.

        Raises:
            TypeError: the message is not JSON.
        """
        super().emit(name, message)
        self._told.events.append(Event(name, message))
        self._call(self._changed)

    def end(self, error: BaseException | None) -> None:
        """Close the Sequence."""
        self._call(self._ended, error)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        assert self.loop is not None  # noqa: S101 - set above
        self.loop.call_soon_threadsafe(function, *args)


class DirectRunning:
    """A Sequence in this process."""

    def __init__(self, order: Order) -> None:
        self.told: Told = Told()
        self._order = order
        self._changed = asyncio.Event()
        self._input = _Pipe(_INPUT, self._changed.set)
        self._output = _Pipe(_OUTPUT, self._changed.set)
        self._context: Context[Any] = Context(
            host=_Host(self.told, self._changed.set, self._end_itself),
            config=order.config,
            instance_id=str(uuid.uuid4()),
            store=MemoryStore(),
        )
        self._call: _Call | None = None
        self._stopping = False
        self._killed: Exit | None = None
        self._own_end: list[BaseException | None] = []  # what the Sequence has said of its end
        self._main = asyncio.create_task(self._run(), name="Sequence under test")

    # --- the seam -----------------------------------------------------------------------------------------------------

    async def write(self, chunk: bytes) -> None:
        """Send bytes to the input."""
        await self._input.write(chunk)

    async def end(self) -> None:
        """End the input."""
        self._input.end()

    async def read(self) -> bytes:
        """Return the next bytes of the output."""
        return await self._output.read()

    async def emit(self, name: str, message: Any) -> None:
        """Send an event to the Sequence."""
        self._context.dispatch(name, message)

    async def stop(self, seconds: float) -> None:
        """Call the stop handlers, then close the Sequence; kill it when time is up."""
        main = self._main
        if main.done():
            return
        self._stopping = True
        self._context.set_deadline(asyncio.get_running_loop().time() + seconds)
        try:
            async with asyncio.timeout(seconds):
                try:
                    await self._context.call_stop_handlers(seconds, can_keep_alive=False)
                except ExceptionGroup as failures:
                    for failure in failures.exceptions:
                        self._report(failure)
                main.cancel()
                await asyncio.wait({main})
        except TimeoutError:
            await self.kill()

    async def kill(self, *, crash: bool = False) -> None:
        """Close it, without a word; with ``crash`` its next read raises CrashInjected."""
        self._killed = self._killed or (_CRASHED if crash else Exit(_KILLED, _REASONS[_KILLED], failed=False))
        if crash:
            self._input.break_off(CrashInjected("the test ends the Sequence here, as a kill would"))
        elif not self._main.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_KILL_HANDLERS):
                    await self._context.call_kill_handlers()
            self._main.cancel()

    def _end_itself(self, error: BaseException | None) -> None:
        self._own_end.append(error)
        self._main.cancel()

    async def wait(self) -> Exit:
        """Wait for the end."""
        return await asyncio.shield(self._main)

    async def account(self) -> Account:
        """Return the account of its items."""
        return self._call.account if self._call is not None else Account()

    async def news(self) -> None:
        """Wait until something happens, a moment at most."""
        self._changed.clear()
        call_off = call_later_really(_MOMENT, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            call_off()

    async def close(self) -> None:
        """End it if it has not."""
        await self.kill()
        await asyncio.wait({self._main})

    # --- the run ------------------------------------------------------------------------------------------------------

    async def _run(self) -> Exit:
        with _listening(self.told, self._changed.set):
            try:
                how = await self._run_heard()
            finally:
                self._input.end()
                self._output.end()
                self._changed.set()
        return how

    async def _run_heard(self) -> Exit:
        try:
            loaded = self._order.subject.load()
            self._call = _Call(loaded, self._order, self._context, self._input, self._changed.set)
        except SubjectNotFound:
            raise
        except BaseException as error:  # noqa: BLE001 - the author's module
            return self._ended_by(error, _ON_START)
        try:
            await self._call.run(self._output)
        except BaseException as error:  # noqa: BLE001 - the author's function
            return self._ended_by(error, _DURING)
        for failure in await self._context.flush_topics():
            self._report(failure)
        return self._killed or _COMPLETED

    def _ended_by(self, error: BaseException, code: int) -> Exit:
        """Return what a runner would say of the end, and report an error as it does."""
        if self._killed is not None and isinstance(error, asyncio.CancelledError | CrashInjected):
            return self._killed
        if self._own_end and isinstance(error, asyncio.CancelledError):
            own = self._own_end[0]
            if own is None:
                return _COMPLETED
            error = own
        if self._stopping and isinstance(error, asyncio.CancelledError):
            return Exit(_STOPPED, _REASONS[_STOPPED], failed=False)
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
            if code == _SUCCESS:
                return _COMPLETED
        else:
            self._report(error)
        last = "".join(traceback.format_exception_only(error)).strip().rpartition("\n")[2]
        return Exit(code, f"{_REASONS.get(code, 'Runner failed')}: {last}", failed=True)

    def _report(self, error: BaseException) -> None:
        self.told.stderr += "".join(traceback.format_exception(error))
        self.told.logs.append(Log("ERROR", f"the Sequence failed: {type(error).__name__}: {error}"))


class _Source:
    """The items of an input, a chunk at a time."""

    def __init__(self, pipe: _Pipe, kind: ContentType, refuse: Refuse, changed: Callable[[], None]) -> None:
        self._pipe = pipe
        self._decoder: Decoder = DECODERS[kind](refuse=refuse)
        self._changed = changed
        self._ended = False

    async def next_batch(self) -> list[Any] | None:
        """Return the items of the next chunk that has any, None at the end."""
        self._changed()
        while True:
            if self._decoder.failure is not None:
                raise self._decoder.failure
            if self._ended:
                return None
            chunk = await self._pipe.read()
            self._ended = not chunk
            if items := self._decoder.feed(chunk) if chunk else self._decoder.end():
                return items

    def interrupt(self) -> None:
        """Do nothing: code is not swapped here."""


class _Call:
    """The call of a Sequence, and the account of its items.

    Raises:
        SequenceError: arguments, configuration or hints are wrong.
    """

    def __init__(
        self, loaded: Loaded, order: Order, context: Context[Any], pipe: _Pipe, changed: Callable[[], None]
    ) -> None:
        code = Code(loaded.thing, loaded.spec, order.args, order.config)
        kind = ContentType.parse(loaded.takes or order.content_type)
        source = _Source(pipe, kind, self._refuse, changed)
        self._invocation = Invocation(code, context, source, quarantine=lambda *_: changed())
        self._kind = ContentType.parse(loaded.gives)
        self._changed = changed

    @property
    def account(self) -> Account:
        """What has become of the items."""
        return self._invocation.account

    def _refuse(self, number: int, line: bytes, error: ContentError) -> bool:
        return self._invocation.refuse(number, line, error)

    async def run(self, output: _Pipe) -> None:
        """Call the Sequence, and write what it gives."""

        async def pump(result: Any, _code: Code) -> None:
            await _invoke.encode_outputs(result, self._kind, output.write)

        await self._invocation.run(pump)
        self._changed()


# --- what it prints and logs -------------------------------------------------------------------------------------------

_heard: contextvars.ContextVar["Told | None"] = contextvars.ContextVar("sequence_under_test", default=None)


@contextlib.contextmanager
def _listening(told: Told, changed: Callable[[], None]) -> Iterator[None]:
    """Keep what is printed and logged by the task that runs this, by what it starts, and by threads; it goes on as before."""
    token = _heard.set(told)
    thread = threading.current_thread()
    logger = logging.getLogger("Sequence")
    handler, level = _Handler(told, changed), logger.level
    logger.addHandler(handler)
    logger.setLevel(_TRACE)
    before = sys.stdout, sys.stderr
    sys.stdout = cast("TextIO", _Tee(before[0], thread, told, "stdout"))
    sys.stderr = cast("TextIO", _Tee(before[1], thread, told, "stderr"))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        logger.removeHandler(handler)
        logger.setLevel(level)
        _heard.reset(token)


class _Tee:
    """A standard stream that also keeps what the Sequence writes."""

    def __init__(self, original: TextIO, loop_thread: threading.Thread, told: Told, name: str) -> None:
        self._original = original
        self._loop_thread = loop_thread
        self._told = told
        self._name = name

    def write(self, text: str) -> int:
        """Write on, and keep it if it comes from the Sequence or from a thread."""
        if _heard.get() is self._told or threading.current_thread() is not self._loop_thread:
            setattr(self._told, self._name, getattr(self._told, self._name) + text)
        return self._original.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write all."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class _Handler(logging.Handler):
    """Keeps log records."""

    def __init__(self, told: Told, changed: Callable[[], None]) -> None:
        super().__init__()
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._changed = changed

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, from any thread."""
        level = next((name for least, name in _LEVELS if record.levelno >= least), "TRACE")
        self._told.logs.append(Log(level, record.getMessage()))
        self._loop.call_soon_threadsafe(self._changed)
