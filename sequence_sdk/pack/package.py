"""A folder in, a package out."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sequence_sdk.manifest import MANIFEST_NAME, Manifest

from .archive import Progress, output_id, write_file, write_stream
from .checks import check_main, check_sources, read_manifest
from .describe import describe as described
from .errors import OutputIsSource
from .files import OUTPUT_RULE, LeftOut, select_files


@dataclass(frozen=True, slots=True)
class PackResult:
    """What has been packed; ``path`` is None if the archive went to a stream.

    ``no_schema`` is why the manifest does not say what the Sequence takes and gives, although its type hints might.
    """

    path: Path | None
    manifest: Manifest
    sha256: str
    files: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    packed_bytes: int
    unpacked_bytes: int
    no_schema: str = ""


def default_output(directory: Path) -> Path:
    """Return where the archive of a folder goes if nobody says where: beside it, with its name."""
    absolute = Path(os.path.abspath(directory))  # noqa: PTH100 - resolve() would give the name of a link's target
    return absolute.parent / f"{absolute.name or 'package'}.tar.gz"


def pack(
    directory: Path,
    output: Path | BinaryIO | None = None,
    *,
    progress: Progress | None = None,
    describe: bool = True,
) -> PackResult:
    """Write the package of a folder, after checking that a hub can start what is in it.

    The same files give the same bytes, given the same version of zlib. ``output`` is a path, which gets its new
    content only once it is whole, or a stream, and ``<directory>.tar.gz`` without it. ``progress`` is called with the
    name of the file, the bytes read so far and the bytes of all files, after each block read.

    With ``describe`` a Sequence marked ``@sequence`` is imported, in a process of its own, and what its type hints say goes
    into the packed ``package.json`` as JSON Schemas, under ``scramjet.schema``, unless there are some. The package is made
    without them if that fails.

    Raises:
        PackError: the folder cannot be packed, or the archive cannot be written.
    """
    manifest = read_manifest(directory)
    if output is None:
        output = default_output(directory)
    selection = select_files(directory, output=output_id(output))
    for out in selection.left_out:
        if out.rule == OUTPUT_RULE and out.name in {MANIFEST_NAME, manifest.main}:
            raise OutputIsSource(directory / out.name)
    check_main(manifest, directory, selection)
    check_sources(manifest, selection)
    no_schema = ""
    if describe:
        manifest, selection, no_schema = described(directory, manifest, selection)
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
    )
