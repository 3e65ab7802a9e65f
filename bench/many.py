"""Hundreds of Instances at rest: their start, what they cost, and how the API answers beside them; and one's end."""

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from . import authors, workers
from .hub import Hub
from .measure import HUB, Case, Contenders, Figure, Goal, Setup
from .payload import WrongResult
from .processes import Process, run_seconds

_AT_ONCE = 8  # connections on which they are started
_CONNECTIONS = 16
_PATIENCE = 30.0  # seconds that an Instance may take to end


def _start_all(hub: Hub, sequence: str, count: int) -> list[str]:
    def start_some(number: int) -> list[str]:
        with hub.connection() as http:
            return [hub.start(http, sequence) for _ in range(number, count, _AT_ONCE)]

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return [one for some in threads.map(start_some, range(_AT_ONCE)) for one in some]


def _family(hub: Hub, instances: list[str]) -> set[Process]:
    """Return the processes of a hub that is known, and those of its Instances."""
    assert hub.process is not None
    with hub.connection() as http:
        return {
            hub.process,
            *hub.process.children(recursive=True),
            *(hub.runner(http, one) for one in instances),
        }


@contextmanager
def _many_instances(setup: Setup) -> Iterator[Contenders]:
    hub, count, seconds = setup.hub, setup.sizes.many_instances, setup.sizes.rest_seconds

    def versions() -> float:
        asked = setup.pool.submit(
            workers.flood, hub.address, hub.path("version"), _CONNECTIONS, setup.sizes.requests
        )
        return asked.result() / 1e3

    def among_many() -> dict[str, float]:
        with hub.sequence(authors.WAIT) as sequence:
            began = time.perf_counter()
            instances = _start_all(hub, sequence, count)
            values = {"start": time.perf_counter() - began}
            _expect_running(hub, instances)
            if hub.process is not None:
                family = _family(hub, instances)
                used, began = run_seconds(family), time.perf_counter()
                time.sleep(seconds)
                values["cpu"] = (run_seconds(family) - used) / (time.perf_counter() - began) * 100
            values["rate"] = versions()
            _expect_running(hub, instances)
        return values

    yield {HUB: among_many, "the same hub without them": lambda: {"rate": versions()}}


def _expect_running(hub: Hub, instances: list[str]) -> None:
    with hub.connection() as http:
        found = {one["id"]: one.get("status") for one in http.ask("GET", hub.path("instances"))}
    ended = [one for one in instances if found.get(one) != "running"]
    if ended:
        raise WrongResult(f"{len(ended)} of {len(instances)} Instances do not run: {found.get(ended[0])}")


@contextmanager
def _end(setup: Setup) -> Iterator[Contenders]:
    hub = setup.hub

    def end_one() -> float:
        with hub.connection() as http:
            instance = hub.start(http, sequence)
            path = hub.path("instance", instance)
            with hub.connection() as reader:
                reader.open(hub.path("instance", instance, "stdout"))
                began = time.perf_counter()
                http.ask("POST", f"{path}/_stop", b'{"timeout":7000}', Content_Type="application/json")
                written = reader.rest()  # to its end, which is that of the Instance
                _wait_completed(hub, instance)
                took = time.perf_counter() - began
                if written:
                    raise WrongResult("an Instance at rest has written something")
        return took

    def end() -> dict[str, float]:
        return {"latency": statistics.median(end_one() for _ in range(setup.sizes.ends)) * 1e3}

    with hub.sequence(authors.PASS_ON) as sequence:
        yield {HUB: end}


def _wait_completed(hub: Hub, instance: str) -> None:
    """Wait until an Instance is over: ours is when its streams have ended, other hubs take their time and have no way to tell.

    Raises:
        WrongResult: it has failed, or is not over in time.
    """
    deadline = time.monotonic() + _PATIENCE
    with hub.connection() as http:
        while True:
            found: list[dict[str, Any]] = http.ask("GET", hub.path("instances"))
            status = next((one.get("status") for one in found if one["id"] == instance), None)
            if status in ("completed", None):  # a hub may forget an Instance when it is over
                return
            if status == "errored" or time.monotonic() > deadline:
                raise WrongResult(f"an Instance that was stopped is {status}")
            time.sleep(0.001)


MANY_INSTANCES = Case(
    "many-instances",
    "500 Instances at rest: their start, processor time, and GET /version beside them",
    (
        Figure("start", "500 Instances started", "s", False, Goal(20, 10)),
        Figure("cpu", "hub and 500 Instances at rest, of a core", "%", False, Goal(10, 5)),
        Figure("rate", "GET /version beside 500 Instances", "k/s", True, Goal(0.8, 0.95)),
    ),
    _many_instances,
)

END = Case(
    "end",
    "POST _stop of an Instance at rest until it is completed",
    (Figure("latency", "end of an Instance at rest", "ms", False),),
    _end,
)
