"""The client against servers that do what hubs do, and what they should not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hub_lite.client import ClientError, HubClient, HubRefused, HubUnreachable, NotAHub, StreamBroken, api_url

from .fakes import DEADLINE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeServer:
    """Answers every request as the test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: Handler = self._nothing
        self.reads_bodies = True

    async def _nothing(self, request: web.Request) -> web.Response:
        return web.json_response({})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path_qs.removeprefix("/api/v1")
        body = await request.read() if self.reads_bodies else b""
        self.asked.append((request.method, path, dict(request.headers), body))
        return await self.answer(request)

    def says(self, body: bytes | str, **options: Any) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=body.encode() if isinstance(body, str) else body, **options)

        self.answer = answer

    def breaks_off(self, part: bytes = b"a part") -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(part)
            assert request.transport is not None
            request.transport.close()
            return response

        self.answer = answer


@pytest.fixture
async def server(nothing_left: None) -> AsyncIterator[FakeServer]:
    server = FakeServer()
    application = web.Application(client_max_size=2**30)
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[HubClient]:
    async with HubClient(server.url) as client:
        yield client


async def each(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("http://h:1", "http://h:1/api/v1"),
        ("http://h:1/", "http://h:1/api/v1"),
        ("http://h:1/api/v1", "http://h:1/api/v1"),
        ("http://h:1/api/v1/", "http://h:1/api/v1"),
        ("https://space/api/v1/sth/x", "https://space/api/v1/sth/x/api/v1"),
    ],
)
def test_a_url_is_good_with_or_without_the_base_of_the_api(url: str, api: str) -> None:
    assert api_url(url) == api


# --- what it asks -----------------------------------------------------------------------------------------------------


async def test_what_is_asked_is_what_the_api_takes(server: FakeServer, client: HubClient) -> None:
    server.says('{"id": "x"}')
    assert await client.start("s", config={"k": 1}, args=[2]) == "x"
    assert await client.start("s") == "x"
    assert await client.version() == {"id": "x"}
    assert await client.instance("i") == {"id": "x"}
    await client.stop("i", 1.5)
    await client.kill("i", remove_immediately=True)
    await client.delete_sequence("s")
    await client.delete_sequence("s", force=True)
    assert [(method, path, body) for method, path, _, body in server.asked] == [
        ("POST", "/sequence/s/start", b'{"appConfig": {"k": 1}, "args": [2]}'),
        ("POST", "/sequence/s/start", b'{"appConfig": {}, "args": []}'),
        ("GET", "/version", b""),
        ("GET", "/instance/i", b""),
        ("POST", "/instance/i/_stop", b'{"timeout": 1500.0, "canCallKeepalive": false}'),
        ("POST", "/instance/i/_kill", b'{"removeImmediately": true}'),
        ("DELETE", "/sequence/s", b""),
        ("DELETE", "/sequence/s", b""),
    ]
    assert [headers.get("x-seq-kill-inst") for _, _, headers, _ in server.asked[-2:]] == [None, "true"]


async def test_a_package_is_sent_in_pieces_and_the_progress_is_told(
    server: FakeServer, client: HubClient, tmp_path: Path
) -> None:
    server.says('{"id": "x"}')
    content = bytes(range(256)) * 2500
    (tmp_path / "p").write_bytes(content)
    seen: list[int] = []
    assert await client.upload(tmp_path / "p", progress=seen.append) == "x"
    assert seen == [262144, 524288, 640000]
    ((_, path, headers, body),) = server.asked
    assert (path, headers["Content-Type"], body) == ("/sequence", "application/octet-stream", content)


async def test_a_package_that_is_not_there_is_not_the_fault_of_the_hub(
    server: FakeServer, client: HubClient, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        await client.upload(tmp_path / "none")
    assert server.asked == []


@pytest.mark.parametrize(("end", "said"), [(True, "true"), (False, "false")])
async def test_chunks_are_sent_with_their_type_and_their_end(
    server: FakeServer, client: HubClient, end: bool, said: str
) -> None:
    await client.send("i", "input", each(b"one", b"two"), content_type="text/plain", end=end)
    ((method, path, headers, body),) = server.asked
    assert (method, path, body) == ("POST", "/instance/i/input", b"onetwo")
    assert (headers["Content-Type"], headers["x-end-stream"]) == ("text/plain", said)


@pytest.mark.parametrize(
    ("offset", "query"), [(None, ""), (5, "?offset=5"), (0, "?offset=0"), ("latest", "?offset=latest")]
)
async def test_a_stream_is_read_from_where_it_is_wanted(
    server: FakeServer, client: HubClient, offset: Any, query: str
) -> None:
    server.says(b"content")
    async with client.read("i", "output", offset=offset) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"content"
    assert server.asked[0][:2] == ("GET", f"/instance/i/output{query}")


async def test_a_reader_may_leave_early(server: FakeServer, client: HubClient) -> None:
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x" * 65536)
        gone.set()
        return response

    server.answer = endless
    async with client.read("i", "output") as chunks:
        assert (await anext(chunks)).startswith(b"x")
    await asyncio.wait_for(gone.wait(), DEADLINE)


async def test_a_token_goes_with_each_request_and_is_never_shown(server: FakeServer) -> None:
    async with HubClient(server.url, token="s" * 20) as client:
        await client.version()
        await client.delete_sequence("x")
        assert "s" * 20 not in repr(vars(client))
    assert [headers["Authorization"] for _, _, headers, _ in server.asked] == [f"Bearer {'s' * 20}"] * 2


async def test_without_a_token_none_is_sent(server: FakeServer, client: HubClient) -> None:
    await client.version()
    assert "Authorization" not in server.asked[0][2]


@pytest.mark.parametrize("name", ["@a/b", "a b", "ü", "a%2Fb", "a?b#c", "..."])
async def test_a_name_may_have_any_characters(server: FakeServer, client: HubClient, name: str) -> None:
    from urllib.parse import unquote

    raw: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        raw.append(request.raw_path)
        return web.json_response({})

    server.answer = answer
    await client.sequence(name)
    *base, last = raw[0].split("/")
    assert (base, unquote(last)) == (["", "api", "v1", "sequence"], name)


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
async def test_bytes_are_sent_with_their_length(server: FakeServer, client: HubClient, size: int) -> None:
    server.says("")
    await client.send("i", "stdin", bytes(size))
    ((_, _, headers, body),) = server.asked
    assert (headers.get("Content-Length"), body) == (str(size), bytes(size))
    assert headers["Content-Type"] == "application/octet-stream"


async def test_a_package_with_a_configuration_is_a_form(
    server: FakeServer, client: HubClient, tmp_path: Path
) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.content_type == "multipart/form-data"
        return web.json_response({"id": "x"})

    server.answer = answer
    (tmp_path / "p").write_bytes(b"\r\ncontent")
    assert await client.upload(tmp_path / "p", config={"k": 1}, replace="s") == "x"
    ((method, path, _, body),) = server.asked
    assert (method, path) == ("PUT", "/sequence/s")
    assert b'{"k": 1}' in body
    assert b"\r\n\r\n\r\ncontent\r\n--" in body


async def test_both_directions_of_a_request_are_streams(server: FakeServer, client: HubClient) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for chunk in request.content.iter_any():
            await response.write(chunk.upper())
        return response

    server.answer, server.reads_bodies = handle, False
    turn: asyncio.Queue[bytes] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while chunk := await turn.get():
            yield chunk

    turn.put_nowait(b"one")
    async with client.inout("i", body(), content_type="text/plain") as chunks:
        assert await anext(chunks) == b"ONE"
        turn.put_nowait(b"two")
        assert await anext(chunks) == b"TWO"
        turn.put_nowait(b"")
        assert [chunk async for chunk in chunks] == []


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ('{"error": "Instance x not found"}', 404, "Instance x not found"),
        ('{"error": {"code": "PRERUNNER_ERROR", "data": "bad"}}', 422, '{"code":"PRERUNNER_ERROR","data":"bad"}'),
        ('{"error": ""}', 400, "400 Bad Request"),
        ('{"error": null}', 400, "400 Bad Request"),
        ('{"message": "Forbidden"}', 403, "Forbidden"),
        ("", 409, "409 Conflict"),
        ("<html>", 502, "502 Bad Gateway"),
        ("[]", 500, "500 Internal Server Error"),
        ("5", 500, "500 Internal Server Error"),
        (b"\xff", 500, "500 Internal Server Error"),
    ],
)  # fmt: skip
async def test_a_refusal_says_what_the_hub_said(
    server: FakeServer, client: HubClient, body: bytes | str, status: int, said: str
) -> None:
    server.says(body, status=status)
    with pytest.raises(HubRefused) as caught:
        await client.instance("x")
    assert (caught.value.status, str(caught.value), caught.value.message) == (status, said, said)
    with pytest.raises(HubRefused):
        async with client.read("x", "output"):
            pass
    with pytest.raises(HubRefused):
        await client.send("x", "input", each(b"x"), content_type="text/plain")


async def test_a_refusal_that_is_cut_off_is_still_one(server: FakeServer, client: HubClient) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=503)
        await response.prepare(request)
        await response.write(b'{"err')
        assert request.transport is not None
        request.transport.close()
        return response

    server.answer = answer
    with pytest.raises(HubRefused, match="503 Service Unavailable"):
        await client.version()


async def test_where_nobody_listens_there_is_a_way_out(nothing_left: None) -> None:
    async with HubClient("http://127.0.0.1:1") as client:
        with pytest.raises(HubUnreachable) as caught:
            await client.version()
    assert str(caught.value).startswith("no hub answers at http://127.0.0.1:1/api/v1 (")
    assert str(caught.value).endswith("; start one with `hub-lite start`")


@pytest.mark.parametrize(
    "url", ["nonsense", "localhost:8000", "ftp://h", "http://", "http://[::", "http://h:99999"]
)
async def test_what_is_no_url_is_said_so(nothing_left: None, url: str) -> None:
    async with HubClient(url) as client:
        with pytest.raises(HubUnreachable):
            await client.version()


async def test_a_server_that_hangs_up_is_no_hub_that_answers(server: FakeServer, client: HubClient) -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.answer = hang_up
    with pytest.raises(HubUnreachable):
        await client.kill("x")


async def test_an_answer_that_is_cut_off_is_none(server: FakeServer, client: HubClient) -> None:
    server.breaks_off(b'{"id": ')
    with pytest.raises(HubUnreachable):
        await client.instance("x")


@pytest.mark.parametrize("body", ["<html>hello</html>", "", "[]", "5", b"\xff"])
async def test_who_does_not_speak_as_a_hub_is_none(
    server: FakeServer, client: HubClient, body: bytes | str
) -> None:
    server.says(body)
    with pytest.raises(NotAHub, match=f"what answers /version at {server.url}/api/v1 is no hub"):
        await client.version()


async def test_a_start_without_an_id_is_no_start(server: FakeServer, client: HubClient) -> None:
    with pytest.raises(NotAHub):
        await client.start("s")


async def test_a_stream_that_is_not_complete_is_broken_after_its_bytes(
    server: FakeServer, client: HubClient
) -> None:
    server.breaks_off()
    async with client.read("i", "output") as chunks:
        assert await anext(chunks) == b"a part"
        with pytest.raises(StreamBroken, match="output of Instance i is not complete"):
            await anext(chunks)


async def test_what_a_body_raises_comes_out(server: FakeServer, client: HubClient) -> None:
    async def bad() -> AsyncIterator[bytes]:
        yield b"abc"
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        await client.send("i", "input", bad())
    with pytest.raises(LookupError, match="no more"):
        await client.send_sequence(bad())


async def test_chunks_that_were_not_taken_whole_are_broken(server: FakeServer, client: HubClient) -> None:
    server.breaks_off(b"")
    with pytest.raises(StreamBroken, match="input of Instance i was not taken whole"):
        await client.send("i", "input", each(b"x"), content_type="text/plain")


async def test_a_client_is_used_inside_its_block(server: FakeServer) -> None:
    client = HubClient(server.url)
    for _ in range(2):
        with pytest.raises(ClientError, match="use the client inside `async with`"):
            await client.version()
        async with client:
            await client.version()
