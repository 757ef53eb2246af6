"""The sums that a step is made of, over lists of events, each without a matrix of tokens by latents."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

_GATHERED_NUMBERS = 1 << 22
"""Numbers that are copied at a time where products have no kernel of their own."""


def bags(
    indices: Int[Tensor, " event"],
    starts: Int[Tensor, " bag"],
    table: Float[Tensor, "row dim"],
    weights: Float[Tensor, " event"],
) -> Float[Tensor, "bag dim"]:
    """Sum of ``weights * table[indices]`` over each run of events. A run without events gives 0."""
    if not len(indices):
        return table.new_zeros(len(starts), table.shape[1])
    return embedding_bag(indices, table, starts, mode="sum", per_sample_weights=weights)


def products(
    left: Float[Tensor, "row dim"],
    right: Float[Tensor, "latent dim"],
    starts: Int[Tensor, " row"],
    latents: Int[Tensor, " event"],
) -> Float[Tensor, " event"]:
    """``left[row] . right[latent]`` for the events of each row, which follow one another from ``starts`` on."""
    if not len(latents):
        return left.new_zeros(0)
    ends = torch.cat([starts, starts.new_tensor([len(latents)])])
    if not (left.is_cuda or torch.backends.mkl.is_available()):
        return _gathered(left, right, ends, latents)
    with warnings.catch_warnings():
        # Sparse tensors announce that they are a beta on first use.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        pattern = torch.sparse_csr_tensor(
            ends, latents, left.new_zeros(len(latents)), (len(left), len(right)), check_invariants=False
        )
        found: Tensor = torch.sparse.sampled_addmm(pattern, left, right.t(), beta=0.0).values()
    return found


def _gathered(left: Tensor, right: Tensor, ends: Tensor, latents: Tensor) -> Tensor:
    rows = torch.repeat_interleave(torch.arange(len(left), device=left.device), ends.diff())
    size = max(1, _GATHERED_NUMBERS // left.shape[1])
    parts = [
        torch.linalg.vecdot(left[rows[start : start + size]], right[latents[start : start + size]])
        for start in range(0, len(latents), size)
    ]
    return torch.cat(parts)


def square(x: Float[Tensor, "row dim"]) -> float:
    """Sum of all squares. By row first: torch's norm of a whole float32 tensor adds naively, and is off by 1e-4."""
    return float(torch.linalg.vector_norm(x, dim=-1).double().square().sum())
