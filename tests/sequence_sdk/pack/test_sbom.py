"""The bill of materials: what it says of a package, and that whatever is in there, it is CycloneDX."""

import json
import string
import tracemalloc
import uuid
from importlib.metadata import version
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.manifest import Manifest
from sequence_sdk.pack.files import PackedFile, select_files
from sequence_sdk.pack.sbom import sbom

VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)
NOWHERE = Path("/nowhere")
ROOT = "package.json"
MANIFEST = Manifest("main.py")


def entry(name: str, content: bytes | str | dict | list) -> PackedFile:
    if isinstance(content, (dict, list)):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode()
    return PackedFile(name, NOWHERE, len(content), content=content)


def dist(name: str, number: str, *lines: str) -> PackedFile:
    head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {number}", *lines]
    folder = f"{name.replace('-', '_')}-{number}.dist-info"
    return entry(f"__pypackages__/{folder}/METADATA", "\n".join(head) + "\n\n# A README\nName: other\n")


def node(folder: str, **package: object) -> PackedFile:
    name = folder.rpartition("node_modules/")[2]
    return entry(f"{folder}/package.json", {"name": name, "version": "1.0.0", **package})


def bill(*entries: PackedFile, manifest: Manifest = MANIFEST) -> dict:
    """The checked bill of what has nothing wrong with it."""
    raw, notes = sbom(manifest, entries)
    assert notes == ()
    assert VALIDATOR.validate_str(raw.decode()) is None
    return json.loads(raw)


def only(*entries: PackedFile) -> dict:
    (component,) = bill(*entries)["components"]
    return component


def needs(*entries: PackedFile) -> dict[str, list[str]]:
    return {item["ref"]: item["dependsOn"] for item in bill(*entries)["dependencies"]}


def test_a_package_without_dependencies_has_the_sequence_and_the_tool():
    manifest = Manifest(
        "main.py",
        name="@me/up",
        version="1.2+3",
        description="Upper  case.",
        author="Ann Lee <ann@example.org> (https://example.org)",
    )
    package = {"main": "main.py", "license": "mit", "repository": {"url": "git+https://example.org/up.git"}}
    found = bill(entry(ROOT, package), entry("main.py", "x"), manifest=manifest)
    serial = found.pop("serialNumber")
    assert uuid.UUID(serial).version == 5
    assert found == {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": "scramjet-pack",
                        "version": version("hub-lite"),
                        "description": "of hub-lite",
                    }
                ]
            },
            "component": {
                "type": "application",
                "bom-ref": ROOT,
                "authors": [{"name": "Ann Lee", "email": "ann@example.org"}],
                "name": "@me/up",
                "version": "1.2+3",
                "description": "Upper case.",
                "licenses": [{"license": {"id": "MIT"}}],
                "purl": "pkg:generic/%40me/up@1.2%2B3",
                "externalReferences": [{"type": "vcs", "url": "git+https://example.org/up.git"}],
            },
        },
        "components": [],
        "dependencies": [{"ref": ROOT, "dependsOn": []}],
    }


def test_a_sequence_without_name_and_version_has_the_name_of_its_file_and_no_purl():
    found = bill(manifest=Manifest("lib/main.py"))["metadata"]["component"]
    assert found == {"type": "application", "bom-ref": ROOT, "name": "lib/main.py"}
    assert bill(manifest=Manifest(" "))["metadata"]["component"]["name"] == ROOT
    assert "purl" not in bill(manifest=Manifest("a.py", name="a"))["metadata"]["component"]
    assert "purl" not in bill(manifest=Manifest("a.py", version="1"))["metadata"]["component"]


@pytest.mark.parametrize(
    ("author", "people"),
    [
        ("", []),
        ("Ann", [{"name": "Ann"}]),
        ("ann@example.org", [{"email": "ann@example.org"}]),
        ("<ann@example.org>", [{"email": "ann@example.org"}]),
        ("Ann @ Home", [{"name": "Ann @ Home"}]),
        ("Ann <nowhere>", [{"name": "Ann"}]),
        ("Lee, Ann <a@b.c>, Bo (https://b.c)", [{"name": "Lee, Ann", "email": "a@b.c"}, {"name": "Bo"}]),
    ],
    ids=["none", "name", "address", "address in brackets", "at", "no address", "two"],
)
def test_authors_are_read_as_npm_writes_them(author, people):
    component = bill(manifest=Manifest("a.py", author=author))["metadata"]["component"]
    assert component.get("authors", []) == people


def test_a_python_distribution_is_told_with_all_it_says():
    metadata = dist(
        "Zope.Interface_X",
        "1!7.0+local",
        "Summary: Interfaces\n        for Python",
        "Home-page: https://example.org/zope",
        "Project-URL: Source Code, https://example.org/src?a=1#top",
        "Project-URL: Bug-Tracker, https://example.org/bugs",
        "Project-URL: Documentation, https://docs.example.org",
        "Project-URL: Changelog, https://example.org/changes",
        "Project-URL: Sponsor, https://example.org/sponsor",
        "Project-URL: Sponsor, https://user:word@example.org/",
        "Download-URL: https://example.org/%7Ezope.tar.gz",
        "License-Expression: apache-2.0 or (mit AND zpl-2.1)",
    )
    assert only(metadata) == {
        "type": "library",
        "bom-ref": "__pypackages__/Zope.Interface_X-1!7.0+local.dist-info",
        "name": "Zope.Interface_X",
        "version": "1!7.0+local",
        "description": "Interfaces for Python",
        "licenses": [{"expression": "Apache-2.0 OR (MIT AND ZPL-2.1)"}],
        "purl": "pkg:pypi/zope-interface-x@1%217.0%2Blocal",
        "externalReferences": [
            {"type": "distribution", "url": "https://example.org/%7Ezope.tar.gz"},
            {"type": "documentation", "url": "https://docs.example.org"},
            {"type": "issue-tracker", "url": "https://example.org/bugs"},
            {"type": "other", "url": "https://example.org/sponsor"},
            {"type": "release-notes", "url": "https://example.org/changes"},
            {"type": "vcs", "url": "https://example.org/src?a=1#top"},
            {"type": "website", "url": "https://example.org/zope"},
        ],
    }


def test_an_egg_info_is_a_distribution_too():
    content = "Name: old\r\nVersion: 0.1\r\n\r\nName: README"
    found = only(entry("__pypackages__/old-0.1-py3.11.egg-info/PKG-INFO", content))
    assert (found["name"], found["version"]) == ("old", "0.1")


BSD, MIT = (
    "Classifier: License :: OSI Approved :: BSD License",
    "Classifier: License :: OSI Approved :: MIT License",
)


@pytest.mark.parametrize(
    ("lines", "licenses"),
    [
        ([], None),
        (["License-Expression: MIT", "License: BSD"], [{"license": {"id": "MIT"}}]),
        (["License-Expression: LicenseRef-Own"], [{"expression": "LicenseRef-Own"}]),
        (["License-Expression: Apache-2.0+"], [{"expression": "Apache-2.0+"}]),
        (["License-Expression: MIT OR"], [{"license": {"name": "MIT OR"}}]),
        (["License-Expression: " + "(" * 500 + "MIT"], [{"license": {"name": "(" * 500 + "MIT"}}]),
        (["License: bsd-3-clause", BSD], [{"license": {"id": "BSD-3-Clause"}}]),
        (["License: Some words", MIT], [{"license": {"id": "MIT"}}]),
        (["License: Some words", BSD], [{"license": {"name": "Some words"}}]),
        (["License: UNKNOWN", BSD], [{"license": {"name": "BSD License"}}]),
        (
            ["License: Copyright (c) Ann\n        All of\n        it"],
            [{"license": {"name": "Copyright (c) Ann"}}],
        ),
        (["License: " + "x" * 1500], [{"license": {"name": "x" * 1000 + "…"}}]),
        ([BSD, MIT, MIT, "Classifier: License :: OSI Approved"], [{"license": {"id": "MIT"}}]),
        (["Classifier: License :: OSI Approved", "Classifier: Topic :: X"], None),
        (
            [BSD, "Classifier: License :: Public Domain"],
            [{"license": {"name": "BSD License"}}, {"license": {"name": "Public Domain"}}],
        ),
    ],
    ids=[
        "none",
        "the expression first",
        "own",
        "or later",
        "no expression",
        "too many brackets",
        "an id",
        "a classifier of one licence before words",
        "words before others",
        "unknown",
        "a whole text",
        "a long line",
        "twice",
        "none in particular",
        "two",
    ],
)
def test_the_licence_of_a_python_distribution_is_the_most_exact_it_says(lines, licenses):
    assert only(dist("a", "1", *lines)).get("licenses") == licenses


def test_a_node_package_is_told_with_all_it_says():
    package = node(
        "node_modules/@scope/left-pad",
        version="1.3.0-rc.1+b",
        description="Pads\nleft.",
        license="(MIT OR apache-2.0)",
        homepage="https://example.org/",
        repository="user/left-pad",
        bugs={"url": "https://example.org/issues", "email": "a@b.c"},
    )
    assert only(package) == {
        "type": "library",
        "bom-ref": "node_modules/@scope/left-pad",
        "group": "@scope",
        "name": "left-pad",
        "version": "1.3.0-rc.1+b",
        "description": "Pads left.",
        "licenses": [{"expression": "(MIT OR Apache-2.0)"}],
        "purl": "pkg:npm/%40scope/left-pad@1.3.0-rc.1%2Bb",
        "externalReferences": [
            {"type": "issue-tracker", "url": "https://example.org/issues"},
            {"type": "website", "url": "https://example.org/"},
        ],
    }


def test_a_long_address_with_one_wrong_sign_is_left_out_without_trying_every_way_to_cut_it():
    long = "https://example.org/?" + "a" * 900
    package = node(
        "node_modules/a", homepage=f"{long} ", repository=f"{long}#{'b' * 50}", bugs=f"{long}#{long[8:]} "
    )
    wrong = node("node_modules/a", homepage=f"{long}^", repository=long, bugs=f"{long[:100]}#{long[:800]}<")
    assert only(package)["externalReferences"] == [
        {"type": "vcs", "url": f"{long}#{'b' * 50}"},
        {"type": "website", "url": long},
    ]
    assert only(wrong)["externalReferences"] == [{"type": "vcs", "url": long}]


@pytest.mark.parametrize(
    ("package", "licenses"),
    [
        ({"license": "SEE LICENSE IN x"}, [{"license": {"name": "SEE LICENSE IN x"}}]),
        ({"license": {"type": "ISC", "url": "u"}}, [{"license": {"id": "ISC"}}]),
        (
            {"licenses": [{"type": "MIT"}, "Own", {"type": "MIT OR ISC"}, "mit", 3]},
            [{"license": {"id": "MIT"}}, {"license": {"name": "Own"}}, {"license": {"name": "MIT OR ISC"}}],
        ),
        ({"license": None, "licenses": 7}, None),
    ],
    ids=["a sentence", "an object", "a list", "none"],
)
def test_the_licences_of_a_node_package_have_the_forms_of_all_times(package, licenses):
    assert only(node("node_modules/a", **package)).get("licenses") == licenses


def test_every_package_of_a_node_modules_counts_and_no_folder_inside_of_one():
    found = bill(
        node("node_modules/a"),
        node("node_modules/a/node_modules/@s/b"),
        node("lib/node_modules/a"),
        node("node_modules/.pnpm/c@1/node_modules/c"),
        node("node_modules/a/dist/esm"),
        node("node_modules/a/test/fixture"),
        node("node_modules/@s"),
        node("src"),
        PackedFile("node_modules/d/package.json", NOWHERE, is_folder=True),
    )
    assert [component["bom-ref"] for component in found["components"]] == [
        "lib/node_modules/a",
        "node_modules/.pnpm/c@1/node_modules/c",
        "node_modules/a",
        "node_modules/a/node_modules/@s/b",
    ]


def test_what_lies_deeper_in_a_distribution_is_none_of_its_own():
    found = bill(
        entry("__pypackages__/pip/_vendor/x-1.dist-info/METADATA", "Name: x"),
        entry("src/x-1.dist-info/METADATA", "Name: x"),
    )
    assert found["components"] == []


A, B, C = (f"__pypackages__/{name}-1.dist-info" for name in "abc")


def test_a_distribution_needs_those_it_requires_as_far_as_they_are_there():
    graph = needs(
        dist(
            "a",
            "1",
            "Requires-Dist: B>=1 ; python_version > '3'",
            "Requires-Dist: gone",
            "Requires-Dist: a[x]",
        ),
        dist("b", "1", "Requires-Dist: C[extra] (<2)", "Requires-Dist: ==1"),
        dist("c", "1"),
    )
    assert graph == {ROOT: [A], A: [B], B: [C], C: []}


def test_a_name_is_found_in_any_of_its_spellings():
    graph = needs(dist("a", "1", "Requires-Dist: Foo.Bar__x"), dist("foo-bar-X", "2"))
    assert graph[A] == ["__pypackages__/foo_bar_X-2.dist-info"]


def test_the_sequence_needs_what_was_asked_for_and_what_nothing_else_needs():
    graph = needs(
        dist("a", "1", "Requires-Dist: b"),
        dist("b", "1"),
        entry(f"{B}/REQUESTED", ""),
        entry("__pypackages__/gone-1.dist-info/REQUESTED", ""),
    )
    assert graph[ROOT] == [A, B]


def test_of_a_ring_the_sequence_needs_the_first():
    graph = needs(dist("b", "1", "Requires-Dist: a"), dist("a", "1", "Requires-Dist: b"))
    assert graph == {ROOT: [A], A: [B], B: [A]}


def test_node_finds_the_nearest_package_on_the_way_up():
    graph = needs(
        entry(ROOT, {"dependencies": {"a": "*", "gone": "*", "../node_modules/b": "*"}}),
        node("node_modules/a", dependencies={"b": "*"}, peerDependencies={"c": "*"}),
        node("node_modules/a/node_modules/b", optionalDependencies={"c": "*", "a": "*", "b": "*"}),
        node("node_modules/b", dependencies=["a"]),
        node("node_modules/c"),
        node("lib/node_modules/d", dependencies={"c": "*"}),
    )
    assert graph == {
        ROOT: ["lib/node_modules/d", "node_modules/a", "node_modules/b"],
        "lib/node_modules/d": ["node_modules/c"],
        "node_modules/a": ["node_modules/a/node_modules/b", "node_modules/c"],
        "node_modules/a/node_modules/b": ["node_modules/a", "node_modules/c"],
        "node_modules/b": [],
        "node_modules/c": [],
    }


@pytest.mark.parametrize(
    "content", [b"", b"\n\nName: a", b"\xff\xfe\0", b"Name\nVersion: ", b"Content-Type: message/rfc822\n"]
)
def test_a_distribution_with_broken_metadata_has_what_its_folder_says(content):
    raw, notes = sbom(Manifest("main.py"), [entry("__pypackages__/a_b-1.0.dist-info/METADATA", content)])
    assert notes == (
        "__pypackages__/a_b-1.0.dist-info/METADATA does not say its Name and Version; its folder does",
    )
    (component,) = json.loads(raw)["components"]
    assert (component["name"], component["version"]) == ("a_b", "1.0")
    assert component["purl"] == "pkg:pypi/a-b@1.0"


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff", b"{", b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"],
    ids=["empty", "a list", "no UTF-8", "cut off", "deep", "a long number"],
)
def test_a_node_package_with_a_broken_package_json_has_the_name_of_its_folder(content):
    raw, notes = sbom(Manifest("main.py"), [entry("node_modules/@s/a/package.json", content)])
    assert notes == (
        "node_modules/@s/a/package.json is not one JSON object in UTF-8",
        "node_modules/@s/a/package.json does not say its name and version; its folder has the name",
    )
    (component,) = json.loads(raw)["components"]
    assert component["purl"] == "pkg:npm/%40s/a"
    assert "version" not in component


def test_a_file_that_cannot_be_read_fails_nothing():
    missing = PackedFile("node_modules/a/package.json", NOWHERE / "package.json")
    raw, notes = sbom(Manifest("main.py"), [missing])
    assert notes[0] == "node_modules/a/package.json cannot be read (No such file or directory)"
    assert json.loads(raw)["components"][0]["name"] == "a"


def test_a_package_json_that_is_too_large_is_not_read():
    raw, notes = sbom(Manifest("main.py"), [entry("node_modules/a/package.json", b"{}" + b" " * 1024 * 1024)])
    assert notes[0] == "node_modules/a/package.json is too large to be read; it may have 1048576 bytes"
    assert json.loads(raw)["components"][0]["name"] == "a"


def test_the_files_of_a_folder_are_read_where_they_lie(tmp_path):
    folder = tmp_path / "__pypackages__" / "a-1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Name: a\nVersion: 1\n")
    (tmp_path / "package.json").write_text('\ufeff{"main": "main.py", "license": "MIT"}')
    found = bill(*select_files(tmp_path).entries)
    assert [component["name"] for component in found["components"]] == ["a"]
    assert found["metadata"]["component"]["licenses"] == [{"license": {"id": "MIT"}}]


def test_only_the_start_of_a_huge_file_is_read_and_no_other_file_at_all(tmp_path):
    huge = tmp_path / "METADATA"
    huge.write_bytes(b"Name: a\nVersion: 1\n\n" + b"x" * 20_000_000)
    files = [
        PackedFile("__pypackages__/a-1.dist-info/METADATA", huge, 20_000_020),
        PackedFile("__pypackages__/a/data.bin", NOWHERE / "not there", 10**12),
    ]
    tracemalloc.start()
    found = bill(*files)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [component["name"] for component in found["components"]] == ["a"]
    assert peak < 8_000_000


def test_the_bytes_and_the_serial_number_follow_what_is_said_and_no_order():
    entries = [dist("a", "1", "Requires-Dist: b"), dist("b", "1"), node("node_modules/c")]
    first, _ = sbom(Manifest("main.py"), entries)
    again, _ = sbom(Manifest("main.py"), reversed(entries))
    other, _ = sbom(Manifest("main.py"), entries[1:])
    assert first == again
    assert json.loads(first)["serialNumber"] != json.loads(other)["serialNumber"]


TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
ODD = TEXT | st.text(max_size=5) | st.sampled_from(["@", "@s/", "///", "a@b", " ", "\x7f", "x" * 3000])
SEGMENT = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=10)
NAMES = st.one_of(
    SEGMENT.map("__pypackages__/{}.dist-info/METADATA".format),
    SEGMENT.map("__pypackages__/{}-1.egg-info/PKG-INFO".format),
    SEGMENT.map("__pypackages__/{}.dist-info/REQUESTED".format),
    SEGMENT.map("node_modules/{}/package.json".format),
    st.tuples(SEGMENT, SEGMENT).map(lambda pair: "node_modules/@{}/{}/package.json".format(*pair)),
    st.tuples(SEGMENT, SEGMENT).map(
        lambda pair: "node_modules/{}/node_modules/{}/package.json".format(*pair)
    ),
    st.just(ROOT),
)
URLS = st.text(string.printable, max_size=15).map("https://a.b/{}".format) | st.text(
    "[]:/?#%@a.é", max_size=15
).map("https://{}".format)
KEYS = st.sampled_from(
    [
        "Name",
        "Version",
        "Summary",
        "License",
        "License-Expression",
        "Classifier",
        "Home-page",
        "Project-URL",
        "Requires-Dist",
        "Content-Type",
    ]
)
VALUES = st.one_of(
    ODD,
    URLS,
    URLS.map("Source, {}".format),
    TEXT.map("License :: {}".format),
    st.text("(MIT OR)+ wth\n", max_size=30),
    st.sampled_from(
        ["a", "b", "mit", "GPL-2.0+", "GPL-2.0", "0BSD WITH Autoconf-exception-3.0", "message/rfc822"]
    ),
)
METADATA = st.lists(st.tuples(KEYS, VALUES).map(": ".join)).map("\n".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(ODD | st.just("type") | st.just("url"), inner, max_size=3)
    ),
    max_leaves=6,
)
PACKAGE_KEYS = st.sampled_from(
    [
        "name",
        "version",
        "description",
        "license",
        "licenses",
        "homepage",
        "repository",
        "bugs",
        "dependencies",
    ]
)
CONTENTS = st.one_of(
    st.binary(max_size=60),
    METADATA.map(lambda text: text.encode(errors="surrogatepass")),
    st.dictionaries(PACKAGE_KEYS, JSON, max_size=6).map(json.dumps).map(str.encode),
)


@given(
    st.builds(
        Manifest, TEXT, name=ODD, version=ODD, description=ODD, author=ODD | st.text("<>(), a@", max_size=20)
    ),
    st.dictionaries(NAMES, CONTENTS, max_size=6),
)
def test_whatever_is_in_a_package_its_bill_is_cyclonedx_and_the_same_again(manifest, files):
    entries = [PackedFile(name, NOWHERE, content=content) for name, content in files.items()]
    raw, notes = sbom(manifest, entries)
    assert VALIDATOR.validate_str(raw.decode()) is None
    assert sbom(manifest, entries) == (raw, notes)
    found = json.loads(raw)
    refs = [ROOT, *(component["bom-ref"] for component in found["components"])]
    graph = {item["ref"]: item["dependsOn"] for item in found["dependencies"]}
    assert sorted(refs) == sorted(graph)
    reached, todo = set(), [ROOT]
    while todo:
        ref = todo.pop()
        if ref not in reached:
            reached.add(ref)
            todo += graph[ref]
    assert reached == set(refs)
