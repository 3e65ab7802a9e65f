"""What is checked before a folder is packed, so that the author hears of it and not the operator of a hub."""

import difflib
import os
import stat
import warnings
from pathlib import Path
from typing import Final

from sequence_sdk.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, ManifestError, parse_manifest

from .errors import (
    BadManifest,
    FileUnreadable,
    FolderNotFound,
    MainLeftOut,
    MainNotForNode,
    MainNotFound,
    ManifestNotFound,
    NotAFolder,
    SeveralEngines,
    SourceErrors,
    SourceFault,
)
from .files import PackedFile, Selection
from .ignore import is_dependency
from .project import read

_MAX_LINE_SHOWN: Final = 200  # characters of a source line that a message repeats
_NODE_SUFFIX: Final = ".js"  # the only one that the Node runner starts, and adds where ``main`` leaves it out


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of a folder.

    Raises:
        FolderNotFound: there is no such folder.
        NotAFolder: the path is something else.
        ManifestNotFound: there is no ``package.json`` in it.
        BadManifest: it cannot be used.
        SeveralEngines: it names more than one engine.
        FileUnreadable: it cannot be read.
    """
    path = directory / MANIFEST_NAME
    try:
        if not stat.S_ISDIR(os.stat(directory).st_mode):  # noqa: PTH116 - Path.is_dir hides why it is none
            raise NotAFolder(directory)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FolderNotFound(directory) from error
    except OSError as error:
        raise FileUnreadable(directory, error) from error
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a pipe must not be opened
            raise ManifestNotFound(path)
        with path.open("rb") as file:
            manifest = parse_manifest(file.read(MAX_MANIFEST_BYTES + 1))
    except FileNotFoundError as error:
        raise ManifestNotFound(path) from error
    except OSError as error:
        raise FileUnreadable(path, error) from error
    except ManifestError as error:
        raise BadManifest(path, error) from error
    if len(manifest.engines) > 1:
        raise SeveralEngines(path, tuple(manifest.engines))
    return manifest


def check_main(
    manifest: Manifest, directory: Path, selection: Selection, source: str = MANIFEST_NAME
) -> None:
    """Check that the file that starts the Sequence goes into the package; ``source`` is the file that names it.

    Raises:
        MainNotFound: there is no such file in the folder.
        MainLeftOut: there is, but it stays out of the package.
        MainNotForNode: it is a folder, or a file that the Node runner does not start.
    """
    files = {entry.name for entry in selection.entries if not entry.is_folder}
    name = manifest.main
    if manifest.language in ("js", "unknown") and not name.endswith(_NODE_SUFFIX):
        name += _NODE_SUFFIX
    if name in files:
        return
    path = directory / source
    for out in selection.left_out:
        if f"{name}/".startswith(f"{out.name}/") and os.path.isfile(directory / name):  # noqa: PTH113 - never raises
            raise MainLeftOut(path, manifest.main, out.rule)
    if name != manifest.main and any(
        f"{entry.name}/".startswith(f"{manifest.main}/") for entry in selection.entries
    ):
        raise MainNotForNode(path, manifest.main)
    authors = sorted(file for file in files if is_authors(file) and file != MANIFEST_NAME)
    near = difflib.get_close_matches(manifest.main, authors, n=3)
    raise MainNotFound(path, manifest.main, tuple(near))


def check_sources(manifest: Manifest, selection: Selection) -> None:
    """Check that the author's Python files compile, without running or writing anything.

    Source: the grammar is the one of the Python that packs.

    Raises:
        SourceErrors: some do not; all of them are in it.
        FileUnreadable: one cannot be read.
    """
    if manifest.language != "py":
        return
    faults = []
    for entry in selection.entries:
        is_python = entry.name.endswith(".py") or entry.name == manifest.main
        if is_python and not entry.is_folder and is_authors(entry.name):
            fault = _fault(entry)
            if fault is not None:
                faults.append(fault)
    if faults:
        raise SourceErrors(tuple(faults))


def is_authors(name: str) -> bool:
    """Tell whether a file of a package is the author's own, and not part of a dependency."""
    return not is_dependency(name)


def _fault(entry: PackedFile) -> SourceFault | None:
    source = read(entry.path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a wrong escape is the author's affair, not a reason to stop
            compile(source, entry.name, "exec", dont_inherit=True)
    except SyntaxError as error:
        line, column = max(error.lineno or 1, 1), max(error.offset or 1, 1)
        # The error has a text too, but of an f-string only the expression.
        text = b"".join(source.splitlines()[line - 1 : line]).decode(errors="backslashreplace")
        return SourceFault(entry.path, line, column, error.msg, text.strip()[:_MAX_LINE_SHOWN])
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:  # NUL bytes, or nested too deep
        return SourceFault(entry.path, 1, 1, str(error) or "nested too deep to be compiled", "")
    return None
