"""A lean HTTP client on blocking sockets: as little as possible between the clock and the hub."""

import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from .payload import WrongResult

Address = tuple[str, int]

READ_SIZE = 256 * 1024
LAST_CHUNK = b"0\r\n\r\n"
_PATIENCE = 60  # seconds without a byte after which a hub counts as stuck
_MAX_HEAD = 64 * 1024


def connect(address: Address, *, wait: float = 0.0) -> socket.socket:
    """Return a connected socket without Nagle's delay; try for ``wait`` seconds while nobody listens.

    A read or write that takes a minute raises BlockingIOError; the kernel keeps that time, as Python's own timeouts
    cost a system call each.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            link = socket.create_connection(address)
            break
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
    prepare(link)
    return link


def prepare(link: socket.socket) -> None:
    """Set what every socket of the benchmark has."""
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    patience = struct.pack("ll", _PATIENCE, 0)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)


def request_head(method: str, path: str, address: Address, **headers: str) -> bytes:
    """Return the head of a request; ``_`` in a header's name stands for ``-``."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address[0]}:{address[1]}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


class Connection:
    """One keep-alive connection; use it as a context manager."""

    def __init__(self, address: Address, link: socket.socket | None = None) -> None:
        """Connect, unless there is a ``link`` that somebody else has opened."""
        self.address = address
        self.link = connect(address) if link is None else link
        self._buffer = bytearray(READ_SIZE)
        self._start = 0  # of what was read and not yet used
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.link.close()

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        """Send a request with a whole body and return the JSON of the answer.

        Raises:
            WrongResult: the answer is an error.
        """
        head = request_head(method, path, self.address, Content_Length=str(len(body)), **headers)
        self.link.sendall(head + body)
        self.expect_success()
        content = self.rest()
        return json.loads(content) if content else None

    def rest(self) -> bytes:
        """Return the body to its end: only then has a hub that answers early done what was asked."""
        return b"".join(bytes(piece) for piece in self.pieces())

    def open(self, path: str, **headers: str) -> None:
        """Ask for a stream; its bytes come from `pieces`.

        Raises:
            WrongResult: the answer is an error.
        """
        self.link.sendall(request_head("GET", path, self.address, **headers))
        self.expect_success()

    def rest_of_read(self) -> bytes:
        """Return what came behind the head, for somebody who reads on from the socket."""
        held, self._start = bytes(self._buffer[self._start : self._end]), self._end
        return held

    def expect_success(self) -> None:
        """Read the head of an answer.

        Raises:
            WrongResult: it is an error; its text is in the message.
        """
        while (found := self._buffer.find(b"\r\n\r\n", self._start, self._end)) < 0:
            self._more()
        head = bytes(self._buffer[self._start : found]).decode("latin-1")
        self._start = found + 4
        status, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._length = (
            None if "chunked" in headers.get("transfer-encoding", "") else headers["content-length"]
        )
        if not 200 <= int(status.split()[1]) < 300:
            text = self.rest().decode("utf-8", "replace")
            raise WrongResult(f"the hub answered {status}: {text[:500]}")

    def break_off(self) -> None:
        """Let whoever waits for the hub see the end of the connection."""
        with suppress(OSError):
            self.link.shutdown(socket.SHUT_RDWR)

    def pieces(self) -> Iterator[memoryview]:
        """Return the body as it comes; a piece is good until the next one is taken.

        Raises:
            WrongResult: it breaks off, or is not framed as HTTP wants it.
        """
        if self._length is not None:
            yield from self._take(int(self._length))
            return
        while True:
            while (found := self._buffer.find(b"\r\n", self._start, self._end)) < 0:
                self._more()
            size = int(self._buffer[self._start : found].partition(b";")[0], 16)
            self._start = found + 2
            yield from self._take(size)
            while self._end - self._start < 2:
                self._more()
            if self._buffer[self._start : self._start + 2] != b"\r\n":
                raise WrongResult("a chunk of the answer does not end where it said it would")
            self._start += 2
            if not size:
                return

    def _take(self, size: int) -> Iterator[memoryview]:
        view = memoryview(self._buffer)
        while size:
            if self._start == self._end:
                self._more()
            piece = view[self._start : min(self._end, self._start + size)]
            self._start += len(piece)
            size -= len(piece)
            yield piece

    def _more(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start:
            held = self._end - self._start
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start, self._end = 0, held
        if self._end >= _MAX_HEAD:
            raise WrongResult("the hub sends a head or chunk size without end")
        try:
            count = self.link.recv_into(memoryview(self._buffer)[self._end :])
        except BlockingIOError:
            raise WrongResult(f"the hub has sent nothing for {_PATIENCE} s") from None
        if not count:
            raise WrongResult("the hub broke the connection off")
        self._end += count
