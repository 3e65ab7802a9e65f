"""Each template is a good start: it compiles, its own tests pass where a stranger runs them, and it packs and runs."""

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from sequence_sdk import sequence
from sequence_sdk.pack import pack

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
FOLDERS = sorted(manifest.parent for manifest in TEMPLATES.glob("*/package.json"))
DEADLINE = 60.0  # seconds until a command is given up

# What goes in, the arguments, and what comes out.
RUNS = {"transform": (b"one\n\ntwo", [7], b"7 one\n8 two\n")}


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def copied(request, tmp_path):
    """Return a template as somebody has it who copied it to a place of their own."""
    return Path(shutil.copytree(request.param, tmp_path / request.param.name))


def python(*arguments, cwd, **options):
    """Run this interpreter as a stranger would, with nothing of the project's but what is installed."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "PYTHONPATH", "HUB_LITE"))
    }
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=cwd,
        env=environment,
        capture_output=True,
        timeout=DEADLINE,
        **options,
    )


def test_each_folder_of_templates_is_tested_here():
    assert [folder.name for folder in FOLDERS] == sorted(RUNS)
    assert sorted(entry for entry in TEMPLATES.iterdir() if entry.is_dir()) == FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_manifest_names_what_a_hub_needs_and_documents_the_arguments(folder):
    manifest = json.loads((folder / "package.json").read_text("utf-8"))
    assert manifest["name"] == folder.name
    assert manifest["engines"] == {"python3": ">=3.11"}
    scope = {"__name__": "sequence"}
    exec(compile((folder / manifest["main"]).read_text("utf-8"), manifest["main"], "exec"), scope)
    marked = [value for value in scope.values() if hasattr(value, "__sequence__")]
    assert len(marked) == 1
    taken = [
        (each.name, each.default)
        for each in inspect.signature(marked[0]).parameters.values()
        if each.default is not each.empty
    ]
    assert [(each["name"], each["default"]) for each in manifest["args"]] == taken


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_sequence_imports_nothing_but_the_sdk_and_the_standard_library(folder):
    tree = ast.parse((folder / "main.py").read_text("utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {
        sequence.__module__.partition(".")[0]
    }


def test_its_own_tests_pass_with_warnings_as_errors(copied):
    # pytest-asyncio is not needed, and warns of settings that a stranger does not have
    run = python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error", cwd=copied
    )
    assert run.returncode == 0, run.stdout.decode() + run.stderr.decode()
    assert b" passed" in run.stdout


def test_the_package_holds_the_sequence_and_not_its_tests(copied, tmp_path):
    result = pack(copied, tmp_path / "package.tar.gz")
    with tarfile.open(result.path) as archive:
        names = set(archive.getnames())
    assert {"main.py", "package.json"} <= names
    assert not [name for name in names if name.startswith("test_") or name == "README.md"]


def test_it_runs_on_a_hub(copied):
    given, args, wanted = RUNS[copied.name]
    run = python("-m", "hub_lite", "run", ".", "--args", json.dumps(args), cwd=copied, input=given)
    assert (run.returncode, run.stdout) == (0, wanted), run.stderr.decode()
