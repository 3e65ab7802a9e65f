"""What is checked before a folder is packed."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

from sequence_sdk.manifest import MAX_MANIFEST_BYTES, Manifest, ManifestFieldError
from sequence_sdk.pack.checks import check_main, check_sources, read_manifest
from sequence_sdk.pack.errors import (
    BadManifest,
    FileUnreadable,
    FolderNotFound,
    MainLeftOut,
    MainNotForNode,
    MainNotFound,
    ManifestNotFound,
    NotAFolder,
    SeveralEngines,
    SourceErrors,
)
from sequence_sdk.pack.files import select_files


def fill(folder: Path, **files: str) -> Path:
    """Make files; in their names ``__`` stands for a slash, and ``.py`` is left out."""
    for name, content in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


PYTHON = {"python3": ">=3.11"}


def test_the_manifest_of_a_folder_is_read(tmp_path):
    (tmp_path / "package.json").write_text('{"main": "./main.py"}')
    assert read_manifest(tmp_path) == Manifest(main="main.py")


@pytest.mark.parametrize("name", ["gone", "file/x", "dangling"])
def test_a_folder_that_is_not_there_is_named(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(FolderNotFound) as caught:
        read_manifest(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name} not found; name the folder that holds the package.json"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "main.py").touch()
    with pytest.raises(NotAFolder, match=r"main\.py is not a folder"):
        read_manifest(tmp_path / "main.py")


@pytest.mark.parametrize(
    "make", [lambda _: None, Path.mkdir, os.mkfifo, lambda path: path.symlink_to("gone")]
)
def test_a_folder_without_a_manifest_is_told_how_to_write_one(tmp_path, make):
    path = tmp_path / "package.json"
    make(path)
    with pytest.raises(ManifestNotFound) as caught:
        read_manifest(tmp_path)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path} not found; ")
    assert '"main": "main.py"' in str(caught.value)


def test_a_bad_manifest_is_named_with_what_is_wrong_in_it(tmp_path):
    (tmp_path / "package.json").write_text('{"main": 3}')
    with pytest.raises(BadManifest) as caught:
        read_manifest(tmp_path)
    assert str(caught.value) == f'{tmp_path}/package.json: "main" must be a string, but it is 3'
    assert isinstance(caught.value.cause, ManifestFieldError)


def test_a_huge_manifest_is_not_read_whole(tmp_path):
    with (tmp_path / "package.json").open("wb") as file:
        file.truncate(1000 * MAX_MANIFEST_BYTES)
    with pytest.raises(BadManifest, match="bytes at most"):
        read_manifest(tmp_path)


def test_a_manifest_or_a_folder_that_may_not_be_read_is_named():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        manifest = Path(folder, "package.json")
        manifest.write_text("{}")
        manifest.chmod(0)
        closed = Path(folder, "closed")
        closed.mkdir(mode=0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(FileUnreadable, match=r"package\.json cannot be read \(Permission denied\)"):
                read_manifest(Path(folder))
            with pytest.raises(FileUnreadable, match="Permission denied"):
                read_manifest(closed / "inner")
        finally:
            os.seteuid(user)


def test_more_than_one_engine_is_refused(tmp_path):
    (tmp_path / "package.json").write_text('{"main": "m.py", "engines": {"python3": "3", "node": "16"}}')
    with pytest.raises(SeveralEngines) as caught:
        read_manifest(tmp_path)
    assert caught.value.engines == ("python3", "node")
    assert "one key at most, but it has python3, node" in str(caught.value)


def test_main_must_be_among_the_files_and_near_names_are_shown(tmp_path):
    fill(tmp_path, src__main="", mian="", other="", __pypackages____main2="")
    with pytest.raises(MainNotFound) as caught:
        check_main(Manifest("main.py", engines=PYTHON), tmp_path, select_files(tmp_path))
    assert set(caught.value.near) == {"mian.py", "src/main.py"}
    assert "did you mean" in str(caught.value)


def test_a_main_that_is_like_no_file_is_to_be_written(tmp_path):
    fill(tmp_path, zzz="")
    with pytest.raises(MainNotFound) as caught:
        check_main(Manifest("main.py"), tmp_path, select_files(tmp_path))
    assert str(caught.value) == (
        f'{tmp_path}/package.json: "main" is main.py, but there is no such file; write it, or name another file'
    )


def test_a_folder_is_no_main_of_python(tmp_path):
    (tmp_path / "main.py").mkdir()
    with pytest.raises(MainNotFound):
        check_main(Manifest("main.py"), tmp_path, select_files(tmp_path))


@pytest.mark.parametrize("rule", ["main.py", "src", "*"])
def test_a_main_that_is_ignored_is_named_with_the_rule(tmp_path, rule):
    fill(tmp_path, main="", src__main="")
    (tmp_path / ".siignore").write_text(rule)
    main = "src/main.py" if rule == "src" else "main.py"
    with pytest.raises(MainLeftOut) as caught:
        check_main(Manifest(main), tmp_path, select_files(tmp_path))
    assert f".siignore line 1 ({rule}) leaves it out" in str(caught.value)


@pytest.mark.parametrize("engines", [{"node": "16"}, {}])
@pytest.mark.parametrize("main", ["index", "index.js", "lib/index"])
def test_node_finds_main_without_its_suffix(tmp_path, main, engines):
    (tmp_path / "lib").mkdir()
    for name in ("index.js", "lib/index.js"):
        (tmp_path / name).touch()
    check_main(Manifest(main, engines=engines), tmp_path, select_files(tmp_path))
    with pytest.raises(MainNotFound):
        check_main(Manifest("inde", engines=engines), tmp_path, select_files(tmp_path))


@pytest.mark.parametrize("main", ["lib", "start", "main.mjs", "main.cjs", "main.ts"])
def test_the_runner_for_node_starts_neither_a_folder_nor_a_file_with_another_suffix(tmp_path, main):
    (tmp_path / "lib").mkdir()
    for name in ("lib/index.js", "start", "main.mjs", "main.cjs", "main.ts"):
        (tmp_path / name).touch()
    with pytest.raises(MainNotForNode) as caught:
        check_main(Manifest(main, engines={"node": "16"}), tmp_path, select_files(tmp_path))
    assert str(caught.value) == (
        f'{tmp_path}/package.json: "main" is {main}, but the runner for Node starts only a file that ends with .js; '
        "name such a file"
    )


def test_sources_that_compile_pass_and_nothing_is_written_or_run(tmp_path):
    marker = tmp_path / "ran"
    fill(
        tmp_path, main=f"open({str(marker)!r}, 'w')\nx = '\\d'\nassert (1, 'always')\n", pkg__a="import main"
    )
    before = sorted(tmp_path.rglob("*"))
    check_sources(Manifest("main.py"), select_files(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before
    assert "pkg.a" not in sys.modules


def test_every_source_that_does_not_compile_is_shown_with_its_place_and_line(tmp_path):
    fill(tmp_path, a="def f(:\n", good="x = 1", sub__b="x = 1\n\nreturn 2\n")
    with pytest.raises(SourceErrors) as caught:
        check_sources(Manifest("good.py"), select_files(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}/a.py:1:7: invalid syntax\n    def f(:\n"
        f"{tmp_path}/sub/b.py:3:1: 'return' outside function\n    return 2"
    )
    assert [(fault.path.name, fault.line) for fault in caught.value.faults] == [("a.py", 1), ("b.py", 3)]


@pytest.mark.parametrize(
    "source",
    [
        b"return 1",
        b"await x",
        b"x = 1\0",
        b"# coding: nothing\n",
        b"x = '\xff'",
        b"(" * 10_000,
        b"x = " + b"-" * 100_000 + b"1",
        b"\xff\xfex\0",
    ],
)
def test_anything_that_is_no_python_is_a_fault(tmp_path, source):
    (tmp_path / "main.py").write_bytes(source)
    with pytest.raises(SourceErrors) as caught:
        check_sources(Manifest("main.py"), select_files(tmp_path))
    (fault,) = caught.value.faults
    assert fault.line >= 1
    assert fault.column >= 1
    assert fault.message
    assert len(str(fault)) < 500


def test_a_main_without_the_suffix_of_python_is_compiled_too(tmp_path):
    (tmp_path / "main").write_text("def")
    with pytest.raises(SourceErrors, match="main:1:"):
        check_sources(Manifest("main", engines=PYTHON), select_files(tmp_path))


def test_dependencies_and_other_languages_are_not_compiled(tmp_path):
    fill(tmp_path, main="")
    for folder in ("__pypackages__", "node_modules/x", "lib/__pypackages__"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "old.py").write_text("print 'two'")
    (tmp_path / "notes.txt").write_text("def")
    check_sources(Manifest("main.py"), select_files(tmp_path))
    fill(tmp_path, broken="def")
    check_sources(Manifest("index.js"), select_files(tmp_path))


def test_a_source_that_vanished_is_named(tmp_path):
    fill(tmp_path, main="")
    selection = select_files(tmp_path)
    (tmp_path / "main.py").unlink()
    with pytest.raises(FileUnreadable, match=r"main\.py cannot be read"):
        check_sources(Manifest("main.py"), selection)


@pytest.mark.parametrize("main", ["main.js", "main"])
def test_what_else_is_left_out_is_no_reason_for_a_main_that_is_not_there(tmp_path, main):
    fill(tmp_path, notes__draft="", other="")
    (tmp_path / ".siignore").write_text("notes\nother.py\n")
    with pytest.raises(MainNotFound) as caught:
        check_main(Manifest(main, engines={"node": ">=18"}), tmp_path, select_files(tmp_path))
    assert caught.value.near == ()


def test_a_folder_that_is_left_out_and_has_no_main_in_it_is_no_reason_either(tmp_path):
    fill(tmp_path, code__other="")
    (tmp_path / ".siignore").write_text("code\n")
    with pytest.raises(MainNotFound):
        check_main(Manifest("code/main.py", engines=PYTHON), tmp_path, select_files(tmp_path))
