"""Scores of a judge on examples whose truth is known: balanced accuracy and AUC, with intervals that never collapse."""

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pellucid.intervals import wilson
from pellucid.records import Record

Z = NormalDist().inv_cdf(0.975)


class Verdict(NamedTuple):
    """What a judge said of one example."""

    answer: bool | None
    """Whether the latent is there; None where the answer could not be read, or where the judge only ranks."""
    belief: float | None = None
    """Anything that grows with how sure the judge is that it is there; None where it is not known."""


class Interval(Record):
    """A 95 % interval."""

    value: float
    """The estimate."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


class Counts(Record):
    """How the answers compare with the truth."""

    true_positives: int
    """Latent there, and the judge says so."""
    false_negatives: int
    """Latent there, and the judge does not say so."""
    true_negatives: int
    """Latent absent, and the judge says so."""
    false_positives: int
    """Latent absent, and the judge sees it."""
    unread_positives: int
    """Latent there, and the answer could not be read."""
    unread_negatives: int
    """Latent absent, and the answer could not be read."""

    @property
    def unread(self) -> int:
        """Answers that could not be read."""
        return self.unread_positives + self.unread_negatives


class Score(Record):
    """How well a judge that knows the explanation tells apart where a latent is active and where it is not."""

    accuracy: Interval | None
    """Balanced accuracy, mean of the two rates, an answer that could not be read counting as wrong; 0.5 is chance.

    None where the judge only ranks.
    """
    accuracy_read: float | None
    """The same over the answers that could be read."""
    auc: Interval | None
    """Area under the ROC curve of the judge's beliefs; None unless all readable answers come with one."""
    counts: Counts | None
    """None where the judge only ranks."""
    examples: int
    """How many were judged."""
    false_positive_rates: dict[str, float]
    """Share of the examples without the latent in which the judge sees it, by how these were come by."""
    constant: float | None
    """Balanced accuracy of the better of the two answers that are always the same, on these examples."""


def score(truth: Sequence[bool], verdicts: Sequence[Verdict], kinds: Sequence[str]) -> Score:
    """Compare a judge's verdicts with the truth.

    Args:
        truth: whether the latent is there.
        verdicts: what the judge said.
        kinds: how each example was come by, for the rates of false positives.
    """
    real = np.array(truth, dtype=bool)
    ranks = all(each.answer is None and each.belief is not None for each in verdicts)
    counts = None if ranks else counted(real, verdicts)
    return Score(
        accuracy=None if counts is None else balanced_accuracy(counts),
        accuracy_read=None if counts is None else _read_accuracy(counts),
        auc=_believed(real, verdicts, ranks),
        counts=counts,
        examples=len(real),
        false_positive_rates={} if ranks else _by_kind(real, verdicts, kinds),
        constant=None if ranks else _constant(real),
    )


def counted(truth: Bool[np.ndarray, " example"], verdicts: Sequence[Verdict]) -> Counts:
    """How the answers compare with the truth."""
    said = np.array([-1 if each.answer is None else int(each.answer) for each in verdicts])

    def many(there: bool, answer: int) -> int:
        return int(((truth == there) & (said == answer)).sum())

    return Counts(
        true_positives=many(True, 1), false_negatives=many(True, 0), unread_positives=many(True, -1),
        true_negatives=many(False, 0), false_positives=many(False, 1), unread_negatives=many(False, -1),
    )  # fmt: skip


def balanced_accuracy(counts: Counts) -> Interval | None:
    """(TPR + TNR) / 2; None unless there are examples of both kinds.

    The interval joins Wilson's of the two rates by the square-and-add rule [newcombe1998], so that 20 of 20 right does
    not become certainty.
    """
    positives = counts.true_positives + counts.false_negatives + counts.unread_positives
    negatives = counts.true_negatives + counts.false_positives + counts.unread_negatives
    if not positives or not negatives:
        return None
    one, other = _share(counts.true_positives, positives), _share(counts.true_negatives, negatives)
    mean = (one.value + other.value) / 2
    below = np.hypot(one.value - one.low, other.value - other.low) / 2
    above = np.hypot(one.high - one.value, other.high - other.value) / 2
    return Interval(value=mean, low=float(mean - below), high=float(mean + above))


def _read_accuracy(counts: Counts) -> float | None:
    found = balanced_accuracy(counts.model_copy(update={"unread_positives": 0, "unread_negatives": 0}))
    return None if found is None else found.value


def _share(hits: int, trials: int) -> Interval:
    low, high = wilson(hits, trials)
    return Interval(value=hits / trials, low=low, high=high)


def auc(positives: Float[np.ndarray, " positive"], negatives: Float[np.ndarray, " negative"]) -> Interval:
    """P(a positive ranks above a negative), ties counting half, with Newcombe's interval [newcombe2006, method 5].

    The interval's ends solve |theta - auc| = z sqrt(V(theta)) with V(t) = t (1 - t) (1 + n (1 - t) / (2 - t) +
    n t / (1 + t)) / (P N) and n = (P + N) / 2 - 1, so that a perfect ranking of few examples is not certain either.
    """
    below = np.searchsorted(np.sort(negatives), positives, "left").sum()
    upto = np.searchsorted(np.sort(negatives), positives, "right").sum()
    pairs = len(positives) * len(negatives)
    found = float(below + upto) / (2 * pairs)
    middle = (len(positives) + len(negatives)) / 2 - 1

    def excess(theta: float) -> float:
        spread = theta * (1 - theta) * (1 + middle * (1 - theta) / (2 - theta) + middle * theta / (1 + theta))
        return abs(theta - found) - Z * float(np.sqrt(spread / pairs))

    return Interval(value=found, low=_crossing(excess, 0.0, found), high=_crossing(excess, 1.0, found))


def _crossing(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """The end of an interval by bisection between a point outside of it and one inside."""
    if excess(outside) <= 0:
        return outside
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if excess(middle) > 0 else (outside, middle)
    return inside


def _believed(truth: Bool[np.ndarray, " example"], verdicts: Sequence[Verdict], ranks: bool) -> Interval | None:
    read = [ranks or each.answer is not None for each in verdicts]
    known = [each.belief for each, was in zip(verdicts, read, strict=True) if was]
    if not known or any(belief is None for belief in known):
        return None
    beliefs, real = np.array(known, dtype=np.float64), truth[np.array(read)]
    return auc(beliefs[real], beliefs[~real]) if real.any() and not real.all() else None


def _by_kind(
    truth: Bool[np.ndarray, " example"], verdicts: Sequence[Verdict], kinds: Sequence[str]
) -> dict[str, float]:
    seen: dict[str, list[bool]] = {}
    for real, verdict, kind in zip(truth, verdicts, kinds, strict=True):
        if not real and verdict.answer is not None:
            seen.setdefault(kind, []).append(verdict.answer)
    return {kind: float(np.mean(answers)) for kind, answers in sorted(seen.items())}


def _constant(truth: Bool[np.ndarray, " example"]) -> float | None:
    """Computed and not assumed, so that a mistake in the counting would show here."""
    found = [counted(truth, [Verdict(answer)] * len(truth)) for answer in (False, True)]
    both = [balanced_accuracy(each) for each in found]
    values = [each.value for each in both if each is not None]
    return max(values) if values else None
