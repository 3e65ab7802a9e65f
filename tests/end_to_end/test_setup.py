"""What ``hub-lite setup`` has installed, a hub works with."""

import os
from pathlib import Path

import pytest

from .harness import hub_lite, running_hub, talking_to
from .npm import installed

VERSION = "0.18.7"
CODE = 'module.exports = (input) => input.map((line) => line.toUpperCase() + "!\\n");\n'


async def test_a_hub_runs_node_sequences_after_setup_node_also_if_it_ran_before(tmp_path: Path):
    installed("@scramjet/runner", VERSION)  # npm has it then, or this is skipped
    manifest = {"main": "index.js", "engines": {"node": ">=16"}}
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            environment = {**os.environ, "npm_config_prefer_offline": "true"}
            done = hub_lite("setup", "node", "--data-dir", hub.data_dir, env=environment)
            if b"npm error network" in done.stderr:
                pytest.skip(f"npm cannot install @scramjet/runner: {done.stderr.decode()[-500:]}")
            assert done.returncode == 0, done.stderr.decode()
            assert done.stdout.startswith(f"@scramjet/runner {VERSION} is installed: ".encode())
            instance = await talk.start(CODE, **manifest)
            await talk.send(instance, b"hello\n", "text/plain")
            assert b"HELLO" in await talk.read(instance)
            await talk.ask("POST", f"/instance/{instance}/_kill", json={})
            again = hub_lite("setup", "node", "--data-dir", hub.data_dir, env=environment)
    assert (again.returncode, again.stderr) == (0, b"")
    assert again.stdout.startswith(f"@scramjet/runner {VERSION} is there: ".encode())
