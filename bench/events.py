"""Events to an Instance and back, and the conversation between two processes that such round trips are compared with."""

from collections.abc import Iterator
from contextlib import contextmanager

from . import authors, workers
from .measure import HUB, Case, Contenders, Figure, Goal, Setup


def summary(times: list[float]) -> dict[str, float]:
    """Return p50 and p99 in µs."""
    times.sort()
    return {"p50": times[len(times) // 2] * 1e6, "p99": times[len(times) * 99 // 100] * 1e6}


def ping_pong(setup: Setup, count: int, *, streams: bool) -> dict[str, float]:
    """Let two asyncio processes send lines to and fro over a unix socket."""
    path = str(setup.folder / "echo.sock")
    echo = setup.pool.submit(workers.echo, path, streams=streams)
    times = setup.pool.submit(workers.ping_pong, path, count, streams=streams).result()
    echo.result()
    return summary(times)


@contextmanager
def _event_round_trip(setup: Setup) -> Iterator[Contenders]:
    hub, count = setup.hub, setup.sizes.round_trips

    def through_hub() -> dict[str, float]:
        with hub.instance(sequence) as instance:
            with hub.connection() as http:
                http.open(hub.path("instance", instance, "output"))
                next(http.pieces())  # its handler stands
            emit = hub.path("instance", instance, "_event")
            events = hub.path("instance", instance, "events", "pong")
            return summary(setup.pool.submit(workers.event_trips, hub.address, emit, events, count).result())

    with hub.sequence(authors.ANSWER_EVENTS) as sequence:
        yield {
            HUB: through_hub,
            "unix socket, asyncio streams": lambda: ping_pong(setup, count, streams=True),
            "unix socket, asyncio protocols": lambda: ping_pong(setup, count, streams=False),
        }


EVENT_ROUND_TRIP = Case(
    "event-round-trip",
    "one event in, handler, event out: POST _event until GET events has it",
    (
        Figure("p50", "round trip of one event, p50", "µs", False, Goal(6, 3.5)),
        Figure("p99", "round trip of one event, p99", "µs", False),
    ),
    _event_round_trip,
)
