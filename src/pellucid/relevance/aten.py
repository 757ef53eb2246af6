"""Operations of aten, which an exported program calls, as the functions of torch that compute the same.

An exported program (``torch.export``) calls ``torch.ops.aten.conv2d.default`` where its author wrote ``F.conv2d``, and
rules know the functions. Most operations have one of the same name and arguments; the others are written out here.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import functional

# Where a function of the same name takes the same arguments. Those of torch.nn.functional often take others.
_PLACES: tuple[Any, ...] = (torch._C._nn, torch, torch.special, Tensor)


@cache
def plain(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """What computes the same as an operation of aten, by functions of torch alone; None: it is none, or has none."""
    if not isinstance(func, OpOverload) or func.namespace != "aten":
        return None
    name = func._opname
    if name in _WRITTEN_OUT:
        return _WRITTEN_OUT[name]
    found = (vars(place).get(name) or getattr(place, name, None) for place in _PLACES)
    return next((each for each in found if callable(each)), None)


def _slice(input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    before = (slice(None),) * (dim % input.ndim)
    return input[(*before, slice(start, end, step))]


def _index(input: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    return input[tuple(slice(None) if each is None else each for each in indices)]


def _to(input: Tensor, *args: Any, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    # Whichever form it has, the dtype alone is of interest: where a program runs is not written into it.
    given = dtype or next((each for each in args if isinstance(each, torch.dtype)), None)
    other = next((each for each in args if isinstance(each, Tensor)), None)
    wanted = given or (input.dtype if other is None else other.dtype)
    return input.to(wanted)


def _same(input: Tensor, *_: Any, **__: Any) -> Tensor:
    return torch.clone(input)


def _layer_norm(
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return functional.layer_norm(input, normalized_shape, weight, bias, eps)


def _native_layer_norm(
    input: Tensor, normalized_shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    return functional.layer_norm(input, normalized_shape, weight, bias, eps), None, None


def _native_group_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, c: int, hw: int, group: int, eps: float
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    return functional.group_norm(input, group, weight, bias, eps), None, None


def _evaluated_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    value = functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    return value, None, None


def _native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    value = functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return value, None, None


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    dimensions = len(stride)
    if transposed:
        transposing: Callable[..., Tensor] = getattr(functional, f"conv_transpose{dimensions}d")
        return transposing(input, weight, bias, stride, padding, output_padding, groups, dilation)
    convolving: Callable[..., Tensor] = getattr(functional, f"conv{dimensions}d")
    return convolving(input, weight, bias, stride, padding, dilation, groups)


def _max_pool2d_with_indices(
    input: Tensor,
    kernel_size: list[int],
    stride: list[int] | None = None,
    padding: int | list[int] = 0,
    dilation: int | list[int] = 1,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    arguments = (kernel_size, stride or kernel_size, padding, dilation, ceil_mode)
    # The places alone; whoever unpools by them moves what is traced.
    _, places = torch._C._nn.max_pool2d_with_indices(input.detach(), *arguments)
    return torch.max_pool2d(input, *arguments), places


def _softmax(input: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    return torch.softmax(input, dim, dtype=torch.float32 if half_to_float else None)


def _log_softmax(input: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    return torch.log_softmax(input, dim, dtype=torch.float32 if half_to_float else None)


def _einsum(equation: str, tensors: Sequence[Tensor], *, path: Sequence[int] | None = None) -> Tensor:
    return torch.einsum(equation, *tensors)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor | None]:
    given = functional.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale)
    return given, None


def _upsampled(mode: str) -> Callable[..., Tensor]:
    aligned = mode in ("linear", "bilinear", "bicubic", "trilinear")

    def upsample(input: Tensor, output_size: Sequence[int] | None, *rest: Any) -> Tensor:
        align = bool(rest[0]) if aligned else None
        factors = rest[-1] if output_size is None else None
        return functional.interpolate(
            input, output_size and list(output_size), factors and list(factors), mode, align_corners=align
        )

    return upsample


# By name of the operation.
_WRITTEN_OUT: dict[str, Callable[..., Any]] = {
    "slice": _slice,
    "index": _index,
    "to": _to,
    "_to_copy": _to,
    "lift_fresh_copy": _same,
    "lift_fresh": _same,
    "alias": _same,
    "view": torch.reshape,
    "_unsafe_view": torch.reshape,
    "_reshape_alias": lambda input, size, stride: torch.reshape(input, size),
    "layer_norm": _layer_norm,
    "native_layer_norm": _native_layer_norm,
    "native_group_norm": _native_group_norm,
    "_native_batch_norm_legit_no_training": _evaluated_batch_norm,
    "native_batch_norm": _native_batch_norm,
    "convolution": _convolution,
    "max_pool2d_with_indices": _max_pool2d_with_indices,
    "_softmax": _softmax,
    "_log_softmax": _log_softmax,
    "_adaptive_avg_pool2d": functional.adaptive_avg_pool2d,
    "einsum": _einsum,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "linalg_vector_norm": torch.linalg.vector_norm,
    "upsample_nearest1d": _upsampled("nearest"),
    "upsample_nearest2d": _upsampled("nearest"),
    "upsample_nearest3d": _upsampled("nearest"),
    "upsample_linear1d": _upsampled("linear"),
    "upsample_bilinear2d": _upsampled("bilinear"),
    "upsample_bicubic2d": _upsampled("bicubic"),
    "upsample_trilinear3d": _upsampled("trilinear"),
}
