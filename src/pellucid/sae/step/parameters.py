"""Lengths of decoder rows and of gradients."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.sae.step.sparse import square


def lengths(decoder: Float[Tensor, "latent dim"]) -> Float[Tensor, " latent"]:
    """The length of each row; that of a row of zeros is 1."""
    found = decoder.norm(dim=1)
    return torch.where(found == 0, 1, found)


def clipped(gradients: list[Tensor], largest: float | None) -> float:
    """Scale gradients in place so that their common norm is at most ``largest``; returns the norm before."""
    norm: float = sum(square(each.view(len(each), -1)) for each in gradients) ** 0.5
    if largest is not None and norm > largest:
        for each in gradients:
            # As torch.nn.utils.clip_grad_norm_ does it.
            each.mul_(largest / (norm + 1e-6))
    return norm
