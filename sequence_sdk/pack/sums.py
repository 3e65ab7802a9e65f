"""The list of hashes in a package, in the form that coreutils' ``sha256sum`` writes and checks."""

import re
from collections.abc import Mapping
from typing import Final

SUMS_NAME: Final = ".sequence/SHA256SUMS"
SIGNATURE_NAME: Final = ".sequence/SHA256SUMS.sig"

_ESCAPED: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})
_MEANT: Final = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}
_LINE: Final = re.compile(r"(\\?)([0-9a-f]{64})  (.+)")


def encode_sums(hashes: Mapping[str, str]) -> bytes:
    """Return the list of files with their hashes in hexadecimal, a line each, sorted by name.

    A name with a backslash or an end of line is escaped, and its line begins with a backslash.
    """
    return "".join(_line(name, hashes[name]) for name in sorted(hashes)).encode()


def decode_sums(text: bytes) -> dict[str, str]:
    """Return the hashes in hexadecimal by file.

    Raises:
        ValueError: it is not what ``encode_sums`` gives for any files; the text says where that is seen.
    """
    hashes: dict[str, str] = {}
    for number, line in enumerate(text.decode().split("\n")[:-1], 1):
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"line {number} is not a hash and a name")
        name = re.sub(r"\\[\\nr]", lambda escape: _MEANT[escape[0]], found[3]) if found[1] else found[3]
        hashes[name.removeprefix("./")] = found[2]
    if encode_sums(hashes) != text:
        raise ValueError("its lines are not sorted, or a name is spelled in another way than sha256sum does")
    return hashes


def _line(name: str, digest: str) -> str:
    if name == "-":  # which is standard input to sha256sum
        name = "./-"
    escaped = name.translate(_ESCAPED)
    mark = "" if escaped == name else "\\"
    return f"{mark}{digest}  {escaped}\n"
