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
from .protocol.errors import RemoteProtocolError
from .protocol.lifecycle import (
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
    StopRequested,
    Up,
)
from .protocol.messages import Event, Kill, Message, Monitoring, MonitoringRate, Ping, Pong, Stop, Unknown

PATIENCE = 0.25  # seconds the event loop has to answer a beat before it is reported as blocked
_MAX_OUTGOING = 1024 * 1024  # bytes that wait for a hub that does not read; then emitters wait too
_LINE_END = b"\r\n"


class Author(Protocol):
    """The author's side, in the event loop. Each method may be called from the thread and returns at once."""

    def probe(self, answer: Callable[[dict[str, Any]], None]) -> None:
        """Let the loop call ``answer`` with a health report when it has a turn."""

    def stop(self, seconds: float, can_keep_alive: bool) -> None:
        """Let the stop handlers run and close the Sequence."""

    def event(self, name: str, message: Any) -> None:
        """Hand an event to the author's handlers."""


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
            warn: called from the thread with a sentence about a message that was no message.
            package: the author's folder; a blocked loop is reported at the innermost line inside it.
            exit_process: ends the process at once with a code.
        """
        control.setblocking(False)
        monitoring.setblocking(False)
        self._control = control
        self._monitoring = monitoring
        self._warn = warn
        self._package = package
        self._exit_process = exit_process
        self._decoder = Decoder()
        self._life = RunnerLife()
        self._author: Author | None = None
        self._pong = threading.Event()
        self._answer: Pong | None = None
        self._interval = 1.0
        self._next_beat: float | None = None
        self._probe_number = 0
        self._probe_sent: float | None = None  # when, while it is unanswered
        self._last_report: dict[str, Any] = {"healthy": True}
        self._outgoing = bytearray()
        self._sending = threading.Condition()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._main = threading.main_thread().ident
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._hub_gone = False

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
        """Say who answers probes, stops and events from now on, and begin to beat. What came before is delivered."""
        self._author = author
        self._next_beat = time.monotonic()
        self._wake()

    def send(self, message: Message) -> None:
        """Send a monitoring message, from any thread; waits while a hub that does not read is 1 MiB behind.

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

    def kept_alive(self) -> None:
        """Say that the Sequence lives on after a stop."""
        self._handle(KeptAlive())

    @property
    def stop_requested(self) -> bool:
        """Tell whether a stop is under way."""
        return self._life.stop_requested

    def close(self) -> None:
        """Flush what is to be sent, as far as the hub takes it, and half-close monitoring; safe to call twice."""
        with self._sending, contextlib.suppress(OSError):
            self._monitoring.setblocking(True)
            self._monitoring.settimeout(1.0)
            self._monitoring.sendall(self._outgoing)
            self._outgoing.clear()
            self._monitoring.shutdown(socket.SHUT_WR)

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
            self._keep_time(time.monotonic())

    def _timeout(self) -> int | None:
        moments = [self._next_beat, self._life.deadline]
        if self._probe_sent is not None:
            moments.append(self._probe_sent + PATIENCE)
        known = [moment for moment in moments if moment is not None]
        return max(0, int((min(known) - time.monotonic()) * 1000) + 1) if known else None

    def _keep_time(self, now: float) -> None:
        if self._life.deadline is not None and now >= self._life.deadline:
            self._handle(DeadlinePassed())
        if self._probe_sent is not None and now >= self._probe_sent + PATIENCE:
            blocked, self._probe_sent = now - self._probe_sent, None
            self._report({**self._last_report, "blocked": {"seconds": round(blocked, 3), **self._where()}})
        if self._next_beat is not None and now >= self._next_beat and self._author is not None:
            self._next_beat = max(self._next_beat + self._interval, now)
            self._probe_number += 1
            number = self._probe_number
            self._probe_sent = now
            self._author.probe(lambda report: self._answered(number, report))

    def _answered(self, number: int, report: dict[str, Any]) -> None:
        """Take the loop's answer to a probe; in the loop's thread."""
        self._last_report = report
        if number == self._probe_number and self._probe_sent is not None:
            self._probe_sent = None
            self._report(report)

    def _report(self, report: dict[str, Any]) -> None:
        with self._sending:
            behind = bool(self._outgoing)
        if not behind:  # a hub that does not read needs no second report
            try:
                self.send(Monitoring(report))
            except ValueError:
                self.send(
                    Monitoring({"healthy": False, "error": f"the health report is not JSON: {report!r:.200}"})
                )

    def _where(self) -> dict[str, Any]:
        """Return file and line the main thread is at, the author's innermost one if there is any."""
        frame: FrameType | None = sys._current_frames().get(self._main or 0)
        innermost, place = frame, None
        while frame is not None:
            if self._package and frame.f_code.co_filename.startswith(self._package):
                place = frame
                break
            frame = frame.f_back
        found = place or innermost
        return {} if found is None else {"file": found.f_code.co_filename, "line": found.f_lineno}

    def _read_control(self) -> bool:
        """Read what is there; return False at the end."""
        try:
            chunk = self._control.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._decoder.feed(chunk)
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
                self._pong.set()
            case Stop():
                self._handle(StopRequested(message.timeout_ms, message.can_keep_alive))
            case Kill():
                self._handle(KillRequested())
            case MonitoringRate():
                self._interval = 1 / message.per_second
                self._next_beat = self._next_beat and time.monotonic()
            case Event():
                if self._author is not None:
                    self._author.event(message.name, message.message)
            case Unknown():
                self._warn(f"control: unknown message code {message.number} is ignored")
            case _:
                pass  # MONITORING_REPLY, and what only a runner says

    def _lose_hub(self) -> None:
        with self._sending:
            self._hub_gone = True
            self._sending.notify_all()
        self._pong.set()
        self._handle(PeerLost())

    def _handle(self, event: LifeEvent) -> None:
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
                self._exit_process(138)  # nothing of the author's has run
            case _:
                pass

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
