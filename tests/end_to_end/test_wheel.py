"""The wheel, as people get it: what is in it, that it works in an environment of its own, and what type checkers make of it.

``tests/data/typing/good`` holds what an author may write; what is wrong in a line of ``bad`` stands behind it, as in
``# error: arg-type | reportArgumentType``: what mypy calls it, and what pyright does, each one word or more.
"""

import fcntl
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "data" / "typing"
MARK = re.compile(r"# error: (.*)$")
TIMEOUT = 600.0  # seconds; dependencies come from the package index
OFFLINE = re.compile(
    r"Failed to establish a new connection|name resolution|Name or service not known|timed out"
)

Finding = tuple[str, int, str]
"""A file, a line, and what a type checker calls what is wrong there."""


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
    ours = [
        name for name in names if not name.startswith("hub_lite/templates/")
    ]  # with tests that authors begin with
    assert not [name for name in ours if re.search("(^|/)(tests?/|conftest|test_|__pycache__)", name)]
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
        "from sequence_sdk import Context, Stream, sequence\n\n\n"
        '@sequence(takes="application/x-ndjson", gives="application/x-ndjson")\n'
        "async def shout(context: Context, input: Stream[dict[str, str]], mark: str):\n"
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


# As a type checker sees it


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and of what it depends on only what it names types of."""
    environment = tmp_path_factory.mktemp("typed") / "environment"
    venv.create(environment)
    packages = (
        environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    )
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    for library in ("cryptography", "packaging"):
        spec = importlib.util.find_spec(library)
        assert spec is not None
        assert spec.origin is not None
        (packages / library).symlink_to(Path(spec.origin).parent)
    return environment / "bin" / "python"


@pytest.fixture(params=["mypy", "pyright"])
def check(request: pytest.FixtureRequest, installed: Path, tmp_path: Path) -> Callable[[Path], set[Finding]]:
    """What a checker finds in a folder of samples, for an author who is strict."""
    tool: str = request.param
    program = checker(tool)

    def mypy(folder: Path) -> set[Finding]:
        command = [program, "--strict", "--python-executable", installed, "--cache-dir", tmp_path / "cache"]
        result = ask(*command, "--output", "json", *sorted(folder.glob("*.py")), cwd=tmp_path)
        found = [json.loads(line) for line in result.splitlines()]
        return {
            (Path(each["file"]).name, each["line"], each["code"])
            for each in found
            if each["severity"] == "error" and (tmp_path / each["file"]).resolve().parent == folder
        }

    def pyright(folder: Path) -> set[Finding]:
        shutil.copytree(folder, tmp_path / "samples")
        mode = "strict" if folder.name == "good" else "standard"  # which says a thing once
        (tmp_path / "pyrightconfig.json").write_text(
            json.dumps({"include": ["samples"], "typeCheckingMode": mode})
        )
        answer = ask(program, "--pythonpath", installed, "--outputjson", cwd=tmp_path)
        return {
            (Path(each["file"]).name, each["range"]["start"]["line"] + 1, each.get("rule", each["message"]))
            for each in json.loads(answer)["generalDiagnostics"]
        }

    return {"mypy": mypy, "pyright": pyright}[tool]


def checker(tool: str) -> Path:
    program = Path(sys.executable).with_name(tool)
    if not program.exists():
        pytest.skip(f"{tool} is not installed here")
    return program


def ask(*words: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Return what a checker prints, which finds something or nothing; anything else is a failure."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "MYPY"))
    }
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    result = subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return result.stdout


def marked(folder: Path, tool: int) -> set[Finding]:
    """Return the errors that the lines of the samples say a checker finds in them."""
    return {
        (path.name, number, word)
        for path in folder.glob("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if (found := MARK.search(line))
        for word in found[1].split("|")[tool].split()
    }


def test_what_an_author_may_write_has_no_type_errors(check):
    assert check(SAMPLES / "good") == set()


def test_mistakes_are_type_errors_where_they_stand_and_nowhere_else(check, request):
    tool = ["mypy", "pyright"].index(request.node.callspec.params["check"])
    assert check(SAMPLES / "bad") == marked(SAMPLES / "bad", tool)


def test_the_types_of_all_public_names_are_known(installed: Path, tmp_path: Path):
    words = [checker("pyright"), "--verifytypes", "sequence_sdk", "--ignoreexternal", "--outputjson"]
    report = json.loads(ask(*words, cwd=tmp_path, path=installed.parent))["typeCompleteness"]
    exported = [each for each in report["symbols"] if each["isExported"]]
    assert exported
    assert {each["name"] for each in exported if not each["isTypeKnown"] or each["isTypeAmbiguous"]} == set()


@pytest.mark.parametrize("sample", sorted((SAMPLES / "good").glob("*.py")), ids=lambda path: path.stem)
def test_what_an_author_may_write_can_be_imported_too(sample):
    runpy.run_path(str(sample))
