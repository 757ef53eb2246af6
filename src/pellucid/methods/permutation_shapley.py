"""Permutation Shapley: what each player adds when it joins in a random order."""

from typing import ClassVar, final

import numpy as np
from pydantic import Field

from pellucid.facts import Facts
from pellucid.games import AbstractGame
from pellucid.games.permutation import owen_rounds, sampled_rows
from pellucid.methods.base import AbstractGameMethod, Attribution
from pellucid.methods.sampled import refined


@final
class PermutationShapley(AbstractGameMethod):
    """Mean marginal contribution over random orders, each with its reverse [castro2009; mitchell2022].

    Unbiased, sums to v(N) - v(empty) for every seed, exact for games with interactions of at most two players.
    Standard errors are those of the mean over pairs of orders; no pair is drawn twice. Where playing all 2^n coalitions
    costs no more than the orders would, it does so and is exact.
    """

    facts: ClassVar[Facts] = Facts(
        name="permutation_shapley",
        title="Shapley value (sampled orders)",
        family="perturbation",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("baseline",),
        complete=True,
        sampled=True,
        cost="permutations (n - 1) + 2, by default 20 (n - 1) + 2; at most 2^n",
        source="Castro et al. 2009; Mitchell et al. 2022 (reversed pairs)",
    )

    permutations: int = Field(default=20, ge=4, multiple_of=2)
    """Orders, reversed ones included (of a round, where a tolerance is set)."""
    tolerance: float | None = Field(default=None, gt=0)
    """Draw round after round until no standard error is larger, in the unit of the target; None: one round."""
    max_permutations: int = Field(default=1000, ge=4, multiple_of=2)
    """Where the rounds end, tolerance reached or not."""

    def rows(self, players: int) -> int:
        return min(1 << players, sampled_rows(self._most, players))

    def estimate(self, game: AbstractGame, generator: np.random.Generator) -> Attribution:
        tree = tuple(range(game.players))
        rounds = owen_rounds(game, tree, generator, self.permutations, self._most)
        return refined(self.facts.name, game, rounds, most=self._most, tolerance=self.tolerance)

    @property
    def _most(self) -> int:
        return self.permutations if self.tolerance is None else max(self.permutations, self.max_permutations)
