"""What runs in processes of its own: senders, relays, loops without I/O, echoes, and the flood of requests.

Moments are of the monotonic clock, which all processes of a machine share.
"""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

import orjson
import uvloop

from runner.sockets import keep_heap

from .authors import PASS_ON, function
from .payload import ITEM, Checker, Kind, Payload, WrongResult
from .wire import LAST_CHUNK, READ_SIZE, Address, Connection, connect, prepare, request_head

_WARM_UP = 50  # turns of a conversation that are not measured
_PATIENCE = 60.0  # seconds that any of this may take


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the process that clears up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# --- streams --------------------------------------------------------------------------------------------------------


def post(address: Address, head: bytes, payload: Payload) -> float:
    """Send a payload as the body of a request, in chunks, and return when that began.

    Raises:
        WrongResult: the hub does not take it.
    """
    assert next(payload.chunked())  # made before the clock runs
    with Connection(address) as http:
        began = time.monotonic()
        http.link.sendall(head)
        for block in payload.chunked():
            http.link.sendall(block)
        http.link.sendall(LAST_CHUNK)
        http.expect_success()
        http.rest()
    return began


def send(address: Address, payload: Payload) -> float:
    """Send a payload over a bare socket and return when that began."""
    assert next(payload.blocks())
    with connect(address, wait=_PATIENCE) as link:
        began = time.monotonic()
        for block in payload.blocks():
            link.sendall(block)
    return began


def answer(address: Address, payload: Payload) -> float:
    """Send a payload as a server would its answer, in chunks, and return when that began."""
    assert next(payload.chunked())
    with connect(address) as link:
        began = time.monotonic()
        link.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for block in payload.chunked():
            link.sendall(block)
        link.sendall(LAST_CHUNK)
    return began


def answer_many(address: Address, payload: Payload, readers: int) -> float:
    """Send a payload to many readers, as `answer` does, block by block; return when that began."""
    assert next(payload.chunked())
    with ExitStack() as stack:
        links = [stack.enter_context(connect(address)) for _ in range(readers)]
        for link in links:
            link.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        began = time.monotonic()
        for block in payload.chunked():
            for link in links:
                link.sendall(block)
        for link in links:
            link.sendall(LAST_CHUNK)
    return began


def relay(listener_port: int, target: Address) -> None:
    """Pass one connection on to another with blocking calls, as fast as plain Python can."""
    with socket.create_server(("127.0.0.1", listener_port)) as listener:
        source, _ = listener.accept()
    prepare(source)
    buffer = bytearray(READ_SIZE)
    view = memoryview(buffer)
    with source, connect(target) as sink:
        while count := source.recv_into(buffer):
            sink.sendall(view[:count])


# --- loops without I/O ----------------------------------------------------------------------------------------------


def list_loop(count: int) -> float:
    """Return the lines a second that the author's loop takes from a list and gives to nobody."""
    keep_heap()  # as a runner does: the loop is not to wait for pages that glibc has given back
    payload = Payload(Kind.LINES, count)
    lines = b"".join(payload.blocks()).decode().splitlines(keepends=True)

    async def source() -> AsyncIterator[str]:
        for line in lines:
            yield line

    async def run() -> float:
        given = 0
        began = time.perf_counter()
        async for _ in function(PASS_ON)(None, source()):
            given += 1
        spent = time.perf_counter() - began
        if given != count:
            raise WrongResult(f"the loop gave {given} lines of {count}")
        return spent

    return count / asyncio.run(run())


def hand_loop(count: int) -> float:
    """Return the messages a second that a loop of ``loads`` and ``dumps`` manages."""
    keep_heap()
    payload = Payload(Kind.MESSAGES, count)
    lines = b"".join(payload.blocks()).splitlines(keepends=True)
    written: list[bytes] = []
    began = time.perf_counter()
    for line in lines:
        message = orjson.loads(line)
        message["v"] += 1
        written.append(orjson.dumps(message) + b"\n")
    spent = time.perf_counter() - began
    checker = Checker(payload)
    checker.take(memoryview(b"".join(written)))
    checker.end()
    return count / spent


# --- conversations --------------------------------------------------------------------------------------------------


def round_trips(address: Address, input_head: bytes, output_path: str, count: int) -> list[float]:
    """Return the seconds of ``count`` items, each sent when the one before it has come back.

    Raises:
        WrongResult: another item comes back.
    """
    lines = b"".join(Payload(Kind.LINES, count + _WARM_UP).blocks()).splitlines(keepends=True)
    times: list[float] = []
    with Connection(address) as writer, Connection(address) as reader:
        writer.link.sendall(input_head)
        reader.open(output_path)
        pieces = reader.pieces()
        for line in lines:
            chunk = b"%x\r\n%b\r\n" % (len(line), line)
            began = time.perf_counter()
            writer.link.sendall(chunk)
            answer = bytes(next(pieces))
            while len(answer) < ITEM:
                answer += next(pieces)
            times.append(time.perf_counter() - began)
            if answer != line:
                raise WrongResult(f"{line!r} came back as {answer!r}")
        writer.link.sendall(LAST_CHUNK)
        writer.expect_success()
        writer.rest()
        if any(pieces):
            raise WrongResult("more came back than was sent")
    return times[_WARM_UP:]


def event_trips(address: Address, emit_path: str, events_path: str, count: int) -> list[float]:
    """Return the seconds of ``count`` events, each sent when the answer to the one before it has come.

    Raises:
        WrongResult: another event comes back.
    """
    times: list[float] = []
    with Connection(address) as writer, Connection(address) as reader:
        reader.open(events_path)
        pieces = reader.pieces()
        for number in range(count + _WARM_UP):
            message = f"{number:08}" + "." * (ITEM - 8)
            body = b'{"eventName":"ping","message":"%b"}' % message.encode()
            request = request_head(
                "POST", emit_path, address, Content_Type="application/json", Content_Length=str(len(body))
            )
            began = time.perf_counter()
            writer.link.sendall(request + body)
            answer = bytes(next(pieces))
            while not answer.endswith(b"\n"):
                answer += next(pieces)
            times.append(time.perf_counter() - began)
            writer.expect_success()
            writer.rest()
            if orjson.loads(answer) != message:
                raise WrongResult(f"{message!r} came back as {answer!r}")
    return times[_WARM_UP:]


async def _echo_lines(path: str) -> None:
    done = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()
        done.set()

    server = await asyncio.start_unix_server(talk, path)
    await done.wait()
    server.close()


class _Echo(asyncio.Protocol):
    def __init__(self, done: asyncio.Event) -> None:
        self._done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its ancestors

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._done.set()


async def _echo_bytes(path: str) -> None:
    done = asyncio.Event()
    server = await asyncio.get_running_loop().create_unix_server(lambda: _Echo(done), path)
    await done.wait()
    server.close()


def echo(path: str, *, streams: bool) -> None:
    """Serve one conversation on a unix socket: with asyncio's streams, line by line, or with a bare protocol."""
    asyncio.run(_echo_lines(path) if streams else _echo_bytes(path))


class _Asker(asyncio.Protocol):
    def __init__(self, line: bytes, count: int, done: asyncio.Future[list[float]]) -> None:
        self._line = line
        self._left = count
        self._done = done
        self._times: list[float] = []
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its ancestors
        self._ask()

    def _ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._line)

    def data_received(self, data: bytes) -> None:
        self._came += data
        if len(self._came) < len(self._line):
            return
        self._times.append(time.perf_counter() - self._began)
        self._came = b""
        self._left -= 1
        if self._left:
            self._ask()
        else:
            self._transport.close()
            self._done.set_result(self._times)


async def _ask_streams(path: str, line: bytes, count: int) -> list[float]:
    times = []
    reader, writer = await asyncio.open_unix_connection(path)
    for _ in range(count):
        began = time.perf_counter()
        writer.write(line)
        await writer.drain()
        await reader.readline()
        times.append(time.perf_counter() - began)
    writer.close()
    return times


async def _ask_protocol(path: str, line: bytes, count: int) -> list[float]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[float]] = loop.create_future()
    await loop.create_unix_connection(lambda: _Asker(line, count, done), path)
    return await done


def ping_pong(path: str, count: int, *, streams: bool) -> list[float]:
    """Return the seconds of ``count`` lines to an `echo` and back, from a process with asyncio to another."""
    line = next(iter(b"".join(Payload(Kind.LINES, 1).blocks()).splitlines(keepends=True)))

    async def run() -> list[float]:
        ask = _ask_streams if streams else _ask_protocol
        async with asyncio.timeout(_PATIENCE):
            while True:
                with suppress(FileNotFoundError, ConnectionRefusedError):
                    return (await ask(path, line, count + _WARM_UP))[_WARM_UP:]
                await asyncio.sleep(0.005)

    times = asyncio.run(run())
    Path(path).unlink(missing_ok=True)
    return times


# --- requests -------------------------------------------------------------------------------------------------------


class _Client(asyncio.Protocol):
    """One keep-alive connection that asks again as soon as it has its answer, and checks each."""

    def __init__(self, flood: "_Flood") -> None:
        self._flood = flood
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its ancestors

    def ask(self) -> None:
        self._transport.write(self._flood.request)

    def data_received(self, data: bytes) -> None:
        self._came = self._came + data if self._came else data
        if len(self._came) < self._flood.answer_size:
            return
        answer, self._came = self._came, b""
        if self._flood.counts(answer):
            self._transport.write(self._flood.request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._flood.broken()


class _Flood:
    def __init__(self, request: bytes, answer_size: int, body: bytes, count: int) -> None:
        self.request = request
        self.answer_size = answer_size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._body = body
        self._asked = 0
        self._answered = 0
        self._count = count

    def counts(self, answer: bytes) -> bool:
        """Take an answer; tell whether another one is wanted."""
        if not (answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(self._body)):
            if not self.done.done():
                self.done.set_exception(WrongResult(f"an answer differs from the first: {answer[:300]!r}"))
            return False
        self._answered += 1
        if self._answered == self._count:
            self.done.set_result(None)
        return self._asked_more()

    def _asked_more(self) -> bool:
        if self._asked >= self._count:
            return False
        self._asked += 1
        return True

    def first(self, clients: list[_Client]) -> None:
        """Let every client ask its first question."""
        for client in clients:
            if self._asked_more():
                client.ask()

    def broken(self) -> None:
        """Take the loss of a connection."""
        if not self.done.done():
            self.done.set_exception(WrongResult("a keep-alive connection was broken off"))


def flood(address: Address, path: str, connections: int, count: int) -> float:
    """Return the requests a second that a server answers on keep-alive connections. Every body must be as the first.

    Raises:
        WrongResult: one is not, or a connection breaks.
    """
    request = request_head("GET", path, address)
    first = _answer(address, request)
    body = first.partition(b"\r\n\r\n")[2]

    async def run() -> float:
        loop = asyncio.get_running_loop()
        spent = 0.0
        for number in (max(count // 10, connections), count):  # the first is to warm up
            flooded = _Flood(request, len(first), body, number)
            made: list[Any] = [
                await loop.create_connection(lambda one=flooded: _Client(one), *address)  # type: ignore[misc]
                for _ in range(connections)
            ]
            try:
                began = time.perf_counter()
                flooded.first([client for _, client in made])
                async with asyncio.timeout(_PATIENCE):
                    await flooded.done
                spent = time.perf_counter() - began
            finally:
                for transport, _ in made:  # uvloop does not close over open ones
                    transport.abort()
        return count / spent

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def post_each(address: Address, path: str, payload: Payload) -> float:
    """Send each line as a request of its own, when the one before it is answered; return the seconds it took.

    Raises:
        WrongResult: one is refused, or answered in another way than the first.
    """
    lines = b"".join(payload.blocks()).splitlines(keepends=True)
    head = request_head("POST", path, address, Content_Type=payload.kind, Content_Length=str(ITEM))
    with connect(address) as link:
        began = time.perf_counter()
        first = _ask(link, head + lines[0])
        status, body = first[:13], first.partition(b"\r\n\r\n")[2]
        if not status.startswith(b"HTTP/1.1 20"):
            raise WrongResult(f"a message was refused: {first[:300]!r}")
        for line in lines[1:]:
            link.sendall(head + line)
            answer = _receive(link)
            while len(answer) < len(first):
                answer += _receive(link)
            if not (answer.startswith(status) and answer.endswith(body) and len(answer) == len(first)):
                raise WrongResult(f"an answer differs from the first: {answer[:300]!r}")
    return time.perf_counter() - began


def _answer(address: Address, request: bytes) -> bytes:
    """Return a whole answer, head and body, on a connection of its own."""
    with connect(address) as link:
        return _ask(link, request)


def _ask(link: socket.socket, request: bytes) -> bytes:
    """Return a whole answer, head and body."""
    link.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _receive(link)
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = [line.partition(b":") for line in head.lower().split(b"\r\n")]
    length = next((int(value) for name, _, value in fields if name == b"content-length"), None)
    if length is None:
        raise WrongResult(f"an answer has no length: {head!r}")
    while len(body) < length:
        more = _receive(link)
        answer, body = answer + more, body + more
    return answer


def _receive(link: socket.socket) -> bytes:
    received = link.recv(READ_SIZE)
    if not received:
        raise WrongResult("a keep-alive connection was broken off")
    return received


def body_of(address: Address, path: str) -> bytes:
    """Return the body of a GET."""
    return _answer(address, request_head("GET", path, address)).partition(b"\r\n\r\n")[2]
