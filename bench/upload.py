"""The upload of a large package, beside ``tar xzf`` of the same file into the same file system."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .hub import Hub, package
from .measure import HUB, Case, Contenders, Figure, Goal, NotHere, Setup
from .memory import Peak
from .payload import MIB, WrongResult
from .wire import request_head

_TAR = "tar xzf"
_VOCABULARY = (
    "self value None return for in if not await async def class import from stream items key name path raise with as "
    "True False list dict str int bytes ValueError isinstance len range yield else try except super result config "
    "logger context message encode decode append update join split format number index start stop size"
)
_WORDS: list[str] = list(_VOCABULARY.split())
_MODULE_BYTES = 8 * 1024  # of a text file, about
_LIBRARY_BYTES = 16 * MIB  # of a binary file; it shrinks to half of itself, as compiled code does
_LIBRARIES_TO_MODULES = 150  # files of text for one binary file, as in a package with native dependencies
_POOL = 40  # modules that differ; they come again farther apart than gzip looks back


class _Content:
    """The files of a package, the same in every run."""

    def __init__(self) -> None:
        self._random = random.Random(300)
        self._modules = [self._module() for _ in range(_POOL)]
        self._code = self._machine_code()

    def module(self, number: int) -> bytes:
        """Return a text file that looks like a Python module."""
        return b"# module %d\n%b" % (number, self._modules[number % _POOL])

    def library(self, number: int, size: int) -> bytes:
        """Return a binary file: the first of each four is packed already, the others look like compiled code."""
        if number % 4 == 0:
            return self._random.randbytes(size)
        at = self._random.randrange(len(self._code))
        turned = self._code[at:] + self._code[:at]
        return (turned * (size // len(turned) + 1))[:size]

    def _module(self) -> bytes:
        lines: list[str] = []
        size = 0
        while size < _MODULE_BYTES:
            words = self._random.choices(_WORDS, k=self._random.randrange(3, 14))
            words.append(f"{self._random.randrange(1 << 20):x}")
            lines.append("    " * self._random.randrange(4) + " ".join(words))
            size += len(lines[-1]) + 1
        return "\n".join(lines).encode() + b"\n"

    def _machine_code(self) -> bytes:
        """Return bytes of which two thirds come from few instructions, as often as compilers write those."""
        common = [self._random.randbytes(self._random.randrange(2, 8)) for _ in range(600)]
        weights = [1 / (rank + 1) for rank in range(len(common))]
        parts: list[bytes] = []
        for _ in range(4096):
            parts += self._random.choices(common, weights, k=100)
            parts.append(self._random.randbytes(200))
        return b"".join(parts)


class _Package:
    """A package in a file, and what is in it."""

    def __init__(self, path: Path, packed_bytes: int) -> None:
        self.path = path
        self.files: dict[str, str] = {}  # the hash of each, by its name
        with path.open("wb") as file:
            self._write(file, packed_bytes)
        self.size = path.stat().st_size
        with path.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()

    def _write(self, file: BinaryIO, packed_bytes: int) -> None:
        content = _Content()
        # The level matters little to who unpacks, and much to how long the benchmark takes.
        with (
            gzip.GzipFile("", "wb", 1, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", bufsize=MIB) as tar,
        ):
            manifest = {"name": "bench", "version": "1.0.0", "main": "main.py"}
            self._add(tar, "package.json", json.dumps(manifest).encode())
            self._add(tar, "main.py", content.module(0))
            number = 0
            while file.tell() < packed_bytes:
                for module in range(_LIBRARIES_TO_MODULES):
                    self._add(
                        tar,
                        f"__pypackages__/part{number}/m{module % 10}/f{module}.py",
                        content.module(module),
                    )
                size = min(_LIBRARY_BYTES, packed_bytes)
                self._add(tar, f"__pypackages__/part{number}/lib.so", content.library(number, size))
                number += 1

    def _add(self, tar: tarfile.TarFile, name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
        self.files[name] = hashlib.sha256(content).hexdigest()

    def check(self, folder: Path) -> None:
        """Compare what was unpacked with what was packed.

        Raises:
            WrongResult: a file is missing, another one is there, or one has changed.
        """
        found: dict[str, str] = {}
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.files:
            wrong = sorted(name for name, _ in found.items() ^ self.files.items())
            raise WrongResult(f"{len(wrong)} file(s) were unpacked wrong, {wrong[0]} for one")


def _send(hub: Hub, sent: _Package) -> tuple[float, str]:
    """Upload a package as it lies on the disk; return the seconds until the answer, and the Sequence's id."""
    head = request_head(
        "POST",
        hub.path("sequence"),
        hub.address,
        Content_Type="application/octet-stream",
        Content_Length=str(sent.size),
    )
    with hub.connection() as http, sent.path.open("rb") as file:
        began = time.perf_counter()
        http.link.sendall(head)
        with suppress(ConnectionError):  # an early refusal is read below
            http.link.sendfile(file)
        http.expect_success()
        answer = json.loads(http.rest())
        return time.perf_counter() - began, str(answer["id"])


@contextmanager
def _large_upload(setup: Setup) -> Iterator[Contenders]:
    tar = shutil.which("tar")
    if tar is None:
        raise NotHere("there is no tar to compare with")
    hub = setup.hub
    sent = _Package(setup.folder / "large.tar.gz", setup.sizes.packed_bytes)
    megabytes = sent.size / 1e6
    peak = Peak(hub.process) if hub.process is not None and Peak.is_known() else None

    def upload() -> dict[str, float]:
        os.sync()  # what was written before is no burden of this turn
        if peak is not None:
            peak.reset()
        took, sequence = _send(hub, sent)
        values = {"rate": megabytes / took}
        if peak is not None:
            values["memory"] = peak.growth()
        if setup.own:
            sent.check(setup.folder / "data" / "packages" / sent.sha256)
        with hub.connection() as http:
            hub.delete(http, sequence)
        return values

    def extract() -> dict[str, float]:
        folder = setup.folder / "by-tar"
        folder.mkdir()
        os.sync()
        began = time.perf_counter()
        subprocess.run([tar, "xzf", str(sent.path), "-C", str(folder)], check=True)
        took = time.perf_counter() - began
        sent.check(folder)
        shutil.rmtree(folder)
        return {"rate": megabytes / took}

    with hub.connection() as http:  # from now on the hub is warm
        hub.delete(http, hub.upload(http, package("")))
    yield {HUB: upload, _TAR: extract}


LARGE_UPLOAD = Case(
    "large-upload",
    "upload of a package of 300 MB until the answer, beside tar xzf of it",
    (
        Figure("rate", "upload of a 300 MB package, packed", "MB/s", True, Goal(0.6, 0.9)),
        Figure("memory", "growth of the hub meanwhile, peak RSS", "MiB", False, Goal(32, 8)),
    ),
    _large_upload,
)
