"""The cases: each prepares a hub's turn and the turns of its baselines."""

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

from . import authors, workers
from .events import EVENT_ROUND_TRIP, ping_pong, summary
from .hub import Hub, own_hub, package
from .many import END, MANY_INSTANCES
from .measure import HUB, Case, Contenders, Figure, Goal, Setup
from .memory import MEMORY, process_of
from .payload import Kind, Payload, WrongResult
from .processes import Process, cpu_seconds, end_process, own_memory, resident_memory, server
from .reload import RELOAD
from .sdk import SDK_CASES
from .streams import client_alone, over_sockets, through_instance
from .topics import TOPIC_CASES
from .upload import LARGE_UPLOAD
from .wire import READ_SIZE, Address, Connection

_GB = 1e9
_MS = 1e3
_CONNECTIONS = 16
_IDLE_PYTHON = "import asyncio; print(flush=True); asyncio.run(asyncio.Event().wait())"


# --- streams --------------------------------------------------------------------------------------------------------


def _through_hub(setup: Setup, sequence: str, payload: Payload) -> tuple[float, float, float]:
    """Send a payload through an Instance; return the seconds it took, and those of processor time of hub and runner."""
    hub = setup.hub
    with hub.instance(sequence) as instance, hub.connection() as control:
        processes = [] if hub.process is None else [hub.process, hub.runner(control, instance)]
        before = [cpu_seconds(process) for process in processes]
        took, after = through_instance(
            setup, instance, payload, lambda: [cpu_seconds(process) for process in processes]
        )
    used = [later - earlier for earlier, later in zip(before, after, strict=True)]
    return (took, used[0], used[1]) if used else (took, 0.0, 0.0)


@contextmanager
def _pass_through(setup: Setup) -> Iterator[Contenders]:
    payload = Payload(Kind.OCTETS, setup.sizes.octet_blocks)
    megabytes = payload.size / 1e6
    relays: list[subprocess.Popen[bytes]] = []

    def through_hub() -> dict[str, float]:
        took, hub_cpu, runner_cpu = _through_hub(setup, sequence, payload)
        values = {"rate": megabytes / took}
        if setup.hub.process is not None:
            values |= {
                "hub_cpu": hub_cpu / payload.size * _GB,
                "runner_cpu": runner_cpu / payload.size * _GB,
            }
        return values

    def socat(listen: int, target: int) -> None:
        command = [
            setup.socat or "socat", "-b", str(READ_SIZE), f"TCP-LISTEN:{listen},bind=127.0.0.1", f"TCP:127.0.0.1:{target}",
        ]  # fmt: skip
        relays.append(subprocess.Popen(command))

    def through_socat() -> dict[str, float]:
        took = over_sockets(setup, payload, socat)
        relay = relays.pop()
        relay.wait()
        return {"rate": megabytes / took}

    def through_python() -> dict[str, float]:
        def start(listen: int, target: int) -> None:
            setup.pool.submit(workers.relay, listen, ("127.0.0.1", target))

        return {"rate": megabytes / over_sockets(setup, payload, start)}

    contenders: Contenders = {HUB: through_hub}
    if setup.socat is not None:
        contenders["socat between two TCP hops"] = through_socat
    contenders |= {
        "Python between two TCP hops": through_python,
        "the client alone, one hop": lambda: {"rate": megabytes / client_alone(setup, payload)},
    }
    with setup.hub.sequence(authors.PASS_ON, gives=payload.kind) as sequence:
        try:
            yield contenders
        finally:
            for relay in relays:
                end_process(relay)


def _items(
    kind: Kind, source: str, name: str, baseline: Callable[[int], float]
) -> Callable[[Setup], AbstractContextManager[Contenders]]:
    """Return what prepares a case of items: through a hub, and in a loop without I/O."""

    @contextmanager
    def prepare_case(setup: Setup) -> Iterator[Contenders]:
        payload = Payload(kind, setup.sizes.items)

        def through_hub() -> dict[str, float]:
            took, hub_cpu, runner_cpu = _through_hub(setup, sequence, payload)
            values = {"rate": payload.count / took / 1e3}
            if setup.hub.process is not None:
                values |= {
                    "hub_cpu": hub_cpu / payload.count * 1e6,
                    "runner_cpu": runner_cpu / payload.count * 1e6,
                }
            return values

        def loop() -> dict[str, float]:
            return {"rate": setup.pool.submit(baseline, payload.count).result() / 1e3}

        def alone() -> dict[str, float]:
            return {"rate": payload.count / client_alone(setup, payload) / 1e3}

        contenders: Contenders = {HUB: through_hub, name: loop}
        if kind is Kind.LINES:
            contenders["the client alone, one hop"] = alone
        with setup.hub.sequence(source, gives=kind) as sequence:
            yield contenders

    return prepare_case


# --- starts ---------------------------------------------------------------------------------------------------------


def _first_byte(hub: Hub, http: Connection, sequence: str) -> tuple[float, str]:
    """Start an Instance; return the moment of its first byte, and its id."""
    instance = hub.start(http, sequence)
    http.open(hub.path("instance", instance, "output"))
    pieces = http.pieces()
    first = bytes(next(pieces))
    moment = time.perf_counter()
    rest = b"".join(bytes(piece) for piece in pieces)  # its end: no process is left to disturb the next turn
    if first + rest != b"x":
        raise WrongResult(f"an Instance gave {first + rest!r} and not 'x'")
    return moment, instance


def _new_python(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


@contextmanager
def _start(setup: Setup) -> Iterator[Contenders]:
    hub = setup.hub

    def start() -> dict[str, float]:
        times = []
        for _ in range(setup.sizes.starts):
            began = time.perf_counter()
            moment, _instance = _first_byte(hub, http, sequence)
            times.append(moment - began)
        return {"latency": statistics.median(times) * _MS}

    def python(code: str) -> dict[str, float]:
        times = [_new_python(code) for _ in range(setup.sizes.starts)]
        return {"latency": statistics.median(times) * _MS}

    with hub.sequence(authors.SAY_SOMETHING) as sequence, hub.connection() as http:
        _first_byte(hub, http, sequence)  # from now on it is warm
        yield {
            HUB: start,
            'python -c "import asyncio"': lambda: python("import asyncio"),
            "python -c pass": lambda: python("pass"),
        }


@contextmanager
def _burst(setup: Setup) -> Iterator[Contenders]:
    hub, count = setup.hub, setup.sizes.burst

    def at_once(turn: Callable[[], float]) -> float:
        """Run a turn in many threads at once, and return the milliseconds until the last of the moments that they return."""
        ready = threading.Barrier(count + 1)

        def run() -> float:
            ready.wait()
            return turn()

        with ThreadPoolExecutor(count) as threads:
            running = [threads.submit(run) for _ in range(count)]
            ready.wait()
            began = time.perf_counter()
            return (max(one.result() for one in running) - began) * _MS

    def start(hub: Hub, sequence: str) -> float:
        with hub.connection() as http:
            return _first_byte(hub, http, sequence)[0]

    def start_python() -> float:
        _new_python("import asyncio")
        return time.perf_counter()

    turns = 0

    def starts() -> dict[str, float]:
        nonlocal turns
        turns += 1
        found = {"latency": at_once(partial(start, hub, sequence))}
        if setup.own:
            with _fresh_hub(setup, turns) as fresh, fresh.sequence(authors.SAY_SOMETHING) as its_sequence:
                start(fresh, its_sequence)
                found["first"] = at_once(partial(start, fresh, its_sequence))
        return found

    def interpreters() -> dict[str, float]:
        took = at_once(start_python)
        return {"latency": took, "first": took}

    with hub.sequence(authors.SAY_SOMETHING) as sequence:
        at_once(partial(start, hub, sequence))
        yield {HUB: starts, f'{count} times python -c "import asyncio"': interpreters}


@contextmanager
def _upload(setup: Setup) -> Iterator[Contenders]:
    content = package(authors.PASS_ON)

    def upload() -> dict[str, float]:
        times = []
        for _ in range(setup.sizes.uploads):
            began = time.perf_counter()
            sequence = setup.hub.upload(http, content)
            times.append(time.perf_counter() - began)
            setup.hub.delete(http, sequence)
        return {"latency": statistics.median(times) * _MS}

    with setup.hub.connection() as http:
        yield {HUB: upload}


# --- conversations --------------------------------------------------------------------------------------------------


@contextmanager
def _round_trip(setup: Setup) -> Iterator[Contenders]:
    hub, count = setup.hub, setup.sizes.round_trips

    def through_hub() -> dict[str, float]:
        with hub.instance(sequence) as instance:
            head = hub.input_head(instance, Kind.LINES, end=True)
            output = hub.path("instance", instance, "output")
            return summary(setup.pool.submit(workers.round_trips, hub.address, head, output, count).result())

    with hub.sequence(authors.PASS_ON) as sequence:
        yield {
            HUB: through_hub,
            "unix socket, asyncio streams": lambda: ping_pong(setup, count, streams=True),
            "unix socket, asyncio protocols": lambda: ping_pong(setup, count, streams=False),
        }


# --- requests -------------------------------------------------------------------------------------------------------


def _flooded(setup: Setup, path: str, stack: ExitStack) -> Contenders:
    body = workers.body_of(setup.hub.address, path)
    aiohttp, _ = stack.enter_context(server("aiohttp", body))
    bare, _ = stack.enter_context(server("bytes", body))

    def flood(address: Address, path: str) -> dict[str, float]:
        asked = setup.pool.submit(workers.flood, address, path, _CONNECTIONS, setup.sizes.requests)
        return {"rate": asked.result() / 1e3}

    return {
        HUB: lambda: flood(setup.hub.address, path),
        "aiohttp, constant body": lambda: flood(aiohttp, "/"),
        "the client alone": lambda: flood(bare, "/"),
    }


@contextmanager
def _version(setup: Setup) -> Iterator[Contenders]:
    with ExitStack() as stack:
        yield _flooded(setup, setup.hub.path("version"), stack)


@contextmanager
def _instances(setup: Setup) -> Iterator[Contenders]:
    with setup.hub.sequence(authors.WAIT) as sequence, ExitStack() as stack:
        for _ in range(setup.sizes.listed_instances):
            stack.enter_context(setup.hub.instance(sequence))
        address, path = setup.hub.address, setup.hub.path("instances")
        while setup.own and workers.body_of(address, path).count(b'"metrics"') < setup.sizes.listed_instances:
            time.sleep(0.05)  # they come with a report, which nobody announces; then the list stays as it is
        yield _flooded(setup, path, stack)


# --- memory ---------------------------------------------------------------------------------------------------------


@contextmanager
def _idle_hub(setup: Setup) -> Iterator[Contenders]:
    process_of(setup.hub)
    turns = 0

    def hub_memory() -> dict[str, float]:
        nonlocal turns
        turns += 1
        began = time.perf_counter()
        with _fresh_hub(setup, turns) as hub:
            ready = {"ready": (time.perf_counter() - began) * _MS} if setup.own else {}
            with hub.sequence(authors.SAY_SOMETHING) as sequence, hub.connection() as http:
                _first_byte(hub, http, sequence)
            return {**ready, "memory": resident_memory(process_of(hub))}

    def aiohttp_memory() -> dict[str, float]:
        began = time.perf_counter()
        with server("aiohttp", b"{}") as (address, process):
            took = time.perf_counter() - began
            workers.body_of(address, "/")
            return {"ready": took * _MS, "memory": resident_memory(process)}

    yield {HUB: hub_memory, "aiohttp, constant body": aiohttp_memory}


@contextmanager
def _idle_instances(setup: Setup) -> Iterator[Contenders]:
    hub, count = setup.hub, setup.sizes.idle_instances
    process_of(hub)

    def instances() -> dict[str, float]:
        with ExitStack() as stack, hub.connection() as http:
            alive = [stack.enter_context(hub.instance(sequence)) for _ in range(count)]
            return {"memory": statistics.mean(own_memory(hub.runner(http, one)) for one in alive)}

    def interpreters() -> dict[str, float]:
        with ExitStack() as stack:
            alive = [stack.enter_context(_idle_python()) for _ in range(count)]
            return {"memory": statistics.mean(own_memory(process) for process in alive)}

    with hub.sequence(authors.WAIT) as sequence:
        yield {HUB: instances, "interpreters with asyncio": interpreters}


@contextmanager
def _idle_python() -> Iterator[Process]:
    with subprocess.Popen([sys.executable, "-c", _IDLE_PYTHON], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            child.stdout.readline()
            yield Process(child.pid)
        finally:
            child.kill()


@contextmanager
def _idle_streams(setup: Setup) -> Iterator[Contenders]:
    process_of(setup.hub)
    count = setup.sizes.idle_streams
    turns = 0

    def open_streams(hub: Hub) -> dict[str, float]:
        process = process_of(hub)
        with hub.sequence(authors.WAIT) as sequence, hub.instance(sequence) as instance, ExitStack() as stack:
            path = hub.path("instance", instance, "output")
            with hub.connection() as reader:
                reader.open(path)
                next(reader.pieces())
            before = own_memory(process)
            for _ in range(count):
                stack.enter_context(hub.connection()).open(path)
            return {"memory": (own_memory(process) - before) * 1024 / count}

    def streams() -> dict[str, float]:
        nonlocal turns
        turns += 1
        with _fresh_hub(setup, turns) as hub:  # one that has had streams has room for others
            return open_streams(hub)

    yield {HUB: streams}


@contextmanager
def _fresh_hub(setup: Setup, number: int) -> Iterator[Hub]:
    """Give a hub that has just started; where it is not ours to start, the one that runs."""
    if not setup.own:
        yield setup.hub
        return
    folder = setup.folder / f"hub-{number}"
    folder.mkdir()
    with own_hub(folder) as hub:
        yield hub


# --- all of them ----------------------------------------------------------------------------------------------------

CASES = (
    Case(
        "pass-through",
        "octets: POST input, author, GET output",
        (
            Figure("rate", "octets passed through", "MB/s", True, Goal(0.30, 0.60)),
            Figure("hub_cpu", "processor time of the hub", "s/GB", False),
            Figure("runner_cpu", "processor time of the runner", "s/GB", False),
        ),
        _pass_through,
    ),
    Case(
        "lines",
        "lines of 100 bytes: in, author, out",
        (
            Figure("rate", "lines of 100 bytes", "k/s", True, Goal(0.06, 0.12)),
            Figure("hub_cpu", "processor time of the hub", "µs/line", False),
            Figure("runner_cpu", "processor time of the runner", "µs/line", False),
        ),
        _items(Kind.LINES, authors.PASS_ON, "the author's loop over a list", workers.list_loop),
    ),
    Case(
        "ndjson",
        "messages of 100 bytes: in, author, out",
        (
            Figure("rate", "ndjson messages of 100 bytes", "k/s", True, Goal(0.4, 0.7)),
            Figure("hub_cpu", "processor time of the hub", "µs/message", False),
            Figure("runner_cpu", "processor time of the runner", "µs/message", False),
        ),
        _items(Kind.MESSAGES, authors.COUNT_UP, "loads and dumps by hand", workers.hand_loop),
    ),
    Case(
        "start",
        "POST start until the first byte of output, warm",
        (Figure("latency", "start until first output byte", "ms", False, Goal(1 / 5, 1 / 10)),),
        _start,
    ),
    Case(
        "burst",
        "16 starts at once, until the last first byte",
        (
            Figure("latency", "16 starts at once, last first byte", "ms", False, Goal(1 / 10, 1 / 25)),
            Figure("first", "the first 16 at once of a hub", "ms", False, Goal(1 / 10, 1 / 25)),
        ),
        _burst,
    ),
    Case(
        "upload",
        "upload and deploy of a small package",
        (Figure("latency", "upload of a small package", "ms", False, Goal(10, 5)),),
        _upload,
    ),
    LARGE_UPLOAD,
    Case(
        "round-trip",
        "one line in, author, out, over open connections",
        (
            Figure("p50", "round trip of one line, p50", "µs", False, Goal(2.3, 1.8)),
            Figure("p99", "round trip of one line, p99", "µs", False, Goal(3, 2)),
        ),
        _round_trip,
    ),
    EVENT_ROUND_TRIP,
    *TOPIC_CASES,
    Case(
        "version",
        "GET /version on 16 keep-alive connections",
        (Figure("rate", "GET /version, 16 connections", "k/s", True, Goal(0.7, 0.9)),),
        _version,
    ),
    Case(
        "instances",
        "GET /instances with 10 Instances on 16 keep-alive connections",
        (Figure("rate", "GET /instances with 10 Instances", "k/s", True, Goal(0.4, 0.7)),),
        _instances,
    ),
    Case(
        "idle-hub",
        "memory of a hub at rest, and its start",
        (
            Figure("memory", "hub at rest, RSS", "MiB", False),
            Figure("ready", "hub, from nothing to ready", "ms", False),
        ),
        _idle_hub,
    ),
    Case(
        "idle-instances",
        "memory of Instances at rest, 50 alive",
        (Figure("memory", "Instance at rest, PSS, 50 alive", "MiB", False, Goal(0.4, 0.25)),),
        _idle_instances,
    ),
    Case(
        "idle-streams",
        "memory of open output streams at rest, 500 open",
        (Figure("memory", "open stream at rest, 500 open", "KiB", False, Goal(15, 8)),),
        _idle_streams,
    ),
    MANY_INSTANCES,
    END,
    MEMORY,
    RELOAD,
    *SDK_CASES,
)
