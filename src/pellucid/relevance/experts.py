"""Mixtures of experts: who is one, which token went to which expert, and the sum over experts as one operation."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pellucid.errors import InputError, ModelError
from pellucid.relevance.capture import Slot

Router = Literal["constant", "traced"]
ROUTERS: tuple[Router, ...] = ("constant", "traced")
"""Routing weights as constants, which hand everything to the experts, or as an operand of a product like any other."""


def check_router(router: str) -> None:
    """Raises InputError where it is none."""
    if router not in ROUTERS:
        raise InputError(f"router is 'constant' or 'traced', not {router!r}.")


class Routed(NamedTuple):
    """A call of a mixture: a module that is given tokens, the experts of each, and their weights.

    Such a module is known by what it is given and by its ``num_experts``, whatever library it comes from.
    """

    part: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    experts: int
    tokens: Float[Tensor, "token hidden"]
    chosen: Int[Tensor, "token slot"]
    weights: Float[Tensor, "token slot"]

    @classmethod
    def read(
        cls, part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], current: Callable[[Tensor], Tensor]
    ) -> "Routed | None":
        """The call of a mixture that depends on the input; None where a module is none.

        ``current`` gives a tensor as it is now, whatever was written into it.
        """
        experts, given = getattr(part, "num_experts", None), (*args, *kwargs.values())
        if type(experts) is not int or len(given) != 3 or not all(isinstance(x, Tensor) and x.ndim == 2 for x in given):
            return None
        chosen = [each for each in given if not each.is_floating_point() and each.dtype is not torch.bool]
        numbers = [each for each in given if each.is_floating_point()]
        if len(chosen) != 1 or len(numbers) != 2 or numbers[1].shape != chosen[0].shape:
            return None
        tokens, weights = map(current, numbers)
        if len(tokens) != len(weights) or not (tokens.requires_grad or weights.requires_grad):
            return None
        return cls(part, args, kwargs, experts, tokens, chosen[0], weights)

    def holding_weights(self) -> "Routed":
        """The same call with routing weights that are constants."""
        return self._replace(weights=self.weights.detach())

    def in_pairs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments in which every pair of a token and an expert is a row of its own.

        So the module gives each expert's weighted answer apart, and their sum for a token is one operation, whatever
        order the module would add them up in.
        """
        count, slots = self.chosen.shape
        repeated = self.tokens[:, None].expand(count, slots, -1).reshape(count * slots, -1)
        numbers = iter((repeated, self.weights.reshape(-1, 1)))
        chosen = self.chosen.reshape(-1, 1)
        given = [next(numbers) if x.is_floating_point() else chosen for x in (*self.args, *self.kwargs.values())]
        return tuple(given[: len(self.args)]), dict(zip(self.kwargs, given[len(self.args) :], strict=True))

    def apart(self, output: Any) -> Float[Tensor, "token slot hidden"]:
        """What each expert gave to each of its tokens, of the output for pairs. Raises ModelError on another output."""
        count, slots = self.chosen.shape
        if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != count * slots:
            raise ModelError(
                f"{type(self.part).__name__} has num_experts and takes tokens, experts and weights, but gives no "
                "vector for each token; relevance cannot be divided among its experts."
            )
        return output.view(count, slots, -1)


class Said(NamedTuple):
    """What is kept of a call of a mixture: who was asked, and the relevance of each weighted answer."""

    chosen: Int[Tensor, "token slot"]
    weights: Float[Tensor, "token slot"]
    experts: int
    slot: Slot | None
    """Of the weighted answers, summed over the hidden dimension; None where they were not kept."""

    def routing(self) -> Float[Tensor, "token expert"]:
        """Routing weights, 0 where an expert was not asked."""
        return self._spread(self.weights)

    def relevance(self, rows: int) -> Float[Tensor, "row token expert"]:
        """Relevance of what each expert said to each token, weighted; 0 where it was not asked."""
        if self.slot is None:
            return self._spread(self.weights.new_zeros(rows, *self.weights.shape))
        return self._spread(self.slot.relevance(rows))

    def _spread(self, values: Float[Tensor, "... token slot"]) -> Float[Tensor, "... token expert"]:
        places = self.chosen.clamp(max=self.experts).expand(values.shape)
        found = values.new_zeros(*values.shape[:-1], self.experts + 1)
        return found.scatter_add(-1, places, values)[..., : self.experts]
