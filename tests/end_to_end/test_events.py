"""Events through a real hub."""

import asyncio
import json

import pytest

from .harness import DEADLINE, Talk

PONG = """
    import asyncio

    async def run(context, input):
        context.on("ping", lambda message: context.emit("pong", message))
        context.emit("ready", None)
        async for line in input:
            yield line
    """


async def emit(talk: Talk, instance: str, body: object) -> tuple[int, object]:
    async with talk.http.post(f"{talk.url}/instance/{instance}/_event", json=body) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("message", [0, "", False, None, [], {"a": [1]}, "text"])
async def test_an_event_goes_in_and_its_answer_comes_out_whatever_the_message(talk: Talk, message: object):
    instance = await talk.start(PONG)
    asking = asyncio.create_task(talk.get(f"/instance/{instance}/event/pong"))
    assert await emit(talk, instance, {"eventName": "ping", "message": message}) == (200, {"accepted": "OK"})
    async with asyncio.timeout(DEADLINE):
        assert await asking == message
    assert await talk.get(f"/instance/{instance}/event/pong") == message, "it stays the last one"
    assert await talk.get(f"/instance/{instance}/once") == {"eventName": "pong", "message": message}
    await talk.client.kill(instance)


@pytest.mark.parametrize(
    "body",
    [
        [5001, {"eventName": "ping", "message": "x"}],
        {"eventName": "ping", "message": "x", "messagee": "junk"},
    ],
)
async def test_both_forms_of_an_event_are_taken(talk: Talk, body: object):
    instance = await talk.start(PONG)
    await talk.get(f"/instance/{instance}/event/ready")
    waiting = asyncio.create_task(talk.get(f"/instance/{instance}/once/pong"))
    async with asyncio.timeout(DEADLINE):
        while not waiting.done():  # `once` takes what comes after it has asked, and the two requests race
            assert (await emit(talk, instance, body))[0] == 200
            await asyncio.wait([waiting], timeout=0.05)
    assert await waiting == "x"
    await talk.client.kill(instance)


async def test_events_are_streamed_by_name_and_all_together(talk: Talk):
    instance = await talk.start(PONG)
    await talk.get(f"/instance/{instance}/event/ready")
    async with (
        talk.http.get(f"{talk.url}/instance/{instance}/events/pong") as named,
        talk.http.get(f"{talk.url}/instance/{instance}/event") as everything,
        asyncio.timeout(DEADLINE),
    ):
        for message in (0, {"b": 1}):
            await emit(talk, instance, {"eventName": "ping", "message": message})
            assert json.loads(await named.content.readline()) == message
            assert json.loads(await everything.content.readline()) == {
                "eventName": "pong",
                "message": message,
            }
        await talk.client.kill(instance)
        assert await named.read() == b"", "the stream ends with the Instance"


async def test_an_event_of_an_instance_reaches_every_other_one_and_not_itself(talk: Talk):
    listener = """
        import asyncio

        async def run(context, input):
            seen = asyncio.Queue()
            context.on("news", seen.put_nowait)
            context.emit("ready")
            yield str(await seen.get())
        """
    listeners = [await talk.start(listener) for _ in range(3)]
    for one in listeners:
        await talk.get(f"/instance/{one}/event/ready")
    speaker = await talk.start(
        """
        import asyncio

        async def run(context, input):
            context.on("news", lambda message: print("heard myself"))
            context.emit("news", "hello")
            async for line in input:
                yield line
        """
    )
    for one in listeners:
        assert await talk.read(one) == b"hello"
    await talk.send(speaker, b"")
    await talk.until_over(speaker)
    assert await talk.read(speaker, "stdout") == b""


async def test_an_event_that_is_too_long_to_be_handed_on_is_noted_and_costs_nobody_anything(talk: Talk):
    listener = await talk.start(PONG)
    speaker = await talk.start(
        """
        async def run(context, input):
            context.emit("long", "x" * (1024 * 1024 - 40))
            async for line in input:
                yield line
        """
    )
    await talk.get(f"/instance/{speaker}/event/long")
    await talk.send(speaker, b"still here\n")
    assert await talk.read(speaker) == b"still here\n"
    assert b"is not handed on" in await talk.read(speaker, "log")
    await emit(talk, listener, {"eventName": "ping", "message": 1})
    assert await talk.get(f"/instance/{listener}/event/pong") == 1
    await talk.client.kill(listener)


async def test_who_waits_for_an_event_of_an_instance_that_ends_is_told_so(talk: Talk):
    instance = await talk.start(PONG)
    async with talk.http.get(f"{talk.url}/instance/{instance}/events/never"):
        waiting = asyncio.create_task(talk.http.get(f"{talk.url}/instance/{instance}/once/never"))
        await talk.client.kill(instance)
        await talk.until_over(instance)
        async with asyncio.timeout(DEADLINE), await waiting as answer:
            assert answer.status == 410
    assert (await emit(talk, instance, {"eventName": "ping"}))[0] == 400


@pytest.mark.parametrize(
    "body", [{}, {"eventName": ""}, {"eventName": 3}, {"message": 1}, [5001, {"message": 1}]]
)
async def test_an_event_without_a_name_is_refused(talk: Talk, body: object):
    instance = await talk.start(PONG)
    status, answer = await emit(talk, instance, body)
    assert (status, answer) == (400, {"error": "Invalid format, eventName missing."})
    await talk.client.kill(instance)


async def test_the_rate_of_reports_is_set(talk: Talk):
    instance = await talk.start(
        """
        async def run(context, input):
            count = 0
            def check():
                nonlocal count
                count += 1
                return {"healthy": True, "count": count}
            context.set_health_check(check)
            async for line in input:
                yield line
        """
    )
    async with talk.http.post(
        f"{talk.url}/instance/{instance}/_monitoring_rate", json=[4003, {"monitoringRate": 100}]
    ) as answer:
        assert (answer.status, await answer.json()) == (202, {"accepted": True})
    async with asyncio.timeout(DEADLINE):
        while (await talk.get(f"/instance/{instance}/health")).get("count", 0) < 30:
            await asyncio.sleep(0)
    for rate in (0, -1, "fast", True, None):
        async with talk.http.post(
            f"{talk.url}/instance/{instance}/_monitoring_rate", json={"monitoringRate": rate}
        ) as answer:
            assert answer.status == 400
    await talk.client.kill(instance)


async def test_inout_sends_and_reads_over_one_request(talk: Talk):
    instance = await talk.start(PONG)
    turn = asyncio.Queue()

    async def body():
        while (line := await turn.get()) is not None:
            yield line

    async with asyncio.timeout(DEADLINE):
        await turn.put(b"one\n")
        async with talk.http.post(
            f"{talk.url}/instance/{instance}/inout", data=body(), headers={"Content-Type": "text/plain"}
        ) as answer:
            assert await answer.content.readline() == b"one\n"
            await turn.put(b"two\n")
            assert await answer.content.readline() == b"two\n"
            await turn.put(None)
            await talk.send(instance, b"three\n")
            assert await answer.content.read() == b"three\n", "the input is still open after the body"
