"""The life of an Instance: one transition table for both sides, and what each side does on the way.

``Lifecycle.handle(event, now)`` changes the state or refuses; it returns effects for the shell to perform. Time comes in, nothing
here waits: the shell arms a timer for ``deadline`` and hands in ``DeadlinePassed`` when it rings.

Source: docs/protocol.md, "Stop, kill and end".
"""

from dataclasses import dataclass
from enum import StrEnum

from .errors import ProtocolError
from .exit_codes import ExitCode, exit_code_of, reason_for
from .messages import Kill, Message, Stop

KILL_GRACE = 0.5  # seconds between KILL and the force that needs no consent; a kill is over within one second
EXIT_DELAY = 15.0  # seconds a Sequence that says it is over may take to exit
LINGER = 1.0  # seconds a stopped Sequence may take to exit once its stop handlers have run
KILL_HANDLERS_GRACE = (
    0.2  # seconds the author's kill handlers have together; less than KILL_GRACE, or force cuts them
)
HUB_LOST_GRACE = 2.0  # seconds a Sequence has to stop when its hub is gone


class State(StrEnum):
    """Where an Instance stands; the values are the ``status`` that people see."""

    INITIALIZING = "initializing"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    KILLING = "killing"
    COMPLETED = "completed"
    ERRORED = "errored"


LIVE = frozenset({State.INITIALIZING, State.STARTING, State.RUNNING, State.STOPPING, State.KILLING})
ENDED = frozenset({State.COMPLETED, State.ERRORED})


class RefusedEventError(ProtocolError):
    """The event has no meaning in this state; nothing has changed."""

    def __init__(self, state: State, event: "LifeEvent") -> None:
        super().__init__(state, event)
        self.state = state
        self.event = event

    def __str__(self) -> str:
        return f"{type(self.event).__name__} is refused while {self.state}"


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Launched:
    """The process is there (hub), the links are open (runner)."""


@dataclass(frozen=True, slots=True)
class Up:
    """The Sequence is loaded and runs: the first PANG."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody wants a polite end."""

    timeout_ms: float = 7000
    can_keep_alive: bool = False


@dataclass(frozen=True, slots=True)
class KeptAlive:
    """The Sequence asked to live on."""


@dataclass(frozen=True, slots=True)
class KillRequested:
    """Somebody wants the end at once."""


@dataclass(frozen=True, slots=True)
class SequenceEnded:
    """The Sequence says it is over and will exit (SEQUENCE_STOPPED, SEQUENCE_COMPLETED)."""

    exit_within: float = EXIT_DELAY


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The other side is gone: the control link ended."""


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The moment in ``Lifecycle.deadline`` has come."""


@dataclass(frozen=True, slots=True)
class EndedWell:
    """The process has ended, as it should or as was asked."""


@dataclass(frozen=True, slots=True)
class EndedBadly:
    """The process has ended by itself in failure."""


LifeEvent = (
    Launched
    | Up
    | StopRequested
    | KeptAlive
    | KillRequested
    | SequenceEnded
    | PeerLost
    | DeadlinePassed
    | EndedWell
    | EndedBadly
)


# --- effects ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send a control message to the runner."""

    message: Message


@dataclass(frozen=True, slots=True)
class ForceKill:
    """End the process by means it cannot refuse."""


@dataclass(frozen=True, slots=True)
class CallStopHandlers:
    """Let the author's stop handlers run, then close the Sequence."""

    timeout_ms: float
    can_keep_alive: bool


@dataclass(frozen=True, slots=True)
class CallKillHandlers:
    """Let the author's kill handlers run, if there are any; hand in DeadlinePassed when they have run."""


@dataclass(frozen=True, slots=True)
class ExitNow:
    """End this process at once with a code."""

    code: int


Effect = Send | ForceKill | CallStopHandlers | CallKillHandlers | ExitNow


# --- the table --------------------------------------------------------------------------------------------------------

TRANSITIONS: dict[tuple[State, type[LifeEvent]], State] = {
    (State.INITIALIZING, Launched): State.STARTING,
    (State.INITIALIZING, StopRequested): State.STOPPING,
    (State.STARTING, Up): State.RUNNING,
    (State.STARTING, StopRequested): State.STOPPING,
    (State.STARTING, PeerLost): State.STOPPING,
    (State.RUNNING, Up): State.RUNNING,
    (State.RUNNING, StopRequested): State.STOPPING,
    (State.RUNNING, KeptAlive): State.RUNNING,
    (State.RUNNING, SequenceEnded): State.RUNNING,
    (State.RUNNING, PeerLost): State.STOPPING,
    (State.RUNNING, DeadlinePassed): State.KILLING,
    (State.STOPPING, Launched): State.STOPPING,
    (State.STOPPING, Up): State.STOPPING,
    (State.STOPPING, StopRequested): State.STOPPING,
    (State.STOPPING, KeptAlive): State.RUNNING,
    (State.STOPPING, SequenceEnded): State.STOPPING,
    (State.STOPPING, PeerLost): State.STOPPING,
    (State.STOPPING, DeadlinePassed): State.KILLING,
    (State.KILLING, Launched): State.KILLING,
    (State.KILLING, Up): State.KILLING,
    (State.KILLING, KeptAlive): State.KILLING,
    (State.KILLING, SequenceEnded): State.KILLING,
    (State.KILLING, PeerLost): State.KILLING,
    (State.KILLING, DeadlinePassed): State.KILLING,
    **{(state, KillRequested): State.KILLING for state in LIVE},
    **{(state, EndedWell): State.COMPLETED for state in LIVE},
    **{(state, EndedBadly): State.ERRORED for state in LIVE},
}


class Lifecycle:
    """The state of one Instance. ``HubLife`` and ``RunnerLife`` say what each side does at a transition."""

    def __init__(self) -> None:
        self.state = State.INITIALIZING
        self.deadline: float | None = None  # on the clock of ``now``; None when there is nothing to wait for
        self.stop_requested = False
        self.kill_requested = False
        self._can_keep_alive = False

    def handle(self, event: LifeEvent, now: float) -> list[Effect]:
        """Change the state and return what is to be done.

        Raises:
            RefusedEventError: the event has no meaning in this state; nothing has changed.
        """
        after = TRANSITIONS.get((self.state, type(event)))
        if after is None:
            raise RefusedEventError(self.state, event)
        if isinstance(event, KeptAlive) and (after is State.KILLING or not self._can_keep_alive):
            return []  # nobody has leave to outlive a kill, nor a stop that gives none
        before, self.state = self.state, after
        match event:
            case StopRequested():
                self.stop_requested = True
                self._can_keep_alive = event.can_keep_alive
            case KillRequested():
                self.kill_requested = True
            case KeptAlive():
                self.stop_requested = self._can_keep_alive = False
                self.deadline = None
            case EndedWell() | EndedBadly():
                self.deadline = None
            case _:
                pass
        return self._effects(event, before, now)

    def _effects(self, event: LifeEvent, before: State, now: float) -> list[Effect]:
        raise NotImplementedError

    def _within(self, seconds: float, now: float) -> None:
        """Bring the deadline forward; never push it back."""
        moment = now + seconds
        self.deadline = moment if self.deadline is None else min(self.deadline, moment)


class HubLife(Lifecycle):
    """The hub's side: it sends STOP and KILL, and ends what does not listen."""

    def _effects(self, event: LifeEvent, before: State, now: float) -> list[Effect]:
        match event:
            case StopRequested():
                self._within(event.timeout_ms / 1000, now)
                return [Send(Stop(event.timeout_ms, event.can_keep_alive))]
            case SequenceEnded() if self.state is State.STOPPING:
                self._within(LINGER, now)
            case SequenceEnded() if self.state is State.RUNNING:
                self._within(event.exit_within, now)
            case KillRequested() if before is State.INITIALIZING:
                return [ForceKill()]  # nobody is there to be told
            case KillRequested() if before is State.KILLING:
                return []
            case KillRequested():
                self.deadline = now + KILL_GRACE
                return [Send(Kill())]
            case DeadlinePassed() if before is State.KILLING:
                self.deadline = None
                return [ForceKill()]
            case DeadlinePassed():
                self.deadline = now + KILL_GRACE
                return [Send(Kill())]
            case _:
                pass
        return []

    def end(self, returncode: int, now: float, *, main: str = "", detail: str = "") -> tuple[int, str]:
        """Take the end of the process; return the exit code and the reason that people see.

        Args:
            returncode: what the child wait gave; ``-n`` is a death by signal n.
            now: the moment, on the clock of ``handle``.
            main: the entry file of the package.
            detail: the last line the process wrote to stderr, which says more than a code.
        """
        code, signalled = exit_code_of(returncode), returncode < 0
        if self.state in (State.STOPPING, State.KILLING):
            code = (
                code
                if code in (ExitCode.SUCCESS, ExitCode.KILLED, ExitCode.STOPPED)
                else self._requested_code()
            )
            if code == ExitCode.SUCCESS and self.state is State.KILLING:
                code = self._requested_code()
            self.handle(EndedWell(), now)
            return code, reason_for(code)
        if not signalled and code in (ExitCode.SUCCESS, ExitCode.KILLED, ExitCode.STOPPED):
            self.handle(EndedWell(), now)
            return code, reason_for(code)
        self.handle(EndedBadly(), now)
        reason = reason_for(code, main=main, signalled=signalled)
        return code, f"{reason}: {detail}" if detail else reason

    def _requested_code(self) -> ExitCode:
        return ExitCode.STOPPED if self.stop_requested and not self.kill_requested else ExitCode.KILLED


class RunnerLife(Lifecycle):
    """The runner's side: it lets the author's handlers run, and exits when told or when alone."""

    def _effects(self, event: LifeEvent, before: State, now: float) -> list[Effect]:
        match event:
            case StopRequested() if before is State.STOPPING:
                return []  # the handlers are running already
            case StopRequested():
                return [CallStopHandlers(event.timeout_ms, event.can_keep_alive)]
            case PeerLost() if before is State.KILLING:
                return []
            case PeerLost() if before is State.STOPPING:
                self._within(HUB_LOST_GRACE, now)
                return []
            case PeerLost():
                self.stop_requested = True
                self._within(HUB_LOST_GRACE, now)
                return [CallStopHandlers(HUB_LOST_GRACE * 1000, can_keep_alive=False)]
            case DeadlinePassed() if before is State.KILLING:
                self.deadline = None
                return [ExitNow(ExitCode.STOPPED if self.stop_requested else ExitCode.KILLED)]
            case KillRequested() if before is State.KILLING:
                return []
            case KillRequested() | DeadlinePassed():
                self.deadline = now + KILL_HANDLERS_GRACE
                return [CallKillHandlers()]
            case _:
                return []
