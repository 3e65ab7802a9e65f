"""Standard streams at file-descriptor level: 0, 1 and 2 become the links themselves.

What child processes and C code print arrives too, and ``sys.stdin`` is a real file.
"""

import contextlib
import os
import socket
import sys
from typing import TextIO

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
    sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stdout = _text_output(1)
    sys.stderr = _text_output(2)


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
