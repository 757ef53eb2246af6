"""The rules of DeepLIFT: multipliers between a run on the input and a run on its reference."""

from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional

from pellucid.errors import ModelError, NoRuleError
from pellucid.facts import Facts
from pellucid.relevance import AbstractRule, AbstractTreatment, AsIs, Composite, Kind
from pellucid.relevance.composite import Key
from pellucid.relevance.hole import of_operands

ROUNDING = 8.0
"""Differences below so many roundings of the larger operand, or of 1, are taken to have no ratio."""
INSTEAD = "DeepLIFT has no rule for it that keeps the sum; use integrated_gradients instead"

Pair = tuple[Tensor, Tensor]


class References:
    """What went into and came out of every nonlinearity of the reference's run, in order."""

    def __init__(self) -> None:
        self._kept: list[Pair] = []
        self._ahead: Iterator[Pair] | None = None

    def replay(self) -> None:
        """From now on what was kept is given back."""
        self._ahead = iter(self._kept)

    def beside(self, x: Tensor, y: Tensor) -> Pair:
        """The reference's operand and result where these stand; their own, while the reference itself runs."""
        if self._ahead is None:
            self._kept.append((x.detach(), y.detach()))
            return self._kept[-1]
        pair = next(self._ahead, None)
        if pair is None or pair[0].shape != x.shape or pair[1].shape != y.shape:
            raise ModelError(
                "the network computes other operations on the input than on the reference, so that they cannot be "
                f"compared; {INSTEAD.partition('; ')[2]}."
            )
        return pair


class _AbstractDifference(AbstractRule):
    """A rule that needs the reference's run."""

    carriers = ("gradient",)

    def __init__(self, references: References) -> None:
        self._references = references

    def forward(self, ctx: Any, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        y: Any = func(*args, **kwargs)
        if len(ctx.operands) != 1 or not isinstance(y, Tensor):
            raise NoRuleError(getattr(func, "__name__", type(func).__name__), "", "deeplift", INSTEAD)
        x: Tensor = ctx.operands[0]
        ctx.function = of_operands(func, args, kwargs, ctx.operands)
        ctx.save_for_backward(x, y, *self._references.beside(x, y))
        return y

    def _pulled(self, function: Callable[..., Tensor], at: Tensor, carrier: Tensor) -> Tensor:
        """The ordinary way back at a point."""
        with torch.enable_grad():
            leaf = at.detach().clone().requires_grad_()
            (found,) = torch.autograd.grad(function(leaf.clone()), leaf, carrier)
        return found


@final
class Rescale(_AbstractDifference):
    """The multiplier of an elementwise function is its difference ratio (y - y0) / (x - x0) [shrikumar2017, eq. 10].

    Where x and x0 differ by rounding alone, the derivative.
    """

    def backward(self, ctx: Any, *carriers: Tensor) -> Tensor:
        x, y, x0, y0 = ctx.saved_tensors
        same = _is_same(x, x0)
        ratio = (y - y0) / torch.where(same, 1.0, x - x0)
        return torch.where(same, self._pulled(ctx.function, x, carriers[0]), ratio * carriers[0])


@final
class MaximumShare(_AbstractDifference):
    """The difference of a maximum goes to where the larger of the two maxima stands, over the difference there.

    If y > y0 that is where x has its maximum, else where x0 has it: the sum is kept, and no multiplier is above 1. The
    paper leaves maxima open; this is the rule of its authors' code, of captum and of shap. Of places that tie but for
    rounding, as all do in a reference of one colour, the first is taken.
    """

    def backward(self, ctx: Any, *carriers: Tensor) -> Tensor:
        x, y, x0, y0 = ctx.saved_tensors
        larger = torch.maximum(y, y0)
        moved = self._pulled(ctx.function, _tied(x), carriers[0] * (larger - y0))
        moved = moved + self._pulled(ctx.function, _tied(x0), carriers[0] * (y - larger))
        same = _is_same(x, x0)
        return torch.where(same, self._pulled(ctx.function, x, carriers[0]), moved / torch.where(same, 1.0, x - x0))


def deeplift_rules(facts: Facts, references: References) -> Composite:
    """Linear operations by their own adjoint, activations and maxima by differences; whatever else is refused."""
    linear = (Kind.MOVEMENT, Kind.LINEAR, Kind.MIXING, Kind.SUM, Kind.RESIDUAL, Kind.SHIFT, Kind.SCALE, Kind.AVERAGE)
    rules: dict[Key, AbstractTreatment] = {kind: AsIs() for kind in linear}
    rules |= {kind: Rescale(references) for kind in (Kind.RECTIFIER, Kind.ACTIVATION, Kind.GATE)}
    rules |= {Kind.MAXIMUM: MaximumShare(references), functional.batch_norm: AsIs()}
    return Composite(facts.name, "gradient", rules, facts, fallback=AsIs())


def _tied(x: Tensor) -> Tensor:
    """The same numbers, equal where they differ by rounding alone: else that would say which of them is the largest."""
    step = x.abs().max().clamp(min=torch.finfo(x.dtype).tiny) * torch.finfo(x.dtype).eps * ROUNDING**2
    return (x / step).round() * step


def _is_same(x: Tensor, x0: Tensor) -> Tensor:
    largest = torch.maximum(x.abs(), x0.abs()).clamp(min=1)
    return (x - x0).abs() <= ROUNDING * torch.finfo(x.dtype).eps * largest
