"""Several pieces in one write."""

import asyncio
import socket

import pytest

from hub_lite import transports
from hub_lite.transports import write_together


class Recorder:
    """A transport that notes how it is written to."""

    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []

    def write(self, data: bytes) -> None:
        self.calls.append([data])

    def writelines(self, data: list[bytes]) -> None:
        self.calls.append(list(data))


class Forgetful(Recorder, asyncio.WriteTransport):
    """One of asyncio's own."""


def test_large_pieces_are_handed_on_as_they_are():
    recorder, large = Recorder(), bytes(100_000)
    write_together(recorder, (b"head", large, b"tail"))
    assert recorder.calls == [[b"head", large, b"tail"]]
    assert recorder.calls[0][1] is large


def test_small_pieces_are_joined_and_one_is_written_as_it_is():
    recorder, large = Recorder(), bytes(100_000)
    write_together(recorder, (b"a", b"b", b"c"))
    write_together(recorder, (large,))
    assert recorder.calls == [[b"abc"], [large]]
    assert recorder.calls[1][0] is large


@pytest.mark.parametrize("forgetful", [True, False])
def test_where_asyncio_forgets_its_limits_its_transports_get_one_piece(monkeypatch, forgetful):
    monkeypatch.setattr(transports, "_FORGETFUL", forgetful)
    recorder, large = Forgetful(), bytes(100_000)
    write_together(recorder, (b"head", large))
    assert recorder.calls == ([[b"head" + large]] if forgetful else [[b"head", large]])


async def test_pieces_arrive_in_order_over_a_socket_that_takes_them_in_parts():
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    _, writer = await asyncio.open_connection(sock=ours)
    reader, other = await asyncio.open_connection(sock=theirs)
    pieces = [bytes([number]) * 50_000 for number in range(20)]
    write_together(writer.transport, pieces)
    writer.write_eof()
    async with asyncio.timeout(10):
        assert await reader.read() == b"".join(pieces)
    writer.close()
    other.close()
