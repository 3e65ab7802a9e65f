"""What is sent through a hub, and the check that exactly what should come out of it does."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

MIB = 1024 * 1024
ITEM = 100  # bytes of a line or message, its line end included
CHUNK = 64 * 1024  # bytes of an HTTP chunk, as Node's clients cut them
_FIRST_ID = 10_000_000  # so that every id has eight digits
_STAMP = 16  # digits at the beginning of a block of octets: its number


class WrongResult(Exception):
    """What came out is not what should have; ``str()`` of it says where they part."""


class Kind(StrEnum):
    """What a payload is made of; the value is its content type."""

    OCTETS = "application/octet-stream"
    LINES = "text/plain"
    MESSAGES = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Payload:
    """A recipe, small enough to be handed to other processes.

    Shape: ``count`` blocks of 1 MiB, no two alike, for octets; ``count`` numbered items of 100 bytes for the others.
    """

    kind: Kind
    count: int

    @property
    def size(self) -> int:
        """The bytes of all of it."""
        return self.count * (MIB if self.kind is Kind.OCTETS else ITEM)

    def blocks(self) -> Iterator[bytes | bytearray]:
        """Return what is sent; a block is good until the next one is taken."""
        if self.kind is not Kind.OCTETS:
            yield _items(self.kind, self.count, 7)
            return
        block = bytearray(_octets())
        for number in range(self.count):
            block[:_STAMP] = b"%016d" % number
            yield block

    def chunked(self) -> Iterator[bytes | bytearray]:
        """Return what is sent, cut into chunks of 64 KiB and framed for HTTP, without the last chunk."""
        if self.kind is not Kind.OCTETS:
            yield _framed(_items(self.kind, self.count, 7))
            return
        block = bytearray(_framed(_octets()))
        start = block.index(b"\n") + 1
        for number in range(self.count):
            block[start : start + _STAMP] = b"%016d" % number
            yield block

    def expected(self) -> Iterator[bytes | bytearray]:
        """Return what a Sequence makes of it, in blocks; messages have one added to their ``v``."""
        if self.kind is Kind.MESSAGES:
            return iter([_items(self.kind, self.count, 8)])
        return self.blocks()


class Checker:
    """Compares what comes with what should, byte for byte, piece by piece."""

    def __init__(self, payload: Payload) -> None:
        self.received = 0
        self.size = payload.size
        self._blocks = payload.expected()
        self._block: bytes | bytearray = b""
        self._offset = 0

    @property
    def complete(self) -> bool:
        """Tell whether everything has come."""
        return self.received >= self.size

    def take(self, piece: memoryview) -> None:
        """Compare a piece.

        Raises:
            WrongResult: it is another one, or too much.
        """
        while piece:
            if self._offset == len(self._block):
                self._block, self._offset = next(self._blocks, b""), 0
                if not self._block:
                    raise WrongResult(f"{len(piece)} bytes more than the {self.size} there should be")
            part = piece[: len(self._block) - self._offset]
            if not self._block.startswith(part, self._offset):  # compares in place; slices and == would copy
                raise WrongResult(f"the {len(part)} bytes at {self.received} are not what should be there")
            self.received += len(part)
            self._offset += len(part)
            piece = piece[len(part) :]

    def end(self) -> None:
        """Take the end.

        Raises:
            WrongResult: it is too early.
        """
        if not self.complete:
            raise WrongResult(f"{self.received} bytes came of {self.size}")


class OctetsChecker:
    """Checks octets as `Checker` does and keeps no block of its own, so that a hundred of it do not crowd the caches."""

    def __init__(self, payload: Payload) -> None:
        self.received = 0
        self.size = payload.size
        self._block = _octets()

    @property
    def complete(self) -> bool:
        """Tell whether everything has come."""
        return self.received >= self.size

    def take(self, piece: memoryview) -> None:
        """Compare a piece.

        Raises:
            WrongResult: it is another one, or too much.
        """
        if self.received + len(piece) > self.size:
            raise WrongResult(f"more came than the {self.size} bytes there should be")
        while piece:
            number, offset = divmod(self.received, MIB)
            wanted = self._block if offset >= _STAMP else b"%016d" % number
            part = piece[: len(wanted) - offset]
            if not wanted.startswith(part, offset):
                raise WrongResult(f"the {len(part)} bytes at {self.received} are not what should be there")
            self.received += len(part)
            piece = piece[len(part) :]

    def end(self) -> None:
        """Take the end.

        Raises:
            WrongResult: it is too early.
        """
        if not self.complete:
            raise WrongResult(f"{self.received} bytes came of {self.size}")


@lru_cache(maxsize=1)
def _octets() -> bytes:
    return random.Random(1).randbytes(MIB)


@lru_cache(maxsize=4)
def _items(kind: Kind, count: int, value: int) -> bytes:
    if kind is Kind.LINES:
        heads: Iterator[bytes] = (b"%d " % (_FIRST_ID + number) for number in range(count))
        tail = b"a line of text that an author may want to read\n"
    else:
        heads = (b'{"id":%d,"v":%d,"text":"' % (_FIRST_ID + number, value) for number in range(count))
        tail = b'a message, one of many"}\n'
    return b"".join(head + b"." * (ITEM - len(head) - len(tail)) + tail for head in heads)


def _framed(block: bytes) -> bytes:
    parts: list[bytes] = []
    for start in range(0, len(block), CHUNK):
        chunk = block[start : start + CHUNK]
        parts += (b"%x\r\n" % len(chunk), chunk, b"\r\n")
    return b"".join(parts)
