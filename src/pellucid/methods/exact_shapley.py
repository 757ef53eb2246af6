"""Exact Shapley values: every coalition is played."""

from typing import ClassVar, final

import numpy as np

from pellucid.errors import InputError
from pellucid.facts import Facts
from pellucid.games import AbstractGame
from pellucid.games.table import all_coalitions, semivalue, shapley_weights
from pellucid.methods.base import AbstractGameMethod, Attribution

MOST_PLAYERS = 16


@final
class ExactShapley(AbstractGameMethod):
    """phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S with i) - v(S)) [shapley1953].

    The one value that is efficient, symmetric, additive and gives nothing to a player without effect; no sampling.
    Raises InputError above 16 players (65 536 evaluations).
    """

    facts: ClassVar[Facts] = Facts(
        name="exact_shapley",
        title="Shapley value (exact)",
        family="perturbation",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("baseline",),
        complete=True,
        cost="2^n",
        source="Shapley 1953",
    )

    def rows(self, players: int) -> int:
        return 1 << players

    def estimate(self, game: AbstractGame, generator: np.random.Generator) -> Attribution:
        if game.players > MOST_PLAYERS:
            raise InputError(
                f"exact_shapley plays all 2^{game.players} coalitions and takes at most {MOST_PLAYERS} features; "
                "use kernel_shap or permutation_shapley, or coarser features such as field or sentence."
            )
        table = game.value(all_coalitions(game.players))
        return Attribution(semivalue(table, shapley_weights(game.players)), table[0], table[-1])
