"""What all endpoints share: paths, methods, JSON bodies, Accept, and errors as JSON."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from aiohttp import ClientSession, ServerDisconnectedError, web
from aiohttp.test_utils import TestServer

from hub_lite.api.answers import JsonAnswer

from .conftest import ONE, Api

NOBODY = "0" * 36
JSON_READS = [
    "/version",
    "/sequences",
    f"/sequence/{ONE}",
    "/instances",
    "/instance/{id}",
    "/instance/{id}/health",
]
STREAMS = ["output", "stdout", "stderr", "log"]


async def test_the_version_says_what_this_is(api: Api) -> None:
    answer = await api.ask("GET", "/version")
    assert answer.status == 200
    assert answer.json.keys() == {"service", "apiVersion", "version", "build"}
    assert (answer.json["service"], answer.json["apiVersion"]) == ("hub-lite", "v1")


@pytest.mark.parametrize(
    "path", ["/nothing", "/", "", "/sequence", "/instance", f"/instance/{NOBODY}/nothing", "/Version"]
)
async def test_an_unknown_path_is_not_found(api: Api, path: str) -> None:
    answer = await api.ask("GET", path)
    if path == "/sequence":  # which is there, for packages
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    else:
        assert (answer.status, answer.error) == (404, f"/api/v1{path} is not a path of this hub")


async def test_a_path_outside_the_api_is_not_found(api: Api) -> None:
    async with api.http.get(f"http://127.0.0.1:{api.port}/version") as answer:
        assert answer.status == 404
        assert await answer.json() == {"error": "/version is not a path of this hub"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/version", "GET, HEAD"),
        ("PUT", "/sequence", "POST"),
        ("POST", f"/sequence/{ONE}", "DELETE, GET, HEAD, PUT"),
        ("GET", f"/sequence/{ONE}/start", "POST"),
        ("DELETE", "/instances", "GET, HEAD"),
        ("GET", f"/instance/{NOBODY}/_kill", "POST"),
        ("GET", f"/instance/{NOBODY}/input", "POST"),
        ("POST", f"/instance/{NOBODY}/output", "GET, HEAD"),
        ("POST", "//version", "GET, HEAD"),
        ("PATCH", "/version", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(api: Api, method: str, path: str, allowed: str) -> None:
    answer = await api.ask(method, path)
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)
    assert answer.error.startswith(f"{method} is not a method of /api/v1")
    assert answer.error.endswith(f"use {allowed}")


@pytest.mark.parametrize(
    "path", ["//sequences", "///sequences", f"//sequence/{ONE}", f"/sequence//{ONE}", f"//sequence///{ONE}"]
)
async def test_a_slash_too_many_is_forgiven(api: Api, path: str) -> None:
    answer = await api.ask("GET", path)
    assert answer.status == 200
    assert ONE in answer.body.decode()


async def test_a_slash_too_many_is_forgiven_with_a_body_and_a_query(api: Api) -> None:
    started = await api.ask("POST", f"//sequence/{ONE}/start", {"args": [1]})
    assert started.status == 200
    instance_id = started.json["id"]
    assert api.hub.instance(instance_id).payload.args == [1]
    await api.runners[instance_id].links[6].send(b"abc")
    await api.end(instance_id)
    assert (await api.ask("GET", f"//instance/{instance_id}//output?offset=1")).body == b"bc"


@pytest.mark.parametrize("path", ["//nothing", "//", "//instance//"])
async def test_slashes_make_no_path_of_what_is_none(api: Api, path: str) -> None:
    assert (await api.ask("GET", path)).status == 404


async def test_head_is_get_without_a_body(api: Api) -> None:
    answer = await api.ask("HEAD", "/sequences")
    assert (answer.status, answer.body) == (200, b"")
    assert (await api.ask("HEAD", f"/sequence/{NOBODY}")).status == 404


# --- Accept -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", JSON_READS)
@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 200), ("text/json", 200), ("*/*", 200), ("application/*", 200), ("*", 200), ("", 200),
        ("text/html, application/xhtml+xml, */*;q=0.8", 200), ("APPLICATION/JSON; charset=utf-8", 200), (" , ", 200),
        ("text/plain", 415), ("application/octet-stream", 415), ("application/jsonp", 415), ("nonsense", 415),
        ("image/*, text/html;q=0.9", 415),
    ],
)  # fmt: skip
async def test_json_goes_only_to_who_takes_it(api: Api, path: str, accept: str, status: int) -> None:
    if "{id}" in path:
        instance_id = await api.start()
        await api.runners[instance_id].say(3001, {"healthy": True})
        path = path.format(id=instance_id)
    answer = await api.ask("GET", path, Accept=accept)
    assert answer.status == status
    if status == 415:
        assert answer.reason == "Invalid content-type"
        assert answer.error == f"this is application/json, which Accept: {accept} leaves out"


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/octet-stream", 200), ("*/*", 200), ("application/*", 200), ("text/html, */*;q=0.1", 200), ("", 200),
        ("application/json", 415), ("text/plain", 415), ("text/*", 415),
    ],
)  # fmt: skip
async def test_a_stream_goes_only_to_who_takes_bytes(api: Api, stream: str, accept: str, status: int) -> None:
    instance_id = await api.start()
    await api.end(instance_id)
    answer = await api.ask("GET", f"/instance/{instance_id}/{stream}", Accept=accept)
    assert answer.status == status
    assert status == 200 or "application/octet-stream" in answer.error


async def test_without_accept_all_is_taken(api: Api) -> None:
    request = b"GET /api/v1/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert (await api.raw(request)).startswith(b"HTTP/1.1 200 OK\r\n")
    two = request.replace(
        b"Host: localhost", b"Host: localhost\r\nAccept: text/html\r\nAccept: application/json"
    )
    assert (await api.raw(two)).startswith(b"HTTP/1.1 200 OK\r\n")


# --- JSON bodies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, b"", b"  \n", b"null", b"{}", b"[4002,{}]", b"[4002,null]"])
async def test_nothing_in_all_its_forms_is_an_empty_body(api: Api, body: bytes | None) -> None:
    headers = {"Content_Type": "application/json"} if body else {}
    answer = await api.ask("POST", f"/instance/{await api.start()}/_kill", body, **headers)
    assert (answer.status, answer.json["status"]) == (202, "killing")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 202), ("text/json", 202), ("Application/JSON; charset=UTF-8", 202), (None, 202), ("", 202),
        ('application/json; charset="utf8"', 202),
        ("application/json; charset=utf-16", 400), ("text/plain", 400), ("application/x-www-form-urlencoded", 400),
        ("application/octet-stream", 400), ("nonsense", 400),
    ],
)  # fmt: skip
async def test_a_body_has_to_be_json_by_its_type(api: Api, content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"Content_Type": content_type}
    answer = await api.ask("POST", f"/instance/{await api.start()}/_kill", b"{}", **headers)
    assert answer.status == status
    assert status == 202 or answer.reason == "Could not parse content"


async def test_without_a_body_the_type_does_not_matter(api: Api) -> None:
    answer = await api.ask("POST", f"/instance/{await api.start()}/_kill", Content_Type="text/plain")
    assert answer.status == 202


@pytest.mark.parametrize(
    "body", [b"{", b"nonsense", b"{'a': 1}", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b"{}{}"]
)
async def test_what_is_no_json_is_refused_with_the_phrase_that_clients_know(api: Api, body: bytes) -> None:
    for path in ("_kill", "_stop"):
        answer = await api.ask(
            "POST", f"/instance/{await api.start()}/{path}", body, Content_Type="application/json"
        )
        assert (answer.status, answer.reason) == (400, "Could not parse content")
        assert answer.error.startswith("the body is not JSON: ")


@pytest.mark.parametrize("body", [[1], [], "x", 5, True, [1, 2, 3], ["a", {}], [4001, [1]], [[4001], {}]])
async def test_json_of_another_shape_is_refused(api: Api, body: Any) -> None:
    answer = await api.ask("POST", f"/instance/{await api.start()}/_stop", body)
    assert answer.status == 400
    assert answer.error.startswith("the body must be a JSON object, not ")


class TestWithSmallBodies:
    @pytest.fixture
    async def settings_of_hub(self) -> dict[str, Any]:
        return {"max_body_bytes": 1000}

    @pytest.mark.parametrize("path", ["/instance/{id}/_stop", f"/sequence/{ONE}/start"])
    async def test_a_body_that_is_too_long_is_refused(self, api: Api, path: str) -> None:
        path = path.format(id=await api.start())
        answer = await api.ask("POST", path, {"args": ["x" * 1000]})
        assert answer.status == 413
        assert answer.error == "a JSON body may have 1000 bytes at most"
        assert (await api.ask("GET", "/version")).status == 200

    async def test_streams_are_no_bodies_of_that_kind(self, api: Api) -> None:
        instance_id = await api.start()
        answer = await api.ask("POST", f"/instance/{instance_id}/stdin", b"x" * 5000)
        assert answer.status == 200
        assert (await api.ask("POST", "/sequence", b"x" * 5000)).status == 200


# --- errors -----------------------------------------------------------------------------------------------------------


async def test_a_fault_of_ours_is_a_500_and_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.store.removal_error = ZeroDivisionError("our fault")
    answer = await api.ask("DELETE", f"/sequence/{ONE}")
    assert answer.status == 500
    assert answer.error == "Internal error occurred; the hub's log has the details"
    assert "our fault" in caplog.text


async def test_a_body_that_cannot_be_decoded_is_the_fault_of_the_client(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/sequence", f"/sequence/{ONE}/start"):
        answer = await api.ask("POST", path, b"nonsense", Content_Encoding="gzip")
        assert answer.status == 400
        assert answer.error.startswith("the body is cut off or malformed: ")
    assert api.store.uploads[0].left
    assert [record for record in caplog.records if record.name.startswith("hub_lite")] == []


async def test_a_report_of_a_runner_is_shown_whatever_json_it_is(api: Api) -> None:
    instance_id = await api.start()
    report = {"healthy": True, "big": 2**70, "half": "\ud800", "deep": [[[[]]]]}
    await api.runners[instance_id].say(3001, report)
    answer = await api.ask("GET", f"/instance/{instance_id}/health")
    assert answer.json == report | {"processId": 4711}


# The answer that goes out in one piece, and the ones that do not


@dataclass(frozen=True, slots=True)
class Got:
    """What a client has got."""

    status: int
    headers: dict[str, str]
    body: bytes


def head_and_body(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    """Return the status line, the headers and the body of one answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("ascii").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    return status, headers, body


async def answers_to(api: Api, *requests: str) -> bytes:
    return await api.raw("".join(f"{one}\r\n\r\n" for one in requests).encode())


VERSION = "GET /api/v1/version HTTP/1.1\r\nHost: localhost"


@pytest.mark.parametrize("path", ["/version", "/instances", "/sequences", f"/sequence/{ONE}"])
async def test_an_answer_made_in_one_piece_has_the_head_that_any_other_has(api: Api, path: str) -> None:
    get = f"GET /api/v1{path} HTTP/1.1\r\nHost: localhost"
    both = await answers_to(api, get, f"{get}\r\nConnection: close")
    cut = both.index(b"HTTP/1.1", 1)
    status, headers, body = head_and_body(both[:cut])
    other_status, other_headers, other_body = head_and_body(both[cut:])
    assert (status, body) == (other_status, other_body) == ("HTTP/1.1 200 OK", body)
    assert other_headers.pop("Connection") == "close"
    assert headers.keys() == other_headers.keys()
    assert headers | {"Date": ""} == other_headers | {"Date": ""}
    assert int(headers["Content-Length"]) == len(body) > 0
    assert (
        abs(parsedate_to_datetime(headers["Date"]) - parsedate_to_datetime(other_headers["Date"])).seconds < 5
    )


async def test_a_head_alone_has_the_headers_of_the_whole(api: Api) -> None:
    both = await answers_to(api, VERSION.replace("GET", "HEAD"), f"{VERSION}\r\nConnection: close")
    cut = both.index(b"HTTP/1.1", 1)
    _, headers, body = head_and_body(both[:cut])
    assert body == b""
    assert headers["Content-Length"] == head_and_body(both[cut:])[1]["Content-Length"]


async def test_a_client_of_http_1_0_is_answered_in_its_version(api: Api) -> None:
    status, headers, body = head_and_body(await answers_to(api, VERSION.replace("1.1", "1.0")))
    assert status == "HTTP/1.0 200 OK"
    assert int(headers["Content-Length"]) == len(body) > 0


async def test_many_requests_at_once_on_one_connection_are_all_answered(api: Api) -> None:
    answers = await answers_to(api, *[VERSION] * 50, f"{VERSION}\r\nConnection: close")
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == answers.count(b'"service":"hub-lite"') == 51


async def given(
    answer: web.Response, *, before: Callable[[web.Request], None], added: str = ""
) -> Got | None:
    """Return what a client gets when a handler answers so; None if the connection is lost."""

    async def give(request: web.Request) -> web.Response:
        before(request)
        return answer

    async def add(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-More"] = added

    application = web.Application()
    application.router.add_get("/", give)
    if added:
        application.on_response_prepare.append(add)
    async with TestServer(application) as server, ClientSession() as client:
        try:
            async with client.get(server.make_url("/")) as got:
                return Got(got.status, dict(got.headers), await got.read())
        except ServerDisconnectedError:
            return None


def nothing(request: web.Request) -> None:
    """Let the answer go its way."""


async def test_the_usual_answer_has_three_headers_and_its_body() -> None:
    answer = JsonAnswer(b"{}")
    got = await given(answer, before=nothing)
    assert got is not None
    assert (got.status, got.body) == (200, b"{}")
    assert got.headers.keys() == {"Content-Type", "Date", "Server", "Content-Length"}
    assert answer.prepared
    assert answer.keep_alive


async def test_an_answer_to_a_client_that_is_gone_is_nothing() -> None:
    answer = JsonAnswer(b"{}")
    assert await given(answer, before=lambda request: request.transport.abort()) is None


@pytest.mark.parametrize("change", ["status", "header", "close"])
async def test_an_answer_that_is_not_the_usual_one_is_as_it_was_asked_for(change: str) -> None:
    answer = JsonAnswer(b"{}", status=201 if change == "status" else 200)
    if change == "header":
        answer.headers["X-More"] = "1"
    if change == "close":
        answer.force_close()
    got = await given(answer, before=nothing)
    assert got is not None
    assert (got.status, got.body) == (answer.status, b"{}")
    assert got.headers.get("X-More") == ("1" if change == "header" else None)
    assert got.headers.get("Connection") == ("close" if change == "close" else None)
    assert answer.prepared
    assert answer.keep_alive is (change != "close")


async def test_what_is_added_to_every_answer_is_added_to_the_usual_one_too() -> None:
    got = await given(JsonAnswer(b"{}"), before=nothing, added="1")
    assert got is not None
    assert (got.headers["X-More"], got.body) == ("1", b"{}")


async def test_a_long_answer_is_whole() -> None:
    got = await given(JsonAnswer(b'"%b"' % (b"x" * 300_000)), before=nothing)
    assert got is not None
    assert got.body == b'"%b"' % (b"x" * 300_000)
    assert got.headers["Content-Length"] == "300002"


@pytest.mark.parametrize("status", [200, 202])
async def test_posts_on_one_connection_are_each_answered_behind_their_body(status: int) -> None:
    async def give(request: web.Request) -> web.Response:
        body = await request.read() if request.query.get("read") else b'"unread"'
        return JsonAnswer(body, status=status)

    application = web.Application()
    application.router.add_post("/", give)
    body = b'"%b"' % (b"x" * 200_000)
    head = "POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n"
    async with TestServer(application) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        for query, close in (("?read=1", ""), ("", ""), ("?read=1", "Connection: close\r\n")):
            writer.write((head % (query, len(body), close)).encode() + body)
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert received.count(b"HTTP/1.1 %d " % status) == 3
    assert received.count(body) == 2
    assert received.count(b'"unread"') == 1
