"""Tokens, hosts, origins, and what TLS is spoken with."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.access import (
    METHODS,
    Access,
    TlsError,
    TokenFileError,
    allowed_hosts,
    host_name,
    read_token_file,
    read_tokens,
    tls_context,
)
from hub_lite.settings import Settings

TOKEN = "0123456789abcdef-secret"
LOCAL = {"Host": "127.0.0.1:8000"}


def test_a_hub_without_tokens_serves_local_requests():
    assert Access().refusal(LOCAL) is None
    assert Access().refusal({"Host": "[::1]:8000"}) is None
    assert Access().refusal({"Host": "localhost"}) is None


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        TOKEN,
        "Bearer \xff",
        "Bearer \udcff",
    ],
)
def test_without_the_right_token_everything_is_forbidden(authorization: str):
    refusal = Access((TOKEN.encode(),)).refusal({**LOCAL, "Authorization": authorization})
    assert refusal is not None
    assert (refusal.why, refusal.needs_token) == ("Forbidden", True)


def test_any_of_several_tokens_will_do_in_any_case_of_the_scheme():
    access = Access((b"another-token-here-1234", TOKEN.encode()))
    assert access.refusal({**LOCAL, "Authorization": f"bearer {TOKEN}"}) is None


def test_a_name_that_was_made_to_point_at_loopback_is_refused():
    refusal = Access().refusal({"Host": "evil.example:8000"})
    assert refusal is not None
    assert "evil.example" in refusal.why


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Origin": "http://[::1"},
        {"Origin": ""},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_others_are_refused(headers: dict[str, str]):
    assert Access().refusal({**LOCAL, **headers}) is not None


@pytest.mark.parametrize(
    ("access", "headers"),
    [
        (Access(), {"Origin": "http://127.0.0.1:8000"}),
        (Access(), {"Sec-Fetch-Site": "same-origin"}),
        (Access(), {"Sec-Fetch-Site": "none"}),
        (Access(origins=frozenset({"https://ours.example"})), {"Origin": "https://ours.example"}),
        (Access(origins=frozenset({"*"})), {"Origin": "https://any.example"}),
        (Access(origins=frozenset({"*"})), {"Sec-Fetch-Site": "cross-site"}),
    ],
)
def test_our_own_pages_and_allowed_ones_are_served(access: Access, headers: dict[str, str]):
    assert access.refusal({**LOCAL, **headers}) is None


TEXT = st.text(max_size=20)
HEADERS = st.fixed_dictionaries(
    {}, optional={"Host": TEXT, "Origin": TEXT, "Sec-Fetch-Site": TEXT, "Authorization": TEXT}
)


@given(HEADERS)
def test_without_the_token_any_headers_are_forbidden(headers: dict[str, str]):
    refusal = Access((TOKEN.encode(),)).refusal(headers)
    assert refusal is not None
    assert refusal.needs_token


@given(HEADERS, st.sampled_from(["http://", "https://", "file://", ""]))
def test_a_page_is_served_only_if_it_is_the_hubs_own(headers: dict[str, str], scheme: str):
    headers = {**headers, **LOCAL, "Origin": scheme + headers.get("Origin", "")}
    refusal = Access().refusal(headers)
    assert (refusal is None) is headers["Origin"].endswith("//127.0.0.1:8000")
    assert refusal is None or "cors.origins" in refusal.why


@given(HEADERS)
def test_a_name_that_is_not_ours_is_never_served(headers: dict[str, str]):
    host = headers.get("Host")
    if host is not None and host_name(host) not in Access().hosts:
        assert Access().refusal(headers) is not None


def test_a_request_without_a_host_comes_from_no_browser():
    assert Access().refusal({}) is None
    assert Access().refusal({"Host": ""}) is not None


def test_no_token_is_ever_shown():
    assert TOKEN not in repr(Access((TOKEN.encode(),)))


@pytest.mark.parametrize(
    ("header", "name"),
    [("LOCALHOST:1", "localhost"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a.b", "a.b"), ("", "")],
)
def test_the_name_in_a_host_header_has_no_port(header: str, name: str):
    assert host_name(header) == name


def test_a_token_file_has_one_token_a_line():
    assert read_tokens(f"# mine\n\n {TOKEN} \nanother-token-1234\n", where="f") == (
        TOKEN.encode(),
        b"another-token-1234",
    )


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "short\n", "with spaces in the token\n", "zażółćgęśląjaźń12345\n"]
)
def test_a_token_file_without_a_usable_token_is_refused_without_showing_it(text: str):
    with pytest.raises(TokenFileError, match="f") as caught:
        read_tokens(text, where="f")
    assert "short" not in str(caught.value)


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path):
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    file.chmod(0o644)
    with pytest.raises(TokenFileError, match="chmod 600"):
        read_token_file(file)
    file.chmod(0o600)
    assert read_token_file(file) == (TOKEN.encode(),)
    with pytest.raises(TokenFileError, match="No such file"):
        read_token_file(tmp_path / "none")


def test_a_hub_elsewhere_answers_to_any_name_unless_some_are_given():
    assert allowed_hosts("0.0.0.0", [], loopback=False) == frozenset()
    assert "hub.example" in allowed_hosts("0.0.0.0", ["Hub.example"], loopback=False)
    assert "0.0.0.0" not in allowed_hosts("0.0.0.0", ["Hub.example"], loopback=False)
    assert "localhost" in allowed_hosts("127.0.0.1", [], loopback=True)
    assert "[fe80::1]" in allowed_hosts("127.0.0.1", ["FE80::1"], loopback=True)
    assert "[::1]" in allowed_hosts("::1", [], loopback=True)
    assert "localhost" in allowed_hosts("0.0.0.0", ["hub.example"], loopback=False)


def test_a_file_that_is_no_text_is_refused_without_showing_it(tmp_path: Path):
    file = tmp_path / "tokens"
    file.write_bytes(TOKEN.encode() + b"\xff")
    file.chmod(0o600)
    with pytest.raises(TokenFileError, match="is not text") as caught:
        read_token_file(file)
    assert TOKEN not in str(caught.value)


# CORS


OURS = "https://ours.example"


def test_pages_that_are_not_allowed_learn_nothing():
    assert Access().cors_headers({**LOCAL, "Origin": OURS}) == {}
    assert Access(origins=frozenset({OURS})).cors_headers({**LOCAL, "Origin": "https://evil.example"}) == {
        "Vary": "Origin"
    }
    assert "Access-Control-Allow-Methods" not in Access().preflight_headers({**LOCAL, "Origin": OURS})


def test_an_allowed_page_may_read_answers_and_their_headers():
    headers = {**LOCAL, "Origin": OURS}
    assert Access(origins=frozenset({OURS})).cors_headers(headers) == {
        "Access-Control-Allow-Origin": OURS,
        "Access-Control-Expose-Headers": "*",
        "Vary": "Origin",
    }
    assert Access(origins=frozenset({"*"})).cors_headers(headers)["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("headers", [LOCAL, {**LOCAL, "Origin": OURS}])
def test_options_name_the_methods_put_included(headers: dict[str, str]):
    found = Access(origins=frozenset({OURS})).preflight_headers(headers)
    assert found["Allow"] == found["Access-Control-Allow-Methods"] == METHODS
    assert "PUT" in METHODS
    assert set(found["Access-Control-Allow-Headers"].split(", ")) == {"*", "Authorization"}


# Settings


def test_the_rules_are_those_of_the_settings(tmp_path: Path):
    file = tmp_path / "tokens"
    file.write_text("another-token-1234")
    file.chmod(0o600)
    access = Access.of(
        Settings(
            token=TOKEN,
            token_file=file,
            cors_origins=("https://ours.example/",),
            allowed_hosts=("Hub.local",),
        )
    )
    assert access.tokens == (TOKEN.encode(), b"another-token-1234")
    assert access.origins == {OURS}
    assert access.hosts == {"localhost", "127.0.0.1", "[::1]", "hub.local"}


def test_a_token_of_the_environment_that_is_too_short_is_refused_by_its_name():
    with pytest.raises(TokenFileError, match=r"^HUB_LITE_TOKEN, line 1: a token is 16 or more"):
        Access.of(Settings(token="short"))


# TLS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate, its key, another key and the key with a password."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    for command in (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out certificate -subj /CN=localhost -days 1",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other",
        "ec -in key -aes256 -passout pass:secret -out locked",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True, timeout=30)
    return folder


def test_a_certificate_and_its_key_make_a_server(made: Path):
    context = tls_context(made / "certificate", made / "key")
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert not context.check_hostname


@pytest.mark.parametrize(
    ("certificate", "key", "why"),
    [
        ("certificate", "other", "is not that of the certificate"),
        ("certificate", "locked", "has a password; give one without"),
        ("certificate", "none", "TLS key .*none: No such file"),
        ("none", "key", "TLS certificate .*none: No such file"),
        ("key", "key", "must be PEM files"),
    ],
)
def test_what_tls_cannot_be_spoken_with_is_said_so(made: Path, certificate: str, key: str, why: str):
    with pytest.raises(TlsError, match=why):
        tls_context(made / certificate, made / key)
