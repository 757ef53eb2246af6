"""What a strength of 1 means: the activation that a latent reaches, or the length of the model's activations."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import InputError
from pellucid.sae.autoencoder import SAE
from pellucid.sae.codes import Codes
from pellucid.sae.site import Site, capture
from pellucid.sae.steering.generating import asked
from pellucid.sae.steering.steer import check_text

QUANTILE = 0.999
"""Of a latent's activations: nearly the largest, and no single token decides it."""


class Seen(NamedTuple):
    """What passes at a site while prompts are read."""

    norm: float
    """Median length of the activations. The mean would be that of the first token, which many models make 100 times as
    long as any other to attend to it."""
    unit: float
    """Median of what a latent's activation of 1 is multiplied by; 1 unless the autoencoder normalises each token."""
    codes: Codes
    """The active latents of the prompts' tokens."""


def seen(model: Any, prompts: Sequence[Any], sae: SAE, site: Site, rows: int = 16) -> Seen:
    """Read prompts, and see what passes at a site.

    Raises UnknownNameError for a site that does not exist, InputError where its activations have another width than the
    autoencoder's or do not belong to the text.
    """
    parts = [_seen(model, prompts[start : start + rows], site) for start in range(0, len(prompts), rows)]
    h = torch.cat(parts).float() if parts else torch.zeros(0, sae.config.d_in)
    _, normaliser = sae.normalised(h)
    unit = 1.0 if normaliser is None else float(normaliser.scale.median())
    return Seen(float(h.norm(dim=1).median()), unit, sae.codes(h))


def _seen(model: Any, prompts: Sequence[Any], site: Site) -> Tensor:
    """Activations [token, d_in] of prompts, padding left out."""
    batch = asked(model, prompts)
    ids, visible, lengths = batch.reader.batch(batch.rows, "left")
    with torch.no_grad():
        found = capture(batch.reader.module, [site], lambda: batch.reader.run(ids, visible, lengths, keep=1))[site]
    check_text(found, (len(ids), ids.shape[1]), site)
    return found[visible]


def activation_scale(events: Any, latent: int, quantile: float = QUANTILE) -> float:
    """A quantile of the activations of a latent where it is active. Raises InputError where it never was."""
    values = np.sort(np.asarray(events.of(latent).values, dtype=np.float32))
    if not len(values):
        raise InputError(
            f"latent {latent} is never active in the {events.tokens} tokens that were read, so nothing says how "
            "strongly to steer it; take another latent, or give the scale as a number."
        )
    # The smallest value that is at least as large as this share of all: one that was really seen.
    return float(values[max(0, math.ceil(quantile * len(values)) - 1)])


def norm_scale(passing: Seen, sae: SAE, latent: int) -> float:
    """The activation at which a latent's direction is as long as the model's activations commonly are."""
    length = float(sae.W_dec[latent].norm())
    if not length > 0:
        raise InputError(f"the decoder's row of latent {latent} is all zeros, so it cannot be steered.")
    return passing.norm / (length * passing.unit)
