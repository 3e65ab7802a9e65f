"""``python -P -m runner.zygote DESCRIPTOR``: a warm interpreter, of which runners are forked.

It has imported what a runner needs and nothing of anybody else's, runs no thread and no loop, and holds one descriptor: a
SOCK_SEQPACKET socket to its hub.

- It says ``ready`` when it is, and ``<pid> <code>`` for each runner that has ended, ``-n`` being a death by signal n.
- ``fork`` comes with two descriptors: a socket of the new runner's own, and its real output. On its socket the
  runner finds its working directory and its environment, with NUL between them and the end of the stream behind. It answers
  with its process id and a line end when it leads a session of its own, and with its exit code when it ends by itself.
- When the hub closes the socket it ends. Its runners notice by themselves.
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

READY = b"ready"
FORK = b"fork"
_DESCRIPTORS = 2  # that come with a request
_READ = 65536  # bytes
_STDERR = 2
_NOT_FLUSHED = 120  # what an interpreter exits with whose last words are lost


def main() -> int:
    """Fork runners until the hub is gone; in one that was forked, run its Sequence and return its exit code."""
    gc.collect()
    gc.freeze()  # a collection in a runner does not touch, and so not copy, what all of them share
    _close_all_but(int(sys.argv[1]))
    with socket.socket(fileno=int(sys.argv[1])) as hub:
        os.set_inheritable(hub.fileno(), False)
        birth = _serve(hub)
    if birth is None:
        return 0
    _leave(runner.main(), birth)


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
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - pathlib costs an import
        if int(name) > _STDERR and int(name) != kept:
            with contextlib.suppress(OSError):  # the one that lists them
                os.close(int(name))


def _serve(hub: socket.socket) -> socket.socket | None:
    """Fork what the hub asks for; return None when it is gone, and in a runner the socket that is its own."""
    ended_reader, ended_writer = os.pipe()
    for descriptor in (ended_reader, ended_writer):
        os.set_blocking(descriptor, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # for the descriptor to be written to
    signal.set_wakeup_fd(ended_writer, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(hub, select.POLLIN)
    poll.register(ended_reader, select.POLLIN)
    hub.send(READY)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == ended_reader:
                _report_ended(hub, ended_reader)
                continue
            message, descriptors, _, _ = socket.recv_fds(hub, _READ, _DESCRIPTORS)
            if not message:
                return None
            if message != FORK or len(descriptors) != _DESCRIPTORS:
                raise RuntimeError(f"the hub said {message!r} with {len(descriptors)} descriptors")
            birth = socket.socket(fileno=descriptors[0])
            try:
                child = os.fork()
            except OSError as error:
                _received(birth)  # what is closed with something unread in it loses the answer
                birth.send(b"-%d\n" % (error.errno or errno.EAGAIN))
                child = -1
            if child == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for own in (hub.detach(), ended_reader, ended_writer):
                    os.close(own)
                _become_runner(birth, descriptors[1])
                return birth
            birth.close()
            os.close(descriptors[1])


def _report_ended(hub: socket.socket, ended_reader: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(ended_reader, _READ):
            pass
    with contextlib.suppress(ChildProcessError, BrokenPipeError):  # the latter is seen by the next receive
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            hub.send(b"%d %d" % (pid, os.waitstatus_to_exitcode(status)))


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
