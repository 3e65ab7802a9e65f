"""Make a Sequence package: a deterministic tar.gz of a folder or a file."""

from .archive import Progress
from .errors import PackError
from .files import LeftOut, PackedFile
from .findings import Checked, check
from .package import PackResult, default_output, pack

__all__ = [
    "Checked",
    "LeftOut",
    "PackError",
    "PackResult",
    "PackedFile",
    "Progress",
    "check",
    "default_output",
    "pack",
]
