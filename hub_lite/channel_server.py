"""The server that runners connect to: it reads hellos and hands each link to its Instance.

Source: docs/protocol.md, "Links" and "Hello".
"""

import asyncio
import contextlib
import fcntl
import logging
import socket
import sys
import termios
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from runner.protocol.channels import Channel
from runner.protocol.errors import RemoteProtocolError
from runner.protocol.hello import Hello, HelloDecoder

from .transports import write_together

HELLO_TIMEOUT = 10.0  # seconds; a stranger that says half a hello must not stay
MAX_STRANGERS = (
    1000  # links without a hello at a time; a runner says its hello at once, so the oldest is none
)
_SOCKET_BUFFER = 1024 * 1024  # bytes; the kernel may give less
_WRITE_HIGH = 256 * 1024  # bytes in a link's write buffer from which writers wait

logger = logging.getLogger(__name__)


class Receiver(Protocol):
    """Who takes what a link brings."""

    def received(self, chunk: bytes) -> None:
        """Take bytes, cut anywhere."""

    def ended(self) -> None:
        """Take the end: no more bytes come. Called once."""


class Directory(Protocol):
    """Who knows the Instances that links are for."""

    def accept(self, instance_id: str, channel: Channel, link: "Link") -> Receiver:
        """Take a link.

        Raises:
            RemoteProtocolError: nobody waits for it.
        """


class Link(asyncio.Protocol):
    """One channel's open socket.

    Args:
        server: who looks after links.
        hello: whose it is, if that is known; otherwise it has to say so first.
    """

    def __init__(self, server: "ChannelServer", hello: Hello | None = None) -> None:
        self._server = server
        self._known = hello
        self._hello = HelloDecoder() if hello is None else None
        self._receiver: Receiver | None = None
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        self._lost = False
        self._input_ended = False
        self.on_writable: Callable[[], None] | None = None  # called when a link that was full no longer is

    # --- what the transport calls ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find who wants it; where that is not known, wait for the hello, for a while."""
        self._transport = transport
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)
        if self._known is not None:
            self._introduce(self._known)
            return
        link = transport.get_extra_info("socket")
        if link is not None and link.family != socket.AF_UNIX:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.add_stranger(self)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._server.hello_timeout, self.refuse, "its hello took too long")

    def data_received(self, data: bytes) -> None:
        """Hand bytes on, once it is known to whom."""
        if self._receiver is not None:
            self._receiver.received(data)
        elif self._hello is not None:
            self._read_hello(data)

    def eof_received(self) -> bool:
        """Hand on the end; our half stays open, for the other direction has a life of its own."""
        if self._hello is not None:
            self.refuse("it ended inside its hello")
        self._end_input()
        return self._receiver is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on the end and let waiting writers know."""
        self._lost = True
        self._introduced()
        self._end_input()
        self._wake()

    def pause_writing(self) -> None:
        """Let writers wait."""
        self._paused = True

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._paused = False
        self._wake()
        if self.on_writable is not None:
            self.on_writable()

    # --- what an Instance calls -----------------------------------------------------------------------------------

    @property
    def lost(self) -> bool:
        """Tell whether the peer is gone."""
        return self._lost or self._transport.is_closing()

    @property
    def full(self) -> bool:
        """Tell whether the peer is behind, and writers should wait."""
        return self._paused

    @property
    def unread(self) -> int:
        """The bytes that have arrived and are not read yet."""
        link = self._transport.get_extra_info("socket")
        if link is None or link.fileno() < 0:
            return 0
        held = fcntl.ioctl(link.fileno(), termios.FIONREAD, bytes(4))
        return int.from_bytes(held, sys.byteorder)

    def write(self, *pieces: bytes) -> None:
        """Send immutable bytes, in one piece or in several; what is written to a lost link is nothing."""
        if not self.lost:
            write_together(self._transport, pieces)

    async def drain(self) -> None:
        """Wait while the peer is behind.

        Raises:
            ConnectionError: the peer is gone.
        """
        while self._paused and not self._lost:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)
        if self._lost:
            raise ConnectionResetError("the runner has closed the link")

    def write_eof(self) -> None:
        """Half-close: the peer reads the end after what was written."""
        if not self._lost and self._transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()

    def pause_reading(self) -> None:
        """Read no more until ``resume_reading``: the peer's writes will block."""
        if not self.lost:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if not self.lost:
            self._transport.resume_reading()

    def close(self) -> None:
        """Close after what was written is sent; safe to call twice."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once; safe to call twice."""
        self._transport.abort()

    def refuse(self, why: str) -> None:
        """Close the link of a stranger at once, and say why in the log."""
        logger.warning("a link from %s is refused: %s", self._peer(), why)
        self._introduced()
        self._hello = None
        self.abort()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _read_hello(self, data: bytes) -> None:
        assert self._hello is not None  # noqa: S101 - for the type checker
        try:
            found = self._hello.feed(data)
            if found is None:
                return
        except RemoteProtocolError as error:
            self.refuse(str(error))
            return
        hello, rest = found
        self._hello = None
        self._introduce(hello)
        if self._receiver is None:
            return
        self._introduced()
        link = self._transport.get_extra_info("socket")
        if link is not None and link.family == socket.AF_UNIX:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        if rest:
            self._receiver.received(rest)

    def _introduce(self, hello: Hello) -> None:
        try:
            self._receiver = self._server.directory.accept(hello.instance_id, hello.channel, self)
        except RemoteProtocolError as error:
            self.refuse(str(error))

    def _peer(self) -> str:
        address = self._transport.get_extra_info("peername")
        return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "the unix socket"

    def _introduced(self) -> None:
        self._server.drop_stranger(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_input(self) -> None:
        if not self._input_ended and self._receiver is not None:
            self._input_ended = True
            self._receiver.ended()

    def _wake(self) -> None:
        waiter, self._drained = self._drained, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class ChannelServer:
    """Listens for runners on a unix socket and on TCP."""

    def __init__(
        self,
        directory: Directory,
        *,
        hello_timeout: float = HELLO_TIMEOUT,
        max_strangers: int = MAX_STRANGERS,
    ) -> None:
        self.directory = directory
        self.hello_timeout = hello_timeout
        self._max_strangers = max_strangers
        self._strangers: dict[Link, None] = {}  # in the order in which they came
        self._servers: list[asyncio.AbstractServer] = []
        self._socket_path: Path | None = None

    async def listen_unix(self, path: Path) -> None:
        """Listen on a unix socket that only this user can reach; a stale file of that name goes.

        Raises:
            OSError: the path cannot be used.
        """
        path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: Link(self), str(path))
        path.chmod(0o600)
        self._socket_path = path
        self._servers.append(server)

    async def listen_tcp(self, host: str, port: int) -> int:
        """Listen on TCP and return the port.

        Raises:
            OSError: the port is taken or not allowed.
        """
        server = await asyncio.get_running_loop().create_server(lambda: Link(self), host, port)
        self._servers.append(server)
        address: tuple[str, int] = server.sockets[0].getsockname()
        return address[1]

    async def adopt(self, instance_id: str, links: Mapping[Channel, socket.socket]) -> None:
        """Take the links that a runner was started with: they are open, and nobody has to say a hello.

        Raises:
            OSError: they cannot be used; all of them are closed.
        """
        loop = asyncio.get_running_loop()
        waiting = dict(links)
        try:
            for channel, link in links.items():
                hello = Hello(instance_id, channel)
                await loop.connect_accepted_socket(partial(Link, self, hello), link)
                del waiting[channel]
        finally:
            for link in waiting.values():
                link.close()

    @property
    def strangers(self) -> int:
        """The number of links that have not said their hello."""
        return len(self._strangers)

    async def close(self) -> None:
        """Listen no more and let strangers go; safe to call twice."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for link in list(self._strangers):
            link.abort()
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)
            self._socket_path = None

    def add_stranger(self, link: Link) -> None:
        """Note a link that has not said its hello; where there are too many of them, the oldest must go."""
        self._strangers[link] = None
        if len(self._strangers) > self._max_strangers:
            next(iter(self._strangers)).refuse("too many others have come and said no hello either")

    def drop_stranger(self, link: Link) -> None:
        """Forget a link that has said its hello, or went away."""
        self._strangers.pop(link, None)
