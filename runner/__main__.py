"""``python -P -m runner``: run one Sequence, as the environment says."""

import os
import sys

from .errors import RunnerError
from .session import run
from .settings import Settings


def main() -> int:
    """Return the exit code of the Sequence, or the one that says why it could not begin."""
    try:
        return run(Settings.from_environ(os.environ))
    except RunnerError as error:
        print(f"hub-lite runner: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
