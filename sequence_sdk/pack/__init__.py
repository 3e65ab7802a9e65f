"""Make a Sequence package: a deterministic tar.gz of a folder."""

from .archive import Progress
from .errors import PackError
from .files import LeftOut
from .package import PackResult, default_output, pack

__all__ = ["LeftOut", "PackError", "PackResult", "Progress", "default_output", "pack"]
