"""Which command runs which Sequence: by its language, by what is installed, by what the settings name."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hub_lite.adapters.interpreters import Interpreters
from hub_lite.adapters.runners import Runners
from hub_lite.errors import BadRequest
from hub_lite.ports import Launch, StoredSequence
from hub_lite.settings import Settings, SettingsError, from_tree
from sequence_sdk.manifest import Manifest

ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"
PYTHON = {"python3": "*"}
NODE = {"node": "*"}


def launch_of(folder: Path, main: str = "main.py", **engines: str) -> Launch:
    sequence = StoredSequence("s" * 36, Manifest(main=main, engines=engines), folder, 1, "0" * 64, 0.0)
    return Launch(ID, sequence, {})


def program(folder: Path, name: str) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o700)
    return str(path)


def entry(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


async def test_a_python_sequence_runs_with_our_runner(tmp_path: Path) -> None:
    environment = {"PATH": "/bin", "PYTHONPATH": "/p"}
    command = await Runners(python=tmp_path / "gone").command(launch_of(tmp_path, **PYTHON), environment)
    assert command.words == (sys.executable, "-P", "-m", "runner")
    assert command.environment == environment
    assert not command.early_log


async def test_a_python_sequence_runs_in_another_python_if_it_asks_for_one(tmp_path: Path) -> None:
    python = program(tmp_path / "programs", "python3.30")
    Path(python).write_text("#!/bin/sh\nprintf '3 30 1 %s' \"$0\"\n")
    environment = {"PATH": str(tmp_path / "programs")}
    runners = Runners(interpreters=Interpreters(home=tmp_path / "home"))
    command = await runners.command(launch_of(tmp_path, python3=">=3.30"), environment)
    assert command.words == (python, "-P", "-m", "runner")
    assert command.environment == {**environment, "PYTHONPATH": str(tmp_path / "home")}


# --- Node -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["runner", "runner/bin/start-runner.js"])
async def test_a_node_sequence_runs_with_the_runner_that_is_named(tmp_path: Path, named: str) -> None:
    start = entry(tmp_path / "runner/bin/start-runner.js")
    node = program(tmp_path / "programs", "node")
    environment = {"PATH": str(tmp_path / "programs")}
    runners = Runners(node=tmp_path / named, node_home=tmp_path)
    command = await runners.command(launch_of(tmp_path, "index.js", **NODE), environment)
    assert (command.words, command.environment) == ((node, str(start)), environment)
    assert not command.early_log


async def test_by_the_suffix_alone_it_is_node_and_the_runner_is_found_where_npm_has_put_it(
    tmp_path: Path,
) -> None:
    start = entry(tmp_path / "node/node_modules/@scramjet/runner/bin/start-runner.js")
    node = program(tmp_path / "programs", "node")
    runners = Runners.of(Settings(data_dir=tmp_path))
    command = await runners.command(launch_of(tmp_path, "a.js"), {"PATH": str(tmp_path / "programs")})
    assert command.words == (node, str(start))


async def test_paths_are_absolute_for_the_process_has_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entry(tmp_path / "runner/bin/start-runner.js")
    entry(tmp_path / "runner.py")
    program(tmp_path / "programs", "node")
    environment = {"PATH": "programs"}
    command = await Runners(node=Path("runner")).command(launch_of(tmp_path, "a.js"), environment)
    assert command.words == (f"{tmp_path}/programs/node", f"{tmp_path}/runner/bin/start-runner.js")
    python = Runners(python=Path("runner.py"), python_for="original", python_interpreter="programs/node")
    command = await python.command(launch_of(tmp_path), environment)
    assert command.words == (f"{tmp_path}/programs/node", f"{tmp_path}/runner.py")


async def test_main_may_leave_out_the_suffix_that_says_that_it_is_for_node(tmp_path: Path) -> None:
    start = entry(tmp_path / "runner.js")
    node = program(tmp_path / "programs", "node")
    runners, environment = Runners(node=start), {"PATH": str(tmp_path / "programs")}
    with pytest.raises(BadRequest, match="no runner for language 'unknown'"):
        await runners.command(launch_of(tmp_path, "index"), environment)
    (tmp_path / "index.js").touch()
    command = await runners.command(launch_of(tmp_path, "index"), environment)
    assert command.words == (node, str(start))


async def test_a_hub_for_the_time_being_uses_the_runner_that_others_have(tmp_path: Path) -> None:
    start = entry(tmp_path / "others/node_modules/@scramjet/runner/bin/start-runner.js")
    node = program(tmp_path / "programs", "node")
    runners = Runners.of(Settings(data_dir=tmp_path / "own", node_home=tmp_path / "others"))
    command = await runners.command(launch_of(tmp_path, "a.js"), {"PATH": str(tmp_path / "programs")})
    assert command.words == (node, str(start))


@pytest.mark.parametrize("has_node", [True, False])
async def test_without_the_package_the_sentence_says_how_to_install_it(
    tmp_path: Path, has_node: bool
) -> None:
    if has_node:
        program(tmp_path / "programs", "node")
    with pytest.raises(BadRequest) as caught:
        await Runners(node_home=tmp_path / "node").command(
            launch_of(tmp_path, "a.js"), {"PATH": str(tmp_path / "programs")}
        )
    assert f"run `hub-lite setup node --data-dir {tmp_path}`" in str(caught.value)
    assert ("runners.node" in str(caught.value)) is has_node
    assert ("when you have installed Node.js (https://nodejs.org, " in str(caught.value)) is not has_node


@pytest.mark.parametrize("named", ["gone", "gone.js", "empty"])
async def test_a_named_runner_that_is_not_there_is_said_so(tmp_path: Path, named: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        BadRequest, match=f"runners.node names .*{named}, but there is no file .*@scramjet/runner"
    ):
        await Runners(node=tmp_path / named).command(launch_of(tmp_path, "a.js"), {})


async def test_without_node_the_sentence_says_that(tmp_path: Path) -> None:
    start = entry(tmp_path / "start-runner.js")
    with pytest.raises(BadRequest, match=r"need Node\.js, and there is no `node` on the PATH"):
        await Runners(node=start).command(launch_of(tmp_path, "a.js"), {"PATH": str(tmp_path)})


# --- the original Python runner ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["", "runner.py"])
async def test_a_python_sequence_runs_with_the_original_runner_if_that_is_chosen(
    tmp_path: Path, named: str
) -> None:
    start = entry(tmp_path / "runner.py")
    python = program(tmp_path / "programs", "python3")
    runners = Runners(python=tmp_path / named, python_for="original")
    environment = {"PATH": str(tmp_path / "programs"), "PYTHONPATH": "/own"}
    command = await runners.command(launch_of(tmp_path / "package"), environment)
    assert command.words == (python, str(start))
    assert command.early_log
    assert command.environment["PYTHONPATH"].split(os.pathsep) == [
        str(tmp_path), f"{tmp_path}/__pypackages__", "/own", f"{tmp_path}/package/__pypackages__",
    ]  # fmt: skip


async def test_without_a_path_of_the_hub_there_is_no_empty_part_which_would_be_the_working_directory(
    tmp_path: Path,
) -> None:
    entry(tmp_path / "runner.py")
    runners = Runners(python=tmp_path, python_for="original", python_interpreter=sys.executable)
    command = await runners.command(launch_of(tmp_path), {"PATH": "", "PYTHONPATH": ""})
    assert len(command.environment["PYTHONPATH"].split(os.pathsep)) == 3


@pytest.mark.parametrize(
    ("runners", "said"),
    [
        ({}, 'pythonFor is "original", so runners.python must name an installed @scramjet/python-runner'),
        ({"python": Path("/gone")}, "runners.python names /gone, but there is no file /gone"),
        ({"python": Path(__file__), "python_interpreter": "python0"}, "no program 'python0'.*3.8 to 3.10"),
    ],
)
async def test_what_the_original_runner_misses_is_said(
    tmp_path: Path, runners: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadRequest, match=said):
        await Runners(python_for="original", **runners).command(launch_of(tmp_path), {"PATH": "/bin"})


# --- for all ----------------------------------------------------------------------------------------------------------


async def test_the_operators_variables_win_over_all_others(tmp_path: Path) -> None:
    entry(tmp_path / "runner.py")
    chosen = {"PYTHONPATH": "/mine", "INSTANCE_ID": "x", "MORE": "y"}
    given = {"PATH": "/bin", "PYTHONPATH": "/p", "INSTANCE_ID": ID}
    for runners in (
        Runners(environment=chosen),
        Runners(
            environment=chosen, python=tmp_path, python_for="original", python_interpreter=sys.executable
        ),
    ):
        command = await runners.command(launch_of(tmp_path), given)
        assert command.environment == {"PATH": "/bin", **chosen}


async def test_the_path_of_the_operator_is_where_node_is_looked_for(tmp_path: Path) -> None:
    start = entry(tmp_path / "start-runner.js")
    node = program(tmp_path / "programs", "node")
    runners = Runners(node=start, environment={"PATH": str(tmp_path / "programs")})
    command = await runners.command(launch_of(tmp_path, "a.js"), {"PATH": "/gone"})
    assert command.words[0] == node


def test_the_settings_name_the_runners(tmp_path: Path) -> None:
    tree = {
        "dataDir": str(tmp_path),
        "runners": {
            "node": "/n",
            "python": "~/p",
            "pythonInterpreter": "python3.10",
            "pythonFor": "original",
            "pythons": ["/q", "~/r"],
        },
        "runnerEnvs": {"A": "1"},
    }
    assert Runners.of(from_tree(tree, where="the test")) == Runners(
        node=Path("/n"),
        node_home=tmp_path / "node",
        python=Path.home() / "p",
        python_interpreter="python3.10",
        python_for="original",
        interpreters=Interpreters((Path("/q"), Path.home() / "r"), tmp_path / "python"),
        environment={"A": "1"},
    )


@pytest.mark.parametrize(
    ("tree", "key"),
    [
        ({"runners": {"pythonFor": "theirs"}}, "runners.pythonFor"),
        ({"runners": {"node": 1}}, "runners.node"),
        ({"runners": {"pythons": "/a"}}, "runners.pythons"),
        ({"runners": {"pythons": ["/a", ""]}}, "runners.pythons"),
        ({"runners": {"pythons": ["/a\0"]}}, "runners.pythons"),
        ({"runnerEnvs": {"A": 1}}, "runnerEnvs"),
        ({"runnerEnvs": {"A=B": "1"}}, "runnerEnvs"),
        ({"runnerEnvs": {"": "1"}}, "runnerEnvs"),
        ({"runnerEnvs": {"A": "\0"}}, "runnerEnvs"),
        ({"runnerEnvs": {"A": "\ud800"}}, "runnerEnvs"),
    ],
)
def test_settings_that_no_runner_could_be_started_with_are_refused(tree: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError, match=f"'{key}' must be"):
        from_tree(tree, where="the test")


def test_null_is_no_runner() -> None:
    assert (
        from_tree({"runners": {"node": None, "python": None}, "runnerEnvs": {}}, where="the test")
        == Settings()
    )
