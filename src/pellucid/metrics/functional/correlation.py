"""Faithfulness as correlation: do the scores of a random subset sum to what its removal costs?

Drawing subsets is one step, reducing what the model said about them is another. A correlation is NaN where it is
undefined: fewer than three items, or one side constant. It then says nothing about the attribution, good or bad.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from pellucid.metrics.functional.inputs import checked, checked_count, checked_mask

CONSTANT = 1e-12
"""A spread below this part of the largest size is rounding: sums of equal scores differ by as much."""


def correlation(
    first: Float[np.ndarray, "*row item"], second: Float[np.ndarray, "*row item"]
) -> Float[np.ndarray, "*row"]:
    """Pearson correlation of each row, in [-1, 1]; NaN for a constant row and for fewer than three items."""
    x = checked(first, what="the first side of the correlation")
    y = checked(second, x.shape[-1], "the second side of the correlation")
    if x.shape[-1] < 3:
        return np.full(x.shape[:-1], np.nan)
    x, y = _centred(x), _centred(y)
    scale = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    cosine = np.clip((x * y).sum(-1) / np.where(scale > 0, scale, 1), -1, 1)
    return np.asarray(np.where(scale > 0, cosine, np.nan))


def _centred(values: Float[np.ndarray, "*row item"]) -> Float[np.ndarray, "*row item"]:
    """Deviations from the mean of a row in units of the largest one, so that no square underflows; 0 if constant."""
    size = np.abs(values).max(-1, keepdims=True)
    values = values / np.where(size > 0, size, 1)
    values = values - values.mean(-1, keepdims=True)
    spread = np.abs(values).max(-1, keepdims=True)
    return np.asarray(np.where(spread > CONSTANT, values / np.where(spread > 0, spread, 1), 0))


def subsets(players: int, size: int, count: int, seed: int) -> Bool[np.ndarray, "subset player"]:
    """Random subsets of ``size`` players, drawn with replacement: True for the members, whom a game takes away."""
    members: Bool[np.ndarray, "subset player"] = subsets_by_size(players, (size,), count, seed)[0]
    return members


def subsets_by_size(
    players: int, sizes: Sequence[int], count: int, seed: int
) -> Bool[np.ndarray, "size subset player"]:
    """``count`` random subsets of each size, True for the members. Raises InputError for a size outside 1 .. n."""
    checked_count(count, 2**31, "the number of subsets")
    generator = np.random.default_rng(seed)
    members = np.zeros((len(sizes), count, players), dtype=bool)
    for row, size in zip(members, sizes, strict=True):
        checked_count(size, players, "the size of a subset")
        chosen = np.argpartition(generator.random((count, players)), size - 1, axis=1)[:, :size]
        np.put_along_axis(row, chosen, True, axis=1)
    return members


def faithfulness_correlation(
    values: Float[np.ndarray, " player"],
    members: Bool[np.ndarray, "subset player"],
    drops: Float[np.ndarray, " subset"],
) -> float:
    """Pearson correlation over random subsets S of sum over S of a, and f(x) - f(x without S) [bhatt2020].

    ``drops``: f(x) - f(x without the members). High is good. Its noise is about 1/sqrt(subsets). NaN where undefined,
    such as for equal scores.
    """
    scores = checked(values)
    sums = checked_mask(members, len(scores), "the subsets") @ scores
    return float(correlation(sums, checked(drops, len(sums), "the drops")))


def sensitivity_n(
    values: Float[np.ndarray, " player"],
    members: Bool[np.ndarray, "size subset player"],
    drops: Float[np.ndarray, "size subset"],
) -> Float[np.ndarray, " size"]:
    """The same correlation for every size of the subsets: a curve [ancona2018].

    NaN at a size where it is undefined: at n all subsets are the same. Report the curve; its mean depends on the sizes.
    """
    scores = checked(values)
    sums = checked_mask(members, len(scores), "the subsets") @ scores
    return correlation(sums, checked(drops, sums.shape[-1], "the drops"))


def infidelity(
    values: Float[np.ndarray, " player"],
    perturbations: Float[np.ndarray, "draw player"],
    drops: Float[np.ndarray, " draw"],
    optimal_scale: bool = False,
) -> float:
    """Mean over draws of a perturbation I of (I a - (f(x) - f(x - I)))^2 [yeh2019, def. 2.1]. Low is good.

    ``perturbations``: I in the unit that the scores are a rate of: the change of the input for a sensitivity, the share
    of a feature's presence (1 for its removal) for a contribution. ``optimal_scale`` first multiplies a by
    beta = E[(I a) df] / E[(I a)^2] [yeh2019], for scores known only up to a positive factor. A negative beta
    would make a of its negation, so beta is then 0: the score is that of an attribution which says nothing.
    """
    scores = checked(values)
    predicted = checked(perturbations, len(scores), "a perturbation") @ scores
    found = checked(drops, len(predicted), "the drops")
    if optimal_scale:
        predicted = predicted * positive_scale(predicted, found)
    return float(np.mean((predicted - found) ** 2))


def positive_scale(values: Float[np.ndarray, " item"], truth: Float[np.ndarray, " item"]) -> float:
    """The s >= 0 that makes the mean of (s values - truth)^2 smallest; 0 where all values are 0."""
    size = np.abs(values).max()
    if not size:
        return 0.0
    unit = values / size
    return float(max(0.0, unit @ truth / (unit @ unit)) / size)
