"""What a Context needs from its runner."""

from typing import Any

from .heartbeat import Heartbeat
from .protocol.errors import LocalProtocolError
from .protocol.messages import Alive, Event


class RunnerHost:
    """Sends what the author says to the hub, from any thread."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat

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
