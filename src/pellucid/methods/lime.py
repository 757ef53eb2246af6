"""LIME: a linear model of the target around the input."""

from math import comb
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float
from pydantic import Field

from pellucid.facts import Facts
from pellucid.games import AbstractGame
from pellucid.games.game import Coalitions
from pellucid.games.regression import weighted_ridge
from pellucid.games.table import all_coalitions
from pellucid.methods.base import AbstractGameMethod, Attribution


@final
class Lime(AbstractGameMethod):
    """Coefficients of a ridge regression on coalitions weighted by their nearness to the input [ribeiro2016, eq. 1].

    A coalition misses 1 to n players, each number as likely; its weight is exp(-d^2 / (2 width^2)) with d its cosine
    distance to the full coalition. Against the ``lime`` package: the same sampling and kernel (there width 25 on
    100 d), but every feature is kept (it selects 10), the penalty is small enough not to shrink the scores (its ridge
    has alpha = 1), the target is the one asked for (it explains probabilities), standard errors are given, and where
    2^n <= samples all coalitions are taken with their probabilities instead of being drawn.
    Standard errors leave out the bias of the penalty. The intercept, one a target, is among the settings of the result.
    """

    facts: ClassVar[Facts] = Facts(
        name="lime",
        title="LIME",
        family="perturbation",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("baseline",),
        sampled=True,
        cost="samples + 2, by default 258; at most 2^n",
        source="Ribeiro et al. 2016, eq. 1",
    )

    samples: int = Field(default=256, ge=2)
    """Coalitions of the regression, the full one among them."""
    kernel_width: float = Field(default=0.25, gt=0)
    """Width of the kernel, in cosine distance: 0 at the input, 1 where nothing is left of it."""
    alpha: float = Field(default=0.01, gt=0)
    """Penalty on the squared coefficients, beside the sum of the coalitions' weighted squared errors."""

    def rows(self, players: int) -> int:
        return min(1 << players, self.samples + 1)

    def estimate(self, game: AbstractGame, generator: np.random.Generator) -> Attribution:
        exact = 2**game.players <= self.samples
        coalitions, counts = self._all(game.players) if exact else self._drawn(game.players, generator)
        weights = counts * self.kernel(coalitions)
        surrogate, error = weighted_ridge(coalitions.astype(np.float64), game.value(coalitions), weights, self.alpha)
        return Attribution(
            surrogate.coefficients,
            game.empty,
            game.full,
            np.zeros_like(error) if exact else error,
            settings={"intercept": surrogate.intercept.tolist(), "exact": exact},
        )

    def kernel(self, coalitions: Coalitions) -> Float[np.ndarray, " coalition"]:
        """Nearness of each coalition to the full one, 1 at most."""
        distance = 1 - np.sqrt(coalitions.mean(1))
        nearness: Float[np.ndarray, " coalition"] = np.exp(-(distance**2) / (2 * self.kernel_width**2))
        return nearness

    def _drawn(
        self, players: int, generator: np.random.Generator
    ) -> tuple[Coalitions, Float[np.ndarray, " coalition"]]:
        missing = generator.integers(1, players + 1, self.samples)
        missing[0] = 0
        rank = generator.random((self.samples, players)).argsort(1)
        return rank >= missing[:, None], np.ones(self.samples)

    def _all(self, players: int) -> tuple[Coalitions, Float[np.ndarray, " coalition"]]:
        """Every coalition with the number of times that it would be drawn on average."""
        coalitions = all_coalitions(players)
        chance = np.array([1 / (players * comb(players, size)) for size in range(players)])
        present = coalitions.sum(1)
        counts = (self.samples - 1) * chance[np.minimum(present, players - 1)]
        return coalitions, np.where(present == players, 1.0, counts)
