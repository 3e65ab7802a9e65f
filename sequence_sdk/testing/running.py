"""The seam between a test and a stage: what is to run, what runs, and how it ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sequence_sdk.account import Account

from .subject import Subject


@dataclass(frozen=True, slots=True)
class Exit:
    """How a Sequence ended; ``code`` and ``reason`` are those of an Instance on a hub."""

    code: int
    reason: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Event:
    """What ``context.emit`` sent."""

    name: str
    message: Any


@dataclass(frozen=True, slots=True)
class Log:
    """A record of the log; ``level`` is one of FATAL, ERROR, WARN, INFO, DEBUG, TRACE."""

    level: str
    message: str


@dataclass(frozen=True, slots=True)
class Order:
    """What is to run. ``scratch`` is an empty folder that goes when the test has ended."""

    subject: Subject
    scratch: Path
    content_type: str
    args: Sequence[Any] = ()
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Told:
    """What a Sequence has told so far, beside its output; a stage adds to it as it comes."""

    events: list[Event] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)
    stdout: str = ""
    stderr: str = ""


class Running(Protocol):
    """One run of a Sequence. All calls come from the event loop of the test, and may be cancelled."""

    @property
    def told(self) -> Told:
        """What it has told; complete when ``wait`` has returned."""
        ...

    async def write(self, chunk: bytes) -> None:
        """Send bytes to the input; returns when there is room for more. After the end of the Sequence they are lost."""

    async def end(self) -> None:
        """End the input."""

    async def read(self) -> bytes:
        """Return the next bytes of the output, cut anywhere; ``b""`` at its end, whether it is complete or not."""
        ...

    async def emit(self, name: str, message: Any) -> None:
        """Send an event to the Sequence."""

    async def stop(self, seconds: float) -> None:
        """Ask for an end within so many seconds, and wait for it."""

    async def kill(self, *, crash: bool = False) -> None:
        """End it at once; with ``crash`` as if the machine had."""

    async def wait(self) -> Exit:
        """Wait for the end."""
        ...

    async def account(self) -> Account:
        """Return the newest account of its items that is known."""
        ...

    async def news(self) -> None:
        """Wait until there may be something new to see, a moment at most."""

    async def close(self) -> None:
        """End it if it has not, and give back everything."""


class Backend(Protocol):
    """Where Sequences run. Made once in a test session, when the first test asks for it."""

    async def launch(self, order: Order) -> Running:
        """Start a Sequence.

        Raises:
            SubjectNotFound: this stage cannot run it.
        """
        ...

    def close(self) -> None:
        """End everything; not in an event loop."""
