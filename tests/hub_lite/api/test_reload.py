"""New code for an Instance that runs: whom it is given, what is answered, and which packages stay for how long."""

import asyncio
from typing import Any

import pytest

from hub_lite.errors import Unavailable
from runner.protocol.lifecycle import State
from tests.hub_lite.fakes import FakeRunner, launched_where, until

from .conftest import ONE, Answer, Api


@pytest.fixture
async def able(api: Api) -> Api:
    """An API whose runners say that they can swap code."""

    async def play(launch: Any, process: Any) -> None:
        runner = FakeRunner(launch.instance_id, launched_where(launch.environment))
        api.runners[launch.instance_id] = runner
        api.processes[launch.instance_id] = process
        await runner.connect()
        await runner.ping(payload={"system": {"reload": True}})
        assert (await runner.hear())[0] == 4000
        await runner.say(3012, {"requires": "", "contentType": ""})

    api.adapter.on_launch = play
    return api


async def put(api: Api, name: str) -> None:
    answer = await api.ask("PUT", f"/sequence/{ONE}", name.encode())
    assert answer.status == 200, answer.body


def reloading(api: Api, instance_id: str) -> "asyncio.Task[Answer]":
    return asyncio.ensure_future(api.ask("POST", f"/instance/{instance_id}/_reload"))


async def test_an_instance_goes_on_with_the_present_package(able: Api) -> None:
    instance_id = await able.start()
    await put(able, "second")
    path = f"/instance/{instance_id}"
    assert (await able.ask("GET", path)).json["sequence"]["config"]["name"] == "fake"
    asking = reloading(able, instance_id)
    runner = able.runners[instance_id]
    assert await runner.hear() == [4900, {"path": "/nowhere/main.py"}]
    assert not asking.done()
    assert able.store.held == ["second"]
    await runner.say(3900, {"error": ""})
    answer = await asking
    assert (answer.status, answer.json) == (200, {"reloaded": True})
    shown = (await able.ask("GET", path)).json
    assert (shown["sequence"]["config"]["name"], shown["status"]) == ("second", "running")
    assert able.store.running[instance_id].sequence.sha256 == "second"
    assert (able.store.held, able.store.unused) == ([], ["0" * 64])


async def test_code_that_does_not_load_is_told_and_the_old_goes_on(able: Api) -> None:
    instance_id = await able.start()
    await put(able, "second")
    asking = reloading(able, instance_id)
    runner = able.runners[instance_id]
    await runner.hear()
    await runner.say(3900, {"error": "SyntaxError: main.py, line 3"})
    answer = await asking
    assert (answer.status, answer.reason, answer.error) == (
        422, "Unprocessable Entity", "SyntaxError: main.py, line 3",
    )  # fmt: skip
    assert able.hub.instance(instance_id).sequence.manifest.name == "fake"
    assert able.store.running[instance_id].sequence.sha256 == "0" * 64
    assert (able.store.held, able.store.unused) == ([], [])
    await put(able, "third")
    asking = reloading(able, instance_id)
    await runner.hear()
    await runner.say(3900, {"error": ""})
    assert (await asking).status == 200


async def test_the_old_package_stays_while_another_instance_runs_it(able: Api) -> None:
    first, second = await able.start(), await able.start()
    await put(able, "second")
    for instance_id, unused in ((first, []), (second, ["0" * 64])):
        asking = reloading(able, instance_id)
        await able.runners[instance_id].hear()
        await able.runners[instance_id].say(3900, {"error": ""})
        assert (await asking).status == 200
        assert able.store.unused == unused


async def test_the_same_package_may_be_loaded_again(able: Api) -> None:
    instance_id = await able.start()
    asking = reloading(able, instance_id)
    await able.runners[instance_id].hear()
    await able.runners[instance_id].say(3900, {})
    assert (await asking).status == 200
    assert (able.store.held, able.store.unused) == ([], [])


async def test_a_second_request_waits_for_the_first_and_takes_what_is_present_then(able: Api) -> None:
    instance_id = await able.start()
    runner = able.runners[instance_id]
    await put(able, "second")
    first = reloading(able, instance_id)
    await runner.hear()
    second = reloading(able, instance_id)
    await put(able, "third")
    assert able.store.held == ["second"]
    await runner.say(3900, {"error": ""})
    assert (await first).status == 200
    await runner.hear()
    assert able.store.held == ["third"]
    await runner.say(3900, {"error": ""})
    assert (await second).status == 200
    assert able.hub.instance(instance_id).sequence.manifest.name == "third"


async def test_a_package_that_is_replaced_before_it_is_held_is_not_used(able: Api) -> None:
    instance_id = await able.start()
    able.store.cannot_hold = 2
    asking = reloading(able, instance_id)
    await able.runners[instance_id].hear()
    await able.runners[instance_id].say(3900, {"error": ""})
    assert (await asking).status == 200


async def test_a_runner_that_cannot_is_not_asked(api: Api) -> None:
    instance_id = await api.start()
    answer = await reloading(api, instance_id)
    assert answer.status == 409
    assert "cannot swap code while it runs" in answer.error
    await api.runners[instance_id].say(3001, {"healthy": True})
    assert await api.runners[instance_id].hear() == [4004, {}]


async def test_what_stops_or_has_ended_takes_no_new_code(able: Api) -> None:
    instance_id = await able.start()
    stopping = asyncio.ensure_future(able.ask("POST", f"/instance/{instance_id}/_stop", {}))
    await until(lambda: able.hub.instance(instance_id).state is State.STOPPING)
    answer = await reloading(able, instance_id)
    assert (answer.status, "is stopping" in answer.error) == (409, True)
    await able.end(instance_id, 138)
    await stopping
    answer = await reloading(able, instance_id)
    assert (answer.status, answer.error) == (400, "Instance not running: it is completed")


async def test_an_instance_that_ends_before_it_answers_is_gone(able: Api) -> None:
    instance_id = await able.start()
    asking = reloading(able, instance_id)
    await able.runners[instance_id].hear()
    await able.end(instance_id, 23)
    answer = await asking
    assert (answer.status, "has ended (errored)" in answer.error) == (410, True)
    assert able.store.held == []
    await until(lambda: able.store.running == {})


async def test_what_ends_as_soon_as_it_has_answered_is_not_remembered(able: Api) -> None:
    instance_id = await able.start()
    await put(able, "second")
    asking = reloading(able, instance_id)
    runner = able.runners[instance_id]
    await runner.hear()
    await runner.say(3900, {"error": ""})
    await able.end(instance_id)
    assert (await asking).status == 200
    await until(lambda: able.store.running == {} and able.store.held == [])


@pytest.mark.parametrize("settings_of_hub", [{"start_timeout": 0.1}])
async def test_an_answer_that_does_not_come_is_told_and_may_still_come(able: Api) -> None:
    instance_id = await able.start()
    await put(able, "second")
    runner = able.runners[instance_id]
    first, second = reloading(able, instance_id), reloading(able, instance_id)
    for asking in (first, second):
        answer = await asking
        assert (answer.status, answer.reason) == (504, "Gateway Timeout")
        assert "within 0.1 s" in answer.error
    await runner.hear()
    assert able.store.held == ["second"]
    await runner.say(3900, {"error": ""})
    await runner.hear()  # that of the second
    await runner.say(3900, {"error": "no"})
    await until(lambda: able.store.held == [])
    assert able.hub.instance(instance_id).sequence.manifest.name == "second"
    assert not able.hub.instance(instance_id).is_over


async def test_a_client_that_goes_away_changes_nothing(able: Api) -> None:
    instance_id = await able.start()
    await put(able, "second")
    asking = reloading(able, instance_id)
    runner = able.runners[instance_id]
    await runner.hear()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await runner.say(3900, {"error": ""})
    await until(lambda: able.hub.instance(instance_id).sequence.manifest.name == "second")
    await until(lambda: able.store.held == [])


async def test_a_package_whose_use_cannot_be_noted_stays_held(
    able: Api, caplog: pytest.LogCaptureFixture
) -> None:
    instance_id = await able.start()
    await put(able, "second")
    able.store.cannot_remember = Unavailable("the disk is full")
    asking = reloading(able, instance_id)
    await able.runners[instance_id].hear()
    await able.runners[instance_id].say(3900, {"error": ""})
    assert (await asking).status == 200
    assert able.store.held == ["second"]
    assert f"the new code of Instance {instance_id} cannot be noted: the disk is full" in caplog.text


async def test_the_code_of_a_sequence_that_is_being_deleted_is_not_given(able: Api) -> None:
    instance_id = await able.start()
    del able.hub._sequences[ONE]
    answer = await reloading(able, instance_id)
    assert (answer.status, answer.error) == (404, f"Sequence {ONE} is deleted")


async def test_an_answer_that_nobody_asked_for_is_noted(able: Api) -> None:
    instance_id = await able.start()
    await able.runners[instance_id].say(3900, {"error": ""})
    log = able.hub.instance(instance_id).log
    await until(lambda: b"a RELOADED that nobody asked for is ignored" in log.tail(10_000))


async def test_new_code_is_in_the_audit(able: Api) -> None:
    instance_id = await able.start()
    asking = reloading(able, instance_id)
    await able.runners[instance_id].hear()
    await able.runners[instance_id].say(3900, {"error": ""})
    await asking
    async with able.http.get(f"{able.url}/audit") as answer:
        async with asyncio.timeout(10):
            while b'"opCode":5,' not in (line := await answer.content.readline()):
                pass
    assert instance_id.encode() in line
