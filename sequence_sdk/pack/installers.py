"""The programs that bring dependencies, uv and pip: how each is called, and what its last words mean."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from packaging.version import Version

from .target import Target

_MAX_LINES: Final = 12  # of what a program said, in an error
_MAX_LINE: Final = 400  # characters
_SECRET: Final = re.compile(r"://[^/\s]+@")  # name and password in an address; some write an @ in it as it is
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_PYLOCK_SINCE: Final = Version("26.1")  # of pip
_UV_MANYLINUX: Final = (17, 28, *range(31, 41))  # the ones that uv has a name for


class Installer(Protocol):
    """A program that installs requirements into a folder."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def reads_pylock(self) -> bool:
        """Whether it takes a ``pylock.toml`` for a file of requirements."""
        ...

    @property
    def reads_markers_for_target(self) -> bool:
        """Whether markers, and the Pythons that dependencies are for, are read for the target and not for this machine."""
        ...

    def command(self, requirements: list[str], into: Path, target: Target) -> list[str]:
        """Return the command; ``requirements`` are its arguments that name what is to be installed."""
        ...

    def environment(self, target: Target) -> dict[str, str]:
        """Return the variables that it needs beside those that there are."""
        ...


@dataclass(frozen=True, slots=True)
class Uv:
    """Calls uv; ``program`` are the first words of its command."""

    program: tuple[str, ...]
    name: str = "uv"
    reads_pylock: bool = True
    reads_markers_for_target: bool = True

    def command(self, requirements: list[str], into: Path, target: Target) -> list[str]:
        """Return the command that installs."""
        words = [*self.program, "pip", "install", "--target", str(into), "--python", sys.executable]
        words += ["--no-progress", "--color", "never"]
        if not target.is_here:
            words += ["--only-binary", ":all:", "--python-version", target.version]
        if target.tag is not None:
            words += ["--python-platform", uv_platform(target.tag)]
        return [*words, *requirements]

    def export(self, without: tuple[str, ...], output: Path) -> list[str]:
        """Return the command that makes a ``pylock.toml`` of the ``uv.lock`` in the working directory."""
        words = [
            *self.program,
            "export",
            "--frozen",
            "--no-dev",
            "--no-emit-project",
            "--no-editable",
            "--quiet",
        ]
        for name in without:
            words += ["--no-emit-package", name]
        return [*words, "--format", "pylock.toml", "--output-file", str(output), "--color", "never"]

    def environment(self, target: Target) -> dict[str, str]:
        """Return what tells uv how old a macOS may be."""
        macos = re.match(r"macosx_(\d+)_(\d+)_", target.tag or "")
        return {"MACOSX_DEPLOYMENT_TARGET": f"{macos[1]}.{macos[2]}"} if macos else {}


@dataclass(frozen=True, slots=True)
class Pip:
    """Calls the pip of an interpreter; ``version`` is pip's."""

    version: str
    program: tuple[str, ...] = (
        sys.executable,
        "-P",
        "-m",
        "pip",
    )  # -P: a file of the author may be called pip.py
    name: str = "pip"
    reads_markers_for_target: bool = False

    @property
    def reads_pylock(self) -> bool:
        """Whether this pip is new enough."""
        return Version(self.version) >= _PYLOCK_SINCE

    def command(self, requirements: list[str], into: Path, target: Target) -> list[str]:
        """Return the command that installs."""
        words = [*self.program, "install", "--target", str(into), "--no-compile", "--no-input"]
        words += [
            "--disable-pip-version-check",
            "--no-warn-script-location",
            "--progress-bar",
            "off",
            "--no-color",
        ]
        if not target.is_here:
            major, minor = target.minor
            words += ["--only-binary", ":all:", "--python-version", target.version]
            words += ["--implementation", "cp", "--abi", f"cp{major}{minor}"]
            for platform in target.platforms():
                words += ["--platform", platform]
        return [*words, *requirements]

    def environment(self, target: Target) -> dict[str, str]:
        """Return what keeps pip's own settings from asking for another place."""
        return {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}


def find_installer() -> Uv | Pip | None:
    """Return uv if it is on the PATH or a module of this interpreter, else its pip, else None."""
    if program := shutil.which("uv"):
        return Uv((os.path.abspath(program),))  # noqa: PTH100 - it runs in another folder, and a link stays one
    if _has_module("uv"):
        return Uv((sys.executable, "-P", "-m", "uv"))
    return Pip(importlib.metadata.version("pip")) if _has_module("pip") else None


def _has_module(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None  # a folder that happens to have the name has none


def uv_platform(tag: str) -> str:
    """Return uv's name for a platform tag: of those that fit on it, the newest that uv has a name for."""
    if linux := re.fullmatch(r"manylinux_2_(\d+)_(\w+)", tag):
        minor = max(known for known in _UV_MANYLINUX if known <= int(linux[1]))
        return f"{linux[2]}-manylinux_2_{minor}"
    if tag.startswith("musllinux"):
        return f"{_uv_machine(tag)}-unknown-linux-musl"
    return f"{_uv_machine(tag)}-{'apple-darwin' if tag.startswith('macosx') else 'pc-windows-msvc'}"


def _uv_machine(tag: str) -> str:
    return "aarch64" if tag.endswith(("arm64", "aarch64")) else "x86_64"


# --- running ------------------------------------------------------------------------------------------------------------


def run(command: list[str], folder: Path, output: Path, environment: Mapping[str, str]) -> int:
    """Run a command in a folder until it ends, and return its exit code; all it says goes to the file ``output``.

    Whatever ends the wait, Ctrl-C too, ends the command and what it has started.

    Raises:
        OSError: it cannot be started.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=folder,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        return process.wait()
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_words(output: Path) -> tuple[str, ...]:
    """Return the last lines that a program wrote and that are not empty, without colours and passwords."""
    lines = [line.strip()[:_MAX_LINE] for line in _said(output).splitlines()]
    return tuple([line for line in lines if line][-_MAX_LINES:])


def _said(output: Path) -> str:
    """Return what a program wrote, without colours and passwords."""
    text = output.read_text("utf-8", errors="replace")
    return _SECRET.sub("://****@", _COLOUR.sub("", text))


_MEANINGS: Final = (
    (
        r"Package `(?P<name>[\w.-]+)` can't be installed because it is marked as `--no-build`",
        "{name} has no wheel for {target}; choose another version of it, or another target with --platform and --python",
    ),
    (
        r"(?:^|\s)(?P<name>[\w.-]+)(?:[=<>~!]\S*)?\s+has no (?:usable )?wheels",
        "{name} has no wheel for {target}; choose another version of it, or another target with --platform and --python",
    ),
    (
        r"(?P<name>[\w.-]+)(?:[=<>~!]\S*)? was not found in",
        "there is no {name}; look at its name, and at the index that is asked",
    ),
    (
        r"there (?:is|are) no versions? of (?P<name>[^\s;,]+)",
        "there is no {name}; look at its name and version",
    ),
    (
        r"No matching distribution found for (?P<name>[^\n(]+)",
        "{name} is not there, or has no wheel for {target}; look at its name and version, or name another target",
    ),
    (
        r"(?:Failed to fetch|[Cc]onnection (?:refused|error)|error sending request|NewConnectionError|Network connectivity)",
        "the index cannot be reached; look at the network, the proxy and the settings of {tool}",
    ),
    (
        r"(?:Failed to build `?(?P<name>[\w.-]+)|Failed building|subprocess-exited-with-error|metadata-generation-failed)",
        "{name} has to be built, and that fails; install what it needs for that, or choose a version that has a wheel",
    ),
    (
        r"(?:Couldn't parse requirement|Invalid requirement)",
        "there is a line in it that is no requirement; correct it",
    ),
)


def meaning(output: Path, tool: str, target: Target) -> str:
    """Return what a program that failed has said, as a sentence that says what to do."""
    text = _said(output)
    for pattern, sentence in _MEANINGS:
        if found := re.search(pattern, text):
            name = (found.groupdict().get("name") or "a dependency").strip()
            return sentence.format(name=name, target=target, tool=tool)
    return f"{tool} cannot install what it names for {target}; read what it said, and change one of the two"
