"""How long it takes from a save until the new code answers, with the streams open: ``hub-lite dev`` on the hub that is measured."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .measure import HUB, Case, Contenders, Figure, Goal, NotHere, Setup
from .payload import WrongResult
from .processes import end_process

_ANSWER = """
async def run(context, input):
    async for line in input:
        yield "{word} " + line
"""
_DEADLINE = 30.0  # seconds until new code must have answered


class _Development:
    """A ``hub-lite dev`` whose Sequence answers each line with a word and that line."""

    def __init__(self, child: "subprocess.Popen[bytes]", folder: Path) -> None:
        self._child = child
        self._folder = folder
        self._number = 0

    def ask(self) -> str:
        """Send a line and return the word that it is answered with."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._number += 1
        self._child.stdin.write(f"{self._number}\n".encode())
        self._child.stdin.flush()
        word, _, number = self._child.stdout.readline().decode().partition(" ")
        if not word:
            raise NotHere("`hub-lite dev` has ended; does this hub know POST /instance/:id/_reload?")
        if number != f"{self._number}\n":
            raise WrongResult(f"line {self._number} was answered with {number!r}")
        return word

    def save(self, word: str) -> float:
        """Save code that answers with another word; return the seconds until it has answered."""
        began = time.perf_counter()
        write(self._folder, word)
        while (answered := self.ask()) != word:
            if time.perf_counter() - began > _DEADLINE:
                raise WrongResult(f"{_DEADLINE:g} s after a save {answered!r} answers, not {word!r}")
        return time.perf_counter() - began


def write(folder: Path, word: str) -> None:
    """Save the Sequence, in one step as editors do."""
    (folder / "main.py~").write_text(_ANSWER.format(word=word), encoding="utf-8")
    (folder / "main.py~").rename(folder / "main.py")


@contextmanager
def _developing(setup: Setup) -> Iterator[_Development]:
    folder = setup.folder / "answer"
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps({"main": "main.py", "engines": {"python3": ">=3.11"}}))
    write(folder, "first")
    host, port = setup.hub.address
    url = f"http://{host}:{port}{setup.hub.base}"
    command = [sys.executable, "-m", "hub_lite", "dev", str(folder), "--hub", url]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:
        try:
            yield _Development(child, folder)
        finally:
            end_process(child)


@contextmanager
def _reload(setup: Setup) -> Iterator[Contenders]:
    with _developing(setup) as development:
        development.ask()  # it runs
        saved = 0

        def save() -> dict[str, float]:
            nonlocal saved
            took = []
            for _ in range(setup.sizes.starts):
                saved += 1
                took.append(development.save(f"save{saved}"))
            return {"latency": statistics.median(took) * 1000}

        yield {HUB: save}


RELOAD = Case(
    "reload",
    "hub-lite dev: a save until the new code answers",
    (Figure("latency", "save until the new code answers", "ms", False, Goal(300, 150)),),
    _reload,
)
