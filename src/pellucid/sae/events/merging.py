"""Runs become one list of events by latent, and one of latents by row, a block at a time."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from safetensors import safe_open
from safetensors.numpy import save

from pellucid.files import write_atomically
from pellucid.progress import progress
from pellucid.sae.events.columns import column

ROWS, VALUES, LATENTS, ROW_OFFSETS, TOTALS = (
    "rows.npy", "values.npy", "latents.npy", "row_offsets.npy", "totals.safetensors",
)  # fmt: skip


class Block(NamedTuple):
    """Events of consecutive latents."""

    first: int
    """The first latent."""
    rows: Int[np.ndarray, " event"]
    """By latent, rising within one."""
    values: np.ndarray
    """Activations [event]."""
    counts: Int[np.ndarray, " latent"]
    """Events of each latent."""


def merge(
    folder: Path, runs: Sequence[Path], width: int, tokens: int, modalities: Int[np.ndarray, " row"], size: int
) -> None:
    """Write the columns and totals of ``folder`` from its runs.

    Args:
        folder: where they go.
        runs: in the order of their rows.
        width: latents of the autoencoder.
        tokens: rows of the store.
        modalities: the number of each row's modality.
        size: events that are held at a time, as far as one latent of one run does not have more.
    """
    kinds = int(modalities.max()) + 1 if tokens else 1
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, framework="numpy")) for path in runs]
        offsets = np.stack([each.get_tensor("offsets") for each in files])
        total = int(offsets[:, -1].sum())
        _by_row(folder, files, tokens, total)
        counts = np.diff(offsets.sum(0))
        totals = _Totals(width, kinds)
        rows = stack.enter_context(column(folder / ROWS, np.int64, total))
        values = stack.enter_context(column(folder / VALUES, np.float32, total))
        advance = stack.enter_context(progress("Sorting events by latent", total))
        for block in _blocks(files, offsets, counts, size):
            rows(block.rows)
            values(block.values)
            totals.add(block, modalities)
            advance(len(block.rows))
    present = np.bincount(modalities, minlength=kinds)
    write_atomically(folder / TOTALS, save({"counts": counts, "modality_tokens": present, **totals.arrays}))


def _by_row(folder: Path, files: Sequence[Any], tokens: int, total: int) -> None:
    """The latents of each row, one row after the other."""
    with (
        column(folder / LATENTS, np.int32, total) as latents,
        column(folder / ROW_OFFSETS, np.int64, tokens + 1) as offsets,
    ):
        done = np.zeros(1, np.int64)
        offsets(done)
        for file in files:
            latents(file.get_tensor("latents"))
            ends = done + np.cumsum(file.get_tensor("sizes"), dtype=np.int64)
            offsets(ends)
            done = ends[-1:] if len(ends) else done


def _blocks(
    files: Sequence[Any], offsets: Int[np.ndarray, "run latent_and_one"], counts: Int[np.ndarray, " latent"], size: int
) -> Iterator[Block]:
    """Events in the order of the latents. A latent with more than fits is given run by run."""
    first, width = 0, len(counts)
    while first < width:
        last = first + 1
        held = int(counts[first])
        while last < width and held + counts[last] <= size:
            held += int(counts[last])
            last += 1
        if held <= size:
            yield _block(files, offsets, first, last)
        else:
            for file, begins in zip(files, offsets, strict=True):
                yield _block([file], begins[None], first, last)
        first = last


def _block(files: Sequence[Any], offsets: Int[np.ndarray, "run latent_and_one"], first: int, last: int) -> Block:
    parts = [slice(int(begins[first]), int(begins[last])) for begins in offsets]
    rows = np.concatenate([_slice(file, "rows", part) for file, part in zip(files, parts, strict=True)])
    values = np.concatenate([_slice(file, "values", part) for file, part in zip(files, parts, strict=True)])
    each = np.diff(offsets[:, first : last + 1])
    if len(files) > 1:
        # Runs come in the order of their rows, so a stable sort keeps the rows of a latent rising.
        latents = np.concatenate([np.repeat(np.arange(last - first), sizes) for sizes in each])
        order = np.argsort(latents, kind="stable")
        rows, values = rows[order], values[order]
    return Block(first, rows, values, each.sum(0))


def _slice(file: Any, name: str, part: slice) -> np.ndarray:
    # The library takes an empty slice at the end of a tensor for one that is out of bounds.
    found: np.ndarray = file.get_slice(name)[part] if part.start < part.stop else file.get_tensor(name)[:0]
    return found


class _Totals:
    """What is summed up over all events of each latent."""

    def __init__(self, width: int, kinds: int) -> None:
        self.arrays: dict[str, np.ndarray] = {
            "sums": np.zeros(width),
            "squares": np.zeros(width),
            "maxima": np.zeros(width, np.float32),
            "modality_counts": np.zeros((kinds, width), np.int64),
        }

    def add(self, block: Block, modalities: Int[np.ndarray, " row"]) -> None:
        size, last = len(block.counts), block.first + len(block.counts)
        latents = np.repeat(np.arange(size), block.counts)
        doubles = block.values.astype(np.float64)
        # One after the other, so that the sums do not depend on where a block ends.
        np.add.at(self.arrays["sums"], latents + block.first, doubles)
        np.add.at(self.arrays["squares"], latents + block.first, doubles**2)
        np.maximum.at(self.arrays["maxima"], latents + block.first, block.values)
        kinds = len(self.arrays["modality_counts"])
        pairs = np.bincount(modalities[block.rows].astype(np.int64) * size + latents, minlength=kinds * size)
        self.arrays["modality_counts"][:, block.first : last] += pairs.reshape(kinds, size)
