"""Sequences on a real hub: forms, replacement under way, lists at the start, folders in place, and what a crash leaves."""

import asyncio
import json
import signal
import subprocess
import textwrap
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .harness import DEADLINE, HubProcess, Talk, eventually, hub_lite, make_package, running_hub, talking_to

ONE_VERSION = {
    "HUB_LITE_PACKAGES_KEPT_VERSIONS": "1"
}  # of each Sequence, so that an old package goes at once
OCTETS = {"Content-Type": "application/octet-stream"}
READS_A_FILE = """
    from pathlib import Path

    async def run(context, input, *args):
        async for line in input:
            yield Path(__file__).with_name("word.txt").read_text() + "\\n"
    """
SHOWS_CONFIG = """
    import json

    async def run(context, input, *args):
        yield json.dumps([context.config, list(args)])
    """
WAITS = """
    import asyncio

    async def run(context, input):
        yield "up"
        await asyncio.Event().wait()
    """


def saying(word: str) -> bytes:
    return make_package(READS_A_FILE, files={"word.txt": word})


async def ask_word(talk: Talk, instance_id: str, *, end: bool = False) -> None:
    await talk.send(instance_id, b"?\n", end=end)


# --- upload and replace -----------------------------------------------------------------------------------------------


async def test_a_form_brings_a_package_and_the_configuration_of_its_starts(talk: Talk):
    form = aiohttp.FormData()
    form.add_field("appConfig", json.dumps({"a": 1, "b": 1}))
    form.add_field(
        "file", make_package(SHOWS_CONFIG), filename="package.tar.gz", content_type="application/gzip"
    )
    answer = await talk.ask("POST", "/sequence", data=form)
    assert answer.status == 200, answer.body
    sequence_id = answer.json["id"]
    assert (await talk.get(f"/sequence/{sequence_id}"))["appConfig"] == {"a": 1, "b": 1}
    instance = await talk.client.start(sequence_id, args=["x"], config={"b": 2})
    assert json.loads(await talk.read(instance)) == [{"a": 1, "b": 2}, ["x"]]


async def test_curl_takes_the_form_of_the_documentation(talk: Talk, tmp_path: Path):
    package = tmp_path / "package.tar.gz"
    package.write_bytes(make_package(SHOWS_CONFIG))
    done = await asyncio.to_thread(
        subprocess.run,
        ["curl", "-sS", "-F", f"file=@{package}", "-F", 'appConfig={"k":1}', f"{talk.url}/sequence"],
        capture_output=True, check=True, timeout=DEADLINE,
    )  # fmt: skip
    assert (await talk.get(f"/sequence/{json.loads(done.stdout)['id']}"))["appConfig"] == {"k": 1}


async def test_a_bad_package_in_a_form_is_refused_and_leaves_nothing(talk: Talk, hub: HubProcess):
    before = hub.files()
    form = aiohttp.FormData()
    form.add_field("file", b"no package", filename="x")
    answer = await talk.ask("POST", "/sequence", data=form)
    assert (answer.status, "Invalid pkg tar.gz archive" in answer.error) == (422, True)
    assert hub.files() == before


async def test_an_instance_keeps_its_files_while_its_sequence_is_replaced(tmp_path: Path):
    with running_hub(tmp_path, environment=ONE_VERSION) as hub:
        async with talking_to(hub.url) as talk:
            before = hub.files()
            sequence_id = await talk.upload_bytes(saying("old"))
            first = await talk.client.start(sequence_id)
            both = await talk.client.start(sequence_id)
            for word in ("middle", "new"):
                answer = await talk.ask("PUT", f"/sequence/{sequence_id}", data=saying(word), headers=OCTETS)
                assert (answer.status, answer.json) == (200, {"id": sequence_id})
            assert len(hub.files() - before) == 2, "the one in the middle is gone, as nobody runs it"
            newer = await talk.client.start(sequence_id)
            for instance, word in ((newer, b"new\n"), (first, b"old\n")):
                await ask_word(talk, instance, end=True)
                assert await talk.read(instance) == word
                await talk.until_over(instance)
            await ask_word(talk, both, end=True)
            assert await talk.read(both) == b"old\n"
            await eventually(
                lambda: len(hub.files() - before) == 1, "the old package, with its last Instance, gone"
            )
            assert (await talk.ask("DELETE", f"/sequence/{sequence_id}")).status == 200
            assert hub.files() == before


async def test_a_failed_replacement_changes_nothing(talk: Talk):
    sequence_id = await talk.upload_bytes(saying("old"))
    before = await talk.get(f"/sequence/{sequence_id}")
    answer = await talk.ask("PUT", f"/sequence/{sequence_id}", data=b"no package", headers=OCTETS)
    assert answer.status == 422
    assert await talk.get(f"/sequence/{sequence_id}") == before


# --- names, and the end of it -----------------------------------------------------------------------------------------


async def test_a_sequence_is_started_shown_and_deleted_by_its_name(talk: Talk):
    sequence_id = await talk.upload(WAITS, name="@tests/waits")
    path = "/sequence/@tests%2Fwaits"
    started = await talk.ask("POST", f"{path}/start")
    assert started.json["result"] == "success"
    assert await talk.get(f"{path}/instances") == [started.json["id"]]
    assert (await talk.get(path))["id"] == sequence_id
    answer = await talk.ask("DELETE", path, headers={"x-seq-kill-inst": "true"})
    assert (answer.status, answer.json["id"]) == (200, sequence_id)


async def test_a_forced_delete_of_a_willing_sequence_takes_less_than_a_second(talk: Talk, hub: HubProcess):
    before = hub.files()
    sequence_id = await talk.upload(WAITS, name="willing")
    instances = [await talk.client.start(sequence_id) for _ in range(2)]
    begin = time.monotonic()
    answer = await talk.ask("DELETE", f"/sequence/{sequence_id}", headers={"x-seq-kill-inst": "true"})
    assert time.monotonic() - begin < 1
    assert answer.status == 200
    for instance in instances:
        assert (await talk.ask("GET", f"/instance/{instance}")).status == 404
    assert hub.files() == before


# --- what a hub does by itself ----------------------------------------------------------------------------------------


def folder_of(place: Path, name: str, code: str, **manifest: Any) -> Path:
    folder = place / name
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(textwrap.dedent(code))
    (folder / "package.json").write_text(json.dumps({"name": name, "main": "main.py", **manifest}))
    return folder


async def test_existing_folders_are_sequences_and_a_list_of_them_is_started(tmp_path: Path):
    instance_id = "i" * 36
    config = tmp_path / "list.yaml"
    config.write_text(
        "sequences:\n"
        f"- {{id: shows, args: [x], appConfig: {{k: 1}}, instanceId: {instance_id}}}\n"
        "- {id: nobody}\n"
    )
    folder = folder_of(tmp_path / "data" / "existing", "shows", SHOWS_CONFIG)
    (tmp_path / "data" / "existing" / "none").mkdir()
    options = ("--identify-existing", "--startup-config", str(config))
    with running_hub(tmp_path, *options) as hub:
        async with talking_to(hub.url) as talk:
            (shown,) = await talk.get("/sequences")
            assert (shown["id"], shown["config"]["packageSize"]) == ("shows", 0)
            await eventually(lambda: "Sequence shows runs as Instance" in hub.log())
            assert json.loads(await talk.read(instance_id)) == [{"k": 1}, ["x"]]
            assert "there is no Sequence nobody; it is skipped" in hub.log()
            assert "is no Sequence: there is no package.json in it" in hub.log()
            assert (await talk.ask("DELETE", "/sequence/shows")).status == 200
            assert (folder / "main.py").exists(), "what is used in place is not the hub's to remove"
        assert hub.end() == 0


async def test_a_hub_ends_with_its_last_instance(tmp_path: Path):
    config = tmp_path / "list.json"
    config.write_text(json.dumps({"sequences": [{"id": "shows", "instanceId": "i" * 36}]}))
    folder_of(tmp_path / "here", "shows", SHOWS_CONFIG)
    options = ("-E", "--identify-folder", str(tmp_path / "here"), "-S", str(config), "-X")
    with running_hub(tmp_path, *options) as hub:
        assert await asyncio.to_thread(hub.process.wait, DEADLINE) == 0
        assert "the last Instance has ended, and so does the hub" in hub.log()
    with running_hub(tmp_path, "-X") as hub:
        assert await asyncio.to_thread(hub.process.wait, DEADLINE) == 101


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("list.json", '{"sequences": [{"id": "x", "limits": {}}]}', "sequences[0]: unknown key 'limits'"),
        ("list.yaml", "sequence: []", "unknown key 'sequence'"),
        ("none.json", None, "No such file or directory"),
    ],
)
def test_a_hub_with_a_wrong_list_does_not_start(tmp_path: Path, name: str, text: str | None, said: str):
    if text is not None:
        (tmp_path / name).write_text(text)
    data = tmp_path / "data"
    done = hub_lite("start", "-P", "0", "--data-dir", data, "-S", tmp_path / name)
    assert (done.returncode, done.stdout) == (1, b"")
    assert said in done.stderr.decode()
    assert not data.exists()


# --- a hub that dies --------------------------------------------------------------------------------------------------


async def test_instances_of_a_hub_that_died_are_shown_as_ended_with_the_reason(tmp_path: Path):
    with running_hub(tmp_path, environment=ONE_VERSION) as hub:
        async with talking_to(hub.url) as talk:
            sequence_id = await talk.upload_bytes(saying("old"))
            lost = await talk.client.start(sequence_id, args=[1], config={"k": 1})
            ended = await talk.client.start(sequence_id)
            await talk.send(ended, b"")
            await talk.until_over(ended)
            before = await talk.get(f"/instance/{lost}")
            await talk.ask("PUT", f"/sequence/{sequence_id}", data=saying("new"), headers=OCTETS)
            runners = hub.children()
            hub.process.kill()
            hub.process.wait(DEADLINE)
        await eventually(
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in runners), "the runners' end"
        )
    with running_hub(tmp_path, environment=ONE_VERSION) as hub:
        async with talking_to(hub.url) as talk:
            (shown,) = await talk.get("/instances")
            assert shown["id"] == lost
            assert shown["status"] == "errored"
            assert shown["terminated"] == {"exitcode": 213, "reason": "the hub ended before the Instance did"}
            for key in ("appConfig", "args", "created"):
                assert shown[key] == before[key]
            assert shown["sequence"]["id"] == sequence_id
            assert await talk.get(f"/sequence/{sequence_id}/instances") == [lost]
            assert await talk.read(lost, "stdout") == await talk.read(lost, "stderr") == b""
            assert await talk.read_until_broken(lost) == b"", "its output is not known to be whole"
            assert b"the hub ended before the Instance did" in await talk.read(lost, "log")
            assert len(list((hub.data_dir / "packages").iterdir())) == 1, "the old package is gone"
            assert (await talk.ask("DELETE", f"/sequence/{sequence_id}")).status == 200
        assert hub.end(signal.SIGTERM) == 0
    with running_hub(tmp_path, environment=ONE_VERSION) as hub:
        async with talking_to(hub.url) as talk:
            assert await talk.get("/instances") == [], "it is shown once"


async def test_the_default_configuration_survives_a_restart(tmp_path: Path):
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            form = aiohttp.FormData()
            form.add_field("file", make_package(SHOWS_CONFIG), filename="x")
            form.add_field("appConfig", '{"a": "\u00e9"}')
            sequence_id = (await talk.ask("POST", "/sequence", data=form)).json["id"]
            running = await talk.start(WAITS)
        assert hub.end() == 0
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk:
            assert (await talk.get(f"/sequence/{sequence_id}"))["appConfig"] == {"a": "\u00e9"}
            assert (await talk.ask("GET", f"/instance/{running}")).status == 404, (
                "an orderly end leaves nothing over"
            )
