"""How much of a known dictionary an autoencoder has found."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError
from pellucid.records import Record
from pellucid.sae.autoencoder import SAE
from pellucid.sae.evaluation.assignment import best_matching
from pellucid.sae.evaluation.synthetic import Draw

RECOVERED = 0.9
"""Cosine from which a true direction counts as found."""


class Recovery(Record):
    """A true dictionary against a learned one."""

    features: int
    """True directions."""
    latents: int
    """Learned ones."""
    mean_max_cosine: float
    """Mean over the true directions of the greatest cosine with any latent; one latent may serve several."""
    matched_cosine: float
    """Mean cosine in the best one-to-one matching; a true direction without a latent counts as 0."""
    recovered: float
    """Share of the true directions whose matched latent is within a cosine of .9."""
    precision: float | None
    """Share of the matched latents' activations on tokens where their feature is there; None without any."""
    recall: float | None
    """Share of the features' presences on which their matched latent is active; None without any."""
    unmatched: float | None
    """Share of all activations that are of latents without a feature; None without any."""


def recovery(directions: Float[Tensor, "feature dim"], sae: SAE, draw: Draw) -> Recovery:
    """Match every true direction with one latent, exactly, and see on some tokens whether they go together.

    Args:
        directions: the true dictionary, rows of length 1.
        sae: what was learned.
        draw: tokens with their truth.

    Raises:
        InputError: the true directions have another width than the autoencoder.
    """
    if directions.shape[1] != sae.config.d_in:
        raise InputError(
            f"the true directions have {directions.shape[1]} dimensions and the autoencoder {sae.config.d_in}; "
            "use the one that was trained on them."
        )
    learned = sae.W_dec.detach().double()
    lengths = learned.norm(dim=1, keepdim=True).clamp(min=1e-30)
    cosines = (directions.double() @ (learned / lengths).T).cpu().numpy()
    partners = best_matching(cosines)
    has = partners >= 0
    matched = np.zeros(len(cosines))
    matched[has] = cosines[has, partners[has]]
    precision, recall, unmatched = _together(sae, draw, partners)
    return Recovery(
        features=len(cosines),
        latents=sae.width,
        mean_max_cosine=float(cosines.max(1).mean()),
        matched_cosine=float(matched.mean()),
        recovered=float((matched >= RECOVERED).mean()),
        precision=precision,
        recall=recall,
        unmatched=unmatched,
    )


def _together(sae: SAE, draw: Draw, partners: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Precision and recall of the matched latents' activations, and the share of the others."""
    with torch.no_grad():
        codes = sae.codes(draw.x)
    feature_of = np.full(sae.width, -1)
    feature_of[partners[partners >= 0]] = np.flatnonzero(partners >= 0)
    features = feature_of[codes.latents.cpu().numpy()]
    there = draw.truth.numpy() > 0
    matched = features >= 0
    right = int(there[codes.tokens.cpu().numpy()[matched], features[matched]].sum())
    present = int(there.sum())
    total = len(features)
    return (
        right / int(matched.sum()) if matched.any() else None,
        right / present if present else None,
        1 - int(matched.sum()) / total if total else None,
    )
