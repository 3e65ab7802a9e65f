"""What ``@sequence`` has found out about a function."""

import inspect
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


def spec_of(thing: Any) -> SequenceSpec | None:
    """Return what ``@sequence`` attached to a function, or None; anything may be asked about."""
    found = inspect.getattr_static(thing, ATTRIBUTE, None)  # a lazy proxy in a module may raise anything
    return found if isinstance(found, SequenceSpec) else None
