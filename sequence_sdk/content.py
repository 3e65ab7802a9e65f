"""Content types: bytes of a stream to items and back, a block at a time.

A decoder takes chunks cut anywhere and gives whole items; what the cuts were never shows, not even in errors.

Source: docs/protocol.md, "Input prologue" and "Output".
"""

import io
import json
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Final

from .errors import BadInput, BadOutput, ContentError, UnsupportedContentType

MAX_ITEM: Final = 64 * 1024 * 1024  # bytes; a line that never ends must not fill the process
_SHOWN = 60  # characters of a bad line that an error repeats


class ContentType(StrEnum):
    """What an item is on a stream."""

    TEXT = "text/plain"
    NDJSON = "application/x-ndjson"
    OCTETS = "application/octet-stream"

    @classmethod
    def parse(cls, value: str) -> "ContentType":
        """Return the kind of a content type; parameters such as a charset, case and spaces do not matter.

        Raises:
            UnsupportedContentType: nobody here reads it.
        """
        essence = value.partition(";")[0].strip().lower()
        if essence.endswith("x-ndjson"):
            return cls.NDJSON
        try:
            return cls(essence)
        except ValueError:
            raise UnsupportedContentType(value) from None


def json_functions() -> tuple[Callable[[bytes], Any], Callable[[Any], bytes]]:
    """Return ``(loads, dumps)``: orjson's where the author's process can import it, else the standard library's.

    It is looked up when the first stream needs it, after the author's folders are on the path: an orjson that the
    package brings is the one that is used. ``dumps`` gives UTF-8 without a line end.
    """
    try:
        import orjson  # noqa: PLC0415 - never before the author's code
    except ImportError:
        return json.loads, _dumps

    def dumps(item: Any) -> bytes:
        try:
            return orjson.dumps(item)
        except (
            TypeError
        ):  # integers beyond 64 bits, keys that are no strings: the standard library writes them
            return _dumps(item)

    return orjson.loads, dumps


def _dumps(item: Any) -> bytes:
    return json.dumps(item, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")


class Decoder:
    """Cuts a stream into items. ``failure`` is the error that stands behind the items given so far."""

    def __init__(self, *, max_item: int = MAX_ITEM) -> None:
        self.failure: ContentError | None = None
        self._max_item = max_item
        self._parts: list[bytes] = []  # of the line that is not finished yet
        self._held = 0
        self._lines = 0  # finished lines so far, for error messages

    def feed(self, chunk: bytes) -> list[Any]:
        """Return the items that are whole now, up to a failure. After a failure there are none."""
        if self.failure:
            return []
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            return self._hold(chunk)
        self._parts.append(chunk[:cut])
        block = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        items = self._decode(block)
        if not self.failure:
            self._lines += block.count(b"\n")
            self._hold(chunk[cut:])
        return items

    def end(self) -> list[Any]:
        """Return the item of a last line that has no line end."""
        block = b"".join(self._parts)
        self._parts.clear()
        return self._decode(block) if block and not self.failure else []

    def _hold(self, part: bytes) -> list[Any]:
        if part:
            self._parts.append(part)
            self._held += len(part)
        if self._held > self._max_item:
            self._fail(self._lines + 1, f"the line is longer than {self._max_item} bytes", self._parts[0])
        return []

    def _fail(self, line: int, problem: str, shown: bytes) -> None:
        text = shown[:_SHOWN].decode("utf-8", "backslashreplace")
        self.failure = BadInput(line, problem, repr(text) + ("..." if len(shown) > _SHOWN else ""))
        self._parts.clear()

    def _decode(self, block: bytes) -> list[Any]:
        """Return the items of whole lines."""
        raise NotImplementedError

    def _decode_each(self, block: bytes, decode: Callable[[bytes], Any]) -> list[Any]:
        """Return the items line by line up to the one that fails, and keep its failure."""
        items = []
        for number, line in enumerate(block.split(b"\n"), self._lines + 1):
            try:
                if line.strip():
                    items.append(decode(line))
            except ValueError as error:
                self._fail(number, str(error), line)
                break
        return items


class TextDecoder(Decoder):
    """Lines of UTF-8, each with its line feed; the last may lack it. Nothing else ends a line."""

    def _decode(self, block: bytes) -> list[str]:
        try:
            return list(io.StringIO(block.decode("utf-8"), newline="\n"))
        except UnicodeDecodeError as error:
            start = block.rfind(b"\n", 0, error.start) + 1
            good = list(io.StringIO(block[:start].decode("utf-8"), newline="\n"))
            line = block[start:].split(b"\n", 1)[0]
            place = error.start - start
            self._fail(self._lines + len(good) + 1, f"byte {place} (0x{line[place]:02x}) is not UTF-8", line)
            return good


class NdjsonDecoder(Decoder):
    """One JSON value a line; blank lines are nothing."""

    def __init__(self, *, max_item: int = MAX_ITEM) -> None:
        super().__init__(max_item=max_item)
        self._loads, _ = json_functions()

    def _decode(self, block: bytes) -> list[Any]:
        lines = block.split(b"\n")
        if not lines[-1]:
            lines.pop()
        try:
            return list(map(self._loads, lines))
        except (ValueError, RecursionError):  # a bad line, or only a blank one: find out which
            return self._decode_each(block, self._value)

    def _value(self, line: bytes) -> Any:
        try:
            return self._loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not JSON ({str(error).partition(': line')[0]})") from None


class OctetDecoder(Decoder):
    """Bytes as they come."""

    def feed(self, chunk: bytes) -> list[Any]:
        """Return the chunk."""
        return [chunk]


DECODERS: dict[ContentType, type[Decoder]] = {
    ContentType.TEXT: TextDecoder,
    ContentType.NDJSON: NdjsonDecoder,
    ContentType.OCTETS: OctetDecoder,
}


def text_encoder() -> Callable[[Any], bytes]:
    """Return the encoder of text/plain: no line end is added, bytes go as they are."""

    def encode(item: Any) -> bytes:
        if isinstance(item, str):
            return item.encode("utf-8")
        if isinstance(item, bytes | bytearray | memoryview):
            return bytes(item)
        raise TypeError(
            f"text/plain takes str, not {type(item).__name__}; "
            'yield text, or declare @sequence(gives="application/x-ndjson")'
        )

    return encode


def ndjson_encoder() -> Callable[[Any], bytes]:
    """Return the encoder of ndjson: the JSON of an item and a line end."""
    _, dumps = json_functions()

    def encode(item: Any) -> bytes:
        return dumps(item) + b"\n"

    return encode


def octet_encoder() -> Callable[[Any], bytes]:
    """Return the encoder of octets: bytes as they are."""

    def encode(item: Any) -> bytes:
        if isinstance(item, bytes):
            return item
        if isinstance(item, bytearray | memoryview):
            return bytes(item)
        raise TypeError(
            f"application/octet-stream takes bytes, not {type(item).__name__}; "
            'yield bytes (`text.encode()`), or declare @sequence(gives="text/plain")'
        )

    return encode


ENCODERS: dict[ContentType, Callable[[], Callable[[Any], bytes]]] = {
    ContentType.TEXT: text_encoder,
    ContentType.NDJSON: ndjson_encoder,
    ContentType.OCTETS: octet_encoder,
}


def bad_output(number: int, error: Exception, item: object) -> BadOutput:
    """Return the error for an item that an encoder refused."""
    return BadOutput(number, str(error), item)


def decode_all(kind: ContentType, chunks: Iterable[bytes]) -> list[Any]:
    """Return all items of a whole stream; the failure, if any, is raised."""
    decoder = DECODERS[kind]()
    items = [item for chunk in chunks for item in decoder.feed(chunk)] + decoder.end()
    if decoder.failure:
        raise decoder.failure
    return items
