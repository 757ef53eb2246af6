"""From sums to the numbers that people read."""

from collections.abc import Sequence

import numpy as np

from pellucid.sae.evaluation.records import Densities, Quality
from pellucid.sae.evaluation.sums import Sums

BINS = 24
"""Bins of the histogram of log10 densities, from one token in all to every token."""


def quality(sums: Sums, d_in: int) -> Quality:
    """How well the tokens behind some sums are reconstructed. At least one token."""
    numbers, tokens = sums.numbers, sums.tokens
    alive = sum(count > 0 for count in sums.fired)
    return Quality(
        tokens=tokens,
        fvu=_share(numbers["error"], sums.moments.deviation),
        worst_share=_share(sums.worst, numbers["error"]),
        mse=numbers["error"] / (tokens * d_in),
        l0=numbers["active"] / tokens,
        cosine=_share(numbers["cosine"], numbers["cosines"]),
        norm_ratio=_share(numbers["ratio"], numbers["ratios"]),
        relative_bias=_share(numbers["reconstructed"], numbers["overlap"]),
        alive=alive,
        dead_share=1 - alive / len(sums.fired),
    )


def densities(fired: Sequence[int], tokens: int) -> Densities:
    """How the latents' densities are spread, from the tokens on which each is active."""
    counts_of = np.array(fired)
    shares = counts_of[counts_of > 0] / tokens
    edges = np.linspace(min(-np.log10(tokens), -1.0), 0, BINS + 1)
    counts, _ = np.histogram(np.log10(shares), edges)
    return Densities(
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        dead=int((counts_of == 0).sum()),
        median=float(np.median(shares)) if len(shares) else None,
        above_tenth=int((shares > 0.1).sum()),
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
