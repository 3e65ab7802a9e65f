"""What a Context needs from its runner."""

from typing import Any

from sequence_sdk.hub import HubApi, UsedOutsideLoop

from .heartbeat import Heartbeat
from .hub_link import HubLink
from .protocol.errors import LocalProtocolError
from .protocol.messages import Alive, Event


class RunnerHost:
    """Sends what the author says to the hub, from any thread; requests to the hub, from the event loop."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat
        self._link: HubLink | None = None
        self._hub: HubApi | None = None

    def open_hub(self, link: HubLink) -> None:
        """Take the way to the hub's API."""
        self._link, self._hub = link, HubApi(link)

    @property
    def hub(self) -> HubApi:
        """The API of the hub.

        Raises:
            UsedOutsideLoop: this is not the event loop of the Sequence.
        """
        if self._link is None or self._hub is None:
            raise UsedOutsideLoop
        self._link.check_loop()
        return self._hub

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
