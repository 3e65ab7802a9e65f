"""What a test of a Sequence is told when it goes wrong.

AssertionError
└── TestingError
    ├── SequenceFailed      the Sequence ended in failure, and the test did not ask how it ended
    └── WaitedInVain        what was waited for did not come in time, or cannot come any more
SequenceError
├── SubjectNotFound         what is to be run is no Sequence, or a process cannot find it
└── VirtualTimeImpossible   the event loop has no clock that could be replaced (clock.py)
BaseException
└── CrashInjected           ends a Sequence in process as a kill from outside ends one that has a process
"""

from sequence_sdk.errors import SequenceError


class TestingError(AssertionError):
    """A test of a Sequence does not hold; ``str()`` of it says what was expected, and what was there."""

    __test__ = False  # it is none, whatever its name begins with


class SequenceFailed(TestingError):
    """The Sequence ended in failure, and the test did not ask how it ended."""


class WaitedInVain(TestingError):
    """What was waited for did not come in time, or cannot come any more."""


class SubjectNotFound(SequenceError):
    """What is to be run is no Sequence, or a process cannot find it."""


class CrashInjected(BaseException):
    """Ends a Sequence in process at a read, as a kill ends one that has a process of its own.

    It is no ``Exception``, so that ``except Exception`` does not stop it; ``finally`` runs, which a kill does not let happen.
    """
