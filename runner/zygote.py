"""``python -P -m runner.zygote DESCRIPTOR RESERVES``: a warm interpreter, of which runners are forked.

It has imported what a runner needs and nothing of anybody else's, runs no thread and no loop, and holds one descriptor: a
SOCK_SEQPACKET socket to its hub.

- It says ``ready`` when it is, and ``<pid> <code>`` for each runner that has ended, ``-n`` being a death by signal n.
- ``fork`` comes with two descriptors: a socket of the new runner's own, and its real output. On its socket the
  runner finds its working directory and its environment, with NUL between them and the end of the stream behind. It answers
  with its process id and a line end when it leads a session of its own, and with that come the hub's ends of its links, one
  for each channel, in their order. What could not be forked, or has no room for links, is answered with ``-<errno>``. A runner
  that ends by itself leaves its exit code behind.
- When the hub closes the socket it ends. Its runners notice by themselves.

While nobody asks, it keeps runners in reserve, which have been forked, have their links and have rehearsed: they have their
own copies of the pages that runners write to, the dearest part of a start. That is one at rest, and for a while after a burst
of starts as many as those were, RESERVES at most.
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
import time
from collections import deque
from contextlib import ExitStack
from typing import NamedTuple, NoReturn

from . import __main__ as runner
from . import debugger, quarantine, reload, report  # noqa: F401 - warm
from .protocol import bpmux, lifecycle  # noqa: F401 - warm
from .protocol.channels import Channel
from .rehearsal import RehearsalFailed, rehearse
from .sockets import pairs

READY = b"ready"
FORK = b"fork"
_REHEARSALS = 8  # CPython 3.11 looks at what a function does in its ninth run
_DESCRIPTORS = 2  # that come with a request
_IDLE_MS = 3  # without a request, after which there is time to make a reserve
_BURST_MS = 50  # the same after several requests: what they have started comes first
_NEXT_MS = 10  # and then between two reserves
_MEMORY = 30.0  # seconds for which a burst of starts is remembered
_READ = 65536  # bytes
_STDERR = 2
_NOT_FLUSHED = 120  # what an interpreter exits with whose last words are lost


def main() -> int:
    """Fork runners until the hub is gone; one that was forked runs its Sequence, and does not return."""
    _rehearse(_REHEARSALS)
    gc.collect()
    gc.freeze()  # a collection in a runner does not touch, and so not copy, what all of them share
    descriptor, most = map(int, sys.argv[1:])
    _close_all_but(descriptor)
    os.set_inheritable(descriptor, False)
    born = _Zygote(socket.socket(fileno=descriptor), Reserves(most)).serve()
    if born is not None:
        _leave(runner.main(born.links), born.birth)
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


class _Runner(NamedTuple):
    """What a new runner has."""

    birth: socket.socket
    links: dict[Channel, socket.socket]


class Reserves:
    """The runners in reserve, each a socket where it waits for its request, and how many there should be.

    That is one, and for a while after a burst of requests as many as came since the reserve was last whole. Moments are seconds of
    a monotonic clock.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._ready: deque[socket.socket] = deque()
        self._wanted = min(1, most)
        self._requests = 0  # since the reserve was last whole
        self._peak = 0  # of that, since the number that is wanted was last set
        self._period_ends: float | None = None  # while more than one are wanted
        self._gave_up = False

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def is_short(self) -> bool:
        """Tell whether one more is to be made."""
        return len(self._ready) < self._wanted and not self._gave_up

    def patience(self, now: float) -> int | None:
        """Return for how many milliseconds without a request nothing is to be done; None is for ever."""
        if self.is_short:
            if self._ready:
                return _NEXT_MS
            return _IDLE_MS if self._requests <= 1 else _BURST_MS
        if self._period_ends is not None:
            return max(0, int((self._period_ends - now) * 1000) + 1)
        return None

    def note_request(self, now: float) -> None:
        """Count a request, which is to be answered by one that is ``taken``, if there is any."""
        self._gave_up = False
        self._requests += 1
        self._peak = max(self._peak, self._requests)
        if self._wanted < min(self._peak, self._most):
            self._set(now)

    def taken(self) -> socket.socket | None:
        """Return the oldest one, or None. It may have been killed: then ask again."""
        return self._ready.popleft() if self._ready else None

    def add(self, reserve: socket.socket) -> None:
        """Take a new one."""
        self._ready.append(reserve)
        if len(self._ready) >= self._wanted:
            self._requests = 0

    def give_up(self) -> None:
        """Make no more until the next request: the machine has no room."""
        self._gave_up = True

    def forget(self, now: float) -> None:
        """Let go of those that are not wanted any more, for the burst is long past. They end."""
        if self._period_ends is not None and now >= self._period_ends:
            self._set(now)
            while len(self._ready) > self._wanted:
                self._ready.pop().close()

    def close(self) -> None:
        """Close the sockets, of which the runners hold the other ends."""
        while self._ready:
            self._ready.pop().close()

    def _set(self, now: float) -> None:
        self._wanted = min(max(1, self._peak), self._most)
        self._peak = 0
        self._period_ends = now + _MEMORY if self._wanted > 1 else None


class _Zygote:
    """What the template process holds; in a fork all of it is closed."""

    def __init__(self, hub: socket.socket, reserves: Reserves) -> None:
        self._hub = hub
        self._ended_reader, self._ended_writer = os.pipe()
        self._reserves = reserves
        for descriptor in (self._ended_reader, self._ended_writer):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # for the descriptor to be written to
        signal.set_wakeup_fd(self._ended_writer, warn_on_full_buffer=False)

    def serve(self) -> _Runner | None:
        """Fork what the hub asks for; return None when it is gone, and in a runner what it has."""
        poll = select.poll()
        poll.register(self._hub, select.POLLIN)
        poll.register(self._ended_reader, select.POLLIN)
        self._hub.send(READY)
        while True:
            ready = poll.poll(self._reserves.patience(time.monotonic()))
            if not ready:
                self._reserves.forget(time.monotonic())
                if self._reserves.is_short and (request := self._new_reserve()):
                    return _wait_in_reserve(request)
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
                    return _become_runner(birth, output, *_links_or_end(birth))
                birth.close()
                os.close(output)

    def _is_new_runner(self, birth: socket.socket, output: int) -> bool:
        """Let a runner take these descriptors, one in reserve if there is one; return True in one that is forked for it."""
        self._reserves.note_request(time.monotonic())
        while (reserve := self._reserves.taken()) is not None:
            with reserve:
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

    def _new_reserve(self) -> socket.socket | None:
        """Fork a runner in reserve; in that one return where its request comes."""
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:  # there is no room for a reserve
            self._reserves.give_up()
            return None
        with ExitStack() as unwanted:
            unwanted.enter_context(ours)
            unwanted.enter_context(theirs)
            try:
                if self._fork():
                    self._reserves.close()
                    unwanted.pop_all()
                    ours.close()
                    return theirs
            except OSError:  # the next request says so
                self._reserves.give_up()
                return None
            unwanted.pop_all()
            theirs.close()
        self._reserves.add(ours)
        return None

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


def _wait_in_reserve(request: socket.socket) -> _Runner:
    """Get ready, wait for the request, and return what a runner has; when the zygote is gone, or wants it no more, it ends."""
    try:
        links, peers = pairs()
    except OSError:  # who is forked when it is asked for can say so
        os._exit(0)
    _rehearse(1)
    with request:
        message, descriptors, _, _ = socket.recv_fds(request, _READ, _DESCRIPTORS)
    if not message:
        os._exit(0)
    return _become_runner(socket.socket(fileno=descriptors[0]), descriptors[1], links, peers)


def _links_or_end(birth: socket.socket) -> tuple[dict[Channel, socket.socket], list[socket.socket]]:
    try:
        return pairs()
    except OSError as error:
        _received(birth)  # what is closed with something unread in it loses the answer
        birth.send(b"-%d\n" % (error.errno or errno.EMFILE))
        os._exit(0)


def _become_runner(
    birth: socket.socket, output: int, links: dict[Channel, socket.socket], peers: list[socket.socket]
) -> _Runner:
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
    socket.send_fds(birth, [b"%d\n" % os.getpid()], [peer.fileno() for peer in peers])
    for peer in peers:
        peer.close()
    return _Runner(birth, links)


def _received(birth: socket.socket) -> bytes:
    request = bytearray()
    while chunk := birth.recv(_READ):
        request += chunk
    return bytes(request)


if __name__ == "__main__":
    sys.exit(main())
