"""G0: linear networks, on which every method that explains contributions must be right."""

import numpy as np

from pellucid.ground_truth.networks import LABEL, affine, table_model
from pellucid.ground_truth.truth import GroundTruth
from pellucid.targets import Logit

SMALL = [2.0, -1.0, 0.5, 0.0, 3.0]
MEANS = [1.0, -2.0, 0.5, 4.0, 0.0]
INPUTS = [[3.0, 1.0, 2.5, 1.0, -1.0], [0.5, -2.5, 0.75, 8.0, 0.25]]
WIDE = 20


def linear(name: str, weights: list[float], bias: float, means: list[float], raws: list[list[float]]) -> GroundTruth:
    """A network f(x) = w . x + b: each feature contributes w_i (x_i - b_i), and its slope is |w_i|."""
    distance = np.array(raws) - np.array(means)
    return GroundTruth(
        name=name,
        rung="G0",
        says=f"w . x + b, {len(weights)} columns",
        model=table_model(name, affine([weights], [bias]), means=means),
        raws=tuple(raws),
        target=Logit(LABEL),
        features="column",
        baseline="zero",
        background=(means,),
        contributions=np.array(weights) * distance,
        sensitivity=np.broadcast_to(np.abs(weights), distance.shape).copy(),
        axiom="linearity: w_i (x_i - b_i); sensitivity |w_i|",
        exposes="a wrong sign or baseline, and slopes mistaken for contributions",
        source="evaluation of OpenXAI's ground truth, Agarwal et al. 2022",
    )


def linear_truths() -> list[GroundTruth]:
    """One network small enough to enumerate, and one that sampling methods have to sample."""
    places = np.arange(WIDE)
    weights = np.where(places % 2, -1, 1) * (places % 7) / 4
    raws = [((places % 5) - 1.5).tolist(), ((places * 3 % 8) / 2 - 1.75).tolist()]
    return [
        linear("linear", SMALL, 0.5, MEANS, INPUTS),
        linear("linear-20", weights.tolist(), -1.0, [0.0] * WIDE, raws),
    ]
