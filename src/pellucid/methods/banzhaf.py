"""Banzhaf values: what a player adds to a coalition drawn at random."""

from typing import Any, ClassVar, final

import numpy as np
from pydantic import Field

from pellucid.facts import Facts
from pellucid.games import AbstractGame
from pellucid.games.table import all_coalitions, banzhaf_weights, semivalue
from pellucid.methods.base import AbstractGameMethod, Attribution


@final
class Banzhaf(AbstractGameMethod):
    """phi_i = mean of v(S) over S with i, minus the mean over S without i [wang2023banzhaf, maximum sample reuse].

    Every coalition serves every player, and the ranking is the one that noise in v disturbs least [wang2023banzhaf].
    The scores do not sum to v(N) - v(empty). Each player is in exactly half of the samples. Standard errors are those
    of a difference of two means; exact and zero where 2^n <= samples.
    """

    facts: ClassVar[Facts] = Facts(
        name="banzhaf",
        title="Banzhaf value",
        family="perturbation",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("baseline",),
        sampled=True,
        cost="samples + 2, by default 258; at most 2^n",
        source="Wang & Jia 2023 (maximum sample reuse)",
    )

    samples: int = Field(default=256, ge=4, multiple_of=2)
    """Coalitions drawn, every player present with probability 1/2."""

    def rows(self, players: int) -> int:
        return min(1 << players, self.samples + 2)

    def estimate(self, game: AbstractGame, generator: np.random.Generator) -> Attribution:
        settings: dict[str, Any] = {"exact": 2**game.players <= self.samples}
        if settings["exact"]:
            values = semivalue(game.value(all_coalitions(game.players)), banzhaf_weights(game.players))
            return Attribution(values, game.empty, game.full, np.zeros_like(values), settings=settings)
        halves = np.arange(self.samples) < self.samples // 2
        coalitions = generator.permuted(np.tile(halves[:, None], game.players), axis=0)
        # Centring costs no bias and keeps the squares from cancelling.
        played = game.value(coalitions) - game.full
        means, variances = [], []
        for chosen in (coalitions, ~coalitions):
            mean = played.T @ chosen / halves.sum()
            means.append(mean)
            variances.append(((played**2).T @ chosen / halves.sum() - mean**2).clip(min=0) / (halves.sum() - 1))
        values, error = means[0] - means[1], np.sqrt(variances[0] + variances[1])
        return Attribution(values, game.empty, game.full, error, settings=settings)
