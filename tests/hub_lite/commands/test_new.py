"""``hub-lite new``: the folder of a new Sequence. That the templates are good ones is shown by tests/test_templates.py."""

import json
import os
import re
import tempfile
import tomllib
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.cli import main
from hub_lite.commands.new import TEMPLATES, home, make
from sequence_sdk.manifest import parse_manifest

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the commands are typed."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def type_in(*words: str) -> Result:
    return CliRunner().invoke(main, ["new", *words])


def contents(folder: Path) -> dict[str, bytes]:
    """Return what is in a folder, without what tests and editors leave there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_folder_has_all_of_the_template_and_differs_in_the_name_alone(here: Path, template: str) -> None:
    result = type_in("my-own", "--template", template)
    assert (result.exit_code, result.stderr) == (0, "")
    made, original = contents(here / "my-own"), contents(home() / template)
    assert made.keys() == original.keys()
    assert {name for name in made if made[name] != original[name]} == {"README.md", "package.json"}
    manifest = parse_manifest(made["package.json"])
    assert manifest.name == "my-own"
    assert json.loads(made["package.json"]) == {**json.loads(original["package.json"]), "name": "my-own"}
    assert made["README.md"].startswith(b"# my-own\n")
    assert b"-o my-own.tar.gz" in made["README.md"]
    assert f"{template}.tar.gz".encode() not in made["README.md"]


def test_it_says_what_to_do_next() -> None:
    result = type_in("shout")
    assert result.stdout == (
        "shout is made from the template transform. What to do next:\n  cd shout\n  hub-lite dev .\n  pytest\n"
    )


def test_what_to_do_next_in_javascript_is_something_else() -> None:
    result = type_in("shout", "-t", "js")
    assert result.stdout == (
        "shout is made from the template js. What to do next:\n"
        "  cd shout\n  node --test\n  hub-lite setup node  # once\n  hub-lite dev .\n"
    )


def test_the_list_has_each_template_with_what_it_does_and_makes_nothing(here: Path) -> None:
    result = type_in("--list")
    assert result.exit_code == 0
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert [name for name, _ in lines] == list(TEMPLATES)
    assert all(re.fullmatch(r"[A-Z].*\.", said) for _, said in lines)
    assert list(here.iterdir()) == []


def test_there_are_no_other_templates() -> None:
    assert sorted(path.name for path in home().iterdir() if path.is_dir()) == sorted(TEMPLATES)
    result = type_in("shout", "-t", "cobol")
    assert result.exit_code == 2
    assert "'cobol' is not one of 'transform', 'source'" in result.stderr


def test_a_folder_that_is_empty_is_filled(here: Path) -> None:
    (here / "shout").mkdir()
    assert type_in("shout").exit_code == 0
    assert (here / "shout" / "main.py").is_file()


def test_a_folder_that_is_not_empty_is_left_as_it_is(here: Path) -> None:
    (here / "shout").mkdir()
    (here / "shout" / ".hidden").write_text("mine")
    result = type_in("shout")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "hub-lite: the folder shout has files in it already; choose another name, or empty it first\n"
    )
    assert contents(here) == {"shout/.hidden": b"mine"}


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_is_no_folder_is_left_as_it_is(here: Path, kind: str) -> None:
    if kind == "file":
        (here / "shout").write_text("mine")
    else:
        (here / "shout").symlink_to("nowhere")
    result = type_in("shout")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "hub-lite: shout is there already, and is no folder; choose another name\n"
    assert [path.name for path in here.iterdir()] == ["shout"]


def test_a_folder_that_cannot_be_made_is_a_sentence(here: Path) -> None:
    gone = here / "gone"
    gone.mkdir()
    with chdir(gone):
        gone.rmdir()
        result = type_in("shout")
        os.chdir(here)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"hub-lite: No such file or directory: \S+\n", result.stderr)


def test_a_name_is_asked_for() -> None:
    result = type_in()
    assert result.exit_code == 2
    assert "say how the Sequence is to be called: `hub-lite new NAME`, or --list" in result.stderr


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("Shout", "'shout' would do"),
        ("my shout", "'my-shout' would do"),
        ("../shout", "'shout' would do"),
        (".shout", "'shout' would do"),
        ("shout\n", "'shout' would do"),
        ("żółw", "'w' would do"),
        ("", "begins with a letter or a digit"),
        ("..", "begins with a letter or a digit"),
        ("x" * 101, f"'{'x' * 100}' would do"),
    ],
)
def test_a_bad_name_is_told_with_a_better_one(here: Path, name: str, better: str) -> None:
    result = type_in(name)
    assert result.exit_code == 2
    assert f"{name!r} cannot be a name: a name has up to 100 lower-case letters" in result.stderr
    assert result.stderr.endswith(f"{better}\n")
    assert list(here.iterdir()) == []


@given(
    st.text(st.characters(codec="utf-8"), max_size=120) | st.from_regex(r"[a-z0-9._-]{1,100}", fullmatch=True)
)
def test_any_name_makes_one_folder_of_that_name_or_is_refused(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        result = type_in("--", name)
        made = [path.name for path in Path().iterdir()]
        if result.exit_code == 0:
            assert made == [name]
            assert parse_manifest((Path(name) / "package.json").read_bytes()).name == name
        else:
            assert (result.exit_code, made) == (2, [])


@given(st.text(st.characters(codec="utf-8"), max_size=120))
def test_a_better_name_is_a_good_one(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        offered = re.search(r"'([^']+)' would do\n\Z", type_in("--", name).stderr)
        if offered:
            assert type_in("--", offered[1]).exit_code == 0


def test_files_can_be_written_to_though_those_of_the_template_cannot_and_caches_stay_behind(
    here: Path,
) -> None:
    template = here / "installed" / "mine"
    (template / "part" / "__pycache__").mkdir(parents=True)
    for name in ("package.json", "part/main.py", "part/__pycache__/main.pyc"):
        (template / name).write_text('{ "name": "mine" }')
        (template / name).chmod(0o444)
    make(template, "yours", here / "yours")
    assert contents(here / "yours") == {
        "package.json": b'{ "name": "yours" }',
        "part/main.py": b'{ "name": "mine" }',
    }
    assert not (here / "yours" / "part" / "__pycache__").exists()
    assert (here / "yours" / "package.json").stat().st_mode & 0o200


def test_templates_are_in_the_package_where_it_is_installed_and_beside_it_in_a_checkout(here: Path) -> None:
    package = here / "hub_lite"
    package.mkdir()
    assert home(package) == here / "templates"
    (package / "templates").mkdir()
    assert home(package) == package / "templates"


def test_the_wheel_has_the_templates_where_they_are_looked_for() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    assert wheel["force-include"]["templates"] == "hub_lite/templates"
