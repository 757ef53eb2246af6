"""Max-pools: each window's relevance goes to its largest elements, in equal parts where several are the largest.

Both labels of a contrast go the same way, so these serve ``backtrace`` and ``contrast``. Average pools are linear:
``linear_form.nonnegative_map``. ``value`` is the known output. No product is spent.
"""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pellucid.relevance.functional.convolution import Size, cropped, each, last

POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
ADAPTIVE = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)


def max_pool(
    x: Float[Tensor, "..."],
    relevance: Float[Tensor, "..."],
    dims: int,
    kernel: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    value: Tensor | None = None,
) -> Float[Tensor, "..."]:
    """Relevance of x through ``F.max_pool1d``, ``2d`` or ``3d`` (``dims``), shaped like x [..., channel, *place]."""
    sides, pads, gaps = each(kernel, dims), each(padding, dims), each(dilation, dims)
    steps = each(stride, dims) if stride else sides
    if value is None:
        value = POOLS[dims - 1](x, sides, steps, pads, gaps, ceil_mode)
    places, windows = x.shape[-dims:], value.shape[-dims:]
    # With ceil_mode a window may hang over the end.
    after = [
        max(0, (count - 1) * step + gap * (side - 1) + 1 - size - pad)
        for count, step, gap, side, size, pad in zip(windows, steps, gaps, sides, places, pads, strict=True)
    ]
    margins = [margin for pair in zip(reversed(pads), reversed(after), strict=True) for margin in pair]
    padded = F.pad(x, margins, value=-torch.inf)
    views = [
        last(slice(o * g, o * g + (n - 1) * s + 1, s) for o, g, n, s in zip(at, gaps, windows, steps, strict=True))
        for at in itertools.product(*map(range, sides))
    ]
    largest = [padded[view] == value for view in views]
    part = _part(relevance, largest)
    # A fresh tensor of the relevance's own kind, so that adding to its views is allowed under vmap.
    gathered = part.new_zeros(padded.shape)
    for view, chosen in zip(views, largest, strict=True):
        gathered[view] += part * chosen
    return cropped(gathered[last(slice(pad, None) for pad in pads)], places)


def adaptive_max_pool(
    x: Float[Tensor, "..."], relevance: Float[Tensor, "..."], dims: int, value: Tensor | None = None
) -> Float[Tensor, "..."]:
    """Relevance of x through ``F.adaptive_max_pool1d``, ``2d`` or ``3d`` (``dims``); the relevance tells the windows.

    Window o of n along a side of size s is [floor(o s / n), ceil((o + 1) s / n)), so windows may overlap.
    """
    places, windows = x.shape[-dims:], relevance.shape[-dims:]
    if value is None:
        value = ADAPTIVE[dims - 1](x, windows)
    if all(size % count == 0 for size, count in zip(places, windows, strict=True)):
        kernel = [size // count for size, count in zip(places, windows, strict=True)]
        return max_pool(x, relevance, dims, kernel, value=value)
    tables = [_elements(size, count, x.device) for size, count in zip(places, windows, strict=True)]
    offsets = [*itertools.product(*(range(index.shape[0]) for index, _ in tables))]
    largest = []
    for at in offsets:
        chosen = x
        inside = torch.ones((), dtype=torch.bool, device=x.device)
        for dim, (o, (index, valid)) in enumerate(zip(at, tables, strict=True)):
            chosen = chosen.index_select(dim - dims, index[o])
            inside = inside.unsqueeze(-1) & valid[o]
        largest.append((chosen == value) & inside)
    part = _part(relevance, largest)
    gathered = torch.zeros_like(x)
    for at, chosen in zip(offsets, largest, strict=True):
        back = part * chosen
        for dim, (o, (index, _)) in enumerate(zip(at, tables, strict=True)):
            shape = [*back.shape]
            shape[dim - dims] = places[dim]
            back = back.new_zeros(shape).index_add(dim - dims, index[o], back)
        gathered = gathered + back
    return gathered


def maximum(
    x: Float[Tensor, "..."],
    relevance: Float[Tensor, "..."],
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
) -> Float[Tensor, "..."]:
    """Relevance of x through ``amax`` or ``max`` over one, several or (None) all dimensions."""
    over = tuple(range(x.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    largest = x == x.amax(over, keepdim=True)
    if not keepdim:
        for place in sorted(each_dim % x.ndim for each_dim in over):
            relevance = relevance.unsqueeze(place)
    return largest * (relevance / largest.sum(over, keepdim=True))


def _part(relevance: Tensor, largest: Sequence[Tensor]) -> Tensor:
    """What each of the largest elements of a window receives."""
    return relevance / sum(largest[1:], largest[0].to(relevance.dtype))


def _elements(size: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The k-th element of every adaptive window along one side, [k, window], and whether the window has so many."""
    starts = [o * size // count for o in range(count)]
    ends = [-(-(o + 1) * size // count) for o in range(count)]
    longest = max(end - start for start, end in zip(starts, ends, strict=True))
    index = torch.tensor(starts, device=device) + torch.arange(longest, device=device).unsqueeze(-1)
    valid = index < torch.tensor(ends, device=device)
    return index.clamp(max=size - 1), valid
