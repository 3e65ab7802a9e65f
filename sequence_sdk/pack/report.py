"""What is told of a package: every file with the rule that put it in or kept it out."""

from typing import Any

from .errors import shown
from .files import LeftOut, PackedFile
from .findings import Checked
from .package import PackResult


def explained(entries: tuple[PackedFile, ...], left_out: tuple[LeftOut, ...]) -> str:
    """Return a line for each file: ``+`` and its size if it goes in, ``-`` if it stays out, its name, and why."""
    sizes = [f"{entry.bytes:,}" for entry in entries]
    names = [shown(entry.name) + "/" * entry.is_folder for entry in entries] + [
        shown(out.name) for out in left_out
    ]
    width = max(map(len, names), default=0)
    digits = max(map(len, sizes), default=0)
    rows = [("+", size, entry.rule) for size, entry in zip(sizes, entries, strict=True)]
    rows += [("-", "", out.rule) for out in left_out]
    return "\n".join(
        f"{sign} {size:>{digits}}  {name:<{width}}  {rule}"
        for (sign, size, rule), name in zip(rows, names, strict=True)
    )


def packed_json(result: PackResult) -> dict[str, Any]:
    """Return what there is to say of a package that has been made, as JSON."""
    return {
        "path": None if result.path is None else shown(result.path),
        "sha256": result.sha256,
        "bytes": {"packed": result.packed_bytes, "unpacked": result.unpacked_bytes},
        "manifest": result.manifest.to_config(),
        **_files(result.entries, result.left_out),
        "errors": [],
        "warnings": [
            *result.warnings,
            *([f"no schema: {result.no_schema}"] if result.no_schema else []),
        ],
    }


def checked_json(checked: Checked) -> dict[str, Any]:
    """Return what a check found, as JSON of the same shape; nothing has been packed."""
    return {
        "path": None,
        "sha256": None,
        "bytes": {"packed": None, "unpacked": sum(entry.bytes for entry in checked.entries)},
        "manifest": None if checked.manifest is None else checked.manifest.to_config(),
        **_files(checked.entries, checked.left_out),
        "errors": list(checked.errors),
        "warnings": list(checked.warnings),
    }


def _files(entries: tuple[PackedFile, ...], left_out: tuple[LeftOut, ...]) -> dict[str, Any]:
    return {
        "files": [
            {"name": entry.name, "size": entry.bytes, "rule": entry.rule}
            for entry in entries
            if not entry.is_folder
        ],
        "left_out": [{"name": shown(out.name), "rule": out.rule} for out in left_out],
    }
