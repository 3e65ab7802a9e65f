"""What all commands share: errors become a sentence, options in JSON are checked."""

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from hub_lite.access import TokenFileError
from hub_lite.client import ClientError
from hub_lite.commands.shell import CommandFailed, failing_with_a_sentence, json_option, run_loop, token_of
from hub_lite.settings import SettingsError
from hub_lite.standard_streams import StreamFailure
from sequence_sdk.manifest import ManifestUnreadable
from sequence_sdk.pack import PackError


def failed(error: BaseException) -> int:
    """Return the exit status of a command that raises this."""
    with pytest.raises(SystemExit) as ended, failing_with_a_sentence():
        raise error
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ClientError("the hub says no"), "the hub says no"),
        (lambda: CommandFailed("there is none"), "there is none"),
        (lambda: SettingsError("no such key"), "no such key"),
        (lambda: TokenFileError("nobody has it"), "nobody has it"),
        (lambda: ManifestUnreadable("it is no JSON"), "package.json: it is no JSON"),
        (lambda: PackError("no file"), "no file"),
        (lambda: StreamFailure("standard input", OSError(errno.EIO, "broken")), "standard input: broken"),
        (lambda: FileNotFoundError(errno.ENOENT, "No such file", "x.txt"), "No such file: x.txt"),
        (lambda: OSError("no space"), "no space"),
    ],
)
def test_what_may_go_wrong_is_a_sentence_and_status_1(
    make: Callable[[], Exception], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failed(make()) == 1
    assert capsys.readouterr() == ("", f"hub-lite: {said}\n")


def test_what_may_not_go_wrong_is_shown_whole() -> None:
    with pytest.raises(ZeroDivisionError), failing_with_a_sentence():
        raise ZeroDivisionError


def test_ctrl_c_needs_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert failed(KeyboardInterrupt()) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_is_gone_needs_no_words_and_gets_nothing_more() -> None:
    program = (
        "from hub_lite.commands.shell import failing_with_a_sentence\n"
        "with failing_with_a_sentence():\n"
        "    print('left in the buffer')\n    raise BrokenPipeError\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (141, b"", b"")


def test_a_coroutine_runs_to_its_end() -> None:
    assert run_loop(asyncio.sleep(0, "done")) == "done"


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [(None, list, "default"), ("[1]", list, [1]), ('{"a": null}', dict, {"a": None})],
)
def test_an_option_in_json_is_its_value(text: str | None, kind: type, value: Any) -> None:
    assert json_option("--x", text, kind, "default") == value


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("[", list, "is not JSON"), ("5", list, "must be a JSON array"), ("[1]", dict, "must be a JSON object"),
        ("", dict, "is not JSON"),
    ],
)  # fmt: skip
def test_an_option_that_is_not_its_kind_of_json_is_told(text: str, kind: type, said: str) -> None:
    with pytest.raises(click.BadParameter, match=said):
        json_option("--x", text, kind, None)


def test_a_token_comes_from_the_file_or_else_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tokens"
    file.write_text("# ours\n0123456789abcdef\nfedcba9876543210\n")
    file.chmod(0o600)
    monkeypatch.delenv("HUB_LITE_TOKEN", raising=False)
    assert token_of(None) is None
    monkeypatch.setenv("HUB_LITE_TOKEN", "the-one-of-the-environment")
    assert token_of(None) == "the-one-of-the-environment"
    assert token_of(file) == "0123456789abcdef"
    with pytest.raises(TokenFileError):
        token_of(tmp_path / "none")
