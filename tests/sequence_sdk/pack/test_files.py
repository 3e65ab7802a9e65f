"""Which files of a folder are selected."""

import os
import re
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from sequence_sdk.pack.errors import (
    BadEntry,
    DanglingLink,
    FileUnreadable,
    LinkLeavesFolder,
    LinkLoop,
    NameNotUtf8,
    SpecialFile,
)
from sequence_sdk.pack.files import LeftOut, select_files


def fill(folder: Path, *names: str) -> Path:
    """Make files, and folders where a name ends in a slash."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            path.write_text(name)
    return folder


def names(folder: Path) -> list[str]:
    return [entry.name + "/" * entry.is_folder for entry in select_files(folder).entries]


@pytest.fixture
def others_folder():
    """A folder in which a file may be unreadable to us: not even the superuser reads everything then."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    user = os.geteuid()
    yield folder
    os.seteuid(user)
    shutil.rmtree(folder)


def become_an_ordinary_user() -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)


def test_everything_goes_in_hidden_files_and_dependencies_too(tmp_path):
    fill(
        tmp_path,
        "package.json",
        "main.py",
        ".env",
        "__pypackages__/a/b.py",
        "node_modules/c.js",
        "old.tar.gz",
    )
    assert names(tmp_path) == [
        ".env",
        "__pypackages__/a/b.py",
        "main.py",
        "node_modules/c.js",
        "old.tar.gz",
        "package.json",
    ]


def test_clutter_stays_out_and_is_not_entered(tmp_path):
    fill(
        tmp_path,
        "main.py",
        ".git/config",
        "a/__pycache__/x.pyc",
        "a/b.py",
        "b.pyc",
        ".venv/x",
        "venv/y",
        ".DS_Store",
    )
    selection = select_files(tmp_path)
    assert [entry.name for entry in selection.entries] == ["a/b.py", "main.py"]
    assert selection.left_out == (
        LeftOut(".DS_Store", "the default rule .DS_Store"),
        LeftOut(".git", "the default rule .git"),
        LeftOut(".venv", "the default rule .venv"),
        LeftOut("a/__pycache__", "the default rule __pycache__"),
        LeftOut("b.pyc", "the default rule *.pyc"),
        LeftOut("venv", "the default rule venv"),
    )


def test_the_ignore_file_keeps_files_out_and_goes_in_itself(tmp_path):
    fill(tmp_path, "a.log", "sub/b.log", "tmp/x/y", "kept/tmp/z")
    (tmp_path / ".siignore").write_text("*.log # noise\ntmp\n")
    selection = select_files(tmp_path)
    assert [entry.name for entry in selection.entries] == [".siignore", "kept/tmp/z", "sub/b.log"]
    assert selection.left_out == (
        LeftOut("a.log", ".siignore line 1 (*.log)"),
        LeftOut("tmp", ".siignore line 2 (tmp)"),
    )


def test_a_rule_with_a_slash_at_its_end_leaves_a_file_of_that_name_alone(tmp_path):
    fill(tmp_path, "a/build/x", "a/c", "b/build")
    (tmp_path / ".siignore").write_text("*/build/")
    assert names(tmp_path) == [".siignore", "a/c", "b/build"]


def test_package_json_cannot_be_ignored(tmp_path):
    fill(tmp_path, "package.json", "a.json", "sub/package.json")
    (tmp_path / ".siignore").write_text("*.json\n*/*.json\n")
    assert "package.json" in names(tmp_path)
    assert "sub/package.json" not in names(tmp_path)


def test_what_is_ignored_is_not_looked_at(tmp_path):
    fill(tmp_path, "main.py")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / ".siignore").write_text("gone/\ngone\nloop/\nloop\npipe\n")
    assert names(tmp_path) == [".siignore", "main.py"]


def test_a_folder_that_is_empty_or_emptied_by_the_author_goes_in_as_a_folder(tmp_path):
    fill(tmp_path, "main.py", "empty/", "a/b/", "logs/x.log")
    (tmp_path / ".siignore").write_text("logs/*")
    assert names(tmp_path) == [".siignore", "a/b/", "empty/", "logs/", "main.py"]


def test_a_folder_that_holds_only_clutter_is_not_there(tmp_path):
    fill(tmp_path, "main.py", "removed/__pycache__/x.pyc")
    assert names(tmp_path) == ["main.py"]


def test_an_empty_package_is_no_folder_entry(tmp_path):
    assert names(tmp_path) == []


def test_the_archive_itself_stays_out_and_its_folder_is_as_empty_as_before(tmp_path):
    fill(tmp_path, "main.py", "out/")
    before = names(tmp_path)
    archive = fill(tmp_path, "out/x.tar.gz") / "out/x.tar.gz"
    status = archive.stat()
    selection = select_files(tmp_path, output=(status.st_dev, status.st_ino))
    assert [entry.name + "/" * entry.is_folder for entry in selection.entries] == before
    assert selection.left_out == (LeftOut("out/x.tar.gz", "being the archive itself"),)


def test_links_inside_are_packed_as_what_they_point_to(tmp_path):
    fill(tmp_path, "a/real.py", "a/deep/x")
    (tmp_path / "file.py").symlink_to("a/real.py")
    (tmp_path / "folder").symlink_to("a/deep")
    (tmp_path / "chain").symlink_to("file.py")
    (tmp_path / "absolute").symlink_to(tmp_path / "a/real.py")
    (tmp_path / "a/deep/up").symlink_to("../real.py")
    assert names(tmp_path) == [
        "a/deep/up",
        "a/deep/x",
        "a/real.py",
        "absolute",
        "chain",
        "file.py",
        "folder/up",
        "folder/x",
    ]


def test_the_folder_itself_may_be_a_link(tmp_path):
    fill(tmp_path, "real/a.py")
    (tmp_path / "real/b.py").symlink_to("a.py")
    (tmp_path / "link").symlink_to("real")
    assert names(tmp_path / "link") == ["a.py", "b.py"]


def refused(folder: Path, kind: type[BadEntry], name: str) -> BadEntry:
    with pytest.raises(BadEntry) as caught:
        select_files(folder)
    assert type(caught.value) is kind
    assert caught.value.path == folder / name
    assert str(folder / name) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("target", ["../outside", "/etc", "sub/../../outside"])
def test_a_link_that_leaves_the_folder_is_refused(tmp_path, target):
    fill(tmp_path, "outside", "demo/sub/x")
    (tmp_path / "demo/link").symlink_to(target)
    error = refused(tmp_path / "demo", LinkLeavesFolder, "link")
    assert target in str(error)


def test_a_link_to_a_sibling_whose_name_starts_alike_is_refused(tmp_path):
    fill(tmp_path, "demo-2/x", "demo/y")
    (tmp_path / "demo/link").symlink_to("../demo-2/x")
    refused(tmp_path / "demo", LinkLeavesFolder, "link")


@pytest.mark.parametrize("target", ["nowhere", "file/x"])
def test_a_link_to_nothing_is_refused(tmp_path, target):
    fill(tmp_path, "file")
    (tmp_path / "link").symlink_to(target)
    assert target in str(refused(tmp_path, DanglingLink, "link"))


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("link")
    refused(tmp_path, LinkLoop, "link")


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_link_to_a_folder_it_lies_in_is_refused(tmp_path, target):
    fill(tmp_path, "a/b/x")
    (tmp_path / "a/b/link").symlink_to(target)
    refused(tmp_path, LinkLoop, "a/b/link")


def test_two_folders_that_link_to_each_other_are_refused(tmp_path):
    fill(tmp_path, "a/", "b/")
    (tmp_path / "a/b").symlink_to("../b")
    (tmp_path / "b/a").symlink_to("../a")
    with pytest.raises(LinkLoop):
        select_files(tmp_path)


def test_a_named_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path, SpecialFile, "pipe").kind == "named pipe"


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert refused(tmp_path, SpecialFile, "socket").kind == "socket"


def test_a_name_that_is_not_utf8_is_refused_in_a_sentence_that_can_be_printed(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.py"
    try:
        Path(os.fsdecode(path)).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(NameNotUtf8, match=r"caf\\xe9\.py has a name that is not UTF-8") as caught:
        select_files(tmp_path)
    assert str(caught.value).encode()


def test_a_folder_that_cannot_be_read_is_named(others_folder):
    fill(others_folder, "main.py", "secret/x")
    (others_folder / "secret").chmod(0)
    become_an_ordinary_user()
    error = refused(others_folder, FileUnreadable, "secret")
    assert "Permission denied" in str(error)


def test_a_folder_that_vanished_is_named(tmp_path):
    with pytest.raises(FileUnreadable, match=re.escape(str(tmp_path / "gone"))):
        select_files(tmp_path / "gone")


@pytest.mark.skipif(os.pathconf("/", "PC_PATH_MAX") < 4096, reason="needs long paths")
def test_folders_may_be_nested_deeper_than_calls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    depth = 1100
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    Path("leaf").touch()
    os.chdir(tmp_path)
    (entry,) = select_files(Path()).entries
    assert entry.name == "d/" * depth + "leaf"
    for _ in range(depth):  # removing a tree is recursive in the standard library
        os.chdir("d")
    Path("leaf").unlink()
    for _ in range(depth):
        os.chdir("..")
        Path("d").rmdir()


def test_a_link_whose_target_has_an_impossible_name_is_named(tmp_path):
    (tmp_path / "link").symlink_to("x" * 300)
    error = refused(tmp_path, FileUnreadable, "link")
    assert "File name too long" in str(error)
