"""Removal: what happens to the target as features go in the order of their scores.

A metric is three steps: ``order`` and masks (here), the values of those coalitions (a game's), a reduction (here).
Curves hold both ends, the whole input and the empty one. The pixel-flipping areas MoRF and LeRF [bach2015, samek2017]
and deletion [petsiuk2018] are the ``area`` of the curve of ``removed`` coalitions, insertion [petsiuk2018] that of
``inserted`` ones.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from pellucid.errors import InputError
from pellucid.metrics.functional.inputs import checked, checked_count, checked_number

BINS = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Shares of the features that ERASER removes [deyoung2020, section 4]."""
RARE = math.log(1e-9)
"""Log-probabilities below this one count as this one: a single vanishing probability would rule every mean."""


def order(values: Float[np.ndarray, " player"], seed: int) -> Int[np.ndarray, " player"]:
    """Players from the highest score to the lowest: the MoRF order; reversed, it is LeRF [bach2015].

    Equal scores are put in a random order by ``seed``, and so that the order of -a is exactly the reversed order of a
    (unless all scores are 0). Same values, same seed, same order.
    """
    scores = checked(values)
    ties = np.random.default_rng(seed).permutation(len(scores))
    leading = scores[np.flatnonzero(scores)[:1]]
    # a and -a share one draw of the ties, read in opposite directions.
    if leading.size and leading[0] < 0:
        return np.asarray(np.lexsort((ties, scores))[::-1])
    return np.asarray(np.lexsort((ties, -scores)))


def steps_of(players: int, steps: int) -> Int[np.ndarray, " point"]:
    """How many players are gone at each point of a curve: an even grid from 0 to ``players``, at most ``steps`` + 1."""
    checked_count(players, 2**31, "the number of features")
    checked_count(steps, 2**31, "the number of steps")
    if steps >= players:
        return np.arange(players + 1)
    return np.unique(np.linspace(0, players, steps + 1).round().astype(np.int64))


def bin_sizes(players: int, bins: Sequence[float] = BINS) -> Int[np.ndarray, " bin"]:
    """How many players make up each share of ``bins``: rounded up, so that no bin is empty [deyoung2020, section 4].

    A short input has bins of equal size. They stay, so that every input is averaged over the same number of bins.
    """
    checked_count(players, 2**31, "the number of features")
    if not bins or min(bins) <= 0 or max(bins) > 1:
        raise InputError(f"the bins are {tuple(bins)}; each must be a share above 0 and at most 1.")
    # 0.07 * 100 is 7.000000000000001 and must not become 8.
    return np.ceil(np.asarray(bins) * players - 1e-9).astype(np.int64)


def removed(
    order: Int[np.ndarray, " player"], sizes: Int[np.ndarray, " coalition"]
) -> Bool[np.ndarray, "coalition player"]:
    """Coalitions of the players that stay when the first ``sizes`` of an order are taken away."""
    return _places(order, sizes) >= sizes[:, None]


def inserted(
    order: Int[np.ndarray, " player"], sizes: Int[np.ndarray, " coalition"]
) -> Bool[np.ndarray, "coalition player"]:
    """Coalitions of only the first ``sizes`` of an order: the complement of ``removed``."""
    return _places(order, sizes) < sizes[:, None]


def _places(order: Int[np.ndarray, " player"], sizes: Int[np.ndarray, " coalition"]) -> Int[np.ndarray, " player"]:
    if sizes.min() < 0 or sizes.max() > len(order):
        raise InputError(f"the sizes run from {sizes.min()} to {sizes.max()}; allowed are 0 to {len(order)} features.")
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def area(curve: Float[np.ndarray, " point"], fractions: Float[np.ndarray, " point"]) -> float:
    """Mean of a curve by trapezoids: the area under it over the length of its axis [petsiuk2018].

    ``fractions``: share of the features removed (or inserted) at each point, ascending. In the unit of the target.
    """
    axis = checked(fractions, what="the fractions")
    values = checked(curve, len(axis), "the curve")
    if len(axis) < 2 or (np.diff(axis) <= 0).any():
        raise InputError(f"the fractions are {axis.tolist()}; an area needs at least two, each above the one before.")
    return float(np.trapezoid(values, axis) / (axis[-1] - axis[0]))


def srg(
    lerf_curve: Float[np.ndarray, " point"],
    morf_curve: Float[np.ndarray, " point"],
    fractions: Float[np.ndarray, " point"],
) -> float:
    """Symmetric relevance gain: area(LeRF) - area(MoRF) [blucher2024]; also called ABPC.

    High is good, 0 is what a random order expects, and the inverted attribution has exactly the negated value.
    """
    lerf = checked(lerf_curve, what="the LeRF curve")
    return area(lerf - checked(morf_curve, len(lerf), "the MoRF curve"), fractions)


def comprehensiveness(full: float, without: Float[np.ndarray, " bin"]) -> float:
    """What is lost without the top features: mean over the bins of f(x) - f(x without the top) [deyoung2020, eq. 1, 3].

    ``without``: the target on ``removed(order, bin_sizes(n))``. High is good. The mean is over the bins alone, as in
    the code of ERASER: the paper's sum also has a term k = 0, which is 0, and divides by |B| + 1 (a factor 5/6).
    """
    return checked_number(full, "the target on the input") - float(checked(without, what="the curve").mean())


def sufficiency(full: float, only: Float[np.ndarray, " bin"]) -> float:
    """What is lost with the top features alone: mean over bins of f(x) - f(only the top) [deyoung2020, eq. 2, 3].

    ``only``: the target on ``inserted(order, bin_sizes(n))``. Low is good, and it may be negative. The mean is over the
    bins alone, as in the code of ERASER: k = 0, the empty input, is the same for every attribution.
    """
    return checked_number(full, "the target on the input") - float(checked(only, what="the curve").mean())


def aopc(curve: Float[np.ndarray, " point"]) -> float:
    """Area over the perturbation curve: 1/(L + 1) sum over k = 0 .. L of f(x0) - f(xk) [samek2017].

    ``curve``: the target with the first k features of the MoRF order gone; its first point is the whole input. High is
    good. It depends on L, the unit and the imputer, and two models can be compared only by ``normalised_aopc``.
    """
    values = checked(curve, what="the curve")
    return float(values[0] - values.mean())


def log_odds(full: float, without: Float[np.ndarray, " bin"], floor: float = RARE) -> float:
    """Change of the log-probability: mean of log p(y | without the top k) - log p(y | x) [shrikumar2017, section 4.1].

    Low is good. ``full`` and ``without`` are natural logs of probabilities, which count as ``floor`` where they are
    lower. Raises InputError where one is above 0.
    """
    checked_number(full, "the log-probability of the input")
    values = checked(without, what="the curve")
    highest = max(full, float(values.max()))
    if highest > 1e-6:
        raise InputError(
            f"a log-probability is {highest}; log-odds are made of log-probabilities, which are at most 0."
        )
    return float(np.maximum(values, floor).mean()) - max(full, floor)
