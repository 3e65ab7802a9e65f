"""The rules of a ``.siignore``: which path each line is about."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.pack.errors import BadIgnoreRule, FileUnreadable
from sequence_sdk.pack.ignore import default_rule, parse_ignore_rules, read_ignore_rules

PATH = Path("demo/.siignore")


def matches(pattern: str, name: str) -> bool:
    (rule,) = parse_ignore_rules(pattern.encode(), PATH)
    return rule.regex.fullmatch(name) is not None


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("a.log", "a.log"),
        ("*.log", "a.log"),
        ("*.log", "two\nlines.log"),
        ("./a.log", "a.log"),
        ("/a.log", "a.log"),
        ("sub/*.log", "sub/a.log"),
        ("sub//a", "sub/a"),
        ("dist/", "dist"),
        ("*", "a"),
        (".*", ".env"),
        (".e*", ".env"),
        ("a*", "a.b.c"),
        ("a**c", "abc"),
        ("?", "a"),
        ("[ab]", "b"),
        ("[a-c]x", "cx"),
        ("[!a]", "b"),
        ("[^a]", "b"),
        ("[]]", "]"),
        ("[!]]", "a"),
        (r"[\]]", "]"),
        ("[a-]", "-"),
        ("[-a]", "-"),
        ("[", "["),
        ("[a", "[a"),
        (r"\*", "*"),
        (r"\#a", "#a"),
        ("a#b", "a#b"),
        ("a\\", "a\\"),
        ("**", "a/b/c"),
        ("**/a", "a"),
        ("**/a", "x/y/a"),
        ("a/**", "a/b/c"),
        ("a/**/b", "a/b"),
        ("a/**/b", "a/x/y/b"),
        ("{a,b}.py", "b.py"),
        ("{a,{b,c}d}", "cd"),
        ("{a,b}{c,d}", "bc"),
        ("{a/x,b}/c", "a/x/c"),
        ("x{,y}", "x"),
        ("{a}", "{a}"),
        ("{a,b", "{a,b"),
        ("{{a,b}", "{b"),
        (r"\{a,b\}", "{a,b}"),
        ("copy (1).txt", "copy (1).txt"),
        ("a+b$^.txt", "a+b$^.txt"),
        ("zażółć*", "zażółć.txt"),
    ],
)
def test_a_pattern_is_about_this_name(pattern, name):
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("a.log", "sub/a.log"),
        ("*.log", "sub/b.log"),
        ("*.log", ".log"),
        ("*", ".env"),
        ("?env", ".env"),
        ("[.]env", ".env"),
        ("[!a]env", ".env"),
        ("sub/*", "sub/.env"),
        ("sub/*", "sub/a/b"),
        ("*", "a/b"),
        ("?", "/"),
        ("[!a]", "/"),
        ("a[!x]b", "a/b"),
        ("**", ".git/config"),
        ("**/a", ".x/a"),
        ("a/**", "a"),
        ("a/**", "a/.b"),
        ("a.log", "axlog"),
        ("A", "a"),
        ("{a,b}", "{a,b}"),
        ("/", "a"),
    ],
)
def test_a_pattern_is_not_about_that_name(pattern, name):
    assert not matches(pattern, name)


def test_comments_and_blank_lines_say_nothing():
    raw = b"\xef\xbb\xbf# all of it\r\n\r\n   \n  # more\n*.log  # not these\r\n a b \n"
    rules = parse_ignore_rules(raw, PATH)
    assert [(rule.line, rule.pattern) for rule in rules] == [(5, "*.log"), (6, "a b")]
    assert str(rules[0]) == ".siignore line 5 (*.log)"


def test_only_a_pattern_that_ends_in_a_slash_is_about_folders_only():
    rules = parse_ignore_rules(b"dist/\ndist\n", PATH)
    assert [rule.folders_only for rule in rules] == [True, False]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"!keep.txt", "name only what stays out"),
        (b"@(a|b)", "write {a,b} or several lines"),
        (b"[z-a]", "is no pattern"),
        (b"{a,b}" * 20, "more than 1000 names"),
        (b"\xff", "save the file as UTF-8"),
    ],
)
def test_a_line_that_is_no_pattern_is_refused_with_its_number(line, words):
    with pytest.raises(BadIgnoreRule) as caught:
        parse_ignore_rules(b"fine\n" + line, PATH)
    assert caught.value.line == 2
    assert str(caught.value).startswith("demo/.siignore:2: ")
    assert words in str(caught.value)


@given(st.text(st.sampled_from("ab/*?[]{},\\!^-.&|~# ()"), max_size=12))
def test_any_line_is_a_rule_a_comment_or_refused(line):
    try:
        rules = parse_ignore_rules(line.encode(), PATH)
    except BadIgnoreRule:
        return
    assert len(rules) <= 1


@given(
    st.text(st.characters(exclude_characters="/\0\n\r", exclude_categories=["Cs"]), min_size=1, max_size=12)
)
def test_an_escaped_name_is_about_that_name_only(name):
    if name != name.strip() or re.search(r"(?:^|\s)#", name) or name in {".", ".."}:
        return
    escaped = re.sub(r"([^\w\s])", r"\\\1", name)
    assert matches(escaped, name)
    assert not matches(escaped, name + "x")


@pytest.mark.parametrize(
    "name",
    [".git", "a/.hg", ".svn", "x/__pycache__", "a.pyc", ".venv", "venv", "a/b/.DS_Store", ".ruff_cache"],
)
def test_clutter_has_a_default_rule(name):
    assert default_rule(name) == f"the default rule {'*.pyc' if name == 'a.pyc' else name.split('/')[-1]}"


@pytest.mark.parametrize(
    "name", [".github", "git", "venv.py", ".siignore", ".env", "node_modules", "__pypackages__"]
)
def test_other_names_have_none(name):
    assert default_rule(name) is None


def test_dependencies_keep_their_own_venv_and_pyc_but_no_caches():
    assert default_rule("__pypackages__/sold.pyc") is None
    assert default_rule("__pypackages__/tool/venv") is None
    assert default_rule("node_modules/venv") is None
    assert default_rule("__pypackages__/tool/__pycache__") == "the default rule __pycache__"


def test_a_folder_without_the_file_has_no_rules(tmp_path):
    assert read_ignore_rules(tmp_path) == ()
    (tmp_path / ".siignore").mkdir()
    assert read_ignore_rules(tmp_path) == ()


def test_the_file_is_read(tmp_path):
    (tmp_path / ".siignore").write_text("*.log\n")
    assert [rule.pattern for rule in read_ignore_rules(tmp_path)] == ["*.log"]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    link = tmp_path / ".siignore"
    link.symlink_to(".siignore")
    with pytest.raises(FileUnreadable, match=re.escape(str(link))):
        read_ignore_rules(tmp_path)
