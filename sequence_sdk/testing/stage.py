"""Where a Sequence is run in a test: in process, in a runner process, or on a hub."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from .errors import TestingError
from .run import Run
from .running import Backend, Order, Running
from .subject import Subject

T = TypeVar("T")

TIMEOUT = 10.0  # seconds of real time that a wait may last


class Stage:
    """One of the places where a test runs a Sequence.

    Attributes:
        name: ``direct``, ``runner`` or ``hub``.
        timeout: seconds that each wait of a run may last, unless the run says otherwise.
    """

    __test__ = False

    def __init__(
        self,
        name: str,
        backend: Backend,
        *,
        timeout: float = TIMEOUT,
        neighbours: tuple[ModuleType, ...] = (),
    ) -> None:
        self.name = name
        self.timeout = timeout
        self._backend = backend
        self._neighbours = neighbours

    def __repr__(self) -> str:
        return f"<stage {self.name}>"

    @asynccontextmanager
    async def run(
        self,
        subject: Any,
        /,
        *args: Any,
        config: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        gives: str | None = None,
        crash_after: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of each wait, not of this call
    ) -> AsyncIterator[Run]:
        """Run a Sequence for as long as the block lasts.

        Args:
            subject: what ``@sequence`` has marked, the path of a Python file, or the path of a package's folder.
            args: the arguments of the start.
            config: the configuration of the start.
            content_type: what the sender says the input is; else what the Sequence takes, else what the first item fed is.
                Until then nothing is started.
            gives: the content type of the output, where a package is not written in Python.
            crash_after: the Sequence is killed when it has handled so many items; what is fed after those it never sees.
            timeout: seconds of real time that a wait may last.

        Raises:
            SubjectNotFound: this stage cannot run it.
        """
        what = Subject(subject, self._neighbours)
        with tempfile.TemporaryDirectory(prefix="sequence-test-") as scratch:

            async def launch(content_type: str) -> Running:
                order = Order(what, Path(scratch), content_type, list(args), dict(config or {}))
                return await self._backend.launch(order)

            run = Run(
                launch,
                title=f"{self.name}: {what}",
                takes=what.takes,
                gives=gives or what.gives,
                timeout=self.timeout if timeout is None else timeout,
                content_type=content_type,
                crash_after=crash_after,
            )
            async with run:
                yield run

    async def outputs(self, subject: Any, items: Iterable[Any], /, *args: Any, **options: Any) -> list[Any]:
        """Return all that a Sequence makes of the items of an input; ``options`` are those of ``run``.

        Raises:
            SequenceFailed: it fails.
        """
        async with self.run(subject, *args, **options) as run:
            feeding = asyncio.create_task(run.feed(*items))
            try:
                await asyncio.sleep(0)  # it is first in the queue before the input
                outputs = await run.rest()
                await feeding
            finally:
                feeding.cancel()
                await asyncio.wait({feeding})
        return outputs

    def outputs_of(self, subject: Any, items: Iterable[Any], /, *args: Any, **options: Any) -> list[Any]:
        """Return what ``outputs`` does, in a test that is no coroutine."""
        return self.wait_for(self.outputs(subject, items, *args, **options))

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, in a test that is no coroutine, and return what it returns.

        Raises:
            TestingError: an event loop runs already; await it there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                return runner.run(work)
        work.close()
        raise TestingError(
            "an event loop runs here already: `await` it, or leave out the `async` of the test"
        )
