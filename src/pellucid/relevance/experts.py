"""Mixtures of experts: who is one, which token went to which expert, and the sum over experts as one operation."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pellucid.errors import InputError
from pellucid.relevance.capture import Slot
from pellucid.relevance.rule import rewritten

Router = Literal["constant", "traced"]
ROUTERS: tuple[Router, ...] = ("constant", "traced")
"""Routing weights as constants, which hand everything to the experts, or as an operand of a product like any other."""
_SAMPLED = 4


def check_router(router: str) -> None:
    """Raises InputError where it is none."""
    if router not in ROUTERS:
        raise InputError(f"router is 'constant' or 'traced', not {router!r}.")


def expert_count(part: nn.Module) -> int | None:
    """How many experts a module says it has; None where it says nothing."""
    count = getattr(part, "num_experts", None)
    return count if type(count) is int else None


class Routed(NamedTuple):
    """A call of a mixture: a module that is given tokens, the experts of each, and their weights.

    Such a module is known by what it is given and by its ``num_experts``, whatever library it comes from, and by giving
    the sum of what it gives for every pair of a token and an expert.
    """

    part: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    experts: int
    tokens: Float[Tensor, "token hidden"]
    chosen: Int[Tensor, "token slot"]
    weights: Float[Tensor, "token slot"]
    version: int
    """Of the tensors it was given, which counts what is written into them."""

    @classmethod
    def read(
        cls, part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], current: Callable[[Tensor], Tensor]
    ) -> "Routed | None":
        """The call of what may be a mixture that depends on the input; None where a module is none.

        ``current`` gives a tensor as it is now, whatever was written into it.
        """
        experts = expert_count(part)
        args, kwargs = rewritten(args, current), rewritten(kwargs, current)
        given = (*args, *kwargs.values())
        if experts is None or len(given) != 3 or not all(isinstance(x, Tensor) and x.ndim in (2, 3) for x in given):
            return None
        chosen = [each for each in given if not each.is_floating_point() and each.dtype is not torch.bool]
        numbers = [each for each in given if each.is_floating_point()]
        if len(chosen) != 1 or len(numbers) != 2 or numbers[1].shape != chosen[0].shape:
            return None
        tokens, places, weights = (each.flatten(0, -2) for each in (numbers[0], chosen[0], numbers[1]))
        if len(tokens) != len(weights) or not (tokens.requires_grad or weights.requires_grad):
            return None
        return cls(part, args, kwargs, experts, tokens, places, weights, _version(numbers))

    def holding_weights(self) -> "Routed":
        """The same call with routing weights that are constants."""
        return self._replace(weights=self.weights.detach())

    def of(self, rows: Sequence[int]) -> "Routed":
        """The same call for some of the tokens."""
        found = [each[[*rows]] for each in (self.tokens, self.chosen, self.weights)]
        return self._replace(tokens=found[0], chosen=found[1], weights=found[2])

    @property
    def sample(self) -> Sequence[int]:
        """The first tokens and the last, by which a module that gives more than a sum is told at little cost."""
        count, ends = len(self.tokens), 1 if self.is_known else _SAMPLED
        return range(count) if count <= 2 * ends else [*range(ends), *range(count - ends, count)]

    @property
    def is_written(self) -> bool:
        """Whether anything was written into what the module was given."""
        return _version(x for x in (*self.args, *self.kwargs.values()) if x.is_floating_point()) != self.version

    def in_pairs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments in which every pair of a token and an expert is a row of its own.

        So the module gives each expert's weighted answer apart, and their sum for a token is one operation, whatever
        order the module would add them up in.
        """
        count, slots = self.chosen.shape
        repeated = self.tokens[:, None].expand(count, slots, -1).reshape(count * slots, -1)
        return self._given(repeated, self.chosen.reshape(-1, 1), self.weights.reshape(-1, 1))

    def sampled(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments with the tokens of the sample alone."""
        few = self.of(self.sample)
        return self._given(few.tokens, few.chosen, few.weights)

    def _given(self, tokens: Tensor, chosen: Tensor, weights: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """These in the places and forms of the arguments."""
        numbers, given = iter((tokens, weights)), []
        for like in (*self.args, *self.kwargs.values()):
            each = next(numbers) if like.is_floating_point() else chosen
            given.append(each[None] if like.ndim == 3 else each)
        return tuple(given[: len(self.args)]), dict(zip(self.kwargs, given[len(self.args) :], strict=True))

    @property
    def is_known(self) -> bool:
        """Whether each token of the module is known to be independent of all others: that of a library, as it is.

        Of these a few tokens tell whether it gives a sum; of another one, which may drop what is too much, only all.
        """
        return type(self.part).__module__.startswith("transformers.models.")

    @property
    def form(self) -> tuple[int, ...]:
        """The dimensions of the tokens before that of their numbers."""
        tokens = next(x for x in (*self.args, *self.kwargs.values()) if x.is_floating_point())
        return tuple(tokens.shape[:-1])

    def apart(self) -> Float[Tensor, "token slot hidden"] | None:
        """What each expert gave to each of its tokens, where the module is given pairs; None where it cannot be."""
        count, slots = self.chosen.shape
        args, kwargs = self.in_pairs()
        output = self.part.forward(*args, **kwargs)
        if not isinstance(output, Tensor) or output.ndim < 2 or output.shape[:-1].numel() != count * slots:
            return None
        return output.reshape(count, slots, output.shape[-1])

    def gives_the_sum(self, output: Any) -> bool:
        """Whether what a module gave is, for a few tokens, the sum of what it gives for pairs."""
        count = len(self.sample) if self.is_known else len(self.tokens)
        if not isinstance(output, Tensor) or output.ndim < 2 or output.shape[:-1].numel() != count:
            return False
        try:
            # Of a known one a single pair says whether it can be given pairs at all; its sums are compared later.
            apart = self.of(self.sample[:1] if self.is_known else self.sample).apart()
        except Exception:
            # Whatever it says of pairs, it is no module that can be given them.
            return False
        return apart is not None and (self.is_known or is_sum_of(output.flatten(0, -2)[[*self.sample]], apart))


def is_sum_of(output: Float[Tensor, "token hidden"], apart: Float[Tensor, "token slot width"]) -> bool:
    """Whether an output is the sum over slots, up to rounding."""
    if output.shape[-1] != apart.shape[-1]:
        return False
    rounding = max(torch.finfo(each.dtype).eps for each in (output, apart)) ** 0.5
    differs = (output - apart.sum(1)).abs() > rounding * apart.abs().sum(1).amax(-1, keepdim=True)
    return not bool(differs.any())


def _version(tensors: Iterable[Tensor]) -> int:
    return sum(each._version for each in tensors if not each.is_inference())


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
