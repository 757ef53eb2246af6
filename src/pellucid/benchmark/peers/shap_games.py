"""SHAP's explainers that perturb, handed the players of a game: a vector of ones before a background of zeros."""

from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float
from pydantic import Field

from pellucid.benchmark.peers.base import ANY, AbstractGamePeer, AskedGame, ForeignCode, require
from pellucid.benchmark.peers.halving import halves
from pellucid.facts import Facts
from pellucid.games import Question

VERSION = "SHAP 0.51"


@final
class KernelExplainer(AbstractGamePeer):
    """``shap.KernelExplainer``: Shapley values by weighted regression [lundberg2017, theorem 2]."""

    samples: int | None = Field(default=None, ge=2)
    """Coalitions of the regression (``nsamples``); None: 2 n + 2048, as the library does."""
    l1_reg: str | float = "num_features(10)"
    """Which features are kept at all (``l1_reg``): the library's default keeps ten; 0 keeps all."""
    library: ClassVar[str] = "shap"
    facts: ClassVar[Facts] = Facts(
        name="shap:kernel",
        title=f"KernelExplainer ({VERSION})",
        family="perturbation",
        modalities=ANY,
        needs=("baseline",),
        complete=True,
        sampled=True,
        cost="samples + 4, by default 2n + 2052",
        source="Lundberg & Lee 2017, theorem 2",
        notice="By default at most ten features get a score that is not 0 (l1_reg).",
    )

    def rows(self, players: int) -> int:
        return (self.samples or 2 * players + 2048) + 4

    def scores(self, game: AskedGame, question: Question) -> Float[np.ndarray, "target player"]:
        import shap

        explainer = shap.KernelExplainer(game.value, np.zeros((1, game.players)))
        kept = False if self.l1_reg == 0 else self.l1_reg
        nsamples = self.samples or "auto"
        found = explainer.shap_values(np.ones((1, game.players)), nsamples=nsamples, l1_reg=kept, silent=True)
        return np.asarray(np.asarray(found)[0].T)


@final
class PermutationExplainer(AbstractGamePeer):
    """``shap.PermutationExplainer``: marginal contributions over orders and their reverses [mitchell2022]."""

    permutations: int = Field(default=10, ge=1)
    """Orders, each walked there and back: the library's ``max_evals`` is 2 n + 1 for each."""
    library: ClassVar[str] = "shap"
    facts: ClassVar[Facts] = Facts(
        name="shap:permutation",
        title=f"PermutationExplainer ({VERSION})",
        family="perturbation",
        modalities=ANY,
        needs=("baseline",),
        complete=True,
        sampled=True,
        cost="permutations (2n + 1) + 2, by default 20 n + 12",
        source="Castro et al. 2009; Mitchell et al. 2022",
        notice="Gives no standard errors of its means.",
    )

    def rows(self, players: int) -> int:
        return self.permutations * (2 * players + 1) + 2

    def scores(self, game: AskedGame, question: Question) -> Float[np.ndarray, "target player"]:
        import shap

        masker = shap.maskers.Independent(np.zeros((1, game.players)))
        explainer = shap.PermutationExplainer(game.value, masker, seed=game.seed)
        rows = self.permutations * (2 * game.players + 1)
        return _values(explainer(np.ones((1, game.players)), max_evals=rows, silent=True))


@final
class PartitionExplainer(AbstractGamePeer):
    """``shap.PartitionExplainer``: Owen values over a tree of features, opened where it matters [owen1977].

    The tree halves the features by where they are: words by their order, regions of a picture along its longer side.
    """

    samples: int = Field(default=500, ge=4)
    """The most coalitions that may be asked for (``max_evals``)."""
    library: ClassVar[str] = "shap"
    facts: ClassVar[Facts] = Facts(
        name="shap:partition",
        title=f"PartitionExplainer ({VERSION})",
        family="perturbation",
        modalities=ANY,
        needs=("baseline",),
        complete=True,
        cost="samples + 4, by default 504; at most n^2",
        source="Lundberg & Lee 2017; Owen 1977",
        notice="Features that share an unopened branch get equal scores.",
    )

    def rows(self, players: int) -> int:
        return self.samples + 4

    def scores(self, game: AskedGame, question: Question) -> Float[np.ndarray, "target player"]:
        import shap

        if game.players == 1:
            return np.asarray(game.full - game.empty)[:, None]
        masker = shap.maskers.Partition(np.zeros((1, game.players)), clustering=halves(question))
        explainer = shap.PartitionExplainer(game.value, masker)
        return _values(explainer(np.ones((1, game.players)), max_evals=self.samples, silent=True))


def warm_up() -> None:
    """Have SHAP compile what it compiles at its first use (seconds of work), so that no explanation is charged for it.

    Raises MissingPackageError where it is not installed.
    """
    require("shap")
    with ForeignCode(0):
        import shap

        zeros, pair = np.zeros((1, 2)), np.array([[0.0, 1.0, 1.0, 2.0]])

        def total(rows: Float[np.ndarray, "row 2"]) -> Float[np.ndarray, "row 1"]:
            return np.asarray(rows.sum(1, keepdims=True))

        shap.PermutationExplainer(total, shap.maskers.Independent(zeros))(zeros + 1, max_evals=5, silent=True)
        masker = shap.maskers.Partition(zeros, clustering=pair)
        shap.PartitionExplainer(total, masker)(zeros + 1, max_evals=6, silent=True)


def _values(explanation: Any) -> Float[np.ndarray, "target player"]:
    """The scores of the only row that was explained."""
    found = np.asarray(explanation.values)[0]
    # A single target has no dimension of its own.
    return np.asarray(found.reshape(len(found), -1).T)
