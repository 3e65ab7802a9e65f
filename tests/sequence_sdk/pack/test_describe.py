"""What a Sequence takes and gives goes into its package."""

import json
import sys
import tarfile
from pathlib import Path

import pytest

from sequence_sdk.manifest import MAX_MANIFEST_BYTES, parse_manifest
from sequence_sdk.pack import PackResult
from sequence_sdk.pack import pack as pack_all
from sequence_sdk.pack.checks import read_manifest
from sequence_sdk.pack.describe import describe, main, schema_of, with_schema
from sequence_sdk.pack.errors import FileUnreadable
from sequence_sdk.pack.files import PackedFile, Selection, select_files

SEQUENCE = """
from collections.abc import AsyncIterator
from sequence_sdk import sequence

@sequence
async def shout(input: AsyncIterator[str]) -> AsyncIterator[str]:
    yield ""
"""
STAND_IN = """
import sys
import types
from sequence_sdk import sequence

def contract_of(thing):
    return types.SimpleNamespace(schema=lambda: {"input": {"title": thing.__name__}})

sys.modules["sequence_sdk.contract"] = types.SimpleNamespace(contract_of=contract_of)

@sequence
def shout(input): ...
"""
SCHEMA = {"input": {"title": "shout"}}
CLASSIC = "# like those of sequence_sdk\ndef run(context, input): ...\n"


def pack(package: Path, **options: object) -> PackResult:
    return pack_all(package, bare=True, **options)


@pytest.fixture
def package(tmp_path) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "package.json").write_text('{"main": "main.py"}')
    (folder / "main.py").write_text(STAND_IN)
    return folder


def packed(result: PackResult) -> dict[str, object]:
    with tarfile.open(result.path) as tar:
        return json.load(tar.extractfile("package.json"))


def problem(package: Path, source: str) -> str:
    (package / "main.py").write_text(source)
    result = pack(package)
    assert packed(result) == json.loads((package / "package.json").read_text())
    assert result.manifest.schema == {}
    return result.no_schema


def files(package: Path) -> list[str]:
    return sorted(path.name for path in package.rglob("*"))


def test_the_schemas_are_in_the_packed_manifest_and_nowhere_else(package):
    result = pack(package)
    assert packed(result) == {"main": "main.py", "scramjet": {"schema": SCHEMA}}
    assert (result.no_schema, result.manifest.schema) == ("", SCHEMA)
    assert (package / "package.json").read_text() == '{"main": "main.py"}'
    assert files(package) == ["main.py", "package.json"]


def test_a_sequence_is_described_by_its_type_hints(package):
    (package / "main.py").write_text(SEQUENCE)
    result = pack(package)
    assert result.no_schema == ""
    schema = result.manifest.schema
    assert schema["input"] == schema["output"] == {"type": "string"}
    assert schema.keys() == {"input", "output", "args"}


def test_the_same_folder_gives_the_same_bytes(package):
    assert pack(package).sha256 == pack(package).sha256


def test_what_else_the_manifest_says_stays(package):
    (package / "package.json").write_bytes(
        b'\xef\xbb\xbf{"main": "main.py", "x": "\\ud800\\u0105", "scramjet": {"image": [1.5, 1e2]}, "n": 123456789012345678901}'
    )
    result = pack(package)
    assert packed(result) == {
        "main": "main.py",
        "x": "\ud800ą",
        "scramjet": {"image": [1.5, 100.0], "schema": SCHEMA},
        "n": 123456789012345678901,
    }


def test_scramjet_may_be_null():
    assert json.loads(with_schema(b'{"scramjet": null}', SCHEMA)) == {"scramjet": {"schema": SCHEMA}}


def test_schemas_that_the_author_wrote_are_kept(package):
    own = '{"main": "main.py", "scramjet": {"schema": {"input": {"type": "array"}}}}'
    (package / "package.json").write_text(own)
    result = pack(package)
    assert packed(result) == json.loads(own)
    assert result.no_schema == ""


def test_who_wants_none_gets_none(package):
    result = pack(package, describe=False)
    assert packed(result) == {"main": "main.py"}
    assert result.no_schema == ""


def test_a_sequence_that_does_not_name_the_sdk_is_not_imported(package):
    assert problem(package, "open('imported', 'w')\ndef run(context, input): ...\n") == ""
    (package / "__pypackages__").mkdir()
    (package / "__pypackages__/library.py").write_text("import sequence_sdk")
    (package / "node.js").write_text("// sequence_sdk")
    (package / "empty.py").mkdir()
    assert problem(package, "open('imported', 'w')\ndef run(context, input): ...\n") == ""
    assert not (package / "imported").exists()


def test_a_sequence_of_another_language_is_not_imported(package):
    (package / "package.json").write_text('{"main": "main.js", "engines": {"node": ">=18"}}')
    (package / "main.js").write_text("// sequence_sdk")
    assert problem(package, "raise SystemError('sequence_sdk')") == ""


def test_a_main_without_the_suffix_of_python_is_imported_too(package):
    (package / "package.json").write_text('{"main": "main", "engines": {"python3": ">=3.11"}}')
    (package / "main.py").rename(package / "main")
    assert pack(package).manifest.schema == SCHEMA


def test_a_classic_sequence_has_no_schemas(package):
    assert problem(package, CLASSIC) == ""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import sequence_sdk, gone_from_here", "ModuleNotFoundError: No module named 'gone_from_here'"),
        ("import sequence_sdk\nraise ValueError", "ValueError"),
        ("import sequence_sdk\nraise ValueError('two\\nlines ' + 'x' * 1000)", "ValueError: two lines xxx"),
        ("import sequence_sdk, sys\nsys.exit('no')", "SystemExit: no"),
        ("import sequence_sdk", "no function is marked @sequence"),
        ("import sequence_sdk, os\nos._exit(7)", "the import of main.py ended with exit code 7"),
        (
            "import sequence_sdk, os\nos.write(2, b'so\\nit is\\n')\nos.abort()",
            "the import of main.py ended with exit code -6: it is",
        ),
        (
            "from sequence_sdk import sequence\n@sequence\ndef a(input): ...\n@sequence\ndef b(input): ...",
            "several functions are marked @sequence (a, b); name one of them run",
        ),
        (
            STAND_IN.replace("thing.__name__", "{1, 2}"),
            "TypeError: Object of type set is not JSON serializable",
        ),
        (STAND_IN.replace("thing.__name__", "2**80"), '"scramjet.schema.input" must be a number of 64 bits'),
        (
            STAND_IN.replace("thing.__name__", f"'x' * {MAX_MANIFEST_BYTES}"),
            "it may have 1048576 bytes at most",
        ),
        (
            "class Unsaid(Exception):\n    def __str__(self): raise self\nraise Unsaid  # sequence_sdk",
            "Unsaid",
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_what_keeps_a_sequence_from_being_described_is_told_and_it_is_packed_all_the_same(
    package, source, words
):
    told = problem(package, source)
    assert told.startswith(words)
    assert "\n" not in told
    assert len(told) < 400


def test_what_the_import_prints_and_leaves_behind_disturbs_nothing(package):
    loud = "import subprocess, sys, threading\nprint('{}' * 100_000)\nassert sys.stdin.read() == ''\n"
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    thread = "threading.Thread(target=threading.Event().wait).start()\n"
    (package / "main.py").write_text(loud + child + thread + STAND_IN)
    assert pack(package).manifest.schema == SCHEMA


def test_an_import_that_takes_too_long_is_ended(package):
    (package / "main.py").write_text("import sequence_sdk\nwhile True: pass")
    manifest, selection = read_manifest(package), select_files(package)
    assert describe(package, manifest, selection, timeout=0.2) == (
        manifest,
        selection,
        "the import of main.py takes longer than 0.2 s",
    )


def test_the_import_finds_what_the_package_brings(package):
    (package / "package.json").write_text('{"main": "src/main.py"}')
    (package / "main.py").unlink()
    for name in ("src", "src/__pypackages__", "__pypackages__"):
        (package / name).mkdir()
    (package / "src/beside.py").touch()
    (package / "src/__pypackages__/brought.py").touch()
    (package / "__pypackages__/brought_too.py").touch()
    (package / "rooted.py").touch()
    checks = "import sys\nassert __name__ == 'sequence' and sys.argv == [__file__]\n"
    (package / "src/main.py").write_text(checks + "import beside, brought, brought_too, rooted\n" + STAND_IN)
    (package / "here.txt").write_text("read as the package's folder is the current one")
    result = pack(package)
    assert (result.no_schema, result.manifest.schema) == ("", SCHEMA)
    assert list(package.rglob("__pycache__")) == []


def test_a_source_that_cannot_be_read_is_named(package):
    gone = PackedFile("gone.py", package / "gone.py")
    with pytest.raises(FileUnreadable, match=r"gone\.py cannot be read"):
        describe(package, read_manifest(package), Selection((gone,), ()))


# What happens in the process of its own, in this one.


@pytest.fixture
def as_in_a_process(monkeypatch):
    for name in ("path", "argv"):
        monkeypatch.setattr(sys, name, list(getattr(sys, name)))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setitem(sys.modules, "sequence", None)
    monkeypatch.setitem(sys.modules, "sequence_sdk.contract", None)


def answer(package: Path, source: str) -> dict[str, object]:
    (package / "main.py").write_text(source)
    codes: list[int] = []
    main([str(package / "main.py"), str(package), str(package / "answer")], codes.append)
    assert codes == [0]
    return json.loads((package / "answer").read_text())


@pytest.mark.usefixtures("as_in_a_process")
def test_the_answer_is_a_file(package):
    assert answer(package, STAND_IN) == {"schema": SCHEMA, "problem": ""}
    assert answer(package, CLASSIC) == {"schema": None, "problem": ""}
    assert answer(package, "import gone_from_here")["problem"].startswith("ModuleNotFoundError: ")
    assert answer(package, "")["problem"] == "no function is marked @sequence"
    assert answer(package, "raise ValueError") == {"schema": None, "problem": "ValueError"}
    assert answer(package, STAND_IN + "@sequence\ndef other(input): ...\n")["problem"].startswith("several")
    assert answer(package, "run = min")["problem"] == ""
    assert answer(package, "def run(): ...")["problem"] == (
        "run() cannot be called as run(context, input): too many positional arguments"
    )
    unsaid = "class Unsaid(Exception):\n    def __str__(self): raise self\nraise Unsaid"
    assert answer(package, unsaid)["problem"] == "Unsaid"


@pytest.mark.usefixtures("as_in_a_process")
def test_the_arguments_are_those_of_the_process(package, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["-c", str(package / "main.py"), str(package), str(package / "answer")])
    main(leave=lambda _code: None)
    assert json.loads((package / "answer").read_text()) == {"schema": SCHEMA, "problem": ""}


@pytest.mark.usefixtures("as_in_a_process")
def test_the_folders_of_the_package_come_first(package):
    assert schema_of(package / "main.py", package) == SCHEMA
    assert sys.path[0] == str(package)
    assert schema_of(package / "main.py", package) == SCHEMA
    assert sys.path.count(str(package)) == 1


def test_a_manifest_with_schemas_parses(package):
    content = with_schema(b'{"main": "main.py"}', SCHEMA)
    assert parse_manifest(content).schema == SCHEMA
    assert content.endswith(b"}\n")
