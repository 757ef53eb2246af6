"""Complexity: on how few features an attribution stands. A control beside other measures, never a quality.

Both look at |a|, are unchanged by positive scaling and lie in [0, 1]. They are NaN where all scores are 0.
"""

import math

import numpy as np
from jaxtyping import Float

from pellucid.metrics.functional.inputs import checked


def sparseness(values: Float[np.ndarray, " player"]) -> float:
    """Gini index of |a|: sum over i of (2 i - d - 1) |a|_(i) / (d sum of |a|), i = 1 for the smallest [chalasani2020].

    0 for equal sizes, 1 - 1/d for a single score.
    """
    shares = _shares(values)
    if shares is None:
        return math.nan
    d = len(shares)
    return max(0.0, float((2 * np.arange(1, d + 1) - d - 1) @ np.sort(shares)) / d)


def complexity(values: Float[np.ndarray, " player"]) -> float:
    """Entropy of |a| / sum of |a| over log d [bhatt2020]: 1 for equal sizes, 0 for a single score."""
    shares = _shares(values)
    if shares is None:
        return math.nan
    if len(shares) == 1:
        return 0.0
    counted = shares[shares > 0]
    return float(np.clip(-(counted @ np.log(counted)) / math.log(len(shares)), 0, 1))


def _shares(values: Float[np.ndarray, " player"]) -> Float[np.ndarray, " player"] | None:
    """|a| / sum of |a|; None where the sum is 0."""
    sizes = np.abs(checked(values))
    largest = sizes.max()
    if not largest:
        return None
    sizes = sizes / largest
    return np.asarray(sizes / sizes.sum())
