"""Metrics: what is none is left out and named, and the text for Prometheus is one."""

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.metrics import MAX_METRICS, MAX_NAME, checked, gauge, of_sequences

SAMPLE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{\w+="(?:[^"\\\n]|\\[\\"n])*"(?:,\w+="(?:[^"\\\n]|\\[\\"n])*")*\})? (\S+)'
)


def test_numbers_by_name_or_by_two_are_metrics() -> None:
    metrics = {"a": 1, "items": {"in": 3, "out": 0.5}, "empty": {}}
    assert checked(metrics).metrics == {"a": 1, "items": {"in": 3, "out": 0.5}}
    assert checked(metrics).fault == ""


@pytest.mark.parametrize(
    ("value", "kept", "said"),
    [
        (None, {}, "metrics must be an object, not None"),
        ([1], {}, "metrics must be an object, not [1]"),
        ({"a": "1", "b": 2}, {"b": 2}, "metrics are left out: 'a' must be a number, not '1'"),
        ({"a": True}, {}, "'a' must be a number, not True"),
        ({"a": None}, {}, "'a' must be a number, not None"),
        ({"a": math.inf, "b": math.nan}, {}, "'a' must be a finite number; 'b' must be a finite number"),
        ({"a": 10**400}, {}, "'a' must be a finite number"),
        ({"": 1}, {}, "'' has an empty name"),
        ({"a": {"": 1, "b": 2}}, {"a": {"b": 2}}, "'a.' has an empty name"),
        ({"a": {"b": {"c": 1}}}, {}, "'a.b' must be a number, not {'c': 1}"),
        ({"n" * (MAX_NAME + 1): 1}, {}, f"has a name of more than {MAX_NAME} characters"),
        ({"a": "x" * 1000}, {}, "not 'xxx"),
        (dict.fromkeys("abcd", ""), {}, "'c' must be a number, not ''"),
    ],
)  # fmt: skip
def test_what_is_no_metric_is_left_out_and_named(value: Any, kept: Any, said: str) -> None:
    found = checked(value)
    assert found.metrics == kept
    assert said in found.fault
    assert len(found.fault) < 800


def test_there_are_at_most_256_numbers() -> None:
    many = {
        "a": {str(number): number for number in range(200)},
        "b": {str(number): number for number in range(200)},
    }
    found = checked(many)
    assert sum(len(group) for group in found.metrics.values()) == MAX_METRICS
    assert f"there are more than {MAX_METRICS}" in found.fault


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_whatever_is_reported_what_is_kept_is_metrics(value: Any) -> None:
    found = checked(value)
    again = checked(found.metrics)
    assert (again.metrics, again.fault) == (found.metrics, "")
    json.dumps(found.metrics, allow_nan=False)


@given(st.lists(st.tuples(st.text(max_size=5), JSON), max_size=3))
def test_the_text_for_prometheus_has_each_sample_once_and_each_name_together(
    reports: list[tuple[str, Any]],
) -> None:
    named = {instance: checked(value).metrics for instance, value in reports}
    lines = list(
        of_sequences(({"instance": name, "sequence": "s"}, metrics) for name, metrics in named.items())
    )
    samples = []
    for line in lines:
        if line.startswith("# TYPE "):
            samples.append((line, []))
            continue
        name, labels, value = SAMPLE.fullmatch(line).groups()
        assert samples[-1][0] == f"# TYPE {name} untyped"
        assert math.isfinite(float(value))
        samples[-1][1].append(labels)
    assert len({head for head, _ in samples}) == len(samples)
    assert all(len(set(labels)) == len(labels) for _, labels in samples)


def test_names_are_those_of_the_sequence_as_far_as_prometheus_has_their_signs() -> None:
    labels = {"instance": 'i"\\\n', "sequence": "s"}
    metrics = {"items": {"in": 3}, "rows/s": 1.5, "rows_s": 7, "größe": 10**30}
    marks = r'{instance="i\"\\\n",sequence="s"}'
    assert list(of_sequences([(labels, metrics), ({}, {"items": {"in": 4}})])) == [
        "# TYPE hub_lite_sequence_items_in untyped",
        f"hub_lite_sequence_items_in{marks} 3",
        "hub_lite_sequence_items_in 4",
        "# TYPE hub_lite_sequence_rows_s untyped",
        f"hub_lite_sequence_rows_s{marks} 1.5",
        "# TYPE hub_lite_sequence_gr__e untyped",
        f"hub_lite_sequence_gr__e{marks} {10**30}",
    ]


def test_a_gauge_says_what_it_is() -> None:
    assert list(gauge("g", "What it is.", [({"a": "b"}, 1), ({}, 0.5)])) == [
        "# HELP g What it is.",
        "# TYPE g gauge",
        'g{a="b"} 1',
        "g 0.5",
    ]
