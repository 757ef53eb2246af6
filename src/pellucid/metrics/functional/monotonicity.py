"""Faithfulness feature by feature: does a higher score mean that the feature adds, or costs, more?

A correlation is NaN where it is undefined: fewer than three items, or one side constant.
"""

import math
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from pellucid.metrics.functional.agreement import spearman
from pellucid.metrics.functional.correlation import correlation
from pellucid.metrics.functional.inputs import checked, checked_mask

Reading = Literal["gain", "target", "share"]
"""What of a curve is judged: how its gains are ordered, how its values are, or the share of steps that do not fall."""
ROUNDING = 1e-6
"""A fall by less than this part of the largest value is rounding."""


def monotonicity(
    values: Float[np.ndarray, " player"],
    present: Bool[np.ndarray, "point player"],
    curve: Float[np.ndarray, " point"],
    reading: Reading = "gain",
) -> float:
    """How well the target follows the scores as features come, the lowest score first [arya2019].

    ``present``: the coalition at each point, from the empty input to the whole one; ``curve``: the target there. High
    is good. "gain" is the rank correlation of what came, its sum of scores, with what it added: the only reading that
    asks whether the order is right. "target" correlates the step with f, and "share" is the share of steps at which f
    does not fall, the paper's own being whether all are such. Where every feature speaks for the target these two are
    1 in any order, and where features add up the share is the same in any order.
    """
    scores = checked(values)
    there = checked_mask(present, len(scores), "a coalition")
    points = checked(curve, len(there), "the curve")
    gains = np.diff(points)
    if reading == "share":
        return float((gains >= -ROUNDING * np.abs(points).max()).mean()) if len(gains) else math.nan
    if reading == "target":
        return spearman(np.arange(len(points), dtype=np.float64), points)
    came = (there[1:] & ~there[:-1]) @ scores
    return spearman(came, gains)


def monotonicity_correlation(values: Float[np.ndarray, " player"], drops: Float[np.ndarray, " player"]) -> float:
    """Rank correlation of |a_i| with (f(x) - f(x without i))^2 [nguyen2020]. High is good.

    ``drops``: f(x) - f(x without i), a mean where what stands for i is drawn. The paper takes the mean of the squares.
    """
    scores = checked(values)
    return spearman(np.abs(scores), np.abs(checked(drops, len(scores), "the drops")))


def faithfulness_estimate(
    values: Float[np.ndarray, " player"], drops: Float[np.ndarray, " player"], ranks: bool = False
) -> float:
    """Correlation of a_i with f(x) - f(x without i) [alvarezmelis2018senn]; with ``ranks`` Spearman's. High is good.

    ``drops`` are what occlusion attributes, so that occlusion with the same imputer scores 1.
    """
    scores = checked(values)
    found = checked(drops, len(scores), "the drops")
    return spearman(scores, found) if ranks else float(correlation(scores, found))
