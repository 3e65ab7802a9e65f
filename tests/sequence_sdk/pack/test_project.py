"""The ``pyproject.toml`` and the single file that a package is made of."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.manifest import MAX_MANIFEST_BYTES
from sequence_sdk.pack.errors import BadManifest, BadProject, FileUnreadable, NotMarked, SeveralMarked
from sequence_sdk.pack.files import select_files
from sequence_sdk.pack.project import is_marked, made_manifest, main_of, read, read_project, read_script

MARKED = "from sequence_sdk import sequence\n\n@sequence\nasync def shout(input): ...\n"


@pytest.fixture
def project(tmp_path) -> Path:
    return tmp_path / "pyproject.toml"


def chosen(folder: Path, text: str = "", **files: str) -> str:
    (folder / "pyproject.toml").write_text(text)
    for name, source in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    return main_of(read_project(folder / "pyproject.toml"), select_files(folder))


def test_the_fields_of_the_manifest_are_those_of_the_project(project):
    project.write_text(
        '[project]\nname = "shout"\nversion = "1.2"\ndescription = "louder"\nkeywords = ["a", "b"]\n'
        'requires-python = ">=3.12"\nlicense = "MIT"\n'
        'authors = [{name = "Ada", email = "ada@example.org"}, {name = "Bob"}, {email = "c@example.org"}]\n'
    )
    read = read_project(project)
    assert read.fields == {
        "name": "shout",
        "version": "1.2",
        "description": "louder",
        "keywords": ["a", "b"],
        "author": "Ada <ada@example.org>, Bob, c@example.org",
        "engines": {"python3": ">=3.12"},
    }
    assert (read.main, read.wanted.include, read.wanted.exclude) == (None, None, None)


def test_an_empty_project_needs_the_python_of_a_runner(project):
    project.write_text("")
    assert read_project(project).fields == {"engines": {"python3": ">=3.11"}}


def test_include_and_exclude_are_patterns(project):
    project.write_text('[tool.sequence]\ninclude = ["src/"]\nexclude = ["*.md"]\n')
    wanted = read_project(project).wanted
    assert wanted.include.decide("src/a") == (True, "tool.sequence.include (src/)")
    assert wanted.exclude.decide("a.md") == (True, "tool.sequence.exclude (*.md)")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "it must be TOML, but it is not: "),
        ("a = " + "[" * 100_000, "it must be TOML, but it is not: "),
        ("#" * (MAX_MANIFEST_BYTES + 1), "it may have 1048576 bytes at most"),
        ("tool = 1", "tool must be a table"),
        ("[tool]\nsequence = 1", "tool.sequence must be a table"),
        ("[tool.sequence]\nfiles = []", "tool.sequence has no key files; it knows main, include, exclude"),
        ("[tool.sequence]\nmain = 1", "tool.sequence.main must be the path of a file"),
        ("[tool.sequence]\ninclude = 'a'", "tool.sequence.include must be a list of patterns"),
        ("[tool.sequence]\nexclude = [1]", "tool.sequence.exclude must be a list of patterns"),
        ("[tool.sequence]\nexclude = ['[z-a]']", "tool.sequence.exclude: [z-a] is no pattern of git"),
        ("project = 1", "project must be a table"),
        ("[project]\nauthors = 'Ada'", "project.authors must be a list of tables"),
        ("[project]\nauthors = ['Ada']", "project.authors must be a list of tables"),
        ("[project]\nauthors = [{}]", "project.authors must be a list of tables"),
        ("[project]\nauthors = [{name = 1}]", "project.authors must be a list of tables"),
        ("[project]\nauthors = [{email = 1}]", "project.authors must be a list of tables"),
    ],
    ids=lambda value: value[:24],
)
def test_what_is_wrong_in_a_project_is_named(project, text, words):
    project.write_text(text)
    with pytest.raises(BadProject) as caught:
        read_project(project)
    assert str(caught.value).startswith(f"{project}: {words}")


def test_a_project_that_is_not_utf8_is_refused(project):
    project.write_bytes(b"# \xff")
    with pytest.raises(BadProject, match="it must be TOML"):
        read_project(project)


def test_a_project_that_cannot_be_read_is_named(project):
    with pytest.raises(FileUnreadable, match=r"pyproject\.toml cannot be read"):
        read_project(project)
    with pytest.raises(FileUnreadable):
        read(project)


def test_the_named_main_is_started_even_if_it_is_not_there(tmp_path):
    assert chosen(tmp_path, "[tool.sequence]\nmain = 'gone.py'", main=MARKED) == "gone.py"


def test_main_py_is_started_if_nobody_says_what(tmp_path):
    assert chosen(tmp_path, main="", other=MARKED) == "main.py"


def test_the_only_marked_file_is_started(tmp_path):
    files = {"a": "x = 1", "b": MARKED, "tests__test_b": MARKED, "__pypackages____c": MARKED}
    (tmp_path / "__pypackages__").mkdir()
    (tmp_path / "__pypackages__/c.py").write_text(MARKED)
    del files["__pypackages____c"]
    assert chosen(tmp_path, **files) == "b.py"


def test_several_marked_files_are_named(tmp_path):
    with pytest.raises(SeveralMarked) as caught:
        chosen(tmp_path, a=MARKED, b=MARKED)
    assert str(caught.value) == (
        f'{tmp_path}/pyproject.toml does not say which of a.py, b.py to start; write main = "FILE" under [tool.sequence]'
    )


def test_a_project_with_nothing_to_start_is_told_so(tmp_path):
    with pytest.raises(NotMarked) as caught:
        chosen(tmp_path, a="def f(): ...")
    assert "there is no main.py, and no file with @sequence" in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        MARKED,
        "import sequence_sdk\n@sequence_sdk.sequence\ndef f(input): ...",
        "from sequence_sdk import sequence\n@sequence(takes='lines')\nclass Shout: ...",
        "# sequence_sdk\n@sdk.sequence(on_error='skip')\ndef f(input): ...",
    ],
)
def test_a_decorator_marks_a_file(source):
    assert is_marked(source.encode())


@pytest.mark.parametrize(
    "source",
    [
        "",
        "@sequence\ndef f(input): ...",
        "# sequence_sdk\ndef f(input): ...",
        "# sequence_sdk\n@other\ndef f(input): ...",
        "# sequence_sdk\n@a[0]\ndef f(input): ...",
        "# sequence_sdk\n@sequence\ndef f(:",
        "# sequence_sdk\n\0",
    ],
)
def test_other_files_are_not_marked(source):
    assert not is_marked(source.encode())


def test_a_script_tells_its_name_its_first_line_and_what_it_needs():
    source = (
        '# /// script\n# requires-python = ">=3.12"\n'
        '# dependencies = [\n#   "requests<3",\n#   "numpy",\n#   "-",\n#   "",\n# ]\n#\n# ///\n'
        '"""Shouts.\n\nLoud."""\n' + MARKED
    )
    for text in (source, source.replace("\n", "\r\n")):
        script = read_script(Path("x/loud.py"), text.encode())
        assert script.requirements == ("requests<3", "numpy", "-", "")
        assert script.fields == {
            "name": "loud",
            "description": "Shouts.",
            "engines": {"python3": ">=3.12"},
        }


@pytest.mark.parametrize(
    "source",
    [
        "def run(context, input): ...",
        "async def run(context, input): ...",
        "class run: ...",
        "x = run = 1",
        "def broken(",
    ],
)
def test_a_script_with_a_run_needs_no_mark(source):
    script = read_script(Path("a.py"), source.encode())
    assert script.fields == {"name": "a", "engines": {"python3": ">=3.11"}}
    assert script.requirements == ()


@pytest.mark.parametrize("source", ["", "x = 1", "def f(): ...", "x.run = 1\nimport os"])
def test_a_script_without_a_sequence_is_refused(source):
    with pytest.raises(NotMarked) as caught:
        read_script(Path("a.py"), source.encode())
    assert str(caught.value) == "a.py has no Sequence; mark a function with @sequence"


@pytest.mark.parametrize("text", ["dependencies = 1", "dependencies = [1]", "x"])
def test_a_block_of_a_script_that_says_nonsense_is_refused(text):
    with pytest.raises(BadProject, match=r"a\.py: (dependencies of the script must be|it must be TOML)"):
        read_script(Path("a.py"), f"# /// script\n# {text}\n# ///\nrun = 1\n".encode())


@pytest.mark.parametrize(
    "block", ["", "# /// script\n# x", "# /// script\n# x\n\n# ///", " # /// script\n# x\n# ///"]
)
def test_a_block_that_does_not_end_says_nothing(block):
    script = read_script(Path("a.py"), f"{block}\nrun = 1\n".encode())
    assert script.requirements == ()


def test_a_block_may_not_end_with_the_file():
    assert read_script(Path("a.py"), b"run = 1\n# /// script\n# x").requirements == ()


def test_the_made_manifest_is_that_of_its_bytes():
    manifest, content = made_manifest(Path("p"), {"name": "ą", "version": "1"}, "a.py")
    assert json.loads(content) == {"name": "ą", "version": "1", "main": "a.py"}
    assert (manifest.name, manifest.version, manifest.main) == ("ą", "1", "a.py")


@pytest.mark.parametrize("fields", [{"name": 1}, {"keywords": [float("nan")]}, {"engines": {"python3": 3}}])
def test_a_field_that_is_wrong_is_told_with_the_file_it_comes_from(fields):
    with pytest.raises(BadManifest, match=r"^p\.toml: "):
        made_manifest(Path("p.toml"), fields, "a.py")


@given(st.text())
def test_any_text_is_a_project_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        fields = read_project(path).fields
    except BadProject:
        return
    assert "engines" in fields
