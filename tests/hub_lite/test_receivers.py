"""What channels do with the bytes that links bring: messages."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.receivers import MessageReceiver
from runner.protocol.codec import Decoder
from runner.protocol.errors import RemoteProtocolError
from runner.protocol.messages import Message, Monitoring

HEALTHY = b'[3001,{"healthy":true}]\r\n'


class Heard:
    """A receiver, and all that it has handed on."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.outcomes: list[Any] = []
        self.receiver = MessageReceiver(self.take, self.complain, lambda: self.outcomes.append("end"))

    def take(self, message: Message) -> None:
        self.messages.append(message)
        self.outcomes.append(message)

    def complain(self, error: RemoteProtocolError) -> None:
        self.outcomes.append(str(error))


def outcomes_of(data: bytes) -> list[Any]:
    """Return what a decoder makes of all the bytes at once."""
    decoder, found = Decoder(), []
    decoder.feed(data)
    decoder.end()
    while True:
        try:
            found.extend(decoder)
        except RemoteProtocolError as error:
            found.append(str(error))
        else:
            return [*found, "end"]


def test_a_report_that_comes_again_in_the_same_bytes_is_not_decoded_again() -> None:
    heard = Heard()
    for _ in range(3):
        heard.receiver.received(HEALTHY)
    assert heard.messages == [Monitoring({"healthy": True})] * 3
    assert len({id(message) for message in heard.messages}) == 1


def test_another_report_between_two_of_the_same_bytes_is_another_one() -> None:
    heard = Heard()
    for chunk in (HEALTHY, b'[3001,{"healthy":false}]\n', HEALTHY):
        heard.receiver.received(chunk)
    assert [message.report["healthy"] for message in heard.messages] == [True, False, True]


def test_the_same_bytes_inside_an_unfinished_line_are_a_part_of_it() -> None:
    heard = Heard()
    for chunk in (HEALTHY, b'[3001,{"healthy":', HEALTHY, HEALTHY):
        heard.receiver.received(chunk)
    assert [type(outcome) for outcome in heard.outcomes] == [Monitoring, str, Monitoring]


@pytest.mark.parametrize(
    "chunk", [HEALTHY + HEALTHY, b'[3011,{"timeout":1}]\n', b'[3001,{"error":"%b"}]\n' % (b"x" * 5000)]
)
def test_only_one_short_report_is_known_again(chunk: bytes) -> None:  # fmt: skip
    heard = Heard()
    for _ in range(2):
        heard.receiver.received(chunk)
    first, second = heard.messages[: len(heard.messages) // 2], heard.messages[len(heard.messages) // 2 :]
    assert first == second
    assert all(one is not other for one, other in zip(first, second, strict=True))


@given(
    chunks=st.lists(
        st.sampled_from(
            [HEALTHY, HEALTHY[:7], HEALTHY[7:], b'[3001,{"healthy":false}]\n', b"\n", b"", b"no message\n", b"[3010,{}]\n"]
        )
    )
)  # fmt: skip
def test_chunks_that_repeat_have_the_outcome_that_they_have_in_one_piece(chunks: list[bytes]) -> None:
    heard = Heard()
    for chunk in chunks:
        heard.receiver.received(chunk)
    heard.receiver.ended()
    assert heard.outcomes == outcomes_of(b"".join(chunks))
