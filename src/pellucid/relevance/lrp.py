"""The rules of the LRP family that carry relevance: gamma, alpha-beta, z-plus, those of first layers, and first order.

A rule that favours one sign of a contribution is not linear in it, so that no coefficient R / x can carry it.
"""

from collections.abc import Callable
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from pellucid.errors import ModelError
from pellucid.relevance.attention import Attention
from pellucid.relevance.forms import Factors
from pellucid.relevance.functional import lrp
from pellucid.relevance.functional.division import Number, stabilised
from pellucid.relevance.functional.linear_form import LinearForm
from pellucid.relevance.hole import of_operands
from pellucid.relevance.normalisation import Normalisation
from pellucid.relevance.operations import Kind
from pellucid.relevance.redistribution import AbstractRelevanceRule
from pellucid.relevance.rule import AbstractRule, Carrier

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class _Linear(AbstractRule):
    kinds = frozenset({Kind.LINEAR, Kind.MIXING})

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
        value: Tensor = func(*args, **kwargs)
        ctx.factors = Factors(func, args, kwargs)
        ctx.save_for_backward(*ctx.operands, value)
        return value


def _form(ctx: Any) -> tuple[LinearForm, Tensor]:
    x, value = ctx.saved_tensors
    return ctx.factors.forms(x)[0], value


@final
class EpsilonRelevance(_Linear, AbstractRelevanceRule):
    """R_i = x_i sum_j w_ji R_j / stab(z_j) [bach2015, eq. 58]."""

    def __init__(self, epsilon: Number = 1e-6) -> None:
        self.epsilon = epsilon

    def shares(self, ctx: Any, *relevance: Tensor) -> Tensor:
        form, value = _form(ctx)
        return lrp.epsilon(form, relevance[0], self.epsilon, value)

    def withheld(self, ctx: Any, *carriers: Tensor) -> Tensor:
        form, value = _form(ctx)
        return lrp.epsilon_absorbed(form, carriers[0], self.epsilon, value)


@final
class Gamma(_Linear, AbstractRelevanceRule):
    """Contributions that agree with the sign of the output count 1 + gamma times [montavon2019, table 10.1]."""

    def __init__(self, gamma: Number = 0.25, epsilon: Number = 1e-6) -> None:
        self.gamma = gamma
        self.epsilon = epsilon

    def shares(self, ctx: Any, *relevance: Tensor) -> Tensor:
        form, value = _form(ctx)
        return lrp.gamma(form, relevance[0], self.gamma, self.epsilon, value)

    def withheld(self, ctx: Any, *carriers: Tensor) -> Tensor:
        form, value = _form(ctx)
        return lrp.gamma_absorbed(form, carriers[0], self.gamma, self.epsilon, value)


@final
class AlphaBeta(_Linear, AbstractRelevanceRule):
    """Positive contributions get alpha, negative ones -beta of the relevance [bach2015, eq. 60]; z-plus is (1, 0).

    Raises InputError unless alpha - beta = 1 and beta >= 0.
    """

    def __init__(self, alpha: Number = 2.0, beta: Number = 1.0, epsilon: Number = 1e-6) -> None:
        lrp.check_weights(alpha, beta)
        self.alpha = alpha
        self.beta = beta
        self.epsilon = epsilon

    def shares(self, ctx: Any, *relevance: Tensor) -> Tensor:
        form, value = _form(ctx)
        return lrp.alpha_beta(form, relevance[0], self.alpha, self.beta, self.epsilon, value)

    def withheld(self, ctx: Any, *carriers: Tensor) -> Tensor:
        form, value = _form(ctx)
        return lrp.alpha_beta_absorbed(form, carriers[0], self.alpha, self.beta, self.epsilon, value)


@final
class Flat(_Linear, AbstractRelevanceRule):
    """For a first layer: alike to every input of a unit [lapuschkin2019]."""

    def shares(self, ctx: Any, *relevance: Tensor) -> Tensor:
        return lrp.flat(_form(ctx)[0], relevance[0])


@final
class WSquare(_Linear, AbstractRelevanceRule):
    """For a first layer: in proportion to the squared weights [montavon2017, eq. 12]."""

    def shares(self, ctx: Any, *relevance: Tensor) -> Tensor:
        return lrp.w_square(_form(ctx)[0], relevance[0])


@final
class ZBox(_Linear, AbstractRelevanceRule):
    """For a first layer whose inputs lie between ``low`` and ``high`` [montavon2017, eq. 14]."""

    def __init__(self, low: Tensor | Number, high: Tensor | Number, epsilon: Number = 1e-6) -> None:
        self.low = low
        self.high = high
        self.epsilon = epsilon

    def shares(self, ctx: Any, *relevance: Tensor) -> Tensor:
        return lrp.z_box(_form(ctx)[0], self.low, self.high, relevance[0], self.epsilon)


@final
class HalvedProducts(AbstractRelevanceRule):
    """A product of traced operands gives each an equal part, by the epsilon rule [achtibat2024, eq. 14]."""

    kinds = frozenset({Kind.PRODUCT, Kind.BILINEAR})

    def __init__(self, epsilon: Number = 1e-6) -> None:
        self.epsilon = epsilon

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        return _first_order(ctx, func, args, kwargs)

    def shares(self, ctx: Any, *relevance: Tensor) -> tuple[Tensor, ...]:
        found = _to_first_order(ctx, relevance, self.epsilon)
        return tuple(each / len(found) for each in found)

    def withheld(self, ctx: Any, *carriers: Tensor) -> Tensor:
        value = ctx.saved_tensors[-1]
        total = stabilised(value, self.epsilon)
        kept: Tensor = carriers[0] * (total - value) / total
        return kept


@final
class FirstOrder(AbstractRelevanceRule):
    """R_in = x J^T (R / stab(z)) of any operation z = f(x) [montavon2019, section 10.2.3], of each of a pair alike."""

    carriers: ClassVar[tuple[Carrier, ...]] = ("relevance", "pair")
    leaves_residue = True

    def __init__(self, epsilon: Number = 1e-6) -> None:
        self.epsilon = epsilon

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        return _first_order(ctx, func, args, kwargs)

    def shares(self, ctx: Any, *relevance: Tensor) -> tuple[Tensor, ...]:
        return _to_first_order(ctx, relevance, self.epsilon)

    def withheld(self, ctx: Any, *carriers: Tensor) -> Tensor:
        operands, values = _operands_and_values(ctx)
        constants = ctx.function(*(torch.zeros_like(each) for each in operands))
        kept = []
        for place, constant, value in zip(ctx.places, constants, values, strict=True):
            total = stabilised(value, self.epsilon)
            kept.append((carriers[place] * (constant + total - value) / total).flatten())
        return torch.cat(kept)


def _first_order(ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    value: Any = func(*args, **kwargs)
    members = _members(value)
    if any(each.is_complex() for each in members):
        name = getattr(func, "__name__", type(func).__name__)
        raise ModelError(
            f"{name!r} gives complex numbers, which relevance cannot be divided by; use a composite that carries "
            "coefficients, such as 'attnlrp'."
        )
    ctx.places = [place for place, each in enumerate(members) if each.is_floating_point()]
    ctx.mark_non_differentiable(*(each for each in members if not each.is_floating_point()))
    call = of_operands(func, args, kwargs, ctx.operands)
    ctx.function = lambda *given: tuple(each for each in _members(call(*given)) if each.is_floating_point())
    ctx.save_for_backward(*ctx.operands, *(members[place] for place in ctx.places))
    return value


def _members(value: Any) -> tuple[Tensor, ...]:
    return (value,) if isinstance(value, Tensor) else tuple(value)


def _operands_and_values(ctx: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    saved: tuple[Tensor, ...] = ctx.saved_tensors
    count = len(saved) - len(ctx.places)
    return saved[:count], saved[count:]


def _to_first_order(ctx: Any, relevance: tuple[Tensor, ...], epsilon: Number) -> tuple[Tensor, ...]:
    operands, values = _operands_and_values(ctx)
    back = torch.func.vjp(ctx.function, *operands)[1]
    c = tuple(relevance[place] / stabilised(z, epsilon) for place, z in zip(ctx.places, values, strict=True))
    # Nothing arrives at a masked place, and what stands there is infinite.
    return tuple((x * each).nan_to_num(0.0) for x, each in zip(operands, back(c), strict=True))


@final
class HeldScaleRelevance(AbstractRelevanceRule):
    """A normalisation layer whose standard deviation is a constant, by the epsilon rule [ali2022, eq. 9]."""

    kinds: ClassVar[frozenset[Kind] | None] = frozenset({Kind.NORM})

    def __init__(self, epsilon: Number = 1e-6) -> None:
        self.epsilon = epsilon

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
        value: Tensor = func(*args, **kwargs)
        ctx.layer = Normalisation.read(func, args, kwargs)
        ctx.function = of_operands(func, args, kwargs, ctx.operands)
        ctx.save_for_backward(*ctx.operands, value)
        return value

    def shares(self, ctx: Any, *relevance: Tensor) -> Tensor:
        x, value = ctx.saved_tensors
        return lrp.first_order(x, value, ctx.layer.adjoint, relevance[0], self.epsilon)

    def withheld(self, ctx: Any, *carriers: Tensor) -> Tensor:
        x, value = ctx.saved_tensors
        total = stabilised(value, self.epsilon)
        kept: Tensor = ctx.function(torch.zeros_like(x)) + total - value
        return carriers[0] * kept / total


@final
class HalvedAttentionRelevance(AbstractRelevanceRule):
    """Fused attention as two halved products and a softmax [achtibat2024, section 3.3]; constant weights on demand.

    ``constant`` gives everything to the values [ali2022].
    """

    kinds = frozenset({Kind.ATTENTION})
    leaves_residue = True

    def __init__(self, *, constant: bool = False, epsilon: Number = 1e-6) -> None:
        self.constant = constant
        self.epsilon = epsilon

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
        value: Tensor = func(*args, **kwargs)
        ctx.options = Attention.read(args[3:], kwargs)
        ctx.save_for_backward(*args[:3], value)
        return value

    def shares(self, ctx: Any, *relevance: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output = ctx.saved_tensors
        options: Attention = ctx.options
        keys, values = options.repeated(query, key), options.repeated(query, value)
        scores = options.scores(query, keys)
        weights = options.weights(query, scores)
        c = relevance[0] / self._stabilised(output)
        to_values = options.gathered(values * (weights.mT @ c), value.shape)
        if self.constant:
            return None, None, to_values
        # R of the weights, over the weights; then the softmax's true gradient, and the scale lets it through.
        c = weights / self._stabilised(weights) * (c @ values.mT) / 2
        to_scores = scores * options.scale_of(query) * weights * (c - (weights * c).sum(-1, keepdim=True))
        each = to_scores / self._stabilised(scores) / 2
        to_query = (query * (each @ keys)).sum_to_size(query.shape)
        return to_query, options.gathered(keys * (each.mT @ query), key.shape), to_values / 2

    def _stabilised(self, z: Tensor) -> Tensor:
        return stabilised(z, self.epsilon)
