"""Runs: the events of some million activations in the order of the latents, the unit of work of one pass."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from pellucid.errors import RecordError
from pellucid.files import write_atomically


class Found(NamedTuple):
    """The active latents of consecutive rows, in the order of the rows."""

    rows: Int[np.ndarray, " event"]
    """Row of the store, rising."""
    latents: Int[np.ndarray, " event"]
    """Rising within a row."""
    values: Float[np.ndarray, " event"]
    """Activations."""
    sizes: Int[np.ndarray, " row"]
    """Active latents of each row."""


class Run(NamedTuple):
    """The same in the order of the latents, with what leads back to the order of the rows."""

    rows: Int[np.ndarray, " event"]
    """By latent, rising within one."""
    values: Float[np.ndarray, " event"]
    """By latent."""
    offsets: Int[np.ndarray, " latent_and_one"]
    """Where each latent begins in the two."""
    latents: Int[np.ndarray, " event"]
    """By row."""
    sizes: Int[np.ndarray, " row"]
    """Active latents of each row."""


def sorted_run(found: Found, width: int) -> Run:
    """The events sorted by latent; those of one latent stay in the order of their rows."""
    # NumPy sorts 16 bits by counting, several times faster than more.
    keys = found.latents.astype(np.uint16) if width <= 1 << 16 else found.latents
    order = np.argsort(keys, kind="stable")
    counts = np.bincount(found.latents, minlength=width)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Run(found.rows[order], found.values[order], offsets, found.latents, found.sizes)


def write_run(path: Path, run: Run) -> None:
    """One file, whole or not at all."""
    write_atomically(path, save({name: np.ascontiguousarray(each) for name, each in run._asdict().items()}))


def read_run(path: Path) -> Run:
    """A run as it was written. Raises RecordError where the file is missing or damaged."""
    try:
        return Run(**load_file(path))
    except (OSError, SafetensorError, TypeError) as error:
        raise RecordError(
            f"the run {str(path)!r} cannot be read ({error}); delete its folder and write the events again."
        ) from None
