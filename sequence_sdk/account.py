"""What has become of the items of an input: each is taken, and ends up out, skipped or quarantined, or is still pending."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """How many items the Sequence has taken, and what has become of them; ``taken == out + skipped + quarantined + pending``."""

    taken: int = 0
    out: int = 0  # their handling is over: the Sequence has asked for more, or has ended well
    skipped: int = 0
    quarantined: int = 0

    @property
    def pending(self) -> int:
        """The items that the Sequence has in hand."""
        return self.taken - self.out - self.skipped - self.quarantined

    def to_metrics(self) -> dict[str, int]:
        """Return the account as the hub shows it, under the metric ``items``."""
        return {
            "in": self.taken,
            "out": self.out,
            "skipped": self.skipped,
            "quarantined": self.quarantined,
        }
