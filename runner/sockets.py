"""The links of a runner: connect them, and read and write the data links from the event loop.

Data is received and sent by direct calls on non-blocking sockets: nothing is read before it is wanted, which is the
back-pressure, and nothing is copied twice.
"""

import asyncio
import contextlib
import select
import socket
import sys

from .errors import HubUnreachable, LinkLost
from .protocol.channels import Channel
from .protocol.hello import encode_hello
from .settings import Settings

READ_SIZE = 256 * 1024  # bytes; one block of items
FULL = 64 * 1024  # bytes in a writer from which its user should wait
_SOCKET_BUFFER = 1024 * 1024  # bytes; the kernel may give less
_CONNECT_TIMEOUT = 10.0  # seconds; an address where nobody answers is not waited for longer


def connect(settings: Settings) -> dict[Channel, socket.socket]:
    """Return one open link for each channel, its hello sent.

    Raises:
        HubUnreachable: nobody listens there.
    """
    links: dict[Channel, socket.socket] = {}
    try:
        for channel in Channel:
            links[channel] = _connect(settings)
            links[channel].sendall(encode_hello(settings.instance_id, channel))
    except (OSError, UnicodeError) as error:  # the latter: a host name that cannot be one
        for link in links.values():
            link.close()
        place = settings.socket_path or f"{settings.host}:{settings.port}"
        raise HubUnreachable(f"no hub at {place}: {getattr(error, 'strerror', None) or error}") from error
    return links


def _connect(settings: Settings) -> socket.socket:
    if settings.socket_path:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.connect(settings.socket_path)
        except OSError:
            link.close()
            raise
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        return link
    link = socket.create_connection((settings.host, settings.port), timeout=_CONNECT_TIMEOUT)
    link.settimeout(None)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


class SocketReader:
    """Reads one link. A cancelled ``read`` loses nothing: bytes leave the kernel only when they are returned."""

    def __init__(self, link: socket.socket) -> None:
        link.setblocking(False)
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._interrupted = False

    async def read(self) -> bytes | None:
        """Return up to 256 KiB as soon as there is any; ``b""`` is the end, and None an interrupted wait.

        The loop gets at least one turn.

        Raises:
            LinkLost: the hub broke the link.
        """
        await asyncio.sleep(0)  # before, not after: what has been received must not be lost to a cancellation
        while True:
            try:
                chunk = self._link.recv(READ_SIZE)
            except BlockingIOError:
                await self._readable()
                if self._interrupted:
                    return None
                continue
            except OSError as error:
                raise LinkLost("input", error.strerror or str(error)) from None
            if not chunk and _hung_up(self._link):
                raise LinkLost("input", "it was closed, not ended")
            return chunk

    def interrupt(self) -> None:
        """Let a read that waits return None at once."""
        if self._waiter is not None:
            self._interrupted = True
            _wake(self._waiter)

    async def _readable(self) -> None:
        self._interrupted = False
        self._waiter = self._loop.create_future()
        self._loop.add_reader(self._link, _wake, self._waiter)
        try:
            await self._waiter
        finally:
            self._loop.remove_reader(self._link)
            self._waiter = None

    def close(self) -> None:
        """Close the link; safe to call twice."""
        self._link.close()


def _hung_up(link: socket.socket) -> bool:
    """Tell whether the hub has closed both halves of a link.

    An input is ended by closing one half. A hub that dies closes both, and what came by then must not pass
    for the whole. Only Linux tells the two apart, and over TCP not before something is sent.
    """
    if sys.platform != "linux":
        return False
    poll = select.poll()
    poll.register(link, 0)  # a hang-up is told unasked
    return any(happened & select.POLLHUP for _, happened in poll.poll(0))


class SocketWriter:
    """Writes one link: small writes of one turn of the loop leave together, a lone one leaves at the end of the turn."""

    def __init__(self, link: socket.socket) -> None:
        link.setblocking(False)
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._scheduled = False
        self._watching = False
        self._waiters: list[asyncio.Future[None]] = []
        self._error: OSError | None = None

    @property
    def full(self) -> bool:
        """Tell whether the user should ``drain`` before it writes more; of a broken link, that tells what is wrong."""
        return len(self._buffer) >= FULL or self._error is not None

    @property
    def pending(self) -> bool:
        """Tell whether what was written waits for a turn of the loop, or for the hub."""
        return self._scheduled or bool(self._buffer)

    def write(self, data: bytes) -> None:
        """Take bytes to send; they leave when the loop's turn ends, or at once when they are many."""
        if len(data) >= FULL and not self._buffer:
            data = data[self._send(data) :]
        self._buffer += data
        if not self._scheduled and not self._watching:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def send(self, data: bytes) -> int:
        """Take bytes that leave at once, behind those that wait.

        Return how many bytes wait then: ``FULL`` or more if the user should ``drain``.
        """
        if not self._buffer:
            data = data[self._send(data) :]
        if data:
            self._buffer += data
            self._flush()
        return FULL if self._error is not None else len(self._buffer)

    async def drain(self) -> None:
        """Wait until everything is in the kernel's hands. The loop gets at least one turn.

        Raises:
            LinkLost: the hub does not take any more.
        """
        self._flush()
        await asyncio.sleep(0)  # a hub that keeps up must not keep the loop from everybody else
        while self._buffer and not self._error:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter
        if self._error:
            raise LinkLost("output", self._error.strerror or str(self._error))

    def end(self) -> None:
        """Half-close the link: the peer reads the end. Drain first. Safe to call twice."""
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the link; safe to call twice."""
        self._unwatch()
        self._link.close()

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._link.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._error = error
            return len(data)  # nobody takes them

    def _flush(self) -> None:
        self._scheduled = False
        if self._buffer:
            del self._buffer[: self._send(self._buffer)]
        if self._buffer and not self._watching:
            self._loop.add_writer(self._link, self._flush)
            self._watching = True
        elif not self._buffer:
            self._unwatch()
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                _wake(waiter)

    def _unwatch(self) -> None:
        if self._watching:
            self._loop.remove_writer(self._link)
            self._watching = False


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
