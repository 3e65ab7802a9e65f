"""Both event loops for what works on sockets and processes, and a watch for what is left behind."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from .fakes import until

_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
_ON_BOTH = {"test_channel_server", "test_instances", "test_hub", "test_mux", "test_process", "test_zygotes"}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on both loops where loops differ; a hub has uvloop where it is to be had."""
    if Path(item.path).stem in _ON_BOTH:
        return _LOOPS
    return {"asyncio": _LOOPS["asyncio"]}


def open_descriptors() -> dict[int, str]:
    """Return what each open descriptor of this process is."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except OSError:
            continue  # the one that listed the folder
    return found


@pytest.fixture(scope="session")
def warm_loops() -> None:
    """Let loops open what they open once a process, for its signals."""
    for factory in _LOOPS.values():
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.sleep(0))


@pytest.fixture
def descriptors(warm_loops: None) -> Iterator[None]:
    """See that no descriptor is left open by a test, its event loop included."""
    before = open_descriptors()
    yield
    left = {number: what for number, what in open_descriptors().items() if before.get(number) != what}
    if left:
        gc.collect()  # a loop that is closed may leave its own to that
        left = {number: what for number, what in open_descriptors().items() if left.get(number) == what}
    assert not left, f"left open in process {os.getpid()}: {left}"


@pytest.fixture
async def nothing_left(descriptors: None) -> AsyncIterator[None]:
    """See that neither a task nor a descriptor outlives what the other fixtures have set up."""
    before = asyncio.all_tasks()
    yield
    await until(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()}, "the end of all tasks")
