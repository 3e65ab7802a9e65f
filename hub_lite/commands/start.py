"""``hub-lite start`` and ``hub-lite config``: what a hub is told, and a hub that is told so."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from hub_lite.settings import (
    _KEYS,
    FOREIGN_OPTIONS,
    NEEDLESS_OPTIONS,
    Loaded,
    Setting,
    Settings,
    fault,
    file_values,
    load,
)

from .shell import failing_with_a_sentence, run_loop

_LEVELS = {"trace": logging.DEBUG, "debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING}
_COLORS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


def _checked(key: str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Return what makes of the text of an option the value that a settings file would hold."""

    def check(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
        if text is None:
            return None
        value = _KEYS[key].kind.parse(text)
        if (wrong := fault(key, value)) is not None:
            raise click.BadParameter(wrong, context, parameter)
        return value

    return check


class _Command(click.Command):
    """A command that can be told settings; it knows why some of Transform Hub's options make no sense here."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            why = FOREIGN_OPTIONS.get(error.option_name)
            if why is None:
                raise
            raise click.UsageError(f"{error.option_name}: {why}", ctx) from None


def _option(key: str, setting: Setting, default: Any) -> click.Option:
    name = setting.field.replace(".", "_")
    if setting.kind.types == (bool,):
        negative = any(option.startswith("--no-") for option in setting.options)
        text = f"Do not {setting.help}." if negative else _sentence(setting.help)
        return click.Option(
            [*setting.options, name],
            is_flag=True,
            flag_value=not negative,
            type=bool,
            default=None,
            help=text,
        )
    shown = "" if default in (None, "", [], {}) else f" [default: {_shown(key, default)}]"
    help = _sentence(setting.help) + shown
    return click.Option(
        [*setting.options, name], callback=_checked(key), metavar=setting.kind.word, help=help
    )


def _shown(key: str, default: Any) -> str:
    return "~/.local/share/hub-lite" if key == "dataDir" else str(default)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _options() -> Sequence[click.Option]:
    defaults = file_values(Settings())
    file = click.Option(
        ["-c", "--config", "config_file"],
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Settings file: TOML or YAML by its ending, else JSON. Variables and options win over it.",
    )
    needless = [
        click.Option([*spellings, "needless"], is_flag=True, expose_value=False, help=why)
        for spellings, why in NEEDLESS_OPTIONS.items()
    ]
    told = [_option(key, setting, defaults[key]) for key, setting in _KEYS.items() if setting.options]
    return [*told, file, *needless]


def _with_settings(command: click.Command) -> click.Command:
    command.params = [*_options(), *command.params]
    return command


def _load(config_file: Path | None, given: dict[str, Any]) -> Loaded:
    options = {
        key: (spelling, given[name])
        for key, setting in _KEYS.items()
        if given.get(name := setting.field.replace(".", "_")) is not None
        for spelling in [one for one in setting.options if one.startswith("--")][:1]
    }
    return load(file=config_file, environ=os.environ, options=options)


@_with_settings
@click.command("start", cls=_Command)
def start(config_file: Path | None, **given: Any) -> None:
    """Start a hub; it runs until Ctrl-C.

    It prints one line with its URL when it is ready, and logs to stderr. All settings may also be said by environment variables, or
    in a settings file; `hub-lite config` shows what they are and where they come from.
    """
    with failing_with_a_sentence():
        settings = _load(config_file, given).settings.checked()
        log_to_stderr(level_of(settings), colors=settings.log_colors)
        sys.exit(run_loop(_serve(settings)))


@_with_settings
@click.command("config", cls=_Command, short_help="Show the settings, and where they come from.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def config(config_file: Path | None, as_json: bool, **given: Any) -> None:
    """Show what a hub would be told, and where each setting comes from.

    It takes the options of `hub-lite start`, and looks at the same settings file and environment variables. Secrets are not shown.
    """
    with failing_with_a_sentence():
        effective = _load(config_file, given).effective()
    if as_json:
        click.echo(
            json.dumps(
                {key: {"value": value, "from": origin} for key, (value, origin) in effective.items()},
                indent=2,
            )
        )
        return
    rows = [
        (key, json.dumps(value, ensure_ascii=False), origin) for key, (value, origin) in effective.items()
    ]
    keys, values = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    for key, value, origin in rows:
        click.echo(f"{key:{keys}}  {value:{values}}  {origin}")


async def _serve(settings: Settings) -> int:
    """Run a hub until it is asked to end, or ends with its last Instance; return the exit status."""
    from hub_lite import app, startup  # noqa: PLC0415 - it takes a second; help and typing errors do not need it

    to_start = [] if settings.startup_config is None else startup.read_list(settings.startup_config)
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
        return await startup.operate(
            running.hub, to_start, asked, ends_with_last_instance=settings.exit_with_last_instance
        )


def level_of(settings: Settings) -> int:
    """Return the level from which on a hub logs."""
    return logging.DEBUG if settings.debug else _LEVELS.get(settings.log_level, logging.ERROR)


def log_to_stderr(level: int, *, colors: bool = False) -> None:
    """Log to stderr, a line each; in colours if they are wanted and it is a terminal."""
    handler = logging.StreamHandler()
    in_colors = colors and sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    handler.setFormatter(_ColorFormatter() if in_colors else _PlainFormatter())
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class _PlainFormatter(logging.Formatter):
    """Time, level and text."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")


class _ColorFormatter(_PlainFormatter):
    """The same, in a colour by the level."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        color = _COLORS.get(record.levelname)
        return text if color is None else f"\x1b[{color}m{text}\x1b[0m"
