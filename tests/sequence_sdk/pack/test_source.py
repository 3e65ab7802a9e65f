"""What is packed of a folder with a ``package.json``, of one with a ``pyproject.toml``, and of a single file."""

import json
import tarfile
from pathlib import Path

import pytest

from sequence_sdk.pack import PackResult, default_output, pack
from sequence_sdk.pack.archive import output_id
from sequence_sdk.pack.errors import (
    MainLeftOut,
    MainNotFound,
    ManifestNotFound,
    NameNotUtf8,
    NotAFolder,
    NotMarked,
    OutputIsSource,
    SourceErrors,
)
from sequence_sdk.pack.source import is_single, read_source

MARKED = """
from collections.abc import AsyncIterator
from sequence_sdk import sequence

@sequence
async def shout(input: AsyncIterator[str]) -> AsyncIterator[str]:
    yield ""
"""


def packed(result: PackResult) -> dict[str, object]:
    with tarfile.open(result.path) as tar:
        return json.load(tar.extractfile("package.json"))


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "shout"\nversion = "1"\n[tool.sequence]\nexclude = ["tests/"]\n'
    )
    (folder / "main.py").write_text("def run(context, input): ...\n")
    (folder / "tests").mkdir()
    (folder / "tests/test_main.py").touch()
    return folder


def test_a_project_is_packed_with_the_manifest_that_is_made_of_it(project):
    result = pack(project, bare=True)
    assert result.files == ("main.py", "package.json", "pyproject.toml")
    assert [(entry.name, entry.rule) for entry in result.entries] == [
        ("main.py", "being what is started"),
        ("package.json", "being the manifest"),
        ("pyproject.toml", "being in the folder"),
    ]
    assert packed(result) == {
        "name": "shout",
        "version": "1",
        "engines": {"python3": ">=3.11"},
        "main": "main.py",
    }
    assert [out.name for out in result.left_out] == ["tests"]
    assert sorted(path.name for path in project.iterdir()) == ["main.py", "pyproject.toml", "tests"]


def test_the_schema_of_a_project_goes_into_the_manifest_that_is_made(project):
    (project / "main.py").write_text(MARKED)
    result = pack(project)
    assert result.no_schema == ""
    assert packed(result)["name"] == "shout"
    assert packed(result)["scramjet"]["schema"]["input"] == {"type": "string"}


def test_with_a_package_json_the_project_is_not_asked(project):
    (project / "package.json").write_text('{"main": "main.py", "name": "other"}')
    (project / "pyproject.toml").write_text(
        '[project]\nname = "not this"\n[tool.sequence]\nmain = "nor this"'
    )
    assert packed(pack(project)) == {"main": "main.py", "name": "other"}


def test_a_package_json_that_is_no_file_is_told_and_not_replaced(project):
    (project / "package.json").mkdir()
    with pytest.raises(ManifestNotFound):
        read_source(project)


def test_a_main_that_is_not_there_or_left_out_is_told_with_the_file_that_names_it(project):
    (project / "pyproject.toml").write_text('[tool.sequence]\nmain = "gone.py"')
    with pytest.raises(MainNotFound, match=r'pyproject\.toml: "main" is gone\.py'):
        pack(project)
    (project / "pyproject.toml").write_text('[tool.sequence]\nmain = "main.py"\ninclude = ["lib/"]')
    with pytest.raises(MainLeftOut, match=r"not being named by tool\.sequence\.include leaves it out"):
        pack(project)


def test_the_archive_does_not_replace_the_project_it_is_made_of(project):
    with pytest.raises(OutputIsSource):
        read_source(project, output_id(project / "pyproject.toml"))


def test_a_single_file_is_a_package(tmp_path):
    path = tmp_path / "loud.py"
    path.write_text('# /// script\n# dependencies = ["requests"]\n# ///\n"""Shouts."""\n' + MARKED)
    (tmp_path / "other.py").write_text("def (")
    result = pack(path, bare=True, dependencies=False)
    assert result.path == tmp_path / "loud.tar.gz"
    assert result.files == ("loud.py", "package.json")
    manifest = packed(result)
    assert manifest.pop("scramjet")["schema"]["output"] == {"type": "string"}
    assert manifest == {
        "name": "loud",
        "description": "Shouts.",
        "engines": {"python3": ">=3.11"},
        "main": "loud.py",
    }
    assert result.warnings == (
        "what loud.py names is not in the package; the Python of the hub must have it",
    )


def test_what_stands_beside_a_single_file_is_not_found_by_it(tmp_path):
    path = tmp_path / "loud.py"
    path.write_text("import neighbour\n" + MARKED)
    (tmp_path / "neighbour.py").touch()
    assert pack(path).no_schema == "ModuleNotFoundError: No module named 'neighbour'"


def test_a_single_file_that_compiles_not_or_has_no_sequence_is_refused(tmp_path):
    path = tmp_path / "loud.py"
    path.write_text("def (")
    with pytest.raises(SourceErrors):
        pack(path)
    path.write_text("x = 1")
    with pytest.raises(NotMarked):
        pack(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["loud.py"]


def test_the_archive_does_not_replace_the_single_file(tmp_path):
    path = tmp_path / "loud.py"
    path.write_text("run = 1")
    with pytest.raises(OutputIsSource):
        pack(path, path)
    assert path.read_text() == "run = 1"


def test_a_single_file_with_a_name_of_other_machines_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sequence_sdk.pack.source.is_single", lambda _path: True)
    with pytest.raises(NameNotUtf8):
        read_source(tmp_path / "\udce9.py")


def test_only_a_python_file_is_single(tmp_path):
    (tmp_path / "a.py").touch()
    (tmp_path / "a.txt").touch()
    (tmp_path / "folder.py").mkdir()
    assert is_single(tmp_path / "a.py")
    for name in ("a.txt", "folder.py", "gone.py"):
        assert not is_single(tmp_path / name)
    with pytest.raises(NotAFolder):
        pack(tmp_path / "a.txt")
    assert default_output(tmp_path / "folder.py") == tmp_path / "folder.py.tar.gz"
