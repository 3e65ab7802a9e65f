"""The command ``hub-lite``."""

import logging
import sys
from pathlib import Path

import click

from .commands.operate import COMMANDS
from .commands.shell import (
    failing_with_a_sentence,
    fill_standard_descriptors,
    json_option,
    run_loop,
    token_of,
)
from .commands.start import config as config_command
from .commands.start import log_to_stderr, start
from .settings import TOKEN_VARIABLE, URL_VARIABLE

# The hub and its client are imported where they are needed: that takes a second, and help and typing errors need neither.


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hub-lite", prog_name="hub-lite")
def main() -> None:
    """Run streaming Python programs: a hub for Sequences, and the tools to operate it."""
    fill_standard_descriptors()


@main.command("run", short_help="Run a Sequence, its streams connected to those of the shell.")
@click.argument("target", type=click.Path(exists=True, path_type=Path))
@click.option("--args", "arguments", metavar="JSON", help="Start arguments, a JSON array.")
@click.option("--config", "app_config", metavar="JSON", help="Configuration of the Sequence, a JSON object.")
@click.option(
    "-i",
    "--input",
    "input_file",
    metavar="FILE",
    help="File to send to the input; - is standard input. [default: -]",
)
@click.option(
    "-t", "--content-type", help="Content type of the input. [default: by the file's ending, else text/plain]"
)
@click.option(
    "--hub",
    metavar="URL",
    envvar=URL_VARIABLE,
    help="A running hub. [default: one of its own, for the time being]",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"File with the token to show that hub; else {TOKEN_VARIABLE} has it.",
)
@click.option("--keep", is_flag=True, help="Leave the Sequence on the hub afterwards.")
@click.option("-v", "--verbose", is_flag=True, help="Show all log records.")
def run_command(
    target: Path,
    arguments: str | None,
    app_config: str | None,
    input_file: str | None,
    content_type: str | None,
    hub: str | None,
    token_file: Path | None,
    keep: bool,
    verbose: bool,
) -> None:
    """Run the Sequence in TARGET, a folder or a package, and end with its exit status.

    Standard input (or --input) goes to its input, its output to stdout; what it prints, its errors and its log go to stderr.
    """
    log_to_stderr(logging.INFO if verbose else logging.WARNING)
    args = json_option("--args", arguments, list, [])
    config = json_option("--config", app_config, dict, {})
    input_path = None if input_file in (None, "-") else _existing_file(str(input_file))
    with failing_with_a_sentence():
        from . import run  # noqa: PLC0415 - see above

        options = run.RunOptions(
            target=target,
            args=args,
            config=config,
            input=input_path,
            content_type=content_type,
            hub=hub,
            token=token_of(token_file) if hub else None,
            keep=keep,
            verbose=verbose,
        )
        sys.exit(run_loop(run.run(options)))


def _existing_file(name: str) -> Path:
    path = Path(name)
    if not path.exists() or path.is_dir():  # a pipe of the shell's, <(command), is as good as a file
        what = "this is a folder" if path.is_dir() else "there is no such file"
        raise click.BadParameter(f"{name}: {what}", param_hint="--input")
    return path


for command in (start, config_command, *COMMANDS):
    main.add_command(command)
