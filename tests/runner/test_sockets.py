"""Links: connect them, read and write them from the event loop."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runner.errors import HubUnreachable, LinkLost
from runner.protocol.channels import Channel
from runner.settings import Settings
from runner.sockets import FULL, SocketReader, SocketWriter, connect

ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"


@pytest.fixture
async def pair() -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def receive(link: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    received = bytearray()
    async with asyncio.timeout(10):
        while len(received) < size:
            chunk = await loop.sock_recv(link, 1 << 20)
            assert chunk
            received += chunk
    return bytes(received)


async def test_a_cancelled_read_loses_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    reader = SocketReader(ours)
    for turns in range(6):  # cancelled at every point where it waits
        theirs.send(b"x") if turns % 2 else None
        task = asyncio.ensure_future(reader.read())
        for _ in range(turns // 2):
            await asyncio.sleep(0)
        task.cancel()
        if turns % 2:
            try:
                assert await task == b"x"
            except asyncio.CancelledError:
                assert await reader.read() == b"x"
        else:
            with pytest.raises(asyncio.CancelledError):
                await task
    theirs.shutdown(socket.SHUT_WR)
    assert await reader.read() == b""
    reader.close()
    reader.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a closed link from a half-closed one")
async def test_a_link_that_was_closed_instead_of_ended_is_lost(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    reader = SocketReader(ours)
    theirs.send(b"the last")
    theirs.close()
    assert await reader.read() == b"the last"
    with pytest.raises(LinkLost, match="closed, not ended"):
        await reader.read()


async def test_a_read_waits_for_bytes_and_gives_the_loop_a_turn(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    reader = SocketReader(ours)
    task = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    theirs.send(b"abc")
    assert await task == b"abc"
    theirs.send(b"d")
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    assert await reader.read() == b"d"
    assert turns == [1]


async def test_what_has_come_for_an_interrupted_read_is_returned_by_the_next(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    reader = SocketReader(ours)
    task = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    theirs.send(b"abc")
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(reader.interrupt)  # between the bytes and the read that they are for
    assert await task is None
    theirs.send(b"def")
    assert await reader.read() == b"abc"
    assert await reader.read() == b"def"
    reader.close()


async def test_more_that_comes_for_an_interrupted_read_is_behind_what_has_come(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    reader = SocketReader(ours)
    task = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    theirs.send(b"abc")
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(reader.interrupt)
    assert await task is None
    theirs.send(b"def")
    again = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)  # it has begun, and waits for its turn
    reader._receive()  # as the loop does that has seen the bytes in the same turn
    assert await again == b"abc"
    assert await reader.read() == b"def"
    reader.close()


async def test_a_read_that_waits_can_be_interrupted_and_one_that_does_not_wait_cannot(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    reader = SocketReader(ours)
    reader.interrupt()
    task = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    assert not task.done()
    reader.interrupt()
    assert await task is None
    theirs.send(b"abc")
    assert await reader.read() == b"abc"


async def test_bytes_that_nobody_wants_stay_with_the_hub_and_wake_nobody(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    reader = SocketReader(ours)
    theirs.send(b"abc")
    assert await reader.read() == b"abc"
    theirs.send(b"def")
    for _ in range(3):
        await asyncio.sleep(0)
    assert not asyncio.get_running_loop().remove_reader(ours.fileno())
    assert ours.recv(10, socket.MSG_PEEK) == b"def"
    assert await reader.read() == b"def"


async def test_a_reset_is_a_lost_link_and_no_end() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as ours,
    ):
        theirs, _ = server.accept()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        with pytest.raises(LinkLost, match="the hub broke the input link: Connection reset by peer"):
            await SocketReader(ours).read()


async def test_small_writes_of_one_turn_leave_together(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    writer = SocketWriter(ours)
    writer.write(b"a")
    writer.write(b"b")
    assert writer.pending
    with pytest.raises(BlockingIOError):
        theirs.recv(10)
    await asyncio.sleep(0)
    assert theirs.recv(10) == b"ab"
    assert not writer.pending


async def test_a_full_writer_drains_when_the_hub_reads(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    writer = SocketWriter(ours)
    assert not writer.full
    while not writer.full:
        writer.write(bytes([7]) * 10_000)
        await asyncio.sleep(0)
    writer.write(b"8" * FULL)
    drained = asyncio.ensure_future(writer.drain())
    await asyncio.sleep(0)
    assert not drained.done()
    received = bytearray()
    while not drained.done():
        received += await receive(theirs, 1)
    await drained
    writer.end()
    writer.end()
    while chunk := await asyncio.get_running_loop().sock_recv(theirs, 1 << 20):
        received += chunk
    assert received.rstrip(b"8") == bytes([7]) * (len(received) - FULL)
    assert not writer.full
    writer.close()
    writer.close()


async def test_a_cancelled_drain_loses_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    writer = SocketWriter(ours)
    writer.write(b"x" * 5_000_000)
    drained = asyncio.ensure_future(writer.drain())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    drained.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drained
    assert await receive(theirs, 5_000_000) == b"x" * 5_000_000


async def test_a_hub_that_takes_no_more_is_told_by_full_and_drain(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    writer = SocketWriter(ours)
    theirs.close()
    writer.write(b"x")
    await asyncio.sleep(0)
    assert writer.full
    with pytest.raises(LinkLost, match="the hub broke the output link: Broken pipe"):
        await writer.drain()


async def test_a_drain_that_waits_when_the_hub_goes_is_told(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    writer = SocketWriter(ours)
    writer.write(b"x" * 5_000_000)
    drained = asyncio.ensure_future(writer.drain())
    await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(LinkLost):
        await asyncio.wait_for(drained, 10)


def test_a_failed_connection_leaves_no_link_open(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        listener.settimeout(10)
        links = connect(Settings(Path("x"), ID, socket_path=path))
        assert list(links) == list(Channel)
        for channel, link in links.items():
            peer, _ = listener.accept()
            with peer:
                assert peer.recv(100) == f"{ID}{channel.value}".encode()
            link.close()
    with pytest.raises(HubUnreachable, match=f"no hub at {path}: Connection refused"):
        connect(Settings(Path("x"), ID, socket_path=path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(Path("x"), ID, socket_path="/" + "x" * 200), "AF_UNIX path too long"),
        (Settings(Path("x"), ID, host="x" * 70 + ".example", port=1), "no hub at x{70}.example:1: "),
        (Settings(Path("x"), ID, host="\u00fc" * 70, port=1), "no hub at "),
    ],
)
def test_an_address_that_cannot_be_one_is_no_hub(settings: Settings, message: str) -> None:
    with pytest.raises(HubUnreachable, match=message) as caught:
        connect(settings)
    assert caught.value.exit_code == 1
