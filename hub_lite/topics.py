"""Topics: named streams between Instances, and between Instances and the world.

A topic keeps a bounded window. With no reader yet its data is kept, and then its producers wait, so that the first
reader misses nothing. Producers are merged where messages end; every reader gets everything.
"""

import re
from collections.abc import Callable
from typing import Any, Self

from sequence_sdk.content import ContentType

from .errors import BadRequest, Gone, NotFound, UnsupportedMediaType
from .turns import Turns
from .windows import Cursor, Start, Window

CONTENT_TYPES = ("text/x-ndjson", "application/x-ndjson", "text/plain", "application/octet-stream")
DEFAULT_CONTENT_TYPE = "application/x-ndjson"

_NAME = re.compile(r"[\\a-zA-Z0-9_+-]+")


class TopicTypeMismatch(UnsupportedMediaType):
    """The topic exists with another content type."""

    def __init__(self, topic: "Topic", wanted: str) -> None:
        super().__init__(topic.name, wanted)
        self.topic = topic
        self.wanted = wanted

    def __str__(self) -> str:
        return f"Acceptable Content-Type for {self.topic.name} is {self.topic.content_type}"


def check_name(name: str) -> str:
    """Return the name of a topic.

    Raises:
        BadRequest: it is none.
    """
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"Topic id incorrect format: {name[:80]!r} may have letters, digits and the signs _ + - \\ only"
        )
    return name


def check_content_type(value: str) -> str:
    """Return a content type without its parameters.

    Raises:
        BadRequest: topics do not carry it.
    """
    essence = value.partition(";")[0].strip().lower()
    if essence not in CONTENT_TYPES:
        raise BadRequest(
            f"Unsupported content-type {value[:80]!r}; a topic carries {', '.join(CONTENT_TYPES)}"
        )
    return essence


class Topic:
    """One topic."""

    def __init__(self, name: str, content_type: str, window: Window) -> None:
        self.name = name
        self.content_type = content_type
        self.removed = False
        self.settled = (
            True  # not while only readers that named no type have come: the first who names one decides
        )
        self._window = window
        self._turns = Turns()

    @property
    def lines(self) -> bool:
        """Tell whether its messages are lines; otherwise they are the chunks as they come."""
        return ContentType.parse(self.content_type) is not ContentType.OCTETS

    @property
    def values(self) -> bool:
        """Tell whether its messages are JSON values."""
        return ContentType.parse(self.content_type) is ContentType.NDJSON

    def open(self, offset: Start = None) -> Cursor:
        """Attach a reader at ``offset``, or at the first byte that no reader has been given."""
        return self._window.open(offset)

    def producer(self) -> "Producer":
        """Return a producer; use it as an async context manager. From now on the topic's type stays."""
        self.settled = True
        return Producer(self, self._window, self._turns)

    @property
    def free(self) -> bool:
        """Whether `take` would not have to wait: nobody is in the middle of a message, and there is room."""
        return self._turns.free and not self._window.full and not self._window.ended

    def take(self, body: bytes) -> None:
        """Take what a producer sends from its beginning to its end, while the topic is free.

        It does what a `Producer` would that writes all of it. Most requests bring one message in one piece: for them
        a producer, its turn and its waiting cost more than the message.
        """
        self.settled = True
        if body:
            self._window.write(body)
            if self.values and not body.endswith(b"\n"):
                self._window.write(b"\n")

    def end_readers(self) -> None:
        """End the readers attached now, after the data so far; the topic lives on."""
        self._window.end_readers()

    def remove(self) -> None:
        """End readers cleanly and let producers go; the topic is no more."""
        self.removed = True
        self._window.end()


class Producer:
    """One source of a topic's messages."""

    def __init__(self, topic: Topic, window: Window, turns: Turns) -> None:
        self._topic = topic
        self._window = window
        self._turn = turns.turn(lines=topic.lines)
        self._unfinished = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the last message: a JSON value without a line end gets one, so that the next producer's is not glued to it."""
        if self._unfinished and self._topic.values and not self._window.ended:
            self._window.write(b"\n")
        self._turn.end()

    async def write(self, chunk: bytes, *, ends: bool = True) -> None:
        """Send bytes, of octets the end of a message or not.

        It waits while the slowest reader is behind, or while there is no reader and the window is full.

        Raises:
            Gone: the topic was removed.
        """
        if not chunk and self._topic.lines:
            return  # the end of a request's chunk says nothing about lines
        async with self._turn.writing(chunk, ends=ends):
            if self._window.full:
                await self._window.wait_room()
            if self._window.ended:
                raise Gone(f"topic {self._topic.name} was removed")
            if chunk:
                self._unfinished = not chunk.endswith(b"\n")
                self._window.write(chunk)


class Topics:
    """All topics of a hub."""

    def __init__(self, make_window: Callable[[], Window]) -> None:
        self._make_window = make_window
        self._topics: dict[str, Topic] = {}

    def all(self) -> list[Topic]:
        """Return all topics, oldest first."""
        return list(self._topics.values())

    def get(self, name: str) -> Topic | None:
        """Return a topic, or None."""
        return self._topics.get(name)

    def create(self, name: str, content_type: str) -> Topic:
        """Make a topic.

        Raises:
            BadRequest: the name or the type is wrong, or the topic exists.
        """
        check_name(name)
        content_type = check_content_type(content_type)
        if name in self._topics:
            raise BadRequest(f"Topic with given id already exist: {name}")
        topic = self._topics[name] = Topic(name, content_type, self._make_window())
        return topic

    def obtain(self, name: str, content_type: str | None) -> Topic:
        """Return a topic, made if it is not there; without a type it is ndjson, or whatever it is already.

        Raises:
            BadRequest: the name or the type is wrong.
            TopicTypeMismatch: it has another type.
        """
        wanted = check_content_type(content_type) if content_type else None
        topic = self._topics.get(check_name(name))
        if topic is None:
            topic = self.create(name, wanted or DEFAULT_CONTENT_TYPE)
            topic.settled = wanted is not None
        elif wanted is not None and not topic.settled:
            topic.content_type, topic.settled = wanted, True
        elif (
            wanted is not None
            and wanted != topic.content_type
            and ContentType.parse(wanted) is not ContentType.parse(topic.content_type)
        ):
            raise TopicTypeMismatch(topic, wanted)
        return topic

    def remove(self, name: str) -> None:
        """Remove a topic; its readers end.

        Raises:
            NotFound: there is none of that name.
        """
        topic = self._topics.pop(check_name(name), None)
        if topic is None:
            raise NotFound(f"Topic {name} not found")
        topic.remove()

    def close(self) -> None:
        """Remove all."""
        for name in list(self._topics):
            self.remove(name)

    def describe(self) -> list[dict[str, Any]]:
        """Return all topics as the API lists them."""
        return [
            {"contentType": one.content_type, "localProvider": "", "topic": one.name, "topicName": one.name}
            for one in self._topics.values()
        ]
