"""What a harvest will take, said before it begins: gigabytes and minutes."""

import shutil
from pathlib import Path
from typing import NamedTuple

from pellucid.errors import InputError
from pellucid.sae.store.manifest import Dtype
from pellucid.sae.store.values import bytes_per_token

BESIDE = 16
"""Bytes of a token in the tables beside the activations, at the most, as measured on English text."""
SPARE = 64 * 2**20
"""Bytes that are left free."""


class Estimate(NamedTuple):
    """What is still to be done."""

    tokens: int
    """Rows that the store will have."""
    left: int
    """Rows that are still to be computed."""
    bytes: int
    """What these will take on the disk."""
    seconds: float
    """How long it will take."""
    tokens_per_second: float
    """Rows in a second."""
    free_bytes: int
    """What is free on that disk."""

    def __str__(self) -> str:
        size, free = self.bytes / 1e9, self.free_bytes / 1e9
        return (
            f"about {self.left:,} tokens: {size:.2g} GB of {free:.3g} GB that are free, and {self.seconds / 60:.2g} "
            f"minutes at {self.tokens_per_second:,.0f} tokens a second"
        )


def estimated(
    folder: Path, tokens: int, left: int, widths: dict[str, int], dtype: Dtype, tokens_per_second: float
) -> Estimate:
    """What ``left`` of ``tokens`` rows will take. Raises InputError where the disk has no room for them."""
    each = sum(bytes_per_token(width, dtype) for width in widths.values()) + BESIDE
    free = shutil.disk_usage(folder).free
    if left * each + SPARE > free:
        raise InputError(
            f"{left:,} tokens take about {left * each / 1e9:.3g} GB and {str(folder)!r} has {free / 1e9:.3g} GB free: "
            f"take at most {max(0, (free - SPARE) // each):,} tokens, dtype int8, or a folder on another disk."
        )
    return Estimate(tokens, left, left * each, left / tokens_per_second, tokens_per_second, free)
