"""What the dependencies in a package say of themselves, and which do not fit."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.pack.errors import FileUnreadable, Misfits
from sequence_sdk.pack.files import PackedFile
from sequence_sdk.pack.target import Target
from sequence_sdk.pack.wheels import (
    Distribution,
    check_wheels,
    distributions_in,
    misfits,
    native_kind,
    record_rows,
)

LINUX = Target("3.12", "linux-x86_64")
WANTED = (
    f"but {LINUX} is wanted; get the one for that, or name the target it is for with --platform and --python"
)


def held(name: str, content: str | bytes = b"") -> PackedFile:
    raw = content.encode() if isinstance(content, str) else content
    return PackedFile(name, Path(name), len(raw), content=raw)


def dist(name: str, *tags: str, metadata: str = "", record: str = "") -> list[PackedFile]:
    info = f"__pypackages__/{name}-1.0.dist-info"
    return [
        held(f"{info}/METADATA", metadata or f"Name: {name}\nVersion: 1.0\n"),
        held(f"{info}/WHEEL", "Wheel-Version: 1.0\n" + "".join(f"Tag: {tag}\n" for tag in tags)),
        held(f"{info}/RECORD", record),
    ]


def elf(machine: int, order: int = 1) -> bytes:
    return b"\x7fELF\2" + bytes([order]) + bytes(12) + machine.to_bytes(2, "big" if order == 2 else "little")


def mach_o(cpu: int) -> bytes:
    return b"\xcf\xfa\xed\xfe" + cpu.to_bytes(4, "little")


def fat(*cpus: int) -> bytes:
    return (
        b"\xca\xfe\xba\xbe"
        + struct.pack(">L", len(cpus))
        + b"".join(struct.pack(">5L", cpu, 0, 0, 0, 0) for cpu in cpus)
    )


def pe(machine: int) -> bytes:
    return b"MZ".ljust(60, b"\0") + struct.pack("<L", 64) + b"PE\0\0" + machine.to_bytes(2, "little")


X86, ARM = elf(62), elf(183)


# --- metadata -----------------------------------------------------------------------------------------------------------


def test_metadata_say_what_a_dependency_is():
    metadata = (
        "Name: Alpha\nVersion: 2.0\nSummary: the first\nLicense-Expression: MIT OR Apache-2.0\nLicense: long\n"
        "Home-page: https://alpha.example\nRequires-Dist: beta>=1\nRequires-Dist: gamma; extra == 'all'\n\nDescription: none\n"
    )
    (found,) = distributions_in(dist("alpha", "py3-none-any", "py2-none-any", metadata=metadata))
    assert found == Distribution(
        name="Alpha",
        version="2.0",
        tags=("py2-none-any", "py3-none-any"),
        licence="MIT OR Apache-2.0",
        summary="the first",
        homepage="https://alpha.example",
        requires=("beta>=1", "gamma; extra == 'all'"),
        folder="__pypackages__/alpha-1.0.dist-info",
    )


def test_what_metadata_do_not_say_is_empty_and_the_folder_has_the_name():
    (found,) = distributions_in([held("__pypackages__/old-0.1.egg-info/PKG-INFO", "Home-page: UNKNOWN\n")])
    assert found == Distribution("old", "0.1", folder="__pypackages__/old-0.1.egg-info")


def test_a_licence_that_is_a_whole_text_is_named_by_its_classifiers():
    text = (
        "Name: a\nLicense: Permission is\n  granted\nClassifier: License :: OSI Approved :: MIT License\n"
        "Classifier: Topic :: Other\nClassifier: License :: Public Domain\n"
    )
    (found,) = distributions_in(dist("a", metadata=text))
    assert found.licence == "MIT License OR Public Domain"


def test_a_home_page_may_be_one_of_the_urls():
    text = "Name: a\nProject-URL: Docs, https://d.example\nProject-URL: Source, https://s.example\n"
    assert distributions_in(dist("a", metadata=text))[0].homepage == "https://s.example"
    text += "Project-URL: Home-Page, https://h.example\n"
    assert distributions_in(dist("a", metadata=text))[0].homepage == "https://h.example"


def test_only_what_lies_among_the_dependencies_is_one():
    entries = [
        held("alpha-1.0.dist-info/METADATA", "Name: alpha\n"),
        held("__pypackages__/alpha/METADATA", "Name: alpha\n"),
        PackedFile("__pypackages__/b-1.dist-info/METADATA", Path("b"), is_folder=True),
    ]
    assert distributions_in(entries) == ()
    assert misfits(entries[:1], LINUX) == []


def test_metadata_on_disk_are_read_and_those_that_cannot_be_are_told(tmp_path):
    path = tmp_path / "METADATA"
    path.write_text("Name: alpha\nVersion: 3\n")
    entry = PackedFile("sub/__pypackages__/alpha-3.dist-info/METADATA", path, 1)
    assert distributions_in([entry])[0].version == "3"
    path.unlink()
    with pytest.raises(FileUnreadable):
        distributions_in([entry])


def test_rows_of_a_record_may_be_short_or_quoted():
    assert record_rows(b'a,sha256=x,1\n\n"b,c"\r\nd,,\n') == [
        ["a", "sha256=x", "1"],
        ["b,c", "", ""],
        ["d", "", ""],
    ]
    assert record_rows('"two\nlines",,\none\u2028line,,\n'.encode()) == [
        ["two\nlines", "", ""],
        ["one\u2028line", "", ""],
    ]


def test_a_record_that_is_no_csv_answers_for_no_file():
    broken = '"' + "sc_a/x.py,sha256=0,1\n" * 10_000  # more than one field may hold
    files = [*dist("sc_a-1", "py3-none-any", record=broken), held("__pypackages__/sc_a/n.so", elf(183))]
    assert record_rows(broken.encode()) == []
    assert misfits(files, Target("3.12", "linux-x86_64"))[0].startswith(
        "__pypackages__/sc_a/n.so is for linux aarch64"
    )


# --- wheels that do not fit ---------------------------------------------------------------------------------------------


def test_a_wheel_that_fits_by_one_of_its_tags_is_taken():
    entries = dist("alpha", "cp312-cp312-win_amd64", "cp312-cp312-manylinux_2_17_x86_64")
    assert misfits(entries, LINUX) == []
    assert misfits(dist("alpha"), LINUX) == []  # it says nothing
    check_wheels(entries, LINUX)


def test_a_wheel_for_another_machine_is_refused_with_what_it_is_for():
    entries = [
        *dist("alpha", "cp312-cp312-manylinux_2_17_aarch64"),
        *dist("beta", "py3-none-any"),
        *dist("gamma", "x"),
    ]
    with pytest.raises(Misfits) as caught:
        check_wheels(entries, LINUX)
    info = "-1.0.dist-info/WHEEL"
    assert str(caught.value).splitlines() == [
        f"__pypackages__/alpha{info}: alpha 1.0 is for cp312-cp312-manylinux_2_17_aarch64, {WANTED}",
        f"__pypackages__/gamma{info}: gamma 1.0 is for x, {WANTED}",
    ]


def test_for_the_native_files_of_a_wheel_its_tags_answer():
    entries = dist("alpha", "py3-none-any", record="alpha/_c.so,,\n")
    assert misfits([*entries, held("__pypackages__/alpha/_c.so", ARM)], LINUX) == []
    assert len(misfits([*entries, held("__pypackages__/beta/_c.so", ARM)], LINUX)) == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("_c.cpython-312-x86_64-linux-gnu.so", X86, ""),
        ("_c.cpython-311-x86_64-linux-gnu.so", X86, "Python 3.11"),
        ("_c.cpython-312t-x86_64-linux-gnu.so", X86, "Python 3.12t"),
        ("_c.cpython-312-x86_64-linux-musl.so", X86, "Linux with x86_64-linux-musl"),
        ("_c.cpython-312-aarch64-linux-gnu.so", ARM, "linux aarch64"),
        ("_c.cpython-312-darwin.so", mach_o(0x0100000C), "macos aarch64"),
        ("_c.cp312-win_amd64.pyd", pe(0x8664), "windows x86_64"),
        ("_c.abi3.so", X86, ""),
        ("libc.so.6", elf(8, order=2), "linux machine 8"),
        ("libc.so", b"GROUP ( libc.so.6 )", ""),
        ("libc.dylib", fat(0x01000007, 0x0100000C), "macos aarch64/x86_64"),
        ("readme.so.txt", ARM, ""),
    ],
)
def test_a_native_file_without_a_wheel_says_itself_what_it_is_for(name, content, reason):
    faults = misfits([held(f"__pypackages__/a/{name}", content)], LINUX)
    wanted = f"__pypackages__/a/{name} is for {reason}, {WANTED}"
    assert faults == ([wanted] if reason else [])


def test_of_one_module_for_several_machines_one_must_fit():
    several = [
        held("__pypackages__/a/_c.cpython-312-aarch64-linux-gnu.so", ARM),
        held("__pypackages__/a/_c.cpython-311-x86_64-linux-gnu.so", X86),
    ]
    assert len(misfits(several, LINUX)) == 2
    assert misfits([*several, held("__pypackages__/a/_c.cpython-312-x86_64-linux-gnu.so", X86)], LINUX) == []


def test_a_module_for_macos_fits_there():
    entry = held("__pypackages__/a/_c.cpython-312-darwin.so", fat(0x01000007, 0x0100000C))
    assert misfits([entry], Target("3.12", "macos-arm64")) == []


def test_the_header_of_a_file_on_disk_is_read_and_one_that_cannot_be_is_told(tmp_path):
    path = tmp_path / "c.so"
    path.write_bytes(ARM)
    entry = PackedFile("__pypackages__/c.so", path, len(ARM))
    assert "linux aarch64" in misfits([entry], LINUX)[0]
    path.unlink()
    with pytest.raises(FileUnreadable):
        misfits([entry], LINUX)


@given(
    st.sampled_from([X86, mach_o(7), fat(7, 7), pe(0x8664), b""]), st.binary(max_size=80), st.integers(0, 80)
)
def test_any_header_says_something_or_nothing(head, tail, cut):
    system, machines = native_kind(head[:cut] + tail)
    assert system in {"linux", "macos", "windows", ""}
    assert all(machines)


def test_a_header_that_leads_nowhere_says_nothing():
    assert native_kind(pe(0x8664)[:66]) == ("", frozenset())
    assert native_kind(b"MZ") == ("", frozenset())
    assert native_kind(b"\xca\xfe\xba\xbf\0\0\0\1" + struct.pack(">L", 7)) == (
        "macos",
        frozenset({"machine 7"}),
    )
