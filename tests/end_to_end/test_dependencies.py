"""Dependencies with compiled parts, from a wheel by way of scramjet-pack to the Instance that imports them."""

import base64
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .harness import running_hub, talking_to

NATIVE = "msgspec"  # any that is installed here, and has a compiled module
AUTHOR = f"""
import {NATIVE}
from sequence_sdk import Stream, sequence

@sequence
async def run(input: Stream[bytes]):
    async for chunk in input:
        yield {NATIVE}.json.encode([{NATIVE}.json.decode(chunk), {NATIVE}._core.__file__.split("/packages/")[-1]])
"""


def native_wheel(folder: Path, *, tag: str | None = None) -> Path:
    """Make a wheel of what is installed here, again; with ``tag`` it says that it is for something else."""
    distribution = importlib.metadata.distribution(NATIVE)
    contents: dict[str, bytes] = {}
    for file in distribution.files or []:
        if file.suffix != ".pyc" and file.name not in {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}:
            contents[str(file)] = file.read_binary()
    info = next(name for name in contents if name.endswith("/METADATA")).rpartition("/")[0]
    about = contents[f"{info}/WHEEL"].decode()
    tags = [line.removeprefix("Tag: ") for line in about.splitlines() if line.startswith("Tag: ")]
    if tag is not None:
        for old in tags:
            about = about.replace(f"Tag: {old}\n", "")
        contents[f"{info}/WHEEL"] = f"{about.rstrip()}\nTag: {tag}\n".encode()
    record = ""
    for name, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(content)}\n"
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    folder.mkdir()
    wheel = folder / f"{info.removesuffix('.dist-info')}-{tag or tags[0]}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return wheel


def project(folder: Path, requirement: str) -> Path:
    folder.mkdir()
    (folder / "package.json").write_text('{"main": "main.py", "engines": {"python3": ">=3.11"}}')
    (folder / "main.py").write_text(AUTHOR)
    (folder / "requirements.txt").write_text(f"--no-index\n{requirement}\n")
    return folder


def scramjet_pack(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    return subprocess.run(
        [sys.executable, "-c", "from sequence_sdk.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", "UV_OFFLINE": "1"},
    )


async def test_a_native_wheel_is_packed_and_runs(tmp_path: Path) -> None:
    native_wheel(tmp_path / "wheels")
    folder = project(tmp_path / "native", f"--find-links {tmp_path / 'wheels'}\n{NATIVE}")
    packed = scramjet_pack(folder)
    assert packed.returncode == 0, packed.stderr
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            sequence = await talk.upload_bytes((tmp_path / "native.tar.gz").read_bytes())
            instance = await talk.client.start(sequence)
            await talk.send(instance, b'{"a": 1}')
            said = (await talk.read(instance)).decode()
    assert said.startswith('[{"a":1},"')
    assert f"__pypackages__/{NATIVE}/" in said, "it is the one of the package, not the one that is installed"


@pytest.mark.parametrize("tag", ["cp311-cp311-win_amd64", "cp39-cp39-manylinux_2_28_aarch64"])
def test_a_wheel_for_another_platform_is_refused_with_the_reason(tmp_path: Path, tag: str) -> None:
    wheel = native_wheel(tmp_path / "wheels", tag=tag)
    for name, requirement in (
        ("by-path", str(wheel)),
        ("by-name", f"--find-links {wheel.parent}\n{NATIVE}"),
    ):
        refused = scramjet_pack(project(tmp_path / name, requirement))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"{tmp_path / name}/requirements.txt: " in refused.stderr
        assert NATIVE in refused.stderr
        assert not (tmp_path / f"{name}.tar.gz").exists()
    (tmp_path / "vendored").mkdir()
    folder = project(tmp_path / "vendored" / "it", "")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "__pypackages__")
    refused = scramjet_pack(folder)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"is for {tag}, but this machine and Python " in refused.stderr
