"""Settings: what a file may say, what wins, and where a hub may listen."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.settings import Settings, SettingsError, default_data_dir, from_tree, is_loopback, read_file


def test_json_and_toml_say_the_same(tmp_path: Path) -> None:
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
    from_json = from_tree(read_file(tmp_path / "a.json"), where="a.json")
    assert from_json == from_tree(read_file(tmp_path / "a.toml"), where="a.toml")
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


def test_every_key_of_a_file_reaches_its_setting() -> None:
    tree = {
        "host": {"hostname": "h", "port": 1, "instancesServerPort": 2, "id": "i"},
        "dataDir": "/d",
        "insecure": True,
        "timings": {
            "instanceLifetimeExtensionDelay": 1000, "startTimeout": 2000, "answerStartAfter": 3000,
            "shutdownTimeout": 4000, "stallTimeout": 5000.5,
        },
        "streams": {"windowBytes": 6},
        "limits": {"bodyBytes": 7, "packedBytes": 8, "unpackedBytes": 9, "entries": 10},
    }  # fmt: skip
    found = from_tree(tree, where="f")
    limits = replace(found.package_limits, max_packed_bytes=8, max_unpacked_bytes=9, max_entries=10)
    assert found == Settings(
        hostname="h", port=1, instances_port=2, hub_id="i", data_dir=Path("/d"), insecure=True, instance_lifetime=1,
        start_timeout=2, answer_start_after=3, shutdown_timeout=4, stall_timeout=5.0005, window_bytes=6,
        max_body_bytes=7, package_limits=limits,
    )  # fmt: skip


def test_a_data_folder_may_start_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert from_tree({"dataDir": "~/hub"}, where="f").data_dir == tmp_path / "hub"


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"host": {"prt": 1}}, "unknown key 'host.prt'; did you mean 'host.port'?"),
        ({"timings": {"startTimout": 1}}, "did you mean 'timings.startTimeout'?"),
        ({"xyzzy": 1}, "unknown key 'xyzzy'; known are host.hostname"),
        ({"host": 1}, "unknown key 'host'"),
        ({"host": {"port": {"deep": 1}}}, "unknown key 'host.port.deep'"),
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
