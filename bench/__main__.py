"""``python -m bench``: measure a hub beside its baselines and print the table."""

import argparse
import multiprocessing
import resource
import shutil
import signal
import sys
import tempfile
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

from . import report
from .cases import CASES
from .hub import Hub, NoHub, own_hub
from .measure import QUICK, Case, NotHere, Setup, Sizes, run_case
from .payload import WrongResult
from .processes import ROOT
from .workers import ignore_interrupts

_ROUNDS = 5
_OPEN_FILES = 65_536
_README = Path(__file__).with_name("README.md")


def main(arguments: list[str] | None = None, all_cases: tuple[Case, ...] = CASES) -> int:
    """Run the benchmark and return the exit code: 0, or 1 for a wrong result, or 2 for what cannot be run."""
    parser = _parser(all_cases)
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(f"{case.name:18}{case.about}" for case in all_cases))
        return 0
    unknown = sorted(set(options.cases) - {case.name for case in all_cases})
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; --list says what there is")
    cases = [case for case in all_cases if not options.cases or case.name in options.cases]
    try:
        run = _run(cases, options)
        compared = report.comparison(run, options.compare) if options.compare else ""
    except (NoHub, report.NoRun) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(report.markdown(run) if options.markdown else report.table(run))
    if compared:
        print(f"\n{compared}")
    if options.json:
        options.json.write_text(run.to_json(), encoding="utf-8")
    if options.update_readme:
        report.update(_README, run)
    for name, why in run.absent.items():
        print(f"{name} was not measured: {why}", file=sys.stderr)
    for name, why in run.wrong.items():
        print(f"{name} gave a WRONG RESULT: {why}", file=sys.stderr)
    return 1 if run.wrong else 0


def _parser(cases: tuple[Case, ...]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    names = ", ".join(case.name for case in cases)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {names}; all without it")
    parser.add_argument("--list", action="store_true", help="say what the cases are, and end")
    parser.add_argument(
        "--rounds", type=_count, metavar="N", help=f"rounds of each case [{_ROUNDS}; quick: 1]"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: it shows that results are right, no more"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value to a file")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="compare with what --json wrote before")
    parser.add_argument(
        "--base-url", metavar="URL", help="measure the hub that runs there, not one of this checkout"
    )
    parser.add_argument(
        "--hub-pid", type=_count, metavar="PID", help="its process, for memory and processor time"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--update-readme", action="store_true", help="put the table into bench/README.md")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def _run(cases: list[Case], options: argparse.Namespace) -> report.Run:
    sizes = QUICK if options.quick else Sizes()
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    run = report.Run(report.machine(ROOT), rounds, options.quick, {}, {}, {})
    _raise_limits()
    with _workers() as pool:
        for case in cases:
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
                hub = _hub(options, folder, stack)
                own = options.base_url is None
                setup = Setup(hub, sizes, pool, folder, own, shutil.which("socat"))
                try:
                    run.results[case.name] = run_case(case, setup, rounds, _progress)
                except NotHere as error:
                    run.absent[case.name] = str(error)
                except WrongResult as error:
                    run.wrong[case.name] = str(error)
    _progress("")
    return run


def _raise_limits() -> None:
    """Let this process and the hub it starts have as many open files as hundreds of Instances want."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _hub(options: argparse.Namespace, folder: Path, stack: ExitStack) -> Hub:
    """Return the hub to measure; one of our own is new for each case, so that no case inherits what another left."""
    if options.base_url is None:
        return stack.enter_context(own_hub(folder))
    hub = Hub.at(options.base_url, options.hub_pid)
    hub.connection().link.close()
    return hub


def _workers() -> Executor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(2, mp_context=context, initializer=ignore_interrupts)


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupted)  # everything that was started ends by leaving its `with`
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
