"""What JSON can hold, and what not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk._json import check_json

CIRCLE: list = []
CIRCLE.append(CIRCLE)
DEEP: list = []
for _ in range(100_000):
    DEEP = [DEEP]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, b"bytes", float("nan"), [float("inf")], {(1, 2): 3}, CIRCLE, DEEP],
    ids=["object", "set", "bytes", "nan", "infinity", "key", "circle", "deep"],
)
def test_what_is_no_json_is_refused_by_its_name(value):
    with pytest.raises(TypeError, match=r"^the value is not JSON: "):
        check_json("the value", value)


@given(VALUES)
def test_what_is_taken_can_be_written_and_read(value):
    try:
        check_json("it", value)
    except TypeError:
        with pytest.raises((TypeError, ValueError)):
            json.dumps(value, allow_nan=False)
    else:
        assert json.loads(json.dumps(value)) == value
