"""How near the directions of a dictionary are to each other."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.sae.evaluation.records import Similarity

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
NEAR = 0.9
BINS = 40
CHUNK_NUMBERS = 1 << 23
"""Cosines that are held at a time."""


def max_cosines(directions: Float[Tensor, "latent dim"]) -> Float[Tensor, " latent"]:
    """The greatest cosine of each direction with another one; NaN for a direction of length 0, or a single one."""
    lengths = directions.norm(dim=1)
    there = lengths > 0
    unit = directions[there] / lengths[there, None]
    size = max(1, CHUNK_NUMBERS // max(1, len(unit)))
    found = torch.full((len(unit),), torch.nan, dtype=directions.dtype, device=directions.device)
    for start in range(0, len(unit) if len(unit) > 1 else 0, size):
        cosines = unit[start : start + size] @ unit.T
        own = torch.arange(len(cosines), device=cosines.device)
        cosines[own, own + start] = -torch.inf
        found[start : start + size] = cosines.amax(1)
    result = torch.full_like(lengths, torch.nan)
    result[there] = found
    return result


def similarity(directions: Float[Tensor, "latent dim"]) -> Similarity | None:
    """The greatest cosines as a distribution; None where fewer than two latents have a direction."""
    found = max_cosines(directions).double().cpu().numpy()
    known = found[~np.isnan(found)]
    if not len(known):
        return None
    # Rounding takes a cosine of equal directions past 1.
    counts, edges = np.histogram(np.clip(known, -1, 1), BINS, (-1.0, 1.0))
    return Similarity(
        mean=float(known.mean()),
        quantiles={f"{share:g}": float(np.quantile(known, share)) for share in QUANTILES},
        above=float((known > NEAR).mean()),
        near=NEAR,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        empty=int((directions.norm(dim=1) == 0).sum()),
    )
