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
from pellucid.games import Question
from pellucid.metrics.base import AbstractMetric, Example, Explain, explainer
from pellucid.metrics.functional import randomisation
from pellucid.metrics.functional.inputs import Sign, pooled
from pellucid.metrics.randomised import shuffled
from pellucid.models import AbstractClassifier

MOST_BINS = 100
"""Bins of the paper's histograms, of maps of 224 x 224 pixels."""


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
class SmoothMprt(AbstractMetric):
    """``mprt`` of attributions that are first averaged over noisy copies of the input [hedstrom2024].

    So that the noise of a single gradient cannot pass for a change by the weights. The scores that were given belong to
    the input without noise and are not used: the method runs on the same noisy copies before and after each step. The
    noise is uniform, on the embeddings of a text and on the numbers of a picture or a table row; the paper's is normal.
    """

    sign: Sign = "signed"
    """How scores count: signed, absolute or positive. Report both signed and absolute."""
    steps: Annotated[int, Field(ge=1)] = 4
    """The most steps; a deeper network has several layers shuffled at a step."""
    draws: Annotated[int, Field(ge=1)] = 8
    """Noisy copies of the input."""
    radius: Annotated[float, Field(gt=0)] = 0.5
    """Half the width of the noise, in standard deviations of what the network reads."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="smooth_mprt",
        title="Smooth model parameter randomisation test (sMPRT)",
        family="randomisation",
        higher_is_better=False,
        range=(-1.0, 1.0),
        signed=True,
        scale_invariant=True,
        needs=("method",),
        chance="0",
        centred=True,
        cost="draws (steps + 1) runs of the method",
        source="Hedstrom et al. 2024 (sMPRT)",
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
        before = self.smoothed(explain, question, example.seed)
        with shuffled(question.model.module, example.seed, self.steps) as steps:
            found = [self.smoothed(explain, question, example.seed) for _ in steps]
        return randomisation.mprt(before, np.stack(found), self.sign)

    def smoothed(self, explain: Explain, question: Question, seed: int) -> Float[np.ndarray, " player"]:
        """The mean attribution of the noisy copies, each with a seed of its own."""
        found = []
        for draw in range(self.draws):
            with question.model.nudged(question.inputs, self.radius, seed + draw) as inputs:
                found.append(explain(question.of(inputs)))
        return np.asarray(np.mean(found, axis=0))


@final
class EfficientMprt(AbstractMetric):
    """How much more complex the attribution of the fully shuffled model is: (xi' - xi) / xi [hedstrom2024].

    xi is the entropy of the histogram of the scores. High is good. No two maps are compared, so noise cannot blur a
    similarity, and one run is enough; but a method whose scores are as evenly spread before as after gets 0 though it
    does look at the weights: read the mean of many inputs of a trained model. NaN where all scores are equal.
    """

    sign: Sign = "signed"
    """How scores count: signed, absolute or positive."""
    bins: Annotated[int, Field(ge=2)] | None = None
    """Bins of the histogram; None: one for each feature, at most the paper's 100.

    The more bins to a feature, the more features have one of their own, and all maps are equally complex.
    """
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="efficient_mprt",
        title="Efficient model parameter randomisation test (eMPRT)",
        family="randomisation",
        higher_is_better=True,
        range=(-1.0, math.inf),
        signed=False,
        scale_invariant=True,
        needs=("method",),
        chance="0 for a method that is blind to the weights",
        cost="1 run of the method",
        source="Hedstrom et al. 2024 (eMPRT)",
    )

    def rows(self, players: int) -> int:
        return 0

    def score(self, example: Example) -> float:
        explain, question = explainer(example, self), example.question
        with shuffled(question.model.module, example.seed, 1) as steps:
            (found,) = [explain(question.of(question.inputs)) for _ in steps]
        bins = self.bins or min(MOST_BINS, max(2, len(example.values)))
        return randomisation.complexity_rise(pooled(example.values, self.sign), pooled(found, self.sign), bins)


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
