"""RISE: what the target is on the average where a feature is there."""

from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate

from pellucid.facts import Facts
from pellucid.games import AbstractGame, AbstractInputGame, Coalitions
from pellucid.games.table import all_coalitions
from pellucid.games.tensor_imputers import AbstractTensorImputer
from pellucid.methods.base import AbstractGameMethod, Attribution
from pellucid.models.pictures import ImageInputs

MASKS_AT_ONCE = 32
"""Masks of a picture that are enlarged together: it bounds the memory."""


@final
class Rise(AbstractGameMethod):
    """phi_i = mean of v(S) over the coalitions that hold i, minus the mean over all of them [petsiuk2018, eq. 6].

    A picture's coalitions are blobs: a coarse grid of coin tosses, enlarged bilinearly and shifted at random; a feature
    is present where the mask is above 1/2 on the average over its pixels. Elsewhere each player is tossed by itself.
    Against the paper: features are there or not (its masks dim pixels, and to black only), every coalition is followed
    by its complement, and the mean over all, which moves no rank, is subtracted. Standard errors are those of the mean
    over such pairs. Without blobs it is half of the Banzhaf value, and exact where 2^n <= samples.
    """

    facts: ClassVar[Facts] = Facts(
        name="rise",
        title="RISE (randomised input sampling)",
        family="perturbation",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("baseline",),
        sampled=True,
        cost="samples + 2, by default 258; at most 2^n",
        source="Petsiuk et al. 2018, eq. 6",
    )

    samples: int = Field(default=256, ge=4, multiple_of=2)
    """Coalitions, complements included."""
    cells: int = Field(default=7, ge=1)
    """Cells to a side of the coarse grid of a picture."""

    def rows(self, players: int) -> int:
        return min(1 << players, self.samples + 2)

    def estimate(self, game: AbstractGame, generator: np.random.Generator) -> Attribution:
        regions = _regions(game)
        if regions is None and 2**game.players <= self.samples:
            half = all_coalitions(game.players)[: 2 ** (game.players - 1)]
        elif regions is None:
            half = generator.random((self.samples // 2, game.players)) < 0.5
        else:
            half = self._blobs(regions, game.players, generator)
        exact = regions is None and 2**game.players <= self.samples
        played = game.value(np.concatenate([half, ~half]))
        # Half of what the complement loses, for the players that stay and against those that go.
        halves, signs = (played[: len(half)] - played[len(half) :]) / 2, np.where(half, 1.0, -1.0)
        values = halves.T @ signs / len(half)
        variance = ((halves**2).mean(0)[:, None] - values**2).clip(min=0) / max(1, len(half) - 1)
        error = np.zeros_like(values) if exact else np.sqrt(variance)
        return Attribution(values, game.empty, game.full, error, settings={"exact": exact})

    def _blobs(self, regions: Int[Tensor, "height width"], players: int, generator: np.random.Generator) -> Coalitions:
        """Coalitions of a picture's features, half of ``samples``."""
        count, (height, width) = self.samples // 2, regions.shape
        step = -(-height // self.cells), -(-width // self.cells)
        grids = torch.from_numpy(generator.random((count, 1, self.cells + 1, self.cells + 1)) < 0.5).float()
        shifts = generator.integers(0, step, (count, 2))
        owner, sizes = regions.flatten(), regions.flatten().bincount(minlength=players)
        found = []
        for start in range(0, count, MASKS_AT_ONCE):
            part = slice(start, start + MASKS_AT_ONCE)
            size = [(self.cells + 1) * each for each in step]
            masks = interpolate(grids[part], size=size, mode="bilinear", align_corners=False)[:, 0]
            cut = [
                mask[down : down + height, right : right + width].flatten()
                for mask, (down, right) in zip(masks, shifts[part].tolist(), strict=True)
            ]
            sums = torch.zeros(len(cut), players).index_add(1, owner, torch.stack(cut))
            found.append(sums / sizes > 0.5)
        return torch.cat(found).numpy()


def _regions(game: AbstractGame) -> Int[Tensor, "height width"] | None:
    """The feature of each pixel, where a game is of the parts of one picture."""
    imputer = game.imputer if isinstance(game, AbstractInputGame) else None
    inputs = imputer.inputs if isinstance(imputer, AbstractTensorImputer) else None
    return inputs.regions if isinstance(inputs, ImageInputs) else None
