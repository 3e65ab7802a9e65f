"""JSON texts of what the hub shows, kept until a fact behind them is another one."""

import json
from operator import is_
from typing import Any

import orjson


def encode_json(value: Any) -> bytes:
    """Return a value as JSON; ``orjson.Fragment`` in it only where all numbers fit 64 bits and all text is UTF-8."""
    try:
        return orjson.dumps(value)
    except (
        TypeError
    ):  # a runner may report integers beyond 64 bits and halves of surrogate pairs, which are JSON too
        return json.dumps(value).encode("ascii")


class KeptText:
    """A text made of facts, which is made anew when one of them is no longer the same object.

    Facts are objects that nobody changes in place, and are compared by identity: 1 and 1.0 and True are equal, but are not
    the same JSON. They are held here, so that no other object can get the identity of one that is gone.
    """

    __slots__ = ("_facts", "_text")

    def __init__(self) -> None:
        self._facts: tuple[object, ...] = ()
        self._text = b""

    def get(self, facts: tuple[object, ...]) -> bytes | None:
        """Return the text, if it was made of these facts."""
        kept = self._facts
        return self._text if len(kept) == len(facts) and all(map(is_, kept, facts)) else None

    def put(self, facts: tuple[object, ...], text: bytes) -> bytes:
        """Keep a text made of these facts, and return it."""
        self._facts, self._text = facts, text
        return text
