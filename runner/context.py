"""What a Context needs from its runner."""

import asyncio
from collections.abc import Callable
from typing import Any

from sequence_sdk.hub import MANAGER, HubApi, UsedOutsideLoop

from .heartbeat import Heartbeat
from .hub_link import HubLink
from .protocol.errors import LocalProtocolError
from .protocol.messages import Alive, Event


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
        self._link, self._hub, self._space = link, HubApi(link), HubApi(link, base=MANAGER)

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
