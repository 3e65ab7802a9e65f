"""What a check finds in a Sequence."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.manifest import Manifest
from sequence_sdk.pack.errors import FileUnreadable
from sequence_sdk.pack.files import PackedFile, Selection
from sequence_sdk.pack.findings import LARGE, check, collisions, engine_faults, secrets_in

MARKED = "from sequence_sdk import sequence\n\n@sequence\nasync def shout(input): ...\n"
# Put together here, so that nobody who looks for secrets finds any in this file.
SECRETS = {
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "an AWS access key": "AKIA" + "Q" * 16,
    "an AWS secret key": "aws_secret_access_key = '" + "q" * 40 + "'",
    "a GitHub token": "ghp_" + "q" * 36,
    "a GitLab token": "glpat-" + "q" * 20,
    "a Slack token": "xoxb-" + "1" * 12,
    "a PyPI token": "pypi-" + "q" * 60,
    "an npm token": "npm_" + "q" * 36,
    "a Stripe key": "sk_live_" + "q" * 24,
    "a Google API key": "AIza" + "q" * 35,
    "a JSON Web Token": "eyJ" + "q" * 10 + ".eyJ" + "q" * 10 + "." + "q" * 10,
    "a secret": "API_KEY = 'q1" + "q" * 20 + "'",
}


@pytest.fixture
def demo(tmp_path) -> Path:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "package.json").write_text('{"main": "main.py", "engines": {"python3": ">=3.11"}}')
    (folder / "main.py").write_text(MARKED)
    return folder


def entries(*names: str) -> tuple[PackedFile, ...]:
    return tuple(PackedFile(name, Path(name)) for name in names)


def test_in_a_good_folder_nothing_is_found_and_nothing_is_written(demo):
    checked = check(demo)
    assert (checked.errors, checked.warnings) == ((), ())
    assert checked.manifest.main == "main.py"
    assert [entry.name for entry in checked.entries] == ["main.py", "package.json"]
    assert checked.left_out == ()
    assert [path.name for path in demo.parent.iterdir()] == ["demo"]
    assert sorted(path.name for path in demo.rglob("*")) == ["main.py", "package.json"]


def test_a_folder_that_cannot_be_looked_at_is_one_error(tmp_path):
    checked = check(tmp_path / "gone")
    assert checked.errors == (f"{tmp_path}/gone not found; name the folder that holds the package.json",)
    assert (checked.manifest, checked.selection) == (None, Selection((), ()))


def test_all_that_is_wrong_is_found_at_once(demo):
    (demo / "package.json").write_text('{"main": "main.py", "engines": {"python3": "new"}}')
    (demo / "main.py").write_text("def (")
    (demo / "a.txt").write_text(SECRETS["a private key"])
    (demo / "A.txt").touch()
    with (demo / "large").open("wb") as large:
        large.truncate(LARGE + 1)
    checked = check(demo)
    source, engine, names, secret = checked.errors
    assert source.startswith(f"{demo}/main.py:1:")
    assert (
        engine == 'package.json: engines.python3 must be a range of versions such as ">=3.11", but it is new'
    )
    assert names == "A.txt and a.txt are one name on some machines; rename one of them"
    assert secret.startswith("a.txt:1: looks like a private key; ")
    (warning,) = checked.warnings
    assert warning.startswith("large has 10485761 bytes; ")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import gone_from_here", "ModuleNotFoundError: No module named 'gone_from_here'"),
        ("x = 1", "no function is marked @sequence"),
        (MARKED + MARKED.replace("shout", "cry"), "several functions are marked @sequence (cry, shout); "),
        ("def run(): ...", "run() cannot be called as run(context, input): too many positional arguments"),
    ],
    ids=["import", "none", "several", "signature"],
)
def test_a_sequence_that_cannot_be_used_is_found(demo, source, problem):
    (demo / "main.py").write_text(source)
    (found,) = check(demo).errors
    assert found.startswith(problem)


@pytest.mark.parametrize(
    "source", ["def run(context, input, *args): ...", "def run(context, input, n): ...", "run = min"]
)
def test_a_classic_sequence_is_good(demo, source):
    (demo / "main.py").write_text(source)
    assert check(demo).errors == ()


def test_an_import_that_takes_too_long_is_found(demo):
    (demo / "main.py").write_text("import threading\nthreading.Event().wait()")
    assert check(demo, timeout=0.2).errors == ("the import of main.py takes longer than 0.2 s",)


def test_a_javascript_sequence_is_not_imported(demo):
    (demo / "package.json").write_text('{"main": "main.js", "engines": {"node": ">=16 <20"}}')
    (demo / "main.js").write_text("no python")
    (demo / "main.py").write_text("nor this")
    assert check(demo).errors == ()


def test_a_single_file_is_checked_without_its_neighbours(tmp_path):
    path = tmp_path / "loud.py"
    path.write_text("import neighbour\n" + MARKED)
    (tmp_path / "neighbour.py").touch()
    assert check(path).errors == ("ModuleNotFoundError: No module named 'neighbour'",)
    path.write_text("# /// script\n# dependencies = ['numpy']\n# ///\n" + MARKED)
    checked = check(path, dependencies=False)
    assert checked.errors == ()
    assert checked.warnings == (
        "what loud.py names is not in the package; the Python of the hub must have it",
    )


@pytest.mark.parametrize(
    "versions",
    [
        *(
            "",
            "*",
            ">=3.11",
            ">= 3.11",
            "3.11.*",
            "~=3.11",
            "==3.12.1",
            "!=3.12",
            "3",
            "^18",
            "18.x",
            "v18.1.0",
        ),
        *(
            ">=3.11,<4",
            ">=3.11, <3.13",
            "^14 || ^16",
            ">=16 <20",
            "1.2 - 2.3",
            "3.13rc1",
            "3.13.0-beta.2",
            " >=3 ",
        ),
    ],
)
def test_ranges_of_versions_are_good(versions):
    assert engine_faults(Manifest("main.py", engines={"python3": versions}), "package.json") == []
    assert engine_faults(Manifest("main.js", engines={"node": versions}), "package.json") == []


@pytest.mark.parametrize("versions", ["new", ">=", ">=3.11,", "3..1", "=>3", "3.11;"])
def test_other_texts_are_no_ranges(versions):
    (fault,) = engine_faults(Manifest("main.py", engines={"python3": versions}), "pyproject.toml")
    assert fault.startswith("pyproject.toml: engines.python3 must be a range of versions")


def test_an_engine_that_no_hub_has_is_found():
    (fault,) = engine_faults(Manifest("main.rb", engines={"ruby": "3"}), "package.json")
    assert fault == 'package.json: "engines" must name python3 or node, but it names ruby'
    (fault,) = engine_faults(Manifest("main.rb"), "package.json")
    assert fault.endswith("but it names none, and main is main.rb")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a", "A"), "A and a are"),
        (("x/a", "X/b"), "X and x are"),
        (("straße", "STRASSE"), "STRASSE and straße are"),
        (("caf\u00e9", "cafe\u0301"), r"'cafe\u0301' and 'caf\xe9' are"),
    ],
)
def test_names_that_some_machines_take_for_one_are_found(names, told):
    (found,) = collisions(entries(*names))
    assert found == f"{told} one name on some machines; rename one of them"


def test_names_that_differ_collide_not():
    assert collisions(entries("a/b", "a/c", "b/a", "ab")) == []


@given(st.text(min_size=1).filter(lambda name: "/" not in name))
def test_a_name_collides_with_its_other_forms_and_never_with_itself(name):
    others = {unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name), name.upper()} - {name}
    assert collisions(entries(name)) == []
    found = collisions(entries(name, *sorted(other for other in others if "/" not in other)))
    decomposed = unicodedata.normalize("NFD", name)
    assert bool(found) or decomposed == name


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_with_its_line_and_not_repeated(tmp_path, kind):
    path = tmp_path / "config.py"
    path.write_text(f"first\n\n{SECRETS[kind]}\n")
    (found,) = secrets_in((PackedFile("config.py", path),))
    assert found == (
        f"config.py:3: looks like {kind}; give it to the Sequence when it is started, or say --allow-secrets"
    )


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----",
        "token = os.environ['TOKEN_OF_MY_SERVICE_2024']",
        "password: 'correct horse battery staple'",
        "secret = ''",
        "XAKIA" + "Q" * 20,
        "\0" + SECRETS["a private key"],
    ],
)
def test_other_texts_are_no_secrets(tmp_path, text):
    path = tmp_path / "config.py"
    path.write_text(text)
    assert secrets_in((PackedFile("config.py", path),)) == []


def test_lines_are_counted_although_they_are_long(tmp_path):
    path = tmp_path / "a.js"
    path.write_text("x" * 3_000_000 + "\n" + SECRETS["an npm token"])
    (found,) = secrets_in((PackedFile("a.js", path),))
    assert found.startswith("a.js:2: looks like an npm token")


def test_secrets_of_dependencies_and_folders_and_made_files_are_not_looked_for(tmp_path):
    path = tmp_path / "key.pem"
    path.write_text(SECRETS["a private key"])
    files = (
        PackedFile("__pypackages__/key.pem", path),
        PackedFile("empty", tmp_path, is_folder=True),
        PackedFile("package.json", path, content=b"{}"),
    )
    assert secrets_in(files) == []


def test_who_allows_secrets_hears_of_none(demo):
    (demo / "key.pem").write_text(SECRETS["a private key"])
    assert len(check(demo).errors) == 1
    assert check(demo, allow_secrets=True).errors == ()


def test_a_file_that_cannot_be_read_is_an_error(demo, monkeypatch):
    with pytest.raises(FileUnreadable):
        secrets_in(entries("gone.txt"))

    def refuse(files):
        raise FileUnreadable(files[0].path, PermissionError(13, "Permission denied"))

    monkeypatch.setattr("sequence_sdk.pack.findings.secrets_in", refuse)
    (found,) = check(demo).errors
    assert "main.py cannot be read (Permission denied)" in found
