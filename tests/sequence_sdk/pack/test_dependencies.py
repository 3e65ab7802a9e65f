"""The dependencies that a Sequence declares, and what comes of them."""

import importlib.metadata
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.pack import dependencies
from sequence_sdk.pack.dependencies import Declared, normalised, resolved
from sequence_sdk.pack.errors import (
    BadDependencies,
    DependenciesNotFound,
    FileUnreadable,
    NoInstaller,
    TargetExcluded,
)
from sequence_sdk.pack.installers import Installer, Pip, Uv, find_installer
from sequence_sdk.pack.source import Source, read_source
from sequence_sdk.pack.target import Target
from sequence_sdk.pack.wheels import check_wheels, misfits

from .wheelhouse import wheel

HERE = Target()
ARM = Target("3.12", "linux-aarch64")
PIP = Pip(importlib.metadata.version("pip"))
FOUND = find_installer()
UV = FOUND if isinstance(FOUND, Uv) else Uv(("uv",))
TOOLS = pytest.mark.parametrize(
    "tool",
    [
        PIP,
        pytest.param(UV, marks=pytest.mark.skipif(UV is not FOUND, reason="uv is not installed")),
    ],
    ids=["pip", "uv"],
)
MANIFEST = '{"main": "main.py", "engines": {"python3": ">=3.11"}}'


@pytest.fixture
def demo(tmp_path) -> Path:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "package.json").write_text(MANIFEST)
    (folder / "main.py").write_text("def run(context, input): ...\n")
    return folder


@pytest.fixture
def wheels(tmp_path) -> Path:
    """A folder of wheels: sc-alpha needs sc-beta and has programs, sc-native is for one machine."""
    folder = tmp_path / "wheels"
    wheel(
        folder,
        "sc_alpha",
        requires=["sc-beta>=1"],
        scripts="sc-alpha = sc_alpha:main",
        files={
            "sc_alpha-1.0.data/scripts/sc-script": "#!python\nprint(1)\n",
            "sc_alpha-1.0.data/scripts/sc-program": "\x7fELF and more",
            "sc_alpha-1.0.data/data/share/sc.txt": "shared",
        },
    )
    wheel(folder, "sc_beta")
    wheel(folder, "sc_native", tag="cp312-cp312-manylinux_2_28_aarch64")
    wheel(folder, "sc_hungry", requires=["hub-lite"])
    wheel(folder, "hub_lite")
    return folder


def declared_in(source: Source) -> Declared:
    found = dependencies.declared_in(source)
    assert found is not None
    return found


def require(folder: Path, *lines: str) -> Source:
    text = "".join(f"{line}\n" for line in ("--no-index", "--find-links ../wheels", *lines))
    (folder / "requirements.txt").write_text(text)
    return read_source(folder)


def contents(source: Source, tool: Installer, target: Target = HERE) -> dict[str, bytes]:
    with resolved(source, target, installer=tool) as found:
        check_wheels(found.entries, target)
        assert {entry.rule for entry in found.entries} == {declared_in(source).file}
        assert [entry.name for entry in found.entries] == sorted(entry.name for entry in found.entries)
        files = {
            entry.name: entry.path.read_bytes() if entry.content is None else entry.content
            for entry in found.entries
        }
        assert [entry.bytes for entry in found.entries] == [len(content) for content in files.values()]
    assert not any(entry.path.exists() for entry in found.entries)
    return files


@dataclass(frozen=True)
class Fake:
    """An installer that runs a script of ours, which gets the folder and the requirements as arguments."""

    script: str = ""
    name: str = "fake"
    reads_pylock: bool = True
    reads_markers_for_target: bool = True
    program: str = sys.executable

    def command(self, requirements: list[str], into: Path, target: Target) -> list[str]:
        return [self.program, "-c", self.script, str(into), *requirements]

    def environment(self, target: Target) -> dict[str, str]:
        return {"FOR": str(target)}


NEVER = Fake(program="/nothing/that/could/run")
KEEP = Fake(
    "import pathlib, sys; pathlib.Path(sys.argv[1], 'arguments').write_text('\\n'.join(sys.argv[2:]))"
)
COPY = Fake(
    "import pathlib, sys; pathlib.Path(sys.argv[1], 'copy').write_bytes(pathlib.Path(sys.argv[3]).read_bytes())"
)


def arguments(source: Source, tool: Installer = KEEP) -> list[str]:
    return contents(source, tool)["__pypackages__/arguments"].decode().splitlines()


# --- nothing to do ------------------------------------------------------------------------------------------------------


def assert_nothing_runs(source: Source, *notes: str) -> None:
    with resolved(source, HERE, installer=NEVER) as found:
        assert (found.entries, found.distributions, found.tool) == ((), (), "")
        assert found.notes == notes


def test_without_dependencies_nothing_runs(demo):
    assert_nothing_runs(read_source(demo))


@pytest.mark.parametrize(
    "text", ["", "# numpy\n\n", "--index-url https://index.example\n", "\ufeff -c c.txt"]
)
def test_a_file_of_requirements_that_has_none_runs_nothing(demo, text):
    (demo / "requirements.txt").write_text(text)
    assert_nothing_runs(read_source(demo))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_comment_that_ends_with_a_backslash_takes_no_line_with_it(demo, end):
    lines = ["# wheels are in C:\\", "numpy", "scipy \\", "  # of old \\", "pandas # in D:\\", ""]
    (demo / "requirements.txt").write_bytes(end.join(lines).encode())
    assert declared_in(read_source(demo)).requirements == ("numpy", "scipy", "pandas")


@pytest.mark.parametrize("text", ["", "[project]\n", "[project]\ndependencies = []\n"])
def test_a_project_without_dependencies_runs_nothing(demo, text):
    (demo / "pyproject.toml").write_text(text)
    assert_nothing_runs(read_source(demo))


@pytest.mark.parametrize(("name", "key"), [("uv.lock", "package"), ("pylock.toml", "packages")])
def test_an_empty_lock_file_runs_nothing(demo, name, key):
    (demo / "pyproject.toml").touch()
    (demo / name).write_text(f"{key} = []\n")
    assert_nothing_runs(read_source(demo))


def test_dependencies_that_lie_in_the_folder_are_left_as_they_are(demo, wheels):
    source = require(demo, "sc-alpha")
    (demo / "__pypackages__").mkdir()
    (demo / "__pypackages__" / "numpy.py").touch()
    assert_nothing_runs(read_source(demo))
    assert source.directory == demo


def test_a_sequence_in_javascript_has_none_of_these(demo, wheels):
    (demo / "package.json").write_text('{"main": "main.js", "engines": {"node": ">=18"}}')
    assert_nothing_runs(require(demo, "sc-alpha"))


def test_what_a_hub_brings_is_no_dependency(demo):
    (demo / "requirements.txt").write_text(
        "hub_lite[dev]>=0.1 ; python_version > '3'\nScramjet.Framework-py==1\nsequence-sdk"
    )
    assert_nothing_runs(
        read_source(demo),
        "hub-lite, which requirements.txt names, is left out: every hub brings it",
        "scramjet-framework-py, which requirements.txt names, is left out: every hub brings it",
        "sequence-sdk, which requirements.txt names, is left out: every hub brings it",
    )


def test_a_lock_file_of_another_tool_is_told_to_be_unread(demo):
    (demo / "poetry.lock").touch()
    note = "poetry.lock is not read; for the versions in it export it to requirements.txt"
    assert_nothing_runs(read_source(demo), note)
    (demo / "pyproject.toml").write_text('[project]\ndynamic = ["dependencies"]\n')
    assert_nothing_runs(
        read_source(demo),
        note,
        "pyproject.toml calls its dependencies dynamic; name them in requirements.txt",
    )


# --- what is declared ---------------------------------------------------------------------------------------------------


def test_the_first_file_that_says_it_counts(demo):
    (demo / "pyproject.toml").write_text('[project]\ndependencies = ["a<2", "hub-lite"]\n')
    source = read_source(demo)
    assert declared_in(source) == Declared(
        demo / "pyproject.toml",
        ("a<2",),
        ("hub-lite, which pyproject.toml names, is left out: every hub brings it",),
    )
    (demo / "requirements.txt").write_text("b \\\n  >= 1  # why\n")
    assert declared_in(source) == Declared(demo / "requirements.txt", ("b   >= 1",))
    (demo / "pylock.toml").write_text('[[packages]]\nname = "c"\n')
    assert declared_in(source) == Declared(demo / "pylock.toml")
    (demo / "uv.lock").write_text('[[package]]\nname = "d"\n[[package]]\nname = "Sequence_SDK"\n')
    assert declared_in(source) == Declared(
        demo / "uv.lock", (), ("sequence-sdk, which uv.lock names, is left out: every hub brings it",)
    )
    (demo / "pyproject.toml").unlink()  # a lock file without its project locks nothing
    assert declared_in(source).file == "pylock.toml"


def test_a_single_file_says_it_itself(tmp_path):
    (tmp_path / "requirements.txt").write_text("other")
    path = tmp_path / "shout.py"
    path.write_text("# /// script\n# dependencies = [\"a[x]<2; python_version > '3'\"]\n# ///\nrun = print\n")
    source = read_source(path)
    assert declared_in(source) == Declared(path, ("a[x]<2; python_version > '3'",))
    assert arguments(source) == ["--", "a[x]<2; python_version > '3'"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("pyproject.toml", "x", "it must be TOML, but it is not"),
        ("pyproject.toml", "project = 1", "project.dependencies must be a list of texts"),
        ("pyproject.toml", "[project]\ndependencies = [1]", "project.dependencies must be a list of texts"),
        (
            "pyproject.toml",
            '[project]\ndependencies = ["a b"]',
            "'a b' in its dependencies is no requirement: ",
        ),
        ("pylock.toml", "packages = 1", "packages must be a list of tables; make the file again"),
        ("pylock.toml", "packages = [1]", "packages must be a list of tables; make the file again"),
        ("requirements.txt", b"\xff", "it must be UTF-8, but it is not"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(demo, name, text, reason):
    (demo / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadDependencies) as caught:
        declared_in(read_source(demo))
    assert str(caught.value).startswith(f"{demo / name}: {reason}")


@given(st.text(max_size=60))
def test_any_text_is_a_file_of_requirements(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    (folder / "package.json").write_text(MANIFEST)
    (folder / "requirements.txt").write_bytes(text.encode(errors="replace"))
    found = declared_in(read_source(folder))
    assert all(line.strip() == line != "" for line in found.requirements)


def test_a_file_of_requirements_is_read_by_the_installer_itself(demo, wheels):
    assert arguments(require(demo, "sc-alpha")) == ["-r", "requirements.txt"]


def test_a_file_with_lines_to_leave_out_is_copied_and_its_paths_still_lead_there(demo, wheels):
    (demo / "more.txt").touch()
    source = require(
        demo,
        "hub-lite",
        "-r more.txt",
        "-rmore.txt",
        "--constraint=none.txt",
        "-e ./part",
        "--editable=./b",
        "x",
    )
    copied = contents(source, COPY)["__pypackages__/copy"].decode().splitlines()
    assert copied == [
        "--no-index",
        f"--find-links {demo / '../wheels'}",
        f"-r {demo / 'more.txt'}",
        f"-r {demo / 'more.txt'}",
        "--constraint=none.txt",
        "./part",
        "./b",
        "x",
    ]


def test_the_copy_is_utf_8_whatever_the_language_of_the_machine(demo):
    (demo / "requirements.txt").write_text("hub-lite\n./tëil\n", "utf-8")
    code = """
import pathlib, sys
from sequence_sdk.pack.source import read_source
from tests.sequence_sdk.pack.test_dependencies import COPY, contents
sys.stdout.buffer.write(contents(read_source(pathlib.Path(sys.argv[1])), COPY)["__pypackages__/copy"])
"""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run(
        [sys.executable, "-c", code, demo],
        env={**os.environ, **ascii_only},
        capture_output=True,
        check=False,
    )
    assert (run.stdout.decode(), run.stderr) == ("./tëil\n", b"")


def test_a_lock_file_of_the_standard_goes_to_an_installer_that_reads_it(demo):
    (demo / "pylock.toml").write_text('[[packages]]\nname = "a"\n')
    source = read_source(demo)
    assert arguments(source) == ["-r", "pylock.toml"]
    with (
        pytest.raises(
            BadDependencies, match=r"pylock\.toml: this pip does not read it; install uv, or pip 26\.1"
        ),
        resolved(source, HERE, installer=Fake(reads_pylock=False)),
    ):
        pass


# A stand-in for uv: `export` writes its arguments down, and `pip install` copies the file that it is to read.
FAKE_UV = """
import pathlib, sys
words = sys.argv[1:]
if words[0] == "export":
    pathlib.Path(words[words.index("--output-file") + 1]).write_text("\\n".join(words))
else:
    into = words[words.index("--target") + 1]
    pathlib.Path(into, "locked").write_bytes(pathlib.Path(words[-1]).read_bytes())
"""


def test_a_lock_file_of_uv_is_exported_by_uv_without_what_a_hub_brings(demo):
    (demo / "pyproject.toml").touch()
    (demo / "uv.lock").write_text('[[package]]\nname = "a"\n')
    source = read_source(demo)
    words = (
        contents(source, Uv((sys.executable, "-c", FAKE_UV)))["__pypackages__/locked"].decode().split("\n")
    )
    assert words[:2] == ["export", "--frozen"]
    assert {"hub-lite", "sequence-sdk", "scramjet-framework-py"} <= set(words)
    with (
        pytest.raises(BadDependencies, match=r"uv\.lock: fake does not read it; install uv, which does"),
        resolved(source, HERE, installer=KEEP),
    ):
        pass


# --- bringing it --------------------------------------------------------------------------------------------------------


@TOOLS
def test_dependencies_come_with_theirs_and_without_what_tells_where_they_were_installed(demo, wheels, tool):
    files = contents(require(demo, "sc-alpha"), tool)
    assert sorted(name.removeprefix("__pypackages__/") for name in files) == [
        "bin/sc-program",
        "sc_alpha-1.0.dist-info/METADATA",
        "sc_alpha-1.0.dist-info/RECORD",
        "sc_alpha-1.0.dist-info/WHEEL",
        "sc_alpha-1.0.dist-info/entry_points.txt",
        "sc_alpha/__init__.py",
        "sc_beta-1.0.dist-info/METADATA",
        "sc_beta-1.0.dist-info/RECORD",
        "sc_beta-1.0.dist-info/WHEEL",
        "sc_beta/__init__.py",
        "share/sc.txt",
    ]
    record = files["__pypackages__/sc_alpha-1.0.dist-info/RECORD"].decode().splitlines()
    assert [row.partition(",")[0] for row in record] == [
        "bin/sc-program",
        "sc_alpha-1.0.dist-info/METADATA",
        "sc_alpha-1.0.dist-info/RECORD",
        "sc_alpha-1.0.dist-info/WHEEL",
        "sc_alpha-1.0.dist-info/entry_points.txt",
        "sc_alpha/__init__.py",
        "share/sc.txt",
    ]
    assert record[2] == "sc_alpha-1.0.dist-info/RECORD,,"


@pytest.mark.skipif(UV is not FOUND, reason="uv is not installed")
def test_uv_and_pip_bring_the_same_bytes(demo, wheels):
    source = require(demo, "sc-alpha", "../wheels/sc_beta-1.0-py3-none-any.whl")
    assert contents(source, UV) == contents(source, PIP)
    with resolved(source, HERE, installer=UV) as one, resolved(source, HERE, installer=PIP) as other:
        modes = [[entry.path.stat().st_mode & 0o100 for entry in found.entries] for found in (one, other)]
        assert modes[0] == modes[1]


@TOOLS
def test_for_another_machine_the_wheel_of_that_machine_is_taken(demo, wheels, tool):
    source = require(demo, "sc-native")
    with resolved(source, ARM, installer=tool) as found:
        assert [one.tags for one in found.distributions] == [("cp312-cp312-manylinux_2_28_aarch64",)]
        assert found.tool == tool.name
        assert misfits(found.entries, ARM) == []
        assert len(misfits(found.entries, Target("3.12", "linux-x86_64"))) == 1
        assert [note.partition(" ")[0] for note in found.notes] == ([] if tool.name == "uv" else ["pip"])


@TOOLS
def test_a_wheel_that_is_not_there_for_the_target_is_told_with_both(demo, wheels, tool):
    source = require(demo, "sc-native")
    target = Target("3.12", "linux-x86_64")
    with pytest.raises(DependenciesNotFound) as caught, resolved(source, target, installer=tool):
        pass
    text = str(caught.value)
    assert text.startswith(f"{demo / 'requirements.txt'}: sc-native ")
    assert "has no wheel for linux-x86_64 and Python 3.12; " in text
    assert f"\n  {tool.name} said:\n    " in text


@TOOLS
def test_what_a_dependency_needs_of_a_hub_is_left_out_of_the_result(demo, wheels, tool):
    with resolved(require(demo, "sc-hungry"), HERE, installer=tool) as found:
        assert [one.name for one in found.distributions] == ["sc_hungry"]
        assert {entry.name.split("/")[1] for entry in found.entries} == {
            "sc_hungry",
            "sc_hungry-1.0.dist-info",
        }
        assert found.notes == ("hub-lite, which a dependency needs, is left out: every hub brings it",)


def test_what_is_run_is_told_before(demo):
    (demo / "requirements.txt").write_text("a")
    told = []
    with resolved(read_source(demo), ARM, tell=told.append, installer=KEEP) as found:
        assert found.tool == "fake"
    assert told == ["installing what requirements.txt names with fake, for linux-aarch64 and Python 3.12"]


def test_an_installer_that_cannot_be_started_is_told(demo):
    (demo / "requirements.txt").write_text("a")
    with (
        pytest.raises(
            DependenciesNotFound,
            match=r"txt: fake cannot be started: No such file or directory; install it again$",
        ),
        resolved(read_source(demo), HERE, installer=NEVER),
    ):
        pass


def test_without_an_installer_there_is_a_way_out(demo, monkeypatch):
    (demo / "requirements.txt").write_text("a")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "path", [])
    for name in ("uv", "pip"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with (
        pytest.raises(NoInstaller, match=r"neither uv nor pip .* install uv, or pack with --no-deps"),
        resolved(read_source(demo), HERE),
    ):
        pass


@pytest.mark.parametrize("lines", [(), ("a",)], ids=["none", "some"])
def test_a_python_that_the_manifest_excludes_is_refused_by_name(demo, lines):
    source = require(demo, *lines)
    with pytest.raises(TargetExcluded) as caught, resolved(source, Target("3.9"), installer=NEVER):
        pass
    assert str(caught.value) == (
        "--python is 3.9, but package.json says that it is for Python >=3.11; change one of the two"
    )


def test_a_python_that_nobody_named_is_only_refused_if_it_brings_dependencies(demo):
    (demo / "package.json").write_text('{"main": "main.py", "engines": {"python3": ">=3.99"}}')
    assert_nothing_runs(read_source(demo))
    with (
        pytest.raises(
            TargetExcluded, match=r"for Python >=3\.99, but the dependencies would be for .*name the one"
        ),
        resolved(require(demo, "a"), HERE, installer=NEVER),
    ):
        pass


# --- what is left of it -------------------------------------------------------------------------------------------------


def names_of(folder: Path, **files: str) -> list[str]:
    """Return what is left of files; in their names ``__`` stands for a slash and ``_dot_`` for a dot."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    entries, _ = normalised(folder, Declared(Path("requirements.txt")))
    return [entry.name.removeprefix("__pypackages__/") for entry in entries]


def test_programs_for_an_interpreter_of_this_machine_are_left_out_and_others_stay(tmp_path):
    names = names_of(
        tmp_path,
        bin__a="#!/usr/bin/python",
        bin__b="ELF",
        Scripts__c_dot_exe="MZ",
        a__bin__d="#!/bin/sh",
        _dot_lock="",
    )
    assert names == ["a/bin/d", "bin/b"]


def test_caches_are_left_out_wherever_they_are(tmp_path):
    folder = tmp_path / "a" / "__pycache__"
    folder.mkdir(parents=True)
    (folder / "b.pyc").touch()
    assert names_of(tmp_path, a__b_dot_py="") == ["a/b.py"]


@pytest.mark.parametrize("text", ["{", "[]", '{"dir_info": []}', '{"dir_info": {"editable": false}}'])
def test_where_a_dependency_comes_from_is_left_out(tmp_path, text):
    assert names_of(tmp_path, **{"a-1_dot_dist-info__direct_url_dot_json": text}) == []


def test_a_dependency_that_is_only_a_link_to_its_sources_is_refused(tmp_path):
    with pytest.raises(BadDependencies, match="a is named with -e, and so not copied; leave -e out"):
        names_of(tmp_path, **{"a-1_dot_dist-info__direct_url_dot_json": '{"dir_info": {"editable": true}}'})


def test_a_folder_that_cannot_be_listed_is_told(tmp_path):
    with pytest.raises(FileUnreadable):
        normalised(tmp_path / "gone", Declared(Path("requirements.txt")))
