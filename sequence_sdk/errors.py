"""What an author can do wrong, and what input can be wrong for an author's Sequence.

SequenceError
├── DecoratorError           @sequence is used in a way that cannot work; told when decorating
│   └── UnsupportedHint          a type hint that nobody can check a value against
├── Mismatch                 a value is not what a type hint says
├── BadArgument              a start argument is not what the Sequence takes
├── BadConfig                the configuration is not what the Sequence takes
├── ContentError             items and bytes do not fit each other
│   ├── UnsupportedContentType   a content type nobody here reads
│   ├── BadInput                 bytes of the input are not what the content type says
│   ├── BadItem                  an item of the input is not what the type hint says
│   └── BadOutput                an item cannot be written as the content type of the output
├── CalledInLoop             a thread's way to call the loop is used in the loop
├── LoopIsOver               a thread calls the loop of a Sequence that has ended
├── Destroyed                the Sequence has ended itself as failed
└── InputUsedInLoop          a plain ``for`` over the input in the thread of the event loop
"""

import reprlib

_SHOWN = 80  # characters of an item that an error repeats
_repr = (
    reprlib.Repr()
)  # the built-in repr of a deep item is a RecursionError, that of a large one fills the log
_repr.maxstring = _repr.maxother = _SHOWN


def _show(item: object, limit: int = _SHOWN) -> str:
    try:
        shown = _repr.repr(item)
    except Exception:  # noqa: BLE001 - author's code, or an integer with too many digits
        return f"an object of type {type(item).__name__} that has no repr"
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


class SequenceError(Exception):
    """Something about a Sequence is wrong; ``str()`` of it says what, where and what to do."""


class DecoratorError(SequenceError, TypeError):
    """``@sequence`` is used in a way that cannot work."""


class UnsupportedHint(DecoratorError):
    """A type hint that nobody can check a value against."""

    def __init__(self, hint: str, problem: str) -> None:
        super().__init__(hint, problem)
        self.hint = hint
        self.problem = problem

    def __str__(self) -> str:
        return f"the type hint {self.hint} cannot be checked: {self.problem}"


class Mismatch(SequenceError, ValueError):
    """A value is not what a type hint says.

    ``path`` tells where in the value, such as ``price`` or ``lines[2].sku``; it is empty for the value itself.
    """

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(path, expected, found)
        self.path = path
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        return f"{place}expected {self.expected}, found {self.found}"


class BadArgument(SequenceError, ValueError):
    """A start argument is not what the Sequence takes; it is counted from 1, and may have no name."""

    def __init__(self, number: int, name: str, problem: str) -> None:
        super().__init__(number, name, problem)
        self.number = number
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"start argument {self.number}{f' {self.name!r}' if self.name else ''}: {self.problem}"


class BadConfig(SequenceError, ValueError):
    """The configuration, or the part of it that ``name`` tells, is not what the Sequence takes."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"configuration{f' {self.name!r}' if self.name else ''}: {self.problem}"


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


class BadItem(ContentError):
    """An item of the input is not what the Sequence's type hint says; items are counted from 1."""

    def __init__(self, number: int, mismatch: Mismatch) -> None:
        super().__init__(number, mismatch)
        self.number = number
        self.mismatch = mismatch

    def __str__(self) -> str:
        return f"input item {self.number}: {self.mismatch}"


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
