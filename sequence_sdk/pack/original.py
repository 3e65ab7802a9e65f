"""What a package needs so that the original Python runner, which knows no ``@sequence``, runs it too."""

import functools
import io
import json
import re
import zipfile
from dataclasses import replace
from importlib.resources import files
from typing import Final

from sequence_sdk.manifest import MANIFEST_NAME, Manifest, ManifestError, parse_manifest

from .checks import is_authors
from .errors import BadManifest
from .files import PackedFile, Selection
from .project import read

ENTRY_NAME: Final = ".sequence/original.py"
SDK_NAME: Final = ".sequence/sdk.zip"
ORIGINAL_RULE: Final = "being for the original Python runner"

_NOT_AT_RUN_TIME: Final = (
    "cli.py",
    "manifest.py",
)  # of the SDK's own files; its folders are for the author's desk too
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file knows
_NAMES_THE_SDK: Final = re.compile(rb"^[ \t]*(?:from|import)[ \t]+sequence_sdk\b", re.MULTILINE)
_NAMES_RUN: Final = re.compile(rb"\brun\b")

_ENTRY: Final = '''\
"""Lets the original Python runner run MAIN, which is marked @sequence. Made by scramjet-pack."""

import os
import sys

MAIN = {main}

if sys.version_info < (3, 11):
    raise ImportError(
        "%s is marked @sequence, which needs Python 3.11 or newer; this runner has Python %d.%d"
        % (MAIN, sys.version_info[0], sys.version_info[1])
    )

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "sdk.zip"))

from sequence_sdk.original import members_of

globals().update(members_of(os.path.dirname(HERE), MAIN))
'''


def original_entries(manifest: Manifest, selection: Selection) -> tuple[Manifest, Selection]:
    """Return the manifest and the files with what the original Python runner starts: an entry, and the SDK beside it.

    The ``main`` of the packed ``package.json`` is the entry then, and its ``scramjet.main`` the author's file, which the
    hub of this project starts. They stay as they are where the original runner can do without: for another language, and
    for a classic ``run(context, input, *args)`` whose package does not import the SDK.

    Raises:
        BadManifest: the ``package.json`` has become too long.
        FileUnreadable: a file cannot be read.
    """
    has_been_packed = manifest.original_entry == ENTRY_NAME  # and may have been unpacked, without the entry
    if manifest.language != "py" or not (has_been_packed or _needs_entry(manifest, selection)):
        return manifest, selection
    old = next(entry for entry in selection.entries if entry.name == MANIFEST_NAME)
    content = _with_entry(read(old.path) if old.content is None else old.content, manifest.main)
    try:
        manifest = parse_manifest(content)
    except ManifestError as error:
        raise BadManifest(old.path, error) from error
    added = {
        ENTRY_NAME: _ENTRY.format(main=_literal(manifest.main)).encode(),
        SDK_NAME: sdk_archive(),
    }
    entries = [
        replace(entry, bytes=len(content), content=content) if entry is old else entry
        for entry in selection.entries
        if entry.name not in added
    ]
    entries += [
        PackedFile(name, old.path, len(made), content=made, rule=ORIGINAL_RULE)
        for name, made in added.items()
    ]
    return manifest, replace(selection, entries=tuple(sorted(entries, key=lambda entry: entry.name)))


@functools.cache
def sdk_archive() -> bytes:
    """Return the part of the SDK that a Sequence needs at run time, as a zip file that Python imports from.

    It is the same on every machine: sorted, without times, and not compressed, as the package is.
    """
    buffer = io.BytesIO()
    folder = files("sequence_sdk")
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".py"))
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            if name not in _NOT_AT_RUN_TIME:
                member = zipfile.ZipInfo(f"sequence_sdk/{name}", _EPOCH)
                member.create_system = 3  # of Unix, whatever this machine is
                member.external_attr = 0o644 << 16
                archive.writestr(member, (folder / name).read_bytes())
    return buffer.getvalue()


def _needs_entry(manifest: Manifest, selection: Selection) -> bool:
    """Tell whether something in the package is marked: where ``run`` is not even named, a dependency may be what is."""
    for entry in selection.entries:
        is_main = entry.name == manifest.main
        if entry.is_folder or not (is_main or (entry.name.endswith(".py") and is_authors(entry.name))):
            continue
        source = read(entry.path) if entry.content is None else entry.content
        if _NAMES_THE_SDK.search(source) or (is_main and not _NAMES_RUN.search(source)):
            return True
    return False


def _with_entry(raw: bytes, main: str) -> bytes:
    """Return a ``package.json`` that parses, with the entry as its ``main`` and the author's file in ``scramjet.main``."""
    obj = json.loads(raw.decode("utf-8-sig"))
    obj["main"] = ENTRY_NAME
    obj["scramjet"] = {**(obj.get("scramjet") or {}), "main": main}
    text = json.dumps(obj, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace")  # half a surrogate pair becomes the escape that it was


def _literal(text: str) -> str:
    """Return a Python literal that every Python reads the same: in ASCII, a sign beyond the 16 bits of JSON's escapes as one."""
    return json.dumps(text, ensure_ascii=False).encode("ascii", "backslashreplace").decode()
