"""Processes: what they use, and how they end."""

import signal
import subprocess

from psutil import NoSuchProcess, Process

_PATIENCE = 10.0  # seconds that a process has to end before it is killed

__all__ = ["NoSuchProcess", "Process", "cpu_seconds", "end_process", "own_memory", "resident_memory"]


def cpu_seconds(process: Process) -> float:
    """Return the processor time a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


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
