"""Memory of hub and runner while much passes through them, and while a reader stalls."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from . import authors
from .hub import Hub
from .measure import HUB, Case, Contenders, Figure, Goal, NotHere, Setup
from .payload import Checker, Kind, Payload, WrongResult
from .processes import Process, resident_memory
from .streams import through_instance
from .wire import LAST_CHUNK, Connection

_SETTLED = 0.5  # seconds in which no more is taken: then everything between sender and reader is full


def process_of(hub: Hub) -> Process:
    """Return the process of a hub.

    Raises:
        NotHere: it is not known.
    """
    if hub.process is None:
        raise NotHere("the process of the hub is not known; say --hub-pid")
    return hub.process


class Peak:
    """The most memory of a process since ``reset``; Linux only."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._folder = Path(f"/proc/{process.pid}")
        self._before = 0.0

    @staticmethod
    def is_known() -> bool:
        """Tell whether the system can say how large a process has been."""
        return Path("/proc/self/clear_refs").exists()

    def reset(self) -> None:
        """Begin anew with what it has now."""
        (self._folder / "clear_refs").write_text("5")
        self._before = resident_memory(self._process)

    def growth(self) -> float:
        """Return by how many MiB the process was larger than at the reset, at most."""
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return max(0.0, int(line.split()[1]) / 1024 - self._before)
        raise NotHere("the system does not say how large a process has been")


class _Sender:
    """Sends a payload as input, from a thread; `blocks` says how much of it has been taken so far."""

    def __init__(self, hub: Hub, instance: str, payload: Payload) -> None:
        self.blocks = 0
        self._hub = hub
        self._head = hub.input_head(instance, payload.kind, end=True)
        self._payload = payload

    def run(self) -> None:
        """Send all of it, and end the input."""
        with self._hub.connection() as http:
            http.link.sendall(self._head)
            for block in self._payload.chunked():
                http.link.sendall(block)
                self.blocks += 1
            http.link.sendall(LAST_CHUNK)
            http.expect_success()
            http.rest()

    def wait_settled(self, running: "Future[None]") -> None:
        """Return when nobody takes any more, or everything is sent."""
        seen = -1
        while self.blocks != seen and not running.done():
            seen = self.blocks
            threading.Event().wait(_SETTLED)


def _read_late(reader: Connection, checker: Checker) -> Iterator[None]:
    """Take one piece, let the caller wait, and take the rest."""
    pieces = reader.pieces()
    checker.take(next(pieces))
    yield
    for piece in pieces:
        checker.take(piece)
    checker.end()


@contextmanager
def _memory(setup: Setup) -> Iterator[Contenders]:
    hub_process = process_of(setup.hub)
    if not Peak.is_known():
        raise NotHere("the system does not say how large a process has been")
    hub = setup.hub
    much = Payload(Kind.OCTETS, setup.sizes.passed_blocks)
    held = Payload(Kind.OCTETS, setup.sizes.stalled_blocks)

    @contextmanager
    def watched() -> Iterator[tuple[str, Peak, Peak]]:
        """Start an Instance that has passed something on already, and watch it and the hub from then on."""
        with hub.instance(sequence) as instance, hub.connection() as http:
            with hub.connection() as reader:
                reader.open(hub.path("instance", instance, "output"))
                http.link.sendall(hub.input_head(instance, Kind.OCTETS, end=False))
                http.link.sendall(b"1\r\nx\r\n" + LAST_CHUNK)
                if bytes(next(reader.pieces())) != b"x":
                    raise WrongResult("the first byte has not come back")
                http.expect_success()
                http.rest()
            peaks = Peak(hub_process), Peak(hub.runner(http, instance))
            for peak in peaks:
                peak.reset()
            yield instance, *peaks

    def pass_much() -> dict[str, float]:
        with watched() as (instance, of_hub, of_runner):
            _, values = through_instance(
                setup, instance, much, lambda: {"hub": of_hub.growth(), "runner": of_runner.growth()}
            )
            return values

    def stall() -> dict[str, float]:
        with (
            watched() as (instance, of_hub, of_runner),
            hub.connection() as reader,
            ThreadPoolExecutor(1) as pool,
        ):
            reader.open(hub.path("instance", instance, "output"))
            sender, checker = _Sender(hub, instance, held), Checker(held)
            sending = pool.submit(sender.run)
            sending.add_done_callback(lambda done: reader.break_off() if done.exception() else None)
            reading = _read_late(reader, checker)
            next(reading)
            sender.wait_settled(sending)
            values = {"stalled_hub": of_hub.growth(), "stalled_runner": of_runner.growth()}
            if next(reading, None) is not None:
                raise WrongResult("the stream goes on after its end")
            sending.result()
            return values

    with hub.sequence(authors.PASS_ON, gives=Kind.OCTETS) as sequence:
        yield {HUB: lambda: {**pass_much(), **stall()}}


MEMORY = Case(
    "memory",
    "growth of hub and runner while 10 GB pass through, and while a reader stalls",
    tuple(
        Figure(name, f"growth of the {who} {when}, peak RSS", "MiB", False, Goal(32, 8))
        for name, who, when in (
            ("hub", "hub", "during 10 GB"),
            ("runner", "runner", "during 10 GB"),
            ("stalled_hub", "hub", "while a reader stalls"),
            ("stalled_runner", "runner", "while a reader stalls"),
        )
    ),
    _memory,
)
