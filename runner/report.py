"""What an author sees when the Sequence fails: a traceback of theirs alone, the item in hand, and a hint.

Everything here is bounded, whatever the item: it may be huge, endless, or raise when it is looked at.
"""

import inspect
import linecache
import os
import re
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, is_dataclass
from dataclasses import fields as dataclass_fields
from itertools import islice
from pathlib import Path
from typing import Any

import sequence_sdk
from sequence_sdk.errors import BadOutput
from sequence_sdk.stream import NOTHING

MASK = "***"
_SHOWN = 200  # characters of an item
_READ = 1000  # characters of a text that are looked at; a mask makes it shorter
_LONGEST = 20_000  # characters of one line of a message
_PLAIN_REPR: Any = object.__repr__
_DEEP = 6  # containers in one another
OURS = tuple(  # folders of our own code
    str(Path(module.__file__ or "").parent) + os.sep for module in (sequence_sdk, sys.modules["runner"])
)
_HIDDEN = (*OURS, "<frozen importlib")
_STDLIB = str(Path(os.__file__).parent) + os.sep
_INSTALLED = tuple(_STDLIB + name + os.sep for name in ("site-packages", "dist-packages"))


def format_failure(
    error: BaseException,
    *,
    item: Any = NOTHING,
    number: int = 0,
    function: Any = None,
    content_type: str = "",
) -> str:
    """Return what is to be told about an error, with a line end.

    Shape: the traceback as Python prints it, without a frame of ours; ``item 17: {"id": 5, "password": "***"}``, cut; and, for
    a usual mistake, ``hint: …``.

    Args:
        error: what was raised.
        item: what the Sequence had in hand.
        number: which of the items that is, from 1; 0 if it is not known.
        function: the author's, as it was called.
        content_type: that of the input.
    """
    text = mask_traceback(format_error(error))
    if item is not NOTHING:
        text += f"item {number}: " if number else "item: "
        text += show_item(item) + "\n"
    if hint := hint_for(Failure(error, item, function, content_type)):
        text += f"hint: {hint}\n"
    return text


# --- the traceback --------------------------------------------------------------------------------------------------


def format_error(error: BaseException) -> str:
    """Return the traceback of an error as Python prints it, without a frame of ours: it starts at the author's."""
    shown = traceback.TracebackException.from_exception(error)
    _strip(shown, set())
    return "".join(shown.format())


def _strip(shown: traceback.TracebackException, seen: set[int]) -> None:
    if id(shown) in seen:
        return
    seen.add(id(shown))
    if shown.stack is not None:
        frames = _authors(
            [frame for frame in shown.stack if not frame.filename.startswith(_HIDDEN)],
        )
        # None: a heading without a line below it tells nothing
        shown.stack = traceback.StackSummary.from_list(frames) if frames else None  # type: ignore[assignment]
    for other in (shown.__cause__, shown.__context__, *(getattr(shown, "exceptions", None) or ())):
        if other is not None:
            _strip(other, seen)


def _authors(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Return frames from the first of the author's on: threads and tasks begin in the standard library."""
    for at, frame in enumerate(frames):
        if not frame.filename.startswith(_STDLIB) or frame.filename.startswith(_INSTALLED):
            return frames[at:]
    return frames


# --- secrets --------------------------------------------------------------------------------------------------------

_NAMES = r"passw(?:or)?d|passphrase|pwd|secret|token|api[-_ ]?key|access[-_ ]?key|private[-_ ]?key|authorization|cookie|credential"
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
_NAME = rf"[\w.-]{{0,40}}(?:{_NAMES})[\w.-]{{0,40}}"
_QUOTED = r'"(?:[^"\\]|\\.)*"?' + r"|'(?:[^'\\]|\\.)*'?"

# What is a secret wherever it stands -> what is shown; every repetition has a bound or a fixed beginning, so time is linear
_ALWAYS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}-----|\Z)", re.DOTALL),
        MASK,
    ),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"(?<=://)([^\s:@/'\"]{0,100}):[^\s@/'\"]{1,200}@"), rf"\1:{MASK}@"),
    (re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}"), MASK),
)
_MARGIN = re.compile(r"^ +\| ?")
_IN_MESSAGES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            rf"""(["']{_NAME}["']\s{{0,9}}:\s{{0,9}})(?:{_QUOTED}|-?\d[\w.]*)""", re.IGNORECASE | re.DOTALL
        ),
        rf'\1"{MASK}"',
    ),
    (
        re.compile(rf"(\b{_NAME}\s?=\s?)(?:{_QUOTED}|[^\s&,;)}}\]\"']+)", re.IGNORECASE | re.DOTALL),
        rf"\1{MASK}",
    ),
)
_IN_ITEMS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(\b(?:proxy-)?authorization|\b(?:set-)?cookie)(\s?[:=]\s?)[^\r\n]+", re.IGNORECASE), rf"\1\2{MASK}"),
    (re.compile(rf"(\b{_NAME}\s?:\s?)(?![\s\"'])[^\s,;}}\]]+", re.IGNORECASE), rf"\1{MASK}"),
)  # fmt: skip


def is_secret_name(name: object) -> bool:
    """Tell whether a value of this name is nobody's business."""
    return isinstance(name, str | bytes) and bool(
        _SECRET_NAME.search(name.decode("latin-1") if isinstance(name, bytes) else name)
    )


def mask_text(text: str) -> str:
    """Return a text of an item with the secrets in it masked."""
    return _masked(text, (*_ALWAYS, *_IN_MESSAGES, *_IN_ITEMS))


def mask_traceback(text: str) -> str:
    """Return a formatted traceback with the secrets that its messages repeat masked; source lines keep their names."""
    cut = "".join(_cut(line) for line in text.splitlines(keepends=True))
    lines = _masked(cut, _ALWAYS).splitlines(keepends=True)
    return "".join(line if _is_frame(line) else _mask_message(line) for line in lines)


def _cut(line: str) -> str:
    more = len(line.rstrip()) - _LONGEST
    return f"{line[:_LONGEST]}… ({more} more characters)\n" if more > 0 else line


def _is_frame(line: str) -> bool:
    """Tell whether a line is about a frame; in a group there is a margin before it."""
    return _MARGIN.sub("", line, count=1).startswith("  ")


def _mask_message(line: str) -> str:
    kind, colon, said = line.partition(": ")  # InvalidTokenError: the name of an error is no name of a value
    return kind + colon + _masked(said, _IN_MESSAGES)


def _masked(text: str, rules: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, shown in rules:
        text = pattern.sub(shown, text)
    return text


# --- the item -------------------------------------------------------------------------------------------------------


def show_item(item: Any, limit: int = _SHOWN) -> str:
    """Return an item as a Python literal, with its secrets masked and cut to about ``limit`` characters."""
    shown = _Drawing(limit).draw(item)
    return shown if len(shown) <= limit else shown[:limit] + "…"


class _Drawing:
    """Draws a value until it has enough; what lies behind that is not looked at."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._parts: list[str] = []

    def draw(self, value: Any) -> str:
        """Return the drawing of a value, a little longer than the limit if it is cut."""
        self._value(value, _DEEP)
        return "".join(self._parts)

    @property
    def _full(self) -> bool:
        return self._size > self._limit

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._size += len(text)

    def _value(self, value: Any, depth: int) -> None:
        try:
            self._try_value(value, depth)
        except Exception as error:  # noqa: BLE001 - author's code: whatever a value does when it is looked at
            self._put(f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>")

    def _try_value(self, value: Any, depth: int) -> None:
        if isinstance(value, str):
            self._put(_quoted(value))
        elif isinstance(value, bytes | bytearray):
            self._put(repr(_seen(bytes(value[:_READ]).decode("latin-1")).encode("latin-1", "replace")))
        elif value is None or isinstance(value, bool | int | float):
            self._put(repr(value))
        elif depth == 0:
            self._put("…")
        elif isinstance(value, dict):
            self._members(
                "{", ((k, v) for k, v in islice(value.items(), self._limit)), ": ", "}", depth, quoted=True
            )
        elif (fields := _fields(value)) is not None:
            self._members(f"{type(value).__name__}(", fields, "=", ")", depth, quoted=False)
        elif isinstance(value, list | tuple | set | frozenset | deque):
            self._items(value, depth)
        else:
            self._put(_seen(repr(value)[:_READ]))

    def _members(
        self,
        opening: str,
        members: Iterator[tuple[Any, Any]],
        between: str,
        closing: str,
        depth: int,
        *,
        quoted: bool,
    ) -> None:
        self._put(opening)
        for at, (name, value) in enumerate(members):
            if self._full:
                return
            self._put(", " if at else "")
            if quoted:
                self._value(name, depth - 1)
            else:
                self._put(str(name))
            self._put(between)
            if is_secret_name(name) and value is not None and not isinstance(value, bool):
                self._put(f'"{MASK}"')
            else:
                self._value(value, depth - 1)
        self._put(closing)

    def _items(self, values: Iterable[Any], depth: int) -> None:
        plain = {list: ("[", "]"), tuple: ("(", ")")}
        opening, closing = plain.get(type(values)) or (f"{type(values).__name__}([", "])")
        self._put(opening)
        for at, value in enumerate(islice(values, self._limit)):
            if self._full:
                return
            self._put(", " if at else "")
            self._value(value, depth - 1)
        self._put(closing)


def _fields(value: Any) -> Iterator[tuple[str, Any]] | None:
    """Return the fields of a dataclass, a named tuple, a msgspec or pydantic model, or of an object without a repr of its own."""
    kind = type(value)
    if is_dataclass(kind):
        names: Iterable[str] = [field.name for field in dataclass_fields(kind) if field.repr]
    elif isinstance(value, tuple) and hasattr(kind, "_fields"):
        names = kind._fields
    elif hasattr(kind, "__struct_fields__"):
        names = kind.__struct_fields__
    elif isinstance(model := kind.__dict__.get("__pydantic_fields__"), dict):
        names = model
    elif kind.__repr__ is _PLAIN_REPR and hasattr(value, "__dict__"):
        names = [name for name in islice(vars(value), _SHOWN) if isinstance(name, str)]
    else:
        return None
    return ((name, getattr(value, name, MASK)) for name in names)


def _quoted(text: str) -> str:
    """Return the literal of a text between double quotes, as JSON has it; what a terminal would obey is escaped."""
    literal = repr(_seen(text[:_READ]))
    if literal[0] == '"':
        return literal
    return '"' + literal[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'


def _seen(text: str) -> str:
    """Return the beginning of a text with the secrets in it masked; one that the cut may have split is left out."""
    whole = len(text) < _READ
    masked = mask_text(text)
    return masked if whole or len(masked) > _SHOWN else masked.rsplit(None, 1)[0]


# --- the hint -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known about an error of the author's."""

    error: BaseException
    item: Any = NOTHING
    function: Any = None
    content_type: str = ""


_AS_JSON = '@sequence(takes="application/x-ndjson")'
_AS_TEXT = '@sequence(takes="text/plain")'

# Error, what it says, and the hint; the first that fits is given. Groups of what it says can be named.
_SAYINGS: tuple[tuple[type[BaseException], re.Pattern[str], str], ...] = tuple(
    (kind, re.compile(said), hint)
    for kind, said, hint in (
        (
            TypeError,
            r"'async for' requires an object with __aiter__ method, got coroutine",
            "a coroutine gives its items once it is awaited: `await` is missing before it",
        ),
        (
            TypeError,
            r"'async for' requires an object with __aiter__ method, got (?P<what>\w+)",
            "a {what} is read with a plain `for`; `async for` is for the input, for Streams and async generators",
        ),
        (
            TypeError,
            r"'(?P<what>async_generator|Stream|StringStream)' object is not iterable",
            "it is read with `async for`, in an `async def`",
        ),
        (
            TypeError,
            r"'coroutine' object (?:is not|does not|can't|has no|cannot)|unsupported operand.*'coroutine'|not \"?coroutine",
            "that is a coroutine that nobody has awaited: `await` is missing before the call",
        ),
        (
            AttributeError,
            r"'coroutine' object has no attribute",
            "that is a coroutine that nobody has awaited: `await` is missing before the call",
        ),
        (
            TypeError,
            r"(?:object (?P<what>\w+) can't be used in 'await' expression|'(?P<other>\w+)' object can't be awaited)",
            "the call has given its result already: leave out the `await`",
        ),
        (
            RuntimeError,
            r"asyncio\.run\(\) cannot be called from a running event loop|This event loop is already running",
            "the Sequence runs in an event loop already: write `await` in an `async def` instead",
        ),
        (
            RuntimeError,
            r"no running event loop",
            "a plain generator, and what it calls, runs in a thread of its own without a loop: make it an `async def`",
        ),
    )
)

# What an error says when the items are of another kind than the author thinks, by the kind they are of
_OTHER_KIND: tuple[tuple[type, str, re.Pattern[str], str], ...] = (
    (
        str,
        "text/plain",
        re.compile(
            r"string indices must be integers|'str' object (?:has no attribute|does not support item assignment)"
        ),
        f"the items are text{{as_it_came}}; if they are JSON, write {_AS_JSON}, or send them with -t application/x-ndjson",
    ),
    (
        bytes,
        "application/octet-stream",
        re.compile(
            r"byte indices must be integers|a bytes-like object is required, not 'str'|can't concat str to bytes"
            r"|not \"bytes\"\) to str"
            r"|'bytes' object has no attribute|first arg must be bytes"
            r"|cannot use a string pattern on a bytes-like object"
        ),
        f"the items are bytes{{as_it_came}}; for text, write {_AS_TEXT}, or `input.decode()`; for JSON {_AS_JSON}",
    ),
    (
        dict,
        "application/x-ndjson",
        re.compile(r"'dict' object has no attribute|expected string or bytes-like object|not \"dict\"\) to str"),
        f'the items are JSON values{{as_it_came}}: take what you need with item["…"]; for text, write {_AS_TEXT}',
    ),
)  # fmt: skip


def hint_for(failure: Failure) -> str:
    """Return what to do about a usual mistake, in one line; nothing where there is no such hint."""
    error = failure.error
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    try:
        found = Failure(error, failure.item, failure.function, failure.content_type)
        return next((hint for rule in _RULES if (hint := rule(found))), "")
    except Exception:  # noqa: BLE001 - author's code: an error or an item that raises when it is looked at
        return ""


def _missing_module(failure: Failure) -> str:
    error = failure.error
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    name = error.name.partition(".")[0]
    return (
        f"the package brings no module {name!r}: `pip install --target __pypackages__ {name}` in its folder, or with "
        "`--requirement requirements.txt` all that it needs"
    )


def _never_awaited(failure: Failure) -> str:
    error = failure.error
    if not isinstance(error, BadOutput):
        return ""
    if inspect.iscoroutine(error.item):
        return f"coroutine {error.item.__qualname__!r} was never awaited: write `yield await {error.item.__name__}(…)`"
    if inspect.isasyncgen(error.item) or inspect.isgenerator(error.item):
        word = "async for" if inspect.isasyncgen(error.item) else "for"
        return f"that is a whole generator: write `{word} item in {error.item.__name__}(…): yield item`"
    return ""


_COUNT = re.compile(
    r"takes .*positional arguments? but \d+ .*given|missing \d+ required positional arguments?"
)


def _wrong_count(failure: Failure) -> str:
    """Say how a Sequence is called, if it was that call which failed: then the author's function has no frame yet."""
    error, function = failure.error, failure.function
    if not isinstance(error, TypeError) or function is None or not _COUNT.search(str(error)):
        return ""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is not None and not last.tb_frame.f_code.co_filename.startswith(OURS):
        return ""
    name = getattr(function, "__name__", "the Sequence")
    return (
        f"{_place(function)}{name}{_signature(function)} is called with "
        "(context, input) or, marked @sequence, (input), and then the start arguments: take as many as the start gives"
    )


def _saying(failure: Failure) -> str:
    said = str(failure.error)
    for kind, pattern, hint in _SAYINGS:
        if isinstance(failure.error, kind) and (found := pattern.search(said)):
            return hint.format_map(found.groupdict())
    return ""


def _other_kind(failure: Failure) -> str:
    if not isinstance(failure.error, TypeError | AttributeError):
        return ""
    said = str(failure.error)
    as_it_came = f", as the input came as {failure.content_type}" if failure.content_type else ""
    for kind, content_type, pattern, hint in _OTHER_KIND:
        came_so = failure.content_type.startswith(content_type) or not failure.content_type
        mistyped = (
            isinstance(failure.error, AttributeError) and kind is str and not _looks_like_json(failure.item)
        )
        if isinstance(failure.item, kind) and came_so and not mistyped and pattern.search(said):
            return hint.format(as_it_came=as_it_came)
    return ""


def _looks_like_json(item: object) -> bool:
    """Tell whether a text could be the JSON of an object or an array: of another it is no use to say that it was meant."""
    return isinstance(item, str) and item.lstrip()[:1] in ("{", "[")


def _missing_key(failure: Failure) -> str:
    error, item = failure.error, failure.item
    if not isinstance(error, KeyError) or not isinstance(item, dict) or len(error.args) != 1:
        return ""
    if error.args[0] in item:
        return ""
    keys = ", ".join(show_item(key, 40) for key in islice(item, 8)) or "none"
    more = ", …" if len(item) > 8 else ""
    return f"the item has no key {show_item(error.args[0], 40)}; its keys: {keys}{more}"


_RULES: tuple[Callable[[Failure], str], ...] = (
    _missing_module,
    _never_awaited,
    _wrong_count,
    _saying,
    _other_kind,
    _missing_key,
)


def forgotten_yield(function: Any, *, read: int, gives: str = "") -> str:
    """Return a warning for a coroutine that has read items and returned None although it was to give something.

    Args:
        function: the author's, which has returned None.
        read: how many items it has taken.
        gives: the content type that it declares, if any.
    """
    if not read or not inspect.iscoroutinefunction(function):
        return ""
    if gives:
        promise = f"it declares gives={gives!r}"
    elif named := _promised(function):
        promise = f"it is annotated to give {named}"
    else:
        return ""
    items = "1 item" if read == 1 else f"{read} items"
    name = getattr(function, "__name__", "the Sequence")
    return f"{_place(function)}{name} has read {items} and returned nothing, but {promise}; did you forget `yield`?"


_STREAMS = re.compile(r"\b(?:Async)?(?:Iterator|Iterable|Generator)\b|\bStream\b|\bStringStream\b")


def _promised(function: Any) -> str:
    """Return the name of the stream that a function is annotated to return."""
    annotation = getattr(function, "__annotations__", {}).get("return")
    said = annotation if isinstance(annotation, str) else getattr(annotation, "__qualname__", str(annotation))
    found = _STREAMS.search(said)
    return found[0] if found else ""


_BLOCKING: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\bsleep\("), "write `await asyncio.sleep(…)`"),
    (
        re.compile(r"\brequests\.|\burlopen\(|\bhttpx\.(?!Async)"),
        "write `await asyncio.to_thread(…)` around it, or use an asynchronous client",
    ),
    (re.compile(r"\bsubprocess\.|\bos\.system\("), "write `await asyncio.create_subprocess_exec(…)`"),
    (re.compile(r"\binput\(\)"), "read the `input` of the Sequence instead"),
    (re.compile(r"\.(?:result|join|acquire|wait|get|recv|accept)\("), "wait with `await`, or in `await asyncio.to_thread(…)`"),
)  # fmt: skip


def blocked_hint(where: dict[str, Any], root: str = "") -> str:
    """Return a warning for a loop that is kept busy, for the log, once an Instance.

    Args:
        where: ``seconds``, ``file`` and ``line`` as the health report has them.
        root: the package's folder, to which ``file`` is relative; its line tells which call it is.
    """
    file, line = where.get("file"), where.get("line")
    if not isinstance(file, str) or not isinstance(line, int):
        return ""
    source = linecache.getline(str(Path(root, file)), line)
    way_out = next(
        (hint for pattern, hint in _BLOCKING if pattern.search(source)),
        "do long work in `await asyncio.to_thread(…)`, or make the Sequence a plain generator (`def` with `yield`)",
    )
    call = f" ({source.strip()[:80]})" if source.strip() else ""
    seconds = where.get("seconds", 0)
    return f"{file}:{line}{call} has held up the event loop for {seconds:g} s, and input and output with it: {way_out}"


def _place(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}: " if code is not None else ""


def _signature(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "(…)"
