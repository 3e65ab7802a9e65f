"""Packages from the npm registry, installed once and shared by all tests that need them."""

import fcntl
import json
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache" / "npm"
_TIMEOUT = 300.0  # seconds


def installed(name: str, version: str) -> Path:
    """Return the folder ``node_modules`` that has a package; the test is skipped where npm cannot install it."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip(f"npm is not installed here, and {name} is a Node package")
    CACHE.mkdir(parents=True, exist_ok=True)
    modules = CACHE / "node_modules"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes that run side by side share the folder
        if _version(modules / name) != version:
            wanted = f"{name}@{version}"
            install = [
                npm,
                "install",
                "--prefix",
                str(CACHE),
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                wanted,
            ]
            result = subprocess.run(install, capture_output=True, check=False, timeout=_TIMEOUT)
            if result.returncode != 0:
                pytest.skip(f"npm cannot install {wanted}: {result.stderr.decode()[-500:]}")
    return modules


def _version(package: Path) -> str:
    try:
        return str(json.loads((package / "package.json").read_text())["version"])
    except FileNotFoundError:
        return ""
