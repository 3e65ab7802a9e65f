"""How uv and pip are called, how they are found, and what their last words mean."""

import importlib.metadata
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from packaging import tags

from sequence_sdk.pack.installers import Pip, Uv, find_installer, last_words, meaning, run, uv_platform
from sequence_sdk.pack.target import Target

HERE = Target()
ARM = Target("3.12", "linux-aarch64")
INTO = Path("into")


def said(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "output"
    path.write_text(text)
    return path


def test_here_uv_may_build_and_is_asked_for_this_interpreter():
    command = Uv(("uv",)).command(["-r", "requirements.txt"], INTO, HERE)
    assert command[:7] == ["uv", "pip", "install", "--target", "into", "--python", sys.executable]
    assert command[-2:] == ["-r", "requirements.txt"]
    assert "--only-binary" not in command
    assert "--python-platform" not in command


def test_elsewhere_uv_takes_wheels_only():
    command = " ".join(Uv(("uv",)).command(["--", "numpy"], INTO, ARM))
    assert command.endswith(
        "--only-binary :all: --python-version 3.12 --python-platform aarch64-manylinux_2_28 -- numpy"
    )
    assert "--python-platform" not in Uv(("uv",)).command([], INTO, Target("3.99"))


def test_uv_is_told_how_old_a_macos_may_be():
    uv = Uv(("uv",))
    assert uv.environment(Target("3.12", "macosx_14_0_arm64")) == {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
    assert uv.environment(HERE) == uv.environment(ARM) == {}


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("manylinux_2_17_x86_64", "x86_64-manylinux_2_17"),
        ("manylinux_2_30_aarch64", "aarch64-manylinux_2_28"),
        ("manylinux_2_99_aarch64", "aarch64-manylinux_2_40"),
        ("musllinux_1_2_x86_64", "x86_64-unknown-linux-musl"),
        ("macosx_13_0_arm64", "aarch64-apple-darwin"),
        ("win_amd64", "x86_64-pc-windows-msvc"),
        ("win_arm64", "aarch64-pc-windows-msvc"),
    ],
)
def test_uv_has_names_of_its_own_for_platforms(tag, name):
    assert uv_platform(tag) == name


def test_uv_makes_a_pylock_of_its_lock_file_without_what_the_hub_brings():
    command = " ".join(Uv(("uv",)).export(("hub-lite", "b"), Path("pylock.toml")))
    assert command.startswith("uv export --frozen --no-dev --no-emit-project ")
    assert (
        "--no-emit-package hub-lite --no-emit-package b --format pylock.toml --output-file pylock.toml"
        in command
    )


def test_here_pip_may_build_and_nothing_of_its_settings_sends_it_elsewhere():
    pip = Pip("26.1")
    command = pip.command(["--", "numpy"], INTO, HERE)
    assert command[:7] == [sys.executable, "-P", "-m", "pip", "install", "--target", "into"]
    assert "--only-binary" not in command
    assert pip.environment(HERE)["PIP_USER"] == "0"


def test_elsewhere_pip_is_told_every_platform_that_fits():
    command = Pip("26.1").command(["--", "numpy"], INTO, ARM)
    text = " ".join(command)
    assert "--only-binary :all: --python-version 3.12 --implementation cp --abi cp312" in text
    platforms = [command[at + 1] for at, word in enumerate(command) if word == "--platform"]
    assert platforms == ARM.platforms()
    assert set(Target("3.99").platforms()) == set(tags.platform_tags())


def test_pip_reads_a_pylock_since_one_version():
    assert [Pip(version).reads_pylock for version in ("23.2.1", "26.0", "26.1", "27.0")] == [
        False,
        False,
        True,
        True,
    ]


def test_uv_is_found_on_the_path_first(tmp_path, monkeypatch):
    program = tmp_path / "uv"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_installer() == Uv((str(program),))
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setenv("PATH", tmp_path.name)  # of which there is no such folder where it is to run
    assert find_installer() == Uv((str(program),))


@pytest.fixture
def modules(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in ("uv", "pip"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_uv_may_be_a_module_of_this_interpreter(modules):
    (modules / "uv.py").touch()
    assert find_installer() == Uv((sys.executable, "-P", "-m", "uv"))


def test_without_uv_it_is_pip_and_a_folder_of_that_name_is_no_uv(modules):
    (modules / "uv").mkdir()
    (modules / "pip").mkdir()
    (modules / "pip" / "__init__.py").touch()
    (modules / "pip-25.0.dist-info").mkdir()
    (modules / "pip-25.0.dist-info" / "METADATA").write_text("Name: pip\nVersion: 25.0\n")
    assert find_installer() == Pip(importlib.metadata.version("pip"))
    assert find_installer() == Pip("25.0")


def test_with_neither_there_is_none(modules):
    assert find_installer() is None


def test_a_command_runs_in_the_folder_with_more_variables_and_all_it_says_is_kept(tmp_path):
    code = "import os, sys; print(os.getcwd(), os.environ['MORE'], flush=True); sys.stderr.write('bad'); sys.exit(3)"
    output = tmp_path / "output"
    assert run([sys.executable, "-c", code], tmp_path, output, {"MORE": "much"}) == 3
    assert output.read_text() == f"{os.path.realpath(tmp_path)} much\nbad"


def test_ctrl_c_ends_the_command_and_what_it_has_started(tmp_path):
    os.mkfifo(tmp_path / "alive")
    child = "import time; alive = open('alive', 'w'); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    ends = []

    def interrupt() -> None:
        with (tmp_path / "alive").open("rb") as alive:  # from when the child has it open too
            os.kill(os.getpid(), signal.SIGINT)
            ends.append(alive.read())  # until no process has

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run([sys.executable, "-c", parent], tmp_path, tmp_path / "output", {})
    thread.join(30)
    assert ends == [b""]


def test_the_last_words_have_no_colours_and_no_passwords(tmp_path):
    lines = "".join(f"line {number}\n\n" for number in range(20))
    path = said(tmp_path, lines + "\x1b[31mfrom https://me:secret@index.example/simple\x1b[0m")
    words = last_words(path)
    assert len(words) == 12
    assert words[-2:] == ("line 19", "from https://****@index.example/simple")
    assert last_words(said(tmp_path, "in https://me:s@cr@t@index.example/a@b")) == (
        "in https://****@index.example/a@b",
    )


def test_what_it_means_has_no_passwords_either(tmp_path):
    text = "ERROR: No matching distribution found for a@ git+https://me:secret@example.org/a (from b)"
    assert meaning(said(tmp_path, text), "pip", HERE).startswith(
        "a@ git+https://****@example.org/a is not there"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "cause: Because numpy==2.0 has no wheels with a matching platform tag (e.g., `x`) and",
            f"numpy has no wheel for {ARM}; choose another version of it, or another target with --platform and --python",
        ),
        (
            "Because all versions of old-one\nhas no usable wheels",
            f"old-one has no wheel for {ARM}; choose another version of it, or another target with --platform and --python",
        ),
        (
            "error: Package `part` can't be installed because it is marked as `--no-build` but has no binary distribution",
            f"part has no wheel for {ARM}; choose another version of it, or another target with --platform and --python",
        ),
        (
            "Because zeta was not found in the package registry and you require",
            "there is no zeta; look at its name, and at the index that is asked",
        ),
        (
            "Because there is no version of beta==5 and you require beta==5",
            "there is no beta==5; look at its name and version",
        ),
        (
            "ERROR: No matching distribution found for beta>=5 (from a)\n",
            f"beta>=5 is not there, or has no wheel for {ARM}; look at its name and version, or name another target",
        ),
        (
            "error: Failed to fetch: `https://index.example/simple/`",
            "the index cannot be reached; look at the network, the proxy and the settings of pip",
        ),
        (
            "Failed to build `gamma==1.0`",
            "gamma has to be built, and that fails; install what it needs for that, or choose a version that has a wheel",
        ),
        (
            "error: subprocess-exited-with-error",
            "a dependency has to be built, and that fails; install what it needs for that, or choose a version that has a wheel",
        ),
        ("ERROR: Invalid requirement: 'a b'", "there is a line in it that is no requirement; correct it"),
        (
            "?",
            "pip cannot install what it names for linux-aarch64 and Python 3.12; read what it said, and change one of the two",
        ),
    ],
    ids=[
        "tag",
        "usable",
        "sources",
        "missing",
        "version",
        "pip",
        "network",
        "build",
        "pip-build",
        "line",
        "other",
    ],
)
def test_what_a_program_said_means_something(tmp_path, text, sentence):
    assert meaning(said(tmp_path, text), "pip", ARM) == sentence
