"""What a hub says to requests, packages, strangers and Sequences that are wrong, and that it stands as before afterwards."""

import asyncio
import contextlib
import gzip
import io
import json
import os
import socket
import tarfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from hub_lite.client import HubRefused

from .harness import DEADLINE, HubProcess, Talk, eventually, make_archive, make_package

MIB = 1024 * 1024
OCTETS = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
ECHO = """
    async def run(context, input):
        async for line in input:
            yield line
    """
MANIFEST = json.dumps({"name": "bad", "main": "main.py", "engines": {"python3": ">=3.11"}}).encode()
GOOD = make_package(ECHO)


@pytest.fixture(autouse=True)
async def stands_as_before(hub: HubProcess, talk: Talk) -> AsyncIterator[None]:
    """Every test leaves no child, no file on its way in, and a hub that answers and runs Sequences."""
    await eventually(lambda: not hub.children(), "the hub has no child")
    yield
    for instance in await talk.get("/instances"):
        if "ended" not in instance:
            with contextlib.suppress(HubRefused):  # it has ended since
                await talk.client.kill(instance["id"])
    await eventually(lambda: not hub.children(), "the hub has no child")
    await eventually(
        lambda: not any(name.startswith("staging/") for name in hub.files()),
        "nothing is left half done",
    )
    assert "failed\nTraceback" not in hub.log(), hub.log()
    assert (await talk.get("/version"))["service"] == "hub-lite"


@pytest.fixture
async def leaves_nothing(hub: HubProcess, talk: Talk) -> AsyncIterator[None]:
    """The test leaves no Sequence, no Instance and no file."""
    files, sequences, instances = hub.files(), await talk.get("/sequences"), await talk.get("/instances")
    yield
    await eventually(lambda: hub.files() == files, "the data directory is as before")
    assert await talk.get("/sequences") == sequences
    assert await talk.get("/instances") == instances


@pytest.fixture(scope="module", autouse=True)
def hub_works_at_the_end(hub: HubProcess) -> Iterator[None]:
    """After all that, the hub takes a Sequence and runs it."""
    yield

    async def run_one() -> None:
        from .harness import talking_to

        async with talking_to(hub.url) as talk:
            instance = await talk.start(ECHO)
            await talk.send(instance, b"still here\n")
            assert await talk.read(instance) == b"still here\n"

    asyncio.run(run_one())


# --- packages -------------------------------------------------------------------------------------------------------


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    made.linkname = target
    return made


def package_with(*entries: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    return make_archive(("package.json", MANIFEST), ("main.py", b"def run(context, input): pass\n"), *entries)


BAD_PACKAGES = {
    "nothing at all": (b"", "it is empty"),
    "not a gzip": (b"PK\x03\x04 this is a zip" * 100, "it is not gzip-compressed"),
    "a gzip of something else": (gzip.compress(b"hello" * 1000), "no tar"),
    "cut in the gzip header": (GOOD[:5], "cut short"),
    "cut after a third": (GOOD[: len(GOOD) // 3], "cut short"),
    "cut before the checksum": (GOOD[:-8], "cut short"),
    "cut in the checksum": (GOOD[:-1], "cut short"),
    "a wrong checksum": (GOOD[:-8] + bytes(4) + GOOD[-4:], "damaged"),
    "rubbish behind it": (GOOD + b"rubbish", "something else behind the gzip"),
    "no manifest": (make_archive(("main.py", b"")), "No package.json"),
    "a manifest in a folder": (make_archive(("app/package.json", MANIFEST)), "No package.json"),
    "a manifest that is a folder": (make_archive(entry("package.json/", tarfile.DIRTYPE)), "No package.json"),
    "a manifest that is not JSON": (make_archive(("package.json", b"{name: x}")), "line 1, column 2"),
    "a manifest that is not UTF-8": (make_archive(("package.json", b'{"main": "\xff"}')), "must be UTF-8"),
    "a manifest that is an array": (make_archive(("package.json", b"[]")), "one JSON object"),
    "a manifest without main": (make_archive(("package.json", b'{"name": "x"}')), '"main": "main.py"'),
    "a main outside": (make_archive(("package.json", b'{"main": "../x.py"}')), "inside the package"),
    "a main that is a number": (make_archive(("package.json", b'{"main": 1}')), "must be a string"),
    "engines that are a list": (
        make_archive(("package.json", b'{"main": "a.py", "engines": ["python3"]}')),
        "engines",
    ),
    "a manifest of 2 MB": (make_archive(("package.json", b" " * 2_000_000)), "1048576 bytes at most"),
    "a symbolic link": (package_with(entry("link", tarfile.SYMTYPE, "/etc/passwd")), "symbolic link"),
    "a hard link": (package_with(entry("link", tarfile.LNKTYPE, "later.py")), "hard link"),
    "a device": (package_with(entry("null", tarfile.CHRTYPE)), "character device"),
    "a named pipe": (package_with(entry("pipe", tarfile.FIFOTYPE)), "named pipe"),
    "a way up": (package_with(("../outside.py", b"x")), '".."'),
    "a way up in the middle": (package_with(("a/../../outside.py", b"x")), '".."'),
    "an absolute name": (package_with(("/tmp/outside.py", b"x")), "absolute"),
    "a backslash": (package_with(("a\\b.py", b"x")), "backslash"),
    "one name twice": (package_with(("main.py", b"x")), "an earlier entry has its name"),
    "a file that is a folder": (package_with(("main.py/x.py", b"x")), "needs a folder"),
}


@pytest.mark.parametrize("name", BAD_PACKAGES)
async def test_a_package_that_cannot_be_used_is_answered_422_and_why(
    talk: Talk, leaves_nothing: None, name: str
):
    package, why = BAD_PACKAGES[name]
    answer = await talk.ask("POST", "/sequence", data=package, headers=OCTETS)
    assert (answer.status, answer.headers["Content-Type"]) == (422, "application/json")
    assert why in answer.error
    assert "/data/" not in answer.error, "no path of the hub's machine is told to strangers"
    assert not Path("/tmp/outside.py").exists()


GIB_10 = 10 * 1024 * MIB


def bomb(kind: str) -> Iterator[bytes]:
    """Yield gzip members that hold 10 GiB of zeros together, a thousandth of their size."""
    block = gzip.compress(bytes(64 * MIB), compresslevel=9)
    yield gzip.compress(_header("package.json", len(MANIFEST)) + MANIFEST.ljust(512, b"\0"))
    match kind:
        case "one file of 10 GiB":
            yield gzip.compress(_header("zeros", GIB_10))
            yield block * 160
        case "160 files of 64 MiB":
            for number in range(160):
                yield gzip.compress(_header(f"zeros{number}", 64 * MIB))
                yield block
        case "10 GiB behind the end of the tar":
            yield block * 160


def _header(name: str, size: int) -> bytes:
    made = tarfile.TarInfo(name)
    made.size = size
    return made.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "kind", ["one file of 10 GiB", "160 files of 64 MiB", "10 GiB behind the end of the tar"]
)
async def test_a_bomb_of_10_gib_is_refused_within_five_seconds(
    hub: HubProcess, talk: Talk, leaves_nothing: None, kind: str
):
    packed = b"".join(bomb(kind))
    assert 9 * MIB < len(packed) < 12 * MIB
    before = psutil.Process(hub.pid).memory_info().rss
    begin = time.monotonic()
    answer = await talk.ask("POST", "/sequence", data=io.BytesIO(packed), headers=OCTETS)
    assert answer.status == 422
    assert "The package is too big" in answer.error
    assert time.monotonic() - begin < 5
    assert psutil.Process(hub.pid).memory_info().rss - before < 64 * MIB


async def test_an_upload_that_its_client_breaks_off_leaves_nothing(
    hub: HubProcess, talk: Talk, leaves_nothing: None
):
    address = urlsplit(hub.url)
    large = make_archive(("package.json", MANIFEST), ("large", os.urandom(300_000)))
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        f"POST {address.path}/sequence HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(large)}\r\n\r\n".encode()
        + large[: len(large) // 2]
    )
    await eventually(lambda: any(name.startswith("staging/") for name in hub.files()), "the upload has begun")
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await reader.read()


async def test_an_upload_whose_chunks_are_broken_is_refused(hub: HubProcess, leaves_nothing: None):
    address = urlsplit(hub.url)
    head = f"POST {address.path}/sequence HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await say(hub, head.encode() + b"5\r\nhello\r\nnot a size\r\n")
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")), answer


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
async def test_a_package_of_another_content_type_is_answered_415(
    talk: Talk, leaves_nothing: None, content_type: str
):
    answer = await talk.ask("POST", "/sequence", data=GOOD, headers={"Content-Type": content_type})
    assert (answer.status, answer.reason) == (415, "Invalid content-type")
    assert answer.error.startswith(
        "Content-Type must be application/octet-stream or absent, or multipart/form-data"
    )
    assert answer.error.endswith(f"not {content_type}")


async def test_a_package_without_content_type_is_taken(talk: Talk):
    answer = await talk.ask("POST", "/sequence", data=GOOD, skip_auto_headers=["Content-Type"])
    assert answer.status == 200
    await talk.client.delete_sequence(answer.json["id"])


# --- requests -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sequence(hub: HubProcess) -> str:
    """A Sequence on the hub, for requests that do not start it."""

    async def upload() -> str:
        from .harness import talking_to

        async with talking_to(hub.url) as talk:
            return await talk.upload(ECHO)

    return asyncio.run(upload())


BAD_STARTS: list[tuple[Any, int, str]] = [
    ({"appConfig": []}, 400, "appConfig must be an object, not '[]'"),
    ({"appConfig": "x"}, 400, "appConfig must be an object"),
    ({"args": {}}, 400, "args must be an array"),
    ({"args": "one"}, 400, "args must be an array, not 'one'"),
    ({"limits": 5}, 400, "limits must be an object"),
    ({"inputTopic": 1}, 400, "inputTopic must be a string"),
    ({"outputTopic": ["x"]}, 400, "outputTopic must be a string"),
    ({"instanceId": 36}, 422, "36 visible ASCII characters"),
    ({"instanceId": "short"}, 422, "36 visible ASCII characters"),
    ({"instanceId": "x" * 37}, 422, "36 visible ASCII characters"),
    ({"instanceId": "../" * 12}, 422, "without slashes"),
    ({"instanceId": "é" * 36}, 422, "36 visible ASCII characters"),
    ([1, 2, 3], 400, "must be a JSON object, not '[1"),
    ("text", 400, "must be a JSON object, not"),
    (7, 400, "must be a JSON object, not '7'"),
]


@pytest.mark.parametrize(("body", "status", "why"), BAD_STARTS, ids=lambda value: str(value)[:40])
async def test_a_start_with_a_member_of_the_wrong_type_is_refused(
    talk: Talk, sequence: str, leaves_nothing: None, body: Any, status: int, why: str
):
    answer = await talk.ask("POST", f"/sequence/{sequence}/start", json=body)
    assert answer.status == status
    assert why in answer.error


BAD_JSON = {
    "no JSON": (b"{timeout: 1}", JSON, "is not JSON"),
    "half of it": (b'{"timeout": ', JSON, "is not JSON"),
    "not a number": (b'{"timeout": NaN}', JSON, "is not JSON"),
    "not UTF-8": (b'{"a": "\xff"}', JSON, "is not JSON"),
    "too deep": (b"[" * 100_000, JSON, "is not JSON"),
    "another type": (
        b"timeout=1",
        {"Content-Type": "application/x-www-form-urlencoded"},
        "must be application/json",
    ),
}


async def test_a_body_that_is_not_json_is_answered_400_everywhere(talk: Talk, sequence: str):
    instance = await talk.client.start(sequence)
    for name, (body, headers, why) in BAD_JSON.items():
        for path in (
            f"/sequence/{sequence}/start",
            f"/instance/{instance}/_stop",
            f"/instance/{instance}/_kill",
        ):
            answer = await talk.ask("POST", path, data=body, headers=headers)
            assert (answer.status, answer.reason) == (400, "Could not parse content"), (name, path)
            assert why in answer.error, (name, path)
    assert (await talk.get(f"/instance/{instance}"))["status"] == "running"


async def test_a_json_body_beyond_the_limit_is_answered_413(talk: Talk, sequence: str, leaves_nothing: None):
    body = json.dumps({"args": ["x" * 2 * MIB]}).encode()
    answer = await talk.ask("POST", f"/sequence/{sequence}/start", data=io.BytesIO(body), headers=JSON)
    assert answer.status == 413
    assert "1048576" in answer.error


async def test_a_stop_or_kill_with_a_member_of_the_wrong_type_changes_nothing(talk: Talk, sequence: str):
    instance = await talk.client.start(sequence)
    cases: list[tuple[str, Any, str]] = [
        *(("_stop", {"timeout": value}, "timeout") for value in ("1000", True, -1, 1e99, [1], {})),
        ("_stop", {"canCallKeepalive": "yes"}, "canCallKeepalive"),
        ("_stop", [4001, {"timeout": "x"}], "timeout"),
        ("_kill", {"removeImmediately": 1}, "removeImmediately"),
        ("_kill", [4002, {"removeImmediately": "true"}], "removeImmediately"),
    ]
    for command, body, member in cases:
        answer = await talk.ask("POST", f"/instance/{instance}/{command}", json=body)
        assert answer.status == 400, body
        assert answer.error.startswith(f"Invalid {member} format"), body
    assert (await talk.get(f"/instance/{instance}"))["status"] == "running"


async def test_an_id_that_nobody_has_is_answered_404_by_every_endpoint(talk: Talk, leaves_nothing: None):
    missing = str(uuid.uuid4())
    for method, path in [
        ("GET", f"/sequence/{missing}"),
        ("DELETE", f"/sequence/{missing}"),
        ("POST", f"/sequence/{missing}/start"),
        ("GET", f"/instance/{missing}"),
        ("GET", f"/instance/{missing}/health"),
        ("POST", f"/instance/{missing}/_stop"),
        ("POST", f"/instance/{missing}/_kill"),
        ("POST", f"/instance/{missing}/input"),
        ("POST", f"/instance/{missing}/stdin"),
        ("GET", f"/instance/{missing}/output"),
        ("GET", f"/instance/{missing}/stdout"),
        ("GET", f"/instance/{missing}/stderr"),
        ("GET", f"/instance/{missing}/log"),
    ]:
        answer = await talk.ask(method, path)
        assert answer.status == 404, path
        assert missing in answer.error, path


async def test_an_unknown_path_is_answered_404(talk: Talk):
    for path in ("/nothing", "/sequence", "/instance", "/instance/a/b/c", "/../../etc/passwd"):
        answer = await talk.ask("GET", path)
        if answer.status != 405:
            assert answer.status == 404, path
            assert "is not a path of this hub" in answer.error


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/sequence", "POST"),
        ("PUT", "/sequences", "GET, HEAD"),
        ("POST", "/version", "GET, HEAD"),
        ("GET", "/instance/x/_stop", "POST"),
        ("PATCH", "/sequence/x", "DELETE, GET, HEAD, PUT"),
        ("DELETE", "/instance/x/output", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_answered_405_with_the_right_ones(
    talk: Talk, method: str, path: str, allowed: str
):
    answer = await talk.ask(method, path)
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)
    assert answer.error == f"{method} is not a method of /api/v1{path}; use {allowed}"


async def test_a_taken_instance_id_is_answered_409_and_the_first_one_lives_on(talk: Talk, sequence: str):
    wanted = str(uuid.uuid4())
    body = {"instanceId": wanted}
    first = await talk.ask("POST", f"/sequence/{sequence}/start", json=body)
    assert (first.status, first.json["id"]) == (200, wanted)
    second = await talk.ask("POST", f"/sequence/{sequence}/start", json=body)
    assert (second.status, second.error) == (409, "Instance with a given ID already exists")
    await talk.send(wanted, b"alive\n")
    assert await talk.read(wanted) == b"alive\n"


async def test_a_sequence_in_use_is_not_deleted_without_force(talk: Talk):
    sequence_id = await talk.upload(ECHO)
    instance = await talk.client.start(sequence_id)
    answer = await talk.ask("DELETE", f"/sequence/{sequence_id}")
    assert (answer.status, answer.error) == (409, "Can't remove sequence in use.")
    assert (await talk.get(f"/instance/{instance}"))["status"] == "running"
    answer = await talk.ask("DELETE", f"/sequence/{sequence_id}", headers={"x-seq-kill-inst": "true"})
    assert answer.status == 200
    assert (await talk.ask("GET", f"/instance/{instance}")).status == 404


async def test_an_offset_that_is_none_is_answered_400_and_one_beyond_416(talk: Talk, sequence: str):
    instance = await talk.client.start(sequence)
    for wanted in ("-1", "x", "1.5", "0x10", "²"):
        answer = await talk.ask("GET", f"/instance/{instance}/output", params={"offset": wanted})
        assert answer.status == 400
        assert repr(wanted) in answer.error
    answer = await talk.ask("GET", f"/instance/{instance}/output", params={"offset": "1" * 15})
    assert answer.status == 416
    assert answer.error


# --- the HTTP socket --------------------------------------------------------------------------------------------------


async def say(hub: HubProcess, words: bytes) -> bytes:
    """Send bytes to the HTTP socket and return all that comes until the hub closes."""
    address = urlsplit(hub.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        async with asyncio.timeout(DEADLINE):
            writer.write(words)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"what is this\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nContent-Length: minus one\r\n\r\n",
        b"POST /api/v1/sequence HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["a long header", "a long path", "no HTTP", "TLS", "a bad length", "two lengths"],
)
async def test_a_request_that_is_no_http_is_answered_400(hub: HubProcess, leaves_nothing: None, words: bytes):
    answer = await say(hub, words)
    assert answer[9:12] == b"400", answer


async def test_requests_whose_head_does_not_end_hold_up_nobody(hub: HubProcess, talk: Talk):
    address = urlsplit(hub.url)
    slow = []
    for number in range(100):
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"GET /api/v1/version HTTP/1.1\r\nX-Slow: " + b"x" * number)
        slow.append(writer)
    try:
        async with asyncio.timeout(5):
            instance = await talk.start(ECHO)
            await talk.send(instance, b"quick\n")
            assert await talk.read(instance) == b"quick\n"
    finally:
        for writer in slow:
            writer.transport.abort()


# --- the sockets for runners ------------------------------------------------------------------------------------------


class Doors:
    """Where runners come in, as a running one is told, and the id of that one."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.unix = environment["INSTANCES_SERVER_SOCKET"]
        self.tcp = ("127.0.0.1", int(environment["INSTANCES_SERVER_PORT"]))
        self.instance = environment["INSTANCE_ID"]

    def knock(self, kind: str, words: bytes = b"") -> socket.socket:
        """Connect, and say something."""
        family, address = (socket.AF_UNIX, self.unix) if kind == "unix" else (socket.AF_INET, self.tcp)
        stranger = socket.socket(family, socket.SOCK_STREAM)
        stranger.settimeout(DEADLINE)
        stranger.connect(address)
        stranger.sendall(words)
        return stranger


@pytest.fixture
async def doors(hub: HubProcess, talk: Talk, sequence: str) -> Doors:
    """The doors of the hub, and an Instance that runs behind them."""
    shows = await talk.start(
        "import json, os\nasync def run(context, input):\n    yield json.dumps(dict(os.environ))\n"
    )
    environment = json.loads(await talk.read(shows))
    await talk.until_over(shows)
    return Doors({**environment, "INSTANCE_ID": await talk.client.start(sequence)})


async def is_closed(stranger: socket.socket) -> bool:
    """Wait for the end of a link; true if nothing was said on it."""
    with stranger:
        try:
            return await asyncio.to_thread(stranger.recv, 1) == b""
        except ConnectionResetError:
            return True


UNKNOWN_ID = b"00000000-0000-4000-8000-000000000000"


STRANGERS = [
    (UNKNOWN_ID + b"6", f"no Instance {UNKNOWN_ID.decode()} was started here"),
    (UNKNOWN_ID + b"9", "channel"),
    (UNKNOWN_ID + b"x", "channel"),
    (b"GET / HTTP/1.1\r\nHost: localhost:8000\r\n\r\n", "id"),
    (b"\0" * 37, "id"),
    (b"\xff" * 5000, "id"),
]


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_a_stranger_is_shown_out_and_logged_and_the_instance_goes_on(
    hub: HubProcess, talk: Talk, doors: Doors, kind: str
):
    for hello, why in STRANGERS:
        logged = len(hub.log())
        assert await is_closed(doors.knock(kind, hello)), hello
        news = hub.log()[logged:]
        assert "is refused" in news, hello
        assert why in news, hello
    await talk.send(doors.instance, b"on\n")
    assert await talk.read(doors.instance) == b"on\n"


async def test_half_a_hello_and_an_end_is_let_go(talk: Talk, doors: Doors):
    stranger = doors.knock("unix", UNKNOWN_ID[:20])
    stranger.shutdown(socket.SHUT_WR)
    assert await is_closed(stranger)
    assert (await talk.get(f"/instance/{doors.instance}"))["status"] == "running"


async def test_an_impostor_gets_no_channel_of_a_known_instance(hub: HubProcess, talk: Talk, doors: Doors):
    for channel in b"012345678":
        assert await is_closed(doors.knock("unix", doors.instance.encode() + bytes([channel]) + b"fake"))
    assert await is_closed(doors.knock("tcp", doors.instance.encode() + b"6fake output\n"))
    assert f"channel 6 of Instance {doors.instance} is taken" in hub.log()
    await talk.send(doors.instance, b"real\n")
    assert await talk.read(doors.instance) == b"real\n"
    info = await talk.until_over(doors.instance)
    assert info["terminated"] == {"exitcode": 0, "reason": "Instance completed"}
    assert await is_closed(doors.knock("unix", doors.instance.encode() + b"6late"))
    assert await talk.read(doors.instance, query="?offset=earliest") == b"real\n"


async def test_1200_silent_strangers_keep_no_runner_out_and_are_let_go(
    hub: HubProcess, talk: Talk, doors: Doors, sequence: str
):
    with contextlib.ExitStack() as stack:
        strangers = [
            stack.enter_context(await asyncio.to_thread(doors.knock, "tcp", UNKNOWN_ID[:5]))
            for _ in range(1200)
        ]
        async with asyncio.timeout(8):
            instance = await talk.client.start(sequence)
            await talk.send(instance, b"came in\n")
            assert await talk.read(instance) == b"came in\n"
        assert all(await asyncio.gather(*(is_closed(stranger) for stranger in strangers[-20:])))
    await eventually(
        lambda: psutil.Process(hub.pid).num_fds() < 100, "the hub has closed what strangers had opened"
    )


# --- input ------------------------------------------------------------------------------------------------------------


async def test_an_input_of_a_type_that_nobody_reads_is_answered_415(talk: Talk, doors: Doors):
    path = f"/instance/{doors.instance}/input"
    for content_type in ("image/png", "text/html", "application/json"):
        answer = await talk.ask("POST", path, data=b"x", headers={"Content-Type": content_type})
        assert (answer.status, answer.reason) == (415, "Invalid content-type")
        assert content_type in answer.error
        assert "application/x-ndjson" in answer.error, "it says what can be sent"
    await talk.send(doors.instance, b"fine\n")
    assert await talk.read(doors.instance) == b"fine\n"


async def test_an_input_without_a_content_type_is_answered_406(talk: Talk, doors: Doors):
    path = f"/instance/{doors.instance}/input"
    answer = await talk.ask("POST", path, data=b"x", skip_auto_headers=["Content-Type"])
    assert (answer.status, answer.error) == (406, "Content-Type must be defined")
    await talk.send(doors.instance, b"fine\n")
    assert await talk.read(doors.instance) == b"fine\n"


async def test_stdin_is_bytes(talk: Talk, doors: Doors):
    answer = await talk.ask(
        "POST", f"/instance/{doors.instance}/stdin", data=b"x", headers={"Content-Type": "text/plain"}
    )
    assert answer.status == 415
    assert "application/octet-stream" in answer.error


async def test_a_second_input_after_the_end_is_answered_410(talk: Talk, doors: Doors):
    await talk.send(doors.instance, b"all\n")
    answer = await talk.ask("POST", f"/instance/{doors.instance}/input", data=b"more\n")
    assert answer.status == 410
    assert answer.error == "input has ended; start another Instance to send more"


async def failed_on(talk: Talk, data: bytes, content_type: str) -> tuple[bytes, dict[str, Any], str]:
    """Send a bad input; return the output, the Instance, and its stderr."""
    instance = await talk.start(
        """
        provides = {"contentType": "application/x-ndjson"}

        async def run(context, input):
            async for item in input:
                yield item
        """
    )
    await talk.send(instance, data, content_type)
    got = await talk.read_until_broken(instance)
    return got, await talk.until_over(instance), (await talk.read(instance, "stderr")).decode()


async def test_text_that_is_not_utf_8_ends_the_instance_with_the_number_of_the_line(talk: Talk):
    got, instance, stderr = await failed_on(talk, b"one\ntwo\nthr\xff\n", "text/plain")
    assert got == b'"one\\n"\n"two\\n"\n', "what came before it is worked on"
    assert (instance["status"], instance["terminated"]["exitcode"]) == ("errored", 23)
    assert "line 3" in instance["terminated"]["reason"]
    assert "line 3" in stderr


async def test_a_line_that_is_not_json_ends_the_instance_with_its_number(talk: Talk):
    got, instance, stderr = await failed_on(talk, b'{"a":1}\n\n{"a":\n', "application/x-ndjson")
    assert got == b'{"a":1}\n'
    assert (instance["status"], instance["terminated"]["exitcode"]) == ("errored", 23)
    assert "line 3" in instance["terminated"]["reason"]
    assert "line 3" in stderr


# --- Sequences --------------------------------------------------------------------------------------------------------


async def failed_start(talk: Talk, code: str, **options: Any) -> tuple[str, str]:
    """Start a Sequence that cannot be started; return the sentence and its stderr."""
    sequence_id = await talk.upload(code, **options)
    answer = await talk.ask("POST", f"/sequence/{sequence_id}/start", json={})
    assert (answer.status, answer.json["result"]) == (400, "error"), answer.body
    instance = answer.json["instanceId"]
    assert (await talk.get(f"/instance/{instance}"))["status"] == "errored"
    return answer.error, (await talk.read(instance, "stderr")).decode()


async def test_a_syntax_error_is_told_by_the_start_and_shown_in_stderr(talk: Talk):
    error, stderr = await failed_start(talk, "def run(context, input)\n    pass\n")
    assert error == "Sequence failed on start: SyntaxError: expected ':'"
    assert stderr.splitlines()[0].endswith('main.py", line 1')
    assert stderr.endswith("SyntaxError: expected ':'\n")


async def test_an_import_that_fails_is_told_by_the_start(talk: Talk):
    error, stderr = await failed_start(talk, "import nowhere_to_be_found\n")
    assert error == "Sequence failed on start: ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    assert "import nowhere_to_be_found" in stderr


async def test_a_main_that_is_not_in_the_package_is_told_by_the_start(talk: Talk):
    package = make_archive(("package.json", MANIFEST))
    answer = await talk.ask("POST", f"/sequence/{await talk.upload_bytes(package)}/start")
    assert answer.status == 400
    assert answer.error.startswith(
        "Sequence entrypoint path main.py is invalid. Check `main` field in Sequence package.json"
    )


async def test_a_file_without_a_sequence_is_told_by_the_start(talk: Talk):
    error, _ = await failed_start(talk, "def start(context, input): pass\n")
    assert "no function is marked @sequence and none is called run (found start)" in error


async def test_a_module_that_ends_the_process_is_told_by_the_start(talk: Talk):
    error, _ = await failed_start(talk, "import sys\nsys.exit('no licence')\n")
    assert error == "Runner failed: no licence"


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (
            {"engines": {"python3": ">=3.11", "node": ">=16"}},
            "can't contain more than one element; package.json names node, python3",
        ),
        (
            {"engines": {"node": ">=16"}, "main": "index.js"},
            "no runner for Node Sequences is installed on this hub: run `hub-lite setup node --data-dir",
        ),
        ({"engines": {}, "main": "main.rb"}, "no runner for language 'rb' is known"),
        ({"engines": {}, "main": "main"}, "no runner for language 'unknown' is known"),
    ],
    ids=["two engines", "node", "ruby", "unknown"],
)
async def test_a_sequence_that_no_runner_here_can_run_is_told_by_the_start(
    talk: Talk, manifest: dict[str, Any], why: str
):
    sequence_id = await talk.upload("", **manifest)
    answer = await talk.ask("POST", f"/sequence/{sequence_id}/start")
    assert answer.status == 400
    assert why in answer.error
    assert await talk.get(f"/sequence/{sequence_id}")
    assert (await talk.get(f"/sequence/{sequence_id}"))["instances"] == []


@pytest.mark.parametrize(
    ("last_words", "code", "reason"),
    [
        ("sys.exit(3)", 3, "Runner failed"),
        ("sys.exit('I give up')", 1, "Runner failed: I give up"),
        ("os._exit(5)", 5, "Runner failed"),
        ("ctypes.string_at(0)", 139, "Runner was ended by SIGSEGV"),
        ("os.kill(os.getpid(), 9)", 137, "Runner was ended by SIGKILL"),
        ("os.abort()", 134, "Runner was ended by SIGABRT"),
        ("yield 5", 23, "Sequence failed during execution"),
        ("yield object()", 23, "Sequence failed during execution"),
    ],
)
async def test_a_sequence_that_ends_badly_is_errored_with_its_code_after_all_it_has_given(
    talk: Talk, last_words: str, code: int, reason: str
):
    instance = await talk.start(
        f"""
        import ctypes, os, sys

        async def run(context, input):
            yield "first\\n"
            await anext(input)
            {last_words}
            yield "never\\n"
        """
    )
    await talk.send(instance, b"go\n")
    got = await talk.read_until_broken(instance)
    info = await talk.until_over(instance)
    assert got == b"first\n"
    assert (info["status"], info["terminated"]["exitcode"]) == ("errored", code)
    assert info["terminated"]["reason"].startswith(reason)


async def test_an_output_item_of_the_wrong_type_is_named_by_its_number_and_type(talk: Talk):
    instance = await talk.start(
        """
        def run(context, input):
            yield "one"
            yield 2
        """
    )
    info = await talk.until_over(instance)
    assert info["terminated"]["exitcode"] == 23
    assert "2" in info["terminated"]["reason"]
    assert "int" in info["terminated"]["reason"]
