"""The log of a hub that is started: from which level on, and in which colours."""

import logging
import os
import pty
import subprocess
import sys

import pytest

from hub_lite.commands.start import level_of
from hub_lite.settings import Settings

SAY = """
import logging, sys
from hub_lite.commands.start import log_to_stderr
log_to_stderr(logging.INFO, colors=sys.argv[1] == "colors")
for level in ("debug", "info", "warning", "error", "critical"):
    getattr(logging, level)("said %s", "é")
"""


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        (Settings(), logging.INFO), (Settings(debug=True), logging.DEBUG), (Settings(log_level="trace"), logging.DEBUG),
        (Settings(log_level="debug"), logging.DEBUG), (Settings(log_level="warn"), logging.WARNING),
        (Settings(log_level="error"), logging.ERROR), (Settings(log_level="error", debug=True), logging.DEBUG),
    ],
)  # fmt: skip
def test_the_level_is_that_of_the_setting_unless_all_is_wanted(settings: Settings, level: int) -> None:
    assert level_of(settings) == level


def said_on_a_terminal(colors: str, **environ: str) -> list[str]:
    screen, keyboard = pty.openpty()
    with os.fdopen(screen, "rb", buffering=0) as shown:
        subprocess.run(
            [sys.executable, "-c", SAY, colors],
            stderr=keyboard,
            check=True,
            env={name: value for name, value in os.environ.items() if name != "NO_COLOR"} | environ,
        )
        os.close(keyboard)
        return [
            line[line.index(" ") :] if "\x1b" not in line else line
            for line in shown.read(65536).decode().splitlines()
        ]


def test_grave_lines_have_colours_on_a_terminal() -> None:
    info, warning, error, critical = said_on_a_terminal("colors")
    assert info == " INFO    said é"
    for line, color in ((warning, "33"), (error, "31"), (critical, "1;31")):
        assert line.startswith(f"\x1b[{color}m")
        assert line.endswith("said é\x1b[0m")


@pytest.mark.parametrize(("colors", "environ"), [("plain", {}), ("colors", {"NO_COLOR": "1"})])
def test_nothing_has_colours_if_none_are_wanted(colors: str, environ: dict[str, str]) -> None:
    assert said_on_a_terminal(colors, **environ) == [
        f" {level:7} said é" for level in ("INFO", "WARNING", "ERROR", "CRITICAL")
    ]


def test_nothing_has_colours_where_there_is_no_terminal() -> None:
    said = subprocess.run([sys.executable, "-c", SAY, "colors"], capture_output=True, check=True).stderr
    assert b"\x1b" not in said
    assert len(said.splitlines()) == 4
