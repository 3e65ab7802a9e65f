"""Earthquakes, a day a line: how many, how strong, where - each line sent as soon as its day is over."""

import math
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator
from datetime import UTC, datetime
from typing import Any

from sequence_sdk import sequence

REGION_NAMES = {"CA": "California", "MX": "Mexico"}  # the feed writes these both ways


class Tally:
    """What is kept of the quakes of one period; it grows with the regions, not with the quakes."""

    def __init__(self) -> None:
        self.magnitudes: Counter[int] = Counter()
        self.regions: Counter[str] = Counter()
        self.strongest: dict[str, Any] | None = None

    def add(self, magnitude: float, place: str, at: datetime) -> None:
        """Count one quake."""
        self.magnitudes[math.floor(magnitude)] += 1
        self.regions[region(place)] += 1
        if self.strongest is None or magnitude > self.strongest["magnitude"]:
            time = f"{at:%Y-%m-%dT%H:%M:%SZ}"
            self.strongest = {"magnitude": magnitude, "place": place, "time": time}

    def line(self, period: str, top: int) -> dict[str, Any]:
        """Return the period as one output item, with its ``top`` regions by number of quakes."""
        return {
            "period": period,
            "quakes": self.magnitudes.total(),
            "strongest": self.strongest,
            "magnitudes": {f"{floor}+": self.magnitudes[floor] for floor in sorted(self.magnitudes)},
            "regions": dict(self.regions.most_common(top)),
        }


@sequence(takes="application/x-ndjson", gives="application/x-ndjson")
async def days(
    features: AsyncIterable[dict[str, Any]], at_least: float = 2.5, top: int = 3
) -> AsyncIterator[dict[str, Any]]:
    """Yield one line a day (UTC) as the days pass, then one line for all of them.

    Shape: each item is a GeoJSON feature of the USGS earthquake feeds, oldest first. Quakes weaker than
    magnitude ``at_least`` and whatever is no earthquake (quarry blasts, explosions) are left out.

    Raises:
        ValueError: a feature is of an earlier day than the one before it.
    """
    first_day = today = ""
    day, whole = Tally(), Tally()
    async for feature in features:
        event = feature["properties"]
        at = datetime.fromtimestamp(event["time"] / 1000, UTC)
        date = f"{at:%Y-%m-%d}"
        if date < today:
            raise ValueError(
                f"{feature['id']} is of {date}, after one of {today}: sort the input by properties.time"
            )
        if date > today:
            if today:
                yield day.line(today, top)
            first_day, today, day = first_day or date, date, Tally()
        if event["type"] == "earthquake" and event["mag"] is not None and event["mag"] >= at_least:
            day.add(event["mag"], event["place"], at)
            whole.add(event["mag"], event["place"], at)
    if today:
        yield day.line(today, top)
        yield whole.line(f"{first_day}/{today}", top)


def region(place: str) -> str:
    """Return the last part of a place: ``4km W of Castaic, CA`` is in ``California``."""
    name = place.rpartition(", ")[2]
    return REGION_NAMES.get(name, name)
