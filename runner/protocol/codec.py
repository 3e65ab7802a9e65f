"""Messages to bytes and back: push bytes, pull messages.

Source: docs/protocol.md, "Messages".
"""

import json
from collections import deque
from collections.abc import Iterator
from typing import NoReturn

from .errors import LocalProtocolError, RemoteProtocolError
from .messages import VOCABULARY, Message, Unknown

MAX_LINE = 1024 * 1024  # bytes; a peer that sends no newline must not fill us
_SHOWN = 80  # characters of a bad line that an error repeats


# One of each: json.dumps and json.loads would make one for every message.
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def encode(message: Message, *, line_end: bytes = b"\n") -> bytes:
    """Return one line: ``[code,payload]`` and ``line_end``.

    Raises:
        LocalProtocolError: the payload is not JSON (a NaN, an object of the author's) or longer than a line may be.
    """
    try:
        text = _ENCODER.encode([message.code, message.to_payload()])
    except (TypeError, ValueError, RecursionError) as error:
        raise LocalProtocolError(f"{type(message).__name__}: the payload is not JSON: {error}") from error
    if len(text) > MAX_LINE:
        raise LocalProtocolError(
            f"{type(message).__name__}: {len(text)} bytes are more than a message may have ({MAX_LINE})"
        )
    return text.encode("ascii") + line_end


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def decode_line(line: bytes) -> Message:
    """Return the message of one line, its end taken off.

    Raises:
        RemoteProtocolError: the line is no message; the text shows it, cut.
    """
    try:
        value = _DECODER.decode(line.decode(json.detect_encoding(line), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"not JSON ({error}): {_shown(line)}") from None
    if not (isinstance(value, list) and len(value) == 2):
        raise RemoteProtocolError(f"not an array of code and payload: {_shown(line)}")
    code, payload = value
    if isinstance(code, bool) or not isinstance(code, int):
        raise RemoteProtocolError(f"the code is not a whole number: {_shown(line)}")
    kind = VOCABULARY.get(code)
    if kind is None:
        return Unknown(code, payload)
    if payload is None:
        payload = {}
    if not isinstance(payload, dict):
        raise RemoteProtocolError(f"the payload is not an object: {_shown(line)}")
    return kind.from_payload(payload)


def _shown(line: bytes) -> str:
    text = line[: _SHOWN + 1].decode("utf-8", "backslashreplace")
    return repr(text if len(line) <= _SHOWN else text[:_SHOWN] + "...")


class Decoder:
    """Cuts a stream of bytes into messages.

    Iterating gives each whole message; a bad line raises its error where it stands, and the next iteration goes on
    behind it. Blank lines are nothing. ``cuts never change the outcome, errors included``.
    """

    def __init__(self, *, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        self._tail = bytearray()
        self._skipping = False  # inside a line that was too long: its error is out, its rest is dropped
        self._outcomes: deque[bytes | RemoteProtocolError] = deque()

    @property
    def is_empty(self) -> bool:
        """Tell whether the next byte begins a line, and everything before it is handed out."""
        return not (self._tail or self._skipping or self._outcomes)

    def feed(self, chunk: bytes) -> None:
        """Take bytes, cut anywhere."""
        *lines, tail = chunk.split(b"\n")
        for line in lines:
            self._extend(line)
            if not self._skipping:
                self._outcomes.append(bytes(self._tail))
            self._tail.clear()
            self._skipping = False
        self._extend(tail)

    def _extend(self, part: bytes) -> None:
        if self._skipping:
            return
        self._tail += part
        if len(self._tail) - self._tail.endswith(b"\r") > self._max_line:  # a line's end is no part of it
            self._outcomes.append(RemoteProtocolError(f"a line is longer than {self._max_line} bytes"))
            self._skipping = True
            self._tail.clear()

    def end(self) -> None:
        """Say that no more bytes come: an unfinished line is then an error of its own."""
        if self._tail.strip():
            self._outcomes.append(
                RemoteProtocolError(f"the stream ended inside a line: {_shown(bytes(self._tail))}")
            )
        self._tail.clear()

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        while self._outcomes:
            outcome = self._outcomes.popleft()
            if isinstance(outcome, RemoteProtocolError):
                raise outcome
            line = outcome.strip()
            if line:
                return decode_line(line)
        raise StopIteration
