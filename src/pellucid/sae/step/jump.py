"""The step of JumpReLU autoencoders, half of whose latents may be active at first: dense within chunks of tokens."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.sae.config import Config
from pellucid.sae.step.gradients import Gradients, Weights
from pellucid.sae.step.selection import Encoder
from pellucid.sae.step.sparse import square


class Jump(NamedTuple):
    """A batch's loss and its gradients under JumpReLU."""

    gradients: Gradients
    """By the weights; that of the decoder's bias holds what it decodes alone."""
    threshold: Float[Tensor, " latent"]
    """By each latent's threshold."""
    loss: float
    """Reconstruction and count together."""
    residual: Float[Tensor, "token dim"]
    """x - xhat."""
    fired: Float[Tensor, " latent"]
    """How many tokens each latent was active in."""


def jump(
    config: Config,
    weights: Weights,
    threshold: Float[Tensor, " latent"],
    bandwidth: float,
    encoder: Encoder,
    centred: Float[Tensor, "token dim"],
    l0_weight: float,
) -> Jump:
    """Loss and straight-through gradients [rajamanoharan2024, equations 9 to 12].

    z = a 1[a > t]; dz/dt = -(t / e) K((a - t) / e) and d L0 / dt = -(1 / e) K((a - t) / e), K the rectangle of width 1
    and e the bandwidth. Both windows are of the pre-activation, so that what lies just below a threshold pulls at it.
    """
    tokens, unit = len(centred), config.unit / len(centred)
    gradients = Gradients(*(torch.zeros_like(each) for each in (*weights, threshold)))
    by_threshold, window = torch.zeros_like(threshold), torch.zeros_like(threshold)
    residual, fired, loss = torch.empty_like(centred), torch.zeros_like(threshold), 0.0
    for start, a in encoder.chunks():
        part = slice(start, start + len(a))
        gate = (a > threshold) & (a > 0)
        z = torch.where(gate, a, 0)
        error = torch.addmm(-centred[part], z, weights.decoder)
        residual[part] = -error
        loss += unit * square(error)
        slope = 2 * unit * error
        gradients.decoder.addmm_(z.t(), slope)
        gradients.decoder_bias.add_(slope.sum(0))
        by_value = slope @ weights.decoder.t()
        near = ((a - threshold).abs() < bandwidth / 2).to(a.dtype)
        by_threshold -= (near * by_value).sum(0) * threshold / bandwidth
        window += near.sum(0)
        by_value *= gate
        gradients.along.add_((by_value * z).sum(0))
        gradients.encoder.addmm_(by_value.t(), encoder.x[part])
        gradients.encoder_bias.add_(by_value.sum(0))
        fired += gate.sum(0)
    count = float(fired.sum()) / tokens
    if config.sparsity == "count":
        loss, by_count = loss + l0_weight * count, l0_weight
    else:
        loss += l0_weight * (count / config.k - 1) ** 2
        by_count = 2 * l0_weight * (count / config.k - 1) / config.k
    by_threshold -= by_count * window / (bandwidth * tokens)
    return Jump(gradients, by_threshold, loss, residual, fired)
