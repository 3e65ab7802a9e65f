"""A stand-in for the hub behind ``context.hub`` and ``context.topic``: it keeps topics in memory, and refuses the rest."""

import json
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager

from sequence_sdk.hub import Body

_WAY_OUT = "the direct stage has no hub for that: run this test on the stage hub, @pytest.mark.stages('hub')"


class MemoryAnswer:
    """An answer that is whole."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.reason = ""
        self._body = body

    async def read(self) -> bytes:
        """Return the body."""
        return self._body

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the body."""
        yield self._body


class MemoryHub:
    """Answers requests of one Sequence: what was sent to a topic is what a reader of it gets, all of that, and no more."""

    where = "the direct stage"

    def __init__(self) -> None:
        self._topics: dict[str, bytes] = {}

    @asynccontextmanager
    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str], body: Body
    ) -> AsyncIterator[MemoryAnswer]:
        """Answer a request."""
        del headers  # one content type is as good as another here
        place, _, name = path.partition("?")[0].rpartition("/")
        if place != "/topic" or method not in ("GET", "POST"):
            refusal = {"error": f"{method} {path}: {_WAY_OUT}"}
            yield MemoryAnswer(501, json.dumps(refusal).encode())
        elif method == "GET":
            yield MemoryAnswer(200, self._topics.get(name, b""))
        else:
            sent = (
                b"".join([chunk async for chunk in body]) if isinstance(body, AsyncIterable) else body or b""
            )
            self._topics[name] = self._topics.get(name, b"") + sent
            yield MemoryAnswer(202, b"{}")
