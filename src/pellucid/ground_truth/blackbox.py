"""G5: a network with random weights: no formula is known, and all of its coalitions fit into one batch."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import nn

from pellucid.ground_truth.exact import exact_shapley
from pellucid.ground_truth.interaction import LOCALS, PATHS
from pellucid.ground_truth.networks import LABEL, affine, table_model
from pellucid.ground_truth.reasons import FIT, LEAVE_ONE_OUT
from pellucid.ground_truth.truth import BUDGETS, GroundTruth
from pellucid.targets import Logit

PLAYERS, HIDDEN, SEED = 10, 16, 20260322
POINTS = 256
"""Of the Gauss-Legendre rule; a tanh network is smooth, so that half as many give the same to 1e-12."""


def random_network() -> nn.Sequential:
    """Two hidden layers of tanh units."""
    generator = np.random.default_rng(SEED)

    def layer(inputs: int, outputs: int) -> nn.Linear:
        weights = 1.5 * generator.normal(size=(outputs, inputs)) / inputs**0.5
        return affine(weights.tolist(), (0.5 * generator.normal(size=outputs)).tolist())

    return nn.Sequential(layer(PLAYERS, HIDDEN), nn.Tanh(), layer(HIDDEN, HIDDEN), nn.Tanh(), layer(HIDDEN, 1))


def path_integral(
    module: nn.Module, row: Float[np.ndarray, " player"], baseline: Float[np.ndarray, " player"], points: int = POINTS
) -> Float[np.ndarray, " player"]:
    """(x - b) times the mean gradient on the line from b to x [sundararajan2017, eq. 1], by Gauss-Legendre."""
    places, weights = np.polynomial.legendre.leggauss(points)
    on_line = baseline + (places[:, None] + 1) / 2 * (row - baseline)
    given = torch.from_numpy(on_line).requires_grad_()
    with torch.enable_grad():
        (gradients,) = torch.autograd.grad(module(given).sum(), given)
    return np.asarray((row - baseline) * (weights / 2 @ gradients.numpy()))


def blackbox_truths() -> list[GroundTruth]:
    """Shapley values over 1 024 coalitions, and path integrals, from a baseline of zeros."""
    module = random_network()
    model = table_model("network", module, players=PLAYERS)
    places = np.arange(PLAYERS)
    rows = np.stack([(places * 7 % 11 - 5) / 4, (places * 3 % 8 - 3.5) / 2])

    def shapley(row: Float[np.ndarray, " player"]) -> Float[np.ndarray, " player"]:
        def worth(coalitions: Bool[np.ndarray, "coalition player"]) -> Float[np.ndarray, " coalition"]:
            return np.asarray(module(torch.from_numpy(np.where(coalitions, row, 0.0)))[:, 0].numpy())

        return exact_shapley(worth, PLAYERS)

    contributions = np.stack([shapley(row) for row in rows])
    return [
        GroundTruth(
            name="network",
            rung="G5",
            says=f"random tanh network, {PLAYERS} columns",
            model=model,
            raws=tuple(row.tolist() for row in rows),
            target=Logit(LABEL),
            features="column",
            baseline="zero",
            background=([0.0] * PLAYERS,),
            contributions=contributions,
            path=np.stack([path_integral(module, row, np.zeros(PLAYERS)) for row in rows]),
            sensitivity=np.abs(contributions) / np.abs(rows).clip(min=1e-12) * (rows != 0),
            axiom=f"Shapley 1953 over all {1 << PLAYERS:,} coalitions; path: Gauss-Legendre with {POINTS} points",
            exposes="every shortcut: nothing is symmetric, linear or saturated by design",
            settings=BUDGETS,
            fails=LOCALS | PATHS | {"occlusion": LEAVE_ONE_OUT, "lime": FIT},
            source="Shapley 1953; Sundararajan et al. 2017, eq. 1",
        )
    ]
