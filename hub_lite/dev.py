"""``hub-lite dev``: a Sequence that runs while it is written; a save swaps its code between two items."""

import asyncio
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import watchfiles

from sequence_sdk.pack import KeptDependencies, PackError, PackResult, pack
from sequence_sdk.pack.errors import FileChanged, FileUnreadable, FolderNotFound, ManifestNotFound, NotAFolder
from sequence_sdk.pack.ignore import (
    DEPENDENCY_FOLDERS,
    IGNORE_FILE,
    IgnoreRule,
    default_rule,
    read_ignore_rules,
)

from .client import ClientError, HubClient, HubRefused
from .run import (
    Attached,
    Interrupts,
    RunOptions,
    hub_for,
    input_chunks,
    interruptible,
    tell_why_it_did_not_start,
)

_STEP_MS: Final = 20  # without a change, until what has changed is told
_DEBOUNCE_MS: Final = 80  # at most, while changes go on
_RACES: Final = 5  # with an editor that replaces a file while it is packed
_RACE_WAIT: Final = 0.02
_CONFLICT: Final = 409
_RESTART_TIMEOUT: Final = 7.0  # seconds that a Sequence has to stop whose runner cannot swap code


async def dev(options: RunOptions) -> int:
    """Run the Sequence in a folder until SIGINT or SIGTERM, with the code that was saved last; return the exit status.

    Raises:
        ClientError, PackError, SettingsError, StreamFailure, OSError: it could not be run; the text says why.
    """
    return await interruptible(lambda interrupts: _dev(options, interrupts))


async def _dev(options: RunOptions, interrupts: Interrupts) -> int:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-lite-dev-")))
        client = await stack.enter_async_context(hub_for(options))
        development = Development(client, options, folder, interrupts)
        try:
            return await development.run()
        finally:
            if not options.keep:
                with contextlib.suppress(ClientError):
                    await development.remove()


class Development:
    """One folder, its Sequence on a hub, and the Instance that runs it."""

    def __init__(self, client: HubClient, options: RunOptions, work: Path, interrupts: Interrupts) -> None:
        """Take what is needed; packages are made in the folder ``work``."""
        self._client = client
        self._options = options
        self._folder = options.target
        self._package = work / f"{options.target.absolute().name}.tar.gz"
        self._interrupts = interrupts
        self._notes = Notes()
        self._dependencies = KeptDependencies(self._notes.plain)
        self._saves = Saves()
        self._feed = Feed(options)
        self._sequence = ""
        self._instance = ""  # that lives
        self._uploaded = ""  # hash of the package that the hub has
        self._told_error = False  # since the last reload
        self._turn = asyncio.Lock()  # one start, or one reload, at a time
        self._wanted = asyncio.Event()  # another Instance
        self._wanted.set()

    async def run(self) -> int:
        """Run until the Instance is interrupted, or nobody reads its output any more; return the exit status."""
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._watch())]
        try:
            await asyncio.sleep(0)  # the watch stands before the first look at the files: no save is missed
            await self._begin()
            tasks += [asyncio.create_task(self._live()), asyncio.create_task(self._follow())]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return int(next(iter(done)).result())  # only `_live` returns
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._dependencies.close()

    async def remove(self) -> None:
        """Remove the Sequence and its Instances from the hub."""
        if self._sequence:
            await self._client.delete_sequence(self._sequence, force=True)

    # --- saves ------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        folder = self._folder.resolve()
        changes = watchfiles.awatch(
            folder, watch_filter=Watched(folder), step=_STEP_MS, debounce=_DEBOUNCE_MS
        )
        try:
            async for changed in changes:
                self._saves.add(os.path.relpath(path, folder) for _, path in changed)
        except (
            RuntimeError
        ) as error:  # what watchfiles makes of errors of the system, such as a limit that is reached
            raise OSError(f"{self._folder} cannot be watched: {error}") from error

    async def _begin(self) -> None:
        try:
            packed = await self._pack()
        except (FolderNotFound, NotAFolder, ManifestNotFound):
            raise  # there is nothing to wait for a save of
        except PackError as error:
            self._tell_error("not started; a save tries again", str(error))
        else:
            await self._upload(packed)

    async def _follow(self) -> None:
        """Bring what is saved to the hub and to the Instance, one save after the other."""
        while True:
            names = await self._saves.next()
            began = asyncio.get_running_loop().time()
            async with self._turn:
                await self._take(names, began)

    async def _take(self, names: list[str], began: float) -> None:
        try:
            packed = await self._pack()
        except PackError as error:
            self._tell_error(f"not reloaded{self._old_code()}", str(error))
            return
        if packed.sha256 == self._uploaded and self._instance and not self._told_error:
            return  # what was saved is no other code
        try:
            await self._upload(packed)
        except HubRefused as error:
            self._tell_error(f"not reloaded{self._old_code()}", error.message)
            return
        if self._instance:
            await self._reload(self._instance, names, began)
        else:
            self._wanted.set()

    async def _reload(self, instance: str, names: list[str], began: float) -> None:
        try:
            await self._client.reload(instance)
        except HubRefused as error:
            if not self._instance or await self._is_over(instance):
                self._wanted.set()
            elif error.status != _CONFLICT:
                self._tell_error(f"not reloaded{self._old_code()}", error.message)
            else:
                self._notes.warn(
                    f"stopped to start it again, for this Instance cannot swap its code: {error.message}"
                )
                self._wanted.set()
                with contextlib.suppress(ClientError):
                    await self._client.stop(instance, _RESTART_TIMEOUT)
        else:
            self._told_error = False
            took = asyncio.get_running_loop().time() - began
            self._notes.good(f"reloaded {_listed(names)} in {took * 1000:.0f} ms")

    async def _is_over(self, instance: str) -> bool:
        try:
            return "terminated" in await self._client.instance(instance)
        except HubRefused:
            return True

    async def _pack(self) -> PackResult:
        for _ in range(_RACES):
            try:
                return await asyncio.to_thread(self._pack_once)
            except (FileChanged, FileUnreadable):  # an editor is at it
                await asyncio.sleep(_RACE_WAIT)
        return await asyncio.to_thread(self._pack_once)

    def _pack_once(self) -> PackResult:
        bare = not self._options.hub  # our own hub needs no more
        return pack(self._folder, self._package, dependencies=self._dependencies, describe=False, bare=bare)

    async def _upload(self, packed: PackResult) -> None:
        self._sequence = await self._client.upload(self._package, replace=self._sequence or None)
        self._uploaded = packed.sha256

    def _old_code(self) -> str:
        return "; the old code goes on" if self._instance else ""

    def _tell_error(self, what: str, why: str) -> None:
        self._told_error = True
        self._notes.bad(what, why)

    # --- Instances --------------------------------------------------------------------------------------------------

    async def _live(self) -> int:
        """Run one Instance after the other; return the exit status when there is to be no other."""
        number = 0
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            async with self._turn:
                attached = await self._start(number) if self._sequence else None
            if attached is not None:
                number += 1
                code = await self._stay(attached)
                if attached.reader_gone or self._interrupts.number:
                    return code
            if not self._wanted.is_set():
                self._notes.plain(f"waiting for a save to start it again{self._feed.rest()}; Ctrl-C ends")

    async def _start(self, number: int) -> Attached | None:
        """Start an Instance; None if its code does not load, which is told."""
        options = self._options
        try:
            instance = await self._client.start(self._sequence, config=options.config, args=options.args)
        except HubRefused as error:
            if "instanceId" not in error.details:
                raise
            await tell_why_it_did_not_start(self._client, error)
            return None
        where = options.hub or "a hub of its own"
        url = f"{self._client.url}/instance/{instance}"
        if number:
            self._notes.plain(f"started again as Instance {instance}: {url}/…")
        else:
            self._notes.head(
                f"hub-lite dev: {self._folder.absolute().name} runs as Instance {instance} on {where}",
                f"{url}/{{input,output,stdout,stderr,log}}",
                f"a save in {self._folder} swaps its code; Ctrl-C stops",
            )
        self._instance = instance
        attached = Attached(self._client, instance, options, self._feed.chunks)
        self._interrupts.instance = attached
        return attached

    async def _stay(self, attached: Attached) -> int:
        try:
            return await attached.run()
        finally:
            self._instance = ""
            self._interrupts.instance = None


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} files"


class Saves:
    """Names of files that were saved, until somebody takes them: many saves in a short time are one."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._some = asyncio.Event()

    def add(self, names: Iterator[str]) -> None:
        """Take note of saved files."""
        self._names.update(names)
        self._some.set()

    async def next(self) -> list[str]:
        """Wait for a save and return the names of all files that were saved, sorted."""
        await self._some.wait()
        self._some.clear()
        names, self._names = sorted(self._names), set()
        return names


class Feed:
    """The input of all Instances, one after the other: each gets what those before it have not taken.

    A file that was named is read from its beginning by each. Of standard input, an Instance begins with a whole line unless the
    input is octets: the rest of a line of which another has had the beginning is left out.
    """

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._lines = not options.input_type.startswith("application/octet-stream")
        self._source: AsyncGenerator[bytes, None] | None = None
        self._reading: asyncio.Task[bytes] | None = (
            None  # a read goes on when the Instance that waited for it is gone
        )
        self._in_line = False  # the last byte that was taken is no line end
        self._ended = False

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """Return the input of one more Instance."""
        return self._rest() if self._options.input is None else input_chunks(self._options)

    def rest(self) -> str:
        """Return what a next Instance gets, as a part of a sentence."""
        if self._options.input is not None:
            return f" with {self._options.input} from its beginning"
        return "; the input has ended" if self._ended else " with the rest of the input"

    async def _rest(self) -> AsyncGenerator[bytes, None]:
        if self._source is None:
            self._source = input_chunks(self._options)
        skipping = self._lines and self._in_line
        while not self._ended:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read(self._source))
            chunk = await asyncio.shield(self._reading)
            self._reading = None
            if not chunk:
                self._ended = True
                return
            self._in_line = not chunk.endswith(b"\n")
            if skipping:
                _, end, chunk = chunk.partition(b"\n")
                skipping = not end
            if chunk:
                yield chunk

    @staticmethod
    async def _read(source: AsyncGenerator[bytes, None]) -> bytes:
        return await anext(source, b"")


class Watched:
    """Tells which changes are changes of the Sequence: of what goes into its package, without dependencies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, change: watchfiles.Change, path: str) -> bool:
        """Tell whether the change of the file ``path`` is one; as watchfiles asks it."""
        parts = Path(os.path.relpath(path, self._folder)).parts
        if parts == (IGNORE_FILE,):
            return True
        if _EDITORS.search(parts[-1]) or not _NOT_SOURCES.isdisjoint(parts):
            return False
        rules = self._rules()
        return not any(
            self._stays_out(parts[: at + 1], rules, last=at == len(parts) - 1) for at in range(len(parts))
        )

    def _stays_out(self, parts: tuple[str, ...], rules: tuple[IgnoreRule, ...], *, last: bool) -> bool:
        name, path = "/".join(parts), self._folder.joinpath(*parts)
        if default_rule(name) or (not last and (path / "pyvenv.cfg").exists()):
            return True
        is_folder = not last or path.is_dir()
        return any(rule.regex.fullmatch(name) and (is_folder or not rule.folders_only) for rule in rules)

    def _rules(self) -> tuple[IgnoreRule, ...]:
        try:
            return read_ignore_rules(self._folder)
        except PackError:  # it is told when the folder is packed
            return ()


_EDITORS: Final = re.compile(r"~$|^\.#|^#.*#$|\.sw[a-z]$|^4913$|___jb_(?:tmp|old)___$|^\.fuse_hidden")
_NOT_SOURCES: Final = DEPENDENCY_FOLDERS | {".idea", ".vscode", ".tox", ".nox", ".hypothesis"}


class Notes:
    """What the command says on stderr; in colours on a terminal, unless NO_COLOR is set."""

    def __init__(self) -> None:
        self._colors = sys.stderr is not None and sys.stderr.isatty() and not os.environ.get("NO_COLOR")

    def head(self, first: str, *rest: str) -> None:
        """Say what runs where."""
        self._say(self._in("1", first), *(self._in("2", f"  {line}") for line in rest))

    def plain(self, text: str) -> None:
        """Say how it goes on."""
        self._say(self._in("2", text))

    def good(self, text: str) -> None:
        """Say that something was done."""
        self._say(self._in("32", text))

    def warn(self, text: str) -> None:
        """Say that something is not as one would like it."""
        self._say(self._in("33", text))

    def bad(self, what: str, why: str) -> None:
        """Say that something could not be done, and why; that may have many lines."""
        self._say(self._in("31", f"{what}:"), why.rstrip())

    def _in(self, color: str, text: str) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self._colors else text

    @staticmethod
    def _say(*lines: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads stderr
            print(*lines, sep="\n", file=sys.stderr, flush=True)
