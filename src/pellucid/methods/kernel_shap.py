"""KernelSHAP: Shapley values by weighted regression on coalitions."""

from typing import ClassVar, final

import numpy as np
from pydantic import Field

from pellucid.facts import Facts
from pellucid.games import AbstractGame
from pellucid.games.kernel import kernel_shap_rounds
from pellucid.methods.base import AbstractGameMethod, Attribution
from pellucid.methods.sampled import refined


@final
class KernelShap(AbstractGameMethod):
    """The additive model closest to the game under the Shapley kernel [lundberg2017, theorem 2].

    The efficiency constraint holds exactly; coalitions come in pairs with their complements [covert2021], small sizes
    are enumerated first, none is played twice. Exact for additive games and wherever the samples cover all 2^n - 2
    coalitions. Standard errors are those of the regression (sandwich over pairs), zero where it is exact.
    Raises InputError for fewer than 2 n samples.
    """

    facts: ClassVar[Facts] = Facts(
        name="kernel_shap",
        title="KernelSHAP",
        family="perturbation",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("baseline",),
        complete=True,
        sampled=True,
        cost="samples + 2, by default 2n + 66; at most 2^n",
        source="Lundberg & Lee 2017, theorem 2; Covert & Lee 2021 (pairs)",
    )

    samples: int | None = Field(default=None, ge=1)
    """Coalitions played besides the empty and the full one (of a round, where a tolerance is set); None: 2 n + 64."""
    tolerance: float | None = Field(default=None, gt=0)
    """Play round after round until no standard error is larger, in the unit of the target; None: one round."""
    max_samples: int | None = Field(default=None, ge=1)
    """Where the rounds end, tolerance reached or not; None: 16 rounds."""

    def rows(self, players: int) -> int:
        return min(1 << players, self._budget(players)[1] + 2)

    def estimate(self, game: AbstractGame, generator: np.random.Generator) -> Attribution:
        first, most = self._budget(game.players)
        rounds = kernel_shap_rounds(game, generator, first, most)
        return refined(self.facts.name, game, rounds, most=most, tolerance=self.tolerance)

    def _budget(self, players: int) -> tuple[int, int]:
        """Coalitions of the first round, and of all rounds together."""
        first = self.samples or 2 * players + 64
        if self.tolerance is None:
            return first, first
        return first, max(first, self.max_samples or 16 * first)
