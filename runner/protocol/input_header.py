"""The prologue of the input channel: an HTTP-like header that names the content type.

Source: docs/protocol.md, "Input prologue".
"""

from .errors import LocalProtocolError, RemoteProtocolError

MAX_HEADER = 16 * 1024  # bytes; a peer that never ends its header must not fill us
_END = b"\r\n\r\n"


def encode_input_header(content_type: str) -> bytes:
    """Return the prologue for a content type.

    Raises:
        LocalProtocolError: the type has a line break or is not Latin-1, which would forge a header.
    """
    if not content_type.isprintable():
        raise LocalProtocolError(f"a content type is one printable line, not {content_type!r}")
    try:
        return f"Content-Type: {content_type}".encode("latin-1") + _END
    except UnicodeEncodeError:
        raise LocalProtocolError(f"a content type is Latin-1 text, not {content_type!r}") from None


class InputHeaderDecoder:
    """Collects the prologue from chunks cut anywhere, at byte level: what follows it may be binary."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, chunk: bytes) -> tuple[dict[str, str], bytes] | None:
        """Return the headers (names in lower case) and the bytes after them, or None while they are incomplete.

        Raises:
            RemoteProtocolError: a line is no header, or the header is longer than 16 KiB.
        """
        searched = max(len(self._held) - len(_END) + 1, 0)
        self._held += chunk
        end = self._held.find(_END, searched)
        if end > MAX_HEADER or (end < 0 and len(self._held) >= MAX_HEADER + len(_END)):
            raise RemoteProtocolError(f"the input header is longer than {MAX_HEADER} bytes")
        if end < 0:
            return None
        headers: dict[str, str] = {}
        for line in bytes(self._held[:end]).decode("latin-1").split("\r\n"):
            name, separator, value = line.partition(":")
            if not separator or not name.strip():
                raise RemoteProtocolError(f"the input header has a line that is no header: {line[:80]!r}")
            headers[name.strip().lower()] = value.strip()
        return headers, bytes(self._held[end + len(_END) :])

    def end(self) -> None:
        """Say that no more bytes come.

        Raises:
            RemoteProtocolError: the stream ended inside the header. An input without a single byte is merely empty.
        """
        if self._held:
            raise RemoteProtocolError(f"the input ended inside its header, after {len(self._held)} bytes")
