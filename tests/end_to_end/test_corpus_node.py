"""Small packages of every form that a Node Sequence may have run on the hub, with the runner from the npm registry.

They are those of tests/data/sequences that begin with ``js-``; test_corpus.py says what is in their ``expected.json``. The Node
runner lives on for ten seconds after the output of a Sequence has ended, so most of them are killed then. That an output has ended
well is known up to a second after it has, so some run side by side.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import HubProcess, running_hub
from .npm import installed
from .test_corpus import ALL_FOLDERS, EXPECTED, FOLDERS, is_refused, run_package
from .test_original_runners import VERSION

SIDE_BY_SIDE = 6
NODE_FOLDERS = [folder for folder in ALL_FOLDERS if folder not in FOLDERS]
GROUPS = [NODE_FOLDERS[first : first + SIDE_BY_SIDE] for first in range(0, len(NODE_FOLDERS), SIDE_BY_SIDE)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub in whose data directory npm has put the Node runner."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "data" / "node").mkdir(parents=True)
    (folder / "data" / "node" / "node_modules").symlink_to(installed("@scramjet/runner", VERSION))
    with running_hub(folder) as running:
        yield running


async def run(hub: HubProcess, folder: Path) -> None:
    expected = EXPECTED[folder.name]
    try:
        if expected.refused:
            await is_refused(hub, folder)
        else:
            await run_package(hub, folder, expected.exit)
    except BaseException as error:
        error.add_note(f"this is of {folder.name}")
        raise


def test_there_are_packages_for_node_of_each_form():
    assert len(NODE_FOLDERS) >= 40


@pytest.mark.parametrize("folders", GROUPS, ids=lambda folders: f"{folders[0].name}..{folders[-1].name}")
async def test_they_run_on_the_hub(hub: HubProcess, folders: list[Path]):
    outcomes = await asyncio.gather(*(run(hub, folder) for folder in folders), return_exceptions=True)
    if errors := [outcome for outcome in outcomes if isinstance(outcome, BaseException)]:
        raise BaseExceptionGroup(
            f"{len(errors)} of {len(folders)} packages did not do what is expected", errors
        )
