"""Rules of the API that clients of the original hub rely on, where no other test has them: one for each row of a table."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from hub_lite.client import HubClient

from .harness import DEADLINE, HubProcess, Talk, make_package, talking_to

JSON = {"Content-Type": "application/json"}
OCTETS = {"Content-Type": "application/octet-stream"}
TEXT = {"Content-Type": "text/plain"}
NOBODY = "0" * 36
WAITS = """
    async def run(context, input, *args):
        context.on("ping", lambda message: context.emit("pong", message))
        context.emit("ready", 1)
        async for line in input:
            yield line
    """
DEAF = """
    import time

    async def run(context, input):
        context.emit("deaf")
        while True:
            time.sleep(0.1)
    """


@pytest.fixture(scope="module")
def waits(hub: HubProcess) -> str:
    """A Sequence that waits for input."""

    async def upload() -> str:
        async with talking_to(hub.url) as talk:
            return await talk.upload(WAITS, name="waits")

    return asyncio.run(upload())


@pytest.fixture(scope="module")
def shared(hub: HubProcess, waits: str) -> str:
    """An Instance that no test ends."""

    async def start() -> str:
        async with talking_to(hub.url) as talk:
            instance = await talk.client.start(waits)
            await talk.get(f"/instance/{instance}/event/ready")
            return instance

    return asyncio.run(start())


# --- all endpoints of a kind ----------------------------------------------------------------------------------------

READS = [
    "/version",
    "/config",
    "/status",
    "/load-check",
    "/entities",
    "/openapi.json",
    "/sequences",
    "/sequence/waits",
    "/sequence/waits/instances",
    "/instances",
    "/topics",
    "/topis",
    "/instance/{id}",
    "/instance/{id}/health",
    "/instance/{id}/event/ready",
    "/instance/{id}/once",
]


@pytest.mark.parametrize("path", READS)
async def test_a_json_read_is_answered_to_who_takes_json_and_415_to_others(
    talk: Talk, shared: str, path: str
):
    path = path.format(id=shared)
    for accept in ("application/json", "text/json", "application/*", "*/*"):
        answer = await talk.ask("GET", path, headers={"Accept": accept})
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json"), accept
        assert answer.json is not None, "which 204 would be for"
    answer = await talk.ask("GET", path, headers={"Accept": "text/html"})
    assert (answer.status, answer.reason) == (415, "Invalid content-type")


OPERATIONS = [
    ("POST", "/sequence/waits/start"),
    ("POST", "/topics"),
    *(("POST", f"/instance/{{id}}/{one}") for one in ("_stop", "_kill", "_event", "_monitoring_rate")),
]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"{}"),
        ("application/json; charset=latin-1", b"{}"),
        ("application/json", b"{"),
        ("text/json", b"no"),
    ],
)
async def test_an_operation_whose_body_is_not_json_is_400_could_not_parse_content_below_instances_too(
    talk: Talk, shared: str, method: str, path: str, content_type: str, body: bytes
):
    answer = await talk.ask(method, path.format(id=shared), data=body, headers={"Content-Type": content_type})
    assert (answer.status, answer.reason) == (400, "Could not parse content")
    assert answer.error


STREAMS = [
    "/log",
    "/audit",
    *(f"/instance/{{id}}/{one}" for one in ("output", "stdout", "stderr", "log", "events/pong", "event")),
    "/topic/of-no-use",
]


@pytest.mark.parametrize("path", STREAMS)
async def test_a_stream_is_chunked_octets_whose_head_comes_before_the_first_byte(
    talk: Talk, shared: str, path: str
):
    async with asyncio.timeout(DEADLINE), talk.http.get(talk.url + path.format(id=shared)) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/octet-stream")
        assert answer.headers["Transfer-Encoding"] == "chunked"


@pytest.mark.parametrize("path", STREAMS)
async def test_a_stream_is_415_to_who_does_not_take_it(talk: Talk, shared: str, path: str):
    answer = await talk.ask("GET", path.format(id=shared), headers={"Accept": "text/html"})
    assert (answer.status, answer.reason) == (415, "Invalid content-type")


@pytest.mark.parametrize(
    "path", ["input", "stdin", "inout", "_event", "_monitoring_rate", "_stop", "_kill", "output", "log", "health",
             "event/e", "once/e", "events/e", "event", "once", ""]
)  # fmt: skip
async def test_an_unknown_instance_is_404_on_each_of_its_paths(talk: Talk, path: str):
    method = "POST" if path.startswith(("in", "_", "stdin")) else "GET"
    answer = await talk.ask(
        method, f"/instance/{NOBODY}/{path}".rstrip("/"), skip_auto_headers=["Content-Type"]
    )
    assert (answer.status, answer.json) == (404, {"error": f"Instance {NOBODY} not found"})


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("GET", "", f"Sequence {NOBODY} not found"),
        ("GET", "/instances", f"Sequence {NOBODY} not found"),
        ("PUT", "", f"Sequence with id: {NOBODY} not found"),
        ("DELETE", "", f"The sequence {NOBODY} does not exist."),
        ("POST", "/start", f"Sequence {NOBODY} not found"),
    ],
)
async def test_an_unknown_sequence_is_404_on_each_of_its_paths(talk: Talk, method: str, path: str, text: str):
    answer = await talk.ask(method, f"/sequence/{NOBODY}{path}", skip_auto_headers=["Content-Type"])
    assert (answer.status, answer.error) == (404, text)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/platform"),
        ("GET", "/cpm/api/v1/version"),
        ("GET", "/instance/{id}/monitoring"),
    ],
)
async def test_what_needs_a_manager_or_a_developers_hub_is_404(
    talk: Talk, shared: str, method: str, path: str
):
    answer = await talk.ask(method, path.format(id=shared))
    assert answer.status == 404
    assert "is not a path of this hub" in answer.error


@pytest.mark.parametrize("path", ["/version", "/sequence", f"/instance/{NOBODY}/input", "/nothing/at/all"])
async def test_options_is_an_empty_200_on_any_path(talk: Talk, path: str):
    answer = await talk.ask("OPTIONS", path)
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/sequence"),
        ("PUT", "/sequence/{sequence}"),
        ("POST", "/instance/{id}/input"),
        ("POST", "/instance/{id}/stdin"),
        ("POST", "/topic/expected"),
    ],
)
async def test_an_upload_that_expects_100_continue_is_told_to_go_on(
    talk: Talk, waits: str, shared: str, method: str, path: str
):
    is_package = "sequence" in path
    answer = await talk.ask(
        method,
        path.format(id=shared, sequence=waits),
        data=make_package(WAITS, name="waits") if is_package else b"",
        headers={**OCTETS, "x-end-stream": "false"},
        expect100=True,
    )
    assert answer.status == (200 if is_package else 202)
    if method == "POST" and is_package:
        await talk.client.delete_sequence(answer.json["id"])


# --- x-end-stream ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "status"),
    [("true", 200), ("false", 202), (None, 202), ("success", 202), ("yes", 202), ("", 202)],
)
async def test_a_topic_is_not_ended_unless_x_end_stream_is_true(talk: Talk, value: str | None, status: int):
    headers = OCTETS if value is None else {**OCTETS, "x-end-stream": value}
    async with talk.http.get(f"{talk.url}/topic/ends", headers=OCTETS) as reader, asyncio.timeout(DEADLINE):
        answer = await talk.ask("POST", "/topic/ends", data=b"abc", headers=headers)
        assert (answer.status, answer.json) == (status, {})
        if status == 200:
            assert await reader.read() == b"abc"
        else:
            assert await reader.content.readexactly(3) == b"abc"
            assert not reader.content.at_eof()
            await talk.ask("POST", "/topic/ends", data=b"d", headers={**OCTETS, "x-end-stream": "true"})
            assert await reader.read() == b"d", "it was still open"


@pytest.mark.parametrize(("value", "status"), [("true", 200), ("false", 202), (None, 200), ("success", 200)])
async def test_input_and_stdin_are_ended_unless_x_end_stream_is_false(
    talk: Talk, value: str | None, status: int
):
    instance = await talk.start(
        """
        import asyncio, sys

        async def run(context, input):
            async for line in input:
                yield line
            yield await asyncio.to_thread(sys.stdin.read)
        """
    )
    end = {} if value is None else {"x-end-stream": value}
    for stream, kind in (("input", TEXT), ("stdin", OCTETS)):
        path = f"/instance/{instance}/{stream}"
        answer = await talk.ask("POST", path, data=b"one\n", headers={**kind, **end})
        assert (answer.status, answer.body) == (status, b"")
        if status == 202:
            assert (await talk.ask("POST", path, data=b"two\n", headers=kind)).status == 200
    expected = b"one\ntwo\n" if status == 202 else b"one\n"
    assert await talk.read(instance) == expected * 2


# --- Sequences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manifest", "language"),
    [
        ({"main": "a.js", "engines": {"python3": "*"}}, "py"),
        ({"main": "a.py", "engines": {"node": ">=16"}}, "js"),
        ({"main": "a.js", "engines": {}}, "js"),
        ({"main": "a.ts", "engines": {}}, "ts"),
        ({"main": "a.py", "engines": {}}, "py"),
        ({"main": "a", "engines": {}}, "unknown"),
    ],
)
async def test_the_language_is_that_of_the_engines_or_else_of_the_ending_of_main(
    talk: Talk, manifest: dict[str, Any], language: str
):
    sequence = await talk.upload("", **manifest)
    assert (await talk.get(f"/sequence/{sequence}"))["config"]["language"] == language
    await talk.client.delete_sequence(sequence)


async def test_a_sequence_shows_what_its_manifest_says_and_leaves_out_the_rest(talk: Talk):
    said = {
        "description": "d",
        "author": "me",
        "keywords": ["k"],
        "args": [{"name": "a"}],
        "repository": "r",
        "version": "1.2.3",
    }
    package = make_package(WAITS, **said)
    full, bare = await talk.upload_bytes(package), await talk.upload(WAITS)
    shown = await talk.get(f"/sequence/{full}")
    assert shown["config"].items() >= said.items()
    assert shown["config"]["packageSize"] == len(package), "the body alone counts"
    assert shown["config"]["id"] == shown["id"] == full
    assert (shown["config"]["type"], shown["location"], shown["instances"]) == ("process", "hub-lite", [])
    assert not {"description", "author", "keywords", "args", "repository"} & set(
        (await talk.get(f"/sequence/{bare}"))["config"]
    )
    for one in (full, bare):
        answer = await talk.ask("DELETE", f"/sequence/{one}", headers=JSON)
        assert (answer.status, answer.json) == (200, {"opStatus": "OK", "id": one})


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("", 200), ("application/octet-stream", 200), ("application/x-www-form-urlencoded", 415)],
)
async def test_a_package_has_no_type_or_that_of_octets_and_unknown_query_parameters_do_not_matter(
    talk: Talk, content_type: str, status: int
):
    answer = await talk.ask(
        "POST",
        "/sequence?appConfig=%7B%7D&x=1",
        data=make_package(WAITS),
        headers={"Content-Type": content_type},
    )
    assert answer.status == status
    if status == 200:
        await talk.client.delete_sequence(answer.json["id"])


@pytest.mark.parametrize("body", [b"{}", b"", b"null", b"[]"])
async def test_a_start_takes_nothing_in_the_forms_of_all_clients(talk: Talk, waits: str, body: bytes):
    answer = await talk.ask("POST", f"/sequence/{waits}/start", data=body, headers=JSON)
    if body == b"[]":
        assert (answer.status, answer.json["result"]) == (400, "error"), "that is something"
        return
    assert answer.json == {
        "result": "success",
        "opStatus": "OK",
        "message": f"Sequence {answer.json['id']} starting",
        "id": answer.json["id"],
    }
    await talk.client.kill(answer.json["id"])


async def test_the_members_of_a_start_are_those_of_the_instance(talk: Talk, waits: str):
    body = {
        "appConfig": {"k": 1},
        "args": ["x", 2, None],
        "limits": {"memory": 512, "gpu": False},
        "instanceId": "spec-rows-1234-5678-9012-34567890abc",
    }
    assert len(str(body["instanceId"])) == 36
    instance = (await talk.ask("POST", f"/sequence/{waits}/start", json=body)).json["id"]
    assert instance == body["instanceId"]
    shown = await talk.get(f"/instance/{instance}")
    assert (shown["appConfig"], shown["args"]) == (body["appConfig"], body["args"])
    assert (shown["status"], shown["sequence"]["id"]) == ("running", waits), shown
    assert shown["created"] <= shown["started"]
    assert shown["created"].endswith("Z")
    assert "ended" not in shown
    assert "terminated" not in shown
    assert "requires" not in shown
    await talk.client.kill(instance)


async def test_x_seq_kill_inst_is_force_only_if_it_says_so_and_what_has_ended_needs_none(talk: Talk):
    sequence = await talk.upload(WAITS)
    instance = await talk.client.start(sequence)
    path = f"/sequence/{sequence}"
    for headers in ({}, {"x-seq-kill-inst": "false"}, {"x-seq-kill-inst": ""}):
        answer = await talk.ask("DELETE", path, headers=headers)
        assert (answer.status, answer.error) == (409, "Can't remove sequence in use.")
    await talk.send(instance, b"")
    await talk.until_over(instance)
    assert instance in (await talk.get(path))["instances"], "it is kept for a while"
    answer = await talk.ask("DELETE", path)
    assert (answer.status, answer.json) == (200, {"opStatus": "OK", "id": sequence})


# --- Instances ------------------------------------------------------------------------------------------------------


async def test_health_says_healthy_and_the_process_id(talk: Talk, shared: str, hub: HubProcess):
    report = await talk.get(f"/instance/{shared}/health")
    assert report["healthy"] is True
    assert report["processId"] in hub.children()


@pytest.mark.parametrize("body", [[4001, {"timeout": 300}], {"timeout": 300}])
async def test_the_timeout_of_a_stop_counts_in_both_forms(talk: Talk, body: Any):
    instance = await talk.start(DEAF)
    await talk.get(f"/instance/{instance}/event/deaf")
    begin = time.monotonic()
    answer = await talk.ask("POST", f"/instance/{instance}/_stop", json=body)
    assert 0.25 < time.monotonic() - begin < 5, "and not the 7 s of none"
    assert (answer.status, answer.json["opStatus"], answer.json["id"]) == (202, "Accepted", instance)
    assert (await talk.until_over(instance))["status"] in ("completed", "errored")


@pytest.mark.parametrize(
    "body", [[4002, {"removeImmediately": True}], {"removeImmediately": True}, {}, [4002, {}]]
)
async def test_a_kill_is_202_in_both_forms_and_removes_if_it_says_so(talk: Talk, waits: str, body: Any):
    instance = await talk.client.start(waits)
    answer = await talk.ask("POST", f"/instance/{instance}/_kill", json=body)
    assert (answer.status, answer.json["status"]) == (202, "killing")
    assert answer.json["opStatus"] == "Accepted"
    if "removeImmediately" in str(body):
        async with asyncio.timeout(DEADLINE):
            while (await talk.ask("GET", f"/instance/{instance}")).status != 404:
                await asyncio.sleep(0.01)
    else:
        assert (await talk.until_over(instance))["terminated"]["exitcode"] == 137
        again = await talk.ask("POST", f"/instance/{instance}/_kill", json=body)
        assert again.status == 400
        assert again.error.startswith("Instance not running")


async def test_streamed_events_are_new_ones_only_and_falsy_ones_are_as_they_are(talk: Talk, waits: str):
    instance = await talk.client.start(waits)
    await talk.get(f"/instance/{instance}/event/ready")
    async with talk.http.get(f"{talk.url}/instance/{instance}/events/pong") as answer:
        for message in (0, "", None, False):
            sent = {"eventName": "ping", "message": message}
            answered = await talk.ask("POST", f"/instance/{instance}/_event", json=[5001, sent])
            assert answered.json == {"accepted": "OK"}
            assert json.loads(await answer.content.readline()) == message
    async with talk.http.get(f"{talk.url}/instance/{instance}/events/ready") as answer:
        await talk.client.kill(instance)
        assert await answer.read() == b"", "the one of the past is not told again"


async def test_inout_needs_a_type_on_the_first_request_and_never_ends_the_input(talk: Talk, waits: str):
    instance = await talk.client.start(waits)
    path = f"/instance/{instance}/inout"
    refused = await talk.ask("POST", path, data=b"x", headers={"Content-Type": ""})
    assert (refused.status, refused.error) == (406, "Content-Type must be defined")
    for _ in range(2):
        async with (
            asyncio.timeout(DEADLINE),
            talk.http.post(talk.url + path, data=b"one\n", headers=TEXT) as answer,
        ):
            assert answer.status == 200
            assert await answer.content.readline() == b"one\n"
    assert (await talk.get(f"/instance/{instance}"))["status"] == "running"
    await talk.client.kill(instance)


async def test_readers_of_an_output_that_goes_to_a_topic_share_it_with_the_topic(talk: Talk, waits: str):
    wanted = {"outputTopic": "shared-output"}
    instance = (await talk.ask("POST", f"/sequence/{waits}/start", json=wanted)).json["id"]
    async with (
        asyncio.timeout(DEADLINE),
        talk.http.get(f"{talk.url}/topic/shared-output", headers=TEXT) as topic,
        talk.http.get(f"{talk.url}/instance/{instance}/output") as output,
    ):
        await talk.send(instance, "gr\u00fc\u00dfe\n".encode())
        assert await topic.content.readline() == "gr\u00fc\u00dfe\n".encode()
        assert await output.read() == "gr\u00fc\u00dfe\n".encode()


# --- topics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("a", True),
        ("A-Z_09+", True),
        ("back\\slash", True),
        ("n" * 300, True),
        ("a.b", False),
        ("a b", False),
        ("\u00e9", False),
        ("a/b", False),
    ],
)
async def test_the_name_of_a_topic_is_letters_digits_and_four_signs_on_every_path(
    talk: Talk, name: str, taken: bool
):
    path = quote(name, safe="")
    answers = {
        "create": await talk.ask("POST", "/topics", json={"id": name, "content-type": "text/plain"}),
        "send": await talk.ask("POST", f"/topic/{path}", data=b"", headers=TEXT),
        "delete": await talk.ask("DELETE", f"/topics/{path}"),
    }
    if taken:
        assert [one.status for one in answers.values()] == [200, 202, 200]
        return
    answers["get"] = await talk.ask("GET", f"/topic/{path}")
    for what, answer in answers.items():
        assert answer.status == 400, what
        assert answer.error.startswith("Topic id incorrect format"), what


TYPES = ["text/x-ndjson", "application/x-ndjson", "text/plain", "application/octet-stream"]


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("how", ["create", "send", "get"])
async def test_a_topic_of_each_type_is_made_by_creating_sending_or_getting(
    talk: Talk, content_type: str, how: str
):
    name = f"{how}-{TYPES.index(content_type)}"
    headers = {"Content-Type": content_type}
    match how:
        case "create":
            made = await talk.ask("POST", "/topics", json={"id": name, "content-type": content_type})
            assert made.json == {
                "id": name,
                "origin": {"id": "hub-lite", "type": "hub"},
                "state": "flowing",
                "contentType": content_type,
            }
        case "send":
            assert (await talk.ask("POST", f"/topic/{name}", data=b"", headers=headers)).status == 202
        case _:
            async with talk.http.get(f"{talk.url}/topic/{name}", headers=headers) as answer:
                assert answer.status == 200
    listed = {"contentType": content_type, "localProvider": "", "topic": name, "topicName": name}
    assert listed in await talk.get("/topics")
    removed = await talk.ask("DELETE", f"/topics/{name}")
    assert (removed.status, removed.json) == (200, {"message": f"Topic {name} removed"})


async def test_a_topic_without_a_type_is_ndjson_and_a_reader_without_one_takes_any(talk: Talk):
    answer = await talk.ask("POST", "/topic/untyped", data=b"1", skip_auto_headers=["Content-Type"])
    assert (answer.status, answer.json) == (202, {})
    await talk.ask("POST", "/topic/typed", data=b"plain\n", headers={**TEXT, "cpm": "x"})
    types = {one["topic"]: one["contentType"] for one in await talk.get("/topics")}
    assert (types["untyped"], types["typed"]) == ("application/x-ndjson", "text/plain")
    for name, line in (("untyped", b"1\n"), ("typed", b"plain\n")):
        async with talk.http.get(f"{talk.url}/topic/{name}") as reader, asyncio.timeout(DEADLINE):
            assert await reader.content.readline() == line


# --- audit ----------------------------------------------------------------------------------------------------------


async def test_the_audit_has_the_codes_of_the_requests_and_who_asked(talk: Talk, waits: str):
    async with talk.http.get(f"{talk.url}/audit") as answer, asyncio.timeout(DEADLINE):
        me = {"x-mw-billable": "rows"}

        async def ask(method: str, path: str, **options: Any) -> Any:
            return await talk.ask(method, path, headers={**options.pop("headers", {}), **me}, **options)

        sequence = (await ask("POST", "/sequence", data=make_package(WAITS), headers=OCTETS)).json["id"]
        instance = (await ask("POST", f"/sequence/{sequence}/start")).json["id"]
        await ask("GET", f"/sequence/{sequence}")
        await ask("GET", f"/instance/{instance}")
        await ask("POST", f"/instance/{instance}/_event", json={"eventName": "x"})
        await ask("POST", "/topic/audited", data=b"", headers=TEXT)
        await ask("POST", f"/instance/{instance}/_stop", json={})
        await ask("GET", f"/instance/{instance}/stdout")
        await ask("POST", f"/instance/{instance}/_kill")
        await ask("DELETE", f"/sequence/{sequence}")
        wanted = {
            10100: "", 10117: sequence, 10200: sequence, 11200: instance, 11113: instance, 12100: "audited",
            11114: instance, 11201: instance, 11115: instance, 10400: sequence,
        }  # fmt: skip
        ended: dict[int, str] = {}
        while 10400 not in ended:
            record = json.loads(await answer.content.readline())
            if record.get("requestorId") == "rows" and record["opState"] == "END":
                ended[record["opCode"]] = record["objectId"]
                assert record["tx"] >= 0
                assert isinstance(record["receivedAt"], int)
        assert ended == wanted
        assert list(ended) == list(wanted), "in their order"


# --- clients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*READS, *STREAMS])
async def test_a_get_may_say_that_its_body_which_it_has_not_is_octets(talk: Talk, shared: str, path: str):
    headers = {"Content-Type": "application/x-ndjson"} if path.startswith("/topic/") else OCTETS
    async with (
        asyncio.timeout(DEADLINE),
        talk.http.get(talk.url + path.format(id=shared), headers=headers) as answer,
    ):
        assert answer.status == 200


async def test_an_error_of_each_status_has_a_sentence_in_json(talk: Talk, shared: str, waits: str):
    fresh, ended = await talk.client.start(waits), await talk.client.start(waits)
    await talk.client.kill(ended)
    await talk.until_over(ended)
    taken = {"instanceId": shared}
    for status, method, path, options in [
        (400, "POST", f"/instance/{shared}/_stop", {"json": {"timeout": "soon"}}),
        (404, "DELETE", f"/sequence/{NOBODY}", {}),
        (405, "DELETE", "/version", {}),
        (406, "POST", f"/instance/{fresh}/input", {"skip_auto_headers": ["Content-Type"]}),
        (409, "POST", f"/sequence/{waits}/start", {"json": taken}),
        (409, "DELETE", f"/sequence/{waits}", {}),
        (410, "GET", f"/instance/{ended}/once/never", {}),
        (415, "PUT", f"/sequence/{waits}", {"data": b"x", "headers": TEXT}),
        (416, "GET", f"/instance/{ended}/log?offset=999999999", {}),
        (422, "PUT", f"/sequence/{waits}", {"data": b"x", "headers": OCTETS}),
        (422, "POST", f"/sequence/{waits}/start", {"json": {"instanceId": "short"}}),
    ]:
        answer = await talk.ask(method, path, **options)
        assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json"), path
        assert answer.error, path
    await talk.client.kill(fresh)


async def test_two_slashes_and_one_at_the_end_of_the_base_do_not_matter(talk: Talk, waits: str):
    assert (await talk.ask("GET", "//sequences")).json == await talk.get("/sequences")
    started = await talk.ask("POST", f"//sequence/{waits}/start", data=b"null", headers=JSON)
    assert started.json["result"] == "success"
    async with HubClient(talk.url + "/") as client:
        await client.kill(started.json["id"])
    assert (await talk.until_over(started.json["id"]))["terminated"]["exitcode"] == 137


async def test_an_answer_may_begin_before_the_request_has_ended_and_end_after_it(talk: Talk, waits: str):
    instance = await talk.client.start(waits)
    gate = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"one\n"
        await gate.wait()
        yield b"two\n"

    async with asyncio.timeout(DEADLINE), talk.client.read(instance, "output") as chunks:
        async with talk.http.post(
            f"{talk.url}/instance/{instance}/input", data=body(), headers=TEXT
        ) as answer:
            assert answer.status == 200
            assert await anext(chunks) == b"one\n"
            gate.set()
            assert await answer.read() == b""
        assert b"".join([chunk async for chunk in chunks]) == b"two\n"
