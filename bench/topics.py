"""Topics: one producer and many readers, and a request for each message."""

import re
import selectors
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

from . import workers
from .hub import Hub
from .measure import HUB, Case, Contenders, Figure, Goal, Setup
from .payload import MIB, Checker, Kind, OctetsChecker, Payload, WrongResult
from .processes import server
from .streams import over_sockets
from .wire import Connection, prepare, request_head

_PATIENCE = 60.0  # seconds without a byte after which a hub counts as stuck
_SIZE_LINE = re.compile(rb"([0-9a-fA-F]{1,16})(?:;[^\r]*)?\r\n")
_MAX_LINE = 256
_READ_SIZE = MIB  # bytes; a hundred readers cost half of what they do with 256 KiB


@contextmanager
def _topic(hub: Hub) -> Iterator[str]:
    """Give the name of a topic that is gone after the block."""
    name = f"bench-{uuid.uuid4().hex[:12]}"
    try:
        yield name
    finally:
        with hub.connection() as http, suppress(WrongResult):  # where it was removed already
            http.ask("DELETE", hub.path("topics", name), Content_Type="application/json")


# --- many readers ---------------------------------------------------------------------------------------------------


class Reader:
    """Checks a body in chunks that is handed to it piece by piece. All share one buffer, so many cost little."""

    def __init__(self, checker: OctetsChecker) -> None:
        self.checker = checker
        self.ended = False
        self._left = 0  # of the chunk
        self._before = b""  # what ends the chunk before
        self._held = b""  # of a line that has not come whole

    def take(self, piece: memoryview) -> None:
        """Take the next bytes, cut anywhere.

        Raises:
            WrongResult: they are not what should come, or not framed as HTTP wants it.
        """
        while piece:
            if self._left:
                part = piece[: self._left]
                self.checker.take(part)
                self._left -= len(part)
            else:
                part = piece[: self._frame(bytes(piece[:_MAX_LINE]))]
            piece = piece[len(part) :]

    def _frame(self, start: bytes) -> int:
        """Read the border between two chunks; return how many of these bytes are its."""
        held = len(self._held)
        line = self._held + start
        if self.ended or not line.startswith(self._before[: len(line)]):
            raise WrongResult(f"{line[:20]!r} stands where a chunk should begin")
        found = _SIZE_LINE.match(line, len(self._before))
        size = int(found[1], 16) if found else 0
        if not found or (not size and len(line) < found.end() + 2):
            if len(line) >= _MAX_LINE:
                raise WrongResult(f"{line[:20]!r} stands where the size of a chunk should")
            self._held = line
            return len(start)
        end = found.end()
        if not size:
            self.ended = line[end : end + 2] == b"\r\n"
            if not self.ended:
                raise WrongResult(f"{line[:20]!r} stands where the body should end")
            end += 2
        self._left, self._before, self._held = size, b"\r\n", b""
        return end - held


def read_all(links: list[tuple[socket.socket, Reader]]) -> float:
    """Read from all to their ends; return when the last had its last byte.

    Raises:
        WrongResult: one gets something else, or nothing for a minute.
    """
    complete = ended = 0
    moment = 0.0
    buffer = bytearray(_READ_SIZE)
    view = memoryview(buffer)
    with selectors.DefaultSelector() as selector:
        for link, reader in links:
            link.setblocking(False)
            selector.register(link, selectors.EVENT_READ, (link, reader))
        while ended < len(links):
            ready = selector.select(_PATIENCE)
            if not ready:
                raise WrongResult(f"{len(links) - ended} readers have got nothing for {_PATIENCE:g} s")
            for key, _ in ready:
                link, reader = key.data
                count = link.recv_into(buffer)
                if not count:
                    raise WrongResult(f"a reader was broken off after {reader.checker.received} bytes")
                had = reader.checker.complete
                reader.take(view[:count])
                if reader.checker.complete and not had:
                    complete += 1
                    moment = time.monotonic()
                if reader.ended:
                    reader.checker.end()
                    selector.unregister(link)
                    ended += 1
    return moment


def _opened(http: Connection, payload: Payload) -> tuple[socket.socket, Reader]:
    """Return what reads the body of an answer whose head was read."""
    reader = Reader(OctetsChecker(payload))
    reader.take(memoryview(http.rest_of_read()))
    return http.link, reader


def _fan_out(readers: int) -> Callable[[Setup], AbstractContextManager[Contenders]]:
    @contextmanager
    def prepare_case(setup: Setup) -> Iterator[Contenders]:
        hub = setup.hub
        payload = Payload(Kind.OCTETS, max(1, setup.sizes.topic_blocks // readers))
        total = payload.size * readers / 1e6

        def through_hub() -> dict[str, float]:
            with _topic(hub) as name, ExitStack() as stack:
                path = hub.path("topic", name)
                links = []
                for _ in range(readers):
                    http = stack.enter_context(hub.connection())
                    http.open(path, Content_Type=payload.kind)
                    links.append(_opened(http, payload))
                head = request_head(
                    "POST",
                    path,
                    hub.address,
                    Content_Type=payload.kind,
                    Transfer_Encoding="chunked",
                    x_end_stream="true",
                )
                sending = setup.pool.submit(workers.post, hub.address, head, payload)
                return {"rate": total / (read_all(links) - sending.result())}

        def alone() -> dict[str, float]:
            with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
                address = listener.getsockname()
                sending = setup.pool.submit(workers.answer_many, address, payload, readers)
                links = []
                for _ in range(readers):
                    link, _ = listener.accept()
                    prepare(link)
                    http = stack.enter_context(Connection(address, link))
                    http.expect_success()
                    links.append(_opened(http, payload))
                return {"rate": total / (read_all(links) - sending.result())}

        def one_hop() -> dict[str, float]:
            one = Payload(Kind.OCTETS, setup.sizes.topic_blocks)
            return {"rate": one.size / 1e6 / over_sockets(setup, one, None)}

        yield {HUB: through_hub, "one TCP hop": one_hop, f"the client alone, {_readers(readers)}": alone}

    return prepare_case


def _readers(count: int) -> str:
    return "1 reader" if count == 1 else f"{count} readers"


# --- one request for each message -----------------------------------------------------------------------------------


@contextmanager
def _messages(setup: Setup) -> Iterator[Contenders]:
    hub = setup.hub
    payload = Payload(Kind.LINES, setup.sizes.topic_messages)

    def to_topic() -> dict[str, float]:
        with _topic(hub) as name, hub.connection() as reader, hub.connection() as control:
            reader.open(hub.path("topic", name), Content_Type=payload.kind)
            sending = setup.pool.submit(workers.post_each, hub.address, hub.path("topic", name), payload)
            sending.add_done_callback(lambda done: reader.break_off() if done.exception() else None)
            checker, pieces = Checker(payload), reader.pieces()
            while not checker.complete:
                piece = next(pieces, None)
                if piece is None:
                    sending.result()
                    checker.end()
                else:
                    checker.take(piece)
            took = sending.result()
            control.ask("DELETE", hub.path("topics", name), Content_Type="application/json")
            for piece in pieces:  # to its clean end, with nothing more
                checker.take(piece)
            return {"rate": payload.count / took / 1e3}

    def kept() -> float:
        """Send with nobody there, as much as a hub keeps; return the rate when the first reader has got it all."""
        with _topic(hub) as name, hub.connection() as reader, hub.connection() as control:
            took = setup.pool.submit(
                workers.post_each, hub.address, hub.path("topic", name), payload
            ).result()
            reader.open(hub.path("topic", name), Content_Type=payload.kind)
            checker, pieces = Checker(payload), reader.pieces()
            while not checker.complete:
                checker.take(next(pieces))
            control.ask("DELETE", hub.path("topics", name), Content_Type="application/json")
            for piece in pieces:
                checker.take(piece)
            return payload.count / took / 1e3

    def to_aiohttp() -> dict[str, float]:
        took = setup.pool.submit(workers.post_each, address, "/", payload).result()
        rate = payload.count / took / 1e3
        return {"rate": rate, "kept": rate}

    def to_hub() -> dict[str, float]:
        return {**to_topic(), **({"kept": kept()} if setup.own else {})}  # another hub may keep less

    with server("aiohttp", b"{}") as (address, _):
        yield {HUB: to_hub, "aiohttp, reads the body": to_aiohttp}


TOPIC_CASES = (
    *(
        Case(
            f"topic-{readers}",
            f"a topic with one producer and {_readers(readers)}, octets",
            (Figure("rate", f"topic with {_readers(readers)}, all together", "MB/s", True, goal),),
            _fan_out(readers),
        )
        for readers, goal in ((1, Goal(0.25, 0.45)), (10, Goal(0.5, 1.0)), (100, Goal(0.7, 1.5)))
    ),
    Case(
        "topic-messages",
        "a POST for each message of 100 bytes to a topic, on one keep-alive connection",
        (
            Figure("rate", "POST of a message to a topic, one reader", "k/s", True, Goal(0.6, 0.85)),
            Figure("kept", "POST of a message to a topic, no reader yet", "k/s", True, Goal(0.6, 0.85)),
        ),
        _messages,
    ),
)
