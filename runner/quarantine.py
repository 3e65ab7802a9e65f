"""Items that a Sequence could not handle, on their way to the hub, which keeps them for a human to look at."""

import asyncio
import base64
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from sequence_sdk.content import json_functions
from sequence_sdk.hub import ClientError, HubRefused

from .errors import QuarantineLost

_WAITING: Final = 1000  # records that may wait for the hub before the Sequence gets another batch of items
_TOGETHER: Final = 256  # records of one request
_MAX_TEXT: Final = 64 * 1024  # characters of a repr, for an item that has no JSON
_NO_SUCH_PATH: Final = 404


class Keeper(Protocol):
    """Who keeps the items: the API of a hub."""

    async def quarantine_items(self, instance: str, records: list[dict[str, Any]]) -> int:
        """Keep records of items, all or none."""


def record_of(number: int, item: Any, error: BaseException) -> dict[str, Any]:
    """Return how a quarantined item is written down.

    Shape: ``number`` of the item in the input, ``item`` as JSON, or ``{"bytes": base64}`` where it is bytes, or ``{"text": repr}``
    where it has no JSON; ``error`` with its type.
    """
    return {"number": number, "item": _as_json(item), "error": f"{type(error).__name__}: {error}"}


def _as_json(item: Any) -> Any:
    if isinstance(item, bytes | bytearray | memoryview):
        try:
            return bytes(item).decode()
        except UnicodeDecodeError:
            return {"bytes": base64.b64encode(item).decode()}
    loads, dumps = json_functions()
    try:
        return loads(dumps(item))  # a copy: the author may change the item while it waits
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return {"text": repr(item)[:_MAX_TEXT]}
    except Exception:  # noqa: BLE001 - author's code
        return {"text": f"an object of type {type(item).__name__} that has no repr"}


class Quarantine:
    """Sends records to the hub, many in one request, in the order they came. ``settle`` waits until few are left."""

    def __init__(
        self,
        keeper: Keeper,
        instance_id: str,
        log: logging.Logger,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        """Send to ``keeper``; ``spawn`` starts the task that does it, which is none of the author's."""
        self._keeper = keeper
        self._spawn = spawn
        self._instance = instance_id
        self._log = log
        self._waiting: deque[dict[str, Any]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._sent = asyncio.Event()
        self._is_kept_here = True
        self._failure: QuarantineLost | None = None

    def add(self, number: int, item: Any, error: BaseException) -> None:
        """Take an item; it leaves as soon as the event loop has a turn."""
        self._waiting.append(record_of(number, item, error))
        if self._sender is None or self._sender.done():
            self._sender = self._spawn(self._send())

    async def settle(self, *, left: int = _WAITING) -> None:
        """Wait until at most ``left`` records wait for the hub.

        Raises:
            QuarantineLost: the hub does not keep them, so that going on would lose items.
        """
        while len(self._waiting) > left and self._failure is None:
            self._sent.clear()
            await self._sent.wait()
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Wait until the hub keeps everything.

        Raises:
            QuarantineLost: it does not.
        """
        await self.settle(left=0)

    async def _send(self) -> None:
        while self._waiting and self._failure is None:
            records = [self._waiting[at] for at in range(min(_TOGETHER, len(self._waiting)))]
            try:
                await self._keep(records)
            except ClientError as error:
                self._failure = QuarantineLost(len(self._waiting), str(error))
            else:
                for _ in records:
                    self._waiting.popleft()
            self._sent.set()

    async def _keep(self, records: list[dict[str, Any]]) -> None:
        if self._is_kept_here:
            try:
                await self._keeper.quarantine_items(self._instance, records)
                return
            except HubRefused as error:
                if error.status != _NO_SUCH_PATH:
                    raise
            self._is_kept_here = False  # a hub of another make: its log is all there is
        _, dumps = json_functions()
        for record in records:
            with contextlib.suppress(TypeError, ValueError):
                self._log.error("quarantined: %s", dumps(record).decode())
