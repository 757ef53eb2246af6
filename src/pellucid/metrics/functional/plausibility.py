"""Plausibility: does an attribution point where a person, or a planted truth, does?

This measures agreement with people and not with the model: an attention rollout can be perfect here and explain little.
Each score has a level that chance reaches; report it beside the score. A score is NaN where the mask leaves nothing to
find (or, for ``auroc``, nothing to avoid).
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from pellucid.errors import InputError
from pellucid.metrics.functional.inputs import Sign, checked, checked_count, checked_mask, pooled
from pellucid.metrics.functional.removal import order
from pellucid.ranks import ranks_of


def mean_length(rationales: Sequence[Bool[np.ndarray, " _"]]) -> int:
    """Mean number of marked tokens, to the nearest whole and at least 1: the k of ``top`` [deyoung2020]."""
    if not rationales:
        raise InputError("there is no rationale to take the mean length of; give at least one.")
    return max(1, math.floor(sum(int(each.sum()) for each in rationales) / len(rationales) + 0.5))


def top(values: Float[np.ndarray, " player"], k: int, seed: int) -> Bool[np.ndarray, " player"]:
    """Mask of the k highest scores (all of them if there are fewer); ties are broken at random by ``seed``."""
    chosen = np.zeros(len(values), dtype=bool)
    chosen[order(values, seed)[: checked_count(k, 2**31, "the number of chosen features")]] = True
    return chosen


def token_f1(chosen: Bool[np.ndarray, " player"], rationale: Bool[np.ndarray, " player"]) -> float:
    """Harmonic mean of precision and recall, 2 |C and R| / (|C| + |R|) [deyoung2020, section 4]; in [0, 1].

    NaN for an empty rationale, 0 for an empty choice.
    """
    checked_mask(chosen, len(rationale), "the choice")
    if not rationale.any():
        return math.nan
    return float(2 * (chosen & rationale).sum() / (chosen.sum() + rationale.sum()))


def iou_f1(
    chosen: Bool[np.ndarray, " player"], rationale: Bool[np.ndarray, " player"], threshold: float = 0.5
) -> float:
    """F1 of spans: a run of chosen tokens matches a run of the rationale at IoU >= threshold [deyoung2020, section 4].

    IoU is the size of the intersection over that of the union. From 0.5 on no span can match two, so precision and
    recall count the same matches; a lower threshold is refused. NaN for an empty rationale.
    """
    checked_mask(chosen, len(rationale), "the choice")
    if not 0.5 <= threshold <= 1:
        raise InputError(f"the IoU threshold is {threshold}; it must be between 0.5 and 1, or a span could match two.")
    ours, theirs = _spans(chosen), _spans(rationale)
    if not len(theirs):
        return math.nan
    shared = np.minimum(ours[:, None, 1], theirs[:, 1]) - np.maximum(ours[:, None, 0], theirs[:, 0])
    union = (ours[:, 1] - ours[:, 0])[:, None] + (theirs[:, 1] - theirs[:, 0]) - shared
    matches = int((shared >= threshold * union).sum())
    return 2 * matches / (len(ours) + len(theirs))


def _spans(mask: Bool[np.ndarray, " player"]) -> Int[np.ndarray, "span 2"]:
    """First place and place after the last of every run of True."""
    edges = np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1)


def auprc(values: Float[np.ndarray, " player"], rationale: Bool[np.ndarray, " player"]) -> float:
    """Average precision of the soft scores: sum over thresholds t of (R_t - R_(t-1)) P_t [deyoung2020, section 4].

    Equal scores share one threshold, so their order does not matter. In (0, 1]; chance is about ``prevalence``. NaN for
    an empty rationale.
    """
    scores = checked(values)
    checked_mask(rationale, len(scores), "the rationale")
    if not rationale.any():
        return math.nan
    best_first = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[best_first]) != 0, True)
    hits = np.cumsum(rationale[best_first])[last_of_tie]
    precision = hits / (np.flatnonzero(last_of_tie) + 1)
    return float(np.diff(hits, prepend=0) @ precision / hits[-1])


def auroc(values: Float[np.ndarray, " player"], rationale: Bool[np.ndarray, " player"]) -> float:
    """Chance that a token of the rationale scores above another one, ties counting half; 0.5 is chance.

    NaN where all tokens or none belong to the rationale.
    """
    scores = checked(values)
    checked_mask(rationale, len(scores), "the rationale")
    inside = int(rationale.sum())
    outside = len(scores) - inside
    if not inside or not outside:
        return math.nan
    total = float(np.array(ranks_of(scores))[rationale].sum())
    return (total - inside * (inside + 1) / 2) / (inside * outside)


def pointing_game(values: Float[np.ndarray, " player"], mask: Bool[np.ndarray, " player"]) -> float:
    """1 where the highest score lies in the mask, else 0 [zhang2018]; of several, the share that does.

    Chance is ``prevalence``. Meant for correct predictions only. A tolerance is a mask dilated beforehand. NaN for an
    empty mask.
    """
    scores = checked(values)
    checked_mask(mask, len(scores))
    return float(mask[scores == scores.max()].mean()) if mask.any() else math.nan


def relevance_mass(
    values: Float[np.ndarray, " player"], mask: Bool[np.ndarray, " player"], sign: Sign = "positive"
) -> float:
    """Share of the relevance that lies in the mask: sum in M of a / sum of a [arras2022]; in [0, 1].

    ``sign``: "positive" (the definition) or "absolute"; "signed" is refused, since sums that cancel are no mass. Chance
    is ``prevalence``. NaN where no score counts, or for an empty mask.
    """
    if sign == "signed":
        raise InputError("relevance mass is a share and signed scores can cancel; use sign='positive' or 'absolute'.")
    scores = pooled(values, sign)
    checked_mask(mask, len(scores))
    total = float(scores.max())
    if not total or not mask.any():
        return math.nan
    unit = scores / total
    return float(unit[mask].sum() / unit.sum())


def relevance_rank(
    values: Float[np.ndarray, " player"], mask: Bool[np.ndarray, " player"], sign: Sign = "signed"
) -> float:
    """Share of the |M| highest scores that lies in the mask M [arras2022]; in [0, 1].

    Of scores tied at the edge, the share that a random order expects. Chance is ``prevalence``. NaN for an empty mask.
    """
    scores = pooled(values, sign)
    checked_mask(mask, len(scores))
    size = int(mask.sum())
    if not size:
        return math.nan
    edge = np.partition(scores, -size)[-size]
    above, tied = scores > edge, scores == edge
    hits = (above & mask).sum() + (size - above.sum()) * (tied & mask).sum() / tied.sum()
    return float(hits / size)


def prevalence(mask: Bool[np.ndarray, " player"]) -> float:
    """Share of the features in the mask.

    What a random attribution expects of the pointing game, relevance mass and rank (the area of the mask), and, about,
    of ``auprc``.
    """
    return float(mask.mean())


def chance_f1(k: int, rationale: Bool[np.ndarray, " player"]) -> float:
    """Mean ``token_f1`` of k tokens chosen at random: 2 k m / (n (k + m)), m the rationale's size; NaN for m = 0."""
    marked = int(rationale.sum())
    chosen = min(checked_count(k, 2**31, "the number of chosen features"), len(rationale))
    return 2 * chosen * marked / (len(rationale) * (chosen + marked)) if marked else math.nan
