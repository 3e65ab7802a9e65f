"""Waits for a debugger before the author's code is loaded: ``hub-lite dev --debug``."""

import asyncio
import contextlib
import importlib
import json
import os
import sys
import threading
from typing import Any

from .errors import RunnerError
from .protocol.exit_codes import ExitCode

_PATHS = "PATHS_FROM_ECLIPSE_TO_PYTHON"  # pydevd's way to be told where the debugger finds the files
HOST = "127.0.0.1"  # who reaches a debugger can run anything


class NoDebugger(RunnerError):
    """Nobody can wait for a debugger here."""

    exit_code = ExitCode.SEQUENCE_FAILED_ON_START


async def wait_for_debugger(port: int, *, source: str = "", package: str = "") -> None:
    """Listen for a debugger that speaks the Debug Adapter Protocol, and return when it has set its breakpoints.

    The loop goes on meanwhile, so that a stop or a kill works; who cancels this leaves the port open. The author's folders are on
    ``sys.path`` by now: a debugpy in their ``__pypackages__`` is as good as an installed one.

    Args:
        port: on 127.0.0.1; 0 takes any free one.
        source: the folder that the author edits; breakpoints are set in its files.
        package: the folder that the code is loaded from.

    Raises:
        NoDebugger: there is no debugpy, or it cannot listen there.
    """
    if source and package:
        os.environ.setdefault(_PATHS, json.dumps([[source, package]]))  # read when debugpy is imported
    debugpy = _debugpy()
    try:
        host, port = debugpy.listen((HOST, port))  # in this thread, which is the one to debug
    except (OSError, RuntimeError) as error:
        raise NoDebugger(
            f"a debugger cannot be waited for on {HOST}:{port}: {error}; choose another port with `--debug PORT`"
        ) from error
    print(
        f"waiting for a debugger on {host}:{port} (attach with VS Code: "
        f'{{"type": "debugpy", "request": "attach", "connect": {{"host": "{host}", "port": {port}}}}})',
        file=sys.stderr,
        flush=True,
    )
    await _attached(debugpy)


def _debugpy() -> Any:
    try:
        return importlib.import_module("debugpy")
    except ModuleNotFoundError as error:
        if error.name != "debugpy":
            raise
        raise NoDebugger(
            f"--debug needs debugpy in the Python that runs the Sequence ({sys.executable}): `pip install debugpy`"
        ) from None


async def _attached(debugpy: Any) -> None:
    loop = asyncio.get_running_loop()
    attached = asyncio.Event()

    def wait() -> None:
        debugpy.wait_for_client()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the Instance was stopped instead
            loop.call_soon_threadsafe(attached.set)

    threading.Thread(target=wait, name="debugger", daemon=True).start()
    try:
        await attached.wait()
    except asyncio.CancelledError:
        debugpy.wait_for_client.cancel()
        raise
