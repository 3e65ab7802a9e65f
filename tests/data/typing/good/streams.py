"""The methods of a stream, with functions of both sorts and extra arguments."""

from typing import assert_type

from sequence_sdk import Stream


async def later(line: str) -> int:
    return len(line)


async def is_long(line: str, least: int) -> bool:
    return len(line) > least


def power(number: int, exponent: int) -> float:
    return float(number**exponent)


def power_of_text(text: str, exponent: int) -> float:
    return power(int(text), exponent)


def first_of(stream: Stream[str]) -> str:
    return repr(stream)


size_of_nothing = 0


async def use(lines: Stream[str], chunks: Stream[bytes]) -> None:
    assert_type(lines.map(len), Stream[int])
    assert_type(lines.map(later), Stream[int])
    assert_type(lines.map(len).map(power, 3), Stream[float])
    assert_type(lines.filter(is_long, 3), Stream[str])
    assert_type(lines.filter(str.isdigit), Stream[str])
    assert_type(lines.flatmap(str.split), Stream[str])
    assert_type(lines.batch(lambda line: line == "\n"), Stream[list[str]])
    assert_type(Stream.from_iterable([1, 2, 3]), Stream[int])
    assert_type(await lines.map(len).to_list(), list[int])
    assert_type(lines.each(print).rate_limit(10).timeout(1.5), Stream[str])
    assert_type(lines.window(count=3, seconds=0.5), Stream[list[str]])
    assert_type(lines.retry(later, attempts=5), Stream[int])
    assert_type(lines.to_thread(power_of_text, exponent=2), Stream[float])
    assert_type(lines.merge([1, 2]), Stream[str | int])
    assert_type(lines.tee(2), tuple[Stream[str], ...])
    assert_type(await lines.read(), str | None)
    assert_type(lines.use(first_of), str)
    size: int = await lines.map(len).reduce(lambda total, each: total + each, size_of_nothing)
    written: Stream[int] = Stream()
    await written.write(size)
    written.end()
    async for line in chunks.decode("utf-8").split("\n"):
        assert_type(line, str)
