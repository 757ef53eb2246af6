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


class Weights(NamedTuple):
    """An autoencoder's weights as a step takes them."""

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
        return cls(len(prefixes), keys, starts(keys, codes.count * len(prefixes)))


class Pass(NamedTuple):
    """A batch's loss and what follows from it."""

    loss: float
    """The weighted reconstruction loss."""
    residual_square: float
    """Sum of the squared error of the whole reconstruction."""
    slopes: Float[Tensor, "bag dim"]
    """S, one row for each bag."""
    residual: Float[Tensor, "token dim"] | None
    """x - xhat of the whole reconstruction, where it is asked for."""
    bias_slope: Float[Tensor, " dim"]
    """Gradient by the decoder's bias as far as it decodes."""


def reconstruct(
    config: Config,
    codes: Codes,
    placed: Prefixed,
    weights: Weights,
    centred: Float[Tensor, "token dim"],
    *,
    residual: bool,
) -> Pass:
    """Decode every prefix, compare, and go back to S; ``centred`` is x less the decoder's bias."""
    tokens, dim = centred.shape
    unit = config.unit / tokens
    slopes = bags(codes.latents, placed.starts, weights.decoder, codes.values)
    errors = slopes.view(tokens, placed.groups, dim)
    # In place throughout: this is the largest tensor of a step.
    for group in range(1, placed.groups):
        errors[:, group] += errors[:, group - 1]
    errors -= centred[:, None]
    squares = [square(errors[:, group]) for group in range(placed.groups)]
    loss = unit * sum(weight * square for weight, square in zip(config.prefix_weights, squares, strict=True))
    left = -errors[:, -1] if residual else None
    for group, weight in enumerate(config.prefix_weights):
        errors[:, group] *= 2 * unit * weight
    for group in reversed(range(placed.groups - 1)):
        errors[:, group] += errors[:, group + 1]
    bias_slope = errors[:, 0].sum(0)
    if config.bias_weight:
        loss += unit * config.bias_weight * square(centred)
        bias_slope -= 2 * unit * config.bias_weight * centred.sum(0)
    return Pass(loss, squares[-1], slopes, left, bias_slope)


class Slopes(NamedTuple):
    """Events sorted by latent with the gradient by their values: what the gradients by the weights are summed from."""

    order: Int[Tensor, " event"]
    """From the order by latent to that by token."""
    starts: Int[Tensor, " latent"]
    """Where each latent's events begin in it."""
    values: Float[Tensor, " event"]
    """Gradient by each value, in the order by latent."""

    @classmethod
    def of(
        cls, codes: Codes, rows: Int[Tensor, " bag"], slopes: Float[Tensor, "bag dim"], weights: Weights
    ) -> "Slopes":
        """The gradient by each activation; ``rows`` are the starts of the rows of ``slopes``."""
        order = torch.argsort(codes.latents, stable=True)
        by_value = products(slopes, weights.decoder, rows, codes.latents)
        return cls(order, starts(codes.latents[order], codes.width), by_value[order])


def gradients_of(
    codes: Codes,
    rows: Int[Tensor, " event"],
    slopes: Float[Tensor, "bag dim"],
    found: Slopes,
    x: Float[Tensor, "token dim"],
) -> Gradients:
    """Gradients by encoder and decoder; that by the decoder's bias is left at 0.

    Args:
        codes: the events.
        rows: for each event its row of ``slopes``.
        slopes: gradient by the reconstruction.
        found: gradient by the activations.
        x: what the encoder read.
    """
    order = found.order
    latents, values = codes.latents[order], codes.values[order]
    none = torch.zeros(codes.width, dtype=x.dtype, device=x.device)
    return Gradients(
        encoder=bags(codes.tokens[order], found.starts, x, found.values),
        encoder_bias=none.index_add(0, latents, found.values),
        decoder=bags(rows[order], found.starts, slopes, values),
        decoder_bias=x.new_zeros(x.shape[1]),
        along=none.index_add(0, latents, values * found.values),
    )
