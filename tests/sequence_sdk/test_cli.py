"""The command ``scramjet-pack``: what it prints where, and how it exits."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sequence_sdk.cli import main
from sequence_sdk.pack import pack

COMMAND = [sys.executable, "-c", "from sequence_sdk.cli import main; main()"]


@pytest.fixture
def demo(tmp_path) -> Path:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "package.json").write_text('{"main": "main.py", "engines": {"python3": ">=3.11"}}')
    (folder / "main.py").write_text("def run(context, input): ...\n")
    return folder


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="scramjet-pack")


def test_the_path_goes_to_stdout_and_one_line_of_facts_to_stderr(demo):
    (demo / "x.pyc").touch()
    ran = run(demo)
    archive = demo.with_name("demo.tar.gz")
    facts = pack(demo)
    assert ran.exit_code == 0
    assert ran.stdout == f"{archive}\n"
    assert ran.stderr == (
        f"{archive}: 2 files and .sequence, 1 left out, {facts.unpacked_bytes} bytes packed into {facts.packed_bytes} bytes, "
        f"sha256 {facts.sha256}\n"
    )


def test_quiet_says_only_the_path(demo):
    ran = run("-q", demo, "-o", demo / "x.tgz")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, f"{demo}/x.tgz\n", "")
    assert (demo / "x.tgz").exists()


def test_large_sizes_are_in_larger_units(demo):
    with (demo / "large").open("wb") as large:
        large.truncate(3 * 1024 * 1024)
    assert ", 3.0 MiB packed into 3." in run(demo).stderr


def test_the_version_is_that_of_the_distribution():
    ran = run("--version")
    assert ran.exit_code == 0
    assert ran.stdout.startswith("scramjet-pack, version ")


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--nothing"], ["a", "-o"]])
def test_a_wrong_usage_exits_with_2(arguments):
    ran = run(*arguments)
    assert ran.exit_code == 2
    assert "Error: " in ran.stderr


def test_a_folder_that_cannot_be_packed_is_a_sentence_and_exits_with_1(demo):
    ran = run(demo / "gone")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert (
        ran.stderr == f"scramjet-pack: {demo}/gone not found; name the folder that holds the package.json\n"
    )


def test_a_source_that_does_not_compile_is_shown(demo):
    (demo / "main.py").write_text("def run(:\n")
    ran = run(demo)
    assert ran.exit_code == 1
    assert ran.stderr == f"scramjet-pack: {demo}/main.py:1:9: invalid syntax\n    def run(:\n"
    assert listing(demo.parent) == ["demo"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_a_sentence(demo):
    ran = run(demo, "-o", "/dev/full")
    assert ran.exit_code == 1
    assert ran.stderr.startswith(
        "scramjet-pack: the archive cannot be written to /dev/full: No space left on device;"
    )
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run([*COMMAND, demo], stdout=full, stderr=subprocess.PIPE, check=False)
    assert ran.returncode == 1
    assert b"standard output cannot be written: No space left on device\n" in ran.stderr
    assert b"Traceback" not in ran.stderr


def test_a_dash_writes_the_archive_to_stdout_and_nothing_else(demo):
    ran = subprocess.run([*COMMAND, demo, "-o", "-"], capture_output=True, check=True)
    assert ran.stdout == pack(demo).path.read_bytes()
    assert ran.stderr.startswith(b"standard output: 2 files and .sequence, ")
    listed = subprocess.run(["tar", "tzf", "-"], input=ran.stdout, capture_output=True, check=True)
    assert listed.stdout == b".sequence/sbom.cdx.json\nmain.py\npackage.json\n.sequence/SHA256SUMS\n"


def test_a_device_that_is_stdout_gets_the_archive_without_the_path_behind_it(demo):
    ran = subprocess.run([*COMMAND, demo, "-o", "/dev/stdout"], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(ran.stdout)) as tar:
        assert tar.getnames() == [
            ".sequence/sbom.cdx.json",
            "main.py",
            "package.json",
            ".sequence/SHA256SUMS",
        ]
    assert ran.stdout == pack(demo).path.read_bytes()


def test_an_archive_redirected_into_the_folder_does_not_pack_itself(demo):
    expected = pack(demo).path.read_bytes()
    with (demo / "x.tgz").open("wb") as stdout:
        subprocess.run([*COMMAND, "-q", demo, "-o", "-"], stdout=stdout, check=True)
    assert (demo / "x.tgz").read_bytes() == expected


def test_a_terminal_gets_no_archive(demo):
    ours, theirs = pty.openpty()
    try:
        ran = subprocess.run([*COMMAND, demo, "-o", "-"], stdout=theirs, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(ours)
        os.close(theirs)
    assert ran.returncode == 2
    assert b"no text for a terminal" in ran.stderr


def test_a_reader_that_goes_away_is_a_sentence(demo):
    (demo / "noise").write_bytes(os.urandom(1_000_000))
    with subprocess.Popen(
        [*COMMAND, demo, "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(1)
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert errors == b"scramjet-pack: the archive cannot be written to the stream: Broken pipe\n"


def test_ctrl_c_exits_with_130_although_nobody_reads(demo):
    (demo / "noise").write_bytes(os.urandom(1_000_000))
    with subprocess.Popen(
        [*COMMAND, demo, "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(1)  # it packs now, and waits for more to be read
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stderr.read() == b"scramjet-pack: interrupted\n"


def test_ctrl_c_leaves_no_file(demo):
    with (demo / "large").open("wb") as large:
        large.truncate(8 * 1024**3)  # holes only, but long enough to be interrupted
    place = demo.parent / "out"
    place.mkdir()
    with subprocess.Popen([*COMMAND, demo, "-o", place / "x.tgz"], stderr=subprocess.PIPE) as process:
        while not listing(place):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"scramjet-pack: interrupted\n"
    assert process.returncode == 130
    assert listing(place) == []
    (demo / "large").unlink()


def test_a_path_that_is_not_utf8_is_printed_as_it_is(demo):
    try:
        folder = demo.rename(os.fsdecode(os.fsencode(demo) + b"\xe9"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    ran = subprocess.run([*COMMAND, folder], capture_output=True, check=True)
    assert ran.stdout == os.fsencode(folder) + b".tar.gz\n"
    assert b"demo\\xe9.tar.gz: 2 files and .sequence" in ran.stderr


# What a process of its own shows above, in this one: descriptor 1 is exchanged while the command runs.


@contextmanager
def stdout_is(descriptor: int | None):
    """Put a descriptor, or none at all, in the place of standard output."""
    saved = os.dup(1)
    try:
        if descriptor is None:
            os.close(1)
        else:
            os.dup2(descriptor, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def test_an_archive_on_stdout_is_not_followed_by_a_path(demo, tmp_path):
    with (tmp_path / "taken").open("wb") as taken, stdout_is(taken.fileno()):
        ran = run(demo, "-o", "-")
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert ran.stderr.startswith("standard output: 2 files and .sequence, ")
    assert (tmp_path / "taken").read_bytes() == pack(demo).path.read_bytes()


def test_a_standard_output_that_is_closed_is_a_sentence(demo):
    with stdout_is(None):
        ran = run(demo, "-o", "-")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr == "scramjet-pack: standard output cannot be written: Bad file descriptor\n"


def test_a_terminal_is_told_to_redirect(demo):
    ours, theirs = pty.openpty()
    try:
        with stdout_is(theirs):
            ran = run(demo, "-o", "-")
    finally:
        os.close(ours)
        os.close(theirs)
    assert ran.exit_code == 2
    assert "redirect standard output, or name a file with -o" in " ".join(ran.stderr.split())


def test_an_interrupt_while_packing_exits_with_130(demo, monkeypatch):
    def interrupted(*_places: object, **_options: object):
        raise KeyboardInterrupt

    monkeypatch.setattr("sequence_sdk.cli.pack", interrupted)
    ran = run(demo)
    assert (ran.exit_code, ran.stdout, ran.stderr) == (130, "", "scramjet-pack: interrupted\n")


def test_the_largest_unit_is_the_gibibyte(demo, monkeypatch):
    facts = replace(pack(demo), unpacked_bytes=5000 * 1024**3, packed_bytes=3 * 1024**3 // 2, files=("a",))
    monkeypatch.setattr("sequence_sdk.cli.pack", lambda *_places, **_options: facts)
    assert ": 1 file and .sequence, 5000.0 GiB packed into 1.5 GiB, sha256 " in run(demo).stderr


def test_what_keeps_a_sequence_from_being_described_is_one_line_more(demo):
    (demo / "main.py").write_text("import sequence_sdk, gone_from_here\n")
    ran = run(demo)
    assert ran.exit_code == 0
    assert ran.stderr.endswith("\nno schema: ModuleNotFoundError: No module named 'gone_from_here'\n")
    assert run("-q", demo).stderr == ""
    assert len(run("--no-schema", demo).stderr.splitlines()) == 1


def test_explain_tells_every_file_with_its_size_and_rule(demo):
    (demo / ".siignore").write_text("*.log")
    (demo / "a.log").touch()
    (demo / "empty").mkdir()
    ran = run("--explain", demo)
    assert ran.stdout == f"{demo}.tar.gz\n"
    *lines, summary = ran.stderr.splitlines()
    size = lines[0].split()[1]
    assert lines == [
        f"+ {size}  .sequence/sbom.cdx.json  being the bill of materials",
        "+   5  .siignore                being in the folder",
        "+   0  empty/                   being in the folder",
        "+  29  main.py                  being what is started",
        "+  53  package.json             being the manifest",
        "-      a.log                    .siignore line 1 (*.log)",
    ]
    assert summary.startswith(f"{demo}.tar.gz: 3 files and .sequence, 1 left out, ")
    assert run("-q", "--explain", demo).stderr == ""


def test_json_is_one_object_for_machines(demo):
    (demo / "x.pyc").touch()
    (demo / "a").touch()
    (demo / "A").touch()
    (demo / "main.py").write_text("import sequence_sdk, gone_from_here\n")
    ran = run("--json", demo)
    facts = pack(demo)
    assert (ran.exit_code, ran.stderr) == (0, "")
    told = json.loads(ran.stdout)
    added = [told["files"].pop(0) for _ in range(3)]
    assert [one["rule"] for one in added] == [
        "being for the original Python runner",
        "being the bill of materials",
        "being for the original Python runner",
    ]
    assert told == {
        "path": f"{demo}.tar.gz",
        "sha256": facts.sha256,
        "bytes": {"packed": facts.packed_bytes, "unpacked": facts.unpacked_bytes},
        "manifest": {"entrypointPath": "main.py", "language": "py", "engines": {"python3": ">=3.11"}},
        "files": [
            {"name": "A", "size": 0, "rule": "being in the folder"},
            {"name": "a", "size": 0, "rule": "being in the folder"},
            {"name": "main.py", "size": 36, "rule": "being what is started"},
            {"name": "package.json", "size": told["files"][-1]["size"], "rule": "being the manifest"},
        ],
        "left_out": [{"name": "x.pyc", "rule": "the default rule *.pyc"}],
        "errors": [],
        "warnings": [
            "A and a are one name on some machines; rename one of them",
            "no schema: ModuleNotFoundError: No module named 'gone_from_here'",
        ],
    }


def test_json_of_what_cannot_be_packed_has_its_errors(demo):
    ran = run("--json", demo / "gone")
    told = json.loads(ran.stdout)
    assert (ran.exit_code, ran.stderr) == (1, "")
    assert told["errors"] == [f"{demo}/gone not found; name the folder that holds the package.json"]
    assert (told["path"], told["sha256"], told["manifest"], told["files"]) == (None, None, None, [])


def test_json_and_the_package_do_not_share_stdout(demo):
    ran = run("--json", "-o", "-", demo)
    assert ran.exit_code == 2
    assert "--json and the package cannot both" in ran.stderr


def test_check_says_that_nothing_is_wrong_and_writes_nothing(demo):
    ran = run("--check", "--explain", demo)
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert ran.stderr.splitlines() == [
        "+ 29  main.py       being what is started",
        "+ 53  package.json  being the manifest",
        f"{demo}: nothing is wrong; 2 files, 82 bytes",
    ]
    assert listing(demo.parent) == ["demo"]


def test_check_tells_all_that_is_wrong_and_exits_with_1(demo):
    (demo / "main.py").write_text("x = 1\n")
    (demo / "key.pem").write_text("-----BEGIN " + "PRIVATE KEY-----\n")
    with (demo / "large").open("wb") as large:
        large.truncate(11 * 1024 * 1024)
    ran = run("--check", demo)
    assert (ran.exit_code, ran.stdout) == (1, "")
    problem, secret, warning = ran.stderr.splitlines()
    assert problem == "scramjet-pack: no function is marked @sequence"
    assert secret.startswith("scramjet-pack: key.pem:1: looks like a private key; ")
    assert warning.startswith("warning: large has 11534336 bytes; ")
    assert len(run("--check", "-q", "--allow-secrets", demo).stderr.splitlines()) == 1


def test_check_with_json_is_one_object(demo):
    ran = run("--check", "--json", demo)
    told = json.loads(ran.stdout)
    assert (ran.exit_code, told["errors"], told["warnings"]) == (0, [], [])
    assert told["bytes"] == {"packed": None, "unpacked": 82}
    assert [file["name"] for file in told["files"]] == ["main.py", "package.json"]
    (demo / "main.py").write_text("x = 1\n")
    ran = run("--check", "--json", demo)
    assert (ran.exit_code, json.loads(ran.stdout)["errors"]) == (1, ["no function is marked @sequence"])


def test_a_single_file_is_packed_and_what_it_needs_is_told(demo):
    path = demo / "loud.py"
    path.write_text("# /// script\n# dependencies = ['numpy']\n# ///\ndef run(context, input): ...\n")
    ran = run("--no-deps", path)
    assert (ran.exit_code, ran.stdout) == (0, f"{demo}/loud.tar.gz\n")
    summary, warning = ran.stderr.splitlines()
    assert summary.startswith(f"{demo}/loud.tar.gz: 2 files and .sequence, ")
    assert warning == "warning: what loud.py names is not in the package; the Python of the hub must have it"
