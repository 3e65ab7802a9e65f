"""Which Python a package gets: how ranges are read, and what is asked of the interpreters that there are."""

import asyncio
import contextlib
import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from hub_lite.adapters import interpreters
from hub_lite.adapters.interpreters import Interpreters, admits
from hub_lite.errors import BadRequest

OWN = sys.version_info[:3]
NEWER = f"{OWN[0]}.{OWN[1] + 1}"  # than the hub's Python
OLDER = f"<{OWN[0]}.{OWN[1]}"

# --- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "fits", "does_not"),
    [
        (">=3.11", "3.11.0 3.11.7 3.12.0 4.0.0", "3.10.13"),
        (">= 3.11.4", "3.11.4 3.12.0", "3.11.3"),
        (">3.11", "3.11.1 3.12.0", "3.11.0"),
        (">3.11.4", "3.11.5", "3.11.4"),
        ("<3.12", "3.11.9 2.7.18", "3.12.0 3.12.1"),
        ("<=3.12", "3.12.0 3.12.9", "3.13.0"),
        ("<=3.12.1", "3.12.1", "3.12.2"),
        ("3.11.x", "3.11.0 3.11.7", "3.12.0 3.10.1"),
        ("3.11.*", "3.11.7", "3.12.0"),
        ("==3.11.*", "3.11.7", "3.12.0"),
        ("3.x", "3.11.0 3.99.0", "2.7.0 4.0.0"),
        ("3.X.X", "3.11.0", "4.0.0"),
        ("!=3.12.*", "3.11.0 3.13.0", "3.12.0 3.12.4"),
        ("!=3.12", "3.12.1", "3.12.0"),
        ("^3.11", "3.11.0 3.14.2", "3.10.0 4.0.0"),
        ("^3", "3.0.0 3.14.2", "2.7.0 4.0.0"),
        ("~3.12", "3.12.0 3.12.9", "3.11.9 3.13.0"),
        ("~3.12.2", "3.12.2 3.12.9", "3.12.1 3.13.0"),
        ("~3", "3.12.0", "4.0.0"),
        ("~> 3.12", "3.12.9", "3.13.0"),
        ("~=3.11", "3.11.0 3.13.0", "3.10.0 4.0.0"),
        ("~=3.11.2", "3.11.2 3.11.9", "3.11.1 3.12.0"),
        (">=3.9 <3.12", "3.9.0 3.11.9", "3.8.9 3.12.0"),
        (">=3.9,<3.12", "3.11.9", "3.12.0"),
        (" >= 3.9 , < 3.12 ", "3.11.9", "3.12.0"),
        ("3.9 - 3.11", "3.9.0 3.11.7", "3.8.0 3.12.0"),
        ("3.8.x || ^3.12", "3.8.1 3.13.0", "3.11.0"),
        ("3.8.0 || >=3.12", "3.8.0 3.12.0", "3.11.0"),
        ("v3.12.x", "3.12.0", "3.11.0"),
        (">=3.12.0rc1", "3.12.0", "3.11.9"),
        (">=3.12.0-beta.1", "3.12.0", "3.11.9"),
    ],
)
def test_a_range_is_read_as_people_write_it(wanted: str, fits: str, does_not: str) -> None:
    assert [one for one in fits.split() if not admits(wanted, version_of(one))] == []
    assert [one for one in does_not.split() if admits(wanted, version_of(one))] == []


def version_of(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize(
    "wanted",
    [
        "", " ", "*", "x", ">=*", "||", "3.5.0", "3.8.0", "v3.8.0", "=3.8.0", "==3.8.0", "===3.8.0", "3.8", "3", "2.7.18",
        "3.8.0 || 3.9.0", "latest", "python3", ">=", ">=3.x1", ">=3.12.0.0.1", "three", ">=99 whatever", "^", "3.12.٣",
    ],
)  # fmt: skip
def test_a_version_by_itself_is_a_hint_and_what_cannot_be_read_excludes_nobody(wanted: str) -> None:
    assert admits(wanted, (3, 11, 7))


PARTS = st.integers(0, 14)
VERSIONS = st.tuples(st.just(3), PARTS, PARTS)
RANGES = st.lists(
    st.builds(
        "{}{}".format,
        st.sampled_from([">=", ">", "<=", "<", "!=", "~="]),
        st.one_of(VERSIONS, st.tuples(st.just(3), PARTS)).map(lambda parts: ".".join(map(str, parts))),
    ),
    min_size=1,
    max_size=3,
)


@given(RANGES, VERSIONS)
def test_what_pythons_own_rules_admit_is_admitted(comparators: list[str], version: tuple[int, ...]) -> None:
    if ".".join(map(str, version)) in SpecifierSet(",".join(comparators)):
        assert admits(",".join(comparators), version)


@given(RANGES, VERSIONS)
def test_with_whole_versions_pythons_own_rules_and_ours_are_the_same(
    comparators: list[str], version: tuple[int, ...]
) -> None:
    whole = [one if one.count(".") == 2 else f"{one}.0" for one in comparators]
    assert admits(" ".join(whole), version) is (".".join(map(str, version)) in SpecifierSet(",".join(whole)))


@given(st.text(alphabet="0123456789.xX*<>=~^!| ,-v\n٣a", max_size=40))
def test_any_text_is_an_answer(text: str) -> None:
    assert admits(text, (3, 11, 7)) in (True, False)


# --- interpreters -----------------------------------------------------------------------------------------------------


def program(path: Path, script: str) -> str:
    """Make a program that notes each call beside itself."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\necho x >>"$0.calls"\n{script}\n')
    path.chmod(0o700)
    return str(path)


def python(path: Path, version: str, then: str = "") -> str:
    """Make what answers as an interpreter of that version in which our runner works."""
    return program(path, f"printf '{version.replace('.', ' ')} %s' \"$0\"\n{then}")


def calls(path: str) -> int:
    return Path(f"{path}.calls").read_text().count("x")


async def program_for(found: Interpreters, wanted: str, path: Path | str = "/gone") -> str:
    words, _ = await found.command(wanted, {"PATH": str(path)})
    assert words[1:] == ("-P", "-m", "runner")
    return words[0]


async def refusal(found: Interpreters, wanted: str, path: Path | str = "/gone") -> str:
    with pytest.raises(BadRequest) as caught:
        await program_for(found, wanted, path)
    return str(caught.value)


async def test_the_hubs_python_runs_what_it_suits_and_nobody_is_asked(tmp_path: Path) -> None:
    other = python(tmp_path / "other", f"{NEWER}.0")
    found = Interpreters((Path(other),), tmp_path / "home")
    for wanted in (">=3.11", "", "3.8.0"):
        assert await found.command(wanted, {"A": "1"}) == (
            (sys.executable, "-P", "-m", "runner"),
            {"A": "1"},
        )
    assert not Path(f"{other}.calls").exists()
    assert not (tmp_path / "home").exists()


async def test_the_first_configured_one_that_fits_is_taken_then_the_newest_on_the_path(
    tmp_path: Path,
) -> None:
    first = python(tmp_path / "configured/a", "3.20.0")
    second = python(tmp_path / "configured/b", "3.22.5")
    on_path = {minor: python(tmp_path / f"path/python3.{minor}", f"3.{minor}.0") for minor in (21, 22, 23)}
    found = Interpreters((Path(first), Path(second)), tmp_path / "home")
    assert await program_for(found, "~3.20", tmp_path / "path") == first
    assert await program_for(found, "~3.22", tmp_path / "path") == second
    assert await program_for(found, "~3.21", tmp_path / "path") == on_path[21]
    assert await program_for(found, ">=3.22.6", tmp_path / "path") == on_path[23]


async def test_a_configured_one_may_be_the_name_of_a_program_on_the_path(tmp_path: Path) -> None:
    mine = python(tmp_path / "path/my-python", "3.20.0")
    found = Interpreters((Path("my-python"),), tmp_path / "home")
    assert await program_for(found, "3.20.x", tmp_path / "path") == mine


async def test_what_stands_in_for_another_one_is_not_what_is_started(tmp_path: Path) -> None:
    shim = program(tmp_path / "shim", "printf '3 20 0 /real one/python'")
    assert await program_for(Interpreters((Path(shim),), tmp_path / "home"), "3.20.x") == "/real one/python"


async def test_each_is_asked_once_until_its_file_changes(tmp_path: Path) -> None:
    other = python(tmp_path / "other", "3.20.0")
    found = Interpreters((Path(other),), tmp_path / "home")
    await asyncio.gather(*(program_for(found, "3.20.x") for _ in range(5)))
    assert calls(other) == 1
    python(tmp_path / "other", "3.21.0", "# another file")
    assert await program_for(found, "3.21.x") == other
    assert calls(other) == 2


async def test_the_path_of_the_runner_leads_to_our_packages_and_to_nothing_beside_them(
    tmp_path: Path,
) -> None:
    other = python(tmp_path / "other", "3.20.0")
    home = tmp_path / "data/python"
    found = Interpreters((Path(other),), home)
    _, environment = await found.command("3.20.x", {"PATH": "/bin", "PYTHONPATH": "/theirs"})
    assert environment == {"PATH": "/bin", "PYTHONPATH": f"{home}{os.pathsep}/theirs"}
    assert sorted(path.name for path in home.iterdir()) == ["runner", "sequence_sdk"]
    assert (home / "runner/__main__.py").is_file()


async def test_links_that_lead_elsewhere_are_put_right(tmp_path: Path) -> None:
    other = python(tmp_path / "other", "3.20.0")
    home = tmp_path / "home"
    home.mkdir()
    for name in ("runner", "runner.new", "sequence_sdk"):
        (home / name).symlink_to("/where/it/was/installed/before")
    await program_for(Interpreters((Path(other),), home), "3.20.x")
    assert (home / "runner/__main__.py").is_file()
    assert (home / "sequence_sdk/__init__.py").is_file()


async def test_when_none_fits_the_sentence_says_what_is_wanted_what_there_is_and_what_to_do(
    tmp_path: Path,
) -> None:
    fine = python(tmp_path / "fine", "3.20.1")
    old = python(tmp_path / "old", "3.8.18")
    broken = python(
        tmp_path / "broken", "3.21.0", "echo Trace >&2; echo 'ImportError: no _socket' >&2; exit 1"
    )
    ruby = program(tmp_path / "ruby", "echo 3.2.1; exit 2")
    bad = tmp_path / "bad"
    bad.write_bytes(b"\0")
    bad.chmod(0o700)
    configured = (Path(fine), Path(old), Path(broken), Path(ruby), bad, tmp_path / "gone")
    sentence = await refusal(Interpreters(configured, tmp_path / "home"), ">=3.21")
    assert re.sub(r"cannot be run: [^;.]*", "cannot be run: …", sentence.replace(f"{tmp_path}/", "")) == (
        f'engines.python3 of package.json asks for ">=3.21", and no Python of this hub fits: its own is '
        f"{'.'.join(map(str, OWN))}; fine is 3.20.1; old is 3.8.18, and our runner needs 3.11 or newer; broken is 3.21.0, and "
        "cannot import our runner: ImportError: no _socket; ruby is no Python 3; bad cannot be run: …; gone is not there. "
        "Install one that fits and name it in the setting runners.pythons, or change the range"
    )


async def test_without_a_folder_for_it_there_is_the_hubs_python_only(tmp_path: Path) -> None:
    other = python(tmp_path / "other", f"{NEWER}.0")
    sentence = await refusal(Interpreters((Path(other),)), f"~{NEWER}")
    assert f"its own is {'.'.join(map(str, OWN))}. Install one" in sentence


@pytest.mark.parametrize("wanted", ["<3.11", "~3.8", "3.8.x", ">=2.7 <3"])
async def test_what_no_python_of_our_runner_suits_is_said_so(tmp_path: Path, wanted: str) -> None:
    sentence = await refusal(Interpreters(home=tmp_path / "home"), wanted)
    assert f'asks for "{wanted}", but our runner needs Python 3.11 or newer' in sentence
    assert 'runners.pythonFor = "original"' in sentence


async def test_one_that_does_not_answer_is_ended_and_asked_again_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = program(tmp_path / "slow", f'echo $$ >"{tmp_path}/pid"; exec /bin/sleep 60')
    monkeypatch.setattr(interpreters, "_ANSWER_WITHIN", 0.3)
    found = Interpreters((Path(slow),), tmp_path / "home")
    assert "slow has not answered within 0.3 s" in await refusal(found, "3.20.x")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    await refusal(found, "3.20.x")
    assert calls(slow) == 2


async def test_who_is_cancelled_while_asking_leaves_no_process(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pid")
    slow = program(tmp_path / "slow", f'echo $$ >"{tmp_path}/pid"; exec /bin/sleep 60')
    asking = asyncio.ensure_future(program_for(Interpreters((Path(slow),), tmp_path / "home"), "3.20.x"))
    pid = int(await asyncio.to_thread((tmp_path / "pid").read_text))
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_real_interpreter_that_imports_our_runner_is_taken(tmp_path: Path) -> None:
    interpreters._show_packages(tmp_path)
    interpreter = await interpreters._asked(sys.executable, tmp_path, {"PATH": "/bin"})
    assert (interpreter.program, interpreter.version, interpreter.why_not) == (sys.executable, OWN, "")
