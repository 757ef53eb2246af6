"""What steering is held against: directions of equal length that are not the latent's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.errors import InputError
from pellucid.progress import progress
from pellucid.sae.autoencoder import SAE

TOKENS = 4096


def random_directions(count: int, width: int, seed: int) -> Float[Tensor, "steered dim"]:
    """Directions that no one chose, of length 1."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, width, generator=generator)
    lengths: Tensor = drawn.norm(dim=1, keepdim=True)
    return drawn / lengths


def random_latents(alive: Int[Tensor, " alive"], count: int, but: Sequence[int], seed: int) -> list[int]:
    """Latents that are active somewhere, other than the steered ones. Raises InputError where there are too few."""
    others = sorted(set(alive.tolist()) - set(but))
    if len(others) < count:
        raise InputError(
            f"{len(others)} other latents are alive and the control needs {count}; give the events of more tokens, or "
            "leave the control 'random-latent' out."
        )
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))
    return [others[place] for place in order[:count].tolist()]


def difference_of_means(
    store: Any, site: Any, events: Any, latents: Sequence[int], sae: SAE
) -> Float[Tensor, "steered dim"]:
    """For each latent the mean activation where it is active, less that where it is not, over a whole store.

    One pass, in float64. Raises InputError for a latent that is active nowhere or everywhere.
    """
    inside = torch.zeros(len(latents), sae.config.d_in, dtype=torch.float64)
    total, tokens = torch.zeros(sae.config.d_in, dtype=torch.float64), 0
    counts = torch.zeros(len(latents), dtype=torch.float64)
    with progress("Means of activations", len(store)) as advance:
        for batch in store.batches(site, TOKENS, shuffle=False):
            x, rows = batch.x.double(), batch.rows.numpy()
            active = torch.from_numpy(np.stack([events.is_active(latent, rows) for latent in latents]))
            counts += active.sum(1)
            inside += active.double() @ x
            total += x.sum(0)
            tokens += len(x)
            advance(len(x))
    for latent, count in zip(latents, counts.tolist(), strict=True):
        if not 0 < count < tokens:
            raise InputError(
                f"latent {latent} is active in {count:.0f} of {tokens} tokens, so no difference of means can be taken; "
                "leave the control 'difference-of-means' out."
            )
    on = counts[:, None]
    return (inside / on - (total - inside) / (tokens - on)).float()
