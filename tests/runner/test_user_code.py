"""The author's code: how it is found and loaded, and how its errors are shown."""

import importlib
import importlib.resources
import inspect
import os
import shutil
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from runner import user_code
from runner.errors import NoSequenceFound, SequenceLoadError, SeveralSequences
from runner.report import format_error
from runner.user_code import Topic, declared_topic, forget, package_root, swap_path

from .conftest import Write
from .fake_hub import PANG, PING, FakeHub

# --- what is a Sequence -----------------------------------------------------------------------------------------------

MARK = "from sequence_sdk import sequence\n"
NOT_LOADED = {
    "nothing": (
        "",
        "main.py: no function is marked @sequence and none is called run (found no functions)\n",
    ),
    "other functions": (
        "from os.path import join\ndef a(): pass\ndef b(): pass",
        "main.py: no function is marked @sequence and none is called run (found a, b)\n",
    ),
    "run is no function": (
        "run = 3",
        "main.py: no function is marked @sequence and none is called run (found no functions)\n",
    ),
    "several": (
        MARK + "@sequence\ndef a(input): pass\n@sequence\ndef b(input): pass",
        "main.py: several functions are marked @sequence (a, b); mark one\n",
    ),
}


@pytest.mark.parametrize("case", NOT_LOADED)
def test_a_file_without_a_sequence_is_exit_22_with_a_sentence(hub: FakeHub, write: Write, case: str) -> None:
    source, sentence = NOT_LOADED[case]
    hub.start(write(source))
    assert hub.stderr() == sentence
    assert [record["msg"] for record in hub.log()] == [sentence.strip()]
    assert hub.wait() == 22
    assert [code for code, _ in hub.last_messages()] == [PING]


def test_one_sequence_under_two_names_is_one(hub: FakeHub, write: Write) -> None:
    hub.start(write(MARK + "@sequence\ndef a(input): return 'x'\nb = a"))
    assert hub.output() == b"x"


def test_a_classic_run_beside_a_marked_function_is_not_taken(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(MARK + "def run(context, input): return 'classic'\n@sequence\ndef a(input): return 'marked'")
    )
    assert hub.output() == b"marked"


def test_an_entry_file_may_have_any_name_and_folder(hub: FakeHub, write: Write) -> None:
    entry = write("", **{"src/flow.v2": "import near, far\ndef run(context, input): return near.x + far.x",
                         "src/near.py": "x = 'near '", "far.py": "x = 'far'"})  # fmt: skip
    hub.start(entry.parent / "src" / "flow.v2")
    assert hub.output() == b"near far"


# --- whose modules win ------------------------------------------------------------------------------------------------


def test_modules_of_the_author_win_over_ours_and_those_installed(hub: FakeHub, write: Write) -> None:
    entry = write(
        """
        import runner, email_helpers, orjson, aiohttp, click, settings
        import runner.deep if False else None
        """.replace("import runner.deep if False else None", "")
        + """
        def run(context, input):
            return [runner.WHO, email_helpers.WHO, orjson.WHO, aiohttp.WHO, click.WHO, settings.WHO]
        """,
        **{
            "runner.py": "WHO = 'my runner '",
            "email_helpers.py": "WHO = 'my email_helpers '",
            "settings.py": "WHO = 'my settings '",
            "__pypackages__/orjson/__init__.py": "WHO = 'my orjson '",
            "__pypackages__/aiohttp.py": "WHO = 'my aiohttp '",
            "__pypackages__/click.py": "WHO = 'my click '",
            "__pypackages__/email_helpers.py": "WHO = 'a dependency '",
        },
    )
    hub.start(entry)
    assert hub.output() == b"my runner my email_helpers my orjson my aiohttp my click my settings "
    assert hub.wait() == 0


def test_a_package_named_runner_is_the_authors(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            "from runner.protocol import WHO\ndef run(context, input): return WHO",
            **{"__pypackages__/runner/__init__.py": "", "__pypackages__/runner/protocol.py": "WHO = 'mine'"},
        )
    )
    assert hub.output() == b"mine"
    assert hub.wait() == 0


def test_the_orjson_an_author_brings_is_the_one_that_is_used(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            "output_type = 'application/x-ndjson'\nasync def run(context, input):\n    async for x in input: yield x",
            **{
                "__pypackages__/orjson.py": "OPT_APPEND_NEWLINE = 1\n"
                "def dumps(x, default=None, option=0): return b'dumped' + option * b'\\n'\n"
                "def loads(line): return 'loaded'"
            },
        )
    )
    hub.input("application/x-ndjson", b"1\n")
    assert hub.output() == b"dumped\n"


def test_dependencies_at_the_root_serve_an_entry_file_below(hub: FakeHub, write: Write) -> None:
    entry = write("", **{"src/app/main.py": "import dep\ndef run(context, input): return dep.x",
                         "__pypackages__/dep.py": "x = 'dep'"})  # fmt: skip
    hub.start(entry.parent / "src" / "app" / "main.py")
    assert hub.output() == b"dep"


def test_the_root_is_the_nearest_folder_with_a_package_json(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "package.json").touch()
    assert package_root(tmp_path / "a" / "b" / "c" / "main.py") == tmp_path
    (tmp_path / "a" / "b" / "package.json").touch()
    assert package_root(tmp_path / "a" / "b" / "c" / "main.py") == tmp_path / "a" / "b"


def test_without_a_package_json_the_root_is_the_folder_of_the_file() -> None:
    assert package_root(Path("/no-such-folder/x/main.py")) == Path("/no-such-folder/x")


def test_the_path_is_prepared_in_order_and_ours_stays_importable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package.json").touch()
    (tmp_path / "src" / "__pypackages__").mkdir(parents=True)
    (tmp_path / "__pypackages__").mkdir()
    monkeypatch.setattr(sys, "path", ["/elsewhere", str(tmp_path / "__pypackages__")])
    monkeypatch.setattr(sys, "argv", ["x"])
    user_code.prepare_path(tmp_path / "src" / "main.py")
    assert sys.path == [
        str(tmp_path / "src"),
        str(tmp_path / "src" / "__pypackages__"),
        str(tmp_path),
        str(tmp_path / "__pypackages__"),
        "/elsewhere",
    ]
    assert sys.argv == [str(tmp_path / "src" / "main.py")]
    assert sys.modules["runner.user_code"] is user_code


# --- a newer version --------------------------------------------------------------------------------------------------


def package(folder: Path, **files: str) -> Path:
    """Write a package and return its entry file."""
    for name, text in {"package.json": "{}", "main.py": "", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "main.py"


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give ``sys.path``, ``sys.modules`` and ``sys.argv`` back as they were."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    modules = dict(sys.modules)
    yield
    sys.modules.clear()
    sys.modules.update(modules)


@pytest.mark.usefixtures("imports")
def test_the_folders_of_a_new_version_take_the_places_of_the_old_ones(tmp_path: Path) -> None:
    old = package(tmp_path / "old", **{"src/main.py": "", "__pypackages__/a.py": ""}).parent
    new = package(tmp_path / "new", **{"src/main.py": "", "src/__pypackages__/a.py": ""}).parent
    mine = ["/first", str(old / "lib"), "/elsewhere", f"{old}-other"]
    sys.path[:] = mine
    user_code.prepare_path(old / "src" / "main.py")
    sys.path.insert(0, "/put/first/by/the/author")
    before = list(sys.path)
    swap_path(old / "src" / "main.py", new / "src" / "main.py")
    assert sys.path == [
        "/put/first/by/the/author",
        str(new / "src"),
        str(new / "src" / "__pypackages__"),
        str(new),
        "/first",
        str(new / "lib"),
        "/elsewhere",
        f"{old}-other",
    ]
    assert sys.argv == [str(new / "src" / "main.py")]
    swap_path(new / "src" / "main.py", old / "src" / "main.py")
    assert sys.path == before


@pytest.mark.usefixtures("imports")
def test_a_path_does_not_grow_with_versions(tmp_path: Path) -> None:
    entries = [package(tmp_path / str(number)) for number in range(20)]
    user_code.prepare_path(entries[0])
    sys.path[:] = dict.fromkeys(sys.path)  # who runs the tests may have some folders in it twice
    length = len(sys.path)
    for old, new in pairwise(entries):
        swap_path(old, new)
        sys.path.insert(0, str(new.parent))  # as authors do in their main.py
    assert sys.path[0] == str(entries[-1].parent)
    swap_path(entries[-1], entries[0])
    assert len(sys.path) == length


@pytest.mark.usefixtures("imports")
def test_what_the_author_has_put_out_of_the_path_is_there_again_with_a_new_version(tmp_path: Path) -> None:
    old, new = package(tmp_path / "old"), package(tmp_path / "new")
    sys.path[:] = ["/a"]
    swap_path(old, new)
    assert sys.path == [str(new.parent), "/a"]


@pytest.mark.usefixtures("imports")
def test_modules_of_the_author_are_forgotten_and_those_of_dependencies_are_not(tmp_path: Path) -> None:
    files = {
        "helper.py": "WHO = 'old'",
        "parts/__init__.py": "",
        "parts/inner.py": "",
        "loose/part.py": "",
        "__pypackages__/dependency.py": "",
        "src/__pypackages__/deep_dependency.py": "",
    }
    old = package(tmp_path / "old", **files)
    beside = package(tmp_path / "old-beside", **{"neighbour.py": ""})
    user_code.prepare_path(old)
    sys.path += [str(beside.parent), str(old.parent / "src" / "__pypackages__")]
    names = ["helper", "parts", "parts.inner", "loose", "loose.part"]
    kept = ["dependency", "deep_dependency", "neighbour", "runner.user_code", "sequence_sdk"]
    first = {name: importlib.import_module(name) for name in [*names, *kept]}

    class Lazy(ModuleType):
        __file__ = None

        @property
        def __path__(self) -> list[str]:
            raise RuntimeError("not yet")

    sys.modules["lazy"] = Lazy("lazy")
    sys.modules["none"] = None  # type: ignore[assignment] - Python itself puts it there
    gone = forget(old.parent)
    assert sorted(gone) == sorted(names)
    assert not set(names) & set(sys.modules)
    assert {name: sys.modules[name] for name in kept} == {name: first[name] for name in kept}

    new = package(tmp_path / "new", **{**files, "helper.py": "WHO = 'new'"})
    swap_path(old, new)
    assert importlib.import_module("helper").WHO == "new"
    assert forget(new.parent).keys() == {"helper"}
    sys.modules.update(gone)
    assert importlib.import_module("helper").WHO == "old"


@pytest.mark.usefixtures("imports")
def test_a_dependency_that_stays_finds_its_files_in_the_new_version(tmp_path: Path) -> None:
    files = {
        "__pypackages__/big/__init__.py": "WHERE = lambda: __file__\n",
        "__pypackages__/big/late.py": "",
        "__pypackages__/big/table.txt": "rows",
    }
    old, new = package(tmp_path / "old", **files), package(tmp_path / "new", **files)
    user_code.prepare_path(old)
    big = importlib.import_module("big")
    forget(old.parent)
    swap_path(old, new)
    shutil.rmtree(old.parent)
    assert big.WHERE() == str(new.parent / "__pypackages__" / "big" / "__init__.py")
    assert importlib.import_module("big.late").__file__ == str(
        new.parent / "__pypackages__" / "big" / "late.py"
    )
    assert importlib.resources.files("big").joinpath("table.txt").read_text() == "rows"
    assert inspect.getsource(big) == files["__pypackages__/big/__init__.py"]


@pytest.mark.usefixtures("imports")
def test_our_own_modules_are_not_forgotten_even_below_the_folder_of_the_author() -> None:
    assert "runner" not in forget(Path(user_code.__file__).parent.parent)


# --- declarations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "topic"),
    [
        ({}, Topic()),
        ({"provides": None}, Topic()),
        ({"provides": {}}, Topic()),
        ({"provides": {"provides": "t"}}, Topic("t")),
        ({"provides": {"provides": "t", "contentType": "text/plain"}}, Topic("t", "text/plain")),
        ({"provides": {"contentType": "text/plain"}}, Topic("", "text/plain")),
        ({"provides": "t"}, Topic("t")),
        ({"provides": "t", "content_type": "text/plain"}, Topic("t", "text/plain")),
        ({"provides": "t", "content_type": 5}, Topic("t")),
        ({"output_type": "text/plain"}, Topic("", "text/plain")),
        ({"output_type": 5}, Topic()),
    ],
)
def test_a_topic_is_read_in_every_form(members: dict[str, object], topic: Topic) -> None:
    assert declared_topic(SimpleNamespace(**members), "provides", "provides") == topic


@pytest.mark.parametrize("value", [5, [], {"provides": 5}, {"provides": "t", "contentType": None}, b"t"])
def test_what_is_no_topic_is_an_error_that_shows_one(value: object) -> None:
    with pytest.raises(SequenceLoadError, match=r"provides must be a dict such as \{\"provides\": \"topic\""):
        declared_topic(SimpleNamespace(provides=value), "provides", "provides")


def test_an_output_type_says_nothing_about_the_input() -> None:
    assert declared_topic(SimpleNamespace(output_type="text/plain"), "requires", "requires") == Topic()


def test_load_errors_have_their_facts_as_attributes() -> None:
    nothing, several = (
        NoSequenceFound(Path("p/main.py"), ["a"]),
        SeveralSequences(Path("main.py"), ["a", "b"]),
    )
    assert (nothing.path, nothing.functions, nothing.exit_code) == (Path("p/main.py"), ["a"], 22)
    assert (several.path, several.functions, several.exit_code) == (Path("main.py"), ["a", "b"], 22)


# --- errors -----------------------------------------------------------------------------------------------------------


def shown(hub: FakeHub, entry: Path) -> str:
    """Return the stderr of a Sequence, its folder and the marks that newer Pythons put below a line left out."""
    hub.input("text/plain", b"")
    lines = hub.stderr().replace(str(entry.parent) + os.sep, "").splitlines(keepends=True)
    return "".join(line for line in lines if line.strip(" ~^\n"))


def test_a_traceback_starts_at_the_authors_frame(hub: FakeHub, write: Write) -> None:
    entry = write("async def run(context, input):\n    async for _ in input: pass\n    fail()\n"
                  "    yield\ndef fail():\n    raise KeyError('gone')")  # fmt: skip
    hub.start(entry)
    text = shown(hub, entry)
    assert text == (
        'Traceback (most recent call last):\n  File "main.py", line 3, in run\n    fail()\n'
        "  File \"main.py\", line 6, in fail\n    raise KeyError('gone')\nKeyError: 'gone'\n"
    )
    assert hub.wait() == 23


def test_chained_errors_and_groups_show_no_frame_of_ours(hub: FakeHub, write: Write) -> None:
    entry = write(
        """
        async def run(context, input):
            errors = []
            try:
                async for _ in input: pass
            except ValueError as error:
                errors.append(error)
            try:
                context.emit("x", object())
            except TypeError as error:
                errors.append(error)
            try:
                raise ExceptionGroup("both", errors)
            except ExceptionGroup as group:
                try:
                    1 / 0
                except ZeroDivisionError:
                    raise RuntimeError("chained") from group
        """
    )
    hub.start(entry)
    hub.input("application/x-ndjson", b"{\n")
    text = hub.stderr()
    assert text.endswith("RuntimeError: chained\n")
    for part in (
        "BadInput",
        "TypeError: emit('x')",
        "The above exception was the direct cause",
        "ExceptionGroup: both",
    ):
        assert part in text
    files = {line.split('"')[1] for line in text.splitlines() if 'File "' in line}
    assert files == {str(entry)}
    assert hub.wait() == 23


def test_an_error_of_a_generator_in_its_thread_shows_its_frames_alone(hub: FakeHub, write: Write) -> None:
    entry = write("def run(context, input):\n    yield 'x'\n    raise ValueError('no')")
    hub.start(entry)
    assert shown(hub, entry) == (
        'Traceback (most recent call last):\n  File "main.py", line 3, in run\n'
        "    raise ValueError('no')\nValueError: no\n"
    )


@pytest.mark.parametrize(
    ("main", "last"),
    [
        ("def run(context, input)\n    pass", "SyntaxError: "),
        ("def run(context, input):\n\tpass\n        pass", "TabError: "),
        ("import helper\ndef run(context, input): pass", "ZeroDivisionError: division by zero"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise BaseException('base')", "BaseException: base"),
        ("\x00", ""),
    ],
)
def test_a_file_that_cannot_be_loaded_is_exit_22_with_a_traceback(
    hub: FakeHub, write: Write, main: str, last: str
) -> None:
    entry = write(main, **{"helper.py": "1 / 0"})
    hub.start(entry)
    lines = [line for line in hub.stderr().splitlines() if not line.startswith("hint: ")]
    assert lines[-1].startswith(last)
    files = [line.split('"')[1] for line in lines if 'File "' in line]
    assert {Path(file).parent for file in files} <= {entry.parent}
    assert "importlib" not in "".join(lines)
    assert hub.wait() == 22
    assert PANG not in [code for code, _ in hub.last_messages()]
    (record,) = hub.log()
    assert record["level"] == "ERROR"


def test_a_file_that_is_not_utf_8_is_exit_22(hub: FakeHub, write: Write) -> None:
    entry = write("")
    entry.write_bytes(b"x = '\xff'\ndef run(context, input): pass")
    hub.start(entry)
    assert "SyntaxError" in hub.stderr()
    assert hub.wait() == 22


def test_an_error_that_refers_to_itself_is_shown() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first
    assert format_error(first).endswith("ValueError: first\n")


def test_an_error_without_a_frame_of_the_authors_is_its_last_line_alone() -> None:
    try:
        declared_topic(SimpleNamespace(provides=5), "provides", "provides")
    except SequenceLoadError as error:
        error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
        text = format_error(error)
    assert text.startswith("runner.errors.SequenceLoadError: provides must be")
