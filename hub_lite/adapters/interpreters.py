"""Which Python runs a package: what ``engines.python3`` of its package.json says, and the interpreters that there are."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import runner
import sequence_sdk
from hub_lite.errors import BadRequest

Version = tuple[int, ...]
"""Major, minor and patch level; in a range the last ones may be left out."""

OLDEST: Version = (3, 11)  # that our runner works with
_NEWEST_MINOR = 30  # of the names that are looked for on the PATH, such as python3.12
_ANSWER_WITHIN = (
    10.0  # seconds; an interpreter on a slow disk, asked for the first time, imports the runner in one or two
)
_QUESTION = """
import sys
sys.stdout.write("%d %d %d %s" % (sys.version_info[:3] + (sys.executable,)))
sys.stdout.flush()
sys.path.insert(0, sys.argv[1])
import runner.session
"""

# --- ranges -----------------------------------------------------------------------------------------------------------

_PART = r"\d{1,9}|[xX*]"
_COMPARATOR = re.compile(
    rf"(>=|<=|={{1,3}}|~=|~>|!=|[<>^~]|)\s*v?({_PART})(?:\.({_PART}))?(?:\.({_PART}))?(?:[-+]?[A-Za-z][\w.+-]*)?(?=[\s,]|$)"
)
_SPAN = re.compile(r"\s*([^\s,]+)\s+-\s+([^\s,]+)\s*")  # 3.11 - 3.13
_BETWEEN = re.compile(r"[\s,]*")
_EQUAL = ("", "=", "==", "===")


def _below(version: Version, parts: Version) -> bool:
    """Tell whether a version is one of ``parts``, the ones left out being any, or before them."""
    return version[: len(parts)] <= parts


def _whole(parts: Version) -> Version:
    return (*parts, 0, 0, 0)[:3]


def _alike(version: Version, parts: Version, count: int) -> bool:
    """Tell whether a version is not before ``parts``, and the same in its first ``count`` numbers."""
    return version >= parts and version[:count] == parts[:count]


def _is_one_of(version: Version, parts: Version) -> bool:
    return version[: len(parts)] == parts


# Where npm and Python's own rules read a comparison differently, the reading that admits more
_TESTS: dict[str, Callable[[Version, Version], bool]] = {
    ">=": lambda version, parts: version >= parts,
    ">": lambda version, parts: version > _whole(parts),  # npm: 3.11.4 is not > 3.11
    "<=": _below,  # Python: 3.11.4 is not <= 3.11
    "<": lambda version, parts: version < parts,
    "^": lambda version, parts: _alike(version, parts, min(len(parts), 1)),
    "~": lambda version, parts: _alike(version, parts, min(len(parts), 2)),
    "~>": lambda version, parts: _alike(version, parts, min(len(parts), 2)),
    "~=": lambda version, parts: _alike(version, parts, max(min(len(parts), 1), len(parts) - 1)),
    **dict.fromkeys(_EQUAL, _is_one_of),
}


@dataclass(frozen=True, slots=True)
class _Comparator:
    operator: str
    parts: Version
    open_end: bool  # a part is `x` or `*`

    def admits(self, version: Version) -> bool:
        if self.operator == "!=":
            return version != _whole(self.parts) if not self.open_end else not _is_one_of(version, self.parts)
        return _TESTS[self.operator](version, self.parts)

    @property
    def is_pin(self) -> bool:
        return self.operator in _EQUAL and not self.open_end


@lru_cache(maxsize=256)  # each start asks for its Sequence's
def admits(wanted: str, version: Version) -> bool:
    """Tell whether a package that says ``wanted`` in ``engines.python3`` may run with a version of Python.

    Ranges are read as people write them for npm and for Python (docs/decisions/0022-which-python.md). One that cannot be read, and
    one that only names versions, such as ``3.8.0``, admits every version.
    """
    alternatives = [_comparators(text) for text in wanted.split("||")]
    read = [one for one in alternatives if one is not None]
    if len(read) < len(alternatives) or all(len(one) == 1 and one[0].is_pin for one in read):
        return True
    return any(all(comparator.admits(version) for comparator in one) for one in read)


def _comparators(text: str) -> list[_Comparator] | None:
    """Return what all must be so for a version; None if the text cannot be read."""
    if span := _SPAN.fullmatch(text):
        text = f">={span[1]} <={span[2]}"
    found: list[_Comparator] = []
    at = _end_of(_BETWEEN.match(text))
    while at < len(text):
        match = _COMPARATOR.match(text, at)
        if match is None:
            return None
        parts = [part for part in match.groups()[1:] if part is not None]
        numbers = list(_leading_numbers(parts))
        found.append(_Comparator(match[1], tuple(numbers), len(numbers) < len(parts)))
        at = _end_of(_BETWEEN.match(text, match.end()))
    return found


def _end_of(match: re.Match[str] | None) -> int:
    return match.end() if match is not None else 0


def _leading_numbers(parts: list[str]) -> Iterator[int]:
    for part in parts:
        if not part.isdecimal():
            return
        yield int(part)


def _is_hopeless(wanted: str) -> bool:
    """Tell whether no Python that our runner works with is admitted."""
    return not any(
        admits(wanted, (3, minor, patch)) for minor in range(OLDEST[1], 100) for patch in (0, 99)
    ) and not admits(wanted, (4, 0, 0))


# --- interpreters -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What a program has said of itself; ``why_not`` says why our runner does not work with it, and is empty if it does."""

    program: str
    version: Version | None
    why_not: str = ""

    def __str__(self) -> str:
        version = f" is {_text(self.version)}" if self.version else ""
        return f"{self.program}{version}" + (
            f"{',' if version else ''} {self.why_not}" if self.why_not else ""
        )


@dataclass(frozen=True, slots=True)
class Interpreters:
    """The Pythons that our runner can run with, beside the one that runs the hub.

    Each is asked once which version it is, and again only when its file has changed.
    """

    configured: tuple[
        Path, ...
    ] = ()  # looked at first, in this order; then those on the PATH, the newest first
    home: Path | None = (
        None  # a folder for what they have to import; without it there is the hub's Python only
    )
    _answers: dict[tuple[str, int, int], Interpreter] = field(default_factory=dict, compare=False, repr=False)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False, repr=False)

    async def command(
        self, wanted: str, environment: Mapping[str, str]
    ) -> tuple[tuple[str, ...], Mapping[str, str]]:
        """Return the words that start our runner for a package, and its environment.

        Args:
            wanted: what the package says in ``engines.python3``.
            environment: of the runner; its PATH is where interpreters are looked for.

        Raises:
            BadRequest: no interpreter here fits; the sentence says which there are.
        """
        if admits(wanted, sys.version_info[:3]):
            return _words(sys.executable), environment
        seen: list[Interpreter] = []
        if self.home is not None:
            home = self.home.absolute()
            async with self._asking:
                await asyncio.to_thread(_show_packages, home)
                for program in await asyncio.to_thread(self._programs, environment.get("PATH")):
                    one = await self._ask(program, home, environment)
                    if one.version and not one.why_not and admits(wanted, one.version):
                        path = [str(home), environment.get("PYTHONPATH")]
                        found = os.pathsep.join(part for part in path if part)
                        return _words(one.program), {**environment, "PYTHONPATH": found}
                    seen.append(one)
        raise BadRequest(_none_fits(wanted, seen))

    def _programs(self, path: str | None) -> list[str]:
        """Return the programs to ask, without doubles; a configured one that is not there as it is called."""
        names = [
            *map(str, self.configured),
            *(f"python3.{minor}" for minor in range(_NEWEST_MINOR, OLDEST[1] - 1, -1)),
        ]
        found = []
        for at, name in enumerate(names):
            program = shutil.which(name, path=path)
            if program is not None:
                found.append(str(Path(program).absolute()))
            elif at < len(self.configured):
                found.append(name)
        return list(dict.fromkeys(found))

    async def _ask(self, program: str, home: Path, environment: Mapping[str, str]) -> Interpreter:
        try:
            about = Path(program).stat()
        except OSError:
            return Interpreter(program, None, "is not there")
        key = (program, about.st_mtime_ns, about.st_size)
        if key not in self._answers:
            try:
                self._answers[key] = await _asked(program, home, environment)
            except TimeoutError:  # it may be quicker another time
                return Interpreter(program, None, f"has not answered within {_ANSWER_WITHIN:g} s")
        return self._answers[key]


async def _asked(program: str, home: Path, environment: Mapping[str, str]) -> Interpreter:
    """Return what an interpreter answers; its own path too, for a program may only stand in for another one."""
    try:
        process = await asyncio.create_subprocess_exec(
            program, "-I", "-c", _QUESTION, str(home),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=home,
            env=dict(environment),
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return Interpreter(program, None, f"cannot be run: {error.strerror or error}")
    try:
        async with asyncio.timeout(_ANSWER_WITHIN):
            answer, errors = await process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    said = answer.decode("utf-8", "replace").split(" ", 3)
    if len(said) < 4 or not all(part.isdecimal() for part in said[:3]):
        return Interpreter(program, None, "is no Python 3")
    version = tuple(map(int, said[:3]))
    if version < OLDEST:
        return Interpreter(program, version, f"and our runner needs {_text(OLDEST)} or newer")
    if process.returncode != 0:
        reason = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return Interpreter(program, version, f"and cannot import our runner: {reason}")
    return Interpreter(said[3] or program, version)


def _show_packages(home: Path) -> None:
    """Make links to what an interpreter has to import: beside them would be the hub's libraries, which are for its own Python."""
    home.mkdir(0o700, parents=True, exist_ok=True)
    for package in (runner, sequence_sdk):
        link, target = home / package.__name__, Path(package.__path__[0]).absolute()
        if not link.is_symlink() or link.readlink() != target:
            new = link.with_name(f"{link.name}.new")
            new.unlink(missing_ok=True)
            new.symlink_to(target)
            new.replace(link)


def _words(program: str) -> tuple[str, ...]:
    return (program, "-P", "-m", "runner")


def _text(version: Version) -> str:
    return ".".join(map(str, version))


def _none_fits(wanted: str, seen: list[Interpreter]) -> str:
    wants = f'engines.python3 of package.json asks for "{wanted}"'
    if _is_hopeless(wanted):
        return (
            f"{wants}, but our runner needs Python {_text(OLDEST)} or newer: change the range, or let Python Sequences run with "
            'the runner they were written for, with runners.pythonFor = "original"'
        )
    others = "".join(f"; {one}" for one in seen)
    return (
        f"{wants}, and no Python of this hub fits: its own is {_text(sys.version_info[:3])}{others}. Install one that fits and "
        "name it in the setting runners.pythons, or change the range"
    )
