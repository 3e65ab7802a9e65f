"""The channels of an Instance: one purpose, one socket each."""

from enum import IntEnum


class Channel(IntEnum):
    """What a link carries; the value is the digit of its hello.

    Source: docs/protocol.md, "Channels".
    """

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    CONTROL = 3
    MONITORING = 4
    IN = 5
    OUT = 6
    LOG = 7
    PACKAGE = 8


REQUIRED_CHANNELS = frozenset(Channel) - {Channel.PACKAGE}
"""An Instance is connected when these are there; the 0.18 dialect has no others."""
