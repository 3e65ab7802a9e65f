"""Exit codes of a runner and what they say about its Instance.

Source: docs/protocol.md, "Exit codes".
"""

import signal
from enum import IntEnum


class ExitCode(IntEnum):
    """The codes with a meaning of their own; every other code above 0 is a failed runner."""

    SUCCESS = 0
    FAILED = 1
    MISSING_SETTINGS = 2
    SEQUENCE_UNPACK_FAILED = 10
    RUNNER_NOT_STARTED = 11
    INVALID_ENV_VARS = 20
    INVALID_SEQUENCE_PATH = 21
    SEQUENCE_FAILED_ON_START = 22
    SEQUENCE_FAILED_DURING_EXECUTION = 23
    PODS_LIMIT_REACHED = 24
    UNCAUGHT_EXCEPTION = 101
    KILLED = 137
    STOPPED = 138
    ADAPTER_FAILED = 213
    CLEANUP_FAILED = 223


_REASONS = {
    ExitCode.SUCCESS: "Instance completed",
    ExitCode.SEQUENCE_UNPACK_FAILED: "Sequence unpack failed",
    ExitCode.INVALID_ENV_VARS: "Runner was started with invalid configuration. This is probably a bug in STH.",
    ExitCode.INVALID_SEQUENCE_PATH: "Sequence entrypoint path {main} is invalid. Check `main` field in Sequence package.json",
    ExitCode.SEQUENCE_FAILED_ON_START: "Sequence failed on start",
    ExitCode.SEQUENCE_FAILED_DURING_EXECUTION: "Sequence failed during execution",
    ExitCode.PODS_LIMIT_REACHED: "Instance limit reached",
    ExitCode.KILLED: "Instance killed",
    ExitCode.STOPPED: "Instance stopped",
}

_SIGNALLED = 128  # a process that died of signal n is said to have exited with 128 + n, as shells do


def exit_code_of(returncode: int) -> int:
    """Return the exit code for what a child wait gave: itself, or 128 + n for a death by signal n (``-n``)."""
    return returncode if returncode >= 0 else _SIGNALLED - returncode


def reason_for(code: int, *, main: str = "", signalled: bool = False) -> str:
    """Return the sentence that goes with an exit code.

    Args:
        code: 0 to 255.
        main: the entry file of the package, for the code that says it is missing.
        signalled: the process died of signal ``code - 128`` that nobody asked for.
    """
    if signalled:
        number = code - _SIGNALLED
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return f"Runner was ended by {name}"
    try:
        return _REASONS.get(ExitCode(code), "Runner failed").format(main=main)
    except ValueError:
        return "Runner failed"
