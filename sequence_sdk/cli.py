"""The command ``scramjet-pack``: a folder or a file in, a package out."""

import json
import os
import sys
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, Final

import click

from .pack import (
    Checked,
    PackError,
    PackResult,
    ProgressLine,
    Target,
    check,
    pack,
    progress_line,
    read_key,
)
from .pack.archive import Seal
from .pack.errors import shown
from .pack.ignore import OWN_FOLDER
from .pack.report import checked_json, explained, packed_json
from .pack.signing import PASSPHRASE_VARIABLE

_PROGRAM: Final = "scramjet-pack"
_STDOUT: Final = 1
_INTERRUPTED: Final = 130  # what shells say of a program that Ctrl-C ended


@dataclass(frozen=True, slots=True)
class _Options:
    """What the command line says beside the place."""

    output: str | None
    python: str | None
    platform: str | None
    no_deps: bool
    no_schema: bool
    no_original: bool
    sign: Path | None
    check: bool
    allow_secrets: bool
    explain: bool
    as_json: bool
    quiet: bool


@click.command(name=_PROGRAM)
@click.argument("source", metavar="DIR|FILE.py", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", metavar="FILE", help="Where the package goes; - is standard output. [DIR.tar.gz]"
)
@click.option(
    "--python", metavar="VERSION", help="The Python that dependencies are for, such as 3.12. [this one]"
)
@click.option(
    "--platform",
    metavar="NAME",
    help="The machine that they are for, such as linux-aarch64, or a tag of wheels. [this one]",
)
@click.option("--no-deps", is_flag=True, help="Bring no dependencies; the Python of the hub must have them.")
@click.option(
    "--sign",
    metavar="KEY",
    type=click.Path(path_type=Path),
    help="Sign the package with a private Ed25519 key, as ssh-keygen or openssl makes it.",
)
@click.option(
    "--no-original", is_flag=True, help="Leave out what the original Python runner needs to run @sequence."
)
@click.option(
    "--no-schema", is_flag=True, help="Do not import the Sequence to describe what it takes and gives."
)
@click.option(
    "--check", is_flag=True, help="Write nothing; tell all that is wrong, and exit with 1 if anything is."
)
@click.option("--allow-secrets", is_flag=True, help="Do not look for keys and tokens in --check.")
@click.option(
    "--explain",
    is_flag=True,
    help="Tell every file with its size and the rule that put it in or kept it out.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Write one JSON object to standard output instead of text."
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors on standard error.")
@click.version_option(package_name="hub-lite", prog_name=_PROGRAM)
@click.pass_context
def main(context: click.Context, /, source: Path, **options: Any) -> None:
    """Pack a Sequence for a hub to run: a folder, or a single Python file.

    A folder has a package.json, or a pyproject.toml of which one is made. What requirements.txt, pyproject.toml or a lock file
    name goes into __pypackages__, by way of uv or pip. The path of the package goes to standard output, what is in it to
    standard error. Caches, virtual environments and the folders of version control stay out, and what a
    .siignore or, without one, .gitignore files name. A Python Sequence marked @sequence is imported for the JSON Schemas of
    what it takes and gives, which go into the packed package.json.
    """
    chosen = _Options(**options)
    if chosen.as_json and chosen.output == "-":
        raise click.UsageError(
            "--json and the package cannot both go to standard output; name a file with -o"
        )
    try:
        good = _check(source, chosen) if chosen.check else _pack(source, chosen)
    except OSError as error:  # standard output is closed, or on a full disk
        click.echo(f"{_PROGRAM}: standard output cannot be written: {error.strerror}", err=True)
        good = False
    except KeyboardInterrupt:
        click.echo(f"{_PROGRAM}: interrupted", err=True)
        context.exit(_INTERRUPTED)
    if not good:
        context.exit(1)


def _pack(source: Path, options: _Options) -> bool:
    try:
        seal = None if options.sign is None else read_key(options.sign, _passphrase).seal
        with progress_line(quiet=options.quiet or options.as_json) as line:
            result = _pack_to(source, options, seal, line)
    except PackError as error:
        if options.as_json:
            _print_json(checked_json(Checked((str(error),), ())))
        else:
            click.echo(f"{_PROGRAM}: {error}", err=True)
        return False
    if options.as_json:
        _print_json(packed_json(result))
        return True
    if not options.quiet:
        if options.explain:
            click.echo(explained(result.entries, result.left_out), err=True)
        click.echo(_summary(result), err=True)
        if result.no_schema:
            click.echo(f"no schema: {result.no_schema}", err=True)
        for warning in result.warnings:
            click.echo(f"warning: {warning}", err=True)
    if result.path is not None and result.path.is_file():  # /dev/stdout has the archive already
        click.echo(os.fsencode(result.path))
    return True


def _check(source: Path, options: _Options) -> bool:
    try:
        target = Target(options.python, options.platform)
        with progress_line(quiet=options.quiet or options.as_json) as line:
            checked = check(
                source,
                target=target,
                dependencies=not options.no_deps,
                allow_secrets=options.allow_secrets,
                tell=line.phase,
            )
    except PackError as unusable:
        checked = Checked((str(unusable),), ())
    if options.as_json:
        _print_json(checked_json(checked))
        return not checked.errors
    if options.explain and not options.quiet:
        click.echo(explained(checked.entries, checked.left_out), err=True)
    for error in checked.errors:
        click.echo(f"{_PROGRAM}: {error}", err=True)
    if not options.quiet:
        for warning in checked.warnings:
            click.echo(f"warning: {warning}", err=True)
        if not checked.errors:
            size = sum(entry.bytes for entry in checked.entries)
            files = sum(not entry.is_folder for entry in checked.entries)
            click.echo(f"{shown(source)}: nothing is wrong; {_count(files)}, {_size(size)}", err=True)
    return not checked.errors


def _print_json(obj: dict[str, Any]) -> None:
    click.echo(json.dumps(obj, ensure_ascii=False, indent=2))


def _passphrase() -> str | None:
    return os.environ.get(PASSPHRASE_VARIABLE) or (
        click.prompt("Passphrase of the key", hide_input=True, err=True) if sys.stdin.isatty() else None
    )


def _pack_to(source: Path, options: _Options, seal: Seal | None, line: ProgressLine) -> PackResult:
    pack_to = partial(
        pack,
        source,
        target=Target(options.python, options.platform),
        dependencies=not options.no_deps,
        describe=not options.no_schema,
        original=not options.no_original,
        seal=seal,
        progress=line,
    )
    if options.output is None:
        return pack_to()
    if options.output != "-":
        return pack_to(Path(options.output))
    if os.isatty(_STDOUT):
        raise click.UsageError(
            "a package is no text for a terminal; redirect standard output, or name a file with -o"
        )
    # Unbuffered: bytes held back would be written at exit, which blocks or fails when the reader is gone.
    with FileIO(_STDOUT, "wb", closefd=False) as stdout:
        return pack_to(stdout)


def _summary(result: PackResult) -> str:
    name = "standard output" if result.path is None else shown(result.path)
    files = _count(sum(not name.startswith(f"{OWN_FOLDER}/") for name in result.files))
    sizes = f"{_size(result.unpacked_bytes)} packed into {_size(result.packed_bytes)}"
    left_out = f", {len(result.left_out)} left out" if result.left_out else ""
    return f"{name}: {files} and {OWN_FOLDER}{left_out}, {sizes}, sha256 {result.sha256}"


def _count(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{count} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
