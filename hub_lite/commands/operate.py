"""Commands that operate a running hub: look at what it has, send, start, feed, read, stop."""

import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from hub_lite.settings import TOKEN_VARIABLE, URL_VARIABLE
from hub_lite.standard_streams import content_type_for, in_daemon_thread, read_chunks, write_all
from runner.protocol.log_record import decode_log

from .shell import CommandFailed, failing_with_a_sentence, json_option, run_loop, token_of

if TYPE_CHECKING:
    from hub_lite.client import HubClient

DEFAULT_URL = "http://127.0.0.1:8000"
NEWEST = "-"
_ID_LENGTH = 36
_SHORT_ID = 8  # characters of an id that tables show, unless two would look alike
_ENDED = ("completed", "errored")
_NOWHERE = 10**18  # an offset that no stream has, so that the hub says which it has
_COMPLETION_TIMEOUT = 2.0  # seconds; who presses Tab does not wait for a hub that is slow

Object = dict[str, Any]


# --- the hub of a command -------------------------------------------------------------------------------------------


def talks(work: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Return a command's function that connects ``work`` to the hub that its options name."""

    @click.option(
        "--hub",
        metavar="URL",
        envvar=URL_VARIABLE,
        default=DEFAULT_URL,
        show_default=True,
        help="The hub to talk to.",
    )
    @click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"File with the token to show; else {TOKEN_VARIABLE} has it.",
    )
    @wraps(work)
    def command(hub: str, token_file: Path | None, **given: Any) -> None:
        with failing_with_a_sentence():
            run_loop(_talk(hub, token_file, lambda client: work(client, **given)))

    return command


async def _talk(hub: str, token_file: Path | None, work: Callable[["HubClient"], Awaitable[Any]]) -> Any:
    from hub_lite.client import HubClient  # noqa: PLC0415 - it takes a while; help and typing errors do not need it

    async with HubClient(hub, token=token_of(token_file)) as client:
        return await work(client)


# --- ids ------------------------------------------------------------------------------------------------------------


async def _instance(client: "HubClient", text: str) -> str:
    """Return the id of the Instance that somebody means: a whole id, the beginning of one, or ``-`` for the newest."""
    if len(text) == _ID_LENGTH:
        return text
    instances = sorted(await client.instances(), key=lambda one: str(one.get("created", "")))
    return _meant(text, [str(one["id"]) for one in instances], "Instance", "hub-lite ps -a")


async def sequence_meant(client: "HubClient", text: str) -> str:
    """Return the id of the Sequence that somebody means: as an Instance's, or its name."""
    if len(text) == _ID_LENGTH:
        return text
    sequences = await client.sequences()
    named = [str(one["id"]) for one in sequences if _name(one) == text]
    if len(named) == 1:
        return named[0]
    if named:
        raise CommandFailed(
            f"{len(named)} Sequences are called {text!r}: {', '.join(named)}; give the id of one"
        )
    return _meant(text, [str(one["id"]) for one in sequences], "Sequence", "hub-lite sequences")


def _meant(text: str, ids: Sequence[str], what: str, listing: str) -> str:
    """Return the id that ``text`` stands for. ``ids`` has the oldest first."""
    if text == NEWEST:
        if not ids:
            raise CommandFailed(f"the hub has no {what}, so {NEWEST} means none")
        return ids[-1]
    found = [text] if text in ids else [one for one in ids if text and one.startswith(text)]
    if not found:
        raise CommandFailed(
            f"no {what} is called {text!r}, nor has an id that begins so; `{listing}` lists all"
        )
    if len(found) > 1:
        raise CommandFailed(
            f"{text!r} begins the ids of {len(found)} {what}s: {', '.join(found)}; give more of one"
        )
    return found[0]


def _name(sequence: Object) -> str:
    config = sequence.get("config")
    return str(config.get("name") or "") if isinstance(config, dict) else ""


def _completes(
    list_all: Callable[["HubClient"], Awaitable[list[str]]],
) -> Callable[..., list[CompletionItem]]:
    """Return what offers ids of the hub for an argument; nothing where there is no hub."""

    def offer(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        async def ask() -> list[str]:
            async with asyncio.timeout(_COMPLETION_TIMEOUT):
                hub = context.params.get("hub") or os.environ.get(URL_VARIABLE) or DEFAULT_URL
                found: list[str] = await _talk(hub, context.params.get("token_file"), list_all)
                return found

        try:
            with failing_quietly():
                return [CompletionItem(one) for one in run_loop(ask()) if one.startswith(incomplete)]
        except SystemExit:
            return []

    return offer


@contextmanager
def failing_quietly() -> Iterator[None]:
    """Turn what may go wrong into an exit without a word: a shell that completes a line shows none."""
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stderr(nowhere),
        failing_with_a_sentence(),
    ):
        yield


async def _instance_ids(client: "HubClient") -> list[str]:
    return [str(one["id"]) for one in await client.instances()]


async def _sequence_ids(client: "HubClient") -> list[str]:
    return [str(one["id"]) for one in await client.sequences()]


async def _topic_names(client: "HubClient") -> list[str]:
    return [_topic_name(one) for one in await client.topics()]


def _topic_name(topic: Object) -> str:
    return str(topic.get("topicName") or topic.get("topic") or topic.get("id") or "")


_instance_argument = click.argument("instance", shell_complete=_completes(_instance_ids))
_instances_argument = click.argument(
    "instances", nargs=-1, required=True, metavar="INSTANCE...", shell_complete=_completes(_instance_ids)
)
sequence_argument = click.argument("sequence", shell_complete=_completes(_sequence_ids))
_topic_argument = click.argument("topic", shell_complete=_completes(_topic_names))
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_offset_option = click.option(
    "--offset", metavar="BYTES", help="Where to begin: earliest, latest or a number of bytes."
)


# --- what is shown --------------------------------------------------------------------------------------------------


def print_json(value: Any) -> None:
    """Print a value as JSON, for people and machines."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their headings, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    for row in [headings, *rows]:
        click.echo("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """Return the beginning of each id: 8 characters, or as many as tell them apart."""
    length = _SHORT_ID
    while len({one[:length] for one in ids}) < len(set(ids)):
        length += 1
    return {one: one[:length] for one in ids}


def age(created: str, now: datetime) -> str:
    """Return how long ago an ISO time was, in its largest unit; nothing if it is none."""
    try:
        begun = datetime.fromisoformat(created)
    except ValueError:
        return ""
    seconds = max(0, int((now - begun.astimezone(UTC)).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def size_text(count: Any) -> str:
    """Return a number of bytes in its largest unit; nothing if it is none."""
    if not isinstance(count, int):
        return ""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def log_text(line: bytes) -> bytes:
    """Return a line of a log for people: time, level, who says it, what."""
    record = decode_log(line)
    time = (
        datetime.fromtimestamp(record.ts / 1000, UTC).astimezone().strftime("%H:%M:%S") if record.ts else ""
    )
    source = f"{record.source}:" if record.source else ""
    data = " ".join(str(item) for item in record.data)
    head = " ".join(part for part in (time, f"{record.level:5}", source, record.msg, data) if part)
    return f"{head}\n{record.error}".rstrip().encode("utf-8", "replace") + b"\n"


async def _copy_out(chunks: AsyncIterator[bytes], descriptor: int = 1) -> None:
    async for chunk in chunks:
        await in_daemon_thread(write_all, descriptor, chunk)


# --- the hub --------------------------------------------------------------------------------------------------------


@click.command("info", short_help="Show all of an Instance, a Sequence or the hub.")
@click.argument("id", required=False, shell_complete=_completes(_instance_ids))
@talks
async def info(client: "HubClient", id: str | None) -> None:
    """Show all there is to know of an Instance or a Sequence, or of the hub, as JSON."""
    if id is None:
        print_json({**await client.version(), "load": await client.load()})
        return
    instances = await client.instances()
    sequences = await client.sequences()
    known = {str(one["id"]): one for one in [*sequences, *instances]}
    named = {_name(one): str(one["id"]) for one in sequences if _name(one)}
    meant = NEWEST if id == NEWEST else named.get(id, id)
    ids = [str(one["id"]) for one in instances] if id == NEWEST else list(known)
    print_json(known[_meant(meant, ids, "Instance or Sequence", "hub-lite ps -a")])


# --- Sequences ------------------------------------------------------------------------------------------------------


@click.command("sequences")
@json_flag
@talks
async def sequences(client: "HubClient", as_json: bool) -> None:
    """List the Sequences of the hub, the newest first."""
    found = list(reversed(await client.sequences()))
    if as_json:
        print_json(found)
        return
    shown = short_ids([str(one["id"]) for one in found])
    rows = []
    for one in found:
        config = one.get("config") or {}
        size = size_text(config.get("packageSize"))
        rows.append(
            (
                shown[one["id"]],
                _name(one),
                str(config.get("version", "")),
                size,
                str(len(one.get("instances", []))),
            )
        )
    print_table(("ID", "NAME", "VERSION", "SIZE", "INSTANCES"), rows)


_target_argument = click.argument("target", type=click.Path(exists=True, path_type=Path))


@click.command("send", short_help="Send a Sequence to the hub.")
@_target_argument
@click.option("--replace", metavar="SEQUENCE", help="Give this Sequence the package, and keep its id.")
@json_flag
@talks
async def send(client: "HubClient", target: Path, replace: str | None, as_json: bool) -> None:
    """Send the Sequence in TARGET, a folder or a package, and print its id."""
    meant = None if replace is None else await sequence_meant(client, replace)
    _print_id(await _send(client, target, meant), as_json=as_json)


async def _send(client: "HubClient", target: Path, replace: str | None = None) -> str:
    with tempfile.TemporaryDirectory(prefix="hub-lite-send-") as folder:
        package = target
        if target.is_dir():
            from sequence_sdk.pack import pack  # noqa: PLC0415 - only folders need it

            package = Path(folder) / f"{target.absolute().name}.tar.gz"
            await asyncio.to_thread(pack, target, package)
        return await client.upload(package, replace=replace)


def _print_id(id: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": id})
    else:
        click.echo(id)


def _start_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        [
            click.option("--args", "arguments", metavar="JSON", help="Start arguments, a JSON array."),
            click.option(
                "--config", "app_config", metavar="JSON", help="Configuration of the Sequence, a JSON object."
            ),
            click.option("--input-topic", metavar="TOPIC", help="Topic that is the input."),
            click.option("--output-topic", metavar="TOPIC", help="Topic that the output goes to."),
            click.option("--limits", metavar="JSON", help="Limits of the Instance, a JSON object."),
            click.option("--id", "instance_id", metavar="ID", help="Id for the Instance, 36 characters."),
            json_flag,
        ]
    ):
        command = option(command)
    return command


@click.command("launch")
@sequence_argument
@_start_options
@talks
async def launch(client: "HubClient", sequence: str, as_json: bool, **options: Any) -> None:
    """Start an Instance of a Sequence and print its id."""
    payload = _payload(options)
    _print_id(await client.start(await sequence_meant(client, sequence), **payload), as_json=as_json)


@click.command("deploy", short_help="Send a Sequence and start an Instance of it.")
@_target_argument
@_start_options
@talks
async def deploy(client: "HubClient", target: Path, as_json: bool, **options: Any) -> None:
    """Send the Sequence in TARGET, start an Instance of it, and print the id of the Instance."""
    payload = _payload(options)
    _print_id(await client.start(await _send(client, target), **payload), as_json=as_json)


def _payload(options: Object) -> Object:
    return {
        "args": json_option("--args", options["arguments"], list, None),
        "config": json_option("--config", options["app_config"], dict, None),
        "limits": json_option("--limits", options["limits"], dict, None),
        "input_topic": options["input_topic"],
        "output_topic": options["output_topic"],
        "instance_id": options["instance_id"],
    }


@click.command("rm")
@click.argument(
    "sequences", nargs=-1, required=True, metavar="SEQUENCE...", shell_complete=_completes(_sequence_ids)
)
@click.option("-f", "--force", is_flag=True, help="Kill the Instances that use it.")
@talks
async def rm(client: "HubClient", sequences: Sequence[str], force: bool) -> None:
    """Remove Sequences."""
    for one in [await sequence_meant(client, text) for text in sequences]:
        await client.delete_sequence(one, force=force)
        click.echo(one)


# --- Instances ------------------------------------------------------------------------------------------------------


@click.command("ps")
@click.option("-a", "--all", "with_ended", is_flag=True, help="Ended ones too.")
@json_flag
@talks
async def ps(client: "HubClient", with_ended: bool, as_json: bool) -> None:
    """List the Instances of the hub, the newest first."""
    found = sorted(await client.instances(), key=lambda one: str(one.get("created", "")), reverse=True)
    shown = short_ids([str(one["id"]) for one in found])
    if not with_ended:
        found = [one for one in found if one.get("status") not in _ENDED]
    if as_json:
        print_json(found)
        return
    now = datetime.now(UTC)
    rows = []
    for one in found:
        name, ended = _name(one.get("sequence") or {}), one.get("terminated") or {}
        cells = (
            name,
            one.get("status", ""),
            age(str(one.get("created", "")), now),
            ended.get("exitcode", ""),
        )
        rows.append((shown[one["id"]], *map(str, cells)))
    print_table(("ID", "SEQUENCE", "STATUS", "AGE", "EXIT"), rows)


@click.command("health")
@_instance_argument
@talks
async def health(client: "HubClient", instance: str) -> None:
    """Show how an Instance is, as JSON."""
    print_json(await client.health(await _instance(client, instance)))


@click.command("stop")
@_instances_argument
@click.option(
    "-t", "--timeout", "seconds", type=click.FloatRange(min=0), default=7.0, show_default=True, metavar="SECONDS",
    help="How long it may take; what has not ended by then is killed.",
)  # fmt: skip
@json_flag
@talks
async def stop(client: "HubClient", instances: Sequence[str], seconds: float, as_json: bool) -> None:
    """Ask Instances to end, and wait until they have."""
    ids = [await _instance(client, one) for one in instances]
    _print_outcomes(await _each([client.stop(one, seconds) for one in ids]), ids, as_json=as_json)


@click.command("kill")
@_instances_argument
@click.option("--remove", is_flag=True, help="Forget it at once, and all it has said.")
@json_flag
@talks
async def kill(client: "HubClient", instances: Sequence[str], remove: bool, as_json: bool) -> None:
    """End Instances at once."""
    ids = [await _instance(client, one) for one in instances]
    _print_outcomes(
        await _each([client.kill(one, remove_immediately=remove) for one in ids]), ids, as_json=as_json
    )


async def _each(calls: Sequence[Awaitable[Object]]) -> list[Object | BaseException]:
    return await asyncio.gather(*calls, return_exceptions=True)


def _print_outcomes(outcomes: Sequence[Object | BaseException], ids: Sequence[str], *, as_json: bool) -> None:
    """Print what became of each Instance, then fail with the first failure."""
    done = [(one, outcome) for one, outcome in zip(ids, outcomes, strict=True) if isinstance(outcome, dict)]
    if as_json:
        print_json([outcome for _, outcome in done])
    else:
        for one, outcome in done:
            click.echo(f"{one} {outcome.get('status', '')}".rstrip())
    for failure in outcomes:
        if isinstance(failure, BaseException):
            raise failure


# --- streams --------------------------------------------------------------------------------------------------------


@click.command("logs")
@_instance_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the Instance has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as they are, JSON, one a line.")
@talks
async def logs(client: "HubClient", instance: str, follow: bool, as_json: bool) -> None:
    """Show the log of an Instance."""
    meant = await _instance(client, instance)
    if follow:
        async with client.read(meant, "log", offset="earliest") as chunks:
            await _copy_out(_records(chunks, as_json=as_json))
        return
    start, end = await _borders(client, meant, "log")
    if start == end:
        return
    async with client.read(meant, "log", offset=start) as chunks:
        await _copy_out(_records(_first(chunks, end - start), as_json=as_json))


async def _borders(client: "HubClient", instance: str, stream: str) -> tuple[int, int]:
    """Return the offsets of what the hub holds of a stream; it tells them to who asks for what it does not hold."""
    from hub_lite.client import HubRefused  # noqa: PLC0415 - see above

    try:
        async with client.read(instance, stream, offset=_NOWHERE):
            raise CommandFailed("the hub does not say where a stream ends; use --follow")
    except HubRefused as error:
        borders = re.search(r"from (\d+) to (\d+)", error.message)
        if error.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or borders is None:
            raise
        return int(borders[1]), int(borders[2])


async def _first(chunks: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk[:count]
        count -= len(chunk)
        if count <= 0:
            return


async def _records(chunks: AsyncIterator[bytes], *, as_json: bool) -> AsyncIterator[bytes]:
    tail = b""
    async for chunk in chunks:
        *lines, tail = (tail + chunk).split(b"\n")
        yield b"".join(line + b"\n" if as_json else log_text(line) for line in lines if line.strip())
    if tail.strip():
        yield tail + b"\n" if as_json else log_text(tail)


def _reader(stream: str, short_help: str, help: str) -> click.Command:
    @click.command(stream, help=help, short_help=short_help)
    @_instance_argument
    @_offset_option
    @talks
    async def read(client: "HubClient", instance: str, offset: str | None) -> None:
        async with client.read(await _instance(client, instance), stream, offset=offset) as chunks:
            await _copy_out(chunks)

    return read


output = _reader(
    "output",
    "Read the output of an Instance.",
    "Write the output of an Instance to stdout, as it comes, until it ends.",
)
stdout = _reader(
    "stdout", "Read what an Instance prints.", "Write what an Instance prints to stdout, until it ends."
)
stderr = _reader(
    "stderr",
    "Read the standard error of an Instance.",
    "Write the standard error of an Instance to stdout, until it ends.",
)

_file_argument = click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)
_type_option = click.option(
    "-t", "--content-type", help="Content type. [default: by the file's ending, else text/plain]"
)


def _source(file: Path | None) -> Path | None:
    return None if file is None or str(file) == "-" else file


@click.command("quarantine", short_help="Show the items that an Instance has put aside.")
@_instance_argument
@talks
async def quarantine(client: "HubClient", instance: str) -> None:
    """Write the items that an Instance has put aside to stdout, each with its error: a JSON record a line."""
    async with client.quarantine(await _instance(client, instance)) as records:
        async for record in records:
            click.echo(json.dumps(record, ensure_ascii=False))


@click.command("input", short_help="Send to the input of an Instance.")
@_instance_argument
@_file_argument
@_type_option
@click.option("-k", "--keep-open", is_flag=True, help="Leave the input open for more.")
@talks
async def input(
    client: "HubClient", instance: str, file: Path | None, content_type: str | None, keep_open: bool
) -> None:
    """Send FILE, or standard input, to the input of an Instance."""
    source = _source(file)
    await client.send(
        await _instance(client, instance),
        "input",
        read_chunks(source, called=str(file)),
        content_type=content_type or content_type_for(source),
        end=not keep_open,
    )


@click.command("stdio", short_help="Connect the shell to an Instance.")
@_instance_argument
@talks
async def stdio(client: "HubClient", instance: str) -> None:
    """Connect the shell to the stdin, stdout and stderr of an Instance, until it ends or Ctrl-C."""
    from hub_lite.client import HubRefused, StreamBroken  # noqa: PLC0415 - see above

    meant = await _instance(client, instance)

    async def feed() -> None:
        with contextlib.suppress(HubRefused, StreamBroken):  # it ends when it wants, and reads what it wants
            await client.send(
                meant, "stdin", read_chunks(None, called="-"), content_type="application/octet-stream"
            )

    async def copy(stream: str, descriptor: int) -> None:
        async with client.read(meant, stream) as chunks:
            await _copy_out(chunks, descriptor)

    sender = asyncio.create_task(feed())
    try:
        await asyncio.gather(copy("stdout", 1), copy("stderr", 2))
    finally:
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)


# --- events ---------------------------------------------------------------------------------------------------------


@click.group("event")
def event() -> None:
    """Send events to Instances, and see those they emit."""


@event.command("emit")
@_instance_argument
@click.argument("name")
@click.argument("message", required=False)
@click.option("--text", is_flag=True, help="Take MESSAGE as text, even if it is JSON.")
@talks
async def event_emit(client: "HubClient", instance: str, name: str, message: str | None, text: bool) -> None:
    """Send an event to an Instance; MESSAGE is JSON, or else text."""
    await client.emit(await _instance(client, instance), name, message if text else _json_or_text(message))


def _json_or_text(message: str | None) -> Any:
    if message is None:
        return None
    try:
        return json.loads(message)
    except ValueError:
        return message


@event.command("on")
@_instance_argument
@click.argument("name", required=False)
@click.option("-n", "--next", "only_next", is_flag=True, help="Wait for the next one.")
@click.option("-f", "--follow", is_flag=True, help="Show all from now on.")
@talks
async def event_on(
    client: "HubClient", instance: str, name: str | None, only_next: bool, follow: bool
) -> None:
    """Print the message of the last event called NAME that an Instance has emitted, as JSON; wait for the first.

    Without NAME all events from now on are printed, each with its name.
    """
    if only_next and (follow or name is None):
        raise click.UsageError("--next takes the NAME of an event, and does not go with --follow")
    meant = await _instance(client, instance)
    if name is not None and not follow:
        found = await (client.next_event(meant, name) if only_next else client.last_event(meant, name))
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    async with client.events(meant, name) as messages:
        async for message in messages:
            click.echo(json.dumps(message, ensure_ascii=False))


# --- topics ---------------------------------------------------------------------------------------------------------


@click.group("topic")
def topic() -> None:
    """List, make, feed, read and remove topics."""


@topic.command("ls")
@json_flag
@talks
async def topic_ls(client: "HubClient", as_json: bool) -> None:
    """List the topics of the hub."""
    found = await client.topics()
    if as_json:
        print_json(found)
        return
    rows = [(_topic_name(one), str(one.get("contentType", ""))) for one in found]
    print_table(("TOPIC", "CONTENT TYPE"), rows)


_topic_type_option = click.option(
    "-t",
    "--content-type",
    default="application/x-ndjson",
    show_default=True,
    help="Content type of the topic.",
)


@topic.command("create")
@_topic_argument
@_topic_type_option
@talks
async def topic_create(client: "HubClient", topic: str, content_type: str) -> None:
    """Make a topic."""
    await client.create_topic(topic, content_type)


@topic.command("rm")
@click.argument(
    "topics", nargs=-1, required=True, metavar="TOPIC...", shell_complete=_completes(_topic_names)
)
@talks
async def topic_rm(client: "HubClient", topics: Sequence[str]) -> None:
    """Remove topics; their readers end."""
    for one in topics:
        await client.delete_topic(one)
        click.echo(one)


@topic.command("send")
@_topic_argument
@_file_argument
@_type_option
@click.option("-e", "--end", is_flag=True, help="End the present readers of the topic after this.")
@talks
async def topic_send(
    client: "HubClient", topic: str, file: Path | None, content_type: str | None, end: bool
) -> None:
    """Send FILE, or standard input, to a topic; it is made if it is not there."""
    source = _source(file)
    if content_type is None:
        known = {_topic_name(one): one.get("contentType") for one in await client.topics()}
        content_type = str(known.get(topic) or content_type_for(source))
    await client.send_topic(topic, read_chunks(source, called=str(file)), content_type=content_type, end=end)


@topic.command("get")
@_topic_argument
@click.option("-t", "--content-type", help="Content type that the topic must have.")
@_offset_option
@talks
async def topic_get(client: "HubClient", topic: str, content_type: str | None, offset: str | None) -> None:
    """Write a topic to stdout, as it comes; it is made if it is not there."""
    async with client.read_topic(topic, content_type=content_type, offset=offset) as chunks:
        await _copy_out(chunks)


# --- the shell ------------------------------------------------------------------------------------------------------


@click.command("completion", short_help="Print what completes words in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes the words of hub-lite in a shell.

    For bash: `eval "$(hub-lite completion bash)"` in ~/.bashrc.
    """
    kind = get_completion_class(shell)
    if kind is None:
        sys.exit(1)
    root = context.find_root().command
    click.echo(kind(root, {}, "hub-lite", "_HUB_LITE_COMPLETE").source())


COMMANDS: tuple[click.Command, ...] = (
    ps, sequences, info, health, send, launch, deploy, rm, stop, kill, logs, quarantine, input, output, stdout, stderr, stdio,
    event, topic, completion,
)  # fmt: skip
