"""The hub's own log as JSON lines, and what it shares with the audit: a bounded history of lines for any reader."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from runner.protocol.log_record import Level, LogRecord, encode_log

from .windows import Window, WindowClosed

_LOG_BYTES = 100_000  # what a new reader gets of the past, and what one may be behind

_FORMATTER = logging.Formatter()
_LEVELS = (
    (logging.CRITICAL, Level.FATAL),
    (logging.ERROR, Level.ERROR),
    (logging.WARNING, Level.WARN),
    (logging.INFO, Level.INFO),
    (logging.DEBUG, Level.DEBUG),
)


class Lines:
    """The newest whole lines of a stream that never waits for its readers."""

    def __init__(self, capacity: int) -> None:
        self._window = Window(capacity, lossless=False)

    @property
    def readers(self) -> int:
        """The number of readers attached."""
        return self._window.readers

    def write(self, line: bytes) -> None:
        """Take a line with its end; after the end it is forgotten."""
        if not self._window.ended:
            self._window.write(line)

    def end(self) -> None:
        """Let readers end, once they have what there is. Safe to call twice."""
        self._window.end()

    async def read(self, tell_lost: Callable[[int], bytes]) -> AsyncGenerator[bytes, None]:
        """Yield whole lines, many at once: those kept, then those to come.

        What a reader has missed because it is too slow is told in a line of its own, made from the number of bytes.
        """
        with self._window.open() as cursor, suppress(WindowClosed):
            tail = b""
            lost = 0
            in_cut_line = cursor.offset > 0  # the first line kept may have lost its beginning
            while chunk := await cursor.read():
                missed = cursor.take_missed()
                if missed:
                    lost += missed + len(tail)
                    tail, in_cut_line = b"", True
                if in_cut_line:
                    skipped, border, chunk = chunk.partition(b"\n")
                    lost += len(skipped) + len(border) if lost else 0
                    if not border:
                        continue
                    in_cut_line = False
                if lost:
                    yield tell_lost(lost)
                    lost = 0
                whole, border, rest = chunk.rpartition(b"\n")
                if border:
                    yield tail + whole + border
                    tail = rest
                else:
                    tail += chunk
            if lost:
                yield tell_lost(lost)


class HubLog(logging.Handler):
    """Keeps what the hub logs, and hands it to any number of readers."""

    def __init__(self, hub_id: str) -> None:
        super().__init__()
        self.lines = Lines(_LOG_BYTES)
        self._scopes = {"Hub": {"id": hub_id}}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def attach(self) -> None:
        """Begin to listen; the running loop is the one whose tasks read. Safe to call twice."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        logging.getLogger().addHandler(self)

    def detach(self) -> None:
        """Listen no more; readers end. Safe to call twice."""
        logging.getLogger().removeHandler(self)
        self.lines.end()
        self.close()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, whichever thread it comes from."""
        line = encode_log(
            LogRecord(
                _message(record),
                _level(record.levelno),
                int(record.created * 1000),
                record.name,
                error=_FORMATTER.formatException(record.exc_info) if record.exc_info else "",
                scopes=self._scopes,
            )
        )
        if self._thread == threading.get_ident():
            self.lines.write(line)
        elif self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: there is nobody to read it
                self._loop.call_soon_threadsafe(self.lines.write, line)

    def read(self) -> AsyncGenerator[bytes, None]:
        """Yield whole lines: those kept, then those to come."""
        return self.lines.read(self._tell_lost)

    def _tell_lost(self, size: int) -> bytes:
        text = f"{size} bytes of this log are lost: this reader was too slow"
        return encode_log(LogRecord(text, Level.WARN, int(time.time() * 1000), __name__, scopes=self._scopes))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # the arguments do not fit the text
        return f"{record.msg} {record.args!r}"


def _level(number: int) -> Level:
    return next((level for least, level in _LEVELS if number >= least), Level.TRACE)
