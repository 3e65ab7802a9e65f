"""Removal: nothing is left, whatever a folder holds and whoever still writes there."""

import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hub_lite import removal
from hub_lite.removal import remove_tree


def test_a_removal_stands_depth_modes_and_links(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    folder = tmp_path / "it"
    deep = folder
    for _ in range(40):
        deep /= "d" * 20
    deep.mkdir(parents=True)
    (folder / "link").symlink_to(outside)
    (deep / "link").symlink_to(outside)
    (folder / "dangling").symlink_to("nowhere")
    (deep / "file").touch(0o000)
    (deep / "__pycache__").mkdir()
    (deep / "__pycache__" / "main.cpython-311.pyc").touch()
    for closed in (deep / "__pycache__", deep, deep.parent, folder):
        closed.chmod(0o500)
    deep.parent.chmod(0o000)

    remove_tree(folder)

    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "outside",
        "outside/kept",
    ]


def test_a_removal_stands_paths_longer_than_the_system_takes(tmp_path):
    script = "import os\nfor _ in range(1500): os.mkdir('deep'); os.chdir('deep')\nopen('file', 'w').close()"
    (tmp_path / "it").mkdir()
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path / "it", check=True)
    remove_tree(tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_a_removal_stands_files_that_appear_meanwhile(tmp_path):
    folder = tmp_path / "it"
    (folder / "__pycache__").mkdir(parents=True)
    started = threading.Event()

    def write() -> None:
        for number in range(2000):
            try:
                (folder / "__pycache__" / f"{number}.pyc").touch()
            except FileNotFoundError:
                break
            started.set()

    writer = threading.Thread(target=write)
    writer.start()
    started.wait(10)
    remove_tree(folder)
    writer.join()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["it", "it/a", "it/a/b"])
@pytest.mark.parametrize("step", ["_open_up", "_children", "_rmdir_if_empty"])
def test_a_removal_stands_that_somebody_removes_a_folder_first(what, step, tmp_path, monkeypatch):
    gone = tmp_path / what
    (tmp_path / "it" / "a" / "b" / "c").mkdir(parents=True)
    ours = getattr(removal, step)

    def later(folder: Path) -> object:
        if folder == gone and folder.exists():
            shutil.rmtree(folder)
        return ours(folder)

    def listed(folder: Path) -> object:
        found = ours(folder)
        if gone.parent == folder and gone.exists():
            shutil.rmtree(gone)
        return found

    monkeypatch.setattr(removal, step, listed if step == "_children" else later)
    remove_tree(tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_of_a_link_to_a_folder_the_link_is_removed(tmp_path):
    (tmp_path / "kept").mkdir(0o755)
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "it").symlink_to("kept")
    remove_tree(tmp_path / "it")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "kept"]
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o755


def test_what_is_not_there_is_removed_already(tmp_path):
    remove_tree(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []
