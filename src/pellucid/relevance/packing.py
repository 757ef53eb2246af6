"""Sequences of several lengths packed one time step below another, and unpacked again: selections of rows."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional


def pack(input: Tensor, lengths: Int[Tensor, " batch"], batch_first: bool) -> tuple[Tensor, Tensor]:
    """The rows [row, ...] that are no padding, and how many rows each time step has. Raises what torch does."""
    _, sizes = torch._VF._pack_padded_sequence(input.detach(), lengths, batch_first)
    steps, batch = input.shape[:2][:: -1 if batch_first else 1]
    kept = torch.arange(steps)[:, None] < lengths
    places = torch.arange(steps * batch).view(batch, steps).T if batch_first else torch.arange(steps * batch)
    chosen = places.reshape(steps, batch)[kept].to(input.device)
    return torch.index_select(torch.flatten(input, 0, 1), 0, chosen), sizes


def unpack(
    data: Tensor, batch_sizes: Int[Tensor, " step"], batch_first: bool, padding_value: float, total_length: int
) -> tuple[Tensor, Tensor]:
    """The sequences side by side, and their lengths. Raises what torch does."""
    empty, lengths = torch._VF._pad_packed_sequence(
        data.detach(), batch_sizes, batch_first, padding_value, total_length
    )
    steps, batch = empty.shape[:2][:: -1 if batch_first else 1]
    kept = torch.arange(steps)[:, None] < lengths
    places = torch.full((steps, batch), len(data))
    places[kept] = torch.arange(len(data))
    rows = torch.cat([data, data.new_full((1, *data.shape[1:]), padding_value)])
    chosen = (places.T if batch_first else places).flatten().to(data.device)
    return torch.reshape(torch.index_select(rows, 0, chosen), empty.shape), lengths


def pad_sequence(
    sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences of several lengths side by side, the shorter ones filled up."""
    most = max(map(len, sequences))
    rows = []
    for each in sequences:
        missing = (most - len(each), 0) if padding_side == "left" else (0, most - len(each))
        rows.append(functional.pad(each, (0, 0) * (each.ndim - 1) + missing, value=padding_value))
    return torch.stack(rows, 0 if batch_first else 1)
