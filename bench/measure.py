"""Figures, cases, and rounds in which every contender of a case has its turn."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from .hub import Hub

HUB = "hub"  # the contender that all others are baselines for

Contender = Callable[[], Mapping[str, float]]  # one turn; gives a value for each figure it has one for
Contenders = dict[str, Contender]


class NotHere(Exception):
    """A case cannot be measured on this machine or with this hub; ``str()`` of it says why."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What the project wants: of the ratio to the first baseline, or of the value where there is none."""

    least: float
    aim: float


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that is measured."""

    name: str
    title: str
    unit: str
    more_is_better: bool
    goal: Goal | None = None

    def meets(self, value: float, bound: float) -> bool:
        """Tell whether a value is as good as a bound."""
        return value >= bound if self.more_is_better else value <= bound


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    octet_blocks: int = 256  # MiB
    items: int = 300_000
    starts: int = 5  # a round gives their median
    burst: int = 16
    round_trips: int = 2_000
    requests: int = 20_000
    listed_instances: int = 10
    idle_instances: int = 50
    idle_streams: int = 500
    uploads: int = 20  # a round gives their median
    packed_bytes: int = 300_000_000  # of a large package, about
    topic_blocks: int = 1_000  # MiB, of all readers together
    topic_messages: int = 5_000
    many_instances: int = 500
    rest_seconds: float = 10.0  # in which they do nothing
    ends: int = 5  # a round gives their median
    passed_blocks: int = 10_000  # MiB
    stalled_blocks: int = 256  # MiB; more than fits between a sender and a reader that reads nothing


QUICK = Sizes(
    octet_blocks=3,
    items=3_000,
    starts=1,
    burst=2,
    round_trips=20,
    requests=160,
    listed_instances=2,
    idle_instances=2,
    idle_streams=10,
    uploads=2,
    packed_bytes=1_000_000,
    topic_blocks=2,
    topic_messages=50,
    many_instances=5,
    rest_seconds=0.2,
    ends=1,
    passed_blocks=3,
    stalled_blocks=64,
)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a case has to work with."""

    hub: Hub
    sizes: Sizes
    pool: Executor  # of two processes: one that sends and one that relays or echoes
    folder: Path  # for files and sockets; it goes when the case is over
    own: bool  # the hub was started by the benchmark
    socat: str | None  # where it is


@dataclass(frozen=True, slots=True)
class Case:
    """Figures that are measured together. ``contenders`` prepares them and clears up behind them."""

    name: str
    about: str
    figures: tuple[Figure, ...]
    contenders: Callable[[Setup], AbstractContextManager[Contenders]]


@dataclass(slots=True)
class Result:
    """What one figure was for each contender, round by round; the hub is the first."""

    figure: Figure
    values: dict[str, list[float]] = field(default_factory=dict)

    def ratios(self, baseline: str) -> list[float]:
        """Return hub to baseline, round by round: what slows the machine for a while slows both."""
        return [ours / theirs for ours, theirs in zip(self.values[HUB], self.values[baseline], strict=True)]

    @property
    def baselines(self) -> list[str]:
        """The contenders beside the hub."""
        return [name for name in self.values if name != HUB]


def run_case(case: Case, setup: Setup, rounds: int, progress: Callable[[str], None]) -> list[Result]:
    """Return the results of a case: every contender has its turn in every round, in rising and falling order by turns.

    Raises:
        WrongResult: a contender lost, changed or misplaced something.
        NotHere: the case cannot be measured here.
    """
    results = [Result(figure) for figure in case.figures]
    with case.contenders(setup) as contenders:
        for number in range(rounds):
            order = list(contenders) if number % 2 == 0 else list(reversed(contenders))
            for name in order:
                progress(f"{case.name}: round {number + 1} of {rounds}, {name}")
                values = contenders[name]()
                for result in results:
                    if result.figure.name in values:
                        result.values.setdefault(name, []).append(values[result.figure.name])
        names = list(contenders)
    for result in results:
        result.values = {name: result.values[name] for name in names if name in result.values}
    return [result for result in results if HUB in result.values]
