"""Intervals of shares and means, and an exact test of paired differences; what is drawn again is the prompt."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pellucid.intervals import wilson
from pellucid.records import Record

DRAWS = 2000
MOST_SIGNS = 16
"""Up to so many prompts all signs are enumerated; beyond, 65,536 random ones."""


class Interval(Record):
    """An estimate and how far it can be trusted."""

    mean: float
    """The estimate."""
    low: float | None
    """Lower end; None where a single prompt gives none."""
    high: float | None
    """Upper end."""
    n: int
    """Prompts, or trials."""


def share(successes: int, trials: int) -> Interval:
    """A share with Wilson's interval; NaN of no trials."""
    if not trials:
        return Interval(mean=math.nan, low=None, high=None, n=0)
    low, high = wilson(successes, trials)
    return Interval(mean=successes / trials, low=low, high=high, n=trials)


def bootstrap(values: Sequence[float], seed: int = 0, level: float = 0.95) -> Interval | None:
    """Percentile interval of a mean, prompts drawn with replacement [efron1979]; None where there is no value."""
    found = np.asarray(values, dtype=np.float64)
    if not len(found):
        return None
    if len(found) == 1:
        return Interval(mean=float(found[0]), low=None, high=None, n=1)
    drawn = np.random.default_rng(seed).integers(len(found), size=(DRAWS, len(found)))
    low, high = np.quantile(found[drawn].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=float(found.mean()), low=float(low), high=float(high), n=len(found))


def sign_flip(differences: Sequence[float], seed: int = 0) -> float:
    """One-sided p of paired differences being above 0 by chance: the share of sign patterns with a sum as high.

    [fisher1935] The smallest that n prompts can give is 2^-n.

    >>> sign_flip([1.0, 1.0, 0.0])
    0.25
    """
    found = np.asarray([each for each in differences if each], dtype=np.float64)
    if not len(found):
        return 1.0
    signs = _signs(len(found), seed)
    # Equal sums of other orders of addition count as equal.
    least = found.sum() - 1e-12 * np.abs(found).sum()
    return float((signs @ found >= least).mean())


def _signs(count: int, seed: int) -> Float[np.ndarray, "pattern prompt"]:
    if count <= MOST_SIGNS:
        return np.asarray(1.0 - 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1))
    drawn = 1.0 - 2.0 * np.random.default_rng(seed).integers(2, size=(2**MOST_SIGNS, count))
    # What was observed is one of the patterns, so that p is never 0.
    drawn[0] = 1.0
    return np.asarray(drawn)
