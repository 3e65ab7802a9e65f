"""What a hub does by itself: its start-up list, and its end with the last Instance."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.errors import Unavailable
from hub_lite.hub import Hub
from hub_lite.instances import StartPayload
from hub_lite.ports import Launch
from hub_lite.settings import Settings, SettingsError
from hub_lite.startup import NOTHING_STARTED, Entry, operate, parse_list, read_list, start_all

from .fakes import (
    DEADLINE,
    FakeAdapter,
    FakeProcess,
    FakeRunner,
    FakeStore,
    launched_where,
    stored_sequence,
    until,
)

ONE = "1" * 36
ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"


# --- the list ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "list.json",
            '{"sequences": [{"id": "a", "args": ["x", 1], "appConfig": {"k": null}, "instanceId": "%s"}, {"id": "b"}]}',
        ),
        (
            "list.yaml",
            "sequences:\n- id: a\n  args: [x, 1]\n  appConfig: {k: null}\n  instanceId: %s\n- {id: b, args: null}\n",
        ),
        ("list", '{"sequences": [{"id": a, "args": ["x", 1], "appConfig": {k: ~}, "instanceId": "%s"}, {"id": b}]}'),
    ],
)  # fmt: skip
def test_a_list_is_json_or_yaml(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text % ID)
    first, second = read_list(tmp_path / name)
    assert first == Entry("a", ["x", 1], {"k": None}, ID)
    assert second == Entry("b")
    assert first.payload() == StartPayload(
        app_config={"k": None},
        args=["x", 1],
        instance_id=ID,
        raw={"args": ["x", 1], "appConfig": {"k": None}, "instanceId": ID},
    )
    assert second.payload() == StartPayload(raw={"args": [], "appConfig": {}})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list.json", b"{", "is not JSON"),
        ("list.json", b"sequences: []", "is not JSON"),
        ("list.json", b'{"sequences": [{"id": "a", "args": [NaN]}]}', "is not JSON"),
        ("list.yaml", b"{", "is not YAML"),
        ("list.yaml", b"sequences: [{id: a, args: [2020-01-01]}]", "is not YAML"),
        ("list.yaml", b"sequences: &x [*x]", "is not YAML"),
        ("list.yaml", b"\xff", "decode"),
        ("list.yaml", b"", "must be an object, not null"),
        ("folder", None, "Is a directory"),
    ],
)
def test_a_file_that_is_no_list_is_named(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=f"^start-up list {tmp_path / name}") as caught:
        read_list(tmp_path / name)
    assert said in str(caught.value)


def test_the_list_of_the_documentation_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    (text,) = re.findall(r"```yaml\n(sequences:.*?)```", page, re.DOTALL)
    (tmp_path / "list.yaml").write_text(text)
    (entry,) = read_list(tmp_path / "list.yaml")
    assert (entry.id, entry.args, entry.app_config) == ("shout", ["?"], {"sign": "!"})


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"^start-up list {tmp_path / 'none'}: No such file"):
        read_list(tmp_path / "none")


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ([], "here must be an object, not []"),
        ({}, "here: 'sequences' must be an array, not null"),
        ({"sequences": {}}, "here: 'sequences' must be an array, not {}"),
        ({"sequences": [], "more": 1}, "here: unknown key 'more'; known are sequences"),
        ({"sequences": ["a"]}, 'here: sequences[0] must be an object, not "a"'),
        ({"sequences": [{"id": "a"}, {}]}, "here: sequences[1]: 'id' must be the id or the name of a Sequence, not null"),
        ({"sequences": [{"id": ""}]}, "'id' must be"),
        ({"sequences": [{"id": 5}]}, "'id' must be"),
        (
            {"sequences": [{"id": "a", "limits": {}}]},
            "here: sequences[0]: unknown key 'limits'; known are id, args, appConfig, instanceId",
        ),
        ({"sequences": [{"id": "a", "args": {}}]}, "sequences[0]: 'args' must be an array, not {}"),
        ({"sequences": [{"id": "a", "appConfig": "x" * 99}]}, "'appConfig' must be an object, not \"xxx"),
        ({"sequences": [{"id": "a", "instanceId": "short"}]}, "'instanceId' must be 36 visible ASCII characters"),
        ({"sequences": [{"id": "a", "instanceId": ID}] * 2}, f"instanceId {ID!r} is there more than once"),
    ],
)  # fmt: skip
def test_a_list_that_says_something_else_is_refused_with_the_place(tree: Any, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_list(tree, where="here")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_ENTRY = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("id", "args", "appConfig", "instanceId", "other"), _JSON)
)


@given(st.fixed_dictionaries({"sequences": st.lists(_ENTRY | _JSON, max_size=3)}) | _JSON)
def test_any_json_gives_entries_or_the_documented_error(tree: Any) -> None:
    said = ""
    try:
        entries = parse_list(tree, where="here")
    except SettingsError as error:
        said = str(error)
    assert said.startswith("here") or [one.id for one in entries] == [one["id"] for one in tree["sequences"]]


# --- a hub at work ----------------------------------------------------------------------------------------------------


class Bench:
    """A hub of fakes whose Instances run until the test ends them."""

    def __init__(self, folder: Path) -> None:
        self.store = FakeStore(stored_sequence(ONE), stored_sequence("2" * 36), stored_sequence("bad"))
        self.adapter = FakeAdapter()
        self.adapter.on_launch = self.play
        self.hub = Hub(Settings(data_dir=folder, shutdown_timeout=0.2), self.store, self.adapter)
        self.runners: list[FakeRunner] = []
        self.asked = asyncio.Event()

    async def play(self, launch: Launch, process: FakeProcess) -> None:
        if launch.sequence.id == "bad":
            process.end(22)
            return
        runner = FakeRunner(launch.instance_id, launched_where(launch.environment))
        self.runners.append(runner)
        await runner.start()

    def end_all(self) -> None:
        for process in self.adapter.processes:
            process.end(0)

    def operate(self, *ids: str, ends_with_last_instance: bool = False) -> "asyncio.Task[int]":
        entries = [Entry(one) for one in ids]
        work = operate(self.hub, entries, self.asked, ends_with_last_instance=ends_with_last_instance)
        return asyncio.create_task(work)


@pytest.fixture
async def bench(nothing_left: None, tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    await bench.hub.open()
    yield bench
    bench.end_all()
    async with asyncio.timeout(DEADLINE):
        await bench.hub.close()
        await asyncio.gather(*bench.adapter.roles, return_exceptions=True)
    for runner in bench.runners:
        await runner.close()


async def test_a_list_is_started_and_what_is_not_there_is_skipped_with_a_warning(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [
        Entry(ONE, ["a"], {"k": 1}, ID), Entry("nobody"), Entry("bad"), Entry("fake"), Entry(ONE, instance_id=ID),
    ]  # fmt: skip
    assert await start_all(bench.hub, entries) == 1
    instance = bench.hub.instance(ID)
    assert (instance.payload.args, instance.payload.app_config) == (["a"], {"k": 1})
    said = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert "start-up list: there is no Sequence nobody; it is skipped" in said
    assert "start-up list: Sequence bad is not started: Sequence failed on start" in said
    assert any("already exists" in text for text in said)
    launched = [one.sequence.id for one in bench.adapter.launches]
    assert sorted(launched) == sorted([ONE, "bad", "bad"]), "the newest of a name"


async def test_at_most_four_are_being_started(bench: Bench) -> None:
    bench.adapter.gate = asyncio.Event()
    work = asyncio.create_task(start_all(bench.hub, [Entry(ONE)] * 6))
    await until(lambda: len(bench.adapter.launches) == 4)
    bench.adapter.gate.set()
    assert await asyncio.wait_for(work, DEADLINE) == 6
    assert len(bench.adapter.launches) == 6


async def test_a_hub_runs_until_it_is_asked_to_end(bench: Bench) -> None:
    work = bench.operate(ONE)
    await until(lambda: bench.hub.instances() and bench.hub.instances()[0].up.is_set())
    bench.end_all()
    await until(lambda: bench.hub.instances()[0].is_over)
    await bench.hub.wait_until_idle()
    assert not work.done()
    bench.asked.set()
    assert await asyncio.wait_for(work, DEADLINE) == 0


async def test_a_hub_that_is_asked_to_end_while_it_starts_its_list_ends(bench: Bench) -> None:
    bench.adapter.gate = asyncio.Event()
    work = bench.operate(ONE, ONE, ends_with_last_instance=True)
    await until(lambda: len(bench.adapter.launches) == 2)
    bench.asked.set()
    assert await asyncio.wait_for(work, DEADLINE) == 0
    bench.adapter.gate.set()
    await until(lambda: all(one.up.is_set() for one in bench.hub.instances()))


async def test_a_hub_may_end_with_its_last_instance(bench: Bench) -> None:
    work = bench.operate(ONE, ONE, ends_with_last_instance=True)
    await until(lambda: len(bench.runners) == 2 and all(one.up.is_set() for one in bench.hub.instances()))
    later = await bench.hub.start(ONE, StartPayload())
    bench.adapter.processes[0].end(0)
    bench.adapter.processes[1].end(1)
    await until(lambda: sum(one.is_over for one in bench.hub.instances()) == 2)
    assert not work.done()
    bench.end_all()
    assert await asyncio.wait_for(work, DEADLINE) == 0
    assert later.is_over


@pytest.mark.parametrize("ids", [(), ("nobody",), ("bad",)])
async def test_a_hub_that_has_nothing_to_end_with_ends_with_101(bench: Bench, ids: tuple[str, ...]) -> None:
    work = bench.operate(*ids, ends_with_last_instance=True)
    assert await asyncio.wait_for(work, DEADLINE) == NOTHING_STARTED == 101


async def test_who_reads_the_last_instance_gets_all_of_it_before_the_hub_ends(bench: Bench) -> None:
    work = bench.operate(ONE, ends_with_last_instance=True)
    await until(lambda: bench.hub.instances() and bench.hub.instances()[0].up.is_set())
    (instance,) = bench.hub.instances()
    with instance.log.open():
        bench.end_all()
        await bench.hub.wait_until_idle()
        assert not work.done()
    assert await asyncio.wait_for(work, DEADLINE) == 0


async def test_a_reader_that_never_goes_holds_the_end_up_for_a_while_only(bench: Bench) -> None:
    work = bench.operate(ONE, ends_with_last_instance=True)
    await until(lambda: bench.hub.instances() and bench.hub.instances()[0].up.is_set())
    (instance,) = bench.hub.instances()
    with instance.log.open():
        bench.end_all()
        assert await asyncio.wait_for(work, DEADLINE) == 0


async def test_what_cannot_be_started_at_all_leaves_the_hub_running(bench: Bench) -> None:
    bench.adapter.refusal = Unavailable("no more processes")
    work = bench.operate(ONE)
    await until(lambda: bench.adapter.launches)
    assert not work.done()
    bench.adapter.refusal = None
    assert (await bench.hub.start(ONE, StartPayload())).up.is_set()
    bench.asked.set()
    assert await asyncio.wait_for(work, DEADLINE) == 0


def test_json_that_only_yaml_takes_is_not_taken_from_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "list.JSON"
    path.write_text(json.dumps({"sequences": []}) + " # said")
    with pytest.raises(SettingsError, match="is not JSON"):
        read_list(path)
