"""A hub that is not ours, and a folder to write a Sequence into."""

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .fake_hub import FakeHub

Write = Callable[..., Path]


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub behind a unix socket, as hub-lite has it."""
    with FakeHub(unix=True) as hub:
        yield hub


@pytest.fixture
def tcp_hub() -> Iterator[FakeHub]:
    """A hub behind TCP, as Transform Hub has it."""
    with FakeHub() as hub:
        yield hub


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files of a package; the first is the entry file, whose path is returned."""

    def write(main: str, **others: str) -> Path:
        entry = tmp_path / "package" / "main.py"
        files = {"main.py": main, "package.json": '{"main": "main.py"}', **others}
        for name, text in files.items():
            path = entry.parent / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        return entry

    return write
