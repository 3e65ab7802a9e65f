"""The removal of a folder in which a Sequence may have left anything, and may still be at work."""

import errno
import itertools
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MAX_PASSES = 10_000  # one a level of folders, and one more whenever somebody wrote meanwhile


def remove_tree(folder: Path) -> None:
    """Remove a folder and all that is in it, whatever its depth, its modes, and whoever still writes there.

    A folder that does not exist is fine, and so is what somebody else removes meanwhile. Links are removed, never followed.

    Raises:
        OSError: something in it cannot be removed, or new files appear faster than they go.
    """
    if folder.is_symlink():
        folder.unlink(missing_ok=True)
        return
    if not folder.exists():
        return
    _open_up(folder)
    # What lies deeper is moved up next to the first level. So there is no recursion, no descriptor a level, and no
    # path too long for the system: a Sequence may have made any of them trouble.
    token = uuid.uuid4().hex
    names = (f"{token}-{number}" for number in itertools.count())
    for _ in range(_MAX_PASSES):
        for child in _children(folder):
            if child.is_dir(follow_symlinks=False):
                _empty_into(folder, Path(child.path), names)
                _rmdir_if_empty(Path(child.path))
            else:
                Path(child.path).unlink(missing_ok=True)
        if _rmdir_if_empty(folder):
            return
    raise OSError(errno.ENOTEMPTY, "Files appear in a folder faster than they can be removed", str(folder))


def _empty_into(folder: Path, child: Path, names: Iterator[str]) -> None:
    _open_up(child)
    for grandchild in _children(child):
        if grandchild.is_dir(follow_symlinks=False):
            _open_up(Path(grandchild.path))  # to move a folder elsewhere one must be allowed to write into it
            with suppress(FileNotFoundError):
                Path(grandchild.path).rename(folder / next(names))
        else:
            Path(grandchild.path).unlink(missing_ok=True)


def _open_up(folder: Path) -> None:
    # Of another owner: what follows may work all the same, or says why not.
    with suppress(FileNotFoundError, PermissionError):
        folder.chmod(0o700)


def _children(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _rmdir_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True
