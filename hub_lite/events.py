"""Events of one Instance, as people see them: the last one, the next one, or a stream of them."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from .windows import Cursor, Window

_MAX_NAMES = 1000  # names whose last event is kept; an author who makes up names must not fill the hub
_STREAM_BYTES = 256 * 1024  # what a reader of events may be behind, before it misses the oldest


class EventsOver(Exception):
    """The Instance has ended, and no such event will come."""


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One event. ``message`` is any JSON value; falsy ones are messages too."""

    name: str
    message: Any

    def to_json(self) -> dict[str, Any]:
        """Return it as a stream of all events shows it."""
        return {"eventName": self.name, "message": self.message}


class EventBook:
    """The events an Instance has emitted."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, EventRecord] = OrderedDict()
        self._newest: EventRecord | None = None
        self._waiters: dict[str | None, list[asyncio.Future[EventRecord]]] = {}
        self._streams: dict[Window, str | None] = {}
        self._over = False

    def add(self, name: str, message: Any) -> None:
        """Take an event of the Instance's."""
        record = EventRecord(name, message)
        self._last[name] = self._newest = record
        self._last.move_to_end(name)
        if len(self._last) > _MAX_NAMES:
            self._last.popitem(last=False)
        for key in (name, None):
            for waiter in self._waiters.pop(key, []):
                if not waiter.done():
                    waiter.set_result(record)
        for window, wanted in self._streams.items():
            if wanted is None:
                window.write(orjson.dumps(record.to_json()) + b"\n")
            elif wanted == name:
                window.write(orjson.dumps(message) + b"\n")

    async def last(self, name: str | None) -> EventRecord:
        """Return the last event of a name, or of any (None); wait for the first if there is none.

        Raises:
            EventsOver: the Instance has ended without one.
        """
        found = self._newest if name is None else self._last.get(name)
        return found if found is not None else await self.next(name)

    async def next(self, name: str | None) -> EventRecord:
        """Wait for the next event of a name, or of any.

        Raises:
            EventsOver: the Instance has ended.
        """
        if self._over:
            raise EventsOver
        waiter: asyncio.Future[EventRecord] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(name, [])
        waiters.append(waiter)
        try:
            return await waiter
        finally:
            if waiter in waiters:
                waiters.remove(waiter)
            if not waiters and self._waiters.get(name) is waiters:
                del self._waiters[name]

    @contextmanager
    def stream(self, name: str | None) -> Iterator[Cursor]:
        """Open a stream of the events from now on, one JSON a line: messages of one name, or whole events of any.

        A reader that is too slow misses the oldest lines; it never makes the Instance wait.
        """
        window = Window(_STREAM_BYTES, lossless=False)
        if self._over:
            window.end()
        self._streams[window] = name
        try:
            with window.open() as cursor:
                yield cursor
        finally:
            del self._streams[window]

    def close(self) -> None:
        """Say that no more events come: streams end, and those who wait get an error. Safe to call twice."""
        self._over = True
        for window in self._streams:
            window.end()
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(EventsOver())
        self._waiters.clear()
