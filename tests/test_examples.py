"""The examples do what their pages say, and the real data gives the result that stands beside it."""

import ast
import asyncio
import gzip
import hashlib
import importlib.util
import inspect
import json
import logging
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk import ContentType, Context
from sequence_sdk.content import ENCODERS, decode_all
from sequence_sdk.spec import SequenceSpec, spec_of

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
FOLDERS = sorted(manifest.parent for manifest in EXAMPLES.glob("*/package.json"))
DATA = EXAMPLES / "data"
QUAKES = DATA / "earthquakes.ndjson"


class Host:
    """The process around a context; no example sends an event or asks to be kept alive."""


def context(config=None):
    return Context(host=Host(), config=config, logger=logging.getLogger("tests.examples"))


def load(name):
    path = EXAMPLES / name / "main.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FUNCTIONS = {
    "earthquakes": load("earthquakes").days,
    "gzipped": load("gzipped").gzipped,
    "greet": load("greet").run,
    "primes": load("primes").primes,
    "shout": load("shout").shout,
}


async def stream(items):
    for item in items:
        yield item


def outputs(generator):
    """Return all that an async generator yields."""

    async def collect():
        return [item async for item in generator]

    return asyncio.run(collect())


def quake(day, magnitude=5.0, *, kind="earthquake", place="4km W of Castaic, CA"):
    """Return a feature as the USGS writes it, at noon of a day of 1970, with the fields the example reads."""
    time = ((day - 1) * 24 + 12) * 3_600_000
    return {"id": f"us{day}", "properties": {"mag": magnitude, "place": place, "time": time, "type": kind}}


def ndjson(text):
    return [json.loads(line) for line in text.splitlines()]


# Every example


def test_each_example_folder_is_tested_here():
    assert [folder.name for folder in FOLDERS] == sorted(FUNCTIONS)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_manifest_names_what_a_hub_needs(folder):
    manifest = json.loads((folder / "package.json").read_text("utf-8"))
    assert manifest["name"] == folder.name
    assert manifest["engines"] == {"python3": ">=3.11"}
    assert {"version", "description"} <= manifest.keys()
    compile((folder / manifest["main"]).read_text("utf-8"), manifest["main"], "exec")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_manifest_documents_the_arguments_that_the_function_takes(folder):
    documented = json.loads((folder / "package.json").read_text("utf-8"))["args"]
    parameters = inspect.signature(FUNCTIONS[folder.name]).parameters.values()
    taken = [(each.name, each.default) for each in parameters if each.default is not each.empty]
    assert [(each["name"], each["default"]) for each in documented] == taken


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_page_packs_and_runs_its_own_folder(folder):
    page = (folder / "README.md").read_text("utf-8")
    assert f"scramjet-pack examples/{folder.name} -o {folder.name}.tar.gz" in page
    assert f"hub-lite run {folder.name}.tar.gz" in page
    assert f"({folder.name}/)" in (EXAMPLES / "README.md").read_text("utf-8")


def test_the_functions_declare_what_goes_in_and_comes_out():
    octets, lines, objects = "application/octet-stream", "text/plain", "application/x-ndjson"
    assert {name: spec_of(function) for name, function in FUNCTIONS.items()} == {
        "earthquakes": SequenceSpec(takes=objects, gives=objects, wants_context=False),
        "gzipped": SequenceSpec(takes=octets, gives=octets, wants_context=True),
        "greet": None,
        "primes": SequenceSpec(takes=None, gives=objects, wants_context=False),
        "shout": SequenceSpec(takes=lines, gives=lines, wants_context=False),
    }


def test_the_shell_can_read_the_demonstration():
    shell = shutil.which("sh")
    assert shell
    result = subprocess.run([shell, "-n", EXAMPLES / "run.sh"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


# earthquakes


def test_the_data_is_what_its_page_says():
    page = (DATA / "README.md").read_text("utf-8")
    features = ndjson(QUAKES.read_text("utf-8"))
    times = [feature["properties"]["time"] for feature in features]
    assert 1_000_000 <= QUAKES.stat().st_size <= 3_000_000
    assert f"{QUAKES.stat().st_size:,} bytes" in page
    assert f"All {len(features)} seismic events" in page
    assert times == sorted(times)


def test_the_real_week_gives_the_expected_result():
    features = decode_all(ContentType.NDJSON, [QUAKES.read_bytes()])
    encode = ENCODERS[ContentType.NDJSON]()
    lines = b"".join(map(encode, outputs(FUNCTIONS["earthquakes"](stream(features), 4.5))))
    assert lines == (DATA / "earthquakes.expected.ndjson").read_bytes()


def test_the_expected_result_agrees_with_a_plain_count():
    events = [feature["properties"] for feature in ndjson(QUAKES.read_text("utf-8"))]
    counted = [event for event in events if event["type"] == "earthquake" and event["mag"] >= 4.5]
    *days, week = ndjson((DATA / "earthquakes.expected.ndjson").read_text("utf-8"))
    assert week["quakes"] == len(counted) == sum(day["quakes"] for day in days)
    assert week["strongest"]["magnitude"] == max(event["mag"] for event in counted)
    assert week["regions"]["Taiwan"] == sum(event["place"].endswith("Taiwan") for event in counted)
    assert sum(week["magnitudes"].values()) == len(counted)


async def test_a_day_comes_out_before_the_next_day_is_read_further():
    taken = []

    async def input_():
        for feature in (quake(1), quake(1), quake(2), quake(2), quake(3)):
            taken.append(feature["id"])
            yield feature

    days = FUNCTIONS["earthquakes"](input_())
    first = await anext(days)
    assert (first["period"], first["quakes"]) == ("1970-01-01", 2)
    assert taken == ["us1", "us1", "us2"]
    await days.aclose()


def test_weak_quakes_and_blasts_are_left_out_but_their_day_is_not():
    features = [quake(1, 2.4), quake(1, 6.0, kind="quarry blast"), quake(1, None), quake(2, 2.5)]
    first, second, week = outputs(FUNCTIONS["earthquakes"](stream(features)))
    assert first == {"period": "1970-01-01", "quakes": 0, "strongest": None, "magnitudes": {}, "regions": {}}
    assert (second["quakes"], week["quakes"]) == (1, 1)
    assert week["period"] == "1970-01-01/1970-01-02"


def test_a_line_names_the_strongest_quake_and_the_busiest_regions():
    features = [
        quake(1, -0.5, place="Gulf of Alaska"),
        quake(1, 1.2, place="5km N of Ensenada, B.C., MX"),
        quake(1, 3.0, place="9km E of Puebla, Mexico"),
        quake(1, 3.9),
    ]
    day, _ = outputs(FUNCTIONS["earthquakes"](stream(features), -1, 1))
    assert day == {
        "period": "1970-01-01",
        "quakes": 4,
        "strongest": {"magnitude": 3.9, "place": "4km W of Castaic, CA", "time": "1970-01-01T12:00:00Z"},
        "magnitudes": {"-1+": 1, "1+": 1, "3+": 2},
        "regions": {"Mexico": 2},
    }


def test_a_quake_of_an_earlier_day_is_refused_by_its_id():
    with pytest.raises(ValueError, match="us1 is of 1970-01-01, after one of 1970-01-02: sort"):
        outputs(FUNCTIONS["earthquakes"](stream([quake(2), quake(1)])))


def test_no_quakes_give_no_lines():
    assert outputs(FUNCTIONS["earthquakes"](stream([]))) == []


# shout


def test_shout_gives_capitals_and_the_mark_whatever_ends_the_line():
    assert outputs(FUNCTIONS["shout"](stream(["one\n", "two\r\n", "three"]))) == [
        "ONE!\n",
        "TWO!\n",
        "THREE!\n",
    ]
    assert outputs(FUNCTIONS["shout"](stream(["why\n"]), "?!")) == ["WHY?!\n"]


# primes


def test_primes_gives_as_many_as_asked_for():
    assert outputs(FUNCTIONS["primes"](stream([]), 10, 0)) == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    assert outputs(FUNCTIONS["primes"](stream([]), 1000, 0))[-1] == 7919
    assert outputs(FUNCTIONS["primes"](stream([]), 0)) == []


async def test_primes_sends_the_first_at_once_and_then_pauses():
    generator = FUNCTIONS["primes"](None, 2, 3600)
    assert await asyncio.wait_for(anext(generator), timeout=10) == 2
    second = asyncio.ensure_future(anext(generator))
    done, _ = await asyncio.wait([second], timeout=0)
    assert not done
    second.cancel()
    await asyncio.wait([second])


# gzipped


@given(st.lists(st.binary()), st.integers(1, 9))
def test_gzipped_bytes_unpack_to_what_came_in(chunks, level):
    packed = b"".join(outputs(FUNCTIONS["gzipped"](context(), stream(chunks), level)))
    assert gzip.decompress(packed) == b"".join(chunks)


def test_gzipped_logs_its_sizes_and_the_digest(caplog):
    caplog.set_level(logging.INFO)
    content = QUAKES.read_bytes()
    blocks = (content[at : at + 65536] for at in range(0, len(content), 65536))
    packed = outputs(FUNCTIONS["gzipped"](context(), stream(blocks), 1))
    size = sum(map(len, packed))
    assert len(packed) > 2, "the output streams while the input does"
    assert caplog.messages == [
        f"{len(content)} bytes in, {size} out, sha256 {hashlib.sha256(content).hexdigest()}"
    ]


# greet


def test_greet_greets_each_name_and_logs_how_many(caplog):
    caplog.set_level(logging.INFO)
    greetings = outputs(FUNCTIONS["greet"](context(), stream(["Ada\n", "\n", "Grace"])))
    assert greetings == ["Hello, Ada!\n", "Hello, Grace!\n"]
    assert caplog.messages == ["greeted 2"]


def test_greet_takes_its_greeting_as_an_argument_and_its_sign_from_the_config():
    greetings = outputs(FUNCTIONS["greet"](context({"sign": "."}), stream(["Ada\n"]), "Good morning"))
    assert greetings == ["Good morning, Ada.\n"]


def test_greet_imports_only_the_standard_library():
    tree = ast.parse((EXAMPLES / "greet" / "main.py").read_text("utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"collections.abc", "typing"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
