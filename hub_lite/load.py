"""How busy this machine is, as ``GET /load-check`` shows it: a superset of the two forms that clients know."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

_SPAN = 1.0  # seconds; over a shorter time the share of the processors says nothing


class LoadMeter:
    """Measures the machine. The file system of the first path is told first."""

    def __init__(
        self, paths: Sequence[Path], *, reserved_bytes: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._paths = paths
        self._reserved_bytes = reserved_bytes
        self._clock = clock
        self._measured = clock()
        self._cpu = 0.0
        psutil.cpu_percent()  # the first call has nothing to compare with

    def measure(self) -> dict[str, Any]:
        """Return the load. It looks at disks, which may take a while; call it in a thread.

        ``avgLoad`` is the load average of 15 minutes; ``currentLoad`` the share of all processors in use, in percent,
        since the last look a second or more ago; memory and sizes are bytes; ``use`` is in percent.

        Raises:
            OSError: the system does not tell.
        """
        memory = psutil.virtual_memory()
        return {
            "avgLoad": round(psutil.getloadavg()[2], 2),
            "currentLoad": self._cpu_percent(),
            "memFree": memory.available,
            "memUsed": memory.total - memory.available,
            "fsSize": list(_file_systems(self._paths, self._reserved_bytes)),
        }

    def _cpu_percent(self) -> float:
        now = self._clock()
        if now - self._measured >= _SPAN:
            self._measured = now
            self._cpu = psutil.cpu_percent()
        return self._cpu


def _file_systems(paths: Sequence[Path], reserved_bytes: int) -> Iterator[dict[str, Any]]:
    """Yield each file system that holds one of the paths, once."""
    mounts = sorted(psutil.disk_partitions(all=True), key=lambda mount: len(mount.mountpoint), reverse=True)
    seen: set[str] = set()
    for path in paths:
        real = os.path.realpath(path)
        mount = next((one for one in mounts if _is_below(real, one.mountpoint)), None)
        place = mount.mountpoint if mount else "/"
        if place in seen:
            continue
        seen.add(place)
        try:
            usage = psutil.disk_usage(place)
        except OSError:
            continue  # a mount that went away, or that may not be looked at
        yield {
            "fs": mount.device if mount else place,
            "type": mount.fstype if mount else "",
            "size": usage.total,
            "used": usage.used,
            "available": max(0, usage.free - reserved_bytes),
            "use": usage.percent,
            "mount": place,
        }


def _is_below(path: str, mountpoint: str) -> bool:
    return path == mountpoint or path.startswith(mountpoint.rstrip("/") + "/")
