"""The Python and the machine that a package is for."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging import tags

from sequence_sdk.pack.errors import UnknownTarget
from sequence_sdk.pack.target import SHORT_NAMES, Target, admits, same_machine

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def fits(target: Target, tag: str) -> bool:
    return not tags.parse_tag(tag).isdisjoint(target.tags())


def test_without_a_name_the_target_is_this_interpreter_on_this_machine():
    target = Target()
    assert target.tags() == tuple(tags.sys_tags())
    assert target.is_here
    assert str(target) == f"this machine and Python {HERE}"
    assert target.tag is None
    assert target.machine == same_machine(target.machine)
    assert target.system in {"linux", "macos"}
    assert target.flags == sys.abiflags


def test_this_python_by_name_is_this_one():
    assert Target(HERE).is_here
    assert Target(f"{HERE}.0").tags() == Target().tags()


def test_another_python_on_this_machine_takes_the_wheels_of_this_machine():
    target = Target("3.99")
    assert not target.is_here
    assert target.flags == ""
    assert target.tags()[0] == tags.Tag("cp399", "cp399", next(tags.platform_tags()))


@pytest.mark.parametrize(
    ("platform", "system", "libc", "machine", "first"),
    [
        ("linux-x86_64", "linux", "gnu", "x86_64", "manylinux_2_28_x86_64"),
        ("linux-aarch64", "linux", "gnu", "aarch64", "manylinux_2_28_aarch64"),
        ("musllinux-x86_64", "linux", "musl", "x86_64", "musllinux_1_2_x86_64"),
        ("musllinux-aarch64", "linux", "musl", "aarch64", "musllinux_1_2_aarch64"),
        ("macos-arm64", "macos", "", "aarch64", "macosx_13_0_arm64"),
        ("macos-x86_64", "macos", "", "x86_64", "macosx_13_0_x86_64"),
        ("windows-x86_64", "windows", "", "x86_64", "win_amd64"),
        ("windows-arm64", "windows", "", "aarch64", "win_arm64"),
        ("manylinux2014_x86_64", "linux", "gnu", "x86_64", "manylinux_2_17_x86_64"),
        ("manylinux_2_39_aarch64", "linux", "gnu", "aarch64", "manylinux_2_39_aarch64"),
        ("macosx_14_0_arm64", "macos", "", "aarch64", "macosx_14_0_arm64"),
    ],
)
def test_a_platform_has_a_system_a_machine_and_tags(platform, system, libc, machine, first):
    target = Target("3.12", platform)
    assert (target.system, target.libc, target.machine) == (system, libc, machine)
    assert str(target.tags()[0]) == f"cp312-cp312-{first}"
    assert not target.is_here
    assert str(target) == f"{platform} and Python 3.12"


@pytest.mark.parametrize(
    ("tag", "is_taken"),
    [
        ("cp312-cp312-manylinux_2_28_x86_64", True),
        ("cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("cp312-cp312-manylinux2010_x86_64", True),
        ("cp312-cp312-manylinux1_x86_64", True),
        ("cp39-abi3-manylinux2014_x86_64", True),
        ("py3-none-manylinux2014_x86_64", True),
        ("py2.py3-none-any", True),
        ("cp312-cp312-linux_x86_64", True),
        ("cp312-cp312-manylinux_2_29_x86_64", False),
        ("cp311-cp311-manylinux_2_17_x86_64", False),
        ("cp312-cp312t-manylinux_2_17_x86_64", False),
        ("cp313-abi3-manylinux_2_17_x86_64", False),
        ("cp312-cp312-musllinux_1_2_x86_64", False),
        ("cp312-cp312-manylinux_2_17_aarch64", False),
        ("cp312-cp312-win_amd64", False),
    ],
)
def test_a_wheel_fits_where_what_it_was_built_for_is_there(tag, is_taken):
    assert fits(Target("3.12", "linux-x86_64"), tag) is is_taken


@pytest.mark.parametrize(
    "platform",
    ["plan9", "manylinux_2_16_x86_64", "musllinux_1_1_x86_64", "win32", "macosx_10_0_arm64", "linux", ""],
)
def test_a_platform_that_is_not_known_is_refused_with_those_that_are(platform):
    with pytest.raises(UnknownTarget) as caught:
        Target(platform=platform)
    assert str(caught.value).startswith(
        f"--platform {platform} is not known; say linux-x86_64, linux-aarch64, "
    )
    assert all(name in str(caught.value) for name in SHORT_NAMES)


@pytest.mark.parametrize("python", ["3", "2.7", "py312", "3.12.", "3.12\n"])
def test_a_python_that_is_no_version_is_refused(python):
    with pytest.raises(UnknownTarget, match=r"is not known; say a version such as 3\.12"):
        Target(python)


@pytest.mark.parametrize(
    ("wanted", "python", "is_admitted"),
    [
        (">=3.12", "3.11", False),
        (">=3.11.4", "3.11", True),
        (">=3.11.4", "3.11.3", False),
        (">3.11", "3.11", True),
        ("<=3.11", "3.11", True),
        ("<3.12,>=3.11", "3.12", False),
        (">=3.8 <3.11", "3.11", False),
        (">=3.8 <3.11 || >=3.12", "3.12", True),
        ("^3.11", "3.13", True),
        ("^3.12", "3.11", False),
        ("~3.11", "3.12", False),
        ("~>3.11.2", "3.11", True),
        ("~=3.11", "3.13", True),
        ("!=3.11.*", "3.11", False),
        ("!=3.11.2", "3.11", True),
        ("3.11 - 3.13", "3.13", True),
        ("3.11 - 3.13", "3.14", False),
        ("3.8.x", "3.11", False),
        ("3.x", "3.11", True),
        ("*", "3.11", True),
        ("", "3.11", True),
        ("3.8.0", "3.11", True),
        ("==3.8", "3.11", True),
        ("3.8.0 || 3.9.0", "3.11", True),
        ("3.8.0 || >=3.12", "3.11", False),
        ("3.11 || >=3.13", "3.11", True),
        ("~=3", "3.11", True),
        ("latest", "3.11", True),
        (">=3.12 or so", "3.11", True),
        ("v3.12rc1 || >=3.13", "3.12", True),
    ],
)
def test_a_range_for_npm_or_for_python_admits_versions(wanted, python, is_admitted):
    assert admits(wanted, python) is is_admitted


@given(st.text("3.12 0<>=!~^|*x-,v"))
def test_any_text_is_a_range_or_admits_all(wanted):
    assert admits(wanted, "3.11") in {True, False}
