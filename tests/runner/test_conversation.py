"""What a runner and a hub say to each other, byte for byte where docs/protocol.md fixes it."""

import json
import os
import socket
import time
from pathlib import Path

import pytest

from .conftest import Write
from .fake_hub import INSTANCE_ID, LOG, MONITORING, OUT, PANG, PING, STDERR, STDOUT, FakeHub

NOTHING = "def run(context, input): pass"
ECHO_START = """
    import json
    def run(context, input, *args):
        return json.dumps([context.config, args, context.instance_id])
"""


def test_nine_links_each_open_with_the_id_and_a_digit(tcp_hub: FakeHub, write: Write) -> None:
    tcp_hub.start(write(NOTHING))
    assert sorted(tcp_hub.hellos) == [f"{INSTANCE_ID}{digit}".encode() for digit in range(9)]
    assert tcp_hub.wait() == 0


def test_all_hellos_are_sent_before_the_hub_says_anything(hub: FakeHub, write: Write) -> None:
    hub.launch(write(NOTHING))
    hub.accept()
    assert hub.links[OUT].quiet()
    assert hub.links[LOG].quiet()


def test_the_ping_says_all_that_is_known(tcp_hub: FakeHub, write: Write) -> None:
    before = int(time.time() * 1000)
    request = {"appConfig": {"k": 1}, "args": ["x", 2], "outputTopic": "t"}
    tcp_hub.start(write(NOTHING), RUNNER_CONNECT_INFO=json.dumps(request))
    line = tcp_hub.monitoring_lines[0]
    created = tcp_hub.messages[0][1]["created"]
    assert before <= created <= int(time.time() * 1000)
    assert isinstance(created, int)
    assert tcp_hub.process is not None
    assert (
        line
        == (
            f'[3000,{{"id":"{INSTANCE_ID}","sequenceInfo":{{"id":"a-sequence","config":{{"name":"x"}}}},'
            f'"created":{created},"payload":{{"appConfig":{{"k":1}},"args":["x",2],"outputTopic":"t",'
            f'"system":{{"processPID":"{tcp_hub.process.pid}","reload":true}}}},"status":"starting","inputHeadersSent":false}}]\r\n'
        ).encode()
    )


def test_the_whole_conversation_of_a_simple_sequence(hub: FakeHub, write: Write) -> None:
    hub.start(
        write("async def run(context, input):\n    async for line in input:\n        yield line.upper()")
    )
    hub.input("text/plain", b"a\nb\n")
    assert hub.output() == b"A\nB\n"
    assert hub.wait() == 0
    hub.last_messages()
    assert hub.monitoring_lines[1:] == [
        b'[3001,{"healthy":true}]\r\n',
        b'[3012,{"requires":"","contentType":""}]\r\n',
        b'[3012,{"provides":"","contentType":"text/plain"}]\r\n',
        b'[3001,{"healthy":true,"metrics":{"items":{"in":2,"out":2,"skipped":0,"quarantined":0}}}]\r\n',
    ]
    assert hub.stdout() == ""
    assert hub.stderr() == ""
    assert hub.log() == []
    assert hub.crash_log() == ""


def test_a_natural_end_is_an_exit_at_once_without_a_message(hub: FakeHub, write: Write) -> None:
    hub.start(write("def run(context, input): return 'x'"))
    assert hub.wait() == 0
    assert [code for code, _ in hub.last_messages()] == [PING, PANG, PANG]


def test_the_author_is_not_loaded_before_the_pong(hub: FakeHub, write: Write) -> None:
    hub.launch(write("print('loaded')\n" + NOTHING))
    hub.accept()
    assert hub.message()[0] == PING
    assert hub.links[STDOUT].quiet(0.05)
    assert hub.links[MONITORING].quiet()
    hub.say(4000)
    assert hub.stdout() == "loaded\n"


def test_configuration_and_arguments_are_those_of_the_pong(hub: FakeHub, write: Write) -> None:
    entry = write(ECHO_START)
    hub.start(
        entry, {"k": [1]}, ["a", {"b": None}, 0], RUNNER_CONNECT_INFO='{"appConfig":{"z":1},"args":[9]}'
    )
    assert json.loads(hub.output()) == [{"k": [1]}, ["a", {"b": None}, 0], INSTANCE_ID]


@pytest.mark.parametrize("pong", ["[4000,{}]\n", "[4000,null]\r\n", '\n\r\n[4000,{"appConfig":null}]\n'])
def test_what_the_pong_leaves_out_comes_from_the_environment(hub: FakeHub, write: Write, pong: str) -> None:
    hub.launch(write(ECHO_START), RUNNER_CONNECT_INFO='{"appConfig":{"z":1},"args":[9]}')
    hub.accept()
    hub.message()
    hub.links[3].send(pong.encode())
    assert json.loads(hub.output())[:2] == [{"z": 1}, [9]]


def test_a_start_without_configuration_and_arguments_has_empty_ones(hub: FakeHub, write: Write) -> None:
    hub.launch(write(ECHO_START), RUNNER_CONNECT_INFO="", SEQUENCE_INFO="")
    hub.accept()
    assert hub.message()[1]["sequenceInfo"] == {}
    hub.say(4000)
    assert json.loads(hub.output())[:2] == [{}, []]


def test_arguments_that_do_not_fit_are_the_authors_error(hub: FakeHub, write: Write) -> None:
    hub.start(write("async def run(context, input, one): yield one"), args=[1, 2])
    error, hint, end = hub.stderr().split("\n")
    assert error == "TypeError: run() takes 3 positional arguments but 4 were given"
    assert hint.startswith("hint: main.py:1: run(context, input, one) is called with")
    assert end == ""
    assert hub.wait() == 23


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_control_lines_may_be_cut_anywhere(hub: FakeHub, write: Write, cut: int) -> None:
    hub.launch(write(ECHO_START))
    hub.accept()
    hub.message()
    line = '[4000,{"appConfig":{"k":"\u20ac"},"args":[1]}]\r\n'.encode()
    hub.links[3].connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for start in range(0, len(line), cut):
        hub.links[3].send(line[start : start + cut])
    assert json.loads(hub.output())[:2] == [{"k": "\u20ac"}, [1]]


def test_malformed_and_unknown_messages_are_warned_about_and_survived(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                done = asyncio.Event()
                context.on("end", lambda message: done.set())
                context.emit("ready")
                await done.wait()
            """
        )
    )
    hub.event("ready")
    lines = [
        b"not json at all",
        b"[4001]",
        b'["4001",{}]',
        b"[4001,[]]",
        b'[4001,{"timeout":"soon"}]',
        b'[4003,{"monitoringRate":0}]',
        b"[9999,{}]",
        b"[3012,{}]",
        b"[3004,{}]",
        b"",
        b"   ",
        b"\xff\xfe",
        b"x" * (1024 * 1024 + 10),
    ]
    hub.links[3].send(b"".join(line + b"\n" for line in lines))
    hub.say(5001, {"eventName": ""})
    hub.say(5001, {"eventName": "end"})
    assert hub.wait() == 0
    records = hub.log()
    assert {(record["level"], record["from"]) for record in records} == {("WARN", "Runner")}
    texts = [record["msg"] for record in records]
    for part in (
        "'not json at all'",
        "'[4001]'",
        "the code is not a whole number",
        "the payload is not an object",
        "'timeout' must be a number, not 'soon'",
        "'monitoringRate' must be above 0",
        "unknown message code 9999 is ignored",
        "Pang is not for a runner, and is ignored",
        "\\xff",
        "longer than 1048576 bytes",
        "'eventName' is missing or empty",
    ):
        assert any(part in text for text in texts), (part, texts)
    assert len(texts) == 11


def test_an_author_who_reads_nothing_of_ours_sees_few_descriptors_and_a_clean_process(
    hub: FakeHub, write: Write
) -> None:
    hub.start(
        write(
            """
            import json, os, sys, threading
            loaded = [name for name in ("anyio", "aiohttp", "click", "orjson", "uvloop", "hub_lite")
                      if name in sys.modules]
            async def run(context, input):
                fds = len(os.listdir("/proc/self/fd")) - 1 if os.path.isdir("/proc/self/fd") else 0
                yield json.dumps({"loaded": loaded, "fds": fds, "argv": sys.argv, "cwd": os.getcwd(),
                                  "name": __name__, "file": __file__, "path": sys.path[:1]})
            """
        )
    )
    seen = json.loads(hub.output())
    folder = os.path.realpath(Path(seen["file"]).parent)
    assert seen["loaded"] == []
    assert (
        seen["fds"] <= 3 + 6 + 2 + 3 + 1
    )  # stdio, six links, the thread's pair, the loop's own, one to spare
    assert seen["name"] == "sequence"
    assert seen["argv"] == [seen["file"]]
    assert os.path.realpath(seen["cwd"]) == folder
    assert os.path.realpath(seen["path"][0]) == folder


# --- what goes wrong before the start -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"INSTANCE_ID": ""}, "INSTANCE_ID is not set"),
        ({"INSTANCE_ID": "short"}, "INSTANCE_ID must be 36 visible ASCII characters, not 'short'"),
        ({"SEQUENCE_PATH": ""}, "SEQUENCE_PATH is not set"),
        (
            {"INSTANCES_SERVER_PORT": "http"},
            "INSTANCES_SERVER_PORT must be a port from 1 to 65535, not 'http'",
        ),
        ({"RUNNER_CONNECT_INFO": "{"}, "RUNNER_CONNECT_INFO is not JSON"),
        ({"SEQUENCE_INFO": "[]"}, "SEQUENCE_INFO must be a JSON object, not '[]'"),
    ],
)
def test_a_wrong_environment_is_exit_20_with_a_sentence(
    tcp_hub: FakeHub, write: Write, change: dict[str, str], part: str
) -> None:
    tcp_hub.launch(write(NOTHING), **change)
    assert tcp_hub.wait() == 20
    text = tcp_hub.crash_log()
    assert text.startswith("hub-lite runner: ")
    assert part in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("name", ["nothing.py", ".", "main.py/x", "x" * 300])
def test_a_missing_entry_file_is_exit_21_and_nobody_is_called(
    tcp_hub: FakeHub, write: Write, name: str
) -> None:
    entry = write(NOTHING)
    tcp_hub.launch(entry.parent / name)
    assert tcp_hub.wait() == 21
    assert "no such file; the package's `main` must name the file with the Sequence" in tcp_hub.crash_log()
    tcp_hub.listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        tcp_hub.listener.accept()


def test_no_hub_is_exit_1_with_a_sentence(tcp_hub: FakeHub, write: Write) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # bound, so that nobody else gets the port, but not listening
        port = deaf.getsockname()[1]
        tcp_hub.launch(write(NOTHING), INSTANCES_SERVER_PORT=str(port))
        assert tcp_hub.wait() == 1
    assert tcp_hub.crash_log() == f"hub-lite runner: no hub at 127.0.0.1:{port}: Connection refused\n"


def test_no_socket_file_is_exit_1_with_a_sentence(hub: FakeHub, write: Write, tmp_path: Path) -> None:
    hub.launch(write(NOTHING), INSTANCES_SERVER_SOCKET=str(tmp_path / "no"))
    assert hub.wait() == 1
    assert hub.crash_log() == f"hub-lite runner: no hub at {tmp_path / 'no'}: No such file or directory\n"


def test_a_socket_path_wins_over_host_and_port(hub: FakeHub, write: Write) -> None:
    hub.start(write(NOTHING), INSTANCES_SERVER_HOST="192.0.2.1", INSTANCES_SERVER_PORT="1")
    assert hub.wait() == 0


def test_a_hub_that_closes_control_before_the_pong_is_exit_1(hub: FakeHub, write: Write) -> None:
    hub.launch(write("print('loaded')\n" + NOTHING))
    hub.accept()
    hub.message()
    hub.links[3].end()
    assert hub.stderr() == "hub-lite runner: the hub closed the control link instead of answering the PING\n"
    assert hub.stdout() == ""
    assert hub.wait() == 1


def test_a_link_the_hub_refuses_does_not_leave_a_runner_behind(hub: FakeHub, write: Write) -> None:
    hub.launch(write(NOTHING))
    hub.accept()
    hub.vanish()
    assert hub.wait() == 1


def test_the_first_report_comes_before_the_code_is_loaded(hub: FakeHub, write: Write) -> None:
    hub.start(write("import time\ntime.sleep(0.05)\n" + NOTHING))
    hub.wait()
    codes = [json.loads(line)[0] for line in hub.links[MONITORING].rest().splitlines()]
    assert codes == [3001, 3012, 3012, 3001]  # and the last one has the final metrics
    assert hub.links[STDERR].rest() == b""
