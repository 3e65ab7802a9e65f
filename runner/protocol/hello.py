"""The hello: the first 37 bytes of every link."""

import re
from dataclasses import dataclass

from .channels import Channel
from .errors import LocalProtocolError, RemoteProtocolError

ID_LENGTH = 36  # bytes of ASCII
HELLO_LENGTH = ID_LENGTH + 1

_ID = re.compile(r"[!-.0-\[\]-~]{36}")  # from ! to ~, without / and \


@dataclass(frozen=True, slots=True)
class Hello:
    """Which Instance a link belongs to and what it carries."""

    instance_id: str
    channel: Channel


def is_instance_id(value: object) -> bool:
    """Tell whether ``value`` can be the id of an Instance: 36 visible ASCII characters, no slash."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def encode_hello(instance_id: str, channel: Channel) -> bytes:
    """Return the bytes that open a link.

    Shape: 37 bytes, the id as 36 ASCII characters, then the channel as one digit.

    Raises:
        LocalProtocolError: ``instance_id`` is not 36 visible ASCII characters.

    Source: docs/protocol.md, "Hello".
    """
    if not is_instance_id(instance_id):
        raise LocalProtocolError(
            f"an instance id is {ID_LENGTH} visible ASCII characters, not {instance_id!r}"
        )
    return f"{instance_id}{channel.value}".encode("ascii")


class HelloDecoder:
    """Collects the hello of one link from chunks cut anywhere."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, chunk: bytes) -> tuple[Hello, bytes] | None:
        """Return the hello and the bytes after it, or None while it is incomplete.

        Raises:
            RemoteProtocolError: the id or the digit is not what a hello has; nothing may be read after that.
        """
        self._held += chunk
        if len(self._held) < HELLO_LENGTH:
            return None
        head, rest = bytes(self._held[:HELLO_LENGTH]), bytes(self._held[HELLO_LENGTH:])
        instance_id = head[:ID_LENGTH].decode("ascii", "replace")
        if not is_instance_id(instance_id):
            raise RemoteProtocolError(
                f"hello: {head[:ID_LENGTH]!r} is not an instance id of {ID_LENGTH} ASCII characters"
            )
        digit = head[ID_LENGTH:]
        if not b"0" <= digit <= b"8":
            raise RemoteProtocolError(f"hello of {instance_id}: {digit!r} is not a channel digit from 0 to 8")
        return Hello(instance_id, Channel(int(digit))), rest
