"""A folder or a single file in, a package out."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sequence_sdk.manifest import Manifest

from .archive import Progress, output_id, write_file, write_stream
from .checks import check_main, check_sources
from .describe import describe as described
from .files import LeftOut, PackedFile
from .findings import collisions, warnings_of
from .source import is_single, read_source


@dataclass(frozen=True, slots=True)
class PackResult:
    """What has been packed; ``path`` is None if the archive went to a stream.

    ``no_schema`` is why the manifest does not say what the Sequence takes and gives, although its type hints might.
    ``entries`` are the files and empty folders with their rules, ``warnings`` sentences that an author should read.
    """

    path: Path | None
    manifest: Manifest
    sha256: str
    files: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    packed_bytes: int
    unpacked_bytes: int
    no_schema: str = ""
    entries: tuple[PackedFile, ...] = ()
    warnings: tuple[str, ...] = ()


def default_output(directory: Path) -> Path:
    """Return where the archive of a folder or a file goes if nobody says where: beside it, with its name."""
    absolute = Path(os.path.abspath(directory))  # noqa: PTH100 - resolve() would give the name of a link's target
    name = absolute.stem if is_single(absolute) else absolute.name
    return absolute.parent / f"{name or 'package'}.tar.gz"


def pack(
    directory: Path,
    output: Path | BinaryIO | None = None,
    *,
    progress: Progress | None = None,
    describe: bool = True,
) -> PackResult:
    """Write the package of a folder or a Python file, after checking that a hub can start what is in it.

    A folder has a ``package.json``, or a ``pyproject.toml`` of which one is made for the package, as it is for a file.

    The same files give the same bytes, given the same version of zlib. ``output`` is a path, which gets its new
    content only once it is whole, or a stream, and ``<directory>.tar.gz`` without it. ``progress`` is called with the
    name of the file, the bytes read so far and the bytes of all files, after each block read.

    With ``describe`` a Sequence marked ``@sequence`` is imported, in a process of its own, and what its type hints say goes
    into the packed ``package.json`` as JSON Schemas, under ``scramjet.schema``, unless there are some. The package is made
    without them if that fails.

    Raises:
        PackError: the folder cannot be packed, or the archive cannot be written.
    """
    if output is None:
        output = default_output(directory)
    source = read_source(directory, output_id(output))
    manifest, selection = source.manifest, source.selection
    check_main(manifest, source.directory, selection, source.told_by)
    check_sources(manifest, selection)
    no_schema = ""
    if describe:
        with source.importable() as root:
            manifest, selection, no_schema = described(root, manifest, selection)
    if isinstance(output, Path):
        facts = write_file(output, selection.entries, progress)
    else:
        facts = write_stream(output, selection.entries, progress)
    return PackResult(
        path=output if isinstance(output, Path) else None,
        manifest=manifest,
        sha256=facts.sha256,
        files=tuple(entry.name for entry in selection.entries if not entry.is_folder),
        left_out=selection.left_out,
        packed_bytes=facts.packed_bytes,
        unpacked_bytes=facts.unpacked_bytes,
        no_schema=no_schema,
        entries=selection.entries,
        warnings=(*warnings_of(source), *collisions(selection.entries)),
    )
