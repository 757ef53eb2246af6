"""The attributions of one input under every metric and every imputer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pellucid.errors import PellucidError
from pellucid.games import Question
from pellucid.methods import AbstractMethod
from pellucid.metrics import AbstractMetric, Example, explaining
from pellucid.metrics.together import judge_together

Values = Float[np.ndarray, " player"]


class Verdict(NamedTuple):
    """What one metric says of one attribution."""

    of: Any
    """Which attribution."""
    metric: str
    """The metric's whole name."""
    score: float
    """The score; NaN where it is undefined, or where the metric refuses."""
    refusal: Exception | None
    """Why the metric refuses."""


def judge(
    question: Question,
    values: Mapping[Any, Values],
    metrics: Sequence[AbstractMetric],
    *,
    methods: Mapping[Any, AbstractMethod],
    rationale: Bool[np.ndarray, " player"] | None = None,
    label: str | None = None,
    imputers: Sequence[str] = (),
) -> list[Verdict]:
    """Score every attribution under every metric.

    Args:
        question: the input, with the imputer that comes first.
        values: the attributions.
        metrics: the metrics. Those that play the game do so under every imputer; those that need a rationale are left
            out where there is none.
        methods: what made an attribution: the metrics that run a method again judge these alone.
        rationale: the features that are the reason.
        label: the true label.
        imputers: further imputers.
    """
    known = [each for each in metrics if rationale is not None or "rationale" not in each.facts.needs]
    found = []
    for imputer in (None, *imputers):
        chosen = known if imputer is None else [each for each in known if "game" in each.facts.needs]
        try:
            asked = question if imputer is None else question.imputed(imputer)
        except PellucidError as error:
            found += [Verdict(name, each.facts.name, math.nan, error) for each in chosen for name in values]
            continue
        examples = {
            name: Example(
                asked, each, question.seed, rationale, label, explaining(methods[name]) if name in methods else None
            )
            for name, each in values.items()
        }
        again = [each for each in chosen if "method" in each.facts.needs]
        for some, given in (
            ([each for each in chosen if each not in again], examples),
            (again, {name: example for name, example in examples.items() if name in methods}),
        ):
            fitting = []
            for metric in some:
                try:
                    fitting.append((metric, metric.named(asked)))
                except PellucidError as error:
                    found += [Verdict(name, metric.facts.name, math.nan, error) for name in given]
            for each in judge_together([metric for metric, _ in fitting], given):
                score = math.nan if each.refusal else each.score
                found.append(Verdict(each.of, fitting[each.metric][1], score, each.refusal))
    return found
