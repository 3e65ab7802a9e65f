"""The manifest: what it takes, what it refuses and in which words."""

import json
import tracemalloc

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    ManifestError,
    ManifestFieldError,
    ManifestUnreadable,
    parse_manifest,
)


def manifest(**fields: object) -> Manifest:
    return parse_manifest(json.dumps({"main": "main.py", **fields}).encode())


def refusal(**fields: object) -> ManifestFieldError:
    with pytest.raises(ManifestFieldError) as caught:
        manifest(**fields)
    return caught.value


def test_every_field_that_is_known_is_read():
    full = manifest(
        main="./src//main.py",
        name="@me/words",
        version="1.2.3",
        engines={"python3": ">=3.11"},
        description="Counts words",
        author="Ann",
        keywords=["a", "b"],
        repository="git@example.org:x",
        args=[{"name": "limit"}, 3, None],
        scramjet={
            "config": {"ports": ["8080/tcp", "514/udp"]},
            "schema": {"input": {"type": "string"}},
            "image": "ignored",
        },
    )
    assert full == Manifest(
        main="src/main.py",
        name="@me/words",
        version="1.2.3",
        engines={"python3": ">=3.11"},
        description="Counts words",
        author="Ann",
        keywords=("a", "b"),
        repository="git@example.org:x",
        args=({"name": "limit"}, 3, None),
        ports=("8080/tcp", "514/udp"),
        schema={"input": {"type": "string"}},
    )


def test_the_config_has_the_fields_that_a_hub_answers_with():
    config = manifest(
        name="n",
        version="1",
        engines={"node": ">=16"},
        description="d",
        author="me",
        keywords=["k"],
        args=[{"name": "a"}],
        repository={"type": "git", "url": "u", "more": 1},
        scramjet={"config": {"ports": ["8080/tcp"]}, "schema": {"output": {}, "args": [1.5, None, True]}},
    ).to_config()
    assert config == {
        "entrypointPath": "main.py",
        "language": "js",
        "name": "n",
        "version": "1",
        "engines": {"node": ">=16"},
        "description": "d",
        "author": "me",
        "keywords": ["k"],
        "args": [{"name": "a"}],
        "repository": {"type": "git", "url": "u"},
        "config": {"ports": ["8080/tcp"]},
        "schema": {"output": {}, "args": [1.5, None, True]},
    }


def test_fields_that_are_absent_are_not_in_the_config():
    assert manifest().to_config() == {"entrypointPath": "main.py", "language": "py"}


OPTIONAL = [
    "name",
    "version",
    "engines",
    "description",
    "author",
    "keywords",
    "repository",
    "args",
    "scramjet",
]


@pytest.mark.parametrize("key", OPTIONAL)
def test_null_is_the_same_as_absent(key):
    assert manifest(**{key: None}) == manifest()


def test_null_inside_scramjet_is_the_same_as_absent():
    assert manifest(scramjet={"config": None}) == manifest(scramjet={"config": {"ports": None}}) == manifest()
    assert manifest(scramjet={"schema": None}) == manifest()


def test_unknown_fields_are_left_aside():
    assert manifest(scripts={"build": 1}, assets=[1], private=True) == manifest()


@pytest.mark.parametrize(
    ("author", "text"),
    [
        ({"name": "Ann"}, "Ann"),
        ({"name": "Ann", "email": "a@b.c"}, "Ann <a@b.c>"),
        ({"name": "Ann", "url": "https://a.b"}, "Ann (https://a.b)"),
        ({"name": "Ann", "email": "a@b.c", "url": "https://a.b"}, "Ann <a@b.c> (https://a.b)"),
        ({"name": "Ann", "email": None, "twitter": 1}, "Ann"),
    ],
)
def test_an_author_may_be_an_object(author, text):
    assert manifest(author=author).author == text


@pytest.mark.parametrize(
    ("main", "engines", "language"),
    [
        ("main.js", {"python3": "3"}, "py"),
        ("main.py", {"node": "16"}, "js"),
        ("index.ts", {}, "ts"),
        ("index.js", {}, "js"),
        ("main.py", {"deno": "1"}, "py"),
        ("index", {}, "unknown"),
        (".py", {}, "unknown"),
    ],
)
def test_the_language_is_that_of_the_engine_and_else_of_the_suffix(main, engines, language):
    assert manifest(main=main, engines=engines).language == language


@pytest.mark.parametrize(
    ("main", "clean"),
    [("./main.py", "main.py"), ("a/./b//c.py", "a/b/c.py"), ("dist/", "dist"), ("..a", "..a")],
)
def test_main_is_normalised(main, clean):
    assert manifest(main=main).main == clean


@pytest.mark.parametrize("main", ["/etc/passwd", "../main.py", "a/../../b", "a/..", ".", "./", "a\0b", "//x"])
def test_main_stays_inside_the_package(main):
    assert "inside the package" in str(refusal(main=main))


def test_the_main_of_scramjet_is_the_one_that_counts_and_that_of_the_package_is_for_the_original_runner():
    both = manifest(main=".sequence/original.py", scramjet={"main": "./src//main.py"})
    assert (both.main, both.original_entry) == ("src/main.py", ".sequence/original.py")
    assert both.to_config() == manifest(main="src/main.py").to_config()
    assert (manifest().main, manifest().original_entry) == ("main.py", "")
    assert manifest(scramjet={"main": None}) == manifest()


@pytest.mark.parametrize("main", ["", ".", "/main.py", "../main.py", "a/../b.py", "a\0", 1, ["main.py"]])
def test_the_main_of_scramjet_stays_inside_the_package_too(main):
    assert refusal(scramjet={"main": main}).key == "scramjet.main"


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ('{"main": 3}', 'package.json: "main" must be a string, but it is 3'),
        ('{"main": ""}', 'package.json: "main" must be the path of a file, but it is ""'),
        (
            "{}",
            (
                'package.json: "main" must be a string, but it is missing; '
                'name the file that starts the Sequence, such as "main": "main.py"'
            ),
        ),
        (
            '{"main": null}',
            (
                'package.json: "main" must be a string, but it is null; '
                'name the file that starts the Sequence, such as "main": "main.py"'
            ),
        ),
        ('{"main": "m", "name": {}}', 'package.json: "name" must be a string, but it is an object'),
        ('{"main": "m", "engines": []}', 'package.json: "engines" must be an object, but it is a list'),
        (
            '{"main": "m", "engines": {"node": 16}}',
            'package.json: "engines.node" must be a string, but it is 16',
        ),
        ('{"main": "m", "keywords": "a"}', 'package.json: "keywords" must be a list, but it is "a"'),
        (
            '{"main": "m", "keywords": ["a", true]}',
            'package.json: "keywords[1]" must be a string, but it is true',
        ),
        ('{"main": "m", "args": {}}', 'package.json: "args" must be a list, but it is an object'),
        (
            '{"main": "m", "scramjet": {"config": {"ports": ["80/tcp"]}}}',
            (
                'package.json: "scramjet.config.ports[0]" must be a port and its protocol, '
                'such as "8080/tcp" or "5353/udp", but it is "80/tcp"'
            ),
        ),
        (
            '{"main": "m", "repository": {"url": "u"}}',
            'package.json: "repository.type" must be a string, but it is missing',
        ),
        (
            '{"main": "m", "author": {"email": "e"}}',
            'package.json: "author.name" must be the name of the author, but it is missing',
        ),
    ],
)
def test_a_wrong_field_is_named_with_what_it_is_and_what_it_must_be(raw, sentence):
    with pytest.raises(ManifestFieldError) as caught:
        parse_manifest(raw.encode())
    assert str(caught.value) == sentence
    assert json.dumps(caught.value.key) in sentence
    assert caught.value.found in sentence
    assert caught.value.expected in sentence


@pytest.mark.parametrize("wrong", [0, 1.5, True, [], ["x"]])
@pytest.mark.parametrize(
    "key", ["main", "name", "version", "engines", "description", "author", "repository", "scramjet"]
)
def test_a_field_of_a_wrong_type_is_refused_by_its_name(key, wrong):
    assert refusal(**{key: wrong}).key == key


@pytest.mark.parametrize(
    "port", ["8080", "8080/tcp\n", "808080/tcp", "٨٠٨٠/tcp", "8080/sctp", " 8080/tcp", 8080]
)
def test_a_port_has_three_to_five_digits_and_a_protocol(port):
    assert refusal(scramjet={"config": {"ports": [port]}}).key == "scramjet.config.ports[0]"


def test_a_wrong_value_is_shown_short_and_on_one_line():
    text = str(refusal(scramjet={"config": {"ports": ["line\n" * 1000]}}))
    assert len(text) < 250
    assert "\n" not in text


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("[18446744073709551616]", "a number of 64 bits"),
        ("[[-9223372036854775809]]", "a number of 64 bits"),
        ("[1e999]", "a finite number"),
        ('["\\ud800"]', "text without halves of surrogate pairs"),
        ('[{"\\ud800": 1}]', "text without halves of surrogate pairs"),
        ("[" * 66 + "]" * 66, "nested at most 64 levels deep"),
    ],
)
def test_args_and_schemas_that_no_hub_could_answer_with_are_refused(args, expected):
    with pytest.raises(ManifestFieldError) as caught:
        parse_manifest(b'{"main": "m", "args": %b}' % args.encode())
    assert caught.value.key == "args[0]"
    assert caught.value.expected == expected
    with pytest.raises(ManifestFieldError) as caught:
        parse_manifest(b'{"main": "m", "scramjet": {"schema": {"input": %b}}}' % args.encode())
    assert caught.value.key == "scramjet.schema.input"
    assert caught.value.expected == expected


def test_a_schema_is_an_object_with_names_that_can_be_written():
    assert refusal(scramjet={"schema": [1]}).key == "scramjet.schema"
    error = refusal(scramjet={"schema": {"\ud800": 1}})
    assert (error.key, error.expected) == ("scramjet.schema", "text without halves of surrogate pairs")


def test_a_surrogate_half_is_refused_and_the_sentence_can_still_be_printed():
    with pytest.raises(ManifestFieldError) as caught:
        parse_manifest(b'{"main": "m", "name": "x\\udc80"}')
    assert str(caught.value).encode()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "line 1, column 1 is not"),
        (b'{\n "main": }', "line 2, column 10 is not"),
        (b"[1]", "it holds a list"),
        (b'"main.py"', 'it holds "main.py"'),
        (b"null", "it holds null"),
        (b'{"main": "\xff"}', "byte 10 is not"),
        ('{"main": "m"}'.encode("utf-16"), "must be UTF-8"),
        (b'{"main": "m", "args": [NaN]}', "NaN is no JSON value"),
        (b'{"main": "m", "args": [' + b"9" * 5000 + b"]}", "must be JSON"),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", "more than one byte order mark"),
        (b"[" * 100_000, "nested too deep"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "1048576 bytes at most"),
    ],
)
def test_bytes_that_are_no_json_object_are_refused(raw, words):
    with pytest.raises(ManifestUnreadable) as caught:
        parse_manifest(raw)
    assert str(caught.value).startswith("package.json: it")
    assert words in str(caught.value)


def test_one_byte_order_mark_is_skipped():
    assert parse_manifest(b'\xef\xbb\xbf{"main": "m"}') == Manifest(main="m")


def test_a_manifest_of_the_greatest_size_is_read():
    assert parse_manifest(b'{"main": "m"}'.ljust(MAX_MANIFEST_BYTES)).main == "m"


def test_a_long_key_above_many_values_is_not_repeated_for_each_of_them():
    raw = json.dumps({"main": "m", "args": [{"k" * 100_000: [0] * 5000}]}).encode()
    tracemalloc.start()
    try:
        assert len(parse_manifest(raw).args) == 1
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_mapping_is_checked_as_a_file_is():
    assert Manifest.from_mapping({"main": "./m.py"}) == Manifest(main="m.py")
    with pytest.raises(ManifestFieldError, match="a value of type bytes"):
        Manifest.from_mapping({"main": b"m.py"})
    with pytest.raises(ManifestFieldError, match="a JSON value"):
        Manifest.from_mapping({"main": "m.py", "args": [{1, 2}]})
    with pytest.raises(ManifestFieldError, match="more than 64 bits"):
        Manifest.from_mapping({"main": 10**5000})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLAUSIBLE = st.fixed_dictionaries(
    {"main": JSON | st.sampled_from(["main.py", "./a/b.js", "../x", "/x"])},
    optional={
        "name": JSON,
        "version": JSON,
        "engines": JSON | st.dictionaries(st.sampled_from(["python3", "node"]), st.text() | JSON),
        "description": JSON,
        "author": JSON
        | st.fixed_dictionaries({"name": st.text() | JSON}, optional={"email": JSON, "url": JSON}),
        "keywords": JSON | st.lists(st.text(max_size=5)),
        "repository": JSON | st.fixed_dictionaries({"type": JSON, "url": JSON}, optional={"directory": JSON}),
        "args": JSON | st.lists(JSON, max_size=3),
        "scramjet": JSON
        | st.fixed_dictionaries({"config": st.fixed_dictionaries({"ports": st.lists(JSON)})})
        | st.fixed_dictionaries({"schema": JSON | st.dictionaries(st.text(max_size=5), JSON)}),
    },
)


def check_outcome(raw: bytes) -> None:
    try:
        parsed = parse_manifest(raw)
    except ManifestError as error:
        sentence = str(error)
    else:
        config = parsed.to_config()
        assert orjson.loads(orjson.dumps(config)) == config
        assert ".." not in parsed.main.split("/")
        assert not parsed.main.startswith("/")
        return
    assert sentence.encode().startswith(b"package.json: ")


@given(JSON | PLAUSIBLE)
def test_any_json_gives_a_manifest_that_can_be_answered_with_or_a_sentence(obj):
    check_outcome(json.dumps(obj).encode())


@given(st.binary(max_size=60))
def test_any_bytes_give_a_manifest_or_a_sentence(raw):
    check_outcome(raw)
    check_outcome(b'{"main": "' + raw + b'"}')


def test_an_error_that_says_nothing_is_none():
    with pytest.raises(NotImplementedError):
        str(ManifestError())
