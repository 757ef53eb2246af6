"""From the weights that are trained to those that a step takes, and the gradients back."""

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.sae.config import Config
from pellucid.sae.step.gradients import Gradients, Weights
from pellucid.sae.step.sparse import square


def effective(config: Config, trained: Weights) -> Weights:
    """Weights whose decoder has rows of length 1: with a free decoder the encoder is stretched by their lengths."""
    if config.decoder == "unit":
        return trained
    length = lengths(trained.decoder)
    return Weights(
        trained.encoder * length[:, None],
        trained.encoder_bias * length,
        trained.decoder / length[:, None],
        trained.decoder_bias,
    )


def lengths(decoder: Float[Tensor, "latent dim"]) -> Float[Tensor, " latent"]:
    """The length of each row; that of a row of zeros is 1."""
    found = decoder.norm(dim=1)
    return torch.where(found == 0, 1, found)


def pulled_back(config: Config, trained: Weights, gradients: Gradients) -> list[Tensor]:
    """Gradients by the trained weights, from those by the weights that the step took. Writes over the latter.

    Of a unit decoder what points along a row is removed, since the row is brought back to its length anyway. With a
    free one the length of a row stretches the encoder by as much as it shrinks the decoder: nothing depends on it.
    """
    if config.decoder == "unit":
        gradients.decoder.addcmul_(gradients.along[:, None], trained.decoder, value=-1)
        return list(gradients[:4])
    length = lengths(trained.decoder)
    return [
        gradients.encoder.mul_(length[:, None]),
        gradients.encoder_bias * length,
        gradients.decoder.div_(length[:, None]),
        gradients.decoder_bias,
    ]


def clipped(gradients: list[Tensor], largest: float | None) -> float:
    """Scale gradients in place so that their common norm is at most ``largest``; returns the norm before."""
    norm: float = sum(square(each.view(len(each), -1)) for each in gradients) ** 0.5
    if largest is not None and norm > largest:
        for each in gradients:
            # As torch.nn.utils.clip_grad_norm_ does it.
            each.mul_(largest / (norm + 1e-6))
    return norm
