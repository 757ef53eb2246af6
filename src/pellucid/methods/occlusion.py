"""Occlusion: what is lost when one feature is taken away."""

from typing import ClassVar, final

import numpy as np

from pellucid.facts import Facts
from pellucid.games import AbstractGame
from pellucid.methods.base import AbstractGameMethod, Attribution


@final
class Occlusion(AbstractGameMethod):
    """Leave-one-out: phi_i = v(N) - v(N without i) [zeiler2014, section 2.1; li2016, eq. 1].

    Exact for a model without interactions between features; blind to features that can stand in for one another.
    """

    facts: ClassVar[Facts] = Facts(
        name="occlusion",
        title="Occlusion (leave one out)",
        family="perturbation",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("baseline",),
        cost="n + 2",
        source="Zeiler & Fergus 2014, section 2.1; Li et al. 2016, eq. 1",
    )

    def rows(self, players: int) -> int:
        return players + 2

    def estimate(self, game: AbstractGame, generator: np.random.Generator) -> Attribution:
        # All in one request, so that the game can order them by what they share.
        whole = np.ones((1, game.players), dtype=bool)
        values = game.value(np.concatenate([~np.eye(game.players, dtype=bool), whole, ~whole]))
        full, empty = values[-2], values[-1]
        return Attribution((full - values[:-2]).T, empty, full)
