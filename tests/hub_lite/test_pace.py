"""How often Instances report when there are many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_lite.pace import Pace, pace_for


@pytest.mark.parametrize(
    ("count", "rate"),
    [(0, 1), (1, 1), (100, 1), (101, 1 / 2), (200, 1 / 2), (500, 1 / 8), (1000, 1 / 16), (10**9, 1 / 64)],
)
def test_all_together_make_a_hundred_reports_a_second_at_most(count, rate):
    assert pace_for(count) == rate


def test_one_that_comes_and_goes_does_not_change_the_pace_of_all():
    pace = Pace()
    assert pace.changes(101)
    assert [pace.changes(count) for count in (100, 101, 100, 99, 101)] == [False] * 5
    assert pace.changes(75)
    assert pace.rate == 1


@given(st.lists(st.integers(0, 5000)))
def test_the_pace_is_never_too_fast_and_back_where_it_was_when_all_are_gone(counts):
    pace = Pace()
    for count in counts:
        before = pace.rate
        assert pace.changes(count) == (pace.rate != before)
        assert pace.rate <= pace_for(count)
    pace.changes(0)
    assert pace.rate == 1
