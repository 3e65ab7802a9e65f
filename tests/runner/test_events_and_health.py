"""Events both ways, and reports of health."""

import json
import time
from typing import Any

import pytest

from .conftest import Write
from .fake_hub import MONITOR, MONITORING, FakeHub

FALSY = [0, False, None, "", [], {}, 0.0]

ECHO = """
    import asyncio
    async def run(context, input):
        end = asyncio.Event()
        context.on("echo", lambda message: context.emit("echoed", message))
        async def slowly(message):
            await asyncio.sleep(0)
            context.emit("echoed by a coroutine", message)
        context.on("echo", slowly)
        context.on("end", lambda _: end.set())
        context.emit("ready")
        await end.wait()
"""


def test_events_go_both_ways_whatever_their_message(hub: FakeHub, write: Write) -> None:
    hub.start(write(ECHO))
    assert hub.event("ready") == ""
    for message in [*FALSY, {"a": [1, "\u20ac"]}, "\ud800", 2**70]:
        hub.say(5001, {"eventName": "echo", "source": "api", "message": message})
        for name in ("echoed", "echoed by a coroutine"):
            answer = hub.event(name)
            assert answer == message
            assert type(answer) is type(message)
    hub.say(5001, {"eventName": "echo"})
    assert hub.event("echoed") is None
    hub.say(5001, {"eventName": "nobody listens"})
    hub.say(5001, {"eventName": "end"})
    assert hub.wait() == 0


def test_an_event_is_one_line_as_the_contract_says(hub: FakeHub, write: Write) -> None:
    hub.start(write("def run(context, input): context.emit('a', {'b': None})"))
    hub.wait()
    assert b'[5001,{"eventName":"a","message":{"b":null}}]\r\n' in hub.links[MONITORING].rest()


def test_events_keep_their_order(hub: FakeHub, write: Write) -> None:
    hub.start(write(ECHO))
    hub.event("ready")
    for number in range(100):
        hub.say(5001, {"eventName": "echo", "message": number})
    assert [hub.event("echoed") for _ in range(100)] == list(range(100))


def test_events_are_emitted_from_any_thread(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import threading
            def run(context, input):
                threads = [threading.Thread(target=context.emit, args=("e", n)) for n in range(8)]
                for thread in threads: thread.start()
                for thread in threads: thread.join()
            """
        )
    )
    assert sorted(hub.event("e") for _ in range(8)) == list(range(8))


@pytest.mark.parametrize("message", ["object()", "float('nan')", "{1, 2}", "'x' * 2_000_000", "context"])
def test_a_message_that_cannot_be_sent_is_an_error_where_it_is_emitted(
    hub: FakeHub, write: Write, message: str
) -> None:
    entry = write(f"def run(context, input):\n    context.emit('e', {message})")
    hub.start(entry)
    lines = hub.stderr().splitlines()
    assert lines[1] == f'  File "{entry}", line 2, in run'
    assert lines[-1].startswith("TypeError: emit('e'): Event: ")
    assert hub.wait() == 23


def test_a_handler_that_raises_is_a_record_and_nothing_more(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            ECHO.replace('context.emit("ready")', "context.on('bad', lambda m: 1 / 0); context.emit('ready')")
        )
    )
    hub.event("ready")
    hub.say(5001, {"eventName": "bad"})
    hub.say(5001, {"eventName": "echo", "message": 1})
    assert hub.event("echoed") == 1
    hub.say(5001, {"eventName": "end"})
    assert hub.wait() == 0
    assert [record["msg"] for record in hub.log()] == ["handler of event 'bad' failed"]


# --- health -----------------------------------------------------------------------------------------------------------

WAIT = """
    import asyncio
    async def run(context, input):
        context.set_health_check(check)
        context.emit("ready")
        await asyncio.Event().wait()
"""


def health(hub: FakeHub) -> dict[str, Any]:
    """Return the next report, without the metrics beside it."""
    report = dict(hub.until(MONITOR))
    report.pop("metrics", None)
    return report


def fast_report(hub: FakeHub) -> dict[str, Any]:
    """Return the next report that is made after now."""
    hub.event("ready")
    hub.say(4003, {"monitoringRate": 50})
    reports = [health(hub) for _ in range(3)]
    return reports[-1]


@pytest.mark.parametrize(
    ("check", "report"),
    [
        ("return {'healthy': True, 'jobs': 3}", {"healthy": True, "jobs": 3}),
        ("return {'healthy': False}", {"healthy": False}),
        ("1 / 0", {"healthy": False, "error": "ZeroDivisionError: division by zero"}),
        (
            "return 'fine'",
            {
                "healthy": False,
                "error": "TypeError: the health check returned 'fine', not a dict such as {\"healthy\": True}",
            },
        ),
        (
            "return {'healthy': True, 'x': object}",
            {
                "healthy": False,
                "error": "the health report cannot be sent: Monitoring: the payload is not JSON: "
                "Object of type type is not JSON serializable",
            },
        ),
    ],
)
def test_a_health_check_says_how_the_sequence_is(
    hub: FakeHub, write: Write, check: str, report: dict[str, object]
) -> None:
    hub.start(write(f"def check():\n    {check}\n" + WAIT.replace("\n    ", "\n")))
    assert fast_report(hub) == report


def test_a_health_check_that_raises_is_logged(hub: FakeHub, write: Write) -> None:
    hub.start(write("def check(): 1 / 0\n" + WAIT.replace("\n    ", "\n")))
    fast_report(hub)
    record = json.loads(hub.links[7].line())
    assert (record["level"], record["msg"]) == ("ERROR", "the health check failed")
    assert record["error"].startswith("Traceback (most recent call last):\n  File ")
    assert "main.py" in record["error"].splitlines()[1]


def test_handlers_add_to_the_report_in_order_sync_and_async(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                async def check():
                    await asyncio.sleep(0)
                    return {"healthy": True, "a": 1}
                async def last(report):
                    await asyncio.sleep(0.001)
                    return {"sum": report["a"] + report["b"]}
                context.set_health_check(check)
                context.add_monitoring_handler(lambda report: {"a": 2, "b": 3})
                context.add_monitoring_handler(last)
                context.emit("ready")
                await asyncio.Event().wait()
            """
        )
    )
    assert fast_report(hub) == {"healthy": True, "a": 2, "b": 3, "sum": 5}


def test_a_check_that_waits_delays_its_own_answer_and_is_no_blocked_loop(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                go = asyncio.Event()
                async def check():
                    context.emit("asked")
                    await go.wait()
                    return {"healthy": False}
                context.on("go", lambda _: go.set())
                context.set_health_check(check)
                context.emit("ready")
                await asyncio.Event().wait()
            """
        )
    )
    hub.event("ready")
    hub.say(4003, {"monitoringRate": 50})
    hub.event("asked")
    assert [health(hub) for _ in range(4)] == [{"healthy": True}] * 4  # longer than a loop may be blocked
    hub.say(5001, {"eventName": "go"})
    while health(hub)["healthy"]:
        pass
    assert health(hub) == {"healthy": False}


def test_a_report_whose_task_is_cancelled_is_the_last_one_again(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                context.add_monitoring_handler(lambda report: asyncio.current_task().cancel() and None)
                context.add_monitoring_handler(lambda report: asyncio.sleep(0))
                context.emit("ready")
                await asyncio.Event().wait()
            """
        )
    )
    assert fast_report(hub) == {"healthy": True}


def test_metrics_of_the_author_are_reported_and_once_more_at_the_end(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            def run(context, input):
                lines = context.metrics.counter("lines", "what was read")
                context.metrics.gauge("depth").set(-1.5)
                context.emit("ready")
                for line in input:
                    lines.add()
                    yield line
                lines.add(0.5)
            """
        )
    )
    hub.event("ready")
    hub.say(4003, {"monitoringRate": 50})
    metrics = hub.until(MONITOR)["metrics"]
    assert (metrics["lines"], metrics["depth"]) == (0, -1.5)
    hub.input("text/plain", b"a\nb\n")
    hub.last_messages()
    assert hub.messages[-1][0] == MONITOR
    assert hub.messages[-1][1]["metrics"]["lines"] == 2.5
    assert hub.wait() == 0


@pytest.mark.parametrize("block", ["time.sleep(60)", "while True: pass", "threading.Event().wait()"])
def test_a_blocked_loop_is_reported_with_its_place(hub: FakeHub, write: Write, block: str) -> None:
    hub.start(
        write(
            f"""
            import threading, time
            async def run(context, input):
                helper()
            def helper():
                {block}
            """
        )
    )
    first = hub.until(MONITOR)
    assert first == {"healthy": True}
    hub.say(4003, {"monitoringRate": 20})
    blocked = next(
        report["blocked"] for report in iter(lambda: hub.until(MONITOR), None) if "blocked" in report
    )
    assert (blocked["file"], blocked["line"]) == ("main.py", 6)
    assert 0.2 < blocked["seconds"] < 5
    again = hub.until(MONITOR)
    assert again["healthy"] is True
    assert again["blocked"]["seconds"] > blocked["seconds"]  # since when, not since the last report


def test_a_loop_that_runs_again_is_reported_at_once(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio, sys
            async def run(context, input):
                context.emit("ready")
                sys.stdin.readline()
                await asyncio.Event().wait()
            """
        )
    )
    hub.event("ready")
    hub.say(4003, {"monitoringRate": 4})
    while "blocked" not in hub.until(MONITOR):
        pass
    hub.links[0].send(b"go\n")
    while "blocked" in hub.until(MONITOR):
        pass
    assert hub.alive


def test_a_blocking_import_is_reported_with_its_place(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            "import helper\ndef run(context, input): pass", **{"helper.py": "\nimport time\ntime.sleep(60)"}
        )
    )
    hub.until(MONITOR)
    hub.say(4003, {"monitoringRate": 20})
    blocked = hub.until(MONITOR)["blocked"]
    assert (blocked["file"], blocked["line"]) == ("helper.py", 3)


def test_the_hub_sets_the_rate_of_reports(hub: FakeHub, write: Write) -> None:
    hub.start(write(ECHO))
    hub.event("ready")
    hub.say(4003, {"monitoringRate": 40})
    hub.until(MONITOR)
    start = time.monotonic()
    for _ in range(10):
        assert health(hub) == {"healthy": True}
    assert time.monotonic() - start > 9 / 40 - 0.01
    hub.say(4003, {"monitoringRate": 1e-300})
    hub.say(5001, {"eventName": "echo", "message": "still there"})
    assert hub.event("echoed") == "still there"
    hub.say(4003, {"monitoringRate": 1e300})
    for _ in range(5):
        hub.until(MONITOR)
    hub.say(5001, {"eventName": "end"})
    assert hub.wait() == 0


def test_reports_go_on_without_replies(hub: FakeHub, write: Write) -> None:
    hub.start(write(ECHO))
    hub.event("ready")
    hub.say(4003, {"monitoringRate": 50})
    reports = [json.loads(hub.links[MONITORING].line()) for _ in range(10)]
    assert all(code == MONITOR and report["healthy"] is True for code, report in reports)


def test_a_hub_that_does_not_read_monitoring_gets_no_second_report(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                context.on("check", lambda m: context.logger.info("alive"))
                for number in range(700):
                    context.emit("e", "x" * 1000)
                context.logger.info("emitted")
                await asyncio.Event().wait()
            """
        )
    )
    assert (
        json.loads(hub.links[7].line())["msg"] == "emitted"
    )  # 700 KB wait for the hub, and nobody with them
    hub.say(4003, {"monitoringRate": 100})
    for _ in range(20):
        hub.say(5001, {"eventName": "check"})
        assert json.loads(hub.links[7].line())["msg"] == "alive"
    for _ in range(700):
        hub.event("e")
    reports = sum(code == MONITOR for code, _ in hub.messages)
    assert reports < 10
