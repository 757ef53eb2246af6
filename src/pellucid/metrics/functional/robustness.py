"""Robustness: how far an attribution moves under a small change of the input.

Only draws that leave the prediction as it was are looked at, and the share of the others is returned. A constant map is
perfectly robust, so read these beside a measure of faithfulness. Ratios are of norms and never elementwise: one score
near 0 would rule every maximum.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pellucid.metrics.functional.inputs import checked, checked_mask

EPSILON = 1e-8
"""Added to, or least value of, a norm that divides; in the unit of what it divides by."""


class Robustness(NamedTuple):
    """A largest change over the draws that kept the prediction."""

    value: float
    """The largest ratio; low is good, 0 means that nothing moved. NaN where no draw kept the prediction."""
    discarded: float
    """Share of the draws that changed the prediction and were left out, from 0 to 1."""


def max_sensitivity(
    values: Float[np.ndarray, " player"],
    perturbed: Float[np.ndarray, "draw player"],
    same_prediction: Bool[np.ndarray, " draw"],
    relative: bool = True,
    epsilon: float = EPSILON,
) -> Robustness:
    """Largest ||a' - a||, divided by ||a|| + epsilon if ``relative`` [yeh2019].

    ``perturbed``: the attributions a' of inputs within a radius of x.
    """
    return _largest(_changes(values, perturbed, epsilon if relative else None), same_prediction)


def local_lipschitz(
    values: Float[np.ndarray, " player"],
    perturbed: Float[np.ndarray, "draw player"],
    distances: Float[np.ndarray, " draw"],
    same_prediction: Bool[np.ndarray, " draw"],
    epsilon: float = EPSILON,
) -> Robustness:
    """Largest ||a' - a|| / max(||x' - x||, epsilon) [alvarezmelis2018]. ``distances``: ||x' - x||."""
    changes = _changes(values, perturbed, None)
    steps = checked(distances, len(changes), "the distances")
    return _largest(changes / np.maximum(steps, epsilon), same_prediction)


def relative_stability(
    values: Float[np.ndarray, " player"],
    perturbed: Float[np.ndarray, "draw player"],
    origin: Float[np.ndarray, " dim"],
    moved: Float[np.ndarray, "draw dim"],
    same_prediction: Bool[np.ndarray, " draw"],
    epsilon: float = EPSILON,
) -> Robustness:
    """Largest relative change of the attribution over that of z [agarwal2022].

    (||a' - a|| / (||a|| + eps)) / max(||z' - z|| / (||z|| + eps), eps), where z is the input (relative input
    stability, RIS), a hidden representation (RRS) or the logits (ROS). The paper divides element by element; see above.
    """
    changes = _changes(values, perturbed, epsilon)
    start = checked(origin, what="the input, representation or output")
    end = checked(moved, len(start), "the moved input, representation or output")
    steps = np.linalg.norm(end - start, axis=1) / (np.linalg.norm(start) + epsilon)
    return _largest(changes / np.maximum(checked(steps, len(changes), "the moves"), epsilon), same_prediction)


def _changes(
    values: Float[np.ndarray, " player"], perturbed: Float[np.ndarray, "draw player"], epsilon: float | None
) -> Float[np.ndarray, " draw"]:
    """||a' - a|| of each draw, over ||a|| + epsilon unless that is None."""
    scores = checked(values)
    changes = np.linalg.norm(checked(perturbed, len(scores), "a perturbed attribution") - scores, axis=1)
    return np.asarray(changes if epsilon is None else changes / (np.linalg.norm(scores) + epsilon))


def _largest(ratios: Float[np.ndarray, " draw"], same_prediction: Bool[np.ndarray, " draw"]) -> Robustness:
    kept = checked_mask(same_prediction, len(ratios), "the mask of kept predictions")
    value = float(ratios[kept].max()) if kept.any() else math.nan
    return Robustness(value, 1 - float(kept.mean()))
