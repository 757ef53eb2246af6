"""Axioms: what a sound attribution promises, and by how much this one misses it. All are 0 where it is kept.

Errors are relative to the largest score, or to what is attributed, so that positive scaling changes none of ``dummy``
and ``symmetry``.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from pellucid.errors import InputError
from pellucid.metrics.functional.inputs import checked, checked_mask, checked_number

FLOOR = 1e-6
"""Least part of the largest score that a difference of targets counts as, when it divides."""


def completeness(values: Float[np.ndarray, " player"], full: float, base: float) -> float:
    """|sum of a - (f(x) - f(b))| / |f(x) - f(b)| [sundararajan2017, proposition 1]; 0 is complete.

    ``full``, ``base``: f(x) and f(b). A difference below ``FLOOR`` times the largest |a| counts as that much: features
    that cancel exactly are legitimate and give 0, any others a large, finite error.
    """
    scores = checked(values)
    difference = checked_number(full, "the target on the input") - checked_number(base, "the target on the baseline")
    error = abs(float(scores.sum()) - difference)
    return error / max(abs(difference), FLOOR * float(np.abs(scores).max())) if error else 0.0


def dummy(values: Float[np.ndarray, " player"], irrelevant: Bool[np.ndarray, " player"]) -> float:
    """Largest |a_i| of players that cannot matter, over the largest of all [sundararajan2017]; in [0, 1].

    NaN where no player is known to be irrelevant; 0 where all scores are 0.
    """
    scores = np.abs(checked(values))
    checked_mask(irrelevant, len(scores), "the mask of irrelevant features")
    if not irrelevant.any():
        return math.nan
    return _relative(float(scores[irrelevant].max()), float(scores.max()))


def symmetry(values: Float[np.ndarray, " player"], pairs: Int[np.ndarray, "pair 2"]) -> float:
    """Largest |a_i - a_j| of interchangeable players, over the largest |a| [sundararajan2017]; in [0, 2].

    ``pairs``: indices of players that the model cannot tell apart. NaN without any; 0 where all scores are 0.
    """
    scores = checked(values)
    if not len(pairs):
        return math.nan
    if pairs.min() < 0 or pairs.max() >= len(scores):
        raise InputError(f"a pair names feature {pairs.max()} or {pairs.min()}; allowed are 0 to {len(scores) - 1}.")
    one, other = scores[pairs.T]
    return _relative(float(np.abs(one - other).max()), float(np.abs(scores).max()))


def invariance(values: Float[np.ndarray, " player"], again: Float[np.ndarray, " player"]) -> float:
    """||a' - a|| / ||a|| of two attributions that should be one [sundararajan2017; kindermans2019]; 0 where they are.

    NaN where a is 0 everywhere and a' is not.
    """
    scores = checked(values)
    change = float(np.linalg.norm(checked(again, len(scores), "the second attribution") - scores))
    size = float(np.linalg.norm(scores))
    return 0.0 if not change else change / size if size else math.nan


def _relative(error: float, largest: float) -> float:
    return error / largest if largest else 0.0
