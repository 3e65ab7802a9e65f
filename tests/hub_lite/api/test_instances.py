"""Endpoints of Instances: look, health, stop, kill."""

import asyncio
from typing import Any

import pytest

from runner.protocol.lifecycle import State
from tests.hub_lite.fakes import until

from .conftest import ONE, Api

NOBODY = "0" * 36


async def test_an_instance_is_shown_and_listed(api: Api) -> None:
    instance_id = await api.start(appConfig={"k": 1}, args=["x"])
    answer = await api.ask("GET", f"/instance/{instance_id}")
    shown = answer.json
    assert answer.status == 200
    assert shown["sequence"]["id"] == ONE
    assert (shown["id"], shown["appConfig"], shown["args"], shown["status"]) == (
        instance_id,
        {"k": 1},
        ["x"],
        "running",
    )
    assert shown.keys() == {"id", "appConfig", "args", "provides", "sequence", "created", "started", "status"}
    assert (await api.ask("GET", "/instances")).json == [shown]
    await api.end(instance_id)
    ended = (await api.ask("GET", f"/instance/{instance_id}")).json
    assert ended["terminated"] == {"exitcode": 0, "reason": "Instance completed"}
    assert ended["status"] == "completed"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("GET", "/health"), ("POST", "/_stop"), ("POST", "/_kill"), ("GET", "/output"), ("GET", "/stdout"),
        ("GET", "/stderr"), ("GET", "/log"), ("POST", "/input"), ("POST", "/stdin"),
    ],
)  # fmt: skip
async def test_an_instance_that_is_not_there_is_not_found(api: Api, method: str, path: str) -> None:
    answer = await api.ask(method, f"/instance/{NOBODY}{path}")
    assert (answer.status, answer.json) == (404, {"error": f"Instance {NOBODY} not found"})


async def test_health_waits_for_the_first_report(api: Api) -> None:
    instance_id = await api.start()
    asking = asyncio.ensure_future(api.ask("GET", f"/instance/{instance_id}/health"))
    done, _ = await asyncio.wait({asking}, timeout=0.02)
    assert not done
    await api.runners[instance_id].say(3001, {"healthy": False, "why": "tired"})
    assert (await asking).json == {"healthy": False, "why": "tired", "processId": 4711}


async def test_health_of_one_that_ended_without_is_gone(api: Api) -> None:
    instance_id = await api.start()
    asking = asyncio.ensure_future(api.ask("GET", f"/instance/{instance_id}/health"))
    await api.end(instance_id)
    assert (await asking).status == 410


# --- stop -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"timeout": 1234, "canCallKeepalive": True}, {"timeout": 1234, "canCallKeepalive": True}),
        ([4001, {"timeout": 1234, "canCallKeepalive": True}], {"timeout": 1234, "canCallKeepalive": True}),
        ({}, {"timeout": 7000, "canCallKeepalive": False}),
        (None, {"timeout": 7000, "canCallKeepalive": False}),
        ({"timeout": None, "canCallKeepalive": None}, {"timeout": 7000, "canCallKeepalive": False}),
        ({"timeout": 1500.5}, {"timeout": 1500.5, "canCallKeepalive": False}),
    ],
)
async def test_a_stop_is_passed_on_and_answered_when_it_is_over(
    api: Api, body: Any, told: dict[str, Any]
) -> None:
    instance_id = await api.start()
    asking = asyncio.ensure_future(api.ask("POST", f"/instance/{instance_id}/_stop", body))
    assert await api.runners[instance_id].hear() == [4001, told]
    assert not asking.done()
    await api.end(instance_id, 138)
    answer = await asking
    assert answer.status == 202
    assert (answer.json["opStatus"], answer.json["id"], answer.json["status"]) == (
        "Accepted",
        instance_id,
        "completed",
    )


async def test_a_stop_that_is_not_heeded_is_answered_when_its_time_is_up(api: Api) -> None:
    instance_id = await api.start()
    answer = await api.ask("POST", f"/instance/{instance_id}/_stop", {"timeout": 0})
    assert answer.status == 202
    assert answer.json["status"] in ("stopping", "killing")


@pytest.mark.parametrize(
    "body",
    [
        {"timeout": -1}, {"timeout": "7"}, {"timeout": True}, {"timeout": [1]}, {"timeout": 86400001},
        b'{"timeout":1e400}', {"timeout": {}},
    ],
)  # fmt: skip
async def test_a_stop_with_a_wrong_timeout_is_refused(api: Api, body: Any) -> None:
    instance_id = await api.start()
    answer = await api.ask("POST", f"/instance/{instance_id}/_stop", body, Content_Type="application/json")
    assert answer.status == 400
    assert api.hub.instance(instance_id).state is State.RUNNING


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("_stop", {"canCallKeepalive": "yes"}, "Invalid canCallKeepalive format"),
        ("_stop", {"timeout": "x"}, "Invalid timeout format"),
        ("_kill", {"removeImmediately": 1}, "Invalid removeImmediately format"),
        ("_kill", [4002, {"removeImmediately": "x"}], "Invalid removeImmediately format"),
    ],
)
async def test_a_wrong_member_is_named(api: Api, path: str, body: Any, said: str) -> None:
    instance_id = await api.start()
    answer = await api.ask("POST", f"/instance/{instance_id}/{path}", body)
    assert answer.status == 400
    assert answer.error.startswith(said)
    assert api.hub.instance(instance_id).state is State.RUNNING


# --- kill -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{"removeImmediately": True}, [4002, {"removeImmediately": True}]])
async def test_a_kill_is_answered_at_once_and_may_remove(api: Api, body: Any) -> None:
    instance_id = await api.start()
    answer = await api.ask("POST", f"/instance/{instance_id}/_kill", body)
    assert answer.status == 202
    assert (answer.json["opStatus"], answer.json["status"]) == ("Accepted", "killing")
    assert await api.runners[instance_id].hear() == [4002, {}]
    await api.end(instance_id, 137)
    await until(lambda: not api.hub.instances())
    assert (await api.ask("GET", f"/instance/{instance_id}")).status == 404


async def test_a_kill_removes_an_ended_instance_from_the_lists_if_it_is_told_to(api: Api) -> None:
    instance_id = await api.start()
    await api.end(instance_id)
    await until(lambda: api.hub.instance(instance_id).is_over)
    assert (await api.ask("POST", f"/instance/{instance_id}/_kill", {})).status == 400
    answer = await api.ask("POST", f"/instance/{instance_id}/_kill", [4002, {"removeImmediately": True}])
    assert (answer.status, answer.json["status"]) == (202, "completed")
    assert (await api.ask("GET", f"/instance/{instance_id}")).status == 404


async def test_a_stopping_instance_can_be_killed_and_a_killed_one_again(api: Api) -> None:
    instance_id = await api.start()
    stopping = asyncio.ensure_future(api.ask("POST", f"/instance/{instance_id}/_stop", {"timeout": 60000}))
    assert (await api.runners[instance_id].hear())[0] == 4001
    for _ in range(2):
        answer = await api.ask("POST", f"/instance/{instance_id}/_kill", {})
        assert (answer.status, answer.json["status"]) == (202, "killing")
    await api.end(instance_id, 138)
    assert (await stopping).json["status"] == "completed", "a stop is answered when it is over"


@pytest.mark.parametrize("path", ["_stop", "_kill"])
async def test_what_has_ended_cannot_be_ended(api: Api, path: str) -> None:
    instance_id = await api.start()
    await api.end(instance_id)
    answer = await api.ask("POST", f"/instance/{instance_id}/{path}", {})
    assert (answer.status, answer.error) == (400, "Instance not running: it is completed")
