"""How many runners a zygote keeps in reserve."""

import socket
from collections.abc import Iterator

import pytest

from runner.zygote import Reserves


@pytest.fixture
def open_sockets() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    for one in made:
        one.close()


def fill(reserves: Reserves, made: list[socket.socket]) -> int:
    """Make as many as are wanted, and return their number."""
    while reserves.is_short:
        made.append(socket.socket())
        reserves.add(made[-1])
    return len(reserves)


def burst(reserves: Reserves, count: int, now: float) -> int:
    """Ask for so many at once, and return how many of them were in reserve."""
    found = 0
    for _ in range(count):
        reserves.note_request(now)
        found += reserves.taken() is not None
    return found


def test_at_rest_it_is_one_which_is_made_soon(open_sockets: list[socket.socket]) -> None:
    reserves = Reserves(16)
    assert reserves.patience(0) == 3
    assert fill(reserves, open_sockets) == 1
    assert reserves.patience(0) is None
    for moment in range(20):  # one start after the other wants no more
        assert burst(reserves, 1, moment) == 1
        assert fill(reserves, open_sockets) == 1


def test_after_a_burst_it_is_as_many_for_half_a_minute_and_those_that_are_too_many_are_let_go(
    open_sockets: list[socket.socket],
) -> None:
    reserves = Reserves(16)
    fill(reserves, open_sockets)
    assert burst(reserves, 10, now=100) == 1
    assert fill(reserves, open_sockets) == 10
    assert burst(reserves, 10, now=101) == 10
    assert fill(reserves, open_sockets) == 10
    assert 28_000 < (reserves.patience(101) or 0) <= 30_001
    reserves.forget(now=110)
    assert len(reserves) == 10
    reserves.forget(now=131)  # ten were asked for within that time
    assert len(reserves) == 10
    reserves.forget(now=162)
    assert len(reserves) == 1
    assert sum(one.fileno() >= 0 for one in open_sockets) == 1 + 1 + 10, "those that were taken, and the one"
    assert reserves.patience(162) is None


def test_a_burst_wants_no_more_than_the_most(open_sockets: list[socket.socket]) -> None:
    reserves = Reserves(4)
    assert burst(reserves, 100, now=0) == 0
    assert fill(reserves, open_sockets) == 4


def test_after_several_requests_none_is_made_before_it_has_been_quiet_for_a_while(
    open_sockets: list[socket.socket],
) -> None:
    reserves = Reserves(4)
    burst(reserves, 3, now=0)
    assert reserves.patience(0) == 50
    open_sockets.append(socket.socket())
    reserves.add(open_sockets[-1])
    assert reserves.patience(0) == 10


def test_where_there_was_no_room_none_is_made_before_the_next_request(
    open_sockets: list[socket.socket],
) -> None:
    reserves = Reserves(4)
    reserves.give_up()
    assert not reserves.is_short
    assert reserves.patience(0) is None
    burst(reserves, 1, now=0)
    assert reserves.is_short


def test_none_are_kept_where_none_are_wanted() -> None:
    reserves = Reserves(0)
    burst(reserves, 5, now=0)
    assert not reserves.is_short
    assert reserves.patience(0) is None


def test_closing_closes_all_that_wait(open_sockets: list[socket.socket]) -> None:
    reserves = Reserves(3)
    burst(reserves, 3, now=0)
    fill(reserves, open_sockets)
    reserves.close()
    assert len(reserves) == 0
    assert [one.fileno() for one in open_sockets] == [-1] * 3
