"""Intervals of counted shares against scipy."""

import pytest
from scipy import stats

from pellucid.intervals import wilson


@pytest.mark.parametrize(("successes", "trials"), [(0, 20), (20, 20), (13, 20), (1, 1), (50, 400), (0, 7), (3, 10)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_agrees_with_scipy(successes, trials, level):
    oracle = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    assert wilson(successes, trials, level) == pytest.approx((oracle.low, oracle.high), abs=1e-12)
