"""Who may speak to the hub: bearer tokens, and the checks that keep web pages away from a local hub.

A browser lets any page send requests to loopback. Such a request gives itself away by its ``Origin``, by
``Sec-Fetch-Site``, or, where a foreign name was made to resolve to 127.0.0.1, by its ``Host``.
"""

import hmac
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from .settings import TOKEN_VARIABLE, Settings, SettingsError, is_loopback

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MIN_TOKEN = 16  # characters; a shorter one can be guessed
_SHOWN = 100  # characters of a foreign header in an answer

METHODS = "DELETE, GET, HEAD, OPTIONS, POST, PUT"


class TokenFileError(SettingsError):
    """A token file cannot be used; ``str()`` of it says why, and never shows a token."""


class TlsError(SettingsError):
    """The certificate or its key cannot be used; ``str()`` of it says which and why."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served."""

    why: str
    needs_token: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """The rules of one hub. ``repr`` shows no token."""

    tokens: tuple[bytes, ...] = ()
    origins: frozenset[str] = frozenset()  # pages that may; `*` for all
    hosts: frozenset[str] = _LOOPBACK_NAMES  # names the hub answers to; empty: any

    @classmethod
    def of(cls, settings: Settings) -> "Access":
        """Return the rules that settings ask for.

        Raises:
            TokenFileError: the tokens cannot be used.
        """
        tokens = read_tokens(settings.token, where=TOKEN_VARIABLE) if settings.token else ()
        if settings.token_file is not None:
            tokens += read_token_file(settings.token_file)
        loopback = is_loopback(settings.hostname)
        return cls(
            tokens,
            frozenset(origin.rstrip("/") for origin in settings.cors_origins),
            allowed_hosts(settings.hostname, settings.allowed_hosts, loopback=loopback),
        )

    def refusal(self, headers: Mapping[str, str]) -> Refusal | None:
        """Return why a request with these headers is refused, or None if it may be served."""
        if self.tokens and not self._has_token(headers.get("Authorization", "")):
            return Refusal("Forbidden", needs_token=True)
        return self.foreign_host(headers) or self._foreign_page(headers)

    def foreign_host(self, headers: Mapping[str, str]) -> Refusal | None:
        """Return why a request under this name is refused, or None if the hub answers to it."""
        if not self.hosts or "Host" not in headers:  # which every browser sends
            return None
        host = host_name(headers["Host"])
        if host in self.hosts:
            return None
        names = ", ".join(sorted(self.hosts))
        return Refusal(
            f"this hub does not answer to the name {host[:_SHOWN]!r}; use {names}, "
            "or allow the name with the setting host.allowedHosts"
        )

    def _foreign_page(self, headers: Mapping[str, str]) -> Refusal | None:
        origin = headers.get("Origin")
        if origin is None:
            if "*" in self.origins or headers.get("Sec-Fetch-Site") not in ("cross-site", "same-site"):
                return None
            who = "another site's page"
        elif self.allows_origin(origin, headers.get("Host", "")):
            return None
        else:
            who = f"a page of {origin[:_SHOWN]!r}"
        return Refusal(f"{who} may not use this hub; allow its origin with the setting cors.origins")

    def allows_origin(self, origin: str, host: str) -> bool:
        """Tell whether pages of an origin may use the hub: the hub's own, and those that are allowed by name."""
        if "*" in self.origins or origin in self.origins:
            return True
        try:
            return urlsplit(origin).netloc == host != ""
        except ValueError:  # it has brackets that are no address
            return False

    def cors_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return what tells a browser that the page that sent these headers may read the answer; else nothing.

        Whether there is such a page or not, caches must know that the answer depends on it.
        """
        if not self.origins:
            return {}  # a page of the hub's own needs no permission
        found = {} if "*" in self.origins else {"Vary": "Origin"}
        origin = headers.get("Origin")
        if origin is None or not self.allows_origin(origin, headers.get("Host", "")):
            return found
        allowed = "*" if "*" in self.origins else origin
        return found | {"Access-Control-Allow-Origin": allowed, "Access-Control-Expose-Headers": "*"}

    def preflight_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return what ``OPTIONS`` is answered with: which methods there are, and for a page whether it may use them."""
        found = {"Allow": METHODS}
        origin = headers.get("Origin")
        if origin is None or self.allows_origin(origin, headers.get("Host", "")):
            found["Access-Control-Allow-Methods"] = METHODS
            found["Access-Control-Allow-Headers"] = "*, Authorization"  # which * leaves out
            found["Access-Control-Max-Age"] = "600"
        return found

    def _has_token(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        offered = given.strip().encode("utf-8", "surrogatepass")
        fits = [
            hmac.compare_digest(offered, token) for token in self.tokens
        ]  # all of them: time tells nothing
        return scheme.lower() == "bearer" and any(fits)


@lru_cache(maxsize=64)  # clients send the same few
def host_name(host: str) -> str:
    """Return the name in a Host header, without its port, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] if ":" in host else host


def read_tokens(text: str, *, where: str) -> tuple[bytes, ...]:
    """Return the tokens of a text, one a line; blank lines and lines that begin with ``#`` are nothing.

    Raises:
        TokenFileError: there is none, or one is too short or has spaces.
    """
    tokens = []
    for number, line in enumerate(text.splitlines(), 1):
        token = line.strip()
        if not token or token.startswith("#"):
            continue
        if len(token) < _MIN_TOKEN or not token.isascii() or len(token.split()) > 1:
            raise TokenFileError(
                f"{where}, line {number}: a token is {_MIN_TOKEN} or more ASCII characters without spaces"
            )
        tokens.append(token.encode())
    if not tokens:
        raise TokenFileError(
            f"{where} has no token; write one a line, such as the output of `openssl rand -hex 32`"
        )
    return tuple(tokens)


def read_token_file(path: Path) -> tuple[bytes, ...]:
    """Return the tokens of a file.

    Raises:
        TokenFileError: it cannot be read, others can read it, or it has no token.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TokenFileError(f"token file {path}: {error.strerror}") from None
    except UnicodeDecodeError:  # whose text would show what is in the file
        raise TokenFileError(f"token file {path} is not text") from None
    if mode & 0o077:
        raise TokenFileError(f"token file {path} can be read by others; run `chmod 600 {path}`")
    return read_tokens(text, where=f"token file {path}")


def allowed_hosts(hostname: str, extra: Iterable[str], *, loopback: bool) -> frozenset[str]:
    """Return the names a hub on ``hostname`` answers to: those of loopback there; elsewhere any unless some are named.

    An address of IPv6 is named in brackets, as in a URL.
    """
    named = frozenset(map(_as_in_url, extra))
    if loopback:
        return _LOOPBACK_NAMES | named | {_as_in_url(hostname)}
    return named and _LOOPBACK_NAMES | named


def _as_in_url(name: str) -> str:
    name = name.lower()
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what a server speaks TLS with.

    Raises:
        TlsError: a file cannot be read, is not PEM, has a password, or the two do not belong together.
    """
    for what, path in (("certificate", certificate), ("key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise TlsError(f"TLS {what} {path}: {error.strerror}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    locked = False

    def no_password() -> str:  # without it OpenSSL asks at the terminal
        nonlocal locked
        locked = True
        return ""

    try:
        context.load_cert_chain(certificate, key, no_password)
    except (ssl.SSLError, ValueError) as error:
        if locked:
            raise TlsError(f"TLS key {key} has a password; give one without") from None
        reason = getattr(error, "reason", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            raise TlsError(f"TLS key {key} is not that of the certificate {certificate}") from None
        raise TlsError(
            f"TLS certificate {certificate} and key {key} must be PEM files that OpenSSL takes ({reason})"
        ) from None
    return context
