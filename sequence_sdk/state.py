"""``context.state``: a few JSON values that outlive a restart of the Instance."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ._json import check_json
from .hub import HubRefused

_NOT_FOUND = 404


class StateStore(Protocol):
    """Where the state of Instances is kept; a ``HubApi`` is one."""

    async def state(self, instance: str) -> dict[str, Any]:
        """Return all values of an Instance."""
        ...

    async def get_state(self, instance: str, key: str) -> Any:
        """Return one value.

        Raises:
            HubRefused: with status 404: there is none.
        """

    async def set_state(self, instance: str, key: str, value: Any) -> None:
        """Keep a value; it is safe when this returns."""

    async def delete_state(self, instance: str, key: str | None = None) -> None:
        """Forget one value, or all."""


class State:
    """The values an Instance keeps at its hub, by names of the author's: JSON values, a few megabytes at most.

    They are there again when the Instance is restarted, or its hub, and go with its Sequence. Every call asks the hub, and
    works in the event loop of the Sequence; a plain generator says ``context.from_thread(context.state.get, "name")``.

    All calls raise ClientError when the hub refuses or cannot be reached.
    """

    def __init__(self, store: Callable[[], StateStore], instance_id: str) -> None:
        """Take where to ask, looked up at each call, and for which Instance."""
        self._store = store
        self._instance = instance_id

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or ``default`` if it has none."""
        try:
            return await self._store().get_state(self._instance, key)
        except HubRefused as refusal:
            if refusal.status != _NOT_FOUND:
                raise
            return default

    async def set(self, key: str, value: Any) -> None:
        """Keep a value; when this returns it is on the hub's disk.

        Raises:
            TypeError: it is not JSON.
        """
        _check(key, value)
        await self._store().set_state(self._instance, key, value)

    async def delete(self, key: str) -> None:
        """Forget the value of a key, if it has one."""
        try:
            await self._store().delete_state(self._instance, key)
        except HubRefused as refusal:
            if refusal.status != _NOT_FOUND:
                raise

    async def all(self) -> dict[str, Any]:
        """Return all values by their keys."""
        return await self._store().state(self._instance)

    async def keys(self) -> list[str]:
        """Return the keys that have a value."""
        return list(await self.all())

    async def update(self, values: Mapping[str, Any]) -> None:
        """Keep several values, one after the other; others stay as they are.

        Raises:
            TypeError: one of them is not JSON; then none is kept.
        """
        for key, value in values.items():
            _check(key, value)
        for key, value in values.items():
            await self._store().set_state(self._instance, key, value)


def _check(key: str, value: Any) -> None:
    check_json(f"context.state: the value of {key!r}", value)


class MemoryStore:
    """A store in memory, for a context that has no hub: what is read is a copy of what was written, as from a hub."""

    def __init__(self) -> None:
        self._texts: dict[str, dict[str, str]] = {}

    async def state(self, instance: str) -> dict[str, Any]:
        """Return all values of an Instance."""
        return {key: json.loads(text) for key, text in self._texts.get(instance, {}).items()}

    async def get_state(self, instance: str, key: str) -> Any:
        """Return one value.

        Raises:
            HubRefused: with status 404: there is none.
        """
        text = self._texts.get(instance, {}).get(key)
        if text is None:
            raise HubRefused(_NOT_FOUND, f"Instance {instance} keeps no value {key!r}")
        return json.loads(text)

    async def set_state(self, instance: str, key: str, value: Any) -> None:
        """Keep a value."""
        self._texts.setdefault(instance, {})[key] = json.dumps(value)

    async def delete_state(self, instance: str, key: str | None = None) -> None:
        """Forget one value, or all."""
        if key is None:
            self._texts.pop(instance, None)
        else:
            self._texts.get(instance, {}).pop(key, None)
