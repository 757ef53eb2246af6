"""The best and the worst order that a model allows, without which removal scores of two models do not compare."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pellucid.errors import InputError
from pellucid.games.table import all_coalitions
from pellucid.metrics.functional.inputs import checked, checked_count, checked_number

MOST_PLAYERS = 12
"""Exact limits look at n 2^(n - 1) removals: 24,576 for 12 players."""

ROUNDING = 1e-6
"""Part of a target's size below which differences are rounding of single precision."""

Ask = Callable[[Bool[np.ndarray, "coalition player"]], Float[np.ndarray, " coalition"]]


class Limits(NamedTuple):
    """The AOPC of the worst and of the best order of one input of one model, one feature removed at a time."""

    low: float
    """AOPC of the order that keeps the target highest."""
    high: float
    """AOPC of the order that lowers the target fastest."""


def normalised_aopc(score: float, limits: Limits, size: float = 0.0) -> float:
    """NAOPC = (AOPC - low) / (high - low) [edin2025]: 0 for the worst order of this model and input, 1 for the best.

    ``size``: of the target's values. NaN where both limits are equal, or differ by what single precision loses of
    values of that size: no order is better than any other there.
    """
    low, high = limits
    width = high - low
    if not width > max(1e-12 * max(abs(low), abs(high)), ROUNDING * size):
        return math.nan
    return (checked_number(score, "the AOPC") - low) / width


def exact_limits(table: Float[np.ndarray, " coalition"]) -> Limits:
    """Limits over all n! orders [edin2025], by dynamic programming over the 2^n coalitions.

    ``table``: the target on ``pellucid.games.table.all_coalitions(n)``, n at most 12. The best sum that ends in S is
    F(S) = f(x) - f(S) + max over i not in S of F(S with i).
    """
    values = checked(table, what="the table of coalitions")
    players = len(values).bit_length() - 1
    if len(values) != 2**players or not 1 <= players <= MOST_PLAYERS:
        raise InputError(
            f"the table has {len(values)} coalitions; exact limits need all 2^n of 1 to {MOST_PLAYERS} features: "
            "use beam_limits for more."
        )
    members = all_coalitions(players)
    drops = values[-1] - values
    low, high = drops.copy(), drops.copy()
    for size in range(players - 1, -1, -1):
        rows = np.flatnonzero(members.sum(1) == size)
        parents, absent = rows[:, None] | 1 << np.arange(players), ~members[rows]
        low[rows] += np.where(absent, low[parents], np.inf).min(1)
        high[rows] += np.where(absent, high[parents], -np.inf).max(1)
    return Limits(float(low[0]) / (players + 1), float(high[0]) / (players + 1))


def beam_limits(value: Ask, players: int, width: int = 5) -> Limits:
    """Limits by beam search [edin2025]: at each step the ``width`` best and the ``width`` worst beginnings are kept.

    Inner limits: never beyond the exact ones, which a wide enough beam reaches. ``value`` gives the target on a batch
    of coalitions and is asked once a step, for about ``width`` n (n + 1) coalitions in all.
    """
    checked_count(players, 2**31, "the number of features")
    checked_count(width, 2**31, "the width of the beam")
    full = np.ones((1, players), dtype=bool)
    start = checked(value(full), 1, "the target on the input")[0]
    # The search for the lowest sum is the search for the highest of its negative.
    beams = {sign: (full, np.zeros(1)) for sign in (1, -1)}
    for _ in range(players):
        grown = {sign: _children(*beam) for sign, beam in beams.items()}
        asked = np.concatenate([coalitions for coalitions, _ in grown.values()])
        drops = start - checked(value(asked), len(asked), "the targets of the coalitions")
        for sign, (coalitions, sums) in grown.items():
            mine, drops = drops[: len(sums)], drops[len(sums) :]
            sums = sums + sign * mine
            best = np.argsort(-sums, kind="stable")[:width]
            beams[sign] = coalitions[best], sums[best]
    return Limits(-float(beams[-1][1][0]) / (players + 1), float(beams[1][1][0]) / (players + 1))


def _children(
    coalitions: Bool[np.ndarray, "beam player"], sums: Float[np.ndarray, " beam"]
) -> tuple[Bool[np.ndarray, "child player"], Float[np.ndarray, " child"]]:
    """Every coalition that misses one more player, once, with the best sum that leads to it."""
    best_first = np.argsort(-sums, kind="stable")
    parents, players = np.nonzero(coalitions[best_first])
    children = coalitions[best_first][parents]
    children[np.arange(len(players)), players] = False
    _, first = np.unique(np.packbits(children, axis=1), axis=0, return_index=True)
    return children[first], sums[best_first][parents[first]]
