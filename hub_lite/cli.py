"""The command ``hub-lite``."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from .settings import Settings, SettingsError, from_tree, read_file

# The hub and its client are imported where they are needed: that takes a second, and help and typing errors need neither.


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hub-lite", prog_name="hub-lite")
def main() -> None:
    """Run streaming Python programs: a hub for Sequences, and the tools to operate it."""
    _fill_standard_descriptors()


def _fill_standard_descriptors() -> None:
    """Open /dev/null where 0, 1 or 2 is closed: a socket that got such a number would be taken for a standard stream."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


@main.command()
@click.option(
    "-P",
    "--port",
    type=click.IntRange(0, 65535),
    help="Port of the API; 0 takes any free one. [default: 8000]",
)
@click.option("-H", "--hostname", help="Address to listen on. [default: 127.0.0.1]")
@click.option(
    "-D",
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where Sequences are kept. [default: ~/.local/share/hub-lite]",
)
@click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Settings file, JSON or TOML; options win over it.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Allow to listen on other than loopback. Whoever reaches it can run programs.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log what the hub does in detail.")
def start(
    port: int | None,
    hostname: str | None,
    data_dir: Path | None,
    config_file: Path | None,
    insecure: bool,
    verbose: bool,
) -> None:
    """Start a hub; it runs until Ctrl-C.

    It prints one line with its URL when it is ready, and logs to stderr.
    """
    _log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    with _failing_with_a_sentence():
        settings = Settings()
        if config_file is not None:
            settings = from_tree(read_file(config_file), where=str(config_file))
        given: dict[str, Any] = {
            "port": port,
            "hostname": hostname,
            "data_dir": data_dir,
            "insecure": insecure or None,
        }
        settings = replace(
            settings, **{name: value for name, value in given.items() if value is not None}
        ).checked()
        _run_loop(_serve(settings))


async def _serve(settings: Settings) -> None:
    from . import app  # noqa: PLC0415 - see above

    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    kill_all: list[Callable[[], None]] = []

    def end() -> None:
        if asked.is_set() and kill_all:
            logging.getLogger(__name__).warning("asked again: killing all Instances")
            kill_all[0]()
        asked.set()

    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # before the start: who ends it early wants a clean end too
        loop.add_signal_handler(number, end)
    async with app.serve(settings) as running:
        kill_all.append(running.hub.kill_all)
        click.echo(f"hub-lite is ready at {running.api_url}")
        await asked.wait()


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
    envvar="HUB_LITE_URL",
    help="A running hub. [default: one of its own, for the time being]",
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
    keep: bool,
    verbose: bool,
) -> None:
    """Run the Sequence in TARGET, a folder or a package, and end with its exit status.

    Standard input (or --input) goes to its input, its output to stdout; what it prints, its errors and its log go to stderr.
    """
    _log_to_stderr(logging.INFO if verbose else logging.WARNING)
    args = _json_option("--args", arguments, list, [])
    config = _json_option("--config", app_config, dict, {})
    input_path = None if input_file in (None, "-") else _existing_file(str(input_file))
    with _failing_with_a_sentence():
        from . import run  # noqa: PLC0415 - see above

        options = run.RunOptions(
            target=target,
            args=args,
            config=config,
            input=input_path,
            content_type=content_type,
            hub=hub,
            keep=keep,
            verbose=verbose,
        )
        sys.exit(_run_loop(run.run(options)))


def _existing_file(name: str) -> Path:
    path = Path(name)
    if not path.exists() or path.is_dir():  # a pipe of the shell's, <(command), is as good as a file
        what = "this is a folder" if path.is_dir() else "there is no such file"
        raise click.BadParameter(f"{name}: {what}", param_hint="--input")
    return path


def _json_option(name: str, text: str | None, kind: type, default: Any) -> Any:
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


def _run_loop(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        import uvloop  # noqa: PLC0415 - it has no wheel for every platform
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def _log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)


@contextmanager
def _failing_with_a_sentence() -> Iterator[None]:
    """Turn what may go wrong into a line on stderr and exit status 1."""
    from sequence_sdk.manifest import ManifestError  # noqa: PLC0415 - see above
    from sequence_sdk.pack import PackError  # noqa: PLC0415

    from .client import ClientError  # noqa: PLC0415
    from .run import StreamFailure  # noqa: PLC0415

    try:
        yield
    except (ClientError, ManifestError, OSError, PackError, SettingsError, StreamFailure) as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename:
            text = f"{error.strerror}: {error.filename}"
        with suppress(OSError):  # nobody reads stderr
            click.echo(f"hub-lite: {text}", err=True)
        sys.exit(1)
