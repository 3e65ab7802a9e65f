"""The plugin, in test runs of its own."""

import asyncio
import sys

import pytest

from sequence_sdk.testing import direct
from sequence_sdk.testing import plugin as ours

pytest_plugins = ["pytester"]

SEQUENCES = """
import asyncio
import pytest
from sequence_sdk import sequence

@sequence
async def greet(lines):
    async for line in lines:
        await asyncio.sleep(0)
        yield "Hello " + line

@sequence
async def sleepy(lines):
    async for line in lines:
        await asyncio.sleep(3600)
        yield line
"""


class Elsewhere(direct.DirectStage):
    """A stage that an entry point names."""

    closed = 0

    def close(self):
        Elsewhere.closed += 1


class Point:
    def load(self):
        return Elsewhere


@pytest.fixture
def run(pytester, monkeypatch):
    """Run the tests of a file with the plugin and no other that runs coroutines."""
    found = {}
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda *, group, name: found.get((group, name), [])
    )
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = -p no:cacheprovider --strict-markers")

    def run(text, *options, installed=(), others=("no:asyncio", "no:anyio")):
        found.update({("sequence_sdk.stages", name): [Point()] for name in installed})
        pytester.makepyfile(SEQUENCES + text)
        chosen = [
            word for name in (*others, "no:sequence_sdk", "no:cov", "no:xdist") for word in ("-p", name)
        ]
        return pytester.runpytest_inprocess(*chosen, "-v", "-rs", *options, plugins=[ours])

    return run


TEST = """
async def test_everybody_is_greeted(stage):
    assert await stage.outputs(greet, ["Ada\\n"]) == ["Hello Ada\\n"]
    assert stage.timeout == 10.0
"""


def test_a_test_runs_on_each_stage_that_is_installed(run):
    Elsewhere.closed = 0
    result = run(TEST, installed=["runner"])
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines_random(
        ["*everybody_is_greeted?direct? PASSED*", "*greeted?runner? PASSED*", "*greeted?hub? SKIPPED*"]
    )
    result.stdout.fnmatch_lines(
        ["*stage 'hub' is not installed: pip install hub-lite, or choose --stages=direct*"]
    )
    assert Elsewhere.closed == 1


@pytest.mark.parametrize("other", ["asyncio", "anyio"])
def test_another_plugin_that_runs_coroutines_may_do_it(run, other):
    mark = "pytestmark = pytest.mark.asyncio" if other == "asyncio" else "pytestmark = pytest.mark.anyio"
    fixture = "\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n"
    warnings = "ignore::pytest.PytestDeprecationWarning"  # about a setting of that plugin's
    foreign = "no:anyio" if other == "asyncio" else "no:asyncio"
    result = run(mark + fixture + TEST, "--stages=direct", "-W", warnings, others=(foreign,))
    result.assert_outcomes(passed=1)


def test_a_stage_is_made_once_and_other_values_may_be_there(run):
    text = """
@pytest.mark.parametrize("name", ["Ada", "Grace"])
async def test_a_name_is_greeted(stage, name):
    assert await stage.outputs(greet, [name]) == ["Hello " + name]
"""
    run(text, "--stages=direct").assert_outcomes(passed=2)


def test_a_mark_and_an_option_choose_stages(run):
    marked = "\n@pytest.mark.stages('hub', 'direct')" + TEST
    run(marked, "--stages=direct,runner").assert_outcomes(passed=1)
    run(marked, "--stages=runner").assert_outcomes(skipped=1)


def test_a_stage_that_does_not_exist_is_told(run):
    result = run(TEST, "--stages=direct,moon")
    result.stdout.fnmatch_lines(["*--stages: there is no stage 'moon'; there are direct, runner, hub*"])
    result = run("\n@pytest.mark.stages('moon')" + TEST)
    result.stdout.fnmatch_lines(["*@pytest.mark.stages: there is no stage 'moon'*"])


def test_an_option_says_how_long_a_wait_may_last(run):
    result = run("def test_it(stage): assert stage.timeout == 0.5", "--stages=direct", "--stage-timeout=0.5")
    result.assert_outcomes(passed=1)


def test_a_test_that_is_no_coroutine_can_use_a_stage(run):
    result = run(
        "def test_it(stage): assert stage.outputs_of(greet, ['a']) == ['Hello a']", "--stages=direct"
    )
    result.assert_outcomes(passed=1)


def test_virtual_time_is_there_for_coroutines(run):
    result = run(
        """
async def test_hours_pass(stage, virtual_time):
    assert await stage.outputs(sleepy, ["a\\n", "b\\n"]) == ["a\\n", "b\\n"]
    assert virtual_time.elapsed == 7200

async def test_without_a_stage(virtual_time):
    await virtual_time.advance(60)
    assert virtual_time.elapsed == 60

def test_a_clock_that_nobody_installs(virtual_time):
    assert virtual_time.elapsed == 0
""",
        installed=["hub", "runner"],
    )
    result.assert_outcomes(passed=3, skipped=2)
    result.stdout.fnmatch_lines(
        ["*virtual time is for the stage 'direct': a process has a clock of its own*"]
    )


def test_a_fixture_of_that_name_of_somebody_else_is_left_alone(run):
    result = run(
        """
@pytest.fixture
def stage():
    return "theirs"

def test_it(stage):
    assert stage == "theirs"
"""
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("names", ["'stage'", "'other, stage'", "['other', 'stage']"])
def test_values_that_a_test_says_itself_are_left_alone(run, names):
    value = "'theirs'" if names == "'stage'" else "(1, 'theirs')"
    other = "" if names == "'stage'" else "other, "
    result = run(
        f"\n@pytest.mark.parametrize({names}, [{value}])\ndef test_it({other}stage): assert stage == 'theirs'"
    )
    result.assert_outcomes(passed=1)


def test_tests_without_our_fixtures_are_left_alone(run):
    run("def test_it(): pass\n@pytest.mark.parametrize('a', [1])\ndef test_two(a): pass").assert_outcomes(
        passed=2
    )
    run("async def test_it(): pass").assert_outcomes(failed=1)


def test_a_failing_test_shows_what_the_sequence_said(run):
    result = run(
        """
@sequence
async def fails(lines):
    async for line in lines:
        raise ValueError("what it says")
    yield ""

async def test_it(stage):
    await stage.outputs(fails, ["a\\n"])
""",
        "--stages=direct",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*direct: fails: the Sequence failed after 0 more items of output", "E*ValueError: what it says*"]
    )


def test_importing_the_plugin_imports_no_more_than_the_package(pytester):
    code = "import sys, sequence_sdk; before = set(sys.modules); import sequence_sdk.testing.plugin; import pytest"
    code += "; print(sorted(n for n in set(sys.modules) - before if n.startswith('sequence_sdk.')))"
    result = pytester.run(sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}")
    result.stdout.fnmatch_lines(["['sequence_sdk.testing', 'sequence_sdk.testing.plugin']"])
    assert ours.STAGES == ("direct", "runner", "hub")
    assert asyncio.iscoroutinefunction(ours.pytest_pyfunc_call) is False
