"""The command ``hub-lite``."""

import click

from .commands.dev import dev, run
from .commands.new import new
from .commands.operate import COMMANDS
from .commands.setup import setup
from .commands.shell import fill_standard_descriptors
from .commands.start import config, start
from .commands.versions import rollback, versions

# The hub and its client are imported where they are needed: that takes a second, and help and typing errors need neither.


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hub-lite", prog_name="hub-lite")
def main() -> None:
    """Run streaming Python programs: a hub for Sequences, and the tools to operate it."""
    fill_standard_descriptors()


for command in (new, run, dev, start, config, setup, *COMMANDS, versions, rollback):
    main.add_command(command)
