"""What the rules of the relevance carrier share: one relevance, or the two of a pair, redistributed by a function."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.relevance.rule import AbstractRule, Carrier

Pairs = Tensor | tuple[Tensor, ...]
"""[label, ...], the positive label first, for each operand or result that has one."""


class AbstractRelevanceRule(AbstractRule):
    """A rule that hands relevance itself to its operands."""

    carriers: ClassVar[tuple[Carrier, ...]] = ("relevance",)

    @abstractmethod
    def shares(self, ctx: Any, *relevance: Tensor) -> tuple[Tensor | None, ...] | Tensor:
        """What each traced operand receives of what each output received."""

    @final
    def backward(self, ctx: Any, *carriers: Tensor) -> tuple[Tensor | None, ...] | Tensor:
        return self.shares(ctx, *carriers)


class AbstractPairRule(AbstractRule):
    """A rule that hands on two relevances, each of which it reads to know where the other goes."""

    carriers: ClassVar[tuple[Carrier, ...]] = ("pair",)

    @abstractmethod
    def shares(self, ctx: Any, relevance: Float[Tensor, "label ..."]) -> Pairs:
        """What each traced operand receives [label, *operand], the positive label first."""

    def kept(self, ctx: Any, relevance: Float[Tensor, "label ..."]) -> Tensor | None:
        """What constants keep of it [label, ...], in any shape; None: nothing."""
        return None

    @final
    def backward(self, ctx: Any, *carriers: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = _paired(carriers[0], lambda pair: self.shares(ctx, pair))
        return found

    @final
    def withheld(self, ctx: Any, *carriers: Tensor) -> Tensor | None:
        found: tuple[Tensor, ...] = _paired(carriers[0], lambda pair: self.kept(ctx, pair))
        return found[0] if found else None


class _Paired(torch.autograd.Function):
    """A function of pairs where a pass carries the rows positive, negative, positive, ... of several targets."""

    @staticmethod
    def forward(carried: Tensor, function: Callable[[Tensor], Pairs | None]) -> Tensor:
        raise RuntimeError("a pair is carried by two rows of one pass, and here is one")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, in_dims: Sequence[int | None], carried: Tensor, function: Callable[[Tensor], Pairs | None]
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        (place, _) = in_dims
        rows = carried.expand(info.batch_size, *carried.shape) if place is None else carried.movedim(place, 0)
        if len(rows) == 2:
            found = _each(function(rows))
        else:
            of_all = torch.func.vmap(lambda pair: _each(function(pair)))(rows.unflatten(0, (-1, 2)))
            found = tuple(each.flatten(0, 1) for each in of_all)
        return found, tuple(0 for _ in found)


def _each(found: Pairs | None) -> tuple[Tensor, ...]:
    return () if found is None else (found,) if isinstance(found, Tensor) else found


_paired: Callable[..., Any] = _Paired.apply
