"""What a latent says of the next token when nothing comes between: its direct effect on the logits."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import InputError, ModelError
from pellucid.models.text import AbstractTextModel
from pellucid.models.vision_language import VisionLanguage
from pellucid.sae.autoencoder import SAE


class TokenEffect(NamedTuple):
    """A token of the vocabulary beside a latent."""

    token: int
    """Its id."""
    text: str
    """What it reads."""
    logit: float
    """What one unit of the latent adds to its logit, above the mean of all tokens."""


class LogitEffects(NamedTuple):
    """The tokens that a latent speaks for and against."""

    top: tuple[TokenEffect, ...]
    """The highest first."""
    bottom: tuple[TokenEffect, ...]
    """The lowest first."""
    normalised: bool
    """Whether the scale of the model's last normalisation was applied."""


def logits(
    model: AbstractTextModel | VisionLanguage, sae: SAE, latent: int, n: int = 10, *, normalised: bool = True
) -> LogitEffects:
    """The n tokens whose logits a latent's direction raises and lowers most [elhage2021, direct logit attribution].

    W_U diag(g) w_j, less its mean over the tokens, which no softmax sees: w_j is the decoder row, g the scale of the
    model's last normalisation, W_U the unembedding. What later layers make of the direction is not in it, and the
    division by the length of the whole activation, which differs from token to token, is left out: the order is
    meant, not the size.

    Args:
        model: the one whose activations the autoencoder decodes.
        sae: the autoencoder.
        latent: which latent.
        n: how many tokens at each end.
        normalised: whether the scale g is applied; without, the direction meets the unembedding as it is.

    Raises:
        InputError: there is no such latent, or its direction has another width than the unembedding.
        ModelError: the model has no unembedding, or its last normalisation is not found.
    """
    if not 0 <= latent < sae.width:
        raise InputError(f"there is no latent {latent}: the autoencoder has {sae.width}, from 0 to {sae.width - 1}.")
    network: Any = model.module
    head = network.get_output_embeddings()
    if head is None:
        raise ModelError(f"{model.name} has no unembedding, so nothing can be said of logits.")
    direction = sae.W_dec[latent].detach().to(head.weight.device, torch.float32)
    if head.weight.shape[1] != len(direction):
        raise InputError(
            f"the autoencoder's directions have {len(direction)} dimensions and the unembedding of {model.name} reads "
            f"{head.weight.shape[1]}; effects on logits are known of the residual stream alone."
        )
    if normalised:
        direction = _scaled(direction, final_norm(model))
    effects = head.weight.detach().float() @ direction
    return _ends(model, effects - effects.mean(), n, normalised)


def final_norm(model: AbstractTextModel | VisionLanguage) -> nn.Module:
    """The normalisation before the unembedding. Raises ModelError where the network has none at its usual place."""
    network: Any = model.module
    decoder = network.get_decoder()
    size = network.config.get_text_config().hidden_size
    for child in reversed(list(decoder.children())):
        shapes = {tuple(each.shape) for each in child.parameters(recurse=False)}
        if isinstance(child, nn.Module) and shapes == {(size,)} and not list(child.children()):
            return child
    raise ModelError(f"no last normalisation is found in {model.name}; use normalised=False.")


@torch.no_grad()
def _scaled(direction: Float[Tensor, " dim"], norm: nn.Module) -> Float[Tensor, " dim"]:
    """A direction as the normalisation's linear part sees it.

    The scale is measured on numbers of mean 0 and variance 1, because families write it as g, as 1 + g, or otherwise.
    """
    held = next(norm.parameters())
    signs = torch.ones(len(direction), dtype=held.dtype, device=held.device)
    signs[1::2] = -1
    scale = (norm(signs) - norm(-signs)) / 2 * signs
    if isinstance(norm, nn.LayerNorm):
        direction = direction - direction.mean()
    found: Tensor = direction * scale.to(direction)
    return found


def _ends(
    model: AbstractTextModel | VisionLanguage, effects: Float[Tensor, " vocab"], n: int, normalised: bool
) -> LogitEffects:
    texts = model.texts if isinstance(model, VisionLanguage) else model
    known = effects[: len(texts.tokenizer)].cpu()
    size = min(n, len(known))

    def named(ids: Tensor) -> tuple[TokenEffect, ...]:
        return tuple(TokenEffect(int(each), texts.piece(int(each)), float(known[each])) for each in ids)

    top, bottom = known.topk(size).indices, known.topk(size, largest=False).indices
    return LogitEffects(named(top), named(bottom), normalised)
