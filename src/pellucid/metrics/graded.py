"""Absence by degrees: what the metrics share that take only a part of a feature away."""

from pellucid.errors import InputError
from pellucid.games import Question
from pellucid.metrics.base import AbstractMetric


def graded_baseline(metric: AbstractMetric, question: Question, baseline: str | None) -> str:
    """What absent positions move towards: the baseline of that name, or what the imputer puts there.

    Raises InputError where that cannot be reached by degrees, such as deletion.
    """
    name = baseline or question.game.imputer.name
    try:
        question.model.baseline(name, question.inputs)
    except InputError:
        raise InputError(
            f"{metric.facts.name} takes features away by degrees, and {name!r} is all or nothing; give baseline=, such "
            f"as {question.model.preferred_baseline()!r}."
        ) from None
    return name
