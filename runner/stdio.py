"""Standard streams at file-descriptor level: 0, 1 and 2 become the links themselves.

What child processes and C code print arrives too, and ``sys.stdin`` is a real file, of which ``async for`` reads as well.
"""

import asyncio
import contextlib
import io
import os
import socket
import sys
from typing import Self, TextIO

from .protocol.channels import Channel

_DESCRIPTORS = {Channel.STDIN: 0, Channel.STDOUT: 1, Channel.STDERR: 2}


def attach(links: dict[Channel, socket.socket]) -> None:
    """Put the three links on descriptors 0, 1 and 2 and take them out of ``links``.

    Python's own streams follow: UTF-8 whatever the locale; a line printed is a line sent.
    """
    for channel, descriptor in _DESCRIPTORS.items():
        link = links.pop(channel)
        link.setblocking(True)
        os.dup2(link.fileno(), descriptor, inheritable=True)
        link.close()
    # New objects: the old ones have made up their minds about what is behind the descriptors (a file one can seek in, a terminal).
    sys.stdin = StandardInput(
        open(0, "rb", closefd=False),  # noqa: SIM115
        encoding="utf-8",
        errors="replace",
    )
    sys.stdout = _text_output(1)
    sys.stderr = _text_output(2)


class StandardInput(io.TextIOWrapper):
    """Standard input as text; ``async for line in sys.stdin`` gives its lines while the event loop goes on.

    A line that was waited for in vain, because the task that did was cancelled, is the first one that the next
    ``async for`` gives.
    """

    _line: asyncio.Future[str] | None = None  # one that is being read, in a thread

    @property
    def mode(self) -> str:
        """The mode of a text file, which ``open`` would have set."""
        return "r"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if self._line is None:
            # a future and no task: the end of a Sequence waits for tasks
            self._line = asyncio.get_running_loop().run_in_executor(None, self.readline)
        line = await asyncio.shield(self._line)
        self._line = None
        if not line:
            raise StopAsyncIteration
        return line


def _text_output(descriptor: int) -> TextIO:
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def end_input() -> None:
    """Let every reader of descriptor 0 see the end, one that waits in another thread too."""
    _shut(0, socket.SHUT_RD)


def end_output() -> None:
    """Flush, and tell the hub that no more comes, even when a child process still holds the descriptors."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError, AttributeError):
            setattr(sys, name, None)  # or the interpreter flushes it once more, fails, and exits with 120
        _shut(descriptor, socket.SHUT_WR)


def _shut(descriptor: int, direction: int) -> None:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as link:
        link.shutdown(direction)
