"""The thread that keeps touch with the hub: it reads control, writes monitoring, and beats.

It is a thread of its own so that kill, stop and health work while the author's code blocks the event loop. It never waits
for the author, nor for a hub that does not read.
"""

import contextlib
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, Protocol

from .errors import HubUnreachable
from .protocol.codec import Decoder, encode
from .protocol.errors import LocalProtocolError, RemoteProtocolError
from .protocol.exit_codes import ExitCode
from .protocol.lifecycle import (
    CallKillHandlers,
    CallStopHandlers,
    DeadlinePassed,
    Effect,
    ExitNow,
    KeptAlive,
    KillRequested,
    Launched,
    LifeEvent,
    PeerLost,
    RefusedEventError,
    RunnerLife,
    State,
    StopRequested,
    Up,
)
from .protocol.messages import (
    Acknowledge,
    DescribeSequence,
    Error,
    Event,
    InputContentType,
    Kill,
    Message,
    Monitoring,
    MonitoringRate,
    MonitoringReply,
    Ping,
    Pong,
    Reload,
    Reloaded,
    Status,
    Stop,
    Unknown,
)
from .report import blocked_hint

PATIENCE = 0.25  # seconds the event loop has to answer a beat before it is reported as blocked
_SHORTEST, _LONGEST = 0.01, 3600.0  # seconds between two beats, whatever rate the hub asks for
_MAX_OUTGOING = 1024 * 1024  # bytes that wait for a hub that does not read; then emitters wait too
_LINE_END = b"\r\n"


class Author(Protocol):
    """The author's side, in the event loop. Each method may be called from the thread and returns at once."""

    def probe(self, answer: Callable[[dict[str, Any]], None]) -> None:
        """Let the loop call ``answer`` with a health report when it has a turn."""

    def stop(self, seconds: float, can_keep_alive: bool) -> None:
        """Let the stop handlers run and close the Sequence."""

    def kill(self, done: Callable[[], None]) -> bool:
        """Let the kill handlers run, then call ``done``; return False if there are none."""
        ...

    def event(self, name: str, message: Any) -> None:
        """Hand an event to the author's handlers."""

    def reload(self, path: str) -> None:
        """Let the code of another entry file go on with the next item, and tell the hub whether it does."""

    def metrics(self) -> dict[str, Any]:
        """Return the numbers that are reported beside the health; empty if there are none."""
        ...


class Heartbeat:
    """Control and monitoring of one runner. ``start`` it, ``wait_for_pong``, ``attach`` the author, then it runs by itself."""

    def __init__(
        self,
        control: socket.socket,
        monitoring: socket.socket,
        *,
        warn: Callable[[str], None],
        package: str = "",
        exit_process: Callable[[int], NoReturn] = os._exit,
    ) -> None:
        """Take the two links.

        Args:
            control: what the hub says.
            monitoring: what the hub is told.
            warn: called from the thread with a sentence about a message that was no message; it must not wait.
            package: the author's folder; a blocked loop is reported at the innermost line inside it.
            exit_process: ends the process at once with a code.
        """
        control.setblocking(False)
        monitoring.setblocking(False)
        self._control = control
        self._monitoring = monitoring
        self._warn = warn
        self._package = package and os.path.join(package, "")  # noqa: PTH118 - names of code files are strings
        self._exit_process = exit_process
        self._decoder = Decoder()
        self._life = RunnerLife()
        self._life_lock = threading.Lock()
        self._author: Author | None = None
        self._pong = threading.Event()
        self._answer: Pong | None = None
        self._interval = 1.0
        self._next_beat: float | None = None
        self._probe_sent: float | None = None  # when, while it is unanswered
        self._patience_ends: float | None = None  # for that probe, until it is reported
        self._loop_over = False
        self._block_told = False
        self._killed = False  # the kill handlers have run
        self._closed = False
        self._last_report: dict[str, Any] = {"healthy": True}
        self._outgoing = bytearray()
        self._sending = threading.Condition()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._main = threading.main_thread().ident
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._hub_gone = False
        self._told_all = False  # monitoring is closed by us, and takes no more

    # --- called by the main thread and the author's ---------------------------------------------------------------

    def start(self, ping: Ping) -> None:
        """Start the thread; the PING goes out first."""
        self._handle(Launched())
        self.send(ping)
        self._thread.start()

    def wait_for_pong(self) -> Pong:
        """Wait for the hub's answer and return it.

        Raises:
            HubUnreachable: the hub closed its control link instead.
        """
        self._pong.wait()
        if self._answer is None:
            raise HubUnreachable("the hub closed the control link instead of answering the PING")
        return self._answer

    def attach(self, author: Author) -> None:
        """Say who answers probes, stops and events from now on, and send the first report.

        Events that came before are gone, for nobody had asked for them.
        """
        self._report(self._last_report)
        self._author = author

    def detach(self) -> None:
        """Say that the author's loop is over. Reports go on, with the last there was, until the process ends.

        While a kill is under way this does not return: the process ends with the code of that.
        """
        self._loop_over = True
        self._probe_sent = self._patience_ends = None
        if self._life.state is State.KILLING:
            threading.Event().wait()

    def send(self, message: Message) -> None:
        """Send a monitoring message, from any thread; waits while a hub that does not read is 1 MiB behind.

        After ``close`` nothing is sent.

        Raises:
            LocalProtocolError: the message is not JSON.
        """
        line = encode(message, line_end=_LINE_END)
        with self._sending:
            while (
                len(self._outgoing) > _MAX_OUTGOING
                and not self._hub_gone
                and threading.current_thread() is not self._thread
            ):
                self._sending.wait()
            if self._told_all:
                return  # a beat that was due in the same moment; its failure would look like the end of the hub
            waiting = bool(self._outgoing)
            self._outgoing += line
            if not waiting:
                self._write()
            left = bool(self._outgoing)
        if left and not waiting:
            self._wake()

    def up(self) -> None:
        """Say that the Sequence runs."""
        self._handle(Up())

    def kept_alive(self) -> bool:
        """Say that the Sequence wants to live on after a stop; return whether it may."""
        self._handle(KeptAlive())
        return not self._life.stop_requested

    @property
    def stop_requested(self) -> bool:
        """Tell whether a stop is under way."""
        return self._life.stop_requested

    @property
    def hub_gone(self) -> bool:
        """Tell whether the hub has ended control, or takes no monitoring."""
        return self._hub_gone

    @property
    def abandoned(self) -> bool:
        """Tell whether the hub is gone and has left an author's code behind."""
        return self._hub_gone and self._author is not None

    def close(self) -> None:
        """Send the last metrics, wait until everything is sent, and half-close monitoring; safe to call twice.

        A hub that does not read is waited for; a kill, or its own end, ends that.
        """
        if not self._closed and self._author is not None and self._author.metrics():
            self._report(self._last_report, last=True)
        self._closed = True
        with self._sending:
            while self._outgoing and not self._hub_gone:
                self._sending.wait()
            self._next_beat = None
            self._told_all = True
            with contextlib.suppress(OSError):
                self._monitoring.shutdown(socket.SHUT_WR)

    def discard(self) -> None:
        """Give back what is held by one whose thread was never started."""
        self._wake_reader.close()
        self._wake_writer.close()

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_reader, select.POLLIN)
        watching = False
        while True:
            with self._sending:
                wanted = bool(self._outgoing) and not self._hub_gone
            if wanted != watching:
                if wanted:
                    poll.register(self._monitoring, select.POLLOUT)
                else:
                    poll.unregister(self._monitoring)
                watching = wanted
            for descriptor, _ in poll.poll(self._timeout()):
                if descriptor == self._wake_reader.fileno():
                    self._drain_wakes()
                elif descriptor == self._monitoring.fileno():
                    with self._sending:
                        self._write()
                elif not self._read_control():
                    poll.unregister(self._control)
                    self._lose_hub()
                    if self._answer is None:
                        return  # who waits for it ends the process
            self._keep_time(time.monotonic())

    def _timeout(self) -> int | None:
        moments = [self._next_beat, self._patience_ends, self._life.deadline]
        known = [moment for moment in moments if moment is not None]
        return max(0, int((min(known) - time.monotonic()) * 1000) + 1) if known else None

    def _keep_time(self, now: float) -> None:
        if self._life.deadline is not None and (now >= self._life.deadline or self._killed):
            self._handle(DeadlinePassed())
        sent, patience_ends, next_beat = self._probe_sent, self._patience_ends, self._next_beat
        due = next_beat is not None and now >= next_beat
        if next_beat is not None and due:
            self._next_beat = max(next_beat + self._interval, now)
        if self._loop_over:
            if due:
                self._report(self._last_report)
        elif sent is not None:  # one probe at a time: a blocked loop needs no second one
            if (patience_ends is not None and now >= patience_ends) or (due and now >= sent + PATIENCE):
                self._patience_ends = None
                blocked = {"seconds": round(now - sent, 3), **self._where()}
                self._report({**self._last_report, "blocked": blocked})
                self._warn_of_block(blocked)
        elif due and self._author is not None:
            self._probe_sent, self._patience_ends = now, now + PATIENCE
            self._author.probe(self._answered)

    def _warn_of_block(self, blocked: dict[str, Any]) -> None:
        """Say once how to keep the loop free."""
        hint = "" if self._block_told else blocked_hint(blocked, self._package)
        if hint:
            self._block_told = True
            self._warn(hint)

    def _answered(self, report: dict[str, Any]) -> None:
        """Take the loop's answer to the probe; in the loop's thread."""
        self._last_report = report
        self._probe_sent = self._patience_ends = None
        self._report(report)

    def _report(self, report: dict[str, Any], *, last: bool = False) -> None:
        with self._sending:
            behind = bool(self._outgoing)
        if last or not behind:  # a hub that does not read needs no second report
            report = self._with_metrics(report)
            try:
                self.send(Monitoring(report))
            except LocalProtocolError as error:
                self.send(
                    Monitoring({"healthy": False, "error": f"the health report cannot be sent: {error}"})
                )

    def _with_metrics(self, report: dict[str, Any]) -> dict[str, Any]:
        metrics = self._author.metrics() if self._author is not None else {}
        own = report.get("metrics")  # of an author who puts numbers into the report by hand
        if not metrics or (own is not None and not isinstance(own, dict)):
            return report
        return {**report, "metrics": {**metrics, **(own or {})}}

    def _where(self) -> dict[str, Any]:
        """Return file and line the main thread is at, the author's innermost one if there is any.

        A file of the package is named as it is there.
        """
        frame: FrameType | None = sys._current_frames().get(self._main or 0)
        innermost, place = frame, None
        while frame is not None:
            if self._package and frame.f_code.co_filename.startswith(self._package):
                place = frame
                break
            frame = frame.f_back
        found = place or innermost
        if found is None:
            return {}
        return {"file": found.f_code.co_filename.removeprefix(self._package), "line": found.f_lineno}

    def _read_control(self) -> bool:
        """Read what is there; return False at the end."""
        try:
            chunk = self._control.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._decoder.feed(chunk)
        if not chunk:
            self._decoder.end()
        while True:
            try:
                for message in self._decoder:
                    self._take(message)
                return bool(chunk)
            except RemoteProtocolError as error:
                self._warn(f"control: {error}")

    def _take(self, message: Message) -> None:
        match message:
            case Pong():
                self._answer = message
                # Here, in the thread: nobody has to wake it for that.
                self._next_beat = time.monotonic() + self._interval
                self._pong.set()
            case Stop():
                self._handle(StopRequested(message.timeout_ms, message.can_keep_alive))
            case Kill():
                self._handle(KillRequested())
            case MonitoringRate():
                self._interval = min(max(1 / message.per_second, _SHORTEST), _LONGEST)
                self._next_beat = self._next_beat and time.monotonic()
            case Event():
                if self._author is not None:
                    self._author.event(message.name, message.message)
            case Reload() if self._author is not None:
                self._author.reload(message.path)
            case Reload():
                self.send(Reloaded("the Sequence has not begun"))
            case Unknown():
                self._warn(f"control: unknown message code {message.number} is ignored")
            case MonitoringReply():
                pass
            case DescribeSequence() | Error() | Acknowledge() | Status() | InputContentType():
                pass  # reserved
            case _:
                self._warn(f"control: {type(message).__name__} is not for a runner, and is ignored")

    def _lose_hub(self) -> None:
        with self._sending:
            self._hub_gone = True
            self._sending.notify_all()
        if self._answer is not None:
            self._handle(PeerLost())
        self._pong.set()

    def _handle(self, event: LifeEvent) -> None:
        with self._life_lock:
            try:
                effects = self._life.handle(event, time.monotonic())
            except RefusedEventError:
                return  # a hub may say what has no meaning any more
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case ExitNow():
                self._exit_process(effect.code)
            case CallStopHandlers() if self._author is not None:
                self._author.stop(effect.timeout_ms / 1000, effect.can_keep_alive)
            case CallStopHandlers():
                self._exit_process(ExitCode.STOPPED)  # nothing of the author's has run
            case CallKillHandlers():
                if self._author is None or self._loop_over or not self._author.kill(self._kill_handled):
                    self._handle(DeadlinePassed())
            case _:
                pass

    def _kill_handled(self) -> None:
        self._killed = True
        self._wake()

    def _write(self) -> None:
        """Send what waits, as far as the hub takes it; under the lock."""
        try:
            while self._outgoing:
                del self._outgoing[: self._monitoring.send(self._outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self._hub_gone = True
            self._outgoing.clear()
        self._sending.notify_all()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_writer.send(b".")

    def _drain_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_reader.recv(1024):
                pass
