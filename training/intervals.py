"""95 % intervals of the scores that the training scripts report."""

from math import sqrt

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Z = 1.959964


def wilson(right: int, count: int) -> tuple[float, float]:
    """Interval of a share of ``right`` among ``count`` (Wilson 1927)."""
    share = right / count
    centre = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return centre - half, centre + half


def auc_interval(labels: NDArray[np.int64], scores: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Percentile bootstrap of the area under the ROC curve: 2,000 resamples within each class."""
    generator = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    areas = []
    for _ in range(2000):
        drawn = np.concatenate([generator.choice(each, len(each)) for each in classes])
        areas.append(roc_auc_score(labels[drawn], scores[drawn]))
    low, high = np.quantile(areas, [0.025, 0.975])
    return float(low), float(high)


def described(right: int, count: int) -> str:
    """An accuracy as text, with its interval."""
    low, high = wilson(right, count)
    return f"{right / count:.4f} (n = {count}, 95 % interval {low:.4f} to {high:.4f})"
