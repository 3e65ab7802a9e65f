"""What programs made for the original framework get from it, they get here."""

import asyncio
import fcntl
import importlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from sequence_sdk.stream import Stream as Ours
from sequence_sdk.stream import StringStream as OurStrings

VERSION = "0.10.1"
CACHE = Path(__file__).parents[2] / ".cache" / "pypi" / f"scramjet-framework-py-{VERSION}"
PATIENCE = 120.0  # seconds that pip has


@pytest.fixture(scope="session")
def original():
    """The module ``scramjet.streams`` of the original, installed once beside the tests, and forgotten by this process."""
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with (CACHE.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes that run side by side share the folder
        if not (CACHE / "scramjet" / "streams.py").is_file():
            pip = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
            ]
            wanted = f"scramjet-framework-py=={VERSION}"
            try:
                subprocess.run(
                    [*pip, "--target", CACHE, wanted], check=True, capture_output=True, timeout=PATIENCE
                )
            except (subprocess.SubprocessError, OSError) as error:
                pytest.skip(f"pip cannot install {wanted}: {error}")
    sys.path.insert(0, str(CACHE))
    try:
        return importlib.import_module("scramjet.streams")
    finally:
        sys.path.remove(str(CACHE))
        for name in [name for name in sys.modules if name.partition(".")[0] == "scramjet"]:
            del sys.modules[name]


async def plus_one(item):
    await asyncio.sleep(0)
    return item + 1


def lines(left, chunk):
    return (left + chunk).split("\n")


async def written(stream):
    target = stream(2)
    writes = [target.write(item) for item in range(5)]
    done = [[write.done() for write in writes]]
    for _ in writes:
        await target.read()
        await asyncio.sleep(0)
        done.append([write.done() for write in writes])
    return done


async def piped(stream):
    source, first, second = stream.from_iterable(range(20)), stream(), stream()
    source.pipe(first)
    source.pipe(second)
    return await asyncio.gather(first.to_list(), second.to_list())


async def read_to_the_end(stream):
    source = stream.from_iterable([1])
    return [await source.read() for _ in range(3)]


async def into_a_file(stream):
    file = io.StringIO()
    return (await stream.from_iterable(["a", "b"]).write_to(file)) is file, file.getvalue()


async def begun(stream):
    order = []

    async def call(item):
        order.append(item)
        await asyncio.sleep(0.001 * (3 - item))
        return item

    return await stream.from_iterable(range(3)).map(call).to_list(), order


PROGRAMS = {
    "falsy items": lambda s, t: s.from_iterable([0, "", False, []]).map(lambda item: item).to_list(),
    "async map": lambda s, t: s.from_iterable(range(200), 7).map(plus_one).to_list(),
    "arguments": lambda s, t: s.from_iterable([1, 2]).map(lambda item, a, b: (item, a, b), 3, 4).to_list(),
    "filter": lambda s, t: s.from_iterable(range(9)).filter(lambda item: item % 3).to_list(),
    "each": lambda s, t: s.from_iterable(range(9)).each(plus_one).to_list(),
    "flatmap": lambda s, t: s.from_iterable(["ab", "", "c"]).flatmap(lambda item: item).to_list(),
    "batch": lambda s, t: s.from_iterable(range(5)).batch(lambda item: item % 2).to_list(),
    "sequence": lambda s, t: s.from_iterable(["a\nb", "c\n"]).sequence(lines, "").to_list(),
    "sequence of nothing": lambda s, t: s.from_iterable([]).sequence(lines, "x").to_list(),
    "reduce": lambda s, t: s.from_iterable([1, 2, 3]).reduce(lambda a, b: (a, b)),
    "reduce from 0": lambda s, t: s.from_iterable([1, 2, 3]).reduce(lambda a, b: (a, b), 0),
    "reduce nothing": lambda s, t: s.from_iterable([]).reduce(lambda a, b: (a, b)),
    "decode": lambda s, t: s.from_iterable([b"\xc5", b"\x82", b"", b"a"]).decode("utf-8").to_list(),
    "split": lambda s, t: t.from_iterable(["a\nb", "c\n", "\nd\n"]).split("\n").to_list(),
    "split wide": lambda s, t: t.from_iterable(["a-", "-b--c"]).split("--").to_list(),
    "match": lambda s, t: t.from_iterable(["a1 b2", "c", "3"]).match(r"([a-z]?)(\d)").to_list(),
    "parse": lambda s, t: t.from_iterable(["1", "2"]).parse(int).to_list(),
    "chunks": lambda s, t: s.read_from(io.BytesIO(b"abcde"), chunk_size=2).to_list(),
    "callback": lambda s, t: s.from_callback(4, iter([1, 0, None]).__next__).to_list(),
    "use": lambda s, t: s.from_iterable([1]).use(lambda stream: stream.map(plus_one)).to_list(),
    "writes": lambda s, t: written(s),
    "pipes": lambda s, t: piped(s),
    "read": lambda s, t: read_to_the_end(s),
    "file": lambda s, t: into_a_file(s),
    "calls": lambda s, t: begun(s),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_program_gets_the_same(original, name):
    program = PROGRAMS[name]
    theirs = await asyncio.wait_for(program(original.Stream, original.StringStream), 10)
    assert await asyncio.wait_for(program(Ours, OurStrings), 10) == theirs
