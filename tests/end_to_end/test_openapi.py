"""The API as its own description says: whatever a client makes of that, nothing is a fault of the hub's."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .harness import HubProcess, Talk

CHECKED = 180.0  # seconds until the whole check is given up
ENDLESS = [  # what is answered when something happens, or never ends
    "get_log", "get_audit", "get_topic_name", "get_instance_id_stream", "get_instance_id_event", "get_instance_id_once",
    "get_instance_id_events_name", "get_instance_id_event_name", "get_instance_id_once_name", "post_instance_id_inout",
]  # fmt: skip
ENDING = [
    "post_instance_id_stop",
    "post_instance_id_kill",
    "delete_sequence_id",
]  # nothing would be left to ask

ECHO = """
from sequence_sdk import sequence

@sequence(takes="application/octet-stream", gives="application/octet-stream")
async def echo(chunks):
    async for chunk in chunks:
        pass
    yield b""
"""


async def test_no_request_that_fits_the_description_or_does_not_is_a_server_error(
    hub: HubProcess, talk: Talk, tmp_path: Path
) -> None:
    pytest.importorskip("schemathesis")
    sequence = await talk.upload(ECHO)
    instance = await talk.client.start(sequence)
    (tmp_path / "schemathesis.toml").write_text(
        f"""
        [[operations]]
        include-path-regex = "^/sequence/"
        parameters = {{ "path.id" = "{sequence}" }}
        [[operations]]
        include-path-regex = "^/instance/"
        parameters = {{ "path.id" = "{instance}" }}
        """
    )
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{hub.url}/openapi.json"]
    command += ["--checks", "not_a_server_error", "--phases", "coverage,fuzzing", "--max-examples", "3"]
    command += ["--request-timeout", "10", "--seed", "1", "--generation-database", ":memory:"]
    for operation in ENDLESS + ENDING:
        command += ["--exclude-operation-id", operation]
    checked = await asyncio.to_thread(
        subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, timeout=CHECKED, check=False
    )
    assert checked.returncode == 0, checked.stdout[-5000:] + checked.stderr[-2000:]
    found = re.search(r"Selected: (\d+)/(\d+)", checked.stdout)
    assert found is not None
    assert int(found[2]) - int(found[1]) == len(ENDLESS + ENDING)
    assert (await talk.get("/version"))["service"] == "hub-lite"
    assert "Traceback" not in re.sub(r"(?s)Error handling request from.*?BadHttpMessage", "", hub.log())
