"""The rehearsal of a zygote: it runs a Sequence in its own process, and leaves no trace."""

import logging
import sys
import threading
from pathlib import Path

import pytest

from runner import rehearsal
from runner.rehearsal import RehearsalFailed, rehearse


def traces() -> dict[str, object]:
    return {
        "folder": Path.cwd(),
        "path": sys.path[:],
        "arguments": sys.argv,
        "modules": set(sys.modules),
        "finders": sys.meta_path[:],
        "threads": threading.enumerate(),
        "handlers": [logging.getLogger(name).handlers[:] for name in ("Runner", "Sequence")],
        "streams": (sys.stdin, sys.stdout, sys.stderr),
    }


@pytest.fixture
def here(monkeypatch):
    monkeypatch.chdir("/")
    rehearse(1)  # what it loads it may keep


def test_it_leaves_no_trace(here):
    before = traces()
    rehearse(2)
    assert traces() == before


def test_a_sequence_that_goes_wrong_is_told(here, monkeypatch, tmp_path):
    before = traces()
    (tmp_path / "main.py").write_text("async def run(context, input):\n    yield 'other'\n")
    monkeypatch.setattr(rehearsal, "_SEQUENCE", tmp_path / "main.py")
    with pytest.raises(RehearsalFailed, match=r"exit code 0, output b'other'"):
        rehearse(1)
    (tmp_path / "main.py").write_text("1 / 0")
    with pytest.raises(RehearsalFailed, match="exit code 22"):
        rehearse(1)
    assert traces() == before


def test_it_has_no_way_to_end_the_process():
    with pytest.raises(RehearsalFailed, match="it ends with 3"):
        rehearsal._refuse(3)
