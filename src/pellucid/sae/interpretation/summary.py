"""A run in a few numbers, each beside what the same judge says of nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pellucid.records import Record
from pellucid.sae.interpretation.asking import Ledger
from pellucid.sae.interpretation.results import INTERPRETATIONS, RANDOM, Interpretation, read_lines
from pellucid.sae.interpretation.scoring import Score

SUMMARY = "summary.json"
DRAWS = 2000


class Average(Record):
    """A mean with its 95 % interval."""

    value: float
    """The mean."""
    low: float | None
    """Lower end; None where there is a single value."""
    high: float | None
    """Upper end."""


class Mean(Record):
    """A mean over latents."""

    mean: Average | None
    """With its 95 % interval, latents drawn anew [efron1993]; None where no latent has the figure."""
    latents: int
    """Over how many."""


class Row(Record):
    """One score over all latents."""

    name: str
    """``detection``, ``fuzzing`` or ``embedding``."""
    judge: str
    """Who judged."""
    accuracy: Mean
    """Balanced accuracy, what could not be read counting as wrong."""
    auc: Mean
    """Area under the ROC curve of the judge's beliefs."""
    shuffled_accuracy: Mean
    """``accuracy`` with the explanation of another latent."""
    shuffled_auc: Mean
    """``auc`` with the explanation of another latent."""
    above_shuffled: Mean
    """Difference to it on the same latents, of accuracies, or of AUCs where the judge only ranks."""
    random_accuracy: Mean
    """``accuracy`` of random directions."""
    random_auc: Mean
    """``auc`` of random directions."""
    oracle_accuracy: Mean
    """``accuracy`` of a judge that knows the truth."""
    constant: Mean
    """Balanced accuracy of an answer that is always the same."""
    unread: int
    """Answers that could not be read, explanations of other latents included."""
    judged: int
    """Answers that were wanted."""


class Summary(Record):
    """What a run found."""

    latents: int
    """How many were asked for."""
    explained: int
    """How many have an explanation."""
    scored: int
    """How many have a score."""
    reasons: dict[str, int]
    """Why the others have none, with how many."""
    rows: tuple[Row, ...]
    """The scores."""
    ledger: Ledger
    """What was spent, over all sessions."""


def summarised(folder: Path, latents: Sequence[int], scorers: Sequence[str], ledger: Ledger) -> Summary:
    """The summary of the latents of a folder."""
    wanted = set(latents)
    found = [each for each in read_lines(folder / INTERPRETATIONS, Interpretation) if each.latent in wanted]
    random = list(read_lines(folder / RANDOM, Interpretation))
    reasons: dict[str, int] = {}
    for each in found:
        if each.reason:
            reasons[each.reason] = reasons.get(each.reason, 0) + 1
    return Summary(
        latents=len(wanted),
        explained=sum(bool(each.explanation) for each in found),
        scored=sum(bool(each.scores) for each in found),
        reasons=dict(sorted(reasons.items(), key=lambda item: -item[1])),
        rows=tuple(_row(name, found, random) for name in scorers),
        ledger=ledger,
    )


def _row(name: str, found: Sequence[Interpretation], random: Sequence[Interpretation]) -> Row:
    own = [each.scores.get(name) for each in found]
    other = [each.shuffled.get(name) for each in found]
    drawn = [each.scores.get(name) for each in random]
    counted = [each.counts for each in (*own, *other) if each is not None and each.counts is not None]
    ranks = not counted
    both = [(_of(one, ranks), _of(two, ranks)) for one, two in zip(own, other, strict=True)]
    return Row(
        name=name,
        judge=next((each.judges[name] for each in found if name in each.judges), ""),
        accuracy=_mean(own, _accuracy),
        auc=_mean(own, _auc),
        shuffled_accuracy=_mean(other, _accuracy),
        shuffled_auc=_mean(other, _auc),
        above_shuffled=mean([one - two for one, two in both if one is not None and two is not None]),
        random_accuracy=_mean(drawn, _accuracy),
        random_auc=_mean(drawn, _auc),
        oracle_accuracy=_mean([each.oracle.get(name) for each in found], _accuracy),
        constant=_mean(own, lambda score: score.constant),
        unread=sum(each.unread for each in counted),
        judged=sum(each.examples for each in (*own, *other) if each is not None),
    )


def _accuracy(score: Score) -> float | None:
    return None if score.accuracy is None else score.accuracy.value


def _auc(score: Score) -> float | None:
    return None if score.auc is None else score.auc.value


def _of(score: Score | None, ranks: bool) -> float | None:
    return None if score is None else _auc(score) if ranks else _accuracy(score)


def _mean(scores: Sequence[Score | None], figure: Callable[[Score], float | None]) -> Mean:
    values = [figure(each) for each in scores if each is not None]
    return mean([each for each in values if each is not None])


def mean(values: Sequence[float]) -> Mean:
    """Mean and bootstrap interval; a single value has none."""
    if len(values) < 2:
        return Mean(mean=Average(value=values[0], low=None, high=None) if values else None, latents=len(values))
    known, generator = np.array(values), np.random.default_rng(0)
    means = [float(known[generator.integers(len(known), size=len(known))].mean()) for _ in range(DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Mean(mean=Average(value=float(known.mean()), low=float(low), high=float(high)), latents=len(known))
