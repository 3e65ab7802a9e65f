"""Settings: what each source may say, which wins, what is explained instead, and where a hub may listen."""

import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.commands.start import config
from hub_lite.settings import (
    _KEYS,
    Settings,
    SettingsError,
    default_data_dir,
    file_values,
    from_tree,
    is_loopback,
    load,
    read_file,
    variable_of,
)

_OPERATING = Path(__file__).resolve().parents[2] / "docs" / "operating.md"


def test_json_toml_and_yaml_say_the_same(tmp_path: Path) -> None:
    tree = {
        "host": {"hostname": "::1", "port": 9000, "id": "mine"},
        "timings": {"startTimeout": 1500, "instanceLifetimeExtensionDelay": 0},
        "limits": {"entries": 7},
    }
    (tmp_path / "a.json").write_text(json.dumps(tree))
    (tmp_path / "a.toml").write_text(
        '[host]\nhostname = "::1"\nport = 9000\nid = "mine"\n'
        "[timings]\nstartTimeout = 1500\ninstanceLifetimeExtensionDelay = 0\n[limits]\nentries = 7\n"
    )
    (tmp_path / "a.yaml").write_text(
        "# a comment\nhost: {hostname: '::1', port: 9000, id: mine}\n"
        "timings:\n  startTimeout: 1500\n  instanceLifetimeExtensionDelay: 0\nlimits:\n  entries: 7\n"
    )
    (tmp_path / "a.YML").write_text((tmp_path / "a.yaml").read_text())
    from_json = from_tree(read_file(tmp_path / "a.json"), where="a.json")
    for name in ("a.toml", "a.yaml", "a.YML"):
        assert from_json == from_tree(read_file(tmp_path / name), where=name)
    assert (from_json.hostname, from_json.port, from_json.hub_id) == ("::1", 9000, "mine")
    assert (from_json.start_timeout, from_json.instance_lifetime) == (1.5, 0)
    assert from_json.package_limits.max_entries == 7


def test_what_a_file_leaves_out_stays() -> None:
    base = Settings(hub_id="base", port=1)
    found = from_tree({"host": {"port": 2}}, where="f", base=base)
    assert found == replace(base, port=2)
    assert base.port == 1


def test_a_dotted_key_is_a_nested_one() -> None:
    assert from_tree({"host.port": 5}, where="f").port == 5


def test_two_limits_of_packages_do_not_undo_each_other() -> None:
    limits = from_tree({"limits": {"packedBytes": 10, "unpackedBytes": 20}}, where="f").package_limits
    assert (limits.max_packed_bytes, limits.max_unpacked_bytes) == (10, 20)


# A value of each setting that is not its default: as a file says it, as a text says it, as the field holds it
EXAMPLES: dict[str, tuple[Any, str, Any]] = {
    "host.hostname": ("h", "h", "h"),
    "host.port": (1, "1", 1),
    "host.instancesServerPort": (2, "2", 2),
    "host.id": ("i", "i", "i"),
    "description": ("words", "words", "words"),
    "customName": ("name", "name", "name"),
    "tags": (["a", "b"], "a, b", ("a", "b")),
    "dataDir": ("/d", "/d", Path("/d")),
    "identifyExisting": (True, "yes", True),
    "startupConfig": ("/s.json", "/s.json", Path("/s.json")),
    "exitWithLastInstance": (True, "on", True),
    "identify.folder": ("/sequences", "/sequences", Path("/sequences")),
    "insecure": (True, "1", True),
    "tokenFile": ("/t", "/t", Path("/t")),
    "security.requireSignature": (True, "true", True),
    "security.trustedKeys": ("/k", "/k", Path("/k")),
    "tls.certificate": ("/c.pem", "/c.pem", Path("/c.pem")),
    "tls.key": ("/k.pem", "/k.pem", Path("/k.pem")),
    "cors.origins": (["*"], "*", ("*",)),
    "host.allowedHosts": (["hub.example"], "hub.example", ("hub.example",)),
    "monitoring.port": (0, "0", 0),
    "monitoring.host": ("::1", "::1", "::1"),
    "monitoring.path": ("up", "up", "up"),
    "logLevel": ("WARN", "Warn", "warn"),
    "logColors": (False, "no", False),
    "debug": (True, "TRUE", True),
    "runtimeAdapter": ("process", "process", "process"),
    "safeOperationLimit": (1, "1", 1024 * 1024),
    "timings.heartBeatInterval": (500, "500", 0.5),
    "timings.instanceLifetimeExtensionDelay": (1000, "1000", 1),
    "timings.startTimeout": (2000, "2000", 2),
    "timings.answerStartAfter": (3000, "3e3", 3),
    "timings.shutdownTimeout": (4000, "4000", 4),
    "timings.stallTimeout": (5000.5, "5000.5", 5.0005),
    "timings.uploadTimeout": (0, "0", 0),
    "topics.endStream": ("sender", "sender", "sender"),
    "streams.windowBytes": (6, "6", 6),
    "limits.bodyBytes": (7, "7", 7),
    "limits.packedBytes": (8, "8", 8),
    "limits.unpackedBytes": (9, "9", 9),
    "limits.entries": (10, "10", 10),
    "limits.ratio": (20, "20", 20),
    "limits.nameBytes": (30, "30", 30),
    "packages.keptVersions": (1, "1", 1),
    "quarantine.maxBytes": (1000, "1000", 1000),
    "requirements.freeMemory": (11, "11", 11),
    "requirements.freeSpace": (0, "0", 0),
    "runners.node": ("/n", "/n", Path("/n")),
    "runners.python": ("/p", "/p", Path("/p")),
    "runners.pythonInterpreter": ("python3.10", "python3.10", "python3.10"),
    "runners.pythonFor": ("original", "original", "original"),
    "runners.pythons": (["/a", "/b"], "/a, /b", (Path("/a"), Path("/b"))),
    "runners.warm": (False, "false", False),
    "runners.reserve": (0, "0", 0),
    "runnerEnvs": ({"A": "1", "B": "x=y"}, "A=1;B=x=y;", {"A": "1", "B": "x=y"}),
}


def field_of(settings: Settings, key: str) -> object:
    value: object = settings
    for part in _KEYS[key].field.split("."):
        value = getattr(value, part)
    return value


def test_there_is_an_example_of_every_setting() -> None:
    assert sorted(EXAMPLES) == sorted(_KEYS)


@pytest.mark.parametrize("key", EXAMPLES)
def test_a_setting_may_be_said_in_a_file_by_a_variable_and_by_each_of_its_options(
    key: str, tmp_path: Path
) -> None:
    said, text, held = EXAMPLES[key]
    assert field_of(Settings(), key) != held
    file = tmp_path / "a.json"
    file.write_text(json.dumps({key: said}))
    by_file = load(file=file)
    by_variable = load(environ={variable_of(key): text})
    assert field_of(by_file.settings, key) == held
    assert by_file.settings == by_variable.settings
    assert by_file.effective()[key] == (file_values(by_file.settings)[key], f"file {file}")
    assert by_variable.effective()[key][1] == f"environment {variable_of(key)}"
    for option in _KEYS[key].options:
        shown = shown_config(option) if isinstance(said, bool) else shown_config(option, text)
        assert shown.pop(key) == {
            "value": file_values(by_file.settings)[key],
            "from": f"option {long_option(key)}",
        }
        assert {row["from"] for row in shown.values()} == {"default"}


def long_option(key: str) -> str:
    return next(option for option in _KEYS[key].options if option.startswith("--"))


def run_config(*words: str, **environ: str) -> Any:
    clean: dict[str, str | None] = {variable_of(key): None for key in _KEYS}
    return CliRunner(env=clean | {"HUB_LITE_CONFIG": None, "HUB_LITE_TOKEN": None} | environ).invoke(
        config, words
    )


def shown_config(*words: str, **environ: str) -> dict[str, Any]:
    ran = run_config("--json", *words, **environ)
    assert ran.exit_code == 0, ran.output
    shown: dict[str, Any] = json.loads(ran.output)
    return shown


@given(st.sampled_from(sorted(EXAMPLES)), st.sets(st.sampled_from(["file", "environment", "option"])))
def test_options_win_over_variables_and_these_over_the_file(key: str, sources: set[str]) -> None:
    said, text, held = EXAMPLES[key]
    default = file_values(Settings())[key]
    winner = next((one for one in ("option", "environment", "file") if one in sources), "default")
    environ, options = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.json")
        file.write_text(json.dumps({key: said if winner == "file" else default} if "file" in sources else {}))
        if "environment" in sources:
            environ[variable_of(key)] = text if winner == "environment" else as_text(default)
        if "option" in sources:
            options[key] = ("--option", said)
        loaded = load(file=file, environ=environ, options=options)
    assert field_of(loaded.settings, key) == (field_of(Settings(), key) if winner == "default" else held)
    assert loaded.effective()[key][1].partition(" ")[0] == winner
    assert all(origin == "default" for other, (_, origin) in loaded.effective().items() if other != key)


def as_text(value: Any) -> str:
    """Return a value of a file as a variable says it."""
    match value:
        case None:
            return ""
        case list():
            return ",".join(value)
        case dict():
            return ";".join(f"{name}={one}" for name, one in value.items())
        case bool():
            return str(value).lower()
        case _:
            return str(value)


def test_each_source_wins_over_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"host": {"port": 1, "id": "file"}, "tags": ["file"]}')
    environ = {"HUB_LITE_PORT": "2", "HUB_LITE_ID": "environment", "PATH": "/bin"}
    loaded = load(file=file, environ=environ, options={"host.port": ("--port", 3)})
    assert (loaded.settings.port, loaded.settings.hub_id, loaded.settings.tags) == (
        3,
        "environment",
        ("file",),
    )
    effective = loaded.effective()
    assert effective["host.port"] == (3, "option --port")
    assert effective["host.id"] == ("environment", "environment HUB_LITE_ID")
    assert effective["tags"] == (["file"], f"file {file}")
    assert effective["dataDir"] == (str(default_data_dir()), "default")


def test_a_variable_names_the_file_and_the_option_wins(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps({"host.id": name}))
    environ = {"HUB_LITE_CONFIG": str(tmp_path / "a.json")}
    assert load(environ=environ).settings.hub_id == "a.json"
    assert load(environ=environ, file=tmp_path / "b.json").settings.hub_id == "b.json"


def test_an_empty_variable_says_nothing() -> None:
    environ = {variable_of(key): "" for key in _KEYS} | {"HUB_LITE_CONFIG": "", "HUB_LITE_TOKEN": ""}
    assert load(environ=environ).settings == Settings()


def test_variables_have_names_of_their_own() -> None:
    names = [variable_of(key) for key in _KEYS]
    assert len({*names, "HUB_LITE_CONFIG", "HUB_LITE_URL", "HUB_LITE_TOKEN"}) == len(names) + 3
    assert all(re.fullmatch("HUB_LITE_[A-Z]+(_[A-Z]+)*", name) for name in names)
    assert variable_of("host.port") == "HUB_LITE_PORT"
    assert variable_of("logColors") == "HUB_LITE_LOG_COLORS"
    assert variable_of("timings.stallTimeout") == "HUB_LITE_TIMINGS_STALL_TIMEOUT"


def test_the_page_names_the_variable_of_every_setting() -> None:
    rows = re.findall(
        r"^\| `([\w.]+)` \| .*? \| `(HUB_LITE_\w+)` \|", _OPERATING.read_text("utf-8"), re.MULTILINE
    )
    assert dict(rows) == {key: variable_of(key) for key in _KEYS}


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"HUB_LITE_PRT": "1"},
            "environment: unknown variable 'HUB_LITE_PRT'; did you mean 'HUB_LITE_PORT'?",
        ),
        ({"HUB_LITE_TOKN": "1"}, "did you mean 'HUB_LITE_TOKEN'?"),
        ({"HUB_LITE_XYZZY_PLUGH": "1"}, "known are HUB_LITE_HOSTNAME, HUB_LITE_PORT"),
        ({"HUB_LITE_PORT": "eighty"}, "environment: 'HUB_LITE_PORT' must be a port"),
        ({"HUB_LITE_PORT": "1.5"}, "from 0 to 65535, not 1.5"),
        ({"HUB_LITE_INSECURE": "maybe"}, "'HUB_LITE_INSECURE' must be true or false, not 'maybe'"),
        ({"HUB_LITE_TAGS": "a,,b"}, "'HUB_LITE_TAGS' must be an array of strings, none of them empty"),
        ({"HUB_LITE_RUNNER_ENVS": "A"}, "must be an object of strings, or a string such as"),
        ({"HUB_LITE_RUNNER_ENVS": "=1"}, "must be an object of strings"),
        (
            {"HUB_LITE_LOG_LEVEL": "loud"},
            'must be "trace" or "debug" or "info" or "warn" or "error", not \'loud\'',
        ),
        ({"HUB_LITE_DATA_DIR": "~nobody-of-that-name/x"}, "must be a string, the path of a folder"),
        ({"HUB_LITE_TIMINGS_START_TIMEOUT": "nan"}, "a number of milliseconds, 0 or more, not nan"),
    ],
)
def test_a_wrong_variable_is_named_with_what_it_must_be(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environ=environ)
    assert said in str(caught.value)
    assert str(caught.value).startswith("environment: ")


def test_variables_of_clients_are_known_and_the_token_is_one_of_the_hub_too() -> None:
    loaded = load(environ={"HUB_LITE_URL": "http://h", "HUB_LITE_TOKEN": "a-long-secret-token"})
    assert loaded.settings == Settings(token="a-long-secret-token")
    assert loaded.effective()["token"] == ("***", "environment HUB_LITE_TOKEN")
    assert "secret" not in repr(loaded)


# --- the commands -----------------------------------------------------------------------------------------------------


def test_config_shows_each_value_and_where_it_came_from() -> None:
    ran = run_config("--port", "90", HUB_LITE_ID="mine")
    assert (ran.exit_code, ran.stderr) == (0, "")
    lines = [re.split(" {2,}", line) for line in ran.output.splitlines()]
    assert [line[0] for line in lines] == list(_KEYS)
    assert ["host.port", "90", "option --port"] in lines
    assert ["host.id", '"mine"', "environment HUB_LITE_ID"] in lines
    assert ["tags", "[]", "default"] in lines


def test_config_shows_no_secret() -> None:
    secret = "0123456789-not-to-be-shown"
    for words in ([], ["--json"]):
        ran = run_config(*words, HUB_LITE_TOKEN=secret, HUB_LITE_RUNNER_ENVS=f"API_KEY={secret}")
        assert ran.exit_code == 0
        assert secret not in ran.output
        assert "API_KEY" in ran.output
        assert "token" in ran.output


def test_config_says_what_a_source_has_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("host:\n  prot: 1\n")
    ran = run_config("--config", str(tmp_path / "a.yaml"))
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr == f"hub-lite: {tmp_path}/a.yaml: unknown key 'host.prot'; did you mean 'host.port'?\n"


def test_a_flag_is_not_said_unless_it_is_given() -> None:
    shown = shown_config(HUB_LITE_INSECURE="true", HUB_LITE_LOG_COLORS="false")
    assert shown["insecure"] == {"value": True, "from": "environment HUB_LITE_INSECURE"}
    assert shown["logColors"] == {"value": False, "from": "environment HUB_LITE_LOG_COLORS"}


# Each option of Transform Hub's server, with a value if it takes one
THEIR_OPTIONS = {
    "-desc": "d", "--description": "d", "--custom-name": "c", "--tags": "a,b", "-L": "debug", "--log-level": "debug",
    "--no-colors": None, "-P": "1", "--port": "1", "-H": "::1", "--hostname": "::1", "--instances-server-port": "1", "--isp": "1",
    "-I": "i", "--id": "i", "-E": None, "--identify-existing": None, "--runtime-adapter": "process", "--no-docker": None,
    "-D": "/d", "--sequences-root": "/d", "-S": "/s", "--startup-config": "/s", "-X": None, "--exit-with-last-instance": None,
    "-K": None,
    "--kill-on-exit": None, "--debug": None, "--safe-operation-limit": "1", "--instance-lifetime-extension-delay": "1",
    "--runner-envs": "A=1;B=2", "--no-telemetry": None, "--healtz-port": "1", "--healtz-host": "::1", "--healtz-path": "p",
}  # fmt: skip
THEIR_OPTIONS_EXPLAINED = {
    "--enable-federation-control": "is controlled by no other", "--expose-host-ip": "not in containers",
    "--runner-image": "not in containers", "--runner-py-image": "not in containers", "--runner-max-mem": "not in containers",
    "--prerunner-image": "not in containers", "--prerunner-max-mem": "not in containers", "-C": "connects to no manager",
    "--cpm-url": "connects to no manager", "--cpm-id": "connects to no manager", "--cpm-ssl-ca-path": "connects to no manager",
    "--cpm-max-reconnections": "connects to no manager", "--cpm-reconnection-delay": "connects to no manager",
    "--platform-api": "no platform", "--platform-api-version": "no platform", "--platform-api-key": "no platform",
    "--platform-space": "no platform", "--k8s-namespace": "not on Kubernetes", "--k8s-quota-name": "not on Kubernetes",
    "--k8s-auth-config-path": "not on Kubernetes", "--k8s-sth-pod-host": "not on Kubernetes",
    "--k8s-runner-image": "not on Kubernetes", "--k8s-runner-py-image": "not on Kubernetes",
    "--k8s-sequences-root": "not on Kubernetes", "--k8s-runner-cleanup-timeout": "not on Kubernetes",
    "--k8s-runner-resources-requests-cpu": "not on Kubernetes", "--k8s-runner-resources-requests-memory": "not on Kubernetes",
    "--k8s-runner-resources-limits-cpu": "not on Kubernetes", "--k8s-runner-resources-limits-memory": "not on Kubernetes",
    "--environment-name": "no telemetry",
}  # fmt: skip


@pytest.mark.parametrize("option", THEIR_OPTIONS)
def test_an_option_of_transform_hub_is_taken(option: str) -> None:
    value = THEIR_OPTIONS[option]
    shown = shown_config(option, *([] if value is None else [value]))
    said = [row["from"] for row in shown.values() if row["from"] != "default"]
    assert len(said) == (0 if option in ("--no-docker", "-K", "--kill-on-exit", "--no-telemetry") else 1)


@pytest.mark.parametrize("option", THEIR_OPTIONS_EXPLAINED)
def test_an_option_of_transform_hub_that_makes_no_sense_here_is_explained(option: str) -> None:
    for command in (config, start_command()):
        ran = CliRunner().invoke(command, [option, "value"])
        assert ran.exit_code == 2
        sentence = ran.stderr.splitlines()[-1]
        assert sentence.startswith(f"Error: {option}: this hub ")
        assert THEIR_OPTIONS_EXPLAINED[option] in sentence


def start_command() -> click.Command:
    from hub_lite.cli import main

    return main.commands["start"]


@pytest.mark.parametrize("adapter", ["docker", "kubernetes"])
def test_an_adapter_that_is_not_there_is_explained(adapter: str) -> None:
    ran = run_config("--runtime-adapter", adapter)
    assert ran.exit_code == 2
    assert f"not '{adapter}': this hub runs Instances as processes on its own machine" in ran.stderr
    with pytest.raises(SettingsError, match=r"'runtimeAdapter'.*runs Instances as processes"):
        from_tree({"runtimeAdapter": adapter}, where="f")


def test_a_settings_file_of_transform_hub_is_taken_as_far_as_it_makes_sense() -> None:
    theirs = {
        "description": "d", "customName": "c", "tags": ["a"], "logLevel": "debug", "logColors": True,
        "host": {
            "hostname": "::1", "port": 9000, "instancesServerPort": 9001, "id": "i", "apiBase": "/api/v1",
            "federationControl": False,
        },
        "identifyExisting": True, "runtimeAdapter": "process", "sequencesRoot": "/s", "startupConfig": "",
        "exitWithLastInstance": False,
        "debug": False, "safeOperationLimit": 512, "runnerEnvs": "A=1", "cpmUrl": "", "cpmId": "", "telemetry": {"status": False},
        "timings": {"instanceLifetimeExtensionDelay": 10000, "heartBeatInterval": 10000}, "kubernetes": None, "docker": {},
        "instanceRequirements": {"freeMem": 256, "freeSpace": 1},
        "monitorgingServer": {"port": 1, "host": "localhost", "path": "up"},
    }  # fmt: skip
    found = from_tree(theirs, where="f")
    assert found == Settings(
        description="d", custom_name="c", tags=("a",), log_level="debug", hostname="::1", port=9000, instances_port=9001,
        hub_id="i",
        identify_existing=True, runtime_adapter="process", data_dir=Path("/s"), runner_envs={"A": "1"}, instance_lifetime=10,
        monitoring_port=1, monitoring_host="localhost", monitoring_path="up",
        min_free_memory=256 * 1024 * 1024, min_free_space=1024 * 1024,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"docker": {"runner": {"maxMem": 512}}}, "'docker': this hub runs Instances as processes"),
        ({"docker.prerunner.image": "x"}, "'docker.prerunner.image': this hub runs Instances as processes"),
        ({"kubernetes": {"namespace": "n"}}, "not on Kubernetes"),
        ({"cpmUrl": "h:1"}, "'cpmUrl': this hub stands alone and connects to no manager"),
        ({"cpmId": "h"}, "connects to no manager"),
        ({"cpmSslCaPath": "h"}, "connects to no manager"),
        ({"cpm": {"maxReconnections": 1}}, "connects to no manager"),
        ({"platform": {"api": "u"}}, "connects to no platform"),
        ({"telemetry": {"status": True}}, "sends no telemetry"),
        ({"telemetry": {"environment": "e"}}, "sends no telemetry"),
        ({"host": {"federationControl": True}}, "'host.federationControl': this hub"),
        ({"host": {"apiBase": "/api/v2"}}, "always at /api/v1"),
        ({"host": {"infoFilePath": "/tmp/x"}}, "say host.id instead"),
        ({"timings": {"instanceAdapterExitDelay": 1}}, "sees at once when its Instances end"),
        ({"instanceRequirements": {"cpuLoad": 10}}, "however busy the processors are"),
    ],
)
def test_a_key_of_transform_hub_that_makes_no_sense_here_is_explained(
    tree: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        from_tree(tree, where="sth.json")
    assert said in str(caught.value)
    assert str(caught.value).startswith("sth.json: '")


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_data_folder_may_start_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert from_tree({"dataDir": "~/hub"}, where="f").data_dir == tmp_path / "hub"


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"host": {"prt": 1}}, "unknown key 'host.prt'; did you mean 'host.port'?"),
        ({"timings": {"startTimout": 1}}, "did you mean 'timings.startTimeout'?"),
        ({"xyzzy": 1}, "unknown key 'xyzzy'; known are host.hostname"),
        ({"host": 1}, "'host' must hold an object, not 1"),
        (
            {"host": {"port": {"deep": 1}}},
            "'host.port' must be a port, a whole number from 0 to 65535, not {'deep': 1}",
        ),
        ({"xyzzy": {}}, "unknown key 'xyzzy'"),
        ({1: 2}, "unknown key '1'"),
        ({"tags": "a,b"}, "'tags' must be an array of strings"),
        ({"tags": ["a", " "]}, "'tags' must be an array of strings, none of them empty"),
        ({"runnerEnvs": {"A": 1}}, "'runnerEnvs' must be an object of strings"),
        ({"runnerEnvs": {"A=B": "1"}}, "'runnerEnvs' must be an object of strings"),
        ({"topics": {"endStream": "nobody"}}, 'must be "readers" or "sender", not \'nobody\''),
        ({"dataDir": ""}, "'dataDir' must be a string, the path of a folder, not ''"),
        ({"tokenFile": "a\0b"}, "'tokenFile' must be a string, the path of a file, or null"),
        ({"description": 10**6 * [1]}, "'description' must be a string, not [1, 1, 1"),
        (
            {"host": {"port": "8000"}},
            "'host.port' must be a port, a whole number from 0 to 65535, not '8000'",
        ),
        ({"host": {"port": 65536}}, "from 0 to 65535, not 65536"),
        ({"host": {"port": -1}}, "from 0 to 65535, not -1"),
        ({"host": {"port": True}}, "from 0 to 65535, not True"),
        ({"host": {"port": 80.0}}, "from 0 to 65535, not 80.0"),
        ({"host": {"hostname": 1}}, "'host.hostname' must be a string, not 1"),
        ({"host": {"hostname": None}}, "'host.hostname' must be a string, not None"),
        ({"insecure": 1}, "'insecure' must be true or false, not 1"),
        ({"insecure": "yes"}, "'insecure' must be true or false, not 'yes'"),
        ({"timings": {"stallTimeout": -0.1}}, "must be a number of milliseconds, 0 or more, not -0.1"),
        ({"timings": {"stallTimeout": float("nan")}}, "a number of milliseconds, 0 or more, not nan"),
        ({"timings": {"stallTimeout": float("inf")}}, "a number of milliseconds, 0 or more, not inf"),
        ({"timings": {"stallTimeout": 10**400}}, "a number of milliseconds"),
        ({"streams": {"windowBytes": 0}}, "'streams.windowBytes' must be a whole number above 0, not 0"),
        ({"limits": {"bodyBytes": 0}}, "'limits.bodyBytes' must be a whole number above 0, not 0"),
        ({"dataDir": ["a"]}, "'dataDir' must be a string"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_must_be(tree: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        from_tree(tree, where="hub.json")
    assert said in str(caught.value)
    assert str(caught.value).startswith("hub.json: ")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_NAMES = [
    "host",
    "port",
    "host.port",
    "timings",
    "startTimeout",
    "limits",
    "entries",
    "insecure",
    "dataDir",
    "x",
]


@given(st.dictionaries(st.sampled_from(_NAMES), _JSON | st.dictionaries(st.sampled_from(_NAMES), _JSON)))
def test_any_tree_gives_settings_or_the_documented_error(tree: dict[str, object]) -> None:
    try:
        outcome: object = from_tree(tree, where="f")
    except SettingsError as error:
        outcome = error
    assert isinstance(outcome, Settings) or str(outcome).startswith("f: ")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b"{", "is not JSON"),
        ("a.json", b"[1]", "must hold an object, not list"),
        ("a.json", b"\xff", "a.json: "),
        ("a.json", b"[" * 100_000, "is not JSON"),
        ("a.yaml", b"a: [", "is not YAML"),
        ("a.yml", b"a: !!python/object:os.system {}", "is not YAML"),
        ("a.yaml", b"[" * 10_000, "is not YAML"),
        ("a.yaml", b"- a", "must hold an object, not list"),
        ("a.toml", b"a = ", "is not TOML"),
        ("a.toml", b'{"a": 1}', "is not TOML"),
    ],
)
def test_a_file_that_is_neither_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_file(tmp_path / name)
    assert said in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_a_yaml_file_of_comments_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# host:\n#   port: 1\n")
    assert load(file=tmp_path / "a.yaml").settings == Settings()


def test_a_yaml_file_that_holds_itself_or_grows_without_end_is_refused_in_a_short_sentence(
    tmp_path: Path,
) -> None:
    doubled = "".join(f"b{n}: &b{n} [*b{n - 1}, *b{n - 1}]\n" for n in range(1, 60))
    for text in (
        "host: &a {hostname: *a}",
        "host: &a\n  host: *a",
        f"b0: &b0 [x]\n{doubled}",
        f"tags: &b0 [x]\n{doubled}",
    ):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(SettingsError) as caught:
            load(file=tmp_path / "a.yaml")
        assert len(str(caught.value)) < 2000


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.json: No such file"):
        read_file(tmp_path / "none.json")
    with pytest.raises(SettingsError, match="Is a directory"):
        read_file(tmp_path)


@pytest.mark.parametrize("name", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost"])
def test_loopback_may_be_listened_to(name: str) -> None:
    assert is_loopback(name)
    settings = Settings(hostname=name)
    assert settings.checked() is settings


@pytest.mark.parametrize(
    "name",
    ["0.0.0.0", "::", "", "192.168.1.1", "example.org", "localhost.example.org", "127.0.0.1.example.org"],
)
def test_other_addresses_need_a_word_for_it(name: str) -> None:
    assert not is_loopback(name)
    with pytest.raises(SettingsError, match=r"is not a loopback address.*--insecure"):
        Settings(hostname=name).checked()
    assert Settings(hostname=name, insecure=True).checked().hostname == name


def test_the_data_folder_is_where_such_data_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "hub-lite"
    assert Settings().data_dir == tmp_path / "hub-lite"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_data_dir() == Path("/home/somebody/.local/share/hub-lite")
