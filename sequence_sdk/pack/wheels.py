"""The dependencies in a package: what their metadata say, and whether they fit the Python and the machine they are for."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from typing import Final

from packaging.tags import Tag, parse_tag

from .errors import FileUnreadable, Misfits, shown
from .files import PackedFile
from .project import read
from .target import Target

FOLDER: Final = "__pypackages__"

_METADATA: Final = {"METADATA": ".dist-info", "PKG-INFO": ".egg-info"}
_EXTENSION: Final = re.compile(
    r"\.cpython-(?P<python>3\d+)(?P<flags>[a-z]*)-(?P<platform>[\w-]+)\.(?:so|dylib)"
    r"|\.cp(?P<win_python>3\d+)(?P<win_flags>[a-z]*)-(?P<win_platform>win\w+)\.pyd"
)
_NATIVE: Final = re.compile(r"\.(?:pyd|dylib|dll|so(?:\.\d+)*)$")
_HEAD: Final = 4096  # bytes in which a native file says what it is for


@dataclass(frozen=True, slots=True)
class Distribution:
    """A dependency as its metadata say; what they do not say is empty.

    ``tags`` are those of its wheel, ``requires`` the requirements as they are written, ``folder`` the path of the metadata.
    """

    name: str
    version: str
    tags: tuple[str, ...] = ()
    licence: str = ""
    summary: str = ""
    homepage: str = ""
    requires: tuple[str, ...] = ()
    folder: str = ""


def distributions_in(entries: Iterable[PackedFile]) -> tuple[Distribution, ...]:
    """Return the dependencies that lie in a package with their metadata, sorted by the path of these.

    Raises:
        FileUnreadable: a file of theirs cannot be read.
    """
    files = {entry.name: entry for entry in entries if not entry.is_folder}
    found = []
    for name, entry in sorted(files.items()):
        folder, _, file = name.rpartition("/")
        if not _is_inside(name) or not folder.endswith(_METADATA.get(file, "/")):
            continue
        wheel = files.get(f"{folder}/WHEEL")
        found.append(_distribution(folder, _message(entry), _message(wheel) if wheel else Message()))
    return tuple(found)


def check_wheels(entries: Iterable[PackedFile], target: Target) -> None:
    """Check that all dependencies in a package fit a target.

    Raises:
        Misfits: some do not.
        FileUnreadable: a file of theirs cannot be read.
    """
    if faults := misfits(entries, target):
        raise Misfits(tuple(faults))


def misfits(entries: Iterable[PackedFile], target: Target) -> list[str]:
    """Return a sentence for each dependency in a package that does not fit a target.

    A wheel says in its tags what it is for. A native file that no wheel answers for says it in its name and its header; of
    several that are one module for different machines, one must fit.

    Raises:
        FileUnreadable: a file of theirs cannot be read.
    """
    inside = [entry for entry in entries if not entry.is_folder and _is_inside(entry.name)]
    if not inside:
        return []
    fitting = frozenset(target.tags())
    faults = []
    for one in distributions_in(inside):
        wheel_tags = one.tags
        if wheel_tags and fitting.isdisjoint(_tags(wheel_tags)):
            faults.append(
                f"{shown(one.folder)}/WHEEL: {one.name} {one.version} is for {', '.join(wheel_tags)}, "
                f"{_wanted(target)}"
            )
    answered_for = _answered_for(inside)
    variants: dict[str, list[PackedFile]] = {}
    for entry in inside:
        if _NATIVE.search(entry.name) and entry.name not in answered_for:
            variants.setdefault(_EXTENSION.sub("", entry.name), []).append(entry)
    for module in variants.values():
        reasons = [_misfit(entry, target) for entry in module]
        if all(reasons):
            faults += [
                f"{shown(entry.name)} is for {reason}, {_wanted(target)}"
                for entry, reason in zip(module, reasons, strict=True)
            ]
    return faults


def _wanted(target: Target) -> str:
    return f"but {target} is wanted; get the one for that, or name the target it is for with --platform and --python"


def _is_inside(name: str) -> bool:
    return FOLDER in name.split("/")[:-1]


def _content(entry: PackedFile) -> bytes:
    return read(entry.path) if entry.content is None else entry.content


def _message(entry: PackedFile) -> Message:
    return HeaderParser().parsestr(_content(entry).decode(errors="replace"))


def _texts(message: Message, key: str) -> list[str]:
    return [str(value).strip() for value in message.get_all(key, [])]


def _distribution(folder: str, metadata: Message, wheel: Message) -> Distribution:
    stem = folder.rpartition("/")[2].rpartition(".")[0]
    name, _, version = stem.partition("-")
    return Distribution(
        name=_first(metadata, "Name") or name,
        version=_first(metadata, "Version") or version,
        tags=tuple(sorted(_texts(wheel, "Tag"))),
        licence=_licence(metadata),
        summary=_first(metadata, "Summary"),
        homepage=_homepage(metadata),
        requires=tuple(_texts(metadata, "Requires-Dist")),
        folder=folder,
    )


def _first(metadata: Message, *keys: str) -> str:
    texts = [text for key in keys for text in _texts(metadata, key)]
    return next((text for text in texts if text and text != "UNKNOWN"), "")


def _licence(metadata: Message) -> str:
    """Return the name of the licence; some write its whole text instead, and then a classifier may have the name."""
    said = _first(metadata, "License-Expression", "License")
    if said and "\n" not in said:
        return said
    classifiers = [text for text in _texts(metadata, "Classifier") if text.startswith("License ::")]
    return " OR ".join(text.rpartition("::")[2].strip() for text in classifiers)


def _homepage(metadata: Message) -> str:
    if said := _first(metadata, "Home-page"):
        return said
    pairs = [text.partition(",") for text in _texts(metadata, "Project-URL")]
    pages = {label.strip().lower().replace("-", ""): url.strip() for label, _, url in pairs}
    labels = ("homepage", "home page", "home", "repository", "source", "source code")
    return next((pages[label] for label in labels if label in pages), "")


def _tags(texts: Iterable[str]) -> Iterator[Tag]:
    for text in texts:
        try:
            yield from parse_tag(text)
        except ValueError:  # no tag: a wheel that says nothing else fits nowhere
            continue


def _answered_for(inside: list[PackedFile]) -> set[str]:
    """Return the files that a wheel lists as its own."""
    names = {entry.name for entry in inside}
    found = set()
    for entry in inside:
        folder, _, file = entry.name.rpartition("/")
        if file == "RECORD" and f"{folder}/WHEEL" in names:
            root = folder.rpartition("/")[0]
            found |= {f"{root}/{row[0]}" for row in record_rows(_content(entry))}
    return found


def record_rows(raw: bytes) -> list[list[str]]:
    """Return the rows of a ``RECORD``: path, hash, size, the latter two empty where they are not known; none of what is no CSV."""
    text = io.StringIO(raw.decode(errors="replace"), newline="")
    try:
        rows = [row for row in csv.reader(text) if row]
    except csv.Error:  # such as a quote that never ends
        return []
    return [[*row, "", ""][:3] for row in rows]


def _misfit(entry: PackedFile, target: Target) -> str:
    """Return what a native file is for, an empty text if it fits or does not say."""
    extension = _EXTENSION.search(entry.name)
    if extension is not None:
        python = extension["python"] or extension["win_python"]
        flags = extension["flags"] or extension["win_flags"] or ""
        if python != "".join(map(str, target.minor)) or flags != target.flags:
            return f"Python {python[0]}.{python[1:]}{flags}"
        platform = extension["platform"] or ""
        for libc in ("gnu", "musl"):
            if target.libc and platform.endswith(f"-{libc}") and libc != target.libc:
                return f"Linux with {platform}"
    system, machines = native_kind(_head(entry))
    if system and (system != target.system or (machines and target.machine not in machines)):
        return " ".join((system, "/".join(sorted(machines)))).strip()
    return ""


def _head(entry: PackedFile) -> bytes:
    if entry.content is not None:
        return entry.content[:_HEAD]
    try:
        with entry.path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise FileUnreadable(entry.path, error) from error


_ELF: Final = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_MACH_O: Final = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
_PE: Final = {0x8664: "x86_64", 0xAA64: "aarch64", 0x14C: "i686"}


def native_kind(head: bytes) -> tuple[str, frozenset[str]]:
    """Return the system and the kinds of processor that a native file is for, by its first bytes; empty where they do not say."""
    if head[:4] == b"\x7fELF" and len(head) >= 20:
        return "linux", _named(_ELF, [int.from_bytes(head[18:20], "big" if head[5] == 2 else "little")])
    if head[:4] in {b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe"}:
        return "macos", _named(_MACH_O, [int.from_bytes(head[4:8], "little")])
    if head[:4] in {b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"}:  # several in one file
        size = 20 if head[3] == 0xBE else 32
        count = int.from_bytes(head[4:8], "big")
        starts = range(8, min(8 + size * count, len(head) - 3), size)
        return "macos", _named(_MACH_O, [int.from_bytes(head[at : at + 4], "big") for at in starts])
    if head[:2] == b"MZ" and len(head) >= 64:
        at = int.from_bytes(head[60:64], "little")
        if head[at : at + 4] == b"PE\0\0":
            return "windows", _named(_PE, [int.from_bytes(head[at + 4 : at + 6], "little")])
    return "", frozenset()


def _named(names: dict[int, str], numbers: Iterable[int]) -> frozenset[str]:
    return frozenset(names.get(number, f"machine {number}") for number in numbers)
