"""Guided backpropagation: the gradient, with what is negative cut off at every ReLU on the way back."""

from collections.abc import Callable
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from pellucid.errors import NoRuleError
from pellucid.facts import Facts
from pellucid.games import Question, summed
from pellucid.methods.base import AbstractMethod, Attribution
from pellucid.methods.traced_gradients import TracedCall
from pellucid.relevance import AbstractRule, AbstractTreatment, AsIs, Composite, Kind
from pellucid.relevance.composite import Key
from pellucid.relevance.hole import of_operands

PROBES = (-0.01, -1.0, -1000.0)
"""Numbers that a ReLU makes 0."""
_INSTEAD = "guided backpropagation is made for networks of ReLUs; use gradient or integrated_gradients instead"


@final
class Guided(AbstractRule):
    """R_in = (x > 0) (R > 0) R at a ReLU, also one that is capped, above whose cap nothing passes."""

    carriers = ("gradient",)
    kinds = frozenset({Kind.RECTIFIER, Kind.ACTIVATION})

    def forward(self, ctx: Any, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        x: Tensor = ctx.operands[0]
        function = of_operands(func, args, kwargs, ctx.operands)
        if len(ctx.operands) > 1 or any(bool(function(torch.full_like(x, probe)).any()) for probe in PROBES):
            raise NoRuleError(getattr(func, "__name__", "clamp"), "", "guided_backprop", _INSTEAD)
        y: Tensor = func(*args, **kwargs)
        ctx.save_for_backward((x > 0) & (x == y))
        return y

    def backward(self, ctx: Any, *carriers: Tensor) -> Tensor:
        passes: Tensor = ctx.saved_tensors[0]
        return carriers[0].clamp(min=0) * passes


@final
class GuidedBackprop(AbstractMethod):
    """Norm of the guided gradient at each pixel, summed over a feature's pixels [springenberg2015, section 3.4].

    At every ReLU, and every capped one, the way back is closed where the ReLU was closed, as for the gradient, and
    where the gradient is negative. Modules, functions and reused ReLUs are seen alike; another nonlinearity, which
    hooks on ``torch.nn.ReLU`` would pass in silence, is refused with NoRuleError. It recovers edges of the input rather
    than what the network computes [nie2018], and hardly changes when weights are made random [adebayo2018]: a control,
    not an explanation.
    """

    facts: ClassVar[Facts] = Facts(
        name="guided_backprop",
        title="Guided backpropagation",
        unit="norm of the guided gradient",
        family="gradient",
        modalities=("image",),
        needs=("gradient",),
        signed=False,
        class_specific=False,
        cost="1 forward pass and 1 backward pass a target",
        source="Springenberg et al. 2015, section 3.4",
        notice="It draws the edges of a picture whatever the network does (Nie et al. 2018): use it as a control only.",
    )

    def rows(self, players: int) -> int:
        return 1

    def attribute(self, question: Question) -> Attribution:
        function = question.embedded(0)
        call = TracedCall(question.model, function, function.embeddings, guided_rules(), _INSTEAD)
        scores = call.scores.detach().double()[0].cpu().numpy()
        norms: Float[Tensor, "target seq"] = call.pulled([call.slopes(each) for each in range(len(scores))]).norm(
            dim=-1
        )
        return Attribution(
            summed(norms, question.owners.to(norms.device), len(question.features)),
            scores,
            scores,
            baseline="none: a gradient is not held against one",
        )


def guided_rules() -> Composite:
    """The gradient everywhere but at ReLUs, and no other nonlinearity of one operand."""
    unknown = {Kind.RECTIFIER, Kind.ACTIVATION, Kind.GATE, Kind.STEP, Kind.NORMALISER, Kind.EMBEDDING}
    relus = (functional.relu, functional.relu6, functional.hardtanh, torch.clamp, torch.clamp_min, functional.threshold)
    rules: dict[Key, AbstractTreatment] = {kind: AsIs() for kind in Kind if kind not in unknown}
    facts = GuidedBackprop.facts
    return Composite(facts.name, "gradient", rules | dict.fromkeys(relus, Guided()), facts, fallback=AsIs())
