"""The settings of a hub: a file, then the environment, then options, in rising precedence; read once.

One table, ``_KEYS``, holds all of them. The keys of a settings file and the spellings of options are those of Transform Hub where
it has them (docs/operating.md lists all).
"""

import difflib
import ipaddress
import json
import os
import re
import reprlib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from .archives import PackageLimits

API_BASE = "/api/v1"
PREFIX = "HUB_LITE_"  # of environment variables
FILE_VARIABLE = f"{PREFIX}CONFIG"  # names a settings file, as `--config` does
URL_VARIABLE = f"{PREFIX}URL"  # where clients find the hub: no setting of one
TOKEN_VARIABLE = (
    f"{PREFIX}TOKEN"  # what clients show, and a hub asks for; a secret, so there is no option and no key
)


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
    description: str = ""
    custom_name: str = ""
    tags: tuple[str, ...] = ()
    data_dir: Path = field(default_factory=default_data_dir)
    identify_existing: bool = False  # the folders with a manifest in `identify_folder` are Sequences too
    identify_folder: Path | None = None  # None: `existing` in the data directory
    startup_config: Path | None = None  # what is started when the hub is
    exit_with_last_instance: bool = False
    insecure: bool = False  # listen on other than loopback although nobody is asked for a token
    token: str = field(
        default="", repr=False
    )  # from the environment only; clients must know it, if there is one
    token_file: Path | None = None  # more tokens, one a line
    tls_certificate: Path | None = None  # PEM, with its chain
    tls_key: Path | None = None
    require_signature: bool = False  # of packages: those that nobody has signed who is trusted are refused
    trusted_keys: Path | None = None  # whose signatures count; None: `trusted_keys` in the data directory
    cors_origins: tuple[str, ...] = ()  # web pages that may use the hub, beside its own; `*`: all
    allowed_hosts: tuple[str, ...] = ()  # names the hub answers to, beside those of loopback
    monitoring_port: int | None = None  # of the health endpoint for load balancers; 0: any free one
    monitoring_host: str = "127.0.0.1"
    monitoring_path: str = "healtz"
    heartbeat_interval: float = 10.0  # between two heartbeats in the audit stream, while it has readers
    safe_operation_limit: int = 512 * 1024 * 1024  # bytes of each disk that are not shown as available
    log_level: str = "info"
    log_colors: bool = True  # on a terminal
    debug: bool = False  # log everything, whatever the level
    runtime_adapter: str = "detect"  # or "process", which is what is found
    instance_lifetime: float = 180.0  # an ended Instance can be looked at for so long
    start_timeout: float = 30.0  # a process that has not connected by then is ended
    answer_start_after: float = 10.0  # a start is answered by then, even if the Sequence is still loading
    shutdown_timeout: float = 3.0  # Instances have so long to stop when the hub ends
    window_bytes: int = 1024 * 1024  # of each stream that leaves an Instance
    topics_end_stream: str = (
        "readers"  # whom `x-end-stream: true` on a topic ends: its present readers, or only the sender
    )
    stall_timeout: float = 10.0
    max_body_bytes: int = 1024 * 1024  # of a JSON body
    package_limits: PackageLimits = field(default_factory=PackageLimits)
    upload_timeout: float = 3600.0  # a package must have arrived by then; 0: it may take its time
    kept_versions: int = 5  # of each Sequence, the present one among them
    quarantine_bytes: int = 64 * 1024 * 1024  # of the items that an Instance has put aside
    min_free_memory: int = 64 * 1024 * 1024  # bytes that must be free for a start; 0: nobody looks
    min_free_space: int = 128 * 1024 * 1024  # bytes, on the disk of the data directory
    node_runner: Path | None = None  # an installed @scramjet/runner; None: the one in ``node_home``
    node_home: Path | None = None  # what `hub-lite setup node` has filled; None: `node` in the data directory
    python_runner: Path | None = None  # an installed @scramjet/python-runner
    python_interpreter: str = "python3"  # what that one runs with
    python_for: str = "ours"  # which runner Python Sequences get: "ours" or "original"
    pythons: tuple[
        Path, ...
    ] = ()  # further interpreters for ours, for packages that the hub's own does not suit
    warm_runners: bool = (
        True  # Python runners are forked of an interpreter that is there already, where that can be
    )
    reserved_runners: int = 16  # of each such interpreter, at most: that are ready for a start
    runner_envs: Mapping[str, str] = field(default_factory=dict)  # for every runner; wins over all else

    def checked(self) -> "Settings":
        """Return the settings, if a hub may run with them.

        Raises:
            SettingsError: it would listen to strangers without asking who they are, or has half of what TLS needs.
        """
        if not self.insecure and not self.asks_for_token and not is_loopback(self.hostname):
            raise SettingsError(
                f"hostname {self.hostname!r} is not a loopback address: everybody who reaches it could run programs here. "
                "Ask for a token with --token-file, use 127.0.0.1 or ::1 and reach it through a tunnel, "
                "or say --insecure if the network is trusted"
            )
        if (self.tls_certificate is None) is not (self.tls_key is None):
            missing = "tls.certificate" if self.tls_certificate is None else "tls.key"
            raise SettingsError(f"TLS needs a certificate and its key; {missing} is not set")
        return self

    @property
    def existing(self) -> Path | None:
        """The folder whose folders are Sequences, used in place; None if there is to be none."""
        return (self.identify_folder or self.data_dir / "existing") if self.identify_existing else None

    @property
    def trusted_keys_file(self) -> Path:
        """The file of the public keys whose signatures count."""
        return self.trusted_keys or self.data_dir / "trusted_keys"

    @property
    def asks_for_token(self) -> bool:
        """Whether clients have to show a token."""
        return bool(self.token) or self.token_file is not None


def is_loopback(hostname: str) -> bool:
    """Tell whether only this machine can reach a server that listens on ``hostname``."""
    if hostname.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return False


# --- what a value may be ------------------------------------------------------------------------------------------


MASK = "***"  # shown for what may be a secret
_MIB = 1024 * 1024


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be, the sentence that says so, and how it gets from a text or a file to a field and back."""

    said: str
    word: str  # what stands for a value in a help text
    types: tuple[type, ...]
    least: float = 0
    most: float = 2**53
    choices: tuple[str, ...] = ()
    optional: bool = False  # null and an empty string are None
    parse: Callable[[str], Any] = (
        _same  # of an option or a variable; what cannot be parsed stays the text it was
    )
    make: Callable[[Any], Any] = _same
    show: Callable[[Any], Any] = _same
    fits: Callable[[Any], bool] = lambda _: True

    def takes(self, value: object) -> bool:
        """Tell whether a settings file may hold this value."""
        if self.optional and value in (None, ""):
            return True
        if not isinstance(value, self.types) or isinstance(value, bool) is not (bool in self.types):
            return False
        if self.choices and str(value).lower() not in self.choices:
            return False
        if isinstance(value, int | float) and not self.least <= value <= self.most:
            return False
        return self.fits(value)

    def field_value(self, value: Any) -> Any:
        """Return what a field holds for a value of a file that is taken."""
        return None if self.optional and value in (None, "") else self.make(value)

    def file_value(self, value: Any) -> Any:
        """Return what a settings file would say for the value of a field."""
        return None if value is None else self.show(value)


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


_SWITCHES = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def _switch(text: str) -> Any:
    return _SWITCHES.get(text.strip().lower(), text)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _variables(text: str) -> Any:
    """Return the variables of ``A=1;B=2``."""
    found = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if part.strip() and not equals:
            return text
        if equals:
            found[name.strip()] = value
    return found


def _are_variables(value: Any) -> bool:
    pairs = _variables(value) if isinstance(value, str) else value
    return isinstance(pairs, dict) and all(_is_variable(name, text) for name, text in pairs.items())


def _is_variable(name: object, text: object) -> bool:
    """Tell whether the kernel takes this as an environment variable."""
    if not (isinstance(name, str) and isinstance(text, str)):
        return False
    try:
        (name + text).encode()
    except UnicodeEncodeError:
        return False
    return bool(name) and "=" not in name and "\0" not in name + text


def _milliseconds(seconds: float) -> float:
    value = seconds * 1000
    return int(value) if value == int(value) else value


def _choice(word: str, *choices: str) -> Kind:
    return Kind(" or ".join(f'"{one}"' for one in choices), word, (str,), choices=choices, make=str.lower)


def _path(value: str) -> Path:
    return Path(value).expanduser()


def _is_path(value: str) -> bool:
    try:
        return bool(value) and "\0" not in value and bool(_path(value))
    except RuntimeError:  # `~somebody`, and there is nobody of that name
        return False


_TEXT = Kind("a string", "TEXT", (str,))
_SWITCH = Kind("true or false", "true|false", (bool,), parse=_switch)
_PORT = Kind("a port, a whole number from 0 to 65535", "PORT", (int,), most=65535, parse=_number)
_OPTIONAL_PORT = replace(_PORT, said=f"{_PORT.said}, or null", optional=True)
_COUNT = Kind("a whole number above 0", "N", (int,), least=1, parse=_number)
_SOME = Kind("a whole number, 0 or more", "N", (int,), parse=_number)
_BYTES = Kind("a whole number of bytes, 0 or more", "BYTES", (int,), parse=_number)
_SIZE = Kind(
    "a whole number of MiB, 0 or more",
    "MIB",
    (int,),
    parse=_number,
    make=lambda value: value * _MIB,
    show=lambda value: value // _MIB,
)
_TIME = Kind(
    "a number of milliseconds, 0 or more",
    "MS",
    (int, float),
    parse=_number,
    make=lambda value: value / 1000,
    show=_milliseconds,
)
_FOLDER = Kind("a string, the path of a folder", "FOLDER", (str,), make=_path, show=str, fits=_is_path)
_OPTIONAL_FOLDER = replace(_FOLDER, said=f"{_FOLDER.said}, or null", optional=True)
_FILE = Kind(
    "a string, the path of a file, or null",
    "FILE",
    (str,),
    optional=True,
    make=_path,
    show=str,
    fits=_is_path,
)
_WORDS = Kind(
    "an array of strings, none of them empty (as an option or a variable: a,b)",
    "A,B",
    (list,),
    parse=_words,
    make=tuple,
    show=list,
    fits=lambda value: all(isinstance(word, str) and word.strip() for word in value),
)
_PATHS = replace(
    _WORDS,
    said="an array of strings, the paths of files (as an option or a variable: a,b)",
    make=lambda value: tuple(_path(path) for path in value),
    show=lambda value: [str(path) for path in value],
    fits=lambda value: all(isinstance(path, str) and path.strip() and _is_path(path) for path in value),
)
_VARIABLES = Kind(
    'an object of strings, or a string such as "A=1;B=2"',
    '"A=1;B=2"',
    (dict, str),
    parse=_variables,
    make=lambda value: _variables(value) if isinstance(value, str) else dict(value),
    show=lambda value: dict.fromkeys(value, MASK),
    fits=_are_variables,
)


# --- the table ----------------------------------------------------------------------------------------------------


class Setting(NamedTuple):
    """A setting: where it is kept, what it may be, and how it is told."""

    field: str  # of Settings; a dot leads into a field of a field
    kind: Kind
    help: str
    options: tuple[str, ...] = ()


_LEVELS = ("trace", "debug", "info", "warn", "error")

# Key in a settings file -> the setting
_KEYS: dict[str, Setting] = {
    "host.hostname": Setting("hostname", _TEXT, "address to listen on", ("-H", "--hostname")),
    "host.port": Setting("port", _PORT, "port of the API; 0 takes any free one", ("-P", "--port")),
    "host.instancesServerPort": Setting(
        "instances_port",
        _PORT,
        "port on 127.0.0.1 for runners that know no unix socket; 0 takes any free one",
        ("--instances-server-port", "--isp"),
    ),
    "host.id": Setting("hub_id", _TEXT, "how the hub calls itself", ("-I", "--id")),
    "description": Setting("description", _TEXT, "what the hub is for", ("--description", "-desc")),
    "customName": Setting("custom_name", _TEXT, "a name for people", ("--custom-name",)),
    "tags": Setting("tags", _WORDS, "words to find the hub by", ("--tags",)),
    "dataDir": Setting(
        "data_dir", _FOLDER, "where Sequences are kept", ("-D", "--data-dir", "--sequences-root")
    ),
    "identifyExisting": Setting(
        "identify_existing",
        _SWITCH,
        "use the Sequence folders that are there",
        ("-E", "--identify-existing"),
    ),
    "identify.folder": Setting(
        "identify_folder",
        _OPTIONAL_FOLDER,
        "where these folders are, if not in `existing` of the data directory",
        ("--identify-folder",),
    ),
    "startupConfig": Setting(
        "startup_config",
        _FILE,
        "list of Sequences to start with the hub, JSON or YAML",
        ("-S", "--startup-config"),
    ),
    "exitWithLastInstance": Setting(
        "exit_with_last_instance",
        _SWITCH,
        "end when the last Instance has",
        ("-X", "--exit-with-last-instance"),
    ),
    "insecure": Setting(
        "insecure", _SWITCH, "listen on other than loopback without asking for a token", ("--insecure",)
    ),
    "tokenFile": Setting(
        "token_file", _FILE, "clients must show one of the tokens in this file", ("--token-file",)
    ),
    "tls.certificate": Setting(
        "tls_certificate", _FILE, "certificate to answer HTTPS with", ("--tls-certificate",)
    ),
    "tls.key": Setting("tls_key", _FILE, "private key of the certificate", ("--tls-key",)),
    "security.requireSignature": Setting(
        "require_signature",
        _SWITCH,
        "take and start only packages that somebody has signed who is trusted",
        ("--require-signature",),
    ),
    "security.trustedKeys": Setting(
        "trusted_keys",
        _FILE,
        "the public keys whose signatures count, if not in `trusted_keys` of the data directory",
        ("--trusted-keys",),
    ),
    "cors.origins": Setting(
        "cors_origins", _WORDS, "origins of web pages that may use the hub; * for all", ("--cors-origins",)
    ),
    "host.allowedHosts": Setting(
        "allowed_hosts", _WORDS, "further names that the hub answers to", ("--allowed-hosts",)
    ),
    "monitoring.port": Setting(
        "monitoring_port",
        _OPTIONAL_PORT,
        "port of the health endpoint for load balancers",
        ("--healtz-port",),
    ),
    "monitoring.host": Setting(
        "monitoring_host", _TEXT, "address of the health endpoint", ("--healtz-host",)
    ),
    "monitoring.path": Setting("monitoring_path", _TEXT, "path of the health endpoint", ("--healtz-path",)),
    "logLevel": Setting(
        "log_level", _choice("LEVEL", *_LEVELS), f"what to log: {', '.join(_LEVELS)}", ("-L", "--log-level")
    ),
    "logColors": Setting("log_colors", _SWITCH, "colour the log on a terminal", ("--no-colors",)),
    "debug": Setting("debug", _SWITCH, "log in detail, whatever the level", ("--debug", "-v", "--verbose")),
    "runtimeAdapter": Setting(
        "runtime_adapter",
        _choice("process|detect", "process", "detect"),
        "what Instances run as: processes",
        ("--runtime-adapter",),
    ),
    "safeOperationLimit": Setting(
        "safe_operation_limit",
        _SIZE,
        "MiB of each disk that `GET /load-check` does not show as available",
        ("--safe-operation-limit",),
    ),
    "timings.heartBeatInterval": Setting(
        "heartbeat_interval", _TIME, "between two heartbeats in the audit stream, while it has readers"
    ),
    "timings.instanceLifetimeExtensionDelay": Setting(
        "instance_lifetime",
        _TIME,
        "so long an ended Instance, and what its streams hold, can be looked at",
        ("--instance-lifetime-extension-delay",),
    ),
    "timings.startTimeout": Setting(
        "start_timeout", _TIME, "a runner that has not connected by then is ended"
    ),
    "timings.answerStartAfter": Setting(
        "answer_start_after", _TIME, "a start is answered by then, even if the Sequence is still loading"
    ),
    "timings.shutdownTimeout": Setting(
        "shutdown_timeout", _TIME, "Instances have so long to stop when the hub ends"
    ),
    "timings.stallTimeout": Setting(
        "stall_timeout",
        _TIME,
        "a reader that takes nothing for so long, while others wait for it, is cut off",
    ),
    "timings.uploadTimeout": Setting(
        "upload_timeout", _TIME, "a package that has not arrived by then is refused; 0: it may take its time"
    ),
    "topics.endStream": Setting(
        "topics_end_stream",
        _choice("readers|sender", "readers", "sender"),
        "whom `x-end-stream: true` on a topic ends: its present readers, or only the sender",
    ),
    "streams.windowBytes": Setting(
        "window_bytes", _COUNT, "what is kept of each stream that leaves an Instance"
    ),
    "limits.bodyBytes": Setting("max_body_bytes", _COUNT, "the most a JSON body may have"),
    "limits.packedBytes": Setting("package_limits.max_packed_bytes", _COUNT, "the most a package may have"),
    "limits.unpackedBytes": Setting(
        "package_limits.max_unpacked_bytes", _COUNT, "the most it may have unpacked"
    ),
    "limits.entries": Setting("package_limits.max_entries", _COUNT, "the most files and folders it may have"),
    "limits.ratio": Setting(
        "package_limits.max_ratio", _COUNT, "the most times its packed size that it may unpack to"
    ),
    "limits.nameBytes": Setting(
        "package_limits.max_name_bytes", _COUNT, "the most bytes the path of a file in it may have"
    ),
    "packages.keptVersions": Setting(
        "kept_versions", _COUNT, "versions of a Sequence that are kept, the present one among them"
    ),
    "quarantine.maxBytes": Setting(
        "quarantine_bytes", _BYTES, "the most that the items an Instance puts aside may have"
    ),
    "requirements.freeMemory": Setting("min_free_memory", _BYTES, "memory that must be free for a start"),
    "requirements.freeSpace": Setting(
        "min_free_space", _BYTES, "space that must be free on the disk of the data directory for a start"
    ),
    "runners.node": Setting(
        "node_runner", _FILE, "an installed @scramjet/runner, or its entry file", ("--node-runner",)
    ),
    "runners.python": Setting(
        "python_runner",
        _FILE,
        "an installed @scramjet/python-runner, or its entry file",
        ("--python-runner",),
    ),
    "runners.pythonInterpreter": Setting(
        "python_interpreter", _TEXT, "the Python that runs it", ("--python-runner-interpreter",)
    ),
    "runners.pythonFor": Setting(
        "python_for",
        _choice("ours|original", "ours", "original"),
        "which runner Python Sequences get: ours or original",
        ("--python-runner-for",),
    ),
    "runners.pythons": Setting(
        "pythons",
        _PATHS,
        "further Pythons for packages that ask for another than the hub's",
        ("--pythons",),
    ),
    "runners.warm": Setting(
        "warm_runners",
        _SWITCH,
        "keep a warm Python that runners are forked of, so that they start in milliseconds (Linux)",
    ),
    "runners.reserve": Setting(
        "reserved_runners",
        _SOME,
        "the most runners, some 5 MB each, that a warm Python keeps ready after a burst of starts; at rest it is one; 0: none",
    ),
    "runnerEnvs": Setting(
        "runner_envs",
        _VARIABLES,
        "environment variables for every runner; they win over all else",
        ("--runner-envs",),
    ),
}


def _from_mib(value: Any) -> Any:
    return value * _MIB if isinstance(value, int) and not isinstance(value, bool) else value


# Other spellings of keys, all of Transform Hub -> the key, and what makes its value of theirs
_ALIASES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "sequencesRoot": ("dataDir", _same),
    "monitorgingServer.port": ("monitoring.port", _same),
    "monitorgingServer.host": ("monitoring.host", _same),
    "monitorgingServer.path": ("monitoring.path", _same),
    "instanceRequirements.freeMem": ("requirements.freeMemory", _from_mib),
    "instanceRequirements.freeSpace": ("requirements.freeSpace", _from_mib),
}


def variable_of(key: str) -> str:
    """Return the environment variable of a setting: called as its option, or as its key where there is none."""
    words = [
        option[2:]
        for option in _KEYS[key].options
        if option.startswith("--") and not option.startswith("--no-")
    ]
    name = words[0].replace("-", "_") if words else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).replace(".", "_")
    return PREFIX + name.upper()


# --- what Transform Hub can be told, and this hub cannot ------------------------------------------------------------


class _Foreign(NamedTuple):
    """Settings that make no sense here, and why."""

    keys: tuple[str, ...]  # each with all below it
    options: tuple[str, ...]
    why: str
    harmless: tuple[
        Any, ...
    ] = ()  # values that ask for what is so anyway; those that ask for nothing are, too


_RUNNER_RESOURCES = tuple(
    f"--k8s-runner-resources-{bound}-{what}" for bound in ("requests", "limits") for what in ("cpu", "memory")
)
_FOREIGN = (
    _Foreign(
        ("docker",),
        (
            "--expose-host-ip", "--runner-image", "--runner-py-image", "--runner-max-mem", "--prerunner-image",
            "--prerunner-max-mem",
        ),
        "this hub runs Instances as processes, not in containers: leave it out",
    ),
    _Foreign(
        ("kubernetes",),
        (
            "--k8s-namespace", "--k8s-quota-name", "--k8s-auth-config-path", "--k8s-sth-pod-host", "--k8s-runner-image",
            "--k8s-runner-py-image", "--k8s-sequences-root", "--k8s-runner-cleanup-timeout", *_RUNNER_RESOURCES,
        ),
        "this hub runs Instances on its own machine, not on Kubernetes: leave it out",
    ),
    _Foreign(
        ("cpm", "cpmUrl", "cpmId", "cpmSslCaPath"),
        (
            "-C", "--cpm-url", "--cpm-id", "--cpm-ssl-ca-path", "--cpm-max-reconnections", "--cpm-reconnection-delay",
        ),
        "this hub stands alone and connects to no manager: leave it out",
    ),
    _Foreign(
        ("platform",),
        ("--platform-api", "--platform-api-version", "--platform-api-key", "--platform-space"),
        "this hub stands alone and connects to no platform: leave it out",
    ),
    _Foreign(("telemetry",), ("--environment-name",), "this hub sends no telemetry: leave it out"),
    _Foreign(
        ("host.federationControl",),
        ("--enable-federation-control",),
        "this hub stands alone and is controlled by no other: leave it out",
    ),
    _Foreign(("host.apiBase",), (), f"the API of this hub is always at {API_BASE}: leave it out", (API_BASE,)),
    _Foreign(("host.infoFilePath",), (), "this hub keeps its id in no file: say host.id instead"),
    _Foreign(
        ("timings.instanceAdapterExitDelay",),
        (),
        "this hub sees at once when its Instances end: leave it out",
    ),
    _Foreign(
        ("instanceRequirements.cpuLoad",), (), "this hub starts Instances however busy the processors are: leave it out"
    ),
)  # fmt: skip

FOREIGN_OPTIONS = {option: foreign.why for foreign in _FOREIGN for option in foreign.options}
NEEDLESS_OPTIONS = {  # flags that ask for what is so anyway
    ("-K", "--kill-on-exit"): "Instances never outlive the hub: this is always so.",
    ("--no-docker",): "Instances run as processes: this is always so.",
    ("--no-telemetry",): "No telemetry is sent: this is always so.",
}


def _foreign(key: str) -> _Foreign | None:
    for foreign in _FOREIGN:
        if any(key == name or key.startswith(f"{name}.") for name in foreign.keys):
            return foreign
    return None


# --- sources ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each came from."""

    settings: Settings
    origins: Mapping[str, str]  # by key; what has the default is not there

    def effective(self) -> dict[str, tuple[Any, str]]:
        """Return the value of each key as a settings file would say it, secrets masked, and where it came from."""
        values = file_values(self.settings)
        if self.settings.token:
            values["token"] = MASK
        return {key: (value, self.origins.get(key, "default")) for key, value in values.items()}


def load(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    options: Mapping[str, tuple[str, Any]] | None = None,
) -> Loaded:
    """Return the settings that a file, then variables, then options say.

    Args:
        file: a settings file; without it the one that ``HUB_LITE_CONFIG`` names, if it does.
        environ: environment variables; those that begin with ``HUB_LITE_`` count, unless they are empty.
        options: by key: how the option was spelled, and its value, which is text or what a file would hold.

    Raises:
        SettingsError: a source says something wrong.
    """
    environ = environ or {}
    settings, origins = Settings(), {}
    if file is None and environ.get(FILE_VARIABLE):
        file = _path(environ[FILE_VARIABLE])
    if file is not None:
        for key, value in _leaves(read_file(file), where=str(file)):
            settings = _with(settings, key, value, called=key, where=str(file))
            origins[key] = f"file {file}"
    for key, text in _from_environ(environ).items():
        variable = variable_of(key)
        value = _KEYS[key].kind.parse(text)
        settings = _with(settings, key, value, called=variable, where="environment")
        origins[key] = f"environment {variable}"
    for key, (spelling, value) in (options or {}).items():
        if isinstance(value, str):
            value = _KEYS[key].kind.parse(value)
        settings = _with(settings, key, value, called=spelling, where="options")
        origins[key] = f"option {spelling}"
    if environ.get(TOKEN_VARIABLE):
        settings = replace(settings, token=environ[TOKEN_VARIABLE])
        origins["token"] = f"environment {TOKEN_VARIABLE}"
    return Loaded(settings, origins)


def read_file(path: Path) -> Mapping[str, Any]:
    """Return the tree of a settings file: TOML or YAML by its ending, else JSON.

    Raises:
        SettingsError: it cannot be read, or is not what its ending says.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(f"settings file {path}: {reason}") from None
    kind, parse = _FORMATS.get(path.suffix.lower(), ("JSON", json.loads))
    try:
        tree = parse(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"settings file {path} is not {kind}: {error}") from None
    if tree is None and kind == "YAML":  # nothing but comments
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"settings file {path} must hold an object, not {type(tree).__name__}")
    return tree


def _parse_yaml(text: str) -> Any:
    import yaml  # noqa: PLC0415 - most hubs have no such file, and every command would wait for it

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


_FORMATS: dict[str, tuple[str, Callable[[str], Any]]] = {
    ".toml": ("TOML", tomllib.loads),
    ".yaml": ("YAML", _parse_yaml),
    ".yml": ("YAML", _parse_yaml),
}


def from_tree(tree: Mapping[str, Any], *, where: str, base: Settings | None = None) -> Settings:
    """Return ``base`` with what a settings file says.

    Raises:
        SettingsError: a key is unknown (the nearest known one is named) or has the wrong type.
    """
    settings = base or Settings()
    for key, value in _leaves(tree, where=where):
        settings = _with(settings, key, value, called=key, where=where)
    return settings


def file_values(settings: Settings) -> dict[str, Any]:
    """Return the value of each key as a settings file would say it, secrets masked."""
    found = {}
    for key, setting in _KEYS.items():
        value: Any = settings
        for part in setting.field.split("."):
            value = getattr(value, part)
        found[key] = setting.kind.file_value(value)
    return found


def is_place(key: str) -> bool:
    """Tell whether a setting says where something lies on the disk."""
    return _KEYS[key].kind in (_FILE, _FOLDER, _PATHS)


def _from_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of the variables by key."""
    keys = {variable_of(key): key for key in _KEYS}
    known = [*keys, FILE_VARIABLE, URL_VARIABLE, TOKEN_VARIABLE]
    found = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or not text:
            continue
        if name not in known:
            raise SettingsError(f"environment: unknown variable {name!r}; {_nearest(name, known)}")
        if name in keys:
            found[keys[name]] = text
    return found


def _with(settings: Settings, key: str, value: Any, *, called: str, where: str) -> Settings:
    name, kind, *_ = _KEYS[key]
    if (wrong := fault(key, value)) is not None:
        raise SettingsError(f"{where}: {called!r} {wrong}")
    outer, dot, inner = name.partition(".")
    made = kind.field_value(value)
    if dot:
        made = replace(getattr(settings, outer), **{inner: made})
    return replace(settings, **{outer: made})


def fault(key: str, value: Any) -> str | None:
    """Return what a value of a setting must be and is not, as a sentence without a subject; None if it may be so."""
    if _KEYS[key].kind.takes(value):
        return None
    known = key == "runtimeAdapter" and value in ("docker", "kubernetes")
    hint = ": this hub runs Instances as processes on its own machine" if known else ""
    return f"must be {_KEYS[key].kind.said}, not {_short.repr(value)}{hint}"


def _leaves(tree: Mapping[Any, Any], *, where: str, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the values in a tree of settings by key; what asks for nothing that this hub does not do is left out."""
    found: list[tuple[str, Any]] = []
    for part, value in tree.items():
        name = f"{prefix}{part}"
        key, convert = _ALIASES.get(name, (name, _same))
        if key in _KEYS:
            found.append((key, convert(value)))
        elif any(known.startswith(f"{name}.") for known in (*_KEYS, *_ALIASES)):
            if value is not None and not isinstance(value, dict):
                raise SettingsError(f"{where}: {name!r} must hold an object, not {_short.repr(value)}")
            found += _leaves(value or {}, where=where, prefix=f"{name}.")
        elif (foreign := _foreign(name)) is not None:
            if not _asks_for_nothing(value, foreign.harmless):
                raise SettingsError(f"{where}: {name!r}: {foreign.why}")
        else:
            raise SettingsError(f"{where}: unknown key {name!r}; {_nearest(name, _KEYS)}")
    return found


def _asks_for_nothing(value: Any, harmless: tuple[Any, ...]) -> bool:
    if isinstance(value, dict):
        return all(one in (None, "", False) for one in value.values())
    return value in (None, "", False, [], *harmless)


def _nearest(name: str, known: Iterable[str]) -> str:
    by_end = {one.removeprefix(PREFIX): one for one in known}  # what all begin with makes nothing near
    near = difflib.get_close_matches(name.removeprefix(PREFIX), by_end, n=1)
    return f"did you mean {by_end[near[0]]!r}?" if near else f"known are {', '.join(by_end.values())}"


_short = reprlib.Repr()  # a value may be huge, or, in YAML, hold itself
_short.maxstring = _short.maxother = 80
