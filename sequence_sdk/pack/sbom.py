"""The bill of materials: which distributions of PyPI and npm a package has, and which needs which, as CycloneDX 1.6.

Source: https://cyclonedx.org/docs/1.6/json/ and, for ``purl``, https://github.com/package-url/purl-spec.
"""

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.parser import HeaderParser
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import quote

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from sequence_sdk.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest

from .errors import shown
from .files import PackedFile

SBOM_NAME: Final = ".sequence/sbom.cdx.json"

_SCHEMA: Final = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_SERIALS: Final = uuid.uuid5(uuid.NAMESPACE_URL, _SCHEMA)
_ROOT: Final = (
    MANIFEST_NAME  # no component has this reference: theirs are folders below __pypackages__ and node_modules
)

# Old tools install an egg-info, which holds the same under other names.
_PYTHON: Final = re.compile(r"__pypackages__/([^/]+)\.(?:dist-info/METADATA|egg-info/PKG-INFO)")
_REQUESTED: Final = re.compile(
    r"(__pypackages__/[^/]+\.dist-info)/REQUESTED"
)  # who asked for it was no other one
# What lies deeper in a package of Node has a package.json for other reasons: kinds of modules, fixtures of its tests.
_NODE: Final = re.compile(r"(?:.*/)?node_modules/((?:@[^/]+/)?[^/.@][^/]*)/package\.json", re.DOTALL)

_METADATA_BYTES: Final = 256 * 1024  # the fields come first, a README of any size after them
_MAX_TEXT: Final = 1000  # characters; some write the whole text of their licence where its name belongs
_MAX_EXPRESSION: Final = 200  # characters of a licence expression

_REQUIREMENT: Final = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")
_NODE_NEEDS: Final = ("dependencies", "optionalDependencies", "peerDependencies")
_HOST: Final = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?"
_URL_SIGN: Final = r"[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2}"
# Plain ASCII only, and no name or password before the host: a bill of materials is passed on. Signs are repeated one by one,
# never runs of them: of a long address with one wrong sign every way to cut it would be tried.
_URL: Final = re.compile(
    rf"(?:(?:git\+)?https?://|(?:git\+)?ssh://(?:git@)?|git://){_HOST}"
    rf"(?:/(?:{_URL_SIGN})*)?(?:\?(?:{_URL_SIGN}|\?)*)?(?:\#(?:{_URL_SIGN}|\?)*)?"
)

_LINKS: Final = {
    "homepage": "website",
    "home": "website",
    "website": "website",
    "source": "vcs",
    "sourcecode": "vcs",
    "code": "vcs",
    "repository": "vcs",
    "github": "vcs",
    "gitlab": "vcs",
    "issues": "issue-tracker",
    "issuetracker": "issue-tracker",
    "bugs": "issue-tracker",
    "bugtracker": "issue-tracker",
    "tracker": "issue-tracker",
    "documentation": "documentation",
    "docs": "documentation",
    "changelog": "release-notes",
    "changes": "release-notes",
    "releasenotes": "release-notes",
    "history": "release-notes",
    "download": "distribution",
}
# Of PyPI's classifiers those that mean one licence; "BSD License" and its like mean several.
_CLASSIFIERS: Final = {
    "Blue Oak Model License (BlueOak-1.0.0)": "BlueOak-1.0.0",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "Eclipse Public License 1.0 (EPL-1.0)": "EPL-1.0",
    "Eclipse Public License 2.0 (EPL-2.0)": "EPL-2.0",
    "European Union Public Licence 1.2 (EUPL 1.2)": "EUPL-1.2",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Universal Permissive License (UPL)": "UPL-1.0",
}


@dataclass(frozen=True, slots=True)
class _Part:
    """A distribution in the package; ``needs`` are names, as its own metadata writes them."""

    component: dict[str, Any]
    needs: tuple[str, ...]


@dataclass(slots=True)
class _Parts:
    """What the entries of a package tell, by the folder it was found in."""

    root: Mapping[str, Any] = field(default_factory=dict)
    python: dict[str, _Part] = field(default_factory=dict)
    requested: set[str] = field(default_factory=set)
    node: dict[str, _Part] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def sbom(manifest: Manifest, entries: Iterable[PackedFile]) -> tuple[bytes, tuple[str, ...]]:
    """Return the bill of materials of a package, and what it could not find out, in sentences.

    Shape: a JSON object in UTF-8. The same package gives the same bytes, its serial number is made of what it says. The
    component of the Sequence has the reference ``package.json``, every other one that of the folder it was found in:
    ``__pypackages__/NAME.dist-info`` or ``…/node_modules/NAME``. Every component can be reached from the Sequence.

    Metadata that is broken or cannot be read fails nothing: the component has what the name of its folder says.
    """
    parts = _read(entries)
    components = [
        {**part.component, "bom-ref": ref} for ref, part in sorted((parts.python | parts.node).items())
    ]
    body: dict[str, Any] = {
        "version": 1,
        "metadata": {
            "tools": {"components": [_tool()]},
            "component": _sequence(manifest, parts.root),
        },
        "components": components,
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(needs)} for ref, needs in sorted(_graph(parts).items())
        ],
    }
    serial = uuid.uuid5(_SERIALS, json.dumps(body))
    bill = {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial.urn,
        **body,
    }
    text = json.dumps(bill, ensure_ascii=False, indent=2) + "\n"
    return text.encode(errors="replace"), tuple(parts.notes)


def _read(entries: Iterable[PackedFile]) -> _Parts:
    parts = _Parts()
    for entry in entries:
        if entry.is_folder:
            continue
        folder = entry.name.rpartition("/")[0]
        if entry.name == MANIFEST_NAME:
            parts.root = _json(entry, parts.notes)
        elif match := _PYTHON.fullmatch(entry.name):
            parts.python[folder] = _distribution(match[1], entry, parts.notes)
        elif match := _REQUESTED.fullmatch(entry.name):
            parts.requested.add(match[1])
        elif match := _NODE.fullmatch(entry.name):
            parts.node[folder] = _node_package(match[1], entry, parts.notes)
    return parts


def _tool() -> dict[str, Any]:
    return {
        "type": "application",
        "name": "scramjet-pack",
        "version": version("hub-lite"),
        "description": "of hub-lite",
    }


def _sequence(manifest: Manifest, package: Mapping[str, Any]) -> dict[str, Any]:
    name, number = _text(manifest.name), _text(manifest.version)
    return _without_empty(
        {
            "type": "application",
            "bom-ref": _ROOT,
            "authors": _authors(manifest.author),
            "name": name or _text(manifest.main) or _ROOT,
            "version": number,
            "description": _text(manifest.description),
            "licenses": _node_licenses(package),
            "purl": _purl("generic", name, number) if number else "",
            "externalReferences": _node_links(package),
        }
    )


def _authors(text: str) -> list[dict[str, str]]:
    """Return the people that a manifest names: as npm writes one, or several of those with commas between them."""
    found = []
    for author in re.split(r"(?<=[>)]),", text):
        name = _text(re.split(r"[<(]", author)[0])
        email = _text(match[1]) if (match := re.search(r"<([^<>]*)>", author)) else ""
        if "@" in name and " " not in name and not email:
            name, email = "", name
        if person := _without_empty({"name": name, "email": email if "@" in email else ""}):
            found.append(person)
    return found


def _distribution(stem: str, entry: PackedFile, notes: list[str]) -> _Part:
    # A folder is named for both, with "_" for "-" in either, and an egg-info for the version of Python too.
    folder_name, _, rest = stem.partition("-")
    message = _metadata(entry, notes)
    name, number = _first(message, "Name"), _first(message, "Version")
    if not (name and number):
        notes.append(f"{shown(entry.name)} does not say its Name and Version; its folder does")
    name = name or _text(folder_name) or _text(stem) or entry.name
    number = number or _text(rest.partition("-")[0])
    component = {
        "type": "library",
        "name": name,
        "version": number,
        "description": _first(message, "Summary"),
        "licenses": _python_licenses(message),
        "purl": _purl("pypi", _normal(name), number),
        "externalReferences": _links(_python_links(message)),
    }
    needs = [match[1] for text in _all(message, "Requires-Dist") if (match := _REQUIREMENT.match(text))]
    return _Part(_without_empty(component), tuple(needs))


def _metadata(entry: PackedFile, notes: list[str]) -> Message:
    head, _, _ = _content(entry, _METADATA_BYTES, notes).replace(b"\r\n", b"\n").partition(b"\n\n")
    return HeaderParser().parsestr(head.decode(errors="replace"))


def _first(message: Message, key: str) -> str:
    return next(map(_text, _all(message, key)), "")


def _all(message: Message, key: str) -> list[str]:
    return [str(value) for value in message.get_all(key, [])]


def _python_licenses(message: Message) -> list[dict[str, Any]]:
    expression = _first(message, "License-Expression")
    if expression:
        return _licenses([expression])
    # Only the first line of what may be the text of the whole licence, and some start it with an empty one.
    lines = (line for text in _all(message, "License") for line in text.splitlines())
    text = next((line for line in map(_text, lines) if line not in {"", "UNKNOWN"}), "")
    if _spdx(text):
        return _licenses([text])
    names = [
        _text(classifier.rpartition("::")[2])
        for classifier in _all(message, "Classifier")
        if classifier.startswith("License ::") and not classifier.endswith(":: OSI Approved")
    ]
    ids = [_CLASSIFIERS[name] for name in names if name in _CLASSIFIERS]
    return _licenses(ids or ([text] if text else names))


def _python_links(message: Message) -> Iterator[tuple[str, str]]:
    yield from (("homepage", url) for url in _all(message, "Home-page"))
    yield from (("download", url) for url in _all(message, "Download-URL"))
    for text in _all(message, "Project-URL"):
        label, _, url = text.partition(",")
        yield re.sub(r"[^a-z]", "", label.lower()), url


def _node_package(folder_name: str, entry: PackedFile, notes: list[str]) -> _Part:
    package = _json(entry, notes)
    name, number = _text(package.get("name")), _text(package.get("version"))
    if not (name and number):
        notes.append(f"{shown(entry.name)} does not say its name and version; its folder has the name")
    name = name or _text(folder_name) or entry.name
    scope, _, short = name.rpartition("/") if name.startswith("@") else ("", "", name)
    component = {
        "type": "library",
        "group": scope,
        "name": short or name,
        "version": number,
        "description": _text(package.get("description")),
        "licenses": _node_licenses(package),
        "purl": _purl("npm", name, number),
        "externalReferences": _node_links(package),
    }
    return _Part(_without_empty(component), _node_needs(package))


def _node_needs(package: Mapping[str, Any]) -> tuple[str, ...]:
    tables = [package.get(key) for key in _NODE_NEEDS]
    return tuple(name for table in tables if isinstance(table, Mapping) for name in table)


def _node_licenses(package: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the licences of a ``package.json``: a string, or in older ones an object, or a list of those."""
    found = [package.get("license"), package.get("licenses")]
    flat = [one for item in found for one in (item if isinstance(item, list) else [item])]
    texts = [_text(one.get("type") if isinstance(one, Mapping) else one) for one in flat]
    return _licenses([text for text in texts if text])


def _node_links(package: Mapping[str, Any]) -> list[dict[str, str]]:
    links = []
    for key in ("homepage", "repository", "bugs"):
        value = package.get(key)
        url = value.get("url") if isinstance(value, Mapping) else value
        if isinstance(url, str):
            links.append((key, url))
    return _links(links)


def _links(links: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Return references for the addresses that are whole ones; the short forms of npm, like ``user/name``, are none."""
    known = {(_LINKS.get(label, "other"), url.strip()) for label, url in links}
    return [
        {"type": kind, "url": url}
        for kind, url in sorted(known)
        if len(url) <= _MAX_TEXT and _URL.fullmatch(url)
    ]


def _licenses(texts: list[str]) -> list[dict[str, Any]]:
    """Return licences in the form of CycloneDX: one expression, or any number of ids and names."""
    if len(texts) == 1 and (expression := _spdx(texts[0])) and not _is_id(expression):
        return [{"expression": expression}]
    found = {_spdx(text) or text: None for text in texts}
    return [{"license": {"id" if _spdx(text) and _is_id(text) else "name": text}} for text in found]


def _spdx(text: str) -> str:
    """Return a licence expression as SPDX writes it, an empty text if it is none."""
    if (
        len(text) > _MAX_EXPRESSION
    ):  # it would go to Python's own parser, whose stack is not made for anything
        return ""
    try:
        return canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        return ""


def _is_id(expression: str) -> bool:
    return not expression.startswith("LicenseRef-") and not set(expression) & set(" (+")


def _graph(parts: _Parts) -> dict[str, set[str]]:
    """Return what each component needs of those that are there; the Sequence needs what no other one does."""
    named: dict[str, set[str]] = {}
    for ref, part in parts.python.items():
        named.setdefault(_normal(part.component["name"]), set()).add(ref)
    graph = {
        ref: {found for name in part.needs for found in named.get(_normal(name), ())} - {ref}
        for ref, part in parts.python.items()
    }
    for ref, part in parts.node.items():
        graph[ref] = _resolved(ref, part.needs, parts.node) - {ref}
    refs = sorted(graph)
    needed = {ref for needs in graph.values() for ref in needs}
    direct = _resolved("", _node_needs(parts.root), parts.node) | (parts.requested & graph.keys())
    direct |= graph.keys() - needed
    reached: set[str] = set()
    for ref in direct:
        _reach(ref, graph, reached)
    for ref in refs:  # only what needs each other in a ring is left
        if ref not in reached:
            direct.add(ref)
            _reach(ref, graph, reached)
    return {**graph, _ROOT: direct}


def _reach(start: str, graph: Mapping[str, set[str]], reached: set[str]) -> None:
    todo = [start]
    while todo:
        ref = todo.pop()
        if ref not in reached:
            reached.add(ref)
            todo += graph[ref]


def _resolved(folder: str, names: Iterable[str], node: Mapping[str, _Part]) -> set[str]:
    """Return the packages that Node finds for names from a folder: in the nearest ``node_modules`` on the way up."""
    above = [folder]
    while folder:
        folder = folder.rpartition("/")[0]
        above.append(folder)
    places = [f"{place}/node_modules/".lstrip("/") for place in above]
    return {
        found
        for name in names
        if (found := next((place + name for place in places if place + name in node), None))
    }


def _json(entry: PackedFile, notes: list[str]) -> Mapping[str, Any]:
    """Return the object that a ``package.json`` holds, an empty one if it holds none."""
    raw = _content(entry, MAX_MANIFEST_BYTES + 1, notes)
    if len(raw) > MAX_MANIFEST_BYTES:
        notes.append(f"{shown(entry.name)} is too large to be read; it may have {MAX_MANIFEST_BYTES} bytes")
        return {}
    try:
        value = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, Mapping):
        return value
    notes.append(f"{shown(entry.name)} is not one JSON object in UTF-8")
    return {}


def _content(entry: PackedFile, most: int, notes: list[str]) -> bytes:
    if entry.content is not None:
        return entry.content[:most]
    try:
        with entry.path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        notes.append(f"{shown(entry.name)} cannot be read ({error.strerror})")
        return b""


def _purl(kind: str, name: str, number: str) -> str:
    path = "/".join(quote(part, safe="") for part in name.split("/") if part)
    return f"pkg:{kind}/{path}" + (f"@{quote(number, safe='')}" if number else "") if path else ""


def _normal(name: str) -> str:
    """Return the one spelling of a name that PyPI compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _text(value: object) -> str:
    """Return text on one line, clipped and encodable; an empty one for what is no text."""
    if not isinstance(value, str):
        return ""
    text = " ".join(value[: 2 * _MAX_TEXT].split()).encode(errors="replace").decode()
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}
