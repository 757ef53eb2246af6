"""G1: sums of functions of one feature each: no interactions, but slopes that change on the way."""

from collections.abc import Callable

import numpy as np

from pellucid.ground_truth.interaction import LOCALS
from pellucid.ground_truth.networks import LABEL, Number, relu_sum, slopes, table_model
from pellucid.ground_truth.truth import GroundTruth
from pellucid.targets import Logit

PIECES: list[tuple[list[tuple[Number, Number, Number]], Callable[[float], float]]] = [
    # Each function as units (a, w, c) of a relu(w x + c), and as it is written by hand.
    ([(1, 1, 0), (-1, 1, -1)], lambda x: min(max(x, 0.0), 1.0)),
    ([(2, 1, 0), (2, -1, 0)], lambda x: 2 * abs(x)),
    ([(1, 1, -1)], lambda x: max(x - 1, 0.0)),
    ([(0.5, 1, 0), (-0.5, -1, 0)], lambda x: x / 2),
]
"""A step that saturates, a valley, a dead zone, a line."""
INPUTS = [[4.0, -1.5, 2.0, 3.0], [2.0, 0.75, 4.0, -1.0]]
"""Every kink lies at a quarter or the half of the straight path from 0, where an integral in pieces is exact."""


def additive_truths() -> list[GroundTruth]:
    """Networks f = sum of g_i(x_i): each feature contributes g_i(x_i) - g_i(b_i)."""
    players = len(PIECES)
    units: list[tuple[Number, list[Number], Number]] = [
        (outer, [slope if place == column else 0.0 for place in range(players)], shift)
        for column, (parts, _) in enumerate(PIECES)
        for outer, slope, shift in parts
    ]
    gains = [[g(value) - g(0.0) for (_, g), value in zip(PIECES, raw, strict=True)] for raw in INPUTS]
    contributions = np.array(gains)
    return [
        GroundTruth(
            name="additive",
            rung="G1",
            says="min(relu(x1), 1) + 2 |x2| + relu(x3 - 1) + x4 / 2",
            model=table_model("additive", relu_sum(units, players), players=players),
            raws=tuple(INPUTS),
            target=Logit(LABEL),
            features="column",
            baseline="zero",
            background=([0.0] * players,),
            contributions=contributions,
            sensitivity=slopes(contributions, INPUTS, [0.0] * players),
            axiom="additivity: g_i(x_i) - g_i(b_i)",
            exposes="gradients where a feature has saturated, which separates them from their integral",
            fails=LOCALS,
            source="Sundararajan et al. 2017, section 2",
        )
    ]
