"""What authors are promised, with real runners on a real hub: types, errors, chains, state, metrics, topics, deadlines."""

import asyncio
import json
from typing import Any

import pytest

from hub_lite.client import HubRefused

from .harness import DEADLINE, Talk

NDJSON = "application/x-ndjson"
NAMED = "an-id-of-its-own-with-36-characters!".replace("!", "x")

PRICED = """
from collections.abc import AsyncIterator
from dataclasses import dataclass
from sequence_sdk import Context, Stream, sequence

@dataclass
class Order:
    sku: str
    price: float

@sequence(on_error="{on_error}")
async def priced(
    context: Context, orders: Stream[Order], factor: float = 2.0, *, currency: str = "EUR"
) -> AsyncIterator[dict[str, object]]:
    async for order in orders:
        if order.sku == "bad":
            raise ValueError("no such thing")
        yield {{"sku": order.sku, "total": order.price * factor, "in": currency}}
"""


def lines(*items: Any) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def items(output: bytes) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


ORDERS = lines({"sku": "a", "price": 1}, {"sku": "bad", "price": 1}, {"sku": "c"}) + b"nope\n\xff\n"
ORDERS += lines({"sku": "d", "price": 3})


async def test_items_that_cannot_be_handled_are_read_from_the_quarantine_with_their_errors(talk: Talk):
    instance = await talk.start(PRICED.format(on_error="quarantine"), 10, config={"currency": "PLN"})
    await talk.send(instance, ORDERS, NDJSON)
    assert items(await talk.read(instance)) == [
        {"sku": "a", "total": 10.0, "in": "PLN"},
        {"sku": "d", "total": 30.0, "in": "PLN"},
    ]
    description = await talk.until_over(instance)
    assert description["status"] == "completed"
    assert description["quarantined"] == 4
    assert description["metrics"]["items"] == {"in": 6, "out": 2, "skipped": 0, "quarantined": 4}
    async with talk.client.quarantine(instance) as records:
        kept = {record["number"]: record async for record in records}
    assert kept[2] == {
        "number": 2,
        "item": {"sku": "bad", "price": 1.0},
        "error": "ValueError: no such thing",
    }
    assert kept[3]["item"] == {"sku": "c"}
    assert "an object with the keys sku, price" in kept[3]["error"]
    assert kept[4]["item"] == "nope"
    assert kept[4]["error"].startswith("BadInput: input line 4: not JSON")
    assert kept[5]["item"] == {"bytes": "/w=="}


async def test_items_that_cannot_be_handled_are_skipped_and_counted(talk: Talk):
    instance = await talk.start(PRICED.format(on_error="skip"))
    await talk.send(instance, ORDERS, NDJSON)
    assert [item["total"] for item in items(await talk.read(instance))] == [2.0, 6.0]
    description = await talk.until_over(instance)
    assert description["metrics"]["items"] == {"in": 6, "out": 2, "skipped": 4, "quarantined": 0}
    assert "quarantined" not in description


async def test_an_item_that_cannot_be_handled_ends_the_sequence_and_is_shown(talk: Talk):
    instance = await talk.start(PRICED.format(on_error="raise"))
    await talk.send(instance, ORDERS, NDJSON)
    await talk.read_until_broken(instance)
    description = await talk.until_over(instance)
    assert description["terminated"]["exitcode"] == 23
    assert description["terminated"]["reason"].endswith("ValueError: no such thing")
    stderr = (await talk.read(instance, "stderr")).decode()
    assert stderr.splitlines()[-1] == 'item 2: Order(sku="bad", price=1.0)'
    assert "sequence_sdk" not in stderr


@pytest.mark.parametrize(
    ("args", "config", "reason"),
    [
        (["much"], {}, "start argument 1 'factor': expected a number, got 'much'"),
        ([1, 2], {}, "start argument 2: too many, for priced takes factor: float = 2.0"),
        ([], {"currency": 1}, "configuration 'currency': expected a string, got 1"),
    ],
    ids=["type", "count", "configuration"],
)
async def test_a_start_with_the_wrong_arguments_is_refused_with_what_is_wrong(
    talk: Talk, args: list[Any], config: dict[str, Any], reason: str
):
    with pytest.raises(HubRefused) as refused:
        await talk.start(PRICED.format(on_error="raise"), *args, config=config)
    assert refused.value.status == 400
    assert reason in refused.value.message


async def test_a_chain_of_a_function_a_thread_and_a_class_runs_as_one(talk: Talk):
    instance = await talk.start("""
        from sequence_sdk import sequence

        @sequence(takes="application/x-ndjson")
        async def parse(values):
            async for value in values:
                yield value["n"]

        @sequence
        def square(numbers):
            for number in numbers:
                yield number * number

        @sequence(gives="application/x-ndjson")
        class Numbered:
            async def setup(self, context):
                self.count = 0
                print("set up", context.instance_id == context.instance_id)

            async def each(self, number):
                self.count += 1
                return [self.count, number]

            def teardown(self):
                print("torn down after", self.count)

        flow = parse | square | Numbered
    """)
    await talk.send(instance, lines({"n": 2}, {"n": 3}), NDJSON)
    assert items(await talk.read(instance)) == [[1, 4], [2, 9]]
    await talk.until_over(instance)
    assert await talk.read(instance, "stdout") == b"set up True\ntorn down after 2\n"


async def test_a_package_that_expects_the_original_framework_gets_ours(talk: Talk):
    instance = await talk.start("""
        from scramjet.streams import Stream, StreamAlreadyConsumed

        async def wait(x):
            return x

        async def run(context, input):
            assert isinstance(input, Stream)
            result = input.map(lambda line: line.strip()).filter(wait).map(lambda word: f"<{word}>")
            try:
                input.map(print)
            except StreamAlreadyConsumed:
                return result
    """)
    await talk.send(instance, b"a\n\nb\n")
    assert await talk.read(instance) == b"<a><b>"


COUNTER = """
from sequence_sdk import sequence

@sequence
async def counter(context, lines):
    done = context.metrics.counter("lines.done", "lines that are counted")
    context.metrics.gauge("level").set(0.5)
    count = await context.state.get("count", 0)
    async for _ in lines:
        count += 1
        done.add()
        await context.state.set("count", count)
        yield f"{count}\\n"
"""


async def test_state_is_there_again_when_the_instance_is_started_again(talk: Talk):
    sequence = await talk.upload(COUNTER)
    for counted in (b"1\n2\n", b"3\n4\n"):
        instance = await talk.client.start(sequence, instance_id=NAMED)
        assert instance == NAMED
        await talk.send(NAMED, b"x\ny\n")
        assert await talk.read(NAMED) == counted
        description = await talk.until_over(NAMED)
        assert description["metrics"] == {
            "items": {"in": 2, "out": 2, "skipped": 0, "quarantined": 0},
            "level": 0.5,
            "lines.done": 2,
        }
        assert await talk.client.state(NAMED) == {"count": int(counted.split()[-1])}
        await talk.client.kill(NAMED, remove_immediately=True)


async def test_a_topic_connects_two_instances_with_items(talk: Talk):
    writer = """
        from sequence_sdk import sequence

        @sequence
        async def write(context, lines):
            async with context.topic("orders-of-a-test") as topic:
                async for line in lines:
                    await topic.write({"line": line.strip()})
    """
    reader = """
        from sequence_sdk import sequence

        @sequence(gives="application/x-ndjson")
        async def read(context, lines):
            count = 0
            async for item in context.topic("orders-of-a-test"):
                yield item
                count += 1
                if count == 2:
                    return
    """
    reading = await talk.start(reader)
    writing = await talk.start(writer)
    await talk.send(writing, b"a\nb\n")
    assert items(await talk.read(reading)) == [{"line": "a"}, {"line": "b"}]
    assert (await talk.until_over(writing))["status"] == "completed"


async def test_a_stop_tells_the_deadline_and_a_kill_calls_its_handlers(talk: Talk):
    code = """
        import asyncio
        from sequence_sdk import sequence

        @sequence
        async def waits(context, lines):
            def stopping(seconds, can_keep_alive):
                left = context.deadline - asyncio.get_running_loop().time()
                print("left", 0 < left <= seconds == 5)
            context.add_stop_handler(stopping)
            context.add_kill_handler(lambda: print("killed"))
            print("deadline", context.deadline)
            yield "up\\n"
            await asyncio.Event().wait()
    """
    for how, said in (("stop", b"left True\n"), ("kill", b"killed\n")):
        instance = await talk.start(code)
        async with asyncio.timeout(DEADLINE), talk.client.read(instance, "output") as output:
            assert await anext(output) == b"up\n"
        if how == "stop":
            await talk.client.stop(instance, 5)
        else:
            await talk.client.kill(instance)
        assert (await talk.until_over(instance))["status"] == "completed"
        assert await talk.read(instance, "stdout") == b"deadline None\n" + said


async def test_the_hints_of_a_package_are_shown_by_the_hub(talk: Talk, tmp_path):
    from sequence_sdk.pack import pack

    (tmp_path / "main.py").write_text(PRICED.format(on_error="raise"))
    (tmp_path / "package.json").write_text('{"main": "main.py", "engines": {"python3": ">=3.11"}}')
    package = tmp_path / "package.tar.gz"
    pack(tmp_path, package)
    sequence = await talk.upload_bytes(package.read_bytes())
    schema = (await talk.get(f"/sequence/{sequence}"))["config"]["schema"]
    assert schema["input"]["required"] == ["sku", "price"]
    assert schema["args"]["prefixItems"][0]["default"] == 2.0
    assert schema["config"]["properties"]["currency"]["type"] == "string"


async def test_the_space_is_asked_for_by_its_own_path_and_refused_where_there_is_none(talk: Talk):
    instance = await talk.start("""
        from sequence_sdk.hub import HubRefused

        async def run(context, input):
            yield (await context.hub.version())["apiVersion"] + " "
            try:
                await context.space.version()
            except HubRefused as error:
                yield str(error.status)
    """)
    await talk.send(instance, b"")
    assert await talk.read(instance) == b"v1 404"
