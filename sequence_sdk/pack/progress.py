"""The line that a terminal shows while a package is made: what is going on, how many files and bytes are done."""

import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TextIO

_PERIOD: Final = 0.1  # seconds; a line that is redrawn more often cannot be read, and terminals are slow
_ERASE: Final = "\r\x1b[K"
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


class ProgressLine:
    """One line of a terminal, redrawn in place, of which nothing is left once it is closed.

    It is what ``pack`` takes as ``progress``. Without a ``stream`` it shows nothing, and so it does once the stream takes no
    more text: what is shown never fails what is done. ``clock`` gives seconds.
    """

    def __init__(self, stream: TextIO | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._is_drawn = False
        self._next = clock()
        self._files: int | None = None
        self._done = 0
        self._name: str | None = None

    def phase(self, text: str) -> None:
        """Show what is going on, at once; for what has no counts."""
        self._draw(text)

    def start(self, files: int | None = None) -> None:
        """Begin to count; ``files`` is how many are going to be told of, those without any bytes are not."""
        self._files, self._done, self._name = files, 0, None

    def __call__(self, name: str, read: int, total: int) -> None:
        """Show how far the packing is: the file that is read, bytes read so far, bytes of all files."""
        if name != self._name:
            self._done += self._name is not None
            self._name = name
        if self._stream is not None and self._clock() >= self._next:
            self._draw(self._counts(name, read, total))

    def close(self) -> None:
        """Leave an empty line, and show nothing any more."""
        stream, self._stream = self._stream, None
        if stream is not None and self._is_drawn:
            self._is_drawn = False
            _write(stream, _ERASE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _counts(self, name: str, read: int, total: int) -> str:
        files = f"{self._done:,}" if self._files is None else f"{self._done:,} of {self._files:,}"
        percent = 100 if total <= 0 else min(100, 100 * read // total)
        return f"packing  {files} files  {_sizes(read, total)}  {percent} %  {name}"

    def _draw(self, text: str) -> None:
        if self._stream is None:
            return
        # A terminal may go on with the next line as soon as the last column is written to.
        line = _clipped(text, _columns(self._stream) - 1, self._stream.encoding or "utf-8")
        self._is_drawn = True  # before it is true: Ctrl-C may come in between
        self._next = self._clock() + _PERIOD
        if not _write(self._stream, _ERASE + line):
            self._stream = None


def progress_line(*, quiet: bool) -> ProgressLine:
    """Return the line for standard error; a silent one if it is no terminal that can redraw, or with ``quiet``."""
    stream: TextIO | None = sys.stderr  # there is none where a program has no console
    if quiet or stream is None or not stream.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return ProgressLine(None)
    return ProgressLine(stream)


def _write(stream: TextIO, text: str) -> bool:
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):  # the terminal is gone, or the stream closed
        return False
    return True


def _columns(stream: TextIO) -> int:
    # Not shutil first: it asks about standard output, which is often a pipe when standard error is none.
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return columns or shutil.get_terminal_size().columns


def _clipped(text: str, columns: int, encoding: str) -> str:
    """Return text that takes ``columns`` of a terminal at most, with nothing in it that moves its cursor."""
    ellipsis = _encodable("…", "...", encoding)
    shown = ""
    used = fits = 0  # fits: how much of it leaves room for the ellipsis
    for char in text:
        char = _encodable(char if char.isprintable() else "?", "?", encoding)
        used += _width(char)
        if used > columns:
            return (shown[:fits] + ellipsis)[: max(0, columns)]
        shown += char
        if used + len(ellipsis) <= columns:
            fits = len(shown)
    return shown


def _encodable(char: str, instead: str, encoding: str) -> str:
    try:
        char.encode(encoding)
    except UnicodeEncodeError:
        return instead
    return char


def _width(char: str) -> int:
    # Marks that go over a letter count, too: some terminals give them a column, and some emoji get wider by them.
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _sizes(read: int, total: int) -> str:
    """Return both numbers in the unit that fits the larger one."""
    power = 0
    while max(read, total) >= 1024 ** (power + 1) and power < len(_UNITS) - 1:
        power += 1
    digits = 1 if power else 0
    scale = 1024**power
    return f"{read / scale:,.{digits}f} of {total / scale:,.{digits}f} {_UNITS[power]}"
