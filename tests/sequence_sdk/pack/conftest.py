"""What the tests of packing share."""

import os

import pytest


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever a test asks for, nobody is asked but the wheelhouse."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
