"""The hub: Sequences and Instances come and go, and nothing is left of it when it is closed."""

import asyncio
import errno
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub_lite.errors import BadRequest, Conflict, NotFound, PackageError, Unavailable
from hub_lite.hub import Hub, StartFailed
from hub_lite.instances import Instance, StartPayload
from hub_lite.ports import Launch
from hub_lite.settings import Settings
from runner.protocol.channels import Channel
from runner.protocol.lifecycle import State

from .fakes import (
    DEADLINE,
    FakeAdapter,
    FakeLink,
    FakeProcess,
    FakeRunner,
    FakeStore,
    connect,
    launched_where,
    stored_sequence,
    until,
)

ONE = "1" * 36
ID = "603954b0-7d6c-4c1e-9f1e-0a4d2b9c1e55"


class Bench:
    """A hub whose store, adapter and runners are fakes."""

    def __init__(self, hub: Hub, store: FakeStore, adapter: FakeAdapter) -> None:
        self.hub = hub
        self.store = store
        self.adapter = adapter
        self.runners: list[FakeRunner] = []
        self.ping: dict[str, Any] = {}  # of the runners; empty: those of old
        self.heard: list[tuple[Any, ...]] = []  # by runners on their control links

    def paces(self, instance: Instance) -> list[float]:
        """What a runner has heard about its reports."""
        return [
            what["monitoringRate"] for who, code, what in self.heard if (who, code) == (instance.id, 4003)
        ]

    async def play(self, launch: Launch, process: FakeProcess) -> None:
        """Play a good runner: up at once, gone when told."""
        runner = FakeRunner(launch.instance_id, launched_where(launch.environment))
        self.runners.append(runner)
        await runner.start(ping=self.ping)
        while True:
            line = await runner.links[3].reader.readline()
            if line:
                self.heard.append((launch.instance_id, *json.loads(line)))
            if not line or json.loads(line)[0] in (4001, 4002):
                break
        await runner.close()
        process.end(138)

    async def start(self, **payload: Any) -> Instance:
        async with asyncio.timeout(DEADLINE):
            return await self.hub.start(ONE, StartPayload(**payload))


def make_bench(folder: Path, **settings: Any) -> Bench:
    store = FakeStore(stored_sequence(ONE))
    adapter = FakeAdapter()
    options = {"shutdown_timeout": 5.0, "data_dir": folder, **settings}
    bench = Bench(Hub(Settings(**options), store, adapter), store, adapter)
    adapter.on_launch = bench.play
    return bench


@pytest.fixture
async def settings_of_hub() -> dict[str, Any]:
    return {}


@pytest.fixture
async def bench(nothing_left: None, tmp_path: Path, settings_of_hub: dict[str, Any]) -> AsyncIterator[Bench]:
    bench = make_bench(tmp_path, **settings_of_hub)
    await bench.hub.open()
    yield bench
    async with asyncio.timeout(DEADLINE):
        await bench.hub.close()
        await asyncio.gather(*bench.adapter.roles, return_exceptions=True)
        for runner in bench.runners:
            await runner.close()
    assert all(process.closed for process in bench.adapter.processes)
    assert bench.hub.instances() == []


async def test_instances_report_less_often_the_more_there_are(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_lite.pace._REPORTS", 2.0)
    bench.ping = {"payload": {"system": {"reload": True}}}
    first, second = await bench.start(), await bench.start()
    first.set_monitoring_rate(7)
    third = await bench.start()
    await until(lambda: bench.paces(second) == [0.5] and bench.paces(third) == [0.5])
    fourth = await bench.start()
    await until(lambda: bench.paces(fourth) == [0.5])
    for instance in (third, fourth, first):
        instance.kill()
        await instance.over.wait()
    await until(lambda: bench.paces(second) == [0.5, 1.0])
    assert bench.paces(first) == [7], "somebody wants to know better"


# --- Sequences --------------------------------------------------------------------------------------------------------


async def test_sequences_of_the_store_are_there_again(bench: Bench) -> None:
    assert [one.id for one in bench.hub.sequences()] == [ONE]
    assert bench.hub.describe_sequence(bench.hub.sequence(ONE)) == {
        "id": ONE,
        "config": {
            "type": "fake", "entrypointPath": "main.py", "language": "py", "name": "fake",
            "engines": {"python3": ">=3.11"}, "id": ONE, "packageSize": 123,
        },
        "location": "hub-lite",
        "instances": [],
    }  # fmt: skip


async def test_a_package_becomes_a_sequence(bench: Bench) -> None:
    with bench.hub.receive_package() as upload:
        upload.write(b"good")
        sequence = await bench.hub.add_sequence(upload)
    assert len(sequence.id) == 36
    assert bench.hub.sequence(sequence.id) is sequence
    assert [one.id for one in bench.hub.sequences()] == [ONE, sequence.id]


async def test_of_a_bad_package_nothing_is_left(bench: Bench) -> None:
    with bench.hub.receive_package() as upload:
        upload.write(b"bad")
        with pytest.raises(PackageError):
            await bench.hub.add_sequence(upload)
    assert len(bench.hub.sequences()) == 1


async def test_what_is_not_there_is_not_found(bench: Bench) -> None:
    with pytest.raises(NotFound, match="Sequence nope not found"):
        bench.hub.sequence("nope")
    with pytest.raises(NotFound, match="Instance nope not found"):
        bench.hub.instance("nope")
    with pytest.raises(NotFound, match="Sequence nope not found"):
        await bench.hub.start("nope", StartPayload())
    with pytest.raises(NotFound, match=r"The sequence nope does not exist\."):
        await bench.hub.delete_sequence("nope", force=True)


async def test_an_idle_sequence_is_deleted(bench: Bench) -> None:
    await bench.hub.delete_sequence(ONE, force=False)
    assert bench.hub.sequences() == []
    assert bench.store.sequences == {}


async def test_a_sequence_in_use_is_deleted_by_force_only(bench: Bench) -> None:
    instance = await bench.start()
    with pytest.raises(Conflict, match=r"Can't remove sequence in use\."):
        await bench.hub.delete_sequence(ONE, force=False)
    assert instance.state is State.RUNNING
    async with asyncio.timeout(DEADLINE):
        await bench.hub.delete_sequence(ONE, force=True)
    assert instance.state is State.COMPLETED
    assert bench.hub.instances() == []
    assert bench.store.sequences == {}


async def test_a_sequence_whose_instances_have_ended_needs_no_force(bench: Bench) -> None:
    instance = await bench.start()
    await instance.stop(DEADLINE, can_keep_alive=False)
    await bench.hub.delete_sequence(ONE, force=False)
    assert bench.hub.instances() == [instance]
    assert bench.hub.describe_instance(instance)["sequence"]["id"] == ONE


async def test_a_sequence_that_is_being_deleted_is_not_started(bench: Bench) -> None:
    await bench.start()
    deleting = asyncio.ensure_future(bench.hub.delete_sequence(ONE, force=True))
    await asyncio.sleep(0)
    with pytest.raises(NotFound):
        await bench.start()
    with pytest.raises(NotFound):
        await bench.hub.delete_sequence(ONE, force=True)
    await deleting


async def test_a_deletion_goes_on_when_its_client_goes_away(bench: Bench) -> None:
    instance = await bench.start()
    deleting = asyncio.ensure_future(bench.hub.delete_sequence(ONE, force=True))
    await asyncio.sleep(0)
    deleting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deleting
    await until(lambda: not bench.store.sequences)
    assert instance.state is State.COMPLETED


async def test_a_sequence_that_the_store_cannot_remove_stays(bench: Bench) -> None:
    bench.store.removal_error = OSError(errno.EIO, "broken disk")
    with pytest.raises(OSError, match="broken disk"):
        await bench.hub.delete_sequence(ONE, force=False)
    assert [one.id for one in bench.hub.sequences()] == [ONE]
    await bench.start()


# --- Instances --------------------------------------------------------------------------------------------------------


async def test_a_start_returns_when_the_sequence_is_up(bench: Bench) -> None:
    instance = await bench.start(app_config={"k": 1}, args=[2])
    assert instance.state is State.RUNNING
    assert bench.hub.instance(instance.id) is instance
    assert bench.hub.describe_sequence(bench.hub.sequence(ONE))["instances"] == [instance.id]
    shown = bench.hub.describe_instance(instance)
    assert set(shown["sequence"]) == {"id", "config", "location"}
    assert (shown["status"], shown["appConfig"], shown["args"]) == ("running", {"k": 1}, [2])


async def test_a_runner_is_told_what_the_protocol_says(bench: Bench) -> None:
    raw = {"appConfig": {"k": 1}, "args": ["\u65e5"], "instanceId": ID}
    await bench.start(app_config={"k": 1}, args=["\u65e5"], instance_id=ID, raw=raw)
    variables = bench.adapter.launches[0].environment
    assert variables["INSTANCE_ID"] == ID
    assert variables["SEQUENCE_PATH"] == "/nowhere/main.py"
    assert json.loads(variables["RUNNER_CONNECT_INFO"]) == raw
    told = json.loads(variables["SEQUENCE_INFO"])
    assert (told["id"], told["instances"], told["location"]) == (ONE, [], "hub-lite")
    assert Path(variables["INSTANCES_SERVER_SOCKET"]).is_socket()
    link = await connect(int(variables["INSTANCES_SERVER_PORT"]))
    await link.close()


async def test_a_wanted_id_is_taken_once(bench: Bench) -> None:
    assert (await bench.start(instance_id=ID)).id == ID
    with pytest.raises(Conflict, match="Instance with a given ID already exists"):
        await bench.start(instance_id=ID)


async def test_a_sequence_that_fails_to_load_fails_the_start(bench: Bench) -> None:
    async def fail(launch: Launch, process: FakeProcess) -> None:
        process.said = b"SyntaxError: no\n"
        process.end(22)

    bench.adapter.on_launch = fail
    with pytest.raises(StartFailed, match="Sequence failed on start: SyntaxError: no") as caught:
        await bench.start()
    assert caught.value.status == 400
    assert bench.hub.instance(caught.value.instance.id).failed  # it can be looked at


async def test_a_runner_that_brings_its_links_needs_no_socket(bench: Bench) -> None:
    peers: dict[int, socket.socket] = {}

    async def bring(launch: Launch, process: FakeProcess) -> None:
        runner = FakeRunner(launch.instance_id, Path("/nowhere"))
        for number, peer in peers.items():
            runner.links[number] = FakeLink(*await asyncio.open_unix_connection(sock=peer))
        bench.runners.append(runner)
        await runner.start(())
        assert (await runner.hear())[0] in (4001, 4002)
        process.end(138)

    def links() -> dict[Channel, socket.socket]:
        found: dict[Channel, socket.socket] = {}
        for channel in Channel:
            found[channel], peers[channel.value] = socket.socketpair()
        return found

    bench.adapter.links, bench.adapter.on_launch = links, bring
    instance = await bench.start()
    assert instance.state is State.RUNNING
    await bench.runners[-1].links[6].send(b"said")
    with instance.output.open() as cursor:
        assert await cursor.read() == b"said"


async def test_links_that_cannot_be_used_fail_the_start_and_end_the_runner(bench: Bench) -> None:
    bench.adapter.links = lambda: {Channel.OUT: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)}
    with pytest.raises((OSError, ValueError)):
        await bench.start()
    assert bench.hub.instances() == []
    assert bench.adapter.processes[-1].closed


async def test_what_the_adapter_refuses_leaves_no_instance(bench: Bench) -> None:
    for refusal in (BadRequest("no such language"), Unavailable("no more processes")):
        bench.adapter.refusal = refusal
        with pytest.raises(type(refusal), match=str(refusal)):
            await bench.start(instance_id=ID)
        assert bench.hub.instances() == []
    bench.adapter.refusal = None
    assert (await bench.start(instance_id=ID)).state is State.RUNNING


async def test_arguments_that_no_runner_can_take_are_refused(bench: Bench) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    for args in (["\u00e9" * 1024 * 1024], deep):
        with pytest.raises(BadRequest, match="appConfig and args cannot be handed to a runner"):
            await bench.start(args=args, raw={"args": args})
    assert bench.hub.instances() == []
    assert bench.adapter.launches == []


async def test_a_start_goes_on_when_its_client_goes_away(bench: Bench) -> None:
    bench.adapter.gate = asyncio.Event()
    starting = asyncio.ensure_future(bench.start(instance_id=ID))
    await until(lambda: bench.adapter.launches)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    bench.adapter.gate.set()
    await until(lambda: bench.hub.instance(ID).state is State.RUNNING)


async def test_a_launch_that_fails_after_its_client_has_gone_away_is_forgotten(bench: Bench) -> None:
    bench.adapter.gate = asyncio.Event()
    bench.adapter.refusal = Unavailable("no")
    starting = asyncio.ensure_future(bench.start(instance_id=ID))
    await until(lambda: bench.adapter.launches)
    waiting = asyncio.ensure_future(bench.hub.instance(ID).wait_until_up())
    starting.cancel()
    bench.adapter.gate.set()
    await asyncio.wait_for(waiting, DEADLINE)
    await until(lambda: not bench.hub.instances())


async def test_a_kill_during_the_launch_ends_it(bench: Bench) -> None:
    bench.adapter.gate = asyncio.Event()
    starting = asyncio.ensure_future(bench.start(instance_id=ID))
    await until(lambda: bench.adapter.launches)
    bench.hub.instance(ID).kill(remove_immediately=True)
    bench.adapter.gate.set()
    assert (await starting).state in (State.KILLING, State.COMPLETED)
    await until(lambda: not bench.hub.instances())


async def test_a_deletion_waits_for_a_launch(bench: Bench) -> None:
    bench.adapter.gate = asyncio.Event()
    starting = asyncio.ensure_future(bench.start(instance_id=ID))
    await until(lambda: bench.adapter.launches)
    deleting = asyncio.ensure_future(bench.hub.delete_sequence(ONE, force=True))
    done, _ = await asyncio.wait({deleting}, timeout=0.02)
    assert not done
    bench.adapter.gate.set()
    await asyncio.wait_for(asyncio.gather(starting, deleting), DEADLINE)
    assert bench.hub.instances() == []


class TestWithPatience:
    @pytest.fixture
    async def settings_of_hub(self) -> dict[str, Any]:
        return {"answer_start_after": 0.02, "shutdown_timeout": 0.01}

    async def test_a_slow_start_is_answered_all_the_same(self, bench: Bench) -> None:
        bench.adapter.on_launch = None
        assert (await bench.start()).state is State.STARTING


class TestWithShortMemory:
    @pytest.fixture
    async def settings_of_hub(self) -> dict[str, Any]:
        return {"instance_lifetime": 0.3}

    async def test_an_ended_instance_is_gone_after_its_lifetime_and_its_id_is_free(
        self, bench: Bench
    ) -> None:
        instance = await bench.start(instance_id=ID)
        instance.kill()
        await asyncio.wait_for(instance.over.wait(), DEADLINE)
        assert bench.hub.instance(ID) is instance
        await until(lambda: not bench.hub.instances())
        with pytest.raises(NotFound):
            bench.hub.instance(ID)
        assert (await bench.start(instance_id=ID)).state is State.RUNNING


async def test_an_instance_that_is_removed_immediately_leaves_no_id(bench: Bench) -> None:
    instance = await bench.start(instance_id=ID)
    instance.kill(remove_immediately=True)
    await until(lambda: not bench.hub.instances())
    assert instance.state is State.COMPLETED
    assert (await bench.start(instance_id=ID)).id == ID


async def test_an_ended_instance_stays_to_be_looked_at(bench: Bench) -> None:
    instance = await bench.start()
    instance.kill()
    await asyncio.wait_for(instance.over.wait(), DEADLINE)
    await asyncio.sleep(0)
    assert bench.hub.instance(instance.id).terminated == {"exitcode": 138, "reason": "Instance stopped"}


async def test_links_of_strangers_reach_no_instance(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.start()
    path = launched_where(bench.adapter.launches[0].environment)
    stranger = await connect(path)
    await stranger.send(ID.encode() + b"1")
    assert await stranger.is_refused()
    assert f"no Instance {ID} was started here" in caplog.text
    await stranger.close()


# --- the end of a hub -------------------------------------------------------------------------------------------------


async def test_a_close_stops_instances_and_leaves_nothing(nothing_left: None, tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    await bench.hub.open()
    instances = [await bench.start() for _ in range(3)]
    async with asyncio.timeout(DEADLINE):
        await bench.hub.close()
    assert [one.state for one in instances] == [State.COMPLETED] * 3
    assert all(process.kills == 1 for process in bench.adapter.processes)  # for what they leave, not by force
    assert not bench.store.is_open
    assert list(tmp_path.iterdir()) == []
    await asyncio.gather(*bench.adapter.roles)


async def test_a_close_kills_what_does_not_stop(nothing_left: None, tmp_path: Path) -> None:
    bench = make_bench(tmp_path, shutdown_timeout=0.05, answer_start_after=0)
    bench.adapter.on_launch = None
    await bench.hub.open()
    instance = await bench.start()
    async with asyncio.timeout(DEADLINE):
        await bench.hub.close()
    assert instance.state is State.COMPLETED
    assert bench.adapter.processes[0].ended


async def test_several_closes_are_one(nothing_left: None, tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    await bench.hub.open()
    await bench.start()
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(bench.hub.close(), bench.hub.close())
        await bench.hub.close()
    await asyncio.gather(*bench.adapter.roles)
    assert bench.hub.instances() == []


async def test_a_close_waits_for_a_launch_and_ends_it(nothing_left: None, tmp_path: Path) -> None:
    bench = make_bench(tmp_path, shutdown_timeout=0.05)
    await bench.hub.open()
    bench.adapter.on_launch = None
    bench.adapter.gate = asyncio.Event()
    starting = asyncio.ensure_future(bench.start())
    await until(lambda: bench.adapter.launches)
    closing = asyncio.ensure_future(bench.hub.close())
    done, _ = await asyncio.wait({closing}, timeout=0.1)
    assert not done
    bench.adapter.gate.set()
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(starting, closing)
    assert bench.adapter.processes[0].ended
    assert bench.adapter.processes[0].closed


async def test_a_closing_hub_takes_nothing_new(bench: Bench) -> None:
    with bench.hub.receive_package() as upload:
        await bench.hub.close()
        for refused in (
            bench.start(),
            bench.hub.add_sequence(upload),
            bench.hub.delete_sequence(ONE, force=False),
        ):
            with pytest.raises(Unavailable, match="the hub is shutting down"):
                await refused
    with pytest.raises(Unavailable):
        bench.hub.receive_package()


async def test_an_end_at_once_is_no_waiting(nothing_left: None, tmp_path: Path) -> None:
    bench = make_bench(tmp_path, shutdown_timeout=3600)
    await bench.hub.open()
    bench.adapter.on_launch = None
    starting = asyncio.ensure_future(bench.start())
    await until(lambda: bench.adapter.processes)
    closing = asyncio.ensure_future(bench.hub.close())
    await until(lambda: bench.hub.instances()[0].state is State.STOPPING)
    bench.hub.kill_all()
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(closing, starting)


async def test_a_hub_that_cannot_open_leaves_nothing(nothing_left: None, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bench = make_bench(tmp_path, instances_port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            await bench.hub.open()
    assert not bench.store.is_open
    assert list(tmp_path.iterdir()) == []


async def test_a_data_folder_with_a_long_name_gets_its_socket_elsewhere(
    nothing_left: None, tmp_path: Path
) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    bench = make_bench(folder)
    await bench.hub.open()
    await bench.start()
    path = launched_where(bench.adapter.launches[0].environment)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    async with asyncio.timeout(DEADLINE):
        await bench.hub.close()
    assert not path.parent.exists()
    await asyncio.gather(*bench.adapter.roles)
