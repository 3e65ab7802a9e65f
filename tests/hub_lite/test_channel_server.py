"""The channel server with real sockets: who is let in, who is refused, and what a link does then."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub_lite.channel_server import ChannelServer, Link
from runner.protocol.channels import Channel
from runner.protocol.errors import RemoteProtocolError

from .fakes import FakeLink, connect, until

ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"
HELLO = ID.encode() + b"6"


class FakeReceiver:
    """Keeps what a link brings."""

    def __init__(self) -> None:
        self.content = b""
        self.ends = 0

    def received(self, chunk: bytes) -> None:
        self.content += chunk

    def ended(self) -> None:
        self.ends += 1


class FakeDirectory:
    """Knows one Instance, and takes each of its channels once."""

    def __init__(self) -> None:
        self.links: dict[Channel, Link] = {}
        self.receivers: dict[Channel, FakeReceiver] = {}

    def accept(self, instance_id: str, channel: Channel, link: Link) -> FakeReceiver:
        if instance_id != ID:
            raise RemoteProtocolError(f"no Instance {instance_id} was started here")
        if channel in self.links:
            raise RemoteProtocolError(f"channel {channel.value} is taken")
        self.links[channel] = link
        self.receivers[channel] = FakeReceiver()
        return self.receivers[channel]


class Bench:
    """A server on a unix socket and on TCP, and the links that tests open to it."""

    def __init__(self, server: ChannelServer, directory: FakeDirectory, path: Path) -> None:
        self.server = server
        self.directory = directory
        self.path = path
        self.port = 0
        self.kind = "unix"
        self.opened: list[FakeLink] = []

    async def open(self) -> FakeLink:
        link = await connect(self.path if self.kind == "unix" else self.port)
        self.opened.append(link)
        return link

    async def accepted(self, channel: int = 6) -> tuple[FakeLink, Link, FakeReceiver]:
        """Return both ends of a link, and what takes its bytes."""
        peer = await self.open()
        await peer.send(f"{ID}{channel}".encode())
        await until(lambda: channel in self.directory.links)
        return peer, self.directory.links[Channel(channel)], self.directory.receivers[Channel(channel)]


@pytest.fixture
async def server_options() -> dict[str, float]:
    return {}


@pytest.fixture
async def bench(nothing_left: None, tmp_path: Path, server_options: dict[str, float]) -> AsyncIterator[Bench]:
    directory = FakeDirectory()
    server = ChannelServer(directory, **server_options)
    bench = Bench(server, directory, tmp_path / "s")
    await server.listen_unix(bench.path)
    bench.port = await server.listen_tcp("127.0.0.1", 0)
    yield bench
    await server.close()
    await server.close()
    for link in directory.links.values():
        link.abort()
    for peer in bench.opened:
        await peer.close()
    await until(lambda: all(one.ends == 1 for one in directory.receivers.values()))
    await until(lambda: all(one.lost for one in directory.links.values()))


@pytest.fixture(params=["unix", "tcp"])
def either(request: pytest.FixtureRequest, bench: Bench) -> Bench:
    bench.kind = request.param
    return bench


@pytest.mark.parametrize("size", [1, 5, 36, 37, 40])
async def test_a_hello_in_pieces_is_the_hello(either: Bench, size: int) -> None:
    peer = await either.open()
    sent = HELLO + b"payload"
    for start in range(0, len(sent), size):
        await peer.send(sent[start : start + size])
    await until(lambda: Channel.OUT in either.directory.receivers)
    receiver = either.directory.receivers[Channel.OUT]
    await until(lambda: receiver.content == b"payload")


@pytest.mark.parametrize(
    ("hello", "said"),
    [
        (ID.encode() + b"9", "is not a channel digit from 0 to 8"),
        (ID.encode() + b"x", "is not a channel digit from 0 to 8"),
        (b"GET /api/v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n", "is not an instance id"),
        (b"\xff" * 37, "is not an instance id"),
        (b"x" * 36 + b"1", f"no Instance {'x' * 36} was started here"),
    ],
)
async def test_who_says_something_else_is_refused(
    either: Bench, caplog: pytest.LogCaptureFixture, hello: bytes, said: str
) -> None:
    peer = await either.open()
    await peer.send(hello)
    assert await peer.is_refused()
    assert said in caplog.text
    assert either.directory.links == {}


async def test_a_channel_is_not_taken_over(either: Bench, caplog: pytest.LogCaptureFixture) -> None:
    peer, _, receiver = await either.accepted()
    second = await either.open()
    await second.send(HELLO + b"not me")
    assert await second.is_refused()
    assert "channel 6 is taken" in caplog.text
    await peer.send(b"me")
    await until(lambda: receiver.content == b"me")


@pytest.mark.parametrize("said", [b"", HELLO[:36]])
async def test_who_leaves_inside_a_hello_is_gone_and_named(
    either: Bench, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    peer = await either.open()
    await peer.send(said)
    peer.end()
    assert await peer.is_refused()
    assert "it ended inside its hello" in caplog.text


class TestWithLittlePatience:
    @pytest.fixture
    async def server_options(self) -> dict[str, float]:
        return {"hello_timeout": 0.25}

    async def test_half_a_hello_is_waited_for_no_longer_than_that(
        self, either: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        peer = await either.open()
        await peer.send(HELLO[:20])
        assert await peer.is_refused()
        assert "its hello took too long" in caplog.text

    async def test_a_link_that_has_said_its_hello_may_be_silent(self, either: Bench) -> None:
        peer, link, receiver = await either.accepted()
        stranger = await either.open()  # came later, so when its time is over that of the first was, too
        assert await stranger.is_refused()
        assert not link.lost
        await peer.send(b"here")
        await until(lambda: receiver.content == b"here")


class TestWithFewStrangers:
    @pytest.fixture
    async def server_options(self) -> dict[str, float]:
        return {"max_strangers": 3}

    async def test_the_oldest_stranger_makes_room_for_a_new_one(
        self, either: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        strangers = [await either.open() for _ in range(3)]
        peer = await either.open()
        assert await strangers[0].is_refused()
        assert "too many others" in caplog.text
        await peer.send(HELLO)
        await until(lambda: Channel.OUT in either.directory.links)
        await strangers[1].send(ID.encode() + b"1")
        await until(lambda: Channel.STDOUT in either.directory.links)

    async def test_those_who_have_said_their_hello_are_no_strangers(self, either: Bench) -> None:
        for channel in range(9):
            await either.accepted(channel)
        assert len(either.directory.links) == 9
        assert not any(link.lost for link in either.directory.links.values())


async def test_what_is_written_arrives(either: Bench) -> None:
    peer, link, _ = await either.accepted()
    link.write(b"one")
    link.write(b"two")
    await link.drain()
    assert await peer.exactly(6) == b"onetwo"


async def test_the_other_direction_lives_on_when_the_peer_has_ended_its_own(either: Bench) -> None:
    peer, link, receiver = await either.accepted()
    peer.end()
    await until(lambda: receiver.ends == 1)
    assert not link.lost
    link.write(b"still here")
    assert await peer.exactly(10) == b"still here"
    link.close()
    assert await peer.rest() == b""
    assert receiver.ends == 1


async def test_the_other_direction_lives_on_when_ours_has_ended(either: Bench) -> None:
    peer, link, receiver = await either.accepted()
    link.write(b"last")
    link.write_eof()
    link.write_eof()
    assert await peer.rest() == b"last"
    await peer.send(b"go on")
    await until(lambda: receiver.content == b"go on")
    assert receiver.ends == 0


async def test_a_paused_link_holds_the_peer_up_and_loses_nothing(either: Bench) -> None:
    peer, link, receiver = await either.accepted()
    link.pause_reading()
    link.pause_reading()
    sent = bytes(range(256)) * 65536
    sending = asyncio.ensure_future(peer.send(sent))
    done, _ = await asyncio.wait({sending}, timeout=0.1)
    assert not done
    assert receiver.content == b""
    assert link.unread > 0
    link.resume_reading()
    link.resume_reading()
    await sending
    await until(lambda: len(receiver.content) == len(sent))
    assert receiver.content == sent
    assert link.unread == 0


async def test_an_end_behind_unread_bytes_comes_after_them(either: Bench) -> None:
    peer, link, receiver = await either.accepted()
    link.pause_reading()
    await peer.send(b"last words")
    peer.end()
    await until(lambda: link.unread == 10)
    assert receiver.ends == 0
    link.resume_reading()
    await until(lambda: receiver.ends == 1)
    assert receiver.content == b"last words"


async def test_a_writer_waits_while_the_peer_is_behind(either: Bench) -> None:
    peer, link, _ = await either.accepted()
    sent = b"x" * (16 * 1024 * 1024)
    link.write(sent)
    waiting = [asyncio.ensure_future(link.drain()) for _ in range(2)]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    assert await peer.exactly(len(sent)) == sent
    await asyncio.wait_for(asyncio.gather(*waiting), 10)


async def test_a_writer_that_waits_learns_that_the_peer_is_gone(either: Bench) -> None:
    peer, link, receiver = await either.accepted()
    link.write(b"x" * (16 * 1024 * 1024))
    waiting = asyncio.ensure_future(link.drain())
    await asyncio.wait({waiting}, timeout=0.02)
    peer.writer.transport.abort()
    with pytest.raises(ConnectionError, match="the runner has closed the link"):
        await asyncio.wait_for(waiting, 10)
    assert link.lost
    assert receiver.ends == 1
    with pytest.raises(ConnectionError):
        await link.drain()


async def test_what_is_done_to_a_lost_link_is_nothing(
    either: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    peer, link, receiver = await either.accepted()
    peer.writer.transport.abort()
    await until(lambda: receiver.ends == 1)
    link.abort()
    await until(lambda: link.lost)
    for _ in range(10):
        link.write(b"x")
    link.write_eof()
    link.pause_reading()
    link.resume_reading()
    link.close()
    link.abort()
    assert link.unread == 0
    assert caplog.records == []


async def handed_over(bench: Bench, instance_id: str, *channels: Channel) -> dict[Channel, FakeLink]:
    """Give the server links that are open already, and return their other ends."""
    ours: dict[Channel, socket.socket] = {}
    for channel in channels:
        theirs, ours[channel] = socket.socketpair()
        bench.opened.append(FakeLink(*await asyncio.open_unix_connection(sock=theirs)))
    await bench.server.adopt(instance_id, ours)
    return dict(zip(channels, bench.opened[-len(channels) :], strict=True))


async def test_a_link_that_is_handed_over_needs_no_hello(bench: Bench) -> None:
    peers = await handed_over(bench, ID, Channel.OUT, Channel.IN)
    assert bench.server.strangers == 0
    await peers[Channel.OUT].send(HELLO)
    await until(lambda: bench.directory.receivers[Channel.OUT].content == HELLO)
    bench.directory.links[Channel.IN].write(b"to the runner")
    assert await peers[Channel.IN].exactly(13) == b"to the runner"
    peers[Channel.OUT].end()
    await until(lambda: bench.directory.receivers[Channel.OUT].ends == 1)
    assert not bench.directory.links[Channel.OUT].lost


async def test_a_link_that_is_handed_over_and_nobody_wants_is_refused(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    peers = await handed_over(bench, "x" * 36, Channel.OUT)
    assert await peers[Channel.OUT].is_refused()
    assert "no Instance" in caplog.text


async def test_where_a_link_cannot_be_used_all_are_closed(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        broken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with pytest.raises((OSError, ValueError)):
            await bench.server.adopt(ID, {Channel.IN: broken, Channel.OUT: ours})
        assert broken.fileno() == ours.fileno() == -1
        assert theirs.recv(1) == b""


async def test_only_the_owner_reaches_the_socket_and_it_is_gone_with_the_server(bench: Bench) -> None:
    assert bench.path.stat().st_mode & 0o777 == 0o600
    await bench.server.close()
    assert not bench.path.exists()
    with pytest.raises(OSError):  # noqa: PT011 - refused, or no such file
        await connect(bench.path)
    with pytest.raises(ConnectionRefusedError):
        await connect(bench.port)


async def test_a_stale_socket_file_is_replaced(nothing_left: None, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "s"))
    server = ChannelServer(FakeDirectory())
    await server.listen_unix(tmp_path / "s")
    peer = await connect(tmp_path / "s")
    await until(lambda: server.strangers == 1)
    await server.close()
    assert await peer.is_refused()
    await peer.close()


async def test_a_closing_server_lets_strangers_go_and_leaves_links_to_their_instances(either: Bench) -> None:
    peer, link, receiver = await either.accepted()
    stranger = await either.open()
    await stranger.send(HELLO[:3])
    await until(lambda: either.server.strangers == 1)
    await either.server.close()
    assert await stranger.is_refused()
    await peer.send(b"still")
    await until(lambda: receiver.content == b"still")
    assert not link.lost


async def test_a_taken_port_is_an_os_error(bench: Bench) -> None:
    with pytest.raises(OSError, match="in use"):
        await bench.server.listen_tcp("127.0.0.1", bench.port)


async def test_a_good_hello_is_no_news(either: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hub_lite")
    await either.accepted()
    assert caplog.records == []
