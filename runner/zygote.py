"""``python -P -m runner.zygote DESCRIPTOR``: a warm interpreter, of which runners are forked.

It has imported what a runner needs and nothing of anybody else's, runs no thread and no loop, and holds one descriptor: a
SOCK_SEQPACKET socket to its hub.

- It says ``ready`` when it is, and ``<pid> <code>`` for each runner that has ended, ``-n`` being a death by signal n.
- ``fork`` comes with two descriptors: a socket of the new runner's own, and its real output. On its socket the
  runner finds its working directory and its environment, with NUL between them and the end of the stream behind. It answers
  with its process id and a line end when it leads a session of its own, and with its exit code when it ends by itself.
- When the hub closes the socket it ends. Its runners notice by themselves.

While nobody asks, it keeps one runner in reserve, which has been forked and has rehearsed: it has its own copies of the pages that
runners write to, the dearest part of a start.
"""

import atexit
import contextlib
import errno
import gc
import os
import select
import signal
import socket
import sys
import threading
from typing import NoReturn

from . import __main__ as runner
from . import debugger, quarantine, reload, report  # noqa: F401 - warm
from .protocol import bpmux, lifecycle  # noqa: F401 - warm
from .rehearsal import RehearsalFailed, rehearse

READY = b"ready"
FORK = b"fork"
_REHEARSALS = 8  # CPython 3.11 looks at what a function does in its ninth run
_DESCRIPTORS = 2  # that come with a request
_IDLE_MS = 3  # without a request, after which there is time to make a reserve
_READ = 65536  # bytes
_STDERR = 2
_NOT_FLUSHED = 120  # what an interpreter exits with whose last words are lost


def main() -> int:
    """Fork runners until the hub is gone; one that was forked runs its Sequence, and does not return."""
    _rehearse(_REHEARSALS)
    gc.collect()
    gc.freeze()  # a collection in a runner does not touch, and so not copy, what all of them share
    descriptor = int(sys.argv[1])
    _close_all_but(descriptor)
    os.set_inheritable(descriptor, False)
    birth = _Zygote(socket.socket(fileno=descriptor)).serve()
    if birth is not None:
        _leave(runner.main(), birth)
    return 0


def _rehearse(times: int) -> None:
    try:
        rehearse(times)
    except (OSError, RehearsalFailed) as error:  # runners will be slower, no more
        print(f"hub-lite runner: the rehearsal failed: {error}", file=sys.stderr)


def _leave(code: int, birth: socket.socket) -> NoReturn:
    """End as an interpreter does that is done: other threads, exit handlers, what is still to be written.

    It does not take its modules apart after that, which would touch, and so copy, all the memory that runners share: more time than
    the start takes.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # as every interpreter calls it
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            code = code or _NOT_FLUSHED
    with contextlib.suppress(OSError):
        birth.send(b"%d\n" % code)
    os._exit(code)


def _close_all_but(kept: int) -> None:
    """Close what was left open by who started this process: every runner would have it."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - pathlib would open another one
        if int(name) > _STDERR and int(name) != kept:
            with contextlib.suppress(OSError):  # the one that lists them
                os.close(int(name))


class _Zygote:
    """What the template process holds; in a fork all of it is closed."""

    def __init__(self, hub: socket.socket) -> None:
        self._hub = hub
        self._ended_reader, self._ended_writer = os.pipe()
        self._reserve: socket.socket | None = None  # where one waits for its request
        self._wants_reserve = True  # there is none, and it has not been tried since the last request
        for descriptor in (self._ended_reader, self._ended_writer):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # for the descriptor to be written to
        signal.set_wakeup_fd(self._ended_writer, warn_on_full_buffer=False)

    def serve(self) -> socket.socket | None:
        """Fork what the hub asks for; return None when it is gone, and in a runner the socket that is its own."""
        poll = select.poll()
        poll.register(self._hub, select.POLLIN)
        poll.register(self._ended_reader, select.POLLIN)
        self._hub.send(READY)
        while True:
            ready = poll.poll(_IDLE_MS if self._wants_reserve else None)
            if not ready and self._is_new_reserve():
                return self._wait_in_reserve()
            for descriptor, _ in ready:
                if descriptor == self._ended_reader:
                    self._report_ended()
                    continue
                message, descriptors, _, _ = socket.recv_fds(self._hub, _READ, _DESCRIPTORS)
                if not message:
                    return None
                if message != FORK or len(descriptors) != _DESCRIPTORS:
                    raise RuntimeError(f"the hub said {message!r} with {len(descriptors)} descriptors")
                birth, output = socket.socket(fileno=descriptors[0]), descriptors[1]
                if self._is_new_runner(birth, output):
                    _become_runner(birth, output)
                    return birth
                birth.close()
                os.close(output)

    def _is_new_runner(self, birth: socket.socket, output: int) -> bool:
        """Let a runner take these descriptors, one in reserve if there is one; return True in one that is forked for it."""
        self._wants_reserve = True
        if self._reserve is not None:
            with self._reserve as reserve:
                self._reserve = None
                try:
                    socket.send_fds(reserve, [FORK], [birth.fileno(), output])
                except OSError:  # somebody has killed it
                    pass
                else:
                    return False
        try:
            return self._fork()
        except OSError as error:
            _received(birth)  # what is closed with something unread in it loses the answer
            birth.send(b"-%d\n" % (error.errno or errno.EAGAIN))
            return False

    def _is_new_reserve(self) -> bool:
        """Fork a runner that waits for its request; return True in that one."""
        self._wants_reserve = False
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:  # there is no room for a reserve
            return False
        try:
            if self._fork():
                ours.close()
                self._reserve = theirs
                return True
        except OSError:  # the next request says so
            ours.close()
        else:
            self._reserve = ours
        theirs.close()
        return False

    def _wait_in_reserve(self) -> socket.socket | None:
        """Rehearse, wait for the request, and return the socket that came with it; None when the zygote is gone."""
        assert self._reserve is not None  # noqa: S101 - for the type checker
        _rehearse(1)
        with self._reserve as reserve:
            message, descriptors, _, _ = socket.recv_fds(reserve, _READ, _DESCRIPTORS)
        if not message:
            os._exit(0)
        birth = socket.socket(fileno=descriptors[0])
        _become_runner(birth, descriptors[1])
        return birth

    def _fork(self) -> bool:
        """Return True in the new process, which has none of what is the zygote's."""
        if os.fork():
            return False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._hub.close()
        os.close(self._ended_reader)
        os.close(self._ended_writer)
        return True

    def _report_ended(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._ended_reader, _READ):
                pass
        with contextlib.suppress(
            ChildProcessError, BrokenPipeError
        ):  # the latter is seen by the next receive
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._hub.send(b"%d %d" % (pid, os.waitstatus_to_exitcode(status)))


def _become_runner(birth: socket.socket, output: int) -> None:
    os.setsid()
    os.dup2(output, 1)  # 0 is the zygote's, which has ended
    os.dup2(output, 2)
    os.close(output)
    folder, *variables = _received(birth).split(b"\0")
    os.environb.clear()
    for variable in variables:
        name, _, value = variable.partition(b"=")
        os.environb[name] = value
    os.chdir(folder)
    birth.send(b"%d\n" % os.getpid())


def _received(birth: socket.socket) -> bytes:
    request = bytearray()
    while chunk := birth.recv(_READ):
        request += chunk
    return bytes(request)


if __name__ == "__main__":
    sys.exit(main())
