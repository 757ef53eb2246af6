"""Invariance: an attribution explains a function, so it must not change with how the function is written down."""

import copy
import math
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from pellucid.errors import InputError
from pellucid.facts import MetricFacts
from pellucid.games import Question
from pellucid.metrics.base import AbstractMetric, Example, explainer
from pellucid.metrics.functional import axioms
from pellucid.metrics.rewritten import COALITIONS_TRIED, equal_model, of_model, require_equal
from pellucid.models import AbstractTensorClassifier
from pellucid.models.base import AbstractInputs, Baseline


@final
class ImplementationInvariance(AbstractMetric):
    """||a' - a|| / ||a|| of the attributions of two networks that are one function [sundararajan2017, section 2.2].

    0 is kept: so do gradients, their integrals, and whatever asks for outputs alone. A method that goes through the
    network layer by layer under rules of its own need not: LRP's z-plus rule does not. Without ``other`` the second
    network is the model's own, written otherwise: batch normalisation folded, every linear layer and convolution as the
    sum of two, ReLU on another scale. That both are one function is tried on some coalitions: ModelError where not.
    """

    other: Any = Field(default=None, exclude=True)
    """A model that computes the same function in another way; None: one that is made."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="implementation_invariance",
        title="Implementation invariance",
        family="axioms",
        higher_is_better=False,
        range=(0.0, math.inf),
        signed=False,
        scale_invariant=True,
        needs=("method", "game"),
        chance="0 for a constant map; about 1.4 for one that is drawn anew",
        cost=f"1 run of the method + {2 * COALITIONS_TRIED + 1}",
        source="Sundararajan et al. 2017, section 2.2",
    )

    def rows(self, players: int) -> int:
        return 2 * COALITIONS_TRIED + 1

    def conditions(self, question: Question) -> tuple[str, ...]:
        known = super().conditions(question)
        return known if self.other is None else (*known, f"beside {self.other.name}")

    def score(self, example: Example) -> float:
        explain, question = explainer(example, self), example.question
        if self.other is None:
            twin = question._replace(model=equal_model(question)).of(question.inputs)
        else:
            twin = of_model(question, self.other)
        require_equal(question, twin, example.seed)
        return axioms.invariance(example.values, explain(twin))


@final
class InputInvariance(AbstractMetric):
    """||a' - a|| / ||a|| when all inputs are shifted by a constant and the first bias is corrected [kindermans2019].

    The second network takes the constant off again, in a layer in front, so that it says the same of x + shift as the
    first says of x. Baselines that come of the data (mean, median, black, blur, other inputs) are shifted along; "zero"
    stays. 0 is kept: so does the gradient. Input times gradient does not, nor does a path from "zero".
    For pictures and tables; a text has no numbers that its writer could have shifted.
    """

    shift: float = 1.0
    """What is added to every number that the network reads, in its unit: standard deviations of the training data."""
    facts: ClassVar[MetricFacts] = MetricFacts(
        name="input_invariance",
        title="Input invariance (to a constant shift)",
        family="axioms",
        higher_is_better=False,
        range=(0.0, math.inf),
        signed=False,
        scale_invariant=True,
        needs=("method", "game"),
        chance="0 for a constant map; about 1.4 for one that is drawn anew",
        cost=f"1 run of the method + {2 * COALITIONS_TRIED}",
        source="Kindermans et al. 2019, section 2",
    )

    def rows(self, players: int) -> int:
        return 2 * COALITIONS_TRIED

    def score(self, example: Example) -> float:
        explain, question = explainer(example, self), example.question
        shifted = _shifted(question, self.shift)
        # "mean" is shifted along with the data, so the two games are one.
        require_equal(question.imputed("mean"), shifted.imputed("mean"), example.seed)
        return axioms.invariance(example.values, explain(shifted))


class _Corrected(nn.Module):
    """A network that takes a constant off its input first."""

    def __init__(self, module: nn.Module, shift: float) -> None:
        super().__init__()
        self.module, self.shift = module, shift

    def forward(self, x: Float[Tensor, "batch ..."]) -> Any:
        """What the network says of the input without the shift."""
        return self.module(x - self.shift)


def _shifted(question: Question, shift: float) -> Question:
    """The question about the shifted input, to the corrected network. Raises InputError for a text."""
    model, inputs = question.model, question.inputs
    if not isinstance(model, AbstractTensorClassifier):
        raise InputError(
            f"input_invariance shifts the numbers of a picture or a table row, and {model.name} reads "
            f"{model.modality}; use implementation_invariance."
        )
    moved = copy.copy(model)
    moved.module = _Corrected(model.module, shift).train(model.module.training)

    def baseline(name: str, given: AbstractInputs) -> Baseline:
        found = model.baseline(name, given)
        # A blur is made of the input, which has been shifted.
        return found if name in ("zero", "blur") else found._replace(embedding=found.embedding + shift)

    def background(given: Any = ()) -> Tensor:
        return model.background(given) + shift

    vars(moved).update(baseline=baseline, background=background)
    row = inputs.row.to(torch.promote_types(inputs.row.dtype, model.dtype)) + shift
    return question._replace(model=moved).of(model.moved(inputs, row))
