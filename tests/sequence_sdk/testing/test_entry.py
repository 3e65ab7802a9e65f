"""How another process finds what a test runs."""

import importlib
import json
import runpy
import sys

import pytest

from sequence_sdk import sequence
from sequence_sdk.testing import CrashInjected, SubjectNotFound, entry
from sequence_sdk.testing.subject import Subject


@sequence
async def here(lines):
    async for line in lines:
        yield line


@pytest.fixture
def modules():
    """Forget the modules that a test has imported."""
    before, path = dict(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]
    sys.modules.update(before)
    sys.path[:] = path


def test_a_package_is_its_own_folder(tmp_path):
    (tmp_path / "package.json").write_text("{}")
    assert Subject(tmp_path).folder(tmp_path / "scratch") == tmp_path


def test_a_function_gets_a_package_that_imports_it_where_it_is(tmp_path, modules):
    assert Subject(here).folder(tmp_path) == tmp_path
    manifest = json.loads((tmp_path / "package.json").read_text())
    assert manifest["main"] == "main.py"
    assert runpy.run_path(str(tmp_path / "main.py"))["run"].__name__ == "here"


def test_a_file_gets_a_package_that_runs_it_where_it_is(tmp_path, modules):
    (tmp_path / "words.py").write_text("MARK = 1")
    (tmp_path / "code.py").write_text(
        "import words\nfrom words import MARK\ndef run(context, input): return MARK"
    )
    (tmp_path / "scratch").mkdir()
    Subject(tmp_path / "code.py").folder(tmp_path / "scratch")
    members = runpy.run_path(str(tmp_path / "scratch" / "main.py"))
    assert members["run"](None, None) == 1
    assert members["__file__"] == str(tmp_path / "code.py")


def test_what_is_no_member_of_a_module_cannot_be_found_by_another_process(tmp_path):
    @sequence
    async def inner(lines):
        yield ""

    with pytest.raises(SubjectNotFound, match=r"inner is no member of a module.*stages\(\"direct\"\)"):
        Subject(inner).folder(tmp_path)


def test_a_name_in_the_module_of_the_test_will_do(tmp_path):
    @sequence
    async def made(lines):
        yield ""

    module = type(sys)("made_up")
    module.alias = made
    with pytest.raises(SubjectNotFound, match="its module made_up has no file"):
        Subject(made, (module,)).folder(tmp_path)
    module.__file__ = str(tmp_path / "made_up.py")
    Subject(made, (module,)).folder(tmp_path)
    assert "'name': 'alias'" in (tmp_path / "main.py").read_text()


def test_a_thing_without_a_module_has_only_neighbours(tmp_path):
    class Odd:
        __module__ = None

        def __call__(self, lines):
            return lines

    odd = sequence(Odd())
    with pytest.raises(SubjectNotFound, match="Odd is no member of a module"):
        Subject(odd).folder(tmp_path)


@pytest.mark.parametrize("there", [True, False], ids=["elsewhere", "nowhere"])
def test_a_module_whose_name_leads_elsewhere_is_loaded_from_its_file(tmp_path, modules, there):
    (tmp_path / "test_words.py").write_text("value = 'mine'")
    if there:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "test_words.py").write_text("value = 'other'")
    facts = {
        "module": "test_words",
        "file": str(tmp_path / "test_words.py"),
        "name": "value",
        "path": [str(tmp_path / "other")],
    }
    assert entry.load(facts) == "mine"


def test_a_module_of_a_package_is_imported_by_its_name(tmp_path, modules):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "parts" / "a.py").write_text("from . import b\nvalue = b.value")
    (tmp_path / "parts" / "b.py").write_text("value = 'b'")
    facts = {
        "module": "parts.a",
        "file": str(tmp_path / "parts" / "a.py"),
        "name": "value",
        "path": [str(tmp_path)],
    }
    assert entry.load(facts) == "b"


def test_names_of_the_package_are_found_when_they_are_asked_for():
    module = importlib.import_module("sequence_sdk.testing")
    assert all(getattr(module, name).__name__ == name for name in module.__all__)
    assert module.CrashInjected is CrashInjected
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = module.nothing_such
