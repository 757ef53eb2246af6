"""Layer-wise relevance propagation: the rules that carry relevance itself through a linear form.

z = W x + b; P_j and N_j: sums of the positive and of the negative contributions z_ji = W_ji x_i to unit j, as sizes. In
every rule stab(d) = d + epsilon sign(d), sign(0) = 1, and a unit whose denominator is 0 passes nothing on. ``value`` is
the known output z, bias included, in the precision of the relevance; without it a rule that reads z spends one product
more than said. Relevance comes shaped like z and returns shaped like x.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError
from pellucid.relevance.functional.division import Number, ratio, signs, stabilised
from pellucid.relevance.functional.linear_form import LinearForm, rounding, spread


def first_order(
    x: Float[Tensor, "*x"],
    z: Float[Tensor, "*z"],
    vjp: Callable[[Tensor], Tensor],
    relevance: Float[Tensor, "*z"],
    epsilon: Number = 0.0,
) -> Float[Tensor, "*x"]:
    """R_in = x J^T (R / stab(z)) for any operation z = f(x), with ``vjp(r)`` = J^T r [montavon2019, section 10.2.3]."""
    return x * vjp(ratio(relevance, stabilised(z, epsilon)))


def epsilon(
    form: LinearForm, relevance: Float[Tensor, "*z"], epsilon: Number = 1e-6, value: Tensor | None = None
) -> Float[Tensor, "..."]:
    """R_i = sum_j z_ji R_j / stab(z_j) [bach2015, eq. 58]; LRP-0 with epsilon = 0. One product.

    Bias and stabiliser keep their share (``epsilon_absorbed``).
    """
    return form.x * form.adjoint(ratio(relevance, _output(form, value, epsilon)), form.weight)


def epsilon_absorbed(
    form: LinearForm, relevance: Float[Tensor, "*z"], epsilon: Number = 1e-6, value: Tensor | None = None
) -> Float[Tensor, "*z"]:
    """R_j (b_j + epsilon sign(z_j)) / stab(z_j), what ``epsilon`` leaves at each unit. No product but z."""
    total = _output(form, value, epsilon)
    own = torch.zeros_like(total) if form.bias is None else form.bias
    return ratio(relevance * torch.where(total >= 0, own + epsilon, own - epsilon), total)


def gamma(
    form: LinearForm,
    relevance: Float[Tensor, "*z"],
    gamma: Number = 0.25,
    epsilon: Number = 0.0,
    value: Tensor | None = None,
) -> Float[Tensor, "..."]:
    """Contributions that agree with the sign s of the unit's output count 1 + gamma times [montavon2019, table 10.1].

    R_i = sum_j (z_ji + s_j gamma max(s_j z_ji, 0)) R_j / stab(z_j + s_j gamma (P_j + b+, or N_j + b- if s_j = -1)). The
    form for inputs and outputs of either sign; the published one is that of x >= 0 and z > 0. Bias and stabiliser keep
    their share (``gamma_absorbed``). Three products.
    """
    sizes = form.sizes()
    total, side = _favoured(form, sizes, gamma, epsilon, value)
    each = ratio(relevance, total)
    return spread(form, sizes, each * side.mul_(gamma / 2), each * (1 + gamma / 2))


def gamma_absorbed(
    form: LinearForm,
    relevance: Float[Tensor, "*z"],
    gamma: Number = 0.25,
    epsilon: Number = 0.0,
    value: Tensor | None = None,
) -> Float[Tensor, "*z"]:
    """What ``gamma`` leaves at each unit: the share of b + s gamma max(s b, 0) and of the stabiliser. One product."""
    total, side = _favoured(form, form.sizes(), gamma, epsilon, value)
    own = side * epsilon
    if form.bias is not None:
        own = own + (1 + gamma / 2) * form.bias + gamma / 2 * side * form.bias.abs()
    return ratio(relevance * own, total)


def alpha_beta(
    form: LinearForm,
    relevance: Float[Tensor, "*z"],
    alpha: Number = 2.0,
    beta: Number = 1.0,
    epsilon: Number = 0.0,
    value: Tensor | None = None,
) -> Float[Tensor, "..."]:
    """R_i = sum_j (alpha max(z_ji, 0) / (P_j + b+) - beta max(-z_ji, 0) / (N_j + b-)) R_j [bach2015, eq. 60].

    As published, a unit with one side only gives alpha R or -beta R, not R. The bias keeps its share of each side
    (``alpha_beta_absorbed``). Three products. Raises InputError unless alpha - beta = 1 and beta >= 0.
    """
    sizes = form.sizes()
    up, down = _weighted(form, sizes, relevance, alpha, beta, epsilon, value)
    return spread(form, sizes, up + down, up - down)


def alpha_beta_absorbed(
    form: LinearForm,
    relevance: Float[Tensor, "*z"],
    alpha: Number = 2.0,
    beta: Number = 1.0,
    epsilon: Number = 0.0,
    value: Tensor | None = None,
) -> Float[Tensor, "*z"]:
    """What ``alpha_beta`` leaves at each unit: the bias's and the stabiliser's share of either side. One product."""
    up, down = _weighted(form, form.sizes(), relevance, alpha, beta, epsilon, value)
    if form.bias is None:
        return 2 * epsilon * (up + down)
    return 2 * (up * (form.bias.clamp(min=0) + epsilon) + down * (epsilon - form.bias.clamp(max=0)))


def zplus(
    form: LinearForm, relevance: Float[Tensor, "*z"], epsilon: Number = 0.0, value: Tensor | None = None
) -> Float[Tensor, "..."]:
    """R_i = sum_j max(z_ji, 0) R_j / (P_j + b+), for x and W of either sign [montavon2017, eq. 15].

    It is alpha-beta with alpha = 1, beta = 0, so ``alpha_beta_absorbed`` says what it leaves. Three products.
    """
    return alpha_beta(form, relevance, 1.0, 0.0, epsilon, value)


def flat(form: LinearForm, relevance: Float[Tensor, "*z"]) -> Float[Tensor, "..."]:
    """R_i = sum_j R_j / (number of inputs of j): alike to all that reach the unit [lapuschkin2019]. Two products.

    First layers only: neither input, weight nor bias is read. An input outside of the frame (padding) is none.
    """
    return _evenly(form, torch.ones_like(form.weight), relevance)


def w_square(form: LinearForm, relevance: Float[Tensor, "*z"]) -> Float[Tensor, "..."]:
    """R_i = sum_j W_ji^2 R_j / sum_k W_jk^2 [montavon2017, eq. 12]. First layers only; no bias. Two products."""
    return _evenly(form, form.weight.square(), relevance)


def z_box(
    form: LinearForm,
    low: Tensor | Number,
    high: Tensor | Number,
    relevance: Float[Tensor, "*z"],
    epsilon: Number = 0.0,
) -> Float[Tensor, "..."]:
    """The rule of inputs in a box, low <= x <= high [montavon2017, eq. 14]. First layers only; no bias. Four products.

    R_i = sum_j q_ji R_j / stab(sum_k q_jk) with q_ji = x_i W_ji - low_i max(W_ji, 0) - high_i min(W_ji, 0) >= 0.
    low, high: numbers, or tensors that broadcast against x. An x outside of the box gets shares below 0.
    """
    # With m the middle and d half the width of the box, q = (x - m) W + d |W|: two products in place of three.
    nothing = torch.zeros_like(form.x)
    middle, reach = nothing + (low + high) / 2, nothing + (high - low) / 2
    beside, size = form.x - middle, form.weight.abs()
    total = form.product(beside, form.weight) + form.product(reach, size)
    each = ratio(relevance, stabilised(total, epsilon))
    return beside * form.adjoint(each, form.weight) + reach * form.adjoint(each, size)


def _output(form: LinearForm, value: Tensor | None, epsilon: Number) -> Tensor:
    return stabilised(form.value() if value is None else value, epsilon)


def _favoured(
    form: LinearForm, sizes: LinearForm, gamma: Number, epsilon: Number, value: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The gamma rule's denominator, and the sign of the unit's output, which is also its own.

    s (P + b+) for s = 1 and s (N + b-) for s = -1 are both (z + s (S + |b|)) / 2.
    """
    output = form.value() if value is None else value
    side = signs(output)
    favoured = sizes.value().mul_(gamma / 2).add_(epsilon).mul_(side)
    return favoured.add_(output, alpha=1 + gamma / 2), side


def _weighted(
    form: LinearForm,
    sizes: LinearForm,
    relevance: Tensor,
    alpha: Number,
    beta: Number,
    epsilon: Number,
    value: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Half of what a positive and a negative contribution of size 1 receives by the alpha-beta rule."""
    check_weights(alpha, beta)
    size, output = sizes.value(), form.value() if value is None else value
    # 2 (P + b+) and 2 (N + b-); a side that is none gets nothing, whatever epsilon is.
    above, below, noise = size + output, size - output, rounding(size) * size
    above = (above + 2 * epsilon).masked_fill(above <= noise, torch.inf)
    below = (below + 2 * epsilon).masked_fill(below <= noise, torch.inf)
    return alpha * relevance / above, -beta * relevance / below


def check_weights(alpha: Number, beta: Number) -> None:
    """Raises InputError unless alpha - beta = 1 and beta >= 0."""
    if beta < 0 or abs(alpha - beta - 1) > 1e-9:
        raise InputError(f"alpha - beta must be 1 and beta >= 0 (got alpha={alpha}, beta={beta}): try 2 and 1.")


def _evenly(form: LinearForm, weight: Tensor, relevance: Tensor) -> Tensor:
    """Shares in proportion to a weight that is not negative, whatever the input is."""
    return form.adjoint(ratio(relevance, form.product(torch.ones_like(form.x), weight)), weight)
