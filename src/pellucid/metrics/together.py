"""Many metrics of many attributions of one input, their coalitions played together."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pellucid.errors import PellucidError
from pellucid.games import Coalitions
from pellucid.metrics.base import AbstractGameMetric, AbstractMetric, Example


class Judged(NamedTuple):
    """One attribution under one metric."""

    metric: int
    """Which metric."""
    of: Any
    """Which attribution."""
    score: float
    """NaN where it is undefined, or where the metric refuses."""
    rows: int
    """Model evaluations that it asked for, shared ones included; of a metric that asks step by step the new ones."""
    refusal: Exception | None
    """Why the metric does not fit, or what the method raised when it was run again."""


def judge_together(metrics: Sequence[AbstractMetric], examples: Mapping[Any, Example]) -> Iterator[Judged]:
    """Score attributions of one input under every metric: now that the game knows all coalitions, each is played once.

    All examples share one question. Metrics come first, attributions within them.
    """
    masks: dict[tuple[int, Any], Coalitions] = {}
    refused: dict[tuple[int, Any], PellucidError] = {}
    for place, metric in enumerate(metrics):
        if not isinstance(metric, AbstractGameMetric):
            continue
        for name, example in examples.items():
            try:
                masks[place, name] = metric.asked(example)
            except PellucidError as error:
                refused[place, name] = error
    if masks:
        next(iter(examples.values())).question.game.value(np.concatenate(list(masks.values())))
    for place, metric in enumerate(metrics):
        for name, example in examples.items():
            if (place, name) in refused:
                yield Judged(place, name, float("nan"), 0, refused[place, name])
            else:
                yield _judged(place, metric, name, example, masks.get((place, name)))


def _judged(place: int, metric: AbstractMetric, name: Any, example: Example, masks: Coalitions | None) -> Judged:
    question = example.question
    before = question.model.meter.rows
    try:
        if isinstance(metric, AbstractGameMetric) and masks is not None:
            rows = len(set(map(bytes, masks))) * question.game.imputer.draws
            return Judged(place, name, metric.judged(example, masks), rows, None)
        score = metric.score(example)
    except PellucidError as error:
        return Judged(place, name, float("nan"), 0, error)
    except Exception as error:
        # What a method raises when it is run again is its own failure, whatever its class.
        if example.explain is None:
            raise
        return Judged(place, name, float("nan"), 0, error)
    return Judged(place, name, score, question.model.meter.rows - before, None)
