"""One Sequence from its first line to its last byte: load, call, pump, stop, report, exit code."""

import asyncio
import atexit
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

from sequence_sdk import _invoke, scramjet_names
from sequence_sdk._invocation import Code, Invocation
from sequence_sdk.content import ContentType
from sequence_sdk.context import Context
from sequence_sdk.errors import SequenceError, UnsupportedContentType

from . import stdio, user_code
from .context import RunnerHost
from .debugger import wait_for_debugger
from .errors import NoEntryFile, NotReloaded, RunnerError
from .heartbeat import Heartbeat
from .hub_link import HubLink
from .log_channel import LogChannel
from .protocol.channels import Channel
from .protocol.exit_codes import ExitCode
from .protocol.messages import Pang, Ping, Pong, Reloaded, SequenceStopped
from .pump import InputSource, pump_output
from .quarantine import Quarantine
from .reload import replaced
from .report import forgotten_yield, format_failure
from .settings import Settings
from .sockets import SocketReader, SocketWriter, connect
from .user_code import AuthorCode, Topic

_HEALTH_PATIENCE = (
    0.1  # seconds until the last report is sent for one that is not ready; less than the heartbeat's
)
_HEALTH_TIMEOUT = 10.0  # seconds that the author's monitoring handlers have
_WELL: dict[str, Any] = {"healthy": True}
_NEWS = 0.25  # seconds in which a hub that breaks one link shows that it is gone altogether


def run(settings: Settings, links: dict[Channel, socket.socket] | None = None) -> int:
    """Run the Sequence of the settings to its end and return the exit code.

    What the author's threads and exit handlers say after that still reaches the hub.

    Args:
        settings: what to run, and where the hub is.
        links: one for each channel, of a hub that has them already.

    Raises:
        RunnerError: it could not even begin; ``exit_code`` of it says why.
    """
    entry = _entry_file(settings)
    links = connect(settings) if links is None else links
    stdio.attach(links)
    log = LogChannel(links[Channel.LOG], settings.instance_id)
    process = os.getpid()
    heartbeat = Heartbeat(
        links[Channel.CONTROL],
        links[Channel.MONITORING],
        warn=log.warn_later(log.logger("Runner")),
        package=str(user_code.package_root(entry)),
        exit_process=lambda code: _exit_at_once(heartbeat, code),
    )
    atexit.register(
        _end_links, heartbeat, log, process
    )  # first of all, so it runs after the author's handlers
    heartbeat.start(_ping(settings))
    pong = heartbeat.wait_for_pong()
    session = Session(settings, entry, pong, heartbeat, log)
    try:
        with asyncio.Runner() as loop_runner:
            try:
                code = loop_runner.run(session.run(links))
            finally:
                if os.getpid() == process:
                    stdio.end_input()  # a thread of the author's that reads it would hold up the end
    except SystemExit as request:  # an author's task called sys.exit
        code = exit_status(request)
    finally:
        heartbeat.detach()
    return code


def _entry_file(settings: Settings) -> Path:
    entry = settings.sequence_path.absolute()
    with contextlib.suppress(OSError):  # a name that is too long, a folder that may not be read
        if entry.is_file():
            return entry
    raise NoEntryFile(settings.sequence_path)


def _end_links(heartbeat: Heartbeat, log: LogChannel, process: int) -> None:
    if os.getpid() == process:  # not a child that the author forked
        heartbeat.close()
        log.end()
        stdio.end_output()
        _end_orphans(heartbeat)


def _exit_at_once(heartbeat: Heartbeat, code: int) -> NoReturn:
    _end_orphans(heartbeat)
    os._exit(code)


def _end_orphans(heartbeat: Heartbeat) -> None:
    """End what the Sequence has started, when the hub that would do it is gone. It ends this process too."""
    if heartbeat.abandoned and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _ping(settings: Settings) -> Ping:
    return Ping(
        instance_id=settings.instance_id,
        payload={**settings.connect_info, "system": {"processPID": str(os.getpid()), "reload": True}},
        sequence_info=settings.sequence_info,
        created=int(time.time() * 1000),
        status="starting",
    )


def exit_status(request: SystemExit) -> int:
    """Return the status Python would exit with; a message goes to stderr as Python would print it."""
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code & 0xFF
    print(request.code, file=sys.stderr)
    return 1


class Session:
    """The author's side of a runner, in the event loop."""

    def __init__(
        self, settings: Settings, entry: Path, pong: Pong, heartbeat: Heartbeat, log: LogChannel
    ) -> None:
        self._entry = entry
        self._heartbeat = heartbeat
        self._log = logging.getLogger("Runner")
        self._settings = settings
        self._config, self._args = _start_request(settings, pong)
        self._host = RunnerHost(heartbeat, end=self.end)
        self._context = Context(
            host=self._host,
            config=self._config,
            instance_id=settings.instance_id,
            logger=log.logger("Sequence"),
        )
        self._invocation: Invocation | None = None
        self._kind: ContentType | None = None  # how the output is written, once it has been announced
        self._process = os.getpid()
        self._own_tasks: set[asyncio.Task[Any]] = set()
        self._stop_begun = asyncio.Event()  # while stop handlers run, or have run
        self._stop_over = asyncio.Event()  # they have run, one way or the other
        self._stopping = False  # they have run, and the Sequence is being closed
        self._stop_error: str | None = None
        self._end_code: int | None = None  # of an end that the author has asked for
        self._destroyed: BaseException | None = None  # the author's reason for that
        self._killing = False  # the kill handlers run; the heartbeat ends the process
        self._health: asyncio.Task[dict[str, Any]] | None = None  # while a report is being made
        self._last_health: dict[str, Any] = {"healthy": True}
        self._broken: ConnectionError | None = None  # what ended the Sequence may be the end of the hub

    async def run(self, links: Mapping[Channel, socket.socket]) -> int:
        """Load and run the Sequence on its links; return the exit code."""
        with closing(HubLink(links[Channel.PACKAGE])) as hub_link:
            self._host.open_hub(hub_link)
            code = await self._run(links[Channel.IN], links[Channel.OUT])
            if self._killing:
                await (
                    asyncio.Event().wait()
                )  # for the heartbeat to end the process: this end is not the author's choice
            return code

    async def _run(self, input_link: socket.socket, output_link: socket.socket) -> int:
        self._loop = asyncio.get_running_loop()
        self._reader = SocketReader(input_link)
        self._writer = SocketWriter(output_link)
        current = asyncio.current_task()
        if current is not None:
            self._own_tasks.add(current)
        self._heartbeat.attach(self)
        self._main: asyncio.Task[int] = self._spawn(self._run_sequence())
        await asyncio.wait([self._main])
        if self._broken is not None:
            await self._look_for_the_hub(self._broken)
        self._end_output()
        lost = await self._flush_topics()
        while self._heartbeat.stop_requested and not self._stopping:
            await self._stop_over.wait()
        if self._destroyed is not None:
            self._report(self._destroyed, "the Sequence has ended itself as failed")
        if self._stopping:
            self._heartbeat.send(SequenceStopped(self._stop_error))
            return ExitCode.STOPPED
        code = self._main.result()
        return code if code or not lost else ExitCode.SEQUENCE_FAILED_DURING_EXECUTION

    async def _flush_topics(self) -> bool:
        """Wait until the hub has what was written to topics; tell whether some of it is lost."""
        failures = await self._context.flush_topics()
        for failure in failures:
            if not self._heartbeat.hub_gone:
                self._report(failure.with_traceback(None), "what was written to a topic is lost")
        return bool(failures)

    async def _look_for_the_hub(self, error: ConnectionError) -> None:
        """Report an error of a connection, unless the hub turns out to be gone: that is a stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_NEWS):
                await self._stop_begun.wait()
        if not self._heartbeat.hub_gone:
            self._report(error, "the Sequence failed")

    # --- what the heartbeat's thread asks of the author ------------------------------------------------------------

    def probe(self, answer: Callable[[dict[str, Any]], None]) -> None:
        """Let the loop answer with the author's health report."""
        self._in_loop(self._answer_probe, answer)

    def stop(self, seconds: float, can_keep_alive: bool) -> None:
        """Let the stop handlers run and close the Sequence."""
        self._in_loop(self._begin_stop, seconds, can_keep_alive, time.monotonic() + seconds)

    def kill(self, done: Callable[[], None]) -> bool:
        """Let the kill handlers run, then call ``done``; return False if there are none."""
        if not self._context.has_kill_handlers:
            return False
        self._in_loop(self._begin_kill, done)
        return True

    def event(self, name: str, message: Any) -> None:
        """Hand an event to the author's handlers."""
        self._in_loop(self._context.dispatch, name, message)

    def metrics(self) -> dict[str, Any]:
        """Return the author's metrics."""
        return self._context.metrics.snapshot()

    # --- what the author asks of the Sequence ----------------------------------------------------------------------

    def end(self, error: BaseException | None) -> None:
        """End the Sequence soon, from any thread; with an error as failed."""
        self._in_loop(self._end, error)

    def _end(self, error: BaseException | None) -> None:
        if self._end_code is None and not self._main.done():
            self._destroyed = error
            self._end_code = ExitCode.SUCCESS if error is None else ExitCode.SEQUENCE_FAILED_DURING_EXECUTION
            self._main.cancel()

    # --- in the loop -----------------------------------------------------------------------------------------------

    def reload(self, path: str) -> None:
        """Let the code of another entry file go on with the next item, and tell the hub whether it does."""
        self._in_loop(self._reload, path)

    def _in_loop(self, function: Callable[..., Any], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the Sequence is over
            self._loop.call_soon_threadsafe(function, *args)

    def _answer_probe(self, answer: Callable[[dict[str, Any]], None]) -> None:
        if not self._context.has_health_handlers and self._health is None:
            answer(_WELL)  # most have none, and this is all that an Instance at rest does
            return
        if self._health is None:
            self._health = self._spawn(self._ask_for_health())
        patience = self._spawn(asyncio.wait([self._health], timeout=_HEALTH_PATIENCE))
        patience.add_done_callback(lambda _: self._answer_with_health(answer))

    def _answer_with_health(self, answer: Callable[[dict[str, Any]], None]) -> None:
        """Answer with the report; with the last one while handlers of the author's wait, for that does not block the loop."""
        if self._health is not None and self._health.done():
            if not self._health.cancelled():
                self._last_health = self._health.result()
            self._health = None
        answer(self._last_health)

    async def _ask_for_health(self) -> dict[str, Any]:
        limit = asyncio.timeout(_HEALTH_TIMEOUT)
        try:
            async with limit:
                return await self._context.health()
        except Exception as error:  # author's code
            self._context.logger.exception("the health check failed")
            said = f"{type(error).__name__}: {error}"
            late = f"no report within {_HEALTH_TIMEOUT:g} seconds"
            return {"healthy": False, "error": late if limit.expired() else said}

    def _begin_stop(self, seconds: float, can_keep_alive: bool, deadline: float) -> None:
        self._context.set_deadline(deadline)
        self._stop_begun.set()
        self._stop_over.clear()
        self._spawn(self._stop(seconds, can_keep_alive))

    async def _stop(self, seconds: float, can_keep_alive: bool) -> None:
        kept_alive = False
        try:
            kept_alive = await self._context.call_stop_handlers(seconds, can_keep_alive)
        except ExceptionGroup as failures:
            for failure in failures.exceptions:
                self._report(failure, "a stop handler failed")
            self._stop_error = "; ".join(f"{type(one).__name__}: {one}" for one in failures.exceptions)
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            self._report(error, "a stop handler awaited a task that was cancelled")
            self._stop_error = "CancelledError"
        if kept_alive and self._heartbeat.kept_alive():
            self._context.set_deadline(None)
            self._stop_begun.clear()
        else:
            self._stopping = True
            self._main.cancel()
        self._stop_over.set()

    def _begin_kill(self, done: Callable[[], None]) -> None:
        self._killing = True
        self._spawn(self._kill(done))

    async def _kill(self, done: Callable[[], None]) -> None:
        await self._context.call_kill_handlers()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        done()

    # --- the Sequence ----------------------------------------------------------------------------------------------

    async def _run_sequence(self) -> int:
        try:
            user_code.prepare_path(self._entry)
            scramjet_names.install()
            os.chdir(self._entry.parent)
            if self._settings.debug_port:
                await wait_for_debugger(
                    self._settings.debug_port,
                    source=self._settings.debug_source,
                    package=str(user_code.package_root(self._entry)),
                )
            self._author = user_code.load(self._entry)
        except RunnerError as error:
            return self._refuse(error, error.exit_code)
        except BaseException as error:  # noqa: BLE001 - the author's module
            return self._failed(error, ExitCode.SEQUENCE_FAILED_ON_START)
        try:
            code = self._code(self._author)
            self._open_input(code)
        except SequenceError as error:
            return self._refuse(error, ExitCode.SEQUENCE_FAILED_ON_START)
        if self._heartbeat.stop_requested:
            return ExitCode.STOPPED  # before it began: the function is not called any more
        self._heartbeat.up()
        requires = self._requires
        self._heartbeat.send(
            Pang(
                requires=requires.name,
                content_type=_type_of(code, requires) if requires.name else requires.content_type,
            )
        )
        try:
            await self._call(code)
        except BaseException as error:  # noqa: BLE001 - the author's function
            return self._failed(error, ExitCode.SEQUENCE_FAILED_DURING_EXECUTION)
        self._end_output()
        return await self._wait_for_background_tasks()

    def _refuse(self, error: Exception, code: int) -> int:
        """Say what is wrong where it is not the author's code that says it, and return the exit code."""
        print(error, file=sys.stderr)
        self._log.error("%s", error)
        return code

    def _code(self, author: AuthorCode) -> Code:
        """Return the author's code, ready to be called with the arguments of the start."""
        return Code(author.function, author.spec, self._args, self._config)

    @property
    def _requires(self) -> Topic:
        """The topic that the module or the decorator names for the input."""
        named = self._author.requires
        return named if named.name or not self._author.spec.requires else Topic(self._author.spec.requires)

    def _open_input(self, code: Code) -> None:
        """Open the input; a Sequence that names a topic has said what it reads, and gets no prologue."""
        self._source = InputSource(
            self._reader,
            declared=_type_of(code, self._requires),
            has_prologue=not self._requires.name,
            refuse=self._refuse_line,
        )

    def _refuse_line(self, number: int, line: bytes, error: Exception) -> bool:
        return self._invocation is not None and self._invocation.refuse(number, line, error)

    async def _call(self, code: Code) -> None:
        """Call the Sequence and write what it gives, to its last item."""
        self._quarantine = Quarantine(
            self._host.hub, self._settings.instance_id, self._log, spawn=self._spawn
        )
        invocation = Invocation(
            code,
            self._context,
            self._source,
            quarantine=self._quarantine.add,
            settle=self._quarantine.settle,
        )
        self._invocation = invocation
        self._context.metrics.register(lambda: {"items": invocation.account.to_metrics()})
        try:
            await invocation.run(self._pump)
        finally:
            await self._quarantine.close()

    async def _pump(self, result: Any, code: Code) -> None:
        if result is None and self._invocation is not None:
            read = self._invocation.number
            if warning := forgotten_yield(self._author.function, read=read, gives=code.spec.gives or ""):
                self._log.warning("%s", warning)
        if self._kind is None:
            self._kind = self._announce_output(result, code)
        await pump_output(_invoke.outputs(result, self._kind), self._kind, self._writer)

    def _announce_output(self, result: Any, code: Code) -> ContentType:
        """Tell the hub what comes out, and return how it is written."""
        author = self._author
        wanted = user_code.declared_topic(result, "requires", "requires")
        if wanted.name:
            content_type = _type_of(code, wanted)
            if not self._requires.name:
                self._source.require(content_type)
            self._heartbeat.send(Pang(requires=wanted.name, content_type=content_type))
        own = user_code.declared_topic(result, "provides", "provides")
        provides = own if own.name else author.provides
        content_type = provides.content_type or code.contract.gives or ContentType.TEXT
        self._heartbeat.send(Pang(provides=provides.name or author.spec.provides, content_type=content_type))
        return _kind_of(content_type)

    # --- reload ----------------------------------------------------------------------------------------------------

    def _reload(self, path: str) -> None:
        try:
            self._swap(Path(path))
        except NotReloaded as error:
            self._heartbeat.send(Reloaded(str(error)))
        else:
            self._heartbeat.send(Reloaded(""))

    def _swap(self, entry: Path) -> None:
        """Load another entry file in place of the present one, and let it go on with the next item.

        Raises:
            NotReloaded: it does not load, or cannot go on; everything is as it was.
        """
        invocation = self._invocation
        if invocation is None:
            raise NotReloaded("the Sequence has not begun")
        with replaced(self._entry, entry):
            try:
                author = user_code.load(entry)
                code = self._code(author)
            except BaseException as error:
                self._report(error, "the new code was not loaded")
                raise NotReloaded(f"{type(error).__name__}: {error}") from error
            gives = author.provides.content_type or code.contract.gives or ContentType.TEXT
            if self._kind is not None and _kind_of(gives) is not self._kind:
                raise NotReloaded(
                    f"the new code gives {gives}, but the output is {self._kind}: start the Instance again"
                )
            if not invocation.swap(code):
                raise NotReloaded("the Sequence has ended")
        self._context.forget_handlers()
        self._author, self._entry = author, entry
        os.chdir(entry.parent)

    async def _wait_for_background_tasks(self) -> int:
        """Let tasks that the author left running come to their end, as the original runner does."""
        while self._end_code is None and (tasks := asyncio.all_tasks() - self._own_tasks):
            names = ", ".join(sorted(task.get_name() for task in tasks))
            self._log.info("the output has ended; waiting for %s", names)
            try:
                await asyncio.wait(tasks)
            except asyncio.CancelledError:
                if self._end_code is None:
                    return ExitCode.STOPPED
        return self._end_code or ExitCode.SUCCESS

    def _end_output(self) -> None:
        if os.getpid() == self._process:  # a child that the author forked must not end its parent's
            self._writer.end()

    def _failed(self, error: BaseException, code: ExitCode) -> int:
        """Report what the author's code raised and return the exit code for it."""
        if isinstance(error, SystemExit):
            return exit_status(error)
        if isinstance(error, ConnectionError) and not self._stopping:
            self._broken = error
        elif not (isinstance(error, asyncio.CancelledError) and self._main.cancelling()):
            self._report(error, "the Sequence failed", during=self._invocation)
        elif self._end_code is not None:
            return self._end_code
        return code

    def _report(self, error: BaseException, what: str, *, during: Invocation | None = None) -> None:
        """Show an error to the author, on stderr and in the log, without a frame of ours."""
        if during is None:
            text = format_failure(error)
        else:
            text = format_failure(
                error,
                item=during.item,
                number=during.number,
                function=self._author.function,
                content_type=self._source.content_type,
            )
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.write(text)
            sys.stderr.flush()
        self._log.error("%s: %s: %s", what, type(error).__name__, error, exc_info=error)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self._loop.create_task(work)
        self._own_tasks.add(task)
        task.add_done_callback(self._own_tasks.discard)
        return task


def _type_of(code: Code, topic: Topic) -> str:
    """Return the content type of an input that the author declares; text for a topic without one, else empty."""
    return code.contract.takes or topic.content_type or (ContentType.TEXT if topic.name else "")


def _kind_of(content_type: str) -> ContentType:
    """Return how an output of that content type is written."""
    try:
        return ContentType.parse(content_type)
    except UnsupportedContentType:
        return ContentType.OCTETS  # bytes of any other type go as they are


def _start_request(settings: Settings, pong: Pong) -> tuple[dict[str, Any], list[Any]]:
    """Return configuration and arguments: the PONG's, or what the environment says where it says nothing."""
    config, args = pong.app_config, pong.args
    if config is None:
        config = settings.connect_info.get("appConfig")
    if args is None:
        args = settings.connect_info.get("args")
    return config if isinstance(config, dict) else {}, args if isinstance(args, list) else []
