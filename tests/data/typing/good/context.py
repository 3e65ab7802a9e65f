"""All that a context offers."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from sequence_sdk import Context, Stream, sequence


@sequence
def in_a_thread(context: Context, input: Stream[str]) -> Iterator[str]:
    first: Any = context.from_thread(context.state.get, "first")
    for line in input:
        yield f"{first} {line}"


@sequence
async def busy(context: Context, input: Stream[str]) -> AsyncIterator[str]:
    async def stopping(seconds: float, can_keep_alive: bool) -> None:
        if can_keep_alive:
            await context.keep_alive(seconds)

    def killed() -> None:
        context.logger.info("%s is over", context.instance_id)

    context.set_stop_handler(stopping)
    context.add_stop_handler(lambda seconds, can_keep_alive: None)
    context.add_kill_handler(killed)
    context.add_monitoring_handler(lambda report: {"healthy": len(report) > 0})
    context.set_health_check(lambda: {"healthy": True})
    context.on("hurry", lambda message: context.emit("hurried", message))

    seen = context.metrics.counter("seen")
    depth = context.metrics.gauge("depth")
    count: Any = await context.state.get("count", 0)
    async for line in input:
        seen.add(1)
        depth.set(len(line))
        count += 1
        await context.state.set("count", count)
        if context.deadline is not None and context.deadline < time.monotonic() + 0.5:
            context.end()
        async with context.topic("lines", "text/plain") as topic:
            await topic.write(line)
        yield line
    async for item in context.topic("orders").read(offset="earliest"):
        yield str(item)
    instances: list[dict[str, Any]] = await context.hub.instances()
    yield f"{len(instances)}\n"
