"""Payloads on their way: through an Instance, and over bare sockets to compare with."""

import socket
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from . import workers
from .measure import Setup
from .payload import Checker, Payload, WrongResult
from .wire import READ_SIZE, Connection, prepare

T = TypeVar("T")


def through_instance(setup: Setup, instance: str, payload: Payload, then: Callable[[], T]) -> tuple[float, T]:
    """Send a payload through an Instance; return the seconds from the first byte to the last, and what ``then`` gives.

    ``then`` is called when the last byte is there, before the input ends and the Instance with it.

    Raises:
        WrongResult: something else comes out of it.
    """
    hub = setup.hub
    with hub.connection() as reader, hub.connection() as control:
        reader.open(hub.path("instance", instance, "output"))
        checker = Checker(payload)
        pieces = reader.pieces()
        head = hub.input_head(instance, payload.kind, end=False)
        sending = setup.pool.submit(workers.post, hub.address, head, payload)
        sending.add_done_callback(lambda done: reader.break_off() if done.exception() else None)
        try:
            while not checker.complete:
                checker.take(_next(pieces, checker))
        except WrongResult:
            if sending.done():
                sending.result()  # where it has failed, that is the reason
            raise
        ended = time.monotonic()
        seen = then()
        began = sending.result()
        hub.end_input(control, instance, payload)
        for piece in pieces:
            checker.take(piece)
    return ended - began, seen


def _next(pieces: Iterator[memoryview], checker: Checker) -> memoryview:
    for piece in pieces:
        return piece
    checker.end()
    raise WrongResult("the output ended early")


def over_sockets(setup: Setup, payload: Payload, run_relay: Callable[[int, int], None] | None) -> float:
    """Send a payload over two hops of TCP, or over one without a relay; return the seconds it took."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        first = _free_port() if run_relay is not None else port
        if run_relay is not None:
            run_relay(first, port)
        sending = setup.pool.submit(workers.send, ("127.0.0.1", first), payload)
        sink, _ = listener.accept()
    prepare(sink)
    checker = Checker(payload)
    buffer = bytearray(READ_SIZE)
    view = memoryview(buffer)
    with sink:
        while count := sink.recv_into(buffer):
            checker.take(view[:count])
        ended = time.monotonic()
    checker.end()
    return ended - sending.result()


def client_alone(setup: Setup, payload: Payload) -> float:
    """Let the sender speak to the reader, framed as HTTP: what these two can do at most."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        sending = setup.pool.submit(workers.answer, address, payload)
        link, _ = listener.accept()
    prepare(link)
    checker = Checker(payload)
    with Connection(address, link) as reader:
        reader.expect_success()
        for piece in reader.pieces():
            checker.take(piece)
        ended = time.monotonic()
    checker.end()
    return ended - sending.result()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
