"""What goes into a package beside the author's files: dependencies, hashes, the bill of materials, a signature."""

import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from sequence_sdk import cli
from sequence_sdk.pack import KeptDependencies, PackError, ProgressLine, check, pack
from sequence_sdk.pack.dependencies import Resolved
from sequence_sdk.pack.source import read_source
from sequence_sdk.pack.sums import SIGNATURE_NAME, SUMS_NAME, decode_sums

from .wheelhouse import wheel

MARKED = """
import sc_alpha
from sequence_sdk import sequence

@sequence
async def run(input):
    async for item in input:
        yield f"{sc_alpha.version} {item}"
"""


@pytest.fixture
def demo(tmp_path) -> Path:
    """A Sequence that imports what it declares."""
    wheel(tmp_path / "wheels", "sc_alpha")
    wheel(tmp_path / "wheels", "sc_alpha", "2.0", "cp311-cp311-win_amd64")
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "package.json").write_text('{"main": "main.py", "name": "demo", "version": "1.2.3"}')
    (folder / "main.py").write_text(MARKED)
    declare(folder, "sc-alpha==1.0")
    return folder


def declare(folder: Path, requirement: str) -> None:
    wheels = folder.parent / "wheels"
    (folder / "requirements.txt").write_text(f"--no-index\n--find-links {wheels}\n{requirement}\n")


def unpacked(archive: Path) -> Path:
    folder = archive.with_name("unpacked")
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder)
    return folder


def run(*arguments: object):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def test_what_is_declared_is_in_the_package_and_the_sequence_is_described_with_it(demo):
    result = pack(demo)
    assert result.no_schema == ""
    assert "__pypackages__/sc_alpha/__init__.py" in result.files
    assert {entry.rule for entry in result.entries if entry.name.startswith("__pypackages__/")} == {
        "requirements.txt"
    }
    bill = json.loads((unpacked(result.path) / ".sequence/sbom.cdx.json").read_bytes())
    assert [one["purl"] for one in bill["components"]] == ["pkg:pypi/sc-alpha@1.0"]
    assert bill["metadata"]["component"]["version"] == "1.2.3"
    assert list((demo).iterdir()) != []
    assert not (demo / "__pypackages__").exists()


def test_without_dependencies_they_are_named_in_a_warning(demo):
    result = pack(demo, dependencies=False)
    assert not any(name.startswith("__pypackages__/") for name in result.files)
    assert result.no_schema == "ModuleNotFoundError: No module named 'sc_alpha'"
    assert result.warnings == (
        "what requirements.txt names is not in the package; the Python of the hub must have it",
    )


def test_what_another_language_needs_is_not_told_of(demo):
    (demo / "package.json").write_text('{"main": "main.js", "engines": {"node": ">=18"}}')
    (demo / "main.js").touch()
    assert pack(demo, dependencies=False).warnings == ()


def test_a_bare_package_has_nothing_for_others(demo):
    assert [name for name in pack(demo, bare=True).files if name.startswith(".sequence")] == []


def test_two_folders_give_the_same_bytes_with_all_of_it(demo, tmp_path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    shutil.copytree(demo, other / "renamed")
    assert pack(demo).sha256 == pack(other / "renamed").sha256


def test_an_unpacked_package_is_packed_to_the_same_again(demo, tmp_path):
    first = pack(demo)
    again = pack(unpacked(first.path), tmp_path / "again.tar.gz")
    assert again.files == first.files
    assert [out.name for out in again.left_out] == [".sequence"]


def test_every_file_is_in_the_list_of_hashes(demo):
    result = pack(demo)
    folder = unpacked(result.path)
    sums = decode_sums((folder / SUMS_NAME).read_bytes())
    assert sorted(sums) == sorted(result.files)
    assert all(
        hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for name, digest in sums.items()
    )


def test_a_wheel_for_another_machine_is_refused_with_the_reason(demo):
    (demo / "vendored").mkdir()
    with tarfile.open(pack(demo).path) as tar:
        tar.extractall(demo.parent / "twin")
    twin = demo.parent / "twin"
    metadata = twin / "__pypackages__/sc_alpha-1.0.dist-info/WHEEL"
    metadata.write_text(metadata.read_text().replace("py3-none-any", "cp312-cp312-macosx_11_0_arm64"))
    with pytest.raises(PackError, match=r"(?s)sc_alpha-1\.0\.dist-info/WHEEL.*cp312-cp312-macosx_11_0_arm64"):
        pack(twin)
    assert len(check(twin).errors) == 1
    assert "macosx_11_0_arm64" in check(twin).errors[0]


def test_a_check_imports_the_sequence_with_its_dependencies(demo):
    assert check(demo).errors == ()
    assert check(demo, dependencies=False).errors == ("ModuleNotFoundError: No module named 'sc_alpha'",)
    declare(demo, "sc-alpha==7")
    (error,) = check(demo).errors
    assert error.startswith(f"{demo}/requirements.txt: ")
    assert "sc-alpha" in error


def test_kept_dependencies_are_brought_once_until_what_declares_them_changes(demo):
    told: list[str] = []
    kept = KeptDependencies(told.append)
    source = read_source(demo)
    for _ in range(2):
        with kept(source) as brought:
            assert brought.folder is not None
    assert len(told) == 1
    assert (brought.folder / "sc_alpha").is_dir()
    declare(demo, "sc-alpha>=1,<2")
    with kept(source) as again:
        assert len(told) == 2
    assert not brought.folder.exists()
    (demo / "requirements.txt").unlink()
    with kept(source) as none:
        assert none == Resolved()
    kept.close()
    kept.close()
    assert not again.folder.exists()


def test_pack_takes_what_brings_the_dependencies(demo):
    kept = KeptDependencies(lambda _: None)
    assert pack(demo, dependencies=kept).sha256 == pack(demo).sha256
    kept.close()


def test_a_progress_line_is_told_what_goes_on(demo):
    class Line(ProgressLine):
        def __init__(self) -> None:
            super().__init__(None)
            self.told: list[object] = []

        def phase(self, text: str) -> None:
            self.told.append(text)

        def start(self, files: int | None = None) -> None:
            self.told.append(files)

        def __call__(self, name: str, read: int, total: int) -> None:
            self.told.append(name)

    line = Line()
    result = pack(demo, progress=line)
    installing, describing, count, *names = line.told
    assert str(installing).startswith("installing what requirements.txt names with ")
    assert describing == "describing the Sequence"
    assert [*names] == [entry.name for entry in result.entries if entry.bytes]
    assert count == len(names)


# --- the command --------------------------------------------------------------------------------------------------------


def key(folder: Path, passphrase: bytes = b"") -> Path:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    path = folder / "key.pem"
    path.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    )
    return path


def test_the_command_signs(demo, tmp_path, monkeypatch):
    ran = run("-q", demo, "--sign", key(tmp_path))
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert (unpacked(demo.with_name("demo.tar.gz")) / SIGNATURE_NAME).is_file()
    locked = key(tmp_path, b"open")
    assert run("-q", demo, "--sign", locked).exit_code == 1, "nobody is there to be asked"
    monkeypatch.setenv("SCRAMJET_PACK_PASSPHRASE", "wrong")
    refused = run("-q", demo, "--sign", locked)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert str(locked) in refused.stderr
    monkeypatch.setenv("SCRAMJET_PACK_PASSPHRASE", "open")
    assert run("-q", demo, "--sign", locked).exit_code == 0


def test_a_terminal_is_asked_for_the_passphrase(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(
        cli, "sys", type("Terminal", (), {"stdin": type("Stdin", (), {"isatty": lambda: True})})
    )
    monkeypatch.setattr(cli.click, "prompt", lambda *_, **__: "open")
    assert run("-q", demo, "--sign", key(tmp_path, b"open")).exit_code == 0


@pytest.mark.parametrize("option", [("--platform", "amiga"), ("--python", "three")])
@pytest.mark.parametrize("more", [(), ("--check",)])
def test_a_target_that_nobody_knows_is_a_sentence(demo, option, more):
    ran = run(demo, *option, *more)
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert f"{option[0]} {option[1]} is not known; say " in ran.stderr


def test_the_command_packs_for_another_machine_what_fits_there(demo):
    declare(demo, "sc-alpha")
    ran = run("--json", demo, "--platform", "windows-x86_64", "--python", "3.11")
    assert ran.exit_code == 0, ran.stdout
    bill = json.loads((unpacked(demo.with_name("demo.tar.gz")) / ".sequence/sbom.cdx.json").read_bytes())
    assert [one["version"] for one in bill["components"]] == ["2.0"]
    refused = run(demo, "--platform", "linux-aarch64", "--python", "3.11")
    assert refused.exit_code == 0, "version 1.0 fits everywhere"


def test_the_command_leaves_out_what_is_not_wanted(demo):
    ran = run("--json", "--no-original", "--no-deps", "--no-schema", demo)
    names = {one["name"] for one in json.loads(ran.stdout)["files"]}
    assert names == {".sequence/sbom.cdx.json", "main.py", "package.json", "requirements.txt"}


def test_a_terminal_sees_a_line_that_goes_and_a_summary_that_stays(demo):
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-c", "from sequence_sdk.cli import main; main()", str(demo)],
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            check=True,
            env={**os.environ, "TERM": "xterm"},
        )
        seen = os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    assert "installing what requirements.txt names" in seen
    line, _, rest = seen.rpartition("\x1b[K")
    assert line
    assert rest.startswith(f"{demo.with_name('demo.tar.gz')}: ")
