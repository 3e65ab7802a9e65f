"""Endpoints that are streams: input and stdin one way; output, stdout, stderr and log the other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.hub_lite.fakes import DEADLINE, IN, OUT, STDERR, STDIN, STDOUT, until

from .conftest import ONE, Api

ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"


async def ended_with_output(api: Api, content: bytes, code: int = 0) -> str:
    """Return the id of an Instance that has written ``content`` and ended."""
    instance_id = await api.start()
    await api.runners[instance_id].links[OUT].send(content)
    await api.end(instance_id, code)
    return instance_id


# --- out --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stream", "channel"), [("output", OUT), ("stdout", STDOUT), ("stderr", STDERR)])
async def test_a_stream_is_bytes_with_its_offset_and_an_end(api: Api, stream: str, channel: int) -> None:
    instance_id = await api.start()
    async with (
        asyncio.timeout(DEADLINE),
        api.http.get(f"{api.url}/instance/{instance_id}/{stream}") as answer,
    ):
        assert answer.status == 200  # before there is a byte
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["X-Stream-Offset"] == "0"
        assert answer.headers["Transfer-Encoding"] == "chunked"
        for piece in (b"one", b"\0\xff"):
            await api.runners[instance_id].links[channel].send(piece)
            assert await answer.content.readexactly(len(piece)) == piece
        await api.end(instance_id)
        assert await answer.content.read() == b""


async def test_the_log_has_the_end_as_its_last_word(api: Api) -> None:
    instance_id = await ended_with_output(api, b"")
    answer = await api.ask("GET", f"/instance/{instance_id}/log")
    assert b"Instance completed (exit code 0)" in answer.body.splitlines()[-1]


@pytest.mark.parametrize(
    ("offset", "body"),
    [
        ("", b"0123456789"), ("?offset=0", b"0123456789"), ("?offset=4", b"456789"), ("?offset=10", b""),
        ("?offset=earliest", b"0123456789"), ("?offset=latest", b""), ("?offset=00000000000000000004", b"456789"),
        ("?other=1", b"0123456789"),
    ],
)  # fmt: skip
async def test_a_reader_starts_where_it_wants(api: Api, offset: str, body: bytes) -> None:
    instance_id = await ended_with_output(api, b"0123456789")
    answer = await api.ask("GET", f"/instance/{instance_id}/output{offset}")
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["X-Stream-Offset"] == str(10 - len(body))


@pytest.mark.parametrize(
    "offset", ["-1", "", "x", "1.5", "1e3", "0x1", "%2B1", "%201", "LATEST", "\u0661", "9" * 21, "9" * 5000]
)
async def test_an_offset_that_is_none_is_refused(api: Api, offset: str) -> None:
    instance_id = await ended_with_output(api, b"0123456789")
    answer = await api.ask("GET", f"/instance/{instance_id}/output?offset={offset}")
    assert answer.status == 400
    assert answer.error.startswith("offset must be earliest, latest or a number of bytes, not ")


@pytest.mark.parametrize("offset", ["11", "9" * 20])
async def test_an_offset_that_is_not_there_is_not_satisfiable(api: Api, offset: str) -> None:
    instance_id = await ended_with_output(api, b"0123456789")
    answer = await api.ask("GET", f"/instance/{instance_id}/output?offset={offset}")
    assert answer.status == 416
    assert answer.error == f"offset {offset} is not there: choose one from 0 to 10, earliest or latest"


class TestWithSmallWindows:
    @pytest.fixture
    async def settings_of_hub(self) -> dict[str, Any]:
        return {"window_bytes": 100}

    async def test_what_is_no_longer_held_is_not_satisfiable(self, api: Api) -> None:
        instance_id = await api.start()
        await api.runners[instance_id].links[STDOUT].send(b"x" * 1000)
        await api.end(instance_id)
        answer = await api.ask("GET", f"/instance/{instance_id}/stdout?offset=5")
        assert (answer.status, answer.error.partition(":")[0]) == (416, "offset 5 is no longer held")
        assert (await api.ask("GET", f"/instance/{instance_id}/stdout")).headers["X-Stream-Offset"] == "900"


async def test_head_takes_no_bytes_away(api: Api) -> None:
    instance_id = await api.start()
    await api.runners[instance_id].links[OUT].send(b"for a reader")
    await until(lambda: api.hub.instance(instance_id).output.end_offset == 12)
    answer = await api.ask("HEAD", f"/instance/{instance_id}/output")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["X-Stream-Offset"] == "0"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    await api.end(instance_id)
    assert (await api.ask("GET", f"/instance/{instance_id}/output")).body == b"for a reader"


async def test_an_output_that_is_not_complete_is_broken_off_after_its_last_byte(api: Api) -> None:
    instance_id = await ended_with_output(api, b"a part", 23)
    async with api.http.get(f"{api.url}/instance/{instance_id}/output") as answer:
        assert await answer.content.readexactly(6) == b"a part"
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()
    assert (await api.ask("GET", f"/instance/{instance_id}/stdout")).status == 200  # which ends well


async def test_a_removed_instance_breaks_its_readers_off(api: Api) -> None:
    instance_id = await api.start()
    async with api.http.get(f"{api.url}/instance/{instance_id}/output") as answer:
        await api.runners[instance_id].links[OUT].send(b"x")
        assert await answer.content.readexactly(1) == b"x"
        api.hub.instance(instance_id).close()
        with pytest.raises(aiohttp.ClientPayloadError):
            await asyncio.wait_for(answer.content.read(), DEADLINE)


async def test_what_a_reader_that_went_away_had_not_taken_is_for_the_next(api: Api) -> None:
    instance_id = await api.start()
    window = api.hub.instance(instance_id).output
    async with api.http.get(f"{api.url}/instance/{instance_id}/output"):
        await until(lambda: window.readers == 1)
    await until(lambda: window.readers == 0)
    await api.runners[instance_id].links[OUT].send(b"later")
    await api.end(instance_id)
    assert (await api.ask("GET", f"/instance/{instance_id}/output")).body == b"later"


async def test_a_client_that_goes_away_is_no_news(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    instance_id = await api.start()
    window = api.hub.instance(instance_id).stdout
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(f"GET /api/v1/instance/{instance_id}/stdout HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await until(lambda: window.readers == 1)
    sending = asyncio.ensure_future(api.runners[instance_id].links[STDOUT].send(b"x" * 20_000_000))
    writer.transport.abort()
    await sending
    await until(lambda: window.readers == 0)
    assert caplog.records == []


async def test_a_slow_reader_of_what_never_waits_is_told_what_it_missed(api: Api) -> None:
    instance_id = await api.start()
    async with asyncio.timeout(DEADLINE), api.http.get(f"{api.url}/instance/{instance_id}/stdout") as answer:
        for _ in range(40):
            await api.runners[instance_id].links[STDOUT].send(b"x" * 1_000_000)
        await until(lambda: api.hub.instance(instance_id).stdout.end_offset == 40_000_000)
        await api.end(instance_id)
        body = await answer.content.read()
    assert b"bytes are lost here: this reader was too slow]" in body
    assert body.endswith(b"x")


# --- in ---------------------------------------------------------------------------------------------------------------


async def read_in(api: Api, instance_id: str) -> bytes:
    return await api.runners[instance_id].links[IN].rest()


@pytest.mark.parametrize(
    ("header", "status", "ends"),
    [
        (None, 200, True), ("true", 200, True), ("True", 200, True), ("success", 200, True), ("", 200, True),
        ("false", 202, False), (" False ", 202, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", ["input", "stdin"])
async def test_a_body_ends_the_stream_unless_it_says_not_to(
    api: Api, stream: str, header: str | None, status: int, ends: bool
) -> None:
    instance_id = await api.start()
    headers = {"Content_Type": "application/octet-stream"} | (
        {} if header is None else {"x_end_stream": header}
    )
    answer = await api.ask("POST", f"/instance/{instance_id}/{stream}", b"one", **headers)
    assert (answer.status, answer.body) == (status, b"")
    if not ends:
        assert (await api.ask("POST", f"/instance/{instance_id}/{stream}", b"two")).status == 200
    prologue = b"Content-Type: application/octet-stream\r\n\r\n" if stream == "input" else b""
    link = api.runners[instance_id].links[IN if stream == "input" else STDIN]
    assert await link.rest() == prologue + (b"one" if ends else b"onetwo")
    late = await api.ask("POST", f"/instance/{instance_id}/{stream}", b"late")
    assert (late.status, late.error) == (410, f"{stream} has ended; start another Instance to send more")


async def test_an_empty_body_is_an_empty_input(api: Api) -> None:
    instance_id = await api.start()
    answer = await api.ask("POST", f"/instance/{instance_id}/input", Content_Type="text/plain")
    assert answer.status == 200
    assert await read_in(api, instance_id) == b"Content-Type: text/plain\r\n\r\n"


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/plain; charset=utf-8",
        "application/x-ndjson",
        "text/x-ndjson",
        "Application/Octet-Stream",
    ],
)
async def test_the_content_type_is_handed_on_as_it_is(api: Api, content_type: str) -> None:
    instance_id = await api.start()
    await api.ask("POST", f"/instance/{instance_id}/input", b"x", Content_Type=content_type)
    assert await read_in(api, instance_id) == f"Content-Type: {content_type}\r\n\r\nx".encode()


@pytest.mark.parametrize(
    "content_type", ["application/json", "image/png", "nonsense", "text/plain; x=\u65e5"]
)
async def test_input_that_nobody_reads_is_refused_and_spoils_nothing(api: Api, content_type: str) -> None:
    instance_id = await api.start()
    answer = await api.ask("POST", f"/instance/{instance_id}/input", b"x", Content_Type=content_type)
    assert (answer.status, answer.reason) == (415, "Invalid content-type")
    assert (
        await api.ask("POST", f"/instance/{instance_id}/input", b"y", Content_Type="text/plain")
    ).status == 200
    assert await read_in(api, instance_id) == b"Content-Type: text/plain\r\n\r\ny"


@pytest.mark.parametrize("headers", [{}, {"Content_Type": ""}, {"Content_Type": "  "}])
async def test_input_without_a_type_is_not_acceptable(api: Api, headers: dict[str, str]) -> None:
    instance_id = await api.start()
    answer = await api.ask("POST", f"/instance/{instance_id}/input", b"x", **headers)
    assert (answer.status, answer.error) == (406, "Content-Type must be defined")


async def test_input_of_a_sequence_that_reads_a_topic_is_not_acceptable(api: Api) -> None:
    instance_id = await api.start()
    await api.runners[instance_id].say(3012, {"requires": "topic", "contentType": "text/plain"})
    await until(lambda: api.hub.instance(instance_id).requires)
    answer = await api.ask("POST", f"/instance/{instance_id}/input", b"x", Content_Type="text/plain")
    assert (answer.status, answer.error) == (406, "Input provided in other way")


async def test_stdin_is_bytes(api: Api) -> None:
    instance_id = await api.start()
    answer = await api.ask("POST", f"/instance/{instance_id}/stdin", b"x", Content_Type="text/plain")
    assert (answer.status, answer.reason) == (415, "Invalid content-type")


@pytest.mark.parametrize("stream", ["input", "stdin"])
async def test_nothing_is_taken_after_the_end(api: Api, stream: str) -> None:
    instance_id = await api.start()
    await api.end(instance_id)
    headers = {"Content_Type": "application/octet-stream"}
    assert (await api.ask("POST", f"/instance/{instance_id}/{stream}", b"x", **headers)).status == 410


async def test_an_answer_comes_before_the_body_is_over_and_ends_with_it(api: Api) -> None:
    instance_id = await api.start()
    more: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while (chunk := await more.get()) is not None:
            yield chunk

    link = api.runners[instance_id].links[IN]
    url, headers = f"{api.url}/instance/{instance_id}/input", {"Content-Type": "text/plain"}
    await more.put(b"one\n")  # this client sends nothing at all before it has a byte of the body
    async with asyncio.timeout(DEADLINE), api.http.post(url, data=body(), headers=headers) as answer:
        assert answer.status == 200
        assert (await link.exactly(32)).endswith(b"one\n")
        reading = asyncio.ensure_future(answer.read())
        done, _ = await asyncio.wait({reading}, timeout=0.02)
        assert not done
        await more.put(None)
        assert await reading == b""
        assert await link.rest() == b""


async def test_a_body_that_was_not_taken_whole_has_a_broken_answer(api: Api) -> None:
    instance_id = await api.start()
    gate = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        await gate.wait()
        with contextlib.suppress(ConnectionError):
            yield b"two"

    url, headers = f"{api.url}/instance/{instance_id}/stdin", {"Content-Type": "application/octet-stream"}
    async with asyncio.timeout(DEADLINE), api.http.post(url, data=body(), headers=headers) as answer:
        assert answer.status == 200
        await api.end(instance_id)
        gate.set()
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_a_body_that_cannot_be_decoded_does_not_end_the_input(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    instance_id = await api.start()
    with pytest.raises(aiohttp.ClientError):
        await api.ask(
            "POST",
            f"/instance/{instance_id}/input",
            b"nonsense",
            Content_Type="text/plain",
            Content_Encoding="gzip",
        )
    good = await api.ask("POST", f"/instance/{instance_id}/input", b"two\n", Content_Type="text/plain")
    assert good.status == 200
    assert (await read_in(api, instance_id)).endswith(b"two\n")
    assert [record for record in caplog.records if record.name.startswith("hub_lite")] == []


async def test_a_client_that_goes_away_inside_its_body_leaves_the_input_open(api: Api) -> None:
    instance_id = await api.start()
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = f"POST /api/v1/instance/{instance_id}/input HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
    writer.write(head.encode() + b"Content-Length: 100\r\n\r\nhalf a line")
    link = api.runners[instance_id].links[IN]
    assert (await link.exactly(39)).endswith(b"half a line")
    writer.transport.abort()
    answer = await api.ask("POST", f"/instance/{instance_id}/input", b"\nmore\n", Content_Type="text/plain")
    assert answer.status == 200
    assert await link.rest() == b"\nmore\n"


async def test_input_waits_for_the_sequence(api: Api) -> None:
    api.adapter.on_launch = None
    starting = asyncio.ensure_future(api.ask("POST", f"/sequence/{ONE}/start", {"instanceId": ID}))
    await until(lambda: api.adapter.processes)
    sending = asyncio.ensure_future(api.ask("POST", f"/instance/{ID}/input", b"x", Content_Type="text/plain"))
    done, _ = await asyncio.wait({sending}, timeout=0.02)
    assert not done
    await api.play(api.adapter.launches[0], api.adapter.processes[0])
    assert (await sending).status == 200
    assert (await starting).status == 200
    assert await read_in(api, ID) == b"Content-Type: text/plain\r\n\r\nx"
