"""The settings of a hub: a file, then options, in rising precedence; read once.

The keys of a settings file are those of Transform Hub where it has them (docs/operating.md lists all).
"""

import difflib
import ipaddress
import json
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .packages import PackageLimits

API_BASE = "/api/v1"


class SettingsError(Exception):
    """A setting is wrong; ``str()`` of it says which, where and what is expected."""


def default_data_dir() -> Path:
    """Return ``$XDG_DATA_HOME/hub-lite``, usually ``~/.local/share/hub-lite``."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "hub-lite"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a hub can be told. Times are in seconds."""

    hostname: str = "127.0.0.1"
    port: int = 8000  # 0: any free one
    instances_port: int = 0  # TCP, for runners that know no unix socket; 0: any free one
    hub_id: str = "hub-lite"
    data_dir: Path = field(default_factory=default_data_dir)
    insecure: bool = False  # listen on other than loopback although nobody is asked for a token
    instance_lifetime: float = 180.0  # an ended Instance can be looked at for so long
    start_timeout: float = 30.0  # a process that has not connected by then is ended
    answer_start_after: float = 10.0  # a start is answered by then, even if the Sequence is still loading
    shutdown_timeout: float = 3.0  # Instances have so long to stop when the hub ends
    window_bytes: int = 1024 * 1024  # of each stream that leaves an Instance
    stall_timeout: float = 10.0
    max_body_bytes: int = 1024 * 1024  # of a JSON body
    package_limits: PackageLimits = field(default_factory=PackageLimits)

    def checked(self) -> "Settings":
        """Return the settings, if a hub may run with them.

        Raises:
            SettingsError: it would listen to strangers without asking who they are.
        """
        if not self.insecure and not is_loopback(self.hostname):
            raise SettingsError(
                f"hostname {self.hostname!r} is not a loopback address: everybody who reaches it could run programs here. "
                "Use 127.0.0.1 or ::1 and reach it through a tunnel, or say --insecure if the network is trusted"
            )
        return self


def is_loopback(hostname: str) -> bool:
    """Tell whether only this machine can reach a server that listens on ``hostname``."""
    if hostname.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a value in a settings file may be, and the sentence that says so."""

    said: str
    types: tuple[type, ...]
    least: float = 0
    most: float = 2**53

    def takes(self, value: object) -> bool:
        if not isinstance(value, self.types) or isinstance(value, bool) is not (bool in self.types):
            return False
        return not isinstance(value, int | float) or self.least <= value <= self.most


_TEXT = _Kind("a string", (str,))
_SWITCH = _Kind("true or false", (bool,))
_PORT = _Kind("a port, a whole number from 0 to 65535", (int,), most=65535)
_COUNT = _Kind("a whole number above 0", (int,), least=1)
_TIME = _Kind("a number of milliseconds, 0 or more", (int, float))


def _milliseconds(value: float) -> float:
    return value / 1000


def _folder(value: str) -> Path:
    return Path(value).expanduser()


# Key in a settings file -> (field, what it may be in the file, what makes the field's value of it)
_KEYS: dict[str, tuple[str, _Kind, Callable[[Any], Any]]] = {
    "host.hostname": ("hostname", _TEXT, str),
    "host.port": ("port", _PORT, int),
    "host.instancesServerPort": ("instances_port", _PORT, int),
    "host.id": ("hub_id", _TEXT, str),
    "dataDir": ("data_dir", _TEXT, _folder),
    "insecure": ("insecure", _SWITCH, bool),
    "timings.instanceLifetimeExtensionDelay": ("instance_lifetime", _TIME, _milliseconds),
    "timings.startTimeout": ("start_timeout", _TIME, _milliseconds),
    "timings.answerStartAfter": ("answer_start_after", _TIME, _milliseconds),
    "timings.shutdownTimeout": ("shutdown_timeout", _TIME, _milliseconds),
    "timings.stallTimeout": ("stall_timeout", _TIME, _milliseconds),
    "streams.windowBytes": ("window_bytes", _COUNT, int),
    "limits.bodyBytes": ("max_body_bytes", _COUNT, int),
    "limits.packedBytes": ("package_limits.max_packed_bytes", _COUNT, int),
    "limits.unpackedBytes": ("package_limits.max_unpacked_bytes", _COUNT, int),
    "limits.entries": ("package_limits.max_entries", _COUNT, int),
}


def read_file(path: Path) -> Mapping[str, Any]:
    """Return the tree of a settings file, JSON or TOML by its ending.

    Raises:
        SettingsError: it cannot be read, or is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(f"settings file {path}: {reason}") from None
    try:
        tree = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise SettingsError(f"settings file {path} is not {kind}: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"settings file {path} must hold an object, not {type(tree).__name__}")
    return tree


def from_tree(tree: Mapping[str, Any], *, where: str, base: Settings | None = None) -> Settings:
    """Return ``base`` with what a settings file says.

    Raises:
        SettingsError: a key is unknown (the nearest known one is named) or has the wrong type.
    """
    settings = base or Settings()
    for key, value in _leaves(tree):
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_KEYS)}"
            raise SettingsError(f"{where}: unknown key {key!r}; {hint}")
        name, kind, make = _KEYS[key]
        if not kind.takes(value):
            raise SettingsError(f"{where}: {key!r} must be {kind.said}, not {value!r}")
        if name.startswith("package_limits."):
            limits = replace(settings.package_limits, **{name.partition(".")[2]: make(value)})
            settings = replace(settings, package_limits=limits)
        else:
            settings = replace(settings, **{name: make(value)})
    return settings


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found += _leaves(value, f"{name}.") if isinstance(value, dict) else [(name, value)]
    return found
