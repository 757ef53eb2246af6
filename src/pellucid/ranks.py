"""Ranks and their correlation."""

import numpy as np
from jaxtyping import Float


def spearman(first: Float[np.ndarray, " item"], second: Float[np.ndarray, " item"]) -> float | None:
    """Correlation of ranks [Spearman 1904]; None for fewer than three or where one side is all ties."""
    if len(first) < 3:
        return None
    x, y = np.array(ranks_of(first)), np.array(ranks_of(second))
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale else None


def ranks_of(values: Float[np.ndarray, " item"]) -> list[float]:
    """Ranks from 1 for the smallest; ties share their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return [float(rank) for rank in (np.cumsum(counts) - (counts - 1) / 2)[place]]
