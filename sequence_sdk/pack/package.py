"""A folder or a single file in, a package out."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from sequence_sdk.manifest import Manifest

from .archive import Progress, Seal, output_id, write_file, write_stream
from .checks import check_main, check_sources
from .dependencies import Resolved, resolved
from .describe import describe as described
from .files import LeftOut, PackedFile, with_entries
from .findings import collisions, warnings_of
from .original import original_entries
from .progress import ProgressLine
from .sbom import SBOM_NAME, sbom
from .source import Source, is_single, read_source
from .target import HERE, Target
from .wheels import check_wheels

Bring = Callable[[Source], AbstractContextManager[Resolved]]
"""What brings the dependencies of a Sequence, for as long as its block lasts."""

_SBOM_RULE = "being the bill of materials"


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
    target: Target = HERE,
    dependencies: bool | Bring = True,
    describe: bool = True,
    original: bool = True,
    bare: bool = False,
    seal: Seal | None = None,
    progress: Progress | None = None,
) -> PackResult:
    """Write the package of a folder or a Python file, after checking that a hub can start what is in it.

    A folder has a ``package.json``, or a ``pyproject.toml`` of which one is made for the package, as it is for a file. What a
    Python Sequence declares as its dependencies goes into ``__pypackages__``, unless there is such a folder already.

    The same files give the same bytes, given the same version of zlib; and the same dependencies, which a lock file says.

    With ``describe`` a Sequence marked ``@sequence`` is imported, in a process of its own, and what its type hints say goes
    into the packed ``package.json`` as JSON Schemas, under ``scramjet.schema``, unless there are some. The package is made
    without them if that fails.

    Args:
        directory: the folder, or the file.
        output: a path, which gets its new content only once it is whole, or a stream; ``<directory>.tar.gz`` without it.
        target: the Python and the machine that the dependencies must fit.
        dependencies: False to bring none, True for uv or pip to bring them, or what brings them in their place.
        describe: whether the Sequence is imported for what it takes and gives.
        original: whether what is marked ``@sequence`` gets what the original Python runner needs for it.
        bare: leave out all that no hub of this project needs: that, and the bill of materials.
        seal: what signs the list of the hashes of all files.
        progress: called with the name of the file, the bytes read so far and the bytes of all files, after each block read. A
            ``ProgressLine`` is told too what is going on before.

    Raises:
        PackError: the folder cannot be packed, or the archive cannot be written.
    """
    if output is None:
        output = default_output(directory)
    line = progress if isinstance(progress, ProgressLine) else ProgressLine(None)
    source = read_source(directory, output_id(output))
    check_main(source.manifest, source.directory, source.selection, source.told_by)
    check_sources(source.manifest, source.selection)
    with bringing(source, dependencies, target, line) as brought:
        manifest, selection = source.manifest, with_entries(source.selection, brought.entries)
        check_wheels(selection.entries, target)
        no_schema = ""
        if describe:
            line.phase("describing the Sequence")
            with source.importable() as root:
                manifest, selection, no_schema = described(root, manifest, selection, brought.folder)
        notes: tuple[str, ...] = ()
        if original and not bare:
            manifest, selection = original_entries(manifest, selection)
        if not bare:
            content, notes = sbom(manifest, selection.entries)
            made = PackedFile(SBOM_NAME, directory, len(content), content=content, rule=_SBOM_RULE)
            selection = with_entries(selection, (made,))
        line.start(sum(1 for entry in selection.entries if entry.bytes))
        if isinstance(output, Path):
            facts = write_file(output, selection.entries, progress, seal=seal)
        else:
            facts = write_stream(output, selection.entries, progress, seal=seal)
    checked = replace(source, selection=selection)
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
        warnings=(
            *warnings_of(checked, brings=bool(dependencies)),
            *collisions(selection.entries),
            *brought.notes,
            *notes,
        ),
    )


def bringing(
    source: Source, dependencies: bool | Bring, target: Target, line: ProgressLine
) -> AbstractContextManager[Resolved]:
    """Return what brings the dependencies of a Sequence, or nothing."""
    if callable(dependencies):
        return dependencies(source)
    return resolved(source, target, tell=line.phase) if dependencies else nullcontext(Resolved())
