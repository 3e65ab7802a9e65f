"""Processes: what they use, and how they end."""

import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from psutil import NoSuchProcess, Process

_PATIENCE = 10.0  # seconds that a process has to end before it is killed

__all__ = [
    "ROOT",
    "NoSuchProcess",
    "Process",
    "cpu_seconds",
    "end_process",
    "own_memory",
    "resident_memory",
    "run_seconds",
    "server",
]

ROOT = Path(__file__).resolve().parent.parent


def cpu_seconds(process: Process) -> float:
    """Return the processor time a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def run_seconds(processes: Iterable[Process]) -> float:
    """Return the processor time of many processes together.

    The scheduler's own account is asked where there is one: the usual one counts ticks of 10 ms, and a process at rest
    may use less than a tick in all the time that is looked at.
    """
    total = 0.0
    for process in processes:
        with suppress(NoSuchProcess, FileNotFoundError):
            tasks = Path(f"/proc/{process.pid}/task")
            if (tasks / str(process.pid) / "schedstat").exists():
                total += (
                    sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9
                )
            else:
                total += cpu_seconds(process)
    return total


def own_memory(process: Process) -> float:
    """Return the MiB of a process, shared pages divided among those who share them (PSS)."""
    return float(process.memory_full_info().pss) / 1024 / 1024


def resident_memory(process: Process) -> float:
    """Return the MiB of a process that are in memory, shared pages in full (RSS)."""
    return float(process.memory_info().rss) / 1024 / 1024


def end_process(child: subprocess.Popen[bytes]) -> None:
    """End a process that was started here; if it does not, kill it and its children."""
    if child.poll() is not None:
        return
    family = [Process(child.pid), *Process(child.pid).children(recursive=True)]
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        for process in family:
            if process.is_running():
                process.kill()
        child.wait(_PATIENCE)


@contextmanager
def server(kind: str, body: bytes) -> Iterator[tuple[tuple[str, int], Process]]:
    """Run one of the servers to compare with for as long as the block lasts."""
    command = [sys.executable, "-m", "bench.servers", kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(body)
            child.stdin.close()
            yield ("127.0.0.1", int(child.stdout.readline())), Process(child.pid)
        finally:
            end_process(child)
