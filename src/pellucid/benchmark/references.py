"""Rows of a leaderboard that no method made: they show what the scores of a metric mean."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pellucid.methods import AbstractGameMethod, ExactShapley, PermutationShapley

RANDOM_SEEDS = 5
"""Random rows that are drawn; their scores are averaged."""
ENUMERATED = 4096
"""Coalitions up to which the oracle plays all."""
ORACLE_ROWS = 512
"""Rows that the oracle may spend where it samples."""
ORACLE, RANDOM, CONSTANT = "oracle", "random", "constant"
INVERTED = "inverted "


class Reference(NamedTuple):
    """An attribution to compare with."""

    name: str
    """Name of the row."""
    seed: int
    """Which draw of it."""
    values: Float[np.ndarray, " player"]
    """One score for each feature."""


def oracle_method(players: int) -> AbstractGameMethod:
    """Shapley values: of all coalitions, or of as many random orders as ``ORACLE_ROWS`` pay for."""
    if 1 << players <= ENUMERATED:
        return ExactShapley()
    orders = 4
    while PermutationShapley(permutations=orders + 2).rows(players) <= ORACLE_ROWS:
        orders += 2
    return PermutationShapley(permutations=orders)


def references(best: Float[np.ndarray, " player"], seed: int) -> list[Reference]:
    """The oracle, noise of its norm, the negation of both, and a score that falls from the first feature to the last.

    Noise is drawn from ``seed`` and the number of the draw. An oracle of zeros leaves noise as it is.
    """
    rows = [Reference(ORACLE, 0, best), Reference(f"{INVERTED}{ORACLE}", 0, -best)]
    size = float(np.linalg.norm(best)) or 1.0
    for number in range(RANDOM_SEEDS):
        noise = np.random.default_rng([seed, number]).normal(size=len(best))
        noise *= size / np.linalg.norm(noise)
        rows += [Reference(RANDOM, number, noise), Reference(f"{INVERTED}{RANDOM}", number, -noise)]
    return [*rows, Reference(CONSTANT, 0, np.arange(len(best), 0.0, -1.0))]
