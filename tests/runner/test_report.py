"""What an author sees of a failure: frames of theirs alone, the item in hand, no secret, and a hint for a usual mistake."""

import asyncio
import dataclasses
import itertools
import traceback
from collections import OrderedDict, deque
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.report import (
    Failure,
    blocked_hint,
    forgotten_yield,
    format_failure,
    hint_for,
    mask_text,
    mask_traceback,
    show_item,
)
from sequence_sdk.content import ENCODERS, ContentType, bad_output
from sequence_sdk.errors import BadOutput

# --- the whole --------------------------------------------------------------------------------------------------------


def raised(code: str, name: str = "/package/main.py", **names: Any) -> BaseException:
    """Return what code raises that stands in a file of an author's."""
    try:
        exec(compile(code, name, "exec"), names)
    except BaseException as error:  # noqa: BLE001 - whatever the code raises is what a test wants
        return error.with_traceback(getattr(error.__traceback__, "tb_next", None))
    raise AssertionError("it raises nothing")


def test_a_failure_is_the_traceback_the_item_and_the_hint():
    item = {"id": 5, "password": "hunter2"}
    text = format_failure(raised("item['price']", item=item), item=item, number=17)
    assert text == (
        'Traceback (most recent call last):\n  File "/package/main.py", line 1, in <module>\n'
        "KeyError: 'price'\n"
        'item 17: {"id": 5, "password": "***"}\n'
        'hint: the item has no key "price"; its keys: "id", "password"\n'
    )


def test_without_an_item_and_a_usual_mistake_it_is_the_traceback_alone():
    assert format_failure(raised("1 / 0")).endswith(
        "line 1, in <module>\nZeroDivisionError: division by zero\n"
    )


def test_an_item_may_have_no_number():
    assert format_failure(raised("1 / 0"), item=None).endswith("by zero\nitem: None\n")


def test_frames_of_ours_between_two_of_the_authors_are_left_out():
    from sequence_sdk import _invoke

    async def outer():
        async for _ in _invoke.outputs(inner(), ContentType.TEXT):
            pass

    def inner():
        yield 1
        raise ValueError("inside")

    try:
        asyncio.run(outer())
    except ValueError as error:
        text = format_failure(error)
    frames = [line.split(", in ")[1] for line in text.splitlines() if line.startswith('  File "')]
    assert frames[-2:] == ["outer", "inner"]
    assert "_invoke.py" not in text


def test_a_traceback_begins_at_the_authors_frame_not_in_the_standard_library():
    async def main():
        await asyncio.to_thread(author)

    def author():
        raise ValueError("in a thread")

    coroutine = main()
    with asyncio.Runner() as runner, pytest.raises(ValueError, match="in a thread") as caught:
        runner.run(coroutine)
    tail = caught.value.__traceback__
    while tail is not None and "thread.py" not in tail.tb_frame.f_code.co_filename:
        tail = tail.tb_next
    caught.value.__traceback__ = tail
    frames = [line for line in format_failure(caught.value).splitlines() if line.startswith('  File "')]
    assert frames[0].endswith("in author")


# --- secrets ----------------------------------------------------------------------------------------------------------

SECRET = "hunter2!xyzzy"
NAMES = (
    "password", "passwd", "PASSWORD", "db_password", "secret", "client-secret", "token", "accessToken", "refresh_token", "api_key",
    "apikey", "X-Api-Key", "authorization", "Authorization", "cookie", "Set-Cookie", "private_key", "privateKey", "credential",
    "credentials", "aws_secret_access_key", "passphrase", "pwd",
)  # fmt: skip


@dataclasses.dataclass
class Login:
    user: str
    password: str
    notes: list[Any] = dataclasses.field(default_factory=list)


class Pair(NamedTuple):
    name: str
    token: str


@pytest.mark.parametrize("name", NAMES)
def test_the_value_of_a_secret_name_is_masked_in_every_form(name: str):
    for item in (
        {name: SECRET},
        {name: [SECRET]},
        {"deep": [{"er": ({name: {"x": SECRET}},)}]},
        {name.encode(): SECRET.encode()},
        f'{{"id": 5, "{name}": "{SECRET}"}}\n',
        f"{{'{name}': '{SECRET}', 'b': 2}}",
        f"https://example.org/?{name}={SECRET}&x=1",
        f"{name}={SECRET}; other",
        f"{name}: {SECRET}\r\n",
        f'{{"{name}":"{SECRET}'.encode(),
    ):
        shown = show_item(item)
        assert "***" in shown, item
        assert "hunter2" not in shown, item
        assert "xyzzy" not in shown, item


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def-ghi_123=", "Authorization: ***"),
        ("got Bearer abc.def-ghi_123= from x", "got Bearer *** from x"),
        ("bearer abcdefgh", "bearer ***"),
        ("Authorization: Basic dXNlcjpwYXNz more", "Authorization: ***"),
        ("postgres://ada:lovelace@db/x?y=1", "postgres://ada:***@db/x?y=1"),
        ("redis://:lovelace@db", "redis://:***@db"),
        ("key AKIAIOSFODNN7EXAMPLE.", "key ***."),
        ("Cookie: a=b; c=d\r\nHost: x", "Cookie: ***\r\nHost: x"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nrest", "***\nrest"),
        ("-----BEGIN PRIVATE KEY-----\nMII", "***"),
        ("a plain sentence: with a colon", "a plain sentence: with a colon"),
        ("https://example.org:8080/path@x", "https://example.org:8080/path@x"),
        ('{"user": "ada"}', '{"user": "ada"}'),
        ('{"token": 12345, "n": 1}', '{"token": "***", "n": 1}'),
    ],
)
def test_secrets_in_text_are_masked_and_nothing_else(text: str, shown: str):
    assert mask_text(text) == shown


def test_secrets_are_masked_in_objects_of_every_kind():
    class Plain:
        def __init__(self) -> None:
            self.user, self.secret = "ada", SECRET

    class Own:
        def __repr__(self) -> str:
            return f"Own(password={SECRET!r})"

    assert show_item(Login("ada", SECRET)) == 'Login(user="ada", password="***", notes=[])'
    assert show_item(Pair("ada", SECRET)) == 'Pair(name="ada", token="***")'
    assert show_item(Plain()) == 'Plain(user="ada", secret="***")'
    assert show_item(Own()) == "Own(password=***)"


def test_secrets_are_masked_in_models_of_msgspec_and_pydantic():
    import msgspec
    import pydantic

    struct = msgspec.defstruct("Order", [("id", int), ("api_key", str)])
    model = pydantic.create_model("Order", id=(int, ...), api_key=(str, ...))
    assert show_item(struct(5, SECRET)) == 'Order(id=5, api_key="***")'
    assert show_item(model(id=5, api_key=SECRET)) == 'Order(id=5, api_key="***")'


def test_that_there_is_a_secret_may_be_told():
    assert show_item({"password": None, "has_token": True}) == '{"password": None, "has_token": True}'


def test_a_secret_that_the_cut_would_split_is_not_shown_in_part():
    text = ("Bearer " + "a" * 100 + " ") * 9 + "postgres://ada:" + SECRET * 100 + "@db"
    assert "hunter2" not in show_item(text)
    assert "hunter2" not in show_item({"x": [text, text]})


def test_a_message_that_repeats_a_secret_is_masked_and_source_lines_keep_their_names(tmp_path: Path):
    path = tmp_path / "main.py"
    path.write_text(
        "token = settings['token']\nraise ValueError(f\"bad line: {'password': 'hunter2', 'n': 1}\")\n".replace(
            "{'p", "{{'p"
        ).replace("1}", "1}}")
    )
    error = raised(path.read_text(), str(path), settings={"token": 1})
    text = format_failure(error)
    assert text.endswith("ValueError: bad line: {'password': \"***\", 'n': 1}\n")
    group = ExceptionGroup("both", [error, KeyError("token=hunter2")])
    assert "hunter2" not in format_failure(group).replace(str(path.read_text().splitlines()[1]), "")


def test_a_message_that_fills_the_screen_is_cut():
    text = format_failure(raised("raise ValueError('x' * 10**7)"))
    assert len(text) < 25_000
    assert text.endswith("… (9980012 more characters)\n")


def test_source_lines_and_names_of_errors_are_no_values():
    text = (
        'Traceback (most recent call last):\n  File "main.py", line 1, in f\n    password = ask(token="x")\n'
        "InvalidTokenError: expired\n"
    )
    assert mask_traceback(text) == text


@given(st.text())
def test_masking_twice_is_masking_once(text: str):
    assert mask_text(mask_text(text)) == mask_text(text)


# --- the item ---------------------------------------------------------------------------------------------------------


class Color(Enum):
    RED = 1


LITERALS: list[tuple[object, str]] = [
    ("line\n", '"line\\n"'),
    ('say "hi"', '"say \\"hi\\""'),
    ("it's", '"it\'s"'),
    ('it\'s "x"', '"it\'s \\"x\\""'),
    ("back\\slash'", '"back\\\\slash\'"'),
    ("\x1b[31m\x9b", '"\\x1b[31m\\x9b"'),
    ("\ud800", '"\\ud800"'),
    (b"\x00\xff", "b'\\x00\\xff'"),
    (bytearray(b"x"), "b'x'"),
    (None, "None"),
    (True, "True"),
    (1.5, "1.5"),
    ([1, "a", {"b": []}], '[1, "a", {"b": []}]'),
    ((1,), "(1)"),
    ({1}, "set([1])"),
    (deque([1]), "deque([1])"),
    (OrderedDict(a=1), '{"a": 1}'),
    (Color.RED, "<Color.RED: 1>"),
    (10**5000, "<int that cannot be shown: ValueError>"),
    ([[[[[[[[1]]]]]]]], "[[[[[[…]]]]]]"),
]


@pytest.mark.parametrize("case", range(len(LITERALS)))
def test_an_item_is_shown_much_as_its_literal(case: int):
    item, shown = LITERALS[case]
    assert show_item(item) == shown


def test_a_long_item_is_cut():
    for item in (
        "x" * 10**6,
        b"x" * 10**6,
        ["abc"] * 10**6,
        {n: n for n in range(10**5)},
        Login("x" * 500, "p"),
    ):
        assert len(show_item(item)) == 201
        assert show_item(item).endswith("…")


def test_a_huge_item_is_not_walked():
    looked = itertools.count()

    class Counted(dict[int, int]):
        def items(self) -> Any:
            return ((n, next(looked)) for n in itertools.count())

    class Endless(list[int]):
        def __iter__(self) -> Any:
            return (next(looked) for _ in itertools.repeat(0))

    assert show_item(Counted()).endswith("…")
    assert show_item(Endless()).endswith("…")
    assert show_item([Counted(), Endless()] * 1000).endswith("…")
    assert next(looked) < 1000


def test_an_item_that_raises_when_it_is_looked_at_is_survived():
    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    class BadMapping(dict[str, int]):
        def items(self) -> Any:
            raise OSError("no")

    class Sly:
        @property
        def __class__(self) -> Any:
            raise ValueError("no")

    assert show_item(Bad()) == "<Bad that cannot be shown: RuntimeError>"
    assert show_item({"a": Bad(), "b": 1}) == '{"a": <Bad that cannot be shown: RuntimeError>, "b": 1}'
    assert show_item(BadMapping()) == "<BadMapping that cannot be shown: OSError>"
    assert "Sly" in show_item(Sly())
    loop: list[Any] = []
    loop.append(loop)
    assert show_item(loop) == "[[[[[[…]]]]]]"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    )
)
def test_any_item_is_shown_in_one_line_of_bounded_length(item: object):
    shown = show_item(item)
    assert len(shown) <= 201
    assert len(shown.splitlines()) == 1


@given(
    st.lists(
        st.sampled_from(
            ["Bearer ", "a", '"', "'", "password", ":", "=", " ", "://", "@", "\\", "cookie", "\n"]
        )
    )
)
def test_no_text_takes_long_to_mask(parts: list[str]):
    mask_text("".join(parts) * 20)


# --- hints ------------------------------------------------------------------------------------------------------------

LIBRARY = """
import asyncio
async def work(): return [1]
async def numbers(): yield 1
"""

HINTS = {
    "a missing module": ("import no_such_module.deep", None, "pip install --target __pypackages__ no_such_module"),
    "async for over a list": (
        "async def f():\n async for x in [1]: pass\nasyncio.run(f())", None, "a list is read with a plain `for`"
    ),
    "async for over a coroutine": (
        "async def f():\n c = work()\n try:\n  async for x in c: pass\n finally: c.close()\nasyncio.run(f())",
        None,
        "`await` is missing",
    ),
    "for over an async generator": ("for x in numbers(): pass", None, "`async for`"),
    "a coroutine used as its result": (
        "c = work()\ntry: c[0]\nfinally: c.close()", None, "`await` is missing before the call"
    ),
    "an attribute of a coroutine": (
        "c = work()\ntry: c.split()\nfinally: c.close()", None, "`await` is missing before the call"
    ),
    "await of a list": ("async def f():\n await [1]\nasyncio.run(f())", None, "leave out the `await`"),
    "asyncio.run in the loop": (
        "async def f():\n c = work()\n try: asyncio.run(c)\n finally: c.close()\nasyncio.run(f())", None, "write `await`"
    ),
    "no loop in a plain generator": ("asyncio.get_running_loop()", None, "make it an `async def`"),
    "a text taken for JSON": ("item['id']", '{"id": 1}\n', 'takes="application/x-ndjson"'),
    "an attribute of a text": ("item.get('id')", '{"id": 1}\n', "-t application/x-ndjson"),
    "bytes taken for JSON": ("item['id']", b'{"id": 1}\n', "the items are bytes"),
    "bytes taken for text": ("item.split(',')", b"1,2", 'takes="text/plain"'),
    "bytes added to text": ("'a' + item", b"1,2", "the items are bytes"),
    "JSON taken for text": ("item.upper()", {"a": 1}, "the items are JSON values"),
    "a key that is not there": ("item['b']", {"a": 1}, 'no key "b"; its keys: "a"'),
    "a key of nothing": ("item['b']", {}, "its keys: none"),
    "one of many keys": ("item['b']", dict.fromkeys(range(9)), "7, …"),
}  # fmt: skip


@pytest.mark.parametrize("case", HINTS)
def test_a_usual_mistake_has_a_hint(case: str):
    code, item, hint = HINTS[case]
    error = raised(LIBRARY + code, item=item)
    assert hint in hint_for(Failure(error, item))
    assert hint in hint_for(Failure(ExceptionGroup("group", [ExceptionGroup("inner", [error])]), item))
    assert "\n" not in hint_for(Failure(error, item))


@pytest.mark.parametrize(
    ("code", "item"),
    [
        ("1 / 0", 1),
        ("import json.no_such_module_there", None),
        ("{}['x']", 1),
        ("d = {}; d['a']", {"a": 1}),
        ("int('x')", "x"),
        ("len(1)", "text"),
        ("raise KeyError", {"a": 1}),
        ("raise KeyError([])", {"a": 1}),
        ("raise RuntimeError('other')", 1),
        ("'x'.nope", 5),
        ("raise ImportError('x')", 5),
    ],
)
def test_other_errors_have_none(code: str, item: object):
    if "no_such_module_there" in code:
        assert "__pypackages__ json" in hint_for(Failure(raised(code), item))
    else:
        assert hint_for(Failure(raised(code), item)) == ""


def test_the_hint_names_how_the_input_came_and_is_silent_where_it_came_as_it_should():
    error = raised("item['id']", item="x")
    assert "are text, as the input came as text/plain;" in hint_for(
        Failure(error, "x", content_type="text/plain")
    )
    assert hint_for(Failure(error, "x", content_type="application/x-ndjson")) == ""


def test_an_error_that_raises_when_it_is_looked_at_has_no_hint():
    class Bad(TypeError):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert hint_for(Failure(Bad())) == ""


def test_a_wrong_argument_count_names_the_function_and_how_it_is_called():
    def run(context, input):
        helper(1)

    def helper():
        pass

    from sequence_sdk import _invoke
    from sequence_sdk.spec import CLASSIC

    async def call(*args: Any) -> BaseException:
        try:
            await _invoke.call(run, CLASSIC, None, None, list(args))  # type: ignore[arg-type]
        except TypeError as error:
            return error.with_traceback(getattr(error.__traceback__, "tb_next", None))
        raise AssertionError

    line = run.__code__.co_firstlineno
    hint = hint_for(Failure(asyncio.run(call(1, 2)), function=run))
    assert hint.startswith(
        f"test_report.py:{line}: run(context, input) is called with (context, input) or, marked"
    )
    assert hint_for(Failure(asyncio.run(call()), function=run)) == "", "the wrong call is the author's own"
    assert "(…)" in hint_for(
        Failure(TypeError("f() takes 1 positional argument but 2 were given"), function=5)
    )
    assert hint_for(Failure(TypeError("f() takes 1 positional argument but 2 were given"))) == ""


def test_a_coroutine_or_a_generator_that_is_given_as_an_item_is_told():
    async def work():
        pass

    async def numbers():
        yield 1

    coroutine = work()
    assert "work' was never awaited: write `yield await work(…)`" in hint_for(
        Failure(BadOutput(1, "no", coroutine))
    )
    coroutine.close()
    assert "`async for item in numbers(…): yield item`" in hint_for(Failure(BadOutput(1, "no", numbers())))
    assert "`for item in <genexpr>(…)" in hint_for(Failure(BadOutput(1, "no", (x for x in ()))))
    assert hint_for(Failure(BadOutput(1, "no", 5))) == ""


@pytest.mark.parametrize(
    ("kind", "item", "way_out"),
    [
        (ContentType.TEXT, {"a": 1}, 'gives="application/x-ndjson"'),
        (ContentType.OCTETS, "text", "text.encode()"),
        (ContentType.NDJSON, b"bytes", "application/octet-stream"),
    ],
)
def test_items_of_the_wrong_type_say_themselves_what_to_do(kind: ContentType, item: object, way_out: str):
    with pytest.raises((TypeError, ValueError)) as caught:
        ENCODERS[kind]()(item)
    assert way_out in format_failure(bad_output(1, caught.value, item))


# --- warnings ---------------------------------------------------------------------------------------------------------


async def promising(input) -> "AsyncIterator[str]":  # noqa: F821 - an author may import it for type checkers only
    """Return nothing, whatever the annotation says."""


async def streaming(input) -> Any:
    """Return anything."""


async def quiet(input):
    """Return nothing, as it says."""


def test_a_forgotten_yield_is_told_when_something_was_to_come():
    line = promising.__code__.co_firstlineno
    assert forgotten_yield(promising, read=2) == (
        f"test_report.py:{line}: promising has read 2 items and returned nothing, but it is annotated to give AsyncIterator; "
        "did you forget `yield`?"
    )
    assert "has read 1 item and returned nothing, but it declares gives='text/plain'" in forgotten_yield(
        quiet, read=1, gives="text/plain"
    )


@pytest.mark.parametrize(
    ("function", "read", "gives"),
    [(quiet, 5, ""), (streaming, 5, ""), (promising, 0, "text/plain"), (lambda input: None, 5, "text/plain"), (None, 1, "")],
    ids=["no promise", "any", "nothing read", "no coroutine", "no function"],
)  # fmt: skip
def test_a_sequence_that_need_not_give_anything_is_not_warned_of(function: Any, read: int, gives: str):
    assert forgotten_yield(function, read=read, gives=gives) == ""


@pytest.mark.parametrize(
    ("line", "way_out"),
    [
        ("time.sleep(1)", "`await asyncio.sleep(…)`"),
        ("sleep(1)", "`await asyncio.sleep(…)`"),
        ("requests.get(url)", "asynchronous client"),
        ("urllib.request.urlopen(url)", "asynchronous client"),
        ("subprocess.run(['ls'])", "create_subprocess_exec"),
        ("future.result()", "wait with `await`"),
        ("input()", "read the `input`"),
        ("for n in range(10**9): x += n", "asyncio.to_thread"),
    ],
)
def test_what_blocks_the_loop_is_named_with_what_to_write_instead(tmp_path: Path, line: str, way_out: str):
    (tmp_path / f"{abs(hash(line))}.py").write_text(f"# first\n    {line}\n")
    name = f"{abs(hash(line))}.py"
    hint = blocked_hint({"seconds": 0.25, "file": name, "line": 2}, str(tmp_path))
    assert hint.startswith(f"{name}:2 ({line}) has held up the event loop for 0.25 s")
    assert way_out in hint


def test_a_place_that_nobody_knows_gives_no_warning_and_a_file_that_is_gone_does():
    assert blocked_hint({"seconds": 1.0}) == ""
    assert blocked_hint({"file": "gone.py", "line": 3, "seconds": 1.0}, "/no-such-folder").startswith(
        "gone.py:3 has held up"
    )


def test_an_error_that_refers_to_itself_is_shown():
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first
    assert format_failure(first).endswith("ValueError: first\n")
    assert traceback.format_exception_only(first) == ["ValueError: first\n"]


def test_a_mistyped_method_of_a_text_that_is_no_json_gets_no_hint_about_json():
    error = raised("item.nope()", item="Zed\n")
    assert hint_for(Failure(error, "Zed\n", content_type="text/plain")) == ""
    error = raised("item.get('id')", item='{"id": 1}\n')
    assert "if they are JSON" in hint_for(Failure(error, '{"id": 1}\n', content_type="text/plain"))
