"""A few tokens around a place of the corpus, with how strongly a latent is active on each of them."""

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Literal

import numpy as np
from jaxtyping import Float

from pellucid.records import Record
from pellucid.sae.interpretation.sources import Sample

OPEN, CLOSE = "<<", ">>"
LEVELS = 10
"""Activations are told as whole numbers from 1 to this."""
IMAGE = "[image]"
Kind = Literal["active", "random", "same token", "neighbour"]


class Picture(Record):
    """The picture that goes with an example, and the latent's activation on each of its patches."""

    path: str
    """Where it lies."""
    rows: int
    """Rows of patches."""
    columns: int
    """Patches in a row."""
    levels: tuple[int, ...]
    """Level of each patch, row by row; 0 where the latent is not active."""


class Example(Record):
    """A window of the corpus."""

    kind: Kind
    """Whether the latent is active in it, or else how it was come by."""
    sample: int
    """Number of the sample in the store."""
    document: str
    """What the sample is a part of; explanation and scoring share none."""
    position: int
    """Position of the token that the window was cut around."""
    start: int
    """Position of its first token."""
    end: int
    """One past the last position that it covers."""
    pieces: tuple[str, ...]
    """Text of each token."""
    levels: tuple[int, ...]
    """Level of each token, 1 to 10; 0 where the latent is not active."""
    value: float
    """Activation on the token it was cut around; 0 where the latent is not active."""
    quantile: int | None = None
    """Which part of the latent's events it was drawn from, 0 the weakest; None where the latent is not active."""
    picture: Picture | None = None
    """The picture, where there is one."""

    @property
    def active(self) -> bool:
        """Whether the latent is active in it."""
        return self.kind == "active"

    @property
    def on_picture(self) -> bool:
        """Whether the picture's patches are where the latent is active."""
        return self.picture is not None and any(self.picture.levels)

    @property
    def text(self) -> str:
        """The window without marks."""
        return marked(self.pieces, ())

    @property
    def marked(self) -> str:
        """The window with <<marks>> around the tokens on which the latent is active."""
        return marked(self.pieces, {place for place, level in enumerate(self.levels) if level})


def marked(pieces: Sequence[str], places: Collection[int]) -> str:
    """Tokens as one text, with a mark around each run of the tokens at ``places``.

    What looks like a mark in the text itself is pulled apart, so that only ours are marks.
    """
    parts, inside = [], False
    for number, piece in enumerate(pieces):
        if (number in places) != inside:
            parts.append(CLOSE if inside else OPEN)
            inside = not inside
        parts.append(piece.replace(OPEN, "< <").replace(CLOSE, "> >"))
    return "".join(parts) + (CLOSE if inside else "")


def levels(values: Float[np.ndarray, " token"], largest: float) -> tuple[int, ...]:
    """Activations as whole numbers: ceil(10 value / largest), between 1 and 10; 0 stays 0."""
    if largest <= 0:
        return (0,) * len(values)
    scaled = np.clip(np.ceil(LEVELS * values / largest - 1e-9), 1, LEVELS)
    return tuple(int(level) for level in np.where(values > 0, scaled, 0))


def patches(sample: Sample) -> range:
    """Positions of the patches of the sample's picture: the run of one repeated token that is as long as its grid."""
    wanted = sample.grid[0] * sample.grid[1] if sample.grid else 0
    if wanted < 2:
        return range(0)
    start = 0
    for token, run in groupby(sample.ids):
        length = sum(1 for each in run if each == token)
        if length == wanted:
            return range(start, start + length)
        start += length
    return range(0)
