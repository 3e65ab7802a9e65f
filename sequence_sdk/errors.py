"""What an author can do wrong, and what input can be wrong for an author's Sequence.

SequenceError
├── DecoratorError           @sequence is used in a way that cannot work; told when decorating
├── ContentError             items and bytes do not fit each other
│   ├── UnsupportedContentType   a content type nobody here reads
│   ├── BadInput                 bytes of the input are not what the content type says
│   └── BadOutput                an item cannot be written as the content type of the output
└── InputUsedInLoop          a plain ``for`` over the input in the thread of the event loop
"""

import reprlib

_SHOWN = 80  # characters of an item that an error repeats
_repr = (
    reprlib.Repr()
)  # the built-in repr of a deep item is a RecursionError, that of a large one fills the log
_repr.maxstring = _repr.maxother = _SHOWN


def _show(item: object) -> str:
    try:
        shown = _repr.repr(item)
    except Exception:  # noqa: BLE001 - author's code, or an integer with too many digits
        return f"an object of type {type(item).__name__} that has no repr"
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


class SequenceError(Exception):
    """Something about a Sequence is wrong; ``str()`` of it says what, where and what to do."""


class DecoratorError(SequenceError, TypeError):
    """``@sequence`` is used in a way that cannot work."""


class ContentError(SequenceError, ValueError):
    """Items and bytes do not fit each other."""


class UnsupportedContentType(ContentError):
    """A content type nobody here reads."""

    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return (
            f"content type {self.value!r} is not supported: "
            "use text/plain, application/x-ndjson, text/x-ndjson or application/octet-stream"
        )


class BadInput(ContentError):
    """Bytes of the input are not what the content type says."""

    def __init__(self, line: int, problem: str, shown: str) -> None:
        super().__init__(line, problem, shown)
        self.line = line
        self.problem = problem
        self.shown = shown

    def __str__(self) -> str:
        return f"input line {self.line}: {self.problem}: {self.shown}"


class BadOutput(ContentError):
    """An item cannot be written as the content type of the output."""

    def __init__(self, number: int, problem: str, item: object) -> None:
        super().__init__(number, problem, item)
        self.number = number
        self.problem = problem
        self.item = item

    def __str__(self) -> str:
        return f"output item {self.number}: {self.problem}: {_show(self.item)}"


class InputUsedInLoop(SequenceError):
    """A plain ``for`` over the input in the thread of the event loop."""

    def __str__(self) -> str:
        return (
            "a plain `for` over the input would block the event loop here: write `async for item in input` in an "
            "`async def`, or make the function a generator (`def` with `yield`), which has a thread of its own"
        )
