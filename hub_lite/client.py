"""A client of a hub's API over HTTP: asynchronous, streaming in both directions."""

import asyncio
import io
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import aiohttp

from sequence_sdk.hub import (
    Body,
    ClientError,
    HubApi,
    HubRefused,
    HubUnreachable,
    NotAHub,
    StreamBroken,
)

_READ_SIZE = 256 * 1024
_WAY_OUT = "start one with `hub-lite start`"


def api_url(url: str) -> str:
    """Return the API's URL for the URL of a hub, with or without ``/api/v1``."""
    url = url.rstrip("/")
    return url if url.endswith("/api/v1") else f"{url}/api/v1"


class HubClient(HubApi):
    """Talks to one hub; use it as an async context manager. ``token`` is for a hub that asks for one."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self.url = api_url(url)
        self._http = HttpCarrier(self.url, token)
        super().__init__(self._http)

    async def __aenter__(self) -> Self:
        self._http.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def upload(
        self,
        package: Path,
        *,
        progress: Callable[[int], None] | None = None,
        config: dict[str, Any] | None = None,
        replace: str | None = None,
    ) -> str:
        """Send a package file and return the id of its Sequence, see ``send_sequence``. ``progress`` gets the bytes sent so far.

        Raises:
            HubRefused: the package cannot be used.
            OSError: it cannot be read.
        """

        async def chunks(file: BinaryIO) -> AsyncIterator[bytes]:
            sent = 0
            while chunk := await asyncio.to_thread(file.read, _READ_SIZE):
                yield chunk
                sent += len(chunk)
                if progress is not None:
                    progress(sent)

        with await asyncio.to_thread(package.open, "rb") as opened:
            return await self.send_sequence(chunks(opened), config=config, replace=replace)


class HttpCarrier:
    """Carries requests to the API at a URL, over connections that it keeps."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    @property
    def where(self) -> str:
        """The URL."""
        return self._url

    def open(self) -> None:
        """Begin; requests are taken from now on."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            connector=aiohttp.TCPConnector(limit=0),
            headers={} if self._token is None else {"Authorization": f"Bearer {self._token}"},
        )

    async def close(self) -> None:
        """Close all connections; safe to call twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str], body: Body
    ) -> AsyncIterator["HttpAnswer"]:
        """Send a request and give the answer.

        Raises:
            ClientError: the carrier is not open.
            HubUnreachable: nobody answers.
        """
        if self._session is None:
            raise ClientError("use the client inside `async with`")
        faults: list[Exception] = []
        try:
            answer = await self._session.request(
                method, self._url + path, headers=headers, data=_payload(body, faults)
            )
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise HubUnreachable(self._url, "this is no URL", _WAY_OUT) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if faults:
                raise faults[0] from None
            raise HubUnreachable(self._url, _why(error), _WAY_OUT) from error
        async with answer:
            yield HttpAnswer(answer, faults)


class HttpAnswer:
    """An answer that comes over HTTP."""

    def __init__(self, answer: aiohttp.ClientResponse, faults: list[Exception]) -> None:
        self._answer = answer
        self._faults = faults  # what the body of the request has raised, which breaks the answer too

    @property
    def status(self) -> int:
        """The status code."""
        return self._answer.status

    @property
    def reason(self) -> str:
        """The phrase behind it."""
        return self._answer.reason or ""

    async def read(self) -> bytes:
        """Return the rest of the body.

        Raises:
            StreamBroken: it ends too early.
        """
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """Return the body as it comes.

        Raises:
            StreamBroken: it ends too early.
        """
        try:
            async for chunk in self._answer.content.iter_any():
                yield chunk
        except aiohttp.ClientError as error:
            if self._faults:
                raise self._faults[0] from None
            raise StreamBroken(_why(error)) from error


def _payload(body: Body, faults: list[Exception]) -> AsyncIterator[bytes] | io.BytesIO | None:
    """Return a body as aiohttp takes it; what an iterable one raises is kept, for aiohttp makes something else of it."""
    if isinstance(body, AsyncIterable):
        return _watched(body, faults)
    return io.BytesIO(body) if body else None


async def _watched(body: AsyncIterable[bytes], faults: list[Exception]) -> AsyncIterator[bytes]:
    try:
        async for chunk in body:
            yield chunk
    except Exception as error:
        faults.append(error)
        raise


def _why(error: BaseException) -> str:
    """Return what the system says of a connection that failed, without the parts of the URL that aiohttp repeats."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return os.strerror(error.errno) if error.errno > 0 else error.strerror
    return str(error) or type(error).__name__


__all__ = [
    "ClientError",
    "HubApi",
    "HubClient",
    "HubRefused",
    "HubUnreachable",
    "NotAHub",
    "StreamBroken",
    "api_url",
]
