"""DeepLIFT: how the difference from a reference is divided among the parts of the input."""

from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.facts import Facts
from pellucid.games import Path, Question
from pellucid.methods.base import AbstractMethod, Attribution
from pellucid.methods.deeplift_rules import INSTEAD, References, deeplift_rules
from pellucid.methods.integrated_gradients import quadrature
from pellucid.methods.traced_gradients import TracedCall
from pellucid.models import AbstractTensorClassifier

POINTS = 32
"""Points of the integral from the reference's logits to the input's, along which a margin's slope is averaged."""


@final
class DeepLift(AbstractMethod):
    """phi = (x - b) times the multiplier from x to the target, by the rescale rule [shrikumar2017, section 3.5.1].

    A multiplier is the difference of an activation over that of its operand between the run on x and the run on b;
    through linear operations multipliers follow the chain rule. Complete: the scores sum to f(x) - f(b). From the
    logits to a margin or another curved target the multiplier is the mean slope on the straight line between the two
    runs' logits; captum takes the slope at x, which keeps no sum. Activations are found as functions of torch are
    called, so that reused modules and functional calls, which captum's hooks do not see, are no exception. What has no
    rule (attention, softmax, gates, layer norm) is refused with NoRuleError.
    """

    baseline: str | None = None
    """What stands for an absent position; None: the mean."""
    facts: ClassVar[Facts] = Facts(
        name="deeplift",
        title="DeepLIFT (rescale rule)",
        family="gradient",
        modalities=("image", "tabular"),
        needs=("gradient", "baseline"),
        complete=True,
        cost="2 forward passes and 1 backward pass a target",
        source="Shrikumar et al. 2017, section 3.5.1",
    )

    def rows(self, players: int) -> int:
        return 2

    def attribute(self, question: Question) -> Attribution:
        path = Path(question, self.baseline)
        references = References()
        rules = deeplift_rules(self.facts, references)
        start = TracedCall(question.model, path.function, path.baseline, rules, INSTEAD)
        references.replay()
        end = TracedCall(question.model, path.function, path.input, rules, INSTEAD)
        slopes = _mean_slopes(question, start.logits.detach(), end.logits.detach())
        products = end.pulled(slopes).double() * (path.input - path.baseline).double()
        base, full = (each.scores.detach().double()[0].cpu().numpy() for each in (start, end))
        return Attribution(path.to_features(products.sum(-1)), base, full, baseline=path.described)


def _mean_slopes(
    question: Question, start: Float[Tensor, "1 ..."], end: Float[Tensor, "1 ..."]
) -> list[Float[Tensor, "1 ..."]]:
    """For each target its slope in the logits, averaged over the straight line between two of them."""
    model, target = question.model, question.target
    assert isinstance(model, AbstractTensorClassifier)
    points, weights = quadrature("gauss-legendre", POINTS)
    share = torch.from_numpy(points.astype(np.float64)).to(end).view(-1, *(1 for _ in end.shape[1:]))
    logits = (start + share * (end - start)).requires_grad_()
    with torch.enable_grad():
        scores = target.target.score(model.scored(logits, target))
        total = torch.from_numpy(weights).to(scores) @ scores
        return [torch.autograd.grad(each, logits, retain_graph=True)[0].sum(0, keepdim=True) for each in total]
