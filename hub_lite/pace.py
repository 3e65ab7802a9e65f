"""How often Instances report when there are many of them: what they cost at rest must not grow with their number."""

_REPORTS = 100.0  # a second, of all Instances together; each takes half a millisecond of a processor
_SLOWEST = 1 / 64  # reports a second of each


def pace_for(count: int) -> float:
    """Return how many reports a second each of so many Instances is to make: 1, or a half, a quarter and so on of that."""
    rate = 1.0
    while rate * count > _REPORTS and rate > _SLOWEST:
        rate /= 2
    return rate


class Pace:
    """The pace of a hub, as its Instances come and go."""

    def __init__(self) -> None:
        self.rate = 1.0  # reports a second of each Instance

    def changes(self, count: int) -> bool:
        """Take the number of Instances, and tell whether the pace has changed.

        It gets slower as soon as there are too many, and faster only when a third more would be no problem: one Instance that
        comes and goes does not make all others change.
        """
        slower, faster = pace_for(count), pace_for(count + count // 3)
        before = self.rate
        self.rate = slower if slower < before else max(before, faster)
        return self.rate != before
