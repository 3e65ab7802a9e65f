"""``hub-lite run`` and ``hub-lite dev``: a Sequence whose streams are connected to those of the shell."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub_lite.settings import TOKEN_VARIABLE, URL_VARIABLE

from .shell import failing_with_a_sentence, json_option, run_loop, token_of
from .start import log_to_stderr

if TYPE_CHECKING:  # imported where it is needed: that takes a second, and help and typing errors need neither
    from hub_lite.run import RunOptions

DEBUG_PORT = 5678  # where debuggers look if nobody says otherwise


class _Command(click.Command):
    """A command with ``--debug [PORT]``: a word behind it that is no number is not its port."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        following = [*args[1:], ""]
        ours = args[: args.index("--")] if "--" in args else args
        for at, word in enumerate(ours):
            if word == "--debug" and not following[at].isdigit():
                args = [*args[:at], f"--debug={DEBUG_PORT}", *args[at + 1 :]]
        return super().parse_args(ctx, args)


_OPTIONS = (
    click.option("--args", "arguments", metavar="JSON", help="Start arguments, a JSON array."),
    click.option("--config", "app_config", metavar="JSON", help="Configuration of the Sequence, a JSON object."),
    click.option(
        "-i", "--input", "input_file", metavar="FILE", help="File to send to the input; - is standard input. [default: -]"
    ),
    click.option(
        "-t", "--content-type", help="Content type of the input. [default: by the file's ending, else text/plain]"
    ),
    click.option(
        "--hub", metavar="URL", envvar=URL_VARIABLE, help="A running hub. [default: one of its own, for the time being]"
    ),
    click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"File with the token to show that hub; else {TOKEN_VARIABLE} has it.",
    ),
    click.option("--keep", is_flag=True, help="Leave the Sequence on the hub afterwards."),
    click.option(
        "--debug",
        type=click.IntRange(1, 65535),
        metavar="[PORT]",
        help=f"Wait for a debugger on that port before the Sequence is loaded. [{DEBUG_PORT}]",
    ),
    click.option("-v", "--verbose", is_flag=True, help="Show all log records."),
)  # fmt: skip


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("run", cls=_Command, short_help="Run a Sequence, its streams connected to those of the shell.")
@click.argument("target", type=click.Path(exists=True, path_type=Path))
@_with_options
def run(target: Path, **given: Any) -> None:
    """Run the Sequence in TARGET, a folder or a package, and end with its exit status.

    Standard input (or --input) goes to its input, its output to stdout; what it prints, its errors and its log go to stderr.
    """
    options = _options(target, **given)
    with failing_with_a_sentence():
        from hub_lite import run as running  # noqa: PLC0415 - see above

        sys.exit(run_loop(running.run(options())))


@click.command("dev", cls=_Command, short_help="Run a Sequence while you write it: a save swaps its code.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_with_options
def dev(folder: Path, **given: Any) -> None:
    """Run the Sequence in FOLDER, its streams connected as with `hub-lite run`, until Ctrl-C.

    When a file of it is saved, the new code takes over between two items; input and output stay open. Code that cannot be loaded is
    shown, and the old goes on. A Sequence that has ended is started again by the next save, with the input that is left.
    """
    options = _options(folder, **given)
    with failing_with_a_sentence():
        from hub_lite import dev as developing  # noqa: PLC0415 - see above

        sys.exit(run_loop(developing.dev(options())))


def _options(
    target: Path,
    arguments: str | None,
    app_config: str | None,
    input_file: str | None,
    content_type: str | None,
    hub: str | None,
    token_file: Path | None,
    keep: bool,
    debug: int | None,
    verbose: bool,
) -> "Callable[[], RunOptions]":
    """Check the options, and return what makes them what a run is told."""
    log_to_stderr(logging.INFO if verbose else logging.WARNING)
    args = json_option("--args", arguments, list, [])
    config = json_option("--config", app_config, dict, {})
    input_path = None if input_file in (None, "-") else _existing_file(str(input_file))
    if debug is not None and hub:
        raise click.UsageError(
            "--debug is for a hub of its own; leave out --hub, and HUB_LITE_URL in the environment"
        )

    def make() -> "RunOptions":
        from hub_lite.run import RunOptions  # noqa: PLC0415 - see above

        return RunOptions(
            target=target,
            args=args,
            config=config,
            input=input_path,
            content_type=content_type,
            hub=hub,
            token=token_of(token_file) if hub else None,
            keep=keep,
            verbose=verbose,
            debug=debug,
        )

    return make


def _existing_file(name: str) -> Path:
    path = Path(name)
    if not path.exists() or path.is_dir():  # a pipe of the shell's, <(command), is as good as a file
        what = "this is a folder" if path.is_dir() else "there is no such file"
        raise click.BadParameter(f"{name}: {what}", param_hint="--input")
    return path
