"""The context calls the author's handlers, all of them, in order, and reports what they raise."""

import asyncio
import concurrent.futures
import logging
import threading

import pytest

from sequence_sdk import Context
from sequence_sdk.context import CalledInLoop, Destroyed, LocalHost, LoopIsOver
from sequence_sdk.errors import UnsupportedContentType
from sequence_sdk.hub import HubRefused, HubUnreachable
from sequence_sdk.state import MemoryStore


class Host:
    """The process around the context; it keeps what it is told."""

    def __init__(self):
        self.told = []
        self.hub = self.space = self.loop = None

    def emit(self, name, message):
        self.told.append(("emit", name, message))

    def keep_alive(self, seconds):
        self.told.append(("keep_alive", seconds))

    def end(self, error):
        self.told.append(("end", error))


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def context(host):
    return Context(
        host=host, config={"k": 1}, instance_id="i" * 36, logger=logging.getLogger("tests.context")
    )


async def settle():
    """Let every task come to its end or to its wait."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait_for(asyncio.gather(*others), 5)


# What is given


def test_the_context_shows_its_configuration_id_and_logger(context):
    assert context.config == {"k": 1}
    assert context.instance_id == "i" * 36
    assert context.logger.name == "tests.context"


def test_without_values_there_are_empty_ones(host):
    context = Context(host=host)
    assert context.config == {}
    assert context.instance_id == ""
    assert context.logger.name == "Sequence"
    assert Context(host=host).config is not context.config


# Stop


async def test_stop_handlers_run_in_order_sync_and_async_alike(context):
    calls = []

    async def first(timeout, can_keep_alive):
        await asyncio.sleep(0)
        calls.append(("first", timeout, can_keep_alive))

    def second(timeout, can_keep_alive):
        calls.append(("second", timeout, can_keep_alive))

    def third(timeout, can_keep_alive):
        return first(timeout + 1, can_keep_alive)

    context.set_stop_handler(first)
    context.add_stop_handler(second)
    context.set_stop_handler(third)
    assert await context.call_stop_handlers(2.5, False) is False
    assert calls == [("first", 2.5, False), ("second", 2.5, False), ("first", 3.5, False)]


def test_the_context_knows_whether_anybody_wants_to_hear_of_a_stop(context):
    assert not context.has_stop_handlers
    context.set_stop_handler(lambda timeout, can_keep_alive: None, "ignored", 1)
    assert context.has_stop_handlers


async def test_without_handlers_a_stop_goes_on(context):
    assert await context.call_stop_handlers(1, True) is False


async def test_failures_of_stop_handlers_are_raised_together_after_all_have_run(context):
    calls = []

    def bad(timeout, can_keep_alive):
        raise ValueError("bad")

    async def worse(timeout, can_keep_alive):
        raise KeyError("worse")

    context.set_stop_handler(bad)
    context.set_stop_handler(lambda timeout, can_keep_alive: calls.append("between"))
    context.set_stop_handler(worse)
    context.set_stop_handler(lambda timeout, can_keep_alive: calls.append("last"))
    with pytest.raises(ExceptionGroup, match="stop handlers failed") as caught:
        await context.call_stop_handlers(1, False)
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]
    assert calls == ["between", "last"]


async def test_a_cancelled_stop_handler_is_not_a_failure_to_report(context):
    context.set_stop_handler(lambda timeout, can_keep_alive: asyncio.Event().wait())
    task = asyncio.create_task(context.call_stop_handlers(1, False))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("leave", [True, False])
async def test_a_handler_keeps_the_sequence_alive_only_with_leave(context, host, leave):
    async def handler(timeout, can_keep_alive):
        await context.keep_alive(0.001)

    context.set_stop_handler(handler)
    assert await context.call_stop_handlers(1, leave) is leave
    assert host.told == [("keep_alive", 0.001)]


async def test_keeping_alive_before_a_stop_does_not_call_it_off(context, host):
    await context.keep_alive()
    assert host.told == [("keep_alive", 0)]
    assert await context.call_stop_handlers(1, True) is False


# Health


async def test_without_a_check_all_is_well(context):
    assert await context.health() == {"healthy": True}


@pytest.mark.parametrize("report", [{"healthy": False}, {"healthy": True, "queue": 7}, {}])
async def test_the_report_of_the_check_is_given_as_it_is(context, report):
    context.set_health_check(lambda: report)
    assert await context.health() is report


async def test_a_check_may_be_async(context):
    async def check():
        await asyncio.sleep(0)
        return {"healthy": False}

    context.set_health_check(check)
    assert await context.health() == {"healthy": False}


async def test_the_last_check_that_was_set_counts(context):
    context.set_health_check(lambda: {"healthy": True})
    context.set_health_check(lambda: {"healthy": False})
    assert await context.health() == {"healthy": False}


@pytest.mark.parametrize("report", [None, True, False, "well", [], 0])
async def test_a_check_that_returns_no_dict_is_told(context, report):
    context.set_health_check(lambda: report)
    with pytest.raises(
        TypeError, match=r'the health check returned .*, not a dict such as \{"healthy": True\}'
    ):
        await context.health()


async def test_what_a_check_raises_comes_out(context):
    def check():
        raise OSError("database is gone")

    context.set_health_check(check)
    with pytest.raises(OSError, match="database is gone"):
        await context.health()


async def test_monitoring_handlers_see_the_report_so_far_and_add_to_it_in_order(context):
    seen = []

    def merged(report):
        seen.append(dict(report))
        return {"a": 1, "b": 1}

    async def itself(report):
        await asyncio.sleep(0)
        seen.append(dict(report))
        report["b"] = 2
        return report

    def nothing(report):
        seen.append(dict(report))

    for handler in (merged, itself, nothing):
        context.add_monitoring_handler(handler)
    assert await context.health() == {"healthy": True, "a": 1, "b": 2}
    assert seen == [
        {"healthy": True},
        {"healthy": True, "a": 1, "b": 1},
        {"healthy": True, "a": 1, "b": 2},
    ]
    assert await context.health() == {"healthy": True, "a": 1, "b": 2}


async def test_monitoring_handlers_begin_with_what_the_check_says(context):
    context.add_monitoring_handler(lambda report: {"seen": report["healthy"]})
    context.set_health_check(lambda: {"healthy": False})
    assert await context.health() == {"healthy": False, "seen": False}


@pytest.mark.parametrize("report", [True, False, "well", [], 0])
async def test_a_monitoring_handler_that_returns_no_dict_is_told(context, report):
    context.add_monitoring_handler(lambda _: report)
    with pytest.raises(TypeError, match=r"a monitoring handler returned .*, not a dict"):
        await context.health()


# Kill


def test_the_context_knows_whether_anybody_wants_to_hear_of_a_kill(context):
    assert not context.has_kill_handlers
    context.add_kill_handler(lambda: None)
    assert context.has_kill_handlers


async def test_kill_handlers_run_at_the_same_time_and_what_they_raise_is_logged(context, caplog):
    calls, both = [], asyncio.Barrier(2)

    async def slow(name):
        await both.wait()
        calls.append(name)

    async def leaves():
        raise SystemExit(3)

    context.add_kill_handler(lambda: slow("first"))
    context.add_kill_handler(leaves)
    context.add_kill_handler(lambda: 1 / 0)
    context.add_kill_handler(lambda: calls.append("quick"))
    context.add_kill_handler(lambda: slow("second"))
    await asyncio.wait_for(context.call_kill_handlers(), 5)
    assert calls[0] == "quick"
    assert sorted(calls[1:]) == ["first", "second"]
    assert [(record.getMessage(), record.exc_info[0]) for record in caplog.records] == [
        ("a kill handler failed", SystemExit),
        ("a kill handler failed", ZeroDivisionError),
    ]


# The end


def test_end_and_destroy_are_told_to_the_host(context, host):
    error = ValueError("no")
    context.end()
    context.destroy(error)
    context.destroy("no more")
    context.destroy()
    assert host.told[:2] == [("end", None), ("end", error)]
    assert [(type(ended), str(ended)) for _, ended in host.told[2:]] == [
        (Destroyed, "no more"),
        (Destroyed, "context.destroy() was called without an error"),
    ]


async def test_the_deadline_is_a_moment_of_the_loop(context):
    assert context.deadline is None
    context.set_deadline(asyncio.get_running_loop().time())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout_at(context.deadline):
            await asyncio.Event().wait()
    context.set_deadline(None)
    assert context.deadline is None
    async with asyncio.timeout_at(context.deadline):
        await asyncio.sleep(0)


# The hub


def test_the_hub_and_the_space_are_those_of_the_host(context, host):
    host.hub, host.space = object(), object()
    assert (context.hub, context.space) == (host.hub, host.space)


async def test_the_state_is_kept_at_the_hub_for_this_instance(context, host):
    host.hub = MemoryStore()
    await context.state.set("k", 1)
    assert await host.hub.state("i" * 36) == {"k": 1}


async def test_a_store_comes_before_the_hub(host):
    store = MemoryStore()
    context = Context(host=host, instance_id="me", store=store)
    await context.state.set("k", 1)
    assert await store.state("me") == {"k": 1}


def test_a_topic_is_the_same_for_the_same_name_and_type(context):
    topic = context.topic("orders")
    assert (topic.name, topic.content_type) == ("orders", "application/x-ndjson")
    assert context.topic("orders") is topic
    assert context.topic("orders", "text/plain") is not topic
    with pytest.raises(UnsupportedContentType):
        context.topic("orders", "image/png")


async def test_topics_are_flushed_and_what_fails_is_returned(context, host):
    sent = []

    class Hub:
        async def send_topic(self, name, chunks, *, content_type, end=False):
            await asyncio.sleep(0)
            if name == "bad":
                raise HubRefused(415, "another type")
            sent.append((name, chunks))

    host.hub = Hub()
    assert await context.flush_topics() == []
    await context.topic("good").write(1)
    await context.topic("bad").write(1)
    [failure] = await context.flush_topics()
    assert str(failure) == "another type"
    assert sent == [("good", b"1\n")]
    assert await context.flush_topics() == []


# Threads


async def double(number, *, plus=0):
    await asyncio.sleep(0)
    return 2 * number + plus


async def test_a_thread_runs_an_async_function_in_the_loop(context, host):
    host.loop = asyncio.get_running_loop()

    async def where():
        return asyncio.get_running_loop()

    assert await asyncio.to_thread(context.from_thread, double, 4, plus=1) == 9
    assert await asyncio.to_thread(context.from_thread, where) is host.loop


async def test_a_thread_gets_what_the_function_raises(context, host):
    host.loop = asyncio.get_running_loop()

    async def bad():
        raise TimeoutError("mine")

    async def cancelled():
        raise asyncio.CancelledError

    with pytest.raises(TimeoutError, match="mine"):
        await asyncio.to_thread(context.from_thread, bad)

    def in_a_thread():
        with pytest.raises(concurrent.futures.CancelledError):
            context.from_thread(cancelled)

    await asyncio.to_thread(in_a_thread)


async def test_a_thread_waits_as_long_as_it_takes(context, host, monkeypatch):
    monkeypatch.setattr("sequence_sdk.context._LOOK", 0.001)
    host.loop = asyncio.get_running_loop()
    go = asyncio.Event()

    async def wait():
        host.loop.call_later(0.02, go.set)
        await go.wait()
        return "gone"

    assert await asyncio.to_thread(context.from_thread, wait) == "gone"


async def test_a_loop_does_not_wait_for_itself(context, host):
    host.loop = asyncio.get_running_loop()
    with pytest.raises(CalledInLoop, match="write `await` before the call itself"):
        context.from_thread(double, 1)


def test_a_loop_that_is_closed_is_told(context, host):
    host.loop = asyncio.new_event_loop()
    host.loop.close()
    with pytest.raises(LoopIsOver, match="the Sequence has ended"):
        context.from_thread(double, 1)


@pytest.mark.parametrize("turns", [0, 1])
def test_a_thread_does_not_wait_for_a_loop_that_ends(context, host, monkeypatch, turns):
    monkeypatch.setattr("sequence_sdk.context._LOOK", 0.01)
    host.loop = loop = asyncio.new_event_loop()
    asked, outcome = threading.Event(), []
    begin = loop.call_soon_threadsafe

    def call_soon_threadsafe(*args, **options):
        begin(*args, **options)
        asked.set()

    loop.call_soon_threadsafe = call_soon_threadsafe

    def work():
        try:
            context.from_thread(asyncio.sleep, 60)
        except LoopIsOver as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert asked.wait(5)
    if turns:  # the function has begun: the end of the loop cancels it, as the runner's does
        loop.run_until_complete(asyncio.sleep(0))
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop._ready.clear()
    loop.close()
    thread.join(5)
    assert len(outcome) == 1


# Events


@pytest.mark.parametrize("message", ["text", "", 0, None, False, [], {}, {"a": 1}])
async def test_every_handler_of_an_event_gets_its_message(context, message):
    calls = []

    async def slow(message):
        await asyncio.sleep(0)
        calls.append(("slow", message))

    context.on("ping", slow)
    context.on("ping", lambda message: calls.append(("quick", message)))
    context.on("pong", lambda message: calls.append(("other", message)))
    context.dispatch("ping", message)
    await settle()
    assert calls == [("quick", message), ("slow", message)]


async def test_an_event_without_handlers_is_nothing(context):
    context.dispatch("ping", 1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_events_are_handled_in_the_order_they_came(context):
    calls = []
    context.on("ping", calls.append)
    for number in range(5):
        context.dispatch("ping", number)
    await settle()
    assert calls == [0, 1, 2, 3, 4]


async def test_a_failing_event_handler_is_logged_and_the_others_run(context, caplog):
    calls = []

    async def bad(message):
        raise ValueError(f"cannot take {message}")

    context.on("ping", bad)
    context.on("ping", calls.append)
    context.dispatch("ping", 7)
    await settle()
    assert calls == [7]
    [record] = caplog.records
    assert record.getMessage() == "handler of event 'ping' failed"
    assert str(record.exc_info[1]) == "cannot take 7"


@pytest.mark.parametrize("message", ["", 0, None, {"a": [1]}])
def test_an_event_is_sent_with_its_message(context, host, message):
    context.emit("done", message)
    assert host.told == [("emit", "done", message)]


def test_an_event_without_message_has_an_empty_one(context, host):
    context.emit("done")
    assert host.told == [("emit", "done", "")]


# A context for tests


async def test_a_context_without_a_host_keeps_what_it_is_told():
    context = Context()
    context.emit("done")
    context.emit("done", {"a": 1})
    context.add_stop_handler(lambda *_: context.keep_alive(0.001))
    assert await context.call_stop_handlers(1, True)
    context.end()
    context.destroy("no")
    host = context._host
    assert isinstance(host, LocalHost)
    assert host.events == [("done", ""), ("done", {"a": 1})]
    assert host.keep_alives == [0.001]
    assert [str(error) for error in host.ends] == ["None", "no"]


@pytest.mark.parametrize("message", [object(), float("nan"), {1}], ids=["object", "nan", "set"])
def test_a_context_without_a_host_refuses_what_no_hub_takes(message):
    with pytest.raises(TypeError, match=r"emit\('e'\): the message is not JSON"):
        Context().emit("e", message)


async def test_a_context_without_a_host_keeps_its_state_in_memory():
    context = Context()
    await context.state.set("k", [1])
    assert await context.state.all() == {"k": [1]}
    assert await Context().state.all() == {}


def test_a_context_without_a_host_has_no_hub():
    context = Context()
    with pytest.raises(HubUnreachable, match=r"context.hub \(this context was made without one\)"):
        _ = context.hub
    with pytest.raises(HubUnreachable, match=r"context.space \(this context was made without one\)"):
        _ = context.space


def test_a_context_without_a_loop_runs_async_functions_in_one_of_its_own():
    context = Context()
    context.from_thread(context.state.set, "k", 1)
    assert context.from_thread(context.state.get, "k") == 1


def test_the_configuration_is_what_it_was_made_with():
    config = ()
    typed: Context[tuple] = Context(config=config)
    assert typed.config is config
    assert Context[dict]().config == {}


async def test_other_code_starts_without_the_handlers_of_the_code_before(context):
    called = []
    context.set_stop_handler(lambda *_: called.append("stop"))
    context.add_kill_handler(lambda: called.append("kill"))
    context.add_monitoring_handler(lambda report: called.append("monitoring"))
    context.set_health_check(lambda: called.append("health") or {"healthy": False})
    context.on("x", lambda message: called.append("event"))
    context.forget_handlers()
    context.dispatch("x", None)
    assert await context.health() == {"healthy": True}
    assert await context.call_stop_handlers(1.0, False) is False
    assert not context.has_stop_handlers
    assert not context.has_kill_handlers
    assert called == []


async def test_a_stop_handler_may_take_nothing_or_what_it_can(context):
    called = []

    async def nothing():
        called.append("nothing")

    def optional(seconds=0, can_keep_alive=None):
        called.append((seconds, can_keep_alive))

    for handler in (nothing, optional, lambda *given: called.append(given), {}.setdefault):
        context.set_stop_handler(handler)
    await context.call_stop_handlers(2.5, True)
    assert called == ["nothing", (2.5, True), (2.5, True)]


async def test_a_context_knows_whether_the_author_has_a_say_in_the_health(host):
    for register in (
        lambda context: context.set_health_check(lambda: {"healthy": True}),
        lambda context: context.add_monitoring_handler(lambda report: None),
    ):
        context = Context(
            host=host, config={}, instance_id="i" * 36, logger=logging.getLogger("tests.context")
        )
        assert not context.has_health_handlers
        register(context)
        assert context.has_health_handlers
