"""The SDK without a hub around it: items through ``Stream.map``, and through an author's loop in a runner's pump."""

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, cast

import orjson

from runner.pump import InputSource, pump_output
from runner.sockets import FULL, SocketReader, SocketWriter, keep_heap
from sequence_sdk.content import ContentType
from sequence_sdk.stream import Stream

from . import authors
from .measure import HUB, Case, Contender, Contenders, Figure, Goal, Setup
from .payload import Checker, Kind, Payload, WrongResult

_BLOCK = 256 * 1024  # bytes, as a runner reads them
_SLOWER = 15  # how many times fewer items the original framework is asked for; figures are per second
_TIMES = (
    10  # runs of an author's loop in one turn, the fastest of which counts: they are too short for an average
)
_MILLION = 1e6


# --- streams ---------------------------------------------------------------------------------------------------------


def _next(number: int) -> int:
    return number + 1


async def _mapped(numbers: list[int]) -> list[int]:
    return await Stream.from_iterable(numbers).map(_next).to_list()


async def _comprehension(numbers: list[int]) -> list[int]:
    return [_next(number) for number in numbers]


def _original() -> Callable[[list[int]], Awaitable[list[int]]] | None:
    """Return the same through scramjet-framework-py, where that is installed."""
    try:
        stream: Any = importlib.import_module("scramjet.streams").Stream
    except ImportError:
        return None

    async def mapped(numbers: list[int]) -> list[int]:
        items: list[int] = await stream.from_iterable(numbers).map(_next).to_list()
        return items

    return mapped


def _rate(contender: Callable[[list[int]], Awaitable[list[int]]], count: int) -> Contender:
    def turn() -> dict[str, float]:
        numbers = list(range(count))
        began = time.perf_counter()
        result = asyncio.run(_run(contender(numbers)))
        spent = time.perf_counter() - began
        if result != list(range(1, count + 1)):
            raise WrongResult("a mapped number is missing, or in another place")
        return {"rate": count / spent / _MILLION}

    return turn


async def _run(work: Awaitable[list[int]]) -> list[int]:
    return await work


@contextmanager
def _streams(setup: Setup) -> Iterator[Contenders]:
    count = setup.sizes.items
    contenders = {HUB: _rate(_mapped, count)}
    original = _original()
    if original is not None:
        contenders["scramjet-framework-py"] = _rate(original, count // _SLOWER)
    contenders["list comprehension"] = _rate(_comprehension, count)
    yield contenders


# --- an author's loop ------------------------------------------------------------------------------------------------


class _Blocks:
    """A reader of blocks that are all there."""

    def __init__(self, blocks: list[bytes]) -> None:
        self._blocks = iter(blocks)

    async def read(self) -> bytes:
        """Return the next block after a turn of the loop, as a socket's reader does."""
        await asyncio.sleep(0)
        return next(self._blocks, b"")


class _Kept:
    """A writer that keeps what it gets."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.full = False

    def send(self, data: bytes) -> int:
        """Keep bytes."""
        self.parts.append(data)
        return 0

    async def drain(self) -> None:
        """Give the loop a turn."""
        await asyncio.sleep(0)


async def _through_the_pump(blocks: list[bytes]) -> list[bytes]:
    source = InputSource(
        cast("SocketReader", _Blocks(blocks)), declared=ContentType.NDJSON, has_prologue=False
    )
    kept = _Kept()
    run = authors.function(authors.COUNT_UP)
    outputs = run(None, Stream.from_batches(source.next_batch))
    await pump_output(outputs, ContentType.NDJSON, cast("SocketWriter", kept))
    return kept.parts


async def _by_hand(blocks: list[bytes]) -> list[bytes]:
    """Do what the author does in a loop over the lines of each block, joined to writes of the same size."""
    reader, writer = _Blocks(blocks), _Kept()
    tail = b""
    while block := await reader.read():
        *lines, tail = (tail + block).split(b"\n")
        answers: list[bytes] = []
        size = 0
        for line in lines:
            message = orjson.loads(line)
            message["v"] += 1
            answer = orjson.dumps(message) + b"\n"
            answers.append(answer)
            size += len(answer)
            if size >= FULL:
                writer.send(b"".join(answers))
                await writer.drain()
                answers.clear()
                size = 0
        writer.send(b"".join(answers))
        await writer.drain()
    return writer.parts


@contextmanager
def _author(setup: Setup) -> Iterator[Contenders]:
    keep_heap()  # as a runner does; it is for both
    count = setup.sizes.items // _TIMES
    payload = Payload(Kind.MESSAGES, count)
    sent = b"".join(payload.blocks())
    blocks = [sent[start : start + _BLOCK] for start in range(0, len(sent), _BLOCK)]

    def turn(work: Callable[[list[bytes]], Coroutine[Any, Any, list[bytes]]]) -> dict[str, float]:
        spent = []
        for _ in range(_TIMES):
            began = time.perf_counter()
            written = asyncio.run(work(blocks))
            spent.append(time.perf_counter() - began)
            checker = Checker(payload)
            checker.take(memoryview(b"".join(written)))
            checker.end()
        return {"rate": count / min(spent) / 1e3}

    yield {
        HUB: lambda: turn(_through_the_pump),
        "a batched loop by hand": lambda: turn(_by_hand),
    }


SDK_CASES = (
    Case(
        "stream",
        "Stream.from_iterable(list).map(a plain function).to_list(), no hub",
        (Figure("rate", "items through Stream.map", "M/s", True, Goal(20, 100)),),
        _streams,
    ),
    Case(
        "author",
        "messages of 100 bytes through an author's async for in the runner's pump, no hub",
        (Figure("rate", "ndjson through an author's loop", "k/s", True, Goal(0.6, 0.8)),),
        _author,
    ),
)
