"""``hub-lite setup``: what a hub does not bring along is put into its data directory."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from hub_lite.settings import load

from .shell import CommandFailed, failing_with_a_sentence

PACKAGE = "@scramjet/runner"
VERSION = "0.18.7"  # the one that the hub is tested with
_ENTRY = Path("node_modules", PACKAGE, "bin", "start-runner.js")
_MANIFEST = Path("node_modules", PACKAGE, "package.json")
_EXACT = re.compile(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?")
_SHOWN = 2000  # characters of what npm has said; the reason is at its end


@click.group(short_help="Install what some Sequences need.")
def setup() -> None:
    """Install what some Sequences need and a hub does not bring along, into its data directory."""


def _checked_version(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    if text is not None and not _EXACT.fullmatch(text):
        raise click.BadParameter(
            f"must be a whole version such as {VERSION}, not {text!r}", context, parameter
        )
    return text


@setup.command(short_help="The runner of Node Sequences.")
@click.option(
    "-D",
    "--data-dir",
    metavar="FOLDER",
    help="Data directory of the hub. [default: as for `hub-lite start`]",
)
@click.option(
    "--version",
    callback=_checked_version,
    metavar="VERSION",
    help=f"Version to install, also in the place of another one. [default: what is there, or {VERSION}]",
)
@click.option("-v", "--verbose", is_flag=True, help="Show what npm says.")
def node(data_dir: str | None, version: str | None, verbose: bool) -> None:
    """Install the runner of Node Sequences, a package of npm.

    It needs Node.js and npm. Where the runner is installed already, nothing happens. A hub uses it from the next start of a Node
    Sequence on.
    """
    with failing_with_a_sentence():
        options = {} if data_dir is None else {"dataDir": ("--data-dir", data_dir)}
        install_node_runner(
            load(environ=os.environ, options=options).settings.data_dir, version, verbose=verbose
        )


def install_node_runner(data_dir: Path, version: str | None = None, *, verbose: bool = False) -> None:
    """Put the Node runner where a hub looks for it, and print a line that says where that is.

    npm installs into a folder beside, which takes its place when it is whole: whatever interrupts this, no half of it is used.

    Raises:
        CommandFailed: there is no Node.js or no npm, npm fails, or another one installs here at this moment.
    """
    home = data_dir.absolute() / "node"
    there = _installed(home)
    if there is not None and version in (None, there):
        click.echo(f"{PACKAGE} {there} is there: {home / _ENTRY}")
        return
    npm = _npm()
    data_dir.mkdir(0o700, parents=True, exist_ok=True)
    with _only_one(home) as lock:
        new, old = home.with_name("node.new"), home.with_name("node.old")
        for left_over in (new, old):
            _remove(left_over)
        wanted = f"{PACKAGE}@{version or VERSION}"
        click.echo(f"installing {wanted} with npm …", err=True)
        try:
            new.mkdir(0o700)
            _run(
                [npm, "install", "--prefix", str(new), wanted, "--no-audit", "--no-fund"],
                lock,
                verbose=verbose,
            )
            if _installed(new) is None:
                raise CommandFailed(
                    f"npm has installed {wanted}, but there is no file {_ENTRY} in it: try another version"
                )
            _replace(home, new, old)
        finally:
            _remove(new)
        _remove(old)
    click.echo(f"{PACKAGE} {version or VERSION} is installed: {home / _ENTRY}")


def _installed(home: Path) -> str | None:
    """Return the version of the runner in a folder that npm has filled; None if there is no whole one."""
    try:
        version = json.loads((home / _MANIFEST).read_bytes())["version"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return str(version) if (home / _ENTRY).is_file() else None


def _npm() -> str:
    if shutil.which("node") is None:
        raise CommandFailed(
            "Node Sequences need Node.js, and there is no `node` on your PATH: install Node.js (https://nodejs.org, or the "
            "package `nodejs` of your system), then run this again"
        )
    npm = shutil.which("npm")
    if npm is None:
        raise CommandFailed(
            "the runner of Node Sequences is installed with npm, and there is no `npm` on your PATH, though there is `node`: "
            "install npm (it comes with Node.js from https://nodejs.org; many systems have a package `npm`), then run this again"
        )
    return str(Path(npm).absolute())


def _run(words: list[str], lock: int, *, verbose: bool) -> None:
    """Run npm; it holds the lock too, for it may outlive us.

    Raises:
        CommandFailed: it fails; with what it said, unless that was shown.
    """
    result = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if verbose else subprocess.PIPE,
        stderr=sys.stderr if verbose else subprocess.STDOUT,
        pass_fds=(lock,),
        check=False,
    )
    if result.returncode != 0:
        said = (result.stdout or b"").decode("utf-8", "replace").strip()[-_SHOWN:]
        command = " ".join(words)
        raise CommandFailed(
            f"`{command}` has failed with status {result.returncode}" + (f":\n{said}" if said else "")
        )


@contextmanager
def _only_one(home: Path) -> Iterator[int]:
    """Hold the lock of those who install into ``home``; it is gone when the last process that has it is."""
    with home.with_name("node.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandFailed(
                f"another `hub-lite setup node` is at work in {home.parent}: wait until it is done"
            ) from None
        yield file.fileno()


def _replace(home: Path, new: Path, old: Path) -> None:
    """Let ``new`` be ``home``; what was there is ``old`` then, or is there again if that fails."""
    try:
        home.rename(old)
    except FileNotFoundError:
        new.rename(home)
        return
    try:
        new.rename(home)
    except BaseException:
        if not home.exists():
            old.rename(home)
        raise


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
