"""Topics through a real hub: between clients, between Instances, and between both."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from .harness import DEADLINE, Talk, running_hub, talking_to

ECHO = """
    async def run(context, input):
        async for item in input:
            yield item
    """


def fresh(request: pytest.FixtureRequest) -> str:
    """A name of a topic that no other test has."""
    return "t" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    return fresh(request)


async def post(
    talk: Talk, topic: str, data: Any, content_type: str = "application/x-ndjson", **headers: str
) -> int:
    async with talk.http.post(
        f"{talk.url}/topic/{topic}", data=data, headers={"Content-Type": content_type, **headers}
    ) as answer:
        assert await answer.json() == {}
        return answer.status


async def end(talk: Talk, topic: str, content_type: str = "application/x-ndjson") -> None:
    assert await post(talk, topic, b"", content_type, **{"x-end-stream": "true"}) == 200


async def whole(talk: Talk, topic: str, query: str = "") -> bytes:
    async with asyncio.timeout(DEADLINE), talk.http.get(f"{talk.url}/topic/{topic}{query}") as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()


async def test_the_first_reader_gets_what_was_sent_before_it_came(talk: Talk, topic: str):
    assert await post(talk, topic, b'{"a":1}\n') == 202
    reading = asyncio.create_task(whole(talk, topic))
    await post(talk, topic, b'{"b":2}\n')
    await until_read(talk, topic, reading)
    assert await reading == b'{"a":1}\n{"b":2}\n'


async def until_read(talk: Talk, topic: str, *reading: "asyncio.Task[bytes]") -> None:
    """End the readers of a topic again and again until those given have ended: they may come late."""
    async with asyncio.timeout(DEADLINE):
        while not all(task.done() for task in reading):
            await end(talk, topic)
            await asyncio.wait(reading, timeout=0.05)


async def test_an_end_ends_the_readers_there_are_and_the_topic_lives_on(talk: Talk, topic: str):
    async with talk.http.get(f"{talk.url}/topic/{topic}") as early:
        await post(talk, topic, b"1\n")
        await post(talk, topic, b"2\n", **{"x-end-stream": "true"})
        assert await early.read() == b"1\n2\n"
    await post(talk, topic, b"3\n")
    async with talk.http.get(f"{talk.url}/topic/{topic}") as late:
        assert await late.content.readline() == b"3\n"


async def test_what_the_window_holds_is_there_again_by_offset(talk: Talk, topic: str):
    await post(talk, topic, b"1\n2\n")
    async with talk.http.get(f"{talk.url}/topic/{topic}") as first:
        assert await first.content.readline() == b"1\n"
        assert await first.content.readline() == b"2\n"
        for query, expected in (("?offset=earliest", b"1\n"), ("?offset=2", b"2\n")):
            async with talk.http.get(f"{talk.url}/topic/{topic}{query}") as again:
                assert await again.content.readline() == expected
    async with talk.http.get(f"{talk.url}/topic/{topic}?offset=99") as answer:
        assert answer.status == 416


async def test_a_value_without_a_line_end_is_not_glued_to_the_next(talk: Talk, topic: str):
    for content_type in ("application/x-ndjson", "text/x-ndjson"):
        await post(talk, topic, b'{"a":1}', content_type)
    async with talk.http.get(f"{talk.url}/topic/{topic}") as answer:
        assert await answer.content.readline() == b'{"a":1}\n'
        assert await answer.content.readline() == b'{"a":1}\n'


async def test_topics_are_created_listed_and_removed(talk: Talk, topic: str):
    async def ask(method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with talk.http.request(method, talk.url + path, **options) as answer:
            return answer.status, await answer.json()

    wanted = {"id": topic, "content-type": "text/plain"}
    status, made = await ask("POST", "/topics", json=wanted)
    assert (status, made["id"], made["contentType"], made["state"]) == (200, topic, "text/plain", "flowing")
    listed = {"contentType": "text/plain", "localProvider": "", "topic": topic, "topicName": topic}
    for path in ("/topics", "/topis"):
        assert listed in (await ask("GET", path))[1]
    assert (await ask("POST", "/topics", json=wanted))[0] == 400
    async with talk.http.get(f"{talk.url}/topic/{topic}") as reader:
        assert await ask("DELETE", f"/topics/{topic}") == (200, {"message": f"Topic {topic} removed"})
        assert await reader.read() == b"", "its readers end"
    assert await ask("DELETE", f"/topics/{topic}") == (404, {"error": f"Topic {topic} not found"})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Missing body param: id"),
        ({"id": "x"}, "Missing body param: content-type"),
        ({"id": "x", "content-type": "image/png"}, "Unsupported content-type"),
        ({"id": "a.b", "content-type": "text/plain"}, "Topic id incorrect format"),
    ],
)
async def test_a_topic_that_cannot_be_made_is_refused_by_name(talk: Talk, body: dict[str, str], text: str):
    async with talk.http.post(talk.url + "/topics", json=body) as answer:
        assert answer.status == 400
        assert text in (await answer.json())["error"]


async def test_another_content_type_is_refused_with_the_right_one(talk: Talk, topic: str):
    await post(talk, topic, b"x", "text/plain")
    for method in ("GET", "POST"):
        async with talk.http.request(
            method, f"{talk.url}/topic/{topic}", headers={"Content-Type": "application/x-ndjson"}
        ) as answer:
            assert answer.status == 415
            assert await answer.json() == {"error": f"Acceptable Content-Type for {topic} is text/plain"}
    async with talk.http.post(
        f"{talk.url}/topic/{topic}", data=b"x", headers={"Content-Type": "image/png"}
    ) as answer:
        assert answer.status == 400


async def test_instances_are_chained_by_topics(talk: Talk, topic: str):
    await post(talk, topic, b"one\n", "text/plain")
    upper = await talk.upload(
        """
        async def run(context, input):
            async for line in input:
                yield line.upper()
        """
    )
    wanted = {"inputTopic": topic, "outputTopic": topic + "-up"}
    async with talk.http.post(f"{talk.url}/sequence/{upper}/start", json=wanted) as started:
        shouting = (await started.json())["id"]
    async with talk.http.get(f"{talk.url}/topic/{topic}-up") as answer:
        assert await answer.content.readline() == b"ONE\n"
        await post(talk, topic, b"two\n", "text/plain")
        assert await answer.content.readline() == b"TWO\n"
    info = await talk.get(f"/instance/{shouting}")
    assert (info["requires"], info["provides"]) == (topic, topic + "-up")
    async with talk.http.post(
        f"{talk.url}/instance/{shouting}/input", data=b"x", headers={"Content-Type": "text/plain"}
    ) as refused:
        assert refused.status == 406
        assert "Input provided in other way" in (await refused.json())["error"]
    await end(talk, topic, "text/plain")
    assert (await talk.until_over(shouting))["status"] == "completed"


async def test_topics_that_the_module_names_are_connected_once(talk: Talk, topic: str):
    source = await talk.start(
        f"""
        provides = {{"provides": "{topic}", "contentType": "application/x-ndjson"}}

        async def run(context, input):
            for number in range(3):
                yield {{"number": number}}
        """
    )
    await talk.until_over(source)
    sink = await talk.start(
        f"""
        requires = {{"requires": "{topic}", "contentType": "application/x-ndjson"}}
        provides = {{"contentType": "application/x-ndjson"}}

        async def run(context, input):
            async for value in input:
                yield value["number"]
        """
    )
    async with talk.client.read(sink, "output") as chunks:
        got = b""
        async with asyncio.timeout(DEADLINE):
            while got.count(b"\n") < 3:
                got += await anext(chunks)
    assert got == b"0\n1\n2\n"
    await talk.client.kill(sink)


async def test_a_topic_with_another_type_ends_the_instance_with_the_reason_and_the_hub_stands(
    talk: Talk, topic: str
):
    await post(talk, topic, b"x", "text/plain")
    instance = await talk.start(
        f"""
        import asyncio
        provides = {{"provides": "{topic}", "contentType": "application/x-ndjson"}}

        async def run(context, input):
            yield 1
            await asyncio.Event().wait()
        """
    )
    info = await talk.until_over(instance)
    assert info["status"] == "errored"
    assert f"Acceptable Content-Type for {topic} is text/plain" in info["terminated"]["reason"]


async def test_a_sequence_that_would_read_what_it_writes_is_refused(talk: Talk, topic: str):
    sequence = await talk.upload(ECHO)
    async with talk.http.post(
        f"{talk.url}/sequence/{sequence}/start", json={"inputTopic": topic, "outputTopic": topic}
    ) as answer:
        assert answer.status == 400
        assert "would read what it writes" in (await answer.json())["error"]
    instance = await talk.start(
        f"""
        import asyncio
        requires = {{"requires": "{topic}", "contentType": "text/plain"}}
        provides = {{"provides": "{topic}", "contentType": "text/plain"}}

        async def run(context, input):
            await asyncio.Event().wait()
            yield ""
        """
    )
    info = await talk.until_over(instance)
    assert (info["status"], "would read what it writes" in info["terminated"]["reason"]) == ("errored", True)


@pytest.mark.parametrize("size", [100, 64 * 1024])
async def test_200_readers_get_all_of_50_writers_in_order(talk: Talk, topic: str, size: int):
    writers, readers, messages = 50, 200, 20 if size < 1000 else 2

    async def lines(writer: int) -> AsyncIterator[bytes]:
        for number in range(messages):
            line = f"{writer} {number} ".encode().ljust(size - 1, b".") + b"\n"
            middle = len(line) // 2
            yield line[:middle]
            yield line[middle:]

    async def read(answer: aiohttp.ClientResponse) -> dict[int, list[int]]:
        seen = defaultdict(list)
        tail = b""
        async for chunk in answer.content.iter_any():
            *whole_lines, tail = (tail + chunk).split(b"\n")
            for line in whole_lines:
                assert len(line) == size - 1
                writer, number, _ = line.split(b" ")
                seen[int(writer)].append(int(number))
        assert tail == b""
        return seen

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.timeout(4 * DEADLINE):
        answers = await asyncio.gather(
            *(
                http.get(f"{talk.url}/topic/{topic}", headers={"Content-Type": "text/plain"})
                for _ in range(readers)
            )
        )
        reading = [asyncio.create_task(read(answer)) for answer in answers]

        async def write(writer: int) -> None:
            headers = {"Content-Type": "text/plain"}
            async with http.post(f"{talk.url}/topic/{topic}", data=lines(writer), headers=headers) as answer:
                assert answer.status == 202

        await asyncio.gather(*(write(writer) for writer in range(writers)))
        await end(talk, topic, "text/plain")
        for seen in await asyncio.gather(*reading):
            assert seen == {writer: list(range(messages)) for writer in range(writers)}


async def test_a_stalled_reader_is_cut_off_and_the_others_miss_nothing(
    tmp_path_factory: pytest.TempPathFactory, topic: str
):
    folder = tmp_path_factory.mktemp("hub")
    settings = folder / "settings.json"
    settings.write_text('{"timings": {"stallTimeout": 500}}')
    with running_hub(folder, "--config", str(settings)) as hub:
        async with talking_to(hub.url) as talk, asyncio.timeout(4 * DEADLINE):
            headers = {"Content-Type": "application/octet-stream"}
            host, port = hub.url.removeprefix("http://").split("/")[0].split(":")
            stalled_reader, stalled = await asyncio.open_connection(host, int(port), limit=1024)
            request = f"GET /api/v1/topic/{topic} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            stalled.write(f"{request}Content-Type: application/octet-stream\r\n\r\n".encode())
            assert b"200 OK" in await stalled_reader.readline()
            total = 32 * 1024 * 1024

            async def body() -> AsyncIterator[bytes]:
                for number in range(total // 65536):
                    yield number.to_bytes(4, "big") * 16384

            digest, expected = hashlib.sha256(), hashlib.sha256()
            for number in range(total // 65536):
                expected.update(number.to_bytes(4, "big") * 16384)
            async with talk.http.get(f"{talk.url}/topic/{topic}", headers=headers) as healthy:
                sending = asyncio.create_task(post(talk, topic, body(), headers["Content-Type"]))
                size = 0
                async for chunk in healthy.content.iter_any():
                    digest.update(chunk)
                    size += len(chunk)
                    if size == total:
                        break
                await sending
            assert digest.digest() == expected.digest()
            assert await _is_broken_off(stalled_reader)
            stalled.close()


async def _is_broken_off(reader: asyncio.StreamReader) -> bool:
    """Read to the end, and tell whether that is none that chunked encoding knows."""
    tail = b""
    try:
        while chunk := await reader.read(65536):
            tail = chunk[-5:]
    except ConnectionError:
        return True
    return tail != b"0\r\n\r\n"


async def test_topics_that_a_result_names_at_run_time_are_connected(talk: Talk, topic: str):
    await post(talk, topic, b"one\n", "text/plain")
    instance = await talk.start(
        f"""
        class Result:
            requires = "{topic}"
            provides = "{topic}-out"
            content_type = "text/plain"

            def __init__(self, lines):
                self._lines = lines

            async def __aiter__(self):
                async for line in self._lines:
                    yield line.upper()

        def run(context, input):
            return Result(input)
        """
    )
    async with asyncio.timeout(DEADLINE), talk.http.get(f"{talk.url}/topic/{topic}-out") as answer:
        assert await answer.content.readline() == b"ONE\n"
    info = await talk.get(f"/instance/{instance}")
    assert (info["requires"], info["provides"]) == (topic, topic + "-out")
    await talk.client.kill(instance)


async def test_a_hub_ends_although_senders_wait_for_readers_and_clients_hold_their_bodies_open(
    tmp_path_factory: pytest.TempPathFactory, topic: str
):
    async def endless() -> AsyncIterator[bytes]:
        yield b"first\n"
        await asyncio.Event().wait()

    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        async with talking_to(hub.url) as talk:
            instance = await talk.start(ECHO)
            full = asyncio.create_task(post(talk, topic, b"x" * 8_000_000, "application/octet-stream"))
            held = asyncio.create_task(post(talk, topic + "-held", endless()))
            fed = asyncio.create_task(
                talk.client.send(instance, "input", endless(), content_type="text/plain", end=False)
            )
            async with talk.client.read(instance, "output") as chunks:
                assert await anext(chunks) == b"first\n"
            assert await asyncio.to_thread(hub.end) == 0
            for sending in (full, held, fed):
                with pytest.raises(Exception):  # noqa: B017, PT011 - how the client hears of it is its own affair
                    await sending


async def test_a_message_in_one_packet_waits_for_a_line_that_another_producer_has_begun(
    talk: Talk, topic: str
):
    begun = asyncio.Event()
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"be"
        begun.set()
        await go_on.wait()
        yield b"gun\n"

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        beginning = group.create_task(post(talk, topic, slow(), "text/plain"))
        async with talk.http.get(
            f"{talk.url}/topic/{topic}", headers={"Content-Type": "text/plain"}
        ) as answer:
            assert await answer.content.readexactly(2) == b"be"
            assert begun.is_set()
            whole_one = group.create_task(post(talk, topic, b"whole\n", "text/plain"))
            go_on.set()
            assert await answer.content.readexactly(10) == b"gun\nwhole\n"
            assert (await beginning, await whole_one) == (202, 202)
