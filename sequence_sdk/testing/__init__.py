"""Test a Sequence: the same test in process, in a runner process, and on a hub. The guide is docs/testing.md.

It is loaded by pytest in projects that may not use it, so everything here is imported when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clock import VirtualTime, VirtualTimeImpossible, run_virtual
    from .errors import CrashInjected, SequenceFailed, SubjectNotFound, TestingError, WaitedInVain
    from .run import Run
    from .running import Event, Exit, Log
    from .stage import Stage

__all__ = [
    "CrashInjected",
    "Event",
    "Exit",
    "Log",
    "Run",
    "SequenceFailed",
    "Stage",
    "SubjectNotFound",
    "TestingError",
    "VirtualTime",
    "VirtualTimeImpossible",
    "WaitedInVain",
    "run_virtual",
]

_HOMES = {
    "clock": ("VirtualTime", "VirtualTimeImpossible", "run_virtual"),
    "errors": ("CrashInjected", "SequenceFailed", "SubjectNotFound", "TestingError", "WaitedInVain"),
    "run": ("Run",),
    "running": ("Event", "Exit", "Log"),
    "stage": ("Stage",),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415 - as everything here, when it is asked for

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
