"""A Sequence marked ``@sequence`` as the module that the original Python runner wants: ``run``, ``provides``, ``requires``.

A package has this with the rest of the SDK in it; the runner of this project never imports it. What is known of the original
runner is told in docs/decisions/0024-original-runner.md.
"""

import asyncio
import contextlib
import importlib.machinery
import importlib.util
import itertools
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol, TextIO, cast

from . import _invoke
from ._invocation import Code, Invocation
from ._json import check_json
from .content import DECODERS, ContentType, Decoder, Refuse
from .context import Context, EventHandler, HealthCheck, LocalHost, MonitoringHandler, Report
from .contract import contract_of
from .errors import ContentError, SequenceError, UnsupportedContentType
from .find import Found, NoneFound, find_sequence
from .hub import HubApi, HubUnreachable
from .spec import CLASSIC, SequenceSpec

MODULE: Final = "sequence"  # what the entry file is called in sys.modules; packages rely on it
_DEPENDENCIES: Final = "__pypackages__"
_CLASSIC_MEMBERS: Final = ("provides", "requires", "output_type")
_INPUT: Final = "IN"  # what the original runner calls the channel of the input
_STOP: Final = 7.0  # seconds that a hub gives who is stopped, if nobody says otherwise; 0.18 does not tell
_TURN: Final = 64  # items after which the loop has a turn, so that the original runner is heard while items come without a pause
_NO_HUB: Final = HubUnreachable(
    "context.hub",
    "the original Python runner gives a Sequence no way to its hub: no hub, space, state or topic",
    "start the package on hub-lite with its own runner, or do without",
)


class Writer(Protocol):
    """The part of an ``asyncio.StreamWriter`` that an output is written to."""

    def write(self, data: bytes) -> None:
        """Take bytes."""

    async def drain(self) -> None:
        """Wait for room."""


def members_of(root: str, main: str) -> dict[str, Any]:
    """Import the author's file and return what the module of the entry has: ``run``, and what it says of input and output.

    Args:
        root: the folder of the package.
        main: the author's file in there.

    Raises:
        SequenceError: there is no Sequence in it, there are several, or its type hints cannot be used.
        BaseException: whatever the author's module raises.
    """
    path = Path(root, main)
    module = _import(path, Path(root))
    found = find_sequence(vars(module), MODULE)
    if not isinstance(found, Found):
        what = "no function is" if isinstance(found, NoneFound) else "several functions are"
        names = ", ".join(found.functions if isinstance(found, NoneFound) else found.names) or "no functions"
        raise SequenceError(f"{path}: {what} marked @sequence, and none is called run (found {names})")
    if found.spec is CLASSIC:
        named: dict[str, Any] = {
            name: vars(module)[name] for name in _CLASSIC_MEMBERS if name in vars(module)
        }
        return named | {"run": _in_folder(path.parent, found.thing)}
    entry = _Entry(found.thing, found.spec, module)
    return {"run": _in_folder(path.parent, entry.run), **entry.topics}


def _import(path: Path, root: Path) -> ModuleType:
    """Import a file as the runner of this project does: in its folder, which with the package's others is the first on the path."""
    folders = [path.parent, path.parent / _DEPENDENCIES, root, root / _DEPENDENCIES]
    wanted = list(dict.fromkeys(str(folder) for folder in folders if folder.is_dir()))
    sys.path[:] = wanted + [folder for folder in sys.path if folder not in wanted]
    sys.argv = [str(path)]
    loader = importlib.machinery.SourceFileLoader(MODULE, str(path))
    spec = importlib.machinery.ModuleSpec(MODULE, loader, origin=str(path))
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        loader.exec_module(module)
    finally:
        os.chdir(before)  # the original runner may know the entry by a relative path
    return module


def _in_folder(folder: Path, run: Callable[..., Any]) -> Callable[..., Any]:
    def run_there(context: Any, input: Any, *args: Any) -> Any:
        os.chdir(folder)  # the original runner has gone to that of the entry
        return run(context, input, *args)

    return run_there


class _Entry:
    """A marked Sequence, and what the original runner and its hub are told about it."""

    def __init__(self, thing: Any, spec: SequenceSpec, module: ModuleType) -> None:
        self._thing = thing
        self._spec = spec
        contract = contract_of(thing)
        requires, takes = _declared(module, "requires")
        provides, gives = _declared(module, "provides")
        requires, provides = requires or spec.requires, provides or spec.provides
        self._takes = str(contract.takes or takes or (ContentType.TEXT if requires else ""))
        self._gives = str(gives or contract.gives or ContentType.TEXT)
        self.topics: dict[str, Any] = {
            "provides": {"provides": provides, "contentType": self._gives},
            "output_type": ContentType.OCTETS.value,  # what is given is encoded already
        }
        if requires:
            self.topics["requires"] = _Requires(requires=requires, contentType=self._takes)

    def run(self, context: Any, input: Any, *args: Any) -> "_Output":
        """Return the output, which calls the Sequence when the original runner begins to read it.

        Raises:
            BadArgument: a start argument is not what the Sequence takes.
            BadConfig: the configuration is not.
        """
        code = Code(self._thing, self._spec, args, dict(context.config or {}))
        own = _OriginalContext(context)
        return _Output(code, own, input, _watched_header(context), self._takes, _kind_of(self._gives))


def _declared(module: ModuleType, key: str) -> tuple[str, str]:
    """Return the topic that a module declares in a dict, and its content type; both may be empty."""
    value = getattr(module, key, None)
    members = value if isinstance(value, Mapping) else {}
    return str(members.get(key) or ""), str(members.get("contentType") or "")


def _kind_of(content_type: str) -> ContentType:
    try:
        return ContentType.parse(content_type)
    except UnsupportedContentType:
        return ContentType.OCTETS  # bytes of any other type go as they are


class _Requires(dict[str, str]):
    """Names a topic: the hub is sent what is in it, and the original runner, which asks for the type, reads bytes.

    It knows no ndjson, and its lines of text may not be longer than 64 KiB.
    """

    def __getitem__(self, key: str) -> str:
        return ContentType.OCTETS.value if key == "contentType" else super().__getitem__(key)


# --- input --------------------------------------------------------------------------------------------------------------


class _Header:
    """The reader of the input channel, whose header says that bytes come; ``content_type`` is the one the hub has sent.

    The original runner would fail at a type it does not know, and its Sequence wait for ever.
    """

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.content_type = ""

    async def readuntil(self, separator: bytes) -> bytes:
        """Return the header with another content type."""
        lines = (await self._reader.readuntil(separator)).decode().split("\r\n")
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip().lower() == "content-type":
                self.content_type = value.strip()
        return f"content-type: {ContentType.OCTETS}\r\n\r\n".encode()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def _watched_header(context: Any) -> _Header | None:
    """Put a ``_Header`` before the input channel, where the original runner shows it and has not begun to read it."""
    streams: dict[Any, Any] = getattr(getattr(context, "runner", None), "streams", None) or {}
    for channel, reader in streams.items():
        if getattr(channel, "name", "") == _INPUT and hasattr(reader, "readuntil"):
            header = _Header(reader)
            streams[channel] = header
            return header
    return None


class _Source:
    """The items of an input that the original runner gives as lines of text, or as bytes."""

    def __init__(self, input: Any, header: _Header | None, takes: str, refuse: Refuse) -> None:
        self._input = input
        self._chunks: AsyncIterator[Any] | None = None
        self._header = header
        self._takes = takes
        self._refuse = refuse
        self._decoder: Decoder | None = None
        self._ended = False

    async def next_batch(self) -> list[Any] | None:
        """Return the items of the next chunk that has any, None at the end."""
        if self._chunks is None:
            self._chunks = aiter(self._input)
        while True:
            if self._decoder is not None and self._decoder.failure is not None:
                raise self._decoder.failure
            if self._ended:
                return None
            chunk = await anext(self._chunks, None)
            self._ended = chunk is None
            if items := self._decoded(chunk):
                return items

    def _decoded(self, chunk: Any) -> list[Any]:
        if self._decoder is None:
            otherwise = ContentType.TEXT if isinstance(chunk, str) else ContentType.OCTETS
            told = self._header.content_type if self._header is not None else ""
            self._decoder = DECODERS[ContentType.parse(self._takes or told or otherwise)](refuse=self._refuse)
        if chunk is None:
            return self._decoder.end()
        return self._decoder.feed(chunk.encode() if isinstance(chunk, str) else chunk)

    def interrupt(self) -> None:
        """Do nothing: code is not swapped here."""


# --- output -------------------------------------------------------------------------------------------------------------


class _Output:
    """What ``run`` returns: for the original runner a stream of bytes, and the call of the Sequence."""

    def __init__(
        self,
        code: Code,
        context: "_OriginalContext",
        input: Any,
        header: "_Header | None",
        takes: str,
        kind: ContentType,
    ) -> None:
        source = _Source(input, header, takes, self._refuse)
        self._context = context
        self._kind = kind
        self._invocation = Invocation(code, context, source, quarantine=self._put_aside)

    def map(self, *_encoder: Any) -> "_Output":
        """Return the output as it is: all of it is encoded already, whatever a runner would do to it."""
        return self

    async def write_to(self, target: Writer) -> None:
        """Call the Sequence, and write what it gives, to its last item.

        Raises:
            BaseException: what the Sequence raises.
        """
        turns = itertools.count(1)

        async def write(chunk: bytes) -> None:
            target.write(chunk)
            await target.drain()
            if next(turns) % _TURN == 0:
                await asyncio.sleep(0)

        async def pump(result: Any, _code: Code) -> None:
            await _invoke.encode_outputs(result, self._kind, write)

        try:
            await self._context.host.run(self._invocation.run(pump))
        finally:
            await _flush(target)

    def _refuse(self, number: int, line: bytes, error: ContentError) -> bool:
        return self._invocation.refuse(number, line, error)

    def _put_aside(self, number: int, _item: Any, _error: Exception) -> None:
        self._context.logger.warning(
            "item %d is lost: the original runner keeps none that is put aside", number
        )


async def _flush(target: Writer) -> None:
    """Wait until all is sent: the loop of the original runner ends with bytes that wait."""
    transport = getattr(target, "transport", None)
    if transport is not None:
        transport.set_write_buffer_limits(high=0)
        with contextlib.suppress(ConnectionError):  # who raises it here has nobody to send to
            await target.drain()


# --- context ------------------------------------------------------------------------------------------------------------


class _Host(LocalHost):
    """What a context needs, as far as the original runner has it."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.loop = self.own_loop = asyncio.get_running_loop()
        self._original = original
        self._thread = threading.get_ident()
        self._task: asyncio.Task[Any] | None = None
        self._tasks: set[asyncio.Future[Any]] = set()
        self._ended = False

    @property
    def hub(self) -> HubApi:
        """There is none: this always raises HubUnreachable."""
        raise _NO_HUB

    @property
    def space(self) -> HubApi:
        """There is none: this always raises HubUnreachable."""
        raise _NO_HUB

    def emit(self, name: str, message: Any) -> None:
        """Send an event to the hub.

        Raises:
            TypeError: the message is not JSON.
        """
        check_json(f"emit({name!r}): the message", message)
        self.in_loop(self._original.emit, name, message)

    def keep_alive(self, seconds: float) -> None:
        """Ask the hub to let the Sequence live on, where the runner can; the context itself waits."""
        ask = getattr(self._original, "keep_alive", None)
        if ask is not None:
            self.in_loop(self.spawn, ask, 0)

    def end(self, error: BaseException | None) -> None:
        """End the Sequence soon; with an error as failed."""
        self.ends.append(error)
        self.in_loop(self._cancel)

    def in_loop(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function in the event loop: at once if this is its thread."""
        if threading.get_ident() == self._thread:
            function(*args)
        else:
            self.own_loop.call_soon_threadsafe(function, *args)

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Let a coroutine run beside the Sequence."""
        task = self.own_loop.create_task(function(*args))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the Sequence until it returns, or ends itself.

        Raises:
            BaseException: what it raises, or the error of ``destroy``.
        """
        self._task = self.own_loop.create_task(work, name="Sequence")
        if self.ends:  # it was stopped before it began
            self._cancel()
        try:
            await self._task
        except asyncio.CancelledError:
            if not self._ended:
                raise
        for error in self.ends:
            if error is not None:
                raise error

    def _cancel(self) -> None:
        if self._task is not None and not self._ended:
            self._ended = True
            self._task.cancel()


class _OriginalContext(Context[Any]):
    """The context of a Sequence in the original runner, made of the one that this gives."""

    def __init__(self, original: Any) -> None:
        """Make a context in the event loop of the Sequence."""
        self.host = _Host(original)
        super().__init__(
            host=self.host,
            config=original.config,
            instance_id=os.environ.get("INSTANCE_ID", ""),
            logger=original.logger,
        )
        self._original = original
        self._heard: set[str] = set()
        self._report: Report = {"healthy": True}
        self._reports = False
        original.set_stop_handler(self._stop)
        for name in ("stdout", "stderr"):
            setattr(sys, name, cast("TextIO", _FromAnyThread(getattr(sys, name), self.host)))
        _log_all(original.logger)

    def on(self, event_name: str, handler: EventHandler) -> None:
        """Call ``handler(message)``, sync or async, for each event of that name that reaches the Instance."""
        super().on(event_name, handler)
        if event_name not in self._heard:
            self._heard.add(event_name)
            self._original.on(event_name, lambda message=None: self.dispatch(event_name, message))

    def set_health_check(self, check: HealthCheck) -> None:
        """Let ``check``, sync or async, say how the Sequence is, once a second. The last check that was set counts."""
        super().set_health_check(check)
        self._start_reports()

    def add_monitoring_handler(self, handler: MonitoringHandler) -> None:
        """Let ``handler(report)``, sync or async, add to the report of how the Sequence is, once a second."""
        super().add_monitoring_handler(handler)
        self._start_reports()

    def _start_reports(self) -> None:
        if not self._reports:
            self._reports = True
            self._original.set_health_check(self._last_report)
            self.host.spawn(self._renew_report)

    def _last_report(self) -> Report:
        """Return the newest report: the original runner cannot wait for one, and asks for the next a second later."""
        self.host.spawn(self._renew_report)
        return self._report

    async def _renew_report(self) -> None:
        try:
            self._report = await self.health()
        except Exception as error:  # author's code
            self.logger.exception("the health check failed")
            self._report = {"healthy": False, "error": f"{type(error).__name__}: {error}"}

    async def _stop(self, seconds: float = _STOP, can_keep_alive: bool = False) -> None:
        """Call the stop handlers, then end the Sequence, unless it is to live on."""
        self.set_deadline(self.host.own_loop.time() + seconds)
        kept = False
        try:
            kept = await self.call_stop_handlers(seconds, can_keep_alive)
        except ExceptionGroup as failures:
            for failure in failures.exceptions:
                self.logger.exception("a stop handler failed", exc_info=failure)
        if kept:
            self.set_deadline(None)
        else:
            self.host.end(None)


class _FromAnyThread:
    """A standard stream of the original runner, which is none for threads; plain generators have one of their own."""

    def __init__(self, stream: Any, host: _Host) -> None:
        self._stream = stream
        self._host = host

    def write(self, text: str) -> int:
        """Write text, from any thread."""
        self._host.in_loop(self._stream.write, text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _log_all(logger: logging.Logger) -> None:
    """Let the records of all loggers go where those of the original runner go, as in the runner of this project."""
    root = logging.getLogger()
    if logger.handlers and not root.handlers:
        logger.propagate = False
        root.handlers.extend(logger.handlers)
        root.setLevel(logger.level)
