"""Endpoints of what Instances keep with the hub: items put aside, state, metrics."""

import asyncio
import json
from typing import Any

import pytest

from tests.hub_lite.fakes import until

from .conftest import ONE, Api

NOBODY = "0" * 36
NDJSON = "application/x-ndjson"


def record(number: int, **more: Any) -> dict[str, Any]:
    return {"number": number, "item": {"a": number}, "error": "ValueError: no", **more}


def lines(*records: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in records)


# --- quarantine -------------------------------------------------------------------------------------------------------


async def test_items_that_are_put_aside_are_shown_and_counted(api: Api) -> None:
    instance_id = await api.start()
    path = f"/instance/{instance_id}/quarantine"
    empty = await api.ask("GET", path)
    assert (empty.status, empty.body, empty.headers["Content-Type"]) == (200, b"", NDJSON)
    assert "quarantined" not in (await api.ask("GET", f"/instance/{instance_id}")).json
    body = lines(record(1), record(2, item={"text": "größe"}))
    answer = await api.ask("POST", path, body, Content_Type=NDJSON)
    assert (answer.status, answer.json) == (200, {"kept": 2})
    assert (await api.ask("POST", path, lines(record(3)))).json == {"kept": 1}
    answer = await api.ask("GET", path, Accept=NDJSON)
    assert answer.body == body + lines(record(3))
    assert answer.headers["Content-Length"] == str(len(answer.body))
    head = await api.ask("HEAD", path)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(answer.body)))
    assert (await api.ask("GET", f"/instance/{instance_id}")).json["quarantined"] == 3
    assert [one["quarantined"] for one in (await api.ask("GET", "/instances")).json] == [3]


async def test_they_stay_until_the_instance_is_removed(api: Api) -> None:
    instance_id = await api.start()
    path = f"/instance/{instance_id}/quarantine"
    await api.ask("POST", path, lines(record(1)))
    await api.end(instance_id)
    await api.ask("POST", path, lines(record(2)))  # which was on its way when the process ended
    assert (await api.ask("GET", path)).body == lines(record(1), record(2))
    folder = api.hub.settings.data_dir / "quarantine"
    assert [one.name[:36] for one in folder.iterdir()] == [instance_id]
    await api.ask("POST", f"/instance/{instance_id}/_kill", {"removeImmediately": True})
    assert (await api.ask("GET", path)).status == 404
    await until(lambda: list(folder.iterdir()) == [])


@pytest.mark.parametrize("settings_of_hub", [{"quarantine_bytes": 300}])
async def test_what_does_not_fit_is_refused_whole(api: Api) -> None:
    instance_id = await api.start()
    path = f"/instance/{instance_id}/quarantine"
    await api.ask("POST", path, lines(record(1)))
    answer = await api.ask("POST", path, lines(record(2), record(3, item="x" * 300)))
    assert (answer.status, answer.reason) == (507, "Insufficient Storage")
    assert "quarantine.maxBytes" in answer.error
    assert (await api.ask("GET", path)).body == lines(record(1))


@pytest.mark.parametrize("settings_of_hub", [{"max_body_bytes": 1000}])
async def test_a_long_body_is_taken_in_pieces_and_given_in_pieces(api: Api) -> None:
    path = f"/instance/{await api.start()}/quarantine"
    body = lines(*(record(number, item="x" * 1000) for number in range(900)))
    assert (await api.ask("POST", path, body)).json == {"kept": 900}
    assert (await api.ask("GET", path)).body == body


@pytest.mark.parametrize(
    ("body", "said"), [(b"{", "line 1 is not JSON"), (lines(record(1), {"item": 1}), "line 2 has no")]
)
async def test_a_line_that_is_no_record_is_named(api: Api, body: bytes, said: str) -> None:
    path = f"/instance/{await api.start()}/quarantine"
    answer = await api.ask("POST", path, body)
    assert answer.status == 400
    assert answer.error.startswith(said)
    assert (await api.ask("GET", path)).body == b""


async def test_records_are_json_lines(api: Api) -> None:
    path = f"/instance/{await api.start()}/quarantine"
    assert (await api.ask("POST", path, lines(record(1)), Content_Type="text/html")).status == 415
    assert (await api.ask("GET", path, Accept="image/png")).status == 415


async def test_of_a_body_that_is_cut_off_nothing_is_kept(api: Api) -> None:
    instance_id = await api.start()
    path = f"/instance/{instance_id}/quarantine"
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = f"POST /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n".encode()
    writer.write(head + lines(record(1)))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await api.ask("POST", path, lines(record(2)))).json == {"kept": 1}
    assert (await api.ask("GET", path)).body == lines(record(2))


# --- state ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [b"null", b"0", b'""', b"false", b"[]", b'{"a": [1, "\xc3\xbc"]}', b"1" * 100, rb'"\ud800"', b"1e400", b"-0.0"],
)  # fmt: skip
async def test_a_value_comes_back_as_it_was(api: Api, value: bytes) -> None:
    path = f"/instance/{await api.start()}/state"
    answer = await api.ask("PUT", f"{path}/k", b" " + value + b"\n", Content_Type="text/plain")
    assert (answer.status, answer.json) == (200, {"key": "k"})
    answer = await api.ask("GET", f"{path}/k")
    assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, value, "application/json")
    assert (await api.ask("GET", path)).body == b'{"k":' + value + b"}"


@pytest.mark.parametrize(
    ("part", "key"),
    [("k", "k"), ("a%2Fb", "a/b"), ("%C3%BC%20%22", 'ü "'), ("..%2F..", "../.."), ("%25", "%"), ("%FF", "%FF"), ("a+b", "a+b")],
)  # fmt: skip
async def test_a_key_is_any_text(api: Api, part: str, key: str) -> None:
    instance_id = await api.start()
    head = f"PUT /api/v1/instance/{instance_id}/state/{part} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    answer = await api.raw(f"{head}Content-Length: 1\r\n\r\n7".encode())
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert (await api.ask("GET", f"/instance/{instance_id}/state")).json == {key: 7}


async def test_a_state_is_shown_and_forgotten_by_key_and_whole(api: Api) -> None:
    instance_id = await api.start()
    path = f"/instance/{instance_id}/state"
    assert (await api.ask("GET", path)).json == {}
    for key, value in (("b", 1), ("a", [2]), ("c", None)):
        await api.ask("PUT", f"{path}/{key}", value if value is not None else b"null")
    assert (await api.ask("GET", path)).json == {"a": [2], "b": 1, "c": None}
    assert (await api.ask("DELETE", f"{path}/b")).json == {"removed": 1}
    for method in ("GET", "DELETE"):
        answer = await api.ask(method, f"{path}/b")
        assert (answer.status, answer.error) == (404, f"the state of Instance {instance_id} has no key 'b'")
    assert (await api.ask("DELETE", path)).json == {"removed": 2}
    assert (await api.ask("DELETE", path)).json == {"removed": 0}
    assert (await api.ask("GET", path)).json == {}


async def test_a_later_instance_of_an_id_finds_the_state(api: Api) -> None:
    name = "an-id-of-your-own-of-36-characters-x"
    await api.start(instanceId=name)
    await api.ask("PUT", f"/instance/{name}/state/k", {"n": 1})
    await api.end(name)
    assert (await api.ask("GET", f"/instance/{name}/state/k")).json == {"n": 1}
    await api.ask("POST", f"/instance/{name}/_kill", {"removeImmediately": True})
    assert (await api.ask("GET", f"/instance/{name}/state/k")).status == 404
    await api.runners.pop(name).close()
    await api.start(instanceId=name)
    assert (await api.ask("GET", f"/instance/{name}/state/k")).json == {"n": 1}


@pytest.mark.parametrize("body", [b"", b" \n", b"{", b"nothing", b"NaN", b"\xff", b"[" * 20_000, b"1 2"])
async def test_what_is_no_json_is_no_value(api: Api, body: bytes) -> None:
    path = f"/instance/{await api.start()}/state"
    answer = await api.ask("PUT", f"{path}/k", body)
    assert answer.status == 400
    assert "'k'" in answer.error
    assert (await api.ask("GET", path)).json == {}


async def test_values_keys_and_states_are_bounded(api: Api) -> None:
    path = f"/instance/{await api.start()}/state"
    assert (await api.ask("PUT", f"{path}/k", b'"' + b"x" * 65534 + b'"')).status == 200
    answer = await api.ask("PUT", f"{path}/k", b'"' + b"x" * 65535 + b'"')
    assert (answer.status, answer.reason) == (413, "Payload Too Large")
    assert "65536 bytes" in answer.error
    assert (await api.ask("PUT", f"{path}/{'k' * 256}", b"1")).status == 200
    for method in ("PUT", "GET", "DELETE"):
        answer = await api.ask(method, f"{path}/{'k' * 257}", b"1" if method == "PUT" else None)
        assert (answer.status, "256 characters" in answer.error) == (400, True)
    value = b'"' + b"x" * 65000 + b'"'
    for number in range(15):
        assert (await api.ask("PUT", f"{path}/{number}", value)).status == 200
    assert (await api.ask("PUT", f"{path}/more", value)).status == 413
    assert "more" not in (await api.ask("GET", path)).json


async def test_the_state_of_a_sequence_that_is_deleted_is_written_no_more(api: Api) -> None:
    instance_id = await api.start()
    await api.end(instance_id)
    await until(lambda: api.hub.instance(instance_id).is_over)
    assert (await api.ask("DELETE", f"/sequence/{ONE}")).status == 200
    assert (await api.ask("PUT", f"/instance/{instance_id}/state/k", b"1")).status == 410


# --- metrics ----------------------------------------------------------------------------------------------------------


async def test_metrics_come_with_reports_and_are_shown_by_themselves(api: Api) -> None:
    instance_id = await api.start()
    path = f"/instance/{instance_id}"
    assert (await api.ask("GET", f"{path}/metrics")).json == {}
    runner = api.runners[instance_id]
    await runner.say(3001, {"healthy": True, "metrics": {"items": {"in": 3}, "rate": 0.5}})
    assert (await api.ask("GET", f"{path}/health")).json == {"healthy": True, "processId": 4711}
    assert (await api.ask("GET", f"{path}/metrics")).json == {"items": {"in": 3}, "rate": 0.5}
    assert (await api.ask("GET", path)).json["metrics"] == {"items": {"in": 3}, "rate": 0.5}
    await runner.say(3001, {"healthy": False})
    await until(lambda: api.hub.instance(instance_id)._report == {"healthy": False})
    assert (await api.ask("GET", f"{path}/metrics")).json == {"items": {"in": 3}, "rate": 0.5}
    await runner.say(3001, {"healthy": False, "metrics": {"items": {"in": 4}}})
    await api.end(instance_id)
    assert (await api.ask("GET", f"{path}/metrics")).json == {"items": {"in": 4}}
    assert (await api.ask("GET", "/instances")).json[0]["metrics"] == {"items": {"in": 4}}


async def test_wrong_metrics_are_noted_once_and_the_report_is_kept(api: Api) -> None:
    instance_id = await api.start()
    runner, path = api.runners[instance_id], f"/instance/{instance_id}"
    await runner.say(3001, {"healthy": True, "metrics": {"a": 1}})
    for number in range(3):
        await runner.say(3001, {"healthy": True, "n": number, "metrics": "none"})
    await until(lambda: (api.hub.instance(instance_id)._report or {}).get("n") == 2)
    assert (await api.ask("GET", f"{path}/metrics")).json == {"a": 1}
    await runner.say(3001, {"healthy": True, "metrics": {"a": "x", "b": 2}})
    await until(lambda: api.hub.instance(instance_id).metrics == {"b": 2})
    await runner.say(3001, {"healthy": True, "metrics": {}})
    await until(lambda: api.hub.instance(instance_id).metrics == {})
    assert "metrics" not in (await api.ask("GET", path)).json
    await api.end(instance_id)
    log = [json.loads(line) for line in (await api.ask("GET", f"{path}/log")).body.splitlines()]
    assert [one["msg"] for one in log if "metrics" in one["msg"]] == [
        "metrics must be an object, not 'none'",
        "metrics are left out: 'a' must be a number, not 'x'",
    ]


async def test_prometheus_gets_the_numbers_of_the_hub_and_of_all_instances(api: Api) -> None:
    first, second = await api.start(), await api.start()
    await api.runners[first].say(3001, {"healthy": True, "metrics": {"items": {"in": 3}}})
    await api.runners[second].say(3001, {"healthy": True, "metrics": {"items": {"in": 4}}})
    await until(lambda: all(one.metrics for one in api.hub.instances()))
    await api.end(second)
    await until(lambda: api.hub.instance(second).is_over)
    answer = await api.ask("GET", "/metrics", Accept="text/plain;version=0.0.4,*/*;q=0.1")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = answer.body.decode().splitlines()
    assert answer.body.endswith(b"\n")
    for line in (
        'hub_lite_instances{status="running"} 1',
        'hub_lite_instances{status="completed"} 1',
        'hub_lite_instances{status="errored"} 0',
        "hub_lite_sequences 1",
        f'hub_lite_sequence_items_in{{instance="{first}",sequence="{ONE}"}} 3',
        f'hub_lite_sequence_items_in{{instance="{second}",sequence="{ONE}"}} 4',
    ):
        assert line in found
    (uptime,) = [line for line in found if line.startswith("hub_lite_uptime_seconds ")]
    assert 0 < float(uptime.split()[1]) < 60


# --- all --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "quarantine"), ("POST", "quarantine"), ("GET", "state"), ("DELETE", "state"), ("GET", "state/k"),
        ("PUT", "state/k"), ("DELETE", "state/k"), ("GET", "metrics"), ("POST", "_reload"),
    ],
)  # fmt: skip
async def test_of_an_instance_that_is_not_there_nothing_is_kept(api: Api, method: str, path: str) -> None:
    answer = await api.ask(method, f"/instance/{NOBODY}/{path}", b"" if method in ("POST", "PUT") else None)
    assert (answer.status, answer.json) == (404, {"error": f"Instance {NOBODY} not found"})


async def test_requests_for_what_is_kept_are_audited(api: Api) -> None:
    instance_id = await api.start()
    await api.ask("PUT", f"/instance/{instance_id}/state/k", b"1")
    await api.ask("POST", f"/instance/{instance_id}/quarantine", b"")
    async with api.http.get(f"{api.url}/audit") as answer:
        seen = []
        async with asyncio.timeout(10):
            while len(seen) < 4:
                one = json.loads(await answer.content.readline())
                if one["type"] == "request" and one["opCode"] in (11321, 11120):
                    seen.append((one["opCode"], one["opState"], one["objectId"]))
    assert seen == [
        (11321, "START", instance_id),
        (11321, "END", instance_id),
        (11120, "START", instance_id),
        (11120, "END", instance_id),
    ]
