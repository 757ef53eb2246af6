"""Linear surrogates of a game: weighted ridge regression and the lasso, for all targets at once."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pellucid.errors import InputError

MOST_SWEEPS = 20_000


class Surrogate(NamedTuple):
    """A linear model of the target: intercept + sum of the coefficients of the players that are present."""

    coefficients: Float[np.ndarray, "target player"]
    """What a player's presence adds, in the unit of the target."""
    intercept: Float[np.ndarray, " target"]
    """The surrogate's value of the empty coalition."""


def weighted_ridge(
    x: Float[np.ndarray, "row player"],
    y: Float[np.ndarray, "row target"],
    weights: Float[np.ndarray, " row"],
    alpha: float,
) -> tuple[Surrogate, Float[np.ndarray, "target player"]]:
    """Minimise sum of w (y - intercept - x.b)^2 + alpha |b|^2, intercept unpenalised; with standard errors.

    The errors are those of a jackknife over rows to first order, right also where the game is not linear
    (heteroscedasticity-consistent, HC3) [mackinnon1985]. They leave out the bias that alpha brings.
    """
    share = weights / weights.sum()
    middle, level = share @ x, share @ y
    centred = x - middle
    gram = centred.T @ (weights[:, None] * centred) + alpha * np.eye(x.shape[1])
    influence = weights[:, None] * np.linalg.solve(gram, centred.T).T
    coefficients = (y - level).T @ influence
    residual = y - level - centred @ coefficients.T
    leverage = np.minimum((influence * centred).sum(1) + share, 1 - 1e-9)
    spread = (residual / (1 - leverage)[:, None]) ** 2
    return Surrogate(coefficients, level - coefficients @ middle), np.sqrt(spread.T @ influence**2)


def weighted_lasso(
    x: Float[np.ndarray, "row player"],
    y: Float[np.ndarray, "row target"],
    weights: Float[np.ndarray, " row"],
    alpha: float,
    *,
    precision: float = 1e-9,
) -> Surrogate:
    """Minimise sum of w (y - intercept - x.b)^2 / 2 + alpha |b|_1, the weights scaled to sum to 1.

    Every column of x and y is first scaled to mean 0 and variance 1, and the coefficients are scaled back. So alpha is
    the correlation with the target below which a player on its own gets no score.
    """
    share = weights / weights.sum()
    middle, level = share @ x, share @ y
    centred_x, centred_y = x - middle, y - level
    width, height = _safe_root(share @ centred_x**2), _safe_root(share @ centred_y**2)
    weighted = share[:, None] * centred_x / width
    gram, moment = weighted.T @ (centred_x / width), weighted.T @ (centred_y / height)
    coefficients = (coordinate_descent(gram, moment, alpha, precision) * height / width[:, None]).T
    return Surrogate(coefficients, level - coefficients @ middle)


def coordinate_descent(
    gram: Float[np.ndarray, "player player"], moment: Float[np.ndarray, "player target"], alpha: float, precision: float
) -> Float[np.ndarray, "player target"]:
    """Minimise b'Gb / 2 - b'm + alpha |b|_1 for each target, one coordinate after another [friedman2010].

    gram: unit diagonal, or zero for a constant column, whose coefficient stays 0.   precision: the last sweep's
    largest step, relative to the largest coefficient. Raises InputError where it does not settle.
    """
    solution, slack = np.zeros_like(moment), moment.copy()
    for _ in range(MOST_SWEEPS):
        largest_step = 0.0
        # A coefficient at zero whose pull is below the penalty would not move.
        for player in np.flatnonzero(((solution != 0) | (np.abs(slack) > alpha)).any(1)):
            pull = slack[player] + solution[player]
            step = np.sign(pull) * np.maximum(np.abs(pull) - alpha, 0) - solution[player]
            if step.any():
                solution[player] += step
                slack -= gram[player, :, None] * step
                largest_step = max(largest_step, float(np.abs(step).max()))
        if largest_step <= precision * float(np.abs(solution).max()):
            return solution
    raise InputError(f"the lasso with alpha={alpha} did not settle in {MOST_SWEEPS} sweeps; use a larger alpha.")


def _safe_root(variance: Float[np.ndarray, " column"]) -> Float[np.ndarray, " column"]:
    """The standard deviation, or 1 for a column that does not vary."""
    return np.sqrt(np.where(variance > 1e-24, variance, 1.0))
