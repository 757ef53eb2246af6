"""Randomisation: an attribution must change when the model's weights, or the class explained, do.

A method that is blind to the model scores near 1 and must fail: that is the test of these tests.
"""

import math
from typing import Annotated, ClassVar, final

import numpy as np
from jaxtyping import Float
from pydantic import Field

from pellucid.errors import InputError
from pellucid.facts import MetricFacts
from pellucid.metrics.base import AbstractMetric, Example, explainer
from pellucid.metrics.functional import randomisation
from pellucid.metrics.functional.inputs import Sign
from pellucid.metrics.randomised import shuffled
from pellucid.models import AbstractClassifier


@final
class Mprt(AbstractMetric):
    """Similarity of the attribution to those of the model as its layers are shuffled from the top down [adebayo2018].

    The mean over the steps; low is good. ``curve`` gives every step. Weights are permuted within each tensor, which
    keeps their distribution, and come back bit by bit. What is explained stays the class of the model as it was.
    """

    sign: Sign = "signed"
    """How scores count: signed, absolute or positive. Report both signed and absolute."""
    steps: Annotated[int, Field(ge=1)] = 8
    """The most steps; a deeper network has several layers shuffled at a step."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="mprt",
        title="Model parameter randomisation test",
        family="randomisation",
        higher_is_better=False,
        range=(-1.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("method",),
        chance="0",
        centred=True,
        cost="steps runs of the method",
        source="Adebayo et al. 2018, section 3",
    )

    def rows(self, players: int) -> int:
        return 0

    def score(self, example: Example) -> float:
        curve = self.curve(example)
        known = curve[~np.isnan(curve)]
        return float(known.mean()) if len(known) else math.nan

    def curve(self, example: Example) -> Float[np.ndarray, " step"]:
        """The similarity after each step."""
        explain, question = explainer(example, self), example.question
        with shuffled(question.model.module, example.seed, self.steps) as steps:
            found = [explain(question.of(question.inputs)) for _ in steps]
        return randomisation.mprt(example.values, np.stack(found), self.sign)


@final
class RandomLogit(AbstractMetric):
    """Similarity of the attributions of the target and of another class [sixt2020]. Low is good.

    Between two classes that exclude each other the signed one is -1 for a good reason: report the absolute one beside.
    """

    sign: Sign = "signed"
    """How scores count: signed, absolute or positive."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="random_logit",
        title="Random logit test",
        family="randomisation",
        higher_is_better=False,
        range=(-1.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("method",),
        chance="0",
        centred=True,
        cost="1 run of the method",
        source="Sixt et al. 2020, section 4",
    )

    def rows(self, players: int) -> int:
        return 0

    def score(self, example: Example) -> float:
        explain, question = explainer(example, self), example.question
        target, model = question.target.target, question.model
        label = getattr(target, "label", None)
        if not isinstance(model, AbstractClassifier) or label is None:
            raise InputError(
                f"random_logit explains another class of a classifier, and {model.name} was asked about "
                f"{question.target.output_names[0]!r}; use mprt."
            )
        others = [each for each in model.labels if each != label]
        if not others:
            raise InputError(f"{model.name} has one class only, so there is no other one to explain.")
        other = others[int(np.random.default_rng(example.seed).integers(len(others)))]
        found = explain(question.about(target.model_copy(update={"label": other})))
        return randomisation.random_logit(example.values, found, self.sign)
