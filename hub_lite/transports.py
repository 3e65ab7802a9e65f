"""Several pieces in one write to a transport, none of them copied where that can be helped."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Protocol

_SMALL = 4 * 1024  # bytes; what is shorter is joined sooner than handed on piece by piece

# There asyncio's own transports forget their limits in writelines, and memory grows without bound (CVE-2024-12254).
_FORGETFUL = (3, 12) <= sys.version_info < (3, 12, 9) or (3, 13) <= sys.version_info < (3, 13, 2)


class Writable(Protocol):
    """The part of a transport that takes bytes."""

    def write(self, data: bytes, /) -> None:
        """Take bytes."""

    def writelines(self, data: Sequence[bytes], /) -> None:
        """Take pieces."""


def write_together(transport: Writable, pieces: Sequence[bytes]) -> None:
    """Write immutable pieces in one go: uvloop hands many to the kernel in one call, as they are."""
    if len(pieces) == 1:
        transport.write(pieces[0])
    elif sum(map(len, pieces)) <= _SMALL or (_FORGETFUL and isinstance(transport, asyncio.WriteTransport)):
        transport.write(b"".join(pieces))
    else:
        transport.writelines(pieces)
