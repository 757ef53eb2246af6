"""The rules of the coefficient carrier c = R / x, under which autograd's own adjoint of a linear map is LRP-0.

With c a rule is needed only where an operation is not linear in its traced operands.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves

from pellucid.errors import InputError
from pellucid.relevance.hole import of_operands
from pellucid.relevance.normalisation import Normalisation
from pellucid.relevance.operations import Kind, operation_of
from pellucid.relevance.rule import AbstractRule, AbstractTreatment, Carrier, producer, rewritten, traced


class AbstractCoefficientRule(AbstractRule):
    """A rule of the coefficient carrier."""

    carriers: ClassVar[tuple[Carrier, ...]] = ("coefficient",)


def _renamed(x: Tensor) -> Tensor:
    """The same numbers as a tensor of their own, which is no view, so that the network's views are views of it."""
    return x.data


class _Stabilise(torch.autograd.Function):
    """The identity; c becomes c z / stab(z) on the way back."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, epsilon: float) -> Tensor:
        ctx.save_for_backward(z)
        ctx.epsilon = epsilon
        return _renamed(z)

    @staticmethod
    def backward(ctx: Any, c: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        with torch._C.DisableTorchFunction():
            # c z / (z + epsilon sign z) = c |z| / (|z| + epsilon) = c - c epsilon / (|z| + epsilon), in two passes.
            return torch.addcdiv(c, c, z.abs().add_(ctx.epsilon), value=-ctx.epsilon), None


class _Share(torch.autograd.Function):
    """The identity; c becomes a share of c on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        ctx.share = share
        return _renamed(x)

    @staticmethod
    def backward(ctx: Any, c: Tensor) -> tuple[Tensor, None]:
        with torch._C.DisableTorchFunction():
            return c * ctx.share, None


_stabilise: Callable[..., Any] = _Stabilise.apply
_share: Callable[..., Any] = _Share.apply


@final
class Epsilon(AbstractTreatment):
    """R_i = x_i sum_j w_ji R_j / (z_j + epsilon sign z_j) [bach2015, eq. 58]: c times z / stab(z), then the adjoint."""

    carriers = ("coefficient",)
    kinds = frozenset({Kind.LINEAR, Kind.MIXING})

    def __init__(self, epsilon: float = 1e-6) -> None:
        self.epsilon = epsilon

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _stabilise(func(*args, **kwargs), self.epsilon)

    def absorbed(self, c: Tensor, value: Tensor, constant: Tensor) -> Tensor:
        lost = c * self.epsilon / (value.abs() + self.epsilon)
        return lost * value + (c - lost) * constant


@final
class Ratio(AbstractCoefficientRule):
    """An activation lets relevance through: c_in = c y / x, at x = 0 the derivative [bach2015, section 3.1].

    An activation with y(0) not 0 keeps that share: c_in = c (y - y(0)) / x, y(0) being a constant. Raises InputError
    on anything but a function of one traced tensor to one of the same shape.
    """

    def forward(self, ctx: Any, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        value: Any = func(*args, **kwargs)
        x: Tensor = ctx.operands[0]
        if len(ctx.operands) > 1 or not isinstance(value, Tensor) or value.shape != x.shape:
            raise InputError(
                "Ratio is a rule for an elementwise function of one tensor that depends on the input, and "
                f"{getattr(func, '__name__', type(func).__name__)!r} is none; give it another rule."
            )
        ctx.start, ctx.slope = _start_and_slope(x, func, args, kwargs)
        # The result is computed again on the way back: keeping it would cost as much memory as all else that is saved.
        ctx.function = of_operands(func, args, kwargs, ctx.operands)
        # A module may write into what it is given.
        ctx.copies = operation_of(func) is None
        ctx.save_for_backward(x)
        result: Tensor = value
        return result

    def backward(self, ctx: Any, *carriers: Tensor) -> Tensor:
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        (x,) = saved
        y: Tensor = ctx.function(x.clone() if ctx.copies else x)
        if isinstance(ctx.start, float) and isinstance(ctx.slope, float) and not ctx.start:
            return carriers[0] * (y / x).nan_to_num(ctx.slope)
        # Near 0 the difference is all rounding.
        near = x.abs() <= torch.finfo(x.dtype).eps ** 0.5
        return carriers[0] * torch.where(near, ctx.slope, (y - ctx.start) / x)


def _start_and_slope(
    x: Tensor, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor | float, ...]:
    """Value and derivative of an elementwise function at 0; a network has the same function in every layer."""
    rest = [None if each is x else each for each in args], [*kwargs.items()]
    plain = all(each is None or isinstance(each, bool | int | float | str) for each in (*rest[0], *kwargs.values()))
    if plain and operation_of(func) is not None:
        return _of_numbers(func, x.dtype, tuple(rest[0]), tuple(rest[1]))
    return tuple(_plain(each) for each in _at_zero(x, func, args, kwargs))


@cache
def _of_numbers(
    func: Callable[..., Any], dtype: torch.dtype, args: tuple[Any, ...], kwargs: tuple[tuple[str, Any], ...]
) -> tuple[Tensor | float, ...]:
    """The same of a function of torch of one tensor, which stands where ``args`` has None first."""
    x = torch.zeros(1, dtype=dtype)
    place = args.index(None)
    called = (*args[:place], x, *args[place + 1 :])
    return tuple(_plain(each) for each in _at_zero(x, func, called, dict(kwargs)))


def _at_zero(x: Tensor, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, ...]:
    """Value and derivative of an elementwise function at 0, of a shape that broadcasts against x."""
    alone = sum(isinstance(each, Tensor) for each in tree_leaves((args, kwargs))) == 1
    # A checkpoint around the network would take what this saves for its own, and recompute it.
    with torch.enable_grad(), saved_tensors_hooks(_unchanged, _unchanged):
        # One number is enough for a function of torch; a module may have a parameter for each channel.
        shape = (1,) * x.ndim if operation_of(func) is not None else (1, *x.shape[1:]) if x.ndim else ()
        zero = x.new_zeros(shape if alone else x.shape).requires_grad_()
        # A module may write into what it is given.
        given = zero.clone()
        called = [rewritten(each, lambda one: given if one is x else one) for each in (args, kwargs)]
        y = func(*called[0], **called[1])
        (slope,) = torch.autograd.grad(y.sum(), zero)
    return y.detach(), slope


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def _plain(values: Tensor) -> Tensor | float:
    """One number, where all are equal."""
    first = values.flatten()[0]
    return float(first) if bool((values == first).all()) else values


@final
class Halves(AbstractTreatment):
    """A product of two traced operands gives each of them half, of n an n-th [achtibat2024, eq. 14]."""

    carriers = ("coefficient",)
    kinds = frozenset({Kind.PRODUCT, Kind.BILINEAR})

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # The product's own adjoint gives the whole to each.
        return _share(func(*args, **kwargs), 1 / sum(1 for _ in traced((args, kwargs))))


@final
class ConstantGates(AbstractTreatment):
    """A product in which one factor comes straight out of an activation, its gate: the other one gets everything.

    The gate is a constant, like attention weights [ali2022, section 4]. A product of other operands gives each half.
    """

    carriers = ("coefficient",)
    kinds = frozenset({Kind.PRODUCT})

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        gates = [each for each in traced((args, kwargs)) if _is_gate(each)]
        if len(gates) != 1:
            return _share(func(*args, **kwargs), 0.5)
        args, kwargs = (rewritten(each, lambda x: x.detach() if x is gates[0] else x) for each in (args, kwargs))
        return func(*args, **kwargs)


def _is_gate(x: Tensor) -> bool:
    node = producer(x)
    return node is not None and isinstance(node.rule, Ratio)


@final
class HalvedAttention(AbstractTreatment):
    """Attention as two products and a softmax's true gradient [achtibat2024, section 3.3]: v a half, q and k a quarter.

    A constant among them has no share: its partner in the product gets the whole. A mask that depends on the input is
    a summand of the scores. The fused kernel's own adjoint does it, each operand being given its share.
    """

    carriers = ("coefficient",)
    kinds = frozenset({Kind.ATTENTION})
    leaves_residue = True

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = _attended(args, kwargs)
        scored = [call[name] for name in ("query", "key", "attn_mask") if _is_traced(call.get(name))]
        weights = 0.5 if _is_traced(call["value"]) else 1.0
        shares = {
            "query": weights / 2 if _is_traced(call["key"]) else weights,
            "key": weights / 2 if _is_traced(call["query"]) else weights,
            "value": 0.5 if scored else 1.0,
            "attn_mask": weights,
        }
        return func(
            **call | {name: _share(call[name], share) for name, share in shares.items() if _is_traced(call.get(name))}
        )


@final
class ConstantAttention(AbstractTreatment):
    """Attention whose weights are constants [ali2022, section 4]: everything goes to the values."""

    carriers = ("coefficient",)
    kinds = frozenset({Kind.ATTENTION})

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = _attended(args, kwargs)
        held = {name: call[name].detach() for name in ("query", "key", "attn_mask") if _is_traced(call.get(name))}
        return func(**call | held)


def _attended(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an attention call by name."""
    return dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False)) | kwargs


def _is_traced(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


@final
class SignAgreement(AbstractCoefficientRule):
    """A residual sum z = a + b favours the branch whose sign agrees with z [reslrp2026].

    Each branch is weighted by w = 1 + gamma [sign agrees]: R_a = R a w_a / (a w_a + b w_b). Exactly conserving.
    """

    kinds = frozenset({Kind.SUM, Kind.RESIDUAL})

    def __init__(self, gamma: float = 1.0) -> None:
        self.gamma = gamma

    def forward(self, ctx: Any, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        value: Tensor = func(*args, **kwargs)
        a, _ = ctx.operands
        ctx.factors = _factors(func, args, kwargs)
        ctx.save_for_backward(a, value)
        return value

    def backward(self, ctx: Any, *carriers: Tensor) -> tuple[Tensor, Tensor]:
        first, z = ctx.saved_tensors
        sign_a, sign_b = ctx.factors
        a = first if sign_a == 1 else first * sign_a
        b, size = z - a, z.abs()
        # a w_a + b w_b = z + gamma sign(z) (|a| + |b| + |z|) / 2, and 0 where all three are 0.
        shared = b.abs().add_(a.abs()).mul_(self.gamma / 2).add_(size, alpha=1 + self.gamma / 2)
        plain = carriers[0] * size.div_(shared.clamp_min_(torch.finfo(z.dtype).tiny))
        favoured, positive = plain * (1 + self.gamma), z >= 0
        for_a, for_b = (torch.where((each >= 0) == positive, favoured, plain) for each in (a, b))
        return for_a if sign_a == 1 else for_a * sign_a, for_b if sign_b == 1 else for_b * sign_b


def _factors(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float, float]:
    """How often a sum takes each of its two operands: 1 and alpha, or with a minus sign."""
    one, zero = torch.ones(()), torch.zeros(())

    def total(*values: Tensor) -> float:
        given = iter(values)
        called = [rewritten(each, lambda x: next(given) if x.requires_grad else x) for each in (args, kwargs)]
        return float(func(*called[0], **called[1]))

    return total(one, zero), total(zero, one)


@final
class HeldScale(AbstractCoefficientRule):
    """A normalisation layer whose standard deviation is a constant [ali2022, eq. 9]; its shift absorbs its share.

    Layer, group and instance norm subtract the mean, which is linear; batch norm in evaluation is linear as it is.
    """

    kinds = frozenset({Kind.NORM})

    def forward(self, ctx: Any, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        value: Tensor = func(*args, **kwargs)
        ctx.layer = Normalisation.read(func, args, kwargs)
        return value

    def backward(self, ctx: Any, *carriers: Tensor) -> Tensor:
        layer: Normalisation = ctx.layer
        return layer.adjoint(carriers[0])
