"""The command ``scramjet-pack``: a folder in, a package out."""

import os
from io import FileIO
from pathlib import Path
from typing import Final

import click

from .pack import PackError, PackResult, pack
from .pack.errors import shown

_PROGRAM: Final = "scramjet-pack"
_STDOUT: Final = 1
_INTERRUPTED: Final = 130  # what shells say of a program that Ctrl-C ended


@click.command(name=_PROGRAM)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", metavar="FILE", help="Where the package goes; - is standard output. [DIR.tar.gz]"
)
@click.option(
    "--no-schema", is_flag=True, help="Do not import the Sequence to describe what it takes and gives."
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors on standard error.")
@click.version_option(package_name="hub-lite", prog_name=_PROGRAM)
@click.pass_context
def main(
    context: click.Context, directory: Path, output: str | None, *, no_schema: bool, quiet: bool
) -> None:
    """Pack the Sequence in DIR, a folder with a package.json, for a hub to run.

    The path of the package goes to standard output, what is in it to standard error. Caches, virtual environments and
    the folders of version control stay out, and what a .siignore in DIR names. A Python Sequence marked @sequence is imported
    for the JSON Schemas of what it takes and gives, which go into the packed package.json.
    """
    try:
        result = _pack_to(directory, output, describe=not no_schema)
        if not quiet:
            click.echo(_summary(result), err=True)
            if result.no_schema:
                click.echo(f"no schema: {result.no_schema}", err=True)
        if result.path is not None and result.path.is_file():  # /dev/stdout has the archive already
            click.echo(os.fsencode(result.path))
    except PackError as error:
        click.echo(f"{_PROGRAM}: {error}", err=True)
        context.exit(1)
    except OSError as error:  # standard output is closed, or on a full disk
        click.echo(f"{_PROGRAM}: standard output cannot be written: {error.strerror}", err=True)
        context.exit(1)
    except KeyboardInterrupt:
        click.echo(f"{_PROGRAM}: interrupted", err=True)
        context.exit(_INTERRUPTED)


def _pack_to(directory: Path, output: str | None, *, describe: bool) -> PackResult:
    if output is None:
        return pack(directory, describe=describe)
    if output != "-":
        return pack(directory, Path(output), describe=describe)
    if os.isatty(_STDOUT):
        raise click.UsageError(
            "a package is no text for a terminal; redirect standard output, or name a file with -o"
        )
    # Unbuffered: bytes held back would be written at exit, which blocks or fails when the reader is gone.
    with FileIO(_STDOUT, "wb", closefd=False) as stdout:
        return pack(directory, stdout, describe=describe)


def _summary(result: PackResult) -> str:
    name = "standard output" if result.path is None else shown(result.path)
    files = "1 file" if len(result.files) == 1 else f"{len(result.files)} files"
    sizes = f"{_size(result.unpacked_bytes)} packed into {_size(result.packed_bytes)}"
    left_out = f", {len(result.left_out)} left out" if result.left_out else ""
    return f"{name}: {files}{left_out}, {sizes}, sha256 {result.sha256}"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{count} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
