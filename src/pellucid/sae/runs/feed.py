"""Batches of equal size for the trainers of a site, from one reading of the store."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import NumericalError
from pellucid.sae.runs.checkpoints import State
from pellucid.sae.runs.holdout import HeldOut
from pellucid.sae.store import Cursor, Store


class Fed(NamedTuple):
    """A batch, and where reading goes on after it."""

    x: Float[Tensor, "token dim"]
    """The activations."""
    cursor: Cursor
    """Of the store."""
    carried: Float[Tensor, "token dim"]
    """What was read beyond the batch."""


def feed(store: Store, site: str, batch: int, epochs: int, seed: int, held: HeldOut, state: State) -> Iterator[Fed]:
    """Batches of exactly ``batch`` tokens that are not held out; what remains at the very end is left over.

    Raises NumericalError, naming step and shard, where an activation is NaN or infinite.
    """
    carried, step = state.carried, state.step
    for read in store.batches(site, batch, seed=seed, epochs=epochs, cursor=state.cursor):
        x = read.x.to(torch.float32)
        finite = torch.isfinite(x).all(1)
        if not finite.all():
            row = int(read.rows[~finite][0])
            raise NumericalError(
                f"step {step + 1}: row {row} of the activations of {site}, in the shard {shard_of(store, row)!r}, is "
                "NaN or infinite; harvest again, in float32 if the numbers were too large."
            )
        kept = x[~held.of(read.rows)]
        carried = kept if carried is None or not len(carried) else torch.cat([carried, kept])
        if len(carried) >= batch:
            step += 1
            whole, carried = carried[:batch], carried[batch:].clone()
            yield Fed(whole, read.cursor, carried)


def shard_of(store: Store, row: int) -> str:
    """The file that a row of the store is in."""
    for shard in store.manifest.shards:
        if row < shard.tokens:
            return shard.values.name
        row -= shard.tokens
    return "?"
