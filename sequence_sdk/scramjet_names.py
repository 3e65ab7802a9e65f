"""``import scramjet.streams`` for packages that expect it and bring none: it gives ``Stream`` and its errors.

Source: the names that packages made for ``scramjet-framework-py`` import.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from . import stream

_PACKAGE = "scramjet"
_NAMES: dict[str, dict[str, object]] = {
    "scramjet": {},
    "scramjet.streams": {
        "Stream": stream.Stream,
        "StringStream": stream.StringStream,
        "StreamAlreadyConsumed": stream.StreamAlreadyConsumed,
        "UnsupportedOperation": stream.UnsupportedOperation,
    },
    "scramjet.pyfca": {"WriteAfterEnd": stream.WriteAfterEnd, "MultipleEnd": stream.MultipleEnd},
}


class _Finder:
    """Finds the modules when nobody else has found them, and loads them.

    It is no subclass of what ``importlib.abc`` has for that: importing that takes longer than all the rest of the SDK's stream.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module comes from, if it is one of these; those of a ``scramjet`` that is not ours are not."""
        if fullname not in _NAMES:
            return None
        if fullname != _PACKAGE:
            package = sys.modules.get(_PACKAGE)
            if package is None or getattr(package.__spec__, "loader", None) is not self:
                return None
        loader: Any = self
        return ModuleSpec(fullname, loader, origin=stream.__file__, is_package=fullname == _PACKAGE)

    def create_module(self, _spec: ModuleSpec) -> None:
        """Leave it to Python to make an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill a module with its names."""
        module.__doc__ = f"Names of ``{module.__name__}``, given by ``sequence_sdk.stream``."
        vars(module).update(_NAMES[module.__name__])


_finder = _Finder()


def install() -> None:
    """Let ``import scramjet.streams`` work in this interpreter. A package that is there, now or later, wins.

    Safe to call twice.
    """
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
