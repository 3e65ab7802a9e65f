"""Counters and gauges: what they count, from however many threads, and what is shown of them."""

import math
import threading
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequence_sdk.metrics import Metrics


@pytest.fixture
def metrics():
    return Metrics()


def test_without_metrics_nothing_is_shown(metrics):
    assert metrics.snapshot() == {}


def test_a_counter_grows_from_nothing(metrics):
    lines = metrics.counter("lines", "what was read")
    assert metrics.snapshot() == {"lines": 0}
    lines.add()
    lines.add(3)
    lines.add(0)
    lines.add(0.5)
    assert (lines.value, metrics.snapshot()) == (4.5, {"lines": 4.5})
    assert (lines.name, lines.help) == ("lines", "what was read")


def test_a_gauge_goes_up_and_down(metrics):
    depth = metrics.gauge("queue.depth")
    depth.set(5)
    depth.add(-7)
    depth.add(0.5)
    assert metrics.snapshot() == {"queue.depth": -1.5}
    depth.set(0)
    assert metrics.snapshot() == {"queue.depth": 0}


def test_the_same_name_is_the_same_metric(metrics):
    assert metrics.counter("n") is metrics.counter("n", "help that comes late")
    assert metrics.gauge("g") is metrics.gauge("g")
    metrics.counter("n").add()
    metrics.counter("n").add()
    assert metrics.snapshot() == {"n": 2, "g": 0}


def test_one_name_is_one_kind(metrics):
    metrics.counter("n")
    with pytest.raises(ValueError, match="the metric 'n' is a counter already, and cannot be a gauge too"):
        metrics.gauge("n")
    metrics.gauge("g")
    with pytest.raises(ValueError, match="the metric 'g' is a gauge already, and cannot be a counter too"):
        metrics.counter("g")


@pytest.mark.parametrize("name", ["a", "_", "A9", "a.b_c.d", "_1"])
def test_these_are_names(metrics, name):
    assert metrics.counter(name).name == name


@pytest.mark.parametrize("name", ["", "9", ".a", "a b", "a-b", "ä", "a\n", "a{b}"])
def test_these_are_no_names(metrics, name):
    with pytest.raises(ValueError, match="is no name of a metric"):
        metrics.counter(name)
    assert metrics.snapshot() == {}


@pytest.mark.parametrize("n", [-1, -0.001, float("-inf"), Decimal(-1)])
def test_a_counter_does_not_fall(metrics, n):
    with pytest.raises(ValueError, match=r"the counter 'n' only grows: .* is below 0"):
        metrics.counter("n").add(n)
    assert metrics.snapshot() == {"n": 0}


@pytest.mark.parametrize("x", ["1", None, [1], b"1", 1j])
def test_what_is_no_number_is_told(metrics, x):
    for change in (metrics.counter("n").add, metrics.gauge("g").set, metrics.gauge("g").add):
        with pytest.raises(TypeError, match=f"a metric is a number, not {type(x).__name__}"):
            change(x)
    assert metrics.snapshot() == {"n": 0, "g": 0}


@pytest.mark.parametrize("x", [Decimal("2.5"), Fraction(5, 2), 2.5])
def test_whatever_is_a_number_is_shown_as_a_plain_one(metrics, x):
    metrics.counter("n").add(x)
    metrics.gauge("g").set(x)
    metrics.gauge("h").add(x)
    assert metrics.snapshot() == {"n": 2.5, "g": 2.5, "h": 2.5}
    assert {type(value) for value in metrics.snapshot().values()} == {float}


def test_true_counts_as_one(metrics):
    metrics.counter("n").add(True)
    metrics.gauge("g").set(True)
    assert repr(metrics.snapshot()) == "{'n': 1, 'g': 1}"


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf])
def test_what_has_no_json_is_left_out_until_it_is_a_number_again(metrics, x):
    ratio = metrics.gauge("ratio")
    ratio.set(x)
    assert metrics.snapshot() == {}
    ratio.set(1)
    assert metrics.snapshot() == {"ratio": 1}


@given(st.lists(st.integers(0, 10**6), max_size=20))
def test_a_counter_is_the_sum_of_what_was_added(numbers):
    counter = Metrics().counter("n")
    for number in numbers:
        counter.add(number)
    assert counter.value == sum(numbers)


def test_nothing_is_lost_between_threads(metrics):
    barrier = threading.Barrier(4)

    def work():
        barrier.wait()
        for _ in range(5000):
            metrics.counter("n").add()
            metrics.gauge("g").add(-1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.snapshot() == {"n": 20_000, "g": -20_000}


# Registered ones


def test_a_source_is_asked_each_time(metrics):
    items = {"in": 1}
    metrics.register(lambda: {"items": dict(items)})
    metrics.counter("own").add()
    assert metrics.snapshot() == {"own": 1, "items": {"in": 1}}
    items["in"] = 2
    assert metrics.snapshot()["items"] == {"in": 2}


def test_the_names_of_a_source_are_taken(metrics):
    metrics.register(lambda: {"items": {}})
    with pytest.raises(
        ValueError, match="the metric 'items' is there already, and is not the author's to set"
    ):
        metrics.gauge("items")


def test_a_source_that_raises_adds_nothing_and_does_not_keep_others_from_it(metrics):
    metrics.register(lambda: 1 / 0)
    metrics.register(lambda: {"a": 1})
    metrics.counter("n")
    assert metrics.snapshot() == {"n": 0, "a": 1}
