"""The other end of a test, in the process of a runner: finds the Sequence where the test has it."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from .subject import load_file


def load(facts: Mapping[str, Any]) -> Any:
    """Return what the test wants to run.

    Args:
        facts: ``module`` and ``file`` of the module, the ``name`` in it, and the ``path`` of the test's process: what the test can
            import, the Sequence can.
    """
    sys.path += [folder for folder in facts["path"] if folder not in sys.path]
    return getattr(_module(facts["module"], Path(facts["file"])), facts["name"])


def _module(name: str, file: Path) -> ModuleType:
    """Import a module by its name, for its relative imports; or, where that leads elsewhere, from its file."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return load_file(name, file)
    found = getattr(module, "__file__", None)
    return module if found is not None and Path(found).resolve() == file else load_file(name, file)
