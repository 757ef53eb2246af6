"""One record for everything that is linear in the traced input: what it maps, how, and back.

A rule needs the map applied to other inputs and weights than the model's (|x| and |W|, 1 and W^2) and its transpose. A
dense layer, a convolution, a product with a constant matrix and an average pool differ in nothing else.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.relevance.functional.division import Number, reduced_to

Product = Callable[[Tensor, Tensor], Tensor]

INDISTINCT = 128
"""Rounding steps of a sum of sizes, S, below which S - |sum| counts as 0."""


class LinearForm(NamedTuple):
    """An operation z = product(x, weight) + bias, linear in x and in the weight."""

    x: Tensor
    """The traced operand."""
    weight: Tensor
    """The constant operand."""
    bias: Tensor | None
    """Constant term, shaped to broadcast against z."""
    product: Product
    """(x, weight) -> z without the bias, bilinear."""
    adjoint: Product
    """(r shaped like z, weight) -> shaped like x: the transpose of product(., weight), in a tensor of its own."""

    def value(self) -> Tensor:
        """Z, the output. One product."""
        z = self.unbiased()
        return z if self.bias is None else z + self.bias

    def sizes(self) -> "LinearForm":
        """The same map of |x| by |W| and |b|: its value is |W||x| + |b|, the bias being one contribution more."""
        bias = None if self.bias is None else self.bias.abs()
        return self._replace(x=self.x.abs(), weight=self.weight.abs(), bias=bias)

    def swapped(self, other: "LinearForm") -> "LinearForm":
        """The same numbers for ``other``, in which x and the weight have changed places."""
        return other._replace(x=self.weight, weight=self.x, bias=self.bias)

    def unbiased(self) -> Tensor:
        """The output without the bias. One product."""
        return self.product(self.x, self.weight)


def spread(form: LinearForm, sizes: LinearForm, even: Tensor, odd: Tensor) -> Tensor:
    """sum_j (even_j |z_ji| + odd_j z_ji) for each input i, shaped like x, with z_ji = W_ji x_i. Two products.

    Every rule that tells positive contributions from negative ones is of this form, since max(z, 0) = (|z| + z) / 2 and
    max(-z, 0) = (|z| - z) / 2. Handling the four products of the signs of x and W apart would cost twice as much.
    sizes: ``form.sizes()``.
    """
    return form.adjoint(odd, form.weight).mul_(form.x).add_(form.adjoint(even, sizes.weight).mul_(sizes.x))


def rounding(z: Tensor) -> float:
    """Share of a sum of sizes below which what is left of a difference, P or N, is taken for noise and counts as 0.

    Half-precision numbers, whose sums are made in single precision and rounded once, are never so coarse as 1/32.
    """
    return min(INDISTINCT * torch.finfo(z.dtype).eps, 1 / 32)


def linear(
    x: Float[Tensor, "*batch feature"], weight: Float[Tensor, "..."], bias: Float[Tensor, "..."] | None = None
) -> LinearForm:
    """``F.linear``: z = x W^T + b; weight [unit, feature], or [feature] for a single unit without a dimension."""
    if weight.ndim == 1:
        return matmul(x, weight, bias)
    return LinearForm(x, weight, bias, F.linear, torch.matmul)


def matmul(
    x: Float[Tensor, "..."],
    weight: Float[Tensor, "..."],
    bias: Float[Tensor, "..."] | None = None,
    *,
    weight_first: bool = False,
) -> LinearForm:
    """``torch.matmul``: z = x W + b, or z = W x + b with ``weight_first``; vectors and broadcast batches included."""
    shape = x.shape

    def after_x(r: Tensor, w: Tensor) -> Tensor:
        rows, columns = r.unsqueeze(-1) if w.ndim == 1 else r, w.unsqueeze(-1) if w.ndim == 1 else w
        if len(shape) == 1:
            return reduced_to(rows.unsqueeze(-2) @ columns.mT, (1, *shape)).reshape(shape)
        return reduced_to(rows @ columns.mT, shape)

    def before_x(r: Tensor, w: Tensor) -> Tensor:
        columns = r.unsqueeze(-1) if len(shape) == 1 else r
        if w.ndim == 1:
            columns, w = columns.unsqueeze(-2), w.unsqueeze(-2)
        return reduced_to(w.mT @ columns, (*shape, 1) if len(shape) == 1 else shape).reshape(shape)

    if weight_first:
        return LinearForm(x, weight, bias, lambda x, w: torch.matmul(w, x), before_x)
    return LinearForm(x, weight, bias, torch.matmul, after_x)


def addmm(
    bias: Float[Tensor, "..."],
    x: Float[Tensor, "..."],
    weight: Float[Tensor, "..."],
    beta: Number = 1,
    alpha: Number = 1,
    *,
    weight_first: bool = False,
) -> LinearForm:
    """``torch.addmm``, ``addmv``, ``addbmm``'s kin and ``baddbmm``: z = alpha x W + beta bias, all but x constant."""
    scaled = weight if alpha == 1 else alpha * weight
    return matmul(x, scaled, bias if beta == 1 else beta * bias, weight_first=weight_first)


def einsum(
    equation: str,
    x: Float[Tensor, "..."],
    weight: Float[Tensor, "..."],
    bias: Float[Tensor, "..."] | None = None,
    *,
    weight_first: bool = False,
) -> LinearForm:
    """``torch.einsum`` of two operands, of which one is constant: the second, or the first with ``weight_first``.

    Every single product is a contribution, also where a letter of the weight alone is summed away. The adjoint is one
    einsum; where letters repeat, are summed away alone or stand for different sizes, and with an ellipsis or without
    "->", it is found by autograd.
    """

    def product(x: Tensor, w: Tensor) -> Tensor:
        return torch.einsum(equation, w, x) if weight_first else torch.einsum(equation, x, w)

    operands, arrow, result = equation.replace(" ", "").partition("->")
    terms = operands.split(",")
    own, other = terms[::-1] if weight_first else terms
    sizes = [*zip(own, x.shape, strict=False), *zip(other, weight.shape, strict=False)]
    plain = arrow and "." not in equation and all(len(set(term)) == len(term) for term in terms)
    if plain and len(set(sizes)) == len({letter for letter, _ in sizes}) and set(own) <= set(other + result):
        return LinearForm(x, weight, bias, product, lambda r, w: torch.einsum(f"{result},{other}->{own}", r, w))
    return bilinear(product, x, weight, bias)


def bilinear(product: Product, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> LinearForm:
    """Any bilinear ``product(x, weight)``; its adjoint is found by autograd, at the price of one more product."""

    def adjoint(r: Tensor, w: Tensor) -> Tensor:
        back = torch.func.vjp(lambda x: product(x, w), torch.zeros_like(x))[1]
        found: Tensor = back(r)[0]
        # That of a sum is a view in which all terms share their place.
        return found.clone(memory_format=torch.contiguous_format)

    return LinearForm(x, weight, bias, product, adjoint)


def separable(function: Callable[[Tensor], Tensor], x: Float[Tensor, "batch channel row column"]) -> LinearForm:
    """A linear ``function`` of pictures that weighs rows and columns apart, with weights of either sign: bicubic.

    The weights of every row and of every column sum to 1. They are found by asking for pictures of one row, or column.
    """
    height, width = x.shape[-2:]

    def weights(size: int, shape: tuple[int, ...], seen: tuple[int, ...]) -> Tensor:
        lone = torch.eye(size, dtype=x.dtype, device=x.device).reshape(shape).expand(size, 1, height, width)
        return function(lone)[(slice(None), 0, *(slice(None) if each else 0 for each in seen))].mT

    rows = weights(height, (height, 1, height, 1), (1, 0))
    columns = weights(width, (width, 1, 1, width), (0, 1))

    def parts(w: Tensor) -> tuple[Tensor, Tensor]:
        return w[: rows.numel()].view(rows.shape), w[rows.numel() :].view(columns.shape)

    def product(x: Tensor, w: Tensor) -> Tensor:
        over, along = parts(w)
        return over @ x @ along.mT

    def adjoint(r: Tensor, w: Tensor) -> Tensor:
        over, along = parts(w)
        return over.mT @ r @ along

    # The size of a product of weights is the product of their sizes, so that one vector may hold both.
    return LinearForm(x, torch.cat([rows.flatten(), columns.flatten()]), None, product, adjoint)


def nonnegative_map(function: Callable[[Tensor], Tensor], x: Tensor) -> LinearForm:
    """Any linear ``function`` of x alone whose coefficients are not negative: a sum, a mean, an average pool.

    >>> form = nonnegative_map(lambda x: x.mean(-1), torch.tensor([1.0, 3.0]))
    >>> form.adjoint(torch.tensor(4.0), form.weight)
    tensor([2., 2.])
    """
    return bilinear(lambda x, w: function(x) * w, x, x.new_ones(()))
