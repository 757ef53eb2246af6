"""Sparse linear surrogate: which few features explain how the target varies over random subsets."""

from typing import ClassVar, final

import numpy as np
from pydantic import Field

from pellucid.facts import Facts
from pellucid.games import AbstractGame
from pellucid.games.regression import weighted_lasso
from pellucid.games.table import all_coalitions
from pellucid.methods.base import AbstractGameMethod, Attribution

BOOTSTRAP_PRECISION = 1e-3


@final
class SparseLinear(AbstractGameMethod):
    """The lasso on coalitions in which every player is present with probability 1/2 [cohenwang2024, section 3].

    Finds the few features that matter with far fewer evaluations than there are features. Standard errors come from a
    bootstrap over coalitions and leave out the bias of the penalty; zero where 2^n <= samples and all are played. The
    intercept, one a target, is among the settings of the result.
    """

    facts: ClassVar[Facts] = Facts(
        name="sparse_linear",
        title="Sparse linear surrogate (ContextCite)",
        family="perturbation",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("baseline",),
        sampled=True,
        cost="samples + 2, by default 258; at most 2^n",
        source="Cohen-Wang et al. 2024, section 3",
    )

    samples: int = Field(default=256, ge=2)
    """Coalitions drawn."""
    alpha: float = Field(default=0.01, gt=0, lt=1)
    """Penalty: the correlation with the target below which a feature on its own gets no score."""
    resamples: int = Field(default=30, ge=2)
    """Bootstrap fits behind the standard errors; they cost no evaluation of the model."""

    def rows(self, players: int) -> int:
        return min(1 << players, self.samples + 2)

    def estimate(self, game: AbstractGame, generator: np.random.Generator) -> Attribution:
        exact = 2**game.players <= self.samples
        shape = (self.samples, game.players)
        coalitions = all_coalitions(game.players) if exact else generator.random(shape) < 0.5
        x, y = coalitions.astype(np.float64), game.value(coalitions)
        surrogate = weighted_lasso(x, y, np.ones(len(x)), self.alpha)
        error = np.zeros_like(surrogate.coefficients)
        if not exact:
            counts = generator.multinomial(len(x), np.full(len(x), 1 / len(x)), self.resamples).astype(np.float64)
            fits = [weighted_lasso(x, y, row, self.alpha, precision=BOOTSTRAP_PRECISION) for row in counts]
            error = np.std([fit.coefficients for fit in fits], axis=0, ddof=1)
        settings = {"intercept": surrogate.intercept.tolist(), "exact": exact}
        return Attribution(surrogate.coefficients, game.empty, game.full, error, settings=settings)
