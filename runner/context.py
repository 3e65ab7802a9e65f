"""What a Context needs from its runner."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from sequence_sdk.hub import Answer, Body, Carrier, HubApi, UsedOutsideLoop

from .heartbeat import Heartbeat
from .hub_link import HubLink
from .protocol.errors import LocalProtocolError
from .protocol.messages import Alive, Event

_SPACE_BASE = "/cpm/api/v1"  # of the hub's API: what is below it the hub passes to its manager


class RunnerHost:
    """Sends what the author says to the hub, from any thread; requests to the hub, from the event loop."""

    def __init__(
        self, heartbeat: Heartbeat, *, end: Callable[[BaseException | None], None] = lambda _: None
    ) -> None:
        """Take the way to the hub, and what ends the Sequence."""
        self._heartbeat = heartbeat
        self._end = end
        self._link: HubLink | None = None
        self._hub: HubApi | None = None
        self._space: HubApi | None = None

    def open_hub(self, link: HubLink) -> None:
        """Take the way to the hub's API."""
        self._link, self._hub, self._space = link, HubApi(link), HubApi(Below(link, _SPACE_BASE))

    @property
    def hub(self) -> HubApi:
        """The API of the hub.

        Raises:
            UsedOutsideLoop: this is not the event loop of the Sequence.
        """
        return self._checked(self._hub)

    @property
    def space(self) -> HubApi:
        """The API of the manager that the hub has joined.

        Raises:
            UsedOutsideLoop: this is not the event loop of the Sequence.
        """
        return self._checked(self._space)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of the Sequence; None before it runs."""
        return None if self._link is None else self._link.loop

    def emit(self, name: str, message: Any) -> None:
        """Send an event.

        Raises:
            TypeError: the message is not JSON.
        """
        try:
            self._heartbeat.send(Event(name, message))
        except LocalProtocolError as error:
            raise TypeError(f"emit({name!r}): {error}") from None

    def keep_alive(self, seconds: float) -> None:
        """Ask the hub to let the Sequence live on."""
        self._heartbeat.send(Alive(seconds * 1000))

    def end(self, error: BaseException | None) -> None:
        """End the Sequence soon; with an error as failed."""
        self._end(error)

    def _checked(self, api: HubApi | None) -> HubApi:
        if self._link is None or api is None:
            raise UsedOutsideLoop
        self._link.check_loop()
        return api


class Below:
    """A carrier of requests to an API that stands below a path of another."""

    def __init__(self, carrier: Carrier, base: str) -> None:
        self._carrier = carrier
        self._base = base

    @property
    def where(self) -> str:
        """The place, for error texts."""
        return f"{self._carrier.where}{self._base}"

    def request(
        self, method: str, path: str, *, headers: Mapping[str, str], body: Body
    ) -> AbstractAsyncContextManager[Answer]:
        """Send a request there."""
        return self._carrier.request(method, self._base + path, headers=headers, body=body)
