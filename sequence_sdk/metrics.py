"""``context.metrics``: numbers of the author's that the hub shows."""

import math
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat, SupportsIndex, TypeVar

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.]*")

Source = Callable[[], Mapping[str, Any]]


def _number(value: Any) -> float:
    """Return a plain number for whatever is one: a Decimal, a Fraction, a number of an array library."""
    if isinstance(value, SupportsIndex):
        return int(value)
    if not isinstance(value, SupportsFloat):
        raise TypeError(f"a metric is a number, not {type(value).__name__}")
    return float(value)


class _Metric:
    """A number with a name. It may be changed from any thread."""

    kind = ""

    def __init__(self, name: str, help: str = "") -> None:
        self.name = name
        self.help = help
        self._value: int | float = 0
        self._lock = threading.Lock()

    @property
    def value(self) -> int | float:
        """The number now."""
        return self._value


class Counter(_Metric):
    """A number that only grows; it begins at 0."""

    kind = "counter"

    def add(self, n: SupportsFloat = 1) -> None:
        """Add to it.

        Raises:
            ValueError: ``n`` is below 0.
            TypeError: ``n`` is no number.
        """
        number = n if type(n) is int or type(n) is float else _number(n)
        if number < 0:
            raise ValueError(
                f"the counter {self.name!r} only grows: {n} is below 0; a gauge may go up and down"
            )
        with self._lock:
            self._value += number


class Gauge(_Metric):
    """A number that goes up and down; it begins at 0."""

    kind = "gauge"

    def set(self, x: SupportsFloat) -> None:
        """Let it be ``x``.

        Raises:
            TypeError: ``x`` is no number.
        """
        number = x if type(x) is int or type(x) is float else _number(x)
        with self._lock:
            self._value = number

    def add(self, x: SupportsFloat) -> None:
        """Add to it; what is below 0 takes away.

        Raises:
            TypeError: ``x`` is no number.
        """
        number = x if type(x) is int or type(x) is float else _number(x)
        with self._lock:
            self._value += number


M = TypeVar("M", bound=_Metric)


class Metrics:
    """All metrics of an Instance. Everything here may be called from any thread."""

    def __init__(self) -> None:
        self._metrics: dict[str, _Metric] = {}
        self._sources: list[Source] = []
        self._lock = threading.Lock()

    def counter(self, name: str, help: str = "") -> Counter:
        """Return the counter of a name: a new one, or the one there is.

        Args:
            name: letters, digits, ``_`` and ``.``; the first is a letter or ``_``.
            help: a sentence for people.

        Raises:
            ValueError: the name has other characters, or is that of another kind of metric.
        """
        return self._metric(Counter, name, help)

    def gauge(self, name: str, help: str = "") -> Gauge:
        """Return the gauge of a name: a new one, or the one there is.

        Args:
            name: letters, digits, ``_`` and ``.``; the first is a letter or ``_``.
            help: a sentence for people.

        Raises:
            ValueError: the name has other characters, or is that of another kind of metric.
        """
        return self._metric(Gauge, name, help)

    def register(self, source: Source) -> None:
        """Let ``source`` add numbers of its own, by their names, whenever metrics are shown.

        It is called from any thread, also while the event loop is blocked, and answers at once. One that raises adds
        nothing that time.
        """
        with self._lock:
            self._sources.append(source)

    def snapshot(self) -> dict[str, Any]:
        """Return what all metrics are now, by name; one that is not finite is left out."""
        with self._lock:
            values = {name: metric.value for name, metric in self._metrics.items()}
        return {
            **{name: value for name, value in values.items() if math.isfinite(value)},
            **self._registered(),
        }

    def _registered(self) -> dict[str, Any]:
        with self._lock:
            sources = list(self._sources)
        found: dict[str, Any] = {}
        for source in sources:
            try:
                found.update(source())
            except Exception:  # noqa: BLE001, S112 - author's code, and the report goes on without it
                continue
        return found

    def _metric(self, kind: type[M], name: str, help: str) -> M:
        known = self._metrics.get(name)
        if known is None:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no name of a metric: use letters, digits, '_' and '.', and begin with a letter or '_'"
                )
            if name in self._registered():
                raise ValueError(f"the metric {name!r} is there already, and is not the author's to set")
            with self._lock:
                known = self._metrics.setdefault(name, kind(name, help))
        if type(known) is not kind:
            raise ValueError(
                f"the metric {name!r} is a {known.kind} already, and cannot be a {kind.kind} too"
            )
        return known
