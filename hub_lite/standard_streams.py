"""Standard streams and files of a command, read and written without holding up the loop."""

import asyncio
import contextlib
import os
import select
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, TypeVar

_READ_SIZE = 256 * 1024
_TEXT_SUFFIXES = {".txt", ".csv", ".tsv", ".log", ".md", ".json", ".xml", ".html", ".yaml", ".yml", ""}
_NDJSON_SUFFIXES = {".ndjson", ".jsonl"}

T = TypeVar("T")


class StreamFailure(Exception):
    """A stream of this process cannot be read or written; ``str()`` of it says which and why."""

    def __init__(self, what: str, error: OSError) -> None:
        super().__init__(what, error)
        self.what = what
        self.error = error

    def __str__(self) -> str:
        return f"{self.what}: {self.error.strerror or self.error}"


def content_type_for(path: Path | None) -> str:
    """Return the content type of an input file by its ending; what is not known to be text is bytes."""
    if path is None or path.suffix.lower() in _TEXT_SUFFIXES:
        return "text/plain"
    return "application/x-ndjson" if path.suffix.lower() in _NDJSON_SUFFIXES else "application/octet-stream"


async def read_chunks(path: Path | None, *, called: str) -> AsyncGenerator[bytes, None]:
    """Yield a file, or standard input where ``path`` is None, as it comes.

    ``called`` is what the file is called in an error.

    Raises:
        StreamFailure: it cannot be read.
    """
    opened: int | None = None
    try:
        if path is not None:
            source = opened = await in_daemon_thread(os.open, path, os.O_RDONLY)
        elif sys.stdin is not None:
            source = sys.stdin.fileno()
            if sys.stdin.isatty():
                print("hub-lite: what you type is the input; Ctrl-D ends it", file=sys.stderr)
        else:
            return  # it was closed before we came
        while chunk := await in_daemon_thread(os.read, source, _READ_SIZE):
            yield chunk
    except OSError as error:
        raise StreamFailure(called if path else "standard input", error) from error
    finally:
        if opened is not None:
            os.close(opened)


def descriptor_of(stream: Any) -> int | None:
    """Return the descriptor of a standard stream; None if it was closed before we came."""
    return None if stream is None else int(stream.fileno())


def write_all(descriptor: int | None, chunk: bytes) -> None:
    """Write the whole chunk, however long that takes; nothing where there is no descriptor."""
    rest = memoryview(chunk if descriptor is not None else b"")
    while rest and descriptor is not None:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # whoever shares it with us has made it so
            select.select([], [descriptor], [])


async def in_daemon_thread(function: Callable[..., T], *args: Any) -> T:
    """Call a function in a thread that holds up nobody: a read or a write of a pipe may never return."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(settle_answer: Callable[[Any], None], outcome: Any) -> None:
        if not answer.done():
            settle_answer(outcome)

    def call() -> None:
        try:
            outcome: Any = function(*args)
            settle_answer: Callable[[Any], None] = answer.set_result
        except OSError as error:
            outcome, settle_answer = error, answer.set_exception
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, settle_answer, outcome)

    threading.Thread(target=call, name=f"hub-lite {function.__name__}", daemon=True).start()
    return await answer
