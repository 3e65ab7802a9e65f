"""Runners that are forked of a warm interpreter, which is there before it is needed (runner/zygote.py has the other side)."""

import asyncio
import errno
import logging
import os
import socket
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from hub_lite.errors import Unavailable
from runner.protocol.channels import Channel

logger = logging.getLogger(__name__)

_READY: Final = b"ready"
_FORK: Final = b"fork"
_READ: Final = 65536  # bytes
_DESCRIPTOR: Final = array("i").itemsize  # bytes
_MOST: Final = 4  # interpreters that are kept warm; each takes some 20 MB
_PAUSE: Final = 60.0  # seconds without a new attempt after one that failed
_TRIES: Final = 2  # the first one may find a zygote, or a runner in reserve, that is just being killed
_KILLED: Final = -9
_OF_THE_INTERPRETER: Final = ("PYTHON", "LD_", "DYLD_", "MALLOC_", "GLIBC_", "LC_", "LANG", "TZ")
"""Beginnings of the variables that a process looks at once, when it begins."""


def is_supported() -> bool:
    """Tell whether runners can be forked here: it takes what Linux has."""
    return sys.platform == "linux"


def _set(future: asyncio.Future[bool], result: bool) -> None:
    if not future.done():
        future.set_result(result)


class Forked:
    """A runner that was forked, and is no child of the hub."""

    def __init__(
        self,
        pid: int,
        birth: socket.socket,
        said: bytes = b"",
        links: Mapping[Channel, socket.socket] | None = None,
    ) -> None:
        self.pid = pid
        self.links = links or {}  # our ends of them; whoever takes the runner closes them
        self._birth = birth
        self._said = said  # by way of the socket, behind its process id
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._watched: int | None = None  # a descriptor of the process, where no zygote tells of its end

    async def wait(self) -> int:
        """Wait for the end and return its code, ``-n`` for a death by signal n."""
        return await asyncio.shield(self._ended)

    def end(self, code: int) -> None:
        """Note how it has ended."""
        if not self._ended.done():
            self._ended.set_result(code)
        self.close()

    def watch(self) -> None:
        """Look for the end by ourselves: the zygote is gone, which has no consequence for a runner."""
        try:
            self._watched = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self.end(self._own_code())
            return
        asyncio.get_running_loop().add_reader(self._watched, self._is_over)

    def close(self) -> None:
        """Give back what is held for it; safe to call twice."""
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched)
            os.close(self._watched)
            self._watched = None
        self._birth.close()

    def _is_over(self) -> None:
        self.end(self._own_code())

    def _own_code(self) -> int:
        """Return the code that the runner has told itself; one that could not has been killed."""
        with suppress(OSError):
            self._said += self._birth.recv(_READ)
        return int(self._said) if self._said.strip() else _KILLED


def _receive(birth: socket.socket) -> tuple[bytes, list[int]]:
    """Return bytes, one at least, and the descriptors that come with them, which no other program gets.

    Raises:
        BrokenPipeError: nothing more comes.
    """
    # socket.recv_fds does the same, but forgets the flags that it is given.
    chunk, received, _, _ = birth.recvmsg(
        _READ, socket.CMSG_LEN(len(Channel) * _DESCRIPTOR), socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array("i")
    for level, kind, data in received:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % _DESCRIPTOR])
    if not chunk:
        _close(descriptors)
        raise BrokenPipeError
    return chunk, list(descriptors)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _link(descriptor: int) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)
    link.setblocking(False)
    return link


class Zygote:
    """A warm interpreter. ``start`` it, ``fork`` of it, ``close`` it."""

    def __init__(self, program: str, environment: Mapping[str, str], reserves: int) -> None:
        self._program = program
        self._reserves = reserves
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[bool] = self._loop.create_future()
        self._room = asyncio.Lock()  # to send, one at a time
        self._runners: dict[int, Forked] = {}
        self._ended: dict[int, int] = {}  # codes of those whose birth is still being waited for
        self._births = 0
        self._closing = False
        self._reaping: asyncio.Task[int] | None = None

    async def start(self) -> bool:
        """Start the interpreter, and return whether it is ready."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    self._program, "-P", "-m", "runner.zygote", str(theirs.fileno()), str(self._reserves),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    cwd="/",
                    env=dict(self._environment),
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            ours.close()
            logger.warning("no warm interpreter of %s: %s", self._program, error.strerror or error)
            _set(self._ready, False)
            return False
        except BaseException:
            ours.close()
            raise
        self._reaping = asyncio.create_task(self._process.wait())
        if self._closing:
            ours.close()
            self._process.kill()
            return False
        self._control = ours
        self._loop.add_reader(ours, self._read)
        return await self.ready()

    async def ready(self) -> bool:
        """Wait until it is ready and return True, or False if it is gone."""
        return await asyncio.shield(self._ready)

    @property
    def is_gone(self) -> bool:
        """Tell whether it has ended, or could not begin."""
        return self._ready.done() and self._control is None

    async def fork(self, folder: Path, environment: Mapping[str, str], output: int) -> Forked | None:
        """Return a new runner, None if the zygote is gone.

        Args:
            folder: its working directory.
            environment: all of its environment.
            output: what is to be its descriptors 1 and 2.

        Raises:
            Unavailable: the machine does not start another process.
        """
        request = b"\0".join(
            [
                os.fsencode(folder),
                *(os.fsencode(name) + b"=" + os.fsencode(value) for name, value in environment.items()),
            ]
        )
        birth, theirs = socket.socketpair()
        birth.setblocking(False)
        self._births += 1
        try:
            with ExitStack() as unborn:
                unborn.enter_context(birth)
                with theirs:
                    if not await self._send(_FORK, (theirs.fileno(), output)):
                        return None
                answer, descriptors = await self._ask(birth, request)
                links = [unborn.enter_context(_link(descriptor)) for descriptor in descriptors]
                first, _, rest = answer.partition(b"\n")
                pid = int(first)
                given = dict(zip(Channel, links, strict=False))
                if pid > 0 and len(given) < len(Channel):
                    pid = -errno.EMFILE  # the other links have no room here; the runner ends without them
                if pid < 0:
                    raise Unavailable(f"the runner could not be started: {os.strerror(-pid)}")
                unborn.pop_all()
        except (BrokenPipeError, ConnectionResetError):
            self._read()  # it may be gone, and the loop has not seen that yet
            return None
        finally:
            self._births -= 1
        return self._born(Forked(pid, birth, rest, given))

    def _born(self, runner: Forked) -> Forked:
        """Note a new runner, which may have come to its end already."""
        if runner.pid in self._ended:
            runner.end(self._ended.pop(runner.pid))
        elif self._control is None:
            runner.watch()
        else:
            self._runners[runner.pid] = runner
        if not self._births:
            self._ended.clear()
        return runner

    def close(self) -> None:
        """Let it end; its runners live on. Safe to call twice."""
        self._closing = True
        if self._process is not None and not self._ready.done():
            self._process.kill()  # it does not listen yet
        self._lose()

    async def wait_closed(self) -> None:
        """Wait until the process is gone."""
        if self._reaping is not None:
            await self._reaping

    async def _ask(self, birth: socket.socket, request: bytes) -> tuple[bytes, list[int]]:
        """Return what a new runner answers: a line and what it may say after it, and the descriptors that come with them."""
        await self._loop.sock_sendall(birth, request)
        birth.shutdown(socket.SHUT_WR)
        answer = b""
        descriptors: list[int] = []
        try:
            while b"\n" not in answer:
                await self._until(self._loop.add_reader, self._loop.remove_reader, birth)
                chunk, received = _receive(birth)
                descriptors += received
                answer += chunk
        except BaseException:
            _close(descriptors)
            raise
        return answer, descriptors

    async def _send(self, message: bytes, descriptors: tuple[int, ...]) -> bool:
        async with self._room:
            while self._control is not None:
                try:
                    socket.send_fds(self._control, [message], descriptors)
                except BlockingIOError:
                    await self._until(self._loop.add_writer, self._loop.remove_writer, self._control)
                else:
                    return True
        return False

    async def _until(
        self, add: Callable[..., None], remove: Callable[..., object], one: socket.socket
    ) -> None:
        """Wait until a socket has room for more, or something to read."""
        ready: asyncio.Future[bool] = self._loop.create_future()
        add(one, _set, ready, True)
        try:
            await ready
        finally:
            remove(one)

    def _read(self) -> None:
        while self._control is not None:
            try:
                message = self._control.recv(_READ)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._lose()
            elif message == _READY:
                _set(self._ready, True)
            else:
                pid, code = map(int, message.split())
                runner = self._runners.pop(pid, None)
                if runner is not None:
                    runner.end(code)
                elif self._births:
                    self._ended[pid] = code

    def _lose(self) -> None:
        if self._control is not None:
            self._loop.remove_reader(self._control)
            self._control.close()
            self._control = None
        _set(self._ready, False)
        runners, self._runners = self._runners, {}
        for runner in runners.values():
            runner.watch()


class Zygotes:
    """The warm interpreters of a hub: one for each interpreter with its variables, started before or when it is first wanted.

    Args:
        reserves: the runners that each may keep in reserve; it does so after that many were asked for at once.
    """

    def __init__(self, reserves: int) -> None:
        self._reserves = reserves
        self._zygotes: dict[tuple[str, tuple[tuple[str, str], ...]], Zygote] = {}
        self._not_before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._starts: set[asyncio.Task[bool]] = set()
        self._closed = False

    def warm(self, program: str, environment: Mapping[str, str]) -> None:
        """Start an interpreter for what runs in an environment such as this one, if there is none."""
        self._of(program, environment)

    async def fork(
        self,
        program: str,
        environment: Mapping[str, str],
        own: Mapping[str, str],
        folder: Path,
        output: int,
    ) -> Forked | None:
        """Return a new runner of a program, None if it has to be started as a process of its own.

        Args:
            program: the interpreter.
            environment: all of the runner's environment.
            own: the part of it that is this runner's only.
            folder: its working directory.
            output: what is to be its descriptors 1 and 2.

        Raises:
            Unavailable: the machine does not start another process.
        """
        if any(name.startswith(_OF_THE_INTERPRETER) for name in own):
            return None
        shared = {name: value for name, value in environment.items() if name not in own}
        for _ in range(_TRIES):
            zygote = self._of(program, shared)
            if zygote is None or not await zygote.ready():
                return None
            if (forked := await zygote.fork(folder.absolute(), environment, output)) is not None:
                return forked
        return None

    async def close(self) -> None:
        """Let all of them end; their runners live on. Safe to call twice."""
        self._closed = True
        for zygote in self._zygotes.values():
            zygote.close()
        await asyncio.gather(*self._starts, return_exceptions=True)
        await asyncio.gather(*(zygote.wait_closed() for zygote in self._zygotes.values()))

    def _of(self, program: str, environment: Mapping[str, str]) -> Zygote | None:
        key = (program, tuple(sorted(environment.items())))
        found = self._zygotes.get(key)
        if found is not None and not found.is_gone:
            return found
        if self._closed or time.monotonic() < self._not_before.get(key, 0.0):
            return None
        if found is None and len(self._zygotes) >= _MOST:
            return None
        self._not_before[key] = time.monotonic() + _PAUSE  # unless it gets ready
        self._zygotes[key] = zygote = Zygote(program, environment, self._reserves)
        start = asyncio.create_task(self._start(key, zygote), name=f"zygote of {program}")
        self._starts.add(start)
        start.add_done_callback(self._starts.discard)
        return zygote

    async def _start(self, key: tuple[str, tuple[tuple[str, str], ...]], zygote: Zygote) -> bool:
        if await zygote.start():
            self._not_before.pop(key, None)
            return True
        if self._closed:
            return False
        logger.warning(
            "there is no warm interpreter of %s, its runners are started one by one; this is tried again in %g s",
            key[0],
            _PAUSE,
        )
        return False
