"""Random directions as latents: what explanation and judge make of directions that nobody trained."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from pellucid.sae.interpretation.places import CHUNK
from pellucid.sae.interpretation.sources import Store
from pellucid.sae.site import Site

BATCH = 4096


class _Events(NamedTuple):
    """Where one direction counts as active."""

    samples: Int[np.ndarray, " event"]
    positions: Int[np.ndarray, " event"]
    values: Float[np.ndarray, " event"]


class RandomDirections:
    """Unit directions drawn at random, each active on the tokens that lie furthest along it from the mean.

    An event store of their own. One pass over the activations; the memory holds ``active`` events of each direction.

    Args:
        store: the activations.
        site: at which place of the model.
        count: how many directions.
        active: on how many tokens each of them is active.
        seed: of the draw.
    """

    def __init__(self, store: Store, site: Site | str, count: int, active: int, seed: int = 0) -> None:
        self.width, self.tokens = count, len(store)
        active = min(active, max(1, self.tokens - 1))
        rows, values = _furthest(store, Site.of(site) if isinstance(site, str) else site, count, active + 1, seed)
        order = rows[:, :active].argsort(1)
        self._rows = np.take_along_axis(rows[:, :active], order, 1)
        # The token that just missed it is the threshold; equal ones still count as active.
        above = values[:, :active] - values[:, active:]
        self._values = np.take_along_axis(np.maximum(above, 1e-6), order, 1)
        self._samples, self._positions = _places(store, self._rows)
        self.counts = np.full(count, active)
        self.maxima = self._values.max(1)

    def of(self, latent: int) -> _Events:
        """The events of one direction, in the order of the tokens."""
        return _Events(self._samples[latent], self._positions[latent], self._values[latent])


def _furthest(
    store: Store, site: Site, count: int, active: int, seed: int
) -> tuple[Int[np.ndarray, "latent event"], Float[np.ndarray, "latent event"]]:
    """Rows of the store furthest along each direction, the furthest first, and their projections."""
    directions: torch.Tensor | None = None
    best, at = torch.zeros(count, 0), torch.zeros(count, 0, dtype=torch.long)
    # Centring by the mean would move all projections on one direction alike, and none of their order.
    for batch in store.batches(site, BATCH, shuffle=False):
        x = torch.as_tensor(batch.x).float()
        if directions is None:
            generator = torch.Generator().manual_seed(seed)
            directions = torch.nn.functional.normalize(torch.randn(count, x.shape[1], generator=generator), dim=1)
        best = torch.cat([best, directions @ x.T], 1)
        at = torch.cat([at, torch.as_tensor(batch.rows)[None].expand(count, -1)], 1)
        best, order = best.topk(min(active, best.shape[1]))
        at = at.gather(1, order)
    return at.numpy(), best.numpy()


def _places(
    store: Store, rows: Int[np.ndarray, "latent event"]
) -> tuple[Int[np.ndarray, "latent event"], Int[np.ndarray, "latent event"]]:
    """Sample and position of some rows, from one pass over the index."""
    samples, positions = np.zeros(rows.shape, dtype=np.int64), np.zeros(rows.shape, dtype=np.int64)
    for start in range(0, len(store), CHUNK):
        table = store.places(start, start + CHUNK)
        inside = (rows >= start) & (rows < start + len(table))
        for name, into in (("sample", samples), ("position", positions)):
            into[inside] = table[name].to_numpy()[rows[inside] - start]
    return samples, positions
