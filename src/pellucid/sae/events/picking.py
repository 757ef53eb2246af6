"""Events of one latent, and choosing among them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pellucid.errors import InputError


@dataclass(frozen=True)
class LatentEvents:
    """Where a latent was active, and how much."""

    latent: int
    """Its index."""
    rows: Int[np.ndarray, " event"]
    """Row of the store."""
    samples: Int[np.ndarray, " event"]
    """Sample that the row is of."""
    positions: Int[np.ndarray, " event"]
    """Position of the row's token in its sample."""
    values: Float[np.ndarray, " event"]
    """Activation, above 0."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: Int[np.ndarray, " chosen"]) -> "LatentEvents":
        """Some of them, in the order that is given."""
        picked = (self.rows[chosen], self.samples[chosen], self.positions[chosen], self.values[chosen])
        return LatentEvents(self.latent, *picked)


@dataclass(frozen=True)
class Histogram:
    """How often a latent's activations have which size."""

    edges: Float[np.ndarray, " edge"]
    """Ends of the bins, evenly spaced in their logarithm."""
    counts: Int[np.ndarray, " bin"]
    """Events in each bin."""


def strongest(events: LatentEvents, n: int, *, distinct: bool = False) -> LatentEvents:
    """The n events of the highest activation, the highest first; equal ones in the order of their rows.

    ``distinct``: at most one of each sample.
    """
    _require_positive("n", n)
    if distinct:
        order = _descending(events)
        _, first = np.unique(events.samples[order], return_index=True)
        return events.take(order[np.sort(first)[:n]])
    if len(events) > 4 * n:
        # All that reach the n-th highest, ties at it included.
        limit = np.partition(events.values, len(events) - n)[len(events) - n]
        events = events.take(np.flatnonzero(events.values >= limit))
    return events.take(_descending(events)[:n])


def quantile_bins(
    events: LatentEvents, n: int, bins: int, *, seed: int = 0, distinct: bool = False
) -> tuple[LatentEvents, ...]:
    """N events at random of each of ``bins`` equal parts by activation, the part of the lowest first.

    A part with fewer than n gives all it has. Within a part the highest stand first. The draw depends on the seed and
    the latent alone. ``distinct``: at most one of each sample, its highest, over all parts.
    """
    _require_positive("n", n)
    _require_positive("bins", bins)
    ascending = _descending(events)[::-1]
    if distinct:
        _, last = np.unique(events.samples[ascending][::-1], return_index=True)
        ascending = ascending[np.sort(len(ascending) - 1 - last)]
    generator = np.random.default_rng([seed, events.latent])
    found = []
    for part in np.array_split(ascending, bins):
        drawn = np.sort(generator.permutation(len(part))[:n])[::-1]
        found.append(events.take(part[drawn]))
    return tuple(found)


def log_histogram(events: LatentEvents, bins: int) -> Histogram:
    """Counts of the activations between their least and greatest, in bins of even width in the logarithm."""
    _require_positive("bins", bins)
    if not len(events):
        return Histogram(np.ones(bins + 1), np.zeros(bins, np.int64))
    logs = np.log(np.asarray(events.values, np.float64))
    low, high = float(logs.min()), float(logs.max())
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(logs, bins, (low, high))
    return Histogram(np.exp(edges), counts.astype(np.int64))


def _descending(events: LatentEvents) -> Int[np.ndarray, " event"]:
    return np.argsort(-events.values, kind="stable")


def _require_positive(name: str, value: int) -> None:
    if value < 1:
        raise InputError(f"{name} must be at least 1, not {value}.")
