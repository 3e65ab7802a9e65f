"""The wheel, as people get it: what is in it, and that it works in an environment where nothing else of ours is."""

import fcntl
import importlib.util
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT = 600.0  # seconds; dependencies come from the package index
OFFLINE = re.compile(
    r"Failed to establish a new connection|name resolution|Name or service not known|timed out"
)


def run(*words: str | Path, cwd: Path, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command that must go well, with an environment that points nowhere near the checkout."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "HUB_LITE", "PYTEST", "COVERAGE"))
    }
    result = subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        env=environment,
        input=input,
        capture_output=True,
        check=False,
        timeout=TIMEOUT,
    )
    said = (result.stdout + result.stderr).decode("utf-8", "replace")
    if result.returncode != 0 and OFFLINE.search(said):
        pytest.skip(f"the package index cannot be reached: {said[-300:]}")
    assert result.returncode == 0, said
    return result


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The wheel of the checkout; built once, also where test processes run side by side."""
    shared = tmp_path_factory.getbasetemp()
    folder = (shared if worker_id == "master" else shared.parent) / "wheel"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("*.whl")):
            here = ["--no-isolation"] if importlib.util.find_spec("hatchling") else []
            run(sys.executable, "-m", "build", "--wheel", *here, "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_three_packages_typed_and_no_tests(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        (commands,) = [name for name in names if name.endswith(".dist-info/entry_points.txt")]
        described = archive.read(metadata).decode()
        entry_points = archive.read(commands).decode()
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"runner", "sequence_sdk", "hub_lite", metadata.partition("/")[0]}
    for package in ("runner", "sequence_sdk", "hub_lite"):
        assert f"{package}/py.typed" in names
        in_checkout = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        assert in_checkout <= names, "every module is in it"
    assert not [name for name in names if "test" in name.lower() or "__pycache__" in name]
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert "Requires-Python: >=3.11" in described
    assert "hub-lite = hub_lite.cli:main" in entry_points
    assert "scramjet-pack = sequence_sdk.cli:main" in entry_points


def test_the_wheel_runs_a_sequence_in_an_environment_of_its_own(wheel: Path, tmp_path: Path):
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    run(programs / "python", "-m", "pip", "install", "--disable-pip-version-check", wheel, cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = run(
        programs / "python",
        "-c",
        "import hub_lite, runner, sequence_sdk; print(hub_lite.__file__)",
        cwd=elsewhere,
    )
    assert str(environment) in where.stdout.decode(), "not the checkout's"
    shout = tmp_path / "shout"
    shout.mkdir()
    (shout / "package.json").write_text('{"main": "main.py", "engines": {"python3": ">=3.11"}}')
    (shout / "main.py").write_text(
        "import orjson\n"
        "from sequence_sdk import Context, Input, sequence\n\n\n"
        '@sequence(takes="application/x-ndjson", gives="application/x-ndjson")\n'
        "async def shout(context: Context, input: Input, mark: str):\n"
        "    async for item in input:\n"
        '        yield {"said": item["word"].upper() + mark}\n'
    )
    package = tmp_path / "shout.tar.gz"
    packed = run(programs / "scramjet-pack", shout, "-o", package, cwd=elsewhere)
    assert packed.stdout.decode().strip() == str(package)
    words = tmp_path / "words.ndjson"
    words.write_text('{"word":"hello"}\n{"word":"wheel"}\n')
    result = run(programs / "hub-lite", "run", package, "--input", words, "--args", '["!"]', cwd=elsewhere)
    assert result.stdout == b'{"said":"HELLO!"}\n{"said":"WHEEL!"}\n'
    assert result.stderr == b""
    assert list(elsewhere.iterdir()) == []
