"""The log channel: Python's log records become JSON lines for the hub."""

import contextlib
import logging
import queue
import socket
import threading
from collections.abc import Callable

from .protocol.log_record import Level, LogRecord, encode_log
from .report import format_error

TRACE = 5  # the level below DEBUG that the hub knows
_MAX_WAITING = 1000  # warnings that wait for a hub that does not read its log; what comes then is dropped

_LEVELS = (
    (logging.CRITICAL, Level.FATAL),
    (logging.ERROR, Level.ERROR),
    (logging.WARNING, Level.WARN),
    (logging.INFO, Level.INFO),
    (logging.DEBUG, Level.DEBUG),
)


def level_of(number: int) -> Level:
    """Return the hub's level for one of Python's."""
    return next((level for threshold, level in _LEVELS if number >= threshold), Level.TRACE)


class LogChannel(logging.Handler):
    """Writes records to the log link, whole lines only, from any thread."""

    def __init__(self, link: socket.socket, instance_id: str) -> None:
        super().__init__()
        link.setblocking(True)
        self._link = link
        self._instance_id = instance_id
        self._later: queue.Queue[tuple[logging.Logger, str]] = queue.Queue(_MAX_WAITING)
        self._writes_warnings = False  # a thread of its own, which most Sequences never need

    def logger(self, name: str) -> logging.Logger:
        """Return the logger whose records leave here with ``"from": name``."""
        logger = logging.getLogger(name)
        logger.setLevel(TRACE)
        logger.propagate = False
        logger.addHandler(self)
        return logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a hub that is gone is not the author's concern."""
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - the author's arguments and format; the record is not lost for it
            message = f"{record.msg} (arguments {record.args!r} do not fit: {error})"
        failure = format_error(record.exc_info[1]) if record.exc_info and record.exc_info[1] else ""
        line = encode_log(
            LogRecord(
                msg=message,
                level=level_of(record.levelno),
                ts=int(record.created * 1000),
                source=record.name,
                error=failure + (record.stack_info or ""),
                scopes={record.name: {"id": self._instance_id}},
            )
        )
        with contextlib.suppress(OSError):
            self._link.sendall(line)

    def warn_later(self, logger: logging.Logger) -> Callable[[str], None]:
        """Return a function that logs a warning from a thread of its own, so that its caller never waits for the hub.

        One caller at a time.
        """

        def warn(text: str) -> None:
            with contextlib.suppress(queue.Full):
                self._later.put_nowait((logger, text))
            if not self._writes_warnings:
                self._writes_warnings = True
                with contextlib.suppress(RuntimeError):  # the interpreter ends, and starts no thread any more
                    threading.Thread(target=self._write_warnings, name="warnings", daemon=True).start()

        return warn

    def _write_warnings(self) -> None:
        while True:
            logger, text = self._later.get()
            logger.warning("%s", text)
            self._later.task_done()

    def end(self) -> None:
        """Half-close the link: the hub reads the end, even if a child process still holds it. Safe to call twice."""
        self._later.join()
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the link; safe to call twice."""
        self._link.close()
        super().close()
