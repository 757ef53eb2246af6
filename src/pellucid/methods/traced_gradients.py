"""Gradients that go back through a network by rules of their own: what guided backpropagation and DeepLIFT share."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import ModelError, NoRuleError
from pellucid.methods.relevance import logits_alone
from pellucid.models import Model
from pellucid.models.base import AbstractEmbedded
from pellucid.relevance import Composite, Tracer
from pellucid.relevance.refusals import check_traceable


class TracedCall:
    """One call of a network under rules that carry gradients, whatever functions of torch it is written in.

    Raises NoRuleError for an operation that the rules do not know, ModelError for a network that cannot be traced.
    """

    def __init__(
        self, model: Model, function: AbstractEmbedded, at: Float[Tensor, "seq dim"], composite: Composite, instead: str
    ) -> None:
        """Ask the network once. ``instead``: what to do where an operation has no rule, as the end of a sentence."""
        check_traceable(model.module)
        self._meter = model.meter
        self._leaf = at[None].detach().clone().requires_grad_()
        self._tracer = Tracer(model.module, composite)
        try:
            with torch.inference_mode(mode=False), torch.enable_grad(), logits_alone(model.module), self._tracer:
                self.scores: Float[Tensor, "1 target"] = function(self._leaf)
        except NoRuleError as refusal:
            # A rule that refuses does not know where it stands.
            place = refusal.module or self._tracer.engine.place.name
            raise NoRuleError(refusal.operation, place, composite.name, instead) from None
        for operation, place in self._tracer.engine.cut:
            raise NoRuleError(operation, place, composite.name, instead)
        if len(self._tracer.outputs) != 1 or not self.scores.requires_grad:
            raise ModelError(
                f"{model.name} gives no gradient of its output under {composite.name}, or several outputs; {instead}."
            )

    @property
    def logits(self) -> Float[Tensor, "1 ..."]:
        """What the network gave, cut off from it."""
        return self._tracer.outputs[0].cut

    def slopes(self, target: int) -> Float[Tensor, "1 ..."]:
        """The gradient of a score to the logits."""
        (slope,) = torch.autograd.grad(self.scores[0, target], self.logits, retain_graph=True, materialize_grads=True)
        return slope

    def pulled(self, slopes: Sequence[Float[Tensor, "1 ..."]]) -> Float[Tensor, "target seq dim"]:
        """What arrives at the input of each gradient at the logits."""
        found = []
        for number, slope in enumerate(slopes):
            (at_input,) = self._tracer.pull([slope[None]], [self._leaf], again=number + 1 < len(slopes))
            self._meter.backwards += 1
            found.append(at_input[0, 0])
        return torch.stack(found)
