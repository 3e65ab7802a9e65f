"""Each template is a good start: it compiles, its own tests pass where a stranger runs them, and it packs and runs."""

import ast
import asyncio
import inspect
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hub_lite.commands.new import TEMPLATES as NAMES
from hub_lite.commands.new import home
from sequence_sdk.find import Found, find_sequence
from sequence_sdk.manifest import parse_manifest
from sequence_sdk.pack import pack

from .end_to_end.harness import DEADLINE as SOON
from .end_to_end.harness import running_hub, talking_to
from .end_to_end.npm import installed
from .end_to_end.test_original_runners import OLD_PYTHONS, VERSION, old_python

TEMPLATES = home()
DEADLINE = 60.0  # seconds until a command is given up
ORDERS = b'{"sku": "tea", "price": 2.5, "count": 4}\n{"sku": "cup", "price": "cheap"}\n{"sku": "pot", "price": 30}\n'


@dataclass(frozen=True)
class Run:
    """What goes into a template, the arguments, and what comes out; ``also`` is what else must be so in the folder."""

    given: bytes
    args: list[object]
    wanted: bytes
    content_type: str = "text/plain"
    also: Callable[[Path], None] = field(default=lambda _: None)


def orders_are_stored(folder):
    with sqlite3.connect(folder / "stored.sqlite3") as database:
        stored = database.execute("select * from orders").fetchall()
    database.close()
    assert stored == [("tea", 2.5, 4), ("pot", 30.0, 1)]


RUNS = {
    "transform": Run(b"one\n\ntwo", [7], b"7 one\n8 two\n"),
    "source": Run(b"", [0.01, 2], b'{"number":1,"celsius":20.5}\n{"number":2,"celsius":20.99}\n'),
    "sink": Run(ORDERS, ["{folder}/stored.sqlite3"], b"", "application/x-ndjson", orders_are_stored),
    "chain": Run(b"tea,2.5,4\ntea\ncup,8,1\n", [9], b'{"sku":"tea","total":10.0}\n'),
    "stateful": Run(b"tea\ntea\n", [1], b'{"word":"tea","count":1}\n{"word":"tea","count":2}\n'),
    "classic": Run(b"a cup of tea\nx\n", [3], b"2 cup tea\n0\n"),
    "js": Run("jeden\n\nżółw".encode(), [7], "7 jeden\n8 żółw\n".encode()),
}
PYTHON = [name for name in NAMES if name != "js"]


@pytest.fixture
def copied(request, tmp_path):
    """Return a template as somebody has it who copied it to a place of their own."""
    return Path(shutil.copytree(TEMPLATES / request.param, tmp_path / request.param))


each = pytest.mark.parametrize("copied", NAMES, indirect=True)
each_in_python = pytest.mark.parametrize("copied", PYTHON, indirect=True)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


def python(*arguments, cwd, **options):
    """Run this interpreter as a stranger would, with nothing of the project's but what is installed."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "PYTHONPATH", "HUB_LITE"))
    }
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # a stranger has the plugin of the SDK, and no other
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=cwd,
        env=environment,
        capture_output=True,
        timeout=DEADLINE,
        **options,
    )


def members_of(folder):
    """Return the members of the module that a folder has for a Sequence."""
    scope = {"__name__": "sequence"}
    exec(compile((folder / "main.py").read_text("utf-8"), "main.py", "exec", dont_inherit=True), scope)
    return scope


def test_each_folder_of_templates_is_tested_here():
    assert (
        sorted(RUNS) == sorted(NAMES) == sorted(entry.name for entry in TEMPLATES.iterdir() if entry.is_dir())
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_names_what_a_hub_needs(name):
    manifest = parse_manifest((TEMPLATES / name / "package.json").read_bytes())
    assert (manifest.name, manifest.version) == (name, "0.1.0")
    assert manifest.language == ("js" if name == "js" else "py")
    assert (TEMPLATES / name / manifest.main).is_file()
    assert len(manifest.engines) == 1
    assert manifest.description.endswith(".")


@pytest.mark.parametrize("name", PYTHON)
def test_the_manifest_documents_the_arguments(name):
    scope = members_of(TEMPLATES / name)
    found = find_sequence(scope, "sequence")
    assert isinstance(found, Found)
    functions = found.spec.parts or [found.thing]
    taken = [
        (parameter.name, parameter.default)
        for function in functions
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is not parameter.empty
    ]
    documented = json.loads((TEMPLATES / name / "package.json").read_text("utf-8"))["args"]
    assert [(argument["name"], argument["default"]) for argument in documented] == taken
    assert all(argument["description"] and argument["type"] for argument in documented)


@pytest.mark.parametrize("name", PYTHON)
def test_the_sequence_imports_nothing_but_the_sdk_and_the_standard_library(name):
    tree = ast.parse((TEMPLATES / name / "main.py").read_text("utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    others = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    assert others == (set() if name == "classic" else {"sequence_sdk"})


@each_in_python
def test_its_own_tests_pass_with_warnings_as_errors(copied):
    options = ["-q", "-p", "no:cacheprovider", "-p", "sequence_sdk.testing.plugin", "-W", "error"]
    run = python("-m", "pytest", *options, cwd=copied)
    assert run.returncode == 0, run.stdout.decode() + run.stderr.decode()
    assert b" passed" in run.stdout


@pytest.mark.parametrize("copied", ["js"], indirect=True)
def test_its_own_tests_pass_in_node(copied):
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed here")
    run = subprocess.run([node, "--test"], cwd=copied, capture_output=True, check=False, timeout=DEADLINE)
    assert run.returncode == 0, run.stdout.decode()
    assert b"pass 4" in run.stdout


@each
def test_the_package_holds_the_sequence_and_not_its_tests(copied, tmp_path):
    result = pack(copied, tmp_path / "package.tar.gz")
    with tarfile.open(result.path) as archive:
        names = set(archive.getnames())
    assert {"index.js" if copied.name == "js" else "main.py", "package.json"} <= names
    assert not [name for name in names if "test" in name or name == "README.md"]


@each_in_python
def test_it_runs_on_a_hub(copied, hub):
    run = RUNS[copied.name]
    args = json.dumps(run.args).replace("{folder}", str(copied.parent))
    command = ["hub_lite", "run", ".", "--hub", hub.url, "--args", args, "-t", run.content_type]
    ran = python("-m", *command, cwd=copied, input=run.given)
    assert (ran.returncode, ran.stdout) == (0, run.wanted), ran.stderr.decode()
    run.also(copied.parent)


@pytest.mark.parametrize("copied", ["js"], indirect=True)
async def test_it_runs_on_a_hub_that_has_a_runner_for_node(copied, tmp_path):
    run = RUNS[copied.name]
    modules = installed("@scramjet/runner", VERSION)
    (tmp_path / "data" / "node").mkdir(parents=True)
    (tmp_path / "data" / "node" / "node_modules").symlink_to(modules)
    with running_hub(tmp_path) as hub:
        assert await outputs(hub, copied, run) == run.wanted


@pytest.mark.parametrize("copied", ["classic"], indirect=True)
async def test_it_runs_with_the_python_runner_of_transform_hub(copied, tmp_path):
    run, interpreter = RUNS[copied.name], old_python()
    if interpreter is None:
        pytest.skip(f"that runner needs CPython {' or '.join(OLD_PYTHONS)}, and none is installed here")
    runner = installed("@scramjet/python-runner", VERSION) / "@scramjet" / "python-runner"
    runners = {"python": str(runner), "pythonInterpreter": interpreter, "pythonFor": "original"}
    (tmp_path / "settings.json").write_text(json.dumps({"runners": runners}))
    with running_hub(tmp_path, "--config", str(tmp_path / "settings.json")) as hub:
        assert await outputs(hub, copied, run) == run.wanted


async def outputs(hub, folder, run):
    """Return what a packed folder gives on a hub."""
    package = pack(folder, folder.with_name("package.tar.gz")).path
    async with talking_to(hub.url) as talk, asyncio.timeout(SOON):
        sequence = await talk.upload_bytes(package.read_bytes())
        instance = await talk.client.start(sequence, args=run.args)
        await talk.send(instance, run.given)
        output = await talk.read(instance)
        await talk.ask(
            "POST", f"/instance/{instance}/_kill", json={}
        )  # a Node runner would stay for ten seconds
    return output
