"""Signed packages: whose signatures count, and whether a folder is what one of them has signed."""

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sequence_sdk.pack.errors import shown
from sequence_sdk.pack.signing import NotASignature, decode_signature, fingerprint, public_key_in
from sequence_sdk.pack.sums import SIGNATURE_NAME, SUMS_NAME, decode_sums

from .errors import HubError, PackageError
from .ports import StoredSequence
from .settings import SettingsError

_MAX_SUMS: Final = 64 * 1024 * 1024  # bytes; some hundred thousand files
_MAX_SIGNATURE: Final = 16 * 1024  # bytes; one has about 300
_MAX_KEYS: Final = 1024 * 1024  # bytes; some ten thousand keys
_SHOWN: Final = 5  # files that an error names


class TrustedKeysError(SettingsError):
    """The file of trusted keys cannot be used; ``str()`` of it says which, where and how one is made."""


class SignatureError(PackageError):
    """The package is not signed as this hub requires."""


class Unsigned(SignatureError):
    """There is no signature."""

    def __str__(self) -> str:
        return "The package is not signed, and this hub takes signed ones only: pack it with scramjet-pack --sign KEY."


class UnknownSigner(SignatureError):
    """The signature is by a key that this hub does not trust."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return (
            f"The package is signed by the key {self.key}, which this hub does not trust: "
            "sign it with another key, or have its public key added to the trusted keys of the hub."
        )


class WrongSignature(SignatureError):
    """There is a file for a signature, but what is in it does not sign this package."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"The signature of the package ({SIGNATURE_NAME}) is wrong: {self.why}. Pack and sign it once more."


class NotAsSigned(SignatureError):
    """The signature is good, but files are not those that were signed."""

    def __init__(self, what: str, names: Iterable[str]) -> None:
        self.what = what
        self.names = tuple(names)
        super().__init__(what, self.names)

    def __str__(self) -> str:
        listed = ", ".join(shown(name) for name in self.names[:_SHOWN])
        more = f" and {len(self.names) - _SHOWN} more" if len(self.names) > _SHOWN else ""
        return f"The package is not what was signed: {self.what}: {listed}{more}. Pack and sign it once more."


class NotSigned(HubError):
    """A Sequence that is here may not be started, for this hub does not trust who made it."""

    status = 403
    reason = "Forbidden"

    def __init__(self, sequence_id: str, why: str) -> None:
        super().__init__(sequence_id, why)
        self.sequence_id = sequence_id
        self.why = why

    def __str__(self) -> str:
        return f"Sequence {self.sequence_id} is not started, as this hub requires signatures: {self.why}"


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """The Ed25519 keys whose signatures count: a comment, which may be empty, by public key."""

    comments: Mapping[bytes, str]

    @classmethod
    def read(cls, path: Path) -> "TrustedKeys":
        """Return the keys in a file: public keys as SSH writes them, a line each; ``#`` begins a comment.

        Raises:
            TrustedKeysError: it cannot be read, has no key, or a line is something else.
        """
        try:
            with path.open("rb") as file:
                text = file.read(_MAX_KEYS + 1)
        except OSError as error:
            raise TrustedKeysError(
                f"trusted keys {path}: {error.strerror}. A hub that requires signatures needs this file, with a public "
                "key a line: ssh-keygen -t ed25519 makes a pair of keys, and the line is in its file with the ending .pub"
            ) from None
        if len(text) > _MAX_KEYS:
            raise TrustedKeysError(f"trusted keys {path}: the file has more than {_MAX_KEYS} bytes")
        comments: dict[bytes, str] = {}
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.decode(errors="replace").strip()
            if line and not line.startswith("#"):
                key, comment = _trusted(line, where=f"trusted keys {path}, line {number}")
                comments.setdefault(key, comment)
        if not comments:
            raise TrustedKeysError(
                f"trusted keys {path}: there is no key in it, so this hub would take no package. "
                "Add a public key a line, such as ssh-keygen -t ed25519 writes into the file with the ending .pub"
            )
        return cls(comments)

    def signer_of(self, folder: Path) -> str:
        """Return who has signed the package in a folder: the fingerprint of the key, and its comment.

        Every file is read, a block at a time.

        Raises:
            SignatureError: nobody who is trusted has signed exactly these files.
        """
        try:
            return self._signer_of(folder)
        except OSError as error:
            name = os.path.relpath(error.filename, folder) if isinstance(error.filename, str) else "a file"
            raise NotAsSigned(f"it cannot be read ({error.strerror})", [name]) from error

    def _signer_of(self, folder: Path) -> str:
        armored = _content(folder / SIGNATURE_NAME, _MAX_SIGNATURE)
        sums = _content(folder / SUMS_NAME, _MAX_SUMS)
        if armored is None:
            raise Unsigned
        if sums is None:
            raise WrongSignature(f"there is no {SUMS_NAME}, which it would be of")
        try:
            signature = decode_signature(armored)
        except NotASignature as error:
            raise WrongSignature(str(error)) from None
        if signature.public_key not in self.comments:
            raise UnknownSigner(fingerprint(signature.public_key))
        if not signature.is_of(sums):
            raise WrongSignature(f"{SUMS_NAME} is not what {self._named(signature.public_key)} has signed")
        try:
            hashes = decode_sums(sums)
        except ValueError as error:
            raise WrongSignature(f"{SUMS_NAME} is no list of hashes, {error}") from None
        _refuse_others(folder, hashes)
        return self._named(signature.public_key)

    def refuse_untrusted(self, sequence: StoredSequence) -> None:
        """Refuse to start what nobody has signed who is trusted now; one that is used in place is read for that.

        Raises:
            NotSigned: it is such a Sequence.
        """
        if not sequence.sha256:
            try:
                self.signer_of(sequence.directory)
            except SignatureError as error:
                raise NotSigned(sequence.id, str(error)) from None
        elif sequence.signer is None:
            raise NotSigned(sequence.id, "its package is not signed. Send a signed one in its place.")
        elif sequence.signer.partition(" ")[0] not in map(fingerprint, self.comments):
            raise NotSigned(
                sequence.id,
                f"its package is signed by {sequence.signer}, which is none of the trusted keys now. "
                "Send one that is signed with such a key in its place.",
            )

    def _named(self, key: bytes) -> str:
        return f"{fingerprint(key)} {self.comments[key]}".rstrip()


def _trusted(line: str, *, where: str) -> tuple[bytes, str]:
    kind, _, rest = line.partition(" ")
    if kind != "ssh-ed25519":
        raise TrustedKeysError(
            f"{where} must be an Ed25519 public key, ssh-ed25519 AAAA… with a comment, but it begins with {kind[:80]!r}"
        )
    text, _, comment = rest.strip().partition(" ")
    try:
        return public_key_in(base64.b64decode(text, validate=True)), " ".join(comment.split())
    except (binascii.Error, NotASignature, ValueError):
        raise TrustedKeysError(f"{where}: what follows ssh-ed25519 is no key; copy the whole line") from None


def _content(path: Path, most: int) -> bytes | None:
    """Return what is in a file, None if it is not there or is something else."""
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise WrongSignature(f"{path.name} has more than {most} bytes")
        return file.read(size)  # not `most`, for which room would be made


def _refuse_others(folder: Path, hashes: Mapping[str, str]) -> None:
    """Refuse a folder whose files are not these.

    Raises:
        NotAsSigned: a file is missing, added or changed.
    """
    found = set(_files(folder)) - {SUMS_NAME, SIGNATURE_NAME}
    if added := sorted(found - hashes.keys()):
        raise NotAsSigned("it has files that are not in the list", added)
    if missing := sorted(hashes.keys() - found):
        raise NotAsSigned("files of the list are missing", missing)
    changed = [name for name, digest in hashes.items() if _sha256(folder / name) != digest]
    if changed:
        raise NotAsSigned("files have another content", changed)


def _files(folder: Path) -> Iterator[str]:
    """Give the path of each file below a folder, as a package names it.

    Raises:
        NotAsSigned: there is something that is neither a file nor a folder, which no package has once it is unpacked.
    """
    folders = [""]
    while folders:
        prefix = folders.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{prefix}{entry.name}/")
                elif entry.is_file(follow_symlinks=False):
                    yield prefix + entry.name
                else:
                    raise NotAsSigned("it has something that is no file", [prefix + entry.name])


def _sha256(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, hashlib.sha256).hexdigest()
