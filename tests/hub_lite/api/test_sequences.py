"""Endpoints of Sequences: upload, look, start, delete."""

import asyncio
from typing import Any

import pytest

from tests.hub_lite.fakes import FakeProcess, until

from .conftest import ONE, Api

NOBODY = "0" * 36
ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"
START = f"/sequence/{ONE}/start"


@pytest.mark.parametrize(
    "content_type", [None, "", "application/octet-stream", "Application/Octet-Stream; x=y"]
)
async def test_a_package_is_taken(api: Api, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content_Type": content_type}
    answer = await api.ask("POST", "/sequence?appConfig=ignored", b"good", **headers)
    assert answer.status == 200
    assert list(answer.json) == ["id"]
    assert len(answer.json["id"]) == 36
    assert api.store.uploads[0].content == b"good"
    assert api.store.uploads[0].left


@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "application/json", "multipart/form-data", "application/gzip"],
)
async def test_a_package_of_another_type_is_refused(api: Api, content_type: str) -> None:
    answer = await api.ask("POST", "/sequence", b"good", Content_Type=content_type)
    assert (answer.status, answer.reason) == (415, "Invalid content-type")
    assert content_type in answer.error
    assert api.store.uploads == []


async def test_a_bad_package_is_said_to_be_bad(api: Api) -> None:
    answer = await api.ask("POST", "/sequence", b"bad")
    assert (answer.status, answer.error) == (422, "this is no package")
    assert api.store.uploads[0].left
    assert len((await api.ask("GET", "/sequences")).json) == 1


async def test_an_upload_whose_client_goes_away_is_let_go(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"POST /api/v1/sequence HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
    await until(lambda: api.store.uploads and api.store.uploads[0].content == b"half")
    writer.transport.abort()
    await until(lambda: api.store.uploads[0].left)
    assert list(api.store.sequences) == [ONE]
    del reader


async def test_sequences_are_listed_and_shown(api: Api) -> None:
    answer = await api.ask("GET", "/sequences")
    assert answer.status == 200
    (shown,) = answer.json
    assert shown == {
        "id": ONE,
        "config": {
            "type": "fake", "entrypointPath": "main.py", "language": "py", "name": "fake", "engines": {"python3": ">=3.11"},
            "id": ONE, "packageSize": 123,
        },
        "location": "hub-lite",
        "instances": [],
    }  # fmt: skip
    instance_id = await api.start()
    one = await api.ask("GET", f"/sequence/{ONE}")
    assert (one.status, one.json) == (200, shown | {"instances": [instance_id]})


async def test_a_sequence_that_is_not_there_is_not_found(api: Api) -> None:
    answer = await api.ask("GET", f"/sequence/{NOBODY}")
    assert (answer.status, answer.json) == (404, {"error": f"Sequence {NOBODY} not found"})


# --- start ------------------------------------------------------------------------------------------------------------


async def test_a_start_says_so_in_the_words_of_all_clients(api: Api) -> None:
    body = {
        "appConfig": {"k": 1},
        "args": ["a", {"b": None}],
        "instanceId": ID,
        "limits": {"memory": 5},
        "x": 1,
    }
    answer = await api.ask("POST", START, body)
    assert answer.status == 200
    assert answer.json == {
        "result": "success",
        "opStatus": "OK",
        "message": f"Sequence {ID} starting",
        "id": ID,
    }
    payload = api.hub.instance(ID).payload
    assert (payload.app_config, payload.args, payload.raw) == ({"k": 1}, ["a", {"b": None}], body)


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"null",
        b"{}",
        b'{"appConfig":null,"args":null,"limits":null,"instanceId":null,"inputTopic":null}',
    ],
)
async def test_a_start_needs_no_body(api: Api, body: bytes | None) -> None:
    answer = await api.ask("POST", START, body)
    assert answer.status == 200
    payload = api.hub.instance(answer.json["id"]).payload
    assert (payload.app_config, payload.args) == ({}, [])


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"appConfig": []}, 400, "appConfig must be an object, not '[]'"),
        ({"appConfig": "x"}, 400, "appConfig must be an object"),
        ({"args": {}}, 400, "args must be an array"),
        ({"args": "x" * 100}, 400, "args must be an array"),
        ({"limits": 5}, 400, "limits must be an object"),
        ({"inputTopic": 5}, 400, "inputTopic must be a string"),
        ({"instanceId": "short"}, 422, "Invalid Instance id"),
        ({"instanceId": 5}, 422, "Invalid Instance id"),
        ({"instanceId": ""}, 422, "Invalid Instance id"),
        ({"instanceId": "/" * 36}, 422, "Invalid Instance id"),
        ({"instanceId": "\u65e5" * 36}, 422, "Invalid Instance id"),
        ({"instanceId": [ID]}, 422, "Invalid Instance id"),
        (b"{", 400, "the body is not JSON"),
        ([1], 400, "the body must be a JSON object"),
    ],
)
async def test_a_wrong_start_is_refused_in_the_words_of_all_clients(
    api: Api, body: Any, status: int, said: str
) -> None:
    answer = await api.ask("POST", START, body, Content_Type="application/json")
    assert answer.status == status
    assert said in answer.error
    phrase = {400: "Bad Request", 422: "Unprocessable Entity"}[status]
    assert (answer.json["result"], answer.json["opStatus"]) == (
        "error", "Could not parse content" if body == b"{" else phrase,
    )  # fmt: skip
    assert api.adapter.launches == []


async def test_a_start_of_what_is_not_there_or_taken_is_refused(api: Api) -> None:
    nobody = await api.ask("POST", f"/sequence/{NOBODY}/start", {})
    assert (nobody.status, nobody.json["result"]) == (404, "error")
    assert nobody.error == f"Sequence {NOBODY} not found"
    await api.start(instanceId=ID)
    taken = await api.ask("POST", START, {"instanceId": ID})
    assert (taken.status, taken.json["opStatus"]) == (409, "Conflict")
    assert taken.error == "Instance with a given ID already exists"


async def test_a_start_that_fails_says_why_and_where_to_look(api: Api) -> None:
    async def fail(_: Any, process: FakeProcess) -> None:
        process.said = b"SyntaxError: invalid syntax\n"
        process.end(22)

    api.adapter.on_launch = fail
    answer = await api.ask("POST", START, {"instanceId": ID})
    assert answer.status == 400
    assert answer.json == {
        "result": "error",
        "opStatus": "Bad Request",
        "error": "Sequence failed on start: SyntaxError: invalid syntax",
        "id": ID,
    }
    assert (await api.ask("GET", f"/instance/{ID}")).json["status"] == "errored"


async def test_arguments_that_are_too_deep_for_a_runner_are_refused(api: Api) -> None:
    answer = await api.ask(
        "POST", START, b'{"args":' + b"[" * 500 + b"]" * 500 + b"}", Content_Type="application/json"
    )
    assert answer.status == 400
    assert "cannot be handed to a runner" in answer.error


async def test_a_closing_hub_starts_nothing(api: Api) -> None:
    await api.hub.close()
    answer = await api.ask("POST", START, {})
    assert (answer.status, answer.json["result"]) == (503, "error")
    assert (await api.ask("POST", "/sequence", b"good")).status == 503
    assert (await api.ask("DELETE", f"/sequence/{ONE}")).status == 503


# --- delete -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [None, "application/json"])
async def test_a_sequence_is_deleted_with_or_without_a_type(api: Api, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content_Type": content_type}
    answer = await api.ask("DELETE", f"/sequence/{ONE}", **headers)
    assert (answer.status, answer.json) == (200, {"opStatus": "OK", "id": ONE})
    again = await api.ask("DELETE", f"/sequence/{ONE}")
    assert (again.status, again.error) == (404, f"The sequence {ONE} does not exist.")


@pytest.mark.parametrize("force", ["false", "", "0", "no"])
async def test_a_sequence_in_use_is_not_deleted(api: Api, force: str) -> None:
    await api.start()
    answer = await api.ask("DELETE", f"/sequence/{ONE}", x_seq_kill_inst=force)
    assert (answer.status, answer.error) == (409, "Can't remove sequence in use.")


@pytest.mark.parametrize("force", ["true", "True", "1"])
async def test_a_sequence_in_use_is_deleted_by_force(api: Api, force: str) -> None:
    await api.start()  # whose process dies by force
    answer = await api.ask("DELETE", f"/sequence/{ONE}", x_seq_kill_inst=force)
    assert (answer.status, answer.json["id"]) == (200, ONE)
    assert (await api.ask("GET", "/sequences")).json == []
    assert (await api.ask("GET", "/instances")).json == []
