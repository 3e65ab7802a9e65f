"""The API as calls: what each asks of the carrier, and what it makes of the answer."""

import json
from contextlib import asynccontextmanager

import pytest

from sequence_sdk.hub import (
    MANAGER,
    ClientError,
    HubApi,
    HubRefused,
    HubUnreachable,
    NotAHub,
    StreamBroken,
    UsedOutsideLoop,
)


class Answer:
    def __init__(self, chunks, status=200, reason="OK", broken=False):
        self.status = status
        self.reason = reason
        self._chunks = chunks
        self._broken = broken

    async def chunks(self):
        for chunk in self._chunks:
            yield chunk
        if self._broken:
            raise StreamBroken("the line is dead")

    async def read(self):
        return b"".join([chunk async for chunk in self.chunks()])


class Carrier:
    """Keeps what it is asked, and gives the answer of the test."""

    where = "the test"

    def __init__(self):
        self.asked = []
        self.open = 0
        self.says(b"{}")

    def says(self, *chunks, **options):
        self.answer = Answer(chunks, **options)

    @asynccontextmanager
    async def request(self, method, path, *, headers, body):
        if body is not None and not isinstance(body, bytes):
            body = b"".join([chunk async for chunk in body])
        self.asked.append((method, path, headers, body))
        self.open += 1
        try:
            yield self.answer
        finally:
            self.open -= 1


@pytest.fixture
def carrier():
    return Carrier()


@pytest.fixture
def api(carrier):
    return HubApi(carrier)


async def each(*chunks):
    for chunk in chunks:
        yield chunk


async def consume(stream):
    async with stream as chunks:
        return [chunk async for chunk in chunks]


JSON = {"Content-Type": "application/json"}
OCTETS = {"Content-Type": "application/octet-stream"}
ID = {"id": "x"}
ODD, PART = "@a/ü b", "%40a%2F%C3%BC%20b"

CALLS = [
    ("version", (), {}, {"a": 1}, ("GET", "/version", {}, None)),
    ("status", (), {}, {"a": 1}, ("GET", "/status", {}, None)),
    ("config", (), {}, {"a": 1}, ("GET", "/config", {}, None)),
    ("load", (), {}, {"a": 1}, ("GET", "/load-check", {}, None)),
    ("entities", (), {}, {"a": 1}, ("GET", "/entities", {}, None)),
    ("sequences", (), {}, [ID], ("GET", "/sequences", {}, None)),
    ("sequence", (ODD,), {}, ID, ("GET", f"/sequence/{PART}", {}, None)),
    ("sequence_instances", ("s",), {}, ["i"], ("GET", "/sequence/s/instances", {}, None)),
    ("versions", (ODD,), {}, [{"version": 1}], ("GET", f"/sequence/{PART}/versions", {}, None)),
    ("rollback", (ODD,), {}, {"version": 3}, ("POST", f"/sequence/{PART}/rollback", JSON, {})),
    ("rollback", ("s", 1), {}, {"version": 3}, ("POST", "/sequence/s/rollback", JSON, {"version": 1})),
    ("instances", (), {}, [ID], ("GET", "/instances", {}, None)),
    ("instance", (ODD,), {}, ID, ("GET", f"/instance/{PART}", {}, None)),
    ("health", ("i",), {}, {"healthy": True}, ("GET", "/instance/i/health", {}, None)),
    ("stop", ("i",), {}, ID,
     ("POST", "/instance/i/_stop", JSON, {"timeout": 7000, "canCallKeepalive": False})),
    ("stop", ("i", 0.5), {"can_keep_alive": True}, ID,
     ("POST", "/instance/i/_stop", JSON, {"timeout": 500, "canCallKeepalive": True})),
    ("kill", ("i",), {"remove_immediately": True}, ID,
     ("POST", "/instance/i/_kill", JSON, {"removeImmediately": True})),
    ("last_event", ("i", ODD), {}, 0, ("GET", f"/instance/i/event/{PART}", {}, None)),
    ("last_event", ("i",), {}, {"eventName": "e", "message": 1}, ("GET", "/instance/i/once", {}, None)),
    ("next_event", ("i", "e"), {}, "", ("GET", "/instance/i/once/e", {}, None)),
    ("metrics", (ODD,), {}, {"items": {"in": 1}}, ("GET", f"/instance/{PART}/metrics", {}, None)),
    ("state", (ODD,), {}, {"k": 0}, ("GET", f"/instance/{PART}/state", {}, None)),
    ("get_state", ("i", ODD), {}, None, ("GET", f"/instance/i/state/{PART}", {}, None)),
    ("topics", (), {}, [{"topic": "t"}], ("GET", "/topics", {}, None)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "options", "said", "asked"), CALLS)
async def test_a_call_asks_for_what_it_returns(api, carrier, name, args, options, said, asked):
    carrier.says(json.dumps(said).encode())
    assert await getattr(api, name)(*args, **options) == said
    method, path, headers, body = carrier.asked.pop()
    assert (method, path, headers, json.loads(body) if body else None) == asked
    assert carrier.open == 0


SILENT = [
    ("set_monitoring_rate", ("i", 2.5), {}, ("POST", "/instance/i/_monitoring_rate", JSON, {"monitoringRate": 2.5})),
    ("emit", ("i", "e", 0), {}, ("POST", "/instance/i/_event", JSON, {"eventName": "e", "message": 0})),
    ("emit", ("i", "e"), {}, ("POST", "/instance/i/_event", JSON, {"eventName": "e", "message": None})),
    ("reload", (ODD,), {}, ("POST", f"/instance/{PART}/_reload", {}, None)),
    ("delete_state", ("i", ODD), {}, ("DELETE", f"/instance/i/state/{PART}", {}, None)),
    ("delete_state", ("i",), {}, ("DELETE", "/instance/i/state", {}, None)),
    ("set_state", ("i", ODD, {"a": [1]}), {}, ("PUT", f"/instance/i/state/{PART}", JSON, {"a": [1]})),
    ("create_topic", ("t", "text/plain"), {}, ("POST", "/topics", JSON, {"id": "t", "content-type": "text/plain"})),
    ("delete_topic", (ODD,), {}, ("DELETE", f"/topics/{PART}", {}, None)),
    ("delete_sequence", ("s",), {}, ("DELETE", "/sequence/s", {}, None)),
    ("delete_sequence", ("s",), {"force": True}, ("DELETE", "/sequence/s", {"x-seq-kill-inst": "true"}, None)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "options", "asked"), SILENT)
async def test_a_call_that_returns_nothing_asks_for_it(api, carrier, name, args, options, asked):
    assert await getattr(api, name)(*args, **options) is None
    method, path, headers, body = carrier.asked.pop()
    assert (method, path, headers, json.loads(body) if body else None) == asked


async def test_a_start_says_what_is_wanted_and_nothing_else(api, carrier):
    carrier.says(b'{"id": "x"}')
    assert await api.start(ODD) == "x"
    limits = {"memory": 512}
    await api.start(
        "s", config={"k": 1}, args=[2], input_topic="a", output_topic="b", limits=limits, instance_id="i"
    )
    assert [(method, path, headers) for method, path, headers, _ in carrier.asked] == [
        ("POST", f"/sequence/{PART}/start", JSON),
        ("POST", "/sequence/s/start", JSON),
    ]
    assert [json.loads(body) for *_, body in carrier.asked] == [
        {"appConfig": {}, "args": []},
        {
            "appConfig": {"k": 1}, "args": [2], "inputTopic": "a", "outputTopic": "b", "limits": limits,
            "instanceId": "i",
        },
    ]  # fmt: skip


@pytest.mark.parametrize("package", [b"content", each(b"con", b"tent")])
async def test_a_package_is_sent_as_it_is(api, carrier, package):
    carrier.says(b'{"id": "x"}')
    assert await api.send_sequence(package) == "x"
    assert carrier.asked == [("POST", "/sequence", OCTETS, b"content")]


async def test_a_package_replaces_that_of_a_sequence(api, carrier):
    carrier.says(b'{"id": "x"}')
    assert await api.send_sequence(b"content", replace=ODD) == "x"
    assert carrier.asked == [("PUT", f"/sequence/{PART}", OCTETS, b"content")]


@pytest.mark.parametrize("package", [b"\r\n--content", each(b"\r\n--con", b"tent"), b""])
async def test_a_package_with_a_configuration_is_a_form(api, carrier, package):
    from email import message_from_bytes

    carrier.says(b'{"id": "x"}')
    assert await api.send_sequence(package, config={"k": "ü"}) == "x"
    ((method, path, headers, body),) = carrier.asked
    assert (method, path) == ("POST", "/sequence")
    form = message_from_bytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
    config, file = form.get_payload()
    assert config.get_param("name", header="Content-Disposition") == "appConfig"
    assert config.get_content_type() == "application/json"
    assert json.loads(config.get_payload()) == {"k": "ü"}
    assert file.get_param("name", header="Content-Disposition") == "file"
    assert file.get_payload(decode=True) == (b"" if package == b"" else b"\r\n--content")


STREAMS = [
    (lambda api: api.log(), ("GET", "/log", {})),
    (lambda api: api.audit(), ("GET", "/audit", {})),
    (lambda api: api.read(ODD, "output"), ("GET", f"/instance/{PART}/output", {})),
    (lambda api: api.read("i", "log", offset=0), ("GET", "/instance/i/log?offset=0", {})),
    (lambda api: api.read("i", "stderr", offset="latest"), ("GET", "/instance/i/stderr?offset=latest", {})),
    (lambda api: api.read_topic(ODD), ("GET", f"/topic/{PART}", {})),
    (lambda api: api.read_topic("t", content_type="text/plain", offset=7),
     ("GET", "/topic/t?offset=7", {"Content-Type": "text/plain"})),
    (lambda api: api.inout("i", None), ("POST", "/instance/i/inout", OCTETS)),
]  # fmt: skip


@pytest.mark.parametrize(("open_stream", "asked"), STREAMS)
async def test_a_stream_comes_as_it_is_cut_and_then_its_error(api, carrier, open_stream, asked):
    carrier.says(b"one", b"two")
    assert await consume(open_stream(api)) == [b"one", b"two"]
    carrier.says(b"one", broken=True)
    async with open_stream(api) as chunks:
        assert carrier.open == 1
        assert await anext(chunks) == b"one"
        with pytest.raises(StreamBroken, match="is not complete: the line is dead"):
            await anext(chunks)
    assert carrier.open == 0
    assert [(method, path, headers) for method, path, headers, _ in carrier.asked] == [asked, asked]


async def test_input_and_output_share_a_request(api, carrier):
    carrier.says(b"out")
    assert await consume(api.inout("i", each(b"a", b"b"), content_type="text/plain")) == [b"out"]
    assert carrier.asked == [("POST", "/instance/i/inout", {"Content-Type": "text/plain"}, b"ab")]


@pytest.mark.parametrize(("end", "flag"), [(True, "true"), (False, "false")])
async def test_chunks_are_sent_with_their_type_and_their_end(api, carrier, end, flag):
    carrier.says()
    await api.send("i", "input", each(b"a", b"b"), content_type="text/plain", end=end)
    await api.send("i", "stdin", b"c", end=end)
    await api.send_topic(ODD, b"d", content_type="text/plain", end=end)
    flags = {"x-end-stream": flag}
    assert carrier.asked == [
        ("POST", "/instance/i/input", {"Content-Type": "text/plain", **flags}, b"ab"),
        ("POST", "/instance/i/stdin", {**OCTETS, **flags}, b"c"),
        ("POST", f"/topic/{PART}", {"Content-Type": "text/plain", **flags}, b"d"),
    ]


async def test_what_was_not_taken_whole_is_broken(api, carrier):
    carrier.says(broken=True)
    with pytest.raises(StreamBroken, match="input of Instance i was not taken whole: the line is dead"):
        await api.send("i", "input", b"x")
    with pytest.raises(StreamBroken, match="topic t was not taken whole"):
        await api.send_topic("t", b"x", content_type="text/plain")


@pytest.mark.parametrize(("event", "path"), [(None, "event"), (ODD, f"events/{PART}")])
async def test_events_are_values_however_their_lines_are_cut(api, carrier, event, path):
    carrier.says(b'{"a"', b': 1}\n\n0\n""', b"\nnull\n[]")
    assert await consume(api.events("i", event)) == [{"a": 1}, 0, "", None]
    assert carrier.asked == [("GET", f"/instance/i/{path}", {}, None)]


@pytest.mark.parametrize("value", [None, 0, "", False, [], {}])
async def test_a_value_of_a_state_may_be_any_json(api, carrier, value):
    await api.set_state("i", "k", value)
    assert json.loads(carrier.asked.pop()[3]) == value
    carrier.says(json.dumps(value).encode())
    assert await api.get_state("i", "k") == value


@pytest.mark.parametrize("value", [float("nan"), {1j}, [object]])
async def test_what_is_no_json_is_not_sent(api, carrier, value):
    with pytest.raises((ValueError, TypeError)):
        await api.set_state("i", "k", value)
    with pytest.raises((ValueError, TypeError)):
        await api.quarantine_items("i", [{"item": value, "error": "e"}])
    assert carrier.asked == []


async def test_items_are_put_aside_a_record_a_line(api, carrier):
    carrier.says(b'{"kept": 2}')
    records = [{"item": "ü", "error": "e"}, {"item": None, "error": ""}]
    assert await api.quarantine_items(ODD, records) == 2
    ((method, path, headers, body),) = carrier.asked
    assert (method, path, headers) == (
        "POST",
        f"/instance/{PART}/quarantine",
        {"Content-Type": "application/x-ndjson"},
    )
    assert [json.loads(line) for line in body.splitlines()] == records
    carrier.says(b"{}")
    with pytest.raises(NotAHub):
        await api.quarantine_items("i", iter(()))


async def test_items_that_are_put_aside_come_one_by_one(api, carrier):
    carrier.says(b'{"error": "a"}\n{"err', b'or": "b"}\n')
    assert await consume(api.quarantine(ODD)) == [{"error": "a"}, {"error": "b"}]
    carrier.says(b'{"error": "a"}\n{"err', broken=True)
    async with api.quarantine("i") as items:
        assert await anext(items) == {"error": "a"}
        with pytest.raises(StreamBroken, match="quarantine of Instance i is not complete"):
            await anext(items)
    assert carrier.asked[0] == ("GET", f"/instance/{PART}/quarantine", {}, None)


async def test_the_manager_is_asked_by_way_of_the_hub(carrier):
    space = HubApi(carrier, base=MANAGER)
    carrier.says(b"[]")
    assert await space.instances() == []
    assert await consume(space.read_topic("t")) == [b"[]"]
    assert [path for _, path, *_ in carrier.asked] == ["/cpm/api/v1/instances", "/cpm/api/v1/topic/t"]


async def test_events_that_break_off_say_so(api, carrier):
    carrier.says(b"1\n2", broken=True)
    async with api.events("i") as events:
        assert await anext(events) == 1
        with pytest.raises(StreamBroken, match="events of Instance i is not complete"):
            await anext(events)


@pytest.mark.parametrize(
    ("body", "said", "details"),
    [
        (b'{"error": "gone", "id": 7}', "gone", {"error": "gone", "id": 7}),
        (b'{"error": {"code": 1}}', '{"code":1}', {"error": {"code": 1}}),
        (b'{"message": "Forbidden"}', "Forbidden", {"message": "Forbidden"}),
        (b'{"error": ""}', "410 Gone", {"error": ""}),
        (b"<html>", "410 Gone", {}),
        (b"[1]", "410 Gone", {}),
        (b"\xff", "410 Gone", {}),
        (b"[" * 100_000, "410 Gone", {}),
        (b"", "410 Gone", {}),
    ],
)
async def test_a_refusal_says_what_the_hub_said(api, carrier, body, said, details):
    carrier.says(body, status=410, reason="Gone")
    for call in (api.version(), api.send("i", "input", b"x"), consume(api.read("i", "output"))):
        with pytest.raises(HubRefused) as caught:
            await call
        assert (caught.value.status, str(caught.value), caught.value.details) == (410, said, details)
    assert carrier.open == 0


async def test_a_refusal_that_is_cut_off_is_still_one(api, carrier):
    carrier.says(b'{"err', status=503, reason="", broken=True)
    with pytest.raises(HubRefused, match=r"^503$"):
        await api.version()


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"5", b"\xff", b"[" * 100_000])
async def test_who_does_not_speak_as_a_hub_is_none(api, carrier, body):
    carrier.says(body)
    with pytest.raises(NotAHub, match="what answers /version at the test is no hub"):
        await api.version()
    carrier.says(b"{}")
    for call in (api.sequences(), api.start("s"), api.send_sequence(b"")):
        with pytest.raises(NotAHub):
            await call
    carrier.says(b"no JSON\n")
    with pytest.raises(NotAHub):
        await consume(api.events("i"))


async def test_an_answer_that_is_cut_off_is_none(api, carrier):
    carrier.says(b'{"a": 1}', broken=True)
    with pytest.raises(HubUnreachable) as caught:
        await api.version()
    assert str(caught.value) == "no hub answers at the test (the line is dead)"


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_what_would_make_another_path_is_no_name(api, carrier, name):
    for call in (
        api.sequence(name),
        api.delete_sequence(name),
        api.delete_topic(name),
        api.send(name, "input", b""),
    ):
        with pytest.raises(ClientError, match="is no id and no name"):
            await call
    with pytest.raises(ClientError):
        api.read("i", name)
    assert carrier.asked == []


def test_errors_say_what_to_do_and_are_all_of_one_kind():
    errors = [
        HubUnreachable("x", "why", "start one"), NotAHub("x", "/y"), HubRefused(400, "bad"), StreamBroken("s"), UsedOutsideLoop(),
    ]  # fmt: skip
    assert all(isinstance(error, ClientError) for error in errors)
    assert str(errors[0]) == "no hub answers at x (why); start one"
    assert "in an `async def`" in str(errors[-1])
