"""Signatures: which keys sign, which do not, and what OpenSSH says of it."""

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.pack.errors import PackError
from sequence_sdk.pack.signing import (
    NAMESPACE,
    KeyUnusable,
    NotASignature,
    SigningKey,
    decode_signature,
    fingerprint,
    key_blob,
    public_key_in,
    read_key,
)

PRIVATE = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = SigningKey(PRIVATE)
MESSAGE = b"the list of hashes\n"
needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH")


def nobody() -> None:
    raise AssertionError("nobody was to be asked")


def text_of(private, kind=PrivateFormat.OpenSSH, passphrase: str = "") -> bytes:
    hidden = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return private.private_bytes(Encoding.PEM, kind, hidden)


def at(tmp_path: Path, text: bytes) -> Path:
    path = tmp_path / "key"
    path.write_bytes(text)
    return path


def public_line(name: str = "me@here") -> str:
    line = PRIVATE.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return f"{line.decode()} {name}\n"


def ssh_keygen(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ssh-keygen", *arguments], input=stdin, capture_output=True, check=False)


@given(st.binary())
def test_what_is_sealed_is_signed_by_the_key_and_nothing_else_is(message):
    signature = decode_signature(KEY.seal(message))
    assert signature.public_key == KEY.public_key
    assert signature.is_of(message)
    assert not signature.is_of(message + b"x")
    assert KEY.seal(message) == KEY.seal(message)


@given(st.data())
def test_a_signature_with_a_byte_changed_is_none_or_none_of_this_message(data):
    text = bytearray(KEY.seal(MESSAGE))
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] ^= data.draw(st.integers(1, 255))
    try:
        signature = decode_signature(bytes(text))
    except NotASignature:
        return
    same = base64.b64decode(bytes(text[30:-28])) == base64.b64decode(KEY.seal(MESSAGE)[30:-28])
    assert same or signature.public_key != KEY.public_key or not signature.is_of(MESSAGE)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_signature_or_said_to_be_none(blob):
    head = b"SSHSIG\0\0\0\1"
    for content in (blob, head + blob):
        armored = b"-----BEGIN SSH SIGNATURE-----\n%s\n-----END SSH SIGNATURE-----\n"
        with pytest.raises(NotASignature):
            decode_signature(armored % base64.b64encode(content))


@pytest.mark.parametrize("kind", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8], ids=["openssh", "pkcs8"])
def test_keys_of_openssh_and_openssl_sign(tmp_path, kind):
    path = at(tmp_path, text_of(PRIVATE, kind))
    assert read_key(path, nobody).seal(MESSAGE) == KEY.seal(MESSAGE)


@pytest.mark.parametrize("kind", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8], ids=["openssh", "pkcs8"])
def test_a_key_with_a_passphrase_asks_for_it_once(tmp_path, kind):
    path = at(tmp_path, text_of(PRIVATE, kind, "zażółć"))
    asked = []
    key = read_key(path, lambda: asked.append(1) or "zażółć")
    assert (key.seal(MESSAGE), asked) == (KEY.seal(MESSAGE), [1])
    with pytest.raises(KeyUnusable, match="key: the passphrase is wrong, or the key is damaged"):
        read_key(path, lambda: "another")
    for silence in (None, ""):
        with pytest.raises(KeyUnusable, match="has a passphrase; say it with SCRAMJET_PACK_PASSPHRASE"):
            read_key(path, lambda silence=silence: silence)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (text_of(ec.generate_private_key(ec.SECP256R1())), "is a key of the kind EC"),
        (text_of(rsa.generate_private_key(65537, 2048), PrivateFormat.PKCS8), "is a key of the kind RSA"),
        (text_of(ed448.Ed448PrivateKey.generate(), PrivateFormat.PKCS8), "is a key of the kind Ed448"),
        (public_line().encode(), "is a public key; name the private one"),
        (b"junk\xff\n", "is no private key; make one with ssh-keygen -t ed25519"),
        (b"", "is no private key"),
        (text_of(PRIVATE)[:150], "the key cannot be used"),
        (text_of(PRIVATE, PrivateFormat.PKCS8)[:60], "the key cannot be used"),
    ],
    ids=["ec", "rsa", "ed448", "public", "junk", "empty", "half an openssh key", "half a pkcs8 key"],
)
def test_what_is_no_ed25519_key_is_refused_with_what_it_is(tmp_path, text, words):
    with pytest.raises(KeyUnusable) as caught:
        read_key(at(tmp_path, text), nobody)
    assert isinstance(caught.value, PackError)
    assert str(caught.value).startswith(f"{tmp_path}/key: ")
    assert words in str(caught.value)


def test_a_key_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(KeyUnusable, match=r"none: the key cannot be read \(No such file or directory\)"):
        read_key(tmp_path / "none", nobody)
    with pytest.raises(KeyUnusable, match=r"the key cannot be read \(Is a directory\)"):
        read_key(tmp_path, nobody)


def string(content: bytes) -> bytes:
    return len(content).to_bytes(4) + content


def armored(*parts: bytes, head: bytes = b"SSHSIG\0\0\0\1") -> bytes:
    text = base64.b64encode(head + b"".join(string(part) for part in parts))
    return b"-----BEGIN SSH SIGNATURE-----\n%s\n-----END SSH SIGNATURE-----\n" % text


BLOB = key_blob(KEY.public_key)
VALUE = string(b"ssh-ed25519") + string(bytes(64))
OURS = NAMESPACE.encode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not what ssh-keygen -Y sign writes"),
        (KEY.seal(MESSAGE)[:-1], "not what ssh-keygen -Y sign writes"),
        (b"-----BEGIN SSH SIGNATURE-----\n?\n-----END SSH SIGNATURE-----\n", "not base64"),
        (armored(head=b"SSHSIG\0\0\0\2"), "version 1"),
        (armored(BLOB, b"git", b"", b"sha512", VALUE), "namespace hub-lite-package"),
        (armored(BLOB, OURS, b"x", b"sha512", VALUE), "namespace hub-lite-package"),
        (armored(BLOB, OURS, b"", b"md5", VALUE), "sha256 or sha512"),
        (armored(BLOB, OURS, b"", b"sha512"), "4 parts where 5 belong"),
        (armored(BLOB, OURS, b"", b"sha512", VALUE, b""), "6 parts where 5 belong"),
        (armored(BLOB, OURS, b"", b"sha512", VALUE[:-1]), "cut off"),
        (
            armored(BLOB, OURS, b"", b"sha512", string(b"ssh-rsa") + string(b"")),
            "not made with an Ed25519 key",
        ),
        (armored(string(b"ssh-rsa") + string(bytes(32)), OURS, b"", b"sha512", VALUE), "not an Ed25519 one"),
        (armored(key_blob(bytes(31)), OURS, b"", b"sha512", VALUE), "not an Ed25519 one"),
    ],
    ids=[
        "nothing", "cut off", "no base64", "version 2", "other namespace", "reserved", "other hash", "too few parts",
        "too many parts", "part cut off", "other signature", "other key", "short key",
    ],
)  # fmt: skip
def test_other_signatures_are_refused_with_what_they_are_not(text, words):
    with pytest.raises(NotASignature, match=words):
        decode_signature(text)


def test_a_signature_of_zeros_is_of_nothing():
    for size in (64, 0):
        value = string(b"ssh-ed25519") + string(bytes(size))
        assert not decode_signature(armored(BLOB, OURS, b"", b"sha512", value)).is_of(MESSAGE)
        nobodys = key_blob(b"\xff" * 32)
        assert not decode_signature(armored(nobodys, OURS, b"", b"sha512", value)).is_of(MESSAGE)


def test_a_public_key_is_read_from_what_ssh_writes():
    assert public_key_in(base64.b64decode(public_line().split()[1])) == KEY.public_key


@needs_ssh_keygen
def test_ssh_keygen_verifies_what_is_sealed(tmp_path):
    (tmp_path / "signers").write_text(f"me {public_line()}")
    (tmp_path / "sig").write_bytes(KEY.seal(MESSAGE))
    verify = ("-Y", "verify", "-f", tmp_path / "signers", "-I", "me", "-n", NAMESPACE, "-s", tmp_path / "sig")
    good = ssh_keygen(*verify, stdin=MESSAGE)
    assert good.returncode == 0, good.stderr
    assert fingerprint(KEY.public_key).encode() in good.stdout
    assert ssh_keygen(*verify, stdin=MESSAGE + b"x").returncode != 0


@needs_ssh_keygen
@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_what_ssh_keygen_signs_is_verified(tmp_path, hash_name):
    path = at(tmp_path, text_of(PRIVATE))
    path.chmod(0o600)
    options = ("-O", f"hashalg={hash_name}")
    made = ssh_keygen("-Y", "sign", "-f", path, "-n", NAMESPACE, *options, stdin=MESSAGE)
    assert made.returncode == 0, made.stderr
    signature = decode_signature(made.stdout)
    assert (signature.public_key, signature.is_of(MESSAGE)) == (KEY.public_key, True)
    if hash_name == "sha512":
        assert made.stdout == KEY.seal(MESSAGE)


@needs_ssh_keygen
@pytest.mark.parametrize("passphrase", ["", "secret"])
def test_a_key_made_by_ssh_keygen_signs(tmp_path, passphrase):
    path = tmp_path / "key"
    made = ssh_keygen("-q", "-t", "ed25519", "-N", passphrase, "-C", "me", "-f", path)
    assert made.returncode == 0, made.stderr
    key = read_key(path, lambda: passphrase)
    assert decode_signature(key.seal(MESSAGE)).is_of(MESSAGE)
    assert fingerprint(key.public_key).encode() in ssh_keygen("-l", "-f", path).stdout


def test_packing_without_a_key_loads_no_cryptography():
    code = "import sys, sequence_sdk.pack, sequence_sdk.pack.signing; sys.exit('cryptography' in sys.modules)"
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}, check=False
    )
    assert ran.returncode == 0
