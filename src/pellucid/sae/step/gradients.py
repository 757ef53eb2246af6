"""The reconstruction loss of a list of active latents, and its gradients, without autograd.

With S the gradient of the loss by each prefix's reconstruction, summed over the prefixes that hold a latent:
d value = S . W_dec[latent]; d W_dec[latent] = sum of value * S; d W_enc[latent] = sum of d value * x.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.sae.codes import Codes, starts
from pellucid.sae.config import Config
from pellucid.sae.step.sparse import bags, products, square

PART = 5
"""S takes at most one part in so many of a matrix of tokens by latents."""
MOST_PARTS = 8
"""Parts that a batch is at most taken in, since each writes whole gradients."""


class Weights(NamedTuple):
    """An autoencoder's weights."""

    encoder: Float[Tensor, "latent dim"]
    encoder_bias: Float[Tensor, " latent"]
    decoder: Float[Tensor, "latent dim"]
    decoder_bias: Float[Tensor, " dim"]


class Gradients(NamedTuple):
    """Gradients by an autoencoder's weights."""

    encoder: Float[Tensor, "latent dim"]
    encoder_bias: Float[Tensor, " latent"]
    decoder: Float[Tensor, "latent dim"]
    decoder_bias: Float[Tensor, " dim"]
    along: Float[Tensor, " latent"]
    """That by the decoder times its row: the sum of value * d value, which needs no pass over the matrix."""


class Prefixed(NamedTuple):
    """Events in bags: one for each token and each group of latents between two prefixes."""

    groups: int
    bags: Int[Tensor, " event"]
    """token * groups + group."""
    starts: Int[Tensor, " bag"]
    """Where each bag's events begin."""

    @classmethod
    def of(cls, codes: Codes, prefixes: tuple[int, ...]) -> "Prefixed":
        """The bags of events, which are sorted by token and latent."""
        if len(prefixes) == 1:
            return cls(1, codes.tokens, codes.offsets)
        edges = torch.tensor(prefixes, device=codes.latents.device)
        keys = codes.tokens * len(prefixes) + torch.searchsorted(edges, codes.latents, right=True)
        return cls(len(prefixes), keys, starts(keys, codes.token_count * len(prefixes)))


class Pass(NamedTuple):
    """What some tokens give."""

    gradients: Gradients
    loss: float
    """The weighted reconstruction loss."""
    missed: float
    """Sum of the squared error of the whole reconstruction."""


def learn(
    config: Config,
    codes: Codes,
    weights: Weights,
    x: Float[Tensor, "token dim"],
    centred: Float[Tensor, "token dim"],
    residual: Float[Tensor, "token dim"] | None,
) -> Pass:
    """Loss and gradients of a batch.

    Taken some tokens at a time, so that S stays far smaller than a matrix of tokens by latents.

    Args:
        config: weights of the prefixes, and the reduction.
        codes: the active latents.
        weights: of the autoencoder.
        x: what the encoder read.
        centred: the activations less the decoder's bias.
        residual: where to write x - xhat of the whole reconstruction, if anywhere.
    """
    tokens, dim = centred.shape
    size = max(tokens * config.width // (PART * dim * len(config.prefixes)), -(-tokens // MOST_PARTS), 1)
    gradients, loss, missed = None, 0.0, 0.0
    for start in range(0, tokens, size):
        part = slice(start, start + size)
        left = None if residual is None else residual[part]
        found = _learn_part(
            config, codes.part(start, start + size), weights, x[part], centred[part], left, tokens, gradients
        )
        gradients, loss, missed = found.gradients, loss + found.loss, missed + found.missed
    assert gradients is not None
    return Pass(gradients, loss, missed)


def _learn_part(
    config: Config,
    codes: Codes,
    weights: Weights,
    x: Tensor,
    centred: Tensor,
    residual: Tensor | None,
    tokens: int,
    before: Gradients | None,
) -> Pass:
    """Decode every prefix, compare, and go back; ``tokens`` are those of the whole batch, ``before`` what to add to."""
    unit = config.unit / tokens
    placed = Prefixed.of(codes, config.prefixes)
    slopes = bags(codes.latents, placed.starts, weights.decoder, codes.values)
    errors = slopes.view(len(centred), placed.groups, -1)
    # In place throughout: this is the largest tensor of a step.
    for group in range(1, placed.groups):
        errors[:, group] += errors[:, group - 1]
    errors -= centred[:, None]
    squares = [square(errors[:, group]) for group in range(placed.groups)]
    loss = unit * sum(weight * each for weight, each in zip(config.prefix_weights, squares, strict=True))
    if residual is not None:
        torch.neg(errors[:, -1], out=residual)
    for group, weight in enumerate(config.prefix_weights):
        errors[:, group] *= 2 * unit * weight
    for group in reversed(range(placed.groups - 1)):
        errors[:, group] += errors[:, group + 1]
    gradients = gradients_of(codes, placed, slopes, weights, x, before)
    gradients.decoder_bias.add_(errors[:, 0].sum(0))
    if config.bias_weight:
        loss += unit * config.bias_weight * square(centred)
        gradients.decoder_bias.sub_(2 * unit * config.bias_weight * centred.sum(0))
    return Pass(gradients, loss, squares[-1])


def gradients_of(
    codes: Codes,
    placed: Prefixed,
    slopes: Float[Tensor, "bag dim"],
    weights: Weights,
    x: Float[Tensor, "token dim"],
    before: Gradients | None = None,
) -> Gradients:
    """Gradients by encoder and decoder; that by the decoder's bias is left as it was, or at 0.

    Args:
        codes: the events.
        placed: in which row of ``slopes`` each is.
        slopes: gradient by the reconstruction.
        weights: of the autoencoder.
        x: what the encoder read.
        before: gradients to add to, one matrix after the other, so that only one more is held at a time.
    """
    order = torch.argsort(codes.latents, stable=True)
    latents, values = codes.latents[order], codes.values[order]
    first = starts(latents, codes.width)
    by_value = products(slopes, weights.decoder, placed.starts, codes.latents)[order]
    if before is not None:
        before.encoder.add_(bags(codes.tokens[order], first, x, by_value))
        before.encoder_bias.index_add_(0, latents, by_value)
        before.decoder.add_(bags(placed.bags[order], first, slopes, values))
        before.along.index_add_(0, latents, values * by_value)
        return before
    none = torch.zeros(codes.width, dtype=x.dtype, device=x.device)
    return Gradients(
        encoder=bags(codes.tokens[order], first, x, by_value),
        encoder_bias=none.index_add(0, latents, by_value),
        decoder=bags(placed.bags[order], first, slopes, values),
        decoder_bias=x.new_zeros(x.shape[1]),
        along=none.index_add(0, latents, values * by_value),
    )
