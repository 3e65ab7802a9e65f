"""``hub-lite dev`` as an author has it: a save swaps the code while the stream is open, and no item is lost or doubled."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from hub_lite.client import HubRefused

from .harness import DEADLINE, Talk, make_package

ANSWER = """
async def run(context, input):
    async for line in input:
        yield "{word} " + line
"""
FAILS = """
async def run(context, input):
    async for line in input:
        if line == "bad\\n":
            raise ValueError("this one")
        yield "first " + line
"""


def write(folder: Path, code: str, name: str = "main.py") -> None:
    """Save a file as editors do: in one step."""
    (folder / f"{name}~").write_text(code)
    (folder / f"{name}~").rename(folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "answer"
    folder.mkdir()
    (folder / "package.json").write_text('{"main": "main.py", "engines": {"python3": ">=3.11"}}')
    (folder / "main.py").write_text(ANSWER.format(word="first"))
    return folder


class Dev:
    """A ``hub-lite dev`` that runs."""

    def __init__(self, folder: Path, said: Path, *options: str, environment: dict[str, str]) -> None:
        self._said = said
        with said.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hub_lite", "dev", str(folder), *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                start_new_session=True,
                bufsize=0,
            )

    def said(self) -> str:
        return self._said.read_text()

    def until(self, text: str, times: int = 1) -> None:
        """Wait until it has said something so often."""
        wait_for(lambda: self.said().count(text) >= times or self.process.poll() is not None)
        assert self.said().count(text) >= times, self.said()

    def ask(self, line: str) -> str:
        """Send a line and return the next line of the output."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line.encode())
        answer = b""
        while not answer.endswith(b"\n"):
            more = self.process.stdout.read(1)
            assert more, self.said()
            answer += more
        return answer.decode()

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE)


@pytest.fixture
def dev(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    """Start the command for the folder; it leaves nothing behind."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUB_LITE")}
    started: list[Dev] = []

    def start(*options: str) -> Dev:
        made = Dev(folder, tmp_path / "said", *options, environment={**environment, "TMPDIR": str(temporary)})
        started.append(made)
        return made

    yield start
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait(DEADLINE)
        for stream in (one.process.stdin, one.process.stdout):
            assert stream is not None
            stream.close()
    if all(one.process.returncode >= 0 for one in started):
        assert list(temporary.iterdir()) == []


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.005)


def test_new_code_answers_after_a_save_with_input_and_output_still_open(
    dev: Callable[..., Dev], folder: Path
):
    running = dev()
    assert running.ask("a\n") == "first a\n"
    head = running.said()
    assert head.startswith("hub-lite dev: answer runs as Instance ")
    assert re.search(
        r"\n  http://127\.0\.0\.1:\d+/api/v1/instance/[\w-]+/\{input,output,stdout,stderr,log\}\n", head
    )
    write(folder, ANSWER.format(word="second"))
    running.until("reloaded main.py in ")
    assert running.ask("b\n") == "second b\n"
    write(folder, 'WORD = "third"', "word.py")
    write(folder, "from word import WORD\n" + ANSWER.replace('"{word} "', 'WORD + " "'))
    wait_for(lambda: running.ask("c\n") == "third c\n")
    write(folder, 'WORD = "fourth"', "word.py")
    running.until("reloaded word.py in ")
    assert running.ask("d\n") == "fourth d\n"
    assert running.end() == 130
    assert "Traceback" not in running.said()


def test_a_syntax_error_is_shown_and_the_old_code_goes_on(dev: Callable[..., Dev], folder: Path):
    running = dev()
    assert running.ask("a\n") == "first a\n"
    write(folder, "def run(context, input)\n")
    running.until(f"not reloaded; the old code goes on:\n{folder}/main.py:1:24: expected ':'")
    assert running.ask("b\n") == "first b\n"
    write(folder, "import no_such_module_anywhere\n")
    running.until("not reloaded; the old code goes on:", 2)
    assert "no_such_module_anywhere" in running.said()
    assert running.ask("c\n") == "first c\n"
    write(folder, ANSWER.format(word="second"))
    running.until("reloaded main.py in ")
    assert running.ask("d\n") == "second d\n"
    assert running.end() == 130


def test_a_sequence_that_failed_is_started_again_by_the_next_save_with_the_rest_of_the_input(
    dev: Callable[..., Dev], folder: Path
):
    write(folder, FAILS)
    running = dev()
    assert running.ask("a\n") == "first a\n"
    assert running.process.stdin is not None
    running.process.stdin.write(b"bad\n")
    running.until("waiting for a save to start it again with the rest of the input; Ctrl-C ends\n")
    assert "ValueError: this one\n" in running.said()
    running.process.stdin.write(b"b\n")
    write(folder, ANSWER.format(word="second"))
    running.until("started again as Instance ")
    assert running.ask("c\n") == "second b\n"
    assert running.process.stdout is not None
    assert running.process.stdout.read(9) == b"second c\n"
    assert running.end() == 130


def test_a_file_is_read_again_by_each_start(dev: Callable[..., Dev], folder: Path, tmp_path: Path):
    (tmp_path / "in.txt").write_text("a\n")
    running = dev("-i", str(tmp_path / "in.txt"))
    assert running.process.stdout is not None
    assert running.process.stdout.read(8) == b"first a\n"
    running.until(f"waiting for a save to start it again with {tmp_path}/in.txt from its beginning")
    write(folder, ANSWER.format(word="second"))
    assert running.process.stdout.read(9) == b"second a\n"
    running.until("waiting for a save", 2)
    assert running.end() == 130


def test_ctrl_c_ends_it_at_once_while_it_waits(dev: Callable[..., Dev], folder: Path):
    write(folder, "raise ValueError('at the start')")
    running = dev()
    running.until("waiting for a save")
    assert "ValueError: at the start" in running.said()
    assert running.end() == 130


def test_debug_waits_for_a_debugger_before_the_code_is_loaded(dev: Callable[..., Dev], folder: Path):
    pytest.importorskip("debugpy")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    write(folder, "print('loaded')\n" + ANSWER.format(word="first"))
    running = dev("--debug", str(port))
    running.until(f"waiting for a debugger on 127.0.0.1:{port} (attach with VS Code: ")
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as link:
        assert link.recv(1000).startswith(b"Content-Length: ")
    assert "loaded" not in running.said()
    assert running.end() == 130


NUMBERS = """
VERSION = {version}
async def run(context, input):
    async for line in input:
        yield f"{{VERSION}} {{line}}"
"""
RELOADS = 100
IN_FLIGHT = 1000  # items that are on their way at any time


async def test_a_hundred_reloads_under_load_lose_and_double_no_item(talk: Talk):
    sequence = await talk.upload(NUMBERS.format(version=0))
    instance = await talk.client.start(sequence)
    over, room = asyncio.Event(), asyncio.Event()
    sent = answered = 0

    async def numbers() -> AsyncIterator[bytes]:
        nonlocal sent
        while not over.is_set():
            yield "".join(f"{number}\n" for number in range(sent, sent + 50)).encode()
            sent += 50
            while sent - answered > IN_FLIGHT:
                room.clear()
                await room.wait()

    async def take() -> list[bytes]:
        nonlocal answered
        got = bytearray()
        async with talk.client.read(instance, "output") as chunks:
            async for chunk in chunks:
                got += chunk
                answered += chunk.count(b"\n")
                room.set()
        return got.splitlines()

    reader = asyncio.create_task(take())
    writer = asyncio.create_task(talk.client.send(instance, "input", numbers(), content_type="text/plain"))
    try:
        async with asyncio.timeout(DEADLINE):
            for version in range(1, RELOADS + 1):
                code = NUMBERS.format(version=version)
                if version % 10 == 0:  # some do not load, and the code before them goes on
                    await replace(talk, sequence, code + "1 / 0\n")
                    with pytest.raises(HubRefused, match="ZeroDivisionError") as refused:
                        await talk.client.reload(instance)
                    assert refused.value.status == 422
                await replace(talk, sequence, code)
                await talk.client.reload(instance)
            over.set()
            await writer
            lines = await reader
    finally:
        for task in (writer, reader):
            task.cancel()
        await asyncio.gather(writer, reader, return_exceptions=True)
    versions, items = zip(*(map(int, line.split()) for line in lines), strict=True)
    assert list(items) == list(range(sent)), "each item once, in order"
    assert list(versions) == sorted(versions)
    assert versions[-1] == RELOADS
    assert len(set(versions)) > RELOADS / 2, "the reloads came while items flowed"


async def replace(talk: Talk, sequence: str, code: str) -> None:
    await talk.client.send_sequence(make_package(code), replace=sequence)
