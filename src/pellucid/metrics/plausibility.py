"""Plausibility: does the attribution point where a person, or a planted truth, does?

It measures agreement with people and not with the model, so it has a table of its own. Scores of an example without any
marked feature are NaN.
"""

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, final

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from pellucid.errors import InputError
from pellucid.facts import MetricFacts
from pellucid.metrics.base import AbstractMetric, Example, rationale
from pellucid.metrics.functional import plausibility
from pellucid.metrics.functional.inputs import Sign, pooled
from pellucid.models import AbstractClassifier


class _Rationale(AbstractMetric):
    """A metric that compares with a rationale and asks the model nothing."""

    sign: Sign = "signed"
    """How scores count: signed, absolute or positive."""

    def rows(self, players: int) -> int:
        return 0

    @final
    def score(self, example: Example) -> float:
        marks = rationale(example, self)
        self.require(example)
        return self.compare(pooled(example.values, self.sign), marks, example.seed)

    def require(self, example: Example) -> None:
        """Raise InputError where the metric means nothing for the example."""
        return

    @abstractmethod
    def compare(self, values: Float[np.ndarray, " player"], marks: Bool[np.ndarray, " player"], seed: int) -> float:
        """The score."""


def _facts(name: str, title: str, chance: str, source: str) -> MetricFacts:
    return MetricFacts(
        name=name,
        title=title,
        family="plausibility",
        higher_is_better=True,
        range=(0.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("rationale",),
        chance=chance,
        cost="0",
        source=source,
    )


class _TopK(_Rationale):
    """A metric of the k highest scores."""

    k: Annotated[int, Field(ge=1)] | None = None
    """How many features are chosen, such as the mean length of the data's rationales; None: as many as are marked."""

    def chosen(
        self, values: Float[np.ndarray, " player"], marks: Bool[np.ndarray, " player"], seed: int
    ) -> Bool[np.ndarray, " player"]:
        """The chosen features."""
        return plausibility.top(values, self.k or max(1, int(marks.sum())), seed)


@final
class TokenF1(_TopK):
    """F1 of the k highest scores against the rationale [deyoung2020]. High is good."""

    facts: ClassVar[MetricFacts] = _facts(
        "token_f1", "Token F1", "2 k m / (n (k + m)), m marked of n", "DeYoung et al. 2020, section 4"
    )

    def compare(self, values: Float[np.ndarray, " player"], marks: Bool[np.ndarray, " player"], seed: int) -> float:
        return plausibility.token_f1(self.chosen(values, marks, seed), marks)


@final
class IouF1(_TopK):
    """F1 of the spans that the k highest scores form, matched at an overlap [deyoung2020]. High is good."""

    threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.5
    """Least intersection over union of two spans that match."""
    facts: ClassVar[MetricFacts] = _facts(
        "iou_f1", "IoU F1 of spans", "a random order's", "DeYoung et al. 2020, section 4"
    )

    def compare(self, values: Float[np.ndarray, " player"], marks: Bool[np.ndarray, " player"], seed: int) -> float:
        return plausibility.iou_f1(self.chosen(values, marks, seed), marks, self.threshold)


@final
class Auprc(_Rationale):
    """Average precision of the scores against the rationale [deyoung2020]. High is good."""

    facts: ClassVar[MetricFacts] = _facts(
        "auprc", "Area under the precision-recall curve", "about the share marked", "DeYoung et al. 2020, section 4"
    )

    def compare(self, values: Float[np.ndarray, " player"], marks: Bool[np.ndarray, " player"], seed: int) -> float:
        return plausibility.auprc(values, marks)


@final
class Auroc(_Rationale):
    """Chance that a marked feature scores above another one. High is good."""

    facts: ClassVar[MetricFacts] = _facts("auroc", "Area under the ROC curve", "0.5", "Hanley and McNeil 1982")

    def compare(self, values: Float[np.ndarray, " player"], marks: Bool[np.ndarray, " player"], seed: int) -> float:
        return plausibility.auroc(values, marks)


@final
class PointingGame(_Rationale):
    """Whether the highest score is marked [zhang2018]. High is good.

    For right predictions only: where the model is wrong, what a person marked is not what made it say so. Give the true
    label; a wrong prediction, and a target of another class, are refused.
    """

    facts: ClassVar[MetricFacts] = MetricFacts(
        name="pointing_game",
        title="Pointing game",
        family="plausibility",
        higher_is_better=True,
        range=(0.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("rationale", "label"),
        chance="the share marked",
        cost="1",
        source="Zhang et al. 2018, section 4",
    )

    def rows(self, players: int) -> int:
        # The prediction.
        return 1

    def require(self, example: Example) -> None:
        if example.label is None:
            raise InputError("pointing_game means something for right predictions only; give the true label as label=.")
        question = example.question
        if isinstance(question.model, AbstractClassifier) and example.label not in question.model.labels:
            raise InputError(
                f"{example.label!r} is no label of {question.model.name}; it has {', '.join(question.model.labels)}."
            )
        predicted = question.model.predicted(question.inputs)
        if predicted != example.label:
            raise InputError(
                f"{question.model.name} says {predicted!r} where the label is {example.label!r}; the pointing game "
                "means something for right predictions only, so leave this example out."
            )
        explained = question.target.output_names
        if explained != (example.label,):
            raise InputError(
                f"the pointing game asks where {example.label!r} is seen, and {', '.join(explained)!r} was explained."
            )

    def compare(self, values: Float[np.ndarray, " player"], marks: Bool[np.ndarray, " player"], seed: int) -> float:
        return plausibility.pointing_game(values, marks)


@final
class RelevanceMass(_Rationale):
    """Share of the relevance that is marked [arras2022, eq. 1]. High is good."""

    sign: Literal["positive", "absolute"] = "positive"
    """How scores count; signed ones would cancel and make no mass."""
    facts: ClassVar[MetricFacts] = _facts(
        "relevance_mass", "Relevance mass accuracy", "the share marked", "Arras et al. 2022, eq. 1"
    )

    def compare(self, values: Float[np.ndarray, " player"], marks: Bool[np.ndarray, " player"], seed: int) -> float:
        return plausibility.relevance_mass(values, marks, self.sign)


@final
class RelevanceRank(_Rationale):
    """Share of the |M| highest scores that is marked, M the rationale [arras2022, eq. 2]. High is good."""

    facts: ClassVar[MetricFacts] = _facts(
        "relevance_rank", "Relevance rank accuracy", "the share marked", "Arras et al. 2022, eq. 2"
    )

    def compare(self, values: Float[np.ndarray, " player"], marks: Bool[np.ndarray, " player"], seed: int) -> float:
        return plausibility.relevance_rank(values, marks)
