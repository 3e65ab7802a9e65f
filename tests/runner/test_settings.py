"""The settings of a runner, from values alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import InvalidSettings
from runner.settings import Settings

ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"
LEAST = {"INSTANCE_ID": ID, "SEQUENCE_PATH": "/package/main.py", "INSTANCES_SERVER_PORT": "8001"}


def test_the_least_there_must_be_is_enough() -> None:
    assert Settings.from_environ(LEAST) == Settings(
        Path("/package/main.py"),
        ID,
        socket_path="",
        host="localhost",
        port=8001,
        sequence_info={},
        connect_info={},
    )


def test_everything_that_is_said_is_taken() -> None:
    settings = Settings.from_environ(
        {
            **LEAST,
            "INSTANCES_SERVER_HOST": "hub",
            "SEQUENCE_INFO": '{"id":"s"}',
            "RUNNER_CONNECT_INFO": ' {"args":[1]} ',
            "HOME": "/",
        }
    )
    assert (settings.host, settings.sequence_info, settings.connect_info) == (
        "hub",
        {"id": "s"},
        {"args": [1]},
    )


def test_with_a_socket_path_no_port_is_needed_and_a_wrong_one_is_not_looked_at() -> None:
    environ = {**LEAST, "INSTANCES_SERVER_SOCKET": "/run/hub", "INSTANCES_SERVER_PORT": "no port"}
    assert Settings.from_environ(environ).socket_path == "/run/hub"
    del environ["INSTANCES_SERVER_PORT"]
    assert Settings.from_environ(environ).port == 0


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_variable_is_named(name: str, empty: bool) -> None:
    environ = {key: value for key, value in LEAST.items() if key != name} | ({name: ""} if empty else {})
    with pytest.raises(InvalidSettings, match=f"{name} is not set") as caught:
        Settings.from_environ(environ)
    assert caught.value.exit_code == 20


@pytest.mark.parametrize("port", ["0", "65536", "-1", "+1", " 80", "80.0", "٨٠", "http", "9" * 5000, "1_0"])
def test_what_is_no_port_is_refused(port: str) -> None:
    with pytest.raises(InvalidSettings, match="INSTANCES_SERVER_PORT must be a port from 1 to 65535, not"):
        Settings.from_environ({**LEAST, "INSTANCES_SERVER_PORT": port})


@pytest.mark.parametrize("name", ["SEQUENCE_INFO", "RUNNER_CONNECT_INFO"])
@pytest.mark.parametrize("text", ["{", "[]", "1", "null", "nan", "[" * 100_000])
def test_what_is_no_json_object_is_refused(name: str, text: str) -> None:
    with pytest.raises(InvalidSettings, match=f"{name} (is not JSON|must be a JSON object)"):
        Settings.from_environ({**LEAST, name: text})


@given(st.dictionaries(st.sampled_from([*LEAST, "INSTANCES_SERVER_SOCKET", "SEQUENCE_INFO"]), st.text()))
def test_any_environment_gives_settings_or_the_documented_error(environ: dict[str, str]) -> None:
    try:
        settings = Settings.from_environ(environ)
    except InvalidSettings:
        return
    assert len(settings.instance_id) == 36
