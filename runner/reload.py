"""Swap the author's modules for those of another version of the package, or leave everything as it was."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import user_code


@contextmanager
def replaced(old: Path, new: Path) -> Iterator[None]:
    """Let the block import from the package of ``new``; if it raises, all that was imported of ``old`` is back.

    Args:
        old: the present entry file.
        new: the entry file that is to take its place.
    """
    before = user_code.forget(user_code.package_root(old))
    user_code.swap_path(old, new)
    try:
        yield
    except BaseException:
        user_code.forget(user_code.package_root(new))
        user_code.swap_path(new, old)
        sys.modules.update(before)
        raise
