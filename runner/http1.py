"""HTTP/1.1 as a client speaks it over one stream: a request to bytes, bytes to an answer; no socket.

Only what a Sequence needs to talk to its hub: one request a stream, no redirects, no compression.

Source: docs/protocol.md, "BPMux on channel 8".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

MAX_HEAD = 64 * 1024  # bytes; a peer that never ends its head must not fill us
MAX_LINE = 1024  # bytes of a chunk's size line, extensions included, and of a line of the trailer


class HttpError(Exception):
    """The answer is no HTTP/1.1, or ends too early."""


def encode_head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request, its blank line included.

    Raises:
        ValueError: a part has a line break, which would forge a header, the path has a space, or there are characters
            that no head can have.
    """
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    for line in lines:
        if "\r" in line or "\n" in line:
            raise ValueError(f"a line break in the head of a request: {line[:80]!r}")
    if " " in path:
        raise ValueError(f"a space in the path of a request: {path[:80]!r}; quote it")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def encode_chunk(chunk: bytes) -> bytes:
    """Return one chunk of a body of unknown length; an empty one is its end."""
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer; names of headers are in lower case."""

    status: int
    reason: str
    headers: dict[str, str] = field(default_factory=dict)


class _State(Enum):
    HEAD = auto()
    BODY = auto()  # of known length, or until the end
    SIZE = auto()  # the line before a chunk
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    DONE = auto()


class AnswerDecoder:
    """Cuts bytes into the head and the body of one answer.

    Iterating gives the pieces of the body that are there, then the error where it stands, and again at each later try. Cuts never
    change the outcome, errors included. What comes after the answer is ignored.
    """

    def __init__(self, *, max_head: int = MAX_HEAD, max_line: int = MAX_LINE) -> None:
        self.head: Head | None = None
        self._max_head = max_head
        self._max_line = max_line
        self._held = bytearray()
        self._left: int | None = 0  # bytes of the body, or of the chunk, to come; None: until the end
        self._state = _State.HEAD
        self._ended = False
        self._broken = ""

    @property
    def complete(self) -> bool:
        """Tell whether the answer is whole, its pieces handed out."""
        return self._state is _State.DONE

    def feed(self, data: bytes) -> None:
        """Take bytes, cut anywhere."""
        if not self._broken and not self.complete:
            self._held += data

    def end(self) -> None:
        """Say that no more bytes come; an answer that is not complete is an error from now on."""
        self._ended = True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while not self._broken and not self.complete:
            try:
                piece = self._step()
            except HttpError as error:
                self._broken = str(error)
                self._held.clear()
                break
            if piece:
                return piece
            if piece is None:
                if not self._ended:
                    raise StopIteration
                self._broken = "the answer ended before it was complete"
        if self._broken:
            raise HttpError(self._broken)
        raise StopIteration

    def _step(self) -> bytes | None:
        """Take one thing off what is held: a piece, or something else, which is ``b""``; None where that needs more bytes."""
        match self._state:
            case _State.HEAD:
                return self._take_head()
            case _State.SIZE:
                return self._take_size()
            case _State.CHUNK_END:
                return self._take_chunk_end()
            case _State.TRAILER:
                return self._take_trailer()
            case _:
                return self._take_body()

    def _take_until(self, mark: bytes, most: int, what: str) -> bytes | None:
        """Return what stands before a mark, and take both off."""
        end = self._held.find(mark)
        if end > most or (end < 0 and len(self._held) >= most + len(mark)):
            raise HttpError(f"{what} is longer than {most} bytes")
        if end < 0:
            return None
        taken = bytes(self._held[:end])
        del self._held[: end + len(mark)]
        return taken

    def _take_head(self) -> bytes | None:
        taken = self._take_until(b"\r\n\r\n", self._max_head, "the head of the answer")
        if taken is None:
            return None
        first, *lines = taken.decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        code, _, reason = rest.partition(" ")
        if not (version.startswith("HTTP/1.") and len(code) == 3 and code.isascii() and code.isdigit()):
            raise HttpError(f"not the first line of an answer: {first[:80]!r}")
        if code.startswith("1"):
            return b""  # 100 Continue; the answer follows
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise HttpError(f"not a header: {line[:80]!r}")
            headers[name.strip().lower()] = value.strip()
        self._begin_body(headers, int(code))
        self.head = Head(int(code), reason, headers)
        return b""

    def _begin_body(self, headers: dict[str, str], status: int) -> None:
        length = headers.get("content-length")
        if status in (204, 304):
            self._state = _State.DONE
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            self._state = _State.SIZE
        elif length is None:
            self._state, self._left = _State.BODY, None
        elif length.isascii() and length.isdigit() and len(length) < 20:
            self._left = int(length)
            self._state = _State.BODY if self._left else _State.DONE
        else:
            raise HttpError(f"not a length: {length[:80]!r}")

    def _take_size(self) -> bytes | None:
        line = self._take_until(b"\r\n", self._max_line, "the line before a chunk")
        if line is None:
            return None
        size = line.partition(b";")[0].strip()
        if not size or size.strip(b"0123456789abcdefABCDEF"):
            raise HttpError(f"not the size of a chunk: {size[:80]!r}")
        self._left = int(size, 16)
        self._state = _State.CHUNK if self._left else _State.TRAILER
        return b""

    def _take_chunk_end(self) -> bytes | None:
        if not b"\r\n".startswith(self._held[:2]):
            raise HttpError("a chunk does not end where it should")
        if len(self._held) < 2:
            return None
        del self._held[:2]
        self._state = _State.SIZE
        return b""

    def _take_trailer(self) -> bytes | None:
        line = self._take_until(b"\r\n", self._max_line, "a line of the trailer")
        if line == b"":
            self._state = _State.DONE
        return None if line is None else b""

    def _take_body(self) -> bytes | None:
        if not self._held:
            if self._left is None and self._ended:
                self._state = _State.DONE
                return b""
            return None
        length = len(self._held) if self._left is None else min(self._left, len(self._held))
        piece = bytes(self._held[:length])
        del self._held[:length]
        if self._left is not None:
            self._left -= length
            if not self._left:
                self._state = _State.CHUNK_END if self._state is _State.CHUNK else _State.DONE
        return piece
