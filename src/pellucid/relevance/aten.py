"""Operations of aten, which an exported program calls, as the functions of torch that compute the same.

An exported program (``torch.export``) calls ``torch.ops.aten.conv2d.default`` where its author wrote ``F.conv2d``, and
rules know the functions. Most operations have one of the same name and arguments; the others are written out here.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import functional

from pellucid.errors import ModelError

# Where a function of the same name takes the same arguments. Those of torch.nn.functional often take others.
_PLACES: tuple[Any, ...] = (torch._C._nn, torch, torch.special, Tensor)


@cache
def plain(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """What computes the same as an operation of aten, by functions of torch alone; None: it is none, or has none."""
    if not isinstance(func, OpOverload) or func.namespace != "aten":
        return None
    name = func._opname
    if name in _UPSAMPLING:
        return _upsampled(func, *_UPSAMPLING[name])
    if name in _WRITTEN_OUT:
        return _WRITTEN_OUT[name]
    found = (vars(place).get(name) or getattr(place, name, None) for place in _PLACES)
    return next((each for each in found if callable(each)), None)


def _slice(input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    before = (slice(None),) * (dim % input.ndim)
    return input[(*before, slice(start, end, step))]


def _index(input: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    return input[tuple(slice(None) if each is None else each for each in indices)]


def _index_put(input: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Tensor:
    if all(each is not None for each in indices):
        return torch.index_put(input, list(indices), values, accumulate)
    # The function takes no gap for a whole dimension; the numbers of the places have none.
    whole = torch.arange(input.numel(), device=input.device).reshape(input.shape)
    places = _index(whole, indices)
    spread = torch.broadcast_to(values, places.shape).flatten()
    return torch.index_put(torch.flatten(input), (places.flatten(),), spread, accumulate).reshape(input.shape)


def _index_put_(input: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Tensor:
    return input.copy_(_index_put(input, indices, values, accumulate))


def _copy(input: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    return torch.broadcast_to(src, input.shape).to(input.dtype)


def _fill(input: Tensor, value: Tensor | int | float) -> Tensor:
    return _copy(input, value) if isinstance(value, Tensor) else torch.full_like(input, value)


def _transposed(input: Tensor) -> Tensor:
    return torch.permute(input, [*range(input.ndim)][::-1])


def _view(input: Tensor, size: Sequence[int] | torch.dtype) -> Tensor:
    if not isinstance(size, torch.dtype):
        return torch.reshape(input, size)
    if input.requires_grad and size != input.dtype:
        raise ModelError(
            f"the program reads the bits of {input.dtype} as {size} (aten.view.dtype), and what depends on the input "
            "cannot be traced through that; export a network that converts with .to(dtype) instead."
        )
    return input.view(size)


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


def _upsampled(func: OpOverload, mode: str, antialias: bool = False) -> Callable[..., Tensor]:
    names = [each.name for each in func._schema.arguments]

    def upsample(*args: Any, **kwargs: Any) -> Tensor:
        given = dict(zip(names, args, strict=False)) | kwargs
        input: Tensor = given["input" if "input" in given else "self"]
        align = given.get("align_corners")
        size, factors = given.get("output_size"), given.get("scale_factors")
        scales = [given.get(name) for name in names if name.startswith("scales")]
        # With its corners aligned, the ratio of the sizes is the scale.
        if size is not None and not align and any(scales):
            factors = _scales(input, size, scales)
            size = None
        return functional.interpolate(
            input, size and list(size), factors and list(factors), mode, align_corners=align, antialias=antialias
        )

    return upsample


def _scales(input: Tensor, size: Sequence[int], scales: Sequence[float | None]) -> list[float]:
    """The scales that give a size too, those that are not given from the ratio. Raises ModelError where none do."""
    sides = [*zip(size, input.shape[2:], scales, strict=True)]
    found = [scale or out / side for out, side, scale in sides]
    if [math.floor(side * scale) for scale, (_, side, _) in zip(found, sides, strict=True)] != [*size]:
        raise ModelError(
            f"the program enlarges {[*input.shape[2:]]} to {[*size]} by scales {[*scales]}, which give another size; "
            "export the network with a size or with scales alone."
        )
    return found


# By name of the operation: the mode of torch.nn.functional.interpolate, and whether it smooths first.
_UPSAMPLING: dict[str, tuple[str, bool]] = {
    **{f"upsample_nearest{n}d": ("nearest", False) for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": ("nearest-exact", False) for n in (1, 2, 3)},
    "upsample_linear1d": ("linear", False),
    "upsample_bilinear2d": ("bilinear", False),
    "upsample_bicubic2d": ("bicubic", False),
    "upsample_trilinear3d": ("trilinear", False),
    "_upsample_bilinear2d_aa": ("bilinear", True),
    "_upsample_bicubic2d_aa": ("bicubic", True),
}

# By name of the operation.
_WRITTEN_OUT: dict[str, Callable[..., Any]] = {
    "slice": _slice,
    "index": _index,
    "to": _to,
    "_to_copy": _to,
    "lift_fresh_copy": _same,
    "lift_fresh": _same,
    "alias": _same,
    "copy": _copy,
    "fill": _fill,
    "zero": torch.zeros_like,
    "numpy_T": _transposed,
    "index_put": _index_put,
    "index_put_": _index_put_,
    "view": _view,
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
}
