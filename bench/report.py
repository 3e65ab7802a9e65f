"""The results of a run as a table, as Markdown, as JSON, and beside those of another run."""

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .measure import HUB, Figure, Result

_BEGIN = "<!-- figures: written by `python -m bench --update-readme` -->"
_END = "<!-- end of figures -->"
_COLUMNS = ("figure", "contender", "median", "min..max", "hub / it", "min..max", "goal (aim)", "met")
_RIGHT = (2, 3, 4, 5)


class NoRun(Exception):
    """A file holds no run to compare with; ``str()`` of it says why."""


@dataclass(frozen=True, slots=True)
class Run:
    """Everything there is to tell about a run."""

    machine: dict[str, str]
    rounds: int
    quick: bool
    results: dict[str, list[Result]]  # of each case
    absent: dict[str, str]  # cases that could not be measured, and why
    wrong: dict[str, str]  # cases with a wrong result

    def to_json(self) -> str:
        """Return the run as JSON, every value of every round included."""
        figures = [
            {
                "case": case,
                "figure": result.figure.name,
                "title": result.figure.title,
                "unit": result.figure.unit,
                "values": result.values,
            }
            for case, results in self.results.items()
            for result in results
        ]
        members = {
            "machine": self.machine,
            "rounds": self.rounds,
            "quick": self.quick,
            "figures": figures,
            "absent": self.absent,
            "wrong": self.wrong,
        }
        return json.dumps(members, indent=2, ensure_ascii=False) + "\n"


def machine(root: Path) -> dict[str, str]:
    """Return what a reader has to know of the machine and of what was measured."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %z"),
        "commit": _commit(root),
        "processor": f"{os.cpu_count()} × {_processor()}",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": " ".join(f"{value:.1f}" for value in os.getloadavg()),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.processor() or platform.machine()


def _commit(root: Path) -> str:
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}, with changes" if changed else commit


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


# --- tables ---------------------------------------------------------------------------------------------------------


def table(run: Run) -> str:
    """Return the run as a table for a terminal."""
    rows = [_COLUMNS, *_rows(run)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = [
        "  ".join(
            text.rjust(width) if column in _RIGHT else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def markdown(run: Run) -> str:
    """Return the run as Markdown: the machine, then the table."""
    lines = [f"* {name}: {value}" for name, value in run.machine.items()]
    lines += [f"* rounds: {run.rounds}{', quick form' if run.quick else ''}", ""]
    lines += ["| " + " | ".join(_COLUMNS) + " |"]
    lines += ["|" + "|".join("--:" if column in _RIGHT else "---" for column in range(len(_COLUMNS))) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(run)]
    return "\n".join(lines)


def update(readme: Path, run: Run) -> None:
    """Put the run between the two marks of a page.

    Raises:
        ValueError: the page lacks them.
    """
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{readme} lacks the marks {_BEGIN!r} and {_END!r} that the figures stand between")
    readme.write_text(f"{before}{_BEGIN}\n\n{markdown(run)}\n\n{_END}{after}", encoding="utf-8")


def _rows(run: Run) -> Iterator[tuple[str, ...]]:
    for results in run.results.values():
        for result in results:
            yield from _rows_of(result)


def _rows_of(result: Result) -> Iterator[tuple[str, ...]]:
    figure, goal = result.figure, result.figure.goal
    on_value = goal is not None and not result.baselines
    wanted, met = _goal(figure, median(result.values[HUB])) if on_value else ("", "")
    title = f"{figure.title}, {figure.unit}"
    yield (title, HUB, *_spread(result.values[HUB]), "", "", wanted, met)
    for number, name in enumerate(result.baselines):
        ratios = result.ratios(name)
        wanted, met = _goal(figure, median(ratios)) if number == 0 else ("", "")
        yield ("", name, *_spread(result.values[name]), *_spread(ratios), wanted, met)


def _goal(figure: Figure, value: float) -> tuple[str, str]:
    goal = figure.goal
    if goal is None:
        return "", ""
    sign = "≥" if figure.more_is_better else "≤"
    met = "aim" if figure.meets(value, goal.aim) else "yes" if figure.meets(value, goal.least) else "no"
    return f"{sign} {goal.least:.3g} ({goal.aim:.3g})", met


def _spread(values: list[float]) -> tuple[str, str]:
    return number(median(values)), f"{number(min(values))}..{number(max(values))}"


def number(value: float) -> str:
    """Return three digits of a number, never in powers of ten."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


# --- comparison -----------------------------------------------------------------------------------------------------


def comparison(run: Run, path: Path) -> str:
    """Return, for each figure that both have, an earlier run, this one, and whether their spreads part.

    Raises:
        NoRun: the file holds none.
    """
    earlier = read(path)
    lines: list[str] = []
    for case, results in run.results.items():
        for result in results:
            values = earlier.get((case, result.figure.name))
            if values is not None:
                lines += _compared(case, result, values)
    if not lines:
        raise NoRun(f"{path} has no figure of this run")
    return "\n".join([f"compared with {path} (earlier -> now):", *lines])


def read(path: Path) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Return the values of a run that was written with ``--json``, by case and figure.

    Raises:
        NoRun: the file holds none.
    """
    try:
        members: Any = json.loads(path.read_text(encoding="utf-8"))
        return {(one["case"], one["figure"]): dict(one["values"]) for one in members["figures"]}
    except OSError as error:
        raise NoRun(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise NoRun(f"{path} was not written by `python -m bench --json`") from None


def _compared(case: str, result: Result, earlier: dict[str, list[float]]) -> Iterator[str]:
    figure = result.figure
    yield _change(f"{case}: {figure.title}, {figure.unit}", figure, earlier.get(HUB, []), result.values[HUB])
    for name in result.baselines:
        if name in earlier and HUB in earlier:
            before = Result(figure, earlier).ratios(name)
            yield _change(f"    to {name}", figure, before, result.ratios(name))


def _change(what: str, figure: Figure, before: list[float], now: list[float]) -> str:
    if not before:
        return f"{what}: {number(median(now))}, new"
    old, new = median(before), median(now)
    if min(now) > max(before) or max(now) < min(before):
        verdict = "better" if (new > old) == figure.more_is_better else "WORSE"
    else:
        verdict = "within the spread"
    times = f"{new / old:.2f}×" if old else ""
    return f"{what}: {number(old)} -> {number(new)}  {times}  {verdict}"
