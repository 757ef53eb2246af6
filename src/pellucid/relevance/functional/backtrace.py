"""The published DLBacktrace redistribution [sankarapu2024], in closed form: products of matrices, no loop over units.

The size of a contribution counts and its sign does not: what holds a unit down receives relevance of the same sign as
what drives it. Costs are in products of the size of the operation itself.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pellucid.errors import UnknownNameError
from pellucid.relevance.functional.division import ratio, reduced_to
from pellucid.relevance.functional.linear_form import LinearForm, spread


class Limits(NamedTuple):
    """Where an activation is flat, so that one side of the unit before it no longer matters."""

    lower: float = -math.inf
    """Output T of the unit below which what pulls it up (P) gets nothing."""
    upper: float = math.inf
    """Output T of the unit above which what pulls it down (N) gets nothing."""


SATURATION: Mapping[str, Limits] = {
    "tanh": Limits(-2, 2),
    "sigmoid": Limits(-4, 4),
    "softmax": Limits(-1, 2),
    # The original also switches off a side without which swish(T) is the same number: one lost in rounding.
    "swish": Limits(lower=-6),
    # The original's table says 0 for relu, and its code never applies it.
    "relu": Limits(),
    "linear": Limits(),
}
"""Limits by the name of the activation that follows."""


def linear(
    form: LinearForm, relevance: Float[Tensor, "*z"], following: str | None = None, value: Tensor | None = None
) -> Float[Tensor, "..."]:
    """R_i = sum_j R_j (p_j max(z_ji, 0) + n_j max(-z_ji, 0)) / D_j [sankarapu2024, section 3].

    z_ji = W_ji x_i; D = p P + n N + |b|; p and n are 1, but 0 for the side that saturation by ``following`` (a key of
    ``SATURATION``) switches off. Without it this is R_i = |x_i| sum_j |W_ji| R_j / (|W||x| + |b|)_j. The bias keeps its
    share (``linear_absorbed``), and a unit with D = 0 passes nothing on.

    relevance: shaped like z. value: the known output z, bias included. Returns relevance shaped like x. Cost: 2
    products; with saturation 3, and 4 without ``value``. Raises UnknownNameError for an activation without limits.
    """
    flat = limits(following)
    sizes = form.sizes()
    if flat == Limits():
        return sizes.x * form.adjoint(ratio(relevance, sizes.value()), sizes.weight)
    total, tilt = _saturated(form, sizes, flat, value)
    each = ratio(relevance, total)
    return spread(form, sizes, each * (1 - tilt.abs()), each * tilt)


def linear_absorbed(
    form: LinearForm, relevance: Float[Tensor, "*z"], following: str | None = None, value: Tensor | None = None
) -> Float[Tensor, "*z"]:
    """R_j |b_j| / D_j, the share that stays with the bias in ``linear``, unit by unit. Cost: 1 or 2 products."""
    if form.bias is None:
        return torch.zeros_like(relevance)
    flat = limits(following)
    sizes = form.sizes()
    total = sizes.value() if flat == Limits() else _saturated(form, sizes, flat, value)[0]
    return ratio(relevance * form.bias.abs(), total)


def addition(terms: Sequence[Tensor], relevance: Float[Tensor, "*z"]) -> tuple[Tensor, ...]:
    """R |t_k| / sum_l |t_l| to each term of a sum, element by element; nothing where all terms are 0.

    terms: signed as they enter the sum (so -b in a - b), constants among them, each broadcastable to z. Returns one
    relevance for each, shaped like it; a constant's is what the sum absorbs. No product.
    """
    sizes = [term.abs() for term in terms]
    each = ratio(relevance, sum(sizes[1:], sizes[0]).expand(relevance.shape))
    return tuple(reduced_to(each * size, size.shape) for size in sizes)


def multiplication(factors: Sequence[Tensor], relevance: Float[Tensor, "*z"]) -> tuple[Tensor, ...]:
    """R / n to each of n traced factors of an elementwise product, shaped like it. A constant factor takes no part."""
    return tuple(reduced_to(relevance / len(factors), factor.shape) for factor in factors)


def bilinear(first: LinearForm, second: LinearForm, relevance: Float[Tensor, "*z"]) -> tuple[Tensor, Tensor]:
    """A matrix product O = A V of two traced operands: R |A_qk V_kd| / sum_k |A_qk V_kd|, half to A and half to V.

    Our choice: the paper's attention leaves the pattern of attention out. first: the form of A, with V as its weight;
    second: that of V, with A as its weight. Returns the relevance of each. Cost: 3 products.
    """
    sizes = first.sizes()
    half = ratio(relevance / 2, sizes.unbiased())
    return sizes.x * first.adjoint(half, sizes.weight), sizes.weight * second.adjoint(half, sizes.x)


def masked(kept: Bool[Tensor, "..."], relevance: Float[Tensor, "*z"]) -> Float[Tensor, "*z"]:
    """Softmax, scale and mask: the same relevance at the positions ``kept`` and none at the others."""
    return torch.where(kept, relevance, 0.0)


def limits(following: str | None) -> Limits:
    """The limits of an activation; none for None. Raises UnknownNameError for one that is not in ``SATURATION``."""
    if following is None:
        return Limits()
    if following not in SATURATION:
        hint = "Pass None where nothing that saturates follows."
        raise UnknownNameError("activation with limits", following, SATURATION, hint)
    return SATURATION[following]


def _saturated(form: LinearForm, sizes: LinearForm, flat: Limits, value: Tensor | None) -> tuple[Tensor, Tensor]:
    """D, and the tilt: 1/2 where N is off, -1/2 where P is, else 0.

    With tilt t, p max(z, 0) + n max(-z, 0) = (1 - |t|) |z| + t z, and so is D, but for the bias.
    """
    output = form.value() if value is None else value
    tilt = ((output > flat.upper).to(output.dtype) - (output < flat.lower).to(output.dtype)) / 2
    unbiased = output if form.bias is None else output - form.bias
    total = (sizes.unbiased() * (1 - tilt.abs())).addcmul(tilt, unbiased)
    return total if sizes.bias is None else total + sizes.bias, tilt
