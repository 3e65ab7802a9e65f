"""The thread that keeps touch with the hub, on socket pairs and without a process."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from runner.context import RunnerHost
from runner.errors import HubUnreachable
from runner.heartbeat import PATIENCE, Heartbeat
from runner.protocol.messages import Event, Ping

ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"


class Author:
    """The author's side, without a loop: it answers probes when it is told to."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.changed = threading.Condition()
        self.report: dict[str, Any] | None = {"healthy": True}
        self.numbers: dict[str, Any] = {}
        self.kill_handlers: Callable[[Callable[[], None]], None] | None = None

    def hear(self, *what: Any) -> None:
        with self.changed:
            self.heard.append(what)
            self.changed.notify_all()

    def wait_for(self, *what: Any) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: what in self.heard, 10), self.heard

    def probe(self, answer: Callable[[dict[str, Any]], None]) -> None:
        self.hear("probe")
        if self.report is not None:
            answer(self.report)

    def stop(self, seconds: float, can_keep_alive: bool) -> None:
        self.hear("stop", seconds, can_keep_alive)

    def kill(self, done: Callable[[], None]) -> bool:
        if self.kill_handlers is None:
            return False
        self.kill_handlers(done)
        return True

    def event(self, name: str, message: Any) -> None:
        self.hear("event", name, message)

    def metrics(self) -> dict[str, Any]:
        return self.numbers


class Rig:
    """A heartbeat, the hub's ends of its links, and what it does to the process."""

    def __init__(self, **more: Any) -> None:
        control, self.control = socket.socketpair()
        monitoring, self.monitoring = socket.socketpair()
        self.sockets = [control, monitoring, self.control, self.monitoring]
        self.monitoring.settimeout(10)
        self.lines = self.monitoring.makefile("rb")
        self.warnings: list[str] = []
        self.exit_code: int | None = None
        self.exited = threading.Event()
        self.author = Author()
        self.heartbeat = Heartbeat(
            control, monitoring, warn=self.warnings.append, exit_process=self.exit_process, **more
        )

    def exit_process(self, code: int) -> NoReturn:
        self.exit_code = int(code)
        self.exited.set()
        raise SystemExit  # ends the thread, where a process would end

    def begin(self) -> "Rig":
        self.heartbeat.start(Ping(ID, payload={}))
        assert self.message()[0] == 3000
        self.say(4000, {"args": [1]})
        assert self.heartbeat.wait_for_pong().args == [1]
        self.heartbeat.attach(self.author)
        assert self.message() == [3001, {"healthy": True}]
        self.heartbeat.up()
        return self

    def say(self, code: int, payload: Any = None) -> None:
        self.control.sendall(json.dumps([code, payload]).encode() + b"\n")

    def message(self) -> list[Any]:
        message = json.loads(self.lines.readline())
        assert isinstance(message, list)
        return message

    def until(self, code: int) -> Any:
        while (message := self.message())[0] != code:
            pass
        return message[1]

    def wait_for_exit(self) -> int | None:
        assert self.exited.wait(10)
        return self.exit_code

    def close(self) -> None:
        if not self.exited.is_set() and not self.heartbeat.hub_gone:
            self.say(4002)
            self.wait_for_exit()
        self.heartbeat._thread.join(10)
        assert not self.heartbeat._thread.is_alive()
        self.lines.close()
        for link in (*self.sockets, self.heartbeat._wake_reader, self.heartbeat._wake_writer):
            link.close()


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    report = threading.excepthook
    monkeypatch.setattr(
        threading, "excepthook", lambda what: None if what.exc_type is SystemExit else report(what)
    )
    rig = Rig()
    yield rig
    rig.close()


def test_control_that_ends_before_the_pong_is_a_hub_that_cannot_be_reached(rig: Rig) -> None:
    rig.heartbeat.start(Ping(ID, payload={}))
    rig.control.close()
    with pytest.raises(HubUnreachable, match="instead of answering the PING"):
        rig.heartbeat.wait_for_pong()
    assert rig.exit_code is None
    assert rig.heartbeat.hub_gone


def test_a_stop_reaches_the_author_once_and_a_deadline_is_the_hubs_to_keep(rig: Rig) -> None:
    rig.begin()
    rig.say(4001, {"timeout": 2500, "canCallKeepalive": True})
    rig.say(4001, {"timeout": 1})
    rig.say(5001, {"eventName": "after"})
    rig.author.wait_for("event", "after", None)
    assert [what for what in rig.author.heard if what[0] == "stop"] == [("stop", 2.5, True)]
    assert rig.heartbeat.stop_requested
    rig.say(4002)
    assert rig.wait_for_exit() == 138


def test_a_stop_that_is_called_off_may_come_again(rig: Rig) -> None:
    rig.begin()
    rig.say(4001, {"timeout": 1000, "canCallKeepalive": True})
    rig.author.wait_for("stop", 1.0, True)
    assert rig.heartbeat.kept_alive()
    assert not rig.heartbeat.stop_requested
    rig.say(4001, {"timeout": 2000})
    rig.author.wait_for("stop", 2.0, False)
    assert not rig.heartbeat.kept_alive()
    rig.say(4002)
    assert rig.wait_for_exit() == 138


def test_a_kill_is_137_and_needs_nobody(rig: Rig) -> None:
    rig.begin()
    rig.author.report = None
    rig.say(4002)
    assert rig.wait_for_exit() == 137


def test_kill_handlers_have_a_fifth_of_a_second_whatever_they_do(rig: Rig) -> None:
    rig.begin()
    rig.author.kill_handlers = lambda done: rig.author.hear("kill")
    rig.say(4002)
    start = time.monotonic()
    rig.author.wait_for("kill")
    rig.say(4002)
    rig.say(4001)
    assert rig.wait_for_exit() == 137
    assert 0.19 < time.monotonic() - start < 5


def test_a_kill_is_over_as_soon_as_its_handlers_are(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.protocol.lifecycle.KILL_HANDLERS_GRACE", 60.0)
    rig.begin()
    handlers: list[threading.Thread] = []

    def handle(done: Callable[[], None]) -> None:
        handlers.append(threading.Thread(target=done))
        handlers[0].start()

    rig.author.kill_handlers = handle
    rig.say(4002)
    assert rig.wait_for_exit() == 137
    handlers[0].join(10)  # it may still be about to wake a heartbeat whose sockets are closed next


def test_the_end_of_the_hub_does_not_make_a_stop_of_a_kill(rig: Rig) -> None:
    rig.begin()
    rig.author.kill_handlers = lambda done: rig.author.hear("kill")
    rig.say(4002)
    rig.author.wait_for("kill")
    rig.control.close()
    assert rig.wait_for_exit() == 137
    assert [what for what in rig.author.heard if what[0] == "stop"] == []
    assert rig.heartbeat.abandoned


def test_kill_handlers_are_not_called_when_their_loop_is_over(rig: Rig) -> None:
    rig.begin()
    rig.author.kill_handlers = lambda done: rig.author.hear("kill")
    rig.heartbeat.detach()
    rig.say(4002)
    assert rig.wait_for_exit() == 137
    assert ("kill",) not in rig.author.heard


def test_a_lost_hub_that_is_outlived_calls_the_kill_handlers(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.protocol.lifecycle.HUB_LOST_GRACE", 0.02)
    rig.begin()
    rig.author.kill_handlers = lambda done: rig.author.hear("kill")
    rig.control.close()
    rig.author.wait_for("kill")
    assert rig.wait_for_exit() == 138


def test_a_stop_before_the_author_is_attached_ends_the_process(rig: Rig) -> None:
    rig.heartbeat.start(Ping(ID, payload={}))
    rig.say(4001)
    assert rig.wait_for_exit() == 138


def test_a_lost_hub_is_a_stop_with_two_seconds_and_then_the_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.protocol.lifecycle.HUB_LOST_GRACE", 0.02)
    rig.begin()
    rig.control.close()
    rig.author.wait_for("stop", 0.02, False)
    assert rig.wait_for_exit() == 138


def test_one_probe_at_a_time_is_sent_and_the_wait_is_told(rig: Rig) -> None:
    rig.begin()
    rig.author.report = None
    rig.say(4003, {"monitoringRate": 100})
    first = rig.until(3001)
    assert first["healthy"] is True
    assert PATIENCE <= first["blocked"]["seconds"] < 5
    second = rig.until(3001)
    assert second["blocked"]["seconds"] > first["blocked"]["seconds"]
    assert rig.author.heard.count(("probe",)) == 1


def test_an_answer_that_comes_late_is_reported_at_once(rig: Rig) -> None:
    answers: list[Callable[[dict[str, Any]], None]] = []
    rig.author.probe = answers.append  # type: ignore[method-assign]
    rig.begin()
    rig.say(4003, {"monitoringRate": 3})
    assert "blocked" in rig.until(3001)
    answers[0]({"healthy": False})
    while "blocked" in (report := rig.until(3001)):
        pass
    assert report == {"healthy": False}


def test_the_place_is_the_innermost_line_of_the_package() -> None:
    here = Path(__file__)
    for package, file in (
        (str(here.parent), here.name),
        (str(here.parent)[:-1], None),  # a folder whose name merely begins like it
        ("", None),
    ):
        rig = Rig(package=package)
        try:
            place = rig.heartbeat._where()
        finally:
            for link in (*rig.sockets, rig.heartbeat._wake_reader, rig.heartbeat._wake_writer):
                link.close()
            rig.lines.close()
        assert isinstance(place["line"], int)
        assert (place["file"] == file) == (file is not None)
        assert place["file"].endswith("heartbeat.py")


def test_a_closed_heartbeat_has_sent_everything(rig: Rig) -> None:
    rig.begin()
    for number in range(2000):
        rig.heartbeat.send(Event("e", [number, "x" * 500]))
    closing = threading.Thread(target=rig.heartbeat.close)
    closing.start()
    messages = [json.loads(line) for line in rig.lines]  # to the end
    closing.join(10)
    assert not closing.is_alive()
    assert [m[1]["message"][0] for m in messages if m[0] == 5001] == list(range(2000))
    rig.heartbeat.close()


def test_a_heartbeat_does_not_wait_for_a_hub_that_is_gone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.protocol.lifecycle.HUB_LOST_GRACE", 0.02)
    rig.begin()
    for _ in range(900):
        rig.heartbeat.send(Event("e", "x" * 1000))
    closing = threading.Thread(target=rig.heartbeat.close)
    closing.start()
    rig.control.close()
    closing.join(10)
    assert not closing.is_alive()
    rig.heartbeat.send(Event("e", "nobody hears this"))
    rig.wait_for_exit()


def test_reports_go_on_when_the_loop_is_over(rig: Rig) -> None:
    rig.begin()
    rig.heartbeat.detach()
    rig.author.report = None
    rig.say(4003, {"monitoringRate": 100})
    assert [rig.message() for _ in range(3)] == [[3001, {"healthy": True}]] * 3


def test_metrics_stand_in_the_report_beside_the_health(rig: Rig) -> None:
    rig.begin()
    rig.author.numbers = {"lines": 3}
    rig.say(4003, {"monitoringRate": 100})
    assert rig.until(3001) == {"healthy": True, "metrics": {"lines": 3}}
    rig.author.report = {"healthy": True, "metrics": {"own": 1, "lines": 4}}
    while (report := rig.until(3001))["metrics"] == {"lines": 3}:
        pass
    assert report == {"healthy": True, "metrics": {"own": 1, "lines": 4}}
    rig.author.report = {"healthy": False, "metrics": "no object"}
    while (report := rig.until(3001))["healthy"]:
        pass
    assert report == rig.author.report


def test_metrics_are_fresh_while_the_loop_is_blocked(rig: Rig) -> None:
    rig.begin()
    rig.author.report = None
    rig.author.numbers = {"lines": 1}
    rig.say(4003, {"monitoringRate": 20})
    assert rig.until(3001)["metrics"] == {"lines": 1}
    rig.author.numbers = {"lines": 2}
    while (report := rig.until(3001))["metrics"] == {"lines": 1}:
        pass
    assert "blocked" in report


def test_the_last_report_has_the_final_metrics_and_there_is_none_without(rig: Rig) -> None:
    rig.begin()
    rig.say(4003, {"monitoringRate": 0.001})
    rig.heartbeat.detach()
    rig.author.numbers = {"lines": 7}
    rig.heartbeat.close()
    rig.heartbeat.close()
    reports = [json.loads(line)[1] for line in rig.lines]
    assert reports[-1] == {"healthy": True, "metrics": {"lines": 7}}
    assert [report for report in reports if "metrics" in report] == reports[-1:]


def test_without_metrics_there_is_no_last_report(rig: Rig) -> None:
    rig.begin()
    rig.say(4003, {"monitoringRate": 0.001})
    rig.say(5001, {"eventName": "after"})
    rig.author.wait_for("event", "after", None)
    rig.author.report = None
    rig.heartbeat.detach()
    before = rig.author.heard.count(("probe",))
    rig.heartbeat.close()
    assert len(list(rig.lines)) <= before + 1


def test_a_line_that_control_ends_inside_is_warned_about(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.protocol.lifecycle.HUB_LOST_GRACE", 0.02)
    rig.begin()
    rig.control.sendall(b'\n[4003,{"monitoringRate":')
    rig.control.shutdown(socket.SHUT_WR)
    assert rig.wait_for_exit() == 138
    assert rig.warnings == ["control: the stream ended inside a line: '[4003,{\"monitoringRate\":'"]


def test_messages_that_only_a_runner_sends_are_warned_about_and_reserved_ones_are_not(rig: Rig) -> None:
    rig.begin()
    for code in (3002, 3003, 3004, 3007, 3013, 4004, 3011, 1):
        rig.say(code, {})
    rig.say(5001, {"eventName": "after", "message": 0})
    rig.author.wait_for("event", "after", 0)
    assert rig.warnings == [
        "control: SequenceCompleted is not for a runner, and is ignored",
        "control: unknown message code 1 is ignored",
    ]


def test_an_author_hears_of_what_cannot_be_sent(rig: Rig) -> None:
    rig.begin()
    host = RunnerHost(rig.heartbeat)
    with pytest.raises(TypeError, match=r"emit\('name'\): Event: the payload is not JSON"):
        host.emit("name", object())
    host.emit("name", None)
    assert rig.until(5001) == {"eventName": "name", "message": None}
    host.keep_alive(0.5)
    assert rig.until(3010) == {"keepAlive": 500.0}


def test_what_is_said_after_the_close_is_not_taken_for_the_end_of_the_hub(rig: Rig) -> None:
    rig.begin()
    rig.heartbeat.close()
    rig.heartbeat.send(Event("late", None))
    assert rig.lines.read() == b""
    assert not rig.heartbeat.abandoned
