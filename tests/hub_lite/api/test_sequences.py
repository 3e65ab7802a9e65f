"""Endpoints of Sequences: upload, replace, go back to a version, look, start, delete."""

import asyncio
import dataclasses
import json
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub_lite.hub import Hub
from hub_lite.instances import StartPayload
from hub_lite.ports import LeftOver
from tests.hub_lite.fakes import DEADLINE, FakeProcess, stored_sequence, until

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
    [
        "application/x-www-form-urlencoded",
        "application/json",
        "multipart/mixed; boundary=b",
        "application/gzip",
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/sequence"), ("PUT", f"/sequence/{ONE}")])
async def test_a_package_of_another_type_is_refused(
    api: Api, content_type: str, method: str, path: str
) -> None:
    answer = await api.ask(method, path, b"good", Content_Type=content_type)
    assert (answer.status, answer.reason) == (415, "Invalid content-type")
    assert content_type in answer.error
    assert api.store.uploads == []


async def test_a_bad_package_is_said_to_be_bad(api: Api) -> None:
    answer = await api.ask("POST", "/sequence", b"bad")
    assert (answer.status, answer.error) == (422, "this is no package")
    assert api.store.uploads[0].left
    assert len((await api.ask("GET", "/sequences")).json) == 1


@pytest.mark.parametrize("settings_of_hub", [{"upload_timeout": 0.2}])
@pytest.mark.parametrize("target", ["POST /api/v1/sequence", f"PUT /api/v1/sequence/{ONE}"])
@pytest.mark.parametrize("content_type", ["application/octet-stream", "multipart/form-data; boundary=b"])
async def test_a_package_that_does_not_arrive_in_time_is_refused_however_its_bytes_trickle(
    api: Api, target: str, content_type: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = f"{target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: 100000\r\n\r\n"
    writer.write(head.encode() + b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n')

    async def trickle() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.01)

    sender = asyncio.create_task(trickle())
    try:
        answer = await asyncio.wait_for(reader.readuntil(b"send it again"), DEADLINE)
    finally:
        sender.cancel()
        writer.transport.abort()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert (
        b"has not arrived within 0.2 s (setting timings.uploadTimeout), and nothing of it is kept" in answer
    )
    assert api.store.uploads[0].left
    assert [one.sha256 for one in api.store.sequences.values()] == ["0" * 64]
    assert (await api.ask("POST", "/sequence", b"good")).status == 200, "others are taken as before"


@pytest.mark.parametrize("settings_of_hub", [{"upload_timeout": 0.0}])
async def test_without_a_limit_a_package_may_take_its_time(api: Api) -> None:
    assert (await api.ask("POST", "/sequence", b"good")).status == 200


async def test_an_upload_whose_client_goes_away_is_let_go(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"POST /api/v1/sequence HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
    await until(lambda: api.store.uploads and api.store.uploads[0].content == b"half")
    writer.transport.abort()
    await until(lambda: api.store.uploads[0].left)
    assert list(api.store.sequences) == [ONE]
    del reader


# --- forms ------------------------------------------------------------------------------------------------------------


def form(*parts: tuple[str, bytes], boundary: str = "b", **headers: str) -> bytes:
    """Return a form, written by hand."""
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()).encode()
    text = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n%b\r\n%b\r\n'
        % (boundary.encode(), name.encode(), more, content)
        for name, content in parts
    )
    return text + f"--{boundary}--\r\n".encode()


FORM = "multipart/form-data; boundary=b"


async def test_a_form_gives_a_package_and_the_configuration_of_its_starts(api: Api) -> None:
    body = aiohttp.FormData()
    body.add_field("appConfig", '{"k": [1, "\u00e9"]}', content_type="application/json")
    body.add_field("file", b"good", filename="a.tar.gz", content_type="application/gzip")
    async with api.http.post(f"{api.url}/sequence", data=body) as answer:
        assert answer.status == 200
        sequence_id = (await answer.json())["id"]
    assert api.store.uploads[0].content == b"good"
    shown = (await api.ask("GET", f"/sequence/{sequence_id}")).json
    assert shown["appConfig"] == {"k": [1, "\u00e9"]}
    assert "appConfig" not in (await api.ask("GET", f"/sequence/{ONE}")).json


@pytest.mark.parametrize(
    ("parts", "config"),
    [
        ([("file", b"good")], {}),
        ([("file", b"good"), ("appConfig", b'{"k":1}')], {"k": 1}),
        ([("appConfig", b'{"k":1}'), ("file", b"good")], {"k": 1}),
        ([("x", b"y" * 100_000), ("file", b"good"), ("appConfig", b" {} ")], {}),
        ([("file", b"good"), ("appConfig", b"")], {}),
    ],
    ids=["alone", "file first", "file last", "others too", "empty"],
)
async def test_parts_come_in_any_order_and_others_do_not_matter(
    api: Api, parts: list[tuple[str, bytes]], config: dict[str, Any]
) -> None:
    answer = await api.ask("POST", "/sequence", form(*parts), Content_Type=FORM)
    assert answer.status == 200
    assert api.store.uploads[0].content == b"good"
    assert api.store.sequences[answer.json["id"]].app_config == config


async def test_parts_may_be_in_base64(api: Api) -> None:
    body = form(("file", b"Z29v\r\nZA=="), Content_Transfer_Encoding="base64")
    answer = await api.ask("POST", "/sequence", body, Content_Type=FORM)
    assert answer.status == 200, answer.body
    assert api.store.uploads[0].content == b"good"


async def test_the_package_of_a_form_is_taken_while_it_comes(api: Api) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(
        b"POST /api/v1/sequence HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + FORM.encode()
        + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    )  # fmt: skip
    first = form(("file", b"x" * 300_000)).removesuffix(b"\r\n--b--\r\n")
    writer.write(b"%x\r\n%b\r\n" % (len(first), first))
    await until(lambda: api.store.uploads and len(api.store.uploads[0].content) > 200_000)
    writer.transport.abort()
    await until(lambda: api.store.uploads[0].left)
    assert list(api.store.sequences) == [ONE]


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        ("multipart/form-data", form(("file", b"good")), "the form is malformed: boundary missed"),
        (FORM, b"", "the form is malformed"),
        (FORM, b"good", "the form is malformed"),
        (FORM, b"--b--\r\n", "no part named file"),
        (FORM, form(("appConfig", b"{}")), "no part named file"),
        (FORM, form(("file", b"good"), ("file", b"good")), "more than one part named file"),
        (FORM, form(("file", b"good"))[:-12], "the form is malformed"),
        (FORM, form(("file", b"good"), Content_Transfer_Encoding="x"), "the form is malformed"),
        (FORM, form(("file", b"good"), ("appConfig", b"{")), "appConfig must be a JSON object, but it is not"),
        (FORM, form(("file", b"good"), ("appConfig", b"[1]")), "appConfig must be a JSON object, not '[1]'"),
        (FORM, form(("file", b"good"), ("appConfig", b'"' + "\u00e9".encode() * 99 + b'"')), "JSON object, not"),
        (
            FORM,
            form(("file", b"good"), ("appConfig", b'{"a":' + b"[" * 500 + b"]" * 500 + b"}")),
            "appConfig cannot be handed to a runner",
        ),
        (
            FORM,
            form(("file", b"good"), Content_Type="multipart/mixed; boundary=c"),
            "malformed",
        ),
    ],
)  # fmt: skip
async def test_a_form_that_is_wrong_is_said_to_be_so_and_leaves_nothing(
    api: Api, content_type: str, body: bytes, said: str
) -> None:
    answer = await api.ask("POST", "/sequence", body, Content_Type=content_type)
    assert (answer.status, said in answer.error) == (400, True), answer.body
    assert list(api.store.sequences) == [ONE]
    assert all(upload.left for upload in api.store.uploads)


@pytest.mark.parametrize("settings_of_hub", [{"max_body_bytes": 1000}])
async def test_a_configuration_is_no_longer_than_a_json_body(api: Api) -> None:
    long = json.dumps({"k": "x" * 1000}).encode()
    for parts in ([("appConfig", long), ("file", b"good")], [("file", b"good"), ("appConfig", long)]):
        answer = await api.ask("POST", "/sequence", form(*parts), Content_Type=FORM)
        assert (answer.status, answer.error) == (413, "appConfig may have 1000 bytes at most")
    assert (await api.ask("POST", "/sequence", form(("file", b"x" * 5000)), Content_Type=FORM)).status == 200


@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionHeader")
@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionParam")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
async def test_what_is_left_of_a_form_gives_the_whole_package_or_an_error_of_the_clients(
    api: Api, data: st.DataObject
) -> None:
    whole = form(("appConfig", b'{"k":1}'), ("file", b"good"))
    cut = data.draw(st.integers(0, len(whole)))
    inserted = data.draw(st.binary(max_size=6))
    at = data.draw(st.integers(0, cut))
    body = whole[:at] + inserted + whole[at:cut]
    before = len(api.store.sequences)
    answer = await api.ask("POST", "/sequence", body, Content_Type=FORM)
    assert answer.status in (200, 400), answer.body
    assert len(api.store.sequences) == before + (answer.status == 200)


# --- replace ----------------------------------------------------------------------------------------------------------


async def test_a_sequence_is_replaced_and_keeps_its_id(api: Api) -> None:
    sequence_id = (await api.ask("POST", "/sequence", b"old")).json["id"]
    answer = await api.ask("PUT", f"/sequence/{sequence_id}?appConfig=ignored", b"new")
    assert (answer.status, answer.json) == (200, {"id": sequence_id})
    shown = [(one["id"], one["config"]["name"]) for one in (await api.ask("GET", "/sequences")).json]
    assert shown == [(ONE, "fake"), (sequence_id, "new")]
    assert api.store.unused == ["old"]
    assert api.store.uploads[-1].left


async def test_a_form_replaces_the_configuration_too_and_a_package_alone_does_not(api: Api) -> None:
    path = f"/sequence/{ONE}"
    for body, config in (({"a": 1}, {"a": 1}), (None, {"a": 1}), ({}, {})):
        if body is None:
            answer = await api.ask("PUT", path, b"new")
        else:
            parts = (("file", b"new"), ("appConfig", json.dumps(body).encode()))
            answer = await api.ask("PUT", path, form(*parts), Content_Type=FORM)
        assert (answer.status, answer.json) == (200, {"id": ONE})
        assert (await api.ask("GET", path)).json.get("appConfig", {}) == config


@pytest.mark.parametrize("which", [NOBODY, "fake"])
async def test_what_is_not_there_by_its_id_is_not_replaced(api: Api, which: str) -> None:
    answer = await api.ask("PUT", f"/sequence/{which}", b"new")
    assert (answer.status, answer.error) == (404, f"Sequence with id: {which} not found")
    assert api.store.uploads == []


async def test_a_bad_package_replaces_nothing(api: Api) -> None:
    before = (await api.ask("GET", f"/sequence/{ONE}")).json
    assert (await api.ask("PUT", f"/sequence/{ONE}", b"bad")).status == 422
    assert (await api.ask("GET", f"/sequence/{ONE}")).json == before
    assert api.store.unused == []


async def test_instances_of_a_replaced_sequence_go_on_with_the_old_package(api: Api) -> None:
    await api.ask("PUT", f"/sequence/{ONE}", b"old")
    api.store.unused.clear()
    instance_id = await api.start()
    assert (await api.ask("PUT", f"/sequence/{ONE}", b"new")).status == 200
    assert api.store.unused == [], "the Instance uses it"
    config = (await api.ask("GET", f"/instance/{instance_id}")).json["sequence"]["config"]
    assert config["name"] == "old"
    assert api.store.running[instance_id].sequence.sha256 == "old"
    assert (await api.ask("GET", f"/sequence/{ONE}")).json["instances"] == [instance_id]
    await api.end(instance_id)
    await until(lambda: instance_id not in api.store.running)
    new = await api.start()
    assert (await api.ask("GET", f"/instance/{new}")).json["sequence"]["config"]["name"] == "new"


async def test_a_sequence_that_is_deleted_while_it_is_replaced_is_gone(api: Api) -> None:
    api.store.may_answer.clear()
    replacing = asyncio.create_task(api.ask("PUT", f"/sequence/{ONE}", b"new"))
    await until(api.store.replaced.is_set)
    assert (await api.ask("DELETE", f"/sequence/{ONE}")).status == 200
    api.store.may_answer.set()
    answer = await replacing
    assert (answer.status, answer.error) == (404, f"Sequence with id: {ONE} not found")
    assert (await api.ask("GET", "/sequences")).json == []
    assert api.store.unused == ["0" * 64]


async def test_of_two_replacements_at_once_the_one_that_is_shown_is_the_one_that_is_kept(api: Api) -> None:
    names = [f"package {number}" for number in range(8)]
    answers = await asyncio.gather(*(api.ask("PUT", f"/sequence/{ONE}", name.encode()) for name in names))
    assert {answer.status for answer in answers} == {200}
    shown = (await api.ask("GET", f"/sequence/{ONE}")).json["config"]["name"]
    assert shown == api.store.sequences[ONE].manifest.name
    assert sorted(api.store.unused) == sorted(["0" * 64, *(name for name in names if name != shown)])


# --- versions ---------------------------------------------------------------------------------------------------------

VERSIONS, ROLLBACK = f"/sequence/{ONE}/versions", f"/sequence/{ONE}/rollback"


async def test_versions_are_listed_and_one_of_them_is_given_back(api: Api) -> None:
    signed = dataclasses.replace(api.store.sequences[ONE], app_config={"k": 1}, signer="us", created=1.5)
    api.store.history[ONE] = [signed]
    assert (
        await api.ask(
            "PUT", f"/sequence/{ONE}", form(("file", b"new"), ("appConfig", b"{}")), Content_Type=FORM
        )
    ).status == 200
    answer = await api.ask("GET", VERSIONS)
    assert answer.status == 200
    first = {
        "sha256": "0" * 64, "size": 123, "created": "1970-01-01T00:00:01.500Z", "config": {"name": "fake"},
        "appConfig": {"k": 1}, "signer": "us",
    }  # fmt: skip
    second = {
        "sha256": "new", "size": 123, "created": "1970-01-01T00:00:00.000Z", "config": {"name": "new"},
    }  # fmt: skip
    assert answer.json == [
        {"version": 2, "current": True, **second},
        {"version": 1, "current": False, **first},
    ]
    back = await api.ask("POST", ROLLBACK)
    assert (back.status, back.json) == (200, {"id": ONE, "version": 3, "sha256": "0" * 64})
    shown = (await api.ask("GET", f"/sequence/{ONE}")).json
    assert (shown["config"]["name"], shown["appConfig"]) == ("fake", {"k": 1})
    assert [one["current"] for one in (await api.ask("GET", "/sequence/fake/versions")).json] == [
        True,
        False,
        False,
    ]
    by_number = await api.ask("POST", "/sequence/fake/rollback", {"version": 2})
    assert (by_number.status, by_number.json["sha256"]) == (200, "new")
    assert (await api.ask("GET", VERSIONS, Accept="text/plain")).status == 415


async def test_packages_that_nothing_uses_after_a_change_are_removed_unless_an_instance_runs_them(
    api: Api,
) -> None:
    await api.start()
    api.store.needless = ["0" * 64, "ancient"]
    assert (await api.ask("PUT", f"/sequence/{ONE}", b"new")).status == 200
    assert api.store.unused == ["ancient"]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (f"/sequence/{NOBODY}/rollback", None, 404, f"Sequence {NOBODY} not found"),
        (ROLLBACK, {"version": 9}, 404, "no version 9"),
        (ROLLBACK, {"version": 1}, 409, "not to 1"),
        (ROLLBACK, {"version": None}, 409, "not to 0"),
        (ROLLBACK, {"version": 0}, 400, "version must be a whole number above 0, not '0'"),
        (ROLLBACK, {"version": True}, 400, "version must be a whole number above 0, not 'True'"),
        (ROLLBACK, {"version": 1.0}, 400, "version must be a whole number above 0, not '1.0'"),
        (ROLLBACK, {"version": "1"}, 400, "version must be a whole number above 0, not '1'"),
        (ROLLBACK, [1], 400, "the body must be a JSON object, not '[1]'"),
    ],
    ids=["nobody", "unknown", "present", "alone", "zero", "bool", "float", "text", "array"],
)
async def test_what_cannot_be_gone_back_to_is_said(
    api: Api, path: str, body: Any, status: int, said: str
) -> None:
    answer = await api.ask("POST", path, body)
    assert (answer.status, answer.error) == (status, said)
    assert len(api.store.history[ONE]) == 1


async def test_versions_of_nobody_are_not_found(api: Api) -> None:
    answer = await api.ask("GET", f"/sequence/{NOBODY}/versions")
    assert (answer.status, answer.error) == (404, f"Sequence {NOBODY} not found")


async def test_a_sequence_that_is_deleted_while_it_goes_back_is_gone(api: Api) -> None:
    await api.ask("PUT", f"/sequence/{ONE}", b"new")
    api.store.replaced.clear()
    api.store.may_answer.clear()
    going = asyncio.create_task(api.ask("POST", ROLLBACK))
    await until(api.store.replaced.is_set)
    assert (await api.ask("DELETE", f"/sequence/{ONE}")).status == 200
    api.store.may_answer.set()
    answer = await going
    assert (answer.status, answer.error) == (404, f"Sequence with id: {ONE} not found")
    assert (await api.ask("GET", "/sequences")).json == []


# --- look -------------------------------------------------------------------------------------------------------------


async def test_a_sequence_goes_by_its_name_too_and_the_newest_of_several_has_it(api: Api) -> None:
    older = (await api.ask("POST", "/sequence", b"name")).json["id"]
    assert (await api.ask("GET", "/sequence/name")).json["id"] == older
    newer = (await api.ask("POST", "/sequence", b"name")).json["id"]
    assert (await api.ask("GET", "/sequence/name")).json["id"] == newer
    instance = (await api.ask("POST", "/sequence/name/start", {})).json["id"]
    assert (await api.ask("GET", "/sequence/name/instances")).json == [instance]
    assert (await api.ask("GET", f"/sequence/{newer}/instances")).json == [instance]
    assert (await api.ask("GET", f"/sequence/{older}/instances")).json == []
    assert (await api.ask("DELETE", "/sequence/name")).status == 409
    answer = await api.ask("DELETE", "/sequence/name", x_seq_kill_inst="true")
    assert (answer.status, answer.json) == (200, {"opStatus": "OK", "id": newer})
    assert (await api.ask("GET", "/sequence/name")).json["id"] == older


async def test_an_id_wins_over_a_name(api: Api) -> None:
    other = (await api.ask("POST", "/sequence", ONE.encode())).json["id"]
    assert (await api.ask("GET", f"/sequence/{ONE}")).json["id"] == ONE
    assert (await api.ask("DELETE", f"/sequence/{ONE}")).json["id"] == ONE
    assert (await api.ask("GET", f"/sequence/{ONE}")).json["id"] == other


async def test_a_name_with_a_slash_is_asked_for_in_percent(api: Api) -> None:
    sequence_id = (await api.ask("POST", "/sequence", "@ours/\u00e9 t".encode())).json["id"]
    assert (await api.ask("GET", "/sequence/%40ours%2F%C3%A9%20t")).json["id"] == sequence_id


async def test_instances_of_what_is_not_there_are_not_found(api: Api) -> None:
    answer = await api.ask("GET", f"/sequence/{NOBODY}/instances")
    assert (answer.status, answer.error) == (404, f"Sequence {NOBODY} not found")


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
    assert payload.limits == {"memory": 5}


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
        ({"limits": {"memory": 0}}, 400, "limits.memory must be a number of MB above 0, not '0'"),
        ({"limits": {"memory": "5"}}, 400, "limits.memory must be"),
        ({"limits": {"memory": True}}, 400, "limits.memory must be"),
        ({"limits": {"gpu": 1}}, 400, "limits.gpu must be true or false, not '1'"),
        ({"inputTopic": "a", "outputTopic": "a"}, 400, "would read what it writes"),
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


async def test_the_configuration_of_a_sequence_is_below_that_of_a_start(api: Api) -> None:
    config = json.dumps({"a": {"x": 1}, "b": 1}).encode()
    await api.ask(
        "PUT", f"/sequence/{ONE}", form(("file", b"good"), ("appConfig", config)), Content_Type=FORM
    )
    for given_, expected in (
        (None, {"a": {"x": 1}, "b": 1}),
        ({"a": {"y": 2}, "c": None}, {"a": {"y": 2}, "b": 1, "c": None}),
    ):
        instance_id = await api.start(appConfig=given_, args=["x"])
        assert (await api.ask("GET", f"/instance/{instance_id}")).json["appConfig"] == expected
        environment = api.adapter.launches[-1].environment
        assert json.loads(environment["RUNNER_CONNECT_INFO"]) == {"appConfig": expected, "args": ["x"]}
        assert "appConfig" not in json.loads(environment["SEQUENCE_INFO"])


@pytest.mark.parametrize(
    ("settings_of_hub", "setting"),
    [
        ({"min_free_memory": 2**53}, "requirements.freeMemory"),
        ({"min_free_space": 2**53}, "requirements.freeSpace"),
    ],
)
async def test_a_full_machine_starts_nothing(api: Api, setting: str) -> None:
    answer = await api.ask("POST", START, {})
    assert (answer.status, answer.reason) == (419, "Insufficient Space on Resource")
    assert (answer.json["result"], answer.json["opStatus"]) == ("error", "Insufficient Space on Resource")
    assert answer.error.startswith("Insufficient Space on Resource: ")
    assert f"{2**53} (setting {setting})" in answer.error
    assert api.adapter.launches == []


@pytest.mark.parametrize("settings_of_hub", [{"min_free_memory": 0, "min_free_space": 0}])
async def test_a_requirement_of_nothing_is_always_met(api: Api) -> None:
    assert (await api.ask("POST", START, {})).status == 200


async def test_what_ran_when_the_hub_ended_is_shown_as_ended(api: Api) -> None:
    asked = {"appConfig": {"k": 1}, "args": ["a"], "inputTopic": "", "outputTopic": "", "limits": {}}
    api.store.lost = [LeftOver(ID, stored_sequence(ONE), asked, 1.5)]
    await api.hub.close()
    restarted = Hub(api.hub.settings, api.store, api.adapter)
    await restarted.open()
    try:
        lost = restarted.instance(ID)
        shown = restarted.describe_instance(lost)
        assert (shown["status"], shown["created"]) == ("errored", "1970-01-01T00:00:01.500Z")
        assert shown["terminated"] == {"exitcode": 213, "reason": "the hub ended before the Instance did"}
        assert (shown["appConfig"], shown["args"], shown["sequence"]["id"]) == ({"k": 1}, ["a"], ONE)
        assert "started" not in shown
        assert lost.output.ended
        assert lost.stdout.end_offset == lost.stderr.end_offset == lost.output.end_offset == 0
        assert b"the hub ended before the Instance did" in lost.log.tail(1000)
        again = await restarted.start(ONE, StartPayload(instance_id=ID))
        assert restarted.instances() == [again], "its id may be used again"
    finally:
        await restarted.close()


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
        "instanceId": ID,
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
