"""Which command runs which Sequence: our own runner, or an installed one of Transform Hub."""

import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from hub_lite.errors import BadRequest
from hub_lite.ports import Launch
from hub_lite.settings import Settings
from sequence_sdk.manifest import Manifest

from .interpreters import Interpreters

NODE_PACKAGE = "@scramjet/runner"
PYTHON_PACKAGE = "@scramjet/python-runner"
_NODE_ENTRY = Path("bin", "start-runner.js")
_PYTHON_ENTRY = Path("runner.py")
_SITE = "__pypackages__"  # where both a package and an installed runner keep what they have brought along


@dataclass(frozen=True, slots=True)
class Command:
    """How a runner is started.

    With ``early_log`` the path of a file is added, for what it says before it is connected. With ``open_stdin`` its real
    stdin is silent and never ends; otherwise it has ended. What is ``forkable`` is our own runner, of the interpreter that
    ``words`` begin with.
    """

    words: tuple[str, ...]
    environment: Mapping[str, str]
    early_log: bool = False
    open_stdin: bool = False
    forkable: bool = False


@dataclass(frozen=True, slots=True)
class Runners:
    """The runners of a hub, as its settings name them (docs/operating.md, "Runners")."""

    node: Path | None = None  # an installed package, or its entry file
    node_home: Path | None = None  # where npm has put packages for this hub, if it has
    python: Path | None = None  # as ``node``
    python_interpreter: str = "python3"
    python_for: str = "ours"  # or "original"
    interpreters: Interpreters = field(default_factory=Interpreters)  # for our own runner
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what the settings of a hub say."""
        return cls(
            node=settings.node_runner,
            node_home=settings.node_home or settings.data_dir / "node",
            python=settings.python_runner,
            python_interpreter=settings.python_interpreter,
            python_for=settings.python_for,
            interpreters=Interpreters(settings.pythons, settings.data_dir / "python"),
            environment=settings.runner_envs,
        )

    async def command(self, launch: Launch, environment: Mapping[str, str]) -> Command:
        """Return the command for a Sequence, by its language.

        Args:
            launch: what is to run.
            environment: the variables of a runner, to which its own needs are added; the operator's win over all.

        Raises:
            BadRequest: no runner here can run it; the sentence says what to install.
        """
        manifest = launch.sequence.manifest
        if len(manifest.engines) > 1:
            raise BadRequest(
                "Incorrect config passed to SequenceConfig,'engines' field can't contain more than one element; "
                f"package.json names {', '.join(sorted(manifest.engines))}"
            )
        environment = {**environment, **self.environment}
        match manifest.language:
            case "py" if self.python_for == "original":
                return self._original_python(launch, environment)
            case "py":
                wanted = manifest.engines.get("python3", "")
                return Command(*await self.interpreters.command(wanted, environment), forkable=True)
            case "js":
                return self._node(environment)
            case "unknown" if (launch.sequence.directory / f"{manifest.main}.js").is_file():
                return self._node(environment)  # Node lets ``main`` leave out the suffix
            case _:
                raise BadRequest(_no_runner(manifest))

    def _node(self, environment: Mapping[str, str]) -> Command:
        program = _program("node", environment)
        entry = self._node_entry(has_node=program is not None)
        if program is None:
            raise BadRequest(
                "Node Sequences need Node.js, and there is no `node` on the PATH of this hub: install Node.js "
                "(https://nodejs.org, or the package `nodejs` of your system)"
            )
        # the Node runner puts what comes over its link in front of its real stdin, which must not have ended by then
        return Command((program, str(entry)), environment, open_stdin=True)

    def _node_entry(self, *, has_node: bool = True) -> Path:
        if self.node is not None:
            return _entry(self.node, _NODE_ENTRY, "runners.node", NODE_PACKAGE)
        if self.node_home is None:
            raise BadRequest(
                f"no runner for Node Sequences is known here; name one in the setting runners.node ({NODE_PACKAGE})"
            )
        entry = self.node_home.absolute() / "node_modules" / NODE_PACKAGE / _NODE_ENTRY
        if not entry.is_file():
            command = f"hub-lite setup node --data-dir {shlex.quote(str(self.node_home.absolute().parent))}"
            raise BadRequest(
                f"no runner for Node Sequences is installed on this hub: run `{command}`"
                + (
                    f", or name an installed {NODE_PACKAGE} in the setting runners.node"
                    if has_node
                    else " when you have installed Node.js (https://nodejs.org, or the package `nodejs` of your system), "
                    "for there is no `node` on the PATH of this hub either"
                )
            )
        return entry

    def _original_python(self, launch: Launch, environment: Mapping[str, str]) -> Command:
        if self.python is None:
            raise BadRequest(
                f'the setting runners.pythonFor is "original", so runners.python must name an installed {PYTHON_PACKAGE}'
            )
        entry = _entry(self.python, _PYTHON_ENTRY, "runners.python", PYTHON_PACKAGE)
        program = _program(self.python_interpreter, environment)
        if program is None:
            raise BadRequest(
                f"there is no program {self.python_interpreter!r} on this hub; runners.pythonInterpreter must name a CPython "
                f"that {PYTHON_PACKAGE} runs with, 3.8 to 3.10"
            )
        folder = entry.parent
        path = [
            folder,
            folder / _SITE,
            environment.get("PYTHONPATH"),
            launch.sequence.directory.absolute() / _SITE,
        ]
        found = os.pathsep.join(str(part) for part in path if part)
        if "PYTHONPATH" not in self.environment:
            environment = {**environment, "PYTHONPATH": found}
        started = launch.sequence.manifest.original_entry
        if started and "SEQUENCE_PATH" not in self.environment:
            environment = {**environment, "SEQUENCE_PATH": str(launch.sequence.directory / started)}
        return Command((program, str(entry)), environment, early_log=True)


def _entry(named: Path, inside: Path, setting: str, package: str) -> Path:
    """Return the entry file that a setting names, itself or by the folder of its package."""
    path = named.absolute()
    entry = path / inside if path.is_dir() else path
    if not entry.is_file():
        raise BadRequest(
            f"the setting {setting} names {named}, but there is no file {entry}; it must name {package}, installed"
            + (" as `hub-lite setup node` does it" if package == NODE_PACKAGE else "")
        )
    return entry


def _program(name: str, environment: Mapping[str, str]) -> str | None:
    found = shutil.which(os.path.expanduser(name), path=environment.get("PATH"))  # noqa: PTH111 - a Path loses "./"
    return found and str(Path(found).absolute())  # the process has another working directory


def _no_runner(manifest: Manifest) -> str:
    return (
        f"no runner for language {manifest.language!r} is known; a package.json says "
        '`"engines": {"python3": ">=3.11"}` for Python, `"engines": {"node": ">=16"}` for Node'
    )
