"""What Sequences count and measure: checked where it comes in, and told to Prometheus.

Source: docs/protocol.md, "Monitoring and health".
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_METRICS = 256  # numbers of one Instance
MAX_NAME = 200  # characters of a name

_PREFIX = "hub_lite_sequence_"
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Number = int | float
Metrics = dict[str, Any]  # numbers, and objects of numbers


@dataclass(frozen=True, slots=True)
class Checked:
    """What of a report can be shown; ``fault`` is a sentence about the rest, empty if there is none."""

    metrics: Metrics
    fault: str


def checked(value: object) -> Checked:
    """Return the metrics in a report: names with finite numbers, or with an object of such names."""
    if not isinstance(value, Mapping):
        return Checked({}, f"metrics must be an object, not {_shown(value)}")
    kept: Metrics = {}
    faults: list[str] = []
    count = 0
    for path, number in _leaves(value):
        name = ".".join(path)
        if (fault := _fault(path, number)) is not None:
            faults.append(f"{name[:MAX_NAME]!r} {fault}")
        elif count == MAX_METRICS:
            faults.append(f"there are more than {MAX_METRICS}")
            break
        else:
            count += 1
            outer, *inner = path
            if inner:
                kept.setdefault(outer, {})[inner[0]] = number
            else:
                kept[outer] = number
    shown = "; ".join(faults[:3])
    return Checked(kept, f"metrics are left out: {shown}" if faults else "")


def _leaves(value: Mapping[Any, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, one in value.items():
        if isinstance(one, Mapping):
            yield from (((name, inner), leaf) for inner, leaf in one.items())
        else:
            yield (name,), one


def _fault(path: tuple[str, ...], value: object) -> str | None:
    if not all(path):
        return "has an empty name"
    if any(len(name) > MAX_NAME for name in path):
        return f"has a name of more than {MAX_NAME} characters"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number, not {_shown(value)}"
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float can be
        finite = False
    return None if finite else "must be a finite number"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def of_sequences(instances: Iterable[tuple[Mapping[str, str], Mapping[str, Any]]]) -> Iterator[str]:
    """Yield the lines of what Instances count: labels and metrics each.

    Names are those of the Sequence, after ``hub_lite_sequence_``, with ``_`` for what no name may have. Where that makes two
    the same, the first one counts.
    """
    samples: dict[str, dict[str, Number]] = {}
    for labels, metrics in instances:
        marks = _labels(labels)
        for path, number in _leaves(metrics):
            name = _PREFIX + _NOT_IN_A_NAME.sub("_", "_".join(path))
            samples.setdefault(name, {}).setdefault(marks, number)
    for name, values in samples.items():
        yield f"# TYPE {name} untyped"
        yield from (f"{name}{marks} {number!r}" for marks, number in values.items())


def gauge(name: str, help_text: str, values: Iterable[tuple[Mapping[str, str], Number]]) -> Iterator[str]:
    """Yield the lines of a gauge of the hub's own."""
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} gauge"
    yield from (f"{name}{_labels(labels)} {number!r}" for labels, number in values)


def _labels(labels: Mapping[str, str]) -> str:
    """Return labels as they stand behind a name."""
    said = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{said}}}" if said else ""
