"""DLBacktrace's contrast mode [sankarapu2024]: two relevances for each unit, for the answer and for all others.

Each unit sends the larger of its two relevances to the side of its inputs that agrees with the sign of its output, and
the smaller to the other side; both keep their label. No bias takes a share, so both totals are conserved exactly,
except at a unit without any contribution, which passes nothing on.

A pair of relevances is one tensor [label, ...], the positive label first, then the negative one; their difference is
the explanation. The published text leaves two ties open. Ours: an output of 0 counts as positive, and of two equal
relevances the positive one counts as the larger.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.relevance.functional.division import divided_by_, reduced_to, signs
from pellucid.relevance.functional.linear_form import LinearForm, rounding, spread


def linear(
    form: LinearForm, relevance: Float[Tensor, "label ..."], value: Tensor | None = None
) -> Float[Tensor, "label ..."]:
    """R_i = sum_j R_j max(z_ji, 0) / P_j for the label that unit j sends up, R_j max(-z_ji, 0) / N_j for the other.

    N_j = 0 sends both up, P_j = 0 both down. Average pools and means are linear too (``nonnegative_map``). value: the
    known output, bias included. Returns [label, *x]. Cost: 5 products, 6 without ``value``.
    """
    sizes = form.sizes()
    return _through(form, sizes, *_labels(form, sizes, relevance, value))


def addition(terms: Sequence[Tensor], relevance: Float[Tensor, "label ..."]) -> tuple[Tensor, ...]:
    """The same for a sum of terms, signed as they enter it, constants among them; [label, *term] for each.

    P and N are the sums of the positive and of the negative terms, element by element. No product.
    """
    sizes = [term.abs() for term in terms]
    value = sum(terms[1:], terms[0])
    even, odd = _sent(sum(sizes[1:], sizes[0]), value, value, None, relevance)
    pairs = zip(terms, sizes, strict=True)
    return tuple(_reduced((odd * term).add_(even * size), term.shape) for term, size in pairs)


def multiplication(x: Tensor, y: Tensor, relevance: Float[Tensor, "label ..."]) -> tuple[Tensor, Tensor]:
    """R |y| / (|x| + |y|) to x and R |x| / (|x| + |y|) to y of an elementwise product, for both labels alike.

    Where both are 0 each takes half, so that nothing is lost. Each pair is shaped like its factor, [label, *factor].
    """
    total = x.abs() + y.abs()
    to_x = relevance * torch.where(total == 0, 0.5, y.abs() / total)
    return _reduced(to_x, x.shape), _reduced(relevance - to_x, y.shape)


def bilinear(
    first: LinearForm, second: LinearForm, relevance: Float[Tensor, "label ..."], value: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A matrix product of two traced operands: the products A_qk V_kd are the contributions, half of each to A and V.

    The forms are those of ``backtrace.bilinear``. Cost: 9 products, 10 without ``value``.
    """
    sizes = first.sizes()
    even, odd = _labels(first, sizes, relevance / 2, value)
    return _through(first, sizes, even, odd), _through(second, sizes.swapped(second), even, odd)


def _through(form: LinearForm, sizes: LinearForm, even: Tensor, odd: Tensor) -> Tensor:
    both = form._replace(adjoint=torch.func.vmap(form.adjoint, (0, None)))
    return spread(both, sizes, even, odd)


def _labels(form: LinearForm, sizes: LinearForm, relevance: Tensor, value: Tensor | None) -> tuple[Tensor, Tensor]:
    output = form.value() if value is None else value
    unbiased = output if form.bias is None else output - form.bias
    return _sent(sizes.unbiased(), unbiased, output, sizes.bias, relevance)


def _sent(
    size: Tensor, unbiased: Tensor, value: Tensor, bias_size: Tensor | None, relevance: Tensor
) -> tuple[Tensor, Tensor]:
    """What each label hands to a contribution z, even |z| + odd z: R / (S + s z_j) and s times it for the side s.

    size: S = P + N. unbiased: z_j = P - N, so that S + s z_j is 2 P for s = 1 and 2 N for s = -1.
    """
    # Masks, and choosing by them, would cost as much as all of the rest: 0 and 1, 1 and -1 are numbers here.
    beyond = unbiased.abs().sub_(size).add_(size, alpha=rounding(size))
    if bias_size is not None:
        beyond.add_(bias_size, alpha=rounding(size))
    one_sided = beyond.ge_(0)
    only = signs(unbiased).mul_(one_sided)
    agreeing = signs((relevance[0] - relevance[1]).mul_(value)).mul_(1 - one_sided)
    labels = size.new_tensor([1.0, -1.0]).view(2, *(1 for _ in size.shape))
    side = torch.addcmul(only, agreeing, labels)
    even = divided_by_(relevance, torch.addcmul(size, side, unbiased))
    return even, side.mul_(even)


def _reduced(wide: Tensor, shape: Sequence[int]) -> Tensor:
    """``reduced_to`` for each label."""
    added = wide.ndim - 1 - len(shape)
    return reduced_to(wide, (2, *(1 for _ in range(added)), *shape)).reshape(2, *shape)
