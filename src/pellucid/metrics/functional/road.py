"""Remove and debias: how much longer the prediction stays when the least relevant pixels go than when the most do."""

import numpy as np
from jaxtyping import Bool

from pellucid.errors import InputError

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the features that are removed."""


def road(kept_lerf: Bool[np.ndarray, " share"], kept_morf: Bool[np.ndarray, " share"]) -> float:
    """Share of the steps that keep the prediction, least relevant first, less that of most relevant first [rong2022].

    Its mean over inputs is the gap between the two curves of accuracy, with the model's own prediction for the true
    label. High is good, 0 is chance, and the inverted attribution gets the negated score.
    """
    if not len(kept_lerf) or len(kept_lerf) != len(kept_morf):
        raise InputError(
            f"there are {len(kept_lerf)} steps of one curve and {len(kept_morf)} of the other; give as many of both."
        )
    return float(np.mean(kept_lerf)) - float(np.mean(kept_morf))
