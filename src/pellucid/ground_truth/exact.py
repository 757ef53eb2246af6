"""Exact Shapley values of any game of at most 16 players, by another road than the method that is judged with them.

The games' own estimator sums weighted marginal contributions. Here the game is first written as a sum of unanimity
games, whose dividends are then shared equally [harsanyi1963]: two formulas that agree only where both are right.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from pellucid.errors import InputError

MOST_PLAYERS = 16
Worth = Callable[[Bool[np.ndarray, "coalition player"]], Float[np.ndarray, " coalition"]]
"""The value of each coalition; all 2^n come in one batch."""


def every_coalition(players: int) -> Bool[np.ndarray, "coalition player"]:
    """Every coalition once; player i is in coalition m where bit i of m is set. Raises InputError above 16 players."""
    if not 1 <= players <= MOST_PLAYERS:
        raise InputError(f"a game of {players} players is not enumerated; 1 to {MOST_PLAYERS} are.")
    return (np.arange(1 << players)[:, None] >> np.arange(players) & 1).astype(bool)


def dividends(table: Float[np.ndarray, " coalition"]) -> Float[np.ndarray, " coalition"]:
    """m(S) = sum over T in S of (-1)^(|S| - |T|) v(T): what S earns beyond its own parts [harsanyi1963].

    table: values of ``every_coalition(n)``, in that order. n 2^(n - 1) subtractions, in place of 3^n.
    """
    earned = np.array(table, dtype=np.float64)
    for player in range(len(table).bit_length() - 1):
        halves = earned.reshape(-1, 2, 1 << player)
        halves[:, 1] -= halves[:, 0]
    return earned


def exact_shapley(worth: Worth, players: int) -> Float[np.ndarray, " player"]:
    """phi_i = sum over S with i of m(S) / |S|, which is Shapley's value [shapley1953; harsanyi1963].

    Equal to the sum over S without i of s! (n - s - 1)! / n! (v(S with i) - v(S)).
    """
    coalitions = every_coalition(players)
    earned = dividends(worth(coalitions))
    share = earned / np.maximum(coalitions.sum(1), 1)
    return np.asarray(share @ coalitions)


def shapley_interactions(worth: Worth, players: int) -> Float[np.ndarray, "player player"]:
    """I_ij = sum over S with i and j of m(S) / (|S| - 1): the Shapley interaction index [grabisch1999]; 0 for i = j."""
    coalitions = every_coalition(players)
    earned = dividends(worth(coalitions))
    share = earned / np.maximum(coalitions.sum(1) - 1, 1)
    found = coalitions.T.astype(np.float64) @ (share[:, None] * coalitions)
    np.fill_diagonal(found, 0.0)
    return np.asarray(found)
