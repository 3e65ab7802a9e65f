"""The commands for a running hub, as people type them: what they print, what they do, and how they fail."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.cli import main
from hub_lite.commands.operate import age, log_text, short_ids
from sequence_sdk.pack import pack

from .harness import DEADLINE, HubProcess, hub_lite, running_hub
from .test_commands import said, write_sequence

SEQUENCE = """
import sys

async def run(context, input, *args):
    print("printed", *args, context.config)
    print("to stderr", file=sys.stderr)
    context.logger.warning("logged %s", "é")
    context.on("ping", lambda message=None: context.emit("pong", message))
    async for line in input:
        yield line.upper()
"""
READS_STDIN = """
import sys

def run(context, input):
    for line in sys.stdin:
        print(line.upper(), end="", flush=True)
        print("seen", file=sys.stderr, flush=True)
"""
NOBODY = "e" * 36


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in os.environ if one.startswith("HUB_LITE")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def shout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_sequence(tmp_path_factory.mktemp("shout") / "shout", SEQUENCE)
    (folder / "package.json").write_text(
        '{"name": "shout", "version": "1.2.3", "main": "main.py", "engines": {"python3": ">=3.11"}}'
    )
    return folder


class Shell:
    """Somebody who types commands for a hub. They run in this process, for there are many; those with signals do not."""

    def __init__(self, url: str, captured: pytest.CaptureFixture[bytes]) -> None:
        self.url = url
        self.captured = captured

    def run(
        self, *words: str | Path, input: bytes = b"", hub: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        self.captured.readouterr()
        command = [*map(str, words), *(["--hub", self.url] if hub else [])]
        with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
            file.write(input)
            file.seek(0)
            patch.setattr(sys, "stdin", io.TextIOWrapper(file))
            with pytest.raises(SystemExit) as ended:
                main.main(command, prog_name="hub-lite")
            sys.stdin.detach()
        printed = self.captured.readouterr()
        return subprocess.CompletedProcess(command, ended.value.code or 0, printed.out, printed.err)

    def process(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "hub_lite", *words, "--hub", self.url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def says(self, *words: str | Path, **options: Any) -> str:
        """Return what a command that does its work prints."""
        result = self.run(*words, **options)
        assert (result.returncode, said(result)) == (0, ""), words
        return result.stdout.decode()

    def json(self, *words: str | Path) -> Any:
        return json.loads(self.says(*words))

    def refused(self, *words: str | Path, status: int = 1) -> str:
        """Return the one sentence of a command that does not do its work."""
        result = self.run(*words)
        assert (result.returncode, result.stdout) == (status, b""), said(result)
        *_, sentence = said(result).splitlines()
        assert status != 1 or said(result) == f"{sentence}\n"
        return sentence

    def deploy(self, target: Path, *options: str) -> str:
        return self.says("deploy", target, *options).strip()


@pytest.fixture
def shell(hub: HubProcess, capfdbinary: pytest.CaptureFixture[bytes]) -> Iterator[Shell]:
    """A shell on a hub that has nothing."""
    shell = Shell(hub.url, capfdbinary)
    yield shell
    for one in shell.json("sequences", "--json"):
        shell.says("rm", "-f", one["id"])
    for one in shell.json("ps", "--json", "-a"):  # of Sequences that are removed
        if one["status"] not in ("completed", "errored"):
            shell.says("kill", "--remove", one["id"])


# --- looking ----------------------------------------------------------------------------------------------------------


def test_tables_have_their_headings_though_there_is_nothing(shell: Shell):
    assert shell.says("sequences").split() == ["ID", "NAME", "VERSION", "SIZE", "INSTANCES"]
    assert shell.says("topic", "ls").splitlines()[0].split("  ") == ["TOPIC", "CONTENT TYPE"]
    assert shell.json("sequences", "--json") == []


def test_a_sequence_is_sent_listed_started_and_removed(shell: Shell, shout: Path, tmp_path: Path):
    pack(shout, tmp_path / "shout.tar.gz")
    first = shell.says("send", shout).strip()
    second = shell.json("send", "--json", tmp_path / "shout.tar.gz")["id"]
    rows = [line.split() for line in shell.says("sequences").splitlines()[1:]]
    assert [row[:3] for row in rows] == [[second[:8], "shout", "1.2.3"], [first[:8], "shout", "1.2.3"]]
    assert [one["id"] for one in shell.json("sequences", "--json")] == [second, first]
    instance = shell.json("launch", first[:6], "--json")["id"]
    assert shell.json("info", instance[:8])["sequence"]["id"] == first
    assert shell.json("info", first)["instances"] == [instance]
    assert shell.refused("rm", first) == "hub-lite: Can't remove sequence in use."
    assert shell.says("rm", "--force", first, second).split() == [first, second]
    assert shell.json("sequences", "--json") == []


def test_a_package_takes_the_place_of_another(shell: Shell, shout: Path):
    first = shell.says("send", shout).strip()
    assert shell.says("send", shout, "--replace", "shout").strip() == first
    assert [one["id"] for one in shell.json("sequences", "--json")] == [first]


def test_ps_lists_what_runs_and_with_a_all(shell: Shell, shout: Path):
    ended, running = shell.deploy(shout), shell.deploy(shout)
    assert re.fullmatch(f"{ended} completed\n", shell.says("stop", ended))
    heading, row = shell.says("ps").splitlines()
    assert heading.split() == ["ID", "SEQUENCE", "STATUS", "AGE", "EXIT"]
    assert re.fullmatch(rf"{running[:8]}  shout     running  +\d+s", row)
    shown = [line.split() for line in shell.says("ps", "-a").splitlines()[1:]]
    assert [row[:3] for row in shown[:2]] == [
        [running[:8], "shout", "running"],
        [ended[:8], "shout", "completed"],
    ]
    assert shown[1][4] == "138"
    assert [one["id"] for one in shell.json("ps", "--json")] == [running]
    assert [one["id"] for one in shell.json("ps", "--all", "--json")][:2] == [running, ended]


def test_info_and_health_tell_of_the_hub_and_an_instance(shell: Shell, shout: Path):
    about = shell.json("info")
    assert about["service"] == "hub-lite"
    assert about["load"]["memFree"] > 0
    instance = shell.deploy(shout)
    assert shell.json("info", "-")["id"] == instance
    assert shell.json("info", "shout")["config"]["name"] == "shout"
    assert shell.json("health", instance)["healthy"] is True


# --- ids --------------------------------------------------------------------------------------------------------------


def test_an_id_may_be_its_beginning_a_name_or_the_newest(shell: Shell, shout: Path):
    shell.says("send", shout)
    instance = shell.says("launch", "shout").strip()
    newest = shell.says("launch", "-").strip()
    assert shell.says("kill", instance[:8]).split()[0] == instance
    assert shell.says("kill", "-").split()[0] == newest


def test_ids_that_nobody_or_several_have_are_told(shell: Shell, shout: Path):
    assert shell.refused("launch", "-") == "hub-lite: the hub has no Sequence, so - means none"
    assert shell.refused("launch", "zz") == (
        "hub-lite: no Sequence is called 'zz', nor has an id that begins so; `hub-lite sequences` lists all"
    )
    assert shell.refused("stop", "zz").startswith("hub-lite: no Instance is called 'zz'")
    assert shell.refused("stop", "").startswith("hub-lite: no Instance is called ''")
    assert NOBODY in shell.refused("stop", NOBODY)
    assert shell.refused("info", "zz").startswith("hub-lite: no Instance or Sequence is called 'zz'")
    ids = [shell.says("send", shout).strip() for _ in range(2)]
    assert shell.refused("launch", "shout") == (
        f"hub-lite: 2 Sequences are called 'shout': {', '.join(ids)}; give the id of one"
    )
    instances = ["aaaaaaaa-1" + "0" * 26, "aaaaaaaa-2" + "0" * 26]
    for one in instances:
        assert shell.says("launch", "-", "--id", one).strip() == one
    assert shell.refused("kill", "aaaa") == (
        f"hub-lite: 'aaaa' begins the ids of 2 Instances: {', '.join(instances)}; give more of one"
    )
    assert [line.split()[0] for line in shell.says("ps").splitlines()[1:]] == ["aaaaaaaa-2", "aaaaaaaa-1"]


@given(st.lists(st.text("ab", min_size=12, max_size=12), unique=True))
def test_short_ids_tell_all_apart_and_begin_the_whole_ones(ids: list[str]):
    shown = short_ids(ids)
    assert all(one.startswith(shown[one]) and len(shown[one]) >= 8 for one in ids)
    assert len(set(shown.values())) == len(ids)


@pytest.mark.parametrize(
    ("ago", "shown"),
    [
        (timedelta(seconds=-5), "0s"), (timedelta(seconds=59.9), "59s"), (timedelta(seconds=60), "1m"),
        (timedelta(minutes=119), "1h"), (timedelta(hours=47), "1d"), (timedelta(days=400), "400d"),
    ],
)  # fmt: skip
def test_an_age_is_told_in_its_largest_unit(ago: timedelta, shown: str):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert age((now - ago).isoformat().replace("+00:00", "Z"), now) == shown


def test_what_is_no_time_has_no_age():
    assert age("", datetime.now(UTC)) == ""


# --- starting and ending ----------------------------------------------------------------------------------------------


def test_a_start_takes_arguments_configuration_and_an_id(shell: Shell, shout: Path):
    wanted = "an-id-of-our-own-0000000000000000000"
    instance = shell.deploy(shout, "--args", '["x", 5]', "--config", '{"k": 1}', "--id", wanted)
    assert instance == wanted
    shown = shell.json("info", instance)
    assert (shown["args"], shown["appConfig"]) == (["x", 5], {"k": 1})
    shell.says("kill", instance)
    assert shell.says("stdout", instance) == "printed x 5 {'k': 1}\n"
    assert shell.refused("launch", "-", "--id", "short").endswith(
        "36 visible ASCII characters without slashes"
    )
    assert "must be a JSON array" in shell.refused("launch", "-", "--args", "{}", status=2)


def test_a_sequence_that_does_not_start_is_told(shell: Shell, tmp_path: Path):
    broken = write_sequence(tmp_path / "broken", "import nowhere_at_all\n")
    assert "No module named 'nowhere_at_all'" in shell.refused("deploy", broken)
    assert shell.refused("send", tmp_path).startswith(f"hub-lite: {tmp_path}/package.json not found")
    assert "does not exist" in shell.refused("send", tmp_path / "nothing", status=2)


def test_several_instances_end_at_once_and_the_first_failure_is_told(shell: Shell, shout: Path):
    one, two = shell.deploy(shout), shell.deploy(shout)
    assert shell.says("stop", one, two, "--timeout", "5") == f"{one} completed\n{two} completed\n"
    three = shell.deploy(shout)
    result = shell.run("kill", one, three, "--json")
    assert result.returncode == 1
    assert said(result) == "hub-lite: Instance not running: it is completed\n"
    (killed,) = json.loads(result.stdout)
    assert killed["id"] == three


def test_a_killed_instance_that_is_removed_is_forgotten(shell: Shell, shout: Path):
    instance = shell.deploy(shout)
    shell.says("kill", "--remove", instance)
    assert instance not in shell.says("ps")


# --- streams ----------------------------------------------------------------------------------------------------------


def test_input_and_output_are_those_of_the_shell(shell: Shell, shout: Path, tmp_path: Path):
    instance = shell.deploy(shout)
    (tmp_path / "lines.txt").write_text("from a file\n")
    shell.says("input", instance, tmp_path / "lines.txt", "--keep-open")
    shell.says("input", instance, "-", "--keep-open", input=b"from a pipe\n")
    shell.says("input", instance, input=b"and the end\n")
    assert shell.says("output", instance) == "FROM A FILE\nFROM A PIPE\nAND THE END\n"
    assert shell.says("output", instance, "--offset", "12") == "FROM A PIPE\nAND THE END\n"
    assert shell.says("stderr", instance) == "to stderr\n"
    assert "offset 999 is not there" in shell.refused("output", instance, "--offset", "999")


def test_an_input_that_is_not_taken_is_told(shell: Shell, shout: Path, tmp_path: Path):
    instance = shell.deploy(shout)
    assert "image/png" in shell.refused("input", instance, "-t", "image/png")
    assert "does not exist" in shell.refused("input", instance, tmp_path / "nothing", status=2)
    shell.says("input", instance, input=b"x\n")
    assert shell.says("output", instance) == "X\n"
    assert shell.refused("input", instance).startswith("hub-lite: ")


def test_an_output_that_breaks_off_fails_after_all_there_is(shell: Shell, tmp_path: Path):
    failing = write_sequence(
        tmp_path / "failing", "def run(context, input):\n    yield 'before\\n'\n    raise ValueError\n"
    )
    result = shell.run("output", shell.deploy(failing))
    assert (result.returncode, result.stdout) == (1, b"before\n")
    assert re.fullmatch("hub-lite: .*\n", said(result))


def test_logs_show_what_is_there_and_with_follow_go_on_to_the_end(shell: Shell, shout: Path):
    instance = shell.deploy(shout)
    with shell.process("logs", "-f", instance) as waiting:
        assert waiting.stdout is not None
        line = waiting.stdout.readline().decode()
        assert re.fullmatch(r"\d\d:\d\d:\d\d WARN  Sequence: logged é\n", line)
        assert line in shell.says("logs", instance)
        records = [json.loads(one) for one in shell.says("logs", instance, "--json").splitlines()]
        assert "logged é" in [one["msg"] for one in records]
        shell.says("stop", instance)
        rest = waiting.stdout.read().decode()
        assert waiting.wait(DEADLINE) == 0
    assert line + rest == shell.says("logs", instance)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b'{"msg": "m", "level": "ERROR", "from": "Runner", "error": "Traceback\\n  x"}', b"ERROR Runner: m\nTraceback\n  x\n"),
        (b'{"msg": "m", "data": [1, "two"]}', b"INFO  m 1 two\n"),
        (b"no JSON at all", b"INFO  no JSON at all\n"),
    ],
)  # fmt: skip
def test_a_log_line_is_shown_with_all_it_says(line: bytes, shown: bytes):
    assert log_text(line) == shown


def test_stdio_connects_the_shell_to_the_process(shell: Shell, tmp_path: Path):
    instance = shell.deploy(write_sequence(tmp_path / "reads", READS_STDIN))
    result = shell.run("stdio", instance, input=b"one\ntwo\n")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"ONE\nTWO\n", b"seen\nseen\n")


def test_a_reader_that_goes_away_ends_a_command_quietly(shell: Shell, tmp_path: Path):
    endless = write_sequence(
        tmp_path / "endless", "def run(context, input):\n    while True:\n        yield 'y\\n' * 9999\n"
    )
    instance = shell.deploy(endless)
    with shell.process("output", instance) as output:
        assert output.stdout is not None
        assert output.stderr is not None
        assert output.stdout.read(4) == b"y\ny\n"
        output.stdout.close()
        assert output.stderr.read() == b""
        assert output.wait(DEADLINE) == 141


def test_ctrl_c_ends_a_command_and_not_the_instance(shell: Shell, shout: Path):
    instance = shell.deploy(shout)
    with shell.process("logs", "-f", instance) as logs:
        assert logs.stdout is not None
        assert logs.stderr is not None
        assert b"logged" in logs.stdout.readline()
        logs.send_signal(signal.SIGINT)
        assert logs.stderr.read() == b""
        assert logs.wait(DEADLINE) == 130
    assert shell.json("info", instance)["status"] == "running"


# --- events -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "seen"),
    [
        (["0"], "0"),
        (["text"], '"text"'),
        (['{"a": "é"}'], '{"a": "é"}'),
        ([], "null"),
        (["5", "--text"], '"5"'),
    ],
    ids=str,
)
def test_an_event_goes_in_and_comes_out(shell: Shell, shout: Path, message: list[str], seen: str):
    instance = shell.deploy(shout)
    shell.says("event", "emit", instance, "ping", *message)
    assert shell.says("event", "on", instance, "pong") == f"{seen}\n"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["pong", "--follow"], [0, 1, 2]),
        ([], [{"eventName": "pong", "message": number} for number in range(3)]),
    ],
    ids=str,
)
def test_events_are_followed(shell: Shell, shout: Path, options: list[str], shown: list[Any]):
    instance = shell.deploy(shout)
    with shell.process("event", "on", instance, *options) as follower:
        assert follower.stdout is not None
        seen: list[Any] = []
        os.set_blocking(follower.stdout.fileno(), False)
        while not seen:  # whether it listens already, only an event that arrives can tell
            shell.says("event", "emit", instance, "ping", "0")
            seen = [json.loads(line) for line in follower.stdout.readlines()]
        os.set_blocking(follower.stdout.fileno(), True)
        for number in (1, 2):
            shell.says("event", "emit", instance, "ping", str(number))
        while seen[-1] != shown[-1]:
            seen.append(json.loads(follower.stdout.readline()))
        assert [one for one in seen if one != shown[0]] == shown[1:]
        shell.says("kill", instance)
        assert follower.wait(DEADLINE) == 0


def test_the_next_event_is_waited_for(shell: Shell, shout: Path):
    instance = shell.deploy(shout)
    with shell.process("event", "on", "--next", instance, "pong") as waiting:
        while waiting.poll() is None:
            shell.says("event", "emit", instance, "ping", '"now"')
        assert waiting.stdout is not None
        assert waiting.stdout.read() == b'"now"\n'
    assert "takes the NAME of an event" in shell.refused("event", "on", "--next", instance, status=2)


# --- topics -----------------------------------------------------------------------------------------------------------


def test_a_topic_is_made_listed_fed_read_and_removed(shell: Shell, tmp_path: Path):
    assert shell.says("topic", "create", "letters", "-t", "text/plain") == ""
    assert shell.says("topic", "ls").splitlines()[1].split() == ["letters", "text/plain"]
    assert [one["contentType"] for one in shell.json("topic", "ls", "--json")] == ["text/plain"]
    (tmp_path / "lines.bin").write_text("from a file\n")
    shell.says("topic", "send", "letters", tmp_path / "lines.bin")  # what the topic has decides
    shell.says("topic", "send", "letters", input=b"from a pipe\n")
    with shell.process("topic", "get", "letters") as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"from a file\n"
        assert reader.stdout.readline() == b"from a pipe\n"
        shell.says("topic", "send", "letters", "--end", input=b"and the end\n")
        assert reader.stdout.read() == b"and the end\n"
        assert reader.wait(DEADLINE) == 0
    assert shell.says("topic", "rm", "letters") == "letters\n"
    assert shell.refused("topic", "rm", "letters").startswith("hub-lite: ")


# --- the hub ----------------------------------------------------------------------------------------------------------


def test_the_variable_names_the_hub(shell: Shell, shout: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HUB_LITE_URL", shell.url)
    instance = shell.run("deploy", shout, hub=False).stdout.decode().strip()
    assert [one["id"] for one in json.loads(shell.run("ps", "--json", hub=False).stdout)] == [instance]


@pytest.mark.parametrize(
    "words", [["ps"], ["logs", "-"], ["topic", "ls"], ["input", "-"], ["event", "on", "-", "x"]]
)
def test_a_hub_that_does_not_answer_is_told_in_a_sentence(
    words: list[str], capfdbinary: pytest.CaptureFixture[bytes]
):
    assert Shell("http://127.0.0.1:9", capfdbinary).refused(*words) == (
        "hub-lite: no hub answers at http://127.0.0.1:9/api/v1 (Connection refused); start one with `hub-lite start`"
    )


def test_a_token_is_taken_from_the_variable_or_a_file(
    tmp_path: Path, shout: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
):
    token = "0123456789abcdef-secret"
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    file.chmod(0o600)
    with running_hub(tmp_path, "--token-file", str(file)) as hub:
        shell = Shell(hub.url, capfdbinary)
        assert "Forbidden" in shell.refused("ps")
        assert shell.json("ps", "--json", "--token-file", file) == []
        monkeypatch.setenv("HUB_LITE_TOKEN", token)
        assert shell.json("ps", "--json") == []
        run = shell.run("run", shout, input=b"with a token\n")
        assert (run.returncode, run.stdout) == (0, b"WITH A TOKEN\n")
        monkeypatch.setenv("HUB_LITE_TOKEN", "wrong-but-long-enough")
        assert "Forbidden" in shell.refused("ps")
        file.chmod(0o644)
        assert f"chmod 600 {file}" in shell.refused("ps", "--token-file", file)


# --- the shell --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script_that_completes(shell_name: str):
    script = hub_lite("completion", shell_name)
    assert (script.returncode, script.stderr) == (0, b"")
    assert f"_HUB_LITE_COMPLETE={shell_name}_complete".encode() in script.stdout
    if shell_name == "bash":
        checked = subprocess.run(["bash", "-n"], input=script.stdout, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, b"")


def completions(words: str, url: str) -> list[str]:
    """Return what bash is offered for the last word of a line."""
    environment = {
        **os.environ, "_HUB_LITE_COMPLETE": "bash_complete", "COMP_WORDS": f"hub-lite {words}",
        "COMP_CWORD": str(len(words.split(" "))), "HUB_LITE_URL": url,
    }  # fmt: skip
    program = (
        "import sys; sys.argv[0] = 'hub-lite'; from hub_lite.cli import main; main(prog_name='hub-lite')"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert done.stderr == b""
    return [line.partition(",")[2] for line in done.stdout.decode().splitlines() if line]


def test_commands_options_and_ids_are_completed(shell: Shell, shout: Path):
    instance = shell.deploy(shout)
    assert completions("st", shell.url) == ["start", "stderr", "stdio", "stdout", "stop"]
    assert completions("stop --ti", shell.url) == ["--timeout"]
    assert completions(f"stop {instance[:3]}", shell.url) == [instance]
    assert completions("rm ", shell.url) == [one["id"] for one in shell.json("sequences", "--json")]
    assert completions("stop ", "http://127.0.0.1:9") == []
