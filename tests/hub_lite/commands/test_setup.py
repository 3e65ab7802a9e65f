"""``hub-lite setup node``: with stand-ins for node and npm that do what a test says, in processes of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hub_lite.adapters.runners import Runners
from hub_lite.settings import Settings

DEADLINE = 30.0  # seconds
NPM = """#!/bin/sh
echo "$@" >>"{folder}/asked"
[ "$1 $2" = "install --prefix" ] || exit 9
package="$3/node_modules/@scramjet/runner"
mkdir -p "$package/bin"
echo '{{"version": "'"${{4##*@}}"'"}}' >"$package/package.json"
{then}
"""
WHOLE = 'echo "added 1 package"; echo "// $4" >"$package/bin/start-runner.js"'


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for the PATH, with a node and an npm that installs."""
    folder = tmp_path / "programs"
    folder.mkdir()
    make_program(folder / "node", "#!/bin/sh\n")
    make_npm(folder, WHOLE)
    return folder


def make_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o700)


def make_npm(folder: Path, then: str) -> None:
    make_program(folder / "npm", NPM.format(folder=folder, then=then))


def words_and_environment(programs: Path, *options: str, **environ: str) -> tuple[list[str], dict[str, str]]:
    environment = {**os.environ, "PATH": f"{programs}:/usr/bin:/bin", **environ}
    return [sys.executable, "-m", "hub_lite", "setup", "node", *options], environment


def setup(programs: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    words, environment = words_and_environment(
        programs, "--data-dir", str(data(programs)), *options, **environ
    )
    return subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def data(programs: Path) -> Path:
    return programs.parent / "data"


def left(programs: Path) -> set[str]:
    """Return what is in the data directory, but for the lock."""
    return {path.name for path in data(programs).iterdir()} - {"node.lock"}


def version(programs: Path) -> str:
    """Return the version whose entry file a hub would run."""
    return Runners.of(Settings(data_dir=data(programs)))._node_entry().read_text().strip()


def asked(programs: Path) -> list[str]:
    return (programs / "asked").read_text().splitlines()


def test_the_runner_is_then_where_a_hub_looks_for_it(programs: Path) -> None:
    done = setup(programs)
    assert (done.returncode, done.stderr) == (0, "installing @scramjet/runner@0.18.7 with npm …\n")
    entry = data(programs) / "node/node_modules/@scramjet/runner/bin/start-runner.js"
    assert done.stdout == f"@scramjet/runner 0.18.7 is installed: {entry}\n"
    assert version(programs) == "// @scramjet/runner@0.18.7"
    assert asked(programs) == [
        f"install --prefix {data(programs)}/node.new @scramjet/runner@0.18.7 --no-audit --no-fund"
    ]
    assert left(programs) == {"node"}
    assert data(programs).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("options", [(), ("--version", "0.18.7")])
def test_a_second_time_it_says_that_it_is_there_and_asks_no_npm(
    programs: Path, options: tuple[str, ...]
) -> None:
    setup(programs)
    (programs / "npm").unlink()
    done = setup(programs, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("@scramjet/runner 0.18.7 is there: /")


def test_another_version_takes_its_place_when_it_is_asked_for(programs: Path) -> None:
    setup(programs)
    assert setup(programs, "--version", "0.30.1-rc.1").returncode == 0
    assert version(programs) == "// @scramjet/runner@0.30.1-rc.1"
    assert left(programs) == {"node"}
    assert "0.30.1-rc.1 is there" in setup(programs).stdout


@pytest.mark.parametrize("text", ["latest", "1.2", "--prefix", "1.2.3 -g", ""])
def test_what_is_no_whole_version_never_comes_to_npm(programs: Path, text: str) -> None:
    done = setup(programs, f"--version={text}")
    assert done.returncode == 2
    assert f"must be a whole version such as 0.18.7, not {text!r}" in done.stderr
    assert not (programs / "asked").exists()


def test_the_data_directory_is_that_of_the_settings_if_none_is_said(programs: Path) -> None:
    words, environment = words_and_environment(programs, HUB_LITE_DATA_DIR=str(programs.parent / "elsewhere"))
    subprocess.run(words, env=environment, capture_output=True, check=True, timeout=DEADLINE)
    assert (programs.parent / "elsewhere/node/node_modules/@scramjet/runner/bin/start-runner.js").is_file()


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("node", "there is no `node` on your PATH: install Node.js"),
        ("npm", "there is no `npm` on your PATH, though there is `node`: install npm"),
    ],
)
def test_without_node_or_npm_the_sentence_says_what_to_install(programs: Path, gone: str, said: str) -> None:
    (programs / gone).unlink()
    done = setup(programs, PATH=str(programs))
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert not data(programs).exists()


def test_when_npm_fails_it_is_shown_what_it_said_and_nothing_is_left(programs: Path) -> None:
    make_npm(programs, 'echo "out"; echo "E404 no such version" >&2; exit 3')
    done = setup(programs)
    assert (done.returncode, done.stdout) == (1, "")
    assert "has failed with status 3:\nout\nE404 no such version\n" in done.stderr
    assert (
        f"`{programs}/npm install --prefix {data(programs)}/node.new @scramjet/runner@0.18.7" in done.stderr
    )
    assert left(programs) == set()


def test_when_npm_fails_the_version_that_was_there_stays(programs: Path) -> None:
    setup(programs)
    make_npm(programs, "exit 1")
    assert setup(programs, "--version", "9.9.9").returncode == 1
    assert version(programs) == "// @scramjet/runner@0.18.7"
    assert left(programs) == {"node"}


def test_a_package_without_the_entry_file_is_not_taken(programs: Path) -> None:
    make_npm(programs, "")
    done = setup(programs)
    assert done.returncode == 1
    assert "there is no file node_modules/@scramjet/runner/bin/start-runner.js in it" in done.stderr
    assert left(programs) == set()


def test_npm_is_heard_when_all_is_to_be_shown_and_only_then(programs: Path) -> None:
    assert "added 1 package" not in setup(programs).stderr
    done = setup(programs, "-v", "--version", "0.18.8")
    assert "added 1 package" in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_half_of_an_install_is_replaced_and_what_a_killed_setup_left_is_cleared_away(programs: Path) -> None:
    for half in ("node/node_modules/@scramjet/runner", "node.new/node_modules", "node.old/x"):
        (data(programs) / half).mkdir(parents=True)
    assert setup(programs).returncode == 0
    assert version(programs) == "// @scramjet/runner@0.18.7"
    assert left(programs) == {"node"}


def test_a_folder_that_is_a_link_is_replaced_and_what_it_leads_to_stays(programs: Path) -> None:
    theirs = programs.parent / "theirs"
    (theirs / "kept").mkdir(parents=True)
    data(programs).mkdir()
    (data(programs) / "node").symlink_to(theirs)
    assert setup(programs).returncode == 0
    assert left(programs) == {"node"}
    assert (theirs / "kept").is_dir()


def test_ctrl_c_leaves_no_half_install_and_two_do_not_work_at_once(programs: Path) -> None:
    npm_works = programs.parent / "npm works"
    os.mkfifo(npm_works)
    make_npm(programs, f'{WHOLE}\necho >"{npm_works}"\nexec sleep 60')
    words, environment = words_and_environment(programs, "--data-dir", str(data(programs)))
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as working:
        npm_works.read_text()
        second = setup(programs)
        os.killpg(working.pid, signal.SIGINT)
        assert working.wait(DEADLINE) == 130
    assert second.returncode == 1
    assert f"another `hub-lite setup node` is at work in {data(programs)}" in second.stderr
    assert left(programs) == set()
    make_npm(programs, WHOLE)
    assert setup(programs).returncode == 0


def test_the_help_lists_what_can_be_set_up() -> None:
    words = [sys.executable, "-m", "hub_lite", "setup", "--help"]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=DEADLINE).stdout
    assert "node  The runner of Node Sequences." in said
