"""What a Sequence returns or yields, and the bytes that leave on OUT."""

import hashlib
import json
import os
import re
import sys
from pathlib import Path

import pytest

from .conftest import Write
from .fake_hub import LOG, OUT, PANG, FakeHub

# --- the shapes of package-format 4.2 -------------------------------------------------------------------------------

SHAPES = {
    "async generator": ("async def run(context, input):\n    yield 'a'\n    yield 'b'", b"ab"),
    "coroutine that returns an async generator": (
        "async def items():\n    yield 'a'\n    yield 'b'\nasync def run(context, input):\n    return items()",
        b"ab",
    ),
    "function that returns an async generator": (
        "async def items():\n    yield 'a'\ndef run(context, input):\n    return items()",
        b"a",
    ),
    "object with __aiter__": (
        "class Items:\n    async def __aiter__(self):\n        yield 'a'\ndef run(context, input):\n    return Items()",
        b"a",
    ),
    "None": ("def run(context, input): return None", b""),
    "None from a coroutine": ("async def run(context, input): pass", b""),
    "str": ("async def run(context, input): return 'héllo'", "héllo".encode()),
    "str from a function": ("def run(context, input): return 'x'", b"x"),
    "empty str": ("def run(context, input): return ''", b""),
    "bytes under text": ("def run(context, input): return b'\\xff\\x00'", b"\xff\x00"),
    "list": ("async def run(context, input): return ['a', 'b']", b"ab"),
    "empty list": ("def run(context, input): return []", b""),
    "tuple": ("def run(context, input): return ('a', 'b')", b"ab"),
    "iterator": ("def run(context, input): return iter(['a', 'b'])", b"ab"),
    "map": ("def run(context, input): return map(str, range(3))", b"012"),
    "generator": ("def run(context, input):\n    yield 'a'\n    yield 'b'", b"ab"),
    "coroutine that returns a generator": (
        "def items():\n    yield 'a'\nasync def run(context, input): return items()",
        b"a",
    ),
    "number": ("def run(context, input): return 0", b"0"),
    "float": ("def run(context, input): return 1.5", b"1.5"),
    "bool": ("def run(context, input): return False", b"False"),
    "future": (
        "import asyncio\ndef run(context, input):\n    return asyncio.ensure_future(asyncio.sleep(0, 'late'))",
        b"late",
    ),
    "instance method": (
        "class Work:\n    async def __call__(self, context, input):\n        yield 'a'\nrun = Work().__call__",
        b"a",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_a_result_is_output(hub: FakeHub, write: Write, shape: str) -> None:
    source, expected = SHAPES[shape]
    hub.start(write(source))
    assert hub.output() == expected
    assert hub.wait() == 0
    assert hub.stderr() == ""
    assert hub.last_messages()[1:] == [
        [PANG, {"requires": "", "contentType": ""}],
        [PANG, {"provides": "", "contentType": "text/plain"}],
    ]


DECORATED = {
    "input alone": ("@sequence\nasync def shout(input):\n    yield 'a'", b"a"),
    "with context": ("@sequence\nasync def shout(context, input):\n    yield context.instance_id[:2]", b"60"),
    "with arguments": ("@sequence\nasync def shout(input, one, two=2):\n    yield f'{one}{two}'", b"12"),
    "gives ndjson": (
        "@sequence(gives='application/x-ndjson')\ndef f(input): return [{'a': 1}, None]",
        b'{"a":1}\nnull\n',
    ),
    "beside a run": ("def helper(): pass\n@sequence\ndef run(input): return 'x'", b"x"),
    "imported": ("from other import flow", b"flow"),
    "beside an imported one": ("from other import flow\n@sequence\ndef mine(input): return 'mine'", b"mine"),
}


@pytest.mark.parametrize("form", DECORATED)
def test_a_function_marked_sequence_is_run_in_all_its_forms(hub: FakeHub, write: Write, form: str) -> None:
    source, expected = DECORATED[form]
    head = "from sequence_sdk import sequence\n"
    other = {"other.py": head + "@sequence\ndef flow(input): return 'flow'"}
    hub.start(write(head + source, **other), args=[1] if "arguments" in form else [])
    assert hub.output() == expected
    assert hub.wait() == 0


# --- content types --------------------------------------------------------------------------------------------------

TYPED = {
    "application/x-ndjson": (
        "return [{'b': 'é'}, 1, 'x', [None, True]]",
        '{"b":"é"}\n1\n"x"\n[null,true]\n'.encode(),
    ),
    "text/x-ndjson": ("return [1.5]", b"1.5\n"),
    "Text/Plain; charset=utf-8": ("return ['a', b'b', bytearray(b'c'), memoryview(b'd')]", b"abcd"),
    "application/octet-stream": ("return [b'\\x00\\xff', bytearray(b'c'), memoryview(b'd')]", b"\x00\xffcd"),
    "image/png": ("return [b'\\x89PNG']", b"\x89PNG"),
}


@pytest.mark.parametrize("content_type", TYPED)
def test_the_content_type_a_module_provides_decides_the_bytes(
    hub: FakeHub, write: Write, content_type: str
) -> None:
    body, expected = TYPED[content_type]
    hub.start(
        write(
            f"provides = {{'provides': 'out', 'contentType': {content_type!r}}}\ndef run(context, input): {body}"
        )
    )
    assert hub.output() == expected
    assert hub.wait() == 0
    assert hub.last_messages()[-1] == [PANG, {"provides": "out", "contentType": content_type}]


def test_output_type_of_a_module_is_the_default_content_type(hub: FakeHub, write: Write) -> None:
    hub.start(write("output_type = 'application/x-ndjson'\ndef run(context, input): return [1]"))
    assert hub.output() == b"1\n"
    assert hub.last_messages()[-1] == [PANG, {"provides": "", "contentType": "application/x-ndjson"}]


STREAM = """
    provides = {"provides": "module", "contentType": "text/plain"}
    class Stream:
        provides = "run-time"
        content_type = "application/x-ndjson"
        async def __aiter__(self):
            yield {"a": 1}
    SHAPE run(context, input):
        return Stream()
"""


@pytest.mark.parametrize("shape", ["def", "async def"])
def test_what_a_result_provides_wins_over_the_module(hub: FakeHub, write: Write, shape: str) -> None:
    hub.start(write(STREAM.replace("SHAPE", shape)))
    assert hub.output() == b'{"a":1}\n'
    assert hub.last_messages()[-1] == [
        PANG,
        {"provides": "run-time", "contentType": "application/x-ndjson"},
    ]


@pytest.mark.parametrize(
    ("source", "before", "sentence"),
    [
        (
            "def run(context, input): return ['a', 2, 'c']",
            b"a",
            "output item 2: text/plain takes str, not int",
        ),
        (
            "output_type = 'application/octet-stream'\nasync def run(context, input):\n    yield b'a'\n    yield 'b'",
            b"a",
            "output item 2: application/octet-stream takes bytes, not str",
        ),
        (
            "output_type = 'application/x-ndjson'\ndef run(context, input):\n    yield 1\n    yield object()",
            b"1\n",
            "output item 2: ",
        ),
        ("def run(context, input): return ['a', '\\ud800']", b"a", "output item 2: "),
    ],
)
def test_an_item_that_does_not_fit_is_exit_23_after_all_items_before_it(
    hub: FakeHub, write: Write, source: str, before: bytes, sentence: str
) -> None:
    hub.start(write(source))
    assert hub.output() == before
    assert hub.stderr().startswith(f"sequence_sdk.errors.BadOutput: {sentence}")
    assert hub.wait() == 23


# --- when bytes leave -----------------------------------------------------------------------------------------------


def test_a_lone_item_leaves_while_the_author_waits(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                yield "one\\n"
                await asyncio.Event().wait()
            """
        )
    )
    assert hub.links[OUT].line() == b"one\n"
    assert hub.alive


BLOCKING = """
    import threading, time
    async def run(context, input):
        go = threading.Event()
        threading.Thread(target=lambda: [go.set() for _ in open(0)], daemon=True).start()
        for number in range(3):
            yield f"{number}\\n"
            while not go.is_set():     # never gives the loop a turn
                time.sleep(0.002)
            go.clear()
"""


def test_items_leave_one_by_one_although_the_author_blocks_the_loop_between_them(
    hub: FakeHub, write: Write
) -> None:
    hub.start(write(BLOCKING))
    for number in range(3):
        assert hub.links[OUT].line() == f"{number}\n".encode()
        hub.links[0].send(b"go\n")
    assert hub.wait() == 0


def test_a_generator_that_never_waits_can_be_stopped(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            async def run(context, input):
                context.emit("begun")
                while True:
                    yield ""
            """
        )
    )
    hub.event("begun")
    hub.say(4001, {"timeout": 5000, "canCallKeepalive": False})
    assert hub.wait() == 138


def test_a_hub_that_keeps_up_does_not_keep_the_loop_from_a_stop(hub: FakeHub, write: Write) -> None:
    hub.start(write("async def run(context, input):\n    while True:\n        yield 'x' * 100_000"))
    assert hub.links[OUT].read(1 << 20)
    hub.say(4001, {"timeout": 5000})
    hub.output()
    assert hub.wait() == 138


# --- back-pressure and large data -----------------------------------------------------------------------------------


def memory(pid: int) -> int:
    """Resident memory of a process in KiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found
    return int(found[1])


TORRENT = """
    output_type = "application/octet-stream"
    SHAPE run(context, input):
        context.given = 0
        def given(_):
            context.emit("given", context.given)
        context.on("ask", given)
        for number in range(800):
            context.given = number
            yield number.to_bytes(4, "big") * 16384        # 64 KiB
"""


@pytest.mark.parametrize("shape", ["def", "async def"])
def test_a_hub_that_does_not_read_stops_the_author_and_loses_nothing(
    hub: FakeHub, write: Write, shape: str
) -> None:
    hub.start(write(TORRENT.replace("SHAPE", shape)))
    hub.links[OUT].read(1)
    before = -1
    while True:  # until the author stands still
        hub.say(5001, {"eventName": "ask"})
        given = hub.event("given")
        if given == before:
            break
        before = given
        hub.say(5001, {"eventName": "ask"})
        hub.event("given")
    assert given < 120  # 7 MiB are in the kernel and in us, of 50
    assert hub.process is not None
    if sys.platform == "linux":
        assert memory(hub.process.pid) < 60_000
    rest = hub.output()
    assert len(rest) == 800 * 65536 - 1
    assert rest[-4:] == (799).to_bytes(4, "big")
    assert hub.wait() == 0


def test_64_mib_of_octets_pass_through_unchanged(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            from sequence_sdk import sequence
            @sequence(takes="application/octet-stream", gives="application/octet-stream")
            async def copy(input):
                async for chunk in input:
                    yield chunk
            """
        )
    )
    data = os.urandom(1 << 20) * 64
    hub.links[5].send(b"Content-Type: application/octet-stream\r\n\r\n")
    writer = hub.links[5].send_in_background(data)
    digest = hashlib.sha256(hub.output()).hexdigest()
    writer.join()
    assert digest == hashlib.sha256(data).hexdigest()
    assert hub.wait() == 0


def test_one_item_larger_than_every_buffer_arrives_whole(hub: FakeHub, write: Write) -> None:
    hub.start(write("def run(context, input): return 'é' * 8_000_000"))
    assert hub.output() == "é".encode() * 8_000_000
    assert hub.wait() == 0


def test_everything_arrives_although_the_hub_reads_late(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import sys
            output_type = "application/x-ndjson"
            async def run(context, input):
                for number in range(30_000):
                    yield {"number": number}
                context.emit("given")
                print("p" * 2_000_000)
                print("e" * 2_000_000, file=sys.stderr)
                for number in range(3000):
                    context.logger.info("n" * 1000)
                for number in range(3000):
                    context.emit("event", "v" * 1000)
            """
        )
    )
    assert len(hub.links[1].read(2_000_001)) == 2_000_001
    assert len(hub.links[2].read(2_000_001)) == 2_000_001
    assert len([hub.links[LOG].line() for _ in range(3000)]) == 3000
    hub.event("given")
    assert [hub.event("event") for _ in range(3000)] == ["v" * 1000] * 3000
    assert [json.loads(line)["number"] for line in hub.output().splitlines()] == list(range(30_000))
    assert hub.stdout() == hub.stderr() == ""
    assert hub.wait() == 0


def test_what_is_said_last_arrives_although_the_hub_reads_it_only_after_the_end(
    hub: FakeHub, write: Write
) -> None:
    hub.start(
        write(
            """
            import threading, time
            async def run(context, input):
                def chatter():
                    for number in range(2500):
                        context.emit("event", "v" * 1000)
                threading.Thread(target=chatter).start()
                yield "done"
            """
        )
    )
    assert hub.output() == b"done"
    assert [hub.event("event") for _ in range(2500)] == ["v" * 1000] * 2500
    assert hub.wait() == 0
