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

from sequence_sdk import _invoke
from sequence_sdk.content import ContentType
from sequence_sdk.context import Context
from sequence_sdk.errors import UnsupportedContentType
from sequence_sdk.stream import Input

from . import stdio, user_code
from .context import RunnerHost
from .errors import NoEntryFile, RunnerError
from .heartbeat import Heartbeat
from .hub_link import HubLink
from .log_channel import LogChannel
from .protocol.channels import Channel
from .protocol.exit_codes import ExitCode
from .protocol.messages import Pang, Ping, Pong, SequenceStopped
from .pump import InputSource, pump_output
from .settings import Settings
from .sockets import SocketReader, SocketWriter, connect
from .user_code import AuthorCode, Topic

_NEWS = 0.25  # seconds in which a hub that breaks one link shows that it is gone altogether


def run(settings: Settings) -> int:
    """Run the Sequence of the settings to its end and return the exit code.

    What the author's threads and exit handlers say after that still reaches the hub.

    Raises:
        RunnerError: it could not even begin; ``exit_code`` of it says why.
    """
    entry = _entry_file(settings)
    links = connect(settings)
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
        payload={**settings.connect_info, "system": {"processPID": str(os.getpid())}},
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
        config, args = _start_request(settings, pong)
        self._args = args
        self._host = RunnerHost(heartbeat)
        self._context = Context(
            host=self._host,
            config=config,
            instance_id=settings.instance_id,
            logger=log.logger("Sequence"),
        )
        self._process = os.getpid()
        self._own_tasks: set[asyncio.Task[Any]] = set()
        self._stop_begun = asyncio.Event()  # while stop handlers run, or have run
        self._stop_over = asyncio.Event()  # they have run, one way or the other
        self._stopping = False  # they have run, and the Sequence is being closed
        self._stop_error: str | None = None
        self._broken: ConnectionError | None = None  # what ended the Sequence may be the end of the hub

    async def run(self, links: Mapping[Channel, socket.socket]) -> int:
        """Load and run the Sequence on its links; return the exit code."""
        with closing(HubLink(links[Channel.PACKAGE])) as hub_link:
            self._host.open_hub(hub_link)
            return await self._run(links[Channel.IN], links[Channel.OUT])

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
        while self._heartbeat.stop_requested and not self._stopping:
            await self._stop_over.wait()
        self._end_output()
        if self._stopping:
            self._heartbeat.send(SequenceStopped(self._stop_error))
            return ExitCode.STOPPED
        return self._main.result()

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
        self._in_loop(self._begin_stop, seconds, can_keep_alive)

    def event(self, name: str, message: Any) -> None:
        """Hand an event to the author's handlers."""
        self._in_loop(self._context.dispatch, name, message)

    def _in_loop(self, function: Callable[..., Any], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the Sequence is over
            self._loop.call_soon_threadsafe(function, *args)

    def _answer_probe(self, answer: Callable[[dict[str, Any]], None]) -> None:
        try:
            report = self._context.health()
        except Exception as error:  # author's code
            self._context.logger.exception("the health check failed")
            report = {"healthy": False, "error": f"{type(error).__name__}: {error}"}
        answer(report)

    def _begin_stop(self, seconds: float, can_keep_alive: bool) -> None:
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
            self._stop_begun.clear()
        else:
            self._stopping = True
            self._main.cancel()
        self._stop_over.set()

    # --- the Sequence ----------------------------------------------------------------------------------------------

    async def _run_sequence(self) -> int:
        try:
            user_code.prepare_path(self._entry)
            os.chdir(self._entry.parent)
            author = user_code.load(self._entry)
            stream = self._open_input(author)
        except RunnerError as error:
            print(error, file=sys.stderr)
            self._log.error("%s", error)
            return error.exit_code
        except BaseException as error:  # noqa: BLE001 - the author's module
            return self._failed(error, ExitCode.SEQUENCE_FAILED_ON_START)
        if self._heartbeat.stop_requested:
            return ExitCode.STOPPED  # before it began: the function is not called any more
        self._heartbeat.up()
        requires = author.requires
        self._heartbeat.send(
            Pang(
                requires=requires.name,
                content_type=_type_of(author, requires) if requires.name else requires.content_type,
            )
        )
        try:
            result = await _invoke.call(author.function, author.spec, self._context, stream, self._args)
            kind = self._announce_output(author, result)
            await pump_output(_invoke.outputs(result, kind), kind, self._writer)
        except BaseException as error:  # noqa: BLE001 - the author's function
            return self._failed(error, ExitCode.SEQUENCE_FAILED_DURING_EXECUTION)
        self._end_output()
        return await self._wait_for_background_tasks()

    def _open_input(self, author: AuthorCode) -> Input[Any]:
        """Return the input; a Sequence that names a topic has said what it reads, and gets no prologue."""
        self._source = InputSource(
            self._reader,
            declared=_type_of(author, author.requires),
            has_prologue=not author.requires.name,
        )
        stream: Input[Any] = Input(self._source.next_batch)
        stream.bind(self._loop)
        return stream

    def _announce_output(self, author: AuthorCode, result: Any) -> ContentType:
        """Tell the hub what comes out, and return how it is written."""
        wanted = user_code.declared_topic(result, "requires", "requires")
        if wanted.name:
            content_type = _type_of(author, wanted)
            if not author.requires.name:
                self._source.require(content_type)
            self._heartbeat.send(Pang(requires=wanted.name, content_type=content_type))
        own = user_code.declared_topic(result, "provides", "provides")
        provides = own if own.name else author.provides
        content_type = provides.content_type or author.spec.gives or ContentType.TEXT
        self._heartbeat.send(Pang(provides=provides.name, content_type=content_type))
        try:
            return ContentType.parse(content_type)
        except UnsupportedContentType:
            return ContentType.OCTETS  # bytes of any other type go as they are

    async def _wait_for_background_tasks(self) -> int:
        """Let tasks that the author left running come to their end, as the original runner does."""
        while tasks := asyncio.all_tasks() - self._own_tasks:
            names = ", ".join(sorted(task.get_name() for task in tasks))
            self._log.info("the output has ended; waiting for %s", names)
            try:
                await asyncio.wait(tasks)
            except asyncio.CancelledError:
                return ExitCode.STOPPED
        return ExitCode.SUCCESS

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
            self._report(error, "the Sequence failed")
        return code

    def _report(self, error: BaseException, what: str) -> None:
        """Show an error to the author, on stderr and in the log, without a frame of ours."""
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.write(user_code.format_error(error))
            sys.stderr.flush()
        self._log.error("%s: %s: %s", what, type(error).__name__, error, exc_info=error)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self._loop.create_task(work)
        self._own_tasks.add(task)
        task.add_done_callback(self._own_tasks.discard)
        return task


def _type_of(author: AuthorCode, topic: Topic) -> str:
    """Return the content type of an input that the author declares; text for a topic without one, else empty."""
    return author.spec.takes or topic.content_type or (ContentType.TEXT if topic.name else "")


def _start_request(settings: Settings, pong: Pong) -> tuple[dict[str, Any], list[Any]]:
    """Return configuration and arguments: the PONG's, or what the environment says where it says nothing."""
    config, args = pong.app_config, pong.args
    if config is None:
        config = settings.connect_info.get("appConfig")
    if args is None:
        args = settings.connect_info.get("args")
    return config if isinstance(config, dict) else {}, args if isinstance(args, list) else []
