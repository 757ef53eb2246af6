"""Scores of several attributions under several metrics, example by example, and how they compare."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pellucid.errors import InputError
from pellucid.explanation import Explanation
from pellucid.facts import MetricFacts
from pellucid.games import Question, ask
from pellucid.metrics.base import AbstractMetric, Attributing, Example, Explain, explaining
from pellucid.metrics.functional.inputs import checked
from pellucid.metrics.statistics import Interval, Significance, paired_difference, wilcoxon, win_rate
from pellucid.metrics.statistics import bootstrap as bootstrapped
from pellucid.metrics.together import judge_together
from pellucid.progress import hidden, progress
from pellucid.targets import AbstractTarget

Given = Explanation | np.ndarray | Tensor | Sequence[float]
"""An attribution of one input: one score for each feature, or an explanation, whose targets are then summed."""


@dataclass(frozen=True)
class Scores:
    """One attribution method under one metric, on every example."""

    metric: str
    """The metric's whole name: with imputer, unit and scale."""
    of: str
    """What was judged."""
    values: Float[Tensor, " example"]
    """The score of each example, NaN where it is undefined."""
    facts: MetricFacts
    """How to read them."""
    model: str
    """Name and digest of the model."""
    rows: int
    """Model evaluations that it asks for, shared ones included; of those that ask step by step only the new ones."""
    compares_models: bool = True
    """Whether the scores of two models can be compared."""

    def interval(self, clusters: Sequence[Hashable] | None = None, **options: Any) -> Interval:
        """The mean over the examples on which it is defined, with its bootstrap interval over clusters."""
        known = ~torch.isnan(self.values)
        labels = None if clusters is None else [label for label, kept in zip(clusters, known, strict=True) if kept]
        return bootstrapped(self.values[known].numpy(), labels, **options)


class Comparison(NamedTuple):
    """Two methods under one metric, on the same examples."""

    difference: Interval
    """Mean paired difference, first minus second, with its interval."""
    test: Significance
    """Wilcoxon's signed-rank test of the paired differences."""
    win_rate: float
    """Share of the examples on which the first is the better one, ties counting half."""
    left_out: int
    """Examples on which one of the two is undefined."""


def compare(first: Scores, second: Scores, clusters: Sequence[Hashable] | None = None, *, seed: int = 0) -> Comparison:
    """Hold two methods against each other. Raises InputError where their scores do not mean the same."""
    if first.metric != second.metric:
        raise InputError(
            f"{first.metric!r} and {second.metric!r} are different metrics; compare scores of one of them."
        )
    if first.model != second.model and not first.compares_models:
        raise InputError(
            f"the best that {first.metric!r} can reach differs between {first.model} and {second.model}, so their "
            "scores do not compare; use naopc."
        )
    if len(first.values) != len(second.values):
        raise InputError(f"there are {len(first.values)} and {len(second.values)} scores; give the same examples.")
    known = ~(torch.isnan(first.values) | torch.isnan(second.values))
    one, other = first.values[known].numpy(), second.values[known].numpy()
    labels = None if clusters is None else [label for label, kept in zip(clusters, known, strict=True) if kept]
    sign = -1 if first.facts.higher_is_better is False else 1
    return Comparison(
        paired_difference(one, other, labels, seed=seed),
        wilcoxon(one, other),
        win_rate(sign * one, sign * other),
        int((~known).sum()),
    )


def evaluate(
    model: Any,
    raws: Sequence[Any],
    attributions: Mapping[str, Sequence[Given] | np.ndarray | Tensor],
    metrics: Sequence[AbstractMetric],
    *,
    target: AbstractTarget | None = None,
    features: str | None = None,
    imputer: str | None = None,
    background: Sequence[Any] = (),
    seed: int = 0,
    rationales: Sequence[Sequence[bool] | Bool[np.ndarray, " _"]] | Bool[np.ndarray, "_ _"] | None = None,
    labels: Sequence[str] | None = None,
    methods: Mapping[str, Explain | Attributing] | None = None,
) -> list[Scores]:
    """Score every attribution under every metric. For each input all coalitions are played together, each once.

    Args:
        model: what ``load`` gave.
        raws: the inputs.
        attributions: by the name of what made them, one for each input.
        metrics: the metrics, with their settings.
        target: what was explained; None: as an explanation says, or the model's default.
        features: the kind of feature; None: the model's default.
        imputer: what stands in for an absent feature; None: the one that suits the model.
        background: other inputs, for the imputers that draw.
        seed: seed of ties and of everything that is drawn; each input has the next one.
        rationales: for the metrics that need them, one mark for each feature for each input.
        labels: the true label of each input.
        methods: by the same names, the methods themselves, for the metrics that run them again.

    Returns:
        One ``Scores`` for each metric and each name, metrics first.

    Raises:
        InputError: lists of different lengths, scores of another length or NaN, a metric that does not fit.
    """
    for metric in metrics:
        if not isinstance(metric, AbstractMetric):
            raise InputError(f"{metric!r} is no metric; give one with its settings, such as Srg().")
    _require_lengths(raws, {**attributions, "rationales": rationales, "labels": labels})
    tally = _Tally(metrics, list(attributions))
    explainers = {name: explaining(method) for name, method in (methods or {}).items()}
    with progress("Scoring", len(raws)) as advance, hidden():
        for number, raw in enumerate(raws):
            given = {name: each[number] for name, each in attributions.items()}
            question = _asked(model, raw, [*given.values()], target, features, imputer, background, seed + number)
            marks = None if rationales is None else _marks(rationales[number])
            label = None if labels is None else labels[number]
            tally.add(
                {
                    name: Example(
                        question, _values(name, one, question), question.seed, marks, label, explainers.get(name)
                    )
                    for name, one in given.items()
                }
            )
            advance(1)
    fingerprint = model.fingerprint()
    return tally.scores(f"{fingerprint.model} ({fingerprint.weights[:12]})")


class _Tally:
    """The scores of every metric and every attribution, as the examples come in."""

    def __init__(self, metrics: Sequence[AbstractMetric], names: Sequence[str]) -> None:
        self._metrics, self._named = metrics, [""] * len(metrics)
        self._places = [(place, name) for place in range(len(metrics)) for name in names]
        self._found: dict[tuple[int, str], list[float]] = {place: [] for place in self._places}
        self._rows: dict[tuple[int, str], int] = dict.fromkeys(self._places, 0)

    def add(self, examples: Mapping[str, Example]) -> None:
        """Score the attributions of one input."""
        for place, metric in enumerate(self._metrics):
            self._named[place] = metric.named(next(iter(examples.values())).question)
        for each in judge_together(self._metrics, examples):
            if each.refusal is not None:
                raise each.refusal
            self._found[each.metric, each.of].append(each.score)
            self._rows[each.metric, each.of] += each.rows

    def scores(self, model: str) -> list[Scores]:
        """All of them; ``model`` is the model's name and digest."""
        return [
            Scores(
                metric=self._named[place],
                of=name,
                values=torch.tensor(self._found[place, name], dtype=torch.float64),
                facts=self._metrics[place].facts,
                model=model,
                rows=self._rows[place, name],
                compares_models=self._metrics[place].compares_models,
            )
            for place, name in self._places
        ]


def _asked(
    model: Any,
    raw: Any,
    given: Sequence[Given],
    target: AbstractTarget | None,
    features: str | None,
    imputer: str | None,
    background: Sequence[Any],
    seed: int,
) -> Question:
    explained = [one for one in given if isinstance(one, Explanation)]
    if target is None and explained:
        target = explained[0].target
    if features is None and explained and explained[0].regions is None:
        features = explained[0].features[0].kind
    return ask(model, raw, target=target, features=features, imputer=imputer, background=background, seed=seed)


def _values(name: str, given: Given, question: Question) -> Float[np.ndarray, " player"]:
    """One score a feature. Raises InputError on another length, on NaN, and on another target than the question's."""
    what = f"the attribution {name!r}" if name else "the attribution"
    if isinstance(given, Explanation):
        if given.target != question.target.target:
            raise InputError(
                f"{what} explains {given.output_names[0]!r} as {type(given.target).__name__}, and "
                f"{question.target.output_names[0]!r} as {type(question.target.target).__name__} is asked about."
            )
        if given.fingerprint.weights != question.model.fingerprint().weights:
            raise InputError(
                f"{what} explains {given.fingerprint.model}, and {question.model.name} has other weights; give its "
                ".values.sum(0) to judge it on this model all the same."
            )
        _require_same_features(what, given, question)
        given = given.values.sum(0)
    array = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given, dtype=np.float64)
    if array.ndim != 1:
        raise InputError(f"{what} has shape {list(array.shape)}; give one number for each feature (sum over targets).")
    if len(array) != len(question.features):
        raise InputError(
            f"{what} has {len(array)} scores and the input {len(question.features)} features of kind "
            f"{question.unit!r}; score the same features, or say which kind they are with features=."
        )
    return checked(array, what=what)


def _marks(rationale: Any) -> Bool[np.ndarray, " player"]:
    """The rationale as a mask. Raises InputError where it holds anything but marks."""
    marks = np.asarray(rationale.detach().cpu() if isinstance(rationale, Tensor) else rationale)
    if marks.dtype != np.bool_ and not (marks.dtype.kind in "iuf" and np.isin(marks, (0, 1)).all()):
        wrong = next((each for each in marks.ravel().tolist() if each not in (0, 1)), rationale)
        raise InputError(f"the rationale holds {wrong!r}; give True or False (or 1 or 0) for each feature.")
    return marks.astype(bool)


def _require_same_features(what: str, given: Explanation, question: Question) -> None:
    """Raise InputError where an explanation scores other features than the question has."""
    drawing = question.model.drawing(question.inputs)
    if len(given.features) == len(question.features) and (
        given.feature_names != [feature.label for feature in question.features]
        or ("regions" in drawing and not np.array_equal(drawing["regions"], np.asarray(given.regions)))
    ):
        raise InputError(
            f"{what} scores other features than the input has; explain the same input, with the same kind of features."
        )


def _require_lengths(raws: Sequence[Any], beside: Mapping[str, Any]) -> None:
    if not raws:
        raise InputError("there is no input to score; give at least one.")
    for name, each in beside.items():
        if each is not None and len(each) != len(raws):
            what = repr(name) if name else "the list of attributions"
            raise InputError(f"{what} has {len(each)} entries for {len(raws)} inputs; give one for each.")
