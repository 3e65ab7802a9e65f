"""One Instance: its process, its links, its streams and its life."""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from runner.protocol.channels import REQUIRED_CHANNELS, Channel
from runner.protocol.codec import encode
from runner.protocol.errors import RemoteProtocolError
from runner.protocol.exit_codes import ExitCode
from runner.protocol.input_header import encode_input_header
from runner.protocol.lifecycle import (
    ENDED,
    EXIT_DELAY,
    DeadlinePassed,
    Effect,
    EndedBadly,
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
    Event,
    InputContentType,
    Kill,
    Message,
    Monitoring,
    MonitoringRate,
    MonitoringReply,
    Pang,
    Ping,
    Pong,
    Reload,
    Reloaded,
    SequenceCompleted,
    SequenceStopped,
    Stop,
    Unknown,
)

from .channel_server import Link, Receiver
from .descriptions import KeptText
from .errors import BadRequest, Conflict, Gone, HubError, NotAcceptable
from .events import EventBook
from .inlets import Inlet, InletWriter
from .last_words import code_of_old_runner, detail_that_was_lost, last_line
from .metrics import Metrics, checked
from .mux import MakeProtocol, MuxCarrier
from .ports import LeftOver, RunnerProcess, StoredSequence
from .receivers import (
    LogMerge,
    LogReceiver,
    MessageReceiver,
    OutputReceiver,
    SilentReceiver,
    WindowReceiver,
)
from .settings import Settings
from .windows import Window, WindowError

_OUTBOUND = (Channel.STDOUT, Channel.STDERR, Channel.MONITORING, Channel.OUT, Channel.LOG)
# Only a child that has left the process group can hold a link open after the end. It counts as drained when nothing is there.
_DRAIN_CHECK = 0.05  # seconds between two looks at such links
_DRAIN_TIMEOUT = 2.0  # seconds until a child that writes on and on is heard no more
_DETAIL_BYTES = 4096  # of stderr, to find its last line
# A Node runner takes what comes together with the prologue for text, and spoils bytes. It logs that it has read the prologue;
# one that does not is waited for in vain, once.
_HEADER_SIGN = b'"msg":"Content-Type"'
_HEADER_TIMEOUT = 1.0  # seconds
_REPLY = encode(MonitoringReply())  # to each report, of which every Instance sends one a second

logger = logging.getLogger(__name__)


class ReloadFailed(HubError):
    """The new code cannot be used, and the old goes on; ``why`` is what the runner says."""

    status = 422
    reason = "Unprocessable Entity"

    def __init__(self, instance_id: str, why: str) -> None:
        super().__init__(instance_id, why)
        self.instance_id = instance_id
        self.why = why

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True, slots=True)
class StartPayload:
    """What a start asks for; passed on to the runner as it came in ``raw``."""

    app_config: dict[str, Any] = field(default_factory=dict)
    args: list[Any] = field(default_factory=list)
    instance_id: str | None = None
    input_topic: str = ""
    output_topic: str = ""
    limits: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)


class Surroundings(Protocol):
    """What an Instance tells the hub around it."""

    def announced(self, instance: "Instance", pang: Pang) -> None:
        """Hear what the Sequence reads and writes."""

    def gives_output(self, instance: "Instance") -> None:
        """Hear that the first byte of its output is there."""

    def emitted(self, instance: "Instance", name: str, message: Any) -> None:
        """Hear an event."""


class Instance:
    """One run of a Sequence.

    Tell it that its process is ``launched``, let the channel server hand it its links, and ``run`` it: ``run`` returns when
    the Instance has ended and every byte it sent is in its windows.

    Raises:
        LocalProtocolError: configuration and arguments do not fit a message.
    """

    def __init__(
        self,
        instance_id: str,
        sequence: StoredSequence,
        payload: StartPayload,
        settings: Settings,
        surroundings: Surroundings | None = None,
        *,
        serve_stream: MakeProtocol | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.id = instance_id
        self.sequence = sequence
        self.payload = payload
        self.created = time.time()
        self.started: float | None = None
        self.ended: float | None = None
        self.terminated: dict[str, Any] | None = None
        self.provides = (
            payload.output_topic
        )  # the topics it writes and reads; the start's wins over the Sequence's
        self.requires = payload.input_topic
        self.events = EventBook()
        self.metrics: Metrics = {}  # the newest
        self.text = KeptText()  # of what the API shows of it
        self.reloading = asyncio.Lock()  # held by who reloads it
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
        self._surroundings = surroundings
        self._serve_stream = serve_stream  # what answers the requests of the Sequence
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
        self._taken_report: dict[str, Any] | None = None  # the same as it came
        self._reported = asyncio.Event()
        self._pace = 1.0  # reports a second, if nobody wants another rate
        self._rate_is_wanted = False  # that of its reports: somebody has asked for it
        self._metrics_fault = ""  # the last that was said in the log
        self._reloaded: asyncio.Future[Reloaded | None] | None = None
        self._header_sent = False
        self._header_taken: asyncio.Task[None] | None = None
        self._input_has_lines = True
        self._log_merge = LogMerge(self.log)
        self._changed: asyncio.Future[None] | None = None
        self._refusal = ""
        self._completed = False  # the runner has said that the output is whole

    @classmethod
    def lost(cls, left_over: LeftOver, settings: Settings) -> "Instance":
        """Return an Instance that ran when its hub ended without stopping it: it has failed, and its streams are empty.

        Raises:
            LocalProtocolError: configuration and arguments do not fit a message.
        """
        asked = left_over.payload
        payload = StartPayload(
            app_config=asked["appConfig"],
            args=asked["args"],
            instance_id=left_over.id,
            input_topic=asked["inputTopic"],
            output_topic=asked["outputTopic"],
            limits=asked["limits"],
        )
        instance = cls(left_over.id, left_over.sequence, payload, settings)
        instance.created = left_over.created
        instance._life.handle(EndedBadly(), instance._loop.time())
        instance._finish(ExitCode.ADAPTER_FAILED, "the hub ended before the Instance did", failed=True)
        return instance

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
            "created": iso(self.created),
            "started": iso(self.started),
            "ended": iso(self.ended),
            "status": self.state,
            "terminated": self.terminated,
            "metrics": self.metrics or None,
        }
        return {key: value for key, value in members.items() if value is not None}

    def facts(self, quarantined: int) -> tuple[object, ...]:
        """Return all that its description is made of and that may change: objects that are replaced, never changed in place."""
        return (
            quarantined,
            self.sequence,
            self.payload,
            self.provides,
            self.requires,
            self._ping,
            self.created,
            self.started,
            self.ended,
            self._life.state,
            self.terminated,
            self.metrics,
        )

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
                while self.state in (State.STOPPING, State.KILLING):
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
        await self.begin_input(content_type)
        return self.input.writer(lines=self._input_has_lines)

    async def begin_input(self, content_type: str) -> Link:
        """Say what the input is, if nobody has yet, and return its link.

        Raises:
            Gone: the input has ended.
        """
        link = await self.input.link()
        if not self._header_sent:
            header = encode_input_header(content_type)
            self._header_sent = True
            self._input_has_lines = not content_type.lower().startswith("application/octet-stream")
            if self.sequence.manifest.language == "js":
                self._header_taken = self._loop.create_task(self._send_header(link, header))
            else:
                link.write(header)
        if self._header_taken is not None:
            await asyncio.shield(self._header_taken)
        return link

    async def _send_header(self, link: Link, header: bytes) -> None:
        """Send the prologue and wait until a Node runner has read it."""
        with suppress(TimeoutError, WindowError), self.log.open("latest") as log:
            link.write(header)
            async with asyncio.timeout(_HEADER_TIMEOUT):
                while (chunk := await log.read()) and _HEADER_SIGN not in chunk:
                    pass

    def send_event(self, name: str, message: Any, *, source: str) -> None:
        """Hand an event to the Sequence.

        Raises:
            LocalProtocolError: it is longer than a message may be.
        """
        event = Event(name, message, source)
        line = encode(event)  # told now, not when it is sent
        link = self._links.get(Channel.CONTROL)
        if link is not None and self._greeted:
            link.write(line)
        else:
            self._send(event)

    def set_monitoring_rate(self, per_second: float) -> None:
        """Say how many reports a second are wanted."""
        self._rate_is_wanted = True
        self._send(MonitoringRate(per_second))

    def set_pace(self, per_second: float) -> None:
        """Say how many reports a second are enough, if nobody has said how many are wanted."""
        self._pace = per_second
        if self._greeted:
            self._tell_pace()

    def _tell_pace(self) -> None:
        if not self._rate_is_wanted and self._ping is not None and self._ping.can_reload:  # a runner of ours
            self._send(MonitoringRate(self._pace))

    def refuse_when_over(self) -> None:
        """Refuse what only an Instance that lives can do.

        Raises:
            BadRequest: it has ended.
        """
        if self.is_over:
            raise BadRequest(f"Instance not running: it is {self.state}")

    def refuse_reload(self) -> None:
        """Refuse new code that could not be handed over.

        Raises:
            BadRequest: it has ended.
            Conflict: it is stopping, its Sequence is still loading, or its runner cannot swap code.
        """
        self.refuse_when_over()
        if self.state is not State.RUNNING:
            raise Conflict(f"Instance {self.id} is {self.state}: it takes new code only while it is running")
        if self._ping is None or not self._ping.can_reload:
            raise Conflict(
                f"the runner of Instance {self.id} cannot swap code while it runs: stop the Instance, and start another one"
            )

    async def reload(self, sequence: StoredSequence) -> None:
        """Let the runner swap its code for that of ``sequence``; only who holds ``reloading`` may ask.

        Cancelled, it may have been swapped all the same.

        Raises:
            BadRequest, Conflict: as ``refuse_reload``.
            ReloadFailed: the code does not load; the Instance is as before.
            Gone: it ended before it had answered.
        """
        self.refuse_reload()
        self._reloaded = self._loop.create_future()
        self._send(Reload(str(sequence.directory / sequence.manifest.main)))
        answer = await self._reloaded
        if answer is None:
            raise Gone(f"Instance {self.id} has ended ({self.state}) before it had taken the new code")
        if answer.error:
            self.note(Level.ERROR, "the new code is not taken, the old goes on", answer.error)
            raise ReloadFailed(self.id, answer.error)
        self.sequence = sequence
        self.note(Level.INFO, "the code is swapped")

    def refuse(self, reason: str) -> None:
        """End an Instance that cannot go on as it is: it is killed, and errored for this reason."""
        self.note(Level.ERROR, reason)
        self._refusal = reason
        self.kill()

    async def wait_until_up(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - running out of it is no error
        """Wait until the Sequence is loaded, or the Instance is over, or ``timeout`` seconds have passed."""
        if self.up.is_set() or self.over.is_set():
            return
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
        self.events.close()
        self.over.set()
        self._reported.set()
        self._answer_reload(None)

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
        detail = last_line(self.stderr.tail(_DETAIL_BYTES)) or last_line(crash_log)
        if self._ping is not None and self._ping.is_bare:
            returncode = code_of_old_runner(returncode, up=self.up.is_set(), completed=self._completed)
            if self.sequence.manifest.language != "py":
                detail = detail or detail_that_was_lost(returncode, self.sequence.manifest.main)
        if self._refusal:
            code, reason = int(ExitCode.KILLED), self._refusal
            self._life.handle(EndedBadly(), self._loop.time())
        else:
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
                return OutputReceiver(self.output, link, ended, self._gives_output)
            case Channel.STDOUT:
                return WindowReceiver(self.stdout, ended)
            case Channel.STDERR:
                return WindowReceiver(self.stderr, ended)
            case Channel.LOG:
                return LogReceiver(self._log_merge, ended)
            case Channel.MONITORING:
                return MessageReceiver(self._take, self._bad_message, ended)
            case Channel.PACKAGE if self._serve_stream is not None:
                return MuxCarrier(link, self._serve_stream, warn=lambda text: self.note(Level.WARN, text))
            case _:
                return SilentReceiver()

    def _channel_ended(self, channel: Channel) -> None:
        self._open_outbound.discard(channel)
        if not self._open_outbound:
            self._drained.set()

    def _gives_output(self) -> None:
        if self._surroundings is not None:
            self._surroundings.gives_output(self)

    def _bad_message(self, error: RemoteProtocolError) -> None:
        self.note(Level.WARN, f"monitoring: {error}")

    def _take(self, message: Message) -> None:
        match message:
            case Ping():
                self._take_ping(message)
            case Monitoring():
                self._send(MonitoringReply())
                self._take_report(message.report)
                if self._completed and Channel.OUT not in self._open_outbound:
                    # It says the same when its Sequence has failed; but then it leaves at once, and reports no more.
                    self.output.end()
            case Pang():
                self._take_pang(message)
            case Alive():
                self._handle(KeptAlive())
            case SequenceStopped():
                self._take_stop(message)
            case Event():
                self._take_event(message)
            case SequenceCompleted():
                self._take_completion(message)
            case Reloaded():
                self._take_reloaded(message)
            case Unknown():
                self.note(Level.WARN, f"monitoring: unknown message code {message.number} is ignored")
            case Pong() | Stop() | Kill() | MonitoringRate() | MonitoringReply() | Reload():
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

    def _take_stop(self, message: SequenceStopped) -> None:
        if message.error is not None:
            self.note(Level.WARN, "the Sequence stopped with an error", message.error)
        self._handle(SequenceEnded())

    def _take_reloaded(self, message: Reloaded) -> None:
        if not self._answer_reload(message):
            self.note(Level.WARN, "monitoring: a RELOADED that nobody asked for is ignored")

    def _take_report(self, report: dict[str, Any]) -> None:
        if report is self._taken_report:  # the receiver knew its bytes
            return
        self._taken_report = report
        if "metrics" in report:
            found = checked(report["metrics"])
            report = {name: value for name, value in report.items() if name != "metrics"}
            if found.metrics or not found.fault:
                self.metrics = found.metrics
            if found.fault and found.fault != self._metrics_fault:  # once, not with each report
                self.note(Level.WARN, found.fault)
            self._metrics_fault = found.fault
        self._report = report
        self._reported.set()

    def _answer_reload(self, answer: Reloaded | None) -> bool:
        """Hand on what became of a RELOAD, None for an end before that; tell whether somebody has waited for it."""
        waiting, self._reloaded = self._reloaded, None
        if waiting is None or waiting.done():
            return False
        waiting.set_result(answer)
        return True

    def _take_event(self, message: Event) -> None:
        self.events.add(message.name, message.message)
        if self._surroundings is not None:
            self._surroundings.emitted(self, message.name, message.message)

    def _take_completion(self, message: SequenceCompleted) -> None:
        self._completed = True
        self._handle(SequenceEnded(max(EXIT_DELAY, message.timeout_ms / 1000)))

    def _take_pang(self, message: Pang) -> None:
        self.provides = self.provides or message.provides or ""
        self.requires = self.requires or message.requires or ""
        if not self.up.is_set():
            self._handle(Up())
            self.up.set()
        if message.requires and self._ping is not None and self._ping.is_bare:
            self._send(InputContentType(connected=True))  # docs/protocol.md, "Dialects": it waits for that
        if self._surroundings is not None:
            self._surroundings.announced(self, message)

    def _greet(self) -> None:
        """Answer the PING once all links are there; what waited for that goes out after it."""
        if self._greeted or self._ping is None or not self._links.keys() >= REQUIRED_CHANNELS:
            return
        self._greeted = True
        self._links[Channel.CONTROL].write(self._pong)
        self.started = time.time()
        for message in self._waiting_messages:
            self._send(message)
        if self._pace != 1:
            self._tell_pace()

    def _send(self, message: Message) -> None:
        link = self._links.get(Channel.CONTROL)
        if link is not None and self._greeted:
            link.write(_REPLY if isinstance(message, MonitoringReply) else encode(message))
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


def iso(moment: float | None) -> str | None:
    """Return a moment as ``2026-11-23T18:19:56.652Z``."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
