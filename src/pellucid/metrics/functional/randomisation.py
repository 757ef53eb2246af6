"""Randomisation: an attribution must change when the model's weights, or the class explained, do.

Low similarity is good in all but ``complexity_rise``. A method that is blind to the model (guided backpropagation, a
position prior) scores near 1 and must fail: that is the test of this test.
"""

import math

import numpy as np
from jaxtyping import Bool, Float

from pellucid.metrics.functional.inputs import Sign, checked, checked_count, checked_mask, pooled
from pellucid.ranks import spearman


def similarity(
    first: Float[np.ndarray, " player"], second: Float[np.ndarray, " player"], sign: Sign = "signed"
) -> float:
    """Spearman correlation of two attributions as ``sign`` reads them [adebayo2018].

    NaN where it is undefined: fewer than three features, or one side all ties.
    """
    one = pooled(first, sign)
    found = spearman(one, pooled(checked(second, len(one), "the second attribution"), sign))
    return math.nan if found is None else found


def mprt(
    values: Float[np.ndarray, " player"], randomised: Float[np.ndarray, "layer player"], sign: Sign = "signed"
) -> Float[np.ndarray, " layer"]:
    """Model parameter randomisation test: ``similarity`` after each further layer is re-initialised [adebayo2018].

    ``randomised``: the attributions after the top layer was re-drawn, after the top two were, and so on. Report both
    "signed" and "absolute": a flipped sign is no sign of a method that looks at the weights. Low is good.
    """
    return np.array([similarity(values, each, sign) for each in randomised])


def random_logit(
    values: Float[np.ndarray, " player"], other: Float[np.ndarray, " player"], sign: Sign = "signed"
) -> float:
    """``similarity`` of the attributions of the target and of another class [sixt2020]. Low is good.

    The paper compares images by SSIM; ranks fit every kind of feature. Under a softmax the classes compete and "signed"
    goes below 0 for that reason alone: report "absolute" beside it.
    """
    return similarity(values, other, sign)


def histogram_entropy(values: Float[np.ndarray, " player"], bins: int = 100) -> float:
    """Entropy in nats of the histogram of the scores, over ``bins`` equal bins from the lowest to the highest.

    0 for equal scores, at most log(min(bins, features)) [hedstrom2024]. Unchanged by scale and shift.
    """
    scores = checked(values)
    checked_count(bins, 2**31, "the number of bins")
    span = scores.max() - scores.min()
    if not span > 0:
        return 0.0
    place = np.minimum(((scores - scores.min()) / span * bins).astype(np.int64), bins - 1)
    share = np.bincount(place)[np.unique(place)] / len(scores)
    return float(-(share * np.log(share)).sum())


def complexity_rise(
    values: Float[np.ndarray, " player"], randomised: Float[np.ndarray, " player"], bins: int = 100
) -> float:
    """Efficient MPRT: (xi(a of the random model) - xi(a)) / xi(a), with xi the ``histogram_entropy`` [hedstrom2024].

    ``randomised``: the attribution after all layers were re-initialised. High is good. NaN where xi(a) is 0.
    """
    scores = checked(values)
    before = histogram_entropy(scores, bins)
    after = histogram_entropy(checked(randomised, len(scores), "the randomised attribution"), bins)
    return (after - before) / before if before > 0 else math.nan


def model_contrast(
    values: Float[np.ndarray, " player"], other: Float[np.ndarray, " player"], mask: Bool[np.ndarray, " player"]
) -> float:
    """Share of |a| on the ``mask`` under one model, minus that under another which reads the rest [yang2019].

    1: all of the attribution moved from the mask to the rest; 0: none did. The paper takes the difference of the mean
    scores of one region; shares need no common scale of the two models. NaN where either attribution is 0 everywhere.
    """
    sizes = np.abs(checked(values)), np.abs(checked(other, len(values), "the second attribution"))
    checked_mask(mask, len(values))
    if not (sizes[0].any() and sizes[1].any()):
        return math.nan
    here, there = (float(each[mask].sum() / each.sum()) for each in sizes)
    return here - there
