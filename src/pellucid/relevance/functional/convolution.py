"""Convolutions and transposed convolutions of one to three dimensions as linear forms, with or without a batch."""

from collections.abc import Iterable, Sequence
from types import EllipsisType

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.relevance.functional.linear_form import LinearForm

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
Size = int | Sequence[int]


def convolution(
    x: Float[Tensor, "..."],
    weight: Float[Tensor, "unit channel_of_group *kernel"],
    bias: Float[Tensor, " unit"] | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> LinearForm:
    """``F.conv1d``, ``conv2d`` or ``conv3d``, by the number of dimensions of the weight.

    The adjoint is one transposed convolution. ``padding`` may be "same" or "valid".
    """
    kernel, dims = weight.shape[2:], weight.ndim - 2
    steps, spread = each(stride, dims), each(dilation, dims)
    before, after = _paddings(padding, kernel, spread)
    # torch pads "same" with the odd one at the end, which a transposed convolution cannot say.
    extra = [a - b for a, b in zip(after, before, strict=True)]
    places = x.shape[-dims:]
    forward, backward = CONVOLUTIONS[dims - 1], TRANSPOSED[dims - 1]
    # Elements after the last window; none with "same", which torch allows with a stride of 1 only.
    left_over = [
        (size + 2 * pad - gap * (k - 1) - 1) % step
        for size, pad, gap, k, step in zip(places, before, spread, kernel, steps, strict=True)
    ]

    def product(x: Tensor, w: Tensor) -> Tensor:
        padded = F.pad(x, [side for more in reversed(extra) for side in (0, more)]) if any(extra) else x
        return forward(padded, w, None, steps, before, spread, groups)

    def adjoint(r: Tensor, w: Tensor) -> Tensor:
        return cropped(backward(r, w, None, steps, before, left_over, groups, spread), places)

    return LinearForm(x, weight, _as_channels(bias, dims), product, adjoint)


def conv_transpose(
    x: Float[Tensor, "..."],
    weight: Float[Tensor, "channel unit_of_group *kernel"],
    bias: Float[Tensor, " unit"] | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> LinearForm:
    """``F.conv_transpose1d``, ``2d`` or ``3d``, by the weight's dimensions. The adjoint is one convolution."""
    dims = weight.ndim - 2
    places = x.shape[-dims:]
    steps, pads, spread = each(stride, dims), each(padding, dims), each(dilation, dims)
    longer = each(output_padding, dims)
    forward, backward = TRANSPOSED[dims - 1], CONVOLUTIONS[dims - 1]

    def product(x: Tensor, w: Tensor) -> Tensor:
        return forward(x, w, None, steps, pads, longer, groups, spread)

    def adjoint(r: Tensor, w: Tensor) -> Tensor:
        return cropped(backward(r, w, None, steps, pads, spread, groups), places)

    return LinearForm(x, weight, _as_channels(bias, dims), product, adjoint)


def each(size: Size, dims: int) -> list[int]:
    """One number for each dimension, as torch reads a single number or a list of one."""
    sizes = [size] if isinstance(size, int) else [*size]
    return sizes * dims if len(sizes) == 1 else sizes


def cropped(wide: Tensor, places: Sequence[int]) -> Tensor:
    """The first ``places`` along the last dimensions."""
    return wide[last(slice(size) for size in places)]


def last(slices: Iterable[slice]) -> tuple[EllipsisType | slice, ...]:
    """The index that takes these along the last dimensions and all of the others."""
    return ..., *slices


def _paddings(padding: Size | str, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[list[int], list[int]]:
    """Zeros before and after along each dimension."""
    if isinstance(padding, str):
        total = [gap * (k - 1) * (padding == "same") for k, gap in zip(kernel, dilation, strict=True)]
        return [pad // 2 for pad in total], [pad - pad // 2 for pad in total]
    return each(padding, len(kernel)), each(padding, len(kernel))


def _as_channels(bias: Tensor | None, dims: int) -> Tensor | None:
    return None if bias is None else bias.reshape(-1, *[1] * dims)
