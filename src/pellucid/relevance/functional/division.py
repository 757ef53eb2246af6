"""Division as the rules need it: nothing divided by nothing is nothing, and a stabiliser keeps the sign."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Number = float | int


def ratio(numerator: Float[Tensor, "*z"], denominator: Float[Tensor, "*z"]) -> Float[Tensor, "*z"]:
    """The quotient, and 0 where the denominator is 0: a unit to which nothing came passes nothing on."""
    if denominator.dtype is torch.float16:
        # Its largest number is the inverse of one that a denominator may well be.
        return numerator / denominator.masked_fill(denominator == 0, torch.inf)
    # Twice as fast as a mask. NaN stays: it is for the user to see.
    return numerator * denominator.reciprocal().nan_to_num_(torch.nan, 0.0, 0.0)


def divided_by_(numerator: Float[Tensor, "*z"], denominator: Float[Tensor, "*z"]) -> Float[Tensor, "*z"]:
    """The same in the place of a denominator that nobody else needs."""
    if denominator.dtype is torch.float16:
        return ratio(numerator, denominator)
    return denominator.reciprocal_().nan_to_num_(torch.nan, 0.0, 0.0).mul_(numerator)


def stabilised(z: Float[Tensor, "*z"], epsilon: Number) -> Float[Tensor, "*z"]:
    """Stab(z) = z + epsilon sign(z), with sign(0) = 1 [bach2015, eq. 58]."""
    return torch.where(z >= 0, z + epsilon, z - epsilon) if epsilon else z


def signs(z: Float[Tensor, "*z"]) -> Float[Tensor, "*z"]:
    """1 or -1, the sign of each number; that of a zero is its own, and no sum but one of such zeros is -0.0."""
    return torch.copysign(z.new_ones(()), z)


def reduced_to(wide: Float[Tensor, "..."], shape: Sequence[int]) -> Float[Tensor, "..."]:
    """The sum over the dimensions along which an operand of ``shape`` was broadcast, which is the adjoint of that."""
    lead = wide.ndim - len(shape)
    repeated = [
        *range(lead),
        *(lead + dim for dim, size in enumerate(shape) if size == 1 and wide.shape[lead + dim] != 1),
    ]
    return wide.sum(repeated, keepdim=True).reshape(tuple(shape)) if repeated else wide
