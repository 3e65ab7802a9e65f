"""Items on their way in: written as the content type says, and counted as the Sequence will count them."""

from collections.abc import Iterable
from typing import Any

from sequence_sdk.content import ENCODERS, ContentType

from .errors import TestingError


def type_for(item: Any) -> ContentType:
    """Return the content type of an input whose first item this is, where nobody says it."""
    if isinstance(item, str):
        return ContentType.TEXT
    if isinstance(item, bytes | bytearray | memoryview):
        return ContentType.OCTETS
    return ContentType.NDJSON


class Feed:
    """Turns items into bytes, and bytes into pieces that end where items end."""

    def __init__(self, kind: ContentType) -> None:
        self.kind = kind
        self.count: int = 0  # items that are whole
        self._encode = ENCODERS[kind]()
        self._tail = b""

    def encode(self, items: Iterable[Any]) -> list[bytes]:
        """Return the bytes of items.

        Raises:
            TestingError: one does not fit the content type.
        """
        written = []
        for number, item in enumerate(items, 1):
            try:
                written.append(self._encode(item))
            except (TypeError, ValueError, RecursionError) as error:
                raise TestingError(
                    f"item {number} of this feed is no {self.kind}: {error}; item: {item!r:.80}"
                ) from None
        return written

    def add(self, data: bytes) -> list[tuple[bytes, int]]:
        """Count the items in bytes, and return the bytes in pieces, each with the number of items that are whole after it."""
        if self.kind is ContentType.OCTETS:
            self.count += bool(data)
            return [(data, self.count)]
        pieces = []
        for line in _lines(data):
            self._tail += line
            if line.endswith(b"\n"):
                self._close()
            pieces.append((line, self.count))
        return pieces

    def end(self) -> None:
        """Count the item that only the end makes whole, if there is one."""
        self._close()

    def _close(self) -> None:
        self.count += bool(self._tail.strip() if self.kind is ContentType.NDJSON else self._tail)
        self._tail = b""


def _lines(data: bytes) -> list[bytes]:
    """Cut after line feeds; ``splitlines`` cuts elsewhere too."""
    *whole, rest = data.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])
