"""What is added to a package for the original Python runner."""

import ast
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sequence_sdk.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from sequence_sdk.pack.errors import BadManifest
from sequence_sdk.pack.files import Selection
from sequence_sdk.pack.original import (
    ENTRY_NAME,
    ORIGINAL_RULE,
    SDK_NAME,
    original_entries,
    sdk_archive,
)
from sequence_sdk.pack.source import read_source

MARKED = "from sequence_sdk import sequence\n\n\n@sequence\nasync def one(input):\n    yield 'one'\n"
CLASSIC = "async def run(context, input):\n    yield 'one'\n"


def added(folder: Path) -> tuple[Manifest, Selection]:
    source = read_source(folder)
    return original_entries(source.manifest, source.selection)


def folder_of(folder: Path, files: dict[str, str], **fields: object) -> Path:
    files = {"package.json": json.dumps({"main": "main.py", **fields}), **files}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


def content(selection: Selection, name: str) -> bytes:
    (found,) = [entry for entry in selection.entries if entry.name == name]
    assert found.content is not None
    assert found.bytes == len(found.content)
    return found.content


def test_a_marked_sequence_gets_an_entry_and_the_sdk(tmp_path: Path):
    manifest, selection = added(folder_of(tmp_path, {"main.py": MARKED}, version="1.2.3"))
    assert (manifest.main, manifest.original_entry, manifest.version) == ("main.py", ENTRY_NAME, "1.2.3")
    names = [entry.name for entry in selection.entries]
    assert names == sorted([ENTRY_NAME, SDK_NAME, "main.py", "package.json"])
    assert {entry.name for entry in selection.entries if entry.rule == ORIGINAL_RULE} == {
        ENTRY_NAME,
        SDK_NAME,
    }
    raw = content(selection, "package.json")
    assert json.loads(raw) == {
        "main": ENTRY_NAME,
        "version": "1.2.3",
        "scramjet": {"main": "main.py"},
    }
    assert parse_manifest(raw) == manifest


def test_what_the_manifest_says_of_scramjet_stays(tmp_path: Path):
    said = {"config": {"ports": ["8080/tcp"]}, "unknown": 1}
    manifest, selection = added(folder_of(tmp_path, {"main.py": MARKED}, scramjet=said))
    assert json.loads(content(selection, "package.json"))["scramjet"] == {**said, "main": "main.py"}
    assert manifest.ports == ("8080/tcp",)


@pytest.mark.parametrize(
    "files",
    [
        {"main.py": "import sequence_sdk\nrun = 1\n"},
        {"main.py": "from steps import run\n", "steps.py": "if 1:\n    from sequence_sdk import sequence\n"},
        {"main.py": "from library import whole\n"},
        {"main.py": "from steps import run\n", "steps/__init__.py": "from sequence_sdk.text import x\n"},
    ],
    ids=["imported whole", "in another file", "in a dependency", "in a folder"],
)
def test_it_is_seen_by_what_the_package_imports(tmp_path: Path, files: dict[str, str]):
    assert added(folder_of(tmp_path, files))[0].original_entry == ENTRY_NAME


@pytest.mark.parametrize(
    ("files", "fields"),
    [
        ({"main.py": CLASSIC}, {}),
        ({"main.py": CLASSIC + "# like sequence_sdk\nimport sequence_sdks\n"}, {}),
        ({"main.py": CLASSIC, "__pypackages__/one.py": "import sequence_sdk\n"}, {}),
        ({"main.js": "// run"}, {"main": "main.js"}),
    ],
    ids=["classic", "only named", "in a dependency of a classic one", "Node"],
)
def test_a_package_that_needs_none_stays_as_it_is(
    tmp_path: Path, files: dict[str, str], fields: dict[str, str]
):
    source = read_source(folder_of(tmp_path, files, **fields))
    assert original_entries(source.manifest, source.selection) == (source.manifest, source.selection)


def test_folders_are_no_files_to_look_into(tmp_path: Path):
    folder = folder_of(tmp_path, {"main.py": MARKED})
    (folder / "empty.py").mkdir()
    assert added(folder)[0].original_entry == ENTRY_NAME


def test_doing_it_twice_is_doing_it_once(tmp_path: Path):
    manifest, selection = added(folder_of(tmp_path, {"main.py": MARKED}))
    assert original_entries(manifest, selection) == (manifest, selection)


def test_the_manifest_of_an_unpacked_package_gets_its_entry_again(tmp_path: Path):
    before = {"main": ENTRY_NAME, "scramjet": {"main": "main.py"}}
    manifest, selection = added(folder_of(tmp_path, {"main.py": CLASSIC}, **before))
    assert (manifest.main, manifest.original_entry) == ("main.py", ENTRY_NAME)
    assert b'MAIN = "main.py"' in content(selection, ENTRY_NAME)


def test_a_single_file_gets_them_too(tmp_path: Path):
    (tmp_path / "one.py").write_text(MARKED)
    manifest, selection = added(tmp_path / "one.py")
    assert (manifest.main, manifest.original_entry) == ("one.py", ENTRY_NAME)
    assert b'MAIN = "one.py"' in content(selection, ENTRY_NAME)


def test_a_manifest_that_becomes_too_long_is_refused(tmp_path: Path):
    folder = folder_of(tmp_path, {"main.py": MARKED}, description="x" * (MAX_MANIFEST_BYTES - 60))
    with pytest.raises(BadManifest, match="bytes at most"):
        added(folder)


def test_half_a_surrogate_pair_that_nobody_reads_stays(tmp_path: Path):
    folder = folder_of(tmp_path, {"main.py": MARKED}, other="\ud800")
    _, selection = added(folder)
    assert json.loads(content(selection, "package.json"))["other"] == "\ud800"


def test_the_entry_is_the_same_for_all_but_for_the_name_of_main_and_python_3_8_can_read_it(tmp_path: Path):
    name = "deep/'\"ü 😀\n.py"
    entries = []
    for folder, main in ((tmp_path / "a", "main.py"), (tmp_path / "b", name)):
        _, selection = added(folder_of(folder, {main: MARKED}, main=main))
        entries.append(content(selection, ENTRY_NAME).decode())
        ast.parse(entries[-1], feature_version=(3, 8))
    first, second = (text.splitlines() for text in entries)
    assert [one for one, other in zip(first, second, strict=True) if one != other] == ['MAIN = "main.py"']
    (line,) = [line for line in second if line.startswith("MAIN")]
    assert ast.literal_eval(line.removeprefix("MAIN = ")) == name


def test_the_zip_is_the_same_always_and_has_neither_tools_nor_times():
    first = sdk_archive()
    sdk_archive.cache_clear()
    assert sdk_archive() == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {"sequence_sdk/__init__.py", "sequence_sdk/original.py"} < set(names)
        assert not {"sequence_sdk/cli.py", "sequence_sdk/manifest.py"} & set(names)
        assert not [name for name in names if name.count("/") != 1]
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}


def test_all_of_the_zip_can_be_imported_from_it_alone(tmp_path: Path):
    (tmp_path / "sdk.zip").write_bytes(sdk_archive())
    code = """
import importlib, sys, zipfile
with zipfile.ZipFile("sdk.zip") as archive:
    names = [name[:-3].replace("/", ".") for name in archive.namelist()]
for name in names:
    module = importlib.import_module(name.removesuffix(".__init__"))
    assert "sdk.zip" in module.__file__, module.__file__
"""
    command = [sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, 'sdk.zip')\n" + code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_entry_exposes_what_the_original_runner_looks_for(tmp_path: Path):
    marked = MARKED.replace("@sequence\n", "@sequence(provides='ones')\n")
    _, selection = added(folder_of(tmp_path / "package", {"main.py": marked}))
    for name in (ENTRY_NAME, SDK_NAME):
        path = tmp_path / "package" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content(selection, name))
    code = "import runpy; found = runpy.run_path('.sequence/original.py'); print(found['run'].__name__, found['provides'])"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        cwd=tmp_path / "package",
        capture_output=True,
        check=False,
        text=True,
    )
    assert result.stderr == ""
    assert result.stdout == "run_there {'provides': 'ones', 'contentType': 'text/plain'}\n"
