"""One Instance: its process, its links, its streams and its life."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from runner.protocol.channels import REQUIRED_CHANNELS, Channel
from runner.protocol.codec import Decoder, encode
from runner.protocol.errors import RemoteProtocolError
from runner.protocol.input_header import encode_input_header
from runner.protocol.lifecycle import (
    ENDED,
    EXIT_DELAY,
    DeadlinePassed,
    Effect,
    ForceKill,
    HubLife,
    KeptAlive,
    KillRequested,
    Launched,
    LifeEvent,
    RefusedEventError,
    Send,
    SequenceEnded,
    State,
    StopRequested,
    Up,
)
from runner.protocol.log_record import Level, LogRecord, encode_log
from runner.protocol.messages import (
    Alive,
    Kill,
    Message,
    Monitoring,
    MonitoringRate,
    MonitoringReply,
    Pang,
    Ping,
    Pong,
    SequenceCompleted,
    SequenceStopped,
    Stop,
    Unknown,
)

from .channel_server import Link, Receiver
from .errors import Gone, NotAcceptable
from .ports import RunnerProcess, StoredSequence
from .settings import Settings
from .windows import Window

_OUTBOUND = (Channel.STDOUT, Channel.STDERR, Channel.MONITORING, Channel.OUT, Channel.LOG)
# Only a child that has left the process group can hold a link open after the end. It counts as drained when nothing is there.
_DRAIN_CHECK = 0.05  # seconds between two looks at such links
_DRAIN_TIMEOUT = 2.0  # seconds until a child that writes on and on is heard no more
_MAX_LOG_LINE = 64 * 1024  # bytes held to keep log lines whole
_DETAIL_BYTES = 4096  # of stderr, to find its last line
_DETAIL_LENGTH = 500  # characters of that line in a reason

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StartPayload:
    """What a start asks for; passed on to the runner as it came in ``raw``."""

    app_config: dict[str, Any] = field(default_factory=dict)
    args: list[Any] = field(default_factory=list)
    instance_id: str | None = None
    raw: dict[str, Any] = field(default_factory=dict)


class Inlet:
    """A stream into an Instance: ``input`` or ``stdin``. Writers share it at line borders where it has lines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = False
        self._link: Link | None = None
        self._ready = asyncio.Event()
        self._turn = asyncio.Lock()

    def attach(self, link: Link) -> None:
        """Take the link; writers that wait go on."""
        self._link = link
        self._ready.set()

    def close(self) -> None:
        """End without a link or with a lost one: writers get an error."""
        self.ended = True
        self._ready.set()

    async def link(self) -> Link:
        """Return the link once it is there.

        Raises:
            Gone: the stream has ended.
        """
        await self._ready.wait()
        if self.ended or self._link is None or self._link.lost:
            raise Gone(f"{self.name} has ended; start another Instance to send more")
        return self._link

    def writer(self, *, lines: bool) -> "InletWriter":
        """Return a writer for one request; use it as an async context manager."""
        return InletWriter(self, self._turn, lines=lines)

    async def end(self) -> None:
        """Half-close the stream: the Sequence reads its end. A second time does nothing."""
        if not self.ended:
            link = await self.link()
            self.ended = True
            link.write_eof()


class InletWriter:
    """What one request writes. With ``lines`` it keeps its turn until its line is whole."""

    def __init__(self, inlet: Inlet, turn: asyncio.Lock, *, lines: bool) -> None:
        self._inlet = inlet
        self._turn = turn
        self._lines = lines
        self._has_turn = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._has_turn:
            self._turn.release()

    async def write(self, chunk: bytes) -> None:
        """Send a chunk and wait while the runner is behind.

        Raises:
            Gone: the stream has ended.
        """
        if not self._has_turn:
            await self._turn.acquire()
            self._has_turn = True
        link = await self._inlet.link()
        link.write(chunk)
        try:
            await link.drain()
        except ConnectionError:
            raise Gone(f"{self._inlet.name} has ended while it was written to") from None
        if not self._lines or chunk.endswith(b"\n"):
            self._turn.release()
            self._has_turn = False


class Instance:
    """One run of a Sequence.

    Tell it that its process is ``launched``, let the channel server hand it its links, and ``run`` it: ``run`` returns when
    the Instance has ended and every byte it sent is in its windows.

    Raises:
        LocalProtocolError: configuration and arguments do not fit a message.
    """

    def __init__(
        self, instance_id: str, sequence: StoredSequence, payload: StartPayload, settings: Settings
    ) -> None:
        loop = asyncio.get_running_loop()
        self.id = instance_id
        self.sequence = sequence
        self.payload = payload
        self.created = time.time()
        self.started: float | None = None
        self.ended: float | None = None
        self.terminated: dict[str, Any] | None = None
        self.provides = ""
        self.requires = ""
        self.remove_immediately = False
        self.up = asyncio.Event()
        self.over = asyncio.Event()
        self.output = Window(settings.window_bytes, lossless=True, stall_timeout=settings.stall_timeout)
        self.stdout = Window(settings.window_bytes, lossless=False)
        self.stderr = Window(settings.window_bytes, lossless=False)
        self.log = Window(settings.window_bytes, lossless=False)
        self.input = Inlet("input")
        self.stdin = Inlet("stdin")
        self._settings = settings
        self._loop = loop
        self._life = HubLife()
        self._timer: asyncio.TimerHandle | None = None
        self._links: dict[Channel, Link] = {}
        self._open_outbound: set[Channel] = set()
        self._drained = asyncio.Event()
        self._process: RunnerProcess | None = None
        self._pong = encode(Pong(payload.app_config, payload.args))
        self._ping: Ping | None = None
        self._greeted = False
        self._waiting_messages: list[Message] = []
        self._report: dict[str, Any] | None = None
        self._reported = asyncio.Event()
        self._header_sent = False
        self._input_has_lines = True
        self._log_merge = LogMerge(self.log)
        self._changed: asyncio.Future[None] | None = None

    # --- what people ask for ----------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._life.state

    @property
    def is_over(self) -> bool:
        """Tell whether it has ended."""
        return self._life.state in ENDED

    @property
    def failed(self) -> bool:
        """Tell whether it has ended in failure."""
        return self._life.state is State.ERRORED

    def describe(self) -> dict[str, Any]:
        """Return the Instance as the API shows it; what is unknown is absent."""
        members: dict[str, Any] = {
            "id": self.id,
            "appConfig": self.payload.app_config,
            "args": self.payload.args,
            "provides": self.provides,
            "requires": self.requires or None,
            "ports": (self._ping.ports if self._ping else None) or None,
            "created": _iso(self.created),
            "started": _iso(self.started),
            "ended": _iso(self.ended),
            "status": self.state,
            "terminated": self.terminated,
        }
        return {key: value for key, value in members.items() if value is not None}

    async def health(self) -> dict[str, Any]:
        """Return the newest report; wait for the first one.

        Raises:
            Gone: it has ended, and what it last said of itself is no longer true.
        """
        if self._report is None and not self.is_over:
            await self._reported.wait()
        if self.is_over or self._report is None:
            raise Gone(f"Instance {self.id} has ended ({self.state}); GET /instance/{self.id} says how")
        return {**self._report, "processId": self._process.pid if self._process else None}

    async def stop(self, timeout: float, *, can_keep_alive: bool) -> None:  # noqa: ASYNC109 - it is sent to the runner
        """Ask for a polite end within ``timeout`` seconds, and wait for it; what is not over by then is killed.

        Returns as soon as the Instance has ended, or when it was kept alive.
        """
        self._handle(StopRequested(timeout * 1000, can_keep_alive))
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.state is State.STOPPING:
                    await self._next_change()

    def kill(self, *, remove_immediately: bool = False) -> None:
        """End it at once."""
        self.remove_immediately = self.remove_immediately or remove_immediately
        self._handle(KillRequested())

    async def input_writer(self, content_type: str) -> InletWriter:
        """Return a writer to the input for one request; the first request decides the content type.

        Raises:
            NotAcceptable: the input comes from a topic, or has no content type.
            Gone: the input has ended.
        """
        await self.wait_until_up()
        if self.requires:
            raise NotAcceptable("Input provided in other way")
        if not content_type and not self._header_sent:
            raise NotAcceptable("Content-Type must be defined")
        link = await self.input.link()
        if not self._header_sent:
            link.write(encode_input_header(content_type))
            self._header_sent = True
            self._input_has_lines = not content_type.lower().startswith("application/octet-stream")
        return self.input.writer(lines=self._input_has_lines)

    async def wait_until_up(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - running out of it is no error
        """Wait until the Sequence is loaded, or the Instance is over, or ``timeout`` seconds have passed."""
        over = asyncio.ensure_future(self.over.wait())
        up = asyncio.ensure_future(self.up.wait())
        try:
            await asyncio.wait({over, up}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            up.cancel()

    # --- its life ---------------------------------------------------------------------------------------------------

    def launched(self, process: RunnerProcess) -> None:
        """Take the process that was started for it."""
        self._process = process
        self._handle(Launched())
        if self.up.is_set():
            self._handle(Up())  # its runner was faster than the adapter
        if self.state is State.KILLING:
            process.kill()

    async def run(self) -> None:
        """Wait for the end of the process, drain what it sent, and end."""
        process = self._process
        assert process is not None  # noqa: S101 - launched before
        connected = self._loop.call_later(self._settings.start_timeout, self._not_connected)
        try:
            returncode = await process.wait()
        finally:
            connected.cancel()
        process.kill()  # what the Sequence has started ends with it
        try:
            await self._drain()
            self._end(returncode, process.crash_log())
        finally:
            process.close()

    def close(self) -> None:
        """Let go of everything: the Instance is removed. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
        for link in self._links.values():
            link.abort()
        for window in (self.output, self.stdout, self.stderr, self.log):
            window.close()
        self._let_go()

    def _let_go(self) -> None:
        """Let everybody who waits for something of it find that there is no more."""
        self.input.close()
        self.stdin.close()
        self.over.set()
        self._reported.set()

    async def _drain(self) -> None:
        """Read all that is still in the sockets, though nobody may be there to read the windows."""
        out = self._links.get(Channel.OUT)
        if out is not None:
            self.output.on_room = None
            out.resume_reading()
        deadline = self._loop.time() + _DRAIN_TIMEOUT
        while self._open_outbound and self._loop.time() < deadline:
            with suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_CHECK):
                    await self._drained.wait()
            if not any(self._links[channel].unread for channel in self._open_outbound):
                return

    def _end(self, returncode: int, crash_log: bytes) -> None:
        detail = _last_line(self.stderr.tail(_DETAIL_BYTES)) or _last_line(crash_log)
        code, reason = self._life.end(
            returncode, self._loop.time(), main=self.sequence.manifest.main, detail=detail
        )
        if crash_log and self.state is State.ERRORED:
            self.note(
                Level.ERROR, "the runner said before it was connected", crash_log.decode("utf-8", "replace")
            )
        self._finish(code, reason, failed=self.state is State.ERRORED)

    def _finish(self, code: int, reason: str, *, failed: bool) -> None:
        self.ended = time.time()
        self.terminated = {"exitcode": int(code), "reason": reason}
        self.note(Level.ERROR if failed else Level.INFO, f"{reason} (exit code {int(code)})")
        self._log_merge.end()
        self.output.end(reason if failed else None)
        for window in (self.stdout, self.stderr, self.log):
            window.end()
        self._arm()
        for link in self._links.values():
            link.close()
        self._let_go()

    def note(self, level: Level, message: str, *data: Any) -> None:
        """Write a record of the hub's own into the Instance's log."""
        record = LogRecord(
            message, level, int(time.time() * 1000), "Instance", list(data), "", {"Instance": {"id": self.id}}
        )
        self._log_merge.add_record(encode_log(record))

    def _not_connected(self) -> None:
        if not self._greeted and self._process is not None:
            self.note(
                Level.ERROR,
                f"the runner has not connected within {self._settings.start_timeout:g} s and is ended",
            )
            self._process.kill()

    # --- links and messages -----------------------------------------------------------------------------------------

    def accept(self, channel: Channel, link: Link) -> Receiver:
        """Take a link from the channel server.

        Raises:
            RemoteProtocolError: the channel is taken, or the Instance is over.
        """
        if self.is_over:
            raise RemoteProtocolError(f"Instance {self.id} has ended")
        if channel in self._links:
            raise RemoteProtocolError(f"channel {channel.value} of Instance {self.id} is taken")
        self._links[channel] = link
        if channel in _OUTBOUND:
            self._open_outbound.add(channel)
            self._drained.clear()
        match channel:
            case Channel.STDIN:
                self.stdin.attach(link)
            case Channel.IN:
                self.input.attach(link)
            case _:
                pass
        self._greet()
        ended = lambda: self._channel_ended(channel)  # noqa: E731 - said three times below
        match channel:
            case Channel.OUT:
                self.output.on_room = link.resume_reading
                return OutputReceiver(self.output, link, ended)
            case Channel.STDOUT:
                return WindowReceiver(self.stdout, ended)
            case Channel.STDERR:
                return WindowReceiver(self.stderr, ended)
            case Channel.LOG:
                return LogReceiver(self._log_merge, ended)
            case Channel.MONITORING:
                return MessageReceiver(self._take, self._bad_message, ended)
            case _:
                return SilentReceiver()

    def _channel_ended(self, channel: Channel) -> None:
        self._open_outbound.discard(channel)
        if not self._open_outbound:
            self._drained.set()

    def _bad_message(self, error: RemoteProtocolError) -> None:
        self.note(Level.WARN, f"monitoring: {error}")

    def _take(self, message: Message) -> None:
        match message:
            case Ping():
                self._take_ping(message)
            case Monitoring():
                self._send(MonitoringReply())
                self._report = message.report
                self._reported.set()
            case Pang():
                self._take_pang(message)
            case Alive():
                self._handle(KeptAlive())
            case SequenceStopped():
                if message.error is not None:
                    self.note(Level.WARN, "the Sequence stopped with an error", message.error)
                self._handle(SequenceEnded())
            case SequenceCompleted():
                self._handle(SequenceEnded(max(EXIT_DELAY, message.timeout_ms / 1000)))
            case Unknown():
                self.note(Level.WARN, f"monitoring: unknown message code {message.number} is ignored")
            case Pong() | Stop() | Kill() | MonitoringRate() | MonitoringReply():
                self.note(
                    Level.WARN, f"monitoring: message code {message.code} is for runners, and is ignored"
                )
            case _:
                pass  # what is reserved, or has no meaning for a hub yet

    def _take_ping(self, message: Ping) -> None:
        if message.instance_id not in ("", self.id):
            self.note(Level.WARN, f"monitoring: a PING of Instance {message.instance_id[:80]} is ignored")
            return
        self._ping = message
        self._header_sent = self._header_sent or message.input_headers_sent
        self._greet()

    def _take_pang(self, message: Pang) -> None:
        self.provides = self.provides or message.provides or ""
        self.requires = self.requires or message.requires or ""
        if not self.up.is_set():
            self._handle(Up())
            self.up.set()

    def _greet(self) -> None:
        """Answer the PING once all links are there; what waited for that goes out after it."""
        if self._greeted or self._ping is None or not self._links.keys() >= REQUIRED_CHANNELS:
            return
        self._greeted = True
        self._links[Channel.CONTROL].write(self._pong)
        self.started = time.time()
        for message in self._waiting_messages:
            self._send(message)

    def _send(self, message: Message) -> None:
        link = self._links.get(Channel.CONTROL)
        if link is not None and self._greeted:
            link.write(encode(message))
        elif isinstance(message, Kill) and self._process is not None:
            self._process.kill()  # nobody listens yet
        else:
            self._waiting_messages.append(message)

    def _handle(self, event: LifeEvent) -> None:
        try:
            effects = self._life.handle(event, self._loop.time())
        except RefusedEventError:
            logger.debug("Instance %s: %r has no meaning now", self.id, event)
            return
        for effect in effects:
            self._perform(effect)
        self._arm()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect.message)
            case ForceKill() if self._process is not None:
                self._process.kill()
            case _:
                pass

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._life.deadline
        self._timer = (
            None if deadline is None else self._loop.call_at(deadline, self._handle, DeadlinePassed())
        )
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    async def _next_change(self) -> None:
        if self._changed is None:
            self._changed = self._loop.create_future()
        await asyncio.shield(self._changed)


# --- receivers: what each channel does with its bytes ---------------------------------------------------------------


class SilentReceiver:
    """For channels on which a runner says nothing."""

    def received(self, chunk: bytes) -> None:
        """Ignore bytes."""

    def ended(self) -> None:
        """Ignore the end."""


class WindowReceiver:
    """Puts bytes into a window that never makes a Sequence wait."""

    def __init__(self, window: Window, ended: Callable[[], None]) -> None:
        self._window = window
        self.ended = ended

    def received(self, chunk: bytes) -> None:
        """Keep bytes."""
        self._window.write(chunk)


class OutputReceiver:
    """Puts bytes into a window and stops reading the link while it is full: the Sequence waits."""

    def __init__(self, window: Window, link: Link, ended: Callable[[], None]) -> None:
        self._window = window
        self._link = link
        self.ended = ended

    def received(self, chunk: bytes) -> None:
        """Keep bytes."""
        if not self._window.write(chunk) and self._window.on_room is not None:
            self._link.pause_reading()


class MessageReceiver:
    """Cuts bytes into messages."""

    def __init__(
        self,
        take: Callable[[Message], None],
        complain: Callable[[RemoteProtocolError], None],
        ended: Callable[[], None],
    ) -> None:
        self._take = take
        self._complain = complain
        self._ended = ended
        self._decoder = Decoder()

    def received(self, chunk: bytes) -> None:
        """Hand on each whole message; a bad one is complained about and skipped."""
        self._decoder.feed(chunk)
        self._hand_on()

    def ended(self) -> None:
        """Complain about an unfinished message."""
        self._decoder.end()
        self._hand_on()
        self._ended()

    def _hand_on(self) -> None:
        while True:
            try:
                for message in self._decoder:
                    self._take(message)
                return
            except RemoteProtocolError as error:
                self._complain(error)


class LogMerge:
    """One log of two sources: the runner's bytes, whole lines only, and the hub's own records between them."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._tail = b""

    def add_bytes(self, chunk: bytes) -> None:
        """Take the runner's bytes, cut anywhere."""
        cut = chunk.rfind(b"\n") + 1
        if cut:
            self._window.write(self._tail + chunk[:cut] if self._tail else chunk[:cut])
            self._tail = chunk[cut:]
        else:
            self._tail += chunk
        if len(self._tail) > _MAX_LOG_LINE:
            self._window.write(self._tail + b"\n")
            self._tail = b""

    def add_record(self, line: bytes) -> None:
        """Take a record of the hub's."""
        if not self._window.ended:
            self._window.write(line)

    def end(self) -> None:
        """Give out the last line, though nobody has ended it."""
        if self._tail:
            self._window.write(self._tail + b"\n")
            self._tail = b""


class LogReceiver:
    """Puts the runner's log into the merged one."""

    def __init__(self, merge: LogMerge, ended: Callable[[], None]) -> None:
        self._merge = merge
        self.ended = ended

    def received(self, chunk: bytes) -> None:
        """Keep bytes."""
        self._merge.add_bytes(chunk)


def _last_line(text: bytes) -> str:
    lines = [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip()[:_DETAIL_LENGTH] if lines else ""


def _iso(moment: float | None) -> str | None:
    """Return a moment as ``2026-11-23T18:19:56.652Z``."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
