"""Why a runner cannot run its Sequence, each with the exit code that says so.

RunnerError
├── InvalidSettings          20  an environment variable is missing or wrong
├── NoEntryFile              21  the entry file of the package is not there
├── SequenceLoadError        22  the entry file is there, but gives no Sequence
│   ├── NoSequenceFound          no function marked @sequence and no ``run``
│   └── SeveralSequences         more than one function marked @sequence
├── NotReloaded                 the Sequence goes on with the code it has
├── QuarantineLost           23  the hub does not keep the items that the Sequence could not handle
├── LinkLost                 23  the hub broke a link that the Sequence reads or writes
└── HubUnreachable            1  nobody listens where the hub should be, or it went away before the start
"""

from pathlib import Path
from typing import ClassVar

from .protocol.exit_codes import ExitCode


class RunnerError(Exception):
    """The runner cannot run its Sequence; ``str()`` of it says what, where and what to do."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class InvalidSettings(RunnerError):
    """An environment variable is missing or wrong."""

    exit_code = ExitCode.INVALID_ENV_VARS


class NoEntryFile(RunnerError):
    """The entry file of the package is not there."""

    exit_code = ExitCode.INVALID_SEQUENCE_PATH

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: no such file; the package's `main` must name the file with the Sequence"


class SequenceLoadError(RunnerError):
    """The entry file is there, but gives no Sequence."""

    exit_code = ExitCode.SEQUENCE_FAILED_ON_START


class NoSequenceFound(SequenceLoadError):
    """The file has no function marked ``@sequence`` and no ``run``."""

    def __init__(self, path: Path, functions: list[str]) -> None:
        super().__init__(path, functions)
        self.path = path
        self.functions = functions

    def __str__(self) -> str:
        seen = ", ".join(self.functions) or "no functions"
        return f"{self.path.name}: no function is marked @sequence and none is called run (found {seen})"


class SeveralSequences(SequenceLoadError):
    """The file has more than one function marked ``@sequence``."""

    def __init__(self, path: Path, functions: list[str]) -> None:
        super().__init__(path, functions)
        self.path = path
        self.functions = functions

    def __str__(self) -> str:
        return f"{self.path.name}: several functions are marked @sequence ({', '.join(self.functions)}); mark one"


class LinkLost(RunnerError, ConnectionError):
    """The hub broke a link that the Sequence reads or writes; most often it is gone altogether."""

    exit_code = ExitCode.SEQUENCE_FAILED_DURING_EXECUTION

    def __init__(self, link: str, reason: str) -> None:
        super().__init__(link, reason)
        self.link = link
        self.reason = reason

    def __str__(self) -> str:
        return f"the hub broke the {self.link} link: {self.reason}"


class HubUnreachable(RunnerError):
    """Nobody listens where the hub should be, or it went away before the start."""


class NotReloaded(RunnerError):
    """The Sequence goes on with the code it has; the hub is told why."""


class QuarantineLost(RunnerError):
    """The hub does not keep the items that the Sequence could not handle; to go on would lose them."""

    exit_code = ExitCode.SEQUENCE_FAILED_DURING_EXECUTION

    def __init__(self, waiting: int, reason: str) -> None:
        super().__init__(waiting, reason)
        self.waiting = waiting
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.waiting} quarantined items cannot be kept: {self.reason}"
