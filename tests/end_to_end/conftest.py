"""Fixtures: a hub shared by a module's tests, and a way to talk to it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from .harness import HubProcess, Talk, running_hub, talking_to


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub in a process of its own, shared by the tests of a module."""
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
async def talk(hub: HubProcess) -> AsyncIterator[Talk]:
    """A client of the shared hub."""
    async with talking_to(hub.url) as talking:
        yield talking
