"""Functions of torch that are taken apart into simpler ones, which the engine then meets one by one."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import InputError
from pellucid.relevance.packing import pack, pad_sequence, unpack
from pellucid.relevance.recurrence import recurrent

Number = int | float


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear map whose weight is computed from the input too."""
    product = torch.matmul(input, weight.mT)
    return product if bias is None else product + bias


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """A matrix product and a sum."""
    product = torch.matmul(mat1, mat2) * alpha
    # With a factor of 0 the summand may be anything, NaN too.
    return input * beta + product if beta else product


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """Matrix products and a sum."""
    return addmm(input, batch1, batch2, beta=beta, alpha=alpha)


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
    """A matrix times a vector, and a sum."""
    return addmm(input, mat, vec, beta=beta, alpha=alpha)


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
    """A product and a sum."""
    return input + tensor1 * tensor2 * value


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
    """A quotient and a sum."""
    return input + tensor1 / tensor2 * value


def lerp(input: Tensor, end: Tensor, weight: Tensor | Number) -> Tensor:
    """A weighted mean of two tensors."""
    return input * (1 - weight) + end * weight


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """One half gated by the other."""
    kept, gate = torch.chunk(input, 2, dim)
    return kept * torch.sigmoid(gate)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The inner product of two vectors."""
    return torch.sum(input * tensor)


def inner(input: Tensor, other: Tensor) -> Tensor:
    """The inner products of the last dimensions."""
    if input.ndim == 0 or other.ndim == 0:
        return input * other
    product = torch.matmul(input, torch.reshape(other, (-1, other.shape[-1])).mT)
    return torch.reshape(product, input.shape[:-1] + other.shape[:-1])


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """The outer product of two vectors."""
    return torch.unsqueeze(input, 1) * vec2


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear map of the products of two inputs."""
    value = torch.einsum("...i,...oi->...o", input1, torch.einsum("...j,oij->...oi", input2, weight))
    return value if bias is None else value + bias


def maximum(input: Tensor, dim: int, keepdim: bool = False) -> Any:
    """The largest elements along a dimension and their places."""
    return torch.return_types.max((torch.amax(input, dim, keepdim), torch.argmax(input, dim, keepdim)))


def minimum(input: Tensor, dim: int, keepdim: bool = False) -> Any:
    """The smallest elements along a dimension and their places."""
    return torch.return_types.min((torch.amin(input, dim, keepdim), torch.argmin(input, dim, keepdim)))


def div(input: Tensor, other: Tensor) -> Tensor:
    """A quotient whose operands were named."""
    return torch.div(input, other)


def var_mean(input: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """A variance, which is a scale, and a mean, which is none."""
    return torch.var(input, *args, **kwargs), _mean(input, *args, **kwargs)


def std_mean(input: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """A standard deviation, which is a scale, and a mean, which is none."""
    return torch.std(input, *args, **kwargs), _mean(input, *args, **kwargs)


def _mean(input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, **_: Any) -> Tensor:
    # The first argument may be the flag ``unbiased`` of a mean over everything.
    return torch.mean(input) if dim is None or isinstance(dim, bool) else torch.mean(input, dim, keepdim)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The inner product of two tensors along a dimension, over their norms."""
    norms = (torch.clamp_min(torch.linalg.vector_norm(each, dim=dim, keepdim=True), eps) for each in (x1, x2))
    first, second = (each / norm for each, norm in zip((x1, x2), norms, strict=True))
    return torch.sum(first * second, dim)


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """A chain of matrix products."""
    value = tensors[0]
    for each in tensors[1:]:
        value = torch.matmul(value, each)
    return value


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention of which an operand, or a mask, is of another kind than usual: two products around a softmax."""
    if enable_gqa:
        key, value = (torch.repeat_interleave(each, query.shape[-3] // each.shape[-3], -3) for each in (key, value))
    scores = torch.matmul(query, key.mT) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is None:
        weights = torch.softmax(scores, -1)
    elif attn_mask.dtype is torch.bool:
        weights = torch.softmax(torch.masked_fill(scores, ~attn_mask, -torch.inf), -1)
        # Where everything is masked nothing is attended to.
        weights = torch.masked_fill(weights, ~attn_mask, 0.0)
    else:
        weights = torch.softmax(scores + attn_mask, -1)
    return torch.matmul(torch.dropout(weights, dropout_p, dropout_p > 0), value)


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Number = 1) -> Tensor:
    """A sum into places: what each place receives, and a sum. Into places where nothing is yet, it is movement."""
    if alpha == 1 and len(index.unique()) == len(index) and not bool(torch.index_select(input, dim, index).any()):
        return torch.index_copy(input, dim, index, source)
    received = torch.index_add(_nothing(input, source), dim, index, source if alpha == 1 else source * alpha)
    return input + received


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """A sum into places of single numbers: what each place receives, and a sum."""
    return input + torch.scatter_add(_nothing(input, src), dim, index, src)


def index_put(input: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Tensor:
    """A sum into places that are named as one indexes."""
    places = torch.arange(input.numel(), device=input.device).view(input.shape)[tuple(indices)]
    spread = torch.broadcast_to(values, places.shape).flatten()
    flat = torch.index_add(torch.flatten(input), 0, places.flatten(), spread)
    return torch.reshape(flat, input.shape)


def _nothing(like: Tensor, source: Tensor) -> Tensor:
    return torch.zeros(like.shape, dtype=source.dtype, device=like.device)


def grouped_mm(mat_a: Tensor, mat_b: Tensor, offs: Tensor | None = None, **kwargs: Any) -> Tensor:
    """Rows of one matrix, each run of them times a matrix of its own: a product for each run."""
    if offs is None or mat_a.ndim != 2 or mat_b.ndim != 3 or any(each is not None for each in kwargs.values()):
        raise InputError(
            "grouped_mm is followed where it multiplies runs of rows [row, in], which offs ends, by matrices "
            "[group, in, out]; write other forms as one matmul for each group."
        )
    ends = offs.tolist()
    starts = [0, *ends[:-1]]
    runs = [
        torch.mm(mat_a[start:end], mat_b[group])
        for group, (start, end) in enumerate(zip(starts, ends, strict=True))
        if end > start
    ]
    # What lies behind the last run belongs to nobody.
    rest = mat_a.new_zeros(len(mat_a) - (ends[-1] if ends else 0), mat_b.shape[-1])
    return torch.cat([*runs, rest])


@cache
def decompositions() -> dict[str, Callable[..., Any]]:
    """Every function that is taken apart, by its name in torch."""
    own = (
        linear, addmm, baddbmm, addmv, addcmul, addcdiv, lerp, glu, div, dot, inner, outer, bilinear, var_mean,
        std_mean, cosine_similarity, scaled_dot_product_attention, index_add, scatter_add, index_put, grouped_mm,
    )  # fmt: skip
    table: dict[str, Callable[..., Any]] = {each.__name__: each for each in own}
    same: dict[str, Callable[..., Any]] = {"vdot": dot, "linalg_multi_dot": multi_dot, "ger": outer}
    same |= {"_grouped_mm": grouped_mm, "grouped_mm_fallback": grouped_mm}
    same |= {"_pack_padded_sequence": pack, "_pad_packed_sequence": unpack, "pad_sequence": pad_sequence}
    return table | same | {"max": maximum, "min": minimum} | recurrent()
