"""What arrives on IN, and the items an author gets of it."""

import contextlib
import json

import pytest

from .conftest import Write
from .fake_hub import IN, OUT, PANG, FakeHub

LIST_ITEMS = """
    output_type = "application/x-ndjson"
    async def run(context, input):
        async for item in input:
            yield item if not isinstance(item, bytes) else list(item)
"""


def items(hub: FakeHub) -> list[object]:
    return [json.loads(line) for line in hub.output().splitlines()]


def test_text_is_lines_with_their_line_ends(hub: FakeHub, write: Write) -> None:
    hub.start(write(LIST_ITEMS))
    hub.input("text/plain; charset=utf-8", "a\r\n\n\u00e9\u2028\x0c\nlast".encode())
    assert items(hub) == ["a\r\n", "\n", "\u00e9\u2028\x0c\n", "last"]


@pytest.mark.parametrize(
    "content_type", ["application/x-ndjson", "text/x-ndjson", "Application/X-NDJSON; a=b"]
)
def test_ndjson_is_one_value_a_line(hub: FakeHub, write: Write, content_type: str) -> None:
    hub.start(write(LIST_ITEMS))
    hub.input(content_type, b'{"a":[1]}\r\n\n  \nnull\n0\n"x"')
    assert items(hub) == [{"a": [1]}, None, 0, "x"]


def test_octets_are_bytes(hub: FakeHub, write: Write) -> None:
    hub.start(write("output_type = 'application/octet-stream'\nasync def run(context, input):\n"
                    "    async for chunk in input:\n        assert type(chunk) is bytes\n        yield chunk"))  # fmt: skip
    hub.input("application/octet-stream", b"\x00\r\n\r\n\xff")
    assert hub.output() == b"\x00\r\n\r\n\xff"


@pytest.mark.parametrize("cut", [*range(1, 60, 7), 43, 44, 45, 46])
def test_the_prologue_may_be_cut_anywhere_and_be_glued_to_binary_data(
    hub: FakeHub, write: Write, cut: int
) -> None:
    hub.start(write("import asyncio\noutput_type = 'application/octet-stream'\nasync def run(context, input):\n"
                    "    async for chunk in input:\n        yield chunk"))  # fmt: skip
    data = b"Content-Type: application/octet-stream\r\nx: y\r\n\r\n\xff\xfe\r\n\r\n\x00"
    hub.links[IN].send(data[:cut])
    hub.links[IN].send(data[cut:])
    hub.links[IN].end()
    assert hub.output() == b"\xff\xfe\r\n\r\n\x00"


@pytest.mark.parametrize("sent", [b"", b"Content-Type: text/plain\r\n\r\n"])
def test_an_input_that_ends_without_a_byte_is_empty(hub: FakeHub, write: Write, sent: bytes) -> None:
    hub.start(
        write(
            "async def run(context, input):\n    print([item async for item in input], [i async for i in input])"
        )
    )
    hub.links[IN].send(sent)
    hub.links[IN].end()
    assert hub.stdout() == "[] []\n"
    assert hub.wait() == 0


def test_several_loops_share_the_items(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            output_type = "application/x-ndjson"
            async def run(context, input):
                async for item in input:
                    yield ["first", item]
                    break
                yield ["next", await anext(input)]
                async for item in input:
                    yield ["last", item]
                async for item in input:
                    yield ["never", item]
            """
        )
    )
    hub.input("application/x-ndjson", b"1\n2\n3\n4\n")
    assert items(hub) == [["first", 1], ["next", 2], ["last", 3], ["last", 4]]


def test_a_wait_that_is_given_up_loses_no_item(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                context.emit("ready")
                while True:
                    try:
                        item = await asyncio.wait_for(anext(input), 0.0005)
                    except TimeoutError:
                        continue
                    except StopAsyncIteration:
                        return
                    yield item
            """
        )
    )
    hub.event("ready")
    lines = [f"{number}\n".encode() for number in range(400)]
    hub.input("text/plain", b"", end=False)
    for line in lines:
        hub.links[IN].send(line)
    hub.links[IN].end()
    assert hub.output() == b"".join(lines)


@pytest.mark.parametrize("wait", ["", "async "])
def test_a_generator_in_its_thread_reads_with_a_plain_for(hub: FakeHub, write: Write, wait: str) -> None:
    source = "def run(context, input):\n    for line in input:\n        yield line.upper()"
    if wait:
        source = (
            source.replace("def run", "def work")
            + "\nasync def run(context, input):\n    return work(context, input)"
        )
    hub.start(write(source))
    hub.input("text/plain", b"a\nb\n" * 5000)
    assert hub.output() == b"A\nB\n" * 5000


def test_input_and_output_flow_at_the_same_time(hub: FakeHub, write: Write) -> None:
    hub.start(
        write("async def run(context, input):\n    async for line in input:\n        yield line.upper()")
    )
    hub.input("text/plain", b"", end=False)
    for number in range(20):
        hub.links[IN].send(f"line {number}\n".encode())
        assert hub.links[OUT].line() == f"LINE {number}\n".encode()
    hub.links[IN].end()
    assert hub.wait() == 0


def test_an_input_nobody_reads_makes_the_hub_wait(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            import asyncio
            async def run(context, input):
                go = asyncio.Event()
                context.on("go", lambda _: go.set())
                context.emit("ready")
                await go.wait()
                size = 0
                async for chunk in input:
                    size += len(chunk)
                yield str(size)
            """
        )
    )
    hub.event("ready")
    hub.links[IN].send(b"Content-Type: application/octet-stream\r\n\r\n")
    hub.links[IN].connection.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < 32 << 20:
            sent += hub.links[IN].connection.send(bytes(65536))
    assert sent < 16 << 20
    hub.links[IN].connection.settimeout(10)
    hub.say(5001, {"eventName": "go"})
    hub.links[IN].end()
    assert hub.output() == str(sent).encode()


# --- what is wrong with an input --------------------------------------------------------------------------------------

WRONG = {
    "unsupported type": (
        b"Content-Type: image/png\r\n\r\nx",
        "sequence_sdk.errors.UnsupportedContentType: content type 'image/png' is not supported: use text/plain",
    ),
    "no type": (
        b"X: y\r\n\r\nx",
        "sequence_sdk.errors.UnsupportedContentType: content type '' is not supported",
    ),
    "no header": (
        b"hello\r\n\r\n",
        "runner.protocol.errors.RemoteProtocolError: the input header has a line that is no header: 'hello'",
    ),
    "cut header": (
        b"Content-Type: te",
        "runner.protocol.errors.RemoteProtocolError: the input ended inside its header, after 16 bytes",
    ),
    "endless header": (
        b"x" * 20_000,
        "runner.protocol.errors.RemoteProtocolError: the input header is longer than 16384 bytes",
    ),
    "bad json": (
        b"Content-Type: application/x-ndjson\r\n\r\n1\n{oops\n3\n",
        "sequence_sdk.errors.BadInput: input line 2: not JSON",
    ),
    "bad utf-8": (
        b"Content-Type: text/plain\r\n\r\nok\n\xff\n",
        "sequence_sdk.errors.BadInput: input line 2: byte 0 (0xff) is not UTF-8",
    ),
}
READER = """async def run(context, input):
    async for item in input:
        yield "good"
"""


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_input_is_raised_where_the_author_reads_it(hub: FakeHub, write: Write, case: str) -> None:
    sent, sentence = WRONG[case]
    entry = write(READER)
    hub.start(entry)
    hub.links[IN].send(sent)
    hub.links[IN].end()
    assert hub.output() == (b"good" if case.startswith("bad") else b"")
    heading, place, code, *_, last = hub.stderr().splitlines()
    assert heading == "Traceback (most recent call last):"
    assert place == f'  File "{entry}", line 2, in run'
    assert code.strip() == "async for item in input:"
    assert last.startswith(sentence)
    assert hub.wait() == 23


def test_a_caught_error_of_the_input_comes_again(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            async def run(context, input):
                for _ in range(2):
                    try:
                        async for item in input:
                            yield "good "
                    except ValueError as error:
                        yield type(error).__name__ + " "
            """
        )
    )
    hub.input("application/x-ndjson", b"1\n{\n2\n")
    assert hub.output() == b"good BadInput BadInput "
    assert hub.wait() == 0


def test_a_plain_for_in_the_loop_is_an_error_that_says_what_to_write(hub: FakeHub, write: Write) -> None:
    hub.start(write("async def run(context, input):\n    for item in input:\n        pass"))
    assert "InputUsedInLoop: a plain `for` over the input would block" in hub.stderr()
    assert hub.wait() == 23


# --- declared types and topics ----------------------------------------------------------------------------------------


def test_a_declared_type_wins_over_the_prologue(hub: FakeHub, write: Write) -> None:
    hub.start(
        write(
            """
            from sequence_sdk import sequence
            @sequence(takes="application/x-ndjson", gives="application/x-ndjson")
            async def run(input):
                async for item in input:
                    yield item
            """
        )
    )
    hub.input("text/plain", b'{"a":1}\n')
    assert items(hub) == [{"a": 1}]


def test_a_module_that_requires_a_topic_gets_no_prologue(hub: FakeHub, write: Write) -> None:
    hub.start(write('requires = {"requires": "names", "contentType": "application/x-ndjson"}\n' + LIST_ITEMS.strip()
                    .replace("\n    ", "\n")))  # fmt: skip
    assert hub.until(PANG) == {"requires": "names", "contentType": "application/x-ndjson"}
    hub.links[IN].send(b'{"a":1}\n{"a":2}\n')
    hub.links[IN].end()
    assert items(hub) == [{"a": 1}, {"a": 2}]


def test_a_required_topic_without_type_is_text(hub: FakeHub, write: Write) -> None:
    hub.start(write('requires = {"requires": "names"}\nasync def run(context, input):\n'
                    "    async for line in input:\n        yield line"))  # fmt: skip
    assert hub.until(PANG) == {"requires": "names", "contentType": "text/plain"}
    hub.links[IN].send(b"Content-Type: x\r\n\r\n")
    hub.links[IN].end()
    assert hub.output() == b"Content-Type: x\r\n\r\n"


RUN_TIME = """
    class Doubled:
        requires = "numbers"
        provides = "doubled"
        content_type = "application/x-ndjson"
        def __init__(self, input):
            self.input = input
        async def __aiter__(self):
            async for number in self.input:
                yield number * 2
    SHAPE run(context, input):
        return Doubled(input)
"""


@pytest.mark.parametrize("shape", ["def", "async def"])
def test_a_topic_required_at_run_time_gets_no_prologue_either(hub: FakeHub, write: Write, shape: str) -> None:
    hub.start(write(RUN_TIME.replace("SHAPE", shape)))
    assert hub.until(PANG) == {"requires": "", "contentType": ""}
    assert hub.until(PANG) == {"requires": "numbers", "contentType": "application/x-ndjson"}
    assert hub.until(PANG) == {"provides": "doubled", "contentType": "application/x-ndjson"}
    hub.links[IN].send(b"1\n2\n")
    hub.links[IN].end()
    assert hub.output() == b"2\n4\n"
    assert hub.wait() == 0


@pytest.mark.parametrize(
    ("declaration", "sentence"),
    [
        (
            'requires = ["a"]',
            'requires must be a dict such as {"requires": "topic", "contentType": "text/plain"}',
        ),
        ('provides = {"provides": 1}', 'provides must be a dict such as {"provides": "topic"'),
        (
            'requires = {"requires": "a", "contentType": "image/png"}',
            "content type 'image/png' is not supported",
        ),
    ],
)
def test_a_wrong_declaration_is_a_failed_start(
    hub: FakeHub, write: Write, declaration: str, sentence: str
) -> None:
    hub.start(write(f"{declaration}\ndef run(context, input): pass"))
    assert sentence in hub.stderr()
    assert hub.wait() == 22
    assert PANG not in [code for code, _ in hub.last_messages()]
