"""Latents that are active together, counted exactly."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

Measure = Literal["jaccard", "phi", "both"]


class Partner(NamedTuple):
    """A latent beside another one."""

    latent: int
    """Its index."""
    both: int
    """Tokens on which the two are active."""
    jaccard: float
    """Share of these among the tokens on which either is."""
    phi: float
    """Correlation of being active, over all tokens; 0 where one of the two is always or never active."""


def joint_counts(
    rows: Int[np.ndarray, " event"],
    row_offsets: Int[np.ndarray, " row_and_one"],
    latents: Int[np.ndarray, " active"],
    width: int,
    size: int = 1 << 20,
) -> Int[np.ndarray, " latent"]:
    """On how many of some rows each latent is active, from the latents of each row; a million rows at a time."""
    found = np.zeros(width, np.int64)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        begins, sizes = row_offsets[part], row_offsets[part + 1] - row_offsets[part]
        ends = np.cumsum(sizes)
        places = np.arange(int(ends[-1])) + np.repeat(begins - (ends - sizes), sizes)
        found += np.bincount(latents[places], minlength=width)
    return found


def partners(
    latent: int,
    both: Int[np.ndarray, " latent"],
    counts: Int[np.ndarray, " latent"],
    tokens: int,
    n: int,
    by: Measure,
) -> tuple[Partner, ...]:
    """The n latents that go most with one, by a measure; equal ones by their index. Only such as meet it at all.

    jaccard = both / either; phi = (N both - n_i n_j) / sqrt(n_i n_j (N - n_i) (N - n_j)) over N tokens.
    """
    met = both.astype(np.float64)
    one, other = float(counts[latent]), counts.astype(np.float64)
    jaccard = met / np.maximum(one + other - met, 1)
    phi = _phi(met, one, other, tokens)
    measure = {"jaccard": jaccard, "phi": phi, "both": met}[by].copy()
    measure[(both == 0) | (np.arange(len(both)) == latent)] = -np.inf
    order = np.argsort(-measure, kind="stable")[:n]
    return tuple(
        Partner(int(each), int(both[each]), float(jaccard[each]), float(phi[each]))
        for each in order
        if measure[each] > -np.inf
    )


def _phi(
    both: Float[np.ndarray, " latent"], one: float, other: Float[np.ndarray, " latent"], tokens: int
) -> Float[np.ndarray, " latent"]:
    scale = np.sqrt(one * (tokens - one)) * np.sqrt(other * (tokens - other))
    found: Float[np.ndarray, " latent"] = np.divide(
        tokens * both - one * other, scale, out=np.zeros_like(both), where=scale > 0
    )
    return found
