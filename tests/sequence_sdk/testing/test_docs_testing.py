"""Every example of the page about tests runs as the test it is, in a project of somebody who has installed us."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "testing.md").read_text("utf-8")
BLOCKS = re.findall(r"^<!-- test -->\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_python_block_of_the_page_is_a_test():
    assert len(BLOCKS) == PAGE.count("```python") > 0
    assert all("\ndef test_" in block or "\nasync def test_" in block for block in BLOCKS)


@pytest.mark.parametrize("stages", ["direct", "runner,hub"])
def test_the_examples_pass(tmp_path, stages):
    for number, block in enumerate(BLOCKS):
        (tmp_path / f"test_example_{number}.py").write_text(block, "utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:asyncio",
            "-W",
            "error",
            f"--stages={stages}",
        ],
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
        env=kept,
        check=False,
    )
    said = run.stdout.decode() + run.stderr.decode()
    assert run.returncode == 0, said
    tests = sum(block.count("def test_") for block in BLOCKS)
    timed = sum(block.count("stage, virtual_time") for block in BLOCKS)
    if stages == "direct":
        assert f"{tests} passed" in said
    else:
        assert f"{2 * (tests - 1 - timed) + 1} passed, {2 * timed} skipped" in said
