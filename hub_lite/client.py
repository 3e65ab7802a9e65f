"""A client of a hub's API: asynchronous, streaming in both directions."""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import aiohttp
import orjson

_READ_SIZE = 256 * 1024


class ClientError(Exception):
    """The hub did not do what was asked; ``str()`` of it says why."""


class HubRefused(ClientError):
    """The hub answered with an error; ``details`` is the whole answer, empty if it is no object."""

    def __init__(self, status: int, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.details = details or {}

    def __str__(self) -> str:
        return self.message


class HubUnreachable(ClientError):
    """Nobody answers at the URL of the hub."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(url, why)
        self.url = url
        self.why = why

    def __str__(self) -> str:
        return f"no hub answers at {self.url} ({self.why}); start one with `hub-lite start`"


class NotAHub(ClientError):
    """What answers at the URL does not speak as a hub does."""

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.url = url
        self.path = path

    def __str__(self) -> str:
        return f"what answers at {self.url}{self.path} is no hub; check the URL"


class StreamBroken(ClientError):
    """A stream ended before it was complete: the Instance failed, or the hub went away."""


def api_url(url: str) -> str:
    """Return the API's URL for the URL of a hub, with or without ``/api/v1``."""
    url = url.rstrip("/")
    return url if url.endswith("/api/v1") else f"{url}/api/v1"


class HubClient:
    """Talks to one hub; use it as an async context manager."""

    def __init__(self, url: str) -> None:
        self.url = api_url(url)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            connector=aiohttp.TCPConnector(limit=0),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def version(self) -> dict[str, Any]:
        """Return what the hub says it is."""
        return await self._object("GET", "/version")

    async def upload(self, package: Path, *, progress: Callable[[int], None] | None = None) -> str:
        """Send a package and return the id of its Sequence. ``progress`` gets the bytes sent so far.

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

        headers = {"Content-Type": "application/octet-stream"}
        with await asyncio.to_thread(package.open, "rb") as opened:
            return await self._id("POST", "/sequence", data=chunks(opened), headers=headers)

    async def delete_sequence(self, sequence_id: str, *, force: bool = False) -> None:
        """Delete a Sequence; with ``force`` its Instances are killed first."""
        await self._object(
            "DELETE", f"/sequence/{sequence_id}", headers={"x-seq-kill-inst": "true"} if force else {}
        )

    async def start(
        self, sequence_id: str, *, config: dict[str, Any] | None = None, args: list[Any] | None = None
    ) -> str:
        """Start an Instance and return its id.

        Raises:
            HubRefused: the Sequence could not be started.
        """
        body = {"appConfig": config or {}, "args": args or []}
        return await self._id("POST", f"/sequence/{sequence_id}/start", json=body)

    async def instance(self, instance_id: str) -> dict[str, Any]:
        """Return what the hub knows of an Instance."""
        return await self._object("GET", f"/instance/{instance_id}")

    async def stop(self, instance_id: str, timeout: float = 7.0) -> dict[str, Any]:  # noqa: ASYNC109 - the hub keeps it
        """Stop an Instance within ``timeout`` seconds and return what became of it."""
        return await self._object("POST", f"/instance/{instance_id}/_stop", json={"timeout": timeout * 1000})

    async def kill(self, instance_id: str, *, remove_immediately: bool = False) -> dict[str, Any]:
        """Kill an Instance."""
        body = {"removeImmediately": remove_immediately}
        return await self._object("POST", f"/instance/{instance_id}/_kill", json=body)

    async def send(
        self,
        instance_id: str,
        stream: str,
        chunks: AsyncIterable[bytes],
        *,
        content_type: str,
        end: bool = True,
    ) -> None:
        """Send chunks to ``input`` or ``stdin``; returns when the runner has them, or as many as it took.

        Raises:
            HubRefused: the Instance does not take them.
            StreamBroken: the Instance ended before it took them all.
        """
        headers = {"Content-Type": content_type, "x-end-stream": "true" if end else "false"}
        async with self._request(
            "POST", f"/instance/{instance_id}/{stream}", data=chunks, headers=headers
        ) as answer:
            try:
                await answer.read()
            except aiohttp.ClientError as error:
                raise StreamBroken(
                    f"{stream} of Instance {instance_id} was not taken whole: {error}"
                ) from error

    @asynccontextmanager
    async def read(
        self, instance_id: str, stream: str, *, offset: int | str | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open ``output``, ``stdout``, ``stderr`` or ``log``; gives an iterator over its chunks.

        The iterator raises StreamBroken at the end of a stream that is not complete.
        """
        query = {} if offset is None else {"offset": str(offset)}
        async with self._request("GET", f"/instance/{instance_id}/{stream}", params=query) as answer:
            yield self._chunks(answer, f"{stream} of Instance {instance_id}")

    async def _chunks(self, answer: aiohttp.ClientResponse, what: str) -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.content.iter_any():
                yield chunk
        except aiohttp.ClientError as error:
            raise StreamBroken(f"{what} is not complete: {error}") from error

    async def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        async with self._request(method, path, **options) as answer:
            try:
                value = orjson.loads(await answer.read())
            except orjson.JSONDecodeError:
                raise NotAHub(self.url, path) from None
            except aiohttp.ClientError as error:
                raise HubUnreachable(self.url, _why(error)) from error
        if not isinstance(value, dict):
            raise NotAHub(self.url, path)
        return value

    async def _id(self, method: str, path: str, **options: Any) -> str:
        answer = await self._object(method, path, **options)
        if "id" not in answer:
            raise NotAHub(self.url, path)
        return str(answer["id"])

    @asynccontextmanager
    async def _request(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise ClientError("use the client inside `async with`")
        try:
            answer = await self._session.request(method, self.url + path, **options)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise HubUnreachable(self.url, "this is no URL") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise HubUnreachable(self.url, _why(error)) from error
        async with answer:
            if answer.status >= 400:
                try:
                    body = await answer.read()
                except aiohttp.ClientError:
                    body = b""
                raise HubRefused(answer.status, _message(answer, body), _details(body))
            yield answer


def _why(error: BaseException) -> str:
    """Return what the system says of a connection that failed, without the parts of the URL that aiohttp repeats."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return os.strerror(error.errno) if error.errno > 0 else error.strerror
    return str(error) or type(error).__name__


def _details(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _message(answer: aiohttp.ClientResponse, body: bytes) -> str:
    """Return the sentence of an error answer, whatever its shape."""
    try:
        error = orjson.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        error = None
    if not error:
        return f"{answer.status} {answer.reason}"
    return error if isinstance(error, str) else orjson.dumps(error).decode()
