"""What ``@sequence`` has found out about a function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ATTRIBUTE = "__sequence__"


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """How to call the function, and the content types it declares (None: not declared)."""

    takes: str | None
    gives: str | None
    wants_context: bool


CLASSIC = SequenceSpec(takes=None, gives=None, wants_context=True)
"""A module's ``run(context, input, *args)``."""


def spec_of(function: Callable[..., Any]) -> SequenceSpec | None:
    """Return what ``@sequence`` attached to a function, or None."""
    found = getattr(function, ATTRIBUTE, None)
    return found if isinstance(found, SequenceSpec) else None
