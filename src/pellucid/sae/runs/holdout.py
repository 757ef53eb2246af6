"""Which rows of a store training never sees, so that the end can be judged on them."""

import hashlib
from collections import Counter
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pellucid.errors import InputError
from pellucid.sae.store import Store

LARGEST_SHARE = 0.1
"""Of the tokens: what is held out at the most where documents are large and a smaller share was asked for."""


class HeldOut(NamedTuple):
    """A choice of whole documents, or of samples where there are too few documents."""

    unit: str
    """document or sample; none where there are too few of either."""
    units: int
    """How many of them."""
    rows: int
    """Tokens in them."""
    starts: Int[np.ndarray, " sample"]
    """The first row of each sample of the store."""
    held: Bool[np.ndarray, " sample"]
    """Whether it is held out."""

    def of(self, rows: Int[Tensor, " token"]) -> Bool[Tensor, " token"]:
        """Whether each row is held out."""
        if not self.rows:
            return torch.zeros(len(rows), dtype=torch.bool)
        samples = np.searchsorted(self.starts, rows.numpy(), side="right") - 1
        return torch.from_numpy(self.held[samples])


def choose(store: Store, share: float, seed: int) -> HeldOut:
    """Documents in an order that the seed decides, until they hold that share of the tokens.

    Neighbouring windows of one text are much alike, so a document is held out as a whole; where no choice of documents
    comes near that share, samples are. Raises InputError on a share that is none, or more than half.
    """
    if not 0 <= share <= 0.5:
        raise InputError(f"held_out is a share from 0 to 0.5 of the tokens, not {share}.")
    samples = list(store.documents())
    sizes = np.array([size for _, size in samples], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    for unit in ("document", "sample"):
        keys = [name if unit == "document" else f"{name}/{index}" for index, (name, _) in enumerate(samples)]
        chosen, rows = _drawn(keys, sizes, share, seed)
        if chosen:
            held = np.array([key in chosen for key in keys], dtype=bool)
            # Samples without a token that was kept share their first row with the next one.
            kept = sizes > 0
            return HeldOut(unit, len(chosen), rows, starts[kept], held[kept])
    return HeldOut("none", 0, 0, starts, np.zeros(len(samples), dtype=bool))


def _drawn(keys: list[str], sizes: Int[np.ndarray, " sample"], share: float, seed: int) -> tuple[set[str], int]:
    """Units that are held out, and their tokens; none where each would be too much."""
    tokens: Counter[str] = Counter()
    for key, size in zip(keys, sizes, strict=True):
        tokens[key] += int(size)
    total = sum(tokens.values())
    most = max(2 * share, LARGEST_SHARE) * total
    chosen: set[str] = set()
    rows = 0
    for key in sorted(tokens, key=lambda each: hashlib.sha256(f"{seed}\0{each}".encode()).digest()):
        if rows >= share * total:
            break
        if tokens[key] and rows + tokens[key] <= most:
            chosen.add(key)
            rows += tokens[key]
    return chosen, rows
