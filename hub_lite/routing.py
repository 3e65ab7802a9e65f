"""Connects Instances to topics: outputs that go to one, inputs that come from one.

Source: docs/protocol.md, "PING, PONG, PANG".
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from runner.protocol.log_record import Level
from runner.protocol.messages import Pang

from .errors import Gone, HubError
from .instances import Instance
from .topics import Topic, Topics
from .windows import LARGE_READ, StreamFailed, WindowError

_DEFAULT_TYPE = "text/plain"  # of an output to a new topic, where nobody says what it is

logger = logging.getLogger(__name__)


class Router:
    """Routes each Instance's output and input once."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._outputs: set[str] = set()  # ids of Instances whose output is routed
        self._inputs: dict[str, asyncio.Task[None]] = {}
        self._pumps: set[asyncio.Task[None]] = set()

    def announced(self, instance: Instance, pang: Pang) -> None:
        """Route what a PANG makes known. What cannot be routed ends the Instance with the reason; the hub stands."""
        try:
            if instance.requires and instance.requires == instance.provides:
                instance.refuse(
                    f"topic {instance.requires} is both input and output: the Sequence would read what it writes"
                )
                return
            if instance.requires and pang.requires is not None and instance.id not in self._inputs:
                self._route_input(instance, pang)
            if instance.provides and pang.provides is not None and instance.id not in self._outputs:
                self._route_output(instance, pang.content_type)
        except HubError as error:
            instance.refuse(f"topics: {error}")

    def gives_output(self, instance: Instance) -> None:
        """Route the output of a Sequence whose runner has not said what it writes, now that it writes."""
        if instance.provides and instance.id not in self._outputs:
            try:
                self._route_output(instance, None)
            except HubError as error:
                instance.refuse(f"topics: {error}")

    def ended(self, instance: Instance) -> None:
        """Feed an Instance no more that has ended. What it has given goes on to its topic."""
        pump = self._inputs.pop(instance.id, None)
        if pump is not None:
            pump.cancel()

    def forget(self, instance: Instance) -> None:
        """Forget an Instance that is removed."""
        self.ended(instance)
        self._outputs.discard(instance.id)

    async def close(self) -> None:
        """End all pumps."""
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def _route_input(self, instance: Instance, pang: Pang) -> None:
        """Feed a topic to an Instance; one that has not said itself what it reads gets a prologue with the topic's type."""
        declared = bool(pang.requires)
        topic = self._topics.obtain(instance.requires, pang.content_type if declared else None)
        topic.settled = True  # the Sequence has been told, or has told, what it reads
        self._inputs[instance.id] = self._pump(
            self._feed(topic, instance, prologue=not declared), f"topic {topic.name} to {instance.id}"
        )

    def _route_output(self, instance: Instance, content_type: str | None) -> None:
        known = self._topics.get(instance.provides)
        wanted = content_type or (known.content_type if known and known.settled else _DEFAULT_TYPE)
        topic = self._topics.obtain(instance.provides, wanted)
        self._outputs.add(instance.id)
        self._pump(self._collect(instance, topic), f"{instance.id} to topic {topic.name}")

    def _pump(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        pump = asyncio.create_task(work, name=name)
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)
        return pump

    async def _feed(self, topic: Topic, instance: Instance, *, prologue: bool) -> None:
        try:
            with topic.open() as cursor:
                cursor.patient = True  # an Instance may take its time over an item; it is never cut off
                link = await (instance.begin_input(topic.content_type) if prologue else instance.input.link())
                while (pieces := await cursor.read_pieces(LARGE_READ))[0]:
                    link.write(*pieces)
                    await link.drain()
            await instance.input.end()
        except (Gone, ConnectionError, WindowError):
            pass  # the Instance has ended
        except Exception:
            logger.exception("feeding topic %s to Instance %s failed", topic.name, instance.id)
            instance.refuse(f"topics: the hub failed to feed topic {topic.name}")

    async def _collect(self, instance: Instance, topic: Topic) -> None:
        try:
            with instance.output.open() as cursor:
                cursor.patient = True  # it waits for the topic's readers, which is what they are promised
                async with topic.producer() as producer:
                    while chunk := await cursor.read():
                        await producer.write(chunk)
        except StreamFailed:
            pass  # all it gave is in the topic; how it ended, its state tells
        except Gone:
            instance.note(
                Level.WARN, f"topic {topic.name} was removed; the output goes nowhere but to its readers"
            )
        except WindowError:
            pass  # the Instance was removed
        except Exception:
            logger.exception("collecting the output of Instance %s failed", instance.id)
            instance.refuse(f"topics: the hub failed to write topic {topic.name}")
