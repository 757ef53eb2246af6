"""Games small enough to write down: one value for each of the 2^n coalitions."""

from math import comb

import numpy as np
from jaxtyping import Float

from pellucid.games.game import Coalitions, Values


def all_coalitions(players: int) -> Coalitions:
    """Every coalition once; player i is in coalition m where bit i of m is set."""
    return (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(bool)


def shapley_weights(players: int) -> Float[np.ndarray, " size"]:
    """Weight of joining a coalition of size s = 0 .. n - 1: s! (n - s - 1)! / n! [shapley1953]."""
    return np.array([1 / (players * comb(players - 1, size)) for size in range(players)])


def banzhaf_weights(players: int) -> Float[np.ndarray, " size"]:
    """Weight of joining a coalition, whatever its size: 2^(1 - n) [banzhaf1965]."""
    return np.full(players, 0.5 ** (players - 1))


def semivalue(table: Values, weights: Float[np.ndarray, " size"]) -> Float[np.ndarray, "target player"]:
    """phi_i = sum over S without i of w(size of S) (v(S with i) - v(S)), for every player and target.

    table: values of ``all_coalitions(n)``, in that order.
    """
    players = len(weights)
    by_size = weights[all_coalitions(players - 1).sum(1)]
    values = np.empty((table.shape[1], players))
    for player in range(players):
        absent, present = table.reshape(-1, 2, 2**player, table.shape[1]).swapaxes(0, 1)
        values[:, player] = by_size @ (present - absent).reshape(-1, table.shape[1])
    return values
