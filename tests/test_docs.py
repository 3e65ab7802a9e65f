"""The pages say what is true: their examples run, their links lead somewhere, and their lists are those of the code.

A comment that nobody sees says what to do with the block of code that follows it:

``<!-- file: NAME -->``   the block is that file, in the folder of the tour
``<!-- tour -->``         its ``$`` lines run there, all in one shell, and print what stands below them
``<!-- hub -->``          a hub is started before the tour; where a page says 127.0.0.1:8000, it is meant
``<!-- runs: {...} -->``  the block is a Sequence that makes ``out`` of ``in``, given ``args`` and ``config``, and emits ``events``;
                          with ``hub`` it does so through ``hub-lite run`` too, or, if that is ``"only"``, there alone
``<!-- pytest: NAME -->`` the block is a test of the Sequence of the page that is called NAME
``<!-- test -->``         the block is a whole test, and has a runner of its own in tests/sequence_sdk/testing
``<!-- health: NAME -->`` the block is the report of that Sequence while it blocks

In what a tour prints, … stands for anything on that line. Every Python block with a Sequence has such a comment, and every JSON and
TOML block parses.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub_lite import settings
from hub_lite.adapters.folder_store import FolderStore
from hub_lite.adapters.process import ProcessAdapter
from hub_lite.api import hub as hub_api
from hub_lite.api import instances, sequences, streams
from hub_lite.app import make_application
from hub_lite.cli import main as cli
from hub_lite.hub import Hub
from sequence_sdk import ContentType, Context, _invoke
from sequence_sdk._invocation import Code, Invocation, Items
from sequence_sdk.content import ENCODERS, decode_all
from sequence_sdk.context import LocalHost
from sequence_sdk.find import find_sequence

from .end_to_end.harness import running_hub, talking_to

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKED = [*PAGES, *sorted((ROOT / "examples").rglob("*.md")), *sorted((ROOT / "templates").rglob("*.md"))]
README, GUIDE = ROOT / "README.md", ROOT / "docs" / "author-guide.md"
OPERATING, HTTP_API = ROOT / "docs" / "operating.md", ROOT / "docs" / "http-api.md"
DEADLINE = 60.0  # seconds until a command is given up
BIN = Path(sys.executable).parent

FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[a-z]+)(?:: (?P<about>.*?))? -->\n)?```(?P<language>[a-z]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code of a page, and what its comment says."""

    page: Path
    line: int
    language: str
    text: str
    mark: str
    about: str

    def __str__(self):
        return f"{self.page.name}:{self.line}"


def blocks_of(page):
    text = page.read_text("utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("text")) + 1,
            found["language"],
            found["text"],
            found["mark"] or "",
            found["about"] or "",
        )
        for found in FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SEQUENCES = [block for block in BLOCKS if block.mark == "runs"]


def marked(mark, page=README):
    return [block for block in BLOCKS if block.mark == mark and block.page == page]


def environment(**more):
    """Return the environment of somebody who has installed the project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "HUB_LITE"))}
    return {**kept, "PATH": f"{BIN}{os.pathsep}{kept['PATH']}", "PYTHONDONTWRITEBYTECODE": "1", **more}


# Blocks


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_of_a_page_is_a_block_and_every_comment_has_one(page):
    text = page.read_text("utf-8")
    blocks = blocks_of(page)
    assert len(re.findall("^```", text, re.MULTILINE)) == 2 * len(blocks)
    assert text.count("<!--") == sum(bool(block.mark) for block in blocks)
    assert {block.mark for block in blocks} <= {"", "file", "tour", "hub", "runs", "pytest", "test", "health"}


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language in ("json", "toml") and block.page.name != "protocol.md"],
    ids=str,
)
def test_json_and_toml_parse(block):
    value = json.loads(block.text) if block.language == "json" else tomllib.loads(block.text)
    assert isinstance(value, dict)


def test_every_python_block_runs_as_a_test():
    unmarked = [str(block) for block in BLOCKS if block.language == "python" and not block.mark]
    assert unmarked == []
    assert {"shout/main.py", "shout/package.json"} == {block.about for block in marked("file")}


# Sequences


@pytest.mark.parametrize(
    "block", [one for one in SEQUENCES if json.loads(one.about).get("hub") != "only"], ids=str
)
async def test_a_sequence_of_a_page_is_a_function_that_makes_the_output_it_says(block):
    wanted = json.loads(block.about)
    scope = {"__name__": "sequence"}
    exec(compile(block.text, str(block), "exec"), scope)
    found = find_sequence(scope, "sequence")
    code = Code(found.thing, found.spec, wanted.get("args", []), wanted.get("config", {}))
    declared = scope.get("provides", {}).get("contentType")
    gives = ContentType.parse(declared or code.contract.gives or "text/plain")
    items = decode_all(ContentType.parse(code.contract.takes or "text/plain"), [wanted["in"].encode()])
    host = LocalHost()
    invocation = Invocation(code, Context(host=host), Items(items), quarantine=lambda *_: None)
    encode, written = ENCODERS[gives](), []

    async def pump(result, _):
        written.extend([encode(item) async for item in _invoke.outputs(result, gives)])

    async with asyncio.timeout(DEADLINE):
        await invocation.run(pump)
    assert b"".join(written).decode() == wanted["out"]
    assert [list(event) for event in host.events] == wanted.get("events", [])


@pytest.mark.parametrize("block", [one for one in SEQUENCES if json.loads(one.about).get("hub")], ids=str)
def test_a_sequence_of_a_page_makes_the_same_of_it_on_a_hub(block, tmp_path):
    wanted = json.loads(block.about)
    (tmp_path / "main.py").write_text(block.text, "utf-8")
    (tmp_path / "package.json").write_text('{"main": "main.py", "engines": {"python3": ">=3.11"}}')
    command = [
        sys.executable,
        "-m",
        "hub_lite",
        "run",
        str(tmp_path),
        "--args",
        json.dumps(wanted.get("args", [])),
    ]
    command += ["--config", json.dumps(wanted.get("config", {}))]
    run = subprocess.run(
        command,
        input=wanted["in"].encode(),
        capture_output=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    assert (run.returncode, run.stdout.decode()) == (0, wanted["out"]), run.stderr.decode()


@pytest.mark.parametrize("test", marked("pytest", GUIDE), ids=str)
def test_a_test_that_the_guide_shows_passes(test, tmp_path):
    named = re.compile(rf"^(?:async )?(?:def|class) {test.about}\b", re.MULTILINE)
    (sequence,) = [block for block in marked("runs", GUIDE) if named.search(block.text)]
    (tmp_path / "main.py").write_text(sequence.text, "utf-8")
    (tmp_path / "test_main.py").write_text(test.text, "utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"],
        cwd=tmp_path,
        capture_output=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    assert run.returncode == 0, run.stdout.decode()
    assert b" passed" in run.stdout


async def test_a_blocked_sequence_reports_its_health_as_the_guide_shows(tmp_path):
    (shown,) = marked("health", GUIDE)
    (block,) = [block for block in SEQUENCES if f"def {shown.about}(" in block.text]
    wanted = json.loads(shown.text)
    with running_hub(tmp_path) as hub:
        async with talking_to(hub.url) as talk, asyncio.timeout(DEADLINE):
            instance = await talk.start(block.text)
            await health_with("lines", talk, instance)
            await talk.send(instance, b"3600\n")
            report = await health_with("blocked", talk, instance)
            await talk.client.kill(instance)
    assert list(report) == list(wanted)
    seconds = report["blocked"].pop("seconds")
    assert seconds >= wanted["blocked"].pop("seconds")
    assert report["blocked"] == wanted["blocked"]


async def health_with(member, talk, instance):
    """Ask for the health of an Instance until it has a member."""
    while member not in (report := await talk.get(f"/instance/{instance}/health")):
        await asyncio.sleep(0.05)
    return report


# The tour


def commands(block):
    """Return each command of a console block with the lines it is said to print."""
    found = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def agrees(shown, printed):
    """Tell whether lines are those of a page, where … stands for anything."""
    if len(shown) != len(printed):
        return False
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in shown]
    return all(re.fullmatch(pattern, line) for pattern, line in zip(patterns, printed, strict=True))


def test_the_tour_of_the_readme_does_what_it_shows(tmp_path):
    for block in marked("file"):
        target = tmp_path / block.about
        target.parent.mkdir(exist_ok=True)
        target.write_text(block.text, "utf-8")
    jq = tmp_path / "bin" / "jq"  # which need not be installed for a test
    jq.parent.mkdir()
    jq.write_text(f"#!{sys.executable}\n{JQ}", "utf-8")
    jq.chmod(0o755)
    steps = [step for block in marked("tour") for step in commands(block)]
    with running_hub(tmp_path) as hub:
        (start,) = marked("hub")
        assert commands(start)[0][0] == "hub-lite start"
        address = hub.url.removeprefix("http://").partition("/")[0]
        said = commands(start)[0][1]
        assert said == [f"hub-lite is ready at {hub.url}".replace(address, "127.0.0.1:8000")]
        script = "".join(f"{command}\nprintf '\\n\\036%d\\n' $?\n" for command, _ in steps)
        run = subprocess.run(
            ["/bin/sh"],
            input=script.replace("127.0.0.1:8000", address).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env=environment(PATH=f"{jq.parent}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}"),
            timeout=DEADLINE,
            check=False,
        )
    parts = re.split(r"\n\x1e(\d+)\n", run.stdout.decode())
    outcomes = [
        (command, status, printed.strip("\n").splitlines())
        for (command, _), printed, status in zip(steps, parts[::2], parts[1::2], strict=False)
    ]
    assert len(outcomes) == len(steps), run.stdout.decode()
    wrong = [
        (command, status, shown, printed)
        for (_, shown), (command, status, printed) in zip(steps, outcomes, strict=True)
        if status != "0" or not agrees(shown, printed)
    ]
    assert wrong == []


JQ = """
import json, sys
value = json.load(open(sys.argv[-1]) if sys.argv[-1].endswith(".json") else sys.stdin)
if ".id" in sys.argv:
    print(value["id"])
else:
    print(json.dumps([value["status"], value["terminated"]], separators=(",", ":")))
"""


# Links


def slug(heading):
    """Return the anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page):
    text = FENCE.sub("", page.read_text("utf-8"))
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_something(page):
    text = re.sub(r"``?[^`\n]*``?", "", FENCE.sub("", page.read_text("utf-8")))
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            dead.append(target)
    assert dead == []


def test_every_page_of_the_docs_is_linked_from_another():
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    }
    assert [page.name for page in PAGES if page != README and page not in linked] == []


def test_decisions_are_numbered_without_a_gap_and_say_question_choice_and_cost():
    pages = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text("utf-8")
        assert text.startswith(f"# {page.name[:4]}: ")
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Question", "Choice", "Cost"]


# Lists


def rows(page, heading):
    """Return the cells of the tables below a heading."""
    _, _, section = page.read_text("utf-8").partition(f"\n## {heading}\n")
    section = section.partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_operating_lists_every_setting_with_its_default():
    listed = {row[0].strip("`"): row[1].strip("`") for row in rows(OPERATING, "Settings") if row[0] != "Key"}
    assert list(listed) == list(settings._KEYS)
    defaults = settings.Settings()
    for key, shown in listed.items():
        if key == "dataDir":
            continue
        name = settings._KEYS[key][0]
        value = defaults
        for part in name.split("."):
            value = getattr(value, part)
        assert settings.from_tree(tree(key, json.loads(shown)), where="the page") == defaults, key
        said = json.loads(shown)
        if key.startswith("timings."):
            said /= 1000
        elif key == "safeOperationLimit":
            said *= 1024 * 1024
        assert said == (list(value) if isinstance(value, tuple) else value)


def tree(key, value):
    """Return the settings file that has one key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize(
    "block", [one for one in blocks_of(OPERATING) if one.language in ("json", "toml")], ids=str
)
def test_a_settings_file_of_the_page_is_taken(block, tmp_path):
    path = tmp_path / f"settings.{block.language}"
    path.write_text(block.text, "utf-8")
    assert settings.from_tree(settings.read_file(path), where=block.page.name).port == 8080


@pytest.mark.parametrize(
    ("heading", "command"),
    [("Start", "start"), ("`hub-lite run`", "run"), ("`hub-lite dev`", "dev"), ("`hub-lite new`", "new")],
)
def test_operating_lists_every_option(heading, command):
    listed = {
        option for row in rows(OPERATING, heading) for option in re.findall(r"--?[A-Za-z][a-z-]*", row[0])
    }
    known = {
        option
        for parameter in cli.commands[command].params
        for option in parameter.opts
        if option.startswith("-")
    }
    assert listed == known


async def test_the_api_page_lists_every_endpoint(tmp_path):
    listed = {
        match[1] for row in rows(HTTP_API, "Endpoints") if (match := re.match("`([A-Z]+ /.*)`", row[0]))
    }
    assert listed == endpoints(tmp_path)


def endpoints(folder):
    """Return the endpoints of a hub, a choice in a path as one each."""
    wanted = settings.Settings(data_dir=folder)
    hub = Hub(wanted, FolderStore(folder, wanted.package_limits), ProcessAdapter())
    found = set()
    for route in make_application(hub).router.routes():
        path = route.resource.get_info().get("formatter") or route.resource.get_info().get("path", "")
        if route.method in ("HEAD", "OPTIONS", "*") or not path.startswith(settings.API_BASE):
            continue
        found.add((route.method, path.removeprefix(settings.API_BASE)))
    assert found
    choices = {
        name: values.split("|")
        for module in (hub_api, sequences, instances, streams)
        for route in module.routes
        for name, values in re.findall(r"\{(\w+):([\w|]+)\}", route.path)
    }
    for name, values in choices.items():
        found = {
            (method, path.replace(f"{{{name}}}", value))
            for method, path in found
            for value in (values if f"{{{name}}}" in path else [""])
        }
    return {f"{method} {path}" for method, path in found}


def test_every_endpoint_of_the_api_page_is_shown_with_curl():
    text = "\n".join(block.text for block in blocks_of(HTTP_API) if block.language == "sh")
    shown = set(re.findall(r"\$api(/[^\s\"?]*)", text))
    wanted = {
        "/sequence", "/sequences", "/sequence/$sequence", "/sequence/$sequence/instances", "/sequence/$sequence/start",
        "/instance/$instance", "/instance/$instance/health", "/instance/$instance/_stop", "/instance/$instance/_kill",
        "/instance/$instance/input", "/instance/$instance/output", "/instance/$instance/stdout", "/instance/$instance/log",
        "/instance/$instance/_event",
    }  # fmt: skip
    assert shown == wanted


def test_the_curl_lines_of_the_api_page_are_answered(tmp_path):
    """Run those that end by themselves, in their order, with an Instance for those that need one."""
    lines = [
        line
        for block in blocks_of(HTTP_API)
        if block.language == "sh"
        for line in block.text.splitlines()
        if "DELETE" not in line and "tail -f" not in line
    ]
    (tmp_path / "shout").mkdir()
    for block in marked("file"):
        (tmp_path / block.about).write_text(block.text, "utf-8")
    with running_hub(tmp_path) as hub:
        script = f"""
            set -e
            api={hub.url}
            curl() {{ command curl --silent --fail-with-body --max-time 30 "$@"; echo; }}
            begin() {{ instance=$(curl -X POST $api/sequence/$sequence/start | cut -d'"' -f16); }}
            scramjet-pack -q shout >/dev/null
            sequence=$(curl -H content-type: --data-binary @shout.tar.gz $api/sequence | cut -d'"' -f4)
        """
        for line in lines:
            script += "begin\n" if "$instance" in line else ""
            if re.search("/(output|stdout|log)", line):  # which end when the Instance has
                script += "command curl -s -H content-type:text/plain --data-binary x $api/instance/$instance/input\n"
            script += f"{line} >/dev/null || {{ echo 'failed: {json.dumps(line)}' >&2; exit 1; }}\n"
        run = subprocess.run(
            ["/bin/sh"],
            input=script.encode(),
            capture_output=True,
            cwd=tmp_path,
            env=environment(),
            timeout=DEADLINE,
            check=False,
        )
    assert (run.returncode, run.stderr.decode()) == (0, "")
    assert len(lines) > 10
