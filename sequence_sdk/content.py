"""Content types: bytes of a stream to items and back, a block at a time.

A decoder takes chunks cut anywhere and gives whole items; what the cuts were never shows, not even in errors.

Source: docs/protocol.md, "Input prologue" and "Output".
"""

import dataclasses
import datetime as dt
import enum
import io
import itertools
import json
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Final

from .errors import BadInput, BadOutput, ContentError, UnsupportedContentType

MAX_ITEM: Final = 64 * 1024 * 1024  # bytes; a line that never ends must not fill the process
_SHOWN = 60  # characters of a bad line that an error repeats
_SHOWN_BYTES = 4 * (_SHOWN + 1)  # are always more than that, or the whole line


class ContentType(enum.StrEnum):
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
    package brings is the one that is used.

    ``loads`` takes UTF-8 and raises ValueError or RecursionError. An integer beyond 64 bits is a float to orjson.
    ``dumps`` gives UTF-8 without a line end, and raises TypeError or ValueError. With either library it also writes
    dataclasses, enumerations, dates, times and UUIDs, integers of any size, and keys that are numbers, booleans or
    None; NaN and the infinities become null.
    """
    try:
        import orjson  # noqa: PLC0415 - never before the author's code
    except ImportError:
        return _loads, _dumps

    def dumps(item: Any) -> bytes:
        try:
            return orjson.dumps(item)
        except (
            TypeError
        ):  # the standard library writes more: integers beyond 64 bits, keys that are no strings
            return _dumps(item)

    return orjson.loads, dumps


def _loads(line: bytes) -> Any:
    return _decode_json(line.decode("utf-8"))  # json.loads would guess: a NUL makes it UTF-16


def _dumps(item: Any) -> bytes:
    try:
        try:
            text = _encode_json(item)
        except ValueError:  # not finite somewhere; a circle raises again
            text = _encode_json(_decode_null(_encode_nan(item)))
    except RecursionError:
        raise ValueError("it is nested too deep for JSON") from None
    return text.encode("utf-8")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _plain(item: Any) -> Any:
    """Return what orjson writes for values that JSON has no word for."""
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        names = [field.name for field in dataclasses.fields(item)]
        return {name: getattr(item, name) for name in names if not name.startswith("_")}
    if isinstance(item, enum.Enum):
        return item.value
    if isinstance(item, dt.date | dt.time):
        return item.isoformat()
    if isinstance(item, uuid.UUID):
        return str(item)
    raise TypeError(f"{type(item).__name__} is not JSON")


_decode_json = json.JSONDecoder(parse_constant=_refuse_constant).decode
_decode_null = json.JSONDecoder(parse_constant=lambda _: None).decode
_encode_json = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
).encode
_encode_nan = json.JSONEncoder(default=_plain).encode


Refuse = Callable[[int, bytes, ContentError], bool]
"""Takes the number of a line that is no item, the line without its end, and the error; returns whether to go on without it."""


def refuse_nothing(_number: int, _line: bytes, _error: ContentError) -> bool:
    """Refuse to go on: the first line that is no item ends the input."""
    return False


class Decoder(ABC):
    """Cuts a stream into items. ``failure`` is the error that stands behind the items given so far.

    A line may have ``max_item`` bytes before its line end: a longer one always is a failure. Whether another line that is no
    item is one, ``refuse`` says.
    """

    def __init__(self, *, max_item: int = MAX_ITEM, refuse: Refuse = refuse_nothing) -> None:
        self.failure: ContentError | None = None
        self._max_item = max_item
        self._refuse = refuse

    @abstractmethod
    def feed(self, chunk: bytes) -> list[Any]:
        """Return the items that are whole now, up to a failure. After a failure there are none."""

    @abstractmethod
    def end(self) -> list[Any]:
        """Return the item that only the end makes whole, if there is one."""

    def _stop(self, error: ContentError) -> None:
        self.failure = error


class LineDecoder(Decoder):
    """What decoders of lines share: only a line feed ends a line, and the last line may lack it."""

    def __init__(self, *, max_item: int = MAX_ITEM, refuse: Refuse = refuse_nothing) -> None:
        super().__init__(max_item=max_item, refuse=refuse)
        self._parts: list[bytes] = []  # of the line that is not finished yet
        self._held = 0
        self._lines = 0  # finished lines so far, for error messages

    def feed(self, chunk: bytes) -> list[Any]:
        """Return the items of the lines that are whole now."""
        if self.failure is not None:
            return []
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            self._hold(chunk)
            return []
        self._parts.append(chunk[:cut])
        block = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        items = self._decode(block) if len(block) <= self._max_item else self._decode_up_to_long_line(block)
        if self.failure is None:
            self._hold(chunk[cut:])
        return items

    def end(self) -> list[Any]:
        """Return the item of a last line that has no line end."""
        block = b"".join(self._parts)
        self._parts.clear()
        return self._decode(block) if block else []

    def _hold(self, part: bytes) -> None:
        if part:
            self._parts.append(part)
            self._held += len(part)
        if self._held > self._max_item:
            self._fail_long(bytes(itertools.islice(itertools.chain.from_iterable(self._parts), _SHOWN_BYTES)))

    def _decode_up_to_long_line(self, block: bytes) -> list[Any]:
        """Return the items before the first line that is too long; had it come in pieces, it would not have got here."""
        start = 0
        while (end := block.find(b"\n", start)) >= 0:
            if end - start > self._max_item:
                items = self._decode(block[:start]) if start else []
                if self.failure is None:
                    self._fail_long(block[start : start + _SHOWN_BYTES])
                return items
            start = end + 1
        return self._decode(block)

    def _fail_long(self, beginning: bytes) -> None:
        # as much is shown as a line may have: how much more is here by now is an accident of the cuts
        shown = _show(beginning[: self._max_item], "...")
        self._fail(self._lines + 1, f"the line is longer than {self._max_item} bytes", shown)

    def _fail(self, line: int, problem: str, shown: str) -> None:
        self._stop(BadInput(line, problem, shown))

    def _stop(self, error: ContentError) -> None:
        super()._stop(error)
        self._parts.clear()

    def _may_go_on(self, number: int, problem: str, line: bytes) -> bool:
        """Tell whether to go on behind a line that is no item; if not, it is the failure."""
        error = BadInput(number, problem, _show(line))
        if self._refuse(number, line, error):
            return True
        self._stop(error)
        return False

    @abstractmethod
    def _decode(self, block: bytes) -> list[Any]:
        """Return the items of one whole line or more, up to a failure, and add those lines to ``_lines``."""


def _show(line: bytes, more: str = "") -> str:
    """Return the beginning of a line in quotes, with escapes for what is no text."""
    text = line[:_SHOWN_BYTES].decode("utf-8", "backslashreplace")
    shown = repr(text[:_SHOWN]).replace("\\\\", "\\")
    return shown + ("..." if len(text) > _SHOWN else more)


class TextDecoder(LineDecoder):
    """Lines of UTF-8, each with its line feed; the last may lack it. Nothing else ends a line."""

    def _decode(self, block: bytes) -> list[str]:
        items: list[str] = []
        while True:
            try:
                good = list(io.StringIO(block.decode("utf-8"), newline="\n"))
                self._lines += len(good)
                return items + good if items else good
            except UnicodeDecodeError as error:
                start = block.rfind(b"\n", 0, error.start) + 1
                good = list(io.StringIO(block[:start].decode("utf-8"), newline="\n"))
                items += good
                self._lines += len(good) + 1
                line, _, block = block[start:].partition(b"\n")
                place = error.start - start
                if not self._may_go_on(self._lines, f"byte {place} (0x{line[place]:02x}) is not UTF-8", line):
                    return items


class NdjsonDecoder(LineDecoder):
    """One JSON value a line; blank lines are nothing.

    The lines of a block are parsed as one array, which takes two thirds of the time that they take one by one. Lines that are
    no JSON may make an array too, even one of the right length: ``{"a":[1``, ``2]}`` and ``3,4``. So there is a mark between
    any two, a number that whoever wrote the lines cannot know. Where every other element is the mark, and no mark is
    missing, none was swallowed by a value that two lines share, and there is one value between two marks, no more.
    """

    def __init__(self, *, max_item: int = MAX_ITEM, refuse: Refuse = refuse_nothing) -> None:
        super().__init__(max_item=max_item, refuse=refuse)
        self._loads, _ = json_functions()
        self._mark = int.from_bytes(os.urandom(8)) >> 1  # beyond 63 bits, it might be a float to orjson
        self._joint = b",%d," % self._mark

    def _decode(self, block: bytes) -> list[Any]:
        text = block.removesuffix(b"\n")
        marked = text.replace(b"\n", self._joint)
        marks = (len(marked) - len(text)) // (len(self._joint) - 1)  # for less than to count line ends
        if marks:
            try:
                joined: list[Any] = self._loads(b"".join((b"[", marked, b"]")))
            except (ValueError, RecursionError):
                pass  # a bad line, or only a blank one: found out below
            else:
                if len(joined) == 2 * marks + 1 and joined[1::2].count(self._mark) == marks:
                    self._lines += marks + 1
                    return joined[::2]
        items = self._decode_each(text.split(b"\n"))
        self._lines += marks + 1
        return items

    def _decode_each(self, lines: list[bytes]) -> list[Any]:
        items = []
        for number, line in enumerate(lines, self._lines + 1):
            if not line.strip():
                continue
            try:
                items.append(self._loads(line))
            except (ValueError, RecursionError) as error:
                problem = f"not JSON ({str(error).partition(': line')[0]})"
                if not self._may_go_on(number, problem, line):
                    break
        return items


class OctetDecoder(Decoder):
    """Bytes as they come."""

    def feed(self, chunk: bytes) -> list[Any]:
        """Return the chunk, unless it is empty."""
        return [chunk] if chunk else []

    def end(self) -> list[Any]:
        """Return nothing: all bytes are given already."""
        return []


DECODERS: dict[ContentType, type[Decoder]] = {
    ContentType.TEXT: TextDecoder,
    ContentType.NDJSON: NdjsonDecoder,
    ContentType.OCTETS: OctetDecoder,
}


def text_encoder() -> Callable[[Any], bytes]:
    """Return the encoder of text/plain: no line end is added, bytes go as they are.

    It raises TypeError for anything else, and ValueError for text that has no UTF-8.
    """

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
    """Return the encoder of ndjson: the JSON of an item and a line end.

    It raises TypeError for what has no JSON, and ValueError for text that has no UTF-8, circles and deep nesting.
    """

    def encode(item: Any) -> bytes:
        try:
            return _dumps(item) + b"\n"
        except TypeError as error:
            raise TypeError(
                f"application/x-ndjson takes JSON values: {error}; convert it, "
                'or declare @sequence(gives="text/plain") or (gives="application/octet-stream")'
            ) from None

    try:
        import orjson  # noqa: PLC0415 - never before the author's code
    except ImportError:
        return encode
    fast, line_end = orjson.dumps, orjson.OPT_APPEND_NEWLINE

    def encode_fast(item: Any) -> bytes:
        try:
            return fast(item, None, line_end)
        except TypeError:
            return encode(item)

    return encode_fast


def octet_encoder() -> Callable[[Any], bytes]:
    """Return the encoder of octets: bytes as they are. It raises TypeError for anything else."""

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


def block_encoder(kind: ContentType) -> tuple[Callable[[Any], bytes], bytes]:
    """Return what encodes an item of a block without its line end, and the line end.

    It is the quick way: what it refuses with TypeError, ValueError or RecursionError, the encoder of ``ENCODERS`` may take.
    """
    if kind is not ContentType.NDJSON:
        return ENCODERS[kind](), b""
    try:
        import orjson  # noqa: PLC0415 - never before the author's code
    except ImportError:
        return _dumps, b"\n"
    return orjson.dumps, b"\n"


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
