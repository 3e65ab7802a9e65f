"""The hub that is measured: one that the benchmark starts for itself, or any other that speaks the API."""

import io
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .payload import Payload, WrongResult
from .processes import NoSuchProcess, Process, end_process
from .wire import LAST_CHUNK, Address, Connection, request_head

_READY = "hub-lite is ready at "


class NoHub(Exception):
    """There is no hub to measure; ``str()`` of it says why."""


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub at an address, and its process if it is known."""

    address: Address
    base: str  # the path of its API
    process: Process | None = None

    @classmethod
    def at(cls, url: str, pid: int | None = None) -> "Hub":
        """Return the hub at a URL, with or without ``/api/v1``.

        Raises:
            NoHub: the URL is no HTTP URL, or there is no process of that id.
        """
        parts = urlsplit(url if "//" in url else f"http://{url}")
        try:
            port = parts.port or 80
        except ValueError:
            port = 0
        if parts.scheme != "http" or not parts.hostname or not port:
            raise NoHub(f"{url!r} is no URL of a hub; give one such as http://127.0.0.1:8000/api/v1")
        try:
            process = Process(pid) if pid is not None else None
        except NoSuchProcess:
            raise NoHub(f"there is no process {pid}") from None
        return cls((parts.hostname, port), parts.path.rstrip("/") or "/api/v1", process)

    def connection(self) -> Connection:
        """Return a connection of one's own.

        Raises:
            NoHub: nobody listens there.
        """
        try:
            return Connection(self.address)
        except OSError as error:
            raise NoHub(
                f"no hub at {self.address[0]}:{self.address[1]}: {error.strerror or error}"
            ) from error

    def path(self, *parts: str) -> str:
        """Return the path of an endpoint."""
        return "/".join([self.base, *parts])

    @contextmanager
    def sequence(self, source: str, *, gives: str = "") -> Iterator[str]:
        """Upload a Sequence for as long as the block lasts; gives its id."""
        with self.connection() as http:
            sequence = self.upload(http, package(source, gives=gives))
        try:
            yield sequence
        finally:
            with self.connection() as http:
                self.delete(http, sequence)

    def upload(self, http: Connection, content: bytes) -> str:
        """Upload a package and return the id of its Sequence."""
        answer = http.ask("POST", self.path("sequence"), content, Content_Type="application/octet-stream")
        return str(answer["id"])

    def delete(self, http: Connection, sequence: str) -> None:
        """Delete a Sequence, with all its Instances."""
        path = self.path("sequence", sequence)
        http.ask("DELETE", path, Content_Type="application/json", x_seq_kill_inst="true")

    def start(self, http: Connection, sequence: str) -> str:
        """Start an Instance and return its id."""
        answer = http.ask(
            "POST", self.path("sequence", sequence, "start"), b"{}", Content_Type="application/json"
        )
        return str(answer["id"])

    @contextmanager
    def instance(self, sequence: str) -> Iterator[str]:
        """Start an Instance for as long as the block lasts; gives its id."""
        with self.connection() as http:
            instance = self.start(http, sequence)
        try:
            yield instance
        finally:
            with self.connection() as http:
                self.kill(http, instance)

    def kill(self, http: Connection, instance: str) -> None:
        """End an Instance, unless it is over by now."""
        body = json.dumps({"removeImmediately": True}).encode()
        try:
            http.ask("POST", self.path("instance", instance, "_kill"), body, Content_Type="application/json")
        except WrongResult:
            found = http.ask("GET", self.path("instances"))
            if any(one["id"] == instance and one.get("status") == "running" for one in found):
                raise

    def runner(self, http: Connection, instance: str) -> Process:
        """Return the process of an Instance."""
        return Process(int(http.ask("GET", self.path("instance", instance, "health"))["processId"]))

    def input_head(self, instance: str, payload_type: str, *, end: bool) -> bytes:
        """Return the head of a request that sends input in chunks; with ``end`` the input ends with it."""
        return request_head(
            "POST",
            self.path("instance", instance, "input"),
            self.address,
            Content_Type=payload_type,
            Transfer_Encoding="chunked",
            x_end_stream="true" if end else "false",
        )

    def end_input(self, http: Connection, instance: str, payload: Payload) -> None:
        """End the input of an Instance."""
        http.link.sendall(self.input_head(instance, payload.kind, end=True) + LAST_CHUNK)
        http.expect_success()
        http.rest()


@contextmanager
def own_hub(folder: Path) -> Iterator[Hub]:
    """Run a hub of this checkout on a free port for as long as the block lasts. Nothing of it stays behind.

    Raises:
        NoHub: it does not start; the end of its log is in the message.
    """
    log_path = folder / "hub.log"
    command = [sys.executable, "-m", "hub_lite", "start", "--port", "0", "--data-dir", str(folder / "data")]
    with (
        log_path.open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        ) as child,
    ):
        try:
            assert child.stdout is not None
            line = child.stdout.readline().decode().strip()
            if not line.startswith(_READY):
                raise NoHub(f"the hub has not started:\n{log_path.read_text()[-2000:]}")
            yield Hub.at(line.removeprefix(_READY), child.pid)
        finally:
            end_process(child)


def package(source: str, *, gives: str = "") -> bytes:
    """Return the package of a Sequence that every hub of this API can run."""
    if gives:
        source = f'provides = {{"provides": "", "contentType": "{gives}"}}\n{source}'
    manifest = {"name": "bench", "version": "1.0.0", "main": "main.py", "engines": {"python3": ">=3.8"}}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in (("package.json", json.dumps(manifest)), ("main.py", source)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(text), int(time.time())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()
