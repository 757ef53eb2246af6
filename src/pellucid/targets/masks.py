"""Masks as run lengths, which a document holds compactly and two targets compare by."""

from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict, model_validator

from pellucid.errors import InputError

MOST_PLACES = 1 << 28
"""Places that a mask may have; a document could name any size."""


@final
class RunLengths(BaseModel):
    """A mask [height, width], or [depth, height, width], as COCO stores it uncompressed.

    Column by column, the first index running fastest: how many places are outside, then inside, then outside ...
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    size: tuple[int, ...]
    """Height and width; of a volume depth, height and width."""
    counts: tuple[int, ...]
    """Lengths of the runs, of which the first is outside and may be 0."""

    @model_validator(mode="after")
    def _whole(self) -> "RunLengths":
        if len(self.size) not in (2, 3) or min(self.size) < 1 or np.prod(self.size, dtype=object) > MOST_PLACES:
            raise ValueError(f"a mask has height and width (and depth before them), and not the size {self.size}")
        if not self.counts or self.counts[0] < 0 or any(each < 1 for each in self.counts[1:]):
            raise ValueError("the lengths of runs are above 0; only the first may be 0")
        if sum(self.counts) != np.prod(self.size):
            raise ValueError(f"the runs cover {sum(self.counts)} places of {np.prod(self.size)}")
        if len(self.counts) < 2:
            raise ValueError("the mask is empty: mark at least one place")
        return self

    @classmethod
    def of(cls, given: Any) -> "RunLengths":
        """The run lengths of an array, nested lists, a tensor or a PIL image: 0 outside, one other value inside.

        Raises InputError on anything else, and on a mask that marks nothing.
        """
        inside = _inside(given)
        if not inside.any():
            raise InputError(f"the mask, {by(inside.shape)}, is empty: mark at least one place.")
        flat = inside.ravel(order="F")
        starts = np.flatnonzero(np.diff(flat)) + 1
        counts = np.diff(np.concatenate([[0], starts, [flat.size]])).tolist()
        return cls(size=inside.shape, counts=(0, *counts) if flat[0] else tuple(counts))

    @property
    def array(self) -> Bool[np.ndarray, "*size"]:
        """The mask."""
        flat = np.repeat(np.arange(len(self.counts)) % 2 == 1, self.counts)
        return np.ascontiguousarray(flat.reshape(self.size, order="F"))

    @property
    def inside(self) -> int:
        """How many places are inside."""
        return sum(self.counts[1::2])

    def __repr__(self) -> str:
        return f"RunLengths({by(self.size)}, {self.inside} inside)"

    __str__ = __repr__


def by(size: tuple[int, ...]) -> str:
    """``(4, 6)`` as ``4 x 6``."""
    return " x ".join(str(each) for each in size)


def _inside(given: Any) -> Bool[np.ndarray, "*size"]:
    array = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else given
    try:
        array = np.asarray(array)
    except ValueError:
        raise InputError("the rows of the mask have different lengths; a mask is [height, width].") from None
    # The colours of a picture would pass for the columns of a volume.
    colours = array.ndim == 3 and isinstance(getattr(given, "mode", None), str)
    if array.dtype.kind not in "biuf" or array.ndim not in (2, 3) or colours:
        raise InputError(
            f"a mask is an array [height, width], nested lists, a tensor or a grey picture, and not "
            f"{type(given).__name__} of {array.dtype} {list(array.shape)}."
        )
    values = np.unique(array)
    if array.size and (len(values[values != 0]) > 1 or not np.isfinite(values).all()):
        some = ", ".join(f"{each:g}" for each in values[:5].tolist())
        raise InputError(
            f"a mask has 0 outside and one other value inside, and this one has {len(values)} values ({some} ...); of "
            "a map of classes give map == CLASS."
        )
    return np.asarray(array != 0)
