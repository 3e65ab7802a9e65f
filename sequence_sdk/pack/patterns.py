"""Patterns as git knows them: of ``.gitignore`` files, and of ``include`` and ``exclude`` in a ``pyproject.toml``."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .errors import BadIgnoreRule, FileUnreadable

GIT_IGNORE_FILE: Final = ".gitignore"


class BadPatternError(ValueError):
    """A pattern that is none; ``at`` is its place among those it came with."""

    def __init__(self, at: int, pattern: str) -> None:
        super().__init__(at, pattern)
        self.at = at
        self.pattern = pattern

    def __str__(self) -> str:
        return f"{self.pattern} is no pattern of git; see gitignore(5)"


class GitPatterns:
    """Patterns of which the last that is about a name decides; ``!`` takes back what an earlier one said."""

    def __init__(self, labelled: Sequence[tuple[str, str]]) -> None:
        """Take each pattern with the label that its rule has; raise BadPatternError for one that is none."""
        # Looked up here: who packs a folder without such patterns need not wait for it, and the process that imports the
        # author's module must not hold a copy that wins over the author's own.
        from pathspec import GitIgnoreSpec  # noqa: PLC0415

        self._rules: list[str] = []
        lines = []
        for at, (label, pattern) in enumerate(labelled):
            if not pattern.strip():  # the library skips them, and its numbers would not be ours
                continue
            try:
                GitIgnoreSpec.from_lines([pattern])
            except (ValueError, re.error) as error:
                raise BadPatternError(at, pattern) from error
            lines.append(pattern)
            self._rules.append(f"{label} ({pattern.strip()})")
        self._spec = GitIgnoreSpec.from_lines(lines)

    def decide(self, name: str) -> tuple[bool, str] | None:
        """Return whether a path matches in the end, and the rule that says so; None if no pattern is about it.

        Shape: ``/`` between the parts, and one more at the end of a folder.
        """
        result = self._spec.check_file(name)
        if result.include is None or result.index is None:
            return None
        return result.include, self._rules[result.index]


def read_git_patterns(path: Path, prefix: str) -> GitPatterns:
    """Return the patterns of a ``.gitignore``; ``prefix`` is where its folder is in the package.

    Raises:
        BadIgnoreRule: a line is no pattern, or no UTF-8.
        FileUnreadable: the file cannot be read.
    """
    try:
        # What is no file says nothing, to git too.
        raw = path.read_bytes() if os.path.isfile(path) else b""  # noqa: PTH113 - never raises
    except OSError as error:
        raise FileUnreadable(path, error) from error
    labelled = []
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            labelled.append((f"{prefix}{GIT_IGNORE_FILE} line {number}", line.removesuffix(b"\r").decode()))
        except UnicodeDecodeError as error:
            raise BadIgnoreRule(path, number, "this line is not UTF-8; save the file as UTF-8") from error
    try:
        return GitPatterns(labelled)
    except BadPatternError as error:
        raise BadIgnoreRule(path, error.at + 1, str(error)) from error
