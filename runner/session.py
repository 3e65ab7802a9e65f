"""One Sequence from its first line to its last byte: load, call, pump, stop, report, exit code."""

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from sequence_sdk import _invoke
from sequence_sdk.content import ContentType
from sequence_sdk.context import Context
from sequence_sdk.stream import Input

from . import stdio, user_code
from .context import RunnerHost
from .errors import NoEntryFile, RunnerError
from .heartbeat import Heartbeat
from .log_channel import LogChannel
from .protocol.channels import Channel
from .protocol.exit_codes import ExitCode
from .protocol.messages import Pang, Ping, Pong, SequenceStopped
from .pump import InputSource, pump_output
from .settings import Settings
from .sockets import SocketReader, SocketWriter, connect
from .user_code import AuthorCode, Topic


def run(settings: Settings) -> int:
    """Run the Sequence of the settings to its end and return the exit code.

    Raises:
        RunnerError: it could not even begin; ``exit_code`` of it says why.
    """
    entry = settings.sequence_path.absolute()
    if not entry.is_file():
        raise NoEntryFile(settings.sequence_path)
    links = connect(settings)
    stdio.attach(links)
    log = LogChannel(links[Channel.LOG], settings.instance_id)
    own_logger = log.logger("Runner")
    heartbeat = Heartbeat(
        links[Channel.CONTROL],
        links[Channel.MONITORING],
        warn=own_logger.warning,
        package=str(user_code.package_root(entry)),
    )
    heartbeat.start(_ping(settings))
    pong = heartbeat.wait_for_pong()
    session = Session(settings, pong, heartbeat, log)
    try:
        with asyncio.Runner() as loop_runner:
            code = loop_runner.run(session.run(links[Channel.IN], links[Channel.OUT]))
    except SystemExit as request:  # an author's task called sys.exit
        code = exit_status(request)
    heartbeat.close()
    log.close()
    return code


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

    def __init__(self, settings: Settings, pong: Pong, heartbeat: Heartbeat, log: LogChannel) -> None:
        self._entry = settings.sequence_path.absolute()
        self._heartbeat = heartbeat
        self._log: logging.Logger = logging.getLogger("Runner")
        config, args = settings.connect_info.get("appConfig"), settings.connect_info.get("args")
        self._args = pong.args if pong.args is not None else args if isinstance(args, list) else []
        self._context = Context(
            host=RunnerHost(heartbeat),
            config=pong.app_config
            if pong.app_config is not None
            else config
            if isinstance(config, dict)
            else {},
            instance_id=settings.instance_id,
            logger=log.logger("Sequence"),
        )
        self._own_tasks: set[asyncio.Task[Any]] = set()
        self._main: asyncio.Task[int] | None = None
        self._stopping = False
        self._stop_error: str | None = None

    async def run(self, input_link: Any, output_link: Any) -> int:
        """Load and run the Sequence; return the exit code."""
        self._loop = asyncio.get_running_loop()
        self._reader = SocketReader(input_link)
        self._writer = SocketWriter(output_link)
        current = asyncio.current_task()
        if current is not None:
            self._own_tasks.add(current)
        self._main = self._spawn(self._run_sequence())
        self._heartbeat.attach(self)
        try:
            code = await asyncio.shield(self._main)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            code = ExitCode.STOPPED
        if self._stopping:
            self._heartbeat.send(SequenceStopped(self._stop_error))
            code = ExitCode.STOPPED
        return code

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
        self._spawn(self._stop(seconds, can_keep_alive))

    async def _stop(self, seconds: float, can_keep_alive: bool) -> None:
        try:
            if await self._context.call_stop_handlers(seconds, can_keep_alive):
                self._heartbeat.kept_alive()
                return
        except ExceptionGroup as failures:
            self._report(failures)
            self._stop_error = "; ".join(f"{type(one).__name__}: {one}" for one in failures.exceptions)
        self._stopping = True
        if self._main is not None:
            self._main.cancel()

    # --- the Sequence ----------------------------------------------------------------------------------------------

    async def _run_sequence(self) -> int:
        try:
            user_code.prepare_path(self._entry)
            os.chdir(self._entry.parent)
            author = user_code.load(self._entry)
            stream = self._open_input(author)
        except RunnerError as error:
            print(error, file=sys.stderr)
            return error.exit_code
        except BaseException as error:  # noqa: BLE001 - the author's module
            return self._failed(error, ExitCode.SEQUENCE_FAILED_ON_START)
        self._heartbeat.up()
        self._heartbeat.send(Pang(requires=author.requires.name, content_type=author.requires.content_type))
        try:
            result = await _invoke.call(author.function, author.spec, self._context, stream, self._args)
            kind = self._announce_output(author, result)
            await pump_output(_invoke.outputs(result, kind), kind, self._writer)
        except BaseException as error:  # noqa: BLE001 - the author's function
            return self._failed(error, ExitCode.SEQUENCE_FAILED_DURING_EXECUTION)
        self._writer.end()
        return await self._wait_for_background_tasks()

    def _open_input(self, author: AuthorCode) -> Input[Any]:
        """Return the input; a Sequence that names a topic has said what it reads, and gets no prologue."""
        named = author.requires
        source = InputSource(
            self._reader,
            declared=author.spec.takes or named.content_type,
            has_prologue=not named.name,
        )
        stream: Input[Any] = Input(source.next_batch)
        stream.bind(self._loop)
        return stream

    def _announce_output(self, author: AuthorCode, result: Any) -> ContentType:
        """Tell the hub what comes out, and return how it is written."""
        own = user_code.declared_topic(result, "provides", "provides")
        provides = own if own.name else author.provides
        content_type = provides.content_type or author.spec.gives or ContentType.TEXT
        wanted = user_code.declared_topic(result, "requires", "requires")
        if wanted.name:
            self._heartbeat.send(Pang(requires=wanted.name, content_type=wanted.content_type))
        self._heartbeat.send(Pang(provides=provides.name, content_type=content_type))
        return ContentType.parse(content_type)

    async def _wait_for_background_tasks(self) -> int:
        """Let tasks that the author left running come to their end, as the original runner does."""
        while tasks := asyncio.all_tasks() - self._own_tasks:
            self._log.info(
                "the output has ended; waiting for %s", ", ".join(sorted(t.get_name() for t in tasks))
            )
            try:
                await asyncio.wait(tasks)
            except asyncio.CancelledError:
                return ExitCode.STOPPED
        return ExitCode.SUCCESS

    def _failed(self, error: BaseException, code: ExitCode) -> int:
        """Report what the author's code raised and return the exit code for it."""
        if self._stopping or isinstance(error, GeneratorExit):
            if not isinstance(error, asyncio.CancelledError):
                self._report(error)  # its own cleanup failed; the stop goes on
            return ExitCode.STOPPED
        if isinstance(error, SystemExit):
            return exit_status(error)
        self._report(error)
        return code

    def _report(self, error: BaseException) -> None:
        """Show an error to the author, on stderr, without a frame of ours."""
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.write(user_code.format_error(error))
            sys.stderr.flush()

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = self._loop.create_task(work)
        self._own_tasks.add(task)
        task.add_done_callback(self._own_tasks.discard)
        return task


__all__ = ["Session", "Topic", "run"]
