"""The links of a runner: connect them, and read and write the data links from the event loop.

Data is received and sent by direct calls on non-blocking sockets: nothing is read before it is wanted, which is the
back-pressure, and nothing is copied twice.
"""

import asyncio
import contextlib
import functools
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
_KEPT_HEAP = 4 * 1024 * 1024  # bytes; more than the items of a block of 256 KiB take
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


def pairs() -> tuple[dict[Channel, socket.socket], list[socket.socket]]:
    """Return one open link for each channel, and the hub's ends of them in the order of the channels.

    Raises:
        OSError: this process has no room for them.
    """
    links: dict[Channel, socket.socket] = {}
    peers: list[socket.socket] = []
    try:
        for channel in Channel:
            links[channel], peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            peers.append(peer)
            for end in (links[channel], peer):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
    except OSError:
        for end in (*links.values(), *peers):
            end.close()
        raise
    return links, peers


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


@functools.cache  # a second block would come from the heap, and calloc would clear it: 4 MiB of memory for every Instance
def keep_heap() -> None:
    """Let the C library keep the memory of one block's items for those of the next.

    Without this, glibc gives the top of its heap back to the kernel whenever 128 KiB are free there, and asks for it again
    at once: a page fault for every message, and half of the processor time. It learns from blocks that are freed: after one
    of a size, it keeps twice as much. Elsewhere nothing happens. The block is never touched, and costs no memory.
    """
    bytes(_KEPT_HEAP)


class SocketReader:
    """Reads one link. A cancelled ``read`` loses nothing: what has come for it, the next one returns."""

    def __init__(self, link: socket.socket) -> None:
        keep_heap()
        link.setblocking(False)
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._watched: int | None = None  # the link's descriptor while the loop tells when there is something
        self._waiter: asyncio.Future[None] | None = None
        self._received: bytes | OSError | None = None
        self._interrupted = False

    async def read(self) -> bytes | None:
        """Return up to 256 KiB as soon as there is any; ``b""`` is the end, and None an interrupted wait.

        The loop gets at least one turn.

        Raises:
            LinkLost: the hub broke the link.
        """
        self._interrupted = False
        self._waiter = self._loop.create_future()
        if self._received is not None:  # by a read that was cancelled, or interrupted
            self._loop.call_soon(_wake, self._waiter)
        elif self._watched is None:
            # The number, not the socket: the selector shows what it does not know yet in an error that nobody sees,
            # and to show a socket takes two system calls.
            self._watched = self._link.fileno()
            self._loop.add_reader(self._watched, self._receive)
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._interrupted:
            return None
        received, self._received = self._received, None
        if isinstance(received, OSError):
            raise LinkLost("input", received.strerror or str(received)) from None
        if not received and _hung_up(self._link):
            raise LinkLost("input", "it was closed, not ended")
        return received

    def interrupt(self) -> None:
        """Let a read that waits return None at once."""
        if self._waiter is not None:
            self._interrupted = True
            _wake(self._waiter)

    def _receive(self) -> None:
        """Take what is there for the read that waits.

        This is done where the loop tells it, not where the read goes on: that is a turn later, and the loop would have told
        it once more. The loop goes on watching from one read to the next, which saves two system calls. It stops when there
        is something that nobody wants yet.
        """
        if self._waiter is None or self._waiter.done() or self._received is not None:
            self._unwatch()  # nobody wants it yet, or something else is before it
            return
        try:
            self._received = self._link.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._received = error
        _wake(self._waiter)

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._loop.remove_reader(self._watched)
            self._watched = None

    def close(self) -> None:
        """Close the link; safe to call twice."""
        self._unwatch()
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
        self._watched: int | None = None  # the link's descriptor while the loop tells when there is room
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
        if not self._scheduled and self._watched is None:
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
        if self._buffer and self._watched is None:
            self._watched = self._link.fileno()
            self._loop.add_writer(self._watched, self._flush)
        elif not self._buffer:
            self._unwatch()
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                _wake(waiter)

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._loop.remove_writer(self._watched)
            self._watched = None


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
