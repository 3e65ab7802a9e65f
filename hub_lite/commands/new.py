"""``hub-lite new``: the folder of a new Sequence, made from a template."""

import json
import re
from pathlib import Path
from typing import Final

import click

from .shell import CommandFailed, failing_with_a_sentence

TEMPLATES: Final = ("transform", "source", "sink", "chain", "stateful", "classic", "js")
_PACKAGE: Final = Path(__file__).resolve().parents[1]
_MANIFEST: Final = "package.json"
_STEPS: Final = ("hub-lite dev .", "pytest")
_NODE_STEPS: Final = (
    "node --test",
    "hub-lite setup node  # once",
    "hub-lite dev .",
)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")  # as npm has it, and good for a file on any system
_CLUTTER: Final = frozenset({"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".DS_Store"})


@click.command("new", short_help="Make the folder of a new Sequence.")
@click.argument("name", required=False)
@click.option(
    "-t",
    "--template",
    type=click.Choice(TEMPLATES),
    default=TEMPLATES[0],
    show_default=True,
    help="What to start from.",
)
@click.option("--list", "listing", is_flag=True, help="Show the templates, and make nothing.")
def new(name: str | None, template: str, *, listing: bool) -> None:
    """Make a folder NAME with a Sequence of that name: code, tests and a README, ready to run.

    `hub-lite new --list` tells what each template is.
    """
    if listing:
        with failing_with_a_sentence():
            _show_all()
        return
    if name is None:
        raise click.UsageError(
            "say how the Sequence is to be called: `hub-lite new NAME`, or --list to see the templates"
        )
    if not _NAME.fullmatch(name):
        raise click.BadParameter(_problem(name), param_hint="NAME")
    steps = _NODE_STEPS if template == "js" else _STEPS
    with failing_with_a_sentence():
        make(home() / template, name, Path(name))
        click.echo(f"{name} is made from the template {template}. What to do next:")
        for step in (f"cd {name}", *steps):
            click.echo(f"  {step}")


def make(template: Path, name: str, folder: Path) -> None:
    """Copy a template into a folder that is new or empty, with the name in its manifest and above its README.

    Raises:
        CommandFailed: the folder has something in it, or is a file.
        OSError: it cannot be written.
    """
    if folder.is_dir():
        if any(folder.iterdir()):
            raise CommandFailed(
                f"the folder {folder} has files in it already; choose another name, or empty it first"
            )
    elif folder.exists() or folder.is_symlink():
        raise CommandFailed(f"{folder} is there already, and is no folder; choose another name")
    was = template.name
    for source in sorted(template.rglob("*")):
        path = source.relative_to(template)
        if source.is_dir() or not _CLUTTER.isdisjoint(path.parts):
            continue
        content = source.read_bytes()
        if path.name == _MANIFEST:
            content = content.replace(f'"name": "{was}"'.encode(), f'"name": {json.dumps(name)}'.encode(), 1)
        elif path.name == "README.md":
            content = content.replace(f"# {was}\n".encode(), f"# {name}\n".encode(), 1)
            content = content.replace(f"{was}.tar.gz".encode(), f"{name}.tar.gz".encode())
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)  # with nothing of its mode: a template may be installed read-only


def home(package: Path = _PACKAGE) -> Path:
    """Return the folder that has the templates: in the package where a wheel was installed, beside it in a checkout."""
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


def _show_all() -> None:
    width = max(map(len, TEMPLATES))
    for template in TEMPLATES:
        manifest = json.loads((home() / template / _MANIFEST).read_text("utf-8"))
        click.echo(f"{template:{width}}  {manifest['description']}")


def _problem(name: str) -> str:
    rule = "a name has up to 100 lower-case letters, digits, '.', '_' and '-', and begins with a letter or a digit"
    better = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).lstrip("._-").rstrip("-")[:100]
    return f"{name!r} cannot be a name: {rule}{f'; {better!r} would do' if better else ''}"
