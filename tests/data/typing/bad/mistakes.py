"""Mistakes that a type checker finds; each line that is wrong says what mypy calls it, and what pyright does."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sequence_sdk import Context, Stream, sequence


@dataclass
class Config:
    rate: float


@sequence
async def rates(context: Context[Config], input: Stream[str]) -> AsyncIterator[float]:
    async for line in input:
        yield line * 2  # error: misc | reportReturnType
    yield context.config.ratio  # error: attr-defined | reportAttributeAccessIssue


@sequence(on_error="explode")  # error: call-overload untyped-decorator | reportArgumentType
async def wrong_choice(input: Stream[str]) -> AsyncIterator[str]:
    async for line in input:
        yield line


@sequence(takes=5)  # error: call-overload untyped-decorator | reportArgumentType
async def wrong_content_type(input: Stream[str]) -> AsyncIterator[str]:
    async for line in input:
        yield line


@sequence(max_parallel="many")  # error: call-overload untyped-decorator | reportArgumentType
async def wrong_number(input: Stream[str]) -> AsyncIterator[str]:
    async for line in input:
        yield line


@sequence(content="text/plain")  # error: call-overload untyped-decorator | reportCallIssue
async def wrong_option(input: Stream[str]) -> AsyncIterator[str]:
    async for line in input:
        yield line


def exclaim(number: int) -> str:
    return f"{number}!"


async def wrong_items(lines: Stream[str]) -> None:
    lines.map(exclaim)  # error: arg-type | reportCallIssue reportArgumentType
    lines.map(len).map(exclaim, "extra")  # error: call-overload | reportCallIssue
    numbers: Stream[int] = lines.filter(bool)  # error: assignment | reportAssignmentType
    async for number in numbers:
        number.upper()  # error: attr-defined | reportAttributeAccessIssue
    await lines.to_tuple()  # error: attr-defined | reportAttributeAccessIssue


async def wrong_calls(context: Context[Config], lines: Stream[str]) -> None:
    context.set_health_check(5)  # error: arg-type | reportArgumentType
    context.emit(5)  # error: arg-type | reportArgumentType
    rates(context, 5)  # error: arg-type | reportArgumentType
    rates(context)  # error: call-arg | reportCallIssue
    context.stop()  # error: attr-defined | reportAttributeAccessIssue
