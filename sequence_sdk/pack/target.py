"""For which Python and which machine a package is made, and which wheels run there."""

import platform as machine_facts
import re
import sys
from dataclasses import dataclass
from itertools import product
from typing import Final

from packaging import tags
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from .errors import UnknownTarget

SHORT_NAMES: Final = {
    "linux-x86_64": "manylinux_2_28_x86_64",
    "linux-aarch64": "manylinux_2_28_aarch64",
    "musllinux-x86_64": "musllinux_1_2_x86_64",
    "musllinux-aarch64": "musllinux_1_2_aarch64",
    "macos-arm64": "macosx_13_0_arm64",
    "macos-x86_64": "macosx_13_0_x86_64",
    "windows-x86_64": "win_amd64",
    "windows-arm64": "win_arm64",
}
"""The platforms that have a name of their own, and the wheel tag of the oldest system that is meant by it."""

KNOWN: Final = (
    *SHORT_NAMES,
    "manylinux2014_ARCH",
    "manylinux_2_N_ARCH with N of 17 or more",
    "musllinux_1_N_ARCH with N of 2 or more",
    "macosx_N_0_ARCH with N of 11 or more",
    "win_amd64",
    "win_arm64",
)

_LINUX: Final = re.compile(r"(manylinux_2|musllinux_1)_(\d{1,3})_(x86_64|aarch64)")
_MACOS: Final = re.compile(r"macosx_(\d{2})_0_(x86_64|arm64)")
_WINDOWS: Final = ("win_amd64", "win_arm64")
_PYTHON: Final = re.compile(r"3\.\d{1,2}(?:\.\d{1,3})?")
_OLDEST: Final = {"manylinux_2": 17, "musllinux_1": 2}  # what installers still know
_ALIASES: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST_MACOS: Final = 11
_SAME_MACHINE: Final = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class Target:
    """The Python and the platform that a package is made for; None is this interpreter, and this machine.

    ``python`` is a version such as ``3.12``, ``platform`` a short name such as ``linux-aarch64`` or the platform tag of a wheel.

    Raises:
        UnknownTarget: one of them is not known.
    """

    python: str | None = None
    platform: str | None = None

    def __post_init__(self) -> None:
        if self.python is not None and not _PYTHON.fullmatch(self.python):
            raise UnknownTarget("--python", self.python, ("a version such as 3.12",))
        if self.platform is not None and not _is_known(_tag(self.platform)):
            raise UnknownTarget("--platform", self.platform, KNOWN)

    def __str__(self) -> str:
        return f"{self.platform or 'this machine'} and Python {self.version}"

    @property
    def version(self) -> str:
        """The Python version, with major and minor number at least."""
        return self.python or f"{sys.version_info[0]}.{sys.version_info[1]}"

    @property
    def minor(self) -> tuple[int, int]:
        """Major and minor number of the Python version."""
        major, minor, *_ = self.version.split(".")
        return int(major), int(minor)

    @property
    def is_here(self) -> bool:
        """Whether what is built on this machine by this interpreter runs there."""
        return self.platform is None and self.minor == sys.version_info[:2]

    @property
    def flags(self) -> str:
        """What the Python is built with, such as ``t`` if it has no global lock; one that is not this one has nothing of that."""
        return sys.abiflags if self.is_here else ""

    @property
    def tag(self) -> str | None:
        """The platform tag of wheels for the target, None for this machine."""
        return None if self.platform is None else _tag(self.platform)

    def platforms(self) -> list[str]:
        """Return the platform tags that fit, best first."""
        if self.tag is None:
            return list(tags.platform_tags())
        if linux := _LINUX.fullmatch(self.tag):
            return _linux_platforms(linux[1], int(linux[2]), linux[3])
        if macos := _MACOS.fullmatch(self.tag):
            return list(tags.mac_platforms((int(macos[1]), 0), macos[2]))
        return [self.tag]

    def tags(self) -> tuple[tags.Tag, ...]:
        """Return the tags of the wheels that fit, best first; of another Python than this one those of CPython."""
        if self.is_here:
            return tuple(tags.sys_tags())
        interpreter = "cp" + "".join(map(str, self.minor))
        platforms = self.platforms()
        return (
            *tags.cpython_tags(self.minor, abis=[interpreter], platforms=platforms),
            *tags.compatible_tags(self.minor, interpreter, platforms),
        )

    @property
    def system(self) -> str:
        """``linux``, ``macos`` or ``windows``."""
        names = {"linux": "linux", "darwin": "macos", "win32": "windows"}
        if self.tag is None:
            return names.get(sys.platform, sys.platform)
        return {"mac": "macos", "win": "windows"}.get(self.tag[:3], "linux")

    @property
    def libc(self) -> str:
        """``musl`` or ``gnu`` on Linux, empty elsewhere."""
        if self.system != "linux":
            return ""
        return "musl" if any(tag.startswith("musl") for tag in self.platforms()) else "gnu"

    @property
    def machine(self) -> str:
        """The kind of processor, as Linux calls it."""
        if self.tag is None:
            return same_machine(machine_facts.machine())
        return next(same_machine(name) for name in _MACHINES if self.tag.endswith(name))


_MACHINES: Final = ("x86_64", "aarch64", "arm64", "amd64")


HERE: Final = Target()
"""This interpreter, on this machine."""


def same_machine(name: str) -> str:
    """Return what Linux calls a kind of processor."""
    return _SAME_MACHINE.get(name.lower(), name.lower())


def _tag(name: str) -> str:
    return re.sub(r"^manylinux2014_", "manylinux_2_17_", SHORT_NAMES.get(name, name))


def _is_known(tag: str) -> bool:
    if linux := _LINUX.fullmatch(tag):
        return int(linux[2]) >= _OLDEST[linux[1]]
    macos = _MACOS.fullmatch(tag)
    return int(macos[1]) >= _OLDEST_MACOS if macos else tag in _WINDOWS


def _linux_platforms(kind: str, newest: int, machine: str) -> list[str]:
    # A wheel of `linux` says nothing of the library of C; nobody but its author can have put it where it is found.
    if kind == "musllinux_1":
        return [*(f"{kind}_{minor}_{machine}" for minor in range(newest, -1, -1)), f"linux_{machine}"]
    found = []
    oldest = 5 if machine == "x86_64" else 17
    for minor in range(newest, oldest - 1, -1):
        found.append(f"{kind}_{minor}_{machine}")
        if alias := _ALIASES.get(minor):
            found.append(f"{alias}_{machine}")
    return [*found, f"linux_{machine}"]


# --- ranges of versions --------------------------------------------------------------------------------------------------

_NUMBER: Final = r"\d{1,9}(?:\.(?:\d{1,9}|[xX*]))*"
_COMPARISON: Final = re.compile(
    rf"(>=|<=|={{1,3}}|~=|~>|!=|[<>^~]|)\s*v?({_NUMBER}|[xX*])(?:[-+]?[A-Za-z][\w.+-]*)?(?=[\s,]|$)[\s,]*"
)
_SPAN: Final = re.compile(r"\s*([^\s,]+)\s+-\s+([^\s,]+)\s*")
_PATCHES: Final = 100  # of a version such as 3.12, one of which must be in a range


def admits(wanted: str, python: str) -> bool:
    """Tell whether a range of versions, written for npm or for Python, has a patch level of ``python`` in it.

    One that only names versions, and one that cannot be read, admits every version: hubs read them so.
    """
    sets: list[tuple[SpecifierSet, bool]] = []
    for text in wanted.split("||"):
        specifiers = _specifiers(text)
        if specifiers is None:
            return True
        sets.append(specifiers)
    if all(is_pin for _, is_pin in sets):
        return True
    patches = [python] if python.count(".") == 2 else [f"{python}.{patch}" for patch in range(_PATCHES)]
    return any(specifiers.contains(Version(version)) for (specifiers, _), version in product(sets, patches))


def _specifiers(text: str) -> tuple[SpecifierSet, bool] | None:
    """Return a range as Python writes it, and whether it is only a version; None if it cannot be read."""
    if span := _SPAN.fullmatch(text):
        text = f">={span[1]} <={span[2]}"
    text = text.strip()
    parts: list[str] = []
    pins = 0
    at = 0
    while at < len(text):
        found = _COMPARISON.match(text, at)
        if found is None:
            return None
        operator, number = found[1], found[2].lower().replace("x", "*")
        pins += operator in {"", "=", "==", "==="} and "*" not in number
        parts += _comparison(operator, number)
        at = found.end()
    try:
        return SpecifierSet(",".join(parts)), pins == len(parts) == 1
    except InvalidSpecifier:  # such as ~=3, which Python has no meaning for
        return None


def _comparison(operator: str, number: str) -> list[str]:
    numbers = number.split("*", maxsplit=1)[0].rstrip(".")
    if not numbers:
        return []
    match operator:
        case "" | "=" | "==" | "===":
            return [f"=={numbers}.*"] if numbers.count(".") < 2 else [f"=={numbers}"]
        case "^":
            return [f">={numbers}", f"=={numbers.split('.')[0]}.*"]
        case "~" | "~>":
            return [f">={numbers}", f"=={'.'.join(numbers.split('.')[:2])}.*"]
        case "!=":
            return [f"!={numbers}.*" if "*" in number else f"!={numbers}"]
        case _:
            return [f"{operator}{numbers}"]
