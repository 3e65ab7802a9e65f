"""What a hub does by itself: it starts a list of Sequences, and ends with the last Instance if it is told to."""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.protocol.hello import is_instance_id

from .errors import HubError, NotFound
from .hub import Hub
from .instances import StartPayload
from .settings import SettingsError

NOTHING_STARTED = 101  # exit status of a hub that was to end with the last Instance, and had none

_AT_ONCE = 4  # Sequences of the list that are being started
_KEYS = ("id", "args", "appConfig", "instanceId")
_LOOK = 0.05  # seconds between two looks at who still reads; a stream does not tell when its last reader has all of it

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A Sequence to start, by its id or name."""

    id: str
    args: list[Any] = field(default_factory=list)
    app_config: dict[str, Any] = field(default_factory=dict)
    instance_id: str | None = None

    def payload(self) -> StartPayload:
        """Return the start of an API client that wants the same."""
        raw: dict[str, Any] = {"args": self.args, "appConfig": self.app_config}
        if self.instance_id is not None:
            raw["instanceId"] = self.instance_id
        return StartPayload(app_config=self.app_config, args=self.args, instance_id=self.instance_id, raw=raw)


# --- the list -------------------------------------------------------------------------------------------------------


def read_list(path: Path) -> list[Entry]:
    """Return what a start-up list says: ``{"sequences": [{"id", "args"?, "appConfig"?, "instanceId"?}]}``.

    Shape: JSON if the file is called so, YAML otherwise.

    Raises:
        SettingsError: it cannot be read, or says something else; the sentence names the place.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(f"start-up list {path}: {reason}") from None
    kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
    try:
        tree = json.loads(text) if kind == "JSON" else _parse_yaml(text)
        # Only what JSON can say gets to a Sequence: no dates, and names of members are strings.
        tree = json.loads(json.dumps(tree, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise SettingsError(f"start-up list {path} is not {kind}: {error}") from None
    return parse_list(tree, where=f"start-up list {path}")


def _parse_yaml(text: str) -> Any:
    import yaml  # noqa: PLC0415 - most hubs have no such file, and every command would wait for it

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def parse_list(tree: Any, *, where: str) -> list[Entry]:
    """Return the entries of a start-up list that has been read.

    Raises:
        SettingsError: it says something that such a list cannot say; ``where`` begins the sentence.
    """
    _refuse_others(tree, ("sequences",), where)
    sequences = tree.get("sequences")
    if not isinstance(sequences, list):
        raise SettingsError(f"{where}: 'sequences' must be an array, not {_shown(sequences)}")
    entries = [_entry(one, f"{where}: sequences[{at}]") for at, one in enumerate(sequences)]
    wanted = [one.instance_id for one in entries if one.instance_id is not None]
    for one in wanted:
        if wanted.count(one) > 1:
            raise SettingsError(
                f"{where}: instanceId {one!r} is there more than once; each Instance has its own"
            )
    return entries


def _entry(tree: Any, where: str) -> Entry:
    _refuse_others(tree, _KEYS, where)
    args, config, instance_id = tree.get("args"), tree.get("appConfig"), tree.get("instanceId")
    if not isinstance(tree.get("id"), str) or not tree["id"]:
        raise SettingsError(
            f"{where}: 'id' must be the id or the name of a Sequence, not {_shown(tree.get('id'))}"
        )
    if args is not None and not isinstance(args, list):
        raise SettingsError(f"{where}: 'args' must be an array, not {_shown(args)}")
    if config is not None and not isinstance(config, dict):
        raise SettingsError(f"{where}: 'appConfig' must be an object, not {_shown(config)}")
    if instance_id is not None and not is_instance_id(instance_id):
        raise SettingsError(
            f"{where}: 'instanceId' must be 36 visible ASCII characters without slashes, not {_shown(instance_id)}"
        )
    return Entry(tree["id"], args or [], config or {}, instance_id)


def _refuse_others(tree: Any, known: tuple[str, ...], where: str) -> None:
    if not isinstance(tree, Mapping):
        raise SettingsError(f"{where} must be an object, not {_shown(tree)}")
    for key in tree:
        if key not in known:
            raise SettingsError(f"{where}: unknown key {key!r}; known are {', '.join(known)}")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


# --- a hub at work --------------------------------------------------------------------------------------------------


async def start_all(hub: Hub, entries: list[Entry]) -> int:
    """Start the Sequences of a list, at most four at a time, and return how many run.

    One that is not there is skipped with a warning; what else fails is said in the log, and the others go on.
    """
    turns = asyncio.Semaphore(_AT_ONCE)

    async def start(entry: Entry) -> bool:
        async with turns:
            try:
                instance = await hub.start(entry.id, entry.payload())
            except NotFound:
                logger.warning("start-up list: there is no Sequence %s; it is skipped", entry.id)
                return False
            except HubError as error:
                logger.warning("start-up list: Sequence %s is not started: %s", entry.id, error)
                return False
            logger.info("start-up list: Sequence %s runs as Instance %s", entry.id, instance.id)
            return True

    async with asyncio.TaskGroup() as group:
        starts = [group.create_task(start(entry)) for entry in entries]
    return sum(one.result() for one in starts)


async def operate(
    hub: Hub, entries: list[Entry], asked_to_end: asyncio.Event, *, ends_with_last_instance: bool
) -> int:
    """Start a list, wait until the hub is to end, and return the exit status that it then has.

    With ``ends_with_last_instance`` it ends by itself once no Instance lives and those who read the last ones have
    got everything, or have had the time that a shutdown gives.
    """

    async def work() -> int | None:
        started = await start_all(hub, entries)
        if not ends_with_last_instance:
            return None
        if not started and all(one.is_over for one in hub.instances()):
            logger.error("nothing was started that this hub could end with")
            return NOTHING_STARTED
        await hub.wait_until_idle()
        await _until_read(hub)
        logger.info("the last Instance has ended, and so does the hub")
        return 0

    working = asyncio.create_task(work(), name="start-up")
    asked = asyncio.create_task(asked_to_end.wait(), name="asked to end")
    try:
        await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
        status = working.result() if working.done() else None
        if status is None:
            await asked
        return status or 0
    finally:
        for task in (working, asked):
            task.cancel()
        await asyncio.gather(working, asked, return_exceptions=True)


async def _until_read(hub: Hub) -> None:
    """Wait for those who read what Instances have left, as long as a shutdown waits."""
    try:
        async with asyncio.timeout(hub.settings.shutdown_timeout):
            while any(  # noqa: ASYNC110 - see _LOOK
                window.readers
                for one in hub.instances()
                for window in (one.output, one.stdout, one.stderr, one.log)
            ):
                await asyncio.sleep(_LOOK)
    except TimeoutError:
        pass
