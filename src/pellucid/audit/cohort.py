"""What the cases of an audit show together. Pure functions over plain arrays; cases are the units of every interval."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from pellucid.errors import InputError
from pellucid.intervals import wilson
from pellucid.ranks import ranks_of, spearman
from pellucid.records import Record


class Interval(Record):
    """An estimate and the bounds of its confidence interval; bounds are None where there is too little to give any."""

    estimate: float
    """The estimate."""
    low: float | None
    """The lower bound."""
    high: float | None
    """The upper bound."""


class FieldEffect(Record):
    """How one field moved the decisions of a cohort, in the unit of the target."""

    field: str
    """The field."""
    cases: int
    """Cases in which it has a score."""
    mean: Interval
    """Mean signed attribution: which way it pushes."""
    mean_absolute: Interval
    """Mean absolute attribution: how much it matters."""
    fraction_positive: float
    """Share of those cases in which it spoke for the decision."""


class Agreement(Record):
    """How the measured importance of fields agrees with what was expected."""

    k: int
    """How many fields were expected."""
    precision_at_k: float
    """Share of the k most important fields that were expected. Ties at the border count by their share."""
    precision_by_chance: float
    """What a random order gives: k over the number of fields."""
    precision_per_case: Interval
    """The same case by case, averaged over the cases."""
    auroc: float | None
    """Probability that an expected field is more important than another; 0.5 by chance; None without others."""
    rank_correlation: float | None
    """Spearman's rho between the expected order and the measured one; None for fewer than three expected fields or
    where all are equally important."""
    expected_ranks: dict[str, float]
    """Rank of each expected field, 1 for the most important; ties share the mean."""
    decoy_ranks: dict[str, float]
    """Rank of each decoy."""
    fields: int
    """How many fields there are."""


class Bin(Record):
    """Decisions of similar confidence."""

    low: float
    """Confidence from here ..."""
    high: float
    """... to here, this bound included."""
    cases: int
    """Decisions in the bin."""
    confidence: float | None
    """Their mean confidence; None for an empty bin."""
    accuracy: float | None
    """Share of them that was right; None for an empty bin."""


class Count(Record):
    """How often an outcome met a decision."""

    outcome: str
    """What became of the patient."""
    decision: str
    """What the model said."""
    cases: int
    """How often."""


class Performance(Record):
    """How right the decisions were, and how well their probabilities were calibrated."""

    cases: int
    """Cases with a known outcome."""
    unknown: int
    """Cases without one, left out."""
    accuracy: Interval
    """Share of right decisions, with Wilson's interval."""
    majority_rate: float
    """What always saying the most frequent outcome would reach."""
    brier: float
    """Brier score, 0 is best; halved so that it lies in [0, 1] and equals the usual one for two options."""
    calibration_error: float
    """Expected calibration error over the bins, 0 is best."""
    bins: tuple[Bin, ...]
    """The bins, so that the error can be judged: few cases a bin make it large by chance."""
    counts: tuple[Count, ...]
    """Outcomes against decisions."""


def field_effects(
    values: Float[np.ndarray, "case field"],
    fields: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[FieldEffect, ...]:
    """Mean signed and absolute attribution of every field, with percentile bootstrap intervals over cases.

    values: NaN where a case has no score for a field. [Efron & Tibshirani 1993, chapter 13]
    Raises InputError where a field has no score in any case.
    """
    present = np.isfinite(values)
    if not present.any(0).all():
        missing = fields[int(np.argmin(present.any(0)))]
        raise InputError(f"the field {missing!r} has no finite attribution in any case, so it has no mean.")
    signed = mean_intervals(values, seed=seed, resamples=resamples, level=level)
    absolute = mean_intervals(np.abs(values), seed=seed, resamples=resamples, level=level)
    counts = present.sum(0)
    positive = ((values > 0) & present).sum(0) / counts
    return tuple(
        FieldEffect(
            field=field,
            cases=int(counts[i]),
            mean=signed[i],
            mean_absolute=absolute[i],
            fraction_positive=float(positive[i]),
        )
        for i, field in enumerate(fields)
    )


def agreement(
    values: Float[np.ndarray, "case field"],
    fields: Sequence[str],
    expected: Sequence[str],
    decoy: Sequence[str] = (),
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Agreement:
    """Whether the fields that were expected to matter do. Importance is the mean absolute attribution over cases.

    expected: the most important first, which only ``rank_correlation`` looks at. Raises InputError without any.
    """
    if not expected:
        raise InputError("no field was named as expected, so there is nothing to agree with.")
    present = np.isfinite(values)
    importance = np.where(present, np.abs(values), 0.0).sum(0) / np.maximum(present.sum(0), 1)
    member = np.array([field in expected for field in fields])
    ranks = dict(zip(fields, ranks_of(-importance), strict=True))
    per_case = np.array([[_precision(np.where(np.isfinite(row), np.abs(row), 0.0), member)] for row in values])
    return Agreement(
        k=int(member.sum()),
        precision_at_k=_precision(importance, member),
        precision_by_chance=float(member.mean()),
        precision_per_case=mean_intervals(per_case, seed=seed, resamples=resamples, level=level)[0],
        auroc=_auroc(importance, member),
        rank_correlation=spearman(
            np.arange(len(expected), dtype=float), np.array([ranks[field] for field in expected])
        ),
        expected_ranks={field: ranks[field] for field in expected},
        decoy_ranks={field: ranks[field] for field in decoy},
        fields=len(fields),
    )


def performance(
    probabilities: Float[np.ndarray, "case option"],
    options: Sequence[str],
    outcomes: Sequence[str | None],
    *,
    bins: int = 5,
    level: float = 0.95,
) -> Performance:
    """Accuracy, Brier score and calibration of choices; a decision is the most probable option.

    outcomes: the option that was right, None where unknown. Raises InputError where no outcome is known.
    """
    known = [i for i, outcome in enumerate(outcomes) if outcome is not None]
    if not known:
        raise InputError(
            "no case has a known outcome, so there is no accuracy; check the outcome column and its options."
        )
    truth = np.array([options.index(str(outcomes[i])) for i in known])
    p = probabilities[known]
    decided = p.argmax(1)
    right = decided == truth
    table, error = calibration(p.max(1), right, bins)
    return Performance(
        cases=len(known),
        unknown=len(outcomes) - len(known),
        accuracy=share_interval(int(right.sum()), len(known), level),
        majority_rate=float(np.bincount(truth).max() / len(known)),
        brier=float(((p - np.eye(len(options))[truth]) ** 2).sum(1).mean() / 2),
        calibration_error=error,
        bins=table,
        counts=_counts(truth, decided, options),
    )


def calibration(
    confidence: Float[np.ndarray, " case"], right: Bool[np.ndarray, " case"], bins: int
) -> tuple[tuple[Bin, ...], float]:
    """Decisions in bins of equal width (low, high], and the expected calibration error [Guo et al. 2017, eq. 3].

    ECE = sum over bins of (cases / all) |accuracy - confidence|.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    cases = np.bincount(place, minlength=bins)
    sure = np.bincount(place, weights=confidence, minlength=bins)
    correct = np.bincount(place, weights=right, minlength=bins)
    table = tuple(
        Bin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            cases=int(cases[i]),
            confidence=float(sure[i] / cases[i]) if cases[i] else None,
            accuracy=float(correct[i] / cases[i]) if cases[i] else None,
        )
        for i in range(bins)
    )
    return table, float(np.abs(correct - sure).sum() / len(confidence))


def share_interval(successes: int, trials: int, level: float = 0.95) -> Interval:
    """A proportion with Wilson's interval."""
    low, high = wilson(successes, trials, level)
    return Interval(estimate=successes / trials, low=low, high=high)


def mean_intervals(
    values: Float[np.ndarray, "case column"], *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> list[Interval]:
    """Mean of every column over its finite cells, with a percentile interval from drawing whole cases again."""
    present = np.isfinite(values)
    filled = np.where(present, values, 0.0).astype(np.float64)
    cases = len(values)
    generator = np.random.default_rng(seed)
    means = np.full((resamples, values.shape[1]), np.nan)
    # One draw at a time: the table of draws of a large cohort would not fit into memory.
    for row in range(resamples):
        drawn = np.bincount(generator.integers(cases, size=cases), minlength=cases)
        found = drawn @ present
        np.divide(drawn @ filled, found, out=means[row], where=found > 0)
    tail = (1 - level) / 2
    intervals = []
    for column in range(values.shape[1]):
        count = int(present[:, column].sum())
        low, high = np.nanquantile(means[:, column], [tail, 1 - tail]) if count > 1 else (None, None)
        estimate = float(filled[:, column].sum() / count)
        intervals.append(
            Interval(
                estimate=estimate,
                low=None if low is None else float(low),
                high=None if high is None else float(high),
            )
        )
    return intervals


def _precision(importance: Float[np.ndarray, " field"], member: Bool[np.ndarray, " field"]) -> float:
    """Share of members among the k most important, k members being there; ties at the border count by their share."""
    k = int(member.sum())
    border = np.sort(importance)[-k]
    above, tied = importance > border, importance == border
    places = k - above.sum()
    return float(((member & above).sum() + places * (member & tied).sum() / tied.sum()) / k)


def _auroc(importance: Float[np.ndarray, " field"], member: Bool[np.ndarray, " field"]) -> float | None:
    """The Mann-Whitney statistic over all pairs of a member and another; ties count one half."""
    inside, outside = int(member.sum()), int((~member).sum())
    if not inside or not outside:
        return None
    total = np.array(ranks_of(importance))[member].sum()
    return float((total - inside * (inside + 1) / 2) / (inside * outside))


def _counts(
    truth: Int[np.ndarray, " case"], decided: Int[np.ndarray, " case"], options: Sequence[str]
) -> tuple[Count, ...]:
    return tuple(
        Count(outcome=outcome, decision=decision, cases=int(((truth == i) & (decided == j)).sum()))
        for i, outcome in enumerate(options)
        for j, decision in enumerate(options)
    )
