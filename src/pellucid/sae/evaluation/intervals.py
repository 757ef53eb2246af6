"""Intervals of numbers that are made of sums over samples, by resampling the samples."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from pellucid.sae.evaluation.records import Interval

DRAWS = 2000
TAILS = (0.025, 0.975)
Statistic = Callable[[Float[np.ndarray, "*draw column"]], Float[np.ndarray, "*draw"]]


def interval(sums: Float[np.ndarray, "sample column"], statistic: Statistic, seed: int) -> Interval:
    """A statistic of the column sums over all samples, with its percentile bootstrap interval [efron1979].

    Whole samples are drawn with replacement, since what stands in one sample is not independent. Draws on which the
    statistic is not a finite number are left out.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(sums.sum(0)))
        if len(sums) < 2:
            return Interval(value=_finite(value), low=None, high=None)
        generator = np.random.default_rng(seed)
        weights = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=DRAWS)
        drawn = statistic(weights @ sums)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(value=_finite(value), low=None, high=None)
    low, high = np.quantile(drawn, TAILS)
    return Interval(value=_finite(value), low=float(low), high=float(high))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
