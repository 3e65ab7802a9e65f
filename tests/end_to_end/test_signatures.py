"""A hub that requires signatures: what it takes, what it starts, and what it says of the rest."""

import io
import json
import tarfile
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sequence_sdk.pack.archive import write_stream
from sequence_sdk.pack.files import PackedFile
from sequence_sdk.pack.signing import SigningKey, fingerprint

from .harness import Answer, HubProcess, Talk, hub_lite, make_archive, running_hub, talking_to

OCTETS = {"Content-Type": "application/octet-stream"}
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ANN = SigningKey(PRIVATE)
EVE = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
PUBLIC = PRIVATE.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
ECHO = """
import words

async def run(context, input):
    async for line in input:
        yield words.HELLO + line
"""
CODE = """
import words

def run(context, input):
    yield words.HELLO + "\\n"
"""


def signed(signer: SigningKey | None = ANN, hello: str = "hello", code: str = CODE) -> bytes:
    files = {
        "main.py": code,
        "package.json": json.dumps({"name": "test", "main": "main.py", "engines": {"python3": ">=3.11"}}),
        "words.py": f"HELLO = {hello!r}\n",
    }
    packed = io.BytesIO()
    entries = [PackedFile(name, Path(name), len(text), content=text.encode()) for name, text in files.items()]
    write_stream(packed, entries, seal=None if signer is None else signer.seal)
    return packed.getvalue()


def tampered(package: bytes, name: str, content: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    return make_archive(*{**files, name: content}.items())


def requiring(folder: Path, *options: str) -> AbstractContextManager[HubProcess]:
    return running_hub(folder, "--require-signature", "--trusted-keys", str(folder / "keys"), *options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "keys").write_text(f"{PUBLIC} ann@example.com\n")
    return tmp_path


async def send(talk: Talk, package: bytes, *, replacing: str = "") -> Answer:
    method, path = ("PUT", f"/sequence/{replacing}") if replacing else ("POST", "/sequence")
    return await talk.ask(method, path, data=package, headers=OCTETS)


async def start(talk: Talk, sequence: str) -> Answer:
    return await talk.ask("POST", f"/sequence/{sequence}/start")


async def output(talk: Talk, sequence: str) -> bytes:
    instance = (await start(talk, sequence)).json["id"]
    return await talk.read(instance)


async def test_signed_packages_run_and_others_are_refused(folder):
    with requiring(folder) as hub:
        async with talking_to(hub.url) as talk:
            good = (await send(talk, signed())).json["id"]
            assert await output(talk, good) == b"hello\n"
            for package, words in (
                (signed(None), "The package is not signed"),
                (signed(EVE), f"by the key {fingerprint(EVE.public_key)}, which this hub does not trust"),
                (tampered(signed(), "words.py", b"HELLO = 'evil'\n"), "another content: words.py."),
                (tampered(signed(), "json.py", b""), "not in the list: json.py."),
                (tampered(signed(), ".sequence/SHA256SUMS.sig", b""), "is wrong"),
            ):
                for replacing in ("", good):
                    answer = await send(talk, package, replacing=replacing)
                    assert answer.status == 422
                    assert words in answer.error
            assert await output(talk, good) == b"hello\n", "it is as before"
            assert (await send(talk, signed(hello="again"), replacing=good)).status == 200
            assert await output(talk, good) == b"again\n"
            assert [one["id"] for one in await talk.get("/sequences")] == [good]
        assert not any(name.startswith("staging/") for name in hub.files())
        assert hub.end() == 0
    with requiring(folder) as hub:
        async with talking_to(hub.url) as talk:
            assert await output(talk, good) == b"again\n", "after a restart too"


async def test_what_came_before_the_hub_required_signatures_is_not_started_until_it_is_sent_once_more(folder):
    with running_hub(folder) as hub:
        async with talking_to(hub.url) as talk:
            unsigned = (await send(talk, signed(None))).json["id"]
            unchecked = (await send(talk, signed())).json["id"]
            assert await output(talk, unsigned) == await output(talk, unchecked) == b"hello\n"
        hub.end()
    with requiring(folder) as hub:
        async with talking_to(hub.url) as talk:
            for sequence in (unsigned, unchecked):
                answer = await start(talk, sequence)
                assert (answer.status, answer.reason) == (403, "Forbidden")
                assert f"Sequence {sequence} is not started, as this hub requires signatures" in answer.error
            assert (await send(talk, signed(None), replacing=unsigned)).status == 422
            assert (await send(talk, signed(), replacing=unchecked)).status == 200
            assert await output(talk, unchecked) == b"hello\n"
            assert (await start(talk, unsigned)).status == 403
            assert (await send(talk, signed(), replacing=unsigned)).status == 200
            rolled_back = await talk.ask("POST", f"/sequence/{unsigned}/rollback")
            assert rolled_back.status == 200
            assert (await start(talk, unsigned)).status == 403, "not by way of an older version either"
        hub.end()


async def test_a_key_that_is_taken_out_stops_what_it_has_signed(folder):
    with requiring(folder) as hub:
        async with talking_to(hub.url) as talk:
            sequence = (await send(talk, signed())).json["id"]
        hub.end()
    other = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    (folder / "keys").write_bytes(other + b" bob\n")
    with requiring(folder) as hub:
        async with talking_to(hub.url) as talk:
            answer = await start(talk, sequence)
            assert answer.status == 403
            assert (
                f"signed by {fingerprint(ANN.public_key)} ann@example.com, which is none of the"
                in answer.error
            )
            assert (await send(talk, signed())).status == 422
        hub.end()


async def test_an_instance_gets_no_new_code_that_nobody_has_signed(folder):
    with running_hub(folder) as hub:
        async with talking_to(hub.url) as talk:
            sequence = (await send(talk, signed(None, "evil ", ECHO))).json["id"]
        hub.end()
    with requiring(folder) as hub:
        async with talking_to(hub.url) as talk:
            assert (await send(talk, signed(ANN, "good ", ECHO), replacing=sequence)).status == 200
            instance = (await start(talk, sequence)).json["id"]
            await talk.send(instance, b"1\n", end=False)
            assert (await talk.ask("POST", f"/sequence/{sequence}/rollback")).status == 200
            answer = await talk.ask("POST", f"/instance/{instance}/_reload")
            assert answer.status == 403
            assert "its package is not signed" in answer.error
            assert (await send(talk, signed(ANN, "better ", ECHO), replacing=sequence)).status == 200
            await talk.send(instance, b"2\n", end=False)
            async with talk.client.read(instance, "output") as chunks:
                got = b""
                async for chunk in chunks:
                    got += chunk
                    if got.endswith(b"2\n"):
                        break
            assert got == b"good 1\ngood 2\n"
            assert (await talk.ask("POST", f"/instance/{instance}/_reload")).status == 200
            await talk.send(instance, b"3\n")
            assert await talk.read(instance, query="?offset=0") == b"good 1\ngood 2\nbetter 3\n"
        hub.end()


async def test_a_sequence_that_is_used_in_place_is_looked_at_at_each_start(folder):
    with tarfile.open(fileobj=io.BytesIO(signed())) as archive:
        archive.extractall(folder / "existing/shout", filter="data")
    with requiring(folder, "--identify-existing", "--identify-folder", str(folder / "existing")) as hub:
        async with talking_to(hub.url) as talk:
            for _ in range(2):
                assert await output(talk, "shout") == b"hello\n", "Python has left nothing beside it"
            (folder / "existing/shout/words.py").write_text("HELLO = 'evil'\n")
            answer = await start(talk, "shout")
            assert answer.status == 403
            assert "another content: words.py" in answer.error
        hub.end()


@pytest.mark.parametrize("content", [None, "# nobody\n"], ids=["missing", "empty"])
def test_a_hub_without_a_trusted_key_does_not_start_and_says_how_one_is_made(tmp_path, content):
    data = tmp_path / "data"
    if content is not None:
        data.mkdir()
        (data / "trusted_keys").write_text(content)
    ran = hub_lite("start", "--port", "0", "--data-dir", data, "--require-signature")
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert f"trusted keys {data}/trusted_keys: ".encode() in ran.stderr
    assert b"ssh-keygen -t ed25519" in ran.stderr
    assert ran.stderr.count(b"\n") == 1
