"""The benchmark: its quick form gives right results, it notices wrong ones, and it compares runs. No test judges time."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import report, workers
from bench.__main__ import main
from bench.authors import COUNT_UP, function
from bench.cases import CASES
from bench.measure import HUB, Case, Figure, Goal, NotHere, Result, Setup, run_case
from bench.payload import ITEM, MIB, Checker, Kind, OctetsChecker, Payload, WrongResult
from bench.processes import Process, cpu_seconds, run_seconds
from bench.topics import Reader, read_all
from bench.wire import Connection

ROOT = Path(__file__).parents[1]
RATE = Figure("rate", "things", "k/s", True, Goal(0.5, 1.0))


def case_of(contenders, *figures: Figure) -> Case:
    @contextmanager
    def prepared(setup: Setup):
        yield contenders

    return Case("made-up", "a case of a test", figures or (RATE,), prepared)


def run_of(result: Result) -> report.Run:
    return report.Run({"commit": "abc"}, len(result.values[HUB]), True, {"made-up": [result]}, {}, {})


# --- the whole of it ------------------------------------------------------------------------------------------------


def test_the_quick_form_gives_right_results_and_leaves_nothing_behind(tmp_path: Path):
    written = tmp_path / "run.json"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    names = [
        "pass-through",
        "lines",
        "ndjson",
        "start",
        "large-upload",
        "round-trip",
        "event-round-trip",
        "topic-1",
        "topic-10",
        "topic-100",
        "topic-messages",
        "version",
        "many-instances",
        "end",
        "memory",
        "reload",
        "stream",
        "author",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--json", str(written), *names],
        check=False,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    run = json.loads(written.read_text())
    assert (run["quick"], run["rounds"], run["wrong"], run["absent"]) == (True, 1, {}, {})
    assert list(dict.fromkeys(figure["case"] for figure in run["figures"])) == names
    for figure in run["figures"]:
        assert len(figure["values"][HUB]) == 1
        assert figure["title"] in done.stdout
    rates = {figure["case"]: figure["values"] for figure in run["figures"] if figure["figure"] == "rate"}
    assert all(value > 0 for values in rates.values() for (value,) in values.values())
    assert {"the client alone, one hop", "Python between two TCP hops"} <= rates["pass-through"].keys()
    assert list(scratch.iterdir()) == []


def test_a_wrong_result_is_exit_1_and_the_other_cases_go_on(capsys: pytest.CaptureFixture[str]):
    def lose():
        raise WrongResult("3 lines are lost")

    wrong = case_of({HUB: lose})
    right = Case("right", "", (RATE,), case_of({HUB: lambda: {"rate": 4.0}}).contenders)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert main(["--quick", "--base-url", url], (wrong, right)) == 1
    shown = capsys.readouterr()
    assert "made-up gave a WRONG RESULT: 3 lines are lost" in shown.err
    assert "things, k/s" in shown.out


def test_a_case_that_cannot_be_measured_here_says_why_and_is_no_failure(capsys: pytest.CaptureFixture[str]):
    def turn():
        raise NotHere("the process of the hub is not known")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert main(["--quick", "--base-url", url], (case_of({HUB: turn}),)) == 0
    assert "made-up was not measured: the process of the hub is not known" in capsys.readouterr().err


def test_no_hub_is_exit_2_and_names_the_address(capsys: pytest.CaptureFixture[str]):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert main(["--quick", "--base-url", f"http://127.0.0.1:{port}", "version"]) == 2
    assert f"no hub at 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["no-such-case"], ["--rounds", "0"], ["--rounds", "x"]], ids=lambda value: value[0]
)
def test_a_wrong_argument_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: python -m bench" in capsys.readouterr().err


def test_the_list_names_every_case_once(capsys: pytest.CaptureFixture[str]):
    assert main(["--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [case.name for case in CASES]
    assert len(set(names)) == len(names)


# --- what is sent, and what must come ---------------------------------------------------------------------------------


def whole(payload: Payload) -> bytes:
    return b"".join(bytes(block) for block in payload.blocks())


def wanted(payload: Payload) -> bytes:
    return b"".join(bytes(block) for block in payload.expected())


def check(payload: Payload, content: bytes) -> None:
    checker = Checker(payload)
    checker.take(memoryview(content))
    checker.end()


@pytest.mark.parametrize("kind", list(Kind))
def test_a_payload_has_the_size_it_says_and_no_two_items_alike(kind: Kind):
    payload = Payload(kind, 4)
    content = whole(payload)
    assert len(content) == payload.size
    size = MIB if kind is Kind.OCTETS else ITEM
    assert len({content[start : start + size] for start in range(0, len(content), size)}) == 4


@pytest.mark.parametrize("kind", list(Kind))
def test_the_framed_form_holds_the_same_bytes(kind: Kind):
    payload = Payload(kind, 3 if kind is Kind.OCTETS else 2000)
    framed = b"".join(bytes(block) for block in payload.chunked()) + b"0\r\n\r\n"
    assert whole(payload) == read_chunked(framed, [len(framed)])


@given(st.lists(st.integers(1, 700)))
def test_what_should_come_is_accepted_however_it_is_cut(cuts: list[int]):
    payload = Payload(Kind.MESSAGES, 20)
    checker, content = Checker(payload), memoryview(wanted(payload))
    for cut in cuts:
        checker.take(content[:cut])
        content = content[cut:]
    checker.take(content)
    assert checker.complete
    checker.end()


@given(st.lists(st.integers(1, MIB), max_size=6))
def test_a_checker_for_many_readers_accepts_octets_however_they_are_cut(cuts: list[int]):
    payload = Payload(Kind.OCTETS, 3)
    checker, content = OctetsChecker(payload), memoryview(whole(payload))
    for cut in cuts:
        checker.take(content[:cut])
        content = content[cut:]
    checker.take(content)
    checker.end()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:MIB] + content[2 * MIB :],
        lambda content: content[MIB : 2 * MIB] + content[:MIB] + content[2 * MIB :],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[:-1],
        lambda content: content + b"x",
    ],
    ids=["lost block", "swapped blocks", "changed byte", "last byte lost", "surplus"],
)
def test_a_checker_for_many_readers_notices_what_the_other_notices(damage):
    payload = Payload(Kind.OCTETS, 3)
    checker = OctetsChecker(payload)

    def check_damaged() -> None:
        checker.take(memoryview(damage(whole(payload))))
        checker.end()

    with pytest.raises(WrongResult):
        check_damaged()


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (Kind.OCTETS, lambda content: content[:MIB] + content[2 * MIB :]),
        (Kind.OCTETS, lambda content: content[MIB : 2 * MIB] + content[:MIB] + content[2 * MIB :]),
        (Kind.OCTETS, lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        (Kind.LINES, lambda content: content[ITEM:]),
        (Kind.LINES, lambda content: content + content[:ITEM]),
        (Kind.LINES, lambda content: content[:-ITEM]),
        (Kind.MESSAGES, lambda content: content.replace(b'"v":8', b'"v":7', 1)),
    ],
    ids=[
        "lost block",
        "swapped blocks",
        "changed byte",
        "first lost",
        "surplus",
        "last lost",
        "author not run",
    ],
)
def test_anything_else_is_a_wrong_result(kind: Kind, damage):
    payload = Payload(kind, 3)
    with pytest.raises(WrongResult):
        check(payload, damage(wanted(payload)))


async def test_the_author_of_messages_makes_what_is_expected():
    payload = Payload(Kind.MESSAGES, 5)

    async def source():
        for line in whole(payload).splitlines():
            yield json.loads(line)

    made = [json.dumps(item, separators=(",", ":")) async for item in function(COUNT_UP)(None, source())]
    assert "\n".join(made) + "\n" == wanted(payload).decode()


# --- the client -----------------------------------------------------------------------------------------------------


class Link:
    """A socket from which bytes come in the pieces given."""

    def __init__(self, content: bytes, cuts: list[int]) -> None:
        self._pieces = []
        for cut in cuts:
            self._pieces.append(content[:cut])
            content = content[cut:]
        self._pieces = [piece for piece in [*self._pieces, content] if piece]

    def recv_into(self, view: memoryview) -> int:
        if not self._pieces:
            return 0
        piece, rest = self._pieces[0][: len(view)], self._pieces[0][len(view) :]
        self._pieces[:1] = [rest] if rest else []
        view[: len(piece)] = piece
        return len(piece)


def read_answer(answer: bytes, cuts: list[int]) -> bytes:
    http = Connection(("nowhere", 0), Link(answer, cuts))  # type: ignore[arg-type]
    http.expect_success()
    return http.rest()


def read_chunked(framed: bytes, cuts: list[int]) -> bytes:
    return read_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed, cuts)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.lists(st.integers(1, 50)))
def test_a_chunked_answer_is_read_whole_however_it_is_cut(chunks: list[bytes], cuts: list[int]):
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert read_chunked(framed, cuts) == b"".join(chunks)


def framed_octets(payload: Payload) -> bytes:
    return b"".join(bytes(block) for block in payload.chunked()) + b"0\r\n\r\n"


@given(st.lists(st.one_of(st.integers(1, 5), st.integers(65_530, 65_550), st.integers(1, MIB)), max_size=30))
def test_a_reader_of_many_reads_a_chunked_body_however_it_is_cut(cuts: list[int]):
    payload = Payload(Kind.OCTETS, 1)
    reader, framed = Reader(OctetsChecker(payload)), memoryview(framed_octets(payload))
    for cut in cuts:
        reader.take(framed[:cut])
        framed = framed[cut:]
    reader.take(framed)
    assert reader.ended
    assert reader.checker.complete


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda framed: framed.replace(b"\r\n10000\r\n", b"\r\n1000g\r\n", 1).ljust(600), "size of a chunk"),
        (lambda framed: framed[:65_543] + b"x" + framed[65_543:], "where a chunk should begin"),
        (lambda framed: framed[:-2] + b"xx", "where the body should end"),
        (lambda framed: framed + b"HTTP", "where a chunk should begin"),
    ],
    ids=["no size", "surplus in a chunk", "no end", "more than the body"],
)
@pytest.mark.parametrize("cut", [7, MIB * 2])
def test_a_reader_of_many_notices_what_is_not_framed_as_it_should_be(damage, why: str, cut: int):
    payload = Payload(Kind.OCTETS, 1)
    reader, framed = Reader(OctetsChecker(payload)), memoryview(damage(framed_octets(payload)))

    def take_all() -> None:
        for start in range(0, len(framed), cut):
            reader.take(framed[start : start + cut])

    with pytest.raises(WrongResult, match=why):
        take_all()


def test_many_readers_are_all_read_to_their_ends_and_one_that_is_broken_off_is_noticed():
    payload = Payload(Kind.OCTETS, 1)
    framed = framed_octets(payload)

    def send(link: socket.socket, content: bytes) -> None:
        with link, suppress(ConnectionError):  # the reader gives up when another one is broken off
            link.sendall(content)

    def read(*contents: bytes) -> float:
        pairs = [socket.socketpair() for _ in contents]
        readers = [Reader(OctetsChecker(payload)) for _ in contents]
        with ThreadPoolExecutor(len(contents)) as threads:
            for (sender, _), content in zip(pairs, contents, strict=True):
                threads.submit(send, sender, content)
            try:
                return read_all([(link, reader) for (_, link), reader in zip(pairs, readers, strict=True)])
            finally:
                for _, link in pairs:
                    link.close()

    assert read(framed, framed, framed) > 0
    with pytest.raises(WrongResult, match="broken off after 65536 bytes"):
        read(framed, framed[: 65_536 + 7])


def test_each_message_is_answered_before_the_next_is_sent_and_a_refusal_is_a_wrong_result():
    payload = Payload(Kind.LINES, 3)
    came: list[bytes] = []

    def serve(listener: socket.socket, answers: list[bytes]) -> None:
        with listener, listener.accept()[0] as link:
            for answer in answers:
                request = b""
                while len(request.partition(b"\r\n\r\n")[2]) < ITEM:
                    request += link.recv(4096)
                came.append(request.partition(b"\r\n\r\n")[2])
                link.sendall(answer)

    def post(*statuses: str) -> float:
        listener = socket.create_server(("127.0.0.1", 0))
        answers = [f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode() for status in statuses]
        with ThreadPoolExecutor(1) as threads:
            serving = threads.submit(serve, listener, answers)
            took = workers.post_each(listener.getsockname(), "/", payload)
            serving.result()
            return took

    assert post("202 Accepted", "202 Accepted", "202 Accepted") > 0
    assert b"".join(came) == whole(payload)
    with pytest.raises(WrongResult, match="was refused"):
        post("503 Busy")
    with pytest.raises(WrongResult, match="differs from the first"):
        post("202 Accepted", "503 Declined")


def test_the_processor_time_of_many_is_the_sum_of_theirs_and_those_that_are_gone_count_nothing():
    me = Process()
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        other = Process(child.pid)
    alone = run_seconds([me])
    assert 0 < alone <= run_seconds([me, other])
    # of the threads that live, and not those of before: the other figure has both
    assert 0 < run_seconds([me]) < cpu_seconds(me) + 1


@given(st.binary(max_size=200), st.lists(st.integers(1, 50)))
def test_an_answer_with_a_length_is_read_whole_however_it_is_cut(body: bytes, cuts: list[int]):
    assert (
        read_answer(b"HTTP/1.1 202 Accepted\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body), cuts)
        == body
    )


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope", "404 Not Found: nope"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nno", "broke the connection off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", "does not end where"),
        (b"", "broke the connection off"),
    ],
    ids=["error", "cut short", "bad chunk", "nothing"],
)
def test_an_answer_that_is_no_success_is_a_wrong_result(answer: bytes, why: str):
    with pytest.raises(WrongResult, match=why):
        read_answer(answer, [])


async def test_a_body_that_differs_from_the_first_is_a_wrong_result():
    answers = iter([b"one"] * 3 + [b"two"] * 100)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            while await reader.readline() != b"\r\n":
                pass
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + next(answers))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        address = server.sockets[0].getsockname()
        with pytest.raises(WrongResult, match="differs from the first"):
            await asyncio.to_thread(workers.flood, address, "/", 2, 50)


# --- rounds and reports ---------------------------------------------------------------------------------------------


def test_every_contender_has_its_turn_in_every_round_and_the_order_turns():
    turns = []

    def contender(name: str, value: float):
        def turn():
            turns.append(name)
            return {"rate": value}

        return turn

    case = case_of({HUB: contender(HUB, 6.0), "list": contender("list", 3.0)})
    (result,) = run_case(case, None, 3, lambda text: None)  # type: ignore[arg-type]
    assert turns == [HUB, "list", "list", HUB, HUB, "list"]
    assert result.values == {HUB: [6.0] * 3, "list": [3.0] * 3}
    assert list(result.values) == [HUB, "list"]
    assert result.ratios("list") == [2.0] * 3


def test_a_figure_that_the_hub_has_no_value_for_is_left_out():
    case = case_of({HUB: lambda: {"rate": 1.0}}, RATE, Figure("cpu", "processor time", "s", False))
    assert [one.figure.name for one in run_case(case, None, 1, lambda text: None)] == ["rate"]  # type: ignore[arg-type]


@pytest.mark.parametrize(("ours", "met"), [(1.0, "no"), (6.0, "yes"), (10.0, "aim")])
def test_the_table_says_whether_the_goal_is_met(ours: float, met: str):
    run = run_of(Result(RATE, {HUB: [ours], "a loop": [10.0]}))
    ratio = f"{ours / 10:.3g}"
    cells = [line.split() for line in report.table(run).splitlines()]
    assert cells[-1] == ["a", "loop", "10", "10..10", ratio, f"{ratio}..{ratio}", "≥", "0.5", "(1)", met]
    assert f"| {ratio} | {ratio}..{ratio} | ≥ 0.5 (1) | {met} |" in report.markdown(run)


def test_a_goal_without_a_baseline_is_one_of_the_value():
    figure = Figure("latency", "upload", "ms", False, Goal(10, 5))
    assert "| 7 | 7..7 |  |  | ≤ 10 (5) | yes |" in report.markdown(run_of(Result(figure, {HUB: [7.0]})))


@pytest.mark.parametrize(
    ("now", "verdict"), [([8.0, 9.0], "better"), ([1.0, 2.0], "WORSE"), ([3.0, 9.0], "within the spread")]
)
def test_two_runs_are_compared_by_their_spreads(tmp_path: Path, now: list[float], verdict: str):
    written = tmp_path / "earlier.json"
    written.write_text(run_of(Result(RATE, {HUB: [4.0, 6.0], "list": [8.0, 8.0]})).to_json())
    text = report.comparison(run_of(Result(RATE, {HUB: now, "list": [8.0, 8.0]})), written)
    assert [line.rpartition("  ")[2] for line in text.splitlines()[1:]] == [verdict, verdict]


@pytest.mark.parametrize("content", [None, "", "[]", '{"figures": [{}]}', '{"figures": []}'])
def test_a_file_that_holds_no_run_is_refused(tmp_path: Path, content: str | None):
    file = tmp_path / "run.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(report.NoRun, match=r"run\.json"):
        report.comparison(run_of(Result(RATE, {HUB: [1.0]})), file)


def test_the_figures_of_a_page_are_replaced_and_nothing_else(tmp_path: Path):
    page = tmp_path / "README.md"
    text = (ROOT / "bench" / "README.md").read_text()
    page.write_text(text)
    run = run_of(Result(RATE, {HUB: [1.0]}))
    report.update(page, run)
    once = page.read_text()
    report.update(page, run)
    assert page.read_text() == once
    assert report.markdown(run) in once
    begin, end = once.index("<!-- figures"), once.index("<!-- end of figures")
    assert text.startswith(once[:begin])
    assert text.endswith(once[end:])
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the marks"):
        report.update(page, run)
