"""A folder in, a package out."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from sequence_sdk.manifest import parse_manifest
from sequence_sdk.pack import LeftOut, PackError, default_output, pack
from sequence_sdk.pack.errors import MainNotFound, OutputIsSource, SourceErrors

MANIFEST = '{"main": "main.py", "engines": {"python3": ">=3.11"}}'


@pytest.fixture
def demo(tmp_path) -> Path:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "package.json").write_text(MANIFEST)
    (folder / "main.py").write_text("def run(context, input): ...\n")
    return folder


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def members(archive: Path) -> list[str]:
    with tarfile.open(archive, "r:gz") as tar:
        return tar.getnames()


def test_the_archive_is_beside_the_folder_and_has_its_name(demo):
    (demo / "empty").mkdir()
    (demo / "x.pyc").touch()
    result = pack(demo)
    archive = demo.with_name("demo.tar.gz")
    assert result.path == archive
    assert result.manifest == parse_manifest(MANIFEST.encode())
    assert result.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert result.files == ("main.py", "package.json")
    assert result.left_out == (LeftOut("x.pyc", "the default rule *.pyc"),)
    assert result.packed_bytes == archive.stat().st_size
    assert result.unpacked_bytes == len(MANIFEST) + 29
    assert members(archive) == ["empty", "main.py", "package.json"]


def test_a_stream_gets_the_same_bytes_and_stays_open(demo):
    stream = io.BytesIO()
    result = pack(demo, stream)
    assert result.path is None
    assert stream.getvalue() == pack(demo).path.read_bytes()


def test_an_archive_inside_the_folder_does_not_pack_itself(demo):
    first = pack(demo, demo / "out.tar.gz").path.read_bytes()
    assert pack(demo, demo / "out.tar.gz").path.read_bytes() == first
    with (demo / "stream.tar.gz").open("wb") as stream:
        (demo / "out.tar.gz").unlink()
        pack(demo, stream)
    assert (demo / "stream.tar.gz").read_bytes() == first


def test_an_earlier_archive_inside_the_folder_is_a_file_as_any_other(demo):
    pack(demo, demo / "old.tar.gz")
    assert members(pack(demo).path) == ["main.py", "old.tar.gz", "package.json"]


@pytest.mark.parametrize("name", ["package.json", "main.py"])
def test_the_archive_does_not_replace_what_it_is_made_of(demo, name):
    before = (demo / name).read_bytes()
    with pytest.raises(OutputIsSource) as caught:
        pack(demo, demo / name)
    assert str(demo / name) in str(caught.value)
    assert (demo / name).read_bytes() == before


def test_nothing_is_written_if_the_folder_is_not_fit(demo):
    (demo / "broken.py").write_text("def")
    with pytest.raises(SourceErrors):
        pack(demo)
    (demo / "main.py").unlink()
    with pytest.raises(MainNotFound):
        pack(demo)
    with pytest.raises(PackError):
        pack(demo / "gone")
    assert listing(demo.parent) == ["demo"]


def test_progress_is_told(demo):
    calls = []
    total = pack(demo, progress=lambda *call: calls.append(call)).unpacked_bytes
    assert [name for name, _, _ in calls] == ["main.py", "package.json"]
    assert calls[-1][1:] == (total, total)


def test_the_default_output_of_any_spelling_is_beside_the_folder(demo, monkeypatch):
    monkeypatch.chdir(demo)
    for spelling in (".", "../demo", "../demo/.", "x/.."):
        assert default_output(Path(spelling)) == demo.with_name("demo.tar.gz")
    demo.with_name("link").symlink_to("demo")
    assert default_output(demo.with_name("link")) == demo.with_name("link.tar.gz")
    assert default_output(Path("/")) == Path("/package.tar.gz")
