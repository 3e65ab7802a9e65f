"""A folder in, a package out."""

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    result = pack(demo, bare=True)
    archive = demo.with_name("demo.tar.gz")
    assert result.path == archive
    assert result.manifest == parse_manifest(MANIFEST.encode())
    assert result.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert result.files == ("main.py", "package.json")
    assert result.left_out == (LeftOut("x.pyc", "the default rule *.pyc"),)
    assert result.packed_bytes == archive.stat().st_size
    assert result.unpacked_bytes == len(MANIFEST) + 29
    assert members(archive) == ["empty", "main.py", "package.json", ".sequence/SHA256SUMS"]


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
    assert members(pack(demo).path) == [
        ".sequence/sbom.cdx.json",
        "main.py",
        "old.tar.gz",
        "package.json",
        ".sequence/SHA256SUMS",
    ]


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
    assert [name for name, _, _ in calls] == [".sequence/sbom.cdx.json", "main.py", "package.json"]
    assert calls[-1][1:] == (total, total)


def test_the_default_output_of_any_spelling_is_beside_the_folder(demo, monkeypatch):
    monkeypatch.chdir(demo)
    for spelling in (".", "../demo", "../demo/.", "x/.."):
        assert default_output(Path(spelling)) == demo.with_name("demo.tar.gz")
    demo.with_name("link").symlink_to("demo")
    assert default_output(demo.with_name("link")) == demo.with_name("link.tar.gz")
    assert default_output(Path("/")) == Path("/package.tar.gz")


def test_names_that_collide_and_large_files_are_warnings(demo):
    (demo / "a").touch()
    (demo / "A").touch()
    with (demo / "large").open("wb") as large:
        large.truncate(10 * 1024 * 1024 + 1)
    large, names = pack(demo).warnings
    assert large.startswith("large has 10485761 bytes; ")
    assert names == "A and a are one name on some machines; rename one of them"


TREES = st.dictionaries(
    st.lists(
        st.text("abAą.", min_size=1, max_size=3).filter(lambda name: name.strip(".")), min_size=1, max_size=3
    )
    .map("/".join)
    .map(lambda name: f"d/{name}"),
    st.tuples(st.binary(max_size=40), st.booleans()),
    max_size=5,
).filter(lambda tree: not any(one != other and one.startswith(f"{other}/") for one in tree for other in tree))


def build(folder: Path, tree: dict[str, tuple[bytes, bool]], order: list[str], umask: int, time: int) -> Path:
    """Make the files of a tree in an order, with what a umask leaves of their modes, and a time."""
    old = os.umask(umask)
    try:
        folder.mkdir()
        (folder / "package.json").write_text(MANIFEST)
        (folder / "main.py").write_text("def run(context, input): ...\n")
        (folder / "empty").mkdir()
        for name in order:
            content, runs = tree[name]
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod((0o777 if runs else 0o666) & ~umask)
        for path in sorted(folder.rglob("*"), reverse=True):
            os.utime(path, (time, time))
        pack(folder, describe=False)
    finally:
        os.umask(old)
    return folder


@given(
    TREES,
    st.randoms(use_true_random=False),
    st.sampled_from([0o000, 0o002, 0o022, 0o027, 0o077]),
    st.integers(0, 2**31),
)
def test_the_bytes_are_the_same_from_another_folder_umask_order_of_files_and_time(tree, random, umask, time):
    order = list(tree)
    random.shuffle(order)
    with tempfile.TemporaryDirectory() as folder:
        one = build(Path(folder, "one"), tree, list(tree), 0o022, 1_000_000_000)
        other = build(Path(folder, "other place"), tree, order, umask, time)
        assert default_output(one).read_bytes() == default_output(other).read_bytes()


def test_the_bytes_are_the_same_whatever_order_the_file_system_lists(demo, monkeypatch):
    for name in ("b", "a", "ą", "B", "z/y", "z.x"):
        (demo / name).parent.mkdir(exist_ok=True)
        (demo / name).write_text(name)
    first = pack(demo).path.read_bytes()
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(listed(path), reverse=True)))
    assert pack(demo).path.read_bytes() == first


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser gives files away")
def test_the_bytes_are_the_same_for_another_owner_and_by_another_user(demo):
    first = pack(demo).path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        other = shutil.copytree(demo, Path(folder, "other"))
        for path in (Path(folder), other, *other.iterdir()):
            os.chown(path, 65534, 65534)
        os.setegid(65534)
        os.seteuid(65534)
        try:
            again = pack(other).path.read_bytes()
        finally:
            os.seteuid(0)
            os.setegid(0)
    assert again == first


@pytest.mark.parametrize("source", ["pyproject", "file"])
def test_a_made_manifest_is_the_same_wherever_it_is_made(tmp_path, source):
    archives = []
    for place in ("one", "other"):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "main.py").write_text("def run(context, input): ...\n")
        if source == "pyproject":
            (folder / "pyproject.toml").write_text('[project]\nname = "x"\n')
        archives.append(pack(folder / "main.py" if source == "file" else folder).path.read_bytes())
    assert archives[0] == archives[1]
