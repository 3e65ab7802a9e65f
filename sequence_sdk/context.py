"""``context`` as an author sees it: configuration, log, events, and a say in how the Sequence ends."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from .hub import HubApi

StopHandler = Callable[[float, bool], Awaitable[None] | None]
EventHandler = Callable[[Any], Awaitable[None] | None]
HealthCheck = Callable[[], dict[str, Any]]


class Host(Protocol):
    """What a context needs from the process it lives in. Its methods may be called from any thread."""

    @property
    def hub(self) -> HubApi:
        """The API of the hub.

        Raises:
            UsedOutsideLoop: this is not the event loop of the Sequence.
        """

    def emit(self, name: str, message: Any) -> None:
        """Send an event to the hub."""

    def keep_alive(self, seconds: float) -> None:
        """Ask the hub to let the Sequence live on."""


class Context:
    """The Sequence's view of its Instance.

    Attributes:
        config: the ``appConfig`` of the start, a dict.
        instance_id: 36 characters.
        logger: its records go to the Instance's log.
    """

    def __init__(
        self,
        *,
        host: Host,
        config: dict[str, Any] | None = None,
        instance_id: str = "",
        logger: logging.Logger | None = None,
    ) -> None:
        self.config: dict[str, Any] = config or {}
        self.instance_id = instance_id
        self.logger = logger or logging.getLogger("Sequence")
        self._host = host
        self._stop_handlers: list[StopHandler] = []
        self._event_handlers: dict[str, list[EventHandler]] = {}
        self._health_check: HealthCheck | None = None
        self._kept_alive = False
        self._tasks: set[asyncio.Future[None]] = set()

    @property
    def hub(self) -> HubApi:
        """The API of the hub that runs the Instance: start others, send to them, read from them.

        It works in the event loop of the Sequence; what is open when the Sequence ends is broken off.

        Raises:
            UsedOutsideLoop: this is a plain generator's thread, or another one.
        """
        return self._host.hub

    def set_stop_handler(self, handler: StopHandler, *_ignored: Any) -> None:
        """Add a handler that is called with ``(timeout, can_keep_alive)`` when a stop is asked for.

        ``timeout`` is in seconds. Handlers are awaited in the order they were added; after the last the Sequence is
        closed, so a handler that wants to finish work waits for it. Despite its name the method adds: the name is
        that of the original framework, whose further arguments are ignored here too.
        """
        self._stop_handlers.append(handler)

    def set_health_check(self, check: HealthCheck) -> None:
        """Let ``check`` say how the Sequence is, once a second; it returns a dict such as ``{"healthy": True}``.

        Raises:
            TypeError: it is a coroutine function; a check answers at once.
        """
        if inspect.iscoroutinefunction(check):
            raise TypeError(
                "a health check is a plain function that answers at once: write `def`, not `async def`"
            )
        self._health_check = check

    def on(self, event_name: str, handler: EventHandler) -> None:
        """Call ``handler(message)`` for each event of that name that reaches the Instance."""
        self._event_handlers.setdefault(event_name, []).append(handler)

    def emit(self, event_name: str, message: Any = "") -> None:
        """Send an event to the hub, from any thread. ``message`` is any JSON value.

        Raises:
            TypeError: the message is not JSON.
        """
        self._host.emit(event_name, message)

    async def keep_alive(self, timeout: float = 0) -> None:  # noqa: ASYNC109 - the name of the original framework
        """Ask, in a stop handler, to live on, and wait ``timeout`` seconds. Without leave to do so the stop goes on."""
        self._kept_alive = True
        self._host.keep_alive(timeout)
        await asyncio.sleep(timeout)

    # --- the runner's side ---------------------------------------------------------------------------------------

    @property
    def has_stop_handlers(self) -> bool:
        """Tell whether anybody wants to hear of a stop."""
        return bool(self._stop_handlers)

    async def call_stop_handlers(self, seconds: float, can_keep_alive: bool) -> bool:
        """Await all handlers in order; return whether one of them kept the Sequence alive.

        Raises:
            ExceptionGroup: what handlers raised, after all have run.
        """
        self._kept_alive = False
        failures: list[Exception] = []
        for handler in self._stop_handlers:
            try:
                outcome = handler(seconds, can_keep_alive)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception as error:  # noqa: BLE001 - author's code; all of them are reported together
                failures.append(error)
        if failures:
            raise ExceptionGroup("stop handlers failed", failures)
        return self._kept_alive and can_keep_alive

    def health(self) -> dict[str, Any]:
        """Return the report of the author's check, or that all is well.

        Raises:
            TypeError: the check returned something else than a dict.
            Exception: whatever the check raises.
        """
        if self._health_check is None:
            return {"healthy": True}
        report: object = self._health_check()
        if not isinstance(report, dict):
            raise TypeError(f'the health check returned {report!r}, not a dict such as {{"healthy": True}}')
        return report

    def dispatch(self, event_name: str, message: Any) -> None:
        """Call the handlers of an event, in the loop; what they raise is logged."""
        for handler in self._event_handlers.get(event_name, ()):
            task = asyncio.ensure_future(self._deliver(handler, event_name, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, handler: EventHandler, event_name: str, message: Any) -> None:
        try:
            outcome = handler(message)
            if inspect.isawaitable(outcome):
                await outcome
        except Exception:  # author's code
            self.logger.exception("handler of event %r failed", event_name)
