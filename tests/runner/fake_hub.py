"""A hub that is not ours: plain sockets, the environment of the contract, messages written by hand.

It knows nothing of ``runner.protocol``; what it expects stands in docs/protocol.md. Nothing waits longer than ``TIMEOUT``, and
nothing waits for a fixed time.
"""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TIMEOUT = 20.0  # seconds; a guard, not a wait
INSTANCE_ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"
STDIN, STDOUT, STDERR, CONTROL, MONITORING, IN, OUT, LOG, PACKAGE = range(9)
PING, MONITOR, STOPPED, ALIVE, COMPLETED, PANG, EVENT = 3000, 3001, 3006, 3010, 3011, 3012, 5001


class Link:
    """One accepted link: what came after its hello, kept until it is asked for."""

    def __init__(self, connection: socket.socket, channel: int, rest: bytes) -> None:
        self.connection = connection
        self.channel = channel
        self.received = bytearray(rest)
        self.ended = False

    def _receive(self) -> bool:
        if self.ended:
            return False
        try:
            chunk = self.connection.recv(1 << 20)
        except ConnectionResetError:
            chunk = b""
        self.received += chunk
        self.ended = not chunk
        return bool(chunk)

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes, or what there is at the end."""
        while len(self.received) < size and self._receive():
            pass
        return self._take(size)

    def until(self, mark: bytes) -> bytes:
        """Return everything up to and with ``mark``, or what there is at the end."""
        searched = 0
        while (found := self.received.find(mark, searched)) < 0:
            searched = max(len(self.received) - len(mark) + 1, 0)
            if not self._receive():
                return self._take(len(self.received))
        return self._take(found + len(mark))

    def line(self) -> bytes:
        """Return one line with its end."""
        return self.until(b"\n")

    def rest(self) -> bytes:
        """Return everything up to the end of the link."""
        while self._receive():
            pass
        return self._take(len(self.received))

    def quiet(self, seconds: float = 0.0) -> bool:
        """Tell whether nothing at all comes for a while."""
        return not self.received and not select.select([self.connection], [], [], seconds)[0]

    def _take(self, size: int) -> bytes:
        taken = bytes(self.received[:size])
        del self.received[:size]
        return taken

    def send(self, data: bytes) -> None:
        """Write bytes; waits while the runner does not read."""
        self.connection.sendall(data)

    def send_in_background(self, data: bytes, *, end: bool = True) -> threading.Thread:
        """Write bytes in a thread of its own."""

        def work() -> None:
            self.send(data)
            if end:
                self.end()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def end(self) -> None:
        """Half-close the link."""
        self.connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the link; safe to call twice."""
        self.connection.close()


class FakeHub:
    """Listens, starts one runner, takes its links, and talks to it."""

    def __init__(self, *, unix: bool = False) -> None:
        self.open = contextlib.ExitStack()
        self.path = ""
        self.listener = self.open.enter_context(socket.socket(socket.AF_UNIX if unix else socket.AF_INET))
        if unix:
            self.path = self.open.enter_context(tempfile.TemporaryDirectory(prefix="hub-")) + "/s"
            self.listener.bind(self.path)
        else:
            self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(16)
        self.listener.settimeout(TIMEOUT)
        self.process: subprocess.Popen[bytes] | None = None
        self.links: dict[int, Link] = {}
        self.hellos: list[bytes] = []
        self.messages: list[list[Any]] = []  # every monitoring message so far, in order
        self.monitoring_lines: list[bytes] = []

    # --- the process ----------------------------------------------------------------------------------------------

    def environment(self, entry: Path, **more: str) -> dict[str, str]:
        """Return the variables of the contract, and no other."""
        environ = {
            "INSTANCE_ID": INSTANCE_ID,
            "SEQUENCE_PATH": str(entry),
            "SEQUENCE_INFO": '{"id":"a-sequence","config":{"name":"x"}}',
            "RUNNER_CONNECT_INFO": "{}",
            "PIPES_LOCATION": "",
            "CRASH_LOG": "crash_log",
            "PATH": os.environ.get("PATH", os.defpath),
        }
        if self.path:
            environ["INSTANCES_SERVER_SOCKET"] = self.path
        else:
            environ["INSTANCES_SERVER_HOST"] = "127.0.0.1"
            environ["INSTANCES_SERVER_PORT"] = str(self.listener.getsockname()[1])
        return {**environ, **more}

    def launch(self, entry: Path, **environ: str) -> None:
        """Start a runner; its own stdout and stderr are kept in files."""
        self.own_output = self.open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed with the hub
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "runner"],
            env=self.environment(entry, **environ),
            cwd=tempfile.gettempdir(),
            stdin=subprocess.DEVNULL,
            stdout=self.own_output,
            stderr=self.own_output,
            start_new_session=True,
        )

    def crash_log(self) -> str:
        """Return what the process wrote beside its links, to its own stdout and stderr."""
        self.own_output.seek(0)
        return self.own_output.read().decode()

    def accept(self, count: int = 9) -> None:
        """Take the links, in whatever order they come."""
        for _ in range(count):
            connection, _ = self.listener.accept()
            connection.settimeout(TIMEOUT)
            hello = b""
            while len(hello) < 37:
                chunk = connection.recv(37 - len(hello))
                assert chunk, f"a link ended inside its hello: {hello!r}"
                hello += chunk
            self.hellos.append(hello)
            channel = int(hello[36:])
            assert channel not in self.links
            self.links[channel] = Link(connection, channel, b"")

    def start(
        self,
        entry: Path,
        config: dict[str, Any] | None = None,
        args: list[Any] | None = None,
        **environ: str,
    ) -> "FakeHub":
        """Start a runner, take its links and its PING, and answer."""
        self.launch(entry, **environ)
        self.accept()
        assert self.message()[0] == PING
        self.say(4000, {"appConfig": config or {}, "args": args or []})
        return self

    def wait(self) -> int:
        """Return the exit code of the runner when it has ended."""
        assert self.process is not None
        return self.process.wait(TIMEOUT)

    @property
    def alive(self) -> bool:
        """Tell whether the runner's process lives."""
        return self.process is not None and self.process.poll() is None

    # --- messages -------------------------------------------------------------------------------------------------

    def say(self, code: int, payload: Any = None) -> None:
        """Send a control message."""
        line = json.dumps([code, {} if payload is None else payload], separators=(",", ":"))
        self.links[CONTROL].send(line.encode() + b"\n")

    def message(self) -> list[Any]:
        """Return the next monitoring message; a report is answered, as a hub must."""
        line = self.links[MONITORING].line()
        assert line.endswith(b"\r\n"), f"monitoring ended: {line!r} after {self.codes()}; {self.words()}"
        message = json.loads(line)
        assert isinstance(message, list)
        assert len(message) == 2
        self.monitoring_lines.append(line)
        self.messages.append(message)
        if message[0] == MONITOR:
            with contextlib.suppress(OSError):  # the runner may have left
                self.say(4004)
        return message

    def words(self) -> str:
        """Return what the runner has said on STDERR and beside its links, for a failing test."""
        said = self.links[STDERR].rest().decode() if STDERR in self.links and not self.alive else ""
        return f"STDERR: {said!r}, crash log: {self.crash_log()!r}"

    def until(self, code: int, **members: Any) -> Any:
        """Return the payload of the next message of a code that has these members."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            got, payload = self.message()
            if got == code and all(payload.get(name) == value for name, value in members.items()):
                return payload
        raise AssertionError(f"no {code} {members} among {self.codes()}")

    def codes(self) -> list[int]:
        """Return the codes of the last messages."""
        return [code for code, _ in self.messages[-20:]]

    def last_messages(self) -> list[list[Any]]:
        """Read monitoring to its end; return everything but the reports, from the very first message on."""
        while True:
            line = self.links[MONITORING].line()
            if not line:
                break
            self.monitoring_lines.append(line)
            self.messages.append(json.loads(line))
        return [message for message in self.messages if message[0] != MONITOR]

    def event(self, name: str) -> Any:
        """Return the message of the next event of that name."""
        return self.until(EVENT, eventName=name)["message"]

    # --- data -----------------------------------------------------------------------------------------------------

    def input(self, content_type: str, data: bytes, *, end: bool = True) -> None:
        """Write prologue and bytes of the input."""
        self.links[IN].send(f"Content-Type: {content_type}\r\n\r\n".encode() + data)
        if end:
            self.links[IN].end()

    def output(self) -> bytes:
        """Return the output to its end."""
        return self.links[OUT].rest()

    def stdout(self) -> str:
        """Return what was printed, to the end."""
        return self.links[STDOUT].rest().decode()

    def stderr(self) -> str:
        """Return what was printed to stderr, to the end."""
        return self.links[STDERR].rest().decode()

    def log(self) -> list[dict[str, Any]]:
        """Return all records of the log, to its end."""
        return [json.loads(line) for line in self.links[LOG].rest().splitlines()]

    # --- the end --------------------------------------------------------------------------------------------------

    def vanish(self) -> None:
        """Close all links at once, as a hub that dies."""
        for link in self.links.values():
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait(TIMEOUT)
        self.vanish()
        self.open.close()
