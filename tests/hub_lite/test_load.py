"""How busy the machine is."""

from pathlib import Path

import psutil

from hub_lite.load import LoadMeter


def test_the_load_has_the_keys_of_both_forms(tmp_path: Path) -> None:
    load = LoadMeter([tmp_path, Path("/")]).measure()
    assert load.keys() == {"avgLoad", "currentLoad", "memFree", "memUsed", "fsSize"}
    assert 0 <= load["currentLoad"] <= 100
    assert load["avgLoad"] >= 0
    assert load["memFree"] + load["memUsed"] == psutil.virtual_memory().total
    for disk in load["fsSize"]:
        assert disk.keys() == {"fs", "type", "size", "used", "available", "use", "mount"}
        assert 0 <= disk["available"] <= disk["size"]
        assert 0 <= disk["use"] <= 100


def test_each_disk_is_told_once_that_of_the_first_path_first(tmp_path: Path) -> None:
    disks = LoadMeter([tmp_path, Path("/"), tmp_path / "new", Path("/")]).measure()["fsSize"]
    mounts = [disk["mount"] for disk in disks]
    assert len(set(mounts)) == len(mounts)
    assert str(tmp_path).startswith(mounts[0])
    assert "/" in mounts


def test_what_is_reserved_is_not_available(tmp_path: Path) -> None:
    free = LoadMeter([tmp_path]).measure()["fsSize"][0]["available"]
    assert LoadMeter([tmp_path], reserved_bytes=2**62).measure()["fsSize"][0]["available"] == 0
    some = LoadMeter([tmp_path], reserved_bytes=free // 2).measure()["fsSize"][0]["available"]
    assert some < free


def test_the_processors_are_not_measured_over_too_short_a_time(tmp_path: Path) -> None:
    now = [0.0]
    meter = LoadMeter([tmp_path], clock=lambda: now[0])
    assert meter.measure()["currentLoad"] == 0
    now[0] = 1.0
    measured = meter.measure()["currentLoad"]
    now[0] = 1.9
    assert meter.measure()["currentLoad"] == measured
