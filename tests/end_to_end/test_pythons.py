"""Packages that ask for another Python than the hub's get it, or hear which there are."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_lite.client import HubRefused

from .harness import HubProcess, Talk, running_hub

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
OTHERS = [version for version in ("3.14", "3.13", "3.12", "3.11") if version != OWN]
CODE = """
import importlib.util, json, sys
from sequence_sdk import Stream

async def run(context, input):
    found = {"version": sys.version_info[:2], "own": importlib.util.find_spec("hub_lite") is None}
    found["items"] = await Stream.read_from(input).map(lambda line: line.strip().upper()).to_list()
    yield json.dumps(found)
"""


def other_python() -> tuple[str, str]:
    """Return the version of a Python that is not the hub's, and the program: from PATH, or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    for version in OTHERS:
        on_path = shutil.which(f"python{version}")
        for program in filter(None, [on_path, *map(str, pyenv.glob(f"versions/{version}.*/bin/python3"))]):
            found = subprocess.run([program, "-V"], capture_output=True, check=False, text=True)
            if found.stdout.startswith(f"Python {version}."):
                return version, program
    pytest.skip(f"no other Python is installed here than {OWN}, of {', '.join(OTHERS)}")


@pytest.fixture(scope="module")
def other() -> tuple[str, str]:
    return other_python()


@pytest.fixture(scope="module")
def hub(other: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("pythons"), "--pythons", other[1]) as running:
        yield running


async def test_a_package_runs_in_the_python_that_it_asks_for(talk: Talk, other: tuple[str, str]):
    instance = await talk.start(CODE, engines={"python3": f"~{other[0]}"})
    await talk.send(instance, b"one\ntwo\n", "text/plain")
    assert json.loads(await talk.read(instance)) == {
        "version": [int(part) for part in other[0].split(".")],
        "own": True,  # what the hub is made of is not in its way
        "items": ["ONE", "TWO"],
    }


@pytest.mark.parametrize("wanted", ["3.5.0", "3.8.0", ">=3.8", "*"])
async def test_an_existing_package_runs_in_the_hubs_python(talk: Talk, wanted: str):
    code = "import sys\n\ndef run(context, input):\n    yield '%d.%d' % sys.version_info[:2]\n"
    instance = await talk.start(code, engines={"python3": wanted})
    assert await talk.read(instance) == OWN.encode()


async def test_where_none_fits_the_start_says_which_there_are(talk: Talk, other: tuple[str, str]):
    with pytest.raises(HubRefused, match=r'asks for "~3\.99", and no Python of this hub fits') as caught:
        await talk.start(CODE, engines={"python3": "~3.99"})
    assert caught.value.status == 400
    assert f" is {other[0]}." in str(caught.value)
    assert "runners.pythons" in str(caught.value)
