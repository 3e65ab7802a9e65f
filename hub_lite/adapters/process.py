"""Runs Instances as processes on this machine."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from hub_lite.errors import Unavailable
from hub_lite.ports import Launch
from runner.protocol.channels import Channel

from .runners import Runners
from .zygotes import Forked, Zygotes

_CRASH_LOG_BYTES = 64 * 1024
_CRASH_READS = 4  # of 64 KiB at a time, which empties a pipe; who writes for ever must not hold the hub
_INHERITED = (
    "PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "DEVELOPMENT", "PRODUCTION",
    "LC_ALL", "LC_ADDRESS", "LC_COLLATE", "LC_CTYPE", "LC_IDENTIFICATION", "LC_MEASUREMENT", "LC_MESSAGES", "LC_MONETARY",
    "LC_NAME", "LC_NUMERIC", "LC_PAPER", "LC_TELEPHONE", "LC_TIME",
)  # fmt: skip
_MAX_VARIABLE = 100_000  # bytes; Linux takes 128 KiB for one variable. The PONG says the same, without a limit of that kind


def runner_environment(own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a runner: what a program needs to find its way, what the protocol says, no secret."""
    inherited = {name: value for name in _INHERITED if (value := own.get(name)) is not None}
    small = {name: value if len(value.encode()) <= _MAX_VARIABLE else "{}" for name, value in given.items()}
    return {**inherited, **small}


class _Child(Protocol):
    @property
    def pid(self) -> int: ...
    async def wait(self) -> int: ...


class ProcessAdapter:
    """Starts each Instance as a process of its own, in a session of its own.

    Args:
        runners: which command runs which Sequence.
        zygotes: the warm interpreters of which our own runner is forked; without them it is started.
    """

    name = "process"

    def __init__(self, runners: Runners | None = None, zygotes: Zygotes | None = None) -> None:
        self._runners = runners or Runners()
        self._zygotes = zygotes

    def warm(self) -> None:
        """Get ready for the first Sequence of the language that most have."""
        if self._zygotes is not None and self._runners.python_for == "ours":
            environment = {**runner_environment(os.environ, {}), **self._runners.environment}
            self._zygotes.warm(sys.executable, environment)

    async def close(self) -> None:
        """Let go of what is kept warm; what was started lives on. Safe to call twice."""
        if self._zygotes is not None:
            await self._zygotes.close()

    async def launch(self, launch: Launch) -> "ChildProcess":
        """Start the runner for the Sequence's language.

        Raises:
            BadRequest: no runner here can run this Sequence.
            Unavailable: the machine does not start another process.
        """
        command = await self._runners.command(launch, runner_environment(os.environ, launch.environment))
        words = list(command.words)
        early_log: Path | None = None
        stdin_reader, stdin_writer = os.pipe() if command.open_stdin else (None, None)
        crash_reader, crash_writer = os.pipe()
        try:
            if command.early_log:
                early_log = _new_file()
                words.append(str(early_log))
            child: _Child | None = None
            forked: Forked | None = None
            if command.forkable and self._zygotes is not None:
                child = forked = await self._zygotes.fork(
                    words[0], command.environment, launch.environment, launch.sequence.directory, crash_writer
                )
            if child is None:
                child = await asyncio.create_subprocess_exec(
                    *words,
                    stdin=asyncio.subprocess.DEVNULL if stdin_reader is None else stdin_reader,
                    stdout=crash_writer,
                    stderr=crash_writer,
                    cwd=launch.sequence.directory,
                    env=dict(command.environment),
                    start_new_session=True,  # a Ctrl-C in the hub's terminal is not for the authors; and one kill reaches all
                )
        except BaseException as error:
            os.close(crash_reader)
            if stdin_writer is not None:
                os.close(stdin_writer)
            if early_log is not None:
                early_log.unlink(missing_ok=True)
            if not isinstance(error, OSError):
                raise
            raise Unavailable(f"the runner could not be started: {error.strerror or error}") from error
        finally:
            os.close(crash_writer)
            if stdin_reader is not None:
                os.close(stdin_reader)
        links = {} if forked is None else forked.links
        return ChildProcess(child, crash_reader, early_log, stdin_writer, links)


def _new_file() -> Path:
    """Return the path of a new, empty file that only this user can read."""
    number, path = tempfile.mkstemp(prefix="hub-lite-", suffix=".log")
    os.close(number)
    return Path(path)


class ChildProcess:
    """A runner, with what it says outside of its links."""

    def __init__(
        self,
        child: _Child,
        crash_reader: int,
        early_log: Path | None = None,
        stdin_writer: int | None = None,
        links: Mapping[Channel, socket.socket] | None = None,
    ) -> None:
        self._child = child
        self._links = dict(links or {})
        self._stdin_writer = stdin_writer
        self._early_log = early_log
        self._early = b""
        self._ended = asyncio.ensure_future(child.wait())
        self._crash_reader: int | None = crash_reader
        self._crash = bytearray()
        os.set_blocking(crash_reader, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(crash_reader, self._read_crash)

    @property
    def pid(self) -> int:
        """The id of the process, and of its group."""
        return self._child.pid

    async def wait(self) -> int:
        """Wait for the end and return its code, ``-n`` for a death by signal n."""
        return await asyncio.shield(self._ended)

    def take_links(self) -> dict[Channel, socket.socket]:
        """Return the open links that it was started with, and leave them to the caller."""
        links, self._links = self._links, {}
        return links

    def kill(self) -> None:
        """Send SIGKILL to the process and to all it has started; nothing happens where there is nobody."""
        with contextlib.suppress(
            ProcessLookupError, PermissionError
        ):  # macOS says the latter of a group of zombies
            os.killpg(self.pid, signal.SIGKILL)

    def crash_log(self) -> bytes:
        """Return the last 64 KiB written to the real stdout and stderr; before them, what went wrong by the early log."""
        self._read_crash()
        self._read_early_log()
        return self._early + bytes(self._crash)

    def close(self) -> None:
        """Close the pipes, and links that nobody has taken, and remove the early log; safe to call twice."""
        for link in self.take_links().values():
            link.close()
        if self._early_log is not None:
            self._read_early_log()
            self._early_log.unlink(missing_ok=True)
            self._early_log = None
        if self._stdin_writer is not None:
            os.close(self._stdin_writer)
            self._stdin_writer = None
        self._close_pipe()

    def _close_pipe(self) -> None:
        if self._crash_reader is not None:
            self._loop.remove_reader(self._crash_reader)
            os.close(self._crash_reader)
            self._crash_reader = None

    def _read_crash(self) -> None:
        for _ in range(_CRASH_READS):
            if self._crash_reader is None:
                return
            try:
                chunk = os.read(self._crash_reader, 65536)
            except BlockingIOError:
                return
            if not chunk:
                self._close_pipe()
                return
            self._crash += chunk
            del self._crash[:-_CRASH_LOG_BYTES]

    def _read_early_log(self) -> None:
        if self._early_log is None:
            return
        with (
            contextlib.suppress(OSError),
            self._early_log.open("rb") as file,
        ):  # a Sequence may have removed it
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - _CRASH_LOG_BYTES))
            lines = file.read(_CRASH_LOG_BYTES).splitlines(keepends=True)
            self._early = b"".join(line for line in lines if _is_worth_showing(line))


def _is_worth_showing(line: bytes) -> bool:
    """Tell whether a line of an early log is more than a record that the runner repeats once it is connected."""
    try:
        record = json.loads(line)
    except ValueError:
        return True
    return not isinstance(record, dict) or record.get("level") not in ("TRACE", "DEBUG", "INFO")
