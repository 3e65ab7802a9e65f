"""A stream into an Instance: ``input`` or ``stdin``, and its writers."""

import asyncio
from typing import Self

from .channel_server import Link
from .errors import Gone
from .turns import Turn, Turns


class Inlet:
    """A stream into an Instance. Writers take turns, at line borders where it has lines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = False
        self._link: Link | None = None
        self._ready = asyncio.Event()
        self._turns = Turns()

    def attach(self, link: Link) -> None:
        """Take the link; writers that wait go on."""
        self._link = link
        self._ready.set()

    def close(self) -> None:
        """End without a link or with a lost one: writers get an error."""
        self.ended = True
        self._ready.set()

    async def link(self) -> Link:
        """Return the link once it is there.

        Raises:
            Gone: the stream has ended.
        """
        await self._ready.wait()
        if self.ended or self._link is None or self._link.lost:
            raise Gone(f"{self.name} has ended; start another Instance to send more")
        return self._link

    def writer(self, *, lines: bool) -> "InletWriter":
        """Return a writer for one request; use it as an async context manager."""
        return InletWriter(self, self._turns.turn(lines=lines))

    async def end(self) -> None:
        """Half-close the stream: the Sequence reads its end. A second time does nothing."""
        if not self.ended:
            link = await self.link()
            self.ended = True
            link.write_eof()


class InletWriter:
    """What one request writes."""

    def __init__(self, inlet: Inlet, turn: Turn) -> None:
        self._inlet = inlet
        self._turn = turn

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._turn.end()

    async def write(self, *pieces: bytes) -> None:
        """Send the pieces of a chunk and wait while the runner is behind.

        Raises:
            Gone: the stream has ended.
        """
        async with self._turn.writing(pieces[-1]):
            link = await self._inlet.link()
            link.write(*pieces)
            try:
                await link.drain()
            except ConnectionError:
                raise Gone(f"{self._inlet.name} has ended while it was written to") from None
