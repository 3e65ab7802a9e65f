"""``python -P -m runner``: run one Sequence, as the environment says."""

import os
import socket
import sys

from .errors import RunnerError
from .protocol.channels import Channel
from .session import run
from .settings import Settings


def main(links: dict[Channel, socket.socket] | None = None) -> int:
    """Return the exit code of the Sequence, or the one that says why it could not begin.

    Args:
        links: the open links to the hub, if there are any; otherwise the hub is where the environment says.
    """
    try:
        return run(Settings.from_environ(os.environ), links)
    except RunnerError as error:
        print(f"hub-lite runner: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
