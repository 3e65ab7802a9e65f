"""Packages that import ``scramjet.streams`` and bring none get ours; one that is there wins."""

import importlib
import sys

import pytest

from sequence_sdk import scramjet_names, stream


@pytest.fixture(autouse=True)
def clean():
    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] == "scramjet"]:
            del sys.modules[name]

    finders = list(sys.meta_path)
    forget()
    yield
    forget()
    sys.meta_path[:] = finders
    importlib.invalidate_caches()


@pytest.fixture
def brought(tmp_path, monkeypatch):
    package = tmp_path / "scramjet"
    package.mkdir()
    (package / "__init__.py").write_text("whose = 'theirs'")
    monkeypatch.syspath_prepend(tmp_path)
    return package


@pytest.fixture
def nothing_brought(monkeypatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "sfp" not in entry])
    if importlib.util.find_spec("scramjet") is not None:
        pytest.skip("a package named scramjet is installed here")


@pytest.mark.usefixtures("nothing_brought")
def test_the_names_are_ours_once_installed():
    with pytest.raises(ImportError):
        importlib.import_module("scramjet.streams")
    scramjet_names.install()
    from scramjet import streams
    from scramjet.pyfca import MultipleEnd, WriteAfterEnd
    from scramjet.streams import Stream, StreamAlreadyConsumed, StringStream, UnsupportedOperation

    assert (Stream, StringStream) == (stream.Stream, stream.StringStream)
    assert (StreamAlreadyConsumed, UnsupportedOperation) == (
        stream.StreamAlreadyConsumed,
        stream.UnsupportedOperation,
    )
    assert (MultipleEnd, WriteAfterEnd) == (stream.MultipleEnd, stream.WriteAfterEnd)
    assert streams.__doc__ == "Names of ``scramjet.streams``, given by ``sequence_sdk.stream``."
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("scramjet.other")


def test_they_are_installed_once_and_behind_all_others():
    scramjet_names.install()
    scramjet_names.install()
    assert sys.meta_path.count(scramjet_names._finder) == 1
    assert sys.meta_path[-1] is scramjet_names._finder


def test_a_package_that_brings_its_own_has_its_own(brought):
    (brought / "streams.py").write_text("Stream = 'theirs'")
    scramjet_names.install()
    from scramjet.streams import Stream

    assert Stream == "theirs"


def test_nothing_of_ours_is_put_into_a_package_that_was_brought(brought):
    scramjet_names.install()
    assert importlib.import_module("scramjet").whose == "theirs"
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("scramjet.streams")
    assert scramjet_names._finder.find_spec("scramjet.streams") is None
    del sys.modules["scramjet"]
    assert scramjet_names._finder.find_spec("scramjet.streams") is None
