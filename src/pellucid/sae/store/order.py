"""The order in which rows are read: shuffled within a window of shards, which are themselves shuffled."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int
from pydantic import Field

from pellucid.records import Record

WINDOW = 2**20
"""Rows that are shuffled together, at least, where there are as many; what is held of them is 8 bytes each."""


class Cursor(Record):
    """Where a reader is: what comes next depends on nothing else but the store."""

    epoch: int = Field(ge=0, default=0)
    """How often all rows were read before."""
    seed: int = Field(ge=0, default=0)
    """Of the order."""
    position: int = Field(ge=0, default=0)
    """Rows of this epoch that were read."""


def order(sizes: Sequence[int], cursor: Cursor, *, shuffle: bool, window: int = WINDOW) -> Iterator[np.ndarray]:
    """The rows of an epoch from the cursor's position on, a window at a time. Each row of the store comes once.

    With ``shuffle`` the shards are drawn in random order, as many as make a window are opened, and all of their rows
    are drawn in random order.
    """
    firsts = np.cumsum([0, *sizes])
    generator = np.random.default_rng(np.random.SeedSequence((cursor.seed, cursor.epoch)))
    shards = generator.permutation(len(sizes)) if shuffle else np.arange(len(sizes))
    before = 0
    for number, group in enumerate(_windows(shards, sizes, window)):
        count = sum(sizes[shard] for shard in group)
        if before + count > cursor.position:
            rows = np.concatenate([np.arange(firsts[shard], firsts[shard + 1]) for shard in group])
            if shuffle:
                # One generator each, so that a reader that goes on need not draw the windows before.
                rows = np.random.default_rng(
                    np.random.SeedSequence((cursor.seed, cursor.epoch, number + 1))
                ).permutation(rows)
            yield rows[max(0, cursor.position - before) :]
        before += count


def _windows(shards: Int[np.ndarray, " shard"], sizes: Sequence[int], window: int) -> Iterator[list[int]]:
    """Shards that are open at the same time."""
    group: list[int] = []
    for shard in shards.tolist():
        group.append(shard)
        if sum(sizes[each] for each in group) >= window:
            yield group
            group = []
    if group:
        yield group


def batched(windows: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same rows, ``size`` at a time; the last may be fewer."""
    kept: list[np.ndarray] = []
    held = 0
    for rows in windows:
        while held + len(rows) >= size:
            cut = size - held
            yield np.concatenate([*kept, rows[:cut]])
            rows, kept, held = rows[cut:], [], 0
        if len(rows):
            kept.append(rows)
            held += len(rows)
    if held:
        yield np.concatenate(kept)
