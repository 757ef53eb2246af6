"""Captum's methods that perturb, handed the players of a game: a vector of ones to be replaced by zeros."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pellucid.benchmark.peers.base import ANY, AbstractGamePeer, AskedGame
from pellucid.facts import Facts
from pellucid.games import Question

VERSION = "Captum 0.9"
SOURCE = "Kokhlikyan et al. 2020"
Forward = Callable[[Tensor], Tensor]


class AbstractCaptumGame(AbstractGamePeer):
    """A method of Captum that is handed a vector of ones, one for each player. Each target is asked for by itself."""

    library: ClassVar[str] = "captum"

    def scores(self, game: AskedGame, question: Question) -> Float[np.ndarray, "target player"]:
        present = torch.ones(1, game.players, dtype=torch.float64)

        def forward(presence: Float[Tensor, "row player"]) -> Float[Tensor, "row target"]:
            return torch.from_numpy(game.value(presence.numpy()))

        found = [self.ask(forward, present, target) for target in range(game.targets)]
        return np.asarray(torch.cat(found).numpy())

    @abstractmethod
    def ask(self, forward: Forward, present: Float[Tensor, "1 player"], target: int) -> Float[Tensor, "1 player"]:
        """What Captum says of one target."""


@final
class FeatureAblation(AbstractCaptumGame):
    """``captum.attr.FeatureAblation``: what is lost when one feature is taken away [kokhlikyan2020]."""

    facts: ClassVar[Facts] = Facts(
        name="captum:feature_ablation",
        title=f"Feature ablation ({VERSION})",
        family="perturbation",
        modalities=ANY,
        needs=("baseline",),
        cost="n + 3",
        source=SOURCE,
    )

    def rows(self, players: int) -> int:
        return players + 3

    def ask(self, forward: Forward, present: Float[Tensor, "1 player"], target: int) -> Float[Tensor, "1 player"]:
        from captum.attr import FeatureAblation as Captums

        found: Tensor = Captums(forward).attribute(present, target=target, perturbations_per_eval=present.shape[1])
        return found


@final
class ShapleyValueSampling(AbstractCaptumGame):
    """``captum.attr.ShapleyValueSampling``: marginal contributions over random orders [kokhlikyan2020]."""

    permutations: int = Field(default=25, ge=1)
    """Orders; the library calls them ``n_samples``."""
    facts: ClassVar[Facts] = Facts(
        name="captum:shapley_value_sampling",
        title=f"Shapley value sampling ({VERSION})",
        family="perturbation",
        modalities=ANY,
        needs=("baseline",),
        complete=True,
        sampled=True,
        cost="permutations n + 3, by default 25 n + 3",
        source=f"{SOURCE}; Castro et al. 2009",
        notice="Gives no standard errors; asks for the last coalition of every order again.",
    )

    def rows(self, players: int) -> int:
        return self.permutations * players + 3

    def ask(self, forward: Forward, present: Float[Tensor, "1 player"], target: int) -> Float[Tensor, "1 player"]:
        from captum.attr import ShapleyValueSampling as Captums

        found: Tensor = Captums(forward).attribute(
            present, target=target, n_samples=self.permutations, perturbations_per_eval=present.shape[1]
        )
        return found


@final
class KernelShap(AbstractCaptumGame):
    """``captum.attr.KernelShap``: Shapley values by weighted regression [kokhlikyan2020]."""

    samples: int = Field(default=25, ge=2)
    """Coalitions of the regression; the library calls them ``n_samples``."""
    facts: ClassVar[Facts] = Facts(
        name="captum:kernel_shap",
        title=f"KernelSHAP ({VERSION})",
        family="perturbation",
        modalities=ANY,
        needs=("baseline",),
        sampled=True,
        cost="samples + 2, by default 27",
        source=f"{SOURCE}; Lundberg & Lee 2017, theorem 2",
        notice="Draws with replacement and without complements, and gives no standard errors.",
    )

    def rows(self, players: int) -> int:
        return self.samples + 2

    def ask(self, forward: Forward, present: Float[Tensor, "1 player"], target: int) -> Float[Tensor, "1 player"]:
        from captum.attr import KernelShap as Captums

        found: Tensor = Captums(forward).attribute(
            present, target=target, n_samples=self.samples, perturbations_per_eval=self.samples
        )
        return found


@final
class Lime(AbstractCaptumGame):
    """``captum.attr.Lime`` with its own kernel and penalty [kokhlikyan2020; ribeiro2016, eq. 1]."""

    samples: int = Field(default=25, ge=2)
    """Coalitions of the regression; the library calls them ``n_samples``."""
    facts: ClassVar[Facts] = Facts(
        name="captum:lime",
        title=f"LIME ({VERSION})",
        family="perturbation",
        modalities=ANY,
        needs=("baseline",),
        sampled=True,
        cost="samples + 2, by default 27",
        source=f"{SOURCE}; Ribeiro et al. 2016, eq. 1",
        notice="Its lasso has the penalty 0.01 in the unit of the target: what is smaller becomes 0.",
    )

    def rows(self, players: int) -> int:
        return self.samples + 2

    def ask(self, forward: Forward, present: Float[Tensor, "1 player"], target: int) -> Float[Tensor, "1 player"]:
        from captum.attr import Lime as Captums

        found: Tensor = Captums(forward).attribute(
            present, target=target, n_samples=self.samples, perturbations_per_eval=self.samples
        )
        return found
