"""The stage of this process, made by hand: what the plugin does with it has a test of its own."""

import sys

import pytest

from sequence_sdk.testing.direct import DirectStage
from sequence_sdk.testing.stage import Stage


@pytest.fixture
def direct(request):
    return Stage("direct", DirectStage(), timeout=5.0, neighbours=(sys.modules[request.module.__name__],))
