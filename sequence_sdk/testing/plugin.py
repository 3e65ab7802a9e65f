"""The pytest plugin: fixtures ``stage`` and ``virtual_time``, mark and option ``stages``.

pytest loads it in every project that has this package installed, so it imports nothing until a test asks for a fixture.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .clock import VirtualTime
    from .running import Backend
    from .stage import Stage

STAGES = ("direct", "runner", "hub")
GROUP = "sequence_sdk.stages"  # of entry points; each names a class that is made without arguments, see running.Backend

_FIXTURES = ("stage", "virtual_time")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("sequence", "tests of Sequences")
    group.addoption(
        "--stages", metavar="NAMES", help=f"run tests of Sequences only on these stages: {','.join(STAGES)}"
    )
    group.addoption(
        "--stage-timeout",
        type=float,
        metavar="SECONDS",
        help="how long a wait of such a test may last (default: 10)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of the mark."""
    config.addinivalue_line("markers", "stages(*names): run this test of a Sequence on these stages only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a test that uses ``stage`` run once on each."""
    if "stage" not in metafunc.fixturenames or not _is_ours(metafunc):
        return
    names = _names_of(metafunc.definition)
    wanted = metafunc.config.getoption("--stages", default=None)
    if wanted is not None:
        chosen = [name.strip() for name in wanted.split(",")]
        for name in chosen:
            _check(name, "--stages", pytest.UsageError)
        names = [name for name in names if name in chosen]
    metafunc.parametrize("stage", names, ids=names, indirect=True)


def _is_ours(metafunc: pytest.Metafunc) -> bool:
    """Tell whether the fixture of that name is the one below, and nobody has said its values already."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        argnames = mark.args[0] if mark.args else ()
        if "stage" in (argnames.replace(",", " ").split() if isinstance(argnames, str) else argnames):
            return False
    found = metafunc._arg2fixturedefs.get("stage", ())  # pytest has no other way to ask
    return bool(found) and found[-1].func.__module__ == __name__


def _names_of(definition: pytest.Item) -> list[str]:
    mark = definition.get_closest_marker("stages")
    if mark is None:
        return list(STAGES)
    for name in mark.args:
        _check(name, f"{definition.nodeid}: @pytest.mark.stages", pytest.UsageError)
    return list(mark.args)


def _check(name: str, where: str, error: type[Exception]) -> None:
    if name not in STAGES:
        raise error(f"{where}: there is no stage {name!r}; there are {', '.join(STAGES)}")


@pytest.hookimpl
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test that uses a fixture of ours, if no other plugin does."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test) or not set(_FIXTURES) & set(pyfuncitem.fixturenames):
        return None
    import asyncio  # noqa: PLC0415 - as everything here, when it is needed

    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(test(**arguments))
    return True


# --- fixtures -----------------------------------------------------------------------------------------------------------


class _Backends:
    """The stages that a session has used so far."""

    def __init__(self) -> None:
        self._made: dict[str, Backend] = {}

    def get(self, name: str) -> Backend | None:
        """Return a stage; None if nothing that is installed has it."""
        if name not in self._made:
            found = _make(name)
            if found is None:
                return None
            self._made[name] = found
        return self._made[name]

    def close(self) -> None:
        """End all."""
        while self._made:
            self._made.popitem()[1].close()


def _make(name: str) -> Backend | None:
    if name == "direct":
        from .direct import DirectStage  # noqa: PLC0415

        return DirectStage()
    from importlib.metadata import entry_points  # noqa: PLC0415

    for point in entry_points(group=GROUP, name=name):
        made: Backend = point.load()()
        return made
    return None


@pytest.fixture(scope="session")
def _stage_backends() -> Iterator[_Backends]:
    backends = _Backends()
    yield backends
    backends.close()


@pytest.fixture
def stage(request: pytest.FixtureRequest, _stage_backends: _Backends) -> Stage:
    """Return the place where this test runs a Sequence: in process, in a runner process, or on a hub."""
    from .stage import TIMEOUT, Stage  # noqa: PLC0415

    name = request.param
    backend = _stage_backends.get(name)
    if backend is None:
        pytest.skip(f"the stage {name!r} is not installed: pip install hub-lite, or choose --stages=direct")
    timeout = request.config.getoption("--stage-timeout", default=None)
    return Stage(name, backend, timeout=TIMEOUT if timeout is None else timeout, neighbours=(request.module,))


@pytest.fixture
def virtual_time(request: pytest.FixtureRequest) -> VirtualTime:
    """Return the clock of this test, which jumps over every wait; for the stage ``direct``, or without a stage."""
    from .clock import VirtualTime  # noqa: PLC0415

    if "stage" in request.fixturenames and request.getfixturevalue("stage").name != "direct":
        pytest.skip("virtual time is for the stage 'direct': a process has a clock of its own")
    clock = VirtualTime()
    test: Any = request.node.obj
    if inspect.iscoroutinefunction(test):

        @functools.wraps(test)
        async def timed(*args: Any, **arguments: Any) -> None:
            with clock.installed():
                await test(*args, **arguments)

        request.node.obj = timed
    return clock
