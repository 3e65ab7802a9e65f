"""What all commands share with the shell: errors as a sentence, the event loop, options in JSON."""

import asyncio
import json
import os
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from hub_lite.settings import TOKEN_VARIABLE, SettingsError

# The hub and its client are imported where they are needed: that takes a second, and help and typing errors need neither.

_INTERRUPTED = 130  # what shells say of a command that Ctrl-C has ended
_READER_GONE = 141  # and of one whose reader has gone away


class CommandFailed(Exception):
    """A command cannot do what it is asked for; ``str()`` of it says why."""


@contextmanager
def failing_with_a_sentence() -> Iterator[None]:
    """Turn what may go wrong into a line on stderr and exit status 1; Ctrl-C and a reader that is gone need no words."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), 1
        )  # what is still to be written at the exit goes nowhere, quietly
        sys.exit(_READER_GONE)
    except Exception as error:
        if not isinstance(error, _foreseen()):
            raise
        text = str(error)
        if isinstance(error, OSError) and error.filename:
            text = f"{error.strerror}: {error.filename}"
        with suppress(OSError):  # nobody reads stderr
            click.echo(f"hub-lite: {text}", err=True)
        sys.exit(1)


def _foreseen() -> tuple[type[Exception], ...]:
    from hub_lite.access import TokenFileError  # noqa: PLC0415 - see above
    from hub_lite.client import ClientError  # noqa: PLC0415
    from hub_lite.standard_streams import StreamFailure  # noqa: PLC0415
    from sequence_sdk.manifest import ManifestError  # noqa: PLC0415
    from sequence_sdk.pack import PackError  # noqa: PLC0415

    return (
        ClientError, CommandFailed, ManifestError, OSError, PackError, SettingsError, StreamFailure, TokenFileError
    )  # fmt: skip


def run_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end and return what it returns."""
    try:
        import uvloop  # noqa: PLC0415 - it has no wheel for every platform
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def fill_standard_descriptors() -> None:
    """Open /dev/null where 0, 1 or 2 is closed: a socket that got such a number would be taken for a standard stream."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


def json_option(name: str, text: str | None, kind: type, default: Any) -> Any:
    """Return the value of an option in JSON.

    Raises:
        BadParameter: it is no JSON, or not of this kind.
    """
    if text is None:
        return default
    wanted = 'array, such as [1, "two"]' if kind is list else 'object, such as {"key": 1}'
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is not JSON ({error}); give a JSON {wanted}", param_hint=name
        ) from None
    if not isinstance(value, kind):
        raise click.BadParameter(f"must be a JSON {wanted}, not {text!r}", param_hint=name)
    return value


def token_of(token_file: Path | None) -> str | None:
    """Return the token to show a hub: the first of a file, or that of the environment; None if there is none.

    Raises:
        TokenFileError: the file cannot be used.
    """
    if token_file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    from hub_lite.access import read_token_file  # noqa: PLC0415 - see above

    return read_token_file(token_file)[0].decode()
