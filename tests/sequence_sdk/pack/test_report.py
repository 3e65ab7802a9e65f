"""What is told of a package."""

from dataclasses import replace
from pathlib import Path

from sequence_sdk.manifest import Manifest
from sequence_sdk.pack.files import LeftOut, PackedFile, Selection
from sequence_sdk.pack.findings import Checked
from sequence_sdk.pack.package import PackResult
from sequence_sdk.pack.report import checked_json, explained, packed_json

ENTRIES = (
    PackedFile("data.bin", Path("data.bin"), 1234567),
    PackedFile("empty", Path("empty"), is_folder=True, rule="because"),
)
LEFT_OUT = (LeftOut("b\udce9.log", "some rule"),)
RESULT = PackResult(None, Manifest("a.py"), "00", ("data.bin",), LEFT_OUT, 1, 2, entries=ENTRIES)


def test_of_nothing_there_is_nothing_to_explain():
    assert explained((), ()) == ""


def test_sizes_and_names_stand_in_columns_and_can_be_printed():
    assert explained(ENTRIES, LEFT_OUT).splitlines() == [
        "+ 1,234,567  data.bin   being in the folder",
        "+         0  empty/     because",
        r"-            b\xe9.log  some rule",
    ]


def test_a_package_on_a_stream_has_no_path_and_folders_are_no_files():
    told = packed_json(RESULT)
    assert told["path"] is None
    assert told["files"] == [{"name": "data.bin", "size": 1234567, "rule": "being in the folder"}]
    assert told["left_out"] == [{"name": r"b\xe9.log", "rule": "some rule"}]
    assert told["warnings"] == []


def test_why_there_is_no_schema_is_a_warning():
    told = packed_json(replace(RESULT, path=Path("x"), warnings=("w",), no_schema="why"))
    assert (told["path"], told["warnings"]) == ("x", ["w", "no schema: why"])


def test_a_check_has_the_same_keys_as_a_package():
    checked = Checked(("e",), ("w",), Manifest("a.py"), Selection(ENTRIES, LEFT_OUT))
    told = checked_json(checked)
    assert told.keys() == packed_json(RESULT).keys()
    assert (told["errors"], told["warnings"], told["bytes"]["unpacked"]) == (["e"], ["w"], 1234567)
    assert told["manifest"] == {"entrypointPath": "a.py", "language": "py"}
    assert checked_json(Checked((), ()))["manifest"] is None
