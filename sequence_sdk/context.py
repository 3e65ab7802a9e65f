"""``context`` as an author sees it: configuration, log, events, what the hub keeps, and a say in how the Sequence ends."""

import asyncio
import concurrent.futures
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, cast

from ._json import check_json
from .content import ContentType
from .errors import SequenceError
from .hub import HubApi, HubUnreachable
from .metrics import Metrics
from .state import MemoryStore, State, StateStore
from .topic import Topic

if TYPE_CHECKING:  # its default is for type checkers, and needs a package that an author may not have
    from typing_extensions import TypeVar as TypeVarWithDefault

    C = TypeVarWithDefault("C", default=dict[str, Any])
else:
    C = TypeVar("C")

P = ParamSpec("P")
R = TypeVar("R")

StopHandler = Callable[[float, bool], Awaitable[None] | None] | Callable[[], Awaitable[None] | None]
KillHandler = Callable[[], Awaitable[None] | None]
EventHandler = Callable[[Any], Awaitable[None] | None]
Report = dict[str, Any]
HealthCheck = Callable[[], Awaitable[Report] | Report]
MonitoringHandler = Callable[[Report], Awaitable[Report | None] | Report | None]

_LOOK = 1.0  # seconds between two looks of a thread at whether the loop it waits for is still there


class CalledInLoop(SequenceError):
    """``context.from_thread`` was called in an event loop, which would wait for itself."""

    def __str__(self) -> str:
        return (
            "context.from_thread is for threads: here, in an event loop, write `await` before the call itself"
        )


class LoopIsOver(SequenceError):
    """A thread wants something of the event loop of a Sequence that has ended."""

    def __str__(self) -> str:
        return "context.from_thread: the Sequence has ended, and its event loop with it"


def _taken(handler: Callable[..., Any], *arguments: Any) -> tuple[Any, ...]:
    """Return the arguments that a handler can be called with: all of them, or none.

    The original runner of 0.18 calls stop handlers with none, and packages have handlers for that.
    """
    try:
        signature = inspect.signature(handler)
        signature.bind()
    except (TypeError, ValueError):  # it needs some, or is built in and shows nothing
        return arguments
    try:
        signature.bind(*arguments)
    except TypeError:
        return ()
    return arguments


async def _unless_ended(work: Coroutine[Any, Any, R]) -> "R | LoopIsOver":
    """Return what the work does, or, when the loop cancels the task as it ends, the error for who waits in a thread.

    It is not raised here: a loop that ends would report it as an error that nobody has looked at.
    """
    try:
        return await work
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            return LoopIsOver()
        raise


class Destroyed(SequenceError):
    """The Sequence has ended itself as failed, with ``context.destroy()``."""


class Host(Protocol):
    """What a context needs from the process it lives in. Its methods may be called from any thread."""

    @property
    def hub(self) -> HubApi:
        """The API of the hub.

        Raises:
            UsedOutsideLoop: this is not the event loop of the Sequence.
        """
        ...

    @property
    def space(self) -> HubApi:
        """The API of the manager that the hub has joined.

        Raises:
            UsedOutsideLoop: this is not the event loop of the Sequence.
        """
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of the Sequence; None if it has none."""

    def emit(self, name: str, message: Any) -> None:
        """Send an event to the hub."""

    def keep_alive(self, seconds: float) -> None:
        """Ask the hub to let the Sequence live on."""

    def end(self, error: BaseException | None) -> None:
        """End the Sequence soon; with an error as failed."""


class LocalHost:
    """A host without a hub, for an author's own tests: it keeps what it is told.

    Attributes:
        events: name and message of each event emitted.
        keep_alives: the seconds of each request to live on.
        ends: the error of each ``end`` (None) and ``destroy``.
        loop: where ``from_thread`` runs its functions; None: in one of its own.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.keep_alives: list[float] = []
        self.ends: list[BaseException | None] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def hub(self) -> HubApi:
        """There is none: this always raises HubUnreachable."""
        raise HubUnreachable("context.hub", "this context was made without one")

    @property
    def space(self) -> HubApi:
        """There is none: this always raises HubUnreachable."""
        raise HubUnreachable("context.space", "this context was made without one")

    def emit(self, name: str, message: Any) -> None:
        """Keep an event.

        Raises:
            TypeError: the message is not JSON.
        """
        check_json(f"emit({name!r}): the message", message)
        self.events.append((name, message))

    def keep_alive(self, seconds: float) -> None:
        """Keep the wish to live on."""
        self.keep_alives.append(seconds)

    def end(self, error: BaseException | None) -> None:
        """Keep the wish to end."""
        self.ends.append(error)


class Context(Generic[C]):
    """The Sequence's view of its Instance. ``Context[Config]`` is one whose ``config`` is a ``Config``.

    ``Context()`` is one for tests: nothing leaves it, its state is kept in memory.

    Attributes:
        config: the ``appConfig`` of the start: a dict, or what the Sequence's type hint makes of it.
        instance_id: 36 characters.
        logger: its records go to the Instance's log.
        metrics: counters and gauges that the hub shows.
        state: a few values that the hub keeps across restarts of the Instance.
    """

    def __init__(
        self,
        *,
        host: Host | None = None,
        config: C | None = None,
        instance_id: str = "",
        logger: logging.Logger | None = None,
        store: StateStore | None = None,
    ) -> None:
        """Make a context.

        Args:
            host: the process around it; without one, a LocalHost.
            config: what ``context.config`` is; an empty dict if there is none.
            instance_id: the Instance's.
            logger: the one named ``Sequence`` if there is none.
            store: where the state is kept; without one, at the hub, or in memory if there is no host either.
        """
        self.config: C = cast("C", {}) if config is None else config
        self.instance_id = instance_id
        self.logger: logging.Logger = logger or logging.getLogger("Sequence")
        self.metrics: Metrics = Metrics()
        self._host: Host = host or LocalHost()
        kept = store or (MemoryStore() if host is None else None)
        self.state: State = State(lambda: kept or self._host.hub, instance_id)
        self._deadline: float | None = None
        self._stop_handlers: list[StopHandler] = []
        self._kill_handlers: list[KillHandler] = []
        self._event_handlers: dict[str, list[EventHandler]] = {}
        self._health_check: HealthCheck | None = None
        self._monitoring_handlers: list[MonitoringHandler] = []
        self._kept_alive = False
        self._topics: dict[tuple[str, str], Topic] = {}
        self._tasks: set[asyncio.Future[None]] = set()

    # --- the hub --------------------------------------------------------------------------------------------------

    @property
    def hub(self) -> HubApi:
        """The API of the hub that runs the Instance: start others, send to them, read from them.

        It works in the event loop of the Sequence; what is open when the Sequence ends is broken off.

        Raises:
            UsedOutsideLoop: this is a plain generator's thread, or another one.
        """
        return self._host.hub

    @property
    def space(self) -> HubApi:
        """The API of the manager above the hub, which shows many hubs as one; it answers 404 where there is none.

        It works in the event loop of the Sequence; what is open when the Sequence ends is broken off.

        Raises:
            UsedOutsideLoop: this is a plain generator's thread, or another one.
        """
        return self._host.space

    def topic(self, name: str, content_type: str = ContentType.NDJSON) -> Topic:
        """Return a topic of the hub, to read with ``async for``, and to ``write`` to.

        What was written is sent before the Sequence ends. The same name and type give the same object.

        Raises:
            UnsupportedContentType: nobody here reads it.
        """
        topic = self._topics.get((name, content_type))
        if topic is None:
            topic = self._topics[name, content_type] = Topic(name, content_type, lambda: self._host.hub)
        return topic

    def from_thread(
        self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run an async function in the event loop of the Sequence, from a plain generator or another thread.

        It waits for the result and returns it, as in ``context.from_thread(context.state.get, "name")``.

        Raises:
            CalledInLoop: this is an event loop; ``await`` does it there.
            LoopIsOver: the Sequence has ended.
            Exception: what the function raises.
        """
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            raise CalledInLoop
        loop = self._host.loop
        if loop is None:
            return asyncio.run(function(*args, **kwargs))
        work = function(*args, **kwargs)
        done = _unless_ended(work)
        try:
            future = asyncio.run_coroutine_threadsafe(done, loop)
        except RuntimeError:  # the loop is closed
            done.close()
            work.close()
            raise LoopIsOver from None
        while not concurrent.futures.wait([future], timeout=_LOOK).done:
            if loop.is_closed():  # it took the request, and had no turn for it any more
                done.close()
                work.close()
                raise LoopIsOver
        result = future.result()
        if isinstance(result, LoopIsOver):
            raise result
        return result

    # --- events ---------------------------------------------------------------------------------------------------

    def on(self, event_name: str, handler: EventHandler) -> None:
        """Call ``handler(message)``, sync or async, for each event of that name that reaches the Instance."""
        self._event_handlers.setdefault(event_name, []).append(handler)

    def emit(self, event_name: str, message: Any = "") -> None:
        """Send an event to the hub, from any thread. ``message`` is any JSON value.

        Raises:
            TypeError: the message is not JSON.
        """
        self._host.emit(event_name, message)

    # --- health ---------------------------------------------------------------------------------------------------

    def set_health_check(self, check: HealthCheck) -> None:
        """Let ``check``, sync or async, say how the Sequence is, once a second.

        It returns a dict such as ``{"healthy": True}``. The last check that was set counts.
        """
        self._health_check = check

    def add_monitoring_handler(self, handler: MonitoringHandler) -> None:
        """Let ``handler(report)``, sync or async, add to the report of how the Sequence is, once a second.

        The report so far is a dict such as ``{"healthy": True}``; it begins with what the health check says, and goes through
        the handlers in the order they were added. One that returns a dict adds its members; None leaves the report as it is.
        """
        self._monitoring_handlers.append(handler)

    # --- the end --------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When the Sequence is killed, if a stop was asked for; otherwise None.

        It is a moment on the clock of the event loop, ``loop.time()``, and of ``time.monotonic()``:
        ``async with asyncio.timeout_at(context.deadline)`` bounds what is done at the end. None again when a stop was called off.
        """
        return self._deadline

    def set_stop_handler(self, handler: StopHandler, *_ignored: Any) -> None:
        """Add a handler that is called with ``(timeout, can_keep_alive)`` when a stop is asked for.

        ``timeout`` is in seconds. Handlers are awaited in the order they were added; after the last the Sequence is
        closed, so a handler that wants to finish work waits for it. Despite its name the method adds: the name is
        that of the original framework, whose further arguments are ignored here too.
        """
        self._stop_handlers.append(handler)

    def add_stop_handler(self, handler: StopHandler) -> None:
        """Add a handler of stops: the same as ``set_stop_handler``, by the name that says it."""
        self._stop_handlers.append(handler)

    def add_kill_handler(self, handler: KillHandler) -> None:
        """Add a handler that is called, without arguments, when the Instance is killed.

        All run at the same time in the event loop, sync or async, and have 0.2 seconds together; then the process is gone,
        whatever they do. A blocked loop never calls them.
        """
        self._kill_handlers.append(handler)

    async def keep_alive(self, timeout: float = 0) -> None:  # noqa: ASYNC109 - the name of the original framework
        """Ask, in a stop handler, to live on, and wait ``timeout`` seconds. Without leave to do so the stop goes on."""
        self._kept_alive = True
        self._host.keep_alive(timeout)
        await asyncio.sleep(timeout)

    def end(self) -> None:
        """End the Sequence as if its function had returned, from any thread: the Instance is *completed*.

        The function is cancelled at its next ``await``, a plain generator closed at its next ``yield``; all it gave is
        sent. Tasks it has left running are cancelled.
        """
        self._host.end(None)

    def destroy(self, error: BaseException | str | None = None) -> None:
        """End the Sequence as if its function had raised ``error``, from any thread: the Instance is *errored*.

        It ends as with ``end``; then the error is shown. A text is the text of a ``Destroyed``.
        """
        if not isinstance(error, BaseException):
            error = Destroyed(error or "context.destroy() was called without an error")
        self._host.end(error)

    # --- the runner's side ----------------------------------------------------------------------------------------

    def forget_handlers(self) -> None:
        """Let nothing that was registered so far be called any more: other code takes over, and registers its own."""
        self._stop_handlers.clear()
        self._kill_handlers.clear()
        self._monitoring_handlers.clear()
        self._event_handlers.clear()
        self._health_check = None

    @property
    def has_stop_handlers(self) -> bool:
        """Tell whether anybody wants to hear of a stop."""
        return bool(self._stop_handlers)

    @property
    def has_kill_handlers(self) -> bool:
        """Tell whether anybody wants to hear of a kill."""
        return bool(self._kill_handlers)

    def set_deadline(self, moment: float | None) -> None:
        """Say when the Sequence is killed; None: nobody has asked for its end."""
        self._deadline = moment

    async def call_stop_handlers(self, seconds: float, can_keep_alive: bool) -> bool:
        """Await all handlers in order; return whether one of them kept the Sequence alive.

        Raises:
            ExceptionGroup: what handlers raised, after all have run.
        """
        self._kept_alive = False
        failures: list[Exception] = []
        for handler in self._stop_handlers:
            try:
                outcome = handler(*_taken(handler, seconds, can_keep_alive))
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception as error:  # noqa: BLE001 - author's code; all of them are reported together
                failures.append(error)
        if failures:
            raise ExceptionGroup("stop handlers failed", failures)
        return self._kept_alive and can_keep_alive

    async def call_kill_handlers(self) -> None:
        """Call all handlers at the same time, and wait for them; what they raise is logged."""
        await asyncio.gather(*(self._call_kill_handler(handler) for handler in self._kill_handlers))

    async def _call_kill_handler(self, handler: KillHandler) -> None:
        try:
            outcome = handler()
            if inspect.isawaitable(outcome):
                await outcome
        except BaseException:  # author's code; not even sys.exit() is for it to say now
            self.logger.exception("a kill handler failed")

    @property
    def has_health_handlers(self) -> bool:
        """Tell whether the author has a say in the health report."""
        return self._health_check is not None or bool(self._monitoring_handlers)

    async def health(self) -> Report:
        """Return the report of the author's check and monitoring handlers, or that all is well.

        Raises:
            TypeError: one of them returned something else than a dict.
            Exception: whatever one of them raises.
        """
        report: Report = {"healthy": True}
        if self._health_check is not None:
            report = _dict(await _awaited(self._health_check()), "the health check")
        for handler in self._monitoring_handlers:
            more = await _awaited(handler(report))
            if more is not None and more is not report:
                report = report | _dict(more, "a monitoring handler")
        return report

    def dispatch(self, event_name: str, message: Any) -> None:
        """Call the handlers of an event, in the loop; what they raise is logged."""
        for handler in self._event_handlers.get(event_name, ()):
            task = asyncio.ensure_future(self._deliver(handler, event_name, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def flush_topics(self) -> list[Exception]:
        """Wait until all topics have what was written to them; return what has failed and nobody has heard of."""
        outcomes = await asyncio.gather(
            *(topic.flush() for topic in self._topics.values()), return_exceptions=True
        )
        return [outcome for outcome in outcomes if isinstance(outcome, Exception)]

    async def _deliver(self, handler: EventHandler, event_name: str, message: Any) -> None:
        try:
            outcome = handler(message)
            if inspect.isawaitable(outcome):
                await outcome
        except Exception:  # author's code
            self.logger.exception("handler of event %r failed", event_name)


async def _awaited(outcome: Awaitable[R] | R) -> R:
    return cast("R", await outcome if inspect.isawaitable(outcome) else outcome)


def _dict(report: object, whose: str) -> Report:
    if not isinstance(report, dict):
        raise TypeError(f'{whose} returned {report!r}, not a dict such as {{"healthy": True}}')
    return report
