"""Make a Sequence package: a deterministic tar.gz of a folder or a file."""

from .archive import Progress
from .dependencies import KeptDependencies
from .errors import PackError
from .files import LeftOut, PackedFile
from .findings import Checked, check
from .package import PackResult, default_output, pack
from .progress import ProgressLine, progress_line
from .signing import read_key
from .target import Target

__all__ = [
    "Checked",
    "KeptDependencies",
    "LeftOut",
    "PackError",
    "PackResult",
    "PackedFile",
    "Progress",
    "ProgressLine",
    "Target",
    "check",
    "default_output",
    "pack",
    "progress_line",
    "read_key",
]
