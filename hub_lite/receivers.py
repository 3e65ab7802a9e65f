"""What each channel of an Instance does with the bytes that its link brings."""

from collections.abc import Callable

from runner.protocol.codec import Decoder
from runner.protocol.errors import RemoteProtocolError
from runner.protocol.messages import Message, Monitoring

from .channel_server import Link
from .windows import Window

_MAX_KEPT_REPORT = 4096  # bytes of a report that is kept to know it again
_MAX_LOG_LINE = 64 * 1024  # bytes held to keep log lines whole


class SilentReceiver:
    """For channels on which a runner says nothing."""

    def received(self, chunk: bytes) -> None:
        """Ignore bytes."""

    def ended(self) -> None:
        """Ignore the end."""


class WindowReceiver:
    """Puts bytes into a window that never makes a Sequence wait."""

    def __init__(self, window: Window, ended: Callable[[], None]) -> None:
        self._window = window
        self.ended = ended

    def received(self, chunk: bytes) -> None:
        """Keep bytes."""
        self._window.write(chunk)


class OutputReceiver:
    """Puts bytes into a window and stops reading the link while it is full: the Sequence waits."""

    def __init__(
        self, window: Window, link: Link, ended: Callable[[], None], first: Callable[[], None]
    ) -> None:
        self._window = window
        self._link = link
        self._first: Callable[[], None] | None = first
        self.ended = ended

    def received(self, chunk: bytes) -> None:
        """Keep bytes."""
        if self._first is not None:
            first, self._first = self._first, None
            first()
        if not self._window.write(chunk) and self._window.on_room is not None:
            self._link.pause_reading()


class MessageReceiver:
    """Cuts bytes into messages.

    A runner reports its health every second, nearly always in the same bytes: those are not decoded again, and ``take`` gets
    the very message that they were the last time.
    """

    def __init__(
        self,
        take: Callable[[Message], None],
        complain: Callable[[RemoteProtocolError], None],
        ended: Callable[[], None],
    ) -> None:
        self._take = take
        self._complain = complain
        self._ended = ended
        self._decoder = Decoder()
        self._report: bytes | None = None  # the last chunk, if it was one whole report and nothing else
        self._reported = Monitoring()  # what it said

    def received(self, chunk: bytes) -> None:
        """Hand on each whole message; a bad one is complained about and skipped."""
        if chunk == self._report:
            self._take(self._reported)
            return
        self._report = None
        begins = self._decoder.is_empty
        self._decoder.feed(chunk)
        last = self._hand_on()
        if (
            begins
            and self._decoder.is_empty
            and isinstance(last, Monitoring)
            and chunk.count(b"\n") == 1
            and len(chunk) <= _MAX_KEPT_REPORT
        ):
            self._report, self._reported = bytes(chunk), last

    def ended(self) -> None:
        """Complain about an unfinished message."""
        self._decoder.end()
        self._hand_on()
        self._ended()

    def _hand_on(self) -> Message | None:
        """Hand on what there is, and return the last of it."""
        message = None
        while True:
            try:
                for message in self._decoder:
                    self._take(message)
                return message
            except RemoteProtocolError as error:
                self._complain(error)


class LogMerge:
    """One log of two sources: the runner's bytes, whole lines only, and the hub's own records between them."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._tail = b""

    def add_bytes(self, chunk: bytes) -> None:
        """Take the runner's bytes, cut anywhere."""
        cut = chunk.rfind(b"\n") + 1
        if cut:
            self._window.write(self._tail + chunk[:cut] if self._tail else chunk[:cut])
            self._tail = chunk[cut:]
        else:
            self._tail += chunk
        if len(self._tail) > _MAX_LOG_LINE:
            self._window.write(self._tail + b"\n")
            self._tail = b""

    def add_record(self, line: bytes) -> None:
        """Take a record of the hub's."""
        if not self._window.ended:
            self._window.write(line)

    def end(self) -> None:
        """Give out the last line, though nobody has ended it."""
        if self._tail:
            self._window.write(self._tail + b"\n")
            self._tail = b""


class LogReceiver:
    """Puts the runner's log into the merged one."""

    def __init__(self, merge: LogMerge, ended: Callable[[], None]) -> None:
        self._merge = merge
        self.ended = ended

    def received(self, chunk: bytes) -> None:
        """Keep bytes."""
        self._merge.add_bytes(chunk)
