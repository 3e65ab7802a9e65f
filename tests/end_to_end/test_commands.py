"""The command ``hub-lite`` as people use it: in a shell, in a pipeline, on a terminal, and wrongly."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import CliRunner

from hub_lite.cli import main
from sequence_sdk.pack import pack

from .harness import DEADLINE, HubProcess, eventually, hub_lite, lives, running_hub, talking_to

HUB_LITE = [sys.executable, "-m", "hub_lite"]
SHOUT = """
async def run(context, input):
    async for line in input:
        yield line.upper()
"""
TYPES = """
async def run(context, input):
    async for item in input:
        yield f"{type(item).__name__} {item!r}\\n"
"""


def write_sequence(folder: Path, code: str, **files: str) -> Path:
    """Make the folder of a Sequence."""
    folder.mkdir()
    (folder / "package.json").write_text('{"main": "main.py", "engines": {"python3": ">=3.11"}}')
    (folder / "main.py").write_text(code)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Commands keep their temporary files in a folder that is empty again afterwards, and show no traceback of ours."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    for name in [one for one in os.environ if one.startswith("HUB_LITE")]:
        monkeypatch.delenv(name)
    yield temporary
    assert list(temporary.iterdir()) == []


@pytest.fixture
def shout(tmp_path: Path) -> Path:
    return write_sequence(tmp_path / "shout", SHOUT)


def said(result: subprocess.CompletedProcess[bytes]) -> str:
    """Return what a command said on stderr; it is never a traceback through the hub's code."""
    text = result.stderr.decode()
    assert "/hub_lite/" not in text, text
    return text


# --- help and typing errors -------------------------------------------------------------------------------------------


def test_help_names_every_command_and_each_has_help_of_its_own():
    overview = hub_lite("--help")
    assert (overview.returncode, overview.stderr) == (0, b"")
    commands = re.findall(r"^  ([a-z]+)  ", overview.stdout.decode().partition("Commands:")[2], re.MULTILINE)
    assert {"config", "ps", "run", "start"} <= set(commands)
    assert "..." not in overview.stdout.decode().partition("Commands:")[2], "no sentence is cut off"
    for command in commands:
        for option in ("--help", "-h"):
            shown = CliRunner().invoke(main, [command, option], prog_name="hub-lite")
            assert (shown.exit_code, shown.stderr) == (0, "")
            assert shown.stdout.startswith(f"Usage: hub-lite {command} [OPTIONS]")


def test_help_is_shown_at_once():
    """What takes a second to import, the hub and its client, is imported where it is needed."""
    heavy = ("aiohttp", "hub_lite.app", "hub_lite.client", "sequence_sdk.pack", "uvloop", "yaml")
    program = "import sys, hub_lite.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.split()
    assert [name for name in heavy if name.encode() in loaded] == []


def test_the_version_is_told():
    from importlib.metadata import version

    shown = hub_lite("--version")
    assert (shown.returncode, shown.stdout.decode()) == (0, f"hub-lite, version {version('hub-lite')}\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["rnu"], "No such command 'rnu'"),
        (["start", "--prot", "1"], "--port"),
        (
            ["start", "--port", "eighty"],
            "'--port': must be a port, a whole number from 0 to 65535, not 'eighty'",
        ),
        (["start", "--port", "70000"], "'--port': must be a port, a whole number from 0 to 65535, not 70000"),
        (["start", "extra"], "unexpected extra argument (extra)"),
        (["run"], "Missing argument 'TARGET'"),
        (["run", "no/such/folder"], "'no/such/folder' does not exist"),
    ],
    ids=str,
)
def test_a_typing_error_is_named_with_where_to_find_help(words: list[str], why: str):
    refused = hub_lite(*words)
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert why in said(refused)
    assert "--help' for help" in said(refused)


# --- start ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "hub.json",
            '{{"host": {{"id": "mine", "port": 0}}, "dataDir": "{data}", "timings": {{"startTimeout": 5000.5}}}}',
        ),
        ("hub.toml", 'dataDir = "{data}"\n[host]\nid = "mine"\nport = 0\n[timings]\nstartTimeout = 5000.5\n'),
        ("hub.yaml", "dataDir: {data}\nhost:\n  id: mine\n  port: 0\ntimings: {{startTimeout: 5000.5}}\n"),
        ("dotted.json", '{{"host.id": "mine", "host.port": 0, "dataDir": "{data}"}}'),
    ],
)
async def test_settings_come_from_a_file_in_json_toml_or_yaml(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text.format(data=tmp_path / "data"))
    with started("--config", tmp_path / name) as hub:
        assert hub.stdout is not None
        url = hub.stdout.readline().decode().split()[-1]
        assert (tmp_path / "data" / "sequences.sqlite3").exists()
        async with talking_to(url) as talk:
            sequence_id = await talk.upload("def run(context, input): pass\n")
            assert (await talk.get(f"/sequence/{sequence_id}"))["location"] == "mine"
        hub.send_signal(signal.SIGTERM)
        assert hub.wait(DEADLINE) == 0


def test_an_option_wins_over_the_file(tmp_path: Path):
    file = tmp_path / "hub.json"
    file.write_text('{"host": {"port": 1}, "dataDir": "/nowhere/at/all"}')
    with started("--config", file, "--port", "0", "--data-dir", tmp_path / "data") as hub:
        assert hub.stdout is not None
        assert hub.stdout.readline().startswith(b"hub-lite is ready at http://127.0.0.1:")


async def test_variables_win_over_the_file_and_options_over_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "hub.json"
    file.write_text('{"host": {"port": 1, "id": "file"}, "dataDir": "/nowhere/at/all"}')
    monkeypatch.setenv("HUB_LITE_CONFIG", str(file))
    monkeypatch.setenv("HUB_LITE_PORT", "2")
    monkeypatch.setenv("HUB_LITE_ID", "environment")
    with started("--port", "0", "-D", tmp_path / "data") as hub:
        assert hub.stdout is not None
        async with talking_to(hub.stdout.readline().decode().split()[-1]) as talk:
            sequence_id = await talk.upload("def run(context, input): pass\n")
            assert (await talk.get(f"/sequence/{sequence_id}"))["location"] == "environment"


def test_a_variable_that_nobody_knows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HUB_LITE_PROT", "8080")
    refused = hub_lite("start", "--data-dir", tmp_path / "data")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert said(refused) == (
        "hub-lite: environment: unknown variable 'HUB_LITE_PROT'; did you mean 'HUB_LITE_PORT'?\n"
    )


def test_an_option_of_transform_hub_that_makes_no_sense_here_is_explained():
    refused = hub_lite("start", "--cpm-url", "manager:1")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert said(refused).splitlines()[-1] == (
        "Error: --cpm-url: this hub stands alone and connects to no manager: leave it out"
    )


@pytest.mark.parametrize(
    ("option", "levels"),
    [("--debug", {b"INFO"}), ("--log-level=INFO", {b"INFO"}), ("--log-level=error", set())],
)
def test_the_hub_logs_what_it_is_told_to(tmp_path: Path, option: str, levels: set[bytes]):
    command = [*HUB_LITE, "start", "--port", "0", "-D", str(tmp_path / "data"), option]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as hub:
        assert hub.stdout is not None
        hub.stdout.readline()
        hub.send_signal(signal.SIGTERM)
        log = hub.communicate(timeout=DEADLINE)[1]
    assert {line.split()[1] for line in log.splitlines()} == levels, log


@contextlib.contextmanager
def started(*options: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    hub = subprocess.Popen(
        [*HUB_LITE, "start", *map(str, options)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with hub:
        try:
            yield hub
        finally:
            if hub.poll() is None:
                hub.send_signal(signal.SIGTERM)
                hub.wait(DEADLINE)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("missing.json", None, "No such file or directory"),
        ("broken.json", b'{"host": ', "is not JSON: Expecting value: line 1 column 10"),
        ("broken.toml", b"[host\n", "is not TOML"),
        ("latin.json", b'{"host": "\xe9"}', "utf-8"),
        ("array.json", b"[]", "must hold an object, not list"),
        ("typo.json", b'{"host": {"prot": 1}}', "unknown key 'host.prot'; did you mean 'host.port'?"),
        ("type.json", b'{"host": {"port": "8000"}}', "'host.port' must be"),
        ("bool.json", b'{"host": {"port": true}}', "'host.port' must be"),
        ("negative.json", b'{"timings": {"startTimeout": -1}}', "'timings.startTimeout' must be"),
        ("flat.json", b'{"host": 5}', "'host'"),
    ],
)
def test_a_settings_file_that_is_wrong_is_refused_with_its_name_and_the_key(
    tmp_path: Path, name: str, content: bytes | None, why: str
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refused = hub_lite("start", "--config", tmp_path / name, "--data-dir", tmp_path / "data")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert said(refused).startswith("hub-lite: ")
    assert name in said(refused)
    assert why in said(refused)
    assert len(said(refused).splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("hostname", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_hub_does_not_listen_to_strangers_unless_it_is_told_that_this_is_insecure(
    tmp_path: Path, hostname: str
):
    refused = hub_lite("start", "--hostname", hostname, "--port", "0", "--data-dir", tmp_path / "data")
    assert refused.returncode == 1
    assert f"hostname {hostname!r} is not a loopback address" in said(refused)
    assert "--insecure" in said(refused)
    assert not (tmp_path / "data").exists()


def test_a_hub_listens_to_all_with_insecure(tmp_path: Path):
    with started(
        "--hostname", "0.0.0.0", "--insecure", "--port", "0", "--data-dir", tmp_path / "data"
    ) as hub:
        assert hub.stdout is not None
        assert hub.stdout.readline().startswith(b"hub-lite is ready at http://0.0.0.0:")


def test_an_address_that_is_not_ours_is_refused(tmp_path: Path):
    refused = hub_lite(
        "start", "--hostname", "192.0.2.1", "--insecure", "--port", "0", "--data-dir", tmp_path / "data"
    )
    assert refused.returncode == 1
    assert said(refused) == "hub-lite: cannot listen on 192.0.2.1:0: Cannot assign requested address\n"


# --- run --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["a folder", "a package", "the folder we are in"])
def test_a_sequence_runs_between_stdin_and_stdout(shout: Path, tmp_path: Path, form: str):
    target: Path = Path()
    match form:
        case "a folder":
            target = shout
        case "a package":
            target = tmp_path / "shout.tar.gz"
            pack(shout, target)
    result = hub_lite("run", target, input=b"one\ntwo", cwd=shout)
    assert (result.returncode, result.stdout, said(result)) == (0, b"ONE\nTWO", "")


def test_the_input_may_be_a_file_or_standard_input_by_its_sign_or_a_pipe(shout: Path, tmp_path: Path):
    file = tmp_path / "lines.txt"
    file.write_bytes(b"from a file\n")
    assert hub_lite("run", shout, "--input", file, input=b"unused").stdout == b"FROM A FILE\n"
    assert hub_lite("run", shout, "--input", "-", input=b"from a pipe\n").stdout == b"FROM A PIPE\n"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["sh", "-c", 'echo "from a fifo" > "$0"', str(fifo)]):
        assert hub_lite("run", shout, "-i", fifo, "-t", "text/plain").stdout == b"FROM A FIFO\n"


@pytest.mark.parametrize(
    ("name", "options", "content", "output"),
    [
        ("a.ndjson", [], b'{"a":1}\n', b"dict {'a': 1}\n"),
        ("a.jsonl", [], b"[1]\n", b"list [1]\n"),
        ("a.txt", [], b"x\n", b"str 'x\\n'\n"),
        ("a.CSV", [], b"1,2\n", b"str '1,2\\n'\n"),
        ("a", [], b"x", b"str 'x'\n"),
        ("a.bin", [], b"\xff\x00", b"bytes b'\\xff\\x00'\n"),
        ("a.gz", [], b"\x1f\x8b", b"bytes b'\\x1f\\x8b'\n"),
        ("a.txt", ["-t", "application/x-ndjson"], b"5\n", b"int 5\n"),
        ("a.bin", ["--content-type", "text/plain"], b"x\n", b"str 'x\\n'\n"),
    ],
)
def test_the_content_type_comes_from_the_ending_of_the_file_or_from_the_option(
    tmp_path: Path, hub: HubProcess, name: str, options: list[str], content: bytes, output: bytes
):
    (tmp_path / name).write_bytes(content)
    folder = write_sequence(tmp_path / "types", TYPES)
    result = hub_lite("run", folder, "--hub", hub.url, "--input", tmp_path / name, *options)
    assert (result.returncode, result.stdout) == (0, output), said(result)


def test_arguments_and_configuration_reach_the_sequence(tmp_path: Path):
    folder = write_sequence(
        tmp_path / "seq",
        "import json\ndef run(context, input, *args):\n    return json.dumps([context.config, args])\n",
    )
    result = hub_lite("run", folder, "--args", '[1, "two", {"three": 3}]', "--config", '{"k": [null, "é"]}')
    assert result.stdout == b'[{"k": [null, "\\u00e9"]}, [1, "two", {"three": 3}]]'


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--args", "1, 2"], "is not JSON"),
        (["--args", '{"a": 1}'], 'must be a JSON array, such as [1, "two"]'),
        (["--config", "[1]"], 'must be a JSON object, such as {"key": 1}'),
        (["--config", "{key: 1}"], "is not JSON"),
        (["--input", "no-such-file"], "no-such-file: there is no such file"),
        (["--input", "."], ".: this is a folder"),
    ],
    ids=str,
)
def test_an_option_that_is_wrong_is_named_with_what_it_takes(shout: Path, options: list[str], why: str):
    refused = hub_lite("run", shout, *options)
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert options[0] in said(refused)
    assert why in said(refused)


@pytest.mark.parametrize(
    ("last_words", "status", "says"),
    [
        ("pass", 0, ""),
        ("sys.exit(0)", 0, ""),
        ("sys.exit(3)", 3, "hub-lite: Runner failed (exit code 3)\n"),
        ("raise ValueError('no wheel')", 23, "ValueError: no wheel"),
        ("yield 5", 23, "hub-lite: Sequence failed during execution: "),
        ("os.abort()", 134, "hub-lite: Runner was ended by SIGABRT (exit code 134)\n"),
    ],
)
def test_the_exit_status_is_that_of_the_sequence_and_all_it_gave_came_before(
    tmp_path: Path, hub: HubProcess, last_words: str, status: int, says: str
):
    folder = write_sequence(
        tmp_path / "seq",
        f"import os, sys\nasync def run(context, input):\n    yield 'before\\n'\n    await anext(input)\n    {last_words}\n",
    )
    result = hub_lite("run", folder, "--hub", hub.url, input=b"x\n")
    assert (result.returncode, result.stdout) == (status, b"before\n")
    assert says in said(result)


def test_a_sequence_that_does_not_start_shows_its_traceback_and_ends_with_its_code(tmp_path: Path):
    result = hub_lite("run", write_sequence(tmp_path / "seq", "import nowhere_at_all\n"))
    assert (result.returncode, result.stdout) == (22, b"")
    lines = said(result).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith('main.py", line 1, in <module>')
    assert lines[-3] == "ModuleNotFoundError: No module named 'nowhere_at_all'"
    assert lines[-2].startswith("hint: the package brings no module 'nowhere_at_all': `pip install --target")
    assert lines[-1:] == [
        "hub-lite: Sequence failed on start: ModuleNotFoundError: No module named 'nowhere_at_all' (exit code 22)",
    ]


def test_a_syntax_error_in_a_folder_is_told_before_anything_starts(tmp_path: Path):
    folder = write_sequence(tmp_path / "seq", "def run(context, input)\n")
    result = hub_lite("run", folder)
    assert (result.returncode, result.stdout) == (1, b"")
    assert said(result).startswith(f"hub-lite: {folder / 'main.py'}:1:24: expected ':'\n")


def test_prints_errors_and_log_records_go_to_stderr(tmp_path: Path):
    folder = write_sequence(
        tmp_path / "seq",
        """
import os, sys
def run(context, input):
    print("a print")
    print("an error", file=sys.stderr)
    os.system("echo a child")
    context.logger.debug("a detail")
    context.logger.info("half %s", "full")
    context.logger.warning("careful", {"a": 1})
    yield "the output"
""",
    )
    result = hub_lite("run", folder)
    assert (result.returncode, result.stdout) == (0, b"the output")
    lines = said(result).splitlines()
    assert {"a print", "an error", "a child", "INFO half full"} <= set(lines)
    assert "WARN careful" in said(result)
    assert "a detail" not in said(result)
    assert "a detail" in said(hub_lite("run", folder, "-v"))


def test_a_sequence_that_needs_no_input_ends_though_stdin_never_does(tmp_path: Path):
    folder = write_sequence(tmp_path / "seq", "def run(context, input):\n    yield 'done'\n")
    reader, writer = os.pipe()
    try:
        result = hub_lite("run", folder, input=None, stdin=reader)
        assert (result.returncode, result.stdout) == (0, b"done")
    finally:
        os.close(reader)
        os.close(writer)


def test_a_sequence_that_ends_early_leaves_the_rest_of_its_input(tmp_path: Path):
    folder = write_sequence(
        tmp_path / "seq", "async def run(context, input):\n    yield await anext(input)\n"
    )
    result = hub_lite("run", folder, input=b"line\n" * 2_000_000)
    assert (result.returncode, result.stdout, said(result)) == (0, b"line\n", "")


ENDLESS = """
from pathlib import Path
async def run(context, input, asked=""):
    context.set_stop_handler(lambda *_: Path(asked).touch())
    while True:
        yield "line\\n" * 1000
"""


def test_a_pipeline_whose_head_has_enough_ends_quietly(tmp_path: Path, nothing_is_left: Path):
    folder = write_sequence(tmp_path / "seq", ENDLESS)
    with running("run", folder) as command:
        assert command.stdout is not None
        assert command.stdout.read(5) == b"line\n"
        command.stdout.close()
        assert command.wait(DEADLINE) == 128 + signal.SIGPIPE
        assert command.stderr is not None
        assert command.stderr.read() == b""


def test_an_output_that_cannot_be_written_is_told(tmp_path: Path):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    folder = write_sequence(tmp_path / "seq", ENDLESS)
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [*HUB_LITE, "run", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=DEADLINE,
        )
    assert (result.returncode, said(result)) == (1, "hub-lite: standard output: No space left on device\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed_do_no_harm(shout: Path, tmp_path: Path, closed: str):
    script = f'printf "x\\n" | "$@" {closed}'
    result = subprocess.run(
        ["sh", "-c", script, "sh", *HUB_LITE, "run", str(shout)],
        capture_output=True,
        check=False,
        timeout=DEADLINE,
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == (b"X\n" if closed == "2>&-" else b"")


@contextlib.contextmanager
def running(*words: str | Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs inside the block, its streams in pipes."""
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen([*HUB_LITE, *map(str, words)], bufsize=0, **options) as command:
        try:
            yield command
        finally:
            command.kill()


POLITE = """
import asyncio
from pathlib import Path
async def run(context, input, word, seconds=0):
    async def stop(timeout, can_keep_alive):
        Path(word + ".asked").touch()
        await asyncio.sleep(seconds)
        Path(word).write_text("stopped")
    context.set_stop_handler(stop)
    async for line in input:
        yield line
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_sequence_politely(tmp_path: Path, number: int):
    folder = write_sequence(tmp_path / "seq", POLITE)
    word = tmp_path / "word"
    with running("run", folder, "--args", f'["{word}"]') as command:
        begun(command)
        command.send_signal(number)
        assert command.wait(DEADLINE) == 128 + number
        assert word.read_text() == "stopped"
        assert command.stderr is not None
        assert command.stderr.read() == b""


def begun(command: subprocess.Popen[bytes]) -> None:
    """Wait until the Sequence has answered a line: it runs."""
    assert command.stdin is not None
    assert command.stdout is not None
    command.stdin.write(b"hello\n")
    assert command.stdout.read(6) == b"hello\n"


def test_a_second_ctrl_c_kills(tmp_path: Path):
    folder = write_sequence(tmp_path / "seq", POLITE)
    word = tmp_path / "word"
    with running("run", folder, "--args", f'["{word}", 600]') as command:
        begun(command)
        command.send_signal(signal.SIGINT)
        wait_for(Path(f"{word}.asked").exists)
        command.send_signal(signal.SIGINT)
        assert command.wait(DEADLINE) == 128 + signal.SIGINT
        assert not word.exists()


def test_a_second_ctrl_c_ends_it_though_nobody_reads_the_output(tmp_path: Path):
    folder, asked = write_sequence(tmp_path / "seq", ENDLESS), tmp_path / "asked"
    with running("run", folder, "--args", f'["{asked}"]') as command:
        assert command.stdout is not None
        assert command.stdout.read(5) == b"line\n"
        wait_for(lambda: pipe_is_full(command))
        command.send_signal(signal.SIGINT)
        wait_for(asked.exists)  # two signals at the same moment are one
        command.send_signal(signal.SIGINT)
        assert command.wait(DEADLINE) == 128 + signal.SIGINT


def pipe_is_full(command: subprocess.Popen[bytes]) -> bool:
    import array
    import fcntl

    assert command.stdout is not None
    waiting = array.array("i", [0])
    fcntl.ioctl(command.stdout, termios.FIONREAD, waiting)
    return waiting[0] > 32 * 1024  # of 64 KiB; the kernel counts in pages, which need not be full


def wait_for(condition: Any) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.01)


def test_a_signal_while_the_sequence_loads_ends_it_too(tmp_path: Path):
    loading = tmp_path / "loading"
    folder = write_sequence(
        tmp_path / "seq", f"import time\nopen({str(loading)!r}, 'w').close()\ntime.sleep(600)\n"
    )
    with running("run", folder) as command:
        wait_for(loading.exists)
        command.send_signal(signal.SIGTERM)
        assert command.wait(DEADLINE) == 128 + signal.SIGTERM
        assert command.stderr is not None
        assert command.stderr.read() == b""


# --- run on a hub that is there ---------------------------------------------------------------------------------------


async def test_a_running_hub_is_used_and_left_as_it_was(hub: HubProcess, shout: Path):
    for options in (["--hub", hub.url], ["--hub", hub.url + "/"], ["--hub", hub.url.removesuffix("/api/v1")]):
        result = hub_lite("run", shout, *options, input=b"x\n")
        assert (result.returncode, result.stdout, said(result)) == (0, b"X\n", "")
    async with talking_to(hub.url) as talk:
        assert await talk.get("/sequences") == []
        assert await talk.get("/instances") == [] or all(
            "ended" in instance for instance in await talk.get("/instances")
        )


async def test_the_variable_names_the_hub_and_keep_leaves_the_sequence_there(
    hub: HubProcess, shout: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HUB_LITE_URL", hub.url)
    assert hub_lite("run", shout, "--keep", input=b"x\n").stdout == b"X\n"
    async with talking_to(hub.url) as talk:
        (kept,) = await talk.get("/sequences")
        instance = await talk.client.start(kept["id"])
        await talk.send(instance, b"again\n")
        assert await talk.read(instance) == b"AGAIN\n"
        await talk.client.delete_sequence(kept["id"], force=True)


async def test_an_interrupted_run_leaves_nothing_on_the_hub(hub: HubProcess, tmp_path: Path):
    folder = write_sequence(tmp_path / "seq", POLITE)
    with running("run", folder, "--hub", hub.url, "--args", f'["{tmp_path / "word"}"]') as command:
        begun(command)
        (runner,) = hub.children()
        command.send_signal(signal.SIGINT)
        assert command.wait(DEADLINE) == 130
    async with talking_to(hub.url) as talk:
        assert await talk.get("/sequences") == []
    await eventually(lambda: not lives(runner))


def test_a_hub_that_goes_away_meanwhile_is_told(tmp_path: Path):
    folder = write_sequence(tmp_path / "seq", SHOUT)
    with running_hub(tmp_path) as mortal, running("run", folder, "--hub", mortal.url) as command:
        assert command.stdin is not None
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdin.write(b"x\n")
        assert command.stdout.read(2) == b"X\n"
        mortal.end(signal.SIGKILL)
        assert command.wait(DEADLINE) == 1
        assert command.stderr.read().startswith(f"hub-lite: no hub answers at {mortal.url} (".encode())


def test_a_content_type_that_nobody_reads_is_told(hub: HubProcess, shout: Path):
    result = hub_lite("run", shout, "--hub", hub.url, "-t", "image/png", input=b"x")
    assert (result.returncode, result.stdout) == (1, b"")
    assert said(result).startswith("hub-lite: content type 'image/png' is not supported: use text/plain")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (
            "http://127.0.0.1:9",
            "no hub answers at http://127.0.0.1:9/api/v1 (Connection refused); start one with `hub-lite start`",
        ),
        ("http://hub.invalid:8000", "no hub answers at http://hub.invalid:8000/api/v1 ("),
        ("nonsense", "no hub answers at nonsense/api/v1 (this is no URL)"),
    ],
)
def test_a_hub_that_does_not_answer_is_told_with_its_url(shout: Path, url: str, why: str):
    result = hub_lite("run", shout, "--hub", url)
    assert (result.returncode, result.stdout) == (1, b"")
    assert said(result).startswith(f"hub-lite: {why}")
    assert len(said(result).splitlines()) == 1


def test_a_target_that_is_no_sequence_is_told(tmp_path: Path):
    file = tmp_path / "notes.txt"
    file.write_text("no package")
    result = hub_lite("run", file)
    assert (result.returncode, said(result)) == (
        1,
        "hub-lite: Invalid pkg tar.gz archive: it is not gzip-compressed\n",
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    result = hub_lite("run", empty)
    assert result.returncode == 1
    assert said(result).startswith(f"hub-lite: {empty}/package.json not found; ")


# --- on a terminal ----------------------------------------------------------------------------------------------------


class Terminal:
    """A command on a terminal of its own, where what it shows can be read and keys can be pressed."""

    def __init__(self, *words: str | Path) -> None:
        self._screen, keyboard = pty.openpty()
        self.shown = b""
        login = "import os, sys; os.login_tty(os.dup(0)); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        self.command = subprocess.Popen(
            [sys.executable, "-c", login, *HUB_LITE[1:], *map(str, words)],
            stdin=keyboard,
            stdout=keyboard,
            stderr=keyboard,
        )
        os.close(keyboard)

    def press(self, keys: bytes) -> None:
        os.write(self._screen, keys)

    def read_until(self, words: bytes | None) -> None:
        """Read what is shown until there are these words; None: until the terminal is closed."""
        end = time.monotonic() + DEADLINE
        while words is None or words not in self.shown:
            ready, _, _ = select.select([self._screen], [], [], max(0, end - time.monotonic()))
            assert ready, self.shown
            try:
                chunk = os.read(self._screen, 65536)
            except OSError:  # what Linux says where others have an end
                chunk = b""
            if not chunk:
                assert words is None, self.shown
                return
            self.shown += chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.command.kill()
        self.command.wait(DEADLINE)
        os.close(self._screen)


def test_an_upload_of_more_than_a_megabyte_shows_how_far_it_is(hub: HubProcess, tmp_path: Path):
    folder = write_sequence(tmp_path / "seq", SHOUT)
    (folder / "noise").write_bytes(os.urandom(3_000_000))
    with Terminal("run", folder, "--hub", hub.url) as terminal:
        terminal.read_until(b"Ctrl-D ends it")
        assert re.search(rb"\ruploading seq.tar.gz: \d+ % of 3.0 MB", terminal.shown)
        assert b"\ruploading seq.tar.gz: 100 % of 3.0 MB" in terminal.shown
        assert b"\r\x1b[K" in terminal.shown, "it is wiped away"
        terminal.press(b"\x04")
        assert terminal.command.wait(DEADLINE) == 0


def test_a_small_upload_shows_nothing(hub: HubProcess, shout: Path):
    with Terminal("run", shout, "--hub", hub.url) as terminal:
        terminal.read_until(b"Ctrl-D ends it")
        assert b"uploading" not in terminal.shown
        terminal.press(b"\x04")
        assert terminal.command.wait(DEADLINE) == 0


def test_what_is_typed_is_the_input_and_ctrl_d_ends_it(hub: HubProcess, shout: Path):
    with Terminal("run", shout, "--hub", hub.url) as terminal:
        terminal.read_until(b"hub-lite: what you type is the input; Ctrl-D ends it\r\n")
        terminal.press(b"hello\n")
        terminal.read_until(b"HELLO\r\n")
        terminal.press(b"\x04")
        terminal.read_until(None)
        assert terminal.command.wait(DEADLINE) == 0


def test_ctrl_c_on_a_terminal_stops_the_sequence_and_its_handlers_run(tmp_path: Path):
    folder = write_sequence(tmp_path / "seq", POLITE)
    word = tmp_path / "word"
    with Terminal("run", folder, "--args", f'["{word}"]') as terminal:
        terminal.read_until(b"Ctrl-D ends it\r\n")
        terminal.press(b"hello\n")
        terminal.read_until(b"hello\r\nhello\r\n")  # once as it is typed, once as it comes back
        terminal.press(b"\x03")
        terminal.read_until(None)
        assert terminal.command.wait(DEADLINE) == 130
        assert word.read_text() == "stopped"
        assert b"Traceback" not in terminal.shown


def test_ctrl_c_ends_a_hub_on_a_terminal(tmp_path: Path):
    with Terminal("start", "--port", "0", "--data-dir", tmp_path / "data") as terminal:
        terminal.read_until(b"hub-lite is ready at http://127.0.0.1:")
        terminal.press(b"\x03")
        terminal.read_until(None)
        assert terminal.command.wait(DEADLINE) == 0
        assert b"Traceback" not in terminal.shown
