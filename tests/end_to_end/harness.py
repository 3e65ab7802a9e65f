"""A real hub in a process of its own, and the few words tests say to it."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from hub_lite.client import HubClient, StreamBroken

DEADLINE = 30.0  # seconds until a test that waits for something gives up


def make_package(
    code: str, *, main: str = "main.py", files: dict[str, str] | None = None, **manifest: Any
) -> bytes:
    """Return the package of a Sequence given as source text."""
    members = {
        "package.json": json.dumps(
            {"name": "test", "version": "1.0.0", "main": main, "engines": {"python3": ">=3.11"}, **manifest}
        ),
        main: textwrap.dedent(code),
        **(files or {}),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in members.items():
            content = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def make_archive(*entries: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    """Return a tar.gz of files given as name and content, and of entries without content."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                name, content = entry
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


async def eventually(condition: Callable[[], Any], what: str = "it") -> None:
    """Wait until a condition is true."""
    try:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what} is still not so after {DEADLINE:g} s") from None


class HubProcess:
    """A running ``hub-lite start``."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        data_dir: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.data_dir = data_dir or folder / "data"
        self.log_path = folder / "hub.log"
        self._temporary = tempfile.TemporaryDirectory(
            prefix="hub", dir="/tmp"
        )  # a hub that is killed leaves its socket there
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "hub_lite",
                    "start",
                    "--port",
                    "0",
                    "--data-dir",
                    str(self.data_dir),
                    "-v",
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "TMPDIR": self._temporary.name, **(environment or {})},
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert line.startswith("hub-lite is ready at http://"), line + self.log()
        self.url = line.split()[-1]

    def log(self) -> str:
        """Return what the hub has logged so far."""
        return self.log_path.read_text()

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def children(self) -> list[int]:
        """Return the ids of the runners that live."""
        return children_of(self.pid)

    def files(self) -> set[str]:
        """Return what the data directory holds, without what is inside packages and the database's own files."""
        found = [*self.data_dir.iterdir()]
        for name in ("staging", "packages"):
            found += (self.data_dir / name).iterdir()
        return {str(path.relative_to(self.data_dir)) for path in found if "sqlite3-" not in path.name}

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._temporary.cleanup()


@contextmanager
def running_hub(
    folder: Path, *options: str, data_dir: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[HubProcess]:
    hub = HubProcess(folder, *options, data_dir=data_dir, environment=environment)
    try:
        yield hub
    finally:
        hub.close()


def hub_lite(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end and return its status and what it said."""
    options.setdefault("input", b"")
    return subprocess.run(
        [sys.executable, "-m", "hub_lite", *map(str, arguments)],
        capture_output=True,
        check=False,
        timeout=DEADLINE,
        **options,
    )


def lives(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def children_of(pid: int) -> list[int]:
    """Return the processes that a hub has started and that live, also by way of a warm interpreter, which is none of them."""
    import psutil

    found: list[int] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children():
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                warm = "runner.zygote" in child.cmdline()
                # one in reserve does not lead a session yet
                living = (
                    [one for one in child.children() if os.getsid(one.pid) == one.pid] if warm else [child]
                )
                found += [one.pid for one in living if one.status() != psutil.STATUS_ZOMBIE]
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What the hub answered."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The sentence of an error answer."""
        error = self.json["error"]
        assert isinstance(error, str), error
        return error


class Talk:
    """A client and a bare HTTP session on one hub."""

    def __init__(self, url: str, client: HubClient, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.client = client
        self.http = http

    async def get(self, path: str) -> Any:
        async with self.http.get(self.url + path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def ask(self, method: str, path: str, **options: Any) -> "Answer":
        """Make any request and return the whole answer."""
        async with asyncio.timeout(DEADLINE), self.http.request(method, self.url + path, **options) as answer:
            return Answer(answer.status, answer.reason or "", answer.headers, await answer.read())

    async def upload(self, code: str, **options: Any) -> str:
        return await self.upload_bytes(make_package(code, **options))

    async def upload_bytes(self, package: bytes) -> str:
        async with self.http.post(
            self.url + "/sequence", data=package, headers={"Content-Type": "application/octet-stream"}
        ) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["id"])

    async def start(self, code: str, *args: Any, config: dict[str, Any] | None = None, **options: Any) -> str:
        """Upload and start a Sequence; return the id of the Instance."""
        return await self.client.start(await self.upload(code, **options), args=list(args), config=config)

    async def send(
        self,
        instance_id: str,
        data: bytes,
        content_type: str = "text/plain",
        *,
        stream: str = "input",
        end: bool = True,
    ) -> None:
        headers = {"Content-Type": content_type, "x-end-stream": "true" if end else "false"}
        async with self.http.post(
            f"{self.url}/instance/{instance_id}/{stream}", data=data, headers=headers
        ) as answer:
            assert answer.status == (200 if end else 202), await answer.text()
            await answer.read()

    async def read(self, instance_id: str, stream: str = "output", query: str = "") -> bytes:
        """Return a whole stream, to its end."""
        async with (
            asyncio.timeout(DEADLINE),
            self.http.get(f"{self.url}/instance/{instance_id}/{stream}{query}") as answer,
        ):
            assert answer.status == 200, await answer.text()
            return await answer.read()

    async def read_until_broken(self, instance_id: str) -> bytes:
        """Return the output of an Instance that fails: all of it, though it is not complete."""
        got = b""
        async with asyncio.timeout(DEADLINE), self.client.read(instance_id, "output") as chunks:
            try:
                async for chunk in chunks:
                    got += chunk
            except StreamBroken:
                return got
        raise AssertionError("the output ended as if it were complete")

    async def until_over(self, instance_id: str) -> dict[str, Any]:
        """Wait for the end of an Instance and return what the hub knows of it."""
        await self.read(instance_id, "log")  # ends when the Instance ends
        return dict(await self.get(f"/instance/{instance_id}"))


@contextlib.asynccontextmanager
async def talking_to(url: str) -> AsyncIterator[Talk]:
    timeout = aiohttp.ClientTimeout(total=None, sock_read=DEADLINE)
    async with HubClient(url) as client, aiohttp.ClientSession(timeout=timeout) as http:
        yield Talk(url, client, http)
