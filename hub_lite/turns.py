"""Several writers of one stream take turns: it changes hands where a message ends, not in the middle of one."""

import asyncio
from collections import deque

PATIENCE = 1.0  # seconds that others wait for a line that its writer does not finish


class Turns:
    """Who may write. One ``Turn`` for each writer."""

    def __init__(self, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._holder: Turn | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> bool:
        """Whether nobody has left a message unfinished, so that a whole one may be written at once."""
        return self._holder is None

    def turn(self, *, lines: bool) -> "Turn":
        """Return a writer's turn. With ``lines`` it is kept until a line is whole, otherwise until a message is said to end."""
        return Turn(self, lines=lines)

    async def take(self, turn: "Turn") -> None:
        """Wait until the stream is free, or its holder has left a line unfinished for too long."""
        while not self._is_free_for(turn):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                async with asyncio.timeout(self._patience):
                    await waiter
            except TimeoutError:
                if self._holder_rests():
                    break  # its line is cut: better than to wait for ever for a writer that went to sleep
            except asyncio.CancelledError:
                if self._is_free_for(turn):
                    self._wake()  # it was our turn; the next one takes it
                raise
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        self._holder = turn

    def give_back(self, turn: "Turn") -> None:
        """Let the next one write, if it is this one's turn."""
        if self._holder is turn:
            self._holder = None
            self._wake()

    def _is_free_for(self, turn: "Turn") -> bool:
        return self._holder is None or self._holder is turn

    def _holder_rests(self) -> bool:
        return self._holder is None or self._holder.resting

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class Turn:
    """One writer's turn; use it as ``async with turn.writing(chunk)``, and ``end`` it when the writer is done."""

    def __init__(self, turns: Turns, *, lines: bool) -> None:
        self._turns = turns
        self._lines = lines
        self._ends = True  # what is written ends a message
        self.resting = False  # has the turn, but writes nothing at the moment

    def writing(self, chunk: bytes, *, ends: bool = True) -> "Turn":
        """Say what is to be written and, of what has no lines, whether it ends a message."""
        self._ends = chunk.endswith(b"\n") if self._lines else ends
        return self

    def end(self) -> None:
        """Give the turn back, whole line or not; safe to call twice."""
        self._turns.give_back(self)

    async def __aenter__(self) -> None:
        await self._turns.take(self)
        self.resting = False

    async def __aexit__(self, *_: object) -> None:
        self.resting = True
        if self._ends:
            self._turns.give_back(self)
