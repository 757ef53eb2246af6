"""Soft removal: each number of a feature's embedding stays with a probability that follows from the feature's score.

Scores become probabilities (``kept_shares``), the model is asked about draws, and what it said becomes a score.
"""

import math

import numpy as np
from jaxtyping import Float

from pellucid.errors import InputError
from pellucid.metrics.functional.correlation import CONSTANT
from pellucid.metrics.functional.inputs import checked, checked_number

LEAST_DROP = 0.01
"""Least fall of the probability, from the whole input to the empty one, of which a share is taken."""
_HALVINGS = 60


def kept_shares(
    values: Float[np.ndarray, " player"], retained: float | None = 0.5
) -> Float[np.ndarray, " player"] | None:
    """The probability with which each number of a feature stays, higher for higher scores; None where undefined.

    With ``retained`` (pi) their mean is exactly that, so that two attributions keep as much [huang2026]. How scores are
    rescaled to it is ours: sigmoid(z + b), z the scores less their mean over their deviation, b what makes the mean
    right. So the scale of the scores changes nothing, no outlier pushes all others to 0, equal scores all get pi, and
    the negated scores at 1 - pi get the complement.

    None: the scores between their minimum and their maximum, as [zhao2023] has it. How much stays then depends on the
    shape of the scores: many high ones keep more. Undefined for equal scores.
    """
    scores = checked(values)
    size = np.abs(scores).max()
    scores = scores / (size or 1.0)
    deviation = scores.std()
    if retained is None:
        low, high = scores.min(), scores.max()
        return (scores - low) / (high - low) if deviation > CONSTANT else None
    if not 0 < retained < 1:
        raise InputError(f"the retained share is {retained}; it must lie between 0 and 1, or be None.")
    z = (scores - scores.mean()) / deviation if deviation > CONSTANT else np.zeros_like(scores)
    centre = math.log(retained / (1 - retained))
    low, high = centre - z.max(), centre - z.min()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(z + middle).mean() < retained else (low, middle)
    return _sigmoid(z + (low + high) / 2)


def _sigmoid(values: Float[np.ndarray, " player"]) -> Float[np.ndarray, " player"]:
    return np.asarray(np.exp(-np.logaddexp(0, -values)))


def soft_sufficiency(
    full: float, empty: float, kept: Float[np.ndarray, " draw"], least_drop: float = LEAST_DROP
) -> float:
    """Normalised soft sufficiency, (S - S0) / (1 - S0) with S = 1 - max(0, p(x) - p(x')) [zhao2023].

    ``full``, ``empty``: the probability on the input and on the empty one (S0); ``kept``: on draws x' that keep what
    scores high; S is their mean. High is good, 1 at the most. NaN where ``full`` - ``empty`` is below ``least_drop``.
    """
    lost, worst = _drops(full, empty, kept)
    return 1 - lost / worst if worst >= least_drop else math.nan


def soft_comprehensiveness(
    full: float, empty: float, kept: Float[np.ndarray, " draw"], least_drop: float = LEAST_DROP
) -> float:
    """Normalised soft comprehensiveness, max(0, p(x) - p(x')) / (1 - S0) [zhao2023].

    As ``soft_sufficiency``, but the draws x' keep what scores low. High is good, at least 0.
    """
    lost, worst = _drops(full, empty, kept)
    return lost / worst if worst >= least_drop else math.nan


def _drops(full: float, empty: float, kept: Float[np.ndarray, " draw"]) -> tuple[float, float]:
    top = checked_number(full, "the probability of the input")
    drops = np.maximum(0, top - checked(kept, what="the probabilities of the draws"))
    return float(drops.mean()), max(0.0, top - checked_number(empty, "the probability of the empty input"))
