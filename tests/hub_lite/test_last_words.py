"""What runners say when they end badly, in the forms that they really use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.last_words import code_of_old_runner, detail_that_was_lost, last_line

THROWN = b"""/packages/1f76/index.js:1
module.exports = () => { setTimeout(() => { throw new TypeError("later") }, 10) };
                                            ^

TypeError: later
    at Timeout._onTimeout (/packages/1f76/index.js:1:65)
    at listOnTimeout (node:internal/timers:581:17)

Node.js v20.20.2
"""
EMITTED = b"""node:events:502
      throw er; // Unhandled 'error' event
      ^

StreamError: mid
    at DataStream._read (/lib/util/mk-read.js:58:30)
  caused by:
    at /packages/1f76/index.js:1:84 {
  code: 'ERR_SCRAMJET_GENERAL',
  cause: Error: mid
      at /packages/1f76/index.js:1:84
}

Node.js v20.20.2
"""
NO_ERROR = b"""node:internal/process/promises:394
Uncaught:
'text'

Node.js v20.20.2
"""
TRACEBACK = b"""Traceback (most recent call last):
  File "main.py", line 1, in <module>
ValueError: by design
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (THROWN, "TypeError: later"),
        (EMITTED, "StreamError: mid"),
        (NO_ERROR, "'text'"),
        (TRACEBACK, "ValueError: by design"),
        (b"Node.js v20.20.2\n", "Node.js v20.20.2"),
        (b"Error: first\nsecond\n", "second"),
        (b" \n\n", ""),
        (b"", ""),
        (b"\xff last\n  \n", "\ufffd last"),
    ],
)
def test_the_line_that_says_why_is_found(text: bytes, line: str) -> None:
    assert last_line(text) == line


@given(st.binary(max_size=2000))
def test_any_bytes_give_one_short_line(text: bytes) -> None:
    line = last_line(text)
    assert len(line) <= 500
    assert len(line.splitlines()) <= 1


@given(st.text(min_size=501, alphabet=st.characters(codec="ascii", categories=["L"])))
def test_a_long_line_is_cut(text: str) -> None:
    assert last_line(text.encode()) == text[:500]


@pytest.mark.parametrize(
    ("code", "up", "completed", "today"),
    [
        (21, False, False, 22),
        (21, True, False, 21),  # the author's
        (20, True, True, 23),
        (20, True, False, 20),  # the author's
        (22, True, True, 22),
        (0, True, True, 0),
        (1, False, False, 1),
        (137, True, True, 137),
        (-9, False, False, -9),
    ],
)
def test_an_old_runners_code_is_told_as_todays(code: int, up: bool, completed: bool, today: int) -> None:
    assert code_of_old_runner(code, up=up, completed=completed) == today


def test_the_item_in_hand_and_a_hint_stand_behind_the_error():
    told = b'Traceback ...\nKeyError: \'v\'\nitem 17: {"id": 5}\nhint: write takes="application/x-ndjson"\n'
    assert last_line(told) == "KeyError: 'v'"
    assert last_line(b"hint: alone\n") == "hint: alone"


def test_what_a_node_runner_keeps_to_itself_is_told_by_a_command_that_can_be_typed():
    assert detail_that_was_lost(22, "index.js") == (
        "its runner does not say why, but `node index.js` does where the package was made"
    )
    assert "`node 'my main.js'`" in detail_that_was_lost(22, "my main.js")


@pytest.mark.parametrize("code", [0, 1, 20, 21, 23, 137])
def test_of_other_ends_nothing_is_added(code):
    assert detail_that_was_lost(code, "index.js") == ""
