"""The auxiliary loss: latents that have not fired for long learn what the others leave over [gao2024, appendix A.2]."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.sae.codes import Codes
from pellucid.sae.config import Config
from pellucid.sae.step.gradients import Gradients, Prefixed, Weights, gradients_of
from pellucid.sae.step.selection import Encoder
from pellucid.sae.step.sparse import bags, square


def add_auxiliary(
    gradients: Gradients,
    config: Config,
    weights: Weights,
    encoder: Encoder,
    dead: Int[Tensor, " dead"],
    residual: Float[Tensor, "token dim"],
) -> float:
    """The loss of dead latents as they reconstruct the residual, times its weight; its gradients are added.

    Of each token the ``aux_k`` dead latents of the largest pre-activation decode, without the bias. The residual is
    a constant. Cost: a product with the dead rows of the encoder alone. Returns 0 where the residual has no variance.
    """
    tokens = len(residual)
    scale = config.aux_weight
    if config.aux_scale == "dead-share":
        scale *= min(len(dead) / config.aux_k, 1.0) * config.unit
    else:
        # Both are in one unit, whatever the reduction.
        variance = square(residual - residual.mean(0)) / tokens
        if variance == 0:
            return 0.0
        scale /= variance
    own = Weights(weights.encoder[dead], weights.encoder_bias[dead], weights.decoder[dead], weights.decoder_bias)
    lengths = None if encoder.lengths is None else encoder.lengths[dead]
    part = Encoder(encoder.x, own.encoder, own.encoder_bias, False, lengths)
    codes = part.activations(_dead_codes(config, part))
    errors = bags(codes.latents, codes.offsets, own.decoder, codes.values) - residual
    loss = scale / tokens * square(errors)
    errors *= 2 * scale / tokens
    found = gradients_of(codes, Prefixed.of(codes, (len(dead),)), errors, own, encoder.x)
    for whole, one in zip(gradients[:3], found[:3], strict=True):
        whole.index_add_(0, dead, one)
    gradients.along.index_add_(0, dead, found.along)
    return loss


def _dead_codes(config: Config, encoder: Encoder) -> Codes:
    """Latents are numbered among the dead."""
    width = len(encoder.weight)
    found = []
    for start, a in encoder.chunks():
        top = a.topk(min(config.aux_k, width), sorted=False)
        latents, order = top.indices.sort(1)
        values = top.values.gather(1, order)
        kept = values > 0 if config.aux_relu else torch.ones_like(values, dtype=torch.bool)
        tokens, places = kept.nonzero(as_tuple=True)
        found.append((tokens + start, latents[tokens, places], values[tokens, places]))
    tokens, latents, values = (torch.cat(each) for each in zip(*found, strict=True))
    return Codes(tokens, latents, values, len(encoder.x), width)
