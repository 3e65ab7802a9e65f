"""The context calls the author's handlers, all of them, in order, and reports what they raise."""

import asyncio
import logging

import pytest

from sequence_sdk import Context


class Host:
    """The process around the context; it keeps what it is told."""

    def __init__(self):
        self.told = []

    def emit(self, name, message):
        self.told.append(("emit", name, message))

    def keep_alive(self, seconds):
        self.told.append(("keep_alive", seconds))


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

    for handler in (first, second, third):
        context.set_stop_handler(handler)
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


def test_without_a_check_all_is_well(context):
    assert context.health() == {"healthy": True}


@pytest.mark.parametrize("report", [{"healthy": False}, {"healthy": True, "queue": 7}, {}])
def test_the_report_of_the_check_is_given_as_it_is(context, report):
    context.set_health_check(lambda: report)
    assert context.health() is report


def test_the_last_check_that_was_set_counts(context):
    context.set_health_check(lambda: {"healthy": True})
    context.set_health_check(lambda: {"healthy": False})
    assert context.health() == {"healthy": False}


@pytest.mark.parametrize("report", [None, True, False, "well", [], 0])
def test_a_check_that_returns_no_dict_is_told(context, report):
    context.set_health_check(lambda: report)
    with pytest.raises(TypeError, match=r'returned .*, not a dict such as \{"healthy": True\}'):
        context.health()


def test_what_a_check_raises_comes_out(context):
    def check():
        raise OSError("database is gone")

    context.set_health_check(check)
    with pytest.raises(OSError, match="database is gone"):
        context.health()


def test_a_coroutine_function_is_refused_as_a_check(context):
    async def check():
        return {"healthy": True}

    with pytest.raises(TypeError, match="write `def`, not `async def`"):
        context.set_health_check(check)
    assert context.health() == {"healthy": True}


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
