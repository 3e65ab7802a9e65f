"""Signed packages: whose signatures count, and that a folder is exactly what was signed."""

import asyncio
import base64
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.errors import HubError, NotFound
from hub_lite.hub import Hub
from hub_lite.instances import StartPayload
from hub_lite.settings import Settings, SettingsError
from hub_lite.signatures import (
    NotAsSigned,
    NotSigned,
    SignatureError,
    TrustedKeys,
    TrustedKeysError,
    UnknownSigner,
    Unsigned,
    WrongSignature,
)
from sequence_sdk.pack.archive import write_stream
from sequence_sdk.pack.files import PackedFile
from sequence_sdk.pack.signing import SigningKey, fingerprint, key_blob
from sequence_sdk.pack.sums import SIGNATURE_NAME, SUMS_NAME

from .fakes import FakeAdapter, FakeStore, stored_sequence


def key(number: int) -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)))


def public_line(one: SigningKey, comment: str = "") -> str:
    return f"ssh-ed25519 {base64.b64encode(key_blob(one.public_key)).decode()} {comment}".rstrip()


ANN, BOB = key(1), key(2)
ANNS = TrustedKeys({ANN.public_key: "ann@example.com"})
NAME = f"{fingerprint(ANN.public_key)} ann@example.com"
FILES = {
    "package.json": b'{"main": "main.py"}',
    "main.py": b"def run(context, input): ...\n",
    "ą b/two\nlines": b"x" * 3000,
    "__pycache__/main.pyc": b"",
}


def signed(
    folder: Path, signer: SigningKey | None = ANN, files: Mapping[str, bytes] = FILES, *, empty: bool = True
) -> Path:
    """Return a folder with an unpacked package."""
    packed = io.BytesIO()
    entries = [PackedFile(name, Path(name), len(text), content=text) for name, text in files.items()]
    write_stream(packed, entries, seal=None if signer is None else signer.seal)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as tar:
        tar.extractall(folder, filter="data")
    if empty:
        (folder / "empty").mkdir()
    return folder


def refused(folder: Path, keys: TrustedKeys = ANNS) -> SignatureError:
    with pytest.raises(SignatureError) as caught:
        keys.signer_of(folder)
    assert caught.value.status == 422
    return caught.value


def test_the_signer_is_named_with_fingerprint_and_comment(tmp_path):
    assert ANNS.signer_of(signed(tmp_path / "it")) == NAME
    without = TrustedKeys({BOB.public_key: "", ANN.public_key: ""})
    assert without.signer_of(tmp_path / "it") == fingerprint(ANN.public_key)


def test_a_package_without_a_signature_is_refused(tmp_path):
    error = refused(signed(tmp_path / "it", None))
    assert isinstance(error, Unsigned)
    assert str(error) == (
        "The package is not signed, and this hub takes signed ones only: pack it with scramjet-pack --sign KEY."
    )
    (tmp_path / "nothing").mkdir()
    assert isinstance(refused(tmp_path / "nothing"), Unsigned)


def test_a_package_by_an_unknown_key_is_refused_with_its_fingerprint(tmp_path):
    error = refused(signed(tmp_path / "it", BOB))
    assert isinstance(error, UnknownSigner)
    assert fingerprint(BOB.public_key) in str(error)
    assert "which this hub does not trust" in str(error)


def test_a_signature_of_another_list_is_refused(tmp_path):
    folder, other = signed(tmp_path / "it"), signed(tmp_path / "other", files={"package.json": b"{}"})
    shutil.copy(other / SIGNATURE_NAME, folder / SIGNATURE_NAME)
    error = refused(folder)
    assert isinstance(error, WrongSignature)
    assert f".sequence/SHA256SUMS is not what {NAME} has signed" in str(error)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (SIGNATURE_NAME, b"by me", "it is not what ssh-keygen -Y sign writes"),
        (SIGNATURE_NAME, b"x" * 100_000, "SHA256SUMS.sig has more than 16384 bytes"),
        (SUMS_NAME, None, "there is no .sequence/SHA256SUMS, which it would be of"),
    ],
    ids=["no signature", "a huge one", "no list"],
)
def test_what_is_no_signature_is_refused_with_the_reason(tmp_path, name, content, words):
    folder = signed(tmp_path / "it")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    error = refused(folder)
    assert isinstance(error, WrongSignature)
    assert words in str(error)


def test_a_signed_list_that_is_no_list_is_refused(tmp_path):
    folder = signed(tmp_path / "it")
    (folder / SUMS_NAME).write_bytes(b"nothing\n")
    (folder / SIGNATURE_NAME).write_bytes(ANN.seal(b"nothing\n"))
    assert "is no list of hashes, line 1 is not a hash and a name" in str(refused(folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda it: (it / "main.py").write_bytes(b"evil"), "files have another content: main.py."),
        (lambda it: (it / "empty/json.py").touch(), "files that are not in the list: empty/json.py."),
        (lambda it: (it / ".sequence/SHA256SUMS.old").touch(), "not in the list: .sequence/SHA256SUMS.old."),
        (lambda it: (it / "main.py").unlink(), "files of the list are missing: main.py."),
        (lambda it: (it / "main.py").rename(it / "main2.py"), "not in the list: main2.py."),
        (lambda it: (it / "link").symlink_to("main.py"), "something that is no file: link."),
        (lambda it: (it / "empty/lib").symlink_to("/"), "something that is no file: empty/lib."),
        (lambda it: os.mkfifo(it / "pipe"), "something that is no file: pipe."),
        (lambda it: Path(os.fsdecode(os.fsencode(it) + b"/\xff")).touch(), "not in the list: \\xff."),
        (
            lambda it: [(it / f"{number}").touch() for number in range(8)],
            "not in the list: 0, 1, 2, 3, 4 and 3 more.",
        ),
    ],
    ids=[
        "changed", "added", "added beside the list", "missing", "renamed", "link", "link to a folder", "pipe", "no UTF-8",
        "many",
    ],
)  # fmt: skip
def test_a_file_that_is_not_as_signed_is_named(tmp_path, change, words):
    folder = signed(tmp_path / "it")
    change(folder)
    error = refused(folder)
    assert isinstance(error, NotAsSigned)
    assert words in str(error)


def test_a_link_is_no_list_and_no_signature(tmp_path):
    for name in (SIGNATURE_NAME, SUMS_NAME):
        folder = signed(tmp_path / name.rpartition(".")[2])
        (folder / name).rename(tmp_path / "elsewhere")
        (folder / name).symlink_to(tmp_path / "elsewhere")
        refused(folder)


def test_a_folder_that_cannot_be_read_is_said_so():
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = signed(Path(place, "it"))
        (folder / "main.py").chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            assert "it cannot be read (Permission denied): main.py" in str(refused(folder))
        finally:
            os.seteuid(user)


@given(st.data())
def test_a_package_with_any_byte_of_any_file_changed_is_refused(data):
    with tempfile.TemporaryDirectory() as place:
        folder = signed(Path(place, "it"))
        name = data.draw(
            st.sampled_from([*(name for name in FILES if FILES[name]), SUMS_NAME, SIGNATURE_NAME])
        )
        content = bytearray((folder / name).read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        (folder / name).write_bytes(content)
        error = refused(folder)
        if name in FILES:
            assert isinstance(error, NotAsSigned)
            assert error.names == (name,)


def test_memory_does_not_grow_with_the_files(tmp_path):
    folder = signed(tmp_path / "it", files={"big": bytes(24 * 1024 * 1024)})
    ANNS.signer_of(folder)  # loads what it needs
    tracemalloc.start()
    try:
        ANNS.signer_of(folder)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# --- trusted keys -------------------------------------------------------------------------------------------------


def test_the_file_of_trusted_keys_is_one_of_public_keys_of_ssh(tmp_path):
    file = tmp_path / "trusted_keys"
    file.write_text(
        f"# people\n\n  {public_line(ANN, 'ann  example')}\r\n{public_line(BOB)}\n{public_line(ANN, 'again')}\n"
    )
    assert TrustedKeys.read(file).comments == {ANN.public_key: "ann example", BOB.public_key: ""}


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH")
def test_what_ssh_keygen_writes_is_trusted_and_named_as_it_does(tmp_path):
    made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me at home", "-f", tmp_path / "k"]
    subprocess.run(made, check=True)
    shown = subprocess.run(["ssh-keygen", "-l", "-f", tmp_path / "k.pub"], capture_output=True, check=True)
    keys = TrustedKeys.read(tmp_path / "k.pub")
    folder = signed(tmp_path / "it", None)
    sign = [
        "ssh-keygen",
        "-q",
        "-Y",
        "sign",
        "-f",
        tmp_path / "k",
        "-n",
        "hub-lite-package",
        folder / SUMS_NAME,
    ]
    subprocess.run(sign, check=True)
    assert f" {keys.signer_of(folder)} (".encode() in shown.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "there is no key in it, so this hub would take no package. Add a public key a line"),
        (b"# nobody\n", "there is no key in it"),
        (b"\nssh-rsa AAAA me\n", "line 2 must be an Ed25519 public key, ssh-ed25519 AAAA… with a comment"),
        (f"me {public_line(ANN)}\n".encode(), "line 1 must be an Ed25519 public key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "but it begins with '-----BEGIN'"),
        (b"ssh-ed25519\n", "line 1: what follows ssh-ed25519 is no key; copy the whole line"),
        (b"ssh-ed25519 AAAA me\n", "what follows ssh-ed25519 is no key"),
        (public_line(ANN)[:-4].encode(), "what follows ssh-ed25519 is no key"),
        (b"ssh-ed25519 \xff\xfe me\n", "what follows ssh-ed25519 is no key"),
        (b"#" * 2_000_000, "has more than 1048576 bytes"),
    ],
    ids=["empty", "comments", "rsa", "principal", "private", "no key", "short", "cut", "no text", "huge"],
)
def test_a_file_of_trusted_keys_that_is_wrong_is_said_where(tmp_path, text, words):
    (tmp_path / "keys").write_bytes(text)
    with pytest.raises(TrustedKeysError) as caught:
        TrustedKeys.read(tmp_path / "keys")
    assert isinstance(caught.value, SettingsError)
    assert str(caught.value).startswith(f"trusted keys {tmp_path}/keys")
    assert words in str(caught.value)


@given(st.binary(max_size=200))
def test_any_file_of_trusted_keys_gives_keys_or_a_sentence(text):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "keys")
        for content in (text, b"ssh-ed25519 " + text):
            path.write_bytes(content)
            with pytest.raises(TrustedKeysError):
                TrustedKeys.read(path)


def test_a_missing_file_of_trusted_keys_is_said_with_how_one_is_made(tmp_path):
    with pytest.raises(TrustedKeysError, match=r"keys: No such file or directory\. .* ssh-keygen -t ed25519"):
        TrustedKeys.read(tmp_path / "keys")
    with pytest.raises(TrustedKeysError, match="Is a directory"):
        TrustedKeys.read(tmp_path)


# --- starts -------------------------------------------------------------------------------------------------------


def test_a_package_whose_signer_is_trusted_now_may_be_started_whatever_the_comment_was():
    for name in (NAME, fingerprint(ANN.public_key), f"{fingerprint(ANN.public_key)} before she married"):
        ANNS.refuse_untrusted(replace(stored_sequence("s"), signer=name))


@pytest.mark.parametrize(
    ("signer", "words"),
    [
        (None, "its package is not signed"),
        (f"{fingerprint(BOB.public_key)} bob", "none of the trusted keys now"),
    ],
    ids=["unsigned", "key taken out"],
)
def test_a_package_whose_signer_is_not_trusted_now_is_not_started(signer, words):
    with pytest.raises(NotSigned) as caught:
        ANNS.refuse_untrusted(replace(stored_sequence("s"), signer=signer))
    assert isinstance(caught.value, HubError)
    assert caught.value.status == 403
    assert str(caught.value).startswith("Sequence s is not started, as this hub requires signatures: ")
    assert words in str(caught.value)


def test_a_sequence_that_is_used_in_place_is_looked_at_when_it_is_started(tmp_path):
    in_place = replace(stored_sequence("s"), sha256="", directory=signed(tmp_path / "it"))
    ANNS.refuse_untrusted(in_place)
    (tmp_path / "it/main.py").write_bytes(b"evil")
    with pytest.raises(NotSigned, match=r"another content: main\.py"):
        ANNS.refuse_untrusted(in_place)


async def test_a_sequence_that_is_deleted_while_it_is_looked_at_is_not_started(tmp_path):
    looking, may_go_on = threading.Event(), threading.Event()

    def look(_sequence: object) -> None:
        looking.set()
        assert may_go_on.wait(30)

    adapter = FakeAdapter()
    hub = Hub(Settings(data_dir=tmp_path), FakeStore(stored_sequence("s" * 36)), adapter, look)
    await hub.open()
    try:
        start = asyncio.create_task(hub.start("s" * 36, StartPayload()))
        assert await asyncio.to_thread(looking.wait, 30)
        await hub.delete_sequence("s" * 36, force=False)
        may_go_on.set()
        with pytest.raises(NotFound):
            await start
        assert hub.instances() == []
    finally:
        may_go_on.set()
        await hub.close()


async def test_a_sequence_that_is_refused_is_not_started(tmp_path):
    store = FakeStore(replace(stored_sequence("s" * 36), signer=None))
    hub = Hub(Settings(data_dir=tmp_path), store, FakeAdapter(), ANNS.refuse_untrusted)
    await hub.open()
    try:
        with pytest.raises(NotSigned):
            await hub.start("s" * 36, StartPayload())
        assert hub.instances() == []
    finally:
        await hub.close()
