"""What is to be packed: the manifest and the files, of a folder or of a single file."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sequence_sdk.manifest import MANIFEST_NAME, Manifest

from .checks import read_manifest
from .errors import NameNotUtf8, OutputIsSource
from .files import MANIFEST_RULE, OUTPUT_RULE, FileId, PackedFile, Selection, select_files, with_entries
from .project import PROJECT_NAME, made_manifest, main_of, read, read_project, read_script

MAIN_RULE: Final = "being what is started"
_PYTHON: Final = ".py"


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be packed; ``told_by`` is the file that the manifest comes from."""

    directory: Path
    manifest: Manifest
    selection: Selection
    told_by: str = MANIFEST_NAME
    is_single: bool = False

    @contextmanager
    def importable(self) -> Iterator[Path]:
        """Give the folder from which the Sequence is imported: of a single file one that holds nothing else."""
        if not self.is_single:
            yield self.directory
            return
        with tempfile.TemporaryDirectory(prefix="scramjet-pack-") as folder:
            shutil.copyfile(self.directory / self.manifest.main, Path(folder, self.manifest.main))
            yield Path(folder)


def is_single(path: Path) -> bool:
    """Tell whether a path is a Python file and no folder."""
    return path.suffix == _PYTHON and os.path.isfile(path)  # noqa: PTH113 - never raises


def read_source(path: Path, output: FileId | None = None) -> Source:
    """Return what is to be packed of a folder or a Python file; ``output`` is the file that the archive goes to.

    A folder has a ``package.json``, or a ``pyproject.toml`` of which one is made; with both the first one counts.

    Raises:
        PackError: it cannot be packed.
    """
    if is_single(path):
        return _of_file(path, output)
    if os.path.isfile(path / PROJECT_NAME) and not os.path.lexists(path / MANIFEST_NAME):  # noqa: PTH113 - never raise
        return _of_project(path, output)
    manifest = read_manifest(path)
    source = Source(path, manifest, select_files(path, output=output))
    return _checked(source)


def _of_project(directory: Path, output: FileId | None) -> Source:
    project = read_project(directory / PROJECT_NAME)
    selection = select_files(directory, output=output, wanted=project.wanted)
    manifest, content = made_manifest(project.path, project.fields, main_of(project, selection))
    made = PackedFile(MANIFEST_NAME, project.path, len(content), content=content, rule=MANIFEST_RULE)
    source = Source(directory, manifest, with_entries(selection, (made,)), PROJECT_NAME)
    return _checked(source)


def _of_file(path: Path, output: FileId | None) -> Source:
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise NameNotUtf8(path) from error
    content = read(path)
    status = path.stat()
    if (status.st_dev, status.st_ino) == output:
        raise OutputIsSource(path)
    script = read_script(path, content)
    manifest, made = made_manifest(path, script.fields, path.name)
    entries = (
        PackedFile(MANIFEST_NAME, path, len(made), content=made, rule=MANIFEST_RULE),
        PackedFile(path.name, path, status.st_size),
    )
    selection = Selection(tuple(sorted(entries, key=lambda entry: entry.name)), ())
    source = Source(path.parent, manifest, selection, path.name, is_single=True)
    return _checked(source)


def _checked(source: Source) -> Source:
    """Return the source with the rule of its main file, after checking that the archive replaces no part of it."""
    for out in source.selection.left_out:
        if out.rule == OUTPUT_RULE and out.name in {source.told_by, source.manifest.main}:
            raise OutputIsSource(source.directory / out.name)
    entries = (
        replace(entry, rule=MAIN_RULE) if entry.name == source.manifest.main else entry
        for entry in source.selection.entries
    )
    return replace(source, selection=replace(source.selection, entries=tuple(entries)))
