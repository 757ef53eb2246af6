"""Data randomisation: an attribution must change when the labels that the model learned from made no sense."""

from typing import Any, ClassVar, final

from pydantic import Field

from pellucid.errors import InputError
from pellucid.facts import MetricFacts
from pellucid.games import Question
from pellucid.metrics.base import AbstractMetric, Example, explainer
from pellucid.metrics.functional import randomisation
from pellucid.metrics.functional.inputs import Sign
from pellucid.metrics.rewritten import of_model


@final
class DataRandomisation(AbstractMetric):
    """Similarity of the attributions of the model and of one trained on shuffled labels [adebayo2018, section 4].

    Low is good: what the second one learned by heart has nothing to do with the labels. Train it until it knows its
    training data, from the same first weights, and explain inputs that both were trained on. What is explained is the
    class of the first model in both.
    """

    sign: Sign = "signed"
    """How scores count: signed, absolute or positive. Report both signed and absolute."""
    other: Any = Field(default=None, exclude=True)
    """The model that was trained on shuffled labels: of the same kind, with the same labels and preprocessing."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="data_randomisation",
        title="Data randomisation test",
        family="randomisation",
        higher_is_better=False,
        range=(-1.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("method",),
        chance="0",
        centred=True,
        cost="1 run of the method",
        source="Adebayo et al. 2018, section 4",
    )

    def rows(self, players: int) -> int:
        return 0

    def conditions(self, question: Question) -> tuple[str, ...]:
        name = "nothing" if self.other is None else self.other.name
        return (*super().conditions(question), f"against {name}")

    def score(self, example: Example) -> float:
        explain, question = explainer(example, self), example.question
        if self.other is None:
            raise InputError(
                "data_randomisation compares with a model that was trained on shuffled labels; give it as other=."
            )
        return randomisation.similarity(example.values, explain(of_model(question, self.other)), self.sign)
