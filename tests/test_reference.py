"""The reference: it is what the docstrings say today, and every public name of the SDK has a docstring and is in it."""

import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import sequence_sdk

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference.md"


def load(path):
    """Return the program that makes the page, as a module."""
    spec = importlib.util.spec_from_file_location("make_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load(ROOT / "docs" / "make_reference.py")
MODULES = [importlib.import_module(name) for name in maker.MODULES]
ENTRIES = [(module, entry) for module in MODULES for entry in maker.entries(module)]


def test_the_page_is_what_the_docstrings_say():
    assert PAGE.read_text("utf-8") == maker.page(), "run `python docs/make_reference.py`"


def test_making_the_page_twice_gives_the_same_bytes():
    assert maker.page() == load(ROOT / "docs" / "make_reference.py").page()


@pytest.mark.parametrize(
    ("module", "entry"), ENTRIES, ids=[f"{module.__name__}-{entry.name}" for module, entry in ENTRIES]
)
def test_every_public_name_has_a_docstring_whose_first_line_is_a_sentence(module, entry):
    first, *_ = "\n".join(entry.texts).strip().splitlines() or [""]
    assert re.search(r"\w.*[.:;,…)`]$", first), f"{module.__name__}.{entry.name} says {first!r}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_name_that_a_module_offers_has_a_heading(module):
    offered = set(getattr(module, "__all__", ())) or {"HubApi", "ClientError", "HubRefused", "StreamBroken"}
    headings = set(re.findall(r"^### (.*)$", PAGE.read_text("utf-8"), re.MULTILINE))
    assert offered <= headings


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_what_a_module_offers_is_there_and_in_order(module):
    offered = list(getattr(module, "__all__", ()))
    assert all(hasattr(module, name) for name in offered)
    assert len(set(offered)) == len(offered)


def public_members(value):
    return {
        name
        for name, member in inspect.getmembers_static(value)
        if not name.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, property | classmethod | staticmethod))
    }


@pytest.mark.parametrize("name", ["Context", "Stream", "HubApi"])
def test_every_method_of_the_great_classes_is_in_it_unless_it_is_for_the_runner(name):
    value = getattr(sequence_sdk, name, None) or getattr(importlib.import_module("sequence_sdk.hub"), name)
    shown = {entry.name.partition(".")[2] for _, entry in ENTRIES if entry.name.startswith(f"{name}.")}
    _, _, others = inspect.getsource(value).partition("# --- the runner's side")
    for_the_runner = set(re.findall(r"^    (?:async )?def (\w+)", others, re.MULTILINE))
    assert shown == public_members(value) - for_the_runner
    assert shown


def test_links_to_a_name_lead_to_its_heading():
    text = PAGE.read_text("utf-8")
    headings = re.findall(r"^#+ (.*)$", re.sub(r"(?ms)^```.*?^```$", "", text), re.MULTILINE)
    linked = re.findall(r"\]\(#([^)]*)\)", text)
    assert set(linked) <= {maker.slug(heading) for heading in headings}
    assert len({maker.slug(heading) for heading in headings}) == len(headings), "no two have one anchor"


# Docstrings become Markdown


def test_the_sections_of_a_docstring_become_lists_and_the_text_around_them_stays():
    made = maker.markdown(
        "Return *the* bytes.\n\nShape: 37 bytes,\n    then ``*``.\n\nArgs:\n    a: one\n        of two\n    b: two\n\nAnd more."
        "\n\nRaises:\n    ValueError: no.\n"
    )
    assert made == (
        "Return \\*the\\* bytes.\n\nShape: 37 bytes,\nthen ``*``.\n\nArguments:\n\n- `a`: one of two\n- `b`: two\n\nAnd more."
        "\n\nRaises:\n\n- `ValueError`: no."
    )


def test_a_docstring_without_sections_stays_as_it_is():
    assert maker.markdown("One line.\n\nAnd `a * b < c`, or not.") == "One line.\n\nAnd `a * b < c`, or not."


LONG = """\
long(
    first_of_the_two_parameters_it_has: dict[str, int],
    the_other_one_of_its_parameters: dict[str, int],
)"""


def test_signatures_are_those_of_the_source(tmp_path, monkeypatch):
    (tmp_path / "spelled.py").write_text(
        "_FIVE = 5\n\n\n"
        "def short(a, /, b: 'int' = _FIVE, *rest: str, c=None, **options: object) -> 'list[int]':\n"
        "    'Doc.'\n\n\n"
        "async def no_positional(*, first: str = 'Hello') -> None:\n"
        "    'Doc.'\n\n\n"
        "def long(\n    first_of_the_two_parameters_it_has: dict[\n        str, int\n    ],\n"
        "    the_other_one_of_its_parameters: dict[str, int],\n): ...\n\n\n"
        "class Thing:\n    'Doc.'\n\n    def method(self, /, x): ...\n\n    @staticmethod\n    def free(x): ...\n\n"
        "    @property\n    def size(self) -> int: ...\n\n    # --- the runner's side ---\n\n    def hidden(self): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("spelled")
    module.__all__ = ["short", "no_positional", "long", "Thing"]
    monkeypatch.setattr(maker, "_is_ours", lambda thing: thing.__module__ == "spelled")
    found = {entry.name: entry.signatures for entry in maker.entries(module)}
    assert found == {
        "short": ("short(a, /, b: int = 5, *rest: str, c=None, **options: object) -> list[int]",),
        "no_positional": ("async no_positional(*, first: str = 'Hello') -> None",),
        "long": (LONG,),
        "Thing": ("class Thing",),
        "Thing.method": ("Thing.method(x)",),
        "Thing.free": ("Thing.free(x)",),
        "Thing.size": ("Thing.size: int",),
    }
