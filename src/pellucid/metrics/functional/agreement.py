"""Agreement with an attribution that is known to be true.

Truth and attribution must be of one kind: contributions w (x - b) and sensitivities w rank features differently, and
each is wrong as the other. Every function is signed: the negated truth is as wrong as can be, never as right.
"""

import math

import numpy as np
from jaxtyping import Float, Int

from pellucid.metrics.functional.correlation import correlation, positive_scale
from pellucid.metrics.functional.inputs import Sign, checked, checked_count, pooled
from pellucid.metrics.functional.plausibility import top
from pellucid.metrics.functional.randomisation import similarity


def cosine(values: Float[np.ndarray, " player"], truth: Float[np.ndarray, " player"]) -> float:
    """Cosine of the angle between both, a t / (||a|| ||t||), in [-1, 1]; NaN where one side is all 0."""
    a, t = _pair(values, truth)
    if not a.any() or not t.any():
        return math.nan
    a, t = a / np.abs(a).max(), t / np.abs(t).max()
    return float(np.clip(a @ t / math.sqrt((a @ a) * (t @ t)), -1, 1))


def pearson(values: Float[np.ndarray, " player"], truth: Float[np.ndarray, " player"]) -> float:
    """Pearson correlation; NaN for fewer than three features or a constant side."""
    return float(correlation(*_pair(values, truth)))


def spearman(values: Float[np.ndarray, " player"], truth: Float[np.ndarray, " player"]) -> float:
    """Correlation of ranks [spearman1904]; NaN for fewer than three features or a constant side."""
    return similarity(*_pair(values, truth))


def kendall(values: Float[np.ndarray, " player"], truth: Float[np.ndarray, " player"]) -> float:
    """Kendall's tau-b, (P - Q) / sqrt((n0 - n1) (n0 - n2)) [kendall1945], in [-1, 1]; NaN for a constant side.

    P, Q: concordant and discordant pairs; n0: all pairs; n1, n2: pairs tied on one side. O(n log^2 n).
    """
    first, second = (np.unique(side, return_inverse=True)[1] for side in _pair(values, truth))
    pairs = len(first) * (len(first) - 1) // 2
    tied_first, tied_second = _tied(first), _tied(second)
    if pairs in (tied_first, tied_second):
        return math.nan
    tied_both = _tied(first * len(second) + second)
    discordant = _inversions(second[np.lexsort((second, first))])
    concordant = pairs - tied_first - tied_second + tied_both - discordant
    return (concordant - discordant) / (math.sqrt(pairs - tied_first) * math.sqrt(pairs - tied_second))


def _tied(labels: Int[np.ndarray, " item"]) -> int:
    """Number of pairs of equal labels."""
    counts = np.unique(labels, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def _inversions(ranks: Int[np.ndarray, " item"]) -> int:
    """Number of pairs i < j with ranks[i] > ranks[j], one bit of the ranks after another, the highest first.

    Items whose higher bits agree stand together in their original order, so an inversion that this bit decides is a 1
    before a 0 within such a group.
    """
    total = 0
    for bit in range(int(ranks.max()).bit_length() - 1, -1, -1):
        group, ones = ranks >> (bit + 1), ranks >> bit & 1
        before = np.cumsum(ones) - ones
        first_of_group = np.searchsorted(group, group)
        total += int((before - before[first_of_group])[ones == 0].sum())
        ranks = ranks[np.argsort(ranks >> bit, kind="stable")]
    return total


def top_k_overlap(
    values: Float[np.ndarray, " player"],
    truth: Float[np.ndarray, " player"],
    k: int,
    seed: int,
    sign: Sign = "signed",
) -> float:
    """Share of the k highest scores that are among the k highest of the truth [krishna2022, feature agreement].

    ``sign="absolute"`` is the paper's, of sizes. Ties are broken at random by ``seed``, alike on both sides.
    """
    a, t = _pair(values, truth)
    checked_count(k, len(a), "k")
    return float((top(pooled(a, sign), k, seed) & top(pooled(t, sign), k, seed)).sum() / k)


def signed_top_k_overlap(
    values: Float[np.ndarray, " player"], truth: Float[np.ndarray, " player"], k: int, seed: int
) -> float:
    """Share of the k largest |a| that are among the k largest |t| with the same sign [krishna2022, sign agreement]."""
    a, t = _pair(values, truth)
    checked_count(k, len(a), "k")
    both = top(np.abs(a), k, seed) & top(np.abs(t), k, seed)
    return float((both & (np.sign(a) == np.sign(t))).sum() / k)


def scaled_error(values: Float[np.ndarray, " player"], truth: Float[np.ndarray, " player"]) -> float:
    """Smallest mean of (s a - t)^2 over factors s >= 0, over the mean of t^2: in [0, 1], low is good.

    Methods differ in scale, and a negative factor would call the negated truth perfect. NaN where the truth is all 0.
    """
    a, t = _pair(values, truth)
    if not t.any():
        return math.nan
    a, t = a / (np.abs(a).max() or 1), t / np.abs(t).max()
    error = positive_scale(a, t) * a - t
    return float(min(1.0, error @ error / (t @ t)))


def _pair(
    values: Float[np.ndarray, " player"], truth: Float[np.ndarray, " player"]
) -> tuple[Float[np.ndarray, " player"], Float[np.ndarray, " player"]]:
    known = checked(truth, what="the true attribution")
    return checked(values, len(known)), known
