"""The composition root: where a hub listens, and that nothing is left when it does no more."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from hub_lite.app import serve
from hub_lite.client import HubClient
from hub_lite.settings import Settings, SettingsError


@pytest.fixture
def settings(nothing_left: None, tmp_path: Path) -> Settings:
    return Settings(port=0, data_dir=tmp_path / "data")


@pytest.mark.parametrize("hostname", ["127.0.0.1", "::1", "localhost"])
async def test_a_hub_answers_at_its_url_while_the_block_lasts(settings: Settings, hostname: str) -> None:
    async with serve(replace(settings, hostname=hostname)) as running, HubClient(running.url) as client:
        assert (await client.version())["service"] == "hub-lite"
        assert running.api_url == f"{running.url}/api/v1"
    assert not (settings.data_dir / "runners.sock").exists()


async def test_a_taken_port_is_said_so_before_the_data_folder_is_touched(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            SettingsError, match=rf"cannot listen on 127\.0\.0\.1:{port}.*choose another --port"
        ):
            async with serve(replace(settings, port=port)):
                pass
    assert not settings.data_dir.exists()


@pytest.mark.parametrize("hostname", ["256.1.1.1", "no such host", "x" * 100, "..", "192.0.2.1"])
async def test_a_host_that_is_not_ours_is_said_so(settings: Settings, hostname: str) -> None:
    with pytest.raises(SettingsError, match="cannot listen on"):
        async with serve(replace(settings, hostname=hostname)):
            pass


async def test_a_data_folder_has_one_hub(settings: Settings) -> None:
    async with serve(settings):
        with pytest.raises(SettingsError, match="has this data folder"):
            async with serve(settings):
                pass


async def test_an_error_in_the_block_ends_the_hub_too(settings: Settings) -> None:
    with pytest.raises(ZeroDivisionError):
        async with serve(settings) as running:
            raise ZeroDivisionError
    async with HubClient(running.url) as client:
        with pytest.raises(Exception, match="no hub answers"):
            await client.version()
