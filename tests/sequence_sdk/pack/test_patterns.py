"""The patterns of git: which names they are about, and which line says so."""

import re
from pathlib import Path

import pytest

from sequence_sdk.pack.errors import BadIgnoreRule, FileUnreadable
from sequence_sdk.pack.files import LeftOut, Wanted, select_files
from sequence_sdk.pack.patterns import BadPatternError, GitPatterns, read_git_patterns


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            path.write_text(name)
    return folder


def patterns(*lines: str) -> GitPatterns:
    return GitPatterns([(f"line {number}", line) for number, line in enumerate(lines, start=1)])


def names(folder: Path, wanted: Wanted | None = None) -> list[str]:
    return [
        entry.name + "/" * entry.is_folder
        for entry in select_files(folder, wanted=wanted or Wanted()).entries
    ]


def test_the_last_pattern_about_a_name_decides_and_is_named():
    chosen = patterns("# logs", "*.log", "", "!keep.log", "build/")
    assert chosen.decide("a/b.log") == (True, "line 2 (*.log)")
    assert chosen.decide("keep.log") == (False, "line 4 (!keep.log)")
    assert chosen.decide("build/") == (True, "line 5 (build/)")
    assert chosen.decide("build") is None


@pytest.mark.parametrize("line", ["!", "\\", "[z-a]"])
def test_what_is_no_pattern_is_refused_with_its_place(line):
    with pytest.raises(BadPatternError, match="is no pattern of git") as caught:
        patterns("fine", line)
    assert (caught.value.at, caught.value.pattern) == (1, line)


def test_a_git_ignore_file_is_read_with_its_line_numbers(tmp_path):
    path = tmp_path / ".gitignore"
    path.write_bytes(b"\xef\xbb\xbf# x\r\n*.log\r\n")
    assert read_git_patterns(path, "sub/").decide("a.log") == (True, "sub/.gitignore line 2 (*.log)")


@pytest.mark.parametrize(("line", "words"), [(b"\xff", "not UTF-8"), (b"[z-a]", "no pattern of git")])
def test_a_line_that_is_no_pattern_is_refused_with_its_number(tmp_path, line, words):
    path = tmp_path / ".gitignore"
    path.write_bytes(b"fine\n" + line)
    with pytest.raises(BadIgnoreRule, match=words) as caught:
        select_files(tmp_path)
    assert (caught.value.path, caught.value.line) == (path, 2)


def test_a_git_ignore_that_is_no_file_says_nothing(tmp_path):
    fill(tmp_path, ".gitignore/", "a.log")
    assert names(tmp_path) == [".gitignore/", "a.log"]


def test_a_git_ignore_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    path = tmp_path / ".gitignore"
    path.touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(FileUnreadable, match=re.escape(f"{path} cannot be read (Permission denied)")):
        read_git_patterns(path, "")


def test_what_git_ignores_stays_out(tmp_path):
    fill(tmp_path, "main.py", "a.log", "keep.log", "out/x", "sub/b.log", "logs/c.log")
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n/out/\n")
    selection = select_files(tmp_path)
    assert [entry.name for entry in selection.entries] == [".gitignore", "keep.log", "logs", "main.py", "sub"]
    assert selection.left_out == (
        LeftOut("a.log", ".gitignore line 1 (*.log)"),
        LeftOut("logs/c.log", ".gitignore line 1 (*.log)"),
        LeftOut("out", ".gitignore line 3 (/out/)"),
        LeftOut("sub/b.log", ".gitignore line 1 (*.log)"),
    )


def test_the_git_ignore_of_a_deeper_folder_is_asked_first(tmp_path):
    fill(tmp_path, "a.txt", "sub/a.txt", "sub/b.txt", "sub/deep/b.txt")
    (tmp_path / ".gitignore").write_text("a.txt\n")
    (tmp_path / "sub/.gitignore").write_text("!a.txt\n/b.txt\n")
    selection = select_files(tmp_path)
    assert [out.name for out in selection.left_out] == ["a.txt", "sub/b.txt"]
    assert selection.left_out[1].rule == "sub/.gitignore line 2 (/b.txt)"


def test_with_a_siignore_no_git_ignore_is_read(tmp_path):
    fill(tmp_path, ".gitignore", ".siignore", "a.log", "b.log")
    (tmp_path / ".gitignore").write_text("*.log\n[z-a]")
    (tmp_path / ".siignore").write_text("a.log\n")
    assert names(tmp_path) == [".gitignore", ".siignore", "b.log"]
    (tmp_path / ".siignore").write_text("")
    assert "a.log" in names(tmp_path)


def test_dependencies_and_the_manifest_go_in_although_git_ignores_them(tmp_path):
    fill(tmp_path, "package.json", "__pypackages__/a/x.py", "node_modules/b/y.js", "sub/package.json")
    (tmp_path / "__pypackages__/a/.gitignore").write_text("*")
    (tmp_path / ".gitignore").write_text("*.json\n__pypackages__/\nnode_modules\n")
    assert names(tmp_path) == [
        ".gitignore",
        "__pypackages__/a/.gitignore",
        "__pypackages__/a/x.py",
        "node_modules/b/y.js",
        "package.json",
        "sub/",
    ]


def test_include_names_all_that_goes_in(tmp_path):
    fill(tmp_path, "main.py", "src/a.py", "src/empty/", "tests/b.py", "none/", "__pypackages__/c.py")
    (tmp_path / ".gitignore").write_text("src/")
    wanted = Wanted(include=patterns("main.py", "src/", "!src/gone"))
    selection = select_files(tmp_path, wanted=wanted)
    assert [(entry.name, entry.rule) for entry in selection.entries] == [
        ("__pypackages__/c.py", "being a dependency"),
        ("main.py", "line 1 (main.py)"),
        ("src/a.py", "line 2 (src/)"),
        ("src/empty", "line 2 (src/)"),
    ]
    assert {out.rule for out in selection.left_out} == {"not being named by tool.sequence.include"}
    assert [out.name for out in selection.left_out] == [".gitignore", "tests/b.py"]


def test_exclude_is_asked_before_include(tmp_path):
    fill(tmp_path, "src/a.py", "src/b.py", "src/c/d.py", "package.json")
    wanted = Wanted(include=patterns("src/"), exclude=patterns("b.py", "c/", "!a.py"))
    selection = select_files(tmp_path, wanted=wanted)
    assert [(entry.name, entry.rule) for entry in selection.entries] == [
        ("package.json", "being the manifest"),
        ("src/a.py", "line 1 (src/)"),
    ]
    assert selection.left_out == (LeftOut("src/b.py", "line 1 (b.py)"), LeftOut("src/c", "line 2 (c/)"))


def test_a_siignore_wins_over_include(tmp_path):
    fill(tmp_path, "a.py", "b.py", ".siignore")
    (tmp_path / ".siignore").write_text("b.py")
    assert names(tmp_path, Wanted(include=patterns("*.py"))) == ["a.py"]


def test_a_folder_behind_a_link_follows_the_rules_of_where_it_is_linked(tmp_path):
    fill(tmp_path, "real/a.log", "real/b.py")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / ".gitignore").write_text("/link/*.log\n")
    assert names(tmp_path) == [".gitignore", "link/b.py", "real/a.log", "real/b.py"]
