"""The log channel: Python's log records become JSON lines for the hub."""

import contextlib
import logging
import socket
import traceback

from .protocol.log_record import Level, LogRecord, encode_log

TRACE = 5  # the level below DEBUG that the hub knows

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
        failure = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        line = encode_log(
            LogRecord(
                msg=message,
                level=level_of(record.levelno),
                ts=int(record.created * 1000),
                source=record.name,
                error=failure,
                scopes={record.name: {"id": self._instance_id}},
            )
        )
        with contextlib.suppress(OSError):
            self._link.sendall(line)

    def close(self) -> None:
        """Half-close and close the link; safe to call twice."""
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_WR)
        self._link.close()
        super().close()
