"""What a Sequence takes and gives, for its package: found out by importing it, in a process of its own."""

import contextlib
import importlib.machinery
import importlib.util
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sequence_sdk.errors import SequenceError
from sequence_sdk.find import NoneFound, SeveralFound, find_sequence
from sequence_sdk.manifest import MANIFEST_NAME, Manifest, ManifestError, parse_manifest
from sequence_sdk.spec import CLASSIC

from .checks import is_authors
from .files import PackedFile, Selection
from .project import read

TIMEOUT: Final = 10.0  # for the import of the Sequence; who imports longer goes without

_MODULE: Final = "sequence"  # what a runner calls the entry file
_SDK: Final = b"sequence_sdk"  # a Sequence whose files do not name it has nothing marked
_CODE: Final = "from sequence_sdk.pack.describe import main; main()"
_MAX_SHOWN: Final = 300  # characters of an error that the summary repeats


def describe(
    directory: Path,
    manifest: Manifest,
    selection: Selection,
    dependencies: Path | None = None,
    *,
    timeout: float = TIMEOUT,
) -> tuple[Manifest, Selection, str]:
    """Return the manifest and the files with the JSON Schemas of the Sequence in them, and why there are none.

    They stay as they are if the Sequence is not marked ``@sequence``, if the author wrote the schemas, or if its import fails,
    which the third value tells then. ``dependencies`` is a folder of what it imports, beside the one of the package.

    Raises:
        FileUnreadable: a file cannot be read.
    """
    if manifest.language != "py" or manifest.schema:
        return manifest, selection, ""
    if not any(_names_the_sdk(entry, manifest.main) for entry in selection.entries):
        return manifest, selection, ""
    schema, problem = ask(directory / manifest.main, directory, timeout, dependencies)
    if not schema:
        return manifest, selection, problem
    old = next(entry for entry in selection.entries if entry.name == MANIFEST_NAME)
    content = with_schema(read(old.path) if old.content is None else old.content, schema)
    try:
        manifest = parse_manifest(content)
    except ManifestError as error:
        return manifest, selection, error.problem
    packed = replace(old, bytes=len(content), content=content)
    entries = tuple(packed if entry.name == MANIFEST_NAME else entry for entry in selection.entries)
    return manifest, replace(selection, entries=entries), ""


def with_schema(raw: bytes, schema: dict[str, Any]) -> bytes:
    """Return a ``package.json`` that parses, with JSON Schemas under ``scramjet.schema`` and all else as it is."""
    obj = json.loads(raw.decode("utf-8-sig"))
    obj["scramjet"] = {**(obj.get("scramjet") or {}), "schema": schema}
    text = json.dumps(obj, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace")  # half a surrogate pair becomes the escape that it was


def _names_the_sdk(entry: PackedFile, main: str) -> bool:
    is_python = entry.name == main or (entry.name.endswith(".py") and is_authors(entry.name))
    return is_python and not entry.is_folder and _SDK in read(entry.path)


def ask(
    entry: Path, root: Path, timeout: float = TIMEOUT, dependencies: Path | None = None
) -> tuple[dict[str, Any] | None, str]:
    """Return the schemas that the Sequence of a file has, or None and why there are none; both empty for a classic one."""
    entry, root = entry.absolute(), root.absolute()
    more = () if dependencies is None else (dependencies.absolute(),)
    with tempfile.TemporaryDirectory(prefix="scramjet-pack-") as folder:
        answer, errors = Path(folder, "answer"), Path(folder, "errors")
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, entry, root, answer, *more],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                cwd=root,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                start_new_session=True,  # so that what the import starts can be ended too
            )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None, f"the import of {entry.name} takes longer than {timeout:g} s"
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if not answer.exists():
            last = errors.read_text(errors="replace").strip().rpartition("\n")[2]
            return None, _short(
                f"the import of {entry.name} ended with exit code {code}{last and f': {last}'}"
            )
        result = json.loads(answer.read_bytes())
    return result["schema"], _short(result["problem"])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_SHOWN else line[:_MAX_SHOWN] + "..."


# --- in the process of its own -------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None, leave: Callable[[int], object] = os._exit) -> None:
    """Import the Sequence and write what it takes and gives to a file, then leave, whatever its threads do.

    Args:
        arguments: the entry file, the folder of the package, the file for the answer, and folders of dependencies; those of the
            process by default.
        leave: ends the process.
    """
    entry, root, answer, *dependencies = map(Path, sys.argv[1:] if arguments is None else arguments)
    result: dict[str, Any] = {"schema": None, "problem": ""}
    try:
        result["schema"] = schema_of(entry, root, *dependencies)
        text = json.dumps(result)
    except BaseException as error:  # noqa: BLE001 - the author's module may raise anything, SystemExit too
        text = json.dumps({"schema": None, "problem": _sentence(error)})
    unfinished = answer.with_suffix(".part")
    unfinished.write_text(text)
    unfinished.replace(answer)
    leave(0)


def schema_of(entry: Path, root: Path, *dependencies: Path) -> dict[str, Any] | None:
    """Import an entry file as a runner does, and return the JSON Schemas of its Sequence, or None for a classic one.

    Raises:
        SequenceError: its type hints cannot be described, or it does not take what it would get.
        BaseException: what the author's module raises.
    """
    folders = [entry.parent, entry.parent / "__pypackages__", root, root / "__pypackages__", *dependencies]
    wanted = list(dict.fromkeys(str(folder) for folder in folders if folder.is_dir()))
    sys.path[:] = wanted + [folder for folder in sys.path if folder not in wanted]
    sys.argv = [str(entry)]
    loader = importlib.machinery.SourceFileLoader(_MODULE, str(entry))
    spec = importlib.util.spec_from_loader(_MODULE, loader)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # a loader of files always has a spec
    sys.modules[_MODULE] = module
    loader.exec_module(module)
    found = find_sequence(vars(module), _MODULE)
    if isinstance(found, NoneFound):
        raise SequenceError("no function is marked @sequence")
    if isinstance(found, SeveralFound):
        names = ", ".join(found.names)
        raise SequenceError(f"several functions are marked @sequence ({names}); name one of them run")
    if found.spec is CLASSIC:
        _check_classic(found.thing)
        return None
    from sequence_sdk.contract import contract_of  # noqa: PLC0415 - needed only where something is marked

    schema: dict[str, Any] = contract_of(found.thing).schema()
    return schema


def _check_classic(run: Callable[..., object]) -> None:
    try:
        signature = inspect.signature(run)
    except ValueError:  # of what is written in C nothing may be known
        return
    try:
        signature.bind_partial(None, None)
    except TypeError as error:
        raise SequenceError(f"run{signature} cannot be called as run(context, input): {error}") from error


def _sentence(error: BaseException) -> str:
    if isinstance(error, SequenceError):
        return str(error)
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an author's exception
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
