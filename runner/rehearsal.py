"""One run of a small Sequence inside a zygote, so that its runners find warm what each of them does once.

CPython fills the caches of its bytecode in the first runs of it, and many a table at its first use. What is done here, once, a
runner need not do; and what it need not write to, it goes on sharing with all others.
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NoReturn

from .heartbeat import Heartbeat
from .log_channel import LogChannel
from .protocol.channels import Channel
from .protocol.codec import Decoder, encode
from .protocol.input_header import encode_input_header
from .protocol.messages import Ping, Pong
from .session import Session
from .settings import Settings

_ID: Final = "rehearsal".ljust(36, "-")
_SEQUENCE: Final = Path(__file__).with_name("rehearsed") / "main.py"
_LINES: Final = b"one\ntwo\n"


class RehearsalFailed(Exception):
    """What was rehearsed did not go as it must."""


def rehearse(times: int) -> None:
    """Run the small Sequence so many times and leave no trace of it, but warmth.

    Raises:
        RehearsalFailed: it ended otherwise than it must.
        OSError: the machine has no room for its sockets.
    """
    for _ in range(times):
        with _restored():
            _rehearse_once(_SEQUENCE)


def _rehearse_once(entry: Path) -> None:
    with ExitStack() as stack:
        links, peers = {}, {}
        for channel in Channel:
            links[channel], peers[channel] = map(stack.enter_context, socket.socketpair())
        log = LogChannel(links[Channel.LOG], _ID)
        stack.callback(log.close)
        heartbeat = Heartbeat(
            links[Channel.CONTROL], links[Channel.MONITORING], warn=_nobody, exit_process=_refuse
        )
        stack.callback(heartbeat.discard)
        heartbeat.send(Ping(_ID, payload={"system": {"processPID": "1"}}, sequence_info={}, created=1))
        pong = Decoder()
        pong.feed(encode(Pong(app_config={}, args=[])))
        (answer,) = [message for message in pong if isinstance(message, Pong)]
        settings = Settings.from_environ(
            {
                "SEQUENCE_PATH": str(entry),
                "INSTANCE_ID": _ID,
                "INSTANCES_SERVER_SOCKET": "/",
                "SEQUENCE_INFO": "{}",
            }
        )
        session = Session(settings, entry, answer, heartbeat, log)
        peers[Channel.IN].sendall(encode_input_header("text/plain") + _LINES)
        peers[Channel.IN].shutdown(socket.SHUT_WR)
        with asyncio.Runner() as loop:
            code = loop.run(session.run(links))
        heartbeat.detach()
        heartbeat.close()
        peers[Channel.OUT].settimeout(1)
        said = peers[Channel.OUT].recv(1024)
    if (code, said) != (0, _LINES):
        raise RehearsalFailed(f"exit code {code}, output {said!r}")


def _nobody(_text: str) -> None:
    """Say it to nobody."""


def _refuse(code: int) -> NoReturn:
    raise RehearsalFailed(f"it ends with {code}")


@contextmanager
def _restored() -> Iterator[None]:
    """Put back what a session changes of its process."""
    path, arguments, finders = sys.path[:], sys.argv, sys.meta_path[:]
    modules = len(sys.modules)  # a copy would write to each of them, and to its name
    loggers = [logging.getLogger(name) for name in ("Runner", "Sequence")]
    said = [(one.handlers[:], one.level, one.propagate) for one in loggers]
    try:
        yield
    finally:
        sys.path[:], sys.argv, sys.meta_path[:] = path, arguments, finders
        while len(sys.modules) > modules:
            sys.modules.popitem()  # the newest
        for logger, (handlers, level, propagate) in zip(loggers, said, strict=True):
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)
        os.chdir("/")
