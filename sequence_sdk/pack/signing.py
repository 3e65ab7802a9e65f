"""Signatures over the list of hashes in a package: Ed25519, in the form of ``ssh-keygen -Y sign``.

So a key that is there for SSH can sign, and ``ssh-keygen -Y verify -n hub-lite-package`` can check.
Source: PROTOCOL.sshsig of OpenSSH.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .errors import FileUnusable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PASSPHRASE_VARIABLE: Final = "SCRAMJET_PACK_PASSPHRASE"  # noqa: S105 - a variable of the environment
NAMESPACE: Final = "hub-lite-package"  # signed too: a signature made for something else is none of a package

Passphrase = Callable[[], str | None]  # asked for once, if the key has one; None: there is nobody to ask

_KEY_TYPE: Final = b"ssh-ed25519"
_MAGIC: Final = b"SSHSIG"
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----\n"
_WIDTH: Final = 70
_MAX_KEY: Final = 64 * 1024  # bytes; a key has some hundred


class KeyUnusable(FileUnusable):
    """A file is no key to sign with."""


class NotASignature(ValueError):
    """The bytes are no Ed25519 signature of a package; ``str()`` of it says what they are not."""


class SigningKey:
    """A private key. ``repr`` does not show it."""

    def __init__(self, private: "Ed25519PrivateKey") -> None:
        self._private = private
        self.public_key: bytes = private.public_key().public_bytes_raw()

    def seal(self, message: bytes) -> bytes:
        """Return the signature file for a message: the same for the same message, for Ed25519 draws no random numbers."""
        hash_name = b"sha512"
        value = self._private.sign(_signed(hash_name, message))
        blob = (
            _MAGIC
            + struct.pack(">L", 1)
            + _string(key_blob(self.public_key))
            + _string(NAMESPACE.encode())
            + _string(b"")
            + _string(hash_name)
            + _string(_string(_KEY_TYPE) + _string(value))
        )
        text = base64.b64encode(blob)
        lines = [text[at : at + _WIDTH] + b"\n" for at in range(0, len(text), _WIDTH)]
        return b"".join((_BEGIN, *lines, _END))


def read_key(path: Path, passphrase: Passphrase) -> SigningKey:
    """Return the private key in a file: that of ``ssh-keygen -t ed25519``, or PKCS#8 in PEM.

    Raises:
        KeyUnusable: it cannot be read, or is something else, or the passphrase is not its own.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - only who signs waits for it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_pem_private_key,
        load_ssh_private_key,
    )

    try:
        with path.open("rb") as file:
            text = file.read(_MAX_KEY)
    except OSError as error:
        raise KeyUnusable(path, f"the key cannot be read ({error.strerror})") from error
    if text.startswith(_KEY_TYPE):
        raise KeyUnusable(path, "is a public key; name the private one, which has the same name without .pub")
    if b"PRIVATE KEY-----" not in text:
        raise KeyUnusable(path, "is no private key; make one with ssh-keygen -t ed25519")
    load = load_ssh_private_key if b"BEGIN OPENSSH PRIVATE KEY" in text else load_pem_private_key
    try:
        try:
            key = load(text, None)
        except TypeError:  # it has a passphrase
            secret = (passphrase() or "").encode(errors="surrogateescape")
            if not secret:
                raise KeyUnusable(
                    path, f"the key has a passphrase; say it with {PASSPHRASE_VARIABLE} in the environment"
                ) from None
            try:
                key = load(text, secret)
            except ValueError as error:
                raise KeyUnusable(path, f"the passphrase is wrong, or the key is damaged ({error})") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(path, f"the key cannot be used ({error})") from None
    if not isinstance(key, Ed25519PrivateKey):
        kind = type(key).__name__.strip("_").removesuffix("PrivateKey")
        raise KeyUnusable(
            path, f"is a key of the kind {kind}; packages are signed with Ed25519: ssh-keygen -t ed25519"
        )
    return SigningKey(key)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature, and the public key, of 32 bytes, that it says to be by."""

    public_key: bytes
    hash_name: bytes
    value: bytes

    def is_of(self, message: bytes) -> bool:
        """Tell whether the owner of the key has signed this message."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only who checks waits for it
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

        try:
            key = Ed25519PublicKey.from_public_bytes(self.public_key)
            key.verify(self.value, _signed(self.hash_name, message))
        except InvalidSignature:
            return False
        return True


def decode_signature(text: bytes) -> Signature:
    """Return what is in a signature file.

    Raises:
        NotASignature: it is none, or one of another kind or purpose.
    """
    if not (text.startswith(_BEGIN) and text.endswith(_END)):
        raise NotASignature("it is not what ssh-keygen -Y sign writes")
    try:
        blob = base64.b64decode(text[len(_BEGIN) : -len(_END)].replace(b"\n", b""), validate=True)
    except binascii.Error:
        raise NotASignature("what is between its first and last line is not base64") from None
    head = _MAGIC + struct.pack(">L", 1)
    if not blob.startswith(head):
        raise NotASignature("it is not of version 1 of SSH signatures")
    key, namespace, reserved, hash_name, value = _strings(blob[len(head) :], 5)
    if namespace != NAMESPACE.encode() or reserved or hash_name not in (b"sha256", b"sha512"):
        raise NotASignature(f"it was not made with the namespace {NAMESPACE}, and sha256 or sha512")
    kind, signed = _strings(value, 2)
    if kind != _KEY_TYPE:
        raise NotASignature("it was not made with an Ed25519 key")
    return Signature(public_key_in(key), hash_name, signed)


def key_blob(public_key: bytes) -> bytes:
    """Return a public key of 32 bytes as SSH writes it, which is what a fingerprint is of."""
    return _string(_KEY_TYPE) + _string(public_key)


def public_key_in(blob: bytes) -> bytes:
    """Return the 32 bytes of a public key as SSH writes it.

    Raises:
        NotASignature: it is no Ed25519 key.
    """
    kind, key = _strings(blob, 2)
    if kind != _KEY_TYPE or len(key) != 32:
        raise NotASignature("its key is not an Ed25519 one")
    return key


def fingerprint(public_key: bytes) -> str:
    """Return the name of a public key that ``ssh-keygen -l`` shows."""
    digest = hashlib.sha256(key_blob(public_key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _signed(hash_name: bytes, message: bytes) -> bytes:
    digest = hashlib.new(hash_name.decode(), message).digest()
    return _MAGIC + _string(NAMESPACE.encode()) + _string(b"") + _string(hash_name) + _string(digest)


def _string(content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + content


def _strings(blob: bytes, count: int) -> list[bytes]:
    """Return the strings that fill a blob, of which there must be so many."""
    found: list[bytes] = []
    while blob:
        size = int.from_bytes(blob[:4])
        if len(blob) < 4 + size:
            raise NotASignature("it is cut off")
        found.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    if len(found) != count:
        raise NotASignature(f"it has {len(found)} parts where {count} belong")
    return found
