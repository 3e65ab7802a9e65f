"""What ``scramjet-pack --check`` finds in a Sequence: all of it at once, and without writing anything."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Final

from sequence_sdk.manifest import Manifest

from .checks import check_main, check_sources, is_authors
from .dependencies import Resolved, not_brought, resolved
from .describe import TIMEOUT, ask
from .errors import FileUnreadable, PackError, shown
from .files import LeftOut, PackedFile, Selection, with_entries
from .source import Source, read_source
from .target import HERE, Target
from .wheels import misfits

LARGE: Final = 10 * 1024 * 1024  # bytes of a file that is more often an accident than code

_LANGUAGES: Final = {"py": "python3", "js": "node"}
_VERSION: Final = r"(?:(?:[<>]=?|[=~!]?==?|~|\^)\s*)?v?\d+(?:\.(?:\d+|\*|x))*(?:[-.]?[a-z]+\.?\d*)?"
_RANGE: Final = re.compile(rf"\*|{_VERSION}(?:(?:\s*(?:,|\|\|)\s*|\s+-\s+|\s+){_VERSION})*")
_MAX_LINE: Final = 1024 * 1024  # bytes read at once; a file may be one line
_SNIFFED: Final = 8192  # bytes in which a NUL tells that a file is no text

_NAMED_SECRET: Final = (
    rb"(?i)(?:api_?key|secret|token|passwd|password)[\"']?\s*[:=]\s*"
    rb"[\"'](?=[^\"']*[0-9])(?=[^\"']*[a-z])[\w+/=.-]{20,}[\"']"
)
_SECRETS: Final = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("a private key", rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
        ("an AWS access key", rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
        ("an AWS secret key", rb"(?i)aws_?secret_?(?:access_?)?key\W{1,5}[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"),
        ("a GitHub token", rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})"),
        ("a GitLab token", rb"\bglpat-[\w-]{20,}"),
        ("a Slack token", rb"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
        ("a PyPI token", rb"\bpypi-[\w-]{50,}"),
        ("an npm token", rb"\bnpm_[A-Za-z0-9]{36}\b"),
        ("a Stripe key", rb"\b[rs]k_live_[A-Za-z0-9]{24,}"),
        ("a Google API key", rb"\bAIza[\w-]{35}(?![\w-])"),
        ("a JSON Web Token", rb"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
        ("a secret", _NAMED_SECRET),
    )
)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found: nothing but ``errors`` keeps a package from being good.

    ``manifest`` and ``selection`` are None and empty if it could not come so far.
    """

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    manifest: Manifest | None = None
    selection: Selection = field(default_factory=lambda: Selection((), ()))

    @property
    def entries(self) -> tuple[PackedFile, ...]:
        """What would go into the package."""
        return self.selection.entries

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What would not."""
        return self.selection.left_out


def check(
    path: Path,
    *,
    target: Target = HERE,
    dependencies: bool = True,
    allow_secrets: bool = False,
    timeout: float = TIMEOUT,
    tell: Callable[[str], None] | None = None,
) -> Checked:
    """Check what would be packed of a folder or a Python file, and return all that is wrong; nothing is written.

    The Sequence is imported in a process of its own, which gets ``timeout`` seconds, with its dependencies, which are brought
    for that. ``tell`` gets a sentence before what takes its time.
    """
    try:
        source = read_source(path)
    except PackError as error:
        return Checked((str(error),), ())
    errors = []
    try:
        check_main(source.manifest, source.directory, source.selection, source.told_by)
        check_sources(source.manifest, source.selection)
    except PackError as error:
        errors.append(str(error))
        return _checked(source, errors, allow_secrets=allow_secrets, brings=dependencies)
    try:
        with resolved(source, target, tell=tell) if dependencies else nullcontext(Resolved()) as brought:
            selection = with_entries(source.selection, brought.entries)
            errors += misfits(selection.entries, target)
            if source.manifest.language == "py" and target.is_here:
                with source.importable() as root:
                    errors += filter(
                        None, ask(root / source.manifest.main, root, timeout, brought.folder)[1:]
                    )
    except PackError as error:
        errors.append(str(error))
        return _checked(source, errors, allow_secrets=allow_secrets, brings=dependencies)
    source = replace(source, selection=selection)
    return _checked(source, errors, brought.notes, allow_secrets=allow_secrets, brings=dependencies)


def _checked(
    source: Source,
    errors: Iterable[str],
    notes: Iterable[str] = (),
    *,
    allow_secrets: bool,
    brings: bool,
) -> Checked:
    """Return what was found, with what can be said of the manifest and the files alone."""
    errors = [*errors, *engine_faults(source.manifest, source.told_by), *collisions(source.selection.entries)]
    try:
        errors += [] if allow_secrets else secrets_in(source.selection.entries)
    except FileUnreadable as error:
        errors.append(str(error))
    warnings = (*warnings_of(source, brings=brings), *notes)
    return Checked(tuple(errors), warnings, source.manifest, source.selection)


def warnings_of(source: Source, *, brings: bool) -> tuple[str, ...]:
    """Return what an author should look at, and may well have meant; ``brings`` is whether its dependencies are in it."""
    warnings = [
        f"{shown(entry.name)} has {entry.bytes} bytes; leave it out with a line in .siignore if the Sequence does not need it"
        for entry in source.selection.entries
        if entry.bytes > LARGE and is_authors(entry.name)
    ]
    if not brings and (declared := not_brought(source)):
        warnings.append(
            f"what {declared.file} names is not in the package; the Python of the hub must have it"
        )
    return tuple(warnings)


def engine_faults(manifest: Manifest, told_by: str) -> list[str]:
    """Return what is wrong with the engine of a manifest."""
    if manifest.language not in _LANGUAGES:
        found = ", ".join(manifest.engines) or f"none, and main is {manifest.main}"
        return [f'{told_by}: "engines" must name python3 or node, but it names {found}']
    engine = _LANGUAGES[manifest.language]
    versions = manifest.engines.get(engine, "")
    if versions.strip() and not _RANGE.fullmatch(versions.strip()):
        return [
            f'{told_by}: engines.{engine} must be a range of versions such as ">=3.11", but it is {versions}'
        ]
    return []


def collisions(entries: tuple[PackedFile, ...]) -> list[str]:
    """Return which names some file systems take for one: they differ only in case, or in how Unicode spells them."""
    spellings: dict[str, set[str]] = {}
    for entry in entries:
        for name in accumulate(entry.name.split("/"), lambda folder, last: f"{folder}/{last}"):
            key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
            spellings.setdefault(key, set()).add(name)
    return [
        f"{' and '.join(_told_apart(sorted(names)))} are one name on some machines; rename one of them"
        for names in spellings.values()
        if len(names) > 1
    ]


def _told_apart(names: list[str]) -> list[str]:
    # With escapes where a reader would see no difference.
    alike = len({unicodedata.normalize("NFC", name) for name in names}) < len(names)
    return [ascii(name) for name in names] if alike else names


def secrets_in(entries: tuple[PackedFile, ...]) -> list[str]:
    """Return where the author's own texts hold what looks like a secret, which is itself in no message.

    Raises:
        FileUnreadable: a file cannot be read.
    """
    found = []
    for entry in entries:
        if not entry.is_folder and entry.content is None and is_authors(entry.name):
            found += [
                f"{shown(entry.name)}:{line}: looks like {kind}; give it to the Sequence when it is started, "
                "or say --allow-secrets"
                for line, kind in _secrets_of(entry.path)
            ]
    return found


def _secrets_of(path: Path) -> list[tuple[int, str]]:
    found = []
    try:
        with path.open("rb") as file:
            if b"\0" in file.read(_SNIFFED):
                return []
            file.seek(0)
            number = 1
            while part := file.readline(_MAX_LINE):
                kind = next((kind for kind, pattern in _SECRETS if pattern.search(part)), None)
                if kind is not None:
                    found.append((number, kind))
                number += part.endswith(b"\n")
    except OSError as error:
        raise FileUnreadable(path, error) from error
    return found
