"""The rules of ``backtrace`` and ``backtrace-contrast``: every arithmetic operation, since they carry relevance."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor

from pellucid.relevance.attention import Attention
from pellucid.relevance.forms import Factors
from pellucid.relevance.functional import backtrace, contrast, pooling
from pellucid.relevance.functional.division import reduced_to
from pellucid.relevance.functional.linear_form import LinearForm, matmul, nonnegative_map, separable
from pellucid.relevance.hole import of_operands
from pellucid.relevance.operations import Kind, operation_of
from pellucid.relevance.redistribution import AbstractPairRule, AbstractRelevanceRule
from pellucid.relevance.rule import AbstractRule, Carrier, producer

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
BOTH: tuple[Carrier, ...] = ("relevance", "pair")

_FOLLOWING = {"tanh": "tanh", "sigmoid": "sigmoid", "softmax": "softmax", "silu": "swish"}
"""Activations that saturate, by the name of the operation."""


@final
class Through(AbstractRule):
    """Relevance passes as it is: activations, scales, normalisation layers [sankarapu2024].

    An operand that was broadcast gets the sum of its copies; a softmax passes nothing at positions that it masks. Tells
    the linear rule before it what follows.
    """

    carriers: ClassVar[tuple[Carrier, ...]] = BOTH

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
        (x,) = ctx.operands
        name, node = _name(func), producer(x)
        if name in _FOLLOWING and node is not None:
            node.following = _FOLLOWING[name]
        value: Tensor = func(*args, **kwargs)
        ctx.shape, ctx.masks = x.shape, name == "softmax"
        if ctx.masks:
            ctx.save_for_backward(value)
        return value

    def backward(self, ctx: Any, *carriers: Tensor) -> Tensor:
        relevance = carriers[0]
        if ctx.masks:
            relevance = backtrace.masked(ctx.saved_tensors[0] != 0, relevance)
        return reduced_to(relevance, ctx.shape)


@final
class BacktraceLinear(AbstractRelevanceRule):
    """A linear map: the size of a contribution counts, its sign does not [sankarapu2024, section 3].

    ``saturation`` switches off the side that no longer matters where tanh, sigmoid, softmax or swish follows.
    """

    kinds = frozenset({Kind.LINEAR, Kind.MIXING})

    def __init__(self, *, saturation: bool = True) -> None:
        self.saturation = saturation

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
        return _linear(ctx, func, args, kwargs)

    def shares(self, ctx: Any, *relevance: Tensor) -> Tensor:
        form, value = _restored(ctx)
        return backtrace.linear(form, relevance[0], self._following(ctx), value)

    def withheld(self, ctx: Any, *carriers: Tensor) -> Tensor:
        form, value = _restored(ctx)
        return backtrace.linear_absorbed(form, carriers[0], self._following(ctx), value)

    def _following(self, ctx: Any) -> str | None:
        following: str | None = ctx.following if self.saturation else None
        return following


@final
class ContrastLinear(AbstractPairRule):
    """A linear map sends the larger relevance to the side that agrees with its output [sankarapu2024]."""

    kinds = frozenset({Kind.LINEAR, Kind.MIXING})

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
        return _linear(ctx, func, args, kwargs)

    def shares(self, ctx: Any, relevance: Tensor) -> Tensor:
        form, value = _restored(ctx)
        return contrast.linear(form, relevance, value)


def _linear(ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
    value: Tensor = func(*args, **kwargs)
    ctx.factors, ctx.following = Factors(func, args, kwargs), None
    ctx.save_for_backward(*ctx.operands, value)
    return value


def _restored(ctx: Any) -> tuple[LinearForm, Tensor]:
    x, value = ctx.saved_tensors
    return ctx.factors.forms(x)[0], value


class _Bilinear(AbstractRule):
    kinds = frozenset({Kind.BILINEAR})

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
        value: Tensor = func(*args, **kwargs)
        ctx.factors = Factors(func, args, kwargs)
        ctx.save_for_backward(*ctx.operands, value)
        return value


@final
class BacktraceBilinear(_Bilinear, AbstractRelevanceRule):
    """A matrix product of two traced operands: each product of numbers its share, half of it to either."""

    def shares(self, ctx: Any, *relevance: Tensor) -> tuple[Tensor, ...]:
        *operands, _ = ctx.saved_tensors
        first, second = ctx.factors.forms(*operands)
        return backtrace.bilinear(first, second, relevance[0])


@final
class ContrastBilinear(_Bilinear, AbstractPairRule):
    """The same for a pair."""

    def shares(self, ctx: Any, relevance: Tensor) -> tuple[Tensor, ...]:
        *operands, value = ctx.saved_tensors
        first, second = ctx.factors.forms(*operands)
        return contrast.bilinear(first, second, relevance, value)


class _Sum(AbstractRule):
    kinds = frozenset({Kind.SUM, Kind.RESIDUAL, Kind.SHIFT})

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
        value: Tensor = func(*args, **kwargs)
        ctx.terms = Terms(func, args, kwargs)
        ctx.save_for_backward(*ctx.operands)
        return value


class Terms:
    """The two terms of a sum as they enter it, each traced or constant."""

    def __init__(self, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> None:
        name = _name(func)
        terms = [args[0] if args else kwargs["input"], args[1] if len(args) > 1 else kwargs["other"]]
        factor = kwargs.get("alpha", 1)
        self._signs = (1, -factor) if name == "sub" else (-factor, 1) if name == "rsub" else (1, factor)
        self._terms = [None if isinstance(each, Tensor) and each.requires_grad else each for each in terms]

    def signed(self, operands: tuple[Tensor, ...]) -> tuple[list[Tensor], list[int]]:
        """The terms with their signs, and the places of the traced ones among them."""
        waiting = iter(operands)
        like = operands[0]
        terms = [next(waiting) if each is None else _finite(torch.as_tensor(each).to(like)) for each in self._terms]
        traced = [place for place, each in enumerate(self._terms) if each is None]
        return [s * each if s != 1 else each for s, each in zip(self._signs, terms, strict=True)], traced


def _finite(constant: Tensor) -> Tensor:
    """A mask may be -inf; so large a number takes everything too, and has a share of its own."""
    most = torch.finfo(constant.dtype).max / 8
    return constant.clamp(-most, most)


@final
class BacktraceSum(_Sum, AbstractRelevanceRule):
    """A sum gives each term R |t| / (|a| + |b|); a constant term keeps its share."""

    def shares(self, ctx: Any, *relevance: Tensor) -> tuple[Tensor, ...]:
        terms, traced = ctx.terms.signed(ctx.saved_tensors)
        found = backtrace.addition(terms, relevance[0])
        return tuple(found[place] for place in traced)

    def withheld(self, ctx: Any, *carriers: Tensor) -> Tensor | None:
        terms, traced = ctx.terms.signed(ctx.saved_tensors)
        rest = [each for place, each in enumerate(backtrace.addition(terms, carriers[0])) if place not in traced]
        return rest[0] if rest else None


@final
class ContrastSum(_Sum, AbstractPairRule):
    """A sum sends the larger relevance to the terms that agree with it. A constant keeps what it is sent."""

    def shares(self, ctx: Any, relevance: Tensor) -> tuple[Tensor, ...]:
        terms, traced = ctx.terms.signed(ctx.saved_tensors)
        found = contrast.addition(terms, relevance)
        return tuple(found[place] for place in traced)

    def kept(self, ctx: Any, relevance: Tensor) -> Tensor | None:
        terms, traced = ctx.terms.signed(ctx.saved_tensors)
        rest = [each for place, each in enumerate(contrast.addition(terms, relevance)) if place not in traced]
        return rest[0] if rest else None


class _Product(AbstractRule):
    kinds = frozenset({Kind.PRODUCT})

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
        value: Tensor = func(*args, **kwargs)
        ctx.save_for_backward(*ctx.operands)
        return value


@final
class BacktraceProduct(_Product, AbstractRelevanceRule):
    """A product of two traced operands gives each half."""

    def shares(self, ctx: Any, *relevance: Tensor) -> tuple[Tensor, ...]:
        return backtrace.multiplication(ctx.saved_tensors, relevance[0])


@final
class ContrastProduct(_Product, AbstractPairRule):
    """A product of x and y gives x the share |y| / (|x| + |y|)."""

    def shares(self, ctx: Any, relevance: Tensor) -> tuple[Tensor, ...]:
        x, y = ctx.saved_tensors
        return contrast.multiplication(x, y, relevance)


class _Average(AbstractRule):
    kinds = frozenset({Kind.AVERAGE})

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
        value: Tensor = func(*args, **kwargs)
        ctx.function = of_operands(func, args, kwargs, ctx.operands)
        # Only bicubic interpolation has weights below 0.
        bicubic = any(isinstance(each, str) and each == "bicubic" for each in (*args, *kwargs.values()))
        ctx.form = separable if bicubic else nonnegative_map
        ctx.save_for_backward(*ctx.operands, value)
        return value


@final
class BacktraceAverage(_Average, AbstractRelevanceRule):
    """A mean, sum or average pool gives each element its share of |x| in the window."""

    def shares(self, ctx: Any, *relevance: Tensor) -> Tensor:
        x, _ = ctx.saved_tensors
        return backtrace.linear(ctx.form(ctx.function, x), relevance[0])


@final
class ContrastAverage(_Average, AbstractPairRule):
    """The same for a pair: a linear map with positive weights."""

    def shares(self, ctx: Any, relevance: Tensor) -> Tensor:
        x, value = ctx.saved_tensors
        return contrast.linear(ctx.form(ctx.function, x), relevance, value)


@final
class Winners(AbstractRule):
    """A max-pool gives to the largest element of each window, in equal parts where several are [sankarapu2024]."""

    carriers: ClassVar[tuple[Carrier, ...]] = BOTH
    kinds = frozenset({Kind.MAXIMUM})

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        value, name = func(*args, **kwargs), _name(func)
        ctx.function = None
        if "pool" not in name:
            ctx.function = of_operands(func, args, kwargs, ctx.operands)
            ctx.save_for_backward(*ctx.operands)
            return value
        options = dict(zip(_POOL, args[1:], strict=False))
        options |= {_POOL_ALIASES.get(key, key): each for key, each in kwargs.items()}
        options.pop("indices", None)
        ctx.adaptive, ctx.options = name.startswith("adaptive"), options
        ctx.dims = int(name.removeprefix("adaptive_").removeprefix("max_pool")[0])
        if isinstance(value, Tensor):
            ctx.save_for_backward(*ctx.operands, value)
            return value
        largest, indices = value
        ctx.save_for_backward(*ctx.operands, largest)
        ctx.mark_non_differentiable(indices)
        return largest, indices

    def backward(self, ctx: Any, *carriers: Tensor) -> Tensor:
        if ctx.function is not None:
            # The gradient of a maximum over dimensions shares between ties by itself.
            to_x: Tensor = torch.func.vjp(ctx.function, *ctx.saved_tensors)[1](carriers[0])[0]
            return to_x
        x, value = ctx.saved_tensors
        if ctx.adaptive:
            return pooling.adaptive_max_pool(x, carriers[0], ctx.dims, value)
        return pooling.max_pool(x, carriers[0], ctx.dims, value=value, **ctx.options)


_POOL = ("kernel", "stride", "padding", "dilation", "ceil_mode", "indices")
_POOL_ALIASES = {"kernel_size": "kernel", "return_indices": "indices"}


def _name(func: Callable[..., Any]) -> str:
    operation = operation_of(func)
    return operation.name if operation is not None else ""


class _Attention(AbstractRule):
    kinds = frozenset({Kind.ATTENTION})

    def forward(self, ctx: Any, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
        value: Tensor = func(*args, **kwargs)
        ctx.options = Attention.read(args[3:], kwargs)
        # Not the value: a fused kernel rounds as it likes, and beside a small P or N that would be a leak.
        ctx.save_for_backward(*args[:3])
        return value


class _Apart(NamedTuple):
    """Attention as two products: their factors, and what the operands' shapes were."""

    scores: tuple[LinearForm, LinearForm]
    values: tuple[LinearForm, LinearForm]
    score: Tensor
    """Query times key."""
    options: Attention
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, ctx: Any) -> "_Apart":
        query, key, value = ctx.saved_tensors
        options: Attention = ctx.options
        keys, values = options.repeated(query, key), options.repeated(query, value)
        score = options.scores(query, keys)
        weights = options.weights(query, score)
        return cls(
            (matmul(query, keys.mT), matmul(keys.mT, query, weight_first=True)),
            (matmul(weights, values), matmul(values, weights, weight_first=True)),
            score,
            options,
            (query.shape, key.shape, value.shape),
        )

    def gathered(self, to_query: Tensor, to_keys: Tensor, to_values: Tensor) -> tuple[Tensor, ...]:
        """Relevances shaped like the operands, given those of the repeated heads, the keys transposed."""
        found = zip((to_query, to_keys.mT, to_values), self.shapes, strict=True)
        return tuple(self.options.gathered(each, shape) for each, shape in found)


@final
class BacktraceAttention(_Attention, AbstractRelevanceRule):
    """Attention as two products of traced operands; scale, mask and softmax let relevance through.

    A weight of 0 contributes nothing, so nothing reaches a score that is masked.
    """

    def shares(self, ctx: Any, *relevance: Tensor) -> tuple[Tensor, ...]:
        apart = _Apart.of(ctx)
        to_weights, to_values = backtrace.bilinear(*apart.values, relevance[0])
        return apart.gathered(*backtrace.bilinear(*apart.scores, to_weights), to_values)


@final
class ContrastAttention(_Attention, AbstractPairRule):
    """The same for a pair."""

    def shares(self, ctx: Any, relevance: Tensor) -> tuple[Tensor, ...]:
        apart = _Apart.of(ctx)
        to_weights, to_values = contrast.bilinear(*apart.values, relevance)
        pairs = (*contrast.bilinear(*apart.scores, to_weights, apart.score), to_values)
        labels = (apart.gathered(*label) for label in zip(*pairs, strict=True))
        return tuple(torch.stack(each) for each in zip(*labels, strict=True))
