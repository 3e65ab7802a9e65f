"""Who may use a hub, from the outside: tokens, TLS, and the address it listens on."""

import asyncio
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from .harness import DEADLINE, HubProcess, hub_lite, running_hub

TOKEN = "0123456789abcdef-secret"
OTHER = "fedcba9876543210-secret"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(f"# of the tests\n{TOKEN}\n")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, tokens: Path) -> Iterator[HubProcess]:
    """A hub that everybody can reach and that asks for a token."""
    folder = tmp_path_factory.mktemp("guarded")
    options = ("--hostname", "0.0.0.0", "--token-file", str(tokens), "--healtz-port", "0")
    with running_hub(folder, *options, environment={"HUB_LITE_TOKEN": OTHER}) as hub:
        hub.url = hub.url.replace("0.0.0.0", "127.0.0.1")
        yield hub


async def status_of(url: str, **headers: str) -> int:
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        await answer.read()
        return answer.status


async def test_the_tokens_of_the_file_and_of_the_environment_open_the_hub(guarded: HubProcess) -> None:
    for token in (TOKEN, OTHER):
        assert await status_of(f"{guarded.url}/sequences", Authorization=f"Bearer {token}") == 200


async def test_without_a_token_nothing_is_told(guarded: HubProcess) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{guarded.url}/version") as answer:
        assert (answer.status, await answer.json()) == (403, {"message": "Forbidden"})


async def test_no_token_is_in_the_log_or_in_the_settings(guarded: HubProcess) -> None:
    await status_of(f"{guarded.url}/version", Authorization=f"Bearer {TOKEN}x")
    async with aiohttp.ClientSession(headers=BEARER) as http:
        async with http.get(f"{guarded.url}/config") as answer:
            shown = await answer.text()
        async with asyncio.timeout(DEADLINE), http.get(f"{guarded.url}/log") as answer:
            said = (await answer.content.readline()).decode()
    assert "for who shows a token" in said
    shown += said + guarded.log()
    assert TOKEN not in shown
    assert OTHER not in shown


def test_a_hub_that_everybody_can_reach_asks_for_a_token_or_does_not_start(tmp_path: Path) -> None:
    ended = hub_lite("start", "--port", "0", "--data-dir", tmp_path / "data", "--hostname", "0.0.0.0")
    assert ended.returncode == 1
    assert b"is not a loopback address" in ended.stderr
    assert b"--token-file" in ended.stderr
    assert b"--insecure" in ended.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (TOKEN, 0o644, "can be read by others; run `chmod 600"),
        ("", 0o600, "has no token; write one a line"),
        ("short", 0o600, "line 1: a token is 16 or more ASCII characters"),
        (None, 0, "No such file or directory"),
    ],
)
def test_a_token_file_that_cannot_be_used_is_said_so(
    tmp_path: Path, text: str | None, mode: int, why: str
) -> None:
    file = tmp_path / "tokens"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    ended = hub_lite("start", "--port", "0", "--data-dir", tmp_path / "data", "--token-file", file)
    assert ended.returncode == 1
    assert f"token file {file}" in ended.stderr.decode()
    assert why in ended.stderr.decode()
    assert TOKEN.encode() not in ended.stderr


# TLS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for 127.0.0.1 and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out certificate -days 1 "
        "-subj /CN=hub -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True, timeout=30)
    return folder


async def test_the_health_is_told_without_a_token(guarded: HubProcess) -> None:
    (url,) = re.findall(r"http://\S+/healtz", guarded.log())
    assert await status_of(url) in (200, 503)  # the machine may be short of memory
    assert await status_of(f"{url}/nothing") == 404


async def test_with_a_certificate_the_hub_speaks_https_and_says_so(made: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hub_lite", "start", "--port", "0", "--data-dir", str(tmp_path / "data")]
    command += ["--tls-certificate", str(made / "certificate"), "--tls-key", str(made / "key")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as hub:
        try:
            assert hub.stdout is not None
            url = hub.stdout.readline().decode().split()[-1]
            assert url.startswith("https://127.0.0.1:")
            context = ssl.create_default_context(cafile=str(made / "certificate"))
            async with aiohttp.ClientSession() as http:
                async with http.get(f"{url}/version", ssl=context) as answer:
                    assert answer.status == 200
                with pytest.raises(aiohttp.ClientError):
                    await http.get(f"{url}/version".replace("https", "http"))
        finally:
            hub.terminate()
            assert hub.wait(DEADLINE) == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--tls-certificate", "certificate"), "tls.key is not set"),
        (("--tls-key", "key"), "tls.certificate is not set"),
        (("--tls-certificate", "certificate", "--tls-key", "none"), "No such file"),
        (("--tls-certificate", "key", "--tls-key", "certificate"), "must be PEM files"),
    ],
)
def test_what_tls_cannot_be_spoken_with_is_said_so(
    made: Path, tmp_path: Path, options: tuple[str, ...], why: str
) -> None:
    ended = hub_lite("start", "--port", "0", "--data-dir", tmp_path / "data", *options, cwd=made)
    assert ended.returncode == 1
    assert why in ended.stderr.decode()
    assert not (tmp_path / "data").exists()
