"""Runs Instances as processes on this machine."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping

from hub_lite.errors import BadRequest, Unavailable
from hub_lite.ports import Launch

_CRASH_LOG_BYTES = 64 * 1024
_CRASH_READS = 4  # of 64 KiB at a time, which empties a pipe; who writes for ever must not hold the hub
_INHERITED = (
    "PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "DEVELOPMENT", "PRODUCTION",
)  # fmt: skip
_MAX_VARIABLE = 100_000  # bytes; Linux takes 128 KiB for one variable. The PONG says the same, without a limit of that kind


def runner_environment(own: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a runner: what a program needs to find its way, what the protocol says, no secret."""
    inherited = {name: value for name, value in own.items() if name in _INHERITED or name.startswith("LC_")}
    small = {name: value if len(value.encode()) <= _MAX_VARIABLE else "{}" for name, value in given.items()}
    return {**inherited, **small}


class ProcessAdapter:
    """Starts each Instance as a process of its own, in a session of its own."""

    name = "process"

    async def launch(self, launch: Launch) -> "ChildProcess":
        """Start the runner for the Sequence's language.

        Raises:
            BadRequest: no runner here can run this Sequence.
            Unavailable: the machine does not start another process.
        """
        command = self._command(launch)
        crash_reader, crash_writer = os.pipe()
        try:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=crash_writer,
                stderr=crash_writer,
                cwd=launch.sequence.directory,
                env=runner_environment(os.environ, launch.environment),
                start_new_session=True,  # a Ctrl-C in the hub's terminal is not for the authors; and one kill reaches all
            )
        except BaseException as error:
            os.close(crash_reader)
            if not isinstance(error, OSError):
                raise
            raise Unavailable(f"the runner could not be started: {error.strerror or error}") from error
        finally:
            os.close(crash_writer)
        return ChildProcess(child, crash_reader)

    def _command(self, launch: Launch) -> list[str]:
        engines = launch.sequence.manifest.engines
        if len(engines) > 1:
            raise BadRequest(
                "Incorrect config passed to SequenceConfig,'engines' field can't contain more than one element; "
                f"package.json names {', '.join(sorted(engines))}"
            )
        language = launch.sequence.manifest.language
        if language != "py":
            raise BadRequest(
                f"no runner for language {language!r} is installed on this hub; "
                'a Python Sequence says `"engines": {"python3": ">=3.11"}` in its package.json'
            )
        return [sys.executable, "-P", "-m", "runner"]


class ChildProcess:
    """A runner that is a child of the hub."""

    def __init__(self, child: asyncio.subprocess.Process, crash_reader: int) -> None:
        self._child = child
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

    def kill(self) -> None:
        """Send SIGKILL to the process and to all it has started; nothing happens where there is nobody."""
        with contextlib.suppress(
            ProcessLookupError, PermissionError
        ):  # macOS says the latter of a group of zombies
            os.killpg(self.pid, signal.SIGKILL)

    def crash_log(self) -> bytes:
        """Return the last 64 KiB written to the real stdout and stderr."""
        self._read_crash()
        return bytes(self._crash)

    def close(self) -> None:
        """Close the pipe; safe to call twice."""
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
                self.close()
                return
            self._crash += chunk
            del self._crash[:-_CRASH_LOG_BYTES]
