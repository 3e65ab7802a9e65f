"""What can go wrong on the wire, and whose fault it is.

ProtocolError
├── LocalProtocolError    we tried to send what the contract does not allow: a bug on our side
└── RemoteProtocolError   the peer sent what the contract does not allow
"""


class ProtocolError(Exception):
    """A rule of docs/protocol.md is broken."""


class LocalProtocolError(ProtocolError):
    """We tried to send what the contract does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the contract does not allow."""
